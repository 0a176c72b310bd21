#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "split/pace.h"

static const char *trace_name, *format = "auto";
static double rtt = 50, start, cut_after;
static int seconds = 600;
static uint64_t queue = 256 << 10;
static bool print;

static const tool_option options[] = {
    {"trace", 0, OPT_STRING, &trace_name, 0, 0, "TRACE", "file, or 3g, lte, lte-driving or wifi, and :SEED",
     NULL},
    {"format", 0, OPT_CHOICE, &format, 0, 0, "auto|csv|mahimahi", "of the file", NULL},
    {"rtt", 0, OPT_REAL, &rtt, 0, 1e6, "MS", "round trip where the file says nothing of it", NULL},
    {"start", 0, OPT_REAL, &start, 0, SS_TRACE_MAX_S, "S", "place in the trace to begin at", NULL},
    {"seconds", 0, OPT_INT, &seconds, 1, SS_TRACE_MAX_S, "S", "length of a trace that is made", NULL},
    {"queue", 0, OPT_SIZE, &queue, 1, 1 << 30, "SIZE", "bytes inside at most; then no more are read", NULL},
    {"cut-after", 0, OPT_REAL, &cut_after, 0, 1e9, "S", "the link breaks then, with status 3; 0 = never",
     NULL},
    {"print", 0, OPT_FLAG, &print, 0, 0, NULL, "write the trace as CSV, and pass nothing", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-netsim", "", "Pass bytes at the pace of a trace of a link.", 0,
                                     options};

static struct net {
    ss_trace *trace;
    ss_pace pace;
    char *ring; /* [queue]; byte i of the stream is at i mod queue */
    int64_t start_ns;
    bool ended; /* no more comes in */
} s;

/* PRESET, PRESET:SEED or a file. */
static int open_trace(ss_err *e)
{
    const char *colon = strchr(trace_name, ':');
    size_t n = colon ? (size_t)(colon - trace_name) : strlen(trace_name);
    int preset = ss_trace_preset_find(trace_name, n), seed = 1;
    if (preset >= 0 && colon) {
        int rc = tool_parse_int(colon + 1, "seed of --trace", 0, INT_MAX, &seed, e);
        if (rc)
            return rc;
    }
    if (preset >= 0)
        return ss_trace_make(&s.trace, preset, (uint64_t)seed, (size_t)seconds, e);
    ss_trace_format f = !strcmp(format, "csv")        ? SS_TRACE_CSV
                        : !strcmp(format, "mahimahi") ? SS_TRACE_MAHIMAHI
                                                      : SS_TRACE_AUTO;
    return ss_trace_open(&s.trace, trace_name, f, rtt, e);
}

static double now_s(void)
{
    return (double)(ss_clock_mono_ns() - s.start_ns) * 1e-9;
}

static uint64_t inside(void)
{
    return s.pace.in - s.pace.out;
}

/* Where byte `at` is in the ring, and how many of `n` are there in one piece. */
static char *piece(uint64_t at, uint64_t n, size_t *whole)
{
    uint64_t from = at % queue;
    *whole = (size_t)(n < queue - from ? n : queue - from);
    return s.ring + from;
}

static int take_in(ss_err *e)
{
    size_t n;
    char *to = piece(s.pace.in, queue - inside(), &n);
    ssize_t got = read(0, to, n);
    if (got < 0 && errno != EINTR && errno != EAGAIN)
        return ss_err_errno(e, "cannot read standard input");
    s.ended = got == 0;
    if (got > 0)
        ss_pace_take(&s.pace, now_s(), (uint64_t)got);
    return SS_OK;
}

/* At most what a pipe that is ready takes without waiting. */
static int give_out(uint64_t due, ss_err *e)
{
    size_t n;
    char *from = piece(s.pace.out, due < PIPE_BUF ? due : PIPE_BUF, &n);
    ssize_t gone = write(1, from, n);
    if (gone < 0 && errno != EINTR && errno != EAGAIN)
        return ss_err_errno(e, "cannot write to standard output");
    if (gone > 0)
        ss_pace_give(&s.pace, (uint64_t)gone);
    return SS_OK;
}

static struct timespec until(double at)
{
    double wait = fmin(fmax(at - now_s(), 0), 3600);
    return (struct timespec){(time_t)wait, (long)((wait - floor(wait)) * 1e9)};
}

/* One turn: wait for bytes, room, the next moment or the cut, and do what can be done. */
static int turn(ss_err *e)
{
    uint64_t due = ss_pace_due(&s.pace, now_s());
    bool reads = !s.ended && inside() < queue;
    double next = ss_pace_next(&s.pace);
    if (cut_after > 0)
        next = fmin(next, cut_after);
    struct timespec wait = until(next);
    struct pollfd p[2] = {{reads ? 0 : -1, POLLIN, 0}, {1, due ? POLLOUT : 0, 0}};
    if (ppoll(p, 2, isinf(next) ? NULL : &wait, NULL) < 0)
        return errno == EINTR ? SS_OK : ss_err_errno(e, "cannot wait");
    if (cut_after > 0 && now_s() >= cut_after)
        return ss_err_set(e, SS_EIO, "the link was cut after %g s: %llu bytes of %llu were delivered",
                          cut_after, (unsigned long long)s.pace.out, (unsigned long long)s.pace.in);
    int rc = p[0].revents ? take_in(e) : SS_OK;
    if (!rc && due && p[1].revents)
        rc = give_out(due, e);
    else if (!rc && p[1].revents & POLLERR)
        raise(SIGPIPE); /* the reader has gone, and nothing is there that a write would tell it by */
    return rc;
}

static int run(ss_err *e)
{
    int rc = SS_OK;
    s.ring = ss_alloc((size_t)queue, 1);
    if (!s.ring)
        return ss_err_set(e, SS_ENOMEM, "no memory for a queue of %llu bytes", (unsigned long long)queue);
    s.start_ns = ss_clock_mono_ns();
    ss_pace_init(&s.pace, s.trace, start);
    while (!rc && !(s.ended && !inside())) {
        s.ended = s.ended || tool_stop;
        rc = turn(e);
    }
    tool_info("%llu bytes in %.3f s", (unsigned long long)s.pace.out, now_s());
    return rc;
}

static int print_trace(ss_err *e)
{
    char *text = ss_trace_print(s.trace);
    if (!text)
        return ss_err_set(e, SS_ENOMEM, "no memory for the text of the trace");
    fputs(text, stdout);
    ss_free(text);
    return SS_OK;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    int first = tool_start(&program, argc, argv);
    if (argc > first)
        tool_usage("no operand is taken, found '%s'", argv[first]);
    if (!trace_name)
        tool_usage("--trace is needed");
    int rc = open_trace(&e);
    if (!rc && ss_trace_bits(s.trace, ss_trace_seconds(s.trace)) <= 0 && !print)
        rc = ss_err_set(&e, SS_EUNFIT, "'%s' is one outage: nothing would ever pass", trace_name);
    if (!rc)
        rc = print ? print_trace(&e) : run(&e);
    ss_free(s.ring);
    ss_trace_free(s.trace);
    return tool_finish(rc, &e);
}
