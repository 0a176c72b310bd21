#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "io/spool.h"
#include "io/stream_internal.h"
#include "scratch.h"
#include "unit.h"

static const char dir[] = "s";
static const ss_header one = {.kind = "logmel"}, two = {.kind = "cut"};
static uint8_t bytes[4096];

static void must(int rc, const ss_err *e)
{
    ck_assert_msg(rc >= 0, "%d: %s", rc, e->text);
}

static ss_record sample(uint32_t device, uint64_t seq)
{
    size_t n = 30 + (size_t)(seq * 37 + device) % 400;
    return (ss_record){.type = SS_TYPE_DATA,
                       .device = device,
                       .epoch = 7,
                       .seq = seq,
                       .dtype = SS_DTYPE_U8,
                       .rank = 1,
                       .dim = {(uint32_t)n},
                       .size = n,
                       .data = bytes};
}

/* The other side: what it has of each device is contiguous, or it says so. */
enum { DEVICES = 3 };
typedef struct server {
    uint64_t next[DEVICES], durable[DEVICES]; /* all before it came; are durable */
    uint64_t gaps;                            /* records that gaps stand for, those told twice included */
    bool asked[DEVICES], open[DEVICES];       /* on this connection */
} server;

static void take(server *v, const ss_record *r)
{
    uint32_t d = r->device;
    ck_assert_uint_lt(d, DEVICES);
    if (r->type == SS_TYPE_KEEPALIVE) {
        ck_assert(!v->asked[d]);
        v->asked[d] = true;
        return;
    }
    uint64_t n = r->type == SS_TYPE_GAP ? ss_attr_uint(&r->attrs, SS_ATTR_COUNT, 0) : 1;
    ck_assert(v->open[d]);
    ck_assert_msg(r->seq == v->next[d], "device %u: record %" PRIu64 ", expected %" PRIu64, d, r->seq,
                  v->next[d]);
    ck_assert_uint_gt(n, 0);
    if (r->type == SS_TYPE_GAP) {
        ck_assert_uint_eq(ss_attr_uint(&r->attrs, SS_ATTR_REASON, 0), SS_GAP_DROPPED);
        v->gaps += n;
    } else {
        ck_assert_uint_eq(r->size, sample(d, r->seq).size);
    }
    v->next[d] += n;
}

static void answer(server *v, ss_spool *s)
{
    for (uint32_t d = 0; d < DEVICES; d++) {
        if (!v->asked[d] || v->open[d])
            continue;
        ss_record r = {.type = SS_TYPE_RESUME, .device = d, .epoch = 7, .seq = v->durable[d] - 1};
        if (!v->durable[d]) {
            r.seq = 0;
            ss_attr_set_uint(&r.attrs, SS_ATTR_COUNT, 0);
        }
        v->open[d] = true;
        ck_assert(ss_spool_resume(s, &r));
    }
}

static void acknowledge(server *v, ss_spool *s)
{
    for (uint32_t d = 0; d < DEVICES; d++)
        if (v->next[d] > v->durable[d]) {
            v->durable[d] = v->next[d];
            ck_assert(ss_spool_ack(
                s, &(ss_record){.type = SS_TYPE_ACK, .device = d, .epoch = 7, .seq = v->next[d] - 1}));
        }
    ss_err e;
    must(ss_spool_trim(s, false, &e), &e);
}

/* The connection is lost with what is not durable on the other side. */
static void disconnect(server *v, ss_spool *s)
{
    for (uint32_t d = 0; d < DEVICES; d++) {
        v->next[d] = v->durable[d];
        v->asked[d] = v->open[d] = false;
    }
    const ss_header *h;
    ss_err e;
    must(ss_spool_begin(s, &h, &e), &e);
}

