#include "audio/sound_codec.h"

#include <math.h>
#include <string.h>

#include "audio/synth.h"
#include "base/mem.h"
#include "base/rng.h"
#include "config.h"
#include "failalloc.h"
#include "unit.h"

enum { N = 16000 * 3 + 77 };

static float x[N], y[N + 1000];

static void fill(void)
{
    ss_synth *s;
    ss_synth_scene scene;
    uint32_t left;
    ss_err e;
    ck_assert_int_eq(ss_synth_create(&s, 3, &e), 0);
    for (size_t n = 0; n < N;)
        n += ss_synth_read(s, x + n, N - n, &scene, &left);
    ss_synth_free(s);
}

/* x in blocks to y and back, block `lose` left out (-1: none); returns bytes, *total samples. */
static size_t there_and_back(int codec, int rate, size_t block, int lose, size_t *total)
{
    ss_sound_encoder *c;
    ss_sound_decoder *d;
    ss_err e = {0};
    size_t sum = 0;
    bool follows = false;
    *total = 0;
    ck_assert_int_eq(ss_sound_encoder_open(&c, codec, rate, &e), 0);
    ck_assert_int_eq(ss_sound_decoder_open(&d, &e), 0);
    int k = 0;
    for (size_t at = 0; at < N; at += block, k++) {
        const void *out;
        const float *back;
        size_t size, n = N - at < block ? N - at : block;
        uint32_t samples;
        /* Where what it decodes to belongs. */
        size_t place = at - (size_t)ss_sound_encoder_delay(c);
        ck_assert_int_eq(ss_sound_encode(c, x + at, n, at + n == N, &out, &size, &samples, &e), 0);
        ck_assert_uint_eq(place, *total);
        sum += size;
        *total += samples;
        if (k == lose) {
            memset(y + place, 0, samples * sizeof *y);
            follows = false;
            continue;
        }
        int rc = ss_sound_decode(d, (uint64_t)codec, out, size, samples, follows, &back, &e);
        ck_assert_msg(rc == 0, "block %d: %s", k, e.text);
        memcpy(y + place, back, samples * sizeof *y);
        follows = true;
    }
    ck_assert_int_eq(ss_sound_encoder_delay(c), 0);
    ss_sound_encoder_close(&c);
    ss_sound_decoder_close(&d);
    ck_assert_uint_eq(ss_mem_used(), 0);
    return sum;
}

static double correlation(size_t from, size_t to, int shift)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = from + 200; i + 200 < to; i++) {
        double a = (double)x[i], b = (double)y[(size_t)((long)i + shift)];
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    return ab / sqrt(aa * bb);
}

START_TEST(flac)
{
    size_t total;
    fill();
    for (int i = 0; i < 3; i++) {
        size_t block = ((size_t[]){1280, 7680, 777})[i];
        size_t n = there_and_back(SS_SOUND_FLAC, 0, block, -1, &total);
        ck_assert_uint_eq(total, N);
        ck_assert_uint_lt(n, 2 * N * 9 / 10);
        for (size_t k = 0; k < N; k++)
            ck_assert_float_eq(y[k], rintf(fminf(x[k] * 32768, 32767)) / 32768);
    }
}
END_TEST

START_TEST(opus)
{
    size_t total;
    if (!SS_HAVE_OPUS)
        return;
    fill();
    size_t small = there_and_back(SS_SOUND_OPUS, 24000, 1280, -1, &total);
    ck_assert_uint_eq(total, N);
    ck_assert_double_lt(fabs((double)small * 8 * 16000 / N - 24000), 8000);
    /* In its place to the sample. */
    double here = correlation(0, N, 0);
    ck_assert_double_gt(here, 0.9);
    ck_assert_double_gt(here, correlation(0, N, 1));
    ck_assert_double_gt(here, correlation(0, N, -1));
    size_t large = there_and_back(SS_SOUND_OPUS, 64000, 320, -1, &total);
    ck_assert_uint_gt(large, small);
    ck_assert_uint_eq(total, N);
    ck_assert_double_gt(correlation(0, N, 0), here);
    /* A block that was lost, and some way behind it. */
    there_and_back(SS_SOUND_OPUS, 24000, 1280, 10, &total);
    ck_assert_double_gt(correlation(13 * 1280, N, 0), 0.85);
}
END_TEST

