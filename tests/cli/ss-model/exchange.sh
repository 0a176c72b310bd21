# Any safetensors reader opens our files: here is one in twenty lines. Export and import.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >st.py <<'PY'
import array, json, struct

FORMAT = {'F32': 'f', 'F64': 'd', 'I64': 'q', 'U8': 'B'}

def load(path):
    data = open(path, 'rb').read()
    n, = struct.unpack('<Q', data[:8])
    assert n % 8 == 0
    header = json.loads(data[8:8 + n].decode('utf-8'))
    meta = header.pop('__metadata__', {})
    out, end = {}, 0
    for name, t in sorted(header.items(), key=lambda x: x[1]['data_offsets']):
        a, b = t['data_offsets']
        assert a == end, 'a gap or an overlap'
        values, end = array.array(FORMAT[t['dtype']]), b
        values.frombytes(data[8 + n + a:8 + n + b])
        size = 1
        for d in t['shape']:
            size *= d
        assert size == len(values)
        out[name] = (t['shape'], values)
    assert 8 + n + end == len(data), 'trailing bytes'
    return out, meta

def save(path, tensors):
    header, blob = {}, b''
    for name, (dtype, shape, values) in tensors.items():
        b = array.array(FORMAT[dtype], values).tobytes()
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [len(blob), len(blob) + len(b)]}
        blob += b
    h = json.dumps(header).encode()
    open(path, 'wb').write(struct.pack('<Q', len(h)) + h + blob)
PY

for norm in batch group weight; do
    ss-model init --norm=$norm -o $norm
    ss-model export $norm -o $norm.state 2>err
done
matches_none() { ! grep -q . "$1" || fail "$1 is not empty"; }
matches_none err
status 0 ss-model export group -f -o group.state
matches err 'group norm'
python3 - <<'PY'
import st
for norm, n, statistics in (('batch', 102, 40), ('group', 62, 0), ('weight', 62, 0)):
    t, meta = st.load(norm)
    assert len(t) == n and meta['streamsplit.norm'] == norm and len(meta['streamsplit.digest']) == 16
    assert t['conv1.weight'][0] == [16, 1, 7, 7] and t['fc.weight'][0] == [128, 128]
    assert sum('running' in k for k in t) == statistics
    x, meta = st.load(norm + '.state')
    assert len(x) == (62 if norm == 'group' else 102) and 'streamsplit.digest' not in meta
    assert meta['format'] == 'pt' and meta['norm'] == ('group' if norm == 'group' else 'batch')
    assert float(meta['input_mean']) < -4.44 and x['fc.weight'] == t['fc.weight']
    assert (x == t) == (norm == 'batch')
    if norm == 'weight':
        assert set(x['bn1.weight'][1]) == {1.0} and set(x['layer4.1.bn2.running_mean'][1]) == {0.0}

# A state dict as torchvision's: three channels, a classifier of 10, counters; width 16.
t, _ = st.load('batch')
d = {k: ('F32', s, v) for k, (s, v) in t.items()}
w = d['conv1.weight'][2]
rgb = []
for o in range(16):
    for c in range(3):
        rgb += [x * (c + 1) for x in w[o * 49:o * 49 + 49]]
d['conv1.weight'] = ('F32', [16, 3, 7, 7], rgb)
d['fc.weight'], d['fc.bias'] = ('F32', [10, 128], [0.5] * 1280), ('F32', [10], [0] * 10)
for k in [k for k in d if k.endswith('running_var')]:
    d[k.replace('running_var', 'num_batches_tracked')] = ('I64', [], [7])
assert len(d) == 122
st.save('torchvision', d)
PY
ss-model import batch.state -o back
python3 -c 'import st; a, b = st.load("batch")[0], st.load("back")[0]; assert a == b'
status 0 ss-model import -v torchvision -o m
matches err '3 channels .* summed'
matches err 'fc does not give 128 values'
status 0 ss-model import --dim=10 --mels=128 torchvision -f -o ten
[ ! -s err ] || fail "a classifier that fits was not kept"
python3 - <<'PY'
import st
m, b = st.load('m')[0], st.load('batch')[0]
assert all(abs(x - 6 * y) < 1e-5 for x, y in zip(m['conv1.weight'][1], b['conv1.weight'][1]))
assert m['layer2.0.downsample.0.weight'] == b['layer2.0.downsample.0.weight']
assert m['fc.weight'] == b['fc.weight']  # the same seed
t, meta = st.load('ten')
assert t['fc.weight'] == ([10, 128], st.array.array('f', [0.5] * 1280)) and meta['streamsplit.mels'] == '128'
PY
