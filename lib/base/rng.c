#include "base/rng.h"

#include <string.h>

#include "base/rng_normal.h"

void ss_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < SS_PHILOX_ROUNDS; i++) {
        uint64_t p0 = (uint64_t)SS_PHILOX_M0 * c0, p1 = (uint64_t)SS_PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += SS_PHILOX_W0;
        k1 += SS_PHILOX_W1;
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

float ss_rng_uniform(ss_rng *r)
{
    return ss_uniform_of_bits(ss_rng_u32(r));
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

float ss_rng_normal(ss_rng *r)
{
    float z, other;
    uint32_t a = ss_rng_u32(r);
    ss_normal_pair(a, ss_rng_u32(r), &z, &other);
    return z;
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
    FILL(for (size_t j = 0; j < m; j++) out[i + j] = ss_uniform_of_bits(u[j]);)
}

void ss_rng_fill_normal(ss_rng *r, float *out, size_t n)
{
    FILL(float z[4]; ss_normal_pair(u[0], u[1], z, z + 1); ss_normal_pair(u[2], u[3], z + 2, z + 3);
         memcpy(out + i, z, m * sizeof *z);)
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
