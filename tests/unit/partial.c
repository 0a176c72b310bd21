/* Networks out of model files of which they read what they need. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "failalloc.h"
#include "faults.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "nn/backprop.h"
#include "nn/net.h"
#include "nn/net_i8.h"
#include "nn/quant.h"
#include "scratch.h"
#include "unit.h"

static size_t volume(const ss_model_config *c, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(c, cut, d);
    return (size_t)d[0] * d[1] * d[2];
}

/* Saved as "m"; gains, biases and statistics are not the neutral ones. A width that fills no panel. */
static ss_model *saved(ss_norm norm)
{
    ss_model_config c;
    ss_model *m;
    ss_model_config_default(&c);
    c.width = 24;
    c.dim = 18;
    c.mels = 16;
    c.frames = 24;
    c.norm = norm;
    ck_assert_int_eq(ss_model_create(&m, &c, 3, NULL), SS_OK);
    ss_rng r = ss_rng_make(8, 0);
    for (int i = 0; i < m->nparam; i++)
        for (size_t j = 0; m->param[i].rank == 1 && j < m->param[i].count; j++)
            m->value[m->param[i].offset + j] += 0.2f * (ss_rng_uniform(&r) - 0.5f);
    ck_assert_int_eq(ss_model_save(m, "m", NULL), SS_OK);
    return m;
}

static float *noise(size_t n)
{
    float *x = malloc(n * sizeof *x);
    ss_rng r = ss_rng_make(1, 0);
    ss_rng_fill_normal(&r, x, n);
    return x;
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    char *p = malloc(1 << 24);
    *n = fread(p, 1, 1 << 24, f);
    fclose(f);
    return p;
}

static void spill(const char *path, const char *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void flip(const char *path, uint64_t byte)
{
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    fseek(f, (long)byte, SEEK_SET);
    int c = fgetc(f);
    fseek(f, (long)byte, SEEK_SET);
    fputc(c ^ 16, f);
    fclose(f);
}

START_TEST(same_bits_as_from_memory)
{
    scratch_enter("partial", false);
    ss_model *whole = saved((ss_norm)_i), *m;
    const ss_model_config *c = &whole->config;
    ss_err e;
    ss_pool *pool;
    ck_assert_int_eq(ss_pool_open(&pool, 3, NULL), SS_OK);
    ck_assert_msg(ss_model_open(&m, "m", &e) == SS_OK, "%s", e.text);
    ck_assert_ptr_null(m->value);
    ck_assert_ptr_null(ss_model_values(m, "conv1.weight"));
    ck_assert_ptr_nonnull(ss_model_find(m, "conv1.weight"));
    ss_net *wide;
    ck_assert_int_eq(ss_net_open(&wide, m, pool, SS_WEIGHTS_F32, 5, 6, 2, &e), SS_OK);
    for (int from = SS_CUT_EMBEDDING; from >= SS_CUT_INPUT; from--)
        for (int until = from; until <= SS_CUT_EMBEDDING; until++) {
            ss_net *a, *b;
            size_t n = volume(c, until);
            float *x = noise(volume(c, from)), *y = malloc(n * sizeof *y), *z = malloc(n * sizeof *z);
            ck_assert_int_eq(ss_net_open(&a, whole, NULL, SS_WEIGHTS_F32, from, until, 1, &e), SS_OK);
            ck_assert_msg(ss_net_open(&b, m, until % 2 ? pool : NULL, SS_WEIGHTS_F32, from, until, 1, &e) ==
                              SS_OK,
                          "%s", e.text);
            ck_assert_int_eq(ss_net_run(a, 1, x, y), SS_OK);
            ck_assert_int_eq(ss_net_run(b, 1, x, z), SS_OK);
            ck_assert_mem_eq(y, z, n * sizeof *y);
            ss_net_close(&a);
            ss_net_close(&b);
            ck_assert_msg(ss_net_widen(wide, m, from, until, &e) == SS_OK, "%s", e.text);
            ck_assert_int_eq(ss_net_run_between(wide, from, until, 1, x, z), SS_OK);
            ck_assert_mem_eq(y, z, n * sizeof *y);
            free(x);
            free(y);
            free(z);
        }
    /* What was made ready bit by bit is no larger than what is made ready at once, but for alignment. */
    ss_net *at_once;
    ck_assert_int_eq(ss_net_open(&at_once, m, pool, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 2, &e),
                     SS_OK);
    ck_assert_uint_eq(ss_net_memory(wide), ss_net_memory(at_once));
    ss_net_close(&at_once);
    ss_net_close(&wide);
    /* All of it is what was saved; then the file is no longer needed. */
    ck_assert_int_eq(ss_model_fill(m, &e), SS_OK);
    ck_assert_ptr_null(m->file);
    ck_assert_mem_eq(m->value, whole->value, m->nvalue * sizeof *m->value);
    ck_assert_int_eq(ss_model_fill(m, &e), SS_OK);
    ss_model_free(m);
    ss_model_free(whole);
    ss_pool_close(&pool);
    scratch_leave();
}
END_TEST

START_TEST(what_is_not_ready_does_not_run)
{
    scratch_enter("partial", false);
    ss_model *m = saved(SS_NORM_WEIGHT);
    ss_net *net;
    static float x[1 << 16], y[1 << 16];
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 2, 4, 1, NULL), SS_OK);
    ck_assert_int_eq(ss_net_run_between(net, 2, 3, 1, x, y), SS_OK);
    ck_assert_int_eq(ss_net_run_between(net, 3, 3, 1, x, y), SS_OK);
    ck_assert_int_eq(ss_net_run_between(net, 1, 4, 1, x, y), SS_EINVAL);
    ck_assert_int_eq(ss_net_run_between(net, 3, 5, 1, x, y), SS_EINVAL);
    ck_assert_int_eq(ss_net_run_between(net, 9, 10, 1, x, y), SS_EINVAL);
    ck_assert_int_eq(ss_net_run_between(net, 4, 2, 1, x, y), SS_EINVAL);
    ck_assert_int_eq(ss_net_widen(net, m, 4, 2, NULL), SS_EINVAL);
    ck_assert_int_eq(ss_net_widen(net, m, 3, 11, NULL), SS_EINVAL);
    ss_net_close(&net);
    ss_model_free(m);
    scratch_leave();
}
END_TEST

