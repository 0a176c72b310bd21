/**
 * Weight deltas: what a set of values has moved by, in eight bits and packed, and how a receiver that has
 * moved itself takes it in.
 *
 * The sender keeps a `shadow`, the values as its receivers know them. A delta is Q(value - shadow), Q the
 * rounding to eight bits; the shadow then moves by what was sent and not by what was meant, so that what
 * rounding (and leaving out) withheld goes with the next delta: error feedback. A receiver that adds each
 * delta to the values it began with has the shadow, to the bit.
 *
 * Q: one scale (f32) for each row of a tensor (its outermost dimension, an output channel; a tensor of rank 1
 * is one row) or for each tensor, the row's largest magnitude / levels; numbers -levels..levels, nearest.
 * `keep` below 1 sends only that share of the largest magnitudes of each tensor. All is packed with zstd,
 * which makes few levels cheap: of a step's movement, 3 levels leave less for fewer bytes than a keep of 0.1
 * does at any (tests/bench/delta.c). Byte layout: ss-stream(5), "Weight deltas".
 *
 * Shapes: values are [m->nvalue], in the order of the model's parameters, running statistics included. Not
 * locked. Bits do not depend on CPU or threads. Source of error feedback: Seide et al., "1-bit stochastic
 * gradient descent", Interspeech 2014; of sending the largest: Lin et al., "Deep gradient compression", ICLR
 * 2018.
 */
#ifndef SS_NN_DELTA_H
#define SS_NN_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../io/stream.h"
#include "model.h"

typedef struct ss_delta_config {
    float keep;      /* share of the values sent, above 0, up to 1: all of them */
    int levels;      /* 1..127: magnitudes that are told apart, besides 0 */
    bool per_tensor; /* one scale for a tensor */
} ss_delta_config;

void ss_delta_config_default(ss_delta_config *c); /* all, at 127 levels, a scale for each row */

typedef struct ss_delta_report {
    size_t sent;       /* values whose number is not 0 */
    size_t body, size; /* bytes before and after packing */
    double moved;      /* Euclidean length of value - shadow before, */
    double left;       /* and after: what goes with the next one */
} ss_delta_report;

/**
 * Pack value - shadow into *bytes, to be released with ss_free, and move the shadow by what they say. On
 * failure the shadow is as it was. `report` may be NULL. Errors: SS_EINVAL (keep, levels), SS_EUNFIT (a value
 * that is not finite, or has moved by 1e30), SS_ELIMIT (more values than a stream's record may unpack to),
 * SS_ENOMEM.
 */
int ss_delta_pack(const ss_model *m, const float *value, float *shadow, const ss_delta_config *c,
                  void **bytes, size_t *size, ss_delta_report *report, ss_err *e);

typedef struct ss_delta ss_delta;

/**
 * Check all of it, for models of m's architecture; only a delta that is whole opens. Sizes are held against
 * those of the model before anything is allocated. The delta borrows m's list of parameters, not its values;
 * m's values may be in their file. Errors: SS_EDAMAGED, SS_ETRUNC, SS_EUNFIT (another architecture, a later
 * form), SS_ENOMEM.
 */
int ss_delta_open(ss_delta **d, const ss_model *m, const void *bytes, size_t size, ss_err *e);
void ss_delta_close(ss_delta **d);

/** value += delta. */
void ss_delta_add(ss_delta *d, float *value);

/**
 * A record of type delta, which borrows the bytes: from one generation to a later one, learnt from so many
 * windows (attributes version_from, version_to, count).
 */
void ss_delta_record(ss_record *rec, const ss_model *m, const void *bytes, size_t size, uint64_t from,
                     uint64_t to, uint64_t windows);
/** Open what such a record holds. SS_EDAMAGED too when its versions are missing or do not ascend. */
int ss_delta_open_record(ss_delta **d, const ss_model *m, const ss_record *rec, uint64_t *from, uint64_t *to,
                         uint64_t *windows, ss_err *e);

/**
 * Take in what the server has learnt beside what was learnt here:
 *
 *     value = common + (ours (value - common) + theirs delta) / (ours + theirs)
 *
 *   common  [nvalue] the values after the last merge (or those begun with): what both have moved from
 *   value   [nvalue] the values now
 *   ours    windows learnt from here since then; theirs: those that the delta stands for
 * Who has learnt nothing (ours 0) takes all of the delta; who has learnt far more than the server keeps
 * nearly all of its own. Afterwards `value` is what the next merge calls common. Errors: SS_EUNFIT and no
 * change, when a result is not finite.
 * What was learnt here stays here: the server does not hear of it, so both drift apart by it, merge for
 * merge. Averages of weights mean something while both sides are near what they have moved from.
 */
int ss_merge(ss_delta *d, float *value, const float *common, uint64_t ours, uint64_t theirs, ss_err *e);

#endif
