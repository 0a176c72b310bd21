#include <math.h>
#include <string.h>

#include "base/crc32c.h"
#include "memory/mixture.h"
#include "unit.h"

/* A stream of known clusters on the sphere: centres share a common part, as the embeddings of a network do,
 * and drift; sounds come in bursts, some far more often than others; neighbours in a burst are alike. */
enum { D = 128, KNOWN = 20, UNHEARD = 20, PROBE = 1000 };

typedef struct world {
    ss_rng r;
    float centre[KNOWN + UNHEARD][D], drift[KNOWN + UNHEARD][D];
    float axis[KNOWN + UNHEARD][16][D]; /* directions of the noise when it does not fill the space */
    int axes;                           /* 0: all D */
    float burst, overlap;               /* mean length; share of windows that hold two sounds */
    int now;
    float noise[D];
} world;

static void normalise(float *z)
{
    float s = 0;
    for (int k = 0; k < D; k++)
        s += z[k] * z[k];
    s = 1 / sqrtf(s);
    for (int k = 0; k < D; k++)
        z[k] *= s;
}

static void world_init(world *w, int axes, float burst, float overlap)
{
    *w = (world){.r = ss_rng_make(7, 0), .axes = axes, .burst = burst, .overlap = overlap};
    float common[D];
    ss_rng_fill_normal(&w->r, common, D);
    normalise(common);
    for (int c = 0; c < KNOWN + UNHEARD; c++) {
        ss_rng_fill_normal(&w->r, w->centre[c], D);
        normalise(w->centre[c]);
        for (int k = 0; k < D; k++)
            w->centre[c][k] = sqrtf(0.5f) * (w->centre[c][k] + common[k]);
        ss_rng_fill_normal(&w->r, w->drift[c], D);
        normalise(w->drift[c]);
        for (int j = 0; j < axes; j++) {
            ss_rng_fill_normal(&w->r, w->axis[c][j], D);
            normalise(w->axis[c][j]);
        }
    }
}

static void world_noise(world *w, int c, float *out)
{
    if (!w->axes) {
        ss_rng_fill_normal(&w->r, out, D);
        for (int k = 0; k < D; k++)
            out[k] *= 1 / sqrtf(D);
        return;
    }
    memset(out, 0, D * sizeof *out);
    for (int j = 0; j < w->axes; j++) {
        float a = ss_rng_normal(&w->r) / sqrtf((float)w->axes);
        for (int k = 0; k < D; k++)
            out[k] += a * w->axis[c][j][k];
    }
}

/* z = share of sound a and the rest of sound b, at time t of 0..1, and noise of a */
static void world_mix(world *w, int a, int b, float share, float t, const float *noise, float *z)
{
    for (int k = 0; k < D; k++)
        z[k] = share * (w->centre[a][k] + 0.3f * t * w->drift[a][k]) +
               (1 - share) * (w->centre[b][k] + 0.3f * t * w->drift[b][k]) + 0.5f * noise[k];
    normalise(z);
}

static void world_next(world *w, float t, float *z)
{
    float fresh[D];
    if (ss_rng_uniform(&w->r) < 1 / w->burst) {
        float u = ss_rng_uniform(&w->r);
        w->now = (int)(KNOWN * u * u); /* the first is heard nine times as often as the last */
        world_noise(w, w->now, w->noise);
    }
    world_noise(w, w->now, fresh);
    for (int k = 0; k < D; k++)
        w->noise[k] = 0.7f * w->noise[k] + 0.714f * fresh[k];
    int other = (int)ss_rng_below(&w->r, KNOWN);
    float share = ss_rng_uniform(&w->r) < w->overlap ? ss_rng_uniform(&w->r) : 1;
    world_mix(w, w->now, other, share, t, w->noise, z);
}

static double auroc(const float *high, const float *low)
{
    double s = 0;
    for (int i = 0; i < PROBE; i++)
        for (int j = 0; j < PROBE; j++)
            s += high[i] > low[j] ? 1 : high[i] == low[j] ? 0.5 : 0;
    return s / PROBE / PROBE;
}

static double purity(int votes[][KNOWN], int components)
{
    int right = 0;
    for (int c = 0; c < components; c++) {
        int most = 0;
        for (int k = 0; k < KNOWN; k++)
            most = votes[c][k] > most ? votes[c][k] : most;
        right += most;
    }
    return (double)right / PROBE;
}

