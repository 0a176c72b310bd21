/* The contrastive losses: against their formulas in double precision, finite differences of those, and values
 * of PyTorch (reference_loss.py). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "learn/loss.h"
#include "../unit/unit.h"

#include "reference_loss.h"

/* One case, whatever its form. */
typedef struct form {
    ss_infonce o;
    bool views, batch;
    int b, d;
    const uint8_t *mask;
    ss_negatives n;
} form;

/* Mean loss of one direction in double precision, straight from the formulas. */
static double direction(const form *f, const double *a, const double *p, bool turned)
{
    int b = f->b, d = f->d, k = f->views ? 0 : f->n.k;
    double loss = 0, t = (double)f->o.temperature;
    for (int i = 0; i < b; i++) {
        double positive = 0, sum = 0;
        bool any = false;
        for (int c = 0; c < d; c++)
            positive += a[i * d + c] * p[i * d + c];
        for (int j = 0; j < b; j++) {
            double s = 0;
            if (j == i || !(f->views || f->batch) || (f->mask && f->mask[turned ? j * b + i : i * b + j]))
                continue;
            for (int c = 0; c < d; c++)
                s += a[i * d + c] * p[j * d + c];
            sum += exp((s - positive) / t);
            any = true;
        }
        for (int j = 0; j < k; j++) {
            double s = 0;
            if (f->n.mask && f->n.mask[i * k + j])
                continue;
            const float *z = f->n.z + (f->n.own ? i * k + j : j) * d;
            for (int c = 0; c < d; c++)
                s += a[i * d + c] * (double)z[c];
            sum += exp((s - positive) / t);
            any = true;
        }
        if (any)
            loss += f->o.decoupled ? log(sum) : log1p(sum);
    }
    return loss / b;
}

static double reference(const form *f, const double *x, const double *y)
{
    return f->views ? 0.5 * (direction(f, x, y, false) + direction(f, y, x, true))
                    : direction(f, x, y, false);
}

static void run(const form *f, ss_pool *pool, const float *x, const float *y, float *dx, float *dy,
                ss_infonce_result *r)
{
    size_t n = f->views ? ss_infonce_views_work(f->b, f->d) : ss_infonce_anchors_work(f->b, f->d, &f->n);
    float *work = ss_alloc(n, sizeof *work); /* exactly as much as is asked for, for the sanitizers */
    if (f->views)
        ss_infonce_views(&f->o, pool, f->b, f->d, x, y, f->mask, dx, dy, work, r);
    else
        ss_infonce_anchors(&f->o, pool, f->b, f->d, x, y, f->batch, f->mask, &f->n, dx, dy, work, r);
    ss_free(work);
}

static void rows(ss_rng *r, int n, int d, float *x)
{
    ss_rng_fill_normal(r, x, (size_t)n * (size_t)d);
    for (int i = 0; i < n; i++, x += d) {
        float s = 0;
        for (int c = 0; c < d; c++)
            s += x[c] * x[c];
        for (int c = 0; c < d; c++)
            x[c] /= sqrtf(s);
    }
}

enum { MOST_B = 40, MOST_D = 128, MOST_K = 50 };
static float x[MOST_B * MOST_D], y[MOST_B * MOST_D], z[MOST_B * MOST_K * MOST_D];
static float dx[MOST_B * MOST_D], dy[MOST_B * MOST_D];
static double wide_x[MOST_B * MOST_D], wide_y[MOST_B * MOST_D];
static uint8_t mask[MOST_B * MOST_B], mask_k[MOST_B * MOST_K];

