#include "runner.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "audio/sound_codec.h"
#include "base/mem.h"
#include "base/pool.h"
#include "energy.h"
#include "io/atomic.h"
#include "kernels/int8.h"
#include "kernels/kernels.h"
#include "memory/mixture.h"
#include "nn/net.h"
#include "nn/net_i8.h"
#include "nn/quant.h"

enum { CUTS = SS_CUT_EMBEDDING + 1 };

static struct runner {
    const runner_settings *set;
    ss_reader *r;
    ss_writer *w;
    char kind[32], frontend_hash[17]; /* of the stream */
    ss_pool *pool;
    ss_model *model;
    ss_mixture *mixture; /* that came with the model, or NULL */
    struct stat seen;    /* the file it was loaded from */
    ss_net *net;         /* ready for all that was asked of it since the model was taken up */
    bool used;           /* the model has made a record */
    bool int8;
    ss_weights weights;
    ss_net_i8 *net_i8[CUTS][CUTS];
    runner_codecs codecs;
    int dtype;           /* 0: auto */
    size_t volume[CUTS]; /* floats at each cut */
    /* What waits to be run together: all from one cut to one other. */
    int n, from, until;
    int codec, as; /* they are packed by, or 0: then the dtype, or 0 */
    int in_dtype;  /* of `in`: f32, or u8 with scale */
    float in_scale;
    ss_record *record; /* [batch] */
    int64_t *begun;
    float *in, *out; /* or u8 */
    void *payload;   /* of one record, packed to dtype */
    bool nonfinite_said;
} u;

/* ---- model ---- */

/* A model, what came with it, and the network ready for the cuts that are known. */
typedef struct taken {
    ss_model *model;
    ss_mixture *mixture;
    ss_net *net; /* NULL when no cut is known yet; so is the other */
    ss_net_i8 *net_i8;
    int from, until; /* of net_i8 */
} taken;

static void drop(taken *t)
{
    ss_net_close(&t->net);
    ss_net_i8_close(&t->net_i8);
    ss_mixture_free(t->mixture);
    ss_model_free(t->model);
    *t = (taken){0};
}

static int open_one(const char *path, int from, int until, taken *t, ss_err *e)
{
    *t = (taken){.from = from, .until = until};
    int rc = ss_model_open(&t->model, path, e);
    const ss_model *m = t->model;
    if (rc == SS_OK && m->mixture) {
        rc = ss_mixture_unpack(&t->mixture, m->mixture, m->mixture_size, e);
        if (rc == SS_OK && ss_mixture_dim(t->mixture) != m->config.dim)
            rc = ss_err_set(e, SS_EUNFIT, "its memory is of %d dimensions, the embedding of %d",
                            ss_mixture_dim(t->mixture), m->config.dim);
        if (rc < 0)
            ss_err_prefix(e, "cannot load '%s'", path);
    }
    if (rc == SS_OK && u.int8 && (rc = ss_quant_check(m, e)) < 0)
        ss_err_prefix(e, "'%s'", path);
    if (rc == SS_OK && u.frontend_hash[0] && m->frontend_hash[0] && strcmp(u.frontend_hash, m->frontend_hash))
        rc = ss_err_set(e, SS_EUNFIT, "model '%s' is made for features of hash %s, the stream has %s", path,
                        m->frontend_hash, u.frontend_hash);
    if (rc == SS_OK && from < until)
        rc = u.int8 ? ss_net_i8_open(&t->net_i8, m, u.pool, from, until, u.set->batch, e)
                    : ss_net_open(&t->net, m, u.pool, u.weights, from, until, u.set->batch, e);
    if (rc < 0)
        drop(t);
    return rc;
}

/* The same, but when it is damaged, in what is needed of it, and the generation before it is not, that one.
 */
static int load(int from, int until, taken *t, ss_err *e)
{
    const char *path = u.set->model;
    int rc = open_one(path, from, until, t, e);
    if (rc != SS_EDAMAGED && rc != SS_ETRUNC && rc != SS_EIO)
        return rc;
    ss_err late;
    char *prev = ss_atomic_previous(path);
    if (prev && open_one(prev, from, until, t, &late) == SS_OK) {
        tool_warn("%s: the generation before it is used", e->text);
        rc = SS_OK;
    }
    ss_free(prev);
    return rc;
}

