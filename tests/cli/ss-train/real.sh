# On five minutes of real sound the loss falls.
. "$SS_SRC/tests/cli/lib.sh"
need_data esc10-stream
need python3
sound=$(ls "$SS_TEST_DATA"/esc10-stream/*.flac | head -n 1)
ss-model init -o m.safetensors
ss-capture --duration=300 "$sound" | ss-featurize | ss-train -m m.safetensors --batch=32 --warmup=10 --log=log >z.sst
status 0 ss-cat --check z.sst
python3 - <<'P'
import json
log = [json.loads(l) for l in open('log')]
start, end = (sum(l['loss'] for l in part) / 8 for part in (log[:8], log[-8:]))
assert end < start - 0.2, (start, end)
assert log[-1]['components'] >= 2 and log[-1]['refused'] == 0, log[-1]
P
