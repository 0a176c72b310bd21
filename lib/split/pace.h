/**
 * How bytes pass a link that follows a trace: they wait in a queue, pass at the trace's bandwidth one after
 * the other, and arrive half a round trip after they have passed. What the link could have carried while
 * nothing waited is lost. Counts only: the bytes themselves, and the clock, are the caller's.
 *
 *     ss_pace_take(&p, now, n);          n bytes have come in
 *     n = ss_pace_due(&p, now);          so many of the oldest may go out now
 *     ss_pace_give(&p, n);               they have gone
 *     wait until ss_pace_next(&p)        or until bytes come in
 *
 * Times are seconds since the start, and do not fall. What is kept of the bytes on their way is bounded:
 * those that pass within a millisecond of one another arrive together, and when SS_PACE_ROOM such groups are
 * on their way, nothing passes until the oldest has arrived. Ownership: the trace is borrowed. One thread.
 */
#ifndef SS_SPLIT_PACE_H
#define SS_SPLIT_PACE_H

#include <stddef.h>
#include <stdint.h>

#include "trace.h"

#define SS_PACE_ROOM 4096

typedef struct ss_pace {
    const ss_trace *trace;
    double start;                  /* place in the trace that is time 0 */
    double bits;                   /* of the trace, used or lost */
    uint64_t in, passed, due, out; /* bytes since the start */
    struct {
        double at; /* arrival */
        uint64_t end;
    } group[SS_PACE_ROOM];
    size_t first, groups;
} ss_pace;

void ss_pace_init(ss_pace *p, const ss_trace *trace, double start);
void ss_pace_take(ss_pace *p, double now, uint64_t n);
uint64_t ss_pace_due(ss_pace *p, double now);
void ss_pace_give(ss_pace *p, uint64_t n);
/** When ss_pace_due will say more; INFINITY when nothing is there or the trace is all outage. */
double ss_pace_next(const ss_pace *p);

#endif
