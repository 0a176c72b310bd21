/* One program at a time learns a model: a lock on MODEL.lock, which goes with the process, whatever ends it.
 */
#ifndef SS_TOOLS_OWNER_H
#define SS_TOOLS_OWNER_H

#include <stdbool.h>

#include "base/err.h"

/*
 * The descriptor that holds the lock, or an error (SS_EIO: another program has it). With `take_over` a
 * refiner that has it, whose connection may be dead without its knowing, is asked to end (SIGTERM, as often
 * as twice) and waited for, ten seconds at most; it is told from other owners by what stands in the file: its
 * process number, and "refine".
 */
int owner_take(const char *model, bool take_over, ss_err *e);

#endif
