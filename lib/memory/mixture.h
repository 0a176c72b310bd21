/**
 * Distributional memory: an online mixture of Gaussians over embeddings of length 1, learnt one at a time.
 *
 * Update: stepwise expectation-maximisation (Cappe and Moulines, "On-line expectation-maximization algorithm
 * for latent data models", J. R. Stat. Soc. B 71, 2009) with an effective count for each component: the step
 * of a component is its responsibility over its own count (capped), so one that is not responsible does not
 * move, and a source that falls silent is not forgotten while another one goes on for hours. Weights alone
 * forget, over SS_MIXTURE_HORIZON embeddings. A component is started by an embedding too far from its nearest
 * one to belong to it, and now and then on trial inside a wide one; when all are in use, the pair cheapest to
 * merge (Ward's cost, next to nothing for what was not heard for long) makes room. It is live, and counts for
 * uncertainty and negatives, once some tens of embeddings stand behind it; live ones that the data cannot
 * tell apart are merged. How far is too far, and how near is the same, follow from the spread of the
 * components and the number of dimensions that count, both measured, so that the scale of the embedding does
 * not matter.
 *
 * Uncertainty: u = entropy of p(c|z) over the live components / log of their number, in [0, 1]; p(c|z) with
 * equal priors and one shared width, solved for so that u at the components' own centres averages
 * SS_MIXTURE_CENTRE_U: neither 0 nor 1 everywhere. 1 while fewer than two are live. Novelty: Euclidean
 * distance to the nearest component's mean, in [0, 2].
 *
 * Virtual negatives of an anchor: live components other than its own with weight
 * pi_c exp(-||mu_own - mu_c||^2 / (2 tau^2)), a draw from the component's diagonal Gaussian, normalised to 1;
 * tau is solved for so that the exponential of these weights' entropy is SS_MIXTURE_EFFECTIVE (as near as
 * weights and number allow). Source: Quan and Pathirana, StreamSplit, arXiv 2605.26523, eq. 7-9.
 *
 * Shapes: z [dim] f32. Not locked. Single precision in an order fixed by shape, with exp and ln of our own:
 * the same inputs in the same order give the same bits, at every instruction-set level and with every C
 * library, and so does going on from a restored state.
 */
#ifndef SS_MEMORY_MIXTURE_H
#define SS_MEMORY_MIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../base/rng.h"
#include "../nn/checkpoint.h"

#define SS_MIXTURE_COMPONENTS 64
#define SS_MIXTURE_HORIZON    4096  /* embeddings over which weights forget */
#define SS_MIXTURE_CENTRE_U   0.3f  /* mean uncertainty at the centres of the components */
#define SS_MIXTURE_EFFECTIVE  10.0f /* effective number of components that negatives come from */
#define SS_MIXTURE_MAX_BYTES  35000 /* of the packed form at 64 components of 128 */

typedef struct ss_mixture ss_mixture;

/** components 2..1024, dim 1..4096. Errors: SS_EINVAL, SS_ENOMEM. Release with ss_mixture_free. */
int ss_mixture_create(ss_mixture **m, int components, int dim, ss_err *e);
void ss_mixture_free(ss_mixture *m);

int ss_mixture_dim(const ss_mixture *m);
int ss_mixture_components(const ss_mixture *m); /* most there may be */
int ss_mixture_used(const ss_mixture *m);       /* begun: they have numbers 0..used-1 */
int ss_mixture_live(const ss_mixture *m);       /* of those, the ones with enough behind them to count */
uint64_t ss_mixture_seen(const ss_mixture *m);  /* embeddings learnt from */

/** Past its cold start: eight components are live, enough to draw negatives from. */
bool ss_mixture_ready(const ss_mixture *m);

/**
 * Learn from z. SS_ERANGE and no change when z holds a number that is not finite or is longer than 2. Numbers
 * of components do not outlast an update: a merge moves them.
 */
int ss_mixture_update(ss_mixture *m, const float *z);

typedef struct ss_mixture_score {
    float u, novelty;
    int component; /* the nearest one, -1 when there is none */
} ss_mixture_score;
/** Nothing changes. A z that is not finite scores u 1, novelty 2, component -1. */
void ss_mixture_rate(const ss_mixture *m, const float *z, ss_mixture_score *out);

/** mean and variance [dim] and weight (sum 1 over the used) of component c < used; NULL skips one. */
void ss_mixture_component(const ss_mixture *m, int c, float *mean, float *variance, float *weight);

/** weight [used]: share of each component in the negatives of an anchor of component own. Returns their
 * effective number (exponential of the entropy), 0 when no other one is live. */
float ss_mixture_neighbours(const ss_mixture *m, int own, float *weight);

/**
 * out [n][dim]: virtual negatives for an anchor of component own (0..used-1), in antithetic pairs (see
 * ss_mix_draw in kernels/kernels.h). Takes a number of draws from r that depends on n and dim alone. Returns
 * n, or SS_ERANGE (no such component, or no other one is live).
 */
int ss_mixture_draw(ss_mixture *m, int own, ss_rng *r, int n, float *out);

/**
 * The form that travels with a model: f16 means and deviations, little-endian, versioned, CRC-32C at its end.
 * Packing what was unpacked gives the same bytes. Unpacking bounds every count by the size before it
 * allocates and refuses what is not finite: SS_EDAMAGED, SS_ETRUNC, SS_EUNFIT (version), SS_ENOMEM.
 */
size_t ss_mixture_packed_size(const ss_mixture *m);
void ss_mixture_pack(const ss_mixture *m, void *out);
/** The same into memory of its own, in the place of *bytes, which is released (ss_free). SS_ENOMEM: that
 * stays. */
int ss_mixture_store(const ss_mixture *m, char **bytes, size_t *size, ss_err *e);
int ss_mixture_unpack(ss_mixture **m, const void *bytes, size_t size, ss_err *e);

/**
 * The exact state, for checkpoints of the same machine family: restoring it and going on gives the same bits
 * as never having stopped. ss_mixture_restore checks shape and finiteness: SS_EUNFIT, SS_EDAMAGED; m is then
 * unchanged. In a checkpoint it is called mixture.
 */
size_t ss_mixture_state_size(const ss_mixture *m);
void ss_mixture_state(const ss_mixture *m, void *out);
int ss_mixture_restore(ss_mixture *m, const void *bytes, size_t size, ss_err *e);
void ss_mixture_save(const ss_mixture *m, ss_checkpoint_writer *w);
int ss_mixture_load(ss_mixture *m, ss_checkpoint *c, ss_err *e);

#endif
