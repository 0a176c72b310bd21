#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "failalloc.h"

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "learn/distil.h"
#include "unit.h"

enum { MELS = 16, FRAMES = 16, WINDOWS = 160 };

static ss_model *small(void)
{
    ss_model_config c;
    ss_model *m;
    ss_model_config_default(&c);
    c.width = 8;
    c.mels = MELS;
    c.frames = FRAMES;
    c.dim = 16;
    ck_assert_int_eq(ss_model_create(&m, &c, 1, NULL), SS_OK);
    return m;
}

/* A few slow waves in each window: what neighbours have in common is there to be found. */
static uint16_t *windows(size_t n)
{
    float *x = malloc(n * MELS * FRAMES * sizeof *x), *at = x;
    uint16_t *half = malloc(n * MELS * FRAMES * sizeof *half);
    for (size_t k = 0; k < n; k++) {
        ss_rng r = ss_rng_make(3, k);
        float wave[3][4];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 4; j++)
                wave[i][j] = ss_rng_uniform(&r);
        for (int m = 0; m < MELS; m++)
            for (int t = 0; t < FRAMES; t++, at++) {
                *at = -6;
                for (int i = 0; i < 3; i++)
                    *at += 5 * wave[i][0] *
                           sinf(0.7f * wave[i][1] * (float)m + 0.7f * wave[i][2] * (float)t + 6 * wave[i][3]);
            }
    }
    ss_f16_from_f32(n * MELS * FRAMES, x, half);
    free(x);
    return half;
}

static ss_distil *opened(const ss_distil_config *c, ss_model *m, ss_pool *pool, int cut, const uint16_t *x)
{
    ss_distil *d;
    ss_err e;
    ck_assert_msg(ss_distil_open(&d, c, m, pool, cut, WINDOWS, x, &e) == SS_OK, "%s", e.text);
    return d;
}

static ss_distil_measure measured(ss_distil *d, int channels, int bits)
{
    ss_distil_measure r;
    ss_err e;
    ck_assert_msg(ss_distil_measure_one(d, ss_codec_number(channels, bits), &r, &e) == SS_OK, "%s", e.text);
    return r;
}

/* More channels, more bits: more bytes and a better embedding; learning makes few channels better. */
START_TEST(what_it_is_for)
{
    static const int cuts[] = {SS_CUT_BLOCK0 + 1, SS_CUT_BLOCK0 + 3, SS_CUT_EMBEDDING};
    uint16_t *x = windows(WINDOWS);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        ss_model *m = small();
        ss_distil_config c;
        ss_distil_step step;
        ss_err e;
        ss_distil_config_default(&c, &m->config, cuts[i]);
        c.patch = cuts[i] < SS_CUT_EMBEDDING ? 2 : 1;
        c.nlevel = 2;
        c.level[0] = 2;
        c.level[1] = 12;
        c.batch = 16;
        for (int learnt = 0; learnt < 2; learnt++) {
            double sum[2] = {0};
            c.steps = learnt ? 400 : 0;
            ss_distil *d = opened(&c, m, NULL, cuts[i], x);
            int steps = 0;
            for (; ss_distil_next(d, &step); steps++) {
                ck_assert(isfinite(step.loss) && step.distance >= 0 && step.rate >= 0);
                if (steps < 100 || steps >= 300)
                    sum[steps >= 300] += step.loss;
            }
            /* What is there at first is best for all channels, not for the first ones alone. */
            if (learnt && cuts[i] < SS_CUT_EMBEDDING)
                ck_assert_msg(sum[1] < 0.95 * sum[0], "cut %s: %g, from %g", ss_cut_name(cuts[i]), sum[1],
                              sum[0]);
            ck_assert_int_eq(steps, c.steps);
            ck_assert_msg(ss_distil_finish(d, &e) == SS_OK, "%s", e.text);
            ss_distil_measure few = measured(d, 2, 4), fine = measured(d, 12, 8), coarse = measured(d, 12, 4);
            ck_assert_uint_eq(few.windows, 16); /* every eighth 16 */
            ck_assert(few.bytes < coarse.bytes && coarse.bytes < fine.bytes);
            ck_assert(few.cosine < coarse.cosine && coarse.cosine <= fine.cosine);
            ck_assert(few.least <= few.cosine);
            ck_assert_msg(fine.cosine > 0.93, "cut %s: %g", ss_cut_name(cuts[i]), fine.cosine);
            ss_err why;
            ck_assert_int_eq(ss_distil_measure_one(d, ss_codec_number(3, 8), &few, &why), SS_EUNFIT);
            ss_distil_close(&d);
        }
        ck_assert_uint_eq(m->codec[cuts[i]]->windows, WINDOWS);
        ss_model_free(m);
    }
    free(x);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* The same bits for any number of threads, others for another seed. */
