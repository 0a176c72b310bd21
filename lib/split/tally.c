#include "tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

enum { DEVICE, SERVER, BYTES, COSINE, RIGHT, KINDS };

int ss_tally_add(ss_tally *t, double device_ms, double server_ms, double bytes, double cosine, double right,
                 ss_err *e)
{
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 256;
        double *p = ss_alloc(KINDS * room, sizeof *p);
        if (!p)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu windows", room);
        for (int k = 0; k < KINDS && t->n; k++)
            memcpy(p + (size_t)k * room, t->value + (size_t)k * t->room, t->n * sizeof *p);
        ss_free(t->value);
        t->value = p;
        t->room = room;
    }
    const double v[KINDS] = {device_ms, server_ms, bytes, cosine, right};
    for (int k = 0; k < KINDS; k++)
        t->value[(size_t)k * t->room + t->n] = v[k];
    t->n++;
    return SS_OK;
}

void ss_tally_clear(ss_tally *t)
{
    ss_free(t->value);
    *t = (ss_tally){0};
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double at_share(const double *sorted, size_t n, double q)
{
    double rank = ceil(q * (double)n - 1e-9);
    return sorted[rank < 1 ? 0 : rank > (double)n ? n - 1 : (size_t)rank - 1];
}

double ss_tally_quantile(double *v, size_t n, double q)
{
    qsort(v, n, sizeof *v, ascending);
    return at_share(v, n, q);
}

static double mean(const double *v, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += v[i];
    return s / (double)n;
}

/* Mean quality below the median of u and from it on; work [n]. */
static void by_u(const double *quality, const double *u, size_t n, double *work, ss_profile_choice *c)
{
    double sum[2] = {0, 0};
    size_t count[2] = {0, 0};
    memcpy(work, u, n * sizeof *work);
    double median = ss_tally_quantile(work, n, 0.5);
    for (size_t i = 0; i < n; i++) {
        int high = u[i] >= median;
        sum[high] += quality[i];
        count[high]++;
    }
    if (count[0] && count[1]) {
        c->u_low = fmax(sum[0] / (double)count[0], 0);
        c->u_high = fmax(sum[1] / (double)count[1], 0);
    }
}

int ss_tally_choice(const ss_tally *t, const double *u, ss_profile_choice *c, ss_err *e)
{
    const size_t n = t->n;
    if (!n)
        return ss_err_set(e, SS_EINVAL, "no window was measured");
    double *work = ss_alloc(n, sizeof *work);
    if (!work)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu windows", n);
    const double *v[KINDS];
    for (int k = 0; k < KINDS; k++)
        v[k] = t->value + (size_t)k * t->room;
    c->u_low = c->u_high = NAN;
    c->probe = mean(v[RIGHT], n);
    if (u)
        by_u(isnan(c->probe) ? v[COSINE] : v[RIGHT], u, n, work, c);
    for (int k = DEVICE; k <= SERVER; k++) {
        ss_profile_ms *ms = k == DEVICE ? &c->device_ms : &c->server_ms;
        memcpy(work, v[k], n * sizeof *work);
        qsort(work, n, sizeof *work, ascending);
        *ms = (ss_profile_ms){work[0], at_share(work, n, 0.5), at_share(work, n, 0.95)};
    }
    memcpy(work, v[BYTES], n * sizeof *work);
    qsort(work, n, sizeof *work, ascending);
    c->bytes = (ss_profile_bytes){.mean = mean(work, n),
                                  .min = work[0],
                                  .p5 = at_share(work, n, 0.05),
                                  .median = at_share(work, n, 0.5),
                                  .p95 = at_share(work, n, 0.95),
                                  .max = work[n - 1]};
    /* Sums round: the mean of equal values is one of them. */
    c->bytes.mean = fmin(fmax(c->bytes.mean, c->bytes.min), c->bytes.max);
    memcpy(work, v[COSINE], n * sizeof *work);
    c->cosine_p5 = ss_tally_quantile(work, n, 0.05);
    c->cosine_mean = fmin(mean(work, n), 1);
    ss_free(work);
    return SS_OK;
}

/* Share of sorted [n] that is less than x, and half of what is equal. */
static double rank(const double *sorted, size_t n, double x)
{
    size_t bound[2];
    for (int equal = 0; equal < 2; equal++) {
        size_t low = 0, high = n;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (sorted[middle] < x || (equal && sorted[middle] == x))
                low = middle + 1;
            else
                high = middle;
        }
        bound[equal] = low;
    }
    return (double)(bound[0] + bound[1]) / 2 / (double)n;
}

double ss_tally_drift(const double *u, const bool *first, size_t n, double *work)
{
    double a = 0, b = 0, aa = 0, bb = 0, ab = 0;
    size_t pairs = 0;
    memcpy(work, u, n * sizeof *work);
    qsort(work, n, sizeof *work, ascending);
    for (size_t i = 1; i < n; i++) {
        if (first[i])
            continue;
        double x = rank(work, n, u[i - 1]), y = rank(work, n, u[i]);
        a += x, b += y, aa += x * x, bb += y * y, ab += x * y;
        pairs++;
    }
    double m = (double)pairs, spread = (aa - a * a / m) * (bb - b * b / m);
    return pairs < 8 || !(spread > 1e-12 * m * m) ? NAN : fmin(fmax((ab - a * b / m) / sqrt(spread), 0), 1);
}

double ss_tally_cosine(const float *a, const float *b, size_t n)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    if (!(aa > 0) || !(bb > 0))
        return aa == bb;
    double c = ab / sqrt(aa * bb);
    return c > 1 ? 1 : c < -1 ? -1 : c;
}
