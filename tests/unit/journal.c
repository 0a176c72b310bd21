#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "failalloc.h"
#include "faults.h"

#include "base/mem.h"
#include "io/journal.h"
#include "scratch.h"
#include "unit.h"

static const char dir[] = "j";
static const ss_header one = {.kind = "logmel", .rate = 16000}, two = {.kind = "cut"};
static uint8_t bytes[70000];

static void setup(void)
{
    scratch_enter("journal", true); /* fsync is asked for by the thousand */
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
}

static void must(int64_t rc, const ss_err *e)
{
    ck_assert_msg(rc >= 0, "%d: %s", (int)rc, e->text);
}

/* What the record of an index is: its size comes from the index. */
static ss_record sample(uint64_t k)
{
    size_t n = k % 7 == 3 ? 0 : k % 31 == 30 ? 66000 : 20 + k * 37 % 300;
    ss_record r = {.type = n ? SS_TYPE_DATA : SS_TYPE_GAP, .device = 5, .epoch = 99, .seq = k, .size = n};
    if (n) {
        r.dtype = SS_DTYPE_U8;
        r.rank = 1;
        r.dim[0] = (uint32_t)n;
        r.data = bytes + k % 1000;
    }
    return r;
}

static int add(ss_journal *j, uint64_t k, ss_err *e)
{
    ss_record r = sample(k);
    int64_t at = ss_journal_append(j, &r, e);
    if (at >= 0 && at != (int64_t)k) /* no assertion: children come here too, and die */
        return ss_err_set(e, SS_EDIFFER, "record %" PRIu64 " got index %" PRId64, k, at);
    return at < 0 ? (int)at : SS_OK;
}

static void is_sample(const ss_record *r, uint64_t k)
{
    ss_record want = sample(k);
    ck_assert_uint_eq(r->seq, k);
    ck_assert_uint_eq(r->type, want.type);
    ck_assert_uint_eq(r->size, want.size);
    ck_assert(!want.size || !memcmp(r->data, want.data, want.size));
}

/* From `from` on come exactly the records up to `to`. */
static void holds(ss_journal *j, uint64_t from, uint64_t to)
{
    ss_err e;
    ss_journal_cursor *c;
    const ss_record *r;
    int rc;
    must(ss_journal_cursor_open(&c, j, from, &e), &e);
    for (uint64_t k = from; k < to; k++) {
        must(rc = ss_journal_cursor_next(c, &r, &e), &e);
        ck_assert_msg(rc > 0, "record %" PRIu64 " is missing", k);
        is_sample(r, k);
    }
    ck_assert_int_eq(ss_journal_cursor_next(c, &r, &e), 0);
    ss_journal_cursor_close(&c);
}

static int files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *f; (f = readdir(d));)
        n += *f->d_name != '.';
    closedir(d);
    return n;
}

static const char *file(uint64_t first)
{
    static char path[120];
    snprintf(path, sizeof path, "%s/%020" PRIu64 ".sst", dir, first);
    return path;
}

static size_t slurp(const char *path, uint8_t *to, size_t room)
{
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(to, 1, room, f);
    fclose(f);
    return n;
}

static void spill(const char *path, const uint8_t *from, size_t n)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(from, 1, n, f), n);
    fclose(f);
}

