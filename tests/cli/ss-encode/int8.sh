# The network in eight bits: split anywhere it gives the bits of the whole, near f32, at every level; refusals.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:2 --duration=12 --epoch=7 | ss-featurize >features.sst
ss-capture synth:5 --duration=30 --epoch=7 | ss-featurize >other.sst
cat >cosine.py <<'P'
import json, math, sys
rows = lambda f: [json.loads(l)['data'] for l in open(f) if '"data":[' in l]
a, b, bound = rows(sys.argv[1]), rows(sys.argv[2]), float(sys.argv[3])
assert len(a) == len(b) > 5
worst = 1
for x, y in zip(a, b):
    dot = sum(p * q for p, q in zip(x, y))
    worst = min(worst, dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y)))
print(sys.argv[2], worst)
assert worst >= bound, worst
P
cosine() { # cosine A B BOUND, streams of embeddings
    ss-cat --json --data --f32 "$1" >a.json
    ss-cat --json --data --f32 "$2" >b.json
    python3 cosine.py a.json b.json "$3" || fail "$2 is not near $1"
}
for norm in batch weight; do
    ss-model init --norm=$norm -f -o plain
    ss-model quantise plain other.sst -f -o m
    ss-encode --until=embedding -m m features.sst >f32.sst
    ss-encode --until=embedding --arith=int8 -m m features.sst >whole.sst
    cosine f32.sst whole.sst 0.995
    cuts='input 0 1 2 3 4 5 6 7 8'
    [ $norm = weight ] || cuts='0 3 8'
    for cut in $cuts; do
        ss-encode --until=$cut --arith=int8 -m m features.sst >cut.sst
        ss-cat --json cut.sst | sed -n 2p >first.json
        if [ $cut = input ]; then
            matches first.json '"dtype":"f32"'
        else
            matches first.json '"dtype":"u8"'
            matches first.json '"scale":'
        fi
        hows=--batch=7,--threads=2
        [ $cut != 3 ] || hows='--cpu=scalar --cpu=avx2 --batch=16 --threads=2 --batch=5,--threads=3'
        for how in $hows; do
            # shellcheck disable=SC2046
            status 0 ss-finish $(echo "$how" | tr , ' ') --arith=int8 -m m -o z.sst -f cut.sst
            status 0 ss-cat --compare=whole.sst z.sst
        done
        case $cut in [037]) ;; *) continue ;; esac
        # What crosses the cut as f32 or f16 is rounded back to the same numbers.
        for dtype in f32 f16; do
            ss-encode --until=$cut --dtype=$dtype --arith=int8 -m m features.sst >wide.sst
            ss-finish --arith=int8 -m m wide.sst >z.sst
            status 0 ss-cat --compare=whole.sst z.sst
        done
        # Either half may be in f32.
        ss-finish -m m cut.sst >z.sst
        cosine f32.sst z.sst 0.995
        ss-encode --until=$cut -m m features.sst | ss-finish --arith=int8 -m m >z.sst
        cosine f32.sst z.sst 0.995
    done
done
# In steps, and by the stamp.
ss-encode --until=2 --arith=int8 -m m features.sst | ss-encode --until=6 --arith=int8 -m m | ss-finish --arith=int8 -m m >z.sst
status 0 ss-cat --compare=whole.sst z.sst
# A cut is its numbers times their scale, and ss-cat says so.
ss-encode --until=4 --arith=int8 -m m features.sst >u8.sst
ss-encode --until=4 --arith=int8 --dtype=f32 -m m features.sst >f.sst
values() { # values FILE
    ss-cat --json --data --f32 "$1" | sed -n 's/.*"data":\[/[/p'
}
values f.sst >f.values
values u8.sst >u8.values
same f.values u8.values
ss-encode --until=4 --dtype=f32 -m m u8.sst >g.sst
status 0 ss-cat --compare=f.sst g.sst
ss-cat --json u8.sst | sed -n 2p >first.json
matches first.json '"bytes":3072'
# Numbers of another scale are taken for what they are worth.
ss-model quantise --method=mse plain features.sst -f -o other
ss-finish --arith=int8 -m other u8.sst >z.sst
cosine f32.sst z.sst 0.99
# A stream that others read: the probe, the learner.
status 0 ss-eval --json u8.sst
status 0 ss-finish -m m u8.sst -o z.sst -f

status 5 ss-encode --until=3 --arith=int8 -m plain features.sst
matches err "'plain': a model that is not calibrated for int8: ss-model quantise does it"
status 5 ss-finish --arith=int8 -m plain u8.sst
matches err 'ss-model quantise'
cp m learns
ss-train -q -m learns --start=16 --every=8 --batch=16 --replay=32 other.sst >/dev/null
status 5 ss-encode --until=3 --arith=int8 -m learns features.sst
matches err "'learns': a model calibrated for int8 at generation 0 and learnt on to .*: ss-model quantise does it anew"
status 0 ss-encode --until=3 -m learns features.sst
status 2 ss-encode --until=3 --arith=int4 -m m features.sst
status 2 ss-encode --until=3 --dtype=u8 --arith=int8 -m m features.sst
