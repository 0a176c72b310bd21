# Comparison and latency.
. "$SS_SRC/tests/cli/lib.sh"
g=$SS_SRC/tests/golden/good
for f in "$g"/*.sst; do
    status 0 ss-cat --compare="$f" "$f"
    [ ! -s out ] || fail 'equal streams, and something printed'
done
ss-cat --npy=i8.npy "$g/every-flag.sst"
ss-cat --from-npy=i8.npy -o a.sst
# One value changed in row 3, by 5.
head -c $((256 + 3 * 4 + 1)) i8.npy >changed.npy
old=$(tail -c +$((256 + 3 * 4 + 2)) i8.npy | head -c 1 | od -An -td1 | tr -d ' ')
printf "\\$(printf %o $(((old + 5) & 255)))" >>changed.npy
tail -c +$((256 + 3 * 4 + 3)) i8.npy >>changed.npy
ss-cat --from-npy=changed.npy -o b.sst
status 1 ss-cat --compare=b.sst a.sst
cat >want <<W
first difference: record 3: value 1 is $old and $((old + 5))
records that differ: 1 of 16
largest difference: 5 (record 3, value 1)
W
same out want
status 1 ss-cat --compare b.sst --tolerance=4.9 - <a.sst
status 0 ss-cat --compare b.sst --tolerance=5 a.sst
status 0 ss-cat -v --compare b.sst --tolerance=5 a.sst
matches out '^largest difference: 5 '
status 1 ss-cat --json --compare=b.sst a.sst
[ "$(cat out)" = "{\"same\":false,\"records\":16,\"differ\":1,\"largest\":5,\"largest_record\":3,\"largest_value\":1,\"first\":\"record 3: value 1 is $old and $((old + 5))\"}" ] || fail '--json'
ss-cat -n 7 -o short.sst a.sst
status 1 ss-cat --compare=short.sst a.sst
matches out 'short.sst ends after 7 records'
status 1 ss-cat --compare=a.sst short.sst
matches out 'short.sst ends after 7 records'
ss-cat --from-npy=i8.npy --kind=other -o kind.sst
status 1 ss-cat --compare=kind.sst a.sst
matches out "kind is 'embedding' and 'other'"
status 1 ss-cat --compare="$g/every-flag.sst" a.sst # attributes and flags
status 4 ss-cat --compare="$SS_SRC/tests/golden/bad/4-no-end.sst" "$SS_SRC/tests/golden/bad/4-end-count.sst"
status 2 ss-cat --compare - -
# Times: min, median, p95 and max by stage; here each time comes once.
status 0 ss-cat --latency "$g/every-attribute.sst"
matches out '^encode     wait          1 '
matches out '^encode     work          1   67108863   67108863   67108863   67108863\|^encode     work          1 '
matches out '^all        both          1 '
status 0 ss-cat --latency --json "$g/every-attribute.sst"
[ "$(grep -c '"stage"' out)" -eq 16 ] || fail "rows of --latency: $(wc -l <out)"
status 0 ss-cat --latency "$g/every-type.sst"
[ "$(wc -l <out)" -eq 1 ] || fail 'a row without times'

# Known times: encode worked k and waited 3 k microseconds on the k-th of 10000 records.
need python3
PYTHONPATH=$SS_SRC/tests/golden PYTHONDONTWRITEBYTECODE=1 python3 -c "
import sys, make
sys.stdout.buffer.write(make.stream([make.record(make.RESULT, seq=k, attrs=((19, k), (27, 3 * k))) for k in range(10000)]))
" >times.sst
status 0 ss-cat --latency times.sst
awk '
function near(a, b) { return a >= b * 0.992 - 1 && a <= b * 1.008 + 1 }
$1 == "encode" && $2 == "work" { n++; if ($3 != 10000 || $4 != 0 || !near($5, 4999) || !near($6, 9499) || $7 != 9999) exit 1 }
$1 == "encode" && $2 == "wait" { n++; if ($3 != 10000 || $4 != 0 || !near($5, 14997) || !near($6, 28497) || $7 != 29997) exit 1 }
$1 == "all" { n++; if ($3 != 10000 || $4 != 0 || !near($5, 19996) || !near($6, 37996) || $7 != 39996) exit 1 }
END { if (n != 3) exit 1 }' out || fail "$(cat out)"
! grep energy out || fail 'energy that nobody has told'
# And known energies: k mJ, modelled, on 1 to 1000; one is measured, and below that at rest.
PYTHONPATH=$SS_SRC/tests/golden PYTHONDONTWRITEBYTECODE=1 python3 -c "
import sys, make
r = [make.record(make.RESULT, seq=k, attrs=((34, make.f32(k / 1e3)),)) for k in range(1, 1001)]
r.append(make.record(make.RESULT, seq=1001, attrs=((35, make.f32(-0.25)),)))
sys.stdout.buffer.write(make.stream(r))
" >energy.sst
status 0 ss-cat --latency energy.sst
awk '
function near(a, b) { return a >= b * 0.992 && a <= b * 1.008 }
$1 == "modelled" { n++; if ($2 != 1000 || $3 != 500.5 || !near($4, 500) || !near($5, 950) || $6 != 500.5) exit 1 }
$1 == "measured" { n++; if ($2 != 1 || $3 != -250 || $4 != 0 || $6 != -0.25) exit 1 }
END { if (n != 2) exit 1 }' out || fail "$(cat out)"
status 0 ss-cat --latency --json energy.sst
matches out '"energy":"modelled","records":1000,"mean_mj":500.5,'
