# What may come in: both dtypes, gaps, cut-off streams, other records, wrong kinds; reduced resolution; bands.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:6 --duration=20 --epoch=9 -o sound.sst
ss-featurize sound.sst >full.sst
# 16 bits are near, and where they round nothing, equal.
ss-capture synth:6 --duration=20 --epoch=9 --dtype=i16 | ss-featurize >narrow.sst
python3 - <<'PY'
import json, subprocess
def windows(f):
    for l in subprocess.run(['ss-cat', '--json', '--data', f], capture_output=True, text=True).stdout.splitlines():
        r = json.loads(l)
        if 'record' in r: yield r
a, b = list(windows('full.sst')), list(windows('narrow.sst'))
assert len(a) == len(b) > 20
loud = [abs(x - y) for p, q in zip(a, b) for x, y in zip(p['data'], q['data']) if x > 0]
assert len(loud) > 1000 and max(loud) < 0.05, max(loud)
PY
python3 -c "
import struct
open('x.raw', 'wb').write(b''.join(struct.pack('<h', (i * 7919) % 20011 - 10000) for i in range(40000)))"
ss-capture --raw=s16le:16000 x.raw | ss-featurize >a.sst
ss-capture --raw=s16le:16000 --dtype=i16 x.raw | ss-featurize | ss-cat --compare=a.sst
# Reduced: flagged, of the same shape, not far away; half the filters need an even number.
for r in mels32:1 hop20:2; do
    status 0 ss-featurize --resolution=${r%:*} sound.sst
    cp out r.sst
    ss-cat r.sst >r.txt
    [ "$(grep -c "resolution=${r#*:}" r.txt)" -eq "$(grep -c ' data ' r.txt)" ] || fail "$r: attribute"
    [ "$(grep -c reduced r.txt)" -eq "$(grep -c ' data ' r.txt)" ] || fail "$r: flag"
    status 1 ss-cat --compare=full.sst r.sst
done
status 2 ss-featurize --resolution=mels32 --mels=63 sound.sst
# Bands.
status 5 ss-featurize --mels=128 sound.sst
matches err 'mel filter 1 of 128 (.* Hz) holds no bin of a transform of 512 points'
status 0 ss-featurize --mels=128 --fft=1024 sound.sst
cp out wide.sst
ss-cat wide.sst >wide.txt
matches wide.txt 'f32\[128,96\]'
status 2 ss-featurize --window=25.01 sound.sst
matches err 'expected a whole number'
status 2 ss-featurize --hop=30 sound.sst
status 2 ss-featurize --fft=256 sound.sst
# The header tells one front end from another.
hash() { ss-cat --json -n 0 "$1" | sed 's/.*"frontend_hash":"\([0-9a-f]*\)".*/\1/'; }
[ "$(hash full.sst)" = "$(hash narrow.sst)" ] || fail 'hash'
[ "$(hash full.sst)" != "$(hash wide.sst)" ] || fail 'hash of 128 bands'
# Cut off: all that was whole before it is passed on, and it is said.
head -c 700000 sound.sst >cut.sst
status 4 ss-featurize cut.sst
cp out part.sst
status 4 ss-cat --json --data part.sst
grep '"record"' out | sed 's/.*"data"/"data"/' >got.txt
ss-cat --json --data full.sst | grep '"record"' | sed 's/.*"data"/"data"/' >want.txt
n=$(wc -l <got.txt)
[ "$n" -gt 5 ] && head -n "$n" want.txt | cmp - got.txt || fail 'windows before the cut'
# A record that is missing is no neighbour: the windows on both sides are those of two sounds.
ss-capture --raw=s16le:16000 --epoch=3 x.raw >pcm.sst # 32 blocks
ss-cat --slice=:14 --stream pcm.sst >p1.sst
ss-cat --slice=16: --stream pcm.sst >p2.sst
ss-cat --stream p1.sst p2.sst >holed.sst
[ "$(ss-featurize holed.sst | ss-cat --count)" -eq 2 ] || fail 'a hole in the numbers'
[ "$(ss-featurize pcm.sst | ss-cat --count)" -eq 4 ] || fail 'no hole'
# Other kinds and rates.
status 5 ss-featurize full.sst
matches err "stream of kind 'logmel', expected pcm"
ss-cat --npy=n.npy -n 2 full.sst
ss-cat --from-npy=n.npy --kind=pcm -o norate.sst
status 5 ss-featurize norate.sst
head -c -10 pcm.sst >noend.sst
status 4 ss-featurize noend.sst
status 2 ss-featurize a.sst b.sst
