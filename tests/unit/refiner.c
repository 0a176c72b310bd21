#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "failalloc.h"
#include "kernels/kernels.h"
#include "learn/lower.h"
#include "learn/refiner.h"
#include "nn/net.h"
#include "models.h"
#include "unit.h"

enum { MELS = 16, FRAMES = 24, HOP = 12, DIM = 16, MOST = 16 * 6 * 8 };

/* Each device has its own two ridges that swing; what it hears changes every 6 windows. */
static void make_window(uint32_t device, uint64_t w, float *x)
{
    ss_rng r = ss_rng_make(98, device * 1000 + w / 6);
    float own[4];
    ss_rng_fill_uniform(&r, own, 4);
    for (int t = 0; t < FRAMES; t++) {
        uint64_t frame = w * HOP + (uint64_t)t;
        float noise[MELS];
        r = ss_rng_make(99 + device, frame);
        ss_rng_fill_normal(&r, noise, MELS);
        for (int m = 0; m < MELS; m++) {
            float a = (float)m - 8 - 6 * own[0] * sinf((float)frame * own[1]), b = (float)m - 15 * own[2];
            x[m * FRAMES + t] =
                -8 + 6 * expf(-0.3f * a * a) + 6 * own[3] * expf(-0.5f * b * b) + 0.7f * noise[m];
        }
    }
}

static ss_refiner_config make_config(void)
{
    ss_refiner_config c;
    ss_refiner_config_default(&c);
    c.window = 20;
    c.devices = 4;
    c.every = c.batch = 6;
    c.micro_batch = 4;
    c.start = 12;
    c.views = false;
    c.optimiser.warmup = 0;
    return c;
}

static ss_refiner *make_refiner(const ss_refiner_config *c, ss_model *m, ss_pool *pool)
{
    ss_refiner *r;
    ss_err e;
    ck_assert_msg(ss_refiner_create(&r, c, m, pool, &e) == SS_OK, "%s", e.text);
    return r;
}

/* Window w of the device, brought to `cut` by the weights that the refiner has. */
static int hear_at(ss_refiner *r, ss_model *m, uint32_t device, uint64_t w, int cut, float *z)
{
    static float x[MELS * FRAMES], y[MOST];
    ss_err e;
    make_window(device, w, x);
    ss_refiner_item item = {device, 7, w, -1, -1, cut, x};
    if (cut > SS_CUT_INPUT) {
        ss_net *net;
        ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, cut, 1, &e), SS_OK);
        ck_assert_int_eq(ss_net_run(net, 1, x, y), SS_OK);
        ss_net_close(&net);
        item.x = y;
    }
    return ss_refiner_window(r, &item, z, NULL, &e);
}

/* Windows from..until of three devices in turn, cut everywhere, with some missing; steps as they come due. */
static void hear(ss_refiner *r, ss_model *m, uint64_t from, uint64_t until)
{
    static const int cuts[] = {SS_CUT_INPUT, SS_CUT_BLOCK0, SS_CUT_BLOCK0 + 3, SS_CUT_EMBEDDING};
    for (uint64_t i = from; i < until; i++) {
        uint64_t w = i / 3;
        if (i % 7 == 3)
            continue;
        ck_assert_int_eq(hear_at(r, m, (uint32_t)(i % 3), w, cuts[i * 5 / 3 % 4], NULL), SS_OK);
        if (ss_refiner_due(r))
            ck_assert_int_eq(ss_refiner_step(r), 1);
    }
}

