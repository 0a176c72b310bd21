#include "kernels/scalar.h"
#include "kernels/winograd.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"

#define MOST_TAPS    15  /* along one axis of a kernel */
#define SQUARE_TAPS  9   /* kernels up to 3x3 are packed for dx by way of the stack */
#define CLASSES      64  /* sets of taps along an axis: clipped at either end, and the phases of a stride */
#define PIXELS       480 /* listed at a time: a multiple of the tiles */
#define PADDED_BELOW 6   /* windows: with fewer, pixels of one class are too few for a tile */
#define WINDOWS_EACH 8   /* for a thread; with fewer, threads share out the output channels */
#define TAP_PIXELS   96  /* of images gone over tap by tap */
#define TAP_TAPS     9
#define TAP_PANELS   4  /* whose chains are kept side by side */
#define TAP_CHANNELS 64 /* with fewer, loading and storing the chains takes too large a share */
#define CACHE        ((size_t)384 << 10) /* bytes of activations to go over with all weights before the next */

int ss_conv_init(ss_conv *c, int cin, int h, int w, int cout, int kh, int kw, int stride, int pad)
{
    const int most = 1 << 16; /* far above any layer, and no sum of two overflows */
    if (cin < 1 || h < 1 || w < 1 || cout < 1 || kh < 1 || kw < 1 || stride < 1 || pad < 0 || pad >= kh ||
        pad >= kw)
        return SS_EINVAL;
    if (cin > most || h > most || w > most || cout > most || kh > MOST_TAPS || kw > MOST_TAPS ||
        stride > MOST_TAPS)
        return SS_EINVAL;
    if (h + 2 * pad < kh || w + 2 * pad < kw)
        return SS_EINVAL;
    *c = (ss_conv){cin,
                   h,
                   w,
                   cout,
                   (h + 2 * pad - kh) / stride + 1,
                   (w + 2 * pad - kw) / stride + 1,
                   kh,
                   kw,
                   stride,
                   pad,
                   SS_CONV_DIRECT,
                   false};
    return 0;
}

const char *ss_conv_algo_name(ss_conv_algo a)
{
    return a == SS_CONV_WINOGRAD4 ? "winograd4" : a == SS_CONV_WINOGRAD2 ? "winograd2" : "direct";
}

int ss_conv_linear(ss_conv *c, int cin, int cout)
{
    return ss_conv_init(c, cin, 1, 1, cout, 1, 1, 1, 0);
}

int ss_conv_back_rank(int tap, int size, int stride)
{
    int rank = 0;
    for (int phase = 0; phase < tap % stride; phase++)
        if (phase < size)
            rank += (size - 1 - phase) / stride + 1;
    return rank + (size - 1 - tap) / stride;
}

size_t ss_conv_dw_size(const ss_conv *c)
{
    return (size_t)ss_panels(c->cout) * SS_PANEL * (size_t)c->kh * (size_t)c->kw * (size_t)c->cin;
}

size_t ss_conv_packed(const ss_conv *c)
{
    return c->algo   ? ss_winograd_packed(c) * sizeof(float)
           : c->half ? ss_conv_dw_size(c) * sizeof(uint16_t)
                     : ss_conv_dw_size(c) * sizeof(float);
}

size_t ss_conv_packed_back(const ss_conv *c)
{
    if (c->algo)
        return ss_winograd_packed(c);
    return (size_t)ss_panels(c->cin) * SS_PANEL * (size_t)c->kh * (size_t)c->kw * (size_t)c->cout;
}

static size_t panel_lanes(int channels, int panel)
{
    int left = channels - panel * SS_PANEL;
    return left < SS_PANEL ? (size_t)left : SS_PANEL;
}

/* Sixteen input channels at a time. */
static void pack_half(const ss_conv *c, const float *weights, uint16_t *packed)
{
    const ss_kernel_table *t = ss_kernels();
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, row = cin * taps;
    float square[SQUARE_TAPS * SS_PANEL * SS_PANEL];
    for (int p = 0; p < ss_panels(c->cout); p++)
        for (size_t k = 0; k < cin; k += SS_PANEL) {
            size_t some = cin - k < SS_PANEL ? cin - k : SS_PANEL;
            t->pack_rows(weights + (size_t)p * SS_PANEL * row + k * taps, row, panel_lanes(c->cout, p), taps,
                         some, square, SS_PANEL * SS_PANEL);
            for (size_t tap = 0; tap < taps; tap++)
                t->f16_from_f32(some * SS_PANEL, square + tap * SS_PANEL * SS_PANEL,
                                packed + (size_t)p * SS_PANEL * row + (tap * cin + k) * SS_PANEL);
        }
}

bool ss_conv_may_half(const ss_conv *c)
{
    return !c->algo && c->kh * c->kw <= SQUARE_TAPS;
}

void ss_conv_pack(const ss_conv *c, const float *weights, void *to)
{
    float *packed = to;
    if (c->algo) {
        ss_winograd_pack(c, false, weights, packed);
        return;
    }
    if (c->half) {
        pack_half(c, weights, to);
        return;
    }
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, row = cin * taps;
    for (int p = 0; p < ss_panels(c->cout); p++)
        ss_kernels()->pack_rows(weights + (size_t)p * SS_PANEL * row, row, panel_lanes(c->cout, p), taps, cin,
                                packed + (size_t)p * SS_PANEL * row, cin * SS_PANEL);
}

