/**
 * Learning the bottleneck of a cut (nn/codec.h), without labels: what the frozen rest of the network makes of
 * the decoded values shall be what it makes of the values themselves, for few bits.
 *
 * Loss of a batch: mean over its windows of 1 - z . z', embeddings of the uncut and of the coded way, plus a
 * price of each bit. The bits are estimated so that they have a gradient: a channel of variance v at step s
 * costs 1/2 log2(1 + 12 v / s^2) a number, which is what a Gaussian source and its rounding as noise cost,
 * and nothing where there is nothing. Each step of the optimiser draws a level and four or eight bits.
 * Rounding lets the gradient through as it is, clipping does not.
 *
 * It does not begin by chance. To second order the loss of an error d in a patch is d' M d, with M the mean
 * of g g' / 2 over gradients g of random directions of the embedding; under M the best linear map is that to
 * the eigenvectors of M^1/2 S M^1/2, S being the covariance of the patches, and the best step is the same for
 * all, by the price: s^2 = 12 price / (2 ln 2). That is where learning begins, and with 0 steps where it
 * ends.
 *
 * In four bits a step is as large as range and price want it, whichever is more; in eight bits it is a
 * quarter of the price's, and the price a sixteenth.
 *
 * Determinism: depends on model, windows and seed alone, not on the number of threads.
 * Memory: the values at the cut of all windows in f32, and ss_backprop for the tail.
 * Ownership: borrows model, windows and pool. One thread at a time.
 * Sources: design as by Ballé, Laparra, Simoncelli, "End-to-end optimized image compression", ICLR 2017;
 * levels by Yu et al., "Slimmable neural networks", ICLR 2019; the beginning is transform coding, as in
 * Goyal, "Theoretical foundations of transform coding", IEEE Signal Processing Magazine 18, 2001.
 */
#ifndef SS_LEARN_DISTIL_H
#define SS_LEARN_DISTIL_H

#include <stdint.h>

#include "../base/pool.h"
#include "../nn/codec.h"
#include "../nn/model.h"

typedef struct ss_distil_config {
    int patch;
    int nlevel, level[SS_CODEC_LEVELS];
    double price; /* of a bit in four, in units of 1 - cosine; > 0 */
    int steps;    /* of the optimiser, 0 and more */
    int batch;    /* windows in one */
    float rate;   /* at first, of the size of what moves; falls to 0 */
    uint64_t seed;
} ss_distil_config;

/** What was found to do well at this cut. */
void ss_distil_config_default(ss_distil_config *c, const ss_model_config *model, int cut);

typedef struct ss_distil_step {
    int step, level, bits;       /* level: channels */
    double loss, distance, rate; /* distance: mean of 1 - cosine; rate: bits a window, estimated */
} ss_distil_step;

/** All windows are learnt from but every eighth 16 in a row, which are kept for ss_distil_measure_one. */
typedef struct ss_distil ss_distil;
/**
 * x [n][mels][frames], in f16. Errors: SS_ERANGE (a number of `c`), SS_EUNFIT (fewer than two windows, or
 * values that are not finite), SS_ENOMEM, those of ss_net_open.
 */
int ss_distil_open(ss_distil **d, const ss_distil_config *c, ss_model *m, ss_pool *pool, int cut, size_t n,
                   const uint16_t *x, ss_err *e);
/** One step: 1, or 0 when all are done. `r` may be NULL. */
int ss_distil_next(ss_distil *d, ss_distil_step *r);
/** Counts the tables and puts the bottleneck into the model, in the place of the one at this cut. SS_ENOMEM.
 */
int ss_distil_finish(ss_distil *d, ss_err *e);

typedef struct ss_distil_measure {
    int number;           /* SS_CODEC_... */
    size_t windows;       /* that were not learnt from, unless there are none such */
    double bytes;         /* of a payload, mean */
    double cosine, least; /* between the embeddings, mean and 5th percentile */
} ss_distil_measure;
/** Of the codec as it is in the model now. SS_EUNFIT: not one of its levels; SS_ENOMEM. */
int ss_distil_measure_one(ss_distil *d, int number, ss_distil_measure *r, ss_err *e);
void ss_distil_close(ss_distil **d);

#endif
