#include "kernels/internal.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "config.h"
#include "kernels/int8_internal.h"

#define CHUNK 16384 /* elements of a flat block that one task takes */

static _Atomic(const ss_kernel_table *) in_force;

static const ss_kernel_table *table_of(ss_cpu level)
{
    switch (level) {
#if SS_HAVE_AVX512
    case SS_CPU_AVX512:
    case SS_CPU_AVX512VNNI: /* differs in int8.h alone */
        return &ss_kernels_avx512;
#endif
#if SS_HAVE_X86
    case SS_CPU_SSE41:
        return &ss_kernels_sse41;
    case SS_CPU_AVX2:
        return &ss_kernels_avx2;
#endif
#if SS_HAVE_ARM64
    case SS_CPU_NEON:
    case SS_CPU_NEON_DOTPROD:
        return &ss_kernels_neon;
#endif
    default:
        return &ss_kernels_scalar;
    }
}

const ss_kernel_table *ss_kernels(void)
{
    const ss_kernel_table *t = atomic_load_explicit(&in_force, memory_order_relaxed);
    if (!t) {
        t = table_of(ss_cpu_level());
        atomic_store_explicit(&in_force, t, memory_order_relaxed);
    }
    return t;
}

int ss_kernels_use(ss_cpu level)
{
    if (level > ss_cpu_best() || (level != SS_CPU_SCALAR && table_of(level) == &ss_kernels_scalar))
        return SS_ENOTSUP;
    atomic_store(&in_force, table_of(level));
    ss_i8_use(level);
    return 0;
}

/* ---- pooling ---- */

int ss_maxpool_init(ss_maxpool *p, int c, int h, int w, int size, int stride, int pad)
{
    const int most = 1 << 16;
    if (c < 1 || c > most || h < 1 || h > most || w < 1 || w > most || size < 1 || size > 15 || stride < 1 ||
        stride > most || pad < 0 || pad > size / 2 || h + 2 * pad < size || w + 2 * pad < size)
        return SS_EINVAL;
    /* A last window that begins in the padding would be empty: there is none, since pad <= size / 2. */
    *p = (ss_maxpool){c,    h,      w,  (h + 2 * pad - size) / stride + 1, (w + 2 * pad - size) / stride + 1,
                      size, stride, pad};
    return 0;
}

typedef struct maxpool_job {
    const ss_maxpool *p;
    const float *x, *gate;
    const uint8_t *which_in;
    float *y;
    uint8_t *which;
    int rows, all; /* forward: output rows of a task, of all windows */
} maxpool_job;

static void maxpool_task(void *arg, int i, int thread)
{
    const maxpool_job *j = arg;
    const ss_maxpool *p = j->p;
    size_t in = (size_t)p->h * (size_t)p->w * (size_t)p->c, row = (size_t)p->ow * (size_t)p->c;
    for (int k = i * j->rows; k < (i + 1) * j->rows && k < j->all; k++)
        ss_kernels()->maxpool(p, k % p->oh, j->x + (size_t)(k / p->oh) * in, j->y + (size_t)k * row,
                              j->which ? j->which + (size_t)k * row : NULL);
}

void ss_maxpool_forward(const ss_maxpool *p, ss_pool *pool, int n, const float *x, float *y, uint8_t *which)
{
    maxpool_job j = {.p = p, .x = x, .y = y, .which = which, .all = n * p->oh};
    int threads = ss_pool_threads(pool);
    j.rows = (j.all + threads - 1) / threads;
    ss_pool_run(pool, (j.all + j.rows - 1) / j.rows, maxpool_task, &j);
}

static void maxpool_backward_task(void *arg, int i, int thread)
{
    const maxpool_job *j = arg;
    size_t in = (size_t)j->p->h * (size_t)j->p->w * (size_t)j->p->c;
    size_t out = (size_t)j->p->oh * (size_t)j->p->ow * (size_t)j->p->c, k = (size_t)i;
    ss_kernels()->maxpool_backward(j->p, j->x + k * out, j->which_in + k * out,
                                   j->gate ? j->gate + k * in : NULL, j->y + k * in);
}

