/* ss-link: a stream to the other machine and the answers back, over a connection that may break. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "common.h"
#include "endpoint.h"
#include "io/spool.h"
#include "io/stream_internal.h"
#include "nn/codec.h"
#include "split/energy.h"
#include "sys/bandwidth.h"
#include "sys/state.h"

static const char *opt_spool, *opt_state, *opt_drop = "oldest", *opt_radio;
static uint64_t opt_size = 64 << 20;
static double opt_delay, opt_drain = 10, opt_keepalive = 5, opt_retry = 0.5;
static bool opt_ack = true;

static const tool_option options[] = {
    {"spool", 0, OPT_STRING, &opt_spool, 0, 0, "DIR",
     "keep records there until they are acknowledged, not in memory", NULL},
    {"spool-size", 0, OPT_SIZE, &opt_size, 0, 0, "SIZE", "most that is kept", NULL},
    {"drop", 0, OPT_CHOICE, &opt_drop, 0, 0, "oldest|newest|decimate|none",
     "what becomes a gap when the spool is full; none: wait", NULL},
    {"state", 0, OPT_STRING, &opt_state, 0, 0, "DIR", "state directory", NULL},
    {"max-delay", 0, OPT_REAL, &opt_delay, 0, 60000, "MS",
     "hold small records back so long, to send them together", NULL},
    {"drain", 0, OPT_REAL, &opt_drain, 0, 1e6, "SECONDS", "at the end, wait so long for acknowledgements",
     NULL},
    {"keepalive", 0, OPT_REAL, &opt_keepalive, 0.01, 3600, "SECONDS",
     "say so when idle; a peer silent for three times that is dead", NULL},
    {"retry", 0, OPT_REAL, &opt_retry, 0.01, 3600, "SECONDS",
     "first pause before connecting anew; doubles up to 60 times", NULL},
    {"ack", 0, OPT_FLAG, &opt_ack, 0, 0, NULL,
     "the peer acknowledges (--no-ack: it does not, and all it says is output)", NULL},
    {"radio", 0, OPT_CHOICE, &opt_radio, 0, 0, "wifi|lte",
     "add what it takes to records that tell their energy", NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-link",
    .operands = "unix:PATH | tcp:HOST:PORT | [--] COMMAND [ARGUMENT...]",
    .purpose = "Send a stream to another machine, and bring its answers back, over a link that may break.",
    .takes = TAKES_STREAM,
    .options = options,
};

enum {
    WINDOW = 64 << 10,   /* bytes that wait for the connection, or for standard output, in encoded form */
    TOGETHER = 32 << 10, /* bytes for whose sake nothing is held back any longer */
    KEEP_MS = 60000,     /* that long at most, whatever a stamp says */
    BATCH = 1 << 20,     /* bytes taken from one descriptor before the others are looked at again */
    RETURNS = 8 << 20,   /* bytes of answers that wait for standard output */
    GRACE_MS = 1000,     /* a source that was told to stop and gives nothing for so long has ended */
    KILL_MS = 2000,      /* between SIGTERM and SIGKILL */
    DYING = 8,
};

/* ---- a queue of answers for standard output ---- */

typedef struct answer {
    struct answer *next;
    ss_record rec; /* its data are behind it */
} answer;

/* A send that is not acknowledged. */
typedef struct flight {
    uint32_t device;
    uint64_t epoch, end; /* sequence number behind it */
    ss_bandwidth_mark mark;
} flight;

enum link_state { DOWN, CONNECTING, UP, ENDING };

static struct {
    /* input */
    ss_reader *r;
    bool header, ended, paused, more; /* more: what the reader holds is not looked through yet */
    int failed;                       /* of the input: told at the end */
    ss_err failure;
    int64_t heard_ms; /* when input came last */
    int64_t less_ms;  /* when fewer waited for their acknowledgement than before */
    uint64_t waited;
    uint64_t held; /* bytes put since the connection had nothing left to send */
    int64_t held_ns;
    uint64_t kept,
        keep; /* windows put since then whose stamp says to keep them back; until there are so many */
    /* spool */
    ss_spool *spool;
    bool dirty, disk_bad;
    int64_t synced_ms;
    /* connection */
    enum link_state state;
    endpoint ep;
    ss_writer *w;
    ss_reader *back;
    bool finished, got_resume, ever_up, peer_ended, busy, other, more_back, said_up, said_down;
    int64_t next_ms, sent_ms, alive_ms,
        broken_ms; /* next try; sent last; heard last; reads no more, since then */
    double pause;
    char *const *argv;
    struct {
        pid_t pid;
        int64_t kill_ms;
    } dying[DYING];
    int status; /* of the command that ended last, -1 = none */
    flight *flight;
    size_t flights, flight_room, flight_from;
    bool probing;
    int64_t probed_ms, told_ms; /* last hello; last since the connection began */
    uint32_t device;            /* identity of a hello */
    uint64_t epoch;
    ss_bandwidth_mark probe;
    ss_bandwidth bandwidth;
    uint64_t points;
    int64_t point_ms; /* when the last one came */
    /* output */
    ss_writer *out;
    bool out_socket, out_gone;
    answer *first, **last;
    size_t answers; /* bytes */
    uint64_t returns_dropped;
    char out_kind[32];
    /* state directory */
    ss_state *dir;
    int64_t state_ms;
    uint64_t windows, windows_told, bytes; /* data records taken in; bytes handed to connections */
    int cut, dtype;                        /* of the last one; cut -1 = not known */
    uint64_t codec;                        /* that packed it, 0: none */
    ss_profile_energy radio;
    double awake, joules; /* s, until which the radio is awake; of records sent since it was told */
    uint64_t spenders;    /* those records */
    ss_rng rng;
} l = {.ep = {.in = -1, .out = -1}, .last = &l.first, .status = -1, .cut = -1};

