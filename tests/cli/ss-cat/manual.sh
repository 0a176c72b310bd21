# The example in ss-stream(5) is what the writer writes.
. "$SS_SRC/tests/cli/lib.sh"
awk '/^\.SH/ { on = /EXAMPLE/ } on && /^\.EX/ { ex = 1; next } /^\.EE/ { ex = 0 } ex && NF { sub(/  .*/, ""); print }' \
    "$SS_SRC/man/ss-stream.5" | tr -s ' \n' '\n' >page
ss-cat --stream --no-provenance "$SS_SRC/tests/golden/good/example.sst" | od -An -v -tx1 | tr -s ' \n' '\n' | sed '/^$/d' >program
same page program
[ "$(wc -l <page)" -eq 158 ] || fail "$(wc -l <page) bytes"
