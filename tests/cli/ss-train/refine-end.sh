# Over ss-link, the server killed when it has acknowledged all and has not saved it yet: it is started once more, and when
# ss-link ends the model is there, to the bit that of a run that was never stopped.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export ASAN_OPTIONS=detect_leaks=0 # which cannot be done to who is traced
ss-model init --mels=32 --dim=16 -o m.safetensors
ss-capture synth:4 --duration=14 --epoch=5 | ss-featurize --mels=32 | ss-encode --until=3 -m m.safetensors >f.sst
how='-q --start=8 --every=8 --batch=8 --sync-by-count --save-windows=12'
cp m.safetensors whole.safetensors
# shellcheck disable=SC2086
ss-train --refine -m whole.safetensors --checkpoint=whole.state --journal=whole.journal $how f.sst >/dev/null
cat >serve.sh <<'S'
#!/bin/sh
# The first one runs under what $WITH says.
# shellcheck disable=SC2086
if mkdir first 2>/dev/null; then exec $WITH "$@"; fi
exec "$@"
S
chmod +x serve.sh
cat >end.py <<'P'
import os, shutil, signal, subprocess, sys, time
kill, retry, how = sys.argv[1] == 'kill', sys.argv[2], sys.argv[3:]
END = 52  # bytes of the end record
whole, n = open('f.sst', 'rb').read(), subprocess.check_output(['ss-cat', '--count', 'f.sst'], text=True).strip()
for f in os.listdir('.'):
    if f.startswith(('first', 'S', 'spool', 'journal', 'state')):
        shutil.rmtree(f) if os.path.isdir(f) else os.unlink(f)
shutil.copy('m.safetensors', 's.safetensors')

def read(path):
    try:
        return (open(path).read().split() or [''])[0]
    except OSError:
        return ''

def until(what):
    late = time.monotonic() + 60
    while not what():
        assert time.monotonic() < late and p.poll() is None, p.poll()
        time.sleep(0.01)

p = subprocess.Popen(['ss-link', '-q', '--state=S', '--spool=spool', '--drain=60', '--retry=' + retry, '--', './serve.sh',
                      'ss-train', '--refine', '-m', 's.safetensors', '--checkpoint=state', '--journal=journal'] + how,
                     stdin=subprocess.PIPE, stdout=open('return.sst', 'w'))
p.stdin.write(whole[:-END])
p.stdin.flush()
until(lambda: read('S/link.windows') == n and read('S/queue') == '0')
if kill:
    os.kill(int(read('s.safetensors.lock')), signal.SIGKILL)
    until(lambda: read('S/link') == 'down')
p.stdin.write(whole[-END:])
p.stdin.close()
assert p.wait() == 0, p.returncode
P
# The end comes while the link is down.
export WITH=
# shellcheck disable=SC2086
python3 end.py kill 1 $how
same whole.safetensors s.safetensors
# While it saves at the end, before the state has its name and before the model has: the second exchange and the third,
# since the first save, half-way, found no state to exchange.
strace -o /dev/null true 2>/dev/null || skip 'strace may not trace here'
for when in 2 3; do
    WITH="strace -o $PWD/trace -e trace=renameat2 -e inject=renameat2:signal=KILL:when=$when"
    # shellcheck disable=SC2086
    python3 end.py save 0.05 $how
    matches trace 'killed by SIGKILL'
    same whole.safetensors s.safetensors
done