/* On disk with and without fsync, and in memory: cursors from everywhere, while it grows. */
START_TEST(grows_and_is_read)
{
    setup();
    for (int way = 0; way < 3; way++) {
        ss_err e;
        ss_journal *j;
        ss_journal_cursor *c[4];
        const ss_record *r;
        uint64_t read[4] = {0}, n = 0;
        ss_journal_config config = {.segment_bytes = 3000, .no_sync = way == 1};
        ck_assert_int_eq(ss_journal_open(&j, way < 2 ? dir : NULL, &config, &e), 0);
        ck_assert_int_eq(ss_journal_append(j, &(ss_record){.type = SS_TYPE_ACK}, &e), SS_EINVAL);
        must(ss_journal_header(j, &one, &e), &e);
        for (int i = 0; i < 4; i++)
            must(ss_journal_cursor_open(&c[i], j, 0, &e), &e);
        while (n < 400) {
            if (n == 250)
                must(ss_journal_header(j, &two, &e), &e);
            if (n == 120)
                must(ss_journal_header(j, &one, &e), &e); /* no change */
            must(add(j, n++, &e), &e);
            if (n % 5 == 0)
                must(ss_journal_write(j, &e), &e);
            if (n % 11 == 0) {
                must(ss_journal_sync(j, &e), &e);
                ck_assert_uint_eq(ss_journal_durable(j), n);
            }
            for (int i = 0; i < 4; i++) /* at once, and later */
                while (read[i] + (uint64_t)(i * i * 20) < n) {
                    int rc = ss_journal_cursor_next(c[i], &r, &e);
                    must(rc, &e);
                    ck_assert_int_eq(rc, read[i] == 0 || read[i] == 250 ? 2 : 1);
                    ck_assert_str_eq(ss_journal_cursor_header(c[i])->kind, read[i] < 250 ? "logmel" : "cut");
                    is_sample(r, read[i]++);
                    ck_assert_uint_eq(ss_journal_cursor_index(c[i]), read[i]);
                }
            ck_assert_int_eq(ss_journal_cursor_next(c[0], &r, &e), 0);
        }
        for (uint64_t k = 0; k <= 400; k += 13)
            holds(j, k, 400);
        for (int i = 0; i < 4; i++)
            ss_journal_cursor_close(&c[i]);
        ck_assert_uint_eq(ss_journal_first(j), 0);
        ck_assert_uint_eq(ss_journal_next(j), 400);
        must(ss_journal_close(&j, &e), &e);
        ck_assert_uint_eq(ss_mem_used(), 0);
        if (way == 2)
            continue;
        struct stat st;
        ck_assert_int_eq(stat(dir, &st), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0700);
        ck_assert_int_eq(stat(file(0), &st), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0600);
        ck_assert_int_eq(ss_journal_open(&j, dir, &config, &e), 0); /* closed well: nothing to say */
        ck_assert_uint_eq(ss_journal_next(j), 400);
        ck_assert_uint_eq(ss_journal_durable(j), 400);
        holds(j, 0, 400);
        must(ss_journal_header(j, &two, &e), &e);
        must(add(j, 400, &e), &e);
        holds(j, 390, 401);
        must(ss_journal_close(&j, &e), &e);
        scratch_remove(dir);
    }
    scratch_leave();
}
END_TEST

START_TEST(one_process)
{
    ss_err e;
    ss_journal *j, *k;
    setup();
    must(ss_journal_open(&j, dir, NULL, &e), &e);
    ck_assert_int_eq(ss_journal_open(&k, dir, NULL, &e), SS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "another process"));
    ck_assert_ptr_null(k);
    must(ss_journal_close(&j, &e), &e);
    must(ss_journal_open(&j, dir, NULL, &e), &e);
    must(ss_journal_close(&j, &e), &e);
    spill(file(0), bytes, 0);
    char name[160];
    snprintf(name, sizeof name, "%s/x", file(0));
    ck_assert_int_eq(ss_journal_open(&j, name, NULL, &e), SS_EIO); /* no folder */
    scratch_leave();
}
END_TEST

