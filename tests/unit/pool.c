#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/pool.h"
#include "unit.h"

typedef struct tally {
    atomic_int done[100], wrong;
    int threads;
} tally;

static void count(void *arg, int i, int thread)
{
    tally *t = arg;
    atomic_fetch_add(&t->done[i], 1);
    if (thread < 0 || thread >= t->threads)
        atomic_fetch_add(&t->wrong, 1);
}

START_TEST(each_task_once)
{
    for (int threads = 1; threads <= 5; threads++) {
        ss_pool *p;
        ck_assert_int_eq(ss_pool_open(&p, threads, NULL), 0);
        ck_assert_int_eq(ss_pool_threads(p), threads);
        for (int n = 0; n <= 100; n += 7)
            for (int k = 0; k < 20; k++) {
                tally t = {.threads = threads};
                ss_pool_run(p, n, count, &t);
                for (int i = 0; i < 100; i++)
                    ck_assert_int_eq(atomic_load(&t.done[i]), i < n);
                ck_assert_int_eq(atomic_load(&t.wrong), 0);
            }
        ss_pool_close(&p);
        ck_assert_ptr_null(p);
    }
}
END_TEST

START_TEST(no_pool_is_a_loop)
{
    tally t = {.threads = 1};
    ck_assert_int_eq(ss_pool_threads(NULL), 1);
    ss_pool_run(NULL, 100, count, &t);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(atomic_load(&t.done[i]), 1);
    ss_pool *none = NULL;
    ss_pool_close(&none);
}
END_TEST

START_TEST(idle_threads_sleep)
{
    ss_pool *p;
    ck_assert_int_eq(ss_pool_open(&p, 4, NULL), 0);
    tally t = {.threads = 4};
    ss_pool_run(p, 100, count, &t);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    ss_clock_sleep_until(ss_clock_mono_ns() + 200000000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    ck_assert_double_lt(used, 0.05); /* three that spin would take up to 0.6 s */
    ss_pool_run(p, 100, count, &t);
    ck_assert_int_eq(atomic_load(&t.done[99]), 2);
    ss_pool_close(&p);
}
END_TEST

START_TEST(refusals)
{
    ss_pool *p;
    ss_err e;
    ck_assert_int_eq(ss_pool_open(&p, -1, &e), SS_ERANGE);
    ck_assert_ptr_null(p);
    size_t before = ss_mem_used();
    ss_mem_limit(before + 1);
    ck_assert_int_eq(ss_pool_open(&p, 2, &e), SS_ENOMEM);
    ss_mem_limit(0);
    ck_assert_uint_eq(ss_mem_used(), before);
    ck_assert_int_eq(ss_pool_open(&p, 0, &e), 0);
    ck_assert_int_ge(ss_pool_threads(p), 1);
    ss_pool_close(&p);
    ck_assert_uint_eq(ss_mem_used(), before);
}
END_TEST

UNIT_MAIN("pool", each_task_once, no_pool_is_a_loop, idle_threads_sleep, refusals)
