# Gradients beside the own learner, gradients of no use, and a server that says nothing.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=26 --epoch=5 | ss-featurize >f.sst

# Windows finished here and windows cut, in turn: each is made with weights that the other learner has moved since this one
# used them last.
part() { # FROM:TO CUT
    ss-cat --stream --slice="$1" f.sst | ss-split-policy --policy=fixed --cut="$2" >"$1.sst"
}
part 0:17 embedding # steps after 5, 10 and 15
part 17:24 3        # and one before the cut
part 24:25 embedding
part 25:26 3
part 26:28 embedding # a step
part 28:29 3
ss-cat --stream 0:17.sst 17:24.sst 24:25.sst >a.sst
ss-cat --stream a.sst 25:26.sst 26:28.sst 28:29.sst >b.sst
for x in a b; do
    rm -rf S
    cp m.safetensors d.safetensors
    cp m.safetensors s.safetensors
    { ss-train -m d.safetensors --until=auto --state=S --gradients=apply --wait-gradients=7 --log=$x.log \
        --batch=8 --every=5 --start=5 $x.sst || echo $? >failed; } | tee $x.out |
        ss-train --refine -m s.safetensors --batch=8 --every=8 --start=8 --gradients=i8 | ss-apply --state=S
    test ! -e failed || fail "status $(cat failed)"
    ss-encode --until=auto -m d.safetensors $x.sst | ss-cat --json --data | tail -n 1 >now.json
    ss-cat --json --data $x.out | tail -n 1 >sent.json
    python3 - <<'P'
import json
sent, now = (json.load(open(x + '.json')) for x in ('sent', 'now'))
assert sent['seq'] == now['seq'] and len(sent['data']) > 100 and sent['data'] == now['data'], (sent, now)
P
    test -z "$(ls S/incoming/gradients)" || fail "gradients stay"
done
python3 - <<'P'
import json
for x, steps in ('a', 3), ('b', 4):
    rows = [json.loads(r) for r in open(x + '.log')]
    lower = [r for r in rows if 'lower_step' in r]
    assert len(rows) - len(lower) == steps and lower == [rows[3]] and lower[0]['present'] == 7, rows
P

# What is of no use is removed, said where it is wrong, and changes nothing.
cat >make.py <<'P'
import os, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'cli', 'ss-apply'))
from lib import *
def gradient(seq, split, scale=1e-3, dims=(32, 8, 12), epoch=5):
    return s.record(s.GRADIENT, dtype=s.I8, dims=dims, device=1, epoch=epoch, seq=seq,
                    attrs=((1, split), (8, 0), (9, s.f32(scale)), (13, 1)), payload=b'\x01' * (dims[0] * dims[1] * dims[2]))
if sys.argv[1] == 'good':
    write('S/incoming/gradients/1.sst', [gradient(0, 4), gradient(1, 4)])
    sys.exit()
for n, rows in enumerate([[gradient(0, 4, epoch=4)], [gradient(0, 3)], [gradient(0, 4, dims=(32, 8, 11))], [gradient(0, 5)],
                          [gradient(0, 4, float('inf'))], [gradient(0, 0)], []]):
    write('S/incoming/gradients/%d.sst' % (n + 1), rows)
write('S/incoming/gradients/8.sst', [gradient(0, 4)], whole=False)
P
rm -rf S
ss-cat --stream --slice=0:2 f.sst >two.sst
cp m.safetensors d.safetensors
ss-cat --stream --slice=0:1 f.sst >one.sst
ss-train -m d.safetensors --checkpoint=state --until=3 --state=S --gradients=apply one.sst >one.out
python3 make.py bad
status 0 ss-train -m d.safetensors --checkpoint=state --until=3 --state=S --gradients=apply --log=c.log two.sst
test -z "$(ls S/incoming/gradients)" || fail "gradients stay"
for why in 'cut at 3' 'found shape' 'windows are cut at 3' 'scale above 0' 'not stamped with a cut' 'trunc\|before'; do
    matches err "gradients are refused.*\($why\)"
done
test ! -s c.log || fail "a step was taken: $(cat c.log)"
for x in m d; do ss-encode --until=3 --no-provenance -m $x.safetensors two.sst | ss-cat --npy=$x.npy; done
same m.npy d.npy

# Gradients that are good are taken without a wait too.
python3 make.py good
ss-cat --stream --slice=0:3 f.sst >three.sst
status 0 ss-train -m d.safetensors --checkpoint=state --until=3 --state=S --gradients=apply --log=c.log three.sst
matches c.log '"present":2'
test "$(ss-cat --count out)" = 1 || fail "sent again"

# A server that says nothing; a reader that goes.
rm -rf S
status 3 ss-train -m d.safetensors --until=3 --state=S --gradients=apply --wait-gradients=8 --wait-seconds=0.3 f.sst
matches err 'no gradient of window 7 has come within 0.3 seconds'
test "$(ss-cat --count out 2>/dev/null || true)" = 8 || fail "what was encoded has not come out"
{ ss-train -m d.safetensors --until=3 --state=S --gradients=apply --wait-gradients=8 f.sst || echo $? >rc; } | head -c 100 >/dev/null
test "$(cat rc)" = 141 || fail "status $(cat rc) when the reader goes"

# Options that do not go together.
for o in '--gradients=apply' '--gradients=apply --state=S' '--gradients=apply --state=S --until=input' '--gradients=f16 --until=3' \
    '--wait-gradients=8 --until=3' '--gradients=apply --state=S --refine'; do
    # shellcheck disable=SC2086
    status 2 ss-train -m d.safetensors $o f.sst
    matches err 'gradients'
done
