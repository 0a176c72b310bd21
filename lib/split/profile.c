#include "split/profile.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "io/stream.h"

#define MAX_MS    1e7
#define MAX_BYTES 1e9
#define MAX_W     1e4
#define ONLY(o, ...)                                                                                         \
    ss_json_only(o, (const char *const[]){__VA_ARGS__},                                                      \
                 sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *), e)

static const char *const sources[] = {"model", "rapl", "battery"};

/* ---- reading ---- */

static int number(const cJSON *o, const char *key, double min, double max, double *out, ss_err *e)
{
    return ss_json_needed(ss_json_number(o, key, min, max, out, e), key, e);
}

static int whole(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, ss_err *e)
{
    return ss_json_needed(ss_json_int(o, key, min, max, out, e), key, e);
}

static int object(const cJSON *o, const char *key, const cJSON **out, ss_err *e)
{
    return ss_json_needed(ss_json_object(o, key, out, e), key, e);
}

/* to [room], which a text that fits fills with its NUL. */
static int text_of(const cJSON *o, const char *key, size_t room, char *to, ss_err *e)
{
    const char *s;
    int rc = ss_json_needed(ss_json_string(o, key, room - 1, &s, e), key, e);
    if (!rc)
        memcpy(to, s, strlen(s) + 1);
    return rc;
}

/* A number, or null, which is NaN. */
static int number_or_null(const cJSON *o, const char *key, double min, double max, double *out, ss_err *e)
{
    *out = NAN;
    return cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, key)) ? SS_OK : number(o, key, min, max, out, e);
}

/* Numbers of `in`, named names[n], not falling, within min..max, into v [n]. */
static int rising(const cJSON *in, const char *const *names, size_t n, double min, double max, double *v,
                  ss_err *e)
{
    int rc = SS_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        rc = number(in, names[i], min, max, &v[i], e);
        if (!rc && i && v[i] < v[i - 1])
            rc = ss_err_set(e, SS_EDAMAGED, "'%s' is %g, less than '%s', which is %g", names[i], v[i],
                            names[i - 1], v[i - 1]);
    }
    return rc;
}

static int read_ms(const cJSON *o, const char *key, ss_profile_ms *ms, ss_err *e)
{
    static const char *const names[] = {"min", "median", "p95"};
    const cJSON *in;
    double v[3];
    int rc = object(o, key, &in, e);
    if (rc)
        return rc;
    rc = ss_json_only(in, names, 3, e);
    if (!rc)
        rc = rising(in, names, 3, 0, MAX_MS, v, e);
    if (rc)
        return ss_err_prefix(e, "%s", key);
    *ms = (ss_profile_ms){v[0], v[1], v[2]};
    return SS_OK;
}

static int read_bytes(const cJSON *o, ss_profile_bytes *b, ss_err *e)
{
    const cJSON *in;
    double v[5];
    int rc = object(o, "bytes", &in, e);
    if (rc)
        return rc;
    rc = ONLY(in, "mean", "min", "p5", "median", "p95", "max");
    if (!rc)
        rc = rising(in, (const char *const[]){"min", "p5", "median", "p95", "max"}, 5, 0, MAX_BYTES, v, e);
    if (!rc)
        rc = number(in, "mean", v[0], v[4], &b->mean, e);
    if (rc)
        return ss_err_prefix(e, "bytes");
    *b = (ss_profile_bytes){b->mean, v[0], v[1], v[2], v[3], v[4]};
    return SS_OK;
}

static int read_quality(const cJSON *o, ss_profile_choice *c, ss_err *e)
{
    const cJSON *in;
    int rc = object(o, "cosine", &in, e);
    if (!rc)
        rc = ONLY(in, "mean", "p5");
    if (!rc)
        rc = number(in, "mean", -1, 1, &c->cosine_mean, e);
    if (!rc)
        rc = number(in, "p5", -1, 1, &c->cosine_p5, e);
    if (!rc)
        rc = number_or_null(o, "probe", 0, 1, &c->probe, e);
    int got = rc ? rc : ss_json_object(o, "by_u", &in, e);
    if (got <= 0)
        return got;
    rc = ONLY(in, "low", "high");
    if (!rc)
        rc = number(in, "low", -1, 1, &c->u_low, e);
    return rc ? rc : number(in, "high", -1, 1, &c->u_high, e);
}

