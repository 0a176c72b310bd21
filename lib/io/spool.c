#include "io/spool.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "io/journal.h"
#include "io/stream_internal.h"

enum {
    PARTS = 16, /* segments of a full spool */
    HOLES = 32, /* gaps that wait to be put, of streams that are mixed */
    LEAST = 4096,
    MOST = 4 << 20,
    SIZES = 4096, /* records whose bytes are remembered */
};

/* Where a stream stands on this connection. */
enum state { NEW, ASKED, GOING };

typedef struct source {
    uint32_t device;
    uint64_t epoch;
    enum state state;
    bool known;     /* the other side has said how far it is, now or before */
    uint64_t acked; /* all before it are durable there */
    bool begun;
    uint64_t sent; /* all before it were sent, or need not be; if begun */
} source;

/* A record that was read, and waits to be acknowledged. */
typedef struct entry {
    uint64_t index;
    size_t source;
    uint64_t end; /* behind its sequence number, or that of the gap's last record */
} entry;

/* Records that are not there, in one piece; several such pieces. */
typedef struct hole {
    ss_record gap;
    uint64_t n; /* 0 = none */
} hole;

typedef struct holes {
    hole h[HOLES];
    int n;
} holes;

struct ss_spool {
    ss_spool_config c;
    ss_journal *j;
    ss_journal_cursor *cursor;
    source *source;
    size_t sources, room;
    entry *entry; /* a queue: from..from + entries */
    size_t from, entries, entry_room;
    holes missed;         /* dropped before they were in the journal */
    const ss_record *rec; /* read, and not given yet */
    uint64_t index;       /* of it */
    ss_record made;       /* gap or hello */
    bool compare;         /* its header has to be looked at yet */
    bool first;           /* nothing was read on this connection: any header will do */
    bool other;           /* rec has another header */
    char *text;           /* the connection's header */
    uint64_t dropped;
    uint64_t puts, put_bytes,
        before[SIZES]; /* since it was opened: records, bytes, those before the newest */
};

static int put_missed(ss_spool *s, ss_err *e);

static int no_memory(ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "spool: out of memory");
}

/* How many records a record stands for. */
static uint64_t stands_for(const ss_record *rec)
{
    return rec->type == SS_TYPE_GAP ? ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1) : 1;
}

static ss_record gap_of(const ss_record *like, uint64_t seq, uint64_t n, ss_gap_reason reason)
{
    ss_record gap = {.type = SS_TYPE_GAP,
                     .device = like->device,
                     .epoch = like->epoch,
                     .seq = seq,
                     .time_ns = like->time_ns};
    ss_attr_set_uint(&gap.attrs, SS_ATTR_COUNT, n);
    ss_attr_set_uint(&gap.attrs, SS_ATTR_REASON, reason);
    return gap;
}

static source *find(const ss_spool *s, uint32_t device, uint64_t epoch)
{
    for (size_t i = s->sources; i--;)
        if (s->source[i].device == device && s->source[i].epoch == epoch)
            return &s->source[i];
    return NULL;
}

static source *source_of(ss_spool *s, const ss_record *rec)
{
    source *q = find(s, rec->device, rec->epoch);
    if (q)
        return q;
    if (s->sources == s->room) {
        size_t room = s->room ? 2 * s->room : 4;
        source *more = ss_realloc(s->source, room, sizeof *more);
        if (!more)
            return NULL;
        s->source = more;
        s->room = room;
    }
    q = &s->source[s->sources++];
    *q = (source){.device = rec->device, .epoch = rec->epoch, .state = s->c.no_ack ? GOING : NEW};
    return q;
}

int ss_spool_open(ss_spool **out, const char *dir, const ss_spool_config *c, ss_err *e)
{
    ss_spool *s = *out = ss_zalloc(1, sizeof *s);
    if (!s)
        return no_memory(e);
    s->c = *c;
    uint64_t part = s->c.max_bytes ? s->c.max_bytes / PARTS : MOST;
    ss_journal_config config = {.segment_bytes = part < LEAST ? LEAST : part > MOST ? MOST : part};
    int rc = ss_journal_open(&s->j, dir, &config, e);
    if (rc < 0) {
        ss_free(s);
        *out = NULL;
    }
    return rc;
}

