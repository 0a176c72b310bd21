#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "common.h"
#include "io/stream_internal.h"
#include "serve.h"
#include "sys/state.h"

enum {
    WINDOW = 64 << 10,   /* encoded bytes that wait for a relay */
    FORWARD = 128 << 10, /* for the command */
    BATCH = 1 << 20,     /* bytes of answers taken before others are looked at again */
    ROUTES = 256,        /* (device, epoch) of one connection */
    DEVICES = 1024,      /* with a folder in the state directory */
    ARRIVALS = 64,       /* remembered of a route, to say how long an acknowledged record was here */
    STATE_MS = 1000,     /* between two writes of a device's folder */
    FINISH_MS = 5000,    /* for a connection to take its last answers */
    LATE = 1024          /* (device, epoch) whose last connection went without an answer to its hello */
};

/* An answer that may wait for several connections. */
typedef struct answer {
    int users;
    ss_record rec; /* its data are behind it */
} answer;

typedef struct waiting {
    struct waiting *next;
    answer *a;
} waiting;

typedef struct device {
    uint32_t id;
    int connections, cut;
    uint64_t windows, bytes, generation, since; /* since: real time, s, of the last connection or its end */
    float u, loss;
    bool has_u, has_loss, has_generation, dirty;
    int64_t next_ms;
} device;

typedef struct conn {
    struct conn *next;
    int id, fd, routes;
    bool ready, whole, known, ended, overfull_said;
    bool due;      /* an acknowledgement or resume waits at one of its routes */
    serve_frame f; /* what comes next, of which `have` bytes, payload included, are there */
    uint8_t *payload;
    size_t have, room;
    tool_budget may; /* records that it may still send, by --max-rate */
    ss_writer *w;
    int64_t sent_ms;
    waiting *first, **last;
    size_t queued; /* bytes */
    uint64_t nqueued;
    bool finishing, end_put; /* no more is taken from it; the end record is in */
    int64_t finish_ms;       /* when it is ended, told all or not */
    int owed;                /* of all its routes */
    device *device;          /* heard last */
} conn;

/* Who is to have the answers for a (device, epoch). */
typedef struct route {
    uint32_t device;
    uint64_t epoch;
    conn *c;
    int owed;             /* resumes that the command has still to give */
    uint64_t sent, acked; /* numbers up to which it has got, and acknowledged, records */
    bool resume_due, ack_due;
    ss_record resume, ack;
    struct {
        uint64_t end;
        int64_t begun;
    } arrival[ARRIVALS];
    unsigned arrivals;
} route;

static struct mux {
    const serve_settings *set;
    int monitor;
    ss_header header; /* of the command's stream */
    bool have_header;
    conn *conn;
    int conns;
    route **route;
    int routes, route_room;
    struct late {
        uint32_t device;
        uint64_t epoch;
        int owed; /* resumes for connections that have gone: they say what was durable too early */
    } late[LATE];
    int lates;
    device *device;
    int devices;
    bool devices_said;
    /* the command */
    int in, out; /* of ours: its output, its input; -1 = none */
    ss_writer *w;
    ss_reader *r;
    bool more, end_put; /* of the reader's buffer; its stream has had its end */
    /* the end */
    bool stopping, stopped;
    int64_t stop_ms;
    uint64_t turn;
} m = {.in = -1, .out = -1};

static int64_t now_ms(void)
{
    return ss_clock_mono_ns() / 1000000;
}

static void die(const char *what)
{
    tool_error("multiplexer: %s", what);
    _exit(TOOL_LIMIT);
}

static void *must(void *p)
{
    if (!p)
        die("out of memory");
    return p;
}

/* ---- devices, for people ---- */

static device *device_of(uint32_t id)
{
    for (int i = 0; i < m.devices; i++)
        if (m.device[i].id == id)
            return &m.device[i];
    if (m.devices == DEVICES) {
        if (!m.devices_said)
            tool_warn("more than %d devices: the state directory has no place for others", DEVICES);
        m.devices_said = true;
        return NULL;
    }
    m.device[m.devices] = (device){.id = id, .cut = -1};
    return &m.device[m.devices++];
}

static void put_state(ss_state *s, const char *name, const char *value)
{
    static bool said;
    ss_err e;
    if (ss_state_put(s, name, value, &e) && !said) {
        tool_warn("%s", e.text);
        said = true;
    }
}

