#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "io/atomic.h"
#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "nn/codec_internal.h"
#include "nn/model_internal.h"
#include "nn/quant.h"

#define FORMAT_VERSION 1
#define MIXTURE        "streamsplit.mixture"
#define CALIBRATION    "streamsplit.int8"
#define CODEC          "streamsplit.codec." /* and the cut */
#define SYNCHRONISED   "streamsplit.synchronised"
#define MAX_MIXTURE    (1 << 20) /* bytes; ours is at most 35 KB */

/* reading */

static const char *meta_text(ss_st *s, const char *key, int *rc, ss_err *e)
{
    char full[64];
    if (*rc < 0)
        return NULL;
    snprintf(full, sizeof full, "streamsplit.%s", key);
    const char *v = ss_st_meta_value(s, full);
    if (!v)
        *rc = ss_err_set(e, SS_EDAMAGED, "metadata '%s' is missing", full);
    return v;
}

static uint64_t meta_uint(ss_st *s, const char *key, uint64_t max, int *rc, ss_err *e)
{
    const char *v = meta_text(s, key, rc, e);
    char *end = NULL;
    if (!v)
        return 0;
    errno = 0;
    unsigned long long n = strtoull(v, &end, 10);
    if (*v < '0' || *v > '9' || *end || errno || n > max)
        *rc = ss_err_set(e, SS_EDAMAGED, "metadata 'streamsplit.%s' is '%.40s', expected 0 to %" PRIu64, key,
                         v, max);
    return n;
}

/* A caller's locale may write numbers with a comma; files do not. */
bool ss_model_real_parse(const char *text, float *to)
{
    char *end = NULL;
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    *to = c ? strtof_l(text, &end, c) : NAN;
    if (c)
        freelocale(c);
    return *text && end && !*end;
}

static float meta_real(ss_st *s, const char *key, int *rc, ss_err *e)
{
    const char *v = meta_text(s, key, rc, e);
    float f = 0;
    if (v && !ss_model_real_parse(v, &f))
        *rc = ss_err_set(e, SS_EDAMAGED, "metadata 'streamsplit.%s' is '%.40s', expected a number", key, v);
    return f;
}

static int read_config(ss_st *s, ss_model_config *c, ss_err *e)
{
    int rc = SS_OK;
    const char *format = ss_st_meta_value(s, "streamsplit.format");
    if (!format)
        return ss_err_set(e, SS_EUNFIT,
                          "not a model of ours: no metadata 'streamsplit.format' (ss-model import takes "
                          "state dicts of other programs)");
    const char *kind = meta_text(s, "kind", &rc, e);
    if (kind && strcmp(kind, "model"))
        return ss_err_set(e, SS_EUNFIT, "a %.40s, expected a model", kind);
    if (meta_uint(s, "format", UINT32_MAX, &rc, e) != FORMAT_VERSION && rc == SS_OK)
        return ss_err_set(e, SS_EUNFIT, "format version %.40s, expected %d", format, FORMAT_VERSION);
    const char *architecture = meta_text(s, "architecture", &rc, e);
    if (architecture && strcmp(architecture, "resnet18"))
        return ss_err_set(e, SS_EUNFIT, "architecture '%.40s', expected 'resnet18'", architecture);
    c->width = (int)meta_uint(s, "width", INT32_MAX, &rc, e);
    c->mels = (int)meta_uint(s, "mels", INT32_MAX, &rc, e);
    c->frames = (int)meta_uint(s, "frames", INT32_MAX, &rc, e);
    c->dim = (int)meta_uint(s, "dim", INT32_MAX, &rc, e);
    c->input_mean = meta_real(s, "input_mean", &rc, e);
    c->input_scale = meta_real(s, "input_scale", &rc, e);
    const char *norm = meta_text(s, "norm", &rc, e);
    if (rc < 0)
        return rc;
    int n = ss_norm_parse(norm);
    if (n < 0)
        return ss_err_set(e, SS_EUNFIT, "norm '%.40s' is not known", norm);
    c->norm = (ss_norm)n;
    rc = ss_model_config_check(c, e);
    if (rc == SS_ERANGE && e)
        e->code = SS_EUNFIT;
    return rc == SS_ERANGE ? SS_EUNFIT : rc;
}

