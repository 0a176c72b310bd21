/**
 * A log of records on disk that is appended to at one end, read anywhere and trimmed at the other: the spool
 * of a device (ss-link(1)) and the journal of a server.
 *
 * A folder (mode 0700) of segments (0600), each a stream of ss-stream(5) named by the index of its first
 * record, 00000000000000000042.sst; the last one has no end record while it is open. Records are numbered
 * from 0 for ever; only damage, and who opens it with a higher number, leave holes. Records of one header
 * share segments: another header begins a new one. Without a folder (dir NULL) the same is kept in memory,
 * and gone after close.
 *
 * What is appended is in memory first; ss_journal_write puts it into the file, where it survives the death of
 * the process; ss_journal_sync makes it durable. After a failed fsync that file is given up, cut back to what
 * is durable, and the rest is written to a new segment by the next ss_journal_sync: fsync is never tried
 * again on the same file. After any failure nothing is lost as long as the process lives; the call may be
 * repeated.
 *
 * A torn tail, as a crash leaves it, is cut off when the folder is opened. Damage with whole records behind
 * it is not: it is told, and what is before and in other segments is read. Older segments are not looked into
 * before a cursor comes to them.
 *
 * Ownership: cursors borrow the journal, and are closed before it. One thread, one process (the folder is
 * locked; a lock that another one has is waited for, a second at most). Errors: SS_EIO (also: in use by
 * another process), SS_EDAMAGED, SS_ELIMIT (max_bytes), SS_ENOMEM, SS_EINVAL; texts name the file.
 */
#ifndef SS_IO_JOURNAL_H
#define SS_IO_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "stream.h"

typedef struct ss_journal ss_journal;
typedef struct ss_journal_cursor ss_journal_cursor;

typedef struct ss_journal_config {
    uint64_t segment_bytes; /* a segment that has so many is ended, and synced; 0 = 4 MiB */
    uint64_t
        max_bytes; /* of all segments: an append beyond is SS_ELIMIT and leaves all as it was; 0 = none */
    bool no_sync;  /* never fsync: for a tmpfs, or where the death of the process is all to survive */
    uint64_t next; /* no record gets an index below it, also when those before it are not there */
} ss_journal_config;

/**
 * Open or make the folder. 0; 1 when it is open and e->text says what was cut off a torn tail, or what is
 * damaged; negative on failure. `c` may be NULL.
 */
int ss_journal_open(ss_journal **j, const char *dir, const ss_journal_config *c, ss_err *e);

/** The header of records appended from now on; there has to be one before the first of a process. */
int ss_journal_header(ss_journal *j, const ss_header *h, ss_err *e);

/** The index that the record got, or negative: it was not appended. */
int64_t ss_journal_append(ss_journal *j, const ss_record *rec, ss_err *e);

/** All that was appended: into the file; durable (with no_sync the same as write). */
int ss_journal_write(ss_journal *j, ss_err *e);
int ss_journal_sync(ss_journal *j, ss_err *e);

uint64_t ss_journal_first(const ss_journal *j);   /* index of the oldest record kept */
uint64_t ss_journal_next(const ss_journal *j);    /* index that the next record will get */
uint64_t ss_journal_durable(const ss_journal *j); /* all before this index is durable */
uint64_t ss_journal_bytes(const ss_journal *j);   /* of all segments, what is in memory included */

/** Index at which the segment behind the one that holds `index` begins, or the next one. */
uint64_t ss_journal_segment_end(const ss_journal *j, uint64_t index);

/**
 * Remove the segments whose records all lie before `before`. The one being appended to stays, unless `before`
 * is not below ss_journal_next: then, if there is a header to begin it with, an empty one that keeps the
 * count takes its place.
 */
int ss_journal_trim(ss_journal *j, uint64_t before, ss_err *e);

/**
 * Write the segments from the one that holds `index` to the one before that which holds `end` anew, as one,
 * whole or not at all: `fn` is given their records, and NULL after the last, and puts to `w` what is to stand
 * there, not more records than there were. The last segment is never among them; they have one header, or
 * SS_EUNFIT comes. No cursor may be in them. (Killed at the wrong moment, records of all but the first one
 * may come twice.)
 */
typedef int (*ss_journal_filter)(void *arg, ss_writer *w, const ss_record *rec, ss_err *e);
int ss_journal_rewrite(ss_journal *j, uint64_t index, uint64_t end, ss_journal_filter fn, void *arg,
                       ss_err *e);

/** End, sync and close the last segment, unlock the folder. The handle is gone in any case. */
int ss_journal_close(ss_journal **j, ss_err *e);

/**
 * A reader of the records from `index` on (from the first one kept, when that is later).
 * ss_journal_cursor_next gives
 *   1   a record, valid until the next call
 *   2   the same, and its header is not that of the record before, or it is the first one
 *   0   none yet
 *   SS_EDAMAGED, SS_EIO: this segment cannot be read from here on; the next call goes on behind it (or tries
 *       again, where it could not be opened), and the index tells how many are missing
 *   SS_ENOMEM: the next call tries again
 */
int ss_journal_cursor_open(ss_journal_cursor **c, ss_journal *j, uint64_t index, ss_err *e);
int ss_journal_cursor_next(ss_journal_cursor *c, const ss_record **rec, ss_err *e);
uint64_t ss_journal_cursor_index(const ss_journal_cursor *c); /* of the record that comes next */
/** Header of the last record given; NULL before. Lasts until the next ss_journal_cursor_next. */
const ss_header *ss_journal_cursor_header(const ss_journal_cursor *c);
void ss_journal_cursor_close(ss_journal_cursor **c);

#endif
