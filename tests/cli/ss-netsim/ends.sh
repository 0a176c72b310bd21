# Cuts, readers that go, signals, traces that are made and printed, and what is refused.
. "$SS_SRC/tests/cli/lib.sh"
need python3
printf 'time_s,bandwidth_bps,rtt_ms\n0,80000,0\n1000,0,0\n' >ten.csv
head -c 5000 /dev/zero >in

status 3 ss-netsim --trace=ten.csv --cut-after=0.3 <in
matches err 'the link was cut after 0.3 s: [0-9]* bytes of 5000 were delivered'
[ "$(wc -c <out)" -lt 5000 ] || fail 'more than the link could carry'
status 0 ss-netsim --trace=ten.csv --cut-after=100 -v <in
same in out
matches err '5000 bytes in'
status 0 ss-netsim --trace=ten.csv </dev/null

# The stream arrives whole, or the cut is seen by who reads it.
ss-capture synth:1 --duration=2 | ss-featurize >f.sst
ss-netsim --trace=wifi:3 <f.sst >through.sst
same f.sst through.sst
ss-netsim --trace=ten.csv --cut-after=0.2 <f.sst 2>/dev/null >cut.sst || true
status 4 ss-cat --check cut.sst

cat >gone.py <<'P'
import signal, subprocess, time
# Its reader goes while nothing is there to be written: it dies of SIGPIPE all the same.
p = subprocess.Popen(['ss-netsim', '--trace=ten.csv'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdout.close()
assert p.wait(timeout=60) == -signal.SIGPIPE
# SIGTERM: what is inside is still delivered.
p = subprocess.Popen(['ss-netsim', '--trace=ten.csv'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdin.write(bytes(3000))
p.stdin.flush()
assert p.stdout.read(1) == b'\0'
p.terminate()
assert len(p.stdout.read()) == 2999
assert p.wait(timeout=60) == 0
P
python3 gone.py

# Made from a seed; what is printed is read as the same.
status 0 ss-netsim --trace=lte:7 --seconds=5 --print
cp out a.csv
[ "$(wc -l <a.csv)" -eq 7 ] || fail 'five rows, an end and the names'
status 0 ss-netsim --trace=a.csv --print
same out a.csv
status 0 ss-netsim --trace=lte:8 --seconds=5 --print
! cmp -s out a.csv || fail 'another seed gives the same'
printf '5\n9\n' >m
status 0 ss-netsim --trace=m --rtt=30 --print
[ "$(sed -n 2p out)" = '0,0,30' ] || fail "$(cat out)"

status 2 ss-netsim
matches err 'trace is needed'
status 2 ss-netsim --trace=lte:x
status 3 ss-netsim --trace=nothing
status 2 ss-netsim --trace=ten.csv ten.csv
printf '5\n4\n' >m
status 4 ss-netsim --trace=m
matches err "'m', line 2: 4, expected at least the 5"
status 5 ss-netsim --format=csv --trace=m
printf 'time_s,bandwidth_bps,rtt_ms\n0,0,0\n1000,0,0\n' >none.csv
status 5 ss-netsim --trace=none.csv
matches err 'one outage'
status 3 sh -c 'ss-netsim --trace=ten.csv <in >/dev/full'
