#include "memory/mixture.h"

#include <math.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/explog.h"
#include "base/half.h"
#include "base/mem.h"
#include "kernels/kernels.h"

#define MOST       1024   /* components */
#define LANES      16     /* components are padded to this many: whole vectors at every level */
#define COUNT_CAP  256.0f /* of an effective count: how fast an old component still follows */
#define GROWN      64.0f  /* embeddings that make a component live */
#define PRIOR      8.0f   /* embeddings' worth of the pooled spread in a component's own */
#define NOVEL      5.0f   /* standard deviations of the distance beyond which a component is started */
#define EXPLORE    16     /* updates between two trials of a component inside a wide one */
#define GAIN       0.318f /* share of the spread saved by halving a Gaussian, times its dimensions / 2 */
#define MASS_CAP   16.0f  /* of a weight where merging is weighed up: the rare are worth keeping */
#define MERGE      2.0f   /* squared distance over spread, times dimensions / 2, below which two are one */
#define ALIKE      4.0f   /* neighbours in a stream worth one independent embedding */
#define TIDY       64     /* updates between two looks for pairs to merge, and solutions for the width */
#define ROUGH_STEP (1 / 512.0f) /* how fast the relative variance of distances follows */
#define ROUGH_MIN  (1 / 64.0f)  /* as for 128 dimensions */
#define ROUGH_MAX  (1 / 8.0f)   /* as for 16 */
#define SAME       1e-6f        /* spread of what is but one sound, digital silence: no use in halving it */
#define SOLVED     1e-4f        /* how near to what it should be a solved u or entropy comes */
#define WIDTH_LOW  -4.6f        /* logarithm of the width: 1e-2 */
#define WIDTH_HIGH 13.8f        /* 1e6 */
#define TAU_LOW    -6.9f        /* of tau: 1e-3 */
#define TAU_HIGH   6.9f         /* 1e3 */
#define TINY       1e-12f       /* keeps divisions finite; far below any spread of f32 vectors of length 1 */

struct ss_mixture {
    int components, stride, dim, used;
    uint64_t seen;
    float pooled; /* median over live components of the mean squared distance to their mean */
    float rough;  /* relative variance of that squared distance: 2 / the number of dimensions that count */
    float width;  /* 1 / (2 sigma^2) of p(c|z) */
    /* [stride] each; entries from used on are 0. */
    float *count;  /* effective embeddings behind mean and variance, at most COUNT_CAP */
    float *weight; /* mass that forgets; pi is this over its sum */
    float *spread; /* sum of variance over dimensions */
    /* [dim][stride]: component runs fastest, so that loops over them are vectors and no sum is reordered. */
    float *mean, *variance;
    float *block; /* all of the above */
    size_t floats;
    /* Made when needed, good until a component moves. */
    float *between; /* [stride][stride] squared distances between means */
    float *rows;    /* mean [stride][dim], then deviation [stride][dim], for draws */
    bool between_made, rows_made;
};

static size_t pad(int n)
{
    return ((size_t)n + LANES - 1) / LANES * LANES;
}

int ss_mixture_create(ss_mixture **out, int components, int dim, ss_err *e)
{
    *out = NULL;
    if (components < 2 || components > MOST || dim < 1 || dim > 4096)
        return ss_err_set(e, SS_EINVAL, "mixture of %d components of %d, at most %d of 4096 expected",
                          components, dim, MOST);
    ss_mixture *m = ss_zalloc(1, sizeof *m);
    if (!m)
        return ss_err_set(e, SS_ENOMEM, "no memory for a mixture");
    size_t stride = pad(components);
    m->components = components;
    m->stride = (int)stride;
    m->dim = dim;
    m->rough = 0.1f;
    m->floats = stride * (3 + 2 * (size_t)dim);
    m->block = ss_zalloc(m->floats, sizeof *m->block);
    m->between = ss_zalloc(stride * stride, sizeof *m->between);
    m->rows = ss_alloc(2 * stride * (size_t)dim, sizeof *m->rows);
    if (!m->block || !m->between || !m->rows) {
        ss_mixture_free(m);
        return ss_err_set(e, SS_ENOMEM, "no memory for a mixture");
    }
    m->count = m->block;
    m->weight = m->count + stride;
    m->spread = m->weight + stride;
    m->mean = m->spread + stride;
    m->variance = m->mean + stride * (size_t)dim;
    *out = m;
    return SS_OK;
}

