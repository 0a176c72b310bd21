# What sending takes is added to records that tell their energy, and the state directory says what a window takes.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init --width=1/4 -o m.safetensors
ss-capture synth:1 --duration=8 | ss-featurize >f.sst
ss-encode --until=3 -m m.safetensors --energy=apple-m2 f.sst >cut.sst
status 0 ss-link --no-ack --state=S -- cat <cut.sst
cp out same.sst
status 0 ss-link --no-ack --state=S --radio=wifi -- cat <cut.sst
cp out wifi.sst
status 0 ss-link --no-ack --state=S --radio=lte -- cat <cut.sst
cp out lte.sst
ss-encode --until=3 -m m.safetensors f.sst | ss-link --no-ack --radio=lte -- cat >plain.sst
! ss-cat plain.sst | grep energy || fail 'energy that was not asked for'
for f in cut same wifi lte; do ss-cat --json $f.sst >$f.json; done
TOLD=$(cat S/energy) python3 - <<'P'
import json, os
def energy(f):
    return [json.loads(l)['attributes']['energy'] for l in open(f + '.json') if '"type":"data"' in l]
cut, same, wifi, lte = map(energy, ('cut', 'same', 'wifi', 'lte'))
assert cut == same
size = 32 * 8 * 12 * 4  # of a payload, and some 100 around it; nothing is known of the bandwidth
for a, b in zip(cut, wifi):
    assert 0.99 < (b - a) / (0.004813 * 8e-6 * size) < 1.02, (a, b)
more = [b - a for a, b in zip(cut, lte)]
# The first one wakes the radio; the others keep it awake for a little longer.
assert 11.576 * 1.06 < more[0] < 11.576 * 1.06 + 0.1, more
assert all(0.43839 * 8e-6 * size * 0.99 < m < 11.576 * 1.06 for m in more[1:]), more
told = float(os.environ['TOLD'])  # mJ, of those sent last
assert min(lte) * 999 < told < max(lte) * 1001, told
P
status 2 ss-link --radio=smoke -- cat
