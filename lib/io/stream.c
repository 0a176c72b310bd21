#include "io/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "io/stream_internal.h"

static const uint8_t magic[8] = {0x89, 'S', 'S', 'T', '\r', '\n', 0x1a, '\n'};

enum {
    BUFFER = 65536, /* what a pipe holds, so that the other side finds it full or empty */
    PIECE = 262144, /* most of a payload at a time: checksum and copy share the cache */
    PREAMBLE = 16,  /* magic, version, length of the JSON */
    FIXED = 12,     /* length .. reserved */
    WHO = 28,       /* device, epoch, seq, time */
    MAX_ATTR_BYTES = SS_ATTR_MAX * 9,
    MAX_HEADER = FIXED + 4 * SS_MAX_RANK + WHO + MAX_ATTR_BYTES,
    RESERVED_FLAGS = 0xf0,
    LEAD = SS_MAX_HEAD, /* room in front of a read for what is left of the one before: the most of a header */
    DIRECT = 16384,     /* pieces of a payload from here on are written and read where they lie */
    IDLE = 1 << 20,     /* a writer to memory keeps so much of it when it is drained */
    GROWTH = 4,         /* so that old and new buffer together stay below 1.25 times the cap */
    FIRST = 262144,     /* bytes that a payload buffer may have before any of them has come */
    AT_ONCE = 1 << 20, /* bytes of a payload buffer that may be there before they are needed: it is quicker */
    WATCH_MS = 250     /* how often a waiting reader looks at its stop flag */
};

/* Fuzzers would never get past a checksum. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define DIFFER(a, b) ((void)(a), (void)(b), 0)
#else
#define DIFFER(a, b) ((a) != (b))
#endif

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static uint8_t *put_le(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> 8 * i);
    return p + bytes;
}

static bool is_known(int type)
{
    return (type >= SS_TYPE_DATA && type <= SS_TYPE_MIXTURE) || type == SS_TYPE_END ||
           type == SS_TYPE_KEEPALIVE;
}

/* Elements of a shape into *out, or false when the product of its dims other than 0 passes `max`. */
static bool elements(const uint32_t *dim, int rank, uint64_t max, uint64_t *out)
{
    uint64_t n = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (!dim[i])
            empty = true;
        else if (n > max / dim[i])
            return false;
        else
            n *= dim[i];
    }
    *out = empty ? 0 : n;
    return true;
}

/* ---- writer ---- */

struct ss_writer {
    int fd;
    bool ended, widened;
    int failed; /* the code that every later call returns again */
    int failed_errno;
    size_t n; /* bytes waiting in buf */
    uint64_t count, offset;
    uint32_t running; /* checksum over the checksums of all before */
    bool memory; /* bytes are collected in mem: from..from + n of them are pending, and there is no buf */
    uint8_t *mem;
    size_t from, room;
    uint8_t buf[BUFFER];
};

static int writer_fails(ss_writer *w, ss_err *e, const char *what)
{
    w->failed_errno = errno;
    w->failed = ss_err_errno(e, "%s", what);
    return w->failed;
}

static int writer_usable(const ss_writer *w, ss_err *e)
{
    if (w->failed) {
        errno = w->failed_errno;
        return ss_err_errno(e, "cannot write");
    }
    if (w->ended)
        return ss_err_set(e, SS_EINVAL, "stream is written to after its end");
    return SS_OK;
}

/* Write all of iov [n], which is used up on the way. */
static int write_all(ss_writer *w, struct iovec *iov, int n, ss_err *e)
{
    while (n) {
        if (!iov->iov_len) {
            iov++;
            n--;
            continue;
        }
        ssize_t k = writev(w->fd, iov, n);
        if (k < 0 && errno == EAGAIN) {
            struct pollfd p = {w->fd, POLLOUT, 0};
            poll(&p, 1, -1);
        } else if (k < 0 && errno != EINTR) {
            return writer_fails(w, e, "cannot write");
        }
        for (size_t left = k > 0 ? (size_t)k : 0; left;) {
            size_t part = left < iov->iov_len ? left : iov->iov_len;
            iov->iov_base = (char *)iov->iov_base + part;
            iov->iov_len -= part;
            left -= part;
            if (!iov->iov_len) {
                iov++;
                n--;
            }
        }
    }
    return SS_OK;
}

/* Write what waits, and data [n] behind it. */
static int write_out(ss_writer *w, const void *data, size_t n, ss_err *e)
{
    struct iovec iov[2] = {{w->buf, w->n}, {(void *)data, n}};
    w->n = 0;
    return write_all(w, iov, n ? 2 : 1, e);
}

int ss_writer_flush(ss_writer *w, ss_err *e)
{
    if (w->memory)
        return SS_OK;
    return w->failed ? writer_usable(w, e) : write_out(w, NULL, 0, e);
}

/* A pipe of the usual size makes the two sides take turns within each large payload: give it more, if the
 * system allows. One of another size is as somebody wanted it. */
