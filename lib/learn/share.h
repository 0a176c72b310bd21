/**
 * Lazy synchronisation, on the server: weight deltas (nn/delta.h) for devices that may be far behind, each
 * from one version of the weights to the next. m->synchronised counts the versions; version 0 is the model
 * that both sides begin with.
 *
 * Deltas are kept in a folder (io/journal.h), durable before they are given out: what a device may have
 * merged is never forgotten, and a device that missed some gets them again. `shadow`, the weights as devices
 * know them, is in the checkpoint; deltas that the folder has beyond it are added when it is loaded.
 *
 * Memory: the values once more. Ownership: borrows the model. One thread.
 * Source: Quan and Pathirana, StreamSplit, arXiv 2605.26523, section 4.3.3.
 */
#ifndef SS_LEARN_SHARE_H
#define SS_LEARN_SHARE_H

#include <stdint.h>

#include "../io/stream.h"
#include "../nn/checkpoint.h"
#include "../nn/model.h"

typedef struct ss_share ss_share;

/**
 * Values in memory, as devices know them, if no checkpoint says otherwise. levels: 1..127, of a delta; kept:
 * deltas at least. 1: open, and e->text says what the folder has lost. Errors: those of ss_journal_open;
 * SS_EINVAL (levels, kept).
 */
int ss_share_open(ss_share **s, ss_model *m, const char *dir, int levels, int kept, ss_err *e);
void ss_share_close(ss_share *s);

void ss_share_save(ss_share *s, ss_checkpoint_writer *w);
/** Of a checkpoint (NULL: there is none) and the folder. SS_EUNFIT: they do not belong together; SS_EDAMAGED,
 * SS_ENOMEM. */
int ss_share_load(ss_share *s, ss_checkpoint *c, ss_err *e);

/**
 * The next delta, learnt from so many windows; *rec lasts until the next call. Errors: those of ss_delta_pack
 * and ss_journal_append, and nothing has changed; of ss_journal_sync: it is made, and must not be given out
 * yet (ss_share_since will, to who asks later).
 */
int ss_share_next(ss_share *s, uint64_t windows, const ss_record **rec, ss_err *e);

/** SS_OK, or an error, which ends the giving. */
typedef int (*ss_share_give)(void *arg, const ss_record *rec, ss_err *e);
/** All deltas that lead on from a version, in their order. 1: so it is; 0: those that would be needed are
 * kept no longer, or it is no version of this model. */
int ss_share_since(ss_share *s, uint64_t version, ss_share_give give, void *arg, ss_err *e);

#endif
