#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "failalloc.h"
#include "io/stream.h"
#include "nn/delta.h"
#include "models.h"
#include "unit.h"

/* Values move as under a rule whose steps have a size: a normal, times 1e-3. */
static void step(float *v, size_t n, uint64_t number)
{
    ss_rng r = ss_rng_make(7, number);
    for (size_t i = 0; i < n; i++)
        v[i] += 1e-3f * ss_rng_normal(&r);
}

static ss_delta *opened(const ss_model *m, const void *bytes, size_t size)
{
    ss_delta *d;
    ss_err e;
    ck_assert_msg(ss_delta_open(&d, m, bytes, size, &e) == SS_OK, "%s", e.text);
    return d;
}

static void leave(ss_model *m)
{
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

/* Whatever is left out, a receiver that adds the deltas has the sender's shadow to the bit, and what was left
 * out comes later. */
START_TEST(receiver_has_the_shadow)
{
    static const float keep[] = {1, 0.5f, 0.1f, 0.001f};
    static const double first[] = {0.01, 0.5, 0.9, 1}, in_the_end[] = {1e-9, 1e-5, 0.01, 1};
    for (int norm = SS_NORM_BATCH; norm <= SS_NORM_WEIGHT; norm++)
        for (int i = 0; i < 8; i++) {
            ss_model *m = model_small((ss_norm)norm);
            float *value = model_values(m), *shadow = model_values(m), *receiver = model_values(m);
            ss_delta_config c = {.keep = keep[i / 2], .levels = 127, .per_tensor = i % 2};
            ss_delta_report r;
            ss_err e;
            double left = 0;
            for (int round = 0; round < 15; round++) {
                void *bytes;
                size_t size;
                if (round < 3)
                    step(value, m->nvalue, (uint64_t)round);
                ck_assert_msg(ss_delta_pack(m, value, shadow, &c, &bytes, &size, &r, &e) == SS_OK, "%s",
                              e.text);
                ck_assert_uint_eq(size, r.size);
                ck_assert(r.left <= r.moved);
                if (!round)
                    ck_assert_msg(r.left / r.moved < first[i / 2], "keep %g: %g left", (double)c.keep,
                                  r.left / r.moved);
                ss_delta *d = opened(m, bytes, size);
                ss_delta_add(d, receiver);
                ss_delta_close(&d);
                ss_free(bytes);
                ck_assert(!memcmp(receiver, shadow, m->nvalue * sizeof *shadow));
                left = r.left;
            }
            double all = sqrt(3.0 * (double)m->nvalue) * 1e-3;
            ck_assert_msg(left / all < in_the_end[i / 2], "keep %g: %g left of %g", (double)c.keep, left,
                          all);
            ss_free(value);
            ss_free(shadow);
            ss_free(receiver);
            leave(m);
        }
}
END_TEST

/* Few levels are few bytes: 3 take less than two fifths of 127, and leave more, but bring it later. */
START_TEST(levels)
{
    static const int number[] = {127, 7, 3, 1};
    size_t size[4];
    double left[4];
    ss_model *m = model_small(SS_NORM_WEIGHT);
    for (int i = 0; i < 4; i++) {
        float *value = model_values(m), *shadow = model_values(m);
        ss_delta_config c = {.keep = 1, .levels = number[i]};
        ss_delta_report r;
        ss_err e;
        void *bytes;
        step(value, m->nvalue, 1);
        ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size[i], &r, &e), SS_OK);
        left[i] = r.left / r.moved;
        ss_free(bytes);
        for (int more = 0; more < 20; more++) {
            ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &(size_t){0}, &r, &e), SS_OK);
            ss_free(bytes);
        }
        ck_assert_msg(r.left < 1e-3 * 1e-3 * sqrt((double)m->nvalue), "%d: %g", number[i], r.left);
        ss_free(value);
        ss_free(shadow);
    }
    ck_assert_msg(5 * size[2] < 2 * size[0], "%zu and %zu", size[2], size[0]);
    ck_assert(size[1] < size[0] && size[2] < size[1] && size[3] < size[2]);
    ck_assert(left[0] < 0.01 && left[1] < 0.2 && left[2] < 0.4 && left[3] < 0.95);
    leave(m);
}
END_TEST

