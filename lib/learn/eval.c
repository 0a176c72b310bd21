#include "learn/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "learn/neighbours.h"
#include "learn/probe.h"

enum { STREAM_HOLDOUT = 0x686f6c64, STREAM_INNER = 0x696e6e72, STREAM_WINDOWS = 0x77696e64 };
enum { INNER_PARTS = 5, MOST_PARTS = 64 };

static const char *const names[SS_METRICS] = {"linear_probe", "knn",       "precision_at_10",
                                              "silhouette",   "alignment", "uniformity"};

const char *ss_metric_name(int metric)
{
    return metric >= 0 && metric < SS_METRICS ? names[metric] : NULL;
}

int ss_metric_parse(const char *name, size_t n)
{
    for (int m = 0; m < SS_METRICS; m++)
        if (strlen(names[m]) == n && memcmp(names[m], name, n) == 0)
            return m;
    return SS_EINVAL;
}

void ss_eval_options_default(ss_eval_options *o)
{
    *o = (ss_eval_options){.metrics = (1u << SS_METRICS) - 1,
                           .neighbours = 5,
                           .at = 10,
                           .most_windows = 4096,
                           .rounds = 2000,
                           .seed = 1};
}

int ss_plan_folds(const ss_items *it, uint32_t test_fold, uint32_t *part, ss_err *e)
{
    size_t tested = 0;
    for (size_t i = 0; i < it->n; i++) {
        part[i] = test_fold == 0 || it->fold[i] == test_fold ? it->fold[i] : 0;
        tested += part[i] != 0;
    }
    if (tested == 0 && test_fold)
        return ss_err_set(e, SS_EUNFIT, "no labelled item is in fold %u", test_fold);
    if (tested == 0)
        return ss_err_set(e, SS_EUNFIT, "no labelled item has a fold");
    return 0;
}

typedef struct group {
    uint32_t label, group;
} group;

static int by_label_then_group(const void *a, const void *b)
{
    const group *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    return (x->group > y->group) - (x->group < y->group);
}

/* Deal the groups of each label, in random order, to `parts`: share of them to part 1 (others to 0) if share
 * > 0, else in turn to 1 .. parts. Windows of a group share their label. */
static int deal(const ss_items *it, double share, uint32_t parts, ss_rng *r, uint32_t *part)
{
    group *g = ss_alloc(it->n, sizeof *g);
    uint32_t *order = ss_alloc(it->n, sizeof *order), *of = NULL, most = 0;
    for (size_t i = 0; i < it->n; i++)
        most = it->group[i] > most ? it->group[i] : most;
    of = ss_zalloc((size_t)most + 1, sizeof *of);
    if (!g || !order || !of) {
        ss_free(g);
        ss_free(order);
        ss_free(of);
        return SS_ENOMEM;
    }
    for (size_t i = 0; i < it->n; i++)
        g[i] = (group){it->label[i], it->group[i]};
    qsort(g, it->n, sizeof *g, by_label_then_group);
    uint32_t turn = 0;
    for (size_t i = 0; i < it->n;) {
        size_t n = 0, next = i; /* distinct groups of this label to the front of its stretch */
        for (; next < it->n && g[next].label == g[i].label; next++)
            if (n == 0 || g[next].group != g[i + n - 1].group)
                g[i + n++] = g[next];
        ss_rng_shuffle(r, order, n);
        size_t take = (size_t)(share * (double)n + 0.5);
        take = take == 0 && n > 1 ? 1 : take == n && n > 1 ? n - 1 : take;
        for (size_t k = 0; k < n; k++)
            of[g[i + order[k]].group] = share > 0 ? k < take : 1 + turn++ % parts;
        i = next;
    }
    for (size_t i = 0; i < it->n; i++)
        part[i] = of[it->group[i]];
    ss_free(g);
    ss_free(order);
    ss_free(of);
    return 0;
}

