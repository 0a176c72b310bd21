#!/usr/bin/env python3
"""Bytes a window on the wire, ssh and TCP and all, in both directions.

usage: wire.py [SECONDS]     as root; programs in PATH or in SS_BINDIR; needs ip (network namespaces) and sshd

A device and a server in network namespaces of their own, a cable between them and a real sshd: windows in real time,
one each 0.48 s, through ss-link to ss-train --refine with a journal, which answers each with a result. It takes no
steps here: what weights and gradients cost comes on top. All ways at once, each on a cable of its own; what is counted
is what the cable has carried between two moments SECONDS apart (default 180), link level included, over the windows
that ss-link has taken in meanwhile.
"""
import os, subprocess, sys, tempfile, time

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 180
if 'SS_BINDIR' in os.environ:
    os.environ['PATH'] = os.path.abspath(os.environ['SS_BINDIR']) + ':' + os.environ['PATH']
os.chdir(tempfile.mkdtemp(prefix='ss-bench.'))
os.chmod('.', 0o700)
PERIOD = 0.48 # of windows, seconds
# name, how the device encodes, payload of a window, options of ss-link
WAYS = (('features i8', '--until=input --dtype=i8', 6144, ''), ('cut 3, i8', '--until=3 --dtype=i8', 3072, ''),
        ('cut 6, i8', '--until=6 --dtype=i8', 1536, ''), ('embedding i8', '--until=embedding --dtype=i8', 128, ''),
        ('embedding i8, ten at once', '--until=embedding --dtype=i8', 128, '--max-delay=4800'))

def run(*words):
    subprocess.run(words, check=True)

def cable(k):
    """Name spaces d and s of way k; the server's address."""
    d, s, v, w = (f'{x}{os.getpid()}x{k}' for x in 'dsvw')
    run('ip', 'netns', 'add', d)
    run('ip', 'netns', 'add', s)
    run('ip', 'link', 'add', v, 'netns', d, 'type', 'veth', 'peer', 'name', w, 'netns', s)
    for n, x, a in ((d, v, 1), (s, w, 2)):
        run('ip', '-n', n, 'addr', 'add', f'10.78.{k}.{a}/24', 'dev', x)
        run('ip', '-n', n, 'link', 'set', 'lo', 'up')
        run('ip', '-n', n, 'link', 'set', x, 'up')
    return d, s, v, f'10.78.{k}.2'

def carried(k, d, v):
    """Bytes from the device, bytes to it, windows."""
    text = subprocess.run(['ip', 'netns', 'exec', d, 'cat', '/proc/net/dev'], stdout=subprocess.PIPE, check=True).stdout.decode()
    row = text.split(v + ':')[1].split()
    return int(row[8]), int(row[0]), float(open(f'S{k}/link.windows').read())

for key in ('host', 'user'):
    run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', key)
run('cp', 'user.pub', 'keys')
os.makedirs('/run/sshd', exist_ok=True)
run('ss-model', 'init', '-o', 'm.safetensors')
names, children = [], []
try:
    ways = []
    for k, (name, encode, payload, link) in enumerate(WAYS):
        d, s, v, address = cable(k)
        names += [d, s]
        with open(f'sshd{k}', 'w') as f:
            f.write(f'Port 2222\nListenAddress {address}\nHostKey {os.getcwd()}/host\nAuthorizedKeysFile {os.getcwd()}/keys\n'
                    f'StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n')
        with open(f'config{k}', 'w') as f:
            f.write(f'Host there\nHostName {address}\nPort 2222\nUser root\nIdentityFile {os.getcwd()}/user\nIdentitiesOnly yes\n'
                    f'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n')
        children.append(subprocess.Popen(['ip', 'netns', 'exec', s, '/usr/sbin/sshd', '-D', '-e', '-f', f'sshd{k}'],
                                         stderr=open(f'sshd{k}.log', 'w')))
        run('cp', 'm.safetensors', f'm{k}.safetensors')
        there = (f"cd {os.getcwd()} && PATH={os.environ['PATH']} exec ss-train --refine -m m{k}.safetensors --checkpoint=state{k} "
                 f'--journal=journal{k} --start=1000000 --mixture-every=0 --sync-every=0')
        ways.append((name, payload, d, v, f'ss-capture synth:{k + 1} --realtime --duration={seconds + 30} | ss-featurize '
                     f'| ss-encode {encode} -m m.safetensors | ss-link {link} --state=S{k} -- ssh -F config{k} there "{there}"'))
    time.sleep(1)
    for k, way in enumerate(ways):
        children.append(subprocess.Popen(['ip', 'netns', 'exec', way[2], 'sh', '-c', way[4]],
                                         stdout=open(f'back{k}.sst', 'w'), stderr=open(f'log{k}', 'w')))
    time.sleep(15) # all have begun, and keys are exchanged
    before = [carried(k, d, v) for k, (_, _, d, v, _) in enumerate(ways)]
    time.sleep(seconds)
    after = [carried(k, d, v) for k, (_, _, d, v, _) in enumerate(ways)]
    print(f'{"":28} {"payload":>8} {"record":>7} {"there":>7} {"over it":>8} {"back":>6} {"kbit/s":>7}')
    for k, ((name, payload, *_), a, b) in enumerate(zip(ways, before, after)):
        if open(f'S{k}/link').read().strip() != 'up':
            sys.exit(f'{name}: the link is down: ' + open(f'log{k}').read())
        record = float(open(f'S{k}/bytes').read()) / float(open(f'S{k}/link.windows').read())
        there, back = ((b[i] - a[i]) / (b[2] - a[2]) for i in (0, 1))
        print(f'{name:28} {payload:8} {record:7.0f} {there:7.0f} {there - payload:8.0f} {back:6.0f} '
              f'{(there + back) * 8 / 1000 / PERIOD:7.1f}')
finally:
    for n in names:
        pids = subprocess.run(['ip', 'netns', 'pids', n], stdout=subprocess.PIPE).stdout.split()
        for pid in pids:
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                pass
        subprocess.run(['ip', 'netns', 'del', n])
    for c in children:
        c.wait()
