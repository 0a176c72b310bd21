#!/usr/bin/env python3
"""What ss-serve costs: records a second, processor time a record, memory a device.

usage: serve.py [--seconds=S]     ss-serve, ss-capture, ... in PATH or in SS_BINDIR

Devices are sockets that send a stream made beforehand, as fast as it is taken; the command takes bytes and answers
nothing. Time: until the last of them has come to it. CPU: of all processes of ss-serve, of devices and command none.
Devices a core: how many in real time, a window each 0.48 s, would keep one core of this machine busy. Memory: what a
relay has that it shares with nobody, and the multiplexer's own divided by the devices.
"""
import os, re, socket, struct, subprocess, sys, tempfile, threading, time

if sys.argv[1:2] == ['--sink']:
    last = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
    while os.read(0, 1 << 20):
        os.pwrite(last, struct.pack('<d', time.monotonic()), 0)
    sys.exit(0)

seconds = float(sys.argv[1].split('=')[1]) if len(sys.argv) > 1 else 3
if 'SS_BINDIR' in os.environ:
    os.environ['PATH'] = os.path.abspath(os.environ['SS_BINDIR']) + ':' + os.environ['PATH']
me = os.path.abspath(__file__)
os.chdir(tempfile.mkdtemp(prefix='ss-bench.'))

def crc32c(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff

def hello(device):
    head = struct.pack('<IBBBBHHIQQq', 40, 128, 0, 0, 0, 0, 0, device, 1, 0, 0)
    return head + struct.pack('<I', crc32c(head))

def stream(kind, device):
    """Preamble and records of a few windows."""
    make = f'ss-capture synth:1 --duration=8 --device={device} --epoch=1 | ss-featurize'
    if kind != 'logmel':
        make += ' | ss-encode --until=embedding --dtype=i8 -m m'
    data = subprocess.run(make, shell=True, stdout=subprocess.PIPE, check=True).stdout
    at = [16 + struct.unpack_from('<I', data, 12)[0] + 4]
    while at[-1] < len(data):
        at.append(at[-1] + 4 + struct.unpack_from('<I', data, at[-1])[0])
    return data[:at[0]] + hello(device), data[at[0]:at[-2]], len(at) - 2

def processes(of):
    """Those of ss-serve: {pid: name}."""
    found = {of: 'monitor'}
    for pid in open(f'/proc/{of}/task/{of}/children').read().split():
        name = open(f'/proc/{pid}/comm').read().strip()
        if name.startswith('ss-serve'):
            found[int(pid)] = name
    return found

def cpu(pids):
    return sum(int(open(f'/proc/{p}/schedstat').read().split()[0]) for p in pids) * 1e-9

def own(pid):
    text = open(f'/proc/{pid}/smaps_rollup').read()
    return sum(int(k) for k in re.findall(r'Private_\w+: +(\d+) kB', text))

def windows(devices):
    n = 0
    for d in devices:
        try:
            n += int(open(f'S/device.{d}/windows').read())
        except (FileNotFoundError, ValueError):
            pass
    return n

def run(kind, count, n):
    subprocess.run(['rm', '-rf', 'S', 'last'])
    devices = range(1, count + 1)
    made = [stream(kind, d) for d in devices]
    p = subprocess.Popen(['ss-serve', '--listen=unix:sock', '--state=S', '--drain=1', '--', sys.executable, me, '--sink', 'last'])
    sockets = []
    for preamble, _, _ in made:
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect('sock')
                break
            except OSError:
                time.sleep(0.01)
        s.sendall(preamble)
        sockets.append(s)
    while len([d for d in devices if os.path.exists(f'S/device.{d}/connected')]) < count:
        time.sleep(0.01)
    pids = processes(p.pid)
    before = cpu(pids)
    repeats = [max(1, n // count // m) for _, _, m in made]
    def send(s, data, times):
        for _ in range(times):
            s.sendall(data)
    threads = [threading.Thread(target=send, args=(s, data, r)) for s, (_, data, _), r in zip(sockets, made, repeats)]
    begin = time.monotonic()
    for t in threads:
        t.start()
    total = sum(r * m for r, (_, _, m) in zip(repeats, made))
    while windows(devices) < total:
        time.sleep(0.05)
    took = struct.unpack('<d', open('last', 'rb').read())[0] - begin
    used = cpu(pids) - before
    relays = [own(pid) for pid, name in pids.items() if name == 'ss-serve-relay']
    mux = [own(pid) for pid, name in pids.items() if name == 'ss-serve-mux'][0]
    p.terminate()
    p.wait()
    return total / took, used / total, sum(relays) / len(relays), mux, total

subprocess.run(['ss-model', 'init', '-q', '-o', 'm'], check=True)
print('| records | devices | records/s | CPU a record, us | devices a core | relay, KiB | multiplexer, KiB a device |')
print('|---|---|---|---|---|---|---|')
for kind, name in ('logmel', 'logmel f32, 24.7 kB'), ('embedding', 'embedding i8, 0.2 kB'):
    for count in 1, 20:
        rate = run(kind, count, 2000)[0]
        rate, each, relay, mux, _ = run(kind, count, max(2000, int(rate * seconds)))
        print('| %s | %d | %.0f | %.1f | %.0f | %.0f | %.0f |' % (name, count, rate, each * 1e6, 0.48 / each, relay, mux / count),
              flush=True)
