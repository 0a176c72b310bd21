#include "io/journal.h"

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
#include "io/stream_internal.h"

enum {
    SEGMENT = 4 << 20,
    DIGITS = 20,    /* of a name: all 64 bits */
    SMALLEST = 44,  /* bytes of a record */
    LOOK = 1 << 16, /* bytes at a time, when a whole record is looked for behind damage */
    LOCK_TRIES = 50,
    LOCK_MS = 20 /* between two of them */
};

typedef struct segment {
    uint64_t id; /* never used again */
    uint64_t first, count;
    uint64_t
        bytes; /* all of it; those before `filed` are in the file and durable (no_sync: only in the file), */
    uint64_t filed;    /* the rest is what `w` has pending */
    uint64_t written;  /* bytes that are in the file; with sync, filed <= written */
    uint64_t preamble; /* bytes before the first record */
    uint64_t ended;    /* bytes before the end record, 0 = there is none */
    ss_writer *w;      /* of the last one, and of all in memory */
    int fd;            /* of the last one, -1 = the file is not made yet */
    bool unnamed;      /* its entry in the folder is not durable yet */
    bool bad;          /* an fsync has failed: to be replaced */
    bool over;         /* a file of its name is there, whose place it takes */
} segment;

struct ss_journal {
    ss_journal_config c;
    int dirfd;
    char *dir, *path, *path2; /* the folder's name; room for two names in it */
    segment *seg;
    size_t n;
    bool live; /* the last segment is being appended to */
    ss_header header;
    char *text, *live_text; /* headers as text: to use, and of the last segment */
    uint64_t next, durable, ids;
};

struct ss_journal_cursor {
    ss_journal *j;
    uint64_t index;
    uint64_t id, read, at; /* segment, records and bytes read of it */
    int fd;
    ss_reader *r;
    const ss_header *header;
    char *text; /* of the header of the last record given */
};

static int no_memory(ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "journal: out of memory");
}

static const char *name_of(ss_journal *j, uint64_t first)
{
    sprintf(j->path, "%s/%0*" PRIu64 ".sst", j->dir, DIGITS, first);
    return j->path;
}

static segment *last(const ss_journal *j)
{
    return &j->seg[j->n - 1];
}

static segment *by_id(const ss_journal *j, uint64_t id)
{
    for (size_t i = j->n; i--;)
        if (j->seg[i].id == id)
            return &j->seg[i];
    return NULL;
}

/* The last segment that begins at or before `index`, or the first one. */
static segment *holding(const ss_journal *j, uint64_t index)
{
    size_t a = 0, b = j->n;
    while (b - a > 1) {
        size_t m = (a + b) / 2;
        if (j->seg[m].first <= index)
            a = m;
        else
            b = m;
    }
    return b ? &j->seg[a] : NULL;
}

static int push(ss_journal *j, segment s, ss_err *e)
{
    segment *more = ss_realloc(j->seg, j->n + 1, sizeof *more);
    if (!more)
        return no_memory(e);
    s.id = ++j->ids;
    j->seg = more;
    j->seg[j->n++] = s;
    return SS_OK;
}

static void forget(ss_journal *j, size_t i)
{
    ss_writer_close(&j->seg[i].w);
    if (j->seg[i].fd >= 0)
        close(j->seg[i].fd);
    j->n--;
    memmove(j->seg + i, j->seg + i + 1, (j->n - i) * sizeof *j->seg);
}

uint64_t ss_journal_first(const ss_journal *j)
{
    return j->n ? j->seg[0].first : j->next;
}

uint64_t ss_journal_next(const ss_journal *j)
{
    return j->next;
}

uint64_t ss_journal_durable(const ss_journal *j)
{
    return j->durable;
}

uint64_t ss_journal_bytes(const ss_journal *j)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < j->n; i++)
        sum += j->seg[i].bytes;
    return sum;
}

