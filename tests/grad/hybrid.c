/* The hybrid loss against the formulas in double precision, finite differences of these, and PyTorch. */
#include <math.h>
#include <string.h>

#include "../unit/unit.h"
#include "base/mem.h"
#include "learn/hybrid.h"
#include "reference_hybrid.h"

enum { MOST_N = 300, MOST_D = 64, MOST_M = 50 };

static float z[MOST_N * MOST_D], dz[MOST_N * MOST_D], theta[MOST_M * MOST_D], part[MOST_N];
static double wide[MOST_N * MOST_D];
static uint32_t chain[MOST_N];
static uint64_t seq[MOST_N];
static int32_t label[MOST_N];
static uint8_t present[MOST_N];

static void normalise(int n, int d, float *x)
{
    for (int i = 0; i < n; i++, x += d) {
        float s = 0;
        for (int c = 0; c < d; c++)
            s += x[c] * x[c];
        for (int c = 0; c < d; c++)
            x[c] /= sqrtf(s);
    }
}

/* Chains of about `length`, with gaps; every third row labelled; about half present. */
static ss_hybrid_rows make(const ss_hybrid *h, ss_rng *r, int n, int d, uint32_t length, bool labels)
{
    ss_rng_fill_normal(r, z, (size_t)n * (size_t)d);
    normalise(n, d, z);
    ss_hybrid_directions(h, d, r, theta);
    for (int i = 0; i < n; i++) {
        bool next = i > 0 && ss_rng_below(r, length) == 0;
        chain[i] = i ? chain[i - 1] + next : 4;
        seq[i] = i && !next ? seq[i - 1] + 1 + (ss_rng_below(r, 4) ? 0 : ss_rng_below(r, 30)) : 100;
        label[i] = ss_rng_below(r, 3) ? -1 : (int32_t)ss_rng_below(r, 3);
        present[i] = ss_rng_below(r, 2) == 0;
        for (int c = 0; c < d; c++)
            wide[i * d + c] = (double)z[i * d + c];
    }
    return (ss_hybrid_rows){n, d, z, chain, seq, labels ? label : NULL, present};
}

static void run(const ss_hybrid *h, ss_pool *pool, const ss_hybrid_rows *b, float *to, ss_hybrid_result *r)
{
    int p = 0;
    for (int i = 0; i < b->n; i++)
        p += b->present[i];
    float *work = ss_alloc(ss_hybrid_work(h, b->n, b->d, p), sizeof *work); /* no more, for the sanitizers */
    ss_hybrid_loss(h, pool, b, theta, to, work, r);
    ss_free(work);
}

static double dot(int d, const double *x, int i, int j)
{
    double s = 0;
    for (int c = 0; c < d; c++)
        s += x[i * d + c] * x[j * d + c];
    return s;
}

static uint64_t apart(int i, int j)
{
    return seq[i] > seq[j] ? seq[i] - seq[j] : seq[j] - seq[i];
}

/* Is j the first present window of the chain of i, on its side? */
static bool next_to(int i, int j)
{
    return chain[i] == chain[j] && (j == i + 1 || j == i - 1);
}

/* 1 positive, 0 negative, -1 neither; word for word as the header has it. */
static int relation(const ss_hybrid *h, const ss_hybrid_rows *b, int i, int j)
{
    int32_t a = b->label ? label[i] : -1, o = b->label ? label[j] : -1;
    bool mate = false;
    for (int k = 0; k < b->n; k++)
        mate = mate || (k != i && a >= 0 && label[k] == a);
    if (mate && o == a)
        return 1;
    if (chain[i] != chain[j])
        return 0;
    bool near = apart(i, j) <= (uint64_t)h->near || (next_to(i, j) && apart(i, j) <= (uint64_t)h->bridge);
    if (near && !mate && (a < 0 || o < 0 || a == o))
        return 1;
    return apart(i, j) < (uint64_t)h->apart ? -1 : 0;
}

