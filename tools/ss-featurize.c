#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "audio/logmel.h"
#include "audio/sound_codec.h"
#include "audio/source.h"
#include "audio/spans.h"
#include "base/clock.h"
#include "base/mem.h"
#include "sys/state.h"

#define REDUCE_ABOVE 0.75 /* of the CPU; */
#define FULL_BELOW   0.67 /* between both it stays as it is */
#define STALE_NS     ((int64_t)30 * 1000000000)

static const char *partial = "drop", *resolution = "full", *state_path, *codec = "none";
static int mels = 64, fft = 512;
static double window_ms = 25, hop_ms = 10;
static bool keep_dc;

static const tool_option options[] = {
    {"partial", 0, OPT_CHOICE, &partial, 0, 0, "pad|drop", "what remains at the end of a clip", NULL},
    {"mels", 0, OPT_INT, &mels, 1, 4096, "N", "mel filters", NULL},
    {"fft", 0, OPT_INT, &fft, 2, 1 << 20, "N", "points of the transform", NULL},
    {"window", 0, OPT_REAL, &window_ms, 0.125, 1000, "MS", "length of a frame", NULL},
    {"hop", 0, OPT_REAL, &hop_ms, 0.0625, 1000, "MS", "from frame to frame", NULL},
    {"keep-dc", 0, OPT_FLAG, &keep_dc, 0, 0, NULL, "do not take off the constant part of a frame", NULL},
    {"resolution", 0, OPT_CHOICE, &resolution, 0, 0, "full|mels32|hop20|auto",
     "reduced: half the filters or frames", NULL},
    {"codec", 0, OPT_CHOICE, &codec, 0, 0, "none|logmel-u8",
     "of the windows written; logmel-u8: eight bits, packed", NULL},
    {"state", 0, OPT_STRING, &state_path, 0, 0, "DIR", "state directory, for --resolution=auto", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-featurize", "[FILE]",
                                     "Turn samples into windows of log-mel energies.",
                                     TAKES_OUTPUT | TAKES_STREAM, options};

static struct featurize {
    ss_logmel_config config;
    ss_logmel *front;
    ss_spans spans;
    ss_reader *r;
    ss_writer *w;
    float *samples; /* of an i16 block */
    size_t room;
    ss_sound_decoder *decoder;       /* once a block is packed */
    float *window;                   /* [mels][frames] */
    void *packed;                    /* of --codec=logmel-u8, or NULL */
    bool in_clip;                    /* the next block may follow on the one before */
    ss_record last;                  /* the block before: who, which clip, where */
    uint64_t next_seq;               /* of a block */
    uint32_t longest;                /* block so far */
    uint64_t seq;                    /* of the next window */
    uint64_t captured_us, worked_ns; /* since the window before */
    bool nonfinite_said, excessive_said;
    ss_state *state;
    bool reduced; /* by --resolution=auto */
} f;

static int samples_of(const char *what, double ms, int *out, ss_err *e)
{
    double n = ms * SS_SOURCE_RATE / 1000;
    if (fabs(n - floor(n + 0.5)) > 1e-6)
        return ss_err_set(e, SS_ERANGE, "--%s: %.10g ms are %.10g samples, expected a whole number", what, ms,
                          n);
    *out = (int)floor(n + 0.5);
    return SS_OK;
}

/* Every second frame under load, all of them when it has passed; what is not known changes nothing. */
static void adapt(void)
{
    ss_state_value cpu;
    ss_err e;
    if (!f.state)
        return;
    int flags = ss_state_get(f.state, "cpu", STALE_NS, &cpu, &e);
    if (flags > 0 && flags & SS_STATE_SAY)
        tool_warn("%s", e.text);
    if (flags <= 0 || !(flags & SS_STATE_THERE) || flags & SS_STATE_STALE)
        return;
    bool want = f.reduced ? !(cpu.number < FULL_BELOW) : cpu.number > REDUCE_ABOVE;
    if (want != f.reduced)
        tool_info("%s resolution: cpu is %g", want ? "reduced" : "full", cpu.number);
    f.reduced = want;
    ss_logmel_set_resolution(f.front, want ? SS_RES_HALF_RATE : SS_RES_FULL);
}

static int configure(ss_err *e)
{
    ss_logmel_config_default(&f.config);
    f.config.mels = mels;
    f.config.fft = fft;
    f.config.keep_dc = keep_dc;
    int rc = samples_of("window", window_ms, &f.config.window, e);
    if (!rc)
        rc = samples_of("hop", hop_ms, &f.config.hop, e);
    if (!rc)
        rc = ss_logmel_create(&f.front, &f.config, e);
    ss_resolution how = !strcmp(resolution, "mels32")  ? SS_RES_HALF_MELS
                        : !strcmp(resolution, "hop20") ? SS_RES_HALF_RATE
                                                       : SS_RES_FULL;
    if (!rc && ss_logmel_set_resolution(f.front, how))
        rc = ss_err_set(e, SS_ERANGE,
                        "--resolution=mels32 needs an even number of filters, at least 4, found %d", mels);
    bool automatic = !strcmp(resolution, "auto");
    if (!rc && automatic != (state_path != NULL))
        rc = ss_err_set(e, SS_EINVAL, "--resolution=auto and --state go together");
    if (!rc && automatic)
        rc = ss_state_open(&f.state, state_path, e);
    if (!rc)
        adapt();
    f.window = ss_alloc((size_t)mels * f.config.frames, sizeof *f.window);
    if (!strcmp(codec, "logmel-u8"))
        f.packed = ss_alloc(ss_logmel_pack_room((size_t)mels * f.config.frames), 1);
    if (!rc && (!f.window || (!f.packed && strcmp(codec, "none"))))
        rc = ss_err_set(e, SS_ENOMEM, "no memory for a window");
    return rc;
}

/* The window that the front end has ready, made of blocks up to the one with attributes `a`. */
static int put_window(const ss_attrs *a, int64_t *begun, ss_err *e)
{
    ss_logmel_window about;
    ss_logmel_fetch(f.front, f.window, &about);
    ss_span span =
        ss_spans_summary(&f.spans, about.start, about.start + about.samples - about.padding, f.config.rate);
    ss_record rec = {.type = SS_TYPE_DATA,
                     .dtype = SS_DTYPE_F32,
                     .rank = 2,
                     .device = f.last.device,
                     .epoch = f.last.epoch,
                     .seq = f.seq++,
                     .time_ns = span.time_ns,
                     .attrs = *a,
                     .dim = {(uint32_t)mels, (uint32_t)f.config.frames},
                     .size = (size_t)mels * f.config.frames * sizeof *f.window,
                     .data = f.window};
    rec.flags = (uint8_t)((about.padding ? SS_FLAG_PADDED : 0) | (about.resolution ? SS_FLAG_REDUCED : 0));
    ss_attr_clear(&rec.attrs, SS_ATTR_CODEC); /* that of the blocks */
    ss_attr_clear(&rec.attrs, SS_ATTR_LABEL);
    ss_attr_clear(&rec.attrs, SS_ATTR_FOLD);
    if (span.label >= 0)
        ss_attr_set_uint(&rec.attrs, SS_ATTR_LABEL, (uint64_t)span.label);
    if (span.fold >= 0)
        ss_attr_set_uint(&rec.attrs, SS_ATTR_FOLD, (uint64_t)span.fold);
    if (about.resolution)
        ss_attr_set_uint(&rec.attrs, SS_ATTR_RESOLUTION, about.resolution);
    if (ss_attr_has(a, SS_ATTR_T_CAPTURE))
        ss_attr_set_uint(&rec.attrs, SS_ATTR_T_CAPTURE, f.captured_us);
    int rc = SS_OK;
    if (f.packed) {
        ssize_t size = ss_logmel_pack(f.window, rec.dim[0], rec.dim[1], f.packed, e);
        rc = size < 0 ? (int)size : SS_OK;
        rec.dtype = SS_DTYPE_PACKED;
        rec.size = (size_t)size;
        rec.data = f.packed;
        ss_attr_set_uint(&rec.attrs, SS_ATTR_CODEC, SS_LOGMEL_U8);
    }
    ss_stage_end(&rec.attrs, SS_ATTR_T_FEATURIZE, *begun - (int64_t)f.worked_ns);
    if (!rc)
        rc = ss_writer_put(f.w, &rec, e);
    f.captured_us = f.worked_ns = 0;
    *begun = ss_clock_mono_ns();
    ss_spans_forget(&f.spans, about.start + (uint64_t)f.config.step * f.config.hop);
    adapt();
    return rc;
}

/* What remains of the clip, and forget it. */
static int end_clip(ss_err *e)
{
    int rc = SS_OK;
    if (!f.in_clip)
        return rc;
    int64_t begun = ss_clock_mono_ns();
    if (!strcmp(partial, "pad") && ss_logmel_pad(f.front))
        rc = put_window(&f.last.attrs, &begun, e);
    ss_logmel_reset(f.front);
    ss_spans_reset(&f.spans);
    f.captured_us = f.worked_ns = 0;
    f.in_clip = false;
    return rc;
}

static void warn_once(void)
{
    if (!f.nonfinite_said && ss_logmel_nonfinite(f.front)) {
        tool_warn("samples that are not finite count as 0");
        f.nonfinite_said = true;
    }
    if (!f.excessive_said && ss_logmel_excessive(f.front)) {
        tool_warn("samples beyond 1000 times full scale are held there");
        f.excessive_said = true;
    }
}

static bool follows(const ss_record *rec)
{
    int64_t none = -1;
    const ss_record *l = &f.last;
    return f.in_clip && rec->device == l->device && rec->epoch == l->epoch && rec->seq == f.next_seq &&
           (int64_t)ss_attr_uint(&rec->attrs, SS_ATTR_CLIP, (uint64_t)none) ==
               (int64_t)ss_attr_uint(&l->attrs, SS_ATTR_CLIP, (uint64_t)none);
}

/* `following`: it is the block behind the one before. */
static int floats_of(const ss_record *rec, bool following, const float **x, ss_err *e)
{
    if (rec->rank == 1 && rec->dtype == SS_DTYPE_PACKED) {
        int rc = f.decoder ? SS_OK : ss_sound_decoder_open(&f.decoder, e);
        if (!rc)
            rc = ss_sound_decode(f.decoder, ss_attr_uint(&rec->attrs, SS_ATTR_CODEC, 0), rec->data, rec->size,
                                 rec->dim[0], following, x, e);
        return rc ? ss_err_prefix(e, "record %" PRIu64, ss_reader_count(f.r) - 1) : SS_OK;
    }
    if (rec->rank != 1 || (rec->dtype != SS_DTYPE_F32 && rec->dtype != SS_DTYPE_I16))
        return ss_err_set(
            e, SS_EUNFIT, "record %" PRIu64 " is %s of rank %u, expected f32, i16 or packed of rank 1",
            ss_reader_count(f.r), ss_dtype_name(rec->dtype) ? ss_dtype_name(rec->dtype) : "?", rec->rank);
    *x = rec->data;
    if (rec->dtype == SS_DTYPE_F32)
        return SS_OK;
    size_t n = rec->dim[0];
    if (n > f.room) {
        float *p = ss_realloc(f.samples, n, sizeof *p);
        if (!p)
            return ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu samples", n);
        f.samples = p;
        f.room = n;
    }
    const int16_t *narrow = rec->data;
    for (size_t i = 0; i < n; i++)
        f.samples[i] = (float)narrow[i] / 32768;
    *x = f.samples;
    return SS_OK;
}

static int take_block(const ss_record *rec, ss_err *e)
{
    bool following = follows(rec);
    int rc = following ? SS_OK : end_clip(e);
    if (rc)
        return rc;
    if (rec->device != f.last.device || rec->epoch != f.last.epoch)
        f.seq = 0;
    ss_attrs a = rec->attrs;
    int64_t begun = ss_stage_begin(&a, SS_ATTR_W_FEATURIZE), none = -1;
    f.captured_us += ss_attr_uint(&a, SS_ATTR_T_CAPTURE, 0);
    f.last = *rec;
    f.last.attrs = a;
    f.next_seq = rec->seq + 1;
    const float *x = NULL;
    rc = floats_of(rec, following, &x, e);
    size_t n = rec->dim[0], at = 0, taken;
    if (!rc)
        rc = ss_spans_add(&f.spans, n, rec->time_ns, (int64_t)ss_attr_uint(&a, SS_ATTR_LABEL, (uint64_t)none),
                          (int64_t)ss_attr_uint(&a, SS_ATTR_FOLD, (uint64_t)none), e);
    if (rc)
        return rc;
    f.longest = rec->dim[0] > f.longest ? rec->dim[0] : f.longest;
    f.in_clip = true;
    while (!rc && at < n) {
        int ready = ss_logmel_push(f.front, x + at, n - at, &taken);
        at += taken;
        if (ready)
            rc = put_window(&a, &begun, e);
    }
    f.worked_ns += (uint64_t)(ss_clock_mono_ns() - begun);
    warn_once();
    if (!rc && rec->flags & SS_FLAG_CLIP_END)
        rc = end_clip(e);
    return rc;
}

/* So many windows would have begun within the blocks that are missing. */
static int pass_gap(const ss_record *rec, ss_err *e)
{
    int rc = end_clip(e);
    if (rc)
        return rc;
    if (rec->device != f.last.device || rec->epoch != f.last.epoch)
        f.seq = 0;
    ss_record gap = *rec;
    double step = (double)f.config.step * f.config.hop, block = f.longest ? f.longest : 1280,
           windows = ceil((double)ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1) * block / step);
    uint64_t count = windows < 1 ? 1 : windows > UINT32_MAX ? UINT32_MAX : (uint64_t)windows;
    gap.seq = f.seq;
    f.seq += count;
    f.last.device = rec->device;
    f.last.epoch = rec->epoch;
    ss_attr_set_uint(&gap.attrs, SS_ATTR_COUNT, count);
    return ss_writer_put(f.w, &gap, e);
}