/* Sixteen outputs by sixteen inputs at a time: packed as for the forward, then each tap's square turned. */
static void pack_back_squares(const ss_conv *c, const float *weights, float *packed)
{
    const ss_kernel_table *t = ss_kernels();
    size_t taps = (size_t)c->kh * (size_t)c->kw, row = (size_t)c->cin * taps;
    float square[SQUARE_TAPS * SS_PANEL * SS_PANEL];
    for (int p = 0; p < ss_panels(c->cin); p++)
        for (int q = 0; q < ss_panels(c->cout); q++) {
            size_t inputs = panel_lanes(c->cin, p), outputs = panel_lanes(c->cout, q);
            if (inputs < SS_PANEL)
                memset(square, 0, sizeof square);
            t->pack_rows(weights + (size_t)q * SS_PANEL * row + (size_t)p * SS_PANEL * taps, row, outputs,
                         taps, inputs, square, SS_PANEL * SS_PANEL);
            for (int r = 0; r < c->kh; r++)
                for (int s = 0; s < c->kw; s++) {
                    float *to =
                        packed + ss_packed_back_at(c, p * SS_PANEL, r, s) + (size_t)q * SS_PANEL * SS_PANEL;
                    const float *from = square + (r * c->kw + s) * SS_PANEL * SS_PANEL;
                    t->turn(from, outputs, to);
                }
        }
}

void ss_conv_pack_back(const ss_conv *c, const float *weights, float *packed)
{
    if (c->algo) {
        ss_winograd_pack(c, true, weights, packed);
        return;
    }
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, cout = (size_t)c->cout;
    if (taps <= SQUARE_TAPS) {
        pack_back_squares(c, weights, packed);
        return;
    }
    for (int p = 0; p < ss_panels(c->cin); p++)
        for (int r = 0; r < c->kh; r++)
            for (int s = 0; s < c->kw; s++) {
                float *to = packed + ss_packed_back_at(c, p * SS_PANEL, r, s);
                const float *from =
                    weights + (size_t)p * SS_PANEL * taps + (size_t)r * (size_t)c->kw + (size_t)s;
                for (size_t o = 0; o < cout; o++, to += SS_PANEL, from += cin * taps)
                    for (size_t ci = 0; ci < SS_PANEL; ci++)
                        to[ci] = (size_t)p * SS_PANEL + ci < cin ? from[ci * taps] : 0.0f;
            }
}

void ss_conv_unpack_add(const ss_conv *c, const float *packed, float *weights)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin, row = cin * taps;
    for (int p = 0; p < ss_panels(c->cout); p++)
        ss_kernels()->unpack_rows_add(packed + (size_t)p * SS_PANEL * row, cin * SS_PANEL,
                                      panel_lanes(c->cout, p), taps, cin,
                                      weights + (size_t)p * SS_PANEL * row, row);
}

/*
 * Both the forward and dx gather: an output pixel's chain runs over stretches of the input (rows of the
 * kernel, each kw * cin numbers side by side). An axis says for each place along rows or columns where its
 * taps lie.
 */
typedef struct axis {
    int out, in; /* places on the written side and on the read side */
    int taps, stride, pad;
    bool back;
} axis;

typedef struct reach {
    int in, tap, count; /* first place read, its index among the packed taps, how many */
} reach;

static reach reach_of(const axis *a, int i)
{
    if (!a->back)
        return (reach){i * a->stride - a->pad, 0, a->taps};
    int phase = (i + a->pad) % a->stride;
    if (phase >= a->taps)
        return (reach){0, 0, 0};
    int last = phase + (a->taps - 1 - phase) / a->stride * a->stride;
    return (reach){(i + a->pad - last) / a->stride, ss_conv_back_rank(last, a->taps, a->stride),
                   last / a->stride + 1};
}

static reach clip(reach r, int in)
{
    int low = r.in < 0 ? -r.in : 0, high = r.in + r.count > in ? in - r.in : r.count;
    return high > low ? (reach){r.in + low, r.tap + low, high - low} : (reach){0, 0, 0};
}

/* Places of one axis grouped by their taps. */
typedef struct axis_classes {
    int count;
    int begin[CLASSES + 1]; /* into in and out */
    int tap[CLASSES], taps[CLASSES];
    ptrdiff_t *in, *out; /* [places] sorted by class: floats from the axis's origin */
} axis_classes;

/* What one call of conv_gather does; rows first, columns second. */
typedef struct gather {
    const ss_kernel_table *table;
    axis axis[2];
    int cin, channels; /* of a pixel read, of a pixel written */
    int n;
    const float *x, *bias, *add, *gate;
    const void *w;
    bool relu, half;
    float *y;
    size_t panel_stride;
    bool padded, by_taps;
    int chunk, row_parts, panel_parts; /* how the tasks are cut */
    axis_classes rows, columns;        /* unless padded */
    float *scratch;
    size_t scratch_each;
} gather;

