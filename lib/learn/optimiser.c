#include "learn/optimiser.h"

#include <math.h>

#include "kernels/kernels.h"

bool ss_optimiser_step(const ss_optimiser_config *c, ss_pool *pool, uint64_t step, size_t n, float *w,
                       const float *g, float *moment, float *moment2, ss_optimiser_report *r)
{
    double norm = sqrt(ss_sum_squares(n, g));
    float rate = c->rate;
    r->gradient = norm;
    if (!isfinite(norm))
        return false;
    if (step < (uint64_t)c->warmup)
        rate *= (float)step / (float)c->warmup;
    float scale = c->clip > 0 && norm > c->clip ? (float)(c->clip / norm) : 1;
    r->rate = rate;
    if (c->kind == SS_OPTIMISER_ADAM) {
        ss_adam a = {
            .lr = rate, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .grad_scale = scale, .step = step};
        ss_adam_step(&a, pool, n, w, g, moment, moment2);
    } else {
        ss_sgd s = {.lr = rate, .momentum = 0.9f, .grad_scale = scale};
        ss_sgd_step(&s, pool, n, w, g, moment);
    }
    return true;
}
