#include <math.h>
#include <string.h>

#include "audio/augment.h"
#include "base/explog.h"
#include "unit.h"

enum { MELS = 64, FRAMES = 96, N = MELS * FRAMES };

/* A window of log energies, somewhere at the floor. */
static void make(uint64_t seed, int n, float *x)
{
    ss_rng r = ss_rng_make(seed, 0);
    for (int i = 0; i < n; i++) {
        float z = ss_rng_normal(&r);
        x[i] = z < -1.5f ? -13.815511f : -5.0f + 3.0f * z;
        x[i] = x[i] < -13.815511f ? -13.815511f : x[i];
    }
}

/* The formulas of the header in double precision. */
static void reference(const ss_augment *a, const ss_view *v, int mels, int frames, const float *x,
                      const float *q, double *out)
{
    int n = mels * frames;
    double p = 0, o = 0, floor = (double)a->floor, ratio = 0;
    for (int m = 0; m < mels; m++)
        for (int t = 0; t < frames; t++) {
            int from = m + v->roll < 0 ? 0 : m + v->roll >= mels ? mels - 1 : m + v->roll;
            out[m * frames + t] = (double)v->gain * fmax(exp((double)x[from * frames + t]) - floor, 0);
            p += out[m * frames + t] / n;
        }
    if (q) {
        for (int i = 0; i < n; i++)
            o += fmax(exp((double)q[i]) - floor, 0) / n;
        ratio = fmin(p / (o + floor), (double)a->ratio);
    }
    ss_rng cells = v->cells;
    uint32_t *u = malloc(((size_t)n + 3) * sizeof *u);
    ss_rng_fill_u32(&cells, u, (size_t)n);
    for (int m = 0; m < mels; m++)
        for (int t = 0; t < frames; t++) {
            int i = m * frames + t;
            if (q)
                out[i] = (1 - (double)v->mix) * out[i] +
                         (double)v->mix * ratio * fmax(exp((double)q[i]) - floor, 0);
            out[i] -= (double)v->noise * log(((double)(u[i] >> 8) + 0.5) / 16777216);
            out[i] = log(out[i] + floor);
            if ((m >= v->mel && m < v->mel + v->mels) || (t >= v->frame && t < v->frame + v->frames))
                out[i] = (double)a->input_mean;
        }
    free(u);
}

static double distance(const float *x, const double *y, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++) {
        ck_assert(isfinite(x[i]));
        worst = fmax(worst, fabs((double)x[i] - y[i]));
    }
    return worst;
}

START_TEST(nothing_changes_nothing)
{
    static float x[N], y[N];
    make(1, N, x);
    ss_augment a = {.ratio = 1, .floor = 1e-6f, .input_mean = 7};
    ck_assert_int_eq(ss_augment_check(&a, NULL), 0);
    ss_rng r = ss_rng_make(1, 1);
    ss_view v;
    ss_augment_draw(&a, &r, MELS, FRAMES, &v);
    ss_augment_apply(&a, &v, MELS, FRAMES, x, x, y);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(x[i], y[i], 2e-6f);
}
END_TEST

START_TEST(formulas_hold)
{
    static const int sizes[][2] = {{64, 96}, {64, 96}, {64, 96}, {5, 7}, {1, 1}, {3, 50}};
    static float x[N], q[N], y[N], z[N];
    static double ref[N];
    ss_rng r = ss_rng_make(2, 1);
    for (int i = 0; i < 60; i++) {
        int mels = sizes[i % 6][0], frames = sizes[i % 6][1], n = mels * frames;
        ss_augment a;
        ss_augment_default(&a);
        if (i % 4 == 3)
            a.noise = 100;
        make(100 + (uint64_t)i, n, x);
        make(200 + (uint64_t)i, n, q);
        ss_view v;
        ss_rng before = r;
        ss_augment_draw(&a, &r, mels, frames, &v);
        const float *other = i % 5 == 4 ? NULL : q;
        ss_augment_apply(&a, &v, mels, frames, x, other, y);
        reference(&a, &v, mels, frames, x, other, ref);
        /* Rounding of exp(q) - floor, raised by up to `ratio` of 1e3. */
        ck_assert_double_le(distance(y, ref, n), 5e-5);
        /* Made again, from the draw and from the place in the sequence. */
        ss_augment_apply(&a, &v, mels, frames, x, other, z);
        ck_assert_mem_eq(y, z, (size_t)n * sizeof *y);
        ss_augment_draw(&a, &before, mels, frames, &v);
        ss_augment_apply(&a, &v, mels, frames, x, other, z);
        ck_assert_mem_eq(y, z, (size_t)n * sizeof *y);
        ck_assert_uint_eq(before.next, r.next);
    }
}
END_TEST

