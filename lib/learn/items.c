#include "learn/items.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "io/json.h"
#include "learn/neighbours.h"

enum { RUN = 10 /* neighbouring windows that stay together in a random split */ };

/* One item while it grows; its sums lie in `sums`, 4 * base doubles: of vectors, their squares, differences,
 * squares. */
typedef struct item {
    uint32_t device, fold, label;
    uint64_t epoch, clip;
    uint64_t vectors, differences;
    double end_ns; /* end of the last vector taken, for overlapping windows */
} item;

struct ss_collect {
    ss_collect_options o;
    const ss_header *h;
    double hop_ns; /* of a frame, 0 = unknown */
    uint8_t rank;
    uint32_t dim[SS_MAX_RANK];
    size_t base; /* length of one vector */
    size_t elements;
    float *flat;     /* [elements] payload as f32 */
    double *vectors; /* [frames][base] of one record */
    size_t n, room;
    item *items;
    double *sums;    /* [room][4][base] */
    float *last;     /* [room][base] the vector before */
    uint32_t *table; /* open addressing, item + 1 */
    size_t slots;
    size_t nwindows, window_room;
    float *window;
    uint32_t *owner, *window_label;
    uint32_t last_device;
    size_t records, stray;
};

#define NONE UINT32_MAX

int ss_collect_open(ss_collect **c, const ss_collect_options *o, const ss_header *h, ss_err *e)
{
    ss_collect *k = *c = ss_zalloc(1, sizeof *k);
    if (!k)
        return ss_err_set(e, SS_ENOMEM, "no memory to collect items");
    k->o = *o;
    k->h = h;
    cJSON *frontend = NULL;
    double hop = 0, rate = 0;
    if (h->frontend && ss_json_parse(&frontend, h->frontend, strlen(h->frontend), "front end", NULL) == 0 &&
        ss_json_number(frontend, "hop", 1, 1e9, &hop, NULL) > 0 &&
        ss_json_number(frontend, "rate", 1, 1e9, &rate, NULL) > 0)
        k->hop_ns = hop / rate * 1e9;
    cJSON_Delete(frontend);
    return 0;
}

