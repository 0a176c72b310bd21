/*
 * The definition of the arithmetic in eight bits, and how its work is cut up.
 *
 * Design notes, measured on one core of a Zen 5 (AVX-512 VNNI, peak of vpdpbusd 872 GOP/s), layers of windows
 * of 128 x 100 at width 1, batch 1:
 * - Tiles of 12 pixels by 2 panels reach 800 to 860 GOP/s, 92 to 98 % of the peak; the stem, whose chains are
 * 14 steps long, half of it. A network takes 1.22 ms, 1.12 at the peak.
 * - Frames of zeros around every image instead of a copy with padding in front of every layer: an epilogue
 * writes where the next layer reads, and there is one kind of pixel.
 * - A downsample's output is added as f32, not as one more u8: one rounding less. All downsamples together
 * are 2 % of the time.
 * - The bound of what 16 bits hold keeps vpmaddubsw out: 255 * 127 * 2 saturates, and weights of seven bits
 * would be other weights. vpmaddwd on widened bytes gives 125 GOP/s, a little more than the multiply-adds of
 * AVX2 in f32.
 * - Did not pay: prefetch of weights 1 or 4 KiB ahead (no faster); tiles of 6 by 4 for the stem,
 * which writes whole lines then (the same); rounding and clamping in f32 instead of by conversions that
 * saturate (layers of width 1/4 took 3 %, the stem 5 to 20 % longer); max pool tap by tap (198 us against 15
 * for 16 x 64 x 500: vectors over rows are long, those over 16 channels are not); places of a tile's pixels
 * listed where they are even (the stem of width 1/4 took a third longer).
 * - Not tried: Winograd, whose transforms need 16 bits and half the rate, 2.25 / 2 for F(2x2) before any
 * transform.
 */
#include "kernels/vec_scalar.h"
#include "kernels/elements_i8.h"

#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "config.h"

#define PIXELS 480 /* listed at a time: a multiple of the tiles */

const ss_i8_table ss_i8_scalar = {ELEMENTS_I8};

static _Atomic(const ss_i8_table *) in_force;

const ss_i8_table *ss_i8_table_of(ss_cpu level)
{
    switch (level) {
#if SS_HAVE_AVX512VNNI
    case SS_CPU_AVX512VNNI:
        return &ss_i8_avx512vnni;
#endif
#if SS_HAVE_X86
    case SS_CPU_SSE41:
        return &ss_i8_sse41;
    case SS_CPU_AVX2:
    case SS_CPU_AVX512:
        return &ss_i8_avx2;
#endif
#if SS_HAVE_ARM64
    case SS_CPU_NEON:
        return &ss_i8_neon;
#if SS_HAVE_DOTPROD
    case SS_CPU_NEON_DOTPROD:
        return &ss_i8_neon_dotprod;
#endif
#endif
    default:
        return &ss_i8_scalar;
    }
}

void ss_i8_use(ss_cpu level)
{
    atomic_store(&in_force, ss_i8_table_of(level));
}

const ss_i8_table *ss_i8(void)
{
    const ss_i8_table *t = atomic_load_explicit(&in_force, memory_order_relaxed);
    if (!t) {
        t = ss_i8_table_of(ss_cpu_level());
        atomic_store_explicit(&in_force, t, memory_order_relaxed);
    }
    return t;
}

/* ---- images ---- */

size_t ss_image_size(const ss_image *g)
{
    size_t size = ss_image_row(g) * ((size_t)g->h + 2 * (size_t)g->frame);
    return (size + SS_ALIGN - 1) / SS_ALIGN * SS_ALIGN + SS_ALIGN;
}

void ss_image_frame(const ss_image *g, int n, uint8_t value, uint8_t *x)
{
    size_t row = ss_image_row(g), side = (size_t)g->frame * (size_t)g->c, size = ss_image_size(g);
    if (!side)
        return;
    for (int i = 0; i < n; i++) {
        uint8_t *at = x + (size_t)i * size, *end = at + row * ((size_t)g->h + (size_t)g->frame);
        memset(at, value, (size_t)g->frame * row);
        for (at += (size_t)g->frame * row; at < end; at += row) {
            memset(at, value, side);
            memset(at + row - side, value, side);
        }
        memset(end, value, (size_t)g->frame * row);
    }
}

/* Pairs of rows k apart exchange the blocks of k x k bytes off the diagonal. */
static inline void swap_blocks(uint64_t r[8], int k, uint64_t low)
{
    for (int i = 0; i < 8; i++)
        if (!(i & k)) {
            uint64_t d = (r[i] >> (8 * k) ^ r[i + k]) & low;
            r[i] ^= d << (8 * k);
            r[i + k] ^= d;
        }
}

