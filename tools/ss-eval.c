/* ss-eval: how good a labelled stream is, by what simple classifiers and neighbours make of it. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "common.h"
#include "config.h"
#include "io/json.h"
#include "learn/eval.h"
#include "learn/items.h"
#include "learn/results.h"

static const char *pool = "meandev", *unit = "auto", *train_file, *compare_file;
static bool folds, differences, normalise, standardise, confusion, outcomes, from_results;
static int test_fold = 0, rounds = 10000;
static double holdout = 0;
static unsigned metrics = (1u << SS_METRICS) - 1;
static cJSON *tags;

static int set_metrics(const char *value, ss_err *e)
{
    metrics = 0;
    for (const char *p = value;; p++) {
        size_t n = strcspn(p, ",");
        int m = ss_metric_parse(p, n);
        if (m < 0)
            return ss_err_set(
                e, SS_EINVAL,
                "--metrics: found '%.*s', expected linear_probe, knn, precision_at_10, silhouette, "
                "alignment or uniformity",
                (int)n, p);
        metrics |= 1u << m;
        p += n;
        if (!*p)
            return 0;
    }
}

static int add_tag(const char *value, ss_err *e)
{
    size_t n = strcspn(value, "=");
    char *key = ss_strdup(value);
    if (!tags)
        tags = cJSON_CreateObject();
    int rc = 0;
    if (n == 0 || !value[n] || !ss_utf8_valid(value, strlen(value))) {
        rc = ss_err_set(e, SS_EINVAL, "--tag: found '%s', expected KEY=VALUE", value);
    } else if (key && tags) {
        key[n] = 0;
        cJSON_DeleteItemFromObjectCaseSensitive(tags, key);
        if (!cJSON_AddStringToObject(tags, key, value + n + 1))
            rc = SS_ENOMEM;
    } else {
        rc = SS_ENOMEM;
    }
    ss_free(key);
    return rc == SS_ENOMEM ? ss_err_set(e, rc, "no memory for a tag") : rc;
}

static const tool_option options[] = {
    {"test-fold", 0, OPT_INT, &test_fold, 1, 1e9, "N", "test on fold N, train on the others", NULL},
    {"folds", 0, OPT_FLAG, &folds, 0, 0, NULL, "test on every fold in turn (default where there are folds)",
     NULL},
    {"holdout", 0, OPT_REAL, &holdout, 0.01, 0.99, "SHARE",
     "test on that share, drawn by --seed (else: 0.25)", NULL},
    {"train", 0, OPT_STRING, &train_file, 0, 0, "FILE", "train on that stream, test on all of the other",
     NULL},
    {"pool", 0, OPT_CHOICE, &pool, 0, 0, "mean|meandev", "windows to one vector: mean, or mean and deviation",
     NULL},
    {"differences", 0, OPT_FLAG, &differences, 0, 0, NULL, "append the deviation of differences in time",
     NULL},
    {"unit", 0, OPT_CHOICE, &unit, 0, 0, "auto|clip|segment|window", "what is one item", NULL},
    {"normalise", 0, OPT_FLAG, &normalise, 0, 0, NULL, "pooled vectors to unit length, for the probe too",
     NULL},
    {"standardise", 0, OPT_FLAG, &standardise, 0, 0, NULL, "standardise features for the neighbours too",
     NULL},
    {"metrics", 0, OPT_CALL, NULL, 0, 0, "LIST", "of linear_probe,knn,precision_at_10,... [all]",
     set_metrics},
    {"compare", 0, OPT_STRING, &compare_file, 0, 0, "OTHER",
     "paired test against another stream of the same clips", NULL},
    {"results", 0, OPT_FLAG, &from_results, 0, 0, NULL,
     "files hold results of --json --outcomes: put them together", NULL},
    {"confusion", 0, OPT_FLAG, &confusion, 0, 0, NULL, "the confusion matrix of the probe too", NULL},
    {"outcomes", 0, OPT_FLAG, &outcomes, 0, 0, NULL, "with --json: what became of every item", NULL},
    {"tag", 0, OPT_CALL, NULL, 0, 0, "KEY=VALUE", "with --json: member of 'tags'; may be repeated", add_tag},
    {"rounds", 0, OPT_INT, &rounds, 100, 1e7, "N", "rounds of bootstrap and permutation", NULL},
    {0},
};

/* One side: items, what was found, and the names of the labels. */
typedef struct side {
    ss_items it;
    ss_eval r;
    unsigned metrics;
    char kind[32];
    char **labels;
    ss_header names;     /* owner of the labels of a stream */
    ss_results *results; /* ... of results */
} side;

