#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audio/source_internal.h"
#include "unit.h"

static ss_err err;

START_TEST(raw_formats)
{
    static const struct {
        const char *text;
        int bytes, rate, channels;
    } good[] = {{"s16le:44100:2", 2, 44100, 2}, {"u8:8000", 1, 8000, 1}, {"f64be:768000:64", 8, 768000, 64}};
    ss_raw_format f;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(ss_raw_parse(good[i].text, &f, &err), 0);
        ck_assert_int_eq(f.bytes, good[i].bytes);
        ck_assert_int_eq(f.rate, good[i].rate);
        ck_assert_int_eq(f.channels, good[i].channels);
    }
    static const char *const bad[] = {
        "",          "s16le",        "s16le:",         "s16le:999",   "s16le:16000:0", "s16le:16000:65",
        "s16:16000", "s16le:16000:", "s16le:16000:1:", "s17le:16000", "s16le:16000x",  "s16le:-16000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(ss_raw_parse(bad[i], &f, &err) == SS_EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(raw_samples)
{
    static const struct {
        const char *format, *bytes;
        float expected[2]; /* of channel 1 and 2 */
    } x[] = {
        {"u8:16000:2", "\x00\xc0", {-1, 0.5f}},
        {"s8:16000:2", "\x80\x40", {-1, 0.5f}},
        {"s16le:16000:2", "\x00\x80\x00\x40", {-1, 0.5f}},
        {"s16be:16000:2", "\x80\x00\x40\x00", {-1, 0.5f}},
        {"s24le:16000:2", "\x00\x00\x80\x00\x00\x40", {-1, 0.5f}},
        {"s24be:16000:2", "\x80\x00\x00\x40\x00\x00", {-1, 0.5f}},
        {"s32le:16000:2", "\x00\x00\x00\x80\x00\x00\x00\x40", {-1, 0.5f}},
        {"s32be:16000:2", "\x80\x00\x00\x00\x40\x00\x00\x00", {-1, 0.5f}},
        {"f32le:16000:2", "\x00\x00\x80\xbf\x00\x00\x00\x3f", {-1, 0.5f}},
        {"f32be:16000:2", "\xbf\x80\x00\x00\x3f\x00\x00\x00", {-1, 0.5f}},
        {"f64le:16000:2", "\0\0\0\0\0\0\xf0\xbf\0\0\0\0\0\0\xe0\x3f", {-1, 0.5f}},
        {"f64be:16000:2", "\xbf\xf0\0\0\0\0\0\0\x3f\xe0\0\0\0\0\0\0", {-1, 0.5f}},
        {"f32le:16000:2", "\x00\x00\xc0\x7f\x00\x00\x00\x3f", {0, 0.5f}},
    };
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        ss_raw_format f;
        float out[3];
        size_t bad = 0;
        ck_assert_int_eq(ss_raw_parse(x[i].format, &f, &err), 0);
        for (int c = 0; c < 3; c++)
            bad += ss_raw_decode(&f, x[i].bytes, 1, c, out + c);
        ck_assert_float_eq(out[1], x[i].expected[0]);
        ck_assert_float_eq(out[2], x[i].expected[1]);
        if (bad)
            ck_assert(bad == 2 && out[0] == 0);
        else
            ck_assert_float_eq(out[0], (out[1] + out[2]) / 2);
    }
}
END_TEST

