#include "split/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "io/csv.h"
#include "io/text.h"

#define MAX_TEXT ((size_t)64 << 20)

/* The chain behind a made trace, one a row. */
typedef struct hidden {
    float jitter, rtt; /* standard normal, correlated */
    uint8_t level, out, load;
} hidden;

struct ss_trace {
    size_t n;
    double *start; /* [n + 1], seconds, from 0; start[n] is the end */
    float *bandwidth, *rtt, *cpu;
    double *bits, *work; /* [n + 1], sums from 0 to start[i] */
    bool load;
    int preset; /* -1: read */
    hidden *state;
    float *room;
};

void ss_trace_free(ss_trace *t)
{
    if (!t)
        return;
    ss_free(t->start);
    ss_free(t->bits);
    ss_free(t->work);
    ss_free(t->room);
    ss_free(t->state);
    ss_free(t);
}

static int make(ss_trace **out, size_t n, bool made, ss_err *e)
{
    ss_trace *t = ss_zalloc(1, sizeof *t);
    *out = NULL;
    if (t) {
        t->n = n;
        t->preset = -1;
        t->start = ss_alloc(n + 1, sizeof *t->start);
        t->bits = ss_alloc(n + 1, sizeof *t->bits);
        t->work = ss_alloc(n + 1, sizeof *t->work);
        t->room = ss_alloc(n, 3 * sizeof *t->room);
        t->state = made ? ss_alloc(n, sizeof *t->state) : NULL;
    }
    if (!t || !t->start || !t->bits || !t->work || !t->room || (made && !t->state)) {
        ss_trace_free(t);
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu rows of a trace", n);
    }
    t->bandwidth = t->room;
    t->rtt = t->room + n;
    t->cpu = t->room + 2 * n;
    *out = t;
    return SS_OK;
}

static void sum_up(ss_trace *t)
{
    t->bits[0] = t->work[0] = 0;
    for (size_t i = 0; i < t->n; i++) {
        double s = t->start[i + 1] - t->start[i];
        t->bits[i + 1] = t->bits[i] + s * (double)t->bandwidth[i];
        t->work[i + 1] = t->work[i] + s * (1 - fmin((double)t->cpu[i], SS_TRACE_CPU_MAX));
    }
}

/* ---- questions ---- */

/* Greatest i < n with v[i] <= x, for v rising and v[0] <= x. */
static size_t row_of(const double *v, size_t n, double x)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if (v[mid] <= x)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* The moment within the trace, and in *turns the times that it has begun anew before. */
static double within(const ss_trace *t, double at, double *turns)
{
    double all = t->start[t->n];
    *turns = at > 0 ? floor(at / all) : 0;
    double rest = (at > 0 ? at : 0) - *turns * all;
    return rest < 0 ? 0 : rest < all ? rest : nextafter(all, 0);
}

double ss_trace_seconds(const ss_trace *t)
{
    return t->start[t->n];
}

size_t ss_trace_rows(const ss_trace *t)
{
    return t->n;
}

bool ss_trace_is_made(const ss_trace *t)
{
    return t->preset >= 0;
}

bool ss_trace_has_load(const ss_trace *t)
{
    return t->load;
}

ss_trace_now ss_trace_at(const ss_trace *t, double at)
{
    double turns;
    size_t i = row_of(t->start, t->n, within(t, at, &turns));
    return (ss_trace_now){(double)t->bandwidth[i], (double)t->rtt[i], (double)t->cpu[i]};
}

static double sum_to(const ss_trace *t, const double *sum, double at)
{
    double turns, rest = within(t, at, &turns);
    size_t i = row_of(t->start, t->n, rest);
    double share = (rest - t->start[i]) / (t->start[i + 1] - t->start[i]);
    return turns * sum[t->n] + sum[i] + share * (sum[i + 1] - sum[i]);
}

