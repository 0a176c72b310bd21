# Lock-step over ss-link, the server killed before, while and after it sends gradients, then the device: what was under
# way comes again, and both have the bits of a run that nothing happened to.
. "$SS_SRC/tests/cli/lib.sh"
need python3
need strace
export ASAN_OPTIONS=detect_leaks=0 # which cannot be done to who is traced
strace -o /dev/null true 2>/dev/null || skip 'strace may not trace here'
ss-model init --mels=32 --dim=16 -o m.safetensors
ss-capture synth:4 --duration=26 --epoch=5 | ss-featurize --mels=32 | ss-cat --stream --slice=0:32 >f.sst
step='--optimiser=sgd --rate=0.05 --warmup=2 --sync-by-count --save-windows=8'
server="ss-train --refine -m s.safetensors --checkpoint=s.state --journal=s.journal $step --batch=8 --every=8 --start=8"
# The server dies at the write whose number is the first in the file kills; when there is none, it does not.
cat >server <<X
#!/bin/sh -u
read -r when <kills || exec $server --gradients=f32
sed -i 1d kills
exec strace -o /dev/null -e trace=writev -e inject=writev:signal=KILL:when=\$when $server --gradients=f32
X
chmod +x server
# pair [WHEN]: the device dies at its write of that number.
pair() {
    before=
    [ $# -eq 0 ] || before="strace -o /dev/null -e trace=writev -e inject=writev:signal=KILL:when=$1"
    # shellcheck disable=SC2086
    { $before ss-train -m d.safetensors --checkpoint=d.state --until=3 --state=S --gradients=apply --wait-gradients=8 $step \
        f.sst || echo "device $?" >>failed; } |
        { ss-link --spool=spool --keepalive=1 --retry=0.05 --drain=60 -- ./server || echo "link $?" >>failed; } |
        { ss-apply --state=S || echo "apply $?" >>failed; }
}
fresh() {
    rm -rf S spool ./*.state* s.journal failed
    cp m.safetensors d.safetensors
    cp m.safetensors s.safetensors
    : >kills
}
equal() {
    [ ! -e failed ] || fail "$1: $(cat failed)"
    cmp d.safetensors d.whole || fail "$1: another device"
    cmp s.safetensors s.whole || fail "$1: another server"
}
fresh
pair
[ ! -e failed ] || fail "status $(cat failed)"
cp d.safetensors d.whole
cp s.safetensors s.whole
! cmp -s m.safetensors d.whole || fail 'nothing was learnt'

fresh
printf '%s\n' 2 3 4 5 >kills
pair
[ "$(wc -l <kills)" -le 1 ] || fail "the server was not killed as often as it should be"
equal 'server killed'

# In its first batch, and behind a save, with windows on their way.
for when in 2 4; do
    fresh
    pair $when
    matches failed 'device 137'
    rm -f failed # that, and the truncated stream of the link
    pair
    equal "device killed at write $when"
done
