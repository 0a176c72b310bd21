/* ss-profile: what each choice of a cut and a codec costs on this device, and keeps. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audio/logmel.h"
#include "audio/sound_codec.h"
#include "audio/source.h"
#include "audio/synth.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "energy.h"
#include "io/atomic.h"
#include "io/json.h"
#include "io/manifest.h"
#include "io/sound.h"
#include "kernels/int8.h"
#include "learn/probe.h"
#include "memory/mixture.h"
#include "nn/codec.h"
#include "nn/net.h"
#include "nn/net_i8.h"
#include "nn/quant.h"
#include "runner.h"
#include "split/energy.h"
#include "split/tally.h"

enum { CUTS = SS_CUT_EMBEDDING + 1, MAX_CODECS = 64, MAX_CHOICES = SS_PROFILE_MAX_CHOICES };
#define IDLE_S 2   /* heard to for the idle power, where it can be measured */
#define MICROS 100 /* of stages before, as records have them: one or two bytes */

static const char *model_path, *reference_path, *manifest_path, *compare, *server_path, *device_name,
    *system_root, *energy_from = "auto", *radio = "wifi", *arith = "f32", *uncertainty = "novelty";
static int windows = 200, test_fold;
static ss_paths sounds;
static uint64_t synth_seed = 1;

static int add_sound(const char *text, ss_err *e)
{
    char *end;
    if (strncmp(text, "synth:", 6))
        return ss_paths_expand(&sounds, text, e);
    synth_seed = strtoull(text + 6, &end, 10);
    return text[6] >= '0' && text[6] <= '9' && !*end
               ? SS_OK
               : ss_err_set(e, SS_EINVAL, "%s: expected a seed, as in synth:1", text);
}

