#include "split/tally.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "split/energy.h"
#include "unit.h"

START_TEST(numbers)
{
    ss_tally t = {0};
    ss_err e;
    ss_profile_choice c = {.cut = 3, .codec = "i8"};
    double u[1000];
    ck_assert_int_eq(ss_tally_choice(&t, NULL, &c, &e), SS_EINVAL);
    for (int i = 0; i < 1000; i++) { /* 1 .. 1000 in another order */
        int k = (i * 37) % 1000 + 1;
        u[i] = k / 1000.0;
        ck_assert_int_eq(ss_tally_add(&t, k, 2 * k, 100 + k, 1 - k * 1e-4, i ? 1 : NAN, &e), 0);
    }
    ck_assert_int_eq(ss_tally_choice(&t, u, &c, &e), 0);
    ck_assert_double_eq(c.device_ms.min, 1);
    ck_assert_double_eq(c.device_ms.median, 500);
    ck_assert_double_eq(c.device_ms.p95, 950);
    ck_assert_double_eq(c.server_ms.p95, 1900);
    ck_assert_double_eq_tol(c.bytes.mean, 600.5, 1e-9);
    ck_assert_double_eq(c.bytes.p5, 150);
    ck_assert_double_eq(c.bytes.max, 1100);
    ck_assert_double_eq_tol(c.cosine_mean, 1 - 500.5e-4, 1e-9);
    ck_assert_double_eq_tol(c.cosine_p5, 1 - 951e-4, 1e-9);
    ck_assert_double_eq_tol(c.u_low, 1 - 250e-4, 1e-9);  /* 1 .. 499 */
    ck_assert_double_eq_tol(c.u_high, 1 - 750e-4, 1e-9); /* 500 .. 1000 */
    ck_assert(isnan(c.probe));                           /* one window was not asked of */
    ck_assert_int_eq(c.cut, 3);
    /* All alike: nothing lies below the median. */
    for (int i = 0; i < 1000; i++)
        u[i] = 0.5;
    ck_assert_int_eq(ss_tally_choice(&t, u, &c, &e), 0);
    ck_assert(isnan(c.u_low) && isnan(c.u_high));
    ss_tally_clear(&t);
    ck_assert_int_eq(ss_tally_add(&t, 1, 1, 1, 1, 1, &e), 0);
    ck_assert_int_eq(ss_tally_choice(&t, NULL, &c, &e), 0);
    ck_assert_double_eq(c.device_ms.p95, 1);
    ss_tally_clear(&t);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* The probe's answers are the quality when every window has one. */
START_TEST(answers)
{
    ss_tally t = {0};
    ss_err e;
    ss_profile_choice c = {.cut = 3, .codec = "i8"};
    double u[100];
    for (int i = 0; i < 100; i++) {
        u[i] = (i * 37 % 100) / 100.0; /* right on 45 of the lower 50, on 20 of the others */
        ck_assert_int_eq(ss_tally_add(&t, 1, 1, 1, 0.5, u[i] < 0.445 || u[i] >= 0.795, &e), 0);
    }
    ck_assert_int_eq(ss_tally_choice(&t, u, &c, &e), 0);
    ck_assert_double_eq_tol(c.probe, 0.65, 1e-12);
    ck_assert_double_eq_tol(c.u_low, 0.45 / 0.49, 1e-12); /* the median is 0.49 */
    ck_assert_double_eq_tol(c.u_high, 0.20 / 0.51, 1e-12);
    ck_assert_double_eq(c.cosine_mean, 0.5);
    ss_tally_clear(&t);
}
END_TEST

/* What is drawn with a correlation is found with it; where clips meet nothing is counted. */
START_TEST(drift)
{
    static double u[20000], work[20000];
    static bool first[20000];
    ss_rng r = ss_rng_make(1, 1);
    for (int i = 0; i < 20000; i++) {
        double n = (double)ss_rng_normal(&r);
        first[i] = i % 10 == 0;
        u[i] = first[i] ? n : 0.8 * u[i - 1] + 0.6 * n;
    }
    /* Spearman's correlation of normal variables. */
    ck_assert_double_eq_tol(ss_tally_drift(u, first, 20000, work), 6 / acos(-1) * asin(0.4), 0.01);
    for (int i = 0; i < 20000; i++)
        u[i] = exp(u[i]); /* ranks stay */
    ck_assert_double_eq_tol(ss_tally_drift(u, first, 20000, work), 6 / acos(-1) * asin(0.4), 0.01);
    for (int i = 0; i < 20000; i++)
        u[i] = i % 2; /* the opposite, which is none */
    ck_assert_double_eq(ss_tally_drift(u, first, 20000, work), 0);
    for (int i = 0; i < 20000; i++)
        u[i] = 0.5;
    ck_assert(isnan(ss_tally_drift(u, first, 20000, work)));
    ck_assert(isnan(ss_tally_drift(u, first, 8, work))); /* 7 pairs */
}
END_TEST

START_TEST(cosines)
{
    const float a[] = {3, 4, 0}, b[] = {-6, -8, 0}, z[] = {0, 0, 0}, o[] = {0, 0, 1};
    ck_assert_double_eq_tol(ss_tally_cosine(a, a, 3), 1, 1e-12);
    ck_assert_double_eq_tol(ss_tally_cosine(a, b, 3), -1, 1e-12);
    ck_assert_double_eq(ss_tally_cosine(a, o, 3), 0);
    ck_assert_double_eq(ss_tally_cosine(a, z, 3), 0);
    ck_assert_double_eq(ss_tally_cosine(z, z, 3), 1);
}
END_TEST

START_TEST(memory)
{
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_tally t = {0};
            ss_err e;
            ss_profile_choice c;
            int rc = 0;
            fail_alloc_from(n, forever);
            for (int i = 0; i < 300 && !rc; i++)
                rc = ss_tally_add(&t, i, i, i, 1, NAN, &e);
            if (!rc)
                rc = ss_tally_choice(&t, NULL, &c, &e);
            bool failed = fail_alloc_done();
            ss_tally_clear(&t);
            ck_assert_uint_eq(ss_mem_used(), 0);
            ck_assert_int_eq(rc, failed ? SS_ENOMEM : 0);
            if (!failed)
                break;
        }
}
END_TEST

