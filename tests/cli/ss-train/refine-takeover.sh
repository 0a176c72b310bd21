# A new connection takes over from a server that still waits for the old one; who does not refine is left alone.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=20 --epoch=5 | ss-featurize >f.sst
cat >two.py <<'P'
import os, signal, struct, subprocess, sys
whole = open('f.sst', 'rb').read()
how = ['ss-train', '--refine', '-m', 'm.safetensors', '--checkpoint=state', '--journal=journal', '--start=1000']
def start(**more):
    return subprocess.Popen(how, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
def preamble(p):
    head = p.stdout.read(16)
    assert len(head) == 16
    p.stdout.read(struct.unpack_from('<I', head, 12)[0] + 4)
def record(p):
    n = p.stdout.read(4)
    return p.stdout.read(struct.unpack('<I', n)[0]) if len(n) == 4 else b''

old = start()
old.stdin.write(whole[:len(whole) // 2])
old.stdin.flush()
preamble(old)
assert record(old)[0] == 3  # a result: it is at work, and waits for what does not come
while record(old)[0] != 128:  # it says after five seconds that it lives
    pass
new = start(stderr=subprocess.PIPE)
new.stdin.write(whole)
new.stdin.close()
assert old.wait(timeout=30) == 0
assert b'taken over' in new.stderr.read()
preamble(new)
kinds = {}
while True:
    r = record(new)
    if not r:
        break
    kinds[r[0]] = kinds.get(r[0], 0) + 1
assert new.wait(timeout=30) == 0
n = kinds[3]
assert 0 < n < 40 and kinds[4] >= 1, kinds  # the second half is new
P
python3 two.py
# A learner is no refiner: it is not asked to go.
cp m.safetensors l.safetensors
cat >learner.py <<'P'
import struct, subprocess
whole = open('f.sst', 'rb').read()
p = subprocess.Popen(['ss-train', '-m', 'l.safetensors'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdin.write(whole[:len(whole) // 2])
p.stdin.flush()
assert len(p.stdout.read(16)) == 16  # the lock is had before anything is written
r = subprocess.run(['ss-train', '--refine', '-m', 'l.safetensors', 'f.sst'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
assert r.returncode == 3 and b'another program' in r.stderr, r
p.stdin.write(whole[len(whole) // 2:])
p.stdin.close()
p.stdout.read()
assert p.wait() == 0
P
python3 learner.py
