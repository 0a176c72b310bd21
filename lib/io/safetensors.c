#include "io/safetensors.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/half.h"
#include "base/mem.h"
#include "io/atomic.h"
#include "io/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files are little-endian, and values are copied as they are");

#define OWN    "streamsplit."
#define DIGEST "streamsplit.digest"
#define SUMS   "streamsplit.checksums"
#define CHUNK  ((size_t)256 << 10)

struct ss_st {
    int fd; /* or -1 and the bytes in memory */
    const char *bytes;
    char *path;          /* for messages */
    uint64_t size, data; /* bytes of the file; where the data begin */
    char *header;        /* [8 + length], the length in front */
    cJSON *tree;         /* names and texts point into it */
    ss_st_tensor *tensor;
    int ntensor;
    uint32_t *sum; /* [ntensor] CRC-32C of the data of each; NULL until they are known */
    ss_st_meta *meta;
    int nmeta;
};

static const struct {
    char name[8];
    uint8_t size, dtype;
} types[] = {
    {"F32", 4, SS_DTYPE_F32},
    {"F16", 2, SS_DTYPE_F16},
    {"BF16", 2, SS_DTYPE_BF16},
    {"I8", 1, SS_DTYPE_I8},
    {"U8", 1, SS_DTYPE_U8},
    {"I16", 2, SS_DTYPE_I16},
    {"I32", 4, SS_DTYPE_I32},
    {"I64", 8, SS_DTYPE_I64},
    {"F64", 8, SS_DTYPE_F64},
    {"BOOL", 1, 0},
    {"U16", 2, 0},
    {"U32", 4, 0},
    {"U64", 8, 0},
    {"F8_E4M3", 1, 0},
    {"F8_E5M2", 1, 0},
};
enum { NTYPES = sizeof types / sizeof *types };

/* reading */

