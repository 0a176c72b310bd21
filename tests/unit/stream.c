#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "io/stream.h"
#include "unit.h"

static const ss_header embedding = {.kind = "embedding"};

/* A temporary file without a name. */
static int scratch(void)
{
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    int fd = dup(fileno(f));
    fclose(f);
    return fd;
}

static void rewind_fd(int fd)
{
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
}

static size_t slurp(int fd, uint8_t *to, size_t room)
{
    rewind_fd(fd);
    ssize_t n = read(fd, to, room);
    ck_assert(n >= 0 && (size_t)n < room);
    return (size_t)n;
}

static void must(int rc, const ss_err *e)
{
    ck_assert_msg(rc >= 0, "%d: %s", rc, e->text);
}

/* A descriptor from which data [n] can be read. */
static int input(const void *data, size_t n)
{
    int fd = scratch();
    ck_assert_int_eq(pwrite(fd, data, n, 0), (ssize_t)n);
    return fd;
}

/* Read all of data [n]: 0 when it ends well, else the error; *count records came before. */
static int read_all(const void *data, size_t n, const ss_limits *limits, uint64_t *count, ss_err *e)
{
    int fd = input(data, n), rc;
    ss_reader *r;
    const ss_record *rec;
    must(ss_reader_open(&r, fd, limits, e), e);
    while ((rc = ss_reader_next(r, &rec, e)) > 0)
        ck_assert_uint_eq((uintptr_t)rec->data % SS_ALIGN, 0);
    ck_assert_int_eq(ss_reader_next(r, &rec, NULL), rc); /* and again */
    *count = ss_reader_count(r);
    if (!rc)
        ck_assert_uint_eq(ss_reader_offset(r), n);
    ss_reader_close(&r);
    ck_assert_ptr_null(r);
    close(fd);
    ck_assert_uint_eq(ss_mem_used(), 0);
    return rc;
}

static void same_record(const ss_record *a, const ss_record *b)
{
    ck_assert_uint_eq(a->type, b->type);
    ck_assert_uint_eq(a->flags, b->flags);
    ck_assert_uint_eq(a->dtype, b->dtype);
    ck_assert_uint_eq(a->rank, b->rank);
    for (int i = 0; i < a->rank; i++)
        ck_assert_uint_eq(a->dim[i], b->dim[i]);
    ck_assert_uint_eq(a->device, b->device);
    ck_assert_uint_eq(a->epoch, b->epoch);
    ck_assert_uint_eq(a->seq, b->seq);
    ck_assert_int_eq(a->time_ns, b->time_ns);
    ck_assert_uint_eq(a->attrs.present, b->attrs.present);
    for (int i = 1; i <= SS_ATTR_MAX; i++)
        if (ss_attr_has(&a->attrs, i))
            ck_assert_uint_eq(a->attrs.value[i], b->attrs.value[i]);
    ck_assert_uint_eq(a->size, b->size);
    if (a->size)
        ck_assert_mem_eq(a->data, b->data, a->size);
}

/* Every type, dtype and attribute; the k-th of them. */
static ss_record sample(int k, uint8_t *payload)
{
    static const uint8_t types[] = {SS_TYPE_DATA,
                                    SS_TYPE_GAP,
                                    SS_TYPE_RESULT,
                                    SS_TYPE_ACK,
                                    SS_TYPE_RESUME,
                                    SS_TYPE_GRADIENT,
                                    SS_TYPE_DELTA,
                                    SS_TYPE_MIXTURE,
                                    SS_TYPE_KEEPALIVE,
                                    129,
                                    255};
    ss_rng g = ss_rng_make(7, (uint64_t)k);
    ss_record r = {.type = types[k % 11],
                   .flags = (uint8_t)(k % 16),
                   .dtype = (uint8_t)(k % 11),
                   .rank = (uint8_t)(k % 9)};
    if (r.type > SS_TYPE_KEEPALIVE && k % 5 == 0)
        r.dtype = 200; /* of a later version */
    if (!r.dtype)
        r.rank = 0;
    size_t n = 1;
    for (int i = 0; i < r.rank; i++)
        n *= r.dim[i] = ss_rng_below(&g, 4) + (k % 17 > 0);
    size_t unit = ss_dtype_size(r.dtype);
    r.size = !r.dtype ? 0 : unit ? n * unit : ss_rng_below(&g, 300);
    r.device = ss_rng_u32(&g);
    r.epoch = ss_rng_u64(&g);
    r.seq = (uint64_t)k;
    r.time_ns = (int64_t)ss_rng_u64(&g);
    for (int a = 1; a <= SS_ATTR_MAX; a++)
        if (k % 3 == 0 || ss_rng_below(&g, 4) == 0) {
            if (ss_attr_is_float(a))
                ss_attr_set_f32(&r.attrs, a, ss_rng_normal(&g));
            else
                ss_attr_set_uint(&r.attrs, a, ss_rng_u64(&g) >> ss_rng_below(&g, 64));
        }
    for (size_t i = 0; i < r.size; i++)
        payload[i] = (uint8_t)ss_rng_u32(&g);
    r.data = payload;
    return r;
}

enum { SAMPLES = 1100, LARGEST = 8 * 4 * 4 * 4 * 4 * 4 * 4 * 4 * 4 };

START_TEST(round_trip)
{
    ss_err e;
    ss_writer *w;
    ss_reader *r;
    const ss_record *rec;
    int fd = scratch();
    uint8_t *payload = malloc(LARGEST);
    must(ss_writer_open(&w, fd, &embedding, &e), &e);
    for (int k = 0; k < SAMPLES; k++) {
        ss_record s = sample(k, payload);
        must(ss_writer_put(w, &s, &e), &e);
    }
    must(ss_writer_end(w, &e), &e);
    ck_assert_uint_eq(ss_writer_count(w), SAMPLES);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)ss_writer_offset(w));
    ck_assert_int_eq(ss_writer_put(w, &(ss_record){.type = SS_TYPE_ACK}, &e), SS_EINVAL);
    ck_assert_int_eq(ss_writer_end(w, &e), SS_EINVAL);
    ss_writer_close(&w);
    rewind_fd(fd);
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    for (int k = 0; k < SAMPLES; k++) {
        must(ss_reader_next(r, &rec, &e), &e);
        ss_record s = sample(k, payload);
        same_record(&s, rec);
        ck_assert_uint_eq((uintptr_t)rec->data % SS_ALIGN, 0);
    }
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ck_assert_uint_eq(ss_reader_count(r), SAMPLES);
    ss_reader_close(&r);
    close(fd);
    free(payload);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Payloads around every buffer size, through a pipe whose other end reads late and writes in odd pieces. */
