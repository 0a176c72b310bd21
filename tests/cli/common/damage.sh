# Damaged and truncated input: every filter gives status 4, says what and where, and delivers what came before.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init -o m.safetensors
ss-capture synth:1 --duration=6 -o pcm.sst
ss-featurize pcm.sst -o features.sst
ss-encode --until=3 -m m.safetensors features.sst -o cut.sst
ss-finish -m m.safetensors cut.sst -o z.sst

damage() { # FILE: one byte turned over in the middle
    size=$(wc -c <"$1")
    head -c $((size / 2)) "$1"
    printf '\252'
    tail -c +$((size / 2 + 2)) "$1"
}

for way in truncate damage; do
    for case in 'features.sst:ss-encode --until=3 -m m.safetensors' 'cut.sst:ss-finish -m m.safetensors' \
        'pcm.sst:ss-featurize' 'features.sst:ss-split-policy --policy=fixed' 'features.sst:ss-train -m t.safetensors' 'z.sst:ss-cat --check' 'z.sst:ss-eval'; do
        cp m.safetensors t.safetensors
        file=${case%%:*}
        command=${case#*:}
        if [ $way = truncate ]; then
            head -c $(($(wc -c <"$file") / 2)) "$file" >bad.sst
        else
            damage "$file" >bad.sst
        fi
        # shellcheck disable=SC2086
        status 4 $command bad.sst
        matches err '^ss-[a-z-]*: .*record [0-9]* at byte [0-9]*'
        case $command in
        ss-cat* | ss-eval*) ;;
        *)
            mv out part.sst
            status 4 ss-cat --check part.sst
            matches err truncated
            n=$(ss-cat part.sst 2>/dev/null | grep -c ' data ')
            [ "$n" -ge 1 ] || fail "$way: $command delivered nothing"
            ;;
        esac
    done
done

# Other kinds of wrong: not a stream at all, an empty file, another kind, a file that is not there.
echo 'hello' >text
: >empty
for t in 'ss-encode --until=3 -m m.safetensors' 'ss-finish -m m.safetensors' ss-featurize ss-split-policy 'ss-cat --check'; do
    # shellcheck disable=SC2086
    {
        status 4 $t text
        matches err 'magic\|not a stream'
        status 4 $t empty
        status 3 $t not-there.sst
        matches err 'not-there.sst.*No such file'
    }
done
status 5 ss-featurize z.sst
matches err "kind"
status 5 ss-encode --until=3 -m m.safetensors pcm.sst

# A limit on the size of files is an error like a full disk, and no temporary file stays behind.
status 3 sh -c 'ulimit -f 8; exec ss-featurize pcm.sst -o limited.sst'
matches err 'File too large'
[ -f limited.sst.partial ] || fail 'what was written before the limit is gone'
[ "$(echo limited.sst*)" = limited.sst.partial ] || fail "left behind: $(echo limited.sst*)"