START_TEST(raw_from_a_pipe)
{
    int p[2], stop = 0;
    ck_assert_int_eq(pipe(p), 0);
    ss_raw_format f;
    ss_source *s;
    float x[64];
    ck_assert_int_eq(ss_raw_parse("s16le:16000:2", &f, &err), 0);
    ck_assert_int_eq(ss_source_raw(&s, p[0], &f, 3, &stop, &err), SS_EUNFIT);
    ck_assert_int_eq(ss_source_raw(&s, p[0], &f, 2, &stop, &err), 0);
    ck_assert(ss_source_is_live(s));
    /* Frames that come in pieces. */
    ck_assert_int_eq(write(p[1], "\0\0\0", 3), 3);
    ck_assert_int_eq(write(p[1], "\x40\1\1\0\x20\7", 6), 6);
    ck_assert_int_eq(ss_source_read(s, x, 2, &err), 2);
    ck_assert_float_eq(x[0], 0.5f);
    ck_assert_float_eq(x[1], 0.25f);
    close(p[1]);
    ck_assert_int_eq(ss_source_read(s, x, 2, &err), SS_ETRUNC);
    ck_assert_int_eq(ss_source_read(s, x, 2, &err), 0);
    ss_source_close(s);
    close(p[0]);
    /* A silent pipe does not hold it when it is to stop. */
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_eq(ss_source_raw(&s, p[0], &f, 0, &stop, &err), 0);
    stop = 1;
    ck_assert_int_eq(ss_source_read(s, x, 2, &err), SS_ESTOPPED);
    ss_source_close(s);
    close(p[0]);
    close(p[1]);
}
END_TEST

/* A device that gives a ramp, loses 480 samples (30 ms at 48 kHz) after every 5000, and ends after 20000. */
static uint64_t given;

static ssize_t pull_fake(ss_source *s, float *out, size_t n, ss_err *e)
{
    (void)e;
    if (given == 20000)
        return 0;
    if (given && given % 5000 == 0 && !s->native_lost && s->pulled) {
        s->broken = true;
        s->native_lost = 480;
        return 0;
    }
    size_t left = 5000 - given % 5000, k = n < left ? n : left;
    for (size_t i = 0; i < k; i++)
        out[i] = 0.25f * (float)(1 + given / 5000);
    if (!s->pulled)
        s->anchor = 1e18 + 1e9 * (double)(given / 5000);
    given += k;
    return (ssize_t)k;
}

START_TEST(losses_break_the_sound)
{
    ss_source *s = ss_source_new(0, NULL, &err), *open;
    s->pull = pull_fake;
    s->rate = 48000;
    s->live = true;
    ck_assert_int_eq(ss_source_ready(&open, s, 0, &err), 0);
    given = 0;
    float x[500];
    uint64_t in_stretch = 0;
    int stretches = 1;
    for (ssize_t got; (got = ss_source_read(s, x, 500, &err)) != 0;) {
        ck_assert_int_gt(got, 0);
        uint64_t lost = ss_source_lost(s);
        if (lost) {
            ck_assert_uint_eq(lost, 160);
            ck_assert_uint_ge(in_stretch, 1666);
            ck_assert_uint_le(in_stretch, 1667);
            in_stretch = 0;
            stretches++;
        }
        int64_t late = ss_source_time(s) - 1000000000000000000 - (stretches - 1) * 1000000000LL -
                       (int64_t)in_stretch * 62500;
        ck_assert_msg(late > -1000 && late < 1000, "%lld ns", (long long)late);
        /* Nothing of one stretch in the other, but for the ringing at its ends. */
        for (ssize_t i = 0; i < got; i++)
            if (in_stretch + i > 100 && in_stretch + i < 1500)
                ck_assert_float_eq_tol(x[i], 0.25f * stretches, 1e-3);
        in_stretch += (uint64_t)got;
    }
    ck_assert_int_eq(stretches, 4);
    ss_source_close(s);
}
END_TEST

START_TEST(no_such_device)
{
    ss_source *s;
    int rc = ss_source_alsa(&s, "there is none of that name", 0, NULL, &err);
    ck_assert(rc == SS_EIO || rc == SS_ENOTSUP);
    ck_assert_ptr_null(s);
    ck_assert_msg(strstr(err.text, "there is none of that name"), "%s", err.text);
}
END_TEST

UNIT_MAIN("source", raw_formats, raw_samples, raw_from_a_pipe, losses_break_the_sound, no_such_device)
