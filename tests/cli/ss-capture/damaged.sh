# What is wrong with a file is said, shows in the stream and in the status, and does not stop the others.
. "$SS_SRC/tests/cli/lib.sh"
need python3
make="python3 $SS_SRC/tests/cli/ss-capture/lib.py"
$make a.wav 16000 1 1
$make z.wav 16000 1 1
head -c 16044 a.wav >b.wav # a half of what it declares
echo nothing >c.wav
python3 - "$SS_SRC/tests/cli/ss-capture" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from lib import wav
wav('d.wav', 16000, 1024, [tuple([0.0] * 1024)] * 10)
wav('e.wav', 4, 1, [0.0] * 10)
wav('f.wav', 16000, 1, [0.5] * 32, declared=1 << 20)
PY
status 3 ss-capture --epoch=1 a.wav b.wav missing.wav c.wav d.wav e.wav f.wav z.wav
cp out got.sst
cp err messages
ss-cat --check got.sst
matches messages "'b.wav' ends after 8000 of the 16000 samples that it declares"
matches messages "'missing.wav'"
matches messages "'c.wav' cannot be read as sound"
matches messages "'d.wav' has 1024 channels, expected 1 to 64"
matches messages "'e.wav'"
matches messages "'f.wav' ends after 32 of the 524288"
matches messages '6 sounds could not be read'
ss-cat --json got.sst | python3 -c '
import json, sys
data, gaps, seq = {}, {}, 0
for l in sys.stdin:
    r = json.loads(l)
    if "record" not in r: continue
    assert r["seq"] == seq, r
    a = r["attributes"]
    if r["type"] == "gap":
        assert a["reason"] == 3
        gaps[a["clip"]] = a["count"]
        seq += a["count"]
    else:
        data[a["clip"]] = data.get(a["clip"], 0) + r["shape"][0]
        seq += 1
assert data == {0: 16000, 1: 8000, 6: 32, 7: 16000}, data
assert gaps == {1: 7, 2: 1, 3: 1, 4: 1, 5: 1, 6: 410}, gaps'
# Said once, however often it is heard; and a list of nothing else ends.
status 3 ss-capture --loop=3 a.wav c.wav
[ "$(grep -c "'c.wav'" err)" -eq 1 ] || fail 'said more than once'
status 3 ss-capture --loop=0 c.wav missing.wav
ss-cat --check out
# Pipes that end early.
status 3 sh -c 'head -c 16044 a.wav | ss-capture'
matches err 'ends after 8000 of the 16000'
status 3 sh -c 'head -c 1001 a.wav | ss-capture --raw=s16le:16000'
matches err 'raw sound ends within a frame'
ss-cat --check out
# A length left open is none that is missing.
python3 -c "
d = bytearray(open('a.wav', 'rb').read())
d[4:8] = d[40:44] = b'\xff\xff\xff\xff'
open('open.wav', 'wb').write(d)"
status 0 ss-capture open.wav
status 0 sh -c 'cat open.wav | ss-capture'
[ "$(ss-cat --count out)" -eq 13 ] || fail 'open length'
# Samples that are not finite.
python3 -c "
import struct
open('nan.raw', 'wb').write(struct.pack('<4f', float('nan'), 0.5, float('inf'), 0.25))"
status 0 ss-capture --raw=f32le:16000 nan.raw
matches err '2 samples were not finite'
ss-cat --json --data out | grep -q '"data":\[0,0.5,0,0.25\]' || fail 'not finite'
# Nowhere to write to.
status 3 sh -c 'ss-capture a.wav >/dev/full'
