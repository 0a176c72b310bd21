#include <math.h>
#include <stdio.h>
#include <string.h>

#include "audio/logmel.h"
#include "base/rng.h"
#include "unit.h"

enum { MELS = 64, FRAMES = 96, SIZE = MELS * FRAMES };

/* The definition in the header, in double precision and without any care for speed: energies [mels] of one
 * frame. */
static void reference(const ss_logmel_config *c, int rows, const float *x, double *energy)
{
    int n = c->window, bins = c->fft / 2 + 1;
    double mean = 0, sum = 0, *power = malloc(bins * sizeof *power);
    for (int i = 0; i < n; i++) {
        double w = 0.5 - 0.5 * cos(2 * M_PI * i / n);
        mean += w * x[i];
        sum += w;
    }
    mean = c->keep_dc ? 0 : mean / sum;
    for (int k = 0; k < bins; k++) {
        double re = 0, im = 0;
        for (int i = 0; i < n; i++) {
            double v = (0.5 - 0.5 * cos(2 * M_PI * i / n)) * (x[i] - mean);
            double turn = 2 * M_PI * ((long)i * k % c->fft) / c->fft;
            re += v * cos(turn);
            im -= v * sin(turn);
        }
        power[k] = re * re + im * im;
    }
    double corner[4096 + 2], a = 2595 * log10(1 + c->low / 700), b = 2595 * log10(1 + c->high / 700);
    for (int m = 0; m < rows + 2; m++)
        corner[m] = 700 * (pow(10, (a + (b - a) * m / (rows + 1)) / 2595) - 1);
    for (int m = 0; m < rows; m++) {
        energy[m] = 0;
        for (int k = 0; k < bins; k++) {
            double f = k * c->rate / c->fft, w = fmin((f - corner[m]) / (corner[m + 1] - corner[m]),
                                                      (corner[m + 2] - f) / (corner[m + 2] - corner[m + 1]));
            if (w > 0)
                energy[m] += w * power[k];
        }
    }
    free(power);
}

/* Something of everything: noise, a loud tone, clicks, a weak sweep. */
static void sound(float *x, int n, uint64_t seed)
{
    ss_rng r = ss_rng_make(seed, 0);
    for (int i = 0; i < n; i++)
        x[i] = 0.02f * ss_rng_normal(&r) + (float)(0.4 * sin(2 * M_PI * 440.0 * i / 16000)) +
               (float)(0.05 * sin(1e-5 * i * (double)i)) + (i % 4001 == 0 ? 0.9f : 0);
}

/* All windows of x [n] into out (room for `room`); pushes of at most `block` samples, 0 = random sizes. */
static int windows_of(ss_logmel *m, const float *x, size_t n, size_t block, float *out, int room,
                      ss_logmel_window *about)
{
    ss_rng r = ss_rng_make(9, 9);
    size_t size = (size_t)MELS * FRAMES;
    int count = 0;
    for (size_t at = 0; at < n;) {
        size_t k = block ? block : ss_rng_below(&r, 700), taken;
        if (k > n - at)
            k = n - at;
        int got = ss_logmel_push(m, x + at, k, &taken);
        at += taken;
        ck_assert(got || taken == k);
        if (got) {
            ck_assert_int_lt(count, room);
            ss_logmel_fetch(m, out + size * count, about ? about + count : NULL);
            count++;
        }
    }
    return count;
}

START_TEST(equals_the_double_precision_reference)
{
    static const struct {
        int mels, fft;
        bool keep_dc;
    } set[] = {{64, 512, false}, {64, 512, true}, {128, 1024, false}, {40, 400, false}};
    enum { N = 2880 };
    float x[N];
    for (size_t s = 0; s < sizeof set / sizeof *set; s++) {
        ss_logmel_config c;
        ss_logmel_config_default(&c);
        c.mels = set[s].mels;
        c.fft = set[s].fft;
        c.keep_dc = set[s].keep_dc;
        c.frames = 16;
        c.step = 16;
        for (int kind = 0; kind < 3; kind++) {
            ss_rng r = ss_rng_make(kind, 1);
            if (kind == 0) /* noise alone: every filter is full */
                for (int i = 0; i < N; i++)
                    x[i] = 0.1f * ss_rng_normal(&r);
            else
                sound(x, N, kind);
            ss_logmel *m;
            ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
            size_t taken;
            ck_assert_int_eq(ss_logmel_push(m, x, N, &taken), 1);
            float *out = malloc((size_t)c.mels * c.frames * sizeof *out);
            ss_logmel_fetch(m, out, NULL);
            double worst_relative = 0, worst_log = 0, energy[256];
            for (int t = 0; t < c.frames; t++) {
                reference(&c, c.mels, x + 160 * t, energy);
                for (int i = 0; i < c.mels; i++) {
                    double got = out[i * c.frames + t], log_error = fabs(got - log(energy[i] + c.floor));
                    worst_log = fmax(worst_log, log_error);
                    worst_relative = fmax(worst_relative, fabs(exp(got) - c.floor - energy[i]) / energy[i]);
                }
            }
            if (kind == 0)
                ck_assert_double_lt(worst_relative, 1e-5);
            ck_assert_double_lt(worst_log, 1e-4);
            if (getenv("SS_TEST_VERBOSE"))
                fprintf(stderr, "mels %d fft %d kind %d: relative %.2g log %.2g\n", c.mels, c.fft, kind,
                        worst_relative, worst_log);
            free(out);
            ss_logmel_free(m);
        }
    }
}
END_TEST