START_TEST(large_payloads_through_a_pipe)
{
    static const size_t sizes[] = {0,     1,      16383,  16384,   65480, 65535,   65536,
                                   65537, 262144, 262145, 1000003, 20,    4 << 20, 7};
    enum { N = sizeof sizes / sizeof *sizes };
    uint8_t *data = malloc(4 << 20);
    for (size_t i = 0; i < 4 << 20; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    int s[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    ss_err e;
    pid_t pid = fork();
    if (!pid) {
        ss_writer *w;
        close(s[0]);
        fcntl(s[1], F_SETFL, O_NONBLOCK);
        int rc = ss_writer_open(&w, s[1], &embedding, &e);
        for (int i = 0; i < N && !rc; i++)
            rc = ss_writer_put(w,
                               &(ss_record){.type = SS_TYPE_DATA,
                                            .dtype = SS_DTYPE_U8,
                                            .rank = 1,
                                            .dim = {(uint32_t)sizes[i]},
                                            .size = sizes[i],
                                            .data = data},
                               &e);
        _exit(rc || ss_writer_end(w, &e));
    }
    close(s[1]);
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    ss_reader *r;
    const ss_record *rec;
    must(ss_reader_open(&r, s[0], NULL, &e), &e);
    for (int i = 0; i < N; i++) {
        must(ss_reader_next(r, &rec, &e), &e);
        ck_assert_uint_eq(rec->size, sizes[i]);
        ck_assert(!memcmp(rec->data, data, sizes[i]));
    }
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ss_reader_close(&r);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    free(data);
}
END_TEST

static void on_timer(int number)
{
}

/* A sender that gives one byte at a time, and a timer whose signals interrupt every wait. */
START_TEST(byte_by_byte)
{
    ss_err e;
    int s[2], status;
    uint8_t *payload = malloc(LARGEST);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    int small = 1;
    setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    pid_t pid = fork();
    if (!pid) {
        uint8_t b[65536];
        int fd = scratch();
        ss_writer *w;
        close(s[0]);
        int rc = ss_writer_open(&w, fd, &embedding, &e);
        for (int k = 0; k < 20 && !rc; k++) {
            ss_record rec = sample(k, payload);
            rc = ss_writer_put(w, &rec, &e);
        }
        if (rc || ss_writer_end(w, &e))
            _exit(1);
        size_t n = slurp(fd, b, sizeof b);
        for (size_t i = 0; i < n; i++)
            if (write(s[1], b + i, 1) != 1)
                _exit(1);
        _exit(0);
    }
    close(s[1]);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_timer}, NULL);
    ualarm(500, 500);
    ss_reader *r;
    const ss_record *rec;
    must(ss_reader_open(&r, s[0], NULL, &e), &e);
    for (int k = 0; k < 20; k++) {
        must(ss_reader_next(r, &rec, &e), &e);
        ss_record want = sample(k, payload);
        same_record(&want, rec);
    }
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ualarm(0, 0);
    ss_reader_close(&r);
    free(payload);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* A descriptor that is played: what is written to it is kept, what is read from it comes from there. */
static struct {
    int fd; /* 0: none; another one than those of files, that is always ready */
    uint8_t *bytes;
    size_t n, room;
    size_t at;   /* bytes read */
    size_t most; /* bytes that a call moves */
    size_t cut;  /* a call that comes to this byte stops there */
    int refusal; /* errno of the next call, which comes after every call that was cut short */
    unsigned refused;
} play;

static ssize_t move(const struct iovec *iov, int count, bool out)
{
    size_t *at = out ? &play.n : &play.at, left = (out ? play.room : play.n) - *at, done = 0;
    errno = play.refusal;
    play.refusal = 0;
    if (errno)
        return -1;
    if (play.most < left)
        left = play.most;
    if (*at < play.cut && play.cut - *at < left)
        left = play.cut - *at;
    for (int i = 0; i < count; i++) {
        size_t part = iov[i].iov_len < left - done ? iov[i].iov_len : left - done;
        if (!part)
            continue;
        if (out)
            memcpy(play.bytes + *at, iov[i].iov_base, part);
        else
            memcpy(iov[i].iov_base, play.bytes + *at, part);
        *at += part;
        done += part;
    }
    if (done && (done == play.most || *at == play.cut))
        play.refusal = play.refused++ % 2 ? EINTR : EAGAIN;
    return (ssize_t)done;
}

ssize_t __real_read(int fd, void *to, size_t n);
ssize_t __real_readv(int fd, const struct iovec *iov, int count);
ssize_t __real_writev(int fd, const struct iovec *iov, int count);
ssize_t __wrap_read(int fd, void *to, size_t n);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int count);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);

ssize_t __wrap_read(int fd, void *to, size_t n)
{
    return play.fd && fd == play.fd ? move(&(struct iovec){to, n}, 1, false) : __real_read(fd, to, n);
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int count)
{
    return play.fd && fd == play.fd ? move(iov, count, false) : __real_readv(fd, iov, count);
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
    return play.fd && fd == play.fd ? move(iov, count, true) : __real_writev(fd, iov, count);
}

static void play_open(void)
{
    play.fd = open("/dev/null", O_RDWR);
    play.room = 2 << 20;
    play.bytes = malloc(play.room);
    ck_assert_int_gt(play.fd, 2);
}

static void play_as(size_t most, size_t cut)
{
    play.at = 0;
    play.most = most;
    play.cut = cut;
    play.refusal = 0;
}

static void play_close(void)
{
    close(play.fd);
    free(play.bytes);
}

/* Payloads that are copied, that are written and read where they lie, that fill a buffer exactly, and that
 * take several. */
static const size_t mixed[] = {3,     65536, 24576,  24576, 24576, 16384,  65535,
                               65482, 0,     262144, 70001, 128,   400000, 16383};
enum { MIXED = sizeof mixed / sizeof *mixed, MIXED_LARGEST = 400000 };

/* Write them; at[i], if asked for: where record i begins, at[MIXED] the end record. */
static int write_mixed(int fd, const uint8_t *data, size_t *at)
{
    ss_err e;
    ss_writer *w;
    int rc = ss_writer_open(&w, fd, &embedding, &e);
    for (int i = 0; i <= MIXED && !rc; i++) {
        if (at)
            at[i] = (size_t)ss_writer_offset(w);
        if (i == MIXED)
            break;
        rc = ss_writer_put(w,
                           &(ss_record){.type = SS_TYPE_DATA,
                                        .dtype = SS_DTYPE_U8,
                                        .rank = 1,
                                        .dim = {(uint32_t)mixed[i]},
                                        .size = mixed[i],
                                        .data = data + i},
                           &e);
    }
    if (!rc)
        rc = ss_writer_end(w, &e);
    ss_writer_close(&w);
    return rc;
}

/* Read them: 0 when all came as they were put, else the error after *count of them. */
static int read_mixed(int fd, const uint8_t *data, uint64_t *count)
{
    ss_err e;
    ss_reader *r;
    const ss_record *rec;
    int rc;
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    for (int i = 0; (rc = ss_reader_next(r, &rec, &e)) > 0; i++) {
        ck_assert_int_lt(i, MIXED);
        ck_assert_uint_eq(rec->size, mixed[i]);
        ck_assert_uint_eq((uintptr_t)rec->data % SS_ALIGN, 0);
        ck_assert(!mixed[i] || !memcmp(rec->data, data + i, mixed[i]));
    }
    *count = ss_reader_count(r);
    ss_reader_close(&r);
    ck_assert_uint_eq(ss_mem_used(), 0);
    return rc;
}

static uint8_t *mixed_data(void)
{
    uint8_t *data = malloc(MIXED_LARGEST + MIXED);
    for (size_t i = 0; i < MIXED_LARGEST + MIXED; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    return data;
}

/* The next place after `k` that is worth a test: all around the ends of records and of full buffers, and some
 * between them. */
static size_t next_place(size_t k, const size_t *at)
{
    for (size_t step = 1; step < 4001; step++) {
        k++;
        for (int i = 0; i <= MIXED; i++)
            if (k + 6 > at[i] && k < at[i] + 58)
                return k;
        if ((k + 2) % 65536 < 5)
            return k;
    }
    return k;
}

/* Calls that move less than they could, down to a byte, or are interrupted at any byte. */
START_TEST(short_counts)
{
    static const size_t most[] = {1, 7, 4095, 4096, 16383, 65535, 65536, 65537, 100003, 262143};
    uint8_t *data = mixed_data(), *want = malloc(2 << 20);
    size_t at[MIXED + 1], n;
    uint64_t count;
    play_open();
    play_as(SIZE_MAX, 0);
    ck_assert_int_eq(write_mixed(play.fd, data, at), 0);
    n = play.n;
    memcpy(want, play.bytes, n);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        play_as(most[i], 0);
        play.n = 0;
        ck_assert_int_eq(write_mixed(play.fd, data, NULL), 0);
        ck_assert(play.n == n && !memcmp(play.bytes, want, n));
        play_as(most[i], 0);
        ck_assert_int_eq(read_mixed(play.fd, data, &count), 0);
        ck_assert_uint_eq(count, MIXED);
    }
    ck_assert_uint_gt(play.refused, n);
    for (size_t k = next_place(0, at); k < n; k = next_place(k, at)) {
        play_as(SIZE_MAX, k);
        play.n = 0;
        ck_assert_int_eq(write_mixed(play.fd, data, NULL), 0);
        ck_assert_msg(play.n == n && !memcmp(play.bytes, want, n), "interrupted at byte %zu", k);
        play_as(SIZE_MAX, k);
        ck_assert_int_eq(read_mixed(play.fd, data, &count), 0);
    }
    play_close();
    free(want);
    free(data);
}
END_TEST

