#include "learn/distil_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rans.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"
#include "nn/codec_internal.h"
#include "nn/net.h"

enum {
    RUN = 8,       /* windows through the network at once, where nothing is learnt */
    KEPT_RUN = 16, /* see ss_distil */
    KEPT_EVERY = 8,
    PROBES = 2,     /* random directions of the embedding for each window */
    PROBED = 1024,  /* windows for that, at most */
    INPUTS = 512,   /* of a patch, at most, if it can be: its matrices are turned in cubic time */
    MEASURED = 2048 /* patches by which steps are chosen, at most */
};
#define RIDGE 0.01 /* of the mean of its diagonal, added to M */

struct ss_distil {
    ss_distil_config set;
    ss_model *m;
    ss_pool *pool;
    int cut;
    ss_patches grid;
    ss_bottleneck *b;
    ss_backprop *tail; /* NULL at the embedding */
    size_t n, volume, dim;
    float *x, *z;     /* [n][volume] at the cut, [n][dim] */
    uint32_t *learnt; /* windows that are learnt from */
    size_t nlearnt;
    int step;
    /* Of a batch: patches, numbers, as decoded, their gradients. */
    float *patch, *y, *q, *back, *dback, *dy;
    float *in, *zc, *dz, *din, *norm, *target, *work;
    float *grad, *moment, *moment2; /* [nvalue] */
    float size[4];                  /* of the four tensors that move */
};

/* ---- beginning ---- */

static double dot(int n, const double *a, const double *b)
{
    double sum[4] = {0};
    int i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/*
 * Eigenvalues of the positive semidefinite a [n][n] into w, falling; eigenvectors into its rows. Rotations of
 * pairs of rows until all are orthogonal (Hestenes 1958): row i is then w[i] times its eigenvector. Rows of
 * no size stay zeros.
 */
static void eigen(int n, double *a, double *w)
{
    bool turned = true;
    for (int sweep = 0; sweep < 40 && turned; sweep++) {
        turned = false;
        for (int i = 0; i < n; i++)
            w[i] = dot(n, a + i * n, a + i * n);
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                double *x = a + p * n, *y = a + q * n, xy = dot(n, x, y);
                if (xy * xy <= 1e-18 * w[p] * w[q])
                    continue;
                double theta = (w[q] - w[p]) / (2 * xy);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < n; k++) {
                    double v = x[k];
                    x[k] = c * v - s * y[k];
                    y[k] = s * v + c * y[k];
                }
                w[p] -= t * xy;
                w[q] += t * xy;
                turned = true;
            }
    }
    for (int i = 0; i < n; i++)
        w[i] = sqrt(dot(n, a + i * n, a + i * n));
    for (int i = 0; i < n; i++) { /* by size */
        int best = i;
        for (int j = i + 1; j < n; j++)
            if (w[j] > w[best])
                best = j;
        double size = w[best];
        w[best] = w[i];
        w[i] = size;
        for (int k = 0; k < n; k++) {
            double v = a[best * n + k];
            a[best * n + k] = a[i * n + k];
            a[i * n + k] = size > 0 ? v / size : 0;
        }
    }
}

/* sum [inputs][inputs] += y' y, mean += the sum of y, for y [rows][inputs]. */
static void add_products(ss_distil *d, size_t rows, const float *y, double *sum, double *mean, float *work)
{
    int n = (int)d->grid.inputs;
    float *part = work + ss_gemm_work(true, false, n, n, (int)rows);
    ss_gemm(d->pool, true, false, n, n, (int)rows, y, n, y, n, false, part, n, work);
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        sum[i] += (double)part[i];
    for (size_t r = 0; r < rows && mean; r++)
        for (int i = 0; i < n; i++)
            mean[i] += (double)y[r * (size_t)n + (size_t)i];
}

/* Forward from the cut, n windows, with what a backward needs. */
static void forward_tail(ss_distil *d, int n, const float *x, float *z)
{
    if (d->tail)
        ss_backprop_forward(d->tail, n, x, z, 1);
    else
        ss_l2norm_forward(n, (int)d->dim, x, z, d->norm);
}

static void backward_tail(ss_distil *d, int n, const float *z, const float *dz, float *dx)
{
    if (d->tail)
        ss_backprop_backward(d->tail, dz, NULL, dx);
    else
        ss_l2norm_backward(n, (int)d->dim, z, d->norm, dz, dx);
}