static void side_clear(side *s)
{
    ss_items_clear(&s->it);
    ss_eval_clear(&s->r);
    ss_header_clear(&s->names);
    ss_results_free(&s->results);
}

static const char *called(const char *path)
{
    return !path || !strcmp(path, "-") ? "standard input" : path;
}

/* A stream's items; its labels are added to those of `s`. Called again, the items are appended. */
static int read_stream(side *s, const char *path, ss_err *e)
{
    ss_collect_options o = {.pool = strcmp(pool, "mean") ? SS_POOL_MEANDEV : SS_POOL_MEAN,
                            .unit = *unit == 'c'   ? SS_UNIT_CLIP
                                    : *unit == 's' ? SS_UNIT_SEGMENT
                                    : *unit == 'w' ? SS_UNIT_WINDOW
                                                   : SS_UNIT_AUTO,
                            .differences = differences,
                            .normalise = normalise,
                            .keep_windows = metrics >> SS_METRIC_ALIGNMENT & 3};
    ss_reader *r = NULL;
    ss_collect *c = NULL;
    const ss_header *h;
    const ss_record *rec;
    ss_items more = {0};
    uint32_t *map = NULL;
    int rc = tool_reader(&r, path, "embedding|logmel|cut", &h, e);
    if (rc < 0)
        return rc;
    if (s->it.n && s->it.unit != SS_UNIT_AUTO)
        o.unit = s->it.unit;
    rc = ss_collect_open(&c, &o, h, e);
    while (rc >= 0 && (rc = ss_reader_next(r, &rec, e)) > 0)
        rc = ss_collect_add(c, rec, e);
    if (rc >= 0)
        rc = ss_collect_finish(c, &more, e);
    if (rc == 0 && more.n == 0)
        rc = ss_err_set(e, SS_EUNFIT,
                        more.records ? "no record has a label: there is nothing to judge by"
                                     : "there is no record in it");
    if (rc == 0 && more.n == 1 && more.unit == SS_UNIT_CLIP && *unit == 'a')
        rc = ss_err_set(e, SS_EUNFIT,
                        "all labelled records are of one clip: --unit=window or --unit=segment may be meant");
    map = ss_alloc(h->nlabels, sizeof *map);
    if (rc == 0 && !map)
        rc = ss_err_set(e, SS_ENOMEM, "no memory for %u labels", h->nlabels);
    for (uint32_t l = 0; rc >= 0 && l < h->nlabels; l++)
        if ((rc = ss_header_add_label(&s->names, h->labels[l], e)) >= 0)
            map[l] = (uint32_t)rc;
    s->labels = s->names.labels;
    snprintf(s->kind, sizeof s->kind, "%s", h->kind);
    if (rc >= 0) {
        tool_info("%s: %zu records, %zu items of %zu features", called(path), more.records, more.n, more.dim);
        if (more.unlabelled)
            tool_warn("%s: %zu of %zu items have no label and are left out", called(path), more.unlabelled,
                      more.n + more.unlabelled);
        if (more.stray)
            tool_warn("%s: %zu of %zu records belong to no clip and are left out", called(path), more.stray,
                      more.records);
        if (s->it.n) {
            rc = ss_items_append(&s->it, &more, map, e);
        } else {
            s->it = more;
            more = (ss_items){0};
            rc = 0;
        }
    }
    if (rc < 0)
        ss_err_prefix(e, "%s", called(path));
    ss_free(map);
    ss_items_clear(&more);
    ss_collect_free(&c);
    ss_reader_close(&r);
    return rc;
}

/* One JSON object a line. */
static int read_results(side *s, const char *path, ss_err *e)
{
    bool standard = !path || !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t n;
    if (!f)
        return ss_err_errno(e, "cannot open '%s'", path);
    int rc = s->results ? 0 : ss_results_open(&s->results, e);
    while (rc == 0 && (n = getline(&line, &room, f)) >= 0) {
        number++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n > 0 && (rc = ss_results_add(s->results, line, (size_t)n, e)) < 0)
            ss_err_prefix(e, "%s: line %zu", called(path), number);
    }
    if (rc == 0 && ferror(f))
        rc = ss_err_errno(e, "cannot read '%s'", called(path));
    free(line);
    if (!standard)
        fclose(f);
    return rc;
}

