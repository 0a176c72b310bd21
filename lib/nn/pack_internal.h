/**
 * Folding and packing the weights of units; private to nn.
 *
 * A panel of 16 output channels goes from where the model has it (memory, or its file) to its place while it
 * is in the cache, on the threads of the pool. What is read from a file is verified.
 */
#ifndef SS_NN_PACK_INTERNAL_H
#define SS_NN_PACK_INTERNAL_H

#include "layers_internal.h"
#include "model_internal.h"

/**
 * Gain, bias and statistics of a unit: where the model has them, or read from its file to `room` [4][cout]
 * and verified. Errors: those of ss_model_fill.
 */
int ss_unit_vectors(const ss_layers *l, const ss_model *m, int unit, float *room, ss_unit_rows *r, ss_err *e);

/** A unit's number; fc has that behind the last unit. */
typedef bool ss_unit_set[SS_UNITS + 1];

/**
 * Places for the units of a set, in one block, which the caller releases with ss_free. *floats is its size.
 * Unit: what `behind` says; fc is always folded. SS_ENOMEM: nothing has changed.
 */
int ss_pack_place(const ss_layers *l, ss_behind behind, const ss_unit_set set, ss_ready *unit, ss_ready *fc,
                  float **block, size_t *floats);

/** Lists and scratch for packing a set of units, any number of times. */
typedef struct ss_packer ss_packer;
/** Borrows l, pool. SS_ENOMEM. */
int ss_packer_open(ss_packer **p, const ss_layers *l, ss_pool *pool, ss_behind behind, const ss_unit_set set,
                   ss_err *e);
/**
 * Fill what ss_pack_place has placed:
 *   SS_BEHIND_NOTHING  weights and bias with all folded in
 *   SS_BEHIND_AFFINE   weights as they are, scale and shift of the batch norm
 *   SS_BEHIND_GROUP    standardised weights, scale and shift of the group norm
 * With values in memory it does not fail; else the errors of ss_model_fill.
 */
int ss_packer_run(ss_packer *p, const ss_model *m, ss_ready *unit, ss_ready *fc, ss_err *e);
/** As ss_unit_fold leaves them: of the last run, [cout]. */
float *ss_packer_row_mean(const ss_packer *p, int unit);
float *ss_packer_row_rstd(const ss_packer *p, int unit);
size_t ss_packer_memory(const ss_packer *p); /* bytes */
void ss_packer_close(ss_packer **p);

#endif
