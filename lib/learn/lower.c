#include "learn/lower.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "nn/backprop.h"

/* A window that was sent; the k-th oldest is in row (first + k) % kept of the ring. done: it has had its
 * gradient, or one is laid in. */
typedef struct entry {
    int64_t device, epoch, seq, cut, done;
} entry;
enum { ENTRY_WORDS = sizeof(entry) / sizeof(int64_t) };

struct ss_lower {
    ss_lower_config config;
    ss_model *model;
    ss_pool *pool;
    ss_backprop *net;
    size_t cell, nweights, most; /* floats of a window; before the deepest cut; at the widest one */
    size_t volume[SS_CUT_EMBEDDING];
    uint64_t first, count, windows, steps, learnt, missed, refused;
    ss_optimiser_report report;
    int present;
    entry *entry; /* [kept] */
    float *ring;  /* [kept][cell] */
    float *grad, *moment, *moment2;
    float *in, *out, *back; /* [micro_batch] windows, at their cut, gradients there */
    /* What is laid in. */
    int n, room;
    int *row;    /* [room] of the ring */
    int *part;   /* [micro_batch] of those that go through together */
    float *dcut; /* [room][most] */
};

void ss_lower_config_default(ss_lower_config *c)
{
    *c = (ss_lower_config){.until = SS_CUT_EMBEDDING - 1,
                           .kept = 256,
                           .micro_batch = 16,
                           .optimiser = {SS_OPTIMISER_SGD, 0.03f, 20, 1}};
}