static void widen(ss_writer *w)
{
    w->widened = true;
    if (fcntl(w->fd, F_GETPIPE_SZ) == BUFFER)
        fcntl(w->fd, F_SETPIPE_SZ, PIECE);
}

/* Room for n more bytes in memory. */
static int reserve(ss_writer *w, size_t n, ss_err *e)
{
    if (w->room - w->from - w->n >= n)
        return SS_OK;
    if (w->from && w->from >= w->n && w->room - w->n >= n) {
        memcpy(w->mem, w->mem + w->from, w->n);
        w->from = 0;
        return SS_OK;
    }
    size_t room = w->n + n + w->n / 2;
    uint8_t *mem = ss_alloc(room < 4096 ? 4096 : room, 1);
    if (!mem)
        return ss_err_set(e, SS_ENOMEM, "no memory for a record of %zu bytes behind %zu that wait", n, w->n);
    if (w->n)
        memcpy(mem, w->mem + w->from, w->n);
    ss_free(w->mem);
    w->mem = mem;
    w->room = room < 4096 ? 4096 : room;
    w->from = 0;
    return SS_OK;
}

/* Put data [n]. Writes are multiples of BUFFER, whatever the records; `crc`, if there is one, goes on over
 * each piece right before it is copied, so that the copy finds it in the cache. */
static int write_bytes(ss_writer *w, const void *data, size_t n, uint32_t *crc, ss_err *e)
{
    const uint8_t *p = data;
    w->offset += n;
    if (w->memory) { /* there is room */
        if (crc)
            *crc = ss_crc32c(*crc, p, n);
        if (n)
            memcpy(w->mem + w->from + w->n, p, n);
        w->n += n;
        return SS_OK;
    }
    while (n) {
        size_t room = BUFFER - w->n, part = n;
        if (n >= room) /* up to where the buffer is full, once or several times */
            part = room + ((n < PIECE ? n : PIECE) - room) / BUFFER * BUFFER;
        if (crc)
            *crc = ss_crc32c(*crc, p, part);
        int rc = SS_OK;
        if (part >= room && part >= DIRECT) {
            rc = write_out(w, p, part, e);
        } else {
            memcpy(w->buf + w->n, p, part);
            w->n += part;
            if (part == room)
                rc = write_out(w, NULL, 0, e);
        }
        if (rc)
            return rc;
        p += part;
        n -= part;
    }
    return SS_OK;
}

static int open_writer(ss_writer **out, int fd, const ss_header *h, ss_err *e)
{
    *out = NULL;
    char *json = NULL;
    int rc = ss_header_print(h, &json, e);
    if (rc)
        return rc;
    size_t n = strlen(json);
    ss_writer *w = NULL;
    if (n > SS_STREAM_MAX_HEADER) {
        rc = ss_err_set(e, SS_ELIMIT, "header of %zu bytes, at most %d are allowed", n, SS_STREAM_MAX_HEADER);
        goto out;
    }
    w = ss_alloc(1, fd < 0 ? offsetof(ss_writer, buf) : sizeof *w);
    if (!w) {
        rc = ss_err_set(e, SS_ENOMEM, "writer: out of memory");
        goto out;
    }
    memset(w, 0, offsetof(ss_writer, buf));
    w->fd = fd;
    w->memory = fd < 0;
    rc = w->memory ? reserve(w, sizeof magic + PREAMBLE + n, e) : SS_OK;
    if (rc)
        goto out;
    uint8_t lead[PREAMBLE], tail[4], *p = lead + sizeof magic;
    memcpy(lead, magic, sizeof magic);
    p = put_le(p, SS_STREAM_MAJOR, 2);
    p = put_le(p, SS_STREAM_MINOR, 2);
    put_le(p, n, 4);
    uint32_t crc = ss_crc32c(ss_crc32c(0, lead, sizeof lead), json, n);
    put_le(tail, crc, 4);
    w->running = ss_crc32c(0, tail, 4);
    rc = write_bytes(w, lead, sizeof lead, NULL, e);
    if (!rc)
        rc = write_bytes(w, json, n, NULL, e);
    if (!rc)
        rc = write_bytes(w, tail, 4, NULL, e);
out:
    ss_free(json);
    if (rc)
        ss_writer_close(&w);
    else
        *out = w;
    return rc;
}

int ss_writer_open(ss_writer **out, int fd, const ss_header *h, ss_err *e)
{
    *out = NULL;
    return fd < 0 ? ss_err_set(e, SS_EINVAL, "descriptor %d is written to", fd) : open_writer(out, fd, h, e);
}

int ss_writer_open_memory(ss_writer **out, const ss_header *h, ss_err *e)
{
    return open_writer(out, -1, h, e);
}

const void *ss_writer_pending(const ss_writer *w, size_t *n)
{
    *n = w->n;
    return w->memory ? w->mem + w->from : w->buf;
}

