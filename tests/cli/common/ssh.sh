# The pipeline cut between two machines: a real sshd on loopback, for whoever runs this.
. "$SS_SRC/tests/cli/lib.sh"
. "$SS_SRC/tests/cli/sshd.sh"
sshd_start
bin=$(dirname "$(command -v ss-finish)")
ss-model init -o m.safetensors
ss-capture synth:3 --duration=10 | ss-featurize >features.sst
ss-encode --until=embedding -m m.safetensors features.sst >here.sst
status 0 sh -c "ss-encode --until=3 -m m.safetensors features.sst | ssh -F config there '$bin/ss-finish -m $PWD/m.safetensors' >there.sst"
status 0 ss-cat --check there.sst
status 0 ss-cat --compare=here.sst there.sst
# The status of the far half is the near one's to see.
status 5 ssh -F config there "$bin/ss-finish -m $PWD/m.safetensors $PWD/features.sst --from=4"
