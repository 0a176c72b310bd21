# scripts/server as a service: ss-serve with the learner behind it, a device that comes and goes, all seen from the server.
. "$SS_SRC/tests/cli/lib.sh"
need python3
mkdir d e
ss-model init --width=1/4 -o e/edge.safetensors
cp e/edge.safetensors d/server.safetensors
cat >serve.py <<'P'
import json, os, socket, subprocess, time

scripts = os.environ['SS_SRC'] + '/scripts/'
log = open('said', 'w')
def start(name, **settings):
    return subprocess.Popen(['sh', scripts + name], env=dict(os.environ, **settings), stderr=log)
def top(*arguments):
    p = subprocess.run(['ss-top', '--stale=10', *arguments], capture_output=True, text=True)
    assert not p.stderr, p
    return p.returncode, p.stdout
def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        for p in running:
            assert p.poll() is None, (p.args, p.returncode, open('said').read())
        assert time.monotonic() < end, (top('--once', 'T', 'S'), open('said').read())
        time.sleep(0.05)
def ended(p):
    running.remove(p)
    p.terminate()
    assert p.wait(timeout=60) == 0, open('said').read()

running = [start('server', SS_LISTEN='unix:sock', SS_DATA='d', SS_STATE='T', SS_REFINE='--every=4 --batch=8 --start=8')]
try:
    until(lambda: os.path.exists('sock'))
    running.append(start('device', SS_SOUND='synth:1 --realtime --loop=0', SS_DEVICE='3', SS_SERVER='unix:sock', SS_DATA='e',
                         SS_STATE='S', SS_POLICY='--policy=fixed --cut=5', SS_LINK='--retry=0.1'))
    until(lambda: os.path.exists('T/loss') and os.path.exists('T/device.3/u') and top('--check', 'T', 'S') == (0, ''))
    def is_seen():
        code, text = top('--once', '--json', 'T')
        rows = {r['state']: r for r in map(json.loads, text.splitlines())}
        assert code == 0 and sorted(rows) == ['T', 'device.3'], rows
        d = rows['device.3']
        assert d['connected'] == 1 and d['cut'] == '5', d
        return 0.5 < d['windows_per_second'] < 8  # on a busy machine they come in bursts
    until(is_seen)
    # The device goes; its last windows arrive.
    ended(running[1])
    until(lambda: top('--check', 'T')[1].startswith('device.3: not connected for '))
    assert top('--check', 'S')[0] in (0, 1)
    # The server goes on, idle: its learner says that it lives, while the device's numbers grow old.
    seen = os.stat('T/windows').st_mtime_ns
    until(lambda: os.stat('T/windows').st_mtime_ns > seen)
    assert top('--alive', 'T') == (0, '')
    ended(running[0])
finally:
    for p in running:
        p.terminate()
        p.wait()
assert not os.path.exists('sock')
P
timeout 200 python3 serve.py || { cat said; fail 'see above'; }
[ ! -s said ] || { cat said; fail 'something was said'; }
