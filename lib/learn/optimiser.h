/**
 * One step of an optimiser over a flat block of weights: warm-up, clipping, and the refusal of what is not
 * finite, the same for every learner.
 *
 * Ownership: arrays are the caller's; `pool` may be NULL. The same bits for any number of threads.
 */
#ifndef SS_LEARN_OPTIMISER_H
#define SS_LEARN_OPTIMISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/pool.h"

typedef enum ss_optimiser {
    SS_OPTIMISER_ADAM = 1, /* beta 0.9, 0.999, eps 1e-8 */
    SS_OPTIMISER_SGD = 2   /* momentum 0.9 */
} ss_optimiser;

typedef struct ss_optimiser_config {
    ss_optimiser kind;
    float rate; /* after the warm-up */
    int warmup; /* steps over which it rises from 0 */
    float clip; /* largest norm of the gradient, 0 = no bound */
} ss_optimiser_config;

typedef struct ss_optimiser_report {
    double gradient; /* norm before clipping */
    double rate;
} ss_optimiser_report;

/**
 * w, g, moment [n], moment2 [n] with Adam (both 0 before the first step); step: its number, from 1.
 * False, and nothing has changed: the norm of the gradient is not finite.
 */
bool ss_optimiser_step(const ss_optimiser_config *c, ss_pool *pool, uint64_t step, size_t n, float *w,
                       const float *g, float *moment, float *moment2, ss_optimiser_report *r);

#endif
