#include "learn/refiner.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "learn/view.h"
#include "nn/backprop.h"

enum { SETTLE = 4 * SS_REFINER_WATCH }; /* steps before a run can be said to go wrong, and between anchors */

#define TINY 1e-12 /* square of the length of what has no direction */

/* An embedding in a ring, but for its numbers. */
typedef struct entry {
    uint64_t epoch, seq, step; /* step: that after which it was embedded */
    int64_t clip, label, cut;  /* cut -1: what it came as is not kept */
} entry;
enum { ENTRY_WORDS = sizeof(entry) / sizeof(int64_t) };

/* Entry k of slot s, the oldest first, is ring row s * window + (first + k) % window. */
typedef struct slot {
    int64_t device, first, count, heard; /* heard: number of the last window */
} slot;
enum { SLOT_WORDS = sizeof(slot) / sizeof(int64_t) };

/* A window since the last step. */
typedef struct pending {
    int64_t device, epoch, seq, cut;
    int64_t slot, row; /* in that ring; slot -1: the ring was given to another device */
} pending;
enum { PENDING_WORDS = sizeof(pending) / sizeof(int64_t) };

/* How the run goes: averages of the gain, and the scale of the rate. */
typedef struct watch {
    double gain, best, scale;
} watch;

/* A window of a step: one of the pending ones, or one drawn out of the rings. */
typedef struct member {
    int64_t slot, row;
    int cut, pending; /* index into `pending`, or -1 */
    int place;        /* number among the rows that have a gradient; -1: it is in no ring any more */
    int other;        /* member that is mixed into its view, or -1 */
    ss_view view;
} member;

struct ss_refiner {
    ss_refiner_config config;
    ss_model *model;
    ss_pool *pool;
    ss_backprop *net;
    ss_mixture *mixture;
    ss_rng directions, draws, views;
    watch watch;
    uint64_t windows, steps, optimiser_steps, settled, refused, rolled_back, since;
    uint64_t nslot, npending, first; /* rings in use; pending ones, a ring of config.every of them */
    int slots;
    ss_refiner_report report;
    size_t volume[SS_CUT_EMBEDDING + 1];
    size_t most;      /* floats at the widest cut */
    slot *slot;       /* [slots] */
    entry *entry;     /* [slots][window] */
    float *z;         /* [slots][window][d] */
    uint16_t *kept;   /* [slots][window][most] f16, what they came as; NULL when nothing is drawn */
    pending *pending; /* [every] */
    float *x;         /* [every][most] where they were cut */
    float *dx;        /* [every][most] after a step the gradient there, where it is wanted */
    int ngradient;    /* of the last step */
    int *which;       /* [every] its pending ones that have a gradient */
    member *member;   /* [batch] */
    int nmember;
    bool through; /* some of them went through the network */
    int *part;    /* [micro_batch] members that go through together */
    float *grad, *moment, *moment2;
    float *anchor;  /* all values of the model, from when they were good */
    float *in, *dz; /* [micro_batch][most], [micro_batch][d] */
    float *raw;     /* [2][most] what a view is made of */
    float *theta, *fresh;
    /* Rows of a step, as many as have been needed. */
    int room;
    float *rows;
    uint32_t *chain;
    uint64_t *seq;
    int32_t *label;
    uint8_t *present;
    size_t candidates;
    uint32_t *candidate; /* [candidates] */
    float *work, *drows;
    size_t work_size;
};

void ss_refiner_config_default(ss_refiner_config *c)
{
    *c = (ss_refiner_config){.window = 320,
                             .rows = 1024,
                             .devices = 64,
                             .every = 16,
                             .batch = 64,
                             .micro_batch = 16,
                             .start = 64,
                             .stale = 256,
                             .views = true,
                             .optimiser = {SS_OPTIMISER_SGD, 0.03f, 20, 1},
                             .seed = 1};
    ss_hybrid_default(&c->loss);
    ss_augment_default(&c->augment);
}

static size_t volume_at(const ss_model_config *m, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(m, cut, d);
    return (size_t)d[0] * d[1] * d[2];
}

static size_t widest(const ss_model_config *m)
{
    size_t most = 0;
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++)
        most = volume_at(m, cut) > most ? volume_at(m, cut) : most;
    return most;
}

size_t ss_refiner_ring_size(const ss_refiner_config *c, const ss_model_config *m)
{
    size_t kept = c->batch > c->every ? widest(m) * sizeof(uint16_t) : 0;
    return sizeof(slot) + (size_t)c->window * (sizeof(entry) + (size_t)m->dim * sizeof(float) + kept);
}

