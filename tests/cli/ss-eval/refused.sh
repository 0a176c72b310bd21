# What cannot be judged, and what was not meant.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:2 --duration=40 | ss-featurize -o a.sst
for o in --test-fold=0 --test-fold=x --holdout=0 --holdout=1 --metrics=knn,k --metrics= --pool=max --unit=clips --tag=x \
    --tag==y --rounds=1 '--folds --test-fold=1' '--folds --holdout=0.2' '--train=b.sst --folds' '--train=b --compare=c' \
    --outcomes '--results --folds' '--results --confusion' --compare=a.sst; do
    # shellcheck disable=SC2086
    status 2 ss-eval $o a.sst
    [ -s out ] && fail "output after a usage error: $o"
done
status 2 ss-eval a.sst a.sst
status 2 ss-eval --compare=- <a.sst
status 3 ss-eval none.sst
status 3 ss-eval --compare=none.sst a.sst
status 3 ss-eval --results none.json
ss-eval -q a.sst >/dev/full 2>err && fail 'a full disk is not noticed'
head -c 50000 a.sst >cut.sst
status 4 ss-eval cut.sst
[ -s out ] && fail 'a result from half a stream'

# No labels, no record, another kind, one class, one fold, one clip.
ss-cat --npy=a.npy a.sst
ss-cat --from-npy=a.npy --kind=logmel -o plain.sst
status 5 ss-eval plain.sst
matches err 'plain.sst: no record has a label'
ss-cat --slice=0:0 -o empty.sst a.sst
status 5 ss-eval empty.sst
matches err 'no record in it'
ss-capture synth:2 --duration=3 -o pcm.sst
status 5 ss-eval pcm.sst
matches err "kind 'pcm'"
status 5 ss-eval --test-fold=9 a.sst
matches err 'no labelled item is in fold 9'
ss-cat --slice=0:2 -o two.sst a.sst
status 5 ss-eval two.sst
matches err '--unit=window'
status 5 ss-eval --unit=window two.sst
status 5 ss-eval --folds --unit=window two.sst

# Values that are not finite are not averaged away.
python3 - <<'PY'
import struct
a = bytearray(open('a.npy', 'rb').read())
at = 10 + struct.unpack('<H', a[8:10])[0] + 4 * ((3 * 64 + 5) * 96 + 7)
a[at:at + 4] = struct.pack('<f', float('nan'))
open('nan.npy', 'wb').write(a)
PY
ss-cat --from-npy=nan.npy --kind=logmel -o nan.sst
status 5 ss-eval nan.sst
matches err 'record 3: value 487 is not finite'

# Results that are none.
echo '{"knn":1}' >none.json
status 5 ss-eval --results none.json
matches err 'none.json: line 1: .*--outcomes'
echo '{"outcomes":[{"clip":' >broken.json
status 4 ss-eval --results broken.json
: >empty.json
status 5 ss-eval --results empty.json