int ss_plan_holdout(const ss_items *it, double share, uint64_t seed, uint32_t *part, ss_err *e)
{
    if (!(share > 0 && share < 1))
        return ss_err_set(e, SS_ERANGE, "share %g is not between 0 and 1", share);
    ss_rng r = ss_rng_make(seed, STREAM_HOLDOUT);
    if (deal(it, share, 2, &r, part) < 0)
        return ss_err_set(e, SS_ENOMEM, "no memory to split %zu items", it->n);
    return 0;
}

int ss_plan_inner(const ss_items *it, uint64_t seed, uint32_t *inner, ss_err *e)
{
    uint32_t seen[3] = {0}, distinct = 0;
    bool all = true;
    for (size_t i = 0; i < it->n; i++) {
        uint32_t f = it->fold[i];
        all = all && f;
        if (distinct < 3 && f != seen[0] && f != seen[1])
            seen[distinct++] = f;
    }
    if (all && distinct == 3) {
        memcpy(inner, it->fold, it->n * sizeof *inner);
        return 0;
    }
    ss_rng r = ss_rng_make(seed, STREAM_INNER);
    if (deal(it, 0, INNER_PARTS, &r, inner) < 0)
        return ss_err_set(e, SS_ENOMEM, "no memory to split %zu items", it->n);
    return 0;
}

/* Everything that one run needs beside its result. */
typedef struct run {
    const ss_items *it;
    const ss_eval_options *o;
    const uint32_t *part, *inner;
    ss_eval *r;
    ss_labelled d;
    uint32_t *inner_part; /* [ninner] distinct inner parts */
    size_t ninner;
    bool same; /* inner parts are the parts: training sets recur */
    uint64_t
        *right; /* [nrows][ninner][grid] right answers in inner part j of probes trained without row and it */
    uint8_t *done;          /* [nrows][ninner] */
    uint32_t *train, *test; /* [n] scratch */
    double *unit;           /* [n][dim] rows for the neighbours */
    double *part_x;         /* [n][dim] scratch */
    uint32_t *scratch;      /* [n * max(at, neighbours)] */
    double *windows;        /* [nw][window_dim] unit rows of the windows in use */
    uint32_t *window_owner; /* [nw] */
    size_t nw;
} run;

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Distinct values of v [n], ascending, but for 0 if skip_zero; a new array. */
static int distinct(const uint32_t *v, size_t n, bool skip_zero, uint32_t **out, size_t *count)
{
    uint32_t *d = *out = ss_alloc(n, sizeof *d);
    size_t k = 0;
    if (!d)
        return SS_ENOMEM;
    memcpy(d, v, n * sizeof *d);
    qsort(d, n, sizeof *d, by_number);
    for (size_t i = 0; i < n; i++)
        if ((d[i] || !skip_zero) && (k == 0 || d[i] != d[k - 1]))
            d[k++] = d[i];
    *count = k;
    return 0;
}

static size_t place_of(const uint32_t *sorted, size_t n, uint32_t v)
{
    size_t i = 0;
    while (i < n && sorted[i] != v)
        i++;
    return i;
}

/* Count right answers in inner part j for a probe trained without row t and without j, for every strength. */
static int inner_fit(run *u, size_t t, size_t j, ss_err *e)
{
    ss_eval *r = u->r;
    uint32_t row = r->row[t].part, left = u->inner_part[j];
    size_t ntrain = 0, ntest = 0;
    bool two = false;
    /* With the parts themselves as inner parts, the training set without t and j serves j's row as well. */
    size_t other = u->same ? place_of(u->inner_part, u->ninner, row) : u->ninner;
    for (size_t i = 0; i < r->n; i++) {
        if (u->part[i] != row && u->inner[i] != left) {
            u->train[ntrain++] = (uint32_t)i;
            two |= r->class_of[i] != r->class_of[u->train[0]];
        } else if (u->part[i] != row || other < u->ninner) {
            u->test[ntest++] = (uint32_t)i;
        }
    }
    if (!two || ntest == 0)
        return 0; /* this inner part has no say */
    uint8_t *right = ss_alloc(ntest, SS_PROBE_GRID);
    int rc = right ? ss_probe_grid(&u->d, u->train, ntrain, u->test, ntest, right, e)
                   : ss_err_set(e, SS_ENOMEM, "no memory for %zu outcomes", ntest);
    size_t mirror = r->nrows;
    if (other < u->ninner)
        for (size_t k = 0; k < r->nrows; k++)
            if (r->row[k].part == left)
                mirror = k;
    for (size_t g = 0; rc == 0 && g < SS_PROBE_GRID; g++)
        for (size_t i = 0; i < ntest; i++) {
            uint8_t yes = right[g * ntest + i];
            if (u->part[u->test[i]] != row)
                u->right[(t * u->ninner + j) * SS_PROBE_GRID + g] += yes;
            else if (mirror < r->nrows)
                u->right[(mirror * u->ninner + other) * SS_PROBE_GRID + g] += yes;
        }
    u->done[t * u->ninner + j] = 1;
    if (mirror < r->nrows)
        u->done[mirror * u->ninner + other] = 1;
    ss_free(right);
    return rc;
}

