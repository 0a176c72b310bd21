/**
 * How busy the processors are: those of the machine, the share of a quota that confines this process, and
 * pressure. All of it is since the call before.
 *
 *   machine   1 - (idle + iowait) / all of /proc/stat, over all processors; what a hypervisor took for others
 *             (steal) counts as busy.
 *   quota     largest share of its quota that a control group around this process has used: version 2
 *             cpu.max and usage_usec of cpu.stat, version 1 cpu.cfs_quota_us, cpu.cfs_period_us and
 *             cpuacct.usage, of the process's own group and all above it that can be seen.
 *   pressure  share of the time in which somebody who could run waited for a processor ("some" of
 *             /proc/pressure/cpu and of cpu.pressure of the process's own group: the larger one).
 *   load      the larger of machine and quota: what decisions are made by.
 * All lie in [0, 1], NaN when not known: at the first call, where the system has no such file, when a file
 * is not what it should be, when a counter goes back.
 *
 * Ownership: a load belongs to one thread. Errors: SS_ENOMEM. Source: proc(5), and the kernel's
 * Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpuacct.rst, scheduler/sched-bwc.rst and
 * accounting/psi.rst.
 */
#ifndef SS_SYS_LOAD_H
#define SS_SYS_LOAD_H

#include <stdint.h>

#include "../base/err.h"

typedef struct ss_load ss_load;

typedef struct ss_load_sample {
    double machine, quota, pressure, load;
} ss_load_sample;

/**
 * Find out where the group of this process is. `root` stands before every path ("" or NULL: the system's own
 * files; a folder for tests).
 */
int ss_load_open(ss_load **l, const char *root, ss_err *e);
void ss_load_close(ss_load **l);

/**
 * Read the counters. now_ns: monotonic clock; a call less than 10 ms after the one before gives its sample
 * again. Returns 1 when something is wrong that has not been said yet, and e->text says it; else 0.
 */
int ss_load_read(ss_load *l, int64_t now_ns, ss_load_sample *s, ss_err *e);

#endif
