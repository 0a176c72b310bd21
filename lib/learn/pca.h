/**
 * Principal components: the directions in which vectors differ most, by power iteration.
 *
 * For pictures of an embedding: components are found one after the other, each orthogonal to those before, to
 * about six digits where eigenvalues are well apart. Deterministic; a component's sign is such that its
 * largest entry is positive. No state, safe from any thread; reads all of x some dozens of times a component.
 * Source: Golub and Van Loan, Matrix Computations, section 8.2.
 */
#ifndef SS_LEARN_PCA_H
#define SS_LEARN_PCA_H

#include <stddef.h>

#include "../base/err.h"

/**
 * x [n][d], finite, is centred in place. at [n][k]: where each vector lies along the k first components;
 * share [k] (may be NULL): their part of the variance, 0 where nothing is left. SS_EINVAL: n, d or k is 0.
 * SS_ENOMEM.
 */
int ss_pca(float *x, size_t n, size_t d, size_t k, double *at, double *share);

#endif
