#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "failalloc.h"
#include "io/text.h"
#include "unit.h"

static void put(const char *path, size_t n)
{
    FILE *f = fopen(path, "w");
    for (size_t i = 0; i < n; i++)
        putc('a' + (int)(i % 23), f);
    ck_assert_int_eq(fclose(f), 0);
}

static void holds(const char *text, size_t n, size_t expected)
{
    ck_assert_uint_eq(n, expected);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(text[i], 'a' + (int)(i % 23));
    ck_assert_int_eq(text[n], 0);
}

START_TEST(files)
{
    char path[] = "/tmp/ss-text-XXXXXX", *text;
    size_t n;
    ss_err e;
    close(mkstemp(path));
    for (size_t size = 0; size < 300000; size = 3 * size + 1) {
        put(path, size);
        ck_assert_int_eq(ss_text_read(&text, &n, path, size, &e), SS_OK);
        holds(text, n, size);
        ss_free(text);
        if (size) {
            ck_assert_int_eq(ss_text_read(&text, &n, path, size - 1, &e), SS_ELIMIT);
            ck_assert_ptr_null(text);
        }
    }
    fail_alloc_from(1, false);
    ck_assert_int_eq(ss_text_read(&text, &n, path, 1 << 20, &e), SS_ENOMEM);
    ck_assert(fail_alloc_done());
    ck_assert_uint_eq(ss_mem_used(), 0);
    unlink(path);
    ck_assert_int_eq(ss_text_read(&text, &n, path, 9, &e), SS_EIO);
    ck_assert_int_eq(ss_text_read(&text, &n, "/", 9, &e), SS_EIO);
}
END_TEST

/* A pipe does not say how long it is. */
START_TEST(pipes)
{
    enum { SIZE = 70001 };
    int end[2];
    char path[64], *text, byte;
    size_t n;
    ck_assert_int_eq(pipe(end), 0);
    pid_t writer = fork();
    if (!writer) {
        for (size_t i = 0; i < SIZE; i++) {
            byte = (char)('a' + (int)(i % 23));
            if (write(end[1], &byte, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    close(end[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", end[0]);
    ck_assert_int_eq(ss_text_read(&text, &n, path, 1 << 20, NULL), SS_OK);
    holds(text, n, SIZE);
    ss_free(text);
    close(end[0]);
    waitpid(writer, NULL, 0);
}
END_TEST

UNIT_MAIN("text", files, pipes)
