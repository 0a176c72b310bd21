/*
 * Make the n-th allocation fail, once or for ever: for tests whose name stands in `unit_failing` of
 * meson.build, which links them with -Wl,--wrap=aligned_alloc.
 *
 *     for (long n = 1;; n++) {
 *         fail_alloc_from(n, forever);
 *         int rc = work();
 *         if (!fail_alloc_done())
 *             break;                      // fewer than n allocations: all have been tried
 *         ck_assert_int_eq(rc, SS_ENOMEM);
 *         ck_assert_uint_eq(ss_mem_used(), 0);
 *     }
 *
 * fail_alloc_cjson() counts the allocations of cJSON in as well.
 */
#ifndef SS_TESTS_FAILALLOC_H
#define SS_TESTS_FAILALLOC_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdlib.h>

static long fail_alloc_n, fail_alloc_seen;
static bool fail_alloc_forever;

void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

static bool fail_alloc_now(void)
{
    fail_alloc_seen++;
    return fail_alloc_n &&
           (fail_alloc_forever ? fail_alloc_seen >= fail_alloc_n : fail_alloc_seen == fail_alloc_n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fail_alloc_now() ? NULL : __real_aligned_alloc(align, n);
}

static void *fail_alloc_malloc(size_t n)
{
    return fail_alloc_now() ? NULL : malloc(n);
}

/* From now on the n-th allocation fails (n = 0: none), and those after it if `forever`. */
__attribute__((unused)) static void fail_alloc_from(long n, bool forever)
{
    fail_alloc_n = n;
    fail_alloc_seen = 0;
    fail_alloc_forever = forever;
}

/* Stop failing; true if any allocation has failed. */
__attribute__((unused)) static bool fail_alloc_done(void)
{
    bool failed = fail_alloc_n && fail_alloc_seen >= fail_alloc_n;
    fail_alloc_n = 0;
    return failed;
}

__attribute__((unused)) static void fail_alloc_cjson(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){fail_alloc_malloc, free});
}

#endif