/* First and last unit cut that need a tensor, from its name: it is read between them. */
static void cuts_of(const char *name, int *from, int *until)
{
    int stage, block;
    if (sscanf(name, "layer%d.%d", &stage, &block) == 2) {
        *from = SS_CUT_BLOCK0 + 2 * (stage - 1) + block;
        *until = *from + 1;
    } else {
        *from = name[0] == 'f' ? SS_CUT_BLOCK0 + SS_BLOCKS : SS_CUT_INPUT;
        *until = name[0] == 'f' ? SS_CUT_EMBEDDING : SS_CUT_BLOCK0;
    }
}

static void check_damage(const ss_model *whole, int damaged, uint64_t byte)
{
    const ss_param *p = &whole->param[damaged];
    ss_model *m, *l;
    ss_net *net;
    ss_err e;
    int first, last;
    cuts_of(p->name, &first, &last);
    flip("m", byte);
    ck_assert_int_eq(ss_model_load(&l, "m", &e), SS_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(e.text, p->name));
    ck_assert_msg(ss_model_open(&m, "m", &e) == SS_OK, "%s: %s", p->name, e.text);
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++)
        for (int side = 0; side < 2; side++) {
            int from = side ? cut : SS_CUT_INPUT, until = side ? SS_CUT_EMBEDDING : cut;
            bool needed = from <= first && last <= until;
            int rc = ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, from, until, 1, &e);
            ck_assert_msg(rc == (needed ? SS_EDAMAGED : SS_OK), "%s from %d to %d: %d", p->name, from, until,
                          rc);
            if (needed)
                ck_assert_msg(strstr(e.text, p->name) && strstr(e.text, "'m'"), "%s", e.text);
            ss_net_close(&net);
        }
    ss_model_free(m);
    flip("m", byte);
}

/* A flip in each tensor, at its begin, in the middle and at its end: who reads it finds it, nobody else does.
 */