START_TEST(block_cuts_do_not_matter)
{
    enum { N = 48000, ROOM = 8 };
    float *x = malloc(N * sizeof *x), *a = malloc(ROOM * SIZE * sizeof *a),
          *b = malloc(ROOM * SIZE * sizeof *b);
    sound(x, N, 3);
    ss_logmel_config c;
    ss_logmel_config_default(&c);
    static const size_t block[] = {1, 7, 160, 399, 400, 401, 1280, 9999, 0};
    for (int resolution = SS_RES_FULL; resolution <= SS_RES_HALF_RATE; resolution++) {
        ss_logmel *m;
        ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
        ck_assert_int_eq(ss_logmel_set_resolution(m, resolution), 0);
        int n = windows_of(m, x, N, N, a, ROOM, NULL);
        ck_assert_int_eq(n, (N - 15600) / 7680 + 1);
        ss_logmel_free(m);
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            /* Another instance each time: plan and alignment must not matter either. */
            ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
            ss_logmel_set_resolution(m, resolution);
            /* A clip before leaves nothing behind. */
            windows_of(m, x + 100, 20011, 500, b, ROOM, NULL);
            ss_logmel_reset(m);
            ck_assert_int_eq(windows_of(m, x, N, block[i], b, ROOM, NULL), n);
            ck_assert_mem_eq(a, b, (size_t)n * SIZE * sizeof *a);
            ss_logmel_free(m);
        }
    }
    free(x);
    free(a);
    free(b);
}
END_TEST

START_TEST(windows_overlap_and_say_where_they_are)
{
    enum { N = 40000, ROOM = 8 };
    float *x = malloc(N * sizeof *x), *a = malloc(ROOM * SIZE * sizeof *a);
    sound(x, N, 4);
    ss_logmel_config c;
    ss_logmel_config_default(&c);
    ss_logmel *m;
    ss_logmel_window w[ROOM];
    ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
    int n = windows_of(m, x, N, 1280, a, ROOM, w);
    ck_assert_int_eq(n, 4);
    for (int i = 0; i < n; i++) {
        ck_assert_uint_eq(w[i].start, 7680u * i);
        ck_assert_uint_eq(w[i].samples, 15600);
        ck_assert_uint_eq(w[i].padding, 0);
        for (int mel = 0; i && mel < MELS; mel++) /* the first half is the second half of the window before */
            ck_assert_mem_eq(a + i * SIZE + mel * FRAMES, a + (i - 1) * SIZE + mel * FRAMES + 48,
                             48 * sizeof *a);
    }
    /* 40000 = 3 * 7680 + 15600 + 1360: those that are left are only heard when the last window is filled up
     */
    ck_assert_int_eq(ss_logmel_pad(m), 1);
    ss_logmel_fetch(m, a, w);
    ck_assert_uint_eq(w->start, 4 * 7680);
    ck_assert_uint_eq(w->padding, 4 * 7680 + 15600 - N);
    ck_assert_float_eq(a[SIZE - 1], logf(1e-6f));
    ss_logmel_reset(m);
    ck_assert_int_eq(windows_of(m, x, 15600, 1280, a, ROOM, w), 1);
    ck_assert_int_eq(ss_logmel_pad(m), 0);
    ss_logmel_reset(m);
    ck_assert_int_eq(ss_logmel_pad(m), 0);
    ck_assert_int_eq(windows_of(m, x, 1, 1, a, ROOM, w), 0);
    ck_assert_int_eq(ss_logmel_pad(m), 1);
    ss_logmel_fetch(m, a, w);
    ck_assert_uint_eq(w->padding, 15599);
    ss_logmel_free(m);
    free(x);
    free(a);
}
END_TEST

