"""The network as other engines need it: read from what `ss-model export` writes, run with NumPy, written as ONNX.

The batch norm of an exported state dict is folded into the convolutions (with the norm `weight` it changes nothing but
the bias), so that what is left is convolution, bias, shortcut and ReLU: the same arithmetic that ss-encode does. Group
norm does not fold and is refused. Needs python3-numpy alone: the few messages of ONNX's format are written here.
"""
import json
import struct

import numpy as np

NORM_EPS = 1e-5
CUTS = ["input"] + [str(k) for k in range(9)] + ["embedding"]


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    about = header.pop("__metadata__", {})
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], "<f4").reshape(t["shape"])
            for name, t in header.items() if t["dtype"] == "F32"}, about


class Op:
    """One step: what it makes (`name`) of what (`inputs`)."""

    def __init__(self, kind, name, inputs, **more):
        self.kind, self.name, self.inputs = kind, name, inputs
        self.__dict__.update(more)


class Network:
    """`ops` from the input to the embedding; cut k is the value named "cut k"."""

    def __init__(self, state, mels, frames):
        p, about = read_safetensors(state)
        if about.get("norm") == "group":
            raise SystemExit("a group norm does not fold into a convolution: take --norm=batch or weight")
        self.p, self.mels, self.frames = p, mels, frames
        self.mean, scale = np.float32(about["input_mean"]), np.float32(about["input_scale"])
        self.ops, self.shape, self.macs = [], {"cut input": (1, mels, frames)}, {}
        self.add("sub", "centred", ["cut input"], self.shape["cut input"])
        self.conv("conv1", "bn1", "centred", "stem", 2, True, scale)
        c, h, w = self.shape["stem"]
        self.add("maxpool", "cut 0", ["stem"], (c, (h + 1) // 2, (w + 1) // 2))
        for k in range(8):
            x, b, stride = "cut %d" % k, "layer%d.%d." % (k // 2 + 1, k % 2), 2 if k in (2, 4, 6) else 1
            shortcut = x
            if stride == 2:
                shortcut = b + "shortcut"
                self.conv(b + "downsample.0", b + "downsample.1", x, shortcut, 2, False)
            self.conv(b + "conv1", b + "bn1", x, b + "one", stride, True)
            self.conv(b + "conv2", b + "bn2", b + "one", b + "two", 1, False)
            self.add("addrelu", "cut %d" % (k + 1), [b + "two", shortcut], self.shape[shortcut])
        self.add("mean", "mean", ["cut 8"], (self.shape["cut 8"][0], 1, 1))
        self.dim = p["fc.weight"].shape[0]
        self.add("linear", "z", ["mean"], (self.dim,), w=p["fc.weight"], b=p["fc.bias"])
        self.macs["z"] = p["fc.weight"].size
        self.add("normalise", "cut embedding", ["z"], (self.dim,))

    def add(self, kind, name, inputs, shape, **more):
        self.ops.append(Op(kind, name, inputs, **more))
        self.shape[name] = shape

    def conv(self, conv, norm, x, name, stride, relu, scale=1.0):
        p = self.p
        k = p[norm + ".weight"].astype("f8") / np.sqrt(p[norm + ".running_var"].astype("f8") + NORM_EPS)
        w = (p[conv + ".weight"] * k[:, None, None, None] * scale).astype("f4")
        b = (p[norm + ".bias"] - p[norm + ".running_mean"] * k).astype("f4")
        pad = w.shape[2] // 2
        h, t = ((n + 2 * pad - w.shape[2]) // stride + 1 for n in self.shape[x][1:])
        self.add("conv", name, [x], (w.shape[0], h, t), w=w, b=b, stride=stride, pad=pad, relu=relu)
        self.macs[name] = w.size * h * t

    def between(self, first, last):
        """The ops from one cut to another (names as in CUTS)."""
        at = [i for i, op in enumerate(self.ops) if op.name == "cut " + last][0] + 1
        start = [i for i, op in enumerate(self.ops) if op.name == "cut " + first]
        return self.ops[start[0] + 1 if start else 0:at]

    def macs_between(self, first, last):
        return sum(self.macs.get(op.name, 0) for op in self.between(first, last))

    def run(self, x, first="input", last="embedding", dtype="f4"):
        """Every value on the way, for windows x [n][...]; for checks and calibration, not for speed."""
        v = {"cut " + first: x.reshape((len(x),) + self.shape["cut " + first]).astype(dtype)}
        for op in self.between(first, last):
            a = v[op.inputs[0]]
            if op.kind == "sub":
                y = a - self.mean.astype(dtype)
            elif op.kind == "conv":
                y = convolve(a, op.w.astype(dtype), op.stride, op.pad) + op.b.astype(dtype)[:, None, None]
                y = np.maximum(y, 0) if op.relu else y
            elif op.kind == "maxpool":
                y = np.max(patches(a, 3, 2, 1, -np.inf), axis=(4, 5))
            elif op.kind == "addrelu":
                y = np.maximum(a + v[op.inputs[1]], 0)
            elif op.kind == "mean":
                y = a.mean((2, 3), keepdims=True)
            elif op.kind == "linear":
                y = a.reshape(len(a), -1) @ op.w.T.astype(dtype) + op.b.astype(dtype)
            else:
                y = a / np.linalg.norm(a, axis=1, keepdims=True)
            v[op.name] = y
        return v


def patches(x, size, stride, pad, fill=0):
    """[n][c][h][w] -> [n][c][oh][ow][size][size], a view of the padded input."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]


def convolve(x, w, stride, pad):
    v = patches(x, w.shape[2], stride, pad)
    n, c, h, t = v.shape[:4]
    rows = v.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * t, -1)
    return (rows @ w.reshape(len(w), -1).T).reshape(n, h, t, -1).transpose(0, 3, 1, 2)


def write_flat(network, path):
    """For ops.c."""
    at = {op.name: i for i, op in enumerate(network.ops)}
    kinds = ["sub", "conv", "maxpool", "addrelu", "mean", "linear", "normalise"]
    with open(path, "wb") as f:
        f.write(struct.pack("<4i", len(network.ops), 1, network.mels, network.frames))
        for op in network.ops:
            a, b = ([at.get(i, -1) for i in op.inputs] + [-1])[:2]
            cut = CUTS.index(op.name[4:]) if op.name.startswith("cut ") else 0
            shape = (network.shape[op.name] + (1, 1))[:3]
            conv = (op.w.shape[2], op.stride, op.pad, op.relu) if op.kind == "conv" else (0, 0, 0, 0)
            w = getattr(op, "w", np.zeros(0, "f4"))
            bias = np.array([network.mean], "f4") if op.kind == "sub" else getattr(op, "b", np.zeros(0, "f4"))
            f.write(struct.pack("<13i", kinds.index(op.kind), a, b, cut, *shape, *conv, w.size, bias.size))
            f.write(w.astype("<f4").tobytes() + bias.astype("<f4").tobytes())


# ONNX: messages of its protocol buffers, by field number -------------------------------------------------------------

FLOAT, UINT8, INT8, INT32, INT64 = 1, 2, 3, 6, 7
TYPE_OF = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int32": INT32, "int64": INT64}


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def number(field, n):
    return varint(field << 3) + varint(n)


def block(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def attribute(name, value):
    out = block(1, name)
    if isinstance(value, int):
        return out + number(3, value) + number(20, 2)
    return out + b"".join(number(8, v) for v in value) + number(20, 7)


def tensor(name, a):
    return b"".join(number(1, d) for d in a.shape) + number(2, TYPE_OF[a.dtype.name]) + block(8, name) + \
        block(9, np.ascontiguousarray(a).tobytes())


def value_info(name, shape):
    dims = b"".join(block(1, number(1, d)) for d in shape)
    return block(1, name) + block(2, block(1, number(1, FLOAT) + block(2, dims)))


class Graph:
    def __init__(self):
        self.nodes, self.tensors = [], {}

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(b"".join(block(1, i) for i in inputs) + block(2, output) + block(3, output) + block(4, kind) +
                          b"".join(block(5, attribute(k, v)) for k, v in attributes.items()))
        return output

    def constant(self, name, a):
        self.tensors.setdefault(name, np.asarray(a))
        return name

    def write(self, path, first, last):
        """first, last: (name, shape) of input and output."""
        g = b"".join(block(1, n) for n in self.nodes) + block(2, "network") + \
            b"".join(block(5, tensor(n, a)) for n, a in self.tensors.items()) + \
            block(11, value_info(*first)) + block(12, value_info(*last))
        with open(path, "wb") as f:
            f.write(number(1, 7) + block(2, "streamsplit") + block(7, g) + block(8, block(1, "") + number(2, 13)))


def identity(path):
    """One value handed through: the overhead of a call."""
    g = Graph()
    g.node("Identity", ["x"], "y")
    g.write(path, ("x", (1,)), ("y", (1,)))


class Ranges:
    """Smallest and largest of every value over calibration windows (0 always among them)."""

    def __init__(self, network, windows, piece=4):
        self.low, self.high = {}, {}
        for i in range(0, len(windows), piece):
            for name, v in network.run(windows[i:i + piece]).items():
                self.low[name] = min(self.low.get(name, 0.0), float(v.min()))
                self.high[name] = max(self.high.get(name, 0.0), float(v.max()))

    def step(self, name):
        """Scale and zero point as uint8."""
        low, high = self.low[name], self.high[name]
        scale = (high - low) / 255 or 1.0
        return np.float32(scale), np.uint8(np.clip(round(-low / scale), 0, 255))


def write_onnx(network, path, first="input", last="embedding", batch=1, ranges=None):
    """
    The part between two cuts. With `ranges`, quantised as onnxruntime.quantization.quantize_static does it in the QDQ
    format: weights int8, one symmetric scale for each output channel, biases int32, activations uint8 with one scale
    and zero point each; every convolution, sum, pool and product between Quantize and DequantizeLinear.
    """
    g = Graph()
    ops = network.between(first, last)
    shape = lambda name: (batch,) + network.shape[name]
    clean = lambda name: name.replace(" ", "_")
    now = {"cut " + first: clean("cut " + first)}  # value -> what holds it in the graph

    def quantised(name, held, like=None):
        """held -> Quantize -> Dequantize, as `like` (a value with the same range) or by its own range"""
        if not ranges:
            return held
        n = clean(name)
        scale, zero = ranges.step(like or name)
        s, z = g.constant(n + ".scale", scale), g.constant(n + ".zero", zero)
        return g.node("DequantizeLinear", [g.node("QuantizeLinear", [held, s, z], n + ".q"), s, z], n + ".dq")

    def weight(name, op, rank):
        """Names of weight and bias."""
        n = clean(name)
        if not ranges:
            return [g.constant(n + ".weight", op.w), g.constant(n + ".bias", op.b)]
        w = op.w.reshape(len(op.w), -1)
        scale = (np.abs(w).max(1) / 127).astype("f4")
        scale[scale == 0] = 1
        q = np.clip(np.rint(w / scale[:, None]), -127, 127).astype("i1").reshape(op.w.shape)
        both = (scale * ranges.step(op.inputs[0])[0]).astype("f4")
        b = np.rint(op.b.astype("f8") / both).astype("i4")
        out = []
        for part, v, s in ("weight", q, scale), ("bias", b, both):
            out.append(g.node("DequantizeLinear", [
                g.constant("%s.%s" % (n, part), v), g.constant("%s.%s.scale" % (n, part), s),
                g.constant("%s.%s.zero" % (n, part), np.zeros(len(s), v.dtype))], "%s.%s.dq" % (n, part), axis=0))
        return out

    if first != "input":
        now["cut " + first] = quantised("cut " + first, now["cut " + first])
    for op in ops:
        n, x = clean(op.name), [now[i] for i in op.inputs]
        if op.kind == "sub":
            y = quantised(op.name, g.node("Sub", [x[0], g.constant("input_mean", network.mean)], n + ".f"))
        elif op.kind == "conv":
            y = g.node("Conv", x + weight(op.name, op, 4), n + ".conv", kernel_shape=list(op.w.shape[2:]),
                       strides=[op.stride] * 2, pads=[op.pad] * 4)
            y = quantised(op.name, g.node("Relu", [y], n + ".relu") if op.relu else y)
        elif op.kind == "maxpool":
            y = g.node("MaxPool", x, n + ".f", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
            y = quantised(op.name, y, op.inputs[0])
        elif op.kind == "addrelu":
            y = quantised(op.name, g.node("Relu", [g.node("Add", x, n + ".sum")], n + ".f"))
        elif op.kind == "mean":
            y = quantised(op.name, g.node("GlobalAveragePool", x, n + ".f"))
        elif op.kind == "linear":
            y = g.node("Gemm", [g.node("Flatten", x, n + ".flat") if not ranges else
                                quantised("mean flat", g.node("Flatten", x, n + ".flat"), "mean")] +
                       weight(op.name, op, 2), n + ".f", transB=1)
        else:
            y = g.node("LpNormalization", x, n + ".f", axis=1, p=2)
        now[op.name] = y
    result = g.node("Identity", [now["cut " + last]], "result")
    g.write(path, (clean("cut " + first), shape("cut " + first)), (result, shape("cut " + last)))
