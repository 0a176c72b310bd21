#!/usr/bin/env python3
"""Start-up time and memory of every program.

usage: programs.py [ROUNDS]     programs in PATH or in SS_BINDIR

Ready: from exec until the answer to a first record is out, milliseconds. The stream of that one record comes through a
pipe that stays open, so that nothing a program does at its end is counted (ss-capture: 20 ms of sound, until its first
byte). Programs in turns; minimum, median and largest of ROUNDS (default 15). --version beside it, from exec to exit, is
what exec and linking cost.
Peak: largest resident size (VmHWM) over 60 s of sound, MiB. Own: the part of it that is no program text and no library
(RssAnon), looked at every 2 ms. Need: weights between the cuts in the form in which they are used, and the most that
one layer reads, writes and adds for one window. Ratio: own, less what ss-cat has, to need. File: the same weights as the
model's file has them, in f32; what need is above it is Winograd's share.
"""
import json, os, re, statistics, subprocess, sys, tempfile, threading, time

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
if 'SS_BINDIR' in os.environ:
    os.environ['PATH'] = os.path.abspath(os.environ['SS_BINDIR']) + ':' + os.environ['PATH']
os.chdir(tempfile.mkdtemp(prefix='ss-bench.'))

def sh(command):
    subprocess.run(['bash', '-o', 'pipefail', '-c', command], check=True)

for width in ('1/4', '1'):
    m = 'm' + width[-1]
    sh(f'ss-model init --width={width} -o {m}')
for name, seconds in (('one', 1), ('long', 60)):
    sh(f'ss-capture synth:1 --duration={seconds} -o {name}.pcm; ss-featurize {name}.pcm -o {name}.mel')
    for m in 'm4', 'm1':
        sh(f'ss-encode --until=3 -m {m} {name}.mel -o {name}.{m}.cut; ss-finish -m {m} {name}.{m}.cut -o {name}.{m}.z')

def rows(name):
    """Label, command, stream that it reads, model and cuts that it runs."""
    duration = '0.02' if name == 'one' else '60'
    yield 'ss-capture', ['ss-capture', 'synth:1', '--duration=' + duration], None, None
    yield 'ss-featurize', ['ss-featurize'], name + '.pcm', None
    for m, width in ('m4', '1/4'), ('m1', '1'):
        yield f'ss-encode --until=3, width {width}', ['ss-encode', '--until=3', '-m', m], name + '.mel', (m, -1, 3)
        yield f'ss-finish, width {width}', ['ss-finish', '-m', m], f'{name}.{m}.cut', (m, 3, 9)
        yield f'ss-train, width {width}', ['ss-train', '-m', m], name + '.mel', None
    yield 'ss-cat', ['ss-cat'], name + '.mel', None
    if name == 'long':
        yield 'ss-eval', ['ss-eval', '-q'], name + '.m4.z', None

def read(name):
    with open(name, 'rb') as f:
        return f.read()

def start(command, stream):
    """Runs it behind a pipe that holds the stream and stays open."""
    behind, front = os.pipe()
    feeder = threading.Thread(target=write_all, args=(front, read(stream) if stream else b''))
    begin = time.perf_counter()
    p = subprocess.Popen(command, stdin=behind, stdout=subprocess.PIPE)
    os.close(behind)
    feeder.start()
    return p, front, feeder, begin

def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]

def finish(p, front, feeder):
    feeder.join()
    os.close(front)
    p.stdout.read()
    if p.wait():
        sys.exit(f'failed: {p.args}')

sizes = {}

def ready(label, command, stream):
    if label not in sizes: # the end record comes only when the pipe is closed
        out = subprocess.run(command, input=read(stream) if stream else b'', stdout=subprocess.PIPE, check=True).stdout
        sizes[label] = len(out) - 100 if command[0] not in ('ss-capture', 'ss-cat') else 1
    p, front, feeder, begin = start(command, stream)
    left = sizes[label]
    while left > 0:
        piece = p.stdout.read1(left)
        if not piece:
            sys.exit(f'no answer: {command}')
        left -= len(piece)
    ms = (time.perf_counter() - begin) * 1e3
    finish(p, front, feeder)
    return ms

def version(program):
    begin = time.perf_counter()
    subprocess.run([program, '--version'], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1e3

def memory(command, stream):
    p = subprocess.Popen(command + ([stream] if stream else []), stdout=subprocess.DEVNULL)
    peak = own = 0
    while p.poll() is None:
        # ru_maxrss would count what this process held before exec.
        status = read(f'/proc/{p.pid}/status').decode()
        kib = lambda key: int((re.search(key + r':\s*(\d+)', status) or [0, 0])[1])
        peak, own = max(peak, kib('VmHWM')), max(own, kib('RssAnon'))
        time.sleep(0.002)
    return peak, own

def need(model, begin, end):
    info = json.loads(subprocess.run(['ss-model', 'info', '--layers', '--json', model], stdout=subprocess.PIPE, check=True).stdout)
    weights = file = most = 0
    for l in info['layers']:
        m = re.match(r'layer(\d)\.(\d)', l['layer'])
        at = 2 * int(m[1]) - 2 + int(m[2]) if m else 8 if l['layer'] == 'fc' else -1
        if begin <= at < end:
            size = lambda d: d[0] * d[1] * d[2]
            weights += l['packed_bytes']
            file += 4 * l['parameters']
            most = max(most, size(l['input']) + size(l['output']) * (2 if 'conv2' in l['layer'] else 1))
    return (weights + 4 * most) / 1024, file / 1024

times, links = {}, {}
for i in range(rounds + 1):
    for label, command, stream, cuts in rows('one'):
        ms, link = ready(label, command, stream), version(command[0])
        if i:
            times.setdefault(label, []).append(ms)
            links.setdefault(label, []).append(link)
held = {label: (memory(command, stream), cuts and need(*cuts)) for label, command, stream, cuts in rows('long')}
none = held['ss-cat'][0][1]

print(f'{"":34} {"ready, ms":^26} {"--version":>10} {"peak":>9} {"own":>8} {"need":>8} {"":>6} {"file":>8}')
print(f'{"program":34} {"min":>8} {"median":>8} {"max":>8} {"median":>10} {"MiB":>9} {"MiB":>8} {"MiB":>8} {"ratio":>6} {"MiB":>8}')
for label, ((peak, own), needed) in held.items():
    t = times.get(label)
    first = '%8.1f %8.1f %8.1f %10.1f' % (min(t), statistics.median(t), max(t), statistics.median(links[label])) if t else ' ' * 37
    last = f'{needed[0] / 1024:8.2f} {(own - none) / needed[0]:6.2f} {needed[1] / 1024:8.2f}' if needed else ''
    print(f'{label:34} {first} {peak / 1024:9.1f} {own / 1024:8.1f} {last}'.rstrip())
