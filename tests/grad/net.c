/* Gradients of the whole network against finite differences of a network in double precision (exact.c). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "../unit/failalloc.h"
#include "exact.h"
#include "nn/backprop.h"
#include "nn/net.h"

enum { WINDOWS = 3 };

typedef struct problem {
    ss_model *m;
    int n, from, until;
    size_t in, dim; /* floats at from and until */
    float *x, *c;   /* windows; loss = sum c z */
    double *value, *input;
} problem;

static void *room(size_t n, size_t size)
{
    void *p = calloc(n, size);
    ck_assert_ptr_nonnull(p);
    return p;
}

static problem make_between(ss_norm norm, int width, int mels, int frames, int from, int until, int n)
{
    problem p = {.n = n, .from = from, .until = until};
    ss_model_config c;
    uint32_t d[3];
    ss_model_config_default(&c);
    c.width = width;
    c.norm = norm;
    c.mels = mels;
    c.frames = frames;
    c.dim = 24;
    ck_assert_int_eq(ss_model_create(&p.m, &c, 5, NULL), SS_OK);
    ss_rng r = ss_rng_make(6, 0);
    for (int i = 0; i < p.m->nparam; i++) /* no parameter at its neutral value */
        for (size_t j = 0; p.m->param[i].rank == 1 && j < p.m->param[i].count; j++)
            p.m->value[p.m->param[i].offset + j] += 0.4f * (ss_rng_uniform(&r) - 0.5f);
    ss_model_cut_shape(&c, from, d);
    p.in = (size_t)d[0] * d[1] * d[2];
    ss_model_cut_shape(&c, until, d);
    p.dim = (size_t)d[0] * d[1] * d[2];
    p.x = room((size_t)n * p.in, sizeof *p.x);
    p.c = room((size_t)n * p.dim, sizeof *p.c);
    ss_rng_fill_normal(&r, p.x, (size_t)n * p.in);
    ss_rng_fill_normal(&r, p.c, (size_t)n * p.dim);
    for (size_t i = 0; i < (size_t)n * p.in; i++)
        p.x[i] = from == SS_CUT_INPUT ? 5.0f * p.x[i] - 4.5f : fmaxf(p.x[i], 0);
    p.value = room(p.m->nvalue, sizeof *p.value);
    p.input = room((size_t)n * p.in, sizeof *p.input);
    for (size_t i = 0; i < p.m->nvalue; i++)
        p.value[i] = p.m->value[i];
    for (size_t i = 0; i < (size_t)n * p.in; i++)
        p.input[i] = p.x[i];
    return p;
}

static problem make(ss_norm norm, int width, int mels, int frames, int from, int n)
{
    return make_between(norm, width, mels, frames, from, SS_CUT_EMBEDDING, n);
}

static void drop(problem *p)
{
    ss_model_free(p->m);
    free(p->x);
    free(p->c);
    free(p->value);
    free(p->input);
}

static double loss(const problem *p)
{
    double *z = room(p->dim, sizeof *z), sum = 0;
    for (int i = 0; i < p->n; i++) {
        exact_run_between(p->m, p->value, p->from, p->until, p->input + (size_t)i * p->in, z, NULL, NULL);
        for (size_t d = 0; d < p->dim; d++)
            sum += z[d] * (double)p->c[(size_t)i * p->dim + d];
    }
    free(z);
    return sum;
}

/* Derivative of the loss when v [n], a part of the problem, moves along d [n]. */
static double slope(const problem *p, double *v, const double *d, size_t n, double h)
{
    double *keep = room(n, sizeof *keep), l[2];
    memcpy(keep, v, n * sizeof *v);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            v[i] = keep[i] + (side ? -h : h) * d[i];
        l[side] = loss(p);
    }
    memcpy(v, keep, n * sizeof *v);
    free(keep);
    return (l[0] - l[1]) / (2 * h);
}

static double slope_one(const problem *p, double *v, double h)
{
    const double one = 1;
    return slope(p, v, &one, 1, h);
}

