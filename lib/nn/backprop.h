/**
 * Training the network of a model, or a part of it between two cuts: forward with activations kept, backward
 * from the gradient at its end.
 *
 * Shapes outside are those of the wire, as in net.h. Trainable are all parameters of the model in their one
 * block: through the weight standardisation too, so that `grad` is the gradient at what the model's file
 * holds. Batch norm takes its running statistics as constants, in the forward and for the gradient: a
 * window's embedding does not depend on its neighbours in the batch.
 *
 * A cut lies behind a ReLU. The gradient at a cut, as it comes out of one part and goes into the other, is
 * that at the activations as they stand; the part before the cut takes it on through the ReLU. So a backward
 * from the embedding to a cut and another one on from there give the bits of one through both.
 *
 * Determinism: results depend on the window alone, gradients on the batch as it is given; neither depends on
 * the number of threads. With weight and group norm the values are those of ss_net bit for bit, with batch
 * norm (not folded here) they differ by rounding.
 *
 * Memory: ss_backprop_memory tells; only units between the two cuts it was opened for count. For windows of
 * 64 x 96 at width 16 and the whole network that is 7.1 MB (2.5 times the model), and for each window of
 * max_batch 0.41 MB (weight norm), 0.51 MB (batch norm) or 0.81 MB (group norm); at width 64 it is 109 MB,
 * and 1.6, 2.0 or 3.2 MB a window.
 *
 * Ownership: borrows model and pool. One thread at a time.
 */
#ifndef SS_NN_BACKPROP_H
#define SS_NN_BACKPROP_H

#include "../base/pool.h"
#include "model.h"

typedef struct ss_backprop ss_backprop;

/**
 * `from` is SS_CUT_INPUT or a cut, `until` a later cut or SS_CUT_EMBEDDING: parameters outside get no
 * gradient and are not packed. ss_backprop_open: until the embedding. Errors: SS_EINVAL (cuts, max_batch),
 * SS_EUNFIT (model without a parameter), SS_ENOMEM. The values of a model may be in its file (ss_model_open)
 * until the first backward, by when ss_model_fill must have read them; then also its errors.
 */
int ss_backprop_open_between(ss_backprop **b, ss_model *m, ss_pool *pool, int from, int until, int max_batch,
                             ss_err *e);
int ss_backprop_open(ss_backprop **b, ss_model *m, ss_pool *pool, int from, int max_batch, ss_err *e);

/** Tell it that the model's values changed: it packs them anew at the next forward. Not between a forward
 * with keep and its backward. */
void ss_backprop_weights_changed(ss_backprop *b);

/**
 * in [n] at cut `from`; out [n] at cut `until`, the embedding normalised. Both cuts lie in the range that it
 * was opened for; ss_backprop_forward takes all of it. keep = 0: only `out` is wanted, nothing is kept for a
 * backward, statistics are not touched, n is not bounded by max_batch (done in pieces), and a backward of the
 * last forward with keep is still possible after it.
 * Errors: SS_EINVAL (cuts, n below 1, or above max_batch with keep).
 */
int ss_backprop_forward_between(ss_backprop *b, int from, int until, int n, const float *in, float *out,
                                int keep);
int ss_backprop_forward(ss_backprop *b, int n, const float *in, float *out, int keep);

/**
 * dout [n]: gradient at what the last forward with keep gave (at the normalised embedding, or the cut); once
 * for each of them. grad [m->ntrainable]: added to, or NULL: not wanted. din: gradient at the input of that forward [n], or NULL.
 * Errors: SS_EINVAL (no forward with keep before it, or values that are in the file).
 */
int ss_backprop_backward(ss_backprop *b, const float *dout, float *grad, float *din);

/**
 * Batch norm only: running += momentum * (seen - running), seen being mean and (biased) variance of every
 * channel over all windows of the forwards with keep since the last call that came through it. Packs anew at
 * the next forward.
 */
void ss_backprop_update_statistics(ss_backprop *b, float momentum);

size_t ss_backprop_memory(const ss_backprop *b); /* bytes held */
void ss_backprop_close(ss_backprop **b);

#endif
