# A policy from a profile and traces, the table beside it, the curve, and what a seed decides.
. "$SS_SRC/tests/cli/lib.sh"
need python3
profile=$SS_SRC/tests/golden/profile-example.json
small='--made=5 --seconds=30 --steps=4000 --hidden=8'
# shellcheck disable=SC2086
status 0 ss-train-policy --profile="$profile" --traces=3g,lte:7 $small -o p.json --log=curve
[ ! -s err ] || fail 'something was said'
mv out table
matches table '^2 traces held out, 62 windows each; .* energy is modelled'
for row in clairvoyant 'causal oracle' learned 'greedy and bandit' 'best fixed ' 'heuristic sane' 'heuristic paper' \
    'edge only embedding/' 'server only input/pcm' 'server only input/opus' 'learned - best fixed'; do
    matches table "^$row"
done
[ "$(wc -l <curve)" -eq 2 ] || fail "$(wc -l <curve) lines of the curve, expected one for each 2048 steps"
matches curve '"steps":4096,"reward":'
matches table 'gap from best fixed to causal oracle'
matches p.json '"format": "streamsplit-policy"'
# shellcheck disable=SC2086
status 0 ss-train-policy --profile="$profile" --traces=3g,lte:7 $small -o again.json
same p.json again.json
same out table
# shellcheck disable=SC2086
status 0 ss-train-policy --profile="$profile" --traces=3g,lte:7 $small --seed=2 --no-report -o other.json
! cmp -s p.json other.json || fail 'another seed gives the same policy'
[ ! -s out ] || fail 'a table that was not wanted'

# As JSON Lines; several seeds; inputs left out; a folder of traces in two formats.
mkdir traces
for i in 1 2 3 4; do ss-netsim --trace=lte:$i --seconds=60 --print >traces/$i.csv; done
python3 -c 'print("\n".join(str(10 * i) for i in range(1, 6000)))' >traces/m
# shellcheck disable=SC2086
status 0 ss-train-policy --profile="$profile" --traces=traces $small --json --seeds=2 --without=u,rtt -o q.json
python3 - <<'P'
import json
rows = [json.loads(l) for l in open('out')]
by = {r['policy'].split(' ')[0]: r for r in rows if 'policy' in r}
assert by['clairvoyant']['reward'] >= by['best']['reward'] - 1e-6, (by['clairvoyant'], by['best'])
assert all(0 <= r['quality'] <= 1 and r['latency_median_ms'] <= r['latency_p95_ms'] for r in by.values())
less = [r for r in rows if 'learned_less' in r]
assert len(less) == 5 and all(r['low'] <= r['difference'] <= r['high'] for r in less)
assert rows[-1]['seeds'] == 2
assert rows[-1]['gap_closed'] is None or rows[-1]['gap_closed_least'] <= rows[-1]['gap_closed_most']
p = json.load(open('q.json'))
assert 'u' not in p['inputs'] and 'rtt' not in p['inputs'] and len(p['inputs']) == 14, p['inputs']
P
# One that is there is scored on other traces, all of them.
status 0 ss-train-policy --profile="$profile" --traces=traces --seconds=30 --score=p.json
matches out '^5 traces held out'
matches out '^learned '
status 5 ss-train-policy --profile="$profile" --traces=traces --score=p.json --hold=7
matches err "is for other actions"
# What was trained runs.
ss-capture synth:1 --duration=4 | ss-featurize >f.sst
mkdir -p S/set
echo 1e6 >S/set/bandwidth
status 0 ss-split-policy --state=S -p q.json -v f.sst
matches err 'decisions of the trained policy'

# Stopped: what there is, is written.
cat >stop.py <<'P'
import os, subprocess, sys, time
p = subprocess.Popen(['ss-train-policy', '--profile=' + sys.argv[1], '--traces=lte', '--made=5', '--seconds=30', '--log=live',
                      '--steps=1000000000', '-o', 'stopped.json'])
end = time.monotonic() + 60
while not (os.path.exists('live') and os.path.getsize('live')):
    assert time.monotonic() < end and p.poll() is None
    time.sleep(0.01)
p.terminate()
assert p.wait(timeout=60) == 0
P
python3 stop.py "$profile"
matches stopped.json '"format": "streamsplit-policy"'

status 2 ss-train-policy
status 2 ss-train-policy --profile="$profile" --traces=lte
matches err '-o is needed'
status 2 ss-train-policy --profile="$profile" --traces=5g -o x
matches err "'5g' is no folder, no file and no preset"
status 2 ss-train-policy --profile="$profile" --traces=lte --without=x -o x
matches err "'x' is no input"
status 3 ss-train-policy --profile=nothing --traces=lte -o x
status 4 ss-train-policy --profile=out --traces=lte -o x
sed 's/streamsplit-profile/streamsplit-other/' "$profile" >bad
status 5 ss-train-policy --profile=bad --traces=lte -o x
printf '5\n4\n' >traces/bad
status 4 ss-train-policy --profile="$profile" --traces=traces -o x
[ ! -e x ] || fail 'a policy was written'