/* M and S, and the mean of the patches. */
static int look(ss_distil *d, double *metric, double *spread, double *mean)
{
    size_t inputs = d->grid.inputs, rows = d->grid.count, seen = 0, probed = 0;
    int n = (int)inputs;
    float *work =
        ss_alloc(ss_gemm_work(true, false, n, n, (int)rows * d->set.batch) + inputs * inputs, sizeof *work);
    if (!work)
        return SS_ENOMEM;
    ss_rng r = ss_rng_make(d->set.seed, 1);
    for (size_t i = 0; i < d->nlearnt; i++, seen += rows) {
        ss_patches_take(&d->grid, d->x + d->learnt[i] * d->volume, d->patch);
        add_products(d, rows, d->patch, spread, mean, work);
    }
    size_t every = d->nlearnt > PROBED ? d->nlearnt / PROBED : 1;
    for (size_t i = 0; i < d->nlearnt; i += every)
        for (int k = 0; k < PROBES; k++, probed += rows) {
            forward_tail(d, 1, d->x + d->learnt[i] * d->volume, d->zc);
            ss_fill_normal(&r, d->dz, d->dim);
            backward_tail(d, 1, d->zc, d->dz, d->din);
            ss_patches_take(&d->grid, d->din, d->patch);
            add_products(d, rows, d->patch, metric, NULL, work);
        }
    for (size_t i = 0; i < inputs; i++)
        mean[i] /= (double)seen;
    double trace = 0;
    for (size_t i = 0; i < inputs; i++) {
        for (size_t j = 0; j < inputs; j++) {
            spread[i * inputs + j] = spread[i * inputs + j] / (double)seen - mean[i] * mean[j];
            metric[i * inputs + j] /= 2 * (double)probed;
        }
        trace += metric[i * inputs + i];
    }
    for (size_t i = 0; i < inputs; i++)
        metric[i * inputs + i] += RIDGE * trace / (double)inputs + 1e-30;
    ss_free(work);
    return SS_OK;
}

/* c = a b, all [n][n]. */
static void product(int n, const double *a, const double *b, double *c)
{
    memset(c, 0, (size_t)n * (size_t)n * sizeof *c);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double f = a[i * n + k];
            for (int j = 0; j < n; j++)
                c[i * n + j] += f * b[k * n + j];
        }
}

/* m = v' w^power v, v by rows. */
static void power(int n, const double *w, const double *v, double p, double *m, double *work)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            work[i * n + k] = pow(fmax(w[i], 1e-30), p) * v[i * n + k];
    memset(m, 0, (size_t)n * (size_t)n * sizeof *m);
    for (int r = 0; r < n; r++)
        for (int i = 0; i < n; i++) {
            double f = v[r * n + i];
            for (int k = 0; k < n; k++)
                m[i * n + k] += f * work[r * n + k];
        }
}

static int begin(ss_distil *d)
{
    int n = (int)d->grid.inputs;
    size_t square = d->grid.inputs * d->grid.inputs;
    double *room = ss_zalloc(6 * square + 2 * d->grid.inputs, sizeof *room);
    if (!room)
        return SS_ENOMEM;
    double *metric = room, *spread = metric + square, *root = spread + square, *inverse = root + square,
           *v = inverse + square, *work = v + square, *w = work + square, *mean = w + n;
    int rc = look(d, metric, spread, mean);
    if (rc == SS_OK) {
        ss_bottleneck *b = d->b;
        double step = sqrt(12 * d->set.price / (2 * log(2)));
        eigen(n, metric, w);
        power(n, w, metric, 0.5, root, work);
        power(n, w, metric, -0.5, inverse, work);
        product(n, root, spread, work);
        product(n, work, root, v);
        eigen(n, v, w);
        for (int j = 0; j < b->channels; j++) {
            double at_mean = 0;
            for (int i = 0; i < n; i++) {
                double there = 0, back = 0;
                for (int k = 0; k < n && j < n; k++) {
                    there += v[j * n + k] * root[k * n + i];
                    back += v[j * n + k] * inverse[k * n + i];
                }
                b->encode_weight[j * n + i] = (float)(there / step);
                b->decode_weight[j * n + i] = (float)(back * step);
                at_mean += there / step * mean[i];
            }
            b->encode_bias[j] = (float)-at_mean;
        }
        for (int l = 0; l < b->nlevel; l++)
            for (int i = 0; i < n; i++)
                b->decode_bias[l * n + i] = (float)mean[i];
    }
    ss_free(room);
    return rc;
}

