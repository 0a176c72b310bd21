# Made, described, checked; usage errors; a model is not overwritten by a slip; a full disk leaves the old one.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init --seed=3 -o a.safetensors
ss-model init --seed=3 -o b.safetensors
same a.safetensors b.safetensors
ss-model init --seed=4 -o c.safetensors
! cmp -s a.safetensors c.safetensors || fail "another seed gave the same model"
status 3 ss-model init -o a.safetensors
matches err "'a.safetensors' exists: use --force"
same a.safetensors b.safetensors
ss-model init --force --seed=4 -o a.safetensors
same a.safetensors c.safetensors
same a.safetensors.prev b.safetensors
[ ! -e a.safetensors.tmp ] || fail "a temporary file is left"

status 0 ss-model check a.safetensors b.safetensors
[ ! -s out ] && [ ! -s err ] || fail "check says something about whole files"
status 0 ss-model check -v a.safetensors
matches err "'a.safetensors': whole, generation 0"

for w in 1:64:11170240 1/2:32:2795744 1/4:16:700528; do
    name=${w%%:*}
    rest=${w#*:}
    ss-model init -f --width="$name" --norm=batch --mels=128 --frames=64 --dim=32 -o w.safetensors
    status 0 ss-model info --layers w.safetensors
    matches out "width ${rest%%:*} ($name), norm batch"
    matches out "128 mels x 64 frames"
    matches out "^8 .* ${rest#*:} "
    matches out '^layer3.0.downsample.0 1x1/2'
    awk 'length > 80 { exit 1 }' out || fail "info is wider than 80 columns"
done
status 0 ss-model info --json a.safetensors w.safetensors
[ "$(wc -l <out)" -eq 2 ] || fail "not one line of JSON for each model"
if command -v python3 >/dev/null; then
    python3 - <<'PY'
import json
a, w = map(json.loads, open('out'))
assert a['norm'] == 'weight' and a['parameters'] == 717040 and a['frontend_hash'] == ''
assert [c['cut'] for c in a['cuts']] == ['input'] + [str(k) for k in range(9)] + ['embedding']
assert a['cuts'][4] == {'cut': '3', 'shape': [32, 8, 12], 'parameters': 24688, 'macs': 6119424,
                        'f32_bytes': 12288, 'f16_bytes': 6144, 'i8_bytes': 3072}
assert sum(l['macs'] for l in a['layers']) == a['cuts'][-1]['macs']
assert sum(l['parameters'] for l in a['layers']) == a['parameters']
assert w['dim'] == 32 and w['cuts'][9]['shape'] == [128, 4, 2]
PY
fi

for bad in '' 'nonsense' 'init' 'init x -o y' 'info' 'check' 'import -o x' 'import a b -o x' 'export a.safetensors' \
    'info -o x a.safetensors' 'check --json a.safetensors' 'info --width=1 a.safetensors' 'export --dim=3 a -o b' \
    'init --width=3 -o x' 'init --mels=0 -o x' 'init --dim=many -o x' 'init --input-scale=0 -o x'; do
    # shellcheck disable=SC2086
    status 2 ss-model $bad
    [ ! -e x ] || fail "a file was written: $bad"
done

status 3 ss-model init -o /dev/full
matches err '/dev/full.*No space left'
status 3 ss-model init -o not-there/x
matches err 'not-there/x.*No such file'
status 3 ss-model init -f -o .
cp a.safetensors kept
(
    trap '' XFSZ
    ulimit -f 100
    status 3 ss-model init -f --width=1 -o a.safetensors
)
matches err 'File too large'
same a.safetensors kept
[ ! -e a.safetensors.tmp ] || fail "a temporary file is left"
status 6 ss-model init --limit-memory=1M -f -o a.safetensors
same a.safetensors kept
