/* Pictures by gnuplot: a script is collected, run by one gnuplot, and what it draws goes to the output. */
#ifndef SS_TOOLS_FIGURE_H
#define SS_TOOLS_FIGURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common.h"

#define FIGURE_COLOURS 8 /* line types 1..8: Okabe and Ito's, told apart by all kinds of colour vision */

typedef struct figure {
    FILE *script; /* to be written to between open and finish */
    char *text;
    size_t size;
    const char *format;   /* "svg", "png" or "gp" */
    double width, height; /* mm; the plot says how high it is to be */
} figure;

/* `format`: "svg", "png", "gp" for the script itself, or NULL: by the suffix of --output, svg without it.
 * SS_EINVAL: a suffix that says nothing. */
int figure_open(figure *f, const char *format, double width, ss_err *e);
/* A text in quotes, with nothing left in it that gnuplot would take for more than text. */
void figure_text(figure *f, const char *s);
/* What stands beside the axis on the left, of this plot and those behind it, at the edge of the picture:
 * gnuplot's own place for it depends on how wide it takes the numbers of the axis to be, which in SVG it
 * cannot know. */
void figure_ylabel(figure *f, const char *s);
/* A number, or NaN. */
void figure_number(figure *f, double v);
/* An axis ('x', 'y') from low to high or a little beyond, with at most so many numbers on it. */
void figure_axis(figure *f, char axis, double low, double high, int most);
/* Draw, unless rc < 0, and write to --output or standard output. Returns rc, SS_ENOTSUP (no gnuplot), SS_EIO.
 */
int figure_finish(figure *f, int rc, ss_err *e);

#endif
