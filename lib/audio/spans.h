/**
 * Which stretch of samples had which label, fold and time: what a window of a clip needs to know of the
 * blocks it was made of. Positions count samples from the start of the clip. Threads: one at a time for each.
 */
#ifndef SS_AUDIO_SPANS_H
#define SS_AUDIO_SPANS_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_span {
    uint64_t start, end; /* samples, end not included */
    int64_t time_ns;     /* of its first sample */
    int64_t label, fold; /* -1 = none */
} ss_span;

typedef struct ss_spans {
    ss_span *span; /* [n] in order, adjoining */
    size_t n, room;
    uint32_t *count; /* [nlabels] */
    uint32_t nlabels;
} ss_spans;

/** Labels are 0 .. nlabels - 1. SS_ENOMEM. */
int ss_spans_init(ss_spans *s, uint32_t nlabels, ss_err *e);
void ss_spans_clear(ss_spans *s);

/** n samples follow on those before (or start a clip after ss_spans_reset). SS_ENOMEM; SS_EUNFIT: no such
 * label. */
int ss_spans_add(ss_spans *s, size_t n, int64_t time_ns, int64_t label, int64_t fold, ss_err *e);
void ss_spans_reset(ss_spans *s);
/** What ends at or before `before` is no longer needed. */
void ss_spans_forget(ss_spans *s, uint64_t before);

/**
 * Of the samples from `start` up to `end`: label that most of them have, if at least half of them have one
 * (the first of equals), else -1; its fold, or that of `start`; time of `start` at `rate`.
 */
ss_span ss_spans_summary(ss_spans *s, uint64_t start, uint64_t end, double rate);

#endif
