#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/atomic.h"
#include "learn/regret.h"
#include "learn/stats.h"
#include "learn/tutor.h"

enum { MAX_TRACES = 4096, MADE_TRACES = 24, HELD_OUT = 5, BEAM = 48, FUTURES = 128, TAIL = 0, ROUNDS = 2000 };

static const char *profile_path, *traces_name, *without, *log_path, *score_path;
static uint64_t steps = 600000;
static int seeds = 1, seconds = 300, hidden = 64, every = 10, hold = 50, made = MADE_TRACES;
static double rtt = 50, stale = 0.02, rate = 1e-3, discount = 0.8;
static bool by_u = true, report = true, weak = true;

static const tool_option options[] = {
    {"profile", 0, OPT_STRING, &profile_path, 0, 0, "FILE", "what each choice costs: from ss-profile", NULL},
    {"traces", 0, OPT_STRING, &traces_name, 0, 0, "TRACES", "folder, file, or presets of ss-netsim: a,b:SEED",
     NULL},
    {"made", 0, OPT_INT, &made, 5, MAX_TRACES / 4, "N", "traces that are made of each preset", NULL},
    {"rtt", 0, OPT_REAL, &rtt, 0, 1e6, "MS", "round trip where a trace says nothing of it", NULL},
    {"seconds", 0, OPT_INT, &seconds, 10, 1 << 20, "S", "of each trace that are scored", NULL},
    {"steps", 0, OPT_U64, &steps, 0, 0, "N", "decisions to learn from", NULL},
    {"seeds", 0, OPT_INT, &seeds, 1, 100, "N", "policies to train; the best one in training is written",
     NULL},
    {"rate", 0, OPT_REAL, &rate, 1e-8, 1, "R", "of Adam, falling to 0", NULL},
    {"gamma", 0, OPT_REAL, &discount, 0, 1, "G", "what a reward one decision later is worth", NULL},
    {"hidden", 0, OPT_INT, &hidden, 1, SS_LEARNED_MAX_HIDDEN, "N", "width of the network", NULL},
    {"every", 0, OPT_INT, &every, 1, 1 << 16, "N", "windows from decision to decision", NULL},
    {"hold", 0, OPT_INT, &hold, 0, 1 << 16, "N", "records that may be kept back; 0 = none", NULL},
    {"stale", 0, OPT_REAL, &stale, 0, 1e6, "R", "reward that a second of a record's age costs", NULL},
    {"by-u", 0, OPT_FLAG, &by_u, 0, 0, NULL, "the quality depends on the uncertainty as the profile says",
     NULL},
    {"weak", 0, OPT_FLAG, &weak, 0, 0, NULL, "train on a weaker copy of each trace too", NULL},
    {"without", 0, OPT_STRING, &without, 0, 0, "INPUTS", "inputs that the policy is not to have: u,rtt",
     NULL},
    {"log", 0, OPT_STRING, &log_path, 0, 0, "FILE", "learning curve, as JSON Lines", NULL},
    {"score", 0, OPT_STRING, &score_path, 0, 0, "POLICY",
     "train none: the table for this one, on all the traces", NULL},
    {"report", 0, OPT_FLAG, &report, 0, 0, NULL, "table of what it is worth on traces held out", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-train-policy", "", "Train a policy that chooses cut and codec.",
                                     TAKES_SEED | TAKES_JSON | TAKES_PROGRESS | TAKES_OUTPUT, options};

static struct trainer {
    ss_profile *profile;
    ss_world *world, *heard; /* with the policy's actions; with codecs of sound too */
    const ss_split_action *action;
    int actions, windows;
    ss_trace *train[2 * MAX_TRACES], *held[MAX_TRACES];
    size_t trains, helds, weaks; /* weaker copies are behind those to train on */
    ss_env env, hears;
    FILE *log;
    double *fixed; /* [actions]: reward on the traces to train on */
} s;

/* ---- traces ---- */

/* One of every five is held out. */
static int add_trace(ss_trace *t, size_t number, ss_err *e)
{
    bool out = score_path || number % HELD_OUT == HELD_OUT - 1;
    size_t *n = out ? &s.helds : &s.trains;
    int rc = SS_OK;
    if (*n == MAX_TRACES)
        rc = ss_err_set(e, SS_ELIMIT, "more than %d traces", MAX_TRACES);
    if (!rc && ss_trace_bits(t, ss_trace_seconds(t)) <= 0)
        rc = ss_err_set(e, SS_EUNFIT, "a trace that is one outage: nothing would ever pass");
    if (!rc && !ss_trace_has_load(t))
        rc = ss_trace_add_load(t, tool_set.seed + number, e);
    if (rc) {
        ss_trace_free(t);
        return rc;
    }
    (out ? s.held : s.train)[(*n)++] = t;
    return SS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_trace(const char *path, size_t number, ss_err *e)
{
    ss_trace *t;
    int rc = ss_trace_open(&t, path, SS_TRACE_AUTO, rtt, e);
    if (!rc && (rc = add_trace(t, number, e)))
        ss_err_prefix(e, "'%s'", path);
    return rc;
}

/* All files of a folder but hidden ones, in the order of their names. */
static int read_folder(DIR *d, ss_err *e)
{
    char *name[MAX_TRACES];
    size_t n = 0;
    int rc = SS_OK;
    for (struct dirent *f; !rc && (f = readdir(d));) {
        char path[PATH_MAX];
        struct stat st;
        if (*f->d_name == '.')
            continue;
        int len = snprintf(path, sizeof path, "%s/%s", traces_name, f->d_name);
        if (n == MAX_TRACES || len >= (int)sizeof path)
            rc = ss_err_set(e, SS_ELIMIT, "'%s': more than %d traces, or a path too long", traces_name,
                            MAX_TRACES);
        else if (!stat(path, &st) && S_ISREG(st.st_mode) && !(name[n++] = ss_strdup(path)))
            rc = ss_err_set(e, SS_ENOMEM, "no memory for the names of traces");
    }
    n -= rc == SS_ENOMEM;
    qsort(name, n, sizeof *name, by_name);
    for (size_t i = 0; i < n; i++) {
        if (!rc)
            rc = read_trace(name[i], i, e);
        ss_free(name[i]);
    }
    return rc;
}

/* "3g,lte:7": made of each preset, one after the other, from seeds that follow. */
static int make_traces(const char *spec, ss_err *e)
{
    while (*spec) {
        size_t n = strcspn(spec, ","), word = strcspn(spec, ":,");
        int preset = ss_trace_preset_find(spec, word), seed = 1;
        char text[32];
        if (preset < 0 || n - word >= sizeof text)
            return ss_err_set(e, SS_EINVAL,
                              "--traces: '%.*s' is no folder, no file and no preset of ss-netsim", (int)n,
                              spec);
        snprintf(text, sizeof text, "%.*s", n > word ? (int)(n - word - 1) : 0, spec + word + 1);
        int rc = n > word ? tool_parse_int(text, "seed of --traces", 0, INT_MAX, &seed, e) : SS_OK;
        for (int i = 0; i < made && !rc; i++) {
            ss_trace *t;
            rc = ss_trace_make(&t, preset, (uint64_t)seed * 100000 + (uint64_t)i, (size_t)seconds, e);
            if (!rc)
                rc = add_trace(t, (size_t)i, e);
        }
        if (rc)
            return rc;
        spec += n + (spec[n] == ',');
    }
    return SS_OK;
}

/* Links that are weaker than those that were recorded occur; a tenth to all of the bandwidth. */
static int add_weak(ss_err *e)
{
    ss_rng r = ss_rng_make(tool_set.seed, 0x7765616b00000000u);
    int rc = SS_OK;
    for (size_t i = 0; i < s.trains && !rc; i++) {
        rc = ss_trace_weaken(&s.train[s.trains + s.weaks], s.train[i], pow(10, -(double)ss_rng_uniform(&r)),
                             e);
        s.weaks += !rc;
    }
    return rc;
}

static int find_traces(ss_err *e)
{
    DIR *d = opendir(traces_name);
    int rc;
    if (d) {
        rc = read_folder(d, e);
        closedir(d);
    } else if (errno == ENOTDIR)
        rc = read_trace(traces_name, 0, e);
    else
        rc = make_traces(traces_name, e);
    if (!rc && !s.trains && !s.helds)
        rc = ss_err_set(e, SS_EUNFIT, "'%s': no trace", traces_name);
    return !rc && weak ? add_weak(e) : rc;
}

/* ---- scores ---- */

enum { CLAIRVOYANT, CAUSAL, LEARNED, GREEDY, FIXED, SANE, PAPER, EDGE, SERVER, ROWS = SERVER + 8 };

static struct row {
    char name[96];
    ss_score *score; /* [courses] */
} rows[ROWS];
static int row_count = SERVER;

static ss_course course(const ss_trace *t, size_t number)
{
    return (ss_course){t, 0, tool_set.seed * 1000003 + number};
}

static int score_in(ss_env *env, ss_trace *const *trace, size_t n, ss_chooser who, ss_score *to, ss_err *e)
{
    int rc = SS_OK;
    for (size_t i = 0; i < n && !rc && !tool_stop; i++) {
        ss_course c = course(trace[i], i);
        rc = ss_regret_run(env, &c, &who, &to[i], e);
    }
    return rc;
}

static int score_all(ss_trace *const *trace, size_t n, ss_chooser who, ss_score *to, ss_err *e)
{
    return score_in(&s.env, trace, n, who, to, e);
}

static double mean_reward(const ss_score *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i].reward / (double)n;
    return sum;
}

static double *reward_of(const ss_score *v, size_t n)
{
    double *r = ss_alloc(n, sizeof *r);
    for (size_t i = 0; r && i < n; i++)
        r[i] = v[i].reward;
    return r;
}

/* Of each action when fixed: on the traces to train on, or, when nothing is trained, on all. */
static int score_fixed(ss_err *e)
{
    ss_trace *const *trace = score_path ? s.held : s.train;
    size_t n = score_path ? s.helds : s.trains;
    ss_score *v = ss_alloc(n, sizeof *v);
    s.fixed = ss_zalloc((size_t)s.actions, sizeof *s.fixed);
    int rc = v && s.fixed ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for scores");
    for (int a = 0; a < s.actions && !rc; a++) {
        rc = score_all(trace, n, ss_regret_fixed(&a), v, e);
        s.fixed[a] = mean_reward(v, n);
    }
    ss_free(v);
    return rc;
}

/* Best fixed action on the traces held out, in hindsight, of those that `cut` admits (-1: all). */
static int score_best_fixed(int row, const char *name, int cut, ss_err *e)
{
    double best = -INFINITY;
    ss_score *v = ss_alloc(s.helds, sizeof *v);
    int rc = v ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for scores");
    for (int a = 0; a < s.actions && !rc; a++) {
        char text[48];
        if (cut >= 0 && s.action[a].cut != cut)
            continue;
        rc = score_all(s.held, s.helds, ss_regret_fixed(&a), v, e);
        double mean = rc ? 0 : mean_reward(v, s.helds);
        if (rc || mean <= best)
            continue;
        best = mean;
        memcpy(rows[row].score, v, s.helds * sizeof *v);
        snprintf(rows[row].name, sizeof rows[row].name, "%s %s", name,
                 ss_split_action_name(&s.action[a], text));
    }
    ss_free(v);
    return rc;
}

/* Each codec of the input, those of sound with them. */
static int score_server(ss_err *e)
{
    const ss_split_action *action;
    int rc = SS_OK, n = ss_world_actions(s.heard, &action);
    for (int a = 0; a < n && !rc && row_count < ROWS; a++) {
        char text[48];
        if (action[a].cut != SS_CUT_INPUT)
            continue;
        struct row *r = &rows[row_count++];
        snprintf(r->name, sizeof r->name, "server only %s", ss_split_action_name(&action[a], text));
        rc = score_in(&s.hears, s.held, s.helds, ss_regret_fixed(&a), r->score, e);
    }
    return rc;
}

static int score_greedy(ss_err *e)
{
    ss_greedy *g;
    ss_score *v = ss_alloc(s.trains + 1, sizeof *v);
    int rc = v ? ss_greedy_open(&g, s.world, e) : ss_err_set(e, SS_ENOMEM, "no memory for scores");
    if (!rc) {
        ss_greedy_explore(g, 1);
        rc = score_all(s.train, s.trains, ss_regret_greedy(g), v, e);
        ss_greedy_explore(g, 0);
        if (!rc)
            rc = score_all(s.held, s.helds, ss_regret_greedy(g), rows[GREEDY].score, e);
        ss_greedy_close(&g);
    }
    ss_free(v);
    return rc;
}

static int score_oracles(ss_err *e)
{
    ss_causal *c;
    int rc = ss_causal_open(&c, s.world, s.windows, FUTURES, TAIL, tool_set.seed, e);
    if (rc)
        return rc;
    rc = score_all(s.held, s.helds, ss_regret_causal(c), rows[CAUSAL].score, e);
    ss_causal_close(&c);
    for (size_t i = 0; i < s.helds && !rc && !tool_stop; i++) {
        ss_course on = course(s.held[i], i);
        tool_progress("scoring: clairvoyant, trace %zu of %zu", i + 1, s.helds);
        rc = ss_regret_clairvoyant(&s.env, &on, BEAM, &rows[CLAIRVOYANT].score[i], e);
    }
    return rc;
}

static int make_rows(ss_err *e)
{
    static const char *const names[] = {
        "clairvoyant",    "causal oracle",  "learned", "greedy and bandit", "",
        "heuristic sane", "heuristic paper"};
    for (int i = 0; i < ROWS; i++) {
        if (i < EDGE)
            snprintf(rows[i].name, sizeof rows[i].name, "%s", names[i]);
        rows[i].score = ss_zalloc(s.helds, sizeof *rows[i].score);
        if (!rows[i].score)
            return ss_err_set(e, SS_ENOMEM, "no memory for scores");
    }
    return SS_OK;
}

static int score_rivals(ss_err *e)
{
    ss_heuristic h;
    tool_progress("scoring: oracles and rivals");
    int rc = score_best_fixed(FIXED, "best fixed", -1, e);
    if (!rc)
        rc = score_best_fixed(EDGE, "edge only", SS_CUT_EMBEDDING, e);
    for (int sign = 0; sign < 2 && !rc; sign++) {
        ss_regret_heuristic_init(&h, s.world, sign ? SS_SIGN_PAPER : SS_SIGN_SANE, s.fixed);
        rc = score_all(s.held, s.helds, ss_regret_heuristic(&h), rows[sign ? PAPER : SANE].score, e);
    }
    if (!rc)
        rc = score_server(e);
    if (!rc)
        rc = score_greedy(e);
    return rc ? rc : score_oracles(e);
}

/* ---- table ---- */

static ss_score mean_score(const ss_score *v, size_t n)
{
    ss_score m = {0};
    for (size_t i = 0; i < n; i++) {
        const double *from = (const double *)&v[i];
        double *to = (double *)&m;
        for (size_t k = 0; k < sizeof m / sizeof *to; k++)
            to[k] += from[k] / (double)n;
    }
    return m;
}

static int compare(int a, int b, ss_paired *p, ss_err *e)
{
    double *x = reward_of(rows[a].score, s.helds), *y = reward_of(rows[b].score, s.helds);
    int rc = x && y ? ss_compare_paired(x, y, s.helds, ROUNDS, tool_set.seed, p)
                    : ss_err_set(e, SS_ENOMEM, "no memory for a comparison");
    ss_free(x);
    ss_free(y);
    return rc;
}

static void print_row(const struct row *r)
{
    ss_score m = mean_score(r->score, s.helds);
    if (tool_set.json)
        printf("{\"policy\":\"%s\",\"reward\":%.6g,\"latency_median_ms\":%.6g,\"latency_p95_ms\":%.6g,"
               "\"bytes\":%.6g,\"energy_modelled_mj\":%.6g,\"quality\":%.6g,\"late\":%.6g,\"held\":%.6g,"
               "\"changes_per_minute\":%.6g}\n",
               r->name, m.reward, m.latency_median, m.latency_p95, m.bytes, m.energy_mj, m.quality, m.late,
               m.held, m.changes);
    else
        printf("%-28s %8.3f %8.1f %8.1f %8.0f %8.1f %8.4f %6.2f %6.1f\n", r->name, m.reward, m.latency_median,
               m.latency_p95, m.bytes, m.energy_mj, m.quality, 100 * m.late, m.changes);
}

static int print_comparison(int against, ss_err *e)
{
    ss_paired p;
    int rc = compare(LEARNED, against, &p, e);
    if (rc)
        return rc;
    if (tool_set.json)
        printf("{\"learned_less\":\"%s\",\"difference\":%.6g,\"low\":%.6g,\"high\":%.6g,\"better\":%llu,"
               "\"worse\":%llu,"
               "\"p\":%.3g}\n",
               rows[against].name, p.difference, p.interval.low, p.interval.high,
               (unsigned long long)p.a_better, (unsigned long long)p.b_better, p.p);
    else
        printf("learned - %-28s %+8.3f  [%+.3f, %+.3f]  better on %llu of %zu traces\n", rows[against].name,
               p.difference, p.interval.low, p.interval.high, (unsigned long long)p.a_better, s.helds);
    return SS_OK;
}

/* NaN: the oracle is no better than the best fixed action. */
static double gap_closed(double learned)
{
    double fixed = mean_reward(rows[FIXED].score, s.helds),
           gap = mean_reward(rows[CAUSAL].score, s.helds) - fixed;
    return gap > 1e-9 ? (learned - fixed) / gap : NAN;
}

static void print_gap(double mean, double low, double high)
{
    if (isnan(mean))
        printf(tool_set.json ? "{\"gap_closed\":null,\"seeds\":%d}\n"
                             : "no gap from best fixed to causal oracle (%d seeds)\n",
               seeds);
    else if (tool_set.json)
        printf("{\"gap_closed\":%.6g,\"gap_closed_least\":%.6g,\"gap_closed_most\":%.6g,\"seeds\":%d}\n",
               mean, low, high, seeds);
    else
        printf("gap from best fixed to causal oracle closed: %.1f %% (%d seed%s: %.1f to %.1f %%)\n",
               100 * mean, seeds, seeds > 1 ? "s" : "", 100 * low, 100 * high);
}

static int print_table(const double *by_seed, ss_err *e)
{
    int rc = SS_OK;
    if (!tool_set.json)
        printf("%zu traces held out, %d windows each; means over windows; energy is %s\n"
               "%-28s %8s %8s %8s %8s %8s %8s %6s %6s\n",
               s.helds, s.windows,
               s.profile->energy.source == SS_ENERGY_MODEL ? "modelled" : "of a measured profile", "policy",
               "reward", "lat50 ms", "lat95 ms", "bytes", "mJ", "quality", "late %", "chg/m");
    for (int i = 0; i < row_count; i++)
        print_row(&rows[i]);
    static const int against[] = {FIXED, SANE, PAPER, GREEDY, CAUSAL};
    for (size_t i = 0; i < sizeof against / sizeof *against && !rc; i++)
        rc = print_comparison(against[i], e);
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < seeds; i++) {
        low = fmin(low, gap_closed(by_seed[i]));
        high = fmax(high, gap_closed(by_seed[i]));
    }
    print_gap(gap_closed(mean_reward(rows[LEARNED].score, s.helds)), low, high);
    return rc;
}

