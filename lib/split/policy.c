#include "split/policy.h"

#include <math.h>

#include "io/stream.h"

enum { BLOCKS = SS_CUT_EMBEDDING - SS_CUT_BLOCK0 - 1 };

static double held(double v, double most)
{
    return isnan(v) ? v : fmin(fmax(v / most, 0), 1);
}

static double or_half(double v)
{
    return isnan(v) ? SS_POLICY_UNKNOWN : v;
}

ss_policy_wish ss_policy_ask(const ss_policy_config *c, const ss_policy_input *in)
{
    ss_policy_wish w = {c->cut, NAN, or_half(held(in->cpu, 1)),
                        or_half(held(in->bandwidth, c->bandwidth_max))};
    if (in->set >= 0) {
        w.cut = in->set;
        return w;
    }
    if (c->kind != SS_POLICY_HEURISTIC)
        return w;
    w.x = BLOCKS * (0.6 * (1 - w.cpu) + 0.4 * (c->sign == SS_SIGN_PAPER ? w.bw : 1 - w.bw));
    w.cut = SS_CUT_BLOCK0 + (int)fmin(fmax(floor(w.x), 1), BLOCKS - 1);
    return w;
}

const char *ss_policy_why_name(int why)
{
    static const char *const name[] = {"", "first", "time", "sharp change", "by hand"};
    return why > SS_POLICY_NONE && why <= SS_POLICY_BY_HAND ? name[why] : "";
}

void ss_policy_init(ss_policy *p, const ss_policy_config *c)
{
    *p = (ss_policy){.config = *c, .cut = -1};
}

/* Is x so far from the cut in force that another one is to follow? At both ends the range of a cut is open.
 */
static bool leaves(int cut, const ss_policy_wish *w)
{
    int k = cut - SS_CUT_BLOCK0;
    if (isnan(w->x) || k < 1 || k > BLOCKS - 1)
        return true;
    return w->x < k - SS_POLICY_MARGIN || w->x >= k + 1 + SS_POLICY_MARGIN;
}

int ss_policy_step(ss_policy *p, const ss_policy_input *in, ss_policy_wish *w)
{
    int why = SS_POLICY_NONE;
    *w = ss_policy_ask(&p->config, in);
    bool set = in->set >= 0, sharp = !isnan(w->x) && (fabs(w->cpu - p->cpu) >= SS_POLICY_SHARP ||
                                                      fabs(w->bw - p->bw) >= SS_POLICY_SHARP);
    if (p->cut < 0)
        why = SS_POLICY_FIRST;
    else if (set != p->set || (set && w->cut != p->cut))
        why = SS_POLICY_BY_HAND;
    else if (sharp)
        why = SS_POLICY_SHARP_CHANGE;
    else if (!p->left)
        why = SS_POLICY_TIME;
    if (!why) {
        p->left--;
        return why;
    }
    if (why == SS_POLICY_FIRST || why == SS_POLICY_BY_HAND || leaves(p->cut, w))
        p->cut = w->cut;
    p->set = set;
    p->cpu = w->cpu;
    p->bw = w->bw;
    p->left = (uint64_t)p->config.every - 1;
    return why;
}