/* ---- steps ---- */

static int order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The mean square of what rounding and clipping leave of y [n]. */
static double left(size_t n, const float *y, double step, int symbols)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double q = rint((double)y[i] / step);
        q = q > symbols / 2 - 1 ? symbols / 2 - 1 : q < -symbols / 2 ? -symbols / 2 : q;
        sum += ((double)y[i] - q * step) * ((double)y[i] - q * step);
    }
    return sum;
}

/* The price's step, or the larger one that leaves least. */
static int choose_steps(ss_distil *d)
{
    ss_bottleneck *b = d->b;
    size_t channels = (size_t)b->channels, rows = d->grid.count, windows = MEASURED / rows + 1, n = 0;
    windows = windows < d->nlearnt ? windows : d->nlearnt;
    float *y = ss_alloc(2 * windows * rows * channels, sizeof *y);
    if (!y)
        return SS_ENOMEM;
    float *one = y + windows * rows * channels;
    for (size_t i = 0; i < windows; i++) {
        ss_patches_take(&d->grid, d->x + d->learnt[i * d->nlearnt / windows] * d->volume, d->patch);
        ss_gemm(d->pool, false, true, (int)rows, b->channels, (int)b->inputs, d->patch, (int)b->inputs,
                b->encode_weight, (int)b->inputs, false, y + i * rows * channels, b->channels, d->work);
    }
    for (size_t j = 0; j < channels; j++) {
        n = 0;
        for (size_t i = 0; i < windows * rows; i++)
            one[n++] = y[i * channels + j] + b->encode_bias[j];
        qsort(one, n, sizeof *one, order);
        for (int w = 0; w < SS_CODEC_WIDTHS; w++) {
            double base = w == SS_CODEC_8 ? 0.25 : 1, best = base, least = INFINITY;
            double most =
                fmax(fabs((double)one[0]), fabs((double)one[n - 1])) / (ss_codec_symbols(w) / 2 - 1);
            for (double step = base; step < 1.1 * fmax(most, base); step *= 1.1) {
                double error = left(n, one, step, ss_codec_symbols(w));
                if (error < least) {
                    least = error;
                    best = step;
                }
            }
            b->step[(size_t)w * channels + j] = (float)best;
        }
    }
    ss_free(y);
    return SS_OK;
}

/* ---- loss ---- */

/* Estimated bits a window, and (with a price) their gradient added to dy [rows][channels]. */
static double bits(const ss_distil *d, int channels, int width, size_t rows, const float *y, double price,
                   float *dy)
{
    const float *step = d->b->step + width * d->b->channels;
    double all = 0;
    for (int j = 0; j < channels; j++) {
        double sum = 0, square = 0, scale = 12 / ((double)step[j] * (double)step[j]);
        for (size_t i = 0; i < rows; i++)
            sum += (double)y[i * (size_t)channels + (size_t)j];
        sum /= (double)rows;
        for (size_t i = 0; i < rows; i++) {
            double off = (double)y[i * (size_t)channels + (size_t)j] - sum;
            square += off * off;
        }
        double v = scale * square / (double)rows;
        all += 0.5 * log2(1 + v);
        double f = price * (double)d->grid.count / log(2) / (1 + v) * scale / (double)rows;
        for (size_t i = 0; i < rows; i++) {
            size_t at = i * (size_t)channels + (size_t)j;
            dy[at] += (float)(f * ((double)y[at] - sum));
        }
    }
    return all * (double)d->grid.count;
}