START_TEST(trimmed_and_limited)
{
    setup();
    for (int way = 0; way < 2; way++) {
        ss_err e;
        ss_journal *j;
        ss_journal_config config = {.segment_bytes = 3000, .max_bytes = 20000};
        must(ss_journal_open(&j, way ? NULL : dir, &config, &e), &e);
        must(ss_journal_header(j, &one, &e), &e);
        uint64_t n = 0;
        while (n < 30)
            must(add(j, n++, &e), &e);
        ck_assert_int_eq(add(j, n, &e), SS_ELIMIT); /* the large one */
        ck_assert_uint_eq(ss_journal_next(j), n);
        uint64_t had = ss_journal_bytes(j), end = ss_journal_segment_end(j, 0);
        ck_assert(end > 1 && end < n && ss_journal_segment_end(j, end - 1) == end);
        ck_assert_uint_eq(ss_journal_segment_end(j, n - 1), n);
        must(ss_journal_trim(j, end - 1, &e), &e);
        ck_assert_uint_eq(ss_journal_bytes(j), had);
        ck_assert_uint_eq(ss_journal_first(j), 0);
        must(ss_journal_trim(j, end, &e), &e);
        ck_assert_uint_eq(ss_journal_first(j), end);
        ck_assert_uint_lt(ss_journal_bytes(j), had);
        holds(j, end, n);
        ss_journal_cursor *c; /* one that is behind goes on with what is kept */
        const ss_record *r;
        must(ss_journal_cursor_open(&c, j, 0, &e), &e);
        must(ss_journal_cursor_next(c, &r, &e), &e);
        is_sample(r, end);
        must(ss_journal_trim(j, n, &e), &e);
        ck_assert_int_eq(ss_journal_cursor_next(c, &r, &e), 0);
        ck_assert_uint_eq(ss_journal_first(j), n);
        ck_assert_uint_lt(ss_journal_bytes(j), 200);
        for (int i = 0; i < 2 && !way; i++) { /* the count outlives the records, however often */
            ck_assert_int_eq(files(), 1);
            must(ss_journal_close(&j, &e), &e);
            ck_assert_int_eq(ss_journal_open(&j, dir, &config, &e), 0);
            ss_journal_cursor_close(&c);
            must(ss_journal_cursor_open(&c, j, 0, &e), &e);
            ck_assert_uint_eq(ss_journal_next(j), n);
            must(ss_journal_header(j, &two, &e), &e);
            ck_assert_int_eq(ss_journal_cursor_next(c, &r, &e), 0);
        }
        n++;
        ss_record rec = sample(n);
        ck_assert_int_eq(ss_journal_append(j, &rec, &e), (int64_t)n - 1);
        must(ss_journal_cursor_next(c, &r, &e), &e);
        is_sample(r, n);
        ss_journal_cursor_close(&c);
        must(ss_journal_close(&j, &e), &e);
        if (!way)
            ck_assert_int_eq(files(), 1);
        scratch_remove(dir);
    }
    scratch_leave();
}
END_TEST