void ss_mixture_free(ss_mixture *m)
{
    if (!m)
        return;
    ss_free(m->block);
    ss_free(m->between);
    ss_free(m->rows);
    ss_free(m);
}

int ss_mixture_dim(const ss_mixture *m)
{
    return m->dim;
}

int ss_mixture_components(const ss_mixture *m)
{
    return m->components;
}

int ss_mixture_used(const ss_mixture *m)
{
    return m->used;
}

uint64_t ss_mixture_seen(const ss_mixture *m)
{
    return m->seen;
}

/* Fewer embeddings make a component while little has been heard at all. */
static float grown(const ss_mixture *m)
{
    float n = m->seen < 1024 ? (float)m->seen / 16 : GROWN;
    return n > 16 ? n : 16;
}

static bool is_live(const ss_mixture *m, int c)
{
    return m->count[c] >= grown(m);
}

int ss_mixture_live(const ss_mixture *m)
{
    int n = 0;
    for (int c = 0; c < m->used; c++)
        n += is_live(m, c);
    return n;
}

bool ss_mixture_ready(const ss_mixture *m)
{
    return ss_mixture_live(m) >= 8;
}

static const float *row(const ss_mixture *m, int a)
{
    return m->between + (size_t)a * (size_t)m->stride;
}

static size_t at(const ss_mixture *m, int k, int c)
{
    return (size_t)k * (size_t)m->stride + (size_t)c;
}

/* d2 [stride] = ||z - mean_c||^2 */
static void distances(const ss_mixture *m, const float *z, float *d2)
{
    ss_mix_distances(m->dim, m->stride, z, m->mean, d2);
}

static void distances_of(const ss_mixture *m, int a, float *d2)
{
    float z[4096];
    for (int k = 0; k < m->dim; k++)
        z[k] = m->mean[at(m, k, a)];
    distances(m, z, d2);
}

static void moved(ss_mixture *m)
{
    m->between_made = m->rows_made = false;
}

static void all_distances(ss_mixture *m)
{
    if (m->between_made)
        return;
    m->between_made = true;
    for (int a = 0; a < m->used; a++)
        distances_of(m, a, m->between + (size_t)a * (size_t)m->stride);
}

static int nearest(const ss_mixture *m, const float *d2)
{
    int c = 0;
    for (int i = 1; i < m->used; i++)
        if (d2[i] < d2[c])
            c = i;
    return c;
}

/* p [stride] or NULL = softmax of score [used], of which -INFINITY stands for none; returns its entropy. */
static float softmax(const ss_mixture *m, float *score, float *p)
{
    for (int c = m->used; c < m->stride; c++)
        score[c] = -INFINITY;
    return ss_mix_softmax(m->stride, score, p);
}

/* Entropy of p(c|z) over the live components. Their priors are taken as equal: what was heard for the last
 * hour says little about which one the next sound belongs to. */
static float entropy(const ss_mixture *m, const float *d2, float width)
{
    float score[MOST], least = grown(m);
    for (int c = 0; c < m->used; c++)
        score[c] = m->count[c] >= least ? -width * d2[c] : -INFINITY;
    return softmax(m, score, NULL);
}

/*
 * Where f, which only grows or only falls, passes 0 between low and high (f there given), to within SOLVED of
 * f; the end nearer to it when it does not pass. Regula falsi with the value of an end that stays halved
 * (Illinois), and a bisection in between, so that the flat ends of a step cost little.
 */
