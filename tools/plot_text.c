/* Plots of learning logs (JSON Lines) and of profiles. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/mem.h"
#include "io/json.h"
#include "plot.h"
#include "split/profile.h"

enum { MAX_FILES = 16, MAX_NAMES = 8 };

static const char *called(const char *path)
{
    return !strcmp(path, "-") ? "standard input" : path;
}

/* ---- curves ---- */

/* What a member is called on an axis. */
static const struct {
    const char *member, *axis;
} axes[] = {
    {"windows", "windows heard"},
    {"step", "step"},
    {"steps", "steps"},
    {"loss", "loss (nats)"},
    {"linear_probe", "linear probe"},
    {"knn", "k-NN"},
    {"precision_at_10", "precision@10"},
    {"top", "nearest is right"},
    {"gradient", "gradient norm"},
    {"entropy", "entropy (nats)"},
};

static const char *axis_of(const char *member)
{
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++)
        if (!strcmp(axes[i].member, member))
            return axes[i].axis;
    return member;
}

/* A member, or one of an object within ("tags.windows"): a number, or a text that is one. */
static bool member(const cJSON *o, const char *path, double *out)
{
    char key[64];
    while (o) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return false;
        memcpy(key, path, n);
        key[n] = 0;
        o = cJSON_GetObjectItemCaseSensitive(o, key);
        if (!path[n])
            break;
        path += n + 1;
    }
    char *end = NULL;
    if (cJSON_IsString(o)) {
        *out = strtod(o->valuestring, &end);
        return *o->valuestring && !*end && isfinite(*out);
    }
    if (cJSON_IsNumber(o))
        *out = o->valuedouble;
    return cJSON_IsNumber(o);
}

typedef struct curves {
    char names[256]; /* of --y or chosen, commas became NULs */
    const char *x, *y[MAX_NAMES];
    int n;
    double before;                                       /* of the line before, along the axis */
    double low[MAX_NAMES], high[MAX_NAMES], first, last; /* of the values, and along the axis */
} curves;

static int split_names(curves *c, const char *text, ss_err *e)
{
    if (strlen(text) >= sizeof c->names)
        return ss_err_set(e, SS_EINVAL, "--y: too long");
    strcpy(c->names, text);
    for (char *at = c->names, *name; (name = strsep(&at, ","));) {
        if (!*name || c->n == MAX_NAMES)
            return ss_err_set(e, SS_EINVAL, "--y: found '%s', expected 1 to %d names with commas between",
                              text, MAX_NAMES);
        c->y[c->n++] = name;
    }
    return SS_OK;
}

/* What the first line has of what is worth looking at. */
static int choose(curves *c, const plot_input *in, const cJSON *o, ss_err *e)
{
    static const char *const x[] = {"windows", "tags.windows", "steps", "step", "lower_step"},
                             *const y[] = {"loss", "reward", "return",  "linear_probe", "knn",
                                           "top",  "u",      "novelty", "gradient",     "entropy"};
    double v;
    c->x = in->x;
    for (size_t i = 0; !c->x && i < sizeof x / sizeof *x; i++)
        c->x = member(o, x[i], &v) ? x[i] : NULL;
    if (!c->x)
        c->x = "line";
    if (in->y)
        return split_names(c, in->y, e);
    for (size_t i = 0; i < sizeof y / sizeof *y && c->n < 4; i++)
        if (member(o, y[i], &v))
            c->y[c->n++] = y[i];
    return c->n ? SS_OK
                : ss_err_set(e, SS_EUNFIT,
                             "it has none of loss, return, linear_probe and knn: name a member with --y");
}

/* The values of one line: how many rows of data they make. */
static int add_line(curves *c, figure *f, const cJSON *o, uint64_t line)
{
    double x = (double)line, v;
    if (strcmp(c->x, "line") && !member(o, c->x, &x))
        return 0; /* a line about something else */
    bool any = false;
    for (int i = 0; i < c->n; i++)
        any |= member(o, c->y[i], &v);
    if (!any)
        return 0;
    if (x < c->before) /* another run in the same log */
        putc('\n', f->script);
    c->before = x;
    c->first = fmin(c->first, x);
    c->last = fmax(c->last, x);
    figure_number(f, x);
    for (int i = 0; i < c->n; i++) {
        v = NAN;
        member(o, c->y[i], &v);
        c->low[i] = fmin(c->low[i], v);
        c->high[i] = fmax(c->high[i], v);
        figure_number(f, v);
    }
    putc('\n', f->script);
    return 1;
}

