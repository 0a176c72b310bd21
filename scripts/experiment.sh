#!/bin/sh
# usage: scripts/experiment.sh [OPTION...] MANIFEST.csv
#
# The quality table: every method, fold and seed is one cell. A cell hears the other folds as a stream without labels,
# is frozen, embeds all clips, and is judged on its fold. Cells are independent and kept, one JSON line each, in
# OUT/METHOD/seedS-foldF.json: what is done is not done again, so that a run can be stopped and gone on with.
#   MANIFEST          CSV with file,label,fold
#   --out DIR         where cells, models and logs go (default build/experiment)
#   --methods LIST    with commas, of those below (default: all)
#   --add NAME=SPEC   one more method: options of ss-train; 'shuffle' in front of them draws clips in random order,
#                     'init:OPTION' goes to ss-model init, 'loop:N' overrides --loop; 'share:I' takes only the classes
#                     of device I of three, 'thin:N' only every N-th window; 'devices' sends what each of the three
#                     hears through ss-link and ss-serve to one refiner, whose options the others are then;
#                     'quarter': a device learns from one of four stretches of ten windows, which it finishes itself,
#                     and with 'devices' sends the others uncut and takes the weight deltas that come back: then the
#                     model of device 1 is judged
#   --folds LIST      folds to test (default: all of the manifest)
#   --seeds LIST      (default 1)
#   --track CSV       learners hear the labelled stretches (start_s,end_s,label) of --sound in their order, in place of
#                     the manifest's clips; what is judged stays
#   --sound FILE
#   --loop N          how often a learner hears the sound (default 6)
#   --init OPTIONS    of ss-model init (default --width=1/4)
#   --against METHOD  that the others are tested against, clip by clip (default logmel)
#   --jobs N          cells at once (default: environment JOBS, else 2)
#   --keep            keep the embeddings too, and the server's model where a device's is judged
#   --table           only print the table of what is there
#
# Programs: build/tools, or those in PATH.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)

# What every method is. Without a line here (or --add) there is no such method.
spec() {
    case $1 in
    logmel | logmel-delta | random) ;;
    # Clips in random order, windows of a clip in time order, small batches from a ring of the newest windows.
    batch) echo 'shuffle --learner=contrast --negatives=none' ;;
    virtual | replay | both) echo "shuffle --learner=contrast --no-in-batch --negatives=$1" ;;
    batch-virtual) echo 'shuffle --learner=contrast --negatives=virtual' ;;
    cached) echo 'shuffle --learner=cached' ;;
    sorted) echo '--learner=cached' ;; # the same, clips in the order of the manifest, class by class
    # A ring that holds a whole pass (here of up to 4096 windows): what a server does, with as many views a window.
    server) echo 'shuffle --learner=cached --batch=128 --every=16 --replay=4096' ;;
    # Three devices that hear different classes: each by itself, and all of them through one refiner.
    share-1 | share-2 | share-3) echo "shuffle share:${1#share-}" ;;
    refine) echo 'devices shuffle' ;;
    refine-task) echo 'devices shuffle --sw=0 --laplacian=0' ;;
    refine-sw) echo 'devices shuffle --laplacian=0' ;;
    refine-laplacian) echo 'devices shuffle --sw=0' ;;
    refine-thin) echo 'devices shuffle thin:4' ;;
    refine-task-thin) echo 'devices shuffle thin:4 --sw=0 --laplacian=0' ;;
    # A device with time to learn from a quarter of what it hears: by itself, and with a server that learns from the
    # rest of it and of what two others hear, and sends weights every 100 windows or ten times more seldom.
    edge) echo 'shuffle quarter share:1' ;;
    sync-100) echo 'devices shuffle quarter --sync-every=100' ;;
    sync-1000) echo 'devices shuffle quarter --sync-every=1000' ;;
    *) added "$1" ;;
    esac
}
all_methods=logmel,logmel-delta,random,batch,virtual,replay,both,batch-virtual,cached,sorted,server
# not among them, since they take long: share-1,..., refine,refine-task,..., edge,sync-100,sync-1000