uint64_t ss_journal_segment_end(const ss_journal *j, uint64_t index)
{
    segment *s = holding(j, index);
    if (!s)
        return j->next;
    return s == last(j) ? j->next : s[1].first;
}

/* ---- files ---- */

static int write_some(int fd, const uint8_t *p, size_t n, uint64_t *done)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        p += k;
        n -= (size_t)k;
        *done += (uint64_t)k;
    }
    return 0;
}

/* Make the file of the last segment. One whose place it takes goes at the moment the new one is there, so
 * that the name, which keeps the count, always is. */
static int make_file(ss_journal *j, segment *s, ss_err *e)
{
    const char *path = name_of(j, s->first);
    sprintf(j->path2, "%s/new", j->dir);
    s->fd = open(s->over ? j->path2 : path,
                 O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (s->over ? O_TRUNC : O_EXCL), 0600);
    if (s->fd < 0)
        return ss_err_errno(e, "cannot create '%s'", path);
    if (s->over && rename(j->path2, path)) {
        int rc = ss_err_errno(e, "cannot replace '%s'", path);
        unlink(j->path2);
        close(s->fd);
        s->fd = -1;
        return rc;
    }
    s->over = true;
    s->unnamed = true;
    s->written = 0;
    return SS_OK;
}

/* In `s`, an fsync has failed. What is not durable goes to a new segment behind it. */
static int replace(ss_journal *j, segment *s, ss_err *e)
{
    size_t n;
    ss_writer *w;
    const uint8_t *p = ss_writer_pending(s->w, &n);
    uint64_t skip = s->filed < s->preamble ? s->preamble - s->filed : 0;
    uint64_t end = s->ended ? s->ended - s->filed : n; /* no more of it is wanted */
    int rc = ss_writer_open_memory(&w, &j->header, e);
    if (rc)
        return rc;
    segment new = {.first = j->durable,
                   .count = s->first + s->count - j->durable,
                   .preamble = ss_writer_offset(w),
                   .w = w,
                   .fd = -1};
    rc = ss_writer_put_encoded(w, p + skip, end - skip, e);
    new.bytes = ss_writer_offset(w);
    bool keep = j->durable > s->first;
    if (!rc && keep) {
        uint64_t id = s->id;
        rc = push(j, new, e);
        s = by_id(j, id);
    }
    if (rc) {
        ss_writer_close(&w);
        return rc;
    }
    /* Best effort: records behind the count are not read anyway. */
    if (s->fd >= 0 && keep)
        (void)!ftruncate(s->fd, (off_t)s->filed);
    if (s->fd >= 0)
        close(s->fd);
    ss_writer_close(&s->w);
    if (keep) {
        s->fd = -1;
        s->bytes = s->filed;
        s->count = j->durable - s->first;
        s->bad = false;
    } else {
        new.id = ++j->ids;
        new.over = s->over;
        *s = new;
    }
    return SS_OK;
}

/* What the last segment has in memory, into its file. */
static int file_it(ss_journal *j, ss_err *e)
{
    int rc = SS_OK;
    segment *s = last(j);
    if (s->bad) {
        rc = replace(j, s, e);
        s = last(j);
    }
    if (!rc && s->fd < 0)
        rc = make_file(j, s, e);
    if (rc)
        return rc;
    size_t n;
    const uint8_t *p = ss_writer_pending(s->w, &n);
    uint64_t in = s->written - s->filed;
    if (write_some(s->fd, p + in, n - in, &s->written))
        rc = ss_err_errno(e, "cannot write '%s'", name_of(j, s->first));
    if (j->c.no_sync) {
        ss_writer_drained(s->w, s->written - s->filed);
        s->filed = s->written;
    }
    return rc;
}

