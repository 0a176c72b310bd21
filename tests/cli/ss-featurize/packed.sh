# Windows packed in eight bits are what they were within half a step, wherever features are taken; damage is found.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture synth:2 --duration=10 --epoch=1000000000 | ss-featurize --no-provenance -o f32.sst
ss-capture synth:2 --duration=10 --epoch=1000000000 | ss-featurize --no-provenance --codec=logmel-u8 -o u8.sst
[ "$(wc -c <u8.sst)" -lt $(($(wc -c <f32.sst) / 4)) ] || fail 'eight bits save too little'
ss-model init --width=1/4 -o m.safetensors
ss-encode --no-provenance --until=input -m m.safetensors f32.sst -o a.sst
ss-encode --no-provenance --until=input -m m.safetensors u8.sst -o b.sst
status 0 ss-cat --compare=a.sst b.sst --tolerance=0.06
status 1 ss-cat --compare=a.sst b.sst
! ss-cat b.sst | grep -q codec || fail 'what is unpacked has a codec'
ss-finish -m m.safetensors u8.sst -o z.sst
status 0 ss-cat --check z.sst
cp m.safetensors t.safetensors
status 0 ss-train -q -m t.safetensors u8.sst -o t.sst
[ "$(ss-cat --count t.sst)" = "$(ss-cat --count f32.sst)" ] || fail 'windows are missing'
status 5 ss-eval u8.sst
status 2 ss-featurize --codec=mp3 u8.sst
python3 - <<'P'
import os, sys
sys.path.insert(0, os.path.join(os.environ['SS_SRC'], 'tests', 'golden'))
sys.dont_write_bytecode = True
import make as s
b = s.preamble('{"kind":"logmel"}')
open('bad.sst', 'wb').write(s.stream([s.record(dtype=s.PACKED, dims=(64, 96), seq=0, payload=bytes(9), attrs=[(2, 11)])], b))
open('other.sst', 'wb').write(s.stream([s.record(dtype=s.PACKED, dims=(64, 96), seq=0, payload=bytes(9), attrs=[(2, 7)])], b))
P
status 4 ss-finish -m m.safetensors bad.sst
matches err 'record 0: packed features'
status 5 ss-finish -m m.safetensors other.sst
matches err codec
