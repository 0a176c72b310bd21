#include "nn/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "nn/codec.h"
#include "nn/model_internal.h"

static const char *const norm_names[] = {NULL, "batch", "group", "weight"};

const char *ss_norm_name(int norm)
{
    return norm >= SS_NORM_BATCH && norm <= SS_NORM_WEIGHT ? norm_names[norm] : NULL;
}

int ss_norm_parse(const char *name)
{
    for (int i = SS_NORM_BATCH; i <= SS_NORM_WEIGHT; i++)
        if (!strcmp(name, norm_names[i]))
            return i;
    return SS_EINVAL;
}

void ss_model_config_default(ss_model_config *c)
{
    *c = (ss_model_config){.width = 16,
                           .mels = 64,
                           .frames = 96,
                           .dim = 128,
                           .norm = SS_NORM_WEIGHT,
                           .input_mean = -4.45f,
                           .input_scale = 1.0f / 5.66f};
}

int ss_model_config_check(const ss_model_config *c, ss_err *e)
{
    if (c->width < SS_GROUP_CHANNELS || c->width > 256 || c->width % SS_GROUP_CHANNELS)
        return ss_err_set(e, SS_ERANGE, "width %d is not a multiple of %d within %d..256", c->width,
                          SS_GROUP_CHANNELS, SS_GROUP_CHANNELS);
    const struct {
        const char *name;
        int value, min, max;
    } field[] = {{"mels", c->mels, 8, 1024}, {"frames", c->frames, 8, 8192}, {"dim", c->dim, 2, 4096}};
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        if (field[i].value < field[i].min || field[i].value > field[i].max)
            return ss_err_set(e, SS_ERANGE, "%s %d is not within %d..%d", field[i].name, field[i].value,
                              field[i].min, field[i].max);
    if (!ss_norm_name((int)c->norm))
        return ss_err_set(e, SS_ERANGE, "norm number %d is unknown", (int)c->norm);
    if (!isfinite(c->input_mean) || !isfinite(c->input_scale) || c->input_scale <= 0)
        return ss_err_set(e, SS_ERANGE, "input constants %g and %g are not finite with a scale above 0",
                          (double)c->input_mean, (double)c->input_scale);
    return SS_OK;
}

/* FNV-1a, then a finaliser, so that like names give unlike numbers. */
static uint64_t hash_text(const char *s)
{
    uint64_t h = 0xcbf29ce484222325;
    while (*s)
        h = (h ^ (unsigned char)*s++) * 0x100000001b3;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
    return h ^ h >> 33;
}

void ss_model_arch_hash(const ss_model_config *c, char out[17])
{
    char text[160];
    snprintf(text, sizeof text, "resnet18 width %d mels %d frames %d dim %d norm %s", c->width, c->mels,
             c->frames, c->dim, ss_norm_name((int)c->norm));
    snprintf(out, 17, "%016llx", (unsigned long long)hash_text(text));
}

ss_block ss_model_block(const ss_model_config *c, int k)
{
    int stage = k / 2, first = k % 2 == 0 && stage > 0;
    int out = c->width << stage;
    return (ss_block){.in = first ? out / 2 : out, .out = out, .stride = first ? 2 : 1, .downsample = first};
}

/* Every stride of the network halves, rounding up. */
static uint32_t half(uint32_t n)
{
    return (n + 1) / 2;
}

void ss_model_cut_shape(const ss_model_config *c, int cut, uint32_t dim[3])
{
    dim[0] = 1;
    dim[1] = (uint32_t)c->mels;
    dim[2] = (uint32_t)c->frames;
    if (cut == SS_CUT_INPUT)
        return;
    if (cut >= SS_CUT_EMBEDDING) {
        dim[0] = (uint32_t)c->dim;
        dim[1] = dim[2] = 1;
        return;
    }
    dim[0] = (uint32_t)c->width;
    dim[1] = half(half(dim[1]));
    dim[2] = half(half(dim[2]));
    for (int k = 0; k < cut - SS_CUT_BLOCK0; k++) {
        ss_block b = ss_model_block(c, k);
        dim[0] = (uint32_t)b.out;
        if (b.stride == 2) {
            dim[1] = half(dim[1]);
            dim[2] = half(dim[2]);
        }
    }
}

size_t ss_model_cut_size(const ss_model_config *c, int cut)
{
    uint32_t dim[3];
    ss_model_cut_shape(c, cut, dim);
    return (size_t)dim[0] * dim[1] * dim[2];
}

size_t ss_model_largest_cut(const ss_model_config *c)
{
    size_t most = 0;
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++) {
        size_t n = ss_model_cut_size(c, cut);
        most = n > most ? n : most;
    }
    return most;
}

