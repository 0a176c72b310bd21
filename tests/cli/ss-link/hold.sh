# Records that are stamped to be kept back go together: when there are as many as the stamp says, or one that may not wait.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >hold.py <<'P'
import os, subprocess, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
import make as s
def z(seq, hold):
    return s.record(dtype=s.I8, dims=(4,), seq=seq, payload=bytes(4), attrs=((11, hold),) if hold is not None else ())
p = subprocess.Popen(['ss-link', '--no-ack', '--keepalive=600', '--', 'sh', '-c', 'cat >got'], stdin=subprocess.PIPE,
                     stdout=subprocess.DEVNULL)
def put(b):
    p.stdin.write(b)
    p.stdin.flush()
def size():
    return os.path.getsize('got') if os.path.exists('got') else 0
def wait_for(n):
    for _ in range(3000):
        if size() >= n:
            return
        time.sleep(0.01)
    raise AssertionError('%d bytes came, expected %d' % (size(), n))
lead = s.preamble()
first = z(0, None)
put(lead + first)
wait_for(len(lead + first))
before = size()
for seq in range(1, 5):
    put(z(seq, 5))
time.sleep(0.5)
assert size() == before, 'kept back, and sent'
put(z(5, 5))
wait_for(before + 5 * len(z(1, 5)))
before = size()
put(z(6, 5))
time.sleep(0.3)
assert size() == before, 'kept back, and sent'
put(z(7, 0))
wait_for(before + len(z(6, 5) + z(7, 0)))
put(z(8, 50))
p.stdin.close()  # no end record: truncated, and sent all the same
assert p.wait(timeout=60) == 4
P
python3 hold.py 2>said || { cat said; fail 'records are not kept back, or too long'; }
status 4 ss-cat --json got
[ "$(grep -c '"type":"data"' out)" -eq 9 ] || fail "$(grep -c '"type":"data"' out) of 9 records"
