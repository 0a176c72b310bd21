/* ss-top: how devices and servers are doing, from their state directories. */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "common.h"
#include "screen.h"
#include "sys/state.h"

static double opt_interval = 1, opt_stale = 30;
static uint64_t opt_spool_limit = 16 << 20;
static bool opt_once, opt_check, opt_alive;

static const tool_option options[] = {
    {"interval", 0, OPT_REAL, &opt_interval, 0.05, 3600, "SECONDS", "from one look to the next", NULL},
    {"once", 0, OPT_FLAG, &opt_once, 0, 0, NULL, "look once; exit status 1 when something is wrong", NULL},
    {"check", 0, OPT_FLAG, &opt_check, 0, 0, NULL, "as --once, and print only what is wrong", NULL},
    {"alive", 0, OPT_FLAG, &opt_alive, 0, 0, NULL,
     "as --check, and only what does not move is wrong: for a watchdog", NULL},
    {"stale", 0, OPT_REAL, &opt_stale, 0.1, 1e7, "SECONDS", "what has not moved for so long is stale", NULL},
    {"spool-limit", 0, OPT_SIZE, &opt_spool_limit, 0, 0, "SIZE", "a larger spool is a problem; 0: none is",
     NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-top",
    .operands = "[DIR...]",
    .purpose = "Show how devices and servers are doing, or whether all is well.",
    .takes = TAKES_JSON,
    .options = options,
};

/* ---- what is read ---- */

enum quantity {
    LINK,
    LINK_WINDOWS,
    WINDOWS,
    BYTES,
    CUT,
    SPLIT,
    CODEC,
    QUEUE,
    SPOOL,
    DROPPED,
    LOSS,
    LOSS_SERVER,
    U,
    U_EDGE,
    U_SERVER,
    GENERATION,
    VERSION,
    RESULTS,
    CONNECTED,
    SINCE,
    CPU,
    PRESSURE,
    BANDWIDTH,
    RTT,
    ENERGY,
    LATENCY,
    STAGE0, /* the first of the stages */
    NQ = STAGE0 + 8
};
static const char *const name_of[NQ] = {
    "link",
    "link.windows",
    "windows",
    "bytes",
    "cut",
    "split",
    "codec",
    "queue",
    "spool",
    "dropped",
    "loss",
    "loss.server",
    "u",
    "uncertainty.edge",
    "uncertainty.server",
    "generation",
    "version",
    "apply.results",
    "connected",
    "since",
    "cpu",
    "pressure",
    "bandwidth",
    "rtt",
    "energy",
    "latency",
    "latency.capture",
    "latency.featurize",
    "latency.policy",
    "latency.encode",
    "latency.train",
    "latency.link",
    "latency.serve",
    "latency.finish",
};

/* Those that are not written anew while all is well. */
static bool rests(int q)
{
    return q == LINK || q == CUT || q == SPLIT || q == CODEC || q == CONNECTED || q == SINCE || q == VERSION;
}

typedef struct value {
    bool there;
    double number; /* NaN: it is a word */
    char text[SS_STATE_MAX + 1];
    int64_t written_ns, age_ns, base_ns; /* real time; since written; of that before we saw it first */
} value;

/* A counter as it was written, the latest eight times. */
enum { POINTS = 8 };
typedef struct counter {
    int n;
    double count[POINTS];
    int64_t when_ns[POINTS];
} counter;

enum { PROBLEMS = 8, TEXT = 128 };

typedef struct device {
    char *path, *name;
    bool child, found; /* a device.N of a folder; seen at this look */
    ss_state *state;
    dev_t dev;
    ino_t ino;
    value v[NQ];
    counter windows, bytes;
    char problem[PROBLEMS][TEXT];
    int problems;
} device;

static struct {
    device **of;
    size_t n;
    char **dirs;
    int ndirs;
} all;

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static bool there(const device *d, int q)
{
    return d->v[q].there;
}

static bool stale(const device *d, int q)
{
    return there(d, q) && !rests(q) && seconds(d->v[q].age_ns) > opt_stale;
}

/* Ages are by our own clock from the second look on; before that by the time the file bears. */
static int read_value(device *d, int q, ss_err *e)
{
    ss_state_value got;
    value *v = &d->v[q];
    int flags = ss_state_get(d->state, name_of[q], 0, &got, e);
    bool before = v->there;
    if (flags < 0)
        return flags;
    v->there = flags & SS_STATE_THERE;
    v->number = got.number;
    memcpy(v->text, got.text, sizeof v->text);
    if (!v->there || flags & SS_STATE_SET) {
        v->age_ns = v->base_ns = 0;
        return SS_OK;
    }
    if (!before) {
        v->base_ns = ss_clock_real_ns() - got.written_ns;
        v->base_ns = v->base_ns > 0 ? v->base_ns : 0;
    } else if (v->written_ns != got.written_ns) {
        v->base_ns = 0;
    }
    v->written_ns = got.written_ns;
    v->age_ns = v->base_ns + got.age_ns;
    return SS_OK;
}

static void count(counter *c, const value *v)
{
    if (!v->there || isnan(v->number)) {
        c->n = 0;
        return;
    }
    int last = c->n - 1;
    if (c->n && v->written_ns == c->when_ns[last])
        return;
    if (c->n && (v->number < c->count[last] || v->written_ns < c->when_ns[last]))
        c->n = 0; /* another start, another time */
    if (c->n == POINTS) {
        memmove(c->count, c->count + 1, sizeof c->count - sizeof *c->count);
        memmove(c->when_ns, c->when_ns + 1, sizeof c->when_ns - sizeof *c->when_ns);
        c->n--;
    }
    c->count[c->n] = v->number;
    c->when_ns[c->n++] = v->written_ns;
}

/* Per second, from the first point to the last one, or to now when that is some seconds ago; NaN: not known.
 */
static double rate(const counter *c, const value *v)
{
    if (!v->there || c->n < 1)
        return NAN;
    if (seconds(v->age_ns) > opt_stale)
        return 0;
    if (c->n < 2)
        return NAN;
    double t = seconds(c->when_ns[c->n - 1] - c->when_ns[0]);
    if (seconds(v->age_ns) > 3)
        t += seconds(v->age_ns);
    return (c->count[c->n - 1] - c->count[0]) / t;
}

/* Windows that passed: what the link took in, or else what was learnt from. */
static int windows_of(const device *d)
{
    return there(d, LINK_WINDOWS) ? LINK_WINDOWS : WINDOWS;
}

/* ---- what is wrong ---- */

static const char *span(char *to, size_t size, double s)
{
    if (s < 120)
        snprintf(to, size, "%.0f s", s);
    else if (s < 7200)
        snprintf(to, size, "%.0f min", s / 60);
    else if (s < 172800)
        snprintf(to, size, "%.0f h", s / 3600);
    else
        snprintf(to, size, "%.0f d", s / 86400);
    return to;
}

static void problem(device *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(device *d, const char *fmt, ...)
{
    va_list ap;
    if (d->problems == PROBLEMS)
        return;
    va_start(ap, fmt);
    vsnprintf(d->problem[d->problems++], TEXT, fmt, ap);
    va_end(ap);
}

/* Seconds since the newest of what moves with the windows; -1: there is none of it. */
static double still(const device *d)
{
    static const int moves[] = {LINK_WINDOWS, WINDOWS, RESULTS, U, U_EDGE, U_SERVER};
    double least = -1;
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
        if (there(d, moves[i]) && (least < 0 || seconds(d->v[moves[i]].age_ns) < least))
            least = seconds(d->v[moves[i]].age_ns);
    return least;
}

static void judge_link(device *d)
{
    char t[32];
    if (!there(d, LINK))
        return;
    if (stale(d, QUEUE)) /* ss-link writes it every second */
        problem(d, "the link is dead: it has said nothing for %s",
                span(t, sizeof t, seconds(d->v[QUEUE].age_ns)));
    else if (strcmp(d->v[LINK].text, "up") != 0)
        problem(d, "link down for %s", span(t, sizeof t, seconds(d->v[LINK].age_ns)));
    else if (stale(d, RESULTS) && still(d) <= opt_stale)
        problem(d, "no results for %s", span(t, sizeof t, seconds(d->v[RESULTS].age_ns)));
}

static void judge(device *d)
{
    char t[32];
    double quiet = still(d);
    bool gone = there(d, CONNECTED) && d->v[CONNECTED].number == 0;
    if (quiet > opt_stale && !gone)
        problem(d, "nothing new for %s", span(t, sizeof t, quiet));
    else if (quiet < 0 && !there(d, CONNECTED))
        problem(d, "no window yet");
    if (opt_alive)
        return;
    judge_link(d);
    if (gone)
        problem(d, "not connected for %s",
                span(t, sizeof t,
                     there(d, SINCE) ? fmax(0, seconds(ss_clock_real_ns()) - d->v[SINCE].number)
                                     : seconds(d->v[CONNECTED].age_ns)));
    if (there(d, DROPPED) && d->v[DROPPED].number > 0)
        problem(d, "%.0f records dropped", d->v[DROPPED].number);
    if ((there(d, LOSS) && isnan(d->v[LOSS].number)) ||
        (there(d, LOSS_SERVER) && isnan(d->v[LOSS_SERVER].number)))
        problem(d, "the loss is not finite");
    if (opt_spool_limit && there(d, SPOOL) && d->v[SPOOL].number > (double)opt_spool_limit)
        problem(d, "%.0f bytes in the spool, more than %" PRIu64, d->v[SPOOL].number, opt_spool_limit);
}

/* ---- a look ---- */

static void forget(device *d)
{
    ss_state_close(&d->state);
    ss_free(d->path);
    ss_free(d->name);
    ss_free(d);
}

static char *copy(const char *text)
{
    char *c = ss_alloc(1, strlen(text) + 1);
    return c ? strcpy(c, text) : NULL;
}

static int find(const char *path, const char *name, bool child, device **out, ss_err *e)
{
    for (size_t i = 0; i < all.n; i++)
        if (!strcmp(all.of[i]->path, path)) {
            *out = all.of[i];
            return SS_OK;
        }
    device **more = ss_realloc(all.of, all.n + 1, sizeof *more);
    if (more)
        all.of = more;
    device *d = more ? ss_zalloc(1, sizeof *d) : NULL;
    if (d) {
        d->path = copy(path);
        d->name = copy(name);
        d->child = child;
    }
    if (!d || !d->path || !d->name) {
        if (d)
            forget(d);
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    }
    for (char *p = d->name; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    *out = all.of[all.n++] = d;
    return SS_OK;
}

/* The folder may have been made anew. */
static int open_state(device *d, ss_err *e)
{
    struct stat st;
    if (d->state && !stat(d->path, &st) && st.st_dev == d->dev && st.st_ino == d->ino)
        return SS_OK;
    ss_state_close(&d->state);
    memset(d->v, 0, sizeof d->v);
    d->windows.n = d->bytes.n = 0;
    int rc = ss_state_look(&d->state, d->path, e);
    if (!rc && !stat(d->path, &st)) {
        d->dev = st.st_dev;
        d->ino = st.st_ino;
    }
    return rc;
}

/* 1: something is in it; 0: nothing. */
static int look_at(device *d, ss_err *e)
{
    bool any = false;
    d->found = true;
    d->problems = 0;
    int rc = open_state(d, e);
    if (rc == SS_EIO) {
        problem(d, "%s", e->text);
        return 1;
    }
    for (int q = 0; !rc && q < NQ; q++) {
        rc = read_value(d, q, e);
        any = any || d->v[q].there;
    }
    if (rc)
        return rc;
    count(&d->windows, &d->v[windows_of(d)]);
    count(&d->bytes, &d->v[BYTES]);
    judge(d);
    return any;
}

static int only_devices(const struct dirent *f)
{
    return !strncmp(f->d_name, "device.", 7);
}

static int look_in(const char *dir, ss_err *e)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, only_devices, versionsort), devices = 0, rc = SS_OK;
    char path[4096], name[512];
    device *d;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s%s", all.ndirs > 1 ? dir : "", all.ndirs > 1 ? "/" : "",
                 list[i]->d_name);
        if (!rc && snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name) < (int)sizeof path &&
            !(rc = find(path, name, true, &d, e))) {
            rc = look_at(d, e);
            devices += rc > 0;
            rc = rc > 0 ? SS_OK : rc;
        }
        free(list[i]);
    }
    free(list);
    rc = rc ? rc : find(dir, dir, false, &d, e);
    rc = rc ? rc : look_at(d, e);
    if (!rc && devices) /* a folder of others only */
        d->found = false;
    return rc < 0 ? rc : SS_OK;
}

