/**
 * Results and error texts of the whole library.
 *
 * A function returns 0 or a count on success and one of the negative numbers below on failure; they are
 * never reused for another meaning. Where a function takes an `ss_err *` it may be NULL; otherwise it is
 * filled on failure with one line of text: what failed, where, what was found and what was expected (lower
 * case, no full stop). The library never prints, never exits, and never touches a descriptor it was not given.
 */
#ifndef SS_BASE_ERR_H
#define SS_BASE_ERR_H

#include <stdarg.h>

enum {
    SS_OK = 0,
    SS_EINVAL = -1,   /* a bad argument of the caller: usage */
    SS_EIO = -2,      /* a system call on a file or a device failed; errno is in the text */
    SS_EDAMAGED = -3, /* data that breaks its own format: bad magic, checksum, length, JSON */
    SS_ETRUNC = -4,   /* data that ends before it says it does */
    SS_EUNFIT = -5,   /* sound data that does not fit: shape, dtype, model, version */
    SS_ENOMEM = -6,   /* memory refused by the system */
    SS_ELIMIT = -7,   /* a cap of ours would be passed: record size, memory limit */
    SS_ERANGE = -8,   /* a number outside its range: usage */
    SS_ENOTSUP = -9,  /* built without it, or the machine lacks it */
    SS_EDIFFER = -10, /* a comparison or check answered "no" */
    SS_ESTOPPED = -11, /* interrupted by request of the caller */
    SS_EAGAIN = -12    /* nothing more can be had now: call again when the descriptor is readable */
};

typedef struct ss_err {
    int code;
    char text[512];
} ss_err;

/** Fill `e` (unless NULL) and return `code`, so that `return ss_err_set(e, SS_EIO, ...)` reads well. */
int ss_err_set(ss_err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** The same, with ": strerror(errno)" appended; code is SS_EIO, or SS_ENOMEM when errno is ENOMEM. */
int ss_err_errno(ss_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Put "prefix: " before a text that is already there ("record 17 at byte 90312: ..."). Returns e->code. */
int ss_err_prefix(ss_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The general meaning of a result, a static string. */
const char *ss_strerror(int code);

#endif