START_TEST(finished_anywhere_it_is_the_same)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_refiner_config c = make_config();
    ss_refiner *r = make_refiner(&c, m, NULL);
    float z[2][DIM], long_z[DIM];
    ck_assert_int_eq(hear_at(r, m, 1, 5, SS_CUT_INPUT, z[0]), SS_OK);
    for (int cut = SS_CUT_BLOCK0; cut <= SS_CUT_EMBEDDING; cut++) {
        ss_refiner *other = make_refiner(&c, m, NULL);
        ck_assert_int_eq(hear_at(other, m, 1, 5, cut, z[1]), SS_OK);
        ck_assert_mem_eq(z[0], z[1], sizeof z[0]);
        ck_assert_int_eq(hear_at(r, m, 1, 5, cut, z[1]), SS_EINVAL); /* once only, and in order */
        ck_assert_int_eq(hear_at(r, m, 1, 4, cut, z[1]), SS_EINVAL);
        ss_refiner_free(other);
    }
    /* One that comes as an embedding of another length is given its own. */
    for (int i = 0; i < DIM; i++)
        long_z[i] = 3 * z[0][i];
    ss_refiner_item item = {9, 7, 0, -1, -1, SS_CUT_EMBEDDING, long_z};
    ck_assert_int_eq(ss_refiner_rate(r, &item, z[1], NULL, NULL), SS_OK);
    for (int i = 0; i < DIM; i++)
        ck_assert_float_eq_tol(z[1][i], z[0][i], 1e-6f);
    ss_refiner_free(r);
    ss_model_free(m);
}
END_TEST

/* The loss of the rings as they would be under the weights, all windows being embedded anew. */
static double fixed_loss(const ss_hybrid *h, ss_model *m, int n, const float *theta)
{
    static float x[MELS * FRAMES], z[64 * DIM], dz[64 * DIM];
    uint32_t chain[64];
    uint64_t seq[64];
    uint8_t present[64] = {0};
    ss_net *net;
    ck_assert_int_eq(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL),
                     SS_OK);
    for (int i = 0; i < n; i++) {
        chain[i] = (uint32_t)(i * 3 / n);
        seq[i] = (uint64_t)(i % (n / 3));
        make_window(chain[i], seq[i], x);
        ss_net_run(net, 1, x, z + i * DIM);
    }
    ss_net_close(&net);
    ss_hybrid_rows b = {n, DIM, z, chain, seq, NULL, present};
    ss_hybrid_result r;
    float *work = ss_alloc(ss_hybrid_work(h, n, DIM, 0), sizeof *work);
    ss_hybrid_loss(h, NULL, &b, theta, dz, work, &r);
    ss_free(work);
    return r.loss;
}

START_TEST(a_step_lowers_the_loss)
{
    for (int norm = SS_NORM_BATCH; norm <= SS_NORM_WEIGHT; norm++)
        for (int adam = 0; adam < 2; adam++) {
            ss_model *m = model_for_learning((ss_norm)norm);
            ss_refiner_config c = make_config();
            c.every = c.batch = c.window = c.start = 20;
            c.devices = 3;
            c.optimiser = (ss_optimiser_config){adam ? SS_OPTIMISER_ADAM : SS_OPTIMISER_SGD,
                                                adam ? 1e-4f : 2e-2f, 0, 1};
            if (norm == SS_NORM_BATCH) { /* its statistics come to rest before anything is compared */
                ss_refiner_config still = c;
                still.optimiser.rate = 0;
                ss_refiner *r = make_refiner(&still, m, NULL);
                for (uint32_t w = 0; w < 60 * 60; w++) {
                    hear_at(r, m, w % 3, w / 60 * 60 + w / 3 % 20, SS_CUT_INPUT, NULL);
                    if (ss_refiner_due(r))
                        ss_refiner_step(r);
                }
                ss_refiner_free(r);
            }
            float theta[50 * DIM];
            ss_rng rng = ss_rng_make(5, 5);
            ss_hybrid_directions(&c.loss, DIM, &rng, theta);
            ss_refiner *r = make_refiner(&c, m, NULL);
            double before = fixed_loss(&c.loss, m, 60, theta);
            for (uint32_t w = 0; w < 60; w++) /* 20 of each: the last 20 are gone through */
                ck_assert_int_eq(hear_at(r, m, w % 3, w / 3, SS_CUT_INPUT, NULL), SS_OK);
            ck_assert_int_eq(ss_refiner_step(r), 1);
            double after = fixed_loss(&c.loss, m, 60, theta);
            ck_assert_msg(after < before - 1e-4, "norm %d, adam %d: %.6f to %.6f", norm, adam, before, after);
            ss_refiner_report rep;
            ss_refiner_report_last(r, &rep);
            ck_assert_int_eq(rep.rows, 60);
            ck_assert_int_eq(rep.present, 20);
            ck_assert_int_eq(rep.devices, 3);
            ck_assert_uint_eq(rep.step, 1);
            ck_assert_double_gt(rep.gradient, 0);
            ck_assert_double_gt(rep.loss.sw_norm, 0);
            ck_assert_double_gt(rep.loss.laplacian_norm, 0);
            ss_refiner_free(r);
            ss_model_free(m);
        }
}
END_TEST

