/*
 * Every kernel at every level the machine has, against the plain definition: the same bits for random shapes,
 * for one window alone and in a batch, for one thread and two. Outputs end at a page that must not be touched
 * and begin behind guard bytes. Where kernels.h lets a level round products on its own, it is held to a bound
 * of the definition, and to its own bits for the rest.
 *
 *   check [--seed=N] [--rounds=N] [--only=TEXT] [--level=NAME]              TAP
 *   check --bench [--only=TEXT] [--threads=N] [--level=NAME]                GFLOP/s (elements: GB/s)
 *
 * --only: kernels whose name holds TEXT. --bench leaves convolution at the level scalar out unless it is
 * named.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/int8_internal.h"
#include "kernels/scalar.h"

static ss_rng rng;
static ss_pool *two;
static const char *only = "", *only_level = "";

static void die(const char *what)
{
    printf("Bail out! %s\n", what);
    exit(1);
}

/* ---- guarded buffers, all released together ---- */

#define GUARD 64

typedef struct guarded {
    char *map, *begin;
    size_t mapped, bytes;
} guarded;

static guarded buffers[64];
static int nbuffers;

static void *room(size_t count, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = count * size;
    size_t inside = (bytes + GUARD + page - 1) / page * page;
    char *m = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED || mprotect(m + page, inside, PROT_READ | PROT_WRITE) || nbuffers == 64)
        die("no memory");
    char *begin = m + page + inside - bytes;
    memset(m + page, 0xa5, inside - bytes);
    buffers[nbuffers++] = (guarded){m, begin, inside + 2 * page, bytes};
    return begin;
}

static bool release(void)
{
    bool whole = true;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < nbuffers; i++) {
        for (unsigned char *p = (unsigned char *)buffers[i].map + page; p < (unsigned char *)buffers[i].begin;
             p++)
            whole = whole && *p == 0xa5;
        munmap(buffers[i].map, buffers[i].mapped);
    }
    nbuffers = 0;
    return whole;
}

static float *empty(size_t n)
{
    float *p = room(n, sizeof *p);
    memset(p, 0x7f, n * sizeof *p); /* a large number: what is not written shows */
    return p;
}

static float *normal(size_t n)
{
    float *p = room(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = ss_rng_normal(&rng);
    return p;
}

/* Normal numbers, every other one 0 or -0: activations behind a ReLU, and what breaks careless sign handling.
 */
static float *sparse(size_t n)
{
    float *p = normal(n);
    for (size_t i = 0; i < n; i++)
        if (ss_rng_below(&rng, 2))
            p[i] = ss_rng_below(&rng, 4) ? 0.0f : -0.0f;
    return p;
}

static float *copy(const float *from, size_t n)
{
    float *p = room(n, sizeof *p);
    memcpy(p, from, n * sizeof *p);
    return p;
}

static float *scratch(size_t n)
{
    static float *block;
    static size_t held;
    if (n > held) {
        ss_free(block);
        block = ss_alloc(n, sizeof *block);
        held = n;
        if (!block)
            die("no memory");
    }
    for (size_t i = 0; i < n; i++)
        block[i] = NAN;
    return block;
}

static int some(int low, int high)
{
    return low + (int)ss_rng_below(&rng, (uint32_t)(high - low + 1));
}

/* Often a size that fills vectors, sometimes any. */
static int channels(void)
{
    static const int usual[] = {1, 3, 8, 16, 32, 48, 64, 80};
    return some(0, 2) ? usual[some(0, 7)] : some(1, 70);
}

static void level(ss_cpu l)
{
    if (ss_kernels_use(l))
        die("level not there");
}

static bool report(const char *what, const char *shape, const void *got, const void *expected, size_t bytes)
{
    if (!memcmp(got, expected, bytes))
        return true;
    const float *a = got, *b = expected;
    size_t i = 0;
    while (i + 1 < bytes / 4 && !memcmp(a + i, b + i, 4))
        i++;
    printf("# %s of %s: differs first at %zu of %zu: %.9g, expected %.9g\n", what, shape, i, bytes / 4,
           (double)a[i], (double)b[i]);
    return false;
}

/*
 * Bounds of what a level may differ by that rounds products and sums apart: relative to the sum of the
 * absolute products and of what is added to them; of Winograd's convolution, to the largest such sum of the
 * image, since an output then depends on a whole tile.
 */
enum sum_kind { SUM_DIRECT, SUM_WINOGRAD2, SUM_WINOGRAD4, SUM_KINDS };

static struct {
    const char *name;
    double bound, worst;
} sums[SUM_KINDS] = {{"direct", 1e-6, 0}, {"winograd2", 1e-6, 0}, {"winograd4", 1e-5, 0}};

static bool rounds_apart(ss_cpu l)
{
    return l == SS_CPU_SSE41;
}

static float *absolute(const float *from, size_t n)
{
    float *p = room(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = fabsf(from[i]);
    return p;
}

/* size [n]: the sums of absolute products, of `each` numbers that stand together the largest. */
static bool near(enum sum_kind k, const char *what, const char *shape, const float *got,
                 const float *expected, const float *size, size_t n, size_t each)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; i % each == 0 && j < i + each; j++)
            most = j == i || size[j] > most ? size[j] : most;
        double off = fabs((double)got[i] - (double)expected[i]);
        if (!(off <= sums[k].bound * (double)most)) {
            printf("# %s of %s: %zu of %zu is %.9g, expected %.9g, sum of absolute products %g\n", what,
                   shape, i, n, (double)got[i], (double)expected[i], (double)most);
            return false;
        }
        if (most > 0 && off / (double)most > sums[k].worst)
            sums[k].worst = off / (double)most;
    }
    return true;
}

/* ---- one random case of each kernel; true if all agrees with scalar ---- */

