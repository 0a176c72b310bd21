#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "common.h"
#include "runner.h"
#include "serve.h"

enum {
    BACK = 32 << 10,        /* bytes of answers on their way */
    HEADER_MAX = 128 << 10, /* bytes of JSON */
    BEGIN_MS = 10000,       /* for a whole preamble */
    SILENT_MS = 15000,      /* for a whole record, and a second more for each KiB of it that comes */
    LINGER_MS = 2000        /* for the device to end, once it has been told all */
};

static struct relay {
    const serve_settings *set;
    int id, connection, mux;
    ss_reader *r;
    char kind[32];
    uint32_t *label; /* index in the merged table + 1, or 0 */
    uint32_t nlabels;
    float *values; /* scratch of a cut */
    bool begun, reading, mux_gone, told_end, unknown_said;
    serve_frame frame;
    size_t frame_sent, frame_size; /* of frame and payload */
    const void *payload;
    int64_t started_ms, record_ms, linger_ms; /* last record; when it has to end */
    uint64_t record_at;                       /* offset behind it */
    char back[BACK];
    size_t back_n;
    bool back_ended;
} r;

static int64_t now_ms(void)
{
    return ss_clock_mono_ns() / 1000000;
}

static void __attribute__((noreturn)) leave(int status)
{
    fflush(stderr);
    _exit(status);
}

/* The connection is of no use: its device will make another one. */
static void __attribute__((noreturn)) refuse(const char *why)
{
    tool_warn("connection %d: %s", r.id, why);
    leave(TOOL_DAMAGED);
}

/* ---- what comes from the device ---- */

/* Text of a stranger, fit for a log. */
static void printable(char *to, size_t n, const char *from)
{
    size_t i = 0;
    for (; from[i] && i + 1 < n; i++)
        to[i] = (char)(from[i] < ' ' || from[i] > '~' ? '?' : from[i]);
    to[i] = 0;
}

static void map_labels(const ss_header *h)
{
    const ss_header *all = &r.set->header;
    char name[64];
    r.nlabels = h->nlabels;
    r.label = ss_zalloc(h->nlabels + 1, sizeof *r.label);
    if (!r.label)
        refuse("no memory for its labels");
    for (uint32_t i = 0; i < h->nlabels; i++)
        for (uint32_t k = 0; k < all->nlabels && !r.label[i]; k++)
            if (!strcmp(h->labels[i], all->labels[k]))
                r.label[i] = k + 1;
    for (uint32_t i = 0; i < h->nlabels && all->nlabels; i++)
        if (!r.label[i]) {
            printable(name, sizeof name, h->labels[i]);
            tool_warn("connection %d: label '%s' is not in the table: left out", r.id, name);
            return;
        }
}

static void begin(const ss_header *h)
{
    static const char *const kinds[] = {"cut", "logmel", "embedding"};
    bool known = false;
    for (int i = 0; i < 3; i++)
        known = known || !strcmp(h->kind, kinds[i]);
    if (!known) {
        char kind[32], text[96];
        printable(kind, sizeof kind, h->kind);
        snprintf(text, sizeof text, "stream of kind '%s', expected cut, logmel or embedding", kind);
        refuse(text);
    }
    map_labels(h);
    strcpy(r.kind, h->kind);
    r.frame = (serve_frame){.what = FRAME_HEADER};
    strcpy(r.frame.u.header.kind, h->kind);
    strcpy(r.frame.u.header.frontend_hash, h->frontend_hash);
    strcpy(r.frame.u.header.arch_hash, h->arch_hash);
    r.frame.u.header.rate = h->rate;
    r.frame_size = sizeof r.frame;
    r.begun = true;
    r.record_ms = now_ms();
    r.record_at = ss_reader_offset(r.r);
}

/* The cut a data record is at goes with it, as its stream no longer does; and it has to be one that the model
 * takes, since the command serves all devices and would end. */
