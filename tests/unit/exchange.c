#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "nn/exchange.h"
#include "nn/net.h"
#include "scratch.h"
#include "unit.h"

/* A model as training leaves it: no gain 1, no bias 0. */
static ss_model *create(ss_norm norm)
{
    ss_model_config c;
    ss_model *m;
    ss_rng r = ss_rng_make(3, 3);
    ss_model_config_default(&c);
    c.norm = norm;
    ck_assert_int_eq(ss_model_create(&m, &c, 1, NULL), SS_OK);
    for (int i = 0; i < m->nparam; i++)
        if (m->param[i].rank == 1)
            for (size_t k = 0; k < m->param[i].count; k++)
                m->value[m->param[i].offset + k] += 0.3f * ss_rng_uniform(&r);
    return m;
}

static void embed(const ss_model *m, float z[128])
{
    static float x[64 * 96];
    ss_net *net;
    ss_rng r = ss_rng_make(4, 4);
    ss_rng_fill_normal(&r, x, 64 * 96);
    for (int i = 0; i < 64 * 96; i++)
        x[i] = x[i] * 5.66f - 4.45f;
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    ck_assert_int_eq(ss_net_run(net, 1, x, z), SS_OK);
    ss_net_close(&net);
}

START_TEST(exported_runs_as_batch_norm)
{
    static const ss_norm norms[] = {SS_NORM_BATCH, SS_NORM_WEIGHT};
    scratch_enter("exchange", false);
    for (int i = 0; i < 2; i++) {
        ss_err e;
        ss_import_note note;
        float a[128], b[128];
        ss_model *m = create(norms[i]), *back;
        ck_assert_msg(ss_model_export(m, "x", &e) == SS_OK, "%s", e.text);
        ck_assert_msg(ss_model_import(&back, "x", &m->config, 9, &note, &e) == SS_OK, "%s", e.text);
        ck_assert_int_eq(note.channels, 1);
        ck_assert_int_eq(note.fresh_fc, 0);
        ck_assert_int_eq((int)back->config.norm, SS_NORM_BATCH);
        embed(m, a);
        embed(back, b);
        for (int k = 0; k < 128; k++)
            ck_assert_float_eq_tol(a[k], b[k], 1e-6);
        if (norms[i] == SS_NORM_BATCH) {
            ck_assert_uint_eq(m->nvalue, back->nvalue);
            ck_assert_mem_eq(m->value, back->value, m->nvalue * sizeof(float));
        } else {
            float v = ss_model_values(back, "bn1.running_var")[0];
            ck_assert_float_eq(sqrtf(v + SS_NORM_EPS), 1);
        }
        ss_model_free(m);
        ss_model_free(back);
    }
    scratch_leave();
}
END_TEST

START_TEST(group_norm_is_exported_standardised)
{
    ss_err e;
    ss_st *s;
    ss_model *m = create(SS_NORM_GROUP), *back;
    scratch_enter("exchange", false);
    ck_assert_int_eq(ss_model_export(m, "x", &e), SS_OK);
    ck_assert_int_eq(ss_st_open(&s, "x", &e), SS_OK);
    ck_assert_str_eq(ss_st_meta_value(s, "norm"), "group");
    ck_assert_str_eq(ss_st_meta_value(s, "format"), "pt");
    ck_assert_int_eq(ss_st_count(s), 62);
    const ss_st_tensor *t = ss_st_find(s, "layer2.0.conv1.weight");
    float *w = malloc(t->size), gain[32];
    ck_assert_int_eq(ss_st_read_f32(s, t, w, &e), SS_OK);
    double sum = 0, square = 0;
    for (int i = 0; i < 16 * 9; i++) {
        sum += w[i];
        square += (double)w[i] * w[i];
    }
    ck_assert_double_eq_tol(sum, 0, 1e-5);
    ck_assert_double_eq_tol(square, 1, 1e-3);
    free(w);
    ck_assert_int_eq(ss_st_read_f32(s, ss_st_find(s, "layer2.0.bn1.weight"), gain, &e), SS_OK);
    ck_assert_mem_eq(gain, ss_model_values(m, "layer2.0.bn1.weight"), sizeof gain);
    ss_st_close(&s);
    ck_assert_int_eq(ss_model_import(&back, "x", &m->config, 1, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "40 missing: bn1.running_mean, bn1.running_var, "));
    ck_assert_ptr_nonnull(strstr(e.text, "; 0 unknown"));
    ss_model_free(m);
    scratch_leave();
}
END_TEST

/* A torchvision state dict: three channels, counters, a classifier; one tensor in half precision. */
enum { MOST = 130 };
static ss_st_array dict[MOST];
static char names[MOST][64];
static int ndict;
static float stem[16 * 3 * 49], classifier[10 * 128 + 10];
static uint16_t half[16];
static const int64_t steps = 100;

static void put(const char *name, int dtype, int rank, const uint64_t *dim, const void *data)
{
    snprintf(names[ndict], sizeof names[0], "%s", name);
    dict[ndict] = (ss_st_array){names[ndict], dtype, rank, {0}, data};
    memcpy(dict[ndict++].dim, dim, (size_t)rank * sizeof *dim);
}

