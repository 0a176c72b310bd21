# Device and server as two hosts with a cable between them and a real sshd: learning goes on while the link goes down and
# comes up, the server's learner is killed, the bandwidth changes and somebody sets the cut by hand.
. "$SS_SRC/tests/cli/lib.sh"
. "$SS_SRC/tests/cli/sshd.sh"
[ "$(id -u)" = 0 ] || skip 'network namespaces need root'
need ip
need tc
need ssh
d=ssd$$ s=sss$$
clean() {
    ip netns pids $d 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns pids $s 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del $d 2>/dev/null || true
    ip netns del $s 2>/dev/null || true
}
trap clean EXIT
ip netns add $d 2>/dev/null || skip 'no network namespaces here'
ip netns add $s
ip link add v$d type veth peer name v$s 2>/dev/null || skip 'no veth here'
ip link set v$d netns $d
ip link set v$s netns $s
ip -n $d addr add 10.77.0.1/24 dev v$d
ip -n $s addr add 10.77.0.2/24 dev v$s
for n in $d $s; do
    ip -n $n link set lo up
    ip -n $n link set v$n up
done
rate() { ip netns exec $d tc qdisc replace dev v$d root tbf rate "$1" burst 32kbit latency 400ms; }
rate 20mbit 2>/dev/null || skip 'no tbf or no mounts here' # in a bare chroot
sshd_start "ip netns exec $s" 10.77.0.2 "ip netns exec $d"

ss-model init -o m.safetensors
cp m.safetensors edge.safetensors
cp m.safetensors server.safetensors
mkdir -p S/set T
cat >device.sh <<C
sh -c 'echo \$\$ >source; exec ss-capture synth:2 --duration=250 --realtime' | ss-featurize | ss-split-policy --state=S --cut=3 --policy=heuristic |
    ss-train --until=auto -m edge.safetensors --state=S --start=8 --every=8 |
    ss-link --drain=60 --state=S --spool=spool --retry=0.2 -- ssh -F config there \\
        'cd "$PWD" && export PATH="$PATH" && exec ss-train --refine -m server.safetensors --checkpoint=state --journal=journal --state=T \\
            --start=16 --sync-every=16 --save-seconds=5 --log=steps' |
    ss-apply --state=S
C
ip netns exec $d sh -eu device.sh >device.out 2>device.err &
device=$!

# within SECONDS WHAT COMMAND...: it comes true in time
within() {
    seconds=$1 what=$2
    shift 2
    i=0
    until "$@" 2>/dev/null; do
        i=$((i + 1))
        [ $i -lt $((seconds * 10)) ] || {
            sed 's/^/device: /' device.err
            for f in S/*; do [ -f "$f" ] && echo "$f: $(cat "$f")"; done
            fail "not within $seconds s: $what"
        }
        kill -0 $device 2>/dev/null || { cat device.err; fail "the pipeline ended before: $what"; }
        sleep 0.1
    done
}
is() { test "$(cat "$1")" = "$2"; }
results() { test "$(cat S/apply.results)" -ge "$1"; }
steps() { grep -q "\"step\":$1," steps; }
version() { test "$(cat S/version)" -ge "$1"; }
cut() { test "$(awk '{ print $2 }' S/split)" = "$1"; }

within 60 'results come back' results 3
echo 6 >S/set/split
within 20 'the cut that was set' cut 6
rm S/set/split

ip -n $d link set v$d down
within 40 'that the link is down is noticed' is S/link down
sleep 2
test "$(cat S/queue)" -gt 0 || fail 'nothing waits while the link is down'
ip -n $d link set v$d up
within 30 'the link is up again' is S/link up

n=$(cat S/apply.results)
kill -9 "$(sed 's/[^0-9].*//' server.safetensors.lock)"
within 60 'the server goes on after it was killed' results $((n + 3))
rate 1mbit
n=$(cat S/apply.results)
within 60 'it goes on at 1 Mbit/s' results $((n + 3))
rate 20mbit
within 60 'the server takes steps' steps 2
within 60 'weights of the server are taken in' version 1
kill "$(cat source)" # it has heard enough: what is on its way arrives
wait $device || { cat device.err; fail "the pipeline ended with $?"; }
test "$(cat S/queue)" = 0 || fail "$(cat S/queue) records were not delivered"
test "$(cat S/dropped)" = 0 || fail "$(cat S/dropped) records were dropped"
matches device.err 'link is down'