static int check(const ss_refiner_config *c, const ss_model_config *m, ss_err *e)
{
    const ss_hybrid *h = &c->loss;
    const struct {
        const char *name;
        double value, min, max;
    } bounds[] = {
        {"window", c->window, 2, 1 << 20},
        {"devices", c->devices, 1, 1 << 20},
        {"every", c->every, 1, c->window},
        {"batch", c->batch, c->every, 8192},
        {"micro-batch", c->micro_batch, 1, 8192},
        {"start", c->start, 2, 1 << 20},
        {"stale", c->stale, 0, 1 << 30},
        {"rows", c->rows, c->batch, 1 << 20},
        {"rate", c->optimiser.rate, 0, 100},
        {"warmup", c->optimiser.warmup, 0, 1 << 30},
        {"clip", c->optimiser.clip, 0, 1e9},
        {"temperature", h->temperature, 1e-3, 100},
        {"weight of sliced Wasserstein", h->sw, 0, 1e6},
        {"weight of the Laplacian", h->laplacian, 0, 1e6},
        {"near", h->near, 1, 1 << 20},
        {"bridge", h->bridge, 1, 1 << 20},
        {"apart", h->apart, 1, 1 << 20},
        {"neighbours", h->neighbours, 1, 1000},
        {"span", h->span, 1e-3, 1e9},
        {"directions", h->directions, 1, 4096},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (!(bounds[i].value >= bounds[i].min && bounds[i].value <= bounds[i].max))
            return ss_err_set(e, SS_ERANGE, "%s: found %g, expected %g to %g", bounds[i].name,
                              bounds[i].value, bounds[i].min, bounds[i].max);
    int rc = ss_augment_check(&c->augment, e);
    if (rc < 0)
        return rc;
    if (c->optimiser.kind != SS_OPTIMISER_ADAM && c->optimiser.kind != SS_OPTIMISER_SGD)
        return ss_err_set(e, SS_ERANGE, "optimiser: found %d, expected adam or sgd", c->optimiser.kind);
    if (c->memory && c->memory < ss_refiner_ring_size(c, m))
        return ss_err_set(e, SS_ERANGE, "memory: found %zu bytes, the ring of one device takes %zu",
                          c->memory, ss_refiner_ring_size(c, m));
    return SS_OK;
}

static int open_mixture(ss_refiner *r, ss_err *e)
{
    const ss_model *m = r->model;
    int rc = m->mixture ? ss_mixture_unpack(&r->mixture, m->mixture, m->mixture_size, e)
                        : ss_mixture_create(&r->mixture, SS_MIXTURE_COMPONENTS, m->config.dim, e);
    if (!rc && ss_mixture_dim(r->mixture) != m->config.dim)
        rc = ss_err_set(e, SS_EUNFIT, "mixture of dimension %d, the model has %d", ss_mixture_dim(r->mixture),
                        m->config.dim);
    return rc;
}

static bool draws(const ss_refiner *r)
{
    return r->config.batch > r->config.every;
}

static int alloc_all(ss_refiner *r)
{
    const ss_refiner_config *c = &r->config;
    size_t slots = (size_t)r->slots, w = (size_t)c->window, d = (size_t)r->model->config.dim;
    size_t n = r->model->ntrainable, every = (size_t)c->every, micro = (size_t)c->micro_batch;
    bool adam = c->optimiser.kind == SS_OPTIMISER_ADAM;
    r->slot = ss_zalloc(slots, sizeof *r->slot);
    r->entry = ss_zalloc(slots * w, sizeof *r->entry);
    r->z = ss_zalloc(slots * w * d, sizeof *r->z);
    r->pending = ss_zalloc(every, sizeof *r->pending);
    r->x = ss_zalloc(every * r->most, sizeof *r->x);
    r->dx = ss_zalloc(c->gradients ? every * r->most : 0, sizeof *r->dx);
    r->which = ss_zalloc(every, sizeof *r->which);
    r->kept = ss_zalloc(draws(r) ? slots * w * r->most : 0, sizeof *r->kept);
    r->member = ss_alloc((size_t)c->batch, sizeof *r->member);
    r->part = ss_alloc(micro, sizeof *r->part);
    r->drows = ss_alloc((size_t)c->batch * d, sizeof *r->drows);
    r->grad = ss_alloc(n, sizeof *r->grad);
    r->moment = ss_zalloc(n, sizeof *r->moment);
    r->moment2 = ss_zalloc(adam ? n : 0, sizeof *r->moment2);
    r->anchor = ss_zalloc(r->model->nvalue, sizeof *r->anchor);
    r->in = ss_alloc(micro * r->most, sizeof *r->in);
    r->dz = ss_alloc(2 * micro * d, sizeof *r->dz);
    r->raw = ss_alloc(2 * r->most, sizeof *r->raw);
    r->theta = ss_alloc((size_t)c->loss.directions * d, sizeof *r->theta);
    r->fresh = ss_alloc(d, sizeof *r->fresh);
    return r->slot && r->entry && r->z && r->pending && r->x && r->dx && r->which && r->kept && r->member &&
                   r->part && r->drows && r->raw && r->grad && r->moment && r->moment2 && r->anchor &&
                   r->in && r->dz && r->theta && r->fresh
               ? SS_OK
               : SS_ENOMEM;
}

int ss_refiner_create(ss_refiner **out, const ss_refiner_config *c, ss_model *m, ss_pool *pool, ss_err *e)
{
    *out = NULL;
    int rc = check(c, &m->config, e);
    if (rc < 0)
        return rc;
    ss_refiner *r = ss_zalloc(1, sizeof *r);
    if (!r)
        return ss_err_set(e, SS_ENOMEM, "refiner: out of memory");
    r->config = *c;
    r->model = m;
    r->pool = pool;
    r->directions = ss_rng_make(c->seed, 4);
    r->draws = ss_rng_make(c->seed, 5);
    r->views = ss_rng_make(c->seed, 6);
    r->most = widest(&m->config);
    r->watch.scale = 1;
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++)
        r->volume[cut] = volume_at(&m->config, cut);
    size_t fit = c->memory ? c->memory / ss_refiner_ring_size(c, &m->config) : (size_t)c->devices;
    r->slots = fit < (size_t)c->devices ? (int)fit : c->devices;
    rc = ss_backprop_open(&r->net, m, pool, SS_CUT_INPUT, c->micro_batch, e);
    if (!rc)
        rc = open_mixture(r, e);
    if (!rc && (rc = alloc_all(r)) < 0)
        ss_err_set(e, rc, "refiner: out of memory");
    if (rc < 0)
        ss_refiner_free(r);
    else
        *out = r;
    return rc < 0 ? rc : SS_OK;
}

