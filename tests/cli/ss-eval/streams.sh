# Every split and form, on features of a soundscape.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:2 --duration=90 --epoch=1000000000 | ss-featurize --no-provenance -o a.sst
status 0 ss-eval a.sst
cp out table
matches table 'tested on every fold in turn'
for row in fold 1 5 mean deviation 'all tested' '95 % from' to; do matches table "^$row "; done
[ "$(awk 'length > 80' table)" = "" ] || fail 'a line of the table is longer than 80 columns'
# The same from standard input, and again: nothing is left to chance.
ss-eval -q <a.sst >again
same table again
ss-eval -q - <a.sst >again
same table again

# One fold alone says what its row of the rotation says.
status 0 ss-eval --json --folds a.sst
cp out folds.json
status 0 ss-eval --json --test-fold=3 --outcomes --confusion --tag=a=b --tag=a=c --tag=d= a.sst
cp out one.json
python3 - <<'PY'
import json
a, b = json.load(open('folds.json')), json.load(open('one.json'))
row = a['folds'][2]
assert row == b['folds'][0], (row, b['folds'])
for k in 'linear_probe', 'knn', 'precision_at_10', 'silhouette', 'alignment', 'uniformity':
    assert b[k] == row[k] and abs(sum(f[k] * f['test'] for f in a['folds']) / a['tested'] - a[k]) < 1e-9 or 'i' in k, k
assert len(b['outcomes']) == b['tested'] == row['test']
assert sum(o['linear_probe'] for o in b['outcomes']) / b['tested'] == b['linear_probe']
assert sum(map(sum, b['confusion'])) == b['tested']
assert all((o['said'] == o['label']) == bool(o['linear_probe']) for o in b['outcomes'])
assert b['tags'] == {'a': 'c', 'd': ''} and 'tags' not in a and 'outcomes' not in a
assert b['kind'] == 'logmel' and b['dim'] == 128 and b['unit'] == 'clips' and b['pool'] == 'meandev'
assert a['interval']['knn'][0] <= a['knn'] <= a['interval']['knn'][1]
PY

# Pooling: the size of the vectors.
for o in --pool=mean:64 --pool=meandev:128 '--pool=mean --differences:128' --differences:192; do
    # shellcheck disable=SC2086
    status 0 ss-eval --metrics=knn ${o%:*} a.sst
    matches out "${o#*:} features"
done
[ "$(wc -w <out)" -lt 60 ] || fail '--metrics=knn measures more'
status 0 ss-eval --normalise --standardise --metrics=linear_probe,silhouette a.sst
matches out 'linear *silhou$'

# Items: as many windows as have a label; holdouts drawn by the seed.
labelled=$(ss-cat a.sst | grep -c 'label=')
status 0 ss-eval --unit=window --metrics=knn a.sst
matches out "^$labelled windows"
status 0 ss-eval --unit=segment --metrics=knn a.sst
matches out ' segments '
ss-eval -q --holdout=0.3 --json a.sst >h1
ss-eval -q --holdout=0.3 --json a.sst >h2
ss-eval -q --holdout=0.3 --json --seed=2 a.sst >h3
same h1 h2
cmp -s h1 h3 && fail 'another seed gives the same split'

# Trained on one stream, tested on another, whose labels stand in another order.
ss-capture synth:3 --duration=60 | ss-featurize -o b.sst
status 0 ss-eval --train=a.sst --json b.sst
python3 - <<'PY'
import json
b = json.load(open('out'))
assert b['protocol'] == 'trained on another stream' and len(b['folds']) == 1 and b['folds'][0]['train'] > b['tested'] > 5
PY
