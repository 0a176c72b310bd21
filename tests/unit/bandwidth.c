#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "sys/bandwidth.h"
#include "unit.h"

/* A link: sends wait for those before, take `b` ms per kilobyte, and are acknowledged `a` ms later, plus
 * jitter (exponential, mean `jitter`). Acknowledgements keep their order, as those of one connection do. */
typedef struct link_sim {
    double a, b, jitter, free_at, acked_at; /* ms */
    ss_rng g;
} link_sim;

enum { MOST = 64 };

typedef struct flight {
    ss_bandwidth_mark mark;
    double back; /* ms */
    double server;
} flight;

static double exponential(ss_rng *g, double mean)
{
    return -mean * log(1 - ss_rng_u32(g) / 4294967296.0);
}

/* `n` sends of sizes from `lo` to `hi` bytes, log-uniform, `pause` ms apart on average; every fifth one is a
 * probe of 48 bytes. */
static void traffic(ss_bandwidth *l, link_sim *s, double *now, int n, double lo, double hi, double pause)
{
    flight f[MOST];
    int flying = 0;
    for (int i = 0; i < n; i++) {
        *now += exponential(&s->g, pause);
        while (flying && (f[0].back <= *now || flying == MOST)) {
            if (f[0].back > *now)
                *now = f[0].back;
            ss_bandwidth_acknowledged(l, f[0].mark, (int64_t)(f[0].server * 1e3), (int64_t)(f[0].back * 1e6));
            memmove(f, f + 1, (size_t)--flying * sizeof *f);
        }
        double u = ss_rng_u32(&s->g) / 4294967296.0, bytes = floor(exp(log(lo) + u * log(hi / lo)));
        if (i % 5 == 0 && !flying)
            bytes = 48;
        flight *k = &f[flying];
        k->mark = ss_bandwidth_sent(l, (uint64_t)bytes, flying ? SS_BANDWIDTH_UNSURE : SS_BANDWIDTH_EMPTY,
                                    (int64_t)(*now * 1e6));
        s->free_at = fmax(s->free_at, *now) + s->b * bytes / 1e3;
        k->server = bytes > 48 ? 5 + exponential(&s->g, 10) : 0; /* known to the microsecond */
        k->back = s->free_at + s->a + exponential(&s->g, s->jitter) + k->server;
        if (k->back <
            s->acked_at) /* behind one that took longer: the other side counts that as its own time */
            k->server += s->acked_at - k->back, k->back = s->acked_at;
        s->acked_at = k->back;
        flying++;
    }
    for (int i = 0; i < flying; i++)
        ss_bandwidth_acknowledged(l, f[i].mark, (int64_t)(f[i].server * 1e3), (int64_t)(f[i].back * 1e6));
    if (flying)
        *now = fmax(*now, f[flying - 1].back);
}

static void within(const ss_bandwidth *l, const link_sim *s, double bound, const char *what)
{
    double rate, rtt;
    ck_assert_msg(ss_bandwidth_rate(l, &rate), "%s: no estimate", what);
    ck_assert(ss_bandwidth_rtt(l, &rtt));
    double want = 8e6 / s->b, a = s->a + s->jitter;
    ck_assert_msg(fabs(rate / want - 1) < bound, "%s: %.0f bit/s, truth %.0f", what, rate, want);
    ck_assert_msg(fabs(rtt - a) < bound * a + 1, "%s: %.2f ms, truth %.2f", what, rtt, a);
}

/* 64 kbit/s to 100 Mbit/s, 2 to 200 ms, one after the other and in bursts: within 10 %. */
START_TEST(known_links)
{
    int known = 0;
    static const double kbit[] = {64, 1000, 20000, 100000}, rtt[] = {2, 30, 200};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            for (int dense = 0; dense < 2; dense++) {
                link_sim s = {
                    .a = rtt[j], .b = 8 / kbit[i] * 1e3, .g = ss_rng_make(3, (uint64_t)(i * 10 + j))};
                ss_bandwidth l = {0};
                char what[80];
                double now = 1000, hi = fmin(400000, fmax(6000, 4 * rtt[j] / s.b * 1e3));
                s.jitter = 0.1 * fmin(s.a, s.b * hi / 1e3);
                traffic(&l, &s, &now, dense ? 1200 : 400, 200, hi,
                        dense ? s.b * hi / 1e3 / 3 : s.a + 2 * s.b * hi / 1e3);
                snprintf(what, sizeof what, "%g kbit/s, %g ms, %s", kbit[i], rtt[j],
                         dense ? "dense" : "thin");
                /* Where the link hardly ever falls idle, it may take long to know; never to be wrong. */
                double rate;
                if (!dense || ss_bandwidth_rate(&l, &rate))
                    within(&l, &s, 0.1, what);
                known += dense && ss_bandwidth_rate(&l, &rate);
            }
    ck_assert_int_ge(known, 6);
}
END_TEST

