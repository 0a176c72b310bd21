# Manifests: choice, labels, folds, order, loops; label tracks.
. "$SS_SRC/tests/cli/lib.sh"
need python3
make="python3 $SS_SRC/tests/cli/ss-capture/lib.py"
mkdir -p set/audio
for i in 0 1 2 3 4 5; do $make set/audio/$i.wav 16000 1 1.2 $((300 + 100 * i)); done
cat >set/m.csv <<X
file,label,fold,source
audio/0.wav,dog,1,"x, y"
audio/1.wav,cat,2,
audio/2.wav,dog,3,
audio/3.wav,cat,1,
audio/4.wav,bee,2,
"audio/5.wav","a, b",3,
X
clips() { ss-cat --json "$1" | python3 -c '
import json, sys
last = None
for l in sys.stdin:
    r = json.loads(l)
    if "record" not in r: continue
    a = r["attributes"]
    if a["clip"] != last: print(a["clip"], r["label"], a["fold"])
    last = a["clip"] if not r["flags"] else None'; }
ss-capture --manifest=set/m.csv >all.sst
clips all.sst >all.txt
printf '0 dog 1\n1 cat 2\n2 dog 3\n3 cat 1\n4 bee 2\n5 a, b 3\n' >want
same all.txt want
ss-cat --json all.sst >all.json
matches all.json '"labels":\["a, b","bee","cat","dog"\]'
# The table is the same whatever is chosen.
ss-capture --manifest=set/m.csv --where='fold!=1,label==dog' >some.sst
[ "$(clips some.sst)" = '2 dog 3' ] || fail '--where'
ss-cat --json some.sst >some.json
matches some.json '"labels":\["a, b","bee","cat","dog"\]'
# Shuffled: all of them, in an order that the seed fixes and each round changes.
ss-capture --manifest=set/m.csv --shuffle --loop=2 >s1.sst
ss-capture --manifest=set/m.csv --shuffle --loop=2 --seed=1 | ss-cat --compare=s1.sst
clips s1.sst >s1.txt
[ "$(sort -u s1.txt | wc -l)" -eq 6 ] && [ "$(wc -l <s1.txt)" -eq 12 ] || fail '--shuffle'
head -n 6 s1.txt >one
tail -n 6 s1.txt >two
cmp -s one two && fail 'the same order twice'
ss-capture --manifest=set/m.csv --shuffle --seed=2 >s2.sst
clips s2.sst >s2.txt
cmp -s one s2.txt && fail 'the same order for another seed'
# Mistakes.
status 2 ss-capture --manifest=set/m.csv --where='fold=5'
status 5 ss-capture --manifest=set/m.csv --where='colour==5'
matches err "has no column 'colour', only file, label, fold, source"
status 3 ss-capture --manifest=set/none.csv
printf 'file,label\na.wav\n' >bad.csv
status 4 ss-capture --manifest=bad.csv
matches err 'line 2: 1 fields, expected 2'
status 2 ss-capture --manifest=set/m.csv set/audio
# A track: a block has one label, cut at its ends; windows take the label of most of them.
$make long.wav 16000 1 5
printf 'start_s,end_s,label\n3,4,b\n0.5,2.0,a\n4,4.5,\n' >track.csv
ss-capture --labels=track.csv long.wav >long.sst
ss-cat --json long.sst | python3 -c '
import json, sys
runs, at = [], 0
for l in sys.stdin:
    r = json.loads(l)
    if "record" not in r: continue
    label = r.get("label")
    if not runs or runs[-1][0] != label: runs.append([label, 0])
    runs[-1][1] += r["shape"][0]
assert runs == [[None, 8000], ["a", 24000], [None, 16000], ["b", 16000], [None, 16000]], runs'
ss-featurize long.sst | ss-cat --json | python3 -c '
import json, sys
got = [r.get("label", "-") for r in map(json.loads, sys.stdin) if "record" in r]
# window w: samples 7680 w .. + 15600; a is 8000 .. 32000, b 48000 .. 64000
want = []
for w in range(9):
    s, e = 7680 * w, 7680 * w + 15600
    n = {l: max(0, min(e, b) - max(s, a)) for l, a, b in (("a", 8000, 32000), ("b", 48000, 64000))}
    want.append(max(n, key=n.get) if 2 * sum(n.values()) >= 15600 else "-")
assert got == want, (got, want)'
ss-capture --labels=track.csv --start=1.9 --duration=0.2 long.wav | ss-cat --json | python3 -c '
import json, sys
assert [(r["shape"][0], r.get("label")) for r in map(json.loads, sys.stdin) if "record" in r] == [(1280, "a"), (320, "a"), (1280, None), (320, None)]'
status 2 ss-capture --labels=track.csv long.wav long.wav
printf 'start_s,end_s,label\n0,2,a\n1,3,b\n' >bad.csv
status 4 ss-capture --labels=bad.csv long.wav
matches err 'overlaps'
