#!/usr/bin/env python3
"""Write the golden specimens of ss-stream(5) into good/ and bad/ beside this file (or into the folder given).

A second implementation of the format, from its page alone, in the standard library: what it writes must be read by the
programs, and what it damages must be refused. The name of a damaged specimen begins with the exit status that
ss-cat --check gives. Names in good/ that begin with foreign- are valid in a form that our own writer does not choose;
all others are to come out of reader and writer with every byte the same.
"""
import os
import struct
import sys

POLYNOMIAL = 0x82F63B78
F32, F16, BF16, I8, U8, I16, I32, I64, F64, PACKED = range(1, 11)
SIZE = {F32: 4, F16: 2, BF16: 2, I8: 1, U8: 1, I16: 2, I32: 4, I64: 8, F64: 8}
DATA, GAP, RESULT, ACK, RESUME, GRADIENT, DELTA, MIXTURE, END, KEEPALIVE = 1, 2, 3, 4, 5, 6, 7, 8, 127, 128
FLOATS = {3, 4, 9, 12, 34, 35}
EPOCH = 1763885000000000000


def table():
    out = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (POLYNOMIAL if i & 1 else 0)
        out.append(i)
    return out


TABLE = table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ TABLE[(crc ^ b) & 255]
    return crc ^ 0xFFFFFFFF


def u32(v):
    return struct.pack("<I", v)


def f32(v):
    return struct.unpack("<I", struct.pack("<f", v))[0]


def preamble(json='{"kind":"embedding"}', magic=b"\x89SST\r\n\x1a\n", major=1, minor=0, length=None, crc=None):
    json = json.encode() if isinstance(json, str) else json
    b = magic + struct.pack("<HHI", major, minor, len(json) if length is None else length) + json
    return b + u32(crc32c(b) if crc is None else crc)


def attributes(attrs, classes={}):
    b = b""
    for number, value in attrs:
        size = 0 if value < 1 << 8 else 1 if value < 1 << 16 else 2 if value < 1 << 32 else 3
        size = classes.get(number, 2 if number in FLOATS else size)
        b += bytes([size << 6 | number]) + value.to_bytes(1 << size, "little")
    return b


def record(type=DATA, flags=0, dtype=0, dims=(), device=1, epoch=EPOCH, seq=0, time=EPOCH, attrs=(), payload=b"",
           classes={}, reserved=0, length=None, attr_bytes=None, head_crc=None, payload_crc=None, rank=None):
    a = attributes(attrs, classes) if not isinstance(attrs, bytes) else attrs
    head = struct.pack("<BBBBHH", type, flags, dtype, len(dims) if rank is None else rank,
                       len(a) if attr_bytes is None else attr_bytes, reserved)
    head += b"".join(u32(d) for d in dims) + struct.pack("<IQQq", device, epoch, seq, time) + a
    tail = payload + u32(crc32c(payload) if payload_crc is None else payload_crc) if payload else b""
    head = u32(len(head) + 4 + len(tail) if length is None else length) + head
    return head + u32(crc32c(head) if head_crc is None else head_crc) + tail


def sums(b):
    """The checksums of a record, as they stand in it."""
    n = 12 + 4 * b[7] + 28 + struct.unpack_from("<H", b, 8)[0]
    return b[n:n + 4] + (b[-4:] if len(b) > n + 4 else b"")


def end(lead, records, count=None, crc=None):
    if crc is None:
        crc = crc32c(lead[-4:] + b"".join(sums(r) for r in records))
    return record(END, dtype=I32, device=0, epoch=0, seq=len(records) if count is None else count, time=0,
                  payload=u32(crc))


def stream(records, lead=None):
    lead = preamble() if lead is None else lead
    return lead + b"".join(records) + end(lead, records)


def values(n, seed=1):
    return bytes((seed * 37 + i * 29) & 255 for i in range(n))


def z(seq, **more):
    """An int8 embedding of four numbers."""
    return record(dtype=I8, dims=(4,), seq=seq, attrs=((1, 10), (5, seq % 3), (9, f32(0.0078125))),
                  payload=values(4, seq + 1), **more)


EVERY_ATTRIBUTE = tuple((a, f32(0.5 * a) if a in FLOATS else (1 << 2 * a % 64) - 1) for a in list(range(1, 24)) +
                        list(range(25, 32)) + [32, 33, 34])