void ss_refiner_free(ss_refiner *r)
{
    if (!r)
        return;
    ss_backprop_close(&r->net);
    ss_mixture_free(r->mixture);
    void *blocks[] = {r->slot,  r->entry,  r->z,       r->pending, r->x,         r->dx,      r->which,
                      r->grad,  r->moment, r->moment2, r->anchor,  r->in,        r->dz,      r->theta,
                      r->fresh, r->rows,   r->chain,   r->seq,     r->label,     r->present, r->work,
                      r->drows, r->raw,    r->kept,    r->member,  r->candidate, r->part};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ss_free(blocks[i]);
    ss_free(r);
}

/* ---- windows ---- */

/* Back to weights that were good. */
static void start_over(ss_refiner *r)
{
    size_t n = r->model->ntrainable;
    memcpy(r->model->value, r->anchor, r->model->nvalue * sizeof *r->anchor);
    memset(r->moment, 0, n * sizeof *r->moment);
    if (r->config.optimiser.kind == SS_OPTIMISER_ADAM)
        memset(r->moment2, 0, n * sizeof *r->moment2);
    ss_backprop_weights_changed(r->net);
    r->optimiser_steps = 0;
    r->settled = 0;
    r->rolled_back++;
    r->watch = (watch){.scale = r->watch.scale / 2};
}

/* Its embedding, of length 1, and how the memory sees it. */
static int finish(ss_refiner *r, const ss_refiner_item *w, float *z, ss_mixture_score *score, ss_err *e)
{
    size_t d = (size_t)r->model->config.dim;
    if (w->cut < SS_CUT_INPUT || w->cut > SS_CUT_EMBEDDING)
        return ss_err_set(e, SS_EINVAL, "no cut %d", w->cut);
    if (!ss_all_finite(r->volume[w->cut], w->x))
        return ss_err_set(e, SS_ERANGE, "window %" PRIu64 " has a value that is not finite", w->seq);
    if (w->cut < SS_CUT_EMBEDDING)
        ss_backprop_forward_between(r->net, w->cut, SS_CUT_EMBEDDING, 1, w->x, z, 0);
    else
        memcpy(z, w->x, d * sizeof *z);
    double square = ss_sum_squares(d, z);
    /* Weights that overflow make it not finite, or 0 for its infinite length. */
    if (!(square > TINY && isfinite(square)) && w->cut < SS_CUT_EMBEDDING && r->settled) {
        start_over(r);
        ss_backprop_forward_between(r->net, w->cut, SS_CUT_EMBEDDING, 1, w->x, z, 0);
        square = ss_sum_squares(d, z);
    }
    if (!(square > TINY && isfinite(square)))
        return ss_err_set(e, SS_ERANGE, "the embedding of window %" PRIu64 " has no direction", w->seq);
    if (fabs(square - 1) > 1e-5) /* it came so, rounded or scaled */
        ss_l2norm_forward(1, (int)d, z, z, NULL);
    ss_mixture_rate(r->mixture, z, score);
    return SS_OK;
}

static slot *find_slot(ss_refiner *r, uint32_t device)
{
    for (uint64_t i = 0; i < r->nslot; i++)
        if (r->slot[i].device == (int64_t)device)
            return &r->slot[i];
    return NULL;
}

/* A ring for a new device: an unused one, or that of the device heard least recently. */
static slot *take_slot(ss_refiner *r, uint32_t device)
{
    slot *s = &r->slot[0];
    if (r->nslot < (uint64_t)r->slots) {
        s = &r->slot[r->nslot++];
    } else {
        for (uint64_t i = 1; i < r->nslot; i++)
            if (r->slot[i].heard < s->heard)
                s = &r->slot[i];
        for (int i = 0; i < r->config.every; i++)
            if (r->pending[i].slot == s - r->slot)
                r->pending[i].slot = -1;
    }
    *s = (slot){.device = device};
    return s;
}

/* Row of the ring for the next window of the slot; the oldest leaves when it is full. */
static int64_t push(ss_refiner *r, slot *s)
{
    int64_t w = r->config.window, row = (s->first + s->count) % w;
    if (s->count < w)
        s->count++;
    else
        s->first = (s->first + 1) % w;
    return row;
}

static void hold(ss_refiner *r, const ss_refiner_item *w, int64_t at, int64_t row)
{
    uint64_t every = (uint64_t)r->config.every, i = (r->first + r->npending) % every;
    if (r->npending < every)
        r->npending++;
    else
        r->first = (r->first + 1) % every;
    r->pending[i] = (pending){w->device, (int64_t)w->epoch, (int64_t)w->seq, w->cut, at, row};
    memcpy(r->x + i * r->most, w->x, r->volume[w->cut] * sizeof *r->x);
}

int ss_refiner_rate(ss_refiner *r, const ss_refiner_item *w, float *z, ss_mixture_score *score, ss_err *e)
{
    ss_mixture_score own;
    return finish(r, w, z ? z : r->fresh, score ? score : &own, e);
}