/* What is cut off or changed within large payloads and around them. */
START_TEST(large_ones_damaged)
{
    uint8_t *data = mixed_data();
    size_t at[MIXED + 1], n;
    uint64_t count, whole = 0;
    play_open();
    play_as(SIZE_MAX, 0);
    ck_assert_int_eq(write_mixed(play.fd, data, at), 0);
    n = play.n;
    for (size_t k = 0; k < n; k = next_place(k, at)) {
        while (whole < MIXED && k >= at[whole + 1])
            whole++;
        play_as(SIZE_MAX, 0);
        play.n = k;
        ck_assert_int_eq(read_mixed(play.fd, data, &count), SS_ETRUNC);
        ck_assert_uint_eq(count, whole);
        play_as(SIZE_MAX, 0);
        play.n = n;
        play.bytes[k] ^= (uint8_t)(1 << k % 8);
        int rc = read_mixed(play.fd, data, &count);
        ck_assert_msg(rc == SS_EDAMAGED || rc == SS_ETRUNC, "byte %zu: %d", k, rc);
        ck_assert_uint_eq(count, whole);
        play.bytes[k] ^= (uint8_t)(1 << k % 8);
    }
    play_close();
    free(data);
}
END_TEST

/* A pipe of one page, both ends of it not blocking, and signals at any time. */
START_TEST(smallest_pipe)
{
    uint8_t *data = mixed_data();
    int p[2], status;
    uint64_t count;
    ck_assert_int_eq(pipe(p), 0);
    int size = fcntl(p[1], F_SETPIPE_SZ, 1);
    ck_assert_int_gt(size, 0);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_timer}, NULL);
    pid_t pid = fork();
    if (!pid) {
        ualarm(300, 300);
        close(p[0]);
        fcntl(p[1], F_SETFL, O_NONBLOCK);
        _exit(write_mixed(p[1], data, NULL));
    }
    close(p[1]);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    ualarm(500, 500);
    ck_assert_int_eq(read_mixed(p[0], data, &count), 0);
    ualarm(0, 0);
    ck_assert_int_eq(fcntl(p[0], F_GETPIPE_SZ), size); /* as somebody wanted it */
    close(p[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    free(data);
}
END_TEST

/* Large payloads get a larger pipe where that is allowed. */
START_TEST(pipe_widened)
{
    ss_err e;
    ss_writer *w;
    int p[2], q[2];
    uint8_t *data = mixed_data();
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_eq(pipe(q), 0);
    if (fcntl(p[0], F_GETPIPE_SZ) == 65536 && fcntl(q[0], F_SETPIPE_SZ, 262144) == 262144) {
        must(ss_writer_open(&w, p[1], &embedding, &e), &e);
        for (uint32_t size = 65536; size <= 65537; size++) {
            must(ss_writer_put(w,
                               &(ss_record){.type = SS_TYPE_DATA,
                                            .dtype = SS_DTYPE_U8,
                                            .rank = 1,
                                            .dim = {size},
                                            .size = size,
                                            .data = data},
                               &e),
                 &e);
            ck_assert_int_eq(fcntl(p[0], F_GETPIPE_SZ), size == 65536 ? 65536 : 262144);
        }
        ss_writer_close(&w);
    }
    for (int i = 0; i < 2; i++) {
        close(p[i]);
        close(q[i]);
    }
    free(data);
}
END_TEST

static size_t specimen(uint8_t *to, size_t room)
{
    ss_err e;
    ss_writer *w;
    int fd = scratch();
    ss_header h = {.kind = "embedding", .rate = 16000};
    must(ss_writer_open(&w, fd, &h, &e), &e);
    for (int k = 0; k < 3; k++) {
        int8_t z[4] = {1, (int8_t)k, -3, 4};
        ss_record rec = {.type = k == 1 ? SS_TYPE_GAP : SS_TYPE_DATA,
                         .device = 1,
                         .epoch = 1700000000000000000,
                         .seq = (uint64_t)k};
        if (k != 1) {
            rec.dtype = SS_DTYPE_I8;
            rec.rank = 1;
            rec.dim[0] = rec.size = 4;
            rec.data = z;
        }
        ss_attr_set_uint(&rec.attrs, SS_ATTR_CLIP, 300);
        ss_attr_set_f32(&rec.attrs, SS_ATTR_U, 0.5f);
        must(ss_writer_put(w, &rec, &e), &e);
    }
    must(ss_writer_end(w, &e), &e);
    ss_writer_close(&w);
    size_t n = slurp(fd, to, room);
    close(fd);
    return n;
}

START_TEST(every_truncation)
{
    uint8_t b[1024];
    size_t n = specimen(b, sizeof b);
    uint64_t count;
    ss_err e;
    ck_assert_int_eq(read_all(b, n, NULL, &count, &e), 0);
    for (size_t k = 0; k < n; k++) {
        ck_assert_int_eq(read_all(b, k, NULL, &count, &e), SS_ETRUNC);
        ck_assert_ptr_nonnull(strstr(e.text, "truncated"));
    }
}
END_TEST

START_TEST(every_bit_flip)
{
    uint8_t b[2048];
    char name[4096];
    uint64_t count;
    ss_err e;
    for (int golden = 0; golden < 2; golden++) {
        size_t n = specimen(b, sizeof b);
        if (golden) { /* all types */
            snprintf(name, sizeof name, "%s/tests/golden/good/every-type.sst", getenv("SS_SRC"));
            int fd = open(name, O_RDONLY);
            ck_assert_int_ge(fd, 0);
            n = slurp(fd, b, sizeof b);
            close(fd);
        }
        for (size_t i = 0; i < 8 * n; i++) {
            b[i / 8] ^= (uint8_t)(1 << i % 8);
            int rc = read_all(b, n, NULL, &count, &e);
            ck_assert_msg(rc == SS_EDAMAGED || rc == SS_ETRUNC, "bit %zu: %d", i, rc);
            b[i / 8] ^= (uint8_t)(1 << i % 8);
        }
    }
}
END_TEST

/* Whole records dropped, repeated, swapped; another header; bytes behind the end; two streams in a row. */
START_TEST(records_moved)
{
    uint8_t b[1024], c[2048];
    size_t n = specimen(b, sizeof b), at[6] = {0};
    uint64_t count;
    ss_err e;
    at[0] = 20 + (size_t)(b[12] | b[13] << 8);
    for (int i = 0; i < 4; i++)
        at[i + 1] = at[i] + 4 + b[at[i]];
    ck_assert_uint_eq(at[4], n);
    static const char *const orders[] = {"013",  "123",   "0023", "00123",   "0213",
                                         "2103", "01223", "3",    "01230123"};
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
        size_t m = at[0];
        memcpy(c, b, m);
        for (const char *o = orders[k]; *o; o++) {
            size_t len = at[*o - '0' + 1] - at[*o - '0'];
            memcpy(c + m, b + at[*o - '0'], len);
            m += len;
        }
        ck_assert_int_eq(read_all(c, m, NULL, &count, &e), SS_EDAMAGED);
    }
    memcpy(c, b, n);
    memcpy(c + n, b, n);
    ck_assert_int_eq(read_all(c, 2 * n, NULL, &count, &e), SS_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(e.text, "bytes follow the end record"));
    ck_assert_uint_eq(count, 3);
    ck_assert_int_eq(read_all(c, n + 1, NULL, &count, &e), SS_EDAMAGED);
    char *kind = memmem(c, n, "embedding", 9);
    kind[0] = 'E'; /* another header, with a right checksum of its own */
    uint32_t crc = ss_crc32c(0, c, at[0] - 4);
    memcpy(c + at[0] - 4, &crc, 4);
    ck_assert_int_eq(read_all(c, n, NULL, &count, &e), SS_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(e.text, "running checksum"));
}
END_TEST

