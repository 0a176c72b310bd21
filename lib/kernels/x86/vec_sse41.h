/*
 * Four lanes: SSE4.1, which has neither fused multiply-add nor conversion of f16. See vec_scalar.h for what
 * each does. vfma rounds once all the same, by way of f64: some twenty operations instead of one, which
 * kernels that go once over their data can bear and chains of products (vmuladd) cannot. Private.
 */
#ifndef SS_KERNELS_X86_VEC_SSE41_H
#define SS_KERNELS_X86_VEC_SSE41_H

#include <smmintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL 4
typedef __m128 vf;

static inline vf vload(const float *p)
{
    return _mm_loadu_ps(p);
}

static inline vf vload_pair(const float *p)
{
    return _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

static inline vf vloadn(const float *p, size_t n)
{
    switch (n) {
    case 0:
        return _mm_setzero_ps();
    case 1:
        return _mm_load_ss(p);
    case 2:
        return vload_pair(p);
    case 3:
        return _mm_movelh_ps(vload_pair(p), _mm_load_ss(p + 2));
    default:
        return _mm_loadu_ps(p);
    }
}

static inline void vstore(float *p, vf v)
{
    _mm_storeu_ps(p, v);
}

static inline void vstoren(float *p, vf v, size_t n)
{
    if (n >= VL) {
        _mm_storeu_ps(p, v);
        return;
    }
    if (n >= 2)
        _mm_storel_epi64((__m128i *)(void *)p, _mm_castps_si128(v));
    if (n == 3)
        _mm_store_ss(p + 2, _mm_movehl_ps(v, v));
    if (n == 1)
        _mm_store_ss(p, v);
}

static inline vf vset1(float x)
{
    return _mm_set1_ps(x);
}

static inline vf vadd(vf a, vf b)
{
    return _mm_add_ps(a, b);
}

static inline vf vsub(vf a, vf b)
{
    return _mm_sub_ps(a, b);
}

static inline vf vmul(vf a, vf b)
{
    return _mm_mul_ps(a, b);
}

static inline vf vdiv(vf a, vf b)
{
    return _mm_div_ps(a, b);
}

static inline vf vsqrt(vf a)
{
    return _mm_sqrt_ps(a);
}

/*
 * Two lanes of vfma in f64: the product is exact, and its sum with c is rounded to odd (to the neighbour
 * whose last bit is 1, unless it is exact), so that rounding it again to f32 gives what rounding once would.
 * Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Transactions on Computers 2008.
 */
static inline __m128d vfma_pair(__m128d a, __m128d b, __m128d c)
{
    __m128d p = _mm_mul_pd(a, b), s = _mm_add_pd(p, c), t = _mm_sub_pd(s, p);
    __m128d rest = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, t)), _mm_sub_pd(c, t)); /* of the exact sum */
    __m128i bits = _mm_castpd_si128(s), one = _mm_set1_epi64x(1);
    /* 1 where the rest leads away from 0, -1 where towards it; infinities and NaN have a rest of NaN. */
    __m128i side = _mm_castpd_si128(_mm_xor_pd(rest, s));
    side = _mm_or_si128(_mm_shuffle_epi32(_mm_srai_epi32(side, 31), 0xf5), one);
    __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one);
    __m128d inexact = _mm_cmplt_pd(_mm_setzero_pd(), _mm_andnot_pd(_mm_set1_pd(-0.0), rest));
    side = _mm_and_si128(_mm_and_si128(side, even), _mm_castpd_si128(inexact));
    return _mm_castsi128_pd(_mm_add_epi64(bits, side));
}

