#include "nn/net_i8.h"

#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/int8.h"
#include "nn/pack_internal.h"
#include "nn/quant.h"

/*
 * One window is over in a few hundred microseconds, and a wake-up of a thread takes tens of them. So all
 * threads of the pool enter a run once and stay: each takes parts of a step until there are none left, waits
 * until those that others have taken are done, and goes on to the next step. One that comes late finds the
 * steps done and catches up; nobody waits for it.
 */

#define PIECE       8                 /* most windows that go through the layers together */
#define PIECE_BYTES ((size_t)1 << 20) /* of their largest tensor between blocks: it stays in the cache */
#define STEPS       (SS_UNITS + 4)
#define MOST_GROUP  9    /* taps whose sum is kept */
#define LOOKS       4000 /* at what others do, before the processor is offered to them */

typedef struct unit_i8 {
    ss_i8_conv conv;
    int8_t *packed;
    int32_t *shift;
    float *scale, *bias;
} unit_i8;

typedef struct lane {
    uint8_t *input, *stem; /* images in front of and behind the stem */
    uint8_t *a, *b;        /* images between layers */
    float *shortcut;       /* a downsample's output, as it is added */
    uint8_t *wire;         /* u8 as on the wire */
    int32_t *sum;
    float *mean, *z, *work;
    char *part_work; /* [threads] */
} lane;

struct ss_net_i8 {
    ss_layers layers; /* its parameters are not looked at after opening */
    ss_pool *pool;
    int from, until, piece, lanes, threads;
    size_t in, out; /* numbers of a window */
    float input_a, input_b;
    int input_zero;
    float scale[SS_I8_TENSORS];
    ss_image input, stem; /* of the stem's images */
    unit_i8 unit[SS_UNITS];
    ss_ready fc; /* in its block */
    float *fc_block;
    size_t part_work, bytes;
    lane *lane;
};

float ss_net_i8_scale(const ss_model *m, int cut)
{
    return m->calibration.scale[2 * (cut - SS_CUT_BLOCK0)];
}

/* ---- opening ---- */

static void *room(ss_net_i8 *n, size_t count, size_t size)
{
    n->bytes += count * size;
    return ss_alloc(count, size);
}

/* Scales of what a unit reads and writes. */
static void unit_scales(const ss_net_i8 *n, const ss_calibration *c, int i, float *in, float *out)
{
    const ss_layers *l = &n->layers;
    *in = c->input_step;
    *out = c->scale[0];
    for (int k = 0; k < SS_BLOCKS; k++)
        if (i == l->conv1[k] || i == l->conv2[k] || i == l->down[k]) {
            *in = c->scale[2 * k + (i == l->conv2[k])];
            *out = c->scale[2 * k + (i == l->conv1[k] ? 1 : 2)];
        }
}

/* To nearest even, for |v| < 2^22: adding 1.5 * 2^23 leaves no place for a fraction. */
static inline float whole(float v)
{
    return v + 12582912.0f - 12582912.0f;
}

/*
 * Weights in steps, w [len] within +-127, rounded so that their sums are kept: over the taps of each input
 * channel (in the stem, over each row of the kernel), what is left going on to the next. Images are smooth
 * and have no value below 0, so an error that cancels between neighbours is seen little and one in the sum is
 * seen whole: 1 - cosine to f32 falls to a third (width 1/4, norm weight, trained: 0.99955 to 0.99985, the
 * least of 720 windows 0.9967 to 0.9990).
 */
static void round_weights(size_t len, size_t group, const float *w, int8_t *q)
{
    float carry = 0;
    for (size_t g = 0; g < len; g += group, w += group, q += group) {
        float rest[MOST_GROUP];
        for (size_t i = 0; i < group; i++) {
            float r = whole(w[i]);
            q[i] = (int8_t)r;
            rest[i] = w[i] - r;
            carry += rest[i];
        }
        for (int moves = (int)whole(carry); moves;) {
            const int by = moves > 0 ? 1 : -1;
            size_t best = group;
            for (size_t i = 0; i < group; i++)
                if (by * q[i] < 127 && (best == group || (float)by * rest[i] > (float)by * rest[best]))
                    best = i;
            if (best == group)
                break;
            q[best] = (int8_t)(q[best] + by);
            rest[best] -= (float)by;
            carry -= (float)by;
            moves -= by;
        }
    }
}

/* Room for the weights of some output channels, for what the largest unit has of one value each, and for its
 * numbers. */
typedef struct preparing {
    float *w, *row;
    int8_t *q;
} preparing;

