#include "nn/net.h"

#include <string.h>

#include "base/mem.h"
#include "nn/layers_internal.h"

/* Windows that go through the layers together: enough rows for the small last layers, few enough that the
 * activations of the first ones stay in the cache. No result depends on it. */
#define PIECE 8

struct ss_net {
    ss_layers layers; /* its parameters are not looked at after ss_net_open */
    ss_pool *pool;
    ss_behind behind;
    int from, until, piece, lanes;
    size_t in, out; /* floats of a window */
    ss_ready unit[SS_UNITS], fc;
    ss_scratch_size size;
    ss_scratch *lane;
};

static size_t volume(const ss_model_config *c, int cut)
{
    uint32_t dim[3];
    ss_model_cut_shape(c, cut, dim);
    return (size_t)dim[0] * dim[1] * dim[2];
}

static int prepare_unit(ss_net *n, const ss_model *m, int i, float *w, float *row)
{
    const ss_unit *u = &n->layers.unit[i];
    ss_ready *r = &n->unit[i];
    size_t rows = (size_t)u->conv.cout;
    if (ss_ready_alloc(r, &u->conv, n->behind) < 0)
        return SS_ENOMEM;
    ss_unit_fold(&n->layers, m, i, w, r->bias, row, row + rows);
    ss_conv_pack(&u->conv, w, r->packed);
    if (n->behind == SS_BEHIND_GROUP) {
        memcpy(r->scale, m->value + u->gain->offset, rows * sizeof(float));
        memcpy(r->shift, m->value + u->bias->offset, rows * sizeof(float));
    }
    return SS_OK;
}

static int prepare(ss_net *n, const ss_model *m)
{
    const ss_layers *l = &n->layers;
    int first, last, rc = SS_OK;
    ss_layers_range(l, n->from, n->until, &first, &last);
    float *w = ss_alloc(ss_layers_weight_max(l), sizeof(float));
    float *row = ss_alloc(2 * (size_t)l->fc.cin, sizeof(float)); /* no unit has more channels */
    n->lane = ss_zalloc((size_t)n->lanes, sizeof *n->lane);
    if (!w || !row || !n->lane)
        rc = SS_ENOMEM;
    for (int i = first; i < last && rc == SS_OK; i++)
        rc = prepare_unit(n, m, i, w, row);
    if (rc == SS_OK && n->until == SS_CUT_EMBEDDING && n->from < n->until) {
        rc = ss_ready_alloc(&n->fc, &l->fc, SS_BEHIND_NOTHING);
        if (rc == SS_OK) {
            ss_conv_pack(&l->fc, m->value + l->fc_weight->offset, n->fc.packed);
            memcpy(n->fc.bias, m->value + l->fc_bias->offset, (size_t)l->fc.cout * sizeof(float));
        }
    }
    for (int i = 0; i < n->lanes && rc == SS_OK; i++)
        rc = ss_scratch_alloc(&n->lane[i], &n->size);
    ss_free(w);
    ss_free(row);
    return rc;
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
    n->pool = pool;
    n->behind = m->config.norm == SS_NORM_GROUP ? SS_BEHIND_GROUP : SS_BEHIND_NOTHING;
    n->from = from;
    n->until = until;
    n->piece = max_batch < PIECE ? max_batch : PIECE;
    n->lanes = max_batch > 1 ? ss_pool_threads(pool) : 1;
    n->in = volume(&m->config, from);
    n->out = volume(&m->config, until);
    int rc = ss_layers_init(&n->layers, m, e);
    if (rc == SS_OK) {
        n->size = ss_layers_scratch(&n->layers, from, until, n->piece, pool, n->behind == SS_BEHIND_NOTHING);
        rc = prepare(n, m);
        if (rc < 0)
            ss_err_set(e, rc, "cannot allocate a network from cut '%s' to cut '%s'", ss_cut_name(from),
                       ss_cut_name(until));
    }
    if (rc < 0)
        ss_net_close(&n);
    *to = n;
    return rc;
}

struct job {
    const ss_net *net;
    int n, piece;
    const float *in;
    float *out;
};

static void run_piece(void *arg, int i, int thread)
{
    const struct job *j = arg;
    const ss_net *net = j->net;
    int at = i * j->piece, n = j->n - at < j->piece ? j->n - at : j->piece;
    ss_layers_run(&net->layers, net->unit, &net->fc, NULL, net->from, net->until, n,
                  j->in + (size_t)at * net->in, j->out + (size_t)at * net->out, &net->lane[thread]);
}

int ss_net_run(ss_net *net, int n, const float *in, float *out)
{
    if (n < 0)
        return SS_EINVAL;
    if (net->from == net->until) {
        memcpy(out, in, (size_t)n * net->in * sizeof(float));
        return SS_OK;
    }
    if (net->lanes > 1 && n > 1) { /* each thread takes pieces through all layers */
        int share = (n + net->lanes - 1) / net->lanes;
        struct job j = {net, n, share < net->piece ? share : net->piece, in, out};
        ss_pool_run(net->pool, (n + j.piece - 1) / j.piece, run_piece, &j);
        return SS_OK;
    }
    for (int at = 0; at < n; at += net->piece) /* or all of them share each layer */
        ss_layers_run(&net->layers, net->unit, &net->fc, net->pool, net->from, net->until,
                      n - at < net->piece ? n - at : net->piece, in + (size_t)at * net->in,
                      out + (size_t)at * net->out, &net->lane[0]);
    return SS_OK;
}

size_t ss_net_memory(const ss_net *net)
{
    const ss_scratch_size *s = &net->size;
    size_t bytes =
        (size_t)net->lanes * (s->a + s->b + s->raw + s->stat + s->work) * sizeof(float) + sizeof *net;
    int first, last;
    ss_layers_range(&net->layers, net->from, net->until, &first, &last);
    for (int i = first; i < last; i++)
        bytes += ss_ready_bytes(&net->layers.unit[i].conv, net->behind);
    if (net->fc.packed)
        bytes += ss_ready_bytes(&net->layers.fc, SS_BEHIND_NOTHING);
    return bytes;
}

void ss_net_close(ss_net **net)
{
    ss_net *n = *net;
    if (!n)
        return;
    for (int i = 0; i < SS_UNITS; i++)
        ss_ready_free(&n->unit[i]);
    ss_ready_free(&n->fc);
    for (int i = 0; i < n->lanes && n->lane; i++)
        ss_scratch_free(&n->lane[i]);
    ss_free(n->lane);
    ss_free(n);
    *net = NULL;
}