/* How the items are split, in words. */
static char protocol[64];

static int plan(const side *s, size_t ntrain, uint32_t *part, uint32_t *inner, ss_err *e)
{
    const ss_items *it = &s->it;
    bool any = false;
    int rc;
    for (size_t i = 0; i < it->n; i++)
        any |= it->fold[i] != 0 && it->fold[i] != it->fold[0];
    if (train_file) {
        for (size_t i = 0; i < it->n; i++)
            part[i] = i >= ntrain;
        snprintf(protocol, sizeof protocol, "trained on another stream");
        rc = 0;
    } else if (test_fold || ((folds || any) && !(holdout > 0))) {
        rc = ss_plan_folds(it, (uint32_t)test_fold, part, e);
        if (test_fold)
            snprintf(protocol, sizeof protocol, "tested on fold %d", test_fold);
        else
            snprintf(protocol, sizeof protocol, "tested on every fold in turn");
    } else {
        double share = holdout > 0 ? holdout : 0.25;
        rc = ss_plan_holdout(it, share, tool_set.seed, part, e);
        snprintf(protocol, sizeof protocol, "tested on a share of %.4g", share);
    }
    return rc ? rc : ss_plan_inner(it, tool_set.seed, inner, e);
}

static int judge(side *s, const uint32_t *part, const uint32_t *inner, ss_err *e)
{
    ss_eval_options o;
    ss_eval_options_default(&o);
    o.metrics = s->metrics = metrics;
    o.standardise = standardise;
    o.rounds = rounds;
    o.seed = tool_set.seed;
    int rc = ss_eval_run(&s->r, &s->it, part, inner, &o, e);
    for (size_t t = 0; rc == 0 && t < s->r.nrows; t++)
        if (metrics >> SS_METRIC_LINEAR & 1 && !s->r.row[t].converged)
            tool_warn("the probe of part %u did not converge", s->r.row[t].part);
    return rc;
}

/* Everything about one or two streams. */
static int judge_streams(side *a, side *b, uint32_t **match, const char *path, ss_err *e)
{
    size_t ntrain = 0;
    int rc = 0;
    if (train_file) {
        rc = read_stream(a, train_file, e);
        ntrain = a->it.n;
    }
    if (rc == 0)
        rc = read_stream(a, path, e);
    if (rc == 0 && compare_file)
        rc = read_stream(b, compare_file, e);
    if (rc < 0)
        return rc;
    size_t n = a->it.n;
    uint32_t *part = ss_alloc(n, 4 * sizeof *part), *inner = part + n, *other = part + 2 * n;
    if (!part)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu items", n);
    rc = plan(a, ntrain, part, inner, e);
    if (rc == 0 && compare_file) {
        *match = ss_alloc(n, sizeof **match);
        rc = *match ? ss_items_match(&a->it, a->labels, &b->it, b->labels, *match, e)
                    : ss_err_set(e, SS_ENOMEM, "no memory to match %zu items", n);
        if (rc < 0)
            ss_err_prefix(e, "%s and %s", called(path), called(compare_file));
        /* Both sides are split alike. */
        for (size_t i = 0; rc == 0 && i < n; i++) {
            other[(*match)[i]] = part[i];
            other[n + (*match)[i]] = inner[i];
        }
    }
    if (rc == 0 && (rc = judge(a, part, inner, e)) < 0)
        ss_err_prefix(e, "%s", called(path));
    if (rc == 0 && compare_file && (rc = judge(b, other, other + n, e)) < 0)
        ss_err_prefix(e, "%s", called(compare_file));
    ss_free(part);
    return rc;
}

static int judge_results(side *a, side *b, uint32_t **match, int argc, char **argv, ss_err *e)
{
    int rc = argc ? 0 : read_results(a, NULL, e);
    for (int i = 0; rc == 0 && i < argc; i++)
        rc = read_results(a, argv[i], e);
    if (rc == 0 && compare_file)
        rc = read_results(b, compare_file, e);
    for (side *s = a; rc == 0 && s && s->results; s = s == a ? b : NULL) {
        rc = ss_results_finish(s->results, rounds, tool_set.seed, &s->it, &s->r, &s->metrics, &s->labels, e);
        s->metrics &= metrics;
        if (rc < 0)
            ss_err_prefix(e, "%s", s == a ? "results" : compare_file);
    }
    if (rc == 0 && compare_file) {
        *match = ss_alloc(a->it.n, sizeof **match);
        rc = *match ? ss_items_match(&a->it, a->labels, &b->it, b->labels, *match, e)
                    : ss_err_set(e, SS_ENOMEM, "no memory to match %zu items", a->it.n);
    }
    snprintf(protocol, sizeof protocol, "results put together");
    return rc;
}