static double when_sum(const ss_trace *t, const double *sum, double wanted)
{
    double all = sum[t->n];
    if (!(wanted > 0))
        return 0;
    if (!(all > 0))
        return INFINITY;
    double turns = floor(wanted / all), rest = wanted - turns * all;
    rest -= 1e-15 * wanted; /* rounding is not to carry it over an outage */
    if (rest <= 0 &&
        turns > 0) { /* at the very end of a turn, not after the outage with which the next begins */
        turns--;
        rest = all;
    }
    size_t low = 0, high = t->n; /* sum[low] < rest <= sum[high] */
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if (sum[mid] < rest)
            low = mid;
        else
            high = mid;
    }
    double share = (rest - sum[low]) / (sum[high] - sum[low]);
    return turns * t->start[t->n] + t->start[low] + fmin(share, 1) * (t->start[high] - t->start[low]);
}

double ss_trace_bits(const ss_trace *t, double at)
{
    return sum_to(t, t->bits, at);
}

double ss_trace_when_bits(const ss_trace *t, double bits)
{
    return when_sum(t, t->bits, bits);
}

double ss_trace_work(const ss_trace *t, double at)
{
    return sum_to(t, t->work, at);
}

double ss_trace_when_work(const ss_trace *t, double work)
{
    return when_sum(t, t->work, work);
}

/* ---- reading ---- */

static int read_row(ss_trace *t, const ss_csv *c, size_t row, const int column[4], ss_err *e)
{
    double start = 0, bandwidth = 0, rtt = 0, cpu = 0;
    int rc = ss_csv_real(c, row, (size_t)column[0], 0, SS_TRACE_MAX_S, &start, e);
    if (!rc)
        rc = ss_csv_real(c, row, (size_t)column[1], 0, SS_TRACE_MAX_BPS, &bandwidth, e);
    if (!rc)
        rc = ss_csv_real(c, row, (size_t)column[2], 0, 1e6, &rtt, e);
    if (!rc && column[3] >= 0)
        rc = ss_csv_real(c, row, (size_t)column[3], 0, 1, &cpu, e);
    if (rc)
        return rc;
    if (!row && start > 0)
        return ss_err_set(e, SS_ERANGE, "'%s', line %zu: time_s is %.9g, expected 0 in the first row",
                          ss_csv_file(c), ss_csv_line(c, row), start);
    if (row && start - t->start[row - 1] < 0.99e-6)
        return ss_err_set(
            e, SS_ERANGE,
            "'%s', line %zu: time_s is %.9g, expected at least a microsecond more than the %.9g before it",
            ss_csv_file(c), ss_csv_line(c, row), start, t->start[row - 1]);
    t->start[row] = start;
    if (row == t->n)
        return SS_OK;
    t->bandwidth[row] = (float)bandwidth;
    t->rtt[row] = (float)rtt;
    t->cpu[row] = (float)cpu;
    return SS_OK;
}

static int read_csv(ss_trace **out, const char *text, size_t n, const char *name, ss_err *e)
{
    static const char *const names[] = {"time_s", "bandwidth_bps", "rtt_ms", "cpu"};
    ss_csv *c;
    int column[4];
    int rc = ss_csv_parse(&c, text, n, name, e);
    for (int i = 0; i < 3 && !rc; i++)
        if ((column[i] = ss_csv_need(c, names[i], e)) < 0)
            rc = column[i];
    if (!rc) {
        column[3] = ss_csv_find(c, names[3]);
        if (ss_csv_columns(c) != (column[3] < 0 ? 3 : 4))
            rc = ss_err_set(e, SS_EUNFIT,
                            "'%s' has %zu columns, expected time_s, bandwidth_bps, rtt_ms and perhaps cpu",
                            name, ss_csv_columns(c));
    }
    size_t rows = rc ? 0 : ss_csv_rows(c);
    if (!rc && rows < 2)
        rc = ss_err_set(e, SS_EDAMAGED, "'%s': %zu rows, expected at least 2: the last one is the end", name,
                        rows);
    if (!rc)
        rc = make(out, rows - 1, false, e);
    for (size_t i = 0; i < rows && !rc; i++)
        rc = read_row(*out, c, i, column, e);
    if (!rc)
        (*out)->load = column[3] >= 0;
    ss_csv_free(c);
    return rc;
}

