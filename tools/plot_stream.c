/* Plots of streams. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/mem.h"
#include "io/csv.h"
#include "io/json.h"
#include "learn/pca.h"
#include "plot.h"
#include "runner.h"

#define MAX_COLUMNS 12000 /* frames of a spectrogram: two minutes */
#define MAX_POINTS  1000000

/* The next data record: 1, 0 at the end, which is also where damage begins; that is told when all is drawn.
 */
static int next(plot_input *in, ss_reader *r, const ss_record **rec, ss_err *e)
{
    int rc;
    while ((rc = ss_reader_next(r, rec, e)) > 0 && (*rec)->type != SS_TYPE_DATA)
        ;
    if (rc != SS_EDAMAGED && rc != SS_ETRUNC)
        return rc;
    in->late = *e;
    return 0;
}

/* Numbers that grow. */
typedef struct column {
    double *v;
    size_t n, room;
} column;

static int push(column *c, double v, ss_err *e)
{
    if (c->n == MAX_POINTS)
        return ss_err_set(e, SS_ELIMIT, "more than %d records: thin them out with ss-cat --every",
                          MAX_POINTS);
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 1024;
        double *p = ss_realloc(c->v, room, sizeof *p);
        if (!p)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu values", room);
        c->v = p;
        c->room = room;
    }
    c->v[c->n++] = v;
    return SS_OK;
}

static void clear(column *c)
{
    ss_free(c->v);
    *c = (column){0};
}

static int nothing(const plot_input *in, ss_err *e)
{
    return in->late.code ? (*e = in->late, e->code)
                         : ss_err_set(e, SS_EUNFIT, "there is nothing in it to draw");
}

/* ---- spectrogram ---- */

/* Parameters of the features, as far as the header has them. */
typedef struct front {
    double rate, hop, low, high;
} front;

static front front_of(const ss_header *h)
{
    front f = {16000, 160, 80, 8000};
    struct cJSON *o = NULL;
    ss_err e;
    if (h->frontend && ss_json_parse(&o, h->frontend, strlen(h->frontend), "frontend", &e) == SS_OK) {
        ss_json_number(o, "rate", 1, 1e9, &f.rate, &e);
        ss_json_number(o, "hop", 1, 1e9, &f.hop, &e);
        ss_json_number(o, "low", 0, 1e9, &f.low, &e);
        ss_json_number(o, "high", 0, 1e9, &f.high, &e);
    }
    cJSON_Delete(o);
    return f;
}

static double mel(double hz)
{
    return 2595 * log10(1 + hz / 700);
}

/* Columns of a picture: frames in the order of time; windows overlap, and of each frame the first one counts.
 */
typedef struct frames {
    float *v; /* [columns][bands] */
    size_t columns, bands;
} frames;

static int add_window(frames *s, const ss_record *rec, double start, double frame_s, ss_err *e)
{
    size_t bands = rec->dim[0], count = rec->dim[1], n = bands * count;
    float *x = ss_alloc(n, sizeof *x);
    int rc = x ? runner_unpack(rec, n, x, e) : ss_err_set(e, SS_ENOMEM, "no memory for a window");
    double at = floor(start / frame_s + 0.5);
    if (rc == SS_OK && (at < 0 || at + (double)count > MAX_COLUMNS))
        rc = ss_err_set(e, SS_ELIMIT, "more than %d frames: take a part of them with ss-cat --slice",
                        MAX_COLUMNS);
    size_t end = rc == SS_OK ? (size_t)at + count : 0;
    if (end > s->columns) {
        float *p = ss_realloc(s->v, end * bands, sizeof *p);
        if (p) {
            for (size_t i = s->columns * bands; i < end * bands; i++)
                p[i] = NAN;
            s->v = p;
            s->columns = end;
        } else {
            rc = ss_err_set(e, SS_ENOMEM, "no memory for %zu frames", end);
        }
    }
    for (size_t t = 0; rc == SS_OK && t < count; t++)
        for (size_t m = 0; m < bands; m++) {
            float *to = &s->v[((size_t)at + t) * bands + m];
            *to = isfinite(*to) ? *to : x[m * count + t];
        }
    ss_free(x);
    return rc;
}