static void gradients(const problem *p, ss_pool *pool, float *z, float *grad, float *din)
{
    ss_backprop *b;
    ck_assert_int_eq(ss_backprop_open_between(&b, p->m, pool, p->from, p->until, p->n, NULL), SS_OK);
    ck_assert_int_eq(ss_backprop_forward(b, p->n, p->x, z, 1), SS_OK);
    ck_assert_int_eq(ss_backprop_backward(b, p->c, grad, din), SS_OK);
    ck_assert_int_eq(ss_backprop_backward(b, p->c, grad, din), SS_EINVAL); /* once for each forward */
    ss_backprop_close(&b);
    ck_assert_ptr_null(b);
}

/* Random directions, and the gradient's own, over all of v; g is what is to be shown. */
static void check_directions(const problem *p, double *v, const float *g, size_t n, double h,
                             const char *what)
{
    double *d = room(n, sizeof *d), square = 0;
    ss_rng r = ss_rng_make(9, 0);
    for (size_t i = 0; i < n; i++)
        square += (double)g[i] * (double)g[i];
    ck_assert_double_gt(square, 0);
    for (int k = 0; k < 3; k++) {
        double along = 0, typical = k == 0 ? sqrt(square) : sqrt(square / (double)n), length = 0;
        for (size_t i = 0; i < n; i++) {
            d[i] = k == 0 ? (double)g[i] : (double)ss_rng_normal(&r);
            length += d[i] * d[i];
        }
        for (size_t i = 0; i < n; i++) {
            d[i] /= sqrt(length);
            along += d[i] * (double)g[i];
        }
        double found = slope(p, v, d, n, h), bound = k == 0 ? 1e-5 : 2e-4;
        ck_assert_msg(fabs(found - along) <= bound * typical, "%s, direction %d: %.9g, by differences %.9g",
                      what, k, along, found);
    }
    free(d);
}

/* The largest element of every parameter and some others, one by one. */
static void check_spots(const problem *p, const float *grad)
{
    ss_rng r = ss_rng_make(10, 0);
    for (int i = 0; i < p->m->nparam; i++) {
        const ss_param *q = &p->m->param[i];
        const float *g = grad + q->offset;
        size_t top = 0;
        if (!q->trainable)
            continue;
        for (size_t j = 0; j < q->count; j++)
            if (fabsf(g[j]) > fabsf(g[top]))
                top = j;
        for (int k = 0; k < 3; k++) {
            size_t at = k == 0 ? top : ss_rng_below(&r, (uint32_t)q->count);
            double found = slope_one(p, p->value + q->offset + at, 1e-5);
            ck_assert_msg(fabs(found - (double)g[at]) <= 1e-4 * (double)fabsf(g[top]) + 1e-8,
                          "%s[%zu]: %.9g, by differences %.9g", q->name, at, (double)g[at], found);
        }
    }
}

static void check_between(ss_norm norm, int width, int mels, int frames, int from, int until, int spots)
{
    problem p = make_between(norm, width, mels, frames, from, until, 2);
    float *z = room((size_t)p.n * p.dim, sizeof *z), *grad = room(p.m->ntrainable, sizeof *grad);
    float *din = room((size_t)p.n * p.in, sizeof *din);
    gradients(&p, NULL, z, grad, din);
    for (int i = 0; i < p.n; i++) {
        double *exact = room(p.dim, sizeof *exact), error = 0, size = 0;
        exact_run_between(p.m, p.value, p.from, until, p.input + (size_t)i * p.in, exact, NULL, NULL);
        for (size_t d = 0; d < p.dim; d++) {
            error += pow(exact[d] - (double)z[(size_t)i * p.dim + d], 2);
            size += pow(exact[d], 2);
        }
        ck_assert_double_lt(sqrt(error / size), 1e-5);
        free(exact);
    }
    check_directions(&p, p.value, grad, p.m->ntrainable, 1e-6, "parameters");
    check_directions(&p, p.input, din, (size_t)p.n * p.in, 1e-6, "input");
    if (spots)
        check_spots(&p, grad);
    free(z);
    free(grad);
    free(din);
    drop(&p);
}

static void check(ss_norm norm, int width, int mels, int frames, int from, int spots)
{
    check_between(norm, width, mels, frames, from, SS_CUT_EMBEDDING, spots);
}

