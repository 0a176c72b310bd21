/* Four lanes: NEON of ARMv8-A. See vec_scalar.h for what each does. Private. */
#ifndef SS_KERNELS_ARM_VEC_NEON_H
#define SS_KERNELS_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL 4
typedef float32x4_t vf;

static inline vf vload(const float *p)
{
    return vld1q_f32(p);
}

static inline vf vloadn(const float *p, size_t n)
{
    if (n >= VL)
        return vld1q_f32(p);
    float b[VL] = {0};
    memcpy(b, p, n * sizeof *b);
    return vld1q_f32(b);
}

static inline void vstore(float *p, vf v)
{
    vst1q_f32(p, v);
}

static inline void vstoren(float *p, vf v, size_t n)
{
    if (n >= VL) {
        vst1q_f32(p, v);
    } else {
        float b[VL];
        vst1q_f32(b, v);
        memcpy(p, b, n * sizeof *b);
    }
}

static inline vf vset1(float x)
{
    return vdupq_n_f32(x);
}

static inline vf vadd(vf a, vf b)
{
    return vaddq_f32(a, b);
}

static inline vf vsub(vf a, vf b)
{
    return vsubq_f32(a, b);
}

static inline vf vmul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

static inline vf vdiv(vf a, vf b)
{
    return vdivq_f32(a, b);
}

static inline vf vsqrt(vf a)
{
    return vsqrtq_f32(a);
}

static inline vf vfma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

static inline vf vmuladd(vf a, vf b, vf c)
{
    return vfma(a, b, c);
}

static inline vf vabs(vf a)
{
    return vabsq_f32(a);
}

static inline vf vselect_gt(vf a, vf b, vf v, vf other)
{
    return vbslq_f32(vcgtq_f32(a, b), v, other);
}

static inline vf vmax(vf a, vf b)
{
    return vselect_gt(a, b, a, b);
}

static inline vf vkeep_eq(vf a, vf b, vf v)
{
    return vreinterpretq_f32_u32(vandq_u32(vceqq_f32(a, b), vreinterpretq_u32_f32(v)));
}

static inline uint8x8_t vload_bytes(const void *p, size_t n)
{
    uint32_t b = 0;
    memcpy(&b, p, n < VL ? n : VL);
    return vcreate_u8(b);
}

/* The low byte of each lane. */
static inline void vstore_bytes(void *p, uint32x4_t v, size_t n)
{
    uint16x4_t h = vmovn_u32(v);
    uint64_t b = vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(vcombine_u16(h, h))), 0);
    uint32_t low = (uint32_t)b;
    memcpy(p, &low, n < VL ? n : VL);
}

static inline vf vload_u8n(const uint8_t *p, size_t n)
{
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vload_bytes(p, n)))));
}

static inline void vstore_u8n(uint8_t *p, vf v, size_t n)
{
    vstore_bytes(p, vcvtq_u32_f32(v), n);
}

static inline vf vload_i8n(const int8_t *p, size_t n)
{
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(vload_bytes(p, n))))));
}

static inline void vstore_i8n(int8_t *p, vf v, size_t n)
{
    v = vminq_f32(vmaxq_f32(v, vset1(-127.0f)), vset1(127.0f));
    vstore_bytes(p, vreinterpretq_u32_s32(vcvtnq_s32_f32(v)), n); /* NaN converts to 0 */
}

static inline vf vload_f16n(const uint16_t *p, size_t n)
{
    uint64_t b = 0;
    memcpy(&b, p, 2 * (n < VL ? n : VL));
    return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(b)));
}

static inline vf vload_f16_finite(const uint16_t *p)
{
    return vload_f16n(p, VL);
}

static inline void vstore_f16n(uint16_t *p, vf v, size_t n)
{
    uint64_t b = vget_lane_u64(vreinterpret_u64_f16(vcvt_f16_f32(v)), 0);
    memcpy(p, &b, 2 * (n < VL ? n : VL));
}

static inline void vtranspose(vf r[VL])
{
    vf a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]), c = vtrn1q_f32(r[2], r[3]),
       d = vtrn2q_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
    r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
    r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
    r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}

#define WL 2
typedef uint64x2_t vwide;

static inline vwide wload(const uint64_t *p)
{
    return vld1q_u64(p);
}

static inline vwide wset1(uint64_t x)
{
    return vdupq_n_u64(x);
}

static inline vwide wadd(vwide a, vwide b)
{
    return vaddq_u64(a, b);
}

static inline vwide wxor(vwide a, vwide b)
{
    return veorq_u64(a, b);
}

static inline vwide wmul(vwide a, vwide b)
{
    return vmull_u32(vmovn_u64(a), vmovn_u64(b));
}

static inline vwide whigh(vwide a)
{
    return vshrq_n_u64(a, 32);
}

static inline void wstore_low(uint32_t *p, vwide a, vwide b)
{
    vst1q_u32(p, vuzp1q_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b)));
}

#endif
