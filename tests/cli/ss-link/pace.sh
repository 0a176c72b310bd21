# Records as they come from a device: bandwidth and round trip are estimated; small ones are held back to go together.
. "$SS_SRC/tests/cli/lib.sh"
need python3
peer=${SS_TEST_PEER:?}
cat >slow.py <<'P'
# A line of 2 Mbit/s each way between our pipes and those of a command.
import os, subprocess, sys, threading, time
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def carry(a, b, rate):
    free = 0
    while True:
        data = os.read(a, 2048)
        if not data:
            os.close(b)
            return
        now = time.monotonic()
        free = max(free, now) + len(data) / rate
        time.sleep(max(0, free - now))
        os.write(b, data)
a = threading.Thread(target=carry, args=(0, p.stdin.fileno(), 250000))
b = threading.Thread(target=carry, args=(p.stdout.fileno(), 1, 250000))
a.start(); b.start(); a.join(); b.join()
P
ss-capture synth:1 --duration=20 | ss-featurize --no-provenance >f.sst
cat >feed.py <<'P'
import struct, sys, time
data = open('f.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', data, 12)[0] + 4
sys.stdout.buffer.write(data[:at])
while at < len(data):
    end = at + 4 + struct.unpack_from('<I', data, at)[0]
    sys.stdout.buffer.write(data[at:end])
    sys.stdout.buffer.flush()
    at = end
    time.sleep(0.13)
P
# The line is made of sleeps: on a machine with no time for it there is nothing to measure, so it may try again.
for i in 1 2 3 4; do
    rm -rf S j
    python3 feed.py | ss-link --keepalive=10 --state=S -- python3 slow.py "$peer" -k 100 j >back.sst
    b=$(cat S/bandwidth 2>/dev/null || echo 0)
    awk -v b="$b" 'BEGIN { exit !(b > 0.8e6 && b < 2.6e6) }' && [ -s S/rtt ] && break
    [ $i -lt 4 ] || fail "bandwidth: $b, truth 2e6"
done

# Held back, records that come one by one are written together; otherwise each goes at once.
cat >writes.py <<'P'
# Notes the size of each read from our pipe, on the way to the peer.
import os, subprocess, sys
p = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE)
log = open(sys.argv[1], 'w')
while True:
    d = os.read(0, 1 << 20)
    if not d:
        break
    print(len(d), file=log, flush=True)
    p.stdin.write(d)
    p.stdin.flush()
p.stdin.close()
p.wait()
P
ss-capture synth:1 --duration=2 --epoch=3 --no-provenance >p.sst
cat >hold.py <<'P'
import os, struct, subprocess, sys, time
data = open('p.sst', 'rb').read()
at = [16 + struct.unpack_from('<I', data, 12)[0] + 4]
for i in range(6):
    at.append(at[i] + 4 + struct.unpack_from('<I', data, at[i])[0])
def lines():
    return open('log').read().split() if os.path.exists('log') else []
def until_came(n):
    for _ in range(1000):
        if sum(map(int, lines())) > n:
            return
        time.sleep(0.01)
    raise AssertionError('%d bytes did not come: %s' % (n, lines()))
for delay in 300, 0:
    if os.path.exists('log'):
        os.unlink('log')
    p = subprocess.Popen(['ss-link', '--max-delay=%d' % delay, '--', 'python3', 'writes.py', 'log',
                          os.environ['SS_TEST_PEER'], 'h%d' % delay], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    p.stdin.write(data[:at[1]])
    p.stdin.flush()
    until_came(at[1]) # preamble and hello, and the first record
    before = len(lines())
    for i in range(1, 6):
        p.stdin.write(data[at[i]:at[i + 1]])
        p.stdin.flush()
        time.sleep(0.03)
    until_came(at[6])
    reads = len(lines()) - before
    p.stdin.close() # no end record: truncated
    assert p.wait(timeout=60) == 4
    # A large write may take two reads.
    assert reads <= 2 if delay else reads >= 4, (delay, reads)
P
python3 hold.py 2>said || { cat said; fail 'records are not held back, or are without need'; }
