/**
 * Streaming log-mel front end: samples in, windows of frames out, every frame computed once.
 *
 * Frame t of a clip covers samples [hop t, hop t + window), nothing is padded before: weighted by a periodic
 * Hann window, filled with zeros to `fft`, transformed; energy of mel filter m = sum over bins of weight
 * times |X|^2; value = ln(energy + floor). Filters are triangles, linear in Hz, peak 1, whose corners are
 * evenly spaced on HTK's mel scale, 2595 lg(1 + f/700), from `low` to `high`. A frame's constant part (its
 * mean under the Hann window) is taken off first unless keep_dc is set: it would leak into the lowest
 * filters. Windows are the last `frames` frames, every `step` frames: window w starts at sample hop step w of
 * its clip.
 *
 * Samples are full scale +-1; more is taken as it is up to +-1000 and held there beyond, and samples that are
 * not finite count as 0, so that every value is finite; both are counted. Silence is ln(floor) exactly.
 * The same samples give the same bits however they are cut into pushes (on one machine with one FFTW).
 * Reduced resolution: half the filters, each of half the weight, or every second frame; both are brought back
 * to [mels][frames] by linear interpolation of the logarithms. It may be switched at any time.
 *
 * Threads: one at a time for each ss_logmel; creating and freeing is safe from several.
 * Source: Young et al., The HTK Book 3.4, section 5.4 (scale and triangles).
 */
#ifndef SS_AUDIO_LOGMEL_H
#define SS_AUDIO_LOGMEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_logmel_config {
    double rate;      /* samples a second */
    int window, hop;  /* samples, 1 <= hop <= window */
    int fft;          /* points, even, >= window */
    int mels;         /* filters */
    double low, high; /* Hz, edges of the first and the last filter */
    double floor;     /* added to every energy, > 0 */
    bool keep_dc;
    int frames, step; /* of a window, 1 <= step <= frames */
} ss_logmel_config;

/** As SS_ATTR_RESOLUTION carries it. */
typedef enum ss_resolution { SS_RES_FULL = 0, SS_RES_HALF_MELS = 1, SS_RES_HALF_RATE = 2 } ss_resolution;

typedef struct ss_logmel_window {
    uint64_t start;           /* first sample, counted from the start of the clip */
    uint32_t samples;         /* samples covered, those of padding included */
    uint32_t padding;         /* of them, filled up with zeros at the end of the clip */
    ss_resolution resolution; /* SS_RES_FULL if all frames are; else how its newest reduced one was made */
} ss_logmel_window;

typedef struct ss_logmel ss_logmel;

/** 16 kHz, 25 ms, 10 ms, 512 points, 64 filters from 80 Hz to 8 kHz, floor 1e-6, 96 frames every 48. */
void ss_logmel_config_default(ss_logmel_config *c);

/** What a frame depends on, as a JSON object (at most 255 characters), and its hash: FNV-1a, 64 bits, 16 hex
 * digits. */
void ss_logmel_describe(const ss_logmel_config *c, char json[256], char hash[17]);

/** Errors: SS_ERANGE (a number of `c`), SS_EUNFIT (a filter that holds no bin of the transform), SS_ENOMEM.
 */
int ss_logmel_create(ss_logmel **m, const ss_logmel_config *c, ss_err *e);
void ss_logmel_free(ss_logmel *m);

/** From the next frame on; frames made before stay. Half the filters needs an even number: else SS_ERANGE. */
int ss_logmel_set_resolution(ss_logmel *m, ss_resolution r);

/**
 * Take samples in [n] until they are used up or a window is complete; *taken = how many.
 * 1: a window is there, fetch it and go on with the rest; 0: all taken.
 */
int ss_logmel_push(ss_logmel *m, const float *in, size_t n, size_t *taken);

/**
 * The clip has ended: 1 if samples remain that no window covered; the next window, filled up with zeros,
 * is then there. 0 if none do. Follow with ss_logmel_reset.
 */
int ss_logmel_pad(ss_logmel *m);

/** Forget all samples and frames: a new clip starts. Counts and resolution stay. */
void ss_logmel_reset(ss_logmel *m);

/** The window that push or pad announced into out [mels][frames], and what it covers (may be NULL). */
void ss_logmel_fetch(const ss_logmel *m, float *out, ss_logmel_window *about);

/** Samples since the start that were not finite, and that were beyond +-1000. */
uint64_t ss_logmel_nonfinite(const ss_logmel *m);
uint64_t ss_logmel_excessive(const ss_logmel *m);

#endif
