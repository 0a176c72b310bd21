/*
 * The definition of the kernels: plain loops, every product and sum in the order that kernels.h promises.
 * Also what runs where no vector level is. Taps that fall on the padding are left out; a kernel that adds
 * their zeros instead gives the same bits, since a chain's zero is positive before anything else is added to
 * it.
 */
#include "kernels/vec_scalar.h"
#include "kernels/elements.h"
#include "kernels/memory_vec.h"
#include "kernels/sound_vec.h"
#include "kernels/winograd_vec.h"
#include "kernels/scalar.h"

#include <string.h>

static float finish(float chain, float bias, const float *add)
{
    float v = chain + (bias + 0.0f);
    return add ? v + *add : v;
}

static float weight(const ss_conv *c, const void *packed, size_t at)
{
    return c->half ? ss_f16_to_f32(((const uint16_t *)packed)[at]) : ((const float *)packed)[at];
}

void ss_scalar_conv_forward(const ss_conv *c, int n, const float *x, const void *packed, const float *bias,
                            const float *add, bool relu_too, float *y)
{
    for (int i = 0; i < n; i++)
        for (int oh = 0; oh < c->oh; oh++)
            for (int ow = 0; ow < c->ow; ow++)
                for (int o = 0; o < c->cout; o++) {
                    float chain = 0;
                    for (int r = 0; r < c->kh; r++)
                        for (int s = 0; s < c->kw; s++) {
                            int h = oh * c->stride - c->pad + r, w = ow * c->stride - c->pad + s;
                            if (h < 0 || h >= c->h || w < 0 || w >= c->w)
                                continue;
                            const float *in =
                                x + (((size_t)i * (size_t)c->h + (size_t)h) * (size_t)c->w + (size_t)w) *
                                        (size_t)c->cin;
                            size_t k = ss_packed_at(c, o, r, s);
                            for (size_t ci = 0; ci < (size_t)c->cin; ci++)
                                chain = fmaf(in[ci], weight(c, packed, k + ci * SS_PANEL), chain);
                        }
                    size_t at = (((size_t)i * (size_t)c->oh + (size_t)oh) * (size_t)c->ow + (size_t)ow) *
                                    (size_t)c->cout +
                                (size_t)o;
                    float v = finish(chain, bias ? bias[o] : 0.0f, add ? add + at : NULL);
                    y[at] = relu_too && v < 0 ? 0.0f : v;
                }
}

void ss_scalar_conv_dx(const ss_conv *c, int n, const float *dy, const float *packed, const float *add,
                       const float *gate, float *dx)
{
    for (int i = 0; i < n; i++)
        for (int h = 0; h < c->h; h++)
            for (int w = 0; w < c->w; w++)
                for (int ci = 0; ci < c->cin; ci++) {
                    float chain = 0;
                    for (int r = c->kh - 1; r >= 0; r--)
                        for (int s = c->kw - 1; s >= 0; s--) {
                            int top = h + c->pad - r, side = w + c->pad - s;
                            if (top < 0 || side < 0 || top % c->stride || side % c->stride)
                                continue;
                            int oh = top / c->stride, ow = side / c->stride;
                            if (oh >= c->oh || ow >= c->ow)
                                continue;
                            const float *in =
                                dy + (((size_t)i * (size_t)c->oh + (size_t)oh) * (size_t)c->ow + (size_t)ow) *
                                         (size_t)c->cout;
                            const float *k = packed + ss_packed_back_at(c, ci, r, s);
                            for (int o = 0; o < c->cout; o++)
                                chain = fmaf(in[o], k[o * SS_PANEL], chain);
                        }
                    size_t at =
                        (((size_t)i * (size_t)c->h + (size_t)h) * (size_t)c->w + (size_t)w) * (size_t)c->cin +
                        (size_t)ci;
                    float v = finish(chain, 0.0f, add ? add + at : NULL);
                    dx[at] = gate && !(gate[at] > 0) ? 0.0f : v;
                }
}

static float product(const ss_conv *c, const float *x, const float *dy, int o, int r, int s, int ci, int i,
                     int oh, int ow, float chain)
{
    int h = oh * c->stride - c->pad + r, w = ow * c->stride - c->pad + s;
    if (h < 0 || h >= c->h || w < 0 || w >= c->w)
        return chain;
    size_t in =
        (((size_t)i * (size_t)c->h + (size_t)h) * (size_t)c->w + (size_t)w) * (size_t)c->cin + (size_t)ci;
    size_t out =
        (((size_t)i * (size_t)c->oh + (size_t)oh) * (size_t)c->ow + (size_t)ow) * (size_t)c->cout + (size_t)o;
    return fmaf(x[in], dy[out], chain);
}

void ss_scalar_conv_dw(const ss_conv *c, int n, const float *x, const float *dy, float *dw)
{
    int group = ss_dw_group(c);
    for (int o = 0; o < c->cout; o++)
        for (int r = 0; r < c->kh; r++)
            for (int s = 0; s < c->kw; s++)
                for (int ci = 0; ci < c->cin; ci++)
                    for (int first = 0; first < n; first += group) {
                        int end = n - first < group ? n : first + group;
                        float chain = 0;
                        if (c->ow >= SS_DW_ROW) {
                            for (int i = first; i < end; i++)
                                for (int oh = 0; oh < c->oh; oh++)
                                    for (int ow = 0; ow < c->ow; ow++)
                                        chain = product(c, x, dy, o, r, s, ci, i, oh, ow, chain);
                        } else {
                            for (int oh = 0; oh < c->oh; oh++)
                                for (int ow = 0; ow < c->ow; ow++)
                                    for (int i = first; i < end; i++)
                                        chain = product(c, x, dy, o, r, s, ci, i, oh, ow, chain);
                        }
                        dw[ss_packed_at(c, o, r, s) + (size_t)ci * SS_PANEL] += chain;
                    }
}

void ss_scalar_gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb,
                    bool accumulate, float *out, int ldo)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float chain = 0;
            for (int q = 0; q < k; q++) {
                size_t ia = ta ? (size_t)q * (size_t)lda + (size_t)i : (size_t)i * (size_t)lda + (size_t)q;
                size_t ib = tb ? (size_t)j * (size_t)ldb + (size_t)q : (size_t)q * (size_t)ldb + (size_t)j;
                chain = fmaf(a[ia], b[ib], chain);
            }
            size_t at = (size_t)i * (size_t)ldo + (size_t)j;
            out[at] = finish(chain, 0.0f, accumulate ? out + at : NULL);
        }
}

const ss_kernel_table ss_kernels_scalar = {ELEMENTS, WINOGRAD, MEMORY, SOUND};
