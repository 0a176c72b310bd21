# The link through a real sshd, whose far end is killed twice: all arrives, once.
. "$SS_SRC/tests/cli/lib.sh"
. "$SS_SRC/tests/cli/sshd.sh"
need python3
: "${SS_TEST_PEER:?}"
sshd_start
ss-capture synth:1 --duration=20 --epoch=7 >p.sst
cat >cut.py <<'P'
import os, signal, subprocess, sys, time
data = open('p.sst', 'rb').read()
p = subprocess.Popen(['ss-link', '--state=S', '--spool=spool', '--retry=0.1', '--keepalive=10', '--', 'ssh', '-F', 'config',
                      'there', "cd '%s' && echo $$ >pid && exec '%s' j" % (os.getcwd(), os.environ['SS_TEST_PEER'])],
                     stdin=subprocess.PIPE, stdout=open('back', 'wb'), stderr=open('said', 'w'))
def until(what):
    for _ in range(12000):
        if what():
            return
        assert p.poll() is None, (p.returncode, open('said').read())
        time.sleep(0.01)
    raise AssertionError('nothing happened: ' + open('said').read())
def link():
    return os.path.exists('S/link') and open('S/link').read().strip()
third = len(data) // 3
for i in range(3):
    p.stdin.write(data[i * third:(i + 1) * third] if i < 2 else data[2 * third:])
    p.stdin.flush()
    until(lambda: link() == 'up')
    if i < 2: # the far end dies, and with it the session
        said = open('said').read().count('link is down')
        os.kill(int(open('pid').read()), signal.SIGKILL)
        until(lambda: open('said').read().count('link is down') > said)
p.stdin.close()
assert p.wait(timeout=60) == 0, open('said').read()
P
python3 cut.py || { cat said; fail 'see above'; }
ss-cat --stream j/*.sst >got.sst
status 0 ss-cat --compare=p.sst got.sst
matches said 'link is down'
# A login that is refused is said.
status 3 ss-link --drain=1 --retry=0.1 -- ssh -F config -o User=nobody-here there true <p.sst
matches err 'link is down: .*status 255'
