#include "nn/backprop.h"

#include <string.h>

#include "base/mem.h"
#include "nn/pack_internal.h"

/* What training holds for a unit. Group norm keeps the bare convolution's output; what the ReLU lets through
 * serves the others, since all in front of it is linear in the folded weights. */
struct unit {
    float *back;                /* ss_conv_pack_back of the folded weights */
    float *row_mean, *row_rstd; /* [cout] of the standardisation, or of the running variance; the packer's */
    float *out;                 /* [n][oh][ow][cout] behind the ReLU; of the stem pooled, of shortcuts none */
    float *raw, *stat;          /* group norm only */
    double *sum, *square; /* batch norm only, [cout]: mean and square seen since the last update, by window */
    double windows;       /* in them */
};

struct ss_backprop {
    ss_model *model;
    ss_pool *pool;
    ss_layers l;
    ss_behind behind;
    int from, until, first, last, max_batch; /* cuts, and the units between them: first .. last - 1 */
    int kept, kept_from, kept_until;         /* windows of the last forward with keep, 0 = none; its cuts */
    bool stale, stale_back;                  /* the packed weights, those for dx */
    struct unit unit[SS_UNITS];
    ss_ready ready[SS_UNITS], fc; /* in `packed` */
    float *packed;
    ss_packer *packer;
    float *fc_back;
    float *input;       /* [n] at `from`, normalised, channels-last */
    uint8_t *which;     /* of the max pool */
    float *mean;        /* [n][c] in front of fc */
    float *z, *norm;    /* embedding, and its length before it was normalised */
    float *w, *dw;      /* one unit's weights and gradient, packed */
    float *channel;     /* [4][c] */
    float *grad[2];     /* with scratch.a: gradients on their way down */
    ss_scratch scratch; /* b: the stem before it is pooled, and gradients behind a group norm */
    size_t held;
};

/* Allocation that keeps count. */
static float *take(ss_backprop *b, size_t n, int *rc)
{
    float *p = ss_alloc(n, sizeof(float));
    if (!p)
        *rc = SS_ENOMEM;
    b->held += n * sizeof(float);
    return p;
}

static size_t outputs(const ss_conv *c)
{
    return (size_t)c->cout * (size_t)c->oh * (size_t)c->ow;
}

