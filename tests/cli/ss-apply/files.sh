# What comes in is laid out, each in its place, whole; what is not wanted is dropped and counted.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >make.py <<'P'
import os, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'cli', 'ss-apply'))
from lib import *
write('all.sst', [s.record(s.ACK, seq=3), result(7, 0.25), mixture(1), delta(5), s.record(s.RESUME, seq=3), gradient(1, 4, 2),
    result(8, 0.5), gradient(2, 4, 2), s.record(200, dtype=s.U8, dims=(3,), payload=b'abc'), s.record(s.KEEPALIVE, device=0),
    delta(6), mixture(2), gradient(3, 4), s.record(s.RESULT, seq=9, attrs=((8, 4),))])
write('one.sst', [mixture(2)])
write('old.sst', [delta(n) for n in range(1, 9)] + [delta(9, 9), delta(10, payload=b'')])
write('steps.sst', [gradient(n, 1) for n in range(20)])
# Steps that are not whole: another generation, another count, a window for the second time, the end of the stream.
write('torn.sst', [gradient(1, 1, 3), gradient(2, 1, 3), gradient(1, 2, 2), gradient(2, 2, 2), gradient(1, 2, 2),
    gradient(1, 2, 3), gradient(2, 2, 3), gradient(2, 2, 3), gradient(1, 2, 3, device=2), gradient(3, 2, 3), gradient(5, 9, 2)])
write('large.sst', [gradient(1, 1, 0), gradient(1, 1, 5000)])
write('many.sst', [delta(n) for n in range(1, 71)])
write('wild.sst', [result(1, float('nan')), result(2, float('inf')), s.record(s.RESULT, seq=3, attrs=((3, s.f32(0.5)), (4, s.f32(float('-inf')))))])
write('cut.sst', [result(1, 0.125), delta(3)], whole=False)
P
python3 make.py
status 0 ss-apply --state=S -v all.sst
for t in ack resume keepalive unknown; do matches err "type $t are passed over"; done
[ "$(cat S/uncertainty.server)" = '8 0.5' ] || fail "uncertainty is $(cat S/uncertainty.server)"
[ "$(cat S/novelty.server)" = '8 1' ] || fail "novelty is $(cat S/novelty.server)"
[ ! -e S/loss.server ] || fail 'a loss that never came'
counts() { cat S/apply.results S/apply.mixtures S/apply.deltas S/apply.gradients S/apply.dropped | tr '\n' ' '; }
[ "$(counts)" = '3 2 2 2 0 ' ] || fail "counts are $(counts)"
[ "$(cd S/incoming && find . -type f | sort | tr '\n' ' ')" = './delta.5.sst ./delta.6.sst ./gradients/1.sst ./gradients/2.sst ./mixture.sst ' ] ||
    fail "laid out: $(find S/incoming)"
for f in S/incoming/*.sst S/incoming/gradients/*.sst; do status 0 ss-cat --check "$f"; done
# As they came, in a stream of their own that says for which architecture they are.
ss-cat S/incoming/mixture.sst >mixture.txt
matches mixture.txt 'return.*arch=0123456789abcdef'
[ "$(tail -n 1 mixture.txt)" = "$(ss-cat one.sst | tail -n 1)" ] || fail 'not the mixture that came'
ss-cat --json S/incoming/gradients/1.sst >step.json
[ "$(grep -c '"gradient"' step.json)" -eq 2 ] || fail 'a step of two records'
ss-cat --json S/incoming/delta.6.sst >delta.json
matches delta.json '"version_from":5.*"version_to":6'

# What is merged already, leads nowhere or is empty.
rm -r S
mkdir S
echo 6 >S/version
status 0 ss-apply --state=S old.sst
[ "$(ls S/incoming | tr '\n' ' ')" = 'delta.7.sst delta.8.sst gradients ' ] || fail "laid out: $(ls S/incoming)"
[ "$(cat S/apply.dropped)" = 8 ] || fail 'number dropped'

# The newest steps are kept, and their numbers go on in the next run, behind what is still there.
status 0 ss-apply --state=S steps.sst
[ "$(ls S/incoming/gradients | sort -n | tr '\n' ' ')" = "$(seq -s ' ' -f '%g.sst' 5 20) " ] || fail "steps: $(ls S/incoming/gradients)"
[ "$(counts)" = '0 0 0 20 4 ' ] || fail "counts are $(counts)"
status 0 ss-apply --state=S --gradients=2 --durable steps.sst
[ "$(ls S/incoming/gradients | tr '\n' ' ')" = '39.sst 40.sst ' ] || fail "steps: $(ls S/incoming/gradients)"
rm -r S
status 0 ss-apply --state=S --gradients=0 steps.sst
[ "$(counts)" = '0 0 0 0 20 ' ] || fail "counts are $(counts)"
status 0 ss-apply --state=S torn.sst
[ "$(counts)" = '0 0 0 2 4 ' ] || fail "counts are $(counts)"
[ -z "$(find S/incoming -name '.*.new')" ] || fail 'a temporary file is left behind'
status 0 ss-apply --state=S large.sst
[ "$(counts)" = '0 0 0 0 2 ' ] || fail "counts are $(counts)"

# A learner that takes nothing: bounded.
rm -r S
status 0 ss-apply --state=S many.sst
[ "$(find S/incoming -name 'delta.*' | wc -l)" -eq 64 ] || fail "$(ls S/incoming)"
[ "$(counts)" = '0 0 64 0 6 ' ] || fail "counts are $(counts)"
status 0 ss-apply --state=S wild.sst
[ "$(cat S/uncertainty.server)" = '3 0.5' ] || fail 'a number that is none'
[ ! -e S/novelty.server ] || fail 'a novelty that is no number'

# Truncated: what came before is there.
rm -r S
status 4 ss-apply --state=S cut.sst
[ "$(cat S/uncertainty.server)" = '1 0.125' ] || fail 'what came before is lost'
status 0 ss-cat --check S/incoming/delta.3.sst

# Refused; and what cannot be laid down is said, and the rest is.
status 2 ss-apply all.sst
status 2 ss-apply --state=S all.sst all.sst
status 3 ss-apply --state=all.sst all.sst
ss-capture synth:1 --duration=1 >pcm.sst
status 5 ss-apply --state=S pcm.sst
rm -r S
mkdir -p S/incoming/mixture.sst S/uncertainty.server
status 3 ss-apply --state=S all.sst
matches err 'mixture dropped: cannot rename'
matches err 'could not all be laid down\|not all that came'
[ -f S/incoming/delta.6.sst ] || fail 'the rest was given up too'
[ "$(counts)" = '3 0 2 2 2 ' ] || fail "counts are $(counts)"
