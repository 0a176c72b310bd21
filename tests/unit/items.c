/* From records to items, and results written and read back. */
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "failalloc.h"
#include "io/json.h"
#include "learn/items.h"
#include "learn/results.h"
#include "unit.h"

static ss_header header(void)
{
    static char *labels[] = {"cat", "dog", "owl"};
    return (ss_header){.kind = "embedding", .labels = labels, .nlabels = 3};
}

/* One record; a clip or label below 0 is absent. */
static int add(ss_collect *c, uint64_t seq, int64_t clip, int label, uint32_t fold, uint8_t rank,
               const uint32_t *dim, const void *data, int dtype, ss_err *e)
{
    ss_record r = {.type = SS_TYPE_DATA,
                   .dtype = (uint8_t)dtype,
                   .rank = rank,
                   .device = 1,
                   .epoch = 1000,
                   .seq = seq,
                   .time_ns = 1000 + (int64_t)seq * 480000000,
                   .data = data};
    memcpy(r.dim, dim, rank * sizeof *dim);
    if (clip >= 0)
        ss_attr_set_uint(&r.attrs, SS_ATTR_CLIP, (uint64_t)clip);
    if (label >= 0)
        ss_attr_set_uint(&r.attrs, SS_ATTR_LABEL, (uint64_t)label);
    if (fold)
        ss_attr_set_uint(&r.attrs, SS_ATTR_FOLD, fold);
    if (dtype == SS_DTYPE_I8)
        ss_attr_set_f32(&r.attrs, SS_ATTR_SCALE, 0.5f);
    return ss_collect_add(c, &r, e);
}

static const uint32_t two[1] = {2};

