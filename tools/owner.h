/* What a program does that owns a model and learns it: one at a time, by a lock on MODEL.lock, which goes
 * with the process, whatever ends it; its share of the time; when it saves; what it goes on from. */
#ifndef SS_TOOLS_OWNER_H
#define SS_TOOLS_OWNER_H

#include <stdbool.h>

#include "common.h"
#include "nn/checkpoint.h"
#include "nn/model.h"

/*
 * The descriptor that holds the lock, or an error (SS_EIO: another program has it). With `take_over` a
 * refiner that has it, whose connection may be dead without its knowing, is asked to end (SIGTERM, as often
 * as twice) and waited for, ten seconds at most; it is told from other owners by what stands in the file: its
 * process number, and "refine".
 */
int owner_take(const char *model, bool take_over, ss_err *e);

/* For steps, in seconds of the processor: a share of the time that passes; what is not used is kept for ten
 * seconds. A share of 1 is no limit. */
tool_budget owner_budget(double share);
bool owner_affords(tool_budget *b);

typedef struct owner_pace {
    int windows;      /* from save to save, 0 = by seconds alone */
    double seconds;   /* 0 = never */
    int64_t saved_ns; /* monotonic clock */
} owner_pace;
/* Save, if it is time by the number of windows heard (0 does not count) or by the clock (if it has a say).
 * True when it has been done; a failure is said, and the clock begins anew. */
bool owner_saves(owner_pace *p, uint64_t windows, bool clock, int (*save)(ss_err *e));

/* The checkpoint to go on from, NULL when there is none; that the one before it is taken is said. */
int owner_checkpoint(ss_checkpoint **c, const char *path, ss_err *e);
/* Its state has been taken: `m` is of that generation, and its file is written again when a kill came between
 * the two. */
int owner_goes_on(ss_model *m, const char *model, const char *checkpoint, uint64_t windows,
                  uint64_t generation, ss_err *e);

#endif