static int read_choice(const cJSON *o, ss_profile_choice *c, ss_err *e)
{
    char cut[16];
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "expected an object");
    int rc = ONLY(o, "cut", "codec", "device_ms", "server_ms", "bytes", "cosine", "probe", "by_u");
    if (!rc)
        rc = text_of(o, "cut", sizeof cut, cut, e);
    if (!rc && (c->cut = ss_cut_parse(cut)) < 0)
        rc = ss_err_set(e, SS_EDAMAGED, "cut is '%s', expected input, 0..8 or embedding", cut);
    if (!rc)
        rc = text_of(o, "codec", sizeof c->codec, c->codec, e);
    if (!rc && !ss_profile_codec_valid(c->codec))
        rc = ss_err_set(e, SS_EDAMAGED, "codec is '%s', expected 1 to %d of a-z, 0-9 and -", c->codec,
                        SS_PROFILE_CODEC - 1);
    if (!rc)
        rc = read_ms(o, "device_ms", &c->device_ms, e);
    if (!rc && !cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, "server_ms")))
        rc = read_ms(o, "server_ms", &c->server_ms, e);
    if (!rc)
        rc = read_bytes(o, &c->bytes, e);
    return rc ? rc : read_quality(o, c, e);
}

static int read_choices(ss_profile **out, const cJSON *o, ss_err *e)
{
    const cJSON *all, *c;
    int rc = ss_json_needed(ss_json_array(o, "choices", &all, e), "choices", e);
    if (rc)
        return rc;
    int n = cJSON_GetArraySize(all);
    if (n < 1 || n > SS_PROFILE_MAX_CHOICES)
        return ss_err_set(e, n ? SS_ELIMIT : SS_EDAMAGED, "%d choices, expected 1 to %d", n,
                          SS_PROFILE_MAX_CHOICES);
    ss_profile *p = *out = ss_profile_new((size_t)n);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    p->n = 0;
    cJSON_ArrayForEach(c, all)
    {
        ss_profile_choice *to = &p->choice[p->n];
        if (read_choice(c, to, e))
            return ss_err_prefix(e, "choice %zu", p->n);
        if (ss_profile_find(p, to->cut, to->codec) >= 0)
            return ss_err_set(e, SS_EDAMAGED, "choice %zu: cut %s with codec %s comes twice", p->n,
                              ss_cut_name(to->cut), to->codec);
        p->n++;
    }
    return SS_OK;
}

static int read_model(ss_profile *p, const cJSON *top, ss_err *e)
{
    const cJSON *o;
    int64_t mels = 0, frames = 0;
    int rc = object(top, "model", &o, e);
    if (rc)
        return rc;
    rc = ONLY(o, "architecture", "width", "mels", "frames", "generation");
    if (!rc)
        rc = text_of(o, "architecture", sizeof p->architecture, p->architecture, e);
    if (!rc &&
        (strlen(p->architecture) != 16 || p->architecture[strspn(p->architecture, "0123456789abcdef")]))
        rc = ss_err_set(e, SS_EDAMAGED, "architecture is '%s', expected 16 digits 0-9 a-f", p->architecture);
    if (!rc)
        rc = number(o, "width", 0x1p-10, 16, &p->width, e);
    if (!rc)
        rc = whole(o, "mels", 1, 1 << 16, &mels, e);
    if (!rc)
        rc = whole(o, "frames", 1, 1 << 16, &frames, e);
    if (!rc)
        rc = whole(o, "generation", 0, (int64_t)1 << 53, &p->generation, e);
    p->mels = (int)mels;
    p->frames = (int)frames;
    return rc ? ss_err_prefix(e, "model") : SS_OK;
}

