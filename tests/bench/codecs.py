#!/usr/bin/env python3
"""Rate and fidelity of what crosses a cut: MODELs with codecs (ss-model codecs), every cut and codec.

usage: SS_BINDIR=build/tools SS_TEST_DATA=DIR tests/bench/codecs.py [--only=CUT,...] [--codecs=CODEC,...] [--json=FILE]
           [--finish=MODEL] {[--fold=F] MODEL}...
       tests/bench/codecs.py --summary FILE...

DIR/esc10/manifest.csv names labelled sound in folds (file,label,fold). All of it goes through ss-encode and ss-finish; a row
gives bytes of payload for a second of sound (a window every 0.48 s), the whole record's, the cosine of the windows of fold F
(default 5; it holds for the models behind it, which should not have heard that fold, nor their codecs) to the embeddings of
the uncut way in f32, mean and 5th percentile, and linear probe and k-NN over the clips, trained on the other folds' coded
embeddings and tested on F (ss-eval). The codecs i8 and f32 need no learning. Opus at 24 kbit/s is 3000 bytes a second.

--finish: the server's half is that of another model, on the uncut way too: what a codec loses when one half has learnt on.
--summary: over the models of such --json FILEs, mean and range of each figure; probe and k-NN as differences to the same
model's uncut way, in points, and the clips that the probe lost and won by the codec, of all models together.
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


def embed(model, finish, fold, cut, codec):
    """One way of features.sst: its row of figures without the cosine, and the embeddings of the fold."""
    options = ['--codec=' + codec] if codec else []
    run('ss-encode', '--until=' + cut, *options, '--batch=8', '-m', model, '-f', '-o', 'cut.sst', 'features.sst')
    run('ss-finish', '--batch=8', '-m', finish, '-f', '-o', 'z.sst', 'cut.sst')
    run('ss-cat', '--f32', '--npy=z.npy', '-f', 'z.sst')
    records = [json.loads(l) for l in run('ss-cat', '--json', 'cut.sst', stdout=subprocess.PIPE).stdout.splitlines()]
    data = [r for r in records if r.get('type') == 'data']
    judge = ['-q', '--json', '--outcomes', '--rounds=100', '--test-fold=%d' % fold, '--metrics=linear_probe,knn']
    e = json.loads(run('ss-eval', *judge, 'z.sst', stdout=subprocess.PIPE).stdout)
    row = {'cut': cut, 'codec': codec or 'f32', 'payload': sum(r['bytes'] for r in data) / len(data) / HOP,
           'record': os.path.getsize('cut.sst') / len(data) / HOP, 'probe': e['linear_probe'], 'knn': e['knn'],
           'right': ''.join(str(round(c['linear_probe'])) for c in e['outcomes'])}
    z = values('z.npy')
    return row, [z[i] for i, r in enumerate(data) if r['attributes'].get('fold') == fold]


def measure(model, finish, fold, only, codecs, out):
    info = json.loads(run('ss-model', 'info', '--json', model, stdout=subprocess.PIPE).stdout)
    names = {c['cut']: c['names'] for c in info['codecs']}
    print('\n%s, fold %d\n\n| cut | codec | payload B/s | record B/s | cosine | 5 %% | probe | k-NN |\n'
          '|---|---|---|---|---|---|---|---|' % (model, fold))
    plain = None
    for cut in ['embedding'] + [str(k) for k in range(9)]:
        if only and cut not in only:
            continue
        # Uncoded, a model's cuts are all the same; not so where another one finishes them.
        ways = ['i8'] + names.get(cut, [])
        for codec in ([None] if finish or not plain else []) + [w for w in ways if not codecs or w in codecs]:
            row, z = embed(model, finish or model, fold, cut, codec)
            if not codec:
                plain = z
            c = sorted(cosine(a, b) for a, b in zip(z, plain))
            row.update(model=model, fold=fold, cosine=sum(c) / len(c), p5=c[len(c) // 20])
            print('| %(cut)s | %(codec)s | %(payload).0f | %(record).0f | %(cosine).4f | %(p5).4f | %(probe).3f | %(knn).3f |' %
                  row, flush=True)
            if out:
                out.write(json.dumps(row) + '\n')
                out.flush()


def spread(v, form):
    return '%s (%s to %s)' % tuple(form % (round(x, 9) + 0.0) for x in (sum(v) / len(v), min(v), max(v)))


def summary(files):
    rows = [json.loads(l) for f in files for l in open(f)]
    plain, coded = {}, {}
    for r in rows:
        if r['codec'] == 'f32':
            plain[r['model']] = r  # comes before what is coded
        else:
            coded.setdefault((r['cut'], r['codec']), []).append((r, plain[r['model']]))
    print('| cut | codec | models | payload B/s | cosine | 5 % | probe | clips lost, won | k-NN |\n' + 9 * '|---' + '|')
    for (cut, codec), pairs in coded.items():
        of = lambda name: [r[name] for r, _ in pairs]
        points = lambda name: spread([100 * (r[name] - p[name]) for r, p in pairs], '%+.1f')
        clips = [(a, b) for r, p in pairs for a, b in zip(p['right'], r['right'])]
        print('| %s | %s | %d | %s | %s | %s | %s | %d, %d of %d | %s |' % (
            cut, codec, len(pairs), spread(of('payload'), '%.0f'), spread(of('cosine'), '%.4f'), spread(of('p5'), '%.3f'),
            points('probe'), clips.count(('1', '0')), clips.count(('0', '1')), len(clips), points('knn')))


def main():
    fold, only, codecs, out, finish, models = 5, None, None, None, None, []
    if sys.argv[1:2] == ['--summary']:
        return summary(sys.argv[2:])
    for a in sys.argv[1:]:
        name, _, value = a.partition('=')
        if name == '--fold':
            fold = int(value)
        elif name == '--only':
            only = value.split(',')
        elif name == '--codecs':
            codecs = value.split(',')
        elif name == '--json':
            out = open(value, 'w')
        elif name == '--finish':
            finish = os.path.abspath(value)
        elif a.startswith('-'):
            sys.exit(__doc__)
        else:
            models.append((os.path.abspath(a), fold))
    if not models or not os.environ.get('SS_TEST_DATA'):
        sys.exit(__doc__)
    manifest = os.path.abspath(os.path.join(os.environ['SS_TEST_DATA'], 'esc10', 'manifest.csv'))
    folder = tempfile.TemporaryDirectory()
    os.chdir(folder.name)
    with open('sound', 'wb') as f:
        run('ss-capture', '--manifest=' + manifest, stdout=f)
    run('ss-featurize', '-o', 'features.sst', 'sound')
    os.remove('sound')
    for model, fold in models:
        measure(model, finish, fold, only, codecs, out)


main()