static int64_t now_ms(void)
{
    return ss_clock_mono_ns() / 1000000;
}

static bool on_disk(void)
{
    return opt_spool != NULL;
}

/* ---- state directory ---- */

static void put_state(const char *name, double value)
{
    static bool said;
    ss_err e;
    if (ss_state_put_real(l.dir, name, value, &e) && !said) {
        tool_warn("%s", e.text);
        said = true;
    }
}

/* What has come in; who reads sees it grow old when nothing does. */
static void write_taken(void)
{
    ss_err e;
    char name[32];
    if (l.windows == l.windows_told)
        return;
    l.windows_told = l.windows;
    put_state("link.windows", (double)l.windows);
    if (ss_cut_name(l.cut))
        ss_state_put(l.dir, "cut", ss_cut_name(l.cut), &e);
    if (l.codec)
        ss_state_put(l.dir, "codec", ss_codec_name(l.codec, name), &e);
    else if (ss_dtype_name(l.dtype))
        ss_state_put(l.dir, "codec", ss_dtype_name(l.dtype), &e);
}

static void write_state(bool changed)
{
    int64_t now = now_ms();
    double v;
    if (!l.dir || (!changed && now < l.state_ms))
        return;
    l.state_ms = now + 1000;
    ss_err e;
    if (changed)
        ss_state_put(l.dir, "link", l.state == UP && l.got_resume ? "up" : "down", &e);
    put_state("queue", (double)ss_spool_queue(l.spool));
    put_state("spool", (double)ss_spool_bytes(l.spool));
    put_state("waiting", (double)ss_spool_waiting(l.spool));
    put_state("dropped", (double)ss_spool_dropped(l.spool));
    put_state("bytes", (double)l.bytes);
    if (l.spenders) { /* mJ of a window */
        put_state("energy", 1e3 * l.joules / (double)l.spenders);
        l.joules = 0;
        l.spenders = 0;
    }
    write_taken();
    if (l.points == (uint64_t)l.bandwidth.points)
        return; /* nothing new: who reads sees it grow old */
    l.points = (uint64_t)l.bandwidth.points;
    if (ss_bandwidth_rate(&l.bandwidth, &v))
        put_state("bandwidth", v);
    if (ss_bandwidth_rtt(&l.bandwidth, &v))
        put_state("rtt", v);
}

/* ---- standard output ---- */

static int open_output(const ss_header *h, ss_err *e)
{
    ss_header own = {0};
    int rc = h ? ss_header_copy(&own, h, e) : SS_OK;
    if (!rc && !h)
        strcpy(own.kind, "return");
    strcpy(l.out_kind, own.kind);
    if (!rc)
        rc = tool_add_provenance(&own, e);
    if (!rc)
        rc = ss_writer_open_memory(&l.out, &own, e);
    ss_header_clear(&own);
    return rc;
}

/* How dear an answer is: what goes first has the lowest number. */
static int worth(const ss_record *rec)
{
    return rec->type == SS_TYPE_GRADIENT ? 0 : rec->type == SS_TYPE_DELTA ? 1 : 2;
}

/* Make room by giving up the oldest of the least worth. */
static void drop_answers(size_t need)
{
    for (int value = 0; value < 3 && l.answers + need > RETURNS; value++)
        for (answer **p = &l.first; *p && l.answers + need > RETURNS;) {
            answer *a = *p;
            if (worth(&a->rec) != value) {
                p = &a->next;
                continue;
            }
            *p = a->next;
            l.answers -= sizeof *a + a->rec.size;
            ss_free(a);
            if (!l.returns_dropped++)
                tool_warn(
                    "standard output is not read fast enough: gradients are left out first, then deltas");
        }
    l.last = &l.first;
    while (*l.last)
        l.last = &(*l.last)->next;
}

static int queue_answer(const ss_record *rec, ss_err *e)
{
    size_t n = sizeof(answer) + rec->size;
    if (opt_ack && l.answers + n > RETURNS)
        drop_answers(n);
    answer *a = ss_alloc(1, n);
    if (!a)
        return ss_err_set(e, SS_ENOMEM, "no memory for an answer of %zu bytes", rec->size);
    a->next = NULL;
    a->rec = *rec;
    a->rec.data = a + 1;
    if (rec->size)
        memcpy(a + 1, rec->data, rec->size);
    *l.last = a;
    l.last = &a->next;
    l.answers += n;
    return SS_OK;
}

/* Answers into the encoded stream, as far as its window reaches. */
static int encode_answers(ss_err *e)
{
    size_t n;
    while (l.out && l.first && (ss_writer_pending(l.out, &n), n < WINDOW)) {
        answer *a = l.first;
        int rc = ss_writer_put(l.out, &a->rec, e);
        if (rc)
            return rc;
        l.first = a->next;
        if (!l.first)
            l.last = &l.first;
        l.answers -= sizeof *a + a->rec.size;
        ss_free(a);
    }
    return SS_OK;
}

static bool output_waits(void)
{
    size_t n = 0;
    if (l.out)
        ss_writer_pending(l.out, &n);
    return n || l.first;
}

/* poll has said that standard output takes something: 0, or SS_ESTOPPED when its reader has gone. A pipe that
 * is ready takes a page without blocking, and its flags are others' too. */
