/* The loss of a policy's update: against its formula in double precision, and its gradient against finite
 * differences of that. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "learn/ppo.h"
#include "../unit/unit.h"

enum { N = 24, IN = 5, HIDDEN = 6, OUT = 4 };

static struct {
    float x[N * IN], logp[N], advantage[N], target[N];
    int action[N];
    double w[1024];
    size_t actor, size;
} g;

/* out [n] of one row through the network whose weights begin at w. */
static void network(const double *w, int n, const float *x, double *out)
{
    double one[HIDDEN], two[HIDDEN];
    for (int i = 0; i < HIDDEN; i++) {
        one[i] = w[HIDDEN * IN + i];
        for (int k = 0; k < IN; k++)
            one[i] += w[i * IN + k] * (double)x[k];
        one[i] = tanh(one[i]);
    }
    w += HIDDEN * IN + HIDDEN;
    for (int i = 0; i < HIDDEN; i++) {
        two[i] = w[HIDDEN * HIDDEN + i];
        for (int k = 0; k < HIDDEN; k++)
            two[i] += w[i * HIDDEN + k] * one[k];
        two[i] = tanh(two[i]);
    }
    w += HIDDEN * HIDDEN + HIDDEN;
    for (int i = 0; i < n; i++) {
        out[i] = w[n * HIDDEN + i];
        for (int k = 0; k < HIDDEN; k++)
            out[i] += w[i * HIDDEN + k] * two[k];
    }
}

static double reference(const ss_ppo_config *c, const double *w, double *nearest)
{
    double loss = 0;
    *nearest = 1;
    for (int i = 0; i < N; i++) {
        double y[OUT], sum = 0, entropy = 0, v, a = (double)g.advantage[i];
        network(w, OUT, g.x + i * IN, y);
        network(w + g.actor, 1, g.x + i * IN, &v);
        for (int k = 0; k < OUT; k++)
            sum += exp(y[k]);
        for (int k = 0; k < OUT; k++)
            entropy -= exp(y[k]) / sum * (y[k] - log(sum));
        double r = exp(y[g.action[i]] - log(sum) - (double)g.logp[i]);
        double held = fmin(fmax(r, 1 - c->clip), 1 + c->clip);
        loss += (-fmin(r * a, held * a) - c->entropy * entropy +
                 c->value * (v - (double)g.target[i]) * (v - (double)g.target[i]) / 2) /
                N;
        *nearest = fmin(*nearest, fmin(fabs(r - 1 - c->clip), fabs(r - 1 + c->clip)));
    }
    return loss;
}

START_TEST(gradients)
{
    ss_ppo_config c = ss_ppo_defaults();
    c.entropy = 0.3; /* so that an error in it shows */
    g.actor = ss_mlp_size(IN, HIDDEN, OUT);
    g.size = g.actor + ss_mlp_size(IN, HIDDEN, 1);
    int clipped = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        ss_rng r = ss_rng_make(seed, 0);
        float w[1024], gradient[1024];
        ss_rng_fill_normal(&r, w, g.size);
        for (size_t i = 0; i < g.size; i++)
            g.w[i] = (double)(w[i] *= 0.5F);
        ss_rng_fill_normal(&r, g.x, N * IN);
        ss_rng_fill_normal(&r, g.advantage, N);
        ss_rng_fill_normal(&r, g.target, N);
        for (int i = 0; i < N; i++) {
            double y[OUT], sum = 0;
            g.action[i] = (int)ss_rng_below(&r, OUT);
            network(g.w, OUT, g.x + i * IN, y);
            for (int k = 0; k < OUT; k++)
                sum += exp(y[k]);
            double off = 0.3 * (double)ss_rng_normal(&r); /* so that some ratios are beyond the clip */
            g.logp[i] = (float)(y[g.action[i]] - log(sum) + off);
            clipped += fabs(expm1(-off)) > c.clip;
        }
        ss_mlp actor = {IN, HIDDEN, OUT, w}, critic = {IN, HIDDEN, 1, w + g.actor};
        ss_ppo_batch b = {N, g.x, g.action, g.logp, g.advantage, g.target};
        float *work = ss_alloc(ss_ppo_work(N, IN, HIDDEN, OUT), sizeof *work);
        ss_ppo_loss l = ss_ppo_gradient(&actor, &critic, &b, &c, gradient, work);
        ss_free(work);
        double nearest, exact = reference(&c, g.w, &nearest);
        ck_assert_msg(nearest > 1e-5, "seed %d lies on the clip", (int)seed);
        ck_assert_double_eq_tol(l.total, exact, 1e-5 * fmax(1, fabs(exact)));
        for (size_t i = 0; i < g.size; i++) {
            double h = 1e-6, was = g.w[i], ignored;
            g.w[i] = was + h;
            double up = reference(&c, g.w, &ignored);
            g.w[i] = was - h;
            double down = reference(&c, g.w, &ignored);
            g.w[i] = was;
            double d = (up - down) / (2 * h);
            ck_assert_msg(fabs((double)gradient[i] - d) < 1e-5 + 1e-4 * fabs(d),
                          "seed %d, weight %zu: %.8g, expected %.8g", (int)seed, i, (double)gradient[i], d);
        }
    }
    ck_assert_int_gt(clipped, 20);
}
END_TEST

UNIT_MAIN("ppo", gradients)