static double reference_task(const ss_hybrid *h, const ss_hybrid_rows *b, const double *x)
{
    double loss = 0, t = (double)h->temperature;
    int windows = 0;
    for (int i = 0; i < b->n; i++) {
        double sum = 0, positive = 0;
        int p = 0, n = 0;
        for (int j = 0; j < b->n; j++) {
            int k = j == i ? -1 : relation(h, b, i, j);
            if (k < 0)
                continue;
            sum += exp(dot(b->d, x, i, j) / t);
            positive += k ? dot(b->d, x, i, j) : 0;
            p += k;
            n += !k;
        }
        if (p && n) {
            windows++;
            loss += log(sum) - positive / p / t;
        }
    }
    return windows ? loss / windows : 0;
}

static double reference_sw(const ss_hybrid *h, const ss_hybrid_rows *b, const double *x)
{
    double sum = 0, law = 0;
    ss_sphere_means(b->d, b->n, part);
    for (int k = 0; k < h->directions; k++) {
        double p[MOST_N];
        for (int i = 0; i < b->n; i++) {
            double v = 0;
            int at = i;
            for (int c = 0; c < b->d; c++)
                v += x[i * b->d + c] * (double)theta[k * b->d + c];
            for (; at > 0 && p[at - 1] > v; at--)
                p[at] = p[at - 1];
            p[at] = v;
        }
        for (int i = 0; i < b->n; i++)
            sum += pow(p[i] - (double)part[i], 2) / b->n / h->directions;
    }
    for (int i = 0; i < b->n; i++)
        law += pow((double)part[i], 2) / b->n;
    return b->d * (sum + 1.0 / b->d - law);
}

static double reference_laplacian(const ss_hybrid *h, const ss_hybrid_rows *b, const double *x)
{
    double sum = 0;
    int pairs = 0;
    for (int i = 0; i < b->n; i++) {
        bool taken[MOST_N] = {false};
        for (int k = 0; k < h->neighbours; k++) {
            int best = -1;
            for (int j = 0; j < b->n; j++)
                if (j != i && !taken[j] && chain[j] == chain[i] && (best < 0 || apart(i, j) < apart(i, best)))
                    best = j;
            if (best < 0)
                break;
            taken[best] = true;
            pairs++;
            double far = dot(b->d, x, i, i) + dot(b->d, x, best, best) - 2 * dot(b->d, x, i, best);
            sum += exp(-(double)apart(i, best) / (double)h->span) * far;
        }
    }
    return pairs ? sum / pairs : 0;
}

static double reference(const ss_hybrid *h, const ss_hybrid_rows *b, const double *x)
{
    return reference_task(h, b, x) + (double)h->sw * reference_sw(h, b, x) +
           (double)h->laplacian * reference_laplacian(h, b, x);
}

START_TEST(gradients_are_differences)
{
    static const int size[][3] = {{1, 3, 9}, {2, 2, 9}, {5, 3, 3}, {12, 4, 30}, {17, 6, 5}, {30, 5, 8}};
    ss_rng r = ss_rng_make(1, 1);
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int form = 0; form < 4; form++) {
            ss_hybrid h;
            ss_hybrid_default(&h);
            h.temperature = 0.3f;
            h.directions = 7;
            h.sw = form == 1 ? 0 : 0.7f;
            h.laplacian = form == 1 ? 0 : 0.9f;
            h.neighbours = form == 2 ? 2 : 5;
            ss_hybrid_rows b = make(&h, &r, size[s][0], size[s][1], (uint32_t)size[s][2], form > 1);
            ss_hybrid_result got;
            run(&h, NULL, &b, dz, &got);
            ck_assert_double_eq_tol(got.task, reference_task(&h, &b, wide), 3e-6);
            ck_assert_double_eq_tol(got.sw, reference_sw(&h, &b, wide), 3e-6);
            ck_assert_double_eq_tol(got.laplacian, reference_laplacian(&h, &b, wide), 3e-6);
            ck_assert_double_eq_tol(got.loss, reference(&h, &b, wide), 5e-6);
            const float *g = dz;
            for (int i = 0; i < b.n; i++)
                for (int c = 0; c < b.d && present[i]; c++, g++) {
                    double *w = wide + i * b.d + c, at = *w, step = 1e-6, v[2];
                    *w = at + step;
                    v[0] = reference(&h, &b, wide);
                    *w = at - step;
                    v[1] = reference(&h, &b, wide);
                    *w = at;
                    ck_assert_double_eq_tol((double)*g, (v[0] - v[1]) / (2 * step), 2e-5);
                }
        }
}
END_TEST

