# Weights and memory come back through the link, and device and server agree.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init -o m.safetensors
ss-capture synth:3 --duration=50 --epoch=5 | ss-featurize >f.sst
ss-encode --until=3 -m m.safetensors f.sst >cut.sst
for d in edge late server; do cp m.safetensors $d.safetensors; done

# server STATE [OPTION...]: what a device with this state directory has to send goes through it, what comes back is laid out
server() {
    state=$1
    shift
    ss-link --drain=60 --state="$state" -- ss-train --refine -m server.safetensors --checkpoint=server.state --journal=journal \
        --state=T --start=16 --sync-every=16 --sync-levels=127 "$@" <cut.sst >return.sst
    ss-apply --state="$state" return.sst
}
versions() { # MODEL
    ss-model info --json "$1" | sed 's/.*"synchronised":\([0-9]*\).*/\1/'
}

# apart A B: the largest difference between values, in millionths; uncertainties are those of two memories
apart() {
    ss-cat --compare="$1" "$2" | awk '/^largest difference/ { printf "%d", $3 * 1e6; n = 1 } END { if (!n) print 0 }'
}

# What a device has learnt nothing beside is what the server gave out.
server S
test -e S/incoming/delta.1.sst || fail "no weights came back"
ss-train --state=S --start=100000 -m edge.safetensors f.sst >z.sst
v=$(cat S/version)
test "$v" -ge 2 || fail "version $v"
test "$(versions edge.safetensors)" = "$v" || fail "the model says $(versions edge.safetensors), not $v"
test "$(versions server.safetensors)" = "$v" || fail "the server says $(versions server.safetensors), not $v"
test -z "$(find S/incoming -name '*.sst')" || fail "not all was taken: $(find S/incoming -name '*.sst')"
for m in m edge server; do ss-encode --until=embedding --no-provenance -m $m.safetensors f.sst >$m.z; done
test "$(apart server.z edge.z)" -lt 1000 || fail "device and server are $(apart server.z edge.z) apart"
test "$(apart server.z m.z)" -gt 4000 || fail "the server has learnt $(apart server.z m.z)"
test "$(cat S/windows)" -gt 0 || fail "nothing told"
status 1 test -e S/loss # no step was taken

# A device that comes later gets what it has missed, in order, and only that.
ss-encode --until=3 -m m.safetensors f.sst | ss-cat --slice=0:1 --stream >cut.sst
mkdir -p L/set
echo 0 >L/version
server L
n=$(find L/incoming -name 'delta.*.sst' | wc -l)
test "$n" = "$v" || fail "$n deltas for who has missed $v"
ss-train --state=L --start=100000 -m late.safetensors f.sst >z.sst
ss-encode --until=embedding --no-provenance -m late.safetensors f.sst >late.z
test "$(apart edge.z late.z)" = 0 || fail "two devices are $(apart edge.z late.z) apart"
echo "$v" >L/version
server L
test -z "$(find L/incoming -name 'delta.*.sst')" || fail "deltas for who has all"
echo 1000 >L/version
status 0 server L
matches err 'has version 1000 of the weights'

# Held back by hand, and by a budget.
mkdir -p T/set
echo 0 >T/set/sync
ss-capture synth:3 --duration=50 --epoch=6 | ss-featurize | ss-encode --until=3 -m m.safetensors >cut.sst
echo "$v" >S/version
server S
test -z "$(find S/incoming -name 'delta.*.sst')" || fail "deltas though none were wanted"
rm T/set/sync
ss-capture synth:3 --duration=50 --epoch=7 | ss-featurize | ss-encode --until=3 -m m.safetensors >cut.sst
server S --sync-budget=1K
n=$(find S/incoming -name 'delta.*.sst' | wc -l)
test "$n" = 1 || fail "$n deltas within a budget that is spent by one"

# What is refused is said, and gone; what cannot be taken yet waits.
cp S/incoming/delta.*.sst waiting.sst
rm S/incoming/delta.*.sst
cp waiting.sst S/incoming/delta.99.sst
printf damage | dd of=S/incoming/delta.99.sst bs=1 seek=2000 conv=notrunc 2>/dev/null
status 0 ss-train --state=S --start=100000 -m edge.safetensors f.sst
matches err 'weights of the server are refused'
test ! -e S/incoming/delta.99.sst || fail "a damaged delta stays"
cp waiting.sst S/incoming/delta.99.sst
status 0 ss-train --state=L --start=100000 -m m.safetensors f.sst # nothing there
mkdir -p N/incoming
cp waiting.sst N/incoming/delta.99.sst
status 0 ss-train --state=N --start=100000 -m m.safetensors f.sst
matches err "begins at version $v, what is here is 0: those between are waited for"
test -e N/incoming/delta.99.sst || fail "a later delta is gone"

# Embeddings of weights that are too old are finished and rated, and not learnt from; the journal remembers which.
echo 0 >L/version
rm -rf server.state* journal S L
for d in edge server; do cp m.safetensors $d.safetensors; done
ss-capture synth:3 --duration=50 --epoch=8 | ss-featurize >f.sst
ss-encode --until=3 -m m.safetensors f.sst >cut.sst
server S
ss-capture synth:3 --duration=20 --epoch=9 | ss-featurize | ss-train --state=O --start=100000 -m edge.safetensors >cut.sst
status 0 server O -v --lag=1
n=$(ss-cat --count cut.sst)
matches err "$n embeddings of weights that were too old were not learnt from"
test "$(cat O/apply.results)" = "$n" || fail "$(cat O/apply.results) results for $n embeddings"