static int match(const ss_param *p, const ss_st_tensor *t, ss_err *e)
{
    char found[128];
    if (!t)
        return ss_err_set(e, SS_EUNFIT, "tensor '%s' is missing", p->name);
    int same = t->dtype == SS_DTYPE_F32 && t->rank == p->rank;
    for (int i = 0; i < p->rank && same; i++)
        same = t->dim[i] == p->dim[i];
    if (same)
        return SS_OK;
    char expected[64] = "F32 ";
    for (int i = 0; i < p->rank; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "[%" PRIu32 "]", p->dim[i]);
    return ss_err_set(e, SS_EUNFIT, "tensor '%s' is %s, expected %s", p->name,
                      ss_st_shape_text(t, found, sizeof found), expected);
}

/* 1 + the place of the first value that is not finite, or 0. */
static size_t find_wild(const float *v, size_t n)
{
    if (isfinite(ss_sum_squares(n, v)))
        return 0;
    for (size_t i = 0; i < n; i++) /* or the square of a finite value is not */
        if (!isfinite(v[i]))
            return i + 1;
    return 0;
}

static int is_wild(const ss_param *p, size_t wild, ss_err *e)
{
    return wild ? ss_err_set(e, SS_EUNFIT, "value %zu of tensor '%s' is not finite", wild - 1, p->name)
                : SS_OK;
}

static int check_finite(const ss_model *m, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0; i < m->nparam && rc == SS_OK; i++)
        rc = is_wild(&m->param[i], find_wild(m->value + m->param[i].offset, m->param[i].count), e);
    return rc;
}

static int read_rows(const ss_model *m, ss_st *s, const ss_param *p, size_t first, size_t n, float *to,
                     ss_model_seen *seen, ss_err *e)
{
    const size_t piece = 1 << 16; /* floats: they are looked at while they are in the cache */
    size_t row = p->count / p->dim[0], at = first * row, end = at + n * row;
    int rc = SS_OK;
    *seen = (ss_model_seen){0};
    while (at < end && rc == SS_OK) {
        size_t k = end - at < piece ? end - at : piece;
        rc = ss_st_read_part(s, m->tensor[p - m->param], at * sizeof *to, k * sizeof *to, to, &seen->crc, e);
        size_t wild = rc < 0 || seen->wild ? 0 : find_wild(to, k);
        seen->wild = wild ? at + wild : seen->wild;
        at += k;
        to += k;
    }
    return rc;
}

int ss_model_rows(const ss_model *m, const ss_param *p, size_t first, size_t n, float *to,
                  ss_model_seen *seen, ss_err *e)
{
    return read_rows(m, m->file, p, first, n, to, seen, e);
}

int ss_model_part(const ss_model *m, const ss_param *p, size_t first, size_t n, float *room, const float **at,
                  ss_model_seen *seen, ss_err *e)
{
    *seen = (ss_model_seen){0};
    *at = m->value ? m->value + p->offset + first * (p->count / p->dim[0]) : room;
    return m->value ? SS_OK : ss_model_rows(m, p, first, n, room, seen, e);
}

ss_model_seen ss_model_seen_join(ss_model_seen a, ss_model_seen b, size_t n)
{
    return (ss_model_seen){ss_crc32c_join(a.crc, b.crc, n * sizeof(float)), a.wild ? a.wild : b.wild};
}

/* A flipped bit may make a value infinite: the checksum has the first word. */
static int expect(const ss_model *m, ss_st *s, const ss_param *p, const ss_model_seen *seen, ss_err *e)
{
    int rc = ss_st_expect(s, m->tensor[p - m->param], seen->crc, e);
    if (rc == SS_OK && (rc = is_wild(p, seen->wild, e)) < 0)
        ss_err_prefix(e, "cannot load '%s'", ss_st_path(s));
    return rc;
}

