# A model that is replaced is taken up between two records; what is worse than the one in use is not.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init --seed=1 -o one.safetensors
ss-model init --seed=2 -o two.safetensors
ss-model init --norm=group -o other.safetensors
ss-capture synth:1 --duration=4 --epoch=7 | ss-featurize >features.sst
ss-encode --until=3 -m one.safetensors features.sst | ss-cat --head=4 --stream >cut.sst
cp one.safetensors m.safetensors
mkfifo pipe
ss-finish --follow -v -m m.safetensors pipe >z.sst 2>said &
job=$!
# A record at a time, and the file replaced in between.
python3 - <<'P'
import os, shutil, struct, time
data = open('cut.sst', 'rb').read()
at = 16 + struct.unpack_from('<I', data, 12)[0] + 4
ends = []
next = at
while next < len(data):
    next += 4 + struct.unpack_from('<I', data, next)[0]
    ends.append(next)
assert len(ends) == 5, ends
out = open('pipe', 'wb', buffering=0)
size = 0
def wait(): # for what is written whole, when the program waits for more
    global size
    for _ in range(1000):
        now = os.path.getsize('z.sst')
        if now > size:
            break
        time.sleep(0.02)
    assert now > size, 'no answer'
    size = now
out.write(data[:at])
wait()
for i, end in enumerate(ends):
    out.write(data[at:end])
    at = end
    if i < 4: # the fifth is the end record
        wait()
    if i < 3:
        shutil.copy(('two.safetensors', 'other.safetensors', 'cut.sst')[i], 'new')
        os.rename('new', 'm.safetensors')
P
wait $job || fail 'the follower failed'
status 0 ss-cat --check z.sst
ss-finish -m one.safetensors cut.sst | ss-cat --npy=one.npy
ss-finish -m two.safetensors cut.sst | ss-cat --npy=two.npy
ss-cat --npy=z.npy z.sst
python3 - <<'P'
rows = lambda f: [open(f, 'rb').read()[-4 * 512:][i * 512:(i + 1) * 512] for i in range(4)]
one, two, z = rows('one.npy'), rows('two.npy'), rows('z.npy')
assert z[0] == one[0], 'the first record'
assert z[1] == two[1], 'the file was replaced, the model not'
assert z[2] == two[2] and z[3] == two[3], 'a bad file took the place of a good one'
P
matches said "generation 0 of 'm.safetensors'"
matches said "was replaced by generation 0 of another architecture: generation 0 stays in use"
matches said 'm.safetensors.*generation 0 stays in use'
