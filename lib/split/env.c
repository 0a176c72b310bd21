#include "split/env.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "io/stream.h"
#include "split/energy.h"

#define PI         3.14159265358979323846
#define SEEN_S     2.0 /* over which a link's bandwidth is seen */
#define SEEN_ERROR 0.1
#define LOAD_ERROR 0.02

/* Quantiles of what a choice takes, as straight lines between them. */
typedef struct quantiles {
    double at[6], v[6];
    int n;
} quantiles;

typedef struct option {
    quantiles device, server, bytes;
    double low, high; /* quality at rank 1/4 and 3/4 */
    bool local;       /* the embedding is made on the device */
} option;

struct ss_world {
    const ss_profile *profile;
    ss_env_config config;
    double hop;  /* s */
    double kept; /* of what the rank of one window is away from the middle, mean of those that a decision
                    holds for */
    int n;
    ss_split_action *action;
    option *option;
};

ss_env_config ss_env_defaults(void)
{
    return (ss_env_config){.every = 10,
                           .quality = 10,
                           .latency = 5,
                           .energy = 3,
                           .t_max_ms = 200,
                           .budget_mj = 100,
                           .late_ms = 2000,
                           .stale = 0.02,
                           .hold = 50,
                           .by_u = true,
                           .drift = 0.95};
}

static quantiles of_ms(const ss_profile_ms *m)
{
    double beyond =
        m->p95 + (m->p95 - m->median) / 4; /* the rest is not measured: a little more of the same */
    return (quantiles){{0, 0.5, 0.95, 1}, {m->min, m->median, m->p95, beyond}, 4};
}

static quantiles of_bytes(const ss_profile_bytes *b)
{
    return (quantiles){{0, 0.05, 0.5, 0.95, 1}, {b->min, b->p5, b->median, b->p95, b->max}, 5};
}

static double drawn(const quantiles *q, double u)
{
    int i = 0;
    while (i < q->n - 2 && u > q->at[i + 1])
        i++;
    return q->v[i] + (q->v[i + 1] - q->v[i]) * (u - q->at[i]) / (q->at[i + 1] - q->at[i]);
}

static int fill_option(const ss_world *w, const ss_split_action *a, option *o, ss_err *e)
{
    const ss_profile *p = w->profile;
    const ss_profile_choice *c = &p->choice[ss_profile_find(p, a->cut, a->codec)];
    o->local = c->cut == SS_CUT_EMBEDDING;
    if (!o->local && isnan(c->server_ms.median))
        return ss_err_set(e, SS_EUNFIT,
                          "the profile does not know how long the server takes from cut %s with codec %s; "
                          "merge the server's half into it",
                          ss_cut_name(c->cut), c->codec);
    o->device = of_ms(&c->device_ms);
    if (!o->local)
        o->server = of_ms(&c->server_ms);
    o->bytes = of_bytes(&c->bytes);
    double q = ss_profile_quality(p, c);
    bool known = w->config.by_u && !isnan(c->u_low);
    o->low = known ? c->u_low : q;
    o->high = known ? c->u_high : q;
    return SS_OK;
}

int ss_world_new(ss_world **out, const ss_profile *p, const ss_env_config *c, ss_err *e)
{
    ss_world *w = *out = ss_zalloc(1, sizeof *w);
    if (w) {
        w->profile = p;
        w->config = *c;
        if (!isnan(p->u.drift)) /* of ranks; that of normal variables with such ranks is a little more */
            w->config.drift = 2 * sin(PI / 6 * p->u.drift);
        w->hop = p->hop_ms / 1e3;
        w->action = ss_zalloc(p->n + 1, sizeof *w->action);
        w->option = ss_zalloc(p->n + 1, sizeof *w->option);
    }
    if (!w || !w->action || !w->option) {
        ss_world_free(w);
        *out = NULL;
        return ss_err_set(e, SS_ENOMEM, "no memory for a world of %zu choices", p->n);
    }
    for (int i = 1; i <= c->every; i++)
        w->kept += pow(w->config.drift, i) / c->every;
    w->n = ss_split_actions(p, c->sound, c->hold, w->action);
    int rc = w->n ? SS_OK : ss_err_set(e, SS_EUNFIT, "the profile has no choice but codecs of sound");
    for (int i = 0; i < w->n && !rc; i++)
        rc = fill_option(w, &w->action[i], &w->option[i], e);
    if (rc) {
        ss_world_free(w);
        *out = NULL;
    }
    return rc;
}