static int get(ss_st *s, uint64_t at, void *to, size_t n, ss_err *e)
{
    if (s->fd < 0) {
        memcpy(to, s->bytes + at, n);
        return SS_OK;
    }
    for (char *p = to; n > 0;) {
        ssize_t k = pread(s->fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return ss_err_errno(e, "cannot read at byte %" PRIu64, at);
        if (k == 0)
            return ss_err_set(e, SS_ETRUNC, "ended at byte %" PRIu64 " while it was read, expected %" PRIu64,
                              at, s->size);
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return SS_OK;
}

static int shape_of(ss_st_tensor *t, const cJSON *shape, ss_err *e)
{
    const cJSON *d;
    t->count = 1;
    cJSON_ArrayForEach(d, shape)
    {
        int64_t v = 0;
        int rc = ss_json_int(d, NULL, 0, (int64_t)1 << 48, &v, e);
        if (rc < 0)
            return ss_err_prefix(e, "shape");
        if (t->rank == SS_MAX_RANK)
            return ss_err_set(e, SS_EUNFIT, "rank above %d", SS_MAX_RANK);
        t->dim[t->rank++] = (uint64_t)v;
        if (!ss_mul(t->count, (size_t)v, &t->count))
            return ss_err_set(e, SS_EDAMAGED, "the product of its shape overflows");
    }
    return SS_OK;
}

static int tensor_of(ss_st *s, ss_st_tensor *t, const cJSON *o, ss_err *e)
{
    static const char *const members[] = {"dtype", "shape", "data_offsets"};
    const cJSON *shape = NULL, *offsets = NULL;
    int rc, k;
    *t = (ss_st_tensor){.name = o->string};
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "not an object");
    rc = ss_json_only(o, members, 3, e);
    if (rc < 0 || (rc = ss_json_string(o, "dtype", 16, &t->type, e)) < 0 ||
        (rc = ss_json_array(o, "shape", &shape, e)) < 0 ||
        (rc = ss_json_array(o, "data_offsets", &offsets, e)) < 0)
        return rc;
    if (!t->type || !shape || !offsets)
        return ss_err_set(e, SS_EDAMAGED, "'%s' is missing",
                          !t->type ? "dtype"
                          : !shape ? "shape"
                                   : "data_offsets");
    for (k = 0; k < NTYPES && strcmp(types[k].name, t->type); k++)
        continue;
    if (k == NTYPES)
        return ss_err_set(e, SS_EUNFIT, "dtype '%s' is not known", t->type);
    t->dtype = types[k].dtype;
    rc = shape_of(t, shape, e);
    if (rc < 0)
        return rc;
    if (!ss_mul(t->count, types[k].size, &t->size))
        return ss_err_set(e, SS_EDAMAGED, "its size in bytes overflows");
    int64_t from = 0, to = 0;
    uint64_t room = s->size - s->data;
    if (cJSON_GetArraySize(offsets) != 2)
        return ss_err_set(e, SS_EDAMAGED, "data_offsets holds %d values, expected 2",
                          cJSON_GetArraySize(offsets));
    if ((rc = ss_json_int(offsets->child, NULL, 0, (int64_t)1 << 53, &from, e)) < 0 ||
        (rc = ss_json_int(offsets->child->next, NULL, from, (int64_t)1 << 53, &to, e)) < 0)
        return ss_err_prefix(e, "data_offsets");
    if ((uint64_t)(to - from) != t->size)
        return ss_err_set(e, SS_EDAMAGED, "data_offsets span %" PRId64 " bytes, its shape needs %zu",
                          to - from, t->size);
    if ((uint64_t)to > room)
        return ss_err_set(e, SS_ETRUNC, "its data end at byte %" PRIu64 ", the file at byte %" PRIu64,
                          s->data + (uint64_t)to, s->size);
    t->offset = s->data + (uint64_t)from;
    return SS_OK;
}

static int metadata_of(ss_st *s, const cJSON *o, ss_err *e)
{
    const cJSON *v;
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "__metadata__ is not an object");
    int n = cJSON_GetArraySize(o);
    s->meta = ss_alloc((size_t)n, sizeof *s->meta);
    if (!s->meta)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %d metadata", n);
    cJSON_ArrayForEach(v, o)
    {
        if (!cJSON_IsString(v))
            return ss_err_set(e, SS_EDAMAGED, "metadata '%.80s' is not a string", v->string);
        s->meta[s->nmeta++] = (ss_st_meta){v->string, v->valuestring};
    }
    return SS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const ss_st_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->size != y->size) /* empty ones first */
        return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int parse_header(ss_st *s, uint64_t length, ss_err *e)
{
    if (s->header[8] != '{')
        return ss_err_set(e, SS_EDAMAGED, "header does not begin with '{'");
    int rc = ss_json_parse(&s->tree, s->header + 8, (size_t)length, "header", e);
    if (rc < 0)
        return rc == SS_ELIMIT ? ss_err_set(e, SS_EDAMAGED, "header beyond any use") : rc;
    int n = cJSON_GetArraySize(s->tree);
    if (n > SS_ST_MAX_TENSORS + 1)
        return ss_err_set(e, SS_EDAMAGED, "%d tensors, at most %d are accepted", n, SS_ST_MAX_TENSORS);
    s->tensor = ss_alloc((size_t)n, sizeof *s->tensor);
    if (!s->tensor)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %d tensors", n);
    const cJSON *o;
    cJSON_ArrayForEach(o, s->tree)
    {
        if (!strcmp(o->string, "__metadata__")) {
            rc = metadata_of(s, o, e);
        } else {
            rc = tensor_of(s, &s->tensor[s->ntensor++], o, e);
            if (rc < 0)
                ss_err_prefix(e, "tensor '%.80s'", o->string);
        }
        if (rc < 0)
            return rc;
    }
    qsort(s->tensor, (size_t)s->ntensor, sizeof *s->tensor, by_offset);
    uint64_t at = s->data;
    for (int i = 0; i < s->ntensor; i++) {
        const ss_st_tensor *t = &s->tensor[i];
        if (t->offset != at)
            return ss_err_set(
                e, SS_EDAMAGED, "tensor '%.80s' begins at byte %" PRIu64 ", %s at byte %" PRIu64, t->name,
                t->offset, t->offset < at ? "inside the one before, which ends" : "behind a gap that begins",
                at);
        at += t->size;
    }
    if (at != s->size)
        return ss_err_set(e, SS_EDAMAGED, "%" PRIu64 " bytes follow the last tensor", s->size - at);
    return SS_OK;
}