/* tables of at most 80 columns */

static const char *const heading[SS_METRICS] = {"linear", "knn", "prec@10", "silhou", "align", "uniform"};

static void cells(const double *v, unsigned which)
{
    for (int k = 0; k < SS_METRICS; k++)
        if (which >> k & 1) {
            if (isnan(v[k]))
                printf(" %8s", "-");
            else
                printf(" %8.3f", v[k]);
        }
    putchar('\n');
}

static const char *unit_name(ss_unit u)
{
    return u == SS_UNIT_CLIP ? "clips" : u == SS_UNIT_SEGMENT ? "segments" : "windows";
}

static void print_table(const side *s)
{
    const ss_eval *r = &s->r;
    double low[SS_METRICS], high[SS_METRICS];
    printf("%zu %s of %u classes, %zu features each, %s\n\n", r->n, unit_name(s->it.unit), r->classes,
           s->it.dim, protocol);
    printf("%-10s %6s %6s", "fold", "train", "test");
    for (int k = 0; k < SS_METRICS; k++)
        if (s->metrics >> k & 1)
            printf(" %8s", heading[k]);
    putchar('\n');
    for (size_t t = 0; t < r->nrows; t++) {
        bool in_turn = from_results || (!train_file && r->nrows > 1) || test_fold;
        char name[16] = "-";
        if (in_turn)
            snprintf(name, sizeof name, "%u", r->row[t].part);
        printf("%-10s %6zu %6zu", name, r->row[t].train, r->row[t].test);
        cells(r->row[t].value, s->metrics);
    }
    if (r->nrows > 1) {
        printf("%-10s %6s %6s", "mean", "", "");
        cells(r->mean, s->metrics);
        printf("%-10s %6s %6s", "deviation", "", "");
        cells(r->deviation, s->metrics);
        printf("%-10s %6s %6zu", "all tested", "", r->tested);
        cells(r->value, s->metrics);
    }
    for (int k = 0; k < SS_METRICS; k++) {
        low[k] = r->interval[k].low;
        high[k] = r->interval[k].high;
    }
    printf("%-10s %6s %6s", "95 % from", "", "");
    cells(low, s->metrics);
    printf("%-10s %6s %6s", "to", "", "");
    cells(high, s->metrics);
}

/* Rows are what was true. Names are cut, columns numbered. */
static void print_confusion(const side *s)
{
    const ss_eval *r = &s->r;
    printf("\n%-16s", "true \\ said");
    for (uint32_t c = 0; c < r->classes; c++)
        printf(" %3u", c);
    putchar('\n');
    for (uint32_t c = 0; c < r->classes; c++) {
        printf("%3u %-12.12s", c, s->labels[r->class_label[c]]);
        for (uint32_t d = 0; d < r->classes; d++)
            printf(" %3" PRIu64, r->confusion[(size_t)c * r->classes + d]);
        putchar('\n');
    }
}

static int compare(const side *a, const side *b, const uint32_t *match, cJSON *json, ss_err *e)
{
    unsigned both = a->metrics & b->metrics;
    cJSON *all = json ? cJSON_AddObjectToObject(json, "compare") : NULL;
    bool ok = !json || (all && cJSON_AddStringToObject(all, "other", compare_file));
    if (!json)
        printf("\n%-16s %6s %6s %7s %17s %6s %6s  %s\n", "against OTHER", "this", "other", "differ",
               "95 % from   to", "better", "worse", "p");
    for (int k = 0; ok && k < SS_OUTCOMES; k++) {
        ss_paired p;
        if (!(both >> k & 1))
            continue;
        int rc = ss_eval_compare(&a->r, &b->r, match, k, rounds, tool_set.seed, &p, e);
        if (rc < 0)
            return rc;
        if (!json) {
            printf("%-16s %6.3f %6.3f %+7.3f %+8.3f %+8.3f %6" PRIu64 " %6" PRIu64 "  %.2g\n",
                   ss_metric_name(k), a->r.value[k], b->r.value[k], p.difference, p.interval.low,
                   p.interval.high, p.a_better, p.b_better, p.p);
            continue;
        }
        cJSON *o = cJSON_AddObjectToObject(all, ss_metric_name(k));
        cJSON *pair = cJSON_CreateDoubleArray((const double[]){p.interval.low, p.interval.high}, 2);
        ok = o && pair && cJSON_AddNumberToObject(o, "this", a->r.value[k]) &&
             cJSON_AddNumberToObject(o, "other", b->r.value[k]) &&
             cJSON_AddNumberToObject(o, "difference", p.difference) &&
             cJSON_AddItemToObject(o, "interval", pair);
        if (!ok) {
            cJSON_Delete(pair);
            break;
        }
        ok = cJSON_AddNumberToObject(o, "better", (double)p.a_better) &&
             cJSON_AddNumberToObject(o, "worse", (double)p.b_better) &&
             cJSON_AddNumberToObject(o, "p", p.p) &&
             cJSON_AddStringToObject(o, "test", p.exact ? "mcnemar" : "sign-flip");
    }
    return ok ? 0 : ss_err_set(e, SS_ENOMEM, "no memory for the comparison");
}

