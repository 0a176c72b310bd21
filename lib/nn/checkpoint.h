/**
 * Checkpoints of training: named arrays, numbers and texts in one safetensors file with a digest.
 *
 * Written as io/atomic.h says, the one before kept as NAME.prev, read back before the call returns: when
 * ss_checkpoint_write has succeeded, its state may be acknowledged. A damaged checkpoint is refused as a
 * whole and the one before it taken.
 *
 *     ss_checkpoint_writer *w;
 *     rc = ss_checkpoint_begin(&w, &e);
 *     ss_checkpoint_put(w, "weights", SS_DTYPE_F32, 1, (uint64_t[]){n}, m->value);
 *     ss_checkpoint_put_int(w, "last seq", seq);
 *     ss_checkpoint_put_parts(w, parts, n);         what has many of them keeps a list, for both directions
 *     rc = ss_checkpoint_write(&w, path, &e);       the first failure of any put shows here
 *
 *     ss_checkpoint *c;
 *     rc = ss_checkpoint_open(&c, path, &previous, &e);
 *     rc = ss_checkpoint_get(c, "weights", SS_DTYPE_F32, 1, (uint64_t[]){n}, m->value, &e);
 *
 * Ownership: put copies the name and borrows the array until write or abandon. Texts of a reader are its own.
 * One thread. Errors: those of io/safetensors.h; SS_EUNFIT for an array that is missing or of another dtype
 * or shape.
 */
#ifndef SS_NN_CHECKPOINT_H
#define SS_NN_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../io/safetensors.h"

typedef struct ss_checkpoint_writer ss_checkpoint_writer;
typedef struct ss_checkpoint ss_checkpoint;

int ss_checkpoint_begin(ss_checkpoint_writer **w, ss_err *e);
void ss_checkpoint_put(ss_checkpoint_writer *w, const char *name, int dtype, int rank, const uint64_t *dim,
                       const void *data);
void ss_checkpoint_put_int(ss_checkpoint_writer *w, const char *name, int64_t value);
void ss_checkpoint_put_text(ss_checkpoint_writer *w, const char *name, const char *value);
/** Memory of the writer's for `count` values, to be filled before it writes; NULL after a failure. */
void *ss_checkpoint_room(ss_checkpoint_writer *w, const char *name, int dtype, uint64_t count);

/** A row of values in their owner's memory: an array, or a number of 64 bits (SS_DTYPE_I64, 1). */
typedef struct ss_checkpoint_part {
    const char *name;
    int dtype;
    uint64_t count;
    void *data;
} ss_checkpoint_part;
void ss_checkpoint_put_parts(ss_checkpoint_writer *w, const ss_checkpoint_part *p, int n);

/** Writes and releases, whatever comes. SS_ENOMEM or SS_EINVAL of a put shows here; the old file then stands.
 */
int ss_checkpoint_write(ss_checkpoint_writer **w, const char *path, ss_err *e);
void ss_checkpoint_abandon(ss_checkpoint_writer **w);

/**
 * Opens and checks all of it. When `path` is damaged, truncated or gone and path.prev is whole, that one is
 * taken: then *previous is 1 and *e says what was wrong with `path`, for a warning; both may be NULL.
 */
int ss_checkpoint_open(ss_checkpoint **c, const char *path, int *previous, ss_err *e);
/** The array of that name, for one whose shape is not known before; NULL when there is none. */
const ss_st_tensor *ss_checkpoint_find(const ss_checkpoint *c, const char *name);
/** Reads an array of exactly this dtype and shape into the caller's memory. */
int ss_checkpoint_get(ss_checkpoint *c, const char *name, int dtype, int rank, const uint64_t *dim, void *to,
                      ss_err *e);
int ss_checkpoint_get_int(ss_checkpoint *c, const char *name, int64_t *value, ss_err *e);
/** Stops at the first that fails: those before it are read. */
int ss_checkpoint_get_parts(ss_checkpoint *c, const ss_checkpoint_part *p, int n, ss_err *e);
/** NULL when there is none. */
const char *ss_checkpoint_text(const ss_checkpoint *c, const char *name);
void ss_checkpoint_close(ss_checkpoint **c);

#endif
