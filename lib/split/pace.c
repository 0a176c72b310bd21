#include "split/pace.h"

#include <math.h>
#include <string.h>

static const double TOGETHER_S = 1e-3;
static const uint64_t PIECE =
    SS_TRACE_MTU; /* that is waited for, so that a fast link does not wake all the time */

void ss_pace_init(ss_pace *p, const ss_trace *trace, double start)
{
    memset(p, 0, sizeof *p);
    p->trace = trace;
    p->start = start;
    p->bits = ss_trace_bits(trace, start);
}

static void pass(ss_pace *p, double now)
{
    double could = ss_trace_bits(p->trace, p->start + now), whole = floor((could - p->bits) / 8 + 1e-6);
    uint64_t waits = p->in - p->passed;
    if (waits && p->groups < SS_PACE_ROOM && whole >= 1) {
        uint64_t n = whole < (double)waits ? (uint64_t)whole : waits;
        double at = now + ss_trace_at(p->trace, p->start + now).rtt / 2e3;
        size_t last = (p->first + p->groups - 1) % SS_PACE_ROOM;
        if (p->groups && at < p->group[last].at) /* none overtakes another */
            at = p->group[last].at;
        if (!p->groups || at - p->group[last].at > TOGETHER_S) {
            last = (p->first + p->groups++) % SS_PACE_ROOM;
            p->group[last].at = at;
        }
        p->passed += n;
        p->group[last].end = p->passed;
        p->bits += 8 * (double)n;
    }
    if (p->passed == p->in)
        p->bits = could;
}

void ss_pace_take(ss_pace *p, double now, uint64_t n)
{
    pass(p, now);
    p->in += n;
}

uint64_t ss_pace_due(ss_pace *p, double now)
{
    pass(p, now);
    while (p->groups && p->group[p->first].at <= now) {
        p->due = p->group[p->first].end;
        p->first = (p->first + 1) % SS_PACE_ROOM;
        p->groups--;
    }
    return p->due - p->out;
}

void ss_pace_give(ss_pace *p, uint64_t n)
{
    p->out += n;
}

double ss_pace_next(const ss_pace *p)
{
    uint64_t waits = p->in - p->passed;
    double next = p->groups ? p->group[p->first].at : INFINITY;
    if (!waits || p->groups == SS_PACE_ROOM)
        return next;
    double bits = 8 * (double)(waits < PIECE ? waits : PIECE);
    return fmin(next, ss_trace_when_bits(p->trace, p->bits + bits) - p->start);
}
