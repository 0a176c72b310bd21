#include "exact.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct image {
    int c, h, w;
    double *v; /* [c][h][w] */
} image;

typedef struct net {
    const ss_model *m;
    const double *value;
    exact_watch *watch;
    void *arg;
} net;

static image blank(int c, int h, int w)
{
    image i = {c, h, w, calloc((size_t)(c * h * w), sizeof(double))};
    if (!i.v)
        abort();
    return i;
}

static const double *find(const net *n, const char *layer, const char *part, const ss_param **p)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    *p = ss_model_find(n->m, name);
    return n->value + (*p)->offset;
}

static image convolve(const net *n, const char *layer, int stride, image x)
{
    const ss_param *p;
    const double *w = find(n, layer, "weight", &p);
    int cin = (int)p->dim[1], size = (int)p->dim[2], pad = size / 2, row = cin * size * size;
    image y = blank((int)p->dim[0], (x.h + stride - 1) / stride, (x.w + stride - 1) / stride);
    for (int o = 0; o < y.c; o++) {
        const double *wo = w + o * row;
        double mean = 0, k = 1;
        if (n->m->config.norm != SS_NORM_BATCH) {
            double square = 0;
            for (int i = 0; i < row; i++)
                mean += wo[i] / row;
            for (int i = 0; i < row; i++)
                square += (wo[i] - mean) * (wo[i] - mean);
            k = 1 / sqrt(square + (double)SS_WEIGHT_EPS);
        }
        for (int i = 0; i < cin; i++)
            for (int a = 0; a < size; a++)
                for (int b = 0; b < size; b++) {
                    double v = (wo[(i * size + a) * size + b] - mean) * k;
                    for (int r = 0; r < y.h; r++) {
                        int xr = r * stride + a - pad;
                        if (xr < 0 || xr >= x.h)
                            continue;
                        const double *from = x.v + (i * x.h + xr) * x.w;
                        double *to = y.v + (o * y.h + r) * y.w;
                        for (int s = 0; s < y.w; s++) {
                            int xs = s * stride + b - pad;
                            if (xs >= 0 && xs < x.w)
                                to[s] += v * from[xs];
                        }
                    }
                }
    }
    return y;
}

/* Convolution and norm, in the words of lib/nn/model.h. */
static image unit(const net *n, const char *conv, const char *norm, int stride, image x)
{
    image y = convolve(n, conv, stride, x);
    const ss_param *p;
    const double *g = find(n, norm, "weight", &p), *b = find(n, norm, "bias", &p);
    int pixels = y.h * y.w;
    if (n->watch)
        n->watch(n->arg, norm, y.c, pixels, y.v);
    for (int o = 0; o < y.c; o++) {
        double shift = 0, k = 1, *row = y.v + o * pixels;
        if (n->m->config.norm == SS_NORM_BATCH) {
            shift = find(n, norm, "running_mean", &p)[o];
            k = 1 / sqrt(find(n, norm, "running_var", &p)[o] + (double)SS_NORM_EPS);
        } else if (n->m->config.norm == SS_NORM_GROUP && o % SS_GROUP_CHANNELS == 0) {
            double mean = 0, var = 0;
            int size = SS_GROUP_CHANNELS * pixels;
            for (int i = 0; i < size; i++)
                mean += row[i] / size;
            for (int i = 0; i < size; i++)
                var += (row[i] - mean) * (row[i] - mean) / size;
            for (int i = 0; i < size; i++)
                row[i] = (row[i] - mean) / sqrt(var + (double)SS_NORM_EPS);
        }
        for (int i = 0; i < pixels; i++)
            row[i] = (row[i] - shift) * k * g[o] + b[o];
    }
    return y;
}

static void relu(image y, double gain)
{
    for (int i = 0; i < y.c * y.h * y.w; i++)
        y.v[i] = y.v[i] > 0 ? gain * y.v[i] : 0;
}

static image pool(image x)
{
    image y = blank(x.c, (x.h + 1) / 2, (x.w + 1) / 2);
    for (int c = 0; c < y.c; c++)
        for (int r = 0; r < y.h; r++)
            for (int s = 0; s < y.w; s++) {
                double max = -INFINITY;
                for (int a = 2 * r - 1; a <= 2 * r + 1; a++)
                    for (int b = 2 * s - 1; b <= 2 * s + 1; b++)
                        if (a >= 0 && a < x.h && b >= 0 && b < x.w)
                            max = fmax(max, x.v[(c * x.h + a) * x.w + b]);
                y.v[(c * y.h + r) * y.w + s] = max;
            }
    return y;
}

void exact_run(const ss_model *m, const double *value, int from, const double *in, double *z,
               exact_watch *watch, void *arg)
{
    exact_run_between(m, value, from, SS_CUT_EMBEDDING, in, z, watch, arg);
}

void exact_run_between(const ss_model *m, const double *value, int from, int until, const double *in,
                       double *z, exact_watch *watch, void *arg)
{
    const net n = {m, value, watch, arg};
    const double gain = m->config.norm == SS_NORM_WEIGHT ? (double)SS_RELU_GAIN : 1;
    uint32_t dim[3];
    ss_model_cut_shape(&m->config, from, dim);
    image x = blank((int)dim[0], (int)dim[1], (int)dim[2]);
    memcpy(x.v, in, (size_t)(x.c * x.h * x.w) * sizeof(double));
    if (from == SS_CUT_INPUT) {
        for (int i = 0; i < x.h * x.w; i++)
            x.v[i] = (x.v[i] - (double)m->config.input_mean) * (double)m->config.input_scale;
        image y = unit(&n, "conv1", "bn1", 2, x);
        relu(y, gain);
        free(x.v);
        x = pool(y);
        free(y.v);
        from = SS_CUT_BLOCK0;
    }
    for (int k = from - SS_CUT_BLOCK0; k < SS_BLOCKS && k < until - SS_CUT_BLOCK0; k++) {
        int down = ss_model_block(&m->config, k).downsample;
        char name[6][48];
        static const char *const part[6] = {"conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1"};
        for (int i = 0; i < 6; i++)
            snprintf(name[i], sizeof name[i], "layer%d.%d.%s", k / 2 + 1, k % 2, part[i]);
        image h = unit(&n, name[0], name[1], down ? 2 : 1, x);
        relu(h, gain);
        image y = unit(&n, name[2], name[3], 1, h);
        image s = down ? unit(&n, name[4], name[5], 2, x) : x;
        for (int i = 0; i < y.c * y.h * y.w; i++)
            y.v[i] += s.v[i];
        relu(y, down ? gain : 1);
        free(h.v);
        if (down)
            free(s.v);
        free(x.v);
        x = y;
    }
    if (until < SS_CUT_EMBEDDING) {
        memcpy(z, x.v, (size_t)(x.c * x.h * x.w) * sizeof *z);
        free(x.v);
        return;
    }
    const ss_param *p;
    const double *w = find(&n, "fc", "weight", &p), *b = find(&n, "fc", "bias", &p);
    int pixels = x.h * x.w, size = m->config.dim;
    double length = 0;
    for (int d = 0; d < size; d++) {
        z[d] = b[d];
        for (int c = 0; c < x.c; c++) {
            double mean = 0;
            for (int i = 0; i < pixels; i++)
                mean += x.v[c * pixels + i] / pixels;
            z[d] += w[d * x.c + c] * mean;
        }
        length += z[d] * z[d];
    }
    for (int d = 0; d < size; d++)
        z[d] /= sqrt(length);
    free(x.v);
}
