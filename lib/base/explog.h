/**
 * exp and ln in single precision by integer operations, additions and products only, uncontracted: the same
 * bits on every CPU and with every C library, and loops over them vectorise.
 * Largest errors found: ss_expf 8.7e-8 of the value for x within -87..88; ss_logf 0.85 units in the last
 * place, or 2.9e-8 where |ln x| is below 1/2 (tests/unit/explog.c holds them to 1e-7, 0.9 and 3e-8).
 */
#ifndef SS_BASE_EXPLOG_H
#define SS_BASE_EXPLOG_H

#include <stdint.h>
#include <string.h>

static inline float ss_float_of_bits(uint32_t b)
{
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static inline uint32_t ss_bits_of_float(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

/** exp(x); below -87 as at -87, above 88 as at 88; NaN for NaN. */
static inline float ss_expf(float x)
{
    /* Held to the range by masks: a compiler that sees branches here follows them through the loop around. */
    uint32_t low = -(uint32_t)(x < -87.0f), high = -(uint32_t)(x > 88.0f);
    x = ss_float_of_bits((ss_bits_of_float(x) & ~(low | high)) | (low & 0xc2ae0000) | (high & 0x42b00000));
    /* x = n ln 2 + r: the sum with 1.5 * 2^23 has n in its last bits. */
    float biased = x * 1.44269504f + 12582912.0f, n = biased - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float tail =
        0.5f + r * (0.16666667f +
                    r * (4.1666668e-2f + r * (8.3333333e-3f + r * (1.3888889e-3f + r * 1.9841270e-4f))));
    float p = 1.0f + (r + r * r * tail);
    return p * ss_float_of_bits((ss_bits_of_float(biased) + 127) << 23);
}

/** ln(x) of a normal, finite x > 0; other values give some number. */
static inline float ss_logf(float x)
{
    uint32_t b = ss_bits_of_float(x);
    uint32_t e = (b + 0x004afb0d) >> 23; /* so that the mantissa falls into [1/sqrt 2, sqrt 2) */
    float m = ss_float_of_bits(b - (e << 23) + 0x3f800000), f = m - 1.0f;
    float n = (float)((int32_t)e - 127);
    float s = f / (2.0f + f), s2 = s * s;
    /* ln m = 2 s + 2 s^3 / 3 + ... = f - s (f - s2 (2/3 + ...)) */
    float series = s2 * (0.66666667f + s2 * (0.4f + s2 * (0.28571430f + s2 * 0.22222222f)));
    return n * 0.693359375f + (f - (s * (f - series) + n * 2.12194440e-4f));
}

#endif
