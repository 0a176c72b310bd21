# A peer that is stopped says nothing any more: it is found within three times --keepalive, ended, and another one
# takes over; nothing is lost. A peer that goes away between two words is no different.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >dead.py <<'P'
import os, signal, subprocess, sys, time
peer = os.environ['SS_TEST_PEER']
data = subprocess.run(['ss-capture', 'synth:1', '--duration=6', '--epoch=4'], stdout=subprocess.PIPE, check=True).stdout
p = subprocess.Popen(['ss-link', '--state=S', '--retry=0.05', '--keepalive=0.3', '--', peer, '-k', '100', 'j'],
                     stdin=subprocess.PIPE, stdout=open('back', 'wb'), stderr=open('said', 'w'))
def until(what):
    for _ in range(2000):
        if what():
            return
        assert p.poll() is None, p.returncode
        time.sleep(0.01)
    raise AssertionError('nothing happened: ' + open('said').read())
def up():
    return open('S/link').read() == 'up\n'
def child():
    c = open('/proc/%d/task/%d/children' % (p.pid, p.pid)).read().split()
    return int(c[-1]) if c else 0
p.stdin.write(data[:len(data) // 3]); p.stdin.flush()
until(lambda: os.path.exists('S/link') and up())
first = child()
os.kill(first, signal.SIGSTOP)
p.stdin.write(data[len(data) // 3:len(data) * 2 // 3]); p.stdin.flush()
began = time.monotonic()
until(lambda: 'silent' in open('said').read())
took = time.monotonic() - began
assert took < 3, took
until(lambda: not os.path.exists('/proc/%d' % first)) # SIGTERM waits for a stopped one, SIGKILL does not
until(lambda: child() not in (0, first) and up())
p.stdin.write(data[len(data) * 2 // 3:])
p.stdin.close()
assert p.wait(timeout=60) == 0
P
python3 dead.py || { cat said; fail 'see above'; }
ss-capture synth:1 --duration=6 --epoch=4 >want.sst
ss-cat --stream j/*.sst >got.sst
status 0 ss-cat --compare=want.sst got.sst
matches said 'link is down: the peer is silent; trying again'
matches said 'link is up'
