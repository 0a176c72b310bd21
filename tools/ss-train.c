
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "energy.h"
#include "io/atomic.h"
#include "io/json.h"
#include "learn/learner.h"
#include "learn/lower.h"
#include "learn/sync.h"
#include "nn/net.h"
#include "owner.h"
#include "refine.h"
#include "runner.h"
#include "sys/incoming.h"
#include "sys/state.h"

enum {
    SOURCES = 64,
    FIELDS = 7,
    NUMBERS = 6,
    COUNT_SAVE = 1024,
    LOOK_MS = 5 /* between looks for gradients that are waited for */
};

static const char *model_path, *checkpoint_path, *log_path, *state_path, *until, *kind = "cached";
static const char *negatives = "none", *optimiser = "adam", *dtype = "f32", *codec;
static bool in_batch = true, by_count, refining;
static int batch, every, save_windows;
static double temperature, rate, clip, gain, mix, noise, budget = 1, save_seconds = 60;
static ss_learner_config config;
static const char *gradients = "off";
static bool applying; /* gradients that came back */
static int wait_gradients;
static double wait_seconds = 60;
/* refining */
static refine_settings refine = {
    .mixture_every = 100, .sync_every = 1000, .sync_levels = 7, .lag = 4, .labels = true};
static uint64_t ring_memory = 256 << 20;
static double sw, laplacian;

