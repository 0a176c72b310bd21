/**
 * The arithmetic of the network: what runs on every window and in every training step.
 *
 * Activations are f32, channels-last [n][h][w][c]: n windows, then rows, columns, channels. Weights come as
 * PyTorch's OIHW and are packed once by ss_conv_pack. All matrices are row-major.
 *
 * Order of summation. An output element of a forward (and of dx) is one chain of fused multiply-adds from 0
 * in the order of rows of the kernel, columns, channels, which depends on the layer's shape alone: the result
 * for a window is the same bits in any batch and with any number of threads. With Winograd's algorithm
 * (ss_conv.algo) the same holds of what it does instead: tile by tile, transforms in a fixed order of
 * operations and between them chains over the channels, at each point of its own. Sums over the batch (dw, db,
 * dscale, ...) are taken in an order fixed by shape and batch size, not by threads. The definition is the
 * plain C of scalar.c and elements.h. Weights must be finite.
 *
 * Instruction-set levels. All that have fused multiply-add (all but sse4.1) give the same bits. At sse4.1 the
 * products of ss_conv_forward, _dx, _dw and ss_gemm are rounded before they are added, in the same order: it
 * has bits of its own in these four, the same ones in any batch and with any number of threads, and the bits
 * of the other levels in everything else. They differ from the definition by at most 1e-6 of the sum of the
 * absolute products and of what is added to them; with Winograd's algorithm by 1e-6 (2x2) or 1e-5 (4x4) of
 * the largest such sum of the image. The check program holds them to that.
 *
 * Ownership: all arrays belong to the caller; none may overlap another unless it is said. Any alignment of
 * a float is accepted; 64 bytes (ss_alloc) is fastest. `pool` may be NULL; one call at a time for each pool.
 * `work` is scratch of the number of floats that the _work function next to it tells, from ss_alloc, for one
 * call at a time. No function here allocates or fails, but those that return int (SS_EINVAL: shapes).
 */
#ifndef SS_KERNELS_KERNELS_H
#define SS_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/pool.h"
#include "../base/rng.h"

/* ---- convolution; a linear layer is one of 1x1 over a 1x1 image ---------------------------------------- */

typedef enum ss_conv_algo {
    SS_CONV_DIRECT = 0,
    SS_CONV_WINOGRAD2 = 2, /* by tiles of 2x2 outputs: 2.25 times fewer multiplications */
    SS_CONV_WINOGRAD4 = 4  /* 4x4: 4 times fewer, and four times the weights */
} ss_conv_algo;

typedef struct ss_conv {
    int cin, h, w;    /* input */
    int cout, oh, ow; /* output */
    int kh, kw, stride, pad;
    ss_conv_algo algo; /* of forward and dx: how weights are packed and in which order sums are taken */
    bool half;         /* packed weights of a direct forward are f16, which must hold them exactly */
} ss_conv;

/**
 * Fill c, with oh = (h + 2 pad - kh) / stride + 1 and ow likewise.
 * SS_EINVAL: a size below 1, kernel or stride above 15, a pad below 0 or as large as the kernel.
 */
int ss_conv_init(ss_conv *c, int cin, int h, int w, int cout, int kh, int kw, int stride, int pad);
/** y[n][cout] = x[n][cin] W^T + b with W as PyTorch's [cout][cin]. */
int ss_conv_linear(ss_conv *c, int cin, int cout);

/**
 * Choose the algorithm that should take least time for one window, by counting multiplications, what
 * transforms cost and weights that are read: by the shape alone, so that results are the same wherever they
 * are computed.
 */
void ss_conv_plan(ss_conv *c);

/** Whether half may be set: direct, and a kernel of at most 9 taps. */
bool ss_conv_may_half(const ss_conv *c);

/** "direct", "winograd2", "winograd4". */
const char *ss_conv_algo_name(ss_conv_algo a);

/** Bytes of the packed weights for the forward; floats of those for dx, and of a dw. */
size_t ss_conv_packed(const ss_conv *c);
size_t ss_conv_packed_back(const ss_conv *c);
size_t ss_conv_dw_size(const ss_conv *c);
/**
 * weights [cout][cin][kh][kw] -> packed [cout/16 up][kh][kw][cin][16], unused lanes 0; rounded to f16 with
 * c->half; Winograd: [cout/16][point][cin][16] f32.
 */