/* The items of a row into u->train and u->test; true when the training ones are of two classes at least. */
static bool sides(run *u, const ss_eval_row *row, size_t *ntrain, size_t *ntest)
{
    bool two = false;
    *ntrain = *ntest = 0;
    for (size_t i = 0; i < u->r->n; i++)
        if (u->part[i] == row->part) {
            u->test[(*ntest)++] = (uint32_t)i;
        } else {
            u->train[(*ntrain)++] = (uint32_t)i;
            two |= u->r->class_of[i] != u->r->class_of[u->train[0]];
        }
    return two;
}

static int linear(run *u, size_t t, ss_err *e)
{
    ss_eval *r = u->r;
    ss_eval_row *row = r->row + t;
    uint64_t best = 0;
    size_t chosen = 0, ntrain, ntest;
    for (size_t j = 0; j < u->ninner; j++)
        if (!u->done[t * u->ninner + j] && !(u->same && u->inner_part[j] == row->part)) {
            int rc = inner_fit(u, t, j, e);
            if (rc < 0)
                return rc;
        }
    /* Of equals the strongest penalty. */
    for (size_t g = 0; g < SS_PROBE_GRID; g++) {
        uint64_t sum = 0;
        for (size_t j = 0; j < u->ninner; j++)
            sum += u->right[(t * u->ninner + j) * SS_PROBE_GRID + g];
        if (sum > best) {
            best = sum;
            chosen = g;
        }
    }
    sides(u, row, &ntrain, &ntest); /* inner_fit used the scratch */
    ss_probe p;
    double *probability = ss_alloc(r->classes, sizeof *probability);
    int rc = probability ? ss_probe_fit(&p, &u->d, u->train, ntrain, ss_probe_strengths[chosen], e)
                         : ss_err_set(e, SS_ENOMEM, "no memory for a probe");
    if (rc == 0) {
        row->strength = p.strength;
        row->converged = p.converged;
        for (size_t i = 0; i < ntest; i++) {
            uint32_t at = u->test[i];
            r->said[at] = ss_probe_predict(&p, u->it->x + at * u->it->dim, probability);
            r->outcome[SS_METRIC_LINEAR][at] = r->said[at] == r->class_of[at];
            r->confusion[(size_t)r->class_of[at] * r->classes + r->said[at]]++;
        }
    }
    if (probability)
        ss_probe_clear(&p);
    ss_free(probability);
    return rc;
}

/* Unit rows of all items into u->unit, standardised by the training items of the row if asked. */
static int directions(run *u, size_t ntrain, ss_err *e)
{
    size_t dim = u->it->dim;
    if (!u->o->standardise) {
        ss_unit_rows(u->it->x, u->r->n, dim, u->unit);
        return 0;
    }
    double *mean = ss_alloc(dim, sizeof *mean), *scale = ss_alloc(dim, sizeof *scale);
    if (mean && scale) {
        ss_standardise(&u->d, u->train, ntrain, mean, scale);
        for (size_t i = 0; i < u->r->n; i++)
            for (size_t j = 0; j < dim; j++)
                u->unit[i * dim + j] = (u->it->x[i * dim + j] - mean[j]) * scale[j];
        ss_unit_rows(u->unit, u->r->n, dim, u->unit);
    }
    int rc = mean && scale ? 0 : ss_err_set(e, SS_ENOMEM, "no memory for %zu features", dim);
    ss_free(mean);
    ss_free(scale);
    return rc;
}