int ss_model_expect(const ss_model *m, const ss_param *p, const ss_model_seen *seen, ss_err *e)
{
    return m->value ? SS_OK : expect(m, m->file, p, seen, e);
}

static int read_mixture(ss_model *m, ss_st *s, const ss_st_tensor *t, ss_err *e)
{
    if (t->dtype != SS_DTYPE_U8 || t->rank != 1 || t->size > MAX_MIXTURE)
        return ss_err_set(e, SS_EUNFIT, "tensor '%s' of %zu bytes, expected U8 of rank 1 and at most %d",
                          t->name, t->size, MAX_MIXTURE);
    m->mixture = ss_alloc(t->size, 1);
    if (!m->mixture)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a mixture of %zu bytes", t->size);
    m->mixture_size = t->size;
    return ss_st_read(s, t, m->mixture, e);
}

/* ---- codecs ---- */

#define CODEC_NAME 48

static void codec_name(int cut, const char *part, char out[CODEC_NAME])
{
    snprintf(out, CODEC_NAME, "codec.%s.%s", ss_cut_name(cut), part);
}

/* Those of one cut: found, and of the shapes that the metadata say. How many tensors they are goes to *known.
 */
static int describe_codec(ss_model *m, ss_st *s, int cut, int *known, ss_err *e)
{
    char key[CODEC_NAME], found[128], expected[128];
    ss_bottleneck_tensor part[SS_BOTTLENECK_TENSORS];
    snprintf(key, sizeof key, CODEC "%s", ss_cut_name(cut));
    const char *text = ss_st_meta_value(s, key);
    if (!text)
        return SS_OK;
    int rc = ss_bottleneck_parse(&m->codec[cut], &m->config, cut, text, e);
    if (rc < 0) {
        ss_err_prefix(e, "metadata '%s'", key);
        return rc;
    }
    ss_bottleneck_tensors(m->codec[cut], part);
    for (int i = 0; i < SS_BOTTLENECK_TENSORS; i++) {
        codec_name(cut, part[i].name, key);
        const ss_st_tensor *t = ss_st_find(s, key);
        if (!t)
            return ss_err_set(e, SS_EUNFIT, "tensor '%s' is missing", key);
        ss_st_tensor want = {.dtype = part[i].dtype, .rank = part[i].rank};
        memcpy(want.dim, part[i].dim, sizeof part[i].dim);
        if (t->dtype != want.dtype || t->rank != want.rank || memcmp(t->dim, want.dim, sizeof part[i].dim))
            return ss_err_set(e, SS_EUNFIT, "tensor '%s' is %s, expected %s", key,
                              ss_st_shape_text(t, found, sizeof found),
                              ss_st_shape_text(&want, expected, sizeof expected));
        ++*known;
    }
    return SS_OK;
}

/* Is it one that describe_codec has met? */
static bool is_codec(const ss_model *m, const char *name)
{
    char full[CODEC_NAME];
    ss_bottleneck_tensor part[SS_BOTTLENECK_TENSORS];
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++) {
        if (!m->codec[cut])
            continue;
        ss_bottleneck_tensors(m->codec[cut], part);
        for (int i = 0; i < SS_BOTTLENECK_TENSORS; i++) {
            codec_name(cut, part[i].name, full);
            if (!strcmp(full, name))
                return true;
        }
    }
    return false;
}

