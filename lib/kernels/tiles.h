/*
 * The inner loops of convolution and matrix product, over a vector header. A register tile holds m pixels (of
 * dw: m rows of the weights) by some panels of 16 output channels; each accumulator is one chain of
 * multiply-adds in the order of the segments (of dw: of the pixels). The file that includes this names the
 * tiles that fit its registers. Private.
 */
#ifndef SS_KERNELS_TILES_H
#define SS_KERNELS_TILES_H

#include "kernels/internal.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define PV            (SS_PANEL / VL) /* vectors of a panel */
#define MOST_ROWS     32
#define MOST_VECTORS  8
#define ROW           7    /* steps of a row of the stem's kernel, whose input has one channel */
#define AHEAD         2048 /* bytes: weights are asked for that much before their turn */

/* Steps of the reduction taken together: as many as leave registers for their weights beside the
 * accumulators. */
#define STEPS(m, v) (REGISTERS - (m) * (v) > 4 * (v) ? 4 : REGISTERS - (m) * (v) > 2 * (v) ? 2 : 1)

typedef struct tile_entry {
    int m, panels;
    void (*run)(const void *t, int first, int panel);
} tile_entry;

/* Weight `at` of a panel and those beside it. */
ALWAYS_INLINE vf weights_at(const void *w, ptrdiff_t at, bool half)
{
    return half ? vload_f16_finite((const uint16_t *)w + at) : vload((const float *)w + at);
}

ALWAYS_INLINE const void *weights_from(const void *w, ptrdiff_t at, bool half)
{
    return half ? (const void *)((const uint16_t *)w + at) : (const void *)((const float *)w + at);
}

/* The inputs of row i are x[i][at] and on, or with x NULL side[16 * i] and on. */
ALWAYS_INLINE void conv_steps(int m, int v, int steps, bool half, const float *const *x, ptrdiff_t at,
                              const float *side, const void **w, vf (*acc)[MOST_VECTORS])
{
    vf b[ROW][MOST_VECTORS];
#pragma GCC unroll 8
    for (int u = 0; u < steps; u++)
#pragma GCC unroll 8
        for (int j = 0; j < v; j++)
            b[u][j] = weights_at(w[j / PV], u * SS_PANEL + j % PV * VL, half);
#pragma GCC unroll 8
    for (int j = 0; j < v / PV; j++)
#pragma GCC unroll 8
        for (int u = 0; u < steps; u += half ? 2 : 1)
            __builtin_prefetch((const char *)w[j] + u * SS_PANEL * (half ? 2 : 4) + AHEAD);
#pragma GCC unroll 32
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int u = 0; u < steps; u++) {
            vf a = vset1(x ? x[i][at + u] : side[i * SS_PANEL + u]);
#pragma GCC unroll 8
            for (int j = 0; j < v; j++)
                acc[i][j] = vmuladd(a, b[u][j], acc[i][j]);
        }
#pragma GCC unroll 8
    for (int j = 0; j < v / PV; j++)
        w[j] = weights_from(w[j], steps * SS_PANEL, half);
}

