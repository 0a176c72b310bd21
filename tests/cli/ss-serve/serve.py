# What the tests of ss-serve have in common.
import atexit, glob, os, re, signal, socket, struct, subprocess, sys, time
peer = os.environ['SS_TEST_PEER']

def until(what, why='nothing happened', seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.01)
    raise AssertionError(why() if callable(why) else why)

def features(device, epoch, seconds=6):
    """A stream of log-mel windows, one for each 0.48 s but for the first and last."""
    name = 'f.%d.%d.%g' % (device, epoch, seconds)
    if not os.path.exists(name):
        subprocess.run('ss-capture synth:%d --duration=%g --device=%d --epoch=%d | ss-featurize >%s' % (
            device, seconds, device, epoch, name), shell=True, check=True)
    return open(name, 'rb').read()

def records(data):
    """The offsets at which the preamble and each record end."""
    at = [16 + struct.unpack_from('<I', data, 12)[0] + 4]
    while at[-1] < len(data):
        at.append(at[-1] + 4 + struct.unpack_from('<I', data, at[-1])[0])
    return at

class Server:
    def __init__(self, *options, command=None, listen='unix:sock'):
        self.log = open('log', 'a')
        self.p = subprocess.Popen(['ss-serve', '-v', '--listen=' + listen, *options, '--', *(command or [peer, 'j'])],
                                  stderr=self.log, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        atexit.register(self.p.kill) # after a failure
        if listen == 'unix:sock':
            until(self.listens, said)
    def listens(self):
        assert self.p.poll() is None, said()
        try:
            dial().close()
            return self.p.poll() is None
        except OSError:
            return False
    def children(self, name):
        found = []
        for line in open('/proc/%d/task/%d/children' % (self.p.pid, self.p.pid)).read().split():
            try:
                if open('/proc/%s/comm' % line).read().strip() == name:
                    found.append(int(line))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found
    def stop(self, status=0):
        self.p.terminate()
        got = self.p.wait(timeout=60)
        assert got == status, (got, said())

def said():
    return open('log').read()

def dial():
    s = socket.socket(socket.AF_UNIX)
    s.connect('sock')
    return s

def link(data, *options, **more):
    """ss-link, which has been given `data` and has been told of the end."""
    p = subprocess.Popen(['ss-link', '--retry=0.05', '--drain=60', *options, 'unix:sock'], stdin=subprocess.PIPE,
                         stdout=more.get('stdout', subprocess.DEVNULL), stderr=open('link.log', 'a'))
    atexit.register(p.kill)
    if data is not None:
        p.stdin.write(data)
        p.stdin.close()
    return p

def ended(p, status=0):
    got = p.wait(timeout=60)
    assert got == status, (got, said(), open('link.log').read())

def closes(s, seconds=60):
    """The other side closes the connection, whatever it says before."""
    s.settimeout(seconds)
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True

def journal(folder='j'):
    """What the command has got: {(device, epoch): [number, ...]}, each one once, in order, without a gap."""
    got = {}
    for f in sorted(glob.glob(folder + '/*.sst')):
        out = subprocess.run(['ss-cat', f], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
        assert ' gap ' not in out, out
        for m in re.finditer(r' data .*device=(\d+) epoch=(\d+) seq=(\d+)', out):
            one = got.setdefault((int(m[1]), int(m[2])), [])
            assert int(m[3]) == len(one), ('lost or twice', m[0], len(one))
            one.append(int(m[3]))
    return got

def answers(path, kind='result'):
    """Sequence numbers of answers by (device, epoch), which came to one device."""
    out = subprocess.run(['ss-cat', path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    got = {}
    for m in re.finditer(r' %s .*device=(\d+) epoch=(\d+)(?: seq=(\d+))?' % kind, out):
        got.setdefault((int(m[1]), int(m[2])), []).append(int(m[3] or 0))
    return got
