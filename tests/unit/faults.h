/*
 * Make the n-th system call that touches files fail, or kill the process before it. Functions of a program
 * come before those of libc, so that including this is enough. Allocations: failalloc.h, whose loop this one
 * follows.
 */
#ifndef SS_TESTS_FAULTS_H
#define SS_TESTS_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    long seen, fail_at, kill_at;
    int error;
    bool forever;
} fault;

/* From now on the n-th call fails with `error` (n = 0: none), and those after it if `forever`. */
__attribute__((unused)) static void fail_call_from(long n, bool forever, int error)
{
    fault.seen = fault.kill_at = 0;
    fault.fail_at = n;
    fault.forever = forever;
    fault.error = error;
}

/* Stop failing; true if any call has failed. */
__attribute__((unused)) static bool fail_call_done(void)
{
    bool failed = fault.fail_at && fault.seen >= fault.fail_at;
    fault.fail_at = 0;
    return failed;
}

/* Die before the n-th call from now; a write is done by half first. */
__attribute__((unused)) static void die_before_call(long n)
{
    fault.seen = fault.fail_at = 0;
    fault.kill_at = n;
}

static bool fault_now(void)
{
    fault.seen++;
    if (fault.kill_at && fault.seen == fault.kill_at)
        kill(getpid(), SIGKILL);
    if (!fault.fail_at || (fault.forever ? fault.seen < fault.fail_at : fault.seen != fault.fail_at))
        return false;
    errno = fault.error;
    return true;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    return fault_now() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *p, size_t n)
{
    if (fault.kill_at && fault.seen + 1 == fault.kill_at && n > 1) {
        (void)!syscall(SYS_write, fd, p, n / 2);
        kill(getpid(), SIGKILL);
    }
    return fault_now() ? -1 : syscall(SYS_write, fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return fault_now() ? -1 : syscall(SYS_pread64, fd, p, n, at);
}

/* Files whose fsync has failed, held so that their inodes are not used again (as paths: a duplicate would hold
 * their locks too); `fsynced_again` counts the fsyncs that follow on one of them, which say yes to data that are
 * gone. */
static int fsync_failed[64], fsyncs_failed, fsynced_again;

int fsync(int fd)
{
    struct stat st, of;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode))
        for (int i = 0; i < fsyncs_failed; i++)
            fsynced_again += !fstat(fsync_failed[i], &of) && of.st_ino == st.st_ino && of.st_dev == st.st_dev;
    if (!fault_now())
        return (int)syscall(SYS_fsync, fd);
    int error = errno;
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (fsyncs_failed < 64 && S_ISREG(st.st_mode) &&
        (fsync_failed[fsyncs_failed] = (int)syscall(SYS_openat, AT_FDCWD, name, O_PATH | O_CLOEXEC)) >= 0)
        fsyncs_failed++;
    errno = error;
    return -1;
}

__attribute__((unused)) static void forget_fsyncs(void)
{
    while (fsyncs_failed)
        syscall(SYS_close, fsync_failed[--fsyncs_failed]);
}

int ftruncate(int fd, off_t n)
{
    return fault_now() ? -1 : (int)syscall(SYS_ftruncate, fd, n);
}

int close(int fd)
{
    /* A failed close has closed all the same. */
    bool failed = fault_now();
    int rc = (int)syscall(SYS_close, fd);
    if (failed)
        errno = fault.error;
    return failed ? -1 : rc;
}

int rename(const char *from, const char *to)
{
    return fault_now() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from, const char *a, int to, const char *b, unsigned flags)
{
    return fault_now() ? -1 : (int)syscall(SYS_renameat2, from, a, to, b, flags);
}

int unlink(const char *path)
{
    return fault_now() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int flock(int fd, int operation)
{
    return fault_now() ? -1 : (int)syscall(SYS_flock, fd, operation);
}

#endif
