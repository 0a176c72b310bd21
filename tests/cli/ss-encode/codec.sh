# Codecs from end to end: sizes, who unpacks, stamps that are obeyed, damage and codecs that there are not.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:3 --duration=30 --epoch=7 | ss-featurize >f.sst
ss-model init -o plain
ss-model codecs --cuts=2,4,embedding --patch=2 --channels=8,32 --steps=10 plain f.sst -o m >/dev/null
ss-encode --until=embedding -m m f.sst >whole.sst
n=$(ss-cat --count f.sst)
for cut in 2 4 embedding; do
    ss-encode --until=$cut --codec=b32i8 -m m f.sst >cut.sst
    ss-cat --json cut.sst >cut.json
    status 0 ss-cat cut.sst
    matches out "split=$cut codec=b32i8"
    ss-finish -m m cut.sst >z.sst
    # Batch and threads change no bit; neither does who finishes it: the refiner embeds by the same function.
    ss-encode --until=$cut --codec=b32i8 --batch=7 -t 2 -m m f.sst >cut7.sst
    status 0 ss-cat --compare=cut.sst cut7.sst
    ss-finish --batch=7 -t 2 -m m cut.sst >z7.sst
    status 0 ss-cat --compare=z.sst z7.sst
    cp m r
    rm -f r.z
    ss-train --refine -m r --start=100000 --embeddings=r.z cut.sst >/dev/null
    rm -f *.npy
    ss-cat --npy=z.npy z.sst
    ss-cat --npy=r.npy r.z
    same z.npy r.npy
    ss-cat --json --data z.sst >z.json
    ss-cat --json --data whole.sst >whole.json
    python3 - "$n" "$cut" <<'P'
import json, sys
n, cut = int(sys.argv[1]), sys.argv[2]
rows = lambda f: [json.loads(l) for l in open(f)][1:]
c, z, w = rows('cut.json'), rows('z.json'), rows('whole.json')
shape = {'2': [16, 16, 24], '4': [32, 8, 12], 'embedding': [128]}[cut]
assert len(c) == n and all(r['dtype'] == 'packed' and r['shape'] == shape and r['attributes']['codec'] == 513 for r in c)
sizes = [r['bytes'] for r in c]
assert max(sizes) < 2500 and len(set(sizes)) > 3, sizes  # entropy coded
assert all(r['dtype'] == 'f32' and 'codec' not in r['attributes'] for r in z)
dots = [sum(p * q for p, q in zip(a['data'], b['data'])) for a, b in zip(z, w)]
assert sum(dots) / n > 0.97, dots
P
done
# A window is packed alone: the middle of the stream, by itself, is the same bytes.
ss-encode --until=4 --codec=b8i4 -m m f.sst | ss-cat --json >all.json
ss-cat --stream --every=5 f.sst | ss-encode --until=4 --codec=b8i4 -m m | ss-cat --json >some.json
python3 - <<'P'
import json
size = lambda f: {r['seq']: r['bytes'] for r in map(json.loads, open(f)) if r.get('type') == 'data'}
a, s = size('all.json'), size('some.json')
assert len(s) > 5 and all(a[k] == v for k, v in s.items())
P
# What is packed can be run on, and packed again.
ss-encode --until=2 --codec=b32i8 -m m f.sst | ss-encode --until=4 --codec=b32i8 -m m | ss-finish -m m | ss-cat --count >count
[ "$(cat count)" = "$n" ] || fail 'packed twice'
ss-encode --until=embedding -m m f.sst | ss-encode --until=embedding --codec=b8i8 -m m | ss-finish -m m | ss-cat --count >count
[ "$(cat count)" = "$n" ] || fail 'embeddings packed later'
status 0 ss-encode --until=4 --codec=f16 -m m f.sst
ss-cat --json out >out.json
matches out.json '"dtype":"f16"'

# A refiner learns from what is packed, and its gradients are those at the values decoded, of the shape of the cut.
cp m r
ss-encode --until=4 --codec=b32i8 -m m f.sst | ss-train --refine -m r --start=16 --batch=16 --gradients=i8 | ss-cat --json >back.json
python3 - <<'P'
import json
g = [r for r in map(json.loads, open('back.json')) if r.get('type') == 'gradient']
assert len(g) >= 16 and all(r['shape'] == [32, 8, 12] and r['dtype'] == 'i8' and 'codec' not in r['attributes'] for r in g), g[:1]
P
status 0 ss-model info r
matches out '^generation    [1-9]'

# Learners pack too.
cp m t
ss-train --until=4 --codec=b32i8 -m t f.sst >cut.sst
status 0 ss-cat cut.sst
matches out 'split=4 codec=b32i8'
ss-finish -m t cut.sst >/dev/null