/* Every form at one size; `masked` 0: none, 1: some, 2: all pairs. */
static int forms(form *f, ss_rng *r, int b, int d, int k, float t, int masked)
{
    int n = 0;
    rows(r, b, d, x);
    rows(r, b, d, y);
    rows(r, b * (k ? k : 1), d, z);
    for (int i = 0; i < b * b; i++)
        mask[i] = masked == 2 || ss_rng_below(r, 4) == 0;
    for (int i = 0; i < b * k; i++)
        mask_k[i] = masked == 2 || ss_rng_below(r, 4) == 0;
    for (int i = 0; i < b * d; i++) {
        wide_x[i] = (double)x[i];
        wide_y[i] = (double)y[i];
    }
    for (int kind = 0; kind < 10; kind++) {
        form g = {.o = {t, kind & 1}, .views = kind < 2, .batch = kind < 6, .b = b, .d = d};
        g.n = (ss_negatives){k, kind & 2, z, masked ? mask_k : NULL};
        g.mask = masked ? mask : NULL;
        f[n++] = g;
    }
    return n;
}

START_TEST(gradients_are_differences)
{
    static const int size[][3] = {{1, 3, 2}, {2, 2, 0}, {2, 3, 1}, {5, 4, 3}, {7, 6, 5}};
    ss_rng r = ss_rng_make(1, 1);
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int masked = 0; masked < 3; masked++) {
            form f[10];
            int forms_n = forms(f, &r, size[s][0], size[s][1], size[s][2], s & 1 ? 0.1f : 0.5f, masked);
            for (int i = 0; i < forms_n; i++) {
                int n = f[i].b * f[i].d;
                ss_infonce_result got;
                run(f + i, NULL, x, y, dx, dy, &got);
                ck_assert_double_eq_tol(got.loss, reference(f + i, wide_x, wide_y), 4e-6);
                for (int side = 0; side < 2; side++)
                    for (int j = 0; j < n; j++) {
                        double *w = side ? wide_y : wide_x, at = w[j], h = 1e-4, v[2];
                        w[j] = at + h;
                        v[0] = reference(f + i, wide_x, wide_y);
                        w[j] = at - h;
                        v[1] = reference(f + i, wide_x, wide_y);
                        w[j] = at;
                        ck_assert_double_eq_tol((double)(side ? dy : dx)[j], (v[0] - v[1]) / (2 * h), 2e-5);
                    }
                if (masked == 2 || (f[i].b == 1 && f[i].views)) {
                    ck_assert_double_eq(got.loss, 0);
                    ck_assert_double_eq(got.negative, 0);
                    for (int j = 0; j < n; j++)
                        ck_assert(dx[j] == 0 && dy[j] == 0);
                }
            }
        }
}
END_TEST

START_TEST(values_of_pytorch)
{
    for (size_t i = 0; i < sizeof ref_case / sizeof *ref_case; i++) {
        form f = {.o = {ref_t, ref_case[i].decoupled},
                  .views = ref_case[i].views,
                  .batch = ref_case[i].batch,
                  .b = REF_B,
                  .d = REF_D,
                  .mask = ref_case[i].masked ? ref_mask : NULL};
        if (ref_case[i].kind)
            f.n = (ss_negatives){REF_K, ref_case[i].kind == 2, ref_case[i].kind == 2 ? ref_own : ref_shared,
                                 ref_case[i].masked ? ref_mask_k : NULL};
        ss_infonce_result r;
        run(&f, NULL, ref_x, ref_y, dx, dy, &r);
        ck_assert_double_eq_tol(r.loss, ref_case[i].loss, 2e-6);
        for (int j = 0; j < REF_B * REF_D; j++) {
            ck_assert_double_eq_tol((double)dx[j], (double)ref_case[i].dx[j], 1e-6);
            ck_assert_double_eq_tol((double)dy[j], (double)ref_case[i].dy[j], 1e-6);
        }
    }
}
END_TEST

