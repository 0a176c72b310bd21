#include "learn/probe.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { PAIRS = 10, PANEL = 4, MOST_ITERATIONS = 2000, MOST_TRIALS = 40, REFACTOR = 20 };

const double ss_probe_strengths[SS_PROBE_GRID] = {1e-4, 3.1622776601683795e-4, 1e-3, 3.1622776601683795e-3,
                                                  1e-2, 3.1622776601683795e-2, 1e-1, 3.1622776601683795e-1,
                                                  1,    3.1622776601683795,    10};

/* On the gradient of the mean loss. One of 1e-4 left choices of the grid to chance. */
#define TOLERANCE      1e-7
#define GRID_TOLERANCE 1e-5

/*
 * Matrices go through one product, c [4 m][4 n] = sum_p a_p b_p^T, whose operands lie in panels of four
 * columns, a [m][depth][4] and b [n][depth][4]. Parameters are [dim + padding][classes + padding], then the
 * biases.
 */
typedef struct problem {
    size_t n, dim, features, classes; /* dim as given; features and classes in whole panels */
    size_t rows;                      /* n in whole panels */
    double lambda;                    /* 1 / (C n) */
    double *by_row;                   /* [rows / 4][features][4]: z transposed */
    double *by_feature;               /* [features / 4][n][4] */
    double *packed;                   /* [classes / 4][max(features, n)][4] */
    double *score;                    /* [rows][classes] */
    uint32_t *label;                  /* [n] */
    uint32_t nclasses;
    size_t nparams;
    double *pair_s, *pair_y, *rho; /* [PAIRS][nparams], [PAIRS][nparams], [PAIRS] */
    double *now, *gradient, *next, *next_gradient, *step;
    double curvature; /* mean over items and classes of p (1 - p) */
    double *weighted; /* [features / 4][n][4] z times that of its item */
    double *factor;   /* [features][features] lower triangle: Cholesky factor of sum weighted z^T + lambda */
    double *solved;   /* [nparams] */
} problem;

static size_t padded(size_t n)
{
    return (n + PANEL - 1) / PANEL * PANEL;
}

static void product(const double *restrict a, size_t m, const double *restrict b, size_t n, size_t depth,
                    double *restrict c)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const double *restrict u = a + i * depth * PANEL, *restrict v = b + j * depth * PANEL;
            double sum[PANEL][PANEL] = {{0}};
            for (size_t p = 0; p < depth; p++, u += PANEL, v += PANEL)
                for (int r = 0; r < PANEL; r++)
                    for (int s = 0; s < PANEL; s++)
                        sum[r][s] += u[r] * v[s];
            for (int r = 0; r < PANEL; r++)
                memcpy(c + ((i * PANEL + (size_t)r) * n + j) * PANEL, sum[r], sizeof sum[r]);
        }
}

/* from [depth][4 n] into panels [n][depth][4]. */
static void pack(const double *restrict from, size_t depth, size_t n, double *restrict to)
{
    for (size_t j = 0; j < n; j++)
        for (size_t p = 0; p < depth; p++, to += PANEL)
            memcpy(to, from + (p * n + j) * PANEL, PANEL * sizeof *to);
}

