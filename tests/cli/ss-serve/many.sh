# Several devices at once, of other kinds and labels: all of them in one stream for the command, each cut where its
# stamp says, and to each device the answers that are its own. The state directory tells.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve:$SS_SRC/tests/golden" PYTHONDONTWRITEBYTECODE=1
printf 'siren\nbird\nrain\nclock\n' >labels
ss-model init --width=1/4 -o m.safetensors
cat >many.py <<'P'
import make
from serve import *
s = Server('--state=S', '--labels=labels', '-m', 'm.safetensors')
data = {}
for d in range(1, 7):
    data[d] = features(d, 100 + d)
    if d in (4, 5): # a cut, an embedding
        data[d] = subprocess.run(['ss-encode', '--until=' + ('3' if d == 4 else 'embedding'), '-m', 'm.safetensors'],
                                 input=data[d], stdout=subprocess.PIPE, check=True).stdout
links = [link(data[d], stdout=open('back.%d' % d, 'wb')) for d in data]
for p in links:
    ended(p)
got = journal()
assert set(got) == {(d, 100 + d) for d in data}, got.keys()
for d in data:
    n = len(records(data[d])) - 2
    assert len(got[d, 100 + d]) == n, (d, n)
    a = answers('back.%d' % d)
    assert a == {(d, 100 + d): list(range(n))}, (d, a)
    subprocess.run(['ss-cat', '--check', 'back.%d' % d], check=True)
    state = lambda name: open('S/device.%d/%s' % (d, name)).read().strip()
    until(lambda: state('connected') == '0')
    assert state('windows') == str(n) and state('u') == '0.5', (d, state('windows'))
    assert state('cut') == {4: '3', 5: 'embedding'}.get(d, 'input'), state('cut')
    assert int(state('bytes')) > 100 * n and abs(int(state('since')) - time.time()) < 300
# What comes from elsewhere may have no identity: its device and epoch are 0.
def anonymous(record):
    b = bytearray(record)
    at = 12 + 4 * b[7]
    end = at + 28 + struct.unpack_from('<H', b, 8)[0]
    b[at:at + 12] = bytes(12)
    b[end:end + 4] = make.u32(make.crc32c(bytes(b[:end])))
    return bytes(b)
whole = features(7, 107, 3)
at = records(whole)
none = [anonymous(whole[a:b]) for a, b in zip(at, at[1:-1])]
ended(link(make.stream(none, whole[:at[0]]), stdout=open('back.0', 'wb')))
assert journal()[0, 0] == list(range(len(none))), journal().keys()
assert answers('back.0') == {(0, 0): list(range(len(none)))}, answers('back.0')
s.stop()
assert not os.path.exists('sock'), 'the socket is still there'
out = subprocess.run('for f in j/*.sst; do ss-cat --json $f; done', shell=True, stdout=subprocess.PIPE).stdout.decode()
assert '"kind":"cut"' in out and '"labels":["siren","bird","rain","clock"]' in out
assert '"program":"ss-serve"' in out
def labels(text):
    return sorted(re.findall(r'"label":"(siren|bird|rain|clock)"', text))
given = b''.join(subprocess.run(['ss-cat', '--json'], input=d, stdout=subprocess.PIPE).stdout
                 for d in [*data.values(), whole])
assert labels(given.decode()) and labels(out) == labels(given.decode()), labels(out)
assert set(re.findall(r'"label":"(\w+)"', out)) == set(labels(out))
for d, split in (1, 0), (4, 4), (5, 10):
    n = len(re.findall(r'"device":%d,.*"split":%d,' % (d, split), out))
    assert n == len(records(data[d])) - 2, (d, n)
text = said()
# said once for each connection that has such labels
assert 0 < text.count('not in the table') <= text.count(' begins'), text
assert 'died' not in text, text
P
python3 many.py || { cat log; fail 'see above'; }
