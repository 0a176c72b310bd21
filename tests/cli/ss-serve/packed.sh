# Windows packed by a codec of the model: taken, and learnt from; those of another training end their own connection alone.
. "$SS_SRC/tests/cli/lib.sh"
need python3
export PYTHONPATH="$SS_SRC/tests/cli/ss-serve" PYTHONDONTWRITEBYTECODE=1
ss-model init -o plain
ss-capture synth:1 --duration=12 --epoch=1 --device=1 | ss-featurize >f.sst
for seed in 1 2; do
    ss-model codecs --cuts=4,embedding --patch=2 --channels=8 --steps=2 --seed=$seed plain f.sst -o m.$seed >/dev/null
    ss-encode --until=4 --codec=b8i8 -m m.$seed f.sst >packed.$seed
done
ss-capture synth:3 --duration=12 --epoch=3 --device=3 | ss-featurize | ss-encode --until=embedding --codec=b8i4 -m m.1 >embedding.1
cat >packed.py <<'P'
from serve import *
packed, embedding = open('packed.1', 'rb').read(), open('embedding.1', 'rb').read()
s = Server('-m', 'm.1')
ended(link(packed))
assert len(journal()[1, 1]) == len(records(packed)) - 2, journal()
s.stop()
# A refiner behind it, and a device whose codecs are others.
os.rename('log', 'log.1')
s = Server('-m', 'm.1', command=['ss-train', '--refine', '-m', 'm.1', '--journal=refiner', '--checkpoint=state', '--start=16', '--batch=16'])
other = subprocess.run('ss-capture synth:2 --duration=6 --epoch=2 --device=2 | ss-featurize | '
                       'ss-encode --until=4 --codec=b8i8 -m m.2', shell=True, stdout=subprocess.PIPE, check=True).stdout
p = link(other, '--drain=2')
until(lambda: 'both ends need the same' in said(), said)
p.kill()
p.wait()
ended(link(packed))
ended(link(embedding))
s.stop()
info = subprocess.run(['ss-model', 'info', 'm.1'], stdout=subprocess.PIPE, check=True).stdout.decode()
assert re.search(r'generation +[1-9]', info) and 'cut 4: bCi4 and bCi8, C = 8' in info, info
P
python3 packed.py
