# The live view in a real terminal: no line is longer than it is wide, all fits, and what was there before comes back.
. "$SS_SRC/tests/cli/lib.sh"
need python3
python3 -c 'import pty, termios' 2>/dev/null || skip 'python3 has no pty'
unset NO_COLOR SS_STATE
for n in 1 2 3 4 5 6 7 8; do
    mkdir -p "F/device.$n"
    echo $n >"F/device.$n/windows"
    echo up >"F/device.$n/link"
    echo 12.5 >"F/device.$n/latency.train"
    echo 0.5 >"F/device.$n/cpu"
done
echo down >F/device.5/link
cat >screen.py <<'P'
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

class Screen: # as much of a terminal as is needed
    def __init__(self, columns, rows, arguments=(), env={}):
        self.columns, self.rows, self.data = columns, rows, b''
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(env)
            os.kill(os.getpid(), signal.SIGSTOP) # until the size is set
            os.execvp('ss-top', ['ss-top', '--interval=0.1', '--stale=1000', 'F', *arguments])
        os.waitpid(self.pid, os.WUNTRACED)
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.fd)
        os.kill(self.pid, signal.SIGCONT)
    def size(self, columns, rows):
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
    def read(self):
        if select.select([self.fd], [], [], 60)[0]:
            try:
                self.data += os.read(self.fd, 65536)
                return
            except OSError: # it has ended
                self.data += b'\0'
        else:
            raise AssertionError('nothing came')
    def pictures(self): # whole ones
        return [p.split('\033[J')[0] for p in self.data.decode().split('\033[H')[1:] if '\033[J' in p]
    def until(self, what):
        end = time.monotonic() + 60
        while True:
            p = self.pictures()
            if p and what(p[-1]):
                return p[-1]
            assert time.monotonic() < end, p[-1:]
            assert not self.data.endswith(b'\0'), self.data
            self.read()
    def lines(self, picture):
        out = [re.sub(r'\033\[[0-9;]*[mK]', '', l) for l in re.split('\r+\n', picture)]
        assert len(out) <= self.rows, (len(out), self.rows)
        for l in out:
            assert len(l) <= self.columns and re.fullmatch('[ -~]*', l), (len(l), l)
        return out
    def ended(self):
        while not self.data.endswith(b'\0'):
            self.read()
        status = os.waitpid(self.pid, 0)[1]
        text = self.data.rstrip(b'\0').decode()
        assert text.startswith('\033[?1049h') and text.endswith('\033[?25h\033[?1049l'), repr(text[-80:])
        return os.waitstatus_to_exitcode(status)

s = Screen(80, 24)
first = s.until(lambda p: 'device.8' in p)
l = s.lines(first)
assert l[2].startswith('device.5') and 'link down' in l[3], l
assert '1 of 8 with a problem' in l[0] and len(l[1]) == 80, l
assert '\033[1;31m' in first and '\033[7m' in first
assert not termios.tcgetattr(s.fd)[3] & (termios.ECHO | termios.ICANON)
# Smaller, larger: the next picture has that size.
s.size(40, 10)
l = s.lines(s.until(lambda p: 'more' in p and p.count('\n') == 9))
assert l[9].startswith('... and ') and l[2].startswith('device.5'), l
s.size(120, 60)
l = s.lines(s.until(lambda p: 'latency' not in p and 'train 12.5' in p))
assert len(l[1]) == 100, l
# It goes on by itself.
open('F/device.5/link', 'w').write('up\n')
s.until(lambda p: 'all is well' in p)
os.write(s.fd, b'x')
os.write(s.fd, b'q')
assert s.ended() == 0

for number in signal.SIGTERM, signal.SIGINT:
    s = Screen(40, 9, env={'NO_COLOR': '1'})
    s.lines(s.until(lambda p: 'more' in p))
    assert not re.search(r'\033\[[0-9;]*m', s.data.decode())
    if number == signal.SIGINT:
        os.write(s.fd, b'\x03') # as a person does it
    else:
        os.kill(s.pid, number)
    assert s.ended() == 0
# Stopped by ^Z it gives the screen back, and takes it again.
s = Screen(80, 24)
s.until(lambda p: 'device' in p)
os.write(s.fd, b'\x1a')
assert os.WIFSTOPPED(os.waitpid(s.pid, os.WUNTRACED)[1])
while not s.data.endswith(b'\033[?1049l'):
    s.read()
s.data = s.data.replace(b'\033[?1049l', b'')
os.kill(s.pid, signal.SIGCONT)
while b'\033[?1049h\033[?25l' not in s.data[10:]:
    s.read()
os.write(s.fd, b'q')
assert s.ended() == 0
P
status 0 timeout 200 python3 screen.py
# The terminal is as it was: its line settings too.
cat >modes.py <<'P'
import os, pty, subprocess, termios
a, b = pty.openpty()
before = termios.tcgetattr(b)
p = subprocess.Popen(['ss-top', '--interval=0.1', 'F'], stdin=b, stdout=b, stderr=b, preexec_fn=lambda: (os.setsid(), __import__('fcntl').ioctl(0, termios.TIOCSCTTY, 0)))
while b'\033[J' not in os.read(a, 65536):
    pass
assert termios.tcgetattr(b) != before
p.terminate()
assert p.wait(timeout=60) == 0
assert termios.tcgetattr(b) == before
P
status 0 timeout 100 python3 modes.py