static bool check_conv(ss_cpu l)
{
    ss_conv c;
    int k = some(1, 7), kw = some(0, 3) ? k : some(1, 7);
    while (ss_conv_init(&c, channels(), some(1, 12), some(1, 14), channels(), k, kw, some(1, 3), some(0, 3)))
        ;
    if (some(0, 1)) { /* one that has a choice of algorithms */
        static const ss_conv_algo algos[] = {SS_CONV_DIRECT, SS_CONV_WINOGRAD2, SS_CONV_WINOGRAD4};
        while (
            ss_conv_init(&c, 16 * some(1, 6), some(1, 20), some(1, 20), 16 * some(1, 7), 3, 3, 1, some(0, 2)))
            ;
        c.algo = algos[some(0, 2)];
    }
    int n = some(1, 13);
    char shape[160];
    snprintf(shape, sizeof shape, "%d x %dx%dx%d -> %dx%dx%d, kernel %dx%d/%d pad %d, algorithm %d", n, c.cin,
             c.h, c.w, c.cout, c.oh, c.ow, c.kh, c.kw, c.stride, c.pad, c.algo);
    size_t in = (size_t)c.h * (size_t)c.w * (size_t)c.cin, out = (size_t)c.oh * (size_t)c.ow * (size_t)c.cout,
           m = (size_t)n;
    size_t weights = (size_t)c.cout * (size_t)c.cin * (size_t)c.kh * (size_t)c.kw;
    c.half = ss_conv_may_half(&c) && some(0, 1);
    float *w = normal(weights), *back = empty(ss_conv_packed_back(&c));
    void *packed = room(ss_conv_packed(&c), 1);
    ss_conv_pack(&c, w, packed);
    ss_conv_pack_back(&c, w, back);
    float *x = sparse(in * m), *dy = sparse(out * m), *bias = some(0, 3) ? sparse((size_t)c.cout) : NULL;
    float *add_y = some(0, 1) ? normal(out * m) : NULL, *add_x = some(0, 1) ? normal(in * m) : NULL;
    float *gate = some(0, 1) ? sparse(in * m) : NULL;
    bool relu = some(0, 1);
    float *dw0 = normal(ss_conv_dw_size(&c)), *db0 = normal((size_t)c.cout);

    level(SS_CPU_SCALAR);
    float *y = empty(out * m), *dx = empty(in * m), *dw = copy(dw0, ss_conv_dw_size(&c)),
          *db = copy(db0, (size_t)c.cout);
    float *work = scratch(ss_conv_work(&c, n, NULL));
    ss_conv_forward(&c, NULL, n, x, packed, bias, add_y, relu, y, work);
    ss_conv_dx(&c, NULL, n, dy, back, add_x, gate, dx, work);
    ss_conv_dw(&c, NULL, n, x, dy, dw, db, work);

    bool good = true;
    if (rounds_apart(l)) {
        enum sum_kind kind = c.algo == SS_CONV_WINOGRAD4   ? SUM_WINOGRAD4
                             : c.algo == SS_CONV_WINOGRAD2 ? SUM_WINOGRAD2
                                                           : SUM_DIRECT;
        ss_conv d = c;
        d.algo = SS_CONV_DIRECT;
        size_t wide = ss_conv_dw_size(&c);
        float *aw = absolute(w, weights), *ax = absolute(x, in * m), *ady = absolute(dy, out * m),
              *aback = empty(ss_conv_packed_back(&d)), *ay = empty(out * m), *adx = empty(in * m),
              *adw = absolute(dw0, wide), *own_y = empty(out * m), *own_dx = empty(in * m),
              *own_dw = copy(dw0, wide);
        void *apacked = room(ss_conv_packed(&d), 1);
        work = scratch(ss_conv_work(&c, n, NULL));
        ss_conv_pack(&d, aw, apacked);
        ss_conv_pack_back(&d, aw, aback);
        ss_conv_forward(&d, NULL, n, ax, apacked, bias ? absolute(bias, (size_t)c.cout) : NULL,
                        add_y ? absolute(add_y, out * m) : NULL, false, ay, work);
        ss_conv_dx(&d, NULL, n, ady, aback, add_x ? absolute(add_x, in * m) : NULL, NULL, adx, work);
        ss_conv_dw(&d, NULL, n, ax, ady, adw, NULL, work);
        level(l);
        ss_conv_forward(&c, NULL, n, x, packed, bias, add_y, relu, own_y, work);
        ss_conv_dx(&c, NULL, n, dy, back, add_x, gate, own_dx, work);
        ss_conv_dw(&c, NULL, n, x, dy, own_dw, NULL, work);
        good &= near(kind, "forward", shape, own_y, y, ay, out * m, c.algo ? out : 1) &
                near(kind, "dx", shape, own_dx, dx, adx, in * m, c.algo ? in : 1) &
                near(SUM_DIRECT, "dw", shape, own_dw, dw, adw, wide, 1);
        y = own_y;
        dx = own_dx;
        dw = own_dw;
    }
    level(l);
    float *got_y = empty(out * m), *got_dx = empty(in * m), *got_dw = empty(ss_conv_dw_size(&c)),
          *got_db = empty((size_t)c.cout);
    ss_pool *pools[] = {NULL, two};
    for (int i = 0; i < 2; i++) {
        work = scratch(ss_conv_work(&c, n, pools[i]));
        const float *a = add_y;
        if (add_y && some(0, 1)) {
            memcpy(got_y, add_y, out * m * sizeof *y);
            a = got_y;
        }
        ss_conv_forward(&c, pools[i], n, x, packed, bias, a, relu, got_y, work);
        good &= report("forward", shape, got_y, y, out * m * sizeof *y);
        a = add_x;
        if (add_x && some(0, 1)) {
            memcpy(got_dx, add_x, in * m * sizeof *dx);
            a = got_dx;
        }
        ss_conv_dx(&c, pools[i], n, dy, back, a, gate, got_dx, work);
        good &= report("dx", shape, got_dx, dx, in * m * sizeof *dx);
        memcpy(got_dw, dw0, ss_conv_dw_size(&c) * sizeof *dw);
        memcpy(got_db, db0, (size_t)c.cout * sizeof *db);
        ss_conv_dw(&c, pools[i], n, x, dy, got_dw,
                   some(0, 4) ? got_db : memcpy(got_db, db, (size_t)c.cout * sizeof *db), work);
        good &= report("dw", shape, got_dw, dw, ss_conv_dw_size(&c) * sizeof *dw);
    }
    work = scratch(ss_conv_work(&c, n, NULL));
    int one = some(0, n - 1), some_n = some(1, n - one);
    size_t o = (size_t)one, s = (size_t)some_n;
    ss_conv_forward(&c, NULL, some_n, x + o * in, packed, bias, add_y ? add_y + o * out : NULL, relu, got_y,
                    work);
    good &= report("forward of a part of the batch", shape, got_y, y + o * out, out * s * sizeof *y);
    ss_conv_dx(&c, NULL, some_n, dy + o * out, back, add_x ? add_x + o * in : NULL,
               gate ? gate + o * in : NULL, got_dx, work);
    good &= report("dx of a part of the batch", shape, got_dx, dx + o * in, in * s * sizeof *dx);
    return good;
}

static bool check_pack(ss_cpu l)
{
    ss_conv c;
    int k = some(1, 7);
    while (ss_conv_init(&c, channels(), 16, 16, channels(), k, some(0, 1) ? k : some(1, 7), some(1, 3), 0))
        ;
    size_t weights = (size_t)c.cout * (size_t)c.cin * (size_t)c.kh * (size_t)c.kw;
    size_t forward = ss_conv_dw_size(&c), backward = ss_conv_packed_back(&c);
    float *w = normal(weights), *dw = normal(forward), *packed[2], *back[2], *home[2];
    void *half[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_conv_pack(&c, w, packed[i] = empty(forward));
        ss_conv_pack_back(&c, w, back[i] = empty(backward));
        c.half = ss_conv_may_half(&c);
        ss_conv_pack(&c, w, half[i] = room(ss_conv_packed(&c), 1));
        if (!c.half) /* nothing that could differ */
            memset(half[i], 0, ss_conv_packed(&c));
        c.half = false;
        ss_conv_unpack_add(&c, dw, home[i] = copy(w, weights));
    }
    bool good = true;
    /* What scalar packs is where the definition of the convolution reads it. */
    for (int o = 0; o < c.cout; o++)
        for (int ci = 0; ci < c.cin; ci++)
            for (int r = 0; r < c.kh; r++)
                for (int s = 0; s < c.kw; s++) {
                    float v = w[((o * c.cin + ci) * c.kh + r) * c.kw + s];
                    good &= packed[0][ss_packed_at(&c, o, r, s) + (size_t)ci * SS_PANEL] == v;
                    good &= back[0][ss_packed_back_at(&c, ci, r, s) + (size_t)o * SS_PANEL] == v;
                    good &= home[0][((o * c.cin + ci) * c.kh + r) * c.kw + s] ==
                            v + dw[ss_packed_at(&c, o, r, s) + (size_t)ci * SS_PANEL];
                }
    return good & report("pack", "", packed[1], packed[0], forward * sizeof *w) &
           report("pack in f16", "", half[1], half[0], forward * sizeof(uint16_t) / 4 * 4) &
           report("pack back", "", back[1], back[0], backward * sizeof *w) &
           report("unpack", "", home[1], home[0], weights * sizeof *w);
}

static bool check_db(ss_cpu l)
{
    ss_conv c;
    ss_conv_init(&c, 2, some(1, 40), some(1, 40), channels(), 1, 1, 1, 0);
    int n = some(1, 5);
    size_t rows = (size_t)n * (size_t)c.oh * (size_t)c.ow, m = (size_t)c.cout;
    float *x = normal(rows * 2), *dy = normal(rows * m), *dw = empty(ss_conv_dw_size(&c)),
          *got_dw = empty(ss_conv_dw_size(&c));
    memset(dw, 0, ss_conv_dw_size(&c) * sizeof *dw);
    memset(got_dw, 0, ss_conv_dw_size(&c) * sizeof *dw);
    float *db = normal(m), *got = copy(db, m), *got2 = copy(db, m);
    level(SS_CPU_SCALAR);
    ss_conv_dw(&c, NULL, n, x, dy, dw, db, NULL);
    level(l);
    ss_conv_dw(&c, NULL, n, x, dy, got_dw, got, scratch(ss_conv_work(&c, n, NULL)));
    ss_conv_dw(&c, two, n, x, dy, got_dw, got2, scratch(ss_conv_work(&c, n, two)));
    return report("db", "1x1", got, db, m * sizeof *db) &
           report("db, two threads", "1x1", got2, db, m * sizeof *db);
}

