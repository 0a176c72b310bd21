# shellcheck shell=sh disable=SC2034
# Sourced by check and quickstart: installs what is missing, on Debian and what descends from it, and builds.

BUILD_PACKAGES='gcc libc6-dev pkg-config meson ninja-build libsndfile1-dev libfftw3-dev libcjson-dev libzstd-dev libsoxr-dev libasound2-dev libopus-dev'
TEST_PACKAGES='check gnuplot-nox mandoc strace openssh-server openssh-client bash python3-minimal'

say() {
    printf '%s\n' "$*" >&2
}

# need_packages PACKAGE...: asks dpkg first, so that nothing is asked of the network or of sudo when all is there.
need_packages() {
    _missing=''
    for _p in "$@"; do
        dpkg-query -W -f '${Status}' "$_p" 2>/dev/null | grep -q 'ok installed' || _missing="$_missing $_p"
    done
    [ -n "$_missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || {
        say "missing:$_missing (no apt-get here: install them, or what your system calls them, and run this again)"
        return 1
    }
    _sudo=''
    [ "$(id -u)" = 0 ] || _sudo=sudo
    say "installing:$_missing"
    _log=$(mktemp)
    # shellcheck disable=SC2086
    { $_sudo apt-get -qq update && $_sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends $_missing; } >"$_log" 2>&1 || {
        tail -n 20 "$_log" >&2
        rm -f "$_log"
        say 'apt-get failed'
        return 1
    }
    rm -f "$_log"
}

# build FOLDER [MESON OPTION...]: configures once, then builds.
build() {
    _folder=$1
    shift
    if [ -f "$_folder/build.ninja" ]; then
        meson configure "$_folder" "$@" >&2 || return 1
    else
        _log=$(mktemp)
        meson setup "$_folder" --buildtype=release "$@" >"$_log" 2>&1 || {
            cat "$_log" >&2
            return 1
        }
        rm -f "$_log"
    fi
    ninja -C "$_folder" >"$_folder/build.log" 2>&1 || {
        tail -n 40 "$_folder/build.log" >&2
        return 1
    }
}