/* Read file `from` and write what comes to `to`: 0 when it ends well, else the error. */
static int pass_on(int from, int to, ss_err *e)
{
    ss_reader *r;
    ss_writer *w = NULL;
    const ss_header *h;
    const ss_record *rec;
    must(ss_reader_open(&r, from, NULL, e), e);
    int rc = ss_reader_header(r, &h, e);
    if (!rc)
        rc = ss_writer_open(&w, to, h, e);
    while (!rc && (rc = ss_reader_next(r, &rec, e)) > 0)
        rc = ss_writer_put(w, rec, e);
    if (!rc)
        rc = ss_writer_end(w, e);
    ss_reader_close(&r);
    ss_writer_close(&w);
    return rc;
}

static int status_of(int code)
{
    return code == SS_EDAMAGED || code == SS_ETRUNC ? 4 : code == SS_EUNFIT ? 5 : code == SS_ELIMIT ? 6 : -1;
}

/* tests/golden/make.py says what they are. */
START_TEST(golden_specimens)
{
    uint8_t a[8192], b[8192];
    int n[2] = {0, 0};
    for (int bad = 0; bad < 2; bad++) {
        char name[4096];
        ck_assert_ptr_nonnull(getenv("SS_SRC"));
        snprintf(name, sizeof name, "%s/tests/golden/%s", getenv("SS_SRC"), bad ? "bad" : "good");
        DIR *d = opendir(name);
        ck_assert_ptr_nonnull(d);
        for (struct dirent *f; (f = readdir(d));) {
            if (*f->d_name == '.')
                continue;
            ss_err e = {0};
            int in = openat(dirfd(d), f->d_name, O_RDONLY), to = scratch(), rc = pass_on(in, to, &e);
            ck_assert_int_ge(in, 0);
            if (bad)
                ck_assert_msg(rc < 0 && status_of(rc) == *f->d_name - '0', "%s: %d %s", f->d_name, rc,
                              e.text);
            else
                ck_assert_msg(rc == 0, "%s: %s", f->d_name, e.text);
            if (!bad && strncmp(f->d_name, "foreign-", 8)) {
                size_t size = slurp(in, a, sizeof a);
                ck_assert_msg(slurp(to, b, sizeof b) == size && !memcmp(a, b, size), "%s changed", f->d_name);
            }
            close(in);
            close(to);
            n[bad]++;
        }
        closedir(d);
    }
    ck_assert_int_ge(n[0], 9);
    ck_assert_int_ge(n[1], 58);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Put the right checksum behind the header of the record at b, whose header has n bytes, and behind its
 * payload. */
static void seal(uint8_t *b, size_t n)
{
    uint32_t length, crc = ss_crc32c(0, b, n);
    memcpy(b + n, &crc, 4);
    memcpy(&length, b, 4);
    if (length > n + 4) {
        crc = ss_crc32c(0, b + n + 4, length - n - 4);
        memcpy(b + length, &crc, 4);
    }
}

/* Headers with right checksums that lie. */
START_TEST(lies)
{
    static const struct {
        int at, value, code;
    } lie[] = {
        {0, 200, SS_EDAMAGED},   {0, 3, SS_EDAMAGED},  {4, 9, SS_EUNFIT},       {4, 0, SS_EUNFIT},
        {5, 0x10, SS_EUNFIT},    {6, 3, SS_EDAMAGED},  {6, 11, SS_EUNFIT},      {6, 0, SS_EDAMAGED},
        {10, 1, SS_EUNFIT},      {12, 5, SS_EDAMAGED}, {15, 0xff, SS_ELIMIT},   {44, 0x00, SS_EDAMAGED},
        {44, 0xc3, SS_EDAMAGED}, {49, 3, SS_EDAMAGED}, {49, 0xc6, SS_EDAMAGED}, {49, 0x06, SS_EDAMAGED},
    };
    uint8_t b[1024], c[1024];
    size_t n = specimen(b, sizeof b), at = 20 + (size_t)(b[12] | b[13] << 8), head = 12 + 4 + 28 + 8;
    uint64_t count;
    ss_err e;
    ck_assert_uint_eq(b[at + 44], 2 << 6 | SS_ATTR_U);
    ck_assert_uint_eq(b[at + 49], 1 << 6 | SS_ATTR_CLIP);
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        memcpy(c, b, n);
        c[at + (size_t)lie[i].at] = (uint8_t)lie[i].value;
        seal(c + at, head);
        int rc = read_all(c, n, NULL, &count, &e);
        ck_assert_msg(rc == lie[i].code, "lie %zu: %d %s", i, rc, e.text);
    }
    /* A type that may be skipped is delivered, whatever its dtype. */
    memcpy(c, b, n);
    c[at + 4] = 200;
    c[at + 6] = 77;
    seal(c + at, head);
    ck_assert_int_eq(read_all(c, n, NULL, &count, &e), SS_EDAMAGED);
    ck_assert_uint_eq(count, 3); /* only the running checksum told */
    /* A later version; and the same with a minor one. */
    for (int minor = 0; minor < 2; minor++) {
        memcpy(c, b, n);
        c[8 + 2 * minor] = 7;
        uint32_t crc = ss_crc32c(0, c, at - 4);
        memcpy(c + at - 4, &crc, 4);
        ck_assert_int_eq(read_all(c, n, NULL, &count, &e), minor ? SS_EDAMAGED : SS_EUNFIT);
        ck_assert_uint_eq(count, minor ? 3 : 0);
    }
}
END_TEST

START_TEST(not_a_stream)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } in[] = {
        {"", 0, "empty"},
        {"\x89S", 2, "truncated in the preamble"},
        {"RIFF", 4, "not a stream"},
        {"R", 1, "not a stream"},
        {"\x09SST\r\n\x1a\n", 8, "high bits"},
        {"\x89SST\n\x1a\n", 7, "line ends"},
        {"\x89SST\r\r\n\x1a\r\n", 10, "line ends"},
    };
    uint64_t count;
    ss_err e;
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        ck_assert_int_lt(read_all(in[i].bytes, in[i].n, NULL, &count, &e), 0);
        ck_assert_msg(strstr(e.text, in[i].text) != NULL, "%s", e.text);
    }
}
END_TEST

