#include <stdint.h>
#include <string.h>

#include "base/cpu.h"
#include "base/crc32c.h"
#include "base/rng.h"
#include "unit.h"

/* Known answers of RFC 3720, B.4, and the usual check value. */
START_TEST(known_answers)
{
    uint8_t b[32];
    ck_assert_uint_eq(ss_crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(ss_crc32c_table(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(ss_crc32c(0, "", 0), 0);
    memset(b, 0, 32);
    ck_assert_uint_eq(ss_crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    ck_assert_uint_eq(ss_crc32c(0, b, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    ck_assert_uint_eq(ss_crc32c(0, b, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    ck_assert_uint_eq(ss_crc32c(0, b, 32), 0x113fdb5c);
}
END_TEST

/* Bit by bit, as the polynomial says. */
static uint32_t definition(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n; n--, p++) {
        crc ^= *p;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

START_TEST(every_length_and_alignment)
{
    uint8_t b[300];
    ss_rng r = ss_rng_make(1, 0);
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)ss_rng_u32(&r);
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; n + from < sizeof b; n++) {
            uint32_t start = (uint32_t)n * 0x9e3779b9u, want = definition(start, b + from, n);
            ck_assert_uint_eq(ss_crc32c(start, b + from, n), want);
            ck_assert_uint_eq(ss_crc32c_table(start, b + from, n), want);
        }
}
END_TEST

START_TEST(in_parts)
{
    const char *text = "it may be continued wherever it was left off";
    size_t n = strlen(text);
    for (size_t k = 0; k <= n; k++)
        ck_assert_uint_eq(ss_crc32c(ss_crc32c(0, text, k), text + k, n - k), ss_crc32c(0, text, n));
}
END_TEST

/* Long enough for what is folded or goes side by side, in stretches of every size and with what is left. */
static void compare_long_ones(void)
{
    static uint8_t b[100000];
    ss_rng r = ss_rng_make(2, 0);
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)ss_rng_u32(&r);
    for (size_t n = 250; n < sizeof b - 8; n += 1 + n / 500)
        ck_assert_uint_eq(ss_crc32c(7, b + n % 8, n), ss_crc32c_table(7, b + n % 8, n));
    ck_assert_uint_eq(ss_crc32c(0, b, sizeof b), definition(0, b, sizeof b));
}

START_TEST(long_ones)
{
    compare_long_ones();
    ck_assert_int_eq(ss_cpu_lower("avx2"), 0);
    compare_long_ones();
}
END_TEST

START_TEST(joined)
{
    static uint8_t b[5000];
    ss_rng r = ss_rng_make(3, 0);
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)ss_rng_u32(&r);
    for (size_t n = 0; n < sizeof b; n += 1 + n / 10)
        for (size_t k = 0; k <= n; k += 1 + n / 7)
            ck_assert_uint_eq(ss_crc32c_join(ss_crc32c(0, b, k), ss_crc32c(0, b + k, n - k), n - k),
                              ss_crc32c(0, b, n));
    /* zeros behind a value: 2^40 of them, as twice 2^39 */
    uint32_t half = ss_crc32c_join(1, 0, (uint64_t)1 << 39);
    ck_assert_uint_eq(ss_crc32c_join(1, 0, (uint64_t)1 << 40), ss_crc32c_join(half, 0, (uint64_t)1 << 39));
}
END_TEST

UNIT_MAIN("crc32c", known_answers, every_length_and_alignment, in_parts, long_ones, joined)
