#!/usr/bin/python3
"""PyTorch (Debian's python3-torch) as one side of a comparison; README.md, "The line protocol".

    pytorch.py --kind=eager|optimized --state=FILE --input=FILE --norm=N --width=W --mels=H --frames=T
               [--batch=B] [--threads=T] [--ms=MS]
    pytorch.py --kind=parts --input=FILE     log-mel and mixture: the side of bench-parts

eager runs float32 with folded weights under inference_mode, in place where it can be. optimized is the same traced,
frozen and given to torch.jit.optimize_for_inference, which hands convolutions to oneDNN in its own layouts. A step of
training computes standardised weights anew, as ours does, and ends in a step of Adam (foreach=False: the default of
version 1.13).

Debian's PyTorch multiplies small matrices with the system's BLAS: which one that is makes a large difference, and is
said on standard error. With the reference BLAS (no OpenBLAS installed) it is several times slower at batch 1.
"""
import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "grad")]
sys.dont_write_bytecode = True
import numpy as np
import torch
import torch.nn.functional as F

import network
import reference_net as reference


class Folded(torch.nn.Module):
    """The part between two cuts."""

    def __init__(self, net, first, last):
        super().__init__()
        self.ops, self.first, self.last, self.mean = net.between(first, last), "cut " + first, "cut " + last, float(net.mean)
        self.w = {op.name: (torch.from_numpy(op.w.copy()), torch.from_numpy(op.b.copy())) for op in self.ops
                  if op.kind in ("conv", "linear")}

    def forward(self, x):
        v = {self.first: x}
        for op in self.ops:
            a = v[op.inputs[0]]
            if op.kind == "sub":
                y = a - self.mean
            elif op.kind == "conv":
                y = F.conv2d(a, *self.w[op.name], op.stride, op.pad)
                y = F.relu_(y) if op.relu else y
            elif op.kind == "maxpool":
                y = F.max_pool2d(a, 3, 2, 1)
            elif op.kind == "addrelu":
                a += v[op.inputs[1]]
                y = F.relu_(a)
            elif op.kind == "mean":
                y = a.mean((2, 3))
            elif op.kind == "linear":
                y = F.linear(a, *self.w[op.name])
            else:
                y = F.normalize(a, dim=1)
            v[op.name] = y
        return v[self.last]


class Forward:
    def __init__(self, a):
        self.a, self.net, self.parts, self.cuts, self.train = a, None, {}, {}, None
        self.read(a.input)

    def read(self, path):
        shape = self.a.batch, 1, self.a.mels, self.a.frames
        self.cuts = {"input": torch.from_numpy(np.fromfile(path, "f4", int(np.prod(shape))).reshape(shape))}

    def part(self, what, k):
        if (what, k) not in self.parts:
            if what not in ("encode", "finish") or k not in network.CUTS[1:]:
                raise KeyError("no such measurement")
            if not self.net:  # not for a step alone, whose memory is told
                self.net = network.Network(self.a.state, self.a.mels, self.a.frames)
            p = Folded(self.net, *(("input", k) if what == "encode" else (k, "embedding"))).eval()
            if self.a.kind == "optimized":
                with torch.no_grad():
                    x = self.start(what, k)
                    p = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(p, x)))
                    for _ in range(3):
                        p(x)
            self.parts[what, k] = p
        return self.parts[what, k]

    def start(self, what, k):
        cut = "input" if what == "encode" else k
        if cut not in self.cuts:
            self.cuts[cut] = self.part("encode", cut)(self.cuts["input"]).clone()
        return self.cuts[cut]

    def result(self, what, k):
        with torch.inference_mode():
            return self.part(what, k)(self.start(what, k)).contiguous().numpy()

    def once(self, what, k):
        if what == "step":
            return self.step()
        with torch.inference_mode():
            self.part(what, k)(self.start(what, k))

    def step(self):
        if not self.train:
            reference.WIDTH = self.a.width
            net = reference.Net(self.a.norm, torch.float32)
            self.train = net, torch.optim.Adam(net.parameters(), lr=1e-6)
        net, opt = self.train
        opt.zero_grad()
        z = net(self.cuts["input"][:, 0])[1]
        (0.25 * (z * z).sum() + z[0, 0]).backward()
        opt.step()