START_TEST(known_clusters_are_told_apart)
{
    static const struct {
        int axes;
        float burst, overlap;
        int updates;
    } world_of[2] = {{0, 50, 0, 100000}, {16, 200, 0.05f, 30000}};
    int updates = world_of[_i].updates;
    static world w;
    static float u[3][PROBE], novelty[3][PROBE];
    world_init(&w, world_of[_i].axes, world_of[_i].burst, world_of[_i].overlap);
    ss_mixture *m;
    ck_assert_int_eq(ss_mixture_create(&m, SS_MIXTURE_COMPONENTS, D, NULL), 0);
    float z[D], noise[D];
    for (int t = 0; t < updates; t++) {
        world_next(&w, (float)t / (float)updates, z);
        ck_assert_int_eq(ss_mixture_update(m, z), 0);
    }
    int votes[SS_MIXTURE_COMPONENTS][KNOWN] = {{0}};
    for (int i = 0; i < PROBE; i++)
        for (int kind = 0; kind < 3; kind++) { /* clean, between two, never heard */
            int a = (int)ss_rng_below(&w.r, KNOWN), b = (a + 1 + (int)ss_rng_below(&w.r, KNOWN - 1)) % KNOWN;
            if (kind == 2)
                a = KNOWN + (int)ss_rng_below(&w.r, UNHEARD);
            world_noise(&w, a, noise);
            world_mix(&w, a, b, kind == 1 ? 0.35f + 0.3f * ss_rng_uniform(&w.r) : 1, 1, noise, z);
            ss_mixture_score s;
            ss_mixture_rate(m, z, &s);
            u[kind][i] = s.u;
            novelty[kind][i] = s.novelty;
            if (kind == 0)
                votes[s.component][a]++;
        }
    ck_assert_double_ge(purity(votes, SS_MIXTURE_COMPONENTS), 0.98);
    ck_assert_double_ge(auroc(u[1], u[0]), 0.9);
    ck_assert_double_ge(auroc(u[2], u[0]), 0.9);
    ck_assert_double_ge(auroc(novelty[2], novelty[0]), 0.9);
    ck_assert_int_ge(ss_mixture_live(m), KNOWN);
    ck_assert(ss_mixture_ready(m));
    double effective = 0;
    for (int c = 0; c < ss_mixture_used(m); c++) {
        float weight[SS_MIXTURE_COMPONENTS];
        effective += ss_mixture_neighbours(m, c, weight) / ss_mixture_used(m);
        ck_assert_float_eq(weight[c], 0);
    }
    ck_assert_double_ge(effective, 7);
    ck_assert_double_le(effective, 13);
    ck_assert_uint_le(ss_mixture_packed_size(m), SS_MIXTURE_MAX_BYTES);
    ss_mixture_free(m);
}
END_TEST

/* What the test above would say of a moving average of batch means with batches of one. */
START_TEST(plain_moving_average_collapses)
{
    static world w;
    static float mean[SS_MIXTURE_COMPONENTS][D];
    world_init(&w, 0, 50, 0);
    float z[D], noise[D], apart = 0;
    for (int t = 0; t < 5000; t++) {
        world_next(&w, 0, z);
        for (int c = 0; c < SS_MIXTURE_COMPONENTS; c++)
            for (int k = 0; k < D; k++)
                mean[c][k] += (t < 64 ? (c == t ? 1 : 0) : 0.01f) * (z[k] - mean[c][k]);
    }
    int votes[SS_MIXTURE_COMPONENTS][KNOWN] = {{0}};
    for (int i = 0; i < PROBE; i++) {
        int a = (int)ss_rng_below(&w.r, KNOWN), best = 0;
        float least = INFINITY;
        world_noise(&w, a, noise);
        world_mix(&w, a, a, 1, 0, noise, z);
        for (int c = 0; c < SS_MIXTURE_COMPONENTS; c++) {
            float d2 = 0, e2 = 0;
            for (int k = 0; k < D; k++) {
                d2 += (z[k] - mean[c][k]) * (z[k] - mean[c][k]);
                e2 += (mean[0][k] - mean[c][k]) * (mean[0][k] - mean[c][k]);
            }
            apart = e2 > apart ? e2 : apart;
            if (d2 < least) {
                least = d2;
                best = c;
            }
        }
        votes[best][a]++;
    }
    ck_assert_float_lt(apart, 1e-6f);
    ck_assert_double_lt(purity(votes, SS_MIXTURE_COMPONENTS), 0.5);
}
END_TEST

