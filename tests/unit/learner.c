#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "learn/learner.h"
#include "models.h"
#include "unit.h"

enum { MELS = 16, FRAMES = 24, HOP = 12 };

/* A stream whose source changes every 4 windows: two ridges that swing in the source's own way, and noise. */
static void make_window(uint64_t w, float *x)
{
    ss_rng r = ss_rng_make(98, w / 4);
    float own[4];
    ss_rng_fill_uniform(&r, own, 4);
    for (int t = 0; t < FRAMES; t++) {
        uint64_t frame = w * HOP + (uint64_t)t;
        r = ss_rng_make(99, frame);
        float noise[MELS];
        ss_rng_fill_normal(&r, noise, MELS);
        for (int m = 0; m < MELS; m++) {
            float a = (float)m - 8 - 6 * own[0] * sinf((float)frame * own[1]);
            float b = (float)m - 15 * own[2];
            x[m * FRAMES + t] =
                -8 + 6 * expf(-0.3f * a * a) + 6 * own[3] * expf(-0.5f * b * b) + 0.7f * noise[m];
        }
    }
}

static ss_learner_config make_config(ss_learner_kind kind)
{
    ss_learner_config c;
    ss_learner_config_default(&c, kind);
    c.batch = kind == SS_LEARNER_CACHED ? 12 : 6;
    c.micro_batch = 5;
    c.replay = 64;
    c.every = 4;
    c.start = 16;
    c.shift = 6;
    c.warmup = 5;
    c.nnegatives = 32;
    c.augment.roll = 1;
    c.augment.freq_mask = 3;
    c.augment.time_mask = 4;
    return c;
}

static ss_learner *make_learner(const ss_learner_config *c, ss_model *m, ss_pool *pool)
{
    ss_learner *l;
    ss_err e;
    ck_assert_msg(ss_learner_create(&l, c, m, pool, &e) == SS_OK, "%s", e.text);
    return l;
}

static void hear(ss_learner *l, uint64_t from, uint64_t until)
{
    float x[MELS * FRAMES], z[16];
    ss_mixture_score s;
    ss_err e;
    for (uint64_t w = from; w < until; w++) {
        make_window(w, x);
        ck_assert_int_eq(ss_learner_window(l, x, w, w % 4 != 0, z, &s, &e), SS_OK);
        if (ss_learner_due(l))
            ck_assert_int_eq(ss_learner_step(l), 1);
    }
}

static const unsigned kinds_of_negatives[] = {SS_NEGATIVES_BATCH, SS_NEGATIVES_BATCH | SS_NEGATIVES_VIRTUAL,
                                              SS_NEGATIVES_REPLAY, SS_NEGATIVES_VIRTUAL | SS_NEGATIVES_REPLAY,
                                              7};

/* One configuration for every learner and kind of negatives, by number. */
static ss_learner_config nth_config(int i)
{
    ss_learner_config c = make_config(i ? SS_LEARNER_CONTRAST : SS_LEARNER_CACHED);
    if (i)
        c.negatives = kinds_of_negatives[i - 1];
    if (i == 2)
        c.optimiser = SS_OPTIMISER_SGD;
    c.decoupled = i == 3;
    return c;
}

START_TEST(micro_batches_give_the_gradient_of_the_whole)
{
    ss_learner_config c = make_config(SS_LEARNER_CACHED);
    c.optimiser = SS_OPTIMISER_SGD;
    c.warmup = 0;
    c.clip = 0;
    c.rate = 1; /* the weights move by the gradient itself */
    ss_model *a = model_for_learning(SS_NORM_WEIGHT), *b = model_for_learning(SS_NORM_WEIGHT),
             *fresh = model_for_learning(SS_NORM_WEIGHT);
    ss_learner *la = make_learner(&c, a, NULL);
    c.micro_batch = 24;
    ss_learner *lb = make_learner(&c, b, NULL);
    hear(la, 0, 16);
    hear(lb, 0, 16);
    ss_learner_report ra, rb;
    ss_learner_report_last(la, &ra);
    ss_learner_report_last(lb, &rb);
    ck_assert_uint_eq(ra.step, 1);
    ck_assert_double_eq(ra.loss, rb.loss); /* embeddings do not depend on the batch: the same bits */
    double moved = 0, apart = 0;
    for (size_t i = 0; i < a->ntrainable; i++) {
        moved = fmax(moved, fabs((double)a->value[i] - (double)fresh->value[i]));
        apart = fmax(apart, fabs((double)a->value[i] - (double)b->value[i]));
    }
    ck_assert_double_gt(moved, 1e-3);
    ck_assert_double_lt(apart, 1e-4 * moved);
    ss_learner_free(la);
    ss_learner_free(lb);
    ss_model_free(a);
    ss_model_free(b);
    ss_model_free(fresh);
}
END_TEST

