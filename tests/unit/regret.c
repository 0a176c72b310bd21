#include "base/mem.h"
#include "failalloc.h"
#include "learn/regret.h"
#include "splits.h"

enum { TRACES = 4, WINDOWS = 200, ACTIONS = 8 };

static struct {
    ss_profile *p;
    ss_world *w;
    ss_env env;
    ss_trace *t[TRACES];
    ss_course c[TRACES];
} g;

static void begin(void)
{
    ss_env_config c = ss_env_defaults();
    g.p = example_profile();
    ck_assert_int_eq(ss_world_new(&g.w, g.p, &c, NULL), SS_OK);
    ck_assert_int_eq(ss_world_actions(g.w, NULL), ACTIONS);
    ck_assert_int_eq(ss_env_open(&g.env, g.w, WINDOWS, NULL), SS_OK);
    for (int i = 0; i < TRACES; i++) {
        ck_assert_int_eq(ss_trace_make(&g.t[i], i, 3, 100, NULL), SS_OK);
        g.c[i] = (ss_course){g.t[i], 0, (uint64_t)i};
    }
}

static void end(void)
{
    for (int i = 0; i < TRACES; i++)
        ss_trace_free(g.t[i]);
    ss_env_close(&g.env);
    ss_world_free(g.w);
    ss_profile_free(g.p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

static double mean(ss_chooser who, ss_score *last)
{
    ss_score score;
    double sum = 0;
    for (int i = 0; i < TRACES; i++) {
        ck_assert_int_eq(ss_regret_run(&g.env, &g.c[i], &who, &score, NULL), SS_OK);
        sum += score.reward / TRACES;
        ck_assert(score.latency_median <= score.latency_p95 && score.quality <= 1 && score.late >= 0);
    }
    if (last)
        *last = score;
    return sum;
}

/* Fixed: the same as running it by hand. */
START_TEST(scores)
{
    ss_score s;
    int a = 1;
    begin();
    ss_chooser who = ss_regret_fixed(&a);
    ck_assert_int_eq(ss_regret_run(&g.env, &g.c[0], &who, &s, NULL), SS_OK);
    ss_env_reset(&g.env, g.t[0], 0, 0);
    double reward = 0, bytes = 0;
    for (int i = 0; i < WINDOWS; i++) {
        ss_env_outcome o;
        ss_env_decide(&g.env.s, a);
        ss_env_window(&g.env, &g.env.s, a, &o);
        reward += o.reward / WINDOWS;
        bytes += o.bytes / WINDOWS;
    }
    ck_assert_double_eq_tol(s.reward, reward, 1e-9);
    ck_assert_double_eq_tol(s.bytes, bytes, 1e-9);
    ck_assert(s.changes == 0 && s.held == 0);
    a = ACTIONS - 1; /* all of it kept back, and what is left at the end paid for */
    ck_assert_int_eq(ss_regret_run(&g.env, &g.c[1], &who, &s, NULL), SS_OK);
    ck_assert(s.held == 1);
    end();
}
END_TEST

/* Who knows more does better: the best fixed action in hindsight, the present known, the future known. */
START_TEST(oracles)
{
    begin();
    double fixed[ACTIONS], best = -INFINITY, clairvoyant = 0;
    for (int a = 0; a < ACTIONS; a++) {
        fixed[a] = mean(ss_regret_fixed(&a), NULL);
        best = fmax(best, fixed[a]);
    }
    ss_causal *c;
    ck_assert_int_eq(ss_causal_open(&c, g.w, WINDOWS, 32, 0, 1, NULL), SS_OK);
    double causal = mean(ss_regret_causal(c), NULL);
    ss_causal_close(&c);
    for (int i = 0; i < TRACES; i++) {
        ss_score s;
        ck_assert_int_eq(ss_regret_clairvoyant(&g.env, &g.c[i], 16, &s, NULL), SS_OK);
        clairvoyant += s.reward / TRACES;
    }
    ck_assert_msg(clairvoyant > causal + 0.1 && causal > best + 0.1, "%g, %g, %g", clairvoyant, causal, best);
    /* The greedy one learns from what it is told. */
    ss_greedy *greedy;
    ck_assert_int_eq(ss_greedy_open(&greedy, g.w, NULL), SS_OK);
    ss_greedy_explore(greedy, 1);
    double first = mean(ss_regret_greedy(greedy), NULL);
    ss_greedy_explore(greedy, 0);
    double later = mean(ss_regret_greedy(greedy), NULL);
    ss_greedy_close(&greedy);
    /* Heuristics: of cuts that the profile lacks, the nearest. */
    ss_heuristic h;
    ss_regret_heuristic_init(&h, g.w, SS_SIGN_SANE, fixed);
    ck_assert_int_eq(h.action[SS_CUT_INPUT], fixed[0] > fixed[1] ? 0 : 1);
    ck_assert_int_eq(h.action[SS_CUT_BLOCK0 + 2], 2);
    ck_assert_int_eq(h.action[SS_CUT_BLOCK0 + 6], 5);
    ck_assert_int_eq(h.action[SS_CUT_BLOCK0 + 7], 5);
    double heuristic = mean(ss_regret_heuristic(&h), NULL);
    ck_assert_msg(heuristic < causal && later > heuristic && fabs(later - first) > 1e-6, "%g, %g, then %g",
                  heuristic, first, later);
    end();
}
END_TEST

START_TEST(out_of_memory)
{
    begin();
    int a = 0;
    ss_chooser who = ss_regret_fixed(&a);
    ss_score s;
    for (int what = 0; what < 4; what++)
        for (long n = 1;; n++) {
            ss_causal *c = NULL;
            ss_greedy *greedy = NULL;
            fail_alloc_from(n, false);
            int rc = what == 0   ? ss_regret_run(&g.env, g.c, &who, &s, NULL)
                     : what == 1 ? ss_causal_open(&c, g.w, WINDOWS, 4, 0, 1, NULL)
                     : what == 2 ? ss_greedy_open(&greedy, g.w, NULL)
                                 : ss_regret_clairvoyant(&g.env, g.c, 2, &s, NULL);
            bool failed = fail_alloc_done();
            ss_causal_close(&c);
            ss_greedy_close(&greedy);
            if (!failed)
                break;
            ck_assert_int_eq(rc, SS_ENOMEM);
        }
    end();
}
END_TEST

UNIT_MAIN("regret", scores, oracles, out_of_memory)
