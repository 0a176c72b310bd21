#include "nn/net_i8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "kernels/internal.h"
#include "nn/net.h"
#include "nn/quant.h"
#include "unit.h"

enum { WINDOWS = 3, MANY = 11 };

static size_t volume(const ss_model_config *c, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(c, cut, d);
    return (size_t)d[0] * d[1] * d[2];
}

/* What sound looks like: slow in time, smooth over the bands, with a beat. */
static float *windows(const ss_model_config *c, int n, uint64_t seed)
{
    size_t each = volume(c, SS_CUT_INPUT);
    float *x = malloc((size_t)n * each * sizeof *x);
    ss_rng r = ss_rng_make(seed, 0);
    for (int i = 0; i < n; i++) {
        float base = -9.0f + 6.0f * ss_rng_uniform(&r), tilt = 4.0f * ss_rng_uniform(&r) - 3.0f,
              beat = 0.02f + 0.2f * ss_rng_uniform(&r), ridge = ss_rng_uniform(&r) * (float)c->mels;
        for (int m = 0; m < c->mels; m++)
            for (int t = 0; t < c->frames; t++) {
                float at = ((float)m - ridge) / 4;
                x[(size_t)i * each + (size_t)(m * c->frames + t)] =
                    base + tilt * (float)m / (float)c->mels +
                    5 * expf(-at * at) * (1 + sinf(beat * (float)t)) + 0.7f * ss_rng_normal(&r);
            }
    }
    return x;
}

static void calibrate(ss_model *m, ss_quant_method method)
{
    ss_quant *q;
    float *x = windows(&m->config, 4, 77);
    ck_assert_int_eq(ss_quant_open(&q, m, NULL, NULL), SS_OK);
    for (int i = 0; i < 4; i++)
        ss_quant_add(q, x + (size_t)i * volume(&m->config, SS_CUT_INPUT));
    ck_assert_int_eq(ss_quant_finish(q, method, m, NULL), SS_OK);
    ss_quant_close(&q);
    free(x);
}

/* Gains, biases and statistics that are not the neutral ones. */
static ss_model *model_of(int width, ss_norm norm, int mels, int frames)
{
    ss_model_config c;
    ss_model *m;
    ss_model_config_default(&c);
    c.width = width;
    c.norm = norm;
    c.mels = mels;
    c.frames = frames;
    ck_assert_int_eq(ss_model_create(&m, &c, 3, NULL), SS_OK);
    ss_rng r = ss_rng_make(8, 0);
    for (int i = 0; i < m->nparam; i++)
        for (size_t j = 0; m->param[i].rank == 1 && j < m->param[i].count; j++)
            m->value[m->param[i].offset + j] += 0.2f * (ss_rng_uniform(&r) - 0.5f);
    m->generation = 5;
    if (norm != SS_NORM_GROUP)
        calibrate(m, SS_QUANT_MSE);
    return m;
}

static size_t bytes_of(int dtype)
{
    return dtype == SS_DTYPE_U8 ? 1 : sizeof(float);
}

static void *run(const ss_model *m, ss_pool *pool, int from, int until, int max_batch, int n, int in_dtype,
                 const void *in, int out_dtype)
{
    ss_net_i8 *net;
    void *out = malloc((size_t)n * volume(&m->config, until) * bytes_of(out_dtype));
    ck_assert_int_eq(ss_net_i8_open(&net, m, pool, from, until, max_batch, NULL), SS_OK);
    ck_assert_int_eq(ss_net_i8_run(net, n, in_dtype, in, out_dtype, out), SS_OK);
    ss_net_i8_close(&net);
    ck_assert_ptr_null(net);
    return out;
}

static float *whole_of(const ss_model *m, ss_pool *pool, int max_batch, int n, const float *x)
{
    return run(m, pool, SS_CUT_INPUT, SS_CUT_EMBEDDING, max_batch, n, SS_DTYPE_F32, x, SS_DTYPE_F32);
}

