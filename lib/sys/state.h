/**
 * The state directory: how programs that run beside each other know of each other's doings.
 *
 * One small text file for each quantity ("cpu", "bandwidth", "uncertainty.edge", "split", ...), one line:
 * `value`, or `seq value` when it belongs to a record. Each file has one writer, which replaces it by rename,
 * so a reader sees the old line or the new one; anybody reads it with cat. A file of the same name in the
 * folder `set`, written by hand or by a script, overrides the value until it is removed, and never grows
 * stale. What is missing, empty, malformed or has not been replaced for too long, by the reader's own
 * monotonic clock, is tolerated and said once. The folder is best on a tmpfs: nothing is synced.
 * (ss-intro(7), "State directory", says the same to users.)
 *
 * Names: 1 to 63 of a-z 0-9 . _ -, the first one a letter or digit; not "set" nor "incoming", which are
 * folders. Values: one word of 1 to 63 printable ASCII characters. Files: regular ones of at most 255 bytes;
 * symbolic links, FIFOs and devices are not followed, opened or waited for. Ownership: a state belongs to one
 * thread. Errors: SS_EINVAL (a bad name or value), SS_EIO, SS_ENOMEM.
 */
#ifndef SS_SYS_STATE_H
#define SS_SYS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_STATE_MAX 63 /* characters of a name, and of a value */

typedef struct ss_state ss_state;

/** Make the folder and `set` in it unless they are there (mode 0777 less the umask), and open it. */
int ss_state_open(ss_state **s, const char *dir, ss_err *e);
void ss_state_close(ss_state **s);

/** Open a folder to read from: nothing is made, and no right to write is needed. */
int ss_state_look(ss_state **s, const char *dir, ss_err *e);

/** Replace a value: text, a number, either as it belongs to record `seq`. A number has to be finite. */
int ss_state_put(ss_state *s, const char *name, const char *value, ss_err *e);
int ss_state_put_real(ss_state *s, const char *name, double value, ss_err *e);
int ss_state_put_seq(ss_state *s, const char *name, uint64_t seq, double value, ss_err *e);
int ss_state_put_seq_text(ss_state *s, const char *name, uint64_t seq, const char *value, ss_err *e);

typedef struct ss_state_value {
    char text[SS_STATE_MAX + 1];
    double number; /* NaN when the text is no finite number */
    bool has_seq;
    uint64_t seq;
    int64_t age_ns;     /* since this reader saw it change; 0 when set by hand */
    int64_t written_ns; /* real time at which the file was written */
} ss_state_value;

/** What ss_state_get returns, or-ed. */
enum {
    SS_STATE_THERE = 1, /* *v holds a value */
    SS_STATE_STALE = 2, /* it is older than stale_ns */
    SS_STATE_SET = 4,   /* it comes from the folder `set` */
    SS_STATE_SAY = 8    /* something is wrong that has not been said yet: e->text says it */
};

/**
 * The latest value known: 0 or flags, or SS_EINVAL, SS_ENOMEM.
 *   stale_ns  0 = never stale
 *   v         emptied when there is no value
 * SS_STATE_SAY comes once for each name and fault, and not again when the fault comes back.
 */
int ss_state_get(ss_state *s, const char *name, int64_t stale_ns, ss_state_value *v, ss_err *e);

/** The same of the folder `set` alone, for the quantity's own writer: that there is none is not said. */
int ss_state_get_set(ss_state *s, const char *name, ss_state_value *v, ss_err *e);

#endif
