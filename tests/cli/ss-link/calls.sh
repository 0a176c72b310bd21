# Killed at every system call that writes, in turn (SS_CALLS=1; else at some of them): the next start needs no repair
# and delivers what the spool has; the peer gets each stream without a hole (or dies with status 9).
. "$SS_SRC/tests/cli/lib.sh"
need strace
export ASAN_OPTIONS=detect_leaks=0 # which cannot be done to who is traced
peer=${SS_TEST_PEER:?}
strace -o /dev/null true 2>/dev/null || skip 'strace may not trace here'
ss-capture synth:1 --duration=2 --epoch=1 >one.sst
ss-capture synth:1 --duration=1 --epoch=2 >two.sst
step=20
[ -z "${SS_CALLS:-}" ] || step=1
kills=0
for call in write fsync openat close mkdir flock unlink rename fork,clone,vfork; do # each one has its own count
    k=1
    while :; do
        rm -rf spool j
        got=0
        strace -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$k \
            ss-link --spool=spool --spool-size=400K --retry=0.02 -- "$peer" j <one.sst >back 2>said || got=$?
        status 0 ss-link --spool=spool --retry=0.02 --drain=60 -- "$peer" j <two.sst
        cat said err >all
        ! grep -q expected all || { cat all; fail "killed at $call $k: a hole"; }
        for f in j/*.sst; do ss-cat "$f" 2>/dev/null || true; done >text
        ! grep -q ' gap ' text || fail "killed at $call $k: a gap"
        [ "$(grep -c ' data .*epoch=2 ' text)" -eq "$(ss-cat --count two.sst)" ] ||
            fail "killed at $call $k: not all arrived"
        for r in $(ss-cat back 2>/dev/null | sed -n 's/.* result .*seq=\([0-9]*\) .*/\1/p'); do
            grep -q " data .*epoch=1 seq=$r " text || fail "killed at $call $k: record $r was answered and is lost"
        done
        [ $got -ne 0 ] || break
        [ $got -eq 137 ] || { cat said; fail "killed at $call $k: status $got"; }
        kills=$((kills + 1))
        k=$((k + step))
    done
done
echo "$kills kills"
[ $kills -ge 5 ] || fail 'hardly a call was killed at'
