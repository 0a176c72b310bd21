/*
 * usage: peer [-g BYTES] [-k MS] [-n] [-s MS] FOLDER [SOCKET]
 *
 * The other end of ss-link, for its tests: a connection on standard input and output, or one after the other
 * on a UNIX socket. Each record is put into the journal in FOLDER, which is synced; then it is acknowledged;
 * each hello is answered with the last durable record of its (device, epoch). What comes has to go on where
 * that ends: else the peer says so and dies with status 9. -g: answer each record with a gradient of so many
 * bytes; -k: a keep-alive when idle for so long (default 500); -n: acknowledge nothing; -s: say that each
 * record took so long, and take it; acknowledge 64 at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/journal.h"

enum { STREAMS = 4096, LARGEST = 1 << 22, GROUP = 64 };

static struct {
    uint32_t device;
    uint64_t epoch, next; /* all before it came */
    bool dirty;
} stream[STREAMS];
static int streams;

static ss_journal *j;
static ss_err e;
static int gradient, keepalive = 500, serve_ms;
static bool acknowledges = true;
static uint8_t zeros[LARGEST];

static void must(int64_t rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "peer: %s: %s\n", what, e.text);
    exit(3);
}

static int find(const ss_record *r)
{
    for (int i = 0; i < streams; i++)
        if (stream[i].device == r->device && stream[i].epoch == r->epoch)
            return i;
    if (streams == STREAMS)
        exit(8);
    stream[streams].device = r->device;
    stream[streams].epoch = r->epoch;
    return streams++;
}

static uint64_t end_of(const ss_record *r)
{
    return r->seq + (r->type == SS_TYPE_GAP ? ss_attr_uint(&r->attrs, SS_ATTR_COUNT, 1) : 1);
}

/* What an earlier one has got. */
static void recall(void)
{
    ss_journal_cursor *c;
    const ss_record *r;
    int rc;
    must(ss_journal_cursor_open(&c, j, 0, &e), "journal");
    while ((rc = ss_journal_cursor_next(c, &r, &e)) > 0)
        stream[find(r)].next = end_of(r);
    must(rc, "journal");
    ss_journal_cursor_close(&c);
}

static int send_record(ss_writer *w, const ss_record *r)
{
    return ss_writer_put(w, r, &e);
}

static int take(ss_writer *w, const ss_record *r)
{
    if (r->type == SS_TYPE_KEEPALIVE) {
        ss_record resume = {.type = SS_TYPE_RESUME, .device = r->device, .epoch = r->epoch};
        int i = 0;
        while (i < streams && !(stream[i].device == r->device && stream[i].epoch == r->epoch))
            i++;
        if (i < streams && stream[i].next)
            resume.seq = stream[i].next - 1;
        else
            ss_attr_set_uint(&resume.attrs, SS_ATTR_COUNT, 0);
        return send_record(w, &resume);
    }
    if (r->type != SS_TYPE_DATA && r->type != SS_TYPE_GAP)
        return SS_OK;
    int i = find(r);
    if (stream[i].next && r->seq != stream[i].next) {
        fprintf(stderr, "peer: device %u: record %" PRIu64 ", expected %" PRIu64 "\n", r->device, r->seq,
                stream[i].next);
        exit(9);
    }
    stream[i].next = end_of(r);
    stream[i].dirty = true;
    must(ss_journal_append(j, r, &e), "journal");
    if (serve_ms)
        ss_clock_sleep_until(ss_clock_mono_ns() + (int64_t)serve_ms * 1000000);
    ss_record result = {.type = SS_TYPE_RESULT, .device = r->device, .epoch = r->epoch, .seq = r->seq};
    ss_attr_set_f32(&result.attrs, SS_ATTR_U, 0.5f);
    int rc = send_record(w, &result);
    if (rc || !gradient)
        return rc;
    ss_record g = {.type = SS_TYPE_GRADIENT,
                   .dtype = SS_DTYPE_U8,
                   .rank = 1,
                   .device = r->device,
                   .epoch = r->epoch,
                   .seq = r->seq,
                   .size = (size_t)gradient,
                   .data = zeros};
    g.dim[0] = (uint32_t)gradient;
    return send_record(w, &g);
}

