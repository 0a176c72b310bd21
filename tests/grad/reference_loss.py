#!/usr/bin/python3
"""Reference values for tests/grad/loss.c: losses and gradients by PyTorch's autograd, in double precision.

    python3 tests/grad/reference_loss.py > tests/grad/reference_loss.h

Made with PyTorch 1.13.0 (Debian 12: python3-torch). Embeddings are 5 x 4 normalised rows, four decimals of which
are kept before normalising; 6 further negatives for all, and 6 for each anchor.
"""
import torch
import torch.nn.functional as F

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
B, D, K, T = 5, 4, 6, 0.2


def rows(*shape):
    """Values that f32 holds exactly, so that both sides see the same."""
    return F.normalize(torch.round(torch.randn(*shape, D) * 1e4) / 1e4, dim=-1).float().double()


x, y, shared, own = rows(B), rows(B), rows(K), rows(B, K)
mask = torch.rand(B, B) < 0.25
mask_k = torch.rand(B, K) < 0.25
same = torch.eye(B, dtype=torch.bool)


def ce(positive, negatives, dcl):
    terms = negatives if dcl else torch.cat([positive[:, None], negatives], 1)
    return (torch.logsumexp(terms, 1) - positive).mean()


def views(a, p, dcl, masked):
    s = a @ p.T / T
    n = s.masked_fill(same | (mask & masked), -torch.inf)
    return 0.5 * (ce(s.diagonal(), n, dcl) + ce(s.diagonal(), n.T, dcl))


def anchors(a, p, dcl, masked, batch, kind):
    positive = (a * p).sum(1) / T
    s = a @ p.T / T
    parts = [s.masked_fill(same | (mask & masked), -torch.inf)] if batch else []
    if kind:
        n = a @ shared.T if kind == 1 else (a[:, None] * own).sum(2)
        parts.append((n / T).masked_fill(mask_k & masked, -torch.inf))
    return ce(positive, torch.cat(parts, 1), dcl)


def emit(name, v, form="%.9g"):
    v = [form % e for e in v.reshape(-1).tolist()]
    print("static const %s %s[%d] = {" % ("uint8_t" if form == "%d" else "float", name, len(v)))
    line = "   "
    for t in v:
        t += "f," if "." in t or "e" in t else ("," if form == "%d" else ".0f,")
        if len(line) + len(t) > 105:
            print(line)
            line = "   "
        line += " " + t
    print(line + "\n};")


print("/* Written by tests/grad/reference_loss.py: do not edit. */")
print("enum { REF_B = %d, REF_D = %d, REF_K = %d };" % (B, D, K))
print("static const float ref_t = %gf;" % T)
for name, v in (("ref_x", x), ("ref_y", y), ("ref_shared", shared), ("ref_own", own)):
    emit(name, v)
emit("ref_mask", mask, "%d")
emit("ref_mask_k", mask_k, "%d")
print("""/* kind: 0 no further negatives, 1 for all, 2 for each; dx, dy at ref_x, ref_y */
static const struct {
    bool views, decoupled, masked, batch;
    int kind;
    double loss;
    float dx[%d], dy[%d];
} ref_case[] = {""" % (B * D, B * D))
cases = [(True, d, m, True, 0) for d in (0, 1) for m in (0, 1)]
cases += [(False, d, m, b, k) for d in (0, 1) for m in (0, 1) for b in (0, 1) for k in (0, 1, 2) if b or k]
for v, d, m, b, k in cases:
    a, p = x.clone().requires_grad_(), y.clone().requires_grad_()
    loss = views(a, p, d, bool(m)) if v else anchors(a, p, d, bool(m), b, k)
    loss.backward()
    print("    {%d, %d, %d, %d, %d, %.12g," % (v, d, m, b, k, loss))
    for g in (a.grad, p.grad):
        print("     {%s}," % ", ".join("%.7gf" % e if e else "0" for e in g.reshape(-1).tolist()))
    print("    },")
print("};")
