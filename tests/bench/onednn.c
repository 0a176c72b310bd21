/*
 * oneDNN (2.x) as one side of a comparison.
 *
 *   bench-onednn --steps=FILE --input=FILE [--batch=B] [--threads=T] [--ms=MS]
 *
 * As its documentation wants it: every primitive picks its layouts ("any") and its algorithm ("auto"),
 * weights are brought into theirs beforehand, bias, shortcut and ReLU are the convolution's own (post-ops),
 * and data is reordered where two primitives differ, at the input and at the output.
 */
#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"
#include "ops.h"
#include "side.h"

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        dnnl_status_t status_ = (call);                                                                      \
        if (status_ != dnnl_success) {                                                                       \
            fprintf(stderr, "bench-onednn: line %d: status %d\n", __LINE__, (int)status_);                   \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

enum { CUTS = SS_CUT_EMBEDDING + 1, MOST_CALLS = 128 };

/* A tensor in whatever layout. */
struct value {
    dnnl_memory_desc_t desc;
    dnnl_memory_t memory;
};

/* Between two cuts, ready to run. */
struct part {
    int ncall, dim;
    struct {
        dnnl_primitive_t primitive;
        int nargs;
        dnnl_exec_arg_t args[4];
    } call[MOST_CALLS];
    struct value in, out; /* plain */
};

static struct ops ops;
static struct ops_options options;
static dnnl_engine_t engine;
static dnnl_stream_t stream;
static float *input, *cut[CUTS];
static struct part *part[2][CUTS];

static dnnl_memory_desc_t describe(int rank, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t d;
    TRY(dnnl_memory_desc_init_by_tag(&d, rank, dims, dnnl_f32, tag));
    return d;
}

static struct value make_value(const dnnl_memory_desc_t *d, void *at)
{
    struct value v = {*d, NULL};
    TRY(dnnl_memory_create(&v.memory, d, engine, at ? at : DNNL_MEMORY_ALLOCATE));
    return v;
}

static float *values_of(const struct value *v)
{
    void *p;
    TRY(dnnl_memory_get_data_handle(v->memory, &p));
    return p;
}

static void add_call(struct part *p, dnnl_primitive_desc_t desc, int n, const dnnl_exec_arg_t *args)
{
    if (p->ncall == MOST_CALLS)
        abort();
    TRY(dnnl_primitive_create(&p->call[p->ncall].primitive, desc));
    p->call[p->ncall].nargs = n;
    memcpy(p->call[p->ncall].args, args, (size_t)n * sizeof *args);
    p->ncall++;
}

static void run_calls(const struct part *p)
{
    for (int i = 0; i < p->ncall; i++)
        TRY(dnnl_primitive_execute(p->call[i].primitive, stream, p->call[i].nargs, p->call[i].args));
    TRY(dnnl_stream_wait(stream));
}

/* v in the layout of `want`: itself, or a copy that a call of p fills. */
static struct value as(struct part *p, const struct value *v, const dnnl_memory_desc_t *want)
{
    if (dnnl_memory_desc_equal(&v->desc, want))
        return *v;
    struct value copy = make_value(want, NULL);
    dnnl_primitive_desc_t d;
    TRY(dnnl_reorder_primitive_desc_create(&d, &v->desc, engine, want, engine, NULL));
    add_call(p, d, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, v->memory}, {DNNL_ARG_TO, copy.memory}});
    return copy;
}

/* Weights in the layout that a primitive wants, once. */
static struct value place(const dnnl_memory_desc_t *plain, float *at, const dnnl_memory_desc_t *want)
{
    struct part once = {0};
    struct value v = make_value(plain, at), copy = as(&once, &v, want);
    run_calls(&once);
    return copy;
}

static dnnl_memory_desc_t wanted(dnnl_primitive_desc_t d, dnnl_query_t what)
{
    return *dnnl_primitive_desc_query_md(d, what, 0);
}

static void dims_of(int step, dnnl_dims_t dims)
{
    int s[3];
    ops_shape(&ops, step, s);
    dims[0] = options.batch;
    for (int i = 0; i < 3; i++)
        dims[1 + i] = s[i];
}

