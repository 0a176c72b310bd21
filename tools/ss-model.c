/* ss-model: model files made, described, checked, calibrated, given codecs, taken from and given to other
 * programs. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/rng.h"
#include "common.h"
#include "io/atomic.h"
#include "io/json.h"
#include "kernels/kernels.h"
#include "learn/distil.h"
#include "nn/codec.h"
#include "nn/exchange.h"
#include "nn/layers_internal.h"
#include "nn/net.h"
#include "nn/net_i8.h"
#include "nn/quant.h"
#include "runner.h"

static const char default_width[] = "1/4", default_norm[] = "weight";
static const char *opt_width = default_width, *opt_norm = default_norm;
static int opt_mels, opt_frames, opt_dim;
static double opt_mean, opt_scale;
static bool opt_layers;
static const char default_method[] = "max";
static const char *opt_method = default_method;
static const char default_cuts[] = "0,4,embedding";
static const char *opt_cuts = default_cuts, *opt_channels;
enum { DEFAULT_WINDOWS = 4096 };
static int opt_windows = DEFAULT_WINDOWS, opt_steps = -1, opt_patch;
static double opt_price;
static ss_model_config defaults;
static double default_mean, default_scale;

static const tool_option options[] = {
    {"width", 0, OPT_CHOICE, &opt_width, 0, 0, "1|1/2|1/4", "channels: 64, 32 or 16 in the stem", NULL},
    {"norm", 0, OPT_CHOICE, &opt_norm, 0, 0, "batch|group|weight", "what keeps activations in scale", NULL},
    {"mels", 0, OPT_INT, &opt_mels, 8, 1024, "N", "height of the input window", NULL},
    {"frames", 0, OPT_INT, &opt_frames, 8, 8192, "N", "its length", NULL},
    {"dim", 0, OPT_INT, &opt_dim, 2, 4096, "N", "size of the embedding", NULL},
    {"input-mean", 0, OPT_REAL, &opt_mean, -1e6, 1e6, "X", "subtracted from the features", NULL},
    {"input-scale", 0, OPT_REAL, &opt_scale, 1e-6, 1e6, "X", "then multiplied", NULL},
    {"method", 0, OPT_CHOICE, &opt_method, 0, 0, "max|mse", "quantise: how ranges are chosen", NULL},
    {"cuts", 0, OPT_STRING, &opt_cuts, 0, 0, "LIST", "codecs: at which cuts, with commas", NULL},
    {"windows", 0, OPT_INT, &opt_windows, 2, 1 << 20, "N", "codecs: learn from N windows at most", NULL},
    {"steps", 0, OPT_INT, &opt_steps, -1, 1000000, "N", "codecs: steps for each cut; -1: what does well",
     NULL},
    {"price", 0, OPT_REAL, &opt_price, 0, 1, "X", "codecs: of a bit, as 1 - cosine; 0: what does well", NULL},
    {"patch", 0, OPT_INT, &opt_patch, 0, SS_CODEC_PATCH, "N",
     "codecs: places that go together, N x N; 0: what does well", NULL},
    {"channels", 0, OPT_STRING, &opt_channels, 0, 0, "LIST", "codecs: numbers of channels, with commas",
     NULL},
    {"layers", 0, OPT_FLAG, &opt_layers, 0, 0, NULL, "info: the layers too", NULL},
    {"force", 'f', OPT_FLAG, &tool_set.force, 0, 0, NULL, "replace a file that exists", NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-model",
    .operands = "init|info|import|export|quantise|codecs|check [FILE...]",
    .purpose = "Make, describe, check, import, export and calibrate model files, and give them codecs.",
    .takes = TAKES_OUTPUT | TAKES_SEED | TAKES_JSON | TAKES_THREADS | TAKES_PROGRESS,
    .options = options,
};

static void set_defaults(void)
{
    ss_model_config_default(&defaults);
    opt_mels = defaults.mels;
    opt_frames = defaults.frames;
    opt_dim = defaults.dim;
    /* Through text, so that help shows -4.45 and not the nearest float in full. */
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)defaults.input_mean);
    opt_mean = default_mean = strtod(text, NULL);
    snprintf(text, sizeof text, "%.7g", (double)defaults.input_scale);
    opt_scale = default_scale = strtod(text, NULL);
}

