#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "failalloc.h"
#include "nn/delta.h"
#include "sys/incoming.h"
#include "unit.h"

static char dir[40];
static const ss_header header = {.kind = "return", .arch_hash = "0123456789abcdef"};

static ss_incoming *opened(bool lay)
{
    ss_incoming *in;
    ss_err e;
    ck_assert_msg(ss_incoming_open(&in, dir, lay, &e) == SS_OK, "%s", e.text);
    return in;
}

static void setup(void)
{
    strcpy(dir, "/tmp/ss-incoming.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void done(ss_incoming *in)
{
    char command[64];
    ss_incoming_close(&in);
    ck_assert_ptr_null(in);
    ck_assert_uint_eq(ss_mem_used(), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static ss_record record(int type, uint64_t seq)
{
    static const uint8_t payload[4] = {1, 2, 3, 4};
    return (ss_record){.type = (uint8_t)type,
                       .dtype = SS_DTYPE_U8,
                       .rank = 1,
                       .dim = {4},
                       .seq = seq,
                       .size = 4,
                       .data = payload};
}

static int lay(ss_incoming *in, ss_incoming_kind kind, uint64_t number, int n, ss_err *e)
{
    static const int type[] = {SS_TYPE_MIXTURE, SS_TYPE_DELTA, SS_TYPE_GRADIENT};
    ss_incoming_file *f;
    int rc = ss_incoming_begin(&f, in, kind, &header, e);
    for (int i = 0; i < n && !rc; i++) {
        ss_record rec = record(type[kind], number + (uint64_t)i);
        if ((rc = ss_incoming_put(f, &rec, e)) < 0)
            ss_incoming_abort(&f);
    }
    if (!rc) {
        ck_assert_uint_gt(ss_incoming_size(f), 40);
        rc = ss_incoming_commit(&f, number, false, e);
    }
    ck_assert_ptr_null(f);
    return rc;
}

static ss_incoming_found look(ss_incoming *in, uint64_t version, int expected)
{
    ss_incoming_found f;
    ss_err e;
    ck_assert_int_eq(ss_incoming_look(in, version, &f, &e), expected);
    return f;
}

typedef struct heard {
    int n;
    uint64_t seq;
    int answer;
} heard;

static int hear(void *arg, const ss_record *rec, ss_err *e)
{
    heard *h = arg;
    ck_assert(rec->size == 4 && !memcmp(rec->data, (uint8_t[]){1, 2, 3, 4}, 4));
    h->n++;
    h->seq = rec->seq;
    return h->answer ? ss_err_set(e, h->answer, "as asked") : SS_OK;
}

START_TEST(laid_down_and_taken)
{
    setup();
    ss_incoming *apply = opened(true), *train = opened(false);
    ss_err e;
    ck_assert(!look(train, 0, 0).deltas);
    ck_assert_int_eq(lay(apply, SS_INCOMING_DELTA, 12, 1, &e), SS_OK);
    ck_assert_int_eq(lay(apply, SS_INCOMING_DELTA, 9, 1, &e), SS_OK);
    ck_assert_int_eq(lay(apply, SS_INCOMING_DELTA, 100, 1, &e), SS_OK);
    ss_incoming_found f = look(train, 0, 1);
    ck_assert(f.deltas == 3 && f.delta == 9 && !f.mixture && !f.steps && !f.gradients);
    ck_assert(look(train, 9, 1).delta == 12 && look(train, 12, 1).delta == 100);
    ck_assert(look(train, 100, 0).deltas == 3); /* there, but not above */
    ck_assert_int_eq(lay(apply, SS_INCOMING_MIXTURE, 1, 1, &e), SS_OK);
    ck_assert_int_eq(lay(apply, SS_INCOMING_MIXTURE, 2, 1, &e), SS_OK);
    ck_assert(look(train, 100, 1).mixture);
    heard h = {0};
    ck_assert_int_eq(ss_incoming_read(train, SS_INCOMING_MIXTURE, 0, hear, &h, &e), 1);
    ck_assert(h.n == 1 && h.seq == 2);
    ck_assert_int_eq(ss_incoming_drop(train, SS_INCOMING_MIXTURE, 0, &e), SS_OK);
    ck_assert_int_eq(ss_incoming_drop(train, SS_INCOMING_MIXTURE, 0, &e), SS_OK);
    ck_assert_int_eq(ss_incoming_read(train, SS_INCOMING_MIXTURE, 0, hear, &h, &e), 0);
    look(train, 100, 0);
    /* Gradients get numbers of their own, which do not come again while they are laid down by one program. */
    for (uint64_t i = 1; i <= 3; i++) {
        ck_assert_int_eq(lay(apply, SS_INCOMING_GRADIENTS, 77, (int)i, &e), SS_OK);
        f = look(train, 100, 1);
        ck_assert(f.steps == (int)i && f.gradients == 1 && f.newest == i);
    }
    h = (heard){0};
    ck_assert_int_eq(ss_incoming_read(train, SS_INCOMING_GRADIENTS, 3, hear, &h, &e), 1);
    ck_assert_int_eq(h.n, 3);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(ss_incoming_drop(train, SS_INCOMING_GRADIENTS, i, &e), SS_OK);
    look(train, 100, 0);
    ck_assert_int_eq(lay(apply, SS_INCOMING_GRADIENTS, 0, 1, &e), SS_OK);
    ck_assert(look(train, 100, 1).gradients == 4);
    /* Half a file is no file. */
    ss_incoming_file *half;
    ck_assert_int_eq(ss_incoming_begin(&half, apply, SS_INCOMING_DELTA, &header, &e), SS_OK);
    ck_assert(look(train, 12, 1).deltas == 3);
    ss_incoming_abort(&half);
    ss_incoming_abort(&half);
    ss_incoming_close(&train);
    done(apply);
}
END_TEST

/* A look that follows a change at once sees it, however near it comes to the look before. */
START_TEST(no_change_is_missed)
{
    setup();
    ss_incoming *apply = opened(true), *train = opened(false);
    ss_err e;
    for (uint64_t i = 1; i < 300; i++) {
        look(train, 0, i > 1);
        ck_assert_int_eq(lay(apply, SS_INCOMING_GRADIENTS, 0, 1, &e), SS_OK);
        ck_assert_uint_eq(look(train, 0, 1).newest, i);
    }
    for (uint64_t i = 1; i < 300; i++) {
        ck_assert_uint_eq(look(train, 0, 1).gradients, i);
        ck_assert_int_eq(ss_incoming_drop(apply, SS_INCOMING_GRADIENTS, i, &e), SS_OK);
    }
    look(train, 0, 0);
    /* Settled: nothing is listed any more, and a change is seen all the same. */
    ss_clock_sleep_until(ss_clock_mono_ns() + 60000000);
    look(train, 0, 0);
    look(train, 0, 0);
    ck_assert_int_eq(lay(apply, SS_INCOMING_DELTA, 1, 1, &e), SS_OK);
    ck_assert_uint_eq(look(train, 0, 1).delta, 1);
    ss_clock_sleep_until(ss_clock_mono_ns() + 60000000);
    ck_assert_uint_eq(look(train, 0, 1).delta, 1);
    look(train, 1, 0); /* another version is another question */
    ck_assert_uint_eq(look(train, 0, 1).delta, 1);
    ss_incoming_close(&train);
    done(apply);
}
END_TEST

START_TEST(names_that_are_none)
{
    static const char *const odd[] = {
        "delta.0.sst",  "delta.01.sst", "delta.-1.sst",    "delta.1",
        "delta.1.sst~", "delta..sst",   ".delta.7.new",    "delta.99999999999999999999.sst",
        "Mixture.sst",  "1.sst",        "gradients/x.sst", "gradients/.1.sst"};
    setup();
    ss_incoming *in = opened(true);
    char path[100];
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        snprintf(path, sizeof path, "%s/incoming/%s", dir, odd[i]);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
    ss_incoming_found f = look(in, 0, 0);
    ck_assert(!f.deltas && !f.steps);
    done(in);
}
END_TEST

START_TEST(damaged_and_refused)
{
    setup();
    ss_incoming *in = opened(true), *second;
    ss_err e;
    char path[100];
    ck_assert_int_eq(ss_incoming_open(&second, dir, true, &e), SS_EIO);
    ck_assert_ptr_null(second);
    ck_assert_ptr_nonnull(strstr(e.text, "another program"));
    ck_assert_int_eq(lay(in, SS_INCOMING_DELTA, 1, 2, &e), SS_OK);
    heard h = {.answer = SS_EUNFIT};
    ck_assert_int_eq(ss_incoming_read(in, SS_INCOMING_DELTA, 1, hear, &h, &e), SS_EUNFIT);
    ck_assert(h.n == 1 && !strcmp(e.text, "as asked"));
    snprintf(path, sizeof path, "%s/incoming/delta.1.sst", dir);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    h.answer = 0;
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        ck_assert_int_eq(truncate(path, n), 0);
        int rc = ss_incoming_read(in, SS_INCOMING_DELTA, 1, hear, &h, &e);
        ck_assert_msg(rc == SS_ETRUNC || rc == SS_EDAMAGED, "%d bytes: %d", (int)n, rc);
        ck_assert_ptr_nonnull(strstr(e.text, "incoming/delta.1.sst'"));
    }
    /* What is no plain file: an error, and nobody waits. */
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/zero", path), 0);
    ck_assert_int_eq(ss_incoming_read(in, SS_INCOMING_DELTA, 1, hear, &h, &e), SS_EIO);
    ck_assert_int_eq(ss_incoming_drop(in, SS_INCOMING_DELTA, 1, &e), SS_OK);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(lay(in, SS_INCOMING_DELTA, 1, 1, &e), SS_EIO);
    ck_assert_int_eq(ss_incoming_drop(in, SS_INCOMING_DELTA, 1, &e), SS_EIO);
    snprintf(path, sizeof path, "%s/incoming/.delta.new", dir);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(ss_incoming_open(&second, "/dev/null", false, &e), SS_EIO);
    done(in);
}
END_TEST

/* From the server's weights to the device's, by way of the folder: the same bits. */
typedef struct device {
    ss_model *m;
    uint64_t version, windows;
} device;

static int merge(void *arg, const ss_record *rec, ss_err *e)
{
    device *v = arg;
    ss_delta *d;
    uint64_t from, to;
    int rc = ss_delta_open_record(&d, v->m, rec, &from, &to, &v->windows, e);
    if (rc < 0)
        return rc;
    ck_assert_uint_eq(from, v->version);
    ss_delta_add(d, v->m->value);
    v->version = to;
    ss_delta_close(&d);
    return SS_OK;
}

START_TEST(weights_come_through)
{
    setup();
    ss_incoming *in = opened(true);
    ss_model_config c;
    ss_delta_config how;
    ss_model *server, *shadow;
    device v = {0};
    ss_incoming_file *f;
    ss_incoming_found found;
    ss_record rec;
    ss_err e;
    void *bytes;
    size_t size;
    ss_model_config_default(&c);
    c.width = c.mels = c.frames = 8;
    ck_assert_int_eq(ss_model_create(&server, &c, 1, &e), SS_OK);
    ck_assert_int_eq(ss_model_clone(&shadow, server, &e), SS_OK);
    ck_assert_int_eq(ss_model_clone(&v.m, server, &e), SS_OK);
    ss_delta_config_default(&how);
    for (uint64_t version = 0; version < 3; version++) {
        for (size_t i = 0; i < server->nvalue; i++)
            server->value[i] += 0.001f * (float)((i * 7 + version) % 13);
        ck_assert_int_eq(ss_delta_pack(server, server->value, shadow->value, &how, &bytes, &size, NULL, &e),
                         SS_OK);
        ss_delta_record(&rec, server, bytes, size, version, version + 1, 100);
        ck_assert_int_eq(ss_incoming_begin(&f, in, SS_INCOMING_DELTA, &header, &e), SS_OK);
        ck_assert_int_eq(ss_incoming_put(f, &rec, &e), SS_OK);
        ck_assert_int_eq(ss_incoming_commit(&f, version + 1, version == 1, &e), SS_OK);
        ss_free(bytes);
    }
    while (ss_incoming_look(in, v.version, &found, &e) == 1) {
        uint64_t to = found.delta;
        ck_assert_int_eq(ss_incoming_read(in, SS_INCOMING_DELTA, to, merge, &v, &e), 1);
        ck_assert_int_eq(ss_incoming_drop(in, SS_INCOMING_DELTA, to, &e), SS_OK);
    }
    ck_assert(v.version == 3 && v.windows == 100);
    ck_assert(!memcmp(v.m->value, shadow->value, shadow->nvalue * sizeof *shadow->value));
    ss_model_free(server);
    ss_model_free(shadow);
    ss_model_free(v.m);
    done(in);
}
END_TEST

START_TEST(no_memory)
{
    setup();
    ss_incoming *in;
    ss_err e;
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_incoming_open(&in, dir, true, &e);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(in);
    }
    size_t before = ss_mem_used();
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = lay(in, SS_INCOMING_DELTA, 1, 1, &e);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_uint_eq(ss_mem_used(), before);
        look(in, 0, 0);
    }
    for (long n = 1;; n++) {
        heard h = {0};
        fail_alloc_from(n, false);
        int rc = ss_incoming_read(in, SS_INCOMING_DELTA, 1, hear, &h, &e);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_uint_eq(ss_mem_used(), before);
    }
    done(in);
}
END_TEST

UNIT_MAIN("incoming", laid_down_and_taken, no_change_is_missed, names_that_are_none, damaged_and_refused,
          weights_come_through, no_memory)