void ss_conv_pack(const ss_conv *c, const float *weights, void *packed);
/** weights [cout][cin][kh][kw] -> the form ss_conv_dx reads. */
void ss_conv_pack_back(const ss_conv *c, const float *weights, float *packed);
/** weights [cout][cin][kh][kw] += packed: takes a dw home. */
void ss_conv_unpack_add(const ss_conv *c, const float *packed, float *weights);

/** Floats of scratch for ss_conv_forward, _dx and _dw with up to n windows. */
size_t ss_conv_work(const ss_conv *c, int n, const ss_pool *pool);

/**
 * y = conv(x) + bias + add, then max(y, 0) if relu.
 *   x [n][h][w][cin]   packed of ss_conv_pack   bias [cout] or NULL   add, y [n][oh][ow][cout]; add NULL or y
 * itself A factor on an output (a gain after the activation, a branch's weight) is best multiplied into
 * weights and bias.
 */
void ss_conv_forward(const ss_conv *c, ss_pool *pool, int n, const float *x, const void *packed,
                     const float *bias, const float *add, bool relu, float *y, float *work);
/**
 * dx = gradient at x + add, then 0 where gate <= 0 (gate: the output of the ReLU that made x).
 *   dy [n][oh][ow][cout]   packed of ss_conv_pack_back   add, gate, dx [n][h][w][cin]; add NULL or dx itself;
 * gate NULL
 */
void ss_conv_dx(const ss_conv *c, ss_pool *pool, int n, const float *dy, const float *packed_back,
                const float *add, const float *gate, float *dx, float *work);
/**
 * dw += gradient at the weights, in the packed layout (cleared by the caller before the first call);
 * db [cout] += sum of dy; db NULL: not wanted. Lanes of dw beyond cout are left as they are.
 */
void ss_conv_dw(const ss_conv *c, ss_pool *pool, int n, const float *x, const float *dy, float *dw, float *db,
                float *work);

/* ---- matrix product ---------------------------------------------------------------------------------------
 */

/** Floats of scratch for ss_gemm of this size. */
size_t ss_gemm_work(bool ta, bool tb, int m, int n, int k);
/**
 * out [m][n] = A B, or += with accumulate (the chain from 0 is added to what is there).
 *   A [m][k], or [k][m] with ta; B [k][n], or [n][k] with tb; lda, ldb, ldo: floats from row to row as
 * stored.
 */
void ss_gemm(ss_pool *pool, bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b,
             int ldb, bool accumulate, float *out, int ldo, float *work);

/* ---- pooling ----------------------------------------------------------------------------------------------
 */

typedef struct ss_maxpool {
    int c, h, w, oh, ow;
    int size, stride, pad;
} ss_maxpool;

/** SS_EINVAL: a size below 1 or above 15, a stride below 1, a pad above half the size. */
int ss_maxpool_init(ss_maxpool *p, int c, int h, int w, int size, int stride, int pad);
/** x [n][h][w][c] -> y [n][oh][ow][c]; which [same as y], or NULL: the winning tap, row * size + column, the
 * first of equals. NaN never wins. */
void ss_maxpool_forward(const ss_maxpool *p, ss_pool *pool, int n, const float *x, float *y, uint8_t *which);
/** dx [n][h][w][c] written, and 0 where gate (NULL or as dx) is <= 0. */
void ss_maxpool_backward(const ss_maxpool *p, ss_pool *pool, int n, const float *dy, const uint8_t *which,
                         const float *gate, float *dx);

/** Mean over the pixels: x [n][pixels][c] -> y [n][c]; sum in order of pixels, times 1 / pixels. */
void ss_avgpool_forward(int n, int pixels, int c, const float *x, float *y);
/** dx [n][pixels][c] = dy [n][c] / pixels, and 0 where gate (NULL or as dx) is <= 0. */
void ss_avgpool_backward(int n, int pixels, int c, const float *dy, const float *gate, float *dx);

/* ---- per element and per channel
 * ---------------------------------------------------------------------------- */

/** y = max(x, 0); y may be x. */
void ss_relu(size_t n, const float *x, float *y);
/** dx = dy where y > 0, else 0; dx may be dy. */
void ss_relu_backward(size_t n, const float *y, const float *dy, float *dx);

/** y = fma(x, scale[c], shift[c]) + add, then max(y, 0) if relu; x, add, y [rows][c]; y may be x or add; add
 * may be NULL. */
void ss_affine(size_t rows, int c, const float *x, const float *scale, const float *shift, const float *add,
               bool relu, float *y);
/** dx = dy * scale; dscale [c] += sum dy * x; dshift [c] += sum dy. dx NULL or dy itself; dscale, dshift
 * NULL: not wanted. */