static int write_output(ss_err *e)
{
    size_t n;
    int rc = encode_answers(e);
    if (rc || !l.out)
        return rc;
    const void *p = ss_writer_pending(l.out, &n);
    if (!n)
        return SS_OK;
    ssize_t k = l.out_socket ? send(1, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(1, p, n < 4096 ? n : 4096);
    if (k < 0 && errno == EPIPE) {
        l.out_gone = true;
        return ss_err_set(e, SS_ESTOPPED, "the reader of standard output has gone");
    }
    if (k < 0 && errno != EAGAIN && errno != EINTR)
        return ss_err_errno(e, "cannot write to standard output");
    if (k > 0)
        ss_writer_drained(l.out, (size_t)k);
    return SS_OK;
}

/* ---- connection ---- */

static void told_down(const char *why)
{
    if (!l.said_down)
        tool_warn("link is down: %s; trying again", why);
    l.said_down = true;
    l.said_up = false;
}

static void bury(pid_t pid)
{
    for (int i = 0; i < DYING; i++)
        if (!l.dying[i].pid) {
            l.dying[i].pid = pid;
            l.dying[i].kill_ms = now_ms() + KILL_MS;
            kill(pid, SIGTERM);
            return;
        }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void reap(void)
{
    int64_t now = now_ms();
    for (int i = 0; i < DYING; i++) {
        if (!l.dying[i].pid)
            continue;
        if (waitpid(l.dying[i].pid, NULL, WNOHANG)) {
            l.dying[i].pid = 0;
        } else if (now >= l.dying[i].kill_ms) {
            kill(l.dying[i].pid, SIGKILL);
            l.dying[i].kill_ms = INT64_MAX;
        }
    }
}

/* What a command that has just closed its end is ending with, if it is quick. */
static const char *ended_with(void)
{
    static char text[64];
    int status;
    *text = 0;
    for (int i = 0; l.ep.pid && i < 10; i++) {
        pid_t got = waitpid(l.ep.pid, &status, WNOHANG);
        if (got == l.ep.pid) {
            l.ep.pid = 0;
            if (WIFEXITED(status) && WEXITSTATUS(status))
                snprintf(text, sizeof text, ": the command ended with status %d", WEXITSTATUS(status));
            else if (WIFSIGNALED(status))
                snprintf(text, sizeof text, ": the command died of signal %d", WTERMSIG(status));
        } else if (!got) {
            ss_clock_sleep_until(ss_clock_mono_ns() + 5000000);
        }
    }
    return text;
}

static void disconnect(void)
{
    endpoint_close(&l.ep);
    if (l.ep.pid)
        bury(l.ep.pid);
    l.ep.pid = 0;
    ss_writer_close(&l.w);
    ss_reader_close(&l.back);
    l.flights = l.flight_from = 0;
    l.probing = l.busy = l.more_back = false;
    l.broken_ms = 0;
    ss_bandwidth_reset_burst(&l.bandwidth);
    bool was_up = l.state == UP && l.got_resume;
    l.state = DOWN;
    l.got_resume = false;
    if (was_up)
        write_state(true);
}

/* The connection has failed: another one after a pause. */
static void lost(const char *why)
{
    disconnect();
    told_down(why);
    double half = l.pause / 2;
    l.next_ms = now_ms() + (int64_t)(1e3 * (half + half * (ss_rng_u32(&l.rng) / 4294967296.0)));
    l.pause = fmin(2 * l.pause, 60 * opt_retry);
}

/* The first resume, or without acknowledgements the first bytes: the link is up. */
static void is_up(void)
{
    l.got_resume = l.ever_up = true;
    l.pause = opt_retry;
    if (!l.said_up && l.said_down)
        tool_warn("link is up");
    l.said_up = true;
    l.said_down = false;
    write_state(true);
}

/* Something in the spool cannot be read: each damage is told, a disk that fails once. */
static void told_spool(int rc, const ss_err *e)
{
    static bool said;
    if (rc == SS_EDAMAGED || !said)
        tool_warn("%s", e->text);
    said = said || rc == SS_EIO;
}

static int connect_now(ss_err *e)
{
    const ss_header *h;
    int rc = ss_spool_begin(l.spool, &h, e);
    if (rc == SS_EDAMAGED || rc == SS_EIO) {
        told_spool(rc, e);
        l.next_ms = now_ms() + (rc == SS_EIO ? (int64_t)(l.pause * 1e3) : 0);
        return SS_OK;
    }
    if (rc < 0)
        return rc;
    if (!rc && ss_reader_header(l.r, &h, e)) /* nothing in the spool: that of the input */
        return SS_OK;
    ss_header own = {0};
    l.finished = l.peer_ended = l.other = false;
    l.sent_ms = l.told_ms = l.alive_ms = l.point_ms = now_ms();
    rc = ss_header_copy(&own, h, e);
    if (!rc)
        rc = tool_add_provenance(&own, e);
    if (!rc)
        rc = ss_writer_open_memory(&l.w, &own, e);
    ss_header_clear(&own);
    if (rc)
        return rc;
    rc = endpoint_open(&l.ep, l.argv, e);
    if (rc == SS_ENOMEM || rc == SS_EINVAL || (rc == SS_ENOTSUP && !l.ever_up))
        return rc;
    if (!rc)
        rc = ss_reader_open(&l.back, l.ep.in, NULL, e);
    if (rc) {
        lost(e->text);
        return rc == SS_ENOMEM ? rc : SS_OK;
    }
    ss_reader_set_nonblocking(l.back);
    l.state = l.ep.connecting ? CONNECTING : UP;
    return SS_OK;
}

/* ---- forward ---- */

static int remember_flight(const ss_record *rec, ss_bandwidth_mark mark, ss_err *e)
{
    if (l.flight_from + l.flights == l.flight_room) {
        if (l.flight_from > l.flights) {
            memcpy(l.flight, l.flight + l.flight_from, l.flights * sizeof *l.flight);
        } else {
            size_t room = l.flight_room ? 2 * l.flight_room : 64;
            flight *more = ss_alloc(room, sizeof *more);
            if (!more)
                return ss_err_set(e, SS_ENOMEM, "no memory to keep account of what is sent");
            if (l.flights)
                memcpy(more, l.flight + l.flight_from, l.flights * sizeof *more);
            ss_free(l.flight);
            l.flight = more;
            l.flight_room = room;
        }
        l.flight_from = 0;
    }
    uint64_t n = rec->type == SS_TYPE_GAP ? ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1) : 1;
    l.flight[l.flight_from + l.flights++] = (flight){rec->device, rec->epoch, rec->seq + n, mark};
    return SS_OK;
}

static ss_bandwidth_link link_now(void)
{
    size_t n;
    ss_writer_pending(l.w, &n);
    return l.busy && n              ? SS_BANDWIDTH_BUSY
           : l.flights || l.probing ? SS_BANDWIDTH_UNSURE
                                    : SS_BANDWIDTH_EMPTY;
}

/* What the record has cost the device; sending it is added to that. */
static void spend(ss_record *rec, int64_t now_ns)
{
    bool measured = ss_attr_has(&rec->attrs, SS_ATTR_ENERGY_MEASURED);
    double joules = (double)ss_attr_f32(&rec->attrs, SS_ATTR_ENERGY, 0), rate = 0;
    if (rec->type != SS_TYPE_DATA || (!measured && !ss_attr_has(&rec->attrs, SS_ATTR_ENERGY)))
        return;
    if (opt_radio) {
        ss_attr_set_f32(&rec->attrs, SS_ATTR_ENERGY, (float)joules); /* its own bytes are sent too */
        double bytes = (double)ss_record_bytes(rec), end = (double)now_ns * 1e-9;
        if (ss_bandwidth_rate(&l.bandwidth, &rate) && rate > 0)
            end += bytes * 8 / rate;
        joules += ss_energy_sending(&l.radio, bytes, rate) + ss_energy_tail(&l.radio, end, &l.awake);
        ss_attr_set_f32(&rec->attrs, SS_ATTR_ENERGY, (float)joules);
    }
    l.joules += joules + (double)ss_attr_f32(&rec->attrs, SS_ATTR_ENERGY_MEASURED, 0);
    l.spenders++;
}

static int put_forward(const ss_record *given, ss_err *e)
{
    ss_record rec = *given;
    int64_t now = ss_clock_mono_ns();
    bool hello = rec.type == SS_TYPE_KEEPALIVE && opt_ack;
    ss_bandwidth_link link = link_now();
    if (hello) {
        ss_state_value v;
        ss_err ignored;
        int got = l.dir ? ss_state_get(l.dir, "version", 0, &v, &ignored) : 0;
        if (got > 0 && got & SS_STATE_THERE && v.number >= 0)
            ss_attr_set_uint(&rec.attrs, SS_ATTR_VERSION_FROM, (uint64_t)v.number);
    } else if (ss_attr_has(&rec.attrs, SS_ATTR_SENT)) { /* its time in here, and the moment it goes on */
        ss_stage_begin(&rec.attrs, SS_ATTR_T_LINK);
        ss_stage_end(&rec.attrs, 0, now);
    }
    spend(&rec, now);
    uint64_t before = ss_writer_offset(l.w);
    int rc = ss_writer_put(l.w, &rec, e);
    if (rc || !opt_ack)
        return rc;
    ss_bandwidth_mark mark = ss_bandwidth_sent(&l.bandwidth, ss_writer_offset(l.w) - before, link, now);
    l.device = rec.device;
    l.epoch = rec.epoch;
    if (!hello)
        return remember_flight(&rec, mark, e);
    l.probe = mark;
    l.probing = rec.device || rec.epoch; /* a plain keep-alive need not be answered */
    return SS_OK;
}

/* All is sent that has this header, or all there is. What is acknowledged comes back all the same: who
 * acknowledges when he saves, saves when he has heard the end. */
static int end_forward(bool whole, ss_err *e)
{
    int rc = whole ? ss_writer_end(l.w, e) : SS_OK;
    l.state = ENDING;
    return rc;
}

/* When what is small may go: true, or *wait in ms. */
static bool may_send(int64_t now, int *wait)
{
    bool keep = l.kept < l.keep;
    double delay = keep ? KEEP_MS : opt_delay;
    if (delay <= 0 || l.ended || l.held >= TOGETHER || !ss_spool_unsent(l.spool))
        return true;
    int64_t left = l.held_ns + (int64_t)(delay * 1e6) - now;
    if (left <= 0)
        return true;
    *wait = (int)((left + 999999) / 1000000);
    return false;
}

/* Where records follow each other so closely that the link is never known to be idle nor to be full, nothing
 * is learnt of it: then the next one waits for the acknowledgements of those before, for a second at most. */
static bool hold_to_measure(void)
{
    int64_t now = now_ms(), due = l.point_ms + (int64_t)(2e3 * opt_keepalive);
    if (!opt_ack || !l.flights || l.ended || now < due)
        return false;
    if (now < due + 1000)
        return true;
    l.point_ms = now + (int64_t)(8e3 * opt_keepalive);
    return false;
}

static int fill(int *wait, ss_err *e)
{
    size_t n;
    if (l.state != UP || l.other || hold_to_measure() || !may_send(ss_clock_mono_ns(), wait))
        return SS_OK;
    while (ss_writer_pending(l.w, &n), n < WINDOW) {
        const ss_record *rec;
        int rc = ss_spool_next(l.spool, &rec, e);
        if (rc == 0) {
            l.held = l.kept = l.keep = 0;
            return SS_OK;
        }
        if (rc == 2) { /* all that is left is for the next connection */
            l.other = true;
            return SS_OK;
        }
        if (rc == SS_EDAMAGED || rc == SS_EIO) {
            told_spool(rc, e);
            if (rc == SS_EDAMAGED)
                continue;
            return SS_OK;
        }
        if (rc > 0)
            rc = put_forward(rec, e);
        if (rc < 0)
            return rc;
    }
    return SS_OK;
}

static void flush_forward(void)
{
    size_t n;
    const uint8_t *p;
    l.busy = false;
    while (l.ep.out >= 0 && (p = ss_writer_pending(l.w, &n), n)) {
        ssize_t k = write(l.ep.out, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN) {
            l.busy = true;
            return;
        }
        if (k < 0) {
            /* The reason is likely to come from the other direction. */
            l.broken_ms = now_ms();
            endpoint_finish(&l.ep);
            return;
        }
        ss_writer_drained(l.w, (size_t)k);
        l.bytes += (uint64_t)k;
        l.sent_ms = now_ms();
        if ((size_t)k < n) {
            l.busy = true;
            return;
        }
    }
    if (l.state == ENDING && !l.finished) {
        l.finished = true;
        endpoint_finish(&l.ep);
    }
}

/* A hello of what was sent last says that we are alive, and is answered at once, so that it measures the way:
 * when nothing else was sent for a while, and as often when nothing is under way. */
static int keep_alive(int64_t now, ss_err *e)
{
    size_t n;
    int64_t every = (int64_t)(opt_keepalive * 1e3);
    if (l.state != UP || !opt_ack)
        return SS_OK;
    /* Never so busy that it does not say which weights this device has, since what it misses comes by that.
     */
    bool overdue = l.got_resume && !l.probing && (l.device || l.epoch) && now >= l.told_ms + 3 * every;
    if (!overdue && (ss_writer_pending(l.w, &n), n))
        return SS_OK;
    bool measure =
        l.got_resume && !l.flights && !l.probing && (l.device || l.epoch) && now >= l.probed_ms + every;
    if (!overdue && !measure && now < l.sent_ms + every)
        return SS_OK;
    l.sent_ms = l.probed_ms = l.told_ms = now;
    return put_forward(&(ss_record){.type = SS_TYPE_KEEPALIVE, .device = l.device, .epoch = l.epoch}, e);
}

/* ---- back ---- */

static void landed(const ss_record *rec, int64_t now)
{
    ss_bandwidth_mark mark = {0};
    bool any = false;
    while (l.flights) {
        flight *f = &l.flight[l.flight_from];
        if (f->device != rec->device || f->epoch != rec->epoch || f->end > rec->seq + 1)
            break;
        mark = f->mark;
        any = true;
        l.flight_from++;
        l.flights--;
    }
    int64_t server = (int64_t)ss_attr_uint(&rec->attrs, SS_ATTR_T_SERVE, 0) +
                     (int64_t)ss_attr_uint(&rec->attrs, SS_ATTR_T_TRAIN, 0);
    if (any && mark.sent > 0)
        l.point_ms = now / 1000000;
    if (any)
        ss_bandwidth_acknowledged(&l.bandwidth, mark, server, now);
}

static int come_back(const ss_record *rec, ss_err *e)
{
    int64_t now = ss_clock_mono_ns();
    if (!opt_ack)
        return queue_answer(rec, e);
    switch (rec->type) {
    case SS_TYPE_RESUME:
        if (l.probing && rec->device == l.device && rec->epoch == l.epoch) {
            l.probing = false;
            if (l.got_resume) /* the first one may have taken a server's start */
                ss_bandwidth_acknowledged(&l.bandwidth, l.probe, 0, now);
        }
        ss_spool_resume(l.spool, rec);
        if (!l.got_resume)
            is_up();
        return SS_OK;
    case SS_TYPE_ACK:
        landed(rec, now);
        /* A disk that is full gets rid of what is done with at once. */
        if (ss_spool_ack(l.spool, rec) && ss_spool_trim(l.spool, l.disk_bad, e))
            tool_warn("%s", e->text);
        return SS_OK;
    case SS_TYPE_KEEPALIVE:
        return SS_OK;
    default:
        return queue_answer(rec, e);
    }
}

static int back_header(ss_err *e)
{
    const ss_header *h;
    int rc = ss_reader_header(l.back, &h, e);
    if (rc || opt_ack)
        return rc;
    if (!l.out)
        rc = open_output(h, e);
    else if (strcmp(h->kind, l.out_kind))
        rc = ss_err_set(e, SS_EUNFIT, "the peer answers with a stream of kind '%s', before it was '%s'",
                        h->kind, l.out_kind);
    if (!rc && !l.got_resume)
        is_up();
    return rc;
}

/* Take what has come back: 0, or negative when this program has to end. */
static int read_back(ss_err *e)
{
    ss_err why = {0};
    const ss_record *rec;
    uint64_t from = ss_reader_offset(l.back);
    int rc = back_header(&why);
    l.more_back = true;
    while (!rc && ss_reader_offset(l.back) - from < BATCH && (opt_ack || l.answers < RETURNS)) {
        rc = ss_reader_next(l.back, &rec, &why);
        if (rc <= 0)
            break;
        rc = come_back(rec, e);
        if (rc)
            return rc;
    }
    if (ss_reader_offset(l.back) != from)
        l.alive_ms = now_ms();
    if (rc > 0)
        return SS_OK;
    if (rc == SS_EAGAIN || (rc == 0 && !ss_reader_ended(l.back))) {
        l.more_back = rc == 0;
        return SS_OK;
    }
    if (rc == SS_ENOMEM) {
        *e = why;
        return rc;
    }
    if (rc == SS_EUNFIT && !opt_ack) {
        *e = why;
        return rc;
    }
    /* Whom we have left without an end record, he does the same. */
    bool cut = rc == SS_ETRUNC && l.failed && l.finished && !ss_spool_queue(l.spool);
    if ((rc == 0 || cut) && l.state == ENDING) {
        l.peer_ended = true;
        return SS_OK;
    }
    char text[640];
    const char *end = ended_with();
    if (rc == 0)
        snprintf(text, sizeof text, "the peer has ended%s", end);
    else
        snprintf(text, sizeof text, "%s%s", rc == SS_ETRUNC ? "the peer has gone" : why.text, end);
    lost(text);
    return SS_OK;
}

/* ---- input ---- */

static ssize_t from_input(void *arg, void *to, size_t n, ss_err *e)
{
    struct pollfd p = {0, POLLIN, 0};
    if (poll(&p, 1, 0) == 0)
        return SS_EAGAIN;
    ssize_t k = read(0, to, n);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return SS_EAGAIN;
    return k < 0 ? ss_err_errno(e, "cannot read") : k;
}

/* The disk has failed, or takes records again. */
static void told_disk(int rc, const ss_err *e)
{
    if (rc < 0 && !l.disk_bad)
        tool_warn("%s; going on, what the spool does not take becomes a gap", e->text);
    else if (rc >= 0 && l.disk_bad)
        tool_warn("the spool takes records again");
    l.disk_bad = rc < 0;
}

/* Where a record is cut: as it is stamped, or as the kind of its stream says; -1 not known. */
static int cut_of(const ss_record *rec)
{
    const ss_header *h;
    ss_err e;
    if (ss_attr_has(&rec->attrs, SS_ATTR_SPLIT))
        return (int)ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, 0);
    if (ss_reader_header(l.r, &h, &e))
        return -1;
    return !strcmp(h->kind, "logmel") ? SS_CUT_INPUT : !strcmp(h->kind, "embedding") ? SS_CUT_EMBEDDING : -1;
}