/* Those sent are the largest of each tensor, as many as were asked for. */
START_TEST(the_largest_are_kept)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    float *value = model_values(m), *shadow = model_values(m), *old = model_values(m);
    ss_delta_config c = {.keep = 0.01f, .levels = 127};
    ss_delta_report r;
    ss_err e;
    void *bytes;
    size_t size, moved = 0;
    step(value, m->nvalue, 1);
    ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, &r, &e), SS_OK);
    for (int t = 0; t < m->nparam; t++) {
        const ss_param *p = &m->param[t];
        size_t n = 0;
        float least = INFINITY, most = 0;
        for (size_t i = p->offset; i < p->offset + p->count; i++) {
            float x = fabsf(value[i] - old[i]);
            bool sent = shadow[i] != old[i];
            n += sent;
            if (sent && x < least)
                least = x;
            if (!sent && x > most)
                most = x;
        }
        size_t want = (size_t)ceil((double)p->count * 0.01f);
        ck_assert_msg(n == want && most <= least, "%s: %zu of %zu, %g and %g", p->name, n, want, (double)most,
                      (double)least);
        moved += n;
    }
    ck_assert_uint_eq(r.sent, moved);
    ss_free(bytes);
    /* All of the same size: ties are cut off too. */
    for (size_t i = 0; i < m->nvalue; i++)
        value[i] = shadow[i] + 0.5f;
    ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, &r, &e), SS_OK);
    ck_assert_uint_eq(r.sent, moved);
    ss_free(bytes);
    ss_free(value);
    ss_free(shadow);
    ss_free(old);
    leave(m);
}
END_TEST

START_TEST(nothing_moved_costs_little)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    float *shadow = model_values(m);
    ss_err e;
    void *bytes;
    size_t size;
    for (int sparse = 0; sparse < 2; sparse++) {
        ss_delta_config c = {.keep = sparse ? 0.1f : 1, .levels = 127};
        ss_delta_report r;
        ck_assert_int_eq(ss_delta_pack(m, m->value, shadow, &c, &bytes, &size, &r, &e), SS_OK);
        ck_assert(size < 200 && !r.sent && r.moved == 0 && r.left == 0);
        ss_delta *d = opened(m, bytes, size);
        ss_delta_add(d, shadow);
        ck_assert(!memcmp(shadow, m->value, m->nvalue * sizeof *shadow));
        ss_delta_close(&d);
        ss_free(bytes);
    }
    ss_free(shadow);
    leave(m);
}
END_TEST

START_TEST(values_that_cannot_be_sent)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    float *value = model_values(m), *shadow = model_values(m);
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e30f};
    ss_delta_config c;
    ss_err e;
    void *bytes;
    size_t size;
    ss_delta_config_default(&c);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float old = value[1000 + i];
        value[1000 + i] = bad[i];
        ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, NULL, &e), SS_EUNFIT);
        ck_assert_ptr_null(bytes);
        ck_assert(!memcmp(shadow, m->value, m->nvalue * sizeof *shadow));
        value[1000 + i] = old;
    }
    static const float no_share[] = {0, -1, 1.5f, NAN};
    for (size_t i = 0; i < 4; i++) {
        c.keep = no_share[i];
        ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, NULL, &e), SS_EINVAL);
    }
    c.keep = 1;
    static const int no_levels[] = {-1, 0, 128};
    for (size_t i = 0; i < 3; i++) {
        c.levels = no_levels[i];
        ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, NULL, &e), SS_EINVAL);
    }
    c.levels = 127;
    /* Movements too small for a scale are left, and come when they have grown. */
    value[5] = shadow[5] = 0;
    value[5] = 1e-40f;
    ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, &size, NULL, &e), SS_OK);
    ck_assert(shadow[5] == 0);
    ss_free(bytes);
    ss_free(value);
    ss_free(shadow);
    leave(m);
}
END_TEST

/* A delta whose bytes fit into a table of tests: few values moved. */
static void *few(const ss_model *m, bool sparse, size_t *size)
{
    float *value = model_values(m), *shadow = model_values(m);
    ss_delta_config c = {.keep = sparse ? 0.1f : 1, .levels = 127, .per_tensor = true};
    ss_err e;
    void *bytes;
    for (size_t i = 0; i < 40; i++)
        value[i * i * 100] += 0.01f * (float)i;
    ck_assert_int_eq(ss_delta_pack(m, value, shadow, &c, &bytes, size, NULL, &e), SS_OK);
    ss_free(value);
    ss_free(shadow);
    return bytes;
}

/* Every truncation is refused, and every byte changed is refused or gives finite values; in bounded memory.
 */
