/**
 * Lists of clips with labels and folds, and label tracks of one long sound; both are CSV (io/csv.h).
 *
 * A manifest has the columns file, label, fold, of which label and fold may be missing; others are ignored,
 * or serve to choose by. Files are relative to the manifest's folder. A clip's number is its row, from 0,
 * whatever is chosen, and the label table is made of all rows, in bytewise order, so that streams of
 * different choices agree.
 * A track has start_s, end_s, label, and fold if it likes: stretches [start_s, end_s) of seconds that do not
 * overlap, in any order. An empty label is none, and so is what no stretch covers.
 * Threads: read-only once made. Errors: those of io/csv.h, SS_EUNFIT (column), SS_ERANGE (number), SS_EINVAL
 * (choice).
 */
#ifndef SS_IO_MANIFEST_H
#define SS_IO_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_labels {
    char **name; /* [n], sorted */
    uint32_t n;
} ss_labels;

typedef struct ss_clip {
    char *path;
    uint64_t number;
    int label; /* index into the labels, -1 = none */
    int fold;  /* -1 = none */
} ss_clip;

typedef struct ss_manifest {
    ss_clip *clip;
    size_t n; /* those chosen */
    ss_labels labels;
} ss_manifest;

/**
 * Load a manifest, and of it the rows for which all of `where` holds: "fold!=5,label==dog", comparisons of a
 * column with a text, by == or !=, commas for and; NULL = all rows. Release with ss_manifest_free.
 */
int ss_manifest_open(ss_manifest **m, const char *path, const char *where, ss_err *e);
void ss_manifest_free(ss_manifest *m);

typedef struct ss_stretch {
    uint64_t start, end; /* samples, end not included */
    int label, fold;     /* -1 = none */
} ss_stretch;

typedef struct ss_track {
    ss_stretch *stretch; /* [n], in order of time */
    size_t n;
    ss_labels labels;
} ss_track;

/** Load a track; seconds become samples at `rate` by rounding. Release with ss_track_free. */
int ss_track_open(ss_track **t, const char *path, double rate, ss_err *e);
void ss_track_free(ss_track *t);

/** What holds at sample `at`, and until which sample (not included; UINT64_MAX = for ever). */
ss_stretch ss_track_at(const ss_track *t, uint64_t at);

#endif
