/**
 * Contrastive losses over embeddings, with their gradients.
 *
 * With t the temperature and s = a . b the similarity of two embeddings (the cosine, since rows come
 * normalised; the gradients are those of the formulas as they stand, to be taken on through the
 * normalisation with ss_l2norm_backward):
 *
 * InfoNCE of one anchor a with its positive p and negatives n_k:
 *   l = -s(a, p)/t + ln( exp(s(a, p)/t) + sum_k exp(s(a, n_k)/t) )
 * Decoupled (DCL): the positive is left out of the sum,
 *   l = -s(a, p)/t + ln( sum_k exp(s(a, n_k)/t) )
 * The loss is the mean of l over the anchors. An anchor without any negative (all masked) has l = 0 and no
 * gradient, but counts in the mean.
 *
 * The logarithm of the sum is taken from the largest term, so no finite input overflows; an input that is not
 * finite makes the loss not finite, which the caller must look at before a step. Gradients are written, not
 * added to. All sums are in an order fixed by the shapes: the same bits for any number of threads and at
 * every instruction-set level but sse4.1, which has its own (see kernels/kernels.h).
 *
 * Ownership: all arrays are the caller's and none may overlap another; `work` is scratch of the number of
 * floats that the _work function tells, one for each call in flight. `pool` may be NULL. Nothing allocates.
 * Sources: van den Oord et al. 2018, arXiv 1807.03748, eq. 4 (InfoNCE); Chen et al. 2020, arXiv 2002.05709,
 * eq. 1 (normalised, with temperature, in a batch); Radford et al. 2021, arXiv 2103.00020, figure 3 (both
 * directions); Yeh et al. 2022, arXiv 2110.06848, eq. 6 (DCL).
 */
#ifndef SS_LEARN_LOSS_H
#define SS_LEARN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/pool.h"

typedef struct ss_infonce {
    float temperature; /* > 0 */
    bool decoupled;
} ss_infonce;

typedef struct ss_infonce_result {
    double loss;
    double positive; /* mean similarity of anchors and positives */
    double negative; /* mean similarity of all pairs that were negatives; 0 when there were none */
    double top;      /* share of the anchors whose positive is more similar than every negative */
} ss_infonce_result;

/**
 * Two views of each of b windows, every other window of the other view being a negative; mean of both
 * directions.
 *   z1, z2, dz1, dz2 [b][d]
 *   mask [b][b] or NULL: not 0 at [i][j]: z1[i] and z2[j] are no negatives of each other (they overlap in
 *                        time); the diagonal is not looked at
 */
size_t ss_infonce_views_work(int b, int d);
void ss_infonce_views(const ss_infonce *o, ss_pool *pool, int b, int d, const float *z1, const float *z2,
                      const uint8_t *mask, float *dz1, float *dz2, float *work, ss_infonce_result *r);

/** The negatives of ss_infonce_anchors besides those in the batch: constants. */
typedef struct ss_negatives {
    int k;               /* 0: none */
    bool own;            /* z is [b][k][d], those of each anchor; else [k][d], for all */
    const float *z;      /* normalised */
    const uint8_t *mask; /* [b][k] or NULL; not 0: not for this anchor */
} ss_negatives;

/**
 * One direction: b anchors, their positives, and negatives out of a memory.
 *   a, p, da, dp [b][d]   dp NULL: the positives are constants too
 *   batch        the positives of the other anchors are negatives (and have a gradient from it)
 *   mask [b][b] or NULL: with `batch`, not 0 at [i][j]: p[j] is no negative of a[i]
 */
size_t ss_infonce_anchors_work(int b, int d, const ss_negatives *n);
void ss_infonce_anchors(const ss_infonce *o, ss_pool *pool, int b, int d, const float *a, const float *p,
                        bool batch, const uint8_t *mask, const ss_negatives *n, float *da, float *dp,
                        float *work, ss_infonce_result *r);

#endif
