# Calibrated with a stream, described, kept by what copies a model; refusals; damage to what was found.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:3 --duration=20 --epoch=7 | ss-featurize >a.sst
ss-capture synth:4 --duration=10 --epoch=7 | ss-featurize >b.sst
data() { # data FILE: how many windows
    ss-cat --json "$1" | grep -c '"type":"data"'
}
a=$(data a.sst)
all=$((a + $(data b.sst)))
ss-model init -o m
status 0 ss-model info m
matches out '^int8          not calibrated$'
status 0 ss-model quantise -v m a.sst b.sst -o q
matches err 'windows; cosine between embeddings in f32 and int8, over .*: mean 0.99'
status 0 ss-model check q
status 0 ss-model info q
matches out "^int8          calibrated with $all windows, method max$"
# The weights are what they were, and the same sound gives the same bits, in one stream or two, from a file or not.
ss-model export m -o m.state
ss-model export q -o q.state
same m.state q.state
{
    ss-model quantise m a.sst b.sst -o q1
    ss-model quantise --method=max m -o q2 <a.sst
    ss-model quantise --method=mse q2 a.sst -o q3
} || fail 'quantise failed'
same q q1
status 0 ss-model info --json m q q2 q3
python3 - "$a" "$all" <<'P'
import json, sys
m, q, q2, q3 = map(json.loads, open('out'))
assert m['int8'] is None
c = q['int8']
assert c['records'] == int(sys.argv[2]) and c['generation'] == 0 and c['method'] == 'max', c
assert len(c['scales']) == 17 and min(c['scales']) > 0 and 0 < c['input_zero'] < 255 and c['input_step'] > 0, c
assert q2['int8']['records'] == int(sys.argv[1]) and q3['int8']['method'] == 'mse'
assert all(a >= b for a, b in zip(q2['int8']['scales'], q3['int8']['scales'])), 'a range beyond the largest value'
P
# A model that learns on keeps the calibration, as one that is not valid.
cp q learns
ss-train -q -m learns --start=16 --every=8 --batch=16 --replay=32 a.sst >/dev/null
status 0 ss-model info learns
matches out "^int8          calibrated with $all windows, method max, for an older generation: not valid$"
status 0 ss-model quantise learns a.sst -f -o learns
status 0 ss-model info learns
matches out "^int8          calibrated with $a windows, method max$"

ss-model init --norm=group -o g
status 5 ss-model quantise g a.sst -o x
matches err "'g': a model with group norm does not run in int8"
ss-model init --frames=64 -o short
status 5 ss-model quantise short a.sst -o x
matches err 'record 0: found shape \[64 x 96\], the model has \[64 x 64\]'
ss-encode --until=3 -m m a.sst >cut.sst
status 5 ss-model quantise m cut.sst -o x
ss-cat --head=0 --stream a.sst >none.sst
status 5 ss-model quantise m none.sst -o x
matches err 'no window to calibrate with'
head -c 100000 a.sst >half.sst
status 4 ss-model quantise m half.sst -o x
status 3 ss-model quantise m not-there -o x
status 3 ss-model quantise m a.sst -o q
matches err "'q' exists: use --force"
[ ! -e x ] || fail 'a model was written after an error'
for bad in 'quantise' 'quantise m' 'quantise -o x' 'quantise --method=some m -o x' 'quantise --width=1 m -o x' \
    'export --method=mse m -o x' 'quantise --json m -o x'; do
    # shellcheck disable=SC2086
    status 2 ss-model $bad </dev/null
    [ ! -e x ] || fail "a file was written: $bad"
done

# What another hand wrote into it is refused or is a calibration.
python3 - <<'P'
import json, struct
data = open('q', 'rb').read()
n = struct.unpack_from('<Q', data)[0]
h = json.loads(data[8:8 + n])
good = h['__metadata__']['streamsplit.int8'].split(' ')
old = h['__metadata__'].pop('streamsplit.digest')
def crc32c(b):
    c = 0xffffffff
    for x in b:
        c ^= x
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
def write(name, text):
    h['__metadata__']['streamsplit.int8'] = text
    h['__metadata__']['streamsplit.digest'] = '0' * 16
    j = json.dumps(h, separators=(',', ':')).encode()
    j += b' ' * (-len(j) % 8)
    j = struct.pack('<Q', len(j)) + j
    digest = b'%08x' % crc32c(j) + old[8:].encode()
    open(name, 'wb').write(j.replace(b'0' * 16, digest) + data[8 + n:])
write('good.x', ' '.join(good))
bad = ['', '1', 'x', ' '.join(good[:-1]), ' '.join(good + ['1']), ' '.join(good) + ' ', 'a' * 1000]
for at, values in {1: ['-1', 'a', '99999999999999999999'], 2: ['0', '-3'], 3: ['best', ''], 4: ['256', '-1', '1.5'],
                   5: ['0', '-1', 'nan', 'inf', '1e40', '1e-40', 'a'], 22: ['0', 'nan', '']}.items():
    for v in values:
        bad.append(' '.join(good[:at] + [v] + good[at + 1:]))
for i, b in enumerate(bad):
    write('bad%d.x' % i, b)
write('later.x', ' '.join(['2'] + good[1:]))
P
status 0 ss-model info good.x
matches out 'calibrated with'
for f in bad*.x; do
    status 4 ss-model info "$f"
    matches err "metadata 'streamsplit.int8'"
done
status 5 ss-model info later.x
matches err "metadata 'streamsplit.int8': version 2, expected 1"
