#include "kernels/scalar.h"

#include <string.h>

int ss_conv_init(ss_conv *c, int cin, int h, int w, int cout, int kh, int kw, int stride, int pad)
{
    const int most = 1 << 16; /* far above any layer, and no sum of two overflows */
    if (cin < 1 || h < 1 || w < 1 || cout < 1 || kh < 1 || kw < 1 || stride < 1 || pad < 0 || pad >= kh ||
        pad >= kw)
        return SS_EINVAL;
    if (cin > most || h > most || w > most || cout > most || kh > most || kw > most || stride > most)
        return SS_EINVAL;
    if (h + 2 * pad < kh || w + 2 * pad < kw)
        return SS_EINVAL;
    *c = (ss_conv){cin, h,  w,      cout, (h + 2 * pad - kh) / stride + 1, (w + 2 * pad - kw) / stride + 1,
                   kh,  kw, stride, pad};
    return 0;
}

int ss_conv_linear(ss_conv *c, int cin, int cout)
{
    return ss_conv_init(c, cin, 1, 1, cout, 1, 1, 1, 0);
}

int ss_conv_back_rank(int tap, int size, int stride)
{
    int rank = 0;
    for (int phase = 0; phase < tap % stride; phase++)
        if (phase < size)
            rank += (size - 1 - phase) / stride + 1;
    return rank + (size - 1 - tap) / stride;
}

size_t ss_conv_packed(const ss_conv *c)
{
    return (size_t)ss_panels(c->cout) * SS_PANEL * (size_t)c->kh * (size_t)c->kw * (size_t)c->cin;
}

size_t ss_conv_packed_back(const ss_conv *c)
{
    return (size_t)ss_panels(c->cin) * SS_PANEL * (size_t)c->kh * (size_t)c->kw * (size_t)c->cout;
}

void ss_conv_pack(const ss_conv *c, const float *weights, float *packed)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, row = cin * taps;
    for (int p = 0; p < ss_panels(c->cout); p++) {
        int lanes = c->cout - p * SS_PANEL < SS_PANEL ? c->cout - p * SS_PANEL : SS_PANEL;
        const float *from = weights + (size_t)p * SS_PANEL * row;
        for (size_t t = 0; t < taps; t++)
            for (size_t ci = 0; ci < cin; ci++, packed += SS_PANEL)
                for (int o = 0; o < SS_PANEL; o++)
                    packed[o] = o < lanes ? from[(size_t)o * row + ci * taps + t] : 0.0f;
    }
}

void ss_conv_pack_back(const ss_conv *c, const float *weights, float *packed)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, cout = (size_t)c->cout;
    for (int p = 0; p < ss_panels(c->cin); p++)
        for (int r = 0; r < c->kh; r++)
            for (int s = 0; s < c->kw; s++) {
                float *to = packed + ss_packed_back_at(c, p * SS_PANEL, r, s);
                const float *from =
                    weights + (size_t)p * SS_PANEL * taps + (size_t)r * (size_t)c->kw + (size_t)s;
                for (size_t o = 0; o < cout; o++, to += SS_PANEL, from += cin * taps)
                    for (size_t ci = 0; ci < SS_PANEL; ci++)
                        to[ci] = (size_t)p * SS_PANEL + ci < cin ? from[ci * taps] : 0.0f;
            }
}

void ss_conv_unpack_add(const ss_conv *c, const float *packed, float *weights)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin;
    for (int o = 0; o < c->cout; o++) {
        const float *from = packed + ss_packed_at(c, o, 0, 0);
        for (size_t ci = 0; ci < cin; ci++)
            for (size_t t = 0; t < taps; t++)
                *weights++ += from[(t * cin + ci) * SS_PANEL];
    }
}

size_t ss_conv_work(const ss_conv *c, int n, const ss_pool *pool)
{
    return 0;
}

void ss_conv_forward(const ss_conv *c, ss_pool *pool, int n, const float *x, const float *packed,
                     const float *bias, const float *add, bool relu, float *y, float *work)
{
    ss_scalar_conv_forward(c, n, x, packed, bias, add, relu, y);
}

void ss_conv_dx(const ss_conv *c, ss_pool *pool, int n, const float *dy, const float *packed_back,
                const float *add, const float *gate, float *dx, float *work)
{
    ss_scalar_conv_dx(c, n, dy, packed_back, add, gate, dx);
}

void ss_conv_dw(const ss_conv *c, ss_pool *pool, int n, const float *x, const float *dy, float *dw, float *db,
                float *work)
{
    ss_scalar_conv_dw(c, n, x, dy, dw);
    if (db)
        ss_channel_sum_add((size_t)n * (size_t)c->oh * (size_t)c->ow, c->cout, dy, db);
}

size_t ss_gemm_work(bool ta, bool tb, int m, int n, int k)
{
    return 0;
}

void ss_gemm(ss_pool *pool, bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b,
             int ldb, bool accumulate, float *out, int ldo, float *work)
{
    ss_scalar_gemm(ta, tb, m, n, k, a, lda, b, ldb, accumulate, out, ldo);
}
