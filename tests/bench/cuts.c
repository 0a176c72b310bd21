/*
 * Time of the network: forward to each cut and on from it, and a training step.
 *
 *   bench-cuts [--width=W] [--norm=N] [--batch=B] [--threads=T] [--rounds=R] [--serve]
 *
 * A training step is forward, gradient of a loss at the embedding, backward, and one step of Adam, weights
 * packed anew. Prints microseconds for a window, minimum and median over R rounds; each round takes every
 * measurement once, so that a machine which is slow for a while is slow for all. With --serve it takes one
 * measurement for each line of standard input ("encode 3", "finish 3", "step") and answers with microseconds
 * for a window: torch_eager.py talks to it.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"
#include "nn/net.h"

enum { CUTS = SS_CUT_EMBEDDING + 1, MOST_ROUNDS = 1001 };

static int batch = 1, rounds = 15;
static ss_pool *pool;
static ss_model *model;
static float *cut[CUTS]; /* what flows at each of them */
static ss_net *encode[CUTS], *finish[CUTS];

static struct training {
    ss_backprop *b;
    float *grad, *one, *two, *z;
    uint64_t step;
} training;

static void check(int rc, const ss_err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench-cuts: %s\n", e->text);
    exit(1);
}

static float *room(size_t n)
{
    float *p = ss_zalloc(n, sizeof *p);
    if (!p)
        abort();
    return p;
}

static void prepare(const ss_model_config *c, int threads)
{
    ss_err e;
    check(ss_model_create(&model, c, 1, &e), &e);
    if (threads > 1)
        check(ss_pool_open(&pool, threads, &e), &e);
    for (int i = 0; i < CUTS; i++) {
        uint32_t d[3];
        ss_model_cut_shape(c, i, d);
        size_t n = (size_t)batch * d[0] * d[1] * d[2];
        cut[i] = room(n);
        if (i == 0) {
            ss_rng r = ss_rng_make(1, 0);
            ss_rng_fill_normal(&r, cut[0], n);
            for (size_t k = 0; k < n; k++)
                cut[0][k] = 5 * cut[0][k] - 4.5f;
        } else {
            check(ss_net_open(&encode[i], model, pool, 0, i, batch, &e), &e);
            ss_net_run(encode[i], batch, cut[0], cut[i]);
        }
        if (i > 0 && i < CUTS - 1)
            check(ss_net_open(&finish[i], model, pool, i, SS_CUT_EMBEDDING, batch, &e), &e);
    }
    struct training *t = &training;
    check(ss_backprop_open(&t->b, model, pool, SS_CUT_INPUT, batch, &e), &e);
    t->grad = room(model->ntrainable);
    t->one = room(model->ntrainable);
    t->two = room(model->ntrainable);
    t->z = room((size_t)batch * (size_t)c->dim);
}

static void train_step(void)
{
    struct training *t = &training;
    const ss_adam a = {
        .lr = 1e-6f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .grad_scale = 1, .step = ++t->step};
    memset(t->grad, 0, model->ntrainable * sizeof *t->grad);
    ss_backprop_forward(t->b, batch, cut[0], t->z, 1);
    ss_scale((size_t)batch * (size_t)model->config.dim, 0.5f, t->z, t->z);
    t->z[0] += 1;
    ss_backprop_backward(t->b, t->z, t->grad, NULL);
    ss_adam_step(&a, pool, model->ntrainable, model->value, t->grad, t->one, t->two);
    ss_backprop_weights_changed(t->b);
}

/* What "encode K", "finish K" or "step" says, once. */
static bool once(const char *what, int k)
{
    if (!strcmp(what, "encode") && k > 0 && k < CUTS) {
        ss_net_run(encode[k], batch, cut[0], cut[k]);
    } else if (!strcmp(what, "finish") && k > 0 && k < CUTS - 1) {
        ss_net_run(finish[k], batch, cut[k], cut[CUTS - 1]);
    } else if (!strcmp(what, "step")) {
        train_step();
    } else {
        return false;
    }
    return true;
}

/* Microseconds for a window, over at least 5 ms. */
static double measure(const char *what, int k)
{
    int64_t begun = ss_clock_mono_ns(), took;
    int times = 0;
    do {
        if (!once(what, k))
            return NAN;
        times++;
        took = ss_clock_mono_ns() - begun;
    } while (took < 5000000);
    return (double)took / 1e3 / times / batch;
}

static int serve(void)
{
    char line[64], what[16], name[16];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        name[0] = 0;
        if (sscanf(line, "%15s %15s", what, name) < 1)
            return 2;
        int k = name[0] ? ss_cut_parse(name) : 0;
        printf("%.3f\n", measure(what, k));
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static void table(void)
{
    static double t[2 * CUTS][MOST_ROUNDS];
    static const char *const what[2] = {"encode", "finish"};
    for (int r = -1; r < rounds; r++) /* the first one warms up */
        for (int i = 0; i < 2 * CUTS; i++) {
            int k = i / 2;
            double us = i == 0 ? measure("step", 0) : measure(what[i % 2], k);
            if (r >= 0)
                t[i][r] = us;
        }
    printf("# us a window: minimum, median\n");
    for (int i = 0; i < 2 * CUTS; i++) {
        if (isnan(t[i][0]))
            continue;
        qsort(t[i], (size_t)rounds, sizeof(double), ascending);
        printf("%-18s%-10s %10.1f %10.1f\n",
               i == 0  ? "training step"
               : i % 2 ? "finish from"
                       : "encode until",
               i == 0 ? "" : ss_cut_name(i / 2), t[i][0], t[i][rounds / 2]);
    }
    printf("# bytes: model %zu, whole network %zu, training %zu\n", model->nvalue * sizeof(float),
           ss_net_memory(encode[CUTS - 1]), ss_backprop_memory(training.b));
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"width", 1, NULL, 'w'},  {"norm", 1, NULL, 'n'},  {"batch", 1, NULL, 'b'}, {"threads", 1, NULL, 't'},
        {"rounds", 1, NULL, 'r'}, {"serve", 0, NULL, 's'}, {NULL, 0, NULL, 0}};
    ss_model_config c;
    int o, threads = 1, norm;
    bool serving = false;
    ss_model_config_default(&c);
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (o) {
        case 'w':
            c.width = atoi(optarg);
            break;
        case 'n':
            norm = ss_norm_parse(optarg);
            if (norm < 0)
                return 2;
            c.norm = (ss_norm)norm;
            break;
        case 'b':
            batch = atoi(optarg);
            break;
        case 't':
            threads = atoi(optarg);
            break;
        case 'r':
            rounds = atoi(optarg);
            break;
        case 's':
            serving = true;
            break;
        default:
            return 2;
        }
    }
    if (batch < 1 || batch > 1024 || threads < 1 || rounds < 1 || rounds > MOST_ROUNDS)
        return 2;
    prepare(&c, threads);
    fprintf(stderr, "# width %d, norm %s, batch %d, threads %d, cpu %s\n", c.width, ss_norm_name((int)c.norm),
            batch, threads, ss_cpu_name(ss_cpu_level()));
    return serving ? serve() : (table(), 0);
}
