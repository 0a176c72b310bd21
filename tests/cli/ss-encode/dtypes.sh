# Half precision and eight bits: sizes on the wire, scale, and how far the embedding moves.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:2 --duration=12 --epoch=7 | ss-featurize >features.sst
cat >cosine.py <<'P'
import json, math, sys
rows = lambda f: [json.loads(l) for l in open(f)][1:]
def values(r):
    return r['data']
a, b, bound = rows(sys.argv[1]), rows(sys.argv[2]), float(sys.argv[3])
assert len(a) == len(b) > 5
worst = 1
for x, y in zip(a, b):
    x, y = values(x), values(y)
    dot = sum(p * q for p, q in zip(x, y))
    worst = min(worst, dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y)))
print(sys.argv[2], worst)
assert worst > bound, worst
P
for norm in batch group weight; do
    ss-model init --norm=$norm -o m.safetensors --force
    ss-encode --until=embedding -m m.safetensors features.sst | ss-cat --json --data --f32 >whole.json
    for cut in input 0 3 6 8 embedding; do
        for dtype in f16 i8; do
            ss-encode --until=$cut --dtype=$dtype -m m.safetensors features.sst >cut.sst
            ss-cat --json cut.sst | sed -n 2p >first.json
            matches first.json "\"dtype\":\"$dtype\""
            [ $dtype = f16 ] || matches first.json '"scale":'
            ss-finish -m m.safetensors cut.sst | ss-cat --json --data --f32 >z.json
            bound=0.99999
            [ $dtype = f16 ] || bound=0.99
            python3 cosine.py whole.json z.json $bound
        done
    done
done
# The smallest record: 128 bytes of embedding.
ss-encode --until=embedding --dtype=i8 -m m.safetensors features.sst | ss-cat --json | sed -n 2p >first.json
matches first.json '"bytes":128'
# Back to f32, the scale is gone.
ss-encode --until=3 --dtype=i8 -m m.safetensors features.sst | ss-encode --until=5 -m m.safetensors | ss-cat --json | sed 1d >five.json
! grep -q '"scale"' five.json || fail 'f32 records carry a scale'
status 2 ss-encode --until=3 --dtype=i4 -m m.safetensors features.sst
