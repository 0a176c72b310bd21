# Who comes again is told what is durable now: the answer to a hello of the connection before it, which the command
# gives late, says too little, and records would go to the command twice.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve:$SS_SRC/tests/golden" PYTHONDONTWRITEBYTECODE=1
cat >again.py <<'P'
import make
from serve import *
# Each record takes the command a while, and its answer pushes those before it out.
s = Server('--state=S', command=[peer, '-s', '200', '-g', '300000', 'j'])
data = features(1, 1, 3)
at = records(data)
hello = make.record(make.KEEPALIVE, device=1, epoch=1, time=0)
answered = set()
def answer(c):
    """The next resume on a connection: its sequence number, or -1."""
    c.settimeout(60)
    def take(n):
        b = b''
        while len(b) < n:
            more = c.recv(n - len(b))
            assert more, said()
            b += more
        return b
    if c not in answered:
        answered.add(c)
        take(struct.unpack_from('<I', take(16), 12)[0] + 4)
    while True:
        b = take(struct.unpack('<I', take(4))[0])
        if b[0] == make.RESUME:
            attrs = b[36:36 + struct.unpack_from('<H', b, 4)[0]]
            return -1 if attrs == bytes([13, 0]) else struct.unpack_from('<Q', b, 20)[0]
old, new = dial(), dial()
old.sendall(data[:at[0]] + hello)
assert answer(old) == -1
command = s.children('ss-test-peer')[0]
os.kill(command, signal.SIGSTOP)
old.sendall(hello + data[at[0]:at[2]] + hello)
until(lambda: os.path.exists('S/device.1/windows') and open('S/device.1/windows').read() == '2\n', said)
new.sendall(data[:at[0]] + hello)
closes(old)
os.kill(command, signal.SIGCONT)
assert answer(new) == 1
new.sendall(data[at[2]:at[3]] + hello)
assert answer(new) == 2
new.close()
s.stop()
assert journal()[1, 1] == [0, 1, 2] and ', expected' not in said(), said()
P
python3 again.py || { tail -n 40 log; fail 'see above'; }
