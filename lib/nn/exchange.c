#include "nn/exchange.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "nn/layers_internal.h"
#include "nn/model_internal.h"

/* import */

/* Names for a message: the first few, and how many more. */
struct names {
    char text[160];
    int n, more;
};

static void add_name(struct names *l, const char *name)
{
    size_t at = strlen(l->text);
    if (!l->more && at + strlen(name) + 3 < sizeof l->text)
        snprintf(l->text + at, sizeof l->text - at, "%s%s", at ? ", " : "", name);
    else
        l->more++;
    l->n++;
}

/* "2 missing: a, b" or "40 missing: a, b and 38 more". */
static const char *list_names(const struct names *l, const char *what, char *out, size_t room)
{
    char more[32] = "";
    if (l->more)
        snprintf(more, sizeof more, " and %d more", l->more);
    snprintf(out, room, "%d %s%s%s%s", l->n, what, l->n ? ": " : "", l->text, more);
    return out;
}

static int ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static bool is_fc(const char *name)
{
    return !strcmp(name, "fc.weight") || !strcmp(name, "fc.bias");
}

static bool has_shape(const ss_st_tensor *t, const ss_param *p)
{
    bool same = t && t->rank == p->rank;
    for (int i = 0; same && i < p->rank; i++)
        same = t->dim[i] == p->dim[i];
    return same;
}

static bool is_float(const ss_st_tensor *t)
{
    return t->dtype == SS_DTYPE_F32 || t->dtype == SS_DTYPE_F16 || t->dtype == SS_DTYPE_BF16 ||
           t->dtype == SS_DTYPE_F64;
}

/* Every name of the model in the file, and the reverse; fc may be missing or another one. */
static int check_names(const ss_model *m, const ss_st *s, ss_err *e)
{
    struct names missing = {"", 0, 0}, unknown = {"", 0, 0};
    char text[2][256];
    for (int i = 0; i < m->nparam; i++)
        if (!is_fc(m->param[i].name) && !ss_st_find(s, m->param[i].name))
            add_name(&missing, m->param[i].name);
    for (int i = 0; i < ss_st_count(s); i++) {
        const char *name = ss_st_tensor_at(s, i)->name;
        if (!ss_model_find(m, name) && !ends_in(name, ".num_batches_tracked"))
            add_name(&unknown, name);
    }
    if (!missing.n && !unknown.n)
        return SS_OK;
    return ss_err_set(e, SS_EUNFIT, "not the state dict of a ResNet-18: names %s; %s",
                      list_names(&missing, "missing", text[0], sizeof text[0]),
                      list_names(&unknown, "unknown", text[1], sizeof text[1]));
}

/* The first layer of any number of channels, summed into one. */
static int read_stem(ss_st *s, const ss_st_tensor *t, const ss_param *p, float *to, ss_err *e)
{
    float *all = ss_alloc(t->count, sizeof *all);
    if (!all)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate %zu values", t->count);
    int rc = ss_st_read_f32(s, t, all, e);
    size_t channels = (size_t)t->dim[1], pixels = (size_t)p->dim[2] * p->dim[3];
    for (size_t o = 0; o < p->dim[0] && rc == SS_OK; o++)
        for (size_t i = 0; i < pixels; i++) {
            float sum = 0;
            for (size_t c = 0; c < channels; c++)
                sum += all[(o * channels + c) * pixels + i];
            to[o * pixels + i] = sum;
        }
    ss_free(all);
    return rc;
}

/* Dtype and shape of a tensor that is to be taken over. */
static int check_param(const ss_param *p, const ss_st_tensor *t, int width, ss_err *e)
{
    char found[128], want[128];
    if (!is_float(t))
        return ss_err_set(e, SS_EUNFIT, "tensor '%s' is %s, expected floating point", p->name, t->type);
    if (!strcmp(p->name, "conv1.weight") || has_shape(t, p))
        return SS_OK;
    ss_st_tensor w = {.type = t->type, .rank = p->rank};
    for (int i = 0; i < p->rank; i++)
        w.dim[i] = p->dim[i];
    return ss_err_set(e, SS_EUNFIT, "tensor '%s' is %s, expected %s for width %d", p->name,
                      ss_st_shape_text(t, found, sizeof found), ss_st_shape_text(&w, want, sizeof want),
                      width);
}

