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
    """ss-train --refine on NAME.safetensors; before it, the words of a command that runs it, if any."""
    def __init__(self, name, how, before=[]):
        self.p = subprocess.Popen(before + ['ss-train', '--refine', '-m', name + '.safetensors', '--checkpoint=' + name +
                                            '.state', '--journal=' + name + '.journal'] + how,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.records, self.said = [], threading.Condition()
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
            length = struct.unpack('<I', n)[0] if len(n) == 4 else 0
            body = f.read(length)
            with self.said:
                if not body or len(body) < length:
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
    def begin(self, durable):
        """Say hello: the record to go on from, which is behind all that was acknowledged; None when it has died."""
        self.put(hello)
        r = self.wait(lambda type, seq: type == s.RESUME)
        if not r:
            return None
        first = 0 if r[4] == bytes([13, 0]) else r[3] + 1
        assert first > durable, (first, durable)
        assert first == 0 or r[1:3] == (device, epoch), r
        return first
    def end(self, first):
        """Behind all records from `first` on; what the command ended with."""
        self.put(s.end(lead, [hello] + sent[first:]))
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass
        self.wait(lambda type, seq: False)
        return self.p.wait()
    def durable(self, before):
        """What has been acknowledged, when it has ended."""
        self.wait(lambda type, seq: False)
        return max([before] + [r[3] for r in self.records if r and r[0] == s.ACK])

def run(name, kills, how):
    """Send all, the server being killed when the result of each of `kills` has come."""
    durable = -1
    for kill in kills + [None]:
        server = Server(name, how)
        first = server.begin(durable)
        until = len(sent) if kill is None else min(kill + 4, len(sent))  # a few are on their way
        for i in range(first, until):
            server.put(sent[i])
        if kill is None:
            assert server.end(first) == 0
            assert server.durable(durable) == len(sent) - 1, 'not all was acknowledged'
        else:
            assert first <= kill < len(sent)
            server.wait(lambda type, seq: type == s.RESULT and seq == kill)
            server.p.send_signal(signal.SIGKILL)
            server.p.wait()
            durable = server.durable(durable)
