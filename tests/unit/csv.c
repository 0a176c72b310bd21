#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/csv.h"
#include "unit.h"

static ss_err err;

static ss_csv *table(const char *text)
{
    ss_csv *c;
    int rc = ss_csv_parse(&c, text, strlen(text), "t.csv", &err);
    ck_assert_msg(!rc, "%s", err.text);
    return c;
}

static void refused(const char *text, size_t n, int code, const char *says)
{
    ss_csv *c;
    int rc = ss_csv_parse(&c, text, n, "t.csv", &err);
    ck_assert_msg(rc == code, "'%s' gives %d, expected %d", text, rc, code);
    ck_assert_ptr_null(c);
    ck_assert_msg(strstr(err.text, says), "'%s' lacks '%s'", err.text, says);
}

START_TEST(fields_and_quotes)
{
    ss_csv *c = table("\xef\xbb\xbf"
                      "file,label,fold\r\n\na b.wav,dog,1\n\"x,y\",\"say \"\"hi\"\"\r\nthere\",\n\n,\"\",3");
    ck_assert_uint_eq(ss_csv_rows(c), 3);
    ck_assert_uint_eq(ss_csv_columns(c), 3);
    ck_assert_str_eq(ss_csv_name(c, 2), "fold");
    ck_assert_int_eq(ss_csv_find(c, "label"), 1);
    ck_assert_int_eq(ss_csv_find(c, "Label"), -1);
    static const char *const expected[3][3] = {
        {"a b.wav", "dog", "1"}, {"x,y", "say \"hi\"\r\nthere", ""}, {"", "", "3"}};
    static const size_t line[] = {3, 4, 7};
    for (int r = 0; r < 3; r++) {
        for (int k = 0; k < 3; k++)
            ck_assert_str_eq(ss_csv_text(c, r, k), expected[r][k]);
        ck_assert_uint_eq(ss_csv_line(c, r), line[r]);
    }
    ck_assert_int_eq(ss_csv_need(c, "fold", &err), 2);
    ck_assert_int_eq(ss_csv_need(c, "clip", &err), SS_EUNFIT);
    ck_assert_str_eq(err.text, "'t.csv' has no column 'clip', only file, label, fold");
    ss_csv_free(c);
}
END_TEST

START_TEST(names_alone_and_one_column)
{
    ss_csv *c = table("only");
    ck_assert_uint_eq(ss_csv_rows(c), 0);
    ss_csv_free(c);
    c = table("only\nx\n\"\"\ny\n");
    ck_assert_uint_eq(ss_csv_rows(c), 3);
    ck_assert_str_eq(ss_csv_text(c, 1, 0), "");
    ss_csv_free(c);
}
END_TEST

START_TEST(damage_is_named_by_line)
{
#define REFUSED(text, says) refused(text, sizeof text - 1, SS_EDAMAGED, says)
    REFUSED("", "is empty");
    REFUSED("\n\r\n", "is empty");
    REFUSED("a,b\n1,2\n3\n", "line 3: 1 fields, expected 2");
    REFUSED("a,b\n1,2,3\n", "line 2: 3 fields, expected 2");
    REFUSED("a,b\n\"1\n\n2,3", "line 2: a quoted field that is opened here is never closed");
    REFUSED("a,b\n\"1\"x,2\n", "line 2: text after a closing quote");
    REFUSED("a,b\n1\"x,2\n", "line 2: a quote within a field");
    REFUSED("a,b\n1\rx,2\n", "line 2: a carriage return");
    REFUSED("a,b\n1,2\n1\0,2\n", "line 3: a byte of value 0");
    REFUSED("a,a\n", "two columns are called 'a'");
    REFUSED("a,,b\n", "column 2 has no name");
}
END_TEST

START_TEST(limits)
{
    size_t n = 3 * 1000003;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? ',' : 'a';
    refused(text, n, SS_ELIMIT, "more than 256 columns");
    memset(text, 'x', n);
    refused(text, n, SS_ELIMIT, "more than 65536 bytes in a field");
    for (size_t i = 0; i + 1 < n; i += 2)
        memcpy(text + i, "a\n", 2);
    refused(text, n, SS_ELIMIT, "more than 1000000 rows");
    free(text);
}
END_TEST

START_TEST(numbers)
{
    ss_csv *c = table("v\n1.5\n-3e2\n\n\"\"\n 1\n1 \n0x10\nnan\ninf\n1e999\n2.0001\n12abc\n");
    double v;
    ck_assert_int_eq(ss_csv_real(c, 0, 0, 0, 2, &v, &err), 0);
    ck_assert_double_eq(v, 1.5);
    ck_assert_int_eq(ss_csv_real(c, 1, 0, -300, 0, &v, &err), 0);
    ck_assert_double_eq(v, -300);
    for (size_t r = 2; r < ss_csv_rows(c); r++)
        ck_assert_int_eq(ss_csv_real(c, r, 0, 0, 2, &v, &err), SS_ERANGE);
    ck_assert_str_eq(err.text, "'t.csv', line 13: v is '12abc', expected a number from 0 to 2");
    ss_csv_free(c);
}
END_TEST

START_TEST(files_and_pipes)
{
    char path[] = "/tmp/ss-csv-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs("a,b\n", f);
    for (int i = 0; i < 30000; i++)
        fprintf(f, "%d,\"%d\"\n", i, 2 * i);
    fclose(f);
    ss_csv *c;
    ck_assert_int_eq(ss_csv_open(&c, path, &err), 0);
    ck_assert_uint_eq(ss_csv_rows(c), 30000);
    ck_assert_str_eq(ss_csv_text(c, 29999, 1), "59998");
    ss_csv_free(c);
    char command[64];
    snprintf(command, sizeof command, "cat %s", path);
    FILE *pipe = popen(command, "r");
    snprintf(command, sizeof command, "/dev/fd/%d", fileno(pipe));
    ck_assert_int_eq(ss_csv_open(&c, command, &err), 0);
    ck_assert_uint_eq(ss_csv_rows(c), 30000);
    ss_csv_free(c);
    pclose(pipe);
    unlink(path);
    ck_assert_int_eq(ss_csv_open(&c, path, &err), SS_EIO);
    ck_assert_msg(strstr(err.text, path), "%s", err.text);
}
END_TEST

UNIT_MAIN("csv", fields_and_quotes, names_alone_and_one_column, damage_is_named_by_line, limits, numbers,
          files_and_pipes)