static uint64_t hash(uint32_t device, uint64_t epoch, uint64_t clip)
{
    uint64_t h =
        (device * 0x9e3779b97f4a7c15u) ^ (epoch * 0xbf58476d1ce4e5b9u) ^ (clip * 0x94d049bb133111ebu);
    h ^= h >> 31;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static void table_put(uint32_t *table, size_t slots, const item *it, uint32_t index)
{
    size_t s = hash(it->device, it->epoch, it->clip) & (slots - 1);
    while (table[s])
        s = (s + 1) & (slots - 1);
    table[s] = index + 1;
}

static int grow(ss_collect *k)
{
    size_t room = k->room ? 2 * k->room : 64, slots = 2 * room, cells;
    if (room > UINT32_MAX / 2 || !ss_mul(room, 4 * k->base, &cells))
        return SS_ENOMEM;
    item *items = ss_realloc(k->items, room, sizeof *items);
    if (items)
        k->items = items;
    double *sums = ss_realloc(k->sums, cells, sizeof *sums);
    if (sums)
        k->sums = sums;
    float *last = ss_realloc(k->last, cells / 4, sizeof *last);
    if (last)
        k->last = last;
    uint32_t *table = ss_zalloc(slots, sizeof *table);
    if (!items || !sums || !last || !table) {
        ss_free(table);
        return SS_ENOMEM;
    }
    for (size_t i = 0; i < k->n; i++)
        table_put(table, slots, k->items + i, (uint32_t)i);
    ss_free(k->table);
    k->table = table;
    k->slots = slots;
    k->room = room;
    return 0;
}

/* The item of a record, a new one if need be: its index, or negative. */
static int64_t find(ss_collect *k, const ss_record *r, uint32_t label)
{
    uint64_t clip = k->o.unit == SS_UNIT_CLIP ? ss_attr_uint(&r->attrs, SS_ATTR_CLIP, 0) : k->n;
    if (k->o.unit == SS_UNIT_SEGMENT && k->n && k->items[k->n - 1].label == label &&
        k->items[k->n - 1].device == r->device && k->items[k->n - 1].epoch == r->epoch)
        return (int64_t)k->n - 1;
    if (k->o.unit == SS_UNIT_CLIP && k->slots) {
        for (size_t s = hash(r->device, r->epoch, clip) & (k->slots - 1); k->table[s];
             s = (s + 1) & (k->slots - 1)) {
            const item *it = k->items + (k->table[s] - 1);
            if (it->device == r->device && it->epoch == r->epoch && it->clip == clip)
                return k->table[s] - 1;
        }
    }
    if (k->n == k->room) {
        int rc = grow(k);
        if (rc < 0)
            return rc;
    }
    k->items[k->n] = (item){.device = r->device,
                            .epoch = r->epoch,
                            .clip = clip,
                            .label = label,
                            .fold = (uint32_t)ss_attr_uint(&r->attrs, SS_ATTR_FOLD, 0),
                            .end_ns = -INFINITY};
    memset(k->sums + k->n * 4 * k->base, 0, 4 * k->base * sizeof *k->sums);
    table_put(k->table, k->slots, k->items + k->n, (uint32_t)k->n);
    return (int64_t)k->n++;
}

static int add_window(ss_collect *k, uint32_t owner, uint32_t label, const double *v)
{
    if (k->nwindows == k->window_room) {
        size_t room = k->window_room ? 2 * k->window_room : 256, cells;
        if (!ss_mul(room, k->base, &cells))
            return SS_ENOMEM;
        uint32_t *o = ss_realloc(k->owner, room, sizeof *o);
        if (o)
            k->owner = o;
        uint32_t *l = ss_realloc(k->window_label, room, sizeof *l);
        if (l)
            k->window_label = l;
        float *w = k->o.keep_windows ? ss_realloc(k->window, cells, sizeof *w) : NULL;
        if (w)
            k->window = w;
        if (!o || !l || (k->o.keep_windows && !w))
            return SS_ENOMEM;
        k->window_room = room;
    }
    k->owner[k->nwindows] = owner;
    k->window_label[k->nwindows] = label;
    for (size_t j = 0; k->o.keep_windows && j < k->base; j++)
        k->window[k->nwindows * k->base + j] = (float)v[j];
    k->nwindows++;
    return 0;
}

/* Payload to f32; false for a dtype that is not a tensor of numbers. */
static bool to_f32(const ss_record *r, size_t n, float *out)
{
    float scale = ss_attr_f32(&r->attrs, SS_ATTR_SCALE, 1);
    switch (r->dtype) {
    case SS_DTYPE_F32:
        memcpy(out, r->data, n * sizeof *out);
        return true;
    case SS_DTYPE_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = ss_f16_to_f32(((const uint16_t *)r->data)[i]);
        return true;
    case SS_DTYPE_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = ss_bf16_to_f32(((const uint16_t *)r->data)[i]);
        return true;
    case SS_DTYPE_I8:
        for (size_t i = 0; i < n; i++)
            out[i] = scale * (float)((const int8_t *)r->data)[i];
        return true;
    case SS_DTYPE_U8:
        for (size_t i = 0; i < n; i++)
            out[i] = scale * (float)((const uint8_t *)r->data)[i];
        return true;
    case SS_DTYPE_F64:
        for (size_t i = 0; i < n; i++)
            out[i] = (float)((const double *)r->data)[i];
        return true;
    default:
        return false;
    }
}

/* The first record fixes shape, unit and room. */
static int first_record(ss_collect *k, const ss_record *r, ss_err *e)
{
    if (r->rank < 1 || r->rank > 3)
        return ss_err_set(e, SS_EUNFIT,
                          "record %" PRIu64 " has rank %d, expected [d], [bands][frames] or "
                          "[channels][height][width]",
                          r->seq, r->rank);
    k->rank = r->rank;
    k->elements = 1;
    for (int i = 0; i < r->rank; i++) {
        k->dim[i] = r->dim[i];
        if (r->dim[i] == 0 || !ss_mul(k->elements, r->dim[i], &k->elements))
            return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " is empty", r->seq);
    }
    k->base = r->dim[0];
    if (k->o.unit == SS_UNIT_AUTO)
        k->o.unit = ss_attr_has(&r->attrs, SS_ATTR_CLIP) ? SS_UNIT_CLIP : SS_UNIT_WINDOW;
    k->flat = ss_alloc(k->elements, sizeof *k->flat);
    k->vectors = ss_alloc(k->elements + k->base, sizeof *k->vectors);
    if (!k->flat || !k->vectors)
        return ss_err_set(e, SS_ENOMEM, "no memory for records of %zu values", k->elements);
    return 0;
}

