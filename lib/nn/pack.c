#include "nn/pack_internal.h"

#include <string.h>

#include "base/mem.h"
#include "nn/model_internal.h"

#define PANEL 16

typedef struct task {
    int unit, first, rows;
} task;

typedef struct failure {
    int task; /* -1: none */
    ss_err e;
} failure;

struct ss_packer {
    const ss_layers *l;
    ss_pool *pool;
    ss_behind behind;
    ss_unit_set set;
    task *task;
    int ntask, threads;
    ss_model_seen *seen; /* [ntask] */
    failure *failed;     /* [threads] */
    float *panel;        /* [threads][panel_each] */
    size_t panel_each;
    float *vectors; /* what of one value a channel is read or computed */
    size_t nvectors;
    ss_unit_rows rows[SS_UNITS];
    float *row_mean[SS_UNITS], *row_rstd[SS_UNITS], *room[SS_UNITS + 1];
    /* of a run */
    const ss_model *m;
    ss_ready *unit, *fc;
};

/* Floats that the packed weights take. */
static size_t packed(const ss_conv *c)
{
    return (ss_conv_packed(c) + sizeof(float) - 1) / sizeof(float);
}

/* Output channels first .. first + rows - 1, a panel, from their weights to their place. */
static void pack_panel(const ss_conv *c, int first, int rows, const float *weights, void *to)
{
    size_t panels = ((size_t)c->cout + PANEL - 1) / PANEL;
    ss_conv one = *c;
    one.cout = rows;
    ss_conv_pack(&one, weights, (char *)to + (size_t)(first / PANEL) * (ss_conv_packed(c) / panels));
}

static size_t aligned(size_t floats)
{
    const size_t a = SS_ALIGN / sizeof(float);
    return (floats + a - 1) / a * a;
}

static const ss_conv *conv_of(const ss_layers *l, int unit)
{
    return unit < l->nunit ? &l->unit[unit].conv : &l->fc;
}

static const ss_param *weight_of(const ss_layers *l, int unit)
{
    return unit < l->nunit ? l->unit[unit].weight : l->fc_weight;
}

static size_t row_of(const ss_param *p)
{
    return p->count / p->dim[0];
}

int ss_pack_place(const ss_layers *l, ss_behind behind, const ss_unit_set set, ss_ready *unit, ss_ready *fc,
                  float **block, size_t *floats)
{
    *floats = 0;
    for (int i = 0; i <= l->nunit; i++)
        if (set[i])
            *floats += aligned(packed(conv_of(l, i))) + 2 * aligned((size_t)conv_of(l, i)->cout);
    float *p = *block = ss_alloc_whole(*floats, sizeof *p);
    if (!p)
        return SS_ENOMEM;
    for (int i = 0; i <= l->nunit; i++) {
        ss_ready *r = i < l->nunit ? &unit[i] : fc;
        size_t cout = aligned((size_t)conv_of(l, i)->cout);
        if (!set[i])
            continue;
        *r = (ss_ready){.behind = i < l->nunit ? behind : SS_BEHIND_NOTHING, .packed = p};
        p += aligned(packed(conv_of(l, i)));
        if (r->behind == SS_BEHIND_NOTHING) {
            r->bias = p;
        } else {
            r->scale = p;
            r->shift = p + cout;
        }
        p += 2 * cout;
    }
    return SS_OK;
}

