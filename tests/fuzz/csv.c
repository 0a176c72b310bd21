/* The CSV reader: what it takes is written with every field in quotes, taken again, and is the same table. */
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "io/csv.h"

/* Rows count from 0, -1 is the line of names. */
static const char *field(const ss_csv *c, long row, size_t column)
{
    return row < 0 ? ss_csv_name(c, column) : ss_csv_text(c, (size_t)row, column);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_csv *c, *again;
    ss_err e = {0};
    int rc = ss_csv_parse(&c, (const char *)data, size, "text", &e);
    PROMISE(!rc == (c != NULL));
    PROMISE(!rc || ((rc == SS_EDAMAGED || rc == SS_ELIMIT) && *e.text));
    if (!rc) {
        size_t columns = ss_csv_columns(c), n = 0;
        long rows = (long)ss_csv_rows(c);
        PROMISE(columns > 0 && columns <= 256 && rows <= 1000000);
        char *text = ss_alloc(2 * size + 3 * columns * (size_t)(rows + 1) + 1, 1);
        PROMISE(text);
        for (long r = -1; r < rows; r++) {
            for (size_t k = 0; k < columns; k++) {
                text[n++] = '"';
                for (const char *p = field(c, r, k); *p; p++) {
                    if (*p == '"')
                        text[n++] = '"';
                    text[n++] = *p;
                }
                text[n++] = '"';
                text[n++] = k + 1 < columns ? ',' : '\n';
            }
            PROMISE(r < 1 || ss_csv_line(c, (size_t)r) > ss_csv_line(c, (size_t)r - 1));
        }
        PROMISE(ss_csv_parse(&again, text, n, "text", &e) == SS_OK);
        PROMISE(ss_csv_columns(again) == columns && (long)ss_csv_rows(again) == rows);
        for (long r = -1; r < rows; r++)
            for (size_t k = 0; k < columns; k++) {
                double v;
                PROMISE(!strcmp(field(c, r, k), field(again, r, k)));
                if (r >= 0 && !ss_csv_real(c, (size_t)r, k, -1e9, 1e9, &v, NULL))
                    PROMISE(v >= -1e9 && v <= 1e9);
            }
        ss_free(text);
        ss_csv_free(again);
        ss_csv_free(c);
    }
    PROMISE(ss_mem_used() == 0);
    return 0;
}