static bool given_config(void)
{
    return opt_mels != defaults.mels || opt_frames != defaults.frames || opt_dim != defaults.dim ||
           opt_mean != default_mean || opt_scale != default_scale;
}

static ss_model_config config(void)
{
    ss_model_config c = defaults;
    c.width = !strcmp(opt_width, "1") ? 64 : !strcmp(opt_width, "1/2") ? 32 : 16;
    c.norm = (ss_norm)ss_norm_parse(opt_norm);
    c.mels = opt_mels;
    c.frames = opt_frames;
    c.dim = opt_dim;
    if (opt_mean != default_mean)
        c.input_mean = (float)opt_mean;
    if (opt_scale != default_scale)
        c.input_scale = (float)opt_scale;
    return c;
}

/* A model that somebody trained for days is not overwritten by a slip. */
static int check_output(ss_err *e)
{
    struct stat st;
    if (!tool_set.force && !stat(tool_set.output, &st) && S_ISREG(st.st_mode))
        return ss_err_set(e, SS_EIO, "'%s' exists: use --force to replace it", tool_set.output);
    return SS_OK;
}

static int init(ss_err *e)
{
    ss_model_config c = config();
    ss_model *m = NULL;
    int rc = check_output(e);
    if (rc == SS_OK)
        rc = ss_model_create(&m, &c, tool_set.seed, e);
    if (rc == SS_OK)
        rc = ss_model_save(m, tool_set.output, e);
    ss_model_free(m);
    return rc;
}

static int import(const char *path, ss_err *e)
{
    ss_model_config c = config();
    ss_import_note note;
    ss_model *m = NULL;
    int rc = check_output(e);
    if (rc == SS_OK)
        rc = ss_model_import(&m, path, &c, tool_set.seed, &note, e);
    if (rc == SS_OK)
        rc = ss_model_save(m, tool_set.output, e);
    if (rc == SS_OK) {
        tool_info("width %d", m->config.width);
        if (note.channels > 1)
            tool_info("the %d channels of the first layer are summed", note.channels);
        if (note.converted)
            tool_info("%d tensors converted to F32", note.converted);
        if (note.fresh_fc)
            tool_warn("'%s': its fc does not give %d values, a fresh one stands in its place", path, c.dim);
    }
    ss_model_free(m);
    return rc;
}

static int export(const char *path, ss_err *e)
{
    ss_model *m = NULL;
    int rc = check_output(e);
    if (rc == SS_OK)
        rc = ss_model_load(&m, path, e);
    if (rc == SS_OK)
        rc = ss_model_export(m, tool_set.output, e);
    if (rc == SS_OK && m->config.norm == SS_NORM_GROUP)
        tool_warn("'%s' has group norm: it runs in a ResNet-18 with groups of %d channels, not in one with "
                  "batch norm",
                  path, SS_GROUP_CHANNELS);
    ss_model_free(m);
    return rc;
}

/* info */

static const char *width_name(int width)
{
    return width == 64 ? " (1)" : width == 32 ? " (1/2)" : width == 16 ? " (1/4)" : "";
}

static size_t elements(const ss_model_config *c, int cut, char *shape, size_t room)
{
    uint32_t d[3];
    ss_model_cut_shape(c, cut, d);
    if (cut == SS_CUT_EMBEDDING)
        snprintf(shape, room, "%u", d[0]);
    else if (cut == SS_CUT_INPUT)
        snprintf(shape, room, "%u x %u", d[1], d[2]);
    else
        snprintf(shape, room, "%u x %u x %u", d[0], d[1], d[2]);
    return (size_t)d[0] * d[1] * d[2];
}

/* Name, convolution, parameters and multiply-adds of unit i, or of fc behind the last. */
static void layer(const ss_layers *l, int i, char name[64], ss_conv *conv, uint64_t *params, uint64_t *macs)
{
    bool fc = i == l->nunit;
    const ss_param *p = fc ? l->fc_weight : l->unit[i].weight;
    *conv = fc ? l->fc : l->unit[i].conv;
    memcpy(name, p->name, sizeof p->name);
    name[strlen(name) - strlen(".weight")] = 0;
    *params = p->count + (fc ? l->fc_bias->count : 2 * l->unit[i].gain->count);
    *macs = (uint64_t)p->count * (uint64_t)conv->oh * (uint64_t)conv->ow;
}