void ss_maxpool_backward(const ss_maxpool *p, ss_pool *pool, int n, const float *dy, const uint8_t *which,
                         const float *gate, float *dx)
{
    maxpool_job j = {.p = p, .x = dy, .which_in = which, .gate = gate, .y = dx};
    ss_pool_run(pool, n, maxpool_backward_task, &j);
}

void ss_avgpool_forward(int n, int pixels, int c, const float *x, float *y)
{
    size_t p = (size_t)pixels, k = (size_t)c;
    for (size_t i = 0; i < (size_t)n; i++)
        ss_kernels()->avgpool(p, k, x + i * p * k, y + i * k);
}

void ss_avgpool_backward(int n, int pixels, int c, const float *dy, const float *gate, float *dx)
{
    size_t p = (size_t)pixels, k = (size_t)c;
    for (size_t i = 0; i < (size_t)n; i++)
        ss_kernels()->avgpool_backward(p, k, dy + i * k, gate ? gate + i * p * k : NULL, dx + i * p * k);
}

/* ---- per element and per channel ---- */

void ss_relu(size_t n, const float *x, float *y)
{
    ss_kernels()->relu(n, x, y);
}

void ss_relu_backward(size_t n, const float *y, const float *dy, float *dx)
{
    ss_kernels()->relu_backward(n, y, dy, dx);
}

void ss_affine(size_t rows, int c, const float *x, const float *scale, const float *shift, const float *add,
               bool relu, float *y)
{
    ss_kernels()->affine(rows, (size_t)c, x, scale, shift, add, relu, y);
}

void ss_affine_backward(size_t rows, int c, const float *x, const float *scale, const float *dy, float *dx,
                        float *dscale, float *dshift)
{
    const ss_kernel_table *t = ss_kernels();
    if (dscale)
        t->channel_dot(rows, (size_t)c, x, dy, dscale);
    if (dshift)
        t->channel_sum(rows, (size_t)c, dy, dshift);
    if (dx)
        t->channel_scale(rows, (size_t)c, dy, scale, dx);
}

void ss_channel_sum_add(size_t rows, int c, const float *x, float *sum)
{
    ss_kernels()->channel_sum(rows, (size_t)c, x, sum);
}

void ss_channel_stats(size_t rows, int c, const float *x, float *mean, float *var)
{
    const ss_kernel_table *t = ss_kernels();
    memset(mean, 0, (size_t)c * sizeof *mean);
    memset(var, 0, (size_t)c * sizeof *var);
    t->channel_sum(rows, (size_t)c, x, mean);
    for (int i = 0; i < c; i++)
        mean[i] /= (float)rows;
    t->channel_square(rows, (size_t)c, x, mean, var);
    for (int i = 0; i < c; i++)
        var[i] /= (float)rows;
}

/* ---- group norm ---- */

typedef struct groupnorm_job {
    int pixels, c, groups;
    float eps;
    bool relu;
    const float *x, *gamma, *beta, *add, *dy, *mean_in, *rstd_in;
    float *y, *mean, *rstd, *work;
} groupnorm_job;

/* Sum over each group's channels, each channel then given the group's value. */
static void spread(const groupnorm_job *j, float *v)
{
    int each = j->c / j->groups;
    for (int g = 0; g < j->groups; g++) {
        float sum = 0;
        for (int i = 0; i < each; i++)
            sum += v[g * each + i];
        for (int i = 0; i < each; i++)
            v[g * each + i] = sum;
    }
}

static void groupnorm_task(void *arg, int i, int thread)
{
    const groupnorm_job *j = arg;
    const ss_kernel_table *t = ss_kernels();
    size_t pixels = (size_t)j->pixels, c = (size_t)j->c, size = pixels * c, k = (size_t)i;
    const float *x = j->x + k * size;
    float *mean = j->mean + k * (size_t)j->groups, *rstd = j->rstd + k * (size_t)j->groups;
    float *a = j->work + 2 * k * c, *b = a + c;
    int each = j->c / j->groups;
    float count = (float)each * (float)j->pixels;
    memset(a, 0, 2 * c * sizeof *a);
    t->channel_sum(pixels, c, x, a);
    spread(j, a);
    for (int q = 0; q < j->c; q++)
        a[q] /= count;
    t->channel_square(pixels, c, x, a, b);
    spread(j, b);
    for (int q = 0; q < j->c; q++) {
        int g = q / each;
        mean[g] = a[q];
        rstd[g] = 1.0f / sqrtf(b[q] / count + j->eps);
        a[q] = rstd[g] * j->gamma[q];
        b[q] = j->beta[q] - mean[g] * a[q];
    }
    t->affine(pixels, c, x, a, b, j->add ? j->add + k * size : NULL, j->relu, j->y + k * size);
}

