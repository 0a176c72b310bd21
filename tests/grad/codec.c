/* Gradients of a bottleneck's training against finite differences of the loss in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "base/rng.h"
#include "exact.h"
#include "kernels/kernels.h"
#include "learn/distil_internal.h"
#include "nn/codec_internal.h"

enum { WINDOWS = 12, BATCH = 3 };

typedef struct problem {
    ss_model *m;
    ss_distil *d;
    ss_bottleneck *b;
    ss_distil_config c;
    int cut, level, width;
    ss_patches grid;
    double *weight; /* [m->nvalue] */
    double *value;  /* [b->nvalue] */
} problem;

static void *room(size_t n, size_t size)
{
    void *p = calloc(n, size);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* Sizes that the patch does not divide. */
static problem make(ss_norm norm, int cut, int patch)
{
    problem p = {.cut = cut};
    ss_model_config c;
    ss_err e;
    ss_model_config_default(&c);
    c.width = 8;
    c.mels = 20;
    c.frames = 28;
    c.dim = 12;
    c.norm = norm;
    ck_assert_int_eq(ss_model_create(&p.m, &c, 2, NULL), SS_OK);
    size_t n = WINDOWS * 20 * 28;
    float *x = room(n, sizeof *x);
    uint16_t *half = room(n, sizeof *half);
    ss_rng r = ss_rng_make(4, 0);
    ss_rng_fill_normal(&r, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = 4 * x[i] - 4.5f;
    ss_f16_from_f32(n, x, half);
    ss_distil_config_default(&p.c, &c, cut);
    p.c.patch = patch;
    p.c.batch = BATCH;
    p.c.steps = 0;
    p.c.price = 1e-3; /* so that the rate is felt */
    p.c.nlevel = 2;
    p.c.level[0] = 3;
    p.c.level[1] = 7;
    ck_assert_msg(ss_distil_open(&p.d, &p.c, p.m, NULL, cut, WINDOWS, half, &e) == SS_OK, "%s", e.text);
    p.b = ss_distil_bottleneck(p.d);
    p.grid = ss_patches_of(&c, cut, patch);
    /* Away from where it begins, which is a minimum for some of it; and no value that is never above 0, since
     * on the edge of ReLU single and double precision differ. */
    for (size_t i = 0; i < (size_t)(p.b->step - p.b->value); i++)
        p.b->value[i] *= 1 + 0.3f * ss_rng_normal(&r);
    for (size_t i = 0; i < 2 * p.b->inputs; i++)
        p.b->decode_bias[i] += 0.1f * (ss_rng_uniform(&r) - 0.3f);
    p.weight = room(p.m->nvalue, sizeof *p.weight);
    for (size_t i = 0; i < p.m->nvalue; i++)
        p.weight[i] = (double)p.m->value[i];
    p.value = room(p.b->nvalue, sizeof *p.value);
    for (size_t i = 0; i < p.b->nvalue; i++)
        p.value[i] = (double)p.b->value[i];
    free(x);
    free(half);
    return p;
}

static void drop(problem *p)
{
    ss_distil_close(&p->d);
    ss_model_free(p->m);
    free(p->weight);
    free(p->value);
}

static const double *part(const problem *p, const float *of)
{
    return p->value + (of - p->b->value);
}

/* The loss of the first windows, as the header has it. */
static double loss(const problem *p)
{
    const ss_bottleneck *b = p->b;
    const int channels = b->level[p->level], dim = p->m->config.dim, q = p->grid.patch;
    const size_t count = p->grid.count, inputs = b->inputs,
                 volume = (size_t)p->grid.c * (size_t)p->grid.h * (size_t)p->grid.w;
    const double *there = part(p, b->encode_weight), *shift = part(p, b->encode_bias),
                 *home = part(p, b->decode_weight),
                 *bias = part(p, b->decode_bias) + (size_t)p->level * inputs;
    double *y = room(BATCH * count * (size_t)channels, sizeof *y), *in = room(volume, sizeof *in),
           *z = room((size_t)dim, sizeof *z), distance = 0, bits = 0;
    float *patch = room(count * inputs, sizeof *patch);
    for (int i = 0; i < BATCH; i++) {
        double *own = y + (size_t)i * count * (size_t)channels, dot = 0, length = 0;
        ss_patches_take(&p->grid, ss_distil_values(p->d) + (size_t)i * volume, patch);
        for (size_t at = 0; at < count; at++) {
            int row = (int)at / p->grid.cols * q, col = (int)at % p->grid.cols * q;
            for (int j = 0; j < channels; j++) {
                double v = shift[j];
                for (size_t k = 0; k < inputs; k++)
                    v += there[(size_t)j * inputs + k] * (double)patch[at * inputs + k];
                own[at * (size_t)channels + (size_t)j] = v;
            }
            for (size_t k = 0; k < inputs; k++) {
                double v = bias[k];
                int c = (int)k / (q * q), h = row + (int)k / q % q, w = col + (int)k % q;
                for (int j = 0; j < channels; j++)
                    v += home[(size_t)j * inputs + k] * own[at * (size_t)channels + (size_t)j];
                if (h < p->grid.h && w < p->grid.w)
                    in[(c * p->grid.h + h) * p->grid.w + w] = p->cut < SS_CUT_EMBEDDING ? fmax(v, 0) : v;
            }
        }
        if (p->cut < SS_CUT_EMBEDDING)
            exact_run(p->m, p->weight, p->cut, in, z, NULL, NULL);
        else
            memcpy(z, in, (size_t)dim * sizeof *z);
        for (int k = 0; k < dim; k++) {
            dot += z[k] * (double)ss_distil_embeddings(p->d)[i * dim + k];
            length += z[k] * z[k];
        }
        distance += (1 - dot / sqrt(length)) / BATCH;
    }
    for (int j = 0; j < channels; j++) {
        size_t rows = BATCH * count;
        double mean = 0, square = 0, step = (double)b->step[p->width * b->channels + j];
        for (size_t i = 0; i < rows; i++)
            mean += y[i * (size_t)channels + (size_t)j] / (double)rows;
        for (size_t i = 0; i < rows; i++)
            square += pow(y[i * (size_t)channels + (size_t)j] - mean, 2) / (double)rows;
        bits += (double)count * 0.5 * log2(1 + 12 * square / step / step);
    }
    free(y);
    free(in);
    free(z);
    free(patch);
    return distance + p->c.price / (p->width == SS_CODEC_8 ? 16 : 1) * bits;
}

/* Each of the four tensors along a random direction, and the loss itself. */
static void check(problem *p)
{
    const ss_bottleneck *b = p->b;
    const size_t channels = (size_t)b->channels;
    const struct {
        const char *name;
        const float *at;
        size_t n;
    } tensor[4] = {{"encode.weight", b->encode_weight, channels * b->inputs},
                   {"encode.bias", b->encode_bias, channels},
                   {"decode.weight", b->decode_weight, channels * b->inputs},
                   {"decode.bias", b->decode_bias, (size_t)b->nlevel * b->inputs}};
    float *grad = room(b->nvalue, sizeof *grad);
    double *direction = room(channels * b->inputs + (size_t)b->nlevel * b->inputs, sizeof *direction);
    double found = ss_distil_loss(p->d, p->level, p->width, BATCH, ss_distil_values(p->d),
                                  ss_distil_embeddings(p->d), false, grad, NULL),
           want = loss(p);
    ck_assert_msg(fabs(found - want) < 1e-4 * (1 + fabs(want)), "loss %.7f, expected %.7f", found, want);
    for (int i = 0; i < 4; i++) {
        size_t at = (size_t)(tensor[i].at - b->value);
        double along = 0, size = 0, h;
        ss_rng r = ss_rng_make(11, (uint64_t)i);
        for (size_t k = 0; k < tensor[i].n; k++) { /* half random, half the gradient itself */
            direction[k] = (double)ss_rng_normal(&r) * fabs((double)grad[at + k]) + (double)grad[at + k];
            along += direction[k] * (double)grad[at + k];
            size += direction[k] * direction[k];
        }
        ck_assert_msg(size > 0, "%s has no gradient", tensor[i].name);
        double scale = 0;
        for (size_t k = 0; k < tensor[i].n; k++)
            scale += p->value[at + k] * p->value[at + k];
        h = 1e-6 * sqrt(scale / size);
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t k = 0; k < tensor[i].n; k++)
                p->value[at + k] += (s ? -2 : 1) * h * direction[k];
            side[s] = loss(p);
        }
        for (size_t k = 0; k < tensor[i].n; k++)
            p->value[at + k] += h * direction[k];
        double slope = (side[0] - side[1]) / (2 * h);
        ck_assert_msg(fabs(slope - along) < 5e-4 * fabs(slope),
                      "%s at cut %s, level %d: slope %g, gradient %g", tensor[i].name, ss_cut_name(p->cut),
                      p->level, slope, along);
    }
    free(grad);
    free(direction);
}

START_TEST(at_cuts)
{
    static const int cut[] = {SS_CUT_BLOCK0, SS_CUT_BLOCK0 + 4, SS_CUT_BLOCK0 + 8};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++)
        for (int norm = SS_NORM_BATCH; norm <= SS_NORM_WEIGHT; norm++) {
            problem p = make((ss_norm)norm, cut[i], i == 2 ? 1 : 2);
            for (p.level = 0; p.level < 2; p.level++) {
                p.width = p.level;
                check(&p);
            }
            drop(&p);
        }
}
END_TEST

START_TEST(at_the_embedding)
{
    problem p = make(SS_NORM_WEIGHT, SS_CUT_EMBEDDING, 1);
    for (p.level = 0; p.level < 2; p.level++)
        check(&p);
    drop(&p);
}
END_TEST

UNIT_MAIN("codec", at_cuts, at_the_embedding)
