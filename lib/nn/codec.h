/**
 * Codecs of what crosses a cut: their names and numbers, and the learned bottlenecks of a model.
 *
 * A bottleneck belongs to one cut. What is at the cut, [c][h][w], is taken apart into patches of p x p places
 * (at the right and lower edge filled up with the last column and row); a linear map, the same for each
 * patch, makes `channels` numbers of its c p p values; each channel has a step in eight and one in four bits,
 * and is rounded to whole steps, -128 .. 127 or -8 .. 7 of them; these go through an entropy coder
 * (base/rans.h) with static tables: one for each channel and for each of three contexts, which the same
 * channel's numbers in the patches to the left and above choose. Back: numbers times steps, a linear map to
 * the c p p values, then ReLU at a cut, or length 1 of the embedding. One bottleneck serves several numbers
 * of channels, its levels: it uses the first ones, and has a bias of the map back for each level.
 *
 * A packed payload is a byte that tells one training of a bottleneck from another, then the coder's stream:
 * patches by row, in a patch the channels in order.
 *
 * Determinism: what the decoder makes of a payload is integers, the same on every machine, up to the steps;
 * behind them everything is as in net.h. A window's bytes and values do not depend on what was packed before.
 */
#ifndef SS_NN_CODEC_H
#define SS_NN_CODEC_H

#include <stdbool.h>

#include "model.h"

/* ---- names ---- */

/**
 * Numbers as attribute SS_ATTR_CODEC carries them. 1 to 4 say the dtype of a payload that no codec packs:
 * only a wish (a stamp) is written so, in a record that holds it the dtype tells. From 16 on: a bottleneck of
 * C channels and B bits, named bCiB.
 */
enum {
    SS_CODEC_F32 = 1,
    SS_CODEC_F16 = 2,
    SS_CODEC_I8 = 3,
    SS_CODEC_U8 = 4,
    SS_CODEC_OPUS = 8, /* of sound */
    SS_CODEC_FLAC = 9,
    SS_CODEC_PCM = 10,
    SS_CODEC_LOGMEL_U8 = 11,
    SS_CODEC_BOTTLENECK = 16 /* 16 C + (B == 8) */
};
#define SS_CODEC_CHANNELS 255 /* most of a bottleneck */

/** Number of a name, or SS_EINVAL. */
int ss_codec_parse(const char *name);
/** Name of a number into out, and out; "codec N" for one that is not known. */
const char *ss_codec_name(uint64_t number, char out[32]);
/** Whether it has a name. */
bool ss_codec_known(uint64_t number);
/** Number of a bottleneck's codec; channels and bits of a number, false when it is no bottleneck. */
int ss_codec_number(int channels, int bits);
bool ss_codec_bottleneck(uint64_t number, int *channels, int *bits);
/** SS_DTYPE_... of SS_CODEC_F32 to U8; SS_DTYPE_PACKED of others. */
int ss_codec_dtype(int number);

/* ---- what a model holds ---- */

#define SS_CODEC_LEVELS   8 /* most of a bottleneck */
#define SS_CODEC_PATCH    8 /* largest */
#define SS_CODEC_CONTEXTS 3

enum { SS_CODEC_4 = 0, SS_CODEC_8 = 1, SS_CODEC_WIDTHS = 2 }; /* of numbers: 16 or 256 symbols */

/**
 * A bottleneck as it is stored: tensors codec.CUT.encode.weight and so on, and a line of metadata,
 * streamsplit.codec.CUT. The weights are those of a convolution of stride patch, and of a transposed one.
 */
typedef struct ss_bottleneck {
    int patch, channels, nlevel;
    int level[SS_CODEC_LEVELS]; /* channels, rising; the last one is `channels` */
    uint64_t generation;        /* of the model that it was trained with */
    uint64_t windows;           /* it was trained with */
    size_t inputs;              /* c p p */
    size_t nvalue, nnumber;     /* in the two blocks */
    float *value;               /* NULL while they are in the model's file */
    float *encode_weight;       /* [channels][c][p][p], in `value` as the next ones */
    float *encode_bias;         /* [channels] */
    float *decode_weight;       /* [channels][c][p][p] */
    float *decode_bias;         /* [nlevel][c][p][p] */
    float *step;                /* [2][channels], in four and eight bits */
    uint16_t *number;
    uint16_t *bound;                      /* [2][channels][contexts - 1] */
    uint16_t *frequency[SS_CODEC_WIDTHS]; /* [channels][contexts][symbols] */
} ss_bottleneck;

/** One for a cut of the model, its values 0 and its tables flat; or without values (room false). SS_EINVAL,
 * SS_ENOMEM. */
int ss_bottleneck_create(ss_bottleneck **b, const ss_model_config *c, int cut, int patch, int nlevel,
                         const int *level, bool room);
int ss_bottleneck_clone(ss_bottleneck **to, const ss_bottleneck *from);
void ss_bottleneck_free(ss_bottleneck *b);

/** Codecs of a model at a cut into number [2 SS_CODEC_LEVELS], small ones first; how many. */
int ss_codec_list(const ss_model *m, int cut, int *number);

/* ---- running ---- */

typedef struct ss_codec ss_codec;

/**
 * Those of one cut, ready to run. Of a model whose values are in its file they are read and verified here.
 * The model is not needed afterwards. Errors: SS_EUNFIT (the model has none at this cut, or values that are
 * not finite), SS_EDAMAGED (tables), SS_ENOMEM, those of io/safetensors.h.
 */
int ss_codec_open(ss_codec **c, const ss_model *m, int cut, ss_err *e);
/** SS_OK, or SS_EUNFIT and a text that says what there is. */
int ss_codec_check(const ss_codec *c, uint64_t number, ss_err *e);
/** Most bytes of a payload. */
size_t ss_codec_room(const ss_codec *c);
/** x [c][h][w], finite, to at most ss_codec_room bytes; their number, or SS_EUNFIT. */
int ss_codec_encode(ss_codec *c, uint64_t number, const float *x, void *payload, ss_err *e);
/**
 * And back. SS_EUNFIT: a codec that there is not, a payload of another training. SS_ETRUNC, SS_EDAMAGED: not
 * what an encoder writes. x is written to only in case of success.
 */
int ss_codec_decode(ss_codec *c, uint64_t number, const void *payload, size_t size, float *x, ss_err *e);
size_t ss_codec_memory(const ss_codec *c); /* bytes held */
void ss_codec_close(ss_codec **c);

#endif
