/* Loss and gradients of a batch, for the finite differences of tests/grad. */
#ifndef SS_LEARN_DISTIL_INTERNAL_H
#define SS_LEARN_DISTIL_INTERNAL_H

#include "learn/distil.h"

/**
 * Loss of n windows (at most the batch): x at the cut, z of the uncut way; level: index; width: SS_CODEC_4
 * or 8. round false: numbers are neither rounded nor clipped, so that the loss is smooth. grad: of b->nvalue,
 * in the place of `value`; written. Steps have none.
 */
double ss_distil_loss(ss_distil *d, int level, int width, int n, const float *x, const float *z, bool round,
                      float *grad, ss_distil_step *r);
ss_bottleneck *ss_distil_bottleneck(ss_distil *d);
/** Values at the cut, and embeddings, of all windows. */
const float *ss_distil_values(const ss_distil *d);
const float *ss_distil_embeddings(const ss_distil *d);

#endif