static void stamp(ss_record *rec)
{
    uint64_t cut = ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, SS_CUT_EMBEDDING + 1);
    ss_err e = {.text = "a record that is not stamped with the cut it is at"};
    if (!strcmp(r.kind, "logmel"))
        cut = SS_CUT_INPUT;
    else if (!strcmp(r.kind, "embedding") && cut > SS_CUT_EMBEDDING)
        cut = SS_CUT_EMBEDDING;
    if (cut > SS_CUT_EMBEDDING)
        refuse(e.text);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, cut);
    if (!r.set->checked)
        return;
    if (runner_check_shape(&r.set->config, rec, (int)cut, &e) ||
        runner_decode(r.set->codecs, NULL, rec, (int)cut, ss_model_cut_size(&r.set->config, (int)cut),
                      r.values, &e))
        refuse(e.text);
}

static void take(const ss_record *rec)
{
    r.frame.what = FRAME_RECORD;
    r.frame.u.rec = *rec;
    ss_record *own = &r.frame.u.rec;
    r.frame.begun = ss_attr_has(&rec->attrs, SS_ATTR_SENT) ? ss_stage_begin(&own->attrs, SS_ATTR_W_SERVE)
                                                           : ss_clock_mono_ns();
    if (rec->type == SS_TYPE_DATA) {
        uint64_t label = ss_attr_uint(&own->attrs, SS_ATTR_LABEL, UINT64_MAX);
        uint32_t to = label < r.nlabels ? r.label[label] : 0;
        ss_attr_clear(&own->attrs, SS_ATTR_LABEL);
        if (to)
            ss_attr_set_uint(&own->attrs, SS_ATTR_LABEL, to - 1);
        stamp(own);
    }
    r.payload = rec->data;
    r.frame_size = sizeof r.frame + rec->size;
    r.record_ms = now_ms();
    r.record_at = ss_reader_offset(r.r);
}

/* Read on until there is a frame, or nothing more: true when it should be tried again. */
static bool read_connection(void)
{
    ss_err e;
    const ss_header *h;
    const ss_record *rec;
    int rc = ss_reader_header(r.r, &h, &e);
    if (!rc && !r.begun) {
        begin(h);
        return true;
    }
    if (!rc)
        rc = ss_reader_next(r.r, &rec, &e);
    if (rc == SS_EAGAIN)
        return false;
    if (rc > 0) {
        take(rec);
        return true;
    }
    if (rc < 0 && (rc == SS_ETRUNC || rc == SS_EIO)) {
        tool_info("connection %d: the device has gone: %s", r.id, e.text);
        leave(TOOL_DAMAGED);
    }
    if (rc < 0)
        refuse(e.text);
    r.frame.what = FRAME_END;
    r.frame_size = sizeof r.frame;
    r.reading = false;
    return true;
}