START_TEST(silence_dc_clipping_and_broken_samples)
{
    enum { N = 15600 };
    float *x = calloc(N, sizeof *x), *a = malloc(SIZE * sizeof *a), *b = malloc(SIZE * sizeof *b);
    ss_logmel_config c;
    ss_logmel_config_default(&c);
    ss_logmel *m;
    ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
    ck_assert_int_eq(windows_of(m, x, N, N, a, 1, NULL), 1);
    for (int i = 0; i < SIZE; i++)
        ck_assert_float_eq(a[i], logf(1e-6f));

    /* A constant is silence; under a signal it does not show. */
    for (int i = 0; i < N; i++)
        x[i] = -0.75f;
    ss_logmel_reset(m);
    windows_of(m, x, N, N, a, 1, NULL);
    for (int i = 0; i < SIZE; i++)
        ck_assert_float_eq_tol(a[i], logf(1e-6f), 1e-3);
    sound(x, N, 5);
    ss_logmel_reset(m);
    windows_of(m, x, N, N, a, 1, NULL);
    for (int i = 0; i < N; i++)
        x[i] += 0.5f;
    ss_logmel_reset(m);
    windows_of(m, x, N, N, b, 1, NULL);
    for (int i = 0; i < SIZE; i++)
        ck_assert_float_eq_tol(a[i], b[i], 2e-3);

    /* Cut at full scale, far beyond it, and absurd: finite, and as loud as it is. */
    float top[3];
    static const float gain[] = {1, 100, 1e37f};
    for (int g = 0; g < 3; g++) {
        ss_rng r = ss_rng_make(1, 2);
        for (int i = 0; i < N; i++) {
            x[i] = gain[g] * ss_rng_normal(&r);
            x[i] = g ? x[i] : x[i] > 1 ? 1 : x[i] < -1 ? -1 : x[i];
        }
        ss_logmel_reset(m);
        windows_of(m, x, N, N, a, 1, NULL);
        top[g] = -100;
        for (int i = 0; i < SIZE; i++) {
            ck_assert(isfinite(a[i]));
            top[g] = fmaxf(top[g], a[i]);
        }
    }
    ck_assert(top[0] < top[1] && top[1] < top[2]);
    ck_assert_uint_gt(ss_logmel_excessive(m), N / 2);
    ck_assert_uint_eq(ss_logmel_nonfinite(m), 0);

    /* What is not finite counts as 0 and spoils nothing else. */
    sound(x, N, 6);
    x[100] = x[7000] = x[15599] = 0;
    ss_logmel_reset(m);
    windows_of(m, x, N, N, a, 1, NULL);
    x[100] = NAN;
    x[7000] = INFINITY;
    x[15599] = -INFINITY;
    ss_logmel_reset(m);
    windows_of(m, x, N, N, b, 1, NULL);
    ck_assert_mem_eq(a, b, SIZE * sizeof *a);
    ck_assert_uint_eq(ss_logmel_nonfinite(m), 3);
    ss_logmel_free(m);
    free(x);
    free(a);
    free(b);
}
END_TEST