static const tool_option options[] = {
    {"data", 0, OPT_CALL, NULL, 0, 0, "SOUND", "file, folder or @LIST, and operands behind it; else synth:1",
     add_sound},
    {"manifest", 0, OPT_STRING, &manifest_path, 0, 0, "FILE",
     "in place of these: labelled clips in folds, for a probe", NULL},
    {"test-fold", 0, OPT_INT, &test_fold, 0, INT_MAX, "N",
     "whose clips are measured, the probe learns the others; 0: the last", NULL},
    {"reference", 0, OPT_STRING, &reference_path, 0, 0, "MODEL",
     "the server's, if it has other weights: it finishes, and is compared with", NULL},
    {"uncertainty", 0, OPT_CHOICE, &uncertainty, 0, 0, "novelty|u", "by which windows are told apart", NULL},
    {"windows", 'n', OPT_INT, &windows, 1, 1 << 20, "N", "to measure, if there are as many", NULL},
    {"arith", 0, OPT_CHOICE, &arith, 0, 0, "f32|f16|int8", "arithmetic of both halves", NULL},
    {"compare", 0, OPT_STRING, &compare, 0, 0, "NAME,...",
     "beside the cuts: opus, opus:RATE, flac, pcm, logmel", NULL},
    {"server", 0, OPT_STRING, &server_path, 0, 0, "PROFILE",
     "the other half's times, and a probe's quality, measured there", NULL},
    {"energy", 0, OPT_STRING, &energy_from, 0, 0, "NAME", "auto, measured, a device, or a profile's file",
     NULL},
    {"radio", 0, OPT_CHOICE, &radio, 0, 0, "wifi|lte", "of which the constants are taken", NULL},
    {"name", 0, OPT_STRING, &device_name, 0, 0, "NAME", "of this device, else its host name", NULL},
    {"system", 0, OPT_STRING, &system_root, 0, 0, "DIR", "stands before /sys and /proc, for tests", NULL},
    {"force", 'f', OPT_FLAG, &tool_set.force, 0, 0, NULL, "replace a file that exists", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {
    "ss-profile", "MODEL [SOUND...]",
    "Measure time, bytes and fidelity of every cut and codec on this device.",
    TAKES_OUTPUT | TAKES_THREADS | TAKES_PROGRESS, options};

/* A cut and a codec. Those of sound have a pipeline of their own. */
typedef struct choice {
    int cut;
    char codec[SS_PROFILE_CODEC];
    int dtype;  /* SS_DTYPE_..., PACKED for logmel-u8 and learned codecs, 0 for sound */
    int number; /* of a learned codec, or 0 */
    ss_tally tally;
    /* of sound */
    int sound, rate; /* SS_SOUND_..., 0 for pcm */
    ss_sound_encoder *encoder;
    ss_sound_decoder *decoder;
    ss_logmel *front;
    size_t window; /* that it makes next, of the clip */
    bool follows;
} choice;

static struct profile {
    ss_model *m, *server; /* the same without --reference */
    ss_mixture *mixture;
    ss_pool *pool;
    ss_net *exact, *net; /* the server's in f32; the device's, which may be the same */
    ss_net_i8 *head[CUTS], *tail[CUTS];
    runner_codecs codecs, server_codecs;
    bool int8;
    ss_logmel_config front_config;
    ss_logmel *front;
    size_t hop, values, dim; /* samples; of a window; of an embedding */
    choice choice[MAX_CHOICES];
    int n;
    ss_writer *wire;
    float *scaled;                      /* numbers of int8 at a cut as values, for a learned codec */
    float *x, *at, *back, *z, *sound_x; /* a window, values at a cut, those that came over, an embedding */
    void *payload;
    float *exact_z; /* of the windows of this clip [room][dim] */
    size_t clip_windows, room;
    double *u;             /* [windows] of those measured */
    bool *first;           /* [windows] of a clip */
    size_t measured, last; /* windows; how many there may be at the end of this clip */
    /* The probe: [taught] windows of the server's embeddings in double that it learns, then it. */
    bool teaching;
    uint32_t label; /* of this clip */
    double *lesson, *probability;
    uint32_t *lesson_label;
    bool *lesson_held;
    size_t taught, lesson_room, clip;
    ss_probe probe;
    size_t right; /* windows that it names by the exact embedding */
    bool warm;
    uint64_t seq;
    ss_meter *meter;
    double joules;
    ss_profile_energy energy;
} p;

/* ---- choices ---- */

/* The codecs that a cut has here, by name; how many. */
static int list_codecs(int cut, const char *name[MAX_CODECS])
{
    static char learned[2 * SS_CODEC_LEVELS][32];
    int n = 0, number[2 * SS_CODEC_LEVELS];
    if (p.int8 && cut > SS_CUT_INPUT && cut < SS_CUT_EMBEDDING) {
        name[n++] = "u8"; /* what the network holds */
    } else {
        name[n++] = "f32";
        name[n++] = "f16";
        name[n++] = "i8";
    }
    for (int i = 0, all = ss_codec_list(p.m, cut, number); i < all; i++)
        name[n++] = ss_codec_name((uint64_t)number[i], learned[i]);
    return n;
}

static choice *add_choice(int cut, const char *codec, ss_err *e)
{
    if (p.n == MAX_CHOICES) {
        ss_err_set(e, SS_ELIMIT, "more than %d choices", MAX_CHOICES);
        return NULL;
    }
    choice *c = &p.choice[p.n++];
    c->cut = cut;
    snprintf(c->codec, sizeof c->codec, "%s", codec);
    c->dtype = ss_dtype_parse(codec);
    int number = ss_codec_parse(codec), channels, bits;
    if (number > 0 && ss_codec_bottleneck((uint64_t)number, &channels, &bits)) {
        c->number = number;
        c->dtype = SS_DTYPE_PACKED;
    }
    return c;
}

static int add_sound_choice(const char *text, ss_err *e)
{
    char codec[SS_PROFILE_CODEC];
    int rc = SS_OK;
    snprintf(codec, sizeof codec, "%s", text);
    if (!strcmp(text, "logmel") || !strcmp(text, "logmel-u8")) {
        choice *c = add_choice(SS_CUT_INPUT, "logmel-u8", e);
        if (c)
            c->dtype = SS_DTYPE_PACKED;
        return c ? SS_OK : SS_ELIMIT;
    }
    for (char *at = codec; (at = strchr(at, ':'));)
        *at = '-'; /* opus:16k is called opus-16k */
    choice *c = add_choice(SS_CUT_INPUT, codec, e);
    if (!c)
        return SS_ELIMIT;
    c->dtype = 0;
    if (strcmp(text, "pcm") && (rc = ss_sound_codec_parse(text, &c->sound, &c->rate, e)) == SS_EINVAL)
        return ss_err_set(e, SS_EINVAL,
                          "--compare: found '%s', expected opus, opus:RATE, flac, pcm or logmel", text);
    if (!rc && c->sound)
        rc = ss_sound_encoder_open(&c->encoder, c->sound, c->rate, e);
    if (!rc)
        rc = ss_sound_decoder_open(&c->decoder, e);
    return rc ? rc : ss_logmel_create(&c->front, &p.front_config, e);
}

static int make_choices(ss_err *e)
{
    const char *name[MAX_CODECS];
    char *list = compare ? ss_strdup(compare) : NULL;
    int rc = SS_OK;
    if (compare && !list)
        return ss_err_set(e, SS_ENOMEM, "no memory");
    for (int cut = 0; cut < CUTS && !rc; cut++) {
        for (int i = 0, n = list_codecs(cut, name); i < n && !rc; i++)
            rc = add_choice(cut, name[i], e) ? SS_OK : SS_ELIMIT;
        for (char *at = cut == SS_CUT_INPUT ? list : NULL, *one; !rc && at && (one = strsep(&at, ","));)
            rc = add_sound_choice(one, e);
    }
    ss_free(list);
    for (int i = 0; i < p.n; i++)
        for (int k = 0; k < i && !rc; k++)
            if (p.choice[i].cut == p.choice[k].cut && !strcmp(p.choice[i].codec, p.choice[k].codec))
                rc = ss_err_set(e, SS_EINVAL, "--compare: %s comes twice", p.choice[i].codec);
    return rc;
}

/* ---- the two halves ---- */

static double since_ms(int64_t begun)
{
    return (double)(ss_clock_mono_ns() - begun) * 1e-6;
}

/* Values of a window at a cut, to p.at: numbers of the network in int8 between its blocks, else f32. */
static int run_head(int cut)
{
    if (cut == SS_CUT_INPUT) {
        memcpy(p.at, p.x, p.values * sizeof *p.at);
        return SS_OK;
    }
    if (!p.int8)
        return ss_net_run_between(p.net, SS_CUT_INPUT, cut, 1, p.x, p.at);
    return ss_net_i8_run(p.head[cut], 1, SS_DTYPE_F32, p.x,
                         cut < SS_CUT_EMBEDDING ? SS_DTYPE_U8 : SS_DTYPE_F32, p.at);
}

/* And on, from p.back to the embedding. */
static int run_tail(int cut, bool numbers)
{
    if (cut == SS_CUT_EMBEDDING) {
        memcpy(p.z, p.back, p.dim * sizeof *p.z);
        return SS_OK;
    }
    if (!p.int8 || p.server != p.m)
        return ss_net_run_between(p.server != p.m ? p.exact : p.net, cut, SS_CUT_EMBEDDING, 1, p.back, p.z);
    return ss_net_i8_run(p.tail[cut], 1, numbers ? SS_DTYPE_U8 : SS_DTYPE_F32, p.back, SS_DTYPE_F32, p.z);
}

/* A record as the last program on the device writes it, of live sound. */
static ss_record blank(int cut, int64_t begun)
{
    ss_record rec = {
        .type = SS_TYPE_DATA, .device = 1, .epoch = 1, .seq = p.seq++, .time_ns = ss_clock_real_ns()};
    ss_attr_set_uint(&rec.attrs, SS_ATTR_SPLIT, (uint64_t)cut);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, p.m->generation);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_T_CAPTURE, MICROS);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_W_FEATURIZE, MICROS);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_T_FEATURIZE, MICROS);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_W_ENCODE, MICROS);
    ss_stage_end(&rec.attrs, SS_ATTR_T_ENCODE, begun);
    return rec;
}

