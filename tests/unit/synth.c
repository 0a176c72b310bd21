#include <math.h>
#include <string.h>

#include "audio/synth.h"
#include "unit.h"

/* The first n samples under a seed, read in blocks of at most `block`. */
static float *listen(uint64_t seed, size_t n, size_t block)
{
    ss_synth *s;
    ck_assert_int_eq(ss_synth_create(&s, seed, NULL), 0);
    float *x = malloc(n * sizeof *x);
    for (size_t at = 0; at < n;) {
        ss_synth_scene scene;
        uint32_t left;
        size_t k = ss_synth_read(s, x + at, n - at < block ? n - at : block, &scene, &left);
        ck_assert_uint_gt(k, 0);
        at += k;
    }
    ss_synth_free(s);
    return x;
}

START_TEST(the_same_bits_always)
{
    enum { N = 60 * SS_SYNTH_RATE };
    float *a = listen(1, N, N), *b = listen(1, N, 777), *c = listen(2, N, N);
    ck_assert_mem_eq(a, b, N * sizeof *a);
    ck_assert(memcmp(a, c, N * sizeof *a));
    /* And on every CPU: a checksum over the bits of the first minute. */
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, a + i, 4);
        sum = (sum ^ bits) * 0x100000001b3u;
    }
    ck_assert_msg(sum == 0x48abbd0adf6c4eda, "%llx", (unsigned long long)sum);
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(scenes_are_as_described)
{
    ss_synth *s;
    ck_assert_int_eq(ss_synth_create(&s, 5, NULL), 0);
    int heard[SS_SYNTH_KINDS] = {0}, quiet = 0, silent = 0, behind = 0;
    double lowest = 0, highest = -200;
    float *x = malloc(6 * SS_SYNTH_RATE * sizeof *x);
    for (uint64_t number = 0; number < 120; number++) {
        ss_synth_scene scene, told;
        uint32_t left;
        size_t n = ss_synth_read(s, x, 6 * SS_SYNTH_RATE, &scene, &left);
        ck_assert_uint_eq(left, 0);
        ss_synth_describe(5, number, &told);
        ck_assert_mem_eq(&told, &scene, sizeof told);
        ck_assert_uint_eq(scene.number, number);
        ck_assert_uint_eq(scene.samples, n);
        ck_assert_int_eq(scene.fold, (int)(number % 5) + 1);
        ck_assert(n >= 2 * SS_SYNTH_RATE && n <= 6 * SS_SYNTH_RATE);
        ck_assert(scene.second != scene.kind || scene.kind < 0);
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            ck_assert(fabsf(x[i]) <= 1);
            sum += (double)x[i] * x[i];
        }
        double db = 10 * log10(sum / (double)n + 1e-20);
        if (scene.kind < 0) {
            quiet++;
            silent += sum == 0;
            continue;
        }
        heard[scene.kind]++;
        behind += scene.second >= 0;
        lowest = fmin(lowest, db);
        highest = fmax(highest, db);
    }
    for (int k = 0; k < SS_SYNTH_KINDS; k++) {
        ck_assert_int_ge(heard[k], 5);
        ck_assert_ptr_nonnull(ss_synth_kind(k));
    }
    ck_assert_ptr_null(ss_synth_kind(SS_SYNTH_KINDS));
    ck_assert_ptr_null(ss_synth_kind(-1));
    ck_assert(quiet > silent && silent > 0);
    ck_assert(behind > 20 && behind < 70);
    ck_assert_double_gt(highest - lowest, 15);
    free(x);
    ss_synth_free(s);
}
END_TEST

UNIT_MAIN("synth", the_same_bits_always, scenes_are_as_described)