START_TEST(models)
{
    ss_profile_energy n;
    ss_err e;
    ck_assert_int_eq(ss_energy_model("raspberry-pi-4b", "wifi", &n, &e), 0);
    ck_assert_double_eq(n.idle_w, 2.2857);
    ck_assert_int_eq(n.cores, 4);
    ck_assert(strstr(n.citation, "PowerJoular") && strstr(n.citation, "PowerPi"));
    double j = ss_energy_sending(&n, 1000, 0);
    ck_assert_double_eq_tol(j, 0.004813 * 8e-3, 1e-12);
    ck_assert_double_eq_tol(ss_energy_sending(&n, 1000, 1e6) - j, 0.064 * 8e-3, 1e-12);
    ck_assert_double_eq_tol(ss_energy_computing(&n, 0.1), 0.11336, 1e-12); /* one of four processors */
    double never = 0;
    ck_assert_double_eq(ss_energy_tail(&n, 100, &never), 0);
    ck_assert_int_eq(ss_energy_model("apple-m2", "lte", &n, &e), 0);
    ck_assert_double_gt(n.radio_tail_s, 0);
    ck_assert_int_lt((int)strlen(n.citation), SS_PROFILE_CITATION - 1); /* not cut off */
    double awake = 0;
    ck_assert_double_eq_tol(ss_energy_tail(&n, 100, &awake), 11.576 * 1.06, 1e-9);
    ck_assert_double_eq_tol(ss_energy_tail(&n, 101, &awake), 1.06, 1e-9); /* awake anyway but for a second */
    ck_assert_double_eq_tol(awake, 112.576, 1e-9);
    ck_assert_double_eq(ss_energy_tail(&n, 90, &awake), 0);
    ck_assert_int_eq(ss_energy_model("abacus", "lte", &n, &e), SS_EINVAL);
    ck_assert(strstr(e.text, "raspberry-pi-5") != NULL);
    ck_assert_int_eq(ss_energy_model("apple-m2", "smoke", &n, &e), SS_EINVAL);
    ck_assert_str_eq(ss_energy_recognise("Raspberry Pi 4 Model B Rev 1.2"), "raspberry-pi-4b");
    ck_assert_str_eq(ss_energy_recognise("Raspberry Pi 5 Model B Rev 1.0"), "raspberry-pi-5");
    ck_assert_ptr_null(ss_energy_recognise("Raspberry Pi 3 Model B"));
}
END_TEST

UNIT_MAIN("tally", numbers, answers, drift, cosines, memory, models)
