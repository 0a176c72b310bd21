#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "failalloc.h"
#include "sys/state.h"
#include "unit.h"

static char dir[32], sub[64];

static ss_state *fresh(void)
{
    ss_state *s;
    ss_err e;
    strcpy(dir, "/tmp/ss-state.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(sub, sizeof sub, "%s/s", dir);
    ck_assert_msg(ss_state_open(&s, sub, &e) == SS_OK, "%s", e.text);
    return s;
}

static void done(ss_state *s)
{
    char command[100];
    ss_state_close(&s);
    ck_assert_ptr_null(s);
    ck_assert_uint_eq(ss_mem_used(), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static void by_hand(const char *name, const char *bytes, size_t n)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", sub, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fwrite(bytes, 1, n, f);
    fclose(f);
}

static void remove_file(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", sub, name);
    ck_assert_int_eq(unlink(path), 0);
}

START_TEST(put_and_get)
{
    ss_state *s = fresh(), *twice;
    ss_state_value v;
    ss_err e;
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 0.75, &e), SS_OK);
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_THERE);
    ck_assert(v.number == 0.75 && !v.has_seq);
    ck_assert_str_eq(v.text, "0.75");
    ck_assert_int_eq(ss_state_put_seq(s, "uncertainty.edge", UINT64_MAX, 0.1, &e), SS_OK);
    ck_assert_int_eq(ss_state_get(s, "uncertainty.edge", 0, &v, &e), SS_STATE_THERE);
    ck_assert(v.has_seq && v.seq == UINT64_MAX && v.number == 0.1);
    ck_assert_int_eq(ss_state_put(s, "split", "embedding", &e), SS_OK);
    ck_assert_int_eq(ss_state_get(s, "split", 0, &v, &e), SS_STATE_THERE);
    ck_assert_str_eq(v.text, "embedding");
    ck_assert(isnan(v.number));
    ck_assert_int_eq(ss_state_put_seq_text(s, "split", 7, "embedding", &e), SS_OK);
    ck_assert_int_eq(ss_state_get(s, "split", 0, &v, &e), SS_STATE_THERE);
    ck_assert(v.has_seq && v.seq == 7 && !strcmp(v.text, "embedding"));
    ck_assert_int_eq(ss_state_open(&twice, sub, &e), SS_OK); /* it is there already */
    ck_assert_int_eq(ss_state_get(twice, "split", 0, &v, &e), SS_STATE_THERE);
    ss_state_close(&twice);
    done(s);
}
END_TEST

START_TEST(names_and_values)
{
    static const char *const bad[] = {
        "",         ".",
        "..",       "a/b",
        "../a",     "set",
        "incoming", ".hidden",
        "-x",       "A",
        "a b",      "a\n",
        "\xc3\xa4", "a123456789012345678901234567890123456789012345678901234567890123"};
    ss_state *s = fresh();
    ss_state_value v;
    ss_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(ss_state_put(s, bad[i], "1", &e) == SS_EINVAL, "'%s'", bad[i]);
        ck_assert_int_eq(ss_state_get(s, bad[i], 0, &v, &e), SS_EINVAL);
    }
    ck_assert_int_eq(ss_state_put(s, bad[13] + 1, "1", &e), SS_OK);
    ck_assert_int_eq(ss_state_put(s, "a", "", &e), SS_EINVAL);
    ck_assert_int_eq(ss_state_put(s, "a", "1 2", &e), SS_EINVAL);
    ck_assert_int_eq(ss_state_put(s, "a", bad[13], &e), SS_EINVAL);
    ck_assert_int_eq(ss_state_put(s, "a", bad[13] + 1, &e), SS_OK);
    ck_assert_int_eq(ss_state_put_real(s, "a", NAN, &e), SS_EINVAL);
    ck_assert_int_eq(ss_state_put_real(s, "a", INFINITY, &e), SS_EINVAL);
    done(s);
}
END_TEST

