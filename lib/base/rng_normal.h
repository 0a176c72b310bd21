/*
 * What rng.c and the vector kernels have in common: the constants of Philox 4x32-10, and two normals from two
 * numbers (Box and Muller). Without branches, so that loops over it vectorise. Private.
 */
#ifndef SS_BASE_RNG_NORMAL_H
#define SS_BASE_RNG_NORMAL_H

#include <stdint.h>

#include "explog.h"

#define SS_PHILOX_ROUNDS 10
#define SS_PHILOX_M0     0xD2511F53u
#define SS_PHILOX_M1     0xCD9E8D57u
#define SS_PHILOX_W0     0x9E3779B9u
#define SS_PHILOX_W1     0xBB67AE85u

static inline float ss_uniform_of_bits(uint32_t bits)
{
    return (float)(int32_t)(bits >> 8) * 0x1p-24f;
}

/* -2 ln(u), u = (bits + 1/2) / 2^24 in (0, 1); by splitting off the exponent and an atanh series. */
static inline float ss_minus_two_log(uint32_t bits)
{
    uint32_t b = ss_bits_of_float(((float)(int32_t)(bits >> 8) + 0.5f) * 0x1p-24f);
    int32_t e = (int32_t)((b + 0x004afb0d) >> 23) - 127; /* mantissa into [1/sqrt 2, sqrt 2) */
    float m = ss_float_of_bits(b - ((uint32_t)e << 23));
    float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    float series = 2.0f + s2 * (0.66666667f + s2 * (0.4f + s2 * (0.28571430f + s2 * 0.22222222f)));
    return -2.0f * (s * series + (float)e * 0.69314718f);
}

/* cos and sin of 2 pi u, u = bits / 2^32, by an exact reduction to an eighth of a turn about 0. */
static inline void ss_turn(uint32_t bits, float *c, float *s)
{
    uint32_t quarter = (bits + 0x20000000u) >> 30;
    float x = (float)(int32_t)(bits - (quarter << 30)) * (6.2831853f * 0x1p-32f), x2 = x * x;
    float sn =
        x * (1.0f + x2 * (-0.16666667f + x2 * (8.3333333e-3f + x2 * (-1.9841270e-4f + x2 * 2.7557319e-6f))));
    float cs = 1.0f + x2 * (-0.5f + x2 * (4.1666667e-2f + x2 * (-1.3888889e-3f + x2 * 2.4801587e-5f)));
    /* Odd quarters swap the two; the cosine is negative in quarters 1 and 2, the sine in 2 and 3. */
    uint32_t bs = ss_bits_of_float(sn), bc = ss_bits_of_float(cs), swap = (bs ^ bc) & (0 - (quarter & 1));
    *c = ss_float_of_bits(bc ^ swap ^ ((quarter + 1) >> 1 & 1) << 31);
    *s = ss_float_of_bits(bs ^ swap ^ quarter >> 1 << 31);
}

static inline void ss_normal_pair(uint32_t a, uint32_t b, float *first, float *second)
{
    float radius = __builtin_sqrtf(ss_minus_two_log(a)), c, s;
    ss_turn(b, &c, &s);
    *first = radius * c;
    *second = radius * s;
}

#endif
