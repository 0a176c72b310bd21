#include <math.h>

#include "base/explog.h"
#include "unit.h"

enum { STRIDE = 211 }; /* of all floats */

START_TEST(exp_is_near)
{
    double worst = 0;
    for (int sign = 0; sign < 2; sign++)
        for (uint32_t b = 0x30000000; b < 0x42b00000; b += STRIDE) {
            float x = sign ? -ss_float_of_bits(b) : ss_float_of_bits(b);
            if (x < -87.0f)
                break;
            double right = exp((double)x), off = fabs((double)ss_expf(x) - right) / right;
            worst = off > worst ? off : worst;
        }
    ck_assert_double_le(worst, 1e-7);
    ck_assert_float_eq(ss_expf(0.0f), 1.0f);
    ck_assert_float_eq(ss_expf(1000.0f), ss_expf(88.0f));
    ck_assert_float_eq(ss_expf(-INFINITY), ss_expf(-87.0f));
    ck_assert(isnan(ss_expf(NAN)));
}
END_TEST

START_TEST(log_is_near)
{
    double units = 0, distance = 0;
    for (uint32_t b = 0x00800000; b < 0x7f800000; b += STRIDE) {
        float x = ss_float_of_bits(b);
        double right = log((double)x), off = fabs((double)ss_logf(x) - right);
        if (fabs(right) >= 0.5)
            units = fmax(units, off / ldexp(1, ilogb(right) - 23));
        else
            distance = fmax(distance, off);
    }
    ck_assert_double_le(units, 0.9);
    ck_assert_double_le(distance, 3e-8);
    ck_assert_float_eq(ss_logf(1.0f), 0.0f);
    ck_assert_float_eq(ss_logf(1e-6f), -13.815511f); /* silence of the front end */
}
END_TEST

START_TEST(bits_are_fixed)
{
    uint64_t e = 0, l = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        float x = (float)((int32_t)i - 50000) * 1.7e-3f;
        e = e * 6364136223846793005u + ss_bits_of_float(ss_expf(x));
        l = l * 6364136223846793005u + ss_bits_of_float(ss_logf((float)(i + 1) * 3.1e-5f));
    }
    ck_assert_uint_eq(e, 1676493089235838711u);
    ck_assert_uint_eq(l, 9227300547430641822u);
}
END_TEST

UNIT_MAIN("explog", exp_is_near, log_is_near, bits_are_fixed)
