/* The definitions that are not rows of the table; see kernels.h for what each does. Private. */
#ifndef SS_KERNELS_SCALAR_H
#define SS_KERNELS_SCALAR_H

#include "kernels/internal.h"

/* Where in the packed weights the channels of one output (of dx: of one input channel) and tap begin. */
static inline size_t ss_packed_at(const ss_conv *c, int o, int r, int s)
{
    return (((size_t)(o / SS_PANEL) * (size_t)c->kh + (size_t)r) * (size_t)c->kw + (size_t)s) *
               (size_t)c->cin * SS_PANEL +
           (size_t)(o % SS_PANEL);
}

static inline size_t ss_packed_back_at(const ss_conv *c, int ci, int r, int s)
{
    size_t row = (size_t)ss_conv_back_rank(r, c->kh, c->stride),
           column = (size_t)ss_conv_back_rank(s, c->kw, c->stride);
    return (((size_t)(ci / SS_PANEL) * (size_t)c->kh + row) * (size_t)c->kw + column) * (size_t)c->cout *
               SS_PANEL +
           (size_t)(ci % SS_PANEL);
}

void ss_scalar_conv_forward(const ss_conv *c, int n, const float *x, const void *packed, const float *bias,
                            const float *add, bool relu, float *y);
void ss_scalar_conv_dx(const ss_conv *c, int n, const float *dy, const float *packed, const float *add,
                       const float *gate, float *dx);
void ss_scalar_conv_dw(const ss_conv *c, int n, const float *x, const float *dy, float *dw);
void ss_scalar_gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb,
                    bool accumulate, float *out, int ldo);

#endif
