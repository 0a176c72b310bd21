#!/usr/bin/python3
"""Reference values for tests/grad/hybrid.c: the three terms and their gradients by PyTorch's autograd, in f64.

    python3 tests/grad/reference_hybrid.py > tests/grad/reference_hybrid.h

Made with PyTorch 1.13.0 (Debian 12: python3-torch). 9 rows of 4 of two devices, one with a gap, some labelled.
Positives and masks are written out by hand, so that nothing is shared with what is tested.
"""
import math
import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
N, D, M, T, SPAN = 9, 4, 3, 0.2, 5.0
chain = [0, 0, 0, 0, 0, 3, 3, 3, 3]
seq = [10, 11, 12, 14, 33, 7, 8, 9, 30]
label = [-1, -1, 2, -1, -1, 2, -1, 4, -1]
# near 1, bridge 4, apart 3: positives, and those that are neither positive nor negative
positives = [[1], [0, 2], [5], [2], [], [2], [5, 7], [6], []]
masked = [[2], [], [0, 1, 3], [], [], [6, 7], [], [5], []]
# the two nearest in number of each row
pairs = [[1, 2], [0, 2], [1, 0], [2, 1], [3, 2], [6, 7], [5, 7], [6, 5], [7, 6]]


def rows(*shape):
    """Values that f32 holds exactly, so that both sides see the same."""
    return F.normalize(torch.round(torch.randn(*shape) * 1e4) / 1e4, dim=-1).float().double()


z, theta = rows(N, D), rows(M, D)


def task(z):
    s, losses = z @ z.T / T, []
    for i in range(N):
        others = [j for j in range(N) if j != i and j not in masked[i]]
        if positives[i]:
            losses.append(torch.logsumexp(s[i, others], 0) - s[i, positives[i]].mean())
    return torch.stack(losses).mean()


def means():
    """Of the N equal parts of the law of a coordinate, by summing its density over a fine grid of angles."""
    a = (torch.arange(4000000) + 0.5) / 4000000 * math.pi - math.pi / 2
    w = torch.cos(a) ** (D - 2)
    w = w / w.sum()
    at = torch.clamp((torch.cumsum(w, 0) - w / 2) * N, max=N - 1e-9).long()
    return torch.zeros(N).index_add_(0, at, w * torch.sin(a)) * N


def sliced(z):
    q = means()
    p = torch.sort(z @ theta.T, dim=0).values
    return D * (((p - q[:, None]) ** 2).mean() + 1 / D - (q ** 2).mean())


def laplacian(z):
    e = [math.exp(-abs(seq[i] - seq[j]) / SPAN) * ((z[i] - z[j]) ** 2).sum() for i in range(N) for j in pairs[i]]
    return torch.stack(e).mean()


def emit(name, v, form="%.9g"):
    print("static const float %s[%d] = {" % (name, v.numel()))
    line = "   "
    for e in v.reshape(-1).tolist():
        t = form % e
        t += "f," if "." in t or "e" in t else ".0f,"
        if len(line) + len(t) > 105:
            print(line)
            line = "   "
        line += " " + t
    print(line + "\n};")


print("/* Written by tests/grad/reference_hybrid.py: do not edit. */")
print("enum { REF_N = %d, REF_D = %d, REF_M = %d };" % (N, D, M))
print("static const uint32_t ref_chain[REF_N] = {%s};" % ", ".join(map(str, chain)))
print("static const uint64_t ref_seq[REF_N] = {%s};" % ", ".join(map(str, seq)))
print("static const int32_t ref_label[REF_N] = {%s};" % ", ".join(map(str, label)))
emit("ref_z", z)
emit("ref_theta", theta)
emit("ref_means", means())
for f in (task, sliced, laplacian):
    x = z.clone().requires_grad_()
    v = f(x)
    v.backward()
    print("static const double ref_%s = %.12g;" % (f.__name__, v))
    emit("ref_d%s" % f.__name__, x.grad, "%.7g")