static int read_header(ss_st *s, ss_err *e)
{
    uint64_t length;
    if (s->size < sizeof length + 2)
        return ss_err_set(e, SS_ETRUNC, "%" PRIu64 " bytes are too few for a safetensors file", s->size);
    int rc = get(s, 0, &length, sizeof length, e);
    if (rc < 0)
        return rc;
    if (length < 2 || length > SS_ST_MAX_HEADER)
        return ss_err_set(e, SS_EDAMAGED, "header length %" PRIu64 " is not within 2..%d", length,
                          SS_ST_MAX_HEADER);
    if (length > s->size - sizeof length)
        return ss_err_set(e, SS_ETRUNC, "header of %" PRIu64 " bytes in a file of %" PRIu64, length, s->size);
    s->data = sizeof length + length;
    s->header = ss_alloc((size_t)s->data, 1);
    if (!s->header)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a header of %" PRIu64 " bytes", length);
    rc = get(s, 0, s->header, (size_t)s->data, e);
    return rc < 0 ? rc : parse_header(s, length, e);
}

int ss_st_open_memory(ss_st **ps, const void *bytes, size_t n, ss_err *e)
{
    *ps = NULL;
    ss_st *s = ss_zalloc(1, sizeof *s);
    if (!s)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a reader");
    s->fd = -1;
    s->bytes = bytes;
    s->size = n;
    int rc = read_header(s, e);
    if (rc < 0)
        ss_st_close(&s);
    *ps = s;
    return rc;
}

int ss_st_open(ss_st **ps, const char *path, ss_err *e)
{
    struct stat st;
    *ps = NULL;
    ss_st *s = ss_zalloc(1, sizeof *s);
    if (!s)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a reader");
    int rc = SS_OK;
    /* Without O_NONBLOCK a pipe of that name would hold us up for ever. */
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    s->path = ss_strdup(path);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        rc = ss_err_errno(e, "cannot open '%s'", path);
    else if (!S_ISREG(st.st_mode))
        rc = ss_err_set(e, SS_EIO, "cannot open '%s': not a regular file", path);
    else if (!s->path)
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate a file name");
    if (rc == SS_OK) {
        s->size = (uint64_t)st.st_size;
        rc = read_header(s, e);
        if (rc < 0)
            ss_err_prefix(e, "cannot read '%s'", path);
    }
    if (rc < 0)
        ss_st_close(&s);
    *ps = s;
    return rc;
}

void ss_st_close(ss_st **ps)
{
    ss_st *s = *ps;
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    cJSON_Delete(s->tree);
    ss_free(s->path);
    ss_free(s->header);
    ss_free(s->tensor);
    ss_free(s->sum);
    ss_free(s->meta);
    ss_free(s);
    *ps = NULL;
}

const char *ss_st_path(const ss_st *s)
{
    return s->path ? s->path : "memory";
}

int ss_st_count(const ss_st *s)
{
    return s->ntensor;
}

const ss_st_tensor *ss_st_tensor_at(const ss_st *s, int i)
{
    return &s->tensor[i];
}

const ss_st_tensor *ss_st_find(const ss_st *s, const char *name)
{
    for (int i = 0; i < s->ntensor; i++)
        if (!strcmp(s->tensor[i].name, name))
            return &s->tensor[i];
    return NULL;
}

const char *ss_st_meta_value(const ss_st *s, const char *key)
{
    for (int i = 0; i < s->nmeta; i++)
        if (!strcmp(s->meta[i].key, key))
            return s->meta[i].value;
    return NULL;
}

