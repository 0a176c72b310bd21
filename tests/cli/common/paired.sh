# Every program has its page, its tests, its place in the README, and its options are in its page; and the reverse.
. "$SS_SRC/tests/cli/lib.sh"
for src in "$SS_SRC"/tools/ss-*.c; do
    t=$(basename "$src" .c)
    page=$SS_SRC/man/$t.1
    [ -f "$page" ] || fail "no man/$t.1"
    ls "$SS_SRC/tests/cli/$t"/*.sh >/dev/null || fail "no tests/cli/$t"
    grep -q -- "$t" "$SS_SRC/README.md" || fail "$t is not in README.md"
    grep -q -- "$(printf %s "$t" | sed 's/-/\\\\\\?-/g')" "$SS_SRC/man/ss-intro.7" || fail "$t is not in ss-intro.7"
    status 0 "$t" --help
    # Options that only this program has; the common ones are in ss-intro(7).
    grep -oE -- '--[a-z0-9][a-z0-9-]*' out | sort -u | while read -r o; do
        plain=$(printf %s "$o" | sed 's/-/\\\\\\?-/g')
        grep -q -- "$plain" "$page" || grep -q -- "$plain" "$SS_SRC/man/ss-intro.7" || fail "$t: $o is not in its page"
    done
    for section in NAME SYNOPSIS DESCRIPTION OPTIONS 'INPUT AND OUTPUT' 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
        grep -q "^\.SH \"*$section\"*$" "$page" || fail "$page: no section $section"
    done
done
for page in "$SS_SRC"/man/ss-*.1; do
    [ -f "$SS_SRC/tools/$(basename "$page" .1).c" ] || fail "$page has no program"
done
for listed in "$SS_SRC"/man/*.[1-8]; do
    grep -q "'$(basename "$listed")'" "$SS_SRC/man/meson.build" || fail "$listed is not in man/meson.build"
done
