/*
 * Winograd's convolution for 3x3 kernels of stride 1: blocks of tiles are transformed, multiplied point by point for
 * some output channels at a time, and transformed back, so that all between the two images stays in the second-level
 * cache. A tile's result depends on nothing but the tile: not on the block it is in.
 *
 * Design notes (Zen 5, AVX-512, one thread; times of one layer with cold weights unless it is said).
 * - Both sides of the product lie in blocks of 16 channels, rows 64 bytes apart: with rows of all channels each needs
 *   a register for its address, and most were spilled (64 channels, 32x250, warm: 1000 us against 868).
 * - Points lie an odd number of lines apart; else 36 streams of stores share two sets of the first-level cache.
 * - Weights are prefetched 2 KB ahead (tiles.h): a panel's points follow each other, but in stretches of 4 KB, at which
 *   the processor's own prefetching ends (64 channels, 16x24: 52 us against 82).
 * - 4x4 tiles for 256 channels of 8x7 take as long as 2x2 (244 us): 9.4 MB of weights are read for four tiles.
 * - Rounding transformed weights to f16 was not done: the result is no convolution with any f16 weights.
 */
#include "kernels/winograd.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)640 << 10) /* of a block's points on both sides of the product */
#define BLOCK_TILES 48                  /* at most */
#define GROUP       4                   /* panels multiplied before they are transformed back */

bool ss_winograd_fits(const ss_conv *c)
{
    return c->kh == 3 && c->kw == 3 && c->stride == 1 && c->pad <= 2 && c->cin % SS_PANEL == 0 &&
           c->cout % SS_PANEL == 0;
}

int ss_winograd_tile(const ss_conv *c)
{
    return c->algo == SS_CONV_WINOGRAD4 ? 4 : c->algo == SS_CONV_WINOGRAD2 ? 2 : 0;
}

/* Pixels that a tap meets along an axis, summed over the three. */
static int met(int in, int out, int pad)
{
    int n = 0;
    for (int tap = 0; tap < 3; tap++)
        for (int i = 0; i < out; i++)
            n += i + tap - pad >= 0 && i + tap - pad < in;
    return n;
}

/*
 * Tenths of multiply-adds for each pair of input and output channel. Reading a weight from the third-level
 * cache takes as long as 8 of them and goes on beside them; transforming a tile there and back as long as
 * 450 (4x4) or 150 (2x2) for each input channel. Both were measured with AVX-512 on Zen 5.
 */
static int64_t cost(const ss_conv *c, ss_conv_algo algo)
{
    ss_conv with = *c;
    with.algo = algo;
    int64_t m = ss_winograd_tile(&with), points = (m + 2) * (m + 2), tiles = 0, transforms = 0, products;
    if (m) {
        tiles = (c->oh + m - 1) / m * ((c->ow + m - 1) / m);
        products = 10 * points * tiles;
        transforms = tiles * (m == 4 ? 4500 : 1500) / c->cout;
    } else {
        points = 9;
        products = 10 * (int64_t)met(c->h, c->oh, c->pad) * met(c->w, c->ow, c->pad);
    }
    return (products > 80 * points ? products : 80 * points) + transforms;
}

void ss_conv_plan(ss_conv *c)
{
    static const ss_conv_algo other[] = {SS_CONV_WINOGRAD2, SS_CONV_WINOGRAD4};
    c->algo = SS_CONV_DIRECT;
    if (!ss_winograd_fits(c))
        return;
    int64_t least = cost(c, SS_CONV_DIRECT) * 9 / 10; /* more memory for less than a tenth is not worth it */
    for (int i = 0; i < 2; i++)
        if (cost(c, other[i]) < least) {
            least = cost(c, other[i]);
            c->algo = other[i];
        }
}

/* A convolution's forward, or its dx as the convolution it is. */
typedef struct sizes {
    int m, points;
    int depth, panels; /* channels read; panels of those written */
    int h, w, oh, ow, pad;
    int down, across; /* tiles */
} sizes;