static void classify(const axis *a, axis_classes *k, ptrdiff_t in_step, ptrdiff_t out_step, uint8_t *mark)
{
    k->count = 0;
    int size[CLASSES];
    for (int i = 0; i < a->out; i++) {
        reach r = clip(reach_of(a, i), a->in);
        int c = 0;
        while (c < k->count && (k->tap[c] != r.tap || k->taps[c] != r.count))
            c++;
        if (c == k->count) {
            assert(c < CLASSES);
            k->tap[c] = r.tap;
            k->taps[c] = r.count;
            size[c] = 0;
            k->count++;
        }
        size[c]++;
        mark[i] = (uint8_t)c;
    }
    int at[CLASSES];
    k->begin[0] = 0;
    for (int c = 0; c < k->count; c++) {
        at[c] = k->begin[c];
        k->begin[c + 1] = k->begin[c] + size[c];
    }
    for (int i = 0; i < a->out; i++) {
        int slot = at[mark[i]]++;
        k->in[slot] = clip(reach_of(a, i), a->in).in * in_step;
        k->out[slot] = i * out_step;
    }
}

/* Lists of pixels, handed on whenever they are full. */
typedef struct pixel_list {
    ptrdiff_t in[PIXELS], out[PIXELS];
} pixel_list;

static void run_tile(const gather *g, ss_conv_tile *t)
{
    if (t->pixels)
        g->table->conv(t);
    t->pixels = 0;
}

/* The panels of a task as a view of the whole. */
static void take_panels(const gather *g, int part, ss_conv_tile *t)
{
    int panels = ss_panels(g->channels), first = panels * part / g->panel_parts,
        end = panels * (part + 1) / g->panel_parts;
    int c = first * SS_PANEL;
    size_t skipped = (size_t)first * g->panel_stride;
    t->w = g->half ? (const void *)((const uint16_t *)g->w + skipped)
                   : (const void *)((const float *)g->w + skipped);
    t->half = g->half;
    t->panel_stride = g->panel_stride;
    t->from = NULL;
    t->channels = (end * SS_PANEL < g->channels ? end * SS_PANEL : g->channels) - c;
    t->bias = g->bias ? g->bias + c : NULL;
    t->add = g->add ? g->add + c : NULL;
    t->gate = g->gate ? g->gate + c : NULL;
    t->y = g->y + c;
    t->relu = g->relu;
}

static int set_segments(const gather *g, ss_segment *s, int row_tap, int row_taps, int column_tap,
                        int column_taps, ptrdiff_t row_step)
{
    if (!column_taps)
        return 0;
    for (int r = 0; r < row_taps; r++)
        s[r] = (ss_segment){r * row_step,
                            ((ptrdiff_t)(row_tap + r) * g->axis[1].taps + column_tap) * g->cin * SS_PANEL,
                            column_taps * g->cin};
    return row_taps;
}

/* Windows i0..i1-1, pixels sorted by which taps they have: no work on the padding. */
static void gather_direct(const gather *g, ss_conv_tile *t, pixel_list *list, int i0, int i1)
{
    ptrdiff_t in_size = (ptrdiff_t)g->axis[0].in * g->axis[1].in * g->cin;
    ptrdiff_t out_size = (ptrdiff_t)g->axis[0].out * g->axis[1].out * g->channels;
    ss_segment segment[MOST_TAPS];
    t->segment = segment;
    t->x = g->x;
    t->in = list->in;
    t->out = list->out;
    t->pixels = 0;
    const axis_classes *rows = &g->rows, *columns = &g->columns;
    for (int a = 0; a < rows->count; a++)
        for (int b = 0; b < columns->count; b++) {
            t->segments = set_segments(g, segment, rows->tap[a], rows->taps[a], columns->tap[b],
                                       columns->taps[b], (ptrdiff_t)g->axis[1].in * g->cin);
            for (int i = i0; i < i1; i++)
                for (int r = rows->begin[a]; r < rows->begin[a + 1]; r++) {
                    ptrdiff_t in = i * in_size + rows->in[r], out = i * out_size + rows->out[r];
                    for (int c = columns->begin[b]; c < columns->begin[b + 1];) {
                        int end = columns->begin[b + 1] - c > PIXELS - t->pixels ? c + PIXELS - t->pixels
                                                                                 : columns->begin[b + 1];
                        for (; c < end; c++, t->pixels++) {
                            list->in[t->pixels] = in + columns->in[c];
                            list->out[t->pixels] = out + columns->out[c];
                        }
                        if (t->pixels == PIXELS)
                            run_tile(g, t);
                    }
                }
            run_tile(g, t);
        }
}

typedef struct span {
    int low, high;
} span;

/* The places read by places i0..i1-1, padding included. */
static span reach_span(const axis *a, int i0, int i1)
{
    span s = {INT_MAX, INT_MIN};
    for (int i = i0; i < i1; i++) {
        reach r = reach_of(a, i);
        if (r.count && r.in < s.low)
            s.low = r.in;
        if (r.count && r.in + r.count > s.high)
            s.high = r.in + r.count;
    }
    return s.high > s.low ? s : (span){0, 0};
}