/* Windows as they are, and views of them at any cut; in the second case in losses of fewer rows than there
 * are. */
START_TEST(it_learns)
{
    for (int views = 0; views < 2; views++) {
        ss_model *m = model_for_learning(SS_NORM_WEIGHT);
        ss_refiner_config c = make_config();
        c.window = 40;
        c.every = 8;
        c.batch = 32;
        c.micro_batch = 8;
        c.optimiser.rate = 0.03f;
        c.views = views;
        c.augment = (ss_augment){1, 0.3f, 0.1f, 1e3f, 0, 1, 2, 1e-6f, -4};
        c.rows = views ? 100 : 1024;
        ss_refiner *r = make_refiner(&c, m, NULL);
        ss_refiner_report rep;
        double early = 0;
        for (uint64_t i = 0; i < 900; i++) {
            int cut = views && i % 4 == 0 ? SS_CUT_BLOCK0 : SS_CUT_INPUT;
            ck_assert_int_eq(hear_at(r, m, (uint32_t)(i % 3), i / 3, cut, NULL), SS_OK);
            if (ss_refiner_due(r))
                ck_assert_int_eq(ss_refiner_step(r), 1);
            if (i == 200) {
                ss_refiner_report_last(r, &rep);
                early = rep.gain;
            }
        }
        ss_refiner_report_last(r, &rep);
        ck_assert_uint_eq(rep.refused + rep.rolled_back, 0);
        ck_assert_int_eq(rep.rows, views ? 100 : 120);
        ck_assert_int_eq(rep.present, 32);
        ck_assert_double_gt(rep.gain, early + (views ? 0.04 : 0.1));
        ck_assert_double_gt(rep.loss.positive, rep.loss.negative + (views ? 0.04 : 0.2));
        ck_assert_double_lt(rep.loss.sw, views ? 1.6 : 1.2);
        ss_err e;
        ck_assert_int_eq(ss_refiner_store_mixture(r, &e), SS_OK);
        ck_assert_uint_gt(m->mixture_size, 0);
        ck_assert_uint_le(m->mixture_size, SS_MIXTURE_MAX_BYTES);
        ss_refiner_free(r);
        ss_model_free(m);
    }
}
END_TEST

/* What goes back to a device is the gradient at what it sent, not at the view that was made of it. */
START_TEST(gradients_behind_views)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_refiner_config c = make_config();
    c.gradients = c.views = true;
    c.augment = (ss_augment){0, 0, 0, 1, 0, MELS, 0, 1e-6f, 0};
    ss_refiner *r = make_refiner(&c, m, NULL);
    for (uint64_t w = 0; w < 12; w++)
        ck_assert_int_eq(hear_at(r, m, 1, w, SS_CUT_BLOCK0, NULL), SS_OK);
    ck_assert_int_eq(ss_refiner_step(r), 1);
    uint32_t d[3];
    ss_model_cut_shape(&m->config, SS_CUT_BLOCK0, d);
    int whole = 0, cleared = 0;
    for (int i = 0; i < ss_refiner_gradients(r); i++) {
        ss_refiner_item g;
        ss_refiner_gradient(r, i, &g);
        for (uint32_t row = 0; row < d[0] * d[1]; row++)
            *(ss_sum_squares(d[2], g.x + row * d[2]) > 0 ? &whole : &cleared) += 1;
    }
    ck_assert_int_eq(whole + cleared, (int)(6 * d[0] * d[1])); /* rows that were masked have none */
    ck_assert_int_gt(whole, 0);
    ck_assert_int_gt(cleared, 0);
    ss_refiner_free(r);
    ss_model_free(m);
}
END_TEST

/*
 * Lock-step through a cut: the device holds the lower blocks, the server the rest; gradients come back in
 * f32. Both together are the refiner that was given the features, bit for bit.
 */
