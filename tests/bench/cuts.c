/*
 * Time of the network: forward to each cut and on from it, and a training step.
 *
 *   bench-cuts [--model=FILE | --width=W --norm=N --mels=H --frames=T] [--batch=B] [--threads=T] [--ms=MS]
 *              [--rounds=R | --serve] [--input=FILE] [--arith=f32|f16|int8]
 *
 * In int8, cuts are u8 on the way out and in; a model that is not calibrated is, with the windows that are
 * there. A training step is forward, gradient of a loss at the embedding, backward, and one step of Adam,
 * weights packed anew. Prints microseconds for a window, minimum and median over R rounds; each round takes
 * every measurement once, so that a machine which is slow for a while is slow for all.
 *
 * With --serve it is one side of a comparison: it reads commands from standard input and answers each with
 * one line, as every engine in this folder does (README.md, "The line protocol"). What a command needs is
 * opened when it first comes.
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
#include "kernels/int8.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"
#include "nn/net.h"
#include "nn/net_i8.h"
#include "nn/quant.h"
#include "side.h"

enum { CUTS = SS_CUT_EMBEDDING + 1, MOST_ROUNDS = 1001 };

static int batch = 1, rounds = 15;
static ss_pool *pool;
static ss_model *model;
static float *cut[CUTS]; /* what flows at each of them, once it was needed */
static ss_net *encode[CUTS], *finish[CUTS];
static bool int8;
static ss_weights weights = SS_WEIGHTS_F32;
static ss_net_i8 *encode_i8[CUTS], *finish_i8[CUTS];
static float *values; /* of a cut in u8 */

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

static size_t volume(int k)
{
    uint32_t d[3];
    ss_model_cut_shape(&model->config, k, d);
    return (size_t)batch * d[0] * d[1] * d[2];
}

/* Other windows, and with them other cuts. */
static bool read_input(const char *path)
{
    for (int k = 1; k < CUTS; k++) {
        ss_free(cut[k]);
        cut[k] = NULL;
    }
    return side_read(path, cut[0], volume(SS_CUT_INPUT));
}

static void make_noise(void)
{
    size_t n = volume(SS_CUT_INPUT);
    ss_rng r = ss_rng_make(1, 0);
    ss_rng_fill_normal(&r, cut[0], n);
    for (size_t k = 0; k < n; k++)
        cut[0][k] = 5 * cut[0][k] - 4.5f;
}

static void calibrate(void)
{
    ss_quant *q;
    ss_err e;
    if (model->calibration.records)
        return;
    check(ss_quant_open(&q, model, NULL, &e), &e);
    for (int i = 0; i < batch; i++)
        ss_quant_add(q, cut[0] + (size_t)i * (volume(SS_CUT_INPUT) / (size_t)batch));
    check(ss_quant_finish(q, SS_QUANT_MSE, model, &e), &e);
    ss_quant_close(&q);
}

static int wire(int k)
{
    return k >= SS_CUT_BLOCK0 && k < SS_CUT_EMBEDDING ? SS_DTYPE_U8 : SS_DTYPE_F32;
}

static void run_int8(ss_net_i8 **net, int from, int until)
{
    ss_err e;
    if (!*net)
        check(ss_net_i8_open(net, model, pool, from, until, batch, &e), &e);
    ss_net_i8_run(*net, batch, wire(from), cut[from], wire(until), cut[until]);
}

static void run_encode(int k)
{
    ss_err e;
    if (int8) {
        if (!cut[k])
            cut[k] = side_room(volume(k));
        run_int8(&encode_i8[k], SS_CUT_INPUT, k);
        return;
    }
    if (!encode[k])
        check(ss_net_open(&encode[k], model, pool, weights, SS_CUT_INPUT, k, batch, &e), &e);
    if (!cut[k])
        cut[k] = side_room(volume(k));
    ss_net_run(encode[k], batch, cut[0], cut[k]);
}

static void run_finish(int k)
{
    ss_err e;
    if (int8) {
        if (!cut[k])
            run_encode(k);
        if (!cut[CUTS - 1])
            cut[CUTS - 1] = side_room(volume(CUTS - 1));
        run_int8(&finish_i8[k], k, SS_CUT_EMBEDDING);
        return;
    }
    if (!finish[k])
        check(ss_net_open(&finish[k], model, pool, weights, k, SS_CUT_EMBEDDING, batch, &e), &e);
    if (!cut[k])
        run_encode(k);
    if (!cut[CUTS - 1])
        cut[CUTS - 1] = side_room(volume(CUTS - 1));
    ss_net_run(finish[k], batch, cut[k], cut[CUTS - 1]);
}

