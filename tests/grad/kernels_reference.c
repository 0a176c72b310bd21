/* The kernels against what PyTorch computes (kernels_reference.py): relative error below 1e-5 of the largest element.
 */
#include <math.h>
#include <string.h>

#include "../unit/unit.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels_reference.h"

static float *zeros(size_t n)
{
    float *p = ss_zalloc(n, sizeof *p);
    ck_assert_ptr_nonnull(p);
    return p;
}

static void near(const char *what, const float *got, const float *expected, size_t n)
{
    float most = 0, scale = 1e-30f;
    for (size_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(got[i] - expected[i]));
        scale = fmaxf(scale, fabsf(expected[i]));
    }
    ck_assert_msg(most <= 1e-5f * scale, "%s: off by %g of %g", what, (double)most, (double)scale);
}

/* Compare channels-last with what PyTorch has channels-first. */
static void near_chw(const char *what, const float *got, const float *expected, int n, int c, int pixels)
{
    size_t size = (size_t)n * (size_t)c * (size_t)pixels;
    float *chw = zeros(size);
    ss_chw_from_hwc(n, c, pixels, got, chw);
    near(what, chw, expected, size);
    ss_free(chw);
}

static float *hwc(const float *chw, int n, int c, int pixels)
{
    float *p = zeros((size_t)n * (size_t)c * (size_t)pixels);
    ss_hwc_from_chw(n, c, pixels, chw, p);
    return p;
}

typedef struct conv_reference {
    const float *x, *dx, *w, *dw, *b, *db, *a, *da, *y, *r;
} conv_reference;