enum { PANEL = 16 };

/* Folded, and rounded to the numbers of each channel, while they are in the cache. */
static int quantise(ss_net_i8 *n, const ss_model *m, int i, const preparing *p, float in, float out,
                    ss_err *e)
{
    const ss_unit *u = &n->layers.unit[i];
    unit_i8 *to = &n->unit[i];
    size_t cout = (size_t)u->conv.cout, len = u->weight->count / cout;
    size_t group = (size_t)u->conv.kw * (size_t)(i ? u->conv.kh : 1);
    ss_unit_rows rows = {0};
    ss_model_seen all = {0}, seen;
    int rc = ss_unit_vectors(&n->layers, m, i, p->row, &rows, e);
    for (size_t first = 0; first < cout && rc == SS_OK; first += PANEL) {
        size_t some = cout - first < PANEL ? cout - first : PANEL;
        const float *from;
        rc = ss_model_part(m, u->weight, first, some, p->w, &from, &seen, e);
        if (rc < 0)
            break;
        all = first ? ss_model_seen_join(all, seen, some * len) : seen;
        ss_unit_fold_rows(&n->layers, i, &rows, (int)first, (int)some, from, p->w, to->bias,
                          p->row + 4 * cout, p->row + 5 * cout);
        for (size_t o = 0; o < some; o++) {
            float top = ss_max_abs(len, p->w + o * len), step = top / 127;
            if (!(step > 1e-37f))
                step = 1e-37f;
            ss_scale(len, 1 / step, p->w + o * len, p->w + o * len);
            round_weights(len, group, p->w + o * len, p->q + (first + o) * len);
            to->scale[first + o] = step * in / out;
        }
    }
    return rc < 0 ? rc : ss_model_expect(m, u->weight, &all, e);
}

static int no_memory(const ss_net_i8 *n, ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "cannot allocate a network in int8 from cut '%s' to cut '%s'",
                      ss_cut_name(n->from), ss_cut_name(n->until));
}

