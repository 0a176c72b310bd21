/**
 * Sample rate conversion of one channel, by soxr at its high quality (20 bits). Sample 0 out is at the time
 * of sample 0 in: the filter's delay is taken off, and the end is flushed, so n samples in give n * to / from
 * out, rounded. The same samples give the same bits however they are cut (on one machine). Equal rates pass
 * the samples through. Threads: one at a time for each.
 */
#ifndef SS_AUDIO_RESAMPLE_H
#define SS_AUDIO_RESAMPLE_H

#include <stddef.h>
#include <sys/types.h>

#include "../base/err.h"

typedef struct ss_resample ss_resample;

/** Rates within 1000..768000. Errors: SS_ERANGE, SS_ENOMEM. */
int ss_resample_create(ss_resample **r, double from, double to, ss_err *e);
void ss_resample_free(ss_resample *r);

/**
 * Take samples of in [n], *taken of them, and give up to `room` into out; returns how many. in = NULL: the
 * input has ended; call until it gives 0. Errors: SS_ENOMEM.
 */
ssize_t ss_resample_run(ss_resample *r, const float *in, size_t n, size_t *taken, float *out, size_t room,
                        ss_err *e);

/** Forget what came before. */
int ss_resample_reset(ss_resample *r, ss_err *e);

#endif