/* Its values out of the file. */
static int read_codec(ss_st *s, int cut, ss_bottleneck *b, ss_err *e)
{
    char name[CODEC_NAME];
    ss_bottleneck_tensor part[SS_BOTTLENECK_TENSORS];
    int rc = ss_bottleneck_room(b);
    if (rc < 0)
        return ss_err_set(e, rc, "cannot allocate the codecs of cut %s", ss_cut_name(cut));
    ss_bottleneck_tensors(b, part);
    for (int i = 0; i < SS_BOTTLENECK_TENSORS && rc == SS_OK; i++) {
        codec_name(cut, part[i].name, name);
        const ss_st_tensor *t = ss_st_find(s, name);
        rc = part[i].dtype == SS_DTYPE_F32 ? ss_st_read_f32(s, t, part[i].data, e)
                                           : ss_st_read(s, t, part[i].data, e);
    }
    if (rc == SS_OK && (rc = ss_bottleneck_check(b, e)) < 0)
        ss_err_prefix(e, "cannot load '%s': codecs of cut %s", ss_st_path(s), ss_cut_name(cut));
    return rc < 0 ? rc : SS_OK;
}

int ss_model_bottleneck(const ss_model *m, int cut, ss_bottleneck **b, ss_err *e)
{
    int rc = ss_bottleneck_clone(b, m->codec[cut]);
    if (rc < 0)
        return ss_err_set(e, rc, "cannot allocate the codecs of cut %s", ss_cut_name(cut));
    if (!(*b)->value)
        rc = read_codec(m->file, cut, *b, e);
    if (rc < 0) {
        ss_bottleneck_free(*b);
        *b = NULL;
    }
    return rc;
}

/* All but the values. */
static int describe(ss_model **to, ss_st *s, ss_err *e)
{
    ss_model_config c;
    ss_model *m = NULL;
    int known = 0, rc = read_config(s, &c, e);
    if (rc == SS_OK)
        rc = ss_model_lay_out(&m, &c, e);
    if (rc < 0)
        return rc;
    m->tensor = ss_alloc((size_t)m->nparam, sizeof *m->tensor);
    if (!m->tensor)
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate %d tensors", m->nparam);
    for (int i = 0; i < m->nparam && rc == SS_OK; i++, known++) {
        m->tensor[i] = ss_st_find(s, m->param[i].name);
        rc = match(&m->param[i], m->tensor[i], e);
    }
    const ss_st_tensor *mixture = ss_st_find(s, MIXTURE);
    known += mixture != NULL;
    for (int cut = SS_CUT_BLOCK0; cut <= SS_CUT_EMBEDDING && rc == SS_OK; cut++)
        rc = describe_codec(m, s, cut, &known, e);
    for (int i = 0; i < ss_st_count(s) && rc == SS_OK && known != ss_st_count(s); i++) {
        const char *name = ss_st_tensor_at(s, i)->name;
        if (strcmp(name, MIXTURE) && !ss_model_find(m, name) && !is_codec(m, name))
            rc = ss_err_set(e, SS_EUNFIT, "tensor '%.80s' is not one of this architecture", name);
    }
    m->generation = meta_uint(s, "generation", UINT64_MAX, &rc, e);
    if (ss_st_meta_value(s, SYNCHRONISED))
        m->synchronised = meta_uint(s, "synchronised", UINT64_MAX, &rc, e);
    const char *frontend = meta_text(s, "frontend_hash", &rc, e);
    if (rc == SS_OK && strlen(frontend) != 0 && strlen(frontend) != 16)
        rc = ss_err_set(e, SS_EDAMAGED,
                        "metadata 'streamsplit.frontend_hash' is '%.40s', expected 16 digits or none",
                        frontend);
    if (rc == SS_OK)
        memcpy(m->frontend_hash, frontend, strlen(frontend) + 1);
    const char *calibration = ss_st_meta_value(s, CALIBRATION);
    if (rc == SS_OK && calibration && (rc = ss_quant_parse(calibration, &m->calibration, e)) < 0)
        ss_err_prefix(e, "metadata '%s'", CALIBRATION);
    if (rc == SS_OK && mixture)
        rc = read_mixture(m, s, mixture, e);
    if (rc == SS_OK)
        *to = m;
    else
        ss_model_free(m);
    return rc;
}

