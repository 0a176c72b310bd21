#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int ss_err_set(ss_err *e, int code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        e->code = code;
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

int ss_err_errno(ss_err *e, const char *fmt, ...)
{
    int number = errno;
    int code = number == ENOMEM ? SS_ENOMEM : SS_EIO;
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        e->code = code;
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        size_t n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, ": %s", strerror(number));
    }
    errno = number;
    return code;
}

int ss_err_prefix(ss_err *e, const char *fmt, ...)
{
    if (!e)
        return SS_OK;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", old);
    return e->code;
}

const char *ss_strerror(int code)
{
    switch (code) {
    case SS_OK:
        return "no error";
    case SS_EINVAL:
        return "invalid argument";
    case SS_EIO:
        return "input or output failed";
    case SS_EDAMAGED:
        return "damaged data";
    case SS_ETRUNC:
        return "truncated data";
    case SS_EUNFIT:
        return "valid but unfit data";
    case SS_ENOMEM:
        return "out of memory";
    case SS_ELIMIT:
        return "limit exceeded";
    case SS_ERANGE:
        return "number out of range";
    case SS_ENOTSUP:
        return "not supported";
    case SS_EDIFFER:
        return "differs";
    case SS_ESTOPPED:
        return "stopped by request";
    case SS_EAGAIN:
        return "nothing to be had now";
    default:
        return code > 0 ? "no error" : "unknown error";
    }
}