START_TEST(damage)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    size_t before = ss_mem_used();
    float *v = model_values(m);
    for (int sparse = 0; sparse < 2; sparse++) {
        size_t size;
        uint8_t *bytes = few(m, sparse, &size);
        ss_delta *d;
        ss_err e;
        for (size_t n = 0; n < size; n++) {
            int rc = ss_delta_open(&d, m, bytes, n, &e);
            ck_assert_msg((rc == SS_EDAMAGED || rc == SS_ETRUNC) && !d, "cut at %zu: %d", n, rc);
        }
        for (size_t i = 0; i < size; i++)
            for (int turn = 1; turn < 256; turn += 90) {
                bytes[i] ^= (uint8_t)turn;
                int rc = ss_delta_open(&d, m, bytes, size, &e);
                ck_assert_msg(rc == SS_OK || ((rc == SS_EDAMAGED || rc == SS_EUNFIT) && !d && *e.text),
                              "byte %zu: %d", i, rc);
                ck_assert_msg(rc != SS_OK || i >= 48 || i == 5, "byte %zu of the head is not believed", i);
                if (d) {
                    memcpy(v, m->value, m->nvalue * sizeof *v);
                    ss_delta_add(d, v);
                    bool finite = true;
                    for (size_t k = 0; k < m->nvalue; k++)
                        finite = finite && isfinite(v[k]);
                    ck_assert(finite);
                }
                ss_delta_close(&d);
                bytes[i] ^= (uint8_t)turn;
            }
        uint8_t *longer = ss_zalloc(size + 1, 1);
        memcpy(longer, bytes, size);
        ck_assert_int_eq(ss_delta_open(&d, m, longer, size + 1, &e), SS_EDAMAGED);
        ss_free(longer);
        ss_free(bytes);
    }
    ss_free(v);
    ck_assert_uint_eq(ss_mem_used(), before);
    leave(m);
}
END_TEST

START_TEST(another_model)
{
    ss_model *m = model_small(SS_NORM_WEIGHT), *other;
    ss_err e;
    ss_delta *d;
    size_t size;
    void *bytes = few(m, false, &size);
    for (int i = 0; i < 4; i++) {
        ss_model_config c = m->config;
        c.width = i == 0 ? 16 : c.width;
        c.dim = i == 1 ? 3 : c.dim;
        c.norm = i == 2 ? SS_NORM_GROUP : c.norm;
        c.mels = i == 3 ? 16 : c.mels;
        ck_assert_int_eq(ss_model_create(&other, &c, 1, &e), SS_OK);
        ck_assert_int_eq(ss_delta_open(&d, other, bytes, size, &e), SS_EUNFIT);
        ck_assert_ptr_nonnull(strstr(e.text, "another architecture"));
        ss_model_free(other);
    }
    /* The hash would do, were it not for a tensor that has another name. */
    strcpy(m->param[3].name, "elsewhere");
    ck_assert_int_eq(ss_delta_open(&d, m, bytes, size, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "other names or shapes"));
    ss_free(bytes);
    leave(m);
}
END_TEST

START_TEST(records)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    ss_err e;
    ss_delta *d;
    ss_record rec;
    size_t size;
    uint64_t from, to, windows;
    void *bytes = few(m, true, &size);
    ss_delta_record(&rec, m, bytes, size, 7, 9, 300);
    ck_assert_int_eq(ss_delta_open_record(&d, m, &rec, &from, &to, &windows, &e), SS_OK);
    ck_assert(from == 7 && to == 9 && windows == 300);
    ss_delta_close(&d);
    ss_record bad = rec;
    ss_attr_set_uint(&bad.attrs, SS_ATTR_VERSION_TO, 7);
    ck_assert_int_eq(ss_delta_open_record(&d, m, &bad, &from, &to, &windows, &e), SS_EDAMAGED);
    bad = rec;
    ss_attr_clear(&bad.attrs, SS_ATTR_VERSION_FROM);
    ck_assert_int_eq(ss_delta_open_record(&d, m, &bad, &from, &to, &windows, &e), SS_EDAMAGED);
    bad = rec;
    bad.type = SS_TYPE_MIXTURE;
    ck_assert_int_eq(ss_delta_open_record(&d, m, &bad, &from, &to, &windows, &e), SS_EUNFIT);
    bad = rec;
    bad.dtype = SS_DTYPE_I8;
    ck_assert_int_eq(ss_delta_open_record(&d, m, &bad, &from, &to, &windows, &e), SS_EUNFIT);
    bad = rec;
    bad.dim[0]++;
    ck_assert_int_eq(ss_delta_open_record(&d, m, &bad, &from, &to, &windows, &e), SS_EUNFIT);
    ck_assert_ptr_null(d);
    ss_free(bytes);
    leave(m);
}
END_TEST

