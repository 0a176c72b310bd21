#include "learn/sync.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "nn/delta.h"

struct ss_sync {
    ss_model *m;
    float *common;  /* [nvalue] the values after the last merge */
    float *before;  /* [nvalue] those before the merge that is watched, or NULL */
    uint64_t ours;  /* windows learnt from since the last merge */
    double loss[2]; /* mean of the latest steps; before the merge that is watched */
    uint64_t steps; /* in the mean, at most SS_SYNC_WATCH */
};

int ss_sync_create(ss_sync **s, ss_model *m, ss_err *e)
{
    *s = ss_zalloc(1, sizeof **s);
    if (!*s)
        return ss_err_set(e, SS_ENOMEM, "synchronisation: out of memory");
    (*s)->m = m;
    return SS_OK;
}

void ss_sync_free(ss_sync *s)
{
    if (!s)
        return;
    ss_free(s->common);
    ss_free(s->before);
    ss_free(s);
}

static float *copy(const ss_model *m)
{
    float *to = ss_alloc(m->nvalue, sizeof *to);
    if (to)
        memcpy(to, m->value, m->nvalue * sizeof *to);
    return to;
}

int ss_sync_begin(ss_sync *s, ss_err *e)
{
    if (!s->m->value)
        return ss_err_set(e, SS_EINVAL, "synchronisation: the model's values are in its file");
    if (!s->common && !(s->common = copy(s->m)))
        return ss_err_set(e, SS_ENOMEM, "synchronisation: no memory for %zu values", s->m->nvalue);
    return SS_OK;
}

void ss_sync_learnt(ss_sync *s, uint64_t windows)
{
    s->ours += windows;
}

/* What was learnt here alone, value - common, is the same before and after. */
void ss_sync_joint_begin(ss_sync *s)
{
    ss_axpy(s->m->nvalue, -1, s->m->value, s->common);
}

void ss_sync_joint_end(ss_sync *s)
{
    ss_axpy(s->m->nvalue, 1, s->m->value, s->common);
}

bool ss_sync_ready(const ss_sync *s)
{
    return !s->before;
}

int ss_sync_merge(ss_sync *s, const ss_record *rec, uint64_t *from, ss_err *e)
{
    ss_delta *d;
    uint64_t begins, leads, theirs;
    if (!ss_sync_ready(s))
        return 0;
    int rc = ss_sync_begin(s, e);
    if (rc == SS_OK)
        rc = ss_delta_open_record(&d, s->m, rec, &begins, &leads, &theirs, e);
    if (rc < 0)
        return rc;
    if (from)
        *from = begins;
    float *before = NULL;
    if (leads <= s->m->synchronised) {
        rc = ss_err_set(e, SS_ERANGE,
                        "a weight delta to version %" PRIu64 ", version %" PRIu64 " is here already", leads,
                        s->m->synchronised);
    } else if (begins != s->m->synchronised) {
        rc = 0;
    } else if (!(before = copy(s->m))) {
        rc = ss_err_set(e, SS_ENOMEM, "synchronisation: no memory for %zu values", s->m->nvalue);
    } else if ((rc = ss_merge(d, s->m->value, s->common, s->ours, theirs, e)) == SS_OK) {
        memcpy(s->common, s->m->value, s->m->nvalue * sizeof *s->common);
        s->m->synchronised = leads;
        s->ours = 0;
        s->loss[1] = s->steps == SS_SYNC_WATCH ? s->loss[0] : 0;
        s->loss[0] = 0;
        s->steps = 0;
        if (s->loss[1] > 0) { /* else there is nothing to hold it against */
            s->before = before;
            before = NULL;
        }
        rc = 1;
    }
    ss_free(before);
    ss_delta_close(&d);
    return rc;
}

bool ss_sync_watch(ss_sync *s, bool taken, double loss)
{
    bool worse = !taken || !isfinite(loss);
    if (!worse) {
        s->steps += s->steps < SS_SYNC_WATCH;
        s->loss[0] += (loss - s->loss[0]) / (double)s->steps;
        worse = s->steps == SS_SYNC_WATCH && s->loss[0] > SS_SYNC_WORSE * s->loss[1];
    }
    if (ss_sync_ready(s) || (!worse && s->steps < SS_SYNC_WATCH))
        return false;
    if (worse) {
        memcpy(s->m->value, s->before, s->m->nvalue * sizeof *s->before);
        memcpy(s->common, s->before, s->m->nvalue * sizeof *s->before);
        s->ours = 0;
        s->loss[0] = 0;
        s->steps = 0;
    }
    ss_free(s->before);
    s->before = NULL;
    return worse;
}

/* ---- checkpoints ---- */

void ss_sync_save(ss_sync *s, ss_checkpoint_writer *w)
{
    const uint64_t n[1] = {s->m->nvalue};
    if (!s->common)
        return;
    ss_checkpoint_put(w, "sync.common", SS_DTYPE_F32, 1, n, s->common);
    if (s->before)
        ss_checkpoint_put(w, "sync.before", SS_DTYPE_F32, 1, n, s->before);
    ss_checkpoint_put(w, "sync.mean", SS_DTYPE_F64, 1, (uint64_t[]){2}, s->loss);
    ss_checkpoint_put_int(w, "sync.steps", (int64_t)s->steps);
    ss_checkpoint_put_int(w, "sync.ours", (int64_t)s->ours);
    ss_checkpoint_put_int(w, "sync.version", (int64_t)s->m->synchronised);
}

static int get_values(ss_checkpoint *c, const char *name, size_t n, float **to, ss_err *e)
{
    if (!ss_checkpoint_find(c, name))
        return SS_OK;
    if (!*to && !(*to = ss_alloc(n, sizeof **to)))
        return ss_err_set(e, SS_ENOMEM, "synchronisation: no memory for %zu values", n);
    return ss_checkpoint_get(c, name, SS_DTYPE_F32, 1, (uint64_t[]){n}, *to, e);
}

int ss_sync_load(ss_sync *s, ss_checkpoint *c, ss_err *e)
{
    int64_t steps, ours, version;
    if (!ss_checkpoint_find(c, "sync.common"))
        return SS_OK;
    int rc = get_values(c, "sync.common", s->m->nvalue, &s->common, e);
    if (rc == SS_OK)
        rc = get_values(c, "sync.before", s->m->nvalue, &s->before, e);
    if (rc == SS_OK)
        rc = ss_checkpoint_get(c, "sync.mean", SS_DTYPE_F64, 1, (uint64_t[]){2}, s->loss, e);
    if (rc == SS_OK)
        rc = ss_checkpoint_get_int(c, "sync.steps", &steps, e);
    if (rc == SS_OK)
        rc = ss_checkpoint_get_int(c, "sync.ours", &ours, e);
    if (rc == SS_OK)
        rc = ss_checkpoint_get_int(c, "sync.version", &version, e);
    if (rc < 0)
        return rc;
    s->steps = (uint64_t)steps;
    s->ours = (uint64_t)ours;
    s->m->synchronised = (uint64_t)version;
    return SS_OK;
}
