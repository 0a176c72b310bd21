#include "learn/learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "learn/loss.h"
#include "memory/replay.h"
#include "nn/backprop.h"

struct ss_learner {
    ss_learner_config config;
    ss_model *model;
    ss_pool *pool;
    ss_backprop *net;
    ss_mixture *mixture;
    ss_replay *replay;
    ss_recent recent; /* rows 0 when no negatives come from it */
    ss_rng draws, views, virtuals;
    uint64_t windows, steps, refused, since; /* since: windows since the last step */
    ss_learner_report report;
    size_t cell; /* floats of a window */
    int keep;    /* views of one forward with activations */
    float *x;    /* [2 batch][cell]: all first views, then all second ones */
    float *raw;  /* [2][cell]: a window and what is mixed in */
    float *z, *dz, *dz2, *negatives, *grad, *moment, *moment2, *work;
    uint64_t *window, *start; /* [batch], [2 batch] first frames of the views */
    uint8_t *mask, *far;      /* [batch][batch], [batch][nnegatives] */
};

void ss_learner_config_default(ss_learner_config *c, ss_learner_kind kind)
{
    bool cached = kind == SS_LEARNER_CACHED;
    *c = (ss_learner_config){
        .kind = kind,
        .negatives = SS_NEGATIVES_BATCH,
        .nnegatives = 256,
        .batch = cached ? 64 : 8,
        .micro_batch = 16,
        .replay = 1024,
        .every = cached ? 8 : 2,
        .start = 128,
        .shift = 48,
        .temperature = 0.1f,
        .optimiser = SS_OPTIMISER_ADAM,
        .rate = 1e-3f,
        .warmup = 100,
        .clip = 1,
        .seed = 1,
    };
    ss_augment_default(&c->augment);
}

