#include "learn/loss.h"

#include <math.h>

#include "base/explog.h"
#include "kernels/kernels.h"

/* Sums over the rows of a matrix of similarities. */
typedef struct sums {
    double loss, positive, negative;
    size_t rows, negatives, top;
} sums;

/* 0, or NaN when any value is not finite: a product with 0 is 0 for finite numbers alone. */
static double poison(const float *s, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        sum += s[i] * 0.0f;
    return (double)sum;
}

/* s [b][n] at row distance ld: -inf where the mask says so, element [i][j] of which is mask[i * mi + j * mj];
 * with `square` the diagonal stays. */
static void strike(float *s, int b, int n, size_t ld, const uint8_t *mask, size_t mi, size_t mj, bool square)
{
    if (!mask)
        return;
    for (int i = 0; i < b; i++)
        for (int j = 0; j < n; j++)
            if (mask[(size_t)i * mi + (size_t)j * mj] && !(square && i == j))
                s[(size_t)i * ld + (size_t)j] = -INFINITY;
}

/*
 * One direction: s [b][n] similarities, -inf where a pair does not count, becomes weight times the gradient
 * of the mean loss. The positive of row i is in column i with `square`, else in column 0.
 */
static void direction(const ss_infonce *o, float weight, int b, int n, bool square, float *s, sums *a)
{
    float by = 1.0f / o->temperature, scale = weight * by / (float)b;
    for (int i = 0; i < b; i++, s += n) {
        int at = square ? i : 0, negatives = 0;
        float positive = s[at], largest = -INFINITY;
        double negative = 0;
        for (int j = 0; j < n; j++)
            if (j != at && s[j] != -INFINITY) {
                negative += (double)s[j];
                negatives++;
                largest = s[j] > largest ? s[j] : largest;
            }
        a->rows++;
        a->positive += (double)positive;
        a->negative += negative;
        a->negatives += (size_t)negatives;
        a->top += positive > largest;
        if (!negatives) {
            for (int j = 0; j < n; j++)
                s[j] = 0.0f;
            continue;
        }
        if (o->decoupled)
            s[at] = -INFINITY;
        else
            largest = positive > largest ? positive : largest;
        double sum = 0;
        for (int j = 0; j < n; j++)
            s[j] = s[j] == -INFINITY ? 0.0f : ss_expf((s[j] - largest) * by);
        for (int j = 0; j < n; j++)
            sum += (double)s[j];
        a->loss += log(sum) + (double)by * ((double)largest - (double)positive);
        float share = scale / (float)sum;
        for (int j = 0; j < n; j++)
            s[j] *= share;
        s[at] -= scale;
    }
}

static void finish(const sums *a, double poisoned, ss_infonce_result *r)
{
    double rows = (double)a->rows;
    r->loss = a->loss / rows + poisoned;
    r->positive = a->positive / rows;
    r->negative = a->negatives ? a->negative / (double)a->negatives : 0.0;
    r->top = (double)a->top / rows;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t ss_infonce_views_work(int b, int d)
{
    size_t gemm = larger(ss_gemm_work(false, true, b, b, d),
                         larger(ss_gemm_work(false, false, b, d, b), ss_gemm_work(true, false, b, d, b)));
    return 2 * (size_t)b * (size_t)b + gemm;
}

void ss_infonce_views(const ss_infonce *o, ss_pool *pool, int b, int d, const float *z1, const float *z2,
                      const uint8_t *mask, float *dz1, float *dz2, float *work, ss_infonce_result *r)
{
    size_t n = (size_t)b;
    float *s = work, *back = s + n * n, *gemm = back + n * n;
    ss_gemm(pool, false, true, b, b, d, z1, d, z2, d, false, s, b, gemm);
    double poisoned = poison(s, n * n);
    strike(s, b, b, n, mask, n, 1, true);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            back[j * n + i] = s[i * n + j];
    sums a = {0};
    direction(o, 0.5f, b, b, true, s, &a);
    direction(o, 0.5f, b, b, true, back, &a);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            s[i * n + j] += back[j * n + i];
    ss_gemm(pool, false, false, b, d, b, s, b, z2, d, false, dz1, d, gemm);
    ss_gemm(pool, true, false, b, d, b, s, b, z1, d, false, dz2, d, gemm);
    finish(&a, poisoned, r);
}

size_t ss_infonce_anchors_work(int b, int d, const ss_negatives *n)
{
    int rows = n->own ? 1 : b;
    size_t gemm = larger(larger(ss_gemm_work(false, true, b, b, d), ss_gemm_work(false, true, 1, 1, d)),
                         larger(ss_gemm_work(false, false, b, d, b), ss_gemm_work(true, false, b, d, b)));
    if (n->k)
        gemm = larger(gemm, larger(ss_gemm_work(false, true, rows, n->k, d),
                                   ss_gemm_work(false, false, rows, d, n->k)));
    return (size_t)b * ((size_t)b + (size_t)n->k) + gemm;
}

void ss_infonce_anchors(const ss_infonce *o, ss_pool *pool, int b, int d, const float *a, const float *p,
                        bool batch, const uint8_t *mask, const ss_negatives *n, float *da, float *dp,
                        float *work, ss_infonce_result *r)
{
    int own = batch ? b : 1, cols = own + n->k; /* columns of positives, and all */
    size_t rows = (size_t)b, dim = (size_t)d, ld = (size_t)cols, k = (size_t)n->k;
    float *s = work, *more = s + own, *gemm = s + rows * (rows + k);
    /* Negatives of each anchor are a product for each; those of all are one. */
    int parts = !n->k ? 0 : n->own ? b : 1, height = n->own ? 1 : b;

    if (batch)
        ss_gemm(pool, false, true, b, b, d, a, d, p, d, false, s, cols, gemm);
    else
        for (size_t i = 0; i < rows; i++)
            ss_gemm(pool, false, true, 1, 1, d, a + i * dim, d, p + i * dim, d, false, s + i * ld, 1, gemm);
    for (size_t i = 0; i < (size_t)parts; i++)
        ss_gemm(pool, false, true, height, n->k, d, a + i * dim, d, n->z + i * k * dim, d, false,
                more + i * ld, cols, gemm);
    double poisoned = poison(s, rows * ld);
    if (batch)
        strike(s, b, b, ld, mask, rows, 1, true);
    strike(more, b, n->k, ld, n->mask, k, 1, false);

    sums t = {0};
    direction(o, 1.0f, b, cols, batch, s, &t);

    if (batch) {
        ss_gemm(pool, false, false, b, d, b, s, cols, p, d, false, da, d, gemm);
        if (dp)
            ss_gemm(pool, true, false, b, d, b, s, cols, a, d, false, dp, d, gemm);
    } else {
        for (size_t i = 0; i < rows; i++) {
            ss_scale(dim, s[i * ld], p + i * dim, da + i * dim);
            if (dp)
                ss_scale(dim, s[i * ld], a + i * dim, dp + i * dim);
        }
    }
    for (size_t i = 0; i < (size_t)parts; i++)
        ss_gemm(pool, false, false, height, d, n->k, more + i * ld, cols, n->z + i * k * dim, d, true,
                da + i * dim, d, gemm);
    finish(&t, poisoned, r);
}
