/* ss-model: model files made, described, checked, taken from and given to other programs. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "common.h"
#include "io/atomic.h"
#include "io/json.h"
#include "kernels/kernels.h"
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
    {"layers", 0, OPT_FLAG, &opt_layers, 0, 0, NULL, "info: the layers too", NULL},
    {"force", 'f', OPT_FLAG, &tool_set.force, 0, 0, NULL, "replace a file that exists", NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-model",
    .operands = "init|info|import|export|quantise|check [FILE...]",
    .purpose = "Make, describe, check, import, export and calibrate model files.",
    .takes = TAKES_OUTPUT | TAKES_SEED | TAKES_JSON,
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

/* ---- quantise ---- */

enum { KEPT_BYTES = 16 << 20 }; /* of windows, to compare with f32 in the end */

static struct calibration {
    ss_model *m;
    ss_quant *q;
    float *x, *kept;
    size_t n, nkept, most;
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
    ss_quant_add(cal.q, cal.x);
    cal.records++;
    if (cal.nkept < cal.most)
        memcpy(cal.kept + cal.nkept++ * cal.n, cal.x, cal.n * sizeof *cal.x);
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
    for (size_t i = 0; i < cal.nkept && rc == SS_OK; i++) {
        const float *x = cal.kept + i * cal.n;
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
            cal.records, cal.nkept, sum / (double)cal.nkept, least);
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
    if (rc == SS_OK && (rc = ss_quant_open(&cal.q, cal.m, NULL, e)) < 0)
        ss_err_prefix(e, "'%s'", operand[0]);
    if (rc == SS_OK) {
        cal.n = (size_t)cal.m->config.mels * (size_t)cal.m->config.frames;
        cal.most = KEPT_BYTES / (cal.n * sizeof *cal.kept);
        cal.x = ss_alloc(cal.n, sizeof *cal.x);
        cal.kept = ss_alloc(cal.most * cal.n, sizeof *cal.kept);
        if (!cal.x || !cal.kept)
            rc = ss_err_set(e, SS_ENOMEM, "cannot allocate %zu windows", cal.most + 1);
    }
    if (rc == SS_OK && !operand[1])
        rc = take_stream(NULL, e);
    for (int i = 1; operand[i] && rc == SS_OK; i++)
        rc = take_stream(operand[i], e);
    if (rc == SS_OK && !cal.records)
        rc = ss_err_set(e, SS_EUNFIT, "no window to calibrate with");
    if (cal.left_out)
        tool_warn("%" PRIu64 " windows with values that are not finite are left out", cal.left_out);
    if (rc == SS_OK)
        rc = ss_quant_finish(cal.q, (ss_quant_method)ss_quant_method_parse(opt_method), cal.m, e);
    if (rc == SS_OK && cal.nkept)
        rc = compare(e);
    if (rc == SS_OK)
        rc = ss_model_save(cal.m, tool_set.output, e);
    ss_quant_close(&cal.q);
    ss_model_free(cal.m);
    ss_free(cal.x);
    ss_free(cal.kept);
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
    bool calibrates = !strcmp(verb, "quantise");
    bool writes = makes || calibrates || !strcmp(verb, "export"),
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
    if (strcmp(verb, "info") && (opt_layers || tool_set.json))
        tool_usage("--layers and --json go with info");
}

int main(int argc, char **argv)
{
    static const char *const verbs[] = {"init", "info", "import", "export", "quantise", "check"};
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
        tool_usage("found %s%s%s, expected init, info, import, export, quantise or check",
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
    else
        for (; first < argc; first++) /* a bad file does not hide the next one */
            if ((strcmp(verb, "info") ? check(argv[first], &e) : info(argv[first], &e)) < 0)
                bad = tool_fail(&e);
    int status = tool_finish(rc, &e);
    return bad ? bad : status;
}
