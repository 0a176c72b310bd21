# Split learning through a pipe: what comes back at the cut moves the device's blocks before it.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=26 --epoch=5 | ss-featurize >all.sst
ss-cat --stream --slice=0:40 all.sst >f.sst
step='--micro-batch=5 --optimiser=sgd --clip=0 --rate=0.05 --warmup=2'
server="$step --no-views --batch=8 --every=8 --start=8"

# lockstep CUT DTYPE [OPTION...]: device d.safetensors and server s.safetensors learn from f.sst through the cut
lockstep() {
    cut=$1
    dtype=$2
    shift 2
    rm -rf S
    cp m.safetensors d.safetensors
    cp m.safetensors s.safetensors
    # shellcheck disable=SC2086
    { ss-train -m d.safetensors --until="$cut" --state=S --gradients=apply --wait-gradients=8 $step "$@" f.sst || echo $? >failed; } |
        { ss-train --refine -m s.safetensors $server --gradients="$dtype" || echo $? >failed; } | ss-apply --state=S
    test ! -e failed || fail "status $(cat failed)"
}
cat >apart.py <<'P'
"""before whole device server BLOCKS BOUND: parts before that many blocks are the device's, those behind the server's."""
import json, math, struct, sys
def read(name):
    b = open(name, 'rb').read()
    n = struct.unpack_from('<Q', b)[0]
    head = json.loads(b[8:8 + n])
    head.pop('__metadata__')
    return {k: b[8 + n + v['data_offsets'][0]:8 + n + v['data_offsets'][1]] for k, v in head.items() if v['dtype'] == 'F32'}
def values(b):
    return struct.unpack('<%df' % (len(b) // 4), b)
def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(values(a), values(b))))
before, whole, device, server = map(read, sys.argv[1:5])
blocks, bound = int(sys.argv[5]), float(sys.argv[6])
off, moved = [0, 0], [0, 0]
for k, w in whole.items():
    part = k.split('.')
    block = -1 if part[0] in ('conv1', 'bn1') else 8 if part[0] == 'fc' else 2 * (int(part[0][5:]) - 1) + int(part[1])
    mine, other = (device, server) if block < blocks else (server, device)
    assert other[k] == before[k], '%s was moved by the other side' % k
    side = block < blocks
    assert bound or mine[k] == w, '%s is not that of the whole' % k
    assert w != before[k] and mine[k] != before[k], '%s has not moved' % k
    if not bound:
        continue
    off[side] += distance(mine[k], w) ** 2
    moved[side] += distance(before[k], w) ** 2
if not bound:
    sys.exit()
apart = [math.sqrt(o / m) for o, m in zip(off, moved)]
print('server, device: %g, %g of the way' % tuple(apart))
assert max(apart) <= bound, apart
P

# Both together are one process that learns whole, to the bit.
cp m.safetensors w.safetensors
# shellcheck disable=SC2086
ss-train --refine -m w.safetensors $server f.sst >/dev/null
for cut in 3 0; do
    lockstep $cut f32 --log=d.log
    python3 apart.py m.safetensors w.safetensors d.safetensors s.safetensors $cut 0
    test -z "$(ls S/incoming/gradients)" || fail "gradients stay"
    test "$(cat S/apply.gradients)" = 5 || fail "gradients of $(cat S/apply.gradients) steps"
done
python3 - <<'P'
import json
rows = [json.loads(r) for r in open('d.log')]
assert [r['lower_step'] for r in rows] == 2 * [1, 2, 3, 4, 5] and [r['windows'] for r in rows[:5]] == [8, 16, 24, 32, 40], rows
assert all(r['present'] == 8 and r['missed'] == 0 and r['refused'] == 0 and r['gradient'] > 0 for r in rows), rows
P

# The same when both are stopped between windows and go on, gradients coming in meanwhile.
ss-cat --stream --slice=0:16 f.sst >two.sst
cp m.safetensors w.safetensors
# shellcheck disable=SC2086
ss-train --refine -m w.safetensors $server two.sst >/dev/null
rm -rf S
cp m.safetensors d.safetensors
cp m.safetensors s.safetensors
for n in 8 16 17; do
    ss-cat --stream --slice=0:$n f.sst >heard.sst
    # shellcheck disable=SC2086
    ss-train -m d.safetensors --checkpoint=d.state --until=3 --state=S --gradients=apply $step heard.sst >cut.sst
    # shellcheck disable=SC2086
    ss-train --refine -m s.safetensors --checkpoint=s.state $server --gradients=f32 cut.sst | ss-apply --state=S
done
test "$(ss-cat --count cut.sst)" = 1 || fail "windows were sent again"
python3 apart.py m.safetensors w.safetensors d.safetensors s.safetensors 3 0

# With coarser gradients nearly so; one step, since what is learnt from it pulls apart what differed a little.
mv f.sst five.sst
ss-cat --stream --slice=0:8 all.sst >f.sst
cp m.safetensors w.safetensors
# shellcheck disable=SC2086
ss-train --refine -m w.safetensors $server f.sst >/dev/null
lockstep 3 f16
python3 apart.py m.safetensors w.safetensors d.safetensors s.safetensors 3 1e-3
lockstep 3 i8
python3 apart.py m.safetensors w.safetensors d.safetensors s.safetensors 3 0.06
mv five.sst f.sst
