#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rans.h"
#include "base/rng.h"
#include "unit.h"

enum { MOST = 256, LENGTH = 20000 };

typedef struct table {
    int n;
    uint16_t frequency[MOST], cumulative[MOST + 1];
} table;

static table made(int n, const uint64_t *count)
{
    table t = {.n = n};
    ss_rans_frequencies(n, count, t.frequency);
    ck_assert_int_eq(ss_rans_cumulate(n, t.frequency, t.cumulative), SS_OK);
    return t;
}

/* One stream, in a block of its own size, so that a sanitizer sees what leaves it. */
static uint8_t *packed(const table *t, const uint8_t *symbol, size_t n, size_t *size)
{
    ss_rans_writer w;
    uint8_t *room = ss_alloc(SS_RANS_BOUND(n), 1);
    ss_rans_begin(&w, room, SS_RANS_BOUND(n));
    for (size_t i = n; i-- > 0;)
        ss_rans_put(&w, t->cumulative[symbol[i]], t->frequency[symbol[i]]);
    const uint8_t *at = ss_rans_finish(&w, size);
    uint8_t *own = malloc(*size);
    memcpy(own, at, *size);
    ss_free(room);
    return own;
}

static int unpacked(const table *t, const uint8_t *bytes, size_t size, size_t n, uint8_t *symbol)
{
    ss_rans_reader r;
    ss_rans_start(&r, bytes, size);
    for (size_t i = 0; i < n; i++) {
        int s = ss_rans_get(&r, t->n, t->cumulative);
        ck_assert(s >= 0 && s < t->n);
        symbol[i] = (uint8_t)s;
    }
    return ss_rans_end(&r);
}

/* Draws from counts. */
static void draw(ss_rng *r, int n, const uint64_t *count, uint8_t *symbol, size_t length)
{
    uint64_t all = 0;
    for (int i = 0; i < n; i++)
        all += count[i];
    for (size_t k = 0; k < length; k++) {
        uint64_t at = ss_rng_below(r, (uint32_t)all);
        int s = 0;
        while (at >= count[s])
            at -= count[s++];
        symbol[k] = (uint8_t)s;
    }
}

/* Distributions of all kinds: what is put comes out, within 1 % of the entropy and 3 bytes. */
START_TEST(round_trips_and_size)
{
    static uint8_t symbol[LENGTH], back[LENGTH];
    static const int sizes[] = {1, 2, 3, 16, 100, 256};
    for (int kind = 0; kind < 5; kind++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int n = sizes[k];
            uint64_t count[MOST] = {0}, seen[MOST] = {0};
            ss_rng r = ss_rng_make(3, (uint64_t)kind * 1000 + (uint64_t)n);
            for (int i = 0; i < n; i++) {
                double x = i - n / 2;
                count[i] = kind == 0   ? 1000                                               /* flat */
                           : kind == 1 ? (uint64_t)(1e6 * exp(-fabs(x)))                    /* peaked */
                           : kind == 2 ? (uint64_t)(1e6 * exp(-x * x / (0.02 * n * n + 1))) /* broad */
                           : kind == 3 ? (i == n - 1 ? 1000000 : 1)                         /* nearly sure */
                           : ss_rng_below(&r, 10) ? 0
                                                  : 1 + ss_rng_below(&r, 100000); /* gaps */
            }
            if (kind == 4)
                count[0] += 1;
            draw(&r, n, count, symbol, LENGTH);
            for (int i = 0; i < LENGTH; i++)
                seen[symbol[i]]++;
            table t = made(n, seen);
            double bits = 0;
            for (int i = 0; i < n; i++)
                if (seen[i])
                    bits -= (double)seen[i] * log2((double)seen[i] / LENGTH);
            size_t size;
            uint8_t *bytes = packed(&t, symbol, LENGTH, &size);
            ck_assert_int_eq(unpacked(&t, bytes, size, LENGTH, back), SS_OK);
            ck_assert(!memcmp(symbol, back, LENGTH));
            /* A frequency of 1 for what never came costs, too: 2^-14 of the bits of a symbol each. */
            double never = (double)n / SS_RANS_TOTAL / log(2) * LENGTH;
            ck_assert_msg((double)size <= (1.01 * bits + never) / 8 + SS_RANS_STATE + 1,
                          "kind %d, %d symbols: %zu bytes, entropy %.1f", kind, n, size, bits / 8);
            free(bytes);
        }
}
END_TEST

