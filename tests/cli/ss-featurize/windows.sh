# Counts, places, labels and ends of windows.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:4 --duration=40 --epoch=5 -o sound.sst
ss-featurize --no-provenance sound.sst >a.sst
ss-capture synth:4 --duration=40 --epoch=5 --block=331 | ss-featurize >b.sst
status 0 ss-cat --compare=a.sst b.sst
ss-cat --json sound.sst >sound.json
ss-cat --json a.sst >a.json
ss-featurize --partial=pad sound.sst | ss-cat --json >pad.json
python3 - <<'PY'
import json
lines = lambda f: [json.loads(l) for l in open(f)]
head, *blocks = lines('sound.json')
clips = {}
for b in blocks:
    c = clips.setdefault(b['attributes']['clip'], [b['time_ns'], 0, b.get('label'), b['attributes']['fold']])
    c[1] += b['shape'][0]
for name, pad in (('a.json', False), ('pad.json', True)):
    head, *windows = lines(name)
    h = head['header']
    assert h['kind'] == 'logmel' and h['frontend']['mels'] == 64 and len(h['frontend_hash']) == 16, h
    want = []
    for number, (time, n, label, fold) in sorted(clips.items()):
        k = (n - 15600) // 7680 + 1 if n >= 15600 else 0
        rest = n > ((k - 1) * 7680 + 15600 if k else 0)
        for i in range(k + (pad and rest)):
            want.append((number, time + i * 480000000, label, fold, i >= k))
    got = [(w['attributes']['clip'], w['time_ns'], w.get('label'), w['attributes']['fold'], 'pad' in str(w['flags']) or w['flags'] == 4)
           for w in windows]
    assert got == want, [x for x in zip(got, want) if x[0] != x[1]][:3]
    assert [w['seq'] for w in windows] == list(range(len(windows)))
    assert all(w['shape'] == [64, 96] and w['dtype'] == 'f32' for w in windows)
PY