ALWAYS_INLINE void conv_mv(const ss_conv_tile *t, int first, int panel, int m, int v, bool half)
{
    vf acc[MOST_ROWS][MOST_VECTORS];
    if (t->from) {
#pragma GCC unroll 32
        for (int i = 0; i < m; i++)
#pragma GCC unroll 8
            for (int j = 0; j < v; j++)
                acc[i][j] = vload(t->from + (t->from_at[first + i] + panel * SS_PANEL + j * VL));
    } else {
#pragma GCC unroll 32
        for (int i = 0; i < m; i++)
#pragma GCC unroll 8
            for (int j = 0; j < v; j++)
                acc[i][j] = vset1(0.0f);
    }
    const float *x[MOST_ROWS];
#pragma GCC unroll 32
    for (int i = 0; i < m; i++)
        x[i] = t->x + t->in[first + i];
    for (int q = 0; q < t->segments; q++) {
        const void *w[MOST_VECTORS];
#pragma GCC unroll 8
        for (int j = 0; j < v / PV; j++)
            w[j] = weights_from(t->w, (ptrdiff_t)((size_t)(panel + j) * t->panel_stride) + t->segment[q].w,
                                half);
        const int steps = STEPS(m, v);
        ptrdiff_t at = t->segment[q].x, end = at + t->segment[q].len;
        if (end - at == ROW && REGISTERS - m * v > ROW * v) {
            conv_steps(m, v, ROW, half, x, at, NULL, w, acc);
            continue;
        }
        for (; at + steps <= end; at += steps)
            conv_steps(m, v, steps, half, x, at, NULL, w, acc);
        if (steps > 1)
            for (; at < end; at++)
                conv_steps(m, v, 1, half, x, at, NULL, w, acc);
    }
    const vf zero = vset1(0.0f);
#pragma GCC unroll 8
    for (int j = 0; j < v; j++) {
        int c = panel * SS_PANEL + j * VL;
        if (c >= t->channels)
            break;
        size_t lanes = (size_t)(t->channels - c);
        vf bias = t->bias ? vadd(vloadn(t->bias + c, lanes), zero) : zero;
#pragma GCC unroll 32
        for (int i = 0; i < m; i++) {
            ptrdiff_t at = t->out[first + i] + c;
            vf r = vadd(acc[i][j], bias);
            if (t->add)
                r = vadd(r, vloadn(t->add + at, lanes));
            if (t->relu)
                r = vmax(zero, r);
            if (t->gate)
                r = vselect_gt(vloadn(t->gate + at, lanes), zero, r, zero);
            vstoren(t->y + at, r, lanes);
        }
    }
}

#define CONV_FUNCTION(m, panels)                                                                             \
    static __attribute__((noinline)) void conv_##m##_##panels(const void *t, int first, int panel)           \
    {                                                                                                        \
        conv_mv(t, first, panel, m, (panels)*PV, false);                                                     \
    }                                                                                                        \
    static __attribute__((noinline)) void conv_half_##m##_##panels(const void *t, int first, int panel)      \
    {                                                                                                        \
        conv_mv(t, first, panel, m, (panels)*PV, true);                                                      \
    }
#define CONV_ENTRY(m, panels)      {m, panels, conv_##m##_##panels},
#define CONV_HALF_ENTRY(m, panels) {m, panels, conv_half_##m##_##panels},
CONV_TILES_ALL(CONV_FUNCTION)

/*
 * For f32 and f16 weights and a group of 1, 2 or 4 panels, the tiles to cover its pixels with, each as often
 * as it fits. Last, for 4 panels and chains that go on: wide tiles alone, since the pixels of a tap are few
 * and odd.
 */
static const tile_entry conv_tiles[2][4][12] = {{{CONV_TILES_1(CONV_ENTRY){0}},
                                                 {CONV_TILES_2(CONV_ENTRY){0}},
                                                 {CONV_TILES_4(CONV_ENTRY){0}},
                                                 {CONV_TILES_W(CONV_ENTRY){0}}},
                                                {{CONV_TILES_1(CONV_HALF_ENTRY){0}},
                                                 {CONV_TILES_2(CONV_HALF_ENTRY){0}},
                                                 {CONV_TILES_4(CONV_HALF_ENTRY){0}},
                                                 {CONV_TILES_W(CONV_HALF_ENTRY){0}}}};

static void conv_tile(const ss_conv_tile *t)
{
    int panels = ss_panels(t->channels);
    for (int p = 0, g; p < panels; p += 1 << g) {
        g = panels - p >= 4 ? 2 : panels - p >= 2 ? 1 : 0;
        int first = 0;
        for (const tile_entry *e = conv_tiles[t->half][g == 2 && t->from ? 3 : g]; first < t->pixels; e++) {
            int end = first + (t->pixels - first) / e->m * e->m;
            for (int q = 0; q < 1 << g; q += e->panels)
                for (int i = first; i < end; i += e->m)
                    e->run(t, i, p + q);
            first = end;
        }
    }
}

/* Over the pixels. Rows of x lie side by side or each apart, all lanes are there or not: constants to the
 * compiler. */
