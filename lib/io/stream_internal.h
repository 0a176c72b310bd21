/* Between stream.c (bytes) and stream_header.c (JSON). */
#ifndef SS_IO_STREAM_INTERNAL_H
#define SS_IO_STREAM_INTERNAL_H

#include "io/stream.h"

/* Fill *h (which must be clear) from the preamble's JSON text [n]. SS_EDAMAGED, SS_ELIMIT, SS_ENOMEM. */
int ss_header_parse(ss_header *h, const char *text, size_t n, ss_err *e);

/* The header as JSON text, to be released with ss_free. SS_EINVAL, SS_ENOMEM. */
int ss_header_print(const ss_header *h, char **text, ss_err *e);

#endif