/* Those with a problem first. */
static int by_trouble(const void *x, const void *y)
{
    const device *a = *(device *const *)x, *b = *(device *const *)y;
    return !a->problems != !b->problems ? (b->problems != 0) - (a->problems != 0)
                                        : strverscmp(a->path, b->path);
}

static int look(ss_err *e)
{
    int rc = SS_OK;
    size_t kept = 0;
    for (size_t i = 0; i < all.n; i++)
        all.of[i]->found = false;
    for (int i = 0; !rc && i < all.ndirs; i++)
        rc = look_in(all.dirs[i], e);
    for (size_t i = 0; i < all.n; i++)
        if (all.of[i]->found)
            all.of[kept++] = all.of[i];
        else
            forget(all.of[i]);
    all.n = kept;
    if (all.n)
        qsort(all.of, all.n, sizeof *all.of, by_trouble);
    return rc;
}

static bool well(void)
{
    for (size_t i = 0; i < all.n; i++)
        if (all.of[i]->problems)
            return false;
    return true;
}

static bool rates_known(void)
{
    for (size_t i = 0; i < all.n; i++)
        if (isnan(rate(&all.of[i]->windows, &all.of[i]->v[windows_of(all.of[i])])))
            return false;
    return true;
}

/* ---- text ---- */