const ss_st_meta *ss_st_meta_at(const ss_st *s, int i)
{
    return i < s->nmeta ? &s->meta[i] : NULL;
}

const char *ss_st_shape_text(const ss_st_tensor *t, char *out, size_t room)
{
    const char *type = t->type;
    for (int i = 0; i < NTYPES && !type; i++)
        if (types[i].dtype == t->dtype)
            type = types[i].name;
    int n = snprintf(out, room, "%s ", type ? type : "?");
    for (int i = 0; i < t->rank && n < (int)room; i++)
        n += snprintf(out + n, room - (size_t)n, "[%" PRIu64 "]", t->dim[i]);
    return out;
}

/* "cannot read 'x'" before an error that a reader of this file met. */
static int of_file(const ss_st *s, int rc, ss_err *e)
{
    if (rc < 0 && s->path)
        ss_err_prefix(e, "cannot read '%s'", s->path);
    return rc;
}

/* Where the 16 digits stand in the header, NULL unless exactly once in the form that we write. */
static char *find_digest(const ss_st *s)
{
    static const char key[] = "\"" DIGEST "\":\"";
    size_t n = sizeof key - 1, left = (size_t)s->data - 8;
    char *p = memmem(s->header + 8, left, key, n), *end = s->header + s->data;
    if (!p || (size_t)(end - p) < n + 17 || p[n + 16] != '"' || memmem(p + n, (size_t)(end - p) - n, key, n))
        return NULL;
    return p + n;
}

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
enum { COMPARED = 0 };
#else
enum { COMPARED = 1 };
#endif

static int differs(const char *what, const char *name, uint32_t found, uint32_t expected, ss_err *e)
{
    return ss_err_set(e, SS_EDAMAGED,
                      "digest of %s%s%.80s%s differs: found %08" PRIx32 ", expected %08" PRIx32
                      ": damaged, or changed by another program",
                      what, *name ? " '" : "", name, *name ? "'" : "", found, expected);
}

static bool hex8(const char *s, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < 8; i++) {
        int d = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10 : -1;
        if (d < 0)
            return false;
        *v = *v << 4 | (uint32_t)d;
    }
    return true;
}

/* CRC-32C of a tensor's data. */
static int sum_of(ss_st *s, const ss_st_tensor *t, void *buffer, uint32_t *sum, ss_err *e)
{
    int rc = SS_OK;
    *sum = 0;
    for (size_t at = 0; at < t->size && rc == SS_OK; at += CHUNK) {
        size_t n = t->size - at < CHUNK ? t->size - at : CHUNK;
        rc = get(s, t->offset + at, buffer, n, e);
        if (rc == SS_OK)
            *sum = ss_crc32c(*sum, buffer, n);
    }
    return rc;
}

static int read_sums(ss_st *s, const char *text, uint32_t *sum, ss_err *e)
{
    size_t n = strlen(text), want = 8 * (size_t)s->ntensor;
    bool good = n == want;
    for (int i = 0; i < s->ntensor && good; i++)
        good = hex8(text + 8 * i, &sum[i]);
    return good ? SS_OK
                : ss_err_set(e, SS_EDAMAGED, "checksums of %zu digits, expected %zu hexadecimal ones", n,
                             want);
}

/* Files of version 0.1.0 have one checksum for all data. */
static int make_sums(ss_st *s, uint32_t *sum, ss_err *e)
{
    void *buffer = ss_alloc_whole(CHUNK, 1);
    int rc = buffer ? SS_OK : ss_err_set(e, SS_ENOMEM, "cannot allocate a buffer");
    for (int i = 0; i < s->ntensor && rc == SS_OK; i++)
        rc = sum_of(s, &s->tensor[i], buffer, &sum[i], e);
    ss_free(buffer);
    return rc;
}

