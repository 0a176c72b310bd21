#include "learn/hybrid.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/explog.h"
#include "kernels/kernels.h"

enum { ANCHORS = 64 }; /* rows whose similarities are held at once */

/* Of a candidate for an anchor. */
enum { NEGATIVE, POSITIVE, MASKED };

typedef struct item {
    uint32_t key, row;
} item;

typedef struct scratch {
    float *s;           /* [ANCHORS][n] similarities, then the gradient at them */
    float *columns;     /* [ANCHORS][present] of these */
    float *term;        /* [present][d] gradient of one term */
    float *side;        /* [n][directions] */
    float *coefficient; /* [present][directions] */
    float *mean;        /* [n] */
    int32_t *place;     /* [n]: number among the present ones, or -1 */
    item *sorted;       /* [2][n] */
    uint8_t *kind;      /* [n] */
    float *gemm;
} scratch;

void ss_hybrid_default(ss_hybrid *h)
{
    *h = (ss_hybrid){.temperature = 0.1f,
                     .sw = 0.1f,
                     .laplacian = 0.01f,
                     .near = 2,
                     .bridge = 16,
                     .apart = 4,
                     .neighbours = 5,
                     .span = 5,
                     .directions = 50};
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t gemm_work(const ss_hybrid *h, int n, int d, int present)
{
    const int block[2] = {n < ANCHORS ? n : ANCHORS, n % ANCHORS}; /* and the last one */
    size_t most = 0;
    for (int i = 0; i < 2; i++)
        if (block[i] > 0) {
            most = larger(most, ss_gemm_work(false, true, block[i], n, d));
            if (present)
                most = larger(most, ss_gemm_work(true, false, present, d, block[i]));
        }
    if (n)
        most = larger(most, larger(ss_gemm_work(false, false, 1, d, n),
                                   ss_gemm_work(false, true, n, h->directions, d)));
    return present ? larger(most, ss_gemm_work(false, false, present, d, h->directions)) : most;
}

/* A part of `work`, or nothing but its size. */
static void *lay(float *work, size_t *at, size_t floats)
{
    float *part = work ? work + *at : NULL;
    *at += (floats + 15) / 16 * 16;
    return part;
}

/* Lays out `work` (NULL: not yet) and returns its floats. */
static size_t carve(scratch *s, const ss_hybrid *h, int rows, int dim, int present, float *work)
{
    size_t n = (size_t)rows, d = (size_t)dim, p = (size_t)present, m = (size_t)h->directions, at = 0;
    s->s = lay(work, &at, ANCHORS * n);
    s->columns = lay(work, &at, ANCHORS * p);
    s->term = lay(work, &at, p * d);
    s->side = lay(work, &at, n * m);
    s->coefficient = lay(work, &at, p * m);
    s->mean = lay(work, &at, n);
    s->place = lay(work, &at, n);
    s->sorted = lay(work, &at, 2 * n * sizeof(item) / sizeof(float));
    s->kind = lay(work, &at, n / sizeof(float) + 1);
    s->gemm = lay(work, &at, gemm_work(h, rows, dim, present));
    return at;
}

size_t ss_hybrid_work(const ss_hybrid *h, int n, int d, int present)
{
    scratch s;
    return carve(&s, h, n, d, present, NULL);
}

/* ---- task ---- */

static bool mates(const ss_hybrid_rows *b, int i, int j)
{
    return !b->label || b->label[i] < 0 || b->label[j] < 0 || b->label[i] == b->label[j];
}

/* Positives and masked ones on one side of i in time. */
static int look(const ss_hybrid *h, const ss_hybrid_rows *b, int i, int step, bool label, uint8_t *kind)
{
    int found = 0, reach = h->near > h->apart - 1 ? h->near : h->apart - 1;
    for (int j = i + step, first = 1; j >= 0 && j < b->n && b->chain[j] == b->chain[i];
         j += step, first = 0) {
        uint64_t far = step > 0 ? b->seq[j] - b->seq[i] : b->seq[i] - b->seq[j];
        if (far > (uint64_t)reach && !(first && far <= (uint64_t)h->bridge))
            break;
        bool near = far <= (uint64_t)h->near || (first && far <= (uint64_t)h->bridge);
        if (near && !label && mates(b, i, j)) {
            kind[j] = POSITIVE;
            found++;
        } else if (far < (uint64_t)h->apart && kind[j] != POSITIVE) {
            kind[j] = MASKED;
        }
    }
    return found;
}

/* What every row is to row i; i itself is masked. Returns the number of positives. */
static int sort_out(const ss_hybrid *h, const ss_hybrid_rows *b, int i, uint8_t *kind)
{
    int found = 0;
    memset(kind, NEGATIVE, (size_t)b->n);
    if (b->label && b->label[i] >= 0)
        for (int j = 0; j < b->n; j++)
            if (j != i && b->label[j] == b->label[i]) {
                kind[j] = POSITIVE;
                found++;
            }
    bool label = found > 0;
    kind[i] = MASKED;
    found += look(h, b, i, -1, label, kind);
    return found + look(h, b, i, 1, label, kind);
}

typedef struct sums {
    double loss, positive, negative;
    size_t positives, negatives;
    int windows, top;
} sums;

/* Similarities s [n] of an anchor become t times the gradient of its loss. */
static void anchor(float t, int n, int positives, const uint8_t *kind, float *s, sums *a)
{
    float by = 1.0f / t, largest = -INFINITY, nearest = -INFINITY;
    double positive = 0, negative = 0, sum = 0;
    size_t negatives = 0;
    for (int j = 0; j < n; j++) {
        if (kind[j] == NEGATIVE) {
            negative += (double)s[j];
            negatives++;
        } else if (kind[j] == POSITIVE) {
            positive += (double)s[j];
            nearest = s[j] > nearest ? s[j] : nearest;
        }
        if (kind[j] != MASKED)
            largest = s[j] > largest ? s[j] : largest;
    }
    if (!positives || !negatives) {
        memset(s, 0, (size_t)n * sizeof *s);
        return;
    }
    a->windows++;
    a->positive += positive;
    a->negative += negative;
    a->positives += (size_t)positives;
    a->negatives += negatives;
    a->top += nearest == largest;
    for (int j = 0; j < n; j++)
        s[j] = kind[j] == MASKED ? 0.0f : ss_expf((s[j] - largest) * by);
    for (int j = 0; j < n; j++)
        sum += (double)s[j];
    a->loss += log(sum) + (double)by * ((double)largest - positive / positives);
    float share = 1.0f / (float)sum, each = 1.0f / (float)positives;
    for (int j = 0; j < n; j++)
        s[j] = s[j] * share - (kind[j] == POSITIVE ? each : 0.0f);
}

static void task(const ss_hybrid *h, ss_pool *pool, const ss_hybrid_rows *b, int present, const scratch *s,
                 ss_hybrid_result *r)
{
    int n = b->n, d = b->d;
    size_t rows = (size_t)n, dim = (size_t)d, p = (size_t)present;
    sums a = {0};
    memset(s->term, 0, p * dim * sizeof(float));
    for (int at = 0; at < n; at += ANCHORS) {
        int m = n - at < ANCHORS ? n - at : ANCHORS;
        const float *z = b->z + (size_t)at * dim;
        ss_gemm(pool, false, true, m, n, d, z, d, b->z, d, false, s->s, n, s->gemm);
        for (int i = 0; i < m; i++)
            anchor(h->temperature, n, sort_out(h, b, at + i, s->kind), s->kind, s->s + (size_t)i * rows, &a);
        if (!present)
            continue;
        for (int i = 0; i < m; i++) /* as anchors */
            if (s->place[at + i] >= 0)
                ss_gemm(pool, false, false, 1, d, n, s->s + (size_t)i * rows, n, b->z, d, true,
                        s->term + (size_t)s->place[at + i] * dim, d, s->gemm);
        for (size_t j = 0; j < rows; j++) /* and as what anchors are compared with */
            if (s->place[j] >= 0)
                for (size_t i = 0; i < (size_t)m; i++)
                    s->columns[i * p + (size_t)s->place[j]] = s->s[i * rows + j];
        ss_gemm(pool, true, false, present, d, m, s->columns, present, z, d, true, s->term, d, s->gemm);
    }
    r->windows = a.windows;
    if (!a.windows)
        return;
    r->task = a.loss / a.windows;
    r->positive = a.positive / (double)a.positives;
    r->negative = a.negative / (double)a.negatives;
    r->top = (double)a.top / a.windows;
    ss_scale(p * dim, 1.0f / (h->temperature * (float)a.windows), s->term, s->term);
}

/* ---- sliced Wasserstein ---- */

/* Integral of cos^m from 0 to x, and *power = cos(x)^(m + 1). */
static double integral(int m, double x, double *power)
{
    double c = cos(x), s = sin(x), g = m & 1 ? s : x, p = m & 1 ? c * c : c;
    for (int j = m & 1 ? 3 : 2; j <= m; j += 2) {
        g = (p * s + (j - 1) * g) / j;
        p *= c * c;
    }
    *power = p;
    return g;
}

void ss_sphere_means(int d, int n, float *mean)
{
    /* A coordinate is the sine of an angle whose density is proportional to cos^(d - 2). */
    const double half = acos(0.0);
    int m = d - 2;
    double power, total = 2 * integral(m, half, &power), x = 0, before = 1;
    if (n & 1)
        mean[n / 2] = 0;
    for (int i = (n + 1) / 2; i <= n; i++) {
        /* Newton's method from below: the integral is concave, so that it never goes too far. */
        double want = ((double)i / n - 0.5) * total, g, go = 1;
        if (i == n) {
            power = 0;
        } else {
            for (int k = 0; k < 100 && go > 1e-14; k++) {
                g = integral(m, x, &power);
                go = (want - g) * cos(x) / power;
                x += go > 0 ? go : 0;
            }
            integral(m, x, &power);
        }
        if (i > (n + 1) / 2) {
            mean[i - 1] = (float)(n / (total * (m + 1)) * (before - power));
            mean[n - i] = -mean[i - 1];
        }
        before = power;
    }
}

/* By value, rows with equal ones in order; the result lies in items [n], other [n] is scratch. */
static void sort(int n, const float *value, size_t step, item *items, item *other)
{
    for (int i = 0; i < n; i++) {
        uint32_t b = ss_bits_of_float(value[(size_t)i * step]);
        items[i] = (item){b ^ (b >> 31 ? 0xffffffffu : 0x80000000u), (uint32_t)i};
    }
    for (int shift = 0; shift < 32; shift += 8) {
        uint32_t start[257] = {0};
        for (int i = 0; i < n; i++)
            start[(items[i].key >> shift & 255) + 1]++;
        for (int k = 0; k < 256; k++)
            start[k + 1] += start[k];
        for (int i = 0; i < n; i++)
            other[start[items[i].key >> shift & 255]++] = items[i];
        item *swap = items;
        items = other;
        other = swap;
    }
}

static void sliced(const ss_hybrid *h, ss_pool *pool, const ss_hybrid_rows *b, const float *theta,
                   int present, const scratch *s, ss_hybrid_result *r)
{
    int n = b->n, d = b->d, m = h->directions;
    size_t all = (size_t)m;
    double squares = 0, law = 0;
    float scale = 2.0f * (float)d / ((float)n * (float)m);
    ss_sphere_means(d, n, s->mean);
    ss_gemm(pool, false, true, n, m, d, b->z, d, theta, d, false, s->side, m, s->gemm);
    for (size_t k = 0; k < all; k++) {
        sort(n, s->side + k, all, s->sorted, s->sorted + n);
        for (int i = 0; i < n; i++) {
            size_t row = s->sorted[i].row;
            float apart = s->side[row * all + k] - s->mean[i];
            squares += (double)apart * (double)apart;
            if (s->place[row] >= 0)
                s->coefficient[(size_t)s->place[row] * all + k] = scale * apart;
        }
    }
    for (int i = 0; i < n; i++)
        law += (double)s->mean[i] * (double)s->mean[i];
    r->sw = d * (squares / ((double)n * m) + 1.0 / d - law / n);
    if (present)
        ss_gemm(pool, false, false, present, d, m, s->coefficient, m, theta, d, false, s->term, d, s->gemm);
}

/* ---- Laplacian ---- */

/* The pair (i, j): value and gradients. */
static void pair(const ss_hybrid *h, const ss_hybrid_rows *b, int i, int j, const scratch *s, double *sum)
{
    size_t d = (size_t)b->d;
    const float *x = b->z + (size_t)i * d, *y = b->z + (size_t)j * d;
    float far = (float)(b->seq[i] > b->seq[j] ? b->seq[i] - b->seq[j] : b->seq[j] - b->seq[i]);
    float w = ss_expf(-far / h->span), square = 0;
    float *dx = s->place[i] < 0 ? NULL : s->term + (size_t)s->place[i] * d;
    float *dy = s->place[j] < 0 ? NULL : s->term + (size_t)s->place[j] * d;
    for (size_t c = 0; c < d; c++)
        square += (x[c] - y[c]) * (x[c] - y[c]);
    *sum += (double)w * (double)square;
    for (size_t c = 0; dx && c < d; c++)
        dx[c] += 2 * w * (x[c] - y[c]);
    for (size_t c = 0; dy && c < d; c++)
        dy[c] -= 2 * w * (x[c] - y[c]);
}

static void laplacian(const ss_hybrid *h, const ss_hybrid_rows *b, int present, const scratch *s,
                      ss_hybrid_result *r)
{
    size_t pairs = 0;
    double sum = 0;
    memset(s->term, 0, (size_t)present * (size_t)b->d * sizeof(float));
    for (int i = 0; i < b->n; i++) {
        int before = i - 1, after = i + 1;
        for (int k = 0; k < h->neighbours; k++, pairs++) {
            bool left = before >= 0 && b->chain[before] == b->chain[i];
            bool right = after < b->n && b->chain[after] == b->chain[i];
            if (!left && !right)
                break;
            if (left && right)
                left = b->seq[i] - b->seq[before] <= b->seq[after] - b->seq[i];
            pair(h, b, i, left ? before-- : after++, s, &sum);
        }
    }
    if (!pairs)
        return;
    r->laplacian = sum / (double)pairs;
    ss_scale((size_t)present * (size_t)b->d, 1.0f / (float)pairs, s->term, s->term);
}

/* ---- all of it ---- */

/* dz += weight times the term's gradient; returns the length of that. */
static double add(size_t n, float weight, float *term, float *dz)
{
    ss_scale(n, weight, term, term);
    ss_axpy(n, 1.0f, term, dz);
    return sqrt(ss_sum_squares(n, term));
}

void ss_hybrid_directions(const ss_hybrid *h, int d, ss_rng *r, float *theta)
{
    ss_rng_fill_normal(r, theta, (size_t)h->directions * (size_t)d);
    ss_l2norm_forward(h->directions, d, theta, theta, NULL);
}

void ss_hybrid_loss(const ss_hybrid *h, ss_pool *pool, const ss_hybrid_rows *b, const float *theta, float *dz,
                    float *work, ss_hybrid_result *r)
{
    scratch s;
    int present = 0;
    *r = (ss_hybrid_result){0};
    for (int i = 0; i < b->n; i++)
        present += b->present[i] != 0;
    size_t size = (size_t)present * (size_t)b->d;
    carve(&s, h, b->n, b->d, present, work);
    memset(dz, 0, size * sizeof *dz);
    if (!ss_all_finite((size_t)b->n * (size_t)b->d, b->z))
        r->loss = r->task = NAN;
    if (!b->n || isnan(r->loss))
        return;
    for (int i = 0, k = 0; i < b->n; i++)
        s.place[i] = b->present[i] ? k++ : -1;
    task(h, pool, b, present, &s, r);
    r->task_norm = add(size, 1.0f, s.term, dz);
    sliced(h, pool, b, theta, present, &s, r);
    r->sw_norm = add(size, h->sw, s.term, dz);
    laplacian(h, b, present, &s, r);
    r->laplacian_norm = add(size, h->laplacian, s.term, dz);
    r->loss = r->task + (double)h->sw * r->sw + (double)h->laplacian * r->laplacian;
}