static double inner(const double *a, const double *b, size_t n)
{
    double s[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int l = 0; l < 4; l++)
            s[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        s[0] += a[i] * b[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* Mean loss with penalty at `at`, and its gradient. */
static double evaluate(problem *q, const double *at, double *gradient)
{
    size_t k = q->classes, nweights = q->features * k;
    const double *bias = at + nweights;
    double loss = 0, *gbias = gradient + nweights;
    pack(at, q->features, k / PANEL, q->packed);
    product(q->by_row, q->rows / PANEL, q->packed, k / PANEL, q->features, q->score);
    memset(gbias, 0, k * sizeof *gbias);
    for (size_t i = 0; i < q->n; i++) {
        double *s = q->score + i * k, most = -INFINITY, sum = 0;
        for (uint32_t c = 0; c < q->nclasses; c++)
            most = fmax(most, s[c] += bias[c]);
        double own = s[q->label[i]] - most;
        for (uint32_t c = 0; c < q->nclasses; c++)
            sum += s[c] = exp(s[c] - most);
        loss += log(sum) - own;
        for (uint32_t c = 0; c < q->nclasses; c++)
            s[c] /= sum * (double)q->n;
        s[q->label[i]] -= 1 / (double)q->n;
        for (uint32_t c = 0; c < q->nclasses; c++)
            gbias[c] += s[c];
        for (size_t c = q->nclasses; c < k; c++)
            s[c] = 0;
    }
    pack(q->score, q->n, k / PANEL, q->packed);
    product(q->by_feature, q->features / PANEL, q->packed, k / PANEL, q->n, gradient);
    for (size_t i = 0; i < nweights; i++)
        gradient[i] += q->lambda * at[i];
    return loss / (double)q->n + q->lambda / 2 * inner(at, at, nweights);
}

static double largest(const double *v, size_t n)
{
    double m = 0;
    for (size_t i = 0; i < n; i++)
        m = fmax(m, fabs(v[i]));
    return m;
}

/*
 * q->factor for the lambda in force, from the scores of the last evaluation. The loss curves by p (1 - p)
 * along the features of an item; here all classes get the mean of it, so that one matrix serves them all.
 */
static void factorise(problem *q)
{
    size_t n = q->features, k = q->classes;
    double *restrict weighted = q->weighted;
    q->curvature = 0;
    for (size_t i = 0; i < q->n; i++) {
        double w = 0;
        for (uint32_t c = 0; c < q->nclasses; c++) {
            double p = fabs(q->score[i * k + c]) * (double)q->n; /* of the own class, 1 - p */
            w += p * (1 - p) / q->nclasses;
        }
        /* One item alone does not fix the others' scale. */
        w = fmax(w, 1e-6) / (double)q->n;
        q->curvature += w;
        for (size_t j = 0; j < n; j += PANEL) {
            const double *from = q->by_feature + (j * q->n + i * PANEL);
            for (size_t l = 0; l < PANEL; l++)
                weighted[j * q->n + i * PANEL + l] = w * from[l];
        }
    }
    product(weighted, n / PANEL, q->by_feature, n / PANEL, q->n, q->factor);
    for (size_t i = 0; i < n; i++) {
        double *row = q->factor + i * n;
        row[i] += q->lambda;
        for (size_t j = 0; j <= i; j++) {
            const double *other = q->factor + j * n;
            double v = row[j] - inner(row, other, j);
            /* A feature that is a sum of others may leave less than rounding behind. */
            row[j] = i == j ? sqrt(fmax(v, 1e-3 * q->lambda)) : v / other[j];
        }
    }
}

/*
 * to = (factor factor^T)^-1 from for the weights of each class, and 1 / curvature for the biases: what
 * L-BFGS starts from as the inverse Hessian. Neighbouring bands of a spectrum are so alike that a multiple of
 * the identity takes several times the steps.
 */
static void precondition(const problem *q, const double *from, double *to)
{
    size_t n = q->features, k = q->classes;
    memcpy(to, from, q->nparams * sizeof *to);
    for (size_t i = 0; i < n; i++) {
        double *restrict row = to + i * k, by = 1 / q->factor[i * n + i];
        for (size_t j = 0; j < i; j++) {
            const double *restrict other = to + j * k, f = q->factor[i * n + j];
            for (size_t l = 0; l < k; l++)
                row[l] -= f * other[l];
        }
        for (size_t l = 0; l < k; l++)
            row[l] *= by;
    }
    for (size_t i = n; i-- > 0;) {
        double *restrict row = to + i * k, by = 1 / q->factor[i * n + i];
        for (size_t l = 0; l < k; l++)
            row[l] *= by;
        for (size_t j = 0; j < i; j++) {
            double *restrict other = to + j * k, f = q->factor[i * n + j];
            for (size_t l = 0; l < k; l++)
                other[l] -= f * row[l];
        }
    }
    for (size_t i = n * k; i < q->nparams; i++)
        to[i] /= q->curvature;
}

/* step = - (inverse Hessian as the last `have` pairs know it) * gradient; pair `newest` is the youngest. */
static void direction(problem *q, int have, int newest)
{
    double alpha[PAIRS];
    size_t n = q->nparams;
    for (size_t i = 0; i < n; i++)
        q->step[i] = -q->gradient[i];
    for (int t = 0; t < have; t++) {
        int p = (newest - t + PAIRS) % PAIRS;
        const double *s = q->pair_s + (size_t)p * n, *y = q->pair_y + (size_t)p * n;
        alpha[p] = q->rho[p] * inner(s, q->step, n);
        for (size_t i = 0; i < n; i++)
            q->step[i] -= alpha[p] * y[i];
    }
    precondition(q, q->step, q->solved);
    for (size_t i = 0; i < n; i++)
        q->step[i] = q->solved[i];
    for (int t = have - 1; t >= 0; t--) {
        int p = (newest - t + PAIRS) % PAIRS;
        const double *s = q->pair_s + (size_t)p * n, *y = q->pair_y + (size_t)p * n;
        double beta = q->rho[p] * inner(y, q->step, n);
        for (size_t i = 0; i < n; i++)
            q->step[i] += (alpha[p] - beta) * s[i];
    }
}

/* From q->now to the minimum; true when no gradient component is above `tolerance`. */
static bool minimise(problem *q, double tolerance, int *iterations)
{
    size_t n = q->nparams;
    int have = 0, newest = 0;
    double value = evaluate(q, q->now, q->gradient);
    for (*iterations = 0; *iterations < MOST_ITERATIONS; ++*iterations) {
        if (largest(q->gradient, n) <= tolerance)
            return true;
        if (*iterations % REFACTOR == 0)
            factorise(q);
        direction(q, have, newest);
        double slope = inner(q->gradient, q->step, n);
        double length = 1, low = 0, high = INFINITY, reached = value;
        bool good = false;
        for (int t = 0; t < MOST_TRIALS && !good; t++) {
            for (size_t i = 0; i < n; i++)
                q->next[i] = q->now[i] + length * q->step[i];
            reached = evaluate(q, q->next, q->next_gradient);
            /* Close to the minimum the fall is below the rounding of the value: the slope has to decide. */
            if (!(reached <= value + 1e-4 * length * slope + 1e-14 * fabs(value)))
                high = length;
            else if (inner(q->next_gradient, q->step, n) < 0.9 * slope)
                low = length;
            else
                good = true;
            if (!good)
                length = isinf(high) ? 2 * low : (low + high) / 2;
        }
        if (!good)
            return false;
        int p = have ? (newest + 1) % PAIRS : 0;
        double *s = q->pair_s + (size_t)p * n, *y = q->pair_y + (size_t)p * n;
        for (size_t i = 0; i < n; i++) {
            s[i] = q->next[i] - q->now[i];
            y[i] = q->next_gradient[i] - q->gradient[i];
        }
        double curve = inner(s, y, n);
        if (curve > 0) {
            q->rho[p] = 1 / curve;
            newest = p;
            have += have < PAIRS;
        }
        memcpy(q->now, q->next, n * sizeof *q->now);
        memcpy(q->gradient, q->next_gradient, n * sizeof *q->gradient);
        value = reached;
    }
    return false;
}

static void problem_clear(problem *q)
{
    double *all[] = {q->by_row,        q->by_feature, q->packed,   q->score,    q->pair_s,
                     q->pair_y,        q->rho,        q->now,      q->gradient, q->next,
                     q->next_gradient, q->step,       q->weighted, q->factor,   q->solved};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
    ss_free(q->label);
}

static int check(const ss_labelled *d, const uint32_t *rows, size_t n, ss_err *e)
{
    bool two = false;
    if (n == 0 || d->dim == 0 || d->classes < 2)
        return ss_err_set(e, SS_EINVAL, "probe of %zu items, %zu features, %u classes", n, d->dim,
                          d->classes);
    for (size_t i = 0; i < n; i++) {
        if (rows[i] >= d->n || d->label[rows[i]] >= d->classes)
            return ss_err_set(e, SS_EINVAL, "item %u has no label among %u classes", rows[i], d->classes);
        two |= d->label[rows[i]] != d->label[rows[0]];
        for (size_t j = 0; j < d->dim; j++)
            if (!isfinite(d->x[rows[i] * d->dim + j]))
                return ss_err_set(e, SS_EUNFIT, "feature %zu of item %u is not finite", j, rows[i]);
    }
    return two ? 0 : ss_err_set(e, SS_EUNFIT, "all %zu training items are of one class", n);
}

void ss_standardise(const ss_labelled *d, const uint32_t *rows, size_t n, double *mean, double *scale)
{
    for (size_t j = 0; j < d->dim; j++)
        mean[j] = scale[j] = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d->dim; j++)
            mean[j] += d->x[rows[i] * d->dim + j];
    for (size_t j = 0; j < d->dim; j++)
        mean[j] /= (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d->dim; j++) {
            double v = d->x[rows[i] * d->dim + j] - mean[j];
            scale[j] += v * v;
        }
    for (size_t j = 0; j < d->dim; j++) {
        double deviation = sqrt(scale[j] / (double)n);
        scale[j] = deviation > 1e-12 * fabs(mean[j]) && deviation > 1e-150 ? 1 / deviation : 0;
    }
}

static int problem_open(problem *q, const ss_labelled *d, const uint32_t *rows, size_t n, const double *mean,
                        const double *scale)
{
    *q = (problem){.n = n, .dim = d->dim, .features = padded(d->dim), .classes = padded(d->classes)};
    q->rows = padded(n);
    q->nclasses = d->classes;
    size_t weights, z, tall = q->features > n ? q->features : n;
    if (!ss_mul(q->features, q->classes, &weights) || !ss_mul(q->features, q->rows, &z) ||
        weights > SIZE_MAX / 2 / PAIRS)
        return SS_ENOMEM;
    q->nparams = weights + q->classes;
    q->by_row = ss_zalloc(z, sizeof(double));
    q->by_feature = ss_zalloc(z, sizeof(double));
    q->packed = ss_alloc(tall, q->classes * sizeof(double));
    q->score = ss_alloc(q->rows, q->classes * sizeof(double));
    q->label = ss_alloc(n, sizeof *q->label);
    q->pair_s = ss_alloc(q->nparams, PAIRS * sizeof(double));
    q->pair_y = ss_alloc(q->nparams, PAIRS * sizeof(double));
    q->rho = ss_alloc(PAIRS, sizeof(double));
    q->now = ss_zalloc(q->nparams, sizeof(double));
    q->gradient = ss_zalloc(q->nparams, sizeof(double));
    q->next = ss_zalloc(q->nparams, sizeof(double));
    q->next_gradient = ss_zalloc(q->nparams, sizeof(double));
    q->step = ss_zalloc(q->nparams, sizeof(double));
    q->weighted = ss_alloc(z, sizeof(double));
    q->factor = ss_zalloc(q->features, q->features * sizeof(double));
    q->solved = ss_alloc(q->nparams, sizeof(double));
    if (!q->by_row || !q->by_feature || !q->packed || !q->score || !q->label || !q->pair_s || !q->pair_y ||
        !q->rho || !q->now || !q->gradient || !q->next || !q->next_gradient || !q->step || !q->weighted ||
        !q->factor || !q->solved)
        return SS_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        q->label[i] = d->label[rows[i]];
        for (size_t j = 0; j < d->dim; j++) {
            double v = (d->x[rows[i] * d->dim + j] - mean[j]) * scale[j];
            q->by_row[(i / PANEL * q->features + j) * PANEL + i % PANEL] = v;
            q->by_feature[(j / PANEL * n + i) * PANEL + j % PANEL] = v;
        }
    }
    return 0;
}

static void take(ss_probe *p, const problem *q)
{
    for (uint32_t c = 0; c < p->classes; c++) {
        for (size_t j = 0; j < p->dim; j++)
            p->weight[c * p->dim + j] = q->now[j * q->classes + c];
        p->bias[c] = q->now[q->features * q->classes + c];
    }
}

static int probe_open(ss_probe *p, const ss_labelled *d)
{
    *p = (ss_probe){.dim = d->dim, .classes = d->classes};
    p->mean = ss_alloc(d->dim, sizeof(double));
    p->scale = ss_alloc(d->dim, sizeof(double));
    p->weight = ss_alloc(d->dim, d->classes * sizeof(double));
    p->bias = ss_alloc(d->classes, sizeof(double));
    return p->mean && p->scale && p->weight && p->bias ? 0 : SS_ENOMEM;
}

int ss_probe_fit(ss_probe *p, const ss_labelled *d, const uint32_t *rows, size_t n, double strength,
                 ss_err *e)
{
    problem q = {0};
    *p = (ss_probe){0};
    int rc = check(d, rows, n, e);
    if (rc < 0)
        return rc;
    if (!(strength > 0) || isinf(strength))
        return ss_err_set(e, SS_EINVAL, "strength %g of the probe is not a positive number", strength);
    rc = probe_open(p, d);
    if (rc == 0) {
        ss_standardise(d, rows, n, p->mean, p->scale);
        rc = problem_open(&q, d, rows, n, p->mean, p->scale);
    }
    if (rc == 0) {
        p->strength = strength;
        q.lambda = 1 / (strength * (double)n);
        p->converged = minimise(&q, TOLERANCE, &p->iterations);
        take(p, &q);
    }
    problem_clear(&q);
    return rc < 0 ? ss_err_set(e, rc, "no memory for a probe of %zu items, %zu features", n, d->dim) : 0;
}

uint32_t ss_probe_predict(const ss_probe *p, const double *x, double *probability)
{
    uint32_t best = 0;
    double sum = 0;
    for (uint32_t c = 0; c < p->classes; c++) {
        double s = p->bias[c];
        for (size_t j = 0; j < p->dim; j++)
            s += p->weight[c * p->dim + j] * ((x[j] - p->mean[j]) * p->scale[j]);
        probability[c] = s;
        if (s > probability[best])
            best = c;
    }
    double most = probability[best];
    for (uint32_t c = 0; c < p->classes; c++)
        sum += probability[c] = exp(probability[c] - most);
    for (uint32_t c = 0; c < p->classes; c++)
        probability[c] /= sum;
    return best;
}

int ss_probe_grid(const ss_labelled *d, const uint32_t *rows, size_t n, const uint32_t *test, size_t ntest,
                  uint8_t *right, ss_err *e)
{
    problem q = {0};
    ss_probe p = {0};
    double *probability = NULL;
    int rc = check(d, rows, n, e), iterations;
    if (rc < 0)
        return rc;
    probability = ss_alloc(d->classes, sizeof *probability);
    rc = probability ? probe_open(&p, d) : SS_ENOMEM;
    if (rc == 0) {
        ss_standardise(d, rows, n, p.mean, p.scale);
        rc = problem_open(&q, d, rows, n, p.mean, p.scale);
    }
    for (int g = 0; rc == 0 && g < SS_PROBE_GRID; g++) {
        q.lambda = 1 / (ss_probe_strengths[g] * (double)n);
        minimise(&q, GRID_TOLERANCE, &iterations);
        take(&p, &q);
        for (size_t i = 0; i < ntest; i++)
            right[(size_t)g * ntest + i] =
                ss_probe_predict(&p, d->x + test[i] * d->dim, probability) == d->label[test[i]];
    }
    problem_clear(&q);
    ss_probe_clear(&p);
    ss_free(probability);
    return rc < 0 ? ss_err_set(e, rc, "no memory for a probe of %zu items, %zu features", n, d->dim) : 0;
}

int ss_probe_choose(ss_probe *p, const ss_labelled *d, const bool *held, ss_err *e)
{
    size_t n = 0, ntest = 0, best = 0, most = 0;
    *p = (ss_probe){0};
    for (size_t i = 0; i < d->n; i++)
        ntest += held[i];
    uint32_t *rows = ss_alloc(d->n, sizeof *rows), *test = ss_alloc(ntest, sizeof *test);
    uint8_t *right = ss_alloc(ntest, SS_PROBE_GRID);
    int rc =
        rows && test && right ? 0 : ss_err_set(e, SS_ENOMEM, "no memory to choose among %zu items", d->n);
    ntest = 0;
    for (size_t i = 0; i < d->n && rc == 0; i++)
        if (held[i])
            test[ntest++] = (uint32_t)i;
        else
            rows[n++] = (uint32_t)i;
    if (rc == 0)
        rc = ss_probe_grid(d, rows, n, test, ntest, right, e);
    for (size_t g = 0; g < SS_PROBE_GRID && rc == 0; g++) {
        size_t sum = 0;
        for (size_t i = 0; i < ntest; i++)
            sum += right[g * ntest + i];
        best = sum > most ? g : best;
        most = sum > most ? sum : most;
    }
    for (size_t i = 0; i < d->n && rc == 0; i++)
        rows[i] = (uint32_t)i;
    if (rc == 0)
        rc = ss_probe_fit(p, d, rows, d->n, ss_probe_strengths[best], e);
    ss_free(rows);
    ss_free(test);
    ss_free(right);
    return rc;
}

void ss_probe_clear(ss_probe *p)
{
    ss_free(p->mean);
    ss_free(p->scale);
    ss_free(p->weight);
    ss_free(p->bias);
    *p = (ss_probe){0};
}
