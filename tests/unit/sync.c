#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "learn/sync.h"
#include "nn/delta.h"
#include "models.h"
#include "scratch.h"
#include "unit.h"

/* The server: its weights, what devices know of them, and one delta after the other. */
typedef struct server {
    ss_model *m;
    float *value, *shadow;
    void *bytes;
    size_t size;
} server;

static server serve(ss_model *m)
{
    return (server){m, model_values(m), model_values(m), NULL, 0};
}

static ss_record next(server *s, uint64_t from, float by, uint64_t windows)
{
    ss_record rec;
    ss_err e;
    ss_delta_config c;
    ss_delta_config_default(&c);
    for (size_t i = 0; i < s->m->nvalue; i++)
        s->value[i] += by;
    ss_free(s->bytes);
    ck_assert_msg(ss_delta_pack(s->m, s->value, s->shadow, &c, &s->bytes, &s->size, NULL, &e) == SS_OK, "%s",
                  e.text);
    ss_delta_record(&rec, s->m, s->bytes, s->size, from, from + 1, windows);
    return rec;
}

static void end(server *s)
{
    ss_free(s->value);
    ss_free(s->shadow);
    ss_free(s->bytes);
}

static void leave(ss_sync *s, ss_model *m)
{
    ss_sync_free(s);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

START_TEST(versions_are_a_chain)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_sync *s;
    ss_err e;
    uint64_t from = 99;
    float first = m->value[0];
    server v = serve(m);
    ck_assert_int_eq(ss_sync_create(&s, m, &e), SS_OK);
    ss_record one = next(&v, 0, 0.5f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &one, &from, &e), 1); /* nothing was learnt here: all of it */
    ck_assert_uint_eq(from, 0);
    ck_assert_uint_eq(m->synchronised, 1);
    ck_assert_float_eq_tol(m->value[0], first + 0.5f, 0.01f);
    float *after = model_values(m);
    ck_assert_int_eq(ss_sync_merge(s, &one, &from, &e), SS_ERANGE);
    ck_assert_ptr_nonnull(strstr(e.text, "version 1 is here already"));
    ss_record three = next(&v, 2, 0.5f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &three, &from, &e), 0);
    ck_assert_uint_eq(from, 2);
    ck_assert_mem_eq(m->value, after, m->nvalue * sizeof *after);
    ss_record damaged = next(&v, 1, 0.5f, 10);
    damaged.size--;
    ck_assert_int_lt(ss_sync_merge(s, &damaged, &from, &e), 0);
    ck_assert_mem_eq(m->value, after, m->nvalue * sizeof *after);
    ck_assert_uint_eq(m->synchronised, 1);
    ss_free(after);
    end(&v);
    leave(s, m);
}
END_TEST

START_TEST(both_sides_count_by_their_windows)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_sync *s;
    ss_err e;
    float first = m->value[0];
    server v = serve(m);
    ck_assert_int_eq(ss_sync_create(&s, m, &e), SS_OK);
    ck_assert_int_eq(ss_sync_begin(s, &e), SS_OK);
    m->value[0] -= 1; /* learnt here from 30 windows */
    ss_sync_learnt(s, 30);
    ss_record one = next(&v, 0, 0.5f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &one, NULL, &e), 1);
    ck_assert_float_eq_tol(m->value[0], first + (30 * -1.0f + 10 * 0.5f) / 40, 0.01f);
    end(&v);
    leave(s, m);
}
END_TEST

/* As a run of the learner: so many steps before, a merge, and losses afterwards. */
static bool given_up(double before, double after, int steps, bool taken)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_sync *s;
    ss_err e;
    server v = serve(m);
    bool gone = false;
    ck_assert_int_eq(ss_sync_create(&s, m, &e), SS_OK);
    ck_assert_int_eq(ss_sync_begin(s, &e), SS_OK);
    for (int i = 0; i < steps; i++)
        ck_assert(!ss_sync_watch(s, true, before));
    m->value[3] = 7;
    float *was = model_values(m);
    ss_record one = next(&v, 0, 0.25f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &one, NULL, &e), 1);
    ck_assert_int_eq(ss_sync_ready(s), steps < SS_SYNC_WATCH);
    if (steps >= SS_SYNC_WATCH)
        ck_assert_int_eq(ss_sync_merge(s, &one, NULL, &e), 0);
    for (int i = 0; i < 2 * SS_SYNC_WATCH && !gone; i++)
        gone = ss_sync_watch(s, taken, after);
    ck_assert(ss_sync_ready(s));
    ck_assert_int_eq(!memcmp(m->value, was, m->nvalue * sizeof *was), gone);
    ck_assert_uint_eq(m->synchronised, 1); /* the server goes on from there in any case */
    ss_record two = next(&v, 1, 0.25f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &two, NULL, &e), 1);
    ss_free(was);
    end(&v);
    leave(s, m);
    return gone;
}

