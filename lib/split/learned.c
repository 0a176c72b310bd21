#include "split/learned.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/explog.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/stream.h"
#include "split/policy.h"

/* ---- network ---- */

size_t ss_mlp_size(int in, int hidden, int out)
{
    size_t h = (size_t)hidden;
    return h * (size_t)in + h + h * h + h + (size_t)out * h + (size_t)out;
}

float ss_tanhf(float x)
{
    float e = ss_expf(2 * x);
    return 1 - 2 / (e + 1);
}

/* y = W x + b; returns what lies behind b. */
static const float *layer(const float *w, int out, int in, const float *x, float *y)
{
    const float *b = w + (size_t)out * (size_t)in;
    for (int i = 0; i < out; i++) {
        const float *row = w + (size_t)i * (size_t)in;
        float sum = 0;
        for (int k = 0; k < in; k++)
            sum += row[k] * x[k];
        y[i] = sum + b[i];
    }
    return b + out;
}

static void squash(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = ss_tanhf(x[i]);
}

void ss_mlp_run(const ss_mlp *m, const float *x, float *y, float *work)
{
    float *one = work, *two = work + m->hidden;
    const float *w = layer(m->w, m->hidden, m->in, x, one);
    squash(one, m->hidden);
    w = layer(w, m->hidden, m->hidden, one, two);
    squash(two, m->hidden);
    layer(w, m->out, m->hidden, two, y);
}

/* ---- use ---- */

void ss_learned_ask(const ss_learned *l, const ss_sight *v, float *preference)
{
    float all[SS_SIGHT_INPUTS], x[SS_SIGHT_INPUTS], work[2 * SS_LEARNED_MAX_HIDDEN];
    ss_sight_inputs(v, &l->scale, l->action, all);
    for (int i = 0; i < l->net.in; i++)
        x[i] = all[l->input[i]];
    ss_mlp_run(&l->net, x, preference, work);
}

int ss_learned_choose(const ss_learned *l, const ss_sight *v, float *preference)
{
    int best = 0;
    ss_learned_ask(l, v, preference);
    for (int i = 1; i < l->net.out; i++)
        if (preference[i] > preference[best])
            best = i;
    bool stays = v->action >= 0 && preference[best] - preference[v->action] <= (float)SS_LEARNED_MARGIN;
    return stays ? v->action : best;
}

bool ss_learned_can(const ss_sight *v)
{
    return !isnan(v->bandwidth);
}

void ss_decider_init(ss_decider *d, const ss_learned *l, int every)
{
    *d = (ss_decider){.learned = l, .every = every};
    d->view = (ss_sight){.u = NAN,
                         .cpu = NAN,
                         .bandwidth = NAN,
                         .bandwidth_age = NAN,
                         .rtt = NAN,
                         .queue = NAN,
                         .since_sent = NAN,
                         .action = -1,
                         .then_cpu = NAN,
                         .then_bandwidth = NAN,
                         .then_queue = NAN};
}

void ss_decider_pause(ss_decider *d)
{
    d->view.action = -1;
}

int ss_decider_step(ss_decider *d)
{
    bool told = !isnan(d->view.queue);
    if (told)
        d->reckoned = d->view.queue;
    else
        d->view.queue = d->reckoned;
    int why = d->view.action < 0         ? SS_POLICY_FIRST
              : ss_sight_sharp(&d->view) ? SS_POLICY_SHARP_CHANGE
              : d->left <= 0             ? SS_POLICY_TIME
                                         : SS_POLICY_NONE;
    if (why) {
        ss_sight_decide(&d->view, ss_learned_choose(d->learned, &d->view, d->preference));
        d->left = d->every;
    }
    d->left--;
    if (!told)
        d->view.queue = NAN;
    return why;
}

void ss_decider_went(ss_decider *d, double seconds)
{
    ss_sight *v = &d->view;
    const ss_split_action *a = &d->learned->action[v->action];
    seconds = fmax(seconds, d->learned->scale.hop_ms / 1e3); /* a file comes sooner than it sounded */
    v->held = a->hold ? v->held + 1 : 0;
    v->since_sent = isnan(v->since_sent) ? v->since_sent : v->since_sent + seconds;
    if (!a->hold || v->held >= a->hold)
        v->held = v->since_sent = 0;
    v->behind = ss_sight_late(v->behind, a, v->cpu, d->learned->scale.hop_ms);
    double passed = (isnan(v->bandwidth) ? 0 : v->bandwidth) * seconds / 8;
    d->reckoned = fmax(d->reckoned + (a->hold ? 0 : a->bytes) - passed, 0);
}