static bool check_gemm(ss_cpu l)
{
    bool ta = some(0, 1), tb = some(0, 1), accumulate = some(0, 1);
    int m = some(1, 120), n = some(1, 70), k = some(1, 50);
    int lda = (ta ? m : k) + some(0, 3), ldb = (tb ? k : n) + some(0, 3), ldo = n + some(0, 3);
    char shape[120];
    snprintf(shape, sizeof shape, "[%d][%d] [%d][%d], transposed %d %d, accumulate %d", m, k, k, n, ta, tb,
             accumulate);
    float *a = sparse((size_t)(ta ? k : m) * (size_t)lda), *b = normal((size_t)(tb ? n : k) * (size_t)ldb);
    size_t size = (size_t)(m - 1) * (size_t)ldo + (size_t)n;
    float *before = normal(size), *out = copy(before, size), *got = copy(before, size),
          *got2 = copy(before, size);
    level(SS_CPU_SCALAR);
    ss_gemm(NULL, ta, tb, m, n, k, a, lda, b, ldb, accumulate, out, ldo, NULL);
    bool good = true;
    float *work = scratch(ss_gemm_work(ta, tb, m, n, k));
    if (rounds_apart(l)) {
        float *sum = absolute(before, size), *own = copy(before, size);
        ss_gemm(NULL, ta, tb, m, n, k, absolute(a, (size_t)(ta ? k : m) * (size_t)lda), lda,
                absolute(b, (size_t)(tb ? n : k) * (size_t)ldb), ldb, accumulate, sum, ldo, NULL);
        level(l);
        ss_gemm(NULL, ta, tb, m, n, k, a, lda, b, ldb, accumulate, own, ldo, work);
        good = near(SUM_DIRECT, "gemm", shape, own, out, sum, size, 1);
        out = own;
    }
    level(l);
    ss_gemm(NULL, ta, tb, m, n, k, a, lda, b, ldb, accumulate, got, ldo, work);
    ss_gemm(two, ta, tb, m, n, k, a, lda, b, ldb, accumulate, got2, ldo, work);
    return good & report("gemm", shape, got, out, size * sizeof *out) &
           report("gemm, two threads", shape, got2, out, size * sizeof *out);
}

static bool check_maxpool(ss_cpu l)
{
    ss_maxpool p;
    while (ss_maxpool_init(&p, channels(), some(1, 12), some(1, 12), some(1, 5), some(1, 4), some(0, 2)))
        ;
    int n = some(1, 4);
    size_t in = (size_t)n * (size_t)p.h * (size_t)p.w * (size_t)p.c,
           out = (size_t)n * (size_t)p.oh * (size_t)p.ow * (size_t)p.c;
    float *x = sparse(in), *dy = normal(out), *gate = some(0, 1) ? sparse(in) : NULL;
    for (int i = 0; i < 3; i++)
        x[some(0, (int)in - 1)] = some(0, 1) ? NAN : -INFINITY;
    float *y[3], *dx[3];
    uint8_t *which[3];
    ss_pool *pools[] = {NULL, NULL, two};
    for (int i = 0; i < 3; i++) {
        level(i ? l : SS_CPU_SCALAR);
        y[i] = empty(out);
        dx[i] = empty(in);
        which[i] = room(out, 1);
        ss_maxpool_forward(&p, pools[i], n, x, y[i], which[i]);
        ss_maxpool_backward(&p, pools[i], n, dy, which[i], gate, dx[i]);
    }
    bool good = true;
    for (int i = 1; i < 3; i++) {
        good &= report("maxpool", "", y[i], y[0], out * sizeof *x) & !memcmp(which[i], which[0], out);
        good &= report("maxpool backward", "", dx[i], dx[0], in * sizeof *x);
    }
    ss_maxpool_forward(&p, NULL, n, x, y[1], NULL);
    return good & report("maxpool alone", "", y[1], y[0], out * sizeof *x);
}

static bool check_avgpool(ss_cpu l)
{
    int n = some(1, 4), pixels = some(1, 30), c = channels();
    size_t in = (size_t)n * (size_t)pixels * (size_t)c, out = (size_t)n * (size_t)c;
    float *x = normal(in), *dy = normal(out), *gate = some(0, 1) ? sparse(in) : NULL, *y[2], *dx[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_avgpool_forward(n, pixels, c, x, y[i] = empty(out));
        ss_avgpool_backward(n, pixels, c, dy, gate, dx[i] = empty(in));
    }
    return report("avgpool", "", y[1], y[0], out * sizeof *x) &
           report("avgpool backward", "", dx[1], dx[0], in * sizeof *x);
}

static bool check_channels(ss_cpu l)
{
    size_t rows = (size_t)(some(0, 3) ? some(1, 40) : some(500, 1600));
    int c = channels();
    size_t m = (size_t)c, n = rows * m;
    bool relu = some(0, 1);
    float *x = normal(n), *scale = normal(m), *shift = normal(m), *add = some(0, 1) ? normal(n) : NULL,
          *dy = normal(n), *start = normal(m);
    float *y[2], *dx[2], *dscale[2], *dshift[2], *mean[2], *var[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_affine(rows, c, x, scale, shift, add, relu, y[i] = empty(n));
        ss_affine_backward(rows, c, x, scale, dy, dx[i] = empty(n), dscale[i] = copy(start, m),
                           dshift[i] = copy(start, m));
        ss_channel_stats(rows, c, x, mean[i] = empty(m), var[i] = empty(m));
    }
    return report("affine", "", y[1], y[0], n * sizeof *x) &
           report("affine dx", "", dx[1], dx[0], n * sizeof *x) &
           report("dscale", "", dscale[1], dscale[0], m * sizeof *x) &
           report("dshift", "", dshift[1], dshift[0], m * sizeof *x) &
           report("mean", "", mean[1], mean[0], m * sizeof *x) &
           report("var", "", var[1], var[0], m * sizeof *x);
}

static bool check_groupnorm(ss_cpu l)
{
    int groups = some(1, 8), c = groups * some(1, 9), n = some(1, 4), pixels = some(1, 60);
    size_t m = (size_t)c, size = (size_t)n * (size_t)pixels * m, g = (size_t)n * (size_t)groups;
    bool relu = some(0, 1);
    float *x = normal(size), *gamma = normal(m), *beta = normal(m), *add = some(0, 1) ? normal(size) : NULL,
          *dy = normal(size), *start = normal(m);
    float *y[3], *mean[3], *rstd[3], *dx[3], *dgamma[3], *dbeta[3];
    for (int i = 0; i < 3; i++) {
        ss_pool *pool = i == 2 ? two : NULL;
        level(i ? l : SS_CPU_SCALAR);
        ss_groupnorm_forward(pool, n, pixels, c, groups, 1e-5f, x, gamma, beta, add, relu, y[i] = empty(size),
                             mean[i] = empty(g), rstd[i] = empty(g), scratch(6 * (size_t)n * m));
        ss_groupnorm_backward(pool, n, pixels, c, groups, x, gamma, mean[i], rstd[i], dy, dx[i] = empty(size),
                              dgamma[i] = copy(start, m), dbeta[i] = copy(start, m),
                              scratch(6 * (size_t)n * m));
    }
    bool good = true;
    for (int i = 1; i < 3; i++)
        good &= report("groupnorm", "", y[i], y[0], size * sizeof *x) &
                report("mean", "", mean[i], mean[0], g * sizeof *x) &
                report("rstd", "", rstd[i], rstd[0], g * sizeof *x) &
                report("dx", "", dx[i], dx[0], size * sizeof *x) &
                report("dgamma", "", dgamma[i], dgamma[0], m * sizeof *x) &
                report("dbeta", "", dbeta[i], dbeta[0], m * sizeof *x);
    return good;
}

