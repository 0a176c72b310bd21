/**
 * Small tables as RFC 4180 has them, read strictly: UTF-8 text or any bytes but NUL, comma, fields quoted by
 * "" where they hold comma, quote or line break, lines ended by LF or CRLF, the first one naming the columns,
 * each row with as many fields as there are columns. A byte order mark is passed over, and so are lines
 * without a character. For label tracks, manifests and traces: the whole table is in memory.
 *
 * Caps: 64 MiB of text, 1,000,000 rows, 256 columns, 64 KiB a field.
 * Errors: SS_EIO, SS_EDAMAGED (text names file, line, found, expected), SS_ELIMIT, SS_ENOMEM.
 */
#ifndef SS_IO_CSV_H
#define SS_IO_CSV_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_csv ss_csv;

/** Read a file. Release with ss_csv_free. */
int ss_csv_open(ss_csv **c, const char *path, ss_err *e);
/** Read text [n], which is copied; `name` stands for it in messages. */
int ss_csv_parse(ss_csv **c, const char *text, size_t n, const char *name, ss_err *e);
void ss_csv_free(ss_csv *c);

size_t ss_csv_rows(const ss_csv *c); /* the line of names does not count */
size_t ss_csv_columns(const ss_csv *c);
/** Name of a column; index of a name, or -1. */
const char *ss_csv_name(const ss_csv *c, size_t column);
int ss_csv_find(const ss_csv *c, const char *name);
/** The same, but a missing column is SS_EUNFIT with a text that lists those that are there. */
int ss_csv_need(const ss_csv *c, const char *name, ss_err *e);

/** Field of row 0.., owned by the table; the line on which the row begins, from 1. */
const char *ss_csv_text(const ss_csv *c, size_t row, size_t column);
size_t ss_csv_line(const ss_csv *c, size_t row);
/** The field as a number, all of it, within min..max; else SS_ERANGE with file, line and column in the text.
 */
int ss_csv_real(const ss_csv *c, size_t row, size_t column, double min, double max, double *out, ss_err *e);
const char *ss_csv_file(const ss_csv *c); /* path or name it was read from */

#endif
