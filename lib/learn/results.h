/**
 * Results as JSON, written and read back: what one run of ss-eval found, item by item, so that runs over
 * folds, seeds and encoders can be put together and compared over all clips.
 *
 * Threads: one at a time for each ss_results. Errors: SS_EDAMAGED (not an object of ours), SS_EUNFIT (no
 * outcomes in it, no line), SS_ENOMEM.
 */
#ifndef SS_LEARN_RESULTS_H
#define SS_LEARN_RESULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eval.h"

struct cJSON;

/**
 * An object with the members dim, items, tested, classes, one for each metric measured (over all tested
 * items; the mean over rows where there is no such value), interval, mean, deviation, folds [{fold, train,
 * test, strength, metrics}], and if asked confusion [true][said] and outcomes [{clip, fold, label, said,
 * metrics}]. NULL when memory is refused; release with cJSON_Delete.
 */
struct cJSON *ss_results_json(const ss_eval *r, const ss_items *it, char *const *labels, unsigned metrics,
                              bool confusion, bool outcomes);

typedef struct ss_results ss_results;

int ss_results_open(ss_results **s, ss_err *e);

/** Take one object, text [n], that has outcomes. */
int ss_results_add(ss_results *s, const char *text, size_t n, ss_err *e);

/**
 * Everything taken as one result: an item for each clip and label, its outcome the mean over the runs that
 * tested it; a row for each row of each run; the metrics that all runs have.
 *   it      n, clip, label, fold and no features; release with ss_items_clear
 *   labels  [*nlabels] belongs to `s`
 */
int ss_results_finish(ss_results *s, int rounds, uint64_t seed, ss_items *it, ss_eval *r, unsigned *metrics,
                      char ***labels, ss_err *e);
void ss_results_free(ss_results **s);

#endif