START_TEST(reduced_resolution)
{
    enum { N = 31000, ROOM = 4 };
    float *x = malloc(N * sizeof *x), *full = malloc(ROOM * SIZE * sizeof *full),
          *a = malloc(ROOM * SIZE * sizeof *a);
    ss_logmel_config c;
    ss_logmel_config_default(&c);
    ss_logmel *m;
    ss_logmel_window w[ROOM];
    ss_rng r = ss_rng_make(8, 0);
    ss_rng_fill_normal(&r, x, N);
    ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
    windows_of(m, x, N, N, full, ROOM, w);
    ck_assert_int_eq(w[0].resolution, SS_RES_FULL);

    /* Every second frame is the very frame, those between are the mean of both, the last one is held. */
    ss_logmel_reset(m);
    ss_logmel_set_resolution(m, SS_RES_HALF_RATE);
    windows_of(m, x, N, N, a, ROOM, w);
    ck_assert_int_eq(w[0].resolution, SS_RES_HALF_RATE);
    for (int i = 0; i < MELS; i++)
        for (int t = 0; t < FRAMES; t += 2) {
            ck_assert_float_eq(a[i * FRAMES + t], full[i * FRAMES + t]);
            float next = t + 2 < FRAMES ? full[i * FRAMES + t + 2] : full[i * FRAMES + t];
            ck_assert_float_eq_tol(a[i * FRAMES + t + 1], (full[i * FRAMES + t] + next) / 2, 1e-5);
        }

    /* Half the filters, checked against the reference and interpolated; as loud as the full set on white
     * noise. */
    ss_logmel_reset(m);
    ss_logmel_set_resolution(m, SS_RES_HALF_MELS);
    windows_of(m, x, N, N, a, ROOM, w);
    ck_assert_int_eq(w[0].resolution, SS_RES_HALF_MELS);
    double energy[32], mean_full = 0, mean_half = 0;
    reference(&c, 32, x, energy);
    for (int i = 0; i < MELS; i++) {
        double at = (i + 1) * 33.0 / 65 - 1;
        int p = at < 0 ? 0 : at > 30 ? 30 : (int)at;
        double f = fmin(1, fmax(0, at - p));
        double expected = (1 - f) * log(energy[p] / 2 + 1e-6) + f * log(energy[p + 1] / 2 + 1e-6);
        ck_assert_double_eq_tol(a[i * FRAMES], expected, 1e-4);
    }
    for (int i = 0; i < SIZE; i++) {
        mean_full += full[i] / SIZE;
        mean_half += a[i] / SIZE;
    }
    ck_assert_double_eq_tol(mean_full, mean_half, 0.2);

    /* Switched in the middle: windows with any reduced frame say so, later ones no more. */
    ss_logmel_reset(m);
    size_t at = 0, taken;
    ck_assert_int_eq(ss_logmel_push(m, x, N, &taken), 1);
    at += taken;
    ss_logmel_set_resolution(m, SS_RES_FULL);
    for (int k = 0; k < 2; k++) {
        ck_assert_int_eq(ss_logmel_push(m, x + at, N - at, &taken), 1);
        at += taken;
        ss_logmel_fetch(m, a, w);
        ck_assert_int_eq(w->resolution, k ? SS_RES_FULL : SS_RES_HALF_MELS);
    }
    ss_logmel_free(m);
    free(x);
    free(full);
    free(a);
}
END_TEST

START_TEST(refuses_what_cannot_be)
{
    ss_logmel_config c;
    ss_logmel *m;
    ss_err e;
    ss_logmel_config_default(&c);
    c.mels = 128;
    ck_assert_int_eq(ss_logmel_create(&m, &c, &e), SS_EUNFIT);
    ck_assert_ptr_null(m);
    ck_assert_msg(strstr(e.text, "mel filter 1 of 128"), "%s", e.text);
#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        ss_logmel_config_default(&c);                                                                        \
        change;                                                                                              \
        ck_assert_int_eq(ss_logmel_create(&m, &c, &e), SS_ERANGE);                                           \
    } while (0)
    REFUSED(c.rate = 0);
    REFUSED(c.rate = NAN);
    REFUSED(c.window = 1);
    REFUSED(c.hop = 0);
    REFUSED(c.hop = 401);
    REFUSED(c.fft = 398);
    REFUSED(c.fft = 513);
    REFUSED(c.mels = 0);
    REFUSED(c.high = 8001);
    REFUSED(c.low = 8000);
    REFUSED(c.floor = 0);
    REFUSED(c.frames = 0);
    REFUSED(c.step = 97);
    ss_logmel_config_default(&c);
    c.mels = 63;
    ck_assert_int_eq(ss_logmel_create(&m, &c, NULL), 0);
    ck_assert_int_eq(ss_logmel_set_resolution(m, SS_RES_HALF_MELS), SS_ERANGE);
    ss_logmel_free(m);
}
END_TEST

START_TEST(description_and_hash)
{
    ss_logmel_config c;
    char json[256], hash[17], other[17];
    ss_logmel_config_default(&c);
    ss_logmel_describe(&c, json, hash);
    ck_assert_str_eq(json,
                     "{\"rate\":16000,\"window\":400,\"hop\":160,\"fft\":512,\"mels\":64,\"low\":80,"
                     "\"high\":8000,\"floor\":1e-06,\"dc\":false,\"taper\":\"hann\",\"scale\":\"htk\"}");
    ck_assert_uint_eq(strlen(hash), 16);
    c.step = 96; /* no part of a frame */
    ss_logmel_describe(&c, json, other);
    ck_assert_str_eq(hash, other);
    c.fft = 1024;
    ss_logmel_describe(&c, json, other);
    ck_assert_str_ne(hash, other);
}
END_TEST

UNIT_MAIN("logmel", equals_the_double_precision_reference, block_cuts_do_not_matter,
          windows_overlap_and_say_where_they_are, silence_dc_clipping_and_broken_samples, reduced_resolution,
          refuses_what_cannot_be, description_and_hash)
