#include <math.h>

#include "base/half.h"
#include "unit.h"

START_TEST(every_f16_returns)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = ss_f16_to_f32((uint16_t)h);
        if (isnan(f))
            ck_assert(isnan(ss_f16_to_f32(ss_f32_to_f16(f))));
        else
            ck_assert_uint_eq(ss_f32_to_f16(f), h);
    }
}
END_TEST

START_TEST(f16_rounds_to_nearest_even)
{
    /* Half way between neighbours, and a little to either side, over all finite positive values. */
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float a = ss_f16_to_f32((uint16_t)h), b = ss_f16_to_f32((uint16_t)(h + 1)), m = a + (b - a) / 2;
        ck_assert_uint_eq(ss_f32_to_f16(m), h & 1 ? h + 1 : h);
        ck_assert_uint_eq(ss_f32_to_f16(nextafterf(m, 0)), h);
        ck_assert_uint_eq(ss_f32_to_f16(nextafterf(m, INFINITY)), h + 1);
    }
    ck_assert_uint_eq(ss_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(ss_f32_to_f16(65519.99f), 0x7bff);
    ck_assert_uint_eq(ss_f32_to_f16(-INFINITY), 0xfc00);
    ck_assert_uint_eq(ss_f32_to_f16(-0.0f), 0x8000);
}
END_TEST

START_TEST(every_bf16_returns)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = ss_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            ck_assert(isnan(ss_bf16_to_f32(ss_f32_to_bf16(f))));
        else
            ck_assert_uint_eq(ss_f32_to_bf16(f), h);
    }
    ck_assert_uint_eq(ss_f32_to_bf16(1.00390625f), 0x3f80); /* half way: to even */
    ck_assert_uint_eq(ss_f32_to_bf16(1.01171875f), 0x3f82);
}
END_TEST

UNIT_MAIN("half", every_f16_returns, f16_rounds_to_nearest_even, every_bf16_returns)