/* One stamp of milliseconds, and what ends its line. */
static int read_stamp(const char *text, size_t n, size_t *at, uint64_t before, size_t line, const char *name,
                      uint64_t *stamp, ss_err *e)
{
    size_t i = *at;
    uint64_t v = 0;
    for (; i < n && text[i] >= '0' && text[i] <= '9' && v <= (uint64_t)(SS_TRACE_MAX_S * 1e3); i++)
        v = 10 * v + (uint64_t)(text[i] - '0');
    bool ended = i == n || text[i] == '\n' || (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n');
    if (i == *at || !ended)
        return ss_err_set(e, SS_EDAMAGED,
                          "'%s', line %zu: expected milliseconds, up to %.9g, and nothing else", name, line,
                          SS_TRACE_MAX_S * 1e3);
    if (v < before)
        return ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: %llu, expected at least the %llu before it", name,
                          line, (unsigned long long)v, (unsigned long long)before);
    if (v > (uint64_t)(SS_TRACE_MAX_S * 1e3))
        return ss_err_set(e, SS_ELIMIT, "'%s', line %zu: %llu ms, at most %.9g are taken", name, line,
                          (unsigned long long)v, SS_TRACE_MAX_S * 1e3);
    *stamp = v;
    *at = i == n ? n : i + (text[i] == '\r' ? 2 : 1);
    return SS_OK;
}

/* Rows of text, passed twice: counted with `t` NULL, then filled. A stamp is a row of one millisecond, and
 * what lies between two of them a row without bandwidth. The end is the last stamp, whose own millisecond, as
 * mm-link has it, is the first of the next turn. */
static int walk_mahimahi(ss_trace *t, size_t *rows, const char *text, size_t n, const char *name, double rtt,
                         ss_err *e)
{
    size_t at = 0, line = 0, r = 0;
    uint64_t before = 0, covered = 0; /* ms from 0 for which there are rows */
    while (at < n) {
        uint64_t stamp;
        int rc = read_stamp(text, n, &at, before, ++line, name, &stamp, e);
        if (rc)
            return rc;
        before = stamp;
        if (!stamp)
            stamp = 1;             /* the first millisecond */
        if (stamp > covered + 1) { /* nothing passes until stamp - 1 */
            if (t) {
                t->start[r] = (double)covered / 1e3;
                t->bandwidth[r] = 0;
            }
            r++;
            covered = stamp - 1;
        }
        if (stamp == covered + 1) {
            if (t) {
                t->start[r] = (double)covered / 1e3;
                t->bandwidth[r] = 0;
            }
            r++;
            covered = stamp;
        }
        if (t)
            t->bandwidth[r - 1] += (float)(SS_TRACE_MTU * 8 * 1e3);
        if (r > SS_TRACE_MAX_ROWS)
            return ss_err_set(e, SS_ELIMIT, "'%s', line %zu: more than %zu rows", name, line,
                              SS_TRACE_MAX_ROWS);
    }
    if (!before)
        return ss_err_set(e, SS_EDAMAGED, "'%s' has no stamp above 0, which would be its end", name);
    if (t) {
        t->start[r] = (double)covered / 1e3;
        for (size_t i = 0; i < r; i++) {
            t->rtt[i] = (float)rtt;
            t->cpu[i] = 0;
        }
    }
    *rows = r;
    return SS_OK;
}

static int read_mahimahi(ss_trace **out, const char *text, size_t n, const char *name, double rtt, ss_err *e)
{
    size_t rows = 0;
    int rc = walk_mahimahi(NULL, &rows, text, n, name, rtt, e);
    if (!rc)
        rc = make(out, rows, false, e);
    return rc ? rc : walk_mahimahi(*out, &rows, text, n, name, rtt, e);
}