static int read_log(curves *c, figure *f, plot_input *in, int file, ss_err *e)
{
    const char *path = in->file[file];
    bool standard = !strcmp(path, "-");
    FILE *log = standard ? stdin : fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    uint64_t line = 0, rows = 0;
    ssize_t n;
    int rc = log ? SS_OK : ss_err_errno(e, "cannot open '%s'", path);
    fprintf(f->script, "$f%d << EOD\n", file);
    c->before = -INFINITY;
    while (rc == SS_OK && (n = getline(&text, &room, log)) >= 0) {
        cJSON *o = NULL;
        line++;
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
            n--;
        if (!n)
            continue;
        rc = ss_json_parse(&o, text, (size_t)n, "log", e);
        if (rc == SS_OK && !c->n)
            rc = choose(c, in, o, e);
        if (rc == SS_OK)
            rows += (uint64_t)add_line(c, f, o, line);
        else
            ss_err_prefix(e, "%s: line %" PRIu64, called(path), line);
        cJSON_Delete(o);
    }
    if (rc == SS_OK && ferror(log))
        rc = ss_err_errno(e, "cannot read '%s'", called(path));
    if ((rc == SS_EDAMAGED || rc == SS_ETRUNC) && rows) { /* what came before is drawn */
        in->late = *e;
        rc = SS_OK;
    }
    if (rc == SS_OK && !rows)
        rc = line ? ss_err_set(e, SS_EUNFIT, "%s: no line has %s%s%s", called(path), c->x,
                               c->n ? " and " : "", c->n ? c->y[0] : "")
                  : ss_err_set(e, SS_EUNFIT, "%s: there is nothing in it to draw", called(path));
    fputs("EOD\n", f->script);
    free(text);
    if (log && !standard)
        fclose(log);
    return rc;
}

/* The last part of a path, without what all have at its end. */
static void short_name(const char *path, char out[24])
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(out, 24, "%s", base);
    char *dot = strrchr(out, '.');
    if (dot && dot != out)
        *dot = 0;
}

static void draw_curves(figure *f, const plot_input *in, const curves *c)
{
    int keys = in->n > 1 ? (in->n + 1) / 2 : 0;
    double top = 2 + 3.2 * keys, bottom = 10.5, each = c->n == 1 ? 38 : 22;
    f->height = top + each * c->n + bottom;
    fputs("set multiplot\nset lmargin at screen 0.18\nset rmargin at screen 0.94\n", f->script);
    figure_axis(f, 'x', c->first, c->last, 6);
    fputs("set format x ''\nunset key\n", f->script);
    for (int i = 0; i < c->n; i++) {
        double y = f->height - top - each * (i + 1);
        fprintf(f->script, "set bmargin at screen %.6g\nset tmargin at screen %.6g\n", y / f->height,
                (y + each - 2.5) / f->height);
        if (keys && !i)
            fprintf(f->script, "set key at screen 0.18,%.6g left top horizontal reverse Left maxcols 2\n",
                    1 - 1 / f->height);
        if (i == c->n - 1) {
            fprintf(f->script, "set format x '%s'\nset xlabel ", c->last < 1e5 ? "%g" : "%.0s%c");
            figure_text(f, axis_of(c->x));
            putc('\n', f->script);
        }
        figure_axis(f, 'y', c->low[i], c->high[i], c->n == 1 ? 6 : 5);
        figure_ylabel(f, axis_of(c->y[i]));
        fputs("plot ", f->script);
        for (int k = 0; k < in->n; k++) {
            char name[24];
            short_name(in->file[k], name);
            fprintf(f->script, "%s$f%d using 1:%d with linespoints linetype %d pointsize 0.3 title ",
                    k ? ", " : "", k, i + 2, 1 + k % FIGURE_COLOURS);
            figure_text(f, name);
        }
        fputs("\nunset key\n", f->script);
    }
    fputs("unset multiplot\n", f->script);
}

int plot_curves(figure *f, plot_input *in, ss_err *e)
{
    curves c = {.first = INFINITY, .last = -INFINITY};
    for (int i = 0; i < MAX_NAMES; i++) {
        c.low[i] = INFINITY;
        c.high[i] = -INFINITY;
    }
    int rc =
        in->n > MAX_FILES ? ss_err_set(e, SS_ELIMIT, "%d logs, %d are the most", in->n, MAX_FILES) : SS_OK;
    for (int i = 0; i < in->n && rc == SS_OK; i++)
        rc = read_log(&c, f, in, i, e);
    for (int i = 0; i < c.n && rc == SS_OK; i++)
        if (c.low[i] > c.high[i])
            rc = ss_err_set(e, SS_EUNFIT, "no line has %s", c.y[i]);
    if (rc == SS_OK)
        draw_curves(f, in, &c);
    return rc;
}

/* ---- rate and fidelity ---- */

