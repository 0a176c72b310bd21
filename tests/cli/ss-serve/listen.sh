# Where it listens: a socket file that is the owner's alone, however lax the umask; stale ones are replaced, others are
# not; TCP on loopback, and beyond it only with --public. What ends it, and what does not.
. "$SS_SRC/tests/cli/lib.sh"
need python3
: "${SS_TEST_PEER:?}"
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
cat >listen.py <<'P'
import stat
from serve import *
os.umask(0)
os.chmod('.', 0o755)
s = Server()
assert stat.S_IMODE(os.lstat('sock').st_mode) == 0o600, oct(os.lstat('sock').st_mode)
assert [f for f in os.listdir('.') if f.startswith('.ss')] == []
if os.getuid() == 0: # nobody else gets in
    code = "import socket; socket.socket(socket.AF_UNIX).connect('%s/sock')" % os.getcwd()
    def other():
        os.setgid(65534)
        os.setuid(65534)
    up = os.getcwd()
    while up != '/': # not for want of a way there
        os.chmod(up, os.stat(up).st_mode | 0o11)
        up = os.path.dirname(up)
    r = subprocess.run(['/usr/bin/env', 'python3', '-c', code], preexec_fn=other, stderr=subprocess.PIPE)
    assert r.returncode == 1 and b'Permission denied' in r.stderr, r
def refused(status, *argv):
    r = subprocess.run(['ss-serve', *argv, '--', peer, 'k'], stderr=subprocess.PIPE, timeout=60)
    assert r.returncode == status, (r.returncode, r.stderr)
    return r.stderr.decode()
assert 'somebody listens' in refused(3, '--listen=unix:sock')
ended(link(features(1, 1, 2))) # and it was not disturbed
os.kill(s.p.pid, signal.SIGHUP)
ended(link(features(2, 2, 2)))
s.p.kill()
s.p.wait()
assert os.path.exists('sock') # stale
until(lambda: subprocess.run([peer, 'j'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode == 4) # the command has ended of itself
s = Server()
ended(link(features(3, 3, 2)))
s.stop()
assert not os.path.exists('sock')
assert set(journal()) == {(1, 1), (2, 2), (3, 3)}, journal().keys()
open('file', 'w').close()
assert 'is no socket' in refused(3, '--listen=unix:file')
assert os.path.exists('file')
refused(3, '--listen=unix:nowhere/sock')
refused(2, '--listen=unix:' + 200 * 'x')
refused(2, '--listen=sock')
refused(2)
assert '--public' in refused(2, '--listen=tcp:0.0.0.0:0')
assert '--public' in refused(2, '--listen=tcp:[::]:0') if socket.has_ipv6 and os.path.exists('/proc/net/if_inet6') else True
r = subprocess.run(['ss-serve', '--listen=unix:sock', '--', './no-such-program'], stderr=subprocess.PIPE, timeout=60)
assert r.returncode == 3 and b"cannot run './no-such-program'" in r.stderr, r
assert not os.path.exists('sock')

# TCP; both at once; a warning when it is public.
def port():
    assert s.p.poll() is None, said()
    return re.search(r'listening on \S+ port (\d+)', said()[start:])
for host, options in ('127.0.0.1', ()), ('0.0.0.0', ('--public',)):
    start = len(said())
    s = Server('--listen=tcp:%s:0' % host, *options)
    at = int(until(port)[1])
    p = subprocess.Popen(['ss-link', '--drain=60', '--retry=0.05', 'tcp:127.0.0.1:%d' % at], stdin=open('f.1.1.2'),
                         stdout=subprocess.DEVNULL)
    ended(p)
    s.stop()
    assert ('neither encrypted nor authenticated' in said()[start:]) == bool(options), said()[start:]

# More connections than there may be are turned away; those that are there stay.
start = len(said())
s = Server('--max-devices=2')
until(lambda: 'connection 1: the device has gone' in said()[start:] and not s.children('ss-serve-relay'), said)
a, b = dial(), dial()
until(lambda: len(s.children('ss-serve-relay')) == 2, said)
closes(dial())
assert len(s.children('ss-serve-relay')) == 2
# Those who read what comes have given up their rights (under a sanitizer, or an old kernel, it is told).
for pid in s.children('ss-serve-relay') + s.children('ss-serve-mux'):
    status = until(lambda: open('/proc/%d/status' % pid).read())
    until(lambda: re.search(r'NoNewPrivs:\s+1', open('/proc/%d/status' % pid).read()), status)
    until(lambda: re.search(r'Seccomp:\s+2', open('/proc/%d/status' % pid).read()) or 'not confined' in said(), status)
    assert not [f for f in os.listdir('/proc/%d/fd' % pid) if int(f) > 2 + (5 if pid in s.children('ss-serve-mux') else 2)]
assert 'more than 2 connections' in said()[start:]
a.close()
until(lambda: len(s.children('ss-serve-relay')) == 1, said)
# SIGTERM while a device is in the midst of it: what was taken is answered, and the device told.
data = features(4, 4, 12)
p = link(None, '--drain=0', '--spool=spool', stdout=open('back', 'wb'))
p.stdin.write(data[:len(data) // 2])
p.stdin.flush()
until(lambda: journal().get((4, 4)), said)
s.stop()
until(lambda: 'the peer has ended' in open('link.log').read(), said)
p.stdin.close()
p.wait(timeout=60)
s = Server()
ended(link(features(5, 5, 2), '--spool=spool'))
s.stop()
n = len(journal()[4, 4])
assert n >= len(records(data)) // 2 - 2, n
# The end record was written to the command: nothing it said of a stream cut short.
assert 'connection ended' not in said()[start:], said()[start:]
P
python3 listen.py || { tail -n 40 log; cat link.log; fail 'see above'; }
status 2 ss-serve
status 2 ss-serve --listen=unix:s
status 2 ss-serve --listen=unix:s unix:t
status 2 ss-serve --connect=nowhere
status 3 ss-serve --connect=unix:nobody-there
status 3 ss-serve --listen=unix:s -m no-such-model
status 3 ss-serve --listen=unix:s --labels=no-such-file "$SS_TEST_PEER" k