static void same(const void *a, const void *b, size_t n, const char *what, int cut)
{
    if (memcmp(a, b, n))
        ck_abort_msg("%s at cut %s: other bits", what, ss_cut_name(cut));
}

/* Straight to every cut, block by block to it, and on from it, with u8 and with f32 on the way, in batches of
 * all sizes and with threads, at every level: the same numbers at every cut, and the same embedding but for
 * the level whose last layer, in f32, has bits of its own. */
static void check_cuts(int width, ss_norm norm, int mels, int frames)
{
    ss_model *m = model_of(width, norm, mels, frames);
    ss_pool *pool;
    ck_assert_int_eq(ss_pool_open(&pool, 2, NULL), SS_OK);
    const ss_model_config *c = &m->config;
    const size_t dim = (size_t)c->dim * WINDOWS * sizeof(float);
    float *x = windows(c, WINDOWS, 1), *first = NULL;
    uint8_t *first_at[SS_CUT_EMBEDDING] = {0};
    for (int level = SS_CPU_SCALAR; level <= SS_CPU_NEON_DOTPROD; level++) {
        if (ss_kernels_use((ss_cpu)level))
            continue;
        float *whole = whole_of(m, NULL, WINDOWS, WINDOWS, x);
        if (!first)
            first = whole;
        else if (level != SS_CPU_SSE41)
            same(whole, first, dim, ss_cpu_name((ss_cpu)level), SS_CUT_EMBEDDING);
        for (size_t i = 0; i < dim / sizeof(float); i++)
            ck_assert_float_le(fabsf(whole[i] - first[i]), 1e-6f);
        if (level == SS_CPU_SCALAR && width > 32)
            continue; /* a minute with sanitizers, and the narrow ones show the same */
        void *at = x;
        for (int cut = SS_CUT_BLOCK0; cut < SS_CUT_EMBEDDING; cut++) {
            size_t n = WINDOWS * volume(c, cut);
            int before = cut == SS_CUT_BLOCK0 ? SS_DTYPE_F32 : SS_DTYPE_U8;
            uint8_t *straight = run(m, NULL, SS_CUT_INPUT, cut, 1, WINDOWS, SS_DTYPE_F32, x, SS_DTYPE_U8);
            float *values = run(m, pool, SS_CUT_INPUT, cut, 1, WINDOWS, SS_DTYPE_F32, x, SS_DTYPE_F32);
            uint8_t *step = run(m, pool, cut - 1, cut, WINDOWS, WINDOWS, before, at, SS_DTYPE_U8);
            float *rest =
                run(m, pool, cut, SS_CUT_EMBEDDING, 1, WINDOWS, SS_DTYPE_U8, straight, SS_DTYPE_F32);
            float *rest32 =
                run(m, NULL, cut, SS_CUT_EMBEDDING, WINDOWS, WINDOWS, SS_DTYPE_F32, values, SS_DTYPE_F32);
            for (size_t i = 0; i < n; i++)
                ck_assert(values[i] == (float)straight[i] * ss_net_i8_scale(m, cut));
            same(straight, step, n, "block by block", cut);
            if (first_at[cut])
                same(straight, first_at[cut], n, ss_cpu_name((ss_cpu)level), cut);
            same(rest, whole, dim, "cut and finished", cut);
            same(rest32, whole, dim, "cut in f32 and finished", cut);
            if (first_at[cut])
                free(straight);
            else
                first_at[cut] = straight;
            free(values);
            free(rest);
            free(rest32);
            free(at == x ? NULL : at);
            at = step;
        }
        free(at);
        free(whole == first ? NULL : whole);
    }
    ss_kernels_use(ss_cpu_best());
    for (int cut = 0; cut < SS_CUT_EMBEDDING; cut++)
        free(first_at[cut]);
    free(first);
    free(x);
    ss_pool_close(&pool);
    ss_model_free(m);
}

