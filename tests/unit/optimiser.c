#include <math.h>
#include <string.h>

#include "learn/optimiser.h"
#include "unit.h"

START_TEST(steps)
{
    ss_optimiser_config c = {SS_OPTIMISER_SGD, 0.5f, 0, 0};
    ss_optimiser_report r;
    float w[2] = {1, 2}, g[2] = {3, 4}, m[2] = {0}, v[2] = {0};
    ck_assert(ss_optimiser_step(&c, NULL, 1, 2, w, g, m, NULL, &r));
    ck_assert_double_eq(r.gradient, 5);
    ck_assert_double_eq(r.rate, 0.5);
    ck_assert(w[0] == -0.5f && w[1] == 0.0f);
    ck_assert(
        ss_optimiser_step(&c, NULL, 2, 2, w, g, m, NULL, &r)); /* momentum 0.9: 1.9 times the gradient */
    ck_assert_float_eq_tol(w[0], -0.5f - 0.5f * 1.9f * 3, 1e-6f);

    /* Clipped to length 1, at a tenth of the rate. */
    c.clip = 1;
    c.warmup = 10;
    memset(m, 0, sizeof m);
    w[0] = w[1] = 0;
    ck_assert(ss_optimiser_step(&c, NULL, 1, 2, w, g, m, NULL, &r));
    ck_assert_double_eq_tol(r.rate, 0.05, 1e-8);
    ck_assert_double_eq(r.gradient, 5);
    ck_assert_float_eq_tol(w[0], -0.03f, 1e-7f);
    ck_assert_float_eq_tol(w[1], -0.04f, 1e-7f);

    /* The first step of Adam is as long as the rate in each. */
    c = (ss_optimiser_config){SS_OPTIMISER_ADAM, 0.01f, 0, 0};
    memset(m, 0, sizeof m);
    w[0] = w[1] = 0;
    g[1] = -1e-3f;
    ck_assert(ss_optimiser_step(&c, NULL, 1, 2, w, g, m, v, &r));
    ck_assert_float_eq_tol(w[0], -0.01f, 1e-6f);
    ck_assert_float_eq_tol(w[1], 0.01f, 1e-6f);
}
END_TEST

START_TEST(what_is_not_finite_is_refused)
{
    for (int adam = 0; adam < 2; adam++)
        for (int k = 0; k < 3; k++) {
            const float bad[3] = {NAN, INFINITY, 3e38f}; /* the square of the last one overflows */
            ss_optimiser_config c = {adam ? SS_OPTIMISER_ADAM : SS_OPTIMISER_SGD, 1, 0, 1};
            ss_optimiser_report r;
            float w[2] = {1, 2}, g[2] = {0, bad[k]}, m[2] = {0.5f, 0.5f}, v[2] = {0.25f, 0.25f};
            ck_assert(!ss_optimiser_step(&c, NULL, 1, 2, w, g, m, v, &r));
            ck_assert(w[0] == 1 && w[1] == 2 && m[1] == 0.5f && v[1] == 0.25f);
        }
}
END_TEST

UNIT_MAIN("optimiser", steps, what_is_not_finite_is_refused)