int ss_packer_open(ss_packer **to, const ss_layers *l, ss_pool *pool, ss_behind behind, const ss_unit_set set,
                   ss_err *e)
{
    size_t row = 0, tasks = 0;
    ss_packer *p = *to = ss_zalloc(1, sizeof *p);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate room for packing weights");
    p->l = l;
    p->pool = pool;
    p->behind = behind;
    p->threads = ss_pool_threads(pool);
    memcpy(p->set, set, sizeof p->set);
    for (int i = 0; i <= l->nunit; i++) {
        const ss_param *w = weight_of(l, i);
        if (!set[i])
            continue;
        row = row_of(w) > row ? row_of(w) : row;
        tasks += (w->dim[0] + PANEL - 1) / PANEL;
        p->nvectors += (i < l->nunit ? 6 : 1) * w->dim[0];
    }
    p->panel_each = aligned(PANEL * row);
    p->panel = ss_alloc_whole((size_t)p->threads * p->panel_each, sizeof(float));
    p->vectors = ss_alloc(p->nvectors, sizeof(float));
    p->task = ss_alloc(tasks, sizeof *p->task);
    p->seen = ss_alloc(tasks, sizeof *p->seen);
    p->failed = ss_alloc((size_t)p->threads, sizeof *p->failed);
    if (!p->panel || !p->vectors || !p->task || !p->seen || !p->failed) {
        ss_packer_close(to);
        return ss_err_set(e, SS_ENOMEM, "cannot allocate room for packing weights");
    }
    float *next = p->vectors;
    for (int i = 0; i <= l->nunit; i++) {
        int cout = conv_of(l, i)->cout;
        if (!set[i])
            continue;
        for (int k = 0; k < cout; k += PANEL)
            p->task[p->ntask++] = (task){i, k, cout - k < PANEL ? cout - k : PANEL};
        p->room[i] = next;
        if (i < l->nunit) {
            p->row_mean[i] = next + 4 * cout;
            p->row_rstd[i] = next + 5 * cout;
        }
        next += (i < l->nunit ? 6 : 1) * cout;
    }
    return SS_OK;
}

float *ss_packer_row_mean(const ss_packer *p, int unit)
{
    return p->row_mean[unit];
}

float *ss_packer_row_rstd(const ss_packer *p, int unit)
{
    return p->row_rstd[unit];
}

size_t ss_packer_memory(const ss_packer *p)
{
    return ((size_t)p->threads * p->panel_each + p->nvectors) * sizeof(float) +
           (size_t)p->ntask * (sizeof *p->task + sizeof *p->seen) + sizeof *p;
}

void ss_packer_close(ss_packer **to)
{
    ss_packer *p = *to;
    if (!p)
        return;
    ss_free(p->panel);
    ss_free(p->vectors);
    ss_free(p->task);
    ss_free(p->seen);
    ss_free(p->failed);
    ss_free(p);
    *to = NULL;
}

/* Through f16 and back, in place; false: a weight is too large for it. */
static bool round_half(size_t n, float *w)
{
    uint16_t half[256];
    if (ss_max_abs(n, w) > 65504.0f)
        return false;
    for (size_t i = 0; i < n; i += 256) {
        size_t some = n - i < 256 ? n - i : 256;
        ss_f16_from_f32(some, w + i, half);
        ss_f32_from_f16(some, half, w + i);
    }
    return true;
}

static void fail(ss_packer *p, int i, int thread, const ss_err *e)
{
    failure *f = &p->failed[thread];
    if (f->task < 0 || i < f->task)
        *f = (failure){i, *e};
}

static void run_task(void *arg, int i, int thread)
{
    ss_packer *p = arg;
    const task *t = &p->task[i];
    const ss_param *weight = weight_of(p->l, t->unit);
    const ss_conv *c = conv_of(p->l, t->unit);
    const int first = t->first;
    float *w = p->panel + (size_t)thread * p->panel_each;
    const float *from;
    ss_err e;
    if (ss_model_part(p->m, weight, (size_t)first, (size_t)t->rows, w, &from, &p->seen[i], &e) < 0) {
        fail(p, i, thread, &e);
        return;
    }
    if (t->unit == p->l->nunit) {
        pack_panel(c, first, t->rows, from, p->fc->packed);
        return;
    }
    ss_ready *r = &p->unit[t->unit];
    const ss_unit_rows *v = &p->rows[t->unit];
    bool bare = p->behind == SS_BEHIND_AFFINE;
    if (bare)
        pack_panel(c, first, t->rows, from, r->packed);
    ss_unit_fold_rows(p->l, t->unit, v, first, t->rows, from, w, bare ? r->shift : r->bias,
                      p->row_mean[t->unit], p->row_rstd[t->unit]);
    if (p->l->half && !round_half((size_t)t->rows * row_of(weight), w)) {
        ss_err_set(&e, SS_EUNFIT, "a weight of '%s' is too large for f16 once its norm is folded in",
                   weight->name);
        fail(p, i, thread, &e);
        return;
    }
    if (!bare)
        pack_panel(c, first, t->rows, w, r->packed);
    for (int o = first; bare && o < first + t->rows; o++)
        r->scale[o] = v->gain[o] * p->row_rstd[t->unit][o];
}