/* A folder as a killed process leaves it, its file's bytes cut short at every place, or ending in rubbish. */
START_TEST(torn_at_every_byte)
{
    enum { N = 6 };
    static uint8_t b[8192], bad[8192];
    size_t at[N + 1];
    ss_err e;
    ss_journal *j;
    setup();
    ss_writer *w; /* where records end */
    must(ss_writer_open_memory(&w, &one, &e), &e);
    for (int k = 0; k <= N; k++) {
        ss_record r = sample((uint64_t)k);
        at[k] = ss_writer_offset(w);
        must(ss_writer_put(w, &r, &e), &e);
    }
    ss_writer_close(&w);
    pid_t child = fork();
    if (!child) {
        int rc = ss_journal_open(&j, dir, NULL, &e) || ss_journal_header(j, &one, &e);
        for (uint64_t k = 0; k < N && !rc; k++)
            rc = add(j, k, &e);
        _exit(rc || ss_journal_write(j, &e));
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    size_t n = slurp(file(0), b, sizeof b);
    ck_assert_uint_eq(n, at[N]);
    for (size_t k = 0; k <= n; k++)
        for (int rubbish = 0; rubbish < 3; rubbish++) { /* nothing, zeros, or noise behind it */
            uint64_t want = 0;
            memcpy(bad, b, k);
            memset(bad + k, 0, 100);
            if (rubbish == 2)
                memcpy(bad + k, bytes, 100);
            while (want < N && at[want + 1] <= k)
                want++;
            scratch_remove(dir);
            ck_assert_int_eq(mkdir(dir, 0700), 0);
            spill(file(0), bad, k + (rubbish ? 100 : 0));
            int rc = ss_journal_open(&j, dir, NULL, &e);
            must(rc, &e);
            bool clean = !rubbish && k == at[want];
            ck_assert_int_eq(rc, !clean && !(k == 0 && !rubbish));
            if (rc) {
                char said[40];
                snprintf(said, sizeof said, "%zu bytes",
                         k + (rubbish ? 100 : 0) - (k < at[0] ? 0 : at[want]));
                ck_assert_msg(strstr(e.text, said) && strstr(e.text, "0.sst"), "%s, not %s", e.text, said);
            }
            ck_assert_uint_eq(ss_journal_next(j), want);
            holds(j, 0, want);
            if (k % 7 == 0) {
                must(ss_journal_header(j, &one, &e), &e);
                must(add(j, want, &e), &e);
                must(ss_journal_close(&j, &e), &e);
                ck_assert_int_eq(ss_journal_open(&j, dir, NULL, &e), 0);
                holds(j, 0, want + 1);
            }
            must(ss_journal_close(&j, &e), &e);
        }
    scratch_leave();
}
END_TEST

/* Damage with whole records behind it: told by name and place, and the rest is read. */
START_TEST(damaged_in_the_middle)
{
    static uint8_t b[16384];
    ss_err e;
    ss_journal *j;
    setup();
    ss_journal_config config = {.segment_bytes = 1500};
    must(ss_journal_open(&j, dir, &config, &e), &e);
    must(ss_journal_header(j, &one, &e), &e);
    for (uint64_t k = 0; k < 28; k++)
        must(add(j, k, &e), &e);
    uint64_t end = ss_journal_segment_end(j, 0), newest = 0;
    while (ss_journal_segment_end(j, newest) < 28)
        newest = ss_journal_segment_end(j, newest);
    must(ss_journal_close(&j, &e), &e);
    for (int where = 0; where < 2; where++) {
        uint64_t first = where ? newest : 0;
        size_t n = slurp(file(first), b, sizeof b);
        for (size_t k = 0; k < n * 2 / 3; k += 3) {
            b[k] ^= 4;
            spill(file(first), b, n);
            int rc = ss_journal_open(&j, dir, &config, &e);
            ck_assert_int_eq(rc, where);
            ck_assert(!rc || (strstr(e.text, file(newest)) && strstr(e.text, "damaged")));
            ss_journal_cursor *c;
            const ss_record *r;
            uint64_t next = 0;
            int told = 0;
            must(ss_journal_header(j, &one, &e), &e);
            uint64_t after = ss_journal_next(j);
            ss_record rec = sample(1000);
            ck_assert_int_eq(ss_journal_append(j, &rec, &e), (int64_t)after);
            must(ss_journal_cursor_open(&c, j, 0, &e), &e);
            while ((rc = ss_journal_cursor_next(c, &r, &e))) {
                if (rc < 0) {
                    ck_assert_int_eq(rc, SS_EDAMAGED);
                    ck_assert_ptr_nonnull(strstr(e.text, file(first)));
                    next = ss_journal_cursor_index(c);
                    ck_assert_uint_eq(next, where ? after : end);
                    told++;
                } else if (next == after) {
                    is_sample(r, 1000);
                    next++;
                } else {
                    is_sample(r, next++);
                }
            }
            ck_assert_int_eq(told, 1);
            ck_assert_uint_eq(next, after + 1);
            ss_journal_cursor_close(&c);
            must(ss_journal_close(&j, &e), &e);
            unlink(file(after));
            b[k] ^= 4;
        }
        spill(file(first), b, n);
    }
    scratch_leave();
}
END_TEST

static volatile uint64_t *durable; /* shared with children: what they were told is durable */

/* What a server does, with a trim and a change of header in it. */
static int work(ss_err *e)
{
    ss_journal *j;
    ss_journal_config config = {.segment_bytes = 700};
    int rc = ss_journal_open(&j, dir, &config, e);
    if (rc < 0)
        return rc;
    uint64_t k = ss_journal_next(j), until = k + 12;
    rc = ss_journal_header(j, &one, e);
    for (; k < until && !rc; k++) {
        if (k == 8)
            rc = ss_journal_header(j, &two, e);
        if (!rc)
            rc = add(j, k, e);
        if (!rc && k % 3 == 2)
            rc = ss_journal_write(j, e);
        if (!rc && k % 3 == 1) {
            rc = ss_journal_sync(j, e);
            if (!rc)
                *durable = ss_journal_durable(j);
        }
        if (!rc && k == 9)
            rc = ss_journal_trim(j, 4, e);
    }
    if (rc) {
        ss_journal_close(&j, NULL);
        return rc;
    }
    rc = ss_journal_close(&j, e);
    if (!rc)
        *durable = k;
    return rc;
}

static void shared(void)
{
    durable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne((void *)durable, MAP_FAILED);
}

START_TEST(every_kill)
{
    ss_err e;
    setup();
    shared();
    for (int before = 0; before <= 12; before += 12) /* an empty folder, and one with records */
        for (long n = 1;; n++) {
            int status;
            ss_journal *j;
            scratch_remove(dir);
            *durable = 0;
            if (before)
                must(work(&e), &e);
            pid_t child = fork();
            if (!child) {
                die_before_call(n);
                _exit(work(&e) == SS_OK ? 0 : 1);
            }
            ck_assert_int_eq(waitpid(child, &status, 0), child);
            bool whole = WIFEXITED(status);
            if (whole)
                ck_assert_int_eq(WEXITSTATUS(status), 0);
            must(ss_journal_open(&j, dir, NULL, &e), &e);
            ck_assert_msg(ss_journal_next(j) >= *durable, "kill %ld: %" PRIu64 " left, %" PRIu64 " durable",
                          n, ss_journal_next(j), *durable);
            holds(j, ss_journal_first(j), ss_journal_next(j));
            ck_assert_uint_le(ss_journal_first(j), 4);
            must(ss_journal_close(&j, &e), &e);
            must(work(&e), &e); /* needs no repair */
            must(ss_journal_open(&j, dir, NULL, &e), &e);
            holds(j, ss_journal_first(j), *durable);
            must(ss_journal_close(&j, &e), &e);
            if (whole)
                break;
        }
    scratch_leave();
}
END_TEST

/* Each call fails in turn, once or for ever: nothing that was appended is lost, and no file is fsynced again.
 */
START_TEST(every_failing_call)
{
    static const int errors[] = {EIO, ENOSPC};
    setup();
    shared();
    for (int how = 0; how < 4; how++)
        for (long n = 1;; n++) {
            ss_err e = {0};
            ss_journal *j;
            ss_journal_config config = {.segment_bytes = 700};
            scratch_remove(dir);
            must(ss_journal_open(&j, dir, &config, &e), &e);
            must(ss_journal_header(j, &one, &e), &e);
            for (uint64_t k = 0; k < 5; k++)
                must(add(j, k, &e), &e);
            must(ss_journal_sync(j, &e), &e);
            fail_call_from(n, how & 1, errors[how / 2]);
            uint64_t k = 5, promised = 5;
            for (int tries = 0; k < 14 && tries < 40; tries++) {
                int rc = k == 9 ? ss_journal_header(j, &two, &e) : SS_OK;
                if (!rc)
                    rc = add(j, k, &e);
                if (!rc)
                    k++;
                if (!rc && k % 2 == 0 && !(rc = ss_journal_sync(j, &e)))
                    promised = k;
                if (rc) {
                    ck_assert_int_eq(rc, SS_EIO);
                    ck_assert_uint_gt(strlen(e.text), 0);
                }
                ck_assert_uint_eq(ss_journal_next(j), k);
                ck_assert_uint_eq(ss_journal_durable(j) < promised, false);
            }
            bool failed = fail_call_done();
            holds(j, 0, k); /* what is not in a file is in memory */
            ck_assert_int_eq(fsynced_again, 0);
            if (n % 2) {
                must(ss_journal_close(&j, &e), &e);
                promised = k;
            } else { /* die */
                pid_t child = fork();
                if (!child)
                    _exit(0);
                waitpid(child, NULL, 0);
                while (ss_journal_close(&j, &e))
                    break;
            }
            ck_assert_int_eq(fsynced_again, 0);
            must(ss_journal_open(&j, dir, &config, &e), &e);
            ck_assert_uint_ge(ss_journal_next(j), promised);
            holds(j, 0, ss_journal_next(j));
            must(ss_journal_close(&j, &e), &e);
            forget_fsyncs();
            if (!failed)
                break;
        }
    scratch_leave();
}
END_TEST

/* A file that may not grow: what does not go into it is kept, and goes when it may. */
START_TEST(full)
{
    ss_err e;
    ss_journal *j;
    struct rlimit was, small;
    setup();
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    must(ss_journal_open(&j, dir, NULL, &e), &e);
    must(ss_journal_header(j, &one, &e), &e);
    for (uint64_t k = 0; k < 20; k++)
        must(add(j, k, &e), &e);
    must(ss_journal_sync(j, &e), &e);
    small = was;
    small.rlim_cur = ss_journal_bytes(j) + 1000;
    /* No assertion while it holds: Check keeps its notes in a file too. */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = SS_OK, refused = 0;
    for (uint64_t k = 20; k < 40 && !rc; k++)
        rc = add(j, k, &e);
    for (int i = 0; i < 3; i++)
        refused += ss_journal_sync(j, &e) == SS_EIO && strstr(e.text, "0.sst");
    setrlimit(RLIMIT_FSIZE, &was);
    ck_assert_int_eq(rc, SS_OK);
    ck_assert_int_eq(refused, 3);
    ck_assert_uint_eq(ss_journal_durable(j), 20);
    holds(j, 0, 40);
    must(ss_journal_sync(j, &e), &e);
    ck_assert_uint_eq(ss_journal_durable(j), 40);
    must(ss_journal_close(&j, &e), &e);
    ck_assert_int_eq(ss_journal_open(&j, dir, NULL, &e), 0);
    holds(j, 0, 40);
    must(ss_journal_close(&j, &e), &e);
    scratch_leave();
}
END_TEST

/* The count outlives a kill when all that is left is in memory. */
START_TEST(count_survives)
{
    setup();
    for (long n = 1;; n++) {
        int status;
        ss_err e;
        ss_journal *j;
        scratch_remove(dir);
        pid_t child = fork();
        if (!child) {
            ss_journal_config config = {.segment_bytes = 700};
            int rc = ss_journal_open(&j, dir, &config, &e) || ss_journal_header(j, &one, &e);
            for (uint64_t k = 0; k < 6 && !rc; k++)
                rc = add(j, k, &e);
            if (rc || ss_journal_sync(j, &e))
                _exit(1);
            die_before_call(n); /* from here on, 6 or more it is */
            rc = ss_journal_trim(j, 6, &e) || add(j, 6, &e) || ss_journal_header(j, &two, &e) ||
                 add(j, 7, &e) || ss_journal_trim(j, 7, &e);
            _exit(rc);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        bool whole = WIFEXITED(status);
        ck_assert(!whole || !WEXITSTATUS(status));
        must(ss_journal_open(&j, dir, NULL, &e), &e);
        ck_assert_uint_ge(ss_journal_next(j), whole ? 7 : 6);
        must(ss_journal_close(&j, &e), &e);
        if (whole)
            break;
    }
    scratch_leave();
}
END_TEST

/* Numbers that another file knows to be in use are left out, and what is behind the hole is read. */
START_TEST(numbers_left_out)
{
    ss_err e;
    ss_journal *j;
    const ss_journal_config config = {.next = 10};
    setup();
    for (int empty = 0; empty < 3; empty++) { /* nothing there; three records; a file that keeps the count */
        scratch_remove(dir);
        must(ss_journal_open(&j, dir, NULL, &e), &e);
        must(ss_journal_header(j, &one, &e), &e);
        for (uint64_t k = 0; k < 3 && empty; k++)
            must(add(j, k, &e), &e);
        if (empty == 2)
            must(ss_journal_trim(j, 3, &e), &e);
        must(ss_journal_close(&j, &e), &e);
        for (uint64_t k = 10; k < 14; k += 2) {
            must(ss_journal_open(&j, dir, &config, &e), &e);
            ck_assert_uint_eq(ss_journal_next(j), k);
            ck_assert_uint_eq(ss_journal_durable(j), k);
            must(ss_journal_header(j, &one, &e), &e);
            must(add(j, k, &e), &e);
            must(add(j, k + 1, &e), &e);
            must(ss_journal_sync(j, &e), &e);
            holds(j, 10, k + 2);
            must(ss_journal_close(&j, &e), &e);
        }
        must(ss_journal_open(&j, dir, NULL, &e), &e);
        ck_assert_uint_eq(ss_journal_next(j), 14);
        holds(j, 10, 14);
        must(ss_journal_trim(j, 10, &e), &e);
        ck_assert_uint_eq(ss_journal_first(j), 10);
        must(ss_journal_close(&j, &e), &e);
    }
    scratch_leave();
}
END_TEST

typedef struct thinning {
    int seen, left;
    uint64_t gap, gaps;
} thinning;

/* Every second record becomes part of a gap. */
static int thin(void *arg, ss_writer *w, const ss_record *rec, ss_err *e)
{
    thinning *t = arg;
    if (rec && t->seen++ % 2) {
        t->gap = rec->seq;
        t->gaps++;
        return SS_OK;
    }
    int rc = SS_OK;
    if (t->gaps)
        rc = ss_writer_put(w, &(ss_record){.type = SS_TYPE_GAP, .device = 77, .seq = t->gap}, e);
    t->gaps = 0;
    t->left += 1;
    return rc || !rec ? rc : ss_writer_put(w, rec, e);
}

START_TEST(written_anew)
{
    setup();
    shared();
    for (int way = 0; way < 2; way++)
        for (long n = 0;; n++) {
            ss_err e;
            ss_journal *j;
            ss_journal_config config = {.segment_bytes = 1500};
            bool done = true;
            must(ss_journal_open(&j, way ? NULL : dir, &config, &e), &e);
            must(ss_journal_header(j, &one, &e), &e);
            for (uint64_t k = 0; k < 28; k++)
                must(add(j, k, &e), &e);
            must(ss_journal_sync(j, &e), &e);
            uint64_t a = ss_journal_segment_end(j, 0), b = ss_journal_segment_end(j, a);
            uint64_t had = ss_journal_bytes(j);
            ck_assert_int_eq(ss_journal_rewrite(j, 27, 28, thin, &(thinning){0}, &e), SS_EINVAL);
            if (way) {
                must(ss_journal_rewrite(j, a, b, thin, &(thinning){0}, &e), &e);
            } else {
                int status;
                pid_t child = fork();
                if (!child) {
                    if (n)
                        die_before_call(n);
                    _exit(ss_journal_rewrite(j, a, b, thin, &(thinning){0}, &e) != SS_OK);
                }
                ck_assert_int_eq(waitpid(child, &status, 0), child);
                done = WIFEXITED(status);
                ck_assert(!done || !WEXITSTATUS(status));
                must(ss_journal_close(&j, &e), &e);
                ck_assert_int_eq(ss_journal_open(&j, dir, &config, &e), 0);
            }
            ss_journal_cursor *c;
            const ss_record *r;
            int rc, gaps = 0;
            uint64_t seen = 0;
            must(ss_journal_cursor_open(&c, j, 0, &e), &e);
            while ((rc = ss_journal_cursor_next(c, &r, &e)) > 0) {
                ck_assert_uint_eq(r->seq, seen++);
                if (r->device != 77) {
                    is_sample(r, r->seq);
                    continue;
                }
                ck_assert(r->seq >= a && r->seq < b && (r->seq - a) % 2 == 1);
                gaps++;
            }
            must(rc, &e);
            ck_assert_uint_eq(seen, 28);
            if (done) {
                ck_assert_int_eq(gaps, (int)(b - a) / 2);
                ck_assert_uint_lt(ss_journal_bytes(j), had);
            } else { /* whole or not at all */
                ck_assert(gaps == 0 || gaps == (int)(b - a) / 2);
            }
            ss_journal_cursor_close(&c);
            must(ss_journal_close(&j, &e), &e);
            scratch_remove(dir);
            if (n && done)
                break;
        }
    scratch_leave();
}
END_TEST

/* Several as one, killed at every call: some may come twice, none is missing. */
START_TEST(several_as_one)
{
    setup();
    for (long n = 1;; n++) {
        int status;
        ss_err e;
        ss_journal *j;
        ss_journal_config config = {.segment_bytes = 1500};
        must(ss_journal_open(&j, dir, &config, &e), &e);
        must(ss_journal_header(j, &one, &e), &e);
        for (uint64_t k = 0; k < 28; k++)
            must(add(j, k, &e), &e);
        must(ss_journal_sync(j, &e), &e);
        uint64_t a = ss_journal_segment_end(j, 0), b = ss_journal_segment_end(j, a);
        pid_t child = fork();
        if (!child) {
            die_before_call(n);
            _exit(ss_journal_rewrite(j, 0, b, thin, &(thinning){0}, &e) != SS_OK);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        bool done = WIFEXITED(status), seen[28] = {0};
        ck_assert(!done || !WEXITSTATUS(status));
        must(ss_journal_close(&j, &e), &e);
        ck_assert_int_eq(ss_journal_open(&j, dir, &config, &e), 0);
        ss_journal_cursor *c;
        const ss_record *r;
        int rc, twice = 0;
        must(ss_journal_cursor_open(&c, j, 0, &e), &e);
        while ((rc = ss_journal_cursor_next(c, &r, &e)) > 0) {
            ck_assert_uint_lt(r->seq, 28);
            twice += seen[r->seq];
            seen[r->seq] = true;
            if (r->device != 77)
                is_sample(r, r->seq);
        }
        must(rc, &e);
        for (int i = 0; i < 28; i++)
            ck_assert(seen[i]);
        ck_assert(!done || !twice);
        ss_journal_cursor_close(&c);
        must(ss_journal_close(&j, &e), &e);
        scratch_remove(dir);
        if (done)
            break;
    }
    scratch_leave();
}
END_TEST

/* A segment that has fewer records than numbers, as thinning with merged gaps leaves it: no damage. */
static int first_only(void *arg, ss_writer *w, const ss_record *rec, ss_err *e)
{
    int *n = arg;
    return rec && !(*n)++ ? ss_writer_put(w, rec, e) : SS_OK;
}

START_TEST(fewer_than_numbers)
{
    ss_err e;
    ss_journal *j;
    setup();
    ss_journal_config config = {.segment_bytes = 1500};
    must(ss_journal_open(&j, dir, &config, &e), &e);
    must(ss_journal_header(j, &one, &e), &e);
    for (uint64_t k = 0; k < 28; k++)
        must(add(j, k, &e), &e);
    uint64_t a = ss_journal_segment_end(j, 0);
    int n = 0;
    must(ss_journal_rewrite(j, 0, 1, first_only, &n, &e), &e);
    for (int again = 0; again < 2; again++) {
        ss_journal_cursor *c;
        const ss_record *r;
        must(ss_journal_cursor_open(&c, j, 0, &e), &e);
        for (uint64_t k = 0; k < 28; k = k ? k + 1 : a) {
            must(ss_journal_cursor_next(c, &r, &e), &e);
            is_sample(r, k);
        }
        ck_assert_int_eq(ss_journal_cursor_next(c, &r, &e), 0);
        ss_journal_cursor_close(&c);
        must(ss_journal_close(&j, &e), &e);
        ck_assert_int_eq(ss_journal_open(&j, dir, &config, &e), 0);
    }
    must(ss_journal_close(&j, &e), &e);
    scratch_leave();
}
END_TEST

START_TEST(every_failing_allocation)
{
    setup();
    shared();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_err e;
            ss_journal *j;
            scratch_remove(dir);
            *durable = 0;
            fail_alloc_from(n, forever);
            int rc = work(&e);
            bool failed = fail_alloc_done();
            ck_assert_uint_eq(ss_mem_used(), 0);
            ck_assert(rc == SS_OK || rc == SS_ENOMEM);
            must(ss_journal_open(&j, dir, NULL, &e), &e);
            ck_assert_uint_ge(ss_journal_next(j), *durable);
            fail_alloc_from(forever ? 0 : n, false);
            ss_journal_cursor *c = NULL;
            const ss_record *r;
            while (ss_journal_cursor_open(&c, j, 0, &e))
                ck_assert_int_eq(e.code, SS_ENOMEM);
            for (uint64_t k = ss_journal_first(j); k < ss_journal_next(j); k++) {
                while ((rc = ss_journal_cursor_next(c, &r, &e)) < 0)
                    ck_assert_int_eq(rc, SS_ENOMEM);
                ck_assert_int_gt(rc, 0);
                is_sample(r, k);
            }
            fail_alloc_done();
            ss_journal_cursor_close(&c);
            must(ss_journal_close(&j, &e), &e);
            ck_assert_uint_eq(ss_mem_used(), 0);
            if (!failed)
                break;
        }
    scratch_leave();
}
END_TEST

UNIT_MAIN("journal", grows_and_is_read, one_process, trimmed_and_limited, torn_at_every_byte,
          damaged_in_the_middle, every_kill, every_failing_call, full, count_survives, numbers_left_out,
          written_anew, several_as_one, fewer_than_numbers, every_failing_allocation)
