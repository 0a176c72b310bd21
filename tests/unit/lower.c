#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "learn/lower.h"
#include "nn/net.h"
#include "models.h"
#include "unit.h"

/* That a device and a server learn through a cut what a refiner learns whole: tests/unit/refiner.c. */

enum { MELS = 16, FRAMES = 24, CELL = MELS * FRAMES, MOST = 16 * 6 * 8, CUT = SS_CUT_BLOCK0 + 3, KEPT = 6 };

static ss_lower_config make_config(void)
{
    ss_lower_config c;
    ss_lower_config_default(&c);
    c.until = CUT;
    c.kept = KEPT;
    c.micro_batch = 2;
    c.optimiser = (ss_optimiser_config){SS_OPTIMISER_ADAM, 1e-3f, 2, 1};
    return c;
}

static ss_lower *make_lower(const ss_lower_config *c, ss_model *m)
{
    ss_lower *l;
    ss_err e;
    ck_assert_msg(ss_lower_create(&l, c, m, NULL, &e) == SS_OK, "%s", e.text);
    return l;
}

static size_t volume(const ss_model *m, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(&m->config, cut, d);
    return (size_t)d[0] * d[1] * d[2];
}

static const float *window(uint64_t seq)
{
    static float x[CELL];
    ss_rng r = ss_rng_make(11, seq);
    ss_rng_fill_normal(&r, x, CELL);
    for (int i = 0; i < CELL; i++)
        x[i] = 2 * x[i] - 8;
    return x;
}

static const float *gradient(uint64_t seq)
{
    static float g[MOST];
    ss_rng r = ss_rng_make(12, seq);
    ss_rng_fill_normal(&r, g, MOST);
    for (int i = 0; i < MOST; i++)
        g[i] *= 1e-3f;
    return g;
}

static void send(ss_lower *l, uint64_t seq, int cut, float *out)
{
    static float own[MOST];
    ss_err e;
    ss_lower_item w = {3, 7, seq, cut, window(seq)};
    ck_assert_msg(ss_lower_window(l, &w, out ? out : own, &e) == SS_OK, "%s", e.text);
}

static int back(ss_lower *l, uint64_t seq, int cut)
{
    ss_err e;
    ss_lower_item g = {3, 7, seq, cut, gradient(seq)};
    return ss_lower_gradient(l, &g, &e);
}

static ss_lower_report report(const ss_lower *l)
{
    ss_lower_report r;
    ss_lower_report_last(l, &r);
    return r;
}

/* Cuts are those of the network under the weights as they are; what lies behind the deepest cut stays. */
START_TEST(a_step_moves_what_lies_before_the_cut)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP), *fresh = model_for_learning(SS_NORM_GROUP);
    ss_lower_config c = make_config();
    c.optimiser = (ss_optimiser_config){SS_OPTIMISER_SGD, 0.1f, 0, 0};
    ss_lower *l = make_lower(&c, m);
    float out[MOST], expected[MOST];
    ss_err e;
    for (uint64_t step = 0; step < 3; step++) {
        for (uint64_t i = 0; i < 4; i++) {
            int cut = SS_CUT_BLOCK0 + (int)i;
            ss_net *net;
            send(l, step * 4 + i, cut, out);
            ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, cut, 1, &e), SS_OK);
            ck_assert_int_eq(ss_net_run(net, 1, window(step * 4 + i), expected), SS_OK);
            ck_assert_mem_eq(out, expected, volume(m, cut) * sizeof *out);
            ss_net_close(&net);
        }
        for (uint64_t i = 0; i < 4; i++)
            ck_assert_int_eq(back(l, step * 4 + i, SS_CUT_BLOCK0 + (int)i), 1);
        ck_assert_int_eq(ss_lower_step(l), 1);
    }
    ck_assert_uint_eq(report(l).step, 3);
    ck_assert_uint_eq(report(l).learnt, 12);
    ck_assert_int_eq(report(l).present, 4);
    size_t before = (size_t)ss_model_params(&m->config, CUT);
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        bool moved = memcmp(m->value + p->offset, fresh->value + p->offset, p->count * sizeof(float)) != 0;
        ck_assert_msg(moved == (p->trainable && p->offset < before), "%s", p->name);
    }
    ss_lower_free(l);
    ss_model_free(m);
    ss_model_free(fresh);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* The loss is sum(g y): what a step of SGD moves is the gradient, held against differences along it. */
static double loss_at(ss_model *m, int n)
{
    double sum = 0;
    float y[MOST];
    ss_err e;
    ss_net *net;
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, CUT, 1, &e), SS_OK);
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(ss_net_run(net, 1, window((uint64_t)i), y), SS_OK);
        const float *g = gradient((uint64_t)i);
        for (size_t k = 0; k < volume(m, CUT); k++)
            sum += (double)g[k] * (double)y[k];
    }
    ss_net_close(&net);
    return sum;
}

