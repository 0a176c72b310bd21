# What is valid but does not fit gives 5 and says what was found and what was expected; usage gives 2.
. "$SS_SRC/tests/cli/lib.sh"
ss-model init -o m.safetensors
ss-model init --norm=group -o group.safetensors
ss-model init --width=1/2 -o half.safetensors
ss-capture synth:1 --duration=4 | tee pcm.sst | ss-featurize >features.sst
ss-encode --until=3 -m m.safetensors features.sst >cut.sst
ss-encode --until=embedding -m m.safetensors features.sst >z.sst

status 5 ss-encode --until=3 -m m.safetensors pcm.sst
matches err "kind 'pcm', expected"
status 5 ss-encode --until=2 -m m.safetensors cut.sst
matches err 'record 0: it is at cut 3 already, beyond 2'
status 5 ss-encode --until=8 -m m.safetensors z.sst
status 5 ss-finish -m half.safetensors cut.sst
matches err 'architecture'
status 5 ss-finish -m group.safetensors cut.sst
matches err 'architecture'
status 5 ss-finish -m m.safetensors --from=4 features.sst
matches err 'record 0: found shape \[64 x 96\], the model has \[32 x 8 x 12\] at cut 4'
ss-model init --mels=32 -o small.safetensors
status 5 ss-encode --until=3 -m small.safetensors features.sst
matches err 'found shape \[64 x 96\], the model has \[32 x 96\] at cut input'
status 2 ss-encode --until=9 -m m.safetensors features.sst
matches err "found '9', expected input, 0 to 8, embedding or auto"
status 2 ss-encode -m m.safetensors features.sst
status 2 ss-encode --until=3 features.sst
status 2 ss-encode --from=5 --until=3 -m m.safetensors features.sst
status 2 ss-encode --until=3 --batch=0 -m m.safetensors features.sst
status 2 ss-finish -m m.safetensors features.sst cut.sst
status 2 ss-finish cut.sst
status 3 ss-encode --until=3 -m not-there.safetensors features.sst
matches err 'not-there.safetensors'
head -c 5000 m.safetensors >torn.safetensors
status 4 ss-encode --until=3 -m torn.safetensors features.sst
matches err 'torn.safetensors'
status 6 ss-encode --until=3 -m m.safetensors --limit-memory=300K features.sst
# Records without a stamp, from an array.
ss-cat --npy=cut.npy cut.sst
ss-cat --from-npy=cut.npy --kind=cut >bare.sst
status 5 ss-finish -m m.safetensors bare.sst
matches err 'record 0: not stamped with the cut it is at: name it with --from'
ss-finish -m m.safetensors --from=3 bare.sst | ss-cat --npy=bare.npy
ss-cat --npy=z.npy z.sst
same bare.npy z.npy
