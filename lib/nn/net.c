#include "nn/net.h"

#include <string.h>

#include "base/mem.h"
#include "nn/layers_internal.h"
#include "nn/model_internal.h"

/* Windows that go through the layers together: enough rows for the small last layers, few enough that the
 * activations of the first ones stay in the cache. No result depends on it. */
#define PIECE 8

#define PANEL                                                                                                \
    16 /* output channels whose weights are packed at a time: they stay in the cache from file to place */
#define BLOCKS (SS_UNITS + 1) /* each makes at least one unit ready */

struct ss_net {
    ss_layers layers; /* its parameters are looked at in ss_net_open and ss_net_widen only */
    ss_model_config config;
    ss_pool *pool;
    ss_behind behind;
    int from, until, piece, lanes;
    ss_ready unit[SS_UNITS], fc; /* what is ready has `packed`; all lies in the blocks */
    float *block[BLOCKS];
    int nblock;
    size_t floats; /* in the blocks */
    ss_scratch_size size;
    ss_scratch *lane;
};

static size_t volume(const ss_model_config *c, int cut)
{
    uint32_t dim[3];
    ss_model_cut_shape(c, cut, dim);
    return (size_t)dim[0] * dim[1] * dim[2];
}

/* ---- weights ---- */

/* A panel of a unit, or of fc, whose number is that behind the last unit. */
typedef struct task {
    int unit, first, rows;
} task;

typedef struct failure {
    int task;
    ss_err e;
} failure;

typedef struct packing {
    ss_net *net;
    const ss_model *m;
    ss_unit_rows rows[SS_UNITS];
    float *row_mean[SS_UNITS], *row_rstd[SS_UNITS];
    task *task;
    int ntask;
    ss_model_seen *seen; /* [ntask] */
    float *raw;          /* of each thread */
    size_t raw_each;
    failure *failed; /* [threads] */
    float *vectors, *next;
} packing;

static size_t aligned(size_t floats)
{
    const size_t a = SS_ALIGN / sizeof(float);
    return (floats + a - 1) / a * a;
}

static const ss_conv *conv_of(const ss_net *n, int unit)
{
    return unit < n->layers.nunit ? &n->layers.unit[unit].conv : &n->layers.fc;
}

static ss_ready *ready_of(ss_net *n, int unit)
{
    return unit < n->layers.nunit ? &n->unit[unit] : &n->fc;
}

static const ss_param *weight_of(const ss_net *n, int unit)
{
    return unit < n->layers.nunit ? n->layers.unit[unit].weight : n->layers.fc_weight;
}

static ss_behind behind_of(const ss_net *n, int unit)
{
    return unit < n->layers.nunit ? n->behind : SS_BEHIND_NOTHING;
}

/* Units from one cut to another, fc among them where the range ends with it. */
static void range_of(const ss_net *n, int from, int until, int *first, int *last)
{
    ss_layers_range(&n->layers, from, until, first, last);
    if (from < until && until == SS_CUT_EMBEDDING)
        ++*last;
}

static void pack_panel(void *arg, int i, int thread)
{
    packing *j = arg;
    const task *t = &j->task[i];
    const ss_layers *l = &j->net->layers;
    const ss_param *p = weight_of(j->net, t->unit);
    ss_ready *r = ready_of(j->net, t->unit);
    const size_t row = p->count / p->dim[0];
    float *w = j->raw + (size_t)thread * j->raw_each;
    const float *from = w;
    ss_err e;
    if (j->m->value) {
        from = j->m->value + p->offset + (size_t)t->first * row;
    } else if (ss_model_rows(j->m, p, (size_t)t->first, (size_t)t->rows, w, &j->seen[i], &e) < 0) {
        failure *f = &j->failed[thread];
        if (f->task < 0 || i < f->task)
            *f = (failure){i, e};
        return;
    }
    if (t->unit < l->nunit) {
        ss_unit_fold_rows(l, t->unit, &j->rows[t->unit], t->first, t->rows, from, w, r->bias,
                          j->row_mean[t->unit], j->row_rstd[t->unit]);
        from = w;
    }
    ss_conv c = *conv_of(j->net, t->unit);
    size_t panels = ((size_t)c.cout + PANEL - 1) / PANEL, each = ss_conv_packed(&c) / panels;
    c.cout = t->rows;
    ss_conv_pack(&c, from, (char *)r->packed + (size_t)t->first / PANEL * each);
}