static ss_mixture *trained(int updates)
{
    static world w;
    world_init(&w, 0, 20, 0);
    ss_mixture *m;
    ck_assert_int_eq(ss_mixture_create(&m, SS_MIXTURE_COMPONENTS, D, NULL), 0);
    for (int t = 0; t < updates; t++) {
        float z[D];
        world_next(&w, 0, z);
        ss_mixture_update(m, z);
    }
    return m;
}

START_TEST(cold_start_and_odd_input)
{
    ss_mixture *m;
    ss_err e;
    ck_assert_int_eq(ss_mixture_create(&m, 1, D, &e), SS_EINVAL);
    ck_assert_int_eq(ss_mixture_create(&m, 64, 5000, &e), SS_EINVAL);
    ck_assert_int_eq(ss_mixture_create(&m, 64, D, &e), 0);
    float z[D] = {1}, out[D];
    ss_mixture_score s;
    ss_rng r = ss_rng_make(1, 0);
    ss_mixture_rate(m, z, &s);
    ck_assert(s.u == 1 && s.novelty == 2 && s.component == -1);
    ck_assert_int_eq(ss_mixture_draw(m, 0, &r, 1, out), SS_ERANGE);
    /* One and the same embedding for ever, then a little beside it: one component, nothing breaks. */
    for (int t = 0; t < 5000; t++)
        ck_assert_int_eq(ss_mixture_update(m, z), 0);
    ss_mixture_rate(m, z, &s);
    ck_assert(s.novelty < 1e-3f && s.component == 0);
    ck_assert_int_eq(ss_mixture_live(m), 1);
    ck_assert(!ss_mixture_ready(m));
    uint64_t seen = ss_mixture_seen(m);
    z[1] = NAN;
    ck_assert_int_eq(ss_mixture_update(m, z), SS_ERANGE);
    z[1] = INFINITY;
    ck_assert_int_eq(ss_mixture_update(m, z), SS_ERANGE);
    z[1] = 3;
    ck_assert_int_eq(ss_mixture_update(m, z), SS_ERANGE);
    ck_assert_uint_eq(ss_mixture_seen(m), seen);
    ss_mixture_rate(m, z, &s);
    ck_assert(s.u == 1 && s.novelty == 2 && s.component == -1);
    ss_mixture_free(m);
}
END_TEST

START_TEST(negatives_come_from_the_others)
{
    enum { N = 500 };
    ss_mixture *m = trained(5000);
    static float z[N][D], again[N][D];
    int own = 0, kept = 0;
    float mean[D], weight[SS_MIXTURE_COMPONENTS];
    ss_rng r = ss_rng_make(3, 1), same = r;
    while (ss_mixture_neighbours(m, own, weight) < 8)
        own++;
    ck_assert_int_eq(ss_mixture_draw(m, own, &r, N, z[0]), N);
    ck_assert_int_eq(ss_mixture_draw(m, own, &same, N, again[0]), N);
    ck_assert_mem_eq(z, again, sizeof z);
    ck_assert_uint_eq(r.next, same.next);
    ss_mixture_component(m, own, mean, NULL, NULL);
    for (int i = 0; i < N; i++) {
        float s = 0;
        ss_mixture_score score;
        for (int k = 0; k < D; k++)
            s += z[i][k] * z[i][k];
        ck_assert_float_eq_tol(s, 1, 1e-5f);
        ss_mixture_rate(m, z[i], &score);
        kept += score.component == own;
    }
    ck_assert_int_lt(kept, N / 20);
    ck_assert_int_eq(ss_mixture_draw(m, -1, &r, 1, z[0]), SS_ERANGE);
    ck_assert_int_eq(ss_mixture_draw(m, ss_mixture_used(m), &r, 1, z[0]), SS_ERANGE);
    ss_mixture_free(m);
}
END_TEST