int ss_spool_close(ss_spool **ps, ss_err *e)
{
    ss_spool *s = ps ? *ps : NULL;
    if (!s)
        return SS_OK;
    ss_journal_cursor_close(&s->cursor);
    ss_err late;
    int rc = put_missed(s, e), closed = ss_journal_close(&s->j, &late);
    if (!rc && closed) {
        rc = closed;
        if (e)
            *e = late;
    }
    ss_free(s->source);
    ss_free(s->entry);
    ss_free(s->text);
    ss_free(s);
    *ps = NULL;
    return rc;
}

uint64_t ss_spool_bytes(const ss_spool *s)
{
    return ss_journal_bytes(s->j);
}

uint64_t ss_spool_dropped(const ss_spool *s)
{
    return s->dropped;
}

/* Index of the oldest record that is not acknowledged. */
static uint64_t oldest(const ss_spool *s)
{
    if (s->entries)
        return s->entry[s->from].index;
    if (s->rec)
        return s->index;
    uint64_t first = ss_journal_first(s->j);
    uint64_t at = s->cursor ? ss_journal_cursor_index(s->cursor) : first;
    return at > first ? at : first;
}

uint64_t ss_spool_queue(const ss_spool *s)
{
    uint64_t at = oldest(s), next = ss_journal_next(s->j);
    return (next > at ? next - at : 0) + (uint64_t)s->missed.n;
}

uint64_t ss_spool_waiting(const ss_spool *s)
{
    uint64_t n = ss_spool_queue(s);
    if (n > s->puts || n > SIZES)
        return ss_spool_bytes(s);
    return n ? s->put_bytes - s->before[(s->puts - n) % SIZES] : 0;
}

uint64_t ss_spool_unsent(const ss_spool *s)
{
    uint64_t next = ss_journal_next(s->j), first = ss_journal_first(s->j);
    uint64_t at = s->rec ? s->index : s->cursor ? ss_journal_cursor_index(s->cursor) : first;
    return (next > at ? next - at : 0) + (uint64_t)s->missed.n;
}

/* ---- room ---- */

/* Add [seq, seq + n) of a stream to a hole; false when it does not adjoin. */
static bool widen(hole *h, const ss_record *like, uint64_t n, ss_gap_reason reason)
{
    if (h->n &&
        (h->gap.device != like->device || h->gap.epoch != like->epoch || h->gap.seq + h->n != like->seq))
        return false;
    if (!h->n)
        h->gap = gap_of(like, like->seq, n, reason);
    h->n += n;
    ss_attr_set_uint(&h->gap.attrs, SS_ATTR_COUNT, h->n);
    return true;
}

typedef struct thinning {
    const ss_spool *s;
    holes gaps;    /* not put yet */
    bool all;      /* not only every second one */
    uint64_t seen; /* records other than gaps */
    uint64_t dropped;
} thinning;

/* Make a record part of the gaps; false when there is no place for it. Those of one stream stay in their
 * order, which is all that counts. */
static bool carry(holes *g, const ss_record *rec)
{
    uint64_t n = stands_for(rec);
    int reason = rec->type == SS_TYPE_GAP ? (int)ss_attr_uint(&rec->attrs, SS_ATTR_REASON, SS_GAP_DROPPED)
                                          : SS_GAP_DROPPED;
    for (int i = g->n; i--;)
        if (widen(&g->h[i], rec, n, reason))
            return true;
    if (g->n == HOLES)
        return false;
    g->h[g->n].n = 0;
    return widen(&g->h[g->n++], rec, n, reason);
}

static int put_gaps(holes *g, ss_writer *w, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0; i < g->n && !rc; i++)
        rc = ss_writer_put(w, &g->h[i].gap, e);
    g->n = 0;
    return rc;
}

/* The filter of ss_journal_rewrite: records become gaps, gaps that adjoin become one, what the other side has
 * leaves nothing. */
static int thin(void *arg, ss_writer *w, const ss_record *rec, ss_err *e)
{
    thinning *t = arg;
    if (!rec)
        return put_gaps(&t->gaps, w, e);
    const source *q = find(t->s, rec->device, rec->epoch);
    if (q && q->known && rec->seq + stands_for(rec) <= q->acked)
        return SS_OK;
    int rc = SS_OK;
    bool gap = rec->type == SS_TYPE_GAP;
    if (gap || t->all || t->seen++ % 2) {
        t->dropped += !gap;
        if (!carry(&t->gaps, rec)) {
            rc = put_gaps(&t->gaps, w, e);
            carry(&t->gaps, rec);
        }
        return rc;
    }
    rc = put_gaps(&t->gaps, w, e);
    return rc ? rc : ss_writer_put(w, rec, e);
}