static int take_in(const ss_record *given, ss_err *e)
{
    ss_record rec = *given;
    if (ss_attr_has(&rec.attrs, SS_ATTR_SENT)) {
        int64_t begun = ss_stage_begin(&rec.attrs, SS_ATTR_W_LINK);
        ss_stage_end(&rec.attrs, 0, begun);
    }
    if (!l.held)
        l.held_ns = ss_clock_mono_ns();
    l.held += ss_record_bytes(&rec);
    if (rec.type == SS_TYPE_DATA) {
        /* One that may not wait takes those before it along. */
        l.keep = ss_attr_uint(&rec.attrs, SS_ATTR_HOLD, 0);
        l.kept = l.keep ? l.kept + 1 : 0;
        l.windows++;
        l.cut = cut_of(&rec);
        l.dtype = rec.dtype;
        l.codec = rec.dtype == SS_DTYPE_PACKED ? ss_attr_uint(&rec.attrs, SS_ATTR_CODEC, 0) : 0;
    }
    int rc = ss_spool_put(l.spool, &rec, e);
    if (rc == SS_EINVAL)
        return rc;
    if (rc < 0) /* that memory has taken one says nothing of the disk */
        told_disk(rc, e);
    l.dirty = true;
    return SS_OK;
}

static int read_input(ss_err *e)
{
    const ss_record *rec;
    uint64_t from = ss_reader_offset(l.r);
    const ss_header *h;
    int rc = ss_reader_header(l.r, &h, e);
    if (!rc && !l.header) {
        l.header = true;
        rc = ss_spool_header(l.spool, h, e);
        if (rc) {
            if (rc == SS_EIO)
                told_disk(rc, e);
            l.header = false;
            return rc == SS_EIO ? SS_OK : rc;
        }
    }
    l.more = true;
    while (!rc && ss_reader_offset(l.r) - from < BATCH && !l.paused) {
        rc = ss_reader_next(l.r, &rec, e);
        if (rc <= 0)
            break;
        l.heard_ms = now_ms();
        rc = rec->type == SS_TYPE_KEEPALIVE ? SS_OK : take_in(rec, e);
        if (rc)
            return rc;
        l.paused = !strcmp(opt_drop, "none") && ss_spool_full(l.spool);
    }
    if (rc == SS_EAGAIN || (rc == 0 && !ss_reader_ended(l.r))) {
        l.more = rc == 0;
        return SS_OK;
    }
    l.ended = true;
    l.heard_ms = now_ms();
    if (rc < 0) {
        l.failed = rc;
        l.failure = *e;
        ss_err_prefix(&l.failure, "cannot read standard input");
    }
    return SS_OK;
}

