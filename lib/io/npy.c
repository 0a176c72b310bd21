#include "io/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static const char *const descr[] = {
    [SS_DTYPE_F32] = "<f4", [SS_DTYPE_F16] = "<f2", [SS_DTYPE_I8] = "|i1",  [SS_DTYPE_U8] = "|u1",
    [SS_DTYPE_I16] = "<i2", [SS_DTYPE_I32] = "<i4", [SS_DTYPE_I64] = "<i8", [SS_DTYPE_F64] = "<f8",
};
enum { NDESCR = sizeof descr / sizeof *descr };

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

/* The dict literal between p and end. */
struct scan {
    const char *p, *end;
};

static void space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n'))
        s->p++;
}

static bool take(struct scan *s, char c)
{
    space(s);
    if (s->p >= s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static bool word(struct scan *s, const char *w)
{
    size_t n = strlen(w);
    space(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n))
        return false;
    s->p += n;
    return true;
}

/* A quoted string without escapes. */
static bool string(struct scan *s, char *out, size_t room)
{
    space(s);
    if (s->p >= s->end || (*s->p != '\'' && *s->p != '"'))
        return false;
    const char *from = s->p + 1, *to = memchr(from, *s->p, (size_t)(s->end - from));
    if (!to || (size_t)(to - from) >= room || memchr(from, '\\', (size_t)(to - from)))
        return false;
    memcpy(out, from, (size_t)(to - from));
    out[to - from] = 0;
    s->p = to + 1;
    return true;
}

static int parse_descr(struct scan *s, ss_npy *a, ss_err *e)
{
    char type[24];
    if (!string(s, type, sizeof type))
        return ss_err_set(e, SS_EUNFIT, "npy: 'descr' is no plain type");
    for (int i = 1; i < NDESCR; i++)
        if (descr[i] && (!strcmp(type, descr[i]) ||
                         (descr[i][2] == '1' && !strcmp(type + 1, descr[i] + 1) && strchr("<>=", *type))))
            a->dtype = i;
    return a->dtype ? SS_OK
                    : ss_err_set(e, SS_EUNFIT,
                                 "npy: type '%s', expected one of <f4 <f2 |i1 |u1 <i2 <i4 <i8 <f8", type);
}

static int parse_shape(struct scan *s, ss_npy *a, ss_err *e)
{
    if (!take(s, '('))
        return ss_err_set(e, SS_EDAMAGED, "npy: 'shape' is no tuple");
    bool comma = true;
    while (!take(s, ')')) {
        uint64_t v = 0;
        space(s);
        if (!comma || s->p >= s->end || *s->p < '0' || *s->p > '9')
            return ss_err_set(e, SS_EDAMAGED, "npy: 'shape' is no tuple of numbers");
        for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
            if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
                __builtin_add_overflow(v, (uint64_t)(*s->p - '0'), &v))
                return ss_err_set(e, SS_EDAMAGED, "npy: 'shape' is too large");
        if (a->rank == SS_NPY_MAX_RANK)
            return ss_err_set(e, SS_EUNFIT, "npy: more than %d axes", SS_NPY_MAX_RANK);
        a->dim[a->rank++] = v;
        comma = take(s, ',');
    }
    if (a->rank == 1 && !comma)
        return ss_err_set(e, SS_EDAMAGED, "npy: 'shape' is no tuple");
    return SS_OK;
}

static int set_size(ss_npy *a, int code, ss_err *e)
{
    uint64_t n = ss_dtype_size(a->dtype);
    bool empty = false;
    for (int i = 0; i < a->rank; i++) {
        if (!a->dim[i])
            empty = true;
        else if (__builtin_mul_overflow(n, a->dim[i], &n) || n > INT64_MAX)
            return ss_err_set(e, code, "npy: 'shape' is too large");
    }
    a->size = empty ? 0 : n;
    return SS_OK;
}

static int parse_dict(struct scan *s, ss_npy *a, ss_err *e)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    unsigned seen = 0;
    int rc = SS_OK;
    bool comma = true;
    if (!take(s, '{'))
        return ss_err_set(e, SS_EDAMAGED, "npy: header is no dict");
    while (!take(s, '}')) {
        char key[16];
        unsigned k = 0;
        if (!comma || !string(s, key, sizeof key) || !take(s, ':'))
            return ss_err_set(e, SS_EDAMAGED, "npy: header is no dict");
        while (k < 3 && strcmp(key, keys[k]))
            k++;
        if (k == 3 || seen >> k & 1)
            return ss_err_set(e, SS_EDAMAGED, "npy: key '%s' %s", key, k == 3 ? "is unknown" : "comes twice");
        seen |= 1u << k;
        if (k == 0)
            rc = parse_descr(s, a, e);
        else if (k == 2)
            rc = parse_shape(s, a, e);
        else if (word(s, "True"))
            rc = ss_err_set(e, SS_EUNFIT, "npy: array in Fortran order, expected C order");
        else if (!word(s, "False"))
            rc = ss_err_set(e, SS_EDAMAGED, "npy: 'fortran_order' is neither True nor False");
        if (rc)
            return rc;
        comma = take(s, ',');
    }
    space(s);
    if (seen != 7)
        return ss_err_set(e, SS_EDAMAGED, "npy: header lacks descr, fortran_order or shape");
    if (s->p != s->end || s->end[-1] != '\n')
        return ss_err_set(e, SS_EDAMAGED, "npy: header does not end with its dict and a line feed");
    return set_size(a, SS_EDAMAGED, e);
}