START_TEST(weights_of_negatives_follow_the_law)
{
    ss_mixture *m = trained(5056);
    int used = ss_mixture_used(m), checked = 0;
    for (int own = 0; own < used; own += 3) {
        float weight[SS_MIXTURE_COMPONENTS], pi, mean[D], own_mean[D];
        double x[SS_MIXTURE_COMPONENTS], y[SS_MIXTURE_COMPONENTS], sum = 0, entropy = 0, mx = 0, my = 0,
                                                                   n = 0;
        float effective = ss_mixture_neighbours(m, own, weight);
        ss_mixture_component(m, own, own_mean, NULL, NULL);
        ck_assert_float_eq(weight[own], 0);
        for (int c = 0; c < used; c++) {
            if (!(weight[c] > 1e-12f))
                continue;
            ss_mixture_component(m, c, mean, NULL, &pi);
            x[c] = 0;
            for (int k = 0; k < D; k++)
                x[c] += ((double)own_mean[k] - mean[k]) * ((double)own_mean[k] - mean[k]);
            y[c] = log(weight[c] / pi);
            sum += weight[c];
            entropy -= weight[c] * log(weight[c]);
            mx += x[c];
            my += y[c];
            n++;
        }
        ck_assert_double_eq_tol(sum, 1, 1e-5);
        ck_assert_double_eq_tol(exp(entropy), effective, 1e-3);
        if (n > 12)
            ck_assert_double_eq_tol(effective, SS_MIXTURE_EFFECTIVE, 5e-3);
        /* weight / pi falls with the squared distance, along one line in the logarithm. */
        double sxx = 0, sxy = 0;
        for (int c = 0; c < used; c++)
            if (weight[c] > 1e-12f) {
                sxx += (x[c] - mx / n) * (x[c] - mx / n);
                sxy += (x[c] - mx / n) * (y[c] - my / n);
            }
        ck_assert_double_lt(sxy, 0);
        for (int c = 0; c < used; c++)
            if (weight[c] > 1e-12f) {
                ck_assert_double_eq_tol(y[c], my / n + sxy / sxx * (x[c] - mx / n), 2e-3);
                checked++;
            }
    }
    ck_assert_int_gt(checked, 50);
    ss_mixture_free(m);
}
END_TEST

/* Draws against others of the same law, made one at a time in double precision: how often each component
 * comes, first, second and fourth moments in every dimension, that neither rows nor dimensions repeat, and
 * that the two of a pair are each other's opposite. */
