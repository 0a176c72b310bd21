# What is refused, and what is put up with.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:1 --duration=12 --epoch=5 | tee pcm.sst | ss-featurize >f.sst
status 2 ss-train f.sst
matches err 'ss-model init'
status 2 ss-train -m m.safetensors --until=9 f.sst
status 2 ss-train -m m.safetensors --learner=contrast --negatives=none --no-in-batch f.sst
status 2 ss-train -m m.safetensors --sync-by-count --budget=0.5 f.sst
status 2 ss-train -m m.safetensors --batch=100 --replay=50 f.sst
matches err 'replay'
status 2 ss-train -m m.safetensors f.sst f.sst
status 3 ss-train -m none.safetensors f.sst
status 5 ss-train -m m.safetensors pcm.sst
matches err kind
ss-capture synth:1 --duration=12 | ss-featurize --keep-dc >other.sst
cp m.safetensors a.safetensors
ss-train -m a.safetensors f.sst >z.sst
status 5 ss-train -m a.safetensors other.sst
matches err 'front end'
status 5 ss-train -m a.safetensors z.sst
ss-capture synth:1 --duration=12 | ss-featurize --mels=32 >small.sst
status 5 ss-train -m m.safetensors small.sst
matches err 'record 0: .*32.*64'

# Two owners: the second is turned away.
cp m.safetensors b.safetensors
mkfifo in
sleep 10 >in &
holder=$!
ss-train -m b.safetensors in >/dev/null &
first=$!
i=0
while [ ! -e b.safetensors.lock ] && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
sleep 0.2
status 3 ss-train -m b.safetensors f.sst
matches err 'another program'
kill -KILL $first $holder
wait $first $holder 2>/dev/null || true
status 0 ss-train -m b.safetensors f.sst

# Windows heard twice, in one stream, are learnt from once; values that are not finite become a gap.
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
put('twice.sst', [record(i) for i in (0, 1, 2, 1, 2, 3)])
put('bad.sst', [record(0), record(1, bad=True), s.record(s.GAP, seq=2, attrs=((13, 2), (14, 2))), record(4)])
put('stamped.sst', [record(i, k) for i, k in enumerate([0, 4, 10, 10, 9, 10])])
put('plain.sst', [record(i) for i in range(6)])
P
python3 make.py
cp m.safetensors c.safetensors
status 0 ss-train -v -m c.safetensors twice.sst
matches err '2 windows .* passed over'
[ "$(ss-cat --count out)" = 4 ] || fail 'a window heard twice was passed on twice'
cp m.safetensors c.safetensors
status 0 ss-train -m c.safetensors bad.sst
matches err 'record 1 holds values that are not finite'
ss-cat out | sed 1d | cut -d' ' -f2 | tr '\n' ' ' >types
matches types '^data gap gap data $'

# auto: what is cut earlier is encoded and passed on, the rest is learnt from.
cp m.safetensors d.safetensors
ss-train --until=auto -m d.safetensors stamped.sst >auto.sst
ss-encode --until=auto -m m.safetensors stamped.sst | ss-cat --data >e.bin 2>/dev/null || true
ss-finish -m m.safetensors auto.sst | ss-cat --npy=z.npy
ss-encode --until=embedding -m m.safetensors plain.sst | ss-cat --npy=e.npy
same z.npy e.npy
ss-cat --json auto.sst | python3 -c '
import json, sys
rows = [json.loads(l) for l in sys.stdin][1:]
assert ["u" in r["attributes"] for r in rows] == [False, False, True, True, False, True]
assert [r["shape"] for r in rows] == [[64, 96], [32, 8, 12], [128], [128], [128, 2, 3], [128]]'
status 5 ss-train --until=auto -m d.safetensors plain.sst
matches err 'not stamped'
