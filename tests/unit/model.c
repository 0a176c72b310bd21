#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "nn/model.h"
#include "unit.h"

static ss_model *create(int width, ss_norm norm, uint64_t seed)
{
    ss_model_config c;
    ss_model *m;
    ss_err e;
    ss_model_config_default(&c);
    c.width = width;
    c.norm = norm;
    ck_assert_msg(ss_model_create(&m, &c, seed, &e) == SS_OK, "%s", e.text);
    return m;
}

START_TEST(known_counts)
{
    ss_model_config c;
    ss_model_config_default(&c);
    c.width = 64;
    c.dim = 1000;
    /* torchvision's resnet18: 11,689,512 parameters, of which fc 513,000; the first layer here has one
     * channel. */
    ck_assert_uint_eq(ss_model_params(&c, SS_CUT_BLOCK0 + 8), 11689512 - 513000 - 2 * 64 * 49);
    ck_assert_uint_eq(ss_model_params(&c, SS_CUT_EMBEDDING), 11689512 - 2 * 64 * 49);
    /* At 224 x 224 and three channels it takes 1,814,073,344 multiply-adds. */
    c.mels = c.frames = 224;
    ck_assert_uint_eq(ss_model_macs(&c, SS_CUT_EMBEDDING), 1814073344 - 2 * 49 * 64 * 112 * 112);
    ck_assert_uint_eq(ss_model_macs(&c, SS_CUT_INPUT), 0);
    ck_assert_uint_eq(ss_model_params(&c, SS_CUT_INPUT), 0);
}
END_TEST

START_TEST(tensors_add_up)
{
    static const struct {
        ss_norm norm;
        int tensors;
    } row[] = {{SS_NORM_BATCH, 102}, {SS_NORM_GROUP, 62}, {SS_NORM_WEIGHT, 62}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int width = 16; width <= 64; width *= 2) {
            ss_model *m = create(width, row[i].norm, 1);
            ck_assert_int_eq(m->nparam, row[i].tensors);
            ck_assert_uint_eq(m->ntrainable, ss_model_params(&m->config, SS_CUT_EMBEDDING));
            size_t at = 0;
            for (int p = 0; p < m->nparam; p++) {
                ck_assert_uint_eq(m->param[p].offset, at);
                at += m->param[p].count;
                ck_assert_int_eq(m->param[p].trainable, at <= m->ntrainable);
            }
            ck_assert_uint_eq(at, m->nvalue);
            ss_model_free(m);
        }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(cut_shapes)
{
    static const uint32_t want[11][3] = {{1, 64, 96}, {16, 16, 24}, {16, 16, 24}, {16, 16, 24},
                                         {32, 8, 12}, {32, 8, 12},  {64, 4, 6},   {64, 4, 6},
                                         {128, 2, 3}, {128, 2, 3},  {128, 1, 1}};
    ss_model_config c;
    ss_model_config_default(&c);
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++) {
        uint32_t d[3];
        ss_model_cut_shape(&c, cut, d);
        ck_assert_mem_eq(d, want[cut], sizeof d);
    }
    /* Odd sizes round up, as padding makes them. */
    c.mels = 65;
    c.frames = 97;
    uint32_t d[3];
    ss_model_cut_shape(&c, SS_CUT_BLOCK0 + 8, d);
    ck_assert_uint_eq(d[1], 3);
    ck_assert_uint_eq(d[2], 4);
}
END_TEST

START_TEST(bits_depend_on_seed_and_name_alone)
{
    ss_model *a = create(16, SS_NORM_BATCH, 7), *b = create(16, SS_NORM_WEIGHT, 7);
    ss_model *other = create(16, SS_NORM_BATCH, 8);
    const char *const name[] = {"conv1.weight", "layer4.1.conv2.weight", "fc.weight"};
    for (int i = 0; i < 3; i++) {
        const ss_param *p = ss_model_find(a, name[i]);
        ck_assert_ptr_nonnull(p);
        ck_assert_mem_eq(ss_model_values(a, name[i]), ss_model_values(b, name[i]), p->count * 4);
        ck_assert_mem_ne(ss_model_values(a, name[i]), ss_model_values(other, name[i]), p->count * 4);
    }
    const ss_param *p = ss_model_find(a, "layer4.1.conv2.weight");
    double v = 0;
    for (size_t i = 0; i < p->count; i++)
        v += pow(a->value[p->offset + i], 2);
    ck_assert_double_eq_tol(v / (double)p->count, 2.0 / (128 * 9), 2e-5);
    ck_assert_float_eq(ss_model_values(b, "layer1.0.bn2.weight")[0], SS_SKIP_GAIN);
    ck_assert_float_eq(ss_model_values(b, "layer1.0.bn1.weight")[0], 1);
    ck_assert_float_eq(ss_model_values(a, "layer1.0.bn2.weight")[0], 1);
    ck_assert_float_eq(ss_model_values(a, "bn1.running_var")[3], 1);
    ck_assert_ptr_null(ss_model_find(b, "bn1.running_var"));
    ss_model_free(a);
    ss_model_free(b);
    ss_model_free(other);
}
END_TEST

START_TEST(clone_is_equal)
{
    ss_model *a = create(16, SS_NORM_BATCH, 3), *b;
    ss_err e;
    a->generation = 5;
    strcpy(a->frontend_hash, "0123456789abcdef");
    a->mixture = ss_strdup("mixture");
    a->mixture_size = 7;
    ck_assert_int_eq(ss_model_clone(&b, a, &e), SS_OK);
    ck_assert_mem_eq(a->value, b->value, a->nvalue * 4);
    ck_assert_uint_eq(b->generation, 5);
    ck_assert_str_eq(b->frontend_hash, a->frontend_hash);
    ck_assert_mem_eq(b->mixture, "mixture", 7);
    ss_model_free(a);
    ss_model_free(b);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(config_is_checked)
{
    ss_model_config good, c;
    ss_err e;
    ss_model *m;
    ss_model_config_default(&good);
    ck_assert_int_eq(ss_model_config_check(&good, &e), SS_OK);
#define BAD(field, value)                                                                                    \
    c = good;                                                                                                \
    c.field = value;                                                                                         \
    ck_assert_int_eq(ss_model_create(&m, &c, 1, &e), SS_ERANGE);                                             \
    ck_assert_ptr_null(m)
    BAD(width, 0);
    BAD(width, 17);
    BAD(width, 1 << 20);
    BAD(mels, 0);
    BAD(frames, -1);
    BAD(dim, 0);
    BAD(norm, 4);
    BAD(input_scale, 0);
    BAD(input_mean, NAN);
    ss_mem_limit(100000);
    ck_assert_int_eq(ss_model_create(&m, &good, 1, &e), SS_ENOMEM);
    ss_mem_limit(0);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(arch_hash)
{
    ss_model_config c;
    char a[17], b[17];
    ss_model_config_default(&c);
    ss_model_arch_hash(&c, a);
    ck_assert_uint_eq(strlen(a), 16);
    c.input_mean = 0;
    ss_model_arch_hash(&c, b);
    ck_assert_str_eq(a, b);
    c.width = 32;
    ss_model_arch_hash(&c, b);
    ck_assert_str_ne(a, b);
    ck_assert_int_eq(ss_norm_parse("group"), SS_NORM_GROUP);
    ck_assert_int_eq(ss_norm_parse("layer"), SS_EINVAL);
    ck_assert_ptr_null(ss_norm_name(0));
}
END_TEST

UNIT_MAIN("model", known_counts, tensors_add_up, cut_shapes, bits_depend_on_seed_and_name_alone,
          clone_is_equal, config_is_checked, arch_hash)
