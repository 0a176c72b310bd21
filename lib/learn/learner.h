/**
 * The edge learner: windows come one at a time in the order of the stream, embeddings and steps come out.
 *
 * For each window, ss_learner_window gives its embedding under the weights as they are, rates it by the
 * mixture and lets the mixture, the replay of inputs and the recent embeddings learn of it. When
 * ss_learner_due, ss_learner_step takes one step: a batch of windows is drawn from the replay, two views of
 * each are made (the second up to `shift` frames before or after the first, both altered as audio/augment.h
 * says), and the InfoNCE loss between them goes back through the whole network. A stream's neighbours are
 * alike: a batch of the newest windows (replay = batch) has hardly a negative that is different; a draw from
 * the last thousand has.
 *
 * Learners:
 *   contrast  small batches in one pass; negatives by choice: the other windows of the batch, virtual ones
 * out of the mixture (Quan and Pathirana, arXiv 2605.26523, eq. 9-10), recent real embeddings, or both cached
 * large batches at the memory of a small one: embed all views, take the gradient of the loss at the
 * embeddings, then go forward and back through each micro-batch. The sum is the gradient of the whole batch
 * up to rounding. Gao, Zhang, Han, Callan, "Scaling deep contrastive learning batch size under memory limited
 * setup", RepL4NLP 2021 Pairs that overlap in time are never negatives of each other.
 *
 * A step whose loss or gradient is not finite changes nothing and is counted.
 * Determinism: the same configuration, model and windows give the same bits, whatever the number of threads,
 * also over a save and a load between any two calls. One thread at a time.
 */
#ifndef SS_LEARN_LEARNER_H
#define SS_LEARN_LEARNER_H

#include <stdbool.h>
#include <stdint.h>

#include "../audio/augment.h"
#include "../base/pool.h"
#include "../memory/mixture.h"
#include "../nn/checkpoint.h"
#include "../nn/model.h"
#include "optimiser.h"

typedef enum ss_learner_kind { SS_LEARNER_CONTRAST = 1, SS_LEARNER_CACHED = 2 } ss_learner_kind;

/** Where negatives come from; may be or-ed. */
enum { SS_NEGATIVES_BATCH = 1, SS_NEGATIVES_VIRTUAL = 2, SS_NEGATIVES_REPLAY = 4 };

typedef struct ss_learner_config {
    ss_learner_kind kind;
    unsigned negatives; /* contrast only; cached has those of its batch */
    int nnegatives;     /* of virtual and recent ones together, 256 */
    bool decoupled;     /* DCL */
    int batch;          /* windows in a step, at least 2 */
    int micro_batch;    /* cached: views that go forward and back at once */
    int replay;         /* windows a batch is drawn from: the newest ones; at least batch */
    int every;          /* windows that come for each step */
    int start;          /* windows before the first step */
    int shift;          /* frames between the views at the most, below the window's length */
    float temperature;
    ss_optimiser optimiser;
    float rate; /* learning rate after the warm-up */
    int warmup; /* steps over which it rises from 0 */
    float clip; /* largest norm of the gradient, 0 = no bound */
    ss_augment augment;
    uint64_t seed;
} ss_learner_config;

/** What is best for a kind, as measured; the numbers are in ss-train(1). */
void ss_learner_config_default(ss_learner_config *c, ss_learner_kind kind);

typedef struct ss_learner_report {
    uint64_t step, windows, refused; /* steps taken, windows heard, steps refused */
    double loss;
    double positive, negative; /* mean similarities */
    double top;                /* share of anchors whose positive is nearest */
    double gradient;           /* norm before clipping */
    double rate;
    int live; /* components of the mixture */
} ss_learner_report;

typedef struct ss_learner ss_learner;

/**
 * Borrows model (whose values it changes) and pool (or NULL). Takes up model->mixture if there is one.
 * The values may be in the model's file (ss_model_open): ss_model_fill must have read them before the first
 * step, save or load.
 * Errors: SS_ERANGE (a number of `c`), SS_EUNFIT (a mixture of another shape), SS_EDAMAGED, SS_ENOMEM;
 * those of ss_model_fill.
 */
int ss_learner_create(ss_learner **l, const ss_learner_config *c, ss_model *m, ss_pool *pool, ss_err *e);
void ss_learner_free(ss_learner *l);

/**
 * Hear a window.
 *   x [mels][frames]   continues: it follows the last one in the same clip at the front end's hop
 *   z [dim]            its embedding; score: of z, before the mixture learns of it
 * SS_ERANGE, and nothing has changed: a value is not finite.
 */
int ss_learner_window(ss_learner *l, const float *x, uint64_t seq, bool continues, float *z,
                      ss_mixture_score *score, ss_err *e);

/** Enough windows have come since the last step. ss_learner_skip leaves one out. */
bool ss_learner_due(const ss_learner *l);
void ss_learner_skip(ss_learner *l);
/** Take a step: 1 taken, 0 refused because it was not finite (or no two windows could be drawn), SS_EINVAL:
 * no values in memory. */
int ss_learner_step(ss_learner *l);
/** Of the last step. */
void ss_learner_report_last(const ss_learner *l, ss_learner_report *r);

/** The model's values were changed by someone else (a merge): they are packed anew. */
void ss_learner_weights_changed(ss_learner *l);
/** Take a mixture as it travels in the place of the own one. SS_EDAMAGED, SS_ETRUNC, SS_EUNFIT (another
 * dimension), SS_ENOMEM, and nothing has changed. */
int ss_learner_take_mixture(ss_learner *l, const void *bytes, size_t size, ss_err *e);

/** Put the mixture into model->mixture, as it travels. SS_ENOMEM. */
int ss_learner_store_mixture(ss_learner *l, ss_err *e);
const ss_mixture *ss_learner_mixture(const ss_learner *l);

/** All state, the model's values included, into a checkpoint; arrays are borrowed until it is written.
 * SS_ENOMEM. */
int ss_learner_save(ss_learner *l, ss_checkpoint_writer *w, ss_err *e);
/** SS_EUNFIT: made by another configuration or model; then nothing may be relied on but ss_learner_free. */
int ss_learner_load(ss_learner *l, ss_checkpoint *c, ss_err *e);
size_t ss_learner_memory(const ss_learner *l);

#endif
