# Which cut each policy takes, what it goes by, what is refused; the rest of the stream is left as it was.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:1 --duration=14 --epoch=5 | ss-featurize >f.sst
cuts() { ss-cat "$1" | sed -n 's/.* data .* split=\([^ ]*\).*/\1/p'; }
all() { # CUT: every window is stamped so
    [ "$(cuts out | sort -u)" = "$1" ] || fail "stamps: $(cuts out), expected $1"
}

# Fixed: any cut, with nothing else known; payloads and their order are unchanged.
for k in input 0 8 embedding; do
    status 0 ss-split-policy --policy=fixed --cut=$k f.sst
    all $k
    [ ! -s err ] || fail 'something was said'
done
ss-cat --npy=a.npy out
ss-cat --npy=b.npy f.sst
same a.npy b.npy
ss-cat --json out >out.json
matches out.json '"t_policy"'
matches out.json '"w_policy"'
mv out stamped.sst
status 0 ss-cat --check stamped.sst

# The heuristic at its extremes: set by hand, load, bandwidth as a share of --bandwidth-max.
mkdir -p S/set
for case in '0 0 7 4' '1 0 3 1' '0 9e6 4 7' '1 9e6 1 3' '0 2e6 7 5' '0 3e6 6 5'; do
    # shellcheck disable=SC2086
    set -- $case # cpu, bandwidth, stamp of the sane sign, of the paper's
    echo "$1" >S/set/cpu
    echo "$2" >S/set/bandwidth
    status 0 ss-split-policy --state=S --bandwidth-max=9e6 f.sst
    all "$3"
    [ "$(cat S/split)" = "20 $3" ] || fail "S/split is $(cat S/split)"
    status 0 ss-split-policy --state=S --bandwidth-max=9e6 --sign=paper f.sst
    all "$4"
done

# Each decision can be followed: the first, and one every so many windows; what is not known is told as -.
status 0 ss-split-policy --state=S --explain --every=7 f.sst
n=$(ss-cat --count f.sst)
[ "$(grep -c '^ss-split-policy: window ' err)" -eq $(((n + 6) / 7)) ] || fail 'number of decisions'
matches err 'window 0: cut - -> 7, first: cpu 0, bandwidth 3e+06, rtt -, u -,'
matches err 'window 7: cut 7 -> 7, time: .* x 7.04$'

# By hand goes before every policy; nonsense by hand does not, and is said.
echo embedding >S/set/split
for policy in fixed heuristic file; do
    status 0 ss-split-policy --policy=$policy --state=S f.sst
    all embedding
    [ "$(cat S/split)" = '20 embedding' ] || fail "S/split is $(cat S/split)"
done
echo 9 >S/set/split
status 0 ss-split-policy --policy=file --cut=2 --state=S f.sst
all 2
matches err "set/split' is '9', expected"
rm S/set/split
status 0 ss-split-policy --policy=file --cut=2 --state=S f.sst
all 2
[ "$(grep -c 'set/split' err)" -eq 1 ] || fail 'that there is no cut by hand is to be said once'

# A directory that is new: what is missing counts as one half, and is said once.
echo 0.5 >S/set/cpu
rm S/set/bandwidth
status 0 ss-split-policy --state=S f.sst
all 4
[ "$(grep -c "bandwidth' is not there" err)" -eq 1 ] || fail 'that there is no bandwidth is to be said once'
rm -r S
status 0 ss-split-policy --state=S f.sst
[ -f S/split ] || fail 'no state directory was made'
echo nonsense >S/bandwidth
echo 0.5 >S/set/cpu
status 0 ss-split-policy --state=S f.sst
all 4
# Nothing at all but the machine: no message, a cut all the same.
status 0 ss-split-policy f.sst
[ ! -s err ] || fail 'something was said'
[ "$(cuts out | wc -w)" -eq "$n" ] || fail 'a window without a stamp'

# Gaps and unknown records pass; so does a state directory that cannot be written to any more.
cat >make.py <<'P'
import os, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
lead = s.preamble('{"kind":"logmel"}')
open('mixed.sst', 'wb').write(s.stream([s.record(s.GAP, seq=1, attrs=((13, 2),)),
    s.record(200, dtype=s.U8, dims=(3,), attrs=((60, 5),), payload=b'abc'),
    s.record(dtype=s.F32, dims=(1, 2), seq=3, attrs=((3, s.f32(0.25)),), payload=bytes(8))], lead))
P
python3 make.py
rm S/split
mkdir S/split
status 0 ss-split-policy --policy=fixed --state=S --explain mixed.sst
matches err "cannot replace 'S/split'"
matches err 'u 0.25'
ss-cat --json out >out.json
[ "$(grep -c '"split":' out.json)" -eq 1 ] || fail 'only data is stamped'
matches out.json '"attr60"'

# Several cuts take turns.
ss-split-policy --policy=fixed --cut=embedding,input,3 --every=2 f.sst | ss-cat | sed -n 's/.* split=\([^ ]*\).*/\1/p' | head -8 | tr '\n' ' ' >turns
test "$(cat turns)" = 'embedding embedding input input 3 3 embedding embedding ' || fail "turns: $(cat turns)"

# Refused.
status 2 ss-split-policy --policy=fixed --cut=3, f.sst
status 2 ss-split-policy --policy=fixed --cut=9 f.sst
matches err 'expected input, 0..8 or embedding'
status 2 ss-split-policy --policy=file f.sst
status 2 ss-split-policy --every=0 f.sst
status 2 ss-split-policy f.sst f.sst
status 3 ss-split-policy --state=f.sst f.sst
ss-capture synth:1 --duration=1 >pcm.sst
status 5 ss-split-policy pcm.sst
matches err kind
