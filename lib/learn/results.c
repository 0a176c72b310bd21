#include "learn/results.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "learn/neighbours.h"

/* JSON has no NaN. */
static bool put(cJSON *o, const char *key, double v)
{
    return isfinite(v) ? cJSON_AddNumberToObject(o, key, v) != NULL : cJSON_AddNullToObject(o, key) != NULL;
}

static bool put_metrics(cJSON *o, const double *v, unsigned metrics, int most)
{
    bool ok = true;
    for (int k = 0; k < most; k++)
        if (metrics >> k & 1)
            ok &= put(o, ss_metric_name(k), v[k]);
    return ok;
}

/* Append a new object to an array; NULL when memory is refused. */
static cJSON *next_object(cJSON *list)
{
    cJSON *o = cJSON_CreateObject();
    if (o && !cJSON_AddItemToArray(list, o)) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

static bool put_rows(cJSON *top, const ss_eval *r, unsigned metrics)
{
    cJSON *list = cJSON_AddArrayToObject(top, "folds");
    bool ok = list != NULL;
    for (size_t t = 0; ok && t < r->nrows; t++) {
        cJSON *o = next_object(list);
        ok = o && put(o, "fold", r->row[t].part) && put(o, "train", (double)r->row[t].train) &&
             put(o, "test", (double)r->row[t].test) && put(o, "strength", r->row[t].strength) &&
             put_metrics(o, r->row[t].value, metrics, SS_METRICS);
    }
    return ok;
}

static bool put_outcomes(cJSON *top, const ss_eval *r, const ss_items *it, char *const *labels,
                         unsigned metrics)
{
    cJSON *list = cJSON_AddArrayToObject(top, "outcomes");
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < r->n; i++) {
        if (!r->part[i])
            continue;
        cJSON *o = next_object(list);
        double v[SS_OUTCOMES];
        for (int k = 0; k < SS_OUTCOMES; k++)
            v[k] = r->outcome[k][i];
        ok = o && put(o, "clip", (double)it->clip[i]) && put(o, "fold", it->fold[i]) &&
             cJSON_AddStringToObject(o, "label", labels[it->label[i]]);
        if (ok && r->confusion && metrics >> SS_METRIC_LINEAR & 1)
            ok = cJSON_AddStringToObject(o, "said", labels[r->class_label[r->said[i]]]) != NULL;
        ok = ok && put_metrics(o, v, metrics, SS_OUTCOMES);
    }
    return ok;
}

static bool put_confusion(cJSON *top, const ss_eval *r)
{
    cJSON *list = cJSON_AddArrayToObject(top, "confusion");
    bool ok = list != NULL;
    for (uint32_t c = 0; ok && c < r->classes; c++) {
        cJSON *row = cJSON_CreateArray();
        ok = row && cJSON_AddItemToArray(list, row);
        for (uint32_t d = 0; ok && d < r->classes; d++) {
            cJSON *n = cJSON_CreateNumber((double)r->confusion[(size_t)c * r->classes + d]);
            ok = n && cJSON_AddItemToArray(row, n);
        }
    }
    return ok;
}

cJSON *ss_results_json(const ss_eval *r, const ss_items *it, char *const *labels, unsigned metrics,
                       bool confusion, bool outcomes)
{
    cJSON *top = cJSON_CreateObject(), *o;
    double value[SS_METRICS];
    bool ok = top && put(top, "dim", (double)it->dim) && put(top, "items", (double)r->n) &&
              put(top, "tested", (double)r->tested);
    o = ok ? cJSON_AddArrayToObject(top, "classes") : NULL;
    ok = o != NULL;
    for (uint32_t c = 0; ok && c < r->classes; c++) {
        cJSON *name = cJSON_CreateString(labels[r->class_label[c]]);
        ok = name && cJSON_AddItemToArray(o, name);
    }
    for (int k = 0; k < SS_METRICS; k++)
        value[k] = isnan(r->value[k]) ? r->mean[k] : r->value[k];
    ok = ok && put_metrics(top, value, metrics, SS_METRICS);
    o = ok ? cJSON_AddObjectToObject(top, "interval") : NULL;
    ok = o != NULL;
    for (int k = 0; ok && k < SS_OUTCOMES; k++) {
        if (!(metrics >> k & 1))
            continue;
        cJSON *pair = cJSON_CreateDoubleArray((const double[]){r->interval[k].low, r->interval[k].high}, 2);
        ok = pair && cJSON_AddItemToObject(o, ss_metric_name(k), pair);
        if (!ok)
            cJSON_Delete(pair); /* adding takes a copy of the name, and may fail */
    }
    o = ok ? cJSON_AddObjectToObject(top, "mean") : NULL;
    ok = o && put_metrics(o, r->mean, metrics, SS_METRICS);
    o = ok ? cJSON_AddObjectToObject(top, "deviation") : NULL;
    ok = o && put_metrics(o, r->deviation, metrics, SS_METRICS) && put_rows(top, r, metrics);
    if (ok && confusion && metrics >> SS_METRIC_LINEAR & 1 && r->confusion)
        ok = put_confusion(top, r);
    if (ok && outcomes)
        ok = put_outcomes(top, r, it, labels, metrics);
    if (ok)
        return top;
    cJSON_Delete(top);
    return NULL;
}

