/**
 * A model: configuration, named parameters, metadata, as a safetensors file holds them.
 *
 * Parameters keep the names and shapes of a PyTorch ResNet-18 state dict (conv1.weight [o][i][kh][kw],
 * bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var, layer1.0.conv1.weight, ...,
 * layer2.0.downsample.0.weight, ..., fc.weight [d][c], fc.bias [d]); num_batches_tracked is not kept.
 * All trainable ones lie in one block, so that an optimiser, an average or a delta is one loop; the running
 * statistics lie behind them.
 * Ownership: the model owns all it points to. Not locked: one writer, or many readers.
 */
#ifndef SS_NN_MODEL_H
#define SS_NN_MODEL_H

#include <stdint.h>
#include <stddef.h>

#include "../base/err.h"
#include "../io/stream.h"

#define SS_BLOCKS 8 /* basic blocks of a ResNet-18; cuts are after 0..8 of them */

typedef enum ss_norm {
    SS_NORM_BATCH = 1, /* running statistics, constants within a step; folds into the convolution */
    SS_NORM_GROUP = 2, /* group norm, and weight standardisation of the convolutions */
    SS_NORM_WEIGHT = 3 /* scaled weight standardisation alone (normaliser-free); folds into the convolution */
} ss_norm;

/** "batch", "group", "weight", or NULL; norm of a name, or SS_EINVAL. */
const char *ss_norm_name(int norm);
int ss_norm_parse(const char *name);

/*
 * Constants of the norms. g, b: the norm's weight and bias [o]; v: the standardised weight
 * (w - mean_o) / sqrt(var_o fan_in + SS_WEIGHT_EPS), mean and biased variance over an output channel's
 * weights.
 *
 * batch: y = (conv(x, w) - running_mean) g / sqrt(running_var + SS_NORM_EPS) + b.
 *
 * group: y = g n + b, n the group norm of conv(x, v) over SS_GROUP_CHANNELS channels at a time, with
 * SS_NORM_EPS.
 *
 * weight: y = g conv(x, v) + b. No statistics hold the scale of the activations, so ReLU is
 * SS_RELU_GAIN max(0, .), which gives unit variance for unit variance, after the stem, between the two
 * convolutions of a block, and after a block with a downsample; after a block without one it is plain. The
 * last gain of a block starts at SS_SKIP_GAIN, so that depth adds little variance at the start. Source:
 * Brock, De, Smith, "Characterizing signal propagation to close the performance gap in unnormalized ResNets",
 * ICLR 2021.
 */
#define SS_NORM_EPS       1e-5f
#define SS_WEIGHT_EPS     1e-4f
#define SS_GROUP_CHANNELS 8
#define SS_RELU_GAIN      1.7139f
#define SS_SKIP_GAIN      0.5f

typedef struct ss_model_config {
    int width;  /* channels of the stem: 64, 32, 16 for width 1, 1/2, 1/4; then times 1, 2, 4, 8 */
    int mels;   /* height of the input window, 64 */
    int frames; /* its length T, 96 */
    int dim;    /* of the embedding, 128 */
    ss_norm norm;
    float input_mean, input_scale; /* the net sees (x - input_mean) * input_scale */
} ss_model_config;

void ss_model_config_default(ss_model_config *c);

typedef struct ss_param {
    char name[64];
    int rank;
    uint32_t dim[4];
    size_t offset, count; /* floats in ss_model.value */
    int trainable;
} ss_param;

/* Tensors between layers that have a scale in eight bits: behind the stem, then inside and behind each block.
 */
#define SS_I8_TENSORS (1 + 2 * SS_BLOCKS)

/** What nn/quant.h finds, in f32: value = (number - zero) * step at the input, number * scale elsewhere. */
typedef struct ss_calibration {
    uint64_t records;    /* it was computed from; 0: there is none */
    uint64_t generation; /* of the weights it was computed with: not valid for others */
    int method;          /* SS_QUANT_... */
    int input_zero;      /* 0..255 */
    float input_step;
    float scale[SS_I8_TENSORS];
} ss_calibration;

struct ss_st;
struct ss_st_tensor;
struct ss_bottleneck;