void ss_writer_drained(ss_writer *w, size_t n)
{
    if (!w->memory)
        return;
    w->from += n;
    w->n -= n;
    if (w->n)
        return;
    w->from = 0;
    if (w->room > IDLE) {
        ss_free(w->mem);
        w->mem = NULL;
        w->room = 0;
    }
}

static int check_record(const ss_record *rec, ss_err *e)
{
    uint64_t n;
    if (rec->type == 0 || rec->type == SS_TYPE_END || (rec->type < 128 && !is_known(rec->type)))
        return ss_err_set(e, SS_EINVAL, "record of type %u cannot be put", rec->type);
    if (rec->flags & RESERVED_FLAGS)
        return ss_err_set(e, SS_EINVAL, "record with reserved flags 0x%02x", rec->flags & RESERVED_FLAGS);
    if (rec->rank > SS_MAX_RANK)
        return ss_err_set(e, SS_EINVAL, "record of rank %u, at most %d are allowed", rec->rank, SS_MAX_RANK);
    if (!elements(rec->dim, rec->rank, SS_STREAM_MAX_PAYLOAD, &n) || rec->size > SS_STREAM_MAX_PAYLOAD)
        return ss_err_set(e, SS_EINVAL, "record with more than %d bytes", SS_STREAM_MAX_PAYLOAD);
    size_t unit = ss_dtype_size(rec->dtype);
    if (unit || !rec->dtype) {
        if (rec->size != n * unit || (!rec->dtype && rec->rank))
            return ss_err_set(e, SS_EINVAL, "record of %zu bytes, its shape asks for %llu", rec->size,
                              (unsigned long long)(n * unit));
    } else if (rec->dtype != SS_DTYPE_PACKED && is_known(rec->type)) {
        return ss_err_set(e, SS_EINVAL, "record of unknown dtype %u", rec->dtype);
    }
    return SS_OK;
}

/* Attributes at p; returns what is behind them, or NULL when a f32 has more than 32 bits. */
static uint8_t *put_attrs(uint8_t *p, const ss_attrs *a)
{
    for (uint64_t left = a->present & ~(uint64_t)1; left; left &= left - 1) {
        int number = __builtin_ctzll(left);
        uint64_t v = a->value[number];
        int class = v >> 32 ? 3 : v >> 16 || ss_attr_is_float(number) ? 2 : v >> 8 ? 1 : 0;
        if (class == 3 && ss_attr_is_float(number))
            return NULL;
        *p++ = (uint8_t)(class << 6 | number);
        p = put_le(p, v, 1 << class);
    }
    return p;
}

static int put(ss_writer *w, const ss_record *rec, ss_err *e)
{
    uint8_t head[MAX_HEADER + 4], tail[4];
    uint8_t *attrs = head + FIXED + 4 * rec->rank + WHO;
    uint8_t *end = put_attrs(attrs, &rec->attrs), *p = head;
    if (!end)
        return ss_err_set(e, SS_EINVAL, "record with an attribute that is no f32");
    size_t n = (size_t)(end - head);
    p = put_le(p, n + (rec->size ? rec->size + 4 : 0),
               4); /* the header's own checksum for the length's bytes */
    *p++ = rec->type;
    *p++ = rec->flags;
    *p++ = rec->dtype;
    *p++ = rec->rank;
    p = put_le(p, (uint64_t)(end - attrs), 2);
    p = put_le(p, 0, 2);
    for (int i = 0; i < rec->rank; i++)
        p = put_le(p, rec->dim[i], 4);
    p = put_le(p, rec->device, 4);
    p = put_le(p, rec->epoch, 8);
    p = put_le(p, rec->seq, 8);
    put_le(p, (uint64_t)rec->time_ns, 8);
    put_le(end, ss_crc32c(0, head, n), 4);
    int rc = w->memory ? reserve(w, n + 8 + rec->size, e) : SS_OK;
    if (rc)
        return rc;
    w->running = ss_crc32c(w->running, end, 4);
    if (rec->size > BUFFER && !w->widened && !w->memory)
        widen(w);
    uint32_t crc = 0;
    rc = write_bytes(w, head, n + 4, NULL, e);
    if (!rc)
        rc = write_bytes(w, rec->data, rec->size, &crc, e);
    if (rc || !rec->size)
        return rc;
    put_le(tail, crc, 4);
    w->running = ss_crc32c(w->running, tail, 4);
    return write_bytes(w, tail, 4, NULL, e);
}

int ss_writer_put(ss_writer *w, const ss_record *rec, ss_err *e)
{
    int rc = writer_usable(w, e);
    if (!rc)
        rc = check_record(rec, e);
    if (!rc)
        rc = put(w, rec, e);
    if (!rc)
        w->count++;
    return rc;
}