static void print_codecs(const ss_model *m)
{
    bool any = false;
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++) {
        const ss_bottleneck *b = m->codec[cut];
        if (!b)
            continue;
        printf("%-13s cut %s: bCi4 and bCi8, C =", any ? "" : "codecs", ss_cut_name(cut));
        for (int i = 0; i < b->nlevel; i++)
            printf(" %d", b->level[i]);
        printf("; %" PRIu64 " windows\n", b->windows);
        any = true;
    }
    if (!any)
        puts("codecs        none");
}

static void print_info(const ss_model *m, const ss_layers *l, const char *path, off_t size)
{
    const ss_model_config *c = &m->config;
    char hash[17], text[64];
    ss_model_arch_hash(c, hash);
    printf("file          %s (%jd bytes)\n", path, (intmax_t)size);
    printf("architecture  resnet18, width %d%s, norm %s; hash %s\n", c->width, width_name(c->width),
           ss_norm_name((int)c->norm), hash);
    printf("input         %d mels x %d frames, (x %c %.7g) * %.7g\n", c->mels, c->frames,
           c->input_mean < 0 ? '+' : '-', fabs((double)c->input_mean), (double)c->input_scale);
    printf("embedding     %d values\n", c->dim);
    printf("parameters    %zu learnt, %zu running statistics\n", m->ntrainable, m->nvalue - m->ntrainable);
    printf("generation    %" PRIu64, m->generation);
    if (m->synchronised)
        printf(", synchronised up to version %" PRIu64, m->synchronised);
    putchar('\n');
    printf("front end     %s\n", *m->frontend_hash ? m->frontend_hash : "any");
    if (m->mixture)
        printf("mixture       %zu bytes\n", m->mixture_size);
    else
        puts("mixture       none");
    const ss_calibration *i8 = &m->calibration;
    if (!i8->records)
        puts("int8          not calibrated");
    else
        printf("int8          calibrated with %" PRIu64 " windows, method %s%s\n", i8->records,
               ss_quant_method_name(i8->method),
               i8->generation == m->generation ? "" : ", for an older generation: not valid");
    print_codecs(m);
    printf("\n%-10s %-15s %10s %12s %9s %9s %9s\n", "cut", "shape", "parameters", "MACs", "f32", "f16",
           "i8 bytes");
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++) {
        size_t n = elements(c, cut, text, sizeof text);
        printf("%-10s %-15s %10" PRIu64 " %12" PRIu64 " %9zu %9zu %9zu\n", ss_cut_name(cut), text,
               ss_model_params(c, cut), ss_model_macs(c, cut), 4 * n, 2 * n, n);
    }
    if (!opt_layers)
        return;
    printf("\n%-21s %-6s %-11s %-11s %8s %10s %s\n", "layer", "kernel", "input", "output", "params", "MACs",
           "tile");
    for (int i = 0; i <= l->nunit; i++) {
        char name[64], kernel[16], in[48], out[48];
        ss_conv v;
        uint64_t params, macs;
        layer(l, i, name, &v, &params, &macs);
        snprintf(kernel, sizeof kernel, "%dx%d/%d", v.kh, v.kw, v.stride);
        snprintf(in, sizeof in, "%dx%dx%d", v.cin, v.h, v.w);
        snprintf(out, sizeof out, "%dx%dx%d", v.cout, v.oh, v.ow);
        const char *tile = v.algo == SS_CONV_WINOGRAD4 ? "4x4" : v.algo == SS_CONV_WINOGRAD2 ? "2x2" : "-";
        printf("%-21s %-6s %-11s %-11s %8" PRIu64 " %10" PRIu64 " %s\n", name, kernel, in, out, params, macs,
               tile);
    }
}

static void number(cJSON *o, const char *key, uint64_t v)
{
    /* As text: a double does not hold every generation. */
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    cJSON_AddRawToObject(o, key, text);
}

static void real(cJSON *o, const char *key, float v)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)v);
    cJSON_AddRawToObject(o, key, text);
}

