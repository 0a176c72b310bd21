#include <string.h>
#include <sys/wait.h>

#include "failalloc.h"
#include "faults.h"

#include "base/mem.h"
#include "nn/checkpoint.h"
#include "scratch.h"
#include "unit.h"

enum { N = 3000 };
/* A state of which every part says its generation. */
static int save(int64_t generation, ss_err *e)
{
    static float weights[N];
    int64_t state[3] = {1, 2, generation};
    const ss_checkpoint_part parts[] = {{"generation", SS_DTYPE_I64, 1, &generation},
                                        {"augmentation", SS_DTYPE_I64, 3, state}};
    ss_checkpoint_writer *w;
    for (int i = 0; i < N; i++)
        weights[i] = (float)generation;
    int rc = ss_checkpoint_begin(&w, e);
    if (rc < 0)
        return rc;
    ss_checkpoint_put(w, "weights", SS_DTYPE_F32, 2, (uint64_t[]){N / 3, 3}, weights);
    uint8_t *mixture = ss_checkpoint_room(w, "mixture", SS_DTYPE_U8, 5);
    if (mixture)
        memset(mixture, (int)generation, 5);
    ss_checkpoint_put_parts(w, parts, 2);
    ss_checkpoint_put_int(w, "last seq", generation + 1);
    ss_checkpoint_put_text(w, "architecture", "resnet");
    return ss_checkpoint_write(&w, "c", e);
}

/* The generation that c (or c.prev) holds as a whole, or an error. */
static int64_t load(int *previous, ss_err *e)
{
    static float weights[N];
    uint8_t mixture[5];
    int64_t generation = 0, state[3], last;
    const ss_checkpoint_part parts[] = {{"generation", SS_DTYPE_I64, 1, &generation},
                                        {"augmentation", SS_DTYPE_I64, 3, state}};
    ss_checkpoint *c;
    int rc = ss_checkpoint_open(&c, "c", previous, e);
    if (rc < 0)
        return rc;
    if ((rc = ss_checkpoint_get(c, "weights", SS_DTYPE_F32, 2, (uint64_t[]){N / 3, 3}, weights, e)) ==
            SS_OK &&
        (rc = ss_checkpoint_get(c, "mixture", SS_DTYPE_U8, 1, (uint64_t[]){5}, mixture, e)) == SS_OK &&
        (rc = ss_checkpoint_get_parts(c, parts, 2, e)) == SS_OK)
        rc = ss_checkpoint_get_int(c, "last seq", &last, e);
    if (rc == SS_OK) {
        for (int i = 0; i < N; i++)
            ck_assert_float_eq(weights[i], (float)generation);
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(mixture[i], (uint8_t)generation);
        ck_assert_int_eq(state[0], 1);
        ck_assert_int_eq(state[1], 2);
        ck_assert_int_eq(state[2], generation);
        ck_assert_int_eq(last, generation + 1);
        ck_assert_str_eq(ss_checkpoint_text(c, "architecture"), "resnet");
        ck_assert_ptr_null(ss_checkpoint_text(c, "other"));
    }
    ss_checkpoint_close(&c);
    return rc < 0 ? rc : generation;
}