static void put_count(ss_state *s, const char *name, uint64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, n);
    put_state(s, name, text);
}

static void put_real(ss_state *s, const char *name, float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)value);
    put_state(s, name, text);
}

static void write_device(device *d)
{
    char dir[4200];
    ss_state *s;
    ss_err e;
    uint64_t queue = 0;
    for (int i = 0; i < m.routes; i++)
        if (m.route[i]->device == d->id && m.route[i]->c->device == d)
            queue = m.route[i]->c->nqueued;
    snprintf(dir, sizeof dir, "%s/device.%" PRIu32, m.set->state, d->id);
    if (ss_state_open(&s, dir, &e))
        return;
    put_count(s, "windows", d->windows);
    put_count(s, "bytes", d->bytes);
    put_count(s, "queue", queue);
    put_count(s, "connected", d->connections > 0);
    put_count(s, "since", d->since);
    if (d->cut >= 0)
        put_state(s, "cut", ss_cut_name(d->cut));
    if (d->has_u)
        put_real(s, "u", d->u);
    if (d->has_loss)
        put_real(s, "loss", d->loss);
    if (d->has_generation)
        put_count(s, "generation", d->generation);
    ss_state_close(&s);
}

static void write_state(bool all)
{
    int64_t now = now_ms();
    for (int i = 0; i < m.devices && m.set->state; i++) {
        device *d = &m.device[i];
        if (!d->dirty || (!all && now < d->next_ms))
            continue;
        d->dirty = false;
        d->next_ms = now + STATE_MS;
        write_device(d);
    }
}

static void connected(uint32_t id, int by)
{
    device *d = device_of(id);
    if (!d)
        return;
    d->connections += by;
    if (d->connections == 0 || (by > 0 && d->connections == 1))
        d->since = (uint64_t)(ss_clock_real_ns() / 1000000000);
    d->dirty = true;
    d->next_ms = 0;
}

/* ---- connections ---- */

static void release(waiting *w)
{
    if (!--w->a->users)
        ss_free(w->a);
    ss_free(w);
}

static struct late *late_of(uint32_t id, uint64_t epoch)
{
    for (int i = 0; i < m.lates; i++)
        if (m.late[i].device == id && m.late[i].epoch == epoch)
            return &m.late[i];
    return NULL;
}

static void remove_route(int i)
{
    route *t = m.route[i];
    struct late *l = late_of(t->device, t->epoch);
    if (l)
        l->owed += t->owed;
    else if (t->owed) {
        if (m.lates == LATE) /* a command that answers no hello: the oldest goes */
            memmove(m.late, m.late + 1, (size_t)--m.lates * sizeof *m.late);
        m.late[m.lates++] = (struct late){t->device, t->epoch, t->owed};
    }
    connected(t->device, -1);
    t->c->routes--;
    ss_free(t);
    m.route[i] = m.route[--m.routes];
}

/* End a connection, and its relay with it. */
static void drop(conn *c, const char *why)
{
    if (why)
        tool_warn("connection %d: %s", c->id, why);
    for (int i = m.routes - 1; i >= 0; i--)
        if (m.route[i]->c == c)
            remove_route(i);
    serve_send(m.monitor, (serve_message){SERVE_KILL, c->id}, NULL, 0);
    conn **p = &m.conn;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    m.conns--;
    while (c->first) {
        waiting *w = c->first;
        c->first = w->next;
        release(w);
    }
    close(c->fd);
    ss_writer_close(&c->w);
    ss_free(c->payload);
    ss_free(c);
}

static void add_connection(int id, int fd)
{
    static const ss_header back = {.kind = "return"};
    ss_header h = {0};
    ss_err e;
    conn *c = must(ss_zalloc(1, sizeof *c));
    c->id = id;
    c->fd = fd;
    c->last = &c->first;
    c->sent_ms = now_ms();
    c->may = tool_budget_of(m.set->max_rate, m.set->max_rate > 1 ? m.set->max_rate : 1, 1);
    if (ss_header_copy(&h, &back, &e) || tool_add_provenance(&h, &e) || ss_writer_open_memory(&c->w, &h, &e))
        die(e.text);
    ss_header_clear(&h);
    c->next = m.conn;
    m.conn = c;
    m.conns++;
}

