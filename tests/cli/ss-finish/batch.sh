# A batch never waits: each record is answered while the next has not been sent.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m.safetensors
ss-capture synth:1 --duration=4 | ss-featurize | ss-encode --until=5 -m m.safetensors >cut.sst
python3 - <<'P'
import os, select, struct, subprocess
data = open('cut.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', data, 12)[0] + 4
p = subprocess.Popen(['ss-finish', '-m', 'm.safetensors', '--batch=16'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
p.stdin.write(data[:at])
answers = b''
def read():
    assert select.select([p.stdout], [], [], 20)[0], 'no answer: it waits for more'
    return os.read(p.stdout.fileno(), 1 << 20)
for i in range(4):
    end = at + 4 + struct.unpack_from('<I', data, at)[0]
    p.stdin.write(data[at:end])
    at = end
    before = len(answers)
    while len(answers) < before + 512:
        answers += read()
p.stdin.close() # in mid-stream
rest = p.stdout.read()
assert p.wait() == 4, p.returncode
P
# Embeddings that are there already pass as they are, in one stream with others.
ss-capture synth:1 --duration=4 --epoch=3 | ss-featurize | ss-encode --until=embedding --dtype=f16 -m m.safetensors >z.sst
ss-finish --no-provenance -m m.safetensors z.sst >again.sst
status 0 ss-cat --compare=z.sst again.sst
ss-cat --json z.sst | sed 1d >a
ss-cat --json again.sst | sed 1d >b
same a b