/* A parameter of one value a channel: where it lies, or read to where there is room. */
static int vector(packing *j, const ss_param *p, const float **to, ss_err *e)
{
    if (j->m->value) {
        *to = j->m->value + p->offset;
        return SS_OK;
    }
    ss_model_seen seen;
    int rc = ss_model_rows(j->m, p, 0, p->dim[0], j->next, &seen, e);
    if (rc == SS_OK)
        rc = ss_model_expect(j->m, p, &seen, e);
    *to = j->next;
    j->next += p->count;
    return rc;
}

static int vectors(packing *j, int unit, ss_err *e)
{
    const ss_layers *l = &j->net->layers;
    ss_ready *r = ready_of(j->net, unit);
    size_t bytes = (size_t)conv_of(j->net, unit)->cout * sizeof(float);
    const float *v = NULL;
    int rc;
    if (unit == l->nunit) {
        rc = vector(j, l->fc_bias, &v, e);
        if (rc == SS_OK)
            memcpy(r->bias, v, bytes);
        return rc;
    }
    const ss_unit *u = &l->unit[unit];
    ss_unit_rows *rows = &j->rows[unit];
    rc = vector(j, u->gain, &rows->gain, e);
    if (rc == SS_OK)
        rc = vector(j, u->bias, &rows->bias, e);
    if (rc == SS_OK && u->mean)
        rc = vector(j, u->mean, &rows->mean, e);
    if (rc == SS_OK && u->var)
        rc = vector(j, u->var, &rows->var, e);
    if (rc == SS_OK && j->net->behind == SS_BEHIND_GROUP) {
        memcpy(r->scale, rows->gain, bytes);
        memcpy(r->shift, rows->bias, bytes);
    }
    j->row_mean[unit] = j->next;
    j->row_rstd[unit] = j->next + u->conv.cout;
    j->next += 2 * u->conv.cout;
    return rc;
}

static int verify(const packing *j, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0, k; i < j->ntask && rc == SS_OK; i = k) {
        const ss_param *p = weight_of(j->net, j->task[i].unit);
        ss_model_seen all = j->seen[i];
        for (k = i + 1; k < j->ntask && j->task[k].unit == j->task[i].unit; k++)
            all = ss_model_seen_join(all, j->seen[k], (size_t)j->task[k].rows * (p->count / p->dim[0]));
        rc = ss_model_expect(j->m, p, &all, e);
    }
    return rc;
}

static int pack(packing *j, ss_err *e)
{
    int threads = ss_pool_threads(j->net->pool), first = -1;
    for (int i = 0; i < threads; i++)
        j->failed[i].task = -1;
    ss_pool_run(j->net->pool, j->ntask, pack_panel, j);
    for (int i = 0; i < threads; i++)
        if (j->failed[i].task >= 0 && (first < 0 || j->failed[i].task < j->failed[first].task))
            first = i;
    if (first < 0)
        return j->m->value ? SS_OK : verify(j, e);
    if (e)
        *e = j->failed[first].e;
    return j->failed[first].e.code;
}

/* Room for the units first..last - 1 that have none yet, out of one block. */
static int place(ss_net *n, int first, int last, bool fresh[SS_UNITS + 1])
{
    size_t floats = 0;
    for (int i = first; i < last; i++)
        if ((fresh[i] = !ready_of(n, i)->packed))
            floats += aligned((ss_conv_packed(conv_of(n, i)) + 3) / sizeof(float)) +
                      2 * aligned((size_t)conv_of(n, i)->cout);
    float *p = ss_alloc_whole(floats, sizeof *p);
    if (!p)
        return SS_ENOMEM;
    n->block[n->nblock++] = p;
    n->floats += floats;
    for (int i = first; i < last; i++) {
        ss_ready *r = ready_of(n, i);
        size_t cout = aligned((size_t)conv_of(n, i)->cout);
        if (!fresh[i])
            continue;
        bool folded = behind_of(n, i) == SS_BEHIND_NOTHING;
        *r = (ss_ready){.behind = behind_of(n, i), .packed = p};
        p += aligned((ss_conv_packed(conv_of(n, i)) + 3) / sizeof(float));
        r->bias = folded ? p : NULL;
        r->scale = folded ? NULL : p;
        r->shift = folded ? NULL : p + cout;
        p += 2 * cout;
    }
    return SS_OK;
}