START_TEST(small)
{
    check((ss_norm)_i, 8, 16, 24, SS_CUT_INPUT, 1);
}
END_TEST

START_TEST(small_and_odd)
{
    check((ss_norm)_i, 8, 23, 33, SS_CUT_INPUT, 0);
}
END_TEST

START_TEST(from_a_cut)
{
    check((ss_norm)_i, 8, 32, 32, SS_CUT_BLOCK0 + 2, 0);
    check((ss_norm)_i, 8, 64, 64, SS_CUT_BLOCK0 + 7, 0);
    check((ss_norm)_i, 8, 64, 64, SS_CUT_BLOCK0 + 8, 0);
}
END_TEST

START_TEST(between_cuts)
{
    static const int pair[][2] = {{SS_CUT_INPUT, SS_CUT_BLOCK0},
                                  {SS_CUT_INPUT, SS_CUT_BLOCK0 + 3},
                                  {SS_CUT_BLOCK0, SS_CUT_BLOCK0 + 1},
                                  {SS_CUT_BLOCK0 + 2, SS_CUT_BLOCK0 + 5},
                                  {SS_CUT_BLOCK0 + 6, SS_CUT_BLOCK0 + 8}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        check_between((ss_norm)_i, 8, 32, 32, pair[i][0], pair[i][1], 0);
}
END_TEST

/* Forward to a cut and on, backward to it and on: the bits of the whole, with a network for each side, and
 * with one for both. */
START_TEST(through_any_cut_it_is_the_whole)
{
    problem p = make((ss_norm)_i, 8, 32, 48, SS_CUT_INPUT, WINDOWS);
    size_t nz = WINDOWS * p.dim, nd = WINDOWS * p.in, np = p.m->ntrainable, most = WINDOWS * 8 * 8 * 12 * 4;
    float *z = room(2 * nz, sizeof *z), *grad = room(2 * np, sizeof *grad), *din = room(2 * nd, sizeof *din);
    float *at = room(most, sizeof *at), *dat = room(most, sizeof *dat);
    gradients(&p, NULL, z, grad, din);
    ss_backprop *all;
    ck_assert_int_eq(ss_backprop_open(&all, p.m, NULL, SS_CUT_INPUT, p.n, NULL), SS_OK);
    size_t whole = ss_backprop_memory(all);
    ss_backprop_close(&all);
    for (int cut = SS_CUT_BLOCK0; cut < SS_CUT_EMBEDDING; cut++)
        for (int both = 0; both < 2; both++) {
            ss_backprop *lower, *upper;
            int until = both ? SS_CUT_EMBEDDING : cut;
            ck_assert_int_eq(ss_backprop_open_between(&lower, p.m, NULL, SS_CUT_INPUT, until, p.n, NULL),
                             SS_OK);
            ck_assert_int_eq(ss_backprop_open(&upper, p.m, NULL, cut, p.n, NULL), SS_OK);
            if (both) {
                ss_backprop_close(&upper);
                upper = lower;
            } else { /* neither holds what is the other's */
                ck_assert_uint_lt(ss_backprop_memory(lower), whole);
                ck_assert_uint_lt(ss_backprop_memory(upper), whole);
            }
            memset(grad + np, 0, np * sizeof *grad);
            ck_assert_int_eq(ss_backprop_forward_between(lower, SS_CUT_INPUT, cut, p.n, p.x, at, !both),
                             SS_OK);
            ck_assert_int_eq(ss_backprop_forward_between(upper, cut, SS_CUT_EMBEDDING, p.n, at, z + nz, 1),
                             SS_OK);
            ck_assert_int_eq(ss_backprop_backward(upper, p.c, grad + np, dat), SS_OK);
            if (both) /* what the other part needs is made anew */
                ck_assert_int_eq(ss_backprop_forward_between(lower, SS_CUT_INPUT, cut, p.n, p.x, at, 1),
                                 SS_OK);
            ck_assert_int_eq(ss_backprop_backward(lower, dat, grad + np, din + nd), SS_OK);
            ck_assert_mem_eq(z, z + nz, nz * sizeof *z);
            ck_assert_mem_eq(grad, grad + np, np * sizeof *grad);
            ck_assert_mem_eq(din, din + nd, nd * sizeof *din);
            ss_backprop_close(&lower);
            if (!both)
                ss_backprop_close(&upper);
        }
    free(z);
    free(grad);
    free(din);
    free(at);
    free(dat);
    drop(&p);
}
END_TEST

START_TEST(real_size)
{
    check((ss_norm)_i, 16, 64, 96, SS_CUT_INPUT, 0);
}
END_TEST

START_TEST(a_cut_gives_the_same_gradients)
{
    problem p = make((ss_norm)_i, 8, 32, 48, SS_CUT_INPUT, WINDOWS);
    const int cut = SS_CUT_BLOCK0 + 3;
    uint32_t d[3];
    ss_model_cut_shape(&p.m->config, cut, d);
    size_t between = (size_t)d[0] * d[1] * d[2], nz = WINDOWS * p.dim;
    float *whole = room(p.m->ntrainable, sizeof *whole), *part = room(p.m->ntrainable, sizeof *part);
    float *z = room(2 * nz, sizeof *z), *x = p.x;
    gradients(&p, NULL, z, whole, NULL);
    ss_net *net;
    p.x = room(WINDOWS * between, sizeof *p.x);
    ck_assert_int_eq(ss_net_open(&net, p.m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, cut, WINDOWS, NULL), SS_OK);
    ck_assert_int_eq(ss_net_run(net, WINDOWS, x, p.x), SS_OK);
    ss_net_close(&net);
    p.from = cut;
    gradients(&p, NULL, z + nz, part, NULL);
    size_t begin = ss_model_find(p.m, "layer2.1.conv1.weight")->offset;
    ck_assert(whole[0] != 0 && part[begin] != 0);
    for (size_t i = 0; i < begin; i++)
        ck_assert(part[i] == 0);
    if (_i == SS_NORM_BATCH) { /* not folded in training: equal but for rounding */
        for (size_t i = begin; i < p.m->ntrainable; i++)
            ck_assert_float_eq_tol(whole[i], part[i], 1e-4f);
    } else {
        ck_assert_mem_eq(z, z + nz, nz * sizeof *z);
        ck_assert_mem_eq(whole + begin, part + begin, (p.m->ntrainable - begin) * sizeof *whole);
    }
    free(x);
    free(whole);
    free(part);
    free(z);
    drop(&p);
}
END_TEST

START_TEST(threads_and_pieces_change_no_bit)
{
    problem p = make((ss_norm)_i, 16, 64, 96, SS_CUT_INPUT, WINDOWS);
    size_t nz = WINDOWS * p.dim, nd = WINDOWS * p.in;
    float *z = room(4 * nz, sizeof *z), *grad = room(2 * p.m->ntrainable, sizeof *grad);
    float *din = room(2 * nd, sizeof *din);
    ss_pool *pool;
    ss_backprop *b;
    ck_assert_int_eq(ss_pool_open(&pool, 2, NULL), SS_OK);
    gradients(&p, NULL, z, grad, din);
    gradients(&p, pool, z + nz, grad + p.m->ntrainable, din + nd);
    ck_assert_mem_eq(z, z + nz, nz * sizeof *z);
    ck_assert_mem_eq(grad, grad + p.m->ntrainable, p.m->ntrainable * sizeof *grad);
    ck_assert_mem_eq(din, din + nd, nd * sizeof *din);

    ck_assert_int_eq(ss_backprop_open(&b, p.m, pool, SS_CUT_INPUT, 2, NULL), SS_OK);
    ck_assert_int_eq(ss_backprop_forward(b, WINDOWS, p.x, z + nz, 0), SS_OK);
    ck_assert_mem_eq(z, z + nz, nz * sizeof *z);
    ck_assert_int_eq(ss_backprop_forward(b, WINDOWS, p.x, z + nz, 1), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_forward(b, 0, p.x, z + nz, 0), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_backward(b, p.c, grad, NULL), SS_EINVAL);

    /* Pieces add up to the whole, and embedding something else in between disturbs nothing. */
    memset(grad + p.m->ntrainable, 0, p.m->ntrainable * sizeof *grad);
    for (int at = 0; at < WINDOWS; at += 2) {
        int n = WINDOWS - at < 2 ? WINDOWS - at : 2;
        ck_assert_int_eq(ss_backprop_forward(b, n, p.x + (size_t)at * p.in, z + 2 * nz, 1), SS_OK);
        ck_assert_mem_eq(z + (size_t)at * p.dim, z + 2 * nz, (size_t)n * p.dim * sizeof *z);
        ck_assert_int_eq(ss_backprop_forward(b, WINDOWS, p.x, z + 3 * nz, 0), SS_OK);
        ck_assert_int_eq(ss_backprop_backward(b, p.c + (size_t)at * p.dim, grad + p.m->ntrainable, din + nd),
                         SS_OK);
        ck_assert_mem_eq(din + (size_t)at * p.in, din + nd, (size_t)n * p.in * sizeof *din);
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < p.m->ntrainable; i++) {
        error += pow((double)grad[i] - (double)grad[p.m->ntrainable + i], 2);
        size += pow((double)grad[i], 2);
    }
    ck_assert_double_lt(sqrt(error / size), 1e-5);
    ss_backprop_close(&b);
    ss_pool_close(&pool);
    free(z);
    free(grad);
    free(din);
    drop(&p);
}
END_TEST

START_TEST(changed_weights_are_seen_when_told)
{
    problem p = make((ss_norm)_i, 8, 16, 24, SS_CUT_INPUT, 1);
    ss_backprop *b;
    float z[3][64];
    ck_assert_int_eq(ss_backprop_open(&b, p.m, NULL, SS_CUT_INPUT, 1, NULL), SS_OK);
    ss_backprop_forward(b, 1, p.x, z[0], 1);
    ss_model_values(p.m, "layer4.1.bn2.bias")[3] += 1;
    ss_backprop_forward(b, 1, p.x, z[1], 0);
    ck_assert_mem_eq(z[0], z[1], p.dim * sizeof(float));
    ss_backprop_weights_changed(b);
    ss_backprop_forward(b, 1, p.x, z[1], 0);
    ss_backprop_forward(b, 1, p.x, z[2], 1);
    ck_assert_mem_ne(z[0], z[1], p.dim * sizeof(float));
    ck_assert_mem_eq(z[1], z[2], p.dim * sizeof(float));
    ss_backprop_close(&b);
    drop(&p);
}
END_TEST

/* Of one channel of one unit, over all windows. */
struct seen {
    const char *norm;
    int channel;
    double n, sum, square;
};

static void watch(void *arg, const char *norm, int channels, int pixels, const double *y)
{
    struct seen *s = arg;
    if (strcmp(norm, s->norm))
        return;
    for (int i = 0; i < pixels; i++) {
        double v = y[s->channel * pixels + i];
        s->n++;
        s->sum += v;
        s->square += v * v;
    }
}

START_TEST(statistics)
{
    problem p = make(SS_NORM_BATCH, 8, 16, 24, SS_CUT_INPUT, WINDOWS);
    static const char *const name[3] = {"bn1", "layer2.0.downsample.1", "layer4.1.bn2"};
    float expected[3][2], z[WINDOWS * 64];
    for (int i = 0; i < 3; i++) {
        struct seen s = {name[i], 5, 0, 0, 0};
        double exact[64];
        char full[64];
        for (int k = 0; k < WINDOWS; k++)
            exact_run(p.m, p.value, SS_CUT_INPUT, p.input + (size_t)k * p.in, exact, watch, &s);
        double mean = s.sum / s.n, var = s.square / s.n - mean * mean;
        snprintf(full, sizeof full, "%s.running_mean", name[i]);
        expected[i][0] = (float)(0.75 * (double)ss_model_values(p.m, full)[5] + 0.25 * mean);
        snprintf(full, sizeof full, "%s.running_var", name[i]);
        expected[i][1] = (float)(0.75 * (double)ss_model_values(p.m, full)[5] + 0.25 * var);
    }
    ss_backprop *b;
    ck_assert_int_eq(ss_backprop_open(&b, p.m, NULL, SS_CUT_INPUT, 2, NULL), SS_OK);
    float before = ss_model_values(p.m, "bn1.running_mean")[5];
    ss_backprop_update_statistics(b, 0.25f);
    ck_assert(ss_model_values(p.m, "bn1.running_mean")[5] == before); /* nothing seen yet */
    ss_backprop_forward(b, 2, p.x, z, 1);
    ss_backprop_forward(b, WINDOWS, p.x, z, 0);
    ss_backprop_forward(b, 1, p.x + 2 * p.in, z, 1);
    ss_backprop_update_statistics(b, 0.25f);
    for (int i = 0; i < 3; i++) {
        char full[64];
        snprintf(full, sizeof full, "%s.running_mean", name[i]);
        ck_assert_float_eq_tol(ss_model_values(p.m, full)[5], expected[i][0], 1e-5f);
        snprintf(full, sizeof full, "%s.running_var", name[i]);
        ck_assert_float_eq_tol(ss_model_values(p.m, full)[5], expected[i][1], 1e-5f);
    }
    float old[64], now[64];
    memcpy(old, z, p.dim * sizeof *z);
    ss_backprop_forward(b, 1, p.x + 2 * p.in, now, 0);
    ck_assert_mem_ne(old, now, p.dim * sizeof *z);
    ss_backprop_close(&b);
    drop(&p);
}
END_TEST

START_TEST(refusals)
{
    problem p = make((ss_norm)_i, 8, 16, 24, SS_CUT_INPUT, 1);
    ss_backprop *b;
    ss_err e;
    ck_assert_int_eq(ss_backprop_open(&b, p.m, NULL, SS_CUT_EMBEDDING, 1, &e), SS_EINVAL);
    ck_assert_ptr_null(b);
    ck_assert_int_eq(ss_backprop_open(&b, p.m, NULL, SS_CUT_INPUT, 0, &e), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_open_between(&b, p.m, NULL, 3, 3, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_open_between(&b, p.m, NULL, 3, SS_CUT_EMBEDDING + 1, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_open_between(&b, p.m, NULL, 3, 5, 1, &e), SS_OK);
    float *z = room(8 * 4 * 6, sizeof *z);
    ck_assert_int_eq(ss_backprop_forward_between(b, 2, 5, 1, p.x, z, 1), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_forward_between(b, 3, 6, 1, p.x, z, 1), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_forward_between(b, 4, 4, 1, p.x, z, 1), SS_EINVAL);
    ck_assert_int_eq(ss_backprop_forward_between(b, 4, 5, 1, p.x, z, 1), SS_OK);
    free(z);
    ss_backprop_close(&b);
    size_t before = ss_mem_used(), size;
    ck_assert_int_eq(ss_backprop_open(&b, p.m, NULL, SS_CUT_INPUT, 1, &e), SS_OK);
    size = ss_backprop_memory(b);
    ck_assert_uint_ge(ss_mem_used() - before, size);
    ck_assert_uint_le(ss_mem_used() - before, size + 65536);
    ss_backprop_close(&b);
    for (int forever = 0; forever < 2; forever++)
        for (long k = 1;; k++) {
            fail_alloc_from(k, forever);
            int rc = ss_backprop_open(&b, p.m, NULL, SS_CUT_INPUT, 1, &e);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(rc, SS_OK);
                ss_backprop_close(&b);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
            ck_assert_ptr_null(b);
            ck_assert_uint_eq(ss_mem_used(), before);
        }
    drop(&p);
}
END_TEST

int main(void)
{
    const TTest *const each[] = {small,
                                 small_and_odd,
                                 from_a_cut,
                                 between_cuts,
                                 through_any_cut_it_is_the_whole,
                                 real_size,
                                 a_cut_gives_the_same_gradients,
                                 threads_and_pieces_change_no_bit,
                                 changed_weights_are_seen_when_told,
                                 refusals};
    Suite *s = suite_create("net");
    TCase *c = tcase_create("net");
    tcase_set_timeout(c, 100);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        tcase_add_loop_test(c, each[i], SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_test(c, statistics);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