/* What it takes on the wire, or negative. */
static int64_t send_record(const ss_record *rec, ss_err *e)
{
    size_t pending;
    uint64_t before = ss_writer_offset(p.wire);
    int rc = ss_writer_put(p.wire, rec, e);
    ss_writer_pending(p.wire, &pending);
    ss_writer_drained(p.wire, pending);
    return rc < 0 ? rc : (int64_t)(ss_writer_offset(p.wire) - before);
}

static int pack(const choice *c, ss_record *rec, ss_err *e)
{
    if (c->number) {
        bool numbers = p.int8 && c->cut < SS_CUT_EMBEDDING;
        if (numbers)
            ss_f32_from_u8(ss_model_cut_size(&p.m->config, c->cut), ss_net_i8_scale(p.m, c->cut),
                           (const uint8_t *)p.at, p.scaled);
        return runner_encode(&p.codecs, p.m, rec, c->cut, c->number, numbers ? p.scaled : p.at, e);
    }
    runner_pack(&p.m->config, rec, c->cut, c->dtype, p.at,
                c->dtype == SS_DTYPE_U8 ? (void *)p.at : p.payload);
    if (c->dtype == SS_DTYPE_U8)
        ss_attr_set_f32(&rec->attrs, SS_ATTR_SCALE, ss_net_i8_scale(p.m, c->cut));
    if (c->dtype != SS_DTYPE_PACKED)
        return SS_OK;
    ssize_t size = ss_logmel_pack(p.at, rec->dim[0], rec->dim[1], p.payload, e);
    rec->size = size < 0 ? 0 : (size_t)size;
    ss_attr_set_uint(&rec->attrs, SS_ATTR_CODEC, SS_LOGMEL_U8);
    return size < 0 ? (int)size : SS_OK;
}

static int unpack(const choice *c, const ss_record *rec, ss_err *e)
{
    size_t n = ss_model_cut_size(&p.m->config, c->cut);
    if (p.server != p.m)
        return runner_decode(&p.server_codecs, p.server, rec, c->cut, n, p.back, e);
    if (c->dtype != SS_DTYPE_U8)
        return runner_decode(&p.codecs, p.m, rec, c->cut, n, p.back, e);
    memcpy(p.back, rec->data, n);
    return SS_OK;
}

/* Does the probe name the class of this clip? NaN without a probe. */
static double named(const float *z)
{
    if (!p.probe.dim)
        return NAN;
    double *x = p.lesson; /* which has been learnt */
    for (size_t i = 0; i < p.dim; i++)
        x[i] = (double)z[i];
    return ss_probe_predict(&p.probe, x, p.probability) == p.label;
}

/* One window through one choice; `ms` has been spent until it was at the cut. */
static int try_choice(choice *c, double ms, const float *exact, ss_err *e)
{
    int64_t begun = ss_clock_mono_ns();
    ss_record rec = blank(c->cut, begun);
    int rc = pack(c, &rec, e);
    int64_t bytes = rc < 0 ? rc : send_record(&rec, e);
    if (bytes < 0)
        return (int)bytes;
    double device_ms = ms + since_ms(begun);
    begun = ss_clock_mono_ns();
    rc = unpack(c, &rec, e);
    if (rc == SS_OK && run_tail(c->cut, c->dtype == SS_DTYPE_U8))
        rc = ss_err_set(e, SS_EINVAL, "cannot run on from cut %s", ss_cut_name(c->cut));
    double server_ms = since_ms(begun);
    if (rc < 0 || !p.warm)
        return rc;
    return ss_tally_add(&c->tally, device_ms, server_ms, (double)bytes, ss_tally_cosine(exact, p.z, p.dim),
                        named(p.z), e);
}

static int try_all(const float *exact, ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0; i < p.n && !rc; i++) {
        choice *c = &p.choice[i];
        if (!c->dtype) /* sound */
            continue;
        int64_t begun = ss_clock_mono_ns();
        rc = run_head(c->cut) ? ss_err_set(e, SS_EINVAL, "cannot run to cut %s", ss_cut_name(c->cut)) : SS_OK;
        double ms = since_ms(begun);
        /* Those of one cut stand together: the network is run to it once. */
        for (bool more = true; !rc && more;) {
            rc = try_choice(&p.choice[i], ms, exact, e);
            more = i + 1 < p.n && p.choice[i + 1].cut == c->cut && p.choice[i + 1].dtype;
            i += more;
        }
    }
    return rc;
}

