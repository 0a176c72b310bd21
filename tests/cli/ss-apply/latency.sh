# Latencies: of live sound by this machine's clock, of stages as the results say.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >make.py <<'P'
import os, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'cli', 'ss-apply'))
from lib import *
old = len(sys.argv) > 1
def timed(seq, worked, waited):
    # t_featurize, t_finish and w_finish, in microseconds
    begun = time.time_ns() - 2960 * 10**6 if not old else 10**9
    return s.record(s.RESULT, seq=seq, time=begun, attrs=((17, 250), (23, worked), (31, waited)))
write('timed.sst', [timed(0, 9000, 0), timed(1, 2000, 500), timed(2, 4000, 1500)])
P
python3 make.py
status 0 ss-apply --state=S timed.sst
[ "$(cat S/latency.finish)" = 4 ] || fail "finish: $(cat S/latency.finish)" # the first is written down at once; then the mean of 2.5 and 5.5
[ "$(cat S/latency.featurize)" = 0.25 ] || fail "featurize: $(cat S/latency.featurize)"
[ ! -e S/latency.train ] || fail 'a stage that was not there'
# Two seconds before the file was made, and a little more.
awk '{ exit !($1 >= 2000 && $1 < 62000) }' S/latency || fail "latency: $(cat S/latency)"
# Sound that is not live has none.
rm -r S
python3 make.py old
status 0 ss-apply --state=S timed.sst
[ ! -e S/latency ] || fail 'a latency of old sound'
[ "$(cat S/latency.finish)" = 4 ] || fail 'stages of old sound'