START_TEST(damage_where_it_is_needed)
{
    scratch_enter("partial", false);
    ss_model *whole = saved((ss_norm)_i);
    ss_st *s;
    ss_err e;
    ck_assert_int_eq(ss_st_open(&s, "m", &e), SS_OK);
    for (int i = 0; i < whole->nparam; i++) {
        const ss_st_tensor *t = ss_st_find(s, whole->param[i].name);
        check_damage(whole, i, t->offset + (uint64_t)(i % 3) * (t->size - 1) / 2);
    }
    ss_st_close(&s);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

/* In eight bits, out of the file and out of memory. */
START_TEST(int8)
{
    scratch_enter("partial", false);
    ss_model *whole = saved((ss_norm)_i), *m;
    const ss_model_config *c = &whole->config;
    const int cut = SS_CUT_BLOCK0 + 3;
    ss_err e;
    ss_quant *q;
    float *x = noise(volume(c, SS_CUT_INPUT)), *y = malloc(volume(c, cut) * sizeof *y), z[2][18];
    float *half = malloc(volume(c, cut) * sizeof *half);
    ck_assert_int_eq(ss_quant_open(&q, whole, NULL, &e), SS_OK);
    ss_quant_add(q, x);
    ck_assert_int_eq(ss_quant_finish(q, SS_QUANT_MAX, whole, &e), SS_OK);
    ss_quant_close(&q);
    ck_assert_int_eq(ss_model_save(whole, "m", &e), SS_OK);
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    for (int file = 0; file < 2; file++) {
        ss_net_i8 *front, *tail;
        const ss_model *from = file ? m : whole;
        float *to = file ? half : y;
        ck_assert_msg(ss_net_i8_open(&front, from, NULL, SS_CUT_INPUT, cut, 1, &e) == SS_OK, "%s", e.text);
        ck_assert_msg(ss_net_i8_open(&tail, from, NULL, cut, SS_CUT_EMBEDDING, 1, &e) == SS_OK, "%s", e.text);
        ck_assert_int_eq(ss_net_i8_run(front, 1, SS_DTYPE_F32, x, SS_DTYPE_F32, to), SS_OK);
        ck_assert_int_eq(ss_net_i8_run(tail, 1, SS_DTYPE_F32, to, SS_DTYPE_F32, z[file]), SS_OK);
        ss_net_i8_close(&front);
        ss_net_i8_close(&tail);
    }
    ck_assert_mem_eq(y, half, volume(c, cut) * sizeof *y);
    ck_assert_mem_eq(z[0], z[1], sizeof z[0]);
    ss_model_free(m);
    static const char *const hit[] = {"layer3.0.downsample.0.weight", "layer3.0.bn1.bias", "fc.weight",
                                      "fc.bias"};
    for (size_t i = 0; i < sizeof hit / sizeof *hit; i++) {
        ss_st *s;
        ss_net_i8 *net;
        ck_assert_int_eq(ss_st_open(&s, "m", &e), SS_OK);
        uint64_t at = ss_st_find(s, hit[i])->offset;
        ss_st_close(&s);
        flip("m", at);
        ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
        ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, cut, SS_CUT_EMBEDDING, 1, &e), SS_EDAMAGED);
        ck_assert_ptr_nonnull(strstr(e.text, hit[i]));
        ck_assert_int_eq(ss_net_i8_open(&net, m, NULL, SS_CUT_INPUT, cut, 1, &e), SS_OK);
        ss_net_i8_close(&net);
        ss_model_free(m);
        flip("m", at);
    }
    free(x);
    free(y);
    free(half);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