static int check(const ss_learner_config *c, const ss_model_config *m, ss_err *e)
{
    const struct {
        const char *name;
        double value, min, max;
    } bounds[] = {
        {"batch", c->batch, 2, 4096},
        {"micro-batch", c->micro_batch, 1, 8192},
        {"replay", c->replay, c->batch, 1 << 20},
        {"every", c->every, 1, 1 << 20},
        {"start", c->start, 2, 1 << 20},
        {"shift", c->shift, 0, m->frames - 1},
        {"number of negatives", c->nnegatives, 1, 65536},
        {"temperature", c->temperature, 1e-3, 100},
        {"rate", c->rate, 0, 10},
        {"warmup", c->warmup, 0, 1 << 30},
        {"clip", c->clip, 0, 1e9},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (!(bounds[i].value >= bounds[i].min && bounds[i].value <= bounds[i].max))
            return ss_err_set(e, SS_ERANGE, "%s: found %g, expected %g to %g", bounds[i].name,
                              bounds[i].value, bounds[i].min, bounds[i].max);
    if (c->kind != SS_LEARNER_CONTRAST && c->kind != SS_LEARNER_CACHED)
        return ss_err_set(e, SS_ERANGE, "learner: found %d, expected contrast or cached", c->kind);
    if (c->optimiser != SS_OPTIMISER_ADAM && c->optimiser != SS_OPTIMISER_SGD)
        return ss_err_set(e, SS_ERANGE, "optimiser: found %d, expected adam or sgd", c->optimiser);
    if (c->kind == SS_LEARNER_CONTRAST && (!c->negatives || c->negatives > 7))
        return ss_err_set(e, SS_ERANGE,
                          "negatives: found %u, expected batch, virtual, replay or some of them",
                          c->negatives);
    return ss_augment_check(&c->augment, e);
}

static bool uses(const ss_learner *l, unsigned negatives)
{
    return l->config.kind == SS_LEARNER_CONTRAST && (l->config.negatives & negatives);
}

/* Recent negatives: all of them, or half when virtual ones come too. */
static int recent_rows(const ss_learner *l)
{
    if (!uses(l, SS_NEGATIVES_REPLAY))
        return 0;
    return uses(l, SS_NEGATIVES_VIRTUAL) ? (l->config.nnegatives + 1) / 2 : l->config.nnegatives;
}

int ss_learner_create(ss_learner **out, const ss_learner_config *c, ss_model *m, ss_pool *pool, ss_err *e)
{
    *out = NULL;
    int rc = check(c, &m->config, e);
    if (rc < 0)
        return rc;
    ss_learner *l = ss_zalloc(1, sizeof *l);
    if (!l)
        return ss_err_set(e, SS_ENOMEM, "learner: out of memory");
    l->config = *c;
    l->model = m;
    l->pool = pool;
    l->draws = ss_rng_make(c->seed, 1);
    l->views = ss_rng_make(c->seed, 2);
    l->virtuals = ss_rng_make(c->seed, 3);
    l->cell = (size_t)m->config.mels * (size_t)m->config.frames;
    size_t b = (size_t)c->batch, d = (size_t)m->config.dim, k = (size_t)c->nnegatives;
    bool cached = c->kind == SS_LEARNER_CACHED, memory = uses(l, SS_NEGATIVES_VIRTUAL | SS_NEGATIVES_REPLAY);
    l->keep = cached && c->micro_batch < 2 * c->batch ? c->micro_batch : 2 * c->batch;
    rc = ss_backprop_open(&l->net, m, pool, SS_CUT_INPUT, l->keep, e);
    if (rc < 0)
        goto out;
    if (m->mixture)
        rc = ss_mixture_unpack(&l->mixture, m->mixture, m->mixture_size, e);
    else
        rc = ss_mixture_create(&l->mixture, SS_MIXTURE_COMPONENTS, m->config.dim, e);
    if (rc < 0)
        goto out;
    if (ss_mixture_dim(l->mixture) != m->config.dim) {
        rc = ss_err_set(e, SS_EUNFIT, "mixture of dimension %d, the model has %d", ss_mixture_dim(l->mixture),
                        m->config.dim);
        goto out;
    }
    ss_replay_config rp;
    ss_replay_config_default(&rp);
    rp.mels = m->config.mels;
    rp.frames = m->config.frames;
    rp.hop = (m->config.frames + 1) / 2;
    rp.windows = c->replay;
    /* Room for as many windows also when clips are short. */
    rp.ring = c->replay * rp.hop + (c->replay / 8 + 1) * (rp.frames - rp.hop);
    if (rp.ring < rp.frames * 4)
        rp.ring = rp.frames * 4;
    rc = ss_replay_create(&l->replay, &rp, e);
    if (rc < 0)
        goto out;
    size_t work = ss_infonce_views_work(c->batch, m->config.dim);
    if (memory) {
        ss_negatives shape = {.k = c->nnegatives, .own = true};
        work = ss_infonce_anchors_work(c->batch, m->config.dim, &shape);
    }
    int rows = recent_rows(l);
    l->x = ss_alloc(2 * b * l->cell, sizeof(float));
    l->raw = ss_alloc(2 * l->cell, sizeof(float));
    l->z = ss_alloc(2 * b * d, sizeof(float));
    l->dz = ss_alloc(2 * b * d, sizeof(float));
    l->dz2 = ss_alloc(2 * b * d, sizeof(float));
    l->negatives = ss_zalloc(memory ? b * k * d : 0, sizeof(float));
    l->grad = ss_alloc(m->ntrainable, sizeof(float));
    l->moment = ss_zalloc(m->ntrainable, sizeof(float));
    l->moment2 = ss_zalloc(c->optimiser == SS_OPTIMISER_ADAM ? m->ntrainable : 0, sizeof(float));
    l->work = ss_alloc(work, sizeof(float));
    l->window = ss_alloc(b, sizeof *l->window);
    l->start = ss_alloc(2 * b, sizeof *l->start);
    l->mask = ss_alloc(b * b, 1);
    l->far = ss_alloc(b * k, 1);
    if (!l->x || !l->raw || !l->z || !l->dz || !l->dz2 || !l->negatives || !l->grad || !l->moment ||
        !l->moment2 || !l->work || !l->window || !l->start || !l->mask || !l->far ||
        (rows && ss_recent_init(&l->recent, rows, m->config.dim)))
        rc = ss_err_set(e, SS_ENOMEM, "learner: out of memory");
out:
    if (rc < 0)
        ss_learner_free(l);
    else
        *out = l;
    return rc < 0 ? rc : SS_OK;
}

void ss_learner_free(ss_learner *l)
{
    if (!l)
        return;
    ss_backprop_close(&l->net);
    ss_mixture_free(l->mixture);
    ss_replay_free(l->replay);
    ss_recent_clear(&l->recent);
    void *blocks[] = {l->x,      l->raw,     l->z,    l->dz,     l->dz2,   l->negatives, l->grad,
                      l->moment, l->moment2, l->work, l->window, l->start, l->mask,      l->far};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ss_free(blocks[i]);
    ss_free(l);
}

int ss_learner_window(ss_learner *l, const float *x, uint64_t seq, bool continues, float *z,
                      ss_mixture_score *score, ss_err *e)
{
    if (ss_replay_push(l->replay, x, seq, continues) < 0)
        return ss_err_set(e, SS_ERANGE, "window %llu has a value that is not finite",
                          (unsigned long long)seq);
    ss_backprop_forward(l->net, 1, x, z, 0);
    ss_mixture_rate(l->mixture, z, score);
    ss_mixture_update(l->mixture, z);
    if (l->recent.rows)
        ss_recent_push(&l->recent, z, (int64_t)ss_replay_start(l->replay, ss_replay_end(l->replay) - 1, 0));
    l->windows++;
    l->since++;
    return SS_OK;
}

bool ss_learner_due(const ss_learner *l)
{
    return l->windows >= (uint64_t)l->config.start && l->since >= (uint64_t)l->config.every;
}

void ss_learner_skip(ss_learner *l)
{
    l->since = 0;
}

static void make_view(ss_learner *l, int i, uint64_t start)
{
    const ss_model_config *m = &l->model->config;
    float *x = l->raw, *q = NULL;
    ss_view view;
    uint64_t other;
    l->start[i] = start;
    ss_replay_read(l->replay, start, x);
    ss_augment_draw(&l->config.augment, &l->views, m->mels, m->frames, &view);
    if (l->config.augment.mix > 0 && ss_replay_draw(l->replay, &l->draws, 0, 1, &other)) {
        q = l->raw + l->cell;
        ss_replay_read(l->replay, ss_replay_start(l->replay, other, 0), q);
    }
    ss_augment_apply(&l->config.augment, &view, m->mels, m->frames, x, q, l->x + (size_t)i * l->cell);
}

static bool overlap(const ss_learner *l, uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) < (uint64_t)l->model->config.frames;
}

