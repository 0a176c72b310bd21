/**
 * A view of a window that was cut inside the network: what audio/augment.h does to a log-mel window, as far
 * as it can be done to what blocks have made of one. With x, q [c][h][w] and a view that was drawn for
 * windows of [mels][frames], in this order: roll    x[c][i][j] <- x[c][min(max(i + k, 0), h - 1)][j],   k =
 * roll h / mels mix     x <- (1 - l) x + l q masks   x <- 0 in rows mel h / mels up to (mel + mels') h /
 * mels, and in columns likewise fractions rounded to the nearest. Gain is left out: norms take it away. All
 * of it is linear in x, so a gradient at the view can be taken back to what was cut.
 *
 * Ownership: arrays are the caller's, none may overlap. Safe from several threads.
 * Sources: as in audio/augment.h; mixing hidden layers: Verma et al., "Manifold mixup", ICML 2019.
 */
#ifndef SS_LEARN_VIEW_H
#define SS_LEARN_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "../audio/augment.h"

/** out [c][h][w], dim = {c, h, w}; q NULL: none is mixed in. */
void ss_view_cut(const ss_view *v, int mels, int frames, const uint32_t dim[3], const float *x,
                 const float *q, float *out);
/** dx = the gradient at x, of dout, that at the view. */
void ss_view_cut_back(const ss_view *v, int mels, int frames, const uint32_t dim[3], bool mixed,
                      const float *dout, float *dx);

#endif
