#include "io/csv.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/text.h"

#define MAX_TEXT    ((size_t)64 << 20)
#define MAX_ROWS    ((size_t)1000000)
#define MAX_COLUMNS ((size_t)256)
#define MAX_FIELD   ((size_t)64 << 10)

struct ss_csv {
    char *file, *text; /* fields are unquoted in place and ended by NUL */
    size_t columns, rows;
    uint32_t *field; /* [1 + rows][columns], offsets into text; names first */
    uint32_t *line;  /* [1 + rows] */
};

typedef struct parser {
    ss_csv *c;
    size_t n, at, line;
    size_t nfields, room, row_room;
} parser;

static int damaged(const parser *p, ss_err *e, const char *what)
{
    return ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: %s", p->c->file, p->line, what);
}

static int limit(const parser *p, ss_err *e, const char *what, size_t cap)
{
    return ss_err_set(e, SS_ELIMIT, "'%s', line %zu: more than %zu %s", p->c->file, p->line, cap, what);
}

static int add_field(parser *p, size_t offset, ss_err *e)
{
    if (p->nfields == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        uint32_t *f = ss_realloc(p->c->field, room, sizeof *f);
        if (!f)
            return ss_err_set(e, SS_ENOMEM, "'%s': no memory for its fields", p->c->file);
        p->c->field = f;
        p->room = room;
    }
    p->c->field[p->nfields++] = (uint32_t)offset;
    return SS_OK;
}

/* True on LF, CRLF or the end of the text at p->at. */
static bool at_line_end(const parser *p)
{
    const char *s = p->c->text;
    return p->at == p->n || s[p->at] == '\n' ||
           (s[p->at] == '\r' && p->at + 1 < p->n && s[p->at + 1] == '\n');
}

static void pass_line_end(parser *p)
{
    if (p->at < p->n)
        p->at += p->c->text[p->at] == '\r' ? 2 : 1;
    p->line++;
}

/* One field: unquotes it and leaves p->at on what follows it; *end = where its NUL is to go. */
static int parse_field(parser *p, size_t *end, ss_err *e)
{
    char *s = p->c->text;
    size_t begin = p->at, to = p->at;
    if (p->at < p->n && s[p->at] == '"') {
        size_t opened = p->line;
        for (p->at++;; p->at++) {
            if (p->at == p->n) {
                p->line = opened;
                return damaged(p, e, "a quoted field that is opened here is never closed");
            }
            if (s[p->at] == '"') {
                if (p->at + 1 == p->n || s[p->at + 1] != '"')
                    break;
                p->at++;
            }
            if (s[p->at] == '\n')
                p->line++;
            s[to++] = s[p->at];
        }
        p->at++;
        if (!at_line_end(p) && s[p->at] != ',')
            return damaged(p, e, "text after a closing quote, expected comma or end of line");
    } else {
        while (!at_line_end(p) && s[p->at] != ',') {
            if (s[p->at] == '"')
                return damaged(p, e, "a quote within a field that is not quoted");
            if (s[p->at] == '\r')
                return damaged(p, e, "a carriage return without a line feed");
            p->at++;
        }
        to = p->at;
    }
    if (to - begin > MAX_FIELD)
        return limit(p, e, "bytes in a field", MAX_FIELD);
    *end = to;
    return SS_OK;
}

static int parse_row(parser *p, ss_err *e)
{
    ss_csv *c = p->c;
    size_t line = p->line, first = p->nfields, before = 0, end = 0;
    bool more = true, any = false;
    while (more) {
        size_t begin = p->at;
        int rc = parse_field(p, &end, e);
        if (!rc)
            rc = add_field(p, begin, e);
        if (rc)
            return rc;
        /* The NUL may land on the comma or line end, which is still to be looked at: set the one before. */
        if (any)
            c->text[before] = 0;
        before = end;
        any = true;
        more = p->at < p->n && c->text[p->at] == ',';
        if (more)
            p->at++;
        if (p->nfields - first > MAX_COLUMNS)
            return limit(p, e, "columns", MAX_COLUMNS);
    }
    pass_line_end(p);
    c->text[before] = 0;
    size_t found = p->nfields - first;
    bool names = !c->columns;
    if (names)
        c->columns = found;
    else if (found != c->columns) {
        p->line = line;
        return ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: %zu fields, expected %zu", c->file, line, found,
                          c->columns);
    } else if (c->rows++ == MAX_ROWS)
        return limit(p, e, "rows", MAX_ROWS);
    size_t row = names ? 0 : c->rows;
    if (row >= p->row_room) {
        size_t room = p->row_room ? 2 * p->row_room : 64;
        uint32_t *l = ss_realloc(c->line, room, sizeof *l);
        if (!l)
            return ss_err_set(e, SS_ENOMEM, "'%s': no memory for its rows", c->file);
        c->line = l;
        p->row_room = room;
    }
    c->line[row] = (uint32_t)line;
    return SS_OK;
}