/* Nothing more is taken from it; what waits for it goes out, then the end. */
static void finish(conn *c, int ms)
{
    if (c->finishing)
        return;
    c->finishing = true;
    c->finish_ms = now_ms() + ms;
    c->whole = false;
}

/* ---- answers ---- */

/* What goes first has the lowest number. */
static int worth(const ss_record *rec)
{
    return rec->type == SS_TYPE_GRADIENT                                ? 0
           : rec->type == SS_TYPE_DELTA || rec->type == SS_TYPE_MIXTURE ? 1
                                                                        : 2;
}

static void make_room(conn *c, size_t need)
{
    for (int value = 0; value < 3 && c->queued + need > m.set->max_queue; value++)
        for (waiting **p = &c->first; *p && c->queued + need > m.set->max_queue;) {
            waiting *w = *p;
            if (worth(&w->a->rec) != value) {
                p = &w->next;
                continue;
            }
            *p = w->next;
            c->queued -= sizeof(answer) + w->a->rec.size;
            c->nqueued--;
            release(w);
            if (!c->overfull_said)
                tool_warn("connection %d: answers are not read fast enough: gradients are left out first, "
                          "then deltas and mixtures",
                          c->id);
            c->overfull_said = true;
        }
    c->last = &c->first;
    while (*c->last)
        c->last = &(*c->last)->next;
}

static void enqueue(conn *c, answer *a)
{
    size_t n = sizeof *a + a->rec.size;
    if (c->finishing && c->end_put)
        return;
    if (c->queued + n > m.set->max_queue)
        make_room(c, n);
    waiting *w = must(ss_alloc(1, sizeof *w));
    *w = (waiting){NULL, a};
    a->users++;
    *c->last = w;
    c->last = &w->next;
    c->queued += n;
    c->nqueued++;
}

static route *route_of(uint32_t id, uint64_t epoch)
{
    for (int i = 0; i < m.routes; i++)
        if (m.route[i]->device == id && m.route[i]->epoch == epoch)
            return m.route[i];
    return NULL;
}

static answer *keep(const ss_record *rec)
{
    answer *a = must(ss_alloc(1, sizeof *a + rec->size));
    a->users = 1;
    a->rec = *rec;
    a->rec.data = a + 1;
    if (rec->size)
        memcpy(a + 1, rec->data, rec->size);
    return a;
}

static void note_result(const ss_record *rec)
{
    device *d = device_of(rec->device);
    if (!d)
        return;
    if (ss_attr_has(&rec->attrs, SS_ATTR_U)) {
        d->u = ss_attr_f32(&rec->attrs, SS_ATTR_U, 0);
        d->has_u = true;
    }
    if (ss_attr_has(&rec->attrs, SS_ATTR_LOSS)) {
        d->loss = ss_attr_f32(&rec->attrs, SS_ATTR_LOSS, 0);
        d->has_loss = true;
    }
    if (ss_attr_has(&rec->attrs, SS_ATTR_GENERATION)) {
        d->generation = ss_attr_uint(&rec->attrs, SS_ATTR_GENERATION, 0);
        d->has_generation = true;
    }
    d->dirty = true;
}

/* How long the newest record that is acknowledged has been here: what the command says of its own time knows
 * nothing of the wait before. */
static void note_time(route *t, ss_record *ack)
{
    int64_t begun = 0;
    for (unsigned i = 0; i < ARRIVALS && i < t->arrivals; i++)
        if (t->arrival[i].end <= ack->seq + 1 && t->arrival[i].begun > begun)
            begun = t->arrival[i].begun;
    if (!begun)
        return;
    ss_attr_clear(&ack->attrs, SS_ATTR_T_TRAIN);
    ss_attr_set_uint(&ack->attrs, SS_ATTR_T_SERVE, (uint64_t)(ss_clock_mono_ns() - begun) / 1000);
}

/* A resume that a connection before this one has asked for. */
static bool is_late(const ss_record *rec)
{
    struct late *l = late_of(rec->device, rec->epoch);
    if (!l)
        return false;
    if (!--l->owed)
        *l = m.late[--m.lates];
    return true;
}

