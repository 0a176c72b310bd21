#include "nn/net.h"

#include <string.h>

#include "base/mem.h"
#include "nn/pack_internal.h"

/* Windows that go through the layers together: enough rows for the small last layers, few enough that the
 * activations of the first ones stay in the cache. No result depends on it. */
#define PIECE 8

#define BLOCKS (SS_UNITS + 1) /* each makes at least one unit ready */

struct ss_net {
    ss_layers layers; /* its parameters are looked at in ss_net_open and ss_net_widen only */
    ss_model_config config;
    ss_pool *pool;
    ss_behind behind;
    int from, until, piece, lanes;
    ss_ready unit[SS_UNITS], fc; /* those that are ready have `packed`, in a block */
    float *block[BLOCKS];
    int nblock;
    size_t floats; /* in the blocks */
    ss_scratch_size size;
    ss_scratch *lane;
};

/* ---- weights ---- */

/* What lies between two cuts. */
static void set_of(const ss_net *n, int from, int until, ss_unit_set set)
{
    int first, last;
    memset(set, 0, sizeof(ss_unit_set));
    ss_layers_range(&n->layers, from, until, &first, &last);
    for (int i = first; i < last; i++)
        set[i] = true;
    set[n->layers.nunit] = from < until && until == SS_CUT_EMBEDDING;
}

/* Leaves in the set what is not ready; false when there is nothing. */
static bool missing(const ss_net *n, ss_unit_set set)
{
    bool any = false;
    for (int i = 0; i <= n->layers.nunit; i++) {
        set[i] = set[i] && !(i < n->layers.nunit ? &n->unit[i] : &n->fc)->packed;
        any |= set[i];
    }
    return any;
}

static int prepare(ss_net *n, const ss_model *m, int from, int until, ss_err *e)
{
    ss_unit_set set;
    ss_ready unit[SS_UNITS], fc = n->fc;
    ss_packer *packer;
    float *block = NULL;
    size_t floats;
    set_of(n, from, until, set);
    if (!missing(n, set))
        return SS_OK;
    memcpy(unit, n->unit, sizeof unit);
    int rc = ss_packer_open(&packer, &n->layers, n->pool, n->behind, set, e);
    if (rc == SS_OK && (rc = ss_pack_place(&n->layers, n->behind, set, unit, &fc, &block, &floats)) < 0)
        ss_err_set(e, rc, "cannot allocate a network from cut '%s' to cut '%s'", ss_cut_name(from),
                   ss_cut_name(until));
    if (rc == SS_OK)
        rc = ss_packer_run(packer, m, unit, &fc, e);
    ss_packer_close(&packer);
    if (rc < 0) {
        ss_free(block);
        return rc;
    }
    memcpy(n->unit, unit, sizeof unit);
    n->fc = fc;
    n->block[n->nblock++] = block;
    n->floats += floats;
    return SS_OK;
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
        rc = ss_scratch_alloc(&lane[i], &both, n->piece == 1);
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

int ss_net_open(ss_net **to, const ss_model *m, ss_pool *pool, ss_weights weights, int from, int until,
                int max_batch, ss_err *e)
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
    if (weights == SS_WEIGHTS_F16)
        ss_layers_half(&n->layers);
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
    struct job j = {net,
                    from,
                    until,
                    n,
                    net->piece,
                    ss_model_cut_size(&net->config, from),
                    ss_model_cut_size(&net->config, until),
                    in,
                    out};
    if (from == until) {
        memcpy(out, in, (size_t)n * j.in_each * sizeof(float));
        return SS_OK;
    }
    ss_unit_set set;
    set_of(net, from, until, set);
    if (missing(net, set))
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