static const tool_option options[] = {
    {"model", 'm', OPT_STRING, &model_path, 0, 0, "FILE", "model that learns: read, and replaced", NULL},
    {"refine", 0, OPT_FLAG, &refining, 0, 0, NULL, "the server's side: windows cut anywhere come in", NULL},
    {"until", 0, OPT_STRING, &until, 0, 0, "CUT", "input, 0..8, auto: as records say [embedding]", NULL},
    {"dtype", 0, OPT_CHOICE, &dtype, 0, 0, "f32|f16|i8", "of what is passed on", NULL},
    {"codec", 0, OPT_STRING, &codec, 0, 0, "NAME", "pack what is passed on, as b16i8 (see ss-model info)",
     NULL},
    {"learner", 0, OPT_CHOICE, &kind, 0, 0, "cached|contrast", "large batches in parts, or small ones", NULL},
    {"negatives", 0, OPT_CHOICE, &negatives, 0, 0, "none|virtual|replay|both",
     "contrast: besides the batch's own", NULL},
    {"in-batch", 0, OPT_FLAG, &in_batch, 0, 0, NULL, "contrast: the others of the batch are negatives", NULL},
    {"nnegatives", 0, OPT_INT, &config.nnegatives, 1, 65536, "N", "contrast: so many besides the batch's",
     NULL},
    {"dcl", 0, OPT_FLAG, &config.decoupled, 0, 0, NULL, "decoupled loss: the positive is not in the sum",
     NULL},
    {"temperature", 0, OPT_REAL, &temperature, 1e-3, 100, "T", "of the loss", NULL},
    {"batch", 0, OPT_INT, &batch, 0, 4096, "N", "windows in a step; 0: 64, contrast 8", NULL},
    {"micro-batch", 0, OPT_INT, &config.micro_batch, 1, 8192, "N", "views, or windows, gone through at once",
     NULL},
    {"replay", 0, OPT_INT, &config.replay, 2, 1 << 20, "N", "newest windows, to draw batches from", NULL},
    {"every", 0, OPT_INT, &every, 0, 1 << 20, "N", "windows from step to step; 0: 8, contrast 2, refine 16",
     NULL},
    {"start", 0, OPT_INT, &config.start, 2, 1 << 20, "N", "windows before the first step", NULL},
    {"shift", 0, OPT_INT, &config.shift, 0, 65535, "N", "frames between the two views at most", NULL},
    {"roll", 0, OPT_INT, &config.augment.roll, 0, 4096, "N", "mel bins by which a view is moved at most",
     NULL},
    {"gain", 0, OPT_REAL, &gain, 0, 4, "LG", "of a view at most, as lg of power", NULL},
    {"mix", 0, OPT_REAL, &mix, 0, 1, "SHARE", "of another window in a view at most", NULL},
    {"noise", 0, OPT_REAL, &noise, 0, 1e6, "N", "in a view, in units of the floor", NULL},
    {"mel-mask", 0, OPT_INT, &config.augment.freq_mask, 0, 4096, "N", "mel bins of a view masked at most",
     NULL},
    {"frame-mask", 0, OPT_INT, &config.augment.time_mask, 0, 65535, "N", "frames of a view masked at most",
     NULL},
    {"optimiser", 0, OPT_CHOICE, &optimiser, 0, 0, "adam|sgd", "rule of the step", NULL},
    {"rate", 0, OPT_REAL, &rate, 0, 10, "RATE", "learning rate", NULL},
    {"warmup", 0, OPT_INT, &config.warmup, 0, 1 << 30, "N", "steps over which the rate rises to it", NULL},
    {"clip", 0, OPT_REAL, &clip, 0, 1e9, "NORM", "longest gradient; 0: any", NULL},
    {"budget", 0, OPT_REAL, &budget, 0, 1, "SHARE", "of one core for steps at most; 1: no limit", NULL},
    {"checkpoint", 0, OPT_STRING, &checkpoint_path, 0, 0, "FILE", "the whole state: saved, and gone on from",
     NULL},
    {"save-seconds", 0, OPT_REAL, &save_seconds, 0, 1e9, "S", "from save to save; 0: never", NULL},
    {"save-windows", 0, OPT_INT, &save_windows, 0, 1 << 30, "N", "from save to save; 0: by seconds alone",
     NULL},
    {"sync-by-count", 0, OPT_FLAG, &by_count, 0, 0, NULL, "no clock decides: save every 1024 windows", NULL},
    {"state", 0, OPT_STRING, &state_path, 0, 0, "DIR",
     "state directory: tells how learning goes, takes what a server sent", NULL},
    {"gradients", 0, OPT_CHOICE, &gradients, 0, 0, "off|apply|i8|f16|f32",
     "take those that came back; refine: send those at the cuts", NULL},
    {"wait-gradients", 0, OPT_INT, &wait_gradients, 0, 1 << 16, "N",
     "apply: after N cut windows wait for theirs; 0: never", NULL},
    {"wait-seconds", 0, OPT_REAL, &wait_seconds, 0, 1e6, "S", "apply: for so long at most", NULL},
    {"log", 0, OPT_STRING, &log_path, 0, 0, "FILE", "a line of JSON for every step, appended", NULL},
    {"journal", 0, OPT_STRING, &refine.journal, 0, 0, "DIR",
     "refine: what is not saved yet; acknowledged when it is there", NULL},
    {"gradient-budget", 0, OPT_SIZE, &refine.gradient_budget, 0, 0, "SIZE",
     "refine: bytes a second of them; 0: any", NULL},
    {"mixture-every", 0, OPT_INT, &refine.mixture_every, 0, 1 << 30, "N",
     "refine: windows from one that goes back to the next; 0: none", NULL},
    {"sync-every", 0, OPT_INT, &refine.sync_every, 0, 1 << 30, "N",
     "refine: windows from one weight delta to the next; 0: none", NULL},
    {"sync-budget", 0, OPT_SIZE, &refine.sync_budget, 0, 0, "SIZE", "refine: bytes an hour of them; 0: any",
     NULL},
    {"sync-levels", 0, OPT_INT, &refine.sync_levels, 1, 127, "N", "refine: magnitudes they tell apart", NULL},
    {"lag", 0, OPT_INT, &refine.lag, 0, 1 << 30, "N",
     "refine: versions of the weights that an embedding may be behind", NULL},
    {"embeddings", 0, OPT_STRING, &refine.embeddings, 0, 0, "FILE", "refine: write finished ones there",
     NULL},
    {"labels", 0, OPT_FLAG, &refine.labels, 0, 0, NULL, "refine: learn from labels, where there are some",
     NULL},
    {"window", 0, OPT_INT, &refine.config.window, 2, 1 << 20, "N", "refine: embeddings kept of each device",
     NULL},
    {"devices", 0, OPT_INT, &refine.config.devices, 1, 1 << 20, "N", "refine: devices kept at once", NULL},
    {"ring-memory", 0, OPT_SIZE, &ring_memory, 0, 0, "SIZE", "refine: of all that is kept of devices", NULL},
    {"rows", 0, OPT_INT, &refine.config.rows, 2, 1 << 20, "N",
     "refine: embeddings in the loss of a step at most", NULL},
    {"views", 0, OPT_FLAG, &refine.config.views, 0, 0, NULL,
     "refine: alter windows before they are learnt from", NULL},
    {"stale", 0, OPT_INT, &refine.config.stale, 0, 1 << 30, "N",
     "refine: steps after which an embedding is left out; 0: never", NULL},
    {"sw", 0, OPT_REAL, &sw, 0, 1e6, "W", "refine: weight of the sliced Wasserstein distance", NULL},
    {"laplacian", 0, OPT_REAL, &laplacian, 0, 1e6, "W", "refine: weight of the Laplacian", NULL},
    ENERGY_OPTIONS,
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {
    "ss-train", "[FILE]", "Learn an embedding from the windows that pass.",
    TAKES_OUTPUT | TAKES_THREADS | TAKES_SEED | TAKES_PROGRESS | TAKES_STREAM, options};

/* Who has been heard, and up to where: what comes again is passed over, and a window may go on from the last.
 * cut: the last window that was sent cut, where gradients are applied. */
typedef struct source {
    int64_t device, epoch, seq, clip, time_ns, flags, cut;
} source;

static struct train {
    ss_model *m;
    ss_model
        *saved; /* as the file has it: what cuts are made with, so that its readers can go on from them */
    ss_pool *pool;
    ss_learner *learner; /* or NULL: of windows finished here */
    ss_lower *lower;     /* or NULL: of the blocks before the cuts */
    ss_net *net;         /* of `saved`, up to the cuts that were wanted; or NULL */
    ss_reader *r;
    ss_writer *w;
    FILE *log;
    bool previous; /* the model is the one before */
    int owner;     /* descriptor whose lock says that the model is ours */
    int cut;       /* -1: as records say */
    int dtype, codec;
    runner_codecs codecs;
    int64_t hop_ns; /* from window to window */
    source source[SOURCES];
    int nsource;
    float *in, *out; /* window; embedding or cut */
    void *packed;
    uint64_t windows, skipped, over, unsaved; /* heard; steps left out; windows passed over; since a save */
    bool begun;                               /* the first window has come */
    bool stepped;                             /* a loss is known */
    int sent;                                 /* cut windows since gradients were waited for; */
    ss_lower_item newest;                     /* the newest of them, */
    bool awaited;                             /* and its gradient has not come */
    bool reader_gone, nonfinite_said;
    double loss, sum_u, sum_novelty; /* sums over the windows since the last step */
    uint64_t sum_count;
    tool_budget steps; /* seconds */
    owner_pace pace;
    ss_state *state; /* or NULL */
    ss_incoming *incoming;
    ss_sync *sync;
    uint64_t passed; /* windows, learnt from here or cut */
    int64_t told_ns;
    bool gap_said; /* of a weight delta that is missing */
} t = {.owner = -1};

/* A float as it would be typed: help shows it. */
static double typed(float f)
{
    return round((double)f * 1e7) / 1e7;
}

static void learner_defaults(void)
{
    ss_learner_config_default(&config, SS_LEARNER_CACHED);
    temperature = typed(config.temperature);
    rate = typed(config.rate);
    clip = typed(config.clip);
    gain = typed(config.augment.gain);
    mix = typed(config.augment.mix);
    noise = typed(config.augment.noise);
    ss_refiner_config_default(&refine.config);
    sw = typed(refine.config.loss.sw);
    laplacian = typed(refine.config.loss.laplacian);
}

static int configure_refiner(ss_err *e)
{
    ss_refiner_config *c = &refine.config;
    if (applying)
        return ss_err_set(e, SS_EINVAL, "--gradients=apply is for the device; --refine takes i8, f16, f32");
    if (until)
        return ss_err_set(e, SS_EINVAL, "--until=%s with --refine: all is finished here, whatever its cut",
                          until);
    if (refine.journal && !checkpoint_path)
        return ss_err_set(e, SS_EINVAL, "--journal holds what is behind a checkpoint: name one");
    refine.model = model_path;
    refine.checkpoint = checkpoint_path;
    refine.log = log_path;
    refine.state = state_path;
    refine.dtype = t.dtype;
    refine.gradients = strcmp(gradients, "off") ? ss_dtype_parse(gradients) : 0;
    refine.save_windows = save_windows;
    refine.save_seconds = save_seconds;
    refine.budget = budget;
    c->gradients = refine.gradients != 0;
    c->memory = ring_memory;
    c->every = every ? every : c->every;
    c->batch = batch ? batch : c->batch;
    c->micro_batch = config.micro_batch;
    c->start = config.start;
    c->loss.temperature = config.temperature;
    /* Positives are apart in time here, which is difference enough with views of half the strength. */
    c->augment = config.augment;
    c->augment.roll = config.augment.roll / 2;
    c->augment.mix = config.augment.mix / 2;
    c->augment.freq_mask = config.augment.freq_mask / 2;
    c->augment.time_mask = config.augment.time_mask / 2;
    c->loss.sw = (float)sw;
    c->loss.laplacian = (float)laplacian;
    c->optimiser = (ss_optimiser_config){config.optimiser, config.rate, config.warmup, config.clip};
    c->seed = config.seed;
    return SS_OK;
}

static int configure_gradients(ss_err *e)
{
    if (!applying && strcmp(gradients, "off"))
        return ss_err_set(e, SS_EINVAL, "--gradients=%s is for --refine; the device takes apply", gradients);
    if (!applying && wait_gradients)
        return ss_err_set(e, SS_EINVAL, "--wait-gradients without --gradients=apply");
    if (applying && !state_path)
        return ss_err_set(e, SS_EINVAL,
                          "--gradients=apply takes what came into a state directory: name it "
                          "with --state");
    if (applying && (t.cut == SS_CUT_INPUT || t.cut == SS_CUT_EMBEDDING))
        return ss_err_set(e, SS_EINVAL, "--gradients=apply with --until=%s: no window is cut between blocks",
                          until);
    return SS_OK;
}

static int configure(ss_err *e)
{
    ss_learner_config d;
    ss_learner_kind k = strcmp(kind, "contrast") ? SS_LEARNER_CACHED : SS_LEARNER_CONTRAST;
    ss_learner_config_default(&d, k);
    config.kind = k;
    config.batch = batch ? batch : d.batch;
    config.every = every ? every : d.every;
    config.temperature = (float)temperature;
    config.rate = (float)rate;
    config.clip = (float)clip;
    config.augment.gain = (float)gain;
    config.augment.mix = (float)mix;
    config.augment.noise = (float)noise;
    config.seed = tool_set.seed;
    config.optimiser = strcmp(optimiser, "sgd") ? SS_OPTIMISER_ADAM : SS_OPTIMISER_SGD;
    config.negatives = in_batch ? SS_NEGATIVES_BATCH : 0;
    if (!strcmp(negatives, "virtual") || !strcmp(negatives, "both"))
        config.negatives |= SS_NEGATIVES_VIRTUAL;
    if (!strcmp(negatives, "replay") || !strcmp(negatives, "both"))
        config.negatives |= SS_NEGATIVES_REPLAY;
    if (!model_path)
        return ss_err_set(e, SS_EINVAL, "no model: give --model=FILE, as ss-model init makes one");
    if (config.kind == SS_LEARNER_CONTRAST && !config.negatives)
        return ss_err_set(e, SS_EINVAL, "--negatives=none --no-in-batch leaves no negatives");
    if (by_count && budget < 1)
        return ss_err_set(e, SS_EINVAL, "--budget goes by the clock, --sync-by-count by none");
    if (by_count && !save_windows)
        save_windows = COUNT_SAVE;
    if (by_count)
        save_seconds = 0;
    if (energy_name && refining)
        return ss_err_set(e, SS_EINVAL, "--energy is what a device uses, not a server");
    if (codec && refining)
        return ss_err_set(e, SS_EINVAL, "--codec is for what goes to a refiner, not for what comes from one");
    if (codec)
        t.codec = runner_codec_option(codec, &dtype);
    t.dtype = ss_dtype_parse(dtype);
    applying = !strcmp(gradients, "apply");
    if (refining)
        return configure_refiner(e);
    until = until ? until : "embedding";
    t.cut = strcmp(until, "auto") ? ss_cut_parse(until) : -1;
    if (t.cut < 0 && strcmp(until, "auto"))
        return ss_err_set(e, SS_EINVAL, "--until=%s: expected input, 0..8, embedding or auto", until);
    return configure_gradients(e);
}

/* Are there windows that are finished here? */
static bool finishes(void)
{
    return t.cut < 0 || t.cut == SS_CUT_EMBEDDING;
}

/* saving */

static const char *const number_name[NUMBERS] = {"sources in use", "generation", "heard",
                                                 "skipped",        "stepped",    "windows in sums"};

static int put_state(ss_err *e)
{
    ss_checkpoint_writer *w;
    int rc = ss_checkpoint_begin(&w, e);
    if (rc < 0)
        return rc;
    if (t.learner)
        rc = ss_learner_save(t.learner, w, e);
    else
        ss_checkpoint_put(w, "model", SS_DTYPE_F32, 1, (uint64_t[]){t.m->nvalue}, t.m->value);
    if (rc < 0) {
        ss_checkpoint_abandon(&w);
        return rc;
    }
    double sums[] = {t.loss, t.sum_u, t.sum_novelty};
    ss_checkpoint_put(w, "sources", SS_DTYPE_I64, 2, (uint64_t[]){SOURCES, FIELDS}, t.source);
    ss_checkpoint_put(w, "sums", SS_DTYPE_F64, 1, (uint64_t[]){3}, sums);
    const uint64_t number[NUMBERS] = {(uint64_t)t.nsource, t.m->generation, t.windows,
                                      t.skipped,           t.stepped,       t.sum_count};
    for (int i = 0; i < NUMBERS; i++)
        ss_checkpoint_put_int(w, number_name[i], (int64_t)number[i]);
    if (t.lower) {
        ss_lower_save(t.lower, w);
        ss_checkpoint_put_int(w, "not waited for", t.sent);
    }
    if (t.sync)
        ss_sync_save(t.sync, w);
    return ss_checkpoint_write(&w, checkpoint_path, e);
}

/* The values of the model, packed by nobody any more. */
static void weights_changed(void)
{
    if (t.learner)
        ss_learner_weights_changed(t.learner);
    if (t.lower)
        ss_lower_weights_changed(t.lower);
}

static int get_state(ss_checkpoint *c, uint64_t *generation, ss_err *e)
{
    double sums[3];
    int64_t number[NUMBERS];
    int rc = t.learner
                 ? ss_learner_load(t.learner, c, e)
                 : ss_checkpoint_get(c, "model", SS_DTYPE_F32, 1, (uint64_t[]){t.m->nvalue}, t.m->value, e);
    if (!rc && t.lower)
        rc = ss_lower_load(t.lower, c, e);
    int64_t sent = 0;
    if (!rc && t.lower && ss_checkpoint_find(c, "not waited for"))
        rc = ss_checkpoint_get_int(c, "not waited for", &sent, e);
    weights_changed();
    if (!rc)
        rc = ss_checkpoint_get(c, "sources", SS_DTYPE_I64, 2, (uint64_t[]){SOURCES, FIELDS}, t.source, e);
    if (!rc)
        rc = ss_checkpoint_get(c, "sums", SS_DTYPE_F64, 1, (uint64_t[]){3}, sums, e);
    for (int i = 0; i < NUMBERS && !rc; i++) {
        rc = ss_checkpoint_get_int(c, number_name[i], &number[i], e);
        if (!rc && (number[i] < 0 || (i == 0 && number[i] > SOURCES)))
            rc = ss_err_set(e, SS_EDAMAGED, "'%s' is %" PRId64, number_name[i], number[i]);
    }
    if (!rc && t.sync)
        rc = ss_sync_load(t.sync, c, e);
    if (rc < 0)
        return rc;
    t.loss = sums[0];
    t.sum_u = sums[1];
    t.sum_novelty = sums[2];
    t.nsource = (int)number[0];
    *generation = (uint64_t)number[1];
    t.windows = (uint64_t)number[2];
    t.skipped = (uint64_t)number[3];
    t.stepped = number[4] != 0;
    t.sum_count = (uint64_t)number[5];
    t.sent = (int)sent;
    return SS_OK;
}

/* What the file holds is what cuts are made with from now on; its values stay there. */
static int keep_saved(const char *path, ss_err *e)
{
    ss_model *saved = NULL;
    if (t.lower || t.cut == SS_CUT_EMBEDDING) /* they are made with others, or there are none */
        return SS_OK;
    int rc = ss_model_open(&saved, path, e);
    if (rc < 0)
        return rc;
    ss_net_close(&t.net);
    ss_model_free(t.saved);
    t.saved = saved;
    return SS_OK;
}

/* State before model: a kill between the two leaves a state from which the model is written again. */
static int save(ss_err *e)
{
    int rc = ss_model_fill(t.m, e);
    if (!rc && t.learner)
        rc = ss_learner_store_mixture(t.learner, e);
    if (rc < 0)
        return rc;
    t.m->generation++;
    if (checkpoint_path)
        rc = put_state(e);
    if (!rc)
        rc = ss_model_save(t.m, model_path, e);
    if (rc < 0) {
        t.m->generation--;
        return rc;
    }
    t.unsaved = 0;
    t.pace.saved_ns = ss_clock_mono_ns();
    return keep_saved(model_path, e);
}

static int resume(ss_err *e)
{
    ss_checkpoint *c;
    uint64_t generation = 0;
    int rc = owner_checkpoint(&c, checkpoint_path, e);
    if (rc < 0 || !c)
        return rc;
    rc = ss_model_fill(t.m, e);
    if (!rc)
        rc = get_state(c, &generation, e);
    ss_checkpoint_close(&c);
    if (rc < 0)
        return ss_err_prefix(e, "cannot go on from '%s'", checkpoint_path);
    rc = t.learner ? ss_learner_store_mixture(t.learner, e) : SS_OK;
    return rc ? rc : owner_goes_on(t.m, model_path, checkpoint_path, t.windows, generation, e);
}

/* records */

/* The source heard last is the last of the table; the one not heard for longest leaves. */
static source *source_of(const ss_record *rec, bool *latest)
{
    int i = t.nsource - 1;
    while (i >= 0 && (t.source[i].device != (int64_t)rec->device || t.source[i].epoch != (int64_t)rec->epoch))
        i--;
    *latest = i >= 0 && i == t.nsource - 1;
    source s = {.device = rec->device, .epoch = (int64_t)rec->epoch, .seq = -1, .cut = -1};
    if (i >= 0)
        s = t.source[i];
    else
        i = t.nsource < SOURCES ? t.nsource++ : 0;
    memmove(t.source + i, t.source + i + 1, (size_t)(t.nsource - 1 - i) * sizeof s);
    t.source[t.nsource - 1] = s;
    return &t.source[t.nsource - 1];
}

/* Does the window go on from the one heard last, at the usual hop? Takes note of it. */
static bool follow(source *s, bool latest, const ss_record *rec)
{
    int64_t none = -1, in_clip = (int64_t)ss_attr_uint(&rec->attrs, SS_ATTR_CLIP, (uint64_t)none);
    int64_t late = rec->time_ns - s->time_ns - t.hop_ns;
    bool on = latest && s->seq >= 0 && (int64_t)rec->seq == s->seq + 1 && in_clip == s->clip &&
              !(s->flags & (SS_FLAG_CLIP_END | SS_FLAG_PADDED)) && late > -t.hop_ns / 8 &&
              late < t.hop_ns / 8;
    s->seq = (int64_t)rec->seq;
    s->clip = in_clip;
    s->time_ns = rec->time_ns;
    s->flags = rec->flags;
    return on;
}

static int put_values(ss_record *rec, int cut, uint64_t generation, int64_t begun, ss_err *e)
{
    int as = t.dtype, pack = t.cut < 0 && !codec ? runner_wish(&t.codecs, t.m, rec, cut, &as) : t.codec,
        rc = SS_OK;
    if (pack)
        rc = runner_encode(&t.codecs, t.m, rec, cut, pack, t.out, e);
    else
        runner_pack(&t.m->config, rec, cut, as, t.out, t.packed);
    if (rc < 0)
        return rc;
    ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, (uint64_t)cut);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_GENERATION, generation);
    if (t.state) /* who finishes it has to know how old the weights are */
        ss_attr_set_uint(&rec->attrs, SS_ATTR_VERSION_FROM, t.m->synchronised);
    energy_divide(1);
    energy_stamp(&rec->attrs);
    ss_stage_end(&rec->attrs, SS_ATTR_T_TRAIN, begun);
    return ss_writer_put(t.w, rec, e);
}

