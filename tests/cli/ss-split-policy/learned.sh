# A trained policy at work: it moves the cut when the load moves, stamps codec and hold, and steps back when it does not
# know enough.
. "$SS_SRC/tests/cli/lib.sh"
need python3
# Two inputs, two actions: `input` in eight bits when the load is above a half, else the embedding, kept back by threes.
cat >p.json <<'J'
{"format": "streamsplit-policy", "version": 1, "note": "made by hand", "hop_ms": 480, "tail_s": 0, "hold": 3, "every": 10,
 "u": null, "inputs": ["cpu", "bandwidth"], "actions": [
 {"cut": "input", "codec": "u8", "hold": 0, "device_ms": 1, "bytes": 6200, "load": 0},
 {"cut": "embedding", "codec": "i8", "hold": 3, "device_ms": 80, "bytes": 190, "load": 0.05}],
 "hidden": 1, "weights": [4, 0, -2, 1, 0, 4, -4, 0, 0]}
J
mkdir -p S/set
echo 0.1 >S/set/cpu
echo 1e6 >S/set/bandwidth
ss-capture synth:1 --duration=14 --epoch=5 | ss-featurize >f.sst
status 0 ss-split-policy -p p.json --state=S --explain f.sst
ss-cat --json out >out.json
[ "$(grep -c '"split":10' out.json)" -eq "$(ss-cat --count f.sst)" ] || fail 'not all of it is finished here'
matches out.json '"codec":3'
matches out.json '"hold":3'
matches err 'window 0: - -> embedding/i8+hold, first: cpu 0.1, bandwidth 1e+06 of 0 s ago, .* prefers embedding/i8+hold 1.00, input/u8 0.00'
matches err 'window 10: embedding/i8+hold -> embedding/i8+hold, time: .* held 1,'
[ "$(cat S/split)" = '20 embedding' ] || fail "S/split is $(cat S/split)"
[ "$(cat S/split.codec)" = '20 i8' ] || fail "S/split.codec is $(cat S/split.codec)"
[ "$(cat S/split.hold)" = '20 3' ] || fail "S/split.hold is $(cat S/split.hold)"
status 0 ss-split-policy -p p.json --state=S --explain --every=7 f.sst
matches err 'window 7: '

# What waits for the link is what has not arrived there, not what a spool keeps of it.
echo 700000 >S/set/spool
echo 5000 >S/set/waiting
status 0 ss-split-policy -p p.json --state=S --explain f.sst
matches err 'window 0: .* queue 5000,'
rm S/set/spool S/set/waiting

# By hand goes before it.
echo 2 >S/set/split
status 0 ss-split-policy -p p.json --state=S f.sst
ss-cat --json out >out.json
[ "$(grep -c '"split":3' out.json)" -eq "$(ss-cat --count f.sst)" ] || fail 'the cut by hand is not obeyed'
! grep -q '"codec"' out.json || fail 'a codec for a cut by hand'
rm S/set/split

# Without a bandwidth the heuristic decides, which is said once.
rm S/set/bandwidth
echo 0.5 >S/set/cpu
status 0 ss-split-policy -p p.json --state=S f.sst
[ "$(grep -c 'the bandwidth is not known: --policy=heuristic decides' err)" -eq 1 ] || fail "$(cat err)"
ss-cat --json out >out.json
[ "$(grep -c '"split":5' out.json)" -eq "$(ss-cat --count f.sst)" ] || fail 'not what the heuristic says'
! grep -q '"codec"' out.json || fail 'a codec for a cut of which the policy has none'
status 0 ss-split-policy -p p.json f.sst
matches err 'the bandwidth is not known'
status 0 ss-split-policy -p p.json --policy=fixed --cut=input f.sst
ss-cat --json out >out.json
[ "$(grep -c '"split":0,"codec":4' out.json)" -eq "$(ss-cat --count f.sst)" ] || fail 'not in the codec that the policy has there'

# While it runs: a load set by hand moves the cut at once, and so does the end of it.
cat >live.py <<'P'
import os, struct, subprocess, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
p = subprocess.Popen(['ss-split-policy', '--state=S', '-p', 'p.json', '--every=1000000'], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=open('err', 'w'))
def send(b):
    p.stdin.write(b)
    p.stdin.flush()
def get(n):
    b = p.stdout.read(n)
    assert len(b) == n, 'the stream ended'
    return b
send(s.preamble('{"kind":"logmel"}'))
get(12)
get(struct.unpack('<I', get(4))[0] + 4)
def until(cut):
    end = time.monotonic() + 30
    while True:
        send(s.record(dtype=s.F32, dims=(2, 3), payload=bytes(24)))
        b = get(struct.unpack('<I', get(4))[0])
        at = 8 + 4 * b[3] + 28
        if b[at] == 1 and b[at + 1] == cut:
            return
        assert time.monotonic() < end, f'the cut is {b[at + 1]}, not {cut}'
        time.sleep(0.01)
def put(name, value):
    open('S/new', 'w').write(f'{value}\n')
    os.rename('S/new', 'S/set/' + name)
put('cpu', 0.1)
put('bandwidth', 1e6)
until(10)
put('cpu', 0.9)
until(0)
put('cpu', 0.1)
until(10)
put('split', 4)
until(5)
os.unlink('S/set/split')
until(10)
p.stdin.close()
assert p.wait(timeout=30) == 4
P
python3 live.py

# In a pipeline, with a link in the middle: what is stamped is obeyed, and all of it arrives.
ss-model init --width=1/4 -o m.safetensors
echo 0.1 >S/set/cpu
echo 1e6 >S/set/bandwidth
ss-split-policy -p p.json --state=S f.sst | ss-encode --until=auto -m m.safetensors | ss-netsim --trace=lte:1 |
    ss-finish -m m.safetensors >z.sst
status 0 ss-cat --check z.sst
[ "$(ss-cat --count z.sst)" -eq "$(ss-cat --count f.sst)" ] || fail 'windows are missing'
ss-cat --json z.sst | grep -q '"split":10.*"hold":3' || fail 'the stamps do not come through'

# Refused.
status 3 ss-split-policy -p nothing f.sst
sed 's/"every": 10/"every": 0/' p.json >bad.json
status 4 ss-split-policy -p bad.json f.sst
matches err "policy 'bad.json': 'every' is 0"
sed 's/"cpu"/"mood"/' p.json >bad.json
status 5 ss-split-policy -p bad.json f.sst
matches err "input 'mood' is not known"