static int neighbours(run *u, size_t ntrain, size_t ntest, ss_err *e)
{
    ss_eval *r = u->r;
    size_t dim = u->it->dim, most = u->o->at > u->o->neighbours ? u->o->at : u->o->neighbours;
    size_t k = most < ntrain ? most : ntrain, at = u->o->at < k ? u->o->at : k,
           votes = u->o->neighbours < k ? u->o->neighbours : k;
    uint32_t *label = ss_alloc(ntrain, sizeof *label), *count = ss_alloc(r->classes, sizeof *count);
    double *query = ss_alloc(ntest, dim * sizeof *query);
    int rc = label && count && query ? 0 : SS_ENOMEM;
    if (rc == 0) {
        for (size_t i = 0; i < ntrain; i++) {
            label[i] = r->class_of[u->train[i]];
            memcpy(u->part_x + i * dim, u->unit + u->train[i] * dim, dim * sizeof *query);
        }
        for (size_t i = 0; i < ntest; i++)
            memcpy(query + i * dim, u->unit + u->test[i] * dim, dim * sizeof *query);
        rc = ss_nearest(u->part_x, ntrain, query, ntest, dim, k, u->scratch);
    }
    for (size_t i = 0; rc == 0 && i < ntest; i++) {
        const uint32_t *near = u->scratch + i * k;
        size_t item = u->test[i], own = 0;
        for (size_t j = 0; j < at; j++)
            own += label[near[j]] == r->class_of[item];
        r->outcome[SS_METRIC_KNN][item] =
            ss_knn_vote(near, votes, label, r->classes, count) == r->class_of[item];
        r->outcome[SS_METRIC_PRECISION][item] = (double)own / (double)at;
    }
    ss_free(label);
    ss_free(count);
    ss_free(query);
    return rc < 0 ? ss_err_set(e, rc, "no memory for the neighbours of %zu items", ntest) : 0;
}

/* Silhouette of each of the items in u->test, from u->unit, into each [ntest]. */
static int silhouette(run *u, size_t ntest, double *each, ss_err *e)
{
    size_t dim = u->it->dim;
    uint32_t *label = ss_alloc(ntest, sizeof *label);
    if (!label)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu items", ntest);
    for (size_t i = 0; i < ntest; i++) {
        label[i] = u->r->class_of[u->test[i]];
        memcpy(u->part_x + i * dim, u->unit + u->test[i] * dim, dim * sizeof *each);
    }
    int rc = ss_silhouette(u->part_x, label, ntest, dim, u->r->classes, each);
    ss_free(label);
    return rc < 0 ? ss_err_set(e, rc, "no memory for %zu items", ntest) : 0;
}

/* Alignment and uniformity of the windows of the items whose part is `part` (0: of all that are tested). */
static int spread(run *u, uint32_t part, double value[SS_METRICS], ss_err *e)
{
    const ss_items *it = u->it;
    size_t n = 0, dim = it->window_dim;
    uint32_t *order = u->window_owner + it->nwindows; /* the second half of it */
    for (size_t w = 0; w < it->nwindows; w++) {
        uint32_t p = u->part[it->owner[w]];
        if (part ? p == part : p != 0)
            order[n++] = (uint32_t)w;
    }
    if (n > u->o->most_windows) {
        /* Draw without replacement, in order: each with the share that is still wanted of those still to
         * come. */
        ss_rng r = ss_rng_make(u->o->seed, STREAM_WINDOWS);
        size_t want = u->o->most_windows, kept = 0;
        for (size_t i = 0; i < n && kept < want; i++)
            if (ss_rng_below(&r, (uint32_t)(n - i)) < want - kept)
                order[kept++] = order[i];
        n = kept;
    }
    for (size_t i = 0; i < n; i++) {
        u->window_owner[i] = it->owner[order[i]];
        for (size_t j = 0; j < dim; j++)
            u->windows[i * dim + j] = it->window[order[i] * dim + j];
    }
    ss_unit_rows(u->windows, n, dim, u->windows);
    if (u->o->metrics >> SS_METRIC_ALIGNMENT & 1 &&
        ss_alignment(u->windows, u->window_owner, n, dim, it->n, value + SS_METRIC_ALIGNMENT) < 0)
        return ss_err_set(e, SS_ENOMEM, "no memory for the alignment of %zu windows", n);
    if (u->o->metrics >> SS_METRIC_UNIFORMITY & 1)
        value[SS_METRIC_UNIFORMITY] = ss_uniformity(u->windows, n, dim);
    return 0;
}