/* How it goes, once a second at most. score: of a window that was finished here, or NULL. */
static void tell(const ss_record *rec, const ss_mixture_score *score)
{
    ss_err e;
    int64_t now = ss_clock_mono_ns();
    if (!t.state || now - t.told_ns < 1000000000)
        return;
    t.told_ns = now;
    int rc = ss_state_put_real(t.state, "windows", (double)t.passed, &e);
    if (!rc && score)
        rc = ss_state_put_seq(t.state, "uncertainty.edge", rec->seq, (double)score->u, &e);
    if (!rc && score)
        rc = ss_state_put_seq(t.state, "novelty.edge", rec->seq, (double)score->novelty, &e);
    if (!rc)
        rc = ss_state_put_real(t.state, "generation", (double)t.m->generation, &e);
    if (!rc && t.stepped)
        rc = ss_state_put_real(t.state, "loss", t.loss, &e);
    if (rc < 0)
        tool_warn("%s", e.text);
}

static int encode(ss_record *rec, int cut, int64_t begun, ss_err *e)
{
    if (cut == SS_CUT_INPUT) {
        ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, SS_CUT_INPUT);
        ss_attr_clear(&rec->attrs, SS_ATTR_CODEC);
        energy_divide(1);
        energy_stamp(&rec->attrs);
        ss_stage_end(&rec->attrs, SS_ATTR_T_TRAIN, begun);
        return ss_writer_put(t.w, rec, e);
    }
    int rc = t.net ? ss_net_widen(t.net, t.saved, SS_CUT_INPUT, cut, e)
                   : ss_net_open(&t.net, t.saved, t.pool, SS_WEIGHTS_F32, SS_CUT_INPUT, cut, 1, e);
    if (!rc && (rc = ss_net_run_between(t.net, SS_CUT_INPUT, cut, 1, t.in, t.out)) < 0)
        ss_err_set(e, rc, "the network failed: %s", ss_strerror(rc));
    if (rc == SS_OK)
        tell(rec, NULL);
    return rc < 0 ? rc : put_values(rec, cut, t.saved->generation, begun, e);
}

