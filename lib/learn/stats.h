/**
 * Statistics of measured outcomes: intervals, and paired tests between two methods on the same items.
 * Items count as independent; clips cut from one recording are not quite, which makes intervals a little too
 * narrow. No state, safe from any thread. Random rounds come from `seed` alone: the same on every machine.
 */
#ifndef SS_LEARN_STATS_H
#define SS_LEARN_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

typedef struct ss_interval {
    double low, high;
} ss_interval;

/**
 * 95 % interval of a share, from `successes` of n (Wilson's score interval, without continuity correction).
 * successes may be fractional (means over repeated runs). n = 0 gives 0..1.
 * Source: E. B. Wilson, JASA 22 (1927) 209; Brown, Cai, DasGupta, Statistical Science 16 (2001) 101.
 */
ss_interval ss_wilson(double successes, double n);

/**
 * McNemar's exact test: the two-sided probability, by the binomial law with 1/2, of a split at least as
 * uneven as only_a against only_b (items that one method alone gets right). 1 when there are none.
 */
double ss_mcnemar(uint64_t only_a, uint64_t only_b);

/**
 * 95 % percentile bootstrap interval of the mean of v [n] over `rounds` draws of n items with replacement.
 * SS_EINVAL for n = 0 or rounds < 1, SS_ENOMEM. Source: Efron and Tibshirani, 1993, chapter 13.
 */
int ss_bootstrap_mean(const double *v, size_t n, int rounds, uint64_t seed, ss_interval *out);

/**
 * Sign-flip permutation test of paired differences d [n]: the share of `rounds` random sign patterns whose
 * mean is at least as far from 0 as that of d, the measured pattern counted with them (so never 0).
 * SS_EINVAL for n = 0 or rounds < 1.
 */
int ss_signflip(const double *d, size_t n, int rounds, uint64_t seed, double *p);

/** Two methods on the same items: a against b. */
typedef struct ss_paired {
    double difference;           /* mean of a - b */
    ss_interval interval;        /* of it, 95 % by bootstrap over items */
    uint64_t a_better, b_better; /* items */
    double p;                    /* two-sided */
    bool exact;                  /* McNemar, as all outcomes are 0 or 1; else sign flips */
} ss_paired;

/** Outcomes a [n] and b [n] of the same items. SS_EINVAL for n = 0 or rounds < 1, SS_ENOMEM. */
int ss_compare_paired(const double *a, const double *b, size_t n, int rounds, uint64_t seed, ss_paired *out);

/** Mean of v [n], and the sample deviation (divisor n - 1; 0 when n < 2). NaN for n = 0. */
void ss_mean_deviation(const double *v, size_t n, double *mean, double *deviation);

#endif