/* A life of a spool: records come, are sent, acknowledged, dropped; connections and processes end. */
static void run(const char *where, ss_drop drop, uint64_t max, uint64_t seed)
{
    ss_rng g = ss_rng_make(seed, 1);
    ss_spool_config c = {.max_bytes = max, .drop = drop};
    ss_spool *s;
    ss_err e;
    const ss_header *h;
    const ss_record *r;
    server v = {0};
    uint64_t put[DEVICES] = {0}, dropped = 0;
    must(ss_spool_open(&s, where, &c, &e), &e);
    must(ss_spool_header(s, &one, &e), &e);
    must(ss_spool_begin(s, &h, &e), &e);
    bool link = true;
    for (int step = 0; step < 4000; step++) {
        uint32_t what = ss_rng_below(&g, 100), d = ss_rng_below(&g, 100) < 80 ? 0 : 1 + ss_rng_below(&g, 2);
        int rc;
        if (what < 55) {
            ss_record rec = sample(d, put[d]++);
            must(ss_spool_put(s, &rec, &e), &e);
            ck_assert(!max || ss_spool_bytes(s) <= max + 2000);
        } else if (what < 90 && link) {
            for (int i = 0; i < 3 && (rc = ss_spool_next(s, &r, &e)); i++) {
                must(rc, &e);
                ck_assert_int_eq(rc, 1);
                take(&v, r);
            }
            if (what % 3 == 0)
                answer(&v, s);
        } else if (what < 94) {
            if (link)
                acknowledge(&v, s);
        } else if (what == 94) {
            link = !link; /* nothing is sent for a while */
        } else if (what == 95) {
            disconnect(&v, s);
        } else if (what == 96 && where) {
            must(ss_spool_sync(s, &e), &e);
        } else if (what == 97 && where && ss_rng_below(&g, 4) == 0) {
            dropped += ss_spool_dropped(s);
            must(ss_spool_close(&s, &e), &e);
            must(ss_spool_open(&s, where, &c, &e), &e);
            must(ss_spool_header(s, &one, &e), &e);
            disconnect(&v, s);
        }
    }
    for (int rc, idle = 0; idle < 2;) {
        idle++;
        answer(&v, s);
        while ((rc = ss_spool_next(s, &r, &e)) > 0) {
            take(&v, r);
            idle = 0;
        }
        must(rc, &e);
        acknowledge(&v, s);
    }
    for (int d = 0; d < DEVICES; d++)
        ck_assert_msg(v.next[d] == put[d] && v.durable[d] == put[d], "device %d: %" PRIu64 " of %" PRIu64, d,
                      v.next[d], put[d]);
    ck_assert_uint_eq(ss_spool_queue(s), 0);
    ck_assert_uint_eq(ss_spool_unsent(s), 0);
    dropped += ss_spool_dropped(s);
    if (max)
        ck_assert_uint_gt(v.gaps, 0);
    else
        ck_assert(v.gaps == 0 && dropped == 0);
    must(ss_spool_trim(s, true, &e), &e);
    ck_assert_uint_lt(ss_spool_bytes(s), 200);
    must(ss_spool_close(&s, &e), &e);
    ck_assert_uint_eq(ss_mem_used(), 0);
    scratch_remove(dir);
}

START_TEST(in_order_without_a_hole)
{
    scratch_enter("spool", true);
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (int drop = SS_DROP_OLDEST; drop <= SS_DROP_DECIMATE; drop++) {
            run(seed % 2 ? NULL : dir, (ss_drop)drop, 40000 + seed * 3000, seed);
            if (drop == SS_DROP_OLDEST)
                run(seed % 2 ? NULL : dir, SS_DROP_OLDEST, 0, seed);
        }
    scratch_leave();
}
END_TEST