static int fill(ss_model *m, ss_st *s, ss_err *e)
{
    int rc = ss_model_alloc(m, e);
    for (int i = 0; i < m->nparam && rc == SS_OK; i++) {
        const ss_param *p = &m->param[i];
        ss_model_seen seen;
        rc = read_rows(m, s, p, 0, p->dim[0], m->value + p->offset, &seen, e);
        if (rc == SS_OK)
            rc = expect(m, s, p, &seen, e);
    }
    for (int cut = 0; cut <= SS_CUT_EMBEDDING && rc == SS_OK; cut++)
        if (m->codec[cut] && !m->codec[cut]->value)
            rc = read_codec(s, cut, m->codec[cut], e);
    if (rc < 0) {
        ss_free(m->value);
        m->value = NULL;
    }
    return rc;
}

static void leave_file(ss_model *m)
{
    ss_st_close(&m->file);
    ss_free(m->tensor);
    m->tensor = NULL;
}

int ss_model_read(ss_model **to, ss_st *s, ss_err *e)
{
    *to = NULL;
    ss_model *m = NULL;
    int rc = describe(&m, s, e);
    if (rc == SS_OK)
        rc = fill(m, s, e);
    if (rc < 0) {
        ss_model_free(m);
        return rc;
    }
    leave_file(m);
    *to = m;
    return SS_OK;
}

int ss_model_open(ss_model **m, const char *path, ss_err *e)
{
    ss_st *s;
    *m = NULL;
    int rc = ss_st_open(&s, path, e);
    if (rc == SS_OK && (rc = ss_st_check_header(s, e)) >= 0) {
        rc = describe(m, s, e);
        if (rc < 0)
            ss_err_prefix(e, "cannot load '%s'", path);
    }
    if (rc < 0)
        ss_st_close(&s);
    else
        (*m)->file = s;
    return rc < 0 ? rc : SS_OK;
}

int ss_model_fill(ss_model *m, ss_err *e)
{
    int rc = m->value ? SS_OK : fill(m, m->file, e);
    if (rc == SS_OK)
        leave_file(m);
    return rc;
}

int ss_model_load(ss_model **m, const char *path, ss_err *e)
{
    int rc = ss_model_open(m, path, e);
    if (rc == SS_OK && (rc = ss_model_fill(*m, e)) < 0) {
        ss_model_free(*m);
        *m = NULL;
    }
    return rc;
}

static int any(int (*load)(ss_model **, const char *, ss_err *), ss_model **m, const char *path,
               int *previous, ss_err *e)
{
    ss_err first = {0};
    if (previous)
        *previous = 0;
    int rc = load(m, path, &first);
    if (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EIO) {
        char *prev = ss_atomic_previous(path);
        if (prev && load(m, prev, NULL) == SS_OK) {
            rc = SS_OK;
            if (previous)
                *previous = 1;
        }
        ss_free(prev);
    }
    if (e)
        *e = first;
    return rc;
}

int ss_model_open_any(ss_model **m, const char *path, int *previous, ss_err *e)
{
    return any(ss_model_open, m, path, previous, e);
}

int ss_model_load_any(ss_model **m, const char *path, int *previous, ss_err *e)
{
    return any(ss_model_load, m, path, previous, e);
}

/* writing */

void ss_model_real_text(char *out, size_t room, float v)
{
    snprintf(out, room, "%.9g", (double)v);
    char *comma = strchr(out, ',');
    if (comma)
        *comma = '.';
}

