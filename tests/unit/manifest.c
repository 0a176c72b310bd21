#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/manifest.h"
#include "unit.h"

static ss_err err;
static char path[64];

static void write_text(const char *text)
{
    snprintf(path, sizeof path, "/tmp/ss-manifest-%d.csv", (int)getpid());
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

START_TEST(clips_labels_and_choice)
{
    write_text("note,fold,file,label\nx,1,b/a.wav,dog\n,2,/c.wav,cat\n,,d.wav,\n,5,e.wav,dog\n");
    ss_manifest *m;
    ck_assert_msg(!ss_manifest_open(&m, path, NULL, &err), "%s", err.text);
    ck_assert_uint_eq(m->n, 4);
    ck_assert_uint_eq(m->labels.n, 2);
    ck_assert_str_eq(m->labels.name[0], "cat");
    ck_assert_str_eq(m->clip[0].path, "/tmp/b/a.wav");
    ck_assert_str_eq(m->clip[1].path, "/c.wav");
    static const int label[] = {1, 0, -1, 1}, fold[] = {1, 2, -1, 5};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(m->clip[i].label, label[i]);
        ck_assert_int_eq(m->clip[i].fold, fold[i]);
        ck_assert_uint_eq(m->clip[i].number, i);
    }
    ss_manifest_free(m);
    static const struct {
        const char *where;
        const char *rows;
    } choice[] = {
        {"fold!=5", "012"}, {"label==dog,fold!=1", "3"}, {"label==", "2"}, {"note==x", "0"}, {"fold==9", ""}};
    for (size_t i = 0; i < sizeof choice / sizeof *choice; i++) {
        ck_assert_msg(!ss_manifest_open(&m, path, choice[i].where, &err), "%s", err.text);
        char rows[8] = "";
        for (size_t k = 0; k < m->n; k++)
            rows[k] = (char)('0' + m->clip[k].number);
        ck_assert_str_eq(rows, choice[i].rows);
        ck_assert_uint_eq(m->labels.n, 2);
        ss_manifest_free(m);
    }
    static const char *const wrong[] = {"", "fold", "fold=5", "==5", "fold<5", "fold!5", "fold==1,"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(ss_manifest_open(&m, path, wrong[i], &err) == SS_EINVAL, "%s", wrong[i]);
    ck_assert_int_eq(ss_manifest_open(&m, path, "colour==red", &err), SS_EUNFIT);
    write_text("file,fold\na.wav,1.5\n");
    ck_assert_int_eq(ss_manifest_open(&m, path, NULL, &err), SS_ERANGE);
    write_text("file,fold\na.wav,x\n");
    ck_assert_int_eq(ss_manifest_open(&m, path, NULL, &err), SS_ERANGE);
    write_text("label\ndog\n");
    ck_assert_int_eq(ss_manifest_open(&m, path, NULL, &err), SS_EUNFIT);
    write_text("file\n\"\"\n");
    ck_assert_int_eq(ss_manifest_open(&m, path, NULL, &err), SS_EDAMAGED);
    unlink(path);
    ck_assert_int_eq(ss_manifest_open(&m, path, NULL, &err), SS_EIO);
}
END_TEST

START_TEST(tracks)
{
    write_text("start_s,end_s,label\n2,3,b\n0.5,1,a\n1,1,c\n1,1.25,\n");
    ss_track *t;
    ck_assert_msg(!ss_track_open(&t, path, 1000, &err), "%s", err.text);
    ck_assert_uint_eq(t->n, 3);
    ck_assert_uint_eq(t->labels.n, 3);
    static const struct {
        uint64_t at, end;
        int label;
    } x[] = {{0, 500, -1},     {499, 500, -1},   {500, 1000, 0},  {999, 1000, 0},        {1000, 1250, -1},
             {1250, 2000, -1}, {1999, 2000, -1}, {2000, 3000, 1}, {3000, UINT64_MAX, -1}};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        ss_stretch s = ss_track_at(t, x[i].at);
        ck_assert_int_eq(s.label, x[i].label);
        ck_assert_uint_eq(s.end, x[i].end);
        ck_assert_uint_le(s.start, x[i].at);
    }
    ss_track_free(t);
    write_text("start_s,end_s,label\n");
    ck_assert_int_eq(ss_track_open(&t, path, 1000, &err), 0);
    ck_assert_int_eq(ss_track_at(t, 5).label, -1);
    ss_track_free(t);
    write_text("start_s,end_s,label\n0,2,a\n1,3,b\n");
    ck_assert_int_eq(ss_track_open(&t, path, 1000, &err), SS_EDAMAGED);
    write_text("start_s,end_s,label\n2,1,a\n");
    ck_assert_int_eq(ss_track_open(&t, path, 1000, &err), SS_ERANGE);
    write_text("start_s,end,label\n2,1,a\n");
    ck_assert_int_eq(ss_track_open(&t, path, 1000, &err), SS_EUNFIT);
    unlink(path);
}
END_TEST

UNIT_MAIN("manifest", clips_labels_and_choice, tracks)