double ss_distil_loss(ss_distil *d, int level, int width, int n, const float *x, const float *z, bool rounded,
                      float *grad, ss_distil_step *r)
{
    const ss_bottleneck *b = d->b;
    const int channels = b->level[level], inputs = (int)b->inputs, symbols = ss_codec_symbols(width);
    const size_t rows = (size_t)n * d->grid.count, wide = (size_t)channels;
    const float *step = b->step + width * b->channels, *bias = b->decode_bias + (size_t)level * b->inputs;
    const double price = width == SS_CODEC_8 ? d->set.price / 16 : d->set.price;
    /* there */
    for (int i = 0; i < n; i++)
        ss_patches_take(&d->grid, x + (size_t)i * d->volume,
                        d->patch + (size_t)i * d->grid.count * b->inputs);
    ss_gemm(d->pool, false, true, (int)rows, channels, inputs, d->patch, inputs, b->encode_weight, inputs,
            false, d->y, channels, d->work);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < wide; j++) {
            float v = d->y[i * wide + j] += b->encode_bias[j];
            float whole = fminf(fmaxf(rintf(v / step[j]), (float)(-symbols / 2)), (float)(symbols / 2 - 1));
            d->q[i * wide + j] = rounded ? whole * step[j] : v;
        }
    /* and back */
    ss_gemm(d->pool, false, false, (int)rows, inputs, channels, d->q, channels, b->decode_weight, inputs,
            false, d->back, inputs, d->work);
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < b->inputs; k++) {
            float v = d->back[i * b->inputs + k] + bias[k];
            d->back[i * b->inputs + k] = d->tail && v < 0 ? 0 : v;
        }
    for (int i = 0; i < n; i++)
        ss_patches_put(&d->grid, d->back + (size_t)i * d->grid.count * b->inputs,
                       d->in + (size_t)i * d->volume);
    forward_tail(d, n, d->in, d->zc);
    /* On the sphere 1 - cosine is half the square of the difference, without its cancellation. */
    for (size_t i = 0; i < (size_t)n * d->dim; i++)
        d->dz[i] = d->zc[i] - z[i];
    double distance = ss_sum_squares((size_t)n * d->dim, d->dz) / (2 * n);
    /* gradients */
    ss_scale((size_t)n * d->dim, 1.0f / (float)n, d->dz, d->dz);
    backward_tail(d, n, d->zc, d->dz, d->din);
    memset(grad, 0, b->nvalue * sizeof *grad);
    float *there = grad + (b->encode_weight - b->value), *there_bias = grad + (b->encode_bias - b->value),
          *home = grad + (b->decode_weight - b->value),
          *home_bias = grad + (b->decode_bias - b->value) + (size_t)level * b->inputs;
    /* What fills up the edges is left out by the way back: its gradient is 0. */
    bool whole = d->grid.h % d->grid.patch == 0 && d->grid.w % d->grid.patch == 0;
    for (int i = 0; i < n; i++)
        ss_patches_take(&d->grid, d->din + (size_t)i * d->volume,
                        d->dback + (size_t)i * d->grid.count * b->inputs);
    for (size_t i = 0; i < rows && !whole; i++) {
        size_t at = i % d->grid.count;
        int row = (int)at / d->grid.cols, col = (int)at % d->grid.cols, p = d->grid.patch;
        for (size_t k = 0; k < b->inputs; k++) {
            int y = (int)k % (p * p) / p, column = (int)k % p;
            if (row * p + y >= d->grid.h || col * p + column >= d->grid.w)
                d->dback[i * b->inputs + k] = 0;
        }
    }
    if (d->tail)
        ss_relu_backward(rows * b->inputs, d->back, d->dback, d->dback);
    ss_channel_sum_add(rows, inputs, d->dback, home_bias);
    ss_gemm(d->pool, true, false, channels, inputs, (int)rows, d->q, channels, d->dback, inputs, false, home,
            inputs, d->work);
    ss_gemm(d->pool, false, true, (int)rows, channels, inputs, d->dback, inputs, b->decode_weight, inputs,
            false, d->dy, channels, d->work);
    for (size_t i = 0; i < rows && rounded; i++)
        for (size_t j = 0; j < wide; j++) {
            float v = d->y[i * wide + j] / step[j];
            if (v < (float)(-symbols / 2) - 0.5f || v > (float)(symbols / 2) - 0.5f)
                d->dy[i * wide + j] = 0;
        }
    double rate = bits(d, channels, width, rows, d->y, price, d->dy);
    ss_channel_sum_add(rows, channels, d->dy, there_bias);
    ss_gemm(d->pool, true, false, channels, inputs, (int)rows, d->dy, channels, d->patch, inputs, false,
            there, inputs, d->work);
    double loss = distance + price * rate;
    if (r)
        *r = (ss_distil_step){d->step, channels, width == SS_CODEC_8 ? 8 : 4, loss, distance, rate};
    return loss;
}