static void close_nets(void)
{
    ss_net_close(&u.net);
    for (int i = 0; i < CUTS; i++)
        for (int j = 0; j < CUTS; j++)
            ss_net_i8_close(&u.net_i8[i][j]);
    runner_codecs_close(&u.codecs);
}

static void take_up(const taken *t)
{
    close_nets();
    ss_mixture_free(u.mixture);
    ss_model_free(u.model);
    u.net = t->net;
    u.net_i8[t->from][t->until] = t->net_i8;
    u.mixture = t->mixture;
    u.model = t->model;
    u.used = false;
}

static bool same_architecture(const ss_model *a, const ss_model *b)
{
    char x[17], y[17];
    ss_model_arch_hash(&a->config, x);
    ss_model_arch_hash(&b->config, y);
    return !strcmp(x, y);
}

static int open_i8(ss_err *e)
{
    ss_net_i8 **net = &u.net_i8[u.from][u.until];
    return *net ? SS_OK : ss_net_i8_open(net, u.model, u.pool, u.from, u.until, u.set->batch, e);
}

/* The network for what waits. Before the first record of a model, damage in it is met as load does. */
static int be_ready(ss_err *e)
{
    taken t;
    int rc = u.int8  ? open_i8(e)
             : u.net ? ss_net_widen(u.net, u.model, u.from, u.until, e)
                     : ss_net_open(&u.net, u.model, u.pool, u.weights, u.from, u.until, u.set->batch, e);
    if (u.used || (rc != SS_EDAMAGED && rc != SS_ETRUNC && rc != SS_EIO))
        return rc;
    rc = load(u.from, u.until, &t, e);
    if (rc < 0)
        return rc;
    if (!same_architecture(t.model, u.model)) {
        drop(&t);
        return ss_err_set(e, SS_EUNFIT, "the generation before '%s' is of another architecture",
                          u.set->model);
    }
    take_up(&t);
    return SS_OK;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Between records: what is worse than the model in use, or none, does not replace it. */
static void follow(void)
{
    struct stat now;
    taken t;
    ss_err e;
    if (stat(u.set->model, &now) || same_file(&now, &u.seen))
        return;
    u.seen = now;
    if (load(u.from, u.until, &t, &e) < 0) {
        tool_warn("%s: generation %" PRIu64 " stays in use", e.text, u.model->generation);
        return;
    }
    bool same = same_architecture(t.model, u.model);
    if (!same || t.model->generation < u.model->generation) {
        tool_warn("'%s' was replaced by generation %" PRIu64 " of %s architecture: generation %" PRIu64
                  " stays in use",
                  u.set->model, t.model->generation, same ? "the same" : "another", u.model->generation);
        drop(&t);
        return;
    }
    take_up(&t);
    tool_info("generation %" PRIu64 " of '%s'", u.model->generation, u.set->model);
}

/* ---- records ---- */

/* Largest value to 127. */
static float step_of(const float *x, size_t n)
{
    float top = ss_max_abs(n, x);
    return top > 0 ? fmaxf(top / 127, 1e-37f) : 1.0f;
}

int runner_unpack(const ss_record *rec, size_t n, float *to, ss_err *e)
{
    float step = ss_attr_f32(&rec->attrs, SS_ATTR_SCALE, 0);
    switch (rec->dtype) {
    case SS_DTYPE_F32:
        memcpy(to, rec->data, n * sizeof *to);
        return SS_OK;
    case SS_DTYPE_F16:
        ss_f32_from_f16(n, rec->data, to);
        return SS_OK;
    case SS_DTYPE_I8:
        if (!(step > 0) || !isfinite(step))
            return ss_err_set(e, SS_EUNFIT, "i8 values without a scale above 0");
        ss_f32_from_i8(n, step, rec->data, to);
        return SS_OK;
    case SS_DTYPE_U8:
        if (!(step > 0) || !isfinite(step))
            return ss_err_set(e, SS_EUNFIT, "u8 values without a scale above 0");
        ss_f32_from_u8(n, step, rec->data, to);
        return SS_OK;
    case SS_DTYPE_PACKED:
        if (ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0) == SS_LOGMEL_U8 && rec->rank == 2)
            return ss_logmel_unpack(rec->data, rec->size, rec->dim[0], rec->dim[1], to, e);
        return ss_err_set(e, SS_EUNFIT, "packed by codec %" PRIu64 ", which is not known here",
                          ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0));
    default:
        return ss_err_set(e, SS_EUNFIT, "found dtype %s, expected f32, f16, i8, u8 or packed",
                          ss_dtype_name(rec->dtype) ? ss_dtype_name(rec->dtype) : "unknown");
    }
}

