/* ss-train --refine: windows that devices send, cut anywhere, are finished, rated and learnt from; what goes
 * back to them is the return stream. */
#ifndef SS_TOOLS_REFINE_H
#define SS_TOOLS_REFINE_H

#include "common.h"
#include "learn/refiner.h"

typedef struct refine_settings {
    const char *model;        /* file, required */
    const char *checkpoint;   /* file, or NULL; required with a journal */
    const char *journal;      /* folder, or NULL */
    const char *log;          /* file, or NULL */
    const char *embeddings;   /* file to write finished embeddings to, or NULL */
    int dtype;                /* of these */
    int gradients;            /* dtype of those sent back, 0 = none */
    uint64_t gradient_budget; /* bytes a second of them; 0 = any */
    bool labels;              /* are learnt from */
    const char *state;        /* state directory, or NULL */
    int sync_every;       /* windows from weight delta to weight delta; 0 = none; they need a checkpoint */
    uint64_t sync_budget; /* bytes an hour of them; 0 = any */
    int sync_levels;      /* of a delta */
    int lag;              /* versions by which an embedding may be behind and be learnt from */
    int mixture_every;    /* windows from mixture to mixture; 0 = none */
    int save_windows;     /* from save to save; 0 = by seconds alone */
    double save_seconds;  /* 0 = never */
    double budget;        /* share of a core for steps, 1 = no limit */
    ss_refiner_config config;
} refine_settings;

/* The whole filter from `input` (NULL = standard input) to the output. Returns what tool_finish takes. */
int refine_run(const refine_settings *s, const char *input, ss_err *e);

#endif
