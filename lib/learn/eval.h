/**
 * Judging an embedding by labelled items: split, measure, compare. What ss-eval(1) does, as a library.
 *
 * A plan gives every item a part: row r of the result tests the items of part r and trains on all others,
 * those of part 0 included, which are never tested. Training means: standardisation, the probe and its
 * penalty (chosen inside the training items by leaving out one inner part after the other), and the reference
 * set of the neighbours.
 *
 * Threads: no shared state. Errors: SS_EUNFIT (a split that leaves a side empty or training with one class),
 * SS_ERANGE (share), SS_ENOMEM; those of the parts.
 */
#ifndef SS_LEARN_EVAL_H
#define SS_LEARN_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "items.h"
#include "stats.h"

typedef enum ss_metric {
    SS_METRIC_LINEAR,     /* accuracy of the linear probe */
    SS_METRIC_KNN,        /* accuracy of k-NN by cosine */
    SS_METRIC_PRECISION,  /* share of the own class among the nearest training items */
    SS_METRIC_SILHOUETTE, /* by cosine, among the tested items */
    SS_METRIC_ALIGNMENT,  /* over pairs of windows of one tested item */
    SS_METRIC_UNIFORMITY, /* over pairs of windows of the tested items */
    SS_METRICS
} ss_metric;

/** The first SS_OUTCOMES metrics are means of an outcome for each item, and can be compared item by item. */
enum { SS_OUTCOMES = 4 };

/** "linear_probe", "knn", "precision_at_10", "silhouette" ...; metric of a name [n], or SS_EINVAL. */
const char *ss_metric_name(int metric);
int ss_metric_parse(const char *name, size_t n);

typedef struct ss_eval_options {
    unsigned metrics;      /* bit of each */
    uint32_t neighbours;   /* k of k-NN; with fewer training items, as many as there are */
    uint32_t at;           /* k of precision; likewise */
    bool standardise;      /* neighbours and silhouette on features standardised by the training items too */
    uint32_t most_windows; /* alignment, uniformity: of more windows than this, a sample of so many */
    int rounds;            /* of bootstrap */
    uint64_t seed;
} ss_eval_options;

/** All metrics, k = 5, precision at 10, 4096 windows, 2000 rounds, seed 1. */
void ss_eval_options_default(ss_eval_options *o);

typedef struct ss_eval_row {
    uint32_t part;
    size_t train, test; /* items */
    double strength;    /* C that was chosen; NaN without a probe */
    bool converged;
    double value[SS_METRICS]; /* NaN where not measured */
} ss_eval_row;

typedef struct ss_eval {
    uint32_t classes;
    uint32_t *class_label; /* [classes] label of each class, ascending */
    size_t nrows;
    ss_eval_row *row;
    size_t n, tested;                               /* items; those in a part */
    uint32_t *class_of;                             /* [n] */
    uint32_t *part;                                 /* [n] */
    uint32_t *said;                                 /* [n] class the probe says; undefined where not tested */
    double *outcome[SS_OUTCOMES];                   /* [n] each; undefined where not tested */
    uint64_t *confusion;                            /* [classes true][classes said] of the probe */
    double value[SS_METRICS];                       /* over all tested items; NaN where not measured */
    double mean[SS_METRICS], deviation[SS_METRICS]; /* over rows */
    ss_interval interval[SS_METRICS]; /* 95 %: Wilson for the accuracies, bootstrap over items; NaN for the
                                         last two */
} ss_eval;

/** Parts from folds: all in turn for test_fold 0, else that one alone. Items without a fold get part 0. */
int ss_plan_folds(const ss_items *it, uint32_t test_fold, uint32_t *part, ss_err *e);

/**
 * A share (0 .. 1) of the groups of each label, drawn by seed, into part 1: at least one, and not all, where
 * a label has two. The rest into part 0.
 */
int ss_plan_holdout(const ss_items *it, double share, uint64_t seed, uint32_t *part, ss_err *e);

/**
 * Inner parts, from 1: the folds if every item has one and there are three of them or more; else five parts,
 * the groups of each label dealt to them in an order drawn by seed.
 */
int ss_plan_inner(const ss_items *it, uint64_t seed, uint32_t *inner, ss_err *e);

/** Measure. part, inner [it->n]. Release with ss_eval_clear, also after an error. */
int ss_eval_run(ss_eval *r, const ss_items *it, const uint32_t *part, const uint32_t *inner,
                const ss_eval_options *o, ss_err *e);
void ss_eval_clear(ss_eval *r);

/** From rows and outcomes to tested, value, interval (of the first SS_OUTCOMES asked for), mean, deviation.
 */
int ss_eval_summarise(ss_eval *r, unsigned metrics, int rounds, uint64_t seed, ss_err *e);

/**
 * For every item of `a` the one of `b` with the same clip number (of several, in their order) and the same
 * label by name.
 *   match [a->n]
 * SS_EUNFIT when the items are not the same.
 */
int ss_items_match(const ss_items *a, char *const *a_labels, const ss_items *b, char *const *b_labels,
                   uint32_t *match, ss_err *e);

/** Paired test of one of the first SS_OUTCOMES metrics over the items that both have tested: a - b. */
int ss_eval_compare(const ss_eval *a, const ss_eval *b, const uint32_t *match, int metric, int rounds,
                    uint64_t seed, ss_paired *out, ss_err *e);

#endif