START_TEST(stopped_and_resumed_gives_the_same_bits)
{
    for (int i = 0; i < 6; i++) {
        ss_learner_config c = nth_config(i);
        char path[] = "/tmp/ss-learner-XXXXXX";
        int fd = mkstemp(path);
        ck_assert_int_ge(fd, 0);
        close(fd);
        unlink(path);
        ss_err e;
        ss_model *whole = model_for_learning(SS_NORM_WEIGHT), *first = model_for_learning(SS_NORM_WEIGHT),
                 *second = model_for_learning(SS_NORM_WEIGHT);
        ss_learner *l = make_learner(&c, whole, NULL);
        hear(l, 0, 90);
        ss_learner_free(l);

        l = make_learner(&c, first, NULL);
        hear(l, 0, 61);
        ss_checkpoint_writer *w;
        ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
        ck_assert_int_eq(ss_learner_save(l, w, &e), SS_OK);
        ck_assert_msg(ss_checkpoint_write(&w, path, &e) == SS_OK, "%s", e.text);
        ss_learner_free(l);

        ss_pool *pool;
        ck_assert_int_eq(ss_pool_open(&pool, 2, &e), SS_OK);
        l = make_learner(&c, second, pool);
        ss_checkpoint *p;
        ck_assert_msg(ss_checkpoint_open(&p, path, NULL, &e) == SS_OK, "%s", e.text);
        ck_assert_msg(ss_learner_load(l, p, &e) == SS_OK, "%s", e.text);
        ss_checkpoint_close(&p);
        hear(l, 61, 90);
        ck_assert_mem_eq(whole->value, second->value, whole->nvalue * sizeof(float));
        ss_learner_free(l);

        /* One made with another configuration is refused. */
        c.rate *= 2;
        l = make_learner(&c, second, pool);
        ck_assert_int_eq(ss_checkpoint_open(&p, path, NULL, &e), SS_OK);
        ck_assert_int_eq(ss_learner_load(l, p, &e), SS_EUNFIT);
        ss_checkpoint_close(&p);
        ss_learner_free(l);
        ss_pool_close(&pool);
        ss_model_free(whole);
        ss_model_free(first);
        ss_model_free(second);
        unlink(path);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(the_loss_falls)
{
    ss_learner_config c = make_config(SS_LEARNER_CACHED);
    c.every = 1;
    c.augment.mix = c.augment.gain = 0;
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_learner *l = make_learner(&c, m, NULL);
    ss_learner_report r;
    double early = 0, late = 0;
    for (uint64_t w = 0; w < 240; w += 20) {
        hear(l, w, w + 20);
        ss_learner_report_last(l, &r);
        if (w >= 20 && w < 60)
            early += r.loss / 2;
        if (w >= 160)
            late += r.loss / 4;
    }
    ck_assert_uint_eq(r.refused, 0);
    ck_assert_double_lt(late, 0.85 * early);
    ck_assert_double_gt(r.positive, r.negative + 0.2);
    ss_err e;
    ck_assert_int_eq(ss_learner_store_mixture(l, &e), SS_OK);
    ck_assert_uint_gt(m->mixture_size, 0);
    ss_learner_free(l);
    /* The mixture that travelled is taken up. */
    l = make_learner(&c, m, NULL);
    ck_assert_uint_eq(ss_mixture_seen(ss_learner_mixture(l)), 240);
    ss_learner_free(l);
    ss_model_free(m);
}
END_TEST

START_TEST(what_is_not_finite_changes_nothing)
{
    ss_learner_config c = make_config(SS_LEARNER_CONTRAST);
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_learner *l = make_learner(&c, m, NULL);
    float x[MELS * FRAMES], z[16];
    ss_mixture_score s;
    ss_err e;
    make_window(0, x);
    x[7] = NAN;
    ck_assert_int_eq(ss_learner_window(l, x, 0, false, z, &s, &e), SS_ERANGE);
    ck_assert_int_eq(ss_learner_step(l), 0); /* nothing to draw from */
    hear(l, 0, 15);
    /* Weights that overflow make the loss not finite: the step is refused and counted, and the rest stays. */
    float *fc = ss_model_values(m, "fc.bias");
    fc[0] = INFINITY;
    ss_learner_free(l);
    l = make_learner(&c, m, NULL);
    size_t n = m->nvalue * sizeof(float);
    float *before = malloc(n);
    memcpy(before, m->value, n);
    for (uint64_t w = 0; w < 16; w++) {
        make_window(w, x);
        ss_learner_window(l, x, w, w % 4 != 0, z, &s, &e);
    }
    ck_assert(ss_learner_due(l));
    ck_assert_int_eq(ss_learner_step(l), 0);
    ss_learner_report r;
    ss_learner_report_last(l, &r);
    ck_assert_uint_eq(r.refused, 1);
    ck_assert_uint_eq(r.step, 0);
    ck_assert_mem_eq(before, m->value, n);
    free(before);
    ss_learner_free(l);
    ss_model_free(m);
}
END_TEST

START_TEST(bounds)
{
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_learner *l;
    ss_err e;
    ss_learner_config c = make_config(SS_LEARNER_CACHED);
    c.shift = FRAMES;
    ck_assert_int_eq(ss_learner_create(&l, &c, m, NULL, &e), SS_ERANGE);
    ck_assert_ptr_nonnull(strstr(e.text, "shift: found 24, expected 0 to 23"));
    c = make_config(SS_LEARNER_CACHED);
    c.replay = c.batch - 1;
    ck_assert_int_eq(ss_learner_create(&l, &c, m, NULL, &e), SS_ERANGE);
    c = make_config(SS_LEARNER_CONTRAST);
    c.negatives = 0;
    ck_assert_int_eq(ss_learner_create(&l, &c, m, NULL, &e), SS_ERANGE);
    ck_assert_ptr_null(l);
    ss_model_free(m);
}
END_TEST

UNIT_MAIN("learner", micro_batches_give_the_gradient_of_the_whole, stopped_and_resumed_gives_the_same_bits,
          the_loss_falls, what_is_not_finite_changes_nothing, bounds)
