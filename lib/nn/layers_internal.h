/**
 * The network as a list of units, and its forward pass without anything kept; private to nn.
 *
 * A unit is a convolution and what follows it: the norm's gain and bias, for some the shortcut, for most
 * ReLU. All that is linear in front of the ReLU folds into the convolution: running statistics taken as
 * constants, standardised weights, the positive gain of the ReLU of the weight norm. What does not fold
 * (group norm; the batch norm of a training step, whose convolution's output is wanted for its statistics)
 * runs behind it.
 */
#ifndef SS_NN_LAYERS_INTERNAL_H
#define SS_NN_LAYERS_INTERNAL_H

#include "../kernels/kernels.h"
#include "model.h"

#define SS_UNITS 20 /* stem, two for each block, three downsamples */

/** A unit as the model describes it. */
typedef struct ss_unit {
    ss_conv conv;
    bool relu;
    float relu_gain; /* of the ReLU behind it (for a shortcut: behind the sum), folded into gain and bias */
    const ss_param *weight, *gain, *bias;
    const ss_param *mean, *var; /* batch norm only, else NULL */
} ss_unit;

/** All of them, as indices into `unit`. Borrows the model's parameter table. */
typedef struct ss_layers {
    ss_norm norm;
    int nunit;
    ss_unit unit[SS_UNITS];                                  /* 0 is the stem */
    int conv1[SS_BLOCKS], conv2[SS_BLOCKS], down[SS_BLOCKS]; /* down: -1 without downsample */
    ss_maxpool pool;
    int pixels; /* what the mean before fc is taken over */
    ss_conv fc;
    const ss_param *fc_weight, *fc_bias;
    float input_mean, input_scale;
    bool half; /* weights are rounded to f16 */
} ss_layers;

/** SS_OK, or SS_EUNFIT: the model lacks a parameter or one has another shape. */
int ss_layers_init(ss_layers *l, const ss_model *m, ss_err *e);

/** Weights rounded to f16, and stored so where ss_conv_may_half. */
void ss_layers_half(ss_layers *l);

/** The units that lie between two cuts: first .. last - 1. */
void ss_layers_range(const ss_layers *l, int from, int until, int *first, int *last);

/** Floats of the largest weight [cout][cin][kh][kw] of all units and fc. */
size_t ss_layers_weight_max(const ss_layers *l);

typedef enum ss_behind {
    SS_BEHIND_NOTHING, /* folded: bias, shortcut and ReLU are the convolution's own */
    SS_BEHIND_AFFINE,  /* times scale, plus shift */
    SS_BEHIND_GROUP    /* group norm with gain scale and bias shift */
} ss_behind;

/** A unit (or fc) ready to run. */
typedef struct ss_ready {
    ss_behind behind;
    void *packed;         /* ss_conv_pack */
    float *bias;          /* [cout], folded only */
    float *scale, *shift; /* [cout], otherwise */
} ss_ready;

/**
 * Weights as they multiply the input at inference.
 *   w [cout][cin][kh][kw]   bias [cout]: not touched by group norm
 *   row_mean, row_rstd [cout]: of the standardisation; batch norm: row_rstd alone, 1 / sqrt(running_var +
 * eps)
 */
void ss_unit_fold(const ss_layers *l, const ss_model *m, int unit, float *w, float *bias, float *row_mean,
                  float *row_rstd);

/** What the model has for each output channel, [cout]; mean and var with batch norm only. */
typedef struct ss_unit_rows {
    const float *gain, *bias, *mean, *var;
} ss_unit_rows;

/**
 * ss_unit_fold for n output channels from `first` on: from, w [n][cin][kh][kw] of these (w may be from), all
 * else [cout] of which their part is read or written.
 */
void ss_unit_fold_rows(const ss_layers *l, int unit, const ss_unit_rows *r, int first, int n,
                       const float *from, float *w, float *bias, float *row_mean, float *row_rstd);

/**
 * y = unit(x), channels-last; add (NULL or as y, may be y) before the ReLU.
 *   raw    [n][oh][ow][cout] gets the output of the bare convolution; not touched when folded
 *   stat   [2][n][groups] gets mean and 1 / deviation of group norm; else not touched
 */
void ss_unit_forward(const ss_unit *u, const ss_ready *r, ss_pool *pool, int n, const float *x,
                     const float *add, float *y, float *raw, float *stat, float *work);

/** Scratch for ss_layers_run: one for each thread that calls it. */
typedef struct ss_scratch {
    float *a, *b, *raw, *stat, *work;
} ss_scratch;

/** Floats of each part for n windows between two cuts (`raw` and `stat` are 0 when all is folded). */
typedef struct ss_scratch_size {
    size_t a, b, raw, stat, work;
} ss_scratch_size;
ss_scratch_size ss_layers_scratch(const ss_layers *l, int from, int until, int n, const ss_pool *pool,
                                  bool folded);
/** whole: all of a and b is wanted at once (ss_alloc_whole). */
int ss_scratch_alloc(ss_scratch *s, const ss_scratch_size *size, bool whole);
void ss_scratch_free(ss_scratch *s);

/** Run n windows from cut to cut; in and out as on the wire ([c][h][w]). ready [nunit], fc. */
void ss_layers_run(const ss_layers *l, const ss_ready *ready, const ss_ready *fc, ss_pool *pool, int from,
                   int until, int n, const float *in, float *out, const ss_scratch *s);

/** y = (x - input_mean) * input_scale, n floats. */
void ss_layers_normalise(const ss_layers *l, size_t n, const float *x, float *y);

#endif
