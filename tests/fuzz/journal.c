/* The newest segment of a journal, and the one before it: whatever their bytes are, what is whole is read,
 * the log goes on behind it, and the next start has nothing to mend. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz.h"
#include "io/journal.h"

static char dir[64];

static void at_end(void)
{
    rmdir(dir);
}

static void put_segment(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s.sst", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    PROMISE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void remove_segment(uint64_t first)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%020llu.sst", dir, (unsigned long long)first);
    unlink(path);
}

/* All that can be read, by number; how often something was damaged. */
static uint64_t read_all(ss_journal *j, int *damaged)
{
    ss_journal_cursor *c;
    const ss_record *r;
    ss_err e = {0};
    uint64_t n = 0, last = 0;
    int rc;
    *damaged = 0;
    PROMISE(ss_journal_cursor_open(&c, j, 0, &e) == SS_OK);
    while ((rc = ss_journal_cursor_next(c, &r, &e))) {
        uint64_t index = ss_journal_cursor_index(c);
        PROMISE(index > last || rc < 0);
        last = index;
        if (rc < 0) {
            PROMISE(rc == SS_EDAMAGED && *e.text);
            ++*damaged;
        } else {
            PROMISE(index <= ss_journal_next(j));
            n++;
        }
    }
    ss_journal_cursor_close(&c);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ss_header h = {.kind = "embedding"};
    static const ss_journal_config config = {.no_sync = true};
    ss_journal *j;
    ss_err e = {0};
    int before, after;
    if (!*dir) {
        strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/fuzz-journal-XXXXXX" : "/dev/shm/fuzz-journal-XXXXXX");
        PROMISE(mkdtemp(dir));
        atexit(at_end);
    }
    put_segment("00000000000000000000", data, size);
    put_segment("00000000000000000003", data, size);
    PROMISE(ss_journal_open(&j, dir, &config, &e) >= 0);
    uint64_t next = ss_journal_next(j);
    PROMISE(next >= 3 && next - 3 <= size);
    uint64_t n = read_all(j, &before);
    PROMISE(ss_journal_header(j, &h, &e) == SS_OK);
    PROMISE(ss_journal_append(j, &(ss_record){.type = SS_TYPE_GAP}, &e) == (int64_t)next);
    PROMISE(read_all(j, &after) == n + 1 && after == before);
    PROMISE(ss_journal_close(&j, &e) == SS_OK);
    PROMISE(ss_journal_open(&j, dir, &config, &e) == 0);
    PROMISE(read_all(j, &after) == n + 1 && after == before);
    PROMISE(ss_journal_close(&j, &e) == SS_OK);
    PROMISE(ss_mem_used() == 0);
    remove_segment(0);
    remove_segment(3);
    remove_segment(next);
    return 0;
}
