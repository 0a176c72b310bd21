/**
 * The learner of the blocks before a cut: what a device that sends cut windows learns from the gradients that
 * come back for them (split learning).
 *
 * ss_lower_window brings a window to its cut under the weights as they are, and keeps its input. The
 * gradients of one step of the server are laid in one by one, each for a window by its identity;
 * ss_lower_step then takes those windows forward again, from the input to where each was cut, and the
 * gradients back, and takes one step of the weights before the deepest cut. A window whose input is not kept
 * any more, or that has had its gradient, is left out and counted: none is learnt from twice.
 *
 * When no weight has changed since the windows were sent, and the server has taken back its batch as a whole
 * (batch = every, the same micro_batch, optimiser and rate, no clipping), the weights before the cut here and
 * those behind it there are, to the bit, those of one refiner that was given the features. Else the gradient
 * is that at somewhat older activations, taken at the newer ones.
 *
 * A step whose gradient is not finite changes nothing and is counted.
 *
 * Memory: `kept` inputs in f32 (24 KiB each for windows of 64 x 96: 6.3 MB for 256), gradient and moments of
 * the parameters before the deepest cut, the network up to there (nn/backprop.h), and the gradients of one
 * step in f32.
 * Determinism: the same bits for any number of threads, also over a save and a load between any two calls.
 * Ownership: borrows model and pool. One thread at a time.
 * Source: Gupta and Raskar, "Distributed learning of deep neural network over multiple agents", J. Network
 * and Computer Applications 116, 2018, arXiv 1810.06060.
 */
#ifndef SS_LEARN_LOWER_H
#define SS_LEARN_LOWER_H

#include <stdint.h>

#include "../base/pool.h"
#include "../nn/checkpoint.h"
#include "../nn/model.h"
#include "optimiser.h"

typedef struct ss_lower_config {
    int until;       /* deepest cut, SS_CUT_BLOCK0 .. SS_CUT_EMBEDDING - 1 */
    int kept;        /* windows of which the input is kept, the newest ones */
    int micro_batch; /* windows gone through at once */
    ss_optimiser_config optimiser;
} ss_lower_config;

/** Of a refiner's (refiner.h), where both have it. */
void ss_lower_config_default(ss_lower_config *c);

typedef struct ss_lower_item {
    uint32_t device;
    uint64_t epoch, seq;
    int cut;        /* SS_CUT_..., behind the input and not behind `until` */
    const float *x; /* the window [mels][frames]; or the gradient at the cut [c][h][w] */
} ss_lower_item;

typedef struct ss_lower_report {
    uint64_t step, windows; /* steps taken; windows kept so far */
    uint64_t learnt;        /* windows learnt from */
    uint64_t missed;        /* gradients whose window is not kept, or has had one */
    uint64_t refused;       /* steps that were not finite */
    double gradient, rate;  /* of the last step: norm before clipping */
    int present;            /* windows in it */
} ss_lower_report;

typedef struct ss_lower ss_lower;

/**
 * The model's values may be in its file: ss_model_fill must have read them before the first step.
 * Errors: SS_ERANGE (a number of `c`), SS_ENOMEM, those of ss_backprop_open.
 */
int ss_lower_create(ss_lower **l, const ss_lower_config *c, ss_model *m, ss_pool *pool, ss_err *e);
void ss_lower_free(ss_lower *l);

/**
 * Take window w->x to its cut: out [c][h][w]. The one kept longest leaves when all places are taken.
 * Nothing has changed on SS_EINVAL (no such cut) and SS_ERANGE (a value, here or at the cut, is not finite).
 */
int ss_lower_window(ss_lower *l, const ss_lower_item *w, float *out, ss_err *e);

/**
 * Lay in the gradient at the cut of a window, for the next step: 1; 0: it is left out. Errors: SS_EUNFIT (it
 * was sent cut elsewhere), SS_ERANGE (a value is not finite), SS_ENOMEM. ss_lower_drop gives up all that was
 * laid in.
 */
int ss_lower_gradient(ss_lower *l, const ss_lower_item *g, ss_err *e);
void ss_lower_drop(ss_lower *l);

/** Take a step with what was laid in: 1 taken, 0 refused because it was not finite, or nothing was there.
 * SS_EINVAL: no values in memory. */
int ss_lower_step(ss_lower *l);
void ss_lower_report_last(const ss_lower *l, ss_lower_report *r);

/** The model's values were changed by someone else. */
void ss_lower_weights_changed(ss_lower *l);

/** All state but the model's values, under names that begin with "lower"; arrays are borrowed until it is
 * written. Not between ss_lower_gradient and ss_lower_step. */
void ss_lower_save(ss_lower *l, ss_checkpoint_writer *w);
/** A checkpoint without it leaves all as it is. SS_EUNFIT: made by another configuration or model,
 * SS_EDAMAGED; then nothing may be relied on but ss_lower_free. */
int ss_lower_load(ss_lower *l, ss_checkpoint *c, ss_err *e);
size_t ss_lower_memory(const ss_lower *l);

#endif
