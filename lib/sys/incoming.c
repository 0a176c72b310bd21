#include "sys/incoming.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { NAME = 64, FOLDERS = 2 };

/* A change so soon after another one may not show in the time of a folder. */
#define SETTLED_NS 50000000

struct ss_incoming {
    int fd[FOLDERS]; /* incoming, incoming/gradients */
    struct timespec seen[FOLDERS];
    bool settled, known;
    uint64_t version; /* that `found` is for */
    ss_incoming_found found;
    uint64_t last; /* number of gradients laid down */
    char dir[256]; /* for messages */
};

struct ss_incoming_file {
    ss_incoming *in;
    ss_incoming_kind kind;
    int fd;
    ss_writer *w;
};

static const char *const temporary[] = {".mixture.new", ".delta.new", ".gradients.new"};

static int folder_of(ss_incoming_kind kind)
{
    return kind == SS_INCOMING_GRADIENTS;
}

static void name_of(ss_incoming_kind kind, uint64_t number, char name[NAME])
{
    if (kind == SS_INCOMING_MIXTURE)
        strcpy(name, "mixture.sst");
    else
        snprintf(name, NAME, "%s%" PRIu64 ".sst", kind == SS_INCOMING_DELTA ? "delta." : "", number);
}

/* ---- opening ---- */

static int open_folder(int at, const char *name, ss_err *e)
{
    if (mkdirat(at, name, 0777) && errno != EEXIST)
        return ss_err_errno(e, "cannot create '%s'", name);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? ss_err_errno(e, "cannot open '%s'", name) : fd;
}

int ss_incoming_open(ss_incoming **out, const char *state, bool lay, ss_err *e)
{
    *out = NULL;
    ss_incoming *in = ss_zalloc(1, sizeof *in);
    if (!in)
        return ss_err_set(e, SS_ENOMEM, "folder of what comes in: out of memory");
    in->fd[0] = in->fd[1] = -1;
    snprintf(in->dir, sizeof in->dir, "%s/incoming", state);
    int dir = open_folder(AT_FDCWD, state, e), rc = dir < 0 ? dir : SS_OK;
    if (!rc && (in->fd[0] = open_folder(dir, "incoming", e)) < 0)
        rc = ss_err_prefix(e, "'%s'", state);
    if (!rc && (in->fd[1] = open_folder(in->fd[0], "gradients", e)) < 0)
        rc = ss_err_prefix(e, "'%s'", in->dir);
    if (!rc && lay && flock(in->fd[0], LOCK_EX | LOCK_NB))
        rc = errno == EWOULDBLOCK ? ss_err_set(e, SS_EIO, "another program lays down in '%s'", in->dir)
                                  : ss_err_errno(e, "cannot lock '%s'", in->dir);
    if (dir >= 0)
        close(dir);
    if (rc < 0)
        ss_incoming_close(&in);
    *out = in;
    return rc;
}

void ss_incoming_close(ss_incoming **in)
{
    if (!in || !*in)
        return;
    for (int i = 0; i < FOLDERS; i++)
        if ((*in)->fd[i] >= 0)
            close((*in)->fd[i]);
    ss_free(*in);
    *in = NULL;
}

/* ---- what is there ---- */

/* The number in PREFIX NUMBER .sst; 0 when the name is another one. */
static uint64_t number_in(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    char *end;
    if (strncmp(name, prefix, n) || name[n] < '1' || name[n] > '9')
        return 0;
    errno = 0;
    uint64_t v = strtoull(name + n, &end, 10);
    return errno || strcmp(end, ".sst") ? 0 : v;
}

static void note(ss_incoming_found *f, int folder, const char *name, uint64_t version)
{
    uint64_t v = number_in(name, folder ? "" : "delta.");
    if (!folder && !strcmp(name, "mixture.sst"))
        f->mixture = true;
    if (v && folder) {
        f->steps++;
        f->gradients = !f->gradients || v < f->gradients ? v : f->gradients;
        f->newest = v > f->newest ? v : f->newest;
    } else if (v) {
        f->deltas++;
        if (v > version && (!f->delta || v < f->delta))
            f->delta = v;
    }
}

