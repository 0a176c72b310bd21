#include "pca.h"

#include <math.h>

#include "../base/mem.h"
#include "../base/rng.h"

enum { MOST_ROUNDS = 300 };

static double dot(size_t d, const double *a, const double *b)
{
    double s = 0;
    for (size_t i = 0; i < d; i++)
        s += a[i] * b[i];
    return s;
}

static double length(size_t d, const double *a)
{
    return sqrt(dot(d, a, a));
}

/* Total variance times n. */
static double centre(float *x, size_t n, size_t d)
{
    double total = 0;
    for (size_t j = 0; j < d; j++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += (double)x[i * d + j];
        mean /= (double)n;
        for (size_t i = 0; i < n; i++) {
            x[i * d + j] = (float)((double)x[i * d + j] - mean);
            total += (double)x[i * d + j] * (double)x[i * d + j];
        }
    }
    return total;
}

static double along(const float *x, size_t d, const double *v)
{
    double s = 0;
    for (size_t j = 0; j < d; j++)
        s += (double)x[j] * v[j];
    return s;
}

/* Less what lies along the components before; its length, which becomes 1. */
static double clean(size_t d, double *v, const double *before, size_t count)
{
    for (size_t c = 0; c < count; c++) {
        double s = dot(d, v, before + c * d);
        for (size_t j = 0; j < d; j++)
            v[j] -= s * before[c * d + j];
    }
    double norm = length(d, v);
    for (size_t j = 0; j < d && norm > 0; j++)
        v[j] /= norm;
    return norm;
}

/* Component c into v [c][d]; w [d] is scratch. Its variance times n. */
static double component(const float *x, size_t n, size_t d, double *v, size_t c, double *w, double total)
{
    double *u = v + c * d, eigen = 0;
    ss_rng r = ss_rng_make(1, c);
    for (size_t j = 0; j < d; j++)
        u[j] = (double)ss_rng_normal(&r);
    clean(d, u, v, c);
    for (int round = 0; round < MOST_ROUNDS; round++) {
        for (size_t j = 0; j < d; j++)
            w[j] = 0;
        for (size_t i = 0; i < n; i++) {
            double s = along(x + i * d, d, u);
            for (size_t j = 0; j < d; j++)
                w[j] += s * (double)x[i * d + j];
        }
        eigen = clean(d, w, v, c);
        double moved = 1 - fabs(dot(d, u, w));
        if (!(eigen > total * 1e-12))
            return 0;
        for (size_t j = 0; j < d; j++)
            u[j] = w[j];
        if (moved < 1e-13)
            break;
    }
    size_t top = 0;
    for (size_t j = 1; j < d; j++)
        top = fabs(u[j]) > fabs(u[top]) ? j : top;
    double sign = u[top] < 0 ? -1 : 1;
    for (size_t j = 0; j < d; j++)
        u[j] *= sign;
    return eigen;
}

int ss_pca(float *x, size_t n, size_t d, size_t k, double *at, double *share)
{
    if (!n || !d || !k)
        return SS_EINVAL;
    double *v = ss_zalloc((k + 1) * d, sizeof *v);
    if (!v)
        return SS_ENOMEM;
    double total = centre(x, n, d);
    for (size_t c = 0; c < k; c++) {
        double eigen = c < d && total > 0 ? component(x, n, d, v, c, v + k * d, total) : 0;
        for (size_t j = 0; j < d && !(eigen > 0); j++)
            v[c * d + j] = 0;
        for (size_t i = 0; i < n; i++)
            at[i * k + c] = along(x + i * d, d, v + c * d);
        if (share)
            share[c] = total > 0 ? eigen / total : 0;
    }
    ss_free(v);
    return SS_OK;
}
