/*
 * Milliseconds of the whole network, minimum and median over interleaved rounds: forward and training step
 * (forward, backward, Adam) of a 64x96 window at width 1/4 and 1. net_torch.py times the same of PyTorch in
 * the same form. net [--threads=N] [--rounds=N] [--norm=weight|group|batch]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"
#include "nn/net.h"

typedef struct bench {
    const char *what;
    int width, batch;
    ss_model *m;
    ss_net *net;
    ss_backprop *b;
    float *in, *z, *dz, *grad, *m1, *m2, *out;
    uint64_t step;
    double *ms;
} bench;

static void die(const char *what)
{
    fprintf(stderr, "bench-net: %s\n", what);
    exit(1);
}

static float *numbers(size_t n)
{
    float *p = ss_alloc(n, sizeof *p);
    if (!p)
        die("out of memory");
    ss_rng r = ss_rng_make(1, n);
    ss_rng_fill_normal(&r, p, n);
    return p;
}

static void run(bench *k)
{
    if (k->net) {
        ss_net_run(k->net, k->batch, k->in, k->z);
        return;
    }
    memset(k->grad, 0, k->m->ntrainable * sizeof *k->grad);
    ss_backprop_forward(k->b, k->batch, k->in, k->z, 1);
    ss_backprop_backward(k->b, k->dz, k->grad, NULL);
    ss_adam a = {1e-6f, 0.9f, 0.999f, 1e-8f, 0, 1, ++k->step};
    ss_adam_step(&a, NULL, k->m->ntrainable, k->m->value, k->grad, k->m1, k->m2);
    ss_backprop_weights_changed(k->b);
}

/* On one thread the processor's time, which other work on the machine disturbs least; else the clock's. */
static double now_ms(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int threads = 1, rounds = 9;
    ss_norm norm = SS_NORM_WEIGHT;
    const char *only = NULL;
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--threads=", 10))
            threads = atoi(argv[i] + 10);
        else if (!strncmp(argv[i], "--rounds=", 9))
            rounds = atoi(argv[i] + 9);
        else if (!strncmp(argv[i], "--only=", 7))
            only = argv[i] + 7;
        else if (!strcmp(argv[i], "--norm=weight"))
            norm = SS_NORM_WEIGHT;
        else if (!strcmp(argv[i], "--norm=group"))
            norm = SS_NORM_GROUP;
        else if (!strcmp(argv[i], "--norm=batch"))
            norm = SS_NORM_BATCH;
        else
            die("unknown option");
    if (rounds < 1)
        die("no rounds");
    ss_pool *pool = NULL;
    if (threads > 1 && ss_pool_open(&pool, threads, NULL))
        die("no threads");
    bench all[] = {
        {"forward", 16, 1}, {"forward", 16, 64}, {"train", 16, 1}, {"train", 16, 8}, {"train", 16, 64},
        {"forward", 64, 1}, {"forward", 64, 8},  {"train", 64, 1}, {"train", 64, 8},
    };
    int count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s,%d,%d", all[i].what, all[i].width, all[i].batch);
        if (!only || !strcmp(only, name))
            all[count++] = all[i];
    }
    for (int i = 0; i < count; i++) {
        bench *k = &all[i];
        ss_model_config c;
        ss_model_config_default(&c);
        c.width = k->width;
        c.norm = norm;
        size_t n = (size_t)k->batch;
        k->in = numbers(n * (size_t)c.mels * (size_t)c.frames);
        k->z = numbers(n * (size_t)c.dim);
        k->dz = numbers(n * (size_t)c.dim);
        k->ms = ss_alloc((size_t)rounds, sizeof *k->ms);
        if (!k->ms || ss_model_create(&k->m, &c, 1, NULL))
            die("no model");
        if (!strcmp(k->what, "forward")) {
            if (ss_net_open(&k->net, k->m, pool, SS_CUT_INPUT, SS_CUT_EMBEDDING, k->batch, NULL))
                die("no network");
        } else {
            if (ss_backprop_open(&k->b, k->m, pool, SS_CUT_INPUT, k->batch, NULL))
                die("no network");
            k->grad = numbers(k->m->ntrainable);
            k->m1 = ss_zalloc(k->m->ntrainable, sizeof *k->m1);
            k->m2 = ss_zalloc(k->m->ntrainable, sizeof *k->m2);
            if (!k->m1 || !k->m2)
                die("out of memory");
        }
        run(k);
    }
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < count; i++) {
            double t = now_ms(threads);
            run(&all[i]);
            all[i].ms[r] = now_ms(threads) - t;
        }
    for (int i = 0; i < count; i++) {
        bench *k = &all[i];
        qsort(k->ms, (size_t)rounds, sizeof *k->ms, by_value);
        printf("%-8s width %2d batch %2d threads %d: %8.3f / %8.3f ms (%s)\n", k->what, k->width, k->batch,
               threads, k->ms[0], k->ms[rounds / 2], ss_cpu_name(ss_cpu_level()));
        ss_net_close(&k->net);
        ss_backprop_close(&k->b);
        ss_model_free(k->m);
        float *held[] = {k->in, k->z, k->dz, k->grad, k->m1, k->m2};
        for (int j = 0; j < 6; j++)
            ss_free(held[j]);
        ss_free(k->ms);
    }
    ss_pool_close(&pool);
    return 0;
}