START_TEST(by_seed_alone)
{
    uint16_t *x = windows(WINDOWS);
    ss_bottleneck *b[3];
    for (int i = 0; i < 3; i++) {
        ss_model *m = small();
        ss_pool *pool = NULL;
        ss_distil_config c;
        ss_distil_config_default(&c, &m->config, SS_CUT_BLOCK0 + 2);
        c.patch = 2;
        c.steps = 20;
        c.batch = 4;
        c.seed = i < 2 ? 1 : 2;
        if (i)
            ck_assert_int_eq(ss_pool_open(&pool, 3, NULL), SS_OK);
        ss_distil *d = opened(&c, m, pool, SS_CUT_BLOCK0 + 2, x);
        while (ss_distil_next(d, NULL))
            ;
        ck_assert_int_eq(ss_distil_finish(d, NULL), SS_OK);
        ss_distil_close(&d);
        b[i] = m->codec[SS_CUT_BLOCK0 + 2];
        m->codec[SS_CUT_BLOCK0 + 2] = NULL;
        ss_model_free(m);
        ss_pool_close(&pool);
    }
    ck_assert_mem_eq(b[0]->value, b[1]->value, b[0]->nvalue * sizeof(float));
    ck_assert_mem_eq(b[0]->number, b[1]->number, b[0]->nnumber * sizeof(uint16_t));
    ck_assert(memcmp(b[0]->value, b[2]->value, b[0]->nvalue * sizeof(float)) != 0);
    for (int i = 0; i < 3; i++)
        ss_bottleneck_free(b[i]);
    free(x);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(refusals)
{
    uint16_t *x = windows(4);
    ss_model *m = small();
    ss_distil *d;
    ss_err e;
    ss_distil_config good, c;
    ss_distil_config_default(&good, &m->config, 3);
    good.patch = 2;
    good.steps = 0;
    for (int i = 0; i < 9; i++) {
        c = good;
        c.price = i == 0 ? 0 : i == 1 ? (double)NAN : c.price;
        c.steps = i == 2 ? -1 : c.steps;
        c.batch = i == 3 ? 0 : i == 4 ? 1025 : c.batch;
        c.patch = i == 5 ? 0 : i == 6 ? SS_CODEC_PATCH + 1 : c.patch;
        c.nlevel = i == 7 ? 0 : c.nlevel;
        c.level[0] = i == 8 ? 100 : c.level[0];
        ck_assert_int_eq(ss_distil_open(&d, &c, m, NULL, 3, 4, x, &e), SS_ERANGE);
        ck_assert(!d && *e.text);
    }
    ck_assert_int_eq(ss_distil_open(&d, &good, m, NULL, SS_CUT_INPUT, 4, x, &e), SS_ERANGE);
    ck_assert_int_eq(ss_distil_open(&d, &good, m, NULL, 3, 1, x, &e), SS_EUNFIT);
    x[7] = 0x7e00; /* NaN */
    ck_assert_int_eq(ss_distil_open(&d, &good, m, NULL, 3, 4, x, &e), SS_EUNFIT);
    /* All windows alike: nothing to tell apart, and no division by what is 0. */
    for (int i = 0; i < 4 * MELS * FRAMES; i++)
        x[i] = 0xc400; /* -4 */
    ck_assert_int_eq(ss_distil_open(&d, &good, m, NULL, 3, 4, x, &e), SS_OK);
    ck_assert_msg(ss_distil_finish(d, &e) == SS_OK, "%s", e.text);
    ss_distil_measure r = measured(d, 8, 4);
    ck_assert_msg(r.cosine > 0.99 && r.windows == 4, "%g", r.cosine);
    ss_distil_close(&d);
    ss_model_free(m);
    free(x);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(memory_runs_out)
{
    uint16_t *x = windows(4);
    ss_model *m = small();
    size_t used = ss_mem_used();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_distil_config c;
            ss_distil *d;
            ss_distil_measure r;
            ss_distil_config_default(&c, &m->config, 5);
            c.patch = 1;
            c.steps = 1;
            c.batch = 2;
            fail_alloc_from(n, forever);
            int rc = ss_distil_open(&d, &c, m, NULL, 5, 4, x, NULL);
            if (rc == SS_OK)
                ss_distil_next(d, NULL);
            if (rc == SS_OK)
                rc = ss_distil_finish(d, NULL);
            if (rc == SS_OK)
                rc = ss_distil_measure_one(d, ss_codec_number(8, 8), &r, NULL);
            bool failed = fail_alloc_done();
            ss_distil_close(&d);
            ss_bottleneck_free(m->codec[5]);
            m->codec[5] = NULL;
            ck_assert_uint_eq(ss_mem_used(), used);
            if (!failed)
                break;
            ck_assert_int_eq(rc, SS_ENOMEM);
        }
    ss_model_free(m);
    free(x);
}
END_TEST

UNIT_MAIN("distil", what_it_is_for, by_seed_alone, refusals, memory_runs_out)