static sizes sizes_of(const ss_conv *c, bool back)
{
    sizes s = {.m = ss_winograd_tile(c),
               .depth = c->cin,
               .panels = ss_panels(c->cout),
               .h = c->h,
               .w = c->w,
               .oh = c->oh,
               .ow = c->ow,
               .pad = c->pad};
    if (back)
        s = (sizes){.m = s.m,
                    .depth = c->cout,
                    .panels = ss_panels(c->cin),
                    .h = c->oh,
                    .w = c->ow,
                    .oh = c->h,
                    .ow = c->w,
                    .pad = 2 - c->pad};
    s.points = (s.m + 2) * (s.m + 2);
    s.down = (s.oh + s.m - 1) / s.m;
    s.across = (s.ow + s.m - 1) / s.m;
    return s;
}

size_t ss_winograd_packed(const ss_conv *c)
{
    size_t points = (size_t)(ss_winograd_tile(c) + 2) * (size_t)(ss_winograd_tile(c) + 2);
    return points * (size_t)c->cin * (size_t)c->cout;
}

/* Sixteen outputs by sixteen inputs at a time, by way of the direct layout. */
void ss_winograd_pack(const ss_conv *c, bool back, const float *weights, float *packed)
{
    const ss_kernel_table *t = ss_kernels();
    const sizes s = sizes_of(c, back);
    const size_t row = (size_t)c->cin * 9, depth = (size_t)s.depth, square = SS_PANEL * SS_PANEL;
    float direct[9 * SS_PANEL * SS_PANEL], turned[9 * SS_PANEL * SS_PANEL];
    for (size_t p = 0; p < (size_t)s.panels; p++)
        for (size_t k = 0; k < depth; k += SS_PANEL) {
            size_t o = back ? k : p * SS_PANEL, i = back ? p * SS_PANEL : k;
            const float *from = direct;
            t->pack_rows(weights + o * row + i * 9, row, SS_PANEL, 9, SS_PANEL, direct, square);
            if (back) { /* the kernel turned about its middle, outputs and inputs changed over */
                for (size_t tap = 0; tap < 9; tap++)
                    t->turn(direct + tap * square, SS_PANEL, turned + (8 - tap) * square);
                from = turned;
            }
            t->wino_weights(s.m, from, square, SS_PANEL,
                            packed + (p * (size_t)s.points * depth + k) * SS_PANEL, depth * SS_PANEL);
        }
}

/* Floats of one thread's scratch: both sides of the product, and pixels of zeros. */
static size_t v_floats(const sizes *s, int tiles)
{
    return (size_t)s->points * ((size_t)tiles * (size_t)s->depth + SS_PANEL);
}

static size_t p_floats(const sizes *s, int tiles)
{
    int panels = s->panels < GROUP ? s->panels : GROUP;
    return (size_t)s->points * ((size_t)tiles * (size_t)panels * SS_PANEL + SS_PANEL);
}

static size_t zeros(const sizes *s)
{
    return (size_t)(s->m + 2) * (size_t)s->depth;
}

static int block_most(const sizes *s)
{
    int panels = s->panels < GROUP ? s->panels : GROUP;
    size_t each = (size_t)s->points * (size_t)(s->depth + panels * SS_PANEL) * sizeof(float),
           fit = BLOCK_BYTES / each;
    return fit >= BLOCK_TILES ? BLOCK_TILES : fit >= 12 ? (int)(fit / 12 * 12) : 12;
}

size_t ss_winograd_work(const ss_conv *c, int threads)
{
    size_t most = 0;
    for (int back = 0; back < 2; back++) {
        sizes s = sizes_of(c, back);
        size_t n = v_floats(&s, block_most(&s)) + p_floats(&s, block_most(&s)) + zeros(&s);
        most = n > most ? n : most;
    }
    return most * (size_t)threads;
}

typedef struct job {
    const ss_kernel_table *table;
    sizes s;
    int tiles, block, panel_parts;
    ss_winograd_args a;
    float *work;
    size_t work_each;
} job;