typedef float function_of(const void *arg, float x);

static float solve(function_of *f, const void *arg, float low, float f_low, float high, float f_high)
{
    if ((f_low > 0) == (f_high > 0))
        return fabsf(f_low) < fabsf(f_high) ? low : high;
    int stayed = 0;
    float x = low;
    for (int step = 0; step < 40; step++) {
        x = step % 3 == 2 ? 0.5f * (low + high) : low - f_low * (high - low) / (f_high - f_low);
        float y = f(arg, x);
        if (fabsf(y) < SOLVED || high - low < 1e-6f)
            break;
        if ((y > 0) == (f_low > 0)) {
            low = x;
            f_low = y;
            f_high *= stayed > 0 ? 0.5f : 1;
            stayed = 1;
        } else {
            high = x;
            f_high = y;
            f_low *= stayed < 0 ? 0.5f : 1;
            stayed = -1;
        }
    }
    return x;
}

/* Mean of u at the centres above what it should be, for a width of exp(x). */
typedef struct centres {
    const ss_mixture *m;
    float mass, most; /* of the live; logarithm of their number */
} centres;

static float centre_excess(const void *arg, float x)
{
    const centres *t = arg;
    const ss_mixture *m = t->m;
    float width = ss_expf(x), least = grown(m), h = 0;
    for (int a = 0; a < m->used; a++)
        h += m->count[a] >= least ? m->weight[a] * entropy(m, row(m, a), width) : 0;
    return h / (t->mass * t->most) - SS_MIXTURE_CENTRE_U;
}

/* u at the centres falls as the width, an inverse variance, grows. First looked for near the last one. */
static void solve_width(ss_mixture *m)
{
    int live = ss_mixture_live(m);
    if (live < 2)
        return;
    all_distances(m);
    centres t = {m, TINY, ss_logf((float)live)};
    for (int c = 0; c < m->used; c++)
        t.mass += is_live(m, c) ? m->weight[c] : 0;
    float low = WIDTH_LOW, high = WIDTH_HIGH, f_low = 1 - SS_MIXTURE_CENTRE_U, f_high = -SS_MIXTURE_CENTRE_U;
    if (m->width > 0) {
        float x = ss_logf(m->width), y = centre_excess(&t, x), far = x + (y > 0 ? 0.125f : -0.125f);
        float f_far = centre_excess(&t, far);
        if ((y > 0) != (f_far > 0)) {
            low = y > 0 ? x : far;
            f_low = y > 0 ? y : f_far;
            high = y > 0 ? far : x;
            f_high = y > 0 ? f_far : y;
        }
    }
    m->width = ss_expf(solve(centre_excess, &t, low, f_low, high, f_high));
}

/* The one of v [n] that n / 2 others come before in order. */
static float median(const float *v, int n)
{
    for (int i = 0; i < n; i++) {
        int below = 0, equal = 0;
        for (int j = 0; j < n; j++) {
            below += v[j] < v[i];
            equal += v[j] == v[i];
        }
        if (below <= n / 2 && n / 2 < below + equal)
            return v[i];
    }
    return 0; /* not reached with numbers */
}

/* The median, so that neither silence nor one component that swallowed much sets the scale of all; before any
 * is live, the mean over what there is, unbiased. */
static void pool_spread(ss_mixture *m)
{
    float live[MOST], sum = 0, mass = 0, least = grown(m);
    int n = 0;
    for (int c = 0; c < m->used; c++) {
        sum += m->count[c] * m->spread[c];
        mass += m->count[c] - 1;
        if (m->count[c] >= least)
            live[n++] = m->spread[c];
    }
    m->pooled = n ? median(live, n) : mass > 0 ? sum / mass : 0;
}

/* The component's own spread, drawn to the pooled one while it has seen little; never far below that one, or
 * every breath after digital silence would be a novelty. */
