# The pipelines of scripts/device and scripts/server against each other, through a real sshd, with sound in real time:
# it learns, all is well; the link dies and cannot come back, which is said; it comes back, and all is well again.
. "$SS_SRC/tests/cli/lib.sh"
. "$SS_SRC/tests/cli/sshd.sh"
need python3
sshd_start
bin=$(dirname "$(command -v ss-top)")
mkdir d e
ss-model init --width=1/4 -o d/server.safetensors
cp d/server.safetensors e/edge.safetensors
# What the device's key may run; there is a door in front of it.
cat >far <<F
[ -e '$PWD/open' ] || exit 9
echo \$\$ >'$PWD/far.pid'
PATH='$bin':\$PATH SS_DATA='$PWD/d' SS_STATE='$PWD/T' SS_REFINE='--every=4 --batch=8 --start=8' exec sh '$SS_SRC/scripts/server'
F
cat >device.conf <<F
SS_SOUND="synth:1 --realtime --loop=0"
SS_DEVICE=3
SS_SERVER="ssh -F config there sh $PWD/far"
SS_DATA=e
SS_STATE=S
SS_UNTIL=auto
SS_POLICY="--policy=fixed --cut=5"
SS_LINK="--retry=0.2"
F
: >open
cat >running.py <<'P'
import json, os, signal, socket, subprocess, time

def top(*arguments):
    p = subprocess.run(['ss-top', '--stale=5', *arguments], capture_output=True, text=True)
    assert not p.stderr, p
    return p.returncode, p.stdout
# As systemd does: a socket to be told on, and a dog.
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind('told')
told.setblocking(False)
heard = []
def listen():
    while True:
        try:
            heard.append(told.recvmsg(4096)[0].decode())
        except BlockingIOError:
            return heard
env = dict(os.environ, NOTIFY_SOCKET=os.path.abspath('told'), WATCHDOG_USEC='3000000')
p = subprocess.Popen(['sh', os.environ['SS_SRC'] + '/scripts/device', 'device.conf'], env=env, stderr=open('said', 'w'))
def until(what, seconds=90):
    end = time.monotonic() + seconds
    while not what():
        listen()
        assert p.poll() is None, (p.returncode, open('said').read())
        assert time.monotonic() < end, (top('--once', 'S', 'T'), open('said').read(), heard[-3:])
        time.sleep(0.1)
try:
    until(lambda: top('--check', 'S', 'T') == (0, '') and os.path.exists('T/loss'))
    code, text = top('--once', '--json', 'S')
    r = json.loads(text)
    assert code == 0 and r['well'] and r['problems'] == [], r
    assert 0.5 < r['windows_per_second'] < 8 and r['bytes_per_second'] > 100, r
    assert r['cut'] == '5' and r['codec'] == 'i8' and r['link'] == 'up', r
    assert 0 < r['latency'] < 60000 and r['latency.finish'] > 0 and 0 <= r['uncertainty.server'] <= 1, r
    # The server's side has learnt.
    code, text = top('--once', '--json', 'T')
    r = json.loads(text)
    assert code == 0 and r['windows'] > 0 and r['loss'] > 0, r
    if subprocess.run(['sh', '-c', 'command -v systemd-notify'], stdout=subprocess.DEVNULL).returncode == 0:
        until(lambda: any('WATCHDOG=1' in h and 'all is well' in h for h in heard))
        assert any('READY=1' in h for h in heard), heard
    # The way is cut, by a kill, and shut.
    os.remove('open')
    os.kill(int(open('far.pid').read()), signal.SIGKILL)
    until(lambda: 'S: link down for ' in top('--check', 'S')[1])
    assert top('--alive', 'S')[0] == 0
    open('open', 'w').close()
    until(lambda: top('--check', 'S', 'T') == (0, ''))
    # The end: the sound first, then all that is on its way.
    p.terminate()
    end = time.monotonic() + 60
    while p.poll() is None and time.monotonic() < end:
        listen()
        time.sleep(0.05)
    assert p.poll() == 0, (p.poll(), open('said').read())
finally:
    if p.poll() is None:
        p.terminate()
        p.wait()
P
timeout 200 python3 running.py || { cat said; fail 'see above'; }
matches said 'link is down'
# Nothing is left behind: all was acknowledged, and learnt from once.
status 0 ss-model check e/edge.safetensors d/server.safetensors
# A program that fails is named.
status 1 env SS_LINK=--drain=0.1 SS_SOUND=nowhere.wav SS_SERVER=unix:x SS_DATA=e SS_STATE=S2 sh "$SS_SRC/scripts/device"
matches err '^device: the source ended with status 3'
status 2 env SS_SERVER= sh "$SS_SRC/scripts/device"
status 2 env SS_SERVER=unix:x SS_DATA=nowhere sh "$SS_SRC/scripts/device"
matches err 'no model'
status 2 sh "$SS_SRC/scripts/server" nowhere.conf
for s in device server; do
    status 0 sh "$SS_SRC/scripts/$s" --help
    matches out "^usage: $s"
done