uint64_t ss_model_macs(const ss_model_config *c, int cut)
{
    if (cut == SS_CUT_INPUT)
        return 0;
    uint64_t n = 49u * (uint64_t)c->width * half((uint32_t)c->mels) * half((uint32_t)c->frames);
    int blocks = cut >= SS_CUT_EMBEDDING ? SS_BLOCKS : cut - SS_CUT_BLOCK0;
    for (int k = 0; k < blocks; k++) {
        ss_block b = ss_model_block(c, k);
        uint32_t d[3];
        ss_model_cut_shape(c, SS_CUT_BLOCK0 + k + 1, d);
        uint64_t in = (uint64_t)b.in, out = (uint64_t)b.out;
        n += d[1] * d[2] * out * (9 * in + 9 * out + (b.downsample ? in : 0));
    }
    if (cut >= SS_CUT_EMBEDDING)
        n += 8 * (uint64_t)c->width * (uint64_t)c->dim;
    return n;
}

uint64_t ss_model_params(const ss_model_config *c, int cut)
{
    if (cut == SS_CUT_INPUT)
        return 0;
    uint64_t n = (49 + 2) * (uint64_t)c->width;
    int blocks = cut >= SS_CUT_EMBEDDING ? SS_BLOCKS : cut - SS_CUT_BLOCK0;
    for (int k = 0; k < blocks; k++) {
        ss_block b = ss_model_block(c, k);
        uint64_t in = (uint64_t)b.in, out = (uint64_t)b.out;
        n += out * (9 * in + 2 + 9 * out + 2 + (b.downsample ? in + 2 : 0));
    }
    if (cut >= SS_CUT_EMBEDDING)
        n += (8 * (uint64_t)c->width + 1) * (uint64_t)c->dim;
    return n;
}

/* Called for every tensor, in the order of the file. */
typedef void (*visit)(void *arg, const char *name, int rank, const uint32_t *dim, int trainable);

static void visit_norm(visit fn, void *arg, const char *name, int channels, int statistics)
{
    static const char *const part[2][2] = {{"weight", "bias"}, {"running_mean", "running_var"}};
    for (int i = 0; i < 2; i++) {
        char full[64];
        snprintf(full, sizeof full, "%s.%s", name, part[statistics][i]);
        fn(arg, full, 1, (uint32_t[]){(uint32_t)channels}, !statistics);
    }
}

static void visit_conv(visit fn, void *arg, const char *name, int out, int in, int size)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    fn(arg, full, 4, (uint32_t[]){(uint32_t)out, (uint32_t)in, (uint32_t)size, (uint32_t)size}, 1);
}

/* Learnt tensors (statistics = 0) or running ones (1). */
static void visit_all(const ss_model_config *c, int statistics, visit fn, void *arg)
{
    if (statistics && c->norm != SS_NORM_BATCH)
        return;
    if (!statistics)
        visit_conv(fn, arg, "conv1", c->width, 1, 7);
    visit_norm(fn, arg, "bn1", c->width, statistics);
    for (int k = 0; k < SS_BLOCKS; k++) {
        ss_block b = ss_model_block(c, k);
        struct {
            const char *conv, *norm;
            int in, size, there;
        } layer[3] = {{"conv1", "bn1", b.in, 3, 1},
                      {"conv2", "bn2", b.out, 3, 1},
                      {"downsample.0", "downsample.1", b.in, 1, b.downsample}};
        for (int i = 0; i < 3; i++) {
            char name[48];
            if (!layer[i].there)
                continue;
            snprintf(name, sizeof name, "layer%d.%d.%s", k / 2 + 1, k % 2, layer[i].conv);
            if (!statistics)
                visit_conv(fn, arg, name, b.out, layer[i].in, layer[i].size);
            snprintf(name, sizeof name, "layer%d.%d.%s", k / 2 + 1, k % 2, layer[i].norm);
            visit_norm(fn, arg, name, b.out, statistics);
        }
    }
    if (!statistics) {
        fn(arg, "fc.weight", 2, (uint32_t[]){(uint32_t)c->dim, 8 * (uint32_t)c->width}, 1);
        fn(arg, "fc.bias", 1, (uint32_t[]){(uint32_t)c->dim}, 1);
    }
}

static void count_one(void *arg, const char *name, int rank, const uint32_t *dim, int trainable)
{
    ++*(int *)arg;
}

static void add_one(void *arg, const char *name, int rank, const uint32_t *dim, int trainable)
{
    ss_model *m = arg;
    ss_param *p = &m->param[m->nparam++];
    *p = (ss_param){.rank = rank, .offset = m->nvalue, .count = 1, .trainable = trainable};
    snprintf(p->name, sizeof p->name, "%s", name);
    for (int i = 0; i < rank; i++) {
        p->dim[i] = dim[i];
        p->count *= dim[i];
    }
    m->nvalue += p->count;
    if (trainable)
        m->ntrainable += p->count;
}

