/**
 * Running the network of a calibrated model in eight bits, or a part of it between two cuts.
 *
 * Shapes outside are those of net.h. At a cut (0..8) the network holds u8 with one scale: value = number *
 * ss_net_i8_scale(cut), 0 being 0; in and out there are u8, or f32, which is rounded to the nearest number on
 * the way in. Input and embedding are f32. Weights are s8 per output channel, made from the folded f32 ones
 * at opening; the last layer is f32. See kernels/int8.h.
 *
 * Determinism: the bits depend on model and window alone: not on batch, threads or instruction-set level, nor
 * on where the network is cut, whether what crosses the cut is u8 or f32. The last layer is the exception,
 * for it is f32: at sse4.1 the embedding has last bits of its own (see kernels/kernels.h).
 *
 * Not for models with group norm, whose statistics do not fold.
 */
#ifndef SS_NN_NET_I8_H
#define SS_NN_NET_I8_H

#include "../base/pool.h"
#include "model.h"

typedef struct ss_net_i8 ss_net_i8;

/**
 * As ss_net_open. SS_EUNFIT: a model without calibration, with one that was made for other weights (an older
 * generation), or with group norm; else as ss_net_open, values that are in the model's file among them.
 */
int ss_net_i8_open(ss_net_i8 **n, const ss_model *m, ss_pool *pool, int from, int until, int max_batch,
                   ss_err *e);
/** in [n] at cut `from`, out [n] at cut `until`, of SS_DTYPE_F32 or, at cuts 0..8, SS_DTYPE_U8; SS_EINVAL for
 * others. */
int ss_net_i8_run(ss_net_i8 *net, int n, int in_dtype, const void *in, int out_dtype, void *out);
/** Value of a step at a cut 0..8 (SS_CUT_BLOCK0 + k) of a calibrated model. */
float ss_net_i8_scale(const ss_model *m, int cut);
size_t ss_net_i8_memory(const ss_net_i8 *net); /* bytes held */
void ss_net_i8_close(ss_net_i8 **n);

#endif
