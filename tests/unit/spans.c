#include "audio/spans.h"
#include "unit.h"

START_TEST(labels_of_windows)
{
    ss_spans s;
    ss_err e;
    ck_assert_int_eq(ss_spans_init(&s, 3, &e), 0);
    /* 0..100 label 2, ..150 none, ..200 label 0, ..400 label 1 of fold 4 */
    ck_assert_int_eq(ss_spans_add(&s, 100, 1000, 2, 1, &e), 0);
    ck_assert_int_eq(ss_spans_add(&s, 0, 7, 1, 1, &e), 0);
    ck_assert_int_eq(ss_spans_add(&s, 50, 2000, -1, 2, &e), 0);
    ck_assert_int_eq(ss_spans_add(&s, 50, 3000, 0, 3, &e), 0);
    ck_assert_int_eq(ss_spans_add(&s, 200, 4000, 1, 4, &e), 0);
    ck_assert_int_eq(ss_spans_add(&s, 1, 0, 3, 0, &e), SS_EUNFIT);
    static const struct {
        uint64_t start, end;
        int64_t label, fold, time;
    } x[] = {
        {0, 100, 2, 1, 1000},    {50, 150, 2, 1, 1050},  {51, 151, 2, 1, 1051},  {100, 200, 0, 3, 2000},
        {100, 150, -1, 2, 2000}, {80, 130, -1, 1, 1080}, {0, 200, 2, 1, 1000},   {50, 250, 2, 1, 1050},
        {150, 250, 0, 3, 3000},  {150, 260, 1, 4, 3000}, {390, 400, 1, 4, 4190},
    };
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
            ss_span w = ss_spans_summary(&s, x[i].start, x[i].end, 1e9);
            ck_assert_int_eq(w.label, x[i].label);
            ck_assert_int_eq(w.fold, x[i].fold);
            ck_assert_int_eq(w.time_ns, x[i].time);
        }
    ss_spans_forget(&s, 150);
    ck_assert_uint_eq(s.n, 2);
    ss_span w = ss_spans_summary(&s, 150, 260, 1e9);
    ck_assert_int_eq(w.label, 1);
    ss_spans_forget(&s, 10000);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_int_eq(ss_spans_add(&s, 10, 5000, 0, 0, &e), 0);
    ck_assert_uint_eq(s.span[1].start, 400);
    ss_spans_reset(&s);
    ck_assert_int_eq(ss_spans_add(&s, 10, 5000, 0, 0, &e), 0);
    ck_assert_uint_eq(s.span[0].start, 0);
    ss_spans_clear(&s);
}
END_TEST

UNIT_MAIN("spans", labels_of_windows)
