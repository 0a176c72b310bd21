# Arrays out and in.
. "$SS_SRC/tests/cli/lib.sh"
g=$SS_SRC/tests/golden/good
ss-cat --slice=0:1 -o f32.sst "$g/every-dtype.sst"
for i in 0 1 3 4 5 6 7 8; do
    ss-cat --slice=$i:$((i + 1)) --npy=$i.npy "$g/every-dtype.sst"
    ss-cat --from-npy=$i.npy --kind=test >$i.sst
    ss-cat --npy=again$i.npy $i.sst
    same $i.npy again$i.npy
done
ss-cat --slice=2:3 --npy=bf16.npy "$g/every-dtype.sst" # as f32
ss-cat --from-npy=- --no-provenance <bf16.npy | ss-cat >out
matches out '^# embedding$'
matches out '^0 data f32\[2,3\] device=1 epoch=0 seq=0 '
status 5 ss-cat --slice=9:10 --npy=packed.npy "$g/every-dtype.sst"
status 5 ss-cat --npy=x.npy "$g/every-dtype.sst"
matches err 'record 1 differs from the first one'
[ ! -e x.npy ] || fail 'an array was left behind'
ls | grep -q 'x.npy' && fail 'a temporary file was left behind'
# i8 with its scale; gaps and other types are left out.
ss-cat --npy=i8.npy "$g/every-flag.sst"
ss-cat --npy=scaled.npy --f32 "$g/every-flag.sst"
ss-cat --from-npy=scaled.npy | ss-cat --data -n 1 >out
matches out 'f32\[4\].*: 0.2890625 0.515625 0.7421875 0.96875$'
ss-cat --npy=one.npy --slice=0:5 "$g/every-type.sst"
ss-cat --from-npy=one.npy | ss-cat --count >out
[ "$(cat out)" = 1 ] || fail 'other records than data in the array'
ss-cat --npy=empty.npy "$g/empty.sst"
ss-cat --from-npy=empty.npy | ss-cat --count >out
[ "$(cat out)" = 0 ] || fail 'array of nothing'
status 3 ss-cat --npy=one.npy "$g/empty.sst"
status 2 ss-cat --npy=/dev/null "$g/empty.sst"
status 0 ss-cat -f --npy=one.npy "$g/empty.sst"
# Truncated, too long, foreign.
head -c -1 i8.npy >short.npy
status 4 ss-cat --from-npy=short.npy
matches err "is truncated in row 15 of 16"
(cat i8.npy; printf x) >long.npy
status 4 ss-cat --from-npy=long.npy
status 4 ss-cat --from-npy="$g/empty.sst"
sed 's/|i1/>i2/' i8.npy >big.npy
status 5 ss-cat --from-npy=big.npy
status 2 ss-cat --from-npy=i8.npy i8.npy
status 2 ss-cat --kind=x i8.npy
if command -v python3 >/dev/null && python3 -c 'import numpy' 2>/dev/null; then
    python3 -c "
import numpy as np
a = np.load('i8.npy'); b = np.load('scaled.npy'); c = np.load('bf16.npy')
assert a.shape == (16, 4) and a.dtype == np.int8 and c.shape == (1, 2, 3)
assert b.dtype == np.float32 and np.array_equal(b, a.astype(np.float32) / 128)
np.save('v1.npy', np.arange(24, dtype=np.float32).reshape(2, 3, 4))
np.save('scalars.npy', np.arange(5, dtype=np.int64))
np.save('number.npy', np.float64(3))
np.save('fortran.npy', np.asfortranarray(np.zeros((3, 2))))
np.lib.format.write_array(open('v2.npy', 'wb'), np.zeros((3, 2), np.float16), version=(2, 0))
"
    ss-cat --from-npy=v1.npy | ss-cat --data >out
    matches out '^1 data f32\[3,4\] .*: 12 13 14 15 16 17 18 19 20 21 22 23$'
    ss-cat --from-npy=scalars.npy | ss-cat --data >out
    matches out '^4 data i64\[\] .*: 4$'
    ss-cat --from-npy=v2.npy | ss-cat >out
    matches out '^2 data f16\[2\] '
    status 5 ss-cat --from-npy=number.npy
    status 5 ss-cat --from-npy=fortran.npy
fi
