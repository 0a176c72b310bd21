# What comes out, what is stamped, what is left behind.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:1 --duration=90 --epoch=5 | ss-featurize >f.sst
n=$(ss-cat --count f.sst)

# Before any step the embeddings are those of ss-encode, and so is every cut.
cp m.safetensors a.safetensors
ss-train -m a.safetensors --start=100000 f.sst >a.sst
ss-cat --npy=a.npy a.sst
ss-encode --until=embedding -m m.safetensors f.sst | ss-cat --npy=e.npy
same a.npy e.npy
for cut in input 0 5; do
    ss-train -m m.safetensors --until=$cut f.sst | ss-cat --npy=a$cut.npy
    ss-encode -m m.safetensors --until=$cut f.sst | ss-cat --npy=e$cut.npy
    same a$cut.npy e$cut.npy
done
[ ! -e m.safetensors.lock ] || fail 'a run that learns nothing took the model'

# Learning: small batches, so that it is quick.
cp m.safetensors b.safetensors
ss-train -m b.safetensors --batch=10 --start=20 --every=4 --warmup=5 --log=b.log f.sst >b.sst
status 0 ss-cat --check b.sst
ss-cat --json b.sst >b.json
ss-model info b.safetensors >info
matches info '[Gg]eneration.* 1$'
cmp -s m.safetensors b.safetensors && fail 'nothing was learnt'
python3 - "$n" <<'P'
import json, math, sys
n = int(sys.argv[1])
head, *rows = [json.loads(l) for l in open('b.json')]
assert head['header']['kind'] == 'embedding' and len(rows) == n
assert [r['seq'] for r in rows] == list(range(n))
log = [json.loads(l) for l in open('b.log')]
assert [l['step'] for l in log] == list(range(1, len(log) + 1)) and len(log) == (n - 20) // 4 + 1, len(log)
assert all(math.isfinite(v) for l in log for v in l.values())
assert log[0]['rate'] < log[3]['rate'] and log[-1]['refused'] == log[-1]['skipped'] == 0
start, end = (sum(l['loss'] for l in part) / 8 for part in (log[:8], log[-8:]))
assert end < start - 0.1, (start, end)
for i, r in enumerate(rows):
    a = r['attributes']
    assert 0 <= a['u'] <= 1 and 0 <= a['novelty'] <= 2 and a['split'] in (10, 'embedding') and a['generation'] == 0, a
    assert ('loss' in a) == (i > 19), (i, a)
    assert 't_train' in a and 'w_train' in a
P

# The memory travels with the model: encoding stamps both as well.
ss-encode --until=embedding -m b.safetensors f.sst | ss-cat --json | python3 -c '
import json, sys
rows = [json.loads(l) for l in sys.stdin][1:]
assert all("u" in r["attributes"] and "novelty" in r["attributes"] for r in rows)'

# Smaller payloads; the same whatever the number of threads.
cp m.safetensors c.safetensors
ss-train -m c.safetensors -t 2 --batch=10 --start=20 --every=4 --warmup=5 --dtype=f16 f.sst >c.sst
status 0 ss-cat --compare=b.sst --tolerance=0.001 c.sst
cmp b.safetensors c.safetensors || fail 'threads make a difference'

# Each learner and kind of negatives takes steps.
ss-cat --head=60 --stream f.sst >short.sst
for how in '--learner=cached --dcl' '--learner=contrast' '--learner=contrast --negatives=replay' \
    '--learner=contrast --negatives=both --no-in-batch' '--learner=contrast --negatives=virtual --optimiser=sgd'; do
    cp m.safetensors d.safetensors
    rm -f d.log
    # shellcheck disable=SC2086
    ss-train -m d.safetensors --batch=8 --start=20 --every=8 $how --log=d.log short.sst >/dev/null
    [ "$(wc -l <d.log)" -ge 5 ] || fail "$how: too few steps"
done

# No budget, no step; everything is embedded all the same.
cp m.safetensors d.safetensors
rm d.log
ss-train -m d.safetensors --budget=0 --start=20 --log=d.log f.sst | ss-cat --npy=d.npy
[ ! -s d.log ] || fail 'a step without a budget'
same d.npy e.npy
