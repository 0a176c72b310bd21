#include "nn/layers_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static int find(const ss_model *m, const char *layer, const char *part, int rank, const uint32_t *dim,
                const ss_param **to, ss_err *e)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    *to = ss_model_find(m, name);
    if (!*to)
        return ss_err_set(e, SS_EUNFIT, "model without parameter '%s'", name);
    if ((*to)->rank != rank || memcmp((*to)->dim, dim, (size_t)rank * sizeof *dim))
        return ss_err_set(e, SS_EUNFIT, "parameter '%s' has another shape than its layer", name);
    return SS_OK;
}

static int add_unit(ss_layers *l, const ss_model *m, const char *conv, const char *norm, ss_unit u, ss_err *e)
{
    const uint32_t shape[4] = {(uint32_t)u.conv.cout, (uint32_t)u.conv.cin, (uint32_t)u.conv.kh,
                               (uint32_t)u.conv.kw};
    int rc = find(m, conv, "weight", 4, shape, &u.weight, e);
    if (rc == SS_OK)
        rc = find(m, norm, "weight", 1, shape, &u.gain, e);
    if (rc == SS_OK)
        rc = find(m, norm, "bias", 1, shape, &u.bias, e);
    if (rc == SS_OK && l->norm == SS_NORM_BATCH) {
        rc = find(m, norm, "running_mean", 1, shape, &u.mean, e);
        if (rc == SS_OK)
            rc = find(m, norm, "running_var", 1, shape, &u.var, e);
    }
    ss_conv_plan(&u.conv);
    l->unit[l->nunit++] = u;
    return rc;
}

static int add_block(ss_layers *l, const ss_model *m, int k, int h, int w, float gain, ss_err *e)
{
    ss_block b = ss_model_block(&m->config, k);
    char conv[48], norm[48];
    snprintf(conv, sizeof conv, "layer%d.%d.conv1", k / 2 + 1, k % 2);
    snprintf(norm, sizeof norm, "layer%d.%d.bn1", k / 2 + 1, k % 2);
    ss_unit u = {.relu = true, .relu_gain = gain};
    l->conv1[k] = l->nunit;
    int rc = ss_conv_init(&u.conv, b.in, h, w, b.out, 3, 3, b.stride, 1);
    int oh = u.conv.oh, ow = u.conv.ow;
    if (rc == SS_OK)
        rc = add_unit(l, m, conv, norm, u, e);
    l->down[k] = -1;
    if (rc == SS_OK && b.downsample) {
        snprintf(conv, sizeof conv, "layer%d.%d.downsample.0", k / 2 + 1, k % 2);
        snprintf(norm, sizeof norm, "layer%d.%d.downsample.1", k / 2 + 1, k % 2);
        u = (ss_unit){.relu = false, .relu_gain = gain};
        l->down[k] = l->nunit;
        rc = ss_conv_init(&u.conv, b.in, h, w, b.out, 1, 1, b.stride, 0);
        if (rc == SS_OK)
            rc = add_unit(l, m, conv, norm, u, e);
    }
    if (rc == SS_OK) {
        snprintf(conv, sizeof conv, "layer%d.%d.conv2", k / 2 + 1, k % 2);
        snprintf(norm, sizeof norm, "layer%d.%d.bn2", k / 2 + 1, k % 2);
        u = (ss_unit){.relu = true, .relu_gain = b.downsample ? gain : 1.0f};
        l->conv2[k] = l->nunit;
        rc = ss_conv_init(&u.conv, b.out, oh, ow, b.out, 3, 3, 1, 1);
        if (rc == SS_OK)
            rc = add_unit(l, m, conv, norm, u, e);
    }
    return rc;
}

int ss_layers_init(ss_layers *l, const ss_model *m, ss_err *e)
{
    const ss_model_config *c = &m->config;
    const float gain = c->norm == SS_NORM_WEIGHT ? SS_RELU_GAIN : 1.0f;
    memset(l, 0, sizeof *l);
    int rc = ss_model_config_check(c, e);
    if (rc < 0)
        return rc;
    l->norm = c->norm;
    l->input_mean = c->input_mean;
    l->input_scale = c->input_scale;
    ss_unit stem = {.relu = true, .relu_gain = gain};
    rc = ss_conv_init(&stem.conv, 1, c->mels, c->frames, c->width, 7, 7, 2, 3);
    if (rc == SS_OK)
        rc = ss_maxpool_init(&l->pool, c->width, stem.conv.oh, stem.conv.ow, 3, 2, 1);
    if (rc < 0)
        return ss_err_set(e, SS_EUNFIT, "a window of %d x %d is too small", c->mels, c->frames);
    rc = add_unit(l, m, "conv1", "bn1", stem, e);
    int h = l->pool.oh, w = l->pool.ow;
    for (int k = 0; k < SS_BLOCKS && rc == SS_OK; k++) {
        rc = add_block(l, m, k, h, w, gain, e);
        h = l->unit[l->nunit - 1].conv.oh;
        w = l->unit[l->nunit - 1].conv.ow;
    }
    if (rc < 0)
        return rc;
    int channels = l->unit[l->nunit - 1].conv.cout;
    l->pixels = h * w;
    rc = ss_conv_linear(&l->fc, channels, c->dim);
    const uint32_t shape[2] = {(uint32_t)c->dim, (uint32_t)channels};
    if (rc == SS_OK)
        rc = find(m, "fc", "weight", 2, shape, &l->fc_weight, e);
    if (rc == SS_OK)
        rc = find(m, "fc", "bias", 1, shape, &l->fc_bias, e);
    return rc;
}