added() {
    printf '%s\n' "$SS_EXP_ADDED" | awk -v name="$1" '
        index($0, name "=") == 1 { print substr($0, length(name) + 2); found = 1 }
        END { exit !found }'
}

complain() {
    printf 'experiment: %s\n' "$*" >&2
}

# Manifest of the classes that device I of three hears; names of files become whole ones.
share() {
    awk -F, -v OFS=, -v device="$1" -v folder="$(dirname "$SS_EXP_MANIFEST")" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; print; next }
        !($column["label"] in class) { class[$column["label"]] = n++ }
        class[$column["label"]] % 3 == device - 1 {
            if ($column["file"] !~ "^/") $column["file"] = folder "/" $column["file"]
            print
        }' "$SS_EXP_MANIFEST"
}

# hear_track DEVICE FOLDER: stretches of the classes of device I of three, 0: of all.
hear_track() {
    mkdir -p "$2"
    pass=0
    while [ "$pass" -lt "$loop" ]; do
        awk -F, -v device="$1" -v pass="$pass" '
            NR > 1 && !($3 in class) { class[$3] = n++ }
            NR > 1 && (!device || class[$3] % 3 == device - 1) {
                printf "%s %.4f %d\n", $1, $2 - $1, 1 + 1000000 * pass + NR
            }' "$SS_EXP_TRACK"
        pass=$((pass + 1))
    done | while read -r start long epoch; do
        ss-capture --start="$start" --duration="$long" --epoch="$epoch" --device="$(($1 ? $1 : 1))" "$SS_EXP_SOUND" </dev/null |
            ss-featurize -o "$2/$(printf %09d "$epoch").sst" --force || echo capture >&3
    done
    { ss-cat --stream "$2"/*.sst || echo cat >&3; } | { ss-cat --stream --every="$thin" || echo cat >&3; }
    rm -rf "$2"
}

# hear MANIFEST DEVICE: windows, as they are learnt from. DEVICE 0: whoever hears all.
hear() {
    if [ -n "$SS_EXP_TRACK" ]; then
        hear_track "$2" "$name.heard$2"
        return
    fi
    # shellcheck disable=SC2086
    { ss-capture --manifest="$1" --where="fold!=$fold" --loop="$loop" $shuffle --device="$(($2 ? $2 : 1))" --seed="$seed" || echo capture >&3; } |
        { ss-featurize || echo featurize >&3; } | { ss-cat --stream --every="$thin" || echo cat >&3; }
}

stamp() {
    ss-split-policy --policy=fixed --cut=embedding,input,input,input || echo policy >&3
}

learn_alone() {
    manifest=$SS_EXP_MANIFEST
    if [ -n "$share" ]; then
        manifest=$name.csv
        share "$share" >"$manifest"
    fi
    # shellcheck disable=SC2086
    hear "$manifest" "${share:-0}" | if [ -n "$quarter" ]; then stamp; else cat; fi |
        { ss-train -m "$name.safetensors" $quarter --seed="$seed" --log="$name.log" $train || echo train >&3; }
}

# Device I: all that it hears goes to the refiner, but for what it finishes itself. It does not run ahead of it.
device() {
    # shellcheck disable=SC2086
    hear "$name.d/$1.csv" "$1" |
        if [ -n "$quarter" ]; then
            cp "$name.safetensors" "$name.d/$1.safetensors"
            stamp | { ss-train -m "$name.d/$1.safetensors" $quarter --state="$name.d/$1" --seed="$seed" || echo train >&3; }
        else
            cat
        fi |
        { ss-link --drop=none --spool-size=1M --drain=600 --state="$name.d/$1" "unix:$name.d/socket" || echo link >&3; } |
        if [ -n "$quarter" ]; then ss-apply --state="$name.d/$1" || echo apply >&3; else cat; fi
}

learn_together() {
    rm -rf "$name.d"
    mkdir -p "$name.d"
    server=$name.safetensors
    if [ -n "$quarter" ]; then
        server=$name.d/server.safetensors
        cp "$name.safetensors" "$server"
    fi
    # shellcheck disable=SC2086
    ss-serve --listen "unix:$name.d/socket" -- ss-train --refine -m "$server" --checkpoint="$name.d/state" --journal="$name.d/journal" \
        --seed="$seed" --log="$name.log" $train &
    serve=$!
    i=0
    until [ -S "$name.d/socket" ] || [ "$i" -ge 100 ]; do
        i=$((i + 1))
        sleep 0.1
    done
    devices=''
    for i in 1 2 3; do
        share "$i" >"$name.d/$i.csv"
        device "$i" &
        devices="$devices $!"
    done
    # shellcheck disable=SC2086
    wait $devices
    kill "$serve"
    wait "$serve" || echo serve >&3
    if [ -n "$quarter" ]; then
        [ -z "$SS_EXP_KEEP" ] || mv "$server" "$name.server.safetensors"
        mv "$name.d/1.safetensors" "$name.safetensors"
    fi
    rm -rf "$name.d"
}

# cell METHOD SEED FOLD: all of it, or nothing.
cell() {
    method=$1 seed=$2 fold=$3
    name=$SS_EXP_OUT/$method/seed$seed-fold$fold
    options=$(spec "$method")
    case $method in
    logmel*) made='no learning' ;;
    random) made=$SS_EXP_INIT ;;
    *) made="$SS_EXP_INIT | $options | loop $SS_EXP_LOOP${SS_EXP_TRACK:+ | $(basename "$SS_EXP_TRACK")}" ;;
    esac
    mkdir -p "$SS_EXP_OUT/$method"
    if [ -s "$name.json" ]; then
        grep -qF "\"made\":\"$made\"" "$name.json" && return 0
        complain "$name.json was made with other options: remove it, or choose another --out"
        return 1
    fi
    began=$(date +%s)
    embeddings=$name.sst judge='' init='' loop=$SS_EXP_LOOP shuffle='' train='' where=alone share='' thin=1 quarter=''
    for o in $options; do
        case $o in
        shuffle) shuffle=--shuffle ;;
        init:*) init="$init ${o#init:}" ;;
        loop:*) loop=${o#loop:} ;;
        share:*) share=${o#share:} ;;
        thin:*) thin=${o#thin:} ;;
        devices) where=together ;;
        quarter) quarter=--until=auto ;;
        *) train="$train $o" ;;
        esac
    done
    case $method in
    logmel) embeddings=$SS_EXP_OUT/features.sst ;;
    logmel-delta) embeddings=$SS_EXP_OUT/features.sst judge='--standardise --differences' ;;
    *)
        # shellcheck disable=SC2086
        ss-model init $SS_EXP_INIT $init --seed="$seed" --force -o "$name.safetensors"
        if [ "$method" != random ]; then
            rm -f "$name.log"
            # The exit statuses of the whole pipe: a learner that heard half of the sound is none.
            { learn_"$where" >/dev/null; } 3>"$name.failed"
            if [ -s "$name.failed" ]; then
                complain "$method, seed $seed, fold $fold: failed: $(tr '\n' ' ' <"$name.failed")"
                return 1
            fi
            rm -f "$name.failed"
        fi
        ss-encode --until=embedding --batch=8 -m "$name.safetensors" --force -o "$embeddings" \
            "$SS_EXP_OUT/features.sst"
        ;;
    esac
    # shellcheck disable=SC2086
    ss-eval -q --test-fold="$fold" --seed="$seed" --json --outcomes $judge --tag=method="$method" --tag=seed="$seed" \
        --tag=fold="$fold" --tag=made="$made" --tag=seconds="$(($(date +%s) - began))" "$embeddings" >"$name.part"
    [ -n "$SS_EXP_KEEP" ] || [ "$embeddings" = "$SS_EXP_OUT/features.sst" ] || rm -f "$embeddings"
    mv "$name.part" "$name.json"
    printf 'experiment: %s, seed %s, fold %s: %s s\n' "$method" "$seed" "$fold" "$(($(date +%s) - began))" >&2
}

# One line of the table from a result of ss-eval (standard input).
line() {
    awk -v method="$1" -v cells="$2" '
        # The number behind "key": in text, "" where there is none.
        function number(text, key) {
            if (!match(text, "\"" key "\":[-+.0-9eE]+")) return ""
            return substr(text, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
        }
        # From "key":{ on.
        function part(text, key,    at) {
            at = index(text, "\"" key "\":{")
            return at ? substr(text, at + length(key) + 3) : ""
        }
        {
            split("linear_probe knn precision_at_10", metric)
            deviation = part($0, "deviation")
            against = part($0, "compare")
            printf "%-14s %5d", method, cells
            for (i = 1; i <= 3; i++) printf " %5.3f %5.3f", number($0, metric[i]), number(deviation, metric[i])
            for (i = 1; against && i <= 3; i++) {
                m = part(against, metric[i])
                d = number(m, "difference")
                sign = d > 0 ? "+" : d < 0 ? "-" : " "
                printf " %s%-6.1g", sign, number(m, "p")
            }
            printf "\n"
        }'
}

table() {
    # Everything of a method in one file: results of all its cells, and what they come to.
    reference=''
    for method in $(echo "$SS_EXP_AGAINST,$methods" | tr ',' ' '); do
        results=$SS_EXP_OUT/$method.jsonl
        cat "$SS_EXP_OUT/$method"/*.json >"$results" 2>/dev/null || rm -f "$results"
    done
    [ -s "$SS_EXP_OUT/$SS_EXP_AGAINST.jsonl" ] && reference=$SS_EXP_OUT/$SS_EXP_AGAINST.jsonl
    printf '\nMean and deviation over cells. p: of the difference to %s over all clips,\nwith its sign, for linear probe, k-NN and p@10.\n\n' "$SS_EXP_AGAINST"
    printf '%-14s %5s %-11s %-11s %-11s %s\n' method cells 'linear dev' 'k-NN  dev' 'p@10  dev' ' p'
    for method in $(echo "$methods" | tr ',' ' '); do
        results=$SS_EXP_OUT/$method.jsonl
        [ -s "$results" ] || continue
        if [ "$method" = "$SS_EXP_AGAINST" ] || [ -z "$reference" ] ||
            ! ss-eval --results --json --compare="$reference" "$results" >"$SS_EXP_OUT/$method.sum" 2>/dev/null; then
            # Not all folds are there yet, or nothing to compare with.
            ss-eval --results --json "$results" >"$SS_EXP_OUT/$method.sum"
        fi
        line "$method" "$(wc -l <"$results")" <"$SS_EXP_OUT/$method.sum"
        rm -f "$SS_EXP_OUT/$method.sum"
        over_seeds "$method"
    done
}

# Deviation over seeds of the means over all clips, where there are several seeds.
over_seeds() {
    for first in "$SS_EXP_OUT/$1"/seed*-fold*.json; do
        first=${first##*/seed}
        echo "${first%%-*}"
    done | sort -un | while read -r seed; do
        cat "$SS_EXP_OUT/$1/seed$seed"-fold*.json | ss-eval --results --json
    done | awk '
        {
            split("linear_probe knn precision_at_10", metric)
            for (i = 1; i <= 3; i++) {
                match($0, "\"" metric[i] "\":[-+.0-9eE]+")
                v = substr($0, RSTART + length(metric[i]) + 3, RLENGTH - length(metric[i]) - 3)
                sum[i] += v; square[i] += v * v
            }
        }
        END {
            if (NR < 2) exit
            printf "%-14s %5d", "  over seeds", NR
            for (i = 1; i <= 3; i++) {
                variance = (square[i] - sum[i] * sum[i] / NR) / (NR - 1)
                printf " %5s %5.3f", "", sqrt(variance > 0 ? variance : 0)
            }
            printf "\n"
        }'
}