def good():
    yield "empty", stream([])
    yield "example", stream([record(dtype=I8, dims=(4,), seq=7, time=EPOCH + 3360000000, payload=bytes((1, 2, 253, 4)),
                                    attrs=((1, 10), (3, f32(0.25)), (6, 300)))])  # the one in ss-stream(5)
    yield "header", stream([], preamble(
        '{"kind":"logmel","rate":16000,"frontend":{"mels":64,"hop":0.01},"frontend_hash":"0123456789abcdef",'
        '"arch_hash":"fedcba9876543210","labels":["dog","B\u00e4r","\u96e8"],"provenance":[{"program":"ss-capture",'
        '"version":"0.1.0","arguments":["ss-capture","x y.flac"]},{"program":"ss-featurize","version":"0.1.0",'
        '"arguments":[]}],"later":{"than":["this",null,true,1.5]}}'))
    yield "every-type", stream([
        z(0),
        record(GAP, seq=1, attrs=((13, 41), (14, 2))),
        record(RESULT, seq=42, attrs=((3, f32(0.25)), (8, 7))),
        record(ACK, seq=41),
        record(RESUME, seq=41),
        record(GRADIENT, dtype=F16, dims=(2, 1, 3), seq=42, attrs=((1, 4), (8, 7)), payload=values(12)),
        record(DELTA, dtype=PACKED, dims=(1000,), attrs=((32, 7), (33, 8)), payload=values(77)),
        record(MIXTURE, dtype=F16, dims=(3, 4), attrs=((8, 7),), payload=values(24)),
        record(KEEPALIVE, device=0, epoch=0, time=0),
        record(200, dtype=77, dims=(3,), seq=9, attrs=((50, 1),), payload=values(5)),
        record(255),
    ])
    yield "every-dtype", stream([record(dtype=t, dims=(2, 3), seq=t, payload=values(6 * SIZE.get(t, 7), t))
                                 for t in range(F32, PACKED + 1)])
    yield "every-attribute", stream([record(RESULT, attrs=EVERY_ATTRIBUTE)] +
                                    [record(RESULT, seq=1 + i, attrs=((13, v),)) for i, v in enumerate(
                                        [0, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])])
    yield "every-flag", stream([z(i, flags=i) for i in range(16)])
    yield "shapes", stream([
        record(dtype=F32, payload=values(4)),
        record(dtype=U8, dims=(2, 1, 2, 1, 2, 1, 2, 1), seq=1, payload=values(16)),
        record(dtype=F32, dims=(0,), seq=2),
        record(dtype=F32, dims=(5, 0, 7), seq=3),
        record(dtype=PACKED, dims=(64, 96), seq=4),
        record(dtype=I16, dims=(300,), seq=5, payload=values(600)),
        record(seq=6, device=2**32 - 1, epoch=2**64 - 1, time=-1),
        record(seq=2**64 - 1, epoch=0, time=-2**63),
    ])
    yield "foreign-json", stream([z(0)], preamble(' {\n\t"rate" : 1.6e4, "kind":"\\u00e9\\ud83d\\ude00", "frontend":{ } }\r\n'))
    yield "foreign-minor-version", stream([z(0)], preamble(minor=9))
    yield "foreign-wide-attributes", stream([
        record(RESULT, attrs=((1, 3), (3, 0), (4, f32(1.5)), (13, 1), (62, 5), (63, 0)),
               classes={1: 1, 3: 0, 4: 3, 13: 3, 62: 2, 63: 3})])


