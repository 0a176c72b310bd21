#include "split/tally.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
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
        ck_assert_int_eq(ss_tally_add(&t, k, 2 * k, 100 + k, 1 - k * 1e-4, &e), 0);
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
    ck_assert(isnan(c.probe));
    ck_assert_int_eq(c.cut, 3);
    /* All alike: nothing lies below the median. */
    for (int i = 0; i < 1000; i++)
        u[i] = 0.5;
    ck_assert_int_eq(ss_tally_choice(&t, u, &c, &e), 0);
    ck_assert(isnan(c.u_low) && isnan(c.u_high));
    ss_tally_clear(&t);
    ck_assert_int_eq(ss_tally_add(&t, 1, 1, 1, 1, &e), 0);
    ck_assert_int_eq(ss_tally_choice(&t, NULL, &c, &e), 0);
    ck_assert_double_eq(c.device_ms.p95, 1);
    ss_tally_clear(&t);
    ck_assert_uint_eq(ss_mem_used(), 0);
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
                rc = ss_tally_add(&t, i, i, i, 1, &e);
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
    ck_assert_int_eq(ss_energy_model("apple-m2", "lte", &n, &e), 0);
    ck_assert_double_gt(n.radio_tail_s, 0);
    ck_assert_int_lt((int)strlen(n.citation), SS_PROFILE_CITATION - 1); /* not cut off */
    ck_assert_int_eq(ss_energy_model("abacus", "lte", &n, &e), SS_EINVAL);
    ck_assert(strstr(e.text, "raspberry-pi-5") != NULL);
    ck_assert_int_eq(ss_energy_model("apple-m2", "smoke", &n, &e), SS_EINVAL);
    ck_assert_str_eq(ss_energy_recognise("Raspberry Pi 4 Model B Rev 1.2"), "raspberry-pi-4b");
    ck_assert_str_eq(ss_energy_recognise("Raspberry Pi 5 Model B Rev 1.0"), "raspberry-pi-5");
    ck_assert_ptr_null(ss_energy_recognise("Raspberry Pi 3 Model B"));
}
END_TEST

UNIT_MAIN("tally", numbers, cosines, memory, models)
