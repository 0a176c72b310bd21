/*
 * Kernels that go once over their data, written over a vector header (VL lanes, vf): compiled once for each
 * level, with one lane in scalar.c, where this is the definition. Sums run in a fixed number of chains
 * whatever VL is. Private.
 */
#ifndef SS_KERNELS_ELEMENTS_H
#define SS_KERNELS_ELEMENTS_H

#include <math.h>

#include "kernels/internal.h"

#define CHAINS 64 /* of a sum over neighbouring elements */

/* max(v, 0); NaN stays. */
static inline vf vrelu(vf v)
{
    return vmax(vset1(0.0f), v);
}

static inline vf vgate(vf gate, vf v)
{
    return vselect_gt(gate, vset1(0.0f), v, vset1(0.0f));
}

static void relu(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vrelu(vloadn(x + i, n - i)), n - i);
}

static void relu_backward(size_t n, const float *y, const float *dy, float *dx)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(dx + i, vgate(vloadn(y + i, n - i), vloadn(dy + i, n - i)), n - i);
}

static void affine(size_t rows, size_t c, const float *x, const float *scale, const float *shift,
                   const float *add, bool relu_too, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i += VL) {
            vf v = vfma(vloadn(x + r * c + i, c - i), vloadn(scale + i, c - i), vloadn(shift + i, c - i));
            if (add)
                v = vadd(v, vloadn(add + r * c + i, c - i));
            vstoren(y + r * c + i, relu_too ? vrelu(v) : v, c - i);
        }
}

static void channel_scale(size_t rows, size_t c, const float *x, const float *scale, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i += VL)
            vstoren(y + r * c + i, vmul(vloadn(x + r * c + i, c - i), vloadn(scale + i, c - i)), c - i);
}

enum channel_term { TERM_X, TERM_XY, TERM_SQUARE, TERM_CENTRED };

static inline __attribute__((always_inline)) vf channel_term(enum channel_term term, const float *x,
                                                             const float *y, vf mean, size_t row, size_t i,
                                                             size_t c, vf sum)
{
    vf v = vloadn(x + row + i, c - i);
    switch (term) {
    case TERM_X:
        return vadd(sum, v);
    case TERM_XY:
        return vfma(v, vloadn(y + row + i, c - i), sum);
    case TERM_SQUARE:
        return vfma(vsub(v, mean), vsub(v, mean), sum);
    default:
        return vfma(vsub(v, mean), vloadn(y + row + i, c - i), sum);
    }
}

/*
 * Sums over rows, for `vectors` neighbouring vectors of channels from c0 on: row r of a block goes to chain r
 * % 4, a block's chains are added in pairs, the blocks to the total in order.
 */
static inline __attribute__((always_inline)) void channel_columns(enum channel_term term, int vectors,
                                                                  size_t rows, size_t c, size_t c0,
                                                                  const float *x, const float *m,
                                                                  const float *y, float *out)
{
    vf total[4], mean[4];
    for (int j = 0; j < vectors; j++) {
        total[j] = vset1(0.0f);
        mean[j] = m ? vloadn(m + c0 + (size_t)j * VL, c - c0 - (size_t)j * VL) : vset1(0.0f);
    }
    for (size_t r0 = 0; r0 < rows; r0 += SS_CHANNEL_ROWS) {
        size_t r1 = rows - r0 < SS_CHANNEL_ROWS ? rows : r0 + SS_CHANNEL_ROWS;
        vf chain[4][4];
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < vectors; j++)
                chain[k][j] = vset1(0.0f);
        size_t r = r0;
        for (; r + 4 <= r1; r += 4)
            for (int k = 0; k < 4; k++)
                for (int j = 0; j < vectors; j++)
                    chain[k][j] = channel_term(term, x, y, mean[j], (r + (size_t)k) * c, c0 + (size_t)j * VL,
                                               c, chain[k][j]);
        for (int k = 0; k < 3; k++)
            if (r + (size_t)k < r1)
                for (int j = 0; j < vectors; j++)
                    chain[k][j] = channel_term(term, x, y, mean[j], (r + (size_t)k) * c, c0 + (size_t)j * VL,
                                               c, chain[k][j]);
        for (int j = 0; j < vectors; j++)
            total[j] = vadd(total[j], vadd(vadd(chain[0][j], chain[1][j]), vadd(chain[2][j], chain[3][j])));
    }
    for (int j = 0; j < vectors; j++) {
        size_t i = c0 + (size_t)j * VL;
        vstoren(out + i, vadd(vloadn(out + i, c - i), total[j]), c - i);
    }
}