static void copy_padded(const float *x, int h, int w, int c, span rows, span columns, float *to)
{
    size_t width = (size_t)(columns.high - columns.low) * (size_t)c;
    int s0 = columns.low < 0 ? 0 : columns.low, s1 = columns.high > w ? w : columns.high;
    for (int r = rows.low; r < rows.high; r++, to += width) {
        if (r < 0 || r >= h || s1 <= s0) {
            memset(to, 0, width * sizeof *to);
            continue;
        }
        size_t before = (size_t)(s0 - columns.low) * (size_t)c, inside = (size_t)(s1 - s0) * (size_t)c;
        memset(to, 0, before * sizeof *to);
        memcpy(to + before, x + ((size_t)r * (size_t)w + (size_t)s0) * (size_t)c, inside * sizeof *to);
        memset(to + before + inside, 0, (width - before - inside) * sizeof *to);
    }
}

/* Rows r0..r1-1 of window i, over a copy with the padding in it: few classes, for few windows. */
static void gather_padded(const gather *g, ss_conv_tile *t, pixel_list *list, float *copy, int i, int r0,
                          int r1)
{
    const axis *rows = &g->axis[0], *columns = &g->axis[1];
    ss_segment segment[MOST_TAPS];
    t->segment = segment;
    t->in = list->in;
    t->out = list->out;
    t->pixels = 0;
    span high = reach_span(rows, r0, r1), wide = reach_span(columns, 0, columns->out);
    ptrdiff_t row_step = (ptrdiff_t)(wide.high - wide.low) * g->cin;
    copy_padded(g->x + (size_t)i * (size_t)rows->in * (size_t)columns->in * (size_t)g->cin, rows->in,
                columns->in, g->cin, high, wide, copy);
    t->x = copy;
    /* Classes are the phases alone: along one of them the place read moves by a fixed step. */
    int phases = rows->back ? rows->stride : 1, step = rows->back ? 1 : rows->stride;
    for (int a = 0; a < phases && r0 + a < r1; a++)
        for (int b = 0; b < phases && b < columns->out; b++) {
            reach row = reach_of(rows, r0 + a), column = reach_of(columns, b);
            bool any = row.count && column.count;
            t->segments = set_segments(g, segment, row.tap, row.count, column.tap, column.count, row_step);
            for (int r = r0 + a; r < r1; r += phases, row.in += step) {
                ptrdiff_t in =
                    any ? (row.in - high.low) * row_step + (ptrdiff_t)(column.in - wide.low) * g->cin : 0;
                ptrdiff_t out = (((ptrdiff_t)i * rows->out + r) * columns->out + b) * g->channels;
                for (int c = b; c < columns->out; c += phases) {
                    list->in[t->pixels] = in;
                    list->out[t->pixels] = out;
                    in += any ? step * g->cin : 0;
                    out += phases * g->channels;
                    if (++t->pixels == PIXELS)
                        run_tile(g, t);
                }
            }
            run_tile(g, t);
        }
}

/* The places of one axis, within low..high-1, that a tap of the packed weights meets, and what they read
 * there. */
static int tap_places(const axis *a, int tap, int low, int high, int *out, int *in)
{
    int count = 0;
    for (int i = low; i < high; i++) {
        reach r = clip(reach_of(a, i), a->in);
        if (tap < r.tap || tap >= r.tap + r.count)
            continue;
        out[count] = i;
        in[count++] = r.in + tap - r.tap;
    }
    return count;
}

/* What gather_taps lists for one tap. */
typedef struct tap_list {
    ptrdiff_t in[TAP_PIXELS], chain[TAP_PIXELS];
    int count;
} tap_list;

typedef struct tap_scratch {
    float chain[TAP_PIXELS * TAP_PANELS * SS_PANEL];
    tap_list tap[TAP_TAPS];
} tap_scratch;

/*
 * Rows r0..r1-1 of windows i0..i1-1 of small images: each tap goes over the pixels that it meets, and their
 * chains wait in the first-level cache until the next one. Weights are read once, nothing is multiplied by
 * the padding, which in images of some pixels would be half of the work.
 */