/* k->flat into vectors [frames][base]; behind them, their mean. Returns frames. */
static size_t split_vectors(ss_collect *k)
{
    size_t rest = k->elements / k->base, frames = k->rank == 2 ? rest : 1;
    double *v = k->vectors, *mean = v + frames * k->base;
    for (size_t j = 0; j < k->base; j++) {
        double sum = 0;
        for (size_t t = 0; t < rest; t++) {
            sum += k->flat[j * rest + t];
            if (k->rank == 2)
                v[t * k->base + j] = k->flat[j * rest + t];
        }
        mean[j] = sum / (double)rest;
        if (k->rank != 2)
            v[j] = mean[j];
    }
    return frames;
}

static void accumulate(ss_collect *k, size_t index, const double *v, bool follows)
{
    item *it = k->items + index;
    double *sum = k->sums + index * 4 * k->base, *square = sum + k->base, *dsum = square + k->base,
           *dsquare = dsum + k->base;
    float *last = k->last + index * k->base;
    if (follows && it->vectors) {
        for (size_t j = 0; j < k->base; j++) {
            double d = v[j] - last[j];
            dsum[j] += d;
            dsquare[j] += d * d;
        }
        it->differences++;
    }
    for (size_t j = 0; j < k->base; j++) {
        sum[j] += v[j];
        square[j] += v[j] * v[j];
        last[j] = (float)v[j];
    }
    it->vectors++;
}

int ss_collect_add(ss_collect *k, const ss_record *r, ss_err *e)
{
    if (r->type != SS_TYPE_DATA)
        return 0;
    int rc = k->rank ? 0 : first_record(k, r, e);
    if (rc < 0)
        return rc;
    if (r->rank != k->rank || memcmp(r->dim, k->dim, k->rank * sizeof *r->dim) != 0)
        return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " has another shape than the first", r->seq);
    k->records++;
    if (k->o.unit == SS_UNIT_CLIP && !ss_attr_has(&r->attrs, SS_ATTR_CLIP)) {
        k->stray++;
        return 0;
    }
    uint32_t label = NONE;
    if (ss_attr_has(&r->attrs, SS_ATTR_LABEL)) {
        uint64_t l = ss_attr_uint(&r->attrs, SS_ATTR_LABEL, 0);
        if (l >= k->h->nlabels)
            return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " has label %" PRIu64 ", the table holds %u",
                              r->seq, l, k->h->nlabels);
        label = (uint32_t)l;
    }
    if (!to_f32(r, k->elements, k->flat)) {
        const char *name = ss_dtype_name(r->dtype);
        return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " is %s, expected f32, f16, bf16, i8 or f64",
                          r->seq, name ? name : "of an unknown dtype");
    }
    for (size_t i = 0; i < k->elements; i++)
        if (!isfinite(k->flat[i]))
            return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 ": value %zu is not finite", r->seq, i);
    int64_t index = find(k, r, label);
    if (index < 0)
        return ss_err_set(e, (int)index, "no memory for item %zu", k->n);
    item *it = k->items + index;
    if (it->fold != ss_attr_uint(&r->attrs, SS_ATTR_FOLD, 0)) {
        if (k->o.unit == SS_UNIT_CLIP)
            return ss_err_set(e, SS_EUNFIT, "clip %" PRIu64 " lies in folds %u and %" PRIu64, it->clip,
                              it->fold, ss_attr_uint(&r->attrs, SS_ATTR_FOLD, 0));
        it->fold = 0;
    }
    size_t frames = split_vectors(k);
    double hop = k->rank == 2 ? k->hop_ns : 0, start = (double)(r->time_ns - (int64_t)r->epoch);
    for (size_t t = 0; t < frames; t++) {
        double at = start + (double)t * hop;
        if (hop > 0 && at < it->end_ns - hop / 2)
            continue;
        bool follows = hop > 0 ? at < it->end_ns + hop / 2 : k->rank != 2 || t > 0;
        accumulate(k, (size_t)index, k->vectors + t * k->base, follows);
        it->end_ns = at + hop;
    }
    if (add_window(k, (uint32_t)index, label, k->vectors + frames * k->base) < 0)
        return ss_err_set(e, SS_ENOMEM, "no memory for window %zu", k->nwindows);
    return 0;
}

