# What is to be left running: scripts without a fault that can be seen, units that systemd takes, each in its place.
. "$SS_SRC/tests/cli/lib.sh"
scripts="$SS_SRC/scripts"
sh -n "$scripts/device"
sh -n "$scripts/server"
sh -n "$scripts/service.sh"
# What the scripts take is in their help, and the examples name nothing else.
for s in device server; do
    status 0 sh "$scripts/$s" --help
    grep -oE '\$\{?SS_[A-Z]+' "$scripts/$s" | tr -d '${' | sort -u | while read -r v; do matches out "$v"; done
    cp out "$s.help"
    grep -oE '^#?SS_[A-Z]+' "$scripts/systemd/examples/$s.conf" | tr -d '#' | while read -r v; do matches "$s.help" "$v"; done
    sh -n "$scripts/systemd/examples/$s.conf"
done
if command -v shellcheck >/dev/null; then
    (cd "$SS_SRC" && shellcheck -x scripts/device scripts/server scripts/service.sh) || fail 'shellcheck'
fi
# Units as they are installed, but for where the scripts are.
for u in "$scripts"/systemd/*.service.in; do
    n=$(basename "$u" .in | sed 's/@/@x/')
    awk -v hardening="$scripts/systemd/hardening" '/^@hardening@$/ { while ((getline l <hardening) > 0) print l; next } /^@backoff@$/ { next } { print }' "$u" |
        sed "s|@scriptdir@|$scripts|; s|@bindir@|/usr/bin|" >"$n"
    grep -q '@[a-z]*@' "$n" && fail "$n: something is not filled in"
done
command -v systemd-analyze >/dev/null || skip 'systemd-analyze is not installed'
for n in *.service; do
    status 0 systemd-analyze verify --man=no "./$n"
    # It only says what it does not know.
    grep "$n" err && fail "$n"
    grep "$n" out && fail "$n"
done
# It would have said so.
sed -i 's/^WatchdogSec/WatchdogSecs/' streamsplit-server.service
systemd-analyze verify --man=no ./streamsplit-server.service >out 2>&1 || true
matches out 'WatchdogSecs'
exit 0