static int by_bytes(const void *a, const void *b)
{
    const ss_profile_choice *x = a, *y = b;
    return x->cut != y->cut                ? x->cut - y->cut
           : x->bytes.mean < y->bytes.mean ? -1
                                           : x->bytes.mean > y->bytes.mean;
}

/* How far from perfect: what a logarithmic axis can show of a cosine near 1. */
static double lost(const ss_profile *p, const ss_profile_choice *c)
{
    return p->quality_is_probe ? ss_profile_quality(p, c) : fmax(1 - c->cosine_mean, 1e-7);
}

static double kbit(const ss_profile *p, const ss_profile_choice *c)
{
    return c->bytes.mean * 8 / p->hop_ms;
}

/* The part of the picture in which points lie, in mm, and what its axes show. */
typedef struct rate_axes {
    double wide, high, low[2], top[2];
    bool log_y;
} rate_axes;

static double along(const rate_axes *a, int axis, double v)
{
    double low = a->low[axis], top = a->top[axis];
    if (!axis || a->log_y) {
        v = log10(v);
        low = log10(low);
        top = log10(top);
    }
    return (v - low) / (top - low) * (axis ? a->high : a->wide);
}

/* The names of codecs at the cut input, each on the side of its point where it lies over least. */
static void name_codecs(figure *f, const ss_profile *p, const rate_axes *a)
{
    static const double side[4][2] = {{0.9, 1.6}, {0.9, -1.6}, {-0.9, 1.6}, {-0.9, -1.6}}; /* mm */
    double box[SS_PROFILE_MAX_CHOICES][3]; /* left, middle and width of those that are placed */
    int placed = 0;
    for (size_t i = 0; i < p->n && p->choice[i].cut == SS_CUT_INPUT; i++) {
        const ss_profile_choice *c = &p->choice[i];
        double x = along(a, 0, kbit(p, c)), y = along(a, 1, lost(p, c)),
               wide = 1.1 * (double)strlen(c->codec);
        int best = 0, least = INT32_MAX;
        for (int k = 0; k < 4; k++) {
            double left = x + side[k][0] - (side[k][0] < 0 ? wide : 0), middle = y + side[k][1];
            int over = 0;
            for (int j = 0; j < placed; j++)
                over += 10 * (left < box[j][0] + box[j][2] && box[j][0] < left + wide &&
                              fabs(middle - box[j][1]) < 2);
            for (size_t j = 0; j < p->n; j++) {
                double px = along(a, 0, kbit(p, &p->choice[j])), py = along(a, 1, lost(p, &p->choice[j]));
                over += px > left - 0.5 && px < left + wide + 0.5 && fabs(py - middle) < 1.4;
            }
            if (left < 0 || left + wide > a->wide + 2 || middle < 1 || middle > a->high)
                over += 20;
            best = over < least ? k : best;
            least = over < least ? over : least;
        }
        box[placed][0] = x + side[best][0] - (side[best][0] < 0 ? wide : 0);
        box[placed][1] = y + side[best][1];
        box[placed++][2] = wide;
        fprintf(f->script,
                "set label \"%s\" at %.6g,%.6g %s offset character %g,%g font ',5' textcolor '#404040'\n",
                c->codec, kbit(p, c), lost(p, c), side[best][0] < 0 ? "right" : "left",
                side[best][0] < 0 ? -0.6 : 0.6, side[best][1] < 0 ? -0.55 : 0.55);
    }
}

/* Room around the points; without that of another decade where none is needed. */
static rate_axes rate_ranges(figure *f, const ss_profile *p)
{
    rate_axes a = {0.75 * f->width, 0.62 * f->height, {INFINITY, INFINITY}, {0, 0}, !p->quality_is_probe};
    for (size_t i = 0; i < p->n; i++) {
        double v[2] = {kbit(p, &p->choice[i]), lost(p, &p->choice[i])};
        for (int k = 0; k < 2; k++) {
            a.low[k] = fmin(a.low[k], v[k]);
            a.top[k] = fmax(a.top[k], v[k]);
        }
    }
    for (int k = 0; k < 2; k++) {
        bool log = !k || a.log_y;
        double room =
            log ? pow(fmax(a.top[k] / a.low[k], 2), 0.06) : fmax(0.06 * (a.top[k] - a.low[k]), 0.005);
        a.low[k] = log ? a.low[k] / room : a.low[k] - room;
        a.top[k] = log ? a.top[k] * room : a.top[k] + room;
        if (log && a.top[k] < 30 * a.low[k]) { /* two decades have names at least */
            a.low[k] = pow(10, floor(log10(a.low[k])));
            a.top[k] = pow(10, ceil(log10(a.top[k])));
        }
        fprintf(f->script, "set %crange [%.6g:%.6g]\n", k ? 'y' : 'x', a.low[k], a.top[k]);
    }
    return a;
}