/* ---- reading ---- */

ss_learned *ss_learned_new(int inputs, int hidden, int actions)
{
    ss_learned *l = ss_zalloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->net =
        (ss_mlp){inputs, hidden, actions, ss_zalloc(ss_mlp_size(inputs, hidden, actions), sizeof(float))};
    l->action = ss_zalloc((size_t)actions, sizeof *l->action);
    for (int i = 0; i < 5; i++)
        l->u.at[i] = NAN;
    if (l->net.w && l->action)
        return l;
    ss_learned_free(l);
    return NULL;
}

void ss_learned_free(ss_learned *l)
{
    if (!l)
        return;
    ss_free(l->net.w);
    ss_free(l->action);
    ss_free(l);
}

static int number(const cJSON *o, const char *key, double min, double max, double *out, ss_err *e)
{
    return ss_json_needed(ss_json_number(o, key, min, max, out, e), key, e);
}

static int whole(const cJSON *o, const char *key, int min, int max, int *out, ss_err *e)
{
    int64_t v = 0;
    int rc = ss_json_needed(ss_json_int(o, key, min, max, &v, e), key, e);
    *out = (int)v;
    return rc;
}

/* The array under `key` and its length, from min to max. */
static int list(const cJSON *o, const char *key, int min, int max, const cJSON **out, int *n, ss_err *e)
{
    int rc = ss_json_needed(ss_json_array(o, key, out, e), key, e);
    if (rc)
        return rc;
    *n = cJSON_GetArraySize(*out);
    if (*n < min || *n > max)
        return ss_err_set(e, SS_EDAMAGED, "'%s' has %d elements, expected %d to %d", key, *n, min, max);
    return SS_OK;
}

static int read_inputs(ss_learned *l, const cJSON *all, ss_err *e)
{
    int n = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, all)
    {
        const char *name;
        if (ss_json_string(c, NULL, 32, &name, e) < 0)
            return ss_err_prefix(e, "inputs");
        l->input[n] = ss_sight_find(name);
        if (l->input[n] < 0)
            return ss_err_set(e, SS_EUNFIT, "input '%s' is not known", name);
        for (int i = 0; i < n; i++)
            if (l->input[i] == l->input[n])
                return ss_err_set(e, SS_EDAMAGED, "input '%s' comes twice", name);
        n++;
    }
    return SS_OK;
}

static int read_action(const cJSON *o, ss_split_action *a, int hold, ss_err *e)
{
    static const char *const keys[] = {"cut", "codec", "hold", "device_ms", "bytes", "load"};
    const char *cut = "", *codec = "";
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "expected an object");
    int rc = ss_json_only(o, keys, sizeof keys / sizeof *keys, e);
    if (!rc)
        rc = ss_json_needed(ss_json_string(o, "cut", 15, &cut, e), "cut", e);
    if (!rc && (a->cut = ss_cut_parse(cut)) < 0)
        rc = ss_err_set(e, SS_EDAMAGED, "cut is '%s', expected input, 0..8 or embedding", cut);
    if (!rc)
        rc = ss_json_needed(ss_json_string(o, "codec", SS_PROFILE_CODEC - 1, &codec, e), "codec", e);
    if (!rc && !ss_profile_codec_valid(codec))
        rc = ss_err_set(e, SS_EDAMAGED, "codec is '%s', expected 1 to %d of a-z, 0-9 and -", codec,
                        SS_PROFILE_CODEC - 1);
    if (!rc)
        memcpy(a->codec, codec, strlen(codec) + 1);
    if (!rc)
        rc = whole(o, "hold", 0, hold, &a->hold, e);
    if (!rc)
        rc = number(o, "device_ms", 0, 1e7, &a->device_ms, e);
    if (!rc)
        rc = number(o, "bytes", 0, 1e9, &a->bytes, e);
    return rc ? rc : number(o, "load", 0, 1, &a->load, e);
}

static int read_actions(ss_learned *l, const cJSON *all, ss_err *e)
{
    int n = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, all)
    {
        if (read_action(c, &l->action[n], l->scale.hold, e))
            return ss_err_prefix(e, "action %d", n);
        n++;
    }
    return SS_OK;
}