class Parts:
    """Front end and mixture as one would write them with PyTorch; their sizes are those of bench-parts."""

    WINDOW, HOP, FFT, MELS, LOW, HIGH, RATE = 400, 160, 512, 64, 80.0, 8000.0, 16000
    C, D, NEGATIVES = 64, 128, 256

    def __init__(self, a):
        self.read(a.input)
        self.window = torch.cat([torch.hann_window(self.WINDOW), torch.zeros(self.FFT - self.WINDOW)])
        mel = lambda f: 2595 * np.log10(1 + f / 700)
        corner = 700 * (10 ** (np.linspace(mel(self.LOW), mel(self.HIGH), self.MELS + 2) / 2595) - 1)
        f = np.arange(self.FFT // 2 + 1) * self.RATE / self.FFT
        up = (f - corner[:-2, None]) / (corner[1:-1] - corner[:-2])[:, None]
        down = (corner[2:, None] - f) / (corner[2:] - corner[1:-1])[:, None]
        self.filters = torch.from_numpy(np.maximum(np.minimum(up, down), 0).astype("f4"))
        torch.manual_seed(1)
        self.centre = F.normalize(torch.randn(self.C, self.D), dim=1)
        self.mean, self.square = self.centre.clone(), self.centre ** 2 + 0.01
        self.weight, self.seen = torch.full((self.C,), 1 / self.C), 0

    def read(self, path):
        self.sound = torch.from_numpy(np.fromfile(path, "f4"))

    def logmel(self):
        spectrum = torch.stft(self.sound, self.FFT, self.HOP, self.FFT, self.window, center=False, return_complex=True)
        power = spectrum.real ** 2 + spectrum.imag ** 2
        return torch.log(self.filters @ power + 1e-6)

    def mixture(self):
        """Responsibilities and entropy of an embedding, a step of EM on the sufficient statistics, 256 negatives."""
        self.seen += 1
        z = F.normalize(self.centre[self.seen % self.C] + 0.05 * torch.randn(self.D), dim=0)
        variance = (self.square - self.mean ** 2).clamp_min(1e-4)
        log = torch.log(self.weight) - 0.5 * (((z - self.mean) ** 2 / variance) + torch.log(variance)).sum(1)
        p = torch.softmax(log, 0)
        u = -(p * torch.log(p.clamp_min(1e-30))).sum() / np.log(self.C)
        novelty = (z - self.mean).norm(dim=1).min()
        rate = 0.01 * p
        self.weight = (self.weight + 0.001 * (p - self.weight))
        self.mean = self.mean + rate[:, None] * (z - self.mean)
        self.square = self.square + rate[:, None] * (z * z - self.square)
        own = int(p.argmax())
        near = self.weight * torch.exp(-((self.mean[own] - self.mean) ** 2).sum(1) / (2 * 0.5 ** 2))
        near[own] = 0
        c = torch.multinomial(near, self.NEGATIVES, replacement=True)
        deviation = variance.sqrt()
        negatives = F.normalize(self.mean[c] + deviation[c] * torch.randn(self.NEGATIVES, self.D), dim=1)
        return u, novelty, negatives

    def result(self, what, k):
        with torch.inference_mode():
            return self.logmel().T.contiguous().numpy()

    def once(self, what, k):
        with torch.inference_mode():
            getattr(self, {"logmel": "logmel", "mixture": "mixture"}[what])()


def measure(side, what, k, least, batch):
    side.once(what, k)
    begun, times, took = time.perf_counter(), 0, 0
    while took < least:
        side.once(what, k)
        times += 1
        took = time.perf_counter() - begun
    return "%.3f" % (took * 1e6 / times / batch)


def answer(side, a, line):
    what, _, rest = line.partition(" ")
    if what == "input":
        side.read(rest)
        return "loaded"
    if what == "save":
        which, k, path = rest.split(" ", 2)
        side.result(which, k).tofile(path)
        return "saved"
    return measure(side, what, rest, a.ms / 1e3, a.batch)


def main():
    ap = argparse.ArgumentParser()
    for name, kind, default in (("kind", str, "eager"), ("state", str, None), ("input", str, None), ("norm", str, "batch"),
                                ("width", int, 16), ("mels", int, 64), ("frames", int, 96), ("batch", int, 1),
                                ("threads", int, 1), ("ms", float, 5)):
        ap.add_argument("--" + name, type=kind, default=default)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    side = Parts(a) if a.kind == "parts" else Forward(a)
    blas = sorted({os.path.basename(os.path.realpath(l.split()[-1])) for l in open("/proc/self/maps") if "blas" in l and "/" in l})
    print("# PyTorch %s with %s%s, threads %d" % (torch.__version__, "oneDNN, " if torch.backends.mkldnn.is_available() else "",
                                                  " and ".join(blas), a.threads), file=sys.stderr)
    for line in sys.stdin:
        try:
            reply = answer(side, a, line.rstrip("\n"))
        except Exception as e:
            reply = "error: " + str(e).replace("\n", " ")
        print(reply, flush=True)


main()
