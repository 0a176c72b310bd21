#include "kernels/x86/vec_sse41.h"

/*
 * Both sides are widened to 16 bits and pmaddwd adds products in pairs: a sum lies in two neighbouring lanes
 * until the end.
 */
#define XS   2
#define ACCS 8
typedef __m128i vs, va, vw;
typedef int vshift;

static inline vs vszero(void)
{
    return _mm_setzero_si128();
}

static inline va va_load(const uint8_t *x)
{
    long long four;
    memcpy(&four, x, sizeof four);
    return _mm_set1_epi64x(four);
}

static inline vw vw_load(const int8_t *w, int j)
{
    return _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(w + 8 * j)));
}

static inline vs vdot(vs s, va a, vw w)
{
    return _mm_add_epi32(s, _mm_madd_epi16(a, w));
}

static inline vshift vshift_load(const int32_t *p, size_t n)
{
    return 0;
}

static inline vf vs_float(const vs *s, int j, vshift shift)
{
    return _mm_cvtepi32_ps(_mm_hadd_epi32(s[2 * j], s[2 * j + 1]));
}

#define I8_TILES_1(X)   X(1, 1, 1)
#define I8_TILES_2(X)   I8_TILES_1(X)
#define I8_TILES_4(X)   I8_TILES_1(X)
#define I8_TILES_ALL(X) I8_TILES_1(X)
#include "kernels/tiles_i8.h"

const ss_i8_table ss_i8_sse41 = {ELEMENTS_I8, .conv = i8_conv, .wide = true, .widen = widen_u8};
