#include "nn/delta.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <zstd.h>

#include "base/crc32c.h"
#include "base/explog.h"
#include "base/mem.h"

/*
 * Head: magic, form, flags, 0 0, hash of the architecture, CRC of the layout, tensors, values, bytes of the
 * body; behind it the body in one frame of zstd. Body: scales f32 [rows]; then dense: numbers i8 [values], or
 * sparse: counts u32 [tensors], gaps, numbers i8 [sum of the counts].
 */
enum {
    HEAD = 48,
    FORM = 1,
    SPARSE = 1,
    PER_TENSOR = 2,
    LEVEL = 1 /* of zstd: higher ones find false matches in noise */,
    ESCAPE = 255
};
static const char magic[4] = {'S', 'S', 'W', 'D'};

#define FARTHEST 1e30f  /* that a value may have moved */
#define SMALLEST 1e-35f /* largest magnitude of a row below which nothing of it is sent */

void ss_delta_config_default(ss_delta_config *c)
{
    *c = (ss_delta_config){.keep = 1, .levels = 127};
}

/* ---- numbers as bytes ---- */

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u64(uint8_t *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

static uint64_t get_u64(const uint8_t *p)
{
    return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

/* ---- layout ---- */

static size_t rows_of(const ss_param *p, bool per_tensor)
{
    return per_tensor || p->rank < 2 ? 1 : p->dim[0];
}

typedef struct layout {
    size_t rows, values, longest; /* row */
    uint32_t crc;
} layout;

/* The CRC is that of a line "name dim dim ...\n" for each tensor. */
static layout layout_of(const ss_model *m, bool per_tensor)
{
    layout l = {0};
    for (int i = 0; i < m->nparam; i++) {
        const ss_param *p = &m->param[i];
        char line[sizeof p->name + 4 * 12];
        int n = snprintf(line, sizeof line, "%s", p->name);
        for (int k = 0; k < p->rank; k++)
            n += snprintf(line + n, sizeof line - (size_t)n, " %" PRIu32, p->dim[k]);
        line[n++] = '\n';
        l.crc = ss_crc32c(l.crc, line, (size_t)n);
        size_t rows = rows_of(p, per_tensor), row = p->count / rows;
        l.rows += rows;
        l.values += p->count;
        l.longest = row > l.longest ? row : l.longest;
    }
    return l;
}

/* Most bytes of a body: the gaps of n values kept of m take n, and one for every 255 passed over. */
static size_t largest_body(const ss_model *m, const layout *l, bool sparse, size_t kept)
{
    size_t scales = 4 * l->rows;
    return sparse ? scales + 4 * (size_t)m->nparam + 2 * kept + l->values / ESCAPE : scales + l->values;
}

/* ---- going through it ---- */

struct ss_delta {
    const ss_param *param;
    int nparam;
    bool sparse, per_tensor;
    uint8_t *body;
    const uint8_t *scales, *counts, *gaps, *numbers; /* in it */
    float *row;                                      /* [longest] */
};

/* Called for every row, also those of zeros. */
typedef void (*use)(void *arg, size_t offset, const float *x, size_t n);

static void walk_dense(ss_delta *d, use fn, void *arg)
{
    const uint8_t *scale = d->scales;
    const int8_t *q = (const int8_t *)d->numbers;
    for (int i = 0; i < d->nparam; i++) {
        const ss_param *p = &d->param[i];
        size_t rows = rows_of(p, d->per_tensor), n = p->count / rows;
        for (size_t r = 0; r < rows; r++, scale += 4, q += n) {
            float s = ss_float_of_bits(get_u32(scale));
            for (size_t k = 0; k < n; k++)
                d->row[k] = (float)q[k] * s;
            fn(arg, p->offset + r * n, d->row, n);
        }
    }
}

/* Values passed over before the next one that is kept. */
static size_t gap_at(const uint8_t **gaps)
{
    size_t gap = 0;
    while (**gaps == ESCAPE) {
        gap += ESCAPE;
        ++*gaps;
    }
    return gap + *(*gaps)++;
}

static void walk_sparse(ss_delta *d, use fn, void *arg)
{
    const uint8_t *scale = d->scales, *gaps = d->gaps;
    const int8_t *q = (const int8_t *)d->numbers;
    for (int i = 0; i < d->nparam; i++) {
        const ss_param *p = &d->param[i];
        size_t rows = rows_of(p, d->per_tensor), n = p->count / rows, left = get_u32(d->counts + 4 * i);
        size_t at = left ? gap_at(&gaps) : 0;
        for (size_t r = 0; r < rows; r++, scale += 4) {
            float s = ss_float_of_bits(get_u32(scale));
            memset(d->row, 0, n * sizeof *d->row);
            while (left && at < (r + 1) * n) {
                d->row[at - r * n] = (float)*q++ * s;
                at += --left ? 1 + gap_at(&gaps) : 0;
            }
            fn(arg, p->offset + r * n, d->row, n);
        }
    }
}

static void walk(ss_delta *d, use fn, void *arg)
{
    if (d->sparse)
        walk_sparse(d, fn, arg);
    else
        walk_dense(d, fn, arg);
}

static void add_row(void *arg, size_t offset, const float *x, size_t n)
{
    float *v = (float *)arg + offset;
    for (size_t i = 0; i < n; i++)
        v[i] += x[i];
}

void ss_delta_add(ss_delta *d, float *value)
{
    walk(d, add_row, value);
}

/* ---- packing ---- */

typedef struct packing {
    const float *value, *shadow;
    bool per_tensor;
    int levels;
    uint32_t *histogram; /* [1 << 16], when not all is kept */
    uint8_t *scales, *counts, *gaps, *numbers;
} packing;

static float moved(const packing *k, size_t i)
{
    return k->value[i] - k->shadow[i];
}

static uint32_t magnitude(float f)
{
    return ss_bits_of_float(f) & 0x7fffffff; /* in the order of the magnitudes */
}

/* The n-th largest magnitude of a tensor, and how many of exactly that size are among the n. */
static uint32_t nth_largest(const packing *k, const ss_param *p, size_t n, size_t *ties)
{
    uint32_t at[2] = {0, 0};
    for (int half = 0; half < 2; half++) { /* 16 bits, then 15 */
        memset(k->histogram, 0, sizeof *k->histogram << 16);
        for (size_t i = 0; i < p->count; i++) {
            uint32_t v = magnitude(moved(k, p->offset + i));
            if (!half)
                k->histogram[v >> 15]++;
            else if (v >> 15 == at[0])
                k->histogram[v & 0x7fff]++;
        }
        uint32_t b = half ? 0x7fff : 0xffff;
        while (k->histogram[b] < n)
            n -= k->histogram[b--];
        at[half] = b;
    }
    *ties = n;
    return at[0] << 15 | at[1];
}

static float scale_of(const packing *k, size_t first, size_t n, uint32_t least)
{
    float most = 0;
    for (size_t i = first; i < first + n; i++)
        if (magnitude(moved(k, i)) >= least)
            most = fmaxf(most, fabsf(moved(k, i)));
    return most < SMALLEST ? 0 : most / (float)k->levels;
}

static int number_of(float x, float scale, int levels)
{
    float q = x / scale;
    int n = (int)(q + copysignf(0.5f, q));
    return n < -levels ? -levels : n > levels ? levels : n;
}

static size_t pack_dense(packing *k, const ss_param *p)
{
    size_t rows = rows_of(p, k->per_tensor), n = p->count / rows, sent = 0;
    for (size_t r = 0; r < rows; r++, k->scales += 4) {
        size_t first = p->offset + r * n;
        float scale = scale_of(k, first, n, 0);
        put_u32(k->scales, ss_bits_of_float(scale));
        for (size_t i = 0; i < n; i++) {
            int q = scale > 0 ? number_of(moved(k, first + i), scale, k->levels) : 0;
            *k->numbers++ = (uint8_t)(int8_t)q;
            sent += q != 0;
        }
    }
    return sent;
}

static void put_gap(packing *k, size_t gap)
{
    for (; gap >= ESCAPE; gap -= ESCAPE)
        *k->gaps++ = ESCAPE;
    *k->gaps++ = (uint8_t)gap;
}

static size_t pack_sparse(packing *k, const ss_param *p, size_t keep)
{
    size_t rows = rows_of(p, k->per_tensor), n = p->count / rows, ties, next = 0, sent = 0;
    uint32_t least = nth_largest(k, p, keep, &ties);
    for (size_t r = 0; r < rows; r++, k->scales += 4) {
        float scale = scale_of(k, p->offset + r * n, n, least);
        bool any = false;
        for (size_t i = r * n; i < (r + 1) * n && scale > 0; i++) {
            float x = moved(k, p->offset + i);
            if (magnitude(x) < least || (magnitude(x) == least && !ties))
                continue;
            ties -= magnitude(x) == least;
            int q = number_of(x, scale, k->levels);
            if (!q)
                continue;
            put_gap(k, i - next);
            *k->numbers++ = (uint8_t)(int8_t)q;
            next = i + 1;
            sent++;
            any = true;
        }
        put_u32(k->scales, any ? ss_bits_of_float(scale) : 0);
    }
    put_u32(k->counts, (uint32_t)sent);
    k->counts += 4;
    return sent;
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static size_t kept_of(const ss_param *p, float keep)
{
    size_t n = (size_t)ceil((double)p->count * keep);
    return n < 1 ? 1 : n > p->count ? p->count : n;
}

static void put_head(uint8_t *h, const ss_model *m, const layout *l, int flags, size_t body)
{
    char hash[17];
    ss_model_arch_hash(&m->config, hash);
    memcpy(h, magic, sizeof magic);
    h[4] = FORM;
    h[5] = (uint8_t)flags;
    h[6] = h[7] = 0;
    memcpy(h + 8, hash, 16);
    put_u32(h + 24, l->crc);
    put_u32(h + 28, (uint32_t)m->nparam);
    put_u64(h + 32, l->values);
    put_u64(h + 40, body);
}

static int compress(const ss_model *m, const layout *l, const ss_delta *d, size_t body, void **bytes,
                    size_t *size, ss_err *e)
{
    size_t room = ZSTD_compressBound(body);
    uint8_t *out = ss_alloc(HEAD + room, 1);
    if (!out)
        return ss_err_set(e, SS_ENOMEM, "no memory for a weight delta of %zu bytes", body);
    size_t n = ZSTD_compress(out + HEAD, room, d->body, body, LEVEL);
    if (ZSTD_isError(n)) {
        ss_free(out);
        return ss_err_set(e, SS_ENOMEM, "cannot pack a weight delta: %s", ZSTD_getErrorName(n));
    }
    put_head(out, m, l, (d->sparse ? SPARSE : 0) | (d->per_tensor ? PER_TENSOR : 0), body);
    *size = HEAD + n;
    *bytes = ss_realloc(out, *size, 1); /* its bound is some times as large */
    *bytes = *bytes ? *bytes : out;
    return SS_OK;
}

static int check_values(const ss_model *m, const float *value, const float *shadow, ss_err *e)
{
    for (int i = 0; i < m->nparam; i++)
        for (size_t k = m->param[i].offset; k < m->param[i].offset + m->param[i].count; k++)
            if (!(fabsf(value[k] - shadow[k]) < FARTHEST))
                return ss_err_set(e, SS_EUNFIT,
                                  "weight delta: '%s' has moved from %g to %g, value %zu of %zu",
                                  m->param[i].name, (double)shadow[k], (double)value[k],
                                  k - m->param[i].offset, m->param[i].count);
    return SS_OK;
}

/* Scales, counts, gaps and numbers into d->body, which is `room` bytes long. Returns the bytes used. */
static size_t pack_body(ss_delta *d, packing *k, const layout *l, size_t room, size_t kept, float keep,
                        size_t *sent)
{
    uint8_t *numbers = d->body + room - (d->sparse ? kept : l->values);
    d->scales = k->scales = d->body;
    d->counts = k->counts = d->body + 4 * l->rows;
    d->gaps = k->gaps = k->counts + (d->sparse ? 4 * d->nparam : 0);
    d->numbers = k->numbers = numbers;
    *sent = 0;
    for (int i = 0; i < d->nparam; i++)
        *sent += d->sparse ? pack_sparse(k, &d->param[i], kept_of(&d->param[i], keep))
                           : pack_dense(k, &d->param[i]);
    if (d->sparse) { /* the numbers come right behind the gaps */
        memmove(k->gaps, numbers, *sent);
        d->numbers = k->gaps;
        return (size_t)(k->gaps - d->body) + *sent;
    }
    return room;
}

int ss_delta_pack(const ss_model *m, const float *value, float *shadow, const ss_delta_config *c,
                  void **bytes, size_t *size, ss_delta_report *report, ss_err *e)
{
    layout l = layout_of(m, c->per_tensor);
    ss_delta d = {.param = m->param, .nparam = m->nparam, .per_tensor = c->per_tensor, .sparse = c->keep < 1};
    packing k = {.value = value, .shadow = shadow, .per_tensor = c->per_tensor, .levels = c->levels};
    size_t kept = 0, sent;
    *bytes = NULL;
    *size = 0;
    if (!(c->keep > 0 && c->keep <= 1))
        return ss_err_set(e, SS_EINVAL, "weight delta: keep is %g, expected above 0, at most 1",
                          (double)c->keep);
    if (c->levels < 1 || c->levels > 127)
        return ss_err_set(e, SS_EINVAL, "weight delta: %d levels, expected 1 to 127", c->levels);
    if (l.values > SS_STREAM_MAX_PAYLOAD)
        return ss_err_set(e, SS_ELIMIT, "weight delta: %zu values, more than the %d of a record", l.values,
                          SS_STREAM_MAX_PAYLOAD);
    int rc = check_values(m, value, shadow, e);
    if (rc < 0)
        return rc;
    for (int i = 0; i < m->nparam && d.sparse; i++)
        kept += kept_of(&m->param[i], c->keep);
    size_t room = largest_body(m, &l, d.sparse, kept);
    d.body = ss_alloc(room, 1);
    d.row = ss_alloc(l.longest, sizeof *d.row);
    k.histogram = d.sparse ? ss_alloc((size_t)1 << 16, sizeof *k.histogram) : NULL;
    if (!d.body || !d.row || (d.sparse && !k.histogram)) {
        rc = ss_err_set(e, SS_ENOMEM, "no memory for a weight delta");
    } else {
        double before = report ? distance(value, shadow, l.values) : 0;
        size_t body = pack_body(&d, &k, &l, room, kept, c->keep, &sent);
        rc = compress(m, &l, &d, body, bytes, size, e);
        if (!rc)
            ss_delta_add(&d, shadow);
        if (!rc && report)
            *report = (ss_delta_report){sent, body, *size, before, distance(value, shadow, l.values)};
    }
    ss_free(k.histogram);
    ss_free(d.row);
    ss_free(d.body);
    return rc;
}

/* ---- unpacking ---- */

static int check_head(const ss_model *m, const uint8_t *h, size_t size, ss_err *e)
{
    char hash[17];
    if (size < HEAD)
        return ss_err_set(e, SS_ETRUNC, "weight delta of %zu bytes, its head alone has %d", size, HEAD);
    if (memcmp(h, magic, sizeof magic))
        return ss_err_set(e, SS_EDAMAGED, "weight delta: it does not begin with SSWD");
    if (h[4] != FORM || h[5] & ~(SPARSE | PER_TENSOR) || h[6] || h[7])
        return ss_err_set(e, SS_EUNFIT,
                          "weight delta of form %d, flags %d: this program knows form %d, flags up to %d",
                          h[4], h[5], FORM, SPARSE | PER_TENSOR);
    ss_model_arch_hash(&m->config, hash);
    layout l = layout_of(m, false);
    if (memcmp(h + 8, hash, 16))
        return ss_err_set(e, SS_EUNFIT, "weight delta for another architecture than %s", hash);
    if (get_u32(h + 24) != l.crc || get_u32(h + 28) != (uint32_t)m->nparam || get_u64(h + 32) != l.values)
        return ss_err_set(e, SS_EUNFIT,
                          "weight delta of %" PRIu32 " tensors with %" PRIu64
                          " values: other names or shapes than the model's %d with %zu",
                          get_u32(h + 28), get_u64(h + 32), m->nparam, l.values);
    return SS_OK;
}

/* The frame's own word on its size has to be that of the head, which has to be possible for the model. */
static int unpack(ss_delta *d, const ss_model *m, const layout *l, const uint8_t *h, size_t size, ss_err *e)
{
    uint64_t body = get_u64(h + 40);
    size_t most = largest_body(m, l, d->sparse, l->values);
    size_t least = d->sparse ? 4 * l->rows + 4 * (size_t)m->nparam : most;
    if (body < least || body > most)
        return ss_err_set(e, SS_EDAMAGED, "weight delta: body of %" PRIu64 " bytes, expected %zu to %zu",
                          body, least, most);
    size_t frame = ZSTD_findFrameCompressedSize(h + HEAD, size - HEAD);
    unsigned long long content = ZSTD_getFrameContentSize(h + HEAD, size - HEAD);
    if (ZSTD_isError(frame) || frame != size - HEAD || content != body)
        return ss_err_set(e, SS_EDAMAGED,
                          "weight delta: its body is not one frame of zstd of %" PRIu64 " bytes", body);
    d->body = ss_alloc((size_t)body, 1);
    d->row = ss_alloc(l->longest, sizeof *d->row);
    if (!d->body || !d->row)
        return ss_err_set(e, SS_ENOMEM, "no memory for a weight delta of %" PRIu64 " bytes", body);
    size_t n = ZSTD_decompress(d->body, (size_t)body, h + HEAD, frame);
    if (ZSTD_isError(n) || n != body)
        return ss_err_set(e, SS_EDAMAGED, "weight delta: its body does not unpack: %s",
                          ZSTD_isError(n) ? ZSTD_getErrorName(n) : "too short");
    d->scales = d->body;
    d->counts = d->body + 4 * l->rows;
    d->gaps = d->counts + (d->sparse ? 4 * (size_t)d->nparam : 0);
    d->numbers = d->gaps;
    return SS_OK;
}

static int check_scales(const ss_delta *d, const layout *l, ss_err *e)
{
    for (size_t r = 0; r < l->rows; r++) {
        float s = ss_float_of_bits(get_u32(d->scales + 4 * r));
        if (!(s >= 0 && s < FARTHEST))
            return ss_err_set(e, SS_EDAMAGED, "weight delta: scale %zu is %g", r, (double)s);
    }
    return SS_OK;
}

/* One gap, which may not reach beyond `end`, nor lead past the tensor. */
static bool take_gap(const uint8_t **p, const uint8_t *end, size_t most, size_t *gap)
{
    *gap = 0;
    while (*p < end && **p == ESCAPE && *gap < most) {
        *gap += ESCAPE;
        ++*p;
    }
    if (*p == end || **p == ESCAPE)
        return false;
    *gap += *(*p)++;
    return *gap < most;
}

/* Positions ascend within each tensor, and numbers fill what the gaps leave. */
static int check_gaps(ss_delta *d, size_t body, ss_err *e)
{
    const uint8_t *p = d->gaps, *end = d->body + body;
    size_t numbers = 0, gap;
    for (int i = 0; i < d->nparam; i++) {
        const ss_param *t = &d->param[i];
        size_t count = get_u32(d->counts + 4 * i), at = 0;
        if (count > t->count)
            return ss_err_set(e, SS_EDAMAGED, "weight delta: %zu values of the %zu of '%s'", count, t->count,
                              t->name);
        for (size_t k = 0; k < count; k++, at += gap + 1)
            if (!take_gap(&p, end, t->count - at, &gap))
                return ss_err_set(e, SS_EDAMAGED, "weight delta: value %zu of %zu lies outside '%s'", k,
                                  count, t->name);
        numbers += count;
    }
    if ((size_t)(end - p) != numbers)
        return ss_err_set(e, SS_EDAMAGED, "weight delta: %zu numbers, expected %zu", (size_t)(end - p),
                          numbers);
    d->numbers = p;
    return SS_OK;
}

int ss_delta_open(ss_delta **out, const ss_model *m, const void *bytes, size_t size, ss_err *e)
{
    const uint8_t *h = bytes;
    *out = NULL;
    int rc = check_head(m, h, size, e);
    if (rc < 0)
        return rc;
    ss_delta *d = ss_zalloc(1, sizeof *d);
    if (!d)
        return ss_err_set(e, SS_ENOMEM, "no memory for a weight delta");
    d->param = m->param;
    d->nparam = m->nparam;
    d->sparse = h[5] & SPARSE;
    d->per_tensor = h[5] & PER_TENSOR;
    layout l = layout_of(m, d->per_tensor);
    rc = unpack(d, m, &l, h, size, e);
    if (!rc)
        rc = check_scales(d, &l, e);
    if (!rc && d->sparse)
        rc = check_gaps(d, (size_t)get_u64(h + 40), e);
    if (!rc)
        *out = d;
    else
        ss_delta_close(&d);
    return rc;
}

void ss_delta_close(ss_delta **d)
{
    if (!d || !*d)
        return;
    ss_free((*d)->body);
    ss_free((*d)->row);
    ss_free(*d);
    *d = NULL;
}

/* ---- records ---- */

void ss_delta_record(ss_record *rec, const ss_model *m, const void *bytes, size_t size, uint64_t from,
                     uint64_t to, uint64_t windows)
{
    *rec = (ss_record){.type = SS_TYPE_DELTA,
                       .dtype = SS_DTYPE_PACKED,
                       .rank = 1,
                       .dim = {(uint32_t)m->nvalue},
                       .size = size,
                       .data = bytes};
    ss_attr_set_uint(&rec->attrs, SS_ATTR_VERSION_FROM, from);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_VERSION_TO, to);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_COUNT, windows);
}

int ss_delta_open_record(ss_delta **d, const ss_model *m, const ss_record *rec, uint64_t *from, uint64_t *to,
                         uint64_t *windows, ss_err *e)
{
    *d = NULL;
    if (rec->type != SS_TYPE_DELTA || rec->dtype != SS_DTYPE_PACKED || rec->rank != 1)
        return ss_err_set(e, SS_EUNFIT, "weight delta: a record of type %d, dtype %d, rank %d", rec->type,
                          rec->dtype, rec->rank);
    *from = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_FROM, UINT64_MAX);
    *to = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_TO, 0);
    *windows = ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 0);
    if (*from >= *to)
        return ss_err_set(e, SS_EDAMAGED, "weight delta: its versions are missing, or do not ascend");
    if (rec->dim[0] != m->nvalue)
        return ss_err_set(e, SS_EUNFIT, "weight delta of %" PRIu32 " values, the model has %zu", rec->dim[0],
                          m->nvalue);
    return ss_delta_open(d, m, rec->data, rec->size, e);
}