static ss_norm norm_of(int i)
{
    return i ? SS_NORM_WEIGHT : SS_NORM_BATCH;
}

START_TEST(cut_and_finished_equals_whole_quarter)
{
    check_cuts(16, norm_of(_i), 64, 96);
}
END_TEST

START_TEST(cut_and_finished_equals_whole_full)
{
    check_cuts(64, norm_of(_i), 32, 24);
}
END_TEST

START_TEST(odd_sizes)
{
    check_cuts(8, norm_of(_i), 9, 37);
    check_cuts(24, norm_of(_i), 8, 8);
}
END_TEST

START_TEST(batch_and_threads_change_no_bit)
{
    ss_model *m = model_of(16, norm_of(_i), 64, 96);
    const ss_model_config *c = &m->config;
    size_t in = volume(c, SS_CUT_INPUT);
    float *x = windows(c, MANY, 2);
    for (int until = 4; until <= SS_CUT_EMBEDDING; until += 6) {
        size_t size = volume(c, until);
        int dtype = until == SS_CUT_EMBEDDING ? SS_DTYPE_F32 : SS_DTYPE_U8;
        char *all = run(m, NULL, SS_CUT_INPUT, until, MANY, MANY, SS_DTYPE_F32, x, dtype);
        for (int i = 0; i < MANY; i += 5) {
            char *one = run(m, NULL, SS_CUT_INPUT, until, 1, 1, SS_DTYPE_F32, x + (size_t)i * in, dtype);
            same(one, all + (size_t)i * size * bytes_of(dtype), size * bytes_of(dtype), "batch 1", until);
            free(one);
        }
        for (int threads = 2; threads <= 3; threads++) {
            ss_pool *pool;
            ck_assert_int_eq(ss_pool_open(&pool, threads, NULL), SS_OK);
            for (int batch = 1; batch <= MANY; batch += MANY - 1) {
                char *z = run(m, pool, SS_CUT_INPUT, until, batch, MANY, SS_DTYPE_F32, x, dtype);
                same(z, all, MANY * size * bytes_of(dtype), "threads", until);
                free(z);
            }
            ss_pool_close(&pool);
        }
        free(all);
    }
    /* One window in a network for many: the threads share it. */
    ss_pool *pool;
    ss_net_i8 *net;
    float z[128], *one = whole_of(m, NULL, 1, 1, x);
    ck_assert_int_eq(ss_pool_open(&pool, 3, NULL), SS_OK);
    ck_assert_int_eq(ss_net_i8_open(&net, m, pool, SS_CUT_INPUT, SS_CUT_EMBEDDING, 4, NULL), SS_OK);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(ss_net_i8_run(net, 1, SS_DTYPE_F32, x, SS_DTYPE_F32, z), SS_OK);
        same(z, one, sizeof z, "one window, threads", SS_CUT_EMBEDDING);
    }
    ss_net_i8_close(&net);
    ss_pool_close(&pool);
    free(one);
    free(x);
    ss_model_free(m);
}
END_TEST

START_TEST(near_f32)
{
    static const int widths[] = {16, 32, 64};
    for (int w = 0; w < 3; w++)
        for (int method = SS_QUANT_MAX; method <= SS_QUANT_MSE; method++) {
            ss_model *m = model_of(widths[w], norm_of(_i), 64, 96);
            calibrate(m, (ss_quant_method)method);
            float *x = windows(&m->config, 24, 5), *z = whole_of(m, NULL, 8, 24, x), whole[24 * 128];
            ss_net *net;
            ck_assert_int_eq(
                ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 8, NULL), SS_OK);
            ss_net_run(net, 24, x, whole);
            ss_net_close(&net);
            for (int i = 0; i < 24; i++) {
                double cosine = ss_dot(128, z + 128 * i, whole + 128 * i);
                if (cosine < 0.995)
                    ck_abort_msg("width %d, method %s: cosine %.5f to f32", widths[w],
                                 ss_quant_method_name(method), cosine);
            }
            free(x);
            free(z);
            ss_model_free(m);
        }
}
END_TEST