START_TEST(negatives_follow_the_law)
{
    enum { N = 20000, TURNED = 1000 };
    ss_mixture *m = trained(5056);
    int used = ss_mixture_used(m), own = 0, count[2][SS_MIXTURE_COMPONENTS] = {{0}};
    float weight[SS_MIXTURE_COMPONENTS], (*z)[D] = malloc(N * sizeof *z);
    static float mean[SS_MIXTURE_COMPONENTS][D], variance[SS_MIXTURE_COMPONENTS][D];
    while (ss_mixture_neighbours(m, own, weight) < 8)
        own++;
    for (int c = 0; c < used; c++)
        ss_mixture_component(m, c, mean[c], variance[c], NULL);
    ss_rng r = ss_rng_make(11, 1), g = ss_rng_make(12, 2);
    r.next = 2; /* in the middle of a block */
    ck_assert_int_eq(ss_mixture_draw(m, own, &r, N, z[0]), N);
    ck_assert_uint_eq(r.next, 4 * (uint64_t)N * (D / 4 + 1));
    static double moment[2][4][D]; /* of z - mean of the component, powers 1 to 4 */
    static double repeat[D];       /* products with the row before, turned by so many dimensions */
    double pairs = 0;              /* of these, not turned, with the other one of a pair */
    double across = 0;
    for (int side = 0; side < 2; side++) {
        double before[D] = {0};
        for (int i = 0; i < N; i++) {
            double now[D], s = 0;
            ss_mixture_score score;
            float of_double[D], *at = z[i];
            if (side) {
                double u = ss_rng_uniform(&g);
                int c = 0;
                while (c < used - 1 && u >= weight[c])
                    u -= weight[c++];
                for (int k = 0; k < D; k++) {
                    now[k] = mean[c][k] + sqrt(variance[c][k]) * ss_rng_normal(&g);
                    s += now[k] * now[k];
                }
                for (int k = 0; k < D; k++)
                    of_double[k] = (float)(now[k] / sqrt(s));
                at = of_double;
            }
            ss_mixture_rate(m, at, &score);
            count[side][score.component]++;
            for (int k = 0; k < D; k++) {
                double d = now[k] = at[k] - mean[score.component][k], v = 1;
                for (int q = 0; q < 4; q++)
                    moment[side][q][k] += (v *= d) / N;
            }
            if (!side)
                for (int k = 0; k < D; k++) {
                    now[k] /= sqrt(variance[score.component][k]);
                    across += k ? now[k] * now[k - 1] : 0;
                    for (int q = 0; i < TURNED && q < D; q++)
                        *(q == 0 && i % 2 ? &pairs : &repeat[q]) += now[k] * before[(k + q) % D];
                }
            memcpy(before, now, sizeof now);
        }
    }
    for (int c = 0; c < used; c++) {
        double expected = (double)N * weight[c];
        ck_assert_double_le(fabs(count[0][c] - expected), 5 * sqrt(expected) + 0.02 * expected + 5);
        ck_assert_double_le(abs(count[0][c] - count[1][c]), 5 * sqrt(2 * expected) + 5);
    }
    double first = 0, second = 0, fourth[2] = {0};
    for (int k = 0; k < D; k++) {
        double d = moment[0][0][k] - moment[1][0][k], v = moment[1][1][k], w = moment[1][3][k] - v * v;
        first += d * d / (2 * v / N);
        d = moment[0][1][k] - v;
        second += d * d / (2 * w / N);
        fourth[0] += moment[0][3][k];
        fourth[1] += moment[1][3][k];
    }
    /* Chi squared of D degrees of freedom: deviation 16. */
    ck_assert_double_le(first, D + 5 * 16);
    ck_assert_double_le(second, D + 5 * 16);
    ck_assert_double_eq_tol(fourth[0] / fourth[1], 1, 0.02);
    /* The deviation of a sum of products of independent ones is the root of their number. */
    ck_assert_double_le(fabs(across), 10 * sqrt((double)N * D));
    for (int q = 0; q < D; q++)
        ck_assert_double_le(fabs(repeat[q]), 6 * sqrt((double)TURNED * D));
    ck_assert_double_eq_tol(pairs / (TURNED / 2 * D), -1, 0.05);
    free(z);
    ss_mixture_free(m);
}
END_TEST

START_TEST(uncertainty_at_the_centres_is_as_said)
{
    ss_mixture *m = trained(5056); /* the width has just been solved for */
    float z[D], weight, of_first[SS_MIXTURE_COMPONENTS], of_second[SS_MIXTURE_COMPONENTS];
    ss_mixture_neighbours(m, 0, of_first);
    ss_mixture_neighbours(m, 1, of_second);
    double u = 0, mass = 0;
    for (int c = 0; c < ss_mixture_used(m); c++)
        if (of_first[c] > 0 || of_second[c] > 0) {
            ss_mixture_score s;
            ss_mixture_component(m, c, z, NULL, &weight);
            ss_mixture_rate(m, z, &s);
            ck_assert_int_eq(s.component, c);
            ck_assert_float_lt(s.novelty, 1e-6f);
            u += weight * s.u;
            mass += weight;
        }
    ck_assert_double_eq_tol(u / mass, SS_MIXTURE_CENTRE_U, 5e-4);
    ss_mixture_free(m);
}
END_TEST