static int ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static void init_one(const ss_model *m, const ss_param *p, uint64_t seed)
{
    float *v = m->value + p->offset;
    ss_rng r = ss_rng_make(seed, hash_text(p->name));
    size_t fan_in = p->count / p->dim[0];
    if (p->rank == 4) {
        /* Fan-in, not torchvision's fan-out: with standardised weights the scale changes no output, only how
         * large a step of the optimiser is against the weight, and this one is what the recipe was tried
         * with. */
        float s = sqrtf(2.0f / (float)fan_in);
        ss_fill_normal(&r, v, p->count);
        for (size_t i = 0; i < p->count; i++)
            v[i] *= s;
    } else if (p->rank == 2) {
        float s = 1.0f / sqrtf((float)fan_in);
        ss_rng_fill_uniform(&r, v, p->count);
        for (size_t i = 0; i < p->count; i++)
            v[i] = (2.0f * v[i] - 1.0f) * s;
    } else {
        float fill = 0;
        if (ends_in(p->name, ".running_var"))
            fill = 1;
        else if (ends_in(p->name, ".weight"))
            /* Without statistics the sum of skip and branch grows with depth: the branch starts small. */
            fill = m->config.norm == SS_NORM_WEIGHT && ends_in(p->name, ".bn2.weight") ? SS_SKIP_GAIN : 1.0f;
        for (size_t i = 0; i < p->count; i++)
            v[i] = fill;
    }
}

int ss_model_lay_out(ss_model **to, const ss_model_config *c, ss_err *e)
{
    int n = 0, rc = ss_model_config_check(c, e);
    if (rc < 0)
        return rc;
    visit_all(c, 0, count_one, &n);
    visit_all(c, 1, count_one, &n);
    ss_model *m = ss_zalloc(1, sizeof *m);
    if (!m)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a model");
    m->config = *c;
    m->param = ss_alloc((size_t)n, sizeof *m->param);
    if (!m->param) {
        ss_model_free(m);
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %d parameters", n);
    }
    visit_all(c, 0, add_one, m);
    visit_all(c, 1, add_one, m);
    *to = m;
    return SS_OK;
}

int ss_model_alloc(ss_model *m, ss_err *e)
{
    m->value = ss_alloc_whole(m->nvalue, sizeof *m->value);
    return m->value ? SS_OK : ss_err_set(e, SS_ENOMEM, "cannot allocate a model of %zu values", m->nvalue);
}

int ss_model_create(ss_model **to, const ss_model_config *c, uint64_t seed, ss_err *e)
{
    ss_model *m = NULL;
    *to = NULL;
    int rc = ss_model_lay_out(&m, c, e);
    if (rc == SS_OK)
        rc = ss_model_alloc(m, e);
    if (rc < 0) {
        ss_model_free(m);
        return rc;
    }
    for (int i = 0; i < m->nparam; i++)
        init_one(m, &m->param[i], seed);
    *to = m;
    return SS_OK;
}

int ss_model_clone(ss_model **to, const ss_model *from, ss_err *e)
{
    ss_model *m = NULL;
    *to = NULL;
    if (!from->value)
        return ss_err_set(e, SS_EINVAL, "no copy of a model whose values are in its file");
    int rc = ss_model_lay_out(&m, &from->config, e);
    if (rc == SS_OK)
        rc = ss_model_alloc(m, e);
    if (rc < 0) {
        ss_model_free(m);
        return rc;
    }
    memcpy(m->value, from->value, m->nvalue * sizeof *m->value);
    m->generation = from->generation;
    m->synchronised = from->synchronised;
    memcpy(m->frontend_hash, from->frontend_hash, sizeof m->frontend_hash);
    m->calibration = from->calibration;
    if (from->mixture) {
        m->mixture = ss_alloc(from->mixture_size, 1);
        if (!m->mixture) {
            ss_model_free(m);
            return ss_err_set(e, SS_ENOMEM, "cannot allocate a mixture of %zu bytes", from->mixture_size);
        }
        memcpy(m->mixture, from->mixture, from->mixture_size);
        m->mixture_size = from->mixture_size;
    }
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++)
        if (from->codec[cut] && ss_bottleneck_clone(&m->codec[cut], from->codec[cut]) < 0) {
            ss_model_free(m);
            return ss_err_set(e, SS_ENOMEM, "cannot allocate the codecs of cut %s", ss_cut_name(cut));
        }
    *to = m;
    return SS_OK;
}

void ss_model_free(ss_model *m)
{
    if (!m)
        return;
    ss_st_close(&m->file);
    ss_free(m->tensor);
    ss_free(m->param);
    ss_free(m->value);
    ss_free(m->mixture);
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++)
        ss_bottleneck_free(m->codec[cut]);
    ss_free(m);
}

const ss_param *ss_model_find(const ss_model *m, const char *name)
{
    for (int i = 0; i < m->nparam; i++)
        if (!strcmp(m->param[i].name, name))
            return &m->param[i];
    return NULL;
}

float *ss_model_values(ss_model *m, const char *name)
{
    const ss_param *p = ss_model_find(m, name);
    return p && m->value ? m->value + p->offset : NULL;
}
