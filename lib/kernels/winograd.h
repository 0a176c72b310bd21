/* Winograd's convolution, which conv.c takes where ss_conv.algo says so. Private. */
#ifndef SS_KERNELS_WINOGRAD_H
#define SS_KERNELS_WINOGRAD_H

#include "kernels/internal.h"

/* 3x3, stride 1, channels in whole panels. */
bool ss_winograd_fits(const ss_conv *c);
/* Outputs along a tile's side, 0 for a direct convolution. */
int ss_winograd_tile(const ss_conv *c);

/* Floats of packed weights [panel][point][channel][16], the same for forward and dx; of scratch. */
size_t ss_winograd_packed(const ss_conv *c);
size_t ss_winograd_work(const ss_conv *c, int threads);
void ss_winograd_pack(const ss_conv *c, bool back, const float *weights, float *packed);

typedef struct ss_winograd_args {
    const float *x, *packed, *bias, *add, *gate; /* as ss_conv_forward's and ss_conv_dx's */
    bool relu;
    float *y;
} ss_winograd_args;

void ss_winograd_run(const ss_conv *c, bool back, ss_pool *pool, int n, const ss_winograd_args *a,
                     float *work);

#endif
