/* One lane in plain C: with this, elements.h is the definition of the kernels in it. Private. */
#ifndef SS_KERNELS_VEC_SCALAR_H
#define SS_KERNELS_VEC_SCALAR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "base/half.h"

#define VL 1
typedef float vf;

static inline vf vload(const float *p)
{
    return *p;
}

/* The first n lanes, all if there are more; the others 0. */
static inline vf vloadn(const float *p, size_t n)
{
    return n ? *p : 0.0f;
}

static inline void vstore(float *p, vf v)
{
    *p = v;
}

static inline void vstoren(float *p, vf v, size_t n)
{
    if (n)
        *p = v;
}

static inline vf vset1(float x)
{
    return x;
}

static inline vf vadd(vf a, vf b)
{
    return a + b;
}

static inline vf vsub(vf a, vf b)
{
    return a - b;
}

static inline vf vmul(vf a, vf b)
{
    return a * b;
}

static inline vf vdiv(vf a, vf b)
{
    return a / b;
}

static inline vf vsqrt(vf a)
{
    return sqrtf(a);
}

/* a * b + c, rounded once. */
static inline vf vfma(vf a, vf b, vf c)
{
    return fmaf(a, b, c);
}

/* A step of a long chain of products: vfma where the level has an instruction for it, else rounded twice. */
static inline vf vmuladd(vf a, vf b, vf c)
{
    return fmaf(a, b, c);
}

static inline vf vabs(vf a)
{
    return fabsf(a);
}

/* a if a > b, else b; thus b if either is NaN. */
static inline vf vmax(vf a, vf b)
{
    return a > b ? a : b;
}

/* v where a > b, else other. */
static inline vf vselect_gt(vf a, vf b, vf v, vf other)
{
    return a > b ? v : other;
}

/* v where a == b, else 0. */
static inline vf vkeep_eq(vf a, vf b, vf v)
{
    return a == b ? v : 0.0f;
}

static inline vf vload_u8n(const uint8_t *p, size_t n)
{
    return n ? (float)*p : 0.0f;
}

/* Whole numbers 0..255. */
static inline void vstore_u8n(uint8_t *p, vf v, size_t n)
{
    if (n)
        *p = (uint8_t)v;
}

static inline vf vload_i8n(const int8_t *p, size_t n)
{
    return n ? (float)*p : 0.0f;
}

/* Rounded to nearest even, within +-127; NaN gives 0. */
static inline void vstore_i8n(int8_t *p, vf v, size_t n)
{
    if (n)
        *p = v > 127.0f ? 127 : v < -127.0f ? -127 : isnan(v) ? 0 : (int8_t)lrintf(v);
}

static inline vf vload_f16n(const uint16_t *p, size_t n)
{
    return n ? ss_f16_to_f32(*p) : 0.0f;
}

/* VL weights, which are finite. */
static inline vf vload_f16_finite(const uint16_t *p)
{
    return vload_f16n(p, VL);
}

static inline void vstore_f16n(uint16_t *p, vf v, size_t n)
{
    if (n)
        *p = ss_f32_to_f16(v);
}

/* Row i, column j of VL x VL lanes goes to row j, column i. */
static inline void vtranspose(vf r[VL])
{
}

/* ---- whole numbers: WL lanes of 64 bits ---- */

#define WL 1
typedef uint64_t vwide;

static inline vwide wload(const uint64_t *p)
{
    return *p;
}

static inline vwide wset1(uint64_t x)
{
    return x;
}

static inline vwide wadd(vwide a, vwide b)
{
    return a + b;
}

static inline vwide wxor(vwide a, vwide b)
{
    return a ^ b;
}

/* Product of the low halves. */
static inline vwide wmul(vwide a, vwide b)
{
    return (a & 0xffffffff) * (b & 0xffffffff);
}

/* The high halves. */
static inline vwide whigh(vwide a)
{
    return a >> 32;
}

/* The low halves of a, then those of b. */
static inline void wstore_low(uint32_t *p, vwide a, vwide b)
{
    p[0] = (uint32_t)a;
    p[1] = (uint32_t)b;
}

#endif