START_TEST(bits_are_fixed)
{
    static float x[N], q[N], y[N];
    ss_augment a;
    ss_augment_default(&a);
    a.noise = 1;
    uint64_t sum = 0;
    ss_rng r = ss_rng_make(3, 1);
    for (int i = 0; i < 4; i++) {
        make(300 + (uint64_t)i, N, x);
        make(400 + (uint64_t)i, N, q);
        ss_view v;
        ss_augment_draw(&a, &r, MELS, FRAMES, &v);
        ss_augment_apply(&a, &v, MELS, FRAMES, x, q, y);
        for (int j = 0; j < N; j++)
            sum = sum * 6364136223846793005u + ss_bits_of_float(y[j]);
    }
    ck_assert_uint_eq(sum, 16038604102228105710u);
}
END_TEST

START_TEST(draws_cover_their_ranges)
{
    enum { DRAWS = 34000 };
    ss_augment a;
    ss_augment_default(&a);
    ss_rng r = ss_rng_make(4, 1);
    int roll[17] = {0}, mels[11] = {0}, frames[17] = {0}, ends[4] = {0};
    double gain[2] = {0}, mix = 0;
    for (int i = 0; i < DRAWS; i++) {
        ss_view v;
        ss_augment_draw(&a, &r, MELS, FRAMES, &v);
        ck_assert(v.roll >= -8 && v.roll <= 8);
        roll[v.roll + 8]++;
        double g = log10((double)v.gain);
        ck_assert(g >= -0.700001 && g <= 0.700001);
        gain[0] += g;
        gain[1] += g * g;
        ck_assert(v.mix >= 0 && v.mix < 0.4f);
        mix += (double)v.mix;
        ck_assert(v.mels >= 0 && v.mels <= 10 && v.mel >= 0 && v.mel + v.mels <= MELS);
        mels[v.mels]++;
        ck_assert(v.frames >= 0 && v.frames <= 16 && v.frame >= 0 && v.frame + v.frames <= FRAMES);
        frames[v.frames]++;
        ends[0] += v.mel == 0;
        ends[1] += v.mel + v.mels == MELS;
        ends[2] += v.frame == 0;
        ends[3] += v.frame + v.frames == FRAMES;
        ck_assert_float_eq(v.noise, 0);
    }
    for (int i = 0; i < 17; i++) {
        ck_assert_int_lt(abs(roll[i] - DRAWS / 17), 240);
        ck_assert_int_lt(abs(frames[i] - DRAWS / 17), 240);
    }
    for (int i = 0; i < 11; i++)
        ck_assert_int_lt(abs(mels[i] - DRAWS / 11), 300);
    ck_assert_double_eq_tol(gain[0] / DRAWS, 0, 0.012);
    ck_assert_double_eq_tol(gain[1] / DRAWS, 0.49 / 3, 0.005);
    ck_assert_double_eq_tol(mix / DRAWS, 0.2, 0.003);
    for (int i = 0; i < 4; i++) /* one place of about 60 or 89 */
        ck_assert_int_lt(abs(ends[i] - (i < 2 ? DRAWS / 60 : DRAWS / 89)), 120);
}
END_TEST

