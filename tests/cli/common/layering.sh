# A file of lib/ includes its own layer or those below; an include that points upward fails, and so does this test if it
# would not notice one.
. "$SS_SRC/tests/cli/lib.sh"
order=$(sed -n "s/^foreach layer : \[\(.*\)\]/\1/p" "$SS_SRC/lib/meson.build" | tr -d "',")
upward() {
    below=''
    for layer in $order; do
        below="$below $layer"
        [ -d "$1/$layer" ] || continue
        find "$1/$layer" -name '*.[ch]' -o -name '*.inl' | while read -r f; do
            sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$f" | while read -r inc; do
                case $inc in
                ../*/*) l=${inc#../} l=${l%%/*} ;;
                */*) l=${inc%%/*} ;;
                *) continue ;;
                esac
                case $l in ..|x86|arm) continue ;; esac
                case " $below " in *" $l "*) ;; *) echo "$f includes $inc" ;; esac
            done
        done
    done
    grep -rn 'tools/\|common\.h"' "$1" --include='*.[ch]' | grep '#include' || true
}
upward "$SS_SRC/lib" >found
[ ! -s found ] || { cat found; fail 'includes that point upward'; }
mkdir -p fake/base
echo '#include "nn/net.h"' >fake/base/x.c
upward fake >found
[ -s found ] || fail 'an upward include went unnoticed'
# Every source is built. (Headers that are installed are compiled one by one by the install test.)
for f in "$SS_SRC"/lib/*/*.c; do
    grep -q "'$(basename "$f")'" "$(dirname "$f")/meson.build" || fail "$f is not in its meson.build"
done