static float scale_of(const ss_mixture *m, int c)
{
    float n = m->count[c], s = (PRIOR * m->pooled + n * m->spread[c]) / (PRIOR + n),
          least = 0.25f * m->pooled;
    return (s > least ? s : least) + TINY;
}

static float rough(const ss_mixture *m)
{
    return m->rough < ROUGH_MIN ? ROUGH_MIN : m->rough > ROUGH_MAX ? ROUGH_MAX : m->rough;
}

static float mass_of(const ss_mixture *m, int c)
{
    return m->weight[c] < MASS_CAP ? m->weight[c] : MASS_CAP;
}

static void sum_spread(ss_mixture *m, int c)
{
    float s = 0;
    for (int k = 0; k < m->dim; k++)
        s += m->variance[at(m, k, c)];
    m->spread[c] = s;
}

/* Column c becomes a component of the one embedding z, or empty. */
static void set_column(ss_mixture *m, int c, const float *z)
{
    moved(m);
    for (int k = 0; k < m->dim; k++) {
        m->mean[at(m, k, c)] = z ? z[k] : 0;
        m->variance[at(m, k, c)] = 0;
    }
    m->count[c] = m->weight[c] = z ? 1 : 0;
    m->spread[c] = 0;
}

/* Component b goes into a by mass; the last one takes its number. */
static void merge(ss_mixture *m, int a, int b)
{
    moved(m);
    float wa = m->weight[a] + TINY, wb = m->weight[b] + TINY, fa = wa / (wa + wb), fb = wb / (wa + wb);
    int last = m->used - 1;
    for (int k = 0; k < m->dim; k++) {
        float *mean = m->mean + at(m, k, 0), *var = m->variance + at(m, k, 0), d = mean[b] - mean[a];
        mean[a] += fb * d;
        var[a] = fa * var[a] + fb * var[b] + fa * fb * d * d;
        mean[b] = mean[last];
        var[b] = var[last];
    }
    float n = m->count[a] + m->count[b];
    m->count[a] = n < COUNT_CAP ? n : COUNT_CAP;
    m->weight[a] += m->weight[b];
    sum_spread(m, a);
    m->count[b] = m->count[last];
    m->weight[b] = m->weight[last];
    m->spread[b] = m->spread[last];
    set_column(m, last, NULL);
    m->used--;
}

/* Merge live ones that the data cannot tell apart, the most alike pair first: the halves of a Gaussian in k
 * dimensions lie 2.5 / k of its spread apart, and means of few embeddings farther by chance. */
static void tidy(ss_mixture *m)
{
    for (;;) {
        float least = MERGE * rough(m), chance = 1 + 3 * sqrtf(rough(m));
        int pa = -1, pb = -1;
        all_distances(m);
        for (int a = 0; a < m->used; a++)
            for (int b = a + 1; b < m->used; b++) {
                if (!is_live(m, a) || !is_live(m, b))
                    continue;
                float sa = scale_of(m, a), sb = scale_of(m, b);
                float apart =
                    row(m, a)[b] / (sa < sb ? sa : sb) - chance * (ALIKE / m->count[a] + ALIKE / m->count[b]);
                if (apart < least) {
                    least = apart;
                    pa = a;
                    pb = b;
                }
            }
        if (pa < 0)
            return;
        merge(m, pa, pb);
        pool_spread(m);
    }
}

/* Room for one more, if need be by merging the pair that adds least to the spread (Ward), less than worth. */
static bool make_room(ss_mixture *m, float worth)
{
    if (m->used < m->components)
        return true;
    int pa = -1, pb = -1;
    all_distances(m);
    for (int a = 0; a < m->used; a++)
        for (int b = a + 1; b < m->used; b++) {
            float wa = mass_of(m, a), wb = mass_of(m, b), cost = wa * wb / (wa + wb + TINY) * row(m, a)[b];
            if (cost < worth) {
                worth = cost;
                pa = a;
                pb = b;
            }
        }
    if (pa < 0)
        return false;
    merge(m, pa, pb);
    return true;
}