static int read_machine(ss_profile_machine *m, const cJSON *top, const char *key, ss_err *e)
{
    const cJSON *o;
    int64_t threads = 0;
    int rc = object(top, key, &o, e);
    if (rc)
        return rc;
    rc = ONLY(o, "name", "cpu", "threads");
    if (!rc)
        rc = text_of(o, "name", sizeof m->name, m->name, e);
    if (!rc)
        rc = text_of(o, "cpu", sizeof m->cpu, m->cpu, e);
    if (!rc)
        rc = whole(o, "threads", 1, 1 << 16, &threads, e);
    m->threads = (int)threads;
    return rc ? ss_err_prefix(e, "%s", key) : SS_OK;
}

static int read_radio(ss_profile_energy *n, const cJSON *energy, ss_err *e)
{
    const cJSON *o;
    int rc = object(energy, "radio", &o, e);
    if (!rc)
        rc = ONLY(o, "name", "base_w", "w_per_mbit", "tail_s", "tail_w");
    if (!rc)
        rc = text_of(o, "name", sizeof n->radio, n->radio, e);
    if (!rc)
        rc = number(o, "base_w", 0, MAX_W, &n->radio_base_w, e);
    if (!rc)
        rc = number(o, "w_per_mbit", 0, MAX_W, &n->radio_w_per_mbit, e);
    if (!rc)
        rc = number(o, "tail_s", 0, 1e4, &n->radio_tail_s, e);
    return rc ? rc : number(o, "tail_w", 0, MAX_W, &n->radio_tail_w, e);
}

static int read_energy(ss_profile_energy *n, const cJSON *top, ss_err *e)
{
    const cJSON *o;
    char source[16];
    int rc = object(top, "energy", &o, e);
    if (rc)
        return rc;
    rc = ONLY(o, "source", "device", "idle_w", "cpu_w", "cores", "radio", "citation");
    if (!rc)
        rc = text_of(o, "source", sizeof source, source, e);
    if (!rc) {
        unsigned i = 0;
        while (i < 3 && strcmp(sources[i], source))
            i++;
        n->source = (ss_profile_source)i;
        if (i == 3)
            rc = ss_err_set(e, SS_EDAMAGED, "source is '%s', expected model, rapl or battery", source);
    }
    if (!rc)
        rc = text_of(o, "device", sizeof n->device, n->device, e);
    if (!rc)
        rc = number(o, "idle_w", 0, MAX_W, &n->idle_w, e);
    if (!rc)
        rc = number(o, "cpu_w", 0, MAX_W, &n->cpu_w, e);
    int64_t cores = 1;
    if (!rc && ss_json_int(o, "cores", 1, 1 << 16, &cores, e) < 0)
        rc = SS_EDAMAGED;
    n->cores = (int)cores;
    if (!rc)
        rc = read_radio(n, o, e);
    if (!rc)
        rc = text_of(o, "citation", sizeof n->citation, n->citation, e);
    return rc ? ss_err_prefix(e, "energy") : SS_OK;
}

static int read_measure(ss_profile *p, const cJSON *top, ss_err *e)
{
    const cJSON *o;
    char measure[16];
    int rc = object(top, "quality", &o, e);
    if (rc)
        return rc;
    rc = ONLY(o, "measure", "full");
    if (!rc)
        rc = text_of(o, "measure", sizeof measure, measure, e);
    if (!rc) {
        p->quality_is_probe = !strcmp(measure, "probe");
        if (!p->quality_is_probe && strcmp(measure, "cosine"))
            rc = ss_err_set(e, SS_EDAMAGED, "measure is '%s', expected probe or cosine", measure);
    }
    if (!rc)
        rc = number(o, "full", 0x1p-20, 1, &p->full, e);
    return rc ? ss_err_prefix(e, "quality") : SS_OK;
}