START_TEST(refused)
{
    ss_err e;
    ss_sound_encoder *c;
    ss_sound_decoder *d;
    int codec, rate;
    ck_assert_int_eq(ss_sound_codec_parse("flac", &codec, &rate, &e), 0);
    ck_assert_int_eq(codec, SS_SOUND_FLAC);
    static const char *const bad[] = {"",         "opus:",    "opus:1", "opus:24kk",
                                      "opus:1e9", "opus:nan", "mp3",    "flac:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(ss_sound_codec_parse(bad[i], &codec, &rate, &e), SS_EINVAL);
    ck_assert_int_eq(ss_sound_encoder_open(&c, 1, 24000, &e), SS_EINVAL);
    ck_assert_ptr_null(c);
    ck_assert_int_eq(ss_sound_decoder_open(&d, &e), 0);
    const float *out;
    ck_assert_int_eq(ss_sound_decode(d, 11, "x", 1, 1, true, &out, &e), SS_EUNFIT);
    ck_assert_int_eq(ss_sound_decode(d, SS_SOUND_FLAC, "x", 1, SS_SOUND_BLOCK + 1, true, &out, &e),
                     SS_ELIMIT);
    ck_assert_int_eq(ss_sound_decode(d, SS_SOUND_FLAC, "", 0, 1, true, &out, &e), SS_EDAMAGED);
    if (SS_HAVE_OPUS) {
        ck_assert_int_eq(ss_sound_codec_parse("opus:16k", &codec, &rate, &e), 0);
        ck_assert_int_eq(codec, SS_SOUND_OPUS);
        ck_assert_int_eq(rate, 16000);
        ck_assert_int_eq(ss_sound_decode(d, SS_SOUND_OPUS, "", 0, 1, true, &out, &e), SS_EDAMAGED);
        ck_assert_int_eq(ss_sound_encoder_open(&c, SS_SOUND_OPUS, 100, &e), SS_ERANGE);
        ck_assert_int_eq(ss_sound_encoder_open(&c, SS_SOUND_OPUS, 24000, &e), 0);
        const void *packed;
        size_t size;
        uint32_t samples;
        ck_assert_int_eq(ss_sound_encode(c, x, 100, false, &packed, &size, &samples, &e), SS_EINVAL);
        ck_assert_int_eq(ss_sound_encode(c, x, 0, true, &packed, &size, &samples, &e), SS_EINVAL);
        ck_assert_int_eq(ss_sound_encode(c, x, 100, true, &packed, &size, &samples, &e), 0);
        ck_assert_uint_eq(samples, 100);
        ss_sound_encoder_close(&c);
    }
    ss_sound_decoder_close(&d);
}
END_TEST

/* Every truncation, and bits turned over: an error or as many samples as told, never more. */
START_TEST(damage)
{
    ss_err e;
    ss_sound_encoder *c;
    ss_sound_decoder *d;
    fill();
    ss_rng r = ss_rng_make(5, 0);
    for (int codec = SS_SOUND_OPUS; codec <= SS_SOUND_FLAC; codec++) {
        if (codec == SS_SOUND_OPUS && !SS_HAVE_OPUS)
            continue;
        ck_assert_int_eq(ss_sound_encoder_open(&c, codec, 24000, &e), 0);
        ck_assert_int_eq(ss_sound_decoder_open(&d, &e), 0);
        const void *out;
        const float *back;
        size_t size;
        uint32_t samples;
        ck_assert_int_eq(ss_sound_encode(c, x, 1280, false, &out, &size, &samples, &e), 0);
        uint8_t *copy = ss_alloc(size, 1);
        int found = 0;
        for (size_t n = 0; n < size; n += 1 + n / 64) {
            memcpy(copy, out, n);
            ck_assert_int_eq(ss_sound_decode(d, (uint64_t)codec, copy, n, samples, false, &back, &e),
                             SS_EDAMAGED);
        }
        for (int i = 0; i < 300; i++) {
            memcpy(copy, out, size);
            uint32_t bit = ss_rng_below(&r, (uint32_t)size * 8);
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int rc = ss_sound_decode(d, (uint64_t)codec, copy, size, samples, false, &back, &e);
            ck_assert(rc == 0 || rc == SS_EDAMAGED);
            found += rc < 0;
        }
        /* FLAC has a checksum; Opus takes what is a packet. */
        ck_assert_int_gt(found, codec == SS_SOUND_FLAC ? 290 : 0);
        ck_assert_int_eq(ss_sound_decode(d, (uint64_t)codec, out, size, samples - 1, false, &back, &e),
                         codec == SS_SOUND_FLAC ? SS_EDAMAGED : 0);
        ck_assert_int_eq(ss_sound_decode(d, (uint64_t)codec, out, size, samples + 320, false, &back, &e),
                         SS_EDAMAGED);
        ss_free(copy);
        ss_sound_encoder_close(&c);
        ss_sound_decoder_close(&d);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(features)
{
    enum { B = 64, T = 96 };
    static float w[B * T], v[B * T];
    static uint8_t out[3 * B * T + 1000];
    ss_err e;
    ck_assert_uint_le(ss_logmel_pack_room(B * T), sizeof out);
    ss_rng r = ss_rng_make(1, 0);
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < B * T; i++)
            w[i] = kind == 0   ? -13.815511f
                   : kind == 1 ? -5 + 3 * ss_rng_normal(&r)
                               : -10 + 0.1f * (float)(i / T) + 0.1f * ss_rng_normal(&r);
        ssize_t n = ss_logmel_pack(w, B, T, out, &e);
        ck_assert_int_gt(n, 0);
        ck_assert_int_le(n, kind == 0 ? 60 : B * T + 9);
        ck_assert_int_eq(ss_logmel_unpack(out, (size_t)n, B, T, v, &e), 0);
        float low = w[0], high = w[0];
        for (int i = 0; i < B * T; i++) {
            low = fminf(low, w[i]);
            high = fmaxf(high, w[i]);
        }
        for (int i = 0; i < B * T; i++)
            ck_assert_float_le(fabsf(v[i] - w[i]), (high - low) / 255 * 0.5001f + 1e-6f);
        for (ssize_t k = 0; k < n; k += 1 + k / 20)
            ck_assert_int_eq(ss_logmel_unpack(out, (size_t)k, B, T, v, &e), SS_EDAMAGED);
        ck_assert_int_eq(ss_logmel_unpack(out, (size_t)n, B, T - 1, v, &e), SS_EDAMAGED);
        out[n] = 0;
        ck_assert_int_eq(ss_logmel_unpack(out, (size_t)n + 1, B, T, v, &e), SS_EDAMAGED);
        out[0] = 2;
        ck_assert_int_eq(ss_logmel_unpack(out, (size_t)n, B, T, v, &e), SS_EDAMAGED);
    }
    memcpy(out, "\0\0\0\x80\x7f\0\0\0\0", 9); /* infinite */
    ck_assert_int_eq(ss_logmel_unpack(out, 9, 0, 0, v, &e), SS_EDAMAGED);
}
END_TEST

START_TEST(memory)
{
    fill();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_err e = {0};
            ss_sound_encoder *c = NULL;
            ss_sound_decoder *d = NULL;
            const void *out;
            const float *back;
            size_t size;
            uint32_t samples;
            uint8_t w[4096];
            int codec = SS_HAVE_OPUS && n % 2 ? SS_SOUND_OPUS : SS_SOUND_FLAC;
            fail_alloc_from((n + 1) / 2, forever);
            int rc = ss_sound_encoder_open(&c, codec, 24000, &e);
            if (!rc)
                rc = ss_sound_decoder_open(&d, &e);
            if (!rc)
                rc = ss_sound_encode(c, x, 960, false, &out, &size, &samples, &e);
            if (!rc)
                rc = ss_sound_decode(d, (uint64_t)codec, out, size, samples, true, &back, &e);
            if (!rc && (rc = (int)ss_logmel_pack(x, 8, 8, w, &e)) > 0)
                rc = ss_logmel_unpack(w, (size_t)rc, 8, 8, y, &e);
            if (c)
                ss_sound_encoder_close(&c);
            if (d)
                ss_sound_decoder_close(&d);
            bool all = !fail_alloc_done();
            ck_assert_uint_eq(ss_mem_used(), 0);
            if (all) {
                ck_assert_int_eq(rc, 0);
                if (n % 2 == 0)
                    break;
                continue;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
            ck_assert(*e.text);
        }
}
END_TEST

UNIT_MAIN("sound_codec", flac, opus, refused, damage, features, memory)