static void frequency_axis(figure *f, const front *p, size_t bands)
{
    double low = mel(p->low), step = (mel(p->high) - low) / (double)(bands + 1), before = -1e9;
    const char *comma = "";
    figure_ylabel(f, "frequency (kHz)");
    fputs("set ytics (", f->script);
    for (double hz = 250; hz <= p->high; hz *= 2) {
        double at = (mel(hz) - low) / step - 1;
        if (at < -0.5 || at - before < (double)bands / 16) /* no room for its name */
            continue;
        before = at;
        fprintf(f->script, "%s'%g' %.6g", comma, hz / 1000, at);
        comma = ", ";
    }
    fputs(")\n", f->script);
}

int plot_spectrogram(figure *f, plot_input *in, ss_err *e)
{
    front p = front_of(in->h);
    const ss_record *rec;
    frames s = {0};
    int64_t first = 0;
    int rc;
    while ((rc = next(in, in->r, &rec, e)) > 0) {
        if (rec->rank != 2 || (s.bands && rec->dim[0] != s.bands) || !rec->dim[0] || rec->dim[0] > 4096) {
            rc = ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " is no window of features like the first one",
                            ss_reader_count(in->r) - 1);
            break;
        }
        if (!s.bands)
            first = rec->time_ns;
        s.bands = rec->dim[0];
        rc = add_window(&s, rec, (double)(rec->time_ns - first) * 1e-9, p.hop / p.rate, e);
        if (rc < 0)
            break;
    }
    if (rc == 0 && !s.columns)
        rc = nothing(in, e);
    if (rc == 0) {
        f->height = 45;
        fputs("$d << EOD\n", f->script);
        for (size_t m = 0; m < s.bands; m++, putc('\n', f->script))
            for (size_t t = 0; t < s.columns; t++)
                fprintf(f->script, isfinite(s.v[t * s.bands + m]) ? " %.4g" : " NaN",
                        (double)s.v[t * s.bands + m]);
        fputs("EOD\n", f->script);
        double frame = p.hop / p.rate;
        frequency_axis(f, &p, s.bands);
        fprintf(f->script,
                "unset key\nunset grid\nset xlabel 'time (s)'\nset xrange [0:%.9g]\nset yrange [-0.5:%zu.5]\n"
                "set cblabel 'ln energy' offset 0.5,0\nset cbtics scale 0.5\nset colorbox user origin screen "
                "0.83,graph 0 size "
                "0.025,graph 1\n"
                "set lmargin at screen 0.16\nset rmargin at screen 0.81\n"
                "plot $d matrix using (($1+0.5)*%.9g):2:3 with image\n",
                (double)s.columns * frame, s.bands - 1, frame);
    }
    ss_free(s.v);
    return rc;
}

/* ---- map of an embedding ---- */

typedef struct cloud {
    float *x; /* [n][dim] */
    size_t n, room, dim;
    uint32_t *label; /* [n], UINT32_MAX = none */
} cloud;