START_TEST(any_input)
{
    /* Far outside of what it was calibrated with: bounded, and the zero vector stays zero. */
    static const float values[] = {-1e30f, 1e30f, NAN, INFINITY, 0};
    ss_model *m = model_of(16, norm_of(_i), 64, 96);
    float *x = windows(&m->config, 1, 3);
    for (int k = 0; k < 5; k++) {
        for (size_t i = 0; i < 64 * 96; i++)
            x[i] = values[k];
        float *z = whole_of(m, NULL, 1, 1, x);
        double sum = ss_sum_squares(128, z);
        ck_assert_double_eq_tol(sum, 1, 1e-5);
        free(z);
    }
    memset(ss_model_values(m, "fc.weight"), 0, 128 * 128 * sizeof(float));
    memset(ss_model_values(m, "fc.bias"), 0, 128 * sizeof(float));
    memset(ss_model_values(m, "layer2.0.conv1.weight"), 0, 32 * 16 * 9 * sizeof(float));
    float *z = whole_of(m, NULL, 1, 1, x);
    for (int i = 0; i < 128; i++)
        ck_assert(z[i] == 0);
    free(z);
    free(x);
    ss_model_free(m);
}
END_TEST

START_TEST(model_is_not_needed_after_opening)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96);
    float *x = windows(&m->config, 1, 4), *z = whole_of(m, NULL, 1, 1, x), again[128];
    ss_net_i8 *net, *part;
    ss_net *f32;
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL), SS_OK);
    ck_assert_int_eq(ss_net_i8_open(&part, m, NULL, SS_CUT_INPUT, SS_CUT_BLOCK0 + 3, 1, NULL), SS_OK);
    ck_assert_int_eq(ss_net_open(&f32, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ck_assert_uint_lt(ss_net_i8_memory(net), ss_net_memory(f32) / 2);
    ck_assert_uint_lt(ss_net_i8_memory(part), ss_net_i8_memory(net) / 3);
    ss_model_free(m);
    ck_assert_int_eq(ss_net_i8_run(net, 1, SS_DTYPE_F32, x, SS_DTYPE_F32, again), SS_OK);
    ck_assert_mem_eq(z, again, sizeof again);
    ss_net_i8_close(&net);
    ss_net_i8_close(&part);
    ss_net_i8_close(&part);
    ss_net_close(&f32);
    free(x);
    free(z);
}
END_TEST

START_TEST(same_cut_converts)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96);
    const int cut = SS_CUT_BLOCK0 + 3;
    size_t n = volume(&m->config, cut);
    float *x = windows(&m->config, 1, 4);
    uint8_t *q = run(m, NULL, SS_CUT_INPUT, cut, 1, 1, SS_DTYPE_F32, x, SS_DTYPE_U8);
    float *v = run(m, NULL, cut, cut, 1, 1, SS_DTYPE_U8, q, SS_DTYPE_F32);
    uint8_t *again = run(m, NULL, cut, cut, 1, 1, SS_DTYPE_F32, v, SS_DTYPE_U8);
    ck_assert_mem_eq(q, again, n);
    float *copy = run(m, NULL, SS_CUT_INPUT, SS_CUT_INPUT, 1, 1, SS_DTYPE_F32, x, SS_DTYPE_F32);
    ck_assert_mem_eq(x, copy, 64 * 96 * sizeof *x);
    free(x);
    free(q);
    free(v);
    free(again);
    free(copy);
    ss_model_free(m);
}
END_TEST