static size_t pack_shape(const ss_model_config *c, ss_record *rec, int cut, int dtype)
{
    uint32_t dim[3];
    ss_model_cut_shape(c, cut, dim);
    size_t n = (size_t)dim[0] * dim[1] * dim[2];
    rec->rank = cut == SS_CUT_INPUT ? 2 : cut == SS_CUT_EMBEDDING ? 1 : 3;
    memcpy(rec->dim, cut == SS_CUT_INPUT ? dim + 1 : dim, rec->rank * sizeof *dim);
    rec->dtype = (uint8_t)dtype;
    rec->size = n * ss_dtype_size(dtype);
    ss_attr_clear(&rec->attrs, SS_ATTR_SCALE);
    ss_attr_clear(&rec->attrs, SS_ATTR_CODEC);
    return n;
}

void runner_pack(const ss_model_config *c, ss_record *rec, int cut, int dtype, const float *x, void *payload)
{
    size_t n = pack_shape(c, rec, cut, dtype);
    rec->data = dtype == SS_DTYPE_F32 ? (const void *)x : payload;
    if (dtype == SS_DTYPE_F16) {
        ss_f16_from_f32(n, x, payload);
    } else if (dtype == SS_DTYPE_I8) {
        float step = step_of(x, n);
        ss_i8_from_f32(n, step, x, payload);
        ss_attr_set_f32(&rec->attrs, SS_ATTR_SCALE, step);
    }
}

/* ---- codecs ---- */

int runner_codecs_open(runner_codecs *c, const ss_model *m, int cut, ss_err *e)
{
    if (c->at[cut])
        return SS_OK;
    int rc = m ? ss_codec_open(&c->at[cut], m, cut, e)
               : ss_err_set(e, SS_EUNFIT, "the model has no codecs at cut %s", ss_cut_name(cut));
    if (rc == SS_OK && !(c->payload[cut] = ss_alloc(ss_codec_room(c->at[cut]), 1))) {
        ss_codec_close(&c->at[cut]);
        rc = ss_err_set(e, SS_ENOMEM, "no memory for a payload at cut %s", ss_cut_name(cut));
    }
    return rc;
}

void runner_codecs_close(runner_codecs *c)
{
    for (int i = 0; i < CUTS; i++) {
        ss_codec_close(&c->at[i]);
        ss_free(c->payload[i]);
        c->payload[i] = NULL;
    }
}

int runner_decode(runner_codecs *c, const ss_model *m, const ss_record *rec, int cut, size_t n, float *to,
                  ss_err *e)
{
    /* Features that are packed need no model. */
    if (rec->dtype != SS_DTYPE_PACKED || ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0) == SS_LOGMEL_U8)
        return runner_unpack(rec, n, to, e);
    if (!ss_attr_has(&rec->attrs, SS_ATTR_CODEC))
        return ss_err_set(e, SS_EUNFIT, "a packed payload, not stamped with its codec");
    int rc = runner_codecs_open(c, m, cut, e);
    return rc < 0 ? rc
                  : ss_codec_decode(c->at[cut], ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0), rec->data,
                                    rec->size, to, e);
}

int runner_encode(runner_codecs *c, const ss_model *m, ss_record *rec, int cut, int codec, const float *x,
                  ss_err *e)
{
    int rc = runner_codecs_open(c, m, cut, e);
    if (rc == SS_OK)
        rc = ss_codec_encode(c->at[cut], (uint64_t)codec, x, c->payload[cut], e);
    if (rc < 0)
        return rc;
    pack_shape(&m->config, rec, cut, SS_DTYPE_PACKED);
    rec->size = (size_t)rc;
    rec->data = c->payload[cut];
    ss_attr_set_uint(&rec->attrs, SS_ATTR_CODEC, (uint64_t)codec);
    return SS_OK;
}