static ss_model *make_dict(void)
{
    ss_model *m = create(SS_NORM_BATCH);
    ss_rng r = ss_rng_make(5, 5);
    ndict = 0;
    ss_rng_fill_normal(&r, stem, sizeof stem / sizeof *stem);
    for (int i = 0; i < 16; i++)
        half[i] = ss_f32_to_f16(0.5f + (float)i);
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        uint64_t dim[4] = {p->dim[0], p->dim[1], p->dim[2], p->dim[3]};
        const char *last = strrchr(p->name, '.');
        if (!strcmp(p->name, "conv1.weight"))
            put(p->name, SS_DTYPE_F32, 4, (uint64_t[]){16, 3, 7, 7}, stem);
        else if (!strcmp(p->name, "bn1.running_var"))
            put(p->name, SS_DTYPE_F16, 1, dim, half);
        else if (!strcmp(p->name, "fc.weight"))
            put(p->name, SS_DTYPE_F32, 2, (uint64_t[]){10, 128}, classifier);
        else if (!strcmp(p->name, "fc.bias"))
            put(p->name, SS_DTYPE_F32, 1, (uint64_t[]){10}, classifier + 1280);
        else
            put(p->name, SS_DTYPE_F32, p->rank, dim, m->value + p->offset);
        if (!strcmp(last, ".running_var")) {
            char counter[64];
            snprintf(counter, sizeof counter, "%.*s.num_batches_tracked", (int)(last - p->name), p->name);
            put(counter, SS_DTYPE_I64, 0, dim, &steps);
        }
    }
    return m;
}

static int import_dict(ss_model **m, ss_import_note *note, ss_err *e)
{
    ss_model_config c;
    ss_model_config_default(&c);
    c.mels = 128;
    ck_assert_int_eq(ss_st_write("d", SS_ST_PLAIN, dict, ndict, NULL, 0, e), SS_OK);
    return ss_model_import(m, "d", &c, 7, note, e);
}

static int index_of(const char *name)
{
    int i = 0;
    while (strcmp(dict[i].name, name))
        i++;
    return i;
}

START_TEST(torchvision_state_dict)
{
    ss_err e;
    ss_import_note note;
    ss_model *from = make_dict(), *m, *fresh;
    scratch_enter("exchange", false);
    ck_assert_int_eq(ndict, 122);
    ck_assert_msg(import_dict(&m, &note, &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(note.channels, 3);
    ck_assert_int_eq(note.fresh_fc, 1);
    ck_assert_int_eq(note.converted, 1);
    ck_assert_int_eq(m->config.width, 16);
    ck_assert_int_eq(m->config.mels, 128);
    for (int o = 0; o < 16; o++)
        for (int i = 0; i < 49; i++)
            ck_assert_float_eq(ss_model_values(m, "conv1.weight")[o * 49 + i],
                               stem[(3 * o) * 49 + i] + stem[(3 * o + 1) * 49 + i] +
                                   stem[(3 * o + 2) * 49 + i]);
    ck_assert_float_eq(ss_model_values(m, "bn1.running_var")[3], 3.5f);
    const ss_param *p = ss_model_find(m, "layer4.0.downsample.0.weight");
    ck_assert_mem_eq(m->value + p->offset, ss_model_values(from, p->name), p->count * 4);
    /* The new projection is that of the seed. */
    ck_assert_int_eq(ss_model_create(&fresh, &m->config, 7, &e), SS_OK);
    p = ss_model_find(m, "fc.weight");
    ck_assert_mem_eq(m->value + p->offset, ss_model_values(fresh, "fc.weight"), p->count * 4);
    ss_model_free(fresh);
    ss_model_free(m);
    /* Without a classifier at all. */
    dict[index_of("fc.weight")] = dict[--ndict];
    dict[index_of("fc.bias")] = dict[--ndict];
    ck_assert_msg(import_dict(&m, &note, &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(note.fresh_fc, 1);
    ss_model_free(m);
    ss_model_free(from);
    scratch_leave();
}
END_TEST

START_TEST(others_are_refused)
{
    ss_err e;
    ss_model *from = make_dict(), *m;
    static float bad[128];
    scratch_enter("exchange", false);
    int at = index_of("layer3.1.bn2.bias");
    strcpy(names[at], "layer3.1.bn3.bias");
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_msg(strstr(e.text, "1 missing: layer3.1.bn2.bias; 1 unknown: layer3.1.bn3.bias") != NULL, "%s",
                  e.text);
    strcpy(names[at], "layer3.1.bn2.bias");

    const void *good = dict[at].data;
    bad[60] = NAN;
    dict[at].data = bad;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "value 60 of tensor 'layer3.1.bn2.bias' is nan"));
    dict[at].data = good;

    at = index_of("layer3.1.bn2.running_var");
    bad[60] = -1;
    good = dict[at].data;
    dict[at].data = bad;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "is -1"));
    dict[at].data = good;

    at = index_of("layer1.0.conv1.weight");
    dict[at].dim[2] = 9;
    dict[at].dim[3] = 1;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "F32 [16][16][9][1], expected F32 [16][16][3][3]"));
    dict[at].dim[2] = dict[at].dim[3] = 3;

    dict[at].dtype = SS_DTYPE_I32;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "expected floating point"));
    dict[at].dtype = SS_DTYPE_F32;

    at = index_of("conv1.weight");
    dict[at].dim[0] = 48;
    dict[at].dim[1] = 1;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "for width 48"));
    dict[at].dim[0] = 21;
    dict[at].dim[1] = 2;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    dict[at].rank = 3;
    dict[at].dim[2] = 49;
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    strcpy(names[at], "stem.weight");
    ck_assert_int_eq(import_dict(&m, NULL, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "no tensor 'conv1.weight'"));
    ck_assert_ptr_null(m);
    ss_model_free(from);
    scratch_leave();
}
END_TEST

UNIT_MAIN("exchange", exported_runs_as_batch_norm, group_norm_is_exported_standardised,
          torchvision_state_dict, others_are_refused)
