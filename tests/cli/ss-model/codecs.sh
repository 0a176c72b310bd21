# Codecs learnt, listed, kept by what copies a model and by learning; the same bits for any number of threads; refusals; damage.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:3 --duration=30 --epoch=7 | ss-featurize >a.sst
n=$(ss-cat --json a.sst | grep -c '"type":"data"')
ss-model init -o m
status 0 ss-model info m
matches out '^codecs        none$'
set -- --cuts=4,embedding --channels=4,16 --steps=20 --patch=2
status 0 ss-model codecs "$@" m a.sst -o c
mv out table
[ "$(wc -l <table)" = 9 ] || fail "not a head and four codecs for each of two cuts"
awk 'NR > 1 { if ($4 < 0.2 || $4 > 1 || $5 > $4) exit 1 }' table || fail 'cosines out of range'
awk '$1 == "4" { b[$2] = $3; z[$2] = $4 } END { exit !(b["b4i4"] < b["b16i4"] && b["b16i4"] < b["b16i8"] && z["b4i4"] < z["b16i8"] && z["b16i8"] > 0.95) }' table ||
    fail 'more channels and bits are not more bytes and a better embedding'
[ ! -s err ] || fail 'progress, and no terminal'
status 0 ss-model check c
status 0 ss-model info c
matches out "^codecs        cut 4: bCi4 and bCi8, C = 4 16; $n windows\$"
matches out "^              cut embedding: bCi4 and bCi8, C = 4 16; $n windows\$"
awk 'length > 80 { exit 1 }' out || fail "info is wider than 80 columns"
status 0 ss-model codecs -t 3 --json "$@" m -o c3 <a.sst
same c c3
status 0 ss-model info --json c
python3 - "$n" <<'P'
import json, sys
c = json.load(open('out'))['codecs']
assert [r['cut'] for r in c] == ['4', 'embedding'] and c[0]['names'] == ['b4i4', 'b4i8', 'b16i4', 'b16i8'], c
assert c[0]['windows'] == int(sys.argv[1]) and c[0]["patch"] == 2 and c[1]['patch'] == 1 and c[0]['generation'] == 0, c
P
status 0 ss-model codecs "$@" --seed=2 m a.sst -o c4
! cmp -s c c4 || fail 'another seed gave the same codecs'

# One cut anew: the other ones stay. What learns or is calibrated keeps them.
status 0 ss-model codecs --cuts=4 --channels=8 --patch=2 --windows=40 --price=1e-4 --steps=0 c a.sst -o d
status 0 ss-model info d
matches out '^codecs        cut 4: bCi4 and bCi8, C = 8; 40 windows$'
matches out "^              cut embedding: bCi4 and bCi8, C = 4 16; $n windows\$"
ss-model quantise c a.sst -o q
status 0 ss-model info q
matches out 'cut embedding: bCi4 and bCi8, C = 4 16'
cp c learnt
ss-train -m learnt --every=8 --batch=8 a.sst >/dev/null
status 0 ss-model info learnt
matches out '^generation    [1-9]'
matches out 'cut embedding: bCi4 and bCi8, C = 4 16'
ss-encode --until=4 --codec=b16i8 -m c a.sst | ss-finish -m learnt | ss-cat --count >count
[ "$(cat count)" = "$(ss-cat --count a.sst)" ] || fail 'a model that has learnt on does not finish'
cp c refined
ss-encode --until=4 --codec=b16i8 -m c a.sst >packed.sst
ss-train --refine -m refined --start=16 --batch=16 packed.sst >/dev/null
status 0 ss-model info refined
matches out '^generation    [1-9]'
matches out '^codecs        cut 4: bCi4 and bCi8, C = 4 16'
status 0 ss-finish -m refined packed.sst
# Codecs anew for what has learnt on: others, for whoever has the old ones.
status 0 ss-model codecs --cuts=4 --channels=16 --patch=2 --steps=0 learnt a.sst -o anew
status 5 ss-finish -m anew packed.sst
matches err 'record 0: found a payload of b16i8 at cut 4 from training .. of the codec, the model has ..: both ends need the same'
ss-model codecs --cuts=4 --channels=4 --steps=0 -f m a.sst -o c3 # in place of one that there is
ss-model info c3.prev >/dev/null

# The state dict has none of them.
ss-model export c -o c.state
ss-model export m -o m.state
same c.state m.state

for bad in '' 'm' 'm a.sst --cuts=9 -o x' 'm a.sst --cuts=input -o x' 'm a.sst --channels=0 -o x' 'm a.sst --channels=4,256 -o x' \
    'm a.sst --channels=1,2,3,4,5,6,7,8,9 -o x' 'm a.sst --windows=1 -o x' 'm a.sst --price=2 -o x' 'm a.sst --patch=9 -o x' \
    'm a.sst --channels=8,4 -o x' 'm a.sst --layers -o x'; do
    # shellcheck disable=SC2086
    status 2 ss-model codecs $bad
    [ ! -e x ] || fail "a file was written: $bad"
done
status 2 ss-model info --cuts=4 m
status 3 ss-model codecs m a.sst -o c
matches err "use --force"
status 3 ss-model codecs m not-there -o x
ss-cat --stream --first=1 a.sst >one.sst 2>/dev/null || ss-capture synth:3 --duration=1 | ss-featurize >one.sst
status 5 ss-model codecs --cuts=4 m one.sst -o x
matches err 'windows? to learn\|1 windows'
ss-encode --until=3 -m m a.sst >3.sst
status 5 ss-model codecs m 3.sst -o x
status 6 ss-model codecs --limit-memory=4M m a.sst -o x
[ ! -e x ] || fail 'a file was written'

# Damage in the codecs of one cut: who does not use them does not see it.
python3 - <<'P'
import json, struct
b = bytearray(open('c', 'rb').read())
n = struct.unpack('<Q', b[:8])[0]
h = json.loads(b[8:8 + n])
at = 8 + n + h['codec.4.frequency.8']['data_offsets'][0]
b[at] ^= 1
open('bad', 'wb').write(b)
P
status 4 ss-model check bad
matches err "codec.4.frequency.8"
status 4 ss-encode --until=4 --codec=b16i8 -m bad a.sst
matches err "codec.4.frequency.8"
status 0 ss-encode --until=4 -m bad a.sst
status 0 ss-encode --until=embedding --codec=b16i8 -m bad a.sst