static void transform_in(const job *j, int first, int count, float *v, ptrdiff_t v_point, const float *zero)
{
    const sizes *s = &j->s;
    const int n = s->m + 2, per_window = s->down * s->across;
    const ptrdiff_t pixel = s->depth, line = pixel * s->w, window = line * s->h;
    ss_wino_in t = {.m = s->m,
                    .channels = s->depth,
                    .pixel = pixel,
                    .v_point = v_point,
                    .v_block = (ptrdiff_t)count * SS_PANEL};
    for (int i = 0; i < count; i++) {
        int at = first + i, y = at % per_window / s->across * s->m - s->pad,
            x = at % s->across * s->m - s->pad;
        const float *image = j->a.x + at / per_window * window;
        t.columns = 0;
        for (int k = 0; k < n; k++) {
            bool inside = y + k >= 0 && y + k < s->h;
            t.base[k] = inside ? image : zero;
            t.row[k] = inside ? (y + k) * line + x * pixel : 0;
            t.columns |= (unsigned)(x + k >= 0 && x + k < s->w) << k;
        }
        t.v = v + i * SS_PANEL;
        j->table->wino_in(&t);
    }
}

static void transform_out(const job *j, int first, int count, const float *p, ptrdiff_t p_point, int panel,
                          int panels)
{
    const sizes *s = &j->s;
    const ss_winograd_args *a = &j->a;
    const int per_window = s->down * s->across, c = panel * SS_PANEL;
    const ptrdiff_t pixel = (ptrdiff_t)s->panels * SS_PANEL, line = pixel * s->ow, window = line * s->oh;
    ss_wino_out t = {.m = s->m,
                     .channels = panels * SS_PANEL,
                     .p_point = p_point,
                     .p_block = (ptrdiff_t)count * SS_PANEL,
                     .bias = a->bias ? a->bias + c : NULL,
                     .relu = a->relu,
                     .row = line,
                     .pixel = pixel};
    for (int i = 0; i < count; i++) {
        int tile = first + i, y = tile % per_window / s->across * s->m, x = tile % s->across * s->m;
        ptrdiff_t at = tile / per_window * window + y * line + x * pixel + c;
        t.rows = s->oh - y < s->m ? s->oh - y : s->m;
        t.columns = s->ow - x < s->m ? s->ow - x : s->m;
        t.p = p + i * SS_PANEL;
        t.add = a->add ? a->add + at : NULL;
        t.gate = a->gate ? a->gate + at : NULL;
        t.y = a->y + at;
        j->table->wino_out(&t);
    }
}

static void task(void *arg, int k, int thread)
{
    const job *j = arg;
    const sizes *s = &j->s;
    int part = k % j->panel_parts, first = k / j->panel_parts * j->block;
    int count = j->tiles - first < j->block ? j->tiles - first : j->block;
    int panel = s->panels * part / j->panel_parts, end = s->panels * (part + 1) / j->panel_parts;
    float *v = j->work + (size_t)thread * j->work_each, *p = v + v_floats(s, j->block),
          *zero = p + p_floats(s, j->block);
    /* Points lie an odd number of lines apart: else they fall on the same sets of the first-level cache. */
    ptrdiff_t v_point = (ptrdiff_t)count * s->depth + SS_PANEL;
    memset(zero, 0, zeros(s) * sizeof *zero);
    transform_in(j, first, count, v, v_point, zero);
    for (int panels; panel < end; panel += panels) {
        panels = end - panel < GROUP ? end - panel : GROUP;
        ptrdiff_t p_point = (ptrdiff_t)count * panels * SS_PANEL + SS_PANEL;
        size_t stride = (size_t)s->points * (size_t)s->depth * SS_PANEL;
        ss_wino_product t = {
            s->points, count, s->depth, panels, v, v_point, j->a.packed + (size_t)panel * stride,
            stride,    p,     p_point};
        j->table->wino_product(&t);
        transform_out(j, first, count, p, p_point, panel, panels);
    }
}

void ss_winograd_run(const ss_conv *c, bool back, ss_pool *pool, int n, const ss_winograd_args *a,
                     float *work)
{
    int threads = ss_pool_threads(pool);
    job j = {.table = ss_kernels(), .s = sizes_of(c, back), .panel_parts = 1, .a = *a, .work = work};
    j.tiles = n * j.s.down * j.s.across;
    j.block = block_most(&j.s);
    int share = (j.tiles + threads - 1) / threads;
    if (share < 12 && j.s.panels >= 2 * threads) {
        j.panel_parts = threads;
        share = j.tiles;
    }
    j.block = share < j.block ? share : j.block;
    j.work_each = v_floats(&j.s, j.block) + p_floats(&j.s, j.block) + zeros(&j.s);
    ss_pool_run(pool, (j.tiles + j.block - 1) / j.block * j.panel_parts, task, &j);
}