START_TEST(split_learning_is_whole_learning)
{
    enum { EVERY = 4, STEPS = 3 };
    static float x[EVERY * MELS * FRAMES], y[MOST];
    for (int norm = SS_NORM_BATCH; norm <= SS_NORM_WEIGHT; norm++)
        for (int cut = SS_CUT_BLOCK0; cut < SS_CUT_EMBEDDING; cut += 2) {
            ss_model *whole = model_for_learning((ss_norm)norm), *server = model_for_learning((ss_norm)norm);
            ss_model *device = model_for_learning((ss_norm)norm);
            ss_refiner_config c = make_config();
            c.every = c.batch = c.micro_batch = EVERY;
            c.start = EVERY;
            c.optimiser = (ss_optimiser_config){SS_OPTIMISER_SGD, 0.02f, 0, 0};
            ss_refiner *one = make_refiner(&c, whole, NULL);
            c.gradients = true;
            ss_refiner *two = make_refiner(&c, server, NULL);
            ss_lower_config lc;
            ss_lower *lower;
            ss_err e;
            ss_lower_config_default(&lc);
            lc.until = cut;
            lc.kept = EVERY;
            lc.micro_batch = EVERY;
            lc.optimiser = c.optimiser;
            ck_assert_msg(ss_lower_create(&lower, &lc, device, NULL, &e) == SS_OK, "%s", e.text);
            for (uint64_t step = 0; step < STEPS; step++) {
                for (uint64_t i = 0; i < EVERY; i++) {
                    uint64_t w = step * EVERY + i;
                    ss_refiner_item item = {3, 7, w, -1, -1, SS_CUT_INPUT, x + i * MELS * FRAMES};
                    make_window(3, w, x + i * MELS * FRAMES);
                    ck_assert_int_eq(ss_refiner_window(one, &item, NULL, NULL, NULL), SS_OK);
                    item.cut = cut;
                    item.x = y;
                    ss_lower_item sent = {3, 7, w, cut, x + i * MELS * FRAMES};
                    ck_assert_int_eq(ss_lower_window(lower, &sent, y, &e), SS_OK);
                    ck_assert_int_eq(ss_refiner_window(two, &item, NULL, NULL, NULL), SS_OK);
                }
                ck_assert_int_eq(ss_refiner_step(one), 1);
                ck_assert_int_eq(ss_refiner_step(two), 1);
                ck_assert_int_eq(ss_refiner_gradients(one), 0);
                ck_assert_int_eq(ss_refiner_gradients(two), EVERY);
                for (int i = 0; i < EVERY; i++) {
                    ss_refiner_item g;
                    ss_refiner_gradient(two, i, &g);
                    ck_assert_uint_eq(g.seq, step * EVERY + (uint64_t)i);
                    ck_assert_int_eq(g.cut, cut);
                    ss_lower_item back = {g.device, g.epoch, g.seq, g.cut, g.x};
                    ck_assert_int_eq(ss_lower_gradient(lower, &back, &e), 1);
                }
                ck_assert_int_eq(ss_lower_step(lower), 1);
            }
            int moved[2] = {0};
            ss_model *fresh = model_for_learning((ss_norm)norm);
            for (int i = 0; i < whole->nparam; i++) {
                const ss_param *p = &whole->param[i];
                size_t size = p->count * sizeof(float);
                const float *w = whole->value + p->offset;
                /* What one side moved is right, and the other side left it alone. */
                const float *mine[2] = {server->value + p->offset, device->value + p->offset};
                int side = memcmp(mine[1], fresh->value + p->offset, size) != 0;
                ck_assert_msg(!memcmp(w, mine[side], size), "norm %d cut %d: %s", norm, cut, p->name);
                moved[side] += memcmp(w, fresh->value + p->offset, size) != 0;
                if (side)
                    ck_assert_mem_eq(mine[0], fresh->value + p->offset, size);
            }
            ck_assert(moved[0] > 0 && moved[1] > 0);
            ss_refiner_free(one);
            ss_refiner_free(two);
            ss_lower_free(lower);
            ss_model_free(whole);
            ss_model_free(server);
            ss_model_free(device);
            ss_model_free(fresh);
        }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(gradients_of_mixed_cuts)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP), *fresh = model_for_learning(SS_NORM_GROUP);
    ss_refiner_config c = make_config();
    c.gradients = true;
    ss_refiner *r = make_refiner(&c, m, NULL);
    static const int cuts[6] = {SS_CUT_EMBEDDING, SS_CUT_BLOCK0 + 8, SS_CUT_INPUT,
                                SS_CUT_BLOCK0,    SS_CUT_EMBEDDING,  SS_CUT_BLOCK0 + 8};
    for (uint64_t w = 0; w < 12; w++)
        ck_assert_int_eq(hear_at(r, m, 1, 2 * w, cuts[w % 6], NULL), SS_OK);
    ck_assert(ss_refiner_due(r));
    ck_assert_int_eq(ss_refiner_step(r), 1);
    ck_assert(!ss_refiner_due(r));
    ck_assert_int_eq(ss_refiner_gradients(r), 5);
    for (int i = 0, w = 6; i < 5; i++, w++) {
        ss_refiner_item g;
        w += cuts[w % 6] == SS_CUT_INPUT;
        ss_refiner_gradient(r, i, &g);
        ck_assert_int_eq(g.cut, cuts[w % 6]);
        ck_assert_uint_eq(g.seq, (uint64_t)(2 * w));
        uint32_t d[3];
        ss_model_cut_shape(&m->config, g.cut, d);
        ck_assert_double_gt(ss_sum_squares((size_t)d[0] * d[1] * d[2], g.x), 0);
    }
    ck_assert_int_eq(hear_at(r, m, 1, 99, SS_CUT_INPUT, NULL), SS_OK);
    ck_assert_int_eq(ss_refiner_gradients(r), 0);

    /* Embeddings alone: they have gradients, and the weights stay. */
    ss_refiner_free(r);
    memcpy(m->value, fresh->value, m->nvalue * sizeof *m->value);
    r = make_refiner(&c, m, NULL);
    for (uint64_t w = 0; w < 12; w++)
        ck_assert_int_eq(hear_at(r, m, 1, w, SS_CUT_EMBEDDING, NULL), SS_OK);
    ck_assert_int_eq(ss_refiner_step(r), 1);
    ck_assert_int_eq(ss_refiner_gradients(r), 6);
    ck_assert_mem_eq(m->value, fresh->value, m->nvalue * sizeof *m->value);
    ss_refiner_free(r);
    ss_model_free(m);
    ss_model_free(fresh);
}
END_TEST

