#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "learn/share.h"
#include "nn/delta.h"
#include "models.h"
#include "scratch.h"
#include "unit.h"

static ss_share *opened(ss_model *m, int kept)
{
    ss_share *s;
    ss_err e;
    int rc = ss_share_open(&s, m, "deltas", 127, kept, &e);
    ck_assert_msg(rc >= 0, "%s", e.text);
    return s;
}

static void learn(ss_model *m, uint64_t round)
{
    ss_rng r = ss_rng_make(3, round);
    for (size_t i = 0; i < m->nvalue; i++)
        m->value[i] += 1e-3f * ss_rng_normal(&r);
}

/* A device that takes what it is given. */
typedef struct device {
    ss_model *m;
    uint64_t version;
    int given;
} device;

static int take(void *arg, const ss_record *rec, ss_err *e)
{
    device *d = arg;
    ss_delta *delta;
    uint64_t from, to, windows;
    int rc = ss_delta_open_record(&delta, d->m, rec, &from, &to, &windows, e);
    if (rc < 0)
        return rc;
    ck_assert_uint_eq(from, d->version);
    ck_assert_uint_eq(windows, 100);
    ss_delta_add(delta, d->m->value);
    ss_delta_close(&delta);
    d->version = to;
    d->given++;
    return SS_OK;
}

static void next(ss_share *s, device *d)
{
    const ss_record *rec;
    ss_err e;
    ck_assert_msg(ss_share_next(s, 100, &rec, &e) == SS_OK, "%s", e.text);
    if (d)
        ck_assert_int_eq(take(d, rec, &e), SS_OK);
}

static double apart(const ss_model *a, const ss_model *b)
{
    double most = 0;
    for (size_t i = 0; i < a->nvalue; i++)
        most = fmax(most, fabs((double)a->value[i] - (double)b->value[i]));
    return most;
}

START_TEST(who_missed_some_gets_them_again)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    device here = {model_small(SS_NORM_WEIGHT), 0, 0}, late = {model_small(SS_NORM_WEIGHT), 0, 0};
    ss_err e;
    scratch_enter("share", true);
    ss_share *s = opened(m, 8);
    for (uint64_t i = 0; i < 5; i++) {
        learn(m, i);
        next(s, &here);
    }
    ck_assert_uint_eq(m->synchronised, 5);
    ck_assert_double_le(apart(m, here.m), 1e-4);
    ck_assert_int_eq(ss_share_since(s, 0, take, &late, &e), 1);
    ck_assert_int_eq(late.given, 5);
    ck_assert_mem_eq(late.m->value, here.m->value, m->nvalue * sizeof *m->value);
    ck_assert_int_eq(ss_share_since(s, 5, take, &late, &e), 1);
    ck_assert_int_eq(late.given, 5);
    ck_assert_int_eq(ss_share_since(s, 6, take, &late, &e), 0); /* it has more than there is here */
    ck_assert_int_eq(late.given, 5);
    ss_share_close(s);
    ss_model_free(m);
    ss_model_free(here.m);
    ss_model_free(late.m);
    scratch_leave();
}
END_TEST

START_TEST(old_ones_go)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    device late = {model_small(SS_NORM_WEIGHT), 0, 0};
    ss_err e;
    scratch_enter("share", true);
    ss_share *s = opened(m, 2);
    for (uint64_t i = 0; i < 60; i++) { /* more than a segment of the journal */
        learn(m, i);
        next(s, NULL);
    }
    ck_assert_int_eq(ss_share_since(s, 0, take, &late, &e), 0);
    ck_assert_int_eq(late.given, 0);
    late.version = 58;
    ck_assert_int_eq(ss_share_since(s, 58, take, &late, &e), 1);
    ck_assert_int_eq(late.given, 2);
    ss_share_close(s);
    ss_model_free(m);
    ss_model_free(late.m);
    scratch_leave();
}
END_TEST

/* Killed after deltas went out that no checkpoint knows of: what devices have is what the shadow is. */
START_TEST(goes_on_from_what_was_given_out)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    device d = {model_small(SS_NORM_WEIGHT), 0, 0};
    ss_checkpoint_writer *w;
    ss_checkpoint *c;
    ss_err e;
    scratch_enter("share", true);
    ss_share *s = opened(m, 8);
    learn(m, 0);
    next(s, &d);
    ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
    ss_share_save(s, w);
    ck_assert_int_eq(ss_checkpoint_write(&w, "state", &e), SS_OK);
    float *then = ss_alloc(m->nvalue, sizeof *then);
    memcpy(then, m->value, m->nvalue * sizeof *then);
    learn(m, 1);
    next(s, &d);
    ss_share_close(s);
    memcpy(m->value, then, m->nvalue * sizeof *then); /* as the refiner's part of the checkpoint has them */
    m->synchronised = 1;
    s = opened(m, 8);
    ck_assert_int_eq(ss_checkpoint_open(&c, "state", NULL, &e), SS_OK);
    ck_assert_msg(ss_share_load(s, c, &e) == SS_OK, "%s", e.text);
    ss_checkpoint_close(&c);
    ck_assert_uint_eq(m->synchronised, 2);
    learn(m, 1);
    learn(m, 2);
    next(s, &d);
    ck_assert_uint_eq(d.version, 3);
    ck_assert_double_le(apart(m, d.m), 1e-4);
    ss_share_close(s);
    ss_free(then);
    ss_model_free(m);
    ss_model_free(d.m);
    scratch_leave();
}
END_TEST

START_TEST(a_folder_that_is_gone)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_err e;
    scratch_enter("share", true);
    m->synchronised = 4;
    ss_share *s = opened(m, 8);
    ck_assert_int_eq(ss_share_load(s, NULL, &e), SS_OK); /* devices at 4 go on, older ones cannot */
    learn(m, 0);
    next(s, NULL);
    device d = {model_small(SS_NORM_WEIGHT), 4, 0};
    ck_assert_int_eq(ss_share_since(s, 4, take, &d, &e), 1);
    ck_assert_int_eq(d.given, 1);
    ck_assert_int_eq(ss_share_since(s, 3, take, &d, &e), 0);
    ss_share_close(s);
    ck_assert_int_eq(ss_share_open(&s, m, "deltas", 0, 8, &e), SS_EINVAL);
    ss_model_free(d.m);
    ss_model_free(m);
    scratch_leave();
}
END_TEST

START_TEST(every_failing_allocation)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_err e;
    scratch_enter("share", true);
    for (long n = 1;; n++) {
        ss_share *s;
        const ss_record *rec;
        uint64_t version = m->synchronised;
        fail_alloc_from(n, false);
        int rc = ss_share_open(&s, m, "deltas", 127, 8, &e);
        if (rc >= 0) {
            rc = ss_share_next(s, 100, &rec, &e);
            bool failed = fail_alloc_done();
            ck_assert_uint_eq(m->synchronised, version + (rc >= 0));
            ss_share_close(s);
            if (!failed)
                break;
        }
        fail_alloc_done();
        ck_assert(rc >= 0 || rc == SS_ENOMEM);
        learn(m, (uint64_t)n);
    }
    ss_model_free(m);
    scratch_leave();
}
END_TEST

UNIT_MAIN("share", who_missed_some_gets_them_again, old_ones_go, goes_on_from_what_was_given_out,
          a_folder_that_is_gone, every_failing_allocation)
