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

static inline vf ld(const float *p, size_t left)
{
    return left >= VL ? vload(p) : vloadn(p, left);
}

static inline void st(float *p, vf v, size_t left)
{
    if (left >= VL)
        vstore(p, v);
    else
        vstoren(p, v, left);
}

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
        st(y + i, vrelu(ld(x + i, n - i)), n - i);
}

static void relu_backward(size_t n, const float *y, const float *dy, float *dx)
{
    for (size_t i = 0; i < n; i += VL)
        st(dx + i, vgate(ld(y + i, n - i), ld(dy + i, n - i)), n - i);
}

static void affine(size_t rows, size_t c, const float *x, const float *scale, const float *shift,
                   const float *add, bool relu_too, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i += VL) {
            vf v = vfma(ld(x + r * c + i, c - i), ld(scale + i, c - i), ld(shift + i, c - i));
            if (add)
                v = vadd(v, ld(add + r * c + i, c - i));
            st(y + r * c + i, relu_too ? vrelu(v) : v, c - i);
        }
}

static void channel_scale(size_t rows, size_t c, const float *x, const float *scale, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < c; i += VL)
            st(y + r * c + i, vmul(ld(x + r * c + i, c - i), ld(scale + i, c - i)), c - i);
}

enum channel_term { TERM_X, TERM_XY, TERM_SQUARE, TERM_CENTRED };

static inline __attribute__((always_inline)) vf channel_term(enum channel_term term, const float *x,
                                                             const float *y, vf mean, size_t row, size_t i,
                                                             size_t c, vf sum)
{
    vf v = ld(x + row + i, c - i);
    switch (term) {
    case TERM_X:
        return vadd(sum, v);
    case TERM_XY:
        return vfma(v, ld(y + row + i, c - i), sum);
    case TERM_SQUARE:
        return vfma(vsub(v, mean), vsub(v, mean), sum);
    default:
        return vfma(vsub(v, mean), ld(y + row + i, c - i), sum);
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
        mean[j] = m ? ld(m + c0 + (size_t)j * VL, c - c0 - (size_t)j * VL) : vset1(0.0f);
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
        st(out + i, vadd(ld(out + i, c - i), total[j]), c - i);
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
            vf centred = vsub(ld(x + at, left), ld(m + i, left));
            vf rest = vfma(centred, ld(q + i, left), ld(r + i, left));
            st(dx + at, vfma(ld(dy + at, left), ld(p + i, left), rest), left);
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
        st(what + i, vmul(vsub(ld(w + i, len - i), vset1(m)), vset1(s * gain)), len - i);
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
        vf u = vsub(ld(w + i, len - i), vset1(mean)), g = vsub(ld(dwhat + i, len - i), vset1(centre));
        vf v = vfma(u, vset1(b), vmul(g, vset1(a)));
        st(dw + i, vadd(ld(dw + i, len - i), v), len - i);
    }
    if (dgain)
        *dgain += rstd * d;
}

static void l2norm(size_t d, const float *x, float *z, float *norm)
{
    float length = sqrtf(dot(d, x, x));
    for (size_t i = 0; i < d; i += VL)
        st(z + i, length > 0 ? vdiv(ld(x + i, d - i), vset1(length)) : vset1(0.0f), d - i);
    if (norm)
        *norm = length;
}

static void l2norm_backward(size_t d, const float *z, float norm, const float *dz, float *dx)
{
    float along = dot(d, z, dz);
    for (size_t i = 0; i < d; i += VL) {
        vf v = vfma(ld(z + i, d - i), vset1(-along), ld(dz + i, d - i));
        st(dx + i, norm > 0 ? vdiv(v, vset1(norm)) : vset1(0.0f), d - i);
    }
}

static void adam(size_t n, const float k[8], float *w, const float *g, float *m, float *v)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf grad = vmul(ld(g + i, left), vset1(k[SS_ADAM_GRAD]));
        vf m1 = vfma(ld(m + i, left), vset1(k[SS_ADAM_B1]), vmul(grad, vset1(k[SS_ADAM_1B1])));
        vf v1 = vfma(ld(v + i, left), vset1(k[SS_ADAM_B2]), vmul(vmul(grad, grad), vset1(k[SS_ADAM_1B2])));
        /* eps holds sqrt(1 - beta2^step) eps and the rate sqrt(1 - beta2^step) / (1 - beta1^step) lr. */
        vf step = vdiv(vmul(m1, vset1(k[SS_ADAM_RATE])), vadd(vsqrt(v1), vset1(k[SS_ADAM_EPS])));
        st(m + i, m1, left);
        st(v + i, v1, left);
        st(w + i, vsub(vmul(ld(w + i, left), vset1(k[SS_ADAM_KEEP])), step), left);
    }
}

static void sgd(size_t n, const ss_sgd *s, float *w, const float *g, float *velocity)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf now = ld(w + i, left);
        vf grad = vfma(now, vset1(s->decay), vmul(ld(g + i, left), vset1(s->grad_scale)));
        vf vel = vfma(ld(velocity + i, left), vset1(s->momentum), grad);
        st(velocity + i, vel, left);
        st(w + i, vfma(vel, vset1(-s->lr), now), left);
    }
}