START_TEST(refusals)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96), *group = model_of(16, SS_NORM_GROUP, 64, 96);
    ss_net_i8 *net;
    ss_quant *q;
    ss_err e;
    float x[1] = {0};
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, 4, 3, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, -1, 3, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, 0, 11, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, 0, 3, 0, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, &e), SS_OK);
    ck_assert_int_eq(ss_net_i8_run(net, 1, SS_DTYPE_U8, x, SS_DTYPE_F32, x), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_run(net, 1, SS_DTYPE_F32, x, SS_DTYPE_U8, x), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_run(net, 1, SS_DTYPE_F16, x, SS_DTYPE_F32, x), SS_EINVAL);
    ck_assert_int_eq(ss_net_i8_run(net, -1, SS_DTYPE_F32, x, SS_DTYPE_F32, x), SS_EINVAL);
    ss_net_i8_close(&net);
    m->generation++;
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, 0, 10, 1, &e), SS_EUNFIT);
    ck_assert_ptr_null(net);
    ck_assert_ptr_nonnull(strstr(e.text, "at generation 5 and learnt on to 6: ss-model quantise"));
    m->calibration.records = 0;
    ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, 0, 10, 1, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "not calibrated for int8: ss-model quantise"));
    group->calibration = (ss_calibration){.records = 1, .generation = 5};
    ck_assert_int_eq(ss_net_i8_open(&net, group, NULL, 0, 10, 1, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "group norm"));
    ck_assert_int_eq(ss_quant_open(&q, group, NULL, &e), SS_EUNFIT);
    ck_assert_int_eq(ss_quant_open(&q, m, NULL, &e), SS_OK);
    ck_assert_int_eq(ss_quant_finish(q, SS_QUANT_MAX, m, &e), SS_EINVAL);
    float *huge = windows(&m->config, 1, 1);
    for (size_t i = 0; i < 64 * 96; i++)
        huge[i] = i % 2 ? 3e37f : -3e37f;
    ss_quant_add(q, huge);
    ck_assert_int_eq(ss_quant_finish(q, SS_QUANT_MSE, m, &e), SS_EUNFIT);
    ck_assert_uint_eq(m->calibration.records, 0);
    ss_quant_close(&q);
    free(huge);
    ss_model_free(m);
    ss_model_free(group);
}
END_TEST

START_TEST(calibration_is_kept)
{
    ss_model *m = model_of(8, SS_NORM_WEIGHT, 16, 24), *copy, *back;
    char dir[] = "/tmp/net-i8-XXXXXX", path[64], text[SS_QUANT_TEXT];
    ss_calibration c;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m", dir);
    ck_assert_int_eq(ss_model_clone(&copy, m, NULL), SS_OK);
    ck_assert_int_eq(ss_model_save(copy, path, NULL), SS_OK);
    ck_assert_int_eq(ss_model_load(&back, path, NULL), SS_OK);
    ss_quant_text(&m->calibration, text);
    ck_assert_int_eq(ss_quant_parse(text, &c, NULL), SS_OK);
    const ss_calibration *all[] = {&copy->calibration, &back->calibration, &c};
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(all[i]->records, 4);
        ck_assert_uint_eq(all[i]->generation, 5);
        ck_assert_int_eq(all[i]->method, SS_QUANT_MSE);
        ck_assert_int_eq(all[i]->input_zero, m->calibration.input_zero);
        ck_assert(all[i]->input_step == m->calibration.input_step);
        ck_assert_mem_eq(all[i]->scale, m->calibration.scale, sizeof c.scale);
    }
    unlink(path);
    rmdir(dir);
    ss_model_free(m);
    ss_model_free(copy);
    ss_model_free(back);
}
END_TEST