/* Negatives out of the mixture and the recent embeddings, for each anchor its own: [b][k][d], k returned. */
static int gather_negatives(ss_learner *l, int b)
{
    size_t d = (size_t)l->model->config.dim;
    int rows = l->recent.rows, nrecent = rows ? ss_recent_count(&l->recent) : 0, nvirtual = 0;
    if (uses(l, SS_NEGATIVES_VIRTUAL) && ss_mixture_ready(l->mixture))
        nvirtual = l->config.nnegatives - rows;
    int k = nrecent + nvirtual;
    for (int i = 0; i < b; i++) {
        float *to = l->negatives + (size_t)i * (size_t)k * d;
        uint8_t *far = l->far + (size_t)i * (size_t)k;
        memset(far, 0, (size_t)k);
        for (int j = 0; j < nrecent; j++)
            far[j] = overlap(l, l->start[i], (uint64_t)l->recent.tag[j]) ||
                     overlap(l, l->start[b + i], (uint64_t)l->recent.tag[j]);
        if (nrecent)
            memcpy(to, l->recent.z, (size_t)nrecent * d * sizeof *to);
        if (!nvirtual)
            continue;
        ss_mixture_score own;
        ss_mixture_rate(l->mixture, l->z + (size_t)i * d, &own);
        if (own.component < 0 ||
            ss_mixture_draw(l->mixture, own.component, &l->virtuals, nvirtual, to + (size_t)nrecent * d) < 0)
            memset(far + nrecent, 1, (size_t)nvirtual);
    }
    return k;
}

/* Loss of the b pairs in l->z, gradient into l->dz. */
static void pair_loss(ss_learner *l, int b, ss_infonce_result *r)
{
    const ss_infonce o = {l->config.temperature, l->config.decoupled};
    int d = l->model->config.dim;
    size_t half = (size_t)b * (size_t)d;
    float *z1 = l->z, *z2 = l->z + half, *dz1 = l->dz, *dz2 = l->dz + half;
    for (int i = 0; i < b; i++)
        for (int j = 0; j < b; j++)
            l->mask[i * b + j] =
                overlap(l, l->start[i], l->start[b + j]) || overlap(l, l->start[j], l->start[b + i]);
    int k = uses(l, SS_NEGATIVES_VIRTUAL | SS_NEGATIVES_REPLAY) ? gather_negatives(l, b) : 0;
    bool batch = !uses(l, SS_NEGATIVES_VIRTUAL | SS_NEGATIVES_REPLAY) || uses(l, SS_NEGATIVES_BATCH);
    /* Until the memory has seen enough, the batch is what there is to learn from. */
    if (!k) {
        ss_infonce_views(&o, l->pool, b, d, z1, z2, l->mask, dz1, dz2, l->work, r);
        return;
    }
    const ss_negatives n = {.k = k, .own = true, .z = l->negatives, .mask = l->far};
    ss_infonce_result back;
    ss_infonce_anchors(&o, l->pool, b, d, z1, z2, batch, l->mask, &n, dz1, dz2, l->work, r);
    ss_infonce_anchors(&o, l->pool, b, d, z2, z1, batch, l->mask, &n, l->dz2 + half, l->dz2, l->work, &back);
    ss_axpy(2 * half, 1, l->dz2, l->dz);
    ss_scale(2 * half, 0.5f, l->dz, l->dz);
    r->loss = (r->loss + back.loss) / 2;
    r->positive = (r->positive + back.positive) / 2;
    r->negative = (r->negative + back.negative) / 2;
    r->top = (r->top + back.top) / 2;
}

