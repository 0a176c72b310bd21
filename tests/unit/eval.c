/* The judge of embeddings: against scikit-learn and scipy (reference_eval.py), and with nothing to judge. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "learn/eval.h"
#include "learn/neighbours.h"
#include "learn/probe.h"
#include "unit.h"

#include "reference_eval.h"

static uint32_t train[REF_TRAIN], test[REF_TEST];
static const ss_labelled data = {ref_x, ref_label, REF_N, REF_DIM, REF_CLASSES};

static void sides(void)
{
    size_t a = 0, b = 0;
    for (uint32_t i = 0; i < REF_N; i++)
        if (ref_fold[i] == 5)
            test[b++] = i;
        else
            train[a++] = i;
}

START_TEST(probe_is_sklearns)
{
    sides();
    for (size_t s = 0; s < 3; s++) {
        ss_probe p;
        ck_assert_int_eq(ss_probe_fit(&p, &data, train, REF_TRAIN, ref_strength[s], NULL), 0);
        ck_assert(p.converged);
        for (size_t i = 0; i < REF_CLASSES * REF_DIM; i++)
            ck_assert_double_eq_tol(p.weight[i], ref_weight[s * REF_CLASSES * REF_DIM + i], 2e-4);
        for (size_t i = 0; i < REF_CLASSES; i++)
            ck_assert_double_eq_tol(p.bias[i], ref_bias[s * REF_CLASSES + i], 2e-4);
        size_t right = 0;
        for (size_t i = 0; i < REF_TEST; i++) {
            double q[REF_CLASSES];
            right += ss_probe_predict(&p, ref_x + test[i] * REF_DIM, q) == ref_label[test[i]];
            for (size_t c = 0; c < REF_CLASSES; c++)
                ck_assert_double_eq_tol(q[c], ref_probability[(s * REF_TEST + i) * REF_CLASSES + c], 2e-5);
        }
        ck_assert_double_eq_tol((double)right / REF_TEST, ref_accuracy[s], 1e-12);
        ck_assert_double_eq(p.scale[3], 0);
        ss_probe_clear(&p);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(probe_leaves_out_and_refuses)
{
    double x[8] = {1, 5, 2, 5, 3, 5, 4, 5};
    uint32_t y[4] = {0, 0, 1, 1}, one[4] = {1, 1, 1, 1}, rows[4] = {0, 1, 2, 3};
    ss_labelled d = {x, y, 4, 2, 2};
    ss_probe p;
    ss_err e;
    double q[2];
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 4, 1, &e), 0);
    ck_assert_double_eq(p.weight[1], 0);
    ck_assert_uint_eq(ss_probe_predict(&p, x, q), 0);
    ck_assert_uint_eq(ss_probe_predict(&p, x + 6, q), 1);
    ss_probe_clear(&p);
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 2, 1, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "one class"));
    d.label = one;
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 4, 1, &e), SS_EUNFIT);
    d.label = y;
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 0, 1, &e), SS_EINVAL);
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 4, 0, &e), SS_EINVAL);
    x[5] = NAN;
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 4, 1, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "feature 1 of item 2 is not finite");
    ss_probe_clear(&p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* The strength that is best on what was held back, fitted on all. */
