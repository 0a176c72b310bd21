/*
 * Every backward of kernels.h against central differences. The loss is the sum of r * y with fixed random r,
 * added up in double; along a line in one array it is compared with the gradient there.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../unit/unit.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"

static ss_rng rng = {7, 0, 0};

static float *normal(size_t n)
{
    float *p = ss_alloc(n, sizeof *p);
    ck_assert_ptr_nonnull(p);
    ss_rng_fill_normal(&rng, p, n);
    return p;
}

static float *zeros(size_t n)
{
    float *p = ss_zalloc(n, sizeof *p);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* Distinct numbers 0.05 apart and none nearer to 0 than half of that, in random order: no step below 0.02
 * meets a kink. */
static float *apart(size_t n)
{
    float *p = zeros(n);
    uint32_t *order = ss_alloc(n, sizeof *order);
    ss_rng_shuffle(&rng, order, n);
    for (size_t i = 0; i < n; i++)
        p[i] = 0.05f * ((float)order[i] - (float)(n / 2) + 0.5f);
    ss_free(order);
    return p;
}

static double weigh(const float *r, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)r[i] * (double)y[i];
    return sum;
}

/* Along eight random directions and eight axes. `step` is what an element moves to either side. */
static void check(const char *name, double (*loss)(void *), void *arg, float *p, const float *grad, size_t n,
                  float step)
{
    float *start = zeros(n), *way = zeros(n);
    memcpy(start, p, n * sizeof *p);
    double length = sqrt(weigh(grad, grad, n));
    for (int k = 0; k < 16; k++) {
        memset(way, 0, n * sizeof *way);
        if (k < 8)
            for (size_t i = 0; i < n; i++)
                way[i] = ss_rng_below(&rng, 2) ? 1.0f : -1.0f;
        else
            way[ss_rng_below(&rng, (uint32_t)n)] = 1.0f;
        double side[2], moved[2];
        for (int s = 0; s < 2; s++) {
            moved[s] = 0;
            for (size_t i = 0; i < n; i++) {
                p[i] = start[i] + (s ? step : -step) * way[i];
                moved[s] += (double)grad[i] * ((double)p[i] - (double)start[i]);
            }
            side[s] = loss(arg);
        }
        memcpy(p, start, n * sizeof *p);
        double numeric = side[1] - side[0], exact = moved[1] - moved[0];
        double scale = 2 * (double)step * length;
        ck_assert_msg(fabs(numeric - exact) <= 2e-3 * scale + 1e-6,
                      "%s: difference %g, gradient says %g (of %g)", name, numeric, exact, scale);
    }
    ss_free(start);
    ss_free(way);
}

/* ---- convolution ---- */

typedef struct conv_case {
    ss_conv c;
    int n;
    size_t in, out, weights;
    float *x, *w, *bias, *add, *y, *r, *packed, *work;
    bool relu;
} conv_case;

static double conv_loss(void *arg)
{
    conv_case *k = arg;
    ss_conv_pack(&k->c, k->w, k->packed);
    ss_conv_forward(&k->c, NULL, k->n, k->x, k->packed, k->bias, k->add, k->relu, k->y, k->work);
    return weigh(k->r, k->y, k->out);
}

