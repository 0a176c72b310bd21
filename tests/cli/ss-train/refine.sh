# The server's side: what is finished, what goes back, what is refused.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=50 --epoch=5 | ss-featurize >f.sst
n=$(ss-cat --count f.sst)

# Wherever records are cut, embeddings are those of ss-finish until the first step, and each gets its result.
ss-encode --until=3 -m m.safetensors f.sst >3.sst
ss-encode --until=0 --dtype=f16 -m m.safetensors f.sst >0.sst
ss-encode --until=8 --dtype=i8 -m m.safetensors f.sst >8.sst
ss-encode --until=embedding -m m.safetensors f.sst >embedding.sst
for cut in f 0 3 8 embedding; do
    cp m.safetensors a.safetensors
    rm -f z.sst *.npy
    ss-train --refine -m a.safetensors --start=100000 --embeddings=z.sst $cut.sst >a.sst
    status 0 ss-cat --check a.sst
    status 0 ss-cat --check z.sst
    ss-cat --npy=z.npy z.sst
    ss-finish -m m.safetensors $cut.sst | ss-cat --npy=e.npy
    same z.npy e.npy
    ss-cat --json a.sst >a.json
    python3 - "$n" <<'P'
import json, sys
n = int(sys.argv[1])
head, *rows = map(json.loads, open('a.json'))
assert head['header']['kind'] == 'return', head
results = [r for r in rows if r['type'] == 'result']
assert [r['seq'] for r in results] == list(range(n)) and {r['epoch'] for r in results} == {5}
for r in results:
    a = r['attributes']
    assert 0 <= a['u'] <= 1 and 0 <= a['novelty'] <= 2 and a['generation'] == 0 and 'loss' not in a, a
    assert 't_finish' in a and 'w_finish' in a and 't_featurize' in a and 'clip' not in a, a
mixtures = [r for r in rows if r['type'] == 'mixture']
assert len(mixtures) == n // 100 and all(0 < r['shape'][0] <= 35000 for r in mixtures), mixtures
acks = [r['seq'] for r in rows if r['type'] == 'ack']
assert acks == [n - 1] and rows[-1]['type'] == 'ack', acks  # what is in the model is durable
assert rows[-1]['attributes']['t_train'] > 0, rows[-1]
P
done
ss-model info a.safetensors >info
matches info '[Gg]eneration.* 1$'

# Devices together, every record cut elsewhere, some gone: steps are taken, gradients go back where they are wanted.
cat >rows.py <<'P'
import os, struct, subprocess, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
def rows(name):
    """The records of a stream with payload, as (head fields, attributes, payload)."""
    b = open(name, 'rb').read()
    at = 16 + struct.unpack_from('<I', b, 12)[0] + 4
    while b[at + 4] != s.END:
        length, type, flags, dtype, rank, a = struct.unpack_from('<IBBBBH', b, at)
        dims = struct.unpack_from('<%dI' % rank, b, at + 12)
        end = at + 4 + length
        h = 40 + 4 * rank + a
        yield dtype, dims, struct.unpack_from('<IQQq', b, at + 12 + 4 * rank), b[at + h + 4:end - 4], b[at:end]
        at = end
P
cat >mix.py <<'P'
from rows import *
kinds = [(0, list(rows('f.sst'))), (4, list(rows('3.sst'))), (10, list(rows('embedding.sst')))]
out = []
for i in range(len(kinds[0][1])):
    for device in range(3):
        split, r = kinds[(i + device) % 3]
        if (i * 7 + device) % 5:
            dtype, dims, who, payload, _ = r[i]
            out.append(s.record(dtype=dtype, dims=dims, device=device, epoch=9, seq=i, attrs=((1, split),), payload=payload))
        elif (i * 7 + device) % 2:
            out.append(s.record(s.GAP, device=device, epoch=9, seq=i, attrs=((13, 1), (14, 2))))
open('mix.sst', 'wb').write(s.stream(out[:200], s.preamble('{"kind":"cut"}')))
P
python3 mix.py
how='--start=24 --every=8 --batch=16 --warmup=5'
cp m.safetensors b.safetensors
# shellcheck disable=SC2086
ss-train --refine -m b.safetensors $how --log=b.log --gradients=f32 --mixture-every=50 --save-windows=60 mix.sst >b.sst
status 0 ss-cat --check b.sst
ss-cat --json b.sst >b.json
cmp -s m.safetensors b.safetensors && fail 'nothing was learnt'
cp m.safetensors c.safetensors
# shellcheck disable=SC2086
ss-train --refine -t 2 -m c.safetensors $how --gradients=i8 --gradient-budget=1 --mixture-every=0 --save-windows=60 mix.sst >c.sst
cmp b.safetensors c.safetensors || fail 'threads or gradients make a difference'
ss-cat --json c.sst >c.json
python3 - <<'P'
import json, math
log = [json.loads(l) for l in open('b.log')]
rows = [json.loads(l) for l in open('b.json')][1:]
small = [json.loads(l) for l in open('c.json')][1:]
of = lambda rows, type: [r for r in rows if r['type'] == type]
n = len(of(rows, 'result'))
assert len(log) == (n - 24) // 8 + 1 and [l['step'] for l in log] == list(range(1, len(log) + 1)), (n, len(log))
assert all(math.isfinite(v) for l in log for v in l.values())
assert log[0]['devices'] == 3 and log[-1]['rows'] == log[-1]['windows'] and log[-1]['present'] == 16, log[-1]
assert log[-1]['sw_norm'] > 0 and log[-1]['laplacian_norm'] > 0 and log[-1]['refused'] == log[-1]['rolled_back'] == 0
# Of each step those windows that came as a cut or an embedding, one behind the other.
groups = []
for before, r in zip([{'type': ''}] + rows, rows):
    if r['type'] == 'gradient':
        if before['type'] != 'gradient':
            groups.append([])
        groups[-1].append(r)