static void shape(cJSON *o, const char *key, const int *dim, int n)
{
    cJSON_AddItemToObject(o, key, cJSON_CreateIntArray(dim, n));
}

static int print_json(const ss_model *m, const ss_layers *l, const char *path, off_t size, ss_err *e)
{
    const ss_model_config *c = &m->config;
    char hash[17];
    ss_model_arch_hash(c, hash);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "file", path);
    number(o, "bytes", (uint64_t)size);
    cJSON_AddStringToObject(o, "architecture", "resnet18");
    number(o, "width", (uint64_t)c->width);
    cJSON_AddStringToObject(o, "norm", ss_norm_name((int)c->norm));
    cJSON_AddStringToObject(o, "arch_hash", hash);
    number(o, "mels", (uint64_t)c->mels);
    number(o, "frames", (uint64_t)c->frames);
    number(o, "dim", (uint64_t)c->dim);
    real(o, "input_mean", c->input_mean);
    real(o, "input_scale", c->input_scale);
    number(o, "generation", m->generation);
    number(o, "synchronised", m->synchronised);
    cJSON_AddStringToObject(o, "frontend_hash", m->frontend_hash);
    number(o, "mixture_bytes", m->mixture_size);
    number(o, "parameters", m->ntrainable);
    number(o, "running_statistics", m->nvalue - m->ntrainable);
    const ss_calibration *i8 = &m->calibration;
    cJSON *calibration = i8->records ? cJSON_AddObjectToObject(o, "int8") : cJSON_AddNullToObject(o, "int8");
    if (i8->records) {
        number(calibration, "records", i8->records);
        number(calibration, "generation", i8->generation);
        cJSON_AddStringToObject(calibration, "method", ss_quant_method_name(i8->method));
        number(calibration, "input_zero", (uint64_t)i8->input_zero);
        real(calibration, "input_step", i8->input_step);
        cJSON *scales = cJSON_AddArrayToObject(calibration, "scales");
        for (int i = 0; i < SS_I8_TENSORS; i++) {
            char text[32];
            snprintf(text, sizeof text, "%.9g", (double)i8->scale[i]);
            cJSON_AddItemToArray(scales, cJSON_CreateRaw(text));
        }
    }
    cJSON *codecs = cJSON_AddArrayToObject(o, "codecs");
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++) {
        int id[2 * SS_CODEC_LEVELS], n = ss_codec_list(m, cut, id);
        if (!n)
            continue;
        const ss_bottleneck *b = m->codec[cut];
        cJSON *r = cJSON_CreateObject(), *names = cJSON_AddArrayToObject(r, "names");
        char name[32];
        cJSON_AddItemToArray(codecs, r);
        cJSON_AddStringToObject(r, "cut", ss_cut_name(cut));
        for (int i = 0; i < n; i++)
            cJSON_AddItemToArray(names, cJSON_CreateString(ss_codec_name((uint64_t)id[i], name)));
        number(r, "patch", (uint64_t)b->patch);
        number(r, "windows", b->windows);
        number(r, "generation", b->generation);
    }
    cJSON *cuts = cJSON_AddArrayToObject(o, "cuts");
    for (int cut = SS_CUT_INPUT; cut <= SS_CUT_EMBEDDING; cut++) {
        cJSON *r = cJSON_CreateObject();
        uint32_t d[3];
        ss_model_cut_shape(c, cut, d);
        size_t n = (size_t)d[0] * d[1] * d[2];
        cJSON_AddStringToObject(r, "cut", ss_cut_name(cut));
        shape(r, "shape", (int[]){(int)d[0], (int)d[1], (int)d[2]}, 3);
        number(r, "parameters", ss_model_params(c, cut));
        number(r, "macs", ss_model_macs(c, cut));
        number(r, "f32_bytes", 4 * n);
        number(r, "f16_bytes", 2 * n);
        number(r, "i8_bytes", n);
        cJSON_AddItemToArray(cuts, r);
    }
    cJSON *layers = cJSON_AddArrayToObject(o, "layers");
    for (int i = 0; i <= l->nunit; i++) {
        cJSON *r = cJSON_CreateObject();
        char name[64];
        ss_conv v;
        uint64_t params, macs;
        layer(l, i, name, &v, &params, &macs);
        cJSON_AddStringToObject(r, "layer", name);
        shape(r, "kernel", (int[]){v.kh, v.kw}, 2);
        number(r, "stride", (uint64_t)v.stride);
        shape(r, "input", (int[]){v.cin, v.h, v.w}, 3);
        shape(r, "output", (int[]){v.cout, v.oh, v.ow}, 3);
        number(r, "parameters", params);
        number(r, "macs", macs);
        cJSON_AddStringToObject(r, "algorithm", ss_conv_algo_name(v.algo));
        number(r, "packed_bytes", ss_conv_packed(&v));
        cJSON_AddItemToArray(layers, r);
    }
    char *text = o ? ss_json_print(o) : NULL;
    cJSON_Delete(o);
    if (!text)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate the JSON");
    puts(text);
    ss_free(text);
    return SS_OK;
}

