# Killed at any moment and started again on the same stream, it ends where a run that was never stopped does, to the bit.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:2 --duration=75 --epoch=5 | ss-featurize >f.sst
how='--batch=12 --start=16 --every=3 --warmup=5 --sync-by-count --save-windows=20'
learn() { # NAME: with a checkpoint
    # shellcheck disable=SC2086
    ss-train -m "$1.safetensors" --checkpoint="$1.state" --log="$1.log" $how f.sst
}
cp m.safetensors whole.safetensors
learn whole >whole.sst
ss-cat --json whole.sst | python3 -c '
import json, sys
g = [json.loads(l).get("attributes", {}).get("generation", 0) for l in sys.stdin][1:]
assert g == [i // 20 for i in range(len(g))], g'

cat >kill.py <<'P'
# run the command of argv[2:] three times at most, killing it after a while; argv[1]: seconds to the first kill
import os, signal, subprocess, sys, time
wait = float(sys.argv[1])
for attempt in range(3):
    p = subprocess.Popen(sys.argv[2:], stdout=open('part%d.sst' % attempt, 'wb'))
    try:
        p.wait(timeout=wait * (attempt + 1))
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGKILL)
        p.wait()
P
run=$(python3 -c '
import subprocess, sys, time, shutil
shutil.copy("m.safetensors", "timed.safetensors")
t = time.time()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.time() - t)' ss-train -m timed.safetensors --checkpoint=timed.state $how f.sst)
for share in 0.2 0.5; do
    cp m.safetensors k.safetensors
    rm -f k.state* k.log part*.sst
    # shellcheck disable=SC2086
    python3 kill.py "$(python3 -c "print($run * $share)")" ss-train -m k.safetensors --checkpoint=k.state --log=k.log $how f.sst
    learn k >last.sst
    cmp whole.safetensors k.safetensors || fail "killed at $share of the way: another model"
    tail -n 1 whole.log >a
    tail -n 1 k.log >b
    [ ! -s last.sst ] || ss-cat --json last.sst >last.json
    python3 - <<'P'
import json, subprocess
def rows(name):
    out = subprocess.run(['ss-cat', '--json', name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {r['seq']: r for r in map(json.loads, out.splitlines()[1:])}
keep = ('u', 'novelty', 'loss', 'generation')
whole = {s: [r['attributes'].get(k) for k in keep] for s, r in rows('whole.sst').items()}
seen = set()
for name in ('part0.sst', 'part1.sst', 'part2.sst', 'last.sst'):
    try:
        part = rows(name)
    except FileNotFoundError:
        continue
    for s, r in part.items():
        assert [r['attributes'].get(k) for k in keep] == whole[s], (name, s)
    seen |= set(part)
P
done

# Heard again as a whole, nothing is learnt twice: the model stays.
cp whole.safetensors before
status 0 ss-train -v -m whole.safetensors --checkpoint=whole.state $how f.sst
matches err "were passed over"
same before whole.safetensors
[ "$(ss-cat --count out)" = 0 ] || fail 'windows passed over were passed on'

# A model file older than the state is brought up to it; a state that is damaged is left for the one before.
cp m.safetensors whole.safetensors
status 0 ss-train -m whole.safetensors --checkpoint=whole.state $how f.sst
same before whole.safetensors
size=$(wc -c <whole.state)
printf 'x' | dd of=whole.state bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
status 0 ss-train -m whole.safetensors --checkpoint=whole.state $how f.sst
matches err 'the one before it is taken'
same before whole.safetensors

# The state of another learner is refused.
status 5 ss-train -m whole.safetensors --checkpoint=whole.state --batch=13 --start=16 --every=3 f.sst
matches err 'cannot go on from'
