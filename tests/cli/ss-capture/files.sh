# Files, folders, lists, pipes and raw samples give the same sound; channels, rates, types.
. "$SS_SRC/tests/cli/lib.sh"
need python3
make="python3 $SS_SRC/tests/cli/ss-capture/lib.py"
mkdir -p d/e
$make d/b.wav 16000 1 1.5 300
$make d/e/a.wav 16000 1 0.5 500
$make d/c.WAV 16000 1 0.08 700
echo 'no sound' >d/notes.txt
ss-capture --epoch=1 d >folder.sst
ss-cat folder.sst >folder.txt
[ "$(grep -c clip_end folder.txt)" -eq 3 ] || [ "$(grep -c 'clip.end' folder.txt)" -eq 3 ] || fail 'ends of clips'
ss-cat --json folder.sst | python3 -c '
import json, sys
sizes, at = {}, 0
for l in sys.stdin:
    r = json.loads(l)
    if "record" not in r: continue
    assert r["time_ns"] == 1 + at * 62500, r
    at += r["shape"][0]
    c = r["attributes"]["clip"]
    sizes[c] = sizes.get(c, 0) + r["shape"][0]
assert sizes == {0: 24000, 1: 1280, 2: 8000}, sizes'
printf 'b.wav\nc.WAV\n\ne\n' >d/list
ss-capture @d/list | ss-cat --compare=folder.sst
printf 'd/b.wav\nd/c.WAV\nd/e/a.wav\n' | ss-capture @- | ss-cat --compare=folder.sst
ss-capture d/b.wav d/c.WAV d/e | ss-cat --compare=folder.sst
# One file: by name, as a seekable standard input, through a pipe (no clip: its end is not foreseen), and raw.
values() { ss-cat --json --data "$1" | python3 -c '
import json, sys
for l in sys.stdin:
    for v in json.loads(l).get("data", []): print(v)'; }
ss-capture d/b.wav >file.sst
ss-capture - <d/b.wav | ss-cat --compare=file.sst
ss-capture <d/b.wav | ss-cat --compare=file.sst
values file.sst >file.txt
[ "$(wc -l <file.txt)" -eq 24000 ] || fail 'samples'
cat d/b.wav | ss-capture >pipe.sst
values pipe.sst | cmp - file.txt || fail 'pipe'
tail -c +45 d/b.wav | ss-capture --raw=s16le:16000 >raw.sst
values raw.sst | cmp - file.txt || fail 'raw pipe'
tail -c +45 d/b.wav >b.raw
ss-capture --raw=s16le:16000 b.raw >raw.sst
values raw.sst | cmp - file.txt || fail 'raw file'
# i16 is the file's own 16 bits.
ss-capture --dtype=i16 d/b.wav >narrow.sst
ss-cat --npy=narrow.npy --slice=:18 narrow.sst
tail -c $((18 * 2560)) narrow.npy >narrow.raw
head -c $((18 * 2560)) b.raw | cmp - narrow.raw || fail 'i16'
# Channels: the second is twice the first, the mean is between them.
$make stereo.wav 16000 2 0.5
for c in 0 1 2; do
    ss-capture -c $c stereo.wav >c$c.sst
    values c$c.sst >c$c.txt
done
paste c0.txt c1.txt c2.txt | awk '{ if (($2*2-$3)^2 > 1e-8 || ($1-($2+$3)/2)^2 > 1e-12) exit 1 }' || fail 'channels'
status 3 ss-capture -c 3 stereo.wav
matches err 'has no channel 3'
# Rates: as many samples as the same time has at 16 kHz, of the same loudness.
for rate in 8000 44100 48000 96000; do
    $make r.wav $rate 1 1
    ss-capture r.wav >r.sst
    values r.sst | awk -v r=$rate '{ s += $1*$1; n++ } END { if (n != 16000 || sqrt(s/n) < 0.35 || sqrt(s/n) > 0.36) { print r, n, sqrt(s/n); exit 1 } }' || fail "rate $rate"
done
# Parts.
ss-capture --start=0.5 --duration=0.25 d/b.wav >part.sst
values part.sst >part.txt
sed -n 8001,12000p file.txt | cmp - part.txt || fail '--start and --duration'
ss-capture --start=1.55 --duration=0.1 d >part.sst # over a clip's end and a whole clip
[ "$(values part.sst | wc -l)" -eq 1600 ] || fail 'parts of several'
matches /dev/stdin 'clip=2' <<X
$(ss-cat part.sst)
X
ss-capture --loop=3 d/b.wav >loop.sst
[ "$(values loop.sst | wc -l)" -eq 72000 ] || fail '--loop'
# Usage.
status 2 ss-capture --loop=2 - <d/b.wav
status 2 ss-capture --where='fold!=1' d
status 2 ss-capture --raw=s16le b.raw
status 2 ss-capture --raw=s16le:16000 b.raw b.raw
status 2 ss-capture d -
status 2 ss-capture --block=1 d
status 3 ss-capture d/notes-folder
status 3 ss-capture @nothing
mkdir none
status 3 ss-capture none
matches err "no sound files in 'none'"
