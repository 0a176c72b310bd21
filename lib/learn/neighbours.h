/**
 * What the geometry of an embedding says by itself: nearest neighbours, k-NN, precision, silhouette,
 * alignment, uniformity. Everything is on directions: rows are scaled to unit length first (a row of zeros
 * stays so, and has similarity 0 to all). Inputs are borrowed; double precision throughout; no state.
 * Errors: SS_ENOMEM, SS_EINVAL (no rows).
 */
#ifndef SS_LEARN_NEIGHBOURS_H
#define SS_LEARN_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

/** to [n][dim] = rows of x [n][dim] at unit length (1 / 0 rows stay 0). to may be x. */
void ss_unit_rows(const double *x, size_t n, size_t dim, double *to);

/**
 * The k nearest of ref [nref][dim] to each of query [nq][dim] by cosine, nearest first, equal ones by index.
 *   near [nq][k]  indices into ref
 * Both sets must be of unit rows. SS_EINVAL when k is 0 or more than nref.
 */
int ss_nearest(const double *ref, size_t nref, const double *query, size_t nq, size_t dim, size_t k,
               uint32_t *near);

/**
 * Vote of near [k] (nearest first) by label [nref]: the class with most of them; of equals, the class of the
 * nearest.
 *   votes [classes]  scratch
 */
uint32_t ss_knn_vote(const uint32_t *near, size_t k, const uint32_t *label, uint32_t classes,
                     uint32_t *votes);

/**
 * Silhouette by cosine distance of unit rows x [n][dim], label [n] < classes.
 *   each [n]  (b - a) / max(a, b): a = mean distance to the others of the own class, b = least of the mean
 *             distances to the other classes present; 0 where the class has one row or is the only one
 * The sums of the unit rows of each class give the means: cost n * classes * dim.
 * Source: Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53.
 */
int ss_silhouette(const double *x, const uint32_t *label, size_t n, size_t dim, uint32_t classes,
                  double *each);

/**
 * Of unit rows x [n][dim]; lower is better for both. Source: Wang and Isola, ICML 2020, alpha = 2, t = 2.
 * Alignment: mean of ||x_i - x_j||^2 over all pairs of rows of the same group [n] < groups; NaN without one.
 * Uniformity: ln of the mean of exp(-2 ||x_i - x_j||^2) over all pairs of rows; NaN for n < 2.
 */
int ss_alignment(const double *x, const uint32_t *group, size_t n, size_t dim, size_t groups, double *out);
double ss_uniformity(const double *x, size_t n, size_t dim);

#endif
