# shellcheck shell=sh
# Sourced by device and server: what a pipeline that is left running needs around it.

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    _status=$1
    shift
    say "$*"
    exit "$_status"
}

# For what is gone when the script ends.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/streamsplit.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# settings [FILE]: take them up, or say what there is.
settings() {
    case ${1:-} in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" && exit 0 ;;
    -*) die 2 "unknown option '$1'; try --help" ;;
    ?*)
        [ -r "$1" ] || die 2 "cannot read '$1'"
        case $1 in */*) _file=$1 ;; *) _file=./$1 ;; esac
        set -a
        # shellcheck source=/dev/null
        . "$_file"
        set +a
        ;;
    esac
}

# stage COMMAND...: one program of a pipeline; that it failed is not lost behind the others.
stage() {
    _status=0
    "$@" || _status=$?
    [ "$_status" = 0 ] || echo "$1 ended with status $_status" >>"$scratch/failed"
}

# Tells systemd, if it is there to be told.
notify() {
    [ -z "${NOTIFY_SOCKET:-}" ] || systemd-notify "$@" || true
}

# watch STATE: the dog is fed while something moves in STATE, be it well or not: a link that is down comes up by itself,
# but what hangs has to be started anew. What is wrong is in `systemctl status`.
watch() {
    _seconds=$((WATCHDOG_USEC / 3000000))
    [ "$_seconds" -gt 0 ] || _seconds=1
    trap 'kill "$_sleep" 2>/dev/null; exit 0' TERM
    while :; do
        _wrong=$(ss-top --check "$1" 2>&1 | tr '\n' ';') || true
        if ss-top --alive "$1" >/dev/null 2>&1; then
            notify --status="${_wrong:-all is well}" WATCHDOG=1
        else
            notify --status="$_wrong"
        fi
        sleep "$_seconds" &
        _sleep=$!
        wait "$_sleep" || true
    done
}

# attend MAIN SOURCE STATE: wait for the process MAIN; SIGTERM ends SOURCE alone, and the rest drains. What failed is
# said, and is the status.
attend() {
    _main=$1 _source=$2 _watcher=''
    trap 'kill -TERM "$_source" 2>/dev/null || true' TERM
    trap : INT # of a terminal: all have had it
    notify --ready
    if [ -n "${WATCHDOG_USEC:-}" ]; then
        watch "$3" &
        _watcher=$!
    fi
    _status=0
    while kill -0 "$_main" 2>/dev/null; do
        _status=0
        wait "$_main" || _status=$?
    done
    notify STOPPING=1
    [ -z "$_watcher" ] || kill "$_watcher" 2>/dev/null || true
    [ "$_status" = 0 ] || echo "the pipeline ended with status $_status" >>"$scratch/failed"
    _status=0
    [ "$_main" = "$_source" ] || wait "$_source" || _status=$?
    [ "$_status" = 0 ] || echo "the source ended with status $_status" >>"$scratch/failed"
    if [ -s "$scratch/failed" ]; then
        while read -r _line; do say "$_line"; done <"$scratch/failed"
        exit 1
    fi
}
