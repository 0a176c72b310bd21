#include "learn/neighbours.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

void ss_unit_rows(const double *x, size_t n, size_t dim, double *to)
{
    for (size_t i = 0; i < n; i++, x += dim, to += dim) {
        double max = 0, sum = 0;
        for (size_t j = 0; j < dim; j++)
            max = fmax(max, fabs(x[j]));
        /* By the largest first: squares of very small and very large rows stay in range. */
        double by = max > 0 ? 1 / max : 0;
        if (isinf(by))
            by = 0;
        for (size_t j = 0; j < dim; j++) {
            to[j] = x[j] * by;
            sum += to[j] * to[j];
        }
        double scale = sum > 0 ? 1 / sqrt(sum) : 0;
        for (size_t j = 0; j < dim; j++)
            to[j] *= scale;
    }
}

static double dot(const double *a, const double *b, size_t dim)
{
    double s[4] = {0};
    size_t j = 0;
    for (; j + 4 <= dim; j += 4)
        for (int l = 0; l < 4; l++)
            s[l] += a[j + l] * b[j + l];
    for (; j < dim; j++)
        s[0] += a[j] * b[j];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static double square_distance(const double *a, const double *b, size_t dim)
{
    double s[4] = {0};
    size_t j = 0;
    for (; j + 4 <= dim; j += 4)
        for (int l = 0; l < 4; l++)
            s[l] += (a[j + l] - b[j + l]) * (a[j + l] - b[j + l]);
    for (; j < dim; j++)
        s[0] += (a[j] - b[j]) * (a[j] - b[j]);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

int ss_nearest(const double *ref, size_t nref, const double *query, size_t nq, size_t dim, size_t k,
               uint32_t *near)
{
    if (k == 0 || k > nref || nref > UINT32_MAX)
        return SS_EINVAL;
    double *best = ss_alloc(k, sizeof *best);
    if (!best)
        return SS_ENOMEM;
    for (size_t q = 0; q < nq; q++) {
        uint32_t *at = near + q * k;
        size_t have = 0;
        for (size_t i = 0; i < nref; i++) {
            double s = dot(ref + i * dim, query + q * dim, dim);
            if (have == k && s <= best[k - 1])
                continue;
            size_t p = have < k ? have++ : k - 1;
            for (; p > 0 && s > best[p - 1]; p--) {
                best[p] = best[p - 1];
                at[p] = at[p - 1];
            }
            best[p] = s;
            at[p] = (uint32_t)i;
        }
    }
    ss_free(best);
    return 0;
}

uint32_t ss_knn_vote(const uint32_t *near, size_t k, const uint32_t *label, uint32_t classes, uint32_t *votes)
{
    uint32_t best = label[near[0]];
    memset(votes, 0, classes * sizeof *votes);
    for (size_t i = 0; i < k; i++)
        votes[label[near[i]]]++;
    /* In order of nearness, so that of equals the first stays. */
    for (size_t i = 1; i < k; i++)
        if (votes[label[near[i]]] > votes[best])
            best = label[near[i]];
    return best;
}

int ss_silhouette(const double *x, const uint32_t *label, size_t n, size_t dim, uint32_t classes,
                  double *each)
{
    if (n == 0)
        return SS_EINVAL;
    size_t cells;
    if (!ss_mul(classes, dim, &cells))
        return SS_ENOMEM;
    double *sum = ss_zalloc(cells, sizeof *sum);
    size_t *count = ss_zalloc(classes, sizeof *count);
    if (!sum || !count) {
        ss_free(sum);
        ss_free(count);
        return SS_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        count[label[i]]++;
        for (size_t j = 0; j < dim; j++)
            sum[label[i] * dim + j] += x[i * dim + j];
    }
    for (size_t i = 0; i < n; i++) {
        const double *row = x + i * dim;
        double own = 0, other = INFINITY;
        for (uint32_t c = 0; c < classes; c++) {
            if (!count[c])
                continue;
            /* Sum of 1 - x_i x_j over the class; its own term out of it. */
            double d = (double)count[c] - dot(row, sum + c * dim, dim);
            if (c == label[i])
                own = count[c] > 1 ? (d - (1 - dot(row, row, dim))) / (double)(count[c] - 1) : 0;
            else
                other = fmin(other, d / (double)count[c]);
        }
        double most = fmax(own, other);
        bool alone = count[label[i]] < 2 || isinf(other) || !(most > 0);
        each[i] = alone ? 0 : (other - own) / most;
    }
    ss_free(sum);
    ss_free(count);
    return 0;
}

int ss_alignment(const double *x, const uint32_t *group, size_t n, size_t dim, size_t groups, double *out)
{
    size_t cells;
    if (!ss_mul(groups, dim, &cells))
        return SS_ENOMEM;
    double *sum = ss_zalloc(cells, sizeof *sum), *square = ss_zalloc(groups, sizeof *square);
    size_t *count = ss_zalloc(groups, sizeof *count);
    int rc = SS_ENOMEM;
    if (!sum || !square || !count)
        goto out;
    for (size_t i = 0; i < n; i++) {
        double *s = sum + group[i] * dim;
        for (size_t j = 0; j < dim; j++)
            s[j] += x[i * dim + j];
        square[group[i]] += dot(x + i * dim, x + i * dim, dim);
        count[group[i]]++;
    }
    /* Over the pairs of a group: sum ||x_i - x_j||^2 = m sum ||x_i||^2 - ||sum x_i||^2. */
    double total = 0, pairs = 0;
    for (size_t g = 0; g < groups; g++) {
        double m = (double)count[g];
        if (count[g] < 2)
            continue;
        total += fmax(0, m * square[g] - dot(sum + g * dim, sum + g * dim, dim));
        pairs += m * (m - 1) / 2;
    }
    *out = pairs > 0 ? total / pairs : NAN;
    rc = 0;
out:
    ss_free(sum);
    ss_free(square);
    ss_free(count);
    return rc;
}

double ss_uniformity(const double *x, size_t n, size_t dim)
{
    if (n < 2)
        return NAN;
    double total = 0;
    for (size_t i = 1; i < n; i++) {
        double row = 0;
        for (size_t j = 0; j < i; j++)
            row += exp(-2 * square_distance(x + i * dim, x + j * dim, dim));
        total += row;
    }
    return log(total / ((double)n * (double)(n - 1) / 2));
}