/* ---- all of it ---- */

void ss_distil_config_default(ss_distil_config *c, const ss_model_config *model, int cut)
{
    const int embedding = cut == SS_CUT_EMBEDDING, first = embedding ? 16 : 8;
    *c = (ss_distil_config){.patch = embedding ? 1 : 4,
                            .price = 1e-5,
                            .steps = 1000,
                            .batch = embedding ? 64 : 16,
                            .rate = 0.003f};
    while (c->patch > 1 && ss_patches_of(model, cut, c->patch).inputs > INPUTS)
        c->patch /= 2;
    int inputs = (int)ss_patches_of(model, cut, c->patch).inputs;
    for (int channels = first; c->nlevel < 4 && channels <= inputs; channels *= 2)
        c->level[c->nlevel++] = channels;
    if (c->nlevel == 0)
        c->level[c->nlevel++] = inputs;
}

static int check(const ss_distil_config *c, ss_err *e)
{
    if (!(c->price > 0) || !isfinite(c->price))
        return ss_err_set(e, SS_ERANGE, "price %g is not above 0", c->price);
    if (c->steps < 0 || c->batch < 1 || c->batch > 1024)
        return ss_err_set(e, SS_ERANGE, "%d steps of %d windows, expected 0 or more of 1 to 1024", c->steps,
                          c->batch);
    return SS_OK;
}