static int add_point(cloud *c, const ss_record *rec, ss_err *e)
{
    if (rec->rank != 1 || !rec->dim[0] || (c->dim && rec->dim[0] != c->dim))
        return ss_err_set(e, SS_EUNFIT, "an embedding of another shape than the first one");
    if (rec->dtype == SS_DTYPE_PACKED) {
        char name[32];
        return ss_err_set(e, SS_EUNFIT,
                          "an embedding packed by codec %s, which only its model unpacks: ss-finish -m MODEL "
                          "FILE | ss-plot",
                          ss_codec_name(ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0), name));
    }
    c->dim = rec->dim[0];
    if (c->n == MAX_POINTS / 10)
        return ss_err_set(e, SS_ELIMIT, "more than %d points: thin them out with ss-cat --every",
                          MAX_POINTS / 10);
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 256;
        float *x = ss_realloc(c->x, room * c->dim, sizeof *x);
        c->x = x ? x : c->x;
        uint32_t *l = ss_realloc(c->label, room, sizeof *l);
        c->label = l ? l : c->label;
        if (!x || !l)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu points", room);
        c->room = room;
    }
    int rc = runner_unpack(rec, c->dim, c->x + c->n * c->dim, e);
    for (size_t i = 0; rc == SS_OK && i < c->dim; i++)
        if (!isfinite(c->x[c->n * c->dim + i]))
            return ss_err_set(e, SS_EUNFIT, "a value that is not finite");
    uint64_t label = ss_attr_uint(&rec->attrs, SS_ATTR_LABEL, UINT32_MAX);
    c->label[c->n++] = label < UINT32_MAX ? (uint32_t)label : UINT32_MAX;
    return rc;
}

enum { MARKS = 16, LEGEND = 20, SHAPES = 5 };
/* Of labels in turn: Okabe and Ito's, then Tol's muted ones with hollow shapes. */
static const uint32_t mark_colour[MARKS] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xe69f00,
                                            0x000000, 0x999999, 0x332288, 0x882255, 0x117733, 0x999933,
                                            0xaa4499, 0x661100, 0x6699cc, 0xddcc77};
static int mark_shape(int i)
{
    static const int shape[2][SHAPES] = {{7, 5, 9, 13, 11}, {6, 4, 8, 12, 10}};
    return shape[i % MARKS / 8][(i + i / MARKS) % SHAPES];
}

/* Points with shape and colour, in an order in which no label covers the others; where there are many they
 * shine through. mark: [nlabels] number of each label, -1 for those without points. */
static void put_points(figure *f, const cloud *c, const double *at, const int *mark, uint32_t nlabels)
{
    size_t step = c->n % 7919 ? 7919 : 7907, i = 0; /* primes: every point comes once */
    fputs("$p << EOD\n", f->script);
    for (size_t k = 0; k < c->n; k++, i = (i + step) % c->n) {
        int m = c->label[i] < nlabels ? mark[c->label[i]] : -1;
        fprintf(f->script, "%.5g %.5g %d %" PRIu32 "\n", at[2 * i], at[2 * i + 1], m < 0 ? 7 : mark_shape(m),
                (c->n > 500 ? 0x50000000u : 0) | (m < 0 ? 0xaaaaaau : mark_colour[m % MARKS]));
    }
    fputs("EOD\n", f->script);
}

static void map_legend(figure *f, const plot_input *in, const int *mark, int n, bool rest, double size)
{
    int shown = 0;
    for (uint32_t l = 0; l < in->h->nlabels && n && shown < LEGEND; l++) {
        if (mark[l] < 0)
            continue;
        char name[20];
        snprintf(name, sizeof name, "%s", in->h->labels[l]);
        fprintf(f->script,
                ", keyentry with points pointtype %d pointsize %g*size linecolor rgb '#%06" PRIx32 "' title ",
                mark_shape(mark[l]), size, mark_colour[mark[l] % MARKS]);
        if (++shown == LEGEND && n > LEGEND)
            snprintf(name, sizeof name, "and %d more", n - LEGEND + 1);
        figure_text(f, name);
    }
    if (rest && n)
        fprintf(
            f->script,
            ", keyentry with points pointtype 7 pointsize %g*size linecolor rgb '#aaaaaa' title 'no label'",
            size);
}

