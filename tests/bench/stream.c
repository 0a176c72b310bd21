/*
 * What a stream costs beside a bare copy through the same pipe.
 *
 *   bench-stream [--rounds=R] [--mib=N] [--filter=PROGRAM]     tables; N: of each measurement; PROGRAM:
 * ss-cat
 *
 * Payloads of several sizes go from a process that writes through a pipe to this one: as records, or as the
 * same bytes in a loop of write and a loop of read, a payload or 64 KiB at a time; in turns, R rounds. Then
 * int8 embeddings with typical attributes: writer to reader, through `PROGRAM --stream` between two pipes,
 * and through a loop of read and write in its place whose buffer has 64 KiB.
 */
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

enum { LARGEST = 1 << 20, BUFFER = 1 << 16, MOST_ROUNDS = 101 };

static unsigned char *payload, *buffer;
static const char *filter;

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
    int rc = ss_reader_open(&r, fd, NULL, &e);
    while (!rc && (rc = ss_reader_next(r, &rec, &e)) > 0)
        rc = 0;
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

static int produce_bare(int fd, size_t chunk, uint64_t bytes)
{
    for (; bytes > 0; bytes -= chunk) {
        chunk = bytes < chunk ? (size_t)bytes : chunk;
        if (write_all(fd, payload, chunk))
            return -1;
    }
    return 0;
}

static int consume_bare(int fd, size_t chunk, uint64_t *bytes)
{
    ssize_t k;
    *bytes = 0;
    while ((k = read(fd, buffer, chunk)) > 0)
        *bytes += (uint64_t)k;
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

enum way { RECORDS, BARE, FILTERED, COPIED };

/* Seconds that n payloads took. */
static double go(enum way way, size_t size, uint64_t n, uint64_t *bytes)
{
    int p[2], q[2] = {-1, -1}, status, left = 1, rc;
    bool between = way == FILTERED || way == COPIED;
    size_t chunk = size > BUFFER ? size : BUFFER;
    if (pipe(p) || (between && pipe(q)))
        exit(EXIT_FAILURE);
    int64_t begun = ss_clock_mono_ns();
    if (!fork()) {
        close(p[0]);
        if (between) {
            close(q[0]);
            close(q[1]);
        }
        _exit(way == BARE ? produce_bare(p[1], chunk, n * size) : produce(p[1], size, n));
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
    rc = way == BARE ? consume_bare(p[0], chunk, bytes) : consume(p[0], n, bytes);
    double s = (double)(ss_clock_mono_ns() - begun) * 1e-9;
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
    static double s[4][MOST_ROUNDS];
    int rounds = 7, mib = 200, o;
    uint64_t bytes = 0;
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
    puts("| payload | records, MB/s (largest / median) | bare write and read | ratio of the best, of the "
         "medians |\n"
         "|---|---|---|---|");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t n = ((uint64_t)mib << 20) / sizes[i];
        double mb = (double)n * (double)sizes[i] * 1e-6;
        for (int r = 0; r < rounds; r++)
            for (int way = RECORDS; way <= BARE; way++)
                s[way][r] = go((enum way)way, sizes[i], n, &bytes);
        for (int way = RECORDS; way <= BARE; way++)
            qsort(s[way], (size_t)rounds, sizeof(double), ascending);
        printf("| %zu bytes | ", sizes[i]);
        print_rates(rounds, s[RECORDS], mb, "| ");
        print_rates(rounds, s[BARE], mb, "| ");
        printf("%.2f, %.2f |\n", s[BARE][0] / s[RECORDS][0], s[BARE][rounds / 2] / s[RECORDS][rounds / 2]);
    }
    uint64_t n = 2500 * (uint64_t)mib;
    for (int r = 0; r < rounds; r++)
        for (int way = RECORDS; way <= COPIED; way++)
            if (way != BARE && (way != FILTERED || filter))
                s[way][r] = go((enum way)way, 128, n, &bytes);
    static const char *const name[] = {"writer, pipe, reader", NULL, NULL,
                                       "through a loop of read and write"};
    printf("\n| embeddings of 128 int8, %.0f bytes with all | records/s (largest / median) |\n|---|---|\n",
           (double)bytes / (double)n);
    for (int way = RECORDS; way <= COPIED; way++) {
        if (way == BARE || (way == FILTERED && !filter))
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