static void log_step(const ss_learner_report *r)
{
    double n = t.sum_count ? (double)t.sum_count : 1;
    if (!t.log)
        return;
    fprintf(t.log,
            "{\"step\":%" PRIu64 ",\"windows\":%" PRIu64 ",\"loss\":%.9g,\"positive\":%.6g,\"negative\":%.6g,"
            "\"top\":%.6g,\"gradient\":%.6g,\"rate\":%.6g,\"u\":%.6g,\"novelty\":%.6g,\"components\":%d,"
            "\"skipped\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"generation\":%" PRIu64 "}\n",
            r->step, r->windows, r->loss, r->positive, r->negative, r->top, r->gradient, r->rate, t.sum_u / n,
            t.sum_novelty / n, r->live, t.skipped, r->refused, t.m->generation);
    fflush(t.log);
}

static void step(void)
{
    ss_learner_report r;
    if (!owner_affords(&t.steps)) {
        ss_learner_skip(t.learner);
        t.skipped++;
        return;
    }
    int64_t begun = ss_clock_cpu_ns();
    int taken = ss_learner_step(t.learner);
    t.steps.left -= (double)(ss_clock_cpu_ns() - begun) * 1e-9;
    ss_learner_report_last(t.learner, &r);
    if (taken > 0) {
        if (t.lower)
            ss_lower_weights_changed(t.lower);
        t.loss = r.loss;
        t.stepped = true;
        log_step(&r);
        if (t.sync)
            ss_sync_learnt(t.sync, t.sum_count);
    } else {
        tool_warn("window %" PRIu64 ": a step that is not finite was refused, %" PRIu64 " so far", t.windows,
                  r.refused);
    }
    if (t.sync && ss_sync_watch(t.sync, taken > 0, r.loss)) {
        tool_warn("window %" PRIu64
                  ": the loss rose after weights of the server were taken in: they are given up again",
                  t.windows);
        weights_changed();
    }
    t.sum_u = t.sum_novelty = 0;
    t.sum_count = 0;
}