static double mean_of(const double *v, const uint32_t *items, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[items[i]];
    return n ? sum / (double)n : NAN;
}

static int one_row(run *u, size_t t, ss_err *e)
{
    ss_eval *r = u->r;
    ss_eval_row *row = r->row + t;
    unsigned m = u->o->metrics;
    size_t ntrain, ntest;
    bool two = sides(u, row, &ntrain, &ntest);
    row->train = ntrain;
    row->test = ntest;
    if (ntrain == 0)
        return ss_err_set(e, SS_EUNFIT, "all %zu items are tested, none is left to train on", ntest);
    if (!two)
        return ss_err_set(e, SS_EUNFIT, "all %zu training items are of one class", ntrain);
    int rc = 0;
    if (m >> SS_METRIC_KNN & 1 || m >> SS_METRIC_PRECISION & 1 || m >> SS_METRIC_SILHOUETTE & 1)
        rc = directions(u, ntrain, e);
    if (rc == 0 && (m >> SS_METRIC_KNN & 1 || m >> SS_METRIC_PRECISION & 1))
        rc = neighbours(u, ntrain, ntest, e);
    if (rc == 0 && m >> SS_METRIC_SILHOUETTE & 1) {
        double *each = ss_alloc(ntest, sizeof *each);
        rc =
            each ? silhouette(u, ntest, each, e) : ss_err_set(e, SS_ENOMEM, "no memory for %zu items", ntest);
        for (size_t i = 0; rc == 0 && i < ntest; i++)
            r->outcome[SS_METRIC_SILHOUETTE][u->test[i]] = each[i];
        ss_free(each);
    }
    if (rc == 0 && (m >> SS_METRIC_ALIGNMENT & 1 || m >> SS_METRIC_UNIFORMITY & 1))
        rc = spread(u, row->part, row->value, e);
    if (rc == 0 && m >> SS_METRIC_LINEAR & 1)
        rc = linear(u, t, e);
    for (int k = 0; rc == 0 && k < SS_OUTCOMES; k++)
        if (m >> k & 1)
            row->value[k] = mean_of(r->outcome[k], u->test, ntest);
    return rc;
}

int ss_eval_summarise(ss_eval *r, unsigned metrics, int rounds, uint64_t seed, ss_err *e)
{
    double *v = ss_alloc(r->n > r->nrows ? r->n : r->nrows, sizeof *v);
    if (!v)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu items", r->n);
    for (int k = 0; k < SS_METRICS; k++) {
        size_t n = 0;
        double spread;
        for (size_t t = 0; t < r->nrows; t++)
            v[t] = r->row[t].value[k];
        ss_mean_deviation(v, r->nrows, r->mean + k, r->deviation + k);
        r->value[k] = NAN;
        r->interval[k] = (ss_interval){NAN, NAN};
        if (k >= SS_OUTCOMES)
            continue;
        for (size_t i = 0; i < r->n; i++)
            if (r->part[i])
                v[n++] = r->outcome[k][i];
        r->tested = n;
        if (!(metrics >> k & 1))
            continue;
        ss_mean_deviation(v, n, r->value + k, &spread);
        if (k == SS_METRIC_LINEAR || k == SS_METRIC_KNN) {
            r->interval[k] = ss_wilson(r->value[k] * (double)n, (double)n);
        } else if (ss_bootstrap_mean(v, n, rounds, seed, r->interval + k) < 0) {
            ss_free(v);
            return ss_err_set(e, SS_ENOMEM, "no memory for %d rounds of bootstrap", rounds);
        }
    }
    ss_free(v);
    return 0;
}