START_TEST(large_and_threaded)
{
    static float ex[MOST_B * MOST_D], ey[MOST_B * MOST_D];
    ss_pool *pool;
    ck_assert_int_eq(ss_pool_open(&pool, 3, NULL), 0);
    ss_rng r = ss_rng_make(2, 1);
    for (int masked = 0; masked < 2; masked++) {
        form f[10];
        int n = forms(f, &r, MOST_B, MOST_D, MOST_K, 0.1f, masked);
        for (int i = 0; i < n; i++) {
            ss_infonce_result a, b;
            run(f + i, NULL, x, y, dx, dy, &a);
            run(f + i, pool, x, y, ex, ey, &b);
            ck_assert_mem_eq(dx, ex, sizeof dx);
            ck_assert_mem_eq(dy, ey, sizeof dy);
            ck_assert_mem_eq(&a, &b, sizeof a);
            ck_assert_double_eq_tol(a.loss, reference(f + i, wide_x, wide_y), 1e-5);
            if (!f[i].views) { /* constant positives: the anchors' gradient is the same */
                memset(ex, 0, sizeof ex);
                run(f + i, NULL, x, y, ex, NULL, &b);
                ck_assert_mem_eq(dx, ex, sizeof dx);
                ck_assert_mem_eq(&a, &b, sizeof a);
            }
        }
    }
    ss_pool_close(&pool);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(what_is_logged)
{
    /* Similarities 1, 0 with their own positives; 0, 1 with each other's; -1, 0 and 0, -1 with the negatives.
     */
    const float a[4] = {1, 0, 0, 1}, p[4] = {1, 0, -1, 0}, n[4] = {-1, 0, 0, -1};
    form f = {.o = {0.1f, false}, .batch = true, .b = 2, .d = 2, .n = {2, false, n, NULL}};
    ss_infonce_result r;
    run(&f, NULL, a, p, dx, dy, &r);
    ck_assert_double_eq(r.positive, 0.5);
    ck_assert_double_eq(r.negative, (-1 + 0 + -1 + 0 + 0 + -1) / 6.0);
    ck_assert_double_eq(r.top, 0.5); /* 0 is not above 0 */
    f.n.k = 0;
    const uint8_t one[4] = {1, 0, 1, 1};
    f.mask = one;
    run(&f, NULL, a, p, dx, dy, &r);
    ck_assert_double_eq(r.negative, -1);
    ck_assert_double_eq(r.top, 1); /* nothing is above where nothing is */
    f.views = true;
    f.mask = NULL;
    run(&f, NULL, a, p, dx, dy, &r);
    ck_assert_double_eq(r.positive, 0.5);
    ck_assert_double_eq(r.negative, -0.5);
    ck_assert_double_eq(r.top, 0.75);
}
END_TEST

START_TEST(extremes)
{
    ss_rng r = ss_rng_make(3, 1);
    form f[10];
    /* exp(1 / 0.001) is far beyond a float. */
    int n = forms(f, &r, 9, 5, 4, 0.001f, 1);
    for (int i = 0; i < n; i++) {
        ss_infonce_result got;
        run(f + i, NULL, x, y, dx, dy, &got);
        double right = reference(f + i, wide_x, wide_y);
        if (isfinite(right))
            ck_assert_double_eq_tol(got.loss, right, 1e-3);
        ck_assert(isfinite(got.loss));
        for (int j = 0; j < 45; j++)
            ck_assert(isfinite(dx[j]) && isfinite(dy[j]));
    }
    /* What is not finite shows in the loss wherever it is. */
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int masked = 0; masked < 2; masked++) {
        n = forms(f, &r, 4, 3, 2, 0.1f, masked);
        for (int i = 0; i < n; i++)
            for (int at = 0; at < 4 * 3 * 3; at++) {
                float *v = at < 12 ? x + at : at < 24 ? y + at - 12 : z + at - 24, was = *v;
                if (at >= 24 && (f[i].views || (!f[i].n.own && at >= 24 + 6)))
                    continue;
                for (int k = 0; k < 3; k++) {
                    ss_infonce_result got;
                    *v = bad[k];
                    run(f + i, NULL, x, y, dx, dy, &got);
                    ck_assert(!isfinite(got.loss));
                }
                *v = was;
            }
    }
}
END_TEST

UNIT_MAIN("loss", gradients_are_differences, values_of_pytorch, large_and_threaded, what_is_logged, extremes)