int ss_model_save(const ss_model *m, const char *path, ss_err *e)
{
    if (!m->value)
        return ss_err_set(e, SS_EINVAL, "'%s' is not written: the values are in another file", path);
    int rc = check_finite(m, e);
    if (rc < 0) {
        ss_err_prefix(e, "'%s' is not written", path);
        return rc;
    }
    enum { NMETA = 11 };
    const ss_model_config *c = &m->config;
    char text[NMETA][32];
    snprintf(text[0], sizeof text[0], "%d", FORMAT_VERSION);
    snprintf(text[1], sizeof text[1], "model");
    snprintf(text[2], sizeof text[2], "resnet18");
    snprintf(text[3], sizeof text[3], "%d", c->width);
    snprintf(text[4], sizeof text[4], "%d", c->mels);
    snprintf(text[5], sizeof text[5], "%d", c->frames);
    snprintf(text[6], sizeof text[6], "%d", c->dim);
    snprintf(text[7], sizeof text[7], "%s", ss_norm_name((int)c->norm));
    ss_model_real_text(text[8], sizeof text[8], c->input_mean);
    ss_model_real_text(text[9], sizeof text[9], c->input_scale);
    snprintf(text[10], sizeof text[10], "%" PRIu64, m->generation);
    char synchronised[24], calibration[SS_QUANT_TEXT];
    snprintf(synchronised, sizeof synchronised, "%" PRIu64, m->synchronised);
    bool calibrated = m->calibration.records > 0;
    if (calibrated)
        ss_quant_text(&m->calibration, calibration);
    enum { CUTS = SS_CUT_EMBEDDING + 1 };
    char codec_key[CUTS][CODEC_NAME], codec_text[CUTS][SS_BOTTLENECK_TEXT];
    char tensor_name[CUTS * SS_BOTTLENECK_TENSORS][CODEC_NAME];
    ss_st_meta meta[NMETA + 3 + CUTS] = {
        {"streamsplit.format", text[0]},       {"streamsplit.kind", text[1]},
        {"streamsplit.architecture", text[2]}, {"streamsplit.width", text[3]},
        {"streamsplit.mels", text[4]},         {"streamsplit.frames", text[5]},
        {"streamsplit.dim", text[6]},          {"streamsplit.norm", text[7]},
        {"streamsplit.input_mean", text[8]},   {"streamsplit.input_scale", text[9]},
        {"streamsplit.generation", text[10]},  {"streamsplit.frontend_hash", m->frontend_hash}};
    int nmeta = NMETA + 1;
    if (m->synchronised)
        meta[nmeta++] = (ss_st_meta){SYNCHRONISED, synchronised};
    if (calibrated)
        meta[nmeta++] = (ss_st_meta){CALIBRATION, calibration};
    int n = m->nparam;
    ss_st_array *a = ss_alloc((size_t)n + 1 + CUTS * SS_BOTTLENECK_TENSORS, sizeof *a);
    if (!a)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %d tensors", n);
    for (int i = 0; i < n; i++) {
        const ss_param *p = &m->param[i];
        a[i] = (ss_st_array){p->name, SS_DTYPE_F32, p->rank, {0}, m->value + p->offset};
        for (int k = 0; k < p->rank; k++)
            a[i].dim[k] = p->dim[k];
    }
    if (m->mixture)
        a[n++] = (ss_st_array){MIXTURE, SS_DTYPE_U8, 1, {m->mixture_size}, m->mixture};
    int named = 0;
    for (int cut = 0; cut < CUTS; cut++) {
        ss_bottleneck_tensor part[SS_BOTTLENECK_TENSORS];
        if (!m->codec[cut])
            continue;
        snprintf(codec_key[cut], CODEC_NAME, CODEC "%s", ss_cut_name(cut));
        ss_bottleneck_text(m->codec[cut], codec_text[cut]);
        meta[nmeta++] = (ss_st_meta){codec_key[cut], codec_text[cut]};
        ss_bottleneck_tensors(m->codec[cut], part);
        for (int i = 0; i < SS_BOTTLENECK_TENSORS; i++, named++) {
            codec_name(cut, part[i].name, tensor_name[named]);
            a[n] = (ss_st_array){tensor_name[named], part[i].dtype, part[i].rank, {0}, part[i].data};
            memcpy(a[n++].dim, part[i].dim, sizeof part[i].dim);
        }
    }
    rc = ss_st_write(path, SS_ATOMIC_KEEP, a, n, meta, nmeta, e);
    ss_free(a);
    return rc;
}