static int result_open(ss_eval *r, const ss_items *it, const uint32_t *part, ss_err *e)
{
    uint32_t *parts = NULL;
    size_t classes = 0;
    *r = (ss_eval){.n = it->n};
    int rc = distinct(it->label, it->n, false, &r->class_label, &classes);
    if (rc == 0)
        rc = distinct(part, it->n, true, &parts, &r->nrows);
    if (rc == 0 && r->nrows == 0)
        rc = ss_err_set(e, SS_EUNFIT, "of %zu items none can be tested", it->n);
    else if (rc == 0 && r->nrows > MOST_PARTS)
        rc = ss_err_set(e, SS_EUNFIT, "%zu parts to test, expected 1 to %d", r->nrows, MOST_PARTS);
    else if (rc < 0)
        ss_err_set(e, rc, "no memory for %zu items", it->n);
    if (rc < 0)
        goto out;
    r->classes = (uint32_t)classes;
    r->row = ss_zalloc(r->nrows, sizeof *r->row);
    r->class_of = ss_alloc(it->n, sizeof *r->class_of);
    r->part = ss_alloc(it->n, sizeof *r->part);
    r->said = ss_zalloc(it->n, sizeof *r->said);
    r->confusion = ss_zalloc(classes, classes * sizeof *r->confusion);
    bool room = r->row && r->class_of && r->part && r->said && r->confusion;
    for (int k = 0; k < SS_OUTCOMES; k++)
        room &= (r->outcome[k] = ss_zalloc(it->n, sizeof(double))) != NULL;
    if (!room) {
        rc = ss_err_set(e, SS_ENOMEM, "no memory for %zu items", it->n);
        goto out;
    }
    memcpy(r->part, part, it->n * sizeof *part);
    for (size_t i = 0; i < it->n; i++)
        r->class_of[i] = (uint32_t)place_of(r->class_label, classes, it->label[i]);
    for (size_t t = 0; t < r->nrows; t++) {
        r->row[t].part = parts[t];
        r->row[t].strength = NAN;
        for (int k = 0; k < SS_METRICS; k++)
            r->row[t].value[k] = NAN;
    }
out:
    ss_free(parts);
    return rc;
}

int ss_eval_run(ss_eval *r, const ss_items *it, const uint32_t *part, const uint32_t *inner,
                const ss_eval_options *o, ss_err *e)
{
    run u = {.it = it, .o = o, .part = part, .inner = inner, .r = r};
    *r = (ss_eval){0};
    if (it->n == 0)
        return ss_err_set(e, SS_EUNFIT, "no labelled item");
    int rc = result_open(r, it, part, e);
    if (rc < 0)
        return rc;
    size_t most = o->at > o->neighbours ? o->at : o->neighbours;
    rc = distinct(inner, it->n, false, &u.inner_part, &u.ninner);
    u.d = (ss_labelled){it->x, r->class_of, it->n, it->dim, r->classes};
    u.same = true;
    for (size_t i = 0; i < it->n; i++)
        u.same &= part[i] == inner[i];
    u.right = ss_zalloc(r->nrows * u.ninner, SS_PROBE_GRID * sizeof *u.right);
    u.done = ss_zalloc(r->nrows, u.ninner);
    u.train = ss_alloc(it->n, sizeof *u.train);
    u.test = ss_alloc(it->n, sizeof *u.test);
    u.unit = ss_alloc(it->n, it->dim * sizeof *u.unit);
    u.part_x = ss_alloc(it->n, it->dim * sizeof *u.part_x);
    u.scratch = ss_alloc(it->n, most * sizeof *u.scratch);
    u.windows = ss_alloc(it->nwindows, it->window_dim * sizeof *u.windows);
    u.window_owner = ss_alloc(it->nwindows, 2 * sizeof *u.window_owner);
    if (rc < 0 || !u.right || !u.done || !u.train || !u.test || !u.unit || !u.part_x || !u.scratch ||
        !u.windows || !u.window_owner)
        rc = ss_err_set(e, SS_ENOMEM, "no memory to judge %zu items of %zu features", it->n, it->dim);
    for (size_t t = 0; rc == 0 && t < r->nrows; t++)
        rc = one_row(&u, t, e);
    if (rc == 0)
        rc = ss_eval_summarise(r, o->metrics, o->rounds, o->seed, e);
    if (rc == 0 && (o->metrics >> SS_METRIC_ALIGNMENT & 1 || o->metrics >> SS_METRIC_UNIFORMITY & 1))
        rc = spread(&u, 0, r->value, e);
    ss_free(u.inner_part);
    ss_free(u.right);
    ss_free(u.done);
    ss_free(u.train);
    ss_free(u.test);
    ss_free(u.unit);
    ss_free(u.part_x);
    ss_free(u.scratch);
    ss_free(u.windows);
    ss_free(u.window_owner);
    return rc;
}