static int read_u(ss_profile *p, const cJSON *top, ss_err *e)
{
    const cJSON *o;
    char name[16] = "u";
    int got = ss_json_object(top, "u", &o, e);
    if (got <= 0)
        return got;
    int rc = ONLY(o, "of", "p5", "p25", "median", "p75", "p95", "drift");
    if (!rc && cJSON_HasObjectItem(o, "of"))
        rc = text_of(o, "of", sizeof name, name, e);
    int of = ss_u_find(name);
    if (!rc && of < 0)
        rc = ss_err_set(e, SS_EDAMAGED, "of is '%s', expected u or novelty", name);
    p->u.novelty = of > 0;
    if (!rc)
        rc = rising(o, (const char *const[]){"p5", "p25", "median", "p75", "p95"}, 5, 0, ss_u_most(&p->u),
                    p->u.at, e);
    if (!rc && ss_json_number(o, "drift", 0, 1, &p->u.drift, e) < 0)
        rc = SS_EDAMAGED;
    return rc ? ss_err_prefix(e, "u") : SS_OK;
}

static int read_top(ss_profile **out, const cJSON *o, ss_err *e)
{
    char format[32];
    int64_t version = 0;
    if (!cJSON_IsObject(o))
        return ss_err_set(e, SS_EDAMAGED, "expected an object");
    int rc = text_of(o, "format", sizeof format, format, e);
    if (!rc && strcmp(format, "streamsplit-profile"))
        rc = ss_err_set(e, SS_EUNFIT, "format is '%s', expected streamsplit-profile", format);
    if (!rc)
        rc = whole(o, "version", 0, 1 << 30, &version, e);
    if (!rc && version != 1)
        rc = ss_err_set(e, SS_EUNFIT, "version is %d, expected 1", (int)version);
    if (!rc)
        rc = ONLY(o, "format", "version", "model", "hop_ms", "windows", "device", "server", "energy",
                  "quality", "u", "choices");
    if (!rc)
        rc = read_choices(out, o, e);
    ss_profile *p = *out;
    if (!rc)
        rc = read_model(p, o, e);
    if (!rc)
        rc = number(o, "hop_ms", 1e-3, 1e6, &p->hop_ms, e);
    if (!rc)
        rc = whole(o, "windows", 0, (int64_t)1 << 53, &p->windows, e);
    if (!rc)
        rc = read_machine(&p->device, o, "device", e);
    if (!rc && !cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, "server"))) {
        p->has_server = true;
        rc = read_machine(&p->server, o, "server", e);
    }
    if (!rc)
        rc = read_energy(&p->energy, o, e);
    if (!rc)
        rc = read_measure(p, o, e);
    return rc ? rc : read_u(p, o, e);
}

static int take_tree(ss_profile **p, cJSON *tree, const char *name, ss_err *e)
{
    int rc = read_top(p, tree, e);
    cJSON_Delete(tree);
    if (!rc)
        return rc;
    ss_profile_free(*p);
    *p = NULL;
    return ss_err_prefix(e, "profile '%s'", name), rc;
}

int ss_profile_parse(ss_profile **p, const char *text, size_t n, const char *name, ss_err *e)
{
    cJSON *tree;
    char what[SS_PROFILE_NAME + 16];
    *p = NULL;
    snprintf(what, sizeof what, "profile '%s'", name);
    int rc = ss_json_parse(&tree, text, n, what, e);
    return rc ? rc : take_tree(p, tree, name, e);
}

int ss_profile_open(ss_profile **p, const char *path, ss_err *e)
{
    cJSON *tree;
    *p = NULL;
    int rc = ss_json_read(&tree, path, "profile", e);
    return rc ? rc : take_tree(p, tree, path, e);
}

ss_profile *ss_profile_new(size_t n)
{
    ss_profile *p = ss_zalloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->n = n;
    p->energy.cores = 1;
    p->choice = ss_zalloc(n, sizeof *p->choice);
    if (!p->choice) {
        ss_free(p);
        return NULL;
    }
    for (int i = 0; i < 5; i++)
        p->u.at[i] = NAN;
    p->u.drift = NAN;
    for (size_t i = 0; i < n; i++) {
        p->choice[i].server_ms = (ss_profile_ms){NAN, NAN, NAN};
        p->choice[i].probe = p->choice[i].u_low = p->choice[i].u_high = NAN;
    }
    return p;
}