typedef struct outcome {
    uint64_t clip;
    uint32_t label, fold;
    double value[SS_OUTCOMES];
} outcome;

struct ss_results {
    ss_header names; /* its label table */
    size_t dim;
    outcome *outcome;
    size_t n, room;
    ss_eval_row *row;
    size_t nrows;
    unsigned metrics;
};

int ss_results_open(ss_results **s, ss_err *e)
{
    *s = ss_zalloc(1, sizeof **s);
    if (!*s)
        return ss_err_set(e, SS_ENOMEM, "no memory for results");
    (*s)->metrics = (1u << SS_METRICS) - 1;
    return 0;
}

/* Metrics of an object into v: NaN where absent or null. The bits of those present, or negative. */
static int get_metrics(const cJSON *o, int most, double *v, ss_err *e)
{
    int have = 0;
    for (int k = 0; k < most; k++) {
        v[k] = NAN;
        const cJSON *m = cJSON_GetObjectItemCaseSensitive(o, ss_metric_name(k));
        if (m && !cJSON_IsNull(m)) {
            int rc = ss_json_number(o, ss_metric_name(k), -1e9, 1e9, v + k, e);
            if (rc < 0)
                return rc;
        }
        have |= (m != NULL) << k;
    }
    return have;
}

static int add_outcome(ss_results *s, const cJSON *o, ss_err *e)
{
    int64_t clip = -1, fold = 0;
    const char *label = NULL;
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        outcome *grown = ss_realloc(s->outcome, room, sizeof *grown);
        if (!grown)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu outcomes", room);
        s->outcome = grown;
        s->room = room;
    }
    outcome *w = s->outcome + s->n;
    int rc = ss_json_int(o, "clip", 0, INT64_C(1) << 53, &clip, e);
    if (rc >= 0)
        rc = ss_json_int(o, "fold", 0, UINT32_MAX, &fold, e);
    if (rc >= 0)
        rc = ss_json_string(o, "label", 1024, &label, e);
    if (rc >= 0 && (clip < 0 || !label))
        rc = ss_err_set(e, SS_EDAMAGED, "an outcome without clip and label");
    if (rc >= 0)
        rc = ss_header_add_label(&s->names, label, e);
    if (rc < 0)
        return rc;
    *w = (outcome){.clip = (uint64_t)clip, .label = (uint32_t)rc, .fold = (uint32_t)fold};
    rc = get_metrics(o, SS_OUTCOMES, w->value, e);
    if (rc < 0)
        return rc;
    for (int k = 0; k < SS_OUTCOMES; k++)
        if (isnan(w->value[k]))
            s->metrics &= ~(1u << k);
    s->n++;
    return 0;
}

static int add_row(ss_results *s, const cJSON *o, ss_err *e)
{
    int64_t fold = 0, train = 0, test = 0;
    ss_eval_row *grown = ss_realloc(s->row, s->nrows + 1, sizeof *grown);
    if (!grown)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu rows", s->nrows + 1);
    s->row = grown;
    ss_eval_row *row = s->row + s->nrows;
    *row = (ss_eval_row){.strength = NAN, .converged = true};
    const cJSON *strength = cJSON_GetObjectItemCaseSensitive(o, "strength");
    int rc = ss_json_int(o, "fold", 0, UINT32_MAX, &fold, e);
    if (rc >= 0)
        rc = ss_json_int(o, "train", 0, INT64_C(1) << 40, &train, e);
    if (rc >= 0)
        rc = ss_json_int(o, "test", 0, INT64_C(1) << 40, &test, e);
    if (rc >= 0 && strength && !cJSON_IsNull(strength))
        rc = ss_json_number(o, "strength", 0, 1e300, &row->strength, e);
    if (rc >= 0)
        rc = get_metrics(o, SS_METRICS, row->value, e);
    if (rc < 0)
        return rc;
    row->part = (uint32_t)fold;
    row->train = (size_t)train;
    row->test = (size_t)test;
    s->metrics &= (unsigned)rc;
    s->nrows++;
    return 0;
}

