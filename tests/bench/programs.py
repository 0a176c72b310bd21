#!/usr/bin/env python3
"""Start-up time and peak memory of every program.

usage: programs.py [ROUNDS]     programs in PATH or in SS_BINDIR

Start-up: from exec to exit on a stream of one window (ss-capture: 20 ms of sound), programs in turns; minimum, median
and largest of ROUNDS (default 15), with --version of the same program beside it, which is what exec and linking cost.
Peak memory: largest resident size over 60 s of sound: VmHWM, read every 2 ms until the program ends.
"""
import os, statistics, subprocess, sys, tempfile, time

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
if 'SS_BINDIR' in os.environ:
    os.environ['PATH'] = os.environ['SS_BINDIR'] + ':' + os.environ['PATH']
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
    yield 'ss-capture', ['ss-capture', 'synth:1', '--duration=' + ('0.02' if name == 'one' else '60')]
    yield 'ss-featurize', ['ss-featurize', name + '.pcm']
    for m, width in ('m4', '1/4'), ('m1', '1'):
        yield f'ss-encode --until=3, width {width}', ['ss-encode', '--until=3', '-m', m, name + '.mel']
        yield f'ss-finish, width {width}', ['ss-finish', '-m', m, f'{name}.{m}.cut']
        yield f'ss-train, width {width}', ['ss-train', '-m', m, name + '.mel']
    yield 'ss-cat', ['ss-cat', name + '.mel']
    if name == 'long':
        yield 'ss-eval', ['ss-eval', '-q', name + '.m4.z']

def run(command):
    begin = time.perf_counter()
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f'failed: {command}')
    return (time.perf_counter() - begin) * 1e3

def peak(command):
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0
    while p.poll() is None:
        # ru_maxrss would count what this process held before exec.
        with open(f'/proc/{p.pid}/status') as f:
            most = max([most] + [int(line.split()[1]) for line in f if line.startswith('VmHWM')])
        time.sleep(0.002)
    return most / 1024

times = {}
for i in range(rounds + 1):
    for name, command in rows('one'):
        for key, c in ((name, command), (name + ' --version', [command[0], '--version'])):
            ms = run(c)
            if i:
                times.setdefault(key, []).append(ms)
memory = {name: peak(command) for name, command in rows('long')}

print(f'{"":34} {"start-up, ms":^26} {"--version":>10} {"peak":>9}')
print(f'{"program":34} {"min":>8} {"median":>8} {"max":>8} {"median":>10} {"MiB":>9}')
for name in memory:
    t = times.get(name)
    first = '%8.1f %8.1f %8.1f %10.1f' % (min(t), statistics.median(t), max(t), statistics.median(times[name + ' --version'])) if t else ' ' * 37
    print(f'{name:34} {first} {memory[name]:9.1f}')
