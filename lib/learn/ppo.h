/**
 * Proximal policy optimisation over discrete actions: an actor and a critic, each a network of two hidden
 * layers (split/learned.h), trained on many copies of a task side by side.
 *
 * Per step: all copies act by the odds of the actor; advantages by GAE, where the end of an episode is a time
 * limit, so the value of what is seen there still counts (it is bootstrapped, not terminal). Then, over
 * minibatches in random order, loss = -mean min(r A, clip(r, 1 - eps, 1 + eps) A) - entropy * mean H + value
 * * mean (V - R)^2 / 2 with r the ratio of probabilities, A normalised over the minibatch, one step of Adam
 * for all weights. Rewards are
 * scaled by their spread, which is followed slowly; they should be centred near 0.
 *
 * Ownership: a learner owns its networks; the task is the caller's. One thread. Chance comes from the seed:
 * the same weights at one ISA level. Errors: SS_ENOMEM, SS_EUNFIT (loss or gradient not finite: nothing is
 * changed). Source: Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347; GAE: arXiv
 * 1506.02438; time limits: Pardo et al., ICML 2018, arXiv 1712.00378.
 */
#ifndef SS_LEARN_PPO_H
#define SS_LEARN_PPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../split/learned.h"

/** Copies 0..copies-1 of a task. */
typedef struct ss_ppo_task {
    int inputs, actions;
    void *arg;
    void (*reset)(void *arg, int copy);
    void (*see)(void *arg, int copy, float *inputs);
    /** Act: the reward, what one more step is worth (gamma or a power of it), true at the time limit. */
    bool (*act)(void *arg, int copy, int action, double *reward, double *discount);
} ss_ppo_task;

typedef struct ss_ppo_config {
    int copies, horizon, minibatch, epochs, hidden;
    double lambda, clip, entropy, value, rate, norm; /* norm: of the gradient, at most */
    uint64_t seed, steps;                            /* steps in all: the rate falls to 0 over them */
} ss_ppo_config;

/** 16 copies, horizon 128, minibatch 256, 4 epochs, hidden 64, lambda 0.95, clip 0.2, entropy 0.01, value
 * 0.5, rate 1e-3, norm 0.5, seed 1, 600,000 steps. */
ss_ppo_config ss_ppo_defaults(void);

typedef struct ss_ppo ss_ppo;

int ss_ppo_open(ss_ppo **p, const ss_ppo_task *task, const ss_ppo_config *c, ss_err *e);
void ss_ppo_close(ss_ppo **p);

typedef struct ss_ppo_report {
    uint64_t steps;
    double reward;  /* mean of a step, as the task gave it */
    double entropy; /* mean, nats */
    double policy, value, gradient;
    double explained; /* share of the variance of the returns that the critic explains */
} ss_ppo_report;

/** copies * horizon steps, and the update from them. */
int ss_ppo_step(ss_ppo *p, ss_ppo_report *r, ss_err *e);

/** The networks, borrowed. The critic's value is in rewards over their spread. */
const ss_mlp *ss_ppo_actor(const ss_ppo *p);
const ss_mlp *ss_ppo_critic(const ss_ppo *p);

/* ---- the loss alone ---- */

typedef struct ss_ppo_batch {
    int n;
    const float *x;         /* [n][inputs] */
    const int *action;      /* [n] */
    const float *logp;      /* [n] of the action when it was taken */
    const float *advantage; /* [n] */
    const float *target;    /* [n] returns */
} ss_ppo_batch;

typedef struct ss_ppo_loss {
    double total, policy, entropy, value;
} ss_ppo_loss;

/**
 * Loss and gradient [actor size + critic size] of a batch; work [ss_ppo_work floats].
 * actor: inputs -> actions, critic: inputs -> 1, both of the same hidden size.
 */
size_t ss_ppo_work(int n, int inputs, int hidden, int actions);
ss_ppo_loss ss_ppo_gradient(const ss_mlp *actor, const ss_mlp *critic, const ss_ppo_batch *b,
                            const ss_ppo_config *c, float *gradient, float *work);

#endif
