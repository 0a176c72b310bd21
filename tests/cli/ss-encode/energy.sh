# What records have cost: modelled, measured by a counter that the test moves, and nothing unless it is asked for.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init --width=1/4 -o m.safetensors
ss-capture synth:1 --duration=8 | ss-featurize >f.sst
n=$(ss-cat --count f.sst)
total() { # ATTRIBUTE FILE: how many records have it, and its sum
    ss-cat --json "$2" | python3 -c "
import json, sys
v = [json.loads(l).get('attributes', {}).get('$1') for l in sys.stdin]
v = [x for x in v if x is not None]
print(len(v), sum(v))"
}
all_tell() {
    [ "$(total energy "$1" | cut -d' ' -f1)" = "$n" ] || fail "$1: not every record tells its energy"
}
ss-encode --until=3 -m m.safetensors f.sst >cut.sst
[ "$(total energy cut.sst) $(total energy_measured cut.sst)" = '0 0 0 0' ] || fail 'energy that was not asked for'
# A processor of 8 W in a profile, two of them: 4 W for the time of the stages before, and more for the network.
python3 - "$SS_SRC/tests/fuzz/specimens/profile/good" <<'P'
import json, sys
p = json.load(open(sys.argv[1]))
p['energy'].update(cpu_w=8, cores=2)
json.dump(p, open('8w.json', 'w'))
p['energy'].update(cpu_w=0)
json.dump(p, open('0w.json', 'w'))
P
status 0 ss-encode --until=3 -m m.safetensors --energy=./8w.json f.sst -o model.sst
ss-cat --json model.sst | python3 -c "
import json, sys
for l in sys.stdin:
    a = json.loads(l).get('attributes')
    if a:
        least = 4e-6 * (a['t_capture'] + a['t_featurize'])
        assert least < a['energy'] < least + 40, a
"
all_tell model.sst
[ "$(total energy_measured model.sst)" = '0 0' ] || fail 'measured, and modelled'
status 0 ss-cat --compare=cut.sst model.sst
# A processor that takes nothing, in a batch; and on from there: what was there stays, and is added to.
status 0 ss-encode --until=3 --batch=8 -m m.safetensors --energy=./0w.json f.sst -o nothing.sst
[ "$(total energy nothing.sst)" = "$n 0" ] || fail "$(total energy nothing.sst)"
ss-encode --until=5 -m m.safetensors --energy=./0w.json model.sst >on.sst
[ "$(total energy on.sst)" = "$(total energy model.sst)" ] || fail 'what was stamped before is not kept'
# The other program that runs windows on a device.
cp m.safetensors t.safetensors
status 0 ss-train -m t.safetensors --energy=raspberry-pi-5 f.sst -o z.sst
all_tell z.sst
status 0 ss-train -m t.safetensors --until=4 --energy=raspberry-pi-5 f.sst -o t4.sst
all_tell t4.sst
status 2 ss-train -m t.safetensors --refine --energy=auto f.sst
status 2 ss-encode --until=3 -m m.safetensors --energy=abacus f.sst
matches err 'raspberry-pi-4b'
mkdir empty
status 3 ss-encode --until=3 -m m.safetensors --energy=measured --system=empty f.sst
matches err 'no energy can be measured'
status 0 ss-encode --until=3 -m m.safetensors --energy=auto --system=empty -v f.sst
matches err 'Raspberry Pi 4B'
# Measured: the counter goes on by known steps between two records, fails for a while, and comes back.
rapl=root/sys/class/powercap/intel-rapl:0
mkdir -p "$rapl"
echo package-0 >"$rapl/name"
cat >measured.py <<'P'
import os, struct, subprocess, sys, time
b = open('f.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', b, 12)[0] + 4
head, records = b[:at], []
while at < len(b):
    n = 4 + struct.unpack_from('<I', b, at)[0]
    records.append(b[at:at + n])
    at += n
def counter(uj):
    with open('now', 'w') as f:
        f.write('%s\n' % uj)
    os.replace('now', sys.argv[1] + '/energy_uj')
counter(1000000)
p = subprocess.Popen(['ss-encode', '--until=3', '-m', 'm.safetensors', '--energy=measured', '--system=root', '-v'],
                     stdin=subprocess.PIPE, stdout=open('got.sst', 'wb'), stderr=open('said', 'wb'))
def put(r):
    before = os.path.getsize('got.sst')
    p.stdin.write(r)
    p.stdin.flush()
    for _ in range(6000):
        if os.path.getsize('got.sst') > before + 4096: # a payload is larger, a header smaller
            return
        time.sleep(0.01)
    raise AssertionError('a record did not come')
p.stdin.write(head)
put(records[0])     # nothing was used
counter(1500000)
put(records[1])     # half a joule
counter('')
put(records[2])     # cannot be read
counter(4000000)
put(records[3])     # whose it is is not known
counter(4250000)
put(records[4])
for r in records[5:]:
    p.stdin.write(r)
p.stdin.close()
assert p.wait() == 0
P
python3 measured.py "$rapl" || {
    cat said
    fail 'measured'
}
matches said 'energy_uj'
matches said 'at rest the machine takes 0 W'
ss-cat --json got.sst | python3 -c "
import json, sys
a = [json.loads(l)['attributes'] for l in sys.stdin if 'attributes' in l]
assert not any('energy' in x for x in a)
got = [x.get('energy_measured') for x in a[:5]]
assert got == [0, 0.5, None, None, 0.25], got
"
