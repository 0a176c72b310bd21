#include "sys/bandwidth.h"

#include <math.h>

/* Weight of what was before, for each new point: some 100 are remembered. */
static const double FADE = 0.99;
static const double LATE = 3; /* standard deviations from which a point counts for less */
static const int ENOUGH = 8;
static const int CHANGED = 5;      /* points that did not fit, less those that did */
static const double AT_ONCE = 0.2; /* ms: sends that follow so soon are one */

void ss_bandwidth_reset_burst(ss_bandwidth *l)
{
    l->burst = 0;
    l->since = l->last = 0;
    l->clear = false;
}

/* Standard error of the slope. */
static double uncertainty(const ss_bandwidth *l)
{
    double mx = l->w > 0 ? l->x / l->w : 0, sxx = l->w > 0 ? l->xx / l->w - mx * mx : 0;
    return l->points >= ENOUGH && sxx > 0 ? sqrt(l->noise / (sxx * l->w)) : INFINITY;
}

/* A burst goes on where the link was surely busy, and begins where it was surely idle. In between nothing is
 * learnt: whoever believed his own estimate there would confirm it. */
ss_bandwidth_mark ss_bandwidth_sent(ss_bandwidth *l, uint64_t n, ss_bandwidth_link state, int64_t now)
{
    double ms = (double)(now - l->since) / 1e6, error = 2 * uncertainty(l);
    double after = (double)(now - l->last) / 1e6;
    bool busy =
        state == SS_BANDWIDTH_BUSY || after <= AT_ONCE || (isfinite(error) && ms < (l->b - error) * l->burst);
    if (state == SS_BANDWIDTH_EMPTY || (!busy && isfinite(error) && ms > (l->b + error) * l->burst)) {
        l->since = now;
        l->burst = 0;
        l->clear = true;
    } else if (!busy) {
        l->clear = false;
    }
    l->last = now;
    l->burst += (double)n / 1e3;
    return (ss_bandwidth_mark){l->since, l->clear ? l->burst : 0};
}

/* Least squares from the sums; the slope is never negative. */
static void fit(ss_bandwidth *l)
{
    double mx = l->x / l->w, my = l->y / l->w, sxx = l->xx / l->w - mx * mx, sxy = l->xy / l->w - mx * my;
    l->b = sxx > 1e-9 * (mx * mx + 1e-9) ? fmax(0, sxy / sxx) : 0;
    l->a = fmax(0, my - l->b * mx);
    if (l->points > ENOUGH)
        return;
    double rest = l->yy / l->w - my * my - l->b * (2 * sxy - l->b * sxx);
    l->noise = fmax(0, rest) * l->w / fmax(1, l->w - 2);
}

static void forget(ss_bandwidth *l, double factor)
{
    l->w *= factor;
    l->x *= factor;
    l->y *= factor;
    l->xx *= factor;
    l->xy *= factor;
    l->yy *= factor;
}

void ss_bandwidth_acknowledged(ss_bandwidth *l, ss_bandwidth_mark m, int64_t server_us, int64_t now)
{
    double t = (double)(now - m.since) / 1e6 - (double)server_us / 1e3, weight = 1;
    if (!(t >= 0) || !(m.sent > 0))
        return;
    if (l->points >= ENOUGH) {
        double off = fabs(t - (l->a + l->b * m.sent)), bound = LATE * sqrt(l->noise) + 0.05;
        if (off > bound)
            weight = bound / off;
        l->noise += 0.02 * (fmin(off, bound) * fmin(off, bound) - l->noise);
        /* A link that has changed is no noise: what was is as good as forgotten. */
        l->unfit = weight < 1 ? l->unfit + 1 : l->unfit * 0.8;
        if (l->unfit > CHANGED) {
            forget(l, 0.02);
            l->points = 0;
            l->unfit = 0;
            weight = 1;
        }
        forget(l, FADE);
    }
    l->w += weight;
    l->x += weight * m.sent;
    l->y += weight * t;
    l->xx += weight * m.sent * m.sent;
    l->xy += weight * m.sent * t;
    l->yy += weight * t * t;
    l->points++;
    fit(l);
}

bool ss_bandwidth_rate(const ss_bandwidth *l, double *bit_s)
{
    if (l->points < ENOUGH || l->b <= 0)
        return false;
    if (l->b < 3 * uncertainty(l))
        return false;
    *bit_s = 8e6 / l->b;
    return true;
}

bool ss_bandwidth_rtt(const ss_bandwidth *l, double *ms)
{
    *ms = l->a;
    return l->points > 0;
}
