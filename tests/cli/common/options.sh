# What every program does alike: help, version, usage errors, closed descriptors, a full disk.
. "$SS_SRC/tests/cli/lib.sh"
for page in "$SS_SRC"/tools/ss-*.c; do
    t=$(basename "$page" .c)
    status 0 "$t" --help
    matches out "^usage: $t"
    [ ! -s err ] || fail "$t --help wrote to standard error"
    awk -v t="$t" 'length > 100 { print t ": help line too long: " $0; exit 1 }' out
    status 0 "$t" --version
    matches out "^$t (streamsplit) [0-9]"
    status 2 "$t" --no-such-option
    [ ! -s out ] || fail "$t: usage error on standard output"
    matches err "$t --help"
    status 2 "$t" --cpu=nonsense
    matches err 'avx2'
    status 2 "$t" --limit-memory=12Q
    matches err 'found .12Q.'
    status 3 sh -c "$t --help >/dev/full"
    matches err 'No space left'
    status 3 sh -c "$t --version >&-"
done