/* shortcut: what is added before the ReLU, or NULL; it is overwritten with the result. */
static struct value convolution(struct part *p, int step, struct value x, const struct value *shortcut,
                                bool relu)
{
    const struct op *o = &ops.op[step];
    const struct op_head *h = &o->head;
    dnnl_dims_t in, out, w = {h->c, x.desc.dims[1], h->size, h->size};
    dnnl_dims_t stride = {h->stride, h->stride}, pad = {h->pad, h->pad};
    dims_of(h->a, in);
    dims_of(step, out);
    dnnl_memory_desc_t src = describe(4, in, dnnl_format_tag_any),
                       dst = describe(4, out, dnnl_format_tag_any),
                       weights = describe(4, w, dnnl_format_tag_any), plain = describe(4, w, dnnl_oihw),
                       bias = describe(1, w, dnnl_x);
    dnnl_convolution_desc_t c;
    TRY(dnnl_convolution_forward_desc_init(&c, dnnl_forward_inference, dnnl_convolution_auto, &src, &weights,
                                           &bias, &dst, stride, pad, pad));
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post;
    TRY(dnnl_primitive_attr_create(&attr));
    TRY(dnnl_post_ops_create(&post));
    if (shortcut)
        TRY(dnnl_post_ops_append_sum(post, 1));
    if (relu)
        TRY(dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, 0, 0));
    TRY(dnnl_primitive_attr_set_post_ops(attr, post));
    dnnl_primitive_desc_t d;
    TRY(dnnl_primitive_desc_create(&d, &c, attr, engine, NULL));
    src = wanted(d, dnnl_query_src_md);
    dst = wanted(d, dnnl_query_dst_md);
    weights = wanted(d, dnnl_query_weights_md);
    x = as(p, &x, &src);
    struct value y = shortcut ? as(p, shortcut, &dst) : make_value(&dst, NULL),
                 k = place(&plain, o->weight, &weights), b = make_value(&bias, o->bias);
    add_call(p, d, 4,
             (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, x.memory},
                                 {DNNL_ARG_WEIGHTS, k.memory},
                                 {DNNL_ARG_BIAS, b.memory},
                                 {DNNL_ARG_DST, y.memory}});
    return y;
}

static struct value pooling(struct part *p, int step, const struct value *x, dnnl_alg_kind_t kind)
{
    dnnl_dims_t out;
    dims_of(step, out);
    bool whole = kind != dnnl_pooling_max;
    dnnl_dims_t size = {whole ? x->desc.dims[2] : 3, whole ? x->desc.dims[3] : 3},
                stride = {whole ? 1 : 2, whole ? 1 : 2}, before, after;
    for (int i = 0; i < 2; i++) {
        before[i] = whole ? 0 : 1;
        after[i] = (out[2 + i] - 1) * stride[i] + size[i] - x->desc.dims[2 + i] - before[i];
    }
    dnnl_memory_desc_t dst = describe(4, out, dnnl_format_tag_any);
    dnnl_pooling_desc_t c;
    TRY(dnnl_pooling_forward_desc_init(&c, dnnl_forward_inference, kind, &x->desc, &dst, stride, size, before,
                                       after));
    dnnl_primitive_desc_t d;
    TRY(dnnl_primitive_desc_create(&d, &c, NULL, engine, NULL));
    dst = wanted(d, dnnl_query_dst_md);
    struct value y = make_value(&dst, NULL);
    add_call(p, d, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, x->memory}, {DNNL_ARG_DST, y.memory}});
    return y;
}

static struct value linear(struct part *p, int step, struct value x)
{
    const struct op *o = &ops.op[step];
    dnnl_dims_t w = {o->head.c, x.desc.dims[1], 1, 1}, out = {options.batch, o->head.c};
    dnnl_memory_desc_t weights = describe(4, w, dnnl_format_tag_any), plain = describe(4, w, dnnl_oihw),
                       bias = describe(1, w, dnnl_x), dst = describe(2, out, dnnl_ab);
    dnnl_inner_product_desc_t c;
    TRY(dnnl_inner_product_forward_desc_init(&c, dnnl_forward_inference, &x.desc, &weights, &bias, &dst));
    dnnl_primitive_desc_t d;
    TRY(dnnl_primitive_desc_create(&d, &c, NULL, engine, NULL));
    weights = wanted(d, dnnl_query_weights_md);
    struct value y = make_value(&dst, NULL), k = place(&plain, o->weight, &weights),
                 b = make_value(&bias, o->bias);
    add_call(p, d, 4,
             (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, x.memory},
                                 {DNNL_ARG_WEIGHTS, k.memory},
                                 {DNNL_ARG_BIAS, b.memory},
                                 {DNNL_ARG_DST, y.memory}});
    return y;
}

static struct value less_mean(struct part *p, int step, const struct value *x)
{
    dnnl_eltwise_desc_t c;
    TRY(dnnl_eltwise_forward_desc_init(&c, dnnl_forward_inference, dnnl_eltwise_linear, &x->desc, 1,
                                       -ops.op[step].bias[0]));
    dnnl_primitive_desc_t d;
    TRY(dnnl_primitive_desc_create(&d, &c, NULL, engine, NULL));
    struct value y = make_value(&x->desc, NULL);
    add_call(p, d, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, x->memory}, {DNNL_ARG_DST, y.memory}});
    return y;
}

