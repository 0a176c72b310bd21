#include "learn/view.h"

#include <string.h>

/* A view in the rows and columns of a cut. */
typedef struct place {
    int roll, top, bottom, left, right;
} place;

/* a n / d, rounded to the nearest; a >= 0. */
static int scaled(int a, uint32_t n, int d)
{
    return (int)(((int64_t)a * n * 2 + d) / (2 * (int64_t)d));
}

static place find(const ss_view *v, int mels, int frames, const uint32_t dim[3])
{
    int roll = scaled(v->roll < 0 ? -v->roll : v->roll, dim[1], mels);
    return (place){v->roll < 0 ? -roll : roll, scaled(v->mel, dim[1], mels),
                   scaled(v->mel + v->mels, dim[1], mels), scaled(v->frame, dim[2], frames),
                   scaled(v->frame + v->frames, dim[2], frames)};
}

/* Row of x that row i of the view is made of. */
static size_t source(const place *p, uint32_t rows, uint32_t i)
{
    int64_t from = (int64_t)i + p->roll;
    return from < 0 ? 0 : from >= (int64_t)rows ? rows - 1 : (size_t)from;
}

static bool masked(const place *p, uint32_t row)
{
    return (int)row >= p->top && (int)row < p->bottom;
}

void ss_view_cut(const ss_view *v, int mels, int frames, const uint32_t dim[3], const float *x,
                 const float *q, float *out)
{
    place p = find(v, mels, frames, dim);
    size_t w = dim[2];
    float own = q ? 1.0f - v->mix : 1.0f, other = v->mix;
    for (uint32_t c = 0; c < dim[0]; c++)
        for (uint32_t i = 0; i < dim[1]; i++) {
            size_t first = (size_t)c * dim[1], at = (first + i) * w;
            const float *from = x + (first + source(&p, dim[1], i)) * w;
            float *to = out + at;
            if (masked(&p, i)) {
                memset(to, 0, w * sizeof *to);
                continue;
            }
            for (size_t j = 0; j < w; j++)
                to[j] = q ? own * from[j] + other * q[at + j] : from[j];
            for (int j = p.left; j < p.right; j++)
                to[j] = 0;
        }
}

void ss_view_cut_back(const ss_view *v, int mels, int frames, const uint32_t dim[3], bool mixed,
                      const float *dout, float *dx)
{
    place p = find(v, mels, frames, dim);
    size_t w = dim[2];
    float own = mixed ? 1.0f - v->mix : 1.0f;
    memset(dx, 0, (size_t)dim[0] * dim[1] * w * sizeof *dx);
    for (uint32_t c = 0; c < dim[0]; c++)
        for (uint32_t i = 0; i < dim[1]; i++) {
            size_t first = (size_t)c * dim[1];
            const float *from = dout + (first + i) * w;
            float *to = dx + (first + source(&p, dim[1], i)) * w;
            for (size_t j = 0; !masked(&p, i) && j < w; j++)
                if ((int)j < p.left || (int)j >= p.right)
                    to[j] += own * from[j];
        }
}