static void save(bool now_too, ss_err *e)
{
    int64_t now = now_ms();
    if (!on_disk() || !l.dirty)
        return;
    int rc;
    if (now_too || now >= l.synced_ms + 1000) {
        rc = ss_spool_sync(l.spool, e);
        l.synced_ms = now_ms();
        l.dirty = rc < 0;
    } else {
        rc = ss_spool_write(l.spool, e);
    }
    told_disk(rc, e);
}

/* ---- the loop ---- */

/* Until when the end is waited for. Who told us to stop does not wait for as long as it goes on. */
static int64_t deadline(void)
{
    int64_t from = !tool_stop && l.less_ms > l.heard_ms ? l.less_ms : l.heard_ms;
    return from + (int64_t)(opt_drain * 1e3);
}

/* Ends of things: 1 when all is done. */
static int progress(int64_t now, ss_err *e)
{
    if (!l.ended && tool_stop && now >= l.heard_ms + GRACE_MS)
        l.ended = true;
    uint64_t wait = ss_spool_queue(l.spool);
    bool all_sent = l.ended && !ss_spool_unsent(l.spool), all = all_sent && !wait;
    if (wait < l.waited)
        l.less_ms = now;
    l.waited = wait;
    if (l.state == UP && (all_sent || l.other)) {
        int rc = end_forward(l.other || !l.failed, e);
        if (rc)
            return rc;
    }
    if (l.state == ENDING && l.peer_ended) {
        bool owes = ss_spool_queue(l.spool) > ss_spool_unsent(l.spool);
        disconnect();
        if (all)
            return 1;
        if (owes)
            lost("the peer has ended, and has not acknowledged all");
        else
            l.next_ms = now; /* with the next header */
    }
    if (l.state == UP && l.broken_ms && now >= l.broken_ms + GRACE_MS)
        lost("the peer reads no more");
    /* Where not even a header came, there is nothing to connect for. Else who acknowledges is told that this
     * is the end: he may have died before he saved what he had acknowledged. */
    if (l.ended && all && l.state == DOWN && (!l.header || (l.ever_up && !opt_ack)))
        return 1;
    /* Who acknowledges nothing is waited for as long as he works. */
    return l.ended && now >= deadline() && (opt_ack || l.state == DOWN) ? 1 : 0;
}

