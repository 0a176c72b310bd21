#include "base/mem.h"
#include "split/sight.h"
#include "splits.h"

static const ss_split_action action[] = {
    {.cut = SS_CUT_INPUT, .codec = "u8", .device_ms = 1, .bytes = 6000},
    {.cut = SS_CUT_EMBEDDING, .codec = "i8", .hold = 50, .device_ms = 240, .bytes = 192, .load = 0.25}};
static const ss_sight_scale scale = {480, 10, 50};

static ss_sight known(void)
{
    return (ss_sight){.u = 0.25,
                      .cpu = 0.5,
                      .bandwidth = 8e3 * 64,
                      .bandwidth_age = 30,
                      .rtt = 70,
                      .queue = 256 * 127,
                      .behind = 1,
                      .held = 25,
                      .since_sent = 5,
                      .action = 1,
                      .then_cpu = 0.25,
                      .then_bandwidth = 8e3 * 8,
                      .then_queue = 0};
}

START_TEST(inputs)
{
    float x[SS_SIGHT_INPUTS];
    ss_sight v = known();
    static const double expected[SS_SIGHT_INPUTS] = {0.25, 0.5, 0.25, 0.5, 0.25, 0.5, 0.5,     0.5,
                                                     0.5,  0.2, 0.5,  0.5, 0.5,  0.5, 2 / 12., 1};
    ss_sight_inputs(&v, &scale, action, x);
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        if (i != SS_SIGHT_DRAIN)
            ck_assert_msg(fabs((double)x[i] - expected[i]) < 0.005, "%s: %g", ss_sight_name(i), (double)x[i]);
    ck_assert_double_eq_tol((double)x[SS_SIGHT_DRAIN], log2(1 + 10 * 256 * 127 / 64e3) / 12, 1e-3);
    /* What is not known has its neutral value, and everything stays in its range. */
    ss_sight none = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, -1, NAN, NAN, NAN};
    ss_sight_inputs(&none, &scale, action, x);
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        ck_assert_double_eq_tol((double)x[i],
                                i == SS_SIGHT_U || i == SS_SIGHT_CPU ? 0.5
                                : i == SS_SIGHT_RTT                  ? log2(6) / 6
                                                                     : 0,
                                1e-6);
    ss_sight far = {9, 9, 1e15, 1e9, 1e9, 1e15, 1e9, 1e9, 0, 0, -9, 1e15, 1e15};
    ss_sight_inputs(&far, &scale, action, x);
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        ck_assert_msg(x[i] >= -1 && x[i] <= 1.0001F, "%s: %g", ss_sight_name(i), (double)x[i]);
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        ck_assert_int_eq(ss_sight_find(ss_sight_name(i)), i);
    ck_assert_ptr_null(ss_sight_name(SS_SIGHT_INPUTS));
    ck_assert_int_eq(ss_sight_find("U"), -1);
}
END_TEST

START_TEST(sharp)
{
    ss_sight v = known();
    ss_sight_decide(&v, 0);
    ck_assert(!ss_sight_sharp(&v) && v.action == 0);
    v.cpu = 0.74;
    ck_assert(!ss_sight_sharp(&v));
    v.cpu = 0.76;
    ck_assert(ss_sight_sharp(&v));
    v.cpu = NAN; /* counts as one half */
    ck_assert(!ss_sight_sharp(&v));
    v.bandwidth /= 7;
    ck_assert(!ss_sight_sharp(&v));
    v.bandwidth /= 1.5;
    ck_assert(ss_sight_sharp(&v));
    v = known();
    v.queue = 0;
    ss_sight_decide(&v, 0);
    v.queue = 6000;
    ck_assert(ss_sight_sharp(&v));
    v.queue = 600;
    ck_assert(!ss_sight_sharp(&v));
}
END_TEST

START_TEST(late)
{
    /* 240 ms of work at half a processor, the own quarter not counted, is a hop. */
    ck_assert_double_eq_tol(ss_sight_late(1, &action[1], 0.75, 480), 1, 1e-9);
    ck_assert_double_eq_tol(ss_sight_late(1, &action[1], 0.25, 480), 1 - 0.24, 1e-9);
    ck_assert_double_eq_tol(ss_sight_late(1, &action[1], 1, 480), 1.48, 1e-9);
    ck_assert_double_eq_tol(ss_sight_late(0.1, &action[1], NAN, 480), 0, 1e-9);
}
END_TEST

START_TEST(actions)
{
    static const made_choice choices[] = {{SS_CUT_INPUT, "u8", 1, 10, 5000, 0.9},
                                          {SS_CUT_EMBEDDING, "f32", 200, 0, 600, 0.7},
                                          {SS_CUT_EMBEDDING, "i8", 250, 0, 200, 0.7}};
    ss_profile *p = made_profile(choices, 3);
    ss_split_action a[4];
    char name[48];
    ck_assert_int_eq(ss_split_actions(p, false, 0, a), 3);
    ck_assert_int_eq(ss_split_actions(p, false, 20, a), 4);
    ck_assert_str_eq(a[3].codec, "i8");
    ck_assert(a[3].hold == 20 && !a[2].hold && a[1].bytes == 600 && a[1].device_ms == 200);
    ck_assert_double_eq_tol(a[2].load, 0.5, 1e-9);
    ck_assert_str_eq(ss_split_action_name(&a[3], name), "embedding/i8+hold");
    ck_assert_str_eq(ss_split_action_name(&a[0], name), "input/u8");
    ck_assert_int_eq(ss_split_action_codec(&a[0]), 4);
    ck_assert_int_eq(ss_split_action_codec(&a[2]), 3);
    strcpy(a[0].codec, "unheard");
    ck_assert_int_lt(ss_split_action_codec(&a[0]), 0);
    /* A codec is idle when another one of its cut does all of it with fewer bytes; of two alike one stays. */
    p->choice[2].device_ms.median = 205;
    ck_assert_int_eq(ss_split_actions(p, false, 0, a), 2);
    ck_assert_str_eq(a[1].codec, "i8");
    p->choice[2].bytes.mean = 600;
    ck_assert_int_eq(ss_split_actions(p, false, 0, a), 2);
    p->choice[1].u_low = p->choice[1].u_high = p->choice[2].u_low = 0.7;
    p->choice[2].u_high = 0.6; /* as good on the mean of others only */
    p->choice[1].bytes.mean = 700;
    ck_assert_int_eq(ss_split_actions(p, false, 0, a), 3);
    p->n = 1; /* nothing to keep back */
    ck_assert_int_eq(ss_split_actions(p, false, 20, a), 1);
    strcpy(p->choice[0].codec, "opus24");
    ck_assert_int_eq(ss_split_actions(p, false, 20, a), 0);
    ck_assert_int_eq(ss_split_actions(p, true, 20, a), 1);
    ss_profile_free(p);
}
END_TEST

UNIT_MAIN("sight", inputs, sharp, late, actions)