static bool apply_gradient(ss_learner *l)
{
    const ss_learner_config *c = &l->config;
    const ss_optimiser_config o = {c->optimiser, c->rate, c->warmup, c->clip};
    ss_optimiser_report r = {0};
    bool good = ss_optimiser_step(&o, l->pool, l->steps + 1, l->model->ntrainable, l->model->value, l->grad,
                                  l->moment, l->moment2, &r);
    l->report.gradient = r.gradient;
    if (!good)
        return false;
    l->report.rate = r.rate;
    l->steps++;
    ss_backprop_weights_changed(l->net);
    return true;
}

int ss_learner_step(ss_learner *l)
{
    const ss_learner_config *c = &l->config;
    size_t d = (size_t)l->model->config.dim;
    l->since = 0;
    if (!l->model->value)
        return SS_EINVAL;
    int b = (int)ss_replay_draw(l->replay, &l->draws, (size_t)c->replay, (size_t)c->batch, l->window);
    if (b < 2)
        return 0;
    for (int i = 0; i < b; i++) {
        int shift = c->shift ? (int)ss_rng_below(&l->draws, 2 * (uint32_t)c->shift + 1) - c->shift : 0;
        make_view(l, i, ss_replay_start(l->replay, l->window[i], 0));
        make_view(l, b + i, ss_replay_start(l->replay, l->window[i], shift));
    }
    /* One pass where all views fit; else embed first, and go back through each part with its gradient. */
    bool whole = 2 * b <= l->keep;
    ss_backprop_forward(l->net, 2 * b, l->x, l->z, whole);
    ss_infonce_result r;
    pair_loss(l, b, &r);
    memset(l->grad, 0, l->model->ntrainable * sizeof *l->grad);
    for (int i = 0; i < 2 * b; i += l->keep) {
        int n = 2 * b - i < l->keep ? 2 * b - i : l->keep;
        if (!whole)
            ss_backprop_forward(l->net, n, l->x + (size_t)i * l->cell, l->z + (size_t)i * d, 1);
        ss_backprop_backward(l->net, l->dz + (size_t)i * d, l->grad, NULL);
    }
    bool good = isfinite(r.loss) && apply_gradient(l);
    if (good && l->model->config.norm == SS_NORM_BATCH)
        ss_backprop_update_statistics(l->net, 0.1f);
    l->refused += !good;
    l->report.loss = r.loss;
    l->report.positive = r.positive;
    l->report.negative = r.negative;
    l->report.top = r.top;
    return good;
}

void ss_learner_report_last(const ss_learner *l, ss_learner_report *r)
{
    *r = l->report;
    r->step = l->steps;
    r->windows = l->windows;
    r->refused = l->refused;
    r->live = ss_mixture_live(l->mixture);
}

void ss_learner_weights_changed(ss_learner *l)
{
    ss_backprop_weights_changed(l->net);
}

int ss_learner_take_mixture(ss_learner *l, const void *bytes, size_t size, ss_err *e)
{
    ss_mixture *m;
    int rc = ss_mixture_unpack(&m, bytes, size, e);
    if (rc == SS_OK && ss_mixture_dim(m) != l->model->config.dim) {
        rc = ss_err_set(e, SS_EUNFIT, "mixture of dimension %d, the model has %d", ss_mixture_dim(m),
                        l->model->config.dim);
        ss_mixture_free(m);
    }
    if (rc < 0)
        return rc;
    ss_mixture_free(l->mixture);
    l->mixture = m;
    return SS_OK;
}

int ss_learner_store_mixture(ss_learner *l, ss_err *e)
{
    return ss_mixture_store(l->mixture, &l->model->mixture, &l->model->mixture_size, e);
}

const ss_mixture *ss_learner_mixture(const ss_learner *l)
{
    return l->mixture;
}