static int time_to(int64_t now, int64_t when, int timeout)
{
    int64_t left = when - now;
    return left <= 0 ? 0 : left < timeout ? (int)left : timeout;
}

static int timeout_of(int64_t now, int wait, bool pending)
{
    int t = wait;
    if (l.dir && l.state == DOWN) /* else the peer's keep-alives wake us often enough to tell that we live */
        t = time_to(now, l.state_ms, t);
    if (l.ended && (opt_ack || l.state == DOWN))
        t = time_to(now, deadline(), t);
    else if (!l.ended && tool_stop)
        t = time_to(now, l.heard_ms + GRACE_MS, t);
    if (l.state == DOWN && l.header)
        t = time_to(now, l.next_ms, t);
    if (l.state == UP && opt_ack && !pending)
        t = time_to(now, l.sent_ms + (int64_t)(opt_keepalive * 1e3), t);
    if (l.state != DOWN && opt_ack)
        t = time_to(now, l.alive_ms + (int64_t)(3e3 * opt_keepalive), t);
    if (on_disk() && l.dirty)
        t = time_to(now, l.synced_ms + 1000, t);
    if (l.state == UP && l.broken_ms)
        t = time_to(now, l.broken_ms + GRACE_MS, t);
    for (int i = 0; i < DYING; i++)
        if (l.dying[i].pid)
            t = time_to(now, l.dying[i].kill_ms, t < 100 ? t : 100);
    return t < 1 ? 1 : t;
}