void ss_groupnorm_forward(ss_pool *pool, int n, int pixels, int c, int groups, float eps, const float *x,
                          const float *gamma, const float *beta, const float *add, bool relu, float *y,
                          float *mean, float *rstd, float *work)
{
    groupnorm_job j = {.pixels = pixels,
                       .c = c,
                       .groups = groups,
                       .eps = eps,
                       .relu = relu,
                       .x = x,
                       .gamma = gamma,
                       .beta = beta,
                       .add = add,
                       .y = y,
                       .mean = mean,
                       .rstd = rstd,
                       .work = work};
    ss_pool_run(pool, n, groupnorm_task, &j);
}

/*
 * With u = x - mean, m numbers in a group, A = sum(gamma dy) and B = sum(gamma dy u) over it:
 * dx = rstd gamma dy - rstd^3 B / m * u - rstd A / m;  dgamma = rstd sum(dy u), dbeta = sum(dy) over the
 * pixels.
 */
static void groupnorm_backward_task(void *arg, int i, int thread)
{
    const groupnorm_job *j = arg;
    const ss_kernel_table *t = ss_kernels();
    size_t pixels = (size_t)j->pixels, c = (size_t)j->c, size = pixels * c, k = (size_t)i;
    const float *x = j->x + k * size, *dy = j->dy + k * size;
    const float *mean = j->mean_in + k * (size_t)j->groups, *rstd = j->rstd_in + k * (size_t)j->groups;
    float *sums = j->work + 6 * k * c, *m = sums + 2 * c, *p = m + c, *q = p + c, *r = q + c;
    int each = j->c / j->groups;
    float count = (float)each * (float)j->pixels;
    for (int o = 0; o < j->c; o++)
        m[o] = mean[o / each];
    memset(sums, 0, 2 * c * sizeof *sums);
    t->channel_dot_centred(pixels, c, x, m, dy, sums);
    t->channel_sum(pixels, c, dy, sums + c);
    for (int o = 0; o < j->c; o++) {
        q[o] = j->gamma[o] * sums[o];
        r[o] = j->gamma[o] * sums[(size_t)o + c];
    }
    spread(j, q);
    spread(j, r);
    for (int o = 0; o < j->c; o++) {
        float s = rstd[o / each];
        p[o] = s * j->gamma[o];
        q[o] = -(s * s * s * q[o] / count);
        r[o] = -(s * r[o] / count);
        sums[o] *= s;
    }
    t->groupnorm_dx(pixels, c, x, dy, m, p, q, r, j->y + k * size);
}

void ss_groupnorm_backward(ss_pool *pool, int n, int pixels, int c, int groups, const float *x,
                           const float *gamma, const float *mean, const float *rstd, const float *dy,
                           float *dx, float *dgamma, float *dbeta, float *work)
{
    groupnorm_job j = {.pixels = pixels,
                       .c = c,
                       .groups = groups,
                       .x = x,
                       .gamma = gamma,
                       .mean_in = mean,
                       .rstd_in = rstd,
                       .dy = dy,
                       .y = dx,
                       .work = work};
    ss_pool_run(pool, n, groupnorm_backward_task, &j);
    for (int i = 0; i < n; i++) {
        const float *sums = work + 6 * (size_t)i * (size_t)c;
        for (int o = 0; o < c; o++) {
            dgamma[o] += sums[o];
            dbeta[o] += sums[c + o];
        }
    }
}

/* ---- rows ---- */

void ss_weightnorm_forward(int rows, int len, float factor, float eps, const float *w, const float *gain,
                           float *what, float *mean, float *rstd)
{
    for (int i = 0; i < rows; i++) {
        size_t at = (size_t)i * (size_t)len;
        ss_kernels()->weightnorm((size_t)len, factor, eps, w + at, gain ? gain[i] : 1.0f, what + at, mean + i,
                                 rstd + i);
    }
}