/* What a checkpoint must have been made with to be gone on from. */
static void describe(const ss_learner *l, char *out, size_t size)
{
    const ss_learner_config *c = &l->config;
    char arch[17], augment[256];
    ss_model_arch_hash(&l->model->config, arch);
    ss_augment_describe(&c->augment, augment, sizeof augment);
    snprintf(
        out, size,
        "arch %s kind %d negatives %u %d decoupled %d batch %d micro %d replay %d every %d start %d shift %d "
        "temperature %.9g optimiser %d rate %.9g warmup %d clip %.9g seed %llu %s",
        arch, c->kind, c->negatives, c->nnegatives, c->decoupled, c->batch, c->micro_batch, c->replay,
        c->every, c->start, c->shift, (double)c->temperature, c->optimiser, (double)c->rate, c->warmup,
        (double)c->clip, (unsigned long long)c->seed, augment);
}

/* All of the state but the mixture; returns how many. */
static int parts(ss_learner *l, ss_checkpoint_part out[16])
{
    size_t words, bytes, n = l->model->ntrainable;
    int64_t *table = ss_replay_table(l->replay, &words);
    uint8_t *ring = ss_replay_ring(l->replay, &bytes);
    const ss_checkpoint_part all[] = {
        {"model", SS_DTYPE_F32, l->model->nvalue, l->model->value},
        {"moment", SS_DTYPE_F32, n, l->moment},
        {"replay.table", SS_DTYPE_I64, words, table},
        {"replay.ring", SS_DTYPE_U8, bytes, ring},
        {"windows", SS_DTYPE_I64, 1, &l->windows},
        {"steps", SS_DTYPE_I64, 1, &l->steps},
        {"refused", SS_DTYPE_I64, 1, &l->refused},
        {"since", SS_DTYPE_I64, 1, &l->since},
        {"recent.pushed", SS_DTYPE_I64, 1, &l->recent.pushed},
        {"draws", SS_DTYPE_I64, SS_RNG_WORDS, &l->draws},
        {"views", SS_DTYPE_I64, SS_RNG_WORDS, &l->views},
        {"virtuals", SS_DTYPE_I64, SS_RNG_WORDS, &l->virtuals},
    };
    int k = sizeof all / sizeof *all;
    memcpy(out, all, sizeof all);
    if (l->config.optimiser == SS_OPTIMISER_ADAM)
        out[k++] = (ss_checkpoint_part){"moment2", SS_DTYPE_F32, n, l->moment2};
    if (l->recent.rows) {
        size_t rows = (size_t)l->recent.rows;
        out[k++] = (ss_checkpoint_part){"recent.z", SS_DTYPE_F32, rows * (size_t)l->recent.d, l->recent.z};
        out[k++] = (ss_checkpoint_part){"recent.tag", SS_DTYPE_I64, rows, l->recent.tag};
    }
    return k;
}

int ss_learner_save(ss_learner *l, ss_checkpoint_writer *w, ss_err *e)
{
    ss_checkpoint_part p[16];
    char text[512];
    if (!l->model->value)
        return ss_err_set(e, SS_EINVAL, "learner: the model's values are in its file");
    ss_checkpoint_put_parts(w, p, parts(l, p));
    ss_mixture_save(l->mixture, w);
    describe(l, text, sizeof text);
    ss_checkpoint_put_text(w, "learner", text);
    return SS_OK;
}

int ss_learner_load(ss_learner *l, ss_checkpoint *c, ss_err *e)
{
    ss_checkpoint_part p[16];
    char text[512];
    if (!l->model->value)
        return ss_err_set(e, SS_EINVAL, "learner: the model's values are in its file");
    describe(l, text, sizeof text);
    const char *theirs = ss_checkpoint_text(c, "learner");
    if (!theirs || strcmp(theirs, text))
        return ss_err_set(e, SS_EUNFIT, "checkpoint of another learner: found '%s', expected '%s'",
                          theirs ? theirs : "none", text);
    int rc = ss_checkpoint_get_parts(c, p, parts(l, p), e);
    if (rc == SS_OK)
        rc = ss_replay_restored(l->replay, e);
    if (rc == SS_OK)
        rc = ss_mixture_load(l->mixture, c, e);
    ss_backprop_weights_changed(l->net);
    return rc;
}

size_t ss_learner_memory(const ss_learner *l)
{
    const ss_learner_config *c = &l->config;
    size_t b = (size_t)c->batch, d = (size_t)l->model->config.dim, bytes, words;
    ss_replay_ring(l->replay, &bytes);
    ss_replay_table(l->replay, &words);
    return ss_backprop_memory(l->net) + bytes + words * 8 +
           (2 * (b + 1) * l->cell + 6 * b * d + 3 * l->model->ntrainable) * sizeof(float) +
           (uses(l, SS_NEGATIVES_VIRTUAL | SS_NEGATIVES_REPLAY)
                ? b * (size_t)c->nnegatives * d * sizeof(float)
                : 0);
}