static ss_trace_format guess(const char *text, size_t n)
{
    size_t digits = 0;
    while (digits < n && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    return digits && (digits == n || text[digits] == '\n' || text[digits] == '\r') ? SS_TRACE_MAHIMAHI
                                                                                   : SS_TRACE_CSV;
}

int ss_trace_parse(ss_trace **t, const char *text, size_t n, const char *name, ss_trace_format format,
                   double rtt_ms, ss_err *e)
{
    *t = NULL;
    if (n > MAX_TEXT)
        return ss_err_set(e, SS_ELIMIT, "'%s' is longer than %zu bytes", name, MAX_TEXT);
    if (format == SS_TRACE_AUTO)
        format = guess(text, n);
    int rc =
        format == SS_TRACE_CSV ? read_csv(t, text, n, name, e) : read_mahimahi(t, text, n, name, rtt_ms, e);
    if (!rc) {
        sum_up(*t);
        return rc;
    }
    ss_trace_free(*t);
    *t = NULL;
    return rc;
}

int ss_trace_open(ss_trace **t, const char *path, ss_trace_format format, double rtt_ms, ss_err *e)
{
    char *text;
    size_t n;
    *t = NULL;
    int rc = ss_text_read(&text, &n, path, MAX_TEXT, e);
    if (!rc)
        rc = ss_trace_parse(t, text, n, path, format, rtt_ms, e);
    ss_free(text);
    return rc;
}

char *ss_trace_print(const ss_trace *t)
{
    enum { LINE = 96 };
    char *text = ss_alloc(t->n + 2, LINE);
    if (!text)
        return NULL;
    size_t n = (size_t)snprintf(text, LINE, "time_s,bandwidth_bps,rtt_ms%s\n", t->load ? ",cpu" : "");
    for (size_t i = 0; i <= t->n; i++) {
        size_t row = i < t->n ? i : t->n - 1;
        n += (size_t)snprintf(text + n, LINE, "%.13g,%.9g,%.6g", t->start[i], (double)t->bandwidth[row],
                              (double)t->rtt[row]);
        n += t->load ? (size_t)snprintf(text + n, LINE, ",%.6g\n", (double)t->cpu[row])
                     : (size_t)snprintf(text + n, LINE, "\n");
    }
    return text;
}

/* ---- making ---- */

static const struct preset {
    const char *name;
    double mean, deviation, outage; /* bit/s; share of seconds */
    double outage_s;                /* how long one lasts */
    double slow, slow_s,
        fast;   /* share of the variance of the slow level, its dwell, correlation of the rest */
    double rtt; /* ms */
} presets[] = {
    {"3g", 0.90e6, 0.40e6, 0.04, 2.9, 0.75, 10, 0.5, 150},
    {"lte", 5.96e6, 3.11e6, 0.007, 1, 0.7, 3, 0.3, 70},
    {"lte-driving", 1.92e6, 1.69e6, 0.05, 1.5, 0.65, 3, 0.2, 70},
    {"wifi", 30.4e6, 23.4e6, 0.146, 5.2, 0.9, 7, 0.5, 20},
};
enum { PRESETS = sizeof presets / sizeof *presets, LEVELS = 5 };
static const double level_at[LEVELS] = {-1.41421356, -0.70710678, 0, 0.70710678, 1.41421356}; /* variance 1 */
static const double load_at[LEVELS] = {0.03, 0.25, 0.5, 0.75, 0.93};
static const double load_share[LEVELS] = {0.4, 0.25, 0.15, 0.12, 0.08};
static const double LOAD_S = 15, LOAD_JITTER = 0.03, RTT_JITTER = 0.25, RTT_CORRELATION = 0.8;

int ss_trace_presets(void)
{
    return PRESETS;
}

const char *ss_trace_preset_name(int preset)
{
    return preset >= 0 && preset < PRESETS ? presets[preset].name : NULL;
}

int ss_trace_preset_find(const char *name, size_t n)
{
    for (int i = 0; i < PRESETS; i++)
        if (strlen(presets[i].name) == n && !memcmp(presets[i].name, name, n))
            return i;
    return -1;
}

void ss_trace_preset_moments(int preset, double *mean, double *deviation, double *outage)
{
    *mean = presets[preset].mean;
    *deviation = presets[preset].deviation;
    *outage = presets[preset].outage;
}

/* Mean of exp(s (sqrt(slow) level + sqrt(1 - slow) jitter)). */
static double mean_of_exp(const struct preset *p, double s)
{
    double sum = 0;
    for (int i = 0; i < LEVELS; i++)
        sum += exp(s * sqrt(p->slow) * level_at[i]) / LEVELS;
    return sum * exp(s * s * (1 - p->slow) / 2);
}

/* Spread s and factor m of bandwidth = m exp(s ...) while there is no outage. */
static void solve(const struct preset *p, double *s, double *m)
{
    double mean = p->mean / (1 - p->outage);
    double second = (p->mean * p->mean + p->deviation * p->deviation) / (1 - p->outage);
    double wanted = second / (mean * mean), low = 0, high = 4;
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2, one = mean_of_exp(p, mid);
        if (mean_of_exp(p, 2 * mid) / (one * one) < wanted)
            low = mid;
        else
            high = mid;
    }
    *s = low;
    *m = mean / mean_of_exp(p, low);
}

