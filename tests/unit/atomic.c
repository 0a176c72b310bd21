#include <string.h>
#include <sys/wait.h>

#include "failalloc.h"
#include "faults.h"

#include "base/mem.h"
#include "io/atomic.h"
#include "scratch.h"
#include "unit.h"

/* Contents of a small file, "" when it is not there. */
static const char *text(const char *path)
{
    static char out[256];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(out, 1, sizeof out - 1, f) : 0;
    if (f)
        fclose(f);
    out[n] = 0;
    return out;
}

static int put(const char *path, unsigned flags, const char *s)
{
    return ss_atomic_put(path, flags, s, strlen(s), NULL);
}

START_TEST(replaces_and_keeps)
{
    scratch_enter("atomic", false);
    ck_assert_int_eq(put("f", 0, "one"), SS_OK);
    ck_assert_str_eq(text("f"), "one");
    ck_assert_int_eq(put("f", 0, "two"), SS_OK);
    ck_assert_str_eq(text("f"), "two");
    ck_assert_int_ne(access("f.prev", F_OK), 0);
    ck_assert_int_eq(put("f", SS_ATOMIC_KEEP, "three"), SS_OK);
    ck_assert_str_eq(text("f"), "three");
    ck_assert_str_eq(text("f.prev"), "two");
    ck_assert_int_eq(put("f", SS_ATOMIC_KEEP, "four"), SS_OK);
    ck_assert_str_eq(text("f.prev"), "three");
    ck_assert_int_ne(access("f.tmp", F_OK), 0);
    scratch_leave();
}
END_TEST