START_TEST(round_trip)
{
    ss_err e;
    ss_checkpoint *c;
    float x[3];
    int previous;
    scratch_enter("checkpoint", false);
    ck_assert_msg(save(7, &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(load(&previous, &e), 7);
    ck_assert_int_eq(previous, 0);
    ck_assert_int_eq(ss_checkpoint_open(&c, "c", NULL, NULL), SS_OK);
    ck_assert_uint_eq(ss_checkpoint_find(c, "weights")->count, N);
    ck_assert_int_eq(ss_checkpoint_get(c, "weight", SS_DTYPE_F32, 1, (uint64_t[]){3}, x, &e), SS_EUNFIT);
    ck_assert_int_eq(ss_checkpoint_get(c, "weights", SS_DTYPE_F32, 2, (uint64_t[]){1, 3}, x, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "checkpoint's 'weights' is F32 [1000][3], expected F32 [1][3]");
    ck_assert_int_eq(ss_checkpoint_get(c, "weights", SS_DTYPE_F32, 1, (uint64_t[]){3}, x, &e), SS_EUNFIT);
    ck_assert_int_eq(ss_checkpoint_get(c, "weights", SS_DTYPE_I32, 2, (uint64_t[]){1000, 3}, x, &e),
                     SS_EUNFIT);
    ss_checkpoint_close(&c);
    scratch_leave();
}
END_TEST

START_TEST(many_arrays_and_misuse)
{
    ss_err e;
    ss_checkpoint_writer *w;
    ss_checkpoint *c;
    int64_t v;
    scratch_enter("checkpoint", false);
    ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        ss_checkpoint_put_int(w, name, i);
        ss_checkpoint_put_text(w, name, name);
    }
    ck_assert_int_eq(ss_checkpoint_write(&w, "c", &e), SS_OK);
    ck_assert_ptr_null(w);
    ck_assert_int_eq(ss_checkpoint_open(&c, "c", NULL, &e), SS_OK);
    ck_assert_int_eq(ss_checkpoint_get_int(c, "n499", &v, &e), SS_OK);
    ck_assert_int_eq(v, 499);
    ck_assert_str_eq(ss_checkpoint_text(c, "n123"), "n123");
    ss_checkpoint_close(&c);
    ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
    ss_checkpoint_put_int(w, "a", 1);
    ss_checkpoint_put_int(w, "a", 2);
    ck_assert_int_eq(ss_checkpoint_write(&w, "d", &e), SS_EINVAL);
    ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
    ss_checkpoint_put(w, "a", SS_DTYPE_U8, 9, (uint64_t[9]){0}, "");
    ck_assert_int_eq(ss_checkpoint_write(&w, "d", &e), SS_EINVAL);
    ck_assert_int_ne(access("d", F_OK), 0);
    ss_checkpoint_abandon(&w);
    scratch_leave();
}
END_TEST

START_TEST(damaged_one_is_refused_by_name)
{
    ss_err e;
    int previous;
    scratch_enter("checkpoint", false);
    ck_assert_int_eq(load(&previous, &e), SS_EIO);
    ck_assert_int_eq(save(1, &e), SS_OK);
    ck_assert_int_eq(save(2, &e), SS_OK);
    FILE *f = fopen("c", "r+");
    fseek(f, -1, SEEK_END);
    fputc('x', f);
    fclose(f);
    ck_assert_int_eq(load(&previous, &e), 1);
    ck_assert_int_eq(previous, 1);
    ck_assert_ptr_nonnull(strstr(e.text, "cannot read 'c': digest of tensor '"));
    /* A file of another kind is not damage: nothing else is taken in its place. */
    const ss_st_array a = {"w", SS_DTYPE_U8, 1, {1}, "x"};
    ck_assert_int_eq(ss_st_write("c", SS_ST_PLAIN, &a, 1, NULL, 0, &e), SS_OK);
    ck_assert_int_eq(load(&previous, &e), SS_EUNFIT);
    scratch_leave();
}
END_TEST

/* Generation g is durable; the program dies in the middle of writing g + 1. */
START_TEST(every_kill)
{
    int64_t g = 1;
    scratch_enter("checkpoint", false);
    ck_assert_int_eq(save(g, NULL), SS_OK);
    for (long n = 1;; n++) {
        ss_err e;
        int status, previous;
        pid_t child = fork();
        if (!child) {
            die_before_call(n);
            _exit(save(g + 1, NULL) == SS_OK ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        int64_t now = load(&previous, &e);
        ck_assert_msg(now == g || now == g + 1, "kill %ld: %ld %s", n, (long)now, e.text);
        ck_assert_int_eq(previous, 0);
        /* What the dead program left does not hinder the next one. */
        g = now + 1;
        ck_assert_msg(save(g, &e) == SS_OK, "after kill %ld: %s", n, e.text);
        ck_assert_int_eq(load(&previous, &e), g);
        if (WIFEXITED(status)) {
            ck_assert_int_eq(WEXITSTATUS(status), 0);
            ck_assert_int_gt(n, 10);
            break;
        }
    }
    scratch_leave();
}
END_TEST

START_TEST(every_failing_call_and_allocation)
{
    scratch_enter("checkpoint", false);
    for (int forever = 0; forever < 2; forever++)
        for (int kind = 0; kind < 2; kind++)
            for (long n = 1;; n++) {
                ss_err e = {0};
                int previous;
                ck_assert_int_eq(save(1, NULL), SS_OK);
                if (kind)
                    fail_alloc_from(n, forever);
                else
                    fail_call_from(n, forever, ENOSPC);
                int rc = save(2, &e);
                bool failed = kind ? fail_alloc_done() : fail_call_done();
                ck_assert_uint_eq(ss_mem_used(), 0);
                int64_t now = load(&previous, NULL);
                if (rc == SS_OK)
                    ck_assert_int_eq(now, 2);
                else
                    ck_assert_msg((now == 1 || now == 2) && strlen(e.text), "%d %ld: %ld", kind, n,
                                  (long)now);
                if (!failed)
                    break;
            }
    scratch_leave();
}
END_TEST

UNIT_MAIN("checkpoint", round_trip, many_arrays_and_misuse, damaged_one_is_refused_by_name, every_kill,
          every_failing_call_and_allocation)