static float max_abs(size_t n, const float *x)
{
    vf most = vset1(0.0f);
    for (size_t i = 0; i < n; i += VL)
        most = vmax(vabs(ld(x + i, n - i)), most);
    float lane[VL], m = 0;
    vstore(lane, most);
    for (size_t j = 0; j < VL; j++)
        m = lane[j] > m ? lane[j] : m;
    return m;
}

static void axpy(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        st(y + i, vfma(ld(x + i, n - i), vset1(a), ld(y + i, n - i)), n - i);
}

static void ema(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL) {
        vf old = ld(y + i, n - i);
        st(y + i, vfma(vsub(ld(x + i, n - i), old), vset1(a), old), n - i);
    }
}

static void scale_all(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        st(y + i, vmul(ld(x + i, n - i), vset1(a)), n - i);
}

static void f16_from_f32(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstore_f16n(y + i, ld(x + i, n - i), n - i);
}

static void f32_from_f16(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        st(y + i, vload_f16n(x + i, n - i), n - i);
}

static void i8_from_f32(size_t n, float step, const float *x, int8_t *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstore_i8n(y + i, vdiv(ld(x + i, n - i), vset1(step)), n - i);
}

static void f32_from_i8(size_t n, float step, const int8_t *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        st(y + i, vmul(vload_i8n(x + i, n - i), vset1(step)), n - i);
}

static void maxpool(const ss_maxpool *p, const float *x, float *y, uint8_t *which)
{
    size_t c = (size_t)p->c;
    for (int oh = 0; oh < p->oh; oh++)
        for (int ow = 0; ow < p->ow; ow++) {
            size_t out = ((size_t)oh * (size_t)p->ow + (size_t)ow) * c;
            int top = oh * p->stride - p->pad, side = ow * p->stride - p->pad;
            int r0 = top < 0 ? -top : 0, r1 = p->h - top < p->size ? p->h - top : p->size;
            int s0 = side < 0 ? -side : 0, s1 = p->w - side < p->size ? p->w - side : p->size;
            for (size_t i = 0; i < c; i += VL) {
                vf best = vset1(-INFINITY), tap = vset1((float)(r0 * p->size + s0));
                for (int r = r0; r < r1; r++)
                    for (int s = s0; s < s1; s++) {
                        size_t at = ((size_t)(top + r) * (size_t)p->w + (size_t)(side + s)) * c + i;
                        vf v = ld(x + at, c - i);
                        tap = vselect_gt(v, best, vset1((float)(r * p->size + s)), tap);
                        best = vmax(v, best);
                    }
                st(y + out + i, best, c - i);
                if (which)
                    vstore_u8n(which + out + i, tap, c - i);
            }
        }
}

static void maxpool_backward(const ss_maxpool *p, const float *dy, const uint8_t *which, const float *gate,
                             float *dx)
{
    size_t c = (size_t)p->c;
    for (int h = 0; h < p->h; h++)
        for (int w = 0; w < p->w; w++) {
            size_t at = ((size_t)h * (size_t)p->w + (size_t)w) * c;
            /* Windows that hold this pixel: oh * stride - pad <= h < oh * stride - pad + size. */
            int first_h = h + p->pad - p->size + 1, first_w = w + p->pad - p->size + 1;
            int oh0 = first_h <= 0 ? 0 : (first_h + p->stride - 1) / p->stride,
                oh1 = (h + p->pad) / p->stride;
            int ow0 = first_w <= 0 ? 0 : (first_w + p->stride - 1) / p->stride,
                ow1 = (w + p->pad) / p->stride;
            oh1 = oh1 < p->oh ? oh1 : p->oh - 1;
            ow1 = ow1 < p->ow ? ow1 : p->ow - 1;
            for (size_t i = 0; i < c; i += VL) {
                vf v = vset1(0.0f);
                for (int oh = oh0; oh <= oh1; oh++)
                    for (int ow = ow0; ow <= ow1; ow++) {
                        size_t out = ((size_t)oh * (size_t)p->ow + (size_t)ow) * c + i;
                        int tap = (h + p->pad - oh * p->stride) * p->size + w + p->pad - ow * p->stride;
                        vf won =
                            vkeep_eq(vload_u8n(which + out, c - i), vset1((float)tap), ld(dy + out, c - i));
                        v = vadd(v, won);
                    }
                if (gate)
                    v = vgate(ld(gate + at + i, c - i), v);
                st(dx + at + i, v, c - i);
            }
        }
}

static void avgpool(size_t pixels, size_t c, const float *x, float *y)
{
    float share = 1.0f / (float)pixels;
    for (size_t i = 0; i < c; i += VL) {
        vf v = vset1(0.0f);
        for (size_t k = 0; k < pixels; k++)
            v = vadd(v, ld(x + k * c + i, c - i));
        st(y + i, vmul(v, vset1(share)), c - i);
    }
}

static void avgpool_backward(size_t pixels, size_t c, const float *dy, const float *gate, float *dx)
{
    float share = 1.0f / (float)pixels;
    for (size_t k = 0; k < pixels; k++)
        for (size_t i = 0; i < c; i += VL) {
            vf v = vmul(ld(dy + i, c - i), vset1(share));
            if (gate)
                v = vgate(ld(gate + k * c + i, c - i), v);
            st(dx + k * c + i, v, c - i);
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
    .avgpool = avgpool, .avgpool_backward = avgpool_backward

#endif
