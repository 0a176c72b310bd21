#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "unit.h"

START_TEST(aligned_and_cleared)
{
    for (size_t n = 0; n < 300; n += 7) {
        unsigned char *p = ss_zalloc(n, 1);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % SS_ALIGN, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(p[i], 0);
        ss_free(p);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(overflow_is_refused)
{
    ck_assert_ptr_null(ss_alloc(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(ss_alloc(SIZE_MAX, 1));
    ck_assert_ptr_null(ss_zalloc(SIZE_MAX - 64, 1));
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(cap)
{
    ss_mem_limit(10000);
    void *p = ss_alloc(8000, 1);
    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_null(ss_alloc(4000, 1));
    ck_assert_ptr_null(ss_realloc(p, 9000, 1));
    ss_free(p);
    p = ss_alloc(9000, 1);
    ck_assert_ptr_nonnull(p);
    ss_free(p);
    ss_mem_limit(0);
}
END_TEST

START_TEST(realloc_keeps)
{
    char *p = ss_realloc(NULL, 5, 1);
    memcpy(p, "abcd", 5);
    p = ss_realloc(p, 1000, 1);
    ck_assert_str_eq(p, "abcd");
    p = ss_realloc(p, 5, 1);
    ck_assert_str_eq(p, "abcd");
    ss_free(p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Sizes around those from which the system is asked for pages, in memory that was written to before. */
START_TEST(large_ones)
{
    static const size_t size[] = {(1 << 18) - 1, 1 << 18, 300001, (4 << 20) - 64, 4 << 20, (9 << 20) + 1};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int twice = 0; twice < 2; twice++) {
            unsigned char *p = ss_alloc_whole(size[i], 1);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % SS_ALIGN, 0);
            memset(p, 0xaa, size[i]);
            ss_free(p);
            p = ss_zalloc(size[i], 1);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % SS_ALIGN, 0);
            size_t set = 0;
            for (size_t k = 0; k < size[i]; k++)
                set += p[k] != 0;
            ck_assert_uint_eq(set, 0);
            memset(p, 0xaa, size[i]);
            ss_free(p);
        }
    ss_mem_limit(1 << 20);
    ck_assert_ptr_null(ss_alloc_whole(2, 1 << 20));
    ck_assert_ptr_null(ss_zalloc(2, 1 << 20));
    ss_mem_limit(0);
    ck_assert_ptr_null(ss_alloc_whole(SIZE_MAX / 2, 3));
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

UNIT_MAIN("mem", aligned_and_cleared, overflow_is_refused, cap, realloc_keeps, large_ones)