int ss_refiner_window(ss_refiner *r, const ss_refiner_item *w, float *z, ss_mixture_score *score, ss_err *e)
{
    size_t d = (size_t)r->model->config.dim, window = (size_t)r->config.window;
    float *fresh = z ? z : r->fresh;
    slot *s = find_slot(r, w->device);
    if (s) {
        const entry *last =
            &r->entry[(size_t)(s - r->slot) * window + (size_t)(s->first + s->count - 1) % window];
        if (last->epoch == w->epoch && last->seq >= w->seq)
            return ss_err_set(e, SS_EINVAL, "window %" PRIu64 " after %" PRIu64, w->seq, last->seq);
    }
    int rc = ss_refiner_rate(r, w, fresh, score, e);
    if (rc < 0)
        return rc;
    ss_mixture_update(r->mixture, fresh);
    if (!s)
        s = take_slot(r, w->device);
    int64_t at = s - r->slot, row = push(r, s);
    size_t to = (size_t)at * window + (size_t)row;
    r->entry[to] = (entry){w->epoch, w->seq, r->steps, w->clip, w->label, -1};
    if (draws(r) && ss_max_abs(r->volume[w->cut], w->x) < 65504) {
        r->entry[to].cut = w->cut;
        ss_f16_from_f32(r->volume[w->cut], w->x, r->kept + to * r->most);
    }
    memcpy(r->z + to * d, fresh, d * sizeof *fresh);
    r->ngradient = 0;
    hold(r, w, at, row);
    s->heard = (int64_t)++r->windows;
    r->since++;
    return SS_OK;
}

bool ss_refiner_due(const ss_refiner *r)
{
    return r->windows >= (uint64_t)r->config.start && r->since >= (uint64_t)r->config.every;
}

void ss_refiner_skip(ss_refiner *r)
{
    r->since = r->npending = r->first = 0;
}

/* ---- a step ---- */

/* Room for what is in no need of what was there. */
static void *renew(void *old, size_t count, size_t size)
{
    ss_free(old);
    return ss_alloc(count, size);
}

static int reserve(ss_refiner *r)
{
    size_t all = 0, d = (size_t)r->model->config.dim;
    for (uint64_t i = 0; i < r->nslot; i++)
        all += (size_t)r->slot[i].count;
    size_t n = all < (size_t)r->config.rows ? all : (size_t)r->config.rows;
    size_t work = ss_hybrid_work(&r->config.loss, (int)n, (int)d, r->config.batch);
    if (all <= r->candidates && (int)n <= r->room && work <= r->work_size)
        return SS_OK;
    r->candidates = r->work_size = 0;
    r->room = 0;
    r->candidate = renew(r->candidate, all, sizeof *r->candidate);
    r->rows = renew(r->rows, n * d, sizeof *r->rows);
    r->chain = renew(r->chain, n, sizeof *r->chain);
    r->seq = renew(r->seq, n, sizeof *r->seq);
    r->label = renew(r->label, n, sizeof *r->label);
    r->present = renew(r->present, n, sizeof *r->present);
    r->work = renew(r->work, work, sizeof *r->work);
    if (!r->rows || !r->chain || !r->seq || !r->label || !r->present || !r->candidate || !r->work)
        return SS_ENOMEM;
    r->candidates = all;
    r->room = (int)n;
    r->work_size = work;
    return SS_OK;
}

static const pending *pending_at(const ss_refiner *r, int i)
{
    return &r->pending[(r->first + (uint64_t)i) % (uint64_t)r->config.every];
}

static member *member_at(const ss_refiner *r, int64_t s, int64_t row)
{
    for (int i = 0; i < r->nmember; i++)
        if (r->member[i].slot == s && r->member[i].row == row)
            return &r->member[i];
    return NULL;
}

static void add_member(ss_refiner *r, int64_t s, int64_t row, int cut, int at)
{
    r->member[r->nmember++] = (member){s, row, cut, at, .place = -1, .other = -1};
}

static bool can_be_drawn(const ss_refiner *r, uint32_t s, uint32_t row)
{
    int64_t cut = r->entry[s * (uint32_t)r->config.window + row].cut;
    return cut >= 0 && cut != SS_CUT_EMBEDDING && !member_at(r, s, row);
}

/* A positive of row `row` of ring s, if there is one to be drawn: row, or -1. */
static int64_t draw_mate(ss_refiner *r, uint32_t s, uint32_t row)
{
    const entry *ring = &r->entry[(size_t)s * (size_t)r->config.window], *own = &ring[row];
    uint32_t n = 0;
    int64_t found = -1;
    for (uint32_t k = 0; k < (uint32_t)r->slot[s].count; k++) {
        uint64_t far = ring[k].seq > own->seq ? ring[k].seq - own->seq : own->seq - ring[k].seq;
        if (far && far <= (uint64_t)r->config.loss.near && ring[k].epoch == own->epoch &&
            ring[k].clip == own->clip && can_be_drawn(r, s, k) && ss_rng_below(&r->draws, ++n) == 0)
            found = k;
    }
    return found;
}

