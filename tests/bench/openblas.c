/*
 * The plain way as one side of a comparison: patches copied into a matrix (im2col), and OpenBLAS's sgemm.
 *
 *   bench-openblas --steps=FILE --input=FILE [--batch=B] [--threads=T] [--ms=MS]
 *
 * Activations are [c][h][w]. The result is filled with bias and shortcut first and the product added to it.
 * Copying and ReLU are shared among the threads too.
 */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"
#include "ops.h"
#include "side.h"

enum { CUTS = SS_CUT_EMBEDDING + 1 };

static struct ops ops;
static struct ops_options options;
static float *input, *cut[CUTS];
static float **value; /* of each step, one window; value[-1] is the input */
static float *matrix;

static size_t size_of(int step)
{
    int s[3];
    ops_shape(&ops, step, s);
    return (size_t)s[0] * (size_t)s[1] * (size_t)s[2];
}

/* x [c][h][w] -> matrix [c][size][size][oh][ow] */
static void copy_patches(const struct op_head *o, const int in[3], const float *x)
{
    int rows = in[0] * o->size * o->size;
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        int c = r / (o->size * o->size), dy = r / o->size % o->size - o->pad, dx = r % o->size - o->pad;
        const float *plane = x + (size_t)c * (size_t)in[1] * (size_t)in[2];
        float *to = matrix + (size_t)r * (size_t)o->h * (size_t)o->w;
        for (int y = 0; y < o->h; y++, to += o->w) {
            int from_y = y * o->stride + dy;
            if (from_y < 0 || from_y >= in[1]) {
                memset(to, 0, (size_t)o->w * sizeof *to);
                continue;
            }
            const float *row = plane + (size_t)from_y * (size_t)in[2];
            int first = dx < 0 ? (-dx + o->stride - 1) / o->stride : 0;
            int end = in[2] - dx <= 0 ? 0 : (in[2] - dx + o->stride - 1) / o->stride;
            end = end > o->w ? o->w : end;
            memset(to, 0, (size_t)first * sizeof *to);
            if (o->stride == 1)
                memcpy(to + first, row + first + dx, (size_t)(end - first) * sizeof *to);
            else
                for (int i = first; i < end; i++)
                    to[i] = row[i * o->stride + dx];
            memset(to + end, 0, (size_t)(o->w - end) * sizeof *to);
        }
    }
}

static void convolution(const struct op *o, const float *x, const float *shortcut, bool relu, float *y)
{
    const struct op_head *h = &o->head;
    int in[3], pixels = h->h * h->w;
    ops_shape(&ops, h->a, in);
    int depth = in[0] * h->size * h->size;
    copy_patches(h, in, x);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < h->c; c++) {
        size_t at = (size_t)c * (size_t)pixels;
        for (int i = 0; i < pixels; i++)
            y[at + (size_t)i] = o->bias[c] + (shortcut ? shortcut[at + (size_t)i] : 0);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, h->c, pixels, depth, 1, o->weight, depth, matrix,
                pixels, 1, y, pixels);
    if (!relu)
        return;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < h->c * pixels; i++)
        y[i] = y[i] > 0 ? y[i] : 0;
}

static void maxpool(const struct op_head *o, const int in[3], const float *x, float *y)
{
#pragma omp parallel for schedule(static)
    for (int c = 0; c < o->c; c++)
        for (int i = 0; i < o->h; i++)
            for (int k = 0; k < o->w; k++) {
                float most = -INFINITY;
                for (int a = i > 0 ? 2 * i - 1 : 0; a < in[1] && a <= 2 * i + 1; a++)
                    for (int b = k > 0 ? 2 * k - 1 : 0; b < in[2] && b <= 2 * k + 1; b++) {
                        float v = x[((size_t)c * (size_t)in[1] + (size_t)a) * (size_t)in[2] + (size_t)b];
                        most = v > most ? v : most;
                    }
                y[((size_t)c * (size_t)o->h + (size_t)i) * (size_t)o->w + (size_t)k] = most;
            }
}

