/**
 * What the machine has used of energy, where it can tell: the counters of RAPL (the platform's, or those of
 * all packages and their memory), or else the gauge of a battery that is being discharged.
 *
 * RAPL counts by itself and wraps round; a gauge tells the power of the moment, which is integrated from
 * reading to reading (trapezoids), so it is to be read often. Who is not root may read RAPL only where the
 * system allows it.
 *
 * Ownership: a meter belongs to one thread. Errors: SS_ENOTSUP (there is nothing to be read, and why; the
 * battery is no longer discharged), SS_EIO, SS_ENOMEM. Source: the kernel's
 * Documentation/power/powercap/powercap.rst and Documentation/ABI/testing/sysfs-class-power.
 */
#ifndef SS_SYS_METER_H
#define SS_SYS_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_meter ss_meter;

/** `root` stands before every path ("" or NULL: the system's own files; a folder for tests). */
int ss_meter_open(ss_meter **m, const char *root, ss_err *e);
void ss_meter_close(ss_meter **m);
bool ss_meter_is_battery(const ss_meter *m);
/** Joules since the first reading, which gives 0. now_ns: monotonic clock. */
int ss_meter_read(ss_meter *m, int64_t now_ns, double *joules, ss_err *e);
/** Joules since the reading before, less what idle_w takes in that time: below 0 where less was used. */
int ss_meter_above(ss_meter *m, double idle_w, int64_t now_ns, double *joules, ss_err *e);
/** Listen to a machine at rest for `seconds`, or until a signal comes (SS_ESTOPPED): watts. */
int ss_meter_rest(ss_meter *m, double seconds, double *watts, ss_err *e);

#endif