static void gather_taps(const gather *g, ss_conv_tile *all, pixel_list *list, tap_scratch *s, int i0, int i1,
                        int r0, int r1)
{
    const axis *rows = &g->axis[0], *columns = &g->axis[1];
    ptrdiff_t in_size = (ptrdiff_t)rows->in * columns->in * g->cin, in_row = (ptrdiff_t)columns->in * g->cin;
    int width = columns->out, each = (r1 - r0) * width, pixels = (i1 - i0) * each;
    int taps = rows->taps * columns->taps;
    const ptrdiff_t chain_step = TAP_PANELS * SS_PANEL;
    for (int k = 0; k < taps; k++) {
        int row[2][TAP_PIXELS], column[2][TAP_PIXELS];
        int high = tap_places(rows, k / columns->taps, r0, r1, row[0], row[1]),
            wide = tap_places(columns, k % columns->taps, 0, width, column[0], column[1]), n = 0;
        for (int i = i0; i < i1; i++)
            for (int r = 0; r < high; r++)
                for (int c = 0; c < wide; c++, n++) {
                    s->tap[k].in[n] = i * in_size + row[1][r] * in_row + (ptrdiff_t)column[1][c] * g->cin;
                    s->tap[k].chain[n] =
                        ((i - i0) * each + (row[0][r] - r0) * width + column[0][c]) * chain_step;
                }
        s->tap[k].count = n;
    }
    for (int p = 0; p < pixels; p++) {
        list->in[p] = p * chain_step;
        list->out[p] = (((ptrdiff_t)(i0 + p / each) * rows->out + r0) * width + p % each) * g->channels;
    }
    const int panels = ss_panels(all->channels);
    for (int p = 0; p < panels; p += TAP_PANELS) {
        int c = p * SS_PANEL, some = panels - p < TAP_PANELS ? panels - p : TAP_PANELS;
        ss_segment segment = {.len = g->cin};
        ss_conv_tile t = {.x = g->x,
                          .from = s->chain,
                          .segment = &segment,
                          .segments = 1,
                          .w = all->w,
                          .panel_stride = all->panel_stride,
                          .half = all->half,
                          .channels = some * SS_PANEL,
                          .y = s->chain};
        memset(s->chain, 0, (size_t)pixels * (size_t)chain_step * sizeof(float));
        for (int k = 0; k < taps; k++) {
            segment.w = (ptrdiff_t)((size_t)p * g->panel_stride) + (ptrdiff_t)k * g->cin * SS_PANEL;
            t.in = s->tap[k].in;
            t.from_at = t.out = s->tap[k].chain;
            t.pixels = s->tap[k].count;
            g->table->conv(&t);
        }
        t.from_at = t.in = list->in;
        t.out = list->out;
        t.pixels = pixels;
        t.segments = 0;
        t.channels = all->channels - c < t.channels ? all->channels - c : t.channels;
        t.bias = all->bias ? all->bias + c : NULL;
        t.add = all->add ? all->add + c : NULL;
        t.gate = all->gate ? all->gate + c : NULL;
        t.relu = all->relu;
        t.y = all->y + c;
        g->table->conv(&t);
    }
}

static void gather_task(void *arg, int task, int thread)
{
    const gather *g = arg;
    pixel_list list;
    ss_conv_tile t;
    take_panels(g, task % g->panel_parts, &t);
    task /= g->panel_parts;
    if (g->by_taps) {
        int part = task % g->row_parts, rows = g->axis[0].out, i0 = task / g->row_parts * g->chunk;
        gather_taps(g, &t, &list, (tap_scratch *)(void *)(g->scratch + (size_t)thread * g->scratch_each), i0,
                    g->n - i0 < g->chunk ? g->n : i0 + g->chunk, rows * part / g->row_parts,
                    rows * (part + 1) / g->row_parts);
        return;
    }
    if (g->padded) {
        int i = task / g->row_parts, part = task % g->row_parts, rows = g->axis[0].out;
        gather_padded(g, &t, &list, g->scratch + (size_t)thread * g->scratch_each, i,
                      rows * part / g->row_parts, rows * (part + 1) / g->row_parts);
    } else {
        int i0 = task * g->chunk;
        gather_direct(g, &t, &list, i0, g->n - i0 < g->chunk ? g->n : i0 + g->chunk);
    }
}

static size_t floats_of(size_t bytes)
{
    size_t line = SS_ALIGN / sizeof(float);
    return (bytes / sizeof(float) + line) / line * line;
}

/* A window's copy with its padding. */
static size_t padded_size(const axis a[2], int cin)
{
    span high = reach_span(&a[0], 0, a[0].out), wide = reach_span(&a[1], 0, a[1].out);
    return floats_of((size_t)(high.high - high.low) * (size_t)(wide.high - wide.low) * (size_t)cin *
                     sizeof(float));
}

static size_t classes_size(const axis a[2])
{
    size_t places = (size_t)a[0].out + (size_t)a[1].out;
    return floats_of(places * (2 * sizeof(ptrdiff_t) + 1));
}

static size_t gather_work(const axis a[2], int cin, int threads)
{
    size_t padded = padded_size(a, cin), taps = floats_of(sizeof(tap_scratch)), classes = classes_size(a);
    size_t most = (padded > taps ? padded : taps) * (size_t)threads;
    return most > classes ? most : classes;
}

static bool has_padding(const axis *a)
{
    for (int i = 0; i < a->out; i++) {
        reach r = reach_of(a, i);
        if (r.count && (r.in < 0 || r.in + r.count > a->in))
            return true;
    }
    return false;
}