static bool usable(const float *z, int dim)
{
    float s = 0;
    for (int k = 0; k < dim; k++)
        s += z[k] * z[k];
    return s <= 4; /* false for NaN too */
}

/* E and M step for one embedding. */
static void follow(ss_mixture *m, const float *z, const float *d2)
{
    float score[MOST], step[MOST];
    float sharp = 1 / (rough(m) * m->pooled + TINY); /* k / (2 spread) */
    for (int c = 0; c < m->used; c++)
        score[c] = -sharp * d2[c];
    softmax(m, score, step);
    for (int c = 0; c < m->used; c++) {
        float n = m->count[c] + step[c];
        m->count[c] = n < COUNT_CAP ? n : COUNT_CAP;
        m->weight[c] += step[c];
        step[c] /= m->count[c];
    }
    memset(step + m->used, 0, (size_t)(m->stride - m->used) * sizeof *step);
    moved(m);
    ss_mix_follow(m->dim, m->stride, z, step, m->mean, m->variance, m->spread);
}

int ss_mixture_update(ss_mixture *m, const float *z)
{
    if (!usable(z, m->dim))
        return SS_ERANGE;
    m->seen++;
    for (int c = 0; c < m->used; c++)
        m->weight[c] *= 1 - 1.0f / SS_MIXTURE_HORIZON;

    float d2[MOST];
    bool start = m->used == 0;
    distances(m, z, d2);
    if (!start) {
        int c = nearest(m, d2);
        float q = d2[c] / scale_of(m, c);
        if (q > 1 + NOVEL * sqrtf(rough(m)))
            start = make_room(m, d2[c] * m->weight[c] / (m->weight[c] + 1));
        else if (m->seen % EXPLORE == 0 && is_live(m, c) && m->spread[c] >= m->pooled && m->spread[c] > SAME)
            start = make_room(m, mass_of(m, c) * m->spread[c] * GAIN * rough(m));
        else if (is_live(m, c))
            m->rough += ((q - 1) * (q - 1) - m->rough) * ROUGH_STEP;
    }
    if (start)
        set_column(m, m->used++, z);
    else
        follow(m, z, d2);
    pool_spread(m);
    if (m->seen % TIDY == 0) {
        tidy(m);
        solve_width(m);
    }
    return SS_OK;
}

void ss_mixture_rate(const ss_mixture *m, const float *z, ss_mixture_score *out)
{
    float d2[MOST];
    *out = (ss_mixture_score){1, 2, -1};
    if (!m->used || !usable(z, m->dim))
        return;
    distances(m, z, d2);
    out->component = nearest(m, d2);
    float least = d2[out->component];
    out->novelty = least < 4 ? sqrtf(least) : 2;
    int live = ss_mixture_live(m);
    if (live > 1) {
        float u = entropy(m, d2, m->width) / ss_logf((float)live);
        out->u = u < 1 ? u : 1;
    }
}

void ss_mixture_component(const ss_mixture *m, int c, float *mean, float *variance, float *weight)
{
    for (int k = 0; mean && k < m->dim; k++)
        mean[k] = m->mean[at(m, k, c)];
    for (int k = 0; variance && k < m->dim; k++)
        variance[k] = m->variance[at(m, k, c)];
    if (weight) {
        float mass = 0;
        for (int i = 0; i < m->used; i++)
            mass += m->weight[i];
        *weight = m->weight[c] / (mass + TINY);
    }
}

/* Negatives' weights for tau = exp(x). */
typedef struct around {
    const ss_mixture *m;
    float *prior, *d2; /* [used]: logarithm of the weight, -INFINITY for none; squared distance */
} around;

static float around_entropy(const around *t, float x, float *share)
{
    float score[MOST], sharp = 0.5f * ss_expf(-2 * x);
    for (int c = 0; c < t->m->used; c++)
        score[c] = t->prior[c] - sharp * t->d2[c];
    return softmax(t->m, score, share);
}

