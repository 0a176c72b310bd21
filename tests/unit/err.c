#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "unit.h"

START_TEST(text_and_code)
{
    ss_err e;
    ck_assert_int_eq(ss_err_set(&e, SS_EUNFIT, "found %d, expected %d", 3, 4), SS_EUNFIT);
    ck_assert_int_eq(ss_err_prefix(&e, "record %d", 17), SS_EUNFIT);
    ck_assert_str_eq(e.text, "record 17: found 3, expected 4");
    ck_assert_int_eq(ss_err_set(NULL, SS_EIO, "x"), SS_EIO);
}
END_TEST

START_TEST(system_errors)
{
    ss_err e;
    errno = ENOENT;
    ck_assert_int_eq(ss_err_errno(&e, "cannot open 'x'"), SS_EIO);
    ck_assert_str_eq(e.text, "cannot open 'x': No such file or directory");
    errno = ENOMEM;
    ck_assert_int_eq(ss_err_errno(&e, "x"), SS_ENOMEM);
}
END_TEST

START_TEST(long_texts_are_cut)
{
    ss_err e;
    char long_text[2000];
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    ss_err_set(&e, SS_EIO, "%s", long_text);
    ss_err_prefix(&e, "%s", long_text);
    errno = EIO;
    ss_err_errno(&e, "%s", long_text);
    ck_assert_uint_lt(strlen(e.text), sizeof e.text);
}
END_TEST

UNIT_MAIN("err", text_and_code, system_errors, long_texts_are_cut)