/* Bytes before the dict, and bytes of all, from the first ones at p [n]; 0 when n does not say it yet. */
static ssize_t header_size(const uint8_t *p, size_t n, size_t *lead, ss_err *e)
{
    if (memcmp(p, magic, n < sizeof magic ? n : sizeof magic))
        return ss_err_set(e, SS_EDAMAGED, "npy: not an .npy file");
    if (n < 8)
        return 0;
    if ((p[6] != 1 && p[6] != 2) || p[7])
        return ss_err_set(e, SS_EUNFIT, "npy: version %u.%u, expected 1.0 or 2.0", p[6], p[7]);
    *lead = p[6] == 1 ? 10 : 12;
    if (n < *lead)
        return 0;
    size_t size = p[8] | (size_t)p[9] << 8;
    if (p[6] == 2)
        size |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (size > SS_NPY_MAX - *lead || !size)
        return ss_err_set(e, SS_EDAMAGED, "npy: header of %zu bytes, expected 1 to %zu", size,
                          SS_NPY_MAX - *lead);
    return (ssize_t)(*lead + size);
}

ssize_t ss_npy_parse(const void *data, size_t n, ss_npy *a, ss_err *e)
{
    size_t lead = 0;
    memset(a, 0, sizeof *a);
    ssize_t size = header_size(data, n, &lead, e);
    if (size < 0)
        return size;
    if (!size || (size_t)size > n)
        return ss_err_set(e, SS_ETRUNC, "npy: truncated in the header");
    struct scan s = {(const char *)data + lead, (const char *)data + size};
    int rc = parse_dict(&s, a, e);
    return rc ? rc : size;
}

int ss_npy_read(int fd, ss_npy *a, ss_err *e)
{
    size_t lead = 0, have = 0, want = 8;
    ssize_t rc = 0;
    uint8_t *p = ss_alloc(SS_NPY_MAX, 1);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "npy: out of memory");
    while (rc >= 0 && have < want) {
        ssize_t k = read(fd, p + have, want - have);
        if (k < 0 && errno != EINTR)
            rc = ss_err_errno(e, "cannot read");
        else if (!k)
            break; /* the parser says what is missing */
        have += k > 0 ? (size_t)k : 0;
        if (rc >= 0 && have == want) {
            rc = header_size(p, have, &lead, e);
            want = rc > 0 ? (size_t)rc : rc == 0 ? lead : want;
        }
    }
    if (rc >= 0)
        rc = ss_npy_parse(p, have, a, e);
    ss_free(p);
    return rc < 0 ? (int)rc : SS_OK;
}

int ss_npy_print(ss_npy *a, char out[SS_NPY_HEADER], ss_err *e)
{
    if (a->dtype <= 0 || a->dtype >= NDESCR || !descr[a->dtype] || a->rank < 0 || a->rank > SS_NPY_MAX_RANK)
        return ss_err_set(e, SS_EINVAL, "npy: dtype %d and rank %d cannot be written", a->dtype, a->rank);
    int rc = set_size(a, SS_EINVAL, e);
    if (rc)
        return rc;
    memcpy(out, magic, sizeof magic);
    out[6] = 1;
    out[7] = 0;
    out[8] = (char)((SS_NPY_HEADER - 10) & 255);
    out[9] = (SS_NPY_HEADER - 10) >> 8;
    char *p = out + 10, *end = out + SS_NPY_HEADER;
    memset(p, ' ', SS_NPY_HEADER - 10);
    int n =
        snprintf(p, (size_t)(end - p), "{'descr': '%s', 'fortran_order': False, 'shape': (", descr[a->dtype]);
    for (int i = 0; i < a->rank; i++)
        n += snprintf(p + n, (size_t)(end - p - n), "%s%" PRIu64 "%s", i ? " " : "", a->dim[i],
                      a->rank == 1 || i < a->rank - 1 ? "," : "");
    n += snprintf(p + n, (size_t)(end - p - n), "), }");
    p[n] = ' ';
    end[-1] = '\n';
    return SS_OK;
}
