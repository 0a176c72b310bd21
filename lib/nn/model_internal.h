/* What the creation of a model shares with its files. */
#ifndef SS_NN_MODEL_INTERNAL_H
#define SS_NN_MODEL_INTERNAL_H

#include <stdbool.h>

#include "io/safetensors.h"
#include "nn/exchange.h"
#include "nn/model.h"

/** Configuration and list of parameters, no values yet. SS_ERANGE, SS_ENOMEM. */
int ss_model_lay_out(ss_model **m, const ss_model_config *c, ss_err *e);
/** Room for the values. SS_ENOMEM; the model stays the caller's. */
int ss_model_alloc(ss_model *m, ss_err *e);

/** ss_model_load and ss_model_import behind the opening of the file and the check of its digest. */
int ss_model_read(ss_model **m, ss_st *s, ss_err *e);
int ss_model_import_from(ss_model **m, ss_st *s, const ss_model_config *c, uint64_t seed,
                         ss_import_note *note, ss_err *e);

/** Nine digits, which give the same float back, with a point in any locale; room for 16. */
void ss_model_real_text(char *out, size_t room, float v);
/** All of the text as a number, in any locale; it may be infinite or NaN. */
bool ss_model_real_parse(const char *text, float *to);

#endif