# Stamps: cut and codec. What the model does not have is sent as it would be without.
cat >make.py <<'P'
import os, struct, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
def window(seed):
    return struct.pack('<6144f', *[-4.5 + ((seed * 7919 + i * i * 31) % 2003) / 200 for i in range(64 * 96)])
stamps = [(5, 513), (5, 513), (5, 128), (3, 129), (10, 512), (4, 513), (5, 11), (5, 2), (5, 3), (5, None), (0, 513)]
records = [s.record(dtype=s.F32, dims=(64, 96), seq=i, payload=window(i), attrs=((1, c),) + (((2, k),) if k else ()))
           for i, (c, k) in enumerate(stamps)]
open('stamped.sst', 'wb').write(s.stream(records, s.preamble('{"kind":"logmel"}')))
P
python3 make.py
for program in 'ss-encode --batch=1' 'ss-encode --batch=9' ss-train; do
    cp m t
    status 0 $program --until=auto -m t stamped.sst
    mv out auto.sst
    [ "$(grep -c 'cannot be used' err)" = 1 ] || fail "$program: not said once"
    ss-cat --json auto.sst >auto.json
    ss-finish -m m auto.sst | ss-cat --count >count
    [ "$(cat count)" = 11 ] || fail "$program: not all are finished"
    python3 - <<'P'
import json
rows = [json.loads(l) for l in open('auto.json')][1:]
found = [(r['dtype'], r['attributes'].get('codec')) for r in rows]
want = [('packed', 513), ('packed', 513), ('packed', 128), ('packed', 129), ('packed', 512), ('f32', None), ('f32', None), ('f16', None), ('i8', None), ('f32', None), ('f32', None)]
assert found == want, found
P
done
status 5 ss-encode --until=auto --codec=b8i8 -m m stamped.sst --batch=4 # one stamp is a cut without codecs
for bad in '--codec=b8i8 --dtype=f16' '--codec=b8' '--codec=opus' '--codec=u8' '--codec='; do
    # shellcheck disable=SC2086
    status 2 ss-encode --until=4 $bad -m m f.sst
done
status 5 ss-encode --until=3 --codec=b8i8 -m m f.sst
matches err "'m': the model has no codecs at cut 3"
status 5 ss-encode --until=4 --codec=b9i8 -m m f.sst
matches err 'found b9i8, the model has bCi8 and bCi4 at cut 4 for C = 8, 32'

# Refused: by a model without codecs, with others, a codec it does not have; and what is damaged under a whole CRC.
ss-encode --until=4 --codec=b8i8 -m m f.sst >cut.sst
status 5 ss-finish -m plain cut.sst
matches err 'record 0: the model has no codecs at cut 4'
ss-model codecs --cuts=4 --patch=2 --channels=8,32 --steps=10 --seed=2 plain f.sst -o other >/dev/null
status 5 ss-finish -m other cut.sst
matches err 'record 0: found a payload of b8i8 at cut 4 from training .. of the codec, the model has ..: both ends need the same'
status 5 ss-train --refine -m other cut.sst
cat >break.py <<'P'
import os, struct, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
b = open('cut.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', b, 12)[0] + 4
records = []
while b[at + 4] != s.END:
    length, type, flags, dtype, rank, a = struct.unpack_from('<IBBBBH', b, at)
    dims = struct.unpack_from('<%dI' % rank, b, at + 12)
    end = at + 4 + length
    records.append((dims, b[at + 40 + 4 * rank + a + 4:end - 4]))
    at = end
def put(name, change, codec=129):
    rows = [s.record(dtype=s.PACKED, dims=d, seq=i, payload=change(p) if i == 1 else p,
                     attrs=((1, 5),) + (((2, codec),) if codec else ()))
            for i, (d, p) in enumerate(records[:3])]
    open(name, 'wb').write(s.stream(rows, s.preamble('{"kind":"cut"}')))
put('short.sst', lambda p: p[:-1])
put('long.sst', lambda p: p + b'x')
put('noise.sst', lambda p: p[:1] + bytes((i * 73) % 256 for i in range(len(p) - 1)))
put('empty.sst', lambda p: b'')
put('unnamed.sst', lambda p: p, None)
put('unknown.sst', lambda p: p, 77)
put('good.sst', lambda p: p)
P
python3 break.py
status 0 ss-finish -m m good.sst
for f in short long noise empty; do
    status 4 ss-finish -m m $f.sst
    mv err err.finish
    matches err.finish '^ss-finish: record 1: a payload of b8i8 at cut 4'
    mv out part.sst
    status 4 ss-cat part.sst # what came before is delivered, without an end
    [ "$(grep -c '^[0-9]* data' out)" = 1 ] || fail 'the record before was not delivered'
    status 4 ss-train --refine -m r $f.sst
done
status 5 ss-finish -m m unnamed.sst
matches err 'not stamped with its codec'
status 5 ss-finish -m m unknown.sst
matches err 'found codec 77'
