# The experiment runner: cells are made once, kept, refused when they were made otherwise, and come to a table.
. "$SS_SRC/tests/cli/lib.sh"
mkdir clips
python3 - <<'PY'
# 20 clips of 1.1 s, tones and noise, in 5 folds.
import random, struct, wave, math
r = random.Random(1)
rows = ['file,label,fold']
for i in range(20):
    w = wave.open('clips/%d.wav' % i, 'wb')
    w.setnchannels(1)
    w.setsampwidth(2)
    w.setframerate(16000)
    f = 300 + 40 * r.random()
    tone = i % 2
    w.writeframes(b''.join(struct.pack('<h', int(8000 * (math.sin(f * t / 2546) if tone else r.uniform(-1, 1))))
                           for t in range(17600)))
    w.close()
    rows.append('clips/%d.wav,%s,%d' % (i, 'tone' if tone else 'noise', i // 2 % 5 + 1))
open('clips.csv', 'w').write('\n'.join(rows) + '\n')
PY
# shellcheck disable=SC2086
run() { status "$1" "$SS_SRC/scripts/experiment.sh" --out cells --jobs 1 --methods logmel,random --seeds 1,2 $2 clips.csv; }
run 0 '--folds 1,3'
[ "$(grep -c ', fold .: ' err)" -eq 6 ] || fail 'expected 6 cells'
matches out '^logmel  *2 1.000 0.000'
matches out '^random  *4 .*[ +-][0-9.]*'
matches out '^  over seeds  *2 '
[ "$(awk 'length > 80' out)" = "" ] || fail 'the table is wider than 80 columns'
run 0 ''
[ "$(grep -c ', fold .: ' err)" -eq 9 ] || fail 'cells were made twice, or not'
matches out '^logmel  *5 '
run 0 ''
[ ! -s err ] || fail 'nothing was left to do'
# A method of one's own, that learns.
status 0 "$SS_SRC/scripts/experiment.sh" --out cells --jobs 2 --methods logmel --folds 1,2 --loop 2 \
    --add 'tiny=shuffle loop:3 --learner=cached --batch=4 --micro-batch=4 --start=4 --replay=16 --every=4' clips.csv
matches out '^tiny  *2 '
[ "$(wc -l <cells/tiny/seed1-fold2.log)" -ge 10 ] || fail 'nothing was learnt from'
cmp -s cells/tiny/seed1-fold2.safetensors cells/random/seed1-fold2.safetensors && fail 'the model has not moved'
# A learner that fails leaves no cell.
run 1 '--add bad=--learner=none'
matches err 'bad, seed 1, fold 1: failed: .*train'
[ ! -e cells/bad/seed1-fold1.json ] || fail 'a cell of a run that failed'
run 0 ''
cp out table
run 0 --table
same table out
run 1 '--init --width=1/2'
matches err 'other options'
run 2 '--loop 0'
run 2 '--methods nothing'
run 2 --no-such-option
echo >>clips.csv
run 5 ''
matches err 'another manifest'
