/* ss-plot: pictures of streams, logs and profiles. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "plot.h"

static const char *plot, *format;
static double width = 80, height;
static plot_input in;
static bool table; /* the file is a trace, and no stream */

static const tool_option options[] = {
    {"plot", 0, OPT_CHOICE, &plot, 0, 0, "spectrogram|map|timeline|latency|curves|rate",
     "what to draw; else by the input", NULL},
    {"format", 0, OPT_CHOICE, &format, 0, 0, "svg|png|gp", "else by the suffix of --output, svg without it",
     NULL},
    {"width", 0, OPT_REAL, &width, 20, 1000, "MM", "of the picture", NULL},
    {"height", 0, OPT_REAL, &height, 0, 1000, "MM", "of the picture, 0 = as the plot needs", NULL},
    {"trace", 0, OPT_STRING, &in.trace, 0, 0, "FILE",
     "timeline: CSV with time_s, a panel for each other column", NULL},
    {"x", 0, OPT_STRING, &in.x, 0, 0, "NAME", "curves: the member of the log along the axis", NULL},
    {"y", 0, OPT_STRING, &in.y, 0, 0, "NAME,...", "curves: members of the log, a panel for each", NULL},
    {"force", 'f', OPT_FLAG, &tool_set.force, 0, 0, NULL, "replace a file that exists; read from a terminal",
     NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-plot", "[FILE...]",
                                     "Draw streams, learning logs and profiles, as SVG or PNG.", TAKES_OUTPUT,
                                     options};

static const struct {
    const char *name;
    int (*draw)(figure *f, plot_input *in, ss_err *e);
    const char *kinds; /* of streams, or NULL */
    bool several;      /* takes more than one file */
} plots[] = {
    {"spectrogram", plot_spectrogram, "logmel", false},
    {"map", plot_map, "embedding", false},
    {"timeline", plot_timeline, "logmel|cut|embedding|return", true},
    {"latency", plot_latency, "pcm|logmel|cut|embedding|return", false},
    {"curves", plot_curves, NULL, true},
    {"rate", plot_rate, NULL, false},
};
enum { NPLOTS = sizeof plots / sizeof *plots };

/* JSON and traces by how they begin; what cannot be looked at twice is a stream. */
static int guess(const char *path, ss_err *e)
{
    char head[64] = "";
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : 0;
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", path);
    ssize_t n = pread(fd, head, sizeof head - 1, 0);
    if (fd)
        close(fd);
    if (n > 0 && head[0] == '{')
        plot = strstr(head, "streamsplit-profile") ? "rate" : "curves";
    if (n > 0 && !strncmp(head, "time_s", 6)) {
        plot = "timeline";
        in.trace = path;
        table = true;
    }
    return SS_OK;
}

static int find(void)
{
    int i = 0;
    while (plot && i < NPLOTS && strcmp(plots[i].name, plot))
        i++;
    return i;
}

static int draw(figure *f, ss_err *e)
{
    int i = 0, rc = plot ? SS_OK : guess(in.file[0], e);
    if (rc == SS_OK && !table && (!plot || plots[find()].kinds))
        rc = tool_reader(&in.r, in.file[0], plot ? plots[find()].kinds : NULL, &in.h, e);
    if (rc < 0)
        return rc;
    if (!plot)
        plot = !strcmp(in.h->kind, "logmel")      ? "spectrogram"
               : !strcmp(in.h->kind, "embedding") ? "map"
               : !strcmp(in.h->kind, "cut")       ? "timeline"
                                                  : "latency";
    i = find();
    if (in.n > 1 && (table || !plots[i].several))
        tool_usage("a %s is drawn of one file, found %d", plot, in.n);
    if (in.trace && plots[i].draw != plot_timeline)
        tool_usage("--trace belongs to a timeline, not to a %s", plot);
    if ((in.x || in.y) && plots[i].draw != plot_curves)
        tool_usage("--x and --y belong to curves, not to a %s", plot);
    rc = figure_open(f, format, width, e);
    if (rc == SS_OK)
        rc = plots[i].draw(f, &in, e);
    if (height > 0)
        f->height = height;
    return rc;
}

int main(int argc, char **argv)
{
    char *standard[] = {"-"};
    ss_err e = {0};
    figure f = {0};
    int first = tool_start(&program, argc, argv), n = argc - first;
    in.file = n ? argv + first : standard;
    in.n = n ? n : 1;
    int rc = figure_finish(&f, draw(&f, &e), &e);
    if (rc >= 0 && in.late.code) { /* what came before it has been drawn */
        e = in.late;
        rc = e.code;
    }
    ss_reader_close(&in.r);
    return tool_finish(rc, &e);
}