static float around_excess(const void *arg, float x)
{
    return around_entropy(arg, x, NULL) - ss_logf(SS_MIXTURE_EFFECTIVE);
}

float ss_mixture_neighbours(const ss_mixture *m, int own, float *weight)
{
    float d2[MOST], prior[MOST], share[MOST], least = grown(m);
    int others = 0;
    memset(weight, 0, (size_t)m->used * sizeof *weight);
    if (own < 0 || own >= m->used)
        return 0;
    for (int c = 0; c < m->used; c++) {
        bool counts = c != own && m->count[c] >= least;
        prior[c] = counts ? ss_logf(m->weight[c] + TINY) : -INFINITY;
        others += counts;
    }
    if (!others)
        return 0;
    distances_of(m, own, d2);
    around t = {m, prior, d2};
    float x =
        solve(around_excess, &t, TAU_LOW, around_excess(&t, TAU_LOW), TAU_HIGH, around_excess(&t, TAU_HIGH));
    float h = around_entropy(&t, x, share);
    memcpy(weight, share, (size_t)m->used * sizeof *weight);
    return ss_expf(h);
}

/* The form that draws read, once for all draws between two updates. */
static void make_rows(ss_mixture *m)
{
    if (!m->rows_made)
        ss_mix_to_rows(m->dim, m->stride, m->mean, m->variance, m->rows,
                       m->rows + (size_t)m->stride * (size_t)m->dim);
    m->rows_made = true;
}

int ss_mixture_draw(ss_mixture *m, int own, ss_rng *r, int n, float *out)
{
    float weight[MOST], sum = 0;
    if (!(own >= 0 && own < m->used) || ss_mixture_neighbours(m, own, weight) == 0)
        return SS_ERANGE;
    int last = 0;
    for (int c = 0; c < m->used; c++) {
        if (weight[c] > 0)
            last = c;
        weight[c] = sum += weight[c];
    }
    make_rows(m);
    ss_mix_rows rows = {last + 1, m->dim, weight, m->rows, m->rows + (size_t)m->stride * (size_t)m->dim};
    ss_mix_draw(&rows, r, n, out);
    return n;
}

/*
 * Packed: "ssmx", u16 version 1, u16 components, u16 dim, u16 used, u64 seen, f32 rough, then for the used
 * ones f32 count [live], f32 weight [live], f16 mean [live][dim], f16 deviation [live][dim], u32 CRC-32C of
 * all before it.
 */
enum { HEAD = 24, VERSION = 1 };

size_t ss_mixture_packed_size(const ss_mixture *m)
{
    return HEAD + (size_t)m->used * (8 + 4 * (size_t)m->dim) + 4;
}

static uint8_t *put(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (uint8_t)(v >> 8 * i);
    return p;
}

static uint64_t get(const uint8_t **p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t) * (*p)++ << 8 * i;
    return v;
}

static uint8_t *put_f32(uint8_t *p, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return put(p, bits, 4);
}

static float get_f32(const uint8_t **p)
{
    uint32_t bits = (uint32_t)get(p, 4);
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

void ss_mixture_pack(const ss_mixture *m, void *out)
{
    uint8_t *p = out;
    memcpy(p, "ssmx", 4);
    p = put(p + 4, VERSION, 2);
    p = put(p, (uint64_t)m->components, 2);
    p = put(p, (uint64_t)m->dim, 2);
    p = put(p, (uint64_t)m->used, 2);
    p = put(p, m->seen, 8);
    p = put_f32(p, m->rough);
    for (int c = 0; c < m->used; c++)
        p = put_f32(p, m->count[c]);
    for (int c = 0; c < m->used; c++)
        p = put_f32(p, m->weight[c]);
    for (int c = 0; c < m->used; c++)
        for (int k = 0; k < m->dim; k++)
            p = put(p, ss_f32_to_f16(m->mean[at(m, k, c)]), 2);
    for (int c = 0; c < m->used; c++)
        for (int k = 0; k < m->dim; k++)
            p = put(p, ss_f32_to_f16(sqrtf(m->variance[at(m, k, c)])), 2);
    put(p, ss_crc32c(0, out, (size_t)(p - (uint8_t *)out)), 4);
}

int ss_mixture_store(const ss_mixture *m, char **bytes, size_t *size, ss_err *e)
{
    size_t n = ss_mixture_packed_size(m);
    char *p = ss_alloc(n, 1);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "mixture: out of memory");
    ss_mixture_pack(m, p);
    ss_free(*bytes);
    *bytes = p;
    *size = n;
    return SS_OK;
}