void ss_affine_backward(size_t rows, int c, const float *x, const float *scale, const float *dy, float *dx,
                        float *dscale, float *dshift);

/** mean [c], var [c] (biased) over the rows of x [rows][c]; var by a second pass. rows >= 1. */
void ss_channel_stats(size_t rows, int c, const float *x, float *mean, float *var);
/** sum [c] += sum over the rows of x [rows][c]. */
void ss_channel_sum_add(size_t rows, int c, const float *x, float *sum);

/**
 * Group norm: over the pixels and the c / groups neighbouring channels of each group (groups divides c).
 *   x, add, y [n][pixels][c]   gamma, beta [c]   mean, rstd [n][groups]: kept for the backward
 *   work [6 * n * c], of both functions
 * y = (x - mean) * rstd * gamma + beta + add, then max(y, 0) if relu; rstd = 1 / sqrt(var + eps); y may be x
 * or add.
 */
void ss_groupnorm_forward(ss_pool *pool, int n, int pixels, int c, int groups, float eps, const float *x,
                          const float *gamma, const float *beta, const float *add, bool relu, float *y,
                          float *mean, float *rstd, float *work);
/** dx (may be dy) [n][pixels][c]; dgamma, dbeta [c] added to. */
void ss_groupnorm_backward(ss_pool *pool, int n, int pixels, int c, int groups, const float *x,
                           const float *gamma, const float *mean, const float *rstd, const float *dy,
                           float *dx, float *dgamma, float *dbeta, float *work);

/**
 * Weight standardisation, one row per output channel:
 *   what = (w - mean) * rstd * gain,   rstd = 1 / sqrt(var * factor + eps),   var biased over the row
 * w, what [rows][len], what may be w; gain [rows] or NULL (1); mean, rstd [rows]: kept for the backward.
 * Plain (Qiao et al. 2019): factor 1. Scaled (Brock et al. 2021, arXiv 2101.08692, eq. 1): factor len, the
 * fan-in.
 */
void ss_weightnorm_forward(int rows, int len, float factor, float eps, const float *w, const float *gain,
                           float *what, float *mean, float *rstd);
/** dw [rows][len] and dgain [rows] (NULL: not wanted) are added to; dwhat is the gradient at what. */
void ss_weightnorm_backward(int rows, int len, float factor, const float *w, const float *gain,
                            const float *mean, const float *rstd, const float *dwhat, float *dw,
                            float *dgain);

/** z = x / |x| for each row of [n][d]; norm [n] (NULL: not wanted) = |x|; a row of zeros stays zeros. z may
 * be x. */
void ss_l2norm_forward(int n, int d, const float *x, float *z, float *norm);
/** dx = (dz - z (z . dz)) / norm, zeros where norm is 0. dx may be dz. */
void ss_l2norm_backward(int n, int d, const float *z, const float *norm, const float *dz, float *dx);

/* ---- flat blocks
 * ---------------------------------------------------------------------------------------------- */

typedef struct ss_adam {
    float lr, beta1, beta2, eps;
    float decay;      /* decoupled: w is first multiplied by 1 - lr * decay */
    float grad_scale; /* on the gradient before all else: clipping, or 1 / number of accumulated batches */
    uint64_t step;    /* this one's number, from 1 */
} ss_adam;

/** One step of Adam with bias correction over w, g, m, v [n]; g is read only. As PyTorch's AdamW. */
void ss_adam_step(const ss_adam *a, ss_pool *pool, size_t n, float *w, const float *g, float *m, float *v);

typedef struct ss_sgd {
    float lr, momentum;
    float decay; /* added to the gradient: g + decay * w */
    float grad_scale;
} ss_sgd;

/** velocity = momentum * velocity + g; w -= lr * velocity. As PyTorch's SGD (dampening 0) from a velocity of
 * 0. */
void ss_sgd_step(const ss_sgd *s, ss_pool *pool, size_t n, float *w, const float *g, float *velocity);

/** Sum of squares, in a fixed order: f32 in blocks of 4096, the blocks in f64. */
double ss_sum_squares(size_t n, const float *x);
/** a . b, in the same order. */
double ss_dot(size_t n, const float *a, const float *b);
/** Largest |x|, 0 for n = 0; NaN is passed over. */
float ss_max_abs(size_t n, const float *x);
/** No value is infinite or NaN. */
bool ss_all_finite(size_t n, const float *x);
/** y = fma(a, x, y). */
void ss_axpy(size_t n, float a, const float *x, float *y);
/** y = fma(a, x - y, y): a step of a moving average. */
void ss_ema(size_t n, float a, const float *x, float *y);
/** y = a * x; y may be x. */
void ss_scale(size_t n, float a, const float *x, float *y);

