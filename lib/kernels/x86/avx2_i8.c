#include "kernels/x86/vec_avx2.h"

/*
 * vpmaddubsw would saturate, so both sides are widened to 16 bits and vpmaddwd adds products in pairs: a sum
 * lies in two neighbouring lanes until the end.
 */
#define XS   2
#define ACCS 4
typedef __m256i vs, va, vw;
typedef int vshift;

static inline vs vszero(void)
{
    return _mm256_setzero_si256();
}

static inline va va_load(const uint8_t *x)
{
    long long four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi64x(four);
}

static inline vw vw_load(const int8_t *w, int j)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * j)));
}

static inline vs vdot(vs s, va a, vw w)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(a, w));
}

static inline vshift vshift_load(const int32_t *p, size_t n)
{
    return 0;
}

static inline vf vs_float(const vs *s, int j, vshift shift)
{
    __m256i pairs = _mm256_hadd_epi32(s[2 * j], s[2 * j + 1]);
    return _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(pairs, 0xd8));
}

#define I8_TILES_1(X)   X(3, 1, 1) X(2, 1, 1) X(1, 1, 1)
#define I8_TILES_2(X)   I8_TILES_1(X)
#define I8_TILES_4(X)   I8_TILES_1(X)
#define I8_TILES_ALL(X) I8_TILES_1(X)
#include "kernels/tiles_i8.h"

const ss_i8_table ss_i8_avx2 = {ELEMENTS_I8, .conv = i8_conv, .wide = true, .widen = widen_u8};