static void run_gather(gather *g, ss_pool *pool, float *work)
{
    int threads = ss_pool_threads(pool), panels = ss_panels(g->channels);
    const axis *a = g->axis;
    g->table = ss_kernels();
    g->padded = g->n < PADDED_BELOW && (has_padding(&a[0]) || has_padding(&a[1]));
    bool few = g->n < threads * WINDOWS_EACH;
    g->panel_parts = few && panels >= 2 * threads ? threads : 1;
    int tasks, pixels = a[0].out * a[1].out;
    g->by_taps =
        g->padded && g->cin >= TAP_CHANNELS && pixels <= TAP_PIXELS && a[0].taps * a[1].taps <= TAP_TAPS;
    if (g->by_taps) {
        g->chunk = TAP_PIXELS / pixels;
        tasks = (g->n + g->chunk - 1) / g->chunk;
        g->row_parts = tasks < threads && g->panel_parts == 1 ? (threads < a[0].out ? threads : a[0].out) : 1;
        tasks *= g->row_parts;
        g->scratch = work;
        g->scratch_each = floats_of(sizeof(tap_scratch));
    } else if (g->padded) {
        g->row_parts = g->n < threads && g->panel_parts == 1 ? (threads < a[0].out ? threads : a[0].out) : 1;
        tasks = g->n * g->row_parts;
        g->scratch = work;
        g->scratch_each = padded_size(a, g->cin);
    } else {
        size_t places = (size_t)a[0].out + (size_t)a[1].out;
        g->rows.in = (ptrdiff_t *)(void *)work;
        g->rows.out = g->rows.in + a[0].out;
        g->columns.in = g->rows.out + a[0].out;
        g->columns.out = g->columns.in + a[1].out;
        uint8_t *mark = (uint8_t *)(g->rows.in + 2 * places);
        classify(&a[0], &g->rows, (ptrdiff_t)a[1].in * g->cin, (ptrdiff_t)a[1].out * g->channels, mark);
        classify(&a[1], &g->columns, g->cin, g->channels, mark);
        /* As many windows together as the cache holds, but something for every thread. */
        size_t bytes = ((size_t)a[0].in * (size_t)a[1].in * (size_t)g->cin +
                        (size_t)a[0].out * (size_t)a[1].out * (size_t)g->channels) *
                       sizeof(float);
        size_t fit = CACHE / bytes;
        int share = g->panel_parts > 1 ? g->n : (g->n + threads - 1) / threads;
        g->chunk = fit < 8 ? 8 : fit > (size_t)share ? share : (int)fit;
        if (g->chunk > share)
            g->chunk = share;
        tasks = (g->n + g->chunk - 1) / g->chunk;
    }
    ss_pool_run(pool, tasks * g->panel_parts, gather_task, g);
}

static void forward_axes(const ss_conv *c, axis a[2])
{
    a[0] = (axis){c->oh, c->h, c->kh, c->stride, c->pad, false};
    a[1] = (axis){c->ow, c->w, c->kw, c->stride, c->pad, false};
}

static void back_axes(const ss_conv *c, axis a[2])
{
    a[0] = (axis){c->h, c->oh, c->kh, c->stride, c->pad, true};
    a[1] = (axis){c->w, c->ow, c->kw, c->stride, c->pad, true};
}

void ss_conv_forward(const ss_conv *c, ss_pool *pool, int n, const float *x, const void *packed,
                     const float *bias, const float *add, bool relu, float *y, float *work)
{
    if (n <= 0)
        return;
    if (c->algo) {
        ss_winograd_args a = {.x = x, .packed = packed, .bias = bias, .add = add, .relu = relu, .y = y};
        ss_winograd_run(c, false, pool, n, &a, work);
        return;
    }
    if (!ss_kernels()->conv) {
        ss_scalar_conv_forward(c, n, x, packed, bias, add, relu, y);
        return;
    }
    gather g = {.cin = c->cin,
                .channels = c->cout,
                .n = n,
                .x = x,
                .w = packed,
                .half = c->half,
                .bias = bias,
                .add = add,
                .relu = relu,
                .y = y};
    forward_axes(c, g.axis);
    g.panel_stride = (size_t)c->kh * (size_t)c->kw * (size_t)c->cin * SS_PANEL;
    run_gather(&g, pool, work);
}

void ss_conv_dx(const ss_conv *c, ss_pool *pool, int n, const float *dy, const float *packed_back,
                const float *add, const float *gate, float *dx, float *work)
{
    if (n <= 0)
        return;
    if (c->algo) {
        ss_winograd_args a = {.x = dy, .packed = packed_back, .add = add, .gate = gate, .y = dx};
        ss_winograd_run(c, true, pool, n, &a, work);
        return;
    }
    if (!ss_kernels()->conv) {
        ss_scalar_conv_dx(c, n, dy, packed_back, add, gate, dx);
        return;
    }
    gather g = {.cin = c->cout,
                .channels = c->cin,
                .n = n,
                .x = dy,
                .w = packed_back,
                .add = add,
                .gate = gate,
                .y = dx};
    back_axes(c, g.axis);
    g.panel_stride = (size_t)c->kh * (size_t)c->kw * (size_t)c->cout * SS_PANEL;
    run_gather(&g, pool, work);
}

/* ---- gradient at the weights ---- */

typedef struct dw_job {
    const ss_kernel_table *table;
    const ss_conv *c;
    int n, parts;
    const float *x, *dy;
    float *dw, *db;
    float *scratch; /* copies with padding, a group of windows for each part; or unused */
    size_t scratch_each;
} dw_job;

/* So few channels that rows of one tap do not fill a tile: take rows of all taps, over a copy with the
 * padding. */
static bool rows_apart(const ss_conv *c)
{
    return c->cin < 8 && c->kh * c->kw > 1;
}

static span tap_span(int tap, int stride, int pad, int in, int out)
{
    int low = tap < pad ? (pad - tap + stride - 1) / stride : 0;
    int last = in - 1 + pad - tap, high = last < 0 ? 0 : last / stride + 1;
    return (span){low, high < out ? high : out};
}