int ss_results_add(ss_results *s, const char *text, size_t n, ss_err *e)
{
    cJSON *top = NULL;
    const cJSON *list = NULL, *o;
    int64_t dim = 0;
    int rc = ss_json_parse(&top, text, n, "result", e);
    if (rc == 0 && !cJSON_IsObject(top))
        rc = ss_err_set(e, SS_EDAMAGED, "result: found no object");
    if (rc == 0)
        rc = ss_json_int(top, "dim", 0, INT64_C(1) << 40, &dim, e);
    s->dim = (size_t)dim;
    if (rc >= 0)
        rc = ss_json_array(top, "folds", &list, e);
    if (rc >= 0)
        cJSON_ArrayForEach(o, list) if ((rc = add_row(s, o, e)) < 0) break;
    list = NULL;
    if (rc >= 0)
        rc = ss_json_array(top, "outcomes", &list, e);
    if (rc >= 0 && (!list || !list->child))
        rc = ss_err_set(e, SS_EUNFIT, "a result without outcomes: make it with --json --outcomes");
    if (rc >= 0)
        cJSON_ArrayForEach(o, list) if ((rc = add_outcome(s, o, e)) < 0) break;
    cJSON_Delete(top);
    return rc < 0 ? rc : 0;
}

static int by_clip(const void *a, const void *b)
{
    const outcome *x = a, *y = b;
    if (x->clip != y->clip)
        return x->clip < y->clip ? -1 : 1;
    return (x->label > y->label) - (x->label < y->label);
}

int ss_results_finish(ss_results *s, int rounds, uint64_t seed, ss_items *it, ss_eval *r, unsigned *metrics,
                      char ***labels, ss_err *e)
{
    *it = (ss_items){.unit = SS_UNIT_CLIP, .dim = s->dim};
    *r = (ss_eval){0};
    if (s->n == 0)
        return ss_err_set(e, SS_EUNFIT, "no result");
    it->label = ss_alloc(s->n, sizeof *it->label);
    it->fold = ss_alloc(s->n, sizeof *it->fold);
    it->clip = ss_alloc(s->n, sizeof *it->clip);
    r->part = ss_alloc(s->n, sizeof *r->part);
    r->class_label = ss_alloc(s->names.nlabels, sizeof *r->class_label);
    r->row = ss_alloc(s->nrows, sizeof *r->row);
    bool room = it->label && it->fold && it->clip && r->part && r->class_label && r->row;
    for (int k = 0; k < SS_OUTCOMES; k++)
        room &= (r->outcome[k] = ss_alloc(s->n, sizeof(double))) != NULL;
    if (!room)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu outcomes", s->n);
    qsort(s->outcome, s->n, sizeof *s->outcome, by_clip);
    for (size_t i = 0, next; i < s->n; i = next) {
        double sum[SS_OUTCOMES] = {0};
        for (next = i; next < s->n && by_clip(s->outcome + i, s->outcome + next) == 0; next++)
            for (int k = 0; k < SS_OUTCOMES; k++)
                sum[k] += s->outcome[next].value[k];
        it->clip[it->n] = s->outcome[i].clip;
        it->label[it->n] = s->outcome[i].label;
        it->fold[it->n] = s->outcome[i].fold;
        r->part[it->n] = 1;
        for (int k = 0; k < SS_OUTCOMES; k++)
            r->outcome[k][it->n] = sum[k] / (double)(next - i);
        it->n++;
    }
    r->n = it->n;
    r->classes = s->names.nlabels;
    for (uint32_t c = 0; c < r->classes; c++)
        r->class_label[c] = c;
    r->nrows = s->nrows;
    memcpy(r->row, s->row, s->nrows * sizeof *r->row);
    *metrics = s->metrics;
    *labels = s->names.labels;
    return ss_eval_summarise(r, s->metrics, rounds, seed, e);
}

void ss_results_free(ss_results **s)
{
    if (!*s)
        return;
    ss_header_clear(&(*s)->names);
    ss_free((*s)->outcome);
    ss_free((*s)->row);
    ss_free(*s);
    *s = NULL;
}