static inline void turn_eight(const uint8_t *x, size_t from_step, uint8_t *y, size_t to_step)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t r[8];
    for (size_t i = 0; i < 8; i++)
        memcpy(&r[i], x + i * from_step, 8);
    swap_blocks(r, 4, 0x00000000ffffffff);
    swap_blocks(r, 2, 0x0000ffff0000ffff);
    swap_blocks(r, 1, 0x00ff00ff00ff00ff);
    for (size_t i = 0; i < 8; i++)
        memcpy(y + i * to_step, &r[i], 8);
#else
    for (size_t i = 0; i < 8; i++)
        for (size_t k = 0; k < 8; k++)
            y[k * to_step + i] = x[i * from_step + k];
#endif
}

/* rows x columns -> columns x rows, rows from_step and to_step apart. */
static void transpose(size_t rows, size_t columns, const uint8_t *x, size_t from_step, uint8_t *y,
                      size_t to_step)
{
    for (size_t r = 0; r < rows; r += 8)
        for (size_t c = 0; c < columns; c += 8) {
            if (r + 8 <= rows && c + 8 <= columns) {
                turn_eight(x + r * from_step + c, from_step, y + c * to_step + r, to_step);
                continue;
            }
            for (size_t i = r; i < rows && i < r + 8; i++)
                for (size_t k = c; k < columns && k < c + 8; k++)
                    y[k * to_step + i] = x[i * from_step + k];
        }
}

void ss_image_from_chw(const ss_image *g, const uint8_t *x, uint8_t *y)
{
    size_t c = (size_t)g->c, w = (size_t)g->w, h = (size_t)g->h;
    y += ss_image_first(g);
    for (size_t r = 0; r < h; r++)
        transpose(c, w, x + r * w, h * w, y + r * ss_image_row(g), c);
}

void ss_chw_from_image(const ss_image *g, const uint8_t *x, uint8_t *y)
{
    size_t c = (size_t)g->c, w = (size_t)g->w, h = (size_t)g->h;
    x += ss_image_first(g);
    for (size_t r = 0; r < h; r++)
        transpose(w, c, x + r * ss_image_row(g), c, y + r * w, h * w);
}

/* ---- convolution ---- */

/* Bytes of one output's weights in one row of the kernel. */
static size_t row_bytes(const ss_conv *c)
{
    return ((size_t)c->kw * (size_t)c->cin + 3) / 4 * 4;
}

static size_t panel_bytes(const ss_conv *c)
{
    return (size_t)c->kh * row_bytes(c) * SS_PANEL;
}

int ss_i8_conv_init(ss_i8_conv *k, const ss_conv *c, int frame_in, int frame_out)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw * (size_t)c->cin;
    if (frame_in < c->pad || frame_out < 0 || taps > INT32_MAX / (255 * 127))
        return SS_EINVAL;
    *k = (ss_i8_conv){
        .conv = *c, .in = {c->h, c->w, c->cin, frame_in}, .out = {c->oh, c->ow, c->cout, frame_out}};
    return 0;
}

size_t ss_i8_conv_packed(const ss_conv *c)
{
    return (size_t)ss_panels(c->cout) * panel_bytes(c);
}

/* Where the weights of one output for byte `at` of a row of the kernel lie. */
static inline size_t packed_at(const ss_conv *c, int o, int r, size_t at)
{
    return (size_t)(o / SS_PANEL) * panel_bytes(c) + (size_t)r * row_bytes(c) * SS_PANEL +
           at / 4 * 4 * SS_PANEL + (size_t)(o % SS_PANEL) * 4 + at % 4;
}

/* Four inputs of one output and all taps: side by side in packed weights, `taps` apart before. */
static void pack_four(const ss_conv *c, const int8_t *from, int8_t *to)
{
    const size_t taps = (size_t)c->kh * (size_t)c->kw, step = (size_t)c->cin * SS_PANEL;
    for (size_t t = 0; t < taps; t++, from++, to += step)
        for (size_t k = 0; k < 4; k++)
            to[k] = from[k * taps];
}

void ss_i8_conv_pack(const ss_conv *c, const int8_t *weights, int8_t *packed, int32_t *shift)
{
    size_t taps = (size_t)c->kh * (size_t)c->kw, cin = (size_t)c->cin;
    if (c->cout % SS_PANEL || cin % 4)
        memset(packed, 0, ss_i8_conv_packed(c));
    for (int o = 0; o < c->cout; o++) {
        const int8_t *from = weights + (size_t)o * cin * taps;
        int32_t sum = 0;
        for (size_t i = 0; i < cin * taps; i++)
            sum += from[i];
        shift[o] = 128 * sum;
    }
    for (int p = 0; p < ss_panels(c->cout); p++)
        for (size_t ci = 0; ci < cin; ci += 4)
            for (int o = p * SS_PANEL; o < c->cout && o < (p + 1) * SS_PANEL; o++) {
                const int8_t *from = weights + ((size_t)o * cin + ci) * taps;
                if (cin % 4 == 0) {
                    pack_four(c, from, packed + packed_at(c, o, 0, ci));
                    continue;
                }
                for (size_t k = 0; k < 4 && ci + k < cin; k++)
                    for (size_t t = 0; t < taps; t++)
                        packed[packed_at(c, o, (int)t / c->kw, t % (size_t)c->kw * cin + ci + k)] =
                            from[k * taps + t];
            }
}