static int draw_map(figure *f, const plot_input *in, const cloud *c, const double *at, const double *share,
                    ss_err *e)
{
    int n = 0, *mark = ss_alloc(in->h->nlabels + 1, sizeof *mark);
    bool rest = false;
    if (!mark)
        return ss_err_set(e, SS_ENOMEM, "no memory for %" PRIu32 " labels", in->h->nlabels);
    for (uint32_t l = 0; l < in->h->nlabels; l++)
        mark[l] = -1;
    for (size_t i = 0; i < c->n; i++)
        if (c->label[i] < in->h->nlabels)
            mark[c->label[i]] = 0;
        else
            rest = true;
    for (uint32_t l = 0; l < in->h->nlabels; l++)
        if (!mark[l])
            mark[l] = n++;
    put_points(f, c, at, mark, in->h->nlabels);
    double low[2] = {0}, high[2] = {0}, half = 0, size = c->n < 300 ? 0.6 : c->n < 2000 ? 0.45 : 0.35;
    for (size_t i = 0; i < 2 * c->n; i++) {
        low[i % 2] = fmin(low[i % 2], at[i]);
        high[i % 2] = fmax(high[i % 2], at[i]);
    }
    for (int k = 0; k < 2; k++)
        half = fmax(half, (high[k] - low[k]) / 2);
    for (int k = 0; k < 2; k++) { /* the same scale on both axes */
        double middle = (high[k] + low[k]) / 2;
        figure_axis(f, k ? 'y' : 'x', middle - half, middle + half, 5);
        fprintf(f->script, "set %crange [%.6g:%.6g]\n", k ? 'y' : 'x', middle - 1.05 * half - 1e-9,
                middle + 1.05 * half + 1e-9);
    }
    fprintf(f->script,
            "set xlabel '1st component (%.0f %% of variance)'\n"
            "set size ratio 1\nset lmargin at screen 0.15\nset rmargin at screen %g\n",
            100 * share[0], n ? 0.7 : 0.96);
    char second[48];
    snprintf(second, sizeof second, "2nd component (%.0f %%)", 100 * share[1]);
    figure_ylabel(f, second);
    fputs(n ? "set key at screen 0.72,graph 1 left top vertical reverse Left\n" : "unset key\n", f->script);
    f->height = n ? 56 : 74;
    fprintf(f->script,
            "plot $p using 1:2:3:4 with points pointtype variable pointsize %g*size linecolor rgb variable "
            "notitle",
            size);
    map_legend(f, in, mark, n, rest, 0.6);
    putc('\n', f->script);
    ss_free(mark);
    return SS_OK;
}

int plot_map(figure *f, plot_input *in, ss_err *e)
{
    const ss_record *rec;
    cloud c = {0};
    double *at = NULL, share[2];
    int rc;
    while ((rc = next(in, in->r, &rec, e)) > 0)
        if ((rc = add_point(&c, rec, e)) < 0) {
            ss_err_prefix(e, "record %" PRIu64, ss_reader_count(in->r) - 1);
            break;
        }
    if (rc == 0 && !c.n)
        rc = nothing(in, e);
    if (rc == 0) {
        at = ss_alloc(2 * c.n, sizeof *at);
        rc = at ? ss_pca(c.x, c.n, c.dim, 2, at, share) : SS_ENOMEM;
        if (rc < 0)
            ss_err_set(e, rc, "no memory for the components of %zu points", c.n);
    }
    if (rc == 0)
        rc = draw_map(f, in, &c, at, share, e);
    ss_free(at);
    ss_free(c.x);
    ss_free(c.label);
    return rc;
}

/* ---- panels above one another, one axis of time ---- */

typedef struct panel {
    char name[64]; /* of the axis */
    column t, v;
    bool steps; /* holds until the next one; else points */
    bool cuts;  /* the axis has names */
    bool spans; /* may reach over decades */
} panel;

enum { MAX_PANELS = 16 };

