#include "learn/regret.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "io/stream.h"

/* ---- scores ---- */

typedef struct tally {
    ss_score sum;
    double *latency;
    size_t n;
    int changes;
} tally;

static void count(tally *t, const ss_env_outcome *o, bool held)
{
    t->sum.reward += o->reward;
    t->sum.quality += o->quality;
    t->sum.energy_mj += o->energy_mj;
    t->sum.bytes += o->bytes;
    t->sum.late += o->late;
    t->sum.held += held;
    t->latency[t->n++] = o->latency_ms;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void close_tally(tally *t, double settled, double hop_s, ss_score *score)
{
    double n = (double)t->n;
    *score = t->sum;
    score->reward = (score->reward + settled) / n;
    score->quality /= n;
    score->energy_mj /= n;
    score->bytes /= n;
    score->late /= n;
    score->held /= n;
    score->changes = t->changes / (n * hop_s / 60);
    qsort(t->latency, t->n, sizeof *t->latency, by_value);
    score->latency_median = t->latency[t->n / 2];
    score->latency_p95 = t->latency[(size_t)(0.95 * n)];
}

int ss_regret_run(ss_env *env, const ss_course *c, const ss_chooser *who, ss_score *score, ss_err *e)
{
    const ss_split_action *action;
    ss_world_actions(env->world, &action);
    int every = ss_world_config(env->world)->every;
    tally t = {.latency = ss_alloc((size_t)env->windows, sizeof *t.latency)};
    ss_env_outcome *o = ss_alloc((size_t)every, sizeof *o);
    if (!t.latency || !o) {
        ss_free(t.latency);
        ss_free(o);
        return ss_err_set(e, SS_ENOMEM, "no memory for the scores of %d windows", env->windows);
    }
    ss_env_reset(env, c->trace, c->start, c->seed);
    while (!ss_env_over(env)) {
        double reward;
        int before = env->s.view.action, a = who->choose(who->arg, env);
        int n = ss_env_step(env, a, &reward, o);
        t.changes += before >= 0 && before != a;
        for (int i = 0; i < n; i++)
            count(&t, &o[i], action[a].hold > 0);
        if (who->told)
            who->told(who->arg, a, reward / n);
    }
    close_tally(&t, ss_env_settle(env, &env->s), ss_world_scale(env->world).hop_ms / 1e3, score);
    ss_free(t.latency);
    ss_free(o);
    return SS_OK;
}

/* ---- simple ones ---- */

static int choose_fixed(void *arg, ss_env *env)
{
    return *(int *)arg;
}

ss_chooser ss_regret_fixed(int *action)
{
    return (ss_chooser){action, choose_fixed, NULL};
}

static int choose_learned(void *arg, ss_env *env)
{
    float preference[SS_SPLIT_MAX_ACTIONS];
    return ss_learned_choose(arg, &env->s.view, preference);
}

ss_chooser ss_regret_learned(ss_learned *l)
{
    return (ss_chooser){l, choose_learned, NULL};
}

void ss_regret_heuristic_init(ss_heuristic *h, const ss_world *w, ss_policy_sign sign, const double *fixed)
{
    const ss_split_action *a;
    int n = ss_world_actions(w, &a);
    h->config = (ss_policy_config){SS_POLICY_HEURISTIC, sign, SS_CUT_BLOCK0 + 4, 1e7, 10};
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++) {
        int best = 0, best_away = 99;
        for (int i = 0; i < n; i++) { /* at that cut, or the nearest that there is */
            int away = abs(a[i].cut - cut);
            if (away < best_away || (away == best_away && fixed[i] > fixed[best])) {
                best = i;
                best_away = away;
            }
        }
        h->action[cut] = best;
    }
}

static int choose_heuristic(void *arg, ss_env *env)
{
    ss_heuristic *h = arg;
    const ss_sight *v = &env->s.view;
    ss_policy_input in = {v->cpu, v->bandwidth, v->rtt, v->u, -1};
    return h->action[ss_policy_ask(&h->config, &in).cut];
}

