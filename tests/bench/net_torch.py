#!/usr/bin/python3
"""What bench-net times, in PyTorch eager: same shapes, threads and printed form.

    python3 tests/bench/net_torch.py [--threads N] [--rounds N] [--norm weight|group|batch]

The network is this toolkit's with scaled weight standardisation (forward: weights standardised once, as
they would be for inference), with group norm and weight standardisation, or with batch norm in eval mode.
"""
import argparse
import statistics
import time
import torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--threads", type=int, default=1)
p.add_argument("--rounds", type=int, default=9)
p.add_argument("--norm", default="weight", choices=["weight", "group", "batch"])
args = p.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(1)


class Conv(nn.Module):
    def __init__(self, i, o, k, s):
        super().__init__()
        self.c = nn.Conv2d(i, o, k, s, k // 2, bias=args.norm == "weight")
        self.gain = nn.Parameter(torch.ones(o, 1, 1, 1)) if args.norm == "weight" else None
        self.n = nn.GroupNorm(o // 8, o) if args.norm == "group" else nn.BatchNorm2d(o) if args.norm == "batch" else None
        self.fixed = None

    def weight(self):
        w = self.c.weight
        if args.norm == "batch":
            return w
        var, mean = torch.var_mean(w, dim=(1, 2, 3), unbiased=False, keepdim=True)
        w = (w - mean) * torch.rsqrt(var * w[0].numel() + 1e-4)
        return w * self.gain if self.gain is not None else w

    def fold(self):
        w, self.bias = self.weight(), self.c.bias
        if args.norm == "batch":  # as for inference: into the convolution
            s = self.n.weight / torch.sqrt(self.n.running_var + self.n.eps)
            w, self.bias, self.n = w * s[:, None, None, None], self.n.bias - self.n.running_mean * s, None
        self.fixed = w.detach()

    def forward(self, x):
        if self.fixed is not None:
            y = F.conv2d(x, self.fixed, self.bias, self.c.stride, self.c.padding)
        else:
            y = F.conv2d(x, self.weight(), self.c.bias, self.c.stride, self.c.padding)
        return self.n(y) if self.n is not None else y


class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.a, self.b = Conv(i, o, 3, s), Conv(o, o, 3, 1)
        self.d = Conv(i, o, 1, s) if s != 1 or i != o else None

    def forward(self, x):
        return F.relu((self.d(x) if self.d else x) + self.b(F.relu(self.a(x))))


class Net(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.stem = Conv(1, w, 7, 2)
        blocks, i = [], w
        for k in range(8):
            o = w << (k // 2)
            blocks.append(Block(i, o, 2 if k in (2, 4, 6) else 1))
            i = o
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(i, 128)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        return F.normalize(self.fc(self.blocks(x).mean((2, 3))), dim=1)


def forward(width, batch):
    net = Net(width).eval()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, Conv):
                m.fold()
    x = torch.randn(batch, 1, 64, 96)

    def run():
        with torch.no_grad():
            net(x)
    return run


def train(width, batch):
    net = Net(width)
    if args.norm == "batch":
        net.eval()
    x, dz = torch.randn(batch, 1, 64, 96), torch.randn(batch, 128)
    opt = torch.optim.Adam(net.parameters(), lr=1e-6)

    def run():
        opt.zero_grad()
        net(x).backward(dz)
        opt.step()
    return run


cases = [("forward", 16, 1), ("forward", 16, 64), ("train", 16, 1), ("train", 16, 8), ("train", 16, 64),
         ("forward", 64, 1), ("forward", 64, 8), ("train", 64, 1), ("train", 64, 8)]
now = time.process_time if args.threads == 1 else time.perf_counter
runs = [(forward if what == "forward" else train)(w, b) for what, w, b in cases]
times = [[] for _ in cases]
for run in runs:
    run()
    run()
for _ in range(args.rounds):
    for run, t in zip(runs, times):
        a = now()
        run()
        t.append(1e3 * (now() - a))
for (what, w, b), t in zip(cases, times):
    print("%-8s width %2d batch %2d threads %d: %8.3f / %8.3f ms (PyTorch %s)"
          % (what, w, b, args.threads, min(t), statistics.median(t), torch.__version__))