void ss_layers_half(ss_layers *l)
{
    l->half = true;
    for (int i = 0; i < l->nunit; i++)
        l->unit[i].conv.half = ss_conv_may_half(&l->unit[i].conv);
    l->fc.half = true;
}

void ss_layers_range(const ss_layers *l, int from, int until, int *first, int *last)
{
    /* A cut after block k begins at that block's first unit. */
    int at[2];
    for (int i = 0; i < 2; i++) {
        int cut = i ? until : from, k = cut - SS_CUT_BLOCK0;
        at[i] = cut == SS_CUT_INPUT ? 0 : k >= SS_BLOCKS ? l->nunit : l->conv1[k];
    }
    *first = at[0];
    *last = at[1];
}

static size_t inputs(const ss_conv *c)
{
    return (size_t)c->cin * (size_t)c->h * (size_t)c->w;
}

static size_t outputs(const ss_conv *c)
{
    return (size_t)c->cout * (size_t)c->oh * (size_t)c->ow;
}

static size_t weights(const ss_conv *c)
{
    return (size_t)c->cout * (size_t)c->cin * (size_t)c->kh * (size_t)c->kw;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t ss_layers_weight_max(const ss_layers *l)
{
    size_t max = weights(&l->fc);
    for (int i = 0; i < l->nunit; i++)
        max = larger(max, weights(&l->unit[i].conv));
    return max;
}

void ss_unit_fold_rows(const ss_layers *l, int unit, const ss_unit_rows *r, int first, int n,
                       const float *from, float *w, float *bias, float *row_mean, float *row_rstd)
{
    const ss_unit *u = &l->unit[unit];
    size_t row = weights(&u->conv) / (size_t)u->conv.cout;
    if (l->norm == SS_NORM_BATCH) {
        for (int o = first; o < first + n; o++, from += row, w += row) {
            row_rstd[o] = 1.0f / sqrtf(r->var[o] + SS_NORM_EPS);
            float k = r->gain[o] * row_rstd[o];
            ss_scale(row, k, from, w);
            bias[o] = r->bias[o] - r->mean[o] * k;
        }
        return;
    }
    row_mean += first;
    row_rstd += first;
    if (l->norm == SS_NORM_GROUP) {
        ss_weightnorm_forward(n, (int)row, (float)row, SS_WEIGHT_EPS, from, NULL, w, row_mean, row_rstd);
    } else {
        /* bias holds the gain until the weights are done */
        bias += first;
        ss_scale((size_t)n, u->relu_gain, r->gain + first, bias);
        ss_weightnorm_forward(n, (int)row, (float)row, SS_WEIGHT_EPS, from, bias, w, row_mean, row_rstd);
        ss_scale((size_t)n, u->relu_gain, r->bias + first, bias);
    }
}

void ss_unit_fold(const ss_layers *l, const ss_model *m, int unit, float *w, float *bias, float *row_mean,
                  float *row_rstd)
{
    const ss_unit *u = &l->unit[unit];
    const ss_unit_rows r = {m->value + u->gain->offset, m->value + u->bias->offset,
                            u->mean ? m->value + u->mean->offset : NULL,
                            u->var ? m->value + u->var->offset : NULL};
    ss_unit_fold_rows(l, unit, &r, 0, u->conv.cout, m->value + u->weight->offset, w, bias, row_mean,
                      row_rstd);
}

void ss_unit_forward(const ss_unit *u, const ss_ready *r, ss_pool *pool, int n, const float *x,
                     const float *add, float *y, float *raw, float *stat, float *work)
{
    const ss_conv *c = &u->conv;
    if (r->behind == SS_BEHIND_NOTHING) {
        ss_conv_forward(c, pool, n, x, r->packed, r->bias, add, u->relu, y, work);
        return;
    }
    ss_conv_forward(c, pool, n, x, r->packed, NULL, NULL, false, raw, work);
    int pixels = c->oh * c->ow;
    if (r->behind == SS_BEHIND_AFFINE) {
        ss_affine((size_t)n * (size_t)pixels, c->cout, raw, r->scale, r->shift, add, u->relu, y);
    } else {
        int groups = c->cout / SS_GROUP_CHANNELS;
        ss_groupnorm_forward(pool, n, pixels, c->cout, groups, SS_NORM_EPS, raw, r->scale, r->shift, add,
                             u->relu, y, stat, stat + (size_t)n * (size_t)groups, work);
    }
}

ss_scratch_size ss_layers_scratch(const ss_layers *l, int from, int until, int n, const ss_pool *pool,
                                  bool folded)
{
    ss_scratch_size s = {0};
    int first, last;
    ss_layers_range(l, from, until, &first, &last);
    for (int i = first; i < last; i++) {
        const ss_conv *c = &l->unit[i].conv;
        s.a = larger(s.a, inputs(c));
        s.b = larger(s.b, outputs(c));
        s.work = larger(s.work, ss_conv_work(c, n, pool));
        if (!folded) {
            s.raw = larger(s.raw, outputs(c));
            s.work = larger(s.work, 6 * (size_t)n * (size_t)c->cout); /* group norm */
            s.stat = larger(s.stat, 2 * (size_t)(c->cout / SS_GROUP_CHANNELS));
        }
    }
    for (int k = 0; k < SS_BLOCKS; k++) /* first convolution and shortcut side by side */
        if (l->down[k] >= first && l->down[k] < last)
            s.b = larger(s.b, 2 * outputs(&l->unit[l->down[k]].conv));
    if (from == SS_CUT_INPUT && until > SS_CUT_INPUT)
        s.a = larger(s.a, (size_t)l->pool.c * (size_t)l->pool.oh * (size_t)l->pool.ow);
    if (until == SS_CUT_EMBEDDING) {
        s.a = larger(s.a, larger((size_t)l->fc.cout, (size_t)l->fc.cin * (size_t)l->pixels));
        s.b = larger(s.b, (size_t)l->fc.cin);
        s.work = larger(s.work, ss_conv_work(&l->fc, n, pool));
    }
    s.a *= (size_t)n;
    s.b *= (size_t)n;
    s.raw *= (size_t)n;
    s.stat *= (size_t)n;
    return s;
}

int ss_scratch_alloc(ss_scratch *s, const ss_scratch_size *size, bool whole)
{
    void *(*alloc)(size_t, size_t) = whole ? ss_alloc_whole : ss_alloc;
    s->a = alloc(size->a, sizeof(float));
    s->b = alloc(size->b, sizeof(float));
    s->raw = ss_alloc(size->raw, sizeof(float));
    s->stat = ss_alloc(size->stat, sizeof(float));
    s->work = ss_alloc(size->work, sizeof(float));
    return s->a && s->b && s->raw && s->stat && s->work ? SS_OK : SS_ENOMEM;
}

void ss_scratch_free(ss_scratch *s)
{
    ss_free(s->a);
    ss_free(s->b);
    ss_free(s->raw);
    ss_free(s->stat);
    ss_free(s->work);
    memset(s, 0, sizeof *s);
}

void ss_layers_normalise(const ss_layers *l, size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - l->input_mean) * l->input_scale;
}

