/* The network against PyTorch: results of tests/grad/reference_net.py, which tells how the file was made. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"
#include "nn/net.h"

enum { WINDOWS = 8, DIM = 128, INPUT = 64 * 96, STEPS = 10, EVERY = 16 };

/* The same hash as in the script. */
static void uniform(const char *name, size_t n, float *out)
{
    uint32_t h = 0x811c9dc5;
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 0x01000193;
    for (size_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)i * 0x9e3779b1u + h;
        x = (x ^ x >> 16) * 0x7feb352du;
        x = (x ^ x >> 15) * 0x846ca68bu;
        x ^= x >> 16;
        out[i] = (float)(x >> 8) * 0x1p-23f - 1;
    }
}

static int ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static ss_model *make(ss_norm norm)
{
    ss_model_config c;
    ss_model *m;
    ss_model_config_default(&c);
    c.norm = norm;
    c.input_mean = -4.45f;
    c.input_scale = 1.0f / 5.66f;
    ck_assert_int_eq(ss_model_create(&m, &c, 1, NULL), SS_OK);
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        float *v = m->value + p->offset, base = 0, scale = 0.125f;
        uniform(p->name, p->count, v);
        if (p->rank > 1) {
            scale = (float)sqrt((p->rank == 4 ? 6.0 : 1.0) / (double)(p->count / p->dim[0]));
        } else if (ends_in(p->name, "running_mean")) {
            scale = 0.25f;
        } else if (ends_in(p->name, "running_var")) {
            base = 1;
            scale = 0.5f;
        } else if (ends_in(p->name, "weight")) {
            base = norm == SS_NORM_WEIGHT && ends_in(p->name, "bn2.weight") ? 0.5f : 1.0f;
            scale = 0.25f;
        }
        for (size_t j = 0; j < p->count; j++)
            v[j] = base + v[j] * scale;
    }
    return m;
}

static float *windows(void)
{
    float *x = malloc(WINDOWS * INPUT * sizeof *x);
    uniform("input", WINDOWS * INPUT, x);
    for (int i = 0; i < WINDOWS * INPUT; i++)
        x[i] = -4.45f + x[i] * 9.5f;
    return x;
}

/* Length of the difference over length of the expected. */
static double distance(const float *found, size_t every, const float *expected, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += pow((double)found[i * every] - (double)expected[i], 2);
        s += pow((double)expected[i], 2);
    }
    return sqrt(d / s);
}

/* Cross-entropy of windows 0..3 against 4..7 at temperature 0.1, and its gradient. */
static double info_nce(const float *z, float *dz)
{
    enum { HALF = WINDOWS / 2 };
    double loss = 0;
    memset(dz, 0, WINDOWS * DIM * sizeof *dz);
    for (int i = 0; i < HALF; i++) {
        double logit[HALF], sum = 0;
        for (int j = 0; j < HALF; j++) {
            logit[j] = 10 * ss_dot(DIM, z + i * DIM, z + (HALF + j) * DIM);
            sum += exp(logit[j]);
        }
        loss += (log(sum) - logit[i]) / HALF;
        for (int j = 0; j < HALF; j++) {
            float g = (float)(10 * (exp(logit[j]) / sum - (i == j)) / HALF);
            ss_axpy(DIM, g, z + (HALF + j) * DIM, dz + i * DIM);
            ss_axpy(DIM, g, z + i * DIM, dz + (HALF + j) * DIM);
        }
    }
    return loss;
}

static const float *file(size_t *n)
{
    static float v[8192];
    char path[4096];
    const char *src = getenv("SS_SRC");
    snprintf(path, sizeof path, "%s/tests/grad/reference_net.f32", src ? src : ".");
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot open '%s'", path);
    *n = fread(v, sizeof *v, sizeof v / sizeof *v, f);
    fclose(f);
    return v;
}

