#!/bin/sh
# usage: compare.sh BUILD [OPTION...]: the network against PyTorch eager at the shapes that matter, one table each.
# With options, one table with them (--width W --norm N --batch B --threads T --rounds R; see torch_eager.py).
# Takes some minutes and wants an idle machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:?usage: compare.sh BUILD [OPTION...]}
shift
compare() {
    /usr/bin/python3 "$here/torch_eager.py" "$build/tests/bench/bench-cuts" "$@"
    echo
}
if [ $# -gt 0 ]; then
    compare "$@"
    exit
fi
for threads in 1 2; do
    for batch in 1 8 64; do
        compare --threads $threads --batch $batch
    done
done
compare --norm group --batch 8
compare --width 64 --batch 1
compare --width 64 --batch 8 --threads 2