void ss_layers_run(const ss_layers *l, const ss_ready *ready, const ss_ready *fc, ss_pool *pool, int from,
                   int until, int n, const float *in, float *out, const ss_scratch *s)
{
    if (from == SS_CUT_INPUT) {
        const ss_unit *stem = &l->unit[0];
        ss_layers_normalise(l, (size_t)n * inputs(&stem->conv), in, s->a);
        ss_unit_forward(stem, &ready[0], pool, n, s->a, NULL, s->b, s->raw, s->stat, s->work);
        ss_maxpool_forward(&l->pool, pool, n, s->b, s->a, NULL);
        from = SS_CUT_BLOCK0;
    } else {
        int next = from - SS_CUT_BLOCK0; /* block that takes it, or the head */
        int channels = next < SS_BLOCKS ? l->unit[l->conv1[next]].conv.cin : l->fc.cin;
        int pixels =
            next < SS_BLOCKS ? l->unit[l->conv1[next]].conv.h * l->unit[l->conv1[next]].conv.w : l->pixels;
        ss_hwc_from_chw(n, channels, pixels, in, s->a);
    }
    int channels = l->pool.c, pixels = l->pool.oh * l->pool.ow;
    for (int k = from - SS_CUT_BLOCK0; k < until - SS_CUT_BLOCK0 && k < SS_BLOCKS; k++) {
        const ss_unit *one = &l->unit[l->conv1[k]], *two = &l->unit[l->conv2[k]];
        const float *add = s->a;
        ss_unit_forward(one, &ready[l->conv1[k]], pool, n, s->a, NULL, s->b, s->raw, s->stat, s->work);
        if (l->down[k] >= 0) {
            float *shortcut = s->b + (size_t)n * outputs(&one->conv);
            ss_unit_forward(&l->unit[l->down[k]], &ready[l->down[k]], pool, n, s->a, NULL, shortcut, s->raw,
                            s->stat, s->work);
            add = shortcut;
        }
        ss_unit_forward(two, &ready[l->conv2[k]], pool, n, s->b, add, s->a, s->raw, s->stat, s->work);
        channels = two->conv.cout;
        pixels = two->conv.oh * two->conv.ow;
    }
    if (until < SS_CUT_EMBEDDING) {
        ss_chw_from_hwc(n, channels, pixels, s->a, out);
        return;
    }
    ss_avgpool_forward(n, l->pixels, l->fc.cin, s->a, s->b);
    ss_conv_forward(&l->fc, pool, n, s->b, fc->packed, fc->bias, NULL, false, s->a, s->work);
    ss_l2norm_forward(n, l->fc.cout, s->a, out, NULL);
}