/* Read again from the record at `index` on: what was sent on this connection is not sent twice. */
static int reread(ss_spool *s, uint64_t index, ss_err *e)
{
    ss_journal_cursor *c;
    int rc = ss_journal_cursor_open(&c, s->j, index, e);
    if (rc)
        return rc;
    ss_journal_cursor_close(&s->cursor);
    s->cursor = c;
    s->rec = NULL;
    s->compare = s->other = false;
    while (s->entries && s->entry[s->from + s->entries - 1].index >= index)
        s->entries--;
    return SS_OK;
}

/* Write the segments of [begin, end) anew as one, with gaps in the place of records. Where the sender stands
 * in them, it goes back to their beginning: the numbers within have changed. */
static int thin_range(ss_spool *s, uint64_t begin, uint64_t end, thinning *t, ss_err *e)
{
    int rc = SS_OK;
    if (s->cursor) {
        uint64_t at = ss_journal_cursor_index(s->cursor);
        if ((at > begin && at < end) || (s->rec && s->index >= begin && s->index < end))
            rc = reread(s, begin, e);
    }
    t->s = s;
    if (!rc)
        rc = ss_journal_rewrite(s->j, begin, end, thin, t, e);
    if (rc)
        return rc;
    s->dropped += t->dropped;
    for (size_t i = 0; i < s->entries; i++)
        if (s->entry[s->from + i].index > begin && s->entry[s->from + i].index < end)
            s->entry[s->from + i].index = begin;
    return SS_OK;
}

/* The records of the oldest segment that has any become gaps, together with those of the segments before it.
 */
static int drop_oldest(ss_spool *s, bool *done, ss_err *e)
{
    uint64_t begin = ss_journal_first(s->j), end = begin;
    *done = false;
    while ((end = ss_journal_segment_end(s->j, end)) < ss_journal_next(s->j)) {
        thinning t = {.all = true};
        int rc = thin_range(s, begin, end, &t, e);
        if (rc == SS_EUNFIT) { /* another header: what is before stays as it is */
            begin = ss_journal_segment_end(s->j, begin);
            end = begin;
            continue;
        }
        *done = t.dropped > 0;
        if (rc || *done)
            return rc;
    }
    return SS_OK;
}

/* Two neighbours become one of half their records, so that segments keep their size: those two that stand for
 * the fewest numbers, so that what is kept is equally thin everywhere. */
static int decimate(ss_spool *s, bool *done, ss_err *e)
{
    uint64_t unsent = s->rec ? s->index : s->cursor ? ss_journal_cursor_index(s->cursor) : 0;
    uint64_t at = ss_journal_first(s->j), next = ss_journal_next(s->j), begin = 0, end = 0;
    if (unsent > at) /* the segment that the sender stands in is left alone */
        at = ss_journal_segment_end(s->j, unsent);
    for (;;) {
        uint64_t one = ss_journal_segment_end(s->j, at), two = ss_journal_segment_end(s->j, one);
        if (one >= next || two >= next)
            break;
        if (!end || two - at < end - begin) {
            begin = at;
            end = two;
        }
        at = one;
    }
    thinning t = {.all = false};
    int rc = end ? thin_range(s, begin, end, &t, e) : SS_OK;
    *done = !rc && t.dropped > 0;
    if (rc == SS_EUNFIT) /* of two headers */
        rc = SS_OK;
    return rc || *done ? rc : drop_oldest(s, done, e);
}

bool ss_spool_full(const ss_spool *s)
{
    return s->c.max_bytes && ss_journal_bytes(s->j) >= s->c.max_bytes;
}

static bool fits(const ss_spool *s, const ss_record *rec)
{
    return !s->c.max_bytes || s->c.drop == SS_DROP_NONE ||
           ss_journal_bytes(s->j) + ss_record_bytes(rec) <= s->c.max_bytes;
}

