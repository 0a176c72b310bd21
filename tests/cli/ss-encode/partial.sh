# A program reads, and trusts, what it needs of a model; what is damaged there is found before anything is written.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init -o m # and again below, for m.prev
ss-capture synth:1 --duration=4 --epoch=7 | ss-featurize >features.sst
ss-encode --until=3 -m m features.sst >cut.sst
ss-finish -m m cut.sst >z.sst
ss-encode --until=embedding -m m features.sst >whole.sst

cat >flip.py <<'P'
# flip.py FROM TO TENSOR: a copy with one bit of the tensor's last byte turned over
import json, struct, sys
data = bytearray(open(sys.argv[1], 'rb').read())
n = struct.unpack_from('<Q', data)[0]
header = json.loads(data[8:8 + n])
data[8 + n + header[sys.argv[3]]['data_offsets'][1] - 1] ^= 64
open(sys.argv[2], 'wb').write(data)
P
cp m good
for tensor in layer1.0.bn2.bias layer2.1.conv1.weight fc.bias; do
    case $tensor in
    layer1*) front=4 tail=0 ;;
    *) front=0 tail=4 ;;
    esac
    python3 flip.py good bad $tensor
    status 4 ss-model check bad
    matches err "digest of tensor '$tensor' differs"
    status $front ss-encode --until=3 -m bad features.sst
    [ $front = 0 ] || matches err "cannot read 'bad': digest of tensor '$tensor' differs"
    [ $front = 0 ] || [ ! -s out ] || fail 'written before it was read'
    [ $front != 0 ] || ss-cat --compare=cut.sst out || fail 'another result'
    status $tail ss-finish -m bad cut.sst
    [ $tail = 0 ] || matches err "digest of tensor '$tensor' differs"
    [ $tail != 0 ] || ss-cat --compare=z.sst out || fail 'another result'
    status 4 ss-encode --until=embedding -m bad features.sst
    cp bad learnt
    status 4 ss-train -m learnt features.sst
    same bad learnt
done

# The generation before is taken where it is whole.
ss-model init -f -o m
python3 flip.py good m layer2.1.conv1.weight
status 0 ss-finish -m m cut.sst
matches err "digest of tensor 'layer2.1.conv1.weight' differs.*the generation before it is used"
ss-cat --compare=z.sst out || fail 'not the result of the generation before'
status 0 ss-encode --until=embedding -m m features.sst
matches err 'the generation before it is used'
ss-cat --compare=whole.sst out || fail 'not the result of the generation before'
status 0 ss-encode --until=3 -m m features.sst
[ ! -s err ] || fail 'a warning about what is not needed'
status 0 ss-train -m m features.sst
matches err 'the one before it is taken'
status 0 ss-model check m

# A new file that is damaged in what is needed does not take the place of the one in use.
cp good m
rm m.prev
mkfifo pipe
ss-finish --follow -m m pipe >followed.sst 2>said &
job=$!
python3 - <<'P'
import os, struct, subprocess, time
data = open('cut.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', data, 12)[0] + 4
out = open('pipe', 'wb', buffering=0)
out.write(data[:at])
first = at + 4 + struct.unpack_from('<I', data, at)[0]
out.write(data[at:first])
for _ in range(1000):
    if os.path.getsize('followed.sst') > 1000:
        break
    time.sleep(0.02)
subprocess.run(['python3', 'flip.py', 'good', 'new', 'fc.weight'], check=True)
os.rename('new', 'm')
out.write(data[first:])
P
wait $job || fail 'the follower failed'
matches said "digest of tensor 'fc.weight' differs.*generation 0 stays in use"
ss-cat --compare=z.sst followed.sst || fail 'another result after a bad file'

# A file of version 0.1.0: one checksum over all data.
cat >old.py <<'P'
import re, struct
data = open('good', 'rb').read()
n = struct.unpack_from('<Q', data)[0]
header, rest = data[8:8 + n], data[8 + n:]
header = re.sub(rb',"streamsplit.checksums":"[0-9a-f]*"', b'', header)
def crc32c(data):
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
        table.append(i)
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ table[(c ^ b) & 255]
    return c ^ 0xffffffff
length = struct.pack('<Q', len(header))
at = header.index(b'"streamsplit.digest":"') + 22
digest = b'%08x' % crc32c(length + header[:at] + b'0' * 16 + header[at + 16:])
open('old', 'wb').write(length + header[:at] + digest + header[at + 8:] + rest)
P
python3 old.py
status 0 ss-model check old
status 0 ss-finish -m old cut.sst
ss-cat --compare=z.sst out || fail 'another result of an old file'
python3 flip.py old bad layer1.0.bn2.bias
status 4 ss-finish -m bad cut.sst
matches err "cannot read 'bad': digest of the data differs"
