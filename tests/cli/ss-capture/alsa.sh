# Devices, played by ALSA's file plugin: samples, channels, list, overruns.
. "$SS_SRC/tests/cli/lib.sh"
need python3
ss-capture --list-devices >devices 2>err || { grep -q 'built without ALSA' err && skip 'built without ALSA'; fail '--list-devices'; }
cat >asound.conf <<X
pcm.mic { type file slave.pcm { type null } file "/dev/null" infile "$PWD/in.raw" format "raw" hint { show on description "a file" } }
X
export ALSA_CONFIG_PATH="$PWD/asound.conf"
python3 -c "
import struct
open('in.raw', 'wb').write(b''.join(struct.pack('<h', i % 30011) for i in range(64000)))"
status 0 ss-capture --list-devices
matches out '^alsa:mic.*a file'
status 0 ss-capture --duration=2 --dtype=i16 alsa:mic
ss-cat --npy=got.npy -n 25 out
tail -c 64000 got.npy >got.raw
head -c 64000 in.raw | cmp - got.raw || fail 'samples of the device'
# Two channels: the second one alone.
status 0 ss-capture --duration=1 --channel=2 alsa:mic --dtype=i16
ss-cat --npy=got.npy -n 12 out -f
python3 -c "
import struct
got = struct.unpack('<15360h', open('got.npy', 'rb').read()[-30720:])
assert list(got) == [(2 * i + 1) % 30011 for i in range(15360)], got[:5]"
status 3 ss-capture alsa:nothing
matches err "sound device 'nothing': cannot be opened"
[ ! -s out ] || fail 'a header without a device'
status 2 ss-capture --loop=2 alsa:mic
# Overruns, made by a library in between that says so twice.
need cc
case $(ldd "$(command -v ss-capture)") in *asan*) exit 0 ;; esac
cat >overrun.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>
long snd_pcm_readi(void *pcm, void *buffer, unsigned long n)
{
    static int calls;
    long (*real)(void *, void *, unsigned long) = dlsym(RTLD_NEXT, "snd_pcm_readi");
    if (++calls != 5 && calls != 15)
        return real(pcm, buffer, n);
    usleep(100000);
    return -EPIPE;
}
C
cc -shared -fPIC -o overrun.so overrun.c -ldl
LD_PRELOAD="$PWD/overrun.so" ss-capture --duration=2 alsa:mic >out 2>err || fail "status $?"
matches err 'the sound device overran: about 0.1'
matches err '2 overruns'
ss-cat --json out | python3 -c '
import json, sys
seq, gaps, samples = 0, 0, 0
for l in sys.stdin:
    r = json.loads(l)
    if "record" not in r: continue
    assert r["seq"] == seq, r
    if r["type"] == "gap":
        gaps += 1
        assert r["attributes"]["reason"] == 1 and r["attributes"]["count"] >= 1
        seq += r["attributes"]["count"]
    else:
        seq += 1
        samples += r["shape"][0]
assert gaps == 2 and samples == 32000, (gaps, samples)'
# The windows behind do not reach over them.
ss-featurize out >w.sst
ss-cat --json w.sst | grep -c '"type":"gap"' | grep -qx 2 || fail 'gaps are passed on'
