# Sound files for the tests, from the standard library alone. usage: lib.py NAME RATE CHANNELS SECONDS [HZ]
import math, struct, sys

def wav(name, rate, channels, frames, declared=None):
    """16 bit; frames is a list of tuples or numbers within +-1."""
    body = b''.join(struct.pack('<h', round(32767 * v)) for f in frames for v in (f if isinstance(f, tuple) else (f,)))
    n = len(body) if declared is None else declared
    open(name, 'wb').write(b'RIFF' + struct.pack('<I', 36 + n & 0xffffffff) + b'WAVEfmt ' + struct.pack(
        '<IHHIIHH', 16, 1, channels, rate, rate * channels * 2, channels * 2, 16) + b'data' + struct.pack('<I', n) + body)

if __name__ == '__main__':
    rate, channels, n = int(sys.argv[2]), int(sys.argv[3]), round(float(sys.argv[4]) * int(sys.argv[2]))
    hz = float(sys.argv[5]) if len(sys.argv) > 5 else 440
    # Channel c is c + 1 times as loud as the first.
    wav(sys.argv[1], rate, channels, [tuple((c + 1) / channels / 2 * math.sin(2 * math.pi * hz * i / rate) for c in range(channels))
                                      for i in range(n)])