static int make_room(ss_spool *s, const ss_record *rec, ss_err *e)
{
    bool done = s->c.drop != SS_DROP_NEWEST;
    int rc = SS_OK;
    while (!rc && done && !fits(s, rec))
        rc = s->c.drop == SS_DROP_OLDEST ? drop_oldest(s, &done, e) : decimate(s, &done, e);
    return rc;
}

int ss_spool_header(ss_spool *s, const ss_header *h, ss_err *e)
{
    return ss_journal_header(s->j, h, e);
}

/* What was dropped before it was in the journal has its place there before what comes now. */
static int put_missed(ss_spool *s, ss_err *e)
{
    while (s->missed.n) {
        int64_t at = ss_journal_append(s->j, &s->missed.h[0].gap, e);
        if (at < 0)
            return (int)at;
        memmove(s->missed.h, s->missed.h + 1, (size_t)--s->missed.n * sizeof *s->missed.h);
    }
    return SS_OK;
}

/* The record becomes part of a gap, which waits for room. */
static void miss(ss_spool *s, const ss_record *rec)
{
    s->dropped += rec->type != SS_TYPE_GAP;
    if (carry(&s->missed, rec))
        return;
    put_missed(s, NULL);
    if (s->missed.n == HOLES) /* the disk takes nothing at all: the numbers will show this one */
        memmove(s->missed.h, s->missed.h + 1, (size_t)--s->missed.n * sizeof *s->missed.h);
    carry(&s->missed, rec);
}

int ss_spool_put(ss_spool *s, const ss_record *rec, ss_err *e)
{
    int rc = make_room(s, rec, e);
    if (!rc && fits(s, rec)) {
        rc = put_missed(s, e);
        int64_t at = rc ? rc : ss_journal_append(s->j, rec, e);
        if (at >= 0) {
            s->before[s->puts++ % SIZES] = s->put_bytes;
            s->put_bytes += ss_record_bytes(rec);
            return SS_OK;
        }
        rc = (int)at;
        if (rc == SS_EINVAL)
            return rc;
    }
    miss(s, rec);
    return rc;
}

int ss_spool_write(ss_spool *s, ss_err *e)
{
    return ss_journal_write(s->j, e);
}

int ss_spool_sync(ss_spool *s, ss_err *e)
{
    return ss_journal_sync(s->j, e);
}

/* ---- sending ---- */

/* Records that are acknowledged leave the queue. */
static void settle(ss_spool *s)
{
    while (s->entries) {
        const entry *n = &s->entry[s->from];
        const source *q = &s->source[n->source];
        if (!s->c.no_ack && !(q->known && n->end <= q->acked))
            break;
        s->from++;
        s->entries--;
    }
    if (!s->entries)
        s->from = 0;
}

static int remember(ss_spool *s, size_t q, uint64_t end, ss_err *e)
{
    if (s->from + s->entries == s->entry_room) {
        if (s->from > s->entries) {
            memcpy(s->entry, s->entry + s->from, s->entries * sizeof *s->entry);
        } else {
            size_t room = s->entry_room ? 2 * s->entry_room : 64;
            entry *more = ss_alloc(room, sizeof *more);
            if (!more)
                return no_memory(e);
            if (s->entries)
                memcpy(more, s->entry + s->from, s->entries * sizeof *more);
            ss_free(s->entry);
            s->entry = more;
            s->entry_room = room;
        }
        s->from = 0;
    }
    s->entry[s->from + s->entries++] = (entry){s->index, q, end};
    return SS_OK;
}

/* The record to give next into s->rec: 1, 0 or negative. */
static int fetch(ss_spool *s, ss_err *e)
{
    char *text;
    int rc = s->rec ? 1 : ss_journal_cursor_next(s->cursor, &s->rec, e);
    if (rc == 0 && s->missed.n) { /* there is nothing behind it that would bring it in */
        rc = put_missed(s, e);
        if (!rc)
            rc = ss_journal_cursor_next(s->cursor, &s->rec, e);
    }
    if (rc <= 0)
        return rc;
    s->index = ss_journal_cursor_index(s->cursor) - 1;
    if (rc == 2)
        s->compare = true;
    if (!s->compare)
        return 1;
    rc = ss_header_print(ss_journal_cursor_header(s->cursor), &text, e);
    if (rc)
        return rc;
    s->other = !s->first && strcmp(text, s->text);
    s->compare = false;
    if (s->first) {
        ss_free(s->text);
        s->text = text;
    } else {
        ss_free(text);
    }
    s->first = false;
    return 1;
}