START_TEST(probe_chooses)
{
    static bool held[REF_N];
    static uint32_t all[REF_N];
    static uint8_t right[SS_PROBE_GRID * REF_N];
    ss_probe p, same;
    sides();
    for (uint32_t i = 0; i < REF_N; i++) {
        held[i] = ref_fold[i] == 5;
        all[i] = i;
    }
    ck_assert_int_eq(ss_probe_choose(&p, &data, held, NULL), 0);
    ck_assert_int_eq(ss_probe_grid(&data, train, REF_TRAIN, test, REF_TEST, right, NULL), 0);
    int most = -1, best = 0;
    for (int g = 0; g < SS_PROBE_GRID; g++) {
        int sum = 0;
        for (int i = 0; i < REF_TEST; i++)
            sum += right[g * REF_TEST + i];
        best = sum > most ? g : best;
        most = sum > most ? sum : most;
    }
    ck_assert_double_eq(p.strength, ss_probe_strengths[best]);
    ck_assert_int_eq(ss_probe_fit(&same, &data, all, REF_N, p.strength, NULL), 0);
    ck_assert(!memcmp(same.weight, p.weight, REF_CLASSES * REF_DIM * sizeof *p.weight));
    ss_probe_clear(&same);
    ss_probe_clear(&p);
    for (long n = 1;; n++) {
        fail_alloc_from(n, 0);
        int rc = ss_probe_choose(&p, &data, held, NULL);
        bool failed = fail_alloc_done();
        ck_assert_int_eq(rc, failed ? SS_ENOMEM : 0);
        ss_probe_clear(&p);
        ck_assert_uint_eq(ss_mem_used(), 0);
        if (!failed)
            break;
    }
    memset(held, 1, sizeof held); /* nothing is left to learn from */
    ck_assert_int_eq(ss_probe_choose(&p, &data, held, NULL), SS_EINVAL);
    ss_probe_clear(&p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(probe_of_constant_features_says_the_commonest)
{
    double x[10] = {0};
    uint32_t y[5] = {1, 0, 1, 2, 1}, rows[5] = {0, 1, 2, 3, 4};
    ss_labelled d = {x, y, 5, 2, 3};
    ss_probe p;
    double q[3];
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 5, 1, NULL), 0);
    ck_assert_uint_eq(ss_probe_predict(&p, x, q), 1);
    ck_assert_double_eq_tol(q[1], 0.6, 1e-5);
    ss_probe_clear(&p);
}
END_TEST

START_TEST(probe_survives_scale)
{
    /* Separable, wide apart in size: standardisation and the penalty keep it finite. */
    double x[40];
    uint32_t y[20], rows[20];
    for (uint32_t i = 0; i < 20; i++) {
        rows[i] = i;
        y[i] = i & 1;
        x[2 * i] = 1e9 + (i & 1) * 1e3 + i;
        x[2 * i + 1] = 1e-12 * i;
    }
    ss_labelled d = {x, y, 20, 2, 2};
    ss_probe p;
    double q[2];
    ck_assert_int_eq(ss_probe_fit(&p, &d, rows, 20, 1e4, NULL), 0);
    ck_assert(p.converged);
    for (uint32_t i = 0; i < 20; i++)
        ck_assert_uint_eq(ss_probe_predict(&p, x + 2 * i, q), y[i]);
    ss_probe_clear(&p);
}
END_TEST

START_TEST(neighbours_are_sklearns)
{
    static double u[REF_N * REF_DIM], ref[REF_TRAIN * REF_DIM], query[REF_TEST * REF_DIM];
    uint32_t near[REF_TEST * 10], label[REF_TRAIN], votes[REF_CLASSES];
    sides();
    ss_unit_rows(ref_x, REF_N, REF_DIM, u);
    for (size_t i = 0; i < REF_TRAIN; i++) {
        memcpy(ref + i * REF_DIM, u + train[i] * REF_DIM, REF_DIM * sizeof *u);
        label[i] = ref_label[train[i]];
    }
    for (size_t i = 0; i < REF_TEST; i++)
        memcpy(query + i * REF_DIM, u + test[i] * REF_DIM, REF_DIM * sizeof *u);
    ck_assert_int_eq(ss_nearest(ref, REF_TRAIN, query, REF_TEST, REF_DIM, 10, near), 0);
    for (size_t i = 0; i < REF_TEST * 10; i++)
        ck_assert_uint_eq(near[i], ref_near[i]);
    for (size_t i = 0; i < REF_TEST; i++)
        ck_assert_uint_eq(ss_knn_vote(near + i * 10, 5, label, REF_CLASSES, votes), ref_knn[i]);
    ck_assert_int_eq(ss_nearest(ref, 5, query, 1, REF_DIM, 6, near), SS_EINVAL);
    ck_assert_int_eq(ss_nearest(ref, 5, query, 1, REF_DIM, 0, near), SS_EINVAL);
}
END_TEST

START_TEST(votes_that_tie_go_to_the_nearest)
{
    const uint32_t label[5] = {2, 0, 0, 2, 1}, near[5] = {4, 3, 1, 0, 2}, alone[1] = {2};
    uint32_t votes[3];
    ck_assert_uint_eq(ss_knn_vote(near, 5, label, 3, votes), 2);
    ck_assert_uint_eq(ss_knn_vote(alone, 1, label, 3, votes), 0);
}
END_TEST

