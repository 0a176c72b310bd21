#!/usr/bin/python3
"""Times of the network against PyTorch eager, the same shapes and threads, taken in turns in one run.

    /usr/bin/python3 tests/bench/torch_eager.py BENCH-CUTS [--width W] [--norm N] [--batch B] [--threads T] [--rounds R]

BENCH-CUTS is the program of tests/bench/cuts.c. Each round takes every measurement once with either side, one right
after the other, each over at least 5 ms. Printed are microseconds for a window: minimum and median of both sides, and
the ratio PyTorch / ours of the two medians, with the quartiles of the ratios of single rounds (above 1: ours is
faster). PyTorch runs float32 with the weights folded beforehand where the norm allows it, under inference_mode; its
training step computes standardised weights anew, as ours does, and ends in a step of Adam (foreach=False: the default
of version 1.13).

Debian's PyTorch multiplies small matrices with the system's BLAS and gives larger convolutions to oneDNN; which BLAS
that is makes a large difference, and is printed. To compare with OpenBLAS where the plain one is installed, unpack
libopenblas0-pthread anywhere and name its folder in LD_LIBRARY_PATH.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "grad"))
sys.dont_write_bytecode = True
import torch
import torch.nn.functional as F

import reference_net as reference


class Folded:
    """Convolutions with a bias; behind them the group norm where there is one."""

    def __init__(self, net, norm):
        self.gain = reference.RELU_GAIN if norm == "weight" else 1.0
        self.group = norm == "group"
        self.unit = {}
        p = {k: v.detach() for k, v in net.p.items()}
        for name in list(p):
            if not name.endswith("weight") or p[name].dim() != 4:
                continue
            conv = name[:-len(".weight")]
            bn = conv.replace("conv", "bn") if "downsample" not in conv else conv[:-1] + "1"
            w, g, b = p[name], p[bn + ".weight"], p[bn + ".bias"]
            if norm == "batch":
                k = g / torch.sqrt(p[bn + ".running_var"] + reference.NORM_EPS)
                w, b = w * k.view(-1, 1, 1, 1), b - p[bn + ".running_mean"] * k
            else:
                v, m = torch.var_mean(w, (1, 2, 3), keepdim=True, unbiased=False)
                w = (w - m) / torch.sqrt(v * w[0].numel() + reference.WEIGHT_EPS)
                if norm == "weight":
                    last = self.gain if "bn1" in bn or "downsample" in bn or bn.endswith(".0.bn2") and "layer1" not in bn else 1.0
                    w, b = w * (g * last).view(-1, 1, 1, 1), b * last
            self.unit[conv] = (w.contiguous(), b, g)
        self.fc = p["fc.weight"], p["fc.bias"]

    def run(self, x, conv, stride=1):
        w, b, g = self.unit[conv]
        if self.group:
            return F.group_norm(F.conv2d(x, w, None, stride, w.shape[2] // 2), w.shape[0] // reference.GROUP, g, b,
                                reference.NORM_EPS)
        return F.conv2d(x, w, b, stride, w.shape[2] // 2)

    def __call__(self, x, first, last):
        """From one cut to another, numbered as the attribute split is: 0 input, 1 + k, 10 embedding."""
        if first == 0:
            x = ((x - float(reference.MEAN)) * float(reference.SCALE))[:, None]
            x = F.max_pool2d(F.relu_(self.run(x, "conv1", 2)), 3, 2, 1)
            first = 1
        for k in range(first - 1, min(last - 1, 8)):
            p = "layer%d.%d." % (k // 2 + 1, k % 2)
            down = k % 2 == 0 and k > 0
            h = self.run(F.relu_(self.run(x, p + "conv1", 2 if down else 1)), p + "conv2")
            h += self.run(x, p + "downsample.0", 2) if down else x
            x = F.relu_(h)
        if last == 10:
            x = F.normalize(F.linear(x.mean((2, 3)), *self.fc), dim=1)
        return x


class Torch:
    def __init__(self, a):
        torch.set_num_threads(a.threads)
        torch.manual_seed(1)
        reference.WIDTH = a.width
        self.net = reference.Net(a.norm, torch.float32)
        self.folded = Folded(self.net, a.norm)
        self.opt = torch.optim.Adam(self.net.parameters(), lr=1e-6)
        self.batch = a.batch
        self.cut = {0: torch.randn(a.batch, 64, 96) * 5 - 4.5}
        with torch.inference_mode():
            exact = self.net(self.cut[0])
            for k in range(1, 11):
                self.cut[k] = self.folded(self.cut[0], 0, k)
                worst = (self.cut[k] - (exact[0] + [exact[1]])[k - 1]).abs().max() / exact[0][min(k, 9) - 1].abs().max()
                assert worst < 1e-4, (k, worst)

    def once(self, what, k):
        if what == "step":
            self.opt.zero_grad()
            z = self.net(self.cut[0])[1]
            (0.25 * (z * z).sum() + z[0, 0]).backward()
            self.opt.step()
            return
        with torch.inference_mode():
            self.folded(self.cut[0 if what == "encode" else k], 0 if what == "encode" else k, k if what == "encode" else 10)

    def measure(self, what, k):
        begun, times, took = time.perf_counter(), 0, 0
        while took < 0.005:
            self.once(what, k)
            times += 1
            took = time.perf_counter() - begun
        return took * 1e6 / times / self.batch


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("--width", type=int, default=16)
    ap.add_argument("--norm", default="weight")
    ap.add_argument("--batch", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--rounds", type=int, default=15)
    a = ap.parse_args()
    ours = subprocess.Popen([a.program, "--serve", "--width=%d" % a.width, "--norm=" + a.norm, "--batch=%d" % a.batch,
                             "--threads=%d" % a.threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    theirs = Torch(a)
    name = lambda k: "embedding" if k == 10 else str(k - 1)
    todo = [("encode", k) for k in range(1, 11)] + [("finish", k) for k in range(1, 10)] + [("step", 0)]
    got = {t: ([], []) for t in todo}
    for r in range(-2, a.rounds):  # the first two warm up
        for what, k in todo:
            ours.stdin.write("%s %s\n" % (what, name(k)) if k else what + "\n")
            pair = float(ours.stdout.readline()), theirs.measure(what, k)
            if r >= 0:
                for i in (0, 1):
                    got[what, k][i].append(pair[i])
    ours.stdin.close()
    ours.wait()
    blas = sorted({os.path.realpath(l.split()[-1]) for l in open("/proc/self/maps") if "blas" in l and "/" in l})
    print("BLAS of PyTorch: %s; oneDNN: %s" % (", ".join(map(os.path.basename, blas)), torch.backends.mkldnn.is_available()))
    print("PyTorch %s; width %d, norm %s, batch %d, threads %d, %d rounds; us a window"
          % (torch.__version__, a.width, a.norm, a.batch, a.threads, a.rounds))
    print("%-17s %21s %21s %22s" % ("", "ours min median", "PyTorch min median", "ratio (quartiles)"))
    for what, k in todo:
        c, t = got[what, k]
        q = statistics.quantiles([y / x for x, y in zip(c, t)], n=4)
        label = {"encode": "until ", "finish": "from ", "step": "training step"}[what] + (name(k) if k else "")
        print("%-17s %10.1f %10.1f %10.1f %10.1f %8.2f (%.2f .. %.2f)"
              % (label, min(c), statistics.median(c), min(t), statistics.median(t),
                 statistics.median(t) / statistics.median(c), q[0], q[2]))


main()
