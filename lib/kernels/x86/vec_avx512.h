/*
 * Sixteen lanes: AVX-512 F, BW, DQ, VL. See vec_scalar.h for what each does. Whole vectors go without a mask:
 * on Zen 5 a masked load that misses the first-level cache stalls (five times the time of a pass over dw's
 * input). Private.
 */
#ifndef SS_KERNELS_X86_VEC_AVX512_H
#define SS_KERNELS_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VL 16
typedef __m512 vf;

/* n < VL lanes. */
static inline __mmask16 vmask(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline vf vload(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline vf vloadn(const float *p, size_t n)
{
    return n >= VL ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(vmask(n), p);
}

static inline void vstore(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

static inline void vstoren(float *p, vf v, size_t n)
{
    if (n >= VL)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, vmask(n), v);
}

static inline vf vset1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vadd(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vsub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vmul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vdiv(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vsqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}

static inline vf vfma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vmuladd(vf a, vf b, vf c)
{
    return vfma(a, b, c);
}

static inline vf vabs(vf a)
{
    return _mm512_abs_ps(a);
}

static inline vf vmax(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vselect_gt(vf a, vf b, vf v, vf other)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), other, v);
}

static inline vf vkeep_eq(vf a, vf b, vf v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), v);
}

static inline __m128i vload_bytes(const void *p, size_t n)
{
    return n >= VL ? _mm_loadu_si128(p) : _mm_maskz_loadu_epi8(vmask(n), p);
}

/* The low byte of each lane. */
static inline void vstore_bytes(void *p, __m512i v, size_t n)
{
    __m128i b = _mm512_cvtepi32_epi8(v);
    if (n >= VL)
        _mm_storeu_si128(p, b);
    else
        _mm_mask_storeu_epi8(p, vmask(n), b);
}

static inline vf vload_u8n(const uint8_t *p, size_t n)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(vload_bytes(p, n)));
}

static inline void vstore_u8n(uint8_t *p, vf v, size_t n)
{
    vstore_bytes(p, _mm512_cvttps_epi32(v), n);
}

static inline vf vload_i8n(const int8_t *p, size_t n)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(vload_bytes(p, n)));
}

static inline void vstore_i8n(int8_t *p, vf v, size_t n)
{
    v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v);
    v = _mm512_min_ps(_mm512_max_ps(v, vset1(-127.0f)), vset1(127.0f));
    vstore_bytes(p, _mm512_cvtps_epi32(v), n);
}

static inline vf vload_f16n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(n >= VL ? _mm256_loadu_si256((const __m256i *)p)
                                   : _mm256_maskz_loadu_epi16(vmask(n), p));
}

static inline vf vload_f16_finite(const uint16_t *p)
{
    return vload_f16n(p, VL);
}

static inline void vstore_f16n(uint16_t *p, vf v, size_t n)
{
    __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if (n >= VL)
        _mm256_storeu_si256((__m256i *)p, h);
    else
        _mm256_mask_storeu_epi16(p, vmask(n), h);
}

static inline void vtranspose(vf r[VL])
{
    vf a[VL], b[VL];
#pragma GCC unroll 8
    for (int i = 0; i < VL; i += 2) {
        a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < VL; i += 4) {
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    /* b[4 q + i] holds, in each 128-bit part p, column 4 p + i of rows 4 q .. 4 q + 3. */
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vf lo = _mm512_shuffle_f32x4(b[i], b[4 + i], 0x88),
           hi = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0x88);
        r[i] = _mm512_shuffle_f32x4(lo, hi, 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(lo, hi, 0xdd);
        lo = _mm512_shuffle_f32x4(b[i], b[4 + i], 0xdd);
        hi = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(lo, hi, 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(lo, hi, 0xdd);
    }
}

#define WL 8
typedef __m512i vwide;

static inline vwide wload(const uint64_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline vwide wset1(uint64_t x)
{
    return _mm512_set1_epi64((long long)x);
}

static inline vwide wadd(vwide a, vwide b)
{
    return _mm512_add_epi64(a, b);
}

static inline vwide wxor(vwide a, vwide b)
{
    return _mm512_xor_si512(a, b);
}

static inline vwide wmul(vwide a, vwide b)
{
    return _mm512_mul_epu32(a, b);
}

static inline vwide whigh(vwide a)
{
    return _mm512_srli_epi64(a, 32);
}

static inline void wstore_low(uint32_t *p, vwide a, vwide b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    _mm512_storeu_si512(p, _mm512_permutex2var_epi32(a, even, b));
}

#endif