int runner_codec_option(const char *codec, const char **dtype)
{
    int number = ss_codec_parse(codec), channels, bits;
    if (number > 0 && ss_codec_bottleneck((uint64_t)number, &channels, &bits))
        return number;
    if (number < SS_CODEC_F32 || number > SS_CODEC_I8)
        tool_usage("--codec: found '%s', expected f32, f16, i8 or one as b16i8", codec);
    *dtype = codec;
    return 0;
}

int runner_wish(runner_codecs *c, const ss_model *m, const ss_record *rec, int cut, int *dtype)
{
    static bool said;
    uint64_t number = ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0);
    char name[32];
    ss_err e;
    int channels, bits;
    if (rec->dtype == SS_DTYPE_PACKED) /* says how it is packed itself */
        return 0;
    if (!number || number == SS_CODEC_U8) /* u8 is what int8 arithmetic gives by itself */
        return 0;
    if (number < SS_CODEC_U8) {
        *dtype = ss_codec_dtype((int)number);
        return 0;
    }
    ss_err_set(&e, SS_EUNFIT, "%s is no codec of a cut", ss_codec_name(number, name));
    if (ss_codec_bottleneck(number, &channels, &bits) && runner_codecs_open(c, m, cut, &e) == SS_OK &&
        ss_codec_check(c->at[cut], number, &e) == SS_OK)
        return (int)number;
    if (!said)
        tool_warn("stamped with a codec that cannot be used, what is sent is not packed: %s", e.text);
    said = true;
    return 0;
}

static bool inside(int cut)
{
    return cut >= SS_CUT_BLOCK0 && cut < SS_CUT_EMBEDDING;
}

/* Numbers of the int8 network itself, with its scale: they are run as they are. */
static bool own_numbers(const ss_record *rec, int from)
{
    return u.int8 && rec->dtype == SS_DTYPE_U8 && inside(from) &&
           ss_attr_f32(&rec->attrs, SS_ATTR_SCALE, 0) == ss_net_i8_scale(u.model, from);
}

/* The n that wait, to u.out in `dtype`. */
static int run_f32(int n, ss_err *e)
{
    if (u.from == u.until) {
        memcpy(u.out, u.in, (size_t)n * u.volume[u.from] * sizeof *u.out);
        return SS_OK;
    }
    int rc = be_ready(e);
    if (rc < 0)
        return rc;
    u.used = true;
    return ss_net_run_between(u.net, u.from, u.until, n, u.in, u.out);
}

static int run_int8(int n, int dtype, ss_err *e)
{
    ss_net_i8 **net = &u.net_i8[u.from][u.until];
    size_t count = (size_t)n * u.volume[u.from];
    int rc = be_ready(e);
    if (rc < 0)
        return rc;
    u.used |= u.from < u.until;
    const void *in = u.in;
    if (u.in_dtype == SS_DTYPE_U8 && u.in_scale != ss_net_i8_scale(u.model, u.from)) {
        /* The model was replaced since. u.out has room, and is written to when it has been read. */
        float *x = ss_alloc(count, sizeof *x);
        if (!x)
            return ss_err_set(e, SS_ENOMEM, "no memory for %d records", n);
        ss_f32_from_u8(count, u.in_scale, in, x);
        rc = ss_net_i8_run(*net, n, SS_DTYPE_F32, x, dtype, u.out);
        ss_free(x);
        return rc;
    }
    return ss_net_i8_run(*net, n, u.in_dtype, in, dtype, u.out);
}

