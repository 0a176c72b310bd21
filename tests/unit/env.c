#include "base/mem.h"
#include "failalloc.h"
#include "split/env.h"
#include "splits.h"

#define K(k) (SS_CUT_BLOCK0 + (k))

static const made_choice choices[] = {{SS_CUT_INPUT, "u8", 1, 10, 5000, 0.9},
                                      {K(4), "i8", 100, 5, 1000, 0.8},
                                      {SS_CUT_EMBEDDING, "i8", 200, 0, 100, 0.7}};
enum { INPUT, FOUR, WHOLE, HOLD };

static struct {
    ss_profile *p;
    ss_world *w;
    ss_trace *t;
    ss_env env;
} g;

static void begin(const char *rows, const ss_env_config *c)
{
    g.p = made_profile(choices, 3);
    ck_assert_int_eq(ss_world_new(&g.w, g.p, c, NULL), SS_OK);
    ck_assert_int_eq(ss_env_open(&g.env, g.w, 100, NULL), SS_OK);
    g.t = made_trace(rows);
    ss_env_reset(&g.env, g.t, 0, 1);
}

static void end(void)
{
    ss_env_close(&g.env);
    ss_world_free(g.w);
    ss_profile_free(g.p);
    ss_trace_free(g.t);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

static ss_env_outcome window(int action)
{
    ss_env_outcome o;
    ss_env_window(&g.env, &g.env.s, action, &o);
    return o;
}

static void near(double a, double b)
{
    ck_assert_msg(fabs(a - b) < 1e-6 * fmax(1, fabs(b)), "%.9g, expected %.9g", a, b);
}

/* 400 kbit/s, a round trip of 60 ms, no load: 5000 bytes take 100 ms. */
START_TEST(arithmetic)
{
    ss_env_config c = ss_env_defaults();
    begin("0,4e5,60,0\n1000,0,0,0\n", &c);
    ss_env_outcome o = window(INPUT);
    near(o.latency_ms, 1 + 100 + 30 + 10);
    near(o.energy_mj, 1 + (0.1 * 2 + 0.04 * 0.1) * 1e3); /* processor; air and bits */
    near(o.quality, 0.9);
    near(o.reward, 9 - 5 * 141 / 200. - 3 * (1 + 204) / 100.);
    near(o.bytes, 5000);
    o = window(FOUR);
    near(o.latency_ms, 100 + 20 + 30 + 5);
    o = window(WHOLE); /* made here: the link does not count, but in the age of its record */
    near(o.latency_ms, 200);
    near(o.reward, 7 - 5 - 3 * (200 + (0.002 * 2 + 0.0008 * 0.1) * 1e3) / 100. - 0.02 * 0.202);
    end();
    /* The load of others takes processor away: half of it doubles the time, not the energy. */
    begin("0,4e5,60,0.5\n1000,0,0,0\n", &c);
    o = window(FOUR);
    near(o.latency_ms, 200 + 20 + 30 + 5);
    near(o.energy_mj, 100 + (0.02 * 2 + 0.008 * 0.1) * 1e3);
    end();
    /* Late with each window: 200 ms of work at a quarter of a processor, every 500 ms. */
    begin("0,4e5,60,0.75\n1000,0,0,0\n", &c);
    for (int i = 0; i < 4; i++)
        near(window(WHOLE).latency_ms, 800 + 300 * i);
    end();
}
END_TEST

/* A link that is too slow, then one that is gone: the queue fills, and drains in order. */
START_TEST(queueing)
{
    ss_env_config c = ss_env_defaults();
    c.late_ms = 1e6;
    begin("0,4e4,0,0\n1000,0,0,0\n", &c); /* 5000 bytes take a second, and come every half */
    for (int i = 0; i < 6; i++)
        near(window(INPUT).latency_ms, 1011 + 500 * i);
    ck_assert_double_eq_tol(g.env.s.view.queue, 6 * 5000 - 3 * 5000, 10);
    near(window(FOUR).latency_ms, 6001 - 3000 + 200 + 5); /* behind the six */
    end();
    begin("0,4e5,0,0\n0.5,0,0,0\n2.05,4e5,0,0\n1000,0,0,0\n", &c);
    near(window(INPUT).latency_ms, 111);
    near(window(INPUT).latency_ms, 2050 - 500 + 100 + 10); /* waits for the end of the outage */
    ck_assert(g.env.s.view.bandwidth_age > 0);             /* nothing passed, nothing is known anew */
    ck_assert_double_eq_tol(g.env.s.view.queue, 5000, 1);
    near(window(INPUT).latency_ms, 2150 - 1000 + 100 + 10);
    end();
    /* Lost: quality 0, and the latency counts as the cap. */
    c = ss_env_defaults();
    begin("0,4e5,0,0\n0.5,0,0,0\n20,4e5,0,0\n1000,0,0,0\n", &c);
    window(INPUT);
    ss_env_outcome o = window(INPUT);
    ck_assert(o.late);
    near(o.latency_ms, 2000);
    near(o.quality, 0);
    o = window(WHOLE);
    ck_assert(!o.late && o.latency_ms < 201);
    end();
}
END_TEST

START_TEST(kept_back)
{
    ss_env_config c = ss_env_defaults();
    c.hold = 4;
    begin("0,4e5,0,0\n1000,0,0,0\n", &c);
    g.p->energy.radio_tail_s = 3;
    g.p->energy.radio_tail_w = 1;
    for (int i = 0; i < 3; i++) {
        ss_env_outcome o = window(HOLD);
        near(o.energy_mj, 200);
        near(o.reward, 7 - 5 - 6);
        near(g.env.s.held, i + 1);
    }
    ss_env_outcome o =
        window(HOLD); /* the fourth sends: 400 bytes take 8 ms, and the radio stays awake for 3 s */
    near(o.energy_mj, 200 + (0.008 * 2 + 0.0032 * 0.1) * 1e3 + 3000);
    double at = 1.5 + 0.2 + 0.008, age = 4 * at - (0 + 0.5 + 1 + 1.5);
    near(o.reward, 7 - 5 - 3 * o.energy_mj / 100 - 0.02 * age);
    near(g.env.s.held, 0);
    o = window(WHOLE); /* sent at once: 0.5 s later, so the tail is longer by 0.5 s */
    near(o.energy_mj, 200 + (0.002 * 2 + 0.0008 * 0.1) * 1e3 + 3000 - (3000 - 494));
    window(HOLD);
    window(HOLD);
    o = window(FOUR); /* sends what was kept back before its own */
    near(o.latency_ms, 100 + 4 + 20 + 5);
    window(HOLD);
    double settled = ss_env_settle(&g.env, &g.env.s);
    ck_assert(settled < 0 && settled > -100);
    near(ss_env_settle(&g.env, &g.env.s), 0);
    end();
}
END_TEST

/* The quality goes by the difficulty where the profile says so, and only then. */
START_TEST(difficulty)
{
    ss_env_config c = ss_env_defaults();
    for (int by_u = 0; by_u < 2; by_u++) {
        g.p = made_profile(choices, 3);
        g.p->choice[FOUR].u_low = 0.9;
        g.p->choice[FOUR].u_high = 0.6;
        c.by_u = by_u;
        ck_assert_int_eq(ss_world_new(&g.w, g.p, &c, NULL), SS_OK);
        near(ss_world_quality(g.w, INPUT, 0.1), 0.9);
        near(ss_world_quality(g.w, FOUR, 0.25), by_u ? 0.9 : 0.8);
        near(ss_world_quality(g.w, FOUR, 0.75), by_u ? 0.6 : 0.8);
        near(ss_world_quality(g.w, FOUR, 1), by_u ? 0.45 : 0.8);
        ck_assert_int_eq(ss_env_open(&g.env, g.w, 4000, NULL), SS_OK);
        g.t = made_trace("0,4e6,60,0\n1000,0,0,0\n");
        ss_env_reset(&g.env, g.t, 0, 1);
        double sum = 0, squares = 0, together = 0, before = 0, seen = 0;
        for (int i = 0; i < 4000; i++) {
            double u = (double)g.env.luck[(size_t)i * SS_ENV_LUCK + SS_ENV_DIFFICULTY] - 0.5;
            ss_env_outcome o = window(FOUR);
            near(o.quality, ss_world_quality(g.w, FOUR, u + 0.5));
            sum += u;
            squares += u * u;
            together += u * before;
            before = u;
            seen += fabs(g.env.s.view.u - 0.5 - u) < 1e-6; /* the result is back before the next window */
        }
        /* uniform, and neighbours agree */
        ck_assert(fabs(sum / 4000) < 0.1 && fabs(squares / 4000 - 1 / 12.) < 0.02 &&
                  together / squares > 0.9);
        ck_assert(seen >= 3990);
        end();
    }
}
END_TEST

static void decisions(int action, int from, double reward[50])
{
    ss_env_reset(&g.env, g.t, 3, 7);
    for (int i = 0; i < 50 && !ss_env_over(&g.env); i++)
        ss_env_step(&g.env, i < from ? INPUT : action, &reward[i], NULL);
}

START_TEST(luck_is_the_seeds)
{
    ss_env_config c = ss_env_defaults();
    double a[50] = {0}, b[50] = {0};
    begin("0,4e5,60,0\n40,0,60,0.3\n50,8e5,20,0.9\n60,0,0,0\n", &c);
    decisions(FOUR, 0, a);
    decisions(FOUR, 0, b);
    ck_assert(!memcmp(a, b, sizeof a));
    float luck = g.env.luck[40];
    decisions(INPUT, 0, b);
    ck_assert(g.env.luck[40] == luck); /* whatever was chosen */
    ck_assert(memcmp(a, b, sizeof a) != 0);
    ss_env_reset(&g.env, g.t, 3, 8);
    ck_assert(g.env.luck[40] != luck);
    /* A sharp change is a reason to decide at once. */
    ss_env_reset(&g.env, g.t, 39, 7);
    double reward;
    ck_assert_int_lt(ss_env_step(&g.env, INPUT, &reward, NULL), 10);
    ss_env_reset(&g.env, g.t, 0, 7);
    ck_assert_int_eq(ss_env_step(&g.env, INPUT, &reward, NULL), 10);
    end();
}
END_TEST

/* The present of a state in which a backlog is left, over to a future in which the link goes on otherwise. */
START_TEST(imagined)
{
    ss_env_config c = ss_env_defaults();
    ss_env to;
    begin("0,4e4,0,0\n1000,0,0,0\n", &c);
    ck_assert_int_eq(ss_env_open(&to, g.w, 100, NULL), SS_OK);
    for (int i = 0; i < 3; i++)
        window(INPUT); /* at 1.5 s, 3 - 1.5 s of the link's time are left: 7500 bytes */
    ss_trace *fast = made_trace("0,4e5,0,0\n1000,0,0,0\n");
    ss_env_imagine(&g.env, fast, 5, &to);
    ck_assert_double_eq_tol(to.s.link_free, 1.5 + 0.15, 0.001);
    ss_env_outcome o;
    ss_env_window(&to, &to.s, INPUT, &o);
    ck_assert_double_eq_tol(o.latency_ms, 150 + 100 + 10, 1);
    ss_trace_free(fast);
    ss_env_close(&to);
    end();
}
END_TEST

/* In the standard setting, what is best depends on the state, by a margin: for each of these states its best
 * action is worth at least MARGIN of reward a window more there than what is best in each other one. */
#define MARGIN 0.5
START_TEST(the_choice_matters)
{
    static const char *const states[] = {
        "0,3e7,10,0.03\n1000,0,0,0\n",  /* a fast link */
        "0,4e5,60,0.03\n1000,0,0,0\n",  /* a slow one */
        "0,1e4,300,0.03\n1000,0,0,0\n", /* next to none */
    };
    enum { STATES = sizeof states / sizeof *states };
    ss_env_config c = ss_env_defaults();
    c.sound = true;
    g.p = example_profile();
    ck_assert_int_eq(ss_world_new(&g.w, g.p, &c, NULL), SS_OK);
    ck_assert_int_eq(ss_env_open(&g.env, g.w, 100, NULL), SS_OK);
    int n = ss_world_actions(g.w, NULL), best[STATES];
    double worth[STATES][64];
    for (int i = 0; i < STATES; i++) {
        g.t = made_trace(states[i]);
        best[i] = 0;
        for (int a = 0; a < n; a++) {
            worth[i][a] = 0;
            ss_env_reset(&g.env, g.t, 0, 1);
            for (int w = 0; w < 100; w++)
                worth[i][a] += window(a).reward / 100;
            if (worth[i][a] > worth[i][best[i]])
                best[i] = a;
        }
        ss_trace_free(g.t);
    }
    g.t = NULL;
    for (int i = 0; i < STATES; i++)
        for (int k = 0; k < STATES; k++)
            ck_assert_msg(i == k || worth[i][best[i]] >= worth[i][best[k]] + MARGIN,
                          "state %d: best is action %d (%.3f), state %d: %d (%.3f)", i, best[i],
                          worth[i][best[i]], k, best[k], worth[i][best[k]]);
    end();
}
END_TEST

START_TEST(refused)
{
    ss_err e;
    ss_env_config c = ss_env_defaults();
    g.p = made_profile(choices, 3);
    g.p->choice[FOUR].server_ms.median = NAN;
    ck_assert_int_eq(ss_world_new(&g.w, g.p, &c, &e), SS_EUNFIT);
    ck_assert_ptr_null(g.w);
    ck_assert_ptr_nonnull(strstr(e.text, "cut 4 with codec i8"));
    g.p->choice[FOUR].server_ms.median = 1;
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_world_new(&g.w, g.p, &c, &e);
        if (!rc && (rc = ss_env_open(&g.env, g.w, 10, &e)))
            ss_world_free(g.w);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
    }
    g.t = NULL;
    end();
}
END_TEST

UNIT_MAIN("env", arithmetic, queueing, kept_back, difficulty, luck_is_the_seeds, imagined, the_choice_matters,
          refused)