static int run(ss_err *e)
{
    const ss_record *rec;
    int rc;
    while ((rc = ss_reader_next(f.r, &rec, e)) > 0) {
        if (rec->type == SS_TYPE_DATA)
            rc = take_block(rec, e);
        else if (rec->type == SS_TYPE_GAP)
            rc = pass_gap(rec, e);
        else
            rc = ss_writer_put(f.w, rec, e);
        if (rc < 0)
            return rc;
    }
    /* A truncated stream is no reason to keep back what came before the cut. */
    ss_err own;
    int late = end_clip(&own);
    if (!rc && late) {
        rc = late;
        *e = own;
    }
    return rc;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    const ss_header *in;
    ss_header out = {0};
    int first = tool_start(&program, argc, argv);
    if (argc - first > 1)
        tool_usage("one stream at most, found %d", argc - first);
    int rc = configure(&e);
    if (!rc)
        rc = tool_reader(&f.r, argv[first], "pcm", &in, &e);
    if (!rc && in->rate != SS_SOURCE_RATE)
        rc = ss_err_set(&e, SS_EUNFIT, "samples at %.9g Hz, expected %d", in->rate, SS_SOURCE_RATE);
    if (!rc)
        rc = ss_spans_init(&f.spans, in->nlabels, &e);
    if (!rc)
        rc = ss_header_copy(&out, in, &e);
    if (!rc) {
        char json[256];
        ss_logmel_describe(&f.config, json, out.frontend_hash);
        ss_free(out.frontend);
        out.frontend = ss_strdup(json);
        rc = out.frontend ? tool_writer(&f.w, f.r, &out, "logmel", &e)
                          : ss_err_set(&e, SS_ENOMEM, "no memory for the header");
    }
    if (!rc)
        rc = run(&e);
    rc = tool_writer_finish(&f.w, rc, &e);
    if (f.front)
        tool_info("%" PRIu64 " samples not finite, %" PRIu64 " beyond 1000 times full scale",
                  ss_logmel_nonfinite(f.front), ss_logmel_excessive(f.front));
    ss_reader_close(&f.r);
    ss_header_clear(&out);
    ss_spans_clear(&f.spans);
    ss_logmel_free(f.front);
    ss_state_close(&f.state);
    ss_sound_decoder_close(&f.decoder);
    ss_free(f.packed);
    ss_free(f.window);
    ss_free(f.samples);
    return tool_finish(rc, &e);
}
