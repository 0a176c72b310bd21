/**
 * The arithmetic of the network in eight bits: activations u8 per tensor, weights s8 per output channel, sums
 * s32.
 *
 * Sums of products are whole numbers and exact: |sum| <= 255 * 127 * taps * cin, which ss_i8_conv_init holds
 * below 2^31. What follows them is f32 in one fixed order of IEEE operations. So the result is the same bits
 * at every instruction-set level, in any batch and with any number of threads. The definition is the plain C
 * of int8.c.
 *
 * An image is u8 [h + 2 frame][w + 2 frame][c], its frame holding what the padding of the convolution that
 * reads it stands for: 0 behind a ReLU, the zero point in front of the stem. Images of a batch follow one
 * another, ss_image_size bytes apart.
 *
 * Work is cut into parts that may run at the same time and in any order, so that a network can keep its
 * threads together from layer to layer. No function here allocates or fails, but those that return int
 * (SS_EINVAL: shapes).
 */
#ifndef SS_KERNELS_INT8_H
#define SS_KERNELS_INT8_H

#include "kernels.h"

typedef struct ss_image {
    int h, w, c, frame;
} ss_image;

/** Bytes from one window to the next: the image, and some that may be read behind it. */
size_t ss_image_size(const ss_image *g);
/** Bytes from one row to the next, and from the begin of an image to its first pixel. */
static inline size_t ss_image_row(const ss_image *g)
{
    return ((size_t)g->w + 2 * (size_t)g->frame) * (size_t)g->c;
}
static inline size_t ss_image_first(const ss_image *g)
{
    return (size_t)g->frame * (ss_image_row(g) + (size_t)g->c);
}
/** Fills the frames of n images, all else stays. */
void ss_image_frame(const ss_image *g, int n, uint8_t value, uint8_t *x);

/* ---- convolution ----------------------------------------------------------------------------------------
 */

/** What does not depend on the windows. The arrays are the caller's. */
typedef struct ss_i8_conv {
    ss_conv conv;
    ss_image in, out;          /* in.frame >= conv.pad */
    const int8_t *packed;      /* ss_i8_conv_pack */
    const int32_t *shift;      /* [cout], ss_i8_conv_pack */
    const float *scale, *bias; /* [cout]: of a sum, and in steps of the output */
} ss_i8_conv;

/** Shapes alone; frames as given. SS_EINVAL: a frame narrower than the pad, sums that could pass 2^31. */
int ss_i8_conv_init(ss_i8_conv *k, const ss_conv *c, int frame_in, int frame_out);
/** Bytes of packed weights. */
size_t ss_i8_conv_packed(const ss_conv *c);
/** weights [cout][cin][kh][kw] -> packed [cout/16 up][kh][kw cin / 4 up][16][4], unused lanes 0; and
 * shift [cout] = 128 times the sum of a channel's weights. */
void ss_i8_conv_pack(const ss_conv *c, const int8_t *weights, int8_t *packed, int32_t *shift);

/**
 * v = fma(sum, scale, bias), then + add32, or fma(add, add_scale, v);
 * y = v rounded to nearest even within 0..255 (NaN gives 0), or y32 = v as it is.
 *   x [n] images in   y, add [n] images out, add NULL or y itself
 *   y32, add32 [n] f32 of the out image's layout, ss_image_size floats apart; y NULL: y32 is written
 */
typedef struct ss_i8_job {
    const ss_i8_conv *k;
    int n;
    const uint8_t *x;
    const uint8_t *add;
    float add_scale;
    const float *add32;
    uint8_t *y;
    float *y32;
} ss_i8_job;

/** How many parts to cut the work into for so many threads. */
int ss_i8_conv_parts(const ss_i8_conv *k, int n, int threads);
/** Part `part` of `parts`, any number of them; frames are not touched. work: ss_i8_conv_work bytes, for each
 * thread. */
void ss_i8_conv_part(const ss_i8_job *j, int part, int parts, void *work);
size_t ss_i8_conv_work(const ss_i8_conv *k);

/* ---- the rest -------------------------------------------------------------------------------------------
 */

/** Rows first .. last - 1 of the outputs of n windows taken as one column (n * p->oh of them). Padding counts
 * as what is in the frame, which must be at least as wide; frames of y are not touched. */
void ss_i8_maxpool(const ss_maxpool *p, const ss_image *in, const ss_image *out, const uint8_t *x, uint8_t *y,
                   int first, int last);
/** sum [c] of a window's pixels. */
void ss_i8_sum(const ss_image *g, const uint8_t *x, int32_t *sum);
/** y = fma(x, a, b) rounded to nearest even within 0..255; NaN gives 0. */
void ss_u8_from_f32(size_t n, float a, float b, const float *x, uint8_t *y);
/** y = x * step. */
void ss_f32_from_u8(size_t n, float step, const uint8_t *x, float *y);
/** One window [c][h][w] of the wire to an image, frame not touched, and back. */
void ss_image_from_chw(const ss_image *g, const uint8_t *x, uint8_t *y);
void ss_chw_from_image(const ss_image *g, const uint8_t *x, uint8_t *y);

#endif