int ss_spool_begin(ss_spool *s, const ss_header **h, ss_err *e)
{
    *h = NULL;
    int rc = reread(s, oldest(s), e);
    if (rc)
        return rc;
    s->entries = s->from = 0;
    s->first = true;
    for (size_t i = 0; i < s->sources; i++) {
        if (s->c.no_ack)
            continue;
        s->source[i].state = NEW;
        s->source[i].begun = false;
    }
    rc = fetch(s, e);
    if (rc <= 0)
        return rc;
    *h = ss_journal_cursor_header(s->cursor);
    return 1;
}

/* 1: s->made is to be sent first; 0: s->rec; -1: it need not be sent. *wait: a resume has to come before. */
static int prepare(ss_spool *s, source *q, uint64_t end, bool *wait)
{
    const ss_record *rec = s->rec;
    if (q->state == NEW) {
        s->made = (ss_record){.type = SS_TYPE_KEEPALIVE, .device = rec->device, .epoch = rec->epoch};
        q->state = ASKED;
        return 1;
    }
    if (q->state == ASKED) {
        *wait = true;
        return 0;
    }
    if (!q->begun) {
        q->begun = true;
        q->sent = q->known ? q->acked : rec->seq;
    }
    if (end <= q->sent)
        return -1;
    if (rec->seq > q->sent) { /* a hole that nothing stands for */
        s->made = gap_of(rec, q->sent, rec->seq - q->sent, SS_GAP_DROPPED);
        q->sent = rec->seq;
        return 1;
    }
    return 0;
}

int ss_spool_next(ss_spool *s, const ss_record **out, ss_err *e)
{
    *out = NULL;
    if (!s->cursor)
        return 0;
    for (;;) {
        bool wait = false;
        int rc = fetch(s, e);
        if (rc <= 0)
            return rc;
        if (s->other)
            return 2;
        const ss_record *rec = s->rec;
        source *q = source_of(s, rec);
        if (!q)
            return no_memory(e);
        uint64_t end = rec->seq + stands_for(rec);
        int first = prepare(s, q, end, &wait);
        if (wait)
            return 0;
        if (first > 0) {
            *out = &s->made;
            return 1;
        }
        rc = remember(s, (size_t)(q - s->source), end, e);
        if (rc)
            return rc;
        s->rec = NULL;
        if (first < 0 || s->c.no_ack)
            settle(s);
        if (first < 0)
            continue;
        *out = rec;
        if (rec->seq < q->sent) { /* a gap, part of which is known there */
            s->made = gap_of(rec, q->sent, end - q->sent,
                             (ss_gap_reason)ss_attr_uint(&rec->attrs, SS_ATTR_REASON, SS_GAP_DROPPED));
            *out = &s->made;
        }
        q->sent = end;
        return 1;
    }
}

bool ss_spool_resume(ss_spool *s, const ss_record *rec)
{
    source *q = find(s, rec->device, rec->epoch);
    if (!q)
        return false;
    bool none = ss_attr_has(&rec->attrs, SS_ATTR_COUNT) && !ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 0);
    if (q->state !=
        ASKED) /* an answer to a hello that only measured the way: what is durable is acknowledged */
        return none || ss_spool_ack(s, rec);
    q->state = GOING;
    /* A server that has lost what it acknowledged is told of the hole. */
    q->known = !none || (q->known && q->acked);
    q->acked = none ? 0 : rec->seq + 1;
    settle(s);
    return true;
}

bool ss_spool_ack(ss_spool *s, const ss_record *rec)
{
    source *q = find(s, rec->device, rec->epoch);
    if (!q)
        return false;
    if (q->state == GOING && (!q->known || rec->seq + 1 > q->acked)) {
        q->known = true;
        q->acked = rec->seq + 1;
        settle(s);
    }
    return true;
}

int ss_spool_trim(ss_spool *s, bool all, ss_err *e)
{
    uint64_t at = oldest(s), next = ss_journal_next(s->j);
    if (at >= next && !all && next)
        at = next - 1; /* the one being appended to stays */
    return ss_journal_trim(s->j, at, e);
}
