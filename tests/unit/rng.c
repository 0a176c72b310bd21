#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "unit.h"

START_TEST(known_answers)
{
    /* philox4x32-10 rows of Random123's kat_vectors. */
    static const uint32_t kat[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        ss_philox(kat[i], kat[i] + 4, out);
        ck_assert_mem_eq(out, kat[i] + 6, sizeof out);
    }
}
END_TEST

START_TEST(state_is_a_position)
{
    ss_rng a = ss_rng_make(7, 3), b = a;
    uint32_t first[16], again;
    for (int i = 0; i < 16; i++)
        first[i] = ss_rng_u32(&a);
    b.next = 11;
    again = ss_rng_u32(&b);
    ck_assert_uint_eq(again, first[11]);
    uint32_t bulk[16];
    b = ss_rng_make(7, 3);
    ss_rng_fill_u32(&b, bulk, 16);
    ck_assert_mem_eq(bulk, first, sizeof bulk);
    ck_assert_uint_eq(b.next, 16);
    ss_rng other = ss_rng_make(7, 4);
    ck_assert_uint_ne(ss_rng_u32(&other), first[0]);
}
END_TEST

START_TEST(normal_moments_and_tails)
{
    enum { N = 1 << 20 };
    float *z = malloc(N * sizeof *z);
    ss_rng r = ss_rng_make(1, 0);
    ss_rng_fill_normal(&r, z, N);
    double m = 0, v = 0, k = 0, below[3] = {0};
    for (int i = 0; i < N; i++) {
        m += z[i];
        v += (double)z[i] * z[i];
        k += pow(z[i], 4);
        below[0] += z[i] < -2;
        below[1] += z[i] < 0;
        below[2] += z[i] < 1;
    }
    free(z);
    ck_assert_double_eq_tol(m / N, 0, 5e-3);
    ck_assert_double_eq_tol(v / N, 1, 1e-2);
    ck_assert_double_eq_tol(k / N, 3, 6e-2);
    ck_assert_double_eq_tol(below[0] / N, 0.0227501, 1e-3);
    ck_assert_double_eq_tol(below[1] / N, 0.5, 3e-3);
    ck_assert_double_eq_tol(below[2] / N, 0.8413447, 2e-3);
}
END_TEST

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov's distance to the normal law, and that a pair made of two numbers is two independent normals. */
START_TEST(normal_law)
{
    enum { N = 1 << 18 };
    float *z = malloc(N * sizeof *z);
    ss_rng r = ss_rng_make(3, 1);
    ss_rng_fill_normal(&r, z, N);
    for (int apart = 1; apart <= 4; apart++) {
        double plain = 0, square = 0;
        for (int i = 0; i + apart < N; i++) {
            plain += (double)z[i] * z[i + apart];
            square += ((double)z[i] * z[i] - 1) * ((double)z[i + apart] * z[i + apart] - 1);
        }
        ck_assert_double_lt(fabs(plain), 5 * sqrt(N));
        ck_assert_double_lt(fabs(square), 5 * 2 * sqrt(N));
    }
    qsort(z, N, sizeof *z, compare);
    double far = 0;
    for (int i = 0; i < N; i++)
        far = fmax(far, fabs((i + 0.5) / N - 0.5 * erfc(-z[i] / sqrt(2))));
    ck_assert_double_lt(far * sqrt(N), 1.95); /* more in one of a thousand */
    free(z);
}
END_TEST

START_TEST(normal_bits_are_fixed)
{
    /* A sum over the bits of many normals: differs when any CPU or compiler gives another bit. */
    ss_rng r = ss_rng_make(42, 9);
    uint64_t sum = 0;
    for (int i = 0; i < 1000; i++) {
        float z[5];
        uint32_t b[5];
        ss_rng_fill_normal(&r, z, 5);
        memcpy(b, z, sizeof b);
        for (int j = 0; j < 5; j++)
            sum = sum * 6364136223846793005u + b[j];
    }
    ck_assert_uint_eq(sum, 0xd622b65a759df674);
}
END_TEST

START_TEST(below_is_even)
{
    ss_rng r = ss_rng_make(5, 0);
    int count[7] = {0};
    for (int i = 0; i < 70000; i++)
        count[ss_rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        ck_assert_int_lt(abs(count[i] - 10000), 400);
}
END_TEST

START_TEST(shuffle_is_a_permutation)
{
    ss_rng r = ss_rng_make(5, 1);
    uint32_t order[257], seen[257] = {0};
    ss_rng_shuffle(&r, order, 257);
    int moved = 0;
    for (uint32_t i = 0; i < 257; i++) {
        seen[order[i]]++;
        moved += order[i] != i;
    }
    for (int i = 0; i < 257; i++)
        ck_assert_uint_eq(seen[i], 1);
    ck_assert_int_gt(moved, 200);
}
END_TEST

UNIT_MAIN("rng", known_answers, state_is_a_position, normal_moments_and_tails, normal_law,
          normal_bits_are_fixed, below_is_even, shuffle_is_a_permutation)