/* the state directory */

static int tell_version(ss_err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, t.m->synchronised);
    return t.state ? ss_state_put(t.state, "version", text, e) : SS_OK;
}

static int use_mixture(void *arg, const ss_record *rec, ss_err *e)
{
    return rec->type == SS_TYPE_MIXTURE ? ss_learner_take_mixture(t.learner, rec->data, rec->size, e) : SS_OK;
}

typedef struct taken {
    int merged; /* 1: so it was; 0: cannot be yet */
    uint64_t from;
} taken;

static int use_delta(void *arg, const ss_record *rec, ss_err *e)
{
    taken *d = arg;
    int rc = rec->type == SS_TYPE_DELTA ? ss_sync_merge(t.sync, rec, &d->from, e) : SS_OK;
    d->merged |= rc > 0;
    return rc < 0 ? rc : SS_OK;
}

static bool transient(int rc)
{
    return rc == SS_ENOMEM || rc == SS_EIO;
}

/* The file is dropped once what was made of it is safe, or when nothing can be made of it. */
static int take_delta(uint64_t version, ss_err *e)
{
    ss_err why;
    taken d = {0};
    int rc = ss_model_fill(t.m, e);
    if (rc < 0)
        return rc;
    rc = ss_incoming_read(t.incoming, SS_INCOMING_DELTA, version, use_delta, &d, &why);
    if (rc > 0 && !d.merged) {
        if (!t.gap_said && ss_sync_ready(t.sync))
            tool_warn("a weight delta begins at version %" PRIu64 ", what is here is %" PRIu64
                      ": those between are waited for",
                      d.from, t.m->synchronised);
        t.gap_said |= ss_sync_ready(t.sync);
        return SS_OK;
    }
    if (rc <= 0 && !d.merged) {
        if (rc < 0)
            tool_warn("weights of the server are refused: %s", why.text);
        return transient(rc) ? SS_OK : ss_incoming_drop(t.incoming, SS_INCOMING_DELTA, version, e);
    }
    t.gap_said = false;
    weights_changed();
    tool_info("weights of the server taken in, version %" PRIu64, t.m->synchronised);
    if (save(&why) < 0) {
        tool_warn("not saved, going on: %s", why.text);
        return SS_OK;
    }
    rc = tell_version(e);
    return rc < 0 ? rc : ss_incoming_drop(t.incoming, SS_INCOMING_DELTA, version, e);
}

/* gradients at the cuts */

static bool is_awaited(const ss_record *rec)
{
    return t.awaited && rec->seq == t.newest.seq && rec->device == t.newest.device &&
           rec->epoch == t.newest.epoch;
}

