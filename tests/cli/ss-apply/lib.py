"""Return streams, by the second implementation of the format in tests/golden."""
import os, struct, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s

LEAD = s.preamble('{"kind":"return","arch_hash":"0123456789abcdef","labels":["dog"]}')


def result(seq, u, **more):
    return s.record(s.RESULT, seq=seq, attrs=((3, s.f32(u)), (4, s.f32(2 * u))), **more)


def mixture(n):
    return s.record(s.MIXTURE, dtype=s.F16, dims=(2, 3), attrs=((8, n),), payload=s.values(12, n))


def delta(to, start=None, payload=b'any bytes'):
    return s.record(s.DELTA, dtype=s.PACKED, dims=(1000,), payload=payload,
                    attrs=((13, 100), (32, to - 1 if start is None else start), (33, to)))


def gradient(seq, generation, count=None, device=1):
    attrs = ((8, generation),) if count is None else ((8, generation), (13, count))
    return s.record(s.GRADIENT, dtype=s.F16, dims=(2, 1, 3), seq=seq, device=device, attrs=attrs,
                    payload=s.values(12, seq))


def write(name, records, whole=True):
    with open(name, 'wb') as f:
        f.write(s.stream(records, LEAD) if whole else LEAD + b''.join(records))


def read(name):
    return open(name).read().split()
