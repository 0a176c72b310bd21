/**
 * The refiner: what the server does with windows that devices send, cut anywhere.
 *
 * Each window is finished to its embedding under the weights as they are, rated by the mixture, which then
 * learns of it, and put into the ring of its device: the latest `window` ones, by sequence number. Every so
 * many windows ss_refiner_step takes one step: the hybrid loss (hybrid.h) over the rings of all devices, its
 * gradient at a batch of windows (all others are constants), taken back through the network from the
 * embedding to where each was cut, and a step of the weights there. In the batch are the windows that came
 * since the last step, and with batch > every others drawn from the rings, which keep for that what they came
 * as (in f16): any one, and with it one of its neighbours in time, so that it has a positive with a gradient.
 * With batch = every all that is older is constants made by older weights, and from those the network learns
 * to move away as a whole; it then holds together only at small rates.
 *
 * With `views` no window goes into a step as it came: a window of log-mel is altered as audio/augment.h says,
 * one that was cut inside the network as view.h says, and its embedding in the loss is that of the view. As
 * they come, neighbours in time are too easy to tell from all others for much to be learnt.
 *
 * A loss takes `rows` embeddings at most: when the rings hold more, those with a gradient and a random choice
 * of the others, so that a step costs no more as devices join.
 *
 * What the loss wants of the layers before a cut is the gradient at the cut; for the windows that came since
 * the last step it can be had afterwards and sent back. A window that came as an embedding takes part like
 * the others and has its gradient at the embedding.
 *
 * The gradient of the loss at the P windows of a batch is taken N / P times, N being all rows in the loss:
 * what it would be, were all rows gone through, as far as these P tell. So the length of a step does not
 * shrink as devices join.
 *
 * A chain, within which time is counted, is a stretch of one clip of one epoch of one device; missing numbers
 * are bridged. An embedding that is more than `stale` steps old is left out of the loss: it was made by other
 * weights. When there are more devices than rings, the one heard least recently loses its own.
 *
 * A step whose loss or gradient is not finite changes nothing and is counted. A run that goes wrong is
 * stopped too: gain = 1 - L_task / ln N, averaged over some SS_REFINER_WATCH steps, is 0 when all embeddings
 * are one; when it has fallen below a third of the best it was, weights go back to those of the last good
 * time, the optimiser starts anew, and the rate is halved. (The rate only ever falls by that.)
 *
 * Determinism: the same configuration, model and windows give the same bits, whatever the number of threads,
 * also over a save and a load between any two calls. One thread at a time.
 * Source: Quan and Pathirana, StreamSplit, arXiv 2605.26523, section 4.3.
 */
#ifndef SS_LEARN_REFINER_H
#define SS_LEARN_REFINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../audio/augment.h"
#include "../base/pool.h"
#include "../memory/mixture.h"
#include "../nn/checkpoint.h"
#include "../nn/model.h"
#include "hybrid.h"
#include "optimiser.h"

#define SS_REFINER_WATCH 16

typedef struct ss_refiner_config {
    int window;         /* embeddings kept of each device */
    int devices;        /* rings at most */
    size_t memory;      /* bytes of all rings at most; 0: no cap but `devices` */
    int every;          /* windows that come for each step, at most `window` */
    int batch;          /* windows gone through in a step, at least `every` */
    int micro_batch;    /* of them at once */
    int start;          /* windows before the first step */
    int rows;           /* of the loss at most, at least `batch` */
    int stale;          /* steps; 0: an embedding never gets too old */
    bool gradients;     /* keep those at the cuts */
    bool views;         /* windows are altered before a step goes through them, */
    ss_augment augment; /* so */
    ss_hybrid loss;
    ss_optimiser_config optimiser;
    uint64_t seed;
} ss_refiner_config;

void ss_refiner_config_default(ss_refiner_config *c);

/** Bytes of one ring. */
size_t ss_refiner_ring_size(const ss_refiner_config *c, const ss_model_config *m);

