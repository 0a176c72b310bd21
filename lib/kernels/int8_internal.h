/* What stands behind int8.h at each instruction-set level. Private. */
#ifndef SS_KERNELS_INT8_INTERNAL_H
#define SS_KERNELS_INT8_INTERNAL_H

#include "kernels/int8.h"
#include "kernels/internal.h"

/* Pixels by all output channels. */
typedef struct ss_i8_tile {
    const void *x;      /* u8, or u16 at a level that is wide */
    const int32_t *in;  /* [pixels]: places in x */
    const int32_t *out; /* [pixels]: places in add, add32, y, y32 */
    int pixels;
    int segments;      /* rows of the kernel */
    ptrdiff_t segment; /* places from one row to the next in x */
    int len;           /* bytes of a row's weights for one output, a multiple of 4 */
    const int8_t *w;   /* panels, panel_stride bytes apart */
    size_t panel_stride;
    int channels;
    const float *scale, *bias;
    const int32_t *shift;
    const uint8_t *add;
    float add_scale;
    const float *add32;
    uint8_t *y;
    float *y32;
} ss_i8_tile;

typedef struct ss_i8_table {
    void (*conv)(const ss_i8_tile *t); /* NULL: the plain loops of int8.c */
    bool wide;                         /* conv reads u16, which widen makes */
    void (*widen)(size_t n, const uint8_t *x, uint16_t *y);
    /* One row of outputs; rows are `row` bytes apart in x, of which the first is at the window's corner. */
    void (*maxpool)(const ss_maxpool *p, size_t row, const uint8_t *x, uint8_t *y);
    void (*sum)(size_t pixels, size_t c, const uint8_t *x, int32_t *sum); /* added to */
    void (*u8_from_f32)(size_t n, float a, float b, const float *x, uint8_t *y);
    void (*f32_from_u8)(size_t n, float step, const uint8_t *x, float *y);
} ss_i8_table;

extern const ss_i8_table ss_i8_scalar, ss_i8_sse41, ss_i8_avx2, ss_i8_avx512vnni, ss_i8_neon,
    ss_i8_neon_dotprod;

/* The table of a level; that in force. */
const ss_i8_table *ss_i8_table_of(ss_cpu level);
const ss_i8_table *ss_i8(void);
/* For tests, from ss_kernels_use. */
void ss_i8_use(ss_cpu level);

#endif
