#include "nn/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "kernels/kernels.h"
#include "unit.h"

enum { WINDOWS = 3, MANY = 11 };

static size_t volume(const ss_model_config *c, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(c, cut, d);
    return (size_t)d[0] * d[1] * d[2];
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
    return m;
}

static float *windows(const ss_model *m, int n)
{
    size_t k = (size_t)n * volume(&m->config, SS_CUT_INPUT);
    float *x = malloc(k * sizeof *x);
    ss_rng r = ss_rng_make(1, 0);
    ss_rng_fill_normal(&r, x, k);
    for (size_t i = 0; i < k; i++)
        x[i] = 5.0f * x[i] - 4.5f;
    return x;
}

static float *run_as(ss_weights weights, const ss_model *m, ss_pool *pool, int from, int until, int max_batch,
                     int n, const float *in)
{
    ss_net *net;
    float *out = malloc((size_t)n * volume(&m->config, until) * sizeof *out);
    ck_assert_int_eq(ss_net_open(&net, m, pool, weights, from, until, max_batch, NULL), SS_OK);
    ck_assert_int_eq(ss_net_run(net, n, in, out), SS_OK);
    ss_net_close(&net);
    ck_assert_ptr_null(net);
    return out;
}

static float *run(const ss_model *m, ss_pool *pool, int from, int until, int max_batch, int n,
                  const float *in)
{
    return run_as(SS_WEIGHTS_F32, m, pool, from, until, max_batch, n, in);
}

static void same(const float *a, const float *b, size_t n, const char *what, int cut)
{
    if (memcmp(a, b, n * sizeof *a))
        ck_abort_msg("%s at cut %s: other bits", what, ss_cut_name(cut));
}

/* By induction over the cuts: running one block further, and from there to the end, gives the bits of running
 * straight. Batches of all sizes and threads are mixed in. */
static void check_cuts(int width, ss_norm norm, int mels, int frames)
{
    ss_model *m = model_of(width, norm, mels, frames);
    ss_pool *pool;
    ck_assert_int_eq(ss_pool_open(&pool, 2, NULL), SS_OK);
    const ss_model_config *c = &m->config;
    float *x = windows(m, WINDOWS),
          *whole = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, WINDOWS, WINDOWS, x);
    float *at = x;
    for (int cut = SS_CUT_BLOCK0; cut <= SS_CUT_EMBEDDING; cut++) {
        size_t size = WINDOWS * volume(c, cut);
        float *straight = run(m, NULL, SS_CUT_INPUT, cut, 1, WINDOWS, x);
        float *step = run(m, pool, cut - 1, cut, WINDOWS, WINDOWS, at);
        float *rest = run(m, pool, cut, SS_CUT_EMBEDDING, 1, WINDOWS, straight);
        same(straight, step, size, "block by block", cut);
        same(rest, whole, WINDOWS * volume(c, SS_CUT_EMBEDDING), "cut and finished", cut);
        free(straight);
        free(rest);
        free(at == x ? NULL : at);
        at = step;
    }
    same(at, whole, WINDOWS * volume(c, SS_CUT_EMBEDDING), "all cuts", SS_CUT_EMBEDDING);
    free(at);
    free(whole);
    free(x);
    ss_pool_close(&pool);
    ss_model_free(m);
}

START_TEST(cut_and_finished_equals_whole_quarter)
{
    check_cuts(16, (ss_norm)_i, 64, 96);
}
END_TEST

START_TEST(cut_and_finished_equals_whole_half)
{
    check_cuts(32, (ss_norm)_i, 40, 64);
}
END_TEST

START_TEST(cut_and_finished_equals_whole_full)
{
    check_cuts(64, (ss_norm)_i, 32, 40);
}
END_TEST

START_TEST(odd_sizes)
{
    check_cuts(8, (ss_norm)_i, 9, 37);
}
END_TEST