def bad():
    lead, r = preamble(), [z(0), record(GAP, seq=1, attrs=((13, 1), (14, 1))), z(2)]
    whole = stream(r)
    fin = end(lead, r)
    n = len(lead)

    def with_record(b):
        return stream([r[0], b, r[2]])

    def flipped(at):
        return whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:]

    yield "4-nothing", b""
    yield "4-text", b"hello, world\n"
    yield "4-preamble-cut", lead[:-1]
    yield "4-preamble-alone", lead
    yield "4-magic-high-bit", bytes(b & 127 for b in whole)
    yield "4-magic-line-feed", whole.replace(b"\r\n", b"\n")
    yield "4-magic-carriage-return", whole.replace(b"\n", b"\r\n")
    yield "4-json-checksum", flipped(20)
    yield "4-json-length", preamble(length=2**31) + whole[n:]
    yield "4-json-not", stream(r, preamble("kind"))
    yield "4-json-array", stream(r, preamble("[]"))
    yield "4-json-two", stream(r, preamble("{}{}"))
    yield "4-json-nul", stream(r, preamble(b"{}\0"))
    yield "4-json-twice", stream(r, preamble('{"kind":"a","kind":"b"}'))
    yield "4-json-infinite", stream(r, preamble('{"later":1e999}'))
    yield "4-json-utf8", stream(r, preamble(b'{"later":"\xff"}'))
    yield "4-json-type", stream(r, preamble('{"kind":1}'))
    yield "4-no-end", lead + b"".join(r)
    yield "4-end-cut", whole[:-1]
    yield "4-record-cut", lead + r[0][:-3]
    yield "4-end-twice", whole + fin
    yield "4-byte-after-end", whole + b"\0"
    yield "4-two-streams", whole + whole
    yield "4-record-dropped", lead + r[0] + r[2] + fin
    yield "4-record-repeated", lead + r[0] + r[1] + r[1] + r[2] + fin
    yield "4-records-swapped", lead + r[2] + r[1] + r[0] + fin
    yield "4-record-replaced", lead + r[0] + r[1] + z(3) + fin
    yield "4-other-preamble", preamble('{"kind":"cut"}') + b"".join(r) + fin
    yield "4-end-count", lead + b"".join(r) + end(lead, r, count=4)
    yield "4-end-checksum", lead + b"".join(r) + end(lead, r, crc=1)
    yield "4-end-empty", lead + record(END, device=0, epoch=0, time=0)
    yield "4-end-dtype", lead + record(END, dtype=U8, dims=(4,), device=0, epoch=0, time=0, payload=u32(crc32c(lead[-4:])))
    yield "4-header-checksum", with_record(record(head_crc=1))
    yield "4-payload-checksum", with_record(record(dtype=U8, dims=(4,), payload=b"abcd", payload_crc=1))
    yield "4-length-small", with_record(record(length=39))
    yield "4-length-checksum-only", with_record(record(length=44) + b"\0\0\0\0")
    yield "4-shape-larger", with_record(record(dtype=U8, dims=(5,), payload=b"abcd"))
    yield "4-shape-smaller", with_record(record(dtype=U8, dims=(3,), payload=b"abcd"))
    yield "4-payload-without-dtype", with_record(record(payload=b"abcd"))
    yield "4-rank-9", with_record(record(dtype=U8, dims=(1,) * 9, payload=b"a"))
    yield "4-rank-255", with_record(record(dtype=U8, dims=(1,), rank=255, payload=b"a"))
    yield "4-attributes-too-long", with_record(record(attr_bytes=568))
    yield "4-attribute-0", with_record(record(attrs=((0, 1),)))
    yield "4-attribute-order", with_record(record(attrs=((5, 1), (1, 3))))
    yield "4-attribute-twice", with_record(record(attrs=((5, 1), (5, 1))))
    yield "4-attribute-cut", with_record(record(attrs=b"\xc5\0\0\0"))
    yield "4-attribute-tag-alone", with_record(record(attrs=b"\x05\x01\x06"))
    yield "4-attribute-no-f32", with_record(record(attrs=((3, 2**33),), classes={3: 3}))
    yield "5-major-version", stream(r, preamble(major=2))
    yield "5-type-0", with_record(record(0))
    yield "5-type-required", with_record(record(9))
    yield "5-type-126", with_record(record(126))
    yield "5-flag-reserved", with_record(record(flags=16))
    yield "5-bytes-reserved", with_record(record(reserved=1))
    yield "5-dtype-unknown", with_record(record(dtype=11, dims=(1,), payload=b"abcd"))
    yield "6-payload-64-mib", lead + record(dtype=U8, dims=(2**26 + 1,), payload=b"a", length=48 + 2**26 + 5)
    yield "6-shape-product", with_record(record(dtype=U8, dims=(2**31, 2**31, 2**31), payload=b"abcd"))
    yield "6-shape-product-of-nothing", with_record(record(dtype=U8, dims=(2**31, 2**31, 0)))
    yield "6-shape-packed", with_record(record(dtype=PACKED, dims=(2**27,), payload=b"abcd"))
    yield "6-json-depth", stream(r, preamble('{"later":' + "[" * 40 + "]" * 40 + "}"))


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for part, specimens in ("good", good()), ("bad", bad()):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
        for name, data in specimens:
            with open(os.path.join(folder, part, name + ".sst"), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main()
