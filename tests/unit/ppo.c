#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "learn/ppo.h"
#include "unit.h"

/* Sees one of three inputs on; the action of that number is worth 1, the others nothing. */
static struct toy {
    int right[64], steps[64], limit;
    double always;
    ss_rng r;
} toy;

static void toy_reset(void *arg, int copy)
{
    toy.right[copy] = (int)ss_rng_below(&toy.r, 3);
    toy.steps[copy] = 0;
}

static void toy_see(void *arg, int copy, float *x)
{
    for (int i = 0; i < 3; i++)
        x[i] = i == toy.right[copy];
}

static bool toy_act(void *arg, int copy, int action, double *reward, double *discount)
{
    *reward = toy.always + (action == toy.right[copy]);
    *discount = 0.9;
    toy.right[copy] = (int)ss_rng_below(&toy.r, 3);
    return ++toy.steps[copy] >= toy.limit;
}

static const ss_ppo_task task = {3, 3, NULL, toy_reset, toy_see, toy_act};

static ss_ppo_config quick(void)
{
    ss_ppo_config c = ss_ppo_defaults();
    c.copies = 8;
    c.horizon = 32;
    c.minibatch = 64;
    c.hidden = 16;
    c.rate = 3e-3;
    c.steps = 256 * 60;
    return c;
}

static float right_odds(const ss_ppo *p)
{
    float least = 1;
    for (int i = 0; i < 3; i++) {
        float x[3] = {0}, y[3], work[64], sum = 0;
        x[i] = 1;
        ss_mlp_run(ss_ppo_actor(p), x, y, work);
        for (int k = 0; k < 3; k++)
            sum += expf(y[k] - y[i]);
        least = fminf(least, 1 / sum);
    }
    return least;
}

static ss_ppo *trained(const ss_ppo_config *c, int steps, ss_ppo_report *r)
{
    ss_ppo *p;
    toy.r = ss_rng_make(9, 9);
    ck_assert_int_eq(ss_ppo_open(&p, &task, c, NULL), SS_OK);
    for (int i = 0; i < steps; i++)
        ck_assert_int_eq(ss_ppo_step(p, r, NULL), SS_OK);
    return p;
}

START_TEST(learns)
{
    ss_ppo_config c = quick();
    ss_ppo_report r;
    toy.limit = 20;
    toy.always = -0.5;
    ss_ppo *p = trained(&c, 1, &r);
    ck_assert(right_odds(p) < 0.6F);
    ck_assert(fabs(r.entropy - log(3)) < 0.05 && r.steps == 256);
    ss_ppo_close(&p);
    p = trained(&c, 60, &r);
    ck_assert_msg(right_odds(p) > 0.9F, "%g", (double)right_odds(p));
    ck_assert(r.reward > 0.4 && r.entropy < 0.4);
    /* The same from the same seed, another one from another. */
    ss_ppo *q = trained(&c, 60, &r);
    size_t n = ss_mlp_size(3, 16, 3);
    ck_assert(!memcmp(ss_ppo_actor(p)->w, ss_ppo_actor(q)->w, n * sizeof(float)));
    ss_ppo_close(&q);
    c.seed = 2;
    q = trained(&c, 60, &r);
    ck_assert(memcmp(ss_ppo_actor(p)->w, ss_ppo_actor(q)->w, n * sizeof(float)) != 0);
    ss_ppo_close(&q);
    ss_ppo_close(&p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Rewards of about 1 for ever are worth 1 / (1 - 0.9), however soon the episodes end: over their spread,
 * which is 3 times their root mean square, 3.3. Taken for an end, a limit of 4 steps would leave 0.8 at most.
 */
START_TEST(time_limits)
{
    ss_ppo_config c = quick();
    ss_ppo_report r;
    float x[3] = {1}, v, work[64];
    toy.limit = 4;
    toy.always = 100;
    c.entropy = 0;
    ss_ppo *p = trained(&c, 60, &r);
    ss_mlp_run(ss_ppo_critic(p), x, &v, work);
    ck_assert_msg(fabsf(v - 3.33F) < 0.4F, "%g", (double)v);
    ss_ppo_close(&p);
}
END_TEST

START_TEST(refused)
{
    ss_ppo_config c = quick();
    ss_ppo_report r;
    ss_ppo *p;
    ss_err e;
    toy.limit = 4;
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_ppo_open(&p, &task, &c, &e);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(p);
        ck_assert_uint_eq(ss_mem_used(), 0);
    }
    toy.always = NAN;
    float before = ss_ppo_actor(p)->w[5];
    ck_assert_int_eq(ss_ppo_step(p, &r, &e), SS_EUNFIT);
    ck_assert(ss_ppo_actor(p)->w[5] == before);
    ss_ppo_close(&p);
}
END_TEST

UNIT_MAIN("ppo", learns, time_limits, refused)