static int read_u(ss_learned *l, const cJSON *o, ss_err *e)
{
    const cJSON *all, *c;
    const char *name = "u";
    int n = 0, count;
    if (ss_json_string(o, "of", 15, &name, e) < 0)
        return SS_EDAMAGED;
    if (ss_u_find(name) < 0)
        return ss_err_set(e, SS_EDAMAGED, "of is '%s', expected u or novelty", name);
    l->u.novelty = ss_u_find(name) > 0;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, "u")))
        return SS_OK;
    int rc = list(o, "u", 5, 5, &all, &count, e);
    if (rc)
        return rc;
    cJSON_ArrayForEach(c, all)
    {
        rc = ss_json_number(c, NULL, n ? l->u.at[n - 1] : 0, ss_u_most(&l->u), &l->u.at[n], e);
        if (rc < 0)
            return ss_err_prefix(e, "u");
        n++;
    }
    return SS_OK;
}

static int read_weights(ss_learned *l, const cJSON *all, ss_err *e)
{
    size_t n = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, all)
    {
        double v;
        if (ss_json_number(c, NULL, -1e6, 1e6, &v, e) < 0)
            return ss_err_prefix(e, "weight %zu", n);
        l->net.w[n++] = (float)v;
    }
    return SS_OK;
}

static int read_top(ss_learned **out, const cJSON *o, ss_err *e)
{
    static const char *const keys[] = {"format", "version", "note",   "hop_ms",  "tail_s", "hold",   "every",
                                       "of",     "u",       "inputs", "actions", "hidden", "weights"};
    const char *format = "", *note = "";
    const cJSON *inputs = NULL, *actions = NULL, *weights = NULL;
    int version = 0, hidden = 0, in = 0, n = 0, size = 0;
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "expected an object");
    int rc = ss_json_needed(ss_json_string(o, "format", 31, &format, e), "format", e);
    if (!rc && strcmp(format, "streamsplit-policy"))
        rc = ss_err_set(e, SS_EUNFIT, "format is '%s', expected streamsplit-policy", format);
    if (!rc)
        rc = whole(o, "version", 0, 1 << 30, &version, e);
    if (!rc && version != 1)
        rc = ss_err_set(e, SS_EUNFIT, "version is %d, expected 1", version);
    if (!rc)
        rc = ss_json_only(o, keys, sizeof keys / sizeof *keys, e);
    if (!rc)
        rc = ss_json_needed(ss_json_string(o, "note", SS_LEARNED_NOTE - 1, &note, e), "note", e);
    if (!rc)
        rc = whole(o, "hidden", 1, SS_LEARNED_MAX_HIDDEN, &hidden, e);
    if (!rc)
        rc = list(o, "inputs", 1, SS_SIGHT_INPUTS, &inputs, &in, e);
    if (!rc)
        rc = list(o, "actions", 1, SS_SPLIT_MAX_ACTIONS, &actions, &n, e);
    if (!rc) {
        int wanted = (int)ss_mlp_size(in, hidden, n);
        rc = list(o, "weights", wanted, wanted, &weights, &size, e);
    }
    if (rc)
        return rc;
    ss_learned *l = *out = ss_learned_new(in, hidden, n);
    if (!l)
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    memcpy(l->note, note, strlen(note) + 1);
    rc = number(o, "hop_ms", 1e-3, 1e6, &l->scale.hop_ms, e);
    if (!rc)
        rc = number(o, "tail_s", 0, 1e4, &l->scale.tail_s, e);
    if (!rc)
        rc = whole(o, "hold", 0, 1 << 20, &l->scale.hold, e);
    if (!rc)
        rc = whole(o, "every", 1, 1 << 20, &l->every, e);
    if (!rc)
        rc = read_u(l, o, e);
    if (!rc)
        rc = read_inputs(l, inputs, e);
    if (!rc)
        rc = read_actions(l, actions, e);
    return rc ? rc : read_weights(l, weights, e);
}

static int take_tree(ss_learned **l, cJSON *tree, const char *name, ss_err *e)
{
    int rc = read_top(l, tree, e);
    cJSON_Delete(tree);
    if (!rc)
        return rc;
    ss_learned_free(*l);
    *l = NULL;
    ss_err_prefix(e, "policy '%s'", name);
    return rc;
}