START_TEST(header_round_trip)
{
    ss_err e;
    ss_header h = {.kind = "logmel", .rate = 16000.5}, copy;
    h.frontend = ss_strdup("{\"mels\":64,\"hop\":0.01}");
    h.rest = ss_strdup("{\"note\":[1,2,{\"a\":null}]}");
    strcpy(h.frontend_hash, "0123456789abcdef");
    ck_assert_int_eq(ss_header_add_label(&h, "dog", &e), 0);
    ck_assert_int_eq(ss_header_add_label(&h, "B\xc3\xa4r", &e), 1);
    ck_assert_int_eq(ss_header_add_label(&h, "dog", &e), 0);
    ck_assert_int_eq(ss_header_add_label(&h, "\xff", &e), SS_EINVAL);
    ck_assert_int_eq(ss_header_add_label(&h, "", &e), SS_EINVAL);
    char longest[5000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    must(ss_header_add_provenance(&h, "ss-capture", "0.1.0", 3, (char *[]){"a", "b\xff\xc3\xa4\"\n", longest},
                                  &e),
         &e);
    must(ss_header_add_provenance(&h, "ss-featurize", "0.1.0", 0, NULL, &e), &e);
    ck_assert_str_eq(h.provenance[0], "{\"program\":\"ss-capture\",\"version\":\"0.1.0\",\"arguments\":["
                                      "\"a\",\"b?\xc3\xa4\\\"\\n\",\"...\"]}");
    must(ss_header_copy(&copy, &h, &e), &e);
    ss_header_clear(&h);
    int fd = scratch();
    ss_writer *w;
    must(ss_writer_open(&w, fd, &copy, &e), &e);
    must(ss_writer_end(w, &e), &e);
    ss_writer_close(&w);
    rewind_fd(fd);
    ss_reader *r;
    const ss_header *got;
    const ss_record *rec;
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    must(ss_reader_header(r, &got, &e), &e);
    ck_assert_str_eq(got->kind, "logmel");
    ck_assert(got->rate == 16000.5);
    ck_assert_str_eq(got->frontend, copy.frontend);
    ck_assert_str_eq(got->frontend_hash, copy.frontend_hash);
    ck_assert_str_eq(got->arch_hash, "");
    ck_assert_uint_eq(got->nlabels, 2);
    ck_assert_str_eq(got->labels[1], "B\xc3\xa4r");
    ck_assert_uint_eq(got->nprovenance, 2);
    for (int i = 0; i < 2; i++)
        ck_assert_str_eq(got->provenance[i], copy.provenance[i]);
    ck_assert_str_eq(got->rest, copy.rest);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ss_reader_close(&r);
    ss_header_clear(&copy);
    close(fd);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* A preamble alone, with this JSON. */
static int read_json(const char *json, ss_err *e)
{
    uint8_t b[1200] = {0x89, 'S', 'S', 'T', '\r', '\n', 0x1a, '\n', 1, 0, 0, 0};
    uint32_t n = (uint32_t)strlen(json);
    ck_assert(n < 1000);
    memcpy(b + 12, &n, 4);
    memcpy(b + 16, json, n);
    uint32_t crc = ss_crc32c(0, b, 16 + n);
    memcpy(b + 16 + n, &crc, 4);
    uint64_t count;
    return read_all(b, 20 + n, NULL, &count, e);
}

START_TEST(header_strict)
{
    static const char *const bad[] = {
        "",
        "1",
        "[]",
        "{\"kind\":1}",
        "{\"kind\":\"abcdefghijklmnopqrstuvwxyzabcdef\"}",
        "{\"rate\":-1}",
        "{\"rate\":\"x\"}",
        "{\"rate\":1e999}",
        "{\"labels\":{}}",
        "{\"labels\":[1]}",
        "{\"provenance\":[1]}",
        "{\"frontend\":\"x\"}",
        "{\"frontend_hash\":\"123\"}",
        "{\"arch_hash\":\"0123456789ABCDEF\"}",
        "{\"kind\":\"a\",\"kind\":\"b\"}",
        "{} ,",
    };
    ss_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(read_json(bad[i], &e) == SS_EDAMAGED, "%s", bad[i]);
    ck_assert_int_eq(read_json("{}", &e), SS_ETRUNC); /* the end is missing */
    ck_assert_int_eq(read_json("{\"later\":{\"x\":[]}}", &e), SS_ETRUNC);
    ss_writer *w;
    ss_header h = {.rate = NAN};
    ck_assert_int_eq(ss_writer_open(&w, 1, &h, &e), SS_EINVAL);
    h = (ss_header){.nlabels = 1, .labels = (char *[]){"\xff"}};
    ck_assert_int_eq(ss_writer_open(&w, 1, &h, &e), SS_EINVAL);
    h = (ss_header){.rest = "{\"kind\":1}"};
    ck_assert_int_eq(ss_writer_open(&w, 1, &h, &e), SS_EINVAL);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(writer_refuses)
{
    ss_err e;
    ss_writer *w;
    int fd = scratch();
    static const ss_record bad[] = {
        {.type = 0},
        {.type = SS_TYPE_END},
        {.type = 9},
        {.type = 126},
        {.type = 1, .flags = 0x10},
        {.type = 1, .rank = 9},
        {.type = 1, .dtype = SS_DTYPE_F32},
        {.type = 1, .dtype = SS_DTYPE_F32, .rank = 1, .dim = {2}, .size = 4, .data = "abc"},
        {.type = 1, .dtype = 11},
        {.type = 1, .rank = 1},
        {.type = 1, .size = 3, .data = "abc"},
        {.type = 1, .dtype = SS_DTYPE_F32, .rank = 3, .dim = {1 << 20, 1 << 20, 0}},
        {.type = 1, .dtype = SS_DTYPE_PACKED, .size = SS_STREAM_MAX_PAYLOAD + 1, .data = "a"},
    };
    must(ss_writer_open(&w, fd, &embedding, &e), &e);
    uint64_t before = ss_writer_offset(w);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(ss_writer_put(w, &bad[i], &e) == SS_EINVAL, "record %zu", i);
    ss_record rec = {.type = SS_TYPE_RESULT};
    ss_attr_set_uint(&rec.attrs, SS_ATTR_U, 1ull << 33);
    ck_assert_int_eq(ss_writer_put(w, &rec, &e), SS_EINVAL);
    ck_assert_uint_eq(ss_writer_offset(w), before);
    must(ss_writer_end(w, &e), &e);
    ss_writer_close(&w);
    rewind_fd(fd);
    ss_reader *r;
    const ss_record *got;
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    ck_assert_int_eq(ss_reader_next(r, &got, &e), 0);
    ss_reader_close(&r);
    close(fd);
}
END_TEST

/* 64 MiB declared, little sent: little is allocated. And really sent: at most 1.25 times as much. */
START_TEST(memory_follows_what_comes)
{
    uint8_t b[1024];
    size_t n = specimen(b, sizeof b), at = 20 + (size_t)(b[12] | b[13] << 8), head = 12 + 4 + 28 + 8;
    uint32_t size = SS_STREAM_MAX_PAYLOAD, length = (uint32_t)head + size + 4;
    uint64_t count;
    ss_err e;
    memcpy(b + at, &length, 4);
    memcpy(b + at + 12, &size, 4);
    uint32_t crc = ss_crc32c(0, b + at, head);
    memcpy(b + at + head, &crc, 4);
    ss_mem_limit(600000);
    ck_assert_int_eq(read_all(b, n, NULL, &count, &e), SS_ETRUNC);
    ss_mem_limit(0);
    ss_limits limits = {.max_payload = SS_STREAM_MAX_PAYLOAD - 1};
    ck_assert_int_eq(read_all(b, n, &limits, &count, &e), SS_ELIMIT);
    limits = (ss_limits){.max_header = 4};
    ck_assert_int_eq(read_all(b, n, &limits, &count, &e), SS_ELIMIT);

    int fd = scratch();
    ck_assert_int_eq(pwrite(fd, b, at + head + 4, 0), (ssize_t)(at + head + 4));
    ck_assert_int_eq(ftruncate(fd, (off_t)(at + head + 8 + size)), 0); /* zeros, and a wrong checksum */
    ss_mem_limit(SS_STREAM_MAX_PAYLOAD / 4 * 5 + 200000);
    ss_reader *r;
    const ss_record *rec;
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), SS_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(e.text, "record 0 at byte"));
    ck_assert_ptr_nonnull(strstr(e.text, "payload checksum differs"));
    ss_reader_close(&r);
    ss_mem_limit(0);
    close(fd);
}
END_TEST

START_TEST(allocation_fails)
{
    ss_err e;
    uint8_t *payload = malloc(300000);
    memset(payload, 5, 300000);
    int fd = scratch();
    ss_writer *w;
    ss_header h = {.kind = "x",
                   .frontend = "{\"a\":1}",
                   .rest = "{\"b\":2}",
                   .nlabels = 2,
                   .labels = (char *[]){"a", "b"},
                   .nprovenance = 1,
                   .provenance = (char *[]){"{\"program\":\"p\"}"}};
    must(ss_writer_open(&w, fd, &h, &e), &e);
    must(ss_writer_put(w, &(ss_record){.type = SS_TYPE_ACK}, &e), &e);
    must(ss_writer_put(
             w, &(ss_record){.type = SS_TYPE_DATA, .dtype = SS_DTYPE_PACKED, .size = 300000, .data = payload},
             &e),
         &e);
    must(ss_writer_end(w, &e), &e);
    ss_writer_close(&w);
    fail_alloc_cjson();
    for (int writing = 0; writing < 2; writing++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1;; n++) {
                int rc;
                rewind_fd(fd);
                fail_alloc_from(n, forever);
                if (writing) {
                    ss_header copy;
                    w = NULL;
                    rc = ss_header_copy(&copy, &h, &e);
                    if (!rc)
                        rc = ss_header_add_label(&copy, "c", &e);
                    if (rc > 0)
                        rc = ss_header_add_provenance(&copy, "p", "1", 1, (char *[]){"x"}, &e);
                    if (!rc)
                        rc = ss_writer_open(&w, 1, &copy, &e);
                    ss_header_clear(&copy);
                    ss_writer_close(&w);
                } else {
                    ss_reader *r;
                    const ss_record *rec;
                    rc = ss_reader_open(&r, fd, NULL, &e);
                    if (!rc)
                        while ((rc = ss_reader_next(r, &rec, &e)) > 0)
                            ;
                    ss_reader_close(&r);
                }
                ck_assert_uint_eq(ss_mem_used(), 0);
                if (!fail_alloc_done()) {
                    ck_assert_int_eq(rc, SS_OK);
                    ck_assert_int_gt(n, 10);
                    break;
                }
                ck_assert_int_eq(rc, SS_ENOMEM);
            }
    close(fd);
    free(payload);
}
END_TEST

START_TEST(failed_writes)
{
    ss_err e;
    ss_writer *w;
    int full = open("/dev/full", O_WRONLY), p[2];
    ck_assert_int_ge(full, 0);
    must(ss_writer_open(&w, full, &embedding, &e), &e);
    for (int i = 0; i < 3; i++) {
        errno = 0;
        ck_assert_int_eq(i ? ss_writer_end(w, &e) : ss_writer_flush(w, &e), SS_EIO);
        ck_assert_int_eq(errno, ENOSPC);
        ck_assert_ptr_nonnull(strstr(e.text, "No space left"));
    }
    ss_writer_close(&w);
    close(full);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(p), 0);
    close(p[0]);
    must(ss_writer_open(&w, p[1], &embedding, &e), &e);
    ck_assert_int_eq(ss_writer_end(w, &e), SS_EIO);
    ck_assert_int_eq(errno, EPIPE);
    ss_writer_close(&w);
    close(p[1]);
    ss_reader *r;
    const ss_record *rec;
    must(ss_reader_open(&r, 999, NULL, &e), &e);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), SS_EIO);
    ck_assert_int_eq(errno, EBADF);
    ss_reader_close(&r);
}
END_TEST