static inline vf vfma(vf a, vf b, vf c)
{
    __m128d low = vfma_pair(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    __m128d high = vfma_pair(_mm_cvtps_pd(_mm_movehl_ps(a, a)), _mm_cvtps_pd(_mm_movehl_ps(b, b)),
                             _mm_cvtps_pd(_mm_movehl_ps(c, c)));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

static inline vf vmuladd(vf a, vf b, vf c)
{
    return _mm_add_ps(_mm_mul_ps(a, b), c);
}

static inline vf vabs(vf a)
{
    return _mm_andnot_ps(_mm_set1_ps(-0.0f), a);
}

static inline vf vmax(vf a, vf b)
{
    return _mm_max_ps(a, b);
}

static inline vf vselect_gt(vf a, vf b, vf v, vf other)
{
    return _mm_blendv_ps(other, v, _mm_cmpgt_ps(a, b));
}

static inline vf vkeep_eq(vf a, vf b, vf v)
{
    return _mm_and_ps(_mm_cmpeq_ps(a, b), v);
}

static inline __m128i vload_bytes(const void *p, size_t n)
{
    int32_t b = 0;
    if (n >= VL)
        memcpy(&b, p, VL);
    else
        memcpy(&b, p, n);
    return _mm_cvtsi32_si128(b);
}

/* The low byte of each lane. */
static inline void vstore_bytes(void *p, __m128i v, size_t n)
{
    v = _mm_shuffle_epi8(v, _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    int32_t b = _mm_cvtsi128_si32(v);
    if (n >= VL)
        memcpy(p, &b, VL);
    else
        memcpy(p, &b, n);
}

static inline vf vload_u8n(const uint8_t *p, size_t n)
{
    return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(vload_bytes(p, n)));
}

static inline void vstore_u8n(uint8_t *p, vf v, size_t n)
{
    vstore_bytes(p, _mm_cvttps_epi32(v), n);
}

static inline vf vload_i8n(const int8_t *p, size_t n)
{
    return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(vload_bytes(p, n)));
}

static inline void vstore_i8n(int8_t *p, vf v, size_t n)
{
    v = _mm_and_ps(_mm_cmpord_ps(v, v), v);
    v = _mm_min_ps(_mm_max_ps(v, vset1(-127.0f)), vset1(127.0f));
    vstore_bytes(p, _mm_cvtps_epi32(v), n);
}

/* As a number of f32 an f16 is too small by 2^112. */
static inline vf vwiden_f16(__m128i h)
{
    h = _mm_and_si128(_mm_slli_epi32(_mm_cvtepi16_epi32(h), 13), _mm_set1_epi32((int)0x8fffe000u));
    return _mm_mul_ps(_mm_castsi128_ps(h), vset1(0x1p112f));
}

static inline vf vload_f16_finite(const uint16_t *p)
{
    return vwiden_f16(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

static inline vf vload_f16n(const uint16_t *p, size_t n)
{
    uint16_t b[VL] = {0};
    if (n < VL)
        memcpy(b, p, 2 * n);
    vf v = vload_f16_finite(n < VL ? b : p);
    /* Infinities and NaN come out as finite numbers: they lack the top of their exponent. */
    vf special = _mm_cmpge_ps(vabs(v), vset1(0x1p16f));
    return _mm_or_ps(v, _mm_and_ps(special, _mm_castsi128_ps(_mm_set1_epi32(0x7f800000))));
}

/* As ss_f32_to_f16 of base/half.h. */
static inline void vstore_f16n(uint16_t *p, vf v, size_t n)
{
    const __m128i sign = _mm_and_si128(_mm_srli_epi32(_mm_castps_si128(v), 16), _mm_set1_epi32(0x8000));
    const __m128i bits = _mm_castps_si128(vabs(v)), shifted = _mm_srli_epi32(bits, 13);
    __m128i h = _mm_add_epi32(_mm_sub_epi32(bits, _mm_set1_epi32(0x38000000 - 0xfff)),
                              _mm_and_si128(shifted, _mm_set1_epi32(1)));
    h = _mm_srli_epi32(h, 13);
    __m128i tiny = _mm_castps_si128(_mm_add_ps(_mm_castsi128_ps(bits), vset1(0.5f)));
    tiny = _mm_sub_epi32(tiny, _mm_set1_epi32(0x3f000000));
    h = _mm_blendv_epi8(h, tiny, _mm_cmpgt_epi32(_mm_set1_epi32(0x38800000), bits));
    h = _mm_blendv_epi8(h, _mm_set1_epi32(0x7c00), _mm_cmpgt_epi32(bits, _mm_set1_epi32(0x477fefff)));
    __m128i nan = _mm_or_si128(_mm_and_si128(shifted, _mm_set1_epi32(0x1ff)), _mm_set1_epi32(0x7e00));
    h = _mm_blendv_epi8(h, nan, _mm_cmpgt_epi32(bits, _mm_set1_epi32(0x7f800000)));
    h = _mm_or_si128(h, sign);
    h = _mm_packus_epi32(h, h);
    if (n >= VL) {
        _mm_storel_epi64((__m128i *)(void *)p, h);
    } else {
        uint16_t b[VL];
        _mm_storel_epi64((__m128i *)(void *)b, h);
        memcpy(p, b, 2 * n);
    }
}

static inline void vtranspose(vf r[VL])
{
    _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]);
}

#define WL 2
typedef __m128i vwide;

static inline vwide wload(const uint64_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

static inline vwide wset1(uint64_t x)
{
    return _mm_set1_epi64x((long long)x);
}

static inline vwide wadd(vwide a, vwide b)
{
    return _mm_add_epi64(a, b);
}

static inline vwide wxor(vwide a, vwide b)
{
    return _mm_xor_si128(a, b);
}

static inline vwide wmul(vwide a, vwide b)
{
    return _mm_mul_epu32(a, b);
}

static inline vwide whigh(vwide a)
{
    return _mm_srli_epi64(a, 32);
}

static inline void wstore_low(uint32_t *p, vwide a, vwide b)
{
    _mm_storeu_ps((float *)(void *)p, _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88));
}

#endif
