#!/usr/bin/python3
"""The network in PyTorch, from the description in lib/nn/model.h: makes tests/grad/reference_net.f32.

    /usr/bin/python3 tests/grad/reference_net.py tests/grad/reference_net.f32

Needs Debian's python3-torch and python3-numpy. Weights and windows come from a hash that tests/grad/reference.c
computes too, so that only results are stored: float32, little-endian, for each of the norms batch, group, weight
  cuts after block 0, 3, 6 and 8 of window 0: every 16th value in the order [channel][row][column]
  embedding of windows 0 and 1 [2][128]
  length of the gradient of every learnt parameter, in the order of the model, of the loss sum(c * z) over windows 0
  and 1, c from the hash
  loss of an InfoNCE of windows 0..3 against 4..7 before each of ten steps of Adam (rate 1e-4)
  and of ten steps of SGD (rate 0.002, momentum 0.9)
All is computed in float64; what float32 makes of it is printed for comparison. Batch norm is in eval mode.
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

WIDTH, MELS, FRAMES, DIM = 16, 64, 96, 128
RELU_GAIN, WEIGHT_EPS, NORM_EPS, GROUP = 1.7139, 1e-4, 1e-5, 8
MEAN, SCALE = np.float32(-4.45), np.float32(1) / np.float32(5.66)


def fnv(name):
    h = 0x811C9DC5
    for c in name.encode():
        h = ((h ^ c) * 0x01000193) & 0xFFFFFFFF
    return h


def uniform(name, shape):
    """In [-1, 1), multiples of 2^-23: the same floats everywhere."""
    n = int(np.prod(shape))
    x = (np.arange(n, dtype=np.uint64) * 0x9E3779B1 + fnv(name)) & 0xFFFFFFFF
    x ^= x >> 16
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    x ^= x >> 16
    u = (x >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return u.reshape(shape)


def shapes(norm):
    """Learnt parameters in the order of the model, then the running statistics."""
    units = [("conv1", "bn1", 1, WIDTH, 7)]
    for k in range(8):
        stage, first = k // 2, k % 2 == 0 and k > 0
        out = WIDTH << stage
        cin = out // 2 if first else out
        p = "layer%d.%d." % (stage + 1, k % 2)
        units += [(p + "conv1", p + "bn1", cin, out, 3), (p + "conv2", p + "bn2", out, out, 3)]
        if first:
            units.append((p + "downsample.0", p + "downsample.1", cin, out, 1))
    learnt, running = [], []
    for conv, bn, cin, out, size in units:
        learnt += [(conv + ".weight", (out, cin, size, size)), (bn + ".weight", (out,)), (bn + ".bias", (out,))]
        running += [(bn + ".running_mean", (out,)), (bn + ".running_var", (out,))]
    learnt += [("fc.weight", (DIM, 8 * WIDTH)), ("fc.bias", (DIM,))]
    return learnt, running if norm == "batch" else []


def value(norm, name, shape):
    v = uniform(name, shape)
    f = np.float32
    if len(shape) > 1:
        return v * f(np.sqrt((6.0 if len(shape) == 4 else 1.0) / np.prod(shape[1:])))
    if name.endswith("running_mean"):
        return v * f(0.25)
    if name.endswith("running_var"):
        return f(1) + v * f(0.5)
    if name.endswith("bias"):
        return v * f(0.125)
    return (f(0.5) if norm == "weight" and name.endswith("bn2.weight") else f(1)) + v * f(0.25)


def windows(n):
    return np.float32(-4.45) + uniform("input", (n, MELS, FRAMES)) * np.float32(9.5)


class Net:
    def __init__(self, norm, dtype):
        learnt, running = shapes(norm)
        self.norm, self.dtype, self.order = norm, dtype, [n for n, _ in learnt]
        self.p = {n: torch.tensor(value(norm, n, s), dtype=dtype) for n, s in learnt + running}
        for n in self.order:
            self.p[n].requires_grad_(True)

    def parameters(self):
        return [self.p[n] for n in self.order]

    def unit(self, x, conv, bn, stride):
        w, g, b = self.p[conv + ".weight"], self.p[bn + ".weight"], self.p[bn + ".bias"]
        pad = w.shape[2] // 2
        if self.norm == "batch":
            y = F.conv2d(x, w, None, stride, pad)
            return F.batch_norm(y, self.p[bn + ".running_mean"], self.p[bn + ".running_var"], g, b, False, 0, NORM_EPS)
        v, m = torch.var_mean(w, (1, 2, 3), keepdim=True, unbiased=False)
        w = (w - m) / torch.sqrt(v * w[0].numel() + WEIGHT_EPS)
        y = F.conv2d(x, w, None, stride, pad)
        if self.norm == "group":
            return F.group_norm(y, y.shape[1] // GROUP, g, b, NORM_EPS)
        return y * g.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)

    def __call__(self, x):
        """Outputs after blocks 0..8, and the embedding."""
        gain = RELU_GAIN if self.norm == "weight" else 1.0
        x = ((x - float(MEAN)) * float(SCALE))[:, None]
        x = F.max_pool2d(F.relu(self.unit(x, "conv1", "bn1", 2)) * gain, 3, 2, 1)
        cuts = [x]
        for k in range(8):
            p = "layer%d.%d." % (k // 2 + 1, k % 2)
            down = k % 2 == 0 and k > 0
            h = F.relu(self.unit(x, p + "conv1", p + "bn1", 2 if down else 1)) * gain
            h = self.unit(h, p + "conv2", p + "bn2", 1)
            s = self.unit(x, p + "downsample.0", p + "downsample.1", 2) if down else x
            x = F.relu(s + h) * (gain if down else 1.0)
            cuts.append(x)
        z = F.linear(x.mean((2, 3)), self.p["fc.weight"], self.p["fc.bias"])
        return cuts, F.normalize(z, dim=1)


def info_nce(z):
    n = len(z) // 2
    return F.cross_entropy(z[:n] @ z[n:].t() / 0.1, torch.arange(n))


def results(norm, dtype):
    x = torch.tensor(windows(8), dtype=dtype)
    net = Net(norm, dtype)
    cuts, z = net(x[:2])
    out = [cuts[k][0].detach().flatten()[::16] for k in (0, 3, 6, 8)] + [z.detach().flatten()]
    (z * torch.tensor(uniform("c", (2, DIM)), dtype=dtype)).sum().backward()
    out.append(torch.stack([p.grad.norm() for p in net.parameters()]))
    for make in (lambda p: torch.optim.Adam(p, lr=1e-4), lambda p: torch.optim.SGD(p, lr=0.002, momentum=0.9)):
        net = Net(norm, dtype)
        opt, losses = make(net.parameters()), []
        for _ in range(10):
            opt.zero_grad()
            loss = info_nce(net(x)[1])
            loss.backward()
            opt.step()
            losses.append(loss.detach())
        out.append(torch.stack(losses))
    return [o.double().numpy() for o in out]


def main():
    torch.set_num_threads(1)
    names = ["cut 0", "cut 3", "cut 6", "cut 8", "embedding", "gradient lengths", "Adam", "SGD"]
    with open(sys.argv[1], "wb") as f:
        for norm in ("batch", "group", "weight"):
            exact, single = results(norm, torch.float64), results(norm, torch.float32)
            for name, a, b in zip(names, exact, single):
                f.write(a.astype("<f4").tobytes())
                print("%-6s %-16s %5d values, float32 differs by %.1e of the largest"
                      % (norm, name, a.size, abs(a - b).max() / abs(a).max()))
            print("%-6s loss, Adam %s" % (norm, " ".join("%.4f" % v for v in exact[6])))
            print("%-6s loss, SGD  %s" % (norm, " ".join("%.4f" % v for v in exact[7])))


if __name__ == "__main__":
    main()
