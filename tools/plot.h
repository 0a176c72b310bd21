/* The plots of ss-plot: each reads its input and writes a script for gnuplot. */
#ifndef SS_TOOLS_PLOT_H
#define SS_TOOLS_PLOT_H

#include "figure.h"

typedef struct plot_input {
    char *const *file; /* [n], "-" = standard input */
    int n;
    ss_reader *r; /* of the first file, where the plot is one of streams */
    const ss_header *h;
    const char *trace; /* CSV, or NULL */
    const char *x, *y; /* members of a log, or NULL */
    ss_err late;       /* what was wrong behind the records that are drawn; code 0: nothing */
} plot_input;

int plot_spectrogram(figure *f, plot_input *in, ss_err *e);
int plot_map(figure *f, plot_input *in, ss_err *e);
int plot_timeline(figure *f, plot_input *in, ss_err *e);
int plot_latency(figure *f, plot_input *in, ss_err *e);

int plot_curves(figure *f, plot_input *in, ss_err *e);
int plot_rate(figure *f, plot_input *in, ss_err *e);

#endif