/* One that is for a window finished here, which was learnt from already, is left out. */
static int use_gradient(void *arg, const ss_record *rec, ss_err *e)
{
    uint64_t cut = ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, UINT64_MAX);
    if (rec->type != SS_TYPE_GRADIENT || cut == SS_CUT_EMBEDDING)
        return SS_OK;
    if (is_awaited(rec))
        t.awaited = false;
    if (cut <= SS_CUT_INPUT || cut > SS_CUT_EMBEDDING)
        return ss_err_set(e, SS_EUNFIT, "a gradient that is not stamped with a cut between blocks");
    if (t.cut >= 0 && cut > (uint64_t)t.cut)
        return ss_err_set(e, SS_EUNFIT, "a gradient at cut %s, windows are cut at %s", ss_cut_name((int)cut),
                          ss_cut_name(t.cut));
    size_t n = ss_model_cut_size(&t.m->config, (int)cut);
    int rc = runner_check_shape(&t.m->config, rec, (int)cut, e);
    rc = rc ? rc : runner_unpack(rec, n, t.out, e);
    ss_lower_item g = {rec->device, rec->epoch, rec->seq, (int)cut, t.out};
    rc = rc ? rc : ss_lower_gradient(t.lower, &g, e);
    return rc < 0 ? rc : SS_OK;
}

static void log_lower_step(const ss_lower_report *r)
{
    if (!t.log)
        return;
    fprintf(t.log,
            "{\"lower_step\":%" PRIu64 ",\"windows\":%" PRIu64 ",\"present\":%d,\"gradient\":%.6g,"
            "\"rate\":%.6g,\"learnt\":%" PRIu64 ",\"missed\":%" PRIu64 ",\"refused\":%" PRIu64
            ",\"generation\":%" PRIu64 "}\n",
            r->step, t.windows, r->present, r->gradient, r->rate, r->learnt, r->missed, r->refused,
            t.m->generation);
    fflush(t.log);
}

static void lower_step(void)
{
    ss_lower_report before, r;
    ss_lower_report_last(t.lower, &before);
    int64_t begun = ss_clock_cpu_ns();
    if (t.sync)
        ss_sync_joint_begin(t.sync);
    int done = ss_lower_step(t.lower);
    if (t.sync)
        ss_sync_joint_end(t.sync);
    t.steps.left -= (double)(ss_clock_cpu_ns() - begun) * 1e-9;
    ss_lower_report_last(t.lower, &r);
    if (done > 0) {
        if (t.learner)
            ss_learner_weights_changed(t.learner);
        t.unsaved += (uint64_t)r.present;
        log_lower_step(&r);
    } else if (r.refused > before.refused) {
        tool_warn("window %" PRIu64 ": a step before the cut that is not finite was refused, %" PRIu64
                  " so far",
                  t.windows, r.refused);
    }
}

/* Of one step of the server. The file is gone afterwards, whatever it was: gradients are soon out of date. */
static int take_gradients(uint64_t number, ss_err *e)
{
    ss_err why;
    int rc = ss_model_fill(t.m, e);
    if (!rc && t.sync)
        rc = ss_sync_begin(t.sync, e);
    if (rc < 0)
        return rc;
    rc = ss_incoming_read(t.incoming, SS_INCOMING_GRADIENTS, number, use_gradient, NULL, &why);
    if (rc < 0) {
        tool_warn("gradients are refused: %s", why.text);
        ss_lower_drop(t.lower);
    } else if (!owner_affords(&t.steps)) {
        ss_lower_drop(t.lower);
        t.skipped++;
    } else {
        lower_step();
    }
    return ss_incoming_drop(t.incoming, SS_INCOMING_GRADIENTS, number, e);
}

static int take_incoming(ss_err *e)
{
    ss_err why;
    ss_incoming_found found;
    if (!t.incoming)
        return SS_OK;
    int rc = ss_incoming_look(t.incoming, t.m->synchronised, &found, e);
    while (rc > 0 && t.lower && found.gradients) { /* the oldest first */
        rc = take_gradients(found.gradients, e);
        rc = rc < 0 ? rc : ss_incoming_look(t.incoming, t.m->synchronised, &found, e);
    }
    if (rc <= 0)
        return rc;
    if (found.mixture && t.learner) {
        rc = ss_incoming_read(t.incoming, SS_INCOMING_MIXTURE, 0, use_mixture, NULL, &why);
        if (rc < 0)
            tool_warn("the server's memory is refused: %s", why.text);
        if (!transient(rc) && (rc = ss_incoming_drop(t.incoming, SS_INCOMING_MIXTURE, 0, e)) < 0)
            return rc;
    }
    return found.delta && ss_sync_ready(t.sync) ? take_delta(found.delta, e) : SS_OK;
}

static void look_for_incoming(void)
{
    ss_err why;
    if (take_incoming(&why) < 0)
        tool_warn("%s", why.text);
}

static void save_when_due(void)
{
    owner_saves(&t.pace, t.windows, true, save);
}

static int put_gap(const ss_record *rec, ss_err *e)
{
    if (!t.nonfinite_said)
        tool_warn("record %" PRIu64 " holds values that are not finite: a gap is put in its place",
                  ss_reader_count(t.r) - 1);
    t.nonfinite_said = true;
    ss_record gap = runner_gap(rec);
    return ss_writer_put(t.w, &gap, e);
}

/* Lock-step: the next window is for the weights that this one's gradient has moved. Who reads what is written
 * here is watched meanwhile: when he is gone none comes. */
static int wait_for_gradients(ss_err *e)
{
    int64_t until_ns = ss_clock_mono_ns() + (int64_t)(wait_seconds * 1e9);
    t.sent = 0;
    t.awaited = true;
    int rc = ss_writer_flush(t.w, e);
    while (!rc) {
        look_for_incoming();
        if (!t.awaited)
            return SS_OK;
        if (ss_clock_mono_ns() > until_ns)
            return ss_err_set(e, SS_EIO,
                              "no gradient of window %" PRIu64
                              " has come within %g seconds: --wait-gradients "
                              "is the server's --every, and its --start at least",
                              t.newest.seq, wait_seconds);
        struct pollfd f = {tool_writer_fd(), 0, 0};
        if (poll(&f, 1, LOOK_MS) > 0 && f.revents & POLLERR) {
            errno = EPIPE;
            rc = ss_err_errno(e, "cannot write the output");
        }
    }
    return rc;
}