/* Moved by own windows, by gradients of the server in the lower half, and by a delta. */
START_TEST(joint_steps_are_not_weighed)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_sync *s;
    ss_err e;
    server v = serve(m);
    float *was = model_values(m);
    size_t half = m->ntrainable / 2;
    ck_assert_int_eq(ss_sync_create(&s, m, &e), SS_OK);
    ck_assert_int_eq(ss_sync_begin(s, &e), SS_OK);
    for (size_t i = 0; i < m->nvalue; i++)
        m->value[i] += 0.2f;
    ss_sync_learnt(s, 10);
    ss_sync_joint_begin(s);
    for (size_t i = 0; i < half; i++)
        m->value[i] += 1;
    ss_sync_joint_end(s);
    ss_record one = next(&v, 0, 0.5f, 10);
    ck_assert_int_eq(ss_sync_merge(s, &one, NULL, &e), 1);
    for (size_t i = 0; i < m->ntrainable; i++)
        ck_assert_float_eq_tol(m->value[i], was[i] + 0.1f + 0.25f + (i < half ? 1 : 0), 0.01f);
    ss_free(was);
    end(&v);
    leave(s, m);
}
END_TEST

START_TEST(what_makes_it_worse_is_given_up)
{
    ck_assert(!given_up(1, 1, SS_SYNC_WATCH, true));
    ck_assert(!given_up(1, 1.4, SS_SYNC_WATCH, true));
    ck_assert(given_up(1, 1.6, SS_SYNC_WATCH, true));
    ck_assert(given_up(1, 1, SS_SYNC_WATCH, false)); /* a step was refused */
    ck_assert(given_up(1, NAN, SS_SYNC_WATCH, true));
    ck_assert(!given_up(1, 9, SS_SYNC_WATCH - 1, true)); /* nothing to hold it against */
}
END_TEST

static void write_checkpoint(ss_sync *s)
{
    ss_checkpoint_writer *w;
    ss_err e;
    ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
    ss_sync_save(s, w);
    ck_assert_msg(ss_checkpoint_write(&w, "sync.checkpoint", &e) == SS_OK, "%s", e.text);
}

START_TEST(goes_on_after_a_restart)
{
    ss_model *m[2] = {model_small(SS_NORM_WEIGHT), model_small(SS_NORM_WEIGHT)};
    ss_sync *s[2];
    ss_checkpoint *c;
    ss_err e;
    server v = serve(m[0]);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(ss_sync_create(&s[i], m[i], &e), SS_OK);
    scratch_enter("sync", true);
    write_checkpoint(s[0]); /* before anything */
    ck_assert_int_eq(ss_checkpoint_open(&c, "sync.checkpoint", NULL, &e), SS_OK);
    ck_assert_int_eq(ss_sync_load(s[1], c, &e), SS_OK);
    ss_checkpoint_close(&c);
    ck_assert_int_eq(ss_sync_begin(s[0], &e), SS_OK);
    for (int i = 0; i < SS_SYNC_WATCH; i++)
        ss_sync_watch(s[0], true, 1);
    ss_record one = next(&v, 0, 0.25f, 10);
    ck_assert_int_eq(ss_sync_merge(s[0], &one, NULL, &e), 1);
    m[0]->value[5] += 0.125f;
    ss_sync_learnt(s[0], 5);
    ss_sync_watch(s[0], true, 1.25);
    write_checkpoint(s[0]);
    memcpy(m[1]->value, m[0]->value,
           m[0]->nvalue * sizeof *m[0]->value); /* the learner's part of a checkpoint */
    ck_assert_int_eq(ss_checkpoint_open(&c, "sync.checkpoint", NULL, &e), SS_OK);
    ck_assert_msg(ss_sync_load(s[1], c, &e) == SS_OK, "%s", e.text);
    ss_checkpoint_close(&c);
    ck_assert_uint_eq(m[1]->synchronised, 1);
    for (int i = 0; i < SS_SYNC_WATCH; i++)
        ck_assert_int_eq(ss_sync_watch(s[0], true, 1.25), ss_sync_watch(s[1], true, 1.25));
    ss_record two = next(&v, 1, 0.25f, 10);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(ss_sync_merge(s[i], &two, NULL, &e), 1);
    ck_assert_mem_eq(m[0]->value, m[1]->value, m[0]->nvalue * sizeof *m[0]->value);
    end(&v);
    ss_sync_free(s[1]);
    ss_model_free(m[1]);
    leave(s[0], m[0]);
    scratch_leave();
}
END_TEST

START_TEST(every_failing_allocation)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    server v = serve(m);
    ss_record one = next(&v, 0, 0.25f, 10);
    float *was = model_values(m);
    ss_err e;
    for (long n = 1;; n++) {
        ss_sync *s = NULL;
        fail_alloc_from(n, false);
        int rc = ss_sync_create(&s, m, &e);
        if (rc == SS_OK)
            rc = ss_sync_merge(s, &one, NULL, &e);
        bool failed = fail_alloc_done();
        if (!failed) {
            ck_assert_int_eq(rc, 1);
            end(&v);
            ss_free(was);
            leave(s, m);
            break;
        }
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_mem_eq(m->value, was, m->nvalue * sizeof *was);
        ck_assert_uint_eq(m->synchronised, 0);
        ss_sync_free(s);
    }
}
END_TEST

UNIT_MAIN("sync", versions_are_a_chain, both_sides_count_by_their_windows, joint_steps_are_not_weighed,
          what_makes_it_worse_is_given_up, goes_on_after_a_restart, every_failing_allocation)
