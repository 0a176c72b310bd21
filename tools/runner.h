/* What ss-encode and ss-finish have in common: windows run through the network from cut to cut. */
#ifndef SS_TOOLS_RUNNER_H
#define SS_TOOLS_RUNNER_H

#include "common.h"

enum { RUNNER_AUTO = -1 };

typedef struct runner_settings {
    const char *model; /* file, required */
    bool follow;       /* take up the file anew, between records, when it was replaced */
    const char *dtype; /* of payloads written: "f32", "f16", "i8" */
    int batch;         /* most records in one run; only what can be read without waiting is put together */
    int from;          /* cut that data records are at; RUNNER_AUTO: as stream and records say */
    int until;         /* cut to run to; RUNNER_AUTO: as each record of features is stamped */
    int work, wait;    /* attributes of the stage's times */
} runner_settings;

/* The whole filter from `input` (NULL = standard input) to the output. Returns what tool_finish takes. */
int runner_run(const runner_settings *s, const char *input, ss_err *e);

#endif