void ss_profile_free(ss_profile *p)
{
    if (p)
        ss_free(p->choice);
    ss_free(p);
}

/* ---- writing ---- */

/* cJSON's adders return NULL without memory, and do nothing to a NULL object: one check at the end is enough
 * when each one is counted. */
struct out {
    bool failed;
};

static cJSON *put_object(struct out *w, cJSON *o, const char *key)
{
    cJSON *v = cJSON_AddObjectToObject(o, key);
    w->failed |= !v;
    return v;
}

static void put(struct out *w, cJSON *o, const char *key, double v)
{
    w->failed |= !(isnan(v) ? cJSON_AddNullToObject(o, key) : cJSON_AddNumberToObject(o, key, v));
}

static void put_text(struct out *w, cJSON *o, const char *key, const char *v)
{
    w->failed |= !cJSON_AddStringToObject(o, key, v);
}

static void put_ms(struct out *w, cJSON *o, const char *key, const ss_profile_ms *ms)
{
    if (isnan(ms->median)) {
        put(w, o, key, NAN);
        return;
    }
    cJSON *v = put_object(w, o, key);
    put(w, v, "min", ms->min);
    put(w, v, "median", ms->median);
    put(w, v, "p95", ms->p95);
}

static void put_machine(struct out *w, cJSON *o, const char *key, const ss_profile_machine *m)
{
    cJSON *v = put_object(w, o, key);
    put_text(w, v, "name", m->name);
    put_text(w, v, "cpu", m->cpu);
    put(w, v, "threads", m->threads);
}

static void put_choice(struct out *w, cJSON *o, const ss_profile_choice *c)
{
    const char *cut = ss_cut_name(c->cut);
    put_text(w, o, "cut", cut ? cut : "");
    put_text(w, o, "codec", c->codec);
    put_ms(w, o, "device_ms", &c->device_ms);
    put_ms(w, o, "server_ms", &c->server_ms);
    cJSON *v = put_object(w, o, "bytes");
    put(w, v, "mean", c->bytes.mean);
    put(w, v, "min", c->bytes.min);
    put(w, v, "p5", c->bytes.p5);
    put(w, v, "median", c->bytes.median);
    put(w, v, "p95", c->bytes.p95);
    put(w, v, "max", c->bytes.max);
    v = put_object(w, o, "cosine");
    put(w, v, "mean", c->cosine_mean);
    put(w, v, "p5", c->cosine_p5);
    put(w, o, "probe", c->probe);
    if (!isnan(c->u_low)) {
        v = put_object(w, o, "by_u");
        put(w, v, "low", c->u_low);
        put(w, v, "high", c->u_high);
    }
}

static void put_energy(struct out *w, cJSON *o, const ss_profile_energy *n)
{
    cJSON *v = put_object(w, o, "energy");
    put_text(w, v, "source", sources[n->source]);
    put_text(w, v, "device", n->device);
    put(w, v, "idle_w", n->idle_w);
    put(w, v, "cpu_w", n->cpu_w);
    put(w, v, "cores", n->cores);
    cJSON *r = put_object(w, v, "radio");
    put_text(w, r, "name", n->radio);
    put(w, r, "base_w", n->radio_base_w);
    put(w, r, "w_per_mbit", n->radio_w_per_mbit);
    put(w, r, "tail_s", n->radio_tail_s);
    put(w, r, "tail_w", n->radio_tail_w);
    put_text(w, v, "citation", n->citation);
}