/* A link that is always busy, because there is more to send than it takes: what it takes is known. */
START_TEST(saturated)
{
    link_sim s = {.a = 40, .b = 4, .jitter = 4, .g = ss_rng_make(4, 4)};
    ss_bandwidth l = {0};
    ss_bandwidth_mark mark[10];
    double back[10], now = 0;
    for (int i = 0; i < 200;
         i++) { /* ten records of 6 kB fit into the link, one is acknowledged for each sent */
        if (i >= 10) {
            now = back[i % 10];
            ss_bandwidth_acknowledged(&l, mark[i % 10], 0, (int64_t)(now * 1e6));
        }
        mark[i % 10] =
            ss_bandwidth_sent(&l, 6000, i ? SS_BANDWIDTH_BUSY : SS_BANDWIDTH_EMPTY, (int64_t)(now * 1e6));
        s.free_at = fmax(s.free_at, now) + s.b * 6;
        back[i % 10] = s.acked_at = fmax(s.acked_at, s.free_at + s.a + exponential(&s.g, s.jitter));
    }
    within(&l, &s, 0.1, "saturated");
}
END_TEST

/* All records of one size: probes make the difference, and without them nothing is claimed. */
START_TEST(one_size)
{
    link_sim s = {.a = 20, .b = 8, .jitter = 2, .g = ss_rng_make(5, 5)};
    ss_bandwidth l = {0};
    double now = 0, rate;
    traffic(&l, &s, &now, 300, 6200, 6200.0001, 500);
    within(&l, &s, 0.1, "one size");
    l = (ss_bandwidth){0};
    for (int i = 0; i < 300; i++) {
        now += 500;
        ss_bandwidth_mark m = ss_bandwidth_sent(&l, 6200, SS_BANDWIDTH_EMPTY, (int64_t)(now * 1e6));
        ss_bandwidth_acknowledged(&l, m, 0, (int64_t)((now + 70 + exponential(&s.g, 2)) * 1e6));
    }
    ck_assert(!ss_bandwidth_rate(&l, &rate));
    double rtt;
    ck_assert(ss_bandwidth_rtt(&l, &rtt) && rtt > 60 && rtt < 80); /* all of it, for want of better */
}
END_TEST

/* Records too small for their time to be told from the jitter: no claim that is far off. */
START_TEST(too_small_to_tell)
{
    int claims = 0, wrong = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        link_sim s = {.a = 20, .b = 0.008, .jitter = 5, .g = ss_rng_make(6, seed)}; /* 1 Gbit/s */
        ss_bandwidth l = {0};
        double now = 0, rate;
        traffic(&l, &s, &now, 200, 200, 400, 500);
        if (!ss_bandwidth_rate(&l, &rate))
            continue;
        claims++;
        wrong += rate < 0.2e9;
    }
    ck_assert_msg(claims <= 6, "%d of 40 claim to know, %d of them wrongly", claims, wrong);
}
END_TEST

START_TEST(follows_a_change)
{
    link_sim s = {.a = 30, .b = 0.8, .jitter = 2, .g = ss_rng_make(9, 9)}; /* 10 Mbit/s */
    ss_bandwidth l = {0};
    double now = 0;
    traffic(&l, &s, &now, 300, 200, 100000, 300);
    within(&l, &s, 0.1, "before");
    s.b = 8; /* 1 Mbit/s */
    traffic(&l, &s, &now, 300, 200, 20000, 600);
    within(&l, &s, 0.15, "slower");
    s.b = 0.4;
    traffic(&l, &s, &now, 300, 200, 200000, 300);
    within(&l, &s, 0.15, "faster");
}
END_TEST

/* Three stalls of seconds do not make a slow link of it. */
START_TEST(stalls)
{
    link_sim s = {.a = 30, .b = 0.8, .jitter = 2, .g = ss_rng_make(11, 11)};
    ss_bandwidth l = {0};
    double now = 0;
    for (int i = 0; i < 3; i++) {
        traffic(&l, &s, &now, 100, 200, 100000, 300);
        ss_bandwidth_mark m = ss_bandwidth_sent(&l, 6000, SS_BANDWIDTH_EMPTY, (int64_t)(now * 1e6));
        ss_bandwidth_acknowledged(&l, m, 0, (int64_t)((now += 3000) * 1e6));
    }
    traffic(&l, &s, &now, 20, 200, 100000, 300);
    within(&l, &s, 0.1, "stalls");
}
END_TEST

START_TEST(nonsense)
{
    ss_bandwidth l = {0};
    double v;
    ck_assert(!ss_bandwidth_rate(&l, &v));
    ck_assert(!ss_bandwidth_rtt(&l, &v));
    ss_bandwidth_mark m = ss_bandwidth_sent(&l, 100, SS_BANDWIDTH_EMPTY, 5000000);
    ss_bandwidth_acknowledged(&l, m, 10000, 6000000); /* the other side says it took longer than all */
    ck_assert(!ss_bandwidth_rtt(&l, &v));
    for (int i = 0; i < 100; i++) { /* faster the larger: no negative bandwidth */
        m = ss_bandwidth_sent(&l, (uint64_t)i * 100 + 1, SS_BANDWIDTH_EMPTY, 0);
        ss_bandwidth_acknowledged(&l, m, 0, 200000000 - i * 1000000);
    }
    ck_assert(!ss_bandwidth_rate(&l, &v));
    ck_assert(ss_bandwidth_rtt(&l, &v) && v > 0);
}
END_TEST

UNIT_MAIN("bandwidth", known_links, saturated, one_size, too_small_to_tell, follows_a_change, stalls,
          nonsense)