static inline __attribute__((always_inline)) void channel_terms(enum channel_term term, size_t rows, size_t c,
                                                                const float *x, const float *m,
                                                                const float *y, float *out)
{
    size_t i = 0;
    for (; i + 4 * VL <= c; i += 4 * VL)
        channel_columns(term, 4, rows, c, i, x, m, y, out);
    for (; i < c; i += VL)
        channel_columns(term, 1, rows, c, i, x, m, y, out);
}

static void channel_sum(size_t rows, size_t c, const float *x, float *out)
{
    channel_terms(TERM_X, rows, c, x, NULL, NULL, out);
}

static void channel_dot(size_t rows, size_t c, const float *x, const float *y, float *out)
{
    channel_terms(TERM_XY, rows, c, x, NULL, y, out);
}

static void channel_square(size_t rows, size_t c, const float *x, const float *m, float *out)
{
    channel_terms(TERM_SQUARE, rows, c, x, m, NULL, out);
}

static void channel_dot_centred(size_t rows, size_t c, const float *x, const float *m, const float *y,
                                float *out)
{
    channel_terms(TERM_CENTRED, rows, c, x, m, y, out);
}

static void groupnorm_dx(size_t rows, size_t c, const float *x, const float *dy, const float *m,
                         const float *p, const float *q, const float *r, float *dx)
{
    for (size_t k = 0; k < rows; k++)
        for (size_t i = 0; i < c; i += VL) {
            size_t at = k * c + i, left = c - i;
            vf centred = vsub(vloadn(x + at, left), vloadn(m + i, left));
            vf rest = vfma(centred, vloadn(q + i, left), vloadn(r + i, left));
            vstoren(dx + at, vfma(vloadn(dy + at, left), vloadn(p + i, left), rest), left);
        }
}