static void answer_comes(const ss_record *rec)
{
    /* The memory is everybody's, whoever's window it was that made it due. */
    bool all = rec->type == SS_TYPE_MIXTURE || (rec->type == SS_TYPE_DELTA && !rec->device);
    if (rec->type == SS_TYPE_KEEPALIVE)
        return;
    if (rec->type == SS_TYPE_RESUME && is_late(rec))
        return;
    if (rec->type == SS_TYPE_RESULT)
        note_result(rec);
    route *t = all ? NULL : route_of(rec->device, rec->epoch);
    if (!all && !t)
        return; /* who asked has gone */
    if (t && t->c->ended && !t->c->finishing) /* as long as its answers come, it waits for the last one */
        t->c->finish_ms = now_ms() + m.set->drain_ms;
    if (rec->type == SS_TYPE_RESUME) {
        /* What was acknowledged before is in it. */
        t->resume = *rec;
        t->resume_due = t->c->due = true;
        t->ack_due = false;
        if (ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1))
            t->acked = rec->seq + 1;
        if (t->owed > 0) {
            t->owed--;
            t->c->owed--;
        }
    } else if (rec->type == SS_TYPE_ACK) {
        t->ack = *rec;
        t->ack_due = t->c->due = true;
        t->acked = rec->seq + 1;
        note_time(t, &t->ack);
    } else {
        answer *a = keep(rec);
        if (t)
            enqueue(t->c, a);
        for (conn *c = m.conn; c && all; c = c->next)
            if (c->routes)
                enqueue(c, a);
        if (!--a->users)
            ss_free(a);
    }
}

/* Answers into the encoded stream of a connection, as far as its window reaches. True when nothing is left.
 */
static bool encode(conn *c)
{
    size_t n;
    ss_err e;
    for (int i = 0; i < m.routes && c->due && !c->end_put; i++) {
        route *t = m.route[i];
        if (t->c != c || !(t->resume_due || t->ack_due))
            continue;
        if (ss_writer_pending(c->w, &n), n >= WINDOW)
            return false;
        if ((t->resume_due && ss_writer_put(c->w, &t->resume, &e)) ||
            (t->ack_due && ss_writer_put(c->w, &t->ack, &e)))
            die(e.text);
        t->resume_due = t->ack_due = false;
    }
    c->due = false;
    while (c->first && !c->end_put) {
        waiting *w = c->first;
        if (ss_writer_pending(c->w, &n), n >= WINDOW)
            return false;
        if (ss_writer_put(c->w, &w->a->rec, &e))
            tool_warn("connection %d: an answer that cannot be passed on: %s", c->id, e.text);
        c->first = w->next;
        if (!c->first)
            c->last = &c->first;
        c->queued -= sizeof(answer) + w->a->rec.size;
        c->nqueued--;
        release(w);
    }
    return true;
}

static bool has_answers(const conn *c)
{
    size_t n;
    ss_writer_pending(c->w, &n);
    return n || (!c->end_put && (c->first || c->due));
}