/* Against the formula in double precision; all of it for who has learnt nothing; nothing when it would blow
 * up. */
START_TEST(merge)
{
    static const uint64_t ours[] = {0, 1, 300, 1000000, 0}, theirs[] = {100, 1, 100, 0, 0};
    for (int sparse = 0; sparse < 2; sparse++)
        for (int i = 0; i < 5; i++) {
            ss_model *m = model_small(SS_NORM_WEIGHT);
            float *server = model_values(m), *shadow = model_values(m), *ahead = model_values(m),
                  *value = model_values(m);
            ss_delta_config c = {.keep = sparse ? 0.1f : 1, .levels = 127};
            ss_err e;
            void *bytes;
            size_t size;
            step(server, m->nvalue, 1);
            if (ours[i])
                step(value, m->nvalue, 2);
            memcpy(ahead, value, m->nvalue * sizeof *ahead);
            ck_assert_int_eq(ss_delta_pack(m, server, shadow, &c, &bytes, &size, NULL, &e), SS_OK);
            ss_delta *d = opened(m, bytes, size);
            ck_assert_int_eq(ss_merge(d, value, m->value, ours[i], theirs[i], &e), SS_OK);
            double share = ours[i] ? (double)ours[i] / (double)(ours[i] + theirs[i]) : 0;
            for (size_t k = 0; k < m->nvalue; k++) {
                double common = m->value[k];
                double want = common + share * (ahead[k] - common) + (1 - share) * (shadow[k] - common);
                if (fabs(value[k] - want) > 1e-6 * (1e-3 + fabs(want))) /* asserted for each it takes long */
                    ck_abort_msg("%g, expected %g", (double)value[k], want);
            }
            if (!ours[i]) /* it is the shadow, to the bit */
                ck_assert(!memcmp(value, shadow, m->nvalue * sizeof *value));
            memcpy(ahead, value, m->nvalue * sizeof *ahead);
            value[12345] = i % 2 ? INFINITY : NAN;
            float wild = value[12345];
            int rc = ss_merge(d, value, m->value, 5, 5, &e);
            ck_assert_int_eq(rc, SS_EUNFIT);
            ck_assert(!memcmp(&value[12345], &wild, sizeof wild));
            value[12345] = ahead[12345];
            ck_assert(!memcmp(value, ahead, m->nvalue * sizeof *value));
            ss_delta_close(&d);
            ss_free(bytes);
            ss_free(server);
            ss_free(shadow);
            ss_free(ahead);
            ss_free(value);
            leave(m);
        }
}
END_TEST

START_TEST(no_memory)
{
    ss_model *m = model_small(SS_NORM_WEIGHT);
    float *value = model_values(m), *shadow = model_values(m);
    ss_delta_config c = {.keep = 0.1f, .levels = 127};
    ss_err e;
    void *bytes;
    size_t size, before = ss_mem_used();
    step(value, m->nvalue, 1);
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_delta_pack(m, value, shadow, &c, &bytes, &size, NULL, &e);
        if (!fail_alloc_done() || rc == SS_OK) /* the last one makes the bytes fit, and may fail */
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(bytes);
        ck_assert_uint_eq(ss_mem_used(), before);
        ck_assert(!memcmp(shadow, m->value, m->nvalue * sizeof *shadow));
    }
    fail_alloc_done();
    before = ss_mem_used();
    for (long n = 1;; n++) {
        ss_delta *d;
        fail_alloc_from(n, false);
        int rc = ss_delta_open(&d, m, bytes, size, &e);
        if (!fail_alloc_done()) {
            ss_delta_close(&d);
            break;
        }
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(d);
        ck_assert_uint_eq(ss_mem_used(), before);
    }
    ss_free(bytes);
    ss_free(value);
    ss_free(shadow);
    leave(m);
}
END_TEST

UNIT_MAIN("delta", receiver_has_the_shadow, levels, the_largest_are_kept, nothing_moved_costs_little,
          values_that_cannot_be_sent, damage, another_model, records, merge, no_memory)