/* Those that came since the last step, and as many drawn from the others as the batch has room for. */
static void gather_members(ss_refiner *r)
{
    uint32_t window = (uint32_t)r->config.window, n = 0;
    r->nmember = 0;
    for (int i = 0; i < (int)r->npending; i++) {
        const pending *p = pending_at(r, i);
        if (p->slot >= 0)
            add_member(r, p->slot, p->row, (int)p->cut, (int)(p - r->pending));
    }
    for (uint32_t s = 0; draws(r) && s < r->nslot; s++)
        for (uint32_t row = 0; row < (uint32_t)r->slot[s].count; row++)
            if (can_be_drawn(r, s, row))
                r->candidate[n++] = s * window + row;
    while (n && r->nmember < r->config.batch) {
        uint32_t k = ss_rng_below(&r->draws, n), at = r->candidate[k], s = at / window;
        r->candidate[k] = r->candidate[--n];
        if (!can_be_drawn(r, s, at % window))
            continue;
        add_member(r, s, at % window, (int)r->entry[at].cut, -1);
        int64_t mate = r->nmember < r->config.batch ? draw_mate(r, s, at % window) : -1;
        if (mate >= 0)
            add_member(r, s, mate, (int)r->entry[s * window + (uint32_t)mate].cut, -1);
    }
}

/* What a member came as. */
static void read_member(const ss_refiner *r, const member *m, float *x)
{
    size_t at = (size_t)(m->slot * r->config.window + m->row);
    if (m->pending >= 0)
        memcpy(x, r->x + (size_t)m->pending * r->most, r->volume[m->cut] * sizeof *x);
    else
        ss_f32_from_f16(r->volume[m->cut], r->kept + at * r->most, x);
}

static void draw_views(ss_refiner *r)
{
    const ss_model_config *c = &r->model->config;
    for (int i = 0; i < r->nmember; i++) {
        member *m = &r->member[i];
        ss_augment_draw(&r->config.augment, &r->views, c->mels, c->frames, &m->view);
        m->other = (int)ss_rng_below(&r->views, (uint32_t)r->nmember);
        if (m->other == i || r->member[m->other].cut != m->cut)
            m->other = -1;
    }
}

/* What it is seen as in this step. */
static void view_member(const ss_refiner *r, const member *m, float *x)
{
    const ss_model_config *c = &r->model->config;
    if (!r->config.views) {
        read_member(r, m, x);
        return;
    }
    float *own = r->raw, *other = m->other >= 0 ? r->raw + r->most : NULL;
    read_member(r, m, own);
    if (other)
        read_member(r, &r->member[m->other], other);
    if (m->cut == SS_CUT_INPUT) {
        ss_augment_apply(&r->config.augment, &m->view, c->mels, c->frames, own, other, x);
    } else {
        uint32_t d[3];
        ss_model_cut_shape(c, m->cut, d);
        ss_view_cut(&m->view, c->mels, c->frames, d, own, other, x);
    }
}

/* The gradient at what a pending member came as, from that at its view. */
static void put_gradient(ss_refiner *r, const member *m, const float *at_view)
{
    const ss_model_config *c = &r->model->config;
    uint32_t d[3];
    float *to = r->dx + (size_t)m->pending * r->most;
    ss_model_cut_shape(c, m->cut, d);
    if (r->config.views)
        ss_view_cut_back(&m->view, c->mels, c->frames, d, m->other >= 0, at_view, to);
    else
        memcpy(to, at_view, r->volume[m->cut] * sizeof *to);
}

/* Calls `each` for parts of at most micro_batch members that `want` asks for, all cut at one place. */
static void in_parts(ss_refiner *r, bool (*want)(const ss_refiner *r, const member *m),
                     void (*each)(ss_refiner *r, int cut, const int *which, int n))
{
    for (int cut = SS_CUT_INPUT; cut < SS_CUT_EMBEDDING; cut++) {
        int n = 0;
        for (int i = 0; i < r->nmember; i++) {
            if (r->member[i].cut == cut && want(r, &r->member[i]))
                r->part[n++] = i;
            if (n && (n == r->config.micro_batch || i + 1 == r->nmember)) {
                each(r, cut, r->part, n);
                n = 0;
            }
        }
    }
}

static void load_part(ss_refiner *r, int cut, const int *which, int n)
{
    for (int i = 0; i < n; i++)
        view_member(r, &r->member[which[i]], r->in + (size_t)i * r->volume[cut]);
}

static bool is_outdated(const ss_refiner *r, const member *m)
{
    return r->config.views || m->pending < 0;
}

static void embed_part(ss_refiner *r, int cut, const int *which, int n)
{
    size_t d = (size_t)r->model->config.dim;
    load_part(r, cut, which, n);
    ss_backprop_forward_between(r->net, cut, SS_CUT_EMBEDDING, n, r->in, r->dz, 0);
    for (int i = 0; i < n; i++) {
        const member *m = &r->member[which[i]];
        size_t at = (size_t)(m->slot * r->config.window + m->row);
        const float *z = r->dz + (size_t)i * d;
        if (!ss_all_finite(d, z))
            continue; /* weights that overflow: the next window will show it */
        memcpy(r->z + at * d, z, d * sizeof *z);
        r->entry[at].step = r->steps;
    }
}

static bool is_stale(const ss_refiner *r, const entry *x)
{
    return r->config.stale && r->steps - x->step > (uint64_t)r->config.stale;
}

/* All rows that count, device by device, the oldest first; when they are more than the loss takes, those that
 * have a gradient and some of the others. *present: those with a gradient. */
