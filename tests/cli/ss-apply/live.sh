# At once: what is read is laid out while the stream stays open; a second program is turned away; a full disk, a signal.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >live.py <<'P'
import os, signal, subprocess, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'cli', 'ss-apply'))
from lib import *

def wait(what, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            if what():
                return
        except FileNotFoundError:
            pass
        assert time.monotonic() < end, 'it did not come'
        time.sleep(0.01)

p = subprocess.Popen(['ss-apply', '--state=S'], stdin=subprocess.PIPE)
def send(*records):
    for r in records:
        p.stdin.write(r)
    p.stdin.flush()
send(LEAD, result(1, 0.5))
wait(lambda: read('S/uncertainty.server') == ['1', '0.5'])
send(delta(1))
wait(lambda: os.path.exists('S/incoming/delta.1.sst'))
send(gradient(1, 1, 2))
send(mixture(1)) # in the middle of a step
wait(lambda: os.path.exists('S/incoming/mixture.sst'))
assert not os.listdir('S/incoming/gradients')
send(gradient(2, 1, 2))
wait(lambda: os.listdir('S/incoming/gradients') == ['1.sst'])
# The learner merges as they come, and says so.
open('S/version', 'w').write('7\n')
send(delta(7), delta(8))
wait(lambda: os.path.exists('S/incoming/delta.8.sst'))
assert not os.path.exists('S/incoming/delta.7.sst')
# Of a flood of results the last one is there at once when it ends.
send(*[result(n, (n % 100) / 128) for n in range(2, 5000)])
wait(lambda: read('S/uncertainty.server')[0] == '4999')

second = subprocess.run(['ss-apply', '--state=S'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
assert second.returncode == 3 and 'another program' in second.stderr, second

p.send_signal(signal.SIGTERM)
assert p.wait(timeout=30) == 0
assert read('S/apply.results') == ['4999'], read('S/apply.results')
P
python3 live.py

# Killed while a file was written: the next run takes over what it left.
mkdir -p S/incoming
echo rest >S/incoming/.delta.new
python3 - <<'P'
import os, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'cli', 'ss-apply'))
from lib import *
write('large.sst', [delta(20, payload=bytes(100000)), result(5, 0.25)])
P
# No room for it: said, counted, and the stream goes on.
status 3 sh -c 'ulimit -f 64; exec ss-apply --state=S large.sst'
matches err 'delta to version 20 dropped: .*File too large'
[ ! -e S/incoming/delta.20.sst ] || fail 'half a delta'
[ "$(cat S/uncertainty.server)" = '5 0.25' ] || fail 'the stream did not go on'
status 0 ss-apply --state=S large.sst
status 0 ss-cat --check S/incoming/delta.20.sst
[ ! -e S/incoming/.delta.new ] || fail 'a temporary file is left behind'
