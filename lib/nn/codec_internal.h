/* What running a bottleneck shares with training one, and with the model's file; private to nn and learn. */
#ifndef SS_NN_CODEC_INTERNAL_H
#define SS_NN_CODEC_INTERNAL_H

#include "nn/codec.h"

/** Size of the grid of patches over a cut. */
typedef struct ss_patches {
    int c, h, w, patch, rows, cols;
    size_t count, inputs; /* rows * cols; c * patch * patch */
} ss_patches;
ss_patches ss_patches_of(const ss_model_config *c, int cut, int patch);
/** x [c][h][w] -> y [count][c][patch][patch], the edges filled up. */
void ss_patches_take(const ss_patches *p, const float *x, float *y);
/** And back; what fills up edges is left out. */
void ss_patches_put(const ss_patches *p, const float *y, float *x);

static inline int ss_codec_symbols(int width)
{
    return width == SS_CODEC_8 ? 256 : 16;
}

/** Whole steps, within -symbols / 2 .. symbols / 2 - 1, of the first channels. y, q [count][b->channels]. */
void ss_codec_round(const ss_bottleneck *b, int width, int channels, size_t count, const float *y,
                    int16_t *q);

/** What chooses among tables: how large the numbers of a channel to the left and above are. q [rows][cols]
 * [channels] as far as it is known. */
int ss_codec_around(const int16_t *q, int channels, int cols, int row, int col, int channel);

/** The line of text in the metadata; SS_EDAMAGED, SS_EUNFIT (later version). */
#define SS_BOTTLENECK_TEXT 256
void ss_bottleneck_text(const ss_bottleneck *b, char out[SS_BOTTLENECK_TEXT]);
int ss_bottleneck_parse(ss_bottleneck **b, const ss_model_config *c, int cut, const char *text, ss_err *e);

/** The tensors of one, for the file: name behind "codec.CUT.", dtype, shape, where. */
enum { SS_BOTTLENECK_TENSORS = 8 };
typedef struct ss_bottleneck_tensor {
    const char *name;
    int dtype, rank;
    uint64_t dim[4];
    void *data; /* NULL without values */
} ss_bottleneck_tensor;
void ss_bottleneck_tensors(const ss_bottleneck *b, ss_bottleneck_tensor t[SS_BOTTLENECK_TENSORS]);
/** Values finite, steps above 0, tables whole: SS_EUNFIT, SS_EDAMAGED. */
int ss_bottleneck_check(const ss_bottleneck *b, ss_err *e);
/** Allocates its blocks. */
int ss_bottleneck_room(ss_bottleneck *b);

/** A copy with values, wherever the model has them; model_file.c. */
int ss_model_bottleneck(const ss_model *m, int cut, ss_bottleneck **b, ss_err *e);

#endif