/* The window in p.x as one for the probe. */
static int teach(ss_err *e)
{
    if (p.taught == p.lesson_room) {
        size_t room = p.lesson_room ? 2 * p.lesson_room : 1024;
        double *x = ss_realloc(p.lesson, room * p.dim, sizeof *x);
        p.lesson = x ? x : p.lesson;
        uint32_t *label = ss_realloc(p.lesson_label, room, sizeof *label);
        p.lesson_label = label ? label : p.lesson_label;
        bool *held = ss_realloc(p.lesson_held, room, sizeof *held);
        p.lesson_held = held ? held : p.lesson_held;
        if (!x || !label || !held)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu windows", room);
        p.lesson_room = room;
    }
    if (ss_net_run_between(p.exact, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, p.x, p.z))
        return ss_err_set(e, SS_EINVAL, "cannot run the network");
    for (size_t i = 0; i < p.dim; i++)
        p.lesson[p.taught * p.dim + i] = (double)p.z[i];
    p.lesson_label[p.taught] = p.label;
    p.lesson_held[p.taught++] = p.clip % 5 == 0;
    tool_progress("%zu windows for the probe", p.taught);
    return SS_OK;
}

/* The window in p.x through all that is no sound. */
static int one_window(ss_err *e)
{
    if (p.teaching)
        return teach(e);
    if (p.clip_windows == p.room) {
        size_t room = p.room ? 2 * p.room : 64;
        float *more = ss_realloc(p.exact_z, room * p.dim, sizeof *more);
        if (!more)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu windows", room);
        p.exact_z = more;
        p.room = room;
    }
    float *exact = p.exact_z + p.clip_windows * p.dim;
    int rc = ss_net_run_between(p.exact, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, p.x, exact);
    if (rc < 0)
        return ss_err_set(e, rc, "cannot run the network");
    for (int round = p.warm ? 1 : 0; round < 2 && !rc;
         round++) { /* the first one twice: caches, clocks, pages */
        rc = try_all(exact, e);
        p.warm = true;
    }
    if (rc < 0)
        return rc;
    if (p.mixture) {
        ss_mixture_score score;
        ss_mixture_rate(p.mixture, exact, &score);
        p.u[p.measured] = (double)(*uncertainty == 'u' ? score.u : score.novelty);
    }
    p.first[p.measured] = !p.clip_windows;
    p.right += named(exact) > 0;
    p.measured++;
    p.clip_windows++;
    tool_progress("%zu of %d windows", p.measured, windows);
    return p.meter ? ss_meter_read(p.meter, ss_clock_mono_ns(), &p.joules, e) : SS_OK;
}

/* A hop of sound x [n] through a codec of sound, and the windows that it completes. */
static int try_sound(choice *c, const float *x, size_t n, bool last, ss_err *e)
{
    int64_t begun = ss_clock_mono_ns();
    ss_record rec = blank(SS_CUT_INPUT, begun);
    int rc = SS_OK;
    rec.rank = 1;
    rec.dim[0] = (uint32_t)n;
    ss_attr_clear(&rec.attrs, SS_ATTR_SPLIT); /* samples do not have these */
    ss_attr_clear(&rec.attrs, SS_ATTR_GENERATION);
    ss_attr_clear(&rec.attrs, SS_ATTR_W_FEATURIZE);
    ss_attr_clear(&rec.attrs, SS_ATTR_T_FEATURIZE);
    ss_attr_clear(&rec.attrs, SS_ATTR_W_ENCODE);
    ss_attr_clear(&rec.attrs, SS_ATTR_T_ENCODE);
    if (c->encoder) {
        rc = ss_sound_encode(c->encoder, x, n, last, &rec.data, &rec.size, rec.dim, e);
        rec.dtype = SS_DTYPE_PACKED;
        ss_attr_set_uint(&rec.attrs, SS_ATTR_CODEC, (uint64_t)c->sound);
    } else {
        int16_t *to = p.payload;
        for (size_t i = 0; i < n; i++)
            to[i] = (int16_t)(x[i] >= 1 ? 32767 : x[i] <= -1 ? -32768 : lrintf(x[i] * 32767));
        rec.dtype = SS_DTYPE_I16;
        rec.size = n * sizeof *to;
        rec.data = to;
    }
    int64_t bytes = rc < 0 ? rc : send_record(&rec, e);
    if (bytes < 0)
        return (int)bytes;
    double device_ms = since_ms(begun);
    begun = ss_clock_mono_ns();
    const float *back = p.sound_x;
    if (c->encoder)
        rc = ss_sound_decode(c->decoder, (uint64_t)c->sound, rec.data, rec.size, rec.dim[0], c->follows,
                             &back, e);
    for (size_t i = 0; !c->encoder && i < n; i++)
        p.sound_x[i] = (float)((const int16_t *)rec.data)[i] / 32768;
    c->follows = !last;
    for (size_t at = 0, taken; !rc && at < rec.dim[0]; at += taken) {
        if (!ss_logmel_push(c->front, back + at, rec.dim[0] - at, &taken) || c->window >= p.clip_windows)
            continue;
        ss_logmel_fetch(c->front, p.back, NULL);
        if (run_tail(SS_CUT_INPUT, false))
            return ss_err_set(e, SS_EINVAL, "cannot run the network");
        double server_ms = since_ms(begun);
        rc = ss_tally_add(&c->tally, device_ms, server_ms, (double)bytes,
                          ss_tally_cosine(p.exact_z + c->window++ * p.dim, p.z, p.dim), named(p.z), e);
        begun = ss_clock_mono_ns();
    }
    return rc;
}