/* Order and steps of the loops over output pixels rows x columns of windows i. */
static void dw_loops(const ss_conv *c, int windows, span rows, span columns, ptrdiff_t x_window,
                     ptrdiff_t x_row, ptrdiff_t x_pixel, ss_dw_tile *t)
{
    const ptrdiff_t y_pixel = c->cout, y_row = y_pixel * c->ow, y_window = y_row * c->oh;
    const int high = rows.high - rows.low, wide = columns.high - columns.low;
    const int count[3] = {windows, high, wide};
    const ptrdiff_t xs[3] = {x_window, x_row, x_pixel}, ys[3] = {y_window, y_row, y_pixel};
    const int order[2][3] = {{1, 2, 0}, {0, 1, 2}}, *o = order[c->ow >= SS_DW_ROW];
    for (int k = 0; k < 3; k++) {
        t->count[k] = count[o[k]] > 0 ? count[o[k]] : 0;
        t->x_step[k] = xs[o[k]];
        t->y_step[k] = ys[o[k]];
    }
}

/* Part p of the tiles: the same tap, some panels, of all windows group by group. */
static void dw_taps(const dw_job *j, int part)
{
    const ss_conv *c = j->c;
    const ptrdiff_t x_pixel = c->cin, x_row = x_pixel * c->w, x_window = x_row * c->h;
    const size_t panel_stride = (size_t)c->kh * (size_t)c->kw * (size_t)c->cin * SS_PANEL;
    const int group = ss_dw_group(c), panels = ss_panels(c->cout), pairs = (panels + 1) / 2,
              taps = c->kh * c->kw;
    const int first = pairs * taps * part / j->parts, end = pairs * taps * (part + 1) / j->parts;
    for (int i = 0; i < j->n; i += group) {
        int windows = j->n - i < group ? j->n - i : group;
        for (int q = first; q < end; q++) {
            int panel = q / taps * 2, tap = q % taps, r = tap / c->kw, s = tap % c->kw;
            span rows = tap_span(r, c->stride, c->pad, c->h, c->oh),
                 columns = tap_span(s, c->stride, c->pad, c->w, c->ow);
            if (rows.high <= rows.low || columns.high <= columns.low)
                continue;
            ss_dw_tile t = {.rows = c->cin, .panel_stride = panel_stride};
            dw_loops(c, windows, rows, columns, x_window, x_row * c->stride, x_pixel * c->stride, &t);
            t.x = j->x + i * x_window + (rows.low * c->stride - c->pad + r) * x_row +
                  (columns.low * c->stride - c->pad + s) * x_pixel;
            t.dy = j->dy + (((ptrdiff_t)i * c->oh + rows.low) * c->ow + columns.low) * c->cout +
                   panel * SS_PANEL;
            t.dw = j->dw + (size_t)panel * panel_stride + (size_t)tap * (size_t)c->cin * SS_PANEL;
            t.channels =
                c->cout - panel * SS_PANEL < 2 * SS_PANEL ? c->cout - panel * SS_PANEL : 2 * SS_PANEL;
            j->table->dw(&t);
        }
    }
}

static void dw_apart(const dw_job *j, int part)
{
    const ss_conv *c = j->c;
    axis a[2];
    forward_axes(c, a);
    span high = reach_span(&a[0], 0, a[0].out), wide = reach_span(&a[1], 0, a[1].out);
    const ptrdiff_t x_pixel = c->cin, x_row = x_pixel * (wide.high - wide.low);
    const size_t y_window = (size_t)c->oh * (size_t)c->ow * (size_t)c->cout;
    const size_t size = padded_size(a, c->cin), window = (size_t)c->h * (size_t)c->w * (size_t)c->cin;
    const int group = ss_dw_group(c), rows = c->kh * c->kw * c->cin;
    /* Parts in whole runs of kernel rows. */
    const int first = c->kh * part / j->parts * c->kw * c->cin,
              end = c->kh * (part + 1) / j->parts * c->kw * c->cin;
    float *copy = j->scratch + (size_t)part * j->scratch_each;
    ptrdiff_t *row = (ptrdiff_t *)(void *)copy;
    copy += floats_of((size_t)rows * sizeof *row);
    for (int k = 0; k < rows; k++)
        row[k] = k / (c->kw * c->cin) * x_row + k % (c->kw * c->cin);
    for (int i = 0; i < j->n; i += group) {
        int windows = j->n - i < group ? j->n - i : group;
        for (int k = 0; k < windows; k++)
            copy_padded(j->x + (size_t)(i + k) * window, c->h, c->w, c->cin, high, wide,
                        copy + (size_t)k * size);
        ss_dw_tile t = {.x = copy, .row = row + first, .rows = end - first, .channels = c->cout};
        t.panel_stride = (size_t)rows * SS_PANEL;
        dw_loops(c, windows, (span){0, c->oh}, (span){0, c->ow}, (ptrdiff_t)size, x_row * c->stride,
                 x_pixel * c->stride, &t);
        t.dy = j->dy + (size_t)i * y_window;
        t.dw = j->dw + (size_t)first * SS_PANEL;
        j->table->dw(&t);
    }
}

static void dw_task(void *arg, int part, int thread)
{
    const dw_job *j = arg;
    if (part == j->parts)
        ss_channel_sum_add((size_t)j->n * (size_t)j->c->oh * (size_t)j->c->ow, j->c->cout, j->dy, j->db);
    else if (j->scratch)
        dw_apart(j, part);
    else
        dw_taps(j, part);
}

