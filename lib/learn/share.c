#include "learn/share.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "io/journal.h"
#include "nn/delta.h"

struct ss_share {
    ss_model *m;
    ss_journal *journal;
    ss_delta_config config;
    uint64_t kept;
    float *shadow; /* [nvalue] */
    float *trial;  /* [nvalue] the shadow to be, or NULL */
    void *bytes;   /* of the delta given last */
    ss_record rec;
};

static int open_all(ss_share *s, const char *dir, ss_err *e)
{
    ss_header h = {.kind = "return"};
    size_t n = s->m->nvalue;
    s->shadow = ss_alloc(n, sizeof *s->shadow);
    s->trial = ss_alloc(n, sizeof *s->trial);
    if (!s->shadow || !s->trial)
        return ss_err_set(e, SS_ENOMEM, "synchronisation: no memory for %zu values", n);
    memcpy(s->shadow, s->m->value, n * sizeof *s->shadow);
    int opened = ss_journal_open(&s->journal, dir, NULL, e);
    if (opened < 0)
        return opened;
    ss_model_arch_hash(&s->m->config, h.arch_hash);
    ss_err late;
    int rc = ss_journal_header(s->journal, &h, &late);
    if (rc < 0)
        *e = late;
    return rc < 0 ? rc : opened;
}

int ss_share_open(ss_share **out, ss_model *m, const char *dir, int levels, int kept, ss_err *e)
{
    *out = NULL;
    if (!m->value || levels < 1 || levels > 127 || kept < 1)
        return ss_err_set(e, SS_EINVAL, "synchronisation: %d levels, %d kept%s", levels, kept,
                          m->value ? "" : ", and values that are in the model's file");
    ss_share *s = ss_zalloc(1, sizeof *s);
    if (!s)
        return ss_err_set(e, SS_ENOMEM, "synchronisation: out of memory");
    s->m = m;
    s->kept = (uint64_t)kept;
    ss_delta_config_default(&s->config);
    s->config.levels = levels;
    int rc = open_all(s, dir, e);
    if (rc < 0)
        ss_share_close(s);
    else
        *out = s;
    return rc;
}

void ss_share_close(ss_share *s)
{
    if (!s)
        return;
    if (s->journal)
        ss_journal_close(&s->journal, NULL);
    ss_free(s->shadow);
    ss_free(s->trial);
    ss_free(s->bytes);
    ss_free(s);
}

void ss_share_save(ss_share *s, ss_checkpoint_writer *w)
{
    ss_checkpoint_put(w, "shared.shadow", SS_DTYPE_F32, 1, (uint64_t[]){s->m->nvalue}, s->shadow);
    ss_checkpoint_put_int(w, "shared.version", (int64_t)s->m->synchronised);
}

/* Adds what the folder has beyond the version of the shadow. */
static int add(void *arg, const ss_record *rec, ss_err *e)
{
    ss_share *s = arg;
    ss_delta *d;
    uint64_t from, to, windows;
    int rc = ss_delta_open_record(&d, s->m, rec, &from, &to, &windows, e);
    if (rc < 0)
        return rc;
    ss_delta_add(d, s->shadow);
    ss_delta_close(&d);
    s->m->synchronised = to;
    return SS_OK;
}

int ss_share_load(ss_share *s, ss_checkpoint *c, ss_err *e)
{
    int64_t version = (int64_t)s->m->synchronised;
    int rc = SS_OK;
    if (c && ss_checkpoint_find(c, "shared.shadow")) {
        rc = ss_checkpoint_get(c, "shared.shadow", SS_DTYPE_F32, 1, (uint64_t[]){s->m->nvalue}, s->shadow, e);
        if (rc == SS_OK)
            rc = ss_checkpoint_get_int(c, "shared.version", &version, e);
    }
    if (rc < 0)
        return rc;
    s->m->synchronised = (uint64_t)version;
    rc = ss_share_since(s, (uint64_t)version, add, s, e);
    if (rc == 0)
        return ss_err_set(e, SS_EUNFIT,
                          "version %" PRId64
                          " of the weights was given out, the folder of weight deltas is of another model",
                          version);
    return rc < 0 ? rc : SS_OK;
}

int ss_share_next(ss_share *s, uint64_t windows, const ss_record **out, ss_err *e)
{
    void *bytes;
    size_t size, room = s->m->nvalue * sizeof *s->shadow;
    memcpy(s->trial, s->shadow, room);
    int rc = ss_delta_pack(s->m, s->m->value, s->trial, &s->config, &bytes, &size, NULL, e);
    if (rc < 0)
        return rc;
    ss_delta_record(&s->rec, s->m, bytes, size, s->m->synchronised, s->m->synchronised + 1, windows);
    int64_t index = ss_journal_append(s->journal, &s->rec, e);
    if (index < 0) {
        ss_free(bytes);
        return (int)index;
    }
    /* Appended is given out sooner or later: when it cannot be synced now, with the next one. */
    rc = ss_journal_sync(s->journal, e);
    float *moved = s->trial;
    s->trial = s->shadow;
    s->shadow = moved;
    ss_free(s->bytes);
    s->bytes = bytes;
    s->m->synchronised++;
    if ((uint64_t)index + 1 > s->kept)
        ss_journal_trim(s->journal, (uint64_t)index + 1 - s->kept, NULL); /* kept longer is no harm */
    *out = &s->rec;
    return rc;
}

int ss_share_since(ss_share *s, uint64_t version, ss_share_give give, void *arg, ss_err *e)
{
    ss_journal_cursor *c;
    const ss_record *rec;
    int rc = ss_journal_cursor_open(&c, s->journal, 0, e);
    uint64_t at = version;
    if (rc < 0)
        return rc;
    while ((rc = ss_journal_cursor_next(c, &rec, e)) != 0) {
        if (rc == SS_EDAMAGED) /* what is behind it does not go on from what is before */
            continue;
        if (rc < 0)
            break;
        uint64_t from = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_FROM, UINT64_MAX);
        if (rec->type != SS_TYPE_DELTA || from != at)
            continue;
        at = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_TO, at);
        if ((rc = give(arg, rec, e)) < 0)
            break;
    }
    ss_journal_cursor_close(&c);
    return rc < 0 ? rc : at == s->m->synchronised;
}