static inline float fold(const vf chain[CHAINS / VL])
{
    float lane[CHAINS];
    for (size_t j = 0; j < CHAINS / VL; j++)
        vstore(lane + j * VL, chain[j]);
    for (size_t half = CHAINS / 2; half; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

#define ROW_CHAINS 16 /* of a short sum, of which there are many */

/* VL sums at once: lane i of chain[j] is chain j of sum i; halves are added as in fold. */
static inline vf fold_chains(vf chain[ROW_CHAINS])
{
#pragma GCC unroll 4
    for (size_t half = ROW_CHAINS / 2; half; half /= 2)
#pragma GCC unroll 8
        for (size_t j = 0; j < half; j++)
            chain[j] = vadd(chain[j], chain[j + half]);
    return chain[0];
}

/* The same with row[i] the chains of sum i. */
static inline vf fold_rows(float (*row)[ROW_CHAINS])
{
    vf chain[ROW_CHAINS];
    for (size_t b = 0; b < ROW_CHAINS; b += VL) {
        for (size_t i = 0; i < VL; i++)
            chain[b + i] = vload(row[i] + b);
        vtranspose(chain + b);
    }
    return fold_chains(chain);
}

/* Sum of (a - ma) * (b - mb): element i goes to chain i % 64. */
static inline __attribute__((always_inline)) float dot_centred(size_t n, const float *a, float ma,
                                                               const float *b, float mb, bool centred)
{
    vf chain[CHAINS / VL];
    for (size_t j = 0; j < CHAINS / VL; j++)
        chain[j] = vset1(0.0f);
    size_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (size_t j = 0; j < CHAINS / VL; j++) {
            vf va = vload(a + i + j * VL), vb = vload(b + i + j * VL);
            if (centred) {
                va = vsub(va, vset1(ma));
                vb = vsub(vb, vset1(mb));
            }
            chain[j] = vfma(va, vb, chain[j]);
        }
    if (i < n) {
        /* The rest in a block of its own, so that what is past the end adds zeros. */
        float ra[CHAINS] = {0}, rb[CHAINS] = {0};
        for (size_t j = 0; i + j < n; j++) {
            ra[j] = centred ? a[i + j] - ma : a[i + j];
            rb[j] = centred ? b[i + j] - mb : b[i + j];
        }
        for (size_t j = 0; j < CHAINS / VL; j++)
            chain[j] = vfma(vload(ra + j * VL), vload(rb + j * VL), chain[j]);
    }
    return fold(chain);
}

static float dot(size_t n, const float *a, const float *b)
{
    return dot_centred(n, a, 0, b, 0, false);
}

static float sum(size_t n, const float *x)
{
    vf chain[CHAINS / VL];
    for (size_t j = 0; j < CHAINS / VL; j++)
        chain[j] = vset1(0.0f);
    size_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (size_t j = 0; j < CHAINS / VL; j++)
            chain[j] = vadd(chain[j], vload(x + i + j * VL));
    if (i < n) {
        float rest[CHAINS] = {0};
        for (size_t j = 0; i + j < n; j++)
            rest[j] = x[i + j];
        for (size_t j = 0; j < CHAINS / VL; j++)
            chain[j] = vadd(chain[j], vload(rest + j * VL));
    }
    return fold(chain);
}

static void weightnorm(size_t len, float factor, float eps, const float *w, float gain, float *what,
                       float *mean, float *rstd)
{
    float m = sum(len, w) / (float)len;
    float var = dot_centred(len, w, m, w, m, true) / (float)len;
    float s = 1.0f / sqrtf(var * factor + eps);
    for (size_t i = 0; i < len; i += VL)
        vstoren(what + i, vmul(vsub(vloadn(w + i, len - i), vset1(m)), vset1(s * gain)), len - i);
    *mean = m;
    *rstd = s;
}

/*
 * With u = w - mean and D = sum(dwhat * u): dgain = rstd D, and rstd = (mean(u^2) factor + eps)^-1/2 gives
 * dw = gain (rstd (dwhat - mean(dwhat)) - D rstd^3 factor / len * u), where sum(u) = 0 was used.
 */
static void weightnorm_backward(size_t len, float factor, const float *w, float gain, float mean, float rstd,
                                const float *dwhat, float *dw, float *dgain)
{
    float d = dot_centred(len, w, mean, dwhat, 0, true), centre = sum(len, dwhat) / (float)len;
    float a = gain * rstd, b = -(gain * d * rstd * rstd * rstd * factor / (float)len);
    for (size_t i = 0; i < len; i += VL) {
        vf u = vsub(vloadn(w + i, len - i), vset1(mean)), g = vsub(vloadn(dwhat + i, len - i), vset1(centre));
        vf v = vfma(u, vset1(b), vmul(g, vset1(a)));
        vstoren(dw + i, vadd(vloadn(dw + i, len - i), v), len - i);
    }
    if (dgain)
        *dgain += rstd * d;
}

static void l2norm(size_t d, const float *x, float *z, float *norm)
{
    float length = sqrtf(dot(d, x, x));
    for (size_t i = 0; i < d; i += VL)
        vstoren(z + i, length > 0 ? vdiv(vloadn(x + i, d - i), vset1(length)) : vset1(0.0f), d - i);
    if (norm)
        *norm = length;
}

static void l2norm_backward(size_t d, const float *z, float norm, const float *dz, float *dx)
{
    float along = dot(d, z, dz);
    for (size_t i = 0; i < d; i += VL) {
        vf v = vfma(vloadn(z + i, d - i), vset1(-along), vloadn(dz + i, d - i));
        vstoren(dx + i, norm > 0 ? vdiv(v, vset1(norm)) : vset1(0.0f), d - i);
    }
}

static void adam(size_t n, const float k[8], float *w, const float *g, float *m, float *v)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf grad = vmul(vloadn(g + i, left), vset1(k[SS_ADAM_GRAD]));
        vf m1 = vfma(vloadn(m + i, left), vset1(k[SS_ADAM_B1]), vmul(grad, vset1(k[SS_ADAM_1B1])));
        vf v1 =
            vfma(vloadn(v + i, left), vset1(k[SS_ADAM_B2]), vmul(vmul(grad, grad), vset1(k[SS_ADAM_1B2])));
        /* eps holds sqrt(1 - beta2^step) eps and the rate sqrt(1 - beta2^step) / (1 - beta1^step) lr. */
        vf step = vdiv(vmul(m1, vset1(k[SS_ADAM_RATE])), vadd(vsqrt(v1), vset1(k[SS_ADAM_EPS])));
        vstoren(m + i, m1, left);
        vstoren(v + i, v1, left);
        vstoren(w + i, vsub(vmul(vloadn(w + i, left), vset1(k[SS_ADAM_KEEP])), step), left);
    }
}

