#include "kernels/x86/vec_avx512.h"

/* Four products of u8 and s8 to each sum, which wraps and does not saturate. */
#define XS   1
#define ACCS 1
typedef __m512i vs, va, vw;
typedef int vshift;

static inline vs vszero(void)
{
    return _mm512_setzero_si512();
}

static inline va va_load(const uint8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

static inline vw vw_load(const int8_t *w, int j)
{
    return _mm512_loadu_si512(w + 64 * j);
}

static inline vs vdot(vs s, va a, vw w)
{
    return _mm512_dpbusd_epi32(s, a, w);
}

static inline vshift vshift_load(const int32_t *p, size_t n)
{
    return 0;
}

static inline vf vs_float(const vs *s, int j, vshift shift)
{
    return _mm512_cvtepi32_ps(s[j]);
}

/* A number of 2^31 or more converts to 2^31, taken without its sign. */
#define VSTORE_WHOLE vstore_whole
static inline void vstore_whole(uint8_t *p, vf v, size_t n)
{
    __m128i b = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(_mm512_max_ps(v, _mm512_setzero_ps())));
    if (n >= VL)
        _mm_storeu_si128((__m128i *)p, b);
    else
        _mm_mask_storeu_epi8(p, vmask(n), b);
}

#define I8_TILES_1(X)                                                                                        \
    X(24, 1, 4) X(16, 1, 4) X(12, 1, 4) X(8, 1, 4) X(6, 1, 4) X(4, 1, 4) X(3, 1, 4) X(2, 1, 4) X(1, 1, 4)
#define I8_TILES_2(X)    X(12, 2, 2) X(8, 2, 2) X(6, 2, 2) X(4, 2, 4) X(3, 2, 4) X(2, 2, 4) X(1, 2, 4)
#define I8_TILES_W(X)    X(6, 4, 1) X(4, 4, 2) X(3, 4, 2) X(2, 4, 4) X(1, 4, 4)
#define I8_TILES_4(X)    X(12, 2, 2) X(8, 2, 2) I8_TILES_W(X)
#define I8_TILES_ALL(X)  I8_TILES_1(X) I8_TILES_2(X) I8_TILES_W(X)
#define I8_TILES_EVEN(X) X(24, 1) X(12, 2)
#include "kernels/tiles_i8.h"

const ss_i8_table ss_i8_avx512vnni = {ELEMENTS_I8, .conv = i8_conv};