/* What update keeps true of every number; a state that breaks it was not made by it. */
static int check(const ss_mixture *m, ss_err *e)
{
    for (int c = 0; c < m->used; c++) {
        float n = m->count[c], w = m->weight[c], norm = 0, spread = 0;
        for (int k = 0; k < m->dim; k++) {
            float a = m->mean[at(m, k, c)];
            float v = m->variance[at(m, k, c)];
            norm += a * a;
            spread += v >= 0 ? v : INFINITY;
        }
        if (!(n >= 1 && n <= COUNT_CAP) || !(w >= 0 && w <= 2 * SS_MIXTURE_HORIZON) || !(norm <= 5) ||
            !(spread <= 8))
            return ss_err_set(e, SS_EDAMAGED,
                              "mixture: component %d has count %g, weight %g, squared mean %g, spread %g", c,
                              n, w, norm, spread);
    }
    return SS_OK;
}

int ss_mixture_unpack(ss_mixture **out, const void *bytes, size_t size, ss_err *e)
{
    const uint8_t *p = bytes;
    *out = NULL;
    if (size < HEAD + 4)
        return ss_err_set(e, SS_ETRUNC, "mixture of %zu bytes, at least %d expected", size, HEAD + 4);
    if (memcmp(p, "ssmx", 4))
        return ss_err_set(e, SS_EDAMAGED, "not a mixture: it does not begin with 'ssmx'");
    p += 4;
    int version = (int)get(&p, 2), components = (int)get(&p, 2), dim = (int)get(&p, 2),
        used = (int)get(&p, 2);
    uint64_t seen = get(&p, 8);
    if (version != VERSION)
        return ss_err_set(e, SS_EUNFIT, "mixture of version %d, expected %d", version, VERSION);
    const uint8_t *end = (const uint8_t *)bytes + size - 4;
    uint32_t sum = (uint32_t)get(&end, 4);
    if (ss_crc32c(0, bytes, size - 4) != sum)
        return ss_err_set(e, SS_EDAMAGED, "mixture: checksum differs");
    size_t expected = HEAD + (size_t)used * (8 + 4 * (size_t)dim) + 4;
    if (used > components || size != expected)
        return ss_err_set(e, SS_EDAMAGED, "mixture: %d of %d components of %d in %zu bytes, expected %zu",
                          used, components, dim, size, expected);
    ss_mixture *m;
    int rc = ss_mixture_create(&m, components, dim, e);
    if (rc < 0)
        return rc == SS_EINVAL ? ss_err_set(e, SS_EDAMAGED, "mixture of %d components of %d", components, dim)
                               : rc;
    m->used = used;
    m->seen = seen;
    m->rough = get_f32(&p);
    for (int c = 0; c < used; c++)
        m->count[c] = get_f32(&p);
    for (int c = 0; c < used; c++)
        m->weight[c] = get_f32(&p);
    for (int c = 0; c < used; c++)
        for (int k = 0; k < dim; k++)
            m->mean[at(m, k, c)] = ss_f16_to_f32((uint16_t)get(&p, 2));
    for (int c = 0; c < used; c++)
        for (int k = 0; k < dim; k++) {
            float s = ss_f16_to_f32((uint16_t)get(&p, 2));
            m->variance[at(m, k, c)] = s >= 0 ? s * s : -1;
        }
    rc = m->rough >= 0 && m->rough <= 1e6f ? check(m, e)
                                           : ss_err_set(e, SS_EDAMAGED, "mixture: roughness %g", m->rough);
    if (rc < 0) {
        ss_mixture_free(m);
        return rc;
    }
    for (int c = 0; c < used; c++)
        sum_spread(m, c);
    pool_spread(m);
    solve_width(m);
    *out = m;
    return SS_OK;
}