int ss_writer_end(ss_writer *w, ss_err *e)
{
    int rc = writer_usable(w, e);
    if (rc)
        return rc;
    uint8_t sum[4];
    put_le(sum, w->running, 4);
    ss_record end = {.type = SS_TYPE_END, .dtype = SS_DTYPE_I32, .seq = w->count, .size = 4, .data = sum};
    rc = put(w, &end, e);
    if (rc && w->memory)
        return rc;
    if (!rc)
        rc = ss_writer_flush(w, e);
    w->ended = true;
    return rc;
}

int ss_writer_open_behind(ss_writer **out, uint64_t count, uint32_t running, ss_err *e)
{
    int rc = open_writer(out, -1, &(ss_header){0}, e);
    if (rc)
        return rc;
    ss_writer_drained(*out, (*out)->n);
    (*out)->count = count;
    (*out)->running = running;
    return SS_OK;
}

void ss_writer_fit(ss_writer *w)
{
    uint8_t *mem = w->mem && !w->from && w->n < w->room ? ss_realloc(w->mem, w->n ? w->n : 1, 1) : NULL;
    if (mem) {
        w->mem = mem;
        w->room = w->n ? w->n : 1;
    }
}

size_t ss_record_bytes(const ss_record *rec)
{
    uint8_t attrs[MAX_ATTR_BYTES];
    const uint8_t *end = put_attrs(attrs, &rec->attrs);
    size_t n = end ? (size_t)(end - attrs) : 0;
    return FIXED + 4 * (size_t)rec->rank + WHO + n + 4 + rec->size + (rec->size ? 4 : 0);
}

bool ss_record_head_at(const uint8_t *p, size_t n)
{
    if (n < FIXED || p[7] > SS_MAX_RANK || get16(p + 8) > MAX_ATTR_BYTES)
        return false;
    size_t head = FIXED + 4 * (size_t)p[7] + WHO + get16(p + 8);
    return head + 4 <= n && get32(p) >= head && ss_crc32c(0, p, head) == get32(p + head);
}

int ss_writer_put_encoded(ss_writer *w, const uint8_t *p, size_t n, ss_err *e)
{
    int rc = writer_usable(w, e);
    if (!rc)
        rc = reserve(w, n, e);
    if (rc)
        return rc;
    write_bytes(w, p, n, NULL, e);
    for (size_t length; n; p += length, n -= length) {
        size_t head = FIXED + 4 * (size_t)p[7] + WHO + get16(p + 8);
        length = 4 + get32(p);
        w->running = ss_crc32c(w->running, p + head, 4);
        if (length > head + 4)
            w->running = ss_crc32c(w->running, p + length - 4, 4);
        w->count++;
    }
    return SS_OK;
}

uint64_t ss_writer_count(const ss_writer *w)
{
    return w->count;
}

uint64_t ss_writer_offset(const ss_writer *w)
{
    return w->offset;
}

void ss_writer_close(ss_writer **w)
{
    if (w && *w) {
        ss_free((*w)->mem);
        ss_free(*w);
        *w = NULL;
    }
}

/* ---- reader ---- */

/* What comes next. A reader that does not wait may be left at any of these, and finds what it has in the
 * buffer, or `have` bytes of JSON or payload in `data`. */
enum stage { AT_PREAMBLE, IN_JSON, AFTER_JSON, AT_RECORD, IN_PAYLOAD, AFTER_PAYLOAD, AT_END };

struct ss_reader {
    int fd;
    ss_source source; /* bytes come from it, and fd is not used, unless NULL */
    void *arg;
    ss_limits limits;
    ss_writer *tied;
    const volatile int *stop;
    int grace_ms;
    bool nonblocking, have_header, ended;
    enum stage stage;
    size_t have, length; /* bytes of JSON or payload that have come, and all of the JSON's */
    uint64_t from;       /* offset of the record */
    uint16_t major;
    int failed; /* as in err; every later call returns it again */
    ss_err err;
    ss_header header;
    uint64_t count, offset;
    uint32_t running, before; /* checksum over all checksums, and without the record's */
    ss_record rec;
    uint8_t *data; /* payload, room for `room` bytes */
    size_t room;
    uint32_t crc;      /* of the payload */
    size_t head, tail; /* unread bytes in buf */
    uint8_t buf[LEAD + BUFFER];
};

int ss_reader_open(ss_reader **out, int fd, const ss_limits *limits, ss_err *e)
{
    ss_reader *r = *out = ss_alloc(1, sizeof *r);
    if (!r)
        return ss_err_set(e, SS_ENOMEM, "reader: out of memory");
    memset(r, 0, offsetof(ss_reader, buf));
    r->fd = fd;
    r->limits.max_header = limits && limits->max_header ? limits->max_header : SS_STREAM_MAX_HEADER;
    r->limits.max_payload = limits && limits->max_payload ? limits->max_payload : SS_STREAM_MAX_PAYLOAD;
    return SS_OK;
}