static uint8_t draw_load(ss_rng *r)
{
    double u = (double)ss_rng_uniform(r), sum = 0;
    for (uint8_t i = 0; i < LEVELS - 1; i++)
        if (u < (sum += load_share[i]))
            return i;
    return LEVELS - 1;
}

static hidden first_state(const struct preset *p, ss_rng *r)
{
    hidden h = {.jitter = ss_rng_normal(r), .rtt = ss_rng_normal(r)};
    h.level = (uint8_t)ss_rng_below(r, LEVELS);
    h.load = draw_load(r);
    h.out = (double)ss_rng_uniform(r) < p->outage;
    return h;
}

static float correlated(float x, double by, ss_rng *r)
{
    return (float)(by * (double)x + sqrt(1 - by * by) * (double)ss_rng_normal(r));
}

/* The state one second later: chances are drawn in a fixed order, so that a seed stays a seed. */
static hidden next_state(const struct preset *p, hidden h, ss_rng *r)
{
    bool jump = (double)ss_rng_uniform(r) < 1 - exp(-1 / p->slow_s);
    uint8_t level = (uint8_t)ss_rng_below(r, LEVELS);
    h.level = jump ? level : h.level;
    jump = (double)ss_rng_uniform(r) < 1 - exp(-1 / LOAD_S);
    uint8_t load = draw_load(r);
    h.load = jump ? load : h.load;
    double leave = 1 / p->outage_s, enter = leave * p->outage / (1 - p->outage);
    h.out ^= (double)ss_rng_uniform(r) < (h.out ? leave : enter);
    h.jitter = correlated(h.jitter, p->fast, r);
    h.rtt = correlated(h.rtt, RTT_CORRELATION, r);
    return h;
}

static float load_of(uint8_t level, ss_rng *r)
{
    return (float)fmin(fmax(load_at[level] + LOAD_JITTER * (double)ss_rng_normal(r), 0), 1);
}

static void fill(ss_trace *t, size_t from, hidden h, ss_rng *r)
{
    const struct preset *p = &presets[t->preset];
    double s, m;
    solve(p, &s, &m);
    for (size_t i = from; i < t->n; i++) {
        h = i ? next_state(p, h, r) : h;
        t->state[i] = h;
        t->bandwidth[i] =
            (float)(m * exp(s * (sqrt(p->slow) * level_at[h.level] + sqrt(1 - p->slow) * (double)h.jitter)));
        if (h.out)
            t->bandwidth[i] = 0;
        t->rtt[i] = (float)(p->rtt * exp(RTT_JITTER * (double)h.rtt));
        t->cpu[i] = load_of(h.load, r);
    }
    for (size_t i = 0; i <= t->n; i++)
        t->start[i] = (double)i;
    t->load = true;
    sum_up(t);
}