assert len(groups) == len(log), (len(groups), len(log))
shape = {4: [32, 8, 12], '3': [32, 8, 12], 10: [128], 'embedding': [128]}
for g in groups:
    assert 1 <= len(g) <= 8 # and count says how many of them are for the same device
    assert all(r['attributes']['count'] == sum(o['device'] == r['device'] for o in g) for r in g), g
    assert all(r['shape'] == shape[r['attributes']['split']] and r['dtype'] == 'f32' for r in g), g
assert len({(r['device'], r['seq']) for g in groups for r in g}) == sum(map(len, groups))
assert 'loss' in rows[-1]['attributes'] or of(rows, 'result')[-1]['attributes']['loss']
acks = {}
for r in of(rows, 'ack'):
    assert r['seq'] > acks.get(r['device'], -1)
    acks[r['device']] = r['seq']
last = {}
for r in of(rows, 'result'):
    last[r['device']] = r['seq']
assert all(acks[d] >= last[d] for d in last), (acks, last)
assert [r['attributes']['count'] for r in of(rows, 'mixture')] == list(range(50, n + 1, 50))
g = of(small, 'gradient')
assert len(g) == len(groups[0]) and all( # the first step's used up the budget of hours
    r['dtype'] == 'i8' and r['attributes']['scale'] > 0 for r in g)
assert not of(small, 'mixture')
P

# Labels, where there are some, make another task; without them they are not looked at.
cat >label.py <<'P'
from rows import *
out = []
for i, (dtype, dims, who, payload, _) in enumerate(rows('3.sst')):
    out.append((dtype, dims, i, payload))
def put(name, label):
    r = [s.record(dtype=d, dims=n, epoch=9, seq=i, attrs=((1, 4),) + (((5, i // 4 % 2),) if label else ()), payload=p)
         for d, n, i, p in out[:48]]
    open(name, 'wb').write(s.stream(r, s.preamble('{"kind":"cut","labels":["cat","dog"]}')))
put('labelled.sst', True)
put('plain.sst', False)
P
python3 label.py
for run in labelled- labelled-no- plain-; do
    cp m.safetensors $run.safetensors
    # shellcheck disable=SC2046,SC2086
    ss-train --refine $([ $run = labelled-no- ] && echo --no-labels) -m $run.safetensors $how ${run%%-*}.sst >/dev/null
done
cmp plain-.safetensors labelled-no-.safetensors || fail 'labels were looked at'
cmp -s plain-.safetensors labelled-.safetensors && fail 'labels were not learnt from'

# Heard twice it is learnt once, and acknowledged again.
cat >twice.py <<'P'
from rows import *
r = [x[-1] for x in rows('3.sst')]
lead = open('3.sst', 'rb').read()
lead = lead[:16 + struct.unpack_from('<I', lead, 12)[0] + 4]
open('twice.sst', 'wb').write(s.stream(r + r[10:30], lead))
P
python3 twice.py
cp m.safetensors d.safetensors
cp m.safetensors e.safetensors
status 0 ss-train --refine -m e.safetensors --batch=16 --start=24 3.sst
status 0 ss-train -v --refine -m d.safetensors --batch=16 --start=24 twice.sst
matches err '20 windows .* passed over'
same d.safetensors e.safetensors

# A damaged stream, a truncated one: status 4, with all before it acknowledged and saved.
size=$(wc -c <3.sst)
head -c $((size * 2 / 3)) 3.sst >short.sst
cp 3.sst bad.sst
printf 'x' | dd of=bad.sst bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
for s in short bad; do
    cp m.safetensors g.safetensors
    status 4 ss-train --refine -m g.safetensors --batch=16 --start=24 --journal=$s.journal --checkpoint=$s.state $s.sst
    ss-cat --json out >out.json 2>/dev/null || true
    python3 - <<'P'
import json
rows = [json.loads(l) for l in open('out.json')][1:]
results, acks = ([r['seq'] for r in rows if r['type'] == t] for t in ('result', 'ack'))
assert len(results) > 30 and acks[-1] == results[-1], (results, acks)
P
    ss-model info g.safetensors >info
    matches info '[Gg]eneration.* 1$'
done

# Refusals.
status 2 ss-train --refine -m a.safetensors --until=3 f.sst
matches err '--until=3 with --refine'
status 2 ss-train --refine -m a.safetensors --journal=j f.sst
matches err 'checkpoint'
status 2 ss-train --refine -m a.safetensors --batch=16 --every=17 f.sst
status 2 ss-train --refine -m a.safetensors --ring-memory=1K f.sst
matches err 'ring of one device'
status 3 ss-train --refine -m none.safetensors f.sst
status 5 ss-train --refine -m a.safetensors a.sst
matches err kind
ss-model init --width=1/2 -o wide.safetensors
status 5 ss-train --refine -m wide.safetensors 3.sst
matches err architecture
