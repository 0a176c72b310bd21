/* What stands behind kernels.h at each instruction-set level. Private. */
#ifndef SS_KERNELS_INTERNAL_H
#define SS_KERNELS_INTERNAL_H

#include "base/cpu.h"
#include "kernels/kernels.h"

#define SS_PANEL        16   /* output channels that lie side by side in packed weights */
#define SS_DW_PIXELS    512  /* output pixels whose products are summed in one chain of dw, at least */
#define SS_DW_ROW       8    /* images at least this wide are summed row by row, others window by window */
#define SS_SUM_BLOCK    4096 /* elements summed in f32 before they go to f64 */
#define SS_CHANNEL_ROWS 512  /* rows of a channel sum added up before they go to the total */

/* Order of the taps of one axis in ss_conv_pack_back: those that meet the same phase of the input side by
 * side, descending. */
int ss_conv_back_rank(int tap, int size, int stride);

static inline int ss_panels(int channels)
{
    return (channels + SS_PANEL - 1) / SS_PANEL;
}

/* Windows whose products make one chain of dw. */
static inline int ss_dw_group(const ss_conv *c)
{
    int pixels = c->oh * c->ow;
    return pixels >= SS_DW_PIXELS ? 1 : (SS_DW_PIXELS + pixels - 1) / pixels;
}

/* A stretch of the reduction that lies side by side in input and weights. */
typedef struct ss_segment {
    ptrdiff_t x, w; /* numbers from a pixel's place in the input, and from the panel's begin */
    int len;
} ss_segment;

/* Pixels that share their segments, all output channels. */
typedef struct ss_conv_tile {
    const float *x;
    const ptrdiff_t *in, *out; /* [pixels]: places in x; in add, gate, y */
    int pixels;
    const float *from; /* chains begin with what lies here, whole panels a pixel; NULL: with 0 */
    const ptrdiff_t *from_at;
    const ss_segment *segment;
    int segments;
    const void *w; /* panels, panel_stride weights apart */
    size_t panel_stride;
    bool half; /* weights are f16 */
    int channels;
    const float *bias, *add, *gate; /* or NULL */
    bool relu;
    float *y;
} ss_conv_tile;

/* Rows of the weights (neighbouring input channels of one tap, or any with `row`), all output channels. */
typedef struct ss_dw_tile {
    const float *x, *dy;
    const ptrdiff_t *row; /* [rows]: places in x, or NULL: side by side */
    int rows;
    int count[3]; /* three loops over the pixels, outermost first, and their steps */
    ptrdiff_t x_step[3], y_step[3];
    float *dw; /* [panel][row][16], panels panel_stride floats apart; added to */
    size_t panel_stride;
    int channels;
} ss_dw_tile;

/* One tile of the input to the points, all channels (a multiple of 16). */
typedef struct ss_wino_in {
    int m, channels;
    const float *base[6]; /* row k's pixel j is at base + row + j * pixel */
    ptrdiff_t row[6], pixel;
    unsigned columns; /* bit j: column j lies in the image; the others are zeros */
    float *v;
    ptrdiff_t v_point, v_block; /* floats from point to point, and from 16 channels to the next 16 */
} ss_wino_in;

/* At each point: p [panel][tile][16] = v [depth/16][tile][16] times the panels' weights. */
typedef struct ss_wino_product {
    int points, tiles, depth, panels;
    const float *v;
    ptrdiff_t v_point;
    const float *u; /* [panel][point][depth][16] */
    size_t panel_stride;
    float *p;
    ptrdiff_t p_point;
} ss_wino_product;

/* The points to one tile of the output, and what follows a convolution. */
typedef struct ss_wino_out {
    int m, channels;   /* a multiple of 16 */
    int rows, columns; /* of the tile that lie in the image */
    const float *p;
    ptrdiff_t p_point, p_block;     /* as of v */
    const float *bias, *add, *gate; /* or NULL */
    bool relu;
    float *y;
    ptrdiff_t row, pixel; /* floats from row to row, pixel to pixel of add, gate, y */
} ss_wino_out;

