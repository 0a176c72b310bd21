# The soundscape: labels, clips, folds, times; the same again; start, duration, loop.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:3 --duration=30 --epoch=1000000000 --no-provenance -o a.sst
ss-capture synth:3 --duration=30 --epoch=1000000000 --no-provenance --block=999 --device=1 -o b.sst
ss-capture synth:3 --duration=30 --epoch=1000000000 --no-provenance -o again.sst
status 0 ss-cat --compare=a.sst again.sst
# The same samples, however they are cut.
samples() { ss-cat --json --data "$1" | python3 -c 'import json,sys
for l in sys.stdin:
    r = json.loads(l)
    for v in r.get("data", []): print(v)'; }
samples a.sst >a.txt
samples b.sst >b.txt
same a.txt b.txt
[ "$(wc -l <a.txt)" -eq 480000 ] || fail "samples: $(wc -l <a.txt)"
ss-cat --json a.sst | python3 -c '
import json, sys
head = json.loads(next(sys.stdin))["header"]
assert head["kind"] == "pcm" and head["rate"] == 16000 and len(head["labels"]) == 12, head
at, last, seen = 0, None, set()
for i, line in enumerate(sys.stdin):
    r = json.loads(line)
    a = r["attributes"]
    assert r["seq"] == i and r["device"] == 1 and r["epoch"] == 1000000000
    assert r["time_ns"] == 1000000000 + at * 62500, (r, at)
    assert a["fold"] == a["clip"] % 5 + 1
    if last is not None:
        ended = "clip_end" in str(last["flags"]) or last["flags"] == 1 or "clip-end" in str(last["flags"])
        assert ended == (last["attributes"]["clip"] != a["clip"]), last
        assert ended or last["attributes"].get("label") == a.get("label")
    assert 0 < r["shape"][0] <= 1280
    at += r["shape"][0]
    last = r
    seen.add(a["clip"])
assert at == 480000 and len(seen) > 5
'
# From the middle on, twice.
ss-capture synth:3 --start=10 --duration=5 --loop=2 -o part.sst
samples part.sst >part.txt
sed -n 160001,240000p a.txt >want
cat want want | cmp - part.txt || fail '--start, --duration, --loop'
status 2 ss-capture synth:
status 2 ss-capture synth:x
status 2 ss-capture synth:1 synth:2
status 2 ss-capture --shuffle synth:1