static bool check_rows(ss_cpu l)
{
    int rows = some(1, 8), len = some(0, 1) ? some(1, 300) : 16 * some(1, 20);
    size_t r = (size_t)rows, n = r * (size_t)len;
    float *w = normal(n), *gain = some(0, 1) ? normal(r) : NULL, *g = normal(n), *start = normal(n),
          *zero = copy(w, n);
    memset(zero, 0, (size_t)len * sizeof *zero);
    float factor = some(0, 1) ? 1.0f : (float)len;
    float *what[2], *mean[2], *rstd[2], *dw[2], *dgain[2], *z[2], *norm[2], *dx[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_weightnorm_forward(rows, len, factor, 1e-4f, w, gain, what[i] = empty(n), mean[i] = empty(r),
                              rstd[i] = empty(r));
        ss_weightnorm_backward(rows, len, factor, w, gain, mean[i], rstd[i], g, dw[i] = copy(start, n),
                               dgain[i] = copy(start, r));
        ss_l2norm_forward(rows, len, zero, z[i] = empty(n), norm[i] = empty(r));
        ss_l2norm_backward(rows, len, z[i], norm[i], g, dx[i] = empty(n));
    }
    bool good = z[1][0] == 0 && norm[1][0] == 0 && dx[1][len - 1] == 0;
    return good & report("weightnorm", "", what[1], what[0], n * sizeof *w) &
           report("mean", "", mean[1], mean[0], r * sizeof *w) &
           report("rstd", "", rstd[1], rstd[0], r * sizeof *w) &
           report("weightnorm dw", "", dw[1], dw[0], n * sizeof *w) &
           report("dgain", "", dgain[1], dgain[0], r * sizeof *w) &
           report("l2norm", "", z[1], z[0], n * sizeof *w) &
           report("norm", "", norm[1], norm[0], r * sizeof *w) &
           report("l2norm backward", "", dx[1], dx[0], n * sizeof *w);
}

static bool check_flat(ss_cpu l)
{
    size_t n = some(0, 3) ? (size_t)some(1, 300) : (size_t)some(4000, 40000);
    float *x = normal(n), *g = sparse(n), *m0 = normal(n), *v0 = normal(n);
    for (size_t i = 0; i < n; i++)
        v0[i] = fabsf(v0[i]);
    float a = ss_rng_normal(&rng);
    ss_adam adam = {1e-3f, 0.9f, 0.999f, 1e-8f, 1e-2f, 0.5f, (uint64_t)some(1, 1000)};
    ss_sgd sgd = {1e-2f, 0.9f, 1e-3f, 0.5f};
    float *w[3], *m[3], *v[3], *w2[3], *vel[3], *r[3], *rb[3], *y[3], *e[3], *s[3];
    double sq[3], dot[3];
    float top[3];
    for (int i = 0; i < 3; i++) {
        ss_pool *pool = i == 2 ? two : NULL;
        level(i ? l : SS_CPU_SCALAR);
        ss_adam_step(&adam, pool, n, w[i] = copy(x, n), g, m[i] = copy(m0, n), v[i] = copy(v0, n));
        ss_sgd_step(&sgd, pool, n, w2[i] = copy(x, n), g, vel[i] = copy(m0, n));
        ss_relu(n, g, r[i] = empty(n));
        ss_relu_backward(n, g, x, rb[i] = empty(n));
        ss_axpy(n, a, x, y[i] = copy(m0, n));
        ss_ema(n, 0.01f, x, e[i] = copy(m0, n));
        ss_scale(n, a, x, s[i] = empty(n));
        sq[i] = ss_sum_squares(n, x);
        dot[i] = ss_dot(n, x, g);
        top[i] = ss_max_abs(n, x);
    }
    bool good = true;
    for (int i = 1; i < 3; i++) {
        size_t b = n * sizeof *x;
        good &= report("adam w", "", w[i], w[0], b) & report("adam m", "", m[i], m[0], b) &
                report("adam v", "", v[i], v[0], b) & report("sgd w", "", w2[i], w2[0], b) &
                report("sgd velocity", "", vel[i], vel[0], b) & report("relu", "", r[i], r[0], b) &
                report("relu backward", "", rb[i], rb[0], b) & report("axpy", "", y[i], y[0], b) &
                report("ema", "", e[i], e[0], b) & report("scale", "", s[i], s[0], b) & (sq[i] == sq[0]) &
                (dot[i] == dot[0]) & (top[i] == top[0]);
    }
    return good;
}

/*
 * fma(x, a, y) where rounding twice goes wrong: next to the middle between two numbers, by less than f64
 * shows, also among those below the normal ones, with infinities and zeros.
 */
static bool check_rounding(ss_cpu l)
{
    size_t n = (size_t)some(1, 400);
    const float a = 1 - 0x1p-23f;
    float *x = room(n, sizeof *x), *y = room(n, sizeof *y), *got[2];
    for (size_t i = 0; i < n; i++) {
        int e = some(0, 3) ? some(-149, 104) : some(-149, -120);
        x[i] = ldexpf(some(0, 1) ? 1 + 0x1p-23f : -1 - 0x1p-23f, e - some(0, 2));
        y[i] = ldexpf((float)(some(0, 1) ? some(0x800000, 0x800004) : some(-3, 3)), some(0, 3) ? e + 1 : e);
        y[i] = some(0, 1) ? y[i] : -y[i];
        if (!some(0, 20))
            x[i] = some(0, 1) ? INFINITY : 0.0f;
        if (!some(0, 20))
            y[i] = some(0, 1) ? -INFINITY : -0.0f;
    }
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_axpy(n, a, x, got[i] = copy(y, n));
    }
    return report("fma", "", got[1], got[0], n * sizeof *x);
}

static bool check_conversions(ss_cpu l)
{
    static const float special[] = {NAN,      INFINITY, -INFINITY, 0.0f,    -0.0f,  65504.0f,
                                    65520.0f, 1e-8f,    -6e-8f,    5.9e-5f, 127.5f, -200.0f};
    size_t n = (size_t)some(1, 100);
    int c = some(1, 40), pixels = some(1, 40);
    size_t cp = 2 * (size_t)c * (size_t)pixels;
    float *x = normal(n), *planes = normal(cp), step = 0.01f + fabsf(ss_rng_normal(&rng));
    for (size_t i = 0; i < n; i++)
        x[i] = some(0, 4) ? x[i] * exp2f((float)some(-20, 14)) : special[some(0, 11)];
    uint16_t *h[2], *any = room(n, 2);
    int8_t *q[2], *anyq = room(n, 1);
    for (size_t i = 0; i < n; i++) {
        any[i] = (uint16_t)ss_rng_u32(&rng);
        if ((any[i] & 0x7c00) == 0x7c00)
            any[i] &= 0xfc00; /* NaNs may differ in their payload */
        anyq[i] = (int8_t)ss_rng_u32(&rng);
    }
    float *back[2], *qback[2], *hwc[2], *chw[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_f16_from_f32(n, x, h[i] = room(n, 2));
        ss_f32_from_f16(n, any, back[i] = empty(n));
        ss_i8_from_f32(n, step, x, q[i] = room(n, 1));
        ss_f32_from_i8(n, step, anyq, qback[i] = empty(n));
        ss_hwc_from_chw(2, c, pixels, planes, hwc[i] = empty(cp));
        ss_chw_from_hwc(2, c, pixels, hwc[i], chw[i] = empty(cp));
    }
    bool good = !memcmp(q[1], q[0], n) && !memcmp(h[1], h[0], 2 * n);
    return good & report("f32 from f16", "", back[1], back[0], n * sizeof *x) &
           report("f32 from i8", "", qback[1], qback[0], n * sizeof *x) &
           report("hwc", "", hwc[1], hwc[0], cp * sizeof *x) &
           report("chw", "", chw[1], planes, cp * sizeof *x);
}

/* ---- eight bits ---- */

static uint8_t *bytes(size_t n)
{
    uint8_t *p = room(n, 1);
    int kind = some(0, 3); /* any, behind a ReLU, the largest sums */
    for (size_t i = 0; i < n; i++)
        p[i] = kind == 3 ? 255 : kind == 2 && some(0, 1) ? 0 : (uint8_t)ss_rng_u32(&rng);
    return p;
}

static int8_t *weights_i8(size_t n)
{
    int8_t *p = room(n, 1);
    int kind = some(0, 3);
    for (size_t i = 0; i < n; i++)
        p[i] = (int8_t)(kind == 3 ? 127 : kind == 2 ? -127 : some(-127, 127));
    return p;
}

/* An image whose frame holds zeros; what may be read behind it is garbage. */
static uint8_t *images(const ss_image *g, int n)
{
    uint8_t *p = bytes(ss_image_size(g) * (size_t)n);
    ss_image_frame(g, n, 0, p);
    return p;
}

