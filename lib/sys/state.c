#include "sys/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { FILE_MAX = 255 };

/* What may be wrong with a file; its bit in `said`. */
enum fault { NONE, MISSING, EMPTY, MALFORMED, UNREADABLE, STALE, NFAULTS };

typedef struct seen {
    char name[SS_STATE_MAX + 1];
    dev_t dev;
    ino_t ino;
    struct timespec mtime, ctime;
    int64_t since; /* when this file was seen first, monotonic */
    unsigned said; /* faults told: bits 0.. of the file, NFAULTS.. of the one in set */
    bool there;
} seen;

struct ss_state {
    int fd;
    seen *seen; /* quantities asked for so far */
    int n;
    char dir[256]; /* for messages */
};

static bool valid_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return n && n <= SS_STATE_MAX && !name[n] && !strchr("._-", *name) && strcmp(name, "set") &&
           strcmp(name, "incoming");
}

static bool valid_value(const char *text)
{
    size_t n = strlen(text);
    if (!n || n > SS_STATE_MAX)
        return false;
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

int ss_state_look(ss_state **out, const char *dir, ss_err *e)
{
    *out = NULL;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", dir);
    ss_state *s = ss_zalloc(1, sizeof *s);
    if (!s) {
        close(fd);
        return ss_err_set(e, SS_ENOMEM, "state directory: out of memory");
    }
    s->fd = fd;
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    *out = s;
    return SS_OK;
}

int ss_state_open(ss_state **out, const char *dir, ss_err *e)
{
    *out = NULL;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return ss_err_errno(e, "cannot create '%s'", dir);
    int rc = ss_state_look(out, dir, e);
    if (!rc && mkdirat((*out)->fd, "set", 0777) && errno != EEXIST) {
        rc = ss_err_errno(e, "cannot create '%s/set'", dir);
        ss_state_close(out);
    }
    return rc;
}

void ss_state_close(ss_state **s)
{
    if (!s || !*s)
        return;
    close((*s)->fd);
    ss_free((*s)->seen);
    ss_free(*s);
    *s = NULL;
}

/* ---- writing ---- */

static int put_line(ss_state *s, const char *name, const char *line, ss_err *e)
{
    char temporary[SS_STATE_MAX + 8]; /* begins with a dot: no quantity does */
    snprintf(temporary, sizeof temporary, ".%s.new", name);
    int fd = openat(s->fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return ss_err_errno(e, "cannot create '%s/%s'", s->dir, temporary);
    size_t n = strlen(line);
    ssize_t k;
    while ((k = write(fd, line, n)) < 0 && errno == EINTR)
        ;
    int rc = SS_OK;
    if (k >= 0 && (size_t)k < n) {
        errno = ENOSPC;
        k = -1;
    }
    if (k < 0)
        rc = ss_err_errno(e, "cannot write '%s/%s'", s->dir, name);
    if (close(fd) && !rc)
        rc = ss_err_errno(e, "cannot write '%s/%s'", s->dir, name);
    if (!rc && renameat(s->fd, temporary, s->fd, name))
        rc = ss_err_errno(e, "cannot replace '%s/%s'", s->dir, name);
    if (rc)
        unlinkat(s->fd, temporary, 0);
    return rc;
}

static int put(ss_state *s, const char *name, const uint64_t *seq, const char *value, ss_err *e)
{
    char line[SS_STATE_MAX + 24];
    if (!valid_name(name))
        return ss_err_set(e, SS_EINVAL, "state: '%.80s' is no name of a quantity", name);
    if (!valid_value(value))
        return ss_err_set(e, SS_EINVAL, "state: value of '%s' is not one word of 1 to %d characters", name,
                          SS_STATE_MAX);
    if (seq)
        snprintf(line, sizeof line, "%" PRIu64 " %s\n", *seq, value);
    else
        snprintf(line, sizeof line, "%s\n", value);
    return put_line(s, name, line, e);
}

static int put_number(ss_state *s, const char *name, const uint64_t *seq, double value, ss_err *e)
{
    char text[32];
    if (!isfinite(value))
        return ss_err_set(e, SS_EINVAL, "state: value of '%.80s' is not finite", name);
    snprintf(text, sizeof text, "%.9g", value);
    return put(s, name, seq, text, e);
}

int ss_state_put(ss_state *s, const char *name, const char *value, ss_err *e)
{
    return put(s, name, NULL, value, e);
}

int ss_state_put_real(ss_state *s, const char *name, double value, ss_err *e)
{
    return put_number(s, name, NULL, value, e);
}

int ss_state_put_seq(ss_state *s, const char *name, uint64_t seq, double value, ss_err *e)
{
    return put_number(s, name, &seq, value, e);
}

int ss_state_put_seq_text(ss_state *s, const char *name, uint64_t seq, const char *value, ss_err *e)
{
    return put(s, name, &seq, value, e);
}

/* ---- reading ---- */

static seen *lookup(ss_state *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->seen[i].name, name))
            return &s->seen[i];
    seen *more = ss_realloc(s->seen, (size_t)s->n + 1, sizeof *more);
    if (!more)
        return NULL;
    s->seen = more;
    seen *q = &more[s->n++];
    memset(q, 0, sizeof *q);
    strcpy(q->name, name);
    return q;
}

