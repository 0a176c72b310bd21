#!/usr/bin/env python3
"""What a server's answers take in real time: bytes of an hour, by type, of return streams that ss-train --refine wrote.

usage: returned.py RETURN.sst...     7,500 windows are an hour: one each 0.48 s
"""
import struct, sys

NAMES = {3: 'result', 6: 'gradient', 7: 'delta', 8: 'mixture'}
HOUR = 3600 / 0.48
print(f'{"stream":24} {"windows":>8} {"type":9} {"records":>8} {"bytes each: first":>18} {"mean":>9} {"MB an hour":>11}')
for name in sys.argv[1:]:
    data = open(name, 'rb').read()
    at, sizes = 16 + struct.unpack_from('<I', data, 12)[0] + 4, {}
    while at < len(data):
        n = 4 + struct.unpack_from('<I', data, at)[0]
        sizes.setdefault(data[at + 4], []).append(n)
        at += n
    windows = len(sizes[3])
    for type, n in sorted(sizes.items()):
        if type in NAMES:
            print(f'{name:24} {windows:8} {NAMES[type]:9} {len(n):8} {n[0]:18} {sum(n) / len(n):9.0f} '
                  f'{sum(n) / windows * HOUR / 1e6:11.2f}')
