#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "split/learned.h"
#include "split/policy.h"
#include "splits.h"

/* Three actions; prefers action 0 by bandwidth, 1 by load, 2 never. */
static ss_learned *small(void)
{
    ss_learned *l = ss_learned_new(2, 2, 3);
    static const float w[] = {2, 0, 0, 2, /* W1: one input each */ 0, 0, 1, 0, 0, 1, 0, 0, 4, 0, 0, 4, 0,
                              0, 0, 0, -5};
    ck_assert_uint_eq(ss_mlp_size(2, 2, 3), sizeof w / sizeof *w);
    memcpy(l->net.w, w, sizeof w);
    l->input[0] = SS_SIGHT_BANDWIDTH;
    l->input[1] = SS_SIGHT_CPU;
    l->scale = (ss_sight_scale){480, 0, 50};
    l->every = 3;
    strcpy(l->note, "by hand");
    l->action[0] = (ss_split_action){SS_CUT_INPUT, "u8", 0, 1, 6000, 0.1};
    l->action[1] = (ss_split_action){SS_CUT_BLOCK0 + 4, "b16i8", 0, 50, 700, 0.2};
    l->action[2] = (ss_split_action){SS_CUT_EMBEDDING, "i8", 50, 80, 190, 0.3};
    return l;
}

START_TEST(network)
{
    ss_rng r = ss_rng_make(1, 1);
    enum { IN = 5, HIDDEN = 7, OUT = 4 };
    float x[IN], y[OUT], work[2 * HIDDEN], w[512];
    size_t n = ss_mlp_size(IN, HIDDEN, OUT);
    ss_rng_fill_normal(&r, w, n);
    ss_rng_fill_normal(&r, x, IN);
    ss_mlp m = {IN, HIDDEN, OUT, w};
    ss_mlp_run(&m, x, y, work);
    double h[2][16], *from = h[0];
    const float *p = w;
    for (int i = 0; i < IN; i++)
        h[0][i] = (double)x[i];
    int sizes[] = {IN, HIDDEN, HIDDEN, OUT};
    for (int k = 0; k < 3; k++) {
        double *to = h[(k + 1) % 2];
        for (int i = 0; i < sizes[k + 1]; i++) {
            to[i] = (double)p[sizes[k + 1] * sizes[k] + i];
            for (int j = 0; j < sizes[k]; j++)
                to[i] += (double)p[i * sizes[k] + j] * from[j];
            if (k < 2)
                to[i] = tanh(to[i]);
        }
        p += sizes[k + 1] * sizes[k] + sizes[k + 1];
        from = to;
    }
    for (int i = 0; i < OUT; i++)
        ck_assert_double_eq_tol((double)y[i], from[i], 1e-5);
    for (float v = -50; v < 50; v += 0.37F)
        ck_assert_double_eq_tol((double)ss_tanhf(v), tanh((double)v), 3e-7);
}
END_TEST

START_TEST(runs)
{
    ss_learned *l = small();
    ss_decider d;
    ss_decider_init(&d, l, 3);
    ck_assert(!ss_learned_can(&d.view));
    d.view.bandwidth = 3e7;
    ck_assert(ss_learned_can(&d.view));
    d.view.cpu = 0.1;
    ck_assert_int_eq(ss_decider_step(&d), SS_POLICY_FIRST);
    ck_assert_int_eq(d.view.action, 0);
    for (int i = 0; i < 7; i++) {
        ss_decider_went(&d, 0.48);
        ck_assert_int_eq(ss_decider_step(&d), i % 3 == 2 ? SS_POLICY_TIME : SS_POLICY_NONE);
        ck_assert_int_eq(d.view.action, 0);
        ck_assert(d.view.since_sent == 0 && d.view.held == 0);
    }
    /* At once on a sharp change; and the margin: a little more for another action is not enough. */
    d.view.cpu = 1;
    d.view.bandwidth = 6e4;
    ck_assert_int_eq(ss_decider_step(&d), SS_POLICY_SHARP_CHANGE);
    ck_assert_int_eq(d.view.action, 1);
    float p[3];
    d.view.bandwidth = 3.2e7; /* 0.997 of its range: nearly as much as the load */
    for (int a = 0; a < 2; a++) {
        d.view.action = a;
        ck_assert_int_eq(ss_learned_choose(l, &d.view, p), a);
        ck_assert(fabsf(p[0] - p[1]) < 0.3F);
    }
    /* Kept back: counted until they are sent. */
    d.view.action = 2;
    for (int i = 0; i < 49; i++)
        ss_decider_went(&d, 0.48);
    ck_assert(d.view.held == 49);
    ck_assert_double_eq_tol(d.view.since_sent, 49 * 0.48, 1e-9);
    ss_decider_went(&d, 0.48);
    ck_assert(d.view.held == 0 && d.view.since_sent == 0);
    ss_decider_pause(&d);
    ck_assert_int_eq(ss_decider_step(&d), SS_POLICY_FIRST);
    /* A queue that nobody tells is reckoned; one that is told counts. */
    d.view.action = 0;
    d.view.bandwidth = 8e3;
    for (int i = 0; i < 10; i++)
        ss_decider_went(&d, 0.48); /* 6000 bytes in, 480 out */
    ck_assert_double_eq_tol(d.reckoned, 55200, 1e-6);
    ss_decider_step(&d);
    ck_assert(isnan(d.view.queue));
    d.view.queue = 100;
    ss_decider_step(&d);
    ck_assert_double_eq_tol(d.reckoned, 100, 1e-6);
    ss_learned_free(l);
}
END_TEST