static int scan(const ss_incoming *in, int folder, uint64_t version, ss_incoming_found *f, ss_err *e)
{
    int fd = openat(in->fd[folder], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int rc = ss_err_errno(e, "cannot list '%s'", in->dir);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    errno = 0;
    for (struct dirent *x; (x = readdir(d));)
        note(f, folder, x->d_name, version);
    int rc = errno ? ss_err_errno(e, "cannot list '%s'", in->dir) : SS_OK;
    closedir(d);
    return rc;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Have the folders changed since the last look? Takes note of their times. */
static int changed(ss_incoming *in, ss_err *e)
{
    bool same = in->known && in->settled;
    int64_t now = ss_clock_real_ns();
    in->settled = true;
    for (int i = 0; i < FOLDERS; i++) {
        struct stat st;
        if (fstat(in->fd[i], &st))
            return ss_err_errno(e, "cannot look at '%s'", in->dir);
        same = same && same_time(st.st_mtim, in->seen[i]);
        in->seen[i] = st.st_mtim;
        int64_t age = now - ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
        in->settled = in->settled && age > SETTLED_NS;
    }
    return !same;
}

int ss_incoming_look(ss_incoming *in, uint64_t version, ss_incoming_found *found, ss_err *e)
{
    *found = (ss_incoming_found){0};
    int rc = changed(in, e);
    if (rc < 0)
        return rc;
    if (rc || version != in->version) {
        ss_incoming_found f = {0};
        in->known = false;
        for (int i = 0; i < FOLDERS && rc >= 0; i++)
            rc = scan(in, i, version, &f, e);
        if (rc < 0)
            return rc;
        in->found = f;
        in->version = version;
        in->known = true;
    }
    *found = in->found;
    return found->mixture || found->delta || found->gradients;
}

/* ---- taking ---- */

int ss_incoming_read(ss_incoming *in, ss_incoming_kind kind, uint64_t number, ss_incoming_use use, void *arg,
                     ss_err *e)
{
    char name[NAME];
    ss_reader *r = NULL;
    const ss_record *rec;
    name_of(kind, number, name);
    int fd = openat(in->fd[folder_of(kind)], name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : ss_err_errno(e, "cannot open '%s/%s'", in->dir, name);
    int rc = ss_reader_open(&r, fd, NULL, e), used = SS_OK;
    while (!rc && (rc = ss_reader_next(r, &rec, e)) > 0)
        rc = used = use(arg, rec, e);
    if (rc < 0 && used >= 0)
        ss_err_prefix(e, "'%s/%s'", in->dir, name);
    ss_reader_close(&r);
    close(fd);
    return rc < 0 ? rc : 1;
}

int ss_incoming_drop(ss_incoming *in, ss_incoming_kind kind, uint64_t number, ss_err *e)
{
    char name[NAME];
    name_of(kind, number, name);
    if (unlinkat(in->fd[folder_of(kind)], name, 0) && errno != ENOENT)
        return ss_err_errno(e, "cannot remove '%s/%s'", in->dir, name);
    in->known = false;
    return SS_OK;
}

/* ---- laying down ---- */

int ss_incoming_begin(ss_incoming_file **out, ss_incoming *in, ss_incoming_kind kind, const ss_header *h,
                      ss_err *e)
{
    *out = NULL;
    ss_incoming_file *f = ss_zalloc(1, sizeof *f);
    if (!f)
        return ss_err_set(e, SS_ENOMEM, "folder of what comes in: out of memory");
    f->in = in;
    f->kind = kind;
    f->fd = openat(in->fd[0], temporary[kind], O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    int rc = f->fd < 0 ? ss_err_errno(e, "cannot create '%s/%s'", in->dir, temporary[kind])
                       : ss_writer_open(&f->w, f->fd, h, e);
    if (rc < 0)
        ss_incoming_abort(&f);
    *out = f;
    return rc;
}

int ss_incoming_put(ss_incoming_file *f, const ss_record *rec, ss_err *e)
{
    int rc = ss_writer_put(f->w, rec, e);
    return rc < 0 ? ss_err_prefix(e, "'%s/%s'", f->in->dir, temporary[f->kind]) : SS_OK;
}

uint64_t ss_incoming_size(const ss_incoming_file *f)
{
    return ss_writer_offset(f->w);
}

static int next_number(ss_incoming *in, uint64_t *number, ss_err *e)
{
    ss_incoming_found f;
    int rc = ss_incoming_look(in, in->version, &f, e);
    in->last = 1 + (f.newest > in->last ? f.newest : in->last);
    *number = in->last;
    return rc < 0 ? rc : SS_OK;
}

int ss_incoming_commit(ss_incoming_file **pf, uint64_t number, bool durable, ss_err *e)
{
    ss_incoming_file *f = *pf;
    ss_incoming *in = f->in;
    char name[NAME];
    int to = in->fd[folder_of(f->kind)];
    int rc = ss_writer_end(f->w, e);
    if (rc < 0)
        ss_err_prefix(e, "'%s/%s'", in->dir, temporary[f->kind]);
    if (!rc && f->kind == SS_INCOMING_GRADIENTS)
        rc = next_number(in, &number, e);
    name_of(f->kind, number, name);
    if (!rc && durable && fsync(f->fd))
        rc = ss_err_errno(e, "cannot sync '%s/%s'", in->dir, name);
    if (!rc && renameat(in->fd[0], temporary[f->kind], to, name))
        rc = ss_err_errno(e, "cannot rename '%s/%s' to '%s'", in->dir, temporary[f->kind], name);
    if (!rc && durable && fsync(to))
        rc = ss_err_errno(e, "cannot sync '%s'", in->dir);
    in->known = false;
    ss_incoming_abort(pf);
    return rc;
}

/* What was renamed is no longer under the temporary name. */
void ss_incoming_abort(ss_incoming_file **pf)
{
    ss_incoming_file *f = *pf;
    if (!f)
        return;
    ss_writer_close(&f->w);
    if (f->fd >= 0) {
        close(f->fd);
        unlinkat(f->in->fd[0], temporary[f->kind], 0);
    }
    ss_free(f);
    *pf = NULL;
}
