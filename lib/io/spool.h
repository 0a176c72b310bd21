/**
 * What a device has still to deliver: a journal of records, and for each (device, epoch) in it how far they
 * were sent on this connection and how far the other side has made them durable. The protocol is that of
 * section LINKS of ss-stream(5): hello, resume, records in order, acknowledgements. No descriptors here;
 * ss-link(1) has them.
 *
 * Loss is never silent: what a full spool gives up is replaced by gap records, on disk too, and a hole that
 * is found in the numbers (damage, a server that has gone back) is sent as one.
 *
 * Ownership: what ss_spool_next gives lasts until the next call on the spool. One thread. Errors: as
 * journal.h.
 */
#ifndef SS_IO_SPOOL_H
#define SS_IO_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "stream.h"

typedef struct ss_spool ss_spool;

/** What goes when there is no room: */
typedef enum ss_drop {
    SS_DROP_OLDEST,   /* the oldest sixteenth or so */
    SS_DROP_NEWEST,   /* the record that comes */
    SS_DROP_DECIMATE, /* every second one of what is not sent yet, a piece at a time, evenly; else the oldest
                       */
    SS_DROP_NONE      /* nothing: the caller asks ss_spool_full before he puts */
} ss_drop;

typedef struct ss_spool_config {
    uint64_t max_bytes; /* 0 = no bound; gap records and headers may pass it a little */
    ss_drop drop;
    bool no_ack; /* the other side acknowledges nothing: sent is done, and there is no hello */
} ss_spool_config;

/** dir NULL: in memory. 0, or 1 when e->text says what was cut off or is damaged. */
int ss_spool_open(ss_spool **s, const char *dir, const ss_spool_config *c, ss_err *e);
/** Ends it well: what is not acknowledged stays in the folder. */
int ss_spool_close(ss_spool **s, ss_err *e);

/** Header of the records put from now on. */
int ss_spool_header(ss_spool *s, const ss_header *h, ss_err *e);
/**
 * Keep a record. One for which there is no room is dropped as the configuration says, which is no error;
 * SS_EIO: the disk did not take it, and it is counted as dropped and will be a gap.
 */
int ss_spool_put(ss_spool *s, const ss_record *rec, ss_err *e);
/** All put so far: into the files (the process may die); durable (the power may fail). */
int ss_spool_write(ss_spool *s, ss_err *e);
int ss_spool_sync(ss_spool *s, ss_err *e);

/**
 * A connection begins: all that is not acknowledged is to be sent, from the oldest on. 1 and the header of
 * what comes first (it lasts until the next call), or 0: there is none yet. SS_EDAMAGED, SS_EIO: as
 * ss_spool_next; call again.
 */
int ss_spool_begin(ss_spool *s, const ss_header **h, ss_err *e);

/**
 * What to send next:
 *   1   *rec: a record, a gap, or a hello (a keepalive with device and epoch)
 *   0   nothing now: all is sent, or a resume has to come first
 *   2   what comes next has another header: this connection is to be ended, and another one begun
 *   SS_EDAMAGED, SS_EIO: something in the spool cannot be read; told once, and the next call goes on behind
 * it
 */
int ss_spool_next(ss_spool *s, const ss_record **rec, ss_err *e);

/** The other side's answer to a hello (one in the middle acknowledges), and its acknowledgements. True if it
 * belongs to something known. */
bool ss_spool_resume(ss_spool *s, const ss_record *rec);
bool ss_spool_ack(ss_spool *s, const ss_record *rec);
/** Remove what is no longer needed: whole segments; all, when `all` and nothing is left to acknowledge. */
int ss_spool_trim(ss_spool *s, bool all, ss_err *e);

bool ss_spool_full(const ss_spool *s);
uint64_t ss_spool_queue(const ss_spool *s);  /* records not acknowledged */
uint64_t ss_spool_unsent(const ss_spool *s); /* of them not sent on this connection */
uint64_t
ss_spool_bytes(const ss_spool *s); /* memory or disk, with what is acknowledged and not removed yet */
/** Bytes of the records not acknowledged; at most: ss_spool_bytes when some were put before it was opened, or
 * more than 4096 wait. */
uint64_t ss_spool_waiting(const ss_spool *s);
uint64_t ss_spool_dropped(const ss_spool *s); /* records that became gaps here, since it was opened */

#endif