typedef struct ss_kernel_table {
    void (*conv)(const ss_conv_tile *t); /* NULL: the plain loops of scalar.c */
    void (*dw)(const ss_dw_tile *t);
    /* Weights [rows <= 16][channels][taps] to [taps][channels][16], taps to_step floats apart; and that added
     * back. */
    void (*pack_rows)(const float *from, size_t row, size_t rows, size_t taps, size_t channels, float *to,
                      size_t to_step);
    void (*unpack_rows_add)(const float *from, size_t from_step, size_t rows, size_t taps, size_t channels,
                            float *to, size_t row);
    void (*turn)(const float *from, size_t columns,
                 float *to); /* the transpose of [16][16], its first rows */
    void (*wino_in)(const ss_wino_in *t);
    void (*wino_product)(const ss_wino_product *t);
    void (*wino_out)(const ss_wino_out *t);
    void (*wino_weights)(int m, const float *from, size_t from_step, size_t channels, float *to,
                         size_t to_step);
    void (*relu)(size_t n, const float *x, float *y);
    void (*relu_backward)(size_t n, const float *y, const float *dy, float *dx);
    void (*affine)(size_t rows, size_t c, const float *x, const float *scale, const float *shift,
                   const float *add, bool relu, float *y);
    void (*channel_scale)(size_t rows, size_t c, const float *x, const float *scale, float *y);
    /* out [c] += sum over rows of: x; x * y; (x - m)^2; (x - m) * y. */
    void (*channel_sum)(size_t rows, size_t c, const float *x, float *out);
    void (*channel_dot)(size_t rows, size_t c, const float *x, const float *y, float *out);
    void (*channel_square)(size_t rows, size_t c, const float *x, const float *m, float *out);
    void (*channel_dot_centred)(size_t rows, size_t c, const float *x, const float *m, const float *y,
                                float *out);
    /* dx = dy * p + ((x - m) * q + r), all but x, dy, dx per channel. */
    void (*groupnorm_dx)(size_t rows, size_t c, const float *x, const float *dy, const float *m,
                         const float *p, const float *q, const float *r, float *dx);
    void (*weightnorm)(size_t len, float factor, float eps, const float *w, float gain, float *what,
                       float *mean, float *rstd);
    void (*weightnorm_backward)(size_t len, float factor, const float *w, float gain, float mean, float rstd,
                                const float *dwhat, float *dw, float *dgain);
    void (*l2norm)(size_t d, const float *x, float *z, float *norm);
    void (*l2norm_backward)(size_t d, const float *z, float norm, const float *dz, float *dx);
    void (*adam)(size_t n, const float constants[8], float *w, const float *g, float *m, float *v);
    void (*sgd)(size_t n, const ss_sgd *s, float *w, const float *g, float *velocity);
    float (*dot)(size_t n, const float *a, const float *b); /* n <= SS_SUM_BLOCK */
    float (*max_abs)(size_t n, const float *x);
    void (*axpy)(size_t n, float a, const float *x, float *y);
    void (*ema)(size_t n, float a, const float *x, float *y);
    void (*scale)(size_t n, float a, const float *x, float *y);
    void (*f16_from_f32)(size_t n, const float *x, uint16_t *y);
    void (*f32_from_f16)(size_t n, const uint16_t *x, float *y);
    void (*i8_from_f32)(size_t n, float step, const float *x, int8_t *y);
    void (*f32_from_i8)(size_t n, float step, const int8_t *x, float *y);
    /* x: a window; y, which: row oh of its output */
    void (*maxpool)(const ss_maxpool *p, int oh, const float *x, float *y, uint8_t *which);
    void (*maxpool_backward)(const ss_maxpool *p, const float *dy, const uint8_t *which, const float *gate,
                             float *dx);
    void (*avgpool)(size_t pixels, size_t c, const float *x, float *y); /* one window */
    void (*avgpool_backward)(size_t pixels, size_t c, const float *dy, const float *gate, float *dx);
    void (*fill_normal)(const ss_rng *r, uint64_t block, size_t n, float *out);
    void (*mix_distances)(size_t dim, size_t stride, const float *z, const float *mean, float *d2);
    void (*mix_follow)(size_t dim, size_t stride, const float *z, const float *step, float *mean,
                       float *variance, float *spread);
    float (*mix_softmax)(size_t n, const float *score, float *p);
    void (*mix_rows)(size_t dim, size_t stride, const float *mean, const float *variance, float *row_mean,
                     float *row_deviation);
    void (*mix_draw)(const ss_mix_rows *m, const ss_rng *r, size_t n, float *out);
    void (*clean)(size_t n, float limit, const float *in, float *out, uint64_t *nonfinite,
                  uint64_t *excessive);
    void (*taper)(size_t n, const float *x, const float *weight, float inv_sum, float *out);
    void (*spectrum)(size_t half, const float *z, const float *turn, float *work, float *power);
    void (*bands)(size_t rows, const int *first, const int *blocks, const float *weight, const float *power,
                  float floor, float *out);
} ss_kernel_table;

/* Places in the constants of adam. */
enum {
    SS_ADAM_KEEP,
    SS_ADAM_GRAD,
    SS_ADAM_B1,
    SS_ADAM_1B1,
    SS_ADAM_B2,
    SS_ADAM_1B2,
    SS_ADAM_RATE,
    SS_ADAM_EPS
};

extern const ss_kernel_table ss_kernels_scalar, ss_kernels_sse41, ss_kernels_avx2, ss_kernels_avx512,
    ss_kernels_neon;

/* The table in force. */
const ss_kernel_table *ss_kernels(void);
/* For tests: take another level from now on; SS_ENOTSUP where machine or build lack it. */
int ss_kernels_use(ss_cpu level);

#endif
