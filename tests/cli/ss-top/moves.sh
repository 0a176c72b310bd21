# Rates, what becomes stale while it is looked at, what is made anew; as text, without a terminal.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >moves.py <<'P'
import json, os, signal, subprocess, time

def put(name, value):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    open(name + '.new', 'w').write('%s\n' % value)
    os.rename(name + '.new', name)

put('S/windows', 0)
p = subprocess.Popen(['ss-top', '--json', '--interval=0.1', '--stale=1', 'S'], stdout=subprocess.PIPE, text=True)
def look():
    return json.loads(p.stdout.readline())
def until(what, meanwhile=lambda n: None):
    for n in range(200): # looks, ten a second
        meanwhile(n)
        r = look()
        if what(r):
            return r
    raise AssertionError(r)

assert look()['well']
# Twenty a second, as near as the machine is undisturbed.
start, n = time.monotonic(), 0
def write(_):
    put('S/windows', int((time.monotonic() - start) * 20))
until(lambda r: r['windows_per_second'] and 15 < r['windows_per_second'] < 25, write)
# Nothing more: seen by this reader's clock.
r = until(lambda r: not r['well'])
assert r['problems'][0].startswith('nothing new for 1 s') and r['stale'] == ['windows'], r
assert r['windows_per_second'] == 0
put('S/windows', 5000)
until(lambda r: r['well'])
# A counter that begins anew is no negative rate.
put('S/windows', 1)
r = until(lambda r: r['windows'] == 1)
assert r['windows_per_second'] is None, r
# The folder goes, and another one comes.
os.rename('S', 'old')
r = until(lambda r: not r['well'])
assert 'No such file' in r['problems'][0], r
put('S/windows', 7)
r = until(lambda r: r['well'])
assert r['windows'] == 7, r
p.send_signal(signal.SIGTERM)
assert p.wait(timeout=30) == 0
# Text, without an escape code.
p = subprocess.Popen(['ss-top', '--interval=0.1', 'S'], stdout=subprocess.PIPE, text=True)
lines = [p.stdout.readline() for _ in range(8)]
p.kill()
assert lines[3] == lines[7] == '\n' and lines[1] == lines[5] and '\033' not in ''.join(lines), lines
P
status 0 timeout 120 python3 moves.py
# Its reader goes away.
need bash
status 141 bash -c 'ss-top --interval=0.05 S | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}'