static void put_top(struct out *w, cJSON *o, const ss_profile *p)
{
    put_text(w, o, "format", "streamsplit-profile");
    put(w, o, "version", 1);
    cJSON *v = put_object(w, o, "model");
    put_text(w, v, "architecture", p->architecture);
    put(w, v, "width", p->width);
    put(w, v, "mels", p->mels);
    put(w, v, "frames", p->frames);
    put(w, v, "generation", (double)p->generation);
    put(w, o, "hop_ms", p->hop_ms);
    put(w, o, "windows", (double)p->windows);
    put_machine(w, o, "device", &p->device);
    if (p->has_server)
        put_machine(w, o, "server", &p->server);
    else
        put(w, o, "server", NAN);
    put_energy(w, o, &p->energy);
    v = put_object(w, o, "quality");
    put_text(w, v, "measure", p->quality_is_probe ? "probe" : "cosine");
    put(w, v, "full", p->full);
    if (!isnan(p->u.at[0])) {
        static const char *const names[] = {"p5", "p25", "median", "p75", "p95"};
        v = put_object(w, o, "u");
        put_text(w, v, "of", ss_u_name(p->u.novelty));
        for (int i = 0; i < 5; i++)
            put(w, v, names[i], p->u.at[i]);
        if (!isnan(p->u.drift))
            put(w, v, "drift", p->u.drift);
    }
    cJSON *all = cJSON_AddArrayToObject(o, "choices");
    w->failed |= !all;
    for (size_t i = 0; i < p->n && !w->failed; i++) {
        cJSON *c = cJSON_CreateObject();
        w->failed |= !c || !cJSON_AddItemToArray(all, c);
        put_choice(w, c, &p->choice[i]);
    }
}

int ss_profile_print(const ss_profile *p, char **text, ss_err *e)
{
    struct out w = {0};
    ss_profile *again;
    *text = NULL;
    cJSON *o = cJSON_CreateObject();
    if (o)
        put_top(&w, o, p);
    if (o && !w.failed)
        *text = ss_json_print_lines(o);
    cJSON_Delete(o);
    if (!*text)
        return ss_err_set(e, SS_ENOMEM, "no memory for the text of a profile");
    int rc = ss_profile_parse(&again, *text, strlen(*text), "to be written", e);
    ss_profile_free(again);
    if (rc) {
        ss_free(*text);
        *text = NULL;
    }
    return rc;
}

/* ---- questions ---- */

int ss_profile_find(const ss_profile *p, int cut, const char *codec)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->choice[i].cut == cut && !strcmp(p->choice[i].codec, codec))
            return (int)i;
    return -1;
}

double ss_profile_compute_j(const ss_profile *p, double ms)
{
    return ms / 1e3 * p->energy.cpu_w * fmin((double)p->device.threads / p->energy.cores, 1);
}

double ss_profile_quality(const ss_profile *p, const ss_profile_choice *c)
{
    if (p->quality_is_probe && !isnan(c->probe))
        return c->probe;
    return p->full * fmax(c->cosine_mean, 0);
}

const char *ss_u_name(bool novelty)
{
    return novelty ? "novelty" : "u";
}

int ss_u_find(const char *name)
{
    return !strcmp(name, "novelty") ? 1 : !strcmp(name, "u") ? 0 : -1;
}

double ss_u_most(const ss_uncertainty *u)
{
    return u->novelty ? 2 : 1;
}

double ss_u_rank(const ss_uncertainty *u, double v)
{
    static const double rank[] = {0, 0.05, 0.25, 0.5, 0.75, 0.95, 1};
    const double most = ss_u_most(u);
    double at[] = {0, u->at[0], u->at[1], u->at[2], u->at[3], u->at[4], most};
    v = fmin(fmax(v, 0), most);
    if (isnan(u->at[0]))
        return v / most;
    int i = 0;
    while (i < 5 && v > at[i + 1])
        i++;
    double width = at[i + 1] - at[i];
    return width > 0 ? rank[i] + (rank[i + 1] - rank[i]) * (v - at[i]) / width : rank[i + 1];
}

bool ss_profile_codec_valid(const char *codec)
{
    size_t n = strlen(codec);
    return n > 0 && n < SS_PROFILE_CODEC && strspn(codec, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}
