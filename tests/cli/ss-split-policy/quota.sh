# A control group whose quota is used up is a full load, however idle the machine is. Root and version 1 or 2 of cpu only.
. "$SS_SRC/tests/cli/lib.sh"
need python3
[ "$(id -u)" = 0 ] || skip 'not root'
name=ss-test-$$
if [ -w /sys/fs/cgroup/cgroup.procs ] && grep -qw cpu /sys/fs/cgroup/cgroup.subtree_control; then
    groups=/sys/fs/cgroup/$name
    quota() { echo "20000 100000" >"$groups/cpu.max"; }
elif [ -w /sys/fs/cgroup/cpu/cgroup.procs ] && [ -w /sys/fs/cgroup/cpuacct/cgroup.procs ]; then
    groups="/sys/fs/cgroup/cpu/$name /sys/fs/cgroup/cpuacct/$name" # which may be one folder
    quota() { echo 20000 >"/sys/fs/cgroup/cpu/$name/cpu.cfs_quota_us"; }
else
    skip 'no control group of cpu can be made'
fi
# shellcheck disable=SC2086
{
    mkdir -p $groups 2>/dev/null || skip 'no control group can be made'
    trap 'rmdir $groups 2>/dev/null || true' EXIT
}
quota 2>/dev/null || skip 'no quota can be set'
cat >full.py <<'P'
import os, subprocess, sys, time
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
for g in sys.argv[1:]:
    open(g + '/cgroup.procs', 'w').write(str(os.getpid()))
p = subprocess.Popen(['ss-split-policy', '--state=S'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
p.stdin.write(s.preamble('{"kind":"logmel"}'))
window = s.record(dtype=s.F32, dims=(1, 1), payload=bytes(4))
busy = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
end = time.monotonic() + 60
try:
    while not (os.path.exists('S/cpu') and float(open('S/cpu').read()) > 0.9):
        assert time.monotonic() < end, 'the load stays ' + open('S/cpu').read()
        p.stdin.write(window)
        p.stdin.flush()
        time.sleep(0.05)
finally:
    busy.kill()
    busy.wait()
    p.stdin.close()
    p.wait()
P
# shellcheck disable=SC2086
python3 full.py $groups