START_TEST(stopped_and_resumed_gives_the_same_bits)
{
    for (int i = 0; i < 4; i++) {
        ss_refiner_config c = make_config();
        char path[] = "/tmp/ss-refiner-XXXXXX";
        int fd = mkstemp(path);
        ck_assert_int_ge(fd, 0);
        close(fd);
        unlink(path);
        c.optimiser.kind = i & 1 ? SS_OPTIMISER_ADAM : SS_OPTIMISER_SGD;
        c.batch = i < 3 ? 13 : c.every;
        c.views = i < 2;
        c.rows = i == 1 ? 20 : 1024;
        ss_err e;
        ss_model *whole = model_for_learning(SS_NORM_WEIGHT), *first = model_for_learning(SS_NORM_WEIGHT);
        ss_model *second = model_for_learning(SS_NORM_WEIGHT);
        /* three devices fight for two rings */
        c.memory = i & 2 ? 2 * ss_refiner_ring_size(&c, &whole->config) : 0;
        ss_refiner *r = make_refiner(&c, whole, NULL);
        hear(r, whole, 0, 150);
        ss_refiner_free(r);

        r = make_refiner(&c, first, NULL);
        hear(r, first, 0, 101);
        ss_checkpoint_writer *w;
        ck_assert_int_eq(ss_checkpoint_begin(&w, &e), SS_OK);
        ck_assert_int_eq(ss_refiner_save(r, w, &e), SS_OK);
        ck_assert_msg(ss_checkpoint_write(&w, path, &e) == SS_OK, "%s", e.text);
        ss_refiner_free(r);

        ss_pool *pool;
        ck_assert_int_eq(ss_pool_open(&pool, 2, &e), SS_OK);
        r = make_refiner(&c, second, pool);
        ss_checkpoint *p;
        ck_assert_msg(ss_checkpoint_open(&p, path, NULL, &e) == SS_OK, "%s", e.text);
        ck_assert_msg(ss_refiner_load(r, p, &e) == SS_OK, "%s", e.text);
        ss_checkpoint_close(&p);
        ck_assert_int_eq(hear_at(r, second, 0, 3, SS_CUT_INPUT, NULL), SS_EINVAL); /* heard before */
        hear(r, second, 101, 150);
        ck_assert_mem_eq(whole->value, second->value, whole->nvalue * sizeof(float));
        ss_refiner_free(r);

        c.loss.sw *= 2;
        r = make_refiner(&c, second, pool);
        ck_assert_int_eq(ss_checkpoint_open(&p, path, NULL, &e), SS_OK);
        ck_assert_int_eq(ss_refiner_load(r, p, &e), SS_EUNFIT);
        ss_checkpoint_close(&p);
        ss_refiner_free(r);
        ss_pool_close(&pool);
        ss_model_free(whole);
        ss_model_free(first);
        ss_model_free(second);
        unlink(path);
    }
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(the_device_heard_least_recently_makes_room)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_refiner_config c = make_config();
    ss_refiner_report rep;
    c.memory = 2 * ss_refiner_ring_size(&c, &m->config) + 100;
    c.start = 6;
    ss_refiner *r = make_refiner(&c, m, NULL);
    size_t held = ss_refiner_memory(r);
    for (uint64_t w = 0; w < 2; w++) {
        ck_assert_int_eq(hear_at(r, m, 1, w, SS_CUT_INPUT, NULL), SS_OK);
        ck_assert_int_eq(hear_at(r, m, 2, w, SS_CUT_INPUT, NULL), SS_OK);
    }
    ck_assert_int_eq(hear_at(r, m, 1, 2, SS_CUT_INPUT, NULL), SS_OK);
    ck_assert_int_eq(hear_at(r, m, 3, 0, SS_CUT_INPUT, NULL), SS_OK); /* in place of 2 */
    ck_assert_int_eq(hear_at(r, m, 1, 2, SS_CUT_INPUT, NULL), SS_EINVAL);
    ck_assert(ss_refiner_due(r));
    ck_assert_int_eq(ss_refiner_step(r), 1);
    ss_refiner_report_last(r, &rep);
    ck_assert_int_eq(rep.devices, 2);
    ck_assert_int_eq(rep.rows, 4);
    ck_assert_int_eq(rep.present, 4);                                 /* the two of device 2 left with it */
    ck_assert_int_eq(hear_at(r, m, 2, 0, SS_CUT_INPUT, NULL), SS_OK); /* in place of 1, as new */
    ck_assert_int_eq(hear_at(r, m, 3, 0, SS_CUT_INPUT, NULL), SS_EINVAL);
    ck_assert_uint_lt(ss_refiner_memory(r), held + 200000);
    ss_refiner_free(r);
    ss_model_free(m);
}
END_TEST