/* A hop of sound, through everything. */
static int one_hop(const float *x, size_t n, bool last, ss_err *e)
{
    int rc = SS_OK;
    for (size_t at = 0, taken; !rc && at < n; at += taken) {
        if (!ss_logmel_push(p.front, x + at, n - at, &taken) || p.measured == p.last)
            continue;
        ss_logmel_fetch(p.front, p.x, NULL);
        rc = one_window(e);
    }
    for (int i = 0; i < p.n && !rc && !p.teaching; i++)
        if (!p.choice[i].dtype)
            rc = try_sound(&p.choice[i], x, n, last, e);
    return rc;
}

/* ---- sound ---- */

/* The clip has ended, for all that has a state. */
static void forget(void)
{
    ss_logmel_reset(p.front);
    p.clip_windows = 0;
    for (int i = 0; i < p.n; i++) {
        choice *c = &p.choice[i];
        if (c->encoder)
            ss_sound_encoder_reset(c->encoder);
        if (c->front)
            ss_logmel_reset(c->front);
        c->window = 0;
        c->follows = false;
    }
}

typedef ssize_t reading(void *from, float *x, size_t n, ss_err *e);

/* A clip in hops: each is known to be the last one when the next one is empty. */
static int play(reading *next, void *from, ss_err *e)
{
    float *x = ss_alloc(2 * p.hop, sizeof *x), *ahead = x + p.hop;
    if (!x)
        return ss_err_set(e, SS_ENOMEM, "no memory for a hop of sound");
    int rc = SS_OK;
    ssize_t n = next(from, x, p.hop, e);
    /* The last windows that were measured come out of the codecs some hops later. */
    for (int late = 0; n > 0 && !rc && !tool_stop && late < 2; late += p.measured == p.last) {
        ssize_t more = next(from, ahead, p.hop, e);
        rc = more < 0 ? (int)more : one_hop(x, (size_t)n, !more, e);
        memcpy(x, ahead, (size_t)(more > 0 ? more : 0) * sizeof *x);
        n = more;
    }
    forget();
    ss_free(x);
    return n < 0 ? (int)n : rc;
}

static ssize_t from_file(void *from, float *x, size_t n, ss_err *e)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = ss_source_read(from, x + have, n - have, e);
        if (got < 0)
            return got;
        if (!got)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

typedef struct scenes {
    ss_synth *s;
    bool over; /* the scene */
} scenes;

static ssize_t from_synth(void *from, float *x, size_t n, ss_err *e)
{
    scenes *s = from;
    ss_synth_scene scene;
    uint32_t rest = 1;
    size_t have = 0;
    while (have < n && !s->over) {
        have += ss_synth_read(s->s, x + have, n - have, &scene, &rest);
        s->over = !rest;
    }
    return (ssize_t)have;
}

/* A file; one that cannot be read is left out when there is other sound. */
static int play_file(const char *path, bool others, ss_err *e)
{
    ss_source *s = NULL;
    int rc = ss_source_file(&s, path, 0, &tool_stop, e);
    if (!rc)
        rc = play(from_file, s, e);
    ss_source_close(s);
    bool of_file = rc == SS_EIO || rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_ELIMIT;
    if (!of_file || !others)
        return rc;
    tool_warn("%s", e->text);
    return SS_OK;
}

/* The clips of `fold`, or of all others for the probe: of each the same share of the windows. */
static int play_clips(const ss_manifest *m, int fold, ss_err *e)
{
    size_t clips = 0, share;
    int rc = SS_OK;
    for (size_t i = 0; i < m->n; i++)
        clips += m->clip[i].label >= 0 && m->clip[i].fold == fold;
    if (!clips)
        return ss_err_set(e, SS_EUNFIT, "'%s': no labelled clip is in fold %d", manifest_path, fold);
    share = ((size_t)windows + clips - 1) / clips;
    for (p.clip = 0; p.clip < m->n && !rc && !tool_stop; p.clip++) {
        const ss_clip *c = &m->clip[p.clip];
        if (c->label < 0 || c->fold < 0 || (c->fold == fold) == p.teaching)
            continue;
        p.label = (uint32_t)c->label;
        p.last = p.teaching ? SIZE_MAX : p.measured + share;
        p.last = p.last > (size_t)windows && !p.teaching ? (size_t)windows : p.last;
        rc = play_file(c->path, true, e);
    }
    return rc;
}

static int learn_probe(uint32_t classes, ss_err *e)
{
    ss_labelled d = {p.lesson, p.lesson_label, p.taught, p.dim, classes};
    p.probability = ss_alloc(classes, sizeof *p.probability);
    if (!p.probability)
        return ss_err_set(e, SS_ENOMEM, "no memory for a probe");
    int rc = ss_probe_choose(&p.probe, &d, p.lesson_held, e);
    if (rc == SS_EINVAL)
        return ss_err_set(e, SS_EUNFIT, "'%s' has too few labelled clips in the other folds for a probe",
                          manifest_path);
    return rc ? ss_err_prefix(e, "the probe"), rc : SS_OK;
}