static void sgd(size_t n, const ss_sgd *s, float *w, const float *g, float *velocity)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf now = vloadn(w + i, left);
        vf grad = vfma(now, vset1(s->decay), vmul(vloadn(g + i, left), vset1(s->grad_scale)));
        vf vel = vfma(vloadn(velocity + i, left), vset1(s->momentum), grad);
        vstoren(velocity + i, vel, left);
        vstoren(w + i, vfma(vel, vset1(-s->lr), now), left);
    }
}

static float max_abs(size_t n, const float *x)
{
    vf most = vset1(0.0f);
    for (size_t i = 0; i < n; i += VL)
        most = vmax(vabs(vloadn(x + i, n - i)), most);
    float lane[VL], m = 0;
    vstore(lane, most);
    for (size_t j = 0; j < VL; j++)
        m = lane[j] > m ? lane[j] : m;
    return m;
}

static void axpy(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vfma(vloadn(x + i, n - i), vset1(a), vloadn(y + i, n - i)), n - i);
}

static void ema(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL) {
        vf old = vloadn(y + i, n - i);
        vstoren(y + i, vfma(vsub(vloadn(x + i, n - i), old), vset1(a), old), n - i);
    }
}

static void scale_all(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vmul(vloadn(x + i, n - i), vset1(a)), n - i);
}

static void f16_from_f32(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstore_f16n(y + i, vloadn(x + i, n - i), n - i);
}

static void f32_from_f16(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vload_f16n(x + i, n - i), n - i);
}

static void i8_from_f32(size_t n, float step, const float *x, int8_t *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstore_i8n(y + i, vdiv(vloadn(x + i, n - i), vset1(step)), n - i);
}

static void f32_from_i8(size_t n, float step, const int8_t *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vmul(vload_i8n(x + i, n - i), vset1(step)), n - i);
}

/* The part of a window of `size` places from `first` on that lies in 0..end-1. */
typedef struct window {
    int low, high;
} window;

static inline window window_of(int first, int size, int end)
{
    return (window){first < 0 ? -first : 0, end - first < size ? end - first : size};
}

/* The first largest of rows x columns pixels for the channels from i on; number: of the taps there. */
static inline __attribute__((always_inline)) void maxpool_window(const float *at, size_t row, size_t c,
                                                                 size_t i, int rows, int columns,
                                                                 const float *number, int size, float *y,
                                                                 uint8_t *which)
{
    vf best = vset1(-INFINITY), tap = vset1(number[0]);
    for (int r = 0; r < rows; r++)
        for (int s = 0; s < columns; s++) {
            vf v = vloadn(at + ((size_t)r * row + (size_t)s * c + i), c - i);
            if (which)
                tap = vselect_gt(v, best, vset1(number[r * size + s]), tap);
            best = vmax(v, best);
        }
    vstoren(y + i, best, c - i);
    if (which)
        vstore_u8n(which + i, tap, c - i);
}

