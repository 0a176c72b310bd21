# Damaged, hostile and foreign files are refused by name with the right status.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init -o m
ss-model init -f -o m # m.prev is there now
size=$(wc -c <m)

at() { # at OFFSET: m with the byte there turned over
    head -c "$1" m
    printf '\252'
    tail -c +$(($1 + 2)) m
}
for o in 0 3 7 8 100 400 5000 6000 7000 1000000 $((size - 1)); do
    at "$o" >bad
    status 4 ss-model check bad
    matches err "'bad'"
    status 4 ss-model info bad
    status 4 ss-model export bad -o x
    status 4 ss-model import bad -o x
    [ ! -e x ] || fail "something was written"
done
for n in 0 7 9 5000 $((size - 1)); do
    head -c "$n" m >bad
    status 4 ss-model check bad
done
{
    cat m
    printf x
} >bad
status 4 ss-model check bad
matches err 'bytes follow'

cp m good
at 7000 >bad
cp bad m
status 4 ss-model check m good
matches err "digest of tensor 'conv1.weight' differs"
matches err "'m.prev' is whole, generation 0"
rm m
status 3 ss-model check m
matches err "'m.prev' is whole"

# A bad file does not hide the next one.
status 4 ss-model info good bad
matches out '^embedding'
status 4 ss-model info bad good
matches out '^embedding'

# Valid safetensors that are no models.
header() { # header JSON [BYTES]: a safetensors file
    n=${#1}
    # shellcheck disable=SC2059
    printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\0\0\0\0\0\0%s" "$1"
    head -c "${2:-0}" /dev/zero
}
header '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}' 3 >foreign
status 5 ss-model check foreign
matches err 'ss-model import'
status 5 ss-model import foreign -o x
matches err "conv1.weight"
header '{"conv1.weight":{"dtype":"F32","shape":[16,3,7,7],"data_offsets":[0,9408]}}' 9408 >stem
status 5 ss-model import stem -o x
matches err '99 missing: bn1.weight, bn1.bias'
matches err '0 unknown'
header '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}' 4 >huge
status 4 ss-model import huge -o x
header '{"a":{"dtype":"F32","shape":[100000000000],"data_offsets":[0,400000000000]}}' 4 >huge
status 4 ss-model --limit-memory=4M import huge -o x
mkfifo pipe
status 3 ss-model info pipe
status 3 ss-model info .
[ ! -e x ] || fail "something was written"
