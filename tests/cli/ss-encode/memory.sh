# A model that carries a memory stamps uncertainty and novelty, on both sides of a cut alike; it knows its front end.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:1 --duration=60 --epoch=7 -o sound.sst
ss-featurize sound.sst >features.sst
ss-encode --until=embedding -m m.safetensors features.sst | ss-cat --json | sed 1d >before.json
! grep -q '"novelty"' before.json || fail 'a model without a memory stamps novelty'
ss-train -m m.safetensors features.sst >/dev/null
ss-encode --until=embedding -m m.safetensors features.sst >whole.sst
ss-encode --until=6 -m m.safetensors features.sst >cut.sst
ss-finish -m m.safetensors cut.sst >z.sst
status 0 ss-cat --compare=whole.sst z.sst
ss-cat --json cut.sst >cut.json
ss-cat --json whole.sst >whole.json
ss-cat --json z.sst >z.json
python3 - <<'P'
import json
rows = lambda f: [json.loads(l) for l in open(f)][1:]
assert not any('u' in r['attributes'] for r in rows('cut.json'))
whole, z = rows('whole.json'), rows('z.json')
stamps = [(r['attributes']['u'], r['attributes']['novelty'], r['attributes']['generation']) for r in z]
assert stamps == [(r['attributes']['u'], r['attributes']['novelty'], r['attributes']['generation']) for r in whole]
assert all(0 <= u <= 1 and 0 <= n <= 2 and g > 0 for u, n, g in stamps), stamps[:5]
assert len(set(stamps)) > len(stamps) // 2
P
ss-featurize --fft=1024 sound.sst >other.sst
status 5 ss-encode --until=3 -m m.safetensors other.sst
matches err "is made for features of hash [0-9a-f]*, the stream has [0-9a-f]*"