int ss_learned_parse(ss_learned **l, const char *text, size_t n, const char *name, ss_err *e)
{
    cJSON *tree;
    char what[80];
    *l = NULL;
    snprintf(what, sizeof what, "policy '%s'", name);
    int rc = ss_json_parse(&tree, text, n, what, e);
    return rc ? rc : take_tree(l, tree, name, e);
}

int ss_learned_open(ss_learned **l, const char *path, ss_err *e)
{
    cJSON *tree;
    *l = NULL;
    int rc = ss_json_read(&tree, path, "policy", e);
    return rc ? rc : take_tree(l, tree, path, e);
}

/* ---- writing ---- */

/* The shortest number that is read as the same float. */
static cJSON *number_of(float v)
{
    char text[32];
    int digits = 6;
    do
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
    while (strtof(text, NULL) != v && ++digits <= 9);
    return cJSON_CreateNumber(strtod(text, NULL));
}

static bool put_actions(cJSON *o, const ss_learned *l)
{
    cJSON *all = cJSON_AddArrayToObject(o, "actions");
    bool ok = all;
    for (int i = 0; i < l->net.out && ok; i++) {
        const ss_split_action *a = &l->action[i];
        const char *cut = ss_cut_name(a->cut);
        cJSON *c = cJSON_CreateObject();
        ok = c && cJSON_AddItemToArray(all, c) && cJSON_AddStringToObject(c, "cut", cut ? cut : "") &&
             cJSON_AddStringToObject(c, "codec", a->codec) && cJSON_AddNumberToObject(c, "hold", a->hold) &&
             cJSON_AddNumberToObject(c, "device_ms", a->device_ms) &&
             cJSON_AddNumberToObject(c, "bytes", a->bytes) && cJSON_AddNumberToObject(c, "load", a->load);
    }
    return ok;
}

static bool put_numbers(cJSON *o, const ss_learned *l)
{
    bool ok = cJSON_AddStringToObject(o, "of", ss_u_name(l->u.novelty));
    if (isnan(l->u.at[0]))
        ok = ok && cJSON_AddNullToObject(o, "u");
    else {
        cJSON *u = cJSON_CreateDoubleArray(l->u.at, 5);
        ok = ok && u && cJSON_AddItemToObject(o, "u", u);
        if (!ok)
            cJSON_Delete(u);
    }
    cJSON *inputs = ok ? cJSON_AddArrayToObject(o, "inputs") : NULL;
    ok = inputs;
    for (int i = 0; i < l->net.in && ok; i++) {
        cJSON *s = cJSON_CreateString(ss_sight_name(l->input[i]));
        ok = s && cJSON_AddItemToArray(inputs, s);
    }
    return ok;
}

static bool put_weights(cJSON *o, const ss_learned *l)
{
    size_t n = ss_mlp_size(l->net.in, l->net.hidden, l->net.out);
    cJSON *w = cJSON_AddArrayToObject(o, "weights");
    bool ok = w;
    for (size_t i = 0; i < n && ok; i++) {
        cJSON *v = number_of(l->net.w[i]);
        ok = v && cJSON_AddItemToArray(w, v);
    }
    return ok;
}

int ss_learned_print(const ss_learned *l, char **text, ss_err *e)
{
    ss_learned *again;
    *text = NULL;
    cJSON *o = cJSON_CreateObject();
    bool ok = o && cJSON_AddStringToObject(o, "format", "streamsplit-policy") &&
              cJSON_AddNumberToObject(o, "version", 1) && cJSON_AddStringToObject(o, "note", l->note) &&
              cJSON_AddNumberToObject(o, "hop_ms", l->scale.hop_ms) &&
              cJSON_AddNumberToObject(o, "tail_s", l->scale.tail_s) &&
              cJSON_AddNumberToObject(o, "hold", l->scale.hold) &&
              cJSON_AddNumberToObject(o, "every", l->every) && put_numbers(o, l) && put_actions(o, l) &&
              cJSON_AddNumberToObject(o, "hidden", l->net.hidden) && put_weights(o, l);
    if (ok)
        *text = ss_json_print_lines(o);
    cJSON_Delete(o);
    if (!*text)
        return ss_err_set(e, SS_ENOMEM, "no memory for the text of a policy");
    int rc = ss_learned_parse(&again, *text, strlen(*text), "to be written", e);
    ss_learned_free(again);
    if (rc) {
        ss_free(*text);
        *text = NULL;
    }
    return rc;
}
