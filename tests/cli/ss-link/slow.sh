# Standard output that nobody reads: the forward direction goes on, gradients are left out, results are not.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:1 --duration=20 --epoch=9 >p.sst
cat >slow.py <<'P'
import os, re, subprocess, sys, time
peer = os.environ['SS_TEST_PEER']
p = subprocess.Popen(['ss-link', '--state=S', '--', peer, '-g', '200000', 'j'], stdin=open('p.sst', 'rb'),
                     stdout=subprocess.PIPE, stderr=open('said', 'w'))
n = int(subprocess.run(['ss-cat', '--count', 'p.sst'], stdout=subprocess.PIPE).stdout)
def delivered():
    try:
        return open('S/queue').read() == '0\n' and os.listdir('j')
    except FileNotFoundError:
        return False
for _ in range(2000):
    if delivered():
        break
    time.sleep(0.01)
assert delivered(), 'it waits for who reads standard output'
out = subprocess.run(['ss-cat'], stdin=p.stdout, stdout=subprocess.PIPE).stdout.decode()
assert p.wait(timeout=60) == 0
results, gradients = len(re.findall(' result ', out)), len(re.findall(' gradient ', out))
assert results == n, (results, n)
assert 0 < gradients < n, gradients
said = open('said').read()
assert re.search(r': %d answers were left out' % (n - gradients), said), said
P
python3 slow.py || { cat said; fail 'see above'; }