static int check_header(ss_st *s, ss_err *e)
{
    const char *text = ss_st_meta_value(s, DIGEST);
    if (!text) {
        /* A flipped bit in the digest's own key must not turn the file into a foreign one. */
        for (int i = 0; i < s->nmeta; i++)
            if (!strncmp(s->meta[i].key, OWN, strlen(OWN)))
                return ss_err_set(e, SS_EDAMAGED, "no digest beside '%.80s'", s->meta[i].key);
        return 0;
    }
    if (s->sum)
        return 1;
    uint32_t found, data;
    char *at = find_digest(s), kept[16];
    if (!at || !hex8(at, &found) || !hex8(at + 8, &data))
        return ss_err_set(e, SS_EDAMAGED, "digest in a form that is not ours");
    memcpy(kept, at, sizeof kept);
    memset(at, '0', sizeof kept);
    uint32_t header = ss_crc32c(0, s->header, (size_t)s->data);
    memcpy(at, kept, sizeof kept);
    if (COMPARED && header != found)
        return differs("the header", "", found, header, e);
    uint32_t *sum = ss_alloc((size_t)s->ntensor, sizeof *sum);
    if (!sum)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %d checksums", s->ntensor);
    const char *sums = ss_st_meta_value(s, SUMS);
    int rc = sums ? read_sums(s, sums, sum, e) : make_sums(s, sum, e);
    uint32_t all = 0;
    for (int i = 0; i < s->ntensor && rc == SS_OK; i++)
        all = ss_crc32c_join(all, sum[i], s->tensor[i].size);
    if (COMPARED && rc == SS_OK && all != data)
        rc = differs("the data", "", data, all, e);
    if (rc == SS_OK)
        s->sum = sum;
    else
        ss_free(sum);
    return rc < 0 ? rc : 1;
}

int ss_st_check_header(ss_st *s, ss_err *e)
{
    return of_file(s, check_header(s, e), e);
}

static int expect(const ss_st *s, const ss_st_tensor *t, uint32_t crc, ss_err *e)
{
    if (!s->sum || !COMPARED || s->sum[t - s->tensor] == crc)
        return SS_OK;
    return differs("tensor", t->name, s->sum[t - s->tensor], crc, e);
}

static int check(ss_st *s, ss_err *e)
{
    int rc = check_header(s, e);
    void *buffer = rc == 1 ? ss_alloc_whole(CHUNK, 1) : NULL;
    if (rc == 1 && !buffer)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a buffer");
    for (int i = 0; i < s->ntensor && rc == 1; i++) {
        uint32_t sum;
        int failed = sum_of(s, &s->tensor[i], buffer, &sum, e);
        if (failed == SS_OK)
            failed = expect(s, &s->tensor[i], sum, e);
        rc = failed < 0 ? failed : rc;
    }
    ss_free(buffer);
    return rc;
}

int ss_st_check(ss_st *s, ss_err *e)
{
    return of_file(s, check(s, e), e);
}

int ss_st_read_part(ss_st *s, const ss_st_tensor *t, size_t at, size_t n, void *to, uint32_t *crc, ss_err *e)
{
    int rc = SS_OK;
    for (char *p = to; n > 0 && rc == SS_OK;) {
        size_t k = n < CHUNK ? n : CHUNK; /* so that it is in the cache for the checksum */
        rc = get(s, t->offset + at, p, k, e);
        if (rc == SS_OK)
            *crc = ss_crc32c(*crc, p, k);
        p += k;
        at += k;
        n -= k;
    }
    return of_file(s, rc, e);
}

int ss_st_expect(const ss_st *s, const ss_st_tensor *t, uint32_t crc, ss_err *e)
{
    return of_file(s, expect(s, t, crc, e), e);
}

int ss_st_read(ss_st *s, const ss_st_tensor *t, void *to, ss_err *e)
{
    uint32_t crc = 0;
    int rc = ss_st_read_part(s, t, 0, t->size, to, &crc, e);
    return rc < 0 ? rc : ss_st_expect(s, t, crc, e);
}