static int read_param(ss_model *m, const ss_param *p, ss_st *s, ss_import_note *note, ss_err *e)
{
    const ss_st_tensor *t = ss_st_find(s, p->name);
    float *to = m->value + p->offset;
    bool variance = ends_in(p->name, ".running_var");
    int rc = strcmp(p->name, "conv1.weight") ? ss_st_read_f32(s, t, to, e) : read_stem(s, t, p, to, e);
    for (size_t i = 0; i < p->count && rc == SS_OK; i++)
        if (!isfinite(to[i]) || (variance && to[i] < 0))
            rc = ss_err_set(e, SS_EUNFIT, "value %zu of tensor '%s' is %g", i, p->name, (double)to[i]);
    note->converted += t->dtype != SS_DTYPE_F32;
    return rc;
}

int ss_model_import_from(ss_model **to, ss_st *s, const ss_model_config *c, uint64_t seed,
                         ss_import_note *note, ss_err *e)
{
    ss_model_config own = *c;
    const ss_st_tensor *stem = ss_st_find(s, "conv1.weight");
    char shape[128];
    *to = NULL;
    if (!stem)
        return ss_err_set(e, SS_EUNFIT, "not the state dict of a ResNet-18: no tensor 'conv1.weight'");
    if (stem->rank != 4 || stem->dim[0] > 256 || stem->dim[1] < 1 || stem->dim[1] > 1024 ||
        stem->dim[2] != 7 || stem->dim[3] != 7)
        return ss_err_set(e, SS_EUNFIT, "tensor 'conv1.weight' is %s, expected [width][channels][7][7]",
                          ss_st_shape_text(stem, shape, sizeof shape));
    int rc = ss_model_config_check(&own, e);
    if (rc < 0)
        return rc;
    own.width = (int)stem->dim[0];
    own.norm = SS_NORM_BATCH;
    note->channels = (int)stem->dim[1];
    if (ss_model_config_check(&own, e) < 0) { /* the file's width, no fault of the caller */
        if (e)
            e->code = SS_EUNFIT;
        return SS_EUNFIT;
    }
    /* The list first: values are allocated only for a file that has them. */
    ss_model *list = NULL;
    rc = ss_model_lay_out(&list, &own, e);
    if (rc < 0)
        return rc;
    rc = check_names(list, s, e);
    const ss_param *fc = ss_model_find(list, "fc.weight"), *bias = ss_model_find(list, "fc.bias");
    note->fresh_fc = !has_shape(ss_st_find(s, "fc.weight"), fc) || !has_shape(ss_st_find(s, "fc.bias"), bias);
    for (int i = 0; rc == SS_OK && i < list->nparam; i++)
        if (!is_fc(list->param[i].name) || !note->fresh_fc)
            rc = check_param(&list->param[i], ss_st_find(s, list->param[i].name), own.width, e);
    ss_model_free(list);
    if (rc == SS_OK)
        rc = ss_model_create(to, &own, seed, e);
    for (int i = 0; rc == SS_OK && i < (*to)->nparam; i++)
        if (!is_fc((*to)->param[i].name) || !note->fresh_fc)
            rc = read_param(*to, &(*to)->param[i], s, note, e);
    if (rc < 0) {
        ss_model_free(*to);
        *to = NULL;
    }
    return rc;
}

int ss_model_import(ss_model **m, const char *path, const ss_model_config *c, uint64_t seed,
                    ss_import_note *note, ss_err *e)
{
    ss_import_note own = {0};
    ss_st *s;
    *m = NULL;
    int rc = ss_st_open(&s, path, e);
    if (rc == SS_OK)
        rc = ss_st_check(s, e); /* one of ours must be whole too */
    if (rc >= 0) {
        rc = ss_model_import_from(m, s, c, seed, &own, e);
        if (rc < 0)
            ss_err_prefix(e, "cannot import '%s'", path);
    }
    ss_st_close(&s);
    if (note)
        *note = own;
    return rc;
}