int ss_trace_make(ss_trace **t, int preset, uint64_t seed, size_t seconds, ss_err *e)
{
    *t = NULL;
    if (preset < 0 || preset >= PRESETS)
        return ss_err_set(e, SS_EINVAL, "trace: no preset %d", preset);
    if (seconds < 1 || seconds > (size_t)SS_TRACE_MAX_S)
        return ss_err_set(e, SS_ERANGE, "trace: %zu seconds, expected 1 to %.9g", seconds, SS_TRACE_MAX_S);
    int rc = make(t, seconds, true, e);
    if (rc)
        return rc;
    ss_rng r = ss_rng_make(seed, 0x7472616365000000u + (uint64_t)preset);
    (*t)->preset = preset;
    fill(*t, 0, first_state(&presets[preset], &r), &r);
    return SS_OK;
}

int ss_trace_go_on(ss_trace **out, const ss_trace *from, double at, uint64_t seed, size_t seconds, ss_err *e)
{
    if (*out && (*out)->n != seconds) {
        ss_trace_free(*out);
        *out = NULL;
    }
    int rc = *out ? SS_OK : make(out, seconds, true, e);
    if (rc)
        return rc;
    ss_trace *t = *out;
    double turns;
    size_t row = row_of(from->start, from->n, within(from, at, &turns));
    ss_rng r = ss_rng_make(seed, 0x676f206f6e000000u);
    t->preset = from->preset;
    t->bandwidth[0] = from->bandwidth[row];
    t->rtt[0] = from->rtt[row];
    t->cpu[0] = from->cpu[row];
    if (from->preset >= 0) {
        t->state[0] = from->state[row];
        fill(t, 1, t->state[0], &r);
        return SS_OK;
    }
    double second = floor(at); /* rows may be milliseconds */
    t->bandwidth[0] = (float)(ss_trace_bits(from, second + 1) - ss_trace_bits(from, second));
    for (size_t i = 0; i < seconds; i++) {
        t->bandwidth[i] = t->bandwidth[0];
        t->rtt[i] = t->rtt[0];
        t->cpu[i] = t->cpu[0];
        t->start[i] = (double)i;
    }
    t->start[seconds] = (double)seconds;
    sum_up(t);
    return SS_OK;
}

int ss_trace_weaken(ss_trace **out, const ss_trace *from, double factor, ss_err *e)
{
    int rc = make(out, from->n, false, e);
    if (rc)
        return rc;
    ss_trace *t = *out;
    memcpy(t->start, from->start, (t->n + 1) * sizeof *t->start);
    memcpy(t->rtt, from->rtt, t->n * sizeof *t->rtt);
    memcpy(t->cpu, from->cpu, t->n * sizeof *t->cpu);
    for (size_t i = 0; i < t->n; i++)
        t->bandwidth[i] = (float)(factor * (double)from->bandwidth[i]);
    t->load = from->load;
    sum_up(t);
    return SS_OK;
}

int ss_trace_add_load(ss_trace *t, uint64_t seed, ss_err *e)
{
    ss_rng r = ss_rng_make(seed, 0x6c6f616400000000u);
    size_t n = 0, rows = t->n;
    double all = t->start[t->n];
    for (double s = 0; s < all; s += 1)
        n++;
    ss_trace *to; /* rows are split at whole seconds */
    int rc = make(&to, rows + n, false, e);
    if (rc)
        return rc;
    size_t i = 0, k = 0;
    uint8_t level = draw_load(&r);
    double second = 0;
    float cpu = load_of(level, &r);
    while (i < rows) {
        double start = fmax(t->start[i], second);
        to->start[k] = start;
        to->bandwidth[k] = t->bandwidth[i];
        to->rtt[k] = t->rtt[i];
        to->cpu[k++] = cpu;
        double end = fmin(t->start[i + 1], second + 1);
        i += t->start[i + 1] <= end;
        if (end >= second + 1) {
            second += 1;
            bool jump = (double)ss_rng_uniform(&r) < 1 - exp(-1 / LOAD_S);
            uint8_t other = draw_load(&r);
            level = jump ? other : level;
            cpu = load_of(level, &r);
        }
    }
    to->n = k;
    to->start[k] = all;
    to->load = true;
    sum_up(to);
    ss_trace was = *t;
    *t = *to;
    *to = was;
    ss_trace_free(to);
    return SS_OK;
}