static ss_hybrid_rows gather_rows(ss_refiner *r, int *present)
{
    size_t d = (size_t)r->model->config.dim, window = (size_t)r->config.window;
    uint32_t chain = 0, others = 0, room = (uint32_t)r->config.rows;
    int n = 0;
    *present = 0;
    for (uint64_t s = 0; s < r->nslot; s++)
        for (int64_t k = 0; k < r->slot[s].count; k++)
            others += !is_stale(r, &r->entry[s * window + (size_t)k]);
    for (int i = 0; i < r->nmember; i++) {
        const member *m = &r->member[i];
        others -= !is_stale(r, &r->entry[(size_t)m->slot * window + (size_t)m->row]);
        room--;
    }
    for (uint64_t s = 0; s < r->nslot; s++) {
        const entry *before = NULL;
        for (int64_t k = 0; k < r->slot[s].count; k++) {
            size_t row = (size_t)(r->slot[s].first + k) % window, at = (size_t)s * window + row;
            const entry *x = &r->entry[at];
            if (is_stale(r, x))
                continue;
            member *m = member_at(r, (int64_t)s, (int64_t)row);
            if (!m && others-- > room && ss_rng_below(&r->draws, others + 1) >= room)
                continue;
            room -= !m;
            chain += !before || before->epoch != x->epoch || before->clip != x->clip;
            before = x;
            memcpy(r->rows + (size_t)n * d, r->z + at * d, d * sizeof *r->z);
            r->chain[n] = chain;
            r->seq[n] = x->seq;
            r->label[n] = (int32_t)x->label;
            r->present[n] = m != NULL;
            if (m)
                m->place = (*present)++;
            n++;
        }
    }
    return (ss_hybrid_rows){n, (int)d, r->rows, r->chain, r->seq, r->label, r->present};
}

static bool has_place(const ss_refiner *r, const member *m)
{
    (void)r;
    return m->place >= 0;
}

/* Their gradients through the network. */
static void part_back(ss_refiner *r, int cut, const int *which, int n)
{
    size_t d = (size_t)r->model->config.dim, volume = r->volume[cut];
    bool want = r->config.gradients && cut > SS_CUT_INPUT;
    float *z = r->dz + (size_t)r->config.micro_batch * d;
    load_part(r, cut, which, n);
    for (int i = 0; i < n; i++)
        memcpy(r->dz + (size_t)i * d, r->drows + (size_t)r->member[which[i]].place * d, d * sizeof *z);
    ss_backprop_forward_between(r->net, cut, SS_CUT_EMBEDDING, n, r->in, z, 1);
    ss_backprop_backward(r->net, r->dz, r->grad, want ? r->in : NULL);
    for (int i = 0; want && i < n; i++)
        if (r->member[which[i]].pending >= 0)
            put_gradient(r, &r->member[which[i]], r->in + (size_t)i * volume);
    r->through = true;
}

/* All members, cut by cut. True: some went through the network. */
static bool all_back(ss_refiner *r)
{
    size_t d = (size_t)r->model->config.dim;
    memset(r->grad, 0, r->model->ntrainable * sizeof *r->grad);
    r->through = false;
    in_parts(r, has_place, part_back);
    for (int i = 0; i < r->nmember; i++) {
        const member *m = &r->member[i];
        if (r->config.gradients && m->place >= 0 && m->cut == SS_CUT_EMBEDDING)
            memcpy(r->dx + (size_t)m->pending * r->most, r->drows + (size_t)m->place * d, d * sizeof *r->dx);
    }
    return r->through;
}

/* Before a step: is the run well? Weights that have been good are kept to go back to. False: it went back. */
static bool watch_over(ss_refiner *r, const ss_hybrid_result *h, int rows)
{
    watch *w = &r->watch;
    if (!h->windows || rows < 2)
        return true;
    double gain = 1 - h->task / log(rows);
    w->gain += (gain - w->gain) / SS_REFINER_WATCH;
    w->best = w->gain > w->best ? w->gain : w->best * (1 - 1.0 / 4096);
    if (r->settled > SETTLE && w->best > 0.02 && w->gain < w->best / 3) {
        start_over(r);
        return false;
    }
    bool first = r->settled == 0, time = r->settled++ % SETTLE == 0;
    if (first || (time && w->gain >= 0.8 * w->best))
        memcpy(r->anchor, r->model->value, r->model->nvalue * sizeof *r->anchor);
    return true;
}

static bool apply_gradient(ss_refiner *r)
{
    ss_optimiser_config c = r->config.optimiser;
    ss_optimiser_report o = {0};
    c.rate *= (float)r->watch.scale;
    bool good = ss_optimiser_step(&c, r->pool, r->optimiser_steps + 1, r->model->ntrainable, r->model->value,
                                  r->grad, r->moment, r->moment2, &o);
    r->report.gradient = o.gradient;
    r->report.rate = o.rate;
    if (!good)
        return false;
    r->optimiser_steps++;
    ss_backprop_weights_changed(r->net);
    if (r->model->config.norm == SS_NORM_BATCH)
        ss_backprop_update_statistics(r->net, 0.1f);
    return true;
}

static int remember_gradients(ss_refiner *r)
{
    int n = 0;
    for (int i = 0; r->config.gradients && i < r->nmember; i++)
        if (r->member[i].pending >= 0 && r->member[i].place >= 0 && r->member[i].cut != SS_CUT_INPUT)
            r->which[n++] = r->member[i].pending;
    return n;
}