/* Write and make durable what the last segment has. */
static int sync_it(ss_journal *j, ss_err *e)
{
    int rc = file_it(j, e);
    segment *s = last(j);
    if (!rc && !j->c.no_sync && (s->written > s->filed || s->unnamed)) {
        if (fsync(s->fd))
            rc = ss_err_errno(e, "cannot fsync '%s'", name_of(j, s->first));
        /* EINVAL: the file system has no such thing as an fsync of a folder. */
        else if (s->unnamed && fsync(j->dirfd) && errno != EINVAL)
            rc = ss_err_errno(e, "cannot fsync '%s'", j->dir);
        if (rc) {
            s->bad = true;
            return rc;
        }
        s->unnamed = false;
        ss_writer_drained(s->w, s->written - s->filed);
        s->filed = s->written;
    }
    if (!rc)
        j->durable = j->next;
    return rc;
}

int ss_journal_write(ss_journal *j, ss_err *e)
{
    return j->live && j->dir ? file_it(j, e) : SS_OK;
}

int ss_journal_sync(ss_journal *j, ss_err *e)
{
    if (j->live && j->dir)
        return sync_it(j, e);
    j->durable = j->next;
    return SS_OK;
}

/* End the last segment: nothing more is appended to it. On failure it goes on as it was, or, when even its
 * end could be put but not synced, takes nothing more until this succeeds. */
static int finish(ss_journal *j, ss_err *e)
{
    if (!j->live)
        return SS_OK;
    if (!j->dir) {
        ss_writer_fit(last(j)->w);
        j->live = false;
        return SS_OK;
    }
    int rc = sync_it(j, e);
    segment *s = last(j);
    if (!rc && !s->ended) {
        uint64_t end = ss_writer_offset(s->w);
        rc = ss_writer_end(s->w, e);
        if (!rc) {
            s->ended = end;
            s->bytes = ss_writer_offset(s->w);
            rc = sync_it(j, e);
            s = last(j);
        }
    }
    if (rc)
        return rc;
    if (!s->ended) /* it was replaced on the way */
        return finish(j, e);
    ss_writer_close(&s->w);
    int fd = s->fd;
    s->fd = -1;
    j->live = false;
    if (close(fd) && j->c.no_sync) /* after an fsync there is nothing left to fail */
        return ss_err_errno(e, "cannot close '%s'", name_of(j, s->first));
    return SS_OK;
}

/* Begin a segment under the header in use. */
static int begin(ss_journal *j, ss_err *e)
{
    ss_writer *w;
    char *text = ss_strdup(j->text);
    if (!text)
        return no_memory(e);
    int rc = ss_writer_open_memory(&w, &j->header, e);
    if (rc) {
        ss_free(text);
        return rc;
    }
    segment s = {.first = j->next, .w = w, .fd = -1};
    s.bytes = s.preamble = ss_writer_offset(w);
    if (j->n && !last(j)->count && last(j)->first == j->next) { /* an empty one that kept the count */
        s.over = j->dir != NULL;
        s.id = ++j->ids;
        ss_writer_close(&last(j)->w);
        *last(j) = s;
    } else {
        rc = push(j, s, e);
    }
    if (rc) {
        ss_writer_close(&w);
        ss_free(text);
        return rc;
    }
    ss_free(j->live_text);
    j->live_text = text;
    j->live = true;
    return SS_OK;
}

/* ---- opening ---- */

/* Bytes from `from` on: is there the head of a record behind the damage? 1, 0 or negative. */
static int whole_behind(int fd, uint64_t from, uint64_t size)
{
    uint8_t *b = ss_alloc(LOOK + SS_MAX_HEAD, 1);
    int found = b ? 0 : SS_ENOMEM;
    for (uint64_t at = from + 1; at < size && !found; at += LOOK) {
        ssize_t n = pread(fd, b, LOOK + SS_MAX_HEAD, (off_t)at);
        if (n < 0)
            found = SS_EIO;
        for (ssize_t i = 0; i < n && i < LOOK && !found; i++)
            found = ss_record_head_at(b + i, (size_t)(n - i));
    }
    ss_free(b);
    return found;
}

