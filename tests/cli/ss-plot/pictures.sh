# Every plot as a picture: a valid file of its format and size, with as many points as there are records.
. "$SS_SRC/tests/cli/lib.sh"
command -v gnuplot >/dev/null || skip 'gnuplot is not installed'
need python3
ss-capture synth:1 --duration=6 --epoch=1000000000 | ss-featurize -o f.sst
ss-model init --width=1/4 -o m.safetensors
ss-encode --until=3 -m m.safetensors --energy=raspberry-pi-4b f.sst -o cut.sst
ss-finish -m m.safetensors cut.sst -o z.sst
n=$(ss-cat --count z.sst)
printf 'time_s,bandwidth_bps,rtt_ms,cpu\n0,1000000,20,0.5\n3,0,40,0.1\n9,2e6,30,0.9\n' >trace.csv
printf '{"windows":%s,"loss":%s,"u":0.5}\n' 100 4.1 200 3.9 300 3.2 >a.log
printf '{"windows":%s,"loss":%s,"u":0.25}\n' 100 4.1 200 3.5 >b.log
cat >look.py <<'P'
# WIDTH FILE...: each is a picture of that width in mm; of an SVG its points and texts to FILE.txt.
import struct, sys
import xml.etree.ElementTree as E
svg = '{http://www.w3.org/2000/svg}'
for path in sys.argv[2:]:
    path, width = path.split(':') if ':' in path else (path, sys.argv[1])
    b = open(path, 'rb').read()
    if path.endswith('.png'):
        assert b[:8] == b'\x89PNG\r\n\x1a\n' and b[-8:-4] == b'IEND', path
        assert abs(struct.unpack('>I', b[16:20])[0] - float(width) / 25.4 * 300) < 1, path
        continue
    d = E.fromstring(b)
    assert d.tag == svg + 'svg' and abs(float(d.get('width')) - float(width) / 25.4 * 96) < 1, path
    defined = {u for x in d.iter(svg + 'defs') for u in x.iter(svg + 'use')}
    points = sum(u not in defined for u in d.iter(svg + 'use'))
    for g in d.iter(svg + 'g'): # no text begins outside of the picture
        if g.find(svg + 'text') is not None and (g.get('transform') or '').startswith('translate('):
            x, y = map(float, g.get('transform')[10:].split(')')[0].split(','))
            assert 8 <= x < float(d.get('width')) and 0 < y < float(d.get('height')) - 2, (path, x, y)
    texts = ' '.join(' '.join(x.itertext()) for x in d.iter(svg + 'text'))
    open(path[:-4] + '.txt', 'w').write('%d %s\n' % (points, texts))
P
ss-plot f.sst -o spectrogram.svg
ss-plot z.sst -o map.svg
ss-plot cut.sst z.sst --plot=timeline --trace=trace.csv -o timeline.svg
ss-plot z.sst --plot=latency -o latency.svg
ss-plot a.log -o curves.svg
ss-plot a.log b.log -o two.svg
ss-plot a.log b.log -o two.png
ss-plot "$SS_SRC/tests/fuzz/specimens/profile/good" -o rate.svg
# Another size; standard output and input.
ss-plot --width=120 --height=50 --format=png <f.sst >wide.png
ss-plot <z.sst >map2.svg
same map.svg map2.svg
ss-plot --plot=curves <a.log >curves2.svg
python3 look.py 80 *.svg two.png wide.png:120
[ "$(echo *.tmp)" = '*.tmp' ] || fail 'a temporary file is left'
points() { cut -d' ' -f1 "$1.txt"; }
matches spectrogram.txt 'frequency (kHz)'
matches spectrogram.txt 'time (s)'
matches map.txt 'of variance'
labels=$(ss-cat z.sst | grep -o ' label=[a-z]*' | sort -u | wc -l)
ss-cat z.sst | grep ' data ' | grep -qv ' label=' && labels=$((labels + 1)) # those without are in the legend too
[ "$(points map)" -eq $((n + labels)) ] || fail "$n records, $labels in the legend: $(cat map.txt)"
for panel in cut 'size (kB)' 'lat. (ms)' 'energy (mJ)' Mbit/s RTT CPU; do matches timeline.txt "$panel"; done
[ "$(points timeline)" -eq $((3 * n)) ] || fail "timeline: $(cat timeline.txt), for $n records" # size, latency, energy
for stage in capture featurize encode finish all; do matches latency.txt "$stage"; done
matches curves.txt 'windows heard'
[ "$(points curves)" -eq 6 ] || fail 'curves: not 2 times 3 points'
[ "$(points two)" -eq 12 ] || fail 'two curves: not 2 times 5 points and 2 in the legend'
matches rate.txt 'kbit in a second of sound'
matches rate.txt u8
