#include <math.h>
#include <string.h>

#include "base/explog.h"
#include "base/mem.h"
#include "failalloc.h"
#include "memory/replay.h"
#include "unit.h"

enum { MELS = 5, FRAMES = 12, HOP = 5 };
static const ss_replay_config small = {.mels = MELS, .frames = FRAMES, .hop = HOP, .windows = 9, .ring = 70};

/* What was heard: one value for each frame of each run and filter, on the grid of the bytes, so that it comes
 * back as it was but for the last bits. */
static float heard(int run, int frame, int mel)
{
    uint32_t counter[4] = {(uint32_t)run, (uint32_t)frame, (uint32_t)mel, 0}, key[2] = {1, 2}, out[4];
    ss_philox(counter, key, out);
    return SS_REPLAY_LOW + SS_REPLAY_STEP * (float)(out[0] & 255);
}

static void window_of(int run, int start, float x[MELS * FRAMES])
{
    for (int m = 0; m < MELS; m++)
        for (int t = 0; t < FRAMES; t++)
            x[m * FRAMES + t] = heard(run, start + t, m);
}

static void is_window(const ss_replay *r, uint64_t at, int run, int start)
{
    float got[MELS * FRAMES], x[MELS * FRAMES];
    ss_replay_read(r, at, got);
    window_of(run, start, x);
    ck_assert_mem_eq(got, x, sizeof x);
}