int ss_reader_open_source(ss_reader **out, ss_source source, void *arg, const ss_limits *limits, ss_err *e)
{
    int rc = ss_reader_open(out, -1, limits, e);
    if (rc)
        return rc;
    (*out)->source = source;
    (*out)->arg = arg;
    (*out)->nonblocking = true;
    return SS_OK;
}

uint32_t ss_reader_running(const ss_reader *r)
{
    return r->running;
}

void ss_reader_set_nonblocking(ss_reader *r)
{
    r->nonblocking = true;
}

void ss_reader_tie(ss_reader *r, ss_writer *w)
{
    r->tied = w;
}

void ss_reader_set_stop(ss_reader *r, const volatile int *stop, int grace_ms)
{
    r->stop = stop;
    r->grace_ms = grace_ms;
}

bool ss_reader_ended(const ss_reader *r)
{
    return r->ended;
}

uint64_t ss_reader_count(const ss_reader *r)
{
    return r->count;
}

uint64_t ss_reader_offset(const ss_reader *r)
{
    return r->offset;
}

void ss_reader_close(ss_reader **r)
{
    if (!r || !*r)
        return;
    ss_header_clear(&(*r)->header);
    ss_free((*r)->data);
    ss_free(*r);
    *r = NULL;
}

/* Before a read: flush the tied writer if the read would block; watch the stop flag. SS_ESTOPPED ends the
 * stream. */
static int wait_input(ss_reader *r)
{
    struct pollfd p = {r->fd, POLLIN, 0};
    if (r->tied && r->tied->n && poll(&p, 1, 0) == 0) {
        int rc = ss_writer_flush(r->tied, &r->err);
        if (rc)
            return rc;
    }
    if (!r->stop)
        return SS_OK;
    int64_t until = 0; /* set once the flag is seen */
    for (;;) {
        int timeout = WATCH_MS;
        if (*r->stop) {
            int64_t now = ss_clock_mono_ns();
            if (!until)
                until = now + (int64_t)r->grace_ms * 1000000;
            int64_t left = (until - now + 999999) / 1000000;
            timeout = left < 0 ? 0 : left < WATCH_MS ? (int)left : WATCH_MS;
        }
        int n = poll(&p, 1, timeout);
        if (n > 0 || (n < 0 && errno != EINTR)) /* what poll cannot watch, read will report */
            return SS_OK;
        if (until && n == 0 && ss_clock_mono_ns() >= until)
            return SS_ESTOPPED;
    }
}

/* Read some bytes to iov [count]: their number, 0 at the end of the file, or negative. */
static ssize_t read_some(ss_reader *r, const struct iovec *iov, int count)
{
    if (r->source)
        return r->source(r->arg, iov->iov_base, iov->iov_len, &r->err);
    for (;;) {
        int rc = r->nonblocking ? SS_OK : wait_input(r);
        if (rc)
            return rc;
        ssize_t n = count == 1 ? read(r->fd, iov->iov_base, iov->iov_len) : readv(r->fd, iov, count);
        if (n >= 0)
            return n;
        if (errno == EAGAIN && r->nonblocking)
            return SS_EAGAIN;
        if (errno == EAGAIN) {
            struct pollfd p = {r->fd, POLLIN, 0};
            poll(&p, 1, WATCH_MS);
        } else if (errno != EINTR) {
            return ss_err_errno(&r->err, "cannot read");
        }
    }
}

/* Move what is unread so that what can be read behind it is BUFFER bytes, or as many as there is room for. */
static struct iovec make_room(ss_reader *r)
{
    size_t have = r->tail - r->head, to = have < LEAD ? LEAD - have : 0;
    if (have && to != r->head)
        memmove(r->buf + to, r->buf + r->head, have);
    r->head = to;
    r->tail = to + have;
    return (struct iovec){r->buf + r->tail, sizeof r->buf - r->tail};
}

/* Have at least n <= LEAD bytes in the buffer: 1; 0 when the input ends before; or negative. */
static int need(ss_reader *r, size_t n)
{
    while (r->tail - r->head < n) {
        struct iovec iov = make_room(r);
        ssize_t k = read_some(r, &iov, 1);
        if (k <= 0)
            return (int)k;
        r->tail += (size_t)k;
    }
    return 1;
}

static const uint8_t *taken(ss_reader *r, size_t n)
{
    const uint8_t *p = r->buf + r->head;
    r->head += n;
    r->offset += n;
    return p;
}

/* Make r->data larger, from `have` bytes towards `size`: never by much more than what has come. */
static int grow(ss_reader *r, size_t have, size_t size)
{
    size_t room = size;
    while (room > FIRST && (room - 1) / GROWTH + 1 > have)
        room = (room - 1) / GROWTH + 1;
    if (!have) { /* nothing to keep: do not hold both */
        ss_free(r->data);
        r->data = NULL;
        r->room = 0;
    }
    uint8_t *data = room <= AT_ONCE ? ss_alloc_whole(room, 1) : ss_alloc(room, 1);
    if (!data)
        return ss_err_set(&r->err, SS_ENOMEM, "no memory for a record of %zu bytes", size);
    if (have)
        memcpy(data, r->data, have);
    ss_free(r->data);
    r->data = data;
    r->room = room;
    return SS_OK;
}

