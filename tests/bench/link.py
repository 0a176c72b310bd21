#!/usr/bin/env python3
"""What ss-link costs: records a second, and processor time a record, beside the same peer without it.

usage: link.py [ROUNDS]     programs in PATH or in SS_BINDIR; SS_TEST_PEER: the peer of the tests, ss-test-peer

The peer journals what comes, syncs it in groups and acknowledges it (tests/cli/peer.c). Time: from the start until all
is acknowledged and all have ended; ways in turns; minimum, median and largest of ROUNDS (default 5).
"""
import os, shutil, statistics, struct, subprocess, sys, tempfile, time

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
if 'SS_BINDIR' in os.environ:
    os.environ['PATH'] = os.path.abspath(os.environ['SS_BINDIR']) + ':' + os.environ['PATH']
peer = os.path.abspath(os.environ['SS_TEST_PEER'])
os.chdir(tempfile.mkdtemp(prefix='ss-bench.'))

def made(name, dtype, shape, records):
    """A stream of records of one shape."""
    size = {'|i1': 1, '<f4': 4}[dtype]
    for k in shape:
        size *= k
    text = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (dtype, str((records,) + shape))
    text += ' ' * (-(len(text) + 11) % 64) + '\n'
    with open('x.npy', 'wb') as f:
        f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text.encode())
        for _ in range(records):
            f.write(bytes(size))
    subprocess.run(['ss-cat', '-qf', '--from-npy=x.npy', '--kind=' + ('embedding' if len(shape) == 1 else 'cut'), '-o', name],
                   check=True)

ways = {'peer alone': [peer, 'journal'],
        'ss-link, in memory': ['ss-link', '-q', '--drop=none', '--', peer, 'journal'],
        'ss-link, --spool': ['ss-link', '-q', '--drop=none', '--spool=spool', '--', peer, 'journal']}

print(f'{"records":24} {"way":20} {"records/s":>10} {"median":>10} {"least":>10} {"CPU, us a record":>17}')
for label, dtype, shape, records in (('embedding i8, 128 bytes', '|i1', (128,), 100000), ('cut f32, 24 KiB', '<f4', (32, 8, 24), 4000)):
    made('x.sst', dtype, shape, records)
    seen = {way: [] for way in ways}
    for i in range(rounds):
        for way in list(ways)[i % 3:] + list(ways)[:i % 3]:
            shutil.rmtree('journal', ignore_errors=True)
            shutil.rmtree('spool', ignore_errors=True)
            begin = time.perf_counter()
            with open('x.sst', 'rb') as stream:
                p = subprocess.Popen(ways[way], stdin=stream, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(p.pid, 0)
            if status:
                sys.exit(f'failed: {ways[way]}')
            # what ss-link has waited for, the peer, is in it
            seen[way].append((records / (time.perf_counter() - begin), (used.ru_utime + used.ru_stime) * 1e6 / records))
    for way, s in seen.items():
        rate = [x for x, _ in s]
        print(f'{label:24} {way:20} {max(rate):10.0f} {statistics.median(rate):10.0f} {min(rate):10.0f} {min(c for _, c in s):17.1f}')
