#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "failalloc.h"
#include "split/trace.h"
#include "unit.h"

static ss_err err;

static ss_trace *parsed(const char *text, ss_trace_format format)
{
    ss_trace *t;
    int rc = ss_trace_parse(&t, text, strlen(text), "t", format, 50, &err);
    ck_assert_msg(!rc, "%s", err.text);
    return t;
}

static void close_to(double a, double b)
{
    ck_assert_msg(fabs(a - b) <= 1e-9 * fmax(1, fabs(b)), "%.12g, expected %.12g", a, b);
}

/* 1 Mbit/s for 2 s, an outage of 1 s, 2 Mbit/s for half a second; then anew. */
static const char small[] =
    "time_s,bandwidth_bps,rtt_ms,cpu\n0,1e6,10,0\n2,0,20,0.5\n3,2000000,30,1\n3.5,0,0,0\n";

START_TEST(csv)
{
    ss_trace *t = parsed(small, SS_TRACE_AUTO);
    ck_assert_uint_eq(ss_trace_rows(t), 3);
    close_to(ss_trace_seconds(t), 3.5);
    ck_assert(ss_trace_has_load(t) && !ss_trace_is_made(t));
    static const double at[][2] = {{0, 1e6},      {1.999, 1e6}, {2, 0},    {3, 2e6},
                                   {3.4999, 2e6}, {3.5, 1e6},   {35, 1e6}, {37, 0}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        close_to(ss_trace_at(t, at[i][0]).bandwidth, at[i][1]);
    close_to(ss_trace_at(t, 2.5).cpu, 0.5);
    close_to(ss_trace_at(t, 2.5).rtt, 20);
    static const double bits[][2] = {{0, 0},     {1, 1e6}, {2.5, 2e6}, {3.25, 2.5e6},
                                     {3.5, 3e6}, {7, 6e6}, {8, 7e6}};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        close_to(ss_trace_bits(t, bits[i][0]), bits[i][1]);
    static const double when[][2] = {{0, 0},     {1, 1e-6}, {2e6, 2}, {2e6 + 2, 3 + 1e-6},
                                     {3e6, 3.5}, {6e6, 7},  {7e6, 8}};
    for (size_t i = 0; i < sizeof when / sizeof *when; i++)
        close_to(ss_trace_when_bits(t, when[i][0]), when[i][1]);
    close_to(ss_trace_work(t, 2), 2);
    close_to(ss_trace_work(t, 3), 2.5);
    close_to(ss_trace_work(t, 3.5), 2.5 + 0.5 * (1 - SS_TRACE_CPU_MAX));
    close_to(ss_trace_when_work(t, 2.25), 2.5);
    char *text = ss_trace_print(t);
    ss_trace *again = parsed(text, SS_TRACE_CSV);
    for (double s = 0; s < 8; s += 0.1)
        close_to(ss_trace_bits(again, s), ss_trace_bits(t, s));
    ss_trace_free(again);
    ss_free(text);
    ss_trace_free(t);
    t = parsed("time_s,bandwidth_bps,rtt_ms\n0,0,1\n9,0,1\n", SS_TRACE_CSV);
    ck_assert(isinf(ss_trace_when_bits(t, 1)) && !ss_trace_has_load(t));
    ss_trace_free(t);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(mahimahi)
{
    ss_trace *t =
        parsed("2\n2\n3\n7\n", SS_TRACE_AUTO); /* rows: 0-1 none, 1-2 two, 2-3 one, 3-6 none, 6-7 one */
    ck_assert_uint_eq(ss_trace_rows(t), 5);
    close_to(ss_trace_seconds(t), 0.007);
    double packet = SS_TRACE_MTU * 8;
    close_to(ss_trace_bits(t, 0.001), 0);
    close_to(ss_trace_bits(t, 0.002), 2 * packet);
    close_to(ss_trace_bits(t, 0.006), 3 * packet);
    close_to(ss_trace_bits(t, 0.007), 4 * packet);
    close_to(ss_trace_bits(t, 0.7), 400 * packet);
    close_to(ss_trace_at(t, 0).rtt, 50);
    ss_trace_free(t);
    t = parsed("0\r\n0\r\n1\r\n", SS_TRACE_MAHIMAHI);
    close_to(ss_trace_bits(t, 0.001), 3 * packet);
    ss_trace_free(t);
    t = parsed("5", SS_TRACE_AUTO);
    close_to(ss_trace_bits(t, 1), 200 * packet);
    ss_trace_free(t);
}
END_TEST

static void refused(const char *text, ss_trace_format format, int code, const char *says)
{
    ss_trace *t;
    err.text[0] = 0;
    int rc = ss_trace_parse(&t, text, strlen(text), "t", format, 50, &err);
    ck_assert_msg(rc == code, "'%s': %d, expected %d: %s", text, rc, code, err.text);
    ck_assert_ptr_null(t);
    ck_assert_msg(strstr(err.text, says), "'%s' lacks '%s'", err.text, says);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

START_TEST(refusals)
{
#define HEAD "time_s,bandwidth_bps,rtt_ms\n"
    refused(HEAD, SS_TRACE_CSV, SS_EDAMAGED, "0 rows, expected at least 2");
    refused(HEAD "0,1,1\n", SS_TRACE_CSV, SS_EDAMAGED, "1 rows, expected at least 2");
    refused(HEAD "1,1,1\n2,1,1\n", SS_TRACE_CSV, SS_ERANGE, "line 2: time_s is 1, expected 0");
    refused(HEAD "0,1,1\n0,1,1\n", SS_TRACE_CSV, SS_ERANGE,
            "line 3: time_s is 0, expected at least a microsecond more than the 0");
    refused(HEAD "0,-1,1\n1,1,1\n", SS_TRACE_CSV, SS_ERANGE, "line 2: bandwidth_bps is '-1'");
    refused(HEAD "0,nan,1\n1,1,1\n", SS_TRACE_CSV, SS_ERANGE, "bandwidth_bps");
    refused(HEAD "0,1,1\n1,1,1e9\n", SS_TRACE_CSV, SS_ERANGE, "line 3: rtt_ms");
    refused(HEAD "0,1,1\n2e6,1,1\n", SS_TRACE_CSV, SS_ERANGE, "time_s is '2e6'");
    refused("time_s,bandwidth_bps,rtt_ms,cpu\n0,1,1,1.5\n1,1,1,0\n", SS_TRACE_CSV, SS_ERANGE, "cpu is '1.5'");
    refused("time_s,bandwidth_bps\n0,1\n1,1\n", SS_TRACE_CSV, SS_EUNFIT, "no column 'rtt_ms'");
    refused("time_s,bandwidth_bps,rtt_ms,note\n0,1,1,x\n1,1,1,x\n", SS_TRACE_CSV, SS_EUNFIT, "4 columns");
    refused("", SS_TRACE_AUTO, SS_EDAMAGED, "empty");
    refused("", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "no stamp above 0");
    refused("0\n0\n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "no stamp above 0");
    refused("1\n3\n2\n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "line 3: 2, expected at least the 3");
    refused("1\n\n2\n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "line 2: expected milliseconds");
    refused("1\n2 \n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "line 2: expected");
    refused("1\n-2\n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "line 2: expected");
    refused("1\n99999999999999999999999\n", SS_TRACE_MAHIMAHI, SS_EDAMAGED, "line 2: expected");
    refused("1\n2000000000\n", SS_TRACE_MAHIMAHI, SS_ELIMIT, "at most 1e+09");
    ss_trace *t;
    ck_assert_int_eq(ss_trace_open(&t, "/nonexistent/t.csv", SS_TRACE_AUTO, 50, &err), SS_EIO);
    ck_assert_int_eq(ss_trace_make(&t, 99, 1, 10, &err), SS_EINVAL);
    ck_assert_int_eq(ss_trace_make(&t, 0, 1, 0, &err), SS_ERANGE);
}
END_TEST

/* Mean, deviation and outages of long traces are those that the preset is fitted to. */
START_TEST(moments)
{
    enum { SECONDS = 400000 };
    for (int p = 0; p < ss_trace_presets(); p++) {
        ss_trace *t;
        double mean, deviation, outage, sum = 0, squares = 0, none = 0;
        ss_trace_preset_moments(p, &mean, &deviation, &outage);
        ck_assert_int_eq(ss_trace_make(&t, p, 7, SECONDS, &err), SS_OK);
        for (int s = 0; s < SECONDS; s++) {
            double b = ss_trace_at(t, s).bandwidth;
            sum += b;
            squares += b * b;
            none += b <= 0;
        }
        double m = sum / SECONDS, d = sqrt(squares / SECONDS - m * m);
        ck_assert_msg(fabs(m / mean - 1) < 0.03 && fabs(d / deviation - 1) < 0.05 &&
                          fabs(none / SECONDS / outage - 1) < 0.1,
                      "%s: %g +- %g, outage %g", ss_trace_preset_name(p), m, d, none / SECONDS);
        ss_trace_free(t);
    }
    ck_assert_int_eq(ss_trace_preset_find("lte", 3), 1);
    ck_assert_int_eq(ss_trace_preset_find("lte", 2), -1);
    ck_assert_ptr_null(ss_trace_preset_name(-1));
}
END_TEST

START_TEST(made_from_a_seed)
{
    ss_trace *a, *b, *c = NULL;
    ck_assert_int_eq(ss_trace_make(&a, 0, 3, 300, NULL), SS_OK);
    ck_assert_int_eq(ss_trace_make(&b, 0, 3, 300, NULL), SS_OK);
    char *x = ss_trace_print(a), *y = ss_trace_print(b);
    ck_assert_str_eq(x, y);
    ss_free(y);
    ss_trace_free(b);
    ck_assert_int_eq(ss_trace_make(&b, 0, 4, 300, NULL), SS_OK);
    y = ss_trace_print(b);
    ck_assert_str_ne(x, y);
    ss_free(x);
    ss_free(y);
    /* Going on: the present is as it was, the future is another one for each seed, and depends on the
     * present. */
    double near = 0, far = 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        double at = 10 + (double)(seed % 280);
        ck_assert_int_eq(ss_trace_go_on(&c, a, at + 0.5, seed, 30, NULL), SS_OK);
        ss_trace_now now = ss_trace_at(a, at), then = ss_trace_at(c, 0);
        ck_assert(now.bandwidth == then.bandwidth && now.rtt == then.rtt && now.cpu == then.cpu);
        near += fabs(ss_trace_at(c, 1).cpu - now.cpu);
        far += fabs(ss_trace_at(c, 29).cpu - now.cpu);
    }
    ck_assert_msg(near > 0 && near < far / 3, "%g, %g", near, far);
    ss_trace_free(c);
    c = NULL;
    ss_trace *read = parsed(small, SS_TRACE_CSV);
    ck_assert_int_eq(ss_trace_go_on(&c, read, 3.2, 1, 30, &err), SS_OK);
    ck_assert_double_eq_tol(ss_trace_at(c, 29).bandwidth, 1e6 + 0.5e6,
                            1); /* second 3: half of it, then anew */
    ck_assert(ss_trace_at(c, 0).cpu == 1);
    ss_trace_free(c);
    ss_trace *weak;
    ck_assert_int_eq(ss_trace_weaken(&weak, a, 0.125, NULL), SS_OK);
    for (double at = 0; at < 400; at += 7.3) {
        ck_assert_double_eq_tol(ss_trace_bits(weak, at), ss_trace_bits(a, at) / 8,
                                1e-3 * ss_trace_bits(a, at) + 1);
        close_to(ss_trace_work(weak, at), ss_trace_work(a, at));
    }
    ck_assert(!ss_trace_is_made(weak));
    ss_trace_free(weak);
    /* A load for one that has none: the link stays as it was. */
    ss_trace *m = parsed("2\n2\n3\n7\n3000\n", SS_TRACE_AUTO),
             *plain = parsed("2\n2\n3\n7\n3000\n", SS_TRACE_AUTO);
    ck_assert_int_eq(ss_trace_add_load(m, 5, NULL), SS_OK);
    ck_assert(ss_trace_has_load(m));
    for (double s = 0; s < 9; s += 0.0013)
        close_to(ss_trace_bits(m, s), ss_trace_bits(plain, s));
    ck_assert(ss_trace_work(m, 3) < 3 && ss_trace_work(plain, 3) == 3);
    ss_trace_free(m);
    ss_trace_free(plain);
    ss_trace_free(read);
    ss_trace_free(a);
    ss_trace_free(b);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(allocation_fails)
{
    static const char *const texts[] = {small, "2\n2\n3\n7\n"};
    for (int k = 0; k < 4; k++)
        for (long n = 1;; n++) {
            ss_trace *t;
            fail_alloc_from(n, false);
            int rc = k < 2 ? ss_trace_parse(&t, texts[k], strlen(texts[k]), "t", SS_TRACE_AUTO, 1, NULL)
                           : ss_trace_make(&t, 0, 1, 10, NULL);
            if (!rc && k == 3)
                rc = ss_trace_add_load(t, 1, NULL);
            bool failed = fail_alloc_done();
            if (k == 3)
                ss_trace_free(t);
            else {
                ck_assert(!rc == !!t);
                ss_trace_free(t);
            }
            ck_assert_uint_eq(ss_mem_used(), 0);
            if (!failed) {
                ck_assert_int_gt(n, 4);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
        }
}
END_TEST

UNIT_MAIN("trace", csv, mahimahi, refusals, moments, made_from_a_seed, allocation_fails)
