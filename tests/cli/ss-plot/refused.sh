# What cannot be drawn, and texts that want to be more than text. Without gnuplot, by the script that it would get.
. "$SS_SRC/tests/cli/lib.sh"
ss-capture synth:1 --duration=6 --epoch=1000000000 -o pcm.sst
ss-featurize pcm.sst -o f.sst
status 5 ss-plot --plot=map f.sst
matches err 'logmel.*expected embedding'
status 2 ss-plot f.sst -o picture.jpg
matches err '.svg, .png and .gp'
status 2 ss-plot f.sst f.sst -o x.gp
status 2 ss-plot f.sst --trace=x.csv -o x.gp
status 2 ss-plot f.sst --y=loss -o x.gp
status 2 ss-plot --plot=nothing f.sst
status 3 ss-plot missing.sst
[ ! -e x.gp ] || fail 'a refused picture was written'
status 0 ss-plot pcm.sst -o pcm.gp # kind pcm: latency
matches pcm.gp "'capture'"
status 3 ss-plot f.sst -o pcm.gp
matches err 'exists'
status 0 ss-plot -f f.sst -o pcm.gp
matches pcm.gp 'with image'
# Damage: what came before is drawn.
head -c 100000 f.sst >short.sst
status 4 ss-plot short.sst -o short.gp
matches err truncated
matches short.gp 'with image'
head -c 300 f.sst >none.sst
status 4 ss-plot none.sst -o none.gp
[ ! -e none.gp ] || fail 'a picture of nothing'
printf '{"loss":1,"windows":1}\n{"loss":2,"wind' >short.log
status 4 ss-plot short.log -o shortlog.gp
matches err 'line 2'
matches shortlog.gp '^ 1 1'
echo '{"a":{"b":"7"},"loss":1}' >deep.log
status 0 ss-plot deep.log --x=a.b -o deep.gp
matches deep.gp '^ 7 1'
status 5 ss-plot deep.log --y=gain
matches err 'gain'
status 4 ss-plot -f --plot=rate deep.log -o deep.gp
matches err format
printf 'time_s,cpu\n0,x\n' >bad.csv
status 2 ss-plot --plot=timeline f.sst --trace=bad.csv
matches err 'bad.csv.*line 2'
printf 'cpu\n0\n' >bad.csv
status 5 ss-plot --plot=timeline f.sst --trace=bad.csv
matches err 'time_s'
# A trace alone, with cuts by their names.
printf 'time_s,cut,codec,queue\n0,input,f32,3\n5,4,i8,2\n9,embedding,f16,0\n' >run.csv
status 0 ss-plot run.csv -o run.gp
matches run.gp "'queue'"
matches run.gp "'emb.' 10"
! grep codec run.gp || fail 'names on an axis'
printf 'time_s,cut\n0,9\n' >bad.csv
status 2 ss-plot bad.csv
matches err 'line 2.*cut'
# Two runs in one log are two lines.
printf '{"steps":%s,"reward":1}\n' 1 2 1 2 >runs.log
status 0 ss-plot runs.log -o runs.gp
[ "$(sed -n '/^.f0/,/^EOD/p' runs.gp | grep -c '^$')" = 1 ] || fail 'runs are joined'
# Embeddings that are packed: how to unpack them is said.
if command -v python3 >/dev/null; then
    PYTHONPATH=$SS_SRC/tests/golden PYTHONDONTWRITEBYTECODE=1 python3 -c "
import sys, make
sys.stdout.buffer.write(make.stream([make.record(dtype=make.PACKED, dims=(128,), attrs=((1, 10), (2, 16 * 64 + 1)),
                                                 payload=bytes(40))]))
" >packed.sst
    status 5 ss-plot --plot=map packed.sst
    matches err 'packed by codec b64i8.*ss-finish -m MODEL'
    # Of 25 labels with a point the legend has 20 rows. One latency far beyond the others makes its axis logarithmic.
    PYTHONPATH=$SS_SRC/tests/golden PYTHONDONTWRITEBYTECODE=1 python3 -c "
import json, struct, sys, make
lead = make.preamble(json.dumps({'kind': 'embedding', 'labels': ['l%d' % i for i in range(30)]}))
r = [make.record(dtype=make.F32, dims=(2,), seq=i, time=make.EPOCH + i * 480000000, payload=struct.pack('<2f', i, i * i % 7),
                 attrs=((5, i), (19, 10 if i else 2000000))) for i in range(25)]
sys.stdout.buffer.write(make.stream(r, lead))
" >labels.sst
    status 0 ss-plot labels.sst -o labels.gp
    [ "$(grep -o keyentry labels.gp | wc -l)" = 20 ] || fail 'legend'
    matches labels.gp "'and 6 more'"
    [ "$(sed -n '/^.p <</,/^EOD/p' labels.gp | grep -c ' ')" = 26 ] || fail 'points of the map' # and the line that begins them
    status 0 ss-plot --plot=timeline labels.sst -o log.gp
    [ "$(grep -c '^set logscale y' log.gp)" = 1 ] || fail 'which axes are logarithmic'
fi
# Names are text.
cp deep.log "a'\`touch hacked\`.log"
cp deep.log 'b".log'
status 0 ss-plot --x=a.b "a'\`touch hacked\`.log" 'b".log' -o names.gp
matches names.gp "title 'a??touch hacked?'"
command -v gnuplot >/dev/null && ss-plot --x=a.b "a'\`touch hacked\`.log" 'b".log' -o names.svg
[ ! -e hacked ] || fail 'a name was run as a command'
# No gnuplot: said, status 3, no file.
bin=$(dirname "$(command -v ss-plot)")
mkdir only && ln -s "$bin/ss-plot" only/ss-plot
PATH=$PWD/only status 3 ss-plot f.sst -o never.svg
[ ! -e never.svg ] || fail 'a picture without a painter'
grep -q 'gnuplot' err || fail 'it did not say what is missing'