/* The cuts from the least to the deepest one that is there. */
static void cut_axis(figure *f, const column *v)
{
    int low = SS_CUT_EMBEDDING, high = 0;
    for (size_t i = 0; i < v->n; i++) {
        low = v->v[i] < low ? (int)v->v[i] : low;
        high = v->v[i] > high ? (int)v->v[i] : high;
    }
    int every = high - low > 5 ? 2 : 1;
    const char *comma = "";
    fprintf(f->script, "set yrange [%g:%g]\nset ytics (", low - 0.5, high + 0.5);
    for (int k = low; k <= high; k++) {
        /* The ends by name, numbers between them as there is room. */
        bool end = k == SS_CUT_INPUT || k == SS_CUT_EMBEDDING;
        if (!end && (k - low) % every)
            continue;
        fprintf(f->script, "%s'%s' %d", comma, k == SS_CUT_EMBEDDING ? "emb." : ss_cut_name(k), k);
        comma = ", ";
    }
    fputs(")\n", f->script);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Decades where the largest is far beyond the median, which would lie on the axis; false: it is not. */
static bool decades(figure *f, const column *v)
{
    double *sorted = ss_alloc(v->n, sizeof *sorted);
    if (!sorted) /* the plain axis will do */
        return false;
    memcpy(sorted, v->v, v->n * sizeof *sorted);
    qsort(sorted, v->n, sizeof *sorted, ascending);
    double low = sorted[0], median = sorted[v->n / 2], high = sorted[v->n - 1];
    ss_free(sorted);
    if (!(low > 0) || high < 30 * median)
        return false;
    int from = (int)floor(log10(low)), to = (int)ceil(log10(high));
    fprintf(f->script, "set logscale y\nset yrange [%g:%g]\nset format y '%%g'\nset ytics %d\nset mytics 1\n",
            pow(10, from), pow(10, to), to - from > 3 ? 100 : 10);
    return true;
}

static void draw_panels(figure *f, const panel *p, int n)
{
    double top = 2, each = 16, bottom = 10.5, end = 0;
    f->height = top + each * n + bottom;
    for (int i = 0; i < n; i++) {
        fprintf(f->script, "$p%d << EOD\n", i);
        for (size_t k = 0; k < p[i].v.n; k++) {
            figure_number(f, p[i].t.v[k]);
            figure_number(f, p[i].v.v[k]);
            putc('\n', f->script);
            end = fmax(end, p[i].t.v[k]);
        }
        fputs("EOD\n", f->script);
    }
    fprintf(f->script,
            "set multiplot\nunset key\nset xrange [0:%.9g]\nset lmargin at screen 0.19\n"
            "set rmargin at screen 0.97\nset format x ''\n",
            end > 0 ? end : 1);
    for (int i = 0; i < n; i++) {
        double y = f->height - top - each * (i + 1);
        fprintf(f->script, "set bmargin at screen %.6g\nset tmargin at screen %.6g\n", y / f->height,
                (y + each - 3) / f->height);
        if (i == n - 1)
            fputs("set format x\nset xlabel 'time (s)'\n", f->script);
        figure_ylabel(f, p[i].name);
        double high = 0;
        for (size_t k = 0; k < p[i].v.n; k++)
            high = fmax(high, p[i].v.v[k]);
        if (p[i].cuts)
            cut_axis(f, &p[i].v);
        else if (!p[i].spans || !decades(f, &p[i].v))
            figure_axis(f, 'y', 0, high, 4);
        fprintf(f->script, "plot $p%d with %s linetype %d pointtype 7 pointsize 0.25\n", i,
                p[i].steps ? "steps" : "points", 1 + i % FIGURE_COLOURS);
        fputs("unset logscale y\nset format y\n", f->script);
    }
    fputs("unset multiplot\n", f->script);
}

enum { CUT, KBYTES, U, LATENCY, ENERGY, FROM_STREAM };

/* Time spent in all stages and before them, ms; NaN when none is told. */
static double latency_of(const ss_record *rec)
{
    uint64_t us = 0;
    bool any = false;
    for (int a = SS_ATTR_T_CAPTURE; a <= SS_ATTR_W_FINISH; a++)
        if (ss_attr_has(&rec->attrs, a)) {
            us += ss_attr_uint(&rec->attrs, a, 0);
            any = true;
        }
    return any ? (double)us * 1e-3 : NAN;
}

/* mJ, modelled or measured; what a link adds to what was measured is modelled. NaN when it is not told. */
static double energy_of(const ss_record *rec)
{
    bool any = ss_attr_has(&rec->attrs, SS_ATTR_ENERGY) || ss_attr_has(&rec->attrs, SS_ATTR_ENERGY_MEASURED);
    return any ? 1e3 * ((double)ss_attr_f32(&rec->attrs, SS_ATTR_ENERGY, 0) +
                        (double)ss_attr_f32(&rec->attrs, SS_ATTR_ENERGY_MEASURED, 0))
               : NAN;
}

/* Of each stream in turn: the first one tells the cuts and the bytes, the last one that knows them u, latency
 * and energy. */
static int read_timeline(plot_input *in, ss_reader *r, panel *p, int64_t *origin, bool first, ss_err *e)
{
    const ss_record *rec;
    int rc;
    bool seen[FROM_STREAM] = {false};
    while ((rc = next(in, r, &rec, e)) > 0) {
        double v[FROM_STREAM] = {NAN, first ? (double)rec->size * 1e-3 : NAN,
                                 (double)ss_attr_f32(&rec->attrs, SS_ATTR_U, NAN), latency_of(rec),
                                 energy_of(rec)};
        if (first && ss_attr_has(&rec->attrs, SS_ATTR_SPLIT))
            v[CUT] = (double)ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, 0);
        if (v[CUT] > SS_CUT_EMBEDDING)
            return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " is stamped with split %g, the last one is %d",
                              ss_reader_count(r) - 1, v[CUT], SS_CUT_EMBEDDING);
        if (*origin == INT64_MIN)
            *origin = rec->time_ns;
        for (int i = 0; i < FROM_STREAM; i++) {
            if (isnan(v[i]))
                continue;
            if (!seen[i])
                p[i].t.n = p[i].v.n = 0;
            seen[i] = true;
            if ((rc = push(&p[i].t, (double)(rec->time_ns - *origin) * 1e-9, e)) < 0 ||
                (rc = push(&p[i].v, v[i], e)) < 0)
                return rc;
        }
    }
    return rc;
}

