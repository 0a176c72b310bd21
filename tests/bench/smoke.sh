#!/bin/sh
# That the benchmarks run and compute what the programs do; no time is looked at. usage: smoke.sh FOLDER-OF-BENCH-PROGRAMS
set -u
bench=$1
tools=${SS_BINDIR:-}
PATH=${tools:+$tools:}$PATH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
n=0
ok() {
    n=$((n + 1))
    echo "ok $n - $1"
}
not_ok() {
    n=$((n + 1))
    echo "not ok $n - $1"
}
check() {
    _name=$1
    shift
    if "$@" >"$scratch/out" 2>"$scratch/err"; then
        ok "$_name"
    else
        sed 's/^/# /' "$scratch/out" "$scratch/err"
        not_ok "$_name"
    fi
}

check 'bench-peak' "$bench/bench-peak" --ms=0.1
check 'bench-stream' "$bench/bench-stream" --rounds=1 --mib=1 --filter=ss-cat
check 'bench-cuts, the table' "$bench/bench-cuts" --rounds=1 --ms=0 --frames=32

ss-model init -q -o "$scratch/m"
ss-capture synth:1 --duration=10 | ss-featurize | ss-model codecs -q --cuts=4 --patch=2 --steps=0 -o "$scratch/mc" "$scratch/m" >/dev/null
check 'bench-codec' "$bench/bench-codec" "$scratch/mc"

printf 'encode embedding\nfinish 3\nstep\nsave encode embedding %s/z\ninput %s/z\nencode nowhere\n' "$scratch" "$scratch" |
    "$bench/bench-cuts" --serve --ms=0 --threads=2 2>"$scratch/err" | sed 's/^[0-9.]\{1,\}$/number/' >"$scratch/replies"
printf 'number\nnumber\nnumber\nsaved\nerror: no such windows\nerror: no such measurement\n' >"$scratch/expected"
check 'bench-cuts, the line protocol' cmp "$scratch/replies" "$scratch/expected"

head -c 64000 /dev/zero >"$scratch/sound"
printf 'logmel\nmixture\n' | "$bench/bench-parts" --input="$scratch/sound" --ms=0 2>"$scratch/err" | sed 's/^[0-9.]\{1,\}$/number/' >"$scratch/replies"
printf 'number\nnumber\n' >"$scratch/expected"
check 'bench-parts' cmp "$scratch/replies" "$scratch/expected"

# The network as it is handed to other engines gives the embedding of ours.
python=/usr/bin/python3
if ! "$python" -c 'import numpy' 2>/dev/null; then
    n=$((n + 1))
    echo "ok $n - network.py # SKIP no python3-numpy"
else
    for norm in batch weight; do
        check "network.py, norm $norm" "$python" - "$bench" "$scratch" "$norm" <<'PY'
import os, subprocess, sys
sys.path.insert(0, os.path.join(os.environ["SS_SRC"], "tests", "bench"))
sys.dont_write_bytecode = True
import numpy as np
import network
bench, d, norm = sys.argv[1:]
m, s, x, z = ("%s/%s-%s" % (d, name, norm) for name in ("model", "state", "x", "z"))
subprocess.run(["ss-model", "init", "-q", "--norm=" + norm, "-o", m], check=True)
subprocess.run(["ss-model", "export", "-q", m, "-o", s], check=True)
w = (5 * np.random.default_rng(1).standard_normal((1, 64, 96)) - 4.5).astype("<f4")
w.tofile(x)
subprocess.run([bench + "/bench-cuts", "--serve", "--model=" + m, "--input=" + x], input="save encode embedding %s\n" % z,
               text=True, check=True, stdout=subprocess.DEVNULL)
n = network.Network(s, 64, 96)
worst = np.abs(n.run(w)["cut embedding"][0] - np.fromfile(z, "<f4")).max()
print("differs by", worst)
network.write_onnx(n, d + "/f32.onnx")
network.write_onnx(n, d + "/int8.onnx", ranges=network.Ranges(n, w))
network.write_flat(n, d + "/steps")
sys.exit(not worst < 1e-5)
PY
    done
    for engine in onednn openblas; do
        if [ -x "$bench/bench-$engine" ]; then
            printf 'save finish 3 %s/other\n' "$scratch" | "$bench/bench-$engine" --steps="$scratch/steps" --input="$scratch/x-weight" \
                --ms=0 >"$scratch/replies" 2>"$scratch/err"
            check "bench-$engine" "$python" -c 'import sys, numpy
a, b = (numpy.fromfile(f, "<f4") for f in sys.argv[1:])
sys.exit(not abs(a - b).max() < 1e-5)' "$scratch/z-weight" "$scratch/other"
        else
            n=$((n + 1))
            echo "ok $n - bench-$engine # SKIP not built"
        fi
    done
fi
echo "1..$n"
