/**
 * Folder `incoming` of a state directory: what came back from the server and waits for the learner.
 *
 *   incoming/mixture.sst           the newest mixture
 *   incoming/delta.VERSION.sst     the weight delta that leads to that version
 *   incoming/gradients/N.sst       the gradients of one step; N counts up from 1
 *
 * Each is a whole stream (ss-stream(5), kind return), written under a temporary name and renamed, so a reader
 * sees all of it or nothing. One program lays down (ss-apply), one takes (ss-train): it reads a file, and
 * drops it once what it made of it is safe. A file that is replaced or dropped while it is read stays whole
 * for its reader.
 *
 * Ownership: a folder and the file being laid down belong to one thread. Errors: SS_EIO, SS_ENOMEM; reading
 * gives those of io/stream.h too.
 */
#ifndef SS_SYS_INCOMING_H
#define SS_SYS_INCOMING_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/err.h"
#include "../io/stream.h"

typedef enum ss_incoming_kind {
    SS_INCOMING_MIXTURE, /* its number is not looked at */
    SS_INCOMING_DELTA,   /* number: the version it leads to */
    SS_INCOMING_GRADIENTS
} ss_incoming_kind;

typedef struct ss_incoming ss_incoming;

/**
 * Make the folders unless they are there (mode 0777 less the umask), and open them. `lay`: with the right to
 * lay down, which one program has at a time (SS_EIO when another one has it).
 */
int ss_incoming_open(ss_incoming **in, const char *state, bool lay, ss_err *e);
void ss_incoming_close(ss_incoming **in);

/* ---- what is there ---- */

typedef struct ss_incoming_found {
    bool mixture;
    int deltas;         /* of any version */
    uint64_t delta;     /* the lowest version above the one asked for, 0: none */
    int steps;          /* files of gradients */
    uint64_t gradients; /* the oldest one, 0: none */
    uint64_t newest;    /* of them */
} ss_incoming_found;

/**
 * Returns 1 when there is something to take for who has merged `version`, else 0. As long as nothing
 * changes it costs two calls of fstat.
 */
int ss_incoming_look(ss_incoming *in, uint64_t version, ss_incoming_found *found, ss_err *e);

/** Called for each record, which lasts until it returns: SS_OK, or an error, which ends the reading. */
typedef int (*ss_incoming_use)(void *arg, const ss_record *rec, ss_err *e);

/**
 * Read a file to its end. 1: all of it; 0: it is not there; negative: what `use` returned, or that the file
 * is damaged, which may show after records were delivered: nothing of it may be kept then.
 */
int ss_incoming_read(ss_incoming *in, ss_incoming_kind kind, uint64_t number, ss_incoming_use use, void *arg,
                     ss_err *e);

/** Remove a file; that it is not there is no error. */
int ss_incoming_drop(ss_incoming *in, ss_incoming_kind kind, uint64_t number, ss_err *e);

/* ---- laying down ---- */

typedef struct ss_incoming_file ss_incoming_file;

/** One file of each kind at a time; `h` is the header it gets. */
int ss_incoming_begin(ss_incoming_file **f, ss_incoming *in, ss_incoming_kind kind, const ss_header *h,
                      ss_err *e);
int ss_incoming_put(ss_incoming_file *f, const ss_record *rec, ss_err *e);
/** Bytes so far. */
uint64_t ss_incoming_size(const ss_incoming_file *f);
/**
 * End it and give it its name. Frees f in any case; after a failure there is no such file, or the old one.
 * durable: synced to the disk before, and the folder behind it. Gradients take the next number, whatever
 * `number` is.
 */
int ss_incoming_commit(ss_incoming_file **f, uint64_t number, bool durable, ss_err *e);
void ss_incoming_abort(ss_incoming_file **f);

#endif
