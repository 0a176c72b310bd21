# For cuts, widths and norms: cut and finished in two processes equals whole, bit for bit; so do batches and threads.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:1 --duration=8 --epoch=7 | ss-featurize >features.sst
[ "$(ss-cat --count features.sst)" -ge 8 ] || fail 'too few windows'
same_result() { # A B
    status 0 ss-cat --compare="$1" "$2"
}
for norm in batch group weight; do
    for width in 1/4 1/2 1; do
        ss-model init --width=$width --norm=$norm -o m.safetensors --force
        cuts='input 0 1 2 3 4 5 6 7 8 embedding'
        if [ $width = 1/4 ]; then
            cp features.sst in.sst
        else # few windows, and one cut of each shape: all of them are in tests/unit/net.c
            ss-cat --head=2 --stream features.sst >in.sst
            cuts='0 3 5 7'
        fi
        ss-encode --until=embedding -m m.safetensors in.sst >whole.sst
        for cut in $cuts; do
            ss-encode --until=$cut -m m.safetensors <in.sst | ss-finish -m m.safetensors >z.sst
            same_result whole.sst z.sst
        done
        ss-encode --until=2 -m m.safetensors in.sst | ss-encode --until=5 -m m.safetensors |
            ss-encode --until=8 -m m.safetensors -t 2 | ss-finish -m m.safetensors --batch=3 >z.sst
        same_result whole.sst z.sst
        ss-encode --until=embedding -m m.safetensors -t 2 --batch=5 in.sst >z.sst
        same_result whole.sst z.sst
        ss-encode --until=embedding -m m.safetensors -t 3 in.sst >z.sst
        same_result whole.sst z.sst
    done
done
# What they say about it.
ss-encode --until=4 -m m.safetensors in.sst | ss-cat --json >four.json
ss-cat --json z.sst >z.json
need python3
python3 - <<'P'
import json
lines = lambda f: [json.loads(l) for l in open(f)]
head, *four = lines('four.json')
assert head['header']['kind'] == 'cut' and len(head['header']['arch_hash']) == 16, head
assert [p['program'] for p in head['header']['provenance']][-1] == 'ss-encode'
for i, r in enumerate(four):
    a = r['attributes']
    assert r['shape'] == [128, 8, 12] and r['dtype'] == 'f32' and r['seq'] == i, r
    assert str(a['split']) in ('4', '5') and a['generation'] == 0, a
    assert a['t_encode'] > 0 and 'w_encode' in a and 't_finish' not in a, a
head, *z = lines('z.json')
assert head['header']['kind'] == 'embedding'
for r in z:
    assert r['shape'] == [128] and str(r['attributes']['split']) in ('embedding', '10'), r
P