/* A window that goes out cut and whose gradient is to come back. */
static int send_cut(ss_record *rec, int cut, int64_t begun, ss_err *e)
{
    bool latest;
    source *s = source_of(rec, &latest);
    if ((int64_t)rec->seq <= s->cut) {
        t.over++;
        return SS_OK;
    }
    s->cut = (int64_t)rec->seq;
    t.newest = (ss_lower_item){rec->device, rec->epoch, rec->seq, cut, t.in};
    int rc = ss_lower_window(t.lower, &t.newest, t.out, e);
    if (rc == SS_ERANGE)
        return put_gap(rec, e);
    if (rc < 0)
        return rc;
    t.windows++;
    t.unsaved++;
    rc = put_values(rec, cut, t.m->generation, begun, e);
    if (!rc && wait_gradients && ++t.sent >= wait_gradients)
        rc = wait_for_gradients(e);
    tell(rec, NULL);
    if (!rc)
        save_when_due();
    return rc;
}

static int learn(ss_record *rec, int64_t begun, ss_err *e)
{
    bool latest;
    source *s = source_of(rec, &latest);
    if ((int64_t)rec->seq <= s->seq) {
        t.over++;
        return SS_OK;
    }
    ss_mixture_score score;
    int rc = ss_learner_window(t.learner, t.in, rec->seq, follow(s, latest, rec), t.out, &score, e);
    if (rc == SS_ERANGE) {
        s->flags |= SS_FLAG_CLIP_END; /* nothing goes on from it */
        return put_gap(rec, e);
    }
    if (rc < 0)
        return rc;
    t.windows++;
    t.unsaved++;
    t.sum_u += (double)score.u;
    t.sum_novelty += (double)score.novelty;
    t.sum_count++;
    ss_attr_set_f32(&rec->attrs, SS_ATTR_U, score.u);
    ss_attr_set_f32(&rec->attrs, SS_ATTR_NOVELTY, score.novelty);
    if (t.stepped)
        ss_attr_set_f32(&rec->attrs, SS_ATTR_LOSS, (float)t.loss);
    rc = put_values(rec, SS_CUT_EMBEDDING, t.m->generation, begun, e);
    if (ss_learner_due(t.learner)) {
        /* A step takes as long as many windows, so what is ready goes first. It is taken also when the reader
         * has gone: what is saved then is the state after a window that is done with. */
        if (!rc)
            rc = ss_writer_flush(t.w, e);
        t.reader_gone = rc == SS_EIO && errno == EPIPE;
        int filled = ss_model_fill(t.m, e);
        if (filled == SS_OK && t.sync)
            filled = ss_sync_begin(t.sync, e);
        if (filled < 0)
            return filled;
        step();
    }
    tell(rec, &score);
    if (!rc)
        save_when_due();
    return rc;
}

/* the first window */

/* Half a window, as the front end named in the header makes them; frames of 10 ms where it names none. */
static int hop_of(const ss_header *h, ss_err *e)
{
    cJSON *tree = NULL;
    double hop = 160, samples = 16000;
    int rc = h->frontend ? ss_json_parse(&tree, h->frontend, strlen(h->frontend), "front end", e) : SS_OK;
    if (!rc && tree) {
        rc = ss_json_number(tree, "hop", 1, 1e6, &hop, e);
        rc = rc < 0 ? rc : ss_json_number(tree, "rate", 1, 1e9, &samples, e);
    }
    cJSON_Delete(tree);
    t.hop_ns = (int64_t)((t.m->config.frames + 1) / 2 * hop / samples * 1e9 + 0.5);
    return rc < 0 ? rc : SS_OK;
}

static int fits(const ss_header *h, ss_err *e)
{
    if (!*h->frontend_hash)
        return SS_OK;
    if (!*t.m->frontend_hash)
        memcpy(t.m->frontend_hash, h->frontend_hash, sizeof t.m->frontend_hash);
    if (strcmp(t.m->frontend_hash, h->frontend_hash))
        return ss_err_set(e, SS_EUNFIT, "features of front end %s, the model was made for %s",
                          h->frontend_hash, t.m->frontend_hash);
    return SS_OK;
}

/* The values stay in the file until the first step: what goes out before it needs them packed only. */
static int set_up(const ss_header *in, ss_err *e)
{
    int rc = fits(in, e);
    if (!rc)
        rc = hop_of(in, e);
    if (!rc && state_path)
        rc = ss_sync_create(&t.sync, t.m, e);
    if (!rc && finishes())
        rc = ss_learner_create(&t.learner, &config, t.m, t.pool, e);
    if (!rc && applying) {
        ss_lower_config c;
        ss_lower_config_default(&c);
        c.until = t.cut < 0 ? SS_CUT_EMBEDDING - 1 : t.cut;
        c.kept = wait_gradients > c.kept ? wait_gradients : c.kept;
        c.micro_batch = config.micro_batch;
        c.optimiser = (ss_optimiser_config){config.optimiser, config.rate, config.warmup, config.clip};
        rc = ss_lower_create(&t.lower, &c, t.m, t.pool, e);
    }
    return rc;
}

/* The same with the generation before, for a model that is damaged behind its header. */
static int set_up_previous(const ss_header *in, char **path, ss_err *e)
{
    ss_err late;
    *path = ss_atomic_previous(model_path);
    ss_learner_free(t.learner);
    ss_sync_free(t.sync);
    ss_model_free(t.m);
    t.learner = NULL;
    t.sync = NULL;
    t.m = NULL;
    if (!*path || ss_model_open(&t.m, *path, &late) < 0 || set_up(in, &late) < 0)
        return e->code;
    tool_warn("%s; the one before it is taken", e->text);
    return SS_OK;
}

/* What the first window needs: all that is in the model is read and verified, which takes its time. */
static int begin(ss_err *e)
{
    char *prev = NULL;
    const ss_header *in;
    int rc = ss_reader_header(t.r, &in, e);
    if (!rc)
        rc = set_up(in, e);
    if (!t.previous && (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EIO))
        rc = set_up_previous(in, &prev, e);
    else if (t.previous)
        prev = ss_atomic_previous(model_path);
    if (!rc)
        rc = resume(e);
    if (!rc)
        rc = keep_saved(prev ? prev : model_path, e);
    if (!rc)
        rc = tell_version(e);
    t.begun = !rc;
    ss_free(prev);
    return rc;
}