int ss_st_read_f32(ss_st *s, const ss_st_tensor *t, float *to, ss_err *e)
{
    if (t->dtype == SS_DTYPE_F32)
        return ss_st_read(s, t, to, e);
    if (t->dtype != SS_DTYPE_F16 && t->dtype != SS_DTYPE_BF16 && t->dtype != SS_DTYPE_F64)
        return ss_err_set(e, SS_EUNFIT, "tensor '%.80s' is %s, expected floating point", t->name, t->type);
    void *raw = ss_alloc(t->size, 1);
    if (!raw)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %zu bytes for tensor '%.80s'", t->size, t->name);
    int rc = ss_st_read(s, t, raw, e);
    const uint16_t *h = raw;
    const double *d = raw;
    for (size_t i = 0; i < t->count && rc == SS_OK; i++)
        to[i] = t->dtype == SS_DTYPE_F64   ? (float)d[i]
                : t->dtype == SS_DTYPE_F16 ? ss_f16_to_f32(h[i])
                                           : ss_bf16_to_f32(h[i]);
    ss_free(raw);
    return rc;
}

/* writing */

struct text {
    char *p;
    size_t n, room;
    int failed;
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->n + n > t->room && !t->failed) {
        size_t room = 2 * t->room + n + 4096;
        char *p = ss_realloc(t->p, room, 1);
        t->failed = !p;
        if (p) {
            t->p = p;
            t->room = room;
        }
    }
    if (t->failed)
        return;
    memcpy(t->p + t->n, s, n);
    t->n += n;
}

static void puts_(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_u64(struct text *t, uint64_t v)
{
    char s[24];
    put(t, s, (size_t)snprintf(s, sizeof s, "%" PRIu64, v));
}

static void put_string(struct text *t, const char *s)
{
    puts_(t, "\"");
    for (; *s; s++) {
        char code[8];
        if (*s == '"' || *s == '\\')
            put(t, (char[]){'\\', *s}, 2);
        else if ((unsigned char)*s < 0x20)
            put(t, code, (size_t)snprintf(code, sizeof code, "\\u%04x", *s));
        else
            put(t, s, 1);
    }
    puts_(t, "\"");
}

struct item {
    const ss_st_array *a;
    const char *type;
    size_t unit, size;
    uint32_t sum;
};

static int by_unit(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->unit != y->unit)
        return x->unit > y->unit ? -1 : 1;
    return x->a < y->a ? -1 : x->a > y->a; /* a stable order */
}

static int lay_out(struct item *item, const ss_st_array *a, int n, ss_err *e)
{
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < NTYPES && (!types[k].dtype || types[k].dtype != a[i].dtype))
            k++;
        if (k == NTYPES || a[i].rank < 0 || a[i].rank > SS_MAX_RANK)
            return ss_err_set(e, SS_EINVAL, "tensor '%.80s' has dtype %d and rank %d", a[i].name, a[i].dtype,
                              a[i].rank);
        size_t size = types[k].size;
        for (int j = 0; j < a[i].rank; j++)
            if (!ss_mul(size, (size_t)a[i].dim[j], &size))
                return ss_err_set(e, SS_EINVAL, "tensor '%.80s': the product of its shape overflows",
                                  a[i].name);
        for (int j = 0; j < i; j++)
            if (!strcmp(a[i].name, a[j].name))
                return ss_err_set(e, SS_EINVAL, "tensor '%.80s' comes twice", a[i].name);
        item[i] = (struct item){&a[i], types[k].name, types[k].size, size, 0};
    }
    qsort(item, (size_t)n, sizeof *item, by_unit);
    return SS_OK;
}