/* The next `size` bytes into r->data, of which r->have are there, and r->crc goes on over each piece while it
 * is in the cache: 1; 0 when the input ends before; or negative. */
static int fetch(ss_reader *r, size_t size)
{
    int rc = !r->have && (!r->data || r->room < size) ? grow(r, 0, size) : SS_OK;
    while (r->have < size && !rc) {
        if (r->have == r->room) {
            rc = grow(r, r->have, size);
            continue;
        }
        size_t want = (size < r->room ? size : r->room) - r->have, n;
        if (r->tail == r->head && want >= DIRECT) { /* to its place, and what comes behind it to the buffer */
            n = want < PIECE ? want : PIECE;
            struct iovec iov[2] = {{r->data + r->have, n}, make_room(r)};
            if (n < BUFFER)
                iov[1].iov_len = BUFFER - n;
            ssize_t k = read_some(r, iov, n < BUFFER ? 2 : 1);
            if (k <= 0)
                return (int)k;
            if ((size_t)k > n)
                r->tail += (size_t)k - n;
            else
                n = (size_t)k;
            r->offset += n;
        } else {
            int k = need(r, 1);
            if (k <= 0)
                return k;
            n = r->tail - r->head;
            n = n < want ? n : want;
            memcpy(r->data + r->have, taken(r, n), n);
        }
        r->crc = ss_crc32c(r->crc, r->data + r->have, n);
        r->have += n;
    }
    return rc ? rc : 1;
}

static int cut_short(ss_reader *r, const char *where)
{
    return ss_err_set(&r->err, SS_ETRUNC, "truncated %s", where);
}

static int bad_magic(ss_reader *r, const uint8_t *p, size_t n)
{
    const char *why = "not a stream of this toolkit";
    if (n >= 4 && p[0] == 0x09 && !memcmp(p + 1, "SST", 3))
        why = "a stream whose high bits were stripped on the way";
    else if (n >= 5 && !memcmp(p, magic, 4) && (p[4] == '\n' || (n >= 6 && p[4] == '\r' && p[5] != '\n')))
        why = "a stream whose line ends were converted on the way";
    return ss_err_set(&r->err, SS_EDAMAGED, "%s", why);
}

/* Magic, version and length: 1; 0 when the input ends before; or negative. */
static int read_lead(ss_reader *r)
{
    int rc = need(r, sizeof magic);
    if (rc < 0)
        return rc;
    size_t n = r->tail - r->head;
    const uint8_t *p = r->buf + r->head;
    if (memcmp(p, magic, n < sizeof magic ? n : sizeof magic))
        return bad_magic(r, p, n);
    if (rc)
        rc = need(r, PREAMBLE);
    if (rc <= 0)
        return rc ? rc : cut_short(r, n ? "in the preamble" : "before the preamble: the input is empty");
    p = taken(r, PREAMBLE);
    r->major = get16(p + 8);
    r->length = get32(p + 12);
    r->crc = ss_crc32c(0, p, PREAMBLE);
    if (r->length > SS_STREAM_MAX_HEADER)
        return ss_err_set(&r->err, SS_EDAMAGED, "header of %zu bytes, at most %d are allowed", r->length,
                          SS_STREAM_MAX_HEADER);
    if (r->length > r->limits.max_header)
        return ss_err_set(&r->err, SS_ELIMIT, "header of %zu bytes, the limit is %zu", r->length,
                          r->limits.max_header);
    r->have = 0;
    r->stage = IN_JSON;
    return 1;
}

static int read_preamble(ss_reader *r)
{
    int rc = r->stage == AT_PREAMBLE ? read_lead(r) : 1;
    if (rc > 0 && r->stage == IN_JSON) {
        rc = fetch(r, r->length);
        if (rc > 0)
            r->stage = AFTER_JSON;
    }
    if (rc > 0)
        rc = need(r, 4);
    if (rc <= 0)
        return rc ? rc : cut_short(r, "in the preamble");
    const uint8_t *p = taken(r, 4);
    if (DIFFER(r->crc, get32(p)))
        return ss_err_set(&r->err, SS_EDAMAGED, "preamble: checksum differs");
    r->running = ss_crc32c(0, p, 4);
    /* The layout up to here is the same in every version. */
    if (r->major != SS_STREAM_MAJOR)
        return ss_err_set(&r->err, SS_EUNFIT, "stream of version %u, this program reads version %d", r->major,
                          SS_STREAM_MAJOR);
    rc = ss_header_parse(&r->header, (const char *)r->data, r->length, &r->err);
    if (rc)
        return rc;
    r->stage = AT_RECORD;
    r->have_header = true;
    return 1;
}