START_TEST(gradients_are_those_of_differences)
{
    enum { N = 5 };
    for (int norm = SS_NORM_BATCH; norm <= SS_NORM_WEIGHT; norm++) {
        ss_model *m = model_for_learning((ss_norm)norm);
        ss_lower_config c = make_config();
        c.optimiser = (ss_optimiser_config){SS_OPTIMISER_SGD, 1, 0, 0};
        ss_lower *l = make_lower(&c, m);
        size_t n = (size_t)ss_model_params(&m->config, CUT);
        float *was = ss_alloc(m->nvalue, sizeof *was), *grad = ss_alloc(n, sizeof *grad);
        memcpy(was, m->value, m->nvalue * sizeof *was);
        for (uint64_t i = 0; i < N; i++)
            send(l, i, CUT, NULL);
        for (uint64_t i = 0; i < N; i++)
            ck_assert_int_eq(back(l, i, CUT), 1);
        ck_assert_int_eq(ss_lower_step(l), 1);
        double square = 0;
        for (size_t i = 0; i < n; i++) {
            grad[i] = was[i] - m->value[i];
            square += (double)grad[i] * (double)grad[i];
        }
        ck_assert_double_gt(square, 0);
        memcpy(m->value, was, m->nvalue * sizeof *was);
        double loss[2], h = 1e-3 / sqrt(square);
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < n; i++)
                m->value[i] = was[i] + (float)((side ? -h : h) * (double)grad[i]);
            loss[side] = loss_at(m, N);
        }
        double slope = (loss[0] - loss[1]) / (2 * h);
        ck_assert_msg(fabs(slope - square) < 0.02 * square, "norm %d: %g, gradient %g", norm, slope, square);
        ss_lower_free(l);
        ss_model_free(m);
        ss_free(was);
        ss_free(grad);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(the_oldest_windows_leave)
{
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_lower_config c = make_config();
    ss_lower *l = make_lower(&c, m);
    ss_err e;
    for (uint64_t w = 0; w < KEPT + 2; w++)
        send(l, w, CUT, NULL);
    ck_assert_int_eq(back(l, 0, CUT), 0);
    ck_assert_int_eq(back(l, 1, CUT), 0);
    ck_assert_int_eq(ss_lower_step(l), 0); /* nothing there */
    ck_assert_int_eq(back(l, 2, CUT), 1);
    ck_assert_int_eq(back(l, 2, CUT), 0); /* it has one */
    ck_assert_int_eq(back(l, 7, CUT), 1);
    ss_lower_item other[] = {{2, 7, 5, CUT, gradient(5)}, {3, 8, 5, CUT, gradient(5)}};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(ss_lower_gradient(l, &other[i], &e), 0);
    ck_assert_int_eq(ss_lower_step(l), 1);
    ck_assert_uint_eq(report(l).missed, 5);
    ck_assert_uint_eq(report(l).learnt, 2);
    ck_assert_int_eq(back(l, 7, CUT), 0); /* none is learnt from twice */
    /* Given up: each may come once more. Sent in between: what was laid in is given up too. */
    ck_assert_int_eq(back(l, 4, CUT), 1);
    ss_lower_drop(l);
    ck_assert_int_eq(ss_lower_step(l), 0);
    ck_assert_int_eq(back(l, 4, CUT), 1);
    send(l, 8, CUT, NULL);
    ck_assert_int_eq(ss_lower_step(l), 0);
    ck_assert_int_eq(back(l, 4, CUT), 1);
    ck_assert_int_eq(ss_lower_step(l), 1);
    ss_lower_free(l);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(what_is_of_no_use_changes_nothing)
{
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_lower_config c = make_config();
    ss_lower *l = make_lower(&c, m);
    ss_err e;
    float x[CELL], g[MOST], out[MOST], *was = ss_alloc(m->nvalue, sizeof *was);
    memcpy(was, m->value, m->nvalue * sizeof *was);
    memcpy(x, window(1), sizeof x);
    ss_lower_item w = {3, 7, 1, SS_CUT_INPUT, x};
    ck_assert_int_eq(ss_lower_window(l, &w, out, &e), SS_EINVAL);
    w.cut = CUT + 1;
    ck_assert_int_eq(ss_lower_window(l, &w, out, &e), SS_EINVAL);
    w.cut = CUT;
    x[5] = NAN;
    ck_assert_int_eq(ss_lower_window(l, &w, out, &e), SS_ERANGE);
    ck_assert_uint_eq(report(l).windows, 0);
    send(l, 1, CUT, NULL);
    send(l, 2, CUT, NULL);
    ck_assert_int_eq(back(l, 1, CUT - 1), SS_EUNFIT);
    memcpy(g, gradient(1), sizeof g);
    g[7] = INFINITY;
    w = (ss_lower_item){3, 7, 1, CUT, g};
    ck_assert_int_eq(ss_lower_gradient(l, &w, &e), SS_ERANGE);
    ck_assert_int_eq(ss_lower_step(l), 0);
    ck_assert_uint_eq(report(l).refused, 0);
    /* One that overflows on its way. */
    for (int i = 0; i < MOST; i++)
        g[i] = 3e38f;
    ck_assert_int_eq(ss_lower_gradient(l, &w, &e), 1);
    ck_assert_int_eq(ss_lower_step(l), 0);
    ck_assert_uint_eq(report(l).refused, 1);
    ck_assert_uint_eq(report(l).step, 0);
    ck_assert_mem_eq(m->value, was, m->nvalue * sizeof *was);
    ck_assert_int_eq(back(l, 2, CUT), 1);
    ck_assert_int_eq(ss_lower_step(l), 1);
    for (size_t i = 0; i < m->nvalue; i++)
        ck_assert(isfinite(m->value[i]));
    ss_lower_free(l);
    ss_lower_config bad[] = {c, c, c, c, c};
    bad[0].until = SS_CUT_INPUT;
    bad[1].until = SS_CUT_EMBEDDING;
    bad[2].kept = 0;
    bad[3].micro_batch = 0;
    bad[4].optimiser.kind = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(ss_lower_create(&l, &bad[i], m, NULL, &e), SS_ERANGE);
    ss_free(was);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Three windows, then gradients of the two before the last of them. */
static void go(ss_lower *l, uint64_t from, uint64_t until)
{
    for (uint64_t w = from; w < until; w++) {
        send(l, w, SS_CUT_BLOCK0 + (int)(w % 4), NULL);
        if (w % 3 == 2) {
            for (uint64_t k = w - 2; k < w; k++)
                ck_assert_int_ge(back(l, k, SS_CUT_BLOCK0 + (int)(k % 4)), 0);
            ck_assert_int_eq(ss_lower_step(l), 1);
        }
    }
}

START_TEST(goes_on_after_a_restart)
{
    ss_lower_config c = make_config();
    for (uint64_t stop = 2; stop <= 11; stop += 3) {
        ss_model *a = model_for_learning(SS_NORM_GROUP), *b = model_for_learning(SS_NORM_GROUP);
        ss_lower *one = make_lower(&c, a), *two = make_lower(&c, b);
        ss_checkpoint_writer *w;
        ss_checkpoint *k;
        ss_err e;
        char path[] = "/tmp/lower.XXXXXX";
        close(mkstemp(path));
        go(one, 0, 24);
        go(two, 0, stop);
        ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
        ss_lower_save(two, w);
        ck_assert_msg(ss_checkpoint_write(&w, path, &e) == SS_OK, "%s", e.text);
        ss_lower_free(two);
        two = make_lower(&c, b);
        ck_assert_int_eq(ss_checkpoint_open(&k, path, NULL, &e), SS_OK);
        ck_assert_msg(ss_lower_load(two, k, &e) == SS_OK, "%s", e.text);
        go(two, stop, 24);
        ck_assert_mem_eq(a->value, b->value, a->nvalue * sizeof(float));
        ck_assert_uint_eq(report(one).missed, report(two).missed);
        ck_assert_uint_eq(report(one).step, report(two).step);
        ck_assert_uint_eq(report(one).windows, report(two).windows);
        ss_lower_config other = c;
        other.kept++;
        ss_lower_free(two);
        two = make_lower(&other, b);
        ck_assert_int_eq(ss_lower_load(two, k, &e), SS_EUNFIT);
        ss_checkpoint_close(&k);
        unlink(path);
        ss_lower_free(one);
        ss_lower_free(two);
        ss_model_free(a);
        ss_model_free(b);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(every_failing_allocation)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_lower_config c = make_config();
    size_t base = ss_mem_used();
    for (long n = 1;; n++) {
        ss_lower *l;
        ss_err e;
        fail_alloc_from(n, false);
        int rc = ss_lower_create(&l, &c, m, NULL, &e);
        bool made = rc == SS_OK;
        for (uint64_t w = 0; made && w < 4; w++)
            send(l, w, CUT, NULL);
        for (uint64_t w = 0; made && w < 4 && rc >= 0; w++)
            rc = back(l, w, CUT);
        bool failed = fail_alloc_done();
        if (made && failed) { /* nothing is half there: it comes once more */
            for (uint64_t w = 0; w < 4; w++)
                rc = back(l, w, CUT) < 0 ? SS_EINVAL : rc;
            ck_assert_int_eq(ss_lower_step(l), 1);
            ck_assert_int_eq(report(l).present, 4);
        }
        ss_lower_free(l);
        ck_assert_uint_eq(ss_mem_used(), base);
        if (!failed)
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
    }
    ss_model_free(m);
}
END_TEST

UNIT_MAIN("lower", a_step_moves_what_lies_before_the_cut, gradients_are_those_of_differences,
          the_oldest_windows_leave, what_is_of_no_use_changes_nothing, goes_on_after_a_restart,
          every_failing_allocation)
