# At the pace of sound, and stopped in good order.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >live.py <<'PY'
import json, signal, subprocess, time
# One second takes one second: never less; how much more is the machine's business.
begun = time.monotonic()
p = subprocess.run(['ss-capture', '--realtime', '--duration=1', 'synth:1'], capture_output=True)
assert p.returncode == 0 and time.monotonic() - begun >= 0.99
# The first block is there long before the last, and a signal ends the stream where it is.
for sig in (signal.SIGINT, signal.SIGTERM):
    p = subprocess.Popen(['ss-capture', '--realtime', 'synth:1'], stdout=subprocess.PIPE)
    first = p.stdout.read(6000)
    p.send_signal(sig)
    rest = p.stdout.read()
    assert p.wait() == 0
    count = subprocess.run(['ss-cat', '--count'], input=first + rest, capture_output=True)
    assert count.returncode == 0 and int(count.stdout) >= 1, count
# A pipe that stays open and silent does not hold it, and blocks are not kept back.
p = subprocess.Popen(['ss-capture', '--raw=s16le:16000'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdin.write(bytes(2560))
p.stdin.flush()
first = p.stdout.read(5120)
p.send_signal(signal.SIGINT)
assert p.stdout.read() and p.wait() == 0
PY
python3 live.py
