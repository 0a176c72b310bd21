/**
 * The network of a model in double precision by the shortest way: no packing, no folding, nothing shared with
 * the library but the names of the parameters. What kernels, folding and gradients are held against.
 */
#ifndef SS_TESTS_EXACT_H
#define SS_TESTS_EXACT_H

#include "nn/model.h"

/** Called with the bare output of the convolution of a norm, [channels][pixels]; may be NULL. */
typedef void exact_watch(void *arg, const char *norm, int channels, int pixels, const double *y);

/**
 * One window from a cut to the embedding z [dim], normalised.
 *   value [m->nvalue] in place of the model's own, in [.] of the cut, as on the wire
 */
void exact_run(const ss_model *m, const double *value, int from, const double *in, double *z,
               exact_watch *watch, void *arg);
/** The same to another cut, z as on the wire. */
void exact_run_between(const ss_model *m, const double *value, int from, int until, const double *in,
                       double *z, exact_watch *watch, void *arg);

#endif