static void maxpool(const ss_maxpool *p, int oh, const float *x, float *y, uint8_t *which)
{
    const size_t c = (size_t)p->c, row = c * (size_t)p->w;
    float number[15 * 15];
    for (int k = 0; k < p->size * p->size; k++)
        number[k] = (float)k;
    int top = oh * p->stride - p->pad;
    window rows = window_of(top, p->size, p->h);
    for (int ow = 0; ow < p->ow; ow++) {
        int side = ow * p->stride - p->pad;
        window columns = window_of(side, p->size, p->w);
        const float *corner = x + (size_t)(top + rows.low) * row + (size_t)(side + columns.low) * c;
        const float *first = number + rows.low * p->size + columns.low;
        int high = rows.high - rows.low, wide = columns.high - columns.low;
        if (high == 3 && wide == 3 && !which)
            for (size_t i = 0; i < c; i += VL)
                maxpool_window(corner, row, c, i, 3, 3, first, 3, y, NULL);
        else if (!which)
            for (size_t i = 0; i < c; i += VL)
                maxpool_window(corner, row, c, i, high, wide, first, p->size, y, NULL);
        else
            for (size_t i = 0; i < c; i += VL)
                maxpool_window(corner, row, c, i, high, wide, first, p->size, y, which);
        y += c;
        which += which ? c : 0;
    }
}
static void maxpool_backward(const ss_maxpool *p, const float *dy, const uint8_t *which, const float *gate,
                             float *dx)
{
    const size_t c = (size_t)p->c, row = c * (size_t)p->w, out_row = c * (size_t)p->ow;
    float number[15 * 15];
    for (int k = 0; k < p->size * p->size; k++)
        number[k] = (float)k;
    for (int h = 0; h < p->h; h++, dx += row, gate += gate ? row : 0)
        for (size_t i = 0; i < c; i += VL) {
            for (int w = 0; w < p->w; w++)
                vstoren(dx + (size_t)w * c + i, vset1(0.0f), c - i);
            int first = h + p->pad - p->size + 1, last = (h + p->pad) / p->stride;
            int oh = first <= 0 ? 0 : (first + p->stride - 1) / p->stride;
            for (; oh <= last && oh < p->oh; oh++) {
                const int r = h + p->pad - oh * p->stride;
                size_t out = (size_t)oh * out_row + i;
                for (int ow = 0, side = -p->pad; ow < p->ow; ow++, side += p->stride, out += c) {
                    vf won = vload_u8n(which + out, c - i), v = vloadn(dy + out, c - i);
                    window columns = window_of(side, p->size, p->w);
                    for (int s = columns.low; s < columns.high; s++) {
                        float *at = dx + (size_t)(side + s) * c + i;
                        vstoren(at, vadd(vloadn(at, c - i), vkeep_eq(won, vset1(number[r * p->size + s]), v)),
                                c - i);
                    }
                }
            }
            if (gate)
                for (int w = 0; w < p->w; w++) {
                    float *at = dx + (size_t)w * c + i;
                    vstoren(at, vgate(vloadn(gate + (size_t)w * c + i, c - i), vloadn(at, c - i)), c - i);
                }
        }
}

static void avgpool(size_t pixels, size_t c, const float *x, float *y)
{
    float share = 1.0f / (float)pixels;
    for (size_t i = 0; i < c; i += VL) {
        vf v = vset1(0.0f);
        for (size_t k = 0; k < pixels; k++)
            v = vadd(v, vloadn(x + k * c + i, c - i));
        vstoren(y + i, vmul(v, vset1(share)), c - i);
    }
}