static void run_step(int i)
{
    const struct op *o = &ops.op[i];
    const struct op_head *h = &o->head;
    const float *x = value[h->a];
    float *y = value[i];
    int in[3];
    ops_shape(&ops, h->a, in);
    int pixels = in[1] * in[2];
    switch (h->kind) {
    case OP_SUB:
        for (int k = 0; k < pixels; k++)
            y[k] = x[k] - o->bias[0];
        break;
    case OP_CONV:
        convolution(o, x, NULL, h->relu, y);
        break;
    case OP_MAXPOOL:
        maxpool(h, in, x, y);
        break;
    case OP_MEAN:
        for (int c = 0; c < h->c; c++) {
            y[c] = 0;
            for (int k = 0; k < pixels; k++)
                y[c] += x[(size_t)c * (size_t)pixels + (size_t)k];
            y[c] /= (float)pixels;
        }
        break;
    case OP_LINEAR:
        memcpy(y, o->bias, (size_t)h->c * sizeof *y);
        cblas_sgemv(CblasRowMajor, CblasNoTrans, h->c, in[0], 1, o->weight, in[0], x, 1, 1, y, 1);
        break;
    case OP_NORMALISE: {
        float length = cblas_snrm2(h->c, x, 1);
        for (int c = 0; c < h->c; c++)
            y[c] = x[c] / length;
        break;
    }
    default:
        abort();
    }
}

static void run_part(int from, int until, const float *in, float *out)
{
    int first, last;
    ops_between(&ops, from, until, &first, &last);
    size_t nin = size_of(first - 1), nout = size_of(last - 1);
    for (int n = 0; n < options.batch; n++) {
        memcpy(value[first - 1], in + (size_t)n * nin, nin * sizeof *in);
        for (int i = first; i < last; i++) {
            const struct op_head *next = i + 1 < last ? &ops.op[i + 1].head : NULL;
            if (next && next->kind == OP_ADDRELU && next->a == i) {
                convolution(&ops.op[i], value[ops.op[i].head.a], value[next->b], true, value[i + 1]);
                i++;
            } else {
                run_step(i);
            }
        }
        memcpy(out + (size_t)n * nout, value[last - 1], nout * sizeof *out);
    }
}

static size_t volume(int k)
{
    return (size_t)options.batch * (size_t)ops_volume(&ops, k);
}

static bool once(const char *what, int k)
{
    int finishing = !strcmp(what, "finish"), end = finishing ? CUTS - 1 : k;
    if ((!finishing && strcmp(what, "encode")) || k < 1 || k >= CUTS - finishing)
        return false;
    if (finishing && !cut[k] && !once("encode", k))
        return false;
    if (!cut[end])
        cut[end] = side_room(volume(end));
    run_part(finishing ? k : SS_CUT_INPUT, end, finishing ? cut[k] : input, cut[end]);
    return true;
}

static const float *result(const char *what, int k, size_t *n)
{
    int end = !strcmp(what, "finish") ? CUTS - 1 : k;
    *n = volume(end);
    return cut[end];
}

static bool read_input(const char *path)
{
    for (int k = 0; k < CUTS; k++) {
        free(cut[k]);
        cut[k] = NULL;
    }
    return side_read(path, input, volume(0));
}

int main(int argc, char **argv)
{
    options = ops_options(argc, argv);
    omp_set_num_threads(options.threads);
    openblas_set_num_threads(options.threads);
    ops_read(&ops, options.steps);
    value = calloc((size_t)ops.n + 1, sizeof *value);
    if (!value)
        return 1;
    value++;
    size_t most = 0;
    for (int i = -1; i < ops.n; i++) {
        value[i] = side_room(size_of(i));
        if (i < 0 || ops.op[i].head.kind != OP_CONV)
            continue;
        const struct op_head *h = &ops.op[i].head;
        size_t floats = (size_t)(h->weights / h->c) * (size_t)h->h * (size_t)h->w;
        most = floats > most ? floats : most;
    }
    matrix = side_room(most);
    input = side_room(volume(0));
    if (!read_input(options.input))
        return 1;
    fprintf(stderr, "# im2col and %s, kernels for %s, batch %d, threads %d\n", openblas_get_config(),
            openblas_get_corename(), options.batch, options.threads);
    struct side side = {options.batch, options.ms, once, result, read_input};
    return side_serve(&side);
}
