# A reader that goes, a request to stop, a disk that is full: what was learnt is kept.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:3 --duration=60 --epoch=5 | ss-featurize >f.sst
how='--batch=8 --start=16 --every=4'

# Reader gone after some records: death by SIGPIPE, with model and state saved, and nothing said.
cp m.safetensors a.safetensors
cat >gone.py <<'P'
import signal, subprocess, sys
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
p.stdout.read(4000)
p.stdout.close()
said = p.stderr.read()
assert p.wait() == -signal.SIGPIPE and not said, (p.returncode, said)
P
# shellcheck disable=SC2086
python3 gone.py ss-train -m a.safetensors --checkpoint=a.state $how f.sst
ss-model info a.safetensors >info
matches info '[Gg]eneration.* 1$'
[ -s a.state ] || fail 'no state'
# shellcheck disable=SC2086
ss-train -m a.safetensors --checkpoint=a.state $how f.sst >rest.sst
status 0 ss-cat --check rest.sst

# SIGTERM while the input is silent: it ends its stream, and saves.
cp m.safetensors b.safetensors
mkfifo in
(cat f.sst; sleep 20) >in 2>/dev/null &
feeder=$!
# shellcheck disable=SC2086
ss-train -m b.safetensors $how --save-seconds=0 in >b.sst &
learner=$!
python3 - <<'P'
import os, time
for _ in range(300): # until most has been heard
    if os.path.exists('b.sst') and os.path.getsize('b.sst') > 20000:
        break
    time.sleep(0.1)
P
kill -TERM $learner
wait $learner || fail "status $? after SIGTERM"
kill $feeder 2>/dev/null || true
status 0 ss-cat --check b.sst
ss-model info b.safetensors >info
matches info '[Gg]eneration.* 1$'

# A truncated stream: status 4, with what came before it learnt, passed on and saved.
head -c 700000 f.sst >short.sst
cp m.safetensors c.safetensors
# shellcheck disable=SC2086
status 4 ss-train -m c.safetensors $how short.sst
ss-model info c.safetensors >info
matches info '[Gg]eneration.* 1$'

# Nowhere to save: the stream goes on, the old file stands, and the status says it.
mkdir full
cp m.safetensors full/d.safetensors
cat >limit.py <<'P'
import resource, signal, subprocess, sys
def limit():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sys.exit(subprocess.run(sys.argv[1:], preexec_fn=limit).returncode)
P
# shellcheck disable=SC2086
status 3 python3 limit.py ss-train -m full/d.safetensors $how --save-seconds=0 --save-windows=50 f.sst
matches err 'not saved, going on'
same m.safetensors full/d.safetensors
[ "$(ss-cat --count out)" = "$(ss-cat --count f.sst)" ] || fail 'the stream did not go on'
