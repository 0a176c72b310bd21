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

UNIT_MAIN("mem", aligned_and_cleared, overflow_is_refused, cap, realloc_keeps)