int ss_refiner_step(ss_refiner *r)
{
    if (!r->model->value)
        return SS_EINVAL;
    int rc = reserve(r), present;
    if (rc < 0)
        return rc;
    gather_members(r);
    if (r->config.views)
        draw_views(r);
    in_parts(r, is_outdated, embed_part);
    ss_hybrid_rows rows = gather_rows(r, &present);
    ss_hybrid_result h;
    ss_hybrid_directions(&r->config.loss, rows.d, &r->directions, r->theta);
    ss_hybrid_loss(&r->config.loss, r->pool, &rows, r->theta, r->drows, r->work, &h);
    bool finite = isfinite(h.loss), good = finite && present > 0 && watch_over(r, &h, rows.n);
    if (good) {
        ss_scale((size_t)present * (size_t)rows.d, (float)rows.n / (float)present, r->drows, r->drows);
        finite = !all_back(r) || apply_gradient(r);
        good = finite;
    }
    r->ngradient = good ? remember_gradients(r) : 0;
    r->refused += !finite;
    r->steps += good;
    r->report.loss = h;
    r->report.rows = rows.n;
    r->report.present = present;
    r->since = r->npending = 0;
    return good;
}

void ss_refiner_report_last(const ss_refiner *r, ss_refiner_report *report)
{
    *report = r->report;
    report->step = r->steps;
    report->windows = r->windows;
    report->refused = r->refused;
    report->rolled_back = r->rolled_back;
    report->gain = r->watch.gain;
    report->devices = (int)r->nslot;
    report->live = ss_mixture_live(r->mixture);
}

int ss_refiner_gradients(const ss_refiner *r)
{
    return r->ngradient;
}

void ss_refiner_gradient(const ss_refiner *r, int i, ss_refiner_item *w)
{
    const pending *p = &r->pending[r->which[i]];
    *w = (ss_refiner_item){.device = (uint32_t)p->device,
                           .epoch = (uint64_t)p->epoch,
                           .seq = (uint64_t)p->seq,
                           .clip = -1,
                           .label = -1,
                           .cut = (int)p->cut,
                           .x = r->dx + (size_t)r->which[i] * r->most};
}

/* ---- what is kept ---- */

int ss_refiner_store_mixture(ss_refiner *r, ss_err *e)
{
    return ss_mixture_store(r->mixture, &r->model->mixture, &r->model->mixture_size, e);
}

const ss_mixture *ss_refiner_mixture(const ss_refiner *r)
{
    return r->mixture;
}

/* What a checkpoint must have been made with to be gone on from. */
static void describe(const ss_refiner *r, char *out, size_t size)
{
    const ss_refiner_config *c = &r->config;
    const ss_hybrid *h = &c->loss;
    char arch[17], views[256] = "none";
    ss_model_arch_hash(&r->model->config, arch);
    if (c->views)
        ss_augment_describe(&c->augment, views, sizeof views);
    snprintf(out, size,
             "arch %s window %d slots %d every %d batch %d micro %d rows %d start %d stale %d temperature "
             "%.9g sw %.9g "
             "laplacian %.9g near %d bridge %d apart %d neighbours %d span %.9g directions %d optimiser %d "
             "rate %.9g warmup %d clip %.9g seed %" PRIu64 " views %s",
             arch, c->window, r->slots, c->every, c->batch, c->micro_batch, c->rows, c->start, c->stale,
             (double)h->temperature, (double)h->sw, (double)h->laplacian, h->near, h->bridge, h->apart,
             h->neighbours, (double)h->span, h->directions, c->optimiser.kind, (double)c->optimiser.rate,
             c->optimiser.warmup, (double)c->optimiser.clip, c->seed, views);
}

/* All arrays of the state but the mixture; returns how many. Those of rings are as long as rings are in use.
 */
static int parts(ss_refiner *r, ss_checkpoint_part out[16])
{
    size_t n = r->model->ntrainable, slots = (size_t)r->nslot, entries = slots * (size_t)r->config.window;
    size_t every = (size_t)r->config.every;
    int k = 0;
    out[k++] = (ss_checkpoint_part){"model", SS_DTYPE_F32, r->model->nvalue, r->model->value};
    out[k++] = (ss_checkpoint_part){"anchor", SS_DTYPE_F32, r->model->nvalue, r->anchor};
    out[k++] = (ss_checkpoint_part){"moment", SS_DTYPE_F32, n, r->moment};
    if (r->config.optimiser.kind == SS_OPTIMISER_ADAM)
        out[k++] = (ss_checkpoint_part){"moment2", SS_DTYPE_F32, n, r->moment2};
    out[k++] = (ss_checkpoint_part){"pending", SS_DTYPE_I64, every * PENDING_WORDS, r->pending};
    out[k++] = (ss_checkpoint_part){"pending.x", SS_DTYPE_F32, every * r->most, r->x};
    out[k++] = (ss_checkpoint_part){"gradients", SS_DTYPE_I32, every, r->which};
    if (r->config.gradients && r->ngradient)
        out[k++] = (ss_checkpoint_part){"gradients.x", SS_DTYPE_F32, every * r->most, r->dx};
    out[k++] = (ss_checkpoint_part){"watch", SS_DTYPE_F64, sizeof r->watch / sizeof(double), &r->watch};
    if (slots) {
        out[k++] = (ss_checkpoint_part){"ring.devices", SS_DTYPE_I64, slots * SLOT_WORDS, r->slot};
        out[k++] = (ss_checkpoint_part){"ring.entries", SS_DTYPE_I64, entries * ENTRY_WORDS, r->entry};
        if (draws(r))
            out[k++] = (ss_checkpoint_part){"ring.kept", SS_DTYPE_F16, entries * r->most, r->kept};
        out[k++] = (ss_checkpoint_part){"ring.z", SS_DTYPE_F32, entries * (size_t)r->model->config.dim, r->z};
    }
    return k;
}

