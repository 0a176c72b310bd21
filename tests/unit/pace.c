#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "split/pace.h"
#include "unit.h"

static ss_trace *trace(const char *rows)
{
    ss_trace *t;
    ss_err e = {0};
    ck_assert_msg(!ss_trace_parse(&t, rows, strlen(rows), "t", SS_TRACE_AUTO, 0, &e), "%s", e.text);
    return t;
}

/* 8000 bit/s is 1000 bytes a second; a round trip of 100 ms. */
START_TEST(rate_and_delay)
{
    static ss_pace p;
    ss_trace *t = trace("time_s,bandwidth_bps,rtt_ms\n0,8000,100\n10,0,100\n20,16000,100\n40,0,0\n");
    ss_pace_init(&p, t, 0);
    ck_assert(isinf(ss_pace_next(&p)));
    ss_pace_take(&p, 1, 1000); /* at 1 s; nothing was saved up before */
    ck_assert_uint_eq(ss_pace_due(&p, 1), 0);
    ck_assert_double_eq_tol(ss_pace_next(&p), 2, 1e-9);
    ck_assert_uint_eq(ss_pace_due(&p, 1.5), 0); /* 500 have passed and are on their way */
    ck_assert_double_eq_tol(ss_pace_next(&p), 1.55, 1e-9);
    ck_assert_uint_eq(ss_pace_due(&p, 1.551), 500);
    ss_pace_give(&p, 500);
    ck_assert_uint_eq(ss_pace_due(&p, 3), 51); /* that passed when it was asked last */
    ss_pace_give(&p, 51);
    ck_assert_uint_eq(ss_pace_due(&p, 3.04), 0);
    ck_assert_uint_eq(ss_pace_due(&p, 3.06), 449);
    ss_pace_give(&p, 449);
    ck_assert(isinf(ss_pace_next(&p)));
    ss_pace_take(&p, 9, 2000);
    ck_assert_uint_eq(ss_pace_due(&p, 19.9), 0);
    ck_assert_uint_eq(p.passed,
                      2000); /* 1000 before the outage; p was asked at 19.9 only, so all that could */
    ss_trace_free(t);
}
END_TEST

/* Asked whenever it says: nothing is lost, nothing comes sooner than it could, and all comes when it can. */
START_TEST(never_ahead)
{
    static ss_pace p;
    ss_trace *t;
    ss_rng r = ss_rng_make(3, 0);
    ck_assert_int_eq(ss_trace_make(&t, 0, 5, 200, NULL), SS_OK);
    ss_pace_init(&p, t, 17.5);
    double now = 0, base = ss_trace_bits(t, 17.5);
    uint64_t out = 0, in = 0;
    int idle = 0;
    while (now < 150) {
        if (in - out < 30000) {
            uint64_t n = ss_rng_below(&r, 5000);
            ss_pace_take(&p, now, n);
            in += n;
        }
        uint64_t due = ss_pace_due(&p, now);
        ss_pace_give(&p, due);
        out += due;
        ck_assert_msg((double)out * 8 <= ss_trace_bits(t, 17.5 + now) - base + 1, "ahead at %g", now);
        double next = ss_pace_next(&p);
        ck_assert(next > now || due || isinf(next));
        now = isinf(next) ? now + 0.01 : fmax(next, now + 1e-9);
        idle += isinf(next);
    }
    /* It was always full, so nearly all that could pass has. */
    ck_assert((double)out * 8 > 0.9 * (ss_trace_bits(t, 17.5 + now) - base));
    ck_assert_int_lt(idle, 100);
    ss_trace_free(t);
}
END_TEST

UNIT_MAIN("pace", rate_and_delay, never_ahead)