ss_chooser ss_regret_heuristic(ss_heuristic *h)
{
    return (ss_chooser){h, choose_heuristic, NULL};
}

/* ---- oracles ---- */

struct ss_causal {
    ss_env imagined;
    ss_trace *future;
    ss_rng rng;
    int futures, tail, n;
    double *value; /* [n] */
};

int ss_causal_open(ss_causal **out, const ss_world *w, int windows, int futures, int tail, uint64_t seed,
                   ss_err *e)
{
    ss_causal *c = *out = ss_zalloc(1, sizeof *c);
    if (!c)
        return ss_err_set(e, SS_ENOMEM, "no memory for an oracle");
    c->futures = futures;
    c->tail = tail;
    c->n = ss_world_actions(w, NULL);
    c->rng = ss_rng_make(seed, 0x6f7261636c650000u);
    c->value = ss_alloc((size_t)c->n, sizeof *c->value);
    int rc = ss_env_open(&c->imagined, w, windows, e);
    if (!rc && !c->value)
        rc = ss_err_set(e, SS_ENOMEM, "no memory for an oracle");
    if (rc)
        ss_causal_close(out);
    return rc;
}

void ss_causal_close(ss_causal **out)
{
    ss_causal *c = *out;
    if (!c)
        return;
    ss_env_close(&c->imagined);
    ss_trace_free(c->future);
    ss_free(c->value);
    ss_free(c);
    *out = NULL;
}

static int most_expected(const ss_world *w, const ss_sight *v, int n)
{
    int best = 0;
    double most = -INFINITY;
    for (int a = 0; a < n; a++) {
        double value = ss_world_expected(w, v, a);
        if (value > most) {
            most = value;
            best = a;
        }
    }
    return best;
}

/* Sum over a decision's windows and the tail, in which, from the next decision on, what is expected to be
 * best then is done. */
static double look_ahead(ss_causal *c, int every, int action)
{
    ss_env_state s = c->imagined.s;
    ss_env_outcome o;
    double sum = 0;
    int since = 0;
    ss_env_decide(&s, action);
    for (int i = 0; i < every + c->tail; i++) {
        ss_env_window(&c->imagined, &s, action, &o);
        sum += o.reward;
        if (++since < every && !ss_sight_sharp(&s.view))
            continue;
        action = most_expected(c->imagined.world, &s.view, c->n);
        ss_env_decide(&s, action);
        since = 0;
    }
    return sum;
}

static int choose_causal(void *arg, ss_env *env)
{
    ss_causal *c = arg;
    int every = ss_world_config(env->world)->every, ahead = every + c->tail;
    double hop = ss_world_scale(env->world).hop_ms / 1e3;
    size_t seconds = (size_t)((ahead + 1) * hop) + 40; /* and time for what is late */
    memset(c->value, 0, (size_t)c->n * sizeof *c->value);
    int futures = ss_trace_is_made(env->trace) ? c->futures : 1;
    for (int i = 0; i < futures; i++) {
        if (ss_trace_go_on(&c->future, env->trace, env->start + env->s.window * hop, ss_rng_u64(&c->rng),
                           seconds, NULL))
            return env->s.view.action < 0 ? 0 : env->s.view.action; /* no memory: as it was */
        ss_env_imagine(env, c->future, ahead, &c->imagined);
        for (int a = 0; a < c->n; a++)
            c->value[a] += look_ahead(c, every, a);
    }
    int best = 0;
    for (int a = 1; a < c->n; a++)
        if (c->value[a] > c->value[best])
            best = a;
    return best;
}

ss_chooser ss_regret_causal(ss_causal *c)
{
    return (ss_chooser){c, choose_causal, NULL};
}

/* A way to come to a state of the beam. */
typedef struct node {
    ss_env_state s;
    double sum, worth;  /* so far; less what is owed for records kept back */
    int parent, action; /* of the step before */
} node;

