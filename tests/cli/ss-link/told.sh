# What is told of the records that pass, in the state directory.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init --width=1/4 -o m.safetensors
ss-capture synth:1 --duration=8 | ss-featurize >f.sst
n=$(ss-cat --count f.sst)
ss-encode --until=5 --dtype=f16 -m m.safetensors f.sst >cut.sst
status 0 ss-link --no-ack --state=S -- cat <cut.sst
[ "$(cat S/link.windows) $(cat S/cut) $(cat S/codec)" = "$n 5 f16" ] || fail "told: $(cat S/link.windows S/cut S/codec)"
# All bytes, and the provenance of one program more.
awk -v file="$(wc -c <cut.sst)" '{ exit !($1 >= file && $1 < file + 2000) }' S/bytes || fail "bytes: $(cat S/bytes)"
# A stream that is not stamped is cut where its kind says.
status 0 ss-link --no-ack --state=S -- cat <f.sst
[ "$(cat S/cut) $(cat S/codec)" = 'input f32' ] || fail "told: $(cat S/cut S/codec)"