/* A number in few characters. */
static const char *brief(char *to, size_t size, double v, int digits)
{
    static const char unit[] = " kMGT";
    int u = 0;
    if (isnan(v)) {
        snprintf(to, size, "-");
        return to;
    }
    while (fabs(v) >= 9999.5 || (u && fabs(v) >= 999.5)) {
        v /= 1000;
        if (!unit[++u + 1])
            break;
    }
    if (u)
        snprintf(to, size, "%.*f%c", fabs(v) < 99.95, v, unit[u]);
    else
        snprintf(to, size, "%.*f", fabs(v) < 1000 ? digits : 0, v);
    return to;
}

/* A cell of the table: the first of these quantities that is there, a question mark behind what is stale. */
static const char *cell(char *to, size_t size, const device *d, const int *q, int n, int digits)
{
    snprintf(to, size, "-");
    for (int i = 0; i < n; i++)
        if (there(d, q[i])) {
            brief(to, size - 1, d->v[q[i]].number, digits);
            if (stale(d, q[i]))
                strcat(to, "?");
            break;
        }
    return to;
}

#define CELL(d, digits, ...)                                                                                 \
    cell((char[16]){0}, 16, d, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int), \
         digits)

static void cut_text(char *to, size_t size, const device *d)
{
    const char *cut = there(d, CUT) ? d->v[CUT].text : there(d, SPLIT) ? d->v[SPLIT].text : "-";
    snprintf(to, size, "%.8s%s%.4s", !strcmp(cut, "embedding") ? "emb" : cut, there(d, CODEC) ? "/" : "",
             there(d, CODEC) ? d->v[CODEC].text : "");
}

