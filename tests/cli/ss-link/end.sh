# The end: drained, or kept for the next start and said, or lost and said; signals; damaged input; another header.
. "$SS_SRC/tests/cli/lib.sh"
need python3
peer=${SS_TEST_PEER:?}
ss-capture synth:1 --duration=4 --epoch=1 >p.sst
n=$(ss-cat --count p.sst)
# Nobody there: in memory it is a loss, on disk it waits.
status 3 ss-link --drain=0.2 --retry=0.05 "unix:$PWD/nobody" <p.sst
matches err "$n records were not acknowledged and are lost"
[ "$(grep -c 'link is down' err)" -eq 1 ] || fail 'said more than once'
status 0 ss-link --drain=0.2 --retry=0.05 --spool=spool "unix:$PWD/nobody" <p.sst
matches err "$n records are not acknowledged and stay in 'spool'"
cp out none.sst
status 0 ss-cat --check none.sst
# A peer that takes and never acknowledges is no better.
status 0 ss-link --drain=0.2 --spool=spool -- "$peer" -n never <p.sst
matches err 'stay in'
rm -r never
# One that is slow is waited for as long as it acknowledges: four seconds here, half a second at a time.
ss-capture synth:1 --duration=40 --epoch=3 >long.sst
status 0 ss-link --drain=3 -- "$peer" -s 8 slow <long.sst
[ "$(ss-cat --stream slow/*.sst | ss-cat --count)" -eq "$(ss-cat --count long.sst)" ] || fail 'not all was waited for'
# The next start delivers both, each under its header.
ss-capture synth:2 --duration=4 --epoch=2 | ss-featurize >f.sst
status 0 ss-link --spool=spool -- "$peer" j <f.sst
for f in j/*.sst; do ss-cat "$f"; done >all
[ "$(grep -c ' data .*epoch=1 ' all)" -eq "$n" ] || fail 'what was kept has not arrived'
[ "$(grep -c ' data .*epoch=2 ' all)" -eq "$(ss-cat --count f.sst)" ] || fail 'what is new has not arrived'
[ "$(grep -c '^# pcm' all)" -eq 1 ] && [ "$(grep -c '^# logmel' all)" -eq 1 ] || fail 'headers were mixed'

# Truncated input: what came before arrives, and the peer sees that the end is missing.
head -c 10000 p.sst >short.sst
status 4 ss-link -- "$peer" k <short.sst
matches err 'standard input.*truncated'
matches err 'peer: connection ended'
[ "$(ss-cat --stream k/*.sst | ss-cat --count)" -ge 1 ] || fail 'nothing arrived'

echo 'no stream' >text
status 4 ss-link --drain=100 -- "$peer" k <text
matches err 'standard input: .*not a stream'

# SIGTERM: a source that has fallen silent ends after a second, and all is delivered.
mkfifo in
ss-link --spool=spool -- "$peer" t <in >back 2>said &
link=$!
exec 9>in
head -c 10000 p.sst >&9
i=0
until ls t/*.sst >/dev/null 2>&1; do
    i=$((i + 1))
    [ $i -lt 500 ] || fail 'nothing came'
    sleep 0.02
done
kill -TERM $link
wait $link || fail "status $? after SIGTERM"
exec 9>&-
status 0 ss-cat --check back
[ "$(ss-cat --stream t/*.sst | ss-cat --count)" -ge 1 ] || fail 'nothing was drained'

# A reader that has gone: death by SIGPIPE, as any filter, with what is not delivered kept.
cat >gone.py <<'P'
import os, signal, subprocess
r, w = os.pipe()
os.close(r)
p = subprocess.run(['ss-link', '--spool=spool2', '--', os.environ['SS_TEST_PEER'], 'g'], stdin=open('p.sst', 'rb'), stdout=w)
assert p.returncode == -signal.SIGPIPE, p.returncode
P
python3 gone.py
status 0 ss-link --spool=spool2 -- "$peer" g <f.sst
# A spool torn by a power cut is told and used; one in use is refused.
status 0 ss-link --drain=0.1 --spool=torn "unix:$PWD/nobody" <p.sst
first=$(ls torn/*.sst | head -n 1)
size=$(wc -c <"$first")
head -c $((size - 30)) "$first" >cut && mv cut "$first"
status 0 ss-link --spool=torn -- "$peer" u <f.sst
matches err 'torn/.*was torn'
ss-link --spool=torn --drain=60 "unix:$PWD/nobody" <p.sst >/dev/null 2>&1 &
link=$!
i=0
until [ "$(cat torn/* | wc -c)" -ge 10000 ]; do
    i=$((i + 1))
    [ $i -lt 500 ] || fail 'no spool'
    sleep 0.02
done
status 3 ss-link --spool=torn -- "$peer" u <p.sst
matches err 'in use by another process'
kill -9 $link
