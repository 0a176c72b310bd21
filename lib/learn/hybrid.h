/**
 * The hybrid loss of a buffer of embeddings, with its gradient: L = L_task + sw L_SW + laplacian L_Lap.
 *
 * Rows z_i, i < n, come from any number of chains: stretches of sound of one device, in which windows are
 * numbered. s_ij = z_i . z_j, t = temperature.
 *
 * L_task. With P(i) the positives of window i and A(i) all other windows but the masked ones,
 *   l_i = -1/|P(i)| sum over p in P(i) of ln( exp(s_ip / t) / sum over a in A(i) of exp(s_ia / t) )
 * and L_task their mean over the windows that have a positive and a negative (0 when there is none). With one
 * positive that is InfoNCE.
 *   positives   of a window without a label: those of its chain at most `near` numbers away, and where a gap
 *               leaves none on a side, the nearest one on that side that is at most `bridge` away
 *               of a window with a label, all that have the same one, of whatever chain; if there is none,
 *               its neighbours in time as above; one with another label is never a positive
 *   masked      those of its chain less than `apart` numbers away that are no positives: they share sound
 * With labels it is the supervised contrastive loss (L_out), which stands here for a cross-entropy over
 * labels: it is a cross-entropy too, over windows in place of classes, so it needs no weights for the classes
 * which would have to be kept, sent and merged like the network's, and it takes labels that come seldom,
 * late or new.
 *
 * L_SW = d times the squared sliced 2-Wasserstein distance of the rows to the uniform law on the sphere, over
 * `directions` random unit vectors. On a line it is taken to the law itself and not to a sample of it: with
 * sorted projections p_r and m_r the mean of the r-th of n equal parts of the law of one coordinate (density
 * proportional to (1 - x^2)^((d - 3) / 2)), W2^2 = mean (p_r - m_r)^2 + 1/d - mean m_r^2. Uniform rows have
 * about 0, all rows in one point about 2.
 *
 * L_Lap = mean of exp(-|seq_i - seq_j| / span) |z_i - z_j|^2 over the pairs (i, j), j one of the `neighbours`
 * windows of the chain that are nearest to i in number (of equally near ones the earlier first).
 *
 * Rows are constants but for those `present`: only these have a gradient, which is that of the whole loss.
 * Gradients are of the formulas as they stand, to be taken on through the normalisation. A value that is not
 * finite makes the loss not finite and the gradient 0. Sums are in an order fixed by the shapes: the same
 * bits for any number of threads.
 *
 * Ownership: all arrays are the caller's, `work` is of ss_hybrid_work floats; `pool` may be NULL. Nothing
 * allocates.
 * Sources: Quan and Pathirana, StreamSplit, arXiv 2605.26523, eq. 13; van den Oord et al., arXiv 1807.03748,
 * eq. 4; Khosla et al., arXiv 2004.11362, eq. 2; Bonneel et al., "Sliced and Radon Wasserstein barycenters of
 * measures", J. Math. Imaging Vis. 51, 2015; Belkin and Niyogi, "Laplacian eigenmaps", Neural Comput. 15,
 * 2003.
 */
#ifndef SS_LEARN_HYBRID_H
#define SS_LEARN_HYBRID_H

#include <stddef.h>
#include <stdint.h>

#include "../base/pool.h"
#include "../base/rng.h"

typedef struct ss_hybrid {
    float temperature;   /* > 0 */
    float sw, laplacian; /* weights */
    int near, bridge, apart;
    int neighbours;
    float span; /* > 0 */
    int directions;
} ss_hybrid;

/** Temperature 0.1, weights 0.1 and 0.01, near 2, bridge 16, apart 4, neighbours 5, span 5, directions 50. */
void ss_hybrid_default(ss_hybrid *h);

typedef struct ss_hybrid_rows {
    int n, d;               /* n >= 0, d >= 2 */
    const float *z;         /* [n][d], of length 1 */
    const uint32_t *chain;  /* [n]; rows of a chain lie together, */
    const uint64_t *seq;    /* [n], with their numbers ascending */
    const int32_t *label;   /* [n], -1 = none; NULL: nowhere */
    const uint8_t *present; /* [n] */
} ss_hybrid_rows;

typedef struct ss_hybrid_result {
    double loss, task, sw, laplacian;          /* the terms before they are weighted */
    double task_norm, sw_norm, laplacian_norm; /* of their gradients, as they enter the sum */
    double positive, negative;                 /* mean similarities over the windows of the task */
    double top;                                /* share of these whose nearest one is a positive */
    int windows;                               /* of the task: with positive and negative */
} ss_hybrid_result;

/** Floats of scratch for n rows of which `present` are. */
size_t ss_hybrid_work(const ss_hybrid *h, int n, int d, int present);
/** theta [directions][d]: random unit vectors, for one step. */
void ss_hybrid_directions(const ss_hybrid *h, int d, ss_rng *r, float *theta);
/** theta [directions][d]; dz [present][d] is written, in the order of the rows. */
void ss_hybrid_loss(const ss_hybrid *h, ss_pool *pool, const ss_hybrid_rows *rows, const float *theta,
                    float *dz, float *work, ss_hybrid_result *r);

/**
 * mean [n]: of the n equal parts of the law of one coordinate of a uniform point on the sphere in d >= 2
 * dimensions, ascending. In f64, rounded: the reduction formula for the integral of a power of the cosine,
 * solved by Newton's method.
 */
void ss_sphere_means(int d, int n, float *mean);

#endif