static int info(const char *path, ss_err *e)
{
    ss_model *m;
    ss_layers l;
    struct stat st = {0};
    int rc = ss_model_load(&m, path, e);
    if (rc == SS_OK)
        rc = ss_layers_init(&l, m, e);
    if (rc == SS_OK && stat(path, &st) < 0)
        rc = ss_err_errno(e, "cannot inspect '%s'", path);
    if (rc == SS_OK && tool_set.json)
        rc = print_json(m, &l, path, st.st_size, e);
    else if (rc == SS_OK)
        print_info(m, &l, path, st.st_size);
    ss_model_free(m);
    return rc;
}

/* ---- windows of sound, for quantise and codecs ---- */

static struct heard {
    ss_model *m;
    float *x; /* [n], the one that has come */
    size_t n;
    void (*take)(void);
    uint64_t records, left_out;
} cal;

static int take_record(const ss_record *rec, ss_err *e)
{
    int rc = SS_OK;
    if (rec->type != SS_TYPE_DATA)
        return SS_OK;
    rc = runner_check_shape(&cal.m->config, rec, SS_CUT_INPUT, e);
    if (rc == SS_OK)
        rc = runner_unpack(rec, cal.n, cal.x, e);
    if (rc < 0)
        return rc;
    if (!ss_all_finite(cal.n, cal.x)) {
        cal.left_out++;
        return SS_OK;
    }
    cal.take();
    cal.records++;
    return SS_OK;
}

static int take_stream(const char *path, ss_err *e)
{
    ss_reader *r;
    const ss_header *h;
    const ss_record *rec;
    int rc = tool_reader(&r, path, "logmel", &h, e);
    if (rc < 0)
        return rc;
    if (*h->frontend_hash && *cal.m->frontend_hash && strcmp(h->frontend_hash, cal.m->frontend_hash))
        rc = ss_err_set(e, SS_EUNFIT, "the model is made for features of hash %s, the stream has %s",
                        cal.m->frontend_hash, h->frontend_hash);
    while (rc >= 0 && (rc = ss_reader_next(r, &rec, e)) > 0) {
        rc = take_record(rec, e);
        if (rc < 0)
            ss_err_prefix(e, "record %" PRIu64, ss_reader_count(r) - 1);
    }
    ss_reader_close(&r);
    return rc;
}

/* All windows of the streams named, or of standard input, to `take`, for the model in `cal`. */
static int hear(char *const *stream, void (*take)(void), const char *what, ss_err *e)
{
    cal.n = (size_t)cal.m->config.mels * (size_t)cal.m->config.frames;
    cal.take = take;
    cal.x = ss_alloc(cal.n, sizeof *cal.x);
    int rc = cal.x ? SS_OK : ss_err_set(e, SS_ENOMEM, "cannot allocate a window");
    if (rc == SS_OK && !*stream)
        rc = take_stream(NULL, e);
    for (; *stream && rc == SS_OK; stream++)
        rc = take_stream(*stream, e);
    if (cal.left_out)
        tool_warn("%" PRIu64 " windows with values that are not finite are left out", cal.left_out);
    if (rc == SS_OK && !cal.records)
        rc = ss_err_set(e, SS_EUNFIT, "no window to %s", what);
    return rc;
}

/* ---- quantise ---- */

enum { KEPT_BYTES = 16 << 20 }; /* of windows, to compare with f32 in the end */

