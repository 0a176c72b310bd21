# An exported model in a plain ResNet-18 of PyTorch gives the embeddings that ss-encode gives.
. "$SS_SRC/tests/cli/lib.sh"
python=
for p in python3 /usr/bin/python3; do
    "$p" -c 'import numpy, torch' 2>/dev/null && python=$p && break
done
[ -n "$python" ] || skip "no Python with torch and numpy"
cat >run.py <<'PY'
import json, struct, sys
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

def load(path):
    data = open(path, 'rb').read()
    n, = struct.unpack('<Q', data[:8])
    h = json.loads(data[8:8 + n])
    meta = h.pop('__metadata__')
    return {k: torch.tensor(np.frombuffer(data[8 + n + t['data_offsets'][0]:8 + n + t['data_offsets'][1]], '<f4')
                            .reshape(t['shape'])) for k, t in h.items()}, meta

class Block(nn.Module):
    def __init__(self, norm, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), norm(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), norm(o)
        self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), norm(o)) if i != o else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))

class ResNet18(nn.Module):
    def __init__(self, norm, w, dim):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, w, 7, 2, 3, bias=False), norm(w)
        for k in range(4):
            i, o = (w << k >> (k > 0)), w << k
            setattr(self, 'layer%d' % (k + 1), nn.Sequential(Block(norm, i, o, 2 if k else 1), Block(norm, o, o, 1)))
        self.fc = nn.Linear(8 * w, dim)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for k in range(4):
            x = getattr(self, 'layer%d' % (k + 1))(x)
        return self.fc(x.mean((2, 3)))

torch.manual_seed(1)
state, meta = load(sys.argv[1])
norm = nn.BatchNorm2d if meta['norm'] == 'batch' else lambda c: nn.GroupNorm(c // 8, c)
net = ResNet18(norm, state['conv1.weight'].shape[0], state['fc.weight'].shape[0])
net.load_state_dict(state)  # strict
net.eval()
x = torch.tensor(np.load('x.npy').reshape(-1, 1, 64, 96))
with torch.no_grad():
    want = F.normalize(net((x - float(meta['input_mean'])) * float(meta['input_scale'])), dim=1).numpy()
got = np.load('z.npy').reshape(want.shape)
error = np.abs(got - want).max() / np.abs(want).max()
print(meta['norm'], want.shape, error)
assert len(want) > 3 and error < 1e-5
PY
ss-capture synth:1 --duration=4 | ss-featurize -o x.sst
ss-cat --npy=x.npy x.sst
for norm in batch group weight; do
    ss-model init --norm=$norm -f -o m
    ss-model export -q m -f -o m.state
    ss-encode --until=embedding -m m x.sst -o z.sst -f
    ss-cat --npy=z.npy -f z.sst
    "$python" run.py m.state
done