/* What is left of the frame to the multiplexer: true when all is gone. */
static bool write_frame(void)
{
    while (r.frame_sent < r.frame_size) {
        size_t head = sizeof r.frame, at = r.frame_sent;
        struct iovec iov[2];
        int n = 0;
        if (at < head)
            iov[n++] = (struct iovec){(char *)&r.frame + at, head - at};
        if (r.frame_size > head)
            iov[n++] = (struct iovec){(char *)r.payload + (at < head ? 0 : at - head),
                                      r.frame_size - (at < head ? head : at)};
        ssize_t k = writev(r.mux, iov, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return false;
        if (k < 0) { /* it takes no more; what it has still to say comes */
            r.reading = false;
            r.mux_gone = true;
            break;
        }
        r.frame_sent += (size_t)k;
    }
    r.frame_sent = r.frame_size = 0;
    return true;
}

/* ---- what goes to it ---- */

static void read_back(void)
{
    ssize_t k = read(r.mux, r.back + r.back_n, sizeof r.back - r.back_n);
    if (k > 0)
        r.back_n += (size_t)k;
    else if (k == 0 || (errno != EAGAIN && errno != EINTR))
        r.back_ended = true;
}

static void write_back(void)
{
    ssize_t k = r.back_n ? write(r.connection, r.back, r.back_n) : 0;
    if (k < 0 && errno != EAGAIN && errno != EINTR) {
        tool_info("connection %d: the device has gone: %s", r.id, strerror(errno));
        leave(TOOL_IO);
    }
    if (k > 0) {
        r.back_n -= (size_t)k;
        memmove(r.back, r.back + k, r.back_n);
    }
    if (r.back_ended && !r.back_n && !r.told_end) {
        shutdown(r.connection, SHUT_WR);
        r.told_end = true;
        r.reading = false;
        r.linger_ms = now_ms() + LINGER_MS;
    }
}

/* What still comes is taken away, so that the end does not overtake the last answers. */
static void discard(void)
{
    char scratch[4096];
    ssize_t k = read(r.connection, scratch, sizeof scratch);
    if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
        leave(TOOL_OK);
}

/* ---- the loop ---- */

/* When the device will have been silent for too long. */
static int64_t deadline(void)
{
    if (r.told_end)
        return r.linger_ms;
    if (!r.begun)
        return r.started_ms + BEGIN_MS;
    /* While it is the multiplexer that is waited for, nothing can be said of the device. */
    if (!r.reading || r.frame_size)
        return INT64_MAX;
    return r.record_ms + SILENT_MS + (int64_t)((ss_reader_offset(r.r) - r.record_at) * 1000 / 1024);
}

static void turn(bool *again)
{
    struct pollfd p[2] = {{r.connection, 0, 0}, {r.mux, 0, 0}};
    bool read_on = r.reading && !r.frame_size;
    if (read_on || r.told_end)
        p[0].events |= POLLIN;
    if (r.back_n)
        p[0].events |= POLLOUT;
    if (!r.back_ended && r.back_n < sizeof r.back)
        p[1].events |= POLLIN;
    if (r.frame_size)
        p[1].events |= POLLOUT;
    if (!p[0].events)
        p[0].fd = -1;
    if (!p[1].events)
        p[1].fd = -1;
    int64_t now = now_ms(), end = deadline(), left = end - now;
    if (left <= 0 && r.told_end)
        leave(TOOL_OK);
    if (left <= 0)
        refuse(r.begun ? "silent for too long" : "no stream has begun in 10 seconds");
    int wait = *again && read_on ? 0 : left > 5000 ? 5000 : (int)left;
    if (poll(p, 2, wait) < 0)
        return;
    if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && !r.back_ended)
        read_back();
    if (p[0].revents & (POLLOUT | POLLHUP | POLLERR) || r.back_ended)
        write_back();
    if (r.told_end) {
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
            discard();
        return;
    }
    if (r.frame_size && !write_frame())
        return;
    if (!r.reading || !(*again || p[0].revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    for (int i = 0; i < 64 && r.reading; i++) {
        *again = read_connection();
        if (!*again || !write_frame())
            return;
    }
}

void serve_relay(const serve_settings *s, int id, int connection, int to)
{
    int fd[2] = {connection, to};
    ss_err e;
    serve_become("ss-serve-relay", fd, 2);
    r.set = s;
    r.id = id;
    r.connection = fd[0];
    r.mux = fd[1];
    r.started_ms = now_ms();
    r.reading = true;
    r.values = ss_alloc(s->checked ? ss_model_largest_cut(&s->config) : 1, sizeof *r.values);
    const ss_limits limits = {.max_header = HEADER_MAX, .max_payload = s->max_payload};
    if (!r.values || ss_reader_open(&r.r, r.connection, &limits, &e))
        refuse("out of memory");
    ss_reader_set_nonblocking(r.r);
    serve_confine(NULL, false);
    bool again = false;
    while (!(r.mux_gone && r.back_ended && !r.back_n && r.told_end && now_ms() > r.linger_ms))
        turn(&again);
    leave(TOOL_OK);
}