START_TEST(old_embeddings_are_left_out)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_refiner_config c = make_config();
    ss_refiner_report rep;
    c.stale = 2;
    ss_refiner *r = make_refiner(&c, m, NULL);
    for (uint64_t w = 0; w < 12; w++)
        hear_at(r, m, 1, w, SS_CUT_INPUT, NULL);
    for (uint64_t step = 0; step < 4; step++) {
        ck_assert_int_eq(ss_refiner_step(r), 1);
        ss_refiner_report_last(r, &rep);
        ck_assert_int_eq(rep.rows, step < 3 ? 12 + 6 * (int)step : 18);
        for (uint64_t w = 0; w < 6; w++)
            hear_at(r, m, 2, 6 * step + w, SS_CUT_INPUT, NULL);
    }
    ss_refiner_free(r);
    ss_model_free(m);
}
END_TEST

START_TEST(what_is_not_finite_changes_nothing)
{
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_refiner_config c = make_config();
    ss_refiner *r = make_refiner(&c, m, NULL);
    float x[MOST] = {0};
    ss_err e;
    static const int cuts[] = {SS_CUT_INPUT, SS_CUT_BLOCK0 + 1, SS_CUT_EMBEDDING};
    for (int i = 0; i < 3; i++) {
        ss_refiner_item item = {1, 7, 0, -1, -1, cuts[i], x};
        x[7] = i == 1 ? INFINITY : NAN;
        ck_assert_int_eq(ss_refiner_window(r, &item, NULL, NULL, &e), SS_ERANGE);
        ck_assert_ptr_nonnull(strstr(e.text, "not finite"));
        x[7] = 0;
    }
    ss_refiner_item zero = {1, 7, 0, -1, -1, SS_CUT_EMBEDDING, x};
    ck_assert_int_eq(ss_refiner_window(r, &zero, NULL, NULL, &e), SS_ERANGE);
    zero.cut = SS_CUT_EMBEDDING + 1;
    ck_assert_int_eq(ss_refiner_window(r, &zero, NULL, NULL, &e), SS_EINVAL);
    ck_assert_uint_eq(ss_mixture_seen(ss_refiner_mixture(r)), 0);
    ck_assert_int_eq(ss_refiner_step(r), 0); /* nothing there */
    ss_refiner_report rep;
    ss_refiner_report_last(r, &rep);
    ck_assert_uint_eq(rep.windows, 0);
    ck_assert_uint_eq(rep.refused, 0);
    ss_refiner_free(r);
    /* Weights of no direction: the window is refused. One that turns bad before the backward: the step is. */
    float *fc = ss_model_values(m, "fc.weight");
    size_t n = m->nvalue * sizeof(float);
    float *good = ss_alloc(m->nvalue, sizeof *good), *before = ss_alloc(m->nvalue, sizeof *before);
    memcpy(good, m->value, n);
    memset(fc, 0, ss_model_find(m, "fc.weight")->count * sizeof *fc);
    memset(ss_model_values(m, "fc.bias"), 0, DIM * sizeof(float));
    r = make_refiner(&c, m, NULL);
    ck_assert_int_eq(hear_at(r, m, 1, 0, SS_CUT_INPUT, NULL), SS_ERANGE);
    ss_refiner_free(r);
    memcpy(m->value, good, n);
    c.gradients = true;
    r = make_refiner(&c, m, NULL);
    for (uint64_t w = 0; w < 12; w++)
        ck_assert_int_eq(hear_at(r, m, 1, w, SS_CUT_BLOCK0, NULL), SS_OK);
    fc[3] = NAN;
    memcpy(before, m->value, n);
    ck_assert_int_eq(ss_refiner_step(r), 0);
    ck_assert_mem_eq(before, m->value, n);
    ck_assert_int_eq(ss_refiner_gradients(r), 0);
    ss_refiner_report_last(r, &rep);
    ck_assert_uint_eq(rep.refused, 1);
    ck_assert_uint_eq(rep.step, 0);
    ck_assert(!ss_refiner_due(r));
    ss_refiner_free(r);
    ss_free(good);
    ss_free(before);
    ss_model_free(m);
}
END_TEST

