/**
 * What was measured of one choice of a cut and a codec, window by window, and what a profile says of it.
 *
 * Quantiles are values that were measured: the least one that a share of them does not pass.
 * Ownership: a tally owns its numbers; start from {0}, release with ss_tally_clear. One thread.
 */
#ifndef SS_SPLIT_TALLY_H
#define SS_SPLIT_TALLY_H

#include <stdbool.h>
#include <stddef.h>

#include "../base/err.h"
#include "profile.h"

typedef struct ss_tally {
    size_t n, room;
    double *value; /* [5][room]: device ms, server ms, bytes, cosine, right */
} ss_tally;

/** All finite, times and bytes not negative; right is 1 where the probe named the window's class, 0 where it
 * did not, and NaN where nobody asked it. SS_ENOMEM. */
int ss_tally_add(ss_tally *t, double device_ms, double server_ms, double bytes, double cosine, double right,
                 ss_err *e);
void ss_tally_clear(ss_tally *t);

/** Share q in [0, 1] of v [n], n > 0, which is sorted for it. */
double ss_tally_quantile(double *v, size_t n, double q);

/**
 * Times, bytes, cosines and the probe's accuracy (NaN when it was not asked of every window) into *c, whose
 * cut and codec stay. u [t->n] or NULL: the uncertainty of the same windows; then u_low and u_high are the
 * accuracies, or without one the mean cosines, of those below its median and the others, if both are there;
 * else NaN. SS_EINVAL: nothing was added. SS_ENOMEM.
 */
int ss_tally_choice(const ss_tally *t, const double *u, ss_profile_choice *c, ss_err *e);

/**
 * How much of a window's uncertainty is left in the next one: the correlation of the ranks of u [n] over
 * neighbours, of which i follows i - 1 unless first[i]. At least 0. NaN when there are fewer than 8 pairs or
 * all u are the same. work [n].
 */
double ss_tally_drift(const double *u, const bool *first, size_t n, double *work);

/** Scalar product of a and b [n] over their lengths, within -1 .. 1; of a vector of length 0: 0, 1 if both
 * are. */
double ss_tally_cosine(const float *a, const float *b, size_t n);

#endif