static int turn(const sigset_t *open_mask, ss_err *e)
{
    struct pollfd p[4];
    int64_t now = now_ms();
    int wait = 1000, n = 0, in = -1, out = -1, back = -1, forward = -1;
    size_t pending = 0;
    if (l.state == DOWN && (l.header || ss_spool_queue(l.spool)) && now >= l.next_ms) {
        int rc = connect_now(e);
        if (rc < 0)
            return rc;
    }
    int rc = keep_alive(now, e);
    if (!rc)
        rc = fill(&wait, e);
    if (rc)
        return rc;
    if (l.w && !l.ep.connecting) {
        flush_forward();
        if (l.state == UP) /* what the spool still has may go at once */
            rc = fill(&wait, e);
        if (rc)
            return rc;
        ss_writer_pending(l.w, &pending);
    }
    l.paused = l.paused && ss_spool_full(l.spool);
    if (!l.ended && !l.paused)
        p[in = n++] = (struct pollfd){0, POLLIN, 0};
    if (output_waits())
        p[out = n++] = (struct pollfd){1, POLLOUT, 0};
    if (l.state != DOWN && !l.ep.connecting && l.ep.in >= 0 && (opt_ack || l.answers < RETURNS))
        p[back = n++] = (struct pollfd){l.ep.in, POLLIN, 0};
    if (l.state != DOWN && l.ep.out >= 0 && (pending || l.ep.connecting))
        p[forward = n++] = (struct pollfd){l.ep.out, POLLOUT, 0};
    bool in_now = in >= 0 && l.more, back_now = back >= 0 && l.more_back;
    int ms = in_now || back_now ? 0 : timeout_of(now, wait, pending > 0);
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    if (ppoll(p, (nfds_t)n, &ts, open_mask) < 0) {
        if (errno != EINTR)
            return ss_err_errno(e, "cannot poll");
        n = 0;
    }
    if (n && out >= 0 && p[out].revents)
        rc = write_output(e);
    if (!rc && n && forward >= 0 && p[forward].revents && l.ep.connecting) {
        if (endpoint_connected(&l.ep, e))
            lost(e->text);
        else
            l.state = UP;
    }
    if (!rc && back >= 0 && l.back && (back_now || (n && p[back].revents)))
        rc = read_back(e);
    if (!rc && in >= 0 && (in_now || (n && p[in].revents)))
        rc = read_input(e);
    if (rc)
        return rc;
    if (!opt_ack && ss_spool_trim(l.spool, false, e))
        return e->code;
    save(false, e);
    now = now_ms();
    if (l.state != DOWN && opt_ack && now >= l.alive_ms + (int64_t)(3e3 * opt_keepalive))
        lost("the peer is silent");
    reap();
    write_state(false);
    return progress(now, e);
}

