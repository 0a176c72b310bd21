#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "failalloc.h"
#include "io/json.h"
#include "unit.h"

static int parse(const char *text, size_t n, ss_err *e)
{
    cJSON *t;
    int rc = ss_json_parse(&t, text, n, "text", e);
    ck_assert(!rc == !!t);
    cJSON_Delete(t);
    ck_assert_uint_eq(ss_mem_used(), 0);
    return rc;
}

START_TEST(accepted)
{
    static const char *const good[] = {
        "{}",
        "[]",
        " null\n",
        "0",
        "-0.5e+10",
        "true",
        "\"\"",
        "{\"a\":{\"a\":[1,2,{\"a\":null}]},\"b\":1e-3}",
        "\"\\u00e9\\ud83d\\ude00 \\\" \\\\ \\/ \\b\\f\\n\\r\\t\"",
        "\"\xc3\xa9\xf0\x9f\x98\x80\"",
        "[1 , 2\t,\r\n3]",
        "1e-999",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ss_err e = {0};
        ck_assert_msg(parse(good[i], strlen(good[i]), &e) == SS_OK, "%s: %s", good[i], e.text);
    }
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{} {}",
        "1 2",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "0x10",
        "nul",
        "True",
        "NaN",
        "Infinity",
        "1e999",
        "-1e999",
        "[1e400]",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\x01\"",
        "\"\n\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
        "{\"a\":1,\"a\":2}",
        "{\"b\":0,\"a\":1,\"c\":2,\"a\":2}",
        "{\"x\":[{\"a\":1,\"\\u0061\":2}]}",
        "\xef\xbb\xbf{}",
        "'a'",
        "[1 2]",
        "// x\n1",
        "1234567890123456789012345678901234567890123456789012345678901234",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ss_err e = {0};
        ck_assert_msg(parse(bad[i], strlen(bad[i]), &e) == SS_EDAMAGED, "accepted: %s", bad[i]);
        ck_assert(!strncmp(e.text, "text: JSON", 10));
    }
    ck_assert_int_eq(parse("{}\0", 3, NULL), SS_EDAMAGED);
    ck_assert_int_eq(parse("{\"a\0b\":1}", 9, NULL), SS_EDAMAGED);
}
END_TEST

START_TEST(caps)
{
    char deep[2 * (SS_JSON_MAX_DEPTH + 1) + 1] = "";
    for (int n = SS_JSON_MAX_DEPTH; n <= SS_JSON_MAX_DEPTH + 1; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        ck_assert_int_eq(parse(deep, 2 * (size_t)n, NULL), n > SS_JSON_MAX_DEPTH ? SS_ELIMIT : SS_OK);
    }
    size_t n = 2 * SS_JSON_MAX_VALUES + 3;
    char *wide = malloc(n);
    memset(wide, ',', n);
    for (size_t i = 1; i < n; i += 2)
        wide[i] = '1';
    wide[0] = '[';
    wide[n - 1] = ']';
    ck_assert_int_eq(parse(wide, n, NULL), SS_ELIMIT);
    wide[n - 5] = ']';
    ck_assert_int_eq(parse(wide, n - 4, NULL), SS_OK);
    free(wide);
    ck_assert_int_eq(parse("1", SS_JSON_MAX_SIZE + 1, NULL), SS_ELIMIT);
    ck_assert_int_eq(parse("1", 1, NULL), SS_OK);
}
END_TEST

/* A hundred thousand keys: no quadratic time. */
START_TEST(many_keys)
{
    size_t room = 16 * 100000, n = 0;
    char *text = malloc(room);
    for (int i = 0; i < 100000; i++)
        n += (size_t)snprintf(text + n, room - n, "%c\"%d\":0", i ? ',' : '{', i);
    text[n++] = '}';
    ck_assert_int_eq(parse(text, n, NULL), SS_OK);
    n--;
    n += (size_t)snprintf(text + n, room - n, ",\"77\":0}");
    ck_assert_int_eq(parse(text, n, NULL), SS_EDAMAGED);
    free(text);
}
END_TEST

START_TEST(getters)
{
    const char *text = "{\"n\":2.5,\"i\":-7,\"big\":9007199254740993,\"huge\":1e300,\"s\":\"abc\",\"b\":true,"
                       "\"a\":[1],\"o\":{},\"null\":null}";
    cJSON *t;
    ss_err e;
    ck_assert_int_eq(ss_json_parse(&t, text, strlen(text), "text", &e), SS_OK);
    double d = 9;
    int64_t i = 9;
    bool b = false;
    const char *s = "x";
    const cJSON *v = NULL;
    ck_assert_int_eq(ss_json_number(t, "n", 0, 3, &d, &e), 1);
    ck_assert(d == 2.5);
    ck_assert_int_eq(ss_json_number(t, "N", 0, 3, &d, &e), 0);
    ck_assert_int_eq(ss_json_number(t, "n", 3, 4, &d, &e), SS_EDAMAGED);
    ck_assert_str_eq(e.text, "'n' is 2.5, expected 3 to 4");
    ck_assert_int_eq(ss_json_number(t, "s", 3, 4, &d, &e), SS_EDAMAGED);
    ck_assert_str_eq(e.text, "'s' is a string, expected a number");
    ck_assert_int_eq(ss_json_int(t, "i", -7, 7, &i, &e), 1);
    ck_assert_int_eq(i, -7);
    ck_assert_int_eq(ss_json_int(t, "i", -6, 7, &i, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_int(t, "n", 0, 7, &i, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_int(t, "huge", INT64_MIN, INT64_MAX, &i, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_string(t, "s", 3, &s, &e), 1);
    ck_assert_str_eq(s, "abc");
    ck_assert_int_eq(ss_json_string(t, "s", 2, &s, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_string(t, "null", 2, &s, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_bool(t, "b", &b, &e), 1);
    ck_assert(b);
    ck_assert_int_eq(ss_json_bool(t, "n", &b, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_array(t, "a", &v, &e), 1);
    ck_assert_int_eq(ss_json_int(cJSON_GetArrayItem(v, 0), NULL, 0, 1, &i, &e), 1);
    ck_assert_int_eq(i, 1);
    ck_assert_int_eq(ss_json_array(t, "o", &v, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_json_object(t, "o", &v, &e), 1);
    ck_assert_int_eq(ss_json_object(t, "a", &v, &e), SS_EDAMAGED);
    static const char *const keys[] = {"n", "i", "big", "huge", "s", "b", "a", "o", "null"};
    ck_assert_int_eq(ss_json_only(t, keys, 9, &e), SS_OK);
    ck_assert_int_eq(ss_json_only(t, keys, 8, &e), SS_EDAMAGED);
    char *again = ss_json_print(t);
    ck_assert_ptr_nonnull(strstr(again, "\"s\":\"abc\""));
    ss_free(again);
    cJSON_Delete(t);
}
END_TEST

START_TEST(allocation_fails)
{
    const char *text = "{\"a\":[1,\"two\",{\"b\":null,\"c\":\"\\u00e9\"}],\"d\":{}}";
    fail_alloc_cjson();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            fail_alloc_from(n, forever);
            int rc = parse(text, strlen(text), NULL);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(rc, SS_OK);
                ck_assert_int_gt(n, 5);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
        }
}
END_TEST

UNIT_MAIN("json", accepted, refused, caps, many_keys, getters, allocation_fails)