static int acknowledge(ss_writer *w)
{
    int rc = SS_OK;
    must(ss_journal_sync(j, &e), "journal");
    for (int i = 0; i < streams && !rc; i++) {
        if (!stream[i].dirty)
            continue;
        stream[i].dirty = false;
        ss_record ack = {.type = SS_TYPE_ACK,
                         .device = stream[i].device,
                         .epoch = stream[i].epoch,
                         .seq = stream[i].next - 1};
        if (serve_ms)
            ss_attr_set_uint(&ack.attrs, SS_ATTR_T_SERVE, (uint64_t)serve_ms * 1000);
        if (acknowledges)
            rc = send_record(w, &ack);
    }
    return rc;
}

/* One connection, to its end: 0 when it ended well. */
static int serve(int in, int out)
{
    static const ss_header mine = {.kind = "return"};
    ss_reader *r;
    ss_writer *w;
    const ss_header *h;
    const ss_record *rec;
    fcntl(in, F_SETFL, O_NONBLOCK);
    must(ss_reader_open(&r, in, NULL, &e), "reader");
    must(ss_writer_open(&w, out, &mine, &e), "writer");
    ss_reader_set_nonblocking(r);
    int rc = ss_writer_flush(w, &e);
    bool begun = false;
    while (!rc) {
        struct pollfd p = {in, POLLIN, 0};
        int n = poll(&p, 1, keepalive);
        if (n == 0)
            rc = send_record(w, &(ss_record){.type = SS_TYPE_KEEPALIVE});
        if (n > 0 && !begun) {
            rc = ss_reader_header(r, &h, &e);
            begun = rc == SS_OK;
            if (begun)
                must(ss_journal_header(j, h, &e), "journal");
        }
        for (int k = 1; !rc && n > 0 && (rc = ss_reader_next(r, &rec, &e)) > 0; k++) {
            rc = take(w, rec);
            if (!rc && serve_ms && k % GROUP == 0)
                rc = acknowledge(w);
            if (!rc && serve_ms && k % GROUP == 0)
                rc = ss_writer_flush(w, &e);
        }
        bool ended = !rc && ss_reader_ended(r);
        rc = rc == SS_EAGAIN ? SS_OK : rc;
        if (!rc)
            rc = acknowledge(w);
        if (!rc)
            rc = ss_writer_flush(w, &e);
        if (ended) {
            if (!rc)
                rc = ss_writer_end(w, &e);
            break;
        }
    }
    if (rc)
        fprintf(stderr, "peer: connection ended: %s\n", e.text);
    ss_reader_close(&r);
    ss_writer_close(&w);
    return rc;
}

static volatile int stop;

static void on_signal(int number)
{
    stop = number;
}

static void listen_on(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 8)) {
        perror("peer");
        exit(3);
    }
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    while (!stop) {
        int c = accept(fd, NULL, NULL);
        if (c < 0)
            continue;
        serve(c, c);
        close(c);
    }
}

int main(int argc, char **argv)
{
    int c;
    while ((c = getopt(argc, argv, "g:k:ns:")) != -1) {
        if (c == 'g')
            gradient = atoi(optarg);
        else if (c == 'k')
            keepalive = atoi(optarg);
        else if (c == 'n')
            acknowledges = false;
        else if (c == 's')
            serve_ms = atoi(optarg);
        else
            return 2;
    }
    if (optind >= argc || gradient < 0 || gradient > LARGEST)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    int rc = ss_journal_open(&j, argv[optind], NULL, &e);
    must(rc, "journal");
    if (rc)
        fprintf(stderr, "peer: %s\n", e.text);
    recall();
    rc = SS_OK;
    if (argv[optind + 1])
        listen_on(argv[optind + 1]);
    else
        rc = serve(0, 1);
    must(ss_journal_close(&j, &e), "journal");
    return rc ? 4 : 0;
}
