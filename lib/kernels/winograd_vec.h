/*
 * The transforms of Winograd's convolution over a vector header, and its products over tiles.h. Compiled once
 * for each level; with one lane this is the definition. Private.
 *
 * A tile of m x m outputs is Y = A^T [sum over channels of (G g G^T) * (B^T d B)] A with the points 0, 1, -1,
 * infinity (m = 2) and also 2, -2 (m = 4): Winograd 1980; Lavin and Gray, "Fast algorithms for convolutional
 * neural networks", CVPR 2016. Columns are transformed first, then rows; the operations of one line stand in
 * one function each.
 */
#ifndef SS_KERNELS_WINOGRAD_VEC_H
#define SS_KERNELS_WINOGRAD_VEC_H

#include "kernels/internal.h"

#define WINO_INLINE static inline __attribute__((always_inline))
#define WINO_MOST   6 /* places along a tile of the input */

/* B^T d: m + 2 numbers. */
WINO_INLINE void wino_line_in(int m, const vf *d, vf *v)
{
    if (m == 2) {
        v[0] = vsub(d[0], d[2]);
        v[1] = vadd(d[1], d[2]);
        v[2] = vsub(d[2], d[1]);
        v[3] = vsub(d[1], d[3]);
        return;
    }
    const vf two = vset1(2.0f), minus_two = vset1(-2.0f), four = vset1(4.0f), minus_four = vset1(-4.0f),
             minus_five = vset1(-5.0f);
    vf even = vmuladd(minus_four, d[2], d[4]), odd = vmuladd(minus_four, d[1], d[3]);
    vf p = vsub(d[4], d[2]), q = vsub(d[3], d[1]);
    v[0] = vmuladd(four, d[0], vmuladd(minus_five, d[2], d[4]));
    v[1] = vadd(even, odd);
    v[2] = vsub(even, odd);
    v[3] = vmuladd(two, q, p);
    v[4] = vmuladd(minus_two, q, p);
    v[5] = vmuladd(four, d[1], vmuladd(minus_five, d[3], d[5]));
}

/* A^T v: m + 2 numbers to m. */
WINO_INLINE void wino_line_out(int m, const vf *v, vf *y)
{
    if (m == 2) {
        y[0] = vadd(vadd(v[0], v[1]), v[2]);
        y[1] = vsub(vsub(v[1], v[2]), v[3]);
        return;
    }
    const vf two = vset1(2.0f), four = vset1(4.0f), eight = vset1(8.0f);
    vf s = vadd(v[1], v[2]), d = vsub(v[1], v[2]), p = vadd(v[3], v[4]), q = vsub(v[3], v[4]);
    y[0] = vadd(vadd(v[0], s), p);
    y[1] = vmuladd(two, q, d);
    y[2] = vmuladd(four, p, s);
    y[3] = vadd(vmuladd(eight, q, d), v[5]);
}

/* G g: 3 numbers to m + 2. */
WINO_INLINE void wino_line_weights(int m, const vf *g, vf *u)
{
    u[0] = g[0];
    if (m == 2) {
        const vf half = vset1(0.5f);
        vf s = vadd(g[0], g[2]);
        u[1] = vmul(half, vadd(s, g[1]));
        u[2] = vmul(half, vsub(s, g[1]));
        u[3] = g[2];
        return;
    }
    vf s = vadd(g[0], g[2]), t = vmuladd(vset1(4.0f), g[2], g[0]), w = vadd(g[1], g[1]);
    u[0] = vmul(vset1(0.25f), g[0]);
    u[1] = vmul(vset1(-1.0f / 6), vadd(s, g[1]));
    u[2] = vmul(vset1(-1.0f / 6), vsub(s, g[1]));
    u[3] = vmul(vset1(1.0f / 24), vadd(t, w));
    u[4] = vmul(vset1(1.0f / 24), vsub(t, w));
    u[5] = g[2];
}