START_TEST(batch_and_threads_change_no_bit)
{
    ss_model *m = model_of(16, (ss_norm)_i, 64, 96);
    const ss_model_config *c = &m->config;
    size_t in = volume(c, SS_CUT_INPUT);
    float *x = windows(m, MANY);
    for (int until = 4; until <= SS_CUT_EMBEDDING; until += 6) {
        size_t size = volume(c, until);
        float *all = run(m, NULL, SS_CUT_INPUT, until, MANY, MANY, x);
        for (int i = 0; i < MANY; i += 5) {
            float *one = run(m, NULL, SS_CUT_INPUT, until, 1, 1, x + (size_t)i * in);
            same(one, all + (size_t)i * size, size, "batch 1", until);
            free(one);
        }
        for (int threads = 2; threads <= 3; threads++) {
            ss_pool *pool;
            ck_assert_int_eq(ss_pool_open(&pool, threads, NULL), SS_OK);
            for (int batch = 1; batch <= MANY; batch += MANY - 1) {
                float *z = run(m, pool, SS_CUT_INPUT, until, batch, MANY, x);
                same(z, all, MANY * size, "threads", until);
                free(z);
            }
            ss_pool_close(&pool);
        }
        free(all);
    }
    free(x);
    ss_model_free(m);
}
END_TEST

/* Weights that f16 holds exactly give the bits of f32; others an embedding close by; too large ones are
 * refused. */
START_TEST(weights_in_f16)
{
    ss_model *m = model_of(_i, SS_NORM_BATCH, 64, 96);
    ss_pool *pool;
    ck_assert_int_eq(ss_pool_open(&pool, 2, NULL), SS_OK);
    float *x = windows(m, WINDOWS);
    size_t n = WINDOWS * volume(&m->config, SS_CUT_EMBEDDING);
    float *f32 = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, WINDOWS, x),
          *f16 = run_as(SS_WEIGHTS_F16, m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, WINDOWS, x);
    ck_assert(memcmp(f32, f16, n * sizeof *f32) != 0);
    for (int i = 0; i < WINDOWS; i++)
        ck_assert_double_gt(ss_dot(n / WINDOWS, f32 + (size_t)i * n / WINDOWS, f16 + (size_t)i * n / WINDOWS),
                            0.99999);
    for (int cut = SS_CUT_BLOCK0; cut < SS_CUT_EMBEDDING; cut++) {
        float *half = run_as(SS_WEIGHTS_F16, m, pool, SS_CUT_INPUT, cut, WINDOWS, WINDOWS, x),
              *z = run_as(SS_WEIGHTS_F16, m, NULL, cut, SS_CUT_EMBEDDING, 2, WINDOWS, half);
        same(z, f16, n, "f16, cut and finished", cut);
        free(half);
        free(z);
    }
    free(f32);
    free(f16);
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        float *v = m->value + p->offset;
        uint16_t half;
        const char *part = strrchr(p->name, '.');
        for (size_t j = 0; j < p->count; j++) {
            ss_f16_from_f32(1, v + j, &half);
            if (p->rank > 1)
                ss_f32_from_f16(1, &half, v + j);
            else if (!strcmp(part, ".running_var"))
                v[j] = 1.0f - SS_NORM_EPS;
            else if (!strcmp(part, ".weight"))
                v[j] = 1.0f; /* halves of the smallest f16 are none */
        }
    }
    ck_assert(1.0f - SS_NORM_EPS + SS_NORM_EPS == 1.0f);
    f32 = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, WINDOWS, x);
    f16 = run_as(SS_WEIGHTS_F16, m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, WINDOWS, x);
    same(f32, f16, n, "weights that f16 holds", SS_CUT_EMBEDDING);
    ss_net *whole, *half;
    ck_assert_int_eq(ss_net_open(&whole, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ck_assert_int_eq(ss_net_open(&half, m, NULL, SS_WEIGHTS_F16, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ck_assert_uint_lt(ss_net_memory(half), ss_net_memory(whole) * 3 / 4);
    ss_net_close(&whole);
    ss_net_close(&half);
    free(f32);
    free(f16);
    ss_err e;
    ss_model_values(m, "layer2.1.conv1.weight")[7] = 1e6f;
    ck_assert_int_eq(ss_net_open(&half, m, pool, SS_WEIGHTS_F16, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, &e),
                     SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "layer2.1.conv1.weight"));
    ck_assert_int_eq(ss_net_open(&half, m, pool, SS_WEIGHTS_F16, SS_CUT_INPUT, 2, 1, &e), SS_OK);
    ss_net_close(&half);
    free(x);
    ss_pool_close(&pool);
    ss_model_free(m);
}
END_TEST

START_TEST(embedding_has_length_one)
{
    ss_model *m = model_of(16, (ss_norm)_i, 64, 96);
    float *x = windows(m, 2);
    for (size_t i = 0; i < 64 * 96; i++)
        x[i] = -13.8155f; /* digital silence */
    float *z = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, 2, x);
    for (int k = 0; k < 2; k++) {
        double sum = 0;
        for (int i = 0; i < 128; i++)
            sum += (double)z[128 * k + i] * (double)z[128 * k + i];
        ck_assert_double_eq_tol(sum, 1, 1e-6);
    }
    free(z);
    memset(ss_model_values(m, "fc.weight"), 0, 128 * 128 * sizeof(float));
    memset(ss_model_values(m, "fc.bias"), 0, 128 * sizeof(float));
    z = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, 2, x);
    for (int i = 0; i < 256; i++)
        ck_assert(z[i] == 0);
    free(z);
    free(x);
    ss_model_free(m);
}
END_TEST

