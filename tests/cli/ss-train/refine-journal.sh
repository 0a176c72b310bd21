# Killed at any moment, with a journal: nothing acknowledged is lost, nothing learnt twice, the same bits at the end.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=50 --epoch=5 | ss-featurize | ss-encode --until=3 -m m.safetensors >f.sst
how='--start=24 --every=8 --batch=16 --warmup=5 --sync-by-count --save-windows=40'
refine() { # NAME [OPTION...]
    # shellcheck disable=SC2086
    ss-train --refine -m "$1.safetensors" --checkpoint="$1.state" --journal="$1.journal" $how "$2"
}
cp m.safetensors whole.safetensors
refine whole f.sst >whole.sst
status 0 ss-cat --check whole.sst

export PYTHONPATH="$SS_SRC/tests/cli/ss-train" PYTHONDONTWRITEBYTECODE=1
cat >kills.py <<'P'
import shutil, sys
from drive import *
for n, kills in enumerate(([10, 60], [39, 47, 78], [0, 8, 70, 76])):
    name = 'k%d' % n
    shutil.copy('m.safetensors', name + '.safetensors')
    run(name, kills, sys.argv[1:])
P
# shellcheck disable=SC2086
python3 kills.py $how
for k in k0 k1 k2; do
    cmp whole.safetensors $k.safetensors || fail "$k: another model"
done

# Sent once more as a whole: all is known, and said to be.
cp whole.safetensors before
status 0 refine whole f.sst
same before whole.safetensors
ss-cat --json out >out.json
python3 - <<'P'
import json
rows = [json.loads(l) for l in open('out.json')][1:]
assert [r['type'] for r in rows] == ['ack'], rows
P

# Without a state, the journal from its beginning.
cp m.safetensors j.safetensors
refine j f.sst >/dev/null
mv j.safetensors first.safetensors
rm -r j.state*
cp m.safetensors j.safetensors
cat >empty.py <<'P'
from drive import *
open('empty.sst', 'wb').write(s.stream([], lead))
P
python3 empty.py
status 0 refine j empty.sst
same first.safetensors j.safetensors
# A journal that cannot be written: learning goes on, nothing is acknowledged but by saves.
cat >limit.py <<'P'
import resource, signal, subprocess, sys
def limit():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))
sys.exit(subprocess.run(sys.argv[1:], preexec_fn=limit).returncode)
P
cp m.safetensors l.safetensors
status 3 python3 limit.py ss-train --refine -m l.safetensors --checkpoint=l.state --journal=l.journal --start=1000 f.sst
matches err 'nothing is acknowledged'
matches err 'File too large'
same m.safetensors l.safetensors
ss-cat --json out >out.json 2>/dev/null || true
python3 - <<'P'
import json
rows = [json.loads(l) for l in open('out.json')][1:]
assert len([r for r in rows if r['type'] == 'result']) > 80, 'the stream did not go on'
acks = [r['seq'] for r in rows if r['type'] == 'ack']
assert not acks or acks[-1] < 50, acks
P
