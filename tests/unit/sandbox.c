#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/sandbox.h"
#include "unit.h"

enum { PASSED, FAILED, REFUSED, NO_SANDBOX };

static char dir[64], inside[96];
static int to_parent[2];

static void setup(void)
{
    strcpy(dir, "/tmp/ss-sandbox.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(inside, sizeof inside, "%s/file", dir);
    ck_assert_int_eq(pipe(to_parent), 0);
}

static void teardown(void)
{
    unlink(inside);
    ck_assert_int_eq(rmdir(dir), 0);
}

/* Status of a child that tries it in the sandbox; a death by the filter is -1. `needs` has to be in force. */
static int tried(int (*what)(void), const ss_sandbox *s, int needs)
{
    int status;
    ss_err e;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (!pid) {
        int got = ss_sandbox_enter(s, &e);
        if (got < 0)
            _exit(FAILED);
        _exit((got & needs) == needs ? what() : NO_SANDBOX);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        ck_assert_int_eq(WTERMSIG(status), SIGSYS);
        return -1;
    }
    return WEXITSTATUS(status);
}

static int as_result(bool ok)
{
    return ok ? PASSED : errno == EACCES || errno == EPERM ? REFUSED : FAILED;
}

static int open_null(void)
{
    return as_result(open("/dev/null", O_RDONLY) >= 0);
}

static int open_inside(void)
{
    char other[128];
    snprintf(other, sizeof other, "%s/other", dir);
    int fd = openat(AT_FDCWD, other, O_WRONLY | O_CREAT, 0600);
    bool ok = fd >= 0 && write(fd, "x", 1) == 1 && !close(fd) &&
              !renameat(AT_FDCWD, other, AT_FDCWD, inside) && (fd = open(inside, O_RDONLY)) >= 0 &&
              read(fd, other, 1) == 1 && !close(fd);
    return as_result(ok);
}

static int make_socket(void)
{
    return as_result(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static int fork_child(void)
{
    return as_result(fork() >= 0);
}

static int execute(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return as_result(false);
}

static int executable_memory(void)
{
    return as_result(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                     MAP_FAILED);
}

static int send_signal(void)
{
    return as_result(!kill(getppid(), 0));
}

static int receive_message(void)
{
    char c;
    struct iovec iov = {&c, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    return as_result(recvmsg(to_parent[0], &m, 0) >= 0 || errno == ENOTSOCK);
}

static int work_on(void)
{
    char byte = 'x', back = 0;
    bool ok = write(to_parent[1], &byte, 1) == 1 && read(to_parent[0], &back, 1) == 1 && back == 'x';
    for (size_t n = 1; n < 64 << 20 && ok; n *= 3) { /* every kind of block */
        void *a = ss_alloc_whole(n, 1), *b = ss_zalloc(n, 1), *c = ss_realloc(ss_alloc(n, 1), 2 * n, 1);
        ok = a && b && c;
        ss_free(a);
        ss_free(b);
        ss_free(c);
    }
    ss_clock_sleep_until(ss_clock_mono_ns() + 1000000);
    fprintf(stderr, "%s", "");
    return as_result(ok && ss_clock_real_ns() > 0);
}

static const ss_sandbox none = {.dir = NULL};

START_TEST(reads_and_writes_go_on)
{
    setup();
    ss_sandbox with_dir = {.dir = dir, .descriptors = true};
    ck_assert_int_eq(tried(work_on, &none, 0), PASSED);
    ck_assert_int_eq(tried(work_on, &with_dir, 0), PASSED);
    teardown();
}
END_TEST

/* Where the filter is in force (not under a sanitizer) each of these is the end of the process. */
START_TEST(the_rest_kills)
{
    setup();
    bool filter = tried(work_on, &none, SS_SANDBOX_CALLS) != NO_SANDBOX;
    int (*const forbidden[])(void) = {open_null,         make_socket, fork_child,     execute,
                                      executable_memory, send_signal, receive_message};
    for (size_t i = 0; filter && i < sizeof forbidden / sizeof *forbidden; i++)
        ck_assert_msg(tried(forbidden[i], &none, SS_SANDBOX_CALLS) == -1, "number %zu", i);
    ss_sandbox with = {.dir = dir, .descriptors = true};
    ck_assert_int_eq(tried(receive_message, &with, 0), PASSED);
    for (size_t i = 1; filter && i < 6; i++)
        ck_assert_msg(tried(forbidden[i], &with, SS_SANDBOX_CALLS) == -1, "number %zu", i);
    teardown();
}
END_TEST

/* One folder, and no file but in it. */
START_TEST(files)
{
    setup();
    ss_sandbox with = {.dir = dir};
    ck_assert_int_eq(tried(open_inside, &with, 0), PASSED);
    int outside = tried(open_null, &with, SS_SANDBOX_FILES);
    ck_assert_msg(outside == REFUSED || outside == NO_SANDBOX, "%d", outside);
    teardown();
}
END_TEST

START_TEST(no_folder)
{
    ss_err e;
    ss_sandbox s = {.dir = "/nonexistent/folder"};
    ck_assert_int_eq(ss_sandbox_enter(&s, &e), SS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "/nonexistent/folder"));
    int fd = open("/dev/null", O_RDONLY); /* nothing is in force */
    ck_assert_int_ge(fd, 0);
    close(fd);
}
END_TEST

/* What is not in force is told. */
START_TEST(told)
{
    ss_err e = {0};
    int status, got;
    pid_t pid = fork();
    if (!pid) {
        got = ss_sandbox_enter(&none, &e);
        _exit(got < 0                                                              ? FAILED
              : (got == (SS_SANDBOX_FILES | SS_SANDBOX_CALLS)) != (e.text[0] != 0) ? PASSED
                                                                                   : FAILED);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == PASSED);
}
END_TEST

UNIT_MAIN("sandbox", reads_and_writes_go_on, the_rest_kills, files, no_folder, told)
