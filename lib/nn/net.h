/**
 * Running and training the network of a model.
 *
 * Shapes outside are those of the wire: input [n][mels][frames], a cut [n][channels][height][width],
 * embedding [n][dim], all f32. Inside, activations are channels-last.
 *
 * Determinism: the result for a window does not depend on the batch it is in nor on the number of threads, and
 * running to a cut and on from it equals running whole, bit for bit, at one instruction-set level: the order of
 * every sum depends on layer and shape alone.
 */
#ifndef SS_NN_NET_H
#define SS_NN_NET_H

#include "../base/pool.h"
#include "model.h"

/** Inference: blocks from one cut to another, weights folded and packed when opened (only those needed). */
typedef struct ss_net ss_net;
/** `pool` may be NULL (one thread) and is borrowed, the model is not needed afterwards. */
int ss_net_open(ss_net **n, const ss_model *m, ss_pool *pool, int from, int until, int max_batch, ss_err *e);
/**
 * in [n] at cut `from`, out [n] at cut `until`; both [.] of ss_model_cut_shape. The embedding comes out
 * normalised to length 1 (a zero vector stays zero).
 */
int ss_net_run(ss_net *net, int n, const float *in, float *out);
size_t ss_net_memory(const ss_net *net); /* bytes held */
void ss_net_close(ss_net **n);

/** Training: forward with activations kept, backward from the gradient at the embedding. */
typedef struct ss_backprop ss_backprop;
/** Borrows model and pool. `from` is SS_CUT_INPUT here for whole training, or the cut it learns from. */
int ss_backprop_open(ss_backprop **b, ss_model *m, ss_pool *pool, int from, int max_batch, ss_err *e);
/** Tell it that the model's values changed (it packs them anew at the next forward). */
void ss_backprop_weights_changed(ss_backprop *b);
/**
 * in [n] at cut `from`; z [n][dim] normalised. keep = 0: only the embedding is wanted, nothing is kept for a
 * backward and n is not bounded by max_batch (done in pieces); statistics are then not touched either.
 */
int ss_backprop_forward(ss_backprop *b, int n, const float *in, float *z, int keep);
/**
 * dz [n][dim]: gradient at the normalised embedding of the last forward with keep.
 * grad [m->ntrainable]: added to. din: gradient at the input of that forward [n], or NULL.
 */
int ss_backprop_backward(ss_backprop *b, const float *dz, float *grad, float *din);
/** Batch norm only: move the running statistics by what the forwards since the last call saw. */
void ss_backprop_update_statistics(ss_backprop *b, float momentum);
size_t ss_backprop_memory(const ss_backprop *b);
void ss_backprop_close(ss_backprop **b);

#endif