/* Put an end record behind the `count` records before `bytes`, cut off what is behind, make it durable. */
static int mend(ss_journal *j, int fd, const char *path, uint64_t bytes, uint64_t count, uint32_t running,
                uint64_t *size, ss_err *e)
{
    ss_writer *w;
    size_t n;
    int rc = ss_writer_open_behind(&w, count, running, e);
    if (!rc)
        rc = ss_writer_end(w, e);
    if (!rc) {
        const uint8_t *p = ss_writer_pending(w, &n);
        *size = bytes;
        if (ftruncate(fd, (off_t)bytes) || lseek(fd, (off_t)bytes, SEEK_SET) < 0 ||
            write_some(fd, p, n, size))
            rc = ss_err_errno(e, "cannot write '%s'", path);
        else if (!j->c.no_sync && fsync(fd))
            rc = ss_err_errno(e, "cannot fsync '%s'", path);
    }
    ss_writer_close(&w);
    return rc;
}

/* Read the newest segment through, to learn how many records it has and where it was torn. 0, 1 with e->text.
 */
static int inspect(ss_journal *j, segment *s, ss_err *e)
{
    ss_reader *r = NULL;
    const ss_header *h;
    const ss_record *rec;
    ss_err why = {0};
    struct stat st;
    uint64_t good = 0;
    uint32_t running = 0;
    const char *path = name_of(j, s->first);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st)) {
        int rc = ss_err_errno(e, "cannot open '%s'", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    s->bytes = (uint64_t)st.st_size;
    int rc = ss_reader_open(&r, fd, NULL, e);
    if (rc)
        goto out;
    rc = ss_reader_header(r, &h, &why);
    if (!rc)
        do {
            good = ss_reader_offset(r);
            running = ss_reader_running(r);
            s->count = ss_reader_count(r);
            rc = ss_reader_next(r, &rec, &why);
        } while (rc > 0);
    if (!rc)
        goto out;
    if (rc == SS_ENOMEM) {
        rc = no_memory(e);
        goto out;
    }
    int torn = rc == SS_ETRUNC;
    if (rc == SS_EDAMAGED)
        torn = !whole_behind(fd, good, s->bytes);
    if (!torn) { /* what it holds behind the damage is not known: leave numbers for all of it */
        ss_err_set(e, rc, "'%s' is damaged: %s", path, why.text);
        s->count += (s->bytes - good) / SMALLEST + 1;
        rc = 1;
        goto out;
    }
    uint64_t had = s->bytes;
    if (good)
        rc = mend(j, fd, path, good, s->count, running, &s->bytes, e);
    else
        rc = SS_OK; /* not even a header: it stays as an empty one that keeps the count */
    if (!rc && had > good) {
        ss_err_set(e, SS_OK, "'%s' was torn: %" PRIu64 " bytes cut off behind record %" PRIu64 " (%s)", path,
                   had - good, s->count, why.text);
        rc = 1;
    }
out:
    ss_reader_close(&r);
    if (close(fd) && rc >= 0)
        rc = ss_err_errno(e, "cannot close '%s'", name_of(j, s->first));
    return rc;
}

static int by_first(const void *a, const void *b)
{
    const segment *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The segments that are there. */
static int list(ss_journal *j, ss_err *e)
{
    DIR *d = opendir(j->dir);
    if (!d)
        return ss_err_errno(e, "cannot list '%s'", j->dir);
    int rc = SS_OK;
    struct dirent *f;
    while (!rc && (errno = 0, f = readdir(d))) {
        struct stat st;
        char *end;
        if (strspn(f->d_name, "0123456789") != DIGITS || strcmp(f->d_name + DIGITS, ".sst"))
            continue;
        errno = 0;
        segment s = {.fd = -1, .first = strtoull(f->d_name, &end, 10), .over = true};
        if (errno || stat(name_of(j, s.first), &st) || !S_ISREG(st.st_mode))
            continue;
        s.bytes = s.filed = s.written = (uint64_t)st.st_size;
        rc = push(j, s, e);
    }
    if (!rc && errno)
        rc = ss_err_errno(e, "cannot list '%s'", j->dir);
    closedir(d);
    if (j->n)
        qsort(j->seg, j->n, sizeof *j->seg, by_first);
    for (size_t i = 0; i + 1 < j->n; i++)
        j->seg[i].count = j->seg[i + 1].first - j->seg[i].first;
    return rc;
}

/* What a killed process had just forked, to run a command, has its descriptors for some moments. */
static int lock(int fd)
{
    int rc;
    for (int i = 0; (rc = flock(fd, LOCK_EX | LOCK_NB)) && errno == EWOULDBLOCK && i < LOCK_TRIES; i++)
        ss_clock_sleep_until(ss_clock_mono_ns() + LOCK_MS * 1000000LL);
    return rc;
}

static int open_folder(ss_journal *j, ss_err *e)
{
    if (mkdir(j->dir, 0700) && errno != EEXIST)
        return ss_err_errno(e, "cannot create '%s'", j->dir);
    j->dirfd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dirfd < 0)
        return ss_err_errno(e, "cannot open '%s'", j->dir);
    if (lock(j->dirfd)) {
        if (errno == EWOULDBLOCK)
            return ss_err_set(e, SS_EIO, "'%s' is in use by another process", j->dir);
        return ss_err_errno(e, "cannot lock '%s'", j->dir);
    }
    int rc = list(j, e);
    if (rc || !j->n)
        return rc;
    rc = inspect(j, last(j), e);
    if (rc < 0)
        return rc;
    segment *s = last(j);
    s->filed = s->written = s->bytes;
    j->durable = j->next = s->first + s->count;
    return rc;
}

static void release(ss_journal **pj)
{
    ss_journal *j = *pj;
    while (j->n)
        forget(j, j->n - 1);
    ss_header_clear(&j->header);
    ss_free(j->text);
    ss_free(j->live_text);
    ss_free(j->seg);
    ss_free(j->dir);
    ss_free(j->path);
    ss_free(j->path2);
    if (j->dirfd >= 0)
        close(j->dirfd);
    ss_free(j);
    *pj = NULL;
}

int ss_journal_open(ss_journal **out, const char *dir, const ss_journal_config *c, ss_err *e)
{
    ss_journal *j = *out = ss_zalloc(1, sizeof *j);
    if (!j)
        return no_memory(e);
    j->dirfd = -1;
    if (c)
        j->c = *c;
    if (!j->c.segment_bytes)
        j->c.segment_bytes = SEGMENT;
    int rc = SS_OK;
    if (dir) {
        j->dir = ss_strdup(dir);
        j->path = ss_alloc(strlen(dir) + DIGITS + 6, 1);
        j->path2 = ss_alloc(strlen(dir) + DIGITS + 6, 1);
        rc = j->dir && j->path && j->path2 ? open_folder(j, e) : no_memory(e);
    }
    if (j->next < j->c.next)
        j->next = j->durable = j->c.next;
    if (rc < 0)
        release(out);
    return rc;
}

int ss_journal_close(ss_journal **pj, ss_err *e)
{
    if (!pj || !*pj)
        return SS_OK;
    int rc = finish(*pj, e);
    release(pj);
    return rc;
}

/* ---- appending and trimming ---- */

int ss_journal_header(ss_journal *j, const ss_header *h, ss_err *e)
{
    ss_header copy = {0};
    char *text = NULL;
    int rc = ss_header_print(h, &text, e);
    if (!rc && j->text && !strcmp(j->text, text)) {
        ss_free(text);
        return SS_OK;
    }
    /* The old one has to stay as long as what is not durable may have to be written again. */
    if (!rc)
        rc = finish(j, e);
    if (!rc)
        rc = ss_header_copy(&copy, h, e);
    if (rc) {
        ss_free(text);
        return rc;
    }
    ss_header_clear(&j->header);
    ss_free(j->text);
    j->header = copy;
    j->text = text;
    return SS_OK;
}

int64_t ss_journal_append(ss_journal *j, const ss_record *rec, ss_err *e)
{
    if (!j->text)
        return ss_err_set(e, SS_EINVAL, "journal: a record without a header");
    int rc = SS_OK;
    if (j->c.max_bytes && ss_journal_bytes(j) + ss_record_bytes(rec) > j->c.max_bytes)
        return ss_err_set(e, SS_ELIMIT,
                          "journal: a record of %zu bytes behind %" PRIu64 ", the limit is %" PRIu64,
                          ss_record_bytes(rec), ss_journal_bytes(j), j->c.max_bytes);
    if (j->live && (last(j)->bytes >= j->c.segment_bytes || last(j)->ended)) {
        rc = finish(j, e);
        /* A disk that takes nothing is no reason to refuse what memory can take, up to a bound. */
        if (rc == SS_EIO && !last(j)->ended && last(j)->bytes - last(j)->filed < 2 * j->c.segment_bytes)
            rc = SS_OK;
    }
    if (!rc && !j->live)
        rc = begin(j, e);
    if (!rc)
        rc = ss_writer_put(last(j)->w, rec, e);
    if (rc)
        return rc;
    segment *s = last(j);
    s->count++;
    s->bytes = ss_writer_offset(s->w);
    return (int64_t)j->next++;
}

/* The name of the last segment keeps the count: it has to be there, if only of an empty file, before others
 * go. */
static int keep_count(ss_journal *j, ss_err *e)
{
    if (!j->live || !j->dir || last(j)->fd >= 0)
        return SS_OK;
    int rc = last(j)->bad ? SS_OK : make_file(j, last(j), e);
    if (!rc && !j->c.no_sync && fsync(j->dirfd) && errno != EINVAL)
        rc = ss_err_errno(e, "cannot fsync '%s'", j->dir);
    return rc;
}

int ss_journal_trim(ss_journal *j, uint64_t before, ss_err *e)
{
    int rc = SS_OK;
    if (before >= j->next && j->n && last(j)->count && j->text) {
        /* Nobody wants any more what the last one has: it need not be written. */
        segment *s = last(j);
        ss_writer_close(&s->w);
        if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
        s->bad = false;
        s->bytes = s->filed = s->written;
        j->live = false;
        j->durable = j->next;
        rc = begin(j, e);
    }
    if (!rc && j->n > 1 && j->seg[0].first + j->seg[0].count <= before)
        rc = keep_count(j, e);
    while (!rc && j->n > 1 && j->seg[0].first + j->seg[0].count <= before) {
        if (j->dir && unlink(name_of(j, j->seg[0].first)) && errno != ENOENT)
            rc = ss_err_errno(e, "cannot remove '%s'", j->path);
        else
            forget(j, 0);
    }
    return rc;
}

/* The records of the segments up to `t` through the filter. */
static int copy_through(ss_journal_cursor *c, const segment *t, ss_writer **w, ss_journal_filter fn,
                        void *arg, ss_err *e)
{
    const ss_record *rec;
    int rc = ss_journal_cursor_next(c, &rec, e);
    if (rc < 0)
        return rc;
    if (!rc)
        return ss_err_set(e, SS_EINVAL, "journal: nothing to write anew");
    rc = ss_writer_open_memory(w, c->header, e);
    while (!rc) {
        rc = fn(arg, *w, rec, e);
        if (rc || c->index >= t->first + t->count)
            break;
        rc = ss_journal_cursor_next(c, &rec, e);
        if (rc >= 0 &&
            c->index > t->first + t->count) { /* it had fewer than numbers: that was the next one's */
            rc = SS_OK;
            break;
        }
        if (rc == 2)
            return ss_err_set(e, SS_EUNFIT, "journal: segments of different headers");
        rc = rc < 0 ? rc : SS_OK;
    }
    return rc ? rc : fn(arg, *w, NULL, e);
}

/* Bytes into the file of the segment that begins with record `first`, in the place of what it holds. */
static int put_file(ss_journal *j, uint64_t first, const uint8_t *p, size_t n, ss_err *e)
{
    uint64_t done = 0;
    const char *path = name_of(j, first);
    sprintf(j->path2, "%s/new", j->dir);
    unlink(j->path2);
    int fd = open(j->path2, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool failed = fd < 0 || write_some(fd, p, n, &done) || (!j->c.no_sync && fsync(fd));
    if (fd >= 0 && close(fd))
        failed = true;
    if (!failed && !rename(j->path2, path))
        return !j->c.no_sync && fsync(j->dirfd) && errno != EINVAL
                   ? ss_err_errno(e, "cannot fsync '%s'", j->dir)
                   : SS_OK;
    int rc = ss_err_errno(e, "cannot write '%s' anew", path);
    unlink(j->path2);
    return rc;
}

int ss_journal_rewrite(ss_journal *j, uint64_t index, uint64_t end, ss_journal_filter fn, void *arg,
                       ss_err *e)
{
    segment *s = holding(j, index), *t = s;
    if (!s || s == last(j))
        return ss_err_set(e, SS_EINVAL, "journal: the last segment is not written anew");
    while (t + 1 != last(j) && t[1].first < end)
        t++;
    ss_journal_cursor *c;
    ss_writer *w = NULL;
    size_t n;
    int rc = ss_journal_cursor_open(&c, j, s->first, e);
    if (!rc)
        rc = copy_through(c, t, &w, fn, arg, e);
    ss_journal_cursor_close(&c);
    if (!rc && ss_writer_count(w) > t->first + t->count - s->first)
        rc = ss_err_set(e, SS_EINVAL, "journal: more records than there were");
    if (!rc && j->dir)
        rc = ss_writer_end(w, e);
    if (!rc && j->dir) {
        const uint8_t *p = ss_writer_pending(w, &n);
        rc = put_file(j, s->first, p, n, e);
    }
    if (rc) {
        ss_writer_close(&w);
        return rc;
    }
    s->id = ++j->ids;
    s->count = ss_writer_count(w);
    s->bytes = ss_writer_offset(w);
    ss_writer_close(&s->w);
    if (j->dir)
        s->filed = s->written = s->bytes;
    if (j->dir)
        ss_writer_close(&w);
    else
        ss_writer_fit(w);
    s->w = w;
    for (size_t k = (size_t)(t - s), at = (size_t)(s - j->seg) + 1; k && !rc; k--) {
        if (j->dir && unlink(name_of(j, j->seg[at].first)) && errno != ENOENT)
            rc = ss_err_errno(e, "cannot remove '%s'", j->path);
        else
            forget(j, at);
    }
    return rc;
}

/* ---- cursors ---- */

/* Bytes of the segment, from the file or from the memory of who writes it. */
static ssize_t give(void *arg, void *to, size_t n, ss_err *e)
{
    ss_journal_cursor *c = arg;
    segment *s = by_id(c->j, c->id);
    ssize_t k = 0;
    if (s && c->at < s->filed) {
        if (n > s->filed - c->at)
            n = s->filed - c->at;
        while ((k = pread(c->fd, to, n, (off_t)c->at)) < 0 && errno == EINTR)
            ;
        if (k < 0)
            return ss_err_errno(e, "cannot read");
    } else if (s && s->w) {
        size_t have;
        const uint8_t *p = ss_writer_pending(s->w, &have);
        have -= c->at - s->filed;
        k = (ssize_t)(have < n ? have : n);
        memcpy(to, p + (c->at - s->filed), (size_t)k);
    }
    c->at += (uint64_t)k;
    return k;
}

static void leave(ss_journal_cursor *c)
{
    ss_reader_close(&c->r);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->id = 0;
    c->header = NULL;
}

static int enter(ss_journal_cursor *c, segment *s, ss_err *e)
{
    leave(c);
    c->read = c->at = 0;
    c->id = s->id;
    if (c->j->dir && s->filed) {
        c->fd = open(name_of(c->j, s->first), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (c->fd < 0)
            return ss_err_errno(e, "cannot open '%s'", c->j->path);
    }
    return ss_reader_open_source(&c->r, give, c, NULL, e);
}

int ss_journal_cursor_open(ss_journal_cursor **out, ss_journal *j, uint64_t index, ss_err *e)
{
    ss_journal_cursor *c = *out = ss_zalloc(1, sizeof *c);
    if (!c)
        return no_memory(e);
    c->j = j;
    c->index = index;
    c->fd = -1;
    return SS_OK;
}

void ss_journal_cursor_close(ss_journal_cursor **c)
{
    if (!c || !*c)
        return;
    leave(*c);
    ss_free((*c)->text);
    ss_free(*c);
    *c = NULL;
}

uint64_t ss_journal_cursor_index(const ss_journal_cursor *c)
{
    return c->index;
}

const ss_header *ss_journal_cursor_header(const ss_journal_cursor *c)
{
    return c->header;
}

/* Is the header of this segment another one than that of the record given last? 1, 0 or negative. */
static int changed(ss_journal_cursor *c, const ss_header *h, ss_err *e)
{
    char *text;
    int rc = ss_header_print(h, &text, e);
    if (rc)
        return rc;
    bool same = c->text && !strcmp(c->text, text);
    if (same) {
        ss_free(text);
    } else {
        ss_free(c->text);
        c->text = text;
    }
    return !same;
}

int ss_journal_cursor_next(ss_journal_cursor *c, const ss_record **rec, ss_err *e)
{
    ss_journal *j = c->j;
    *rec = NULL;
    for (;;) {
        if (c->index < ss_journal_first(j))
            c->index = ss_journal_first(j);
        segment *s = holding(j, c->index);
        if (!s || c->index >= j->next)
            return 0;
        if (c->index >= s->first + s->count) { /* a hole */
            if (s == last(j))
                return 0;
            c->index = s[1].first;
            continue;
        }
        ss_err why = {0};
        const ss_header *h = c->header;
        int rc = SS_OK, new = 0;
        bool stay = false;
        /* What was in memory when it was entered may be in the file only by now. */
        if (c->id != s->id || (c->fd < 0 && j->dir && c->at < s->filed)) {
            rc = enter(c, s, &why);
            stay = rc && errno != ENOENT; /* no descriptor, say: not the segment's fault */
        }
        if (!rc && !c->header)
            rc = ss_reader_header(c->r, &h, &why);
        while (!rc && c->read <= c->index - s->first) {
            rc = ss_reader_next(c->r, rec, &why);
            if (rc <= 0)
                break;
            c->read++;
            rc = SS_OK;
        }
        if (!rc && !*rec) { /* a whole segment that has fewer: it was written anew */
            s->count = c->read;
            continue;
        }
        if (!rc && !c->header)
            rc = new = changed(c, h, &why);
        if (rc < 0) {
            *rec = NULL;
            leave(c);
            ss_err_prefix(&why, "'%s'", j->dir ? name_of(j, s->first) : "journal in memory");
            if (e)
                *e = why;
            if (rc == SS_ENOMEM || stay)
                return rc;
            c->index = s->first + s->count;
            return rc == SS_EIO ? rc : SS_EDAMAGED;
        }
        c->header = h;
        c->index++;
        return new ? 2 : 1;
    }
}
