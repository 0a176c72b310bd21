# A profile: all choices, figures that go together, the server's half, what cannot be had.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-model init --width=1/4 -o m.safetensors
opus=opus:16k,
ss-capture synth:1 -d 0.1 --codec=opus -o probe.sst 2>err || opus=''
status 0 ss-profile m.safetensors --windows=12 --compare=${opus}flac,pcm,logmel --name=edge -o p.json
[ ! -s out ] || fail 'a profile on standard output too'
matches err '^embedding  *i8 '
matches err 'modelled'
[ "$(awk 'length > 80 && NR > 1' err)" = "" ] || fail 'the table is wider than 80 columns'
ss-featurize --help >/dev/null
ss-capture synth:1 --duration=60 | ss-featurize | ss-encode --until=5 --dtype=i8 -m m.safetensors -o cut.sst
cat >look.py <<'P'
import json, os, sys
p = json.load(open('p.json'))
c = {(x['cut'], x['codec']): x for x in p['choices']}
assert p['windows'] == 12 and p['hop_ms'] == 480 and p['device']['name'] == p['server']['name'] == 'edge'
assert len(c) == len(p['choices']) == 33 + (4 if 'opus' in sys.argv[1] else 3), len(c)
cuts = ['input', *map(str, range(9)), 'embedding']
for cut in cuts:
    f32, f16, i8 = (c[cut, d] for d in ('f32', 'f16', 'i8'))
    assert f32['cosine']['p5'] > 1 - 1e-9, f32         # the same network, cut
    assert f16['cosine']['p5'] > 0.9999 and i8['cosine']['p5'] > 0.99
    assert f32['bytes']['mean'] > f16['bytes']['mean'] > i8['bytes']['mean']
    assert f32['bytes']['min'] == f32['bytes']['max']
for x in c.values():
    assert 0 <= x['device_ms']['min'] <= x['device_ms']['median'] <= x['device_ms']['p95'] and x['probe'] is None
    assert 0 <= x['server_ms']['min'] <= x['server_ms']['median'] <= x['server_ms']['p95']
# The halves of the network together take about what the whole takes: by the least times, which nobody disturbs.
whole = c['embedding', 'f32']['device_ms']['min']
for k in '2', '5':
    both = c[k, 'f32']['device_ms']['min'] + c[k, 'f32']['server_ms']['min']
    assert 0.25 * whole < both < 4 * whole, (k, both, whole)
assert c['8', 'f32']['device_ms']['min'] > c['0', 'f32']['device_ms']['min']
assert c['8', 'f32']['server_ms']['min'] < c['0', 'f32']['server_ms']['min']
# Plain codecs: bytes of a hop of 7680 samples, and what they lose.
assert c['input', 'pcm']['bytes']['max'] > 15360 > c['input', 'flac']['bytes']['max']
assert c['input', 'flac']['cosine']['p5'] > 0.999 and c['input', 'pcm']['cosine']['p5'] > 0.999
assert c['input', 'logmel-u8']['cosine']['p5'] > 0.99
assert c['input', 'logmel-u8']['bytes']['mean'] < c['input', 'i8']['bytes']['mean']
if 'opus' in sys.argv[1]:
    o = c['input', 'opus-16k']
    assert 200 < o['bytes']['mean'] < 2000 and 0.5 < o['cosine']['mean'] < 0.99999
e = p['energy']
assert e['source'] == 'model' and e['idle_w'] == 2.2857 and e['cores'] == 4 and 'PowerJoular' in e['citation']
# Bytes are those of a record as it comes out of the programs.
wire = os.path.getsize('cut.sst')
n = int(sys.argv[2])
assert abs(wire / n - c['5', 'i8']['bytes']['mean']) < 40, (wire / n, c['5', 'i8']['bytes'])
P
python3 look.py "$opus" "$(ss-cat --count cut.sst)"