static int check_names(const ss_csv *c, ss_err *e)
{
    for (size_t i = 0; i < c->columns; i++) {
        const char *name = ss_csv_name(c, i);
        if (!*name)
            return ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: column %zu has no name", c->file,
                              (size_t)c->line[0], i + 1);
        if (ss_csv_find(c, name) != (int)i)
            return ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: two columns are called '%s'", c->file,
                              (size_t)c->line[0], name);
    }
    return SS_OK;
}

/* Parse c->text [n], which has room for one byte more. */
static int parse(ss_csv *c, size_t n, ss_err *e)
{
    parser p = {.c = c, .n = n, .line = 1};
    c->text[n] = 0;
    if (memchr(c->text, 0, n)) {
        for (const char *s = c->text; *s; s++)
            p.line += *s == '\n';
        return damaged(&p, e, "a byte of value 0, expected text");
    }
    if (n >= 3 && !memcmp(c->text, "\xef\xbb\xbf", 3))
        p.at = 3;
    while (p.at < n) {
        if (at_line_end(&p)) {
            pass_line_end(&p);
            continue;
        }
        bool names = !c->columns;
        int rc = parse_row(&p, e);
        if (!rc && names)
            rc = check_names(c, e);
        if (rc)
            return rc;
    }
    if (!c->columns)
        return ss_err_set(e, SS_EDAMAGED, "'%s' is empty, expected a line of column names", c->file);
    return SS_OK;
}

/* Takes text [n], which is released in any case; room for a NUL behind it. */
static int parse_own(ss_csv **out, char *text, size_t n, const char *name, ss_err *e)
{
    ss_csv *c = ss_zalloc(1, sizeof *c);
    if (!c || !(c->file = ss_strdup(name))) {
        ss_free(c);
        ss_free(text);
        return ss_err_set(e, SS_ENOMEM, "'%s': no memory for its table", name);
    }
    c->text = text;
    int rc = parse(c, n, e);
    if (rc)
        ss_csv_free(c);
    else
        *out = c;
    return rc;
}

int ss_csv_parse(ss_csv **out, const char *text, size_t n, const char *name, ss_err *e)
{
    *out = NULL;
    if (n > MAX_TEXT)
        return ss_err_set(e, SS_ELIMIT, "'%s' is longer than %zu bytes", name, MAX_TEXT);
    char *own = ss_alloc(n + 1, 1);
    if (!own)
        return ss_err_set(e, SS_ENOMEM, "'%s': no memory for %zu bytes of text", name, n);
    memcpy(own, text, n);
    return parse_own(out, own, n, name, e);
}

int ss_csv_open(ss_csv **out, const char *path, ss_err *e)
{
    char *text;
    size_t n;
    *out = NULL;
    int rc = ss_text_read(&text, &n, path, MAX_TEXT, e);
    return rc ? rc : parse_own(out, text, n, path, e);
}

void ss_csv_free(ss_csv *c)
{
    if (!c)
        return;
    ss_free(c->file);
    ss_free(c->text);
    ss_free(c->field);
    ss_free(c->line);
    ss_free(c);
}

size_t ss_csv_rows(const ss_csv *c)
{
    return c->rows;
}

size_t ss_csv_columns(const ss_csv *c)
{
    return c->columns;
}

const char *ss_csv_name(const ss_csv *c, size_t column)
{
    return c->text + c->field[column];
}

int ss_csv_find(const ss_csv *c, const char *name)
{
    for (size_t i = 0; i < c->columns; i++)
        if (!strcmp(ss_csv_name(c, i), name))
            return (int)i;
    return -1;
}

int ss_csv_need(const ss_csv *c, const char *name, ss_err *e)
{
    int i = ss_csv_find(c, name);
    if (i >= 0)
        return i;
    char list[256] = "";
    for (size_t k = 0; k < c->columns; k++) {
        size_t used = strlen(list);
        if (used + strlen(ss_csv_name(c, k)) + 8 > sizeof list) {
            strcat(list, ", ...");
            break;
        }
        strcat(strcat(list, k ? ", " : ""), ss_csv_name(c, k));
    }
    return ss_err_set(e, SS_EUNFIT, "'%s' has no column '%s', only %s", c->file, name, list);
}

const char *ss_csv_text(const ss_csv *c, size_t row, size_t column)
{
    return c->text + c->field[(row + 1) * c->columns + column];
}

size_t ss_csv_line(const ss_csv *c, size_t row)
{
    return c->line[row + 1];
}

int ss_csv_real(const ss_csv *c, size_t row, size_t column, double min, double max, double *out, ss_err *e)
{
    const char *text = ss_csv_text(c, row, column);
    char *end;
    double v = strtod(text, &end);
    /* strtod takes blanks, hexadecimal numbers, nan and inf as well. */
    bool plain = *text && !text[strspn(text, "0123456789+-.eE")] && !*end;
    if (!plain || !isfinite(v) || v < min || v > max)
        return ss_err_set(e, SS_ERANGE, "'%s', line %zu: %s is '%.40s', expected a number from %.9g to %.9g",
                          c->file, ss_csv_line(c, row), ss_csv_name(c, column), text, min, max);
    *out = v;
    return SS_OK;
}

const char *ss_csv_file(const ss_csv *c)
{
    return c->file;
}
