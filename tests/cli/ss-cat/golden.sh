# Good specimens pass, damaged ones are refused with the status that their names begin with; and they are what the
# program beside them makes.
. "$SS_SRC/tests/cli/lib.sh"
golden=$SS_SRC/tests/golden
for f in "$golden"/good/*.sst; do
    status 0 ss-cat --check "$f"
    [ ! -s out ] && [ ! -s err ] || fail "$f: --check is not silent"
    status 0 ss-cat --data "$f"
    status 0 sh -c "cat '$f' | ss-cat --stream --no-provenance >again.sst"
    status 0 ss-cat --compare="$f" again.sst
done
for f in "$golden"/bad/*.sst; do
    name=$(basename "$f")
    status "${name%%-*}" ss-cat --check "$f"
    matches err "^ss-cat: cannot read '.*$name': "
    status "${name%%-*}" sh -c "cat '$f' | ss-cat --stream >again.sst"
    status "${name%%-*}" ss-cat "$f"
done
need python3
python3 "$golden/make.py" made
diff -r made/good "$golden/good" || fail 'make.py makes other good specimens'
diff -r made/bad "$golden/bad" || fail 'make.py makes other damaged specimens'