START_TEST(faults_are_said_once)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } bad[] = {
        {"", 0, "is empty"},    {" \n", 2, "is empty"},           {"1 2 3\n", 6, "not of the form"},
        {"x 2\n", 4, "not of"}, {"-1 2\n", 5, "not of the form"}, {"99999999999999999999 1\n", 23, "not of"},
        {"1\0\n", 3, "not of"}, {"\x1b[2J\n", 5, "not of"},
    };
    ss_state *s = fresh();
    ss_state_value v;
    ss_err e;
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_SAY);
    ck_assert_ptr_nonnull(strstr(e.text, "/cpu' is not there"));
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[8];
        snprintf(name, sizeof name, "q%zu", i);
        by_hand(name, bad[i].bytes, bad[i].n);
        ck_assert_int_eq(ss_state_get(s, name, 0, &v, &e), SS_STATE_SAY);
        ck_assert_msg(strstr(e.text, bad[i].text) != NULL, "%s", e.text);
        ck_assert_int_eq(ss_state_get(s, name, 0, &v, &e), 0);
        ck_assert_str_eq(v.text, "");
        ck_assert(isnan(v.number) && !v.has_seq);
    }
    char large[300];
    memset(large, ' ', sizeof large);
    large[0] = '1';
    by_hand("large", large, 256);
    ck_assert_int_eq(ss_state_get(s, "large", 0, &v, &e), SS_STATE_SAY);
    by_hand("large", large, 255);
    ck_assert_int_eq(ss_state_get(s, "large", 0, &v, &e), SS_STATE_THERE);
    by_hand("bare", "7", 1);
    ck_assert_int_eq(ss_state_get(s, "bare", 0, &v, &e), SS_STATE_THERE);
    ck_assert(v.number == 7);
    /* Nothing is followed, opened or waited for but plain files. */
    char path[100];
    snprintf(path, sizeof path, "%s/fifo", sub);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/link", sub);
    ck_assert_int_eq(symlink("bare", path), 0);
    snprintf(path, sizeof path, "%s/folder", sub);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    static const char *const odd[] = {"fifo", "link", "folder"};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ss_state_get(s, odd[i], 0, &v, &e), SS_STATE_SAY);
        ck_assert_ptr_nonnull(strstr(e.text, "cannot be read"));
    }
    done(s);
}
END_TEST

START_TEST(set_by_hand)
{
    ss_state *s = fresh();
    ss_state_value v;
    ss_err e;
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 0.5, &e), SS_OK);
    by_hand("set/cpu", "0.9\n", 4);
    ck_assert_int_eq(ss_state_get(s, "cpu", 1, &v, &e), SS_STATE_THERE | SS_STATE_SET);
    ck_assert(v.number == 0.9 && v.age_ns == 0);
    ss_clock_sleep_until(ss_clock_mono_ns() + 3000000);
    ck_assert_int_eq(ss_state_get(s, "cpu", 1, &v, &e), SS_STATE_THERE | SS_STATE_SET); /* never stale */
    by_hand("set/cpu", "", 0);
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_THERE | SS_STATE_SAY);
    ck_assert_ptr_nonnull(strstr(e.text, "set/cpu' is empty"));
    ck_assert(v.number == 0.5);
    remove_file("set/cpu");
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_THERE);
    /* Its writer asks for what is set alone. */
    ck_assert_int_eq(ss_state_get_set(s, "cpu", &v, &e), 0);
    ck_assert(isnan(v.number));
    ck_assert_int_eq(ss_state_get_set(s, "split", &v, &e), 0);
    by_hand("set/split", "3", 1);
    ck_assert_int_eq(ss_state_get_set(s, "split", &v, &e), SS_STATE_THERE | SS_STATE_SET);
    by_hand("set/split", "", 0);
    ck_assert_int_eq(ss_state_get_set(s, "split", &v, &e), SS_STATE_SAY);
    ck_assert_int_eq(ss_state_get_set(s, "split", &v, &e), 0);
    ck_assert_int_eq(ss_state_get_set(s, "a b", &v, &e), SS_EINVAL);
    done(s);
}
END_TEST

