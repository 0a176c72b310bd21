#!/usr/bin/python3
"""Writes tests/grad/kernels_reference.h: inputs, outputs and gradients of the network's operations as PyTorch has them.

Run by hand when an operation is added (Debian: python3-torch):

    python3 tests/grad/kernels_reference.py > tests/grad/kernels_reference.h

Everything is computed in double precision from float inputs drawn with a fixed seed, and printed to seven
digits, so that a float kernel can be held to its own rounding. tests/grad/kernels_reference.c compares.
"""
import sys
import torch
import torch.nn.functional as F

torch.manual_seed(20)
out = []


def values(name, t):
    v = t.detach().double().contiguous().reshape(-1).tolist()
    lines, line = [], "   "
    for x in v:
        word = " %.7g," % x
        if len(line) + len(word) > 108:
            lines.append(line)
            line = "   "
        line += word
    lines.append(line)
    out.append("static const float %s[%d] = {\n%s};\n" % (name, len(v), "\n".join(lines)))


def draw(*shape):
    t = torch.randn(*shape, dtype=torch.float32)
    t = (t * 64).round() / 64  # short in print
    return t.double().requires_grad_()


def case(name, inputs, y):
    """y is a function of the inputs; the gradient at y is drawn."""
    r = draw(*y.shape)
    (y * r).sum().backward()
    for k, t in inputs.items():
        values("%s_%s" % (name, k), t)
        values("%s_d%s" % (name, k), t.grad)
    values(name + "_y", y)
    values(name + "_r", r)


def conv(name, n, cin, h, w, cout, k, stride, pad, residual):
    x, wt, b = draw(n, cin, h, w), draw(cout, cin, k, k), draw(cout)
    y = F.conv2d(x, wt, b, stride, pad)
    inputs = {"x": x, "w": wt, "b": b}
    if residual:
        a = draw(*y.shape)
        y = F.relu(y + a)
        inputs["a"] = a
    case(name, inputs, y)


conv("conv7", 1, 1, 11, 13, 5, 7, 2, 3, False)
conv("conv3", 2, 4, 5, 6, 7, 3, 1, 1, True)
conv("conv3s", 2, 3, 6, 7, 5, 3, 2, 1, False)
conv("conv1s", 2, 5, 4, 5, 6, 1, 2, 0, False)

x, w, b = draw(4, 10), draw(7, 10), draw(7)
case("linear", {"x": x, "w": w, "b": b}, F.linear(x, w, b))
x = draw(2, 3, 7, 8)
case("maxpool", {"x": x}, F.max_pool2d(x, 3, 2, 1))
x = draw(2, 6, 3, 4)
case("avgpool", {"x": x}, F.adaptive_avg_pool2d(x, 1))
x, g, b = draw(2, 6, 4, 5), draw(6), draw(6)
case("groupnorm", {"x": x, "g": g, "b": b}, F.group_norm(x, 3, g, b, 1e-5))
x, g, b = draw(2, 4, 3, 5), draw(4), draw(4)
mean, var = draw(4).detach(), draw(4).detach().abs() + 0.5
values("batchnorm_mean", mean)
values("batchnorm_var", var)
case("batchnorm", {"x": x, "g": g, "b": b}, F.batch_norm(x, mean, var, g, b, False, 0.0, 1e-5))
w, g = draw(4, 3, 3, 3), draw(4)
flat = w.reshape(4, -1)
centred = flat - flat.mean(1, keepdim=True)
var = centred.square().mean(1, keepdim=True)
case("scaledws", {"w": w, "g": g}, centred * g[:, None] / torch.sqrt(var * 27 + 1e-4))
w = draw(4, 3, 3, 3)
flat = w.reshape(4, -1)
case("plainws", {"w": w}, F.layer_norm(flat, (27,), eps=1e-5))
x = draw(3, 16)
case("l2norm", {"x": x}, F.normalize(x, dim=1))

# Ten steps of each optimiser over the same gradients.
start, grads = draw(20).detach(), [draw(20).detach() for _ in range(10)]
values("step_start", start)
values("step_grads", torch.stack(grads))
for name, make in {
    "adam": lambda p: torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD([p], lr=1e-2, momentum=0.9, weight_decay=0.05),
}.items():
    p = start.clone().requires_grad_()
    o = make(p)
    for g in grads:
        p.grad = g.clone()
        o.step()
    values(name + "_end", p)

sys.stdout.write("/* Made by kernels_reference.py with PyTorch %s; see there. */\n" % torch.__version__.split("+")[0])
sys.stdout.write("\n".join(out))