static int take(const ss_record *in, ss_err *e)
{
    ss_record rec = *in;
    if (rec.type != SS_TYPE_DATA)
        return ss_writer_put(t.w, &rec, e);
    int rc = t.begun ? SS_OK : begin(e);
    if (rc < 0)
        return rc;
    rc = runner_check_shape(&t.m->config, in, SS_CUT_INPUT, e);
    if (!rc)
        rc = runner_unpack(in, (size_t)t.m->config.mels * (size_t)t.m->config.frames, t.in, e);
    if (rc < 0)
        return ss_err_prefix(e, "record %" PRIu64, ss_reader_count(t.r) - 1);
    t.passed++;
    int64_t begun = ss_stage_begin(&rec.attrs, SS_ATTR_W_TRAIN);
    uint64_t cut = ss_attr_uint(&rec.attrs, SS_ATTR_SPLIT, SS_CUT_EMBEDDING + 1);
    if (t.cut >= 0)
        cut = (uint64_t)t.cut;
    if (cut > SS_CUT_EMBEDDING)
        return ss_err_set(e, SS_EUNFIT,
                          "record %" PRIu64 ": not stamped with a cut, which --until=auto obeys",
                          ss_reader_count(t.r) - 1);
    look_for_incoming();
    if (cut == SS_CUT_EMBEDDING)
        return learn(&rec, begun, e);
    return t.lower && cut != SS_CUT_INPUT ? send_cut(&rec, (int)cut, begun, e)
                                          : encode(&rec, (int)cut, begun, e);
}

static int run(ss_err *e)
{
    const ss_record *rec;
    int rc;
    t.steps = owner_budget(budget);
    t.pace = (owner_pace){save_windows, save_seconds, ss_clock_mono_ns()};
    while ((rc = ss_reader_next(t.r, &rec, e)) > 0) {
        rc = take(rec, e);
        t.reader_gone |= rc == SS_EIO && errno == EPIPE;
        if (rc < 0)
            return rc;
        tool_progress("%" PRIu64 " windows heard, loss %.3f", t.windows, t.loss);
    }
    t.reader_gone = rc == SS_EIO && errno == EPIPE; /* of the flush before a read */
    return rc;
}

/* opening */

static int open_output(const ss_header *in, ss_err *e)
{
    ss_header out = {0};
    size_t most = ss_model_largest_cut(&t.m->config);
    t.in = ss_alloc(most, sizeof *t.in);
    t.out = ss_alloc(most, sizeof *t.out);
    t.packed = ss_alloc(most, sizeof *t.out);
    if (!t.in || !t.out || !t.packed)
        return ss_err_set(e, SS_ENOMEM, "no memory for a record");
    int rc = ss_header_copy(&out, in, e);
    ss_model_arch_hash(&t.m->config, out.arch_hash);
    if (!rc)
        rc = tool_writer(&t.w, t.r, &out, t.cut == SS_CUT_EMBEDDING ? "embedding" : "cut", e);
    ss_header_clear(&out);
    return rc;
}

static int open_state(ss_err *e)
{
    if (!state_path)
        return SS_OK;
    int rc = ss_state_open(&t.state, state_path, e);
    return rc < 0 ? rc : ss_incoming_open(&t.incoming, state_path, false, e);
}

static int open_all(const char *input, ss_err *e)
{
    const ss_header *in = NULL;
    ss_err why;
    int previous;
    t.owner = owner_take(model_path, false, e);
    if (t.owner < 0)
        return t.owner;
    int rc = ss_model_open_any(&t.m, model_path, &previous, &why);
    t.previous = previous;
    if (rc < 0)
        *e = why;
    else if (previous)
        tool_warn("%s; the one before it is taken", why.text);
    if (!rc)
        rc = ss_pool_open(&t.pool, tool_set.threads, e);
    if (!rc)
        rc = open_state(e);
    if (!rc)
        rc = tool_reader(&t.r, input, "logmel", &in, e);
    if (!rc)
        rc = fits(in, e);
    if (!rc && log_path && !(t.log = fopen(log_path, "ae")))
        rc = ss_err_errno(e, "cannot open '%s'", log_path);
    return rc < 0 ? rc : open_output(in, e);
}

int main(int argc, char **argv)
{
    ss_err e = {0}, late;
    learner_defaults();
    int first = tool_start(&program, argc, argv);
    if (argc - first > 1)
        tool_usage("one stream at most, found %d", argc - first);
    int rc = configure(&e);
    if (!rc && refining) {
        rc = refine_run(&refine, argv[first], &e);
        return tool_finish(rc, &e);
    }
    if (!rc && !finishes() && !applying) { /* nothing is learnt from */
        runner_settings s = {.model = model_path,
                             .dtype = dtype,
                             .codec = t.codec,
                             .batch = 1,
                             .from = RUNNER_AUTO,
                             .until = t.cut,
                             .work = SS_ATTR_T_TRAIN,
                             .wait = SS_ATTR_W_TRAIN};
        rc = energy_begin(&e);
        if (!rc)
            rc = runner_run(&s, argv[first], &e);
        energy_end();
        return tool_finish(rc, &e);
    }
    /* A reader that goes must not take with it what was learnt: it is saved first. */
    signal(SIGPIPE, SIG_IGN);
    if (!rc)
        rc = energy_begin(&e);
    if (!rc)
        rc = open_all(argv[first], &e);
    if (!rc)
        rc = run(&e);
    tool_progress(NULL);
    /* Also after a failure: what came before it was sound. That it was not saved does not spoil the stream.
     */
    int saved = t.unsaved ? save(&late) : SS_OK;
    if (t.over)
        tool_info("%" PRIu64 " windows that had been learnt from before were passed over", t.over);
    if (t.log && (ferror(t.log) | fclose(t.log)))
        tool_warn("cannot write '%s'", log_path);
    if (!t.reader_gone) {
        errno = 0;
        rc = tool_writer_finish(&t.w, rc, &e);
        t.reader_gone = rc == SS_EIO && errno == EPIPE;
    }
    if (saved < 0 && (rc < 0 || t.reader_gone)) {
        tool_warn("not saved: %s", late.text);
    } else if (saved < 0) {
        rc = saved;
        e = late;
    }
    if (t.reader_gone) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    ss_reader_close(&t.r);
    ss_net_close(&t.net);
    ss_learner_free(t.learner);
    ss_lower_free(t.lower);
    ss_sync_free(t.sync);
    ss_incoming_close(&t.incoming);
    ss_state_close(&t.state);
    ss_pool_close(&t.pool);
    ss_model_free(t.m);
    ss_model_free(t.saved);
    ss_free(t.in);
    ss_free(t.out);
    ss_free(t.packed);
    runner_codecs_close(&t.codecs);
    energy_end();
    if (t.owner >= 0)
        close(t.owner);
    return tool_finish(rc, &e);
}
