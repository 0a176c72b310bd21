# While it runs: a cut by hand comes and goes, values change, go stale and come back; programs behind it obey.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >live.py <<'P'
import os, struct, subprocess, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s

class Run:
    def __init__(self, *options):
        self.p = subprocess.Popen(['ss-split-policy', '--state=S', *options], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=open('err', 'w'))
        self.seq = 0
        self.send(s.preamble('{"kind":"logmel"}'))
        self.get(12)
        self.get(struct.unpack('<I', self.get(4))[0] + 4)
    def send(self, b):
        self.p.stdin.write(b)
        self.p.stdin.flush()
    def get(self, n):
        b = self.p.stdout.read(n)
        assert len(b) == n, 'the stream ended'
        return b
    def window(self):
        """Send one window, give its cut: it must come before the next one is sent."""
        self.send(s.record(dtype=s.F32, dims=(2, 3), seq=self.seq, payload=bytes(24)))
        self.seq += 1
        b = self.get(struct.unpack('<I', self.get(4))[0])
        n = struct.unpack_from('<H', b, 4)[0]
        at = 8 + 4 * b[3] + 28
        assert b[at] == 1, 'no stamp'
        return b[at + 1] - 1
    def until(self, cut, seconds=30):
        end = time.monotonic() + seconds
        while (k := self.window()) != cut:
            assert time.monotonic() < end, f'the cut is {k}, not {cut}'
            time.sleep(0.01)
    def close(self):
        self.p.stdin.close() # no end record: status 4
        assert self.p.wait(timeout=30) == 4
        return open('err').read()

def put(name, value):
    with open('S/new', 'w') as f:
        f.write(f'{value}\n')
    os.rename('S/new', 'S/' + name)

os.makedirs('S/set')
put('set/cpu', 0)
put('bandwidth', 0)
r = Run('--every=1000000')
r.until(7)
put('set/split', 3)
r.until(3)
put('set/split', 'input')
r.until(-1)
os.unlink('S/set/split')
r.until(7)
assert open('S/split').read().split()[1] == '7'
put('set/cpu', 1)       # sharp, so that nobody waits for the next time
r.until(3)
put('bandwidth', 1e9)
r.until(1)
put('set/cpu', 0.8)     # not sharp: the next time is far
for _ in range(10):
    assert r.window() == 1
    time.sleep(0.01)
said = r.close()
assert 'truncated' in said and 'bandwidth' not in said, said

# Stale: counts as one half, said once; back when it is written again, with the same value.
put('set/cpu', 0)
put('bandwidth', 0)
r = Run('--stale=0.3')
r.until(7)
r.until(6)              # 4.8 + 1.6
put('bandwidth', 0)
r.until(7)
r.until(6)
said = r.close()
assert said.count('has not changed for too long') == 1, said

# The load is measured and written: no cpu is set by hand now.
os.unlink('S/set/cpu')
r = Run('--every=1')
end = time.monotonic() + 30
while not os.path.exists('S/cpu'):
    r.window()
    assert time.monotonic() < end, 'no load'
    time.sleep(0.01)
assert 0 <= float(open('S/cpu').read()) <= 1
r.close()
P
python3 live.py

# Behind it: the stamps are obeyed, and where a window was cut makes no difference.
ss-model init -o m.safetensors
cp m.safetensors t.safetensors
mkfifo features
ss-capture synth:1 --duration=8 --epoch=5 | ss-featurize >f.sst
rm -r S
mkdir -p S/set
cat >feed.py <<'P'
import os, time
b = open('f.sst', 'rb').read()
half = len(b) // 2
with open('features', 'wb') as f:
    f.write(b[:half])
    f.flush()
    end = time.monotonic() + 30
    while not os.path.exists('S/split') and time.monotonic() < end:
        time.sleep(0.01)
    open('S/set/split', 'w').write('embedding\n')
    time.sleep(0.05) # from look to look
    f.write(b[half:])
P
python3 feed.py &
ss-split-policy --policy=file --cut=2 --state=S features 2>/dev/null | tee stamped.sst |
    ss-train --until=auto -m t.safetensors >trained.sst
wait
status 0 ss-cat --check trained.sst
ss-encode --until=auto -m m.safetensors stamped.sst >encoded.sst
for f in trained encoded; do
    ss-cat --json $f.sst >$f.json
    grep -q '"split":3' $f.json || fail "$f: nothing was cut after block 2"
    grep -q '"split":10' $f.json || fail "$f: nothing was finished here"
    ss-finish -m m.safetensors $f.sst | ss-cat --npy=$f.npy
done
same encoded.npy trained.npy