START_TEST(a_run_that_goes_wrong_is_taken_back)
{
    ss_model *m = model_for_learning(SS_NORM_WEIGHT);
    ss_refiner_config c = make_config();
    ss_refiner_report rep = {0};
    c.window = 40;
    c.every = 4;
    c.batch = 16;
    c.optimiser.rate = 0.03f;
    ss_refiner *r = make_refiner(&c, m, NULL);
    uint64_t i = 0;
    for (; i < 600; i++) {
        ck_assert_int_eq(hear_at(r, m, (uint32_t)(i % 3), i / 3, SS_CUT_INPUT, NULL), SS_OK);
        if (ss_refiner_due(r))
            ss_refiner_step(r);
    }
    ss_refiner_report_last(r, &rep);
    ck_assert_double_gt(rep.gain, 0.1);
    ck_assert_uint_eq(rep.rolled_back, 0);
    /* From here on somebody sends one and the same thing: all embeddings fall into one. */
    double rate = rep.rate;
    float z[DIM] = {1};
    for (uint64_t w = 0; w < 2000 && !rep.rolled_back; w++) {
        ss_refiner_item item = {(uint32_t)(w % 3), 8, w, -1, -1, SS_CUT_EMBEDDING, z};
        ck_assert_int_eq(ss_refiner_window(r, &item, NULL, NULL, NULL), SS_OK);
        if (ss_refiner_due(r))
            ss_refiner_step(r);
        ss_refiner_report_last(r, &rep);
    }
    ck_assert_uint_eq(rep.rolled_back, 1);
    for (uint64_t w = 0; w < 400; w++) {
        ck_assert_int_eq(hear_at(r, m, (uint32_t)(w % 3), 1000 + w / 3, SS_CUT_INPUT, NULL), SS_OK);
        if (ss_refiner_due(r))
            ss_refiner_step(r);
    }
    ss_refiner_report_last(r, &rep);
    ck_assert_double_eq_tol(rep.rate, rate / 2, 1e-6);
    ss_refiner_free(r);

    /* A rate far too high: whatever happens, the weights end finite, and windows are still taken. */
    ss_model_free(m);
    m = model_for_learning(SS_NORM_BATCH);
    c.optimiser.rate = 100;
    c.optimiser.clip = 0;
    r = make_refiner(&c, m, NULL);
    for (i = 0; i < 400; i++) {
        ck_assert_int_eq(hear_at(r, m, (uint32_t)(i % 3), i / 3, SS_CUT_INPUT, NULL), SS_OK);
        if (ss_refiner_due(r))
            ss_refiner_step(r);
    }
    ss_refiner_report_last(r, &rep);
    ck_assert_uint_gt(rep.refused + rep.rolled_back, 0);
    for (size_t k = 0; k < m->nvalue; k++)
        ck_assert(isfinite(m->value[k]));
    ss_refiner_free(r);
    ss_model_free(m);
}
END_TEST

