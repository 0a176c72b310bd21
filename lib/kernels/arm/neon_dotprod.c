#include "kernels/arm/vec_neon.h"

/* Activations as x - 128, so that both sides are signed; 128 times the sum of the weights is added at the
 * end. */
#define XS   1
#define ACCS 4
typedef int32x4_t vs, vshift;
typedef int8x16_t va, vw;

static inline vs vszero(void)
{
    return vdupq_n_s32(0);
}

static inline va va_load(const uint8_t *x)
{
    uint32_t four;
    memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
}

static inline vw vw_load(const int8_t *w, int j)
{
    return vld1q_s8(w + 16 * j);
}

static inline vs vdot(vs s, va a, vw w)
{
    return vdotq_s32(s, w, a);
}

typedef int8x16_t va16;
static inline va16 va16_load(const uint8_t *x)
{
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80)));
}

#define VDOT_LANE vdot_lane
static inline __attribute__((always_inline)) vs vdot_lane(vs s, va16 a, int u, vw w)
{
    switch (u) {
    case 0:
        return vdotq_laneq_s32(s, w, a, 0);
    case 1:
        return vdotq_laneq_s32(s, w, a, 1);
    case 2:
        return vdotq_laneq_s32(s, w, a, 2);
    default:
        return vdotq_laneq_s32(s, w, a, 3);
    }
}

static inline vshift vshift_load(const int32_t *p, size_t n)
{
    int32_t b[VL] = {0};
    memcpy(b, p, (n < VL ? n : VL) * sizeof *b);
    return vld1q_s32(b);
}

static inline vf vs_float(const vs *s, int j, vshift shift)
{
    return vcvtq_f32_s32(vaddq_s32(s[j], shift));
}

/* Conversion and narrowing saturate. */
#define VSTORE_WHOLE vstore_whole
static inline void vstore_whole(uint8_t *p, vf v, size_t n)
{
    uint16x4_t h = vqmovn_u32(vcvtnq_u32_f32(v));
    uint32_t b = vget_lane_u32(vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(h, h))), 0);
    memcpy(p, &b, n < VL ? n : VL);
}

#define I8_TILES_1(X)   X(5, 1, 4) X(4, 1, 4) X(3, 1, 4) X(2, 1, 4) X(1, 1, 4)
#define I8_TILES_2(X)   I8_TILES_1(X)
#define I8_TILES_4(X)   I8_TILES_1(X)
#define I8_TILES_ALL(X) I8_TILES_1(X)
#include "kernels/tiles_i8.h"

const ss_i8_table ss_i8_neon_dotprod = {ELEMENTS_I8, .conv = i8_conv};