/* An echo holds nothing back although its input stays open; without the tie it would. */
START_TEST(tied_writer)
{
    ss_err e;
    int to[2], from[2], status;
    ck_assert_int_eq(pipe(to), 0);
    ck_assert_int_eq(pipe(from), 0);
    pid_t pid = fork();
    if (!pid) {
        ss_reader *r;
        ss_writer *w;
        const ss_header *h;
        const ss_record *rec;
        close(to[1]);
        close(from[0]);
        int rc = ss_reader_open(&r, to[0], NULL, &e);
        if (!rc)
            rc = ss_reader_header(r, &h, &e);
        if (!rc)
            rc = ss_writer_open(&w, from[1], h, &e);
        ss_reader_tie(r, w);
        while (!rc && (rc = ss_reader_next(r, &rec, &e)) > 0)
            rc = ss_writer_put(w, rec, &e);
        _exit(rc || ss_writer_end(w, &e));
    }
    close(to[0]);
    close(from[1]);
    ss_reader *r;
    ss_writer *w;
    const ss_record *rec;
    must(ss_writer_open(&w, to[1], &embedding, &e), &e);
    must(ss_reader_open(&r, from[0], NULL, &e), &e);
    ss_reader_tie(r, w); /* both ways, so that neither side waits for ever */
    uint8_t *data = mixed_data();
    for (uint64_t k = 0; k < 50; k++) {
        ss_record put = {.type = SS_TYPE_ACK, .seq = k, .data = data};
        if (k % 2) {
            put.dtype = SS_DTYPE_PACKED;
            put.size = mixed[k / 2 % MIXED];
        }
        must(ss_writer_put(w, &put, &e), &e);
        must(ss_reader_next(r, &rec, &e), &e);
        ck_assert_uint_eq(rec->seq, k);
        ck_assert_uint_eq(rec->size, put.size);
        ck_assert(!put.size || !memcmp(rec->data, data, put.size));
    }
    free(data);
    must(ss_writer_end(w, &e), &e);
    close(to[1]);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ss_reader_close(&r);
    ss_writer_close(&w);
}
END_TEST

static volatile int stop;

static void on_alarm(int number)
{
    stop = 1;
}

/* Record by record through a pipe, in pieces: ready only when next would not wait. */
/* A reader that never waits: data [n] come in pieces of `piece` bytes through a pipe, and what it gives is
 * what the one that waits gives: the same records, end and error text. */
