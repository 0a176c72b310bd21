/*
 * What a stream costs beside a bare copy through the same pipe.
 *
 *   bench-stream [--rounds=R] [--mib=N] [--filter=PROGRAM]     tables; N: of each measurement; PROGRAM:
 * ss-cat
 *
 * Payloads of several sizes go from a process that writes through a pipe to this one: as records, or as many
 * bytes in a loop of write and a loop of read, 64 KiB at a time, through a pipe of the size that the records
 * had (the writer may make it larger) and through one as the system gives it; in turns, R rounds. Then int8
 * embeddings with typical attributes: writer to reader, through `PROGRAM --stream` between two pipes, and
 * through a loop of read and write in its place. The first 8 MiB of payload are not counted: they start
 * programs and touch memory for the first time.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/stream.h"

enum { LARGEST = 1 << 20, BUFFER = 1 << 16, WARM = 8 << 20, MOST_ROUNDS = 301 };

static unsigned char *payload, *buffer;
static const char *filter;
static int64_t begun;   /* when WARM bytes had come */
static uint64_t before; /* what had come then */

static void arrived(uint64_t bytes)
{
    if (!begun && bytes >= WARM) {
        begun = ss_clock_mono_ns();
        before = bytes;
    }
}

/* Embeddings carry attributes; other payloads are what they are. */
static int produce(int fd, size_t size, uint64_t n)
{
    ss_err e;
    ss_writer *w;
    ss_header h = {.kind = "embedding"};
    ss_record rec = {.type = SS_TYPE_DATA,
                     .dtype = SS_DTYPE_I8,
                     .rank = 1,
                     .dim = {(uint32_t)size},
                     .size = size,
                     .data = payload};
    if (size == 128)
        for (int a = SS_ATTR_U; a <= SS_ATTR_SCALE; a++)
            ss_attr_set_uint(&rec.attrs, a, 100);
    int rc = ss_writer_open(&w, fd, &h, &e);
    for (; rec.seq < n && !rc; rec.seq++)
        rc = ss_writer_put(w, &rec, &e);
    return rc || ss_writer_end(w, &e);
}

static int consume(int fd, uint64_t n, uint64_t *bytes)
{
    ss_reader *r;
    ss_err e;
    const ss_record *rec;
    uint64_t payloads = 0;
    int rc = ss_reader_open(&r, fd, NULL, &e);
    while (!rc && (rc = ss_reader_next(r, &rec, &e)) > 0) {
        rc = 0;
        arrived(payloads += rec->size);
    }
    *bytes = ss_reader_offset(r);
    if (ss_reader_count(r) != n)
        rc = -1;
    ss_reader_close(&r);
    return rc;
}

static int write_all(int fd, const unsigned char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, p, n);
        if (k <= 0)
            return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int produce_bare(int fd, uint64_t bytes)
{
    for (size_t chunk; bytes > 0; bytes -= chunk) {
        chunk = bytes < BUFFER ? (size_t)bytes : BUFFER;
        if (write_all(fd, payload, chunk))
            return -1;
    }
    return 0;
}

static int consume_bare(int fd, uint64_t *bytes)
{
    ssize_t k;
    *bytes = 0;
    while ((k = read(fd, buffer, BUFFER)) > 0)
        arrived(*bytes += (uint64_t)k);
    return (int)k;
}

static int copy_bare(int from, int to)
{
    ssize_t k;
    while ((k = read(from, buffer, BUFFER)) > 0)
        if (write_all(to, buffer, (size_t)k))
            return -1;
    return (int)k;
}

enum way { RECORDS, BARE, PLAIN, FILTERED, COPIED, WAYS };

