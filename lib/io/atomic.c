#include "io/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct ss_atomic {
    char *path, *tmp;
    int fd, lock; /* two descriptors of one file: the lock outlives the checked close */
    int straight; /* not a regular file: no temporary name */
    unsigned flags;
};

static char *with_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix) + 1;
    char *s = ss_alloc(n + k, 1);
    if (s) {
        memcpy(s, path, n);
        memcpy(s + n, suffix, k);
    }
    return s;
}

char *ss_atomic_previous(const char *path)
{
    return with_suffix(path, ".prev");
}

static void release(ss_atomic **pa)
{
    ss_atomic *a = *pa;
    if (a->fd >= 0)
        close(a->fd);
    if (a->lock >= 0)
        close(a->lock);
    ss_free(a->path);
    ss_free(a->tmp);
    ss_free(a);
    *pa = NULL;
}

/* A fresh, empty, locked file of the temporary name. */
static int open_tmp(ss_atomic *a, ss_err *e)
{
    for (;;) {
        struct stat ours, named;
        a->lock = open(a->tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (a->lock < 0)
            return ss_err_errno(e, "cannot create '%s'", a->tmp);
        /* Some file systems have no locks: then there is only the rule that a file has one owner. */
        if (flock(a->lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
            return ss_err_set(e, SS_EIO, "cannot write '%s': another program is writing it", a->path);
        if (fstat(a->lock, &ours) < 0)
            return ss_err_errno(e, "cannot inspect '%s'", a->tmp);
        if (stat(a->tmp, &named) == 0 && ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
            if (ours.st_size == 0)
                break;
            /* Left by a program that was killed; the inode may have a failed fsync behind it. */
            if (unlink(a->tmp) < 0)
                return ss_err_errno(e, "cannot remove '%s'", a->tmp);
        }
        close(a->lock);
        a->lock = -1;
    }
    a->fd = fcntl(a->lock, F_DUPFD_CLOEXEC, 0);
    return a->fd < 0 ? ss_err_errno(e, "cannot duplicate the descriptor of '%s'", a->tmp) : SS_OK;
}

int ss_atomic_open(ss_atomic **pa, const char *path, unsigned flags, ss_err *e)
{
    *pa = NULL;
    ss_atomic *a = ss_zalloc(1, sizeof *a);
    if (!a)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a file writer");
    a->fd = a->lock = -1;
    a->flags = flags;
    int rc = SS_OK;
    struct stat st;
    int there = stat(path, &st) == 0;
    char *real = there ? realpath(path, NULL) : NULL;
    a->path = ss_strdup(real ? real : path);
    free(real);
    a->tmp = a->path ? with_suffix(a->path, ".tmp") : NULL;
    if (!a->tmp) {
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate a file name");
        goto out;
    }
    if (there && S_ISDIR(st.st_mode)) {
        rc = ss_err_set(e, SS_EIO, "cannot write '%s': it is a folder", path);
        goto out;
    }
    a->straight = there && !S_ISREG(st.st_mode);
    if (a->straight) {
        a->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (a->fd < 0)
            rc = ss_err_errno(e, "cannot open '%s'", path);
    } else {
        rc = open_tmp(a, e);
        if (rc == SS_OK && there)
            /* Best effort: a file that others may read stays readable for them, and ours to take over. */
            (void)!fchmod(a->fd, (st.st_mode & 07777) | S_IRUSR | S_IWUSR);
    }
out:
    if (rc < 0)
        release(&a);
    *pa = a;
    return rc;
}

int ss_atomic_write(ss_atomic *a, const void *data, size_t n, ss_err *e)
{
    const char *p = data;
    while (n > 0) {
        ssize_t k = write(a->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return ss_err_errno(e, "cannot write '%s'", a->straight ? a->path : a->tmp);
        p += k;
        n -= (size_t)k;
    }
    return SS_OK;
}

static int sync_folder(const char *path, ss_err *e)
{
    char *folder = ss_strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
    if (!folder)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a file name");
    if (slash)
        slash[slash == folder] = 0;
    int rc = SS_OK, fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: the file system has no such thing as an fsync of a folder. */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        rc = ss_err_errno(e, "'%s' is in place but may not be durable: cannot fsync its folder", path);
    if (fd >= 0)
        close(fd);
    ss_free(folder);
    return rc;
}

/* tmp becomes path and, when asked, path becomes path.prev; path never leads to nothing while both exist. */
static int put_in_place(const ss_atomic *a, ss_err *e)
{
    if (a->flags & SS_ATOMIC_KEEP && access(a->path, F_OK) == 0) {
        char *prev = ss_atomic_previous(a->path);
        int rc = SS_OK;
        if (!prev)
            return ss_err_set(e, SS_ENOMEM, "cannot allocate a file name");
        if (renameat2(AT_FDCWD, a->tmp, AT_FDCWD, a->path, RENAME_EXCHANGE) == 0) {
            if (rename(a->tmp, prev) < 0)
                rc = ss_err_errno(e, "cannot rename '%s' to '%s'", a->tmp, prev);
            ss_free(prev);
            return rc;
        }
        /* No exchange on this file system: for a moment there is only NAME.prev, which readers fall back to.
         */
        if (rename(a->path, prev) < 0)
            rc = ss_err_errno(e, "cannot rename '%s' to '%s'", a->path, prev);
        ss_free(prev);
        if (rc < 0)
            return rc;
    }
    if (rename(a->tmp, a->path) < 0)
        return ss_err_errno(e, "cannot rename '%s' to '%s'", a->tmp, a->path);
    return SS_OK;
}

int ss_atomic_commit(ss_atomic **pa, ss_atomic_verify verify, void *arg, ss_err *e)
{
    ss_atomic *a = *pa;
    int rc = SS_OK;
    if (!a->straight) {
        if (fsync(a->fd) < 0) {
            rc = ss_err_errno(e, "cannot fsync '%s'", a->tmp);
            goto out;
        }
        /* Clean pages go, so that a verification reads what the disk holds. */
        if (verify)
            posix_fadvise(a->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    int closed = close(a->fd);
    a->fd = -1;
    if (closed < 0) {
        rc = ss_err_errno(e, "cannot close '%s'", a->straight ? a->path : a->tmp);
        goto out;
    }
    if (a->straight)
        goto out;
    rc = put_in_place(a, e);
    if (rc == SS_OK)
        rc = sync_folder(a->path, e);
    if (rc == SS_OK && verify) {
        rc = verify(a->path, arg, e);
        if (rc < 0)
            ss_err_prefix(e, "verifying what was written");
    }
out:
    if (rc < 0)
        ss_atomic_abort(pa);
    else
        release(pa);
    return rc;
}

void ss_atomic_abort(ss_atomic **pa)
{
    ss_atomic *a = *pa;
    if (!a)
        return;
    /* Between the two renames of a kept file the name leads to the old one: only ours is removed. */
    struct stat ours, named;
    if (!a->straight && fstat(a->lock, &ours) == 0 && stat(a->tmp, &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
        unlink(a->tmp);
    release(pa);
}

int ss_atomic_put(const char *path, unsigned flags, const void *data, size_t n, ss_err *e)
{
    ss_atomic *a;
    int rc = ss_atomic_open(&a, path, flags, e);
    if (rc < 0)
        return rc;
    rc = ss_atomic_write(a, data, n, e);
    if (rc < 0) {
        ss_atomic_abort(&a);
        return rc;
    }
    return ss_atomic_commit(&a, NULL, NULL, e);
}
