/* Between stream.c (bytes), stream_header.c (JSON) and journal.c (streams in segments). */
#ifndef SS_IO_STREAM_INTERNAL_H
#define SS_IO_STREAM_INTERNAL_H

#include <sys/types.h>

#include "io/stream.h"

/* Fill *h (which must be clear) from the preamble's JSON text [n]. SS_EDAMAGED, SS_ELIMIT, SS_ENOMEM. */
int ss_header_parse(ss_header *h, const char *text, size_t n, ss_err *e);

/* The header as JSON text, to be released with ss_free. SS_EINVAL, SS_ENOMEM. */
int ss_header_print(const ss_header *h, char **text, ss_err *e);

/* Up to n > 0 bytes to `to`: their number, 0 at the end of what there is, or negative. */
typedef ssize_t (*ss_source)(void *arg, void *to, size_t n, ss_err *e);

/* A reader of what `source` gives, which never waits: it may return SS_EAGAIN. */
int ss_reader_open_source(ss_reader **r, ss_source source, void *arg, const ss_limits *limits, ss_err *e);

/* Checksum over the checksums of all that has been read: what an end record at this place carries. */
uint32_t ss_reader_running(const ss_reader *r);

/* A writer to memory that goes on behind `count` records and their checksum. */
int ss_writer_open_behind(ss_writer **w, uint64_t count, uint32_t running, ss_err *e);

/* Give back the memory beyond what is pending. */
void ss_writer_fit(ss_writer *w);

/* Bytes that the record takes in a stream; the most that its header takes. */
size_t ss_record_bytes(const ss_record *rec);
enum { SS_MAX_HEAD = 1024 };

/* Does p [n] begin with the header of a record, by its checksum? */
bool ss_record_head_at(const uint8_t *p, size_t n);

/* Put whole records p [n] again that a writer of this process has made; `w` writes to memory. */
int ss_writer_put_encoded(ss_writer *w, const uint8_t *p, size_t n, ss_err *e);

#endif
