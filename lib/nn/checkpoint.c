#include "nn/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/atomic.h"

#define FORMAT "1"
#define TEXT   "checkpoint." /* leads the keys of texts, so that they meet no other metadata */

struct ss_checkpoint_writer {
    ss_st_array *a;
    ss_st_meta *meta;
    int n, nmeta, room;
    void **own; /* names and small values */
    int nown;
    int rc;
};

struct ss_checkpoint {
    ss_st *file;
};

/* writing */

int ss_checkpoint_begin(ss_checkpoint_writer **w, ss_err *e)
{
    *w = ss_zalloc(1, sizeof **w);
    return *w ? SS_OK : ss_err_set(e, SS_ENOMEM, "cannot allocate a checkpoint");
}

void ss_checkpoint_abandon(ss_checkpoint_writer **pw)
{
    ss_checkpoint_writer *w = *pw;
    if (!w)
        return;
    for (int i = 0; i < w->nown; i++)
        ss_free(w->own[i]);
    ss_free(w->own);
    ss_free(w->a);
    ss_free(w->meta);
    ss_free(w);
    *pw = NULL;
}

static void *fail(ss_checkpoint_writer *w)
{
    if (w->rc == SS_OK)
        w->rc = SS_ENOMEM;
    return NULL;
}

/* Room for one more of everything: two own blocks for each. */
static int grow(ss_checkpoint_writer *w)
{
    if (w->rc < 0)
        return w->rc;
    if (w->n + w->nmeta < w->room)
        return SS_OK;
    int room = 2 * w->room + 32;
    ss_st_array *a = ss_realloc(w->a, (size_t)room, sizeof *a);
    if (a)
        w->a = a;
    ss_st_meta *meta = ss_realloc(w->meta, (size_t)room, sizeof *meta);
    if (meta)
        w->meta = meta;
    void **own = ss_realloc(w->own, 2 * (size_t)room, sizeof *own);
    if (own)
        w->own = own;
    if (!a || !meta || !own)
        fail(w);
    else
        w->room = room;
    return w->rc;
}

static void *room(ss_checkpoint_writer *w, size_t size)
{
    void *p = ss_alloc(size, 1);
    if (!p)
        return fail(w);
    w->own[w->nown++] = p;
    return p;
}

static void *own(ss_checkpoint_writer *w, const void *from, size_t size)
{
    void *p = room(w, size);
    return p ? memcpy(p, from, size) : NULL;
}

void ss_checkpoint_put(ss_checkpoint_writer *w, const char *name, int dtype, int rank, const uint64_t *dim,
                       const void *data)
{
    if (grow(w) < 0)
        return;
    if (rank < 0 || rank > SS_MAX_RANK) {
        w->rc = SS_EINVAL;
        return;
    }
    const char *copy = own(w, name, strlen(name) + 1);
    if (!copy)
        return;
    ss_st_array *a = &w->a[w->n++];
    *a = (ss_st_array){copy, dtype, rank, {0}, data};
    memcpy(a->dim, dim, (size_t)rank * sizeof *dim);
}

void ss_checkpoint_put_int(ss_checkpoint_writer *w, const char *name, int64_t value)
{
    const void *copy = grow(w) < 0 ? NULL : own(w, &value, sizeof value);
    if (copy)
        ss_checkpoint_put(w, name, SS_DTYPE_I64, 1, (uint64_t[]){1}, copy);
}

void *ss_checkpoint_room(ss_checkpoint_writer *w, const char *name, int dtype, uint64_t count)
{
    void *p = grow(w) < 0 ? NULL : room(w, count * ss_dtype_size(dtype));
    if (p)
        ss_checkpoint_put(w, name, dtype, 1, &count, p);
    return p;
}

void ss_checkpoint_put_parts(ss_checkpoint_writer *w, const ss_checkpoint_part *p, int n)
{
    for (int i = 0; i < n; i++)
        ss_checkpoint_put(w, p[i].name, p[i].dtype, 1, &p[i].count, p[i].data);
}

void ss_checkpoint_put_text(ss_checkpoint_writer *w, const char *name, const char *value)
{
    char key[128];
    if (grow(w) < 0)
        return;
    if ((size_t)snprintf(key, sizeof key, TEXT "%s", name) >= sizeof key) {
        w->rc = SS_EINVAL;
        return;
    }
    const char *k = own(w, key, strlen(key) + 1), *v = k ? own(w, value, strlen(value) + 1) : NULL;
    if (v)
        w->meta[w->nmeta++] = (ss_st_meta){k, v};
}