START_TEST(values_of_pytorch)
{
    ss_hybrid h = {.temperature = 0.2f, .near = 1, .bridge = 4, .apart = 3, .neighbours = 2, .span = 5};
    ss_hybrid_rows b = {REF_N, REF_D, ref_z, ref_chain, ref_seq, ref_label, present};
    ss_hybrid_result r;
    const float *right[3] = {ref_dtask, ref_dsliced, ref_dlaplacian};
    memset(present, 1, REF_N);
    memcpy(theta, ref_theta, sizeof ref_theta);
    h.directions = REF_M;
    ss_sphere_means(REF_D, REF_N, part);
    for (int i = 0; i < REF_N; i++)
        ck_assert_float_eq_tol(part[i], ref_means[i], 2e-6f);
    static float sum[REF_N * REF_D];
    for (int k = 0; k < 3; k++) { /* the parts, by their weights */
        h.sw = k == 1;
        h.laplacian = k == 2;
        run(&h, NULL, &b, dz, &r);
        if (k == 0)
            memcpy(sum, dz, sizeof sum);
        for (int i = 0; i < REF_N * REF_D; i++)
            ck_assert_float_eq_tol(k ? dz[i] - sum[i] : dz[i], right[k][i], 2e-6f);
    }
    ck_assert_double_eq_tol(r.task, ref_task, 2e-6);
    ck_assert_double_eq_tol(r.sw, ref_sliced, 2e-6);
    ck_assert_double_eq_tol(r.laplacian, ref_laplacian, 2e-6);
    double norm[3] = {0};
    for (int i = 0; i < REF_N * REF_D; i++)
        for (int k = 0; k < 3; k++)
            norm[k] += pow((double)right[k][i], 2);
    ck_assert_double_eq_tol(r.task_norm, sqrt(norm[0]), 1e-5);
    ck_assert_double_eq(r.sw_norm, 0);
    ck_assert_double_eq_tol(r.laplacian_norm, sqrt(norm[2]), 1e-5);
    ck_assert_int_eq(r.windows, 7);
}
END_TEST

START_TEST(the_law_of_a_coordinate)
{
    static float mean[1000];
    /* In three dimensions it is uniform; in two it is that of a sine. */
    ss_sphere_means(3, 1000, mean);
    for (int i = 0; i < 1000; i++)
        ck_assert_float_eq_tol(mean[i], (float)(2 * i + 1) / 1000 - 1, 2e-7f);
    ss_sphere_means(2, 7, mean);
    for (int i = 0; i < 7; i++) {
        double pi = acos(-1), a = (i / 7.0 - 0.5) * pi, e = ((i + 1) / 7.0 - 0.5) * pi;
        ck_assert_double_eq_tol((double)mean[i], (cos(a) - cos(e)) * 7 / pi, 1e-7);
    }
    static const int dims[] = {2, 3, 8, 127, 128, 4096};
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k++)
        for (int n = 1; n <= 1000; n = n * 3 + 1) {
            double square = 0;
            ss_sphere_means(dims[k], n, mean);
            for (int i = 0; i < n; i++) {
                ck_assert(mean[i] == -mean[n - 1 - i]);
                ck_assert(i == 0 || mean[i] > mean[i - 1]);
                square += pow((double)mean[i], 2) / n;
            }
            /* What is left of the variance lies within the parts. */
            ck_assert_double_lt(square, 1.0 / dims[k]);
            if (n > 300)
                ck_assert_double_gt(square, 0.99 / dims[k]);
        }
}
END_TEST

