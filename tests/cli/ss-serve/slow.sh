# A device that does not read its answers: the others go on, it loses gradients first, and never an acknowledgement. A
# command that is held up holds up the devices evenly. --max-rate.
. "$SS_SRC/tests/cli/lib.sh"
need python3
: "${SS_TEST_PEER:?}"
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
cat >slow.py <<'P'
from serve import *
s = Server('--max-queue=1M', '--state=S', command=[peer, '-g', '100000', 'j'])
data = features(1, 1, 24)
n = len(records(data)) - 2
at = records(data)
# A device of our own, which says hello and sends, and does not read.
def hello():
    # what ss-link says first: taken from it
    d = socket.socket(socket.AF_UNIX)
    if os.path.exists('tap'):
        os.unlink('tap')
    d.bind('tap')
    d.listen(1)
    p = subprocess.Popen(['ss-link', '--drain=0.1', 'unix:tap'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    p.stdin.write(data[:at[1]])
    p.stdin.flush()
    c, _ = d.accept()
    got = b''
    while len(got) < 20 or len(got) < records(got)[0] + 30 or len(got) < records(got)[-1]:
        got += c.recv(65536)
    p.kill()
    p.wait()
    return got
c = dial()
c.sendall(hello())
c.settimeout(0.1)
sent = at[0]
while sent < at[-2]: # it is taken in although nobody reads the answers
    try:
        sent += c.send(data[sent:at[-2]])
    except socket.timeout:
        assert s.p.poll() is None
other = features(2, 2, 24)
p = link(other, stdout=open('back.2', 'wb'))
ended(p)
got = answers('back.2')
assert got == {(2, 2): list(range(len(records(other)) - 2))}, got
assert len(answers('back.2', 'gradient')[2, 2]) > 0
until(lambda: len(journal()[1, 1]) == n, said)
# Now it reads: all results, the newest acknowledgement, not all gradients.
c.settimeout(60)
back, acked = b'', False
def parse():
    open('back.1', 'wb').write(back)
    return answers('back.1', 'ack').get((1, 1), [])
c.settimeout(0.5)
for _ in range(600):
    try:
        back += c.recv(1 << 20)
    except socket.timeout:
        a = parse()
        if a and a[-1] == n - 1 and len(answers('back.1').get((1, 1), [])) == n:
            break
assert parse()[-1] == n - 1, parse()
assert answers('back.1')[1, 1] == list(range(n)), answers('back.1')
g = len(answers('back.1', 'gradient').get((1, 1), []))
assert 0 < g < n, g
assert 'gradients are left out' in said()
c.close()
s.stop()

# A command that is held up, with more waiting than there is room for on the way: then they come in turn.
os.rename('j', 'j1')
s = Server()
links, data = [], {d: features(d, d, 40) for d in (3, 4, 5)}
for d in data:
    links.append(link(None, '--state=S%d' % d))
    links[-1].stdin.write(data[d][:records(data[d])[1]])
    links[-1].stdin.flush()
until(lambda: len(journal()) == 3, said)
command = s.children('ss-test-peer')[0]
os.kill(command, signal.SIGSTOP)
for d, p in zip(data, links):
    p.stdin.write(data[d][records(data[d])[1]:])
    p.stdin.close()
for d in data:
    until(lambda: int(open('S%d/queue' % d).read()) >= len(records(data[d])) - 3)
os.kill(command, signal.SIGCONT)
for p in links:
    ended(p)
s.stop()
out = subprocess.run('ss-cat --stream j/*.sst | ss-cat', shell=True, stdout=subprocess.PIPE).stdout.decode()
order = [int(d) for d in re.findall(r' data .*device=(\d+)', out)]
assert len(order) == sum(len(records(data[d])) - 2 for d in data)
# Behind what the first of them had filled the way with,
order = order[max(order.index(d, order.index(d) + 1) for d in data):]
# and as long as none of them waits for what its ss-link has still to send.
had = {d: order[:15].count(d) for d in data}
assert max(had.values()) - min(had.values()) <= 2, order

# So many records a second, and no more.
os.rename('j', 'j2')
s = Server('--max-rate=10')
began = time.monotonic()
ended(link(features(6, 6, 12)))
took = time.monotonic() - began
n = len(journal()[6, 6])
assert took > 0.9 * (n - 10) / 10, (took, n)
assert n == len(records(features(6, 6, 12))) - 2
s.stop()
P
python3 slow.py || { tail -n 40 log; cat link.log; fail 'see above'; }