static int by_sum(const void *a, const void *b)
{
    const node *x = a, *y = b;
    return (x->worth < y->worth) - (x->worth > y->worth);
}

/* The same but for what does not matter any more. */
static bool alike(const node *a, const node *b)
{
    return fabs(a->s.link_free - b->s.link_free) < 1e-4 && fabs(a->s.device_free - b->s.device_free) < 1e-4 &&
           a->s.held == b->s.held && fabs(a->s.awake - b->s.awake) < 1e-3;
}

int ss_regret_clairvoyant(ss_env *env, const ss_course *c, int width, ss_score *score, ss_err *e)
{
    const ss_split_action *action;
    int n = ss_world_actions(env->world, &action), windows = env->windows, live = 1;
    size_t steps = (size_t)windows * (size_t)width;
    node *now = ss_alloc((size_t)width, sizeof *now),
         *next = ss_alloc((size_t)width * (size_t)n, sizeof *next);
    int *parent = ss_alloc(steps, sizeof *parent), *taken = ss_alloc(steps, sizeof *taken);
    int *path = ss_alloc((size_t)windows, sizeof *path);
    tally t = {.latency = ss_alloc((size_t)windows, sizeof *t.latency)};
    int rc = SS_OK;
    if (!now || !next || !parent || !taken || !path || !t.latency) {
        rc = ss_err_set(e, SS_ENOMEM, "no memory for a beam of %d", width);
        goto out;
    }
    ss_env_reset(env, c->trace, c->start, c->seed);
    now[0] = (node){.s = env->s};
    for (int w = 0; w < windows; w++) {
        int m = 0, kept = 0;
        for (int i = 0; i < live; i++)
            for (int a = 0; a < n; a++) {
                node *to = &next[m++];
                ss_env_outcome o;
                *to = now[i];
                to->s.view.action = a;
                ss_env_window(env, &to->s, a, &o);
                to->sum += o.reward;
                to->parent = i;
                to->action = a;
                ss_env_state later = to->s;
                to->worth = to->sum + ss_env_settle(env, &later);
            }
        qsort(next, (size_t)m, sizeof *next, by_sum);
        for (int i = 0; i < m && kept < width; i++) {
            bool twice = false;
            for (int k = 0; k < kept && !twice; k++)
                twice = alike(&next[i], &now[k]);
            if (twice)
                continue;
            now[kept] = next[i];
            parent[(size_t)w * (size_t)width + (size_t)kept] = next[i].parent;
            taken[(size_t)w * (size_t)width + (size_t)kept] = next[i].action;
            kept++;
        }
        live = kept;
    }
    /* The best way, from its end; then once more along it, to count. */
    int at = 0;
    for (int w = windows - 1; w >= 0; w--) {
        size_t i = (size_t)w * (size_t)width + (size_t)at;
        at = parent[i];
        path[w] = taken[i];
    }
    for (int w = 0; w < windows; w++) {
        ss_env_outcome o;
        int a = path[w];
        t.changes += w && a != path[w - 1];
        env->s.view.action = a;
        ss_env_window(env, &env->s, a, &o);
        count(&t, &o, action[a].hold > 0);
    }
    close_tally(&t, ss_env_settle(env, &env->s), ss_world_scale(env->world).hop_ms / 1e3, score);
out:
    ss_free(now);
    ss_free(next);
    ss_free(parent);
    ss_free(taken);
    ss_free(path);
    ss_free(t.latency);
    return rc;
}

/* ---- greedy ---- */

enum { FEATURES = 9 };

struct ss_greedy {
    const ss_world *world;
    int n;
    double explore;
    double *inverse; /* [n][FEATURES][FEATURES] */
    double *weight;  /* [n][FEATURES] */
    double seen[FEATURES], expected;
};

