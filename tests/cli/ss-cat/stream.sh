# Slices, joins and what is passed on.
. "$SS_SRC/tests/cli/lib.sh"
g=$SS_SRC/tests/golden/good
# Without provenance of its own a copy has the same bytes.
for f in every-type every-dtype every-attribute every-flag shapes header; do
    status 0 ss-cat --no-provenance -o copy.sst -f "$g/$f.sst"
    same copy.sst "$g/$f.sst"
done
status 3 ss-cat -o copy.sst "$g/empty.sst"
matches err "exists: use --force"
ss-cat --slice=:4 -o a.sst "$g/every-type.sst"
ss-cat --slice=4: -o b.sst "$g/every-type.sst"
ss-cat --stream --no-provenance a.sst b.sst >joined.sst
status 0 ss-cat --compare=joined.sst "$g/every-type.sst"
status 0 ss-cat --check joined.sst
status 5 ss-cat --stream a.sst "$g/header.sst"
matches err 'cannot join'
# The provenance of every stage is kept.
ss-cat --json -n 0 a.sst >out
matches out '"provenance":\[{"program":"ss-cat","version":"[^"]*","arguments":\["ss-cat","--slice=:4","-o","a.sst",'
# Damage: what came before is passed on, and the output is as truncated as the input.
status 4 ss-cat --stream "$SS_SRC/tests/golden/bad/4-payload-checksum.sst"
mv out part.sst
status 4 ss-cat part.sst
[ "$(grep -c data out)" = 1 ] || fail 'the record before the damage was not passed on'
status 4 ss-cat -o kept.sst "$SS_SRC/tests/golden/bad/4-no-end.sst"
[ ! -e kept.sst ] || fail 'a damaged copy took the name of a whole one'
# Nothing is held back while the input stays open: three records, then silence.
mkfifo fifo
(head -c -51 "$g/every-type.sst"; touch sent; sleep 20) >fifo &
source=$!
ss-cat --stream <fifo 2>/dev/null >live.sst &
cat=$!
i=0
while ! ss-cat live.sst 2>/dev/null | grep -q '^9 type200'; do
    i=$((i + 1))
    [ $i -lt 100 ] || fail 'records were held back'
    sleep 0.1
done
# A signal ends the stream within seconds, whole.
kill -TERM $cat
wait $cat || fail "status $? after a signal"
status 0 ss-cat --check live.sst
kill $source 2>/dev/null || true
# Terminals are refused.
if command -v script >/dev/null; then
    script -qec "ss-cat --stream $g/empty.sst" /dev/null >out || true
    matches out 'standard output is a terminal'
fi
