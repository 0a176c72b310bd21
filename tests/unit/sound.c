#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audio/resample.h"
#include "io/sound.h"
#include "unit.h"

static ss_err err;
static char folder[] = "/tmp/ss-sound-XXXXXX";

static void enter(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void leave(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
    strcpy(folder + sizeof folder - 7, "XXXXXX");
}

/* Channel c of sample i is (i % 1000 + c) / 4096. */
static void write_sound(const char *path, int format, int channels, int n)
{
    SF_INFO info = {.samplerate = 16000, .channels = channels, .format = format};
    SNDFILE *f = sf_open(path, SFM_WRITE, &info);
    ck_assert_msg(f, "%s", sf_strerror(NULL));
    float *x = malloc(sizeof *x * channels * n);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            x[i * channels + c] = (float)(i % 1000 + c) / 4096;
    ck_assert_int_eq(sf_writef_float(f, x, n), n);
    sf_close(f);
    free(x);
}

static void append_byte_change(const char *path, long at, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    fseek(f, at, SEEK_SET);
    fwrite(bytes, 1, n, f);
    fclose(f);
}

/* Reads all; returns the count and, in *rc, how it ended. */
static int read_all(ss_sound *s, float *out, int room, int *rc)
{
    int n = 0;
    ssize_t got;
    while ((got = ss_sound_read(s, out + n, n + 700 < room ? 700 : room - n, &err)) > 0)
        n += (int)got;
    *rc = (int)got;
    if (got < 0)
        ck_assert_int_eq(ss_sound_read(s, out, 1, &err), 0);
    return n;
}

START_TEST(formats_channels_and_mix)
{
    static const int format[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_16,  SF_FORMAT_FLAC | SF_FORMAT_PCM_24,
                                 SF_FORMAT_AIFF | SF_FORMAT_FLOAT,  SF_FORMAT_AU | SF_FORMAT_PCM_16,
                                 SF_FORMAT_RF64 | SF_FORMAT_PCM_16, SF_FORMAT_W64 | SF_FORMAT_PCM_16};
    float x[5000];
    enter();
    for (size_t k = 0; k < sizeof format / sizeof *format; k++) {
        write_sound("x", format[k], 3, 3000);
        for (int channel = 0; channel <= 3; channel++) {
            ss_sound *s;
            int rc;
            ck_assert_msg(!ss_sound_open(&s, "x", channel, &err), "%s", err.text);
            ck_assert_int_eq(ss_sound_rate(s), 16000);
            ck_assert_int_eq(ss_sound_declared(s), 3000);
            ck_assert_int_eq(ss_sound_skip(s, 10, &err), 0);
            ck_assert_int_eq(read_all(s, x, 5000, &rc), 2990);
            ck_assert_int_eq(rc, 0);
            for (int i = 0; i < 2990; i++)
                ck_assert_float_eq_tol(x[i], (float)((i + 10) % 1000 + (channel ? channel - 1 : 1)) / 4096,
                                       1e-6);
            ss_sound_close(s);
        }
        ss_sound *s;
        ck_assert_int_eq(ss_sound_open(&s, "x", 4, &err), SS_EUNFIT);
        ck_assert_ptr_null(s);
    }
    leave();
}
END_TEST

START_TEST(less_than_declared)
{
    static const int format[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_16, SF_FORMAT_AIFF | SF_FORMAT_PCM_16,
                                 SF_FORMAT_AU | SF_FORMAT_PCM_16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
                                 SF_FORMAT_RF64 | SF_FORMAT_PCM_16};
    float *x = malloc(50000 * sizeof *x);
    enter();
    for (size_t k = 0; k < sizeof format / sizeof *format; k++) {
        struct stat st;
        write_sound("x", format[k], 1, 40000);
        stat("x", &st);
        for (int cut = 1; cut <= 4; cut++) {
            ck_assert_int_eq(truncate("x", st.st_size * (8 - cut) / 8), 0);
            ss_sound *s;
            int rc;
            ck_assert_msg(!ss_sound_open(&s, "x", 0, &err), "%s", err.text);
            ck_assert_int_eq(ss_sound_declared(s), 40000);
            int n = read_all(s, x, 50000, &rc);
            ck_assert_msg(rc == SS_ETRUNC, "format %zx cut %d: %d", k, cut, rc);
            ck_assert_msg(strstr(err.text, "of the 40000 samples that it declares"), "%s", err.text);
            ck_assert(n > 10000 && n < 40000);
            for (int i = 0; i < n; i++)
                ck_assert_float_eq_tol(x[i], (float)(i % 1000) / 4096, 1e-4);
            ss_sound_close(s);
        }
    }
    free(x);
    leave();
}
END_TEST

START_TEST(headers_that_lie)
{
    ss_sound *s;
    float x[64];
    int rc;
    enter();
    /* 1 MB declared, 64 bytes there. */
    write_sound("x", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1, 32);
    append_byte_change("x", 40, "\0\0\x10\0", 4);
    ck_assert_int_eq(ss_sound_open(&s, "x", 0, &err), 0);
    ck_assert_int_eq(ss_sound_declared(s), 524288);
    ck_assert_int_eq(read_all(s, x, 64, &rc), 32);
    ck_assert_int_eq(rc, SS_ETRUNC);
    ck_assert_msg(strstr(err.text, "ends after 32 of the 524288"), "%s", err.text);
    ss_sound_close(s);
    /* A length left open is none. */
    append_byte_change("x", 40, "\xff\xff\xff\xff", 4);
    append_byte_change("x", 4, "\xff\xff\xff\xff", 4);
    ck_assert_int_eq(ss_sound_open(&s, "x", 0, &err), 0);
    ck_assert_int_eq(read_all(s, x, 64, &rc), 32);
    ck_assert_int_eq(rc, 0);
    ss_sound_close(s);
    /* 1024 channels; no samples a second; a million of them. */
    write_sound("x", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1, 2048);
    append_byte_change("x", 22, "\x00\x04", 2);
    append_byte_change("x", 32, "\x00\x08", 2);
    rc = ss_sound_open(&s, "x", 0, &err);
    ck_assert_msg(rc == SS_ELIMIT, "%d %s", rc, err.text);
    ck_assert_msg(strstr(err.text, "1024 channels, expected 1 to 64"), "%s", err.text);
    static const char *const rate[] = {"\x00\x00\x00\x00", "\xe7\x03\x00\x00", "\x40\x42\x0f\x00",
                                       "\xff\xff\xff\xff"};
    for (int i = 0; i < 4; i++) {
        write_sound("x", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1, 100);
        append_byte_change("x", 24, rate[i], 4);
        rc = ss_sound_open(&s, "x", 0, &err);
        ck_assert_msg(rc == SS_ELIMIT || rc == SS_EDAMAGED, "%d: %d", i, rc);
        ck_assert_ptr_null(s);
    }
    FILE *f = fopen("x", "w");
    fputs("nothing that sounds", f);
    fclose(f);
    ck_assert_int_eq(ss_sound_open(&s, "x", 0, &err), SS_EDAMAGED);
    ck_assert_msg(strstr(err.text, "'x' cannot be read as sound"), "%s", err.text);
    ck_assert_int_eq(ss_sound_open(&s, "y", 0, &err), SS_EIO);
    ck_assert_int_eq(ss_sound_open(&s, ".", 0, &err), SS_EIO);
    leave();
}
END_TEST

START_TEST(broken_samples)
{
    enter();
    SF_INFO info = {.samplerate = 16000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *f = sf_open("x", SFM_WRITE, &info);
    static const float in[] = {0.5f, 0.25f, NAN, 0.25f, INFINITY, -INFINITY, 3.0f, 5.0f};
    sf_writef_float(f, in, 4);
    sf_close(f);
    ss_sound *s;
    float x[8];
    int rc;
    ck_assert_int_eq(ss_sound_open(&s, "x", 0, &err), 0);
    ck_assert_int_eq(read_all(s, x, 8, &rc), 4);
    static const float expected[] = {0.375f, 0, 0, 4};
    ck_assert_mem_eq(x, expected, sizeof expected);
    ck_assert_uint_eq(ss_sound_nonfinite(s), 2);
    ss_sound_close(s);
    leave();
}
END_TEST

START_TEST(wav_from_a_pipe)
{
    enter();
    write_sound("x", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 2, 30000);
    for (int round = 0; round < 3; round++) {
        /* whole; length left open; cut off */
        if (round == 1)
            append_byte_change("x", 40, "\xff\xff\xff\xff", 4);
        FILE *p = popen(round == 2 ? "head -c 40000 x" : "cat x", "r");
        int keep = dup(0);
        dup2(fileno(p), 0);
        ss_sound *s;
        float *x = malloc(40000 * sizeof *x);
        int rc;
        ck_assert_msg(!ss_sound_open(&s, "-", 0, &err), "%s", err.text);
        ck_assert(ss_sound_is_stream(s));
        int n = read_all(s, x, 40000, &rc);
        ck_assert_int_eq(n, round == 2 ? (40000 - 44) / 4 : 30000);
        ck_assert_int_eq(rc, round == 2 ? SS_ETRUNC : 0);
        ck_assert_float_eq_tol(x[9000 + 5], 5.5f / 4096, 1e-6);
        free(x);
        ss_sound_close(s);
        dup2(keep, 0);
        close(keep);
        pclose(p);
        if (round == 1) /* not before: cat may be reading it still */
            write_sound("x", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 2, 30000);
    }
    leave();
}
END_TEST

START_TEST(folders_and_lists)
{
    enter();
    ck_assert_int_eq(
        system("mkdir -p d/b d/.hidden d/empty && touch d/z.wav d/B.FLAC d/a.ogg d/notes.txt d/b/1.mp3 "
               "d/.x.wav d/.hidden/y.wav && printf 'b\\r\\n\\nz.wav\\n/abs/x.wav' > d/list"),
        0);
    ss_paths p = {0};
    ck_assert_int_eq(ss_paths_expand(&p, "d", &err), 0);
    ck_assert_int_eq(ss_paths_expand(&p, "d/notes.txt", &err), 0);
    ck_assert_int_eq(ss_paths_expand(&p, "@d/list", &err), 0);
    ck_assert_int_eq(ss_paths_expand(&p, "missing", &err), 0);
    static const char *const expected[] = {"d/B.FLAC",  "d/a.ogg", "d/b/1.mp3",  "d/z.wav", "d/notes.txt",
                                           "d/b/1.mp3", "d/z.wav", "/abs/x.wav", "missing"};
    ck_assert_uint_eq(p.n, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < p.n; i++)
        ck_assert_str_eq(p.path[i], expected[i]);
    ss_paths_clear(&p);
    ck_assert_int_eq(ss_paths_expand(&p, "@missing", &err), SS_EIO);
    leave();
}
END_TEST

START_TEST(conversion_of_rates)
{
    static const int rate[] = {8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000};
    for (size_t k = 0; k < sizeof rate / sizeof *rate; k++) {
        int n = rate[k], made[2];
        float *x = malloc((n + 1) * sizeof *x), *y[2];
        for (int i = 0; i < n; i++)
            x[i] = (float)(0.5 * sin(2 * M_PI * 1000 * i / n)); /* one second of 1 kHz */
        for (int round = 0; round < 2; round++) {
            y[round] = calloc(20000, sizeof **y);
            ss_resample *r;
            ck_assert_int_eq(ss_resample_create(&r, rate[k], 16000, &err), 0);
            made[round] = 0;
            size_t block = round ? 333 : (size_t)n;
            for (size_t at = 0; at < (size_t)n;) {
                size_t taken, part = n - at < block ? n - at : block;
                made[round] += (int)ss_resample_run(r, x + at, part, &taken, y[round] + made[round],
                                                    20000 - made[round], &err);
                at += taken;
            }
            ssize_t got;
            while ((got = ss_resample_run(r, NULL, 0, NULL, y[round] + made[round], 100, &err)) > 0)
                made[round] += (int)got;
            ss_resample_free(r);
            ck_assert_int_ge(made[round], 15999);
            ck_assert_int_le(made[round], 16001);
        }
        ck_assert_int_eq(made[0], made[1]);
        ck_assert_mem_eq(y[0], y[1], made[0] * sizeof **y);
        for (int i = 500; i < 15500; i++)
            ck_assert_double_eq_tol(y[0][i], 0.5 * sin(2 * M_PI * 1000 * i / 16000), 1e-4);
        free(x);
        free(y[0]);
        free(y[1]);
    }
    ss_resample *r;
    ck_assert_int_eq(ss_resample_create(&r, 999, 16000, &err), SS_ERANGE);
}
END_TEST

UNIT_MAIN("sound", formats_channels_and_mix, less_than_declared, headers_that_lie, broken_samples,
          wav_from_a_pipe, folders_and_lists, conversion_of_rates)
