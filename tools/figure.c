#include "figure.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/atomic.h"

#define FONT_PT  7.0
#define PNG_DPI  300
#define MM_INCH  25.4
#define MAX_MADE (256 << 20)

extern char **environ;

/* Lines no thinner and letters no smaller than print at this size needs; Viridis for what has a scale. */
static const char style[] =
    "set border 3 linewidth 0.6 linecolor '#404040'\n"
    "set tics out nomirror scale 0.5 textcolor '#202020'\n"
    "set grid linewidth 0.4 linecolor '#dddddd'\n"
    "set key samplen 1.2 spacing 1.1 noenhanced textcolor '#202020' font ',6'\n"
    "set xtics offset 0,0.3\n"
    "set xlabel offset 0,0.6\n"
    "set linetype 1 linecolor '#0072b2' linewidth 1.2 pointtype 7\n"
    "set linetype 2 linecolor '#d55e00' linewidth 1.2 pointtype 5\n"
    "set linetype 3 linecolor '#009e73' linewidth 1.2 pointtype 9\n"
    "set linetype 4 linecolor '#cc79a7' linewidth 1.2 pointtype 13\n"
    "set linetype 5 linecolor '#56b4e9' linewidth 1.2 pointtype 11\n"
    "set linetype 6 linecolor '#e69f00' linewidth 1.2 pointtype 6\n"
    "set linetype 7 linecolor '#000000' linewidth 1.2 pointtype 4\n"
    "set linetype 8 linecolor '#999999' linewidth 1.2 pointtype 8\n"
    "set linetype cycle 8\n"
    "set palette defined (0 '#440154', 1 '#482878', 2 '#3e4a89', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', "
    "6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')\n"
    "set datafile missing 'NaN'\n";

static const char *suffix_format(const char *path)
{
    const char *dot = path ? strrchr(path, '.') : NULL;
    if (!path || !strcmp(path, "-"))
        return "svg";
    return !dot                   ? NULL
           : !strcmp(dot, ".svg") ? "svg"
           : !strcmp(dot, ".png") ? "png"
           : !strcmp(dot, ".gp")  ? "gp"
                                  : NULL;
}

int figure_open(figure *f, const char *format, double width, ss_err *e)
{
    struct stat st;
    *f = (figure){.format = format ? format : suffix_format(tool_set.output), .width = width};
    if (!f->format)
        return ss_err_set(e, SS_EINVAL,
                          "--output: the name '%s' ends in none of .svg, .png and .gp: name --format",
                          tool_set.output);
    if (!tool_set.output && isatty(1) && !strcmp(f->format, "png"))
        return ss_err_set(e, SS_EINVAL, "standard output is a terminal: use a pipe or -o FILE");
    if (tool_set.output && !tool_set.force && !stat(tool_set.output, &st) && S_ISREG(st.st_mode))
        return ss_err_set(e, SS_EIO, "'%s' exists: use --force to replace it", tool_set.output);
    f->script = open_memstream(&f->text, &f->size);
    if (!f->script)
        return ss_err_errno(e, "cannot collect the picture");
    return SS_OK;
}

/* What stands before every script. */
static void prelude(const figure *f, FILE *to)
{
    bool png = !strcmp(f->format, "png");
    double scale = (png ? PNG_DPI : 96) / MM_INCH;
    fprintf(to, "set encoding utf8\n");
    if (png) /* its own sizes are for 72 dots an inch */
        fprintf(to,
                "set terminal pngcairo size %.0f,%.0f font 'sans,%g' fontscale %.4g linewidth %.4g "
                "pointscale %.4g "
                "background '#ffffff' noenhanced\n",
                f->width * scale, f->height * scale, FONT_PT, PNG_DPI / 96.0, PNG_DPI / 96.0,
                PNG_DPI / 96.0 * 0.5);
    else
        fprintf(
            to,
            "set terminal svg size %.0f,%.0f font 'sans,%.3g' linewidth 1 background '#ffffff' noenhanced "
            "standalone name 'streamsplit'\n",
            f->width * scale, f->height * scale, FONT_PT * 96 / 72);
    if (!png)
        fputs("set pointsize 0.4\n", to);
    fprintf(to, "size = %g\n", png ? 1 : 0.6); /* of points, so that they come out the same */
    fputs(style, to);
}

void figure_text(figure *f, const char *s)
{
    putc('\'', f->script);
    for (; *s; s++)
        putc((unsigned char)*s < ' ' || *s == 0x7f || *s == '\'' || *s == '`' ? '?' : *s, f->script);
    putc('\'', f->script);
}

void figure_ylabel(figure *f, const char *s)
{
    fputs("set label 100 ", f->script);
    figure_text(f, s);
    fputs(" at screen 0.035,graph 0.5 center rotate by 90\n", f->script);
}