static bool report_bytes(const char *what, const char *shape, const void *got, const void *expected, size_t n)
{
    const uint8_t *a = got, *b = expected;
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) {
            printf("# %s of %s: differs first at %zu of %zu: %d, expected %d\n", what, shape, i, n, a[i],
                   b[i]);
            return false;
        }
    return true;
}

/* As the header says it, without packing or images. */
static int32_t sum_i8(const ss_i8_conv *k, const uint8_t *x, const int8_t *w, int o, int oh, int ow)
{
    const ss_conv *c = &k->conv;
    int32_t sum = 0;
    for (int ci = 0; ci < c->cin; ci++)
        for (int r = 0; r < c->kh; r++)
            for (int s = 0; s < c->kw; s++) {
                int h = oh * c->stride - c->pad + r + k->in.frame,
                    v = ow * c->stride - c->pad + s + k->in.frame;
                sum += x[(size_t)h * ss_image_row(&k->in) + (size_t)v * (size_t)c->cin + (size_t)ci] *
                       w[((o * c->cin + ci) * c->kh + r) * c->kw + s];
            }
    return sum;
}

static bool check_int8(ss_cpu l)
{
    ss_conv c;
    ss_i8_conv k;
    int side = some(1, 7), kw = some(0, 3) ? side : some(1, 7);
    while (
        ss_conv_init(&c, channels(), some(1, 12), some(1, 14), channels(), side, kw, some(1, 3), some(0, 3)))
        ;
    if (!some(0, 9))
        c.w += 200, c.ow = (c.w + 2 * c.pad - c.kw) / c.stride + 1;
    ss_i8_conv_init(&k, &c, c.pad + some(0, 1), some(0, 3));
    int n = some(1, 5);
    char shape[160];
    snprintf(shape, sizeof shape, "%d x %dx%dx%d -> %dx%dx%d, kernel %dx%d/%d pad %d", n, c.cin, c.h, c.w,
             c.cout, c.oh, c.ow, c.kh, c.kw, c.stride, c.pad);
    size_t cout = (size_t)c.cout, out = ss_image_size(&k.out) * (size_t)n;
    uint8_t *x = images(&k.in, n), *add = some(0, 1) ? images(&k.out, n) : NULL;
    float *add32 = some(0, 1) ? normal(out) : NULL;
    int8_t *w = weights_i8(cout * (size_t)c.cin * (size_t)c.kh * (size_t)c.kw),
           *packed = room(ss_i8_conv_packed(&c), 1);
    int32_t *shift = room(cout, sizeof *shift);
    ss_i8_conv_pack(&c, w, packed, shift);
    float *scale = normal(cout), *bias = normal(cout);
    for (size_t o = 0; o < cout; o++) {
        scale[o] *= exp2f((float)some(-16, -4));
        bias[o] = 60 * bias[o] + 60;
    }
    if (add32)
        for (size_t i = 0; i < out; i++)
            add32[i] = add32[i] * 50 + 50;
    k.packed = packed;
    k.shift = shift;
    k.scale = scale;
    k.bias = bias;
    ss_i8_job j = {
        .k = &k, .n = n, .x = x, .add = add, .add_scale = fabsf(ss_rng_normal(&rng)), .add32 = add32};

    level(SS_CPU_SCALAR);
    uint8_t *y = room(out, 1);
    float *y32 = empty(out);
    memset(y, 0x7f, out);
    for (int i = 0; i < 2; i++) {
        j.y = i ? NULL : y;
        j.y32 = i ? y32 : NULL;
        ss_i8_conv_part(&j, 0, 1, NULL);
    }
    bool good = true;
    for (int i = 0; i < 8; i++) {
        int window = some(0, n - 1), o = some(0, c.cout - 1), oh = some(0, c.oh - 1), ow = some(0, c.ow - 1);
        size_t at = (size_t)window * ss_image_size(&k.out) + ss_image_first(&k.out) +
                    (size_t)oh * ss_image_row(&k.out) + (size_t)ow * cout + (size_t)o;
        float v = fmaf((float)sum_i8(&k, x + (size_t)window * ss_image_size(&k.in), w, o, oh, ow), scale[o],
                       bias[o]);
        v = add ? fmaf(add[at], j.add_scale, v) : add32 ? v + add32[at] : v;
        good &= report("sum", shape, &y32[at], &v, sizeof v);
        good &= y[at] == (v >= 255 ? 255 : v > 0 ? (int)lrintf(v) : 0);
    }

    level(l);
    uint8_t *got = room(out, 1);
    float *got32 = empty(out);
    void *work = scratch(ss_i8_conv_work(&k) / sizeof(float) + 1);
    int parts = ss_i8_conv_parts(&k, n, some(1, 4));
    for (int some_parts = 1; some_parts >= 0; some_parts--) {
        memset(got, 0x7f, out);
        for (int i = 0; i < 2; i++) {
            j.y = i ? NULL : got;
            j.y32 = i ? got32 : NULL;
            int p = some_parts ? parts : some(1, 9);
            for (int q = p - 1; q >= 0; q--)
                ss_i8_conv_part(&j, q, p, work);
        }
        good &= report_bytes("int8", shape, got, y, out);
        good &= report("int8 to f32", shape, got32, y32, out * sizeof *y32);
    }
    if (add) {
        level(SS_CPU_SCALAR);
        j.add = j.y = memcpy(y, add, out);
        ss_i8_conv_part(&j, 0, 1, NULL);
        level(l);
        j.add = j.y = memcpy(got, add, out);
        ss_i8_conv_part(&j, 0, 1, work);
        good &= report_bytes("int8 in place", shape, got, y, out);
    }
    return good;
}

static bool check_int8_rest(ss_cpu l)
{
    static const float special[] = {NAN,    INFINITY, -INFINITY, 0.0f, -0.0f,
                                    254.5f, 255.5f,   0.5f,      1.5f, -1e30f};
    size_t n = (size_t)some(1, 200);
    float *x = normal(n), a = some(0, 3) ? ss_rng_normal(&rng) : 1.0f,
          b = some(0, 3) ? 100 * ss_rng_normal(&rng) : 0;
    for (size_t i = 0; i < n; i++)
        x[i] = some(0, 4) ? 100 * x[i] : special[some(0, 9)];
    uint8_t *any = bytes(n), *q[2];
    ss_maxpool p;
    while (ss_maxpool_init(&p, channels(), some(1, 12), some(1, 12), some(0, 1) ? 3 : some(1, 5), some(1, 4),
                           some(0, 2)))
        ;
    ss_image in = {p.h, p.w, p.c, p.pad + some(0, 1)}, out = {p.oh, p.ow, p.c, some(0, 1)};
    int m = some(1, 3);
    size_t size = ss_image_size(&out) * (size_t)m, flat = (size_t)p.h * (size_t)p.w * (size_t)p.c;
    uint8_t *image = images(&in, m), *y[2], *chw[2], *back[2];
    float *f[2];
    int32_t *sum[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_u8_from_f32(n, a, b, x, q[i] = room(n, 1));
        ss_f32_from_u8(n, 0.37f, any, f[i] = empty(n));
        memset(y[i] = room(size, 1), 0, size);
        ss_i8_maxpool(&p, &in, &out, image, y[i], 0, 1);
        ss_i8_maxpool(&p, &in, &out, image, y[i], 1, m * p.oh);
        ss_i8_sum(&in, image, sum[i] = room((size_t)p.c, sizeof **sum));
        ss_chw_from_image(&in, image, chw[i] = room(flat, 1));
        memset(back[i] = room(ss_image_size(&in), 1), 0, ss_image_size(&in));
        ss_image_from_chw(&in, chw[i], back[i]);
    }
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        float v = fmaf(x[i], a, b);
        good &= q[0][i] == (v >= 255 ? 255 : v > 0 ? (int)lrintf(v) : 0);
    }
    /* The frame is zeros and a copy keeps what is inside. */
    for (int r = 0; r < p.h; r++)
        good &=
            !memcmp(back[0] + ss_image_first(&in) + (size_t)r * ss_image_row(&in),
                    image + ss_image_first(&in) + (size_t)r * ss_image_row(&in), (size_t)p.w * (size_t)p.c);
    for (int i = 0; i < 8; i++) {
        int c = some(0, p.c - 1), oh = some(0, p.oh - 1), ow = some(0, p.ow - 1), most = 0, total = 0;
        for (int r = 0; r < p.size; r++)
            for (int s = 0; s < p.size; s++) {
                int h = oh * p.stride - p.pad + r, w = ow * p.stride - p.pad + s;
                if (h >= 0 && h < p.h && w >= 0 && w < p.w && chw[0][(c * p.h + h) * p.w + w] > most)
                    most = chw[0][(c * p.h + h) * p.w + w];
            }
        good &= y[0][ss_image_first(&out) + (size_t)oh * ss_image_row(&out) + (size_t)(ow * p.c + c)] == most;
        for (int h = 0; h < p.h * p.w; h++)
            total += chw[0][c * p.h * p.w + h];
        good &= sum[0][c] == total;
    }
    return good & report_bytes("u8 from f32", "", q[1], q[0], n) &
           report("f32 from u8", "", f[1], f[0], n * sizeof **f) &
           report_bytes("maxpool", "", y[1], y[0], size) & report_bytes("wire", "", chw[1], chw[0], flat) &
           report_bytes("back", "", back[1], back[0], ss_image_size(&in)) &
           report_bytes("sum", "", sum[1], sum[0], (size_t)p.c * sizeof **sum);
}