START_TEST(equal_neighbours_come_by_index)
{
    const double ref[8] = {1, 0, 0, 1, 1, 0, -1, 0}, query[2] = {1, 0};
    uint32_t near[4];
    ck_assert_int_eq(ss_nearest(ref, 4, query, 1, 2, 4, near), 0);
    const uint32_t expected[4] = {0, 2, 1, 3};
    ck_assert_mem_eq(near, expected, sizeof near);
}
END_TEST

START_TEST(spread_is_numpys)
{
    static double u[REF_N * REF_DIM], each[REF_N], out;
    ss_unit_rows(ref_x, REF_N, REF_DIM, u);
    ck_assert_int_eq(ss_silhouette(u, ref_label, REF_N, REF_DIM, REF_CLASSES, each), 0);
    for (size_t i = 0; i < REF_N; i++)
        ck_assert_double_eq_tol(each[i], ref_silhouette[i], 1e-10);
    ck_assert_int_eq(ss_alignment(u, ref_label, REF_N, REF_DIM, REF_CLASSES, &out), 0);
    ck_assert_double_eq_tol(out, ref_alignment, 1e-10);
    ck_assert_double_eq_tol(ss_uniformity(u, REF_N, REF_DIM), ref_uniformity, 1e-10);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(spread_of_next_to_nothing)
{
    const double u[6] = {1, 0, 1, 0, 0, 1}, zero[4] = {0};
    const uint32_t one[3] = {0, 0, 0}, apart[3] = {0, 1, 2}, two[3] = {0, 0, 1};
    double each[3], out;
    ck_assert_int_eq(ss_silhouette(u, one, 3, 2, 1, each), 0);
    ck_assert_double_eq(each[0], 0);
    ck_assert_int_eq(ss_silhouette(u, apart, 3, 2, 3, each), 0);
    ck_assert_double_eq(each[2], 0);
    ck_assert_int_eq(ss_silhouette(u, two, 3, 2, 2, each), 0);
    ck_assert_double_eq(each[0], 1);
    ck_assert_double_eq(each[2], 0);
    ck_assert_int_eq(ss_silhouette(u, two, 0, 2, 2, each), SS_EINVAL);
    ck_assert_int_eq(ss_alignment(u, apart, 3, 2, 3, &out), 0);
    ck_assert_double_nan(out);
    ck_assert_double_nan(ss_uniformity(u, 1, 2));
    ck_assert_double_eq_tol(ss_uniformity(u, 2, 2), 0, 1e-15);
    double rows[8] = {3e200, 4e200, 3e-200, 4e-200, 0, 0, 5, 0};
    ss_unit_rows(rows, 4, 2, rows);
    ck_assert_double_eq_tol(rows[0], 0.6, 1e-15);
    ck_assert_double_eq_tol(rows[3], 0.8, 1e-15);
    ck_assert_mem_eq(rows + 4, zero, 2 * sizeof *zero);
    ck_assert_double_eq(rows[6], 1);
}
END_TEST

START_TEST(intervals_and_mcnemar_are_scipys)
{
    for (size_t i = 0; i < sizeof ref_wilson / sizeof *ref_wilson; i += 4) {
        ss_interval w = ss_wilson(ref_wilson[i], ref_wilson[i + 1]);
        ck_assert_double_eq_tol(w.low, ref_wilson[i + 2], 1e-9);
        ck_assert_double_eq_tol(w.high, ref_wilson[i + 3], 1e-9);
    }
    ck_assert_double_eq(ss_wilson(0, 0).low, 0);
    ck_assert_double_eq(ss_wilson(0, 0).high, 1);
    for (size_t i = 0; i < sizeof ref_mcnemar / sizeof *ref_mcnemar; i += 3)
        ck_assert_double_eq_tol(ss_mcnemar((uint64_t)ref_mcnemar[i], (uint64_t)ref_mcnemar[i + 1]),
                                ref_mcnemar[i + 2], 1e-10);
    ck_assert_double_eq(ss_mcnemar(0, 0), 1);
}
END_TEST

START_TEST(bootstrap_is_fixed_by_its_seed)
{
    double v[200];
    ss_rng r = ss_rng_make(3, 0);
    for (int i = 0; i < 200; i++)
        v[i] = ss_rng_normal(&r);
    ss_interval a, b, c;
    ck_assert_int_eq(ss_bootstrap_mean(v, 200, 2000, 5, &a), 0);
    ck_assert_int_eq(ss_bootstrap_mean(v, 200, 2000, 5, &b), 0);
    ck_assert_int_eq(ss_bootstrap_mean(v, 200, 2000, 6, &c), 0);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert(a.low != c.low);
    /* About the mean -+ 1.96 deviations of it. */
    double mean, deviation, half;
    ss_mean_deviation(v, 200, &mean, &deviation);
    half = 1.96 * deviation / sqrt(200);
    ck_assert_double_eq_tol(a.low, mean - half, 0.15 * half);
    ck_assert_double_eq_tol(a.high, mean + half, 0.15 * half);
    ck_assert_int_eq(ss_bootstrap_mean(v, 1, 100, 5, &a), 0);
    ck_assert_double_eq(a.low, v[0]);
    ck_assert_double_eq(a.high, v[0]);
    ck_assert_int_eq(ss_bootstrap_mean(v, 0, 100, 5, &a), SS_EINVAL);
    ck_assert_int_eq(ss_bootstrap_mean(v, 5, 0, 5, &a), SS_EINVAL);
}
END_TEST

START_TEST(sign_flips)
{
    /* Ten equal differences: 2 of 2^10 patterns are as far. */
    double d[10], p;
    for (int i = 0; i < 10; i++)
        d[i] = 0.1;
    ck_assert_int_eq(ss_signflip(d, 10, 100000, 1, &p), 0);
    ck_assert_double_eq_tol(p, 2.0 / 1024, 6e-4);
    memset(d, 0, sizeof d);
    ck_assert_int_eq(ss_signflip(d, 10, 100, 1, &p), 0);
    ck_assert_double_eq(p, 1);
    ck_assert_int_eq(ss_signflip(d, 0, 100, 1, &p), SS_EINVAL);
    /* Under no difference p is even over 0..1. */
    int low = 0;
    ss_rng r = ss_rng_make(11, 0);
    for (int t = 0; t < 400; t++) {
        double e[40];
        for (int i = 0; i < 40; i++)
            e[i] = ss_rng_normal(&r);
        ck_assert_int_eq(ss_signflip(e, 40, 199, (uint64_t)t, &p), 0);
        low += p <= 0.1;
    }
    ck_assert_int_gt(low, 20);
    ck_assert_int_lt(low, 65);
}
END_TEST

START_TEST(paired)
{
    const double a[8] = {1, 1, 1, 1, 0, 1, 1, 0}, b[8] = {0, 0, 1, 0, 1, 0, 0, 0},
                 c[8] = {.1, .2, 0, .4, 0, 0, 0, 0};
    ss_paired t;
    ck_assert_int_eq(ss_compare_paired(a, b, 8, 500, 1, &t), 0);
    ck_assert(t.exact);
    ck_assert_uint_eq(t.a_better, 5);
    ck_assert_uint_eq(t.b_better, 1);
    ck_assert_double_eq_tol(t.difference, 0.5, 1e-15);
    ck_assert_double_eq_tol(t.p, 14.0 / 64, 1e-12);
    ck_assert(t.interval.low < 0.5 && t.interval.high > 0.5);
    ck_assert_int_eq(ss_compare_paired(a, c, 8, 500, 1, &t), 0);
    ck_assert(!t.exact);
    ck_assert_int_eq(ss_compare_paired(a, c, 0, 500, 1, &t), SS_EINVAL);
    double mean, deviation;
    ss_mean_deviation(a, 0, &mean, &deviation);
    ck_assert_double_nan(mean);
    ss_mean_deviation(a, 1, &mean, &deviation);
    ck_assert_double_eq(deviation, 0);
}
END_TEST

/* The reference data as items; one window for each item. */
static ss_items items(void)
{
    static uint32_t fold[REF_N], group[REF_N], label[REF_N], owner[REF_N];
    static uint64_t clip[REF_N];
    static float window[REF_N * REF_DIM];
    static double x[REF_N * REF_DIM];
    for (uint32_t i = 0; i < REF_N; i++) {
        fold[i] = ref_fold[i];
        group[i] = i;
        clip[i] = i;
        label[i] = 2 * ref_label[i] + 1; /* labels that are not dense */
        owner[i] = i;
    }
    memcpy(x, ref_x, sizeof x);
    for (size_t i = 0; i < REF_N * REF_DIM; i++)
        window[i] = (float)x[i];
    return (ss_items){.unit = SS_UNIT_CLIP,
                      .n = REF_N,
                      .dim = REF_DIM,
                      .x = x,
                      .label = label,
                      .fold = fold,
                      .group = group,
                      .clip = clip,
                      .nwindows = REF_N,
                      .window_dim = REF_DIM,
                      .window = window,
                      .owner = owner,
                      .records = REF_N};
}

START_TEST(rotation_is_sklearns)
{
    ss_items it = items();
    uint32_t part[REF_N], inner[REF_N];
    ss_eval_options o;
    ss_eval r, one;
    ss_err e;
    ss_eval_options_default(&o);
    ck_assert_int_eq(ss_plan_folds(&it, 0, part, &e), 0);
    ck_assert_int_eq(ss_plan_inner(&it, 1, inner, &e), 0);
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), 0);
    ck_assert_uint_eq(r.nrows, 5);
    ck_assert_uint_eq(r.classes, 4);
    ck_assert_uint_eq(r.class_label[2], 5);
    ck_assert_uint_eq(r.tested, REF_N);
    double sum = 0;
    for (size_t t = 0; t < 5; t++) {
        ck_assert_uint_eq(r.row[t].part, t + 1);
        ck_assert_uint_eq(r.row[t].test, 12);
        ck_assert_uint_eq(r.row[t].train, 48);
        ck_assert_double_eq_tol(r.row[t].strength, ref_chosen[t], 1e-12);
        ck_assert_double_eq_tol(r.row[t].value[SS_METRIC_LINEAR], ref_rotation_linear[t], 1e-12);
        ck_assert_double_eq_tol(r.row[t].value[SS_METRIC_KNN], ref_rotation_knn[t], 1e-12);
        ck_assert_double_eq_tol(r.row[t].value[SS_METRIC_PRECISION], ref_rotation_p10[t], 1e-12);
        ck_assert_double_nan(r.row[t].value[SS_METRIC_ALIGNMENT]); /* one window a clip */
        sum += ref_rotation_linear[t] / 5;
    }
    ck_assert_double_eq_tol(r.value[SS_METRIC_LINEAR], sum, 1e-12);
    ck_assert_double_eq_tol(r.mean[SS_METRIC_LINEAR], sum, 1e-12);
    ck_assert_double_eq_tol(r.interval[SS_METRIC_LINEAR].low, ss_wilson(sum * 60, 60).low, 1e-12);
    ck_assert_double_eq_tol(r.value[SS_METRIC_UNIFORMITY], ref_uniformity, 1e-5);
    uint64_t cells = 0;
    for (size_t i = 0; i < 16; i++)
        cells += r.confusion[i];
    ck_assert_uint_eq(cells, REF_N);

    /* One fold alone, where no training set is shared, says the same as its row of the rotation. */
    for (uint32_t f = 1; f <= 5; f++) {
        ck_assert_int_eq(ss_plan_folds(&it, f, part, &e), 0);
        ck_assert_int_eq(ss_eval_run(&one, &it, part, inner, &o, &e), 0);
        ck_assert_uint_eq(one.nrows, 1);
        ck_assert_uint_eq(one.tested, 12);
        ck_assert_mem_eq(one.row[0].value, r.row[f - 1].value, SS_OUTCOMES * sizeof(double));
        ck_assert_double_eq(one.row[0].strength, r.row[f - 1].strength);
        for (size_t i = 0; i < REF_N; i++)
            if (part[i])
                ck_assert_double_eq(one.outcome[SS_METRIC_LINEAR][i], r.outcome[SS_METRIC_LINEAR][i]);
        ss_eval_clear(&one);
    }
    ss_eval_clear(&r);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(holdout_takes_whole_groups)
{
    ss_items it = items();
    uint32_t part[REF_N], again[REF_N], other[REF_N], inner[REF_N];
    for (uint32_t i = 0; i < REF_N; i++)
        it.group[i] = it.label[i] * 100 + i / 8; /* pairs: every label has 8 groups, the last of one item */
    ck_assert_int_eq(ss_plan_holdout(&it, 0.25, 3, part, NULL), 0);
    ck_assert_int_eq(ss_plan_holdout(&it, 0.25, 3, again, NULL), 0);
    ck_assert_int_eq(ss_plan_holdout(&it, 0.25, 4, other, NULL), 0);
    ck_assert_mem_eq(part, again, sizeof part);
    ck_assert_mem_ne(part, other, sizeof part);
    size_t groups[8] = {0};
    for (uint32_t i = 0; i < REF_N; i++)
        for (uint32_t j = 0; j < i; j++)
            if (it.group[i] == it.group[j])
                ck_assert_uint_eq(part[i], part[j]);
    for (uint32_t i = 0; i < REF_N; i++)
        groups[it.label[i]] += part[i] && i % 8 < 4;
    for (uint32_t l = 1; l < 8; l += 2)
        ck_assert_uint_eq(groups[l], 2);
    ss_err e;
    ck_assert_int_eq(ss_plan_holdout(&it, 1, 3, part, &e), SS_ERANGE);
    ck_assert_int_eq(ss_plan_holdout(&it, NAN, 3, part, &e), SS_ERANGE);

    /* Without folds the inner parts are dealt by group too. */
    it.fold[7] = 0;
    ck_assert_int_eq(ss_plan_inner(&it, 3, inner, NULL), 0);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < REF_N; i++) {
        seen |= 1u << inner[i];
        for (uint32_t j = 0; j < i; j++)
            if (it.group[i] == it.group[j])
                ck_assert_uint_eq(inner[i], inner[j]);
    }
    ck_assert_uint_eq(seen, 0x3e);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(nothing_to_judge)
{
    ss_items it = items();
    uint32_t part[REF_N], inner[REF_N];
    ss_eval_options o;
    ss_eval r;
    ss_err e;
    ss_eval_options_default(&o);
    ck_assert_int_eq(ss_plan_inner(&it, 1, inner, &e), 0);
    ck_assert_int_eq(ss_plan_folds(&it, 9, part, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "no labelled item is in fold 9");
    memset(part, 0, sizeof part);
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), SS_EUNFIT);
    ss_eval_clear(&r);
    for (int i = 0; i < REF_N; i++)
        part[i] = 1;
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "none is left to train on"));
    ss_eval_clear(&r);
    part[0] = part[4] = 0; /* of one label */
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), SS_EUNFIT);
    ck_assert_str_eq(e.text, "all 2 training items are of one class");
    ss_eval_clear(&r);
    /* Two classes with an item each: fewer neighbours than asked, no inner part with a say. */
    part[1] = 0;
    part[4] = 1;
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), 0);
    ck_assert_double_eq(r.row[0].strength, ss_probe_strengths[0]);
    ck_assert_double_eq(r.value[SS_METRIC_PRECISION], 0.5 * 28 / 58);
    ss_eval_clear(&r);
    it.n = 0;
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), SS_EUNFIT);
    ss_eval_clear(&r);
    it = items();
    it.x[17] = INFINITY;
    ck_assert_int_eq(ss_plan_folds(&it, 0, part, &e), 0);
    ck_assert_int_eq(ss_eval_run(&r, &it, part, inner, &o, &e), SS_EUNFIT);
    ss_eval_clear(&r);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(metric_names)
{
    for (int m = 0; m < SS_METRICS; m++)
        ck_assert_int_eq(ss_metric_parse(ss_metric_name(m), strlen(ss_metric_name(m))), m);
    ck_assert_int_eq(ss_metric_parse("p1", 2), SS_EINVAL);
    ck_assert_ptr_null(ss_metric_name(SS_METRICS));
    ck_assert_ptr_null(ss_metric_name(-1));
}
END_TEST

UNIT_MAIN("eval", probe_is_sklearns, probe_chooses, probe_leaves_out_and_refuses,
          probe_of_constant_features_says_the_commonest, probe_survives_scale, neighbours_are_sklearns,
          votes_that_tie_go_to_the_nearest, equal_neighbours_come_by_index, spread_is_numpys,
          spread_of_next_to_nothing, intervals_and_mcnemar_are_scipys, bootstrap_is_fixed_by_its_seed,
          sign_flips, paired, rotation_is_sklearns, holdout_takes_whole_groups, nothing_to_judge,
          metric_names)
