# What state directories made by hand are said to be.
. "$SS_SRC/tests/cli/lib.sh"
unset SS_STATE
put() { # put FILE VALUE [AGE IN SECONDS]
    mkdir -p "$(dirname "$1")"
    echo "$2" >"$1"
    touch -d "${3:-0} seconds ago" "$1"
}
device() { # all is well with it
    put "$1/link" up 5000
    put "$1/link.windows" "${2:-100}"
    for q in queue spool dropped; do put "$1/$q" 0; done
    put "$1/loss" 4.158
    put "$1/uncertainty.edge" '17 0.25'
    put "$1/version" 12 100000
}
# says DIR PROBLEM: that and nothing else, with status 1; empty: all is well.
says() {
    if [ -n "$2" ]; then status 1 ss-top --check "$1"; else status 0 ss-top --check "$1"; fi
    [ ! -s err ] || fail "said on standard error: $(cat err)"
    [ -z "$2" ] || matches out "^$1: $2\$"
    [ "$(wc -l <out)" = "${3:-$([ -z "$2" ] && echo 0 || echo 1)}" ] || { cat out; fail "so many lines: $1 $2"; }
}
status 2 ss-top
matches err 'SS_STATE'
device S
says S ''
SS_STATE=S status 0 ss-top --check
status 1 ss-top --check nowhere
matches out "^nowhere: cannot open 'nowhere': No such file"
mkdir empty
says empty 'no window yet'
# Nothing is written there.
[ -z "$(ls -A empty)" ] || fail 'something was made in a folder that was only looked at'
put S/link down 42
says S 'link down for 4[2-9] s'
put S/link down 432000
says S 'link down for 5 d'
device S
put S/link.windows 100 50
put S/uncertainty.edge '17 0.25' 40
says S 'nothing new for 4[0-9] s'
status 0 ss-top --check --stale=1000 S
status 1 ss-top --alive S
device S
put S/queue 3 100
says S 'the link is dead: it has said nothing for 1[0-9][0-9] s'
status 0 ss-top --alive S
device S
put S/apply.results 99 33
says S 'no results for 3[3-9] s'
rm S/apply.results
put S/dropped 17
says S '17 records dropped'
put S/dropped 0
put S/loss nan
says S 'the loss is not finite'
put S/loss 1
put S/spool 16000001
says S ''
status 1 ss-top --check --spool-limit=15MiB S
matches out '16000001 bytes in the spool, more than 15728640'
status 0 ss-top --check --spool-limit=0 S
# What is no value is as if it were not there; what is set by hand counts.
put S/loss 'one two three'
put S/spool ''
says S ''
mkdir -p S/set
echo 5 >S/set/dropped
says S '5 records dropped'
# Several things at once.
put S/link down 60
says S '5 records dropped' 2
rm -r S

# Folders of devices, those with a problem first, numbers in their order.
for n in 1 2 10; do
    put "F/device.$n/windows" $((n * 10))
    put "F/device.$n/connected" 1
    put "F/device.$n/since" 1000
    put "F/device.$n/u" 0.5
done
put F/windows 60
status 0 ss-top --check F
status 0 ss-top --once --interval=0.1 F
[ "$(awk 'NR > 2 { printf "%s ", $1 }' out)" = 'F device.1 device.2 device.10 ' ] || { cat out; fail 'order'; }
put F/device.10/connected 0
put F/device.10/windows 100 9999
put F/device.10/u 0.5 9999
put F/device.10/since $(($(date +%s) - 60))
status 1 ss-top --once --interval=0.1 F
[ "$(awk 'NR > 2 && !/!/ { printf "%s ", $1 }' out)" = 'device.10 F device.1 device.2 ' ] || { cat out; fail 'order'; }
matches out '^  ! not connected for 6[0-9] s'
matches out '1 of 4 with a problem'
matches out '0.50?'
awk 'length > 80 { exit 1 }' out || fail 'a line is too long'
status 1 ss-top --check F
matches out '^device.10: not connected for 6[0-9] s$'
# JSON: an object a line, and the same said.
device F/device.3
put F/device.3/latency.train 12.5
put F/device.3/codec i8
status 1 ss-top --once --json --interval=0.1 F
need python3
python3 - <<'P'
import json
rows = {r['state']: r for r in map(json.loads, open('out'))}
assert list(rows) == ['device.10', 'F', 'device.1', 'device.2', 'device.3'], list(rows)
bad, good = rows['device.10'], rows['device.3']
assert not bad['well'] and bad['problems'][0].startswith('not connected') and 'u' in bad['stale'] and bad['u'] == 0.5
assert good['well'] and good['problems'] == [] and good['stale'] == []
assert good['link'] == 'up' and good['codec'] == 'i8' and good['latency.train'] == 12.5 and good['dropped'] == 0
assert good['windows_per_second'] is None and 'bandwidth' not in good
P
# A folder of devices and nothing else has no line of its own.
rm F/windows
status 1 ss-top --once --interval=0.1 F
grep -q '^F ' out && fail 'a line for the folder'
# Names move no terminal.
mkdir "$(printf 'F/device.\033[2J')"
put "$(printf 'F/device.\033[2J')/windows" 1
status 1 ss-top --once --interval=0.1 F
tr -d '\n -~' <out | grep -q . && fail 'other characters than text'
# What a window takes is told where it is known.
device E
put E/energy 12.34
status 0 ss-top --once --interval=0.1 E
matches out ' energy 12.3 mJ'
status 0 ss-top --once --interval=0.1 --json E
matches out '"energy":12.34'
exit 0
