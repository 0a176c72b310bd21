/* Eight lanes: AVX2 with FMA and F16C. See vec_scalar.h for what each does. Private. */
#ifndef SS_KERNELS_X86_VEC_AVX2_H
#define SS_KERNELS_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL 8
typedef __m256 vf;

/* n < VL lanes. */
static inline __m256i vmask(size_t n)
{
    static const int32_t ones[2 * VL] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ones + VL - n));
}

static inline vf vload(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline vf vloadn(const float *p, size_t n)
{
    return n >= VL ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vmask(n));
}

static inline void vstore(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

static inline void vstoren(float *p, vf v, size_t n)
{
    if (n >= VL)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, vmask(n), v);
}

static inline vf vset1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vadd(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf vsub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf vmul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf vdiv(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf vsqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}

static inline vf vfma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf vmuladd(vf a, vf b, vf c)
{
    return vfma(a, b, c);
}

static inline vf vabs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline vf vmax(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf vselect_gt(vf a, vf b, vf v, vf other)
{
    return _mm256_blendv_ps(other, v, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}

static inline vf vkeep_eq(vf a, vf b, vf v)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), v);
}

static inline __m128i vload_bytes(const void *p, size_t n)
{
    if (n >= VL)
        return _mm_loadl_epi64(p);
    uint64_t b = 0;
    memcpy(&b, p, n);
    return _mm_cvtsi64_si128((long long)b);
}

/* The low byte of each lane. */
static inline void vstore_bytes(void *p, __m256i v, size_t n)
{
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    w = _mm_shuffle_epi8(w, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, -1, -1, -1, -1, -1, -1, -1, -1));
    if (n >= VL) {
        _mm_storel_epi64(p, w);
    } else {
        uint64_t b = (uint64_t)_mm_cvtsi128_si64(w);
        memcpy(p, &b, n);
    }
}

static inline vf vload_u8n(const uint8_t *p, size_t n)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(vload_bytes(p, n)));
}

static inline void vstore_u8n(uint8_t *p, vf v, size_t n)
{
    vstore_bytes(p, _mm256_cvttps_epi32(v), n);
}

static inline vf vload_i8n(const int8_t *p, size_t n)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(vload_bytes(p, n)));
}

static inline void vstore_i8n(int8_t *p, vf v, size_t n)
{
    v = _mm256_and_ps(_mm256_cmp_ps(v, v, _CMP_ORD_Q), v);
    v = _mm256_min_ps(_mm256_max_ps(v, vset1(-127.0f)), vset1(127.0f));
    vstore_bytes(p, _mm256_cvtps_epi32(v), n);
}

static inline vf vload_f16n(const uint16_t *p, size_t n)
{
    if (n >= VL)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
    uint16_t b[VL] = {0};
    memcpy(b, p, 2 * n);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)b));
}

static inline vf vload_f16_finite(const uint16_t *p)
{
    return vload_f16n(p, VL);
}

static inline void vstore_f16n(uint16_t *p, vf v, size_t n)
{
    __m128i h = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if (n >= VL) {
        _mm_storeu_si128((__m128i *)p, h);
    } else {
        uint16_t b[VL];
        _mm_storeu_si128((__m128i *)b, h);
        memcpy(p, b, 2 * n);
    }
}

static inline void vtranspose(vf r[VL])
{
    vf a[VL], b[VL];
#pragma GCC unroll 4
    for (int i = 0; i < VL; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < VL; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

#define WL 4
typedef __m256i vwide;

static inline vwide wload(const uint64_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline vwide wset1(uint64_t x)
{
    return _mm256_set1_epi64x((long long)x);
}

static inline vwide wadd(vwide a, vwide b)
{
    return _mm256_add_epi64(a, b);
}

static inline vwide wxor(vwide a, vwide b)
{
    return _mm256_xor_si256(a, b);
}

static inline vwide wmul(vwide a, vwide b)
{
    return _mm256_mul_epu32(a, b);
}

static inline vwide whigh(vwide a)
{
    return _mm256_srli_epi64(a, 32);
}

static inline void wstore_low(uint32_t *p, vwide a, vwide b)
{
    __m256 low = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_castps_si256(low), 0xd8));
}

#endif
