# --until=auto obeys each record's stamp; gaps and unknown records pass; values that are not finite become a gap.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
cat >make.py <<'P'
import os, struct, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
def window(seed, bad=False):
    v = [-4.5 + ((seed * 7919 + i * i * 31) % 2003) / 200 for i in range(64 * 96)]
    if bad:
        v[77] = float('nan')
    return struct.pack('<6144f', *v)
def record(seq, split=None, bad=False):
    return s.record(dtype=s.F32, dims=(64, 96), seq=seq, attrs=() if split is None else ((1, split),), payload=window(seq, bad))
lead = s.preamble('{"kind":"logmel"}')
def put(name, records):
    open(name, 'wb').write(s.stream(records, lead))
stamps = [0, 1, 4, 4, 9, 10, 2]
put('stamped.sst', [record(i, k) for i, k in enumerate(stamps)])
put('plain.sst', [record(i) for i, k in enumerate(stamps)])
put('wild.sst', [record(0, 4), record(1, 11)])
put('half.sst', [record(0, 4), record(1)])
put('mixed.sst', [record(0, 4), s.record(s.GAP, seq=1, attrs=((13, 2), (14, 2))), record(3, 4),
    s.record(200, flags=1, dtype=s.U8, dims=(3,), seq=9, attrs=((60, 5),), payload=b'abc'), record(4, 5), record(5, 5, True), record(6, 5)])
P
python3 make.py
ss-encode --until=auto -m m.safetensors stamped.sst >auto.sst
ss-cat --json auto.sst >auto.json
ss-finish -m m.safetensors auto.sst >z.sst
ss-encode --until=auto -m m.safetensors --batch=7 -t 2 stamped.sst | ss-finish -m m.safetensors --batch=7 >batch.sst
status 0 ss-cat --compare=z.sst batch.sst
ss-encode --until=embedding -m m.safetensors plain.sst | ss-cat --npy=whole.npy
ss-cat --npy=z.npy z.sst
same whole.npy z.npy
python3 - <<'P'
import json
head, *rows = [json.loads(l) for l in open('auto.json')]
assert head['header']['kind'] == 'cut'
shapes = [[64, 96], [16, 16, 24], [32, 8, 12], [32, 8, 12], [128, 2, 3], [128], [16, 16, 24]]
assert [r['shape'] for r in rows] == shapes, [r['shape'] for r in rows]
P
for f in wild half; do
    for batch in 1 8; do # what came before is delivered
        status 5 ss-encode --until=auto -m m.safetensors --batch=$batch $f.sst
        matches err '^ss-encode: record 1: '
        mv out part.sst
        status 4 ss-cat part.sst
        [ "$(grep -c '^[0-9]* data' out)" = 1 ] || fail 'the record before was not delivered'
    done
done
status 5 ss-encode --until=auto -m m.safetensors auto.sst
matches err 'auto takes a stream of kind logmel'

# Everything else stays in its place.
ss-encode --until=auto --batch=9 -m m.safetensors mixed.sst >mixed.cut 2>err
matches err 'record 5 holds values that are not finite'
ss-finish --batch=9 -m m.safetensors mixed.cut | ss-cat --json >mixed.json
python3 - <<'P'
import json
rows = [json.loads(l) for l in open('mixed.json')][1:]
assert [r['type'] for r in rows] == ['data', 'gap', 'data', rows[3]['type'], 'data', 'gap', 'data'], rows
assert rows[1]['attributes']['count'] == 2 and rows[3]['shape'] == [3] and rows[3]['attributes'] == {'attr60': 5}, rows[3]
assert [r['seq'] for r in rows] == [0, 1, 3, 9, 4, 5, 6] and rows[5]['attributes']['count'] == 1
P
