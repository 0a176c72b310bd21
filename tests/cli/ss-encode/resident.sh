# A program holds the weights between its cuts, in the form in which they are used, and the activations of a window, and
# 1.3 times that at most; what every program holds that runs no network comes on top.
. "$SS_SRC/tests/cli/lib.sh"
need python3
unset MALLOC_PERTURB_ # touches all that is allocated, used or not
! ldd "$(command -v ss-encode)" | grep -q asan || skip 'the sanitizer takes memory of its own'
[ -r /proc/self/smaps ] || skip 'no /proc'
ss-capture synth:1 --duration=3 --epoch=7 | ss-featurize >features.sst
for norm in weight batch; do
    ss-model init -f --width=1 --norm=$norm -o m
    ss-encode --until=3 -m m features.sst >cut.sst
    ss-model info --layers --json m >info.json
    python3 - <<'P'
import json, re, subprocess, time

info = json.load(open('info.json'))

def resident(command, stream):
    """Most bytes of its own (no program text, no libraries) while it waits behind the last record."""
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    data = open(stream, 'rb').read()
    want = len(subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout) - 100
    p.stdin.write(data)
    p.stdin.flush()
    while want > 0:
        want -= len(p.stdout.read1(want))
    own = 1024 * int(re.search(r'RssAnon:\s*(\d+)', open(f'/proc/{p.pid}/status').read())[1])
    p.stdin.close()
    p.stdout.read()
    assert p.wait() == 0
    return own

def need(begin, end):
    """Bytes of weights between two cuts (-1: the input, 9: the embedding), and of the most that a layer reads, writes and adds."""
    weights = most = 0
    for l in info['layers']:
        m = re.match(r'layer(\d)\.(\d)', l['layer'])
        at = 2 * int(m[1]) - 2 + int(m[2]) if m else 8 if l['layer'] == 'fc' else -1
        if begin <= at < end:
            size = lambda d: d[0] * d[1] * d[2]
            weights += l['packed_bytes']
            most = max(most, size(l['input']) + size(l['output']) * (2 if 'conv2' in l['layer'] else 1))
    return weights, 4 * most

none = resident(['ss-cat', '--json'], 'features.sst')
for command, stream, begin, end in ((['ss-encode', '--until=3'], 'features.sst', -1, 3), (['ss-finish'], 'cut.sst', 3, 9),
                                    (['ss-encode', '--until=embedding'], 'features.sst', -1, 9)):
    weights, activations = need(begin, end)
    own = resident(command + ['-m', 'm'], stream) - none
    print(*command, f'{own} bytes, {weights} of weights and {activations} of activations are needed')
    assert own < 1.3 * (weights + activations), 'more than 1.3 times what is needed'
P
done