/* Run and write what waits. */
static int flush(ss_err *e)
{
    int n = u.n, rc = SS_OK;
    if (n == 0)
        return SS_OK;
    u.n = 0;
    if (u.set->follow)
        follow();
    const int dtype = u.as ? u.as : u.dtype ? u.dtype : SS_DTYPE_F32;
    const bool numbers = u.int8 && !u.dtype && !u.as && !u.codec && inside(u.until);
    rc = u.int8 && u.from < SS_CUT_EMBEDDING ? run_int8(n, numbers ? SS_DTYPE_U8 : SS_DTYPE_F32, e)
                                             : run_f32(n, e);
    energy_divide(n);
    for (int i = 0; i < n && rc == SS_OK; i++) {
        ss_record *rec = &u.record[i];
        const float *x = u.out + (size_t)i * u.volume[u.until];
        if (numbers) {
            pack_shape(&u.model->config, rec, u.until, SS_DTYPE_U8);
            rec->data = (const uint8_t *)u.out + (size_t)i * u.volume[u.until];
            ss_attr_set_f32(&rec->attrs, SS_ATTR_SCALE, ss_net_i8_scale(u.model, u.until));
        } else if (u.codec) {
            rc = runner_encode(&u.codecs, u.model, rec, u.until, u.codec, x, e);
            if (rc < 0)
                break;
        } else {
            runner_pack(&u.model->config, rec, u.until, dtype, x, u.payload);
        }
        ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, (uint64_t)u.until);
        if (u.until > u.from)
            ss_attr_set_uint(&rec->attrs, SS_ATTR_GENERATION, u.model->generation);
        if (u.until == SS_CUT_EMBEDDING && u.mixture) {
            ss_mixture_score score;
            ss_mixture_rate(u.mixture, x, &score);
            ss_attr_set_f32(&rec->attrs, SS_ATTR_U, score.u);
            ss_attr_set_f32(&rec->attrs, SS_ATTR_NOVELTY, score.novelty);
        }
        energy_stamp(&rec->attrs);
        ss_stage_end(&rec->attrs, u.set->work, u.begun[i]);
        rc = ss_writer_put(u.w, rec, e);
    }
    return rc;
}

static int pass(const ss_record *rec, ss_err *e)
{
    int rc = flush(e);
    return rc < 0 ? rc : ss_writer_put(u.w, rec, e);
}

/* Cut that the record is at and cut that it goes to. */
static int find_cuts(const ss_record *rec, int *from, int *until, ss_err *e)
{
    bool stamped = ss_attr_has(&rec->attrs, SS_ATTR_SPLIT);
    uint64_t stamp = ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, 0);
    bool features = !strcmp(u.kind, "logmel");
    if (stamped && stamp > SS_CUT_EMBEDDING)
        return ss_err_set(e, SS_EUNFIT, "stamped with split %" PRIu64 ", the last one is %d", stamp,
                          SS_CUT_EMBEDDING);
    *from = u.set->from;
    if (*from == RUNNER_AUTO) {
        if (!features && !stamped && strcmp(u.kind, "embedding"))
            return ss_err_set(e, SS_EUNFIT, "not stamped with the cut it is at: name it with --from");
        *from = features ? SS_CUT_INPUT : stamped ? (int)stamp : SS_CUT_EMBEDDING;
    }
    *until = u.set->until;
    if (*until == RUNNER_AUTO) {
        if (!stamped)
            return ss_err_set(e, SS_EUNFIT, "not stamped with the cut to run to, which --until=auto obeys");
        *until = (int)stamp;
    }
    if (*from > *until)
        return ss_err_set(e, SS_EUNFIT, "it is at cut %s already, beyond %s", ss_cut_name(*from),
                          ss_cut_name(*until));
    return SS_OK;
}

int runner_check_shape(const ss_model_config *c, const ss_record *rec, int cut, ss_err *e)
{
    uint32_t dim[3], *d = dim;
    uint8_t rank = cut == SS_CUT_INPUT ? 2 : cut == SS_CUT_EMBEDDING ? 1 : 3;
    ss_model_cut_shape(c, cut, dim);
    if (cut == SS_CUT_INPUT)
        d++;
    if (rec->rank == rank && !memcmp(rec->dim, d, rank * sizeof *d))
        return SS_OK;
    char found[96] = "", expected[48] = "";
    for (int i = 0; i < rec->rank && i < 6; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%" PRIu32, i ? " x " : "",
                 rec->dim[i]);
    for (int i = 0; i < rank; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%" PRIu32,
                 i ? " x " : "", d[i]);
    return ss_err_set(e, SS_EUNFIT, "found shape [%s], the model has [%s] at cut %s", found, expected,
                      ss_cut_name(cut));
}

