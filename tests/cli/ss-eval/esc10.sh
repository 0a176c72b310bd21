# Real sound: log-mel statistics of 400 clips in 5 folds tell ten classes far better than chance.
. "$SS_SRC/tests/cli/lib.sh"
need_data esc10
ss-capture --manifest="$SS_TEST_DATA/esc10/manifest.csv" | ss-featurize -o a.sst
status 0 ss-eval --json --metrics=linear_probe,knn,precision_at_10 a.sst
python3 - <<'PY'
import json
r = json.load(open('out'))
assert r['tested'] == 400 and len(r['classes']) == 10 and [f['test'] for f in r['folds']] == [80] * 5
assert 0.75 < r['linear_probe'] < 0.85 and 0.57 < r['knn'] < 0.69 and 0.47 < r['precision_at_10'] < 0.56, r
PY
# Differences in time, and standardised features, say more to every measure.
status 0 ss-eval --json --metrics=linear_probe,knn,precision_at_10 --differences --standardise a.sst
python3 - <<'PY'
import json
r = json.load(open('out'))
assert r['dim'] == 192 and r['linear_probe'] > 0.79 and r['knn'] > 0.69 and r['precision_at_10'] > 0.58, r
PY