static void in_pieces(const uint8_t *data, size_t n, size_t piece)
{
    ss_err e = {0}, f = {0};
    ss_reader *wait, *poll_;
    const ss_record *a, *b;
    const ss_header *h;
    int p[2], fd = input(data, n), rc = SS_EAGAIN;
    rewind_fd(fd);
    ck_assert_int_eq(pipe2(p, O_NONBLOCK), 0);
    must(ss_reader_open(&wait, fd, NULL, &e), &e);
    must(ss_reader_open(&poll_, p[0], NULL, &e), &e);
    ss_reader_set_nonblocking(poll_);
    for (size_t at = 0; rc == SS_EAGAIN;) {
        if (at < n) {
            size_t k = n - at < piece ? n - at : piece;
            ssize_t put = write(p[1], data + at, k); /* less when the pipe is full */
            ck_assert_int_gt(put, 0);
            at += (size_t)put;
        }
        if (at == n)
            close(p[1]);
        if (at <= 3 * piece) { /* the header can be asked for at any time */
            int got = ss_reader_header(poll_, &h, &f);
            ck_assert(got == SS_OK || got == SS_EAGAIN || got == ss_reader_next(wait, &a, NULL));
        }
        while ((rc = ss_reader_next(poll_, &b, &f)) > 0) {
            must(ss_reader_next(wait, &a, &e), &e);
            same_record(a, b);
            ck_assert(!b->data || (uintptr_t)b->data % SS_ALIGN == 0);
        }
        ck_assert(rc != SS_EAGAIN || at < n);
    }
    ck_assert_int_eq(ss_reader_next(wait, &a, &e), rc);
    ck_assert_str_eq(e.text, f.text);
    ck_assert_uint_eq(ss_reader_offset(wait), ss_reader_offset(poll_));
    ck_assert_int_eq(ss_reader_next(poll_, &b, &f), rc);
    ss_reader_close(&wait);
    ss_reader_close(&poll_);
    close(fd);
    close(p[0]);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

START_TEST(never_waits)
{
    uint8_t b[1024], *data = mixed_data();
    size_t n = specimen(b, sizeof b), room = 4 << 20;
    for (size_t piece = 1; piece <= n; piece++)
        in_pieces(b, n, piece);
    for (size_t k = 0; k < n; k++) /* cut short, or damaged */
        in_pieces(b, k, 7);
    for (size_t k = 0; k < n; k++) {
        b[k] ^= 0x10;
        in_pieces(b, n, 11);
        b[k] ^= 0x10;
    }
    b[n] = 0; /* a byte behind the end */
    in_pieces(b, n + 1, n);
    int fd = scratch();
    ck_assert_int_eq(write_mixed(fd, data, NULL), 0);
    uint8_t *large = malloc(room);
    n = slurp(fd, large, room);
    static const size_t pieces[] = {997, 16384, 40000, 65535, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        in_pieces(large, n, pieces[i]);
    in_pieces(large, n - 300000, 50000);
    large[n / 2] ^= 1;
    in_pieces(large, n, 50000);
    free(large);
    free(data);
    close(fd);
}
END_TEST

/* What a writer to memory has pending is, however it is taken away, what one to a file writes. */
START_TEST(to_memory)
{
    ss_err e;
    uint8_t *payload = malloc(LARGEST), *want = malloc(4 << 20), *got = malloc(4 << 20);
    for (size_t most = 1; most < 1 << 20; most = most * 5 + 3) {
        ss_writer *f, *w;
        int fd = scratch();
        size_t n, at = 0;
        must(ss_writer_open(&f, fd, &embedding, &e), &e);
        must(ss_writer_open_memory(&w, &embedding, &e), &e);
        for (int k = 0; k <= 150; k++) {
            ss_record rec = sample(k, payload);
            if (k < 150)
                must(ss_writer_put(f, &rec, &e), &e);
            must(k < 150 ? ss_writer_put(w, &rec, &e) : ss_writer_end(w, &e), &e);
            const uint8_t *p = ss_writer_pending(w, &n);
            size_t part = n < most ? n : most;
            memcpy(got + at, p, part);
            at += part;
            ss_writer_drained(w, part);
        }
        must(ss_writer_end(f, &e), &e);
        ck_assert_int_eq(ss_writer_put(w, &(ss_record){.type = SS_TYPE_ACK}, &e), SS_EINVAL);
        const uint8_t *p = ss_writer_pending(w, &n);
        memcpy(got + at, p, n);
        at += n;
        ss_writer_drained(w, n);
        ss_writer_pending(w, &n);
        ck_assert_uint_eq(n, 0);
        ck_assert_uint_eq(slurp(fd, want, 4 << 20), at);
        ck_assert_mem_eq(want, got, at);
        ck_assert_uint_eq(ss_writer_offset(w), at);
        ck_assert_uint_eq(ss_writer_count(w), 150);
        ss_writer_close(&f);
        ss_writer_close(&w);
        close(fd);
    }
    free(payload);
    free(want);
    free(got);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* A put that finds no memory leaves the stream as it was. */
START_TEST(memory_refused)
{
    static uint8_t b[65536], plain[65536];
    size_t want = 0;
    for (long n = 0;; n++) {
        ss_err e;
        ss_writer *w;
        size_t len;
        bool failed = false;
        fail_alloc_from(n, false);
        while (ss_writer_open_memory(&w, &embedding, &e))
            ck_assert_int_eq(e.code, SS_ENOMEM);
        for (int k = 0; k < 12; k++) {
            ss_record rec = {.type = SS_TYPE_DATA,
                             .seq = (uint64_t)k,
                             .dtype = SS_DTYPE_U8,
                             .rank = 1,
                             .dim = {2000},
                             .size = 2000,
                             .data = b};
            while (ss_writer_put(w, &rec, &e))
                ck_assert_int_eq(e.code, SS_ENOMEM);
        }
        while (ss_writer_end(w, &e))
            ck_assert_int_eq(e.code, SS_ENOMEM);
        failed = fail_alloc_done();
        const void *p = ss_writer_pending(w, &len);
        if (n == 0)
            memcpy(plain, p, want = len);
        ck_assert_uint_eq(len, want);
        ck_assert_mem_eq(p, plain, len);
        ss_writer_close(&w);
        ck_assert_uint_eq(ss_mem_used(), 0);
        if (n && !failed)
            break;
    }
}
END_TEST

START_TEST(ready)
{
    int p[2], fd = scratch();
    ss_err e;
    ss_writer *w;
    ss_reader *r;
    const ss_record *got;
    uint8_t whole[4096];
    size_t at[4], n = 0;
    must(ss_writer_open(&w, fd, &embedding, &e), &e);
    for (int i = 0; i < 3; i++) {
        at[i] = (size_t)ss_writer_offset(w);
        float v[8] = {(float)i};
        ss_record rec = {
            .type = SS_TYPE_DATA, .dtype = SS_DTYPE_F32, .rank = 1, .dim = {8}, .size = sizeof v, .data = v};
        must(ss_writer_put(w, &rec, &e), &e);
    }
    at[3] = (size_t)ss_writer_offset(w);
    must(ss_writer_end(w, &e), &e);
    ss_writer_close(&w);
    n = slurp(fd, whole, sizeof whole);
    close(fd);

    ck_assert_int_eq(pipe(p), 0);
    must(ss_reader_open(&r, p[0], NULL, &e), &e);
    const ss_header *h;
    ck_assert(!ss_reader_ready(r));
    ck_assert_int_eq(write(p[1], whole, at[0]), (ssize_t)at[0]);
    must(ss_reader_header(r, &h, &e), &e);
    for (size_t i = at[0]; i < at[1]; i++) {
        ck_assert(!ss_reader_ready(r));
        ck_assert_int_eq(write(p[1], whole + i, 1), 1);
    }
    ck_assert(ss_reader_ready(r));
    ck_assert_int_eq(write(p[1], whole + at[1], at[3] - at[1]), (ssize_t)(at[3] - at[1]));
    for (int i = 0; i < 3; i++) {
        ck_assert(ss_reader_ready(r));
        ck_assert_int_eq(ss_reader_next(r, &got, &e), 1);
        ck_assert(((const float *)got->data)[0] == (float)i);
    }
    ck_assert(!ss_reader_ready(r));
    ck_assert_int_eq(write(p[1], whole + at[3], n - at[3]), (ssize_t)(n - at[3]));
    ck_assert(!ss_reader_ready(r)); /* the file may go on behind the end record, which would be damage */
    close(p[1]);
    ck_assert_int_eq(ss_reader_next(r, &got, &e), 0);
    ck_assert(ss_reader_ready(r));
    ss_reader_close(&r);
    close(p[0]);

    fd = input(whole, at[2] + 9); /* an end of the file is ready, wherever it is */
    must(ss_reader_open(&r, fd, NULL, &e), &e);
    must(ss_reader_header(r, &h, &e), &e);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(ss_reader_next(r, &got, &e), 1);
    ck_assert(ss_reader_ready(r));
    ck_assert_int_eq(ss_reader_next(r, &got, &e), SS_ETRUNC);
    ck_assert(ss_reader_ready(r));
    ss_reader_close(&r);
    close(fd);
}
END_TEST

START_TEST(stop_flag)
{
    ss_err e;
    int p[2];
    uint8_t b[1024];
    size_t n = specimen(b, sizeof b);
    ss_reader *r;
    const ss_record *rec;
    const ss_header *h;
    struct sigaction act = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &act, NULL);
    ck_assert_int_eq(pipe(p), 0);
    must(ss_reader_open(&r, p[0], NULL, &e), &e);
    ss_reader_set_stop(r, &stop, 50);
    ck_assert_int_eq(write(p[1], b, n - 10), (ssize_t)(n - 10)); /* the end record is not all there */
    must(ss_reader_next(r, &rec, &e), &e);
    ualarm(100000, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(ss_reader_next(r, &rec, &e), 1);
        ck_assert_uint_eq(rec->seq, (uint64_t)i + 1);
    }
    int64_t begun = ss_clock_mono_ns();
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ck_assert_int_ge(ss_clock_mono_ns() - begun, 50000000);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ss_reader_close(&r);
    /* Set from the start: what is there is still read, to its very end. */
    ck_assert_int_eq(write(p[1], b, n), (ssize_t)n);
    close(p[1]);
    must(ss_reader_open(&r, p[0], NULL, &e), &e);
    ss_reader_set_stop(r, &stop, 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ss_reader_next(r, &rec, &e), 1);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ss_reader_close(&r);
    close(p[0]);
    ck_assert_int_eq(pipe(p), 0);
    must(ss_reader_open(&r, p[0], NULL, &e), &e);
    ss_reader_set_stop(r, &stop, 10);
    ck_assert_int_eq(ss_reader_header(r, &h, &e), SS_ESTOPPED);
    ck_assert_int_eq(ss_reader_next(r, &rec, &e), 0);
    ss_reader_close(&r);
}
END_TEST

/* An int8 embedding of 128 dimensions with all that a split pipeline stamps: its surroundings stay below 128
 * bytes. */
START_TEST(overhead)
{
    static const int stamped[] = {SS_ATTR_T_CAPTURE, SS_ATTR_T_FEATURIZE, SS_ATTR_T_ENCODE,
                                  SS_ATTR_T_LINK,    SS_ATTR_T_FINISH,    SS_ATTR_W_FEATURIZE,
                                  SS_ATTR_W_ENCODE,  SS_ATTR_W_LINK,      SS_ATTR_W_FINISH};
    int8_t z[128] = {0};
    ss_record rec = {
        .type = SS_TYPE_DATA, .dtype = SS_DTYPE_I8, .rank = 1, .dim = {128}, .size = 128, .data = z};
    ss_attr_set_uint(&rec.attrs, SS_ATTR_SPLIT, SS_CUT_EMBEDDING);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_U, 0.25f);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_NOVELTY, 0.25f);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, 1000);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_SCALE, 1 / 127.f);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_SENT, 0xfedcba98);
    ss_writer *w;
    ss_err e;
    int fd = scratch();
    must(ss_writer_open(&w, fd, &embedding, &e), &e);
    uint64_t from = ss_writer_offset(w);
    must(ss_writer_put(w, &rec, &e), &e);
    ck_assert_uint_eq(ss_writer_offset(w) - from - 128, 77); /* as ss-stream(5) says */
    ss_attr_set_uint(&rec.attrs, SS_ATTR_LABEL, 9);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_CLIP, 399);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_FOLD, 5);
    for (size_t i = 0; i < sizeof stamped / sizeof *stamped; i++)
        ss_attr_set_uint(&rec.attrs, stamped[i], 5000);
    from = ss_writer_offset(w);
    must(ss_writer_put(w, &rec, &e), &e);
    ck_assert_uint_eq(ss_writer_offset(w) - from - 128, 111); /* as ss-stream(5) says */
    ss_writer_close(&w);
    close(fd);
}
END_TEST

