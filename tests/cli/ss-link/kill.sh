# kill -9 of the peer, of ss-link, or of both at any moment: what comes to the peer goes on where it ended, to the
# record (it dies with status 9 otherwise), nothing that was acknowledged is lost, and all that was in the spool
# arrives in the end. SS_KILLS: how often.
. "$SS_SRC/tests/cli/lib.sh"
need python3
cat >kills.py <<'P'
import os, random, re, signal, subprocess, sys, threading, time
peer, kills = os.environ['SS_TEST_PEER'], int(os.environ.get('SS_KILLS', '20'))
rng = random.Random(int(os.environ.get('SS_SEED', '1')))
streams = {}

def stream(epoch):
    data = subprocess.run(['ss-capture', 'synth:1', '--duration=6', '--epoch=%d' % epoch], stdout=subprocess.PIPE,
                          check=True).stdout
    return data

def results(path, seen):
    out = subprocess.run(['ss-cat', path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    for m in re.finditer(r' result .*epoch=(\d+) seq=(\d+)', out):
        seen.setdefault(int(m[1]), set()).add(int(m[2]))

def children(pid):
    try:
        return [int(x) for x in open('/proc/%d/task/%d/children' % (pid, pid)).read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []

seen, whole, total = {}, set(), {}
done, epoch = 0, 0
err = open('said', 'w')
while done < kills:
    epoch += 1
    data = stream(epoch)
    total[epoch] = int(subprocess.run(['ss-cat', '--count'], input=data, stdout=subprocess.PIPE).stdout)
    out = open('back', 'wb')
    p = subprocess.Popen(['ss-link', '--spool=spool', '--retry=0.02', '--keepalive=0.5', '--drain=60', '--', peer, '-k',
                          '100', 'j'], stdin=subprocess.PIPE, stdout=out, stderr=err)
    def feed():
        try:
            step = 7000
            for i in range(0, len(data), step):
                p.stdin.write(data[i:i + step]); p.stdin.flush()
                time.sleep(0.001)
            p.stdin.close()
        except (BrokenPipeError, ValueError):
            pass
    t = threading.Thread(target=feed); t.start()
    alive = True
    while alive and done < kills and rng.random() < 0.8:
        time.sleep(rng.random() * 0.15)
        what = rng.choice(['peer', 'peer', 'link', 'both'])
        victims = children(p.pid) if what != 'link' else []
        if what != 'peer':
            victims.append(p.pid)
        for v in victims:
            try:
                os.kill(v, signal.SIGKILL)
            except ProcessLookupError:
                pass
        done += len(victims) > 0
        alive = what == 'peer'
    if alive:
        t.join()
        status = p.wait(timeout=100)
        assert status == 0, status
        whole.add(epoch)
    else:
        p.wait(timeout=100)
        t.join()
    out.close()
    results('back', seen)

# The last one: no kills, and all that is left arrives.
last = subprocess.run(['ss-link', '--spool=spool', '--retry=0.02', '--drain=60', '--', peer, 'j'], input=stream(999999),
                      stdout=subprocess.DEVNULL, stderr=err)
assert last.returncode == 0, last.returncode
whole.add(999999)
total[999999] = total[1]
got = {}
out = ''
for f in sorted(os.listdir('j')):
    r = subprocess.run(['ss-cat', 'j/' + f], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out += r.stdout.decode()
for m in re.finditer(r' data .*epoch=(\d+) seq=(\d+)', out):
    e, s = int(m[1]), int(m[2])
    assert s == len(got.setdefault(e, [])), ('twice or not in order', e, s)
    got[e].append(s)
assert ' gap ' not in out, 'a gap'
for e in whole:
    assert len(got.get(e, [])) == total[e], ('lost', e, len(got.get(e, [])), total[e])
for e, s in seen.items():
    assert s <= set(got.get(e, [])), ('answered and lost', e)
said = open('said').read()
assert 'expected' not in said, said
left = sum(os.path.getsize('spool/' + f) for f in os.listdir('spool'))
assert left < 2000, left
print('%d kills, %d streams, %d of them whole, %d records' % (done, epoch + 1, len(whole), sum(map(len, got.values()))))
P
python3 kills.py || { tail -n 20 said; fail 'see above'; }