/* To the relay, what it takes: false when the connection is gone. */
static bool flush(conn *c)
{
    size_t n;
    const uint8_t *p;
    ss_err e;
    for (;;) {
        bool all = encode(c);
        if (all && c->finishing && !c->end_put) {
            if (ss_writer_end(c->w, &e))
                die(e.text);
            c->end_put = true;
        }
        p = ss_writer_pending(c->w, &n);
        if (!n)
            break;
        ssize_t k = write(c->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return true;
        if (k < 0)
            return false;
        ss_writer_drained(c->w, (size_t)k);
        c->sent_ms = now_ms();
        if ((size_t)k < n)
            return true;
    }
    if (c->end_put)
        shutdown(c->fd, SHUT_WR);
    return true;
}

/* ---- what comes from devices ---- */

/* More of the frame that is under way: 1 when it is whole, 0 when more has to come, -1 when the relay has
 * ended, -2 for a frame that none of ours has made. */
static int read_frame(conn *c)
{
    for (;;) {
        size_t head = sizeof c->f, size = head;
        if (c->have >= head && c->f.what == FRAME_RECORD)
            size += c->f.u.rec.size;
        if (c->have == size)
            return 1;
        void *to = c->have < head ? (uint8_t *)&c->f + c->have : c->payload + (c->have - head);
        ssize_t k = read(c->fd, to, (c->have < head ? head : size) - c->have);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return 0;
        if (k <= 0)
            return -1;
        c->have += (size_t)k;
        if (c->have != head || c->f.what != FRAME_RECORD || !c->f.u.rec.size)
            continue;
        if (c->f.u.rec.size > m.set->max_payload)
            return -2;
        if (c->f.u.rec.size <= c->room)
            continue;
        ss_free(c->payload);
        c->room = c->f.u.rec.size;
        c->payload = must(ss_alloc(c->room, 1));
    }
}

static bool is_hash(const char *s)
{
    return !*s || (strnlen(s, 17) == 16 && strspn(s, "0123456789abcdef") == 16);
}

/* Ours, or what it should be. */
static bool same_hash(char *ours, const char *its)
{
    if (!*ours)
        strcpy(ours, its);
    return !*its || !strcmp(ours, its);
}

static bool take_header(conn *c)
{
    serve_frame *f = &c->f;
    char text[128];
    if (c->known || !is_hash(f->u.header.frontend_hash) || !is_hash(f->u.header.arch_hash)) {
        drop(c, "a header that is none");
        return false;
    }
    c->known = true;
    if (!same_hash(m.header.frontend_hash, f->u.header.frontend_hash)) {
        snprintf(text, sizeof text, "refused: features of front end %s, the others have %s",
                 f->u.header.frontend_hash, m.header.frontend_hash);
        drop(c, text);
        return false;
    }
    if (!same_hash(m.header.arch_hash, f->u.header.arch_hash)) {
        snprintf(text, sizeof text, "refused: a network of architecture %s, the others have %s",
                 f->u.header.arch_hash, m.header.arch_hash);
        drop(c, text);
        return false;
    }
    if (!(m.header.rate > 0) && f->u.header.rate > 0 && f->u.header.rate <= 1e9)
        m.header.rate = f->u.header.rate;
    m.have_header = true;
    return true;
}

/* A connection says hello: it is the one for this (device, epoch), and the only one for the device. */
static bool hello(conn *c, const ss_record *rec)
{
    route *t = route_of(rec->device, rec->epoch);
    if (t && t->c == c)
        return true;
    for (int i = m.routes - 1; i >= 0; i--)
        if (m.route[i]->device == rec->device && m.route[i]->c != c) {
            char text[96];
            snprintf(text, sizeof text, "device %" PRIu32 " has come anew as connection %d: closed",
                     rec->device, c->id);
            drop(m.route[i]->c, text);
            i = m.routes;
        }
    if (c->routes == ROUTES) {
        drop(c, "more than 256 epochs");
        return false;
    }
    if (m.routes == m.route_room) {
        m.route_room = m.route_room ? 2 * m.route_room : 16;
        m.route = must(ss_realloc(m.route, (size_t)m.route_room, sizeof *m.route));
    }
    t = must(ss_zalloc(1, sizeof *t));
    t->device = rec->device;
    t->epoch = rec->epoch;
    t->c = c;
    m.route[m.routes++] = t;
    c->routes++;
    c->device = device_of(rec->device);
    connected(rec->device, 1);
    tool_info("connection %d: device %" PRIu32 ", epoch %" PRIu64, c->id, rec->device, rec->epoch);
    return true;
}

static void note_record(conn *c, route *t, const ss_record *rec, int64_t begun)
{
    device *d = c->device && c->device->id == rec->device ? c->device : device_of(rec->device);
    c->device = d ? d : c->device;
    uint64_t n = rec->type == SS_TYPE_GAP ? ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1) : 1;
    unsigned at = t->arrivals++ % ARRIVALS;
    t->arrival[at].end = rec->seq + n;
    t->arrival[at].begun = begun;
    t->sent = rec->seq + n;
    if (!d)
        return;
    d->bytes += ss_record_bytes(rec);
    d->dirty = true;
    if (rec->type == SS_TYPE_DATA) {
        d->windows++;
        d->cut = (int)ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, 0);
    }
}

/* To the command: false when it was refused, and the connection with it. */
static bool forward(conn *c, const ss_record *rec)
{
    ss_err e;
    int rc = ss_writer_put(m.w, rec, &e);
    if (rc == SS_ENOMEM)
        die(e.text);
    if (rc)
        drop(c, e.text);
    return !rc;
}

/* A hello, whose answer the command owes from now on. */
static bool ask(conn *c, const ss_record *rec)
{
    if (!forward(c, rec))
        return false;
    route_of(rec->device, rec->epoch)->owed++;
    c->owed++;
    return true;
}