static struct part *open_part(int from, int until)
{
    int first, last;
    ops_between(&ops, from, until, &first, &last);
    struct part *p = calloc(1, sizeof *p);
    struct value *v = calloc((size_t)ops.n + 1, sizeof *v);
    if (!p || !v)
        abort();
    v++; /* v[-1]: the input of the network */
    dnnl_dims_t dims;
    dims_of(first - 1, dims);
    dnnl_memory_desc_t plain = describe(4, dims, dnnl_nchw);
    v[first - 1] = p->in = make_value(&plain, NULL);
    int i;
    for (i = first; i < last; i++) {
        const struct op_head *h = &ops.op[i].head;
        const struct op_head *next = i + 1 < last ? &ops.op[i + 1].head : NULL;
        switch (h->kind) {
        case OP_SUB:
            v[i] = less_mean(p, i, &v[h->a]);
            break;
        case OP_CONV:
            if (next && next->kind == OP_ADDRELU && next->a == i) {
                v[i + 1] = convolution(p, i, v[h->a], &v[next->b], true);
                i++;
            } else {
                v[i] = convolution(p, i, v[h->a], NULL, h->relu);
            }
            break;
        case OP_MAXPOOL:
            v[i] = pooling(p, i, &v[h->a], dnnl_pooling_max);
            break;
        case OP_MEAN:
            v[i] = pooling(p, i, &v[h->a], dnnl_pooling_avg_exclude_padding);
            break;
        case OP_LINEAR:
            v[i] = linear(p, i, v[h->a]);
            break;
        case OP_NORMALISE: /* of 128 values: after the calls */
            p->dim = h->c;
            v[i] = v[h->a];
            break;
        default:
            abort();
        }
    }
    dims_of(last - 1, dims);
    plain = p->dim ? v[last - 1].desc : describe(4, dims, dnnl_nchw);
    p->out = as(p, &v[last - 1], &plain);
    free(v - 1);
    return p;
}

static void run_part(struct part *p, const float *in, float *out, size_t nin, size_t nout)
{
    memcpy(values_of(&p->in), in, nin * sizeof *in);
    run_calls(p);
    memcpy(out, values_of(&p->out), nout * sizeof *out);
    for (int n = 0; p->dim && n < options.batch; n++) {
        float *z = out + (size_t)n * (size_t)p->dim, sum = 0;
        for (int i = 0; i < p->dim; i++)
            sum += z[i] * z[i];
        for (int i = 0; i < p->dim; i++)
            z[i] /= sqrtf(sum);
    }
}

static size_t volume(int k)
{
    return (size_t)options.batch * (size_t)ops_volume(&ops, k);
}

static bool once(const char *what, int k)
{
    int finishing = !strcmp(what, "finish"), end = finishing ? CUTS - 1 : k;
    if ((!finishing && strcmp(what, "encode")) || k < 1 || k >= CUTS - finishing)
        return false;
    if (finishing && !cut[k] && !once("encode", k))
        return false;
    if (!part[finishing][k])
        part[finishing][k] = finishing ? open_part(k, end) : open_part(SS_CUT_INPUT, k);
    if (!cut[end])
        cut[end] = side_room(volume(end));
    run_part(part[finishing][k], finishing ? cut[k] : input, cut[end], volume(finishing ? k : 0),
             volume(end));
    return true;
}

static const float *result(const char *what, int k, size_t *n)
{
    int end = !strcmp(what, "finish") ? CUTS - 1 : k;
    *n = volume(end);
    return cut[end];
}

static bool read_input(const char *path)
{
    for (int k = 0; k < CUTS; k++) {
        free(cut[k]);
        cut[k] = NULL;
    }
    return side_read(path, input, volume(0));
}

int main(int argc, char **argv)
{
    options = ops_options(argc, argv);
    omp_set_num_threads(options.threads);
    ops_read(&ops, options.steps);
    TRY(dnnl_engine_create(&engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    input = side_room(volume(0));
    if (!read_input(options.input))
        return 1;
    const dnnl_version_t *version = dnnl_version();
    fprintf(stderr, "# oneDNN %d.%d.%d, batch %d, threads %d\n", version->major, version->minor,
            version->patch, options.batch, options.threads);
    struct side side = {options.batch, options.ms, once, result, read_input};
    return side_serve(&side);
}