int ss_greedy_open(ss_greedy **out, const ss_world *w, ss_err *e)
{
    ss_greedy *g = *out = ss_zalloc(1, sizeof *g);
    if (!g)
        return ss_err_set(e, SS_ENOMEM, "no memory for a greedy policy");
    g->world = w;
    g->n = ss_world_actions(w, NULL);
    g->inverse = ss_zalloc((size_t)g->n, FEATURES * FEATURES * sizeof *g->inverse);
    g->weight = ss_zalloc((size_t)g->n, FEATURES * sizeof *g->weight);
    if (!g->inverse || !g->weight) {
        ss_greedy_close(out);
        return ss_err_set(e, SS_ENOMEM, "no memory for a greedy policy");
    }
    for (int a = 0; a < g->n; a++)
        for (int i = 0; i < FEATURES; i++)
            g->inverse[(a * FEATURES + i) * FEATURES + i] = 1;
    return SS_OK;
}

void ss_greedy_close(ss_greedy **out)
{
    ss_greedy *g = *out;
    if (!g)
        return;
    ss_free(g->inverse);
    ss_free(g->weight);
    ss_free(g);
    *out = NULL;
}

void ss_greedy_explore(ss_greedy *g, double explore)
{
    g->explore = explore;
}

static void features(const ss_greedy *g, const ss_sight *v, double expected, double f[FEATURES])
{
    const ss_split_action *a;
    float x[SS_SIGHT_INPUTS];
    ss_sight_scale s = ss_world_scale(g->world);
    ss_world_actions(g->world, &a);
    ss_sight_inputs(v, &s, a, x);
    static const int used[] = {SS_SIGHT_U,     SS_SIGHT_CPU,   SS_SIGHT_BANDWIDTH, SS_SIGHT_BANDWIDTH_AGE,
                               SS_SIGHT_QUEUE, SS_SIGHT_DRAIN, SS_SIGHT_BEHIND};
    f[0] = 1;
    f[1] = expected / 20;
    for (int i = 0; i < FEATURES - 2; i++)
        f[i + 2] = (double)x[used[i]];
}

/* inverse f, and f . inverse f. */
static double spread(const double *inverse, const double *f, double *to)
{
    double all = 0;
    for (int i = 0; i < FEATURES; i++) {
        to[i] = 0;
        for (int k = 0; k < FEATURES; k++)
            to[i] += inverse[i * FEATURES + k] * f[k];
        all += f[i] * to[i];
    }
    return all;
}

static int choose_greedy(void *arg, ss_env *env)
{
    ss_greedy *g = arg;
    int best = 0;
    double most = -INFINITY;
    for (int a = 0; a < g->n; a++) {
        double f[FEATURES], t[FEATURES], expected = ss_world_expected(g->world, &env->s.view, a),
                                         value = expected;
        features(g, &env->s.view, expected, f);
        for (int i = 0; i < FEATURES; i++)
            value += g->weight[a * FEATURES + i] * f[i];
        if (g->explore > 0)
            value += g->explore * sqrt(spread(g->inverse + a * FEATURES * FEATURES, f, t));
        if (value > most) {
            most = value;
            best = a;
            memcpy(g->seen, f, sizeof f);
            g->expected = expected;
        }
    }
    return best;
}

/* Recursive least squares on what was not expected, bounded: what is lost in an outage says little of the
 * rest. */
static void told_greedy(void *arg, int action, double reward)
{
    ss_greedy *g = arg;
    double *inverse = g->inverse + action * FEATURES * FEATURES, *weight = g->weight + action * FEATURES,
           t[FEATURES];
    double error = fmin(fmax(reward - g->expected, -30), 30), all = spread(inverse, g->seen, t);
    for (int i = 0; i < FEATURES; i++)
        error -= weight[i] * g->seen[i];
    for (int i = 0; i < FEATURES; i++)
        weight[i] += t[i] / (1 + all) * error;
    for (int i = 0; i < FEATURES; i++)
        for (int k = 0; k < FEATURES; k++)
            inverse[i * FEATURES + k] -= t[i] * t[k] / (1 + all);
}

ss_chooser ss_regret_greedy(ss_greedy *g)
{
    return (ss_chooser){g, choose_greedy, told_greedy};
}