START_TEST(silence_and_extremes)
{
    static float loud[N], silent[N], y[N];
    for (int i = 0; i < N; i++) {
        loud[i] = 11.6f;
        silent[i] = -13.815511f;
    }
    ss_augment a;
    ss_augment_default(&a);
    ss_view v = {.roll = 3, .gain = 5.0f, .mix = 0.4f};
    ss_augment_apply(&a, &v, MELS, FRAMES, silent, silent, y);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(y[i], -13.815511f, 1e-4f);
    ss_augment_apply(&a, &v, MELS, FRAMES, silent, loud, y); /* equalised to nothing */
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(y[i], -13.815511f, 1e-4f);
    ss_augment_apply(&a, &v, MELS, FRAMES, loud, silent, y);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(y[i], 11.6f + logf(5.0f * 0.6f), 1e-5f);
    /* The other, quiet, would have to be raised by more than the cap. */
    float quiet = -8.0f;
    for (int i = 0; i < N; i++)
        silent[i] = quiet;
    ss_augment_apply(&a, &v, MELS, FRAMES, loud, silent, y);
    double cap = log(0.6 * 5 * exp(11.6) + 0.4 * 1e3 * (exp(-8) - 1e-6));
    ck_assert_double_eq_tol((double)y[0], cap, 1e-5);
}
END_TEST

START_TEST(noise_has_its_power)
{
    static float x[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = -13.815511f;
    ss_augment a = {.ratio = 1, .noise = 50, .floor = 1e-6f};
    ss_rng r = ss_rng_make(6, 1);
    double least = 1, most = 0;
    for (int i = 0; i < 40; i++) {
        ss_view v;
        ss_augment_draw(&a, &r, MELS, FRAMES, &v);
        ss_augment_apply(&a, &v, MELS, FRAMES, x, NULL, y);
        double sum = 0;
        for (int j = 0; j < N; j++)
            sum += exp((double)y[j]) - 1e-6;
        ck_assert_double_eq_tol(sum / N / (double)v.noise, 1, 0.06);
        least = fmin(least, (double)v.noise);
        most = fmax(most, (double)v.noise);
    }
    ck_assert(least >= 50e-6 && least < 100e-6);
    ck_assert(most > 1000e-6 && most <= 50e-6 * 54.6);
}
END_TEST

START_TEST(masks_wider_than_the_window)
{
    ss_augment a;
    ss_augment_default(&a);
    ss_rng r = ss_rng_make(7, 1);
    float x[6], y[6];
    make(7, 6, x);
    for (int i = 0; i < 200; i++) {
        ss_view v;
        ss_augment_draw(&a, &r, 2, 3, &v);
        ck_assert(v.mel + v.mels <= 2 && v.frame + v.frames <= 3);
        ss_augment_apply(&a, &v, 2, 3, x, x, y);
        for (int j = 0; j < 6; j++)
            ck_assert_int_eq(y[j] == a.input_mean, (j / 3 >= v.mel && j / 3 < v.mel + v.mels) ||
                                                       (j % 3 >= v.frame && j % 3 < v.frame + v.frames));
    }
}
END_TEST

START_TEST(bad_numbers)
{
    ss_augment good;
    ss_augment_default(&good);
    ck_assert_int_eq(ss_augment_check(&good, NULL), 0);
#define BAD(field, value)                                                                                    \
    do {                                                                                                     \
        ss_augment a = good;                                                                                 \
        ss_err e;                                                                                            \
        a.field = value;                                                                                     \
        ck_assert_int_eq(ss_augment_check(&a, &e), SS_ERANGE);                                               \
    } while (0)
    BAD(roll, -1);
    BAD(gain, -0.1f);
    BAD(gain, NAN);
    BAD(mix, 1.1f);
    BAD(ratio, 0);
    BAD(noise, -1);
    BAD(freq_mask, -1);
    BAD(time_mask, 1 << 20);
    BAD(floor, 0);
    BAD(input_mean, INFINITY);
}
END_TEST

UNIT_MAIN("augment", nothing_changes_nothing, formulas_hold, bits_are_fixed, draws_cover_their_ranges,
          silence_and_extremes, noise_has_its_power, masks_wider_than_the_window, bad_numbers)
