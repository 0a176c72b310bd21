/**
 * Random numbers by counter: Philox 4x32-10. The k-th number is a function of (key, stream, k) alone, so a
 * state is three integers, any place can be jumped to, and loops over it vectorise. Integer arithmetic and
 * single precision additions and products only, uncontracted: the same bits on every CPU.
 * A state belongs to one thread.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; known answers
 * of that work's Random123 are in tests/unit/rng.c.
 */
#ifndef SS_BASE_RNG_H
#define SS_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct ss_rng {
    uint64_t key;    /* the seed */
    uint64_t stream; /* independent sequences under one seed: one for each purpose */
    uint64_t next;   /* index of the next 32-bit number: all that changes */
} ss_rng;
#define SS_RNG_WORDS (sizeof(ss_rng) / sizeof(uint64_t)) /* a state, as checkpoints keep it */

static inline ss_rng ss_rng_make(uint64_t seed, uint64_t stream)
{
    return (ss_rng){seed, stream, 0};
}

/** One block: out[4] = philox4x32-10(counter, key). */
void ss_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

uint32_t ss_rng_u32(ss_rng *r);
uint64_t ss_rng_u64(ss_rng *r);

/** Uniform in [0, 1), a multiple of 2^-24. */
float ss_rng_uniform(ss_rng *r);

/** Uniform in 0..n-1 without bias; n > 0. Takes as many numbers as rejection needs. */
uint32_t ss_rng_below(ss_rng *r, uint32_t n);

/** One standard normal; takes two numbers. */
float ss_rng_normal(ss_rng *r);

/** out [n]: fills start at a multiple of four numbers, and end at one, so that their speed does not depend on
 * it. */
void ss_rng_fill_u32(ss_rng *r, uint32_t *out, size_t n);
void ss_rng_fill_uniform(ss_rng *r, float *out, size_t n);
void ss_rng_fill_normal(ss_rng *r, float *out, size_t n);

/** A random order of 0..n-1 (Fisher-Yates) into order [n]. */
void ss_rng_shuffle(ss_rng *r, uint32_t *order, size_t n);

#endif