static int print_json(const side *a, const side *b, const uint32_t *match, ss_err *e)
{
    char *text = NULL;
    cJSON *o = ss_results_json(&a->r, &a->it, a->labels, a->metrics, confusion, outcomes);
    bool ok = o && cJSON_AddStringToObject(o, "protocol", protocol) &&
              cJSON_AddStringToObject(o, "unit", unit_name(a->it.unit)) &&
              (from_results ||
               (cJSON_AddStringToObject(o, "kind", a->kind) && cJSON_AddStringToObject(o, "pool", pool) &&
                cJSON_AddBoolToObject(o, "differences", differences) &&
                cJSON_AddBoolToObject(o, "standardise", standardise) &&
                cJSON_AddBoolToObject(o, "normalise", normalise))) &&
              cJSON_AddStringToObject(o, "version", SS_VERSION);
    if (ok && tags) {
        ok = cJSON_AddItemToObject(o, "tags", tags);
        if (ok)
            tags = NULL;
    }
    int rc = ok ? 0 : ss_err_set(e, SS_ENOMEM, "no memory for the result");
    if (rc == 0 && compare_file)
        rc = compare(a, b, match, o, e);
    if (rc == 0 && !(text = ss_json_print(o)))
        rc = ss_err_set(e, SS_ENOMEM, "no memory for the result");
    if (rc == 0)
        printf("%s\n", text);
    ss_free(text);
    cJSON_Delete(o);
    return rc;
}

static const tool_program program = {"ss-eval", "[FILE]",
                                     "Measure how good a labelled stream of embeddings (or features) is.",
                                     TAKES_SEED | TAKES_JSON, options};

int main(int argc, char **argv)
{
    int first = tool_start(&program, argc, argv), n = argc - first;
    side a = {0}, b = {0};
    uint32_t *match = NULL;
    ss_err e = {0};
    const char *path = n ? argv[first] : NULL;
    bool split = folds || test_fold || holdout > 0 || train_file;
    if (n > 1 && !from_results)
        tool_usage("one stream at a time: found '%s' too", argv[first + 1]);
    if (folds + (test_fold != 0) + (holdout > 0) + (train_file != NULL) > 1)
        tool_usage("--folds, --test-fold, --holdout and --train exclude each other");
    if (from_results && (split || confusion))
        tool_usage("--results takes the split as it was, and knows no confusion matrix");
    if (compare_file && train_file)
        tool_usage("--compare and --train exclude each other");
    if (outcomes && !tool_set.json)
        tool_usage("--outcomes needs --json");
    if ((path && compare_file && !strcmp(path, compare_file)) ||
        ((!path || !strcmp(path, "-")) &&
         ((compare_file && !strcmp(compare_file, "-")) || (train_file && !strcmp(train_file, "-")))))
        tool_usage("two streams cannot be one file");
    int rc = from_results ? judge_results(&a, &b, &match, n, argv + first, &e)
                          : judge_streams(&a, &b, &match, path, &e);
    if (rc == 0 && tool_set.json) {
        rc = print_json(&a, &b, match, &e);
    } else if (rc == 0) {
        print_table(&a);
        if (confusion && metrics >> SS_METRIC_LINEAR & 1)
            print_confusion(&a);
        if (compare_file)
            rc = compare(&a, &b, match, NULL, &e);
    }
    ss_free(match);
    side_clear(&a);
    side_clear(&b);
    cJSON_Delete(tags);
    return tool_finish(rc, &e);
}