void ss_weightnorm_backward(int rows, int len, float factor, const float *w, const float *gain,
                            const float *mean, const float *rstd, const float *dwhat, float *dw, float *dgain)
{
    for (int i = 0; i < rows; i++) {
        size_t at = (size_t)i * (size_t)len;
        ss_kernels()->weightnorm_backward((size_t)len, factor, w + at, gain ? gain[i] : 1.0f, mean[i],
                                          rstd[i], dwhat + at, dw + at, dgain ? dgain + i : NULL);
    }
}

void ss_l2norm_forward(int n, int d, const float *x, float *z, float *norm)
{
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)d;
        ss_kernels()->l2norm((size_t)d, x + at, z + at, norm ? norm + i : NULL);
    }
}

void ss_l2norm_backward(int n, int d, const float *z, const float *norm, const float *dz, float *dx)
{
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)d;
        ss_kernels()->l2norm_backward((size_t)d, z + at, norm[i], dz + at, dx + at);
    }
}

/* ---- flat blocks ---- */

typedef struct step_job {
    size_t n;
    float constants[8];
    const ss_sgd *sgd;
    float *w, *m, *v;
    const float *g;
} step_job;

static int chunks(size_t n)
{
    return (int)((n + CHUNK - 1) / CHUNK);
}

static void adam_task(void *arg, int i, int thread)
{
    const step_job *j = arg;
    size_t at = (size_t)i * CHUNK, n = j->n - at < CHUNK ? j->n - at : CHUNK;
    ss_kernels()->adam(n, j->constants, j->w + at, j->g + at, j->m + at, j->v + at);
}

void ss_adam_step(const ss_adam *a, ss_pool *pool, size_t n, float *w, const float *g, float *m, float *v)
{
    double b1 = a->beta1, b2 = a->beta2, t = (double)a->step;
    double first = 1 - pow(b1, t), second = sqrt(1 - pow(b2, t));
    step_job j = {.n = n, .w = w, .g = g, .m = m, .v = v};
    j.constants[SS_ADAM_KEEP] = (float)(1 - (double)a->lr * (double)a->decay);
    j.constants[SS_ADAM_GRAD] = a->grad_scale;
    j.constants[SS_ADAM_B1] = a->beta1;
    j.constants[SS_ADAM_1B1] = (float)(1 - b1);
    j.constants[SS_ADAM_B2] = a->beta2;
    j.constants[SS_ADAM_1B2] = (float)(1 - b2);
    j.constants[SS_ADAM_RATE] = (float)((double)a->lr * second / first);
    j.constants[SS_ADAM_EPS] = (float)((double)a->eps * second);
    ss_pool_run(pool, chunks(n), adam_task, &j);
}

static void sgd_task(void *arg, int i, int thread)
{
    const step_job *j = arg;
    size_t at = (size_t)i * CHUNK, n = j->n - at < CHUNK ? j->n - at : CHUNK;
    ss_kernels()->sgd(n, j->sgd, j->w + at, j->g + at, j->v + at);
}

void ss_sgd_step(const ss_sgd *s, ss_pool *pool, size_t n, float *w, const float *g, float *velocity)
{
    step_job j = {.n = n, .sgd = s, .w = w, .g = g, .v = velocity};
    ss_pool_run(pool, chunks(n), sgd_task, &j);
}

double ss_dot(size_t n, const float *a, const float *b)
{
    double total = 0;
    for (size_t i = 0; i < n; i += SS_SUM_BLOCK)
        total += (double)ss_kernels()->dot(n - i < SS_SUM_BLOCK ? n - i : SS_SUM_BLOCK, a + i, b + i);
    return total;
}

double ss_sum_squares(size_t n, const float *x)
{
    return ss_dot(n, x, x);
}

float ss_max_abs(size_t n, const float *x)
{
    return ss_kernels()->max_abs(n, x);
}

/* A product with 0 is 0 for finite numbers alone. */
bool ss_all_finite(size_t n, const float *x)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * 0.0f;
    return sum == 0.0f;
}

void ss_axpy(size_t n, float a, const float *x, float *y)
{
    ss_kernels()->axpy(n, a, x, y);
}

void ss_ema(size_t n, float a, const float *x, float *y)
{
    ss_kernels()->ema(n, a, x, y);
}

void ss_scale(size_t n, float a, const float *x, float *y)
{
    ss_kernels()->scale(n, a, x, y);
}