/* export */

/* The arrays of one file, with values of their own. */
struct out {
    ss_st_array a[5 * SS_UNITS + 2];
    char name[5 * SS_UNITS + 2][64];
    int n;
    float *next;
};

/* Room for an array of the name and shape of `like`, its last part replaced by `part` unless NULL. */
static float *add(struct out *o, const ss_param *like, const char *part)
{
    ss_st_array *a = &o->a[o->n];
    char *name = o->name[o->n++];
    size_t stem = strlen(like->name);
    if (part)
        stem = (size_t)(strrchr(like->name, '.') - like->name) + 1;
    snprintf(name, sizeof o->name[0], "%.*s%s", (int)stem, like->name, part ? part : "");
    *a = (ss_st_array){name, SS_DTYPE_F32, like->rank, {0}, o->next};
    for (int i = 0; i < like->rank; i++)
        a->dim[i] = like->dim[i];
    o->next += like->count;
    return o->next - like->count;
}

static void copy(struct out *o, const ss_model *m, const ss_param *p)
{
    memcpy(add(o, p, NULL), m->value + p->offset, p->count * sizeof(float));
}

static void fill(float *to, size_t n, float v)
{
    for (size_t i = 0; i < n; i++)
        to[i] = v;
}

static void add_unit(struct out *o, const ss_layers *l, const ss_model *m, int i, float *row)
{
    const ss_unit *u = &l->unit[i];
    size_t rows = (size_t)u->conv.cout;
    if (l->norm == SS_NORM_BATCH) {
        const ss_param *all[5] = {u->weight, u->gain, u->bias, u->mean, u->var};
        for (int k = 0; k < 5; k++)
            copy(o, m, all[k]);
        return;
    }
    float *w = add(o, u->weight, NULL);
    if (l->norm == SS_NORM_GROUP) {
        ss_unit_fold(l, m, i, w, NULL, row, row + rows);
        copy(o, m, u->gain);
        copy(o, m, u->bias);
        return;
    }
    float *gain = add(o, u->gain, NULL), *bias = add(o, u->bias, NULL);
    ss_unit_fold(l, m, i, w, bias, row, row + rows);
    fill(gain, rows, 1);
    fill(add(o, u->gain, "running_mean"), rows, 0);
    /* With the norm's epsilon that is 1 to the bit: multiplying by it changes nothing. */
    fill(add(o, u->gain, "running_var"), rows, 1 - SS_NORM_EPS);
}

int ss_model_export(const ss_model *m, const char *path, ss_err *e)
{
    ss_layers l;
    int rc = ss_layers_init(&l, m, e);
    if (rc < 0)
        return rc;
    struct out *o = ss_zalloc(1, sizeof *o);
    size_t channels = (size_t)l.fc.cin;
    float *row = ss_alloc(2 * channels, sizeof *row);
    float *values = ss_alloc(m->nvalue + 2 * SS_UNITS * channels, sizeof *values);
    if (!o || !row || !values) {
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate the values to export");
        goto out;
    }
    o->next = values;
    for (int i = 0; i < l.nunit; i++)
        add_unit(o, &l, m, i, row);
    copy(o, m, l.fc_weight);
    copy(o, m, l.fc_bias);
    char mean[32], scale[32];
    ss_model_real_text(mean, sizeof mean, m->config.input_mean);
    ss_model_real_text(scale, sizeof scale, m->config.input_scale);
    const ss_st_meta meta[] = {{"format", "pt"},
                               {"norm", m->config.norm == SS_NORM_GROUP ? "group" : "batch"},
                               {"input_mean", mean},
                               {"input_scale", scale}};
    rc = ss_st_write(path, SS_ST_PLAIN, o->a, o->n, meta, 4, e);
out:
    ss_free(values);
    ss_free(row);
    ss_free(o);
    return rc;
}
