# The pipeline cut between two machines: a real sshd on loopback, for whoever runs this.
. "$SS_SRC/tests/cli/lib.sh"
need ssh
need ssh-keygen
sshd=$(command -v sshd || echo /usr/sbin/sshd)
[ -x "$sshd" ] || skip 'sshd is not installed'
me=$(id -un)
if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
ssh-keygen -q -t ed25519 -N '' -f host
ssh-keygen -q -t ed25519 -N '' -f user
chmod 700 .
cp user.pub keys
chmod 600 keys
port=$((20000 + $$ % 20000))
cat >sshd_config <<C
Port $port
ListenAddress 127.0.0.1
HostKey $PWD/host
PidFile $PWD/sshd.pid
AuthorizedKeysFile $PWD/keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
C
"$sshd" -D -e -f "$PWD/sshd_config" 2>sshd.log &
daemon=$!
trap 'kill $daemon 2>/dev/null' EXIT
cat >config <<C
Host there
    HostName 127.0.0.1
    Port $port
    User $me
    IdentityFile $PWD/user
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    BatchMode yes
C
i=0
until ssh -F config there true 2>ssh.err; do
    i=$((i + 1))
    [ $i -lt 50 ] || { cat ssh.err sshd.log; skip 'sshd does not let its own user in here'; }
    sleep 0.1
done
bin=$(dirname "$(command -v ss-finish)")
ss-model init -o m.safetensors
ss-capture synth:3 --duration=10 | ss-featurize >features.sst
ss-encode --until=embedding -m m.safetensors features.sst >here.sst
status 0 sh -c "ss-encode --until=3 -m m.safetensors features.sst | ssh -F config there '$bin/ss-finish -m $PWD/m.safetensors' >there.sst"
status 0 ss-cat --check there.sst
status 0 ss-cat --compare=here.sst there.sst
# The status of the far half is the near one's to see.
status 5 ssh -F config there "$bin/ss-finish -m $PWD/m.safetensors $PWD/features.sst --from=4"