# The server's half comes from its profile; the device's stays.
sed 's/"name":"edge"/"name":"big"/g; s/"server_ms":{[^}]*}/"server_ms":{"min":0.25,"median":0.5,"p95":1}/' p.json >server.json
status 0 ss-profile m.safetensors --windows=2 --server=server.json --name=small --radio=lte --energy=raspberry-pi-5 -q
[ ! -s err ] || fail 'not quiet'
matches out '"server": {"name":"big"'
matches out '"device": {"name":"small"'
matches out 'Raspberry Pi 5.*"name":"lte"'
[ "$(grep -c '"server_ms":{"min":0.25,"median":0.5,"p95":1}' out)" = 33 ] || fail 'not all times of the server were taken'
# A choice that the server does not know.
sed '/"codec":"f16"/d' server.json >less.json
status 0 ss-profile m.safetensors --windows=2 --server=less.json -o less-out.json
matches err 'nothing of 11 of 33'
matches less-out.json '"codec":"f16".*"server_ms":null'
# Energy of another profile.
status 0 ss-profile m.safetensors --windows=2 --energy=./less-out.json
ss-model init --width=1/2 -o other.safetensors
status 5 ss-profile other.safetensors --windows=2 --server=server.json
matches err architecture

# Int8, when it is calibrated; the network's own numbers at its cuts.
status 5 ss-profile m.safetensors --windows=2 --arith=int8
ss-capture synth:2 --duration=20 | ss-featurize -o f.sst
ss-model quantise m.safetensors f.sst -o q.safetensors 2>/dev/null || ss-model init --width=1/4 --norm=weight -o w.safetensors
[ -f q.safetensors ] || ss-model quantise w.safetensors f.sst -o q.safetensors
status 0 ss-profile q.safetensors --windows=4 --arith=int8 --data synth:3
matches out '"cut":"4","codec":"u8"'
status 0 ss-profile m.safetensors --windows=4 --arith=f16 -q
# Codecs that the model has learnt are choices of their cut, also of the network in int8.
for m in m:f32 q:int8; do
    ss-model codecs --cuts=4 --patch=2 --steps=2 ${m%:*}.safetensors f.sst -o c${m%:*}.safetensors >/dev/null
    status 0 ss-profile c${m%:*}.safetensors --windows=4 --arith=${m#*:}
    matches out '"cut":"4","codec":"b[0-9]*i4"'
    matches out '"cut":"4","codec":"b[0-9]*i8"'
    ! grep '"cut":"3","codec":"b' out || fail 'a codec at a cut that has none'
done

# Sound of one's own: a file, one that is none, too little.
python3 - <<'P'
import random, struct, wave
r = random.Random(1)
for name, n in (('long.wav', 40000), ('short.wav', 9000)):
    w = wave.open(name, 'wb')
    w.setparams((1, 2, 16000, 0, 'NONE', ''))
    w.writeframes(b''.join(struct.pack('<h', r.randrange(-9000, 9000)) for _ in range(n)))
    w.close()
open('noise.wav', 'w').write('no sound')
P
status 0 ss-profile m.safetensors --data long.wav noise.wav --compare=flac
matches err 'noise.wav'
matches err '4 of 200 windows'
matches out '"windows": 4'
status 5 ss-profile m.safetensors --data short.wav
status 3 ss-profile m.safetensors missing.wav
status 3 ss-profile missing.safetensors
status 2 ss-profile
status 2 ss-profile m.safetensors --compare=mp3
status 2 ss-profile m.safetensors --compare=flac,flac
status 2 ss-profile m.safetensors --energy=abacus
matches err 'raspberry-pi-4b'
status 3 ss-profile m.safetensors -o p.json
matches err exists
# Energy that can be measured: counters that count while it runs.
mkdir -p root/sys/class/powercap/intel-rapl:0 root/proc
echo package-0 >root/sys/class/powercap/intel-rapl:0/name
echo 1000000 >root/sys/class/powercap/intel-rapl:0/energy_uj
echo 100000000 >root/sys/class/powercap/intel-rapl:0/max_energy_range_uj
printf 'processor\t: 0\nmodel name\t: Abacus 3000\n' >root/proc/cpuinfo
status 0 ss-profile m.safetensors --windows=2 --system=root --energy=measured
matches out '"source":"rapl","device":"Abacus 3000","idle_w":0,'
rm -r root/sys
status 3 ss-profile m.safetensors --windows=2 --system=root --energy=measured
matches err 'RAPL'
mkdir root/proc/device-tree
printf 'Raspberry Pi 5 Model B Rev 1.0\0' >root/proc/device-tree/model
status 0 ss-profile m.safetensors --windows=2 --system=root
matches out '"cpu":"Raspberry Pi 5 Model B Rev 1.0"'
matches out '"source":"model","device":"Raspberry Pi 5"'
