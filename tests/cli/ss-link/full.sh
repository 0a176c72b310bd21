# No peer, and a spool that runs over: what goes is told as gaps whose counts add up, by each policy, on disk and in
# memory, and the state directory has the same number.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:1 --duration=30 --epoch=9 >p.sst
export N="$(ss-cat --count p.sst)"
cat >full.py <<'P'
import os, re, shutil, subprocess, sys, time
peer, n = os.environ['SS_TEST_PEER'], int(os.environ['N'])
for policy in 'oldest', 'newest', 'decimate', 'none':
    for spool in True, False:
        for d in 'spool', 'S', 'j':
            shutil.rmtree(d, ignore_errors=True)
        p = subprocess.Popen(['ss-link', '--state=S', '--retry=0.02', '--spool-size=200K', '--drop=' + policy,
                              '--drain=60', 'unix:' + os.getcwd() + '/socket'] + ['--spool=spool'] * spool,
                             stdin=open('p.sst', 'rb'), stdout=open('back', 'wb'), stderr=open('said', 'w'))
        state = lambda name: int(open('S/' + name).read())
        for _ in range(1000): # until all has been taken in, or as much as there is room for
            time.sleep(0.01)
            if os.path.exists('S/spool') and (state('spool') > 190000 if policy == 'none'
                                              else state('queue') and state('dropped') and state('spool') > 150000):
                break
        time.sleep(0 if policy == "none" else 1.1) # the numbers are written once a second
        assert state('spool') < 215000, state('spool')
        q = subprocess.Popen([peer, 'j', 'socket'])
        assert p.wait(timeout=60) == 0, open('said').read()
        q.terminate()
        q.wait()
        out = subprocess.run('ss-cat --stream j/*.sst | ss-cat', shell=True, stdout=subprocess.PIPE).stdout.decode()
        data = len(re.findall(r' data ', out))
        gaps = sum(int(c) for c in re.findall(r' gap .*count=(\d+).*reason=2', out))
        assert data + gaps == n, (policy, spool, data, gaps, n)
        assert gaps == state('dropped'), (policy, spool, gaps, state('dropped'))
        assert (gaps == 0) == (policy == 'none'), (policy, gaps)
P
python3 full.py || { cat said; fail 'see above'; }