static double deviation(double sum, double square, uint64_t n)
{
    if (n == 0)
        return 0;
    double mean = sum / (double)n;
    /* What is left of equal values is rounding. */
    double variance = square / (double)n - mean * mean;
    return variance > 1e-13 * square / (double)n ? sqrt(variance) : 0;
}

static void pool(const ss_collect *k, size_t index, double *out)
{
    const item *it = k->items + index;
    const double *sum = k->sums + index * 4 * k->base, *square = sum + k->base, *dsum = square + k->base,
                 *dsquare = dsum + k->base;
    for (size_t j = 0; j < k->base; j++)
        *out++ = sum[j] / (double)it->vectors;
    for (size_t j = 0; k->o.pool == SS_POOL_MEANDEV && j < k->base; j++)
        *out++ = deviation(sum[j], square[j], it->vectors);
    for (size_t j = 0; k->o.differences && j < k->base; j++)
        *out++ = deviation(dsum[j], dsquare[j], it->differences);
}

/* Label of each item by the votes of its windows, or NONE, into k->items[].label. */
static int vote(ss_collect *k)
{
    size_t *start = ss_zalloc(k->n + 1, sizeof *start);
    uint32_t *order = ss_alloc(k->nwindows, sizeof *order), *votes = ss_alloc(k->h->nlabels, sizeof *votes);
    int rc = start && order && votes ? 0 : SS_ENOMEM;
    for (size_t i = 0; rc == 0 && i < k->nwindows; i++)
        start[k->owner[i] + 1]++;
    for (size_t i = 0; rc == 0 && i < k->n; i++)
        start[i + 1] += start[i];
    for (size_t i = k->nwindows; rc == 0 && i-- > 0;)
        order[--start[k->owner[i] + 1]] = k->window_label[i];
    /* start[i + 1] is now the beginning of item i; the end is that of the next one. */
    for (size_t i = 0; rc == 0 && i < k->n; i++) {
        size_t from = start[i + 1], to = i + 1 < k->n ? start[i + 2] : k->nwindows;
        memset(votes, 0, k->h->nlabels * sizeof *votes);
        k->items[i].label = NONE;
        for (size_t w = from; w < to; w++)
            if (order[w] != NONE)
                votes[order[w]]++;
        for (uint32_t l = 0; l < k->h->nlabels; l++)
            if (votes[l] && (k->items[i].label == NONE || votes[l] > votes[k->items[i].label]))
                k->items[i].label = l;
    }
    ss_free(start);
    ss_free(order);
    ss_free(votes);
    return rc;
}

static int items_room(ss_items *it)
{
    it->x = ss_alloc(it->n, it->dim * sizeof *it->x);
    it->label = ss_alloc(it->n, sizeof *it->label);
    it->fold = ss_alloc(it->n, sizeof *it->fold);
    it->group = ss_alloc(it->n, sizeof *it->group);
    it->clip = ss_alloc(it->n, sizeof *it->clip);
    it->owner = ss_alloc(it->nwindows, sizeof *it->owner);
    it->window = ss_alloc(it->nwindows, it->window_dim * sizeof *it->window);
    return it->x && it->label && it->fold && it->group && it->clip && it->owner && it->window ? 0 : SS_ENOMEM;
}

