/**
 * From a labelled stream to items to judge: the windows of a clip pooled into one vector, with label and
 * fold.
 *
 * Vectors of a record: rank 1 [d] (an embedding) is one of d values; rank 2 [bands][frames] (log-mel) is one
 * of `bands` for each frame; rank 3 [channels][height][width] (a cut) is one, the mean over height and width.
 * Pooling over the vectors of an item gives their mean [d], or mean and deviation (divisor n) [2 d];
 * `differences` appends the deviation of the differences between consecutive vectors [3 d]. Where log-mel
 * windows overlap and the header tells the hop, each frame counts once.
 * Pooled vectors are not scaled to unit length: the probe standardises every feature, and whatever uses
 * cosines scales by itself. `normalise` does it for the probe too.
 *
 * An item is a clip (records of one device, epoch and clip number, wherever they stand), a segment
 * (consecutive records of one label and device) or a window. Its label is that of most of its labelled
 * records (of equals the one with the lower number); an item without any is left out and counted.
 *
 * Threads: one at a time for each ss_collect. Errors: SS_EUNFIT (shape or dtype that fits no kind or changes,
 * a value that is not finite, a label outside the table, a clip in two folds), SS_ENOMEM.
 */
#ifndef SS_LEARN_ITEMS_H
#define SS_LEARN_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../io/stream.h"

typedef enum ss_unit { SS_UNIT_AUTO, SS_UNIT_CLIP, SS_UNIT_SEGMENT, SS_UNIT_WINDOW } ss_unit;
typedef enum ss_pool_kind { SS_POOL_MEAN, SS_POOL_MEANDEV } ss_pool_kind;

typedef struct ss_collect_options {
    ss_unit unit; /* auto: clip if the first record has a clip, else window */
    ss_pool_kind pool;
    bool differences;
    bool normalise;    /* pooled vectors to unit length */
    bool keep_windows; /* for alignment and uniformity */
} ss_collect_options;

typedef struct ss_items {
    ss_unit unit;
    size_t n, dim;
    double *x;       /* [n][dim] */
    uint32_t *label; /* [n] index into the header's labels */
    uint32_t *fold;  /* [n] 0 = none */
    uint32_t *group; /* [n] what must not be torn apart when items are split at random: neighbours in time */
    uint64_t *clip;  /* [n] clip number, or number of the segment or window from 0 */
    size_t nwindows, window_dim;
    float *window;   /* [nwindows][window_dim], one vector for each record (mean over frames for log-mel), or
                        NULL */
    uint32_t *owner; /* [nwindows] item */
    size_t records;  /* data records read */
    size_t unlabelled; /* items left out for want of a label */
    size_t stray;      /* records left out that belong to no clip */
} ss_items;

typedef struct ss_collect ss_collect;

/** `h` is borrowed until the collector is freed. */
int ss_collect_open(ss_collect **c, const ss_collect_options *o, const ss_header *h, ss_err *e);

/** Take one record; other types than data are passed over. */
int ss_collect_add(ss_collect *c, const ss_record *r, ss_err *e);

/** The items, in order of their first record; release with ss_items_clear. Nothing may be added afterwards.
 */
int ss_collect_finish(ss_collect *c, ss_items *out, ss_err *e);
void ss_collect_free(ss_collect **c);

/**
 * Append the items of `from`, whose label l is called map[l] here. Groups stay apart. SS_EUNFIT when
 * dimensions differ.
 */
int ss_items_append(ss_items *to, const ss_items *from, const uint32_t *map, ss_err *e);

void ss_items_clear(ss_items *it);

#endif
