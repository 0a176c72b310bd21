/**
 * The linear probe: multinomial logistic regression with L2 on features standardised by the training items.
 *
 * It minimises, over W [classes][dim] and b [classes],
 *     C * sum_i -ln softmax(W z_i + b)[y_i] + ||W||^2 / 2,    z = (x - mean) / deviation,
 * b free of penalty: C means what it does in scikit-learn. A feature whose deviation over the training items
 * is 0 (or below 1e-12 of its size) does not take part. Solver: L-BFGS (10 pairs, preconditioned by one
 * weighted covariance for all classes) with a weak Wolfe line search, in double precision, sums in one fixed
 * order. Sources: Liu and Nocedal, Math. Programming 45 (1989) 503; Lewis and Overton, Math. Programming 141
 * (2013) 135 (line search).
 *
 * Inputs are borrowed. Safe from several threads. Errors: SS_EINVAL (no items, fewer than two classes in the
 * table, a label outside it), SS_EUNFIT (a value that is not finite; fewer than two classes among the items),
 * SS_ENOMEM.
 */
#ifndef SS_LEARN_PROBE_H
#define SS_LEARN_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

/** Labelled items: x [n][dim], label [n] < classes. Borrowed. */
typedef struct ss_labelled {
    const double *x;
    const uint32_t *label;
    size_t n, dim;
    uint32_t classes;
} ss_labelled;

typedef struct ss_probe {
    size_t dim;
    uint32_t classes;
    double strength; /* C */
    double *mean;    /* [dim] of the training items */
    double *scale;   /* [dim] 1 / deviation (divisor n), 0 = left out */
    double *weight;  /* [classes][dim], on standardised features */
    double *bias;    /* [classes] */
    int iterations;
    bool converged; /* no component of the gradient of the sum above, over n C, exceeds 1e-7 */
} ss_probe;

/** Values of C that ss_probe_grid tries, strongest penalty first. */
enum { SS_PROBE_GRID = 11 };
extern const double ss_probe_strengths[SS_PROBE_GRID]; /* 10^-4, 10^-3.5 ... 10 */

/** Mean and 1 / deviation (divisor n, 0 for a constant one) of every feature over the rows [n] of d; mean,
 * scale [dim]. */
void ss_standardise(const ss_labelled *d, const uint32_t *rows, size_t n, double *mean, double *scale);

/**
 * Fit on the rows [n] of d. Classes absent from the rows get what the penalty leaves them. Release with
 * ss_probe_clear, also after an error.
 */
int ss_probe_fit(ss_probe *p, const ss_labelled *d, const uint32_t *rows, size_t n, double strength,
                 ss_err *e);

/** Probabilities [classes] of one x [dim]; returns the most probable class (of equals the first). */
uint32_t ss_probe_predict(const ss_probe *p, const double *x, double *probability);

/**
 * Fit on the rows [n] with every strength of the grid, each from where the one before ended, and try it on
 * the rows test [ntest] of d.
 *   right [SS_PROBE_GRID][ntest]  1 where the class is right
 */
int ss_probe_grid(const ss_labelled *d, const uint32_t *rows, size_t n, const uint32_t *test, size_t ntest,
                  uint8_t *right, ss_err *e);

/**
 * Fit on all rows of d with a strength of the grid: that with most right answers on the rows for which held
 * [d->n] is true when it is fitted on the others; of equals the strongest penalty. Release as above.
 */
int ss_probe_choose(ss_probe *p, const ss_labelled *d, const bool *held, ss_err *e);

void ss_probe_clear(ss_probe *p);

#endif