static size_t dw_scratch(const ss_conv *c)
{
    axis a[2];
    forward_axes(c, a);
    return padded_size(a, c->cin) * (size_t)ss_dw_group(c) +
           floats_of((size_t)c->kh * (size_t)c->kw * (size_t)c->cin * sizeof(ptrdiff_t));
}

static int dw_parts(const ss_conv *c, int threads)
{
    int most = rows_apart(c) ? c->kh : c->kh * c->kw * ((ss_panels(c->cout) + 1) / 2);
    return threads == 1 ? 1 : most < 2 * threads ? most : 2 * threads;
}

void ss_conv_dw(const ss_conv *c, ss_pool *pool, int n, const float *x, const float *dy, float *dw, float *db,
                float *work)
{
    if (n <= 0)
        return;
    if (!ss_kernels()->dw) {
        ss_scalar_conv_dw(c, n, x, dy, dw);
        if (db)
            ss_channel_sum_add((size_t)n * (size_t)c->oh * (size_t)c->ow, c->cout, dy, db);
        return;
    }
    dw_job j = {.table = ss_kernels(), .c = c, .n = n, .x = x, .dy = dy, .dw = dw, .db = db};
    j.parts = dw_parts(c, ss_pool_threads(pool));
    if (rows_apart(c)) {
        j.scratch = work;
        j.scratch_each = dw_scratch(c);
    }
    ss_pool_run(pool, j.parts + (db != NULL), dw_task, &j);
}

/* Any number of windows: the copies with padding are made one window or group at a time. */
size_t ss_conv_work(const ss_conv *c, int n, const ss_pool *pool)
{
    int threads = ss_pool_threads(pool);
    axis a[2];
    forward_axes(c, a);
    size_t most = gather_work(a, c->cin, threads);
    back_axes(c, a);
    size_t back = gather_work(a, c->cout, threads);
    most = back > most ? back : most;
    size_t dw = rows_apart(c) ? dw_scratch(c) * (size_t)dw_parts(c, threads) : 0;
    most = dw > most ? dw : most;
    size_t winograd = c->algo ? ss_winograd_work(c, threads) : 0;
    return winograd > most ? winograd : most;
}

/* ---- matrix product ---- */

typedef struct gemm_job {
    const ss_kernel_table *table;
    int m, n, k, lda, ldo, parts;
    const float *a, *b;
    bool accumulate;
    float *out;
} gemm_job;

static void gemm_task(void *arg, int part, int thread)
{
    const gemm_job *j = arg;
    ptrdiff_t in[PIXELS], out[PIXELS];
    ss_segment segment = {0, 0, j->k};
    int end = (int)((int64_t)j->m * (part + 1) / j->parts);
    for (int i = (int)((int64_t)j->m * part / j->parts); i < end;) {
        ss_conv_tile t = {.x = j->a,
                          .in = in,
                          .out = out,
                          .segment = &segment,
                          .segments = 1,
                          .w = j->b,
                          .panel_stride = (size_t)j->k * SS_PANEL,
                          .channels = j->n,
                          .add = j->accumulate ? j->out : NULL,
                          .y = j->out};
        for (; i < end && t.pixels < PIXELS; i++, t.pixels++) {
            in[t.pixels] = (ptrdiff_t)i * j->lda;
            out[t.pixels] = (ptrdiff_t)i * j->ldo;
        }
        j->table->conv(&t);
    }
}

size_t ss_gemm_work(bool ta, bool tb, int m, int n, int k)
{
    size_t b = (size_t)ss_panels(n) * SS_PANEL * (size_t)k;
    return b + (ta ? (size_t)m * (size_t)k : 0);
}

void ss_gemm(ss_pool *pool, bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b,
             int ldb, bool accumulate, float *out, int ldo, float *work)
{
    if (m <= 0 || n <= 0)
        return;
    if (!ss_kernels()->conv) {
        ss_scalar_gemm(ta, tb, m, n, k, a, lda, b, ldb, accumulate, out, ldo);
        return;
    }
    float *packed = work;
    for (int p = 0; p < ss_panels(n); p++)
        for (int q = 0; q < k; q++)
            for (int o = 0; o < SS_PANEL; o++, work++) {
                int col = p * SS_PANEL + o;
                *work = col >= n ? 0.0f
                        : tb     ? b[(size_t)col * (size_t)ldb + (size_t)q]
                                 : b[(size_t)q * (size_t)ldb + (size_t)col];
            }
    if (ta) {
        for (int i = 0; i < m; i++)
            for (int q = 0; q < k; q++)
                work[(size_t)i * (size_t)k + (size_t)q] = a[(size_t)q * (size_t)lda + (size_t)i];
        a = work;
        lda = k;
    }
    int threads = ss_pool_threads(pool), parts = m / 48 < threads ? m / 48 + 1 : threads;
    gemm_job j = {.table = ss_kernels(),
                  .m = m,
                  .n = n,
                  .k = k,
                  .lda = lda,
                  .ldo = ldo,
                  .parts = parts,
                  .a = a,
                  .b = packed,
                  .accumulate = accumulate,
                  .out = out};
    ss_pool_run(pool, parts, gemm_task, &j);
}