/* ---- training ---- */

static int parse_without(ss_tutor_config *c, ss_err *e)
{
    for (const char *at = without; at && *at;) {
        char name[32];
        size_t n = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(n < 31 ? n : 31), at);
        int input = ss_sight_find(name);
        if (input < 0)
            return ss_err_set(e, SS_EINVAL, "--without: '%s' is no input", name);
        c->without[input] = true;
        at += n + (at[n] == ',');
    }
    return SS_OK;
}

static void tell(int seed, const ss_ppo_report *r, double baseline, int64_t began)
{
    double took = (double)(ss_clock_mono_ns() - began) * 1e-9;
    tool_progress(
        "policy %d of %d: %llu of %llu steps, reward %+.3f of best fixed, entropy %.2f, %.0f steps/s",
        seed + 1, seeds, (unsigned long long)r->steps, (unsigned long long)steps, r->reward, r->entropy,
        (double)r->steps / took);
    if (s.log)
        fprintf(s.log,
                "{\"seed\":%d,\"steps\":%llu,\"reward\":%.6g,\"entropy\":%.6g,\"value_loss\":%.6g,"
                "\"explained\":%.6g,"
                "\"gradient\":%.6g,\"seconds\":%.3f}\n",
                seed + (int)tool_set.seed, (unsigned long long)r->steps, baseline + r->reward, r->entropy,
                r->value, r->explained, r->gradient, took);
}

