/*
 * What int8.h does besides convolution, over a vector header (VL lanes, vf) for the steps in f32 and in plain
 * loops, which a compiler turns into vectors, for the whole numbers. Compiled once for each level, with one
 * lane in int8.c, where this is the definition. Private.
 */
#ifndef SS_KERNELS_ELEMENTS_I8_H
#define SS_KERNELS_ELEMENTS_I8_H

#include "kernels/int8_internal.h"

/* Within 0..255 and rounded to nearest even, NaN to 0. */
#ifndef VSTORE_WHOLE
#define VSTORE_WHOLE vstore_whole
static inline void vstore_whole(uint8_t *p, vf v, size_t n)
{
    v = vmax(v, vset1(0.0f));
    v = vselect_gt(v, vset1(255.0f), vset1(255.0f), v);
    /* Adding 1.5 * 2^23 leaves no place for a fraction. */
    vstore_u8n(p, vsub(vadd(v, vset1(12582912.0f)), vset1(12582912.0f)), n);
}
#endif

static void u8_from_f32(size_t n, float a, float b, const float *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i += VL)
        VSTORE_WHOLE(y + i, vfma(vloadn(x + i, n - i), vset1(a), vset1(b)), n - i);
}

static void f32_from_u8(size_t n, float step, const uint8_t *x, float *y)
{
    for (size_t i = 0; i < n; i += VL)
        vstoren(y + i, vmul(vload_u8n(x + i, n - i), vset1(step)), n - i);
}

static inline uint8_t larger_u8(uint8_t a, uint8_t b)
{
    return a > b ? a : b;
}

/* The largest of three rows first, for some columns, which is one long loop; then of three columns. */
static void maxpool3_u8(const ss_maxpool *p, size_t row, const uint8_t *x, uint8_t *restrict y)
{
    enum { ROOM = 8192 };
    const size_t c = (size_t)p->c, step = (size_t)p->stride * c;
    uint8_t most[ROOM];
    int columns = (int)((ROOM / c - 3) / (size_t)p->stride) + 1;
    for (int ow = 0; ow < p->ow; ow += columns) {
        int end = p->ow - ow < columns ? p->ow - ow : columns;
        size_t n = (size_t)(end - 1) * step + 3 * c;
        const uint8_t *one = x + (size_t)ow * step, *two = one + row, *three = two + row;
        for (size_t i = 0; i < n; i++)
            most[i] = larger_u8(larger_u8(one[i], two[i]), three[i]);
        for (int k = 0; k < end; k++, y += c) {
            const uint8_t *m = most + (size_t)k * step;
            size_t i = 0;
            for (; i + 16 <= c; i += 16)
                for (size_t q = i; q < i + 16; q++)
                    y[q] = larger_u8(larger_u8(m[q], m[q + c]), m[q + 2 * c]);
            for (; i < c; i++)
                y[i] = larger_u8(larger_u8(m[i], m[i + c]), m[i + 2 * c]);
        }
    }
}

static void maxpool_u8(const ss_maxpool *p, size_t row, const uint8_t *x, uint8_t *restrict y)
{
    const size_t c = (size_t)p->c;
    if (p->size == 3 && c <= 1024 && p->stride <= 4) {
        maxpool3_u8(p, row, x, y);
        return;
    }
    for (int ow = 0; ow < p->ow; ow++, x += (size_t)p->stride * c, y += c) {
        for (size_t i = 0; i < c; i++)
            y[i] = x[i];
        for (int r = 0; r < p->size; r++)
            for (int s = 0; s < p->size; s++)
                for (size_t i = 0; i < c; i++)
                    y[i] = larger_u8(y[i], x[(size_t)r * row + (size_t)s * c + i]);
    }
}

static void sum_u8(size_t pixels, size_t c, const uint8_t *x, int32_t *restrict sum)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t i = 0; i < c; i++)
            sum[i] += x[p * c + i];
}

static inline void widen_u8(size_t n, const uint8_t *x, uint16_t *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
}

#define ELEMENTS_I8                                                                                          \
    .maxpool = maxpool_u8, .sum = sum_u8, .u8_from_f32 = u8_from_f32, .f32_from_u8 = f32_from_u8

#endif
