/**
 * Trains a policy (split/learned.h) in the environment (split/env.h) by PPO (ppo.h): many devices side by
 * side, each on a trace drawn from those given, from a place drawn in it, for an episode; its end is a time
 * limit. The reward of a step is the sum over its windows of what they came to beyond `baseline`, over
 * `every`; a step of n windows is discounted by gamma^(n / every), so that one that was cut short by a sharp
 * change counts as what it is. Ownership: world and traces are borrowed. Threads: one. Errors: those of
 * ppo.h.
 */
#ifndef SS_LEARN_TUTOR_H
#define SS_LEARN_TUTOR_H

#include "../split/env.h"
#include "../split/learned.h"
#include "ppo.h"

typedef struct ss_tutor_config {
    ss_ppo_config ppo;
    double gamma;
    int windows;                   /* of an episode */
    double baseline;               /* reward of a window: that of the best fixed action, say */
    bool without[SS_SIGHT_INPUTS]; /* inputs that the policy is not to have */
} ss_tutor_config;

/** gamma 0.8 (what a decision does is over after one or two more of them, and 0.99 makes noise of all that is
 * lost in outages later), 200 windows, baseline 0, all inputs. */
ss_tutor_config ss_tutor_defaults(void);

typedef struct ss_tutor ss_tutor;

int ss_tutor_open(ss_tutor **t, const ss_world *w, const ss_uncertainty *u, const ss_trace *const *trace,
                  size_t traces, const ss_tutor_config *c, ss_err *e);
void ss_tutor_close(ss_tutor **t);
int ss_tutor_step(ss_tutor *t, ss_ppo_report *r, ss_err *e);
/** The policy as it stands: filled anew by each call, the tutor's. */
ss_learned *ss_tutor_policy(ss_tutor *t);

#endif
