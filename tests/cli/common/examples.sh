# The EXAMPLES of the pages do what they say. In an .EX block: "$ command" is run; lines behind it are its exact output,
# if there are any; "# exit N" at the end of a command says the status expected.
. "$SS_SRC/tests/cli/lib.sh"
for page in "$SS_SRC"/man/*.1 "$SS_SRC"/man/*.7; do
    name=$(basename "$page")
    rm -rf scratch && mkdir scratch
    awk -v q="'" '
        /^\.SH/ { on = /EXAMPLES/ }
        on && /^\.EX/ { flush_cmd(); ex = 1; next }
        /^\.EE/ { ex = 0 }
        ex {
            gsub(/\\-/, "-"); gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\\(aq/, q); gsub(/\\\(dq/, "\""); gsub(/\\\(ti/, "~"); gsub(/\\\(ha/, "^")
            if (more) { cmd = cmd "\n" $0 } else if (/^\$ /) { flush_cmd(); cmd = substr($0, 3); have = 1 } else if (have) { out = out $0 "\n"; next } else next
            more = /[\\|]$/ # a command that goes on
        }
        function flush_cmd() {
            if (!have) return
            want = 0
            if (match(cmd, /# exit [0-9]+$/)) { want = substr(cmd, RSTART + 7); cmd = substr(cmd, 1, RSTART - 1) }
            n++
            print cmd > (n ".cmd"); close(n ".cmd"); print want > (n ".want"); close(n ".want")
            if (out != "") { printf "%s", out > (n ".out"); close(n ".out") }
            have = 0; out = ""
        }
        END { flush_cmd(); print n + 0 > "count" }' "$page"
    count=$(cat count)
    i=0
    while [ $i -lt "$count" ]; do
        i=$((i + 1))
        got=0
        (cd scratch && timeout 120 bash -o pipefail -c "$(cat ../$i.cmd)") >got.out 2>got.err || got=$?
        [ "$got" -eq "$(cat $i.want)" ] || { cat "$i.cmd" got.out got.err; fail "$name: example $i: status $got, expected $(cat $i.want)"; }
        if [ -f $i.out ]; then
            diff -u $i.out got.out || { cat $i.cmd; fail "$name: example $i: other output"; }
        fi
        rm -f $i.*
    done
    echo "$name: $count examples"
done
