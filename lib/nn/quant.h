/**
 * Calibration of a model for running in eight bits: the range of each tensor between layers, found by running
 * windows of real sound through the network in f32.
 *
 *     ss_quant *q;
 *     rc = ss_quant_open(&q, m, pool, &e);
 *     rc = ss_quant_add(q, x);                     each window [mels][frames]
 *     rc = ss_quant_finish(q, SS_QUANT_MSE, m, &e);   sets m->calibration
 *
 * Ownership: borrows the pool, copies what it needs of the model. One thread at a time.
 */
#ifndef SS_NN_QUANT_H
#define SS_NN_QUANT_H

#include "../base/pool.h"
#include "model.h"

typedef enum ss_quant_method {
    SS_QUANT_MAX = 1, /* the largest value seen */
    SS_QUANT_MSE = 2  /* the least mean square of rounding and clipping together */
} ss_quant_method;

/** "max", "mse", or NULL; method of a name, or SS_EINVAL. */
const char *ss_quant_method_name(int method);
int ss_quant_method_parse(const char *name);

typedef struct ss_quant ss_quant;
/** SS_EUNFIT: group norm. SS_ENOMEM. */
int ss_quant_open(ss_quant **q, const ss_model *m, ss_pool *pool, ss_err *e);
/** x [mels][frames], finite. */
void ss_quant_add(ss_quant *q, const float *x);
/** Into m->calibration, for m->generation. SS_EINVAL: no window was added. SS_EUNFIT: values that overflow.
 */
int ss_quant_finish(const ss_quant *q, ss_quant_method method, ss_model *m, ss_err *e);
void ss_quant_close(ss_quant **q);

/** SS_OK: m may run in eight bits. SS_EUNFIT and a text that says why not, and how to get there. */
int ss_quant_check(const ss_model *m, ss_err *e);

/** As the model's file holds it: one line of text. */
#define SS_QUANT_TEXT 512
void ss_quant_text(const ss_calibration *c, char out[SS_QUANT_TEXT]);
/** SS_EDAMAGED: not such a line, a number out of its range. SS_EUNFIT: of a later version. */
int ss_quant_parse(const char *text, ss_calibration *c, ss_err *e);

#endif