START_TEST(files)
{
    ss_learned *l = small(), *again;
    char *text, *twice;
    ss_err e;
    l->u.novelty = true;
    l->u.at[0] = 0.1;
    for (int i = 1; i < 5; i++)
        l->u.at[i] = l->u.at[i - 1] + 0.25;
    l->net.w[3] = 0.1F / 3;
    ck_assert_int_eq(ss_learned_print(l, &text, NULL), SS_OK);
    ck_assert_int_eq(ss_learned_parse(&again, text, strlen(text), "p", &e), SS_OK);
    ck_assert(!memcmp(again->net.w, l->net.w, 21 * sizeof(float)));
    ck_assert(!memcmp(again->input, l->input, 2 * sizeof(int)) && again->scale.hold == 50 &&
              again->every == 3);
    ck_assert(!strcmp(again->action[1].codec, "b16i8") && again->action[2].hold == 50 &&
              again->action[2].load == 0.3);
    ck_assert(again->u.novelty);
    ck_assert_double_eq_tol(again->u.at[4], 1.1, 1e-12);
    ck_assert_int_eq(ss_learned_print(again, &twice, NULL), SS_OK);
    ck_assert_str_eq(text, twice);
    ss_learned_free(again);
    for (size_t n = 0; n + 2 < strlen(text); n++) {
        ck_assert_int_eq(ss_learned_parse(&again, text, n, "p", &e), SS_EDAMAGED);
        ck_assert_ptr_null(again);
    }
    static const struct {
        const char *from, *to;
        int code;
        const char *says;
    } bad[] = {
        {"-policy", "-profile", SS_EUNFIT, "format is 'streamsplit-profile'"},
        {"\"version\": 1", "\"version\": 7", SS_EUNFIT, "version is 7"},
        {"\"every\": 3", "\"every\": 0", SS_EDAMAGED, "'every' is 0"},
        {"\"every\"", "\"evry\"", SS_EDAMAGED, "unknown member 'evry'"},
        {"\"cpu\"", "\"cpus\"", SS_EUNFIT, "input 'cpus' is not known"},
        {"\"cpu\"", "\"bandwidth\"", SS_EDAMAGED, "input 'bandwidth' comes twice"},
        {"\"hidden\": 2", "\"hidden\": 3", SS_EDAMAGED, "'weights' has 21 elements, expected 33"},
        {"\"hidden\": 2", "\"hidden\": 100000", SS_EDAMAGED, "'hidden' is 100000"},
        {"\"hold\":50", "\"hold\":51", SS_EDAMAGED, "action 2: 'hold' is 51"},
        {"b16i8", "b16I8", SS_EDAMAGED, "action 1: codec is 'b16I8'"},
        {"0.1,0.35", "0.5,0.35", SS_EDAMAGED, "u: 'value' is 0.35"},
        {"\"novelty\"", "\"u\"", SS_EDAMAGED, "u: 'value' is 1.1"}, /* which has not so much */
        {"\"novelty\"", "\"v\"", SS_EDAMAGED, "of is 'v', expected u or novelty"},
        {",-5]", ",-5e9]", SS_EDAMAGED, "weight 20"},
        {",-5]", ",true]", SS_EDAMAGED, "weight 20"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char other[4096];
        const char *at = strstr(text, bad[i].from);
        ck_assert_msg(at, "no '%s' in %s", bad[i].from, text);
        snprintf(other, sizeof other, "%.*s%s%s", (int)(at - text), text, bad[i].to,
                 at + strlen(bad[i].from));
        int rc = ss_learned_parse(&again, other, strlen(other), "p", &e);
        ck_assert_msg(rc == bad[i].code && strstr(e.text, bad[i].says) && strstr(e.text, "policy 'p'"),
                      "%s: %d, %s", bad[i].to, rc, e.text);
        ck_assert_ptr_null(again);
    }
    ck_assert_int_eq(ss_learned_open(&again, "/nonexistent", &e), SS_EIO);
    fail_alloc_cjson();
    for (long n = 1;; n++) {
        fail_alloc_from(n, n % 2);
        int rc = ss_learned_parse(&again, text, strlen(text), "p", NULL);
        if (!rc) {
            ss_free(twice);
            rc = ss_learned_print(again, &twice, NULL);
            ss_learned_free(again);
        }
        if (!fail_alloc_done()) {
            ck_assert_int_eq(rc, SS_OK);
            break;
        }
        ck_assert_int_eq(rc, SS_ENOMEM);
    }
    ss_free(text);
    ss_free(twice);
    ss_learned_free(l);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

UNIT_MAIN("learned", network, runs, files)