static int check(const ss_lower_config *c, ss_err *e)
{
    const struct {
        const char *name;
        double value, min, max;
    } bounds[] = {
        {"cut", c->until, SS_CUT_BLOCK0, SS_CUT_EMBEDDING - 1},
        {"windows kept", c->kept, 1, 1 << 20},
        {"micro-batch", c->micro_batch, 1, 8192},
        {"rate", c->optimiser.rate, 0, 100},
        {"warmup", c->optimiser.warmup, 0, 1 << 30},
        {"clip", c->optimiser.clip, 0, 1e9},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (!(bounds[i].value >= bounds[i].min && bounds[i].value <= bounds[i].max))
            return ss_err_set(e, SS_ERANGE, "%s: found %g, expected %g to %g", bounds[i].name,
                              bounds[i].value, bounds[i].min, bounds[i].max);
    if (c->optimiser.kind != SS_OPTIMISER_ADAM && c->optimiser.kind != SS_OPTIMISER_SGD)
        return ss_err_set(e, SS_ERANGE, "optimiser: found %d, expected adam or sgd", c->optimiser.kind);
    return SS_OK;
}

static void measure(ss_lower *l)
{
    const ss_model_config *m = &l->model->config;
    for (int cut = SS_CUT_INPUT; cut <= l->config.until; cut++) {
        l->volume[cut] = ss_model_cut_size(m, cut);
        if (cut > SS_CUT_INPUT && l->volume[cut] > l->most)
            l->most = l->volume[cut];
    }
    l->cell = l->volume[SS_CUT_INPUT];
    /* Parameters lie in the order of the network: those before a cut come first. */
    l->nweights = (size_t)ss_model_params(m, l->config.until);
}

static int alloc_all(ss_lower *l, ss_err *e)
{
    size_t kept = (size_t)l->config.kept, micro = (size_t)l->config.micro_batch;
    bool adam = l->config.optimiser.kind == SS_OPTIMISER_ADAM;
    l->entry = ss_zalloc(kept, sizeof *l->entry);
    l->ring = ss_zalloc(kept * l->cell, sizeof *l->ring);
    l->grad = ss_alloc(l->nweights, sizeof *l->grad);
    l->moment = ss_zalloc(l->nweights, sizeof *l->moment);
    l->moment2 = ss_zalloc(adam ? l->nweights : 0, sizeof *l->moment2);
    l->in = ss_alloc(micro * l->cell, sizeof *l->in);
    l->out = ss_alloc(micro * l->most, sizeof *l->out);
    l->back = ss_alloc(micro * l->most, sizeof *l->back);
    l->part = ss_alloc(micro, sizeof *l->part);
    if (!l->entry || !l->ring || !l->grad || !l->moment || !l->moment2 || !l->in || !l->out || !l->back ||
        !l->part)
        return ss_err_set(e, SS_ENOMEM, "learner of the blocks before a cut: out of memory");
    return SS_OK;
}

int ss_lower_create(ss_lower **out, const ss_lower_config *c, ss_model *m, ss_pool *pool, ss_err *e)
{
    *out = NULL;
    int rc = check(c, e);
    if (rc < 0)
        return rc;
    ss_lower *l = ss_zalloc(1, sizeof *l);
    if (!l)
        return ss_err_set(e, SS_ENOMEM, "learner of the blocks before a cut: out of memory");
    l->config = *c;
    l->model = m;
    l->pool = pool;
    measure(l);
    rc = ss_backprop_open_between(&l->net, m, pool, SS_CUT_INPUT, c->until, c->micro_batch, e);
    if (!rc)
        rc = alloc_all(l, e);
    if (rc < 0)
        ss_lower_free(l);
    else
        *out = l;
    return rc < 0 ? rc : SS_OK;
}

void ss_lower_free(ss_lower *l)
{
    if (!l)
        return;
    ss_backprop_close(&l->net);
    void *blocks[] = {l->entry, l->ring, l->grad, l->moment, l->moment2, l->in,
                      l->out,   l->back, l->row,  l->dcut,   l->part};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ss_free(blocks[i]);
    ss_free(l);
}

/* ---- windows ---- */

static int check_cut(const ss_lower *l, int cut, ss_err *e)
{
    if (cut > SS_CUT_INPUT && cut <= l->config.until)
        return SS_OK;
    return ss_err_set(e, SS_EINVAL, "no cut %d: expected %d to %d", cut, SS_CUT_BLOCK0, l->config.until);
}

/* Row for a new window. What is laid in names rows, so it is given up with its window. */
static size_t push(ss_lower *l)
{
    uint64_t kept = (uint64_t)l->config.kept, row = (l->first + l->count) % kept;
    if (l->count < kept)
        l->count++;
    else
        l->first = (l->first + 1) % kept;
    return (size_t)row;
}

int ss_lower_window(ss_lower *l, const ss_lower_item *w, float *out, ss_err *e)
{
    int rc = check_cut(l, w->cut, e);
    if (rc < 0)
        return rc;
    if (!ss_all_finite(l->cell, w->x))
        return ss_err_set(e, SS_ERANGE, "window %" PRIu64 " has a value that is not finite", w->seq);
    ss_backprop_forward_between(l->net, SS_CUT_INPUT, w->cut, 1, w->x, out, 0);
    if (!ss_all_finite(l->volume[w->cut], out))
        return ss_err_set(e, SS_ERANGE, "window %" PRIu64 " has a value at its cut that is not finite",
                          w->seq);
    ss_lower_drop(l);
    size_t row = push(l);
    l->entry[row] = (entry){w->device, (int64_t)w->epoch, (int64_t)w->seq, w->cut, 0};
    memcpy(l->ring + row * l->cell, w->x, l->cell * sizeof *l->ring);
    l->windows++;
    return SS_OK;
}

/* ---- gradients ---- */

/* The newest window of that identity; -1: there is none. */
static int find(const ss_lower *l, const ss_lower_item *g)
{
    for (uint64_t k = l->count; k-- > 0;) {
        uint64_t row = (l->first + k) % (uint64_t)l->config.kept;
        const entry *x = &l->entry[row];
        if (x->seq == (int64_t)g->seq && x->device == (int64_t)g->device && x->epoch == (int64_t)g->epoch)
            return (int)row;
    }
    return -1;
}

static int make_room(ss_lower *l, ss_err *e)
{
    if (l->n < l->room)
        return SS_OK;
    size_t room = l->room ? 2 * (size_t)l->room : (size_t)l->config.micro_batch;
    int *row = ss_realloc(l->row, room, sizeof *row);
    if (row)
        l->row = row;
    float *dcut = row ? ss_realloc(l->dcut, room * l->most, sizeof *dcut) : NULL;
    if (!dcut)
        return ss_err_set(e, SS_ENOMEM, "gradients at a cut: out of memory");
    l->dcut = dcut;
    l->room = (int)room;
    return SS_OK;
}

int ss_lower_gradient(ss_lower *l, const ss_lower_item *g, ss_err *e)
{
    int row = find(l, g);
    if (row < 0 || l->entry[row].done) {
        l->missed++;
        return 0;
    }
    if (l->entry[row].cut != g->cut)
        return ss_err_set(e, SS_EUNFIT, "gradient at cut %s for window %" PRIu64 ", which was cut at %s",
                          ss_cut_name(g->cut), g->seq, ss_cut_name((int)l->entry[row].cut));
    if (!ss_all_finite(l->volume[g->cut], g->x))
        return ss_err_set(e, SS_ERANGE, "the gradient of window %" PRIu64 " has a value that is not finite",
                          g->seq);
    int rc = make_room(l, e);
    if (rc < 0)
        return rc;
    memcpy(l->dcut + (size_t)l->n * l->most, g->x, l->volume[g->cut] * sizeof *g->x);
    l->row[l->n++] = row;
    l->entry[row].done = 1;
    return 1;
}

void ss_lower_drop(ss_lower *l)
{
    for (int i = 0; i < l->n; i++)
        l->entry[l->row[i]].done = 0;
    l->n = 0;
}

/* ---- a step ---- */

/* n of those laid in, all cut at the same place. */
static void go_back(ss_lower *l, int cut, const int *which, int n)
{
    size_t volume = l->volume[cut];
    for (int i = 0; i < n; i++) {
        memcpy(l->in + (size_t)i * l->cell, l->ring + (size_t)l->row[which[i]] * l->cell,
               l->cell * sizeof *l->in);
        memcpy(l->back + (size_t)i * volume, l->dcut + (size_t)which[i] * l->most, volume * sizeof *l->back);
    }
    ss_backprop_forward_between(l->net, SS_CUT_INPUT, cut, n, l->in, l->out, 1);
    ss_backprop_backward(l->net, l->back, l->grad, NULL);
}

/* All that are laid in, cut by cut, in the order in which they came: as the refiner takes its batch. */
static void all_back(ss_lower *l)
{
    memset(l->grad, 0, l->nweights * sizeof *l->grad);
    for (int cut = SS_CUT_BLOCK0; cut <= l->config.until; cut++) {
        int n = 0;
        for (int i = 0; i < l->n; i++) {
            if (l->entry[l->row[i]].cut == cut)
                l->part[n++] = i;
            if (n && (n == l->config.micro_batch || i + 1 == l->n)) {
                go_back(l, cut, l->part, n);
                n = 0;
            }
        }
    }
}

int ss_lower_step(ss_lower *l)
{
    if (!l->model->value)
        return SS_EINVAL;
    if (!l->n)
        return 0;
    all_back(l);
    bool good = ss_optimiser_step(&l->config.optimiser, l->pool, l->steps + 1, l->nweights, l->model->value,
                                  l->grad, l->moment, l->moment2, &l->report);
    l->present = l->n;
    l->n = 0; /* also when it is refused: it would be so again */
    l->refused += !good;
    if (!good)
        return 0;
    l->steps++;
    l->learnt += (uint64_t)l->present;
    ss_backprop_weights_changed(l->net);
    if (l->model->config.norm == SS_NORM_BATCH)
        ss_backprop_update_statistics(l->net, 0.1f);
    return 1;
}

void ss_lower_report_last(const ss_lower *l, ss_lower_report *r)
{
    *r = (ss_lower_report){.step = l->steps,
                           .windows = l->windows,
                           .learnt = l->learnt,
                           .missed = l->missed,
                           .refused = l->refused,
                           .gradient = l->report.gradient,
                           .rate = l->report.rate,
                           .present = l->present};
}

void ss_lower_weights_changed(ss_lower *l)
{
    ss_backprop_weights_changed(l->net);
}

/* ---- what is kept ---- */

/* What a checkpoint must have been made with to be gone on from. */
static void describe(const ss_lower *l, char *out, size_t size)
{
    const ss_lower_config *c = &l->config;
    char arch[17];
    ss_model_arch_hash(&l->model->config, arch);
    snprintf(out, size, "arch %s until %d kept %d micro %d optimiser %d rate %.9g warmup %d clip %.9g", arch,
             c->until, c->kept, c->micro_batch, c->optimiser.kind, (double)c->optimiser.rate,
             c->optimiser.warmup, (double)c->optimiser.clip);
}

enum { NUMBERS = 7 };
static void numbers(ss_lower *l, ss_checkpoint_part out[NUMBERS])
{
    const ss_checkpoint_part all[NUMBERS] = {
        {"lower.first", SS_DTYPE_I64, 1, &l->first},     {"lower.count", SS_DTYPE_I64, 1, &l->count},
        {"lower.windows", SS_DTYPE_I64, 1, &l->windows}, {"lower.steps", SS_DTYPE_I64, 1, &l->steps},
        {"lower.learnt", SS_DTYPE_I64, 1, &l->learnt},   {"lower.missed", SS_DTYPE_I64, 1, &l->missed},
        {"lower.refused", SS_DTYPE_I64, 1, &l->refused}};
    memcpy(out, all, sizeof all);
}

/* The ring is as long as rows are in use: until all are, they are the first ones. */
static int parts(ss_lower *l, ss_checkpoint_part out[4])
{
    int k = 0;
    out[k++] = (ss_checkpoint_part){"lower.moment", SS_DTYPE_F32, l->nweights, l->moment};
    if (l->config.optimiser.kind == SS_OPTIMISER_ADAM)
        out[k++] = (ss_checkpoint_part){"lower.moment2", SS_DTYPE_F32, l->nweights, l->moment2};
    if (l->count) {
        out[k++] = (ss_checkpoint_part){"lower.entries", SS_DTYPE_I64, l->count * ENTRY_WORDS, l->entry};
        out[k++] = (ss_checkpoint_part){"lower.ring", SS_DTYPE_F32, l->count * l->cell, l->ring};
    }
    return k;
}

void ss_lower_save(ss_lower *l, ss_checkpoint_writer *w)
{
    ss_checkpoint_part n[NUMBERS], p[4];
    char text[256];
    numbers(l, n);
    ss_checkpoint_put_parts(w, n, NUMBERS);
    ss_checkpoint_put_parts(w, p, parts(l, p));
    describe(l, text, sizeof text);
    ss_checkpoint_put_text(w, "lower", text);
}

/* What indices and loops rely on. */
static bool sound(const ss_lower *l)
{
    for (uint64_t i = 0; i < l->count; i++)
        if (l->entry[i].cut < SS_CUT_BLOCK0 || l->entry[i].cut > l->config.until)
            return false;
    return true;
}

int ss_lower_load(ss_lower *l, ss_checkpoint *c, ss_err *e)
{
    ss_checkpoint_part n[NUMBERS], p[4];
    char text[256];
    describe(l, text, sizeof text);
    const char *theirs = ss_checkpoint_text(c, "lower");
    if (!theirs)
        return SS_OK;
    if (strcmp(theirs, text))
        return ss_err_set(e, SS_EUNFIT,
                          "checkpoint of another learner before a cut: found '%s', expected '%s'", theirs,
                          text);
    l->n = 0;
    numbers(l, n);
    int rc = ss_checkpoint_get_parts(c, n, NUMBERS, e);
    uint64_t kept = (uint64_t)l->config.kept;
    if (!rc && (l->count > kept || l->first >= kept || (l->first && l->count < kept)))
        rc = ss_err_set(e, SS_EDAMAGED,
                        "windows kept: found %" PRIu64 " from %" PRIu64 ", expected at most %d", l->count,
                        l->first, l->config.kept);
    if (!rc)
        rc = ss_checkpoint_get_parts(c, p, parts(l, p), e);
    if (!rc && !sound(l))
        rc = ss_err_set(e, SS_EDAMAGED, "the windows kept in the checkpoint are not sound");
    ss_backprop_weights_changed(l->net);
    return rc;
}

size_t ss_lower_memory(const ss_lower *l)
{
    size_t kept = (size_t)l->config.kept, micro = (size_t)l->config.micro_batch;
    size_t moments = l->config.optimiser.kind == SS_OPTIMISER_ADAM ? 3 : 2; /* and the gradient */
    return ss_backprop_memory(l->net) + kept * sizeof(entry) +
           ((kept + micro) * l->cell + (2 * micro + (size_t)l->room) * l->most + moments * l->nweights) *
               sizeof(float);
}
