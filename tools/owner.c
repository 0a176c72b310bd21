#include "owner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common.h"

enum { WAIT_SECONDS = 5 };

static void on_alarm(int number)
{
    (void)number;
}

/* True once the lock is had; it is waited for, and the time is up when the alarm comes. */
static bool lock_within(int fd, unsigned seconds)
{
    struct sigaction act = {.sa_handler = on_alarm}, old;
    sigemptyset(&act.sa_mask);
    sigaction(SIGALRM, &act, &old); /* without SA_RESTART: it interrupts */
    alarm(seconds);
    bool had = flock(fd, LOCK_EX) == 0;
    alarm(0);
    sigaction(SIGALRM, &old, NULL);
    return had;
}

/* The refiner that holds the lock, or 0. */
static pid_t holder(int fd)
{
    char text[64] = "", what[16] = "";
    long pid = 0;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0 || sscanf(text, "%ld %15s", &pid, what) != 2 || strcmp(what, "refine") || pid <= 1)
        return 0;
    return (pid_t)pid;
}

static bool take_from(int fd, const char *model)
{
    for (int attempt = 0; attempt < 2 && !tool_stop; attempt++) {
        pid_t pid = holder(fd);
        if (!pid)
            return false;
        tool_warn("'%s' is taken over from process %ld", model, (long)pid);
        if (kill(pid, SIGTERM) && errno != ESRCH)
            return false;
        if (lock_within(fd, WAIT_SECONDS))
            return true;
    }
    return false;
}

int owner_take(const char *model, bool take_over, ss_err *e)
{
    char name[4096], text[64];
    if (snprintf(name, sizeof name, "%s.lock", model) >= (int)sizeof name)
        return ss_err_set(e, SS_EINVAL, "--model: the name is too long");
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", name);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        bool busy = errno == EWOULDBLOCK;
        if (!busy || !take_over || !take_from(fd, model)) {
            int rc = busy ? ss_err_set(e, SS_EIO, "'%s' is being learnt by another program", model)
                          : ss_err_errno(e, "cannot lock '%s'", name);
            close(fd);
            return rc;
        }
    }
    /* For who comes next; without it he is turned away, no more. */
    int n = snprintf(text, sizeof text, "%ld %s\n", (long)getpid(), take_over ? "refine" : "learn");
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
        tool_warn("cannot write '%s': %s", name, strerror(errno));
    return fd;
}