static void scalar_conv(const ss_i8_tile *t)
{
    const uint8_t *x = t->x;
    for (int i = 0; i < t->pixels; i++)
        for (int o = 0; o < t->channels; o++) {
            const int8_t *w = t->w + (size_t)(o / SS_PANEL) * t->panel_stride + (size_t)(o % SS_PANEL) * 4;
            int32_t sum = 0;
            for (int q = 0; q < t->segments; q++, w += (size_t)t->len * SS_PANEL)
                for (int k = 0; k < t->len; k++)
                    sum += x[t->in[i] + q * t->segment + k] * w[k / 4 * 4 * SS_PANEL + k % 4];
            float v = fmaf((float)sum, t->scale[o], t->bias[o]);
            int32_t at = t->out[i] + o;
            if (t->add)
                v = fmaf((float)t->add[at], t->add_scale, v);
            else if (t->add32)
                v += t->add32[at];
            if (t->y)
                VSTORE_WHOLE(&t->y[at], v, 1);
            else
                t->y32[at] = v;
        }
}

/* Late layers have more weights than activations: there each part reads some weights and all windows. */
static bool by_panels(const ss_conv *c, int n)
{
    size_t images =
        (size_t)c->h * (size_t)c->w * (size_t)c->cin + (size_t)c->oh * (size_t)c->ow * (size_t)c->cout;
    return ss_i8_conv_packed(c) > (size_t)n * images;
}

int ss_i8_conv_parts(const ss_i8_conv *k, int n, int threads)
{
    const ss_conv *c = &k->conv;
    int panels = ss_panels(c->cout);
    if (threads == 1)
        return 1;
    if (by_panels(c, n))
        return panels / 4 >= 2 * threads ? panels / 4 : panels / 2 >= threads ? panels / 2 : panels;
    int64_t parts = (int64_t)n * c->oh * c->ow / 24;
    return parts > 8 * threads ? 8 * threads : parts > 1 ? (int)parts : 1;
}

static int wide_rows(const ss_conv *c)
{
    int rows = c->ow < PIXELS ? PIXELS / c->ow : 1;
    return rows < c->oh ? rows : c->oh;
}

size_t ss_i8_conv_work(const ss_i8_conv *k)
{
    size_t rows = (size_t)(wide_rows(&k->conv) - 1) * (size_t)k->conv.stride + (size_t)k->conv.kh;
    return rows * ss_image_row(&k->in) * sizeof(uint16_t) + SS_ALIGN;
}