/* Columns of traces by what they are called in the picture, and by what they are divided. */
static const struct {
    const char *column, *name;
    double unit;
} known_columns[] = {{"bandwidth_bps", "Mbit/s", 1e6},
                     {"rtt_ms", "RTT (ms)", 1},
                     {"cpu", "CPU", 1},
                     {"queue", "queue", 1},
                     {"latency_ms", "lat. (ms)", 1},
                     {"u", "u", 1}};

/* A cut by its name. */
static int cut_in(const ss_csv *c, size_t row, size_t k, double *to, ss_err *e)
{
    const char *text = ss_csv_text(c, row, k);
    int cut = ss_cut_parse(text);
    if (cut < 0)
        return ss_err_set(e, SS_ERANGE,
                          "'%s', line %zu: cut: found '%s', expected input, 0 to 8 or embedding",
                          ss_csv_file(c), ss_csv_line(c, row), text);
    *to = cut;
    return SS_OK;
}

static int read_trace(const char *path, panel *p, int *n, ss_err *e)
{
    ss_csv *c = NULL;
    int rc = ss_csv_open(&c, path, e), time = -1;
    if (rc == SS_OK)
        rc = time = ss_csv_need(c, "time_s", e);
    for (size_t k = 0; rc >= 0 && k < ss_csv_columns(c); k++) {
        if ((int)k == time)
            continue;
        if (*n == MAX_PANELS) {
            rc = ss_err_set(e, SS_ELIMIT, "'%s' has too many columns: %d panels are the most", path,
                            MAX_PANELS);
            break;
        }
        if (!strcmp(ss_csv_name(c, k), "codec")) /* names have no axis */
            continue;
        panel *to = &p[(*n)++];
        double unit = 1;
        snprintf(to->name, sizeof to->name, "%s", ss_csv_name(c, k));
        for (size_t i = 0; i < sizeof known_columns / sizeof *known_columns; i++)
            if (!strcmp(known_columns[i].column, to->name)) {
                snprintf(to->name, sizeof to->name, "%s", known_columns[i].name);
                unit = known_columns[i].unit;
            }
        to->steps = true;
        to->cuts = !strcmp(to->name, "cut");
        for (size_t row = 0; rc >= 0 && row < ss_csv_rows(c); row++) {
            double t = 0, v = 0;
            rc = ss_csv_real(c, row, (size_t)time, 0, 1e12, &t, e);
            if (rc >= 0 && to->cuts)
                rc = cut_in(c, row, k, &v, e);
            else if (rc >= 0)
                rc = ss_csv_real(c, row, k, -1e300, 1e300, &v, e);
            if (rc >= 0 && (rc = push(&to->t, t, e)) >= 0)
                rc = push(&to->v, v / unit, e);
        }
    }
    ss_csv_free(c);
    return rc < 0 ? rc : SS_OK;
}