static bool check_random(ss_cpu l)
{
    size_t n = (size_t)some(1, 1000);
    /* Near where the low half of the counter overflows, too. */
    ss_rng start = ss_rng_make(ss_rng_u64(&rng), ss_rng_u64(&rng)), one, other;
    start.next = some(0, 1) ? ss_rng_below(&rng, 100) : ((uint64_t)1 << 34) - ss_rng_below(&rng, 1000);
    one = other = start;
    float *expected = empty(n), *got = empty(n);
    ss_rng_fill_normal(&one, expected, n);
    level(l);
    ss_fill_normal(&other, got, n);
    return (one.next == other.next) & report("normals", "", got, expected, n * sizeof *got);
}

static bool check_mixture(ss_cpu l)
{
    int dim = some(0, 1) ? some(1, 70) : 128, stride = 16 * some(1, 5), used = some(1, stride),
        n = some(1, 70);
    size_t d = (size_t)dim, c = (size_t)stride, size = d * c;
    float *z = normal(d), *mean = normal(size), *variance = normal(size), *step = normal(c),
          *score = normal(c), *cumulative = normal(c), sum = 0, total = 0;
    for (size_t i = 0; i < size; i++)
        variance[i] = fabsf(variance[i]);
    for (size_t i = 0; i < c; i++) {
        step[i] = i / 16 % 2 && some(0, 3) ? 0 : fabsf(step[i]) / 4;
        score[i] = i && (i >= (size_t)used || !some(0, 3)) ? -INFINITY : 50 * score[i];
        sum += cumulative[i] = some(0, 1) ? fabsf(cumulative[i]) : 0;
    }
    for (size_t i = 0; i < c; i++)
        cumulative[i] = total += cumulative[i] / (sum + 1e-9f);
    ss_rng start = ss_rng_make(ss_rng_u64(&rng), 0), r[2];
    start.next = ss_rng_below(&rng, 100);
    float *d2[2], *m[2], *v[2], *spread[2], *p[2], h[2], h0[2], *rm[2], *rd[2], *out[2];
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_mix_distances(dim, stride, z, mean, d2[i] = empty(c));
        ss_mix_follow(dim, stride, z, step, m[i] = copy(mean, size), v[i] = copy(variance, size),
                      spread[i] = copy(step, c));
        h[i] = ss_mix_softmax(stride, score, p[i] = empty(c));
        h0[i] = ss_mix_softmax(stride, score, NULL);
        ss_mix_to_rows(dim, stride, mean, variance, rm[i] = empty(size), rd[i] = empty(size));
        r[i] = start;
        ss_mix_draw(&(ss_mix_rows){used, dim, cumulative, rm[0], rd[0]}, &r[i], n,
                    out[i] = empty((size_t)n * d));
    }
    return (h[0] == h[1]) & (h0[0] == h[0]) & (h0[1] == h[0]) & (r[0].next == r[1].next) &
           report("distances", "", d2[1], d2[0], c * sizeof *z) &
           report("mean", "", m[1], m[0], size * sizeof *z) &
           report("variance", "", v[1], v[0], size * sizeof *z) &
           report("softmax", "", p[1], p[0], c * sizeof *z) &
           report("spread", "", spread[1], spread[0], c * sizeof *z) &
           report("row means", "", rm[1], rm[0], size * sizeof *z) &
           report("row deviations", "", rd[1], rd[0], size * sizeof *z) &
           report("draws", "", out[1], out[0], (size_t)n * d * sizeof *z);
}

static bool check_sound(ss_cpu l)
{
    static const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, -1.0f, 3e38f, -1.5f, 1e-40f};
    size_t n = (size_t)some(1, 600);
    int half = some(1, 300), pairs = (half + 1) / 2, rows = some(1, 70), groups = (rows + 15) / 16, bins = 0;
    float *x = normal(n), *dirty = normal(n), *weight = normal(n), *z = normal(2 * (size_t)half),
          *turn = normal(2 * (size_t)pairs + 1), *work = scratch(3 * ((size_t)half + 1)), floor = 1e-6f;
    for (size_t i = 0; i < n; i++)
        dirty[i] = some(0, 4) ? dirty[i] : special[some(0, 9)];
    int *first = room(16 * (size_t)groups, sizeof *first), *blocks = room((size_t)groups, sizeof *blocks);
    size_t weights = 0;
    for (int g = 0; g < groups; g++) {
        weights += 256 * (size_t)(blocks[g] = some(1, 3));
        for (int i = 16 * g; i < 16 * g + 16; i++) {
            first[i] = i < rows ? some(0, 100) : 0;
            bins = first[i] + 16 * blocks[g] > bins ? first[i] + 16 * blocks[g] : bins;
        }
    }
    float *w = sparse(weights), *power = normal((size_t)bins);
    for (size_t i = 0; i < weights; i++)
        w[i] = fabsf(w[i]);
    for (int i = 0; i < bins; i++)
        power[i] *= power[i];
    float *c[2], *t[2], *t0[2], *s[2], *b[2];
    uint64_t bad[2] = {0}, much[2] = {0};
    for (int i = 0; i < 2; i++) {
        level(i ? l : SS_CPU_SCALAR);
        ss_clean(n, 1.0f, dirty, c[i] = empty(n), &bad[i], &much[i]);
        ss_taper(n, x, weight, 0.01f, t[i] = empty(n));
        ss_taper(n, x, weight, 0, t0[i] = empty(n));
        ss_spectrum_power(half, z, turn, work, s[i] = empty((size_t)half + 1));
        ss_log_bands(rows, first, blocks, w, power, floor, b[i] = empty((size_t)rows));
    }
    bool good = bad[0] == bad[1] && much[0] == much[1];
    for (size_t i = 0; i < n; i++) {
        float v = dirty[i];
        good &= c[0][i] == (isfinite(v) ? fmaxf(-1, fminf(1, v)) : 0);
        bad[0] -= !isfinite(v);
        much[0] -= isfinite(v) && fabsf(v) > 1;
        good &= t0[0][i] == weight[i] * x[i];
    }
    for (int m = 0, at = 0; m < rows; at += m % 16 == 15 ? 256 * blocks[m / 16] : 0, m++) {
        double sum = 0;
        for (int k = 0; k < 16 * blocks[m / 16]; k++)
            sum += (double)w[at + (k / 16 * 16 + m % 16) * 16 + k % 16] * (double)power[first[m] + k];
        good &= fabs((double)b[0][m] - log(sum + 1e-6)) < 1e-5;
    }
    good &= bad[0] == 0 && much[0] == 0;
    return good & report("clean", "", c[1], c[0], n * sizeof *x) &
           report("taper", "", t[1], t[0], n * sizeof *x) &
           report("taper alone", "", t0[1], t0[0], n * sizeof *x) &
           report("power", "", s[1], s[0], ((size_t)half + 1) * sizeof *x) &
           report("bands", "", b[1], b[0], (size_t)rows * sizeof *x);
}

