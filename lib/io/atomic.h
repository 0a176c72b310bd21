/**
 * Replacing a file as a whole: after a kill or a power cut its name leads to the old bytes or to the new
 * ones.
 *
 * Order: a temporary name in the same folder, write, fsync, close, rename, fsync of the folder, and, where
 * asked for, reopen and verify. Every step is checked. After a failed fsync the temporary file is given up: a
 * second fsync of the same file would report success although the data are gone. The temporary name is
 * NAME.tmp, locked while it is written, so that what a killed program left is taken over and two writers
 * cannot meet in it. A path that is a symbolic link is followed; one that is no regular file (a pipe, a
 * device) is written straight. Ownership: the handle is the caller's until commit or abort, which release it
 * in any case. One thread. Errors: SS_EIO, SS_ENOMEM; the text names the file and the step.
 */
#ifndef SS_IO_ATOMIC_H
#define SS_IO_ATOMIC_H

#include <stddef.h>

#include "../base/err.h"

typedef struct ss_atomic ss_atomic;

enum {
    SS_ATOMIC_KEEP = 1 /* what stood there stays as NAME.prev; NAME or NAME.prev is whole at any moment */
};

int ss_atomic_open(ss_atomic **a, const char *path, unsigned flags, ss_err *e);
int ss_atomic_write(ss_atomic *a, const void *data, size_t n, ss_err *e);
/** Called with the final path, the page cache dropped where the system allows; 0 or an error in *e. */
typedef int (*ss_atomic_verify)(const char *path, void *arg, ss_err *e);
/** Make it durable and visible. On failure before the rename, the old file stands as it was. */
int ss_atomic_commit(ss_atomic **a, ss_atomic_verify verify, void *arg, ss_err *e);
/** Give up: the old file stands. NULL is accepted. */
void ss_atomic_abort(ss_atomic **a);

/** open, write, commit. */
int ss_atomic_put(const char *path, unsigned flags, const void *data, size_t n, ss_err *e);

/** NAME.prev; release with ss_free; NULL without memory. */
char *ss_atomic_previous(const char *path);

#endif