static void avgpool_backward(size_t pixels, size_t c, const float *dy, const float *gate, float *dx)
{
    float share = 1.0f / (float)pixels;
    for (size_t k = 0; k < pixels; k++)
        for (size_t i = 0; i < c; i += VL) {
            vf v = vmul(vloadn(dy + i, c - i), vset1(share));
            if (gate)
                v = vgate(vloadn(gate + k * c + i, c - i), v);
            vstoren(dx + k * c + i, v, c - i);
        }
}

/*
 * Rows (at most 16) of length taps * channels, as [channel][tap], to [tap][channel][16 rows], absent rows 0;
 * and that added back to the rows. to_step: floats between taps on the packed side.
 */
static void pack_rows(const float *from, size_t row, size_t rows, size_t taps, size_t channels, float *to,
                      size_t to_step)
{
    size_t len = taps * channels;
    for (size_t o = 0; o < SS_PANEL; o += VL)
        for (size_t k = 0, tap = 0, c = 0; k < len; k += VL) {
            vf block[VL];
            for (size_t i = 0; i < VL; i++)
                block[i] = o + i < rows ? vloadn(from + (o + i) * row + k, len - k) : vset1(0.0f);
            vtranspose(block);
            for (size_t j = 0; j < VL && k + j < len; j++) {
                vstore(to + tap * to_step + c * SS_PANEL + o, block[j]);
                if (++tap == taps) {
                    tap = 0;
                    c++;
                }
            }
        }
}

static void unpack_rows_add(const float *from, size_t from_step, size_t rows, size_t taps, size_t channels,
                            float *to, size_t row)
{
    size_t len = taps * channels;
    for (size_t o = 0; o < rows; o += VL)
        for (size_t k = 0, tap = 0, c = 0; k < len; k += VL) {
            vf block[VL];
            for (size_t j = 0; j < VL; j++) {
                block[j] = k + j < len ? vload(from + tap * from_step + c * SS_PANEL + o) : vset1(0.0f);
                if (++tap == taps) {
                    tap = 0;
                    c++;
                }
            }
            vtranspose(block);
            for (size_t i = 0; i < VL && o + i < rows; i++) {
                float *p = to + (o + i) * row + k;
                vstoren(p, vadd(vloadn(p, len - k), block[i]), len - k);
            }
        }
}

/* [rows][16] to [16][rows to 16]: a square of 16 x 16 of which `columns` rows are wanted. */
static void turn(const float *from, size_t columns, float *to)
{
    for (size_t a = 0; a < SS_PANEL; a += VL)
        for (size_t b = 0; b < columns; b += VL) {
            vf block[VL];
            for (size_t i = 0; i < VL; i++)
                block[i] = vload(from + (a + i) * SS_PANEL + b);
            vtranspose(block);
            for (size_t i = 0; i < VL && b + i < columns; i++)
                vstore(to + (b + i) * SS_PANEL + a, block[i]);
        }
}

#define ELEMENTS                                                                                             \
    .relu = relu, .relu_backward = relu_backward, .affine = affine, .channel_scale = channel_scale,          \
    .channel_sum = channel_sum, .channel_dot = channel_dot, .channel_square = channel_square,                \
    .channel_dot_centred = channel_dot_centred, .groupnorm_dx = groupnorm_dx, .weightnorm = weightnorm,      \
    .weightnorm_backward = weightnorm_backward, .l2norm = l2norm, .l2norm_backward = l2norm_backward,        \
    .adam = adam, .sgd = sgd, .dot = dot, .max_abs = max_abs, .axpy = axpy, .ema = ema, .scale = scale_all,  \
    .f16_from_f32 = f16_from_f32, .f32_from_f16 = f32_from_f16, .i8_from_f32 = i8_from_f32,                  \
    .f32_from_i8 = f32_from_i8, .maxpool = maxpool, .maxpool_backward = maxpool_backward,                    \
    .pack_rows = pack_rows, .unpack_rows_add = unpack_rows_add, .turn = turn, .avgpool = avgpool,            \
    .avgpool_backward = avgpool_backward

#endif
