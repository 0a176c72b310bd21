#include "common.h"

#include <inttypes.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audio/sound_codec.h"
#include "audio/source.h"
#include "audio/synth.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/manifest.h"
#include "io/sound.h"

#define RATE      SS_SOURCE_RATE
#define MAX_BLOCK 160000

static const char *manifest_path, *where, *track_path, *raw_text, *dtype = "f32", *codec_text;
static int channel, device = 1, loops = 1, block = 1280;
static uint64_t epoch;
static double start_s, duration_s;
static bool realtime, shuffle, list_devices;

static const tool_option options[] = {
    {"manifest", 0, OPT_STRING, &manifest_path, 0, 0, "FILE", "CSV of clips: file,label,fold", NULL},
    {"where", 0, OPT_STRING, &where, 0, 0, "CHOICE", "rows of the manifest, as in fold!=5,label==dog", NULL},
    {"labels", 0, OPT_STRING, &track_path, 0, 0, "FILE", "CSV of labels in one sound: start_s,end_s,label",
     NULL},
    {"raw", 0, OPT_STRING, &raw_text, 0, 0, "FORMAT", "samples without a header, as in s16le:44100:2", NULL},
    {"channel", 'c', OPT_INT, &channel, 0, SS_SOUND_MAX_CHANNELS, "N", "channel to take, 0 = the mean of all",
     NULL},
    {"start", 0, OPT_REAL, &start_s, 0, 1e9, "SECONDS", "pass over the first seconds", NULL},
    {"duration", 'd', OPT_REAL, &duration_s, 0, 1e9, "SECONDS", "stop after that much sound, 0 = at its end",
     NULL},
    {"realtime", 0, OPT_FLAG, &realtime, 0, 0, NULL, "at the pace at which it would be heard", NULL},
    {"loop", 0, OPT_INT, &loops, 0, 1e9, "N", "hear it N times, 0 = for ever", NULL},
    {"shuffle", 0, OPT_FLAG, &shuffle, 0, 0, NULL, "clips in an order drawn from --seed, a new one each time",
     NULL},
    {"dtype", 0, OPT_CHOICE, &dtype, 0, 0, "f32|i16", "type of the samples", NULL},
    {"codec", 0, OPT_STRING, &codec_text, 0, 0, "NAME",
     "pack the samples: flac, opus or opus:RATE (bit/s, 24k)", NULL},
    {"block", 0, OPT_INT, &block, 16, MAX_BLOCK, "N", "samples of a record at most", NULL},
    {"device", 0, OPT_INT, &device, 0, 2147483647, "N", "number of this device", NULL},
    {"epoch", 0, OPT_U64, &epoch, 0, 0, "NS", "identity and time of the start, 0 = the real time", NULL},
    {"list-devices", 0, OPT_FLAG, &list_devices, 0, 0, NULL, "print the devices that ALSA offers, and end",
     NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-capture", "[SOUND...]",
                                     "Turn sound into a stream of samples at 16 kHz.",
                                     TAKES_OUTPUT | TAKES_SEED | TAKES_PROGRESS | TAKES_STREAM, options};

/* One sound to be heard. */
typedef struct item {
    const char *path;
    uint64_t clip;
    int label, fold; /* -1 = none */
    bool noted;      /* what is wrong with it has been said */
} item;

enum kind { FILES, RAW, ALSA, SYNTH };

static struct capture {
    enum kind kind;
    ss_paths paths;
    ss_manifest *manifest;
    ss_track *track;
    item *item;
    size_t nitems;
    ss_raw_format raw;
    uint64_t synth_seed;

    ss_source *device; /* opened already */
    ss_writer *w;
    ss_record rec;
    float *x; /* [block + 1] */
    int16_t *narrow;
    ss_sound_encoder *encoder; /* of --codec, or NULL */
    int codec, rate;
    uint64_t sent;    /* samples in all */
    uint64_t to_skip; /* of this pass, before the first that is heard */
    uint64_t left;    /* of this pass, UINT64_MAX = no limit */
    int64_t begun;    /* monotonic ns, sample 0 */
    int64_t epoch_ns; /* real time of sample 0 */
    uint64_t overruns, overrun_samples, nonfinite;
    int bad; /* sounds that could not be read or held less than they declare */
} c;

/* What a block belongs to. */
typedef struct place {
    int64_t clip; /* -1 = none */
    int label, fold;
    bool clip_end, live;
    int64_t time; /* 0 = by count */
} place;

static void set_place(const place *p)
{
    ss_attrs *a = &c.rec.attrs;
    a->present = 0;
    if (p->clip >= 0)
        ss_attr_set_uint(a, SS_ATTR_CLIP, (uint64_t)p->clip);
    if (p->label >= 0)
        ss_attr_set_uint(a, SS_ATTR_LABEL, (uint64_t)p->label);
    if (p->fold >= 0)
        ss_attr_set_uint(a, SS_ATTR_FOLD, (uint64_t)p->fold);
    c.rec.time_ns = p->time ? p->time : c.epoch_ns + (int64_t)((double)c.sent * 1e9 / RATE);
}

static int put(bool now, ss_err *e)
{
    int rc = ss_writer_put(c.w, &c.rec, e);
    return rc < 0 || !now ? rc : ss_writer_flush(c.w, e);
}

/* Samples c.x [n], worked on since `begun`. SS_ESTOPPED when the pace kept it until a signal came. */
static int put_block(size_t n, const place *p, int64_t begun, ss_err *e)
{
    set_place(p);
    c.rec.type = SS_TYPE_DATA;
    c.rec.flags = p->clip_end ? SS_FLAG_CLIP_END : 0;
    c.rec.rank = 1;
    c.rec.dim[0] = (uint32_t)n;
    if (c.encoder) {
        c.rec.time_ns -= (int64_t)(ss_sound_encoder_delay(c.encoder) * 1e9 / RATE);
        /* A device that was stopped or lost samples gives part of a frame: what comes then begins anew. */
        bool last = p->clip_end || n % (size_t)ss_sound_encoder_frame(c.encoder);
        int rc = ss_sound_encode(c.encoder, c.x, n, last, &c.rec.data, &c.rec.size, c.rec.dim, e);
        if (rc)
            return rc;
        c.rec.dtype = SS_DTYPE_PACKED;
        ss_attr_set_uint(&c.rec.attrs, SS_ATTR_CODEC, (uint64_t)c.codec);
    } else if (c.narrow) {
        for (size_t i = 0; i < n; i++) {
            float v = c.x[i] * 32768;
            c.narrow[i] = (int16_t)(v >= 32767 ? 32767 : v <= -32768 ? -32768 : lrintf(v));
        }
        c.rec.dtype = SS_DTYPE_I16;
        c.rec.data = c.narrow;
        c.rec.size = n * sizeof *c.narrow;
    } else {
        c.rec.dtype = SS_DTYPE_F32;
        c.rec.data = c.x;
        c.rec.size = n * sizeof *c.x;
    }
    if (realtime) {
        int64_t worked = ss_clock_mono_ns() - begun;
        int64_t due = c.begun + (int64_t)((double)(c.sent + n) * 1e9 / RATE);
        while (!tool_stop && ss_clock_mono_ns() < due)
            ss_clock_sleep_until(due);
        if (tool_stop)
            return SS_ESTOPPED;
        begun = ss_clock_mono_ns() - worked;
    }
    ss_stage_end(&c.rec.attrs, SS_ATTR_T_CAPTURE, begun);
    int rc = put(realtime || p->live, e);
    c.rec.seq++;
    c.sent += n;
    tool_progress("%.1f s of sound", (double)c.sent / RATE);
    return rc;
}

/* `samples` are missing where the stream is now. */
static int put_gap(uint64_t samples, const place *p, ss_gap_reason why, ss_err *e)
{
    uint64_t records = (samples + block - 1) / block, most = UINT32_MAX;
    records = records < 1 ? 1 : records > most ? most : records;
    if (c.encoder)
        ss_sound_encoder_reset(c.encoder);
    set_place(p);
    c.rec.type = SS_TYPE_GAP;
    c.rec.flags = 0;
    c.rec.dtype = 0;
    c.rec.rank = 0;
    c.rec.size = 0;
    c.rec.data = NULL;
    ss_attr_set_uint(&c.rec.attrs, SS_ATTR_COUNT, records);
    ss_attr_set_uint(&c.rec.attrs, SS_ATTR_REASON, why);
    ss_stage_end(&c.rec.attrs, 0, 0);
    int rc = put(true, e);
    c.rec.seq += records;
    return rc;
}

/* Something is wrong with this sound and the next one may be better; false if it concerns all of them. */
static bool note(item *it, const ss_err *e)
{
    if (e->code == SS_ENOMEM)
        return false;
    if (!it->noted) {
        tool_error("%s", e->text);
        c.bad++;
    }
    it->noted = true;
    return true;
}

static uint64_t seconds(double s)
{
    return (uint64_t)floor(s * RATE + 0.5);
}

/* Samples that the block to come may have at `at`, and what it belongs to. Of a codec it is a whole number of
 * frames, and where a label ends within one it belongs to that frame's first sample. */
static size_t allowed(uint64_t at, place *p)
{
    uint64_t want = (uint64_t)block;
    if (c.track) {
        ss_stretch s = ss_track_at(c.track, at);
        p->label = s.label;
        p->fold = s.fold;
        want = want < s.end - at ? want : s.end - at;
    }
    if (c.encoder) {
        uint64_t frame = (uint64_t)ss_sound_encoder_frame(c.encoder);
        want = (want + frame - 1) / frame * frame;
    }
    return (size_t)(want < c.left ? want : c.left);
}

static int play(ss_source *s, item *it, ss_err *e)
{
    bool live = ss_source_is_live(s), ahead = false, more = true;
    place p = {
        .clip = c.kind == FILES ? (int64_t)it->clip : -1, .label = it->label, .fold = it->fold, .live = live};
    ss_err late = {0};
    float next = 0;
    uint64_t at = 0;
    if (c.to_skip) {
        int64_t declared = ss_source_declared(s);
        if (declared >= 0 && (uint64_t)declared <= c.to_skip) {
            c.to_skip -= (uint64_t)declared;
            return SS_OK;
        }
        int rc = ss_source_skip(s, c.to_skip, &late);
        if (rc)
            more = false;
        at = c.to_skip;
        c.to_skip = 0;
    }
    while (more && c.left && !tool_stop) {
        size_t want = allowed(at, &p), n = 0;
        int64_t begun = ss_stage_begin(&c.rec.attrs, 0);
        if (ahead)
            c.x[n++] = next;
        /* One sample more than the block shows whether it is the last of its clip; who hears live cannot
         * wait. */
        ssize_t got = ss_source_read(s, c.x + n, want - n + !live, &late);
        if (live)
            begun = ss_clock_mono_ns();
        uint64_t lost = ss_source_lost(s);
        p.time = ss_source_time(s);
        if (lost) {
            c.overruns++;
            c.overrun_samples += lost;
            tool_warn("the sound device overran: about %.3f s are lost", (double)lost / RATE);
            place gone = p;
            gone.time -= (int64_t)((double)lost * 1e9 / RATE);
            int rc = put_gap(lost, &gone, SS_GAP_OVERRUN, e);
            if (rc)
                return rc;
            at += lost;
        }
        if (got < 0)
            more = false;
        n += got > 0 ? (size_t)got : 0;
        ahead = n > want;
        if (ahead)
            next = c.x[--n];
        if (!live || !got)
            more = more && ahead;
        if (!n)
            break;
        if (c.left != UINT64_MAX)
            c.left -= n;
        p.clip_end = !live && (!more || !c.left);
        int rc = put_block(n, &p, begun, e);
        if (rc)
            return rc;
        at += n;
    }
    if (!more && !late.code && !live) {
        /* What was wrong at the end comes after the last sample. */
        float sink;
        ss_source_read(s, &sink, 1, &late);
    }
    c.nonfinite += ss_source_nonfinite(s);
    if (!late.code || late.code == SS_ESTOPPED)
        return SS_OK;
    if (c.kind == ALSA || !note(it, &late)) {
        *e = late;
        return late.code;
    }
    p.time = 0;
    return put_gap(ss_source_missing(s), &p, SS_GAP_SOURCE, e);
}

static int open_item(ss_source **s, const item *it, ss_err *e)
{
    if (c.kind == ALSA)
        return ss_source_alsa(s, it->path, channel, &tool_stop, e);
    if (c.kind == FILES)
        return ss_source_file(s, it->path, channel, &tool_stop, e);
    bool standard = !strcmp(it->path, "-");
    int fd = standard ? 0 : open(it->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", it->path);
    int rc = ss_source_raw(s, fd, &c.raw, channel, &tool_stop, e);
    return rc;
}

static int play_item(item *it, ss_err *e)
{
    ss_source *s;
    ss_err bad = {0};
    int rc = SS_OK;
    if (c.device)
        s = c.device;
    else
        rc = open_item(&s, it, &bad);
    c.device = NULL;
    if (rc && !note(it, &bad)) {
        *e = bad;
        return rc;
    }
    if (rc)
        return put_gap(0, &(place){(int64_t)it->clip, it->label, it->fold}, SS_GAP_SOURCE, e);
    rc = play(s, it, e);
    ss_source_close(s);
    return rc;
}

static int play_synth(ss_err *e)
{
    ss_synth *s;
    ss_synth_scene scene;
    uint32_t rest;
    int rc = ss_synth_create(&s, c.synth_seed, e);
    if (rc)
        return rc;
    while (c.to_skip)
        c.to_skip -=
            ss_synth_read(s, c.x, c.to_skip < (uint64_t)block ? c.to_skip : (size_t)block, &scene, &rest);
    while (!rc && c.left && !tool_stop) {
        int64_t begun = ss_stage_begin(&c.rec.attrs, 0);
        size_t n = ss_synth_read(s, c.x, c.left < (uint64_t)block ? c.left : (size_t)block, &scene, &rest);
        if (c.left != UINT64_MAX)
            c.left -= n;
        place p = {.clip = (int64_t)scene.number,
                   .label = scene.kind,
                   .fold = scene.fold,
                   .clip_end = !rest || !c.left};
        rc = put_block(n, &p, begun, e);
    }
    ss_synth_free(s);
    return rc;
}

/* All of the sound, as often as asked for. */
static int play_all(ss_err *e)
{
    int rc = SS_OK;
    uint32_t *order = ss_alloc(c.nitems, sizeof *order);
    if (!order)
        return ss_err_set(e, SS_ENOMEM, "no memory for the order of the clips");
    for (size_t i = 0; i < c.nitems; i++)
        order[i] = (uint32_t)i;
    for (uint64_t pass = 0; !rc && !tool_stop && (!loops || pass < (uint64_t)loops); pass++) {
        uint64_t before = c.sent;
        c.to_skip = seconds(start_s);
        c.left = duration_s > 0 ? seconds(duration_s) : UINT64_MAX;
        if (shuffle) {
            ss_rng r = ss_rng_make(tool_set.seed, pass);
            ss_rng_shuffle(&r, order, c.nitems);
        }
        if (c.kind == SYNTH)
            rc = play_synth(e);
        for (size_t i = 0; i < c.nitems && c.left && !rc && !tool_stop; i++)
            rc = play_item(&c.item[order[i]], e);
        if (c.sent == before) /* nothing to be heard: it would be the same for ever */
            break;
    }
    ss_free(order);
    return rc == SS_ESTOPPED ? SS_OK : rc;
}

static int add_labels(ss_header *h, const ss_labels *l, ss_err *e)
{
    int rc = SS_OK;
    for (uint32_t i = 0; i < l->n && rc >= 0; i++)
        rc = ss_header_add_label(h, l->name[i], e);
    return rc < 0 ? rc : SS_OK;
}

static int make_header(ss_header *h, ss_err *e)
{
    int rc = SS_OK;
    h->rate = RATE;
    if (c.manifest)
        return add_labels(h, &c.manifest->labels, e);
    if (c.track)
        return add_labels(h, &c.track->labels, e);
    for (int k = 0; c.kind == SYNTH && k < SS_SYNTH_KINDS && rc >= 0; k++)
        rc = ss_header_add_label(h, ss_synth_kind(k), e);
    return rc < 0 ? rc : SS_OK;
}

static int parse_synth(const char *text)
{
    char *end;
    c.synth_seed = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        tool_usage("synth:%s: expected a seed, as in synth:1", text);
    return SYNTH;
}

/* Operands and options to the list of what is to be heard. */
static int find_sound(int n, char **operand, ss_err *e)
{
    const char *only = n == 1 ? operand[0] : n == 0 ? "-" : "";
    for (int i = 0; i < n; i++)
        if (n > 1 && (!strcmp(operand[i], "-") || !strncmp(operand[i], "alsa:", 5) ||
                      !strncmp(operand[i], "synth:", 6)))
            tool_usage("'%s' cannot be joined with other sounds", operand[i]);
    if (manifest_path && (n || raw_text || track_path))
        tool_usage("--manifest goes without operands, --raw and --labels");
    if (where && !manifest_path)
        tool_usage("--where needs --manifest");
    c.kind = raw_text                      ? RAW
             : manifest_path               ? FILES
             : !strncmp(only, "alsa:", 5)  ? ALSA
             : !strncmp(only, "synth:", 6) ? (enum kind)parse_synth(only + 6)
                                           : FILES;
    bool standard = !manifest_path && !strcmp(only, "-");
    if (standard && isatty(0))
        tool_usage("no sound: name a file, folder, @LIST, alsa:DEVICE or synth:SEED, or pipe one in");
    if (loops != 1 && (c.kind == ALSA || standard))
        tool_usage("--loop needs sound that can be heard again");
    if (c.kind == SYNTH && (shuffle || channel || track_path))
        tool_usage("synth: goes without --shuffle, --channel and --labels");
    if (raw_text) {
        if (n > 1)
            tool_usage("--raw takes one file or standard input");
        int rc = ss_raw_parse(raw_text, &c.raw, e);
        if (rc)
            tool_usage("--raw: %s", e->text);
    }
    int rc = SS_OK;
    if (manifest_path) {
        rc = ss_manifest_open(&c.manifest, manifest_path, where, e);
        if (rc)
            return rc;
        c.nitems = c.manifest->n;
    } else if (c.kind == FILES && !standard) {
        for (int i = 0; i < n && !rc; i++)
            rc = ss_paths_expand(&c.paths, operand[i], e);
        if (rc)
            return rc;
        c.nitems = c.paths.n;
        if (!c.nitems)
            return ss_err_set(e, SS_EIO, "no sound files in '%s'%s", operand[0],
                              n > 1 ? " and the others" : "");
    } else if (c.kind != SYNTH) {
        c.nitems = 1;
    }
    c.item = ss_zalloc(c.nitems, sizeof *c.item);
    if (!c.item)
        return ss_err_set(e, SS_ENOMEM, "no memory for %zu clips", c.nitems);
    for (size_t i = 0; i < c.nitems; i++) {
        if (c.manifest) {
            const ss_clip *m = &c.manifest->clip[i];
            c.item[i] = (item){m->path, m->number, m->label, m->fold, false};
        } else {
            const char *path = c.paths.n ? c.paths.path[i] : c.kind == ALSA ? only + 5 : only;
            c.item[i] = (item){path, i, -1, -1, false};
        }
    }
    if (track_path && c.nitems != 1)
        tool_usage("--labels belongs to one sound, found %zu", c.nitems);
    if (track_path)
        rc = ss_track_open(&c.track, track_path, RATE, e);
    return rc;
}

static void print_device(const char *name, const char *description, void *arg)
{
    (void)arg;
    printf("alsa:%s\t%s\n", name, description);
}

static int check_codec(ss_err *e)
{
    if (strcmp(dtype, "f32"))
        tool_usage("--codec and --dtype exclude each other");
    int rc = ss_sound_codec_parse(codec_text, &c.codec, &c.rate, e);
    if (rc == SS_EINVAL)
        tool_usage("--codec: %s", e->text);
    if (c.codec == SS_SOUND_OPUS && block % SS_SOUND_FRAME)
        tool_usage("--block=%d is no whole number of frames of %d samples", block, SS_SOUND_FRAME);
    return rc;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    ss_header h = {0};
    int first = tool_start(&program, argc, argv);
    if (list_devices)
        return tool_finish(ss_alsa_devices(print_device, NULL, &e), &e);
    int rc = codec_text ? check_codec(&e) : SS_OK;
    if (!rc)
        rc = find_sound(argc - first, argv + first, &e);
    if (!rc)
        rc = make_header(&h, &e);
    if (!rc && codec_text)
        rc = ss_sound_encoder_open(&c.encoder, c.codec, c.rate, &e);
    c.x = ss_alloc(block + 1, sizeof *c.x);
    c.narrow = strcmp(dtype, "i16") ? NULL : ss_alloc(block, sizeof *c.narrow);
    if (!rc && (!c.x || (!c.narrow && !strcmp(dtype, "i16"))))
        rc = ss_err_set(&e, SS_ENOMEM, "no memory for blocks of %d samples", block);
    /* There is no other one to go on with if it fails, so it fails before anything is written. */
    if (!rc && c.kind == ALSA)
        rc = open_item(&c.device, c.item, &e);
    if (!rc)
        rc = tool_writer(&c.w, NULL, &h, "pcm", &e);
    if (!rc) {
        c.begun = ss_clock_mono_ns();
        c.rec.device = (uint32_t)device;
        c.rec.epoch = epoch ? epoch : (uint64_t)ss_clock_real_ns();
        c.epoch_ns = (int64_t)c.rec.epoch;
        rc = ss_writer_flush(c.w, &e); /* the first sound may be long in coming */
    }
    if (!rc)
        rc = play_all(&e);
    rc = tool_writer_finish(&c.w, rc, &e);
    if (c.overruns)
        tool_warn("%" PRIu64 " overruns, %.3f s of sound lost", c.overruns, (double)c.overrun_samples / RATE);
    if (c.nonfinite)
        tool_warn("%" PRIu64 " samples were not finite and became 0", c.nonfinite);
    if (c.bad > 1)
        tool_error("%d sounds could not be read or hold less than they declare", c.bad);
    ss_source_close(c.device);
    ss_sound_encoder_close(&c.encoder);
    ss_header_clear(&h);
    ss_manifest_free(c.manifest);
    ss_track_free(c.track);
    ss_paths_clear(&c.paths);
    ss_free(c.item);
    ss_free(c.x);
    ss_free(c.narrow);
    int status = tool_finish(rc, &e);
    return status == TOOL_OK && c.bad ? TOOL_IO : status;
}