START_TEST(follows_links_and_keeps_mode)
{
    struct stat st;
    scratch_enter("atomic", false);
    ck_assert_int_eq(put("f", 0, "one"), SS_OK);
    ck_assert_int_eq(chmod("f", 0640), 0);
    ck_assert_int_eq(symlink("f", "link"), 0);
    ck_assert_int_eq(put("link", 0, "two"), SS_OK);
    ck_assert_str_eq(text("f"), "two");
    ck_assert_int_eq(lstat("link", &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    ck_assert_int_eq(stat("f", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0640);
    scratch_leave();
}
END_TEST

START_TEST(devices_are_written_straight)
{
    struct stat st;
    ss_err e;
    scratch_enter("atomic", false);
    ck_assert_int_eq(put("/dev/null", 0, "one"), SS_OK);
    ck_assert_int_eq(stat("/dev/null", &st), 0);
    ck_assert(S_ISCHR(st.st_mode));
    ck_assert_int_eq(ss_atomic_put("/dev/full", 0, "one", 3, &e), SS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "/dev/full"));
    ck_assert_int_eq(mkdir("d", 0777), 0);
    ck_assert_int_eq(put("d", 0, "one"), SS_EIO);
    ck_assert_int_eq(put("none/f", 0, "one"), SS_EIO);
    scratch_leave();
}
END_TEST

START_TEST(two_writers_do_not_meet)
{
    ss_atomic *a, *b;
    ss_err e;
    scratch_enter("atomic", false);
    ck_assert_int_eq(ss_atomic_open(&a, "f", 0, NULL), SS_OK);
    ck_assert_int_eq(ss_atomic_write(a, "whole", 5, NULL), SS_OK);
    ck_assert_int_eq(ss_atomic_open(&b, "f", 0, &e), SS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "another program"));
    ck_assert_ptr_null(b);
    ck_assert_int_eq(ss_atomic_commit(&a, NULL, NULL, NULL), SS_OK);
    ck_assert_str_eq(text("f"), "whole");
    ck_assert_int_eq(put("f", 0, "next"), SS_OK);
    ck_assert_int_eq(ss_atomic_open(&a, "f", 0, NULL), SS_OK);
    ss_atomic_abort(&a);
    ck_assert_str_eq(text("f"), "next");
    ck_assert_int_ne(access("f.tmp", F_OK), 0);
    scratch_leave();
}
END_TEST

/* Each call in turn, once and for ever: an error, and one of the two generations under the name. */
START_TEST(every_failing_call)
{
    static const int errors[] = {EIO, ENOSPC};
    scratch_enter("atomic", false);
    for (int flags = 0; flags <= SS_ATOMIC_KEEP; flags++)
        for (int k = 0; k < 4; k++)
            for (long n = 1;; n++) {
                ss_err e = {0};
                ck_assert_int_eq(put("f", 0, "old"), SS_OK);
                fail_call_from(n, k & 1, errors[k / 2]);
                int rc = ss_atomic_put("f", (unsigned)flags, "new", 3, &e);
                bool failed = fail_call_done();
                const char *now = text("f");
                if (rc < 0) {
                    ck_assert_int_eq(rc, SS_EIO);
                    ck_assert_uint_gt(strlen(e.text), 0);
                    ck_assert_msg(!strcmp(now, "old") || !strcmp(now, "new") ||
                                      (!*now && !strcmp(text("f.prev"), "old")),
                                  "call %ld: '%s'", n, now);
                } else {
                    ck_assert_str_eq(now, "new");
                }
                ck_assert_uint_eq(ss_mem_used(), 0);
                if (!failed)
                    break;
            }
    ck_assert_int_eq(put("f", 0, "last"), SS_OK);
    ck_assert_str_eq(text("f"), "last");
    scratch_leave();
}
END_TEST

START_TEST(fsync_is_never_tried_again)
{
    scratch_enter("atomic", false);
    for (long n = 1;; n++) {
        ss_err e = {0};
        struct stat before, after;
        ck_assert_int_eq(put("f", 0, "old"), SS_OK);
        fail_call_from(n, false, EIO);
        ss_atomic_put("f", 0, "new", 3, &e);
        ck_assert(fail_call_done());
        if (!strstr(e.text, "f.tmp") || !strstr(e.text, "fsync"))
            continue;
        ck_assert_int_ne(stat("f.tmp", &before), 0);
        ck_assert_str_eq(text("f"), "old");
        ck_assert_int_eq(put("f", 0, "new"), SS_OK);
        ck_assert_int_eq(stat("f", &after), 0);
        break;
    }
    scratch_leave();
}
END_TEST

START_TEST(every_kill)
{
    scratch_enter("atomic", false);
    for (int flags = 0; flags <= SS_ATOMIC_KEEP; flags++)
        for (long n = 1;; n++) {
            int status;
            ck_assert_int_eq(put("f", 0, "old"), SS_OK);
            pid_t child = fork();
            if (!child) {
                die_before_call(n);
                _exit(put("f", (unsigned)flags, "new") == SS_OK ? 0 : 1);
            }
            ck_assert_int_eq(waitpid(child, &status, 0), child);
            const char *now = text("f");
            ck_assert_msg(!strcmp(now, "old") || !strcmp(now, "new"), "kill %ld: '%s'", n, now);
            if (WIFEXITED(status)) {
                ck_assert_int_eq(WEXITSTATUS(status), 0);
                ck_assert_str_eq(now, "new");
                break;
            }
        }
    scratch_leave();
}
END_TEST

START_TEST(every_failing_allocation)
{
    scratch_enter("atomic", false);
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = put("f", SS_ATOMIC_KEEP, "new");
        bool failed = fail_alloc_done();
        ck_assert_uint_eq(ss_mem_used(), 0);
        ck_assert_int_eq(rc, failed ? SS_ENOMEM : SS_OK);
        if (!failed)
            break;
    }
    scratch_leave();
}
END_TEST

UNIT_MAIN("atomic", replaces_and_keeps, follows_links_and_keeps_mode, devices_are_written_straight,
          two_writers_do_not_meet, every_failing_call, fsync_is_never_tried_again, every_kill,
          every_failing_allocation)