/* Every length from none on, and the most that symbols can take. */
START_TEST(bounds)
{
    static uint8_t symbol[300], back[300];
    uint64_t count[4] = {1, 1, 1, 1 << 20};
    table t = made(4, count);
    ck_assert_uint_eq(t.frequency[0], 1);
    for (size_t n = 0; n <= sizeof symbol; n++) {
        size_t size;
        uint8_t *bytes = packed(&t, symbol, n, &size); /* the rarest all the time: 14 bits each */
        ck_assert_uint_le(size, SS_RANS_BOUND(n));
        ck_assert_uint_ge(size, (14 * n + 7) / 8);
        memset(back, 9, sizeof back);
        ck_assert_int_eq(unpacked(&t, bytes, size, n, back), SS_OK);
        ck_assert(!memcmp(symbol, back, n));
        free(bytes);
    }
}
END_TEST

/* Each truncation is told; each flipped bit is told, or gives symbols of the table and as many as asked for.
 */
START_TEST(damage)
{
    enum { N = 200 };
    static uint8_t symbol[N], back[N];
    uint64_t count[16];
    ss_rng r = ss_rng_make(1, 1);
    for (int i = 0; i < 16; i++)
        count[i] = (uint64_t)(1e6 * exp(-0.5 * abs(i - 8)));
    draw(&r, 16, count, symbol, N);
    table t = made(16, count);
    size_t size, told = 0;
    uint8_t *bytes = packed(&t, symbol, N, &size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *part = malloc(n ? n : 1);
        memcpy(part, bytes, n);
        ck_assert_int_lt(unpacked(&t, part, n, N, back), 0);
        free(part);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int rc = unpacked(&t, bytes, size, N, back);
        ck_assert(rc < 0 || memcmp(symbol, back, N));
        told += rc < 0;
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_msg(told > 8 * size * 99 / 100, "%zu of %zu", told, 8 * size);
    uint8_t *longer = malloc(size + 1);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    ck_assert_int_eq(unpacked(&t, longer, size + 1, N, back), SS_EDAMAGED);
    free(longer);
    uint8_t zero[8] = {0};
    ck_assert_int_lt(unpacked(&t, zero, sizeof zero, N, back), 0);
    free(bytes);
}
END_TEST

START_TEST(tables)
{
    uint16_t cumulative[5];
    ck_assert_int_eq(ss_rans_cumulate(4, (uint16_t[]){1, 1, 1, SS_RANS_TOTAL - 3}, cumulative), SS_OK);
    ck_assert_uint_eq(cumulative[3], 3);
    ck_assert_uint_eq(cumulative[4], SS_RANS_TOTAL);
    ck_assert_int_eq(ss_rans_cumulate(4, (uint16_t[]){1, 0, 1, SS_RANS_TOTAL - 2}, cumulative), SS_EDAMAGED);
    ck_assert_int_eq(ss_rans_cumulate(4, (uint16_t[]){1, 1, 1, SS_RANS_TOTAL - 4}, cumulative), SS_EDAMAGED);
    ck_assert_int_eq(ss_rans_cumulate(4, (uint16_t[]){60000, 60000, 1, 1}, cumulative), SS_EDAMAGED);
    /* Counts of any size, and none at all. */
    uint64_t none[256] = {0}, huge[3] = {UINT64_MAX / 4, UINT64_MAX / 4, 1};
    table t = made(256, none);
    ck_assert_uint_eq(t.frequency[7], SS_RANS_TOTAL / 256);
    t = made(3, huge);
    ck_assert_uint_eq(t.frequency[2], 1);
    ck_assert_int_le(abs(t.frequency[0] - t.frequency[1]), 1);
}
END_TEST

UNIT_MAIN("rans", round_trips_and_size, bounds, damage, tables)
