# Two streams, or results put together, clip by clip.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:2 --duration=90 | ss-featurize -o a.sst
# The same clips at half the bands, and i8: another stream, another shape, made in another run.
ss-capture synth:2 --duration=90 | ss-featurize --mels=32 -o b.sst
status 0 ss-eval --compare=b.sst --json --metrics=linear_probe,precision_at_10 a.sst
python3 - <<'PY'
import json
r = json.load(open('out'))
c = r['compare']
assert c['other'] == 'b.sst' and set(c) == {'other', 'linear_probe', 'precision_at_10'}
for k, test in (('linear_probe', 'mcnemar'), ('precision_at_10', 'sign-flip')):
    d = c[k]
    assert d['this'] == r[k] and abs(d['this'] - d['other'] - d['difference']) < 1e-12 and d['test'] == test
    assert d['interval'][0] <= d['difference'] <= d['interval'][1] and 0 < d['p'] <= 1
PY
# The other way round, and with itself.
cp out ab.json
status 0 ss-eval --compare=a.sst --json --metrics=linear_probe,precision_at_10 b.sst
python3 - <<'PY'
import json
a, b = json.load(open('ab.json'))['compare'], json.load(open('out'))['compare']
for k in 'linear_probe', 'precision_at_10':
    assert a[k]['p'] == b[k]['p'] and a[k]['better'] == b[k]['worse'] and abs(a[k]['difference'] + b[k]['difference']) < 1e-12
PY
cp a.sst same.sst
status 0 ss-eval --compare=- a.sst <same.sst
matches out '^linear_probe .* +0.000 .* 0 .* 0  1$'
[ "$(awk 'length > 80' out)" = "" ] || fail 'a line of the table is longer than 80 columns'

# Five runs of a fold each, put together, are the run over all folds.
for f in 1 2 3 4 5; do ss-eval -q --test-fold=$f --json --outcomes a.sst; done >five.jsonl
ss-eval -q --json --outcomes a.sst >whole.json
status 0 ss-eval --results --json --compare=whole.json five.jsonl
python3 - <<'PY'
import json
a, b = json.load(open('out')), json.load(open('whole.json'))
for k in 'linear_probe', 'knn', 'precision_at_10':
    assert abs(a[k] - b[k]) < 1e-12 and abs(a['deviation'][k] - b['deviation'][k]) < 1e-12
    assert a['compare'][k]['difference'] == 0 and a['compare'][k]['p'] == 1
assert len(a['folds']) == 5 and a['tested'] == b['tested']
PY
# Two runs of every clip: outcomes are means.
status 0 ss-eval --results - <five.jsonl
matches out 'results put together'
status 0 ss-eval --results five.jsonl whole.json
[ "$(grep -c '^[1-5] ' out)" -eq 10 ] || fail 'rows of all results'

# Other clips, other labels.
ss-capture synth:2 --duration=60 | ss-featurize -o short.sst
status 5 ss-eval --compare=short.sst a.sst
matches err 'not the same clips'
ss-capture synth:9 --duration=90 | ss-featurize -o other.sst
status 5 ss-eval --compare=other.sst a.sst
