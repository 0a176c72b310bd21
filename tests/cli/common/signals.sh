# Signals and pipes: a filter whose reader has gone dies of SIGPIPE, also under a parent that ignores it; the first SIGINT
# ends a stream properly; a second one kills.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init -o m.safetensors
ss-capture synth:1 --duration=10 -o pcm.sst
ss-featurize pcm.sst -o features.sst
ss-encode --until=3 -m m.safetensors features.sst -o cut.sst

# dies_of_sigpipe COMMAND...: its output goes to a pipe whose reader has gone.
cat >gone.py <<'P'
import os, signal, subprocess, sys
for ignore in (False, True):
    signal.signal(signal.SIGPIPE, signal.SIG_IGN if ignore else signal.SIG_DFL)
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run(sys.argv[1:], stdout=w, stderr=subprocess.PIPE, restore_signals=False, stdin=subprocess.DEVNULL)
    os.close(w)
    if p.returncode != -signal.SIGPIPE or p.stderr:
        sys.exit(f'{sys.argv[1:]}: parent ignores: {ignore}: status {p.returncode}, said {p.stderr!r}')
P
need python3
python3 gone.py ss-capture synth:1 --duration=1000
for i in 1 2 3 4 5; do cat features.sst; done >/dev/null # warm
ss-capture synth:1 --duration=200 | ss-featurize -o long.sst
python3 gone.py ss-featurize pcm.sst
python3 gone.py ss-split-policy long.sst
python3 gone.py ss-encode --until=3 -m m.safetensors long.sst
python3 gone.py ss-finish -m m.safetensors cut.sst
cp m.safetensors t.safetensors
python3 gone.py ss-train -m t.safetensors long.sst

# SIGINT to the whole pipeline, as a terminal sends it: every stage ends with 0 and the stream is whole.
cat >int.py <<'P'
import os, signal, subprocess, sys, time
p = subprocess.Popen(['bash', '-c', 'set -o pipefail; trap "" INT; (trap - INT; exec ss-capture synth:1 --realtime) | (trap - INT; exec ss-featurize) | '
    '(trap - INT; exec ss-encode --until=3 -m m.safetensors) | (trap - INT; exec ss-finish -m m.safetensors -o int.sst)'], start_new_session=True)
time.sleep(3)
os.killpg(p.pid, signal.SIGINT)
sys.exit(p.wait(timeout=30))
P
python3 int.py || fail "an interrupted pipeline ended with status $?"
status 0 ss-cat --check int.sst
[ "$(ss-cat --count int.sst)" -ge 2 ] || fail 'the interrupted stream holds too little'

# A filter alone, whose input stays open and silent: it ends its stream by itself after a second.
mkfifo open
sleep 30 >open &
holder=$!
ss-featurize open -o alone.sst 2>alone.err &
filter=$!
sleep 0.3
kill -TERM $filter
wait $filter || true
kill $holder 2>/dev/null || true
[ ! -s core ] || fail 'it dumped core'