if [ "${1:-}" = --cell ]; then
    shift
    cell "$@"
    exit
fi

out=$top/build/experiment methods=$all_methods folds='' seeds=1 only_table='' jobs=${JOBS:-2} manifest=''
SS_EXP_INIT=--width=1/4 SS_EXP_LOOP=6 SS_EXP_KEEP='' SS_EXP_ADDED='' SS_EXP_TRACK='' SS_EXP_SOUND='' SS_EXP_AGAINST=logmel
while [ $# -gt 0 ]; do
    value='' takes=1
    case $1 in
    --*=*) value=${1#*=} takes=0 ;;
    --out | --methods | --add | --track | --sound | --folds | --seeds | --loop | --init | --against | --jobs)
        [ $# -gt 1 ] || { complain "$1 needs a value" && exit 2; }
        value=$2
        ;;
    esac
    case ${1%%=*} in
    --out) out=$value ;;
    --methods) methods=$value ;;
    --add)
        SS_EXP_ADDED="$SS_EXP_ADDED$value
"
        methods=$methods,${value%%=*}
        ;;
    --folds) folds=$(echo "$value" | tr ',' ' ') ;;
    --seeds) seeds=$(echo "$value" | tr ',' ' ') ;;
    --loop) SS_EXP_LOOP=$value ;;
    --track) SS_EXP_TRACK=$value ;;
    --sound) SS_EXP_SOUND=$value ;;
    --init) SS_EXP_INIT=$value ;;
    --against) SS_EXP_AGAINST=$value ;;
    --jobs) jobs=$value ;;
    --keep) SS_EXP_KEEP=yes takes=0 ;;
    --table) only_table=yes takes=0 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" && exit 0 ;;
    -*) complain "unknown option '$1'; try --help" && exit 2 ;;
    *) manifest=$1 takes=0 ;;
    esac
    shift $((1 + takes))