static int train_one(int seed, const ss_tutor_config *c, ss_learned **out, ss_tutor **tutor, ss_err *e)
{
    ss_ppo_report r = {0};
    ss_tutor_config own = *c;
    own.ppo.seed = tool_set.seed + (uint64_t)seed;
    int64_t began = ss_clock_mono_ns();
    int rc = ss_tutor_open(tutor, s.world, &s.profile->u, (const ss_trace *const *)s.train, s.trains + s.weaks,
                           &own, e);
    while (!rc && r.steps < steps && !tool_stop) {
        rc = ss_tutor_step(*tutor, &r, e);
        if (!rc)
            tell(seed, &r, c->baseline, began);
    }
    if (rc)
        return rc;
    double took = (double)(ss_clock_mono_ns() - began) * 1e-9;
    tool_info("policy %d: %llu steps in %.1f s, %.0f steps/s", seed + 1, (unsigned long long)r.steps, took,
              (double)r.steps / took);
    *out = ss_tutor_policy(*tutor);
    return SS_OK;
}

static int write_policy(ss_learned *l, double reward, ss_err *e)
{
    char *text;
    snprintf(l->note, sizeof l->note,
             "trained on %zu traces (%.60s), %llu steps, for the profile of '%.60s'; reward a window in "
             "training %.4f",
             s.trains, traces_name, (unsigned long long)steps, s.profile->device.name, reward);
    int rc = ss_learned_print(l, &text, e);
    if (rc)
        return rc;
    if (tool_set.output && strcmp(tool_set.output, "-") != 0)
        rc = ss_atomic_put(tool_set.output, 0, text, strlen(text), e);
    else if (fputs(text, stdout) < 0)
        rc = ss_err_errno(e, "cannot write to standard output");
    ss_free(text);
    return rc;
}