WINO_INLINE void wino_in_tile(int m, const ss_wino_in *t)
{
    const int n = m + 2;
    for (int c = 0; c < t->channels; c += VL) {
        const ptrdiff_t at = c / SS_PANEL * t->v_block + c % SS_PANEL;
        vf column[WINO_MOST][WINO_MOST]; /* [column][point of the rows] */
#pragma GCC unroll 6
        for (int j = 0; j < n; j++) {
            if (!(t->columns >> j & 1)) {
#pragma GCC unroll 6
                for (int i = 0; i < n; i++)
                    column[j][i] = vset1(0.0f);
                continue;
            }
            vf d[WINO_MOST];
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                d[i] = vload(t->base[i] + (t->row[i] + j * t->pixel + c));
            wino_line_in(m, d, column[j]);
        }
#pragma GCC unroll 6
        for (int i = 0; i < n; i++) {
            vf d[WINO_MOST], v[WINO_MOST];
#pragma GCC unroll 6
            for (int j = 0; j < n; j++)
                d[j] = column[j][i];
            wino_line_in(m, d, v);
#pragma GCC unroll 6
            for (int j = 0; j < n; j++)
                vstore(t->v + ((i * n + j) * t->v_point + at), v[j]);
        }
    }
}

static void wino_in(const ss_wino_in *t)
{
    if (t->m == 2)
        wino_in_tile(2, t);
    else
        wino_in_tile(4, t);
}

WINO_INLINE void wino_out_tile(int m, const ss_wino_out *t)
{
    const int n = m + 2;
    const vf zero = vset1(0.0f);
    for (int c = 0; c < t->channels; c += VL) {
        const float *from = t->p + (c / SS_PANEL * t->p_block + c % SS_PANEL);
        vf column[WINO_MOST][4]; /* [column][row of the outputs] */
#pragma GCC unroll 6
        for (int j = 0; j < n; j++) {
            vf v[WINO_MOST];
#pragma GCC unroll 6
            for (int i = 0; i < n; i++)
                v[i] = vload(from + (i * n + j) * t->p_point);
            wino_line_out(m, v, column[j]);
        }
        vf bias = t->bias ? vload(t->bias + c) : zero;
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            if (i >= t->rows)
                break;
            vf v[WINO_MOST], y[4];
#pragma GCC unroll 6
            for (int j = 0; j < n; j++)
                v[j] = column[j][i];
            wino_line_out(m, v, y);
            ptrdiff_t at = i * t->row + c;
#pragma GCC unroll 4
            for (int j = 0; j < m; j++, at += t->pixel) {
                if (j >= t->columns)
                    break;
                vf r = vadd(y[j], bias);
                if (t->add)
                    r = vadd(r, vload(t->add + at));
                if (t->relu)
                    r = vmax(zero, r);
                if (t->gate)
                    r = vselect_gt(vload(t->gate + at), zero, r, zero);
                vstore(t->y + at, r);
            }
        }
    }
}

static void wino_out(const ss_wino_out *t)
{
    if (t->m == 2)
        wino_out_tile(2, t);
    else
        wino_out_tile(4, t);
}

/* One panel's weights of some channels, [9][channels][16] with taps from_step apart, to
 * [points][channels][16] with points to_step apart. */
WINO_INLINE void wino_weights_panel(int m, const float *from, size_t from_step, size_t channels, float *to,
                                    size_t to_step)
{
    const int n = m + 2;
    for (size_t at = 0; at < channels * SS_PANEL; at += VL) {
        vf column[3][WINO_MOST];
#pragma GCC unroll 3
        for (size_t j = 0; j < 3; j++) {
            vf g[3];
#pragma GCC unroll 3
            for (size_t i = 0; i < 3; i++)
                g[i] = vload(from + (i * 3 + j) * from_step + at);
            wino_line_weights(m, g, column[j]);
        }
#pragma GCC unroll 6
        for (int i = 0; i < n; i++) {
            vf g[3], u[WINO_MOST];
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                g[j] = column[j][i];
            wino_line_weights(m, g, u);
#pragma GCC unroll 6
            for (int j = 0; j < n; j++)
                vstore(to + (size_t)(i * n + j) * to_step + at, u[j]);
        }
    }
}

static void wino_weights(int m, const float *from, size_t from_step, size_t channels, float *to,
                         size_t to_step)
{
    if (m == 2)
        wino_weights_panel(2, from, from_step, channels, to, to_step);
    else
        wino_weights_panel(4, from, from_step, channels, to, to_step);
}

