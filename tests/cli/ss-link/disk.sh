# A disk that takes no more: said once, and what is live goes on from memory. Damage in the spool: said, a gap at the
# other side, and all else arrives. A second signal ends it at once, and the spool is what it was.
. "$SS_SRC/tests/cli/lib.sh"
need python3
peer=${SS_TEST_PEER:?}
ss-capture synth:1 --duration=6 --epoch=5 >p.sst
n=$(ss-cat --count p.sst)
"$peer" full socket &
other=$!
trap 'kill $other 2>/dev/null || true' EXIT
cat >limit.py <<'P'
import resource, subprocess, sys
def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
sys.exit(subprocess.run(sys.argv[1:], stdin=open('p.sst', 'rb'), preexec_fn=limit, stdout=subprocess.PIPE).returncode)
P
status 0 python3 limit.py ss-link --retry=0.05 --spool=small --spool-size=16M unix:socket
[ "$(grep -c 'File too large.*going on' err)" -eq 1 ] || { cat err; fail 'not said, or more than once'; }
kill $other
wait $other
ss-cat --stream full/*.sst >got.sst
status 0 ss-cat --compare=p.sst got.sst

# A byte of the second segment.
status 0 ss-link --spool=spool --spool-size=400K --drain=0.1 unix:nobody <p.sst
second=$(ls spool/*.sst | sed -n 2p)
python3 - "$second" <<'P'
import sys
b = bytearray(open(sys.argv[1], 'rb').read())
b[len(b) // 2] ^= 1
open(sys.argv[1], 'wb').write(b)
P
ss-cat --head=0 --stream p.sst >nothing.sst
status 0 ss-link --spool=spool -- "$peer" j <nothing.sst
matches err "'$second': record [0-9]* at byte [0-9]*: .*checksum differs"
ss-cat --stream j/*.sst | ss-cat >text
gap=$(sed -n 's/.* gap .*count=\([0-9]*\).*/\1/p' text)
[ "$gap" -ge 1 ] || fail 'no gap'
[ $(($(grep -c ' data ' text) + gap)) -eq "$n" ] || fail "a gap of $gap does not make up for what is missing"

cat >twice.py <<'P'
import os, signal, subprocess, time
p = subprocess.Popen(['ss-link', '--spool=two', '--drain=60', 'unix:nobody'], stdin=open('p.sst', 'rb'),
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(1000):
    if os.path.isdir('two') and sum(os.path.getsize('two/' + f) for f in os.listdir('two')) > 300000:
        break
    time.sleep(0.01)
p.send_signal(signal.SIGTERM)
time.sleep(0.3) # it drains for a minute
assert p.poll() is None, p.returncode
p.send_signal(signal.SIGTERM)
assert p.wait(timeout=10) == -signal.SIGTERM
P
python3 twice.py || fail 'see above'
status 0 ss-link --spool=two -- "$peer" k <nothing.sst
ss-cat --stream k/*.sst >got.sst
status 0 ss-cat --compare=p.sst got.sst