static int prepare_unit(ss_net_i8 *n, const ss_model *m, int i, const preparing *p, ss_err *e)
{
    unit_i8 *to = &n->unit[i];
    const ss_conv *c = &n->layers.unit[i].conv;
    size_t cout = (size_t)c->cout;
    float in, out;
    if (ss_i8_conv_init(&to->conv, c, i ? 1 : c->pad, 1) < 0)
        return ss_err_set(e, SS_EUNFIT, "layers that int8 does not take");
    n->bytes += ss_i8_conv_packed(c);
    to->packed = ss_alloc_whole(ss_i8_conv_packed(c), 1);
    to->shift = room(n, cout, sizeof *to->shift);
    to->scale = room(n, cout, sizeof *to->scale);
    to->bias = room(n, cout, sizeof *to->bias);
    if (!to->packed || !to->shift || !to->scale || !to->bias)
        return no_memory(n, e);
    unit_scales(n, &m->calibration, i, &in, &out);
    int rc = quantise(n, m, i, p, in, out, e);
    if (rc < 0)
        return rc;
    ss_i8_conv_pack(c, p->q, to->packed, to->shift);
    for (size_t o = 0; o < cout; o++) {
        to->bias[o] /= out;
        if (i == 0) /* what the input's zero point adds to every sum */
            to->bias[o] -= (float)n->input_zero * (float)(to->shift[o] / 128) * to->scale[o];
    }
    to->conv.packed = to->packed;
    to->conv.shift = to->shift;
    to->conv.scale = to->scale;
    to->conv.bias = to->bias;
    return SS_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int prepare_lanes(ss_net_i8 *n, int first, int last)
{
    const ss_layers *l = &n->layers;
    size_t image = 0, shortcut = 0, wire = 0, cin = (size_t)l->fc.cin;
    int down = 0;
    for (int i = first; i < last; i++) {
        const ss_i8_conv *k = &n->unit[i].conv;
        n->part_work = larger(n->part_work, ss_i8_conv_work(k));
        if (i > 0)
            image = larger(image, larger(ss_image_size(&k->in), ss_image_size(&k->out)));
    }
    for (int k = 0; k < SS_BLOCKS; k++)
        if ((down = l->down[k]) >= first && down < last)
            shortcut = larger(shortcut, ss_image_size(&n->unit[down].conv.out));
    if (n->from == SS_CUT_INPUT)
        image = larger(image, ss_image_size(&(ss_image){l->pool.oh, l->pool.ow, l->pool.c, 1}));
    if (n->from > SS_CUT_INPUT)
        wire = n->in;
    if (n->until < SS_CUT_EMBEDDING)
        wire = larger(wire, n->out);
    if (n->from == SS_CUT_BLOCK0 + SS_BLOCKS) {
        const ss_conv *c = &l->unit[l->nunit - 1].conv;
        image = ss_image_size(&(ss_image){c->oh, c->ow, c->cout, 1});
    }
    size_t fit = image ? PIECE_BYTES / image : PIECE;
    if (fit < (size_t)n->piece)
        n->piece = fit > 1 ? (int)fit : 1;
    size_t many = (size_t)n->piece;
    n->part_work = (n->part_work + SS_ALIGN - 1) / SS_ALIGN * SS_ALIGN;
    for (int i = 0; i < n->lanes; i++) {
        lane *s = &n->lane[i];
        bool whole = n->from == SS_CUT_INPUT;
        s->input = room(n, whole ? many : 0, ss_image_size(&n->input));
        s->stem = room(n, whole ? many : 0, ss_image_size(&n->stem));
        s->a = room(n, many, image);
        s->b = room(n, many, image);
        s->shortcut = room(n, many * shortcut, sizeof(float));
        s->wire = room(n, wire, 1);
        s->sum = room(n, cin, sizeof *s->sum);
        s->mean = room(n, many * cin, sizeof(float));
        s->z = room(n, many * (size_t)l->fc.cout, sizeof(float));
        s->work = room(n, ss_conv_work(&l->fc, n->piece, NULL), sizeof(float));
        s->part_work = room(n, i ? 1 : (size_t)n->threads, n->part_work);
        if (!s->input || !s->stem || !s->a || !s->b || !s->shortcut || !s->wire || !s->sum || !s->mean ||
            !s->z || !s->work || !s->part_work)
            return SS_ENOMEM;
    }
    return SS_OK;
}

static int prepare_fc(ss_net_i8 *n, const ss_model *m, ss_err *e)
{
    ss_packer *packer;
    ss_unit_set set = {false};
    size_t floats;
    set[n->layers.nunit] = true;
    int rc = ss_packer_open(&packer, &n->layers, NULL, SS_BEHIND_NOTHING, set, e);
    if (rc == SS_OK &&
        ss_pack_place(&n->layers, SS_BEHIND_NOTHING, set, NULL, &n->fc, &n->fc_block, &floats) < 0)
        rc = no_memory(n, e);
    if (rc == SS_OK) {
        n->bytes += floats * sizeof(float);
        rc = ss_packer_run(packer, m, NULL, &n->fc, e);
    }
    ss_packer_close(&packer);
    return rc;
}

static int prepare(ss_net_i8 *n, const ss_model *m, ss_err *e)
{
    const ss_layers *l = &n->layers;
    int first, last, rc = SS_OK;
    size_t most = 0, row = 0;
    ss_layers_range(l, n->from, n->until, &first, &last);
    for (int i = first; i < last; i++) {
        const ss_param *w = l->unit[i].weight;
        most = larger(most, w->count);
        row = larger(row, w->count / w->dim[0]);
    }
    const preparing p = {ss_alloc_whole(PANEL * row, sizeof(float)),
                         ss_alloc(6 * (size_t)l->fc.cin, sizeof(float)), ss_alloc_whole(most, 1)};
    n->lane = ss_zalloc((size_t)n->lanes, sizeof *n->lane);
    if (!p.w || !p.row || !p.q || !n->lane)
        rc = no_memory(n, e);
    for (int i = first; i < last && rc == SS_OK; i++)
        rc = prepare_unit(n, m, i, &p, e);
    if (rc == SS_OK && n->until == SS_CUT_EMBEDDING && n->from < n->until)
        rc = prepare_fc(n, m, e);
    if (rc == SS_OK && prepare_lanes(n, first, last) < 0)
        rc = no_memory(n, e);
    ss_free(p.w);
    ss_free(p.row);
    ss_free(p.q);
    return rc;
}

int ss_net_i8_open(ss_net_i8 **to, const ss_model *m, ss_pool *pool, int from, int until, int max_batch,
                   ss_err *e)
{
    *to = NULL;
    if (from < SS_CUT_INPUT || until > SS_CUT_EMBEDDING || from > until || max_batch < 1)
        return ss_err_set(e, SS_EINVAL, "no network from cut %d to cut %d for %d windows", from, until,
                          max_batch);
    int rc = ss_quant_check(m, e);
    if (rc < 0)
        return rc;
    ss_net_i8 *n = ss_zalloc(1, sizeof *n);
    if (!n)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a network");
    const ss_calibration *c = &m->calibration;
    n->pool = pool;
    n->from = from;
    n->until = until;
    n->piece = max_batch < PIECE ? max_batch : PIECE;
    n->threads = ss_pool_threads(pool);
    n->lanes = max_batch > 1 ? n->threads : 1;
    n->in = ss_model_cut_size(&m->config, from);
    n->out = ss_model_cut_size(&m->config, until);
    n->bytes = sizeof *n;
    memcpy(n->scale, c->scale, sizeof n->scale);
    rc = ss_layers_init(&n->layers, m, e);
    if (rc == SS_OK) {
        const ss_conv *stem = &n->layers.unit[0].conv;
        n->input = (ss_image){stem->h, stem->w, 1, stem->pad};
        n->stem = (ss_image){stem->oh, stem->ow, stem->cout, 1};
        n->input_zero = c->input_zero;
        n->input_a = m->config.input_scale / c->input_step;
        n->input_b = (float)c->input_zero - m->config.input_mean * n->input_a;
        rc = prepare(n, m, e);
    }
    if (rc < 0)
        ss_net_i8_close(&n);
    *to = n;
    return rc;
}

size_t ss_net_i8_memory(const ss_net_i8 *net)
{
    return net->bytes;
}

void ss_net_i8_close(ss_net_i8 **net)
{
    ss_net_i8 *n = *net;
    if (!n)
        return;
    for (int i = 0; i < SS_UNITS; i++) {
        ss_free(n->unit[i].packed);
        ss_free(n->unit[i].shift);
        ss_free(n->unit[i].scale);
        ss_free(n->unit[i].bias);
    }
    ss_free(n->fc_block);
    for (int i = 0; i < n->lanes && n->lane; i++) {
        lane *s = &n->lane[i];
        void *all[] = {s->input, s->stem, s->a, s->b,    s->shortcut, s->wire,
                       s->sum,   s->mean, s->z, s->work, s->part_work};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            ss_free(all[k]);
    }
    ss_free(n->lane);
    ss_free(n);
    *net = NULL;
}

/* ---- running ---- */

typedef struct step {
    enum { STEP_INPUT, STEP_IN, STEP_CONV, STEP_POOL, STEP_OUT, STEP_HEAD } kind;
    int parts;
    ss_i8_job job; /* STEP_CONV */
    const uint8_t *x;
    ss_image image; /* of x, or of what is written */
} step;

/* One run of n windows through all steps. */
typedef struct run {
    const ss_net_i8 *net;
    const lane *lane;
    int n, steps, in_dtype, out_dtype;
    const char *in;
    char *out;
    step step[STEPS];
    atomic_int next[STEPS], done[STEPS];
} run;

static float cut_scale(const ss_net_i8 *net, int cut)
{
    return net->scale[2 * (cut - SS_CUT_BLOCK0)];
}

static void input_rows(const run *r, int first, int last)
{
    const ss_net_i8 *net = r->net;
    size_t w = (size_t)net->input.w, h = (size_t)net->input.h;
    for (size_t i = (size_t)first; i < (size_t)last; i++)
        ss_u8_from_f32(w, net->input_a, net->input_b, (const float *)(const void *)r->in + i * w,
                       r->lane->input + i / h * ss_image_size(&net->input) + ss_image_first(&net->input) +
                           i % h * ss_image_row(&net->input));
}

/* A cut of the wire to images, and back. */
static void cut_in(const run *r, const step *s)
{
    const ss_net_i8 *net = r->net;
    for (size_t i = 0; i < (size_t)r->n; i++) {
        const uint8_t *x = (const uint8_t *)r->in + i * net->in;
        if (r->in_dtype == SS_DTYPE_F32) {
            ss_u8_from_f32(net->in, 1 / cut_scale(net, net->from), 0,
                           (const float *)(const void *)r->in + i * net->in, r->lane->wire);
            x = r->lane->wire;
        }
        ss_image_from_chw(&s->image, x, r->lane->a + i * ss_image_size(&s->image));
    }
    ss_image_frame(&s->image, r->n, 0, r->lane->a);
}

static void cut_out(const run *r, const step *s)
{
    const ss_net_i8 *net = r->net;
    for (size_t i = 0; i < (size_t)r->n; i++) {
        bool f32 = r->out_dtype == SS_DTYPE_F32;
        uint8_t *y = f32 ? r->lane->wire : (uint8_t *)r->out + i * net->out;
        ss_chw_from_image(&s->image, s->x + i * ss_image_size(&s->image), y);
        if (f32)
            ss_f32_from_u8(net->out, cut_scale(net, net->until), y, (float *)(void *)r->out + i * net->out);
    }
}

/* The mean over the pixels, the last layer and the length. */
static void head(const run *r, const step *s)
{
    const ss_net_i8 *net = r->net;
    const lane *l = r->lane;
    const ss_conv *fc = &net->layers.fc;
    size_t c = (size_t)fc->cin;
    float each = net->scale[SS_I8_TENSORS - 1] / (float)net->layers.pixels;
    for (size_t i = 0; i < (size_t)r->n; i++) {
        ss_i8_sum(&s->image, s->x + i * ss_image_size(&s->image), l->sum);
        for (size_t k = 0; k < c; k++)
            l->mean[i * c + k] = (float)l->sum[k] * each;
    }
    ss_conv_forward(fc, NULL, r->n, l->mean, net->fc.packed, net->fc.bias, NULL, false, l->z, l->work);
    ss_l2norm_forward(r->n, fc->cout, l->z, (float *)(void *)r->out, NULL);
}

static void run_part(const run *r, const step *s, int part, int thread)
{
    const ss_net_i8 *net = r->net;
    const ss_maxpool *p = &net->layers.pool;
    int rows;
    switch (s->kind) {
    case STEP_INPUT:
        rows = r->n * net->input.h;
        if (part == 0)
            ss_image_frame(&net->input, r->n, (uint8_t)net->input_zero, r->lane->input);
        input_rows(r, rows * part / s->parts, rows * (part + 1) / s->parts);
        break;
    case STEP_IN:
        cut_in(r, s);
        break;
    case STEP_CONV:
        if (part == 0 && s->job.y && !s->job.add) /* in place it is there */
            ss_image_frame(&s->job.k->out, r->n, 0, s->job.y);
        ss_i8_conv_part(&s->job, part, s->parts, r->lane->part_work + (size_t)thread * net->part_work);
        break;
    case STEP_POOL:
        rows = r->n * p->oh;
        if (part == 0)
            ss_image_frame(&s->image, r->n, 0, r->lane->a);
        ss_i8_maxpool(p, &net->stem, &s->image, r->lane->stem, r->lane->a, rows * part / s->parts,
                      rows * (part + 1) / s->parts);
        break;
    case STEP_OUT:
        cut_out(r, s);
        break;
    case STEP_HEAD:
        head(r, s);
        break;
    }
}

static step *add_step(run *r, int kind, int parts)
{
    step *s = &r->step[r->steps++];
    *s = (step){.kind = kind, .parts = parts};
    return s;
}

static void add_conv(run *r, int unit, int threads, const uint8_t *x, const uint8_t *add, float add_scale,
                     const float *add32, uint8_t *y, float *y32)
{
    const ss_i8_conv *k = &r->net->unit[unit].conv;
    add_step(r, STEP_CONV, ss_i8_conv_parts(k, r->n, threads))->job = (ss_i8_job){
        .k = k, .n = r->n, .x = x, .add = add, .add_scale = add_scale, .add32 = add32, .y = y, .y32 = y32};
}

static void plan(run *r, int threads)
{
    const ss_net_i8 *net = r->net;
    const ss_layers *l = &net->layers;
    const lane *s = r->lane;
    const int parts = threads > 1 ? 4 * threads : 1;
    int k = net->from - SS_CUT_BLOCK0;
    ss_image image;
    if (net->from == SS_CUT_INPUT) {
        k = 0;
        image = (ss_image){l->pool.oh, l->pool.ow, l->pool.c, 1};
        add_step(r, STEP_INPUT, threads > 1 ? threads : 1);
        add_conv(r, 0, threads, s->input, NULL, 0, NULL, s->stem, NULL);
        add_step(r, STEP_POOL, parts)->image = image;
    } else {
        image = k < SS_BLOCKS
                    ? net->unit[l->conv1[k]].conv.in
                    : (ss_image){l->unit[l->nunit - 1].conv.oh, l->unit[l->nunit - 1].conv.ow, l->fc.cin, 1};
        add_step(r, STEP_IN, 1)->image = image;
    }
    for (; k < net->until - SS_CUT_BLOCK0 && k < SS_BLOCKS; k++) {
        add_conv(r, l->conv1[k], threads, s->a, NULL, 0, NULL, s->b, NULL);
        if (l->down[k] >= 0) {
            add_conv(r, l->down[k], threads, s->a, NULL, 0, NULL, NULL, s->shortcut);
            add_conv(r, l->conv2[k], threads, s->b, NULL, 0, s->shortcut, s->a, NULL);
        } else {
            add_conv(r, l->conv2[k], threads, s->b, s->a, net->scale[2 * k] / net->scale[2 * k + 2], NULL,
                     s->a, NULL);
        }
        image = net->unit[l->conv2[k]].conv.out;
    }
    step *last = add_step(r, net->until == SS_CUT_EMBEDDING ? STEP_HEAD : STEP_OUT, 1);
    last->image = image;
    last->x = s->a;
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void crew(void *arg, int i, int thread)
{
    run *r = arg;
    for (int k = 0; k < r->steps; k++) {
        const step *s = &r->step[k];
        int part;
        while ((part = atomic_fetch_add_explicit(&r->next[k], 1, memory_order_relaxed)) < s->parts) {
            run_part(r, s, part, thread);
            atomic_fetch_add_explicit(&r->done[k], 1, memory_order_release);
        }
        for (int looks = 0; atomic_load_explicit(&r->done[k], memory_order_acquire) < s->parts;)
            if (++looks < LOOKS)
                pause_cpu();
            else
                sched_yield();
    }
}

static size_t bytes_of(int dtype)
{
    return dtype == SS_DTYPE_U8 ? 1 : sizeof(float);
}

typedef struct batch {
    const ss_net_i8 *net;
    int n, piece, in_dtype, out_dtype;
    const char *in;
    char *out;
} batch;

static void run_piece(const batch *b, int i, const lane *l, ss_pool *pool)
{
    const ss_net_i8 *net = b->net;
    int at = i * b->piece, threads = ss_pool_threads(pool);
    run r = {.net = net,
             .lane = l,
             .n = b->n - at < b->piece ? b->n - at : b->piece,
             .in_dtype = b->in_dtype,
             .out_dtype = b->out_dtype,
             .in = b->in + (size_t)at * net->in * bytes_of(b->in_dtype),
             .out = b->out + (size_t)at * net->out * bytes_of(b->out_dtype)};
    plan(&r, threads);
    for (int k = 0; k < r.steps; k++) {
        atomic_init(&r.next[k], 0);
        atomic_init(&r.done[k], 0);
    }
    ss_pool_run(pool, threads, crew, &r);
}

static void piece_task(void *arg, int i, int thread)
{
    const batch *b = arg;
    run_piece(b, i, &b->net->lane[thread], NULL);
}

static bool known(int cut, int dtype)
{
    return dtype == SS_DTYPE_F32 || (dtype == SS_DTYPE_U8 && cut >= SS_CUT_BLOCK0 && cut < SS_CUT_EMBEDDING);
}

/* No block between: the numbers as they are, in another form. */
static void convert(const batch *b)
{
    const ss_net_i8 *net = b->net;
    size_t n = (size_t)b->n * net->in;
    const float *x = (const float *)(const void *)b->in;
    float *y = (float *)(void *)b->out;
    if (b->in_dtype == b->out_dtype)
        memcpy(b->out, b->in, n * bytes_of(b->in_dtype));
    else if (b->in_dtype == SS_DTYPE_F32)
        ss_u8_from_f32(n, 1 / cut_scale(net, net->from), 0, x, (uint8_t *)b->out);
    else
        ss_f32_from_u8(n, cut_scale(net, net->from), (const uint8_t *)b->in, y);
}

int ss_net_i8_run(ss_net_i8 *net, int n, int in_dtype, const void *in, int out_dtype, void *out)
{
    if (n < 0 || !known(net->from, in_dtype) || !known(net->until, out_dtype))
        return SS_EINVAL;
    batch b = {net, n, net->piece, in_dtype, out_dtype, in, out};
    if (net->from == net->until) {
        convert(&b);
        return SS_OK;
    }
    if (net->lanes > 1 && n > 1) { /* each thread takes pieces through all layers */
        int share = (n + net->lanes - 1) / net->lanes;
        b.piece = share < b.piece ? share : b.piece;
        ss_pool_run(net->pool, (n + b.piece - 1) / b.piece, piece_task, &b);
        return SS_OK;
    }
    for (int i = 0; i * b.piece < n; i++) /* or all of them share each layer */
        run_piece(&b, i, &net->lane[0], net->pool);
    return SS_OK;
}