/* ---- conversions
 * ----------------------------------------------------------------------------------------------- */

void ss_f16_from_f32(size_t n, const float *x, uint16_t *y); /* nearest even */
void ss_f32_from_f16(size_t n, const uint16_t *x, float *y);
/** y = x / step rounded to nearest even, within +-127; NaN gives 0. step > 0. */
void ss_i8_from_f32(size_t n, float step, const float *x, int8_t *y);
void ss_f32_from_i8(size_t n, float step, const int8_t *x, float *y);

/** [n][c][pixels] -> [n][pixels][c], and back. */
void ss_hwc_from_chw(int n, int c, int pixels, const float *x, float *y);
void ss_chw_from_hwc(int n, int c, int pixels, const float *x, float *y);

/* ---- random numbers ---- */

/** The very numbers of ss_rng_fill_normal, many at a time. */
void ss_fill_normal(ss_rng *r, float *out, size_t n);

/* ---- mixture of Gaussians; components run fastest: [dim][stride], stride a multiple of 16 ---- */

/** d2 [stride] = |z - mean|^2 for z [dim], mean [dim][stride]. */
void ss_mix_distances(int dim, int stride, const float *z, const float *mean, float *d2);
/**
 * With d = z - mean: mean += step d; variance = (1 - step) (variance + step d^2); spread [stride] = the sum
 * of the variance over dimensions. step [stride]; where all of 16 neighbours (from a multiple of 16 on) are 0
 * nothing is touched, their spread neither.
 */
void ss_mix_follow(int dim, int stride, const float *z, const float *step, float *mean, float *variance,
                   float *spread);
/** Entropy, in nats, of softmax(score) over n scores, n a multiple of 16; p [n] (NULL: not wanted) = softmax.
 * A score 87 below the highest, or -INFINITY, counts as none; one of them must be finite. */
float ss_mix_softmax(int n, const float *score, float *p);
/** What ss_mix_draw reads: row_mean [stride][dim], and row_deviation [stride][dim] = sqrt(variance). */
void ss_mix_to_rows(int dim, int stride, const float *mean, const float *variance, float *row_mean,
                    float *row_deviation);

typedef struct ss_mix_rows {
    int components, dim;
    const float *cumulative; /* [components]: chance of this one or one before; of the last one, taken as 1 */
    const float *mean, *deviation; /* [components][dim] */
} ss_mix_rows;
/**
 * out [n][dim]: a component by chance, a draw from its diagonal Gaussian, scaled to length 1. Rows come in
 * antithetic pairs: the second one deviates from the mean of its component as the first one does, with the
 * sign turned round. Every row has the law asked for, half of the random numbers are saved, and sums over
 * many rows vary less (Hammersley and Morton 1956). Takes from r: one number for the component of each row,
 * then room for a fill of normals for the row.
 */
void ss_mix_draw(const ss_mix_rows *m, ss_rng *r, int n, float *out);

/* ---- frames of sound ---- */

/** out [n] = in, held within +-limit, 0 where it is not finite; both cases are added to the counts. */
void ss_clean(size_t n, float limit, const float *in, float *out, uint64_t *nonfinite, uint64_t *excessive);
/** out [n] = weight (x - mean), mean = inv_sum * sum of weight x, or 0 if inv_sum is 0. */
void ss_taper(size_t n, const float *x, const float *weight, float inv_sum, float *out);
/**
 * power [half + 1] = |X|^2 of the transform X of 2 half real samples, from z [half] complex: the transform of
 * the samples taken as `half` complex numbers. turn: the cosines, then the sines, of -pi k / half for whole k
 * from 0 to below (half + 1) / 2 rounded down. work [3 (half + 1)].
 */
void ss_spectrum_power(int half, const float *z, const float *turn, float *work, float *power);

#define SS_BAND_BLOCK 16 /* filters that go together, and bins side by side */
/**
 * out [rows] = ln(sum of weight power + floor), floor > 0. In each group of 16 filters, the last group filled
 * up, all have the same number of blocks of 16 bins:
 *   first [groups][16]: where a filter begins; blocks [groups];
 *   weight [blocks of the group][16 filters][16 bins], one group behind the other, with zeros where no bin
 * is. power is read as far as blocks go, and must be finite there.
 */
void ss_log_bands(int rows, const int *first, const int *blocks, const float *weight, const float *power,
                  float floor, float *out);

#endif