static float *floats(size_t n, int *rc)
{
    float *p = ss_alloc(n, sizeof *p);
    if (!p)
        *rc = SS_ENOMEM;
    return p;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int make_room(ss_distil *d)
{
    int rc = SS_OK, channels = d->b->channels, inputs = (int)d->b->inputs;
    size_t n = (size_t)d->set.batch, rows = n * d->grid.count, wide = (size_t)channels;
    d->patch = floats(rows * d->b->inputs, &rc);
    d->y = floats(rows * wide, &rc);
    d->q = floats(rows * wide, &rc);
    d->back = floats(rows * d->b->inputs, &rc);
    d->dback = floats(rows * d->b->inputs, &rc);
    d->dy = floats(rows * wide, &rc);
    d->in = floats(n * d->volume, &rc);
    d->zc = floats(n * d->dim, &rc);
    d->dz = floats(n * d->dim, &rc);
    d->din = floats(n * d->volume, &rc);
    d->norm = floats(n, &rc);
    d->target = floats(n * (d->volume + d->dim), &rc);
    d->grad = floats(d->b->nvalue, &rc);
    d->moment = ss_zalloc(d->b->nvalue, sizeof *d->moment);
    d->moment2 = ss_zalloc(d->b->nvalue, sizeof *d->moment2);
    size_t work = 0;
    for (int l = 0; l < d->b->nlevel; l++) {
        int c = d->b->level[l], r = (int)rows;
        work = larger(work, ss_gemm_work(false, true, r, c, inputs));
        work = larger(work, ss_gemm_work(false, false, r, inputs, c));
        work = larger(work, ss_gemm_work(true, false, c, inputs, r));
    }
    d->work = floats(work, &rc);
    return d->moment && d->moment2 ? rc : SS_ENOMEM;
}

/* Values at the cut and embeddings of all windows. */
static int run_all(ss_distil *d, const uint16_t *x, ss_err *e)
{
    ss_net *net = NULL;
    size_t each = (size_t)d->m->config.mels * (size_t)d->m->config.frames;
    float *in = ss_alloc(RUN * each, sizeof *in);
    d->x = ss_alloc(d->n * d->volume, sizeof *d->x);
    d->z = ss_alloc(d->n * d->dim, sizeof *d->z);
    d->learnt = ss_alloc(d->n, sizeof *d->learnt);
    int rc = in && d->x && d->z && d->learnt
                 ? SS_OK
                 : ss_err_set(e, SS_ENOMEM, "cannot allocate the values of %zu windows at cut %s", d->n,
                              ss_cut_name(d->cut));
    if (rc == SS_OK)
        rc = ss_net_open(&net, d->m, d->pool, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, RUN, e);
    for (size_t at = 0; at < d->n && rc == SS_OK; at += RUN) {
        int k = d->n - at < RUN ? (int)(d->n - at) : RUN;
        ss_f32_from_f16((size_t)k * each, x + at * each, in);
        ss_net_run_between(net, SS_CUT_INPUT, d->cut, k, in, d->x + at * d->volume);
        ss_net_run_between(net, d->cut, SS_CUT_EMBEDDING, k, d->x + at * d->volume, d->z + at * d->dim);
    }
    if (rc == SS_OK && (!ss_all_finite(d->n * d->volume, d->x) || !ss_all_finite(d->n * d->dim, d->z)))
        rc = ss_err_set(e, SS_EUNFIT, "values at cut %s are not finite", ss_cut_name(d->cut));
    for (size_t i = 0; i < d->n && rc == SS_OK; i++)
        if (i / KEPT_RUN % KEPT_EVERY != KEPT_EVERY - 1)
            d->learnt[d->nlearnt++] = (uint32_t)i;
    ss_net_close(&net);
    ss_free(in);
    return rc;
}

static float rms(size_t n, const float *x)
{
    return (float)sqrt(ss_sum_squares(n, x) / (double)n);
}

int ss_distil_open(ss_distil **to, const ss_distil_config *c, ss_model *m, ss_pool *pool, int cut, size_t n,
                   const uint16_t *x, ss_err *e)
{
    *to = NULL;
    int rc = check(c, e);
    if (rc == SS_OK && n < 2)
        rc = ss_err_set(e, SS_EUNFIT, "%zu windows to learn a codec from, expected two at least", n);
    if (rc < 0)
        return rc;
    ss_distil *d = ss_zalloc(1, sizeof *d);
    if (!d)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate the learning of a codec");
    *d = (ss_distil){.set = *c, .m = m, .pool = pool, .cut = cut, .n = n, .dim = (size_t)m->config.dim};
    rc = ss_bottleneck_create(&d->b, &m->config, cut, c->patch, c->nlevel, c->level, true);
    if (rc < 0) {
        ss_err_set(e, rc == SS_EINVAL ? SS_ERANGE : rc, "no codec at cut %s with patches of %d and %d levels",
                   ss_cut_name(cut), c->patch, c->nlevel);
        rc = rc == SS_EINVAL ? SS_ERANGE : rc;
    }
    if (rc == SS_OK) {
        d->b->generation = m->generation;
        d->b->windows = n;
        d->grid = ss_patches_of(&m->config, cut, c->patch);
        d->volume = (size_t)d->grid.c * (size_t)d->grid.h * (size_t)d->grid.w;
        rc = run_all(d, x, e);
    }
    if (rc == SS_OK && cut < SS_CUT_EMBEDDING)
        rc = ss_backprop_open(&d->tail, m, pool, cut, c->batch, e);
    if (rc == SS_OK) {
        rc = make_room(d);
        if (rc == SS_OK)
            rc = begin(d);
        if (rc == SS_OK)
            rc = choose_steps(d);
        if (rc < 0)
            ss_err_set(e, rc, "cannot allocate the learning of a codec at cut %s", ss_cut_name(cut));
    }
    if (rc < 0) {
        ss_distil_close(&d);
    } else {
        ss_bottleneck *b = d->b;
        size_t channels = (size_t)b->channels;
        d->size[0] = rms(channels * b->inputs, b->encode_weight);
        d->size[1] = 1;
        d->size[2] = rms(channels * b->inputs, b->decode_weight);
        d->size[3] = rms(b->inputs, b->decode_bias);
    }
    *to = d;
    return rc;
}

/* Windows of one step, by a draw. */
static void draw(ss_distil *d, ss_rng *r, float *x, float *z)
{
    for (int i = 0; i < d->set.batch; i++) {
        size_t at = d->learnt[ss_rng_below(r, (uint32_t)d->nlearnt)];
        memcpy(x + (size_t)i * d->volume, d->x + at * d->volume, d->volume * sizeof *x);
        memcpy(z + (size_t)i * d->dim, d->z + at * d->dim, d->dim * sizeof *z);
    }
}

int ss_distil_next(ss_distil *d, ss_distil_step *report)
{
    ss_bottleneck *b = d->b;
    if (d->step >= d->set.steps)
        return 0;
    d->step++;
    ss_rng r = ss_rng_make(d->set.seed, 16 + (uint64_t)d->step);
    int level = (int)ss_rng_below(&r, (uint32_t)b->nlevel), width = (int)ss_rng_below(&r, SS_CODEC_WIDTHS);
    float *x = d->target, *z = x + (size_t)d->set.batch * d->volume;
    draw(d, &r, x, z);
    ss_distil_loss(d, level, width, d->set.batch, x, z, true, d->grad, report);
    const struct {
        size_t at, n;
    } part[4] = {{(size_t)(b->encode_weight - b->value), (size_t)b->channels * b->inputs},
                 {(size_t)(b->encode_bias - b->value), (size_t)b->channels},
                 {(size_t)(b->decode_weight - b->value), (size_t)b->channels * b->inputs},
                 {(size_t)(b->decode_bias - b->value), (size_t)b->nlevel * b->inputs}};
    float fall = 1 - (float)(d->step - 1) / (float)d->set.steps;
    if (!isfinite(ss_sum_squares(b->nvalue, d->grad)))
        return 1; /* nothing to learn from it */
    for (int i = 0; i < 4; i++) {
        ss_adam a = {.lr = d->set.rate * fall * d->size[i],
                     .beta1 = 0.9f,
                     .beta2 = 0.99f,
                     .eps = 1e-12f,
                     .grad_scale = 1,
                     .step = (uint64_t)d->step};
        ss_adam_step(&a, d->pool, part[i].n, b->value + part[i].at, d->grad + part[i].at,
                     d->moment + part[i].at, d->moment2 + part[i].at);
    }
    return 1;
}

/* ---- tables ---- */

/* Numbers of a window. */
static void numbers(ss_distil *d, size_t window, int width, int16_t *q)
{
    const ss_bottleneck *b = d->b;
    size_t rows = d->grid.count, channels = (size_t)b->channels;
    ss_patches_take(&d->grid, d->x + window * d->volume, d->patch);
    ss_gemm(d->pool, false, true, (int)rows, b->channels, (int)b->inputs, d->patch, (int)b->inputs,
            b->encode_weight, (int)b->inputs, false, d->y, b->channels, d->work);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < channels; j++)
            d->y[i * channels + j] += b->encode_bias[j];
    ss_codec_round(b, width, b->channels, rows, d->y, q);
}