static const struct {
    const char *name;
    bool (*check)(ss_cpu l);
    int rounds;
} checks[] = {
    {"conv", check_conv, 60},
    {"pack", check_pack, 40},
    {"db", check_db, 20},
    {"gemm", check_gemm, 60},
    {"maxpool", check_maxpool, 60},
    {"avgpool", check_avgpool, 20},
    {"channels", check_channels, 30},
    {"groupnorm", check_groupnorm, 40},
    {"rows", check_rows, 40},
    {"flat", check_flat, 40},
    {"rounding", check_rounding, 60},
    {"conversions", check_conversions, 60},
    {"int8", check_int8, 120},
    {"int8 rest", check_int8_rest, 60},
    {"random", check_random, 60},
    {"mixture", check_mixture, 60},
    {"sound", check_sound, 60},
};

/* ---- speed ---- */

static ss_pool *bench_pool;

/* Seconds: of the processor on one thread, which other work on the machine disturbs least; else of the clock.
 */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(bench_pool ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best time of a call. */
static double best(void (*fn)(void *), void *arg)
{
    double least = 1e9, begin = seconds();
    for (int k = 0; k < 5 || (k < 100000 && seconds() - begin < 0.06); k++) {
        double t = seconds();
        fn(arg);
        t = seconds() - t;
        least = t < least ? t : least;
    }
    return least;
}

typedef struct conv_run {
    ss_conv c;
    int n;
    float *x, *y, *packed, *back, *dw, *dx, *work;
} conv_run;

static void run_forward(void *a)
{
    conv_run *r = a;
    ss_conv_forward(&r->c, bench_pool, r->n, r->x, r->packed, NULL, NULL, true, r->y, r->work);
}

static void run_dx(void *a)
{
    conv_run *r = a;
    ss_conv_dx(&r->c, bench_pool, r->n, r->y, r->back, NULL, r->x, r->dx, r->work);
}

static void run_dw(void *a)
{
    conv_run *r = a;
    ss_conv_dw(&r->c, bench_pool, r->n, r->x, r->y, r->dw, NULL, r->work);
}

static float *ones(size_t n)
{
    float *p = ss_alloc(n, sizeof *p);
    for (size_t i = 0; p && i < n; i++)
        p[i] = 1.0f;
    return p ? p : (die("no memory"), NULL);
}

static void bench_conv(ss_cpu l)
{
    static const int shapes[][9] = {
        {1, 64, 96, 16, 7, 2, 3},   {16, 16, 24, 16, 3, 1, 1}, {16, 16, 24, 32, 3, 2, 1},
        {32, 8, 12, 32, 3, 1, 1},   {16, 16, 24, 32, 1, 2, 0}, {32, 8, 12, 64, 3, 2, 1},
        {64, 4, 6, 64, 3, 1, 1},    {64, 4, 6, 128, 3, 2, 1},  {128, 2, 3, 128, 3, 1, 1},
        {128, 1, 1, 128, 1, 1, 0},  {1, 64, 96, 64, 7, 2, 3},  {64, 16, 24, 64, 3, 1, 1},
        {128, 8, 12, 128, 3, 1, 1}, {256, 4, 6, 256, 3, 1, 1}, {512, 2, 3, 512, 3, 1, 1},
    };
    static const int batches[] = {1, 8, 64};
    static const ss_conv_algo algos[] = {SS_CONV_DIRECT, SS_CONV_WINOGRAD2, SS_CONV_WINOGRAD4};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int b = 0; b < 12; b++) {
            const int *k = shapes[s];
            conv_run r = {.n = batches[b / 4]};
            if (ss_conv_init(&r.c, k[0], k[1], k[2], k[3], k[4], k[4], k[5], k[6]))
                die("shape");
            if (b % 4 > 1 && (k[4] != 3 || k[5] != 1))
                continue;
            r.c.half = b % 4 == 1 && ss_conv_may_half(&r.c);
            if (b % 4 == 1 && !r.c.half)
                continue;
            r.c.algo = b % 4 ? algos[b % 4 - 1] : 0;
            size_t in = (size_t)r.n * (size_t)r.c.h * (size_t)r.c.w * (size_t)r.c.cin,
                   out = (size_t)r.n * (size_t)r.c.oh * (size_t)r.c.ow * (size_t)r.c.cout;
            r.x = ones(in);
            r.dx = ones(in);
            r.y = ones(out);
            r.packed = ones(ss_conv_packed(&r.c) / sizeof(float));
            r.back = ones(ss_conv_packed_back(&r.c));
            r.dw = ones(ss_conv_dw_size(&r.c));
            r.work = ones(ss_conv_work(&r.c, r.n, bench_pool));
            double flop = 2e-9 * (double)out * k[0] * k[4] * k[4];
            double f = best(run_forward, &r), d = k[0] > 1 ? best(run_dx, &r) : INFINITY,
                   w = best(run_dw, &r);
            printf(
                "%-7s conv %3dx%2dx%2d -> %3d %dx%d/%d, batch %2d, %-10s: forward %6.1f (%7.1f us)  dx %6.1f "
                "(%7.1f us)  dw %6.1f (%7.1f us)\n",
                ss_cpu_name(l), k[0], k[1], k[2], k[3], k[4], k[4], k[5], r.n,
                r.c.half ? "direct f16" : ss_conv_algo_name(r.c.algo), flop / f, f * 1e6, flop / d, d * 1e6,
                flop / w, w * 1e6);
            fflush(stdout);
            float *all[] = {r.x, r.dx, r.y, r.packed, r.back, r.dw, r.work};
            for (int i = 0; i < 7; i++)
                ss_free(all[i]);
        }
}

typedef struct int8_run {
    ss_i8_job job;
    int parts;
    char *work;
} int8_run;

static void int8_task(void *a, int part, int thread)
{
    int8_run *r = a;
    ss_i8_conv_part(&r->job, part, r->parts, r->work + (size_t)thread * ss_i8_conv_work(r->job.k));
}

static void run_int8(void *a)
{
    int8_run *r = a;
    ss_pool_run(bench_pool, r->parts, int8_task, r);
}

/* The layers of windows of 128 x 100. */
static void bench_int8(ss_cpu l)
{
    static const int shapes[][7] = {
        {1, 128, 100, 64, 7, 2, 3},  {64, 32, 25, 64, 3, 1, 1},   {64, 32, 25, 128, 3, 2, 1},
        {128, 16, 13, 128, 3, 1, 1}, {128, 16, 13, 256, 3, 2, 1}, {256, 8, 7, 256, 3, 1, 1},
        {256, 8, 7, 512, 3, 2, 1},   {512, 4, 4, 512, 3, 1, 1},   {256, 8, 7, 512, 1, 2, 0},
        {1, 128, 100, 16, 7, 2, 3},  {16, 32, 25, 16, 3, 1, 1},   {32, 16, 13, 32, 3, 1, 1},
        {64, 8, 7, 64, 3, 1, 1},     {128, 4, 4, 128, 3, 1, 1},
    };
    static const int batches[] = {1, 8};
    int threads = ss_pool_threads(bench_pool);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int b = 0; b < 2; b++) {
            const int *v = shapes[s], n = batches[b];
            ss_conv c;
            ss_i8_conv k;
            if (ss_conv_init(&c, v[0], v[1], v[2], v[3], v[4], v[4], v[5], v[6]) ||
                ss_i8_conv_init(&k, &c, v[6], 1))
                die("shape");
            size_t in = ss_image_size(&k.in) * (size_t)n, out = ss_image_size(&k.out) * (size_t)n;
            size_t each = ss_i8_conv_work(&k);
            uint8_t *x = ss_zalloc(in, 1), *y = ss_zalloc(out, 1);
            int8_t *w = ss_zalloc(ss_i8_conv_packed(&c), 1);
            char *work = ss_zalloc(each, (size_t)threads);
            float *some = ones((size_t)c.cout);
            int32_t *shift = ss_zalloc((size_t)c.cout, sizeof *shift);
            if (!x || !y || !w || !work || !shift)
                die("no memory");
            k.packed = w;
            k.scale = k.bias = some;
            k.shift = shift;
            int8_run r = {.job = {.k = &k, .n = n, .x = x, .y = y},
                          .parts = ss_i8_conv_parts(&k, n, threads),
                          .work = work};
            double t = best(run_int8, &r),
                   ops = 2e-9 * n * c.oh * c.ow * c.cout * (double)(c.cin * c.kh * c.kw);
            printf("%-10s int8 %3dx%3dx%3d -> %3d %dx%d/%d, batch %2d: %7.1f GOP/s (%7.1f us)\n",
                   ss_cpu_name(l), v[0], v[1], v[2], v[3], v[4], v[4], v[5], n, ops / t, t * 1e6);
            fflush(stdout);
            ss_free(x);
            ss_free(y);
            ss_free(w);
            ss_free(work);
            ss_free(some);
            ss_free(shift);
        }
}