/** A window as it came; or what is known of one afterwards. */
typedef struct ss_refiner_item {
    uint32_t device;
    uint64_t epoch, seq;
    int64_t clip;   /* -1: none */
    int32_t label;  /* -1: none */
    int cut;        /* SS_CUT_...: where x is */
    const float *x; /* as on the wire: [mels][frames], [c][h][w] or [dim] */
} ss_refiner_item;

typedef struct ss_refiner_report {
    uint64_t step, windows;
    uint64_t refused, rolled_back; /* steps that were not finite; times that weights went back */
    ss_hybrid_result loss;         /* of the last step */
    double gradient, rate;         /* norm at the weights before clipping */
    double gain;                   /* see above */
    int rows, present, devices;    /* in the loss; of them with a gradient; rings in use */
    int live;                      /* components of the mixture */
} ss_refiner_report;

typedef struct ss_refiner ss_refiner;

/**
 * Borrows model (whose values it changes) and pool (or NULL). Takes up model->mixture if there is one.
 * Values in the model's file as with ss_learner_create.
 * Errors: SS_ERANGE (a number of `c`; memory is below one ring), SS_EUNFIT (a mixture of another shape),
 * SS_EDAMAGED, SS_ENOMEM; those of ss_model_fill.
 */
int ss_refiner_create(ss_refiner **r, const ss_refiner_config *c, ss_model *m, ss_pool *pool, ss_err *e);
void ss_refiner_free(ss_refiner *r);

/**
 * Hear a window. z [dim] (may be NULL): its embedding, of length 1; score (may be NULL): of z, before the
 * mixture learns of it.
 * Nothing has changed on SS_ERANGE (x or z holds a value that is not finite, or z is 0) and SS_EINVAL (no
 * such cut; a number not above the last one of this device and epoch that its ring holds).
 */
int ss_refiner_window(ss_refiner *r, const ss_refiner_item *w, float *z, ss_mixture_score *score, ss_err *e);
/** The same for an embedding that is not to be learnt from: finished and rated only. */
int ss_refiner_rate(ss_refiner *r, const ss_refiner_item *w, float *z, ss_mixture_score *score, ss_err *e);

/** Enough windows have come since the last step. ss_refiner_skip leaves one out. */
bool ss_refiner_due(const ss_refiner *r);
void ss_refiner_skip(ss_refiner *r);
/**
 * Take a step: 1 taken, 0 refused because it was not finite (or there is nothing to compare). SS_EINVAL: no
 * values in memory; SS_ENOMEM: nothing has changed.
 */
int ss_refiner_step(ss_refiner *r);
/** Of the last step. */
void ss_refiner_report_last(const ss_refiner *r, ss_refiner_report *report);

/**
 * Gradients of the last step, until the next window: how many, and the i-th, in the order in which windows
 * came: *w names its window and cut, w->x is the gradient at that cut (at the embedding of length 1, where it
 * came as one). Windows that came as `input` have none. 0 without config.gradients and after a refused step.
 */
int ss_refiner_gradients(const ss_refiner *r);
void ss_refiner_gradient(const ss_refiner *r, int i, ss_refiner_item *w);

/** Put the mixture into model->mixture, as it travels. SS_ENOMEM. */
int ss_refiner_store_mixture(ss_refiner *r, ss_err *e);
const ss_mixture *ss_refiner_mixture(const ss_refiner *r);

/** All state, the model's values included, into a checkpoint; arrays are borrowed until it is written.
 * SS_ENOMEM. */
int ss_refiner_save(ss_refiner *r, ss_checkpoint_writer *w, ss_err *e);
/** SS_EUNFIT: made by another configuration or model, SS_EDAMAGED; then nothing may be relied on but
 * ss_refiner_free. */
int ss_refiner_load(ss_refiner *r, ss_checkpoint *c, ss_err *e);
size_t ss_refiner_memory(const ss_refiner *r);

#endif