void ss_world_free(ss_world *w)
{
    if (!w)
        return;
    ss_free(w->action);
    ss_free(w->option);
    ss_free(w);
}

int ss_world_actions(const ss_world *w, const ss_split_action **a)
{
    if (a)
        *a = w->action;
    return w->n;
}

ss_sight_scale ss_world_scale(const ss_world *w)
{
    return (ss_sight_scale){w->profile->hop_ms, w->profile->energy.radio_tail_s, w->config.hold};
}

const ss_env_config *ss_world_config(const ss_world *w)
{
    return &w->config;
}

double ss_world_quality(const ss_world *w, int action, double rank)
{
    const option *o = &w->option[action];
    return fmin(fmax(o->low + (o->high - o->low) * (rank - 0.25) / 0.5, 0), 1);
}

int ss_env_open(ss_env *env, const ss_world *w, int windows, ss_err *e)
{
    *env = (ss_env){.world = w, .windows = windows};
    env->luck = ss_alloc((size_t)windows, SS_ENV_LUCK * sizeof *env->luck);
    return env->luck ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for the luck of %d windows", windows);
}

void ss_env_close(ss_env *env)
{
    ss_free(env->luck);
    env->luck = NULL;
}

/* Share of a normal law below x, to a few 1e-8: Abramowitz and Stegun 26.2.17. */
static double below(double x)
{
    double t = 1 / (1 + 0.2316419 * fabs(x));
    double tail =
        exp(-x * x / 2) / sqrt(2 * PI) * t *
        (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
    return x > 0 ? 1 - tail : tail;
}

static void draw_luck(ss_env *env, uint64_t seed)
{
    double by = env->world->config.drift, x = 0;
    ss_rng r = ss_rng_make(seed, 0x6c75636b00000000u);
    for (int i = 0; i < env->windows; i++) {
        float *l = env->luck + (size_t)i * SS_ENV_LUCK;
        l[SS_ENV_DEVICE] = ss_rng_uniform(&r);
        l[SS_ENV_SERVER] = ss_rng_uniform(&r);
        l[SS_ENV_BYTES] = ss_rng_uniform(&r);
        double n = (double)ss_rng_normal(&r);
        x = i ? by * x + sqrt(1 - by * by) * n : n;
        l[SS_ENV_DIFFICULTY] = (float)below(x);
        l[SS_ENV_SEES_LINK] = ss_rng_normal(&r);
        l[SS_ENV_SEES_LOAD] = ss_rng_normal(&r);
    }
}

/* What is seen at the moment at which the next window is ready. */
static void look(const ss_env *env, ss_env_state *s, const float *luck)
{
    const ss_world *w = env->world;
    double now = s->window * w->hop, at = env->start + now;
    ss_sight *v = &s->view;
    ss_trace_now present = ss_trace_at(env->trace, at);
    double own = v->action < 0 ? 0 : fmin(w->action[v->action].load, 1 - present.cpu);
    v->cpu = fmin(fmax(present.cpu + own + LOAD_ERROR * (double)luck[SS_ENV_SEES_LOAD], 0), 1);
    v->rtt = present.rtt;
    double since = fmax(s->link_from, now - w->hop), to = fmin(s->link_free, now);
    bool passed = to > since &&
                  ss_trace_bits(env->trace, env->start + to) > ss_trace_bits(env->trace, env->start + since);
    if (passed || isnan(v->bandwidth)) {
        double from = fmax(at - SEEN_S, 0), span = at - from;
        double mean = span > 0 ? (ss_trace_bits(env->trace, at) - ss_trace_bits(env->trace, from)) / span
                               : present.bandwidth;
        v->bandwidth = mean * fmax(1 + SEEN_ERROR * (double)luck[SS_ENV_SEES_LINK], 0.1);
        v->bandwidth_age = 0;
    } else
        v->bandwidth_age += w->hop;
    double busy = fmax(s->link_from, now);
    v->queue = s->link_free > busy
                   ? (isinf(s->link_free) ? 1e9
                                          : (ss_trace_bits(env->trace, env->start + s->link_free) -
                                             ss_trace_bits(env->trace, env->start + busy)) /
                                                8)
                   : 0;
    v->held = s->held;
    v->since_sent = fmax(now - s->link_free, 0);
    if (s->coming_at <= now)
        s->known_u = s->coming_u;
    v->u = s->known_u;
}

void ss_env_reset(ss_env *env, const ss_trace *trace, double start, uint64_t seed)
{
    env->trace = trace;
    env->start = start;
    draw_luck(env, seed);
    env->s =
        (ss_env_state){.known_u = NAN, .coming_u = NAN, .coming_at = INFINITY, .awake = 0, .link_free = -1};
    env->s.view = (ss_sight){.u = NAN, .bandwidth = NAN, .action = -1};
    look(env, &env->s, env->luck);
    ss_sight *v = &env->s.view;
    v->then_cpu = v->cpu;
    v->then_bandwidth = v->bandwidth;
    v->then_queue = v->queue;
}

void ss_env_decide(ss_env_state *s, int action)
{
    ss_sight_decide(&s->view, action);
}

/* Bytes into the link at `at`: when the last of them has passed; the radio's energy in joules is added. */
static double send(const ss_env *env, ss_env_state *s, double at, double bytes, double *joules)
{
    const ss_profile_energy *n = &env->world->profile->energy;
    double from = fmax(at, s->link_free), begun = ss_trace_bits(env->trace, env->start + from);
    double end = ss_trace_when_bits(env->trace, begun + 8 * bytes) - env->start;
    if (!(end > from)) /* an outage ends, or rounding */
        end = from;
    if (at > s->link_free)
        s->link_from = at;
    s->link_free = end;
    /* On air for as long as its bits need at the bandwidth they meet; in an outage nothing is sent. */
    double rate = isinf(end) ? 0 : ss_trace_at(env->trace, env->start + nextafter(end, 0)).bandwidth;
    double air = rate > 0 ? fmin(8 * bytes / rate, end - from) : 0;
    *joules += air * n->radio_base_w + 8e-6 * bytes * n->radio_w_per_mbit;
    if (!isinf(end))
        *joules += ss_energy_tail(n, end, &s->awake);
    return end;
}

static void send_held(const ss_env *env, ss_env_state *s, double at, double *joules, double *age)
{
    double end = send(env, s, at, s->held_bytes, joules);
    *age += s->held * fmin(end, at + 600) - s->held_since;
    s->held_bytes = s->held_since = 0;
    s->held = 0;
}

void ss_env_window(const ss_env *env, ss_env_state *s, int action, ss_env_outcome *out)
{
    const ss_world *w = env->world;
    const ss_env_config *c = &w->config;
    const option *o = &w->option[action];
    const float *luck = env->luck + (size_t)(s->window % env->windows) * SS_ENV_LUCK;
    double ready = s->window * w->hop, joules, age = 0;
    double ms = drawn(&o->device, (double)luck[SS_ENV_DEVICE]),
           bytes = drawn(&o->bytes, (double)luck[SS_ENV_BYTES]);
    double begun = fmax(ready, s->device_free);
    double done =
        ss_trace_when_work(env->trace, ss_trace_work(env->trace, env->start + begun) + ms / 1e3) - env->start;
    double at = s->device_free = fmax(done, begun);
    joules = ss_profile_compute_j(w->profile, ms);
    int hold = w->action[action].hold;
    if (hold) {
        s->held++;
        s->held_bytes += bytes;
        s->held_since += ready;
        if (s->held >= hold)
            send_held(env, s, at, &joules, &age);
    } else {
        if (s->held)
            send_held(env, s, at, &joules, &age);
        double end = send(env, s, at, bytes, &joules);
        if (o->local)
            age += fmin(end, ready + 600) - ready;
        else
            at = end + ss_trace_at(env->trace, env->start + fmin(end, 1e12)).rtt / 2e3 +
                 drawn(&o->server, (double)luck[SS_ENV_SERVER]) / 1e3;
    }
    double latency = (at - ready) * 1e3, rank = (double)luck[SS_ENV_DIFFICULTY];
    out->late = !(latency <= c->late_ms);
    out->latency_ms = out->late ? c->late_ms : latency;
    out->quality = out->late ? 0 : ss_world_quality(w, action, rank);
    out->energy_mj = joules * 1e3;
    out->bytes = bytes;
    out->reward = c->quality * out->quality - c->latency * out->latency_ms / c->t_max_ms -
                  c->energy * out->energy_mj / c->budget_mj - c->stale * age;
    /* What comes back says how uncertain it was. */
    if (s->coming_at <= ready)
        s->known_u = s->coming_u;
    s->coming_u = rank;
    s->coming_at = at;
    s->view.behind = ss_sight_late(s->view.behind, &w->action[action], s->view.cpu, w->profile->hop_ms);
    s->window++;
    look(env, s, env->luck + (size_t)(s->window % env->windows) * SS_ENV_LUCK);
}

int ss_env_step(ss_env *env, int action, double *reward, ss_env_outcome *o)
{
    ss_env_outcome one;
    int n = 0;
    ss_env_decide(&env->s, action);
    *reward = 0;
    while (n < env->world->config.every && !ss_env_over(env)) {
        ss_env_outcome *to = o ? &o[n] : &one;
        ss_env_window(env, &env->s, action, to);
        *reward += to->reward;
        n++;
        if (ss_sight_sharp(&env->s.view))
            break;
    }
    return n;
}

double ss_env_settle(const ss_env *env, ss_env_state *s)
{
    const ss_env_config *c = &env->world->config;
    double joules = 0, age = 0;
    if (s->held)
        send_held(env, s, s->device_free, &joules, &age);
    return -c->energy * joules * 1e3 / c->budget_mj - c->stale * age;
}

void ss_env_imagine(const ss_env *env, const ss_trace *future, int ahead, ss_env *to)
{
    double now = env->s.window * env->world->hop, at = env->start + now;
    double past = at - floor(at / ss_trace_seconds(env->trace)) * ss_trace_seconds(env->trace);
    double work = env->s.device_free > now ? ss_trace_work(env->trace, env->start + env->s.device_free) -
                                                 ss_trace_work(env->trace, at)
                                           : 0;
    const float *from = env->luck + (size_t)(env->s.window % env->windows) * SS_ENV_LUCK;
    double rank = (double)from[SS_ENV_DIFFICULTY];
    to->world = env->world;
    to->trace = future;
    to->start = past - floor(past) - now;
    to->s = env->s;
    for (int i = 0; i <= ahead; i++) {
        float *l = to->luck + (size_t)((env->s.window + i) % to->windows) * SS_ENV_LUCK;
        l[SS_ENV_DEVICE] = l[SS_ENV_SERVER] = l[SS_ENV_BYTES] = 0.5F;
        l[SS_ENV_SEES_LINK] = l[SS_ENV_SEES_LOAD] = 0;
        l[SS_ENV_DIFFICULTY] = (float)(0.5 + (rank - 0.5) * pow(env->world->config.drift, i));
    }
    if (work > 0)
        to->s.device_free =
            ss_trace_when_work(future, ss_trace_work(future, to->start + now) + work) - to->start;
    if (env->s.view.queue > 0)
        to->s.link_free =
            ss_trace_when_bits(future, ss_trace_bits(future, to->start + now) + 8 * env->s.view.queue) -
            to->start;
    else
        to->s.link_free = fmin(to->s.link_free, now);
}

double ss_world_expected(const ss_world *w, const ss_sight *v, int action)
{
    const ss_env_config *c = &w->config;
    const ss_profile_energy *n = &w->profile->energy;
    const option *o = &w->option[action];
    const ss_split_action *a = &w->action[action];
    double others = fmin(fmax(v->cpu - (v->action < 0 ? 0 : w->action[v->action].load), 0), 0.98);
    double link =
        v->bandwidth_age > 2 && v->queue > 0 ? 0 : v->bandwidth; /* it has stood still for a while */
    double air = 8 * a->bytes / fmax(link, 1e3);
    double latency = a->device_ms / (1 - others) + 1e3 * v->behind, age = 0;
    double joules = ss_profile_compute_j(w->profile, a->device_ms);
    if (!o->local)
        latency += 1e3 * (8 * v->queue / fmax(link, 1e3) + air) + v->rtt / 2 + o->server.v[1];
    double tail = n->radio_tail_w * n->radio_tail_s / (a->hold ? a->hold : 1);
    if (!a->hold)
        tail = n->radio_tail_w * fmin(n->radio_tail_s, w->hop);
    joules += fmin(air, 10) * n->radio_base_w + 8e-6 * a->bytes * n->radio_w_per_mbit + tail;
    if (a->hold)
        age = a->hold * w->hop / 2;
    double rank = isnan(v->u) ? 0.5 : 0.5 + (v->u - 0.5) * w->kept;
    double quality = latency > c->late_ms ? 0 : ss_world_quality(w, action, rank);
    return c->quality * quality - c->latency * fmin(latency, c->late_ms) / c->t_max_ms -
           c->energy * joules * 1e3 / c->budget_mj - c->stale * age;
}