typedef struct ss_model {
    ss_model_config config;
    ss_param *param;
    int nparam;
    float *value;      /* [ntrainable + running statistics]; NULL while they are in the file */
    size_t ntrainable; /* floats that are learnt: they come first */
    size_t nvalue;
    uint64_t generation;
    uint64_t synchronised;  /* version of the server's weights taken in last (learn/sync.h), or given out; 0:
                               none */
    char frontend_hash[17]; /* of the features it was made for, "" = any */
    char *mixture;          /* serialised distributional memory that travels with the model, or NULL */
    size_t mixture_size;
    ss_calibration calibration;
    struct ss_bottleneck *codec[SS_CUT_EMBEDDING + 1]; /* nn/codec.h, of each cut, or NULL; its values may be
                                                          in the file too */
    struct ss_st *file;                                /* from which values are read, or NULL */
    const struct ss_st_tensor **tensor;                /* [nparam] in it */
} ss_model;

/** SS_OK, or SS_ERANGE and a text that names the field. */
int ss_model_config_check(const ss_model_config *c, ss_err *e);

/**
 * A fresh model, weights drawn from the seed: each tensor's bits depend on seed and name alone. Convolutions
 * N(0, 2 / fan_in), fc uniform within 1 / sqrt(fan_in), biases 0, gains 1 (see SS_SKIP_GAIN). Generation 0.
 * Errors: SS_ERANGE, SS_ENOMEM.
 */
int ss_model_create(ss_model **m, const ss_model_config *c, uint64_t seed, ss_err *e);
/** SS_EINVAL: its values are not in memory. */
int ss_model_clone(ss_model **to, const ss_model *from, ss_err *e);
void ss_model_free(ss_model *m);

/** NULL when there is none of that name, or no value in memory. The values may be written to. */
const ss_param *ss_model_find(const ss_model *m, const char *name);
float *ss_model_values(ss_model *m, const char *name);

/**
 * Open a file that ss_model_save wrote, and leave the values in it: a network reads those that it needs
 * (ss_net_open), each is verified when it is read. The file stays open, so that a new one of its name changes
 * nothing; one that was changed in place is found to be damaged. Nothing is allocated for a tensor that the
 * file does not hold.
 * Errors: SS_EIO, SS_EDAMAGED and SS_ETRUNC (digest, header), SS_EUNFIT (a foreign file, another format
 * version, tensors that are not those of the architecture).
 */
int ss_model_open(ss_model **m, const char *path, ss_err *e);
/** Read all values and close the file. SS_EUNFIT: values that are not finite; else as above, and SS_ENOMEM.
 */
int ss_model_fill(ss_model *m, ss_err *e);
/** Both, in one call. */
int ss_model_load(ss_model **m, const char *path, ss_err *e);
/**
 * ss_model_open or ss_model_load, but when `path` is damaged, truncated or gone and path.prev is whole, that
 * one: then *previous is 1 and *e says what was wrong with `path`, for a warning; both may be NULL. When
 * neither opens the error is that of `path`.
 */
int ss_model_open_any(ss_model **m, const char *path, int *previous, ss_err *e);
int ss_model_load_any(ss_model **m, const char *path, int *previous, ss_err *e);
/**
 * Write to a temporary name, fsync, rename over path, fsync the folder, read back (io/atomic.h); what stood
 * there stays as path.prev. Errors: SS_EIO, SS_ENOMEM, SS_EINVAL (its values are not in memory),
 * SS_EUNFIT (a value that is not finite: nothing is written).
 */
int ss_model_save(const ss_model *m, const char *path, ss_err *e);

/** Hash of the architecture (config without values): 16 hex digits for stream headers. */
void ss_model_arch_hash(const ss_model_config *c, char out[17]);

/** Shape at a cut (SS_CUT_...): dims [channels][height][width] (embedding: [dim][1][1]). */
void ss_model_cut_shape(const ss_model_config *c, int cut, uint32_t dim[3]);
/** Values there; at the cut that has most of them. */
size_t ss_model_cut_size(const ss_model_config *c, int cut);
size_t ss_model_largest_cut(const ss_model_config *c);
/** Channels in and out and stride of block k (0..7); the first of a later stage has a downsample. */
typedef struct ss_block {
    int in, out, stride, downsample;
} ss_block;
ss_block ss_model_block(const ss_model_config *c, int k);
/** Multiply-adds of one window from the input to the cut, without norms; learnt parameters needed up to it.
 */
uint64_t ss_model_macs(const ss_model_config *c, int cut);
uint64_t ss_model_params(const ss_model_config *c, int cut);

#endif