#ifdef REGISTERS /* of tiles.h */

/* m tiles by nv vectors. Rows of both sides lie 16 numbers apart, so that their places are constants. */
WINO_INLINE void wino_mv(const ss_wino_product *t, const float *v, const float *u, float *p, int m, int nv)
{
    const int steps = STEPS(m, nv);
    vf acc[MOST_ROWS][MOST_VECTORS];
    const void *w[MOST_VECTORS];
#pragma GCC unroll 32
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            acc[i][j] = vset1(0.0f);
#pragma GCC unroll 8
    for (int j = 0; j < nv / PV; j++)
        w[j] = u + (size_t)j * t->panel_stride;
    for (int block = 0; block < t->depth; block += SS_PANEL, v += t->tiles * SS_PANEL)
        for (int at = 0; at < SS_PANEL; at += steps)
            conv_steps(m, nv, steps, false, NULL, 0, v + at, w, acc);
#pragma GCC unroll 32
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            vstore(p + ((ptrdiff_t)(j / PV) * t->tiles + i) * SS_PANEL + j % PV * VL, acc[i][j]);
}

typedef struct wino_entry {
    int m, panels;
    void (*run)(const ss_wino_product *t, const float *v, const float *u, float *p);
} wino_entry;

#define WINO_FUNCTION(m, panels)                                                                             \
    static __attribute__((noinline)) void wino_##m##_##panels(const ss_wino_product *t, const float *v,      \
                                                              const float *u, float *p)                      \
    {                                                                                                        \
        wino_mv(t, v, u, p, m, (panels)*PV);                                                                 \
    }
#define WINO_ENTRY(m, panels) {m, panels, wino_##m##_##panels},
CONV_TILES_ALL(WINO_FUNCTION)
static const wino_entry wino_tiles[3][12] = {
    {CONV_TILES_1(WINO_ENTRY){0}}, {CONV_TILES_2(WINO_ENTRY){0}}, {CONV_TILES_4(WINO_ENTRY){0}}};

static void wino_product(const ss_wino_product *t)
{
    for (int panel = 0, g; panel < t->panels; panel += 1 << g) {
        g = t->panels - panel >= 4 ? 2 : t->panels - panel >= 2 ? 1 : 0;
        for (int k = 0; k < t->points; k++) {
            int first = 0;
            const float *v = t->v + k * t->v_point;
            const float *u = t->u + (size_t)panel * t->panel_stride + (size_t)k * (size_t)t->depth * SS_PANEL;
            float *p = t->p + (k * t->p_point + (ptrdiff_t)panel * t->tiles * SS_PANEL);
            for (const wino_entry *e = wino_tiles[g]; first < t->tiles; e++) {
                int end = first + (t->tiles - first) / e->m * e->m;
                for (int q = 0; q < 1 << g; q += e->panels)
                    for (int i = first; i < end; i += e->m)
                        e->run(t, v + i * SS_PANEL, u + (size_t)q * t->panel_stride,
                               p + ((ptrdiff_t)q * t->tiles + i) * SS_PANEL);
                first = end;
            }
        }
    }
}

#else

static void wino_product(const ss_wino_product *t)
{
    for (int k = 0; k < t->points; k++)
        for (int i = 0; i < t->tiles; i++)
            for (int o = 0; o < t->panels * SS_PANEL; o++) {
                const float *v = t->v + k * t->v_point + i * SS_PANEL;
                const float *u = t->u + (size_t)(o / SS_PANEL) * t->panel_stride +
                                 (size_t)k * (size_t)t->depth * SS_PANEL + o % SS_PANEL;
                float chain = 0;
                for (int c = 0; c < t->depth; c++)
                    chain =
                        fmaf(v[c / SS_PANEL * SS_PANEL * t->tiles + c % SS_PANEL], u[c * SS_PANEL], chain);
                t->p[k * t->p_point + (o / SS_PANEL * t->tiles + i) * SS_PANEL + o % SS_PANEL] = chain;
            }
}

#endif

#define WINOGRAD                                                                                             \
    .wino_in = wino_in, .wino_product = wino_product, .wino_out = wino_out, .wino_weights = wino_weights

#endif
