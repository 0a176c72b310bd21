# kill -9 of a relay, of the command, of the multiplexer, of ss-serve itself, while devices send: all that they had
# arrives in the end, once, in order (the command dies with status 9 otherwise). A relay that dies otherwise, as of a
# crash, does no more harm, and is told. SS_KILLS: how many.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
cat >kills.py <<'P'
import random, threading
from serve import *
kills, rng = int(os.environ.get('SS_KILLS', '8')), random.Random(int(os.environ.get('SS_SEED', '1')))
options = ('--state=S', '--retry=0.05')
s = Server(*options)
data = {d: features(d, d, 24) for d in (1, 2, 3)}
links, stop = {}, False
def feed(d):
    at = records(data[d])
    links[d].stdin.write(data[d][:at[0]])
    i = 0
    while i + 1 < len(at): # the whole of it while there is something to be killed, at some pace
        links[d].stdin.write(data[d][at[i]:at[i + 1]])
        links[d].stdin.flush()
        i += 1
        while not stop and i + 2 > len(at) * (0.1 + 0.9 * done / kills):
            time.sleep(0.005)
    links[d].stdin.close()
done = 0
for d in data:
    links[d] = link(None, '--spool=spool.%d' % d, '--keepalive=0.5', stdout=open('back.%d' % d, 'wb'))
threads = [threading.Thread(target=feed, args=(d,), daemon=True) for d in data]
for t in threads:
    t.start()
seen = {'ss-serve-relay': 0, 'ss-serve-mux': 0, 'ss-test-peer': 0, 'ss-serve': 0}
try:
    while done < kills:
        time.sleep(rng.random() * 0.1)
        what = list(seen)[done % 4]
        how = signal.SIGABRT if what == 'ss-serve-relay' and done // 4 % 2 == 0 else signal.SIGKILL
        victims = [s.p.pid] if what == 'ss-serve' else until(lambda: s.children(what), said)
        victim = rng.choice(victims)
        try:
            os.kill(victim, how)
        except ProcessLookupError: # a relay whose connection has just ended
            continue
        if what != 'ss-serve':
            until(lambda: victim not in s.children(what), said)
        if what == 'ss-serve':
            s.p.wait()
            s = Server(*options)
        seen[what] += 1
        done += 1
finally:
    stop = True
for t in threads:
    t.join()
for d in data:
    ended(links[d])
s.stop()
got = journal()
for d in data:
    n = len(records(data[d])) - 2
    assert len(got[d, d]) == n, (d, len(got[d, d]), n)
    for a in answers('back.%d' % d).get((d, d), []):
        assert a < n
text = said()
assert ', expected' not in text, text # what the peer says before it dies of a hole
assert 'its relay died of signal 6' in text, text
print(done, 'kills', seen)
P
python3 kills.py || { tail -n 40 log; cat link.log; fail 'see above'; }