static int play_manifest(ss_err *e)
{
    ss_manifest *m;
    int fold = test_fold, rc = ss_manifest_open(&m, manifest_path, NULL, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < m->n && !test_fold; i++)
        fold = m->clip[i].label >= 0 && m->clip[i].fold > fold ? m->clip[i].fold : fold;
    p.teaching = true;
    rc = play_clips(m, fold, e);
    p.teaching = false;
    if (!rc && !tool_stop)
        rc = learn_probe(m->labels.n, e);
    if (!rc && !tool_stop)
        rc = play_clips(m, fold, e);
    ss_manifest_free(m);
    return rc;
}

static int play_all(ss_err *e)
{
    if (manifest_path)
        return play_manifest(e);
    int rc = SS_OK;
    p.last = (size_t)windows;
    for (size_t i = 0; i < sounds.n && !rc && p.measured < (size_t)windows && !tool_stop; i++)
        rc = play_file(sounds.path[i], i + 1 < sounds.n || p.measured, e);
    if (sounds.n || rc)
        return rc;
    scenes s = {0};
    rc = ss_synth_create(&s.s, synth_seed, e);
    while (!rc && p.measured < (size_t)windows && !tool_stop) {
        s.over = false;
        rc = play(from_synth, &s, e);
    }
    ss_synth_free(s.s);
    return rc;
}

/* ---- machine and energy ---- */