void figure_number(figure *f, double v)
{
    if (isfinite(v))
        fprintf(f->script, " %.9g", v);
    else
        fputs(" NaN", f->script);
}

void figure_axis(figure *f, char axis, double low, double high, int most)
{
    double span = high > low ? high - low : fabs(low) > 0 ? fabs(low) : 1, step = pow(10, floor(log10(span)));
    while (span / step > most - 1)
        step *= 10;
    static const double finer[] = {5, 2, 1};
    double best = step;
    for (size_t i = 0; i < 3; i++)
        if (span / (step * finer[i] / 10) <= most - 1)
            best = step * finer[i] / 10;
    low = floor(low / best + 1e-9) * best;
    high = ceil(high / best - 1e-9) * best;
    fprintf(f->script, "set %crange [%.9g:%.9g]\nset %ctics %.9g\n", axis, low,
            high > low ? high : low + best, axis, best);
}

/* All that is in a file, into memory; ends in NUL. */
static char *all_of(FILE *f, size_t *n)
{
    struct stat st;
    rewind(f);
    if (fstat(fileno(f), &st) || st.st_size > MAX_MADE)
        return NULL;
    char *text = ss_alloc((size_t)st.st_size + 1, 1);
    if (text) {
        *n = fread(text, 1, (size_t)st.st_size, f);
        text[*n] = 0;
    }
    return text;
}

/* Script from `in`, picture to `out`, words to `words`. */
static int run_gnuplot(FILE *in, FILE *out, FILE *words, ss_err *e)
{
    char *argv[] = {"gnuplot", "--default-settings", NULL};
    posix_spawn_file_actions_t act;
    pid_t pid;
    int status = 0, rc = posix_spawn_file_actions_init(&act);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&act, fileno(in), 0);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&act, fileno(out), 1);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&act, fileno(words), 2);
    if (!rc)
        rc = posix_spawnp(&pid, argv[0], &act, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&act);
    if (rc == ENOENT)
        return ss_err_set(e, SS_ENOTSUP,
                          "there is no gnuplot, which draws the pictures: install gnuplot-nox");
    errno = rc;
    if (rc)
        return ss_err_errno(e, "cannot run gnuplot");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return ss_err_errno(e, "cannot wait for gnuplot");
    size_t n = 0;
    char *said = all_of(words, &n);
    if (status) {
        /* Its last lines say what was wrong, behind a copy of the command. */
        char *at = said ? strstr(said, "line ") : NULL;
        at = at ? at : said;
        if (at)
            at[strcspn(at, "\n")] = 0;
        ss_err_set(e, SS_EIO, "gnuplot failed (status %d): %.200s",
                   WIFEXITED(status) ? WEXITSTATUS(status) : -1, at ? at : "");
    } else if (n) {
        tool_info("gnuplot: %s", said);
    }
    ss_free(said);
    return status ? SS_EIO : SS_OK;
}

static int put(const char *data, size_t n, ss_err *e)
{
    if (tool_set.output && strcmp(tool_set.output, "-"))
        return ss_atomic_put(tool_set.output, 0, data, n, e);
    fwrite(data, 1, n, stdout); /* checked when it is closed */
    return SS_OK;
}

static int draw(figure *f, ss_err *e)
{
    size_t n = 0;
    char *made = NULL;
    FILE *in = tmpfile(), *out = tmpfile(), *words = tmpfile();
    int rc = in && out && words ? SS_OK : ss_err_errno(e, "cannot create a temporary file");
    if (!rc) {
        prelude(f, in);
        if (fwrite(f->text, 1, f->size, in) != f->size || fflush(in))
            rc = ss_err_errno(e, "cannot write a temporary file");
        rewind(in);
    }
    const bool script = !strcmp(f->format, "gp");
    if (!rc && !script)
        rc = run_gnuplot(in, out, words, e);
    if (!rc && (!(made = all_of(script ? in : out, &n)) || !n))
        rc = ss_err_set(e, SS_EIO, "gnuplot has drawn nothing");
    if (!rc)
        rc = put(made, n, e);
    ss_free(made);
    FILE *const files[] = {in, out, words};
    for (int i = 0; i < 3; i++)
        if (files[i])
            fclose(files[i]);
    return rc;
}

int figure_finish(figure *f, int rc, ss_err *e)
{
    if (f->script) {
        bool bad = ferror(f->script);
        if ((fclose(f->script) || bad) && rc >= 0)
            rc = ss_err_set(e, SS_ENOMEM, "no memory for the picture");
    }
    if (rc >= 0 && f->script)
        rc = draw(f, e);
    free(f->text);
    *f = (figure){0};
    return rc;
}