static int get_attrs(ss_reader *r, const uint8_t *p, size_t n)
{
    ss_attrs *a = &r->rec.attrs;
    a->present = 0;
    for (int last = 0; n;) {
        int number = *p & 63, bytes = 1 << (*p >> 6);
        if (number <= last)
            return ss_err_set(&r->err, SS_EDAMAGED, "attribute %d after %d", number, last);
        if ((size_t)bytes >= n)
            return ss_err_set(&r->err, SS_EDAMAGED, "attribute %d is cut short", number);
        uint64_t v = 0;
        for (int i = 0; i < bytes; i++)
            v |= (uint64_t)p[1 + i] << 8 * i;
        if (v >> 32 && ss_attr_is_float(number))
            return ss_err_set(&r->err, SS_EDAMAGED, "attribute %d is no f32", number);
        a->present |= (uint64_t)1 << number;
        a->value[number] = v;
        last = number;
        p += 1 + bytes;
        n -= 1 + (size_t)bytes;
    }
    return SS_OK;
}

/* What the header says, checked: `size` is that of the payload by the record's length. */
static int check_shape(ss_reader *r, size_t size)
{
    const ss_record *rec = &r->rec;
    uint64_t n;
    bool known = is_known(rec->type);
    if (rec->type < 128 && !known)
        return ss_err_set(&r->err, SS_EUNFIT, "required type %u is unknown: written by a later version?",
                          rec->type);
    if (rec->flags & RESERVED_FLAGS)
        return ss_err_set(&r->err, SS_EUNFIT, "reserved flags 0x%02x: written by a later version?",
                          rec->flags);
    if (!elements(rec->dim, rec->rank, r->limits.max_payload, &n))
        return ss_err_set(&r->err, SS_ELIMIT, "shape of more elements than the limit of %zu",
                          r->limits.max_payload);
    if (size > r->limits.max_payload)
        return ss_err_set(&r->err, SS_ELIMIT, "record of %zu bytes, the limit is %zu", size,
                          r->limits.max_payload);
    size_t unit = ss_dtype_size(rec->dtype);
    if (unit || !rec->dtype) {
        if (size != n * unit || (!rec->dtype && rec->rank))
            return ss_err_set(&r->err, SS_EDAMAGED, "payload of %zu bytes, its shape asks for %llu", size,
                              (unsigned long long)(n * unit));
    } else if (rec->dtype != SS_DTYPE_PACKED && known) {
        return ss_err_set(&r->err, SS_EUNFIT, "dtype %u is unknown: written by a later version?", rec->dtype);
    }
    return SS_OK;
}

/* The header of a record into r->rec: 1; 0 when the input ends before; or negative. */
static int read_head(ss_reader *r)
{
    int rc = need(r, FIXED);
    if (rc <= 0)
        return rc;
    const uint8_t *p = r->buf + r->head;
    size_t rank = p[7], attrs = get16(p + 8), n = FIXED + 4 * rank + WHO + attrs;
    if (rank > SS_MAX_RANK || attrs > MAX_ATTR_BYTES)
        return ss_err_set(&r->err, SS_EDAMAGED,
                          "rank %zu and %zu bytes of attributes, at most %d and %d are allowed", rank, attrs,
                          SS_MAX_RANK, MAX_ATTR_BYTES);
    rc = need(r, n + 4);
    if (rc <= 0)
        return rc;
    p = taken(r, n + 4);
    r->before = r->running;
    if (DIFFER(ss_crc32c(0, p, n), get32(p + n)))
        return ss_err_set(&r->err, SS_EDAMAGED, "header checksum differs");
    r->running = ss_crc32c(r->running, p + n, 4);
    size_t rest = get32(p);
    if (rest < n || (rest > n && rest <= n + 4))
        return ss_err_set(&r->err, SS_EDAMAGED, "length is %zu, the header alone has %zu", rest, n);
    if (get16(p + 10))
        return ss_err_set(&r->err, SS_EUNFIT, "reserved bytes are used: written by a later version?");
    ss_record *rec = &r->rec;
    rec->type = p[4];
    rec->flags = p[5];
    rec->dtype = p[6];
    rec->rank = (uint8_t)rank;
    p += FIXED;
    for (size_t i = 0; i < rank; i++, p += 4)
        rec->dim[i] = get32(p);
    rec->device = get32(p);
    rec->epoch = get64(p + 4);
    rec->seq = get64(p + 12);
    rec->time_ns = (int64_t)get64(p + 20);
    rec->size = rest > n ? rest - n - 4 : 0;
    rc = check_shape(r, rec->size);
    if (!rc)
        rc = get_attrs(r, p + WHO, attrs);
    if (rc)
        return rc;
    r->crc = 0;
    r->have = 0;
    r->stage = IN_PAYLOAD;
    return 1;
}