static struct calibration {
    ss_quant *q;
    float *kept;
    size_t nkept, most;
} calib;

static void calibrate(void)
{
    ss_quant_add(calib.q, cal.x);
    if (calib.nkept < calib.most)
        memcpy(calib.kept + calib.nkept++ * cal.n, cal.x, cal.n * sizeof *cal.x);
}

/* What eight bits cost on the windows that were kept. */
static int compare(ss_err *e)
{
    ss_net *whole = NULL;
    ss_net_i8 *eight = NULL;
    size_t dim = (size_t)cal.m->config.dim;
    double sum = 0, least = 1;
    float *z = ss_alloc(2 * dim, sizeof *z);
    int rc = z ? SS_OK : ss_err_set(e, SS_ENOMEM, "cannot allocate two embeddings");
    if (rc == SS_OK)
        rc = ss_net_open(&whole, cal.m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, e);
    if (rc == SS_OK)
        rc = ss_net_i8_open(&eight, cal.m, NULL, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, e);
    for (size_t i = 0; i < calib.nkept && rc == SS_OK; i++) {
        const float *x = calib.kept + i * cal.n;
        ss_net_run(whole, 1, x, z);
        ss_net_i8_run(eight, 1, SS_DTYPE_F32, x, SS_DTYPE_F32, z + dim);
        double cosine = ss_dot(dim, z, z + dim);
        sum += cosine;
        least = cosine < least ? cosine : least;
    }
    if (rc == SS_OK && least < 0.99)
        tool_warn("the cosine between embeddings in f32 and int8 falls to %.4f: more or other sound may help",
                  least);
    if (rc == SS_OK)
        tool_info(
            "%" PRIu64
            " windows; cosine between embeddings in f32 and int8, over %zu of them: mean %.5f, least %.5f",
            cal.records, calib.nkept, sum / (double)calib.nkept, least);
    ss_net_close(&whole);
    ss_net_i8_close(&eight);
    ss_free(z);
    return rc;
}

static int quantise(char *const *operand, ss_err *e)
{
    int rc = check_output(e);
    if (rc == SS_OK)
        rc = ss_model_load(&cal.m, operand[0], e);
    if (rc == SS_OK && (rc = ss_quant_open(&calib.q, cal.m, NULL, e)) < 0)
        ss_err_prefix(e, "'%s'", operand[0]);
    if (rc == SS_OK) {
        calib.most = KEPT_BYTES / ((size_t)cal.m->config.mels * (size_t)cal.m->config.frames * sizeof(float));
        calib.kept = ss_alloc(KEPT_BYTES, 1);
        if (!calib.kept)
            rc = ss_err_set(e, SS_ENOMEM, "cannot allocate %zu windows", calib.most);
    }
    if (rc == SS_OK)
        rc = hear(operand + 1, calibrate, "calibrate with", e);
    if (rc == SS_OK)
        rc = ss_quant_finish(calib.q, (ss_quant_method)ss_quant_method_parse(opt_method), cal.m, e);
    if (rc == SS_OK && calib.nkept)
        rc = compare(e);
    if (rc == SS_OK)
        rc = ss_model_save(cal.m, tool_set.output, e);
    ss_quant_close(&calib.q);
    ss_model_free(cal.m);
    ss_free(cal.x);
    ss_free(calib.kept);
    return rc;
}

/* ---- codecs ---- */

static struct sample {
    uint16_t *x; /* [n] windows, in f16 */
    size_t n, most;
    ss_rng r;
    bool nomem;
} sample;

/* Any window is as likely to be in it as any other. */
static void keep(void)
{
    size_t at = sample.n;
    if (sample.n == sample.most) {
        at = (size_t)(ss_rng_u64(&sample.r) % (cal.records + 1));
        if (at >= sample.most)
            return;
    } else {
        if (!(sample.n & (sample.n - 1))) { /* doubles */
            uint16_t *more = ss_realloc(sample.x, (sample.n ? 2 * sample.n : 1) * cal.n, sizeof *more);
            sample.nomem = sample.nomem || !more;
            sample.x = more ? more : sample.x;
        }
        if (sample.nomem)
            return;
        sample.n++;
    }
    ss_f16_from_f32(cal.n, cal.x, sample.x + at * cal.n);
}

