/**
 * Running the network of a model, or a part of it between two cuts.
 *
 * Shapes outside are those of the wire: input [n][mels][frames], a cut [n][channels][height][width],
 * embedding [n][dim], all f32. Inside, activations are channels-last.
 *
 * Determinism: the result for a window does not depend on the batch it is in nor on the number of threads,
 * and running to a cut and on from it equals running whole, bit for bit: the order of every sum depends on
 * layer and shape alone. All instruction-set levels give the same bits but sse4.1, which has its own (see
 * kernels/kernels.h): there, both sides of a cut have to run.
 */
#ifndef SS_NN_NET_H
#define SS_NN_NET_H

#include "../base/pool.h"
#include "model.h"

/** How weights are held. */
typedef enum ss_weights {
    SS_WEIGHTS_F32,
    SS_WEIGHTS_F16 /* rounded to f16 when folded; stored so but in the stem and where a convolution is
                      Winograd's */
} ss_weights;

/** Inference: blocks from one cut to another, weights folded and packed when opened (only those needed). */
typedef struct ss_net ss_net;
/**
 * `pool` may be NULL (one thread) and is borrowed; the model is not needed afterwards, but for ss_net_widen.
 * Of one whose values are in its file (ss_model_open) what is needed is read, verified and packed as it
 * comes: no more is held than what is packed. Errors: SS_EINVAL, SS_ENOMEM, SS_EUNFIT; of such a model those
 * of ss_model_fill; SS_EUNFIT also where a weight is too large for f16.
 */
int ss_net_open(ss_net **n, const ss_model *m, ss_pool *pool, ss_weights weights, int from, int until,
                int max_batch, ss_err *e);
/** Be ready for another range of cuts too: what is missing is taken from the same model. After an error the
 * net is as it was. */
int ss_net_widen(ss_net *net, const ss_model *m, int from, int until, ss_err *e);
/**
 * in [n] at cut `from`, out [n] at cut `until`; both [.] of ss_model_cut_shape. The embedding comes out
 * normalised to length 1 (a zero vector stays zero).
 */
int ss_net_run(ss_net *net, int n, const float *in, float *out);
/** The same from one cut to another for which it is ready; else SS_EINVAL. */
int ss_net_run_between(ss_net *net, int from, int until, int n, const float *in, float *out);
size_t ss_net_memory(const ss_net *net); /* bytes held */
void ss_net_close(ss_net **n);

#endif
