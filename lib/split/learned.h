/**
 * A policy that was trained: a small network from what is seen (sight.h) to a preference for each action, and
 * the file that holds it.
 *
 *   {"format":"streamsplit-policy","version":1,
 *    "note":..,                                       how it was trained, for people
 *    "hop_ms":480,"tail_s":0,"hold":50,"every":10,    what its inputs and decisions are measured by
 *    "of":"novelty",                                  which attribute the uncertainty is: "u" if absent
 *    "u":[p5,p25,median,p75,p95] or null,             its quantiles, see profile.h
 *    "inputs":["u","cpu",...],
 *    "actions":[{"cut":"4","codec":"b16i8","hold":0,
 *                 "device_ms":52,"bytes":800,"load":0.03},...],
 *    "hidden":64,"weights":[...]}
 *
 * Read strictly: unknown members, wrong counts, numbers out of range are refused. The network is
 * W3 tanh(W2 tanh(W1 x + b1) + b2) + b3; weights are W1 [hidden][inputs], b1, W2 [hidden][hidden], b2,
 * W3 [actions][hidden], b3.
 *
 * Ownership: a policy owns what it points to. Threads: read-only once made. Errors: SS_EIO, SS_EDAMAGED,
 * SS_EUNFIT (format, version, inputs that are not known here), SS_ELIMIT, SS_ENOMEM.
 */
#ifndef SS_SPLIT_LEARNED_H
#define SS_SPLIT_LEARNED_H

#include <stddef.h>

#include "sight.h"

#define SS_LEARNED_MAX_HIDDEN 256
#define SS_LEARNED_NOTE       512
/** How far another action has to be preferred to that in force, in units of the logarithm of their odds. */
#define SS_LEARNED_MARGIN 0.3

typedef struct ss_mlp {
    int in, hidden, out;
    float *w; /* [ss_mlp_size], as above */
} ss_mlp;

size_t ss_mlp_size(int in, int hidden, int out);
/** One input x [in] to y [out]. work [2 * hidden]. */
void ss_mlp_run(const ss_mlp *m, const float *x, float *y, float *work);

/** tanh to 2e-7, the same bits on every CPU. */
float ss_tanhf(float x);

typedef struct ss_learned {
    char note[SS_LEARNED_NOTE];
    ss_sight_scale scale;
    int every;
    ss_uncertainty u; /* without drift */
    int input[SS_SIGHT_INPUTS];
    ss_split_action *action; /* [net.out] */
    ss_mlp net;
} ss_learned;

int ss_learned_open(ss_learned **l, const char *path, ss_err *e);
int ss_learned_parse(ss_learned **l, const char *text, size_t n, const char *name, ss_err *e);
void ss_learned_free(ss_learned *l);
/** One of these sizes, all weights 0; NULL without memory. */
ss_learned *ss_learned_new(int inputs, int hidden, int actions);
/** As text, to be released with ss_free. SS_ENOMEM, or SS_EDAMAGED for what could not be read again. */
int ss_learned_print(const ss_learned *l, char **text, ss_err *e);

/** Preferences [net.out], logarithms of odds. Allocates nothing. */
void ss_learned_ask(const ss_learned *l, const ss_sight *v, float *preference);
/** The action to take: the preferred one, or that in force (v->action) unless another is preferred by
 * SS_LEARNED_MARGIN. */
int ss_learned_choose(const ss_learned *l, const ss_sight *v, float *preference);
/** Is what the policy cannot do without known? */
bool ss_learned_can(const ss_sight *v);

/** A policy that runs: what policy.h's ss_policy is to the others. */
typedef struct ss_decider {
    const ss_learned *learned;
    ss_sight view;                          /* filled by the caller, but for action and `then` */
    float preference[SS_SPLIT_MAX_ACTIONS]; /* of the last decision */
    int every;                              /* windows from decision to decision */
    int left;                               /* until the next one */
    double reckoned; /* bytes that wait for the link: what counts while nobody tells the queue */
} ss_decider;

void ss_decider_init(ss_decider *d, const ss_learned *l, int every);
/** For every window: view.action is what it is to be. Returns an ss_policy_why; not by hand. */
int ss_decider_step(ss_decider *d);
/** Something else decides for now: the next step is a first one again. */
void ss_decider_pause(ss_decider *d);
/** A window has gone on under view.action, `seconds` after the one before it: counts what is kept back, how
 * long nothing was sent, and how late the device is. */
void ss_decider_went(ss_decider *d, double seconds);

#endif