/* Seconds that n payloads take, by what came after the first WARM bytes; bytes: of one on the way. */
static double go(enum way way, size_t size, uint64_t n, double *bytes)
{
    static int room; /* of the pipe of the last records */
    int p[2], q[2] = {-1, -1}, status, left = 1, rc;
    bool between = way == FILTERED || way == COPIED, bare = way == BARE || way == PLAIN;
    uint64_t all = n + WARM / size + 1, came;
    if (pipe(p) || (between && pipe(q)))
        exit(EXIT_FAILURE);
    if (way == BARE)
        fcntl(p[1], F_SETPIPE_SZ, room);
    begun = 0;
    if (!fork()) {
        close(p[0]);
        if (between) {
            close(q[0]);
            close(q[1]);
        }
        _exit(bare ? produce_bare(p[1], all * size) : produce(p[1], size, all));
    }
    close(p[1]);
    if (between) {
        left++;
        if (!fork()) {
            close(q[0]);
            if (way == COPIED)
                _exit(copy_bare(p[0], q[1]));
            dup2(p[0], STDIN_FILENO);
            dup2(q[1], STDOUT_FILENO);
            close(p[0]);
            close(q[1]);
            execlp(filter, filter, "--stream", (char *)NULL);
            _exit(127);
        }
        close(q[1]);
        close(p[0]);
        p[0] = q[0];
    }
    rc = bare ? consume_bare(p[0], &came) : consume(p[0], all, &came);
    double s = (double)(ss_clock_mono_ns() - begun) * 1e-9 * ((double)n / (double)(all - before / size));
    *bytes = (double)came / (double)all;
    if (way == RECORDS)
        room = fcntl(p[0], F_GETPIPE_SZ);
    close(p[0]);
    while (left-- > 0)
        if (wait(&status) < 0 || status)
            rc = -1;
    if (rc) {
        fputs("bench-stream: a stream did not arrive\n", stderr);
        exit(EXIT_FAILURE);
    }
    return s;
}

static int ascending(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

/* "largest / median" of a rate: `scale` over seconds. */
static void print_rates(int rounds, const double *s, double scale, const char *end)
{
    printf("%.0f / %.0f %s", scale / s[0], scale / s[rounds / 2], end);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"rounds", 1, NULL, 'r'}, {"mib", 1, NULL, 'm'}, {"filter", 1, NULL, 'f'}, {NULL, 0, NULL, 0}};
    static const size_t sizes[] = {LARGEST, 24576, 3072};
    static double s[WAYS][MOST_ROUNDS];
    int rounds = 41, mib = 32, o;
    double bytes = 0;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == 'r')
            rounds = atoi(optarg);
        else if (o == 'f')
            filter = optarg;
        else if (o == 'm')
            mib = atoi(optarg);
        else
            return 2;
    }
    if (rounds < 1 || rounds > MOST_ROUNDS || mib < 1 || optind < argc)
        return 2;
    payload = ss_zalloc(LARGEST, 1);
    buffer = ss_zalloc(LARGEST, 1);
    if (!payload || !buffer)
        return EXIT_FAILURE;
    for (int i = 0; i < LARGEST; i++)
        payload[i] = (unsigned char)(i * 31);
    puts("| payload | records, MB/s (largest / median) | bare write and read, same pipe | plain pipe | ratio "
         "to "
         "the same pipe (best / medians) | to the plain one |\n"
         "|---|---|---|---|---|---|");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t n = ((uint64_t)mib << 20) / sizes[i];
        double mb = (double)n * (double)sizes[i] * 1e-6;
        for (int r = 0; r < rounds; r++)
            for (int way = RECORDS; way <= PLAIN; way++)
                s[way][r] = go((enum way)way, sizes[i], n, &bytes);
        for (int way = RECORDS; way <= PLAIN; way++)
            qsort(s[way], (size_t)rounds, sizeof(double), ascending);
        printf("| %zu bytes | ", sizes[i]);
        print_rates(rounds, s[RECORDS], mb, "| ");
        print_rates(rounds, s[BARE], mb, "| ");
        print_rates(rounds, s[PLAIN], mb, "");
        for (int way = BARE; way <= PLAIN; way++)
            printf("| %.2f / %.2f ", s[way][0] / s[RECORDS][0], s[way][rounds / 2] / s[RECORDS][rounds / 2]);
        puts("|");
    }
    uint64_t n = 8192 * (uint64_t)mib;
    for (int r = 0; r < rounds; r++)
        for (int way = RECORDS; way <= COPIED; way++)
            if (way == RECORDS || way == COPIED || (way == FILTERED && filter))
                s[way][r] = go((enum way)way, 128, n, &bytes);
    static const char *const name[] = {"writer, pipe, reader", NULL, NULL, NULL,
                                       "through a loop of read and write"};
    printf("\n| embeddings of 128 int8, %.0f bytes with all | records/s (largest / median) |\n|---|---|\n",
           bytes);
    for (int way = RECORDS; way <= COPIED; way++) {
        if (way == BARE || way == PLAIN || (way == FILTERED && !filter))
            continue;
        qsort(s[way], (size_t)rounds, sizeof(double), ascending);
        const char *base = filter ? strrchr(filter, '/') : NULL;
        if (way == FILTERED)
            printf("| through %s | ", base ? base + 1 : filter);
        else
            printf("| %s | ", name[way]);
        print_rates(rounds, s[way], (double)n, "|\n");
    }
    return EXIT_SUCCESS;
}
