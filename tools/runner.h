/* What ss-encode, ss-finish and ss-train have in common: windows run through the network from cut to cut. */
#ifndef SS_TOOLS_RUNNER_H
#define SS_TOOLS_RUNNER_H

#include "common.h"
#include "nn/codec.h"
#include "nn/model.h"

enum { RUNNER_AUTO = -1 };

typedef struct runner_settings {
    const char *model; /* file, required */
    bool follow;       /* take up the file anew, between records, when it was replaced */
    const char *arith; /* "int8", "f16", or NULL or "f32" */
    const char *dtype; /* of payloads written: "f32", "f16", "i8", or "auto": u8 at a cut of int8, else f32 */
    int codec; /* SS_CODEC_... that packs them in the place of a dtype, or 0: with `until` auto as stamped */
    int batch; /* most records in one run; only what can be read without waiting is put together */
    int from;  /* cut that data records are at; RUNNER_AUTO: as stream and records say */
    int until; /* cut to run to; RUNNER_AUTO: as each record of features is stamped */
    int work, wait; /* attributes of the stage's times */
} runner_settings;

/* The whole filter from `input` (NULL = standard input) to the output. Returns what tool_finish takes. */
int runner_run(const runner_settings *s, const char *input, ss_err *e);

/* Its parts, for who has a loop of his own. */

/* SS_EUNFIT: the record's shape is not that of the cut. */
int runner_check_shape(const ss_model_config *c, const ss_record *rec, int cut, ss_err *e);
/* to [n] f32, from a payload f32, f16, i8 or u8 with its scale, or features packed as logmel-u8. n values are
 * what its dims say. */
int runner_unpack(const ss_record *rec, size_t n, float *to, ss_err *e);
/* Shape, dtype, scale and payload of `rec` for values x at a cut; payload has room for them in that dtype,
 * and is borrowed, or x is when the dtype is f32. */
void runner_pack(const ss_model_config *c, ss_record *rec, int cut, int dtype, const float *x, void *payload);

/* Codecs of a model, opened when they are first wanted; with a NULL model only those that are open. */
typedef struct runner_codecs {
    ss_codec *at[SS_CUT_EMBEDDING + 1];
    void *payload[SS_CUT_EMBEDDING + 1];
} runner_codecs;
int runner_codecs_open(runner_codecs *c, const ss_model *m, int cut, ss_err *e);
void runner_codecs_close(runner_codecs *c);
/* runner_unpack of payloads of codecs too. */
int runner_decode(runner_codecs *c, const ss_model *m, const ss_record *rec, int cut, size_t n, float *to,
                  ss_err *e);
/* runner_pack by a codec of the model: rec->data lasts until the next call. */
int runner_encode(runner_codecs *c, const ss_model *m, ss_record *rec, int cut, int codec, const float *x,
                  ss_err *e);
/* Value of --codec: a codec's number, or 0 and the dtype that it names. */
int runner_codec_option(const char *codec, const char **dtype);
/* What a record that is stamped with a cut asks for beside it: the number of a codec that the model has
 * there; *dtype is set where it asks for one. Else 0: it asks for nothing, or (said once) for what there is
 * not. */
int runner_wish(runner_codecs *c, const ss_model *m, const ss_record *rec, int cut, int *dtype);

/* What takes the place of a record whose values cannot be used. */
ss_record runner_gap(const ss_record *rec);

#endif