ss_record runner_gap(const ss_record *rec)
{
    ss_record gap = {.type = SS_TYPE_GAP,
                     .flags = rec->flags,
                     .device = rec->device,
                     .epoch = rec->epoch,
                     .seq = rec->seq,
                     .time_ns = rec->time_ns};
    ss_attr_set_uint(&gap.attrs, SS_ATTR_COUNT, 1);
    ss_attr_set_uint(&gap.attrs, SS_ATTR_REASON, SS_GAP_SOURCE);
    return gap;
}

static int take(const ss_record *rec, ss_err *e)
{
    int from = 0, until = 0, rc;
    if (rec->type != SS_TYPE_DATA)
        return pass(rec, e);
    rc = find_cuts(rec, &from, &until, e);
    if (rc < 0)
        return rc;
    if (from == SS_CUT_EMBEDDING && rec->dtype != SS_DTYPE_PACKED && !u.set->codec)
        return pass(rec, e);
    rc = runner_check_shape(&u.model->config, rec, from, e);
    int in_dtype = own_numbers(rec, from) ? SS_DTYPE_U8 : SS_DTYPE_F32, codec = u.set->codec, as = 0;
    if (rc == SS_OK && u.set->until == RUNNER_AUTO && !codec && !u.dtype)
        codec = runner_wish(&u.codecs, u.model, rec, until, &as);
    if (rc == SS_OK && u.n &&
        (u.from != from || u.until != until || u.in_dtype != in_dtype || u.codec != codec || u.as != as)) {
        rc = flush(e);
        in_dtype = own_numbers(rec, from) ? SS_DTYPE_U8 : SS_DTYPE_F32; /* of the model that is there now */
    }
    if (rc < 0)
        return rc;
    float *x = u.in + (size_t)u.n * u.volume[from];
    ss_record *to = &u.record[u.n];
    *to = *rec;
    to->data = NULL;
    u.begun[u.n] = ss_stage_begin(&to->attrs, u.set->wait);
    if (in_dtype == SS_DTYPE_U8) {
        memcpy((uint8_t *)u.in + (size_t)u.n * u.volume[from], rec->data, u.volume[from]);
        u.in_scale = ss_net_i8_scale(u.model, from);
    } else {
        rc = runner_decode(&u.codecs, u.model, rec, from, u.volume[from], x, e);
    }
    if (rc < 0)
        return rc;
    if (in_dtype == SS_DTYPE_F32 && !ss_all_finite(u.volume[from], x)) {
        if (!u.nonfinite_said)
            tool_warn("record %" PRIu64 " holds values that are not finite: a gap is put in its place",
                      ss_reader_count(u.r) - 1);
        u.nonfinite_said = true;
        ss_record gap = runner_gap(rec);
        return pass(&gap, e);
    }
    u.from = from;
    u.until = until;
    u.in_dtype = in_dtype;
    u.codec = codec;
    u.as = as;
    u.n++;
    return u.n < u.set->batch && ss_reader_ready(u.r) ? SS_OK : flush(e);
}

/* ---- all of it ---- */

static int prepare(ss_err *e)
{
    size_t most = 0, batch = (size_t)u.set->batch;
    for (int cut = 0; cut < CUTS; cut++) {
        uint32_t d[3];
        ss_model_cut_shape(&u.model->config, cut, d);
        u.volume[cut] = (size_t)d[0] * d[1] * d[2];
        most = u.volume[cut] > most ? u.volume[cut] : most;
    }
    u.record = ss_alloc(batch, sizeof *u.record);
    u.begun = ss_alloc(batch, sizeof *u.begun);
    u.in = ss_alloc(batch * most, sizeof *u.in);
    u.out = ss_alloc(batch * most, sizeof *u.out);
    u.payload = ss_alloc(most, sizeof(float));
    if (!u.record || !u.begun || !u.in || !u.out || !u.payload)
        return ss_err_set(e, SS_ENOMEM, "no memory for %d records", u.set->batch);
    return SS_OK;
}