/* Walks through one norm's part of the file. */
static void check_forward(ss_norm norm, const ss_model *m, const float *x, const float **at)
{
    static const int blocks[] = {0, 3, 6, 8};
    ss_net *net;
    float *out = malloc(2 * 16 * 16 * 24 * sizeof *out);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        uint32_t d[3];
        ss_model_cut_shape(&m->config, SS_CUT_BLOCK0 + blocks[i], d);
        size_t n = (size_t)d[0] * d[1] * d[2] / EVERY;
        ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_BLOCK0 + blocks[i], 2, NULL), SS_OK);
        ss_net_run(net, 1, x, out);
        ss_net_close(&net);
        double d0 = distance(out, EVERY, *at, n);
        ck_assert_msg(d0 < 1e-5, "norm %d, block %d: relative error %g", (int)norm, blocks[i], d0);
        *at += n;
    }
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, NULL), SS_OK);
    ss_net_run(net, 2, x, out);
    ss_net_close(&net);
    for (int i = 0; i < 2; i++, *at += DIM)
        ck_assert_double_lt(distance(out + i * DIM, 1, *at, DIM), 1e-5);
    free(out);
}

static void check_gradients(ss_model *m, const float *x, const float **at)
{
    float *grad = calloc(m->ntrainable, sizeof *grad), c[2 * DIM], z[2 * DIM];
    ss_backprop *b;
    uniform("c", 2 * DIM, c);
    ck_assert_int_eq(ss_backprop_open(&b, m, NULL, SS_CUT_INPUT, 2, NULL), SS_OK);
    ck_assert_int_eq(ss_backprop_forward(b, 2, x, z, 1), SS_OK);
    ck_assert_int_eq(ss_backprop_backward(b, c, grad, NULL), SS_OK);
    ss_backprop_close(&b);
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        if (!p->trainable)
            continue;
        double found = sqrt(ss_sum_squares(p->count, grad + p->offset)), expected = (double)*(*at)++;
        ck_assert_msg(fabs(found - expected) <= 1e-5 * expected, "%s: gradient of length %.8g, not %.8g",
                      p->name, found, expected);
    }
    free(grad);
}

/* The whole loss curve within 2e-4 of its start; of float32 against float64 in PyTorch it is 5e-5. */
static void check_steps(ss_norm norm, int adam, const float *x, const float **at)
{
    ss_model *m = make(norm);
    size_t n = m->ntrainable;
    float *grad = malloc(n * sizeof *grad), *one = calloc(n, sizeof *one), *two = calloc(n, sizeof *two);
    float z[WINDOWS * DIM], dz[WINDOWS * DIM];
    const float *expected = *at;
    ss_backprop *b;
    ck_assert_int_eq(ss_backprop_open(&b, m, NULL, SS_CUT_INPUT, WINDOWS, NULL), SS_OK);
    for (int i = 0; i < STEPS; i++) {
        memset(grad, 0, n * sizeof *grad);
        ck_assert_int_eq(ss_backprop_forward(b, WINDOWS, x, z, 1), SS_OK);
        double loss = info_nce(z, dz);
        ck_assert_msg(fabs(loss - (double)expected[i]) <= 2e-4 * (double)expected[0],
                      "norm %d, %s step %d: loss %.7g, not %.7g", (int)norm, adam ? "Adam" : "SGD", i, loss,
                      (double)expected[i]);
        ck_assert_int_eq(ss_backprop_backward(b, dz, grad, NULL), SS_OK);
        if (adam) {
            const ss_adam a = {.lr = 1e-4f,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .grad_scale = 1,
                               .step = (uint64_t)i + 1};
            ss_adam_step(&a, NULL, n, m->value, grad, one, two);
        } else {
            const ss_sgd s = {.lr = 0.002f, .momentum = 0.9f, .grad_scale = 1};
            ss_sgd_step(&s, NULL, n, m->value, grad, one);
        }
        ss_backprop_weights_changed(b);
    }
    *at += STEPS;
    ss_backprop_close(&b);
    ss_model_free(m);
    free(grad);
    free(one);
    free(two);
}

START_TEST(as_pytorch)
{
    size_t n;
    const float *at = file(&n), *end = at + n;
    float *x = windows();
    ck_assert_uint_eq(n % 3, 0);
    at += (size_t)(_i - SS_NORM_BATCH) * (n / 3);
    end = at + n / 3;
    ss_model *m = make((ss_norm)_i);
    check_forward((ss_norm)_i, m, x, &at);
    check_gradients(m, x, &at);
    check_steps((ss_norm)_i, 1, x, &at);
    check_steps((ss_norm)_i, 0, x, &at);
    ck_assert_ptr_eq(at, end);
    ss_model_free(m);
    free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reference");
    TCase *c = tcase_create("reference");
    tcase_set_timeout(c, 100);
    tcase_add_loop_test(c, as_pytorch, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