/* `value` or `seq value`, a line feed at the end or not; an empty line is EMPTY. */
static enum fault parse(char *line, ss_state_value *v)
{
    char *save, *word[3];
    int n = 0;
    for (char *p = strtok_r(line, " \t\r\n", &save); p && n < 3; p = strtok_r(NULL, " \t\r\n", &save))
        word[n++] = p;
    if (!n)
        return EMPTY;
    if (n == 3 || !valid_value(word[n - 1]))
        return MALFORMED;
    if (n == 2) {
        char *end;
        errno = 0;
        v->seq = strtoull(word[0], &end, 10);
        if (*word[0] < '0' || *word[0] > '9' || *end || errno)
            return MALFORMED;
        v->has_seq = true;
    }
    strcpy(v->text, word[n - 1]);
    char *end;
    v->number = strtod(v->text, &end);
    if (*end || !isfinite(v->number))
        v->number = NAN;
    return NONE;
}

static enum fault read_value(int dir, const char *path, ss_state_value *v, struct stat *st)
{
    char line[FILE_MAX + 2];
    *v = (ss_state_value){.number = NAN};
    int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? MISSING : UNREADABLE;
    ssize_t n = -1;
    if (!fstat(fd, st) && S_ISREG(st->st_mode))
        while ((n = read(fd, line, FILE_MAX + 1)) < 0 && errno == EINTR)
            ;
    close(fd);
    if (n < 0)
        return UNREADABLE;
    line[n] = 0;
    enum fault f = n > FILE_MAX || strlen(line) != (size_t)n ? MALFORMED : parse(line, v);
    if (f)
        *v = (ss_state_value){.number = NAN};
    return f;
}

/* True the first time. */
static bool say(ss_state *s, seen *q, enum fault f, bool set, ss_err *e)
{
    static const char *const text[NFAULTS] = {
        [MISSING] = "is not there",
        [EMPTY] = "is empty",
        [MALFORMED] = "is not of the form 'value' or 'seq value'",
        [UNREADABLE] = "cannot be read",
        [STALE] = "has not changed for too long",
    };
    unsigned bit = 1u << (f + (set ? NFAULTS : 0));
    if (q->said & bit)
        return false;
    q->said |= bit;
    ss_err_set(e, SS_OK, "state '%s/%s%s' %s", s->dir, set ? "set/" : "", q->name, text[f]);
    return true;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Age of the file in this reader's eyes. */
static int64_t age(seen *q, const struct stat *st)
{
    int64_t now = ss_clock_mono_ns();
    if (!q->there || q->dev != st->st_dev || q->ino != st->st_ino || !same_time(q->mtime, st->st_mtim) ||
        !same_time(q->ctime, st->st_ctim)) {
        q->there = true;
        q->dev = st->st_dev;
        q->ino = st->st_ino;
        q->mtime = st->st_mtim;
        q->ctime = st->st_ctim;
        q->since = now;
    }
    return now - q->since;
}

static int lookup_named(ss_state *s, const char *name, seen **q, ss_err *e)
{
    if (!valid_name(name))
        return ss_err_set(e, SS_EINVAL, "state: '%.80s' is no name of a quantity", name);
    *q = lookup(s, name);
    return *q ? SS_OK : ss_err_set(e, SS_ENOMEM, "state directory: out of memory");
}

static int get_set(ss_state *s, seen *q, ss_state_value *v, ss_err *e)
{
    char path[SS_STATE_MAX + 8];
    struct stat st;
    snprintf(path, sizeof path, "set/%s", q->name);
    enum fault f = read_value(s->fd, path, v, &st);
    if (!f)
        return SS_STATE_THERE | SS_STATE_SET;
    return f != MISSING && say(s, q, f, true, e) ? SS_STATE_SAY : 0;
}

int ss_state_get_set(ss_state *s, const char *name, ss_state_value *v, ss_err *e)
{
    seen *q;
    *v = (ss_state_value){.number = NAN};
    int rc = lookup_named(s, name, &q, e);
    return rc < 0 ? rc : get_set(s, q, v, e);
}

int ss_state_get(ss_state *s, const char *name, int64_t stale_ns, ss_state_value *v, ss_err *e)
{
    seen *q;
    struct stat st;
    *v = (ss_state_value){.number = NAN};
    int rc = lookup_named(s, name, &q, e);
    if (rc < 0)
        return rc;
    int flags = get_set(s, q, v, e);
    if (flags & SS_STATE_THERE)
        return flags;
    enum fault f = read_value(s->fd, name, v, &st);
    if (f) {
        q->there = false;
    } else {
        v->age_ns = age(q, &st);
        v->written_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
        flags |= SS_STATE_THERE;
        if (stale_ns && v->age_ns > stale_ns) {
            flags |= SS_STATE_STALE;
            f = STALE;
        }
    }
    if (f && !(flags & SS_STATE_SAY) && say(s, q, f, false, e))
        flags |= SS_STATE_SAY;
    return flags;
}
