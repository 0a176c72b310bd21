# bash completes options and the choices of an option, for every program.
. "$SS_SRC/tests/cli/lib.sh"
need bash
cat >complete.bash <<'B'
. "$SS_SRC/scripts/completion.bash"
compopt() { :; }
for f in "$SS_SRC"/tools/ss-*.c; do
    t=$(basename "$f" .c)
    COMP_WORDS=("$t" --ver) COMP_CWORD=1
    _streamsplit "$t" --ver "$t"
    [[ " ${COMPREPLY[*]} " == *" --version "* ]] || { echo "$t: --ver gave ${COMPREPLY[*]}"; exit 1; }
done
COMP_WORDS=(ss-encode --dtype = f) COMP_CWORD=3
_streamsplit ss-encode f =
[[ ${COMPREPLY[*]} == "f32 f16" ]] || { echo "--dtype=f gave ${COMPREPLY[*]}"; exit 1; }
B
bash complete.bash
