# Everything arrives, in order, over a command's pipes, a UNIX socket and TCP; the answers come back; the state
# directory tells; a peer that acknowledges nothing.
. "$SS_SRC/tests/cli/lib.sh"
need python3
peer=${SS_TEST_PEER:?}
ss-capture synth:1 --duration=20 --epoch=7 >p.sst
n=$(ss-cat --count p.sst)

arrived() { # FOLDER: the journal there holds the records of p.sst, and ./out their results
    mv out answers
    ss-cat --stream "$1"/*.sst >got.sst
    status 0 ss-cat --compare=p.sst got.sst
    status 0 ss-cat --check answers
    ss-cat answers >text
    matches text '^# return'
    [ "$(grep -c ' result ' text)" -eq "$n" ] || fail 'not every record has its result'
}

status 0 ss-link --state=S -- "$peer" j1 <p.sst
arrived j1
grep -q down S/link && grep -qx 0 S/queue && grep -qx 0 S/waiting && grep -qx 0 S/dropped || fail 'the state directory says otherwise'
ss-cat --json j1/*.sst | head -n 1 >head
matches head '"program": *"ss-link"'

"$peer" j2 "$PWD/socket" &
other=$!
trap 'kill $other 2>/dev/null || true' EXIT
status 0 ss-link --retry=0.05 --spool=spool "unix:$PWD/socket" <p.sst
kill $other
wait $other
arrived j2
[ "$(ss-cat --count spool/*.sst)" -eq 0 ] || fail 'the spool keeps what is acknowledged'

cat >relay.py <<'P'
import socket, subprocess, sys
s = socket.create_server(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.settimeout(None)
subprocess.run(sys.argv[1:], stdin=c, stdout=c)
P
python3 relay.py "$peer" j3 >port &
i=0
until [ -s port ]; do
    i=$((i + 1))
    [ $i -lt 200 ] || fail 'no port'
    sleep 0.05
done
status 0 ss-link "tcp:127.0.0.1:$(cat port)" <p.sst
arrived j3

# A filter as the peer: what it says is the output.
status 0 ss-link --no-ack -- ss-featurize <p.sst
mv out far.sst
ss-featurize p.sst >near.sst
status 0 ss-cat --check far.sst
status 0 ss-cat --compare=near.sst far.sst
# Nothing to send is a stream too.
ss-cat --head=0 --stream p.sst >nothing.sst
status 0 ss-link --no-ack -- ss-featurize <nothing.sst
cp out none.sst
status 0 ss-cat --check none.sst
status 0 ss-link -- "$peer" j4 <nothing.sst
cp out none.sst
status 0 ss-cat --check none.sst

# What does not fit together.
status 2 ss-link
status 2 ss-link --no-ack --spool=x -- cat
status 2 ss-link --spool-size=1 -- cat
status 2 ss-link tcp:nowhere <p.sst
status 3 ss-link -- ./no-such-program <p.sst
matches err "cannot run './no-such-program': No such file"