enum { NUMBERS = 14 };
static void numbers(ss_refiner *r, ss_checkpoint_part out[NUMBERS])
{
    const ss_checkpoint_part all[NUMBERS] = {
        {"rings", SS_DTYPE_I64, 1, &r->nslot},
        {"windows", SS_DTYPE_I64, 1, &r->windows},
        {"steps", SS_DTYPE_I64, 1, &r->steps},
        {"optimiser.steps", SS_DTYPE_I64, 1, &r->optimiser_steps},
        {"settled", SS_DTYPE_I64, 1, &r->settled},
        {"refused", SS_DTYPE_I64, 1, &r->refused},
        {"rolled back", SS_DTYPE_I64, 1, &r->rolled_back},
        {"since", SS_DTYPE_I64, 1, &r->since},
        {"pending.count", SS_DTYPE_I64, 1, &r->npending},
        {"pending.first", SS_DTYPE_I64, 1, &r->first},
        {"gradients.count", SS_DTYPE_I32, 1, &r->ngradient},
        {"directions", SS_DTYPE_I64, SS_RNG_WORDS, &r->directions},
        {"draws", SS_DTYPE_I64, SS_RNG_WORDS, &r->draws},
        {"views", SS_DTYPE_I64, SS_RNG_WORDS, &r->views},
    };
    memcpy(out, all, sizeof all);
}

int ss_refiner_save(ss_refiner *r, ss_checkpoint_writer *w, ss_err *e)
{
    ss_checkpoint_part n[NUMBERS], p[16];
    char text[1024];
    if (!r->model->value)
        return ss_err_set(e, SS_EINVAL, "refiner: the model's values are in its file");
    numbers(r, n);
    ss_checkpoint_put_parts(w, n, NUMBERS);
    ss_checkpoint_put_parts(w, p, parts(r, p));
    ss_mixture_save(r->mixture, w);
    describe(r, text, sizeof text);
    ss_checkpoint_put_text(w, "refiner", text);
    return SS_OK;
}

/* What indices and loops rely on. */
static bool sound(const ss_refiner *r)
{
    int64_t window = r->config.window, every = r->config.every;
    if (r->npending > (uint64_t)every || r->first >= (uint64_t)every || r->ngradient < 0 ||
        r->ngradient > every)
        return false;
    for (int i = 0; i < r->ngradient; i++)
        if (r->which[i] < 0 || r->which[i] >= every)
            return false;
    for (uint64_t i = 0; i < r->nslot; i++)
        if (r->slot[i].first < 0 || r->slot[i].first >= window || r->slot[i].count < 1 ||
            r->slot[i].count > window)
            return false;
    for (uint64_t i = 0; i < r->nslot * (uint64_t)window; i++)
        if (r->entry[i].cut < -1 || r->entry[i].cut > SS_CUT_EMBEDDING)
            return false;
    for (int64_t i = 0; i < every; i++) {
        const pending *p = &r->pending[i];
        if (p->slot < -1 || (p->slot >= 0 && (uint64_t)p->slot >= r->nslot && r->npending) || p->row < 0 ||
            p->row >= window || p->cut < SS_CUT_INPUT || p->cut > SS_CUT_EMBEDDING)
            return false;
    }
    return true;
}

int ss_refiner_load(ss_refiner *r, ss_checkpoint *c, ss_err *e)
{
    ss_checkpoint_part n[NUMBERS], p[16];
    char text[1024];
    if (!r->model->value)
        return ss_err_set(e, SS_EINVAL, "refiner: the model's values are in its file");
    describe(r, text, sizeof text);
    const char *theirs = ss_checkpoint_text(c, "refiner");
    if (!theirs || strcmp(theirs, text))
        return ss_err_set(e, SS_EUNFIT, "checkpoint of another refiner: found '%s', expected '%s'",
                          theirs ? theirs : "none", text);
    numbers(r, n);
    int rc = ss_checkpoint_get_parts(c, n, NUMBERS, e);
    if (!rc && r->nslot > (uint64_t)r->slots)
        rc = ss_err_set(e, SS_EDAMAGED, "rings: found %" PRIu64 ", expected at most %d", r->nslot, r->slots);
    if (!rc)
        rc = ss_checkpoint_get_parts(c, p, parts(r, p), e);
    if (!rc)
        rc = ss_mixture_load(r->mixture, c, e);
    if (!rc && !sound(r))
        rc = ss_err_set(e, SS_EDAMAGED, "the rings of the checkpoint are not sound");
    if (rc || !r->config.gradients)
        r->ngradient = 0;
    ss_backprop_weights_changed(r->net);
    return rc;
}

size_t ss_refiner_memory(const ss_refiner *r)
{
    const ss_refiner_config *c = &r->config;
    size_t every = (size_t)c->every * (c->gradients ? 2 : 1), micro = (size_t)c->micro_batch;
    size_t d = (size_t)r->model->config.dim;
    size_t moments = c->optimiser.kind == SS_OPTIMISER_ADAM ? 3 : 2; /* and the gradient */
    return ss_backprop_memory(r->net) + (size_t)r->slots * ss_refiner_ring_size(c, &r->model->config) +
           ((every + micro + 2) * r->most + moments * r->model->ntrainable + r->model->nvalue + r->work_size +
            ((size_t)r->room + (size_t)c->batch + 2 * micro) * d) *
               sizeof(float);
}
