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

cat >drive.py <<'P'
"""A device that sends, and is told what is durable; its server is killed."""
import os, signal, struct, subprocess, sys, threading
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
b = open('f.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', b, 12)[0] + 4
lead, sent = b[:at], []
while b[at + 4] != s.END:
    end = at + 4 + struct.unpack_from('<I', b, at)[0]
    sent.append(b[at:end])
    at = end
device, epoch = struct.unpack_from('<IQ', sent[0], 12 + 4 * sent[0][7])
hello = s.record(s.KEEPALIVE, device=device, epoch=epoch, time=0)

class Server:
    def __init__(self, name, how):
        self.p = subprocess.Popen(['ss-train', '--refine', '-m', name + '.safetensors', '--checkpoint=' + name + '.state',
                                   '--journal=' + name + '.journal'] + how, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.records, self.said = [], threading.Condition()
        self.results = {}
        threading.Thread(target=self.read, daemon=True).start()
        self.put(lead)
    def put(self, data):
        try:
            self.p.stdin.write(data)
            self.p.stdin.flush()
        except BrokenPipeError:
            pass
    def read(self):
        f = self.p.stdout
        head = f.read(16)
        if len(head) == 16:
            f.read(struct.unpack_from('<I', head, 12)[0] + 4)
        while True:
            n = f.read(4)
            body = f.read(struct.unpack('<I', n)[0]) if len(n) == 4 else b''
            with self.said:
                if not body:
                    self.records.append(None)
                    self.said.notify_all()
                    return
                who = struct.unpack_from('<IQQ', body, 8 + 4 * body[3])
                attrs = body[36 + 4 * body[3]:36 + 4 * body[3] + struct.unpack_from('<H', body, 4)[0]]
                self.records.append((body[0],) + who + (attrs,))
                self.said.notify_all()
    def wait(self, wanted):
        """The first record of which wanted(type, seq) is true; None at the end."""
        i = 0
        with self.said:
            while True:
                while i < len(self.records):
                    r = self.records[i]
                    if r is None or wanted(r[0], r[3]):
                        return r
                    i += 1
                if not self.said.wait(60):
                    sys.exit('nothing came in a minute')

def run(name, kills, how):
    """Send all, the server being killed when the result of each of `kills` has come."""
    durable = -1
    for kill in kills + [None]:
        server = Server(name, how)
        server.put(hello)
        r = server.wait(lambda type, seq: type == s.RESUME)
        first = 0 if r[4] == bytes([13, 0]) else r[3] + 1
        assert first > durable, (first, durable)  # what was acknowledged is there
        assert first == 0 or r[1:3] == (device, epoch), r
        until = len(sent) if kill is None else min(kill + 4, len(sent))  # a few are on their way
        for i in range(first, until):
            server.put(sent[i])
        if kill is None:
            server.put(s.end(lead, [hello] + sent[first:]))
            server.p.stdin.close()
            r = server.wait(lambda type, seq: type == s.ACK and seq == len(sent) - 1)
            assert r, 'not all was acknowledged'
            assert server.p.wait() == 0
        else:
            assert first <= kill < len(sent)
            server.wait(lambda type, seq: type == s.RESULT and seq == kill)
            server.p.send_signal(signal.SIGKILL)
            server.p.wait()
            server.wait(lambda type, seq: False)
            durable = max([durable] + [r[3] for r in server.records if r and r[0] == s.ACK])
P
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
