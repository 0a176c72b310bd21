# Over ss-link, the server killed after its saves: at the end it has the bits of one that was never stopped.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:4 --duration=120 --epoch=5 | ss-featurize | ss-encode --until=3 -m m.safetensors >f.sst
how='--sync-by-count --save-windows=40 --every=8 --start=24 --batch=16'
cp m.safetensors whole.safetensors
# shellcheck disable=SC2086
ss-train --refine -m whole.safetensors --checkpoint=whole.state --journal=whole.journal $how f.sst >/dev/null
cp m.safetensors s.safetensors
# Without a journal what it saves is acknowledged, and at the end of the stream it saves: nobody waits for longer.
cp m.safetensors n.safetensors
status 0 timeout 60 ss-link --drain=100 -- ss-train --refine -m n.safetensors --start=1000 <f.sst
! grep -q acknowledged err || { cat err; fail 'not acknowledged at the end'; }
# What comes from elsewhere may have no start to be told by: its epoch is 0, and its hello is answered all the same.
ss-capture synth:4 --duration=5 | ss-featurize | ss-cat --npy=f.npy
ss-cat --from-npy=f.npy --kind=logmel -o foreign.sst
status 0 timeout 60 ss-link --drain=100 -- ss-train --refine -m n.safetensors --start=1000 <foreign.sst
[ "$(ss-cat out | grep -c ' result ')" -eq "$(ss-cat --count foreign.sst)" ] || fail 'not all has come'
cat >killer.py <<'P'
import os, signal, subprocess, sys, time
p = subprocess.Popen(['ss-link', '-q', '--spool=spool', '--drain=100', '--retry=0.1', '--', 'ss-train', '--refine', '-m',
                      's.safetensors', '--checkpoint=state', '--journal=journal'] + sys.argv[1:],
                     stdin=open('f.sst'), stdout=open('return.sst', 'w'))
killed, saved, kills = 0, 0, 0
while p.poll() is None and kills < 2:
    time.sleep(0.01)
    try:
        pid, now = int(open('s.safetensors.lock').read().split()[0]), os.stat('state').st_mtime_ns
    except (OSError, IndexError, ValueError):
        continue
    if pid != killed and now != saved:
        killed, saved = pid, now
        try:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            pass
assert p.wait() == 0 and kills, (p.returncode, kills)
P
# shellcheck disable=SC2086
python3 killer.py $how
same whole.safetensors s.safetensors
status 0 ss-cat --check return.sst
ss-cat --json return.sst >return.json
python3 - <<'P'
import json
rows = [json.loads(l) for l in open('return.json')][1:]
seqs = [r['seq'] for r in rows if r['type'] == 'result']
assert len(set(seqs)) > 100 and not [r for r in rows if r['type'] in ('ack', 'resume')], len(seqs)
P