/* ---- merging ---- */

typedef struct merging {
    float *value;
    const float *common;
    float ours, theirs; /* shares, of sum 1 */
    bool wild;
} merging;

static float merged(const merging *g, size_t i, float delta)
{
    return g->common[i] + (g->ours * (g->value[i] - g->common[i]) + g->theirs * delta);
}

static void try_row(void *arg, size_t offset, const float *x, size_t n)
{
    merging *g = arg;
    for (size_t i = 0; i < n; i++)
        g->wild = g->wild || !(fabsf(merged(g, offset + i, x[i])) <= FLT_MAX);
}

static void merge_row(void *arg, size_t offset, const float *x, size_t n)
{
    merging *g = arg;
    for (size_t i = 0; i < n; i++)
        g->value[offset + i] = merged(g, offset + i, x[i]);
}

int ss_merge(ss_delta *d, float *value, const float *common, uint64_t ours, uint64_t theirs, ss_err *e)
{
    double all = (double)ours + (double)theirs, share = ours ? (double)ours / all : 0;
    merging g = {value, common, (float)share, (float)(1 - share), false};
    walk(d, try_row, &g);
    if (g.wild)
        return ss_err_set(e, SS_EUNFIT, "weight delta: merged with it, values are not finite");
    walk(d, merge_row, &g);
    return SS_OK;
}