START_TEST(damaged_text)
{
    ss_model *m = model_of(8, SS_NORM_WEIGHT, 16, 24);
    char text[SS_QUANT_TEXT], bad[2 * SS_QUANT_TEXT];
    ss_calibration c, untouched = {.records = 99};
    ss_err e;
    ss_quant_text(&m->calibration, text);
    for (size_t n = 0; n < strlen(text);
         n++) { /* every beginning of it: a shorter last number may still be one */
        snprintf(bad, sizeof bad, "%.*s", (int)n, text);
        c = untouched;
        int rc = ss_quant_parse(bad, &c, &e);
        if (strrchr(text, ' ') < text + n && rc == SS_OK)
            continue;
        ck_assert(rc == SS_EDAMAGED || rc == SS_EUNFIT);
        ck_assert_uint_eq(c.records, 99);
    }
    static const char *const changes[][2] = {{"1 5 4 mse", "1 5 0 mse"},
                                             {"1 5 4 mse", "1 -5 4 mse"},
                                             {"1 5 4 mse", "1 5 4 best"},
                                             {"1 5 4 mse", "1  5 4 mse"},
                                             {"1 5 4 mse", "01x 5 4 mse"},
                                             {"1 5 4 mse", " 1 5 4 mse"},
                                             {"1 5 4 mse", "1 99999999999999999999 4 mse"},
                                             {"1 5 4 mse", "1 5 4 mse 1"},
                                             {"1 5 4 mse", "1 5 4 mse 300"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        ck_assert(!strncmp(text, changes[i][0], strlen(changes[i][0])));
        snprintf(bad, sizeof bad, "%s%s", changes[i][1], text + strlen(changes[i][0]));
        ck_assert_int_eq(ss_quant_parse(bad, &c, &e), SS_EDAMAGED);
    }
    static const char *const last[] = {"0", "-1", "nan", "inf", "1e31", "1e-31", "x", "", "1 1", "1 "};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        snprintf(bad, sizeof bad, "%.*s%s", (int)(strrchr(text, ' ') - text + 1), text, last[i]);
        ck_assert_int_eq(ss_quant_parse(bad, &c, &e), SS_EDAMAGED);
    }
    snprintf(bad, sizeof bad, "2 whatever");
    ck_assert_int_eq(ss_quant_parse(bad, &c, &e), SS_EUNFIT);
    ss_model_free(m);
}
END_TEST

START_TEST(allocation_fails)
{
    ss_model *m = model_of(8, SS_NORM_WEIGHT, 16, 24);
    size_t before = ss_mem_used();
    for (int what = 0; what < 2; what++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1;; n++) {
                ss_net_i8 *net = NULL;
                ss_quant *q = NULL;
                ss_err e;
                fail_alloc_from(n, forever);
                int rc = what ? ss_quant_open(&q, m, NULL, &e)
                              : ss_net_i8_open(&net, m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, &e);
                if (!fail_alloc_done()) {
                    ck_assert_int_eq(rc, SS_OK);
                    ss_net_i8_close(&net);
                    ss_quant_close(&q);
                    break;
                }
                ck_assert_int_eq(rc, SS_ENOMEM);
                ck_assert(!net && !q);
                ck_assert(e.text[0] != 0);
                ck_assert_uint_eq(ss_mem_used(), before);
            }
    ck_assert_uint_eq(ss_mem_used(), before);
    ss_model_free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_i8");
    TCase *c = tcase_create("net_i8");
    tcase_set_timeout(c, 200);
    tcase_add_loop_test(c, cut_and_finished_equals_whole_quarter, 0, 2);
    tcase_add_loop_test(c, cut_and_finished_equals_whole_full, 0, 2);
    tcase_add_loop_test(c, odd_sizes, 0, 2);
    tcase_add_loop_test(c, batch_and_threads_change_no_bit, 0, 2);
    tcase_add_loop_test(c, near_f32, 0, 2);
    tcase_add_loop_test(c, any_input, 0, 2);
    tcase_add_test(c, model_is_not_needed_after_opening);
    tcase_add_test(c, same_cut_converts);
    tcase_add_test(c, refusals);
    tcase_add_test(c, calibration_is_kept);
    tcase_add_test(c, damaged_text);
    tcase_add_test(c, allocation_fails);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
