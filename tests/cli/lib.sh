# Functions for the scripts beside it. Source it first: . "$SS_SRC/tests/cli/lib.sh"

fail() {
    echo "FAILED: $*"
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

# status N COMMAND...: it must end with status N; a death by signal is never what was meant unless N says so.
# Standard output goes to ./out, standard error to ./err.
status() {
    _want=$1
    shift
    _got=0
    "$@" >out 2>err || _got=$?
    if [ "$_got" -ne "$_want" ]; then
        sed 's/^/err: /' err
        fail "status $_got, expected $_want: $*"
    fi
}

# matches FILE PATTERN: some line of the file matches the basic regular expression.
matches() {
    grep -q -- "$2" "$1" || {
        sed "s/^/$1: /" "$1" | head -n 20
        fail "no line of $1 matches: $2"
    }
}

# same A B: equal to the byte.
same() {
    cmp "$1" "$2" || fail "$1 and $2 differ"
}

need() {
    command -v "$1" >/dev/null 2>&1 || skip "$1 is not installed"
}

need_data() {
    [ -n "${SS_TEST_DATA:-}" ] && [ -d "$SS_TEST_DATA/$1" ] || skip "SS_TEST_DATA names no folder with $1"
}
