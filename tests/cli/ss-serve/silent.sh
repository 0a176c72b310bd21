# Who begins nothing is let go after 10 seconds, who falls silent after 15, be it in the middle of a record that
# trickles; who sends keep-alives stays. (In the slow suite: SS_SLOW.)
. "$SS_SRC/tests/cli/lib.sh"
need python3
: "${SS_TEST_PEER:?}"
[ -n "${SS_SLOW:-}" ] || skip 'waits for 16 seconds: set SS_SLOW'
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
cat >silent.py <<'P'
import threading
from serve import *
s = Server()
data = features(1, 1, 2)
at = records(data)
alive = link(None)
alive.stdin.write(data[:at[1]])
alive.stdin.flush()
until(lambda: journal().get((1, 1)), said)
took, began = {}, time.monotonic()
def measure(name, c):
    closes(c)
    took[name] = time.monotonic() - began
def trickle(c, bytes):
    try:
        for b in bytes: # 4 a second: less than what makes up for the time
            c.sendall(bytes[:1])
            time.sleep(0.25)
    except (BrokenPipeError, ConnectionResetError):
        pass
nothing, part, quiet, slow = dial(), dial(), dial(), dial()
part.sendall(data[:10])
quiet.sendall(data[:at[0]])
slow.sendall(data[:at[0] + 12])
threads = [threading.Thread(target=measure, args=a) for a in
           (('nothing', nothing), ('part', part), ('quiet', quiet), ('slow', slow))]
threads.append(threading.Thread(target=trickle, args=(slow, b'\0' * 200)))
for t in threads:
    t.start()
for t in threads:
    t.join()
for name, least in ('nothing', 10), ('part', 10), ('quiet', 15):
    assert least - 0.1 <= took[name] < least + 10, took
assert took['slow'] < 30, took
assert alive.poll() is None and 'link is down' not in open('link.log').read(), open('link.log').read()
alive.stdin.write(data[at[1]:])
alive.stdin.close()
ended(alive)
s.stop()
assert said().count('no stream has begun') == 2 and 'silent for too long' in said(), said()
P
python3 silent.py || { tail -n 40 log; cat link.log; fail 'see above'; }
