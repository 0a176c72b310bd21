# Real sound: calibrated with one fold, the embedding in int8 stays near that in f32 on another.
. "$SS_SRC/tests/cli/lib.sh"
need python3
need_data esc10
list=$SS_TEST_DATA/esc10/manifest.csv
ss-capture -q --manifest="$list" --where='fold==1' | ss-featurize >calibration.sst
ss-capture -q --manifest="$list" --where='fold==5' | ss-featurize >held-out.sst
for model in '--norm=weight' '--norm=batch' '--norm=weight --width=1/2'; do
    # shellcheck disable=SC2086
    ss-model init $model -f -o m
    ss-model quantise m calibration.sst -f -o m8
    ss-encode --batch=16 --until=embedding -m m held-out.sst | ss-cat --json --data --f32 >f32.json
    ss-encode --batch=16 --until=embedding --arith=int8 -m m8 held-out.sst | ss-cat --json --data --f32 >int8.json
    python3 - "$model" <<'P'
import json, math, sys
rows = lambda f: [json.loads(l)['data'] for l in open(f) if '"data":[' in l]
cosines = [sum(p * q for p, q in zip(x, y)) / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))
           for x, y in zip(rows('f32.json'), rows('int8.json'))]
print(sys.argv[1], len(cosines), sum(cosines) / len(cosines), min(cosines))
assert len(cosines) > 500 and sum(cosines) / len(cosines) >= 0.998 and min(cosines) >= 0.995
P
done
