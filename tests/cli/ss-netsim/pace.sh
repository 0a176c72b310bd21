# Bytes pass unchanged, at the pace of the trace, late by half a round trip; no more are read than may wait.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >rate.csv <<'C'
time_s,bandwidth_bps,rtt_ms
0,800000,200
1000,0,0
C
head -c 30000 /dev/urandom >in
cat >pace.py <<'P'
import subprocess, time
def run(*options, data=open('in', 'rb').read()):
    began = time.monotonic()
    p = subprocess.run(['ss-netsim', *options], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    return p, time.monotonic() - began
# 100 kB a second and 0.1 s of way: 0.4 s. A loaded machine makes it later, never sooner.
p, took = run('--trace=rate.csv')
assert p.returncode == 0 and p.stdout == open('in', 'rb').read()
assert 0.39 <= took < 60, took
# A small queue changes nothing but what waits where.
p, took = run('--trace=rate.csv', '--queue=2000')
assert p.stdout == open('in', 'rb').read() and took >= 0.39, took
# An outage of 0.4 s in the middle, and nothing to carry while it lasts.
open('gap.csv', 'w').write('time_s,bandwidth_bps,rtt_ms\n0,800000,0\n0.1,0,0\n0.5,8000000,0\n1000,0,0\n')
p, took = run('--trace=gap.csv')
assert p.stdout == open('in', 'rb').read() and 0.5 <= took < 60, took
# mahimahi: a packet each 10 ms.
open('ten', 'w').write('10\n')
p, took = run('--trace=ten', '--rtt=0')
assert p.stdout == open('in', 'rb').read() and took >= 30000 / 1504 * 0.01 - 0.01, took
# One byte does not wait for others, and what was idle is not saved up.
q = subprocess.Popen(['ss-netsim', '--trace=rate.csv'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
for c in (b'a', b'b'):
    began = time.monotonic()
    q.stdin.write(c)
    assert q.stdout.read(1) == c
    assert time.monotonic() - began >= 0.1
# Back pressure: with a queue of 1000 bytes the pipe fills up and a write waits.
q.stdin.close()
assert q.wait(timeout=60) == 0
open('slow.csv', 'w').write('time_s,bandwidth_bps,rtt_ms\n0,8,0\n1000,0,0\n')
q = subprocess.Popen(['ss-netsim', '--trace=slow.csv', '--queue=1000'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
import os
os.set_blocking(q.stdin.fileno(), False)
taken, end = 0, time.monotonic() + 60
while time.monotonic() < end:
    try:
        taken += os.write(q.stdin.fileno(), bytes(1000))
        last = time.monotonic()
    except BlockingIOError:
        if time.monotonic() - last > 0.3:
            break
        time.sleep(0.01)
assert taken < 70000 + 4096, taken # what a pipe holds, and the queue
q.kill()
q.wait()
P
python3 pace.py