/* Length, header, padding. */
static void put_header(struct text *t, const struct item *item, int n, const ss_st_meta *meta, int nmeta,
                       bool digest)
{
    uint64_t at = 0;
    const char *between = "";
    put(t, (char[8]){0}, 8);
    puts_(t, "{");
    if (nmeta || digest) {
        puts_(t, "\"__metadata__\":{");
        for (int i = 0; i < nmeta; i++) {
            if (i)
                puts_(t, ",");
            put_string(t, meta[i].key);
            puts_(t, ":");
            put_string(t, meta[i].value);
        }
        if (digest) {
            puts_(t, nmeta ? ",\"" SUMS "\":\"" : "\"" SUMS "\":\"");
            for (int i = 0; i < n; i++) {
                char hex[9];
                put(t, hex, (size_t)snprintf(hex, sizeof hex, "%08" PRIx32, item[i].sum));
            }
            puts_(t, "\",\"" DIGEST "\":\"0000000000000000\"");
        }
        puts_(t, "}");
        between = ",";
    }
    for (int i = 0; i < n; i++) {
        puts_(t, between);
        between = ",";
        put_string(t, item[i].a->name);
        puts_(t, ":{\"dtype\":\"");
        puts_(t, item[i].type);
        puts_(t, "\",\"shape\":[");
        for (int j = 0; j < item[i].a->rank; j++) {
            puts_(t, j ? "," : "");
            put_u64(t, item[i].a->dim[j]);
        }
        puts_(t, "],\"data_offsets\":[");
        put_u64(t, at);
        at += item[i].size;
        puts_(t, ",");
        put_u64(t, at);
        puts_(t, "]}");
    }
    puts_(t, "}");
    while (t->n % 8 && !t->failed)
        puts_(t, " ");
    uint64_t length = t->n - 8;
    if (!t->failed)
        memcpy(t->p, &length, sizeof length);
}

static int verify(const char *path, void *arg, ss_err *e)
{
    ss_st *s;
    int rc = ss_st_open(&s, path, e);
    if (rc == SS_OK)
        rc = ss_st_check(s, e);
    ss_st_close(&s);
    return rc < 0 ? rc : SS_OK;
}

int ss_st_write(const char *path, unsigned flags, const ss_st_array *a, int n, const ss_st_meta *meta,
                int nmeta, ss_err *e)
{
    struct text t = {0};
    ss_atomic *file = NULL;
    bool digest = !(flags & SS_ST_PLAIN);
    struct item *item = ss_alloc((size_t)n, sizeof *item);
    int rc = item ? lay_out(item, a, n, e) : ss_err_set(e, SS_ENOMEM, "cannot allocate %d tensors", n);
    if (rc < 0)
        goto out;
    uint32_t data = 0;
    for (int i = 0; i < n && digest; i++) {
        item[i].sum = ss_crc32c(0, item[i].a->data, item[i].size);
        data = ss_crc32c_join(data, item[i].sum, item[i].size);
    }
    put_header(&t, item, n, meta, nmeta, digest);
    if (t.failed) {
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate a header");
        goto out;
    }
    if (t.n - 8 > SS_ST_MAX_HEADER || n > SS_ST_MAX_TENSORS) {
        rc = ss_err_set(e, SS_ELIMIT, "header of %zu bytes, at most %d are accepted", t.n - 8,
                        SS_ST_MAX_HEADER);
        goto out;
    }
    if (digest) {
        uint32_t header = ss_crc32c(0, t.p, t.n);
        char hex[17];
        snprintf(hex, sizeof hex, "%08" PRIx32 "%08" PRIx32, header, data);
        char *at = memmem(t.p + 8, t.n - 8, DIGEST "\":\"", strlen(DIGEST "\":\""));
        memcpy(at + strlen(DIGEST "\":\""), hex, 16);
    }
    rc = ss_atomic_open(&file, path, flags & SS_ATOMIC_KEEP, e);
    if (rc == SS_OK)
        rc = ss_atomic_write(file, t.p, t.n, e);
    for (int i = 0; i < n && rc == SS_OK; i++)
        rc = ss_atomic_write(file, item[i].a->data, item[i].size, e);
    if (rc == SS_OK)
        rc = ss_atomic_commit(&file, verify, NULL, e);
out:
    ss_atomic_abort(&file);
    ss_free(item);
    ss_free(t.p);
    return rc;
}
