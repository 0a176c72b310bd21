/* Records a second through writer, pipe and reader: int8 embeddings with typical attributes, written by
 * another process. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/stream.h"

static int produce(int fd, uint64_t n)
{
    ss_err e;
    ss_writer *w;
    int8_t z[128] = {0};
    ss_header h = {.kind = "embedding"};
    ss_record rec = {
        .type = SS_TYPE_DATA, .dtype = SS_DTYPE_I8, .rank = 1, .dim = {128}, .size = 128, .data = z};
    for (int a = SS_ATTR_U; a <= SS_ATTR_SCALE; a++)
        ss_attr_set_uint(&rec.attrs, a, 100);
    int rc = ss_writer_open(&w, fd, &h, &e);
    for (; rec.seq < n && !rc; rec.seq++)
        rc = ss_writer_put(w, &rec, &e);
    return rc || ss_writer_end(w, &e);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    int p[2], rc, status;
    if (pipe(p))
        return EXIT_FAILURE;
    int64_t begun = ss_clock_mono_ns();
    pid_t pid = fork();
    if (!pid)
        _exit(produce(p[1], n));
    close(p[1]);
    ss_reader *r;
    ss_err e;
    const ss_record *rec;
    rc = ss_reader_open(&r, p[0], NULL, &e);
    while (!rc && (rc = ss_reader_next(r, &rec, &e)) > 0)
        rc = 0;
    double s = (double)(ss_clock_mono_ns() - begun) * 1e-9;
    if (rc || ss_reader_count(r) != n || waitpid(pid, &status, 0) != pid || status)
        return EXIT_FAILURE;
    printf("%" PRIu64 " records, %.0f bytes each: %.2f s, %.0f records/s\n", n,
           (double)ss_reader_offset(r) / (double)n, s, (double)n / s);
    ss_reader_close(&r);
    return EXIT_SUCCESS;
}
