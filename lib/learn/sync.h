/**
 * Lazy synchronisation, on the device: what the server has learnt comes as weight deltas (nn/delta.h),
 * seldom, each from one version of the server's weights to the next, and is merged with what was learnt here
 * meanwhile (ss_merge), weighed by the windows that each has learnt from.
 *
 * Versions are a chain: only a delta that begins at m->synchronised is taken. After a merge the losses of the
 * next SS_SYNC_WATCH steps are held against those before it (if there were as many). When their mean is above
 * SS_SYNC_WORSE times what it was, or a step was refused as not finite, the weights go back to those before
 * the merge; the version stays, since the server goes on from it. No delta is taken while one is watched.
 *
 * Memory: a copy of the values ([nvalue]) from the first step on, another one while a merge is watched.
 * Ownership: borrows the model, whose values have to be in memory when one merges. Who has packed the weights
 * is told by the caller (ss_learner_weights_changed). One thread. Source: Quan and Pathirana, StreamSplit,
 * arXiv 2605.26523, section 4.3.3; averages weighed by the number of examples as in McMahan et al. 2017,
 * arXiv 1602.05629, algorithm 1.
 */
#ifndef SS_LEARN_SYNC_H
#define SS_LEARN_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "../io/stream.h"
#include "../nn/checkpoint.h"
#include "../nn/model.h"

#define SS_SYNC_WATCH 16
#define SS_SYNC_WORSE 1.5

typedef struct ss_sync ss_sync;

int ss_sync_create(ss_sync **s, ss_model *m, ss_err *e);
void ss_sync_free(ss_sync *s);

/** Before the learner's first step, values being in memory: takes a copy of them, unless it has one.
 * SS_ENOMEM. */
int ss_sync_begin(ss_sync *s, ss_err *e);
/** Windows were learnt from here. */
void ss_sync_learnt(ss_sync *s, uint64_t windows);

/**
 * Around a step that gradients of the server make here (learn/lower.h), after ss_sync_begin: it is part of
 * what the server learns, in weights that it leaves alone, and moves what both sides start from. So a merge
 * neither weighs it against the server's windows nor takes some of it back.
 */
void ss_sync_joint_begin(ss_sync *s);
void ss_sync_joint_end(ss_sync *s);

/** False while a merge is watched. */
bool ss_sync_ready(const ss_sync *s);

/**
 * Take in a record of type delta:
 *   1  the weights have changed, m->synchronised is the version that it leads to
 *   0  it cannot be taken now: it begins at a later version (*from, if wanted), or a merge is watched
 * Errors, and nothing has changed: SS_ERANGE (it leads to no later version: older than what is here),
 * SS_EUNFIT (also: a result that is not finite), SS_EDAMAGED, SS_ETRUNC, SS_ENOMEM, SS_EINVAL (values in the
 * file).
 */
int ss_sync_merge(ss_sync *s, const ss_record *rec, uint64_t *from, ss_err *e);

/** After a step of the learner; `taken` false: it was refused. True: the weights have gone back, once more
 * changed. */
bool ss_sync_watch(ss_sync *s, bool taken, double loss);

/** What a merge needs after a restart; arrays are borrowed until the checkpoint is written. */
void ss_sync_save(ss_sync *s, ss_checkpoint_writer *w);
/** A checkpoint without it leaves all as it is. SS_EUNFIT, SS_ENOMEM. */
int ss_sync_load(ss_sync *s, ss_checkpoint *c, ss_err *e);

#endif