static void on_child(int number)
{
    (void)number;
}

static int run(char *const argv[], ss_err *e)
{
    sigset_t mine, open_mask;
    struct stat st;
    l.argv = argv;
    l.pause = opt_retry;
    l.heard_ms = l.synced_ms = now_ms();
    l.rng = ss_rng_make((uint64_t)ss_clock_real_ns(), (uint64_t)getpid());
    l.out_socket = !fstat(1, &st) && S_ISSOCK(st.st_mode);
    if (isatty(0) && !tool_set.force)
        return ss_err_set(e, SS_EINVAL, "standard input is a terminal: pipe a stream in, or use --force");
    if (isatty(1) && !tool_set.force)
        return ss_err_set(e, SS_EINVAL, "standard output is a terminal: use a pipe or --force");
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = on_child}, NULL);
    sigemptyset(&mine);
    sigaddset(&mine, SIGINT);
    sigaddset(&mine, SIGTERM);
    sigaddset(&mine, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mine, &open_mask);
    int rc = opt_state ? ss_state_open(&l.dir, opt_state, e) : SS_OK;
    if (!rc && opt_radio)
        rc = ss_energy_radio(opt_radio, &l.radio, e);
    static const char *const drops[] = {"oldest", "newest", "decimate", "none"};
    ss_spool_config c = {.max_bytes = opt_size, .no_ack = !opt_ack};
    for (int i = 0; i < 4; i++)
        if (!strcmp(opt_drop, drops[i]))
            c.drop = (ss_drop)i;
    if (!rc) {
        rc = ss_spool_open(&l.spool, opt_spool, &c, e);
        if (rc > 0)
            tool_warn("%s", e->text);
    }
    if (rc >= 0)
        rc = ss_reader_open_source(&l.r, from_input, NULL, NULL, e);
    if (!rc && opt_ack)
        rc = open_output(NULL, e);
    if (rc < 0)
        return rc;
    write_state(true);
    while (!(rc = turn(&open_mask, e)))
        ;
    return rc < 0 ? rc : SS_OK;
}

static int drain_output(ss_err *e)
{
    int rc = SS_OK;
    struct pollfd p = {1, POLLOUT, 0};
    while (!rc && output_waits()) {
        poll(&p, 1, -1);
        rc = write_output(e);
    }
    return rc;
}

/* What is left to say and to write at the end. */
static int finish(int rc, ss_err *e)
{
    ss_err late = {0};
    uint64_t left = l.spool ? ss_spool_queue(l.spool) : 0;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL); /* who is told a second time does not wait for a reader */
    disconnect();
    if (l.spool && !left && ss_spool_trim(l.spool, true, &late))
        tool_warn("%s", late.text);
    if (l.spool)
        write_state(true);
    if (rc >= 0 && l.failed) {
        rc = l.failed;
        *e = l.failure;
    }
    int closed = ss_spool_close(&l.spool, &late);
    if (closed < 0 && rc >= 0) {
        rc = closed;
        *e = late;
    }
    if (left && on_disk())
        tool_warn("%" PRIu64 " records are not acknowledged and stay in '%s'", left, opt_spool);
    else if (left && rc >= 0)
        rc = ss_err_set(e, SS_EIO, "%" PRIu64 " records were not acknowledged and are lost", left);
    else if (left)
        tool_warn("%" PRIu64 " records were not acknowledged and are lost", left);
    if (l.returns_dropped)
        tool_warn("%" PRIu64 " answers were left out: standard output was not read fast enough",
                  l.returns_dropped);
    if (l.out_gone)
        return rc;
    /* The stream of answers ends when all has been said, and without an end record after a failure. */
    int out = drain_output(&late);
    if (!out && l.out && rc >= 0)
        out = ss_writer_end(l.out, &late);
    if (!out)
        out = drain_output(&late);
    if (out < 0 && rc >= 0) {
        rc = out;
        *e = late;
    }
    return rc;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    int first = tool_start(&program, argc, argv);
    if (first >= argc)
        tool_usage("a command, unix:PATH or tcp:HOST:PORT is needed");
    if (!opt_ack && opt_spool)
        tool_usage("--spool: what is never acknowledged would stay there for ever with --no-ack");
    if (opt_size < 1 << 16)
        tool_usage("--spool-size: found %" PRIu64 ", expected at least 65536", opt_size);
    int rc = finish(run(argv + first, &e), &e);
    for (int i = 0; i < 40 && !l.out_gone; i++) { /* commands that were told to end get their time */
        bool any = false;
        reap();
        for (int k = 0; k < DYING; k++)
            any = any || l.dying[k].pid;
        if (!any)
            break;
        ss_clock_sleep_until(ss_clock_mono_ns() + 50000000);
    }
    if (l.out_gone) { /* as any filter, but with everything saved */
        signal(SIGPIPE, SIG_DFL);
        sigset_t pipe_only;
        sigemptyset(&pipe_only);
        sigaddset(&pipe_only, SIGPIPE);
        sigprocmask(SIG_UNBLOCK, &pipe_only, NULL);
        raise(SIGPIPE);
    }
    ss_writer_close(&l.out);
    ss_reader_close(&l.r);
    ss_state_close(&l.dir);
    ss_free(l.flight);
    return tool_finish(rc, &e);
}