typedef struct key {
    uint64_t clip;
    uint32_t index;
} key;

static int by_clip(const void *a, const void *b)
{
    const key *x = a, *y = b;
    if (x->clip != y->clip)
        return x->clip < y->clip ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

int ss_items_match(const ss_items *a, char *const *a_labels, const ss_items *b, char *const *b_labels,
                   uint32_t *match, ss_err *e)
{
    if (a->n != b->n)
        return ss_err_set(e, SS_EUNFIT, "%zu items against %zu: not the same clips", a->n, b->n);
    key *x = ss_alloc(a->n, sizeof *x), *y = ss_alloc(b->n, sizeof *y);
    int rc = x && y ? 0 : ss_err_set(e, SS_ENOMEM, "no memory to match %zu items", a->n);
    for (uint32_t i = 0; rc == 0 && i < a->n; i++) {
        x[i] = (key){a->clip[i], i};
        y[i] = (key){b->clip[i], i};
    }
    if (rc == 0) {
        qsort(x, a->n, sizeof *x, by_clip);
        qsort(y, b->n, sizeof *y, by_clip);
    }
    for (size_t i = 0; rc == 0 && i < a->n; i++) {
        const char *this = a_labels[a->label[x[i].index]], *other = b_labels[b->label[y[i].index]];
        if (x[i].clip != y[i].clip)
            rc = ss_err_set(e, SS_EUNFIT, "clip %" PRIu64 " has no counterpart",
                            x[i].clip < y[i].clip ? x[i].clip : y[i].clip);
        else if (strcmp(this, other) != 0)
            rc = ss_err_set(e, SS_EUNFIT, "clip %" PRIu64 " is '%s' against '%s'", x[i].clip, this, other);
        match[x[i].index] = y[i].index;
    }
    ss_free(x);
    ss_free(y);
    return rc;
}

int ss_eval_compare(const ss_eval *a, const ss_eval *b, const uint32_t *match, int metric, int rounds,
                    uint64_t seed, ss_paired *out, ss_err *e)
{
    double *x = ss_alloc(a->n, 2 * sizeof *x), *y = x + a->n;
    size_t n = 0;
    if (!x)
        return ss_err_set(e, SS_ENOMEM, "no memory to compare %zu items", a->n);
    for (size_t i = 0; i < a->n; i++)
        if (a->part[i] && b->part[match[i]]) {
            x[n] = a->outcome[metric][i];
            y[n++] = b->outcome[metric][match[i]];
        }
    int rc = ss_compare_paired(x, y, n, rounds, seed, out);
    ss_free(x);
    if (rc < 0)
        return ss_err_set(e, rc == SS_EINVAL ? SS_EUNFIT : rc, "no item was tested on both sides");
    return 0;
}

void ss_eval_clear(ss_eval *r)
{
    for (int k = 0; k < SS_OUTCOMES; k++)
        ss_free(r->outcome[k]);
    ss_free(r->class_label);
    ss_free(r->row);
    ss_free(r->class_of);
    ss_free(r->part);
    ss_free(r->said);
    ss_free(r->confusion);
    *r = (ss_eval){0};
}
