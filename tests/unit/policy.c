#include <math.h>

#include "io/stream.h"
#include "split/policy.h"
#include "unit.h"

#define K(k) (SS_CUT_BLOCK0 + (k))

static const ss_policy_config paper = {SS_POLICY_HEURISTIC, SS_SIGN_PAPER, K(4), 1e6, 10};
static const ss_policy_config sane = {SS_POLICY_HEURISTIC, SS_SIGN_SANE, K(4), 1e6, 10};

static ss_policy_input given(double cpu, double bw)
{
    return (ss_policy_input){cpu, bw * 1e6, NAN, NAN, -1};
}

static int wish(const ss_policy_config *c, double cpu, double bw)
{
    ss_policy_input in = given(cpu, bw);
    return ss_policy_ask(c, &in).cut;
}

START_TEST(extremes)
{
    /* idle or busy, slow or fast link */
    ck_assert_int_eq(wish(&paper, 0, 0), K(4));
    ck_assert_int_eq(wish(&paper, 1, 0), K(1));
    ck_assert_int_eq(wish(&paper, 0, 1), K(7));
    ck_assert_int_eq(wish(&paper, 1, 1), K(3));
    ck_assert_int_eq(wish(&sane, 0, 0), K(7));
    ck_assert_int_eq(wish(&sane, 1, 0), K(3));
    ck_assert_int_eq(wish(&sane, 0, 1), K(4));
    ck_assert_int_eq(wish(&sane, 1, 1), K(1));
    /* the claim of the header: the faster the link, the deeper the paper's cut, the shallower the other */
    for (int i = 0; i < 20; i++) {
        ck_assert_int_le(wish(&paper, 0.3, i / 20.0), wish(&paper, 0.3, (i + 1) / 20.0));
        ck_assert_int_ge(wish(&sane, 0.3, i / 20.0), wish(&sane, 0.3, (i + 1) / 20.0));
        ck_assert_int_ge(wish(&sane, i / 20.0, 0.3), wish(&sane, (i + 1) / 20.0, 0.3));
    }
    /* out of range, not known */
    ck_assert_int_eq(wish(&paper, -5, 1e9), K(7));
    ck_assert_int_eq(wish(&paper, INFINITY, -1), K(1));
    ck_assert_int_eq(wish(&paper, NAN, NAN), wish(&paper, 0.5, 0.5));
    ck_assert_int_eq(wish(&sane, NAN, NAN), K(4));
    ck_assert_int_eq(wish(&sane, NAN, 0), K(5));
}
END_TEST

START_TEST(fixed_and_file)
{
    for (int kind = 0; kind < 3; kind++) {
        ss_policy_config c = {(ss_policy_kind)kind, SS_SIGN_SANE, SS_CUT_EMBEDDING, 1e6, 10};
        ss_policy_input in = given(1, 1);
        ck_assert_int_eq(ss_policy_ask(&c, &in).cut, kind == SS_POLICY_HEURISTIC ? K(1) : SS_CUT_EMBEDDING);
        in.set = SS_CUT_INPUT; /* by hand, over all of them */
        ck_assert_int_eq(ss_policy_ask(&c, &in).cut, SS_CUT_INPUT);
    }
}
END_TEST

START_TEST(every_so_many_windows)
{
    ss_policy p;
    ss_policy_wish w;
    ss_policy_input in = given(0.5, 0.5);
    int decided = 0;
    ss_policy_init(&p, &sane);
    for (int i = 0; i < 95; i++) {
        int why = ss_policy_step(&p, &in, &w);
        ck_assert_int_eq(why, i == 0 ? SS_POLICY_FIRST : i % 10 ? SS_POLICY_NONE : SS_POLICY_TIME);
        ck_assert_int_eq(p.cut, K(4));
        decided += why != 0;
    }
    ck_assert_int_eq(decided, 10);
    /* A slow drift is seen when it is time; a sharp change at once, and the time begins anew. */
    in = given(0.3, 0.4); /* x = 5.28 */
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_NONE);
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_TIME);
    ck_assert_int_eq(p.cut, K(5));
    in.bandwidth = 0.15e6;
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_SHARP_CHANGE);
    ck_assert_int_eq(p.cut, K(5)); /* 6.08 is not beyond the margin */
    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_NONE);
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_TIME);
    /* What is no longer known is a change like any other: from 0.15 to 0.5. */
    in.bandwidth = NAN;
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_SHARP_CHANGE);
}
END_TEST

/* x within the margin of the cut in force changes nothing, however long; beyond it does. */
START_TEST(hysteresis)
{
    ss_policy p;
    ss_policy_wish w;
    ss_policy_config c = sane;
    c.every = 1;
    ss_policy_init(&p, &c);
    ss_policy_input in = given(0.5, 0.5);
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(4));
    int changes = 0;
    for (int i = 0; i < 1000; i++) { /* x = 4.8 (1 - cpu) + 1.6 between 3.76 and 5.2 */
        in.cpu = i % 2 ? 0.55 : 0.25;
        int before = p.cut;
        ss_policy_step(&p, &in, &w);
        changes += p.cut != before;
    }
    ck_assert_int_eq(changes, 0);
    in.cpu = 0.2; /* 5.44 */
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(5));
    in.cpu = 0.33; /* 4.816: not below 4.75 */
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(5));
    in.cpu = 0.35; /* 4.72 */
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(4));
    /* At the ends there is nothing beyond: from anywhere down to 1, and x of 0 stays there. */
    in = given(1, 1);
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(1));
    in.cpu = 0.6; /* 1.92 */
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(1));
    in = given(0, 0);
    ss_policy_step(&p, &in, &w);
    ck_assert_int_eq(p.cut, K(7));
}
END_TEST

START_TEST(by_hand_at_once)
{
    ss_policy p;
    ss_policy_wish w;
    ss_policy_input in = given(0.5, 0.5);
    ss_policy_init(&p, &sane);
    ss_policy_step(&p, &in, &w);
    in.set = SS_CUT_EMBEDDING;
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_BY_HAND);
    ck_assert_int_eq(p.cut, SS_CUT_EMBEDDING);
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_NONE);
    in.set = K(0);
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_BY_HAND);
    ck_assert_int_eq(p.cut, K(0));
    in.set = -1; /* the policy's own again, at once and without a margin */
    ck_assert_int_eq(ss_policy_step(&p, &in, &w), SS_POLICY_BY_HAND);
    ck_assert_int_eq(p.cut, K(4));
    for (int why = 0; why <= SS_POLICY_BY_HAND; why++)
        ck_assert_int_eq(*ss_policy_why_name(why) != 0, why != 0);
    ck_assert_str_eq(ss_policy_why_name(99), "");
}
END_TEST

UNIT_MAIN("policy", extremes, fixed_and_file, every_so_many_windows, hysteresis, by_hand_at_once)