int plot_timeline(figure *f, plot_input *in, ss_err *e)
{
    panel p[MAX_PANELS] = {[CUT] = {.name = "cut", .steps = true, .cuts = true},
                           [KBYTES] = {.name = "size (kB)", .spans = true},
                           [U] = {.name = "u"},
                           [LATENCY] = {.name = "lat. (ms)", .spans = true},
                           [ENERGY] = {.name = "energy (mJ)", .spans = true}};
    int64_t origin = INT64_MIN;
    int n = FROM_STREAM, rc = in->r ? read_timeline(in, in->r, p, &origin, true, e) : SS_OK;
    for (int i = 1; rc >= 0 && i < in->n; i++) {
        ss_reader *r = NULL;
        rc = tool_reader(&r, in->file[i], "logmel|cut|embedding|return", NULL, e);
        if (rc >= 0)
            rc = read_timeline(in, r, p, &origin, false, e);
        ss_reader_close(&r);
    }
    if (rc >= 0 && in->trace)
        rc = read_trace(in->trace, p, &n, e);
    if (rc >= 0) {
        int there = 0;
        panel drawn[MAX_PANELS];
        for (int i = 0; i < n; i++)
            if (p[i].v.n)
                drawn[there++] = p[i];
        if (there)
            draw_panels(f, drawn, there);
        else
            rc = nothing(in, e);
    }
    for (int i = 0; i < MAX_PANELS; i++) {
        clear(&p[i].t);
        clear(&p[i].v);
    }
    return rc;
}

/* ---- latency by stage ---- */

typedef struct latencies {
    column of[2][TOOL_STAGES], all; /* ms, of work and waiting */
    double low, high;               /* that the axis shows */
} latencies;

static bool stage_there(const latencies *l, int stage)
{
    return l->of[0][stage].n || l->of[1][stage].n;
}

/* Row y: from the 5th to the 95th percentile, with the median. A logarithmic axis has no 0: it begins with a
 * microsecond. */
static void latency_row(figure *f, latencies *l, column *c, double y)
{
    static const double share[] = {0.05, 0.5, 0.95};
    double q[3];
    if (!c->n)
        return;
    qsort(c->v, c->n, sizeof *c->v, ascending);
    for (int i = 0; i < 3; i++)
        q[i] = fmax(c->v[(size_t)(share[i] * (double)(c->n - 1) + 0.5)], 1e-3);
    l->low = fmin(l->low, q[0]);
    l->high = fmax(l->high, q[2]);
    fprintf(f->script, "%.6g %.6g %.6g %g\n", q[1], q[0], q[2], y);
}