static size_t inputs(const ss_conv *c)
{
    return (size_t)c->cin * (size_t)c->h * (size_t)c->w;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool has_head(const ss_backprop *b)
{
    return b->until == SS_CUT_EMBEDDING;
}

/* Floats of a window at a cut. */
static size_t volume(const ss_backprop *b, int cut)
{
    return ss_model_cut_size(&b->model->config, cut);
}

static bool is_shortcut(const ss_layers *l, int i)
{
    return !l->unit[i].relu;
}

static int alloc_unit(ss_backprop *b, int i)
{
    const ss_conv *c = &b->l.unit[i].conv;
    struct unit *u = &b->unit[i];
    size_t n = (size_t)b->max_batch, cout = (size_t)c->cout;
    int rc = SS_OK;
    u->back = take(b, ss_conv_packed_back(c), &rc);
    u->row_mean = ss_packer_row_mean(b->packer, i);
    u->row_rstd = ss_packer_row_rstd(b->packer, i);
    if (i == 0)
        u->out = take(b, n * (size_t)b->l.pool.c * (size_t)b->l.pool.oh * (size_t)b->l.pool.ow, &rc);
    else if (!is_shortcut(&b->l, i))
        u->out = take(b, n * outputs(c), &rc);
    if (b->l.norm == SS_NORM_GROUP) {
        u->raw = take(b, n * outputs(c), &rc);
        u->stat = take(b, 2 * n * cout / SS_GROUP_CHANNELS, &rc);
    }
    if (b->l.norm == SS_NORM_BATCH) {
        u->sum = ss_zalloc(2 * cout, sizeof *u->sum);
        b->held += 2 * cout * sizeof *u->sum;
        if (!u->sum)
            return SS_ENOMEM;
        u->square = u->sum + cout;
    }
    return rc;
}

static int alloc_packed(ss_backprop *b)
{
    ss_unit_set set = {false};
    size_t floats;
    for (int i = b->first; i < b->last; i++)
        set[i] = true;
    set[b->l.nunit] = has_head(b);
    int rc = ss_packer_open(&b->packer, &b->l, b->pool, b->behind, set, NULL);
    if (rc == SS_OK)
        rc = ss_pack_place(&b->l, b->behind, set, b->ready, &b->fc, &b->packed, &floats);
    if (rc == SS_OK)
        b->held += floats * sizeof(float) + ss_packer_memory(b->packer);
    return rc;
}

static int alloc_all(ss_backprop *b)
{
    const ss_layers *l = &b->l;
    size_t n = (size_t)b->max_batch, head = has_head(b), stem = b->first == 0;
    size_t pooled = stem * (size_t)l->pool.c * (size_t)l->pool.oh * (size_t)l->pool.ow;
    size_t grad = larger(head * (size_t)l->fc.cin * (size_t)l->pixels, pooled);
    size_t dw = head * ss_conv_dw_size(&l->fc), weight = head * l->fc_weight->count;
    int rc = alloc_packed(b);
    ss_scratch_size size =
        ss_layers_scratch(l, b->from, b->until, b->max_batch, b->pool, b->behind == SS_BEHIND_NOTHING);
    for (int i = b->first; i < b->last && rc == SS_OK; i++) {
        const ss_conv *c = &l->unit[i].conv;
        rc = alloc_unit(b, i);
        dw = larger(dw, ss_conv_dw_size(c));
        weight = larger(weight, l->unit[i].weight->count);
        if (i > 0)
            grad = larger(grad, larger(inputs(c), outputs(c)));
    }
    if (rc < 0)
        return rc;
    rc = ss_scratch_alloc(&b->scratch, &size, false);
    b->held += (size.a + size.b + size.raw + size.stat + size.work) * sizeof(float);
    b->fc_back = take(b, head * ss_conv_packed_back(&l->fc), &rc);
    b->input = take(b, n * volume(b, b->from), &rc);
    b->which = ss_alloc(n * pooled, 1);
    if (!b->which)
        rc = SS_ENOMEM;
    b->mean = take(b, head * n * (size_t)l->fc.cin, &rc);
    b->z = take(b, head * n * (size_t)l->fc.cout, &rc);
    b->norm = take(b, head * n, &rc);
    b->w = take(b, weight, &rc);
    b->dw = take(b, dw, &rc);
    b->channel = take(b, 4 * larger((size_t)l->fc.cin, (size_t)l->fc.cout), &rc);
    for (int i = 0; i < 2; i++)
        b->grad[i] = take(b, n * grad, &rc);
    return rc;
}

int ss_backprop_open_between(ss_backprop **to, ss_model *m, ss_pool *pool, int from, int until, int max_batch,
                             ss_err *e)
{
    *to = NULL;
    if (from < SS_CUT_INPUT || from >= until || until > SS_CUT_EMBEDDING || max_batch < 1)
        return ss_err_set(e, SS_EINVAL, "no training from cut %d to %d with %d windows", from, until,
                          max_batch);
    ss_backprop *b = ss_zalloc(1, sizeof *b);
    if (!b)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a network");
    static const ss_behind behind[] = {[SS_NORM_BATCH] = SS_BEHIND_AFFINE,
                                       [SS_NORM_GROUP] = SS_BEHIND_GROUP,
                                       [SS_NORM_WEIGHT] = SS_BEHIND_NOTHING};
    int rc = ss_layers_init(&b->l, m, e);
    if (rc == SS_OK) {
        b->model = m;
        b->pool = pool;
        b->behind = behind[m->config.norm];
        b->from = from;
        b->until = until;
        b->max_batch = max_batch;
        b->stale = b->stale_back = true;
        b->held = sizeof *b;
        ss_layers_range(&b->l, from, until, &b->first, &b->last);
        rc = alloc_all(b);
        if (rc < 0)
            ss_err_set(e, rc, "cannot allocate training from cut '%s' with %d windows", ss_cut_name(from),
                       max_batch);
        else if (!m->value) {
            rc = ss_packer_run(b->packer, m, b->ready, &b->fc, e);
            b->stale = false;
        }
    }
    if (rc < 0)
        ss_backprop_close(&b);
    *to = b;
    return rc;
}

int ss_backprop_open(ss_backprop **to, ss_model *m, ss_pool *pool, int from, int max_batch, ss_err *e)
{
    return ss_backprop_open_between(to, m, pool, from, SS_CUT_EMBEDDING, max_batch, e);
}

void ss_backprop_weights_changed(ss_backprop *b)
{
    b->stale = b->stale_back = true;
}

static void pack_back(ss_backprop *b)
{
    const ss_layers *l = &b->l;
    for (int i = b->first; i < b->last; i++) {
        ss_ready *r = &b->ready[i];
        ss_unit_fold(l, b->model, i, b->w, l->norm == SS_NORM_BATCH ? r->shift : r->bias, b->unit[i].row_mean,
                     b->unit[i].row_rstd);
        ss_conv_pack_back(&l->unit[i].conv, b->w, b->unit[i].back);
    }
    if (has_head(b))
        ss_conv_pack_back(&l->fc, b->model->value + l->fc_weight->offset, b->fc_back);
    b->stale_back = false;
}

static void see_statistics(ss_backprop *b, int i, int n)
{
    const ss_conv *c = &b->l.unit[i].conv;
    struct unit *u = &b->unit[i];
    float *mean = b->channel, *var = b->channel + c->cout;
    ss_channel_stats((size_t)n * (size_t)(c->oh * c->ow), c->cout, b->scratch.raw, mean, var);
    for (int o = 0; o < c->cout; o++) {
        u->sum[o] += n * (double)mean[o];
        u->square[o] += n * ((double)var[o] + (double)mean[o] * (double)mean[o]);
    }
    u->windows += n;
}

static void forward_unit(ss_backprop *b, int i, int n, const float *x, const float *add, float *y)
{
    struct unit *u = &b->unit[i];
    ss_unit_forward(&b->l.unit[i], &b->ready[i], b->pool, n, x, add, y, u->raw ? u->raw : b->scratch.raw,
                    u->stat, b->scratch.work);
    if (b->l.norm == SS_NORM_BATCH)
        see_statistics(b, i, n);
}

/* The input of block k, channels-last; of a forward from there, where it is put. */
static float *block_input(const ss_backprop *b, int k)
{
    if (b->from > SS_CUT_INPUT && k == b->from - SS_CUT_BLOCK0)
        return b->input;
    return k > 0 ? b->unit[b->l.conv2[k - 1]].out : b->unit[0].out;
}

/* Its shape; behind the last block that of the head. */
static int channels_of(const ss_layers *l, int k)
{
    return k < SS_BLOCKS ? l->unit[l->conv1[k]].conv.cin : l->fc.cin;
}

static int pixels_of(const ss_layers *l, int k)
{
    const ss_conv *c = &l->unit[l->conv1[k < SS_BLOCKS ? k : 0]].conv;
    return k < SS_BLOCKS ? c->h * c->w : l->pixels;
}

/* Block that a cut is before. */
static int block_of(int cut)
{
    return cut == SS_CUT_INPUT ? 0 : cut == SS_CUT_EMBEDDING ? SS_BLOCKS : cut - SS_CUT_BLOCK0;
}

static void forward_keep(ss_backprop *b, int from, int until, int n, const float *in, float *out)
{
    const ss_layers *l = &b->l;
    int k = block_of(from), end = block_of(until);
    if (from == SS_CUT_INPUT) {
        ss_layers_normalise(l, (size_t)n * volume(b, from), in, b->input);
        forward_unit(b, 0, n, b->input, NULL, b->scratch.b);
        ss_maxpool_forward(&l->pool, b->pool, n, b->scratch.b, b->unit[0].out, b->which);
    } else {
        ss_hwc_from_chw(n, channels_of(l, k), pixels_of(l, k), in, block_input(b, k));
    }
    for (; k < end; k++) {
        const float *x = block_input(b, k), *add = x;
        float *inner = b->unit[l->conv1[k]].out;
        forward_unit(b, l->conv1[k], n, x, NULL, inner);
        if (l->down[k] >= 0) {
            forward_unit(b, l->down[k], n, x, NULL, b->grad[0]);
            add = b->grad[0];
        }
        forward_unit(b, l->conv2[k], n, inner, add, b->unit[l->conv2[k]].out);
    }
    if (until < SS_CUT_EMBEDDING) {
        ss_chw_from_hwc(n, channels_of(l, end), pixels_of(l, end), block_input(b, end), out);
        return;
    }
    ss_avgpool_forward(n, l->pixels, l->fc.cin, block_input(b, SS_BLOCKS), b->mean);
    ss_conv_forward(&l->fc, b->pool, n, b->mean, b->fc.packed, b->fc.bias, NULL, false, b->z,
                    b->scratch.work);
    ss_l2norm_forward(n, l->fc.cout, b->z, b->z, b->norm);
    memcpy(out, b->z, (size_t)n * (size_t)l->fc.cout * sizeof(float));
}

int ss_backprop_forward_between(ss_backprop *b, int from, int until, int n, const float *in, float *out,
                                int keep)
{
    if (from < b->from || from >= until || until > b->until || n < 1 || (keep && n > b->max_batch))
        return SS_EINVAL;
    if (b->stale) {
        ss_packer_run(b->packer, b->model, b->ready, &b->fc, NULL);
        b->stale = false;
    }
    if (keep) {
        forward_keep(b, from, until, n, in, out);
        b->kept = n;
        b->kept_from = from;
        b->kept_until = until;
        return SS_OK;
    }
    for (int at = 0; at < n; at += b->max_batch) {
        int piece = n - at < b->max_batch ? n - at : b->max_batch;
        ss_layers_run(&b->l, b->ready, &b->fc, b->pool, from, until, piece, in + (size_t)at * volume(b, from),
                      out + (size_t)at * volume(b, until), &b->scratch);
    }
    return SS_OK;
}

int ss_backprop_forward(ss_backprop *b, int n, const float *in, float *z, int keep)
{
    return ss_backprop_forward_between(b, b->from, b->until, n, in, z, keep);
}

/* From the gradient at the folded weights and bias, b->dw and b->channel, to that of the parameters. */
static void unfold(ss_backprop *b, int i, float *grad)
{
    const ss_unit *u = &b->l.unit[i];
    const struct unit *t = &b->unit[i];
    size_t rows = (size_t)u->conv.cout, len = u->weight->count / rows;
    const float *w = b->model->value + u->weight->offset, *gain = b->model->value + u->gain->offset;
    float *dw = grad + u->weight->offset, *dgain = grad + u->gain->offset;
    const float *dbias = b->channel;
    float *folded = b->w, *scaled = b->channel + rows, *dscaled = b->channel + 2 * rows;
    memset(folded, 0, u->weight->count * sizeof(float));
    ss_conv_unpack_add(&u->conv, b->dw, folded);
    if (b->l.norm == SS_NORM_GROUP) {
        ss_weightnorm_backward((int)rows, (int)len, (float)len, w, NULL, t->row_mean, t->row_rstd, folded, dw,
                               NULL);
        return;
    }
    ss_axpy(rows, u->relu_gain, dbias, grad + u->bias->offset);
    if (b->l.norm == SS_NORM_WEIGHT) {
        ss_scale(rows, u->relu_gain, gain, scaled);
        memset(dscaled, 0, rows * sizeof(float));
        ss_weightnorm_backward((int)rows, (int)len, (float)len, w, scaled, t->row_mean, t->row_rstd, folded,
                               dw, dscaled);
        ss_axpy(rows, u->relu_gain, dscaled, dgain);
        return;
    }
    const float *mean = b->model->value + u->mean->offset;
    for (size_t o = 0; o < rows; o++) {
        double along = ss_dot(len, folded + o * len, w + o * len);
        dgain[o] += (float)((double)t->row_rstd[o] * (along - (double)dbias[o] * (double)mean[o]));
        ss_axpy(len, b->ready[i].scale[o], folded + o * len, dw + o * len);
    }
}

/*
 * g [n][oh][ow][cout]: gradient at what the unit puts in front of shortcut and ReLU, left as it is.
 * dx (NULL: not wanted) = gradient at the input x, plus add, 0 where gate <= 0.
 */
static void backward_unit(ss_backprop *b, int i, const float *x, const float *g, const float *add,
                          const float *gate, float *dx, float *grad)
{
    const ss_unit *u = &b->l.unit[i];
    const struct unit *t = &b->unit[i];
    int n = b->kept, groups = u->conv.cout / SS_GROUP_CHANNELS;
    float *work = b->scratch.work, *dbias = NULL, *aside = b->channel;
    if (b->l.norm == SS_NORM_GROUP) {
        ss_groupnorm_backward(b->pool, n, u->conv.oh * u->conv.ow, u->conv.cout, groups, t->raw,
                              b->ready[i].scale, t->stat, t->stat + (size_t)n * (size_t)groups, g,
                              b->scratch.b, grad ? grad + u->gain->offset : aside,
                              grad ? grad + u->bias->offset : aside + u->conv.cout, work);
        g = b->scratch.b;
    } else {
        dbias = b->channel;
        memset(dbias, 0, (size_t)u->conv.cout * sizeof(float));
    }
    if (grad) {
        memset(b->dw, 0, ss_conv_dw_size(&u->conv) * sizeof(float));
        ss_conv_dw(&u->conv, b->pool, n, x, g, b->dw, dbias, work);
        unfold(b, i, grad);
    }
    if (dx)
        ss_conv_dx(&u->conv, b->pool, n, g, t->back, add, gate, dx, work);
}

/* Through the head: dz at the normalised embedding; g at the last block's output, through its ReLU if gate.
 */
static void backward_head(ss_backprop *b, const float *dz, const float *gate, float *g, float *grad)
{
    const ss_layers *l = &b->l;
    float *dx = b->scratch.a, *mean = b->grad[1], *work = b->scratch.work;
    ss_l2norm_backward(b->kept, l->fc.cout, b->z, b->norm, dz, dx);
    if (grad) {
        memset(b->dw, 0, ss_conv_dw_size(&l->fc) * sizeof(float));
        ss_conv_dw(&l->fc, b->pool, b->kept, b->mean, dx, b->dw, grad + l->fc_bias->offset, work);
        ss_conv_unpack_add(&l->fc, b->dw, grad + l->fc_weight->offset);
    }
    ss_conv_dx(&l->fc, b->pool, b->kept, dx, b->fc_back, NULL, NULL, mean, work);
    ss_avgpool_backward(b->kept, l->pixels, l->fc.cin, mean, gate, g);
}

/* Of a cut that is the end: its gradient comes ungated, since who goes on from there knows no ReLU. */
static void backward_cut(ss_backprop *b, int k, const float *dout, float *g)
{
    int channels = channels_of(&b->l, k), pixels = pixels_of(&b->l, k);
    ss_hwc_from_chw(b->kept, channels, pixels, dout, g);
    ss_relu_backward((size_t)b->kept * (size_t)channels * (size_t)pixels, block_input(b, k), g, g);
}

int ss_backprop_backward(ss_backprop *b, const float *dout, float *grad, float *din)
{
    const ss_layers *l = &b->l;
    const int n = b->kept, from = b->kept_from, first = block_of(from), end = block_of(b->kept_until);
    float *g = b->grad[0], *inner = b->grad[1], *dx = b->scratch.a;
    if (n == 0 || !b->model->value)
        return SS_EINVAL;
    if (b->stale_back)
        pack_back(b);
    /* What enters from outside carries its gradient ungated: its ReLU is on the other side. */
    if (b->kept_until == SS_CUT_EMBEDDING)
        backward_head(b, dout, first < SS_BLOCKS ? block_input(b, SS_BLOCKS) : NULL, g, grad);
    else
        backward_cut(b, end, dout, g);

    for (int k = end - 1; k >= first; k--) {
        const float *x = block_input(b, k), *add = g;
        const float *gate = k == first && from > SS_CUT_INPUT ? NULL : x;
        const float *between = b->unit[l->conv1[k]].out;
        bool want = din || from == SS_CUT_INPUT || k > first;
        backward_unit(b, l->conv2[k], between, g, NULL, between, inner, grad);
        if (l->down[k] >= 0) {
            backward_unit(b, l->down[k], x, g, NULL, NULL, want ? dx : NULL, grad);
            add = dx;
        }
        backward_unit(b, l->conv1[k], x, inner, add, gate, want ? dx : NULL, grad);
        float *swap = g;
        g = dx;
        dx = swap;
    }
    if (from == SS_CUT_INPUT) {
        const ss_conv *stem = &l->unit[0].conv;
        /* Where the pooled value is above 0 the ReLU was open at the winning place: the gate has been
         * applied. */
        ss_maxpool_backward(&l->pool, b->pool, n, g, b->which, NULL, b->scratch.b);
        backward_unit(b, 0, b->input, b->scratch.b, NULL, NULL, din, grad);
        if (din)
            ss_scale((size_t)n * inputs(stem), l->input_scale, din, din);
    } else if (din) {
        ss_chw_from_hwc(n, channels_of(l, first), pixels_of(l, first), g, din);
    }
    b->kept = 0;
    return SS_OK;
}

void ss_backprop_update_statistics(ss_backprop *b, float momentum)
{
    if (b->l.norm != SS_NORM_BATCH || !b->model->value)
        return;
    for (int i = b->first; i < b->last; i++) {
        const ss_unit *u = &b->l.unit[i];
        struct unit *t = &b->unit[i];
        if (t->windows <= 0)
            continue;
        float *mean = b->model->value + u->mean->offset, *var = b->model->value + u->var->offset;
        for (int o = 0; o < u->conv.cout; o++) {
            double m = t->sum[o] / t->windows, v = t->square[o] / t->windows - m * m;
            mean[o] += momentum * ((float)m - mean[o]);
            var[o] += momentum * ((float)(v > 0 ? v : 0) - var[o]);
            t->sum[o] = t->square[o] = 0;
        }
        t->windows = 0;
        b->stale = b->stale_back = true;
    }
}

size_t ss_backprop_memory(const ss_backprop *b)
{
    return b->held;
}

void ss_backprop_close(ss_backprop **to)
{
    ss_backprop *b = *to;
    if (!b)
        return;
    for (int i = 0; i < SS_UNITS; i++) {
        struct unit *u = &b->unit[i];
        float *owned[] = {u->back, u->out, u->raw, u->stat};
        for (size_t j = 0; j < sizeof owned / sizeof *owned; j++)
            ss_free(owned[j]);
        ss_free(u->sum);
    }
    float *owned[] = {b->fc_back, b->input, b->mean,    b->z,       b->norm,
                      b->w,       b->dw,    b->channel, b->grad[0], b->grad[1]};
    for (size_t j = 0; j < sizeof owned / sizeof *owned; j++)
        ss_free(owned[j]);
    ss_free(b->which);
    ss_free(b->packed);
    ss_packer_close(&b->packer);
    ss_scratch_free(&b->scratch);
    ss_free(b);
    *to = NULL;
}
