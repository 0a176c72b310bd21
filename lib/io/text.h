/**
 * A whole file of text in memory, with a cap: tables, profiles, policies, traces.
 * The file may be a pipe: it is as long as what can be read from it, whatever it says.
 * Threads: any.
 */
#ifndef SS_IO_TEXT_H
#define SS_IO_TEXT_H

#include <stddef.h>

#include "../base/err.h"

/** text [n], a NUL behind it that does not count; release with ss_free. SS_EIO, SS_ENOMEM, SS_ELIMIT (longer
 * than max bytes); on failure *text is NULL. */
int ss_text_read(char **text, size_t *n, const char *path, size_t max, ss_err *e);

#endif
