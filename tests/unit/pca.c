#include "learn/pca.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "unit.h"

enum { N = 500, D = 40 };

static float x[N * D];
static double at[N * 3], share[3];

/* Deviations 9, 4 and 1 along three orthogonal directions, somewhere in D dimensions, and a little noise. */
static void fill(void)
{
    ss_rng r = ss_rng_make(3, 0);
    for (int i = 0; i < N; i++) {
        float a = 9 * ss_rng_normal(&r), b = 4 * ss_rng_normal(&r), c = ss_rng_normal(&r);
        for (int j = 0; j < D; j++)
            x[i * D + j] = 100.0f + (float)j + 0.01f * ss_rng_normal(&r);
        x[i * D + 3] += 0.6f * a;
        x[i * D + 17] += 0.8f * a;
        x[i * D + 5] += b;
        x[i * D + 39] -= c;
    }
}

static double correlation(int c, const float *direction)
{
    double aa = 0, bb = 0, ab = 0;
    for (int i = 0; i < N; i++) {
        double b = 0;
        for (int j = 0; j < D; j++)
            b += (double)x[i * D + j] * (double)direction[j]; /* x is centred by now */
        aa += at[i * 3 + c] * at[i * 3 + c];
        bb += b * b;
        ab += at[i * 3 + c] * b;
    }
    return ab / sqrt(aa * bb);
}

START_TEST(directions)
{
    fill();
    ck_assert_int_eq(ss_pca(x, N, D, 3, at, share), SS_OK);
    ck_assert_double_gt(correlation(0, (float[D]){[3] = 0.6f, [17] = 0.8f}), 0.9999);
    ck_assert_double_gt(correlation(1, (float[D]){[5] = 1}), 0.999);
    ck_assert_double_gt(correlation(2, (float[D]){[39] = 1}), 0.99);
    ck_assert_double_eq_tol(share[0], 81.0 / 98, 0.05);
    ck_assert_double_eq_tol(share[1], 16.0 / 98, 0.04);
    ck_assert_double_eq_tol(share[0] + share[1] + share[2], 1, 1e-3);
    /* What lies along different components does not go together. */
    double ab = 0;
    for (int i = 0; i < N; i++)
        ab += at[i * 3] * at[i * 3 + 1] / N;
    ck_assert_double_lt(fabs(ab), 1e-3 * 9 * 4);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(little)
{
    float same[3 * 2] = {1, 2, 1, 2, 1, 2}, line[3 * 1] = {1, 2, 6};
    ck_assert_int_eq(ss_pca(same, 3, 2, 2, at, share), SS_OK);
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq(at[i], 0);
    ck_assert_double_eq(share[0], 0);
    /* More components than dimensions: the rest is nothing. */
    ck_assert_int_eq(ss_pca(line, 3, 1, 2, at, share), SS_OK);
    ck_assert_double_eq_tol(at[0], -2, 1e-6);
    ck_assert_double_eq_tol(at[4], 3, 1e-6);
    ck_assert_double_eq(at[1], 0);
    ck_assert_double_eq_tol(share[0], 1, 1e-9);
    ck_assert_double_eq(share[1], 0);
    ck_assert_int_eq(ss_pca(line, 0, 1, 2, at, NULL), SS_EINVAL);
    ck_assert_int_eq(ss_pca(line, 3, 0, 2, at, NULL), SS_EINVAL);
    ck_assert_int_eq(ss_pca(line, 3, 1, 0, at, NULL), SS_EINVAL);
    ss_mem_limit(1);
    ck_assert_int_eq(ss_pca(line, 3, 1, 2, at, NULL), SS_ENOMEM);
}
END_TEST

UNIT_MAIN("pca", directions, little)
