#include "learn/view.h"

#include "unit.h"

enum { MELS = 64, FRAMES = 96, C = 3, MOST = C * 16 * 24 };

static const uint32_t shapes[][3] = {{C, 16, 24}, {C, 8, 12}, {2, 4, 6}, {1, 2, 3}, {C, 1, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static int count(const uint32_t d[3])
{
    return (int)(d[0] * d[1] * d[2]);
}

static ss_view draw(ss_rng *r)
{
    ss_augment a;
    ss_view v;
    ss_augment_default(&a);
    a.roll = 20;
    a.freq_mask = 30;
    a.time_mask = 50;
    ss_augment_draw(&a, r, MELS, FRAMES, &v);
    return v;
}

START_TEST(nothing_drawn_changes_nothing)
{
    float x[MOST], out[MOST];
    ss_rng r = ss_rng_make(1, 1);
    const ss_view v = {.gain = 3};
    for (int i = 0; i < SHAPES; i++) {
        ss_rng_fill_normal(&r, x, MOST);
        ss_view_cut(&v, MELS, FRAMES, shapes[i], x, NULL, out);
        ck_assert_mem_eq(x, out, (size_t)count(shapes[i]) * sizeof *x);
    }
}
END_TEST

/* On 16 rows for 64 mels and 24 columns for 96 frames. */
START_TEST(what_is_done_is_what_the_header_says)
{
    static float x[16 * 24], q[16 * 24], out[16 * 24];
    const uint32_t d[3] = {1, 16, 24};
    const ss_view v = {.roll = -9, .mix = 0.25f, .mel = 10, .mels = 9, .frame = 90, .frames = 6};
    for (int i = 0; i < 16 * 24; i++) {
        x[i] = (float)i;
        q[i] = (float)(-2 * i);
    }
    ss_view_cut(&v, MELS, FRAMES, d, x, q, out);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 24; j++) {
            int from = i - 2 < 0 ? 0 : i - 2; /* -9 / 4, to the nearest */
            bool masked = (i >= 3 && i < 5) || j >= 23;
            float want = masked ? 0.0f : 0.75f * (float)(from * 24 + j) - 0.25f * 2 * (float)(i * 24 + j);
            ck_assert_msg(out[i * 24 + j] == want, "row %d column %d: %g, expected %g", i, j,
                          (double)out[i * 24 + j], (double)want);
        }
}
END_TEST

/* <A x, y> = <x, A' y>: the gradient is taken back by the transpose of what was done. */
START_TEST(the_gradient_is_the_transpose)
{
    float x[MOST], y[MOST], out[MOST], back[MOST], zero[MOST] = {0};
    ss_rng r = ss_rng_make(2, 1);
    double most = 0;
    for (int k = 0; k < 200; k++) {
        const uint32_t *d = shapes[k % SHAPES];
        bool mixed = k & 1;
        ss_view v = draw(&r);
        ss_rng_fill_normal(&r, x, MOST);
        ss_rng_fill_normal(&r, y, MOST);
        ss_view_cut(&v, MELS, FRAMES, d, x, mixed ? zero : NULL, out);
        ss_view_cut_back(&v, MELS, FRAMES, d, mixed, y, back);
        double one = 0, two = 0;
        for (int i = 0; i < count(d); i++) {
            one += (double)out[i] * (double)y[i];
            two += (double)x[i] * (double)back[i];
        }
        ck_assert_double_eq_tol(one, two, 1e-4);
        most = one > most ? one : most;
    }
    ck_assert_double_gt(most, 1);
}
END_TEST

UNIT_MAIN("view", nothing_drawn_changes_nothing, what_is_done_is_what_the_header_says,
          the_gradient_is_the_transpose)