static void conv_gradients(ss_conv c, int n, bool relu)
{
    conv_case k = {.c = c, .n = n, .relu = relu};
    k.in = (size_t)n * (size_t)c.h * (size_t)c.w * (size_t)c.cin;
    k.out = (size_t)n * (size_t)c.oh * (size_t)c.ow * (size_t)c.cout;
    k.weights = (size_t)c.cout * (size_t)c.cin * (size_t)c.kh * (size_t)c.kw;
    k.x = normal(k.in);
    k.w = normal(k.weights);
    k.bias = normal((size_t)c.cout);
    k.add = normal(k.out);
    k.r = normal(k.out);
    k.y = zeros(k.out);
    k.packed = zeros(ss_conv_packed(&c) / sizeof(float));
    k.work = zeros(ss_conv_work(&c, n, NULL));
    if (relu) {
        /* Whole numbers and biases of a half: no output is nearer than that to the kink. */
        float *const whole[] = {k.x, k.w, k.add};
        const size_t sizes[] = {k.in, k.weights, k.out};
        for (int a = 0; a < 3; a++)
            for (size_t i = 0; i < sizes[a]; i++)
                whole[a][i] = (float)ss_rng_below(&rng, 3) - 1.0f;
        for (int o = 0; o < c.cout; o++)
            k.bias[o] = 0.5f;
    }
    conv_loss(&k);

    float *dy = zeros(k.out), *dx = zeros(k.in), *dw = zeros(ss_conv_dw_size(&c)),
          *dweights = zeros(k.weights), *db = zeros((size_t)c.cout);
    float *back = zeros(ss_conv_packed_back(&c));
    memcpy(dy, k.r, k.out * sizeof *dy);
    if (relu)
        ss_relu_backward(k.out, k.y, dy, dy);
    ss_conv_pack_back(&c, k.w, back);
    ss_conv_dx(&c, NULL, n, dy, back, NULL, NULL, dx, k.work);
    ss_conv_dw(&c, NULL, n, k.x, dy, dw, db, k.work);
    ss_conv_unpack_add(&c, dw, dweights);
    float step = relu ? 0.01f : 0.05f; /* the loss is linear in each, or piecewise so */
    check("conv x", conv_loss, &k, k.x, dx, k.in, step);
    check("conv weights", conv_loss, &k, k.w, dweights, k.weights, step);
    check("conv bias", conv_loss, &k, k.bias, db, (size_t)c.cout, step);
    check("conv add", conv_loss, &k, k.add, dy, k.out, step);
    float *all[] = {k.x, k.w, k.bias, k.add, k.r, k.y, k.packed, k.work, dy, dx, dw, dweights, db, back};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}

START_TEST(conv)
{
    static const int shapes[][9] = {
        /* cin h w cout kh kw stride pad n */
        {1, 13, 11, 16, 7, 7, 2, 3, 2}, {16, 5, 6, 16, 3, 3, 1, 1, 8}, {16, 6, 6, 20, 3, 3, 2, 1, 2},
        {12, 5, 5, 9, 1, 1, 2, 0, 7},   {3, 7, 8, 5, 3, 5, 1, 2, 3},   {4, 9, 9, 6, 4, 4, 3, 2, 2},
        {40, 1, 1, 24, 1, 1, 1, 0, 9},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        ss_conv c;
        ck_assert_int_eq(ss_conv_init(&c, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), 0);
        conv_gradients(c, s[8], false);
    }
}
END_TEST

START_TEST(conv_through_relu)
{
    ss_conv c;
    ck_assert_int_eq(ss_conv_init(&c, 4, 6, 6, 8, 3, 3, 1, 1), 0);
    conv_gradients(c, 2, true);
}
END_TEST