/* The next of a list with commas into `word`; false at its end. */
static bool next_word(const char **list, char word[32])
{
    size_t n = strcspn(*list, ",");
    if (!**list)
        return false;
    snprintf(word, 32, "%.*s", (int)n, *list);
    *list += n + ((*list)[n] == ',');
    return true;
}

static void show_step(const ss_distil_step *s, int cut, int steps)
{
    tool_progress("cut %s: step %d of %d, b%di%d: 1 - cosine %.4f, %.0f bytes", ss_cut_name(cut), s->step,
                  steps, s->level, s->bits, s->distance, s->rate / 8);
}

static int show_codecs(ss_distil *d, int cut, ss_err *e)
{
    int number[2 * SS_CODEC_LEVELS], n = ss_codec_list(cal.m, cut, number), rc = SS_OK;
    for (int i = 0; i < n && rc == SS_OK; i++) {
        ss_distil_measure r;
        char name[32];
        rc = ss_distil_measure_one(d, number[i], &r, e);
        if (rc < 0)
            break;
        ss_codec_name((uint64_t)number[i], name);
        if (tool_set.json)
            printf("{\"cut\":\"%s\",\"codec\":\"%s\",\"windows\":%zu,\"bytes\":%.1f,\"cosine\":%.5f,"
                   "\"cosine_p5\":%.5f}\n",
                   ss_cut_name(cut), name, r.windows, r.bytes, r.cosine, r.least);
        else
            printf("%-10s %-7s %8.1f %9.5f %9.5f\n", ss_cut_name(cut), name, r.bytes, r.cosine, r.least);
    }
    return rc;
}

static int learn_cut(int cut, ss_pool *pool, ss_err *e)
{
    ss_distil_config c;
    ss_distil_step step;
    ss_distil *d;
    char word[32];
    ss_distil_config_default(&c, &cal.m->config, cut);
    c.seed = tool_set.seed;
    c.steps = opt_steps >= 0 ? opt_steps : c.steps;
    c.price = opt_price > 0 ? opt_price : c.price;
    c.patch = opt_patch && cut < SS_CUT_EMBEDDING ? opt_patch : c.patch;
    if (opt_channels) {
        c.nlevel = 0;
        for (const char *list = opt_channels; next_word(&list, word);) {
            if (c.nlevel == SS_CODEC_LEVELS)
                tool_usage("--channels: more than %d", SS_CODEC_LEVELS);
            if (tool_parse_int(word, "--channels", 1, SS_CODEC_CHANNELS, &c.level[c.nlevel++], e) < 0)
                tool_usage("%s", e->text);
        }
    }
    int rc = ss_distil_open(&d, &c, cal.m, pool, cut, sample.n, sample.x, e);
    while (rc == SS_OK && ss_distil_next(d, &step))
        show_step(&step, cut, c.steps);
    tool_progress(NULL);
    if (rc == SS_OK)
        rc = ss_distil_finish(d, e);
    if (rc == SS_OK)
        rc = show_codecs(d, cut, e);
    ss_distil_close(&d);
    return rc;
}

static int codecs(char *const *operand, ss_err *e)
{
    ss_pool *pool = NULL;
    char word[32];
    int rc = SS_OK;
    for (const char *list = opt_cuts; next_word(&list, word);)
        if (ss_cut_parse(word) <= SS_CUT_INPUT)
            tool_usage("--cuts: found '%s', expected 0 to 8 or embedding", word);
    rc = check_output(e);
    if (rc == SS_OK)
        rc = ss_model_load(&cal.m, operand[0], e);
    if (rc == SS_OK && tool_set.threads != 1)
        rc = ss_pool_open(&pool, tool_set.threads, e);
    sample.most = (size_t)opt_windows;
    sample.r = ss_rng_make(tool_set.seed, 2);
    if (rc >= 0)
        rc = hear(operand + 1, keep, "learn from", e);
    if (rc == SS_OK && sample.nomem)
        rc = ss_err_set(e, SS_ENOMEM, "cannot allocate more than %zu windows", sample.n);
    if (rc == SS_OK && !tool_set.json)
        printf("%-10s %-7s %8s %9s %9s\n", "cut", "codec", "bytes", "cosine", "5 %");
    for (const char *list = opt_cuts; rc == SS_OK && next_word(&list, word);)
        rc = learn_cut(ss_cut_parse(word), pool, e);
    if (rc == SS_OK)
        rc = ss_model_save(cal.m, tool_set.output, e);
    ss_pool_close(&pool);
    ss_model_free(cal.m);
    ss_free(cal.x);
    ss_free(sample.x);
    return rc;
}