/* ---- random numbers, mixture ---- */

void ss_fill_normal(ss_rng *r, float *out, size_t n)
{
    uint64_t block = (r->next + 3) >> 2;
    ss_kernels()->fill_normal(r, block, n, out);
    r->next = (block + (n + 3) / 4) << 2;
}

void ss_mix_distances(int dim, int stride, const float *z, const float *mean, float *d2)
{
    ss_kernels()->mix_distances((size_t)dim, (size_t)stride, z, mean, d2);
}

void ss_mix_follow(int dim, int stride, const float *z, const float *step, float *mean, float *variance,
                   float *spread)
{
    ss_kernels()->mix_follow((size_t)dim, (size_t)stride, z, step, mean, variance, spread);
}

float ss_mix_softmax(int n, const float *score, float *p)
{
    return ss_kernels()->mix_softmax((size_t)n, score, p);
}

void ss_mix_to_rows(int dim, int stride, const float *mean, const float *variance, float *row_mean,
                    float *row_deviation)
{
    ss_kernels()->mix_rows((size_t)dim, (size_t)stride, mean, variance, row_mean, row_deviation);
}

void ss_mix_draw(const ss_mix_rows *m, ss_rng *r, int n, float *out)
{
    if (n < 1)
        return;
    ss_kernels()->mix_draw(m, r, (size_t)n, out);
    r->next = ((r->next >> 2) + (uint64_t)n * (((uint64_t)m->dim + 3) / 4 + 1)) << 2;
}

/* ---- frames of sound ---- */

void ss_clean(size_t n, float limit, const float *in, float *out, uint64_t *nonfinite, uint64_t *excessive)
{
    ss_kernels()->clean(n, limit, in, out, nonfinite, excessive);
}

void ss_taper(size_t n, const float *x, const float *weight, float inv_sum, float *out)
{
    ss_kernels()->taper(n, x, weight, inv_sum, out);
}

void ss_spectrum_power(int half, const float *z, const float *turn, float *work, float *power)
{
    ss_kernels()->spectrum((size_t)half, z, turn, work, power);
}

void ss_log_bands(int rows, const int *first, const int *blocks, const float *weight, const float *power,
                  float floor, float *out)
{
    ss_kernels()->bands((size_t)rows, first, blocks, weight, power, floor, out);
}

/* ---- conversions ---- */

void ss_f16_from_f32(size_t n, const float *x, uint16_t *y)
{
    ss_kernels()->f16_from_f32(n, x, y);
}

void ss_f32_from_f16(size_t n, const uint16_t *x, float *y)
{
    ss_kernels()->f32_from_f16(n, x, y);
}

void ss_i8_from_f32(size_t n, float step, const float *x, int8_t *y)
{
    ss_kernels()->i8_from_f32(n, step, x, y);
}

void ss_f32_from_i8(size_t n, float step, const int8_t *x, float *y)
{
    ss_kernels()->f32_from_i8(n, step, x, y);
}

/* rows x columns -> columns x rows, in squares that stay in the cache. */
static void transpose(size_t rows, size_t columns, const float *x, float *y)
{
    enum { SIDE = 16 };
    for (size_t r0 = 0; r0 < rows; r0 += SIDE)
        for (size_t c0 = 0; c0 < columns; c0 += SIDE) {
            size_t r1 = rows - r0 < SIDE ? rows : r0 + SIDE, c1 = columns - c0 < SIDE ? columns : c0 + SIDE;
            for (size_t c = c0; c < c1; c++)
                for (size_t r = r0; r < r1; r++)
                    y[c * rows + r] = x[r * columns + c];
        }
}

void ss_hwc_from_chw(int n, int c, int pixels, const float *x, float *y)
{
    size_t rows = (size_t)c, columns = (size_t)pixels;
    for (size_t i = 0; i < (size_t)n; i++)
        transpose(rows, columns, x + i * rows * columns, y + i * rows * columns);
}

void ss_chw_from_hwc(int n, int c, int pixels, const float *x, float *y)
{
    size_t rows = (size_t)pixels, columns = (size_t)c;
    for (size_t i = 0; i < (size_t)n; i++)
        transpose(rows, columns, x + i * rows * columns, y + i * rows * columns);
}