START_TEST(clips_are_pooled)
{
    const float v[5][2] = {{1, 2}, {3, 2}, {5, 2}, {7, 9}, {0, -1}};
    /* Clips 4 and 9 interleaved; clip 5 never labelled; the votes of clip 4 are dog, cat, dog. */
    const int64_t clip[5] = {4, 9, 4, 4, 5};
    const int label[5] = {1, 2, 0, 1, -1};
    ss_header h = header();
    ss_collect_options o = {.pool = SS_POOL_MEANDEV, .differences = true, .keep_windows = true};
    ss_collect *c;
    ss_items it;
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    for (uint64_t i = 0; i < 5; i++)
        ck_assert_int_eq(add(c, i, clip[i], label[i], 3, 1, two, v[i], SS_DTYPE_F32, NULL), 0);
    ck_assert_int_eq(add(c, 9, -1, 0, 3, 1, two, v[0], SS_DTYPE_F32, NULL), 0);
    ck_assert_int_eq(ss_collect_add(c, &(ss_record){.type = SS_TYPE_GAP}, NULL), 0);
    ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
    ss_collect_free(&c);
    ck_assert_int_eq(it.unit, SS_UNIT_CLIP);
    ck_assert_uint_eq(it.n, 2);
    ck_assert_uint_eq(it.dim, 6);
    ck_assert_uint_eq(it.records, 6);
    ck_assert_uint_eq(it.stray, 1);
    ck_assert_uint_eq(it.unlabelled, 1);
    ck_assert_uint_eq(it.clip[0], 4);
    ck_assert_uint_eq(it.label[0], 1);
    ck_assert_uint_eq(it.label[1], 2);
    ck_assert_uint_eq(it.fold[1], 3);
    ck_assert(it.group[0] != it.group[1]);
    /* 1, 5, 7 and 2, 2, 9; differences 4, 2 and 0, 7. */
    const double expected[6] = {13.0 / 3, 13.0 / 3, sqrt(56.0 / 9), sqrt(98.0 / 9), 1, 3.5};
    for (int j = 0; j < 6; j++)
        ck_assert_double_eq_tol(it.x[j], expected[j], 1e-12);
    ck_assert_double_eq(it.x[6], 3);
    ck_assert_double_eq(it.x[8], 0);
    ck_assert_uint_eq(it.nwindows, 4);
    ck_assert_uint_eq(it.owner[1], 1);
    ck_assert_float_eq(it.window[3 * 2 + 1], 9);
    ss_items_clear(&it);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(frames_that_overlap_count_once)
{
    /* Frames 0..5 of clip 0 by windows of 4 every 2, of a hop that the header tells; then the same without.
     */
    ss_header h = header();
    char frontend[] = "{\"rate\":16000,\"hop\":3840}";
    const uint32_t dim[2] = {1, 4};
    const float w[2][4] = {{0, 1, 2, 3}, {2, 3, 4, 7}};
    ss_collect_options o = {.pool = SS_POOL_MEANDEV, .differences = true};
    for (int told = 1; told >= 0; told--) {
        ss_collect *c;
        ss_items it;
        h.frontend = told ? frontend : NULL;
        ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
        for (uint64_t i = 0; i < 2; i++)
            ck_assert_int_eq(add(c, i, 0, 0, 1, 2, dim, w[i], SS_DTYPE_F32, NULL), 0);
        ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
        ss_collect_free(&c);
        ck_assert_uint_eq(it.dim, 3);
        ck_assert_double_eq_tol(it.x[0], told ? 17.0 / 6 : 22.0 / 8, 1e-12);
        /* 1 1 1 1 3; without the hop 1 1 1 and 1 1 3 inside the windows. */
        ck_assert_double_eq_tol(it.x[2], told ? sqrt(13.0 / 5 - 49.0 / 25) : sqrt(14.0 / 6 - 64.0 / 36),
                                1e-12);
        ss_items_clear(&it);
    }
}
END_TEST

START_TEST(every_dtype)
{
    ss_header h = header();
    const float f32[2] = {1.5f, -2};
    const uint16_t f16[2] = {ss_f32_to_f16(1.5f), ss_f32_to_f16(-2)},
                   bf16[2] = {ss_f32_to_bf16(1.5f), ss_f32_to_bf16(-2)};
    const int8_t i8[2] = {3, -4};
    const double f64[2] = {1.5, -2};
    const void *data[5] = {f32, f16, bf16, i8, f64};
    const int dtype[5] = {SS_DTYPE_F32, SS_DTYPE_F16, SS_DTYPE_BF16, SS_DTYPE_I8, SS_DTYPE_F64};
    ss_collect_options o = {.unit = SS_UNIT_WINDOW};
    ss_collect *c;
    ss_items it;
    ss_err e;
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(add(c, (uint64_t)i, 0, 0, 1, 1, two, data[i], dtype[i], NULL), 0);
    ck_assert_int_eq(add(c, 5, 0, 0, 1, 1, two, data[0], SS_DTYPE_PACKED, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "record 5 is packed, expected f32, f16, bf16, i8 or f64");
    ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
    ss_collect_free(&c);
    ck_assert_uint_eq(it.n, 5);
    for (int i = 0; i < 5; i++) {
        ck_assert_double_eq(it.x[2 * i], 1.5);
        ck_assert_double_eq(it.x[2 * i + 1], -2);
    }
    ss_items_clear(&it);
}
END_TEST

START_TEST(cuts_are_averaged_over_place)
{
    ss_header h = header();
    const uint32_t dim[3] = {2, 2, 3};
    const float v[12] = {1, 2, 3, 4, 5, 6, -1, -1, -1, -1, -1, 5};
    ss_collect_options o = {.normalise = true};
    ss_collect *c;
    ss_items it;
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    ck_assert_int_eq(add(c, 0, 7, 1, 0, 3, dim, v, SS_DTYPE_F32, NULL), 0);
    ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
    ss_collect_free(&c);
    ck_assert_uint_eq(it.dim, 2);
    ck_assert_double_eq_tol(it.x[0], 1, 1e-12); /* 3.5 and 0, at unit length */
    ck_assert_double_eq_tol(it.x[1], 0, 1e-12);
    ss_items_clear(&it);
}
END_TEST

START_TEST(windows_and_segments)
{
    ss_header h = header();
    const int label[26] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, -1, -1, 1, 1, 0, 0, 0, 2, 2, 2, 2};
    float v[2] = {0, 1};
    ss_items it;
    for (int segment = 0; segment < 2; segment++) {
        ss_collect_options o = {.unit = segment ? SS_UNIT_SEGMENT : SS_UNIT_AUTO};
        ss_collect *c;
        ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
        for (uint64_t i = 0; i < 26; i++) {
            v[0] = (float)i;
            ck_assert_int_eq(add(c, i, -1, label[i], 0, 1, two, v, SS_DTYPE_F32, NULL), 0);
        }
        ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
        ss_collect_free(&c);
        if (segment) {
            ck_assert_uint_eq(it.n, 5);
            ck_assert_uint_eq(it.unlabelled, 1);
            ck_assert_double_eq(it.x[0], 5.5);
            ck_assert_uint_eq(it.label[3], 0);
        } else {
            ck_assert_int_eq(it.unit, SS_UNIT_WINDOW);
            ck_assert_uint_eq(it.n, 24);
            /* Runs of one label stay together, ten windows at most. */
            ck_assert_uint_eq(it.group[9], it.group[0]);
            ck_assert_uint_ne(it.group[10], it.group[9]);
            ck_assert_uint_eq(it.group[11], it.group[10]);
            ck_assert_uint_ne(it.group[12], it.group[11]);
            ck_assert_uint_ne(it.group[15], it.group[14]); /* unlabelled windows between them */
        }
        ss_items_clear(&it);
    }
}
END_TEST

START_TEST(unfit_records)
{
    ss_header h = header();
    ss_collect_options o = {0};
    const float v[4] = {1, 2, 3, 4}, bad[2] = {1, NAN};
    const uint32_t three[1] = {3}, flat[4] = {1, 1, 1, 2}, none[1] = {0};
    ss_collect *c;
    ss_err e;
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    ck_assert_int_eq(add(c, 0, 0, 0, 1, 4, flat, v, SS_DTYPE_F32, &e), SS_EUNFIT);
    ck_assert_int_eq(add(c, 0, 0, 0, 1, 1, none, v, SS_DTYPE_F32, &e), SS_EUNFIT);
    ss_collect_free(&c);
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    ck_assert_int_eq(add(c, 0, 0, 0, 1, 1, two, v, SS_DTYPE_F32, &e), 0);
    ck_assert_int_eq(add(c, 1, 0, 0, 1, 1, three, v, SS_DTYPE_F32, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "record 1 has another shape than the first");
    ck_assert_int_eq(add(c, 2, 0, 3, 1, 1, two, v, SS_DTYPE_F32, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "record 2 has label 3, the table holds 3");
    ck_assert_int_eq(add(c, 3, 0, 0, 1, 1, two, bad, SS_DTYPE_F32, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "record 3: value 1 is not finite");
    ck_assert_int_eq(add(c, 4, 0, 0, 2, 1, two, v, SS_DTYPE_F32, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "clip 0 lies in folds 1 and 2");
    ss_collect_free(&c);
    ck_assert_int_eq(ss_collect_open(&c, &o, &h, NULL), 0);
    ss_items it;
    ck_assert_int_eq(ss_collect_finish(c, &it, NULL), 0);
    ck_assert_uint_eq(it.n, 0);
    ss_items_clear(&it);
    ss_collect_free(&c);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* A toy stream of `n` clips of two windows in three folds: label by the first value, shifted by `noise`. */
static int toy(ss_items *it, uint32_t n, int keep, ss_err *e)
{
    static ss_header h;
    h = header();
    ss_collect_options o = {.pool = SS_POOL_MEAN, .keep_windows = keep};
    ss_collect *c = NULL;
    *it = (ss_items){0};
    int rc = ss_collect_open(&c, &o, &h, e);
    for (uint32_t i = 0; rc == 0 && i < 2 * n; i++) {
        uint32_t clip = i / 2;
        const float v[2] = {(float)(clip % 3 == 1   ? 2
                                    : clip % 3 == 2 ? -2
                                                    : 0) +
                                (float)(i * 7 % 5) * 0.3f,
                            (float)(i * 3 % 7)};
        rc = add(c, i, clip, (int)(clip % 3), 1 + clip / 3 % 3, 1, two, v, SS_DTYPE_F32, e);
    }
    if (rc == 0)
        rc = ss_collect_finish(c, it, e);
    ss_collect_free(&c);
    return rc;
}

START_TEST(streams_are_joined)
{
    ss_items a, b;
    const uint32_t map[3] = {2, 0, 1};
    ck_assert_int_eq(toy(&a, 6, 1, NULL), 0);
    ck_assert_int_eq(toy(&b, 9, 1, NULL), 0);
    ck_assert_int_eq(ss_items_append(&a, &b, map, NULL), 0);
    ck_assert_uint_eq(a.n, 15);
    ck_assert_uint_eq(a.nwindows, 30);
    ck_assert_uint_eq(a.label[5], 2);
    ck_assert_uint_eq(a.label[6], 2);
    ck_assert_uint_eq(a.label[7], 0);
    ck_assert_uint_eq(a.owner[29], 14);
    ck_assert_uint_eq(a.group[6], 6);
    ck_assert_mem_eq(a.x + 6 * 2, b.x, 9 * 2 * sizeof *b.x);
    ck_assert_mem_eq(a.window + 12 * 2, b.window, 18 * 2 * sizeof *b.window);
    b.dim = 3;
    ck_assert_int_eq(ss_items_append(&a, &b, map, NULL), SS_EUNFIT);
    ss_items_clear(&a);
    ss_items_clear(&b);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

static int judge(ss_items *it, ss_eval *r, uint32_t fold, ss_err *e)
{
    uint32_t part[64], inner[64];
    ss_eval_options o;
    ss_eval_options_default(&o);
    o.rounds = 50;
    *r = (ss_eval){0};
    int rc = toy(it, 18, 1, e);
    if (rc == 0)
        rc = ss_plan_folds(it, fold, part, e);
    if (rc == 0)
        rc = ss_plan_inner(it, 1, inner, e);
    return rc ? rc : ss_eval_run(r, it, part, inner, &o, e);
}

START_TEST(results_come_back)
{
    ss_items it, back;
    ss_eval r, s;
    ss_results *all;
    ss_header h = header();
    char **labels;
    unsigned metrics;
    ss_err e;
    ck_assert_int_eq(ss_results_open(&all, NULL), 0);
    double sum = 0;
    for (uint32_t fold = 1; fold <= 3; fold++) {
        ck_assert_int_eq(judge(&it, &r, fold, &e), 0);
        cJSON *o = ss_results_json(&r, &it, h.labels, 63, true, true);
        char *text = ss_json_print(o);
        ck_assert_int_eq(ss_results_add(all, text, strlen(text), &e), 0);
        sum += r.value[SS_METRIC_PRECISION] / 3;
        ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(o, "confusion")), 3);
        ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(o, "outcomes")), 6);
        cJSON_Delete(o);
        ss_free(text);
        ss_eval_clear(&r);
        ss_items_clear(&it);
    }
    ck_assert_int_eq(ss_results_finish(all, 50, 1, &back, &s, &metrics, &labels, &e), 0);
    ck_assert_uint_eq(metrics, 63);
    ck_assert_uint_eq(back.n, 18);
    ck_assert_uint_eq(s.nrows, 3);
    ck_assert_uint_eq(s.tested, 18);
    ck_assert_double_eq_tol(s.value[SS_METRIC_PRECISION], sum, 1e-12);
    /* The same as one run over all folds, clip by clip. */
    ck_assert_int_eq(judge(&it, &r, 0, &e), 0);
    uint32_t match[18];
    ck_assert_int_eq(ss_items_match(&it, h.labels, &back, labels, match, &e), 0);
    for (int k = 0; k < SS_OUTCOMES; k++) {
        ss_paired p;
        ck_assert_double_eq_tol(s.mean[k], r.mean[k], 1e-12);
        ck_assert_double_eq_tol(s.deviation[k], r.deviation[k], 1e-12);
        ck_assert_int_eq(ss_eval_compare(&r, &s, match, k, 50, 1, &p, &e), 0);
        ck_assert_double_eq_tol(p.difference, 0, 1e-12);
        ck_assert_double_eq(p.p, 1);
    }
    back.clip[3] = 99;
    ck_assert_int_eq(ss_items_match(&it, h.labels, &back, labels, match, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "clip 3 has no counterpart");
    back.clip[3] = 3;
    back.label[3] = (back.label[3] + 1) % 3;
    ck_assert_int_eq(ss_items_match(&it, h.labels, &back, labels, match, &e), SS_EUNFIT);
    back.n--;
    ck_assert_int_eq(ss_items_match(&it, h.labels, &back, labels, match, &e), SS_EUNFIT);
    ss_results_free(&all);
    ss_eval_clear(&r);
    ss_eval_clear(&s);
    ss_items_clear(&it);
    ss_items_clear(&back);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(results_that_are_none)
{
    const char *const bad[] = {"",
                               "[]",
                               "{\"outcomes\":[{\"clip\":1}]}",
                               "{\"outcomes\":[{\"label\":\"x\"}]}",
                               "{\"outcomes\":[{\"clip\":-1,\"label\":\"x\"}]}",
                               "{\"outcomes\":[3]}",
                               "{\"outcomes\":[{\"clip\":1,\"label\":\"x\",\"knn\":\"1\"}]}",
                               "{\"folds\":[{\"fold\":-1}],\"outcomes\":[]}",
                               "{\"folds\":7}"};
    ss_results *s;
    ss_items it;
    ss_eval r;
    unsigned metrics;
    char **labels;
    ss_err e;
    ck_assert_int_eq(ss_results_open(&s, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(ss_results_add(s, bad[i], strlen(bad[i]), &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_results_add(s, "{\"knn\":0.5}", 11, &e), SS_EUNFIT);
    ss_results_free(&s);
    ck_assert_int_eq(ss_results_open(&s, NULL), 0);
    ck_assert_int_eq(ss_results_finish(s, 10, 1, &it, &r, &metrics, &labels, &e), SS_EUNFIT);
    ss_results_free(&s);
    ss_items_clear(&it);
    ss_eval_clear(&r);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* The whole way once; every allocation on it may fail. */
static int whole_way(ss_err *e)
{
    ss_items it = {0}, more = {0}, back = {0};
    ss_eval r = {0}, s = {0};
    ss_results *all = NULL;
    ss_header h = header();
    const uint32_t map[3] = {0, 1, 2};
    uint32_t match[64], part[64];
    char *text = NULL, **labels;
    unsigned metrics;
    ss_paired p;
    cJSON *o = NULL;
    int rc = judge(&it, &r, 0, e);
    if (rc == 0)
        rc = ss_plan_holdout(&it, 0.3, 1, part, e);
    if (rc == 0 && (!(o = ss_results_json(&r, &it, h.labels, 63, true, true)) || !(text = ss_json_print(o))))
        rc = SS_ENOMEM;
    if (rc == 0)
        rc = ss_results_open(&all, e);
    if (rc == 0)
        rc = ss_results_add(all, text, strlen(text), e);
    if (rc == 0)
        rc = ss_results_finish(all, 20, 1, &back, &s, &metrics, &labels, e);
    if (rc == 0)
        rc = ss_items_match(&it, h.labels, &back, labels, match, e);
    if (rc == 0)
        rc = ss_eval_compare(&r, &s, match, SS_METRIC_PRECISION, 20, 1, &p, e);
    if (rc == 0)
        rc = toy(&more, 4, 1, e);
    if (rc == 0)
        rc = ss_items_append(&it, &more, map, e);
    cJSON_Delete(o);
    ss_free(text);
    ss_results_free(&all);
    ss_items_clear(&it);
    ss_items_clear(&more);
    ss_items_clear(&back);
    ss_eval_clear(&r);
    ss_eval_clear(&s);
    return rc;
}

START_TEST(every_allocation_may_fail)
{
    fail_alloc_cjson();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n += n < 400 ? 1 : 37) {
            fail_alloc_from(n, forever);
            ss_err e = {0};
            int rc = whole_way(&e);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(rc, 0);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
            ck_assert_uint_eq(ss_mem_used(), 0);
        }
}
END_TEST

UNIT_MAIN("items", clips_are_pooled, frames_that_overlap_count_once, every_dtype,
          cuts_are_averaged_over_place, windows_and_segments, unfit_records, streams_are_joined,
          results_come_back, results_that_are_none, every_allocation_may_fail)
