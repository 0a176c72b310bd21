# Resolution by load: reduced above 0.75, full again below 0.67, and unmoved by what is not known.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:2 --duration=12 -o sound.sst
reduced() { ss-featurize --resolution=auto --state=S sound.sst 2>err | ss-cat | grep -c ' reduced' || true; }
ss-featurize sound.sst >full.sst
all=$(ss-cat --count full.sst)
[ "$(reduced)" -eq 0 ] || fail 'reduced without a load'
grep -q cpu err || fail 'a missing load is not said'
for cpu in 0.1 0.7 0.75; do
    echo $cpu >S/cpu
    [ "$(reduced)" -eq 0 ] || fail "reduced at $cpu"
done
echo 0.76 >S/cpu
[ "$(reduced)" -eq "$all" ] || fail 'full at 0.76'
echo 0.2 >S/set/cpu # by hand
[ "$(reduced)" -eq 0 ] || fail 'set by hand'
rm S/set/cpu
echo nonsense >S/cpu
[ "$(reduced)" -eq 0 ] || fail 'reduced by nonsense'
# Hysteresis, in one run: clips begin anew with the resolution of the moment.
need python3
cat >step.py <<'PY'
import os, subprocess, time
def load(v):
    open('S/new', 'w').write(f'{v}\n')
    os.rename('S/new', 'S/cpu')
load(0.1)
f = subprocess.Popen(['ss-featurize', '--resolution=auto', '--state=S'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
c = subprocess.Popen(['ss-cat'], stdin=f.stdout, stdout=subprocess.PIPE, text=True)
s = subprocess.Popen(['ss-capture', '--raw=s16le:16000'], stdin=subprocess.PIPE, stdout=f.stdin)
f.stdin.close()
assert c.stdout.readline().startswith('#')
s.stdin.write(bytes(2 * 7 * 1280))  # blocks are whole; each step is six of them
got = []
for v in (0.1, 0.8, 0.7, 0.7, 0.6, 0.7, 0.7, 0.7):
    load(v)
    # The load is looked at when a window is done, so it is set for the one after.
    s.stdin.write(bytes(2 * 7680))
    s.stdin.flush()
    got.append(' reduced' in c.stdout.readline())
s.stdin.close()
# A window is reduced if any of its two halves is: one begins before the change is seen, one after.
assert got == [False, False, True, True, True, True, False, False], got
PY
python3 step.py
status 2 ss-featurize --resolution=auto sound.sst
status 2 ss-featurize --state=S sound.sst