START_TEST(model_is_not_needed_after_opening)
{
    ss_model *m = model_of(16, SS_NORM_GROUP, 64, 96);
    float *x = windows(m, 1), *z = run(m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, 1, x), again[128];
    ss_net *net;
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ss_model_free(m);
    ck_assert_int_eq(ss_net_run(net, 1, x, again), SS_OK);
    ck_assert_mem_eq(z, again, sizeof again);
    ss_net_close(&net);
    free(x);
    free(z);
}
END_TEST

START_TEST(only_what_is_needed_is_packed)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96);
    ss_net *part, *whole;
    ck_assert_int_eq(ss_net_open(&part, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_BLOCK0 + 3, 1, NULL),
                     SS_OK);
    ck_assert_int_eq(ss_net_open(&whole, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ck_assert_uint_lt(ss_net_memory(part), ss_net_memory(whole) / 3);
    ck_assert_uint_lt(ss_net_memory(whole), 5 * m->ntrainable + (1 << 20));
    ss_net_close(&part);
    ss_net_close(&whole);
    ss_net_close(&whole);
    ss_model_free(m);
}
END_TEST

START_TEST(same_cut_copies)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96);
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut += 5) {
        float *x = windows(m, 2), *y = run(m, NULL, cut, cut, 2, 2, x);
        same(x, y, 2 * volume(&m->config, cut), "copy", cut);
        free(x);
        free(y);
    }
    ss_model_free(m);
}
END_TEST

START_TEST(refusals)
{
    ss_model *m = model_of(16, SS_NORM_WEIGHT, 64, 96);
    ss_net *net;
    ss_err e;
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 4, 3, 1, &e), SS_EINVAL);
    ck_assert_ptr_null(net);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, -1, 3, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 0, 11, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 0, 3, 0, &e), SS_EINVAL);
    strcpy(m->param[4].name, "other");
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 0, 10, 1, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "layer1.0.bn1.weight"));
    ss_model_free(m);
}
END_TEST

START_TEST(allocation_fails)
{
    ss_model *m = model_of(8, (ss_norm)_i, 16, 24);
    size_t before = ss_mem_used();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_net *net;
            ss_err e;
            fail_alloc_from(n, forever);
            int rc = ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, &e);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(rc, SS_OK);
                ss_net_close(&net);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
            ck_assert_ptr_null(net);
            ck_assert(e.text[0] != 0);
            ck_assert_uint_eq(ss_mem_used(), before);
        }
    ck_assert_uint_eq(ss_mem_used(), before);
    ss_model_free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net");
    TCase *c = tcase_create("net");
    tcase_set_timeout(c, 100);
    tcase_add_loop_test(c, cut_and_finished_equals_whole_quarter, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, cut_and_finished_equals_whole_half, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, cut_and_finished_equals_whole_full, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, odd_sizes, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, batch_and_threads_change_no_bit, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, embedding_has_length_one, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_loop_test(c, weights_in_f16, 16, 17);
    tcase_add_loop_test(c, weights_in_f16, 64, 65);
    tcase_add_test(c, model_is_not_needed_after_opening);
    tcase_add_test(c, only_what_is_needed_is_packed);
    tcase_add_test(c, same_cut_copies);
    tcase_add_loop_test(c, allocation_fails, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_test(c, refusals);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
