# Text and JSON, selection, counting.
. "$SS_SRC/tests/cli/lib.sh"
g=$SS_SRC/tests/golden/good
status 0 ss-cat "$g/every-type.sst"
cat >want <<'W'
# embedding
0 data i8[4] device=1 epoch=1763885000000000000 seq=0 time=1763885000.000000000 split=embedding label=0 scale=0.0078125
1 gap - device=1 epoch=1763885000000000000 seq=1 time=1763885000.000000000 count=41 reason=2
2 result - device=1 epoch=1763885000000000000 seq=42 time=1763885000.000000000 u=0.25 generation=7
3 ack - device=1 epoch=1763885000000000000 seq=41 time=1763885000.000000000
4 resume - device=1 epoch=1763885000000000000 seq=41 time=1763885000.000000000
5 gradient f16[2,1,3] device=1 epoch=1763885000000000000 seq=42 time=1763885000.000000000 split=3 generation=7
6 delta packed[1000]77 device=1 epoch=1763885000000000000 seq=0 time=1763885000.000000000 version_from=7 version_to=8
7 mixture f16[3,4] device=1 epoch=1763885000000000000 seq=0 time=1763885000.000000000 generation=7
8 keepalive - device=0 epoch=0 seq=0 time=0.000000000
9 type200 dtype77[3]5 device=1 epoch=1763885000000000000 seq=9 time=1763885000.000000000 attr50=1
10 type255 - device=1 epoch=1763885000000000000 seq=0 time=1763885000.000000000
W
same out want
status 0 ss-cat --slice=2:4 "$g/every-type.sst"
sed -n '1p;4,5p' want >part
same out part
status 0 ss-cat --slice=9: - <"$g/every-type.sst"
sed -n '1p;11,12p' want >part
same out part
status 0 ss-cat -n 1 --data "$g/every-type.sst"
matches out 'scale=0.0078125: 37 66 95 124$'
status 0 ss-cat -n 1 --data --f32 "$g/every-type.sst"
matches out ': 0.2890625 0.515625 0.7421875 0.96875$'
status 0 ss-cat -n 0 "$g/every-type.sst"
[ "$(wc -l <out)" -eq 1 ] || fail '--head=0'
# A slice that ends before the damage does not see it.
status 0 ss-cat -n 3 "$SS_SRC/tests/golden/bad/4-no-end.sst"
status 4 ss-cat -n 4 "$SS_SRC/tests/golden/bad/4-no-end.sst"
[ "$(wc -l <out)" -eq 4 ] || fail 'what came before the damage was not shown'
status 0 ss-cat --count "$g/every-type.sst" "$g/every-flag.sst"
[ "$(cat out)" = 27 ] || fail '--count'
status 0 ss-cat --count --slice=1:5 "$g/every-type.sst"
[ "$(cat out)" = 4 ] || fail '--count --slice'
status 4 ss-cat --count "$SS_SRC/tests/golden/bad/4-no-end.sst"
[ "$(cat out)" = 3 ] || fail '--count of a truncated stream'
status 3 ss-cat --count nowhere.sst
[ ! -s out ] || fail '--count of nothing'
status 0 ss-cat --count --json "$g/every-type.sst"
[ "$(cat out)" = '{"records":11,"payload_bytes":122,"lost":41,"types":{"data":1,"gap":1,"result":1,"ack":1,"resume":1,"gradient":1,"delta":1,"mixture":1,"keepalive":1,"200":1,"255":1}}' ] || fail '--count --json'
status 0 ss-cat --json --data "$g/header.sst" "$g/every-flag.sst"
matches out '^{"header":{"kind":"logmel","rate":16000,'
matches out '"record":15,"type":"data","flags":\["clip_end","reduced","padded","flag3"\],"dtype":"i8","shape":\[4\],"bytes":4,"device":1,"epoch":1763885000000000000,"seq":15,'
if command -v python3 >/dev/null; then
    for f in "$g"/*.sst; do
        ss-cat --json --data "$f" | python3 -c 'import json, sys; [json.loads(line) for line in sys.stdin]' || fail "$f: no JSON Lines"
    done
fi
status 2 ss-cat --slice=3:1 "$g/empty.sst"
status 2 ss-cat --slice=1 "$g/empty.sst"
status 2 ss-cat --head=-1 "$g/empty.sst"
status 2 ss-cat --head=18446744073709551616 "$g/empty.sst"
status 2 ss-cat --count --check "$g/empty.sst"
status 2 ss-cat --json --stream "$g/empty.sst"
status 2 ss-cat --tolerance=1 "$g/empty.sst"
status 3 ss-cat nowhere.sst
matches err "cannot open 'nowhere.sst': No such file"
status 3 sh -c "ss-cat '$g/every-type.sst' >/dev/full"
# The reader gone: no message, death by SIGPIPE, even under a parent that ignores it.
rc=0
(trap '' PIPE; yes "$g/every-type.sst" | head -n 2000 | xargs -x env sh -c 'ss-cat "$@"; echo $? >status' x 2>err | head -n 1 >/dev/null) || rc=$?
[ "$(cat status)" = 141 ] || fail "status $(cat status) with the reader gone"
[ ! -s err ] || fail "message with the reader gone: $(cat err)"

# thinned out
ss-cat --json "$g/every-type.sst" | sed 1d >all
ss-cat --json --every=3 "$g/every-type.sst" | sed 1d >thin
awk 'NR % 3 == 1' all >want
same want thin
ss-cat --json --slice=2:7 --every=2 "$g/every-type.sst" | sed 1d >thin
sed -n '3p;5p;7p' all >want
same want thin