/* Bytes that wait are those of the records not acknowledged, though the file keeps some that are. */
START_TEST(what_waits)
{
    enum { N = 6000 };
    ss_spool *s;
    ss_err e;
    const ss_header *h;
    const ss_record *r;
    uint64_t all = 0, last = 0;
    must(ss_spool_open(&s, NULL, &(ss_spool_config){.drop = SS_DROP_NONE}, &e), &e);
    must(ss_spool_header(s, &one, &e), &e);
    ck_assert_uint_eq(ss_spool_waiting(s), 0);
    must(ss_spool_begin(s, &h, &e), &e);
    for (uint64_t k = 0; k < N; k++) {
        ss_record rec = sample(0, k);
        must(ss_spool_put(s, &rec, &e), &e);
        all += ss_record_bytes(&rec);
        last += k >= N - 1000 ? ss_record_bytes(&rec) : 0;
        if (k < 4096)
            ck_assert_uint_eq(ss_spool_waiting(s), all);
    }
    ck_assert_uint_ge(ss_spool_waiting(s), all); /* more than are remembered */
    must(ss_spool_begin(s, &h, &e), &e);
    while (ss_spool_next(s, &r, &e) > 0)
        if (r->type == SS_TYPE_KEEPALIVE) {
            ss_record resume = {.type = SS_TYPE_RESUME, .epoch = 7};
            ss_attr_set_uint(&resume.attrs, SS_ATTR_COUNT, 0);
            ck_assert(ss_spool_resume(s, &resume));
        }
    ss_record ack = {.type = SS_TYPE_ACK, .epoch = 7, .seq = N - 1001};
    ck_assert(ss_spool_ack(s, &ack));
    ck_assert_uint_eq(ss_spool_queue(s), 1000);
    ck_assert_uint_eq(ss_spool_waiting(s), last);
    ack.seq = N - 1;
    ck_assert(ss_spool_ack(s, &ack));
    ck_assert_uint_eq(ss_spool_waiting(s), 0);
    ck_assert_uint_gt(ss_spool_bytes(s), 0);
    must(ss_spool_close(&s, &e), &e);
}
END_TEST

/* Nothing is sent, and the spool runs over: each policy keeps what it says, and the counts add up. */
START_TEST(what_is_dropped)
{
    scratch_enter("spool", true);
    for (int way = 0; way < 2; way++)
        for (int drop = SS_DROP_OLDEST; drop <= SS_DROP_DECIMATE; drop++) {
            enum { N = 3000 };
            ss_spool_config c = {.max_bytes = 100000, .drop = (ss_drop)drop};
            ss_spool *s;
            ss_err e;
            const ss_header *h;
            const ss_record *r;
            uint64_t next = 0, data = 0, gaps = 0, front = 0, back = 0;
            must(ss_spool_open(&s, way ? dir : NULL, &c, &e), &e);
            must(ss_spool_header(s, &one, &e), &e);
            for (uint64_t k = 0; k < N; k++) {
                ss_record rec = sample(0, k);
                must(ss_spool_put(s, &rec, &e), &e);
                ck_assert_uint_le(ss_spool_bytes(s), 100500);
            }
            uint64_t dropped = ss_spool_dropped(s);
            ck_assert_uint_gt(ss_spool_bytes(s), 70000);
            if (way) { /* what was dropped is known to the next process */
                must(ss_spool_close(&s, &e), &e);
                must(ss_spool_open(&s, dir, &c, &e), &e);
            }
            must(ss_spool_begin(s, &h, &e), &e);
            ck_assert_str_eq(h->kind, "logmel");
            must(ss_spool_next(s, &r, &e), &e);
            ck_assert_int_eq(r->type, SS_TYPE_KEEPALIVE);
            ck_assert_int_eq(ss_spool_next(s, &r, &e), 0);
            ss_record resume = {.type = SS_TYPE_RESUME};
            ck_assert(!ss_spool_resume(s, &resume));
            resume.epoch = 7;
            ss_attr_set_uint(&resume.attrs, SS_ATTR_COUNT, 0);
            ck_assert(ss_spool_resume(s, &resume));
            int rc;
            while ((rc = ss_spool_next(s, &r, &e)) > 0) {
                uint64_t n = r->type == SS_TYPE_GAP ? ss_attr_uint(&r->attrs, SS_ATTR_COUNT, 0) : 1;
                ck_assert_uint_eq(r->seq, next);
                next += n;
                if (r->type == SS_TYPE_GAP) {
                    gaps += n;
                    continue;
                }
                data++;
                front += r->seq < N / 3;
                back += r->seq >= N - N / 10;
            }
            must(rc, &e);
            ck_assert_uint_eq(next, N);
            ck_assert_uint_eq(gaps, dropped);
            ck_assert_uint_eq(data + gaps, N);
            uint64_t queue = ss_spool_queue(s);
            ck_assert_uint_gt(queue, 0);
            ck_assert(ss_spool_resume(s, &resume)); /* that of a hello in the middle: nothing new */
            ck_assert_uint_eq(ss_spool_queue(s), queue);
            resume.seq = N - 1;
            ss_attr_clear(&resume.attrs, SS_ATTR_COUNT);
            ck_assert(ss_spool_resume(s, &resume)); /* everything is durable */
            ck_assert_uint_eq(ss_spool_queue(s), 0);
            if (drop == SS_DROP_OLDEST) {
                ck_assert_uint_eq(front, 0);
                ck_assert_uint_eq(back, N / 10);
            } else if (drop == SS_DROP_NEWEST) {
                ck_assert_uint_gt(front, 200);
                ck_assert_uint_eq(back, 0);
            } else { /* evenly thin */
                ck_assert_uint_gt(front, data / 5);
                ck_assert_uint_gt(back, data / 20);
                ck_assert_uint_lt(back, data / 3);
            }
            must(ss_spool_close(&s, &e), &e);
            scratch_remove(dir);
        }
    scratch_leave();
}
END_TEST