ALWAYS_INLINE void dw_pixels(const ss_dw_tile *t, const float *const *row, const float *dy, size_t lanes,
                             int m, int v, bool apart, bool whole, vf (*acc)[MOST_VECTORS])
{
    for (int a = 0; a < t->count[0]; a++)
        for (int b = 0; b < t->count[1]; b++) {
            ptrdiff_t xi = a * t->x_step[0] + b * t->x_step[1];
            const float *yi = dy + a * t->y_step[0] + b * t->y_step[1];
            for (int k = 0; k < t->count[2]; k++, xi += t->x_step[2], yi += t->y_step[2]) {
                vf g[MOST_VECTORS];
#pragma GCC unroll 8
                for (int j = 0; j < v; j++)
                    g[j] = whole ? vload(yi + j * VL)
                                 : vloadn(yi + j * VL, lanes > (size_t)j * VL ? lanes - (size_t)j * VL : 0);
#pragma GCC unroll 32
                for (int i = 0; i < m; i++) {
                    vf s = vset1(apart ? row[i][xi] : row[0][xi + i]);
#pragma GCC unroll 8
                    for (int j = 0; j < v; j++)
                        acc[i][j] = vmuladd(s, g[j], acc[i][j]);
                }
            }
        }
}

ALWAYS_INLINE void dw_mv(const ss_dw_tile *t, int first, int panel, int m, int v, bool apart)
{
    vf acc[MOST_ROWS][MOST_VECTORS];
    const float *row[MOST_ROWS];
#pragma GCC unroll 32
    for (int i = 0; i < m; i++) {
        row[i] = apart ? t->x + t->row[first + i] : t->x + first + i;
#pragma GCC unroll 8
        for (int j = 0; j < v; j++)
            acc[i][j] = vset1(0.0f);
    }
    const size_t lanes = (size_t)(t->channels - panel * SS_PANEL);
    const float *dy = t->dy + panel * SS_PANEL;
    if (lanes >= (size_t)v * VL)
        dw_pixels(t, row, dy, lanes, m, v, apart, true, acc);
    else
        dw_pixels(t, row, dy, lanes, m, v, apart, false, acc);
#pragma GCC unroll 8
    for (int j = 0; j < v; j++) {
        float *dw =
            t->dw + (size_t)(panel + j / PV) * t->panel_stride + (size_t)first * SS_PANEL + j % PV * VL;
        size_t left = lanes > (size_t)j * VL ? lanes - (size_t)j * VL : 0;
#pragma GCC unroll 32
        for (int i = 0; i < m; i++)
            vstoren(dw + i * SS_PANEL, vadd(vloadn(dw + i * SS_PANEL, left), acc[i][j]), left);
    }
}

#define DW_FUNCTION(m, panels)                                                                               \
    static __attribute__((noinline)) void dw_##m##_##panels(const void *t, int first, int panel)             \
    {                                                                                                        \
        dw_mv(t, first, panel, m, (panels)*PV, false);                                                       \
    }
#define DW_APART_FUNCTION(m, panels)                                                                         \
    static __attribute__((noinline)) void dw_apart_##m##_##panels(const void *t, int first, int panel)       \
    {                                                                                                        \
        dw_mv(t, first, panel, m, (panels)*PV, true);                                                        \
    }
#define DW_ENTRY(m, panels)       {m, panels, dw_##m##_##panels},
#define DW_APART_ENTRY(m, panels) {m, panels, dw_apart_##m##_##panels},
DW_TILES_1(DW_FUNCTION)
DW_TILES_2(DW_FUNCTION)
DW_TILES_APART(DW_APART_FUNCTION)
static const tile_entry dw_tiles[2][12] = {{DW_TILES_1(DW_ENTRY){0}}, {DW_TILES_2(DW_ENTRY){0}}};
static const tile_entry dw_apart_tiles[] = {DW_TILES_APART(DW_APART_ENTRY){0}};

static void dw_tile(const ss_dw_tile *t)
{
    int panels = ss_panels(t->channels), most = t->row ? 1 : DW_PANELS;
    for (int p = 0, g; p < panels; p += g) {
        g = panels - p >= most ? most : 1;
        const tile_entry *e = t->row ? dw_apart_tiles : dw_tiles[g - 1];
        for (int first = 0; first < t->rows;) {
            /* Shares as even as the sizes allow: a lone last row costs almost as much as a full tile. */
            int left = t->rows - first, parts = (left + e->m - 1) / e->m, share = (left + parts - 1) / parts;
            const tile_entry *take = e;
            while (take[1].m && take[1].m >= share)
                take++;
            while (take->m > left)
                take++;
            take->run(t, first, p);
            first += take->m;
        }
    }
}

#define TILES .conv = conv_tile, .dw = dw_tile

#endif
