/*
 * The inner loop of convolution in eight bits, over a vector header (VL lanes, vf) and what the file that
 * includes this says for its level. A register tile holds m pixels by some panels of 16 output channels;
 * sums are whole numbers, so any tile gives the same ones. Private.
 *
 *   XS                    bytes of an activation in x: 1, or 2 at a wide level
 *   vs, ACCS              an accumulator, and how many a panel takes; vszero
 *   va, va_load(x)        4 inputs of a pixel
 *   vw, vw_load(w, j)     their weights to the outputs of accumulator j
 *   vdot(s, a, w)         s += a . w
 *   VDOT2(s, a, w, b, v)  two of these in one; or not defined
 *   VDOT_LANE(s, a, u, w) a of 16 inputs (va16, va16_load), inputs 4 u .. 4 u + 3 meet w; or not defined
 *   vshift, vshift_load   128 times the sum of the weights, if activations are taken as x - 128; else empty
 *   vs_float(s, j, shift) outputs VL j .. VL j + VL - 1 of a panel, from its accumulators
 *   VSTORE_WHOLE          as in elements_i8.h; or not defined
 *   I8_TILES_1, _2, _4    for a group of 1, 2, 4 panels: X(pixels, panels, steps taken together)
 *   I8_TILES_ALL          each of them once
 *   I8_TILES_EVEN         those that have a form for the stem; or not defined
 */
#ifndef SS_KERNELS_TILES_I8_H
#define SS_KERNELS_TILES_I8_H

#include "kernels/elements_i8.h"

#define ALWAYS_INLINE   static inline __attribute__((always_inline))
#define I8_MOST_PIXELS  24
#define I8_MOST_VECTORS 16
#define PV              (SS_PANEL / VL)

typedef struct i8_entry {
    int m, panels;
    void (*run)(const ss_i8_tile *t, int first, int panel);
} i8_entry;

