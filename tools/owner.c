#include "owner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"

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

tool_budget owner_budget(double share)
{
    return tool_budget_of(share, 10 * share, share);
}

bool owner_affords(tool_budget *b)
{
    return b->rate >= 1 || tool_budget_left(b) > 0;
}

bool owner_saves(owner_pace *p, uint64_t windows, bool clock, int (*save)(ss_err *e))
{
    ss_err why;
    int64_t now = ss_clock_mono_ns();
    bool due = windows && p->windows && windows % (uint64_t)p->windows == 0;
    due = due || (clock && p->seconds > 0 && (double)(now - p->saved_ns) > p->seconds * 1e9);
    if (!due)
        return false;
    int rc = save(&why);
    if (rc < 0)
        tool_warn("not saved, going on: %s", why.text);
    p->saved_ns = ss_clock_mono_ns();
    return rc >= 0;
}

int owner_checkpoint(ss_checkpoint **c, const char *path, ss_err *e)
{
    char prev[4096];
    ss_err why;
    int previous;
    *c = NULL;
    if (!path)
        return SS_OK;
    if (snprintf(prev, sizeof prev, "%s.prev", path) >= (int)sizeof prev)
        return ss_err_set(e, SS_EINVAL, "--checkpoint: the name is too long");
    if (access(path, F_OK) && access(prev, F_OK))
        return SS_OK;
    int rc = ss_checkpoint_open(c, path, &previous, &why);
    if (rc < 0)
        *e = why;
    else if (previous)
        tool_warn("%s; the one before it is taken", why.text);
    return rc;
}

int owner_goes_on(ss_model *m, const char *model, const char *checkpoint, uint64_t windows,
                  uint64_t generation, ss_err *e)
{
    tool_info("going on from '%s': %" PRIu64 " windows heard, generation %" PRIu64, checkpoint, windows,
              generation);
    bool behind = m->generation != generation;
    m->generation = generation;
    return behind ? ss_model_save(m, model, e) : SS_OK;
}