static int check(const char *path, ss_err *e)
{
    ss_model *m;
    int rc = ss_model_load(&m, path, e);
    if (rc == SS_OK)
        tool_info("'%s': whole, generation %" PRIu64, path, m->generation);
    ss_model_free(m);
    if (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EIO) {
        char *prev = ss_atomic_previous(path);
        if (prev && ss_model_load(&m, prev, NULL) == SS_OK) {
            tool_warn("'%s' is whole, generation %" PRIu64, prev, m->generation);
            ss_model_free(m);
        }
        ss_free(prev);
    }
    return rc;
}

static void check_options(const char *verb, int operands)
{
    bool makes = !strcmp(verb, "init") || !strcmp(verb, "import"), reads = strcmp(verb, "init") != 0;
    bool calibrates = !strcmp(verb, "quantise"), codes = !strcmp(verb, "codecs");
    bool writes = makes || calibrates || codes || !strcmp(verb, "export"),
         one = !strcmp(verb, "import") || !strcmp(verb, "export");
    if (writes && !tool_set.output)
        tool_usage("%s: -o FILE says where to", verb);
    if (!writes && tool_set.output)
        tool_usage("%s writes no file: -o does not go with it", verb);
    if (!reads && operands)
        tool_usage("%s takes no file; -o FILE says where to", verb);
    if (reads && (!operands || (one && operands > 1)))
        tool_usage("%s takes %s", verb, one ? "one file" : "at least one file");
    if (strcmp(verb, "init") && (opt_width != default_width || opt_norm != default_norm))
        tool_usage("--width and --norm go with init");
    if (!makes && given_config())
        tool_usage("--mels, --frames, --dim, --input-mean and --input-scale go with init and import");
    if (!calibrates && opt_method != default_method)
        tool_usage("--method goes with quantise");
    if (!codes && (opt_cuts != default_cuts || opt_windows != DEFAULT_WINDOWS || opt_steps >= 0 ||
                   opt_price > 0 || opt_patch || opt_channels))
        tool_usage("--cuts, --windows, --steps, --price, --patch and --channels go with codecs");
    if (strcmp(verb, "info") && (opt_layers || (tool_set.json && !codes)))
        tool_usage("--layers goes with info, --json with info and codecs");
}

int main(int argc, char **argv)
{
    static const char *const verbs[] = {"init", "info", "import", "export", "quantise", "codecs", "check"};
    enum { NVERBS = sizeof verbs / sizeof *verbs };
    set_defaults();
    ss_err e = {0};
    int first = tool_start(&program, argc, argv), v = 0, bad = TOOL_OK, rc = SS_OK;
    signal(SIGINT, SIG_DFL); /* there is nothing to be done at the end */
    signal(SIGTERM, SIG_DFL);
    const char *verb = argv[first++];
    while (verb && v < NVERBS && strcmp(verb, verbs[v]))
        v++;
    if (!verb || v == NVERBS)
        tool_usage("found %s%s%s, expected init, info, import, export, quantise, codecs or check",
                   verb ? "'" : "no verb", verb ? verb : "", verb ? "'" : "");
    check_options(verb, argc - first);
    if (!strcmp(verb, "init"))
        rc = init(&e);
    else if (!strcmp(verb, "import"))
        rc = import(argv[first], &e);
    else if (!strcmp(verb, "export"))
        rc = export(argv[first], &e);
    else if (!strcmp(verb, "quantise"))
        rc = quantise(argv + first, &e);
    else if (!strcmp(verb, "codecs"))
        rc = codecs(argv + first, &e);
    else
        for (; first < argc; first++) /* a bad file does not hide the next one */
            if ((strcmp(verb, "info") ? check(argv[first], &e) : info(argv[first], &e)) < 0)
                bad = tool_fail(&e);
    int status = tool_finish(rc, &e);
    return bad ? bad : status;
}