static void open_training(void)
{
    struct training *t = &training;
    ss_err e;
    check(ss_backprop_open(&t->b, model, pool, SS_CUT_INPUT, batch, &e), &e);
    t->grad = side_room(model->ntrainable);
    t->one = side_room(model->ntrainable);
    t->two = side_room(model->ntrainable);
    t->z = side_room((size_t)batch * (size_t)model->config.dim);
}

static void train_step(void)
{
    struct training *t = &training;
    if (!t->b)
        open_training();
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
        run_encode(k);
    } else if (!strcmp(what, "finish") && k > 0 && k < CUTS - 1) {
        run_finish(k);
    } else if (!strcmp(what, "step")) {
        train_step();
    } else {
        return false;
    }
    return true;
}

static const float *result(const char *what, int k, size_t *n)
{
    int end = !strcmp(what, "encode") ? k : !strcmp(what, "finish") ? CUTS - 1 : 0;
    *n = volume(end);
    if (end > 0 && int8 && wire(end) == SS_DTYPE_U8 && cut[end]) {
        ss_free(values);
        values = side_room(*n);
        ss_f32_from_u8(*n, ss_net_i8_scale(model, end), (const uint8_t *)cut[end], values);
        return values;
    }
    return end > 0 ? cut[end] : NULL;
}

static struct side side = {.batch = 1, .least_ms = 5, .once = once, .result = result, .input = read_input};

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
            double us = i == 0 ? side_measure(&side, "step", 0) : side_measure(&side, what[i % 2], k);
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
           int8 ? ss_net_i8_memory(encode_i8[CUTS - 1]) : ss_net_memory(encode[CUTS - 1]),
           ss_backprop_memory(training.b));
}

static void close_all(void)
{
    for (int k = 0; k < CUTS; k++) {
        ss_net_close(&encode[k]);
        ss_net_close(&finish[k]);
        ss_net_i8_close(&encode_i8[k]);
        ss_net_i8_close(&finish_i8[k]);
        ss_free(cut[k]);
    }
    if (training.b)
        ss_backprop_close(&training.b);
    ss_free(values);
    ss_free(training.grad);
    ss_free(training.one);
    ss_free(training.two);
    ss_free(training.z);
    ss_model_free(model);
    if (pool)
        ss_pool_close(&pool);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"width", 1, NULL, 'w'},  {"norm", 1, NULL, 'n'},  {"batch", 1, NULL, 'b'}, {"threads", 1, NULL, 't'},
        {"rounds", 1, NULL, 'r'}, {"serve", 0, NULL, 's'}, {"mels", 1, NULL, 'm'},  {"frames", 1, NULL, 'f'},
        {"model", 1, NULL, 'M'},  {"input", 1, NULL, 'i'}, {"ms", 1, NULL, 'l'},    {"arith", 1, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    const char *model_file = NULL, *input_file = NULL;
    ss_err e;
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
        case 'm':
            c.mels = atoi(optarg);
            break;
        case 'f':
            c.frames = atoi(optarg);
            break;
        case 'M':
            model_file = optarg;
            break;
        case 'i':
            input_file = optarg;
            break;
        case 'a':
            int8 = !strcmp(optarg, "int8");
            weights = strcmp(optarg, "f16") ? SS_WEIGHTS_F32 : SS_WEIGHTS_F16;
            if (!int8 && !weights && strcmp(optarg, "f32"))
                return 2;
            break;
        case 'l':
            side.least_ms = atof(optarg);
            break;
        default:
            return 2;
        }
    }
    if (batch < 1 || batch > 1024 || threads < 1 || rounds < 1 || rounds > MOST_ROUNDS)
        return 2;
    if (model_file)
        check(ss_model_load(&model, model_file, &e), &e);
    else
        check(ss_model_create(&model, &c, 1, &e), &e);
    c = model->config;
    if (threads > 1)
        check(ss_pool_open(&pool, threads, &e), &e);
    cut[0] = side_room(volume(SS_CUT_INPUT));
    make_noise();
    if (input_file && !read_input(input_file)) {
        fprintf(stderr, "bench-cuts: '%s' does not hold %zu values\n", input_file, volume(SS_CUT_INPUT));
        return 1;
    }
    if (int8)
        calibrate();
    side.batch = batch;
    fprintf(stderr, "# width %d, norm %s, window %dx%d, batch %d, threads %d, cpu %s\n", c.width,
            ss_norm_name((int)c.norm), c.mels, c.frames, batch, threads, ss_cpu_name(ss_cpu_level()));
    int status = 0;
    if (serving)
        status = side_serve(&side);
    else
        table();
    close_all();
    return status;
}