/* The values are wanted for the way back only. */
START_TEST(training)
{
    scratch_enter("partial", false);
    ss_model *whole = saved((ss_norm)_i), *m;
    ss_err e;
    float *x = noise(2 * volume(&whole->config, SS_CUT_INPUT)), z[2][36], dz[36];
    float *grad[2];
    ss_backprop *b[2];
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    ck_assert_int_eq(ss_backprop_open(&b[0], whole, NULL, SS_CUT_INPUT, 2, &e), SS_OK);
    ck_assert_msg(ss_backprop_open(&b[1], m, NULL, SS_CUT_INPUT, 2, &e) == SS_OK, "%s", e.text);
    for (int k = 0; k < 36; k++)
        dz[k] = (float)(k % 5) - 2;
    for (int k = 0; k < 2; k++) {
        grad[k] = calloc(whole->ntrainable, sizeof(float));
        ck_assert_int_eq(ss_backprop_forward(b[k], 2, x, z[k], 1), SS_OK);
    }
    ck_assert_mem_eq(z[0], z[1], sizeof z[0]);
    ck_assert_int_eq(ss_backprop_backward(b[1], dz, grad[1], NULL), SS_EINVAL);
    ck_assert_int_eq(ss_model_fill(m, &e), SS_OK);
    for (int k = 0; k < 2; k++)
        ck_assert_int_eq(ss_backprop_backward(b[k], dz, grad[k], NULL), SS_OK);
    ck_assert_mem_eq(grad[0], grad[1], whole->ntrainable * sizeof(float));
    for (int k = 0; k < 2; k++) {
        ss_backprop_close(&b[k]);
        free(grad[k]);
    }
    ss_model_free(m);
    flip("m", 20000);
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    ck_assert_int_eq(ss_backprop_open(&b[0], m, NULL, SS_CUT_INPUT, 2, &e), SS_EDAMAGED);
    ck_assert_ptr_null(b[0]);
    ss_model_free(m);
    free(x);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

START_TEST(a_file_that_changes_while_it_is_open)
{
    scratch_enter("partial", false);
    ss_model *whole = saved(SS_NORM_BATCH), *m;
    ss_net *net;
    ss_err e;
    size_t n, size = volume(&whole->config, 3);
    float *x = noise(volume(&whole->config, SS_CUT_INPUT)), *y = malloc(size * 4), *z = malloc(size * 4);
    char *p = slurp("m", &n);
    /* replaced by name: what was opened is read on */
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, 2, 1, &e), SS_OK);
    spill("new", p, n / 2);
    ck_assert_int_eq(rename("new", "m"), 0);
    ck_assert_int_eq(ss_net_widen(net, m, SS_CUT_INPUT, 3, &e), SS_OK);
    ck_assert_int_eq(ss_net_run_between(net, SS_CUT_INPUT, 3, 1, x, y), SS_OK);
    ss_net_close(&net);
    ss_model_free(m);
    /* cut off in place: an error, and what is ready stays so */
    spill("m", p, n);
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, 3, 1, &e), SS_OK);
    ck_assert_int_eq(truncate("m", (off_t)n / 2), 0);
    ck_assert_int_eq(ss_net_widen(net, m, 3, SS_CUT_EMBEDDING, &e), SS_ETRUNC);
    ck_assert_ptr_nonnull(strstr(e.text, "'m'"));
    ck_assert_int_eq(ss_net_run_between(net, 3, SS_CUT_EMBEDDING, 1, x, z), SS_EINVAL);
    ck_assert_int_eq(ss_net_run_between(net, SS_CUT_INPUT, 3, 1, x, z), SS_OK);
    ck_assert_mem_eq(y, z, size * 4);
    ss_net_close(&net);
    ss_model_free(m);
    /* another model written over it */
    spill("m", p, n);
    ck_assert_int_eq(ss_model_open(&m, "m", &e), SS_OK);
    whole->value[ss_model_find(whole, "layer4.0.conv1.weight")->offset + 5] += 1;
    ck_assert_int_eq(ss_model_save(whole, "other", &e), SS_OK);
    char *q = slurp("other", &n);
    spill("m", q, n);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, 5, 8, 1, &e), SS_EDAMAGED);
    ck_assert_ptr_null(net);
    ss_model_free(m);
    free(p);
    free(q);
    free(x);
    free(y);
    free(z);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

/* Whole by its checksums, and no model to run. */
START_TEST(not_finite)
{
    scratch_enter("partial", false);
    ss_model *whole = saved(SS_NORM_WEIGHT), *m;
    ss_st *s;
    ss_err e;
    ss_net *net;
    ck_assert_int_eq(ss_st_open(&s, "m", &e), SS_OK);
    ss_st_array a[80];
    ss_st_meta meta[16];
    int n = 0, nmeta = 0;
    for (const ss_st_meta *k; (k = ss_st_meta_at(s, n)); n++)
        if (strcmp(k->key, "streamsplit.checksums") && strcmp(k->key, "streamsplit.digest"))
            meta[nmeta++] = *k;
    for (n = 0; n < whole->nparam; n++) {
        const ss_param *p = &whole->param[n];
        a[n] = (ss_st_array){p->name, SS_DTYPE_F32, p->rank, {0}, whole->value + p->offset};
        for (int k = 0; k < p->rank; k++)
            a[n].dim[k] = p->dim[k];
    }
    const ss_param *p = ss_model_find(whole, "layer2.1.conv1.weight");
    whole->value[p->offset + p->count - 2] = -INFINITY;
    ck_assert_int_eq(ss_st_write("wild", 0, a, n, meta, nmeta, &e), SS_OK);
    ck_assert_int_eq(ss_model_load(&m, "wild", &e), SS_EUNFIT);
    char text[160];
    snprintf(text, sizeof text, "cannot load 'wild': value %zu of tensor '%s' is not finite", p->count - 2,
             p->name);
    ck_assert_str_eq(e.text, text);
    ck_assert_int_eq(ss_model_open(&m, "wild", &e), SS_OK);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, &e),
                     SS_EUNFIT);
    ck_assert_str_eq(e.text, text);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, 4, 1, &e), SS_OK);
    ss_net_close(&net);
    ss_model_free(m);
    ss_st_close(&s);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

