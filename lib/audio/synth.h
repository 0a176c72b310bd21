/**
 * A soundscape made from a seed: what the tests and the quick start listen to where there is no real sound.
 *
 * Scenes of 2 to 6 s follow one another; each is a clip. Its main source is one of SS_SYNTH_KINDS kinds,
 * which gives its label; pitch, rate, timbre and pauses differ from scene to scene. Level (20 dB), colour (a
 * shelf and a resonance), echo and background noise (8 to 35 dB below) are drawn apart from the kind, four
 * scenes in ten carry a second, quieter source, kinds share their bands, and one scene in ten is without a
 * source and label: a short stretch of background or of digital silence. Pitch, rate and background drift
 * slowly over some dozens of scenes. Fold of a scene = number mod 5 + 1.
 *
 * 16 kHz, mono, within +-1. Every sample depends on seed and place alone, and is the same on every CPU:
 * counter-based random numbers, additions, products, quotients and square roots, nothing of libm.
 * Threads: one at a time for each ss_synth.
 */
#ifndef SS_AUDIO_SYNTH_H
#define SS_AUDIO_SYNTH_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_SYNTH_KINDS 12
#define SS_SYNTH_RATE  16000

typedef struct ss_synth ss_synth;

typedef struct ss_synth_scene {
    uint64_t number;
    int kind;         /* label, -1 = none */
    int second;       /* kind that is heard behind it, -1 = none */
    int fold;         /* 1..5 */
    uint32_t samples; /* length */
} ss_synth_scene;

/** "rain", "engine", ...; NULL outside 0..SS_SYNTH_KINDS - 1. */
const char *ss_synth_kind(int kind);

/** What scene `number` under the seed will be. */
void ss_synth_describe(uint64_t seed, uint64_t number, ss_synth_scene *scene);

int ss_synth_create(ss_synth **s, uint64_t seed, ss_err *e); /* SS_ENOMEM */
void ss_synth_free(ss_synth *s);

/**
 * The next samples, at most n and all of one scene, into out; returns how many (n > 0 gives more than 0).
 * *scene says which; *left how many it still has (0: these were its last).
 */
size_t ss_synth_read(ss_synth *s, float *out, size_t n, ss_synth_scene *scene, uint32_t *left);

#endif