/* Bounds of the contexts, so that each has a third of the numbers. */
static void bound(const uint64_t *count, size_t n, uint16_t *to)
{
    uint64_t all = 0, sum = 0;
    int k = 0;
    for (size_t i = 0; i < n; i++)
        all += count[i];
    to[0] = to[1] = (uint16_t)(n - 1);
    for (size_t i = 0; i < n && k < SS_CODEC_CONTEXTS - 1; i++) {
        sum += count[i];
        while (k < SS_CODEC_CONTEXTS - 1 && sum * SS_CODEC_CONTEXTS >= all * (uint64_t)(k + 1))
            to[k++] = (uint16_t)i;
    }
}

static int count_tables(ss_distil *d, int width)
{
    enum { AROUND = 513 };
    ss_bottleneck *b = d->b;
    size_t channels = (size_t)b->channels, symbols = (size_t)ss_codec_symbols(width);
    int16_t *q = ss_alloc(d->grid.count * channels, sizeof *q);
    uint64_t *around = ss_zalloc(channels * AROUND, sizeof *around);
    uint64_t *count = ss_zalloc(channels * SS_CODEC_CONTEXTS * symbols, sizeof *count);
    uint16_t *bounds = b->bound + (size_t)width * channels * (SS_CODEC_CONTEXTS - 1);
    int rc = q && around && count ? SS_OK : SS_ENOMEM;
    for (int pass = 0; pass < 2 && rc == SS_OK; pass++) {
        for (size_t i = 0; i < d->nlearnt; i++) {
            numbers(d, d->learnt[i], width, q);
            for (size_t at = 0; at < d->grid.count * channels; at++) {
                size_t j = at % channels, patch = at / channels;
                int near = ss_codec_around(q, b->channels, d->grid.cols, (int)patch / d->grid.cols,
                                           (int)patch % d->grid.cols, (int)j);
                const uint16_t *to = bounds + j * (SS_CODEC_CONTEXTS - 1);
                if (!pass)
                    around[j * AROUND + (size_t)near]++;
                else
                    count[(j * SS_CODEC_CONTEXTS + (size_t)((near > to[0]) + (near > to[1]))) * symbols +
                          (size_t)(q[at] + (int)symbols / 2)]++;
            }
        }
        for (size_t j = 0; j < channels && !pass; j++)
            bound(around + j * AROUND, AROUND, bounds + j * (SS_CODEC_CONTEXTS - 1));
    }
    /* What was not seen may come: as if a few numbers had been drawn from a broad law. */
    for (size_t i = 0; i < channels * SS_CODEC_CONTEXTS && rc == SS_OK; i++) {
        for (size_t s = 0; s < symbols; s++) {
            uint64_t far = (uint64_t)llabs((long long)s - (long long)symbols / 2);
            count[i * symbols + s] = 256 * count[i * symbols + s] + 1024 / ((far + 1) * (far + 1)) + 1;
        }
        ss_rans_frequencies((int)symbols, count + i * symbols, b->frequency[width] + i * symbols);
    }
    ss_free(q);
    ss_free(around);
    ss_free(count);
    return rc;
}