/* Adds a share of a policy's scores to its row, trace by trace. */
static int add_learned(ss_learned *l, int of, double *mean, ss_err *e)
{
    ss_score *v = ss_alloc(s.helds, sizeof *v);
    int rc = v ? score_all(s.held, s.helds, ss_regret_learned(l), v, e)
               : ss_err_set(e, SS_ENOMEM, "no memory for scores");
    for (size_t k = 0; k < s.helds && !rc; k++) {
        const double *from = (const double *)&v[k];
        double *to = (double *)&rows[LEARNED].score[k];
        for (size_t q = 0; q < sizeof *v / sizeof *to; q++)
            to[q] += from[q] / of;
    }
    if (!rc)
        *mean = mean_reward(v, s.helds);
    ss_free(v);
    return rc;
}

static int train_all(double *by_seed, ss_err *e)
{
    ss_tutor_config c = ss_tutor_defaults();
    double best = -INFINITY;
    ss_score *v = ss_alloc(s.trains, sizeof *v);
    int rc = v ? parse_without(&c, e) : ss_err_set(e, SS_ENOMEM, "no memory for scores");
    c.ppo.steps = steps;
    c.ppo.rate = rate;
    c.ppo.hidden = hidden;
    c.gamma = discount;
    c.baseline = -INFINITY;
    for (int a = 0; a < s.actions && !rc; a++)
        c.baseline = fmax(c.baseline, s.fixed[a]);
    for (int i = 0; i < seeds && !rc && !tool_stop; i++) {
        ss_tutor *tutor = NULL;
        ss_learned *l = NULL;
        double reward = NAN;
        rc = train_one(i, &c, &l, &tutor, e);
        if (!rc && !tool_stop && !(rc = score_all(s.train, s.trains, ss_regret_learned(l), v, e)))
            reward = mean_reward(v, s.trains);
        if (!rc && (reward > best || (tool_stop && !i))) { /* stopped: better than nothing */
            best = reward;
            rc = write_policy(l, reward, e);
        }
        if (!rc && report && s.helds && !tool_stop)
            rc = add_learned(l, seeds, &by_seed[i], e);
        ss_tutor_close(&tutor);
    }
    ss_free(v);
    return rc;
}

