#include "base/mem.h"
#include "failalloc.h"
#include "learn/regret.h"
#include "learn/tutor.h"
#include "splits.h"

static const ss_uncertainty no_u = {.at = {NAN, NAN, NAN, NAN, NAN}};

static ss_tutor_config quick(uint64_t steps)
{
    ss_tutor_config c = ss_tutor_defaults();
    c.ppo.copies = 8;
    c.ppo.horizon = 32;
    c.ppo.minibatch = 64;
    c.ppo.hidden = 16;
    c.ppo.rate = 3e-3;
    c.ppo.steps = steps;
    c.windows = 50;
    return c;
}

static ss_tutor *taught(const ss_world *w, const ss_trace *const *t, size_t n, const ss_tutor_config *c)
{
    ss_tutor *tutor;
    ss_ppo_report r = {0};
    ss_err e = {0};
    ck_assert_msg(!ss_tutor_open(&tutor, w, &no_u, t, n, c, &e), "%s", e.text);
    while (r.steps < c->ppo.steps)
        ck_assert_msg(!ss_tutor_step(tutor, &r, &e), "%s", e.text);
    return tutor;
}

/* Share of decisions on a trace in which an action is taken. */
static double share(const ss_world *w, ss_learned *l, const ss_trace *t, int action)
{
    ss_env env;
    double reward, taken = 0, n = 0;
    float preference[8];
    ck_assert_int_eq(ss_env_open(&env, w, 200, NULL), SS_OK);
    ss_env_reset(&env, t, 0, 77);
    for (; !ss_env_over(&env); n++) {
        int a = ss_learned_choose(l, &env.s.view, preference);
        taken += a == action;
        ss_env_step(&env, a, &reward, NULL);
    }
    ss_env_close(&env);
    return taken / n;
}

/* Of three choices of the same quality, one is better in everything, whatever load and link do: it is learnt,
 * whichever it is. */
START_TEST(what_is_best_is_learnt)
{
    ss_trace *t = made_trace("0,1e6,60,0.1\n50,2e5,80,0.6\n100,2e6,20,0.3\n150,0,0,0\n");
    const ss_trace *traces[] = {t};
    for (int best = 0; best < 3; best++) {
        made_choice c[3];
        for (int i = 0; i < 3; i++)
            c[i] = (made_choice){SS_CUT_BLOCK0 + 2 * i + 1, "i8", i == best ? 20 : 60 + i, 10,
                                 i == best ? 500 : 3000,    0.8};
        ss_profile *p = made_profile(c, 3);
        ss_world *w;
        ss_env_config ec = ss_env_defaults();
        ss_tutor_config tc = quick(256 * 40);
        ck_assert_int_eq(ss_world_new(&w, p, &ec, NULL), SS_OK);
        ss_tutor *tutor = taught(w, traces, 1, &tc);
        ck_assert_msg(share(w, ss_tutor_policy(tutor), t, best) > 0.99, "not %d", best);
        ss_tutor_close(&tutor);
        ss_world_free(w);
        ss_profile_free(p);
    }
    ss_trace_free(t);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Sending is best on one trace, computing on the other; no input but the bandwidth tells them apart. */
START_TEST(the_state_is_looked_at)
{
    static const made_choice c[] = {{SS_CUT_INPUT, "u8", 1, 10, 6000, 0.8},
                                    {SS_CUT_EMBEDDING, "i8", 100, 0, 100, 0.8}};
    ss_trace *fast = made_trace("0,2e7,30,0.1\n500,0,0,0\n"), *slow = made_trace("0,5e4,30,0.1\n500,0,0,0\n");
    const ss_trace *traces[] = {fast, slow};
    ss_profile *p = made_profile(c, 2);
    ss_world *w;
    ss_env_config ec = ss_env_defaults();
    ss_tutor_config tc = quick(256 * 60);
    ec.hold = 0;
    ck_assert_int_eq(ss_world_new(&w, p, &ec, NULL), SS_OK);
    ss_tutor *tutor = taught(w, traces, 2, &tc);
    ck_assert(share(w, ss_tutor_policy(tutor), fast, 0) > 0.95);
    ck_assert(share(w, ss_tutor_policy(tutor), slow, 1) > 0.95);
    /* Every input can be left out. */
    ss_tutor_close(&tutor);
    tc.ppo.steps = 256;
    tc.without[SS_SIGHT_U] = tc.without[SS_SIGHT_HOLDS] = true;
    tutor = taught(w, traces, 2, &tc);
    ss_learned *l = ss_tutor_policy(tutor);
    ck_assert_int_eq(l->net.in, SS_SIGHT_INPUTS - 2);
    ck_assert_int_eq(l->input[0], SS_SIGHT_CPU);
    ss_tutor_close(&tutor);
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        tc.without[i] = true;
    ck_assert_int_eq(ss_tutor_open(&tutor, w, &no_u, traces, 2, &tc, NULL), SS_EINVAL);
    ck_assert_ptr_null(tutor);
    tc.without[SS_SIGHT_CPU] = false;
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_tutor_open(&tutor, w, &no_u, traces, 2, &tc, NULL);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(tutor);
    }
    ss_tutor_close(&tutor);
    ss_world_free(w);
    ss_profile_free(p);
    ss_trace_free(fast);
    ss_trace_free(slow);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

UNIT_MAIN("tutor", what_is_best_is_learnt, the_state_is_looked_at)
