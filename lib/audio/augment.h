/**
 * One view of a window of log-mel, for contrastive learning: what the draw says is done to it, in the order
 * below. A draw is a few numbers and is made apart from its use, so that a view can be made twice (gradient
 * caching goes through every view twice) and be the same bits.
 *
 * With x, q [mels][frames] natural logs of energy + floor, U(a, b) uniform, U{a..b} a uniform integer:
 *   roll    x[m][t] <- x[min(max(m + k, 0), mels - 1)][t],             k from U{-roll..roll}
 *   power   p = max(exp(x) - floor, 0)
 *   gain    p <- 10^g p,                                               g from U(-gain, gain)
 *   mix     p <- (1 - l) p + l r (exp(q) - floor),                     l from U(0, mix)
 *           r = min(mean p / (mean (exp(q) - floor) + floor), ratio)   means over the window
 *   noise   p <- p + floor noise exp(h) e,                             h from U(0, 4), e exponential, mean 1
 *   log     x <- ln(p + floor)
 *   masks   x <- input_mean in w mels from m, all frames; and in v frames from t, all mels
 *           w from U{0..freq_mask}, v from U{0..time_mask}, places uniform. The net sees 0 there.
 *
 * exp and log are those of base/explog.h: the same draw and the same windows give the same bits on every CPU.
 *
 * Ownership: arrays are the caller's; out may not overlap x or q. Safe from several threads.
 * Sources: masks: Park et al., SpecAugment, Interspeech 2019; mix-in in the power domain: Niizumi et al.,
 * BYOL for Audio, IJCNN 2021, with the mean powers equalised here; roll and gain: ranges chosen by trials of
 * contrastive learning on ESC-10 over a stream.
 */
#ifndef SS_AUDIO_AUGMENT_H
#define SS_AUDIO_AUGMENT_H

#include <stddef.h>

#include "../base/err.h"
#include "../base/rng.h"

typedef struct ss_augment {
    int roll;         /* mels, >= 0 */
    float gain;       /* lg of power, 0..4 */
    float mix;        /* largest share of the other window, 0..1 */
    float ratio;      /* cap on what the other window is multiplied by, > 0 */
    float noise;      /* in units of the floor, >= 0; 0: none */
    int freq_mask;    /* mels, >= 0; more than there are is as many as there are */
    int time_mask;    /* frames, likewise */
    float floor;      /* of the front end, > 0 */
    float input_mean; /* of the model */
} ss_augment;

/** Roll 8, gain 0.7, mix 0.4, ratio 1e3, noise 0, masks 10 mels and 16 frames, floor 1e-6, input_mean -4.45.
 */
void ss_augment_default(ss_augment *a);
/** SS_ERANGE: a number outside its range, named in e. */
int ss_augment_check(const ss_augment *a, ss_err *e);
/** All its numbers as text, as snprintf writes it: two that are equal have the same. */
int ss_augment_describe(const ss_augment *a, char *out, size_t size);

/** What was drawn for one view. */
typedef struct ss_view {
    int roll;
    float gain;                   /* factor on power */
    float mix;                    /* l */
    float noise;                  /* mean power of the noise */
    int mel, mels, frame, frames; /* masks: first, and how many */
    ss_rng cells;                 /* source of the noise in each cell */
} ss_view;

/** Draw a view of windows [mels][frames]; all parts are drawn, used or not, so that the place in `rng` after
 * it hardly depends on `a`. */
void ss_augment_draw(const ss_augment *a, ss_rng *rng, int mels, int frames, ss_view *v);
/** out [mels][frames] = the view of x; q is the window mixed in, or NULL: none is. */
void ss_augment_apply(const ss_augment *a, const ss_view *v, int mels, int frames, const float *x,
                      const float *q, float *out);

#endif