static int list_tasks(packing *j, int first, int last, const bool fresh[])
{
    ss_net *n = j->net;
    size_t row = 0, channels = 0, tasks = 0, threads = (size_t)ss_pool_threads(n->pool);
    for (int i = first; i < last; i++) {
        const ss_param *p = weight_of(n, i);
        if (!fresh[i])
            continue;
        row = p->count / p->dim[0] > row ? p->count / p->dim[0] : row;
        channels += p->dim[0];
        tasks += (p->dim[0] + PANEL - 1) / PANEL;
    }
    j->raw_each = aligned(PANEL * row);
    j->raw = ss_alloc_whole(threads * j->raw_each, sizeof(float));
    j->vectors = j->next = ss_alloc(6 * channels, sizeof(float));
    j->task = ss_alloc(tasks, sizeof *j->task);
    j->seen = ss_alloc(tasks, sizeof *j->seen);
    j->failed = ss_alloc(threads, sizeof *j->failed);
    if (!j->raw || !j->vectors || !j->task || !j->seen || !j->failed)
        return SS_ENOMEM;
    for (int i = first; i < last; i++)
        for (int k = 0, cout = conv_of(n, i)->cout; fresh[i] && k < cout; k += PANEL)
            j->task[j->ntask++] = (task){i, k, cout - k < PANEL ? cout - k : PANEL};
    return SS_OK;
}

static int prepare(ss_net *n, const ss_model *m, int from, int until, ss_err *e)
{
    bool fresh[SS_UNITS + 1] = {false};
    packing j = {.net = n, .m = m};
    int first, last, blocks = n->nblock;
    size_t floats = n->floats;
    range_of(n, from, until, &first, &last);
    while (first < last && ready_of(n, first)->packed)
        first++;
    while (first < last && ready_of(n, last - 1)->packed)
        last--;
    if (first == last)
        return SS_OK;
    int rc = place(n, first, last, fresh);
    if (rc == SS_OK)
        rc = list_tasks(&j, first, last, fresh);
    if (rc < 0)
        ss_err_set(e, rc, "cannot allocate a network from cut '%s' to cut '%s'", ss_cut_name(from),
                   ss_cut_name(until));
    for (int i = first; i < last && rc == SS_OK; i++)
        if (fresh[i])
            rc = vectors(&j, i, e);
    if (rc == SS_OK)
        rc = pack(&j, e);
    if (rc < 0) {
        for (int i = first; i < last; i++)
            if (fresh[i])
                *ready_of(n, i) = (ss_ready){0};
        if (n->nblock > blocks)
            ss_free(n->block[--n->nblock]);
        n->floats = floats;
    }
    ss_free(j.raw);
    ss_free(j.vectors);
    ss_free(j.task);
    ss_free(j.seen);
    ss_free(j.failed);
    return rc;
}

/* ---- room for activations ---- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void free_lanes(const ss_net *n, ss_scratch *lane)
{
    for (int i = 0; lane && i < n->lanes; i++)
        ss_scratch_free(&lane[i]);
    ss_free(lane);
}

static int make_room(ss_net *n, int from, int until, ss_err *e)
{
    const ss_scratch_size *old = &n->size, add = ss_layers_scratch(&n->layers, from, until, n->piece, n->pool,
                                                                   n->behind == SS_BEHIND_NOTHING);
    ss_scratch_size both = {larger(old->a, add.a), larger(old->b, add.b), larger(old->raw, add.raw),
                            larger(old->stat, add.stat), larger(old->work, add.work)};
    if (n->lane && !memcmp(&both, old, sizeof both))
        return SS_OK;
    ss_scratch *lane = ss_zalloc((size_t)n->lanes, sizeof *lane);
    int rc = lane ? SS_OK : SS_ENOMEM;
    for (int i = 0; i < n->lanes && rc == SS_OK; i++)
        rc = ss_scratch_alloc(&lane[i], &both);
    if (rc < 0) {
        free_lanes(n, lane);
        return ss_err_set(e, rc, "cannot allocate activations from cut '%s' to cut '%s'", ss_cut_name(from),
                          ss_cut_name(until));
    }
    free_lanes(n, n->lane);
    n->lane = lane;
    n->size = both;
    return SS_OK;
}

/* ---- all of it ---- */

