/* Reader and writer of ss-stream(5): what is read well is written again and reads the same; memory is all
 * given back. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz.h"
#include "io/stream.h"

enum { MOST = 1 << 20 };

static int file = -1, copy = -1, again = -1;

static void fill(int fd, const void *data, size_t size)
{
    PROMISE(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
}

/* Read `from`; with `to` >= 0 write what comes there. */
static int pass(int from, int to)
{
    static const ss_limits limits = {.max_payload = MOST};
    ss_reader *r;
    ss_writer *w = NULL;
    const ss_header *h;
    const ss_record *rec;
    ss_err e = {0};
    PROMISE(ss_reader_open(&r, from, &limits, &e) == SS_OK);
    int rc = ss_reader_header(r, &h, &e);
    if (!rc) {
        PROMISE(ss_writer_open(&w, to, h, &e) == SS_OK);
        while ((rc = ss_reader_next(r, &rec, &e)) > 0) {
            PROMISE(rec->size <= MOST && (uintptr_t)rec->data % SS_ALIGN == 0);
            PROMISE(ss_writer_put(w, rec, &e) == SS_OK);
        }
        PROMISE(ss_writer_end(w, &e) == SS_OK);
    }
    PROMISE(rc >= 0 || (e.code == rc && *e.text && rc != SS_ENOMEM && rc != SS_EINVAL));
    PROMISE(ss_reader_next(r, &rec, &e) == rc);
    PROMISE(ss_mem_used() < 2 * MOST + (16 << 20));
    ss_reader_close(&r);
    ss_writer_close(&w);
    PROMISE(ss_mem_used() == 0);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t a[4 << 20], b[4 << 20];
    if (file < 0) {
        file = memfd_create("in", 0);
        copy = memfd_create("copy", 0);
        again = memfd_create("again", 0);
    }
    fill(file, data, size);
    fill(copy, "", 0);
    fill(again, "", 0);
    if (!pass(file, copy)) {
        PROMISE(!lseek(copy, 0, SEEK_SET) && !pass(copy, again));
        ssize_t n = pread(copy, a, sizeof a, 0), m = pread(again, b, sizeof b, 0);
        PROMISE(n == m && !memcmp(a, b, (size_t)n));
    }
    return 0;
}