/* Records of another header are for another connection; those of an earlier process come first. */
START_TEST(another_header)
{
    ss_spool_config c = {0};
    ss_spool *s;
    ss_err e;
    const ss_header *h;
    const ss_record *r;
    server v = {0};
    scratch_enter("spool", true);
    for (int k = 0; k < 2; k++) {
        must(ss_spool_open(&s, dir, &c, &e), &e);
        must(ss_spool_header(s, k ? &two : &one, &e), &e);
        for (uint64_t i = 0; i < 5; i++) {
            ss_record rec = sample((uint32_t)k, i);
            must(ss_spool_put(s, &rec, &e), &e);
        }
        if (!k)
            must(ss_spool_close(&s, &e), &e);
    }
    for (int k = 0; k < 2; k++) {
        must(ss_spool_begin(s, &h, &e), &e);
        ck_assert_str_eq(h->kind, k ? "cut" : "logmel");
        int rc;
        while ((rc = ss_spool_next(s, &r, &e)) == 1 || (rc == 0 && v.asked[k] && !v.open[k])) {
            if (rc)
                take(&v, r);
            answer(&v, s);
        }
        ck_assert_int_eq(rc, k ? 0 : 2);
        ck_assert_uint_eq(v.next[k], 5);
        ck_assert_uint_eq(ss_spool_queue(s), k ? 5 : 10);
        acknowledge(&v, s);
    }
    ck_assert_uint_eq(ss_spool_queue(s), 0);
    must(ss_spool_close(&s, &e), &e);
    scratch_leave();
}
END_TEST