START_TEST(bounds_and_memory)
{
    ss_model *m = model_for_learning(SS_NORM_GROUP);
    ss_refiner *r;
    ss_err e;
    ss_refiner_config c = make_config();
    c.every = c.window + 1;
    ck_assert_int_eq(ss_refiner_create(&r, &c, m, NULL, &e), SS_ERANGE);
    ck_assert_ptr_nonnull(strstr(e.text, "every: found 21, expected 1 to 20"));
    c = make_config();
    c.memory = 100;
    ck_assert_int_eq(ss_refiner_create(&r, &c, m, NULL, &e), SS_ERANGE);
    ck_assert_ptr_nonnull(strstr(e.text, "memory: found 100 bytes"));
    ck_assert_ptr_null(r);
    c = make_config();
    size_t before = ss_mem_used();
    for (int forever = 0; forever < 2; forever++)
        for (long k = 1;; k++) {
            fail_alloc_from(k, forever);
            int rc = ss_refiner_create(&r, &c, m, NULL, &e);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(rc, SS_OK);
                ss_refiner_free(r);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
            ck_assert_uint_eq(ss_mem_used(), before);
        }
    ck_assert_int_eq(ss_refiner_create(&r, &c, m, NULL, &e), SS_OK);
    ck_assert_uint_ge(ss_mem_used() - before, ss_refiner_memory(r) * 9 / 10);
    for (uint64_t w = 0; w < 12; w++)
        hear_at(r, m, 1, w, SS_CUT_INPUT, NULL);
    for (long k = 1;; k++) { /* a step that finds no memory may be tried again */
        fail_alloc_from(k, false);
        int rc = ss_refiner_step(r);
        if (!fail_alloc_done()) {
            ck_assert_int_eq(rc, 1);
            break;
        }
        ck_assert_int_eq(rc, SS_ENOMEM);
    }
    ss_refiner_free(r);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

UNIT_MAIN("refiner", finished_anywhere_it_is_the_same, a_step_lowers_the_loss, it_learns,
          split_learning_is_whole_learning, gradients_of_mixed_cuts, gradients_behind_views,
          stopped_and_resumed_gives_the_same_bits, the_device_heard_least_recently_makes_room,
          old_embeddings_are_left_out, what_is_not_finite_changes_nothing,
          a_run_that_goes_wrong_is_taken_back, bounds_and_memory)
