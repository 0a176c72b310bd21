# Devices that come in through a real sshd, whose keys may do nothing else: a forced command joins each to the server.
. "$SS_SRC/tests/cli/lib.sh"
. "$SS_SRC/tests/cli/sshd.sh"
need python3
: "${SS_TEST_PEER:?}"
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
sshd_start
serve=$(command -v ss-serve)
printf 'restrict,command="%s --connect=unix:%s/sock" %s\n' "$serve" "$PWD" "$(cat user.pub)" >keys
cat >ssh.py <<'P'
from serve import *
s = Server()
data = {d: features(d, d, 12) for d in (1, 2)}
links = []
for d in data:
    links.append(subprocess.Popen(['ss-link', '--drain=60', '--retry=0.1', '--spool=spool.%d' % d, '--', 'ssh', '-F', 'config',
                                   'there', 'cat /etc/passwd'], stdin=subprocess.PIPE, stdout=open('back.%d' % d, 'wb'),
                                  stderr=open('link.log', 'a')))
    links[-1].stdin.write(data[d][:len(data[d]) // 2])
    links[-1].stdin.flush()
until(lambda: len(journal()) == 2, said)
s.p.kill() # the server goes, and comes again
s.p.wait()
s = Server()
for d, p in zip(data, links):
    p.stdin.write(data[d][len(data[d]) // 2:])
    p.stdin.close()
    ended(p)
for d in data:
    n = len(records(data[d])) - 2
    assert journal()[d, d] == list(range(n))
    assert set(answers('back.%d' % d)) == {(d, d)}
until(lambda: not s.children('ss-serve-relay'), said)
# Half-closed, it brings what is still to come.
r = subprocess.run('ss-cat --head=0 --stream f.1.1.12 | ssh -F config there | ss-cat --check', shell=True, timeout=60)
assert r.returncode == 0, said()
s.stop()
P
python3 ssh.py || { tail -n 40 log; cat link.log; fail 'see above'; }
