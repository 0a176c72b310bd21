#include "audio/resample.h"

#include <soxr.h>
#include <string.h>

#include "base/mem.h"

struct ss_resample {
    double from, to;
    soxr_t soxr; /* NULL when the rates are equal */
};

static int start(ss_resample *r, ss_err *e)
{
    soxr_error_t error = NULL;
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    soxr_runtime_spec_t run = soxr_runtime_spec(1);
    if (r->soxr)
        soxr_delete(r->soxr);
    r->soxr = r->from == r->to ? NULL : soxr_create(r->from, r->to, 1, &error, &io, &quality, &run);
    if (error)
        return ss_err_set(e, SS_ENOMEM, "cannot convert %.9g samples a second to %.9g: %s", r->from, r->to,
                          error);
    return SS_OK;
}

int ss_resample_create(ss_resample **out, double from, double to, ss_err *e)
{
    *out = NULL;
    if (!(from >= 1000 && from <= 768000 && to >= 1000 && to <= 768000))
        return ss_err_set(e, SS_ERANGE,
                          "cannot convert %.9g samples a second to %.9g, expected 1000 to 768000", from, to);
    ss_resample *r = ss_zalloc(1, sizeof *r);
    if (!r)
        return ss_err_set(e, SS_ENOMEM, "no memory to convert sample rates");
    r->from = from;
    r->to = to;
    int rc = start(r, e);
    if (rc)
        ss_resample_free(r);
    else
        *out = r;
    return rc;
}

void ss_resample_free(ss_resample *r)
{
    if (!r)
        return;
    if (r->soxr)
        soxr_delete(r->soxr);
    ss_free(r);
}

ssize_t ss_resample_run(ss_resample *r, const float *in, size_t n, size_t *taken, float *out, size_t room,
                        ss_err *e)
{
    size_t used = 0, made = 0;
    if (!in)
        n = 0;
    if (!r->soxr) {
        used = made = n < room ? n : room;
        if (made)
            memcpy(out, in, made * sizeof *out);
    } else {
        soxr_error_t error = soxr_process(r->soxr, in, n, &used, out, room, &made);
        if (error)
            return ss_err_set(e, SS_ENOMEM, "cannot convert sample rates: %s", error);
    }
    if (taken)
        *taken = used;
    return (ssize_t)made;
}

int ss_resample_reset(ss_resample *r, ss_err *e)
{
    /* A new one: its state cannot differ from the first one's. */
    return start(r, e);
}
