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

/** What reading has seen of a parameter: checksum, and 1 + the place of a value that is not finite, or 0. */
typedef struct ss_model_seen {
    uint32_t crc;
    size_t wild;
} ss_model_seen;

/**
 * n rows (of the outermost dimension) of a parameter, from row `first` on, out of the model's file; *seen is
 * set. Several threads may call it at the same time.
 */
int ss_model_rows(const ss_model *m, const ss_param *p, size_t first, size_t n, float *to,
                  ss_model_seen *seen, ss_err *e);
/**
 * The same, but no copy of values that are in memory: *at is where they are, there or in `room`. SS_OK in the
 * first case.
 */
int ss_model_part(const ss_model *m, const ss_param *p, size_t first, size_t n, float *room, const float **at,
                  ss_model_seen *seen, ss_err *e);
/** Of a stretch and the next, n floats long, that of both. */
ss_model_seen ss_model_seen_join(ss_model_seen a, ss_model_seen b, size_t n);
/** All of it was read: SS_EDAMAGED, SS_EUNFIT when it is not finite. SS_OK of values in memory. */
int ss_model_expect(const ss_model *m, const ss_param *p, const ss_model_seen *seen, ss_err *e);

/** ss_model_load and ss_model_import behind the opening of the file and the check of its header. */
int ss_model_read(ss_model **m, ss_st *s, ss_err *e);
int ss_model_import_from(ss_model **m, ss_st *s, const ss_model_config *c, uint64_t seed,
                         ss_import_note *note, ss_err *e);

/** Nine digits, which give the same float back, with a point in any locale; room for 16. */
void ss_model_real_text(char *out, size_t room, float v);
/** All of the text as a number, in any locale; it may be infinite or NaN. */
bool ss_model_real_parse(const char *text, float *to);

#endif