/* The gate and the sum that ss_conv_dx takes along are those of doing them apart. */
START_TEST(conv_dx_gate_and_add)
{
    ss_conv c;
    ck_assert_int_eq(ss_conv_init(&c, 10, 6, 5, 7, 3, 3, 2, 1), 0);
    size_t in = 2 * 6 * 5 * 10, out = 2 * (size_t)(c.oh * c.ow) * 7;
    float *w = normal(7 * 10 * 9), *dy = normal(out), *add = normal(in), *gate = normal(in), *dx = zeros(in),
          *both = zeros(in);
    float *back = zeros(ss_conv_packed_back(&c)), *work = zeros(ss_conv_work(&c, 2, NULL));
    ss_conv_pack_back(&c, w, back);
    ss_conv_dx(&c, NULL, 2, dy, back, NULL, NULL, dx, work);
    ss_conv_dx(&c, NULL, 2, dy, back, add, gate, both, work);
    for (size_t i = 0; i < in; i++)
        ck_assert_float_eq(both[i], gate[i] > 0 ? dx[i] + add[i] : 0.0f);
    float *all[] = {w, dy, add, gate, dx, both, back, work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}
END_TEST

/* ---- matrix product: gradients are products again, with the transposed forms ---- */

typedef struct gemm_case {
    int m, n, k;
    float *a, *b, *y, *r, *work;
} gemm_case;

static double gemm_loss(void *arg)
{
    gemm_case *g = arg;
    ss_gemm(NULL, false, false, g->m, g->n, g->k, g->a, g->k, g->b, g->n, false, g->y, g->n, g->work);
    return weigh(g->r, g->y, (size_t)(g->m * g->n));
}

START_TEST(gemm)
{
    gemm_case g = {.m = 13, .n = 21, .k = 9};
    size_t most = 13 * 32 + 32 * 32;
    g.a = normal(13 * 9);
    g.b = normal(9 * 21);
    g.r = normal(13 * 21);
    g.y = zeros(13 * 21);
    g.work = zeros(most);
    float *da = zeros(13 * 9), *db = zeros(9 * 21);
    ck_assert_uint_le(ss_gemm_work(false, true, 13, 9, 21), most);
    ck_assert_uint_le(ss_gemm_work(true, false, 9, 21, 13), most);
    ss_gemm(NULL, false, true, 13, 9, 21, g.r, 21, g.b, 21, false, da, 9, g.work);
    ss_gemm(NULL, true, false, 9, 21, 13, g.a, 9, g.r, 21, true, db, 21, g.work);
    check("gemm a", gemm_loss, &g, g.a, da, 13 * 9, 0.05f);
    check("gemm b", gemm_loss, &g, g.b, db, 9 * 21, 0.05f);
    float *all[] = {g.a, g.b, g.r, g.y, g.work, da, db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}
END_TEST

/* ---- pooling ---- */

typedef struct pool_case {
    ss_maxpool p;
    int n;
    size_t out;
    float *x, *y, *r;
    uint8_t *which;
} pool_case;

static double maxpool_loss(void *arg)
{
    pool_case *k = arg;
    ss_maxpool_forward(&k->p, NULL, k->n, k->x, k->y, k->which);
    return weigh(k->r, k->y, k->out);
}

START_TEST(maxpool)
{
    static const int shapes[][6] = {
        {16, 8, 10, 3, 2, 1}, {5, 7, 7, 3, 2, 1}, {3, 6, 5, 2, 2, 0}, {4, 9, 8, 3, 1, 1}, {2, 9, 9, 4, 3, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        pool_case k = {.n = 2};
        ck_assert_int_eq(ss_maxpool_init(&k.p, s[0], s[1], s[2], s[3], s[4], s[5]), 0);
        size_t in = 2 * (size_t)(s[0] * s[1] * s[2]);
        k.out = 2 * (size_t)(k.p.oh * k.p.ow * s[0]);
        k.x = apart(in);
        k.y = zeros(k.out);
        k.r = normal(k.out);
        k.which = ss_alloc(k.out, 1);
        float *dx = zeros(in);
        maxpool_loss(&k);
        ss_maxpool_backward(&k.p, NULL, 2, k.r, k.which, NULL, dx);
        check("maxpool", maxpool_loss, &k, k.x, dx, in, 0.01f);
        ss_free(k.x);
        ss_free(k.y);
        ss_free(k.r);
        ss_free(k.which);
        ss_free(dx);
    }
}
END_TEST

static double avgpool_loss(void *arg)
{
    pool_case *k = arg;
    ss_relu(2 * 6 * 10, k->x, k->y);
    float pooled[20];
    ss_avgpool_forward(2, 6, 10, k->y, pooled);
    return weigh(k->r, pooled, 20);
}

START_TEST(avgpool)
{
    pool_case k = {.x = apart(120), .y = zeros(120), .r = normal(20)};
    float *dx = zeros(120);
    avgpool_loss(&k);
    ss_avgpool_backward(2, 6, 10, k.r, k.y, dx);
    check("avgpool through relu", avgpool_loss, &k, k.x, dx, 120, 0.01f);
    ss_free(k.x);
    ss_free(k.y);
    ss_free(k.r);
    ss_free(dx);
}
END_TEST

/* ---- per channel ---- */

typedef struct norm_case {
    int n, pixels, c, groups;
    size_t size;
    bool relu;
    float factor;
    float *x, *scale, *shift, *add, *y, *r, *mean, *rstd, *work;
} norm_case;

static double affine_loss(void *arg)
{
    norm_case *k = arg;
    ss_affine((size_t)(k->n * k->pixels), k->c, k->x, k->scale, k->shift, k->add, k->relu, k->y);
    return weigh(k->r, k->y, k->size);
}

static double groupnorm_loss(void *arg)
{
    norm_case *k = arg;
    ss_groupnorm_forward(NULL, k->n, k->pixels, k->c, k->groups, 1e-5f, k->x, k->scale, k->shift, k->add,
                         k->relu, k->y, k->mean, k->rstd, k->work);
    return weigh(k->r, k->y, k->size);
}

static norm_case norm_open(int n, int pixels, int c, int groups)
{
    norm_case k = {.n = n, .pixels = pixels, .c = c, .groups = groups, .size = (size_t)(n * pixels * c)};
    k.x = normal(k.size);
    k.scale = normal((size_t)c);
    k.shift = normal((size_t)c);
    k.add = normal(k.size);
    k.r = normal(k.size);
    k.y = zeros(k.size);
    k.mean = zeros((size_t)(n * groups));
    k.rstd = zeros((size_t)(n * groups));
    k.work = zeros(6 * (size_t)(n * c));
    return k;
}

static void norm_close(norm_case *k)
{
    float *all[] = {k->x, k->scale, k->shift, k->add, k->r, k->y, k->mean, k->rstd, k->work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}

START_TEST(affine)
{
    norm_case k = norm_open(3, 20, 11, 1);
    size_t c = 11;
    float *dx = zeros(k.size), *dscale = zeros(c), *dshift = zeros(c);
    ss_affine_backward(60, 11, k.x, k.scale, k.r, dx, dscale, dshift);
    check("affine x", affine_loss, &k, k.x, dx, k.size, 0.05f);
    check("affine scale", affine_loss, &k, k.scale, dscale, c, 0.05f);
    check("affine shift", affine_loss, &k, k.shift, dshift, c, 0.05f);
    ss_free(dx);
    ss_free(dscale);
    ss_free(dshift);
    norm_close(&k);
}
END_TEST

START_TEST(groupnorm)
{
    static const int shapes[][4] = {{2, 12, 16, 4}, {3, 7, 15, 3}, {2, 30, 8, 8}, {2, 9, 6, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int relu = 0; relu < 2; relu++) {
            norm_case k = norm_open(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
            size_t c = (size_t)k.c;
            k.relu = relu;
            float *dy = zeros(k.size), *dx = zeros(k.size), *dgamma = zeros(c), *dbeta = zeros(c);
            groupnorm_loss(&k);
            memcpy(dy, k.r, k.size * sizeof *dy);
            if (relu)
                ss_relu_backward(k.size, k.y, dy, dy);
            ss_groupnorm_backward(NULL, k.n, k.pixels, k.c, k.groups, k.x, k.scale, k.mean, k.rstd, dy, dx,
                                  dgamma, dbeta, k.work);
            float step = relu ? 2e-4f : 2e-3f;
            check("group norm x", groupnorm_loss, &k, k.x, dx, k.size, step);
            check("group norm gamma", groupnorm_loss, &k, k.scale, dgamma, c, step);
            check("group norm beta", groupnorm_loss, &k, k.shift, dbeta, c, step);
            ss_free(dy);
            ss_free(dx);
            ss_free(dgamma);
            ss_free(dbeta);
            norm_close(&k);
        }
}
END_TEST

/* ---- rows ---- */

static double weightnorm_loss(void *arg)
{
    norm_case *k = arg;
    ss_weightnorm_forward(k->n, k->c, k->factor, 1e-4f, k->x, k->scale, k->y, k->mean, k->rstd);
    return weigh(k->r, k->y, k->size);
}

START_TEST(weightnorm)
{
    static const int lengths[] = {9, 64, 144, 151};
    for (int i = 0; i < 4; i++)
        for (int scaled = 0; scaled < 2; scaled++) {
            norm_case k = norm_open(5, 1, lengths[i], 1);
            k.factor = scaled ? (float)lengths[i] : 1.0f;
            float *dw = zeros(k.size), *dgain = zeros(5);
            weightnorm_loss(&k);
            ss_weightnorm_backward(5, k.c, k.factor, k.x, k.scale, k.mean, k.rstd, k.r, dw, dgain);
            check("weight standardisation w", weightnorm_loss, &k, k.x, dw, k.size, 2e-3f);
            check("weight standardisation gain", weightnorm_loss, &k, k.scale, dgain, 5, 2e-2f);
            ss_free(dw);
            ss_free(dgain);
            norm_close(&k);
        }
}
END_TEST

static double l2norm_loss(void *arg)
{
    norm_case *k = arg;
    ss_l2norm_forward(k->n, k->c, k->x, k->y, k->mean);
    return weigh(k->r, k->y, k->size);
}

START_TEST(l2norm)
{
    norm_case k = norm_open(4, 1, 37, 1);
    float *dx = zeros(k.size);
    l2norm_loss(&k);
    ss_l2norm_backward(4, 37, k.y, k.mean, k.r, dx);
    check("l2norm", l2norm_loss, &k, k.x, dx, k.size, 1e-2f);
    ss_free(dx);
    norm_close(&k);
}
END_TEST

UNIT_MAIN("grad-kernels", conv, conv_through_relu, conv_dx_gate_and_add, gemm, maxpool, avgpool, affine,
          groupnorm, weightnorm, l2norm)
