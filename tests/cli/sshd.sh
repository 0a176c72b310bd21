# sshd_start: a real sshd on loopback, for whoever runs this: then `ssh -F config there` gets in. Source lib.sh first.
# sshd_start IN ADDRESS FROM: on this address instead, started by the command IN; FROM is what gets a client to it.
sshd_start() {
    address=${2:-127.0.0.1}
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
ListenAddress $address
HostKey $PWD/host
PidFile $PWD/sshd.pid
AuthorizedKeysFile $PWD/keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
C
    ${1:-} "$sshd" -D -e -f "$PWD/sshd_config" 2>sshd.log &
    daemon=$!
    [ $# -gt 0 ] || trap 'kill $daemon 2>/dev/null || true' EXIT
    cat >config <<C
Host there
    HostName $address
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
    until ${3:-} ssh -F config there true 2>ssh.err; do
        i=$((i + 1))
        [ $i -lt 50 ] || { cat ssh.err sshd.log; skip 'sshd does not let its own user in here'; }
        sleep 0.1
    done
}
