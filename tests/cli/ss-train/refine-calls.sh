# Killed at every system call that writes, in turn (at those that SS_CALLS names; else at some of them), and once more
# when it goes on: what was acknowledged is there, all is learnt from once, and the weights at the end are, to the bit,
# those of a run that was never stopped.
. "$SS_SRC/tests/cli/lib.sh"
need python3
need strace
export ASAN_OPTIONS=detect_leaks=0 # which cannot be done to who is traced
strace -o /dev/null true 2>/dev/null || skip 'strace may not trace here'
export PYTHONPATH="$SS_SRC/tests/cli/ss-train" PYTHONDONTWRITEBYTECODE=1
# It is the death of the process that is survived here, and every save is synced: in memory, where there is some.
if [ -w /dev/shm ]; then
    fast=$(mktemp -d /dev/shm/ss-calls.XXXXXX)
    trap 'rm -rf "$fast"' EXIT
    cd "$fast"
fi
ss-model init --mels=32 --dim=16 -o m.safetensors
ss-capture synth:4 --duration=14 --epoch=5 | ss-featurize --mels=32 | ss-encode --until=3 -m m.safetensors >f.sst
cat >calls.py <<'P'
import json, shutil
from drive import *
how = '-q --start=8 --every=8 --batch=8 --sync-by-count --save-windows=12 --sync-every=8 --mixture-every=4'.split()
calls = os.environ.get('SS_CALLS', '').split()

def weights():
    """The tensors, and the number of saves; the version given out goes by when a delta was due."""
    b = open('k.safetensors', 'rb').read()
    n = struct.unpack_from('<Q', b)[0]
    head = json.loads(b[8:8 + n])
    meta = head.pop('__metadata__')
    return {k: (v, b[8 + n + v['data_offsets'][0]:8 + n + v['data_offsets'][1]]) for k, v in head.items()}, \
        meta['streamsplit.generation']

def attempt(durable, before=[]):
    """Send what is missing, a few at a time: what it ended with, what is durable."""
    server = Server('k', how, before)
    first = server.begin(durable)
    at = first
    while at is not None and at < len(sent):
        for r in sent[at:at + 3]:
            server.put(r)
        at = min(at + 3, len(sent))
        if not server.wait(lambda type, seq: type == s.ACK and seq >= at - 1):
            break
    ended = server.end(first or 0)
    return ended, server.durable(durable if first is None else first - 1)

def clean():
    for f in os.listdir('.'):
        if f.startswith('k.'):
            shutil.rmtree(f) if os.path.isdir(f) else os.unlink(f)
    shutil.copy('m.safetensors', 'k.safetensors')

clean()
assert attempt(-1) == (0, len(sent) - 1)
want, kills = weights(), 0
for call in calls or ('write', 'fsync', 'openat'):  # each has its own count
    k = 1 if calls else 20
    while True:
        clean()
        strace = ['strace', '-o', '/dev/null', '-e', 'trace=' + call, '-e',
                  'inject=%s:signal=KILL:when=%d' % (call, k)]
        ended, durable = attempt(-1, strace)
        if ended == 0:
            break
        again, durable = attempt(durable, strace)
        assert {ended, again} <= {0, -signal.SIGKILL}, (call, k, ended, again)
        kills += 1 + (again != 0)
        got = attempt(durable)
        assert got == (0, len(sent) - 1), (call, k, got)
        assert weights() == want, 'killed at %s %d: other weights' % (call, k)
        k += 1 if calls else 80
    assert attempt(durable)[0] == 0, call  # what was given out leads to these weights
    print(call, kills, flush=True)
assert kills > 4
P
python3 calls.py