static int open_streams(const char *input, ss_err *e)
{
    const ss_header *h;
    ss_header own = {0};
    char arch[17];
    int until = u.set->until, rc = tool_reader(&u.r, input, "logmel|cut|embedding", &h, e);
    if (rc < 0)
        return rc;
    memcpy(u.kind, h->kind, sizeof u.kind);
    memcpy(u.frontend_hash, h->frontend_hash, sizeof u.frontend_hash);
    if (until == RUNNER_AUTO && strcmp(u.kind, "logmel"))
        return ss_err_set(e, SS_EUNFIT, "--until=auto takes a stream of kind logmel, found %s", u.kind);
    /* Features come in at one cut; where one goes out too, the network is ready before the first record. */
    taken t;
    bool known = !strcmp(u.kind, "logmel") && until != RUNNER_AUTO && u.set->from <= SS_CUT_INPUT;
    if (tool_set.threads != 1)
        rc = ss_pool_open(&u.pool, tool_set.threads, e);
    if (rc >= 0)
        rc = load(SS_CUT_INPUT, known ? until : SS_CUT_INPUT, &t, e);
    if (rc < 0)
        return rc;
    take_up(&t);
    if (u.set->codec && until != RUNNER_AUTO) {
        rc = runner_codecs_open(&u.codecs, u.model, until, e);
        if (rc == SS_OK)
            rc = ss_codec_check(u.codecs.at[until], (uint64_t)u.set->codec, e);
        if (rc < 0)
            return ss_err_prefix(e, "'%s'", u.set->model);
    }
    ss_model_arch_hash(&u.model->config, arch);
    if (h->arch_hash[0] && strcmp(h->arch_hash, arch) && !strcmp(u.kind, "cut"))
        return ss_err_set(e, SS_EUNFIT,
                          "the stream was cut out of a network of architecture %s, model '%s' is of %s",
                          h->arch_hash, u.set->model, arch);
    rc = prepare(e);
    if (rc == SS_OK)
        rc = ss_header_copy(&own, h, e);
    if (rc == SS_OK) {
        const char *kind = until == SS_CUT_INPUT ? u.kind : until == SS_CUT_EMBEDDING ? "embedding" : "cut";
        if (strcmp(kind, "logmel"))
            memcpy(own.arch_hash, arch, sizeof arch);
        rc = tool_writer(&u.w, u.r, &own, kind, e);
    }
    ss_header_clear(&own);
    return rc;
}

static int run(const char *input, ss_err *e)
{
    const ss_record *rec;
    if (stat(u.set->model, &u.seen)) /* before it is loaded, so that no change is missed */
        memset(&u.seen, 0, sizeof u.seen);
    int rc = open_streams(input, e);
    while (rc >= 0 && (rc = ss_reader_next(u.r, &rec, e)) > 0) {
        rc = take(rec, e);
        if (rc < 0 && rc != SS_EIO)
            ss_err_prefix(e, "record %" PRIu64, ss_reader_count(u.r) - 1);
    }
    if (u.w && u.n) { /* what came before a failure is delivered */
        ss_err late;
        int last = flush(&late);
        if (last < 0 && rc >= 0) {
            *e = late;
            rc = last;
        }
    }
    if (u.r)
        ss_reader_tie(u.r, NULL);
    return tool_writer_finish(&u.w, rc, e);
}

int runner_run(const runner_settings *s, const char *input, ss_err *e)
{
    memset(&u, 0, sizeof u);
    u.set = s;
    u.int8 = s->arith && !strcmp(s->arith, "int8");
    u.weights = s->arith && !strcmp(s->arith, "f16") ? SS_WEIGHTS_F16 : SS_WEIGHTS_F32;
    u.dtype = strcmp(s->dtype, "auto") ? ss_dtype_parse(s->dtype) : 0;
    int rc = run(input, e);
    close_nets();
    ss_pool_close(&u.pool);
    ss_mixture_free(u.mixture);
    ss_model_free(u.model);
    ss_free(u.record);
    ss_free(u.begun);
    ss_free(u.in);
    ss_free(u.out);
    ss_free(u.payload);
    ss_reader_close(&u.r);
    return rc;
}