/* A device that has sent nothing yet asks for a sign of life. */
static bool answer_nobody(conn *c)
{
    ss_err e;
    size_t n;
    ss_record none = {.type = SS_TYPE_RESUME};
    ss_attr_set_uint(&none.attrs, SS_ATTR_COUNT, 0);
    ss_writer_pending(c->w, &n);
    if (!c->end_put && n < WINDOW && ss_writer_put(c->w, &none, &e))
        die(e.text);
    return true;
}

static bool take_record(conn *c)
{
    ss_record rec = c->f.u.rec;
    rec.data = c->payload;
    bool own = rec.type == SS_TYPE_DATA || rec.type == SS_TYPE_GAP || rec.type > SS_TYPE_KEEPALIVE;
    if (!c->known || (!own && rec.type != SS_TYPE_KEEPALIVE)) {
        drop(c, "a record that no device sends");
        return false;
    }
    if (rec.type == SS_TYPE_KEEPALIVE) {
        if (!rec.epoch && !rec.device) /* nobody in particular */
            return answer_nobody(c);
        return hello(c, &rec) && ask(c, &rec);
    }
    route *t = route_of(rec.device, rec.epoch);
    if (!t && !rec.device && !rec.epoch) { /* its hello is the keep-alive of one that has sent nothing yet */
        if (!hello(c, &rec))
            return false;
        t = route_of(0, 0);
    }
    if (!t || t->c != c) {
        drop(c, "a record of a device and epoch that has not said hello");
        return false;
    }
    if (rec.type == SS_TYPE_DATA && ss_attr_uint(&rec.attrs, SS_ATTR_SPLIT, 255) > SS_CUT_EMBEDDING) {
        drop(c, "a record without its cut");
        return false;
    }
    if (ss_attr_uint(&rec.attrs, SS_ATTR_LABEL, 0) >= (m.header.nlabels ? m.header.nlabels : 1))
        ss_attr_clear(&rec.attrs, SS_ATTR_LABEL);
    note_record(c, t, &rec, c->f.begun);
    if (ss_attr_has(&rec.attrs, SS_ATTR_SENT))
        ss_stage_end(&rec.attrs, SS_ATTR_T_SERVE, c->f.begun);
    return forward(c, &rec);
}

/* Has the command still something to say to it? */
static bool is_owed(const conn *c)
{
    bool more = c->owed > 0;
    for (int i = 0; i < m.routes && !more; i++)
        more = m.route[i]->c == c && m.route[i]->acked < m.route[i]->sent;
    return more;
}

/* The device has ended its stream. Results come before the answer to one more hello; acknowledgements may
 * come later. */
static bool take_end(conn *c)
{
    c->ended = true;
    for (int i = m.routes - 1; i >= 0; i--)
        if (m.route[i]->c == c) {
            const ss_record last = {
                .type = SS_TYPE_KEEPALIVE, .device = m.route[i]->device, .epoch = m.route[i]->epoch};
            c->finish_ms = now_ms() + m.set->drain_ms;
            return ask(c, &last);
        }
    finish(c, FINISH_MS);
    return true;
}

static bool may_send(conn *c)
{
    return !(m.set->max_rate > 0) || tool_budget_left(&c->may) >= 1;
}

static bool window_full(void)
{
    size_t n;
    if (!m.w || m.end_put)
        return true;
    ss_writer_pending(m.w, &n);
    return n >= FORWARD;
}

/* One frame of this connection: true when it has moved. */
static bool serve_one(conn *c)
{
    if (c->finishing || m.stopping)
        return false;
    if (!c->whole) {
        if (!c->ready)
            return false;
        int rc = read_frame(c);
        if (rc < 0) {
            drop(c, rc == -2 ? "a frame beyond the limit" : NULL);
            return true;
        }
        c->ready = rc > 0;
        if (!rc)
            return false;
        c->whole = true;
    }
    if (c->f.what == FRAME_HEADER) { /* waits for no command: it may be what the command waits for */
        if (take_header(c)) {
            c->whole = false;
            c->have = 0;
        }
        return true;
    }
    if (window_full() || !may_send(c))
        return false;
    c->may.left -= m.set->max_rate > 0;
    if (c->f.what != FRAME_RECORD && c->f.what != FRAME_END) {
        drop(c, "a frame that is none");
        return true;
    }
    if (!(c->f.what == FRAME_RECORD ? take_record(c) : take_end(c)))
        return true;
    c->whole = false;
    c->have = 0;
    if (c->room > WINDOW) { /* large ones are rare, or all are */
        ss_free(c->payload);
        c->payload = NULL;
        c->room = 0;
    }
    return true;
}