/* How deep a cut is, from dark to light; what is sent in its place or behind all of them stands out. */
static const char *cut_colour(int cut)
{
    static const char *const depth[] = {"#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c",
                                        "#28ae80", "#5ec962", "#a5d42f", "#d8c021"};
    return cut == SS_CUT_INPUT ? "#000000" : cut == SS_CUT_EMBEDDING ? "#d55e00" : depth[(cut - 1) % 9];
}

/* Data of one cut, all of them and those that no other one of the cut beats in both. Returns those behind it.
 */
static size_t rate_series(figure *f, const ss_profile *p, size_t from, int series)
{
    size_t i = from;
    fprintf(f->script, "$p%d << EOD\n", series);
    for (; i < p->n && p->choice[i].cut == p->choice[from].cut; i++)
        fprintf(f->script, "%.6g %.6g\n", kbit(p, &p->choice[i]), lost(p, &p->choice[i]));
    fprintf(f->script, "EOD\n$l%d << EOD\n", series);
    double best = p->quality_is_probe ? -INFINITY : INFINITY;
    for (size_t k = from; k < i; k++) { /* they come by bytes */
        double v = lost(p, &p->choice[k]);
        if (p->quality_is_probe ? v <= best : v >= best)
            continue;
        best = v;
        fprintf(f->script, "%.6g %.6g\n", kbit(p, &p->choice[k]), v);
    }
    fputs("EOD\n", f->script);
    return i;
}

static void draw_rate(figure *f, ss_profile *p)
{
    static const int shape[] = {7, 9, 13, 11, 6, 8, 12, 10, 5, 7};
    int cut[SS_CUT_EMBEDDING + 1], series = 0;
    qsort(p->choice, p->n, sizeof *p->choice, by_bytes);
    f->height = 65;
    for (size_t i = 0; i < p->n; series++) {
        cut[series] = p->choice[i].cut;
        i = rate_series(f, p, i, series);
    }
    rate_axes a = rate_ranges(f, p);
    name_codecs(f, p, &a);
    figure_ylabel(f, p->quality_is_probe ? "probe accuracy" : "1 - cosine to the uncut embedding");
    fprintf(
        f->script,
        "set logscale x\nset format x '%%g'\n"
        "set xlabel 'kbit in a second of sound'\n%s"
        "set lmargin at screen 0.21\nset rmargin at screen 0.96\nset bmargin at screen 0.34\n"
        "set tmargin at screen 0.96\n"
        "set key at screen 0.05,0.17 left top horizontal reverse Left maxcols 4 samplen 1 width -2\nplot ",
        p->quality_is_probe ? "" : "set logscale y\nset format y '%.0te%T'\n");
    /* What is sent in place of a cut has nothing to do with each other: no line. */
    for (int i = 0; i < series; i++)
        if (cut[i] != SS_CUT_INPUT)
            fprintf(f->script, "$l%d using 1:2 with lines linewidth 0.6 linecolor rgb '%s' notitle, ", i,
                    cut_colour(cut[i]));
    for (int i = 0; i < series; i++) {
        bool plain = cut[i] == SS_CUT_INPUT;
        fprintf(f->script,
                "%s$p%d using 1:2 with points pointtype %d pointsize %g*size linecolor rgb '%s' title ",
                i ? ", " : "", i, plain ? 5 : shape[cut[i] - 1], 0.55, cut_colour(cut[i]));
        char name[24];
        snprintf(name, sizeof name, "%s%s", plain || cut[i] == SS_CUT_EMBEDDING ? "" : "cut ",
                 ss_cut_name(cut[i]));
        figure_text(f, name);
    }
    putc('\n', f->script);
}

int plot_rate(figure *f, plot_input *in, ss_err *e)
{
    ss_profile *p = NULL;
    size_t room = 0;
    char *text = NULL;
    int rc;
    if (!strcmp(in->file[0], "-")) {
        ssize_t n = getdelim(&text, &room, 0, stdin); /* a NUL is no part of JSON */
        rc = n < 0 ? ss_err_set(e, SS_EDAMAGED, "standard input is no profile")
                   : ss_profile_parse(&p, text, (size_t)n, "standard input", e);
    } else {
        rc = ss_profile_open(&p, in->file[0], e);
    }
    free(text);
    if (rc == SS_OK && !p->n)
        rc = ss_err_set(e, SS_EUNFIT, "the profile has no choices");
    if (rc == SS_OK)
        draw_rate(f, p);
    ss_profile_free(p);
    return rc;
}
