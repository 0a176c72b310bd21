#include "memory/replay.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"

/* The table: what has to be the same, three counters, then a row for each window. */
enum { MELS, FRAMES, HOP, WINDOWS, RING, FIRST, END, FRAME_END, ROWS };
enum { START, RUN, SEQ, ROW };

struct ss_replay {
    ss_replay_config c;
    int64_t *table;
    uint8_t *ring;   /* [ring][mels], frame f at row f % ring */
    uint32_t *order; /* [windows], for draws */
};

void ss_replay_config_default(ss_replay_config *c)
{
    *c = (ss_replay_config){.mels = 64, .frames = 96, .hop = 48, .windows = 1024};
}

/* All sizes in range, `ring` filled in. */
static bool settle(ss_replay_config *c)
{
    if (c->mels < 1 || c->mels > 65536 || c->frames < 1 || c->frames > 65536 || c->hop < 1 ||
        c->hop > c->frames || c->windows < 1 || c->windows > 1 << 24)
        return false;
    if (c->ring == 0) {
        int64_t ring = (int64_t)c->windows * c->hop + (c->frames - c->hop);
        if (ring > INT_MAX)
            return false;
        c->ring = (int)ring;
    }
    return c->ring >= c->frames;
}

static size_t table_words(const ss_replay_config *c)
{
    return ROWS + (size_t)ROW * (size_t)c->windows;
}

size_t ss_replay_bytes(const ss_replay_config *c)
{
    ss_replay_config s = *c;
    if (!settle(&s))
        return 0;
    return sizeof(ss_replay) + table_words(&s) * sizeof(int64_t) + (size_t)s.windows * sizeof(uint32_t) +
           (size_t)s.ring * (size_t)s.mels;
}

static void describe(ss_replay *r)
{
    r->table[MELS] = r->c.mels;
    r->table[FRAMES] = r->c.frames;
    r->table[HOP] = r->c.hop;
    r->table[WINDOWS] = r->c.windows;
    r->table[RING] = r->c.ring;
}

static void empty(ss_replay *r)
{
    memset(r->table, 0, table_words(&r->c) * sizeof *r->table);
    memset(r->ring, 0, (size_t)r->c.ring * (size_t)r->c.mels);
    describe(r);
}

int ss_replay_create(ss_replay **out, const ss_replay_config *c, ss_err *e)
{
    *out = NULL;
    ss_replay_config s = *c;
    if (!settle(&s))
        return ss_err_set(
            e, SS_ERANGE,
            "replay of %d windows of %d x %d every %d in a ring of %d: a number is out of its range",
            c->windows, c->mels, c->frames, c->hop, c->ring);
    ss_replay *r = ss_zalloc(1, sizeof *r);
    if (r) {
        r->c = s;
        r->table = ss_zalloc(table_words(&s), sizeof *r->table);
        r->ring = ss_zalloc((size_t)s.ring, (size_t)s.mels);
        r->order = ss_alloc((size_t)s.windows, sizeof *r->order);
    }
    if (!r || !r->table || !r->ring || !r->order) {
        ss_replay_free(r);
        return ss_err_set(e, SS_ENOMEM, "no memory for a replay of %zu bytes", ss_replay_bytes(c));
    }
    describe(r);
    *out = r;
    return 0;
}

void ss_replay_free(ss_replay *r)
{
    if (!r)
        return;
    ss_free(r->table);
    ss_free(r->ring);
    ss_free(r->order);
    ss_free(r);
}

static int64_t *row(const ss_replay *r, int64_t window)
{
    return r->table + ROWS + (window % r->c.windows) * ROW;
}

static uint8_t *frame(const ss_replay *r, int64_t f)
{
    return r->ring + (size_t)(f % r->c.ring) * (size_t)r->c.mels;
}

int ss_replay_push(ss_replay *r, const float *x, uint64_t seq, bool continues)
{
    int mels = r->c.mels, frames = r->c.frames;
    int64_t *t = r->table;
    if (!ss_all_finite((size_t)mels * (size_t)frames, x))
        return SS_ERANGE;

    continues = continues && t[FIRST] < t[END];
    int count = continues ? r->c.hop : frames;
    const int64_t *last = continues ? row(r, t[END] - 1) : NULL;
    int64_t start = continues ? last[START] + r->c.hop : t[FRAME_END];
    int64_t run = continues ? last[RUN] : t[END];

    /* Room first: in the table, then in the ring, where the new window's own older frames stay. */
    if (t[END] - t[FIRST] == r->c.windows)
        t[FIRST]++;
    while (t[FIRST] < t[END] && row(r, t[FIRST])[START] < t[FRAME_END] + count - r->c.ring)
        t[FIRST]++;

    for (int i = 0; i < count; i++) {
        uint8_t *to = frame(r, t[FRAME_END] + i);
        const float *from = x + (frames - count + i);
        for (int m = 0; m < mels; m++) {
            float level = (from[(size_t)m * (size_t)frames] - SS_REPLAY_LOW) * (1.0f / SS_REPLAY_STEP) + 0.5f;
            to[m] = (uint8_t)(level > 255.0f ? 255.0f : level > 0.0f ? level : 0.0f);
        }
    }
    t[FRAME_END] += count;
    int64_t *mine = row(r, t[END]);
    mine[START] = start;
    mine[RUN] = run;
    mine[SEQ] = (int64_t)seq;
    t[END]++;
    return 0;
}

uint64_t ss_replay_first(const ss_replay *r)
{
    return (uint64_t)r->table[FIRST];
}

uint64_t ss_replay_end(const ss_replay *r)
{
    return (uint64_t)r->table[END];
}

size_t ss_replay_count(const ss_replay *r)
{
    return (size_t)(r->table[END] - r->table[FIRST]);
}