/* The same file as version 0.1.0 wrote it: without checksums, and the header's own made anew. */
START_TEST(old_files)
{
    scratch_enter("partial", false);
    ss_model *whole = saved(SS_NORM_GROUP), *m;
    ss_net *net;
    ss_err e;
    size_t n;
    uint64_t length;
    char *p = slurp("m", &n), hex[9];
    memcpy(&length, p, 8);
    char *from = memmem(p, 8 + length, ",\"streamsplit.checksums\":\"", 26), *to = strchr(from + 26, '"') + 1;
    memmove(from, to, (size_t)(p + n - to));
    n -= (size_t)(to - from);
    length -= (uint64_t)(to - from);
    memcpy(p, &length, 8);
    char *digest = (char *)memmem(p, 8 + length, "\"streamsplit.digest\":\"", 22) + 22, kept[16];
    memcpy(kept, digest, 16);
    memset(digest, '0', 16);
    snprintf(hex, sizeof hex, "%08x", ss_crc32c_table(0, p, 8 + length));
    memcpy(digest, kept, 16);
    memcpy(digest, hex, 8);
    spill("old", p, n);
    ck_assert_msg(ss_model_load(&m, "old", &e) == SS_OK, "%s", e.text);
    ck_assert_mem_eq(m->value, whole->value, m->nvalue * sizeof *m->value);
    ss_model_free(m);
    ck_assert_int_eq(ss_model_open(&m, "old", &e), SS_OK);
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, 4, 1, &e), SS_OK);
    /* changed behind the check */
    flip("old", n - 1);
    ck_assert_int_eq(ss_net_widen(net, m, 4, SS_CUT_EMBEDDING, &e), SS_EDAMAGED);
    ss_net_close(&net);
    ss_model_free(m);
    ck_assert_int_eq(ss_model_open(&m, "old", &e), SS_EDAMAGED);
    ck_assert_msg(strstr(e.text, "'old'") && strstr(e.text, "digest of the data differs"), "%s", e.text);
    free(p);
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

START_TEST(failing_calls_and_allocations)
{
    scratch_enter("partial", false);
    ss_model *whole = saved(SS_NORM_BATCH), *m;
    ss_err e;
    fail_alloc_cjson();
    size_t before = ss_mem_used();
    for (int kind = 0; kind < 2; kind++)
        for (long n = 1;; n++) {
            ss_net *net = NULL;
            if (kind)
                fail_call_from(n, false, EIO);
            else
                fail_alloc_from(n, false);
            int rc = ss_model_open(&m, "m", &e);
            if (rc == SS_OK)
                rc = ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, 3, 1, &e);
            bool failed = kind ? fail_call_done() : fail_alloc_done();
            ck_assert_int_eq(rc, !failed ? SS_OK : kind ? SS_EIO : SS_ENOMEM);
            ss_net_close(&net);
            ss_model_free(m);
            ck_assert_uint_eq(ss_mem_used(), before);
            if (!failed)
                break;
        }
    ss_model_free(whole);
    scratch_leave();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("partial");
    TCase *c = tcase_create("partial");
    tcase_set_timeout(c, 200);
    tcase_add_loop_test(c, same_bits_as_from_memory, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_test(c, what_is_not_ready_does_not_run);
    tcase_add_loop_test(c, damage_where_it_is_needed, SS_NORM_BATCH, SS_NORM_GROUP + 1);
    for (int i = SS_NORM_BATCH; i <= SS_NORM_WEIGHT;
         i += SS_NORM_WEIGHT - SS_NORM_BATCH) /* group norm does not fold */
        tcase_add_loop_test(c, int8, i, i + 1);
    tcase_add_loop_test(c, training, SS_NORM_BATCH, SS_NORM_WEIGHT + 1);
    tcase_add_test(c, a_file_that_changes_while_it_is_open);
    tcase_add_test(c, not_finite);
    tcase_add_test(c, old_files);
    tcase_add_test(c, failing_calls_and_allocations);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
