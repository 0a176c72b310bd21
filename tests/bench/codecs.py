#!/usr/bin/env python3
"""Rate and fidelity of what crosses a cut: MODEL with codecs (ss-model codecs), every cut and codec.

usage: SS_BINDIR=build/tools SS_TEST_DATA=DIR tests/bench/codecs.py [--fold=F] [--only=CUT,...] [--json=FILE] MODEL

DIR/esc10/manifest.csv names labelled sound in folds (file,label,fold). All of it goes through ss-encode and ss-finish; a row
gives bytes of payload for a second of sound (a window every 0.48 s), the whole record's, the cosine of the windows of fold F
(default 5, which neither model nor codecs should have heard) to the uncut embeddings, mean and 5th percentile, and linear probe
and k-NN over the clips, trained on the other folds' coded embeddings and tested on F (ss-eval). The codecs i8 and f32 need no
learning. Opus at 24 kbit/s is 3000 bytes a second.
"""
import array
import json
import math
import os
import subprocess
import sys
import tempfile

HOP = 0.48
bindir = os.environ.get('SS_BINDIR', '')


def run(*command, **more):
    return subprocess.run([os.path.join(bindir, command[0]), *command[1:]], check=True, **more)


def values(path):
    """Rows of a 2-D f32 npy file, each an array."""
    raw = open(path, 'rb').read()
    at = 10 + int.from_bytes(raw[8:10], 'little')
    shape = eval(raw[10:at].decode(), {})['shape']
    flat = array.array('f', raw[at:])
    return [flat[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def main():
    fold, only, out, model = 5, None, None, None
    for a in sys.argv[1:]:
        if a.startswith('--fold='):
            fold = int(a[7:])
        elif a.startswith('--only='):
            only = a[7:].split(',')
        elif a.startswith('--json='):
            out = open(a[7:], 'w')
        elif a.startswith('-') or model:
            sys.exit(__doc__)
        else:
            model = os.path.abspath(a)
    if not model or not os.environ.get('SS_TEST_DATA'):
        sys.exit(__doc__)
    manifest = os.path.abspath(os.path.join(os.environ['SS_TEST_DATA'], 'esc10', 'manifest.csv'))
    info = json.loads(run('ss-model', 'info', '--json', model, stdout=subprocess.PIPE).stdout)
    names = {c['cut']: c['names'] for c in info['codecs']}
    folder = tempfile.TemporaryDirectory()
    os.chdir(folder.name)
    with open('sound', 'wb') as f:
        run('ss-capture', '--manifest=' + manifest, stdout=f)
    run('ss-featurize', '-o', 'features.sst', 'sound')
    os.remove('sound')

    def embed(cut, codec):
        """Embeddings of one way, its row of figures without the cosine."""
        options = ['--codec=' + codec] if codec else []
        run('ss-encode', '--until=' + cut, *options, '--batch=8', '-m', model, '-f', '-o', 'cut.sst', 'features.sst')
        run('ss-finish', '--batch=8', '-m', model, '-f', '-o', 'z.sst', 'cut.sst')
        run('ss-cat', '--f32', '--npy=z.npy', '-f', 'z.sst')
        records = [json.loads(l) for l in run('ss-cat', '--json', 'cut.sst', stdout=subprocess.PIPE).stdout.splitlines()]
        data = [r for r in records if r.get('type') == 'data']
        judge = ['ss-eval', '-q', '--json', '--test-fold=%d' % fold, '--metrics=linear_probe,knn', 'z.sst']
        e = json.loads(run(*judge, stdout=subprocess.PIPE).stdout)
        row = {'cut': cut, 'codec': codec or 'f32', 'payload': sum(r['bytes'] for r in data) / len(data) / HOP,
               'record': os.path.getsize('cut.sst') / len(data) / HOP, 'probe': e['linear_probe'], 'knn': e['knn']}
        held = [i for i, r in enumerate(data) if r['attributes'].get('fold') == fold]
        return row, values('z.npy'), held

    print('| cut | codec | payload B/s | record B/s | cosine | 5 % | probe | k-NN |\n|---|---|---|---|---|---|---|---|')
    row, whole, held = embed('embedding', None)

    def show(row):
        print('| %(cut)s | %(codec)s | %(payload).0f | %(record).0f | %(cosine).4f | %(p5).4f | %(probe).3f | %(knn).3f |' % row,
              flush=True)
        if out:
            out.write(json.dumps(row) + '\n')
            out.flush()

    row.update(cosine=1, p5=1)
    show(row)
    for cut in [str(k) for k in range(9)] + ['embedding']:
        if only and cut not in only:
            continue
        for codec in ['i8'] + names.get(cut, []):
            row, z, held = embed(cut, codec)
            c = sorted(cosine(z[i], whole[i]) for i in held)
            row.update(cosine=sum(c) / len(c), p5=c[len(c) // 20])
            show(row)


main()
