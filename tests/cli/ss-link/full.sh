# No peer, and a spool that runs over: what goes is told as gaps whose counts add up, by each policy, on disk and in
# memory, and the state directory has the same number.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:1 --duration=30 --epoch=9 >p.sst
N=$(ss-cat --count p.sst)
export N
cat >full.py <<'P'
import concurrent.futures, os, re, subprocess, sys, time
peer, n = os.environ['SS_TEST_PEER'], int(os.environ['N'])

def one(policy, spool):
    d = '%s-%s' % (policy, spool)
    os.mkdir(d)
    said = open(d + '/said', 'w')
    p = subprocess.Popen(['ss-link', '--state=S', '--retry=0.02', '--spool-size=200K', '--drop=' + policy, '--drain=60',
                          'unix:socket'] + ['--spool=spool'] * spool,
                         cwd=d, stdin=open('p.sst', 'rb'), stdout=open(d + '/back', 'wb'), stderr=said)
    def state(name):
        try:
            return int(open(d + '/S/' + name).read())
        except FileNotFoundError:
            return 0
    old = None
    for _ in range(3000): # until all has been taken in, or as much as there is room for, and the numbers rest
        time.sleep(0.05)
        new = (state('queue'), state('spool'), state('dropped'))
        rests = sum(new) and new == old and time.monotonic() > since + 1.5
        if rests:
            break
        if new != old:
            old, since = new, time.monotonic()
    assert rests and state('spool') < 215000, (d, new)
    q = subprocess.Popen([peer, 'j', 'socket'], cwd=d)
    assert p.wait(timeout=100) == 0, open(d + '/said').read()
    q.terminate()
    q.wait()
    out = subprocess.run('ss-cat --stream %s/j/*.sst | ss-cat' % d, shell=True, stdout=subprocess.PIPE).stdout.decode()
    data = len(re.findall(r' data ', out))
    gaps = sum(int(c) for c in re.findall(r' gap .*count=(\d+).*reason=2', out))
    assert data + gaps == n, (d, data, gaps, n)
    assert gaps == state('dropped'), (d, gaps, state('dropped'))
    assert (gaps == 0) == (policy == 'none'), (d, gaps)

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for f in [pool.submit(one, policy, spool) for policy in ('oldest', 'newest', 'decimate', 'none')
              for spool in (True, False)]:
        f.result()
P
python3 full.py || fail 'see above'