START_TEST(bytes_are_near)
{
    ss_replay_config c;
    ss_replay_config_default(&c);
    ss_replay *r;
    ck_assert_int_eq(ss_replay_create(&r, &c, NULL), 0);
    enum { N = 64 * 96 };
    static float x[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = -13.815511f + 25.5f * (float)i / (N - 1);
    ck_assert_int_eq(ss_replay_push(r, x, 7, true), 0);
    ss_replay_read(r, ss_replay_start(r, 0, 0), y);
    double worst = 0;
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
    ck_assert_double_le(worst, 0.05001);
    ck_assert_double_ge(worst, 0.0499);
    ck_assert_float_eq(y[0], ss_logf(1e-6f));
    ck_assert_uint_eq(ss_replay_seq(r, 0), 7);

    x[0] = -1e30f;
    x[1] = 1e30f;
    ck_assert_int_eq(ss_replay_push(r, x, 8, false), 0);
    ss_replay_read(r, ss_replay_start(r, 1, 0), y);
    ck_assert_float_eq(y[0], -13.815511f);
    ck_assert_double_eq_tol((double)y[1], 11.684489, 1e-5);

    size_t words, bytes;
    int64_t *table = ss_replay_table(r, &words);
    int64_t *before = malloc(words * sizeof *before);
    memcpy(before, table, words * sizeof *before);
    float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        x[N - 1] = bad[i];
        ck_assert_int_eq(ss_replay_push(r, x, 9, true), SS_ERANGE);
    }
    ck_assert_mem_eq(before, table, words * sizeof *before);
    free(before);
    ss_replay_ring(r, &bytes);
    ck_assert_uint_eq(bytes, (1024 * 48 + 48) * 64);
    ck_assert_uint_le(ss_replay_bytes(&c), ss_mem_used()); /* which counts whole lines */
    ck_assert_uint_lt(ss_mem_used(), ss_replay_bytes(&c) + 512);
    ck_assert_uint_lt(ss_replay_bytes(&c), 3182000);
    ss_replay_free(r);
    ss_replay_free(NULL);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* A long stream of runs of random lengths against what was heard. */
typedef struct model {
    int run, start; /* of the newest window */
    int of[4096], at[4096];
    uint64_t n;
} model;

static void push(ss_replay *r, model *m, ss_rng *rng)
{
    bool goes_on = m->n && ss_rng_below(rng, 5) != 0;
    if (goes_on) {
        m->start += HOP;
    } else {
        m->run++;
        m->start = 0;
    }
    float x[MELS * FRAMES];
    window_of(m->run, m->start, x);
    ck_assert_int_eq(ss_replay_push(r, x, m->n + 100, goes_on), 0);
    m->of[m->n] = m->run;
    m->at[m->n] = m->start;
    m->n++;
}

static void matches(const ss_replay *r, const model *m)
{
    uint64_t first = ss_replay_first(r);
    ck_assert_uint_eq(ss_replay_end(r), m->n);
    ck_assert_uint_eq(ss_replay_count(r), m->n - first);
    for (uint64_t w = first; w < m->n; w++) {
        ck_assert_uint_eq(ss_replay_seq(r, w), w + 100);
        uint64_t a = w, b = w;
        while (a > first && m->of[a - 1] == m->of[w])
            a--;
        while (b + 1 < m->n && m->of[b + 1] == m->of[w])
            b++;
        for (int offset = -40; offset <= 40; offset++) {
            int start = m->at[w] + offset;
            start = start < m->at[a] ? m->at[a] : start > m->at[b] ? m->at[b] : start;
            is_window(r, ss_replay_start(r, w, offset), m->of[w], start);
        }
        for (uint64_t v = first; v < m->n; v++) {
            int64_t d = (int64_t)ss_replay_start(r, w, 0) - (int64_t)ss_replay_start(r, v, 0);
            bool shares = m->of[v] == m->of[w] && abs(m->at[v] - m->at[w]) < FRAMES;
            ck_assert_int_eq(llabs(d) < FRAMES, shares);
        }
    }
    /* As many are held as the table and the ring have room for: one more would not fit. */
    if (first > 0 && ss_replay_count(r) < (size_t)small.windows) {
        int frames = 0;
        for (uint64_t w = first - 1; w < m->n; w++)
            frames += w > first - 1 && m->of[w] == m->of[w - 1] ? HOP : FRAMES;
        ck_assert_int_gt(frames, small.ring);
    }
}

START_TEST(runs_come_back)
{
    static model m;
    ss_replay *r;
    ck_assert_int_eq(ss_replay_create(&r, &small, NULL), 0);
    ck_assert_uint_eq(ss_replay_count(r), 0);
    ss_rng rng = ss_rng_make(3, 1);
    size_t most = 0, least = 99;
    for (int i = 0; i < 400; i++) {
        push(r, &m, &rng);
        matches(r, &m);
        if (i > 20) {
            most = ss_replay_count(r) > most ? ss_replay_count(r) : most;
            least = ss_replay_count(r) < least ? ss_replay_count(r) : least;
        }
    }
    ck_assert_uint_eq(most, 9);
    ck_assert_uint_lt(least, 8);
    ss_replay_free(r);
}
END_TEST

START_TEST(windows_without_overlap)
{
    ss_replay_config c = {.mels = MELS, .frames = FRAMES, .hop = FRAMES, .windows = 3};
    ss_replay *r;
    ck_assert_int_eq(ss_replay_create(&r, &c, NULL), 0);
    float x[MELS * FRAMES];
    for (int w = 0; w < 7; w++) {
        window_of(0, w * FRAMES, x);
        ck_assert_int_eq(ss_replay_push(r, x, 0, w != 5), 0);
    }
    ck_assert_uint_eq(ss_replay_first(r), 4);
    is_window(r, ss_replay_start(r, 4, 7), 0, 4 * FRAMES); /* the run ended here */
    is_window(r, ss_replay_start(r, 5, 7), 0, 5 * FRAMES + 7);
    is_window(r, ss_replay_start(r, 6, -7), 0, 6 * FRAMES - 7);
    is_window(r, ss_replay_start(r, 6, INT32_MIN), 0, 5 * FRAMES);
    ss_replay_free(r);
}
END_TEST

START_TEST(draws_are_even)
{
    static model m;
    ss_replay *r;
    ck_assert_int_eq(ss_replay_create(&r, &small, NULL), 0);
    ss_rng rng = ss_rng_make(4, 1), draws = ss_rng_make(4, 2);
    uint64_t w[16];
    ck_assert_uint_eq(ss_replay_draw(r, &draws, 0, 4, w), 0);
    ck_assert_uint_eq(draws.next, 0);
    for (int i = 0; i < 57 || ss_replay_count(r) < 8; i++)
        push(r, &m, &rng);
    uint64_t end = ss_replay_end(r);
    int count[3][6] = {{0}};
    for (int i = 0; i < 12000; i++) {
        ck_assert_uint_eq(ss_replay_draw(r, &draws, 6, 3, w), 3);
        for (int j = 0; j < 3; j++) {
            ck_assert(w[j] < end && w[j] >= end - 6);
            count[j][w[j] + 6 - end]++;
            for (int k = 0; k < j; k++)
                ck_assert_uint_ne(w[j], w[k]);
        }
    }
    for (int i = 0; i < 18; i++)
        ck_assert_int_lt(abs(count[i / 6][i % 6] - 2000), 180);
    size_t n = ss_replay_draw(r, &draws, 0, 16, w), seen = 0;
    ck_assert_uint_eq(n, ss_replay_count(r));
    for (size_t i = 0; i < n; i++)
        seen |= (size_t)1 << (end - 1 - w[i]);
    ck_assert_uint_eq(seen, ((size_t)1 << n) - 1);
    ss_replay_free(r);
}
END_TEST

START_TEST(a_state_goes_on)
{
    static model m;
    ss_replay *r, *s, *other;
    ck_assert_int_eq(ss_replay_create(&r, &small, NULL), 0);
    ck_assert_int_eq(ss_replay_create(&s, &small, NULL), 0);
    ss_replay_config c = small;
    c.hop++;
    ck_assert_int_eq(ss_replay_create(&other, &c, NULL), 0);
    ss_rng rng = ss_rng_make(5, 1);
    for (int i = 0; i < 200; i++) {
        size_t words, bytes, same;
        int64_t *table = ss_replay_table(r, &words), *to = ss_replay_table(s, &same);
        ck_assert_uint_eq(words, same);
        memcpy(to, table, words * sizeof *to);
        uint8_t *ring = ss_replay_ring(r, &bytes);
        memcpy(ss_replay_ring(s, &same), ring, bytes);
        ck_assert_uint_eq(bytes, same);
        ck_assert_int_eq(ss_replay_restored(s, NULL), 0);

        model copy = m;
        ss_rng again = rng;
        push(r, &m, &rng);
        push(s, &copy, &again);
        matches(s, &copy);
        ck_assert_mem_eq(table, to, words * sizeof *to);
        ck_assert_mem_eq(ring, ss_replay_ring(s, &same), bytes);

        memcpy(ss_replay_table(other, &same), table, words * sizeof *to);
        ss_err e;
        ck_assert_int_eq(ss_replay_restored(other, &e), SS_EUNFIT);
        ck_assert_uint_eq(ss_replay_count(other), 0);
    }

    /* A table with one wrong number is refused, or what it says can be followed. */
    size_t words, refused = 0;
    int64_t *table = ss_replay_table(r, &words), *to = ss_replay_table(s, &words);
    for (size_t i = 0; i < words; i++)
        for (int bit = 0; bit < 64; bit++) {
            memcpy(to, table, words * sizeof *to);
            to[i] ^= (int64_t)((uint64_t)1 << bit);
            if (ss_replay_restored(s, NULL)) {
                ck_assert_uint_eq(ss_replay_count(s), 0);
                refused++;
            }
            float x[MELS * FRAMES];
            for (uint64_t w = ss_replay_first(s); w < ss_replay_end(s); w++)
                for (int offset = -40; offset <= 40; offset += 8)
                    ss_replay_read(s, ss_replay_start(s, w, offset), x);
            ck_assert_int_eq(ss_replay_push(s, x, 0, true), 0);
        }
    ck_assert_uint_ge(refused, (5 + 3 + 2 * 6) * 60); /* seq and rows of windows gone may be anything */
    ss_replay_free(r);
    ss_replay_free(s);
    ss_replay_free(other);
}
END_TEST

START_TEST(bad_configurations)
{
    static const ss_replay_config bad[] = {
        {0, 12, 5, 9, 0},
        {5, 0, 5, 9, 0},
        {5, 12, 0, 9, 0},
        {5, 12, 13, 9, 0},
        {5, 12, 5, 0, 0},
        {5, 12, 5, 9, 11},
        {5, 60000, 60000, 1 << 24, 0},
        {5, 12, 5, 9, -1},
        {-1, 12, 5, 9, 0},
        {5, 12, 5, (1 << 24) + 1, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ss_replay *r;
        ss_err e;
        ck_assert_int_eq(ss_replay_create(&r, bad + i, &e), SS_ERANGE);
        ck_assert_ptr_null(r);
        ck_assert_uint_eq(ss_replay_bytes(bad + i), 0);
    }
}
END_TEST

START_TEST(memory_refused)
{
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            fail_alloc_from(n, forever);
            ss_replay *r;
            ss_recent z;
            int rc = ss_replay_create(&r, &small, NULL);
            int zc = rc ? rc : ss_recent_init(&z, 4, 3);
            if (!rc) {
                ss_replay_free(r);
                if (!zc)
                    ss_recent_clear(&z);
            }
            ck_assert_uint_eq(ss_mem_used(), 0);
            if (!fail_alloc_done()) {
                ck_assert_int_eq(n, 7);
                break;
            }
            ck_assert_int_eq(zc, SS_ENOMEM);
        }
}
END_TEST

START_TEST(recent_embeddings)
{
    ss_recent r;
    ck_assert_int_eq(ss_recent_init(&r, 0, 3), SS_ERANGE);
    ck_assert_int_eq(ss_recent_init(&r, 4, 3), 0);
    for (int i = 0; i < 11; i++) {
        ck_assert_int_eq(ss_recent_count(&r), i < 4 ? i : 4);
        float z[3] = {(float)i, (float)-i, 1};
        ss_recent_push(&r, z, 100 + i);
        for (int k = 0; k < ss_recent_count(&r); k++) {
            int newest = i - (i - k) % 4;
            ck_assert_float_eq(r.z[3 * k], (float)newest);
            ck_assert_float_eq(r.z[3 * k + 1], (float)-newest);
            ck_assert_int_eq(r.tag[k], 100 + newest);
        }
    }
    ss_recent_clear(&r);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

UNIT_MAIN("replay", bytes_are_near, runs_come_back, windows_without_overlap, draws_are_even, a_state_goes_on,
          bad_configurations, memory_refused, recent_embeddings)
