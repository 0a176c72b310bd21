#!/usr/bin/env python3
"""Start-up time and memory of every program.

usage: programs.py [ROUNDS]     programs in PATH or in SS_BINDIR

Ready: from exec until a program waits for its first record, milliseconds: it has opened all it needs, read the header
of its input and put out its own, which is what is waited for. Answer: from then, with that record sent at once, until
what is made of it is out; weights are read, verified and packed when a record first needs them. The pipe stays open, so
that nothing a program does at its end is counted (ss-capture: 20 ms of sound, until its first byte). Programs in turns;
minimum, median and largest of ROUNDS (default 15). --version beside it, from exec to exit, is what exec and linking cost.
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
    if name == 'long':
        yield 'ss-cat', ['ss-cat'], name + '.mel', None
        yield 'ss-eval', ['ss-eval', '-q'], name + '.m4.z', None

def read(name):
    with open(name, 'rb') as f:
        return f.read()

def preamble(data):
    return 20 + int.from_bytes(data[12:16], 'little')

def take(p, n):
    data = b''
    while len(data) < n:
        piece = p.stdout.read1(n - len(data))
        if not piece:
            sys.exit(f'no answer: {p.args}')
        data += piece
    return data

sizes = {}

def ready(label, command, stream):
    """Milliseconds until it is ready, and from then to the answer (None where nothing is read)."""
    if label not in sizes: # the end record comes only when the pipe is closed
        out = subprocess.run(command, input=read(stream) if stream else b'', stdout=subprocess.PIPE, check=True).stdout
        sizes[label] = len(out) - 100 - preamble(out)
    data = read(stream) if stream else b''
    head = preamble(data) if stream else 0
    behind, front = os.pipe()
    begin = time.perf_counter()
    p = subprocess.Popen(command, stdin=behind, stdout=subprocess.PIPE)
    os.close(behind)
    os.write(front, data[:head])
    take(p, preamble(take(p, 16)) - 16 if stream else 1)
    then = time.perf_counter()
    if stream:
        feeder = threading.Thread(target=write_all, args=(front, data[head:]))
        feeder.start()
        take(p, sizes[label])
        now = time.perf_counter()
        feeder.join()
    os.close(front)
    p.stdout.read()
    if p.wait():
        sys.exit(f'failed: {p.args}')
    return (then - begin) * 1e3, (now - then) * 1e3 if stream else None

def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]

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

times, answers, links = {}, {}, {}
for i in range(rounds + 1):
    for label, command, stream, cuts in rows('one'):
        (ms, answer), link = ready(label, command, stream), version(command[0])
        if i:
            times.setdefault(label, []).append(ms)
            answers.setdefault(label, []).append(answer)
            links.setdefault(label, []).append(link)
held = {label: (memory(command, stream), cuts and need(*cuts)) for label, command, stream, cuts in rows('long')}
none = held['ss-cat'][0][1]

three = lambda t: '%7.1f %7.1f %7.1f' % (min(t), statistics.median(t), max(t)) if t and t[0] is not None else ' ' * 23
print(f'{"":34} {"ready, ms":^23}  {"answer, ms":^23} {"--version":>9} {"peak":>7} {"own":>7} {"need":>7} {"":>6} {"file":>7}')
print(f'{"program":34} ' + f'{"min":>7} {"median":>7} {"max":>7}  ' * 2 + f'{"median":>8} ' + f'{"MiB":>7} ' * 3 + f'{"ratio":>6} {"MiB":>7}')
for label, ((peak, own), needed) in held.items():
    link = '%9.1f' % statistics.median(links[label]) if label in links else ' ' * 9
    last = f'{needed[0] / 1024:7.2f} {(own - none) / needed[0]:6.2f} {needed[1] / 1024:7.2f}' if needed else ''
    print(f'{label:34} {three(times.get(label))}  {three(answers.get(label))} {link} {peak / 1024:7.1f} {own / 1024:7.1f} {last}'.rstrip())
