/**
 * How good a policy is on traces, and what else could have been done there: fixed choices, heuristics, a
 * greedy one that learns from its costs, and two oracles.
 *
 *   fixed        one action, always
 *   heuristic    split/policy.h, whose cut is made with the action that is best there when fixed
 *   greedy       the action of least cost by the formula of the profile, from what is seen, plus a linear
 * correction for each action that is learnt from what it came to (recursive least squares on inputs of the
 * view), with a bonus for what is uncertain while it is trained (LinUCB); it goes on learning when it is
 * scored causal       knows the present exactly, load, link, queue and difficulty, and how they tend to go
 * on, not how they will: for each action the mean over futures drawn from the trace's chain (of a trace that
 * was read: the present held), of a decision's windows under it and `tail` more of them clairvoyant  knows
 * the trace: beam search, a decision a window
 *
 * Scores are means over windows, so that traces of different length compare. Every policy meets the same luck
 * on the same trace. What is still kept back at the end is paid for. Threads: one. Errors: SS_ENOMEM. Source
 * of LinUCB: Li et al., WWW 2010, arXiv 1003.0146.
 */
#ifndef SS_LEARN_REGRET_H
#define SS_LEARN_REGRET_H

#include "../split/env.h"
#include "../split/learned.h"
#include "../split/policy.h"

typedef struct ss_score {
    double reward, quality, energy_mj, bytes; /* means over windows */
    double latency_median, latency_p95;       /* ms */
    double late;                              /* share of windows that are lost */
    double held;                              /* share of windows whose record was kept back */
    double changes;                           /* of the action, a minute */
} ss_score;

/** Who decides: choose is asked at each decision; told, which may be NULL, hears what it came to, a window.
 */
typedef struct ss_chooser {
    void *arg;
    int (*choose)(void *arg, ss_env *env);
    void (*told)(void *arg, int action, double reward);
} ss_chooser;

/** A trace to be scored on, from its second `start` on; its luck is that of `seed`. */
typedef struct ss_course {
    const ss_trace *trace;
    double start;
    uint64_t seed;
} ss_course;

/** Run a policy over a course: env is open, and its number of windows are run. */
int ss_regret_run(ss_env *env, const ss_course *c, const ss_chooser *who, ss_score *score, ss_err *e);
/** The same for the clairvoyant, by a beam of `width`. */
int ss_regret_clairvoyant(ss_env *env, const ss_course *c, int width, ss_score *score, ss_err *e);

ss_chooser ss_regret_fixed(int *action);
ss_chooser ss_regret_learned(ss_learned *l);

typedef struct ss_heuristic {
    ss_policy_config config;
    int action[11]; /* by cut, SS_CUT_... */
} ss_heuristic;
/** fixed [actions]: the return of each when fixed. */
void ss_regret_heuristic_init(ss_heuristic *h, const ss_world *w, ss_policy_sign sign, const double *fixed);
ss_chooser ss_regret_heuristic(ss_heuristic *h);

typedef struct ss_causal ss_causal;
/** futures: drawn at each decision; tail: windows beyond the decision's own. */
int ss_causal_open(ss_causal **c, const ss_world *w, int windows, int futures, int tail, uint64_t seed,
                   ss_err *e);
void ss_causal_close(ss_causal **c);
ss_chooser ss_regret_causal(ss_causal *c);

typedef struct ss_greedy ss_greedy;
int ss_greedy_open(ss_greedy **g, const ss_world *w, ss_err *e);
void ss_greedy_close(ss_greedy **g);
/** explore: width of the bonus; 0 when it is scored. */
void ss_greedy_explore(ss_greedy *g, double explore);
ss_chooser ss_regret_greedy(ss_greedy *g);

#endif
