# Sound packed by a codec comes out as it was, or nearly so, as long as it was and in its place; what was lost is passed
# over, what is damaged is found.
. "$SS_SRC/tests/cli/lib.sh"
need python3
capture() { ss-capture synth:6 --duration=9.3 --epoch=1000000000 --no-provenance "$@"; }
capture --dtype=i16 -o i16.sst
capture --codec=flac -o flac.sst
ss-featurize --no-provenance i16.sst -o a.sst
ss-featurize --no-provenance flac.sst -o b.sst
status 0 ss-cat --compare=a.sst b.sst
[ "$(wc -c <flac.sst)" -lt "$(wc -c <i16.sst)" ] || fail 'FLAC saves nothing'
ss-capture synth:6 -d 0.1 --codec=opus -o probe.sst 2>err || { matches err 'built without Opus'; skip 'built without Opus'; }
for block in 1280 8000; do
    capture --codec=opus:32k --block=$block -o opus$block.sst
    ss-featurize opus$block.sst -o o.sst --force
    # The same windows at the same times of the same clips; values within what 32 kbit/s keep.
    status 1 ss-cat --compare=a.sst o.sst
    ! grep -E 'shape|device|sequence|flags|attribute|ends' out || fail 'other windows'
    [ "$(ss-cat o.sst | sed 's/.*time=//; s/ .*//' | md5sum)" = "$(ss-cat a.sst | sed 's/.*time=//; s/ .*//' | md5sum)" ] ||
        fail "--block=$block: other times"
done
[ "$(wc -c <opus1280.sst)" -lt $(($(wc -c <i16.sst) / 5)) ] || fail 'Opus saves too little'
ss-cat --npy=a.npy a.sst
ss-cat --npy=o.npy o.sst
cat >mean.py <<'P'
import array, sys
def read(p):
    b = open(p, 'rb').read()
    return array.array('f', b[10 + b[8] + 256 * b[9]:])
a, o = read('a.npy'), read(sys.argv[1])
d = sum(abs(x - y) for x, y in zip(a, o)) / len(a)
assert len(a) == len(o) and d < float(sys.argv[2]), d
P
python3 mean.py o.npy 1

# A record that was lost: the windows behind it are there.
n=$(ss-cat --count opus1280.sst)
{ ss-cat --slice=0:30 opus1280.sst -o one.sst && ss-cat --slice=31:$n opus1280.sst -o two.sst; }
ss-cat --stream one.sst two.sst | ss-featurize -o lost.sst
[ "$(ss-cat --count lost.sst)" -ge $(($(ss-cat --count a.sst) - 3)) ] || fail 'too much was lost'

# Damage within a payload that has its right checksum: found by what it has to be, said with its record, status 4.
cat >damage.py <<'P'
import os, struct, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
codec, dims, payload = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
b = s.preamble('{"kind":"pcm","rate":16000}')
r = s.record(dtype=s.PACKED, dims=(dims,), seq=0, payload=payload, attrs=[(2, codec)])
open('bad.sst', 'wb').write(b + r)
P
for bad in '8 320 00' '8 320 0105ffff' '8 1000 0003f8fffe' '9 1280 fff8' '9 1280 666f6f' '7 10 00' '8 2000000 0003f8fffe'; do
    # shellcheck disable=SC2086
    python3 damage.py $bad
    case $bad in 7*) want=5 ;; *2000000*) want=6 ;; *) want=4 ;; esac
    status $want ss-featurize bad.sst
    matches err 'record 0: .*\(Opus\|FLAC\|codec 7\|1048576\)'
done

# Refused.
for o in --codec=mp3 --codec=opus:1 '--codec=opus --block=1000' '--codec=flac --dtype=i16'; do
    # shellcheck disable=SC2086
    status 2 ss-capture synth:1 -d 1 $o
done
# Labels of a track that change within a frame.
printf 'start_s,end_s,label\n0,1.001,a\n1.001,2.5,b\n' >track.csv
head -c 96000 /dev/zero >zero.raw
ss-capture --raw=s16le:16000 --labels=track.csv --codec=opus zero.raw -o track.sst
samples() { ss-cat "$1" | sed -n 's/.*packed\[\([0-9]*\)\].*/\1/p' | awk '{ n += $1 } END { print n }'; }
[ "$(samples track.sst)" = 48000 ] || fail "a track of $(samples track.sst) samples"
# From a pipe nobody knows which block is the last one: what the codec holds back stays there.
ss-capture --raw=s16le:16000 --codec=opus <zero.raw | cat >pipe.sst
ss-cat --check pipe.sst
[ "$(samples pipe.sst)" -gt 47500 ] || fail "a pipe of $(samples pipe.sst) samples"
ss-featurize track.sst | ss-cat >text
matches text 'label=a'
matches text 'label=b'