int ss_distil_finish(ss_distil *d, ss_err *e)
{
    ss_bottleneck *b = NULL;
    int rc = choose_steps(d);
    for (int w = 0; w < SS_CODEC_WIDTHS && rc == SS_OK; w++)
        rc = count_tables(d, w);
    if (rc == SS_OK)
        rc = ss_bottleneck_clone(&b, d->b);
    if (rc < 0)
        return ss_err_set(e, rc, "cannot allocate the codecs of cut %s", ss_cut_name(d->cut));
    rc = ss_bottleneck_check(b, e);
    if (rc < 0) {
        ss_bottleneck_free(b);
        return rc;
    }
    ss_bottleneck_free(d->m->codec[d->cut]);
    d->m->codec[d->cut] = b;
    return SS_OK;
}

static int order_real(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int ss_distil_measure_one(ss_distil *d, int number, ss_distil_measure *r, ss_err *e)
{
    ss_codec *c = NULL;
    uint8_t *payload = NULL;
    double *cosine = ss_alloc(d->n, sizeof *cosine);
    *r = (ss_distil_measure){.number = number};
    int rc = cosine ? ss_codec_open(&c, d->m, d->cut, e)
                    : ss_err_set(e, SS_ENOMEM, "cannot allocate %zu cosines", d->n);
    if (rc == SS_OK && !(payload = ss_alloc(ss_codec_room(c), 1)))
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate a payload");
    bool all = d->nlearnt == d->n;
    for (size_t i = 0; i < d->n && rc >= 0; i++) {
        if (!all && i / KEPT_RUN % KEPT_EVERY != KEPT_EVERY - 1)
            continue;
        rc = ss_codec_encode(c, (uint64_t)number, d->x + i * d->volume, payload, e);
        if (rc < 0)
            break;
        r->bytes += rc;
        rc = ss_codec_decode(c, (uint64_t)number, payload, (size_t)rc, d->in, e);
        if (rc < 0)
            break;
        forward_tail(d, 1, d->in, d->zc);
        cosine[r->windows++] = ss_dot(d->dim, d->zc, d->z + i * d->dim);
        r->cosine += cosine[r->windows - 1];
    }
    if (rc >= 0) {
        r->bytes /= (double)r->windows;
        r->cosine /= (double)r->windows;
        qsort(cosine, r->windows, sizeof *cosine, order_real);
        r->least = cosine[r->windows / 20];
    }
    ss_codec_close(&c);
    ss_free(payload);
    ss_free(cosine);
    return rc < 0 ? rc : SS_OK;
}

ss_bottleneck *ss_distil_bottleneck(ss_distil *d)
{
    return d->b;
}

const float *ss_distil_values(const ss_distil *d)
{
    return d->x;
}

const float *ss_distil_embeddings(const ss_distil *d)
{
    return d->z;
}

void ss_distil_close(ss_distil **to)
{
    ss_distil *d = *to;
    if (!d)
        return;
    ss_backprop_close(&d->tail);
    ss_bottleneck_free(d->b);
    float *owned[] = {d->x,  d->z,  d->patch, d->y,    d->q,      d->back, d->dback, d->dy,     d->in,
                      d->zc, d->dz, d->din,   d->norm, d->target, d->work, d->grad,  d->moment, d->moment2};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        ss_free(owned[i]);
    ss_free(d->learnt);
    ss_free(d);
    *to = NULL;
}