done
for n in "$jobs" "$SS_EXP_LOOP"; do
    case $n in '' | *[!0-9]* | 0) complain "found '$n', expected a whole number above 0" && exit 2 ;; esac
done
[ -d "$top/build/tools" ] && PATH=$top/build/tools:$PATH
[ -n "${SS_BINDIR:-}" ] && PATH=$SS_BINDIR:$PATH
mkdir -p "$out"
out=$(cd "$out" && pwd)
SS_EXP_OUT=$out
export PATH SS_EXP_OUT SS_EXP_INIT SS_EXP_LOOP SS_EXP_KEEP SS_EXP_ADDED SS_EXP_AGAINST SS_EXP_TRACK SS_EXP_SOUND
for method in $(echo "$methods" | tr ',' ' '); do
    spec "$method" >/dev/null || { complain "no method '$method'; try --help" && exit 2; }
done
for f in $SS_EXP_TRACK $SS_EXP_SOUND; do
    [ -r "$f" ] || { complain "cannot read '$f'" && exit 3; }
done
if [ -n "$only_table" ]; then
    table
    exit
fi
[ -n "$manifest" ] || { complain 'no manifest named; try --help' && exit 2; }
[ -r "$manifest" ] || { complain "cannot read '$manifest'" && exit 3; }
SS_EXP_MANIFEST=$(cd "$(dirname "$manifest")" && pwd)/$(basename "$manifest")
export SS_EXP_MANIFEST

# Features of all clips, once. The record of what they were made from guards a folder against another manifest.
id="$(ss-featurize --version) $(cksum <"$SS_EXP_MANIFEST")"
if [ ! -s "$out/features.sst" ]; then
    ss-capture --manifest="$SS_EXP_MANIFEST" | ss-featurize --force -o "$out/features.sst"
    ss-cat --check "$out/features.sst"
    echo "$id" >"$out/features.from"
fi
[ "$(cat "$out/features.from")" = "$id" ] ||
    { complain "'$out' holds cells of another manifest or version: choose another --out" && exit 5; }
[ -n "$folds" ] || folds=$(ss-cat "$out/features.sst" | sed -n 's/.* fold=\([0-9]*\).*/\1/p' | sort -nu)

failed=0
for method in $(echo "$methods" | tr ',' ' '); do
    for seed in $seeds; do
        for fold in $folds; do
            case $method in
            logmel*) [ "$seed" = "${seeds%% *}" ] || continue ;; # nothing random in it
            esac
            echo "$method $seed $fold"
        done
    done
done | xargs -P "$jobs" -L 1 "$0" --cell || failed=1
table | tee "$out/table.txt"
exit $failed