/* Decades by their names; every second one where there are many. */
static void latency_axis(figure *f, const latencies *l)
{
    static const char *const name[] = {"1 µs",   "10 µs", "100 µs", "1 ms",  "10 ms",
                                       "100 ms", "1 s",   "10 s",   "100 s", "1000 s"};
    int first = (int)floor(log10(l->low) + 3.001), last = (int)ceil(log10(l->high) + 2.999);
    last = last > 9 ? 9 : last <= first ? first + 1 : last;
    int every = last - first > 4 ? 2 : 1;
    fprintf(f->script, "set logscale x\nset xrange [%g:%g]\nset xtics (", pow(10, first - 3),
            fmax(pow(10, last - 3), l->high));
    for (int k = first; k <= last; k++)
        fprintf(f->script, "%s'%s' %g", k == first ? "" : ", ", (k - first) % every ? "" : name[k],
                pow(10, k - 3));
    fputs(")\n", f->script);
}

static void draw_latency(figure *f, latencies *l)
{
    int rows = 0, row;
    bool any[2] = {false, false};
    for (int i = 0; i < TOOL_STAGES; i++)
        rows += stage_there(l, i);
    for (int wait = 0; wait < 2; wait++) {
        row = rows;
        fprintf(f->script, "$p%d << EOD\n", wait);
        for (int i = 0; i < TOOL_STAGES; i++) {
            any[wait] |= l->of[wait][i].n > 0;
            latency_row(f, l, &l->of[wait][i], row + (wait ? 0.15 : -0.15));
            row -= stage_there(l, i);
        }
        fputs("EOD\n", f->script);
    }
    fputs("$all << EOD\n", f->script);
    latency_row(f, l, &l->all, 0);
    fputs("EOD\nset ytics ('all' 0", f->script);
    row = rows;
    for (int i = 0; i < TOOL_STAGES; i++)
        if (stage_there(l, i))
            fprintf(f->script, ", '%s' %d", tool_stages[i].name, row--);
    fprintf(f->script,
            ")\nset yrange [-0.6:%d.6]\nset xlabel 'median, and 5 %% to 95 %% of the records'\n"
            "set key outside top right horizontal reverse Left\nset bars 0.4\nset rmargin at screen 0.95\n",
            rows);
    latency_axis(f, l);
    fputs("plot ", f->script);
    for (int wait = 1; wait >= 0; wait--)
        if (any[wait])
            fprintf(f->script,
                    "$p%d using 1:4:2:3 with xerrorbars linetype %d pointsize 0.6*size title '%s', ", wait,
                    1 + wait, wait ? "waiting" : "work");
    fputs("$all using 1:4:2:3 with xerrorbars linetype 7 pointtype 7 pointsize 0.6*size notitle\n",
          f->script);
    f->height = 17 + 5 * (rows + 1);
}

int plot_latency(figure *f, plot_input *in, ss_err *e)
{
    latencies l = {.low = INFINITY};
    const ss_record *rec;
    int rc;
    while ((rc = next(in, in->r, &rec, e)) > 0) {
        double sum = latency_of(rec);
        for (int i = 0; i < 2 * TOOL_STAGES && rc >= 0; i++) {
            int a = i % 2 ? tool_stages[i / 2].wait : tool_stages[i / 2].work;
            if (a && ss_attr_has(&rec->attrs, a))
                rc = push(&l.of[i % 2][i / 2], (double)ss_attr_uint(&rec->attrs, a, 0) * 1e-3, e);
        }
        if (rc >= 0 && !isnan(sum))
            rc = push(&l.all, sum, e);
        if (rc < 0)
            break;
    }
    if (rc == 0 && !l.all.n)
        rc = nothing(in, e);
    if (rc == 0)
        draw_latency(f, &l);
    for (int i = 0; i < 2 * TOOL_STAGES; i++)
        clear(&l.of[i % 2][i / 2]);
    clear(&l.all);
    return rc;
}
