# Whatever comes, it ends its own connection and no other: damaged specimens, random bytes, lengths that are lies,
# records nobody asked for or that the model would choke on. Two connections for one device: the newer one stays.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
ss-model init --width=1/4 -o m.safetensors
cat >hostile.py <<'P'
import random
from serve import *
rng = random.Random(5)
s = Server('-m', 'm.safetensors', '--max-devices=80')
good = features(1, 1, 12)
at = records(good)
honest = link(None, '--keepalive=1')
def give(i):
    honest.stdin.write(good[at[i - 1] if i else 0:at[i]])
    honest.stdin.flush()
    if i:
        until(lambda: len(journal().get((1, 1), [])) >= i, lambda: 'the honest one is held up: ' + said())
def send(data, end=True):
    c = dial()
    try:
        c.sendall(data)
        if end:
            c.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return c
give(0)
give(1)
open_ones = []
for f in sorted(glob.glob(os.environ['SS_SRC'] + '/tests/golden/bad/*')):
    c = send(open(f, 'rb').read())
    closes(c)
give(2)
hello = features(9, 9, 2) # another device, with a stream to be spoilt
cut = records(hello)
for i in range(40):
    b = bytearray(hello)
    for k in range(rng.randrange(1, 4)):
        b[rng.randrange(len(b) if k else cut[0])] ^= 1 << rng.randrange(8)
    closes(send(bytes(rng.randrange(256) for _ in range(rng.randrange(300))) if i % 2 else bytes(b)))
closes(send(hello[:cut[0]] + struct.pack('<I', 0xffffffff) + bytes(200), end=False))
closes(send(hello[:12] + struct.pack('<I', 0xffffffff) + bytes(200), end=False))
closes(send(hello, end=False)) # never said hello
give(3)
assert 'that has not said hello' in said(), said()
# Sound streams that do not fit: another front end, another network, other shapes, other kinds.
for make, why in (('ss-capture synth:1 --duration=2', "kind 'pcm'"),
                  ('ss-capture synth:1 --duration=2 | ss-featurize --mels=32', 'found shape'),
                  ('ss-capture synth:1 --duration=2 | ss-featurize | ss-encode --until=3 -m other.safetensors',
                   'architecture')):
    subprocess.run(['ss-model', 'init', '--force', '--width=1/2', '-o', 'other.safetensors'], check=True)
    data = subprocess.run(make, shell=True, stdout=subprocess.PIPE, check=True).stdout
    p = link(data, '--drain=2')
    until(lambda: why in said(), lambda: why + ' is not said: ' + said())
    p.kill()
    p.wait()
give(4)
# The same device twice.
first = said().count('closed')
honest.stdin.flush()
other = subprocess.Popen(['ss-link', '--retry=60', '--drain=60', 'unix:sock'], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, stderr=open('link.log', 'a'))
other.stdin.write(good[:at[6]]) # what the first has sent already it does not send again
other.stdin.flush()
until(lambda: len(journal()[1, 1]) >= 6, said)
assert 'device 1 has come anew' in said()
other.kill()
other.wait()
honest.stdin.write(good[at[4]:])
honest.stdin.close()
ended(honest)
assert len(journal()[1, 1]) == len(at) - 2
assert set(journal()) == {(1, 1)}, journal().keys()
text = said()
assert 'the command' not in text and 'multiplexer' not in text and 'died of signal' not in text, text
s.stop()
P
python3 hostile.py || { tail -n 60 log; fail 'see above'; }