/* ---- the command ---- */

static void open_forward(void)
{
    ss_err e;
    ss_header h = {0};
    if (m.out < 0 || m.w || !m.have_header)
        return;
    if (ss_header_copy(&h, &m.header, &e) || tool_add_provenance(&h, &e) ||
        ss_writer_open_memory(&m.w, &h, &e))
        die(e.text);
    ss_header_clear(&h);
    m.end_put = false;
}

static void close_input(void)
{
    if (m.out >= 0)
        close(m.out);
    m.out = -1;
    ss_writer_close(&m.w);
}

/* The command has ended, as it should or not: nobody is left without being told. */
static void command_ended(const char *why)
{
    if (m.in < 0)
        return;
    if (why && !m.stopping)
        tool_warn("the command's answers have ended: %s", why);
    close_input();
    close(m.in);
    m.in = -1;
    ss_reader_close(&m.r);
    serve_send(m.monitor, (serve_message){SERVE_ENDED, 0}, NULL, 0);
    m.lates = 0;
    for (int i = 0; i < m.routes; i++)
        m.route[i]->owed = 0;
    for (conn *c = m.conn; c; c = c->next)
        finish(c, FINISH_MS);
}

static void command_began(int in, int out)
{
    ss_err e;
    command_ended(NULL);
    if (m.stopping) {
        close(in);
        close(out);
        return;
    }
    m.out = in;
    m.in = out;
    if (ss_reader_open(&m.r, m.in, NULL, &e))
        die(e.text);
    ss_reader_set_nonblocking(m.r);
}