START_TEST(stale_by_the_readers_clock)
{
    ss_state *s = fresh();
    ss_state_value v;
    ss_err e;
    const int64_t limit = 30000000;
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 0.5, &e), SS_OK);
    ss_clock_sleep_until(ss_clock_mono_ns() + 2 * limit);
    ck_assert_int_eq(ss_state_get(s, "cpu", limit, &v, &e), SS_STATE_THERE); /* seen for the first time */
    ss_clock_sleep_until(ss_clock_mono_ns() + 2 * limit);
    ck_assert_int_eq(ss_state_get(s, "cpu", limit, &v, &e), SS_STATE_THERE | SS_STATE_STALE | SS_STATE_SAY);
    ck_assert_ptr_nonnull(strstr(e.text, "has not changed for too long"));
    ck_assert(v.number == 0.5 && v.age_ns > limit);
    ck_assert_int_eq(ss_state_get(s, "cpu", limit, &v, &e), SS_STATE_THERE | SS_STATE_STALE);
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_THERE);
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 0.5, &e), SS_OK); /* the same value, but new */
    ck_assert_int_eq(ss_state_get(s, "cpu", limit, &v, &e), SS_STATE_THERE);
    done(s);
}
END_TEST

/* A reader beside a writer sees whole lines only. */
START_TEST(replaced_as_a_whole)
{
    ss_state *s = fresh();
    ss_state_value v;
    ss_err e;
    int status;
    ck_assert_int_eq(ss_state_put_seq(s, "x", 0, 0, &e), SS_OK);
    pid_t pid = fork();
    if (!pid) {
        for (uint64_t i = 1; i < 500; i++)
            if (ss_state_put_seq(s, "x", i, (double)(i * 1000), &e))
                _exit(1);
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        ck_assert_int_eq(ss_state_get(s, "x", 0, &v, &e), SS_STATE_THERE);
        ck_assert(v.number == (double)(v.seq * 1000));
    }
    ck_assert_int_eq(status, 0);
    done(s);
}
END_TEST

/* Who only looks makes nothing, and is told when a value was written. */
START_TEST(look)
{
    ss_state *s = fresh(), *r;
    ss_state_value v;
    ss_err e;
    char path[100];
    struct stat st;
    int64_t before = ss_clock_real_ns();
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 0.5, &e), SS_OK);
    snprintf(path, sizeof path, "%s/set", sub);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(ss_state_look(&r, sub, &e), SS_OK);
    ck_assert_int_eq(ss_state_get(r, "cpu", 0, &v, &e), SS_STATE_THERE);
    ck_assert(v.number == 0.5);
    ck_assert(v.written_ns > before - 1000000000 && v.written_ns <= ss_clock_real_ns());
    ck_assert_int_ne(stat(path, &st), 0);
    snprintf(path, sizeof path, "%s/nowhere", sub);
    ss_state *none;
    ck_assert_int_eq(ss_state_look(&none, path, &e), SS_EIO);
    ck_assert_ptr_null(none);
    ck_assert_int_ne(stat(path, &st), 0);
    fail_alloc_from(1, false);
    ck_assert_int_eq(ss_state_look(&none, sub, &e), SS_ENOMEM);
    ck_assert(fail_alloc_done());
    ss_state_close(&r);
    done(s);
}
END_TEST

START_TEST(failures)
{
    ss_state *s;
    ss_state_value v;
    ss_err e;
    ck_assert_int_eq(ss_state_open(&s, "/proc/nowhere", &e), SS_EIO);
    ck_assert_int_eq(ss_state_open(&s, "/dev/null", &e), SS_EIO);
    ck_assert_ptr_null(s);
    s = fresh();
    fail_alloc_from(1, false);
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_ENOMEM);
    ck_assert(fail_alloc_done());
    ck_assert_int_eq(ss_state_get(s, "cpu", 0, &v, &e), SS_STATE_SAY);
    ss_state *t;
    fail_alloc_from(1, false);
    ck_assert_int_eq(ss_state_open(&t, sub, &e), SS_ENOMEM);
    ck_assert(fail_alloc_done());
    char path[100];
    snprintf(path, sizeof path, "%s/cpu", sub);
    ck_assert_int_eq(mkdir(path, 0700),
                     0); /* a folder in its place: cannot be replaced, and nothing is left */
    ck_assert_int_eq(ss_state_put_real(s, "cpu", 1, &e), SS_EIO);
    snprintf(path, sizeof path, "%s/.cpu.new", sub);
    ck_assert_int_ne(access(path, F_OK), 0);
    done(s);
}
END_TEST

UNIT_MAIN("state", put_and_get, names_and_values, faults_are_said_once, set_by_hand,
          stale_by_the_readers_clock, replaced_as_a_whole, look, failures)