/* The state is what a running mixture holds beyond its shape: used, seen, pooled, width, and the block. */
typedef struct state {
    int32_t components, dim, used, zero;
    uint64_t seen;
    float pooled, rough, width;
    uint32_t none;
} state;

size_t ss_mixture_state_size(const ss_mixture *m)
{
    return sizeof(state) + m->floats * sizeof(float);
}

void ss_mixture_state(const ss_mixture *m, void *out)
{
    state s = {m->components, m->dim, m->used, 0, m->seen, m->pooled, m->rough, m->width, 0};
    memcpy(out, &s, sizeof s);
    memcpy((char *)out + sizeof s, m->block, m->floats * sizeof(float));
}

int ss_mixture_restore(ss_mixture *m, const void *bytes, size_t size, ss_err *e)
{
    state s;
    if (size != ss_mixture_state_size(m))
        return ss_err_set(e, SS_EUNFIT, "state of a mixture in %zu bytes, expected %zu", size,
                          ss_mixture_state_size(m));
    memcpy(&s, bytes, sizeof s);
    if (s.components != m->components || s.dim != m->dim)
        return ss_err_set(e, SS_EUNFIT, "state of a mixture of %d components of %d, expected %d of %d",
                          (int)s.components, (int)s.dim, m->components, m->dim);
    if (s.used < 0 || s.used > s.components || !(s.pooled >= 0 && s.pooled <= 8) ||
        !(s.rough >= 0 && s.rough <= 1e6f) || !(s.width >= 0 && s.width <= 1e7f))
        return ss_err_set(e, SS_EDAMAGED, "state of a mixture: %d used of %d, spread %g, width %g",
                          (int)s.used, (int)s.components, s.pooled, s.width);
    ss_mixture *was;
    int rc = ss_mixture_create(&was, m->components, m->dim, e);
    if (rc < 0)
        return rc;
    memcpy(was->block, (const char *)bytes + sizeof s, m->floats * sizeof(float));
    was->used = s.used;
    rc = check(was, e);
    for (int c = 0; c < was->used; c++)
        sum_spread(was, c); /* not left to what was read: it is kept as long as its component does not move */
    if (rc == SS_OK) {
        memcpy(m->block, was->block, m->floats * sizeof(float));
        moved(m);
        m->used = s.used;
        m->seen = s.seen;
        m->pooled = s.pooled;
        m->rough = s.rough;
        m->width = s.width;
    }
    ss_mixture_free(was);
    return rc;
}

void ss_mixture_save(const ss_mixture *m, ss_checkpoint_writer *w)
{
    void *to = ss_checkpoint_room(w, "mixture", SS_DTYPE_U8, ss_mixture_state_size(m));
    if (to)
        ss_mixture_state(m, to);
}

int ss_mixture_load(ss_mixture *m, ss_checkpoint *c, ss_err *e)
{
    uint64_t size = ss_mixture_state_size(m);
    void *bytes = ss_alloc(size, 1);
    if (!bytes)
        return ss_err_set(e, SS_ENOMEM, "mixture: out of memory");
    int rc = ss_checkpoint_get(c, "mixture", SS_DTYPE_U8, 1, &size, bytes, e);
    if (rc == SS_OK)
        rc = ss_mixture_restore(m, bytes, size, e);
    ss_free(bytes);
    return rc;
}