static void write_forward(void)
{
    size_t n;
    const uint8_t *p;
    open_forward();
    while (m.w && (p = ss_writer_pending(m.w, &n), n)) {
        ssize_t k = write(m.out, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return;
        if (k < 0) { /* its output says more */
            close_input();
            return;
        }
        ss_writer_drained(m.w, (size_t)k);
        if ((size_t)k < n)
            return;
    }
    if (m.end_put)
        close_input();
}

static void read_answers(void)
{
    ss_err e = {0};
    const ss_header *h;
    const ss_record *rec;
    uint64_t from = ss_reader_offset(m.r);
    int rc = ss_reader_header(m.r, &h, &e);
    while (!rc || rc > 0) {
        rc = ss_reader_next(m.r, &rec, &e);
        if (rc <= 0)
            break;
        answer_comes(rec);
        if (ss_reader_offset(m.r) - from >= BATCH) {
            m.more = true;
            return;
        }
    }
    m.more = false;
    if (rc == SS_EAGAIN)
        return;
    command_ended(rc < 0 ? e.text : "it has ended its stream");
}

/* ---- the loop ---- */

static void stop(void)
{
    ss_err e;
    if (m.stopping)
        return;
    m.stopping = true;
    m.stop_ms = now_ms() + m.set->drain_ms;
    m.have_header = true;
    open_forward();
    if (m.w && ss_writer_end(m.w, &e))
        die(e.text);
    m.end_put = true;
    if (!m.w)
        close_input();
}

static void hear_monitor(void)
{
    serve_message msg;
    int fd[2];
    bool gone = false;
    while (serve_receive(m.monitor, &msg, fd, &gone)) {
        if (msg.what == SERVE_COMMAND)
            command_began(fd[0], fd[1]);
        else if (msg.what == SERVE_RELAY)
            add_connection(msg.id, fd[0]);
        else if (msg.what == SERVE_STOP)
            stop();
    }
    if (gone)
        _exit(TOOL_IO);
}

static void keep_alive(conn *c, int64_t now)
{
    ss_err e;
    const ss_record alive = {.type = SS_TYPE_KEEPALIVE};
    if (c->end_put || now < c->sent_ms + m.set->keepalive_ms || has_answers(c))
        return;
    if (ss_writer_put(c->w, &alive, &e))
        die(e.text);
}

/* Answers to all that have some; ends of connections. */
static void tend(int64_t now)
{
    for (conn *c = m.conn, *next; c; c = next) {
        next = c->next;
        if (c->ended && !c->finishing && (!is_owed(c) || now >= c->finish_ms))
            finish(c, FINISH_MS);
        keep_alive(c, now);
        if (!flush(c) || (c->finishing && now >= c->finish_ms))
            drop(c, NULL);
    }
}

static void to_the_end(conn *c)
{
    conn **p = &m.conn;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    while (*p)
        p = &(*p)->next;
    *p = c;
    c->next = NULL;
}

/* Each connection one frame in turn, until nobody has one or there is no room. Who has been served goes to
 * the end of the line. */
static void serve_all(void)
{
    bool moved = true;
    for (int pass = 0; moved && pass < 64; pass++) {
        conn *c = m.conn;
        moved = false;
        for (int left = m.conns, before = left; left && m.conns == before; left--) {
            conn *next = c->next;
            bool served = serve_one(c);
            if (served && m.conns == before) /* else it has gone, or has sent another one away */
                to_the_end(c);
            moved |= served;
            c = next;
        }
        if (window_full())
            write_forward();
    }
}

static int wait_ms(int64_t now)
{
    int64_t t = 1000;
    for (conn *c = m.conn; c; c = c->next) {
        int64_t alive = c->sent_ms + m.set->keepalive_ms - now;
        t = !c->end_put && alive < t ? alive : t;
        t = (c->finishing || c->ended) && c->finish_ms - now < t ? c->finish_ms - now : t;
        if (c->whole && !c->finishing && !m.stopping && !window_full())
            t = m.set->max_rate > 0 && t > 20 ? 20 : 0;
    }
    return m.more || t < 0 ? 0 : (int)t;
}

static void turn(struct pollfd *p)
{
    int64_t now = now_ms();
    size_t pending = 0;
    nfds_t n = 0;
    if (m.w)
        ss_writer_pending(m.w, &pending);
    p[n++] = (struct pollfd){m.monitor, POLLIN, 0};
    p[n++] = (struct pollfd){m.in, POLLIN, 0};
    p[n++] = (struct pollfd){pending ? m.out : -1, POLLOUT, 0};
    for (conn *c = m.conn; c; c = c->next) {
        short want = 0;
        /* One that is finishing is watched for its end. */
        if (c->finishing ? c->end_put : !c->whole && !m.stopping)
            want |= POLLIN;
        if (has_answers(c))
            want |= POLLOUT;
        p[n++] = (struct pollfd){want ? c->fd : -1, want, 0};
    }
    if (poll(p, n, wait_ms(now)) < 0)
        return;
    n = 3;
    for (conn *c = m.conn, *next; c; c = next, n++) {
        next = c->next;
        if (!(p[n].revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        c->ready = true;
        char scratch[4096];
        ssize_t k = 1;
        if (c->finishing && (k = read(c->fd, scratch, sizeof scratch)) <= 0 && (k == 0 || errno != EAGAIN))
            drop(c, NULL);
    }
    if (p[0].revents)
        hear_monitor();
    if (m.in >= 0 && (m.more || p[1].revents))
        read_answers();
    serve_all();
    write_forward();
    now = now_ms();
    tend(now);
    write_state(false);
    if (m.stopping && m.in < 0 && !m.stopped) {
        m.stopped = true;
        for (conn *c = m.conn; c; c = c->next)
            finish(c, (int)(m.stop_ms > now ? m.stop_ms - now : 0));
    }
    if (m.stopping && ((m.stopped && !m.conn) || now >= m.stop_ms)) {
        if (m.in >= 0)
            tool_warn("the command has not ended in time");
        while (m.conn)
            drop(m.conn, NULL);
        write_state(true);
        fflush(stderr);
        _exit(m.in >= 0 ? TOOL_IO : TOOL_OK);
    }
}

void serve_mux(const serve_settings *s, int monitor)
{
    ss_err e;
    serve_become("ss-serve-mux", &monitor, 1);
    m.set = s;
    m.monitor = monitor;
    if (ss_header_copy(&m.header, &s->header, &e))
        die(e.text);
    m.have_header = s->checked;
    m.device = must(ss_zalloc(DEVICES, sizeof *m.device));
    serve_confine(s->state, true);
    struct pollfd *p = NULL;
    for (int room = 0;;) {
        if (m.conns + 3 > room) {
            room = 2 * (m.conns + 3);
            p = must(ss_realloc(p, (size_t)room, sizeof *p));
        }
        turn(p);
    }
}