START_TEST(packed_round_trip)
{
    ss_mixture *m = trained(3000), *back;
    size_t n = ss_mixture_packed_size(m);
    unsigned char *a = malloc(n), *b = malloc(n);
    ss_err e;
    ss_mixture_pack(m, a);
    ck_assert_int_eq(ss_mixture_unpack(&back, a, n, &e), 0);
    ck_assert_uint_eq(ss_mixture_packed_size(back), n);
    ss_mixture_pack(back, b);
    ck_assert_mem_eq(a, b, n);
    static world w;
    world_init(&w, 0, 1, 0);
    for (int i = 0; i < 100; i++) {
        float z[D];
        ss_mixture_score s, t;
        world_next(&w, 0, z);
        ss_mixture_rate(m, z, &s);
        ss_mixture_rate(back, z, &t);
        ck_assert_float_eq_tol(s.u, t.u, 2e-2f);
        ck_assert_float_eq_tol(s.novelty, t.novelty, 2e-3f);
    }
    ss_mixture_free(back);

    /* Truncations and wrong bits are refused and leave nothing behind. */
    for (size_t i = 0; i < n; i += i < 64 || i + 64 > n ? 1 : 29) {
        ck_assert_int_lt(ss_mixture_unpack(&back, a, i, &e), 0);
        ck_assert_ptr_null(back);
        a[i] ^= (unsigned char)(1u << i % 8);
        ck_assert_int_lt(ss_mixture_unpack(&back, a, n, &e), 0);
        a[i] ^= (unsigned char)(1u << i % 8);
    }
    /* Lies under a right checksum. */
    static const struct {
        size_t at; /* from the start of: */
        int value;
    } lie[] = {{4, 9},   {6, 3},  {6, 0},     {8, 1},         {9, 255},
               {10, 65}, {11, 1}, {23, 0x7f}, {24 + 3, 0x7f}, {24 + 3, 0xff}};
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        memcpy(b, a, n);
        b[lie[i].at] = (unsigned char)lie[i].value;
        uint32_t sum = ss_crc32c(0, b, n - 4);
        for (int k = 0; k < 4; k++)
            b[n - 4 + (size_t)k] = (unsigned char)(sum >> 8 * k);
        ck_assert_int_lt(ss_mixture_unpack(&back, b, n, &e), 0);
    }
    for (int what = 0; what < 2; what++) { /* a mean and a deviation that are no numbers */
        memcpy(b, a, n);
        memcpy(b + 24 + 8 * (size_t)ss_mixture_used(m) + (what ? 2 * D * (size_t)ss_mixture_used(m) : 0),
               "\x00\x7e", 2);
        uint32_t sum = ss_crc32c(0, b, n - 4);
        for (int k = 0; k < 4; k++)
            b[n - 4 + (size_t)k] = (unsigned char)(sum >> 8 * k);
        ck_assert_int_eq(ss_mixture_unpack(&back, b, n, &e), SS_EDAMAGED);
    }
    free(a);
    free(b);
    ss_mixture_free(m);
}
END_TEST

START_TEST(restored_state_goes_on_bit_for_bit)
{
    static world w;
    world_init(&w, 0, 20, 0);
    ss_mixture *m, *other;
    ck_assert_int_eq(ss_mixture_create(&m, SS_MIXTURE_COMPONENTS, D, NULL), 0);
    ck_assert_int_eq(ss_mixture_create(&other, SS_MIXTURE_COMPONENTS, D, NULL), 0);
    size_t n = ss_mixture_state_size(m);
    unsigned char *a = malloc(n), *b = malloc(n);
    for (int t = 0; t < 2000; t++) {
        float z[D];
        world_next(&w, 0, z);
        ss_mixture_update(m, z);
        if (t == 1003) {
            ss_mixture_state(m, a);
            ck_assert_int_eq(ss_mixture_restore(other, a, n, NULL), 0);
        } else if (t > 1003) {
            ss_mixture_update(other, z);
        }
    }
    ss_mixture_state(m, a);
    ss_mixture_state(other, b);
    ck_assert_mem_eq(a, b, n);
    ck_assert_int_eq(ss_mixture_restore(other, a, n - 1, NULL), SS_EUNFIT);
    a[8] = 200; /* used */
    ck_assert_int_eq(ss_mixture_restore(other, a, n, NULL), SS_EDAMAGED);
    ss_mixture_state(m, a);
    memset(a + n - 4 * 64, 0xff, 4); /* a variance that is no number */
    ck_assert_int_eq(ss_mixture_restore(other, a, n, NULL), SS_EDAMAGED);
    ss_mixture_state(other, a);
    ck_assert_mem_eq(a, b, n);
    free(a);
    free(b);
    ss_mixture_free(m);
    ss_mixture_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mixture");
    TCase *c = tcase_create("mixture");
    tcase_set_timeout(c, 100);
    tcase_add_loop_test(c, known_clusters_are_told_apart, 0, 2);
    tcase_add_test(c, plain_moving_average_collapses);
    tcase_add_test(c, cold_start_and_odd_input);
    tcase_add_test(c, negatives_come_from_the_others);
    tcase_add_test(c, weights_of_negatives_follow_the_law);
    tcase_add_test(c, negatives_follow_the_law);
    tcase_add_test(c, uncertainty_at_the_centres_is_as_said);
    tcase_add_test(c, packed_round_trip);
    tcase_add_test(c, restored_state_goes_on_bit_for_bit);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