int ss_collect_finish(ss_collect *k, ss_items *out, ss_err *e)
{
    *out = (ss_items){.unit = k->o.unit, .records = k->records, .stray = k->stray};
    uint32_t *place = ss_alloc(k->n, sizeof *place); /* item to its place among those with a label */
    int rc = place ? vote(k) : SS_ENOMEM;
    if (rc < 0)
        goto out;
    for (size_t i = 0; i < k->n; i++)
        place[i] = k->items[i].label == NONE ? NONE : (uint32_t)out->n++;
    out->unlabelled = k->n - out->n;
    out->dim = k->base * (1u + (k->o.pool == SS_POOL_MEANDEV) + k->o.differences);
    for (size_t w = 0; k->o.keep_windows && w < k->nwindows; w++)
        out->nwindows += place[k->owner[w]] != NONE;
    out->window_dim = k->base;
    rc = items_room(out);
    if (rc < 0)
        goto out;
    uint32_t group = 0, run = 0;
    for (size_t i = 0, last = NONE; i < k->n; i++) {
        uint32_t at = place[i];
        if (at == NONE)
            continue;
        pool(k, i, out->x + at * out->dim);
        out->label[at] = k->items[i].label;
        out->fold[at] = k->items[i].fold;
        out->clip[at] = k->items[i].clip;
        /* Neighbouring windows share sound: runs of them stay together. */
        bool joins = k->o.unit == SS_UNIT_WINDOW && last + 1 == i &&
                     k->items[last].label == k->items[i].label &&
                     k->items[last].device == k->items[i].device && ++run < RUN;
        if (!joins) {
            group += at > 0;
            run = 0;
        }
        out->group[at] = group;
        last = i;
    }
    if (k->o.normalise)
        ss_unit_rows(out->x, out->n, out->dim, out->x);
    for (size_t w = 0, to = 0; to < out->nwindows; w++) {
        if (place[k->owner[w]] == NONE)
            continue;
        out->owner[to] = place[k->owner[w]];
        memcpy(out->window + to * k->base, k->window + w * k->base, k->base * sizeof *k->window);
        to++;
    }
out:
    ss_free(place);
    if (rc < 0) {
        ss_items_clear(out);
        return ss_err_set(e, rc, "no memory for %zu items", k->n);
    }
    return 0;
}

void ss_collect_free(ss_collect **c)
{
    ss_collect *k = *c;
    if (!k)
        return;
    ss_free(k->flat);
    ss_free(k->vectors);
    ss_free(k->items);
    ss_free(k->sums);
    ss_free(k->last);
    ss_free(k->table);
    ss_free(k->window);
    ss_free(k->owner);
    ss_free(k->window_label);
    ss_free(k);
    *c = NULL;
}

int ss_items_append(ss_items *to, const ss_items *from, const uint32_t *map, ss_err *e)
{
    if (to->dim != from->dim || to->window_dim != from->window_dim)
        return ss_err_set(e, SS_EUNFIT, "%zu features against %zu", to->dim, from->dim);
    ss_items sum = *to;
    sum.n += from->n;
    sum.nwindows += from->nwindows;
    sum.records += from->records;
    sum.unlabelled += from->unlabelled;
    sum.stray += from->stray;
    if (sum.n >= NONE)
        return ss_err_set(e, SS_ELIMIT, "%zu items are too many", sum.n);
    if (items_room(&sum) < 0) {
        ss_items_clear(&sum);
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu items", to->n + from->n);
    }
    uint32_t groups = 0;
    for (size_t i = 0; i < to->n; i++)
        groups = to->group[i] >= groups ? to->group[i] + 1 : groups;
    memcpy(sum.x, to->x, to->n * to->dim * sizeof *to->x);
    memcpy(sum.x + to->n * to->dim, from->x, from->n * from->dim * sizeof *from->x);
    for (size_t i = 0; i < sum.n; i++) {
        bool first = i < to->n;
        const ss_items *s = first ? to : from;
        size_t j = first ? i : i - to->n;
        sum.label[i] = first ? s->label[j] : map[s->label[j]];
        sum.fold[i] = s->fold[j];
        sum.group[i] = s->group[j] + (first ? 0 : groups);
        sum.clip[i] = s->clip[j];
    }
    memcpy(sum.window, to->window, to->nwindows * to->window_dim * sizeof *to->window);
    memcpy(sum.window + to->nwindows * to->window_dim, from->window,
           from->nwindows * to->window_dim * sizeof *to->window);
    for (size_t w = 0; w < sum.nwindows; w++)
        sum.owner[w] = w < to->nwindows ? to->owner[w] : from->owner[w - to->nwindows] + (uint32_t)to->n;
    ss_items_clear(to);
    *to = sum;
    return 0;
}

void ss_items_clear(ss_items *it)
{
    ss_free(it->x);
    ss_free(it->label);
    ss_free(it->fold);
    ss_free(it->group);
    ss_free(it->clip);
    ss_free(it->window);
    ss_free(it->owner);
    *it = (ss_items){0};
}