int ss_checkpoint_write(ss_checkpoint_writer **pw, const char *path, ss_err *e)
{
    ss_checkpoint_writer *w = *pw;
    int rc = w->rc;
    ss_st_meta *meta = rc == SS_OK ? ss_alloc((size_t)w->nmeta + 2, sizeof *meta) : NULL;
    if (meta) {
        meta[0] = (ss_st_meta){"streamsplit.format", FORMAT};
        meta[1] = (ss_st_meta){"streamsplit.kind", "checkpoint"};
        if (w->nmeta)
            memcpy(meta + 2, w->meta, (size_t)w->nmeta * sizeof *meta);
        rc = ss_st_write(path, SS_ATOMIC_KEEP, w->a, w->n, meta, w->nmeta + 2, e);
    } else {
        rc = ss_err_set(e, rc == SS_OK ? SS_ENOMEM : rc, "cannot write '%s': %s", path,
                        rc == SS_EINVAL ? "an array or a text that no checkpoint can hold" : "out of memory");
    }
    ss_free(meta);
    ss_checkpoint_abandon(pw);
    return rc;
}

/* reading */

static int open_one(ss_st **s, const char *path, ss_err *e)
{
    int rc = ss_st_open(s, path, e);
    if (rc == SS_OK)
        rc = ss_st_check(*s, e);
    if (rc >= 0) {
        const char *kind = ss_st_meta_value(*s, "streamsplit.kind");
        const char *format = ss_st_meta_value(*s, "streamsplit.format");
        rc = SS_OK;
        if (!kind || !format || strcmp(kind, "checkpoint"))
            rc = ss_err_set(e, SS_EUNFIT, "cannot read '%s': %.40s, expected a checkpoint", path,
                            kind ? kind : "a foreign file");
        else if (strcmp(format, FORMAT))
            rc = ss_err_set(e, SS_EUNFIT, "cannot read '%s': format version %.40s, expected " FORMAT, path,
                            format);
    }
    if (rc < 0)
        ss_st_close(s);
    return rc;
}

int ss_checkpoint_open(ss_checkpoint **pc, const char *path, int *previous, ss_err *e)
{
    ss_err first = {0};
    ss_checkpoint *c = ss_zalloc(1, sizeof *c);
    *pc = NULL;
    if (previous)
        *previous = 0;
    if (!c)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a checkpoint");
    int rc = open_one(&c->file, path, &first);
    if (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EIO) {
        char *prev = ss_atomic_previous(path);
        if (prev && open_one(&c->file, prev, NULL) == SS_OK) {
            rc = SS_OK;
            if (previous)
                *previous = 1;
        }
        ss_free(prev);
    }
    if (e)
        *e = first;
    if (rc < 0)
        ss_free(c);
    else
        *pc = c;
    return rc;
}

const ss_st_tensor *ss_checkpoint_find(const ss_checkpoint *c, const char *name)
{
    return ss_st_find(c->file, name);
}

int ss_checkpoint_get(ss_checkpoint *c, const char *name, int dtype, int rank, const uint64_t *dim, void *to,
                      ss_err *e)
{
    const ss_st_tensor *t = ss_st_find(c->file, name);
    if (!t)
        return ss_err_set(e, SS_EUNFIT, "checkpoint holds no '%.80s'", name);
    if (t->dtype != dtype || t->rank != rank || memcmp(t->dim, dim, (size_t)rank * sizeof *dim)) {
        char found[128];
        ss_st_tensor want = {.dtype = dtype, .rank = rank};
        char expected[128];
        memcpy(want.dim, dim, (size_t)rank * sizeof *dim);
        return ss_err_set(e, SS_EUNFIT, "checkpoint's '%.80s' is %s, expected %s", name,
                          ss_st_shape_text(t, found, sizeof found),
                          ss_st_shape_text(&want, expected, sizeof expected));
    }
    return ss_st_read(c->file, t, to, e);
}

int ss_checkpoint_get_int(ss_checkpoint *c, const char *name, int64_t *value, ss_err *e)
{
    return ss_checkpoint_get(c, name, SS_DTYPE_I64, 1, (uint64_t[]){1}, value, e);
}

int ss_checkpoint_get_parts(ss_checkpoint *c, const ss_checkpoint_part *p, int n, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0; i < n && rc == SS_OK; i++)
        rc = ss_checkpoint_get(c, p[i].name, p[i].dtype, 1, &p[i].count, p[i].data, e);
    return rc;
}

const char *ss_checkpoint_text(const ss_checkpoint *c, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, TEXT "%s", name);
    return ss_st_meta_value(c->file, key);
}

void ss_checkpoint_close(ss_checkpoint **pc)
{
    if (!*pc)
        return;
    ss_st_close(&(*pc)->file);
    ss_free(*pc);
    *pc = NULL;
}