/* A server that has forgotten, or knows more than expected. */
START_TEST(the_other_side_decides)
{
    ss_spool_config c = {.max_bytes = 65536};
    ss_spool *s;
    ss_err e;
    const ss_header *h;
    const ss_record *r;
    server v = {0};
    must(ss_spool_open(&s, NULL, &c, &e), &e);
    must(ss_spool_header(s, &one, &e), &e);
    for (uint64_t i = 0; i < 100; i++) {
        ss_record rec = sample(0, i);
        must(ss_spool_put(s, &rec, &e), &e);
    }
    must(ss_spool_begin(s, &h, &e), &e);
    must(ss_spool_next(s, &r, &e), &e);
    take(&v, r);
    v.durable[0] = v.next[0] = 60; /* an earlier run of ours brought it */
    answer(&v, s);
    must(ss_spool_next(s, &r, &e), &e);
    ck_assert_uint_eq(r->seq, 60);
    take(&v, r);
    ck_assert_uint_eq(ss_spool_queue(s), 40);
    while (ss_spool_next(s, &r, &e) > 0)
        take(&v, r);
    v.next[0] = 90;
    acknowledge(&v, s);
    ck_assert_uint_eq(ss_spool_queue(s), 10);
    uint64_t kept = ss_spool_bytes(s);
    ck_assert_uint_lt(kept, 12000);
    v.durable[0] = 20; /* a backup */
    disconnect(&v, s);
    must(ss_spool_next(s, &r, &e), &e);
    take(&v, r);
    answer(&v, s);
    must(ss_spool_next(s, &r, &e), &e);
    ck_assert_int_eq(r->type, SS_TYPE_GAP);
    take(&v, r);
    ck_assert_uint_gt(v.next[0], 60);
    while (ss_spool_next(s, &r, &e) > 0)
        take(&v, r);
    ck_assert_uint_eq(v.next[0], 100);
    acknowledge(&v, s);
    ck_assert_uint_eq(ss_spool_queue(s), 0);
    must(ss_spool_close(&s, &e), &e);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(nothing_acknowledged)
{
    ss_spool_config c = {.no_ack = true};
    ss_spool *s;
    ss_err e;
    const ss_header *h;
    const ss_record *r;
    must(ss_spool_open(&s, NULL, &c, &e), &e);
    must(ss_spool_header(s, &one, &e), &e);
    for (uint64_t i = 50; i < 90; i++) {
        ss_record rec = sample(0, i);
        must(ss_spool_put(s, &rec, &e), &e);
        if (i == 60)
            must(ss_spool_begin(s, &h, &e), &e);
    }
    for (uint64_t i = 50; i < 90; i++) {
        must(ss_spool_next(s, &r, &e), &e);
        ck_assert_uint_eq(r->seq, i);
        ck_assert_uint_eq(ss_spool_queue(s), 89 - i);
        if (i == 70)
            must(ss_spool_begin(s, &h, &e), &e);
    }
    ck_assert_int_eq(ss_spool_next(s, &r, &e), 0);
    must(ss_spool_close(&s, &e), &e);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Whatever allocation fails: an error, and trying again goes on where it was. */
START_TEST(every_failing_allocation)
{
    scratch_enter("spool", true);
    for (long n = 1;; n++) {
        ss_spool_config c = {.max_bytes = 30000};
        ss_spool *s;
        ss_err e;
        const ss_header *h;
        const ss_record *r;
        server v = {0};
        int rc, failures = 0;
        fail_alloc_from(n, false);
        while (ss_spool_open(&s, NULL, &c, &e) < 0)
            failures++;
        while (ss_spool_header(s, &one, &e) < 0)
            failures++;
        while (ss_spool_begin(s, &h, &e) < 0)
            failures++;
        for (uint64_t i = 0; i < 200; i++) {
            ss_record rec = sample(0, i);
            failures += ss_spool_put(s, &rec, &e) < 0; /* a gap then */
            if (i % 10 == 9 && i < 120) {
                while ((rc = ss_spool_next(s, &r, &e))) {
                    failures += rc < 0;
                    if (rc > 0)
                        take(&v, r);
                }
                answer(&v, s);
                if (i % 40 == 39)
                    acknowledge(&v, s);
            }
        }
        bool failed = fail_alloc_done();
        ck_assert_int_le(failures, failed); /* giving memory back may fail unnoticed */
        while ((rc = ss_spool_next(s, &r, &e)) > 0)
            take(&v, r);
        must(rc, &e);
        ck_assert_uint_eq(v.next[0], 200);
        must(ss_spool_close(&s, &e), &e);
        ck_assert_uint_eq(ss_mem_used(), 0);
        if (!failed)
            break;
    }
    scratch_leave();
}
END_TEST

UNIT_MAIN("spool", in_order_without_a_hole, what_waits, what_is_dropped, another_header,
          the_other_side_decides, nothing_acknowledged, every_failing_allocation)