/* Pixels begin .. end - 1 of all windows, rows of a window by row. */
static void conv_pixels(const ss_i8_job *j, const ss_i8_tile *whole, int64_t begin, int64_t end,
                        uint16_t *wide)
{
    const ss_i8_conv *k = j->k;
    const ss_conv *c = &k->conv;
    const ss_i8_table *table = ss_i8();
    int32_t in[PIXELS], out[PIXELS];
    const size_t row = ss_image_row(&k->in), pad = (size_t)(k->in.frame - c->pad),
                 size_in = ss_image_size(&k->in), size_out = ss_image_size(&k->out),
                 row_out = ss_image_row(&k->out);
    const int step_in = c->stride * c->cin;
    ss_i8_tile t = *whole;
    t.in = in;
    t.out = out;
    while (begin < end) {
        int64_t window = begin / ((int64_t)c->oh * c->ow), rest = begin % ((int64_t)c->oh * c->ow);
        int h = (int)(rest / c->ow), w = (int)(rest % c->ow);
        int64_t most = begin + PIXELS < end ? begin + PIXELS : end;
        /* Places count from the first pixel's. */
        size_t from =
            (size_t)window * size_in + (pad + (size_t)h * (size_t)c->stride) * row + pad * (size_t)c->cin;
        size_t to = (size_t)window * size_out + ss_image_first(&k->out) + (size_t)h * row_out;
        t.x = j->x + from;
        if (table->wide) { /* whole rows of one window, as the room is for */
            int64_t last = (window * c->oh + h + wide_rows(c)) * c->ow, all = (window + 1) * c->oh * c->ow;
            most = most < last ? most : last;
            most = most < all ? most : all;
            int rows = (int)((most - 1) % ((int64_t)c->oh * c->ow) / c->ow) - h;
            size_t count = ((size_t)rows * (size_t)c->stride + (size_t)c->kh - 1) * row +
                           ((size_t)c->ow - 1) * (size_t)step_in + row_bytes(c);
            table->widen(count, j->x + from, wide);
            t.x = wide;
        }
        t.y = whole->y ? whole->y + to : NULL;
        t.y32 = whole->y32 ? whole->y32 + to : NULL;
        t.add = whole->add ? whole->add + to : NULL;
        t.add32 = whole->add32 ? whole->add32 + to : NULL;
        ptrdiff_t in_row = 0, out_row = 0;
        for (t.pixels = 0; begin < most;) {
            int64_t run = c->ow - w < most - begin ? c->ow - w : most - begin;
            for (int i = 0; i < (int)run; i++, t.pixels++, w++) {
                in[t.pixels] = (int32_t)(in_row + w * step_in);
                out[t.pixels] = (int32_t)(out_row + w * c->cout);
            }
            begin += run;
            w = 0;
            in_row += (ptrdiff_t)row * c->stride;
            out_row += (ptrdiff_t)row_out;
            if (++h == c->oh) {
                h = 0;
                in_row += (ptrdiff_t)size_in - (ptrdiff_t)row * c->stride * c->oh;
                out_row += (ptrdiff_t)size_out - (ptrdiff_t)row_out * c->oh;
            }
        }
        if (table->conv)
            table->conv(&t);
        else
            scalar_conv(&t);
    }
}

void ss_i8_conv_part(const ss_i8_job *j, int part, int parts, void *work)
{
    const ss_i8_conv *k = j->k;
    const ss_conv *c = &k->conv;
    const int panels = ss_panels(c->cout);
    ss_i8_tile t = {.segments = c->kh,
                    .segment = (ptrdiff_t)ss_image_row(&k->in),
                    .len = (int)row_bytes(c),
                    .w = k->packed,
                    .panel_stride = panel_bytes(c),
                    .channels = c->cout,
                    .scale = k->scale,
                    .bias = k->bias,
                    .shift = k->shift,
                    .add = j->add,
                    .add_scale = j->add_scale,
                    .add32 = j->add32,
                    .y = j->y,
                    .y32 = j->y ? NULL : j->y32};
    int64_t pixels = (int64_t)j->n * c->oh * c->ow;
    if (!by_panels(c, j->n) || parts > panels) {
        conv_pixels(j, &t, pixels * part / parts, pixels * (part + 1) / parts, work);
        return;
    }
    int first = panels * part / parts, end = panels * (part + 1) / parts, o = first * SS_PANEL;
    t.w += (size_t)first * t.panel_stride;
    t.channels = (end * SS_PANEL < c->cout ? end * SS_PANEL : c->cout) - o;
    t.scale += o;
    t.bias += o;
    t.shift += o;
    t.add = t.add ? t.add + o : NULL;
    t.add32 = t.add32 ? t.add32 + o : NULL;
    t.y = t.y ? t.y + o : NULL;
    t.y32 = t.y32 ? t.y32 + o : NULL;
    conv_pixels(j, &t, 0, pixels, work);
}

/* ---- the rest ---- */

void ss_i8_maxpool(const ss_maxpool *p, const ss_image *in, const ss_image *out, const uint8_t *x, uint8_t *y,
                   int first, int last)
{
    size_t row = ss_image_row(in), corner = (size_t)(in->frame - p->pad) * (row + (size_t)in->c);
    for (int i = first; i < last; i++) {
        size_t window = (size_t)(i / p->oh), oh = (size_t)(i % p->oh);
        ss_i8()->maxpool(p, row, x + window * ss_image_size(in) + corner + oh * (size_t)p->stride * row,
                         y + window * ss_image_size(out) + ss_image_first(out) + oh * ss_image_row(out));
    }
}

void ss_i8_sum(const ss_image *g, const uint8_t *x, int32_t *sum)
{
    memset(sum, 0, (size_t)g->c * sizeof *sum);
    x += ss_image_first(g);
    for (int r = 0; r < g->h; r++, x += ss_image_row(g))
        ss_i8()->sum((size_t)g->w, (size_t)g->c, x, sum);
}

void ss_u8_from_f32(size_t n, float a, float b, const float *x, uint8_t *y)
{
    ss_i8()->u8_from_f32(n, a, b, x, y);
}

void ss_f32_from_u8(size_t n, float step, const uint8_t *x, float *y)
{
    ss_i8()->f32_from_u8(n, step, x, y);
}