int ss_net_widen(ss_net *n, const ss_model *m, int from, int until, ss_err *e)
{
    if (from < SS_CUT_INPUT || until > SS_CUT_EMBEDDING || from > until)
        return ss_err_set(e, SS_EINVAL, "no network from cut %d to cut %d", from, until);
    int rc = prepare(n, m, from, until, e);
    return rc == SS_OK ? make_room(n, from, until, e) : rc;
}

int ss_net_open(ss_net **to, const ss_model *m, ss_pool *pool, int from, int until, int max_batch, ss_err *e)
{
    *to = NULL;
    if (from < SS_CUT_INPUT || until > SS_CUT_EMBEDDING || from > until || max_batch < 1)
        return ss_err_set(e, SS_EINVAL, "no network from cut %d to cut %d for %d windows", from, until,
                          max_batch);
    ss_net *n = ss_zalloc(1, sizeof *n);
    if (!n)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a network");
    n->config = m->config;
    n->pool = pool;
    n->behind = m->config.norm == SS_NORM_GROUP ? SS_BEHIND_GROUP : SS_BEHIND_NOTHING;
    n->from = from;
    n->until = until;
    n->piece = max_batch < PIECE ? max_batch : PIECE;
    n->lanes = max_batch > 1 ? ss_pool_threads(pool) : 1;
    int rc = ss_layers_init(&n->layers, m, e);
    if (rc == SS_OK)
        rc = ss_net_widen(n, m, from, until, e);
    if (rc < 0)
        ss_net_close(&n);
    *to = n;
    return rc;
}

struct job {
    const ss_net *net;
    int from, until, n, piece;
    size_t in_each, out_each; /* floats of a window */
    const float *in;
    float *out;
};

static void run_piece(void *arg, int i, int thread)
{
    const struct job *j = arg;
    const ss_net *net = j->net;
    int at = i * j->piece, n = j->n - at < j->piece ? j->n - at : j->piece;
    ss_layers_run(&net->layers, net->unit, &net->fc, NULL, j->from, j->until, n,
                  j->in + (size_t)at * j->in_each, j->out + (size_t)at * j->out_each, &net->lane[thread]);
}

int ss_net_run_between(ss_net *net, int from, int until, int n, const float *in, float *out)
{
    if (n < 0 || from < SS_CUT_INPUT || until > SS_CUT_EMBEDDING || from > until)
        return SS_EINVAL;
    struct job j = {net, from, until, n, net->piece, volume(&net->config, from), volume(&net->config, until),
                    in,  out};
    if (from == until) {
        memcpy(out, in, (size_t)n * j.in_each * sizeof(float));
        return SS_OK;
    }
    int first, last;
    range_of(net, from, until, &first, &last);
    for (int i = first; i < last; i++)
        if (!ready_of(net, i)->packed)
            return SS_EINVAL;
    if (net->lanes > 1 && n > 1) { /* each thread takes pieces through all layers */
        int share = (n + net->lanes - 1) / net->lanes;
        j.piece = share < net->piece ? share : net->piece;
        ss_pool_run(net->pool, (n + j.piece - 1) / j.piece, run_piece, &j);
        return SS_OK;
    }
    for (int at = 0; at < n; at += net->piece) /* or all of them share each layer */
        ss_layers_run(&net->layers, net->unit, &net->fc, net->pool, from, until,
                      n - at < net->piece ? n - at : net->piece, in + (size_t)at * j.in_each,
                      out + (size_t)at * j.out_each, &net->lane[0]);
    return SS_OK;
}

int ss_net_run(ss_net *net, int n, const float *in, float *out)
{
    return ss_net_run_between(net, net->from, net->until, n, in, out);
}

size_t ss_net_memory(const ss_net *net)
{
    const ss_scratch_size *s = &net->size;
    size_t floats = net->floats + (size_t)net->lanes * (s->a + s->b + s->raw + s->stat + s->work);
    return floats * sizeof(float) + sizeof *net;
}

void ss_net_close(ss_net **net)
{
    ss_net *n = *net;
    if (!n)
        return;
    for (int i = 0; i < n->nblock; i++)
        ss_free(n->block[i]);
    free_lanes(n, n->lane);
    ss_free(n);
    *net = NULL;
}