START_TEST(how_far_from_uniform)
{
    ss_hybrid h;
    ss_hybrid_result r;
    ss_hybrid_default(&h);
    ss_rng rng = ss_rng_make(4, 1);
    ss_hybrid_rows b = make(&h, &rng, MOST_N, MOST_D, 100, false);
    run(&h, NULL, &b, dz, &r);
    ck_assert_double_lt(r.sw, 0.1);
    ck_assert_double_gt(r.sw, 0);
    for (int i = 1; i < MOST_N; i++)
        memcpy(z + i * MOST_D, z, MOST_D * sizeof *z);
    run(&h, NULL, &b, dz, &r);
    ck_assert_double_gt(r.sw, 1.4);
    ck_assert_double_eq_tol(r.laplacian, 0, 1e-9);
    ck_assert_double_eq_tol(r.positive, 1, 1e-5);
    ck_assert_double_eq_tol(r.negative, 1, 1e-5);
    /* A step against the gradient spreads them. */
    for (int i = 0, k = 0; i < MOST_N; i++)
        for (int c = 0; c < MOST_D && present[i]; c++, k++)
            z[i * MOST_D + c] -= 200 * dz[k];
    normalise(MOST_N, MOST_D, z);
    double before = r.sw;
    run(&h, NULL, &b, dz, &r);
    ck_assert_double_lt(r.sw, before);
}
END_TEST

START_TEST(large_and_threaded)
{
    static float other[MOST_N * MOST_D];
    ss_pool *pool;
    ss_hybrid h;
    ss_hybrid_default(&h);
    ck_assert_int_eq(ss_pool_open(&pool, 3, NULL), 0);
    ss_rng r = ss_rng_make(2, 1);
    for (int labels = 0; labels < 2; labels++) {
        ss_hybrid_rows b = make(&h, &r, MOST_N, MOST_D, 60, labels);
        ss_hybrid_result one, two;
        run(&h, NULL, &b, dz, &one);
        run(&h, pool, &b, other, &two);
        ck_assert_mem_eq(dz, other, sizeof dz);
        ck_assert_mem_eq(&one, &two, sizeof one);
        ck_assert_double_eq_tol(one.loss, reference(&h, &b, wide), 1e-5);
        ck_assert_int_gt(one.windows, MOST_N * 9 / 10);
        /* Fewer present: the same gradients, less of them. */
        for (int i = 0, k = 0, at = 0; i < MOST_N; i++) {
            if (present[i] && i < MOST_N / 2)
                memcpy(other + k++ * MOST_D, dz + at * MOST_D, MOST_D * sizeof *dz);
            at += present[i];
            present[i] = present[i] && i < MOST_N / 2;
        }
        int left = 0;
        for (int i = 0; i < MOST_N; i++)
            left += present[i];
        run(&h, NULL, &b, dz, &two);
        for (int i = 0; i < left * MOST_D; i++)
            ck_assert_float_eq_tol(dz[i], other[i], 1e-7f);
    }
    ss_pool_close(&pool);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(extremes)
{
    ss_hybrid h;
    ss_hybrid_result r;
    ss_hybrid_default(&h);
    ss_rng rng = ss_rng_make(3, 1);
    ss_hybrid_rows b = make(&h, &rng, 0, 4, 5, true);
    run(&h, NULL, &b, dz, &r);
    ck_assert_double_eq(r.loss, 0);
    h.temperature = 0.001f; /* exp(1 / 0.001) is far beyond a float */
    b = make(&h, &rng, 70, 4, 5, true);
    run(&h, NULL, &b, dz, &r);
    ck_assert(isfinite(r.loss));
    int n = 0;
    for (int i = 0; i < 70; i++)
        n += 4 * present[i];
    for (int i = 0; i < n; i++)
        ck_assert(isfinite(dz[i]));
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++)
        for (int at = 0; at < 280; at += 31) {
            float was = z[at];
            z[at] = bad[k];
            run(&h, NULL, &b, dz, &r);
            ck_assert(!isfinite(r.loss));
            for (int i = 0; i < n; i++)
                ck_assert(dz[i] == 0);
            z[at] = was;
        }
}
END_TEST

UNIT_MAIN("hybrid", gradients_are_differences, values_of_pytorch, the_law_of_a_coordinate,
          how_far_from_uniform, large_and_threaded, extremes)
