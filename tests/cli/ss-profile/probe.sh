# The probe: labelled clips in folds, the server's other weights, and its quality in the device's profile.
. "$SS_SRC/tests/cli/lib.sh"
need python3
python3 - <<'P'
import math, random, struct, wave
random.seed(1)
rows = ['file,label,fold']
for fold in 1, 2, 3:
    for i in range(4):
        kind = ('hum', 'hiss')[i % 2]
        name = '%s-%d-%d.wav' % (kind, fold, i)
        w = wave.open(name, 'wb')
        w.setparams((1, 2, 16000, 0, 'NONE', ''))
        tone = random.uniform(200, 300)
        v = [0.3 * math.sin(tone * 2 * math.pi * t / 16000) + random.gauss(0, 0.001) if kind == 'hum' else
             random.gauss(0, 0.1) for t in range(3 * 16000)]
        w.writeframes(b''.join(struct.pack('<h', int(max(-1, min(x, 1)) * 32767)) for x in v))
        w.close()
        rows.append('%s,%s,%d' % (name, kind, fold))
rows.append('hum-1-0.wav,,3')  # no label: not heard
open('clips.csv', 'w').write('\n'.join(rows) + '\n')
P
ss-model init --width=1/4 -o m.safetensors
ss-model init --width=1/4 --seed=2 -o init.safetensors
ss-capture synth:1 --duration=60 | ss-featurize -o f.sst
ss-train -m init.safetensors f.sst >/dev/null 2>&1
status 0 ss-profile m.safetensors --manifest=clips.csv -q -o p.json
cat >look.py <<'P'
import json, sys
p = json.load(open(sys.argv[1]))
assert p['quality'] == {'measure': 'probe', 'full': 1}, p['quality']
assert p['windows'] == 20, p['windows']  # of 4 clips, 5 each
c = {(x['cut'], x['codec']): x for x in p['choices']}
assert all(x['probe'] == 1 for x in c.values()), [(k, x['probe']) for k, x in c.items() if x['probe'] < 1]
P
python3 look.py p.json

# A memory rates them; the windows of the other fold, fewer of each clip.
status 0 ss-profile init.safetensors --manifest=clips.csv --test-fold=1 -n 12 -q -o q.json
python3 - <<'P'
import json
p = json.load(open('q.json'))
assert p['windows'] == 12 and p['u']['of'] == 'novelty' and p['u']['median'] > 0
assert 'drift' in p['u'] and all('by_u' in x for x in p['choices'])
P
status 0 ss-profile init.safetensors --manifest=clips.csv --uncertainty=u -q -o u.json
grep -q '"of":"u"' u.json || fail 'not by u'

# With other weights on the server a cut is finished by them: the earlier, the nearer to what they make of it.
status 0 ss-profile m.safetensors --reference=init.safetensors --manifest=clips.csv -q -o r.json
python3 - <<'P'
import json
c = {(x['cut'], x['codec']): x['cosine']['mean'] for x in json.load(open('r.json'))['choices']}
assert c['input', 'f32'] == 1 and c['embedding', 'f32'] < 0.9, c
P
ss-model init --width=1/2 -o other.safetensors
status 5 ss-profile m.safetensors --reference=other.safetensors --windows=2
matches err architecture

# The device need not have the clips: what the server's profile knows of quality comes with its times.
status 0 ss-profile m.safetensors --windows=2 --server=r.json -q -o d.json
python3 - <<'P'
import json
r, d = (json.load(open(f)) for f in ('r.json', 'd.json'))
assert d['quality'] == r['quality'] and d['u'] == r['u'] and d['windows'] == 2
for x, y in zip(r['choices'], d['choices']):
    assert x['probe'] == y['probe'] and x['cosine'] == y['cosine'] and x['by_u'] == y['by_u']
P
ss-train-policy --profile=d.json --traces=lte --made=5 --seconds=60 --steps=2000 --seeds=1 -o policy.json >/dev/null 2>&1 ||
    fail 'no policy of such a profile'
grep -q '"of": "novelty"' policy.json || fail 'the policy does not say by what it goes'

# Refused.
status 2 ss-profile m.safetensors --manifest=clips.csv synth:1
status 2 ss-profile m.safetensors --test-fold=1
status 5 ss-profile m.safetensors --manifest=clips.csv --test-fold=7
matches err 'no labelled clip is in fold 7'
status 3 ss-profile m.safetensors --manifest=none.csv
printf 'file,label,fold\nhum-1-0.wav,hum,1\nhum-2-0.wav,hum,2\n' >one.csv
status 5 ss-profile m.safetensors --manifest=one.csv
matches err 'too few labelled clips'
