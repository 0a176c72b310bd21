#include "learn/stats.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"

enum { STREAM_BOOTSTRAP = 0x626f6f74, STREAM_SIGNFLIP = 0x666c6970 };

ss_interval ss_wilson(double successes, double n)
{
    static const double z = 1.959963984540054; /* normal quantile at 0.975 */
    if (!(n > 0))
        return (ss_interval){0, 1};
    double p = successes / n, z2 = z * z / n;
    double centre = (p + z2 / 2) / (1 + z2);
    double half = z / (1 + z2) * sqrt(p * (1 - p) / n + z2 / (4 * n));
    ss_interval i = {centre - half, centre + half};
    /* The ends are exact there, and rounding must not pass them. */
    if (i.low < 0 || successes <= 0)
        i.low = 0;
    if (i.high > 1 || successes >= n)
        i.high = 1;
    return i;
}

double ss_mcnemar(uint64_t only_a, uint64_t only_b)
{
    uint64_t n = only_a + only_b, least = only_a < only_b ? only_a : only_b;
    double sum = 0;
    if (n == 0)
        return 1;
    for (uint64_t i = 0; i <= least; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) -
                   (double)n * log(2));
    return fmin(1, 2 * sum);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile of sorted v [n], linear between order statistics. */
static double quantile(const double *v, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? v[i] + (at - (double)i) * (v[i + 1] - v[i]) : v[n - 1];
}

int ss_bootstrap_mean(const double *v, size_t n, int rounds, uint64_t seed, ss_interval *out)
{
    if (n == 0 || n > UINT32_MAX || rounds < 1)
        return SS_EINVAL;
    double *mean = ss_alloc((size_t)rounds, sizeof *mean);
    if (!mean)
        return SS_ENOMEM;
    ss_rng r = ss_rng_make(seed, STREAM_BOOTSTRAP);
    for (int k = 0; k < rounds; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += v[ss_rng_below(&r, (uint32_t)n)];
        mean[k] = sum / (double)n;
    }
    qsort(mean, (size_t)rounds, sizeof *mean, by_value);
    *out = (ss_interval){quantile(mean, (size_t)rounds, 0.025), quantile(mean, (size_t)rounds, 0.975)};
    ss_free(mean);
    return 0;
}

int ss_signflip(const double *d, size_t n, int rounds, uint64_t seed, double *p)
{
    if (n == 0 || rounds < 1)
        return SS_EINVAL;
    double measured = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        measured += d[i];
        size += fabs(d[i]);
    }
    /* Equal means must count as equal although their sums are rounded in another order. */
    double mark = fabs(measured) - 1e-12 * size;
    int64_t far = 1;
    ss_rng r = ss_rng_make(seed, STREAM_SIGNFLIP);
    for (int k = 0; k < rounds; k++) {
        double sum = 0;
        uint32_t bits = 0;
        for (size_t i = 0; i < n; i++) {
            if (i % 32 == 0)
                bits = ss_rng_u32(&r);
            sum += bits >> (i % 32) & 1 ? d[i] : -d[i];
        }
        far += fabs(sum) >= mark;
    }
    *p = (double)far / ((double)rounds + 1);
    return 0;
}

int ss_compare_paired(const double *a, const double *b, size_t n, int rounds, uint64_t seed, ss_paired *out)
{
    *out = (ss_paired){.exact = true};
    double *d = ss_alloc(n, sizeof *d), sum = 0;
    if (!d)
        return SS_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        d[i] = a[i] - b[i];
        sum += d[i];
        out->a_better += d[i] > 0;
        out->b_better += d[i] < 0;
        out->exact &= (a[i] == 0 || a[i] == 1) && (b[i] == 0 || b[i] == 1);
    }
    int rc = ss_bootstrap_mean(d, n, rounds, seed, &out->interval);
    if (rc == 0) {
        out->difference = sum / (double)n;
        if (out->exact)
            out->p = ss_mcnemar(out->a_better, out->b_better);
        else
            rc = ss_signflip(d, n, rounds, seed, &out->p);
    }
    ss_free(d);
    return rc;
}

void ss_mean_deviation(const double *v, size_t n, double *mean, double *deviation)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i];
    *mean = n ? sum / (double)n : NAN;
    for (size_t i = 0; i < n; i++)
        square += (v[i] - *mean) * (v[i] - *mean);
    *deviation = n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}