static void describe_machine(ss_profile_machine *m)
{
    char host[SS_PROFILE_NAME] = "";
    gethostname(host, sizeof host - 1);
    snprintf(m->name, sizeof m->name, "%s", device_name ? device_name : *host ? host : "unknown");
    if (!energy_line(system_root, "/proc/device-tree/model", NULL, m->cpu, sizeof m->cpu) &&
        !energy_line(system_root, "/proc/cpuinfo", "model name", m->cpu, sizeof m->cpu))
        snprintf(m->cpu, sizeof m->cpu, "unknown");
    m->threads = tool_set.threads > 0 ? tool_set.threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* What was used in `seconds` of measuring, all of them busy. */
static void measured_energy(double joules, double seconds, const ss_profile_machine *m)
{
    double above = joules / seconds - p.energy.idle_w, share = (double)m->threads / p.energy.cores;
    p.energy.cpu_w = fmax(above, 0) / (share < 1 ? share : 1);
    snprintf(p.energy.device, sizeof p.energy.device, "%s", m->cpu);
    char of_radio[SS_PROFILE_CITATION];
    snprintf(of_radio, sizeof of_radio, "%s", p.energy.citation);
    snprintf(p.energy.citation, sizeof p.energy.citation, "measured: %s, %.3g s; %.400s",
             ss_meter_is_battery(p.meter) ? "battery" : "RAPL", seconds, of_radio);
}

/* ---- the profile ---- */

static void take_quality(const ss_profile_choice *from, ss_profile_choice *to)
{
    to->cosine_mean = from->cosine_mean;
    to->cosine_p5 = from->cosine_p5;
    to->probe = from->probe;
    to->u_low = from->u_low;
    to->u_high = from->u_high;
}

static int merge_server(ss_profile *out, ss_err *e)
{
    ss_profile *other;
    int rc = ss_profile_open(&other, server_path, e), missing = 0;
    if (rc < 0)
        return rc;
    if (strcmp(other->architecture, out->architecture))
        rc = ss_err_set(e, SS_EUNFIT, "'%s' is of architecture %s, the model of %s", server_path,
                        other->architecture, out->architecture);
    bool better = other->quality_is_probe && !out->quality_is_probe; /* a probe has measured it there alone */
    for (size_t i = 0; i < out->n && rc == SS_OK; i++) {
        int k = ss_profile_find(other, out->choice[i].cut, out->choice[i].codec);
        out->choice[i].server_ms = k < 0 ? (ss_profile_ms){NAN, NAN, NAN} : other->choice[k].server_ms;
        if (k >= 0 && better)
            take_quality(&other->choice[k], &out->choice[i]);
        missing += k < 0;
    }
    if (rc == SS_OK && better) {
        out->quality_is_probe = true;
        out->full = other->full;
        out->u = other->u;
    }
    out->server = other->has_server ? other->server : other->device;
    if (rc == SS_OK && missing)
        tool_warn("'%s' says nothing of %d of %zu choices", server_path, missing, out->n);
    ss_profile_free(other);
    return rc;
}

static int make_profile(ss_profile **to, const ss_profile_machine *machine, ss_err *e)
{
    ss_profile *out = *to = ss_profile_new((size_t)p.n);
    if (!out)
        return ss_err_set(e, SS_ENOMEM, "no memory for a profile");
    ss_model_arch_hash(&p.m->config, out->architecture);
    out->width = p.m->config.width / 64.0;
    out->mels = p.m->config.mels;
    out->frames = p.m->config.frames;
    out->generation = (int64_t)p.m->generation;
    out->hop_ms = (double)p.hop * 1e3 / SS_SOURCE_RATE;
    out->windows = (int64_t)p.measured;
    out->device = out->server = *machine;
    out->has_server = true;
    out->energy = p.energy;
    out->u.novelty = *uncertainty != 'u';
    out->quality_is_probe = p.probe.dim > 0;
    out->full = p.probe.dim ? fmax((double)p.right / (double)p.measured, 0x1p-20) : 1;
    int rc = SS_OK;
    out->n = 0;
    for (int i = 0; i < p.n && rc == SS_OK; i++) {
        const choice *c = &p.choice[i];
        if (!c->tally.n) {
            tool_warn("no window came out of %s", c->codec);
            continue;
        }
        ss_profile_choice *o = &out->choice[out->n++];
        o->cut = c->cut;
        memcpy(o->codec, c->codec, sizeof o->codec);
        rc = ss_tally_choice(&c->tally, p.mixture && c->tally.n == p.measured ? p.u : NULL, o, e);
    }
    if (rc == SS_OK && p.mixture) {
        double *work = ss_alloc(p.measured, sizeof *work);
        if (!work)
            return ss_err_set(e, SS_ENOMEM, "no memory for %zu windows", p.measured);
        out->u.drift = ss_tally_drift(p.u, p.first, p.measured, work);
        ss_free(work);
    }
    static const double share[5] = {0.05, 0.25, 0.5, 0.75, 0.95};
    for (int i = 0; i < 5 && p.mixture; i++) /* sorted from now on */
        out->u.at[i] = ss_tally_quantile(p.u, p.measured, share[i]);
    return rc == SS_OK && server_path ? merge_server(out, e) : rc;
}

static void print_table(const ss_profile *out)
{
    const char *source[] = {"modelled", "measured by RAPL", "measured by the battery's gauge"};
    fprintf(stderr, "%s (%s), %d thread%s, %" PRId64 " windows; server %s; energy above idle %s: %s\n\n",
            out->device.name, out->device.cpu, out->device.threads, out->device.threads == 1 ? "" : "s",
            out->windows, out->server.name, source[out->energy.source], out->energy.device);
    fprintf(stderr, "%-9s %-9s %9s %9s %7s %7s %7s %8s %6s\n", "cut", "codec", "device ms", "server ms",
            "bytes", "p95", "kbit/s", "cosine", "mJ");
    for (size_t i = 0; i < out->n; i++) {
        const ss_profile_choice *c = &out->choice[i];
        char server[16] = "-";
        if (!isnan(c->server_ms.median))
            snprintf(server, sizeof server, "%.3f", c->server_ms.median);
        fprintf(stderr, "%-9s %-9s %9.3f %9s %7.0f %7.0f %7.1f %8.5f %6.2f\n", ss_cut_name(c->cut), c->codec,
                c->device_ms.median, server, c->bytes.mean, c->bytes.p95, c->bytes.mean * 8 / out->hop_ms,
                c->cosine_mean,
                1e3 * (ss_profile_compute_j(out, c->device_ms.median) +
                       ss_energy_sending(&out->energy, c->bytes.mean, 0)));
    }
}

static int write_profile(const ss_profile *out, ss_err *e)
{
    char *text;
    int rc = ss_profile_print(out, &text, e);
    if (rc < 0)
        return rc;
    if (tool_set.output && strcmp(tool_set.output, "-"))
        rc = ss_atomic_put(tool_set.output, 0, text, strlen(text), e);
    else
        fputs(text, stdout);
    ss_free(text);
    return rc;
}

/* ---- all of it ---- */

/* The features that the model is made for, and the sizes that follow. */
static int find_front(ss_err *e)
{
    char json[256], hash[17];
    const ss_model_config *c = &p.m->config;
    ss_logmel_config *f = &p.front_config;
    ss_logmel_config_default(f);
    f->mels = c->mels;
    f->fft = c->mels > 64 ? 1024 : 512;
    f->frames = c->frames;
    f->step = (c->frames + 1) / 2;
    ss_logmel_describe(f, json, hash);
    if (p.m->frontend_hash[0] && strcmp(p.m->frontend_hash, hash))
        return ss_err_set(e, SS_EUNFIT, "'%s' is made for features of hash %s, here they are of %s",
                          model_path, p.m->frontend_hash, hash);
    p.hop = (size_t)f->step * (size_t)f->hop;
    p.values = (size_t)c->mels * (size_t)c->frames;
    p.dim = (size_t)c->dim;
    return ss_logmel_create(&p.front, f, e);
}

static int open_nets(ss_err *e)
{
    bool f16 = !strcmp(arith, "f16");
    int rc = ss_net_open(&p.exact, p.server, p.pool, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, e);
    p.net = p.exact;
    if (!rc && (f16 || p.server != p.m))
        rc = ss_net_open(&p.net, p.m, p.pool, f16 ? SS_WEIGHTS_F16 : SS_WEIGHTS_F32, SS_CUT_INPUT,
                         SS_CUT_EMBEDDING, 1, e);
    p.int8 = !strcmp(arith, "int8");
    if (!rc && p.int8)
        rc = ss_quant_check(p.m, e);
    for (int cut = SS_CUT_INPUT; p.int8 && !rc && cut < CUTS; cut++) {
        if (cut > SS_CUT_INPUT)
            rc = ss_net_i8_open(&p.head[cut], p.m, p.pool, SS_CUT_INPUT, cut, 1, e);
        if (!rc && cut < SS_CUT_EMBEDDING && p.server == p.m)
            rc = ss_net_i8_open(&p.tail[cut], p.m, p.pool, cut, SS_CUT_EMBEDDING, 1, e);
    }
    return rc;
}

static int make_room(ss_err *e)
{
    size_t most = p.hop;
    for (int cut = 0; cut < CUTS; cut++) {
        size_t n = ss_model_cut_size(&p.m->config, cut);
        most = n > most ? n : most;
    }
    p.x = ss_alloc(p.values, sizeof *p.x);
    p.at = ss_alloc(most, sizeof *p.at);
    p.back = ss_alloc(most, sizeof *p.back);
    p.scaled = ss_alloc(most, sizeof *p.scaled);
    p.sound_x = ss_alloc(p.hop, sizeof *p.sound_x);
    p.z = ss_alloc(p.dim, sizeof *p.z);
    p.payload = ss_alloc(ss_logmel_pack_room(4 * most), 1);
    p.u = ss_alloc((size_t)windows, sizeof *p.u);
    p.first = ss_alloc((size_t)windows, sizeof *p.first);
    if (!p.x || !p.at || !p.back || !p.scaled || !p.sound_x || !p.z || !p.payload || !p.u || !p.first)
        return ss_err_set(e, SS_ENOMEM, "no memory for a window");
    return ss_writer_open_memory(&p.wire, &(ss_header){.kind = "cut"}, e);
}

static int load(ss_model **m, const char *path, ss_err *e)
{
    int previous = 0, rc = ss_model_load_any(m, path, &previous, e);
    if (!rc && previous)
        tool_warn("%s: the generation before it is used", e->text);
    return rc;
}

/* The server's weights: those of the device, or others in the same network. */
static int load_server(ss_err *e)
{
    char ours[17], theirs[17];
    p.server = p.m;
    if (!reference_path)
        return SS_OK;
    int rc = load(&p.server, reference_path, e);
    if (rc)
        return rc;
    ss_model_arch_hash(&p.m->config, ours);
    ss_model_arch_hash(&p.server->config, theirs);
    if (strcmp(ours, theirs))
        rc = ss_err_set(e, SS_EUNFIT, "'%s' is of architecture %s, '%s' of %s", reference_path, theirs,
                        model_path, ours);
    return rc;
}

static int prepare(ss_err *e)
{
    int rc = load(&p.m, model_path, e);
    if (!rc)
        rc = load_server(e);
    if (!rc && p.server->mixture)
        rc = ss_mixture_unpack(&p.mixture, p.server->mixture, p.server->mixture_size, e);
    if (!rc && tool_set.threads != 1)
        rc = ss_pool_open(&p.pool, tool_set.threads, e);
    if (!rc)
        rc = find_front(e);
    if (!rc)
        rc = open_nets(e);
    if (!rc)
        rc = make_room(e);
    return rc ? rc : make_choices(e);
}

static void clear(void)
{
    for (int i = 0; i < p.n; i++) {
        ss_tally_clear(&p.choice[i].tally);
        ss_sound_encoder_close(&p.choice[i].encoder);
        ss_sound_decoder_close(&p.choice[i].decoder);
        ss_logmel_free(p.choice[i].front);
    }
    if (p.net != p.exact)
        ss_net_close(&p.net);
    ss_net_close(&p.exact);
    for (int cut = 0; cut < CUTS; cut++) {
        ss_net_i8_close(&p.head[cut]);
        ss_net_i8_close(&p.tail[cut]);
    }
    runner_codecs_close(&p.codecs);
    runner_codecs_close(&p.server_codecs);
    ss_writer_close(&p.wire);
    ss_meter_close(&p.meter);
    ss_pool_close(&p.pool);
    ss_logmel_free(p.front);
    ss_mixture_free(p.mixture);
    if (p.server != p.m)
        ss_model_free(p.server);
    ss_model_free(p.m);
    ss_probe_clear(&p.probe);
    ss_paths_clear(&sounds);
    void *all[] = {p.x, p.at,    p.back,    p.scaled, p.sound_x,      p.z,           p.payload,
                   p.u, p.first, p.exact_z, p.lesson, p.lesson_label, p.lesson_held, p.probability};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ss_free(all[i]);
}

static int measure(ss_err *e)
{
    ss_profile_machine machine;
    ss_profile *out = NULL;
    struct stat st;
    if (tool_set.output && !tool_set.force && !stat(tool_set.output, &st) && S_ISREG(st.st_mode))
        return ss_err_set(e, SS_EIO, "'%s' exists: use --force to replace it", tool_set.output);
    describe_machine(&machine);
    int rc = prepare(e);
    if (!rc)
        rc = energy_choose(energy_from, radio, system_root, &p.energy, &p.meter, e);
    if (!rc && p.meter)
        rc = ss_meter_rest(p.meter, IDLE_S, &p.energy.idle_w, e);
    if (!rc && p.meter)
        rc = ss_meter_read(p.meter, ss_clock_mono_ns(), &p.joules, e);
    double before = p.joules;
    int64_t begun = ss_clock_mono_ns();
    if (!rc)
        rc = play_all(e);
    double seconds = (double)(ss_clock_mono_ns() - begun) * 1e-9;
    if (!rc && !p.measured)
        rc = ss_err_set(e, SS_EUNFIT, "there is no whole window of sound");
    if (!rc && p.measured < (size_t)windows)
        tool_warn("%zu of %d windows: the sound is no longer", p.measured, windows);
    if (!rc && p.meter)
        measured_energy(p.joules - before, seconds, &machine);
    if (!rc)
        rc = make_profile(&out, &machine, e);
    if (!rc && !tool_set.quiet) {
        tool_progress(NULL);
        print_table(out);
    }
    if (!rc)
        rc = write_profile(out, e);
    ss_profile_free(out);
    return rc;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    int first = tool_start(&program, argc, argv), rc = SS_OK;
    if (first == argc)
        tool_usage("no model: name its file");
    model_path = argv[first];
    if (manifest_path && (sounds.n || first + 1 < argc))
        tool_usage("--manifest goes without other sound");
    if (test_fold && !manifest_path)
        tool_usage("--test-fold needs --manifest");
    for (int i = first + 1; i < argc && !rc; i++)
        rc = add_sound(argv[i], &e);
    if (!rc)
        rc = measure(&e);
    clear();
    return tool_finish(rc, &e);
}