ALWAYS_INLINE void i8_steps(int m, int panels, int steps, const uint8_t *const *x, ptrdiff_t at,
                            const int8_t *w, size_t panel_stride, vs (*acc)[I8_MOST_VECTORS])
{
#ifdef VDOT2
    if (steps == 2) { /* weights as they are needed: the sums take most registers */
#pragma GCC unroll 8
        for (int j = 0; j < panels * ACCS; j++) {
            const int8_t *v = w + (size_t)(j / ACCS) * panel_stride;
            vw one = vw_load(v, j % ACCS), two = vw_load(v + 4 * SS_PANEL, j % ACCS);
#pragma GCC unroll 32
            for (int i = 0; i < m; i++)
                acc[i][j] =
                    VDOT2(acc[i][j], va_load(x[i] + at * XS), one, va_load(x[i] + (at + 4) * XS), two);
        }
        return;
    }
#endif
#ifdef VDOT_LANE
    if (steps == 4) { /* sixteen inputs of a pixel in one load */
        va16 a[I8_MOST_PIXELS];
#pragma GCC unroll 32
        for (int i = 0; i < m; i++)
            a[i] = va16_load(x[i] + at * XS);
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
#pragma GCC unroll 8
            for (int j = 0; j < panels * ACCS; j++) {
                vw one = vw_load(w + (size_t)(j / ACCS) * panel_stride + u * 4 * SS_PANEL, j % ACCS);
#pragma GCC unroll 32
                for (int i = 0; i < m; i++)
                    acc[i][j] = VDOT_LANE(acc[i][j], a[i], u, one);
            }
        return;
    }
#endif
    if (m == 1) { /* each weight is used once: loaded where it is, it takes no register from the sums */
#pragma GCC unroll 4
        for (int u = 0; u < steps; u++) {
            va a = va_load(x[0] + (at + 4 * u) * XS);
#pragma GCC unroll 16
            for (int j = 0; j < panels * ACCS; j++)
                acc[0][j] = vdot(acc[0][j], a,
                                 vw_load(w + (size_t)(j / ACCS) * panel_stride + u * 4 * SS_PANEL, j % ACCS));
        }
        return;
    }
    vw b[4][I8_MOST_VECTORS];
#pragma GCC unroll 4
    for (int u = 0; u < steps; u++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
#pragma GCC unroll 8
            for (int j = 0; j < ACCS; j++)
                b[u][p * ACCS + j] = vw_load(w + (size_t)p * panel_stride + u * 4 * SS_PANEL, j);
#pragma GCC unroll 32
    for (int i = 0; i < m; i++)
#pragma GCC unroll 4
        for (int u = 0; u < steps; u++) {
            va a = va_load(x[i] + (at + 4 * u) * XS);
#pragma GCC unroll 16
            for (int j = 0; j < panels * ACCS; j++)
                acc[i][j] = vdot(acc[i][j], a, b[u][j]);
        }
}

/* even: places from each pixel to the next, or 0: as listed. */
ALWAYS_INLINE void i8_mp(const ss_i8_tile *t, int first, int panel, int m, int panels, int steps, int even)
{
    vs acc[I8_MOST_PIXELS][I8_MOST_VECTORS];
    const uint8_t *x[I8_MOST_PIXELS];
#pragma GCC unroll 32
    for (int i = 0; i < m; i++) {
        x[i] = (const uint8_t *)t->x + (ptrdiff_t)(even ? t->in[first] + i * even : t->in[first + i]) * XS;
#pragma GCC unroll 16
        for (int j = 0; j < panels * ACCS; j++)
            acc[i][j] = vszero();
    }
    const size_t stride = t->panel_stride;
    const int8_t *w = t->w + (size_t)panel * stride;
    for (int q = 0; q < t->segments; q++) {
        ptrdiff_t at = q * t->segment, end = at + t->len;
        for (; at + 4 * steps <= end; at += 4 * steps, w += steps * 4 * SS_PANEL)
            i8_steps(m, panels, steps, x, at, w, stride, acc);
        if (steps > 1)
            for (; at < end; at += 4, w += 4 * SS_PANEL)
                i8_steps(m, panels, 1, x, at, w, stride, acc);
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < PV; j++) {
            int c = (panel + p) * SS_PANEL + j * VL;
            if (c >= t->channels)
                break;
            size_t lanes = (size_t)(t->channels - c);
            vf scale = vloadn(t->scale + c, lanes), bias = vloadn(t->bias + c, lanes),
               add_scale = vset1(t->add_scale);
            vshift shift = vshift_load(t->shift + c, lanes);
#pragma GCC unroll 32
            for (int i = 0; i < m; i++) {
                ptrdiff_t at = t->out[first + i] + c;
                vf v = vfma(vs_float(&acc[i][p * ACCS], j, shift), scale, bias);
                if (t->add)
                    v = vfma(vload_u8n(t->add + at, lanes), add_scale, v);
                else if (t->add32)
                    v = vadd(v, vloadn(t->add32 + at, lanes));
                if (t->y)
                    VSTORE_WHOLE(t->y + at, v, lanes);
                else
                    vstoren(t->y32 + at, v, lanes);
            }
        }
}

#define I8_FUNCTION(m, panels, steps)                                                                        \
    static __attribute__((noinline)) void i8_##m##_##panels(const ss_i8_tile *t, int first, int panel)       \
    {                                                                                                        \
        i8_mp(t, first, panel, m, panels, steps, 0);                                                         \
    }
#define I8_ENTRY(m, panels, steps) {m, panels, i8_##m##_##panels},
I8_TILES_ALL(I8_FUNCTION)

/* For a group of 1, 2 or 4 panels, the tiles to cover its pixels with, each as often as it fits. */
static const i8_entry i8_tiles[3][16] = {
    {I8_TILES_1(I8_ENTRY){0}}, {I8_TILES_2(I8_ENTRY){0}}, {I8_TILES_4(I8_ENTRY){0}}};

/*
 * For the stem, whose pixels are two bytes apart and whose rows are two steps long: places known to the
 * compiler take no registers.
 */
#ifdef I8_TILES_EVEN
#define I8_EVEN_FUNCTION(m, panels)                                                                          \
    static __attribute__((noinline)) void i8_even_##m##_##panels(const ss_i8_tile *t, int first, int panel)  \
    {                                                                                                        \
        i8_mp(t, first, panel, m, panels, 2, 2);                                                             \
    }
#define I8_EVEN_ENTRY(m, panels) {m, panels, i8_even_##m##_##panels},
I8_TILES_EVEN(I8_EVEN_FUNCTION)
static const i8_entry even_tiles[] = {I8_TILES_EVEN(I8_EVEN_ENTRY){0}};
#endif

static void run_tile(const ss_i8_tile *t, const i8_entry *e, int first, int panel)
{
#ifdef I8_TILES_EVEN
    if (t->len == 8 && t->in[first + e->m - 1] - t->in[first] == 2 * (e->m - 1))
        for (const i8_entry *k = even_tiles; k->m; k++)
            if (k->m == e->m && k->panels == e->panels) {
                k->run(t, first, panel);
                return;
            }
#endif
    e->run(t, first, panel);
}

static void i8_conv(const ss_i8_tile *t)
{
    int panels = ss_panels(t->channels);
    for (int p = 0, g; p < panels; p += 1 << g) {
        g = panels - p >= 4 ? 2 : panels - p >= 2 ? 1 : 0;
        int first = 0;
        for (const i8_entry *e = i8_tiles[g]; first < t->pixels; e++) {
            int end = first + (t->pixels - first) / e->m * e->m;
            for (int q = 0; q < 1 << g; q += e->panels)
                for (int i = first; i < end; i += e->m)
                    run_tile(t, e, i, p + q);
            first = end;
        }
    }
}

#endif