static const char row_form[] = "%-*s %5s %8.8s %6s %6s %6s %6s %5s %6s %5s %5s";

static void row(char *to, size_t size, int columns, const device *d)
{
    int wide = columns - 80 + 12, length = (int)strlen(d->name);
    char w[16], b[16], cut[16];
    wide = wide < 12 ? 12 : wide;
    brief(w, sizeof w, rate(&d->windows, &d->v[windows_of(d)]), 2);
    brief(b, sizeof b, rate(&d->bytes, &d->v[BYTES]), 0);
    cut_text(cut, sizeof cut, d);
    /* Of a long name the end tells more. */
    snprintf(to, size, row_form, wide, d->name + (length > wide ? length - wide : 0), w, cut, b,
             CELL(d, 0, LATENCY), CELL(d, 0, QUEUE), CELL(d, 0, SPOOL), CELL(d, 0, DROPPED),
             CELL(d, 3, LOSS, LOSS_SERVER), CELL(d, 2, U, U_EDGE, U_SERVER), CELL(d, 0, GENERATION));
}

static size_t add(char *to, size_t size, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static size_t add(char *to, size_t size, size_t at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = at < size ? vsnprintf(to + at, size - at, fmt, ap) : 0;
    va_end(ap);
    return at + (size_t)(n > 0 ? n : 0);
}

/* Where the time goes, and what the machine and the link are like; false: nothing is known of it. */
static bool details(char *to, size_t size, const device *d, bool stages)
{
    size_t n = add(to, size, 0, "%s", stages ? "    ms:" : "   "), empty = n;
    for (int q = STAGE0; stages && q < NQ; q++)
        if (there(d, q))
            n = add(to, size, n, " %s %s", strchr(name_of[q], '.') + 1, CELL(d, 1, q));
    if (stages)
        return n > empty;
    if (there(d, CPU))
        n = add(to, size, n, " cpu %.0f%%", 100 * d->v[CPU].number);
    if (there(d, PRESSURE))
        n = add(to, size, n, " pressure %.0f%%", 100 * d->v[PRESSURE].number);
    if (there(d, BANDWIDTH))
        n = add(to, size, n, " bandwidth %sbit/s", CELL(d, 0, BANDWIDTH));
    if (there(d, RTT))
        n = add(to, size, n, " rtt %s ms", CELL(d, 0, RTT));
    if (there(d, ENERGY))
        n = add(to, size, n, " energy %s mJ", CELL(d, 1, ENERGY));
    if (there(d, VERSION))
        n = add(to, size, n, " version %s", CELL(d, 0, VERSION));
    if (there(d, U_SERVER) && there(d, U_EDGE))
        n = add(to, size, n, " u.server %s", CELL(d, 2, U_SERVER));
    return n > empty;
}

typedef void (*put_line)(enum screen_style style, const char *text);

/* With all lines of a device, or only the one of the table and what is wrong. Returns their number. */
static int lines_of(const device *d, int columns, bool full, put_line put)
{
    char line[512];
    int n = 1 + d->problems;
    row(line, sizeof line, columns, d);
    if (put)
        put(d->problems ? SCREEN_BAD : SCREEN_PLAIN, line);
    for (int i = 0; put && i < d->problems; i++) {
        snprintf(line, sizeof line, "  ! %s", d->problem[i]);
        put(SCREEN_BAD, line);
    }
    for (int i = 0; full && i < 2; i++)
        if (details(line, sizeof line, d, !i)) {
            n++;
            if (put)
                put(SCREEN_DIM, line);
        }
    return n;
}

static bool sends(const device *d)
{
    return there(d, LINK) || there(d, CONNECTED);
}

static void head(char *to, size_t size)
{
    char when[16] = "", w[16], b[16];
    double windows = 0, bytes = 0;
    size_t bad = 0, senders = 0;
    time_t now = time(NULL);
    struct tm tm;
    if (localtime_r(&now, &tm))
        strftime(when, sizeof when, "%H:%M:%S", &tm);
    for (size_t i = 0; i < all.n; i++)
        senders += sends(all.of[i]);
    for (size_t i = 0; i < all.n; i++) {
        const device *d = all.of[i];
        bad += d->problems > 0;
        if (senders && !sends(d)) /* a server's windows are those of devices */
            continue;
        double wr = rate(&d->windows, &d->v[windows_of(d)]), br = rate(&d->bytes, &d->v[BYTES]);
        windows += isnan(wr) ? 0 : wr;
        bytes += isnan(br) ? 0 : br;
    }
    size_t n = add(to, size, 0, "%s  ", when);
    if (bad)
        n = add(to, size, n, "%zu of %zu with a problem", bad, all.n);
    else
        n = add(to, size, n, "%zu state%s, all is well", all.n, all.n == 1 ? "" : "s");
    add(to, size, n, "  %s windows/s  %sB/s", brief(w, sizeof w, windows, 2), brief(b, sizeof b, bytes, 0));
}

/* rows 0: as many as it takes. */
static void picture(int columns, int rows, put_line put)
{
    char line[512];
    int need = 2, used = 2, wide;
    columns = columns > 100 ? 100 : columns;
    wide = columns < 80 ? 12 : columns - 68;
    head(line, sizeof line);
    put(SCREEN_PLAIN, line);
    snprintf(line, sizeof line, row_form, wide, "state", "win/s", "cut", "B/s", "ms", "queue", "spool",
             "lost", "loss", "u", "gen");
    put(SCREEN_HEAD, line);
    for (size_t i = 0; i < all.n; i++)
        need += lines_of(all.of[i], columns, true, NULL);
    bool full = !rows || need <= rows;
    for (size_t i = 0; i < all.n; i++) {
        used += lines_of(all.of[i], columns, full, NULL);
        /* The last row is for the rest, unless there is none. */
        if (rows && used > rows - (i + 1 < all.n)) {
            snprintf(line, sizeof line, "... and %zu more", all.n - i);
            put(SCREEN_DIM, line);
            return;
        }
        lines_of(all.of[i], columns, full, put);
    }
}

static void plain_line(enum screen_style style, const char *text)
{
    (void)style;
    puts(text);
}

/* ---- JSON Lines ---- */

static void json_text(const char *s)
{
    putchar('"');
    for (; *s; s++) /* printable ASCII: names and values are */
        printf(*s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    putchar('"');
}

static void json_number(const char *key, double v)
{
    printf(",\"%s\":", key);
    if (isfinite(v))
        printf("%.9g", v);
    else
        printf("null");
}

static void json_line(const device *d)
{
    const char *comma = "";
    printf("{\"state\":");
    json_text(d->name);
    printf(",\"well\":%s,\"problems\":[", d->problems ? "false" : "true");
    for (int i = 0; i < d->problems; i++, comma = ",") {
        printf("%s", comma);
        json_text(d->problem[i]);
    }
    printf("]");
    json_number("windows_per_second", rate(&d->windows, &d->v[windows_of(d)]));
    json_number("bytes_per_second", rate(&d->bytes, &d->v[BYTES]));
    for (int q = 0; q < NQ; q++) {
        const value *v = &d->v[q];
        if (v->there && (q == LINK || q == CUT || q == SPLIT || q == CODEC)) {
            printf(",\"%s\":", name_of[q]);
            json_text(v->text);
        } else if (v->there) {
            json_number(name_of[q], v->number);
        }
    }
    printf(",\"stale\":[");
    comma = "";
    for (int q = 0; q < NQ; q++)
        if (stale(d, q)) {
            printf("%s\"%s\"", comma, name_of[q]);
            comma = ",";
        }
    puts("]}");
}

static void print_problems(void)
{
    for (size_t i = 0; i < all.n; i++)
        for (int k = 0; k < all.of[i]->problems; k++)
            printf("%s: %s\n", all.of[i]->name, all.of[i]->problem[k]);
}

static void print_all(void)
{
    if (!tool_set.json) {
        picture(80, 0, plain_line);
    } else {
        for (size_t i = 0; i < all.n; i++)
            json_line(all.of[i]);
    }
}

/* ---- main ---- */

static int once(ss_err *e)
{
    bool terse = opt_check || opt_alive;
    int rc = look(e);
    /* A counter is written once in a second or a little more. */
    for (int i = 0; !rc && !terse && !tool_stop && i < 4 && !rates_known(); i++) {
        ss_clock_sleep_until(ss_clock_mono_ns() + (int64_t)(opt_interval * 5e8));
        rc = look(e);
    }
    if (rc)
        return rc;
    if (terse && !tool_set.json)
        print_problems();
    else
        print_all();
    return well() ? SS_OK : ss_err_set(e, SS_EDIFFER, "%s", "");
}

static int live(ss_err *e)
{
    bool screen = !tool_set.json && screen_open();
    int64_t next = ss_clock_mono_ns();
    int rc = look(e), columns, rows;
    while (!rc && !tool_stop) {
        if (screen) {
            screen_begin();
            screen_size(&columns, &rows);
            picture(columns, rows, screen_line);
            screen_end();
        } else {
            print_all();
            if (!tool_set.json)
                putchar('\n');
            if (fflush(stdout))
                break;
        }
        int64_t now = ss_clock_mono_ns();
        next += (int64_t)(opt_interval * 1e9);
        next = next > now ? next : now;
        if (screen) {
            int key = screen_wait((int)((next - now) / 1000000));
            if (key == 'q' || key == 'Q')
                break;
            if (ss_clock_mono_ns() < next - 1000000) { /* a key, a new size: drawn anew, at its time again */
                next -= (int64_t)(opt_interval * 1e9);
            }
        } else {
            ss_clock_sleep_until(next);
        }
        if (!tool_stop)
            rc = look(e);
    }
    if (screen)
        screen_close();
    return rc;
}

/* A descriptor for each state directory. */
static void raise_files(void)
{
    struct rlimit r;
    if (!getrlimit(RLIMIT_NOFILE, &r)) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    int first = tool_start(&program, argc, argv);
    static char *given[1];
    all.dirs = argv + first;
    all.ndirs = argc - first;
    if (!all.ndirs && (given[0] = getenv("SS_STATE")) && *given[0]) {
        all.dirs = given;
        all.ndirs = 1;
    }
    if (!all.ndirs)
        tool_usage("no state directory: name one, or set SS_STATE");
    raise_files();
    int rc = opt_once || opt_check || opt_alive ? once(&e) : live(&e);
    for (size_t i = 0; i < all.n; i++)
        forget(all.of[i]);
    ss_free(all.of);
    return tool_finish(rc, &e);
}
