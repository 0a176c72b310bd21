#include "base/rng.h"

#include <string.h>

void ss_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static void block(const ss_rng *r, uint64_t index, uint32_t out[4])
{
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)r->stream,
                           (uint32_t)(r->stream >> 32)};
    uint32_t key[2] = {(uint32_t)r->key, (uint32_t)(r->key >> 32)};
    ss_philox(counter, key, out);
}

uint32_t ss_rng_u32(ss_rng *r)
{
    uint32_t out[4];
    block(r, r->next >> 2, out);
    return out[r->next++ & 3];
}

uint64_t ss_rng_u64(ss_rng *r)
{
    uint64_t low = ss_rng_u32(r);
    return low | (uint64_t)ss_rng_u32(r) << 32;
}

static float to_uniform(uint32_t u)
{
    return (float)(u >> 8) * 0x1p-24f;
}

float ss_rng_uniform(ss_rng *r)
{
    return to_uniform(ss_rng_u32(r));
}

uint32_t ss_rng_below(ss_rng *r, uint32_t n)
{
    /* Lemire's multiply and reject. */
    uint64_t m = (uint64_t)ss_rng_u32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t floor = -n % n;
        while ((uint32_t)m < floor)
            m = (uint64_t)ss_rng_u32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

/* -2 ln(u), u = (bits + 1/2) / 2^24 in (0, 1); by splitting off the exponent and an atanh series. */
static float minus_two_log(uint32_t bits)
{
    float u = ((float)(bits >> 8) + 0.5f) * 0x1p-24f;
    uint32_t b;
    memcpy(&b, &u, 4);
    int e = (int)((b + 0x004afb0d) >> 23) - 127; /* mantissa into [1/sqrt 2, sqrt 2) */
    b -= (uint32_t)e << 23;
    float m;
    memcpy(&m, &b, 4);
    float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    float series = 2.0f + s2 * (0.66666667f + s2 * (0.4f + s2 * (0.28571430f + s2 * 0.22222222f)));
    return -2.0f * (s * series + (float)e * 0.69314718f);
}

/* cos and sin of 2 pi u, u = bits / 2^32, by an exact reduction to an eighth of a turn about 0. */
static void turn(uint32_t bits, float *c, float *s)
{
    uint32_t quarter = (bits + 0x20000000u) >> 30;
    float x = (float)(int32_t)(bits - (quarter << 30)) * (6.2831853f * 0x1p-32f), x2 = x * x;
    float sn = x * (1.0f + x2 * (-0.16666667f + x2 * (8.3333333e-3f + x2 * (-1.9841270e-4f + x2 * 2.7557319e-6f))));
    float cs = 1.0f + x2 * (-0.5f + x2 * (4.1666667e-2f + x2 * (-1.3888889e-3f + x2 * 2.4801587e-5f)));
    float a = quarter & 1 ? sn : cs, b = quarter & 1 ? cs : sn;
    *c = (quarter == 1 || quarter == 2) ? -a : a;
    *s = quarter >= 2 ? -b : b;
}

static void pair(uint32_t a, uint32_t b, float out[2])
{
    float radius = __builtin_sqrtf(minus_two_log(a)), c, s;
    turn(b, &c, &s);
    out[0] = radius * c;
    out[1] = radius * s;
}

float ss_rng_normal(ss_rng *r)
{
    float out[2];
    uint32_t a = ss_rng_u32(r);
    pair(a, ss_rng_u32(r), out);
    return out[0];
}

/* Calls give with each block of four numbers that a fill of n takes. */
#define FILL(give)                                                                                           \
    uint64_t index = (r->next + 3) >> 2;                                                                     \
    for (size_t i = 0; i < n; i += 4, index++) {                                                             \
        uint32_t u[4];                                                                                       \
        size_t m = n - i < 4 ? n - i : 4;                                                                    \
        block(r, index, u);                                                                                  \
        give                                                                                                 \
    }                                                                                                        \
    r->next = index << 2;

void ss_rng_fill_u32(ss_rng *r, uint32_t *out, size_t n)
{
    FILL(memcpy(out + i, u, m * sizeof *u);)
}

void ss_rng_fill_uniform(ss_rng *r, float *out, size_t n)
{
    FILL(for (size_t j = 0; j < m; j++) out[i + j] = to_uniform(u[j]);)
}

void ss_rng_fill_normal(ss_rng *r, float *out, size_t n)
{
    FILL(float z[4]; pair(u[0], u[1], z); pair(u[2], u[3], z + 2); memcpy(out + i, z, m * sizeof *z);)
}

void ss_rng_shuffle(ss_rng *r, uint32_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        uint32_t j = ss_rng_below(r, (uint32_t)i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