static int vector(const ss_model *m, const ss_param *p, float *room, const float **at, ss_err *e)
{
    ss_model_seen seen;
    int rc = ss_model_part(m, p, 0, p->dim[0], room, at, &seen, e);
    return rc < 0 ? rc : ss_model_expect(m, p, &seen, e);
}

int ss_unit_vectors(const ss_layers *l, const ss_model *m, int unit, float *room, ss_unit_rows *r, ss_err *e)
{
    const ss_unit *u = &l->unit[unit];
    const ss_param *param[4] = {u->gain, u->bias, u->mean, u->var};
    const float **at[4] = {&r->gain, &r->bias, &r->mean, &r->var};
    int rc = SS_OK;
    for (int i = 0; i < 4 && rc == SS_OK; i++)
        if (param[i])
            rc = vector(m, param[i], room + (size_t)i * (size_t)u->conv.cout, at[i], e);
    return rc;
}

static int vectors(ss_packer *p, int unit, ss_err *e)
{
    const ss_layers *l = p->l;
    size_t cout = (size_t)conv_of(l, unit)->cout;
    float *room = p->room[unit];
    int rc = SS_OK;
    if (unit == l->nunit) {
        const float *bias;
        rc = vector(p->m, l->fc_bias, room, &bias, e);
        if (rc == SS_OK)
            memcpy(p->fc->bias, bias, cout * sizeof(float));
        return rc;
    }
    ss_unit_rows *r = &p->rows[unit];
    rc = ss_unit_vectors(l, p->m, unit, room, r, e);
    if (rc == SS_OK && p->behind == SS_BEHIND_GROUP) {
        memcpy(p->unit[unit].scale, r->gain, cout * sizeof(float));
        memcpy(p->unit[unit].shift, r->bias, cout * sizeof(float));
    }
    return rc;
}

static int verify(const ss_packer *p, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0, k; i < p->ntask && rc == SS_OK; i = k) {
        const ss_param *w = weight_of(p->l, p->task[i].unit);
        ss_model_seen all = p->seen[i];
        for (k = i + 1; k < p->ntask && p->task[k].unit == p->task[i].unit; k++)
            all = ss_model_seen_join(all, p->seen[k], (size_t)p->task[k].rows * row_of(w));
        rc = ss_model_expect(p->m, w, &all, e);
    }
    return rc;
}

int ss_packer_run(ss_packer *p, const ss_model *m, ss_ready *unit, ss_ready *fc, ss_err *e)
{
    int rc = SS_OK;
    p->m = m;
    p->unit = unit;
    p->fc = fc;
    for (int i = 0; i <= p->l->nunit && rc == SS_OK; i++)
        if (p->set[i])
            rc = vectors(p, i, e);
    if (rc < 0)
        return rc;
    for (int i = 0; i < p->threads; i++)
        p->failed[i].task = -1;
    ss_pool_run(p->pool, p->ntask, run_task, p);
    const failure *first = NULL;
    for (int i = 0; i < p->threads; i++)
        if (p->failed[i].task >= 0 && (!first || p->failed[i].task < first->task))
            first = &p->failed[i];
    if (first) {
        if (e)
            *e = first->e;
        return first->e.code;
    }
    return m->value ? SS_OK : verify(p, e);
}