static int64_t held(const ss_replay *r, uint64_t window)
{
    assert(window >= ss_replay_first(r) && window < ss_replay_end(r));
    return (int64_t)window;
}

uint64_t ss_replay_seq(const ss_replay *r, uint64_t window)
{
    return (uint64_t)row(r, held(r, window))[SEQ];
}

size_t ss_replay_draw(ss_replay *r, ss_rng *rng, size_t newest, size_t n, uint64_t *window)
{
    size_t count = ss_replay_count(r);
    if (newest == 0 || newest > count)
        newest = count;
    if (n > newest)
        n = newest;
    for (size_t i = 0; i < newest; i++)
        r->order[i] = (uint32_t)i;
    for (size_t i = 0; i < n; i++) {
        size_t j = i + ss_rng_below(rng, (uint32_t)(newest - i));
        uint32_t drawn = r->order[j];
        r->order[j] = r->order[i];
        window[i] = ss_replay_end(r) - newest + drawn;
    }
    return n;
}

uint64_t ss_replay_start(const ss_replay *r, uint64_t window, int offset)
{
    int64_t w = held(r, window), step = offset < 0 ? -1 : 1, run = row(r, w)[RUN];
    int64_t start = row(r, w)[START], moved = 0, wanted = step * (int64_t)offset;
    /* The windows of a run cover it without a hole, each `hop` frames on. */
    while (moved < wanted) {
        w += step;
        if (w < r->table[FIRST] || w >= r->table[END] || row(r, w)[RUN] != run)
            break;
        moved += r->c.hop;
    }
    return (uint64_t)(start + step * (moved < wanted ? moved : wanted));
}

void ss_replay_read(const ss_replay *r, uint64_t start, float *out)
{
    size_t frames = (size_t)r->c.frames;
    assert((int64_t)start + r->c.frames <= r->table[FRAME_END]);
    assert((int64_t)start >= r->table[FRAME_END] - r->c.ring);
    for (size_t t = 0; t < frames; t++) {
        const uint8_t *from = frame(r, (int64_t)(start + t));
        for (int m = 0; m < r->c.mels; m++)
            out[(size_t)m * frames + t] = SS_REPLAY_LOW + SS_REPLAY_STEP * (float)from[m];
    }
}

int64_t *ss_replay_table(ss_replay *r, size_t *words)
{
    *words = table_words(&r->c);
    return r->table;
}

uint8_t *ss_replay_ring(ss_replay *r, size_t *bytes)
{
    *bytes = (size_t)r->c.ring * (size_t)r->c.mels;
    return r->ring;
}

/* Every number that a later call could follow out of the ring or the table. */
static bool sound(const ss_replay *r)
{
    const int64_t *t = r->table, most = INT64_MAX / 4;
    if (t[FIRST] < 0 || t[END] < t[FIRST] || t[END] > most || t[END] - t[FIRST] > r->c.windows ||
        t[FRAME_END] < 0 || t[FRAME_END] > most)
        return false;
    for (int64_t w = t[FIRST]; w < t[END]; w++) {
        const int64_t *a = row(r, w), *b = w + 1 < t[END] ? row(r, w + 1) : NULL;
        int64_t after = b ? b[START] : t[FRAME_END];
        if (a[START] < 0 || a[START] < t[FRAME_END] - r->c.ring || a[START] > most || a[RUN] < 0 ||
            a[RUN] > w)
            return false;
        if (after != a[START] + (b && b[RUN] == a[RUN] ? r->c.hop : r->c.frames))
            return false;
        if (b && b[RUN] != a[RUN] && b[RUN] != w + 1)
            return false;
    }
    return true;
}

int ss_replay_restored(ss_replay *r, ss_err *e)
{
    const int64_t *t = r->table;
    int rc = 0;
    if (t[MELS] != r->c.mels || t[FRAMES] != r->c.frames || t[HOP] != r->c.hop ||
        t[WINDOWS] != r->c.windows || t[RING] != r->c.ring)
        rc = ss_err_set(
            e, SS_EUNFIT,
            "replay of %lld windows of %lld x %lld every %lld in a ring of %lld frames, expected %d of "
            "%d x %d every %d in %d",
            (long long)t[WINDOWS], (long long)t[MELS], (long long)t[FRAMES], (long long)t[HOP],
            (long long)t[RING], r->c.windows, r->c.mels, r->c.frames, r->c.hop, r->c.ring);
    else if (!sound(r))
        rc = ss_err_set(e, SS_EUNFIT, "the table of the replay contradicts itself");
    if (rc)
        empty(r);
    return rc;
}

int ss_recent_init(ss_recent *r, int rows, int d)
{
    *r = (ss_recent){.rows = rows, .d = d};
    if (rows < 1 || d < 1)
        return SS_ERANGE;
    size_t n;
    if (!ss_mul((size_t)rows, (size_t)d, &n))
        return SS_ENOMEM;
    r->z = ss_zalloc(n, sizeof *r->z);
    r->tag = ss_zalloc((size_t)rows, sizeof *r->tag);
    if (r->z && r->tag)
        return 0;
    ss_recent_clear(r);
    return SS_ENOMEM;
}

void ss_recent_clear(ss_recent *r)
{
    ss_free(r->z);
    ss_free(r->tag);
    *r = (ss_recent){0};
}

void ss_recent_push(ss_recent *r, const float *z, int64_t tag)
{
    size_t at = (size_t)(r->pushed % r->rows);
    memcpy(r->z + at * (size_t)r->d, z, (size_t)r->d * sizeof *z);
    r->tag[at] = tag;
    r->pushed++;
}

int ss_recent_count(const ss_recent *r)
{
    return (int)(r->pushed < r->rows ? r->pushed : r->rows);
}