static void conv_case(const char *name, int n, ss_conv c, conv_reference t)
{
    int in = c.h * c.w, out = c.oh * c.ow;
    size_t nin = (size_t)(n * in * c.cin), nout = (size_t)(n * out * c.cout),
           weights = (size_t)(c.cout * c.cin * c.kh * c.kw);
    float *x = hwc(t.x, n, c.cin, in), *r = hwc(t.r, n, c.cout, out),
          *a = t.a ? hwc(t.a, n, c.cout, out) : NULL;
    float *packed = zeros(ss_conv_packed(&c) / sizeof(float)), *back = zeros(ss_conv_packed_back(&c)),
          *work = zeros(ss_conv_work(&c, n, NULL));
    float *y = zeros(nout), *dx = zeros(nin), *dw = zeros(ss_conv_dw_size(&c)), *dweights = zeros(weights),
          *db = zeros((size_t)c.cout);
    ss_conv_pack(&c, t.w, packed);
    ss_conv_pack_back(&c, t.w, back);
    ss_conv_forward(&c, NULL, n, x, packed, t.b, a, t.a != NULL, y, work);
    near_chw(name, y, t.y, n, c.cout, out);
    if (a) {
        ss_relu_backward(nout, y, r, r);
        near_chw(name, r, t.da, n, c.cout, out);
    }
    ss_conv_dx(&c, NULL, n, r, back, NULL, NULL, dx, work);
    near_chw(name, dx, t.dx, n, c.cin, in);
    ss_conv_dw(&c, NULL, n, x, r, dw, db, work);
    ss_conv_unpack_add(&c, dw, dweights);
    near(name, dweights, t.dw, weights);
    near(name, db, t.db, (size_t)c.cout);
    float *all[] = {x, r, a, packed, back, work, y, dx, dw, dweights, db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}

#define CONV(name, a, da)                                                                                    \
    {                                                                                                        \
        name##_x, name##_dx, name##_w, name##_dw, name##_b, name##_db, a, da, name##_y, name##_r             \
    }

START_TEST(convolutions)
{
    ss_conv c;
    ck_assert_int_eq(ss_conv_init(&c, 1, 11, 13, 5, 7, 7, 2, 3), 0);
    conv_case("7x7/2", 1, c, (conv_reference)CONV(conv7, NULL, NULL));
    ck_assert_int_eq(ss_conv_init(&c, 4, 5, 6, 7, 3, 3, 1, 1), 0);
    conv_case("3x3", 2, c, (conv_reference)CONV(conv3, conv3_a, conv3_da));
    ck_assert_int_eq(ss_conv_init(&c, 3, 6, 7, 5, 3, 3, 2, 1), 0);
    conv_case("3x3/2", 2, c, (conv_reference)CONV(conv3s, NULL, NULL));
    ck_assert_int_eq(ss_conv_init(&c, 5, 4, 5, 6, 1, 1, 2, 0), 0);
    conv_case("1x1/2", 2, c, (conv_reference)CONV(conv1s, NULL, NULL));
    ck_assert_int_eq(ss_conv_linear(&c, 10, 7), 0);
    conv_case("linear", 4, c, (conv_reference)CONV(linear, NULL, NULL));
}
END_TEST

START_TEST(pooling)
{
    ss_maxpool p;
    ck_assert_int_eq(ss_maxpool_init(&p, 3, 7, 8, 3, 2, 1), 0);
    float *x = hwc(maxpool_x, 2, 3, 56), *r = hwc(maxpool_r, 2, 3, 16), *y = zeros(2 * 3 * 16),
          *dx = zeros(2 * 3 * 56);
    uint8_t which[96];
    ss_maxpool_forward(&p, NULL, 2, x, y, which);
    near_chw("maxpool", y, maxpool_y, 2, 3, 16);
    ss_maxpool_backward(&p, NULL, 2, r, which, NULL, dx);
    near_chw("maxpool backward", dx, maxpool_dx, 2, 3, 56);
    float *x2 = hwc(avgpool_x, 2, 6, 12), y2[12], *dx2 = zeros(144);
    ss_avgpool_forward(2, 12, 6, x2, y2);
    near("avgpool", y2, avgpool_y, 12);
    ss_avgpool_backward(2, 12, 6, avgpool_r, NULL, dx2);
    near_chw("avgpool backward", dx2, avgpool_dx, 2, 6, 12);
    float *all[] = {x, r, y, dx, x2, dx2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}
END_TEST

START_TEST(norms)
{
    float *x = hwc(groupnorm_x, 2, 6, 20), *r = hwc(groupnorm_r, 2, 6, 20), *y = zeros(240), *dx = zeros(240),
          *work = zeros(72);
    float mean[6], rstd[6], dg[6] = {0}, db[6] = {0};
    ss_groupnorm_forward(NULL, 2, 20, 6, 3, 1e-5f, x, groupnorm_g, groupnorm_b, NULL, false, y, mean, rstd,
                         work);
    near_chw("group norm", y, groupnorm_y, 2, 6, 20);
    ss_groupnorm_backward(NULL, 2, 20, 6, 3, x, groupnorm_g, mean, rstd, r, dx, dg, db, work);
    near_chw("group norm dx", dx, groupnorm_dx, 2, 6, 20);
    near("group norm dgamma", dg, groupnorm_dg, 6);
    near("group norm dbeta", db, groupnorm_db, 6);

    /* Batch norm with given statistics is ss_affine with scale = g rstd, shift = b - mean scale. */
    float *xb = hwc(batchnorm_x, 2, 4, 15), *rb = hwc(batchnorm_r, 2, 4, 15), scale[4], shift[4],
          dscale[4] = {0}, dshift[4] = {0};
    for (int i = 0; i < 4; i++) {
        scale[i] = batchnorm_g[i] / sqrtf(batchnorm_var[i] + 1e-5f);
        shift[i] = batchnorm_b[i] - batchnorm_mean[i] * scale[i];
    }
    ss_affine(30, 4, xb, scale, shift, NULL, false, y);
    near_chw("batch norm", y, batchnorm_y, 2, 4, 15);
    ss_affine_backward(30, 4, xb, scale, rb, dx, dscale, dshift);
    near_chw("batch norm dx", dx, batchnorm_dx, 2, 4, 15);
    for (int i = 0; i < 4; i++)
        dscale[i] = (dscale[i] - batchnorm_mean[i] * dshift[i]) / sqrtf(batchnorm_var[i] + 1e-5f);
    near("batch norm dgamma", dscale, batchnorm_dg, 4);
    near("batch norm dbeta", dshift, batchnorm_db, 4);
    float *all[] = {x, r, y, dx, work, xb, rb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}
END_TEST

START_TEST(rows)
{
    float y[108], mean[4], rstd[4], dw[108] = {0}, dg[4] = {0};
    ss_weightnorm_forward(4, 27, 27, 1e-4f, scaledws_w, scaledws_g, y, mean, rstd);
    near("scaled weight standardisation", y, scaledws_y, 108);
    ss_weightnorm_backward(4, 27, 27, scaledws_w, scaledws_g, mean, rstd, scaledws_r, dw, dg);
    near("scaled weight standardisation dw", dw, scaledws_dw, 108);
    near("scaled weight standardisation dgain", dg, scaledws_dg, 4);
    memset(dw, 0, sizeof dw);
    ss_weightnorm_forward(4, 27, 1, 1e-5f, plainws_w, NULL, y, mean, rstd);
    near("weight standardisation", y, plainws_y, 108);
    ss_weightnorm_backward(4, 27, 1, plainws_w, NULL, mean, rstd, plainws_r, dw, NULL);
    near("weight standardisation dw", dw, plainws_dw, 108);
    float z[48], norm[3], dx[48];
    ss_l2norm_forward(3, 16, l2norm_x, z, norm);
    near("l2norm", z, l2norm_y, 48);
    ss_l2norm_backward(3, 16, z, norm, l2norm_r, dx);
    near("l2norm backward", dx, l2norm_dx, 48);
}
END_TEST

START_TEST(optimisers)
{
    float w[20], m[20] = {0}, v[20] = {0};
    memcpy(w, step_start, sizeof w);
    for (uint64_t k = 0; k < 10; k++) {
        ss_adam a = {1e-2f, 0.9f, 0.999f, 1e-8f, 0.05f, 1.0f, k + 1};
        ss_adam_step(&a, NULL, 20, w, step_grads + 20 * k, m, v);
    }
    near("adam", w, adam_end, 20);
    memcpy(w, step_start, sizeof w);
    memset(v, 0, sizeof v);
    ss_sgd s = {1e-2f, 0.9f, 0.05f, 1.0f};
    for (size_t k = 0; k < 10; k++)
        ss_sgd_step(&s, NULL, 20, w, step_grads + 20 * k, v);
    near("sgd", w, sgd_end, 20);
}
END_TEST

UNIT_MAIN("grad-kernels-reference", convolutions, pooling, norms, rows, optimisers)