START_TEST(stage_times)
{
    ss_attrs a = {0};
    int64_t begun = ss_stage_begin(&a, SS_ATTR_W_ENCODE);
    ck_assert(!ss_attr_has(&a, SS_ATTR_W_ENCODE)); /* nobody sent it */
    ss_clock_sleep_until(begun + 3000000);
    ss_stage_end(&a, SS_ATTR_T_ENCODE, begun);
    ck_assert_uint_ge(ss_attr_uint(&a, SS_ATTR_T_ENCODE, 0), 3000);
    ck_assert(ss_attr_has(&a, SS_ATTR_SENT));
    ss_attr_set_uint(&a, SS_ATTR_SENT, (uint32_t)(ss_attr_uint(&a, SS_ATTR_SENT, 0) - 5000));
    ss_stage_begin(&a, SS_ATTR_W_FINISH);
    ck_assert_uint_ge(ss_attr_uint(&a, SS_ATTR_W_FINISH, 0), 5000);
    ss_attr_set_uint(&a, SS_ATTR_SENT,
                     (uint32_t)(ss_clock_real_ns() / 1000 + 60000000)); /* a clock that is ahead */
    ss_attr_clear(&a, SS_ATTR_W_FINISH);
    ss_stage_begin(&a, SS_ATTR_W_FINISH);
    ck_assert_uint_eq(ss_attr_uint(&a, SS_ATTR_W_FINISH, 9), 0);
}
END_TEST

/* The registry is as ss-stream(5) lists it. */
START_TEST(names_are_in_the_page)
{
    static char page[65536];
    char line[128];
    ck_assert_ptr_nonnull(getenv("SS_SRC"));
    snprintf(page, sizeof page, "%s/man/ss-stream.5", getenv("SS_SRC"));
    FILE *f = fopen(page, "r");
    ck_assert_ptr_nonnull(f);
    page[fread(page, 1, sizeof page - 1, f)] = 0;
    fclose(f);
    for (int i = 1; i <= SS_ATTR_MAX; i++) {
        if (!ss_attr_name(i))
            continue;
        if (i < SS_ATTR_T_CAPTURE || i > SS_ATTR_W_FINISH)
            snprintf(line, sizeof line, "\n%d\t%s\t%s\t", i, ss_attr_name(i),
                     ss_attr_is_float(i) ? "f32" : "unsigned");
        else
            snprintf(line, sizeof line, "%s", ss_attr_name(i));
        ck_assert_msg(strstr(page, line) != NULL, "attribute %d is not in the page", i);
    }
    for (int i = 0; i < 256; i++) {
        snprintf(line, sizeof line, "\n%d\t%s\t", i, ss_type_name(i));
        ck_assert_msg(!ss_type_name(i) || strstr(page, line), "type %d is not in the page", i);
        snprintf(line, sizeof line, "%d\t%s\t%zu", i, ss_dtype_name(i), ss_dtype_size(i));
        ck_assert_msg(!ss_dtype_size(i) || strstr(page, line), "dtype %d is not in the page", i);
    }
}
END_TEST

START_TEST(names)
{
    for (int i = 1; i <= SS_DTYPE_PACKED; i++)
        ck_assert_int_eq(ss_dtype_parse(ss_dtype_name(i)), i);
    ck_assert_int_eq(ss_dtype_parse("f33"), 0);
    ck_assert_ptr_null(ss_dtype_name(0));
    ck_assert_ptr_null(ss_dtype_name(11));
    ck_assert_uint_eq(ss_dtype_size(SS_DTYPE_F64), 8);
    ck_assert_uint_eq(ss_dtype_size(-1), 0);
    int known = 0;
    for (int i = 0; i < 300; i++)
        if (ss_attr_name(i)) {
            ck_assert_int_eq(ss_attr_parse(ss_attr_name(i)), i);
            known++;
        }
    ck_assert_int_eq(known, 34);
    ck_assert_int_eq(ss_attr_parse("nothing"), 0);
    known = 0;
    for (int i = 0; i < 300; i++)
        if (ss_type_name(i)) {
            ck_assert_int_eq(ss_type_parse(ss_type_name(i)), i);
            known++;
        }
    ck_assert_int_eq(known, 10);
    for (int i = 0; i <= SS_CUT_EMBEDDING; i++)
        ck_assert_int_eq(ss_cut_parse(ss_cut_name(i)), i);
    ck_assert_int_eq(ss_cut_parse("9"), SS_EINVAL);
    ck_assert_ptr_null(ss_cut_name(11));
    ss_attrs a = {0};
    ss_attr_set_uint(&a, 64, 1);
    ss_attr_set_uint(&a, 0, 1);
    ss_attr_clear(&a, -1);
    ck_assert_uint_eq(a.present, 0);
    ck_assert(!ss_attr_has(&a, 64));
    ck_assert(ss_attr_f32(&a, SS_ATTR_U, 0.5f) == 0.5f);
}
END_TEST

UNIT_MAIN("stream", round_trip, large_payloads_through_a_pipe, byte_by_byte, short_counts, large_ones_damaged,
          smallest_pipe, pipe_widened, every_truncation, every_bit_flip, records_moved, golden_specimens,
          lies, not_a_stream, header_round_trip, header_strict, writer_refuses, memory_follows_what_comes,
          allocation_fails, failed_writes, tied_writer, never_waits, to_memory, memory_refused, ready,
          stop_flag, overhead, stage_times, names, names_are_in_the_page)