/* Payload into r->rec: 1; 0 when the input ends before; or negative. */
static int read_payload(ss_reader *r)
{
    size_t size = r->rec.size;
    int rc = r->stage == IN_PAYLOAD ? fetch(r, size) : 1;
    r->rec.data = r->data;
    if (rc <= 0 || !size)
        return rc;
    r->stage = AFTER_PAYLOAD;
    rc = need(r, 4);
    if (rc <= 0)
        return rc;
    const uint8_t *p = taken(r, 4);
    if (DIFFER(r->crc, get32(p)))
        return ss_err_set(&r->err, SS_EDAMAGED, "payload checksum differs");
    if (r->rec.type != SS_TYPE_END)
        r->running = ss_crc32c(r->running, p, 4);
    return 1;
}

/* The end record is in r->rec: nothing may follow it. 0, or negative. */
static int check_end(ss_reader *r)
{
    if (r->rec.dtype != SS_DTYPE_I32 || r->rec.rank)
        return ss_err_set(&r->err, SS_EDAMAGED, "end record without its running checksum");
    if (r->rec.seq != r->count)
        return ss_err_set(&r->err, SS_EDAMAGED, "end record counts %llu records, %llu came",
                          (unsigned long long)r->rec.seq, (unsigned long long)r->count);
    if (DIFFER(get32(r->data), r->before))
        return ss_err_set(&r->err, SS_EDAMAGED,
                          "running checksum differs: records were changed, lost or put in");
    int rc = need(r, 1);
    if (rc > 0)
        rc = ss_err_set(&r->err, SS_EDAMAGED, "bytes follow the end record");
    return rc;
}

/* 1 and a record, 0 after the end. */
static int read_record(ss_reader *r)
{
    int rc = 1;
    if (r->stage == AT_RECORD) {
        r->from = r->offset;
        rc = read_head(r);
        if (!rc && r->tail == r->head)
            return cut_short(r, "between records: the end record is missing");
    }
    if (rc > 0 && r->stage != AT_END)
        rc = read_payload(r);
    if (rc <= 0)
        return rc ? rc : cut_short(r, "in a record");
    r->stage = r->rec.type == SS_TYPE_END ? AT_END : AT_RECORD;
    return r->stage == AT_END ? check_end(r) : 1;
}

/* Remember a failure and give it to the caller; a stop is an end. */
static int settle(ss_reader *r, int rc, ss_err *e)
{
    if (rc == SS_ESTOPPED) {
        r->ended = true;
        return 0;
    }
    r->failed = rc;
    if (e)
        *e = r->err;
    return rc;
}

int ss_reader_header(ss_reader *r, const ss_header **h, ss_err *e)
{
    *h = NULL;
    int rc = r->failed;
    if (!rc && !r->have_header) {
        rc = r->ended ? SS_ESTOPPED : read_preamble(r);
        if (rc == SS_EAGAIN)
            return rc;
        if (rc == SS_ESTOPPED) {
            ss_err_set(&r->err, SS_ESTOPPED, "stopped before the header came");
            r->ended = true;
            if (e)
                *e = r->err;
            return rc;
        }
    }
    if (rc < 0)
        return settle(r, rc, e);
    *h = &r->header;
    return SS_OK;
}

bool ss_reader_ready(ss_reader *r)
{
    if (r->failed || r->ended || r->nonblocking)
        return true;
    if (!r->have_header)
        return false;
    for (;;) {
        size_t have = r->tail - r->head;
        const uint8_t *p = r->buf + r->head;
        if (have >= FIXED && p[4] == SS_TYPE_END)
            return false;
        if (have >= BUFFER || (have >= FIXED && have - 4 >= get32(p)))
            return true;
        struct pollfd f = {r->fd, POLLIN, 0};
        if (poll(&f, 1, 0) <= 0)
            return false;
        struct iovec iov = make_room(r);
        ssize_t n = read(r->fd, iov.iov_base, iov.iov_len);
        if (n <= 0) /* the next call sees the end or the failure itself */
            return n == 0 || (errno != EAGAIN && errno != EINTR);
        r->tail += (size_t)n;
    }
}

int ss_reader_next(ss_reader *r, const ss_record **rec, ss_err *e)
{
    *rec = NULL;
    if (r->failed)
        return settle(r, r->failed, e);
    if (r->ended)
        return 0;
    if (!r->have_header) {
        int rc = read_preamble(r);
        if (rc == SS_EAGAIN)
            return rc;
        if (rc < 0)
            return settle(r, rc, e);
    }
    int rc = read_record(r);
    if (rc == SS_EAGAIN)
        return rc;
    if (rc < 0) {
        if (rc != SS_ESTOPPED && rc != SS_EIO)
            ss_err_prefix(&r->err, "record %llu at byte %llu", (unsigned long long)r->count,
                          (unsigned long long)r->from);
        return settle(r, rc, e);
    }
    if (!rc) {
        r->ended = true;
        return 0;
    }
    r->count++;
    *rec = &r->rec;
    return 1;
}
