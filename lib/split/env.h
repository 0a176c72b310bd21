/**
 * A device and its link, window by window along a trace: what a choice of cut and codec costs there.
 *
 * A window is ready each hop. The device takes one after the other; a choice takes it the milliseconds of the
 * profile, drawn from their distribution, of processor that others leave. Its record then waits in the link's
 * queue, passes at the trace's bandwidth, and arrives half a round trip later; the server takes its
 * milliseconds. Latency is the time from the window's end to its embedding, wherever that is made;
 * `embedding` is made on the device, so the link does not count in it. An action with `hold` makes the
 * embedding and keeps its record until there are so many, or another action sends. Energy, above idle, is
 * that of the processor, of the radio while it sends, and of its tail after that, as far as it was not awake
 * anyway.
 *
 *   r = 10 A - 5 Lat / T_max - 3 E / E_budget - stale * age
 *
 * A is the quality of the choice (ss_profile_quality). A window whose latency is beyond `late_ms` is lost: A
 * = 0, and the latency counts as late_ms. age is the time until a record of the embedding is at the server,
 * in seconds: what stands against keeping records back for ever. Windows have a hidden difficulty that
 * drifts, as fast as the profile says of the uncertainty (u.drift; else config.drift), which is its rank.
 * With `by_u`, A of a choice that says so in the profile goes along the straight line through its quality on
 * the lower half (at rank 1/4) and the upper half (at 3/4); the policy sees the rank of the latest window
 * whose result is back.
 *
 * What a policy sees of the load is that of the machine, its own part with it; of the bandwidth the mean of
 * the last two seconds with an error of a tenth, and only while something passes: as ss-link has it, in an
 * outage it grows old. A decision holds for `every` windows, or until something has changed sharply
 * (ss_sight_sharp).
 *
 * All chance comes from the seed and the number of the window, not from what was chosen: policies are
 * compared on the same luck. Ownership: a world borrows its profile, an env its world and trace. Threads:
 * worlds are read-only; an env belongs to one. Errors: SS_EUNFIT, SS_ENOMEM. Source: reward and decision
 * interval of Quan and Pathirana, StreamSplit, arXiv 2605.26523, eq. 12; late, stale, hold and by_u are ours.
 */
#ifndef SS_SPLIT_ENV_H
#define SS_SPLIT_ENV_H

#include "profile.h"
#include "trace.h"
#include "sight.h"

typedef struct ss_env_config {
    int every;                       /* windows from decision to decision */
    double quality, latency, energy; /* weights */
    double t_max_ms, budget_mj;      /* what counts as 1 of latency and energy */
    double late_ms, stale;           /* lost beyond it; cost of a second of age */
    int hold;                        /* records that are kept back; 0: no such action */
    bool sound;                      /* codecs of sound are actions too: to compare with */
    bool by_u;                       /* the quality follows the difficulty where the profile knows how */
    double drift;                    /* correlation of the difficulty from window to window */
} ss_env_config;

/** every 10, weights 10, 5, 3, T_max 200 ms, 100 mJ, late 2 s, stale 0.02, hold 50, by_u, drift 0.95. */
ss_env_config ss_env_defaults(void);

typedef struct ss_world ss_world;

/** SS_EUNFIT: there is no action, or one cannot be finished (a cut before the embedding needs the server's
 * time). */
int ss_world_new(ss_world **w, const ss_profile *p, const ss_env_config *c, ss_err *e);
void ss_world_free(ss_world *w);
int ss_world_actions(const ss_world *w, const ss_split_action **a);
ss_sight_scale ss_world_scale(const ss_world *w);
const ss_env_config *ss_world_config(const ss_world *w);

/** What one window came to. */
typedef struct ss_env_outcome {
    double reward, latency_ms, quality, energy_mj, bytes;
    bool late;
} ss_env_outcome;

/** All that changes along a trace; copied to look ahead. */
typedef struct ss_env_state {
    int window;                    /* next one */
    double device_free;            /* s, when the device is through with what it has */
    double link_from, link_free;   /* s, between which the link is busy */
    double awake;                  /* s, until which the radio is awake */
    double held_bytes, held_since; /* kept back; sum of the moments since when */
    int held;
    double known_u, coming_u, coming_at; /* ranks of results that are back, and on the way */
    ss_sight view;
} ss_env_state;

typedef struct ss_env {
    const ss_world *world;
    const ss_trace *trace;
    double start; /* place in the trace of window 0 */
    int windows;
    float *luck; /* [windows][SS_ENV_LUCK] */
    ss_env_state s;
} ss_env;

enum {
    SS_ENV_DEVICE,
    SS_ENV_SERVER,
    SS_ENV_BYTES,
    SS_ENV_DIFFICULTY,
    SS_ENV_SEES_LINK,
    SS_ENV_SEES_LOAD,
    SS_ENV_LUCK
};

/** Room for `windows`. */
int ss_env_open(ss_env *env, const ss_world *w, int windows, ss_err *e);
void ss_env_close(ss_env *env);
/** Begin anew on a trace. */
void ss_env_reset(ss_env *env, const ss_trace *trace, double start, uint64_t seed);

/** One window under an action: moves `s` on. Past the last window luck is taken from the first on. */
void ss_env_window(const ss_env *env, ss_env_state *s, int action, ss_env_outcome *o);
/** The decision falls: what the view says of the last one is from now on this moment. */
void ss_env_decide(ss_env_state *s, int action);

/** A whole step: decide, then windows until the next decision is due or the episode ends. o [every] or NULL.
 * Returns the number of windows; *reward is the sum. */
int ss_env_step(ss_env *env, int action, double *reward, ss_env_outcome *o);
static inline bool ss_env_over(const ss_env *env)
{
    return env->s.window >= env->windows;
}

/** The reward of a window that the formula expects of an action, from the profile and what is seen alone. */
double ss_world_expected(const ss_world *w, const ss_sight *v, int action);

/** What it costs, as a reward, to send what is still kept back. */
double ss_env_settle(const ss_env *env, ss_env_state *s);

/**
 * The present of `env` as that of `to`, whose future is another trace, of which second 0 is the one that lies
 * in the present; for the `ahead` windows to come, luck is the median and the difficulty drifts back to the
 * middle. Queue and work that are left are taken over as they are, not when they end. `to` is open, with as
 * many windows.
 */
void ss_env_imagine(const ss_env *env, const ss_trace *future, int ahead, ss_env *to);

/** Quality of an action's window of a difficulty (rank). */
double ss_world_quality(const ss_world *w, int action, double rank);

#endif
