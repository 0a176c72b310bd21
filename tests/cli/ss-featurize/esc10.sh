# Real sound: 400 clips of 5 s are 3600 windows, and of the statistics that the networks here are made for.
. "$SS_SRC/tests/cli/lib.sh"
need_data esc10
need python3
ss-capture --manifest="$SS_TEST_DATA/esc10/manifest.csv" --where='fold!=5' | ss-featurize >train.sst
[ "$(ss-cat --count train.sst)" -eq 2880 ] || fail 'windows of folds 1 to 4'
ss-capture --manifest="$SS_TEST_DATA/esc10/manifest.csv" | ss-featurize >all.sst
[ "$(ss-cat --count all.sst)" -eq 3600 ] || fail 'windows'
ss-cat --npy=all.npy all.sst
ss-cat --json all.sst | python3 -c '
import array, collections, json, sys
records = [r for r in map(json.loads, sys.stdin) if "record" in r]
n = collections.Counter((r["label"], r["attributes"]["fold"]) for r in records)
assert len(n) == 50 and set(n.values()) == {72}, n
x = array.array("f", open("all.npy", "rb").read()[-3600 * 6144 * 4:])
part = x[::101]
mean = sum(part) / len(part)
deviation = (sum((v - mean) ** 2 for v in part) / len(part)) ** 0.5
print(mean, deviation)
assert -4.7 < mean < -4.2 and 5.4 < deviation < 5.9 and min(x) > -13.8156'
# The same sound in one file, with a track of labels.
need_data esc10-stream
d=$SS_TEST_DATA/esc10-stream
ss-capture --labels="$d/labels.csv" "$d/esc10-stream.flac" | ss-featurize >stream.sst
ss-cat --json stream.sst | python3 -c '
import csv, json, sys
track = [(float(r["start_s"]), float(r["end_s"]), r["label"]) for r in csv.DictReader(open(sys.argv[1]))]
windows = [r for r in map(json.loads, sys.stdin) if "record" in r]
start, n = windows[0]["time_ns"], 0
for w in windows:
    at = (w["time_ns"] - start) / 1e9
    inside = [l for s, e, l in track if s <= at and at + 0.975 <= e]
    if inside:
        assert w["label"] == inside[0], (at, w["label"], inside)
        n += 1
assert n > 1000, n' "$d/labels.csv"