/* The policy that is to be scored, which has to be one for these actions. */
static int score_given(double *mean, ss_err *e)
{
    ss_learned *l;
    int rc = ss_learned_open(&l, score_path, e);
    if (rc)
        return rc;
    bool same = l->net.out == s.actions && l->every == every;
    for (int a = 0; a < s.actions && same; a++)
        same = l->action[a].cut == s.action[a].cut && !strcmp(l->action[a].codec, s.action[a].codec) &&
               l->action[a].hold == s.action[a].hold;
    rc = same
             ? add_learned(l, 1, mean, e)
             : ss_err_set(e, SS_EUNFIT,
                          "policy '%s' is for other actions, or another --hold or --every, than profile '%s'",
                          score_path, profile_path);
    ss_learned_free(l);
    return rc;
}

static int prepare(ss_err *e)
{
    ss_env_config c = ss_env_defaults();
    c.every = every;
    c.hold = hold;
    c.stale = stale;
    c.by_u = by_u;
    int rc = ss_profile_open(&s.profile, profile_path, e);
    if (!rc)
        rc = ss_world_new(&s.world, s.profile, &c, e);
    c.sound = true;
    if (!rc)
        rc = ss_world_new(&s.heard, s.profile, &c, e);
    if (rc)
        return rc;
    s.actions = ss_world_actions(s.world, &s.action);
    s.windows = (int)(seconds * 1e3 / s.profile->hop_ms);
    if (s.windows < every)
        return ss_err_set(e, SS_ERANGE, "--seconds=%d is less than one decision of %d windows", seconds,
                          every);
    if (log_path && !(s.log = fopen(log_path, "we")))
        return ss_err_errno(e, "cannot write '%s'", log_path);
    if (s.log)
        setvbuf(s.log, NULL, _IOLBF, 0);
    rc = ss_env_open(&s.env, s.world, s.windows, e);
    if (!rc)
        rc = ss_env_open(&s.hears, s.heard, s.windows, e);
    return rc ? rc : find_traces(e);
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    double by_seed[100] = {0};
    int first = tool_start(&program, argc, argv);
    if (argc > first)
        tool_usage("no operand is taken, found '%s'", argv[first]);
    if (!profile_path || !traces_name)
        tool_usage("--profile and --traces are needed");
    if (!tool_set.output && report && !score_path)
        tool_usage("-o is needed: the table goes to standard output");
    if (score_path && (tool_set.output || seeds > 1 || !report))
        tool_usage("--score trains nothing: -o, --seeds and --no-report have no meaning with it");
    int rc = prepare(&e);
    if (!rc && report && !s.helds)
        tool_warn("no trace is held out: there is no table");
    report = report && s.helds;
    if (!rc)
        rc = make_rows(&e);
    if (!rc)
        rc = score_fixed(&e);
    if (!rc)
        rc = score_path ? score_given(by_seed, &e) : train_all(by_seed, &e);
    if (!rc && report && !tool_stop)
        rc = score_rivals(&e);
    if (s.log && fclose(s.log) && !rc)
        rc = ss_err_errno(&e, "cannot write '%s'", log_path);
    tool_progress(NULL);
    if (!rc && report && !tool_stop)
        rc = print_table(by_seed, &e);
    for (int i = 0; i < ROWS; i++)
        ss_free(rows[i].score);
    for (size_t i = 0; i < s.trains + s.weaks; i++)
        ss_trace_free(s.train[i]);
    for (size_t i = 0; i < s.helds; i++)
        ss_trace_free(s.held[i]);
    ss_free(s.fixed);
    ss_env_close(&s.env);
    ss_env_close(&s.hears);
    ss_world_free(s.world);
    ss_world_free(s.heard);
    ss_profile_free(s.profile);
    return tool_finish(rc, &e);
}