typedef struct flat_run {
    size_t n;
    float *a, *b, *c, *d;
    uint8_t *u;
    double sink;
} flat_run;

enum { ROWS = 64 * 384, COLUMNS = 16 };

static void run_adam(void *p)
{
    flat_run *r = p;
    ss_adam a = {1e-3f, 0.9f, 0.999f, 1e-8f, 1e-2f, 1.0f, 10};
    ss_adam_step(&a, bench_pool, r->n, r->a, r->b, r->c, r->d);
}

static void run_squares(void *p)
{
    flat_run *r = p;
    r->sink = ss_sum_squares(r->n, r->a);
}

static void run_f16(void *p)
{
    flat_run *r = p;
    ss_f16_from_f32(r->n, r->a, (uint16_t *)(void *)r->b);
}

static void run_i8(void *p)
{
    flat_run *r = p;
    ss_i8_from_f32(r->n, 0.1f, r->a, (int8_t *)r->b);
}

static void run_channel_sum(void *p)
{
    flat_run *r = p;
    ss_channel_sum_add(ROWS, COLUMNS, r->a, r->b);
}

static void run_groupnorm(void *p)
{
    flat_run *r = p;
    ss_groupnorm_forward(bench_pool, 64, ROWS / 64, COLUMNS, 4, 1e-5f, r->a, r->d, r->d, NULL, true, r->b,
                         r->c, r->c + 256, r->c + 512);
}

static void run_maxpool(void *p)
{
    flat_run *r = p;
    ss_maxpool m;
    ss_maxpool_init(&m, 16, 32, 48, 3, 2, 1);
    ss_maxpool_forward(&m, bench_pool, 16, r->a, r->b, r->u);
}

static void run_maxpool_back(void *p)
{
    flat_run *r = p;
    ss_maxpool m;
    ss_maxpool_init(&m, 16, 32, 48, 3, 2, 1);
    ss_maxpool_backward(&m, bench_pool, 16, r->b, r->u, r->c, r->a);
}

static void run_gemm(void *p)
{
    flat_run *r = p;
    ss_gemm(bench_pool, false, true, 256, 256, 128, r->a, 128, r->b, 128, false, r->c, 256, r->d);
}

static void run_pack(void *p)
{
    flat_run *r = p;
    ss_conv c;
    ss_conv_init(&c, 128, 2, 3, 128, 3, 3, 1, 1);
    ss_conv_pack(&c, r->a, r->b);
    ss_conv_pack_back(&c, r->a, r->c);
    ss_conv_unpack_add(&c, r->b, r->a);
}

static void run_weightnorm(void *p)
{
    flat_run *r = p;
    ss_weightnorm_forward(128, 1152, 1152, 1e-4f, r->a, NULL, r->b, r->c, r->d);
    ss_weightnorm_backward(128, 1152, 1152, r->a, NULL, r->c, r->d, r->b, r->c + 4096, NULL);
}

static void run_normals(void *p)
{
    flat_run *r = p;
    ss_rng g = ss_rng_make(1, 0);
    ss_fill_normal(&g, r->a, 32768);
}

static void bench_flat(ss_cpu l)
{
    static const struct {
        const char *name;
        void (*run)(void *);
        double bytes;
    } runs[] = {
        {"adam, 700000", run_adam, 7e5 * 28},
        {"sum of squares, 700000", run_squares, 7e5 * 4},
        {"f16 from f32, 700000", run_f16, 7e5 * 6},
        {"i8 from f32, 700000", run_i8, 7e5 * 5},
        {"channel sum, 24576x16", run_channel_sum, 24576 * 64.0},
        {"group norm, 64x384x16", run_groupnorm, 24576 * 128.0},
        {"maxpool 3x3/2, 16x32x48x16", run_maxpool, 16 * 1536 * 80.0},
        {"maxpool backward", run_maxpool_back, 16 * 1536 * 80.0},
        {"gemm 256x256x128 (GFLOP/s)", run_gemm, 2.0 * 256 * 256 * 128},
        {"pack, pack back, unpack 128x128x3x3", run_pack, 147456 * 28.0},
        {"weightnorm and backward 128x1152", run_weightnorm, 147456 * 20.0},
        {"normals, 32768", run_normals, 32768 * 4.0},
    };
    flat_run r = {.n = 700000};
    r.a = ones(1 << 20);
    r.b = ones(1 << 20);
    r.c = ones(1 << 20);
    r.d = ones(1 << 20);
    r.u = ss_zalloc(1 << 20, 1);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        double t = best(runs[i].run, &r);
        printf("%-7s %-36s %6.1f GB/s (%7.1f us)\n", ss_cpu_name(l), runs[i].name, 1e-9 * runs[i].bytes / t,
               t * 1e6);
    }
    ss_free(r.a);
    ss_free(r.b);
    ss_free(r.c);
    ss_free(r.d);
    ss_free(r.u);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int rounds = 1, threads = 1;
    bool bench = false;
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--seed=", 7))
            seed = strtoull(argv[i] + 7, NULL, 10);
        else if (!strncmp(argv[i], "--rounds=", 9))
            rounds = atoi(argv[i] + 9);
        else if (!strncmp(argv[i], "--threads=", 10))
            threads = atoi(argv[i] + 10);
        else if (!strncmp(argv[i], "--only=", 7))
            only = argv[i] + 7;
        else if (!strncmp(argv[i], "--level=", 8))
            only_level = argv[i] + 8;
        else if (!strcmp(argv[i], "--bench"))
            bench = true;
        else
            die("unknown option");
    if (ss_pool_open(&two, 2, NULL) || (threads > 1 && ss_pool_open(&bench_pool, threads, NULL)))
        die("no threads");
    static const ss_cpu levels[] = {SS_CPU_SCALAR,     SS_CPU_SSE41, SS_CPU_AVX2,        SS_CPU_AVX512,
                                    SS_CPU_AVX512VNNI, SS_CPU_NEON,  SS_CPU_NEON_DOTPROD};
    int test = 0, failed = 0;
    if (!bench)
        printf("# seed %llu\n", (unsigned long long)seed);
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        bool named = !strcmp(ss_cpu_name(levels[l]), only_level);
        if ((*only_level && !named) || ss_kernels_use(levels[l]))
            continue;
        if (bench) {
            bool slow = levels[l] == SS_CPU_SCALAR && !named;
            if (!slow && strstr("conv", only))
                bench_conv(levels[l]);
            if (!slow && strstr("int8", only))
                bench_int8(levels[l]);
            if (strstr("flat", only))
                bench_flat(levels[l]);
            continue;
        }
        for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
            if (!strstr(checks[i].name, only))
                continue;
            rng = ss_rng_make(seed, i);
            bool good = true;
            for (int k = 0; k < checks[i].rounds * rounds && good; k++) {
                good = checks[i].check(levels[l]);
                if (!release()) {
                    printf("# guard bytes overwritten\n");
                    good = false;
                }
            }
            printf("%s %d - %s %s\n", good ? "ok" : "not ok", ++test, ss_cpu_name(levels[l]), checks[i].name);
            failed += !good;
        }
    }
    for (int k = 0; k < SUM_KINDS; k++)
        if (sums[k].worst > 0)
            printf("# rounding apart, %s: at most %.2g of the sum of absolute products, bound %.2g\n",
                   sums[k].name, sums[k].worst, sums[k].bound);
    if (!bench)
        printf("1..%d\n", test);
    ss_pool_close(&two);
    ss_pool_close(&bench_pool);
    return failed ? 1 : 0;
}
