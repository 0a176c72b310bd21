/* ss-cat: show, check, slice, count, join, compare and convert streams. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"
#include "common.h"
#include "io/npy.h"
#include "nn/codec.h"
#include "io/stream_internal.h"

static bool opt_stream, opt_count, opt_check, opt_latency, opt_data, opt_f32;
static const char *opt_npy, *opt_from_npy, *opt_kind, *opt_compare;
static double opt_tolerance;
static uint64_t slice_from, slice_to = UINT64_MAX;
static int every = 1;

static int parse_slice(const char *text, ss_err *e)
{
    unsigned long long a = 0, b = UINT64_MAX;
    const char *p = text;
    char *end;
    errno = 0;
    if (*p >= '0' && *p <= '9') {
        a = strtoull(p, &end, 10);
        p = end;
    }
    bool good = *p++ == ':';
    if (good && *p >= '0' && *p <= '9') {
        b = strtoull(p, &end, 10);
        p = end;
    }
    if (!good || *p || errno || a > b)
        return ss_err_set(e, SS_ERANGE, "--slice: found '%s', expected A:B, two whole numbers, A not above B",
                          text);
    slice_from = a;
    slice_to = b;
    return SS_OK;
}

static int parse_head(const char *text, ss_err *e)
{
    char slice[32];
    snprintf(slice, sizeof slice, ":%s", text);
    if (!*text || strlen(text) > sizeof slice - 2 || parse_slice(slice, e))
        return ss_err_set(e, SS_ERANGE, "--head: found '%s', expected a whole number", text);
    return SS_OK;
}

static const tool_option options[] = {
    {"head", 'n', OPT_CALL, NULL, 0, 0, "N", "only the first N records", parse_head},
    {"slice", 0, OPT_CALL, NULL, 0, 0, "A:B",
     "only records A to B - 1, counted from 0; either may be left out", parse_slice},
    {"every", 0, OPT_INT, &every, 1, 1 << 30, "N", "of them only the first and each N-th behind it", NULL},
    {"stream", 0, OPT_FLAG, &opt_stream, 0, 0, NULL, "write a stream (as --output does) instead of text",
     NULL},
    {"data", 0, OPT_FLAG, &opt_data, 0, 0, NULL, "print the values of the payloads too", NULL},
    {"f32", 0, OPT_FLAG, &opt_f32, 0, 0, NULL, "values as f32, i8 times its scale (for --npy and --data)",
     NULL},
    {"count", 0, OPT_FLAG, &opt_count, 0, 0, NULL, "print the number of records", NULL},
    {"check", 0, OPT_FLAG, &opt_check, 0, 0, NULL, "read all, print nothing, exit 4 on damage", NULL},
    {"latency", 0, OPT_FLAG, &opt_latency, 0, 0, NULL,
     "print a table of the time spent in every stage, and of energy", NULL},
    {"compare", 0, OPT_STRING, &opt_compare, 0, 0, "OTHER", "say where two streams differ; exit 1 if they do",
     NULL},
    {"tolerance", 0, OPT_REAL, &opt_tolerance, 0, 1e300, "X", "with --compare: values may differ by so much",
     NULL},
    {"npy", 0, OPT_STRING, &opt_npy, 0, 0, "FILE", "write the payloads as one array [records, ...]", NULL},
    {"from-npy", 0, OPT_STRING, &opt_from_npy, 0, 0, "FILE", "write a stream of the array's rows", NULL},
    {"kind", 0, OPT_STRING, &opt_kind, 0, 0, "KIND", "with --from-npy: kind of the stream, default embedding",
     NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-cat",
    .operands = "[FILE...]",
    .purpose = "Show, check, slice, count, join, compare and convert streams.",
    .takes = TAKES_OUTPUT | TAKES_JSON | TAKES_STREAM,
    .options = options,
};

/* ---- input: one file after the other ---- */

typedef struct source {
    char *const *file;
    int n, next; /* files, and the next one to open */
    int fd;
    ss_reader *r;
    const ss_header *h;
    ss_writer *tied;
    uint64_t index; /* of the next record */
} source;

static int source_error(const source *s, ss_err *e)
{
    const char *name = s->file[s->next - 1];
    bool standard = !strcmp(name, "-");
    ss_err_prefix(e, "cannot read %s%s%s", standard ? "standard input" : "'", standard ? "" : name,
                  standard ? "" : "'");
    return e->code;
}

static void source_close(source *s)
{
    ss_reader_close(&s->r);
    if (s->fd > 0)
        close(s->fd);
    s->fd = -1;
    s->h = NULL;
}

/* Open the next file and read its header: 1, 0 when there is none, or negative. */
static int source_open(source *s, ss_err *e)
{
    source_close(s);
    if (s->next == s->n)
        return 0;
    const char *name = s->file[s->next++];
    s->fd = strcmp(name, "-") ? open(name, O_RDONLY | O_CLOEXEC) : 0;
    if (s->fd < 0)
        return ss_err_errno(e, "cannot open '%s'", name);
    if (isatty(s->fd) && !tool_set.force)
        return ss_err_set(e, SS_EINVAL, "input is a terminal: pipe a stream in, name a file, or use --force");
    int rc = ss_reader_open(&s->r, s->fd, NULL, e);
    if (!rc) {
        ss_reader_tie(s->r, s->tied);
        ss_reader_set_stop(s->r, &tool_stop, 1000);
        rc = ss_reader_header(s->r, &s->h, e);
    }
    return rc ? source_error(s, e) : 1;
}

/* The next record of the file that is open: 1, 0 at its end, or negative. */
static int source_next(source *s, const ss_record **rec, ss_err *e)
{
    int rc = ss_reader_next(s->r, rec, e);
    if (rc > 0)
        s->index++;
    return rc < 0 ? source_error(s, e) : rc;
}

/* ---- values ---- */

static size_t value_count(const ss_record *rec)
{
    size_t unit = ss_dtype_size(rec->dtype);
    return rec->size / (unit ? unit : 1); /* packed ones are shown as bytes */
}

static double value_at(const ss_record *rec, size_t i, bool scaled)
{
    const char *p = (const char *)rec->data + i * (ss_dtype_size(rec->dtype) ? ss_dtype_size(rec->dtype) : 1);
    union {
        float f32;
        uint16_t u16;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        double f64;
    } v;
    memcpy(&v, p, ss_dtype_size(rec->dtype));
    switch (rec->dtype) {
    case SS_DTYPE_F32:
        return v.f32;
    case SS_DTYPE_F16:
        return ss_f16_to_f32(v.u16);
    case SS_DTYPE_BF16:
        return ss_bf16_to_f32(v.u16);
    case SS_DTYPE_I8:
        return scaled ? v.i8 * ss_attr_f32(&rec->attrs, SS_ATTR_SCALE, 1) : v.i8;
    case SS_DTYPE_I16:
        return v.i16;
    case SS_DTYPE_I32:
        return v.i32;
    case SS_DTYPE_I64:
        return (double)v.i64;
    case SS_DTYPE_F64:
        return v.f64;
    case SS_DTYPE_U8:
        return scaled ? *(const uint8_t *)p * ss_attr_f32(&rec->attrs, SS_ATTR_SCALE, 1)
                      : *(const uint8_t *)p;
    default:
        return *(const uint8_t *)p;
    }
}

static void print_value(const ss_record *rec, size_t i, bool json)
{
    double v = value_at(rec, i, opt_f32);
    if (json && !isfinite(v)) {
        fputs("null", stdout);
    } else if (rec->dtype == SS_DTYPE_I64 && !opt_f32) {
        int64_t whole;
        memcpy(&whole, (const char *)rec->data + 8 * i, 8);
        printf("%" PRId64, whole);
    } else {
        printf("%.*g", rec->dtype == SS_DTYPE_F64 && !opt_f32 ? 17 : 9, opt_f32 ? (double)(float)v : v);
    }
}

/* ---- text and JSON Lines ---- */

static const char *const flag_names[] = {"clip_end", "reduced", "padded", "flag3"};

static void print_json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20 || *s == 0x7f)
            printf("\\u%04x", (unsigned)*s);
        else if ((unsigned char)*s == 0xc2 && (unsigned char)s[1] < 0xa0) /* other control characters */
            printf("\\u%04x", (unsigned)(unsigned char)*++s);
        else
            putchar(*s);
    }
    putchar('"');
}

/* A name in a line of text: quoted when it would not be one word, so that nothing in a stream moves a
 * terminal. */
static void print_word(const char *s)
{
    bool plain = *s;
    for (const char *p = s; *p; p++)
        plain = plain && (unsigned char)*p > ' ' && *p != '"' && *p != '\\' && (unsigned char)*p != 0x7f &&
                ((unsigned char)*p != 0xc2 || (unsigned char)p[1] >= 0xa0);
    if (plain)
        fputs(s, stdout);
    else
        print_json_string(s);
}

static void print_attr_name(int a)
{
    if (ss_attr_name(a))
        fputs(ss_attr_name(a), stdout);
    else
        printf("attr%d", a);
}

static const char *label_of(const ss_record *rec, const ss_header *h)
{
    uint64_t label = ss_attr_uint(&rec->attrs, SS_ATTR_LABEL, UINT64_MAX);
    return label < h->nlabels ? h->labels[label] : NULL;
}

static void print_text_header(const ss_header *h)
{
    fputs("# ", stdout);
    print_word(h->kind);
    if (h->rate > 0)
        printf(" rate=%.10g", h->rate);
    if (*h->frontend_hash)
        printf(" frontend=%s", h->frontend_hash);
    if (*h->arch_hash)
        printf(" arch=%s", h->arch_hash);
    if (h->nlabels)
        printf(" labels=%" PRIu32, h->nlabels);
    putchar('\n');
}

static void print_shape(const ss_record *rec)
{
    const char *name = ss_dtype_name(rec->dtype);
    if (!rec->dtype) {
        putchar('-');
        return;
    }
    if (name)
        fputs(name, stdout);
    else
        printf("dtype%u", rec->dtype);
    putchar('[');
    for (int i = 0; i < rec->rank; i++)
        printf("%s%" PRIu32, i ? "," : "", rec->dim[i]);
    putchar(']');
    if (!ss_dtype_size(rec->dtype))
        printf("%zu", rec->size);
}

static void print_text(const ss_record *rec, const ss_header *h, uint64_t index)
{
    char name[32];
    printf("%" PRIu64 " ", index);
    if (ss_type_name(rec->type))
        fputs(ss_type_name(rec->type), stdout);
    else
        printf("type%u", rec->type);
    putchar(' ');
    print_shape(rec);
    printf(" device=%" PRIu32 " epoch=%" PRIu64 " seq=%" PRIu64 " time=%s%" PRIu64 ".%09" PRIu64, rec->device,
           rec->epoch, rec->seq, rec->time_ns < 0 ? "-" : "",
           (rec->time_ns < 0 ? 0 - (uint64_t)rec->time_ns : (uint64_t)rec->time_ns) / 1000000000,
           (rec->time_ns < 0 ? 0 - (uint64_t)rec->time_ns : (uint64_t)rec->time_ns) % 1000000000);
    for (int i = 0; i < 4; i++)
        if (rec->flags >> i & 1)
            printf(" %s", flag_names[i]);
    for (int a = 1; a <= SS_ATTR_MAX; a++) {
        if (!ss_attr_has(&rec->attrs, a))
            continue;
        uint64_t v = rec->attrs.value[a];
        putchar(' ');
        print_attr_name(a);
        putchar('=');
        if (ss_attr_is_float(a))
            printf("%.9g", (double)ss_attr_f32(&rec->attrs, a, 0));
        else if (a == SS_ATTR_SPLIT && v <= SS_CUT_EMBEDDING)
            fputs(ss_cut_name((int)v), stdout);
        else if (a == SS_ATTR_CODEC && ss_codec_known(v))
            fputs(ss_codec_name(v, name), stdout);
        else if (a == SS_ATTR_LABEL && label_of(rec, h))
            print_word(label_of(rec, h));
        else
            printf("%" PRIu64, v);
    }
    if (opt_data && rec->size) {
        putchar(':');
        for (size_t i = 0; i < value_count(rec); i++) {
            putchar(' ');
            print_value(rec, i, false);
        }
    }
    putchar('\n');
}

static int print_json_header(const ss_header *h, ss_err *e)
{
    char *text;
    int rc = ss_header_print(h, &text, e);
    if (!rc)
        printf("{\"header\":%s}\n", text);
    ss_free(rc ? NULL : text);
    return rc;
}

static void print_json_attrs(const ss_record *rec)
{
    bool first = true;
    for (int a = 1; a <= SS_ATTR_MAX; a++) {
        if (!ss_attr_has(&rec->attrs, a))
            continue;
        fputs(first ? "\"" : ",\"", stdout);
        print_attr_name(a);
        fputs("\":", stdout);
        float f = ss_attr_f32(&rec->attrs, a, 0);
        if (!ss_attr_is_float(a))
            printf("%" PRIu64, rec->attrs.value[a]);
        else if (isfinite(f))
            printf("%.9g", (double)f);
        else
            fputs("null", stdout);
        first = false;
    }
}

static void print_json(const ss_record *rec, const ss_header *h, uint64_t index)
{
    printf("{\"record\":%" PRIu64 ",\"type\":", index);
    if (ss_type_name(rec->type))
        printf("\"%s\"", ss_type_name(rec->type));
    else
        printf("%u", rec->type);
    fputs(",\"flags\":[", stdout);
    for (int i = 0, n = 0; i < 4; i++)
        if (rec->flags >> i & 1)
            printf("%s\"%s\"", n++ ? "," : "", flag_names[i]);
    fputs("],\"dtype\":", stdout);
    if (ss_dtype_name(rec->dtype))
        printf("\"%s\"", ss_dtype_name(rec->dtype));
    else if (rec->dtype)
        printf("%u", rec->dtype);
    else
        fputs("null", stdout);
    fputs(",\"shape\":[", stdout);
    for (int i = 0; i < rec->rank; i++)
        printf("%s%" PRIu32, i ? "," : "", rec->dim[i]);
    printf("],\"bytes\":%zu,\"device\":%" PRIu32 ",\"epoch\":%" PRIu64 ",\"seq\":%" PRIu64
           ",\"time_ns\":%" PRId64 ",\"attributes\":{",
           rec->size, rec->device, rec->epoch, rec->seq, rec->time_ns);
    print_json_attrs(rec);
    putchar('}');
    if (label_of(rec, h)) {
        fputs(",\"label\":", stdout);
        print_json_string(label_of(rec, h));
    }
    if (opt_data) {
        fputs(",\"data\":[", stdout);
        for (size_t i = 0; i < value_count(rec); i++) {
            if (i)
                putchar(',');
            print_value(rec, i, true);
        }
        putchar(']');
    }
    puts("}");
}

/* ---- counting and latency ---- */

static uint64_t counted, counted_bytes, counted_lost, counted_type[256];

static void count(const ss_record *rec)
{
    counted++;
    counted_bytes += rec->size;
    counted_type[rec->type]++;
    if (rec->type == SS_TYPE_GAP)
        counted_lost += ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1);
}

static void print_count(void)
{
    if (!tool_set.json) {
        printf("%" PRIu64 "\n", counted);
        return;
    }
    printf("{\"records\":%" PRIu64 ",\"payload_bytes\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"types\":{", counted,
           counted_bytes, counted_lost);
    for (int i = 0, n = 0; i < 256; i++)
        if (counted_type[i]) {
            if (ss_type_name(i))
                printf("%s\"%s\":%" PRIu64, n++ ? "," : "", ss_type_name(i), counted_type[i]);
            else
                printf("%s\"%d\":%" PRIu64, n++ ? "," : "", i, counted_type[i]);
        }
    puts("}}");
}

/* Times in bins of 1/64 octave (exact below 128), so that a stream of any length needs the same memory. */
enum { BINS = 128 + 64 * 57, ROWS = 16, ALL = 15 };
typedef struct spread {
    uint64_t n, min, max;
    uint32_t bin[BINS];
} spread;

static spread *waits, *works, *whole; /* [TOOL_STAGES], [TOOL_STAGES], [1] */

/* Energy in nJ in the same bins (below 0, which is measured where less was used than at rest, as 0), and as
 * it is. */
enum { ENERGIES = 2 };
static const struct {
    int attr;
    const char *name;
} energies[ENERGIES] = {{SS_ATTR_ENERGY, "modelled"}, {SS_ATTR_ENERGY_MEASURED, "measured"}};
static spread *energy; /* [ENERGIES] */
static double energy_sum[ENERGIES];

static void spread_add(spread *s, uint64_t us)
{
    int octave = us < 128 ? 0 : 63 - __builtin_clzll(us) - 6; /* us >> octave is in 64..127 */
    s->bin[us < 128 ? us : 64 + 64 * (uint64_t)octave + ((us >> octave) - 64)]++;
    s->min = s->n && s->min < us ? s->min : us;
    s->max = s->max > us ? s->max : us;
    s->n++;
}

/* The smallest value that a share q of the values does not pass; the middle of its bin. */
static uint64_t spread_quantile(const spread *s, double q)
{
    uint64_t want = (uint64_t)ceil(q * (double)s->n), seen = 0, i = 0;
    while (i < BINS - 1 && (seen += s->bin[i]) < want)
        i++;
    uint64_t octave = i < 128 ? 0 : (i - 64) / 64, v = i < 128 ? i : (64 + (i - 64) % 64) << octave;
    v += octave ? ((uint64_t)1 << octave) / 2 : 0;
    return v < s->min ? s->min : v > s->max ? s->max : v;
}

static int latency_open(ss_err *e)
{
    waits = ss_zalloc(2 * TOOL_STAGES + 1 + ENERGIES, sizeof *waits);
    if (!waits)
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    works = waits + TOOL_STAGES;
    whole = works + TOOL_STAGES;
    energy = whole + 1;
    return SS_OK;
}

static void latency_add(const ss_record *rec)
{
    uint64_t sum = 0;
    bool any = false;
    for (int i = 0; i < TOOL_STAGES; i++) {
        const int attr[2] = {tool_stages[i].wait, tool_stages[i].work};
        for (int k = 0; k < 2; k++)
            if (ss_attr_has(&rec->attrs, attr[k])) {
                uint64_t us = ss_attr_uint(&rec->attrs, attr[k], 0);
                us = us > UINT32_MAX ? UINT32_MAX : us;
                spread_add((k ? works : waits) + i, us);
                sum += us;
                any = true;
            }
    }
    if (any)
        spread_add(whole, sum);
    for (int i = 0; i < ENERGIES; i++) {
        double joules = (double)ss_attr_f32(&rec->attrs, energies[i].attr, NAN);
        if (!isfinite(joules))
            continue;
        energy_sum[i] += joules;
        spread_add(&energy[i], (uint64_t)fmin(fmax(joules * 1e9 + 0.5, 0), 1e18));
    }
}

static void latency_row(const char *stage, const char *what, const spread *s)
{
    if (s->n)
        printf(tool_set.json ? "{\"stage\":\"%s\",\"time\":\"%s\",\"records\":%" PRIu64 ",\"min_us\":%" PRIu64
                               ",\"median_us\":%" PRIu64 ",\"p95_us\":%" PRIu64 ",\"max_us\":%" PRIu64 "}\n"
                             : "%-10s %-5s %9" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64
                               "\n",
               stage, what, s->n, s->min, spread_quantile(s, 0.5), spread_quantile(s, 0.95), s->max);
}

static void energy_row(const spread *s, const char *name, double sum)
{
    if (s->n)
        printf(tool_set.json ? "{\"energy\":\"%s\",\"records\":%" PRIu64
                               ",\"mean_mj\":%.6g,\"median_mj\":%.6g,\"p95_mj\":%.6g,\"sum_j\":%.6g}\n"
                             : "%-10s %15" PRIu64 " %10.4g %10.4g %10.4g %10.4g\n",
               name, s->n, 1e3 * sum / (double)s->n, 1e-6 * (double)spread_quantile(s, 0.5),
               1e-6 * (double)spread_quantile(s, 0.95), sum);
}

static void latency_print(void)
{
    if (!tool_set.json)
        printf("%-10s %-5s %9s %10s %10s %10s %10s\n", "stage", "time", "records", "min/us", "median/us",
               "p95/us", "max/us");
    for (int i = 0; i < TOOL_STAGES; i++) {
        latency_row(tool_stages[i].name, "wait", &waits[i]);
        latency_row(tool_stages[i].name, "work", &works[i]);
    }
    latency_row("all", "both", whole);
    if (!tool_set.json && (energy[0].n || energy[1].n))
        printf("\n%-10s %15s %10s %10s %10s %10s\n", "energy", "records", "mean/mJ", "median/mJ", "p95/mJ",
               "sum/J");
    for (int i = 0; i < ENERGIES; i++)
        energy_row(&energy[i], energies[i].name, energy_sum[i]);
}

/* ---- .npy out ---- */

static struct {
    FILE *f;
    char name[4096]; /* temporary */
    ss_npy a;
    ss_record first; /* its dtype and shape are those of all */
} npy;

static int npy_open(ss_err *e)
{
    struct stat st;
    if (!stat(opt_npy, &st)) {
        if (!S_ISREG(st.st_mode))
            return ss_err_set(e, SS_EINVAL, "--npy: '%s' is no plain file: the header counts what follows it",
                              opt_npy);
        if (!tool_set.force)
            return ss_err_set(e, SS_EIO, "'%s' exists: use --force to replace it", opt_npy);
    }
    int n = snprintf(npy.name, sizeof npy.name, "%s.XXXXXX", opt_npy);
    if (n < 0 || (size_t)n >= sizeof npy.name) {
        npy.name[0] = 0;
        return ss_err_set(e, SS_EINVAL, "--npy: the name is too long");
    }
    int fd = mkostemp(npy.name, O_CLOEXEC);
    if (fd < 0)
        npy.name[0] = 0;
    npy.f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!npy.f)
        return ss_err_errno(e, "cannot create '%s'", opt_npy);
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    npy.a.dtype = SS_DTYPE_F32; /* of an array of nothing */
    npy.a.rank = 1;
    fseek(npy.f, SS_NPY_HEADER, SEEK_SET);
    return SS_OK;
}

static int npy_put(const ss_record *rec, uint64_t index, ss_err *e)
{
    if (rec->type != SS_TYPE_DATA)
        return SS_OK;
    if (!ss_dtype_size(rec->dtype))
        return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " is packed: an array needs its values unpacked",
                          index);
    if (!npy.a.dim[0]) {
        npy.first = *rec;
        npy.a.dtype = opt_f32 || rec->dtype == SS_DTYPE_BF16 ? SS_DTYPE_F32 : rec->dtype;
        npy.a.rank = rec->rank + 1;
        for (int i = 0; i < rec->rank; i++)
            npy.a.dim[i + 1] = rec->dim[i];
    } else if (rec->rank != npy.first.rank || memcmp(rec->dim, npy.first.dim, 4 * (size_t)rec->rank) ||
               (rec->dtype != npy.first.dtype && !opt_f32)) {
        return ss_err_set(e, SS_EUNFIT, "record %" PRIu64 " differs from the first one in shape or dtype",
                          index);
    }
    npy.a.dim[0]++;
    if (npy.a.dtype == rec->dtype) {
        fwrite(rec->data, 1, rec->size, npy.f);
        return SS_OK;
    }
    for (size_t i = 0; i < value_count(rec); i++) {
        float v = (float)value_at(rec, i, true);
        fwrite(&v, 1, sizeof v, npy.f);
    }
    return SS_OK;
}

static int npy_close(int rc, ss_err *e)
{
    char header[SS_NPY_HEADER];
    if (npy.f) {
        if (!rc)
            rc = ss_npy_print(&npy.a, header, e);
        if (!rc && (fseek(npy.f, 0, SEEK_SET) || fwrite(header, 1, sizeof header, npy.f) != sizeof header))
            rc = ss_err_errno(e, "cannot write '%s'", opt_npy);
        bool bad = ferror(npy.f);
        if ((fclose(npy.f) || bad) && !rc)
            rc = ss_err_errno(e, "cannot write '%s'", opt_npy);
        if (!rc && rename(npy.name, opt_npy))
            rc = ss_err_errno(e, "cannot rename '%s' to '%s'", npy.name, opt_npy);
    }
    if (rc && npy.name[0])
        unlink(npy.name);
    return rc;
}

/* ---- one pass over the input ---- */

static ss_writer *out;
static ss_header first_header;

static bool agree(const ss_header *a, const ss_header *b)
{
    bool same = !strcmp(a->kind, b->kind) && a->rate == b->rate &&
                !strcmp(a->frontend_hash, b->frontend_hash) && !strcmp(a->arch_hash, b->arch_hash) &&
                a->nlabels == b->nlabels;
    for (uint32_t i = 0; same && i < a->nlabels; i++)
        same = !strcmp(a->labels[i], b->labels[i]);
    return same;
}

/* A file has been opened. */
static int begin(source *s, bool lines, ss_err *e)
{
    if (opt_stream) {
        if (s->next > 1)
            return agree(&first_header, s->h)
                       ? SS_OK
                       : ss_err_set(
                             e, SS_EUNFIT,
                             "cannot join '%s': kind, rate, hashes or labels differ from those of '%s'",
                             s->file[s->next - 1], s->file[0]);
        int rc = ss_header_copy(&first_header, s->h, e);
        if (!rc)
            rc = tool_writer(&out, s->r, s->h, s->h->kind, e);
        s->tied = out;
        return rc;
    }
    if (lines && tool_set.json)
        return print_json_header(s->h, e);
    if (lines)
        print_text_header(s->h);
    return SS_OK;
}

static int one(const ss_record *rec, const ss_header *h, uint64_t index, ss_err *e)
{
    if (opt_stream)
        return ss_writer_put(out, rec, e);
    if (opt_npy)
        return npy_put(rec, index, e);
    if (opt_count)
        count(rec);
    else if (opt_latency)
        latency_add(rec);
    else if (tool_set.json)
        print_json(rec, h, index);
    else
        print_text(rec, h, index);
    return SS_OK;
}

static int pass(source *s, ss_err *e)
{
    bool lines = !opt_stream && !opt_npy && !opt_count && !opt_latency;
    bool begun = false;
    const ss_record *rec;
    int rc = opt_npy ? npy_open(e) : opt_latency ? latency_open(e) : SS_OK;
    if (lines)
        setvbuf(stdout, NULL, _IOLBF, 65536); /* a line that is done is not held back */
    while (!rc && (rc = source_open(s, e)) > 0) {
        rc = begin(s, lines, e);
        begun = true;
        while (!rc && s->index < slice_to && (rc = source_next(s, &rec, e)) > 0)
            rc = s->index > slice_from && (s->index - 1 - slice_from) % (uint64_t)every == 0
                     ? one(rec, s->h, s->index - 1, e)
                     : SS_OK;
        if (s->index >= slice_to)
            break;
    }
    if (opt_stream)
        rc = tool_writer_finish(&out, rc, e);
    else if (opt_npy)
        rc = npy_close(rc, e);
    else if (opt_count && begun) /* also of what came before a damage */
        print_count();
    else if (opt_latency && begun)
        latency_print();
    ss_free(waits);
    ss_header_clear(&first_header);
    return rc;
}

/* ---- check ---- */

/* Each file by itself; the first bad one gives the status. */
static int check(source *s, ss_err *e)
{
    int first = SS_OK, rc;
    const ss_record *rec;
    while ((rc = source_open(s, e))) {
        while (rc > 0)
            rc = source_next(s, &rec, e);
        if (rc < 0)
            tool_error("%s", e->text);
        else
            tool_info("'%s' is whole: %" PRIu64 " records, %" PRIu64 " bytes", s->file[s->next - 1],
                      ss_reader_count(s->r), ss_reader_offset(s->r));
        if (!first)
            first = rc;
    }
    e->text[0] = 0; /* all has been said */
    return first;
}

/* ---- compare ---- */

static struct {
    uint64_t records, differ, largest_record;
    size_t largest_value;
    double largest; /* difference of two values, infinite for a value that is not finite in one only */
    char first[256];
} found;

/* What belongs to a run, not to a result. */
static bool of_run(int a)
{
    return (a >= SS_ATTR_SENT && a <= SS_ATTR_W_FINISH) || a == SS_ATTR_ENERGY ||
           a == SS_ATTR_ENERGY_MEASURED;
}

__attribute__((format(printf, 1, 2))) static bool differs(const char *fmt, ...)
{
    if (!*found.first) {
        int n = snprintf(found.first, sizeof found.first, "record %" PRIu64 ": ", found.records);
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(found.first + n, sizeof found.first - (size_t)n, fmt, ap);
        va_end(ap);
    }
    return true;
}

static double difference(double a, double b)
{
    if (a == b || (isnan(a) && isnan(b)))
        return 0;
    double d = fabs(a - b);
    return isnan(d) ? INFINITY : d;
}

static bool compare_attrs(const ss_record *a, const ss_record *b)
{
    for (int i = 1; i <= SS_ATTR_MAX; i++) {
        bool in_a = ss_attr_has(&a->attrs, i), in_b = ss_attr_has(&b->attrs, i);
        const char *name = ss_attr_name(i) ? ss_attr_name(i) : "of unknown number";
        if (of_run(i) || (!in_a && !in_b))
            continue;
        if (in_a != in_b)
            return differs("attribute %s is %s", name,
                           in_a ? "there, and not in the other" : "only in the other");
        if (ss_attr_is_float(i)) {
            float x = ss_attr_f32(&a->attrs, i, 0), y = ss_attr_f32(&b->attrs, i, 0);
            if (difference(x, y) > opt_tolerance)
                return differs("attribute %s is %.9g and %.9g", name, (double)x, (double)y);
        } else if (a->attrs.value[i] != b->attrs.value[i]) {
            return differs("attribute %s is %" PRIu64 " and %" PRIu64, name, a->attrs.value[i],
                           b->attrs.value[i]);
        }
    }
    return false;
}

static bool compare_values(const ss_record *a, const ss_record *b)
{
    bool result = false, packed = !ss_dtype_size(a->dtype) || !ss_dtype_size(b->dtype);
    if (a->dtype == b->dtype && a->size == b->size && (!a->size || !memcmp(a->data, b->data, a->size)) &&
        ss_attr_f32(&a->attrs, SS_ATTR_SCALE, 1) == ss_attr_f32(&b->attrs, SS_ATTR_SCALE, 1))
        return false;
    if (a->rank != b->rank || memcmp(a->dim, b->dim, 4 * (size_t)a->rank) ||
        (packed && (a->dtype != b->dtype || a->size != b->size)))
        return differs("shape or dtype differs");
    for (size_t i = 0; i < value_count(a); i++) {
        double x = value_at(a, i, true), y = value_at(b, i, true), d = difference(x, y);
        if (d > found.largest) {
            found.largest = d;
            found.largest_record = found.records;
            found.largest_value = i;
        }
        if (d > opt_tolerance)
            result = differs("value %zu is %.9g and %.9g", i, x, y);
    }
    return result;
}

static bool compare_records(const ss_record *a, const ss_record *b)
{
    if (a->type != b->type)
        return differs("type is %u and %u", a->type, b->type);
    if (a->device != b->device)
        return differs("device is %" PRIu32 " and %" PRIu32, a->device, b->device);
    bool result = false;
    if (a->seq != b->seq)
        result = differs("sequence number is %" PRIu64 " and %" PRIu64, a->seq, b->seq);
    if (a->flags != b->flags)
        result = differs("flags are 0x%x and 0x%x", a->flags, b->flags);
    result |= compare_values(a, b);
    return compare_attrs(a, b) || result;
}

static void compare_print(bool same)
{
    if (tool_set.json) {
        printf("{\"same\":%s,\"records\":%" PRIu64 ",\"differ\":%" PRIu64 ",\"largest\":",
               same ? "true" : "false", found.records, found.differ);
        printf(isfinite(found.largest) ? "%.9g" : "null", found.largest);
        printf(",\"largest_record\":%" PRIu64 ",\"largest_value\":%zu,\"first\":", found.largest_record,
               found.largest_value);
        if (*found.first)
            print_json_string(found.first);
        else
            fputs("null", stdout);
        puts("}");
    } else if (!same || tool_set.verbose) {
        printf("records that differ: %" PRIu64 " of %" PRIu64 "\n", found.differ, found.records);
        if (found.largest > 0)
            printf("largest difference: %.9g (record %" PRIu64 ", value %zu)\n", found.largest,
                   found.largest_record, found.largest_value);
    }
}

static int compare(source *a, source *b, ss_err *e)
{
    const ss_record *x, *y;
    int rc = source_open(a, e), other = 0;
    if (rc > 0)
        rc = source_open(b, e);
    if (rc < 0)
        return rc;
    bool same = !strcmp(a->h->kind, b->h->kind);
    if (!same)
        snprintf(found.first, sizeof found.first, "kind is '%s' and '%s'", a->h->kind, b->h->kind);
    while ((rc = source_next(a, &x, e)) >= 0 && (other = source_next(b, &y, e)) >= 0 && rc && other) {
        if (compare_records(x, y)) {
            same = false;
            found.differ++;
        }
        found.records++;
    }
    if (rc < 0 || other < 0)
        return rc < 0 ? rc : other;
    if (rc != other)
        same &= !differs("%s ends after %" PRIu64 " records, the other goes on", rc ? b->file[0] : a->file[0],
                         found.records);
    if (*found.first && !tool_set.json)
        printf("first difference: %s\n", found.first);
    compare_print(same);
    e->text[0] = 0;
    return same ? SS_OK : SS_EDIFFER;
}

/* ---- .npy in ---- */

static int read_rows(int fd, const ss_npy *a, ss_writer *w, ss_err *e)
{
    ss_record rec = {
        .type = SS_TYPE_DATA, .dtype = (uint8_t)a->dtype, .rank = (uint8_t)(a->rank - 1), .device = 1};
    uint64_t size = ss_dtype_size(a->dtype);
    int rc = SS_OK;
    for (int i = 1; i < a->rank; i++) {
        if (a->dim[i] > SS_STREAM_MAX_PAYLOAD || size * a->dim[i] > SS_STREAM_MAX_PAYLOAD)
            return ss_err_set(e, SS_ELIMIT, "a row has more than %d bytes", SS_STREAM_MAX_PAYLOAD);
        rec.dim[i - 1] = (uint32_t)a->dim[i];
        size *= a->dim[i];
    }
    rec.size = size;
    char *row = ss_alloc(size + 1, 1), more;
    if (!row)
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    rec.data = row;
    for (; rec.seq < a->dim[0] && !rc && !tool_stop; rec.seq++) {
        for (size_t have = 0; have < size && !rc;) {
            ssize_t k = read(fd, row + have, size - have);
            if (k < 0 && errno != EINTR)
                rc = ss_err_errno(e, "cannot read '%s'", opt_from_npy);
            else if (!k)
                rc = ss_err_set(e, SS_ETRUNC, "'%s' is truncated in row %" PRIu64 " of %" PRIu64,
                                opt_from_npy, rec.seq, a->dim[0]);
            have += k > 0 ? (size_t)k : 0;
        }
        if (!rc)
            rc = ss_writer_put(w, &rec, e);
    }
    if (!rc && !tool_stop && read(fd, &more, 1) == 1)
        rc = ss_err_set(e, SS_EDAMAGED, "'%s' goes on after its last row", opt_from_npy);
    ss_free(row);
    return rc;
}

static int from_npy(ss_err *e)
{
    ss_npy a;
    ss_header h = {0};
    int fd = strcmp(opt_from_npy, "-") ? open(opt_from_npy, O_RDONLY | O_CLOEXEC) : 0;
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", opt_from_npy);
    int rc = ss_npy_read(fd, &a, e);
    if (rc) {
        ss_err_prefix(e, "cannot read '%s'", opt_from_npy);
        return rc;
    }
    if (!a.rank)
        return ss_err_set(e, SS_EUNFIT, "'%s' is a single number: its first axis is to be the records",
                          opt_from_npy);
    rc = tool_writer(&out, NULL, &h, opt_kind ? opt_kind : "embedding", e);
    if (!rc)
        rc = read_rows(fd, &a, out, e);
    return tool_writer_finish(&out, rc, e);
}

/* ---- main ---- */

static void check_options(int operands)
{
    opt_stream = opt_stream || tool_set.output;
    int modes = opt_stream + opt_count + opt_check + opt_latency + (opt_compare != NULL) + (opt_npy != NULL);
    if (modes > 1 || (opt_from_npy && modes > opt_stream))
        tool_usage("only one of --stream, --output, --count, --check, --latency, --compare, --npy and "
                   "--from-npy can be done");
    if (opt_from_npy && operands)
        tool_usage("--from-npy takes no further file");
    if (tool_set.json && (opt_stream || opt_check || opt_npy || opt_from_npy))
        tool_usage("--json goes with text, --count, --latency and --compare only");
    if ((slice_from || slice_to < UINT64_MAX) && (opt_check || opt_compare || opt_from_npy))
        tool_usage("--head and --slice do not go with --check, --compare and --from-npy");
    if (opt_kind && (!opt_from_npy || strlen(opt_kind) > sizeof first_header.kind - 1))
        tool_usage("--kind goes with --from-npy, and has at most %zu bytes", sizeof first_header.kind - 1);
    if (opt_tolerance > 0 && !opt_compare)
        tool_usage("--tolerance goes with --compare");
    if (opt_compare && operands > 1)
        tool_usage("--compare takes one further file");
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    char *standard[] = {"-"};
    int rc, first = tool_start(&program, argc, argv), n = argc - first;
    check_options(n);
    source s = {.file = n ? argv + first : standard, .n = n ? n : 1, .fd = -1};
    if (!opt_stream && !opt_npy && !opt_count && !opt_latency &&
        !opt_from_npy) { /* nothing to be done at the end */
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
    }
    if (opt_compare) {
        char *const other[] = {(char *)opt_compare};
        source b = {.file = other, .n = 1, .fd = -1};
        if (!strcmp(opt_compare, "-") && !strcmp(s.file[0], "-"))
            tool_usage("--compare: both are standard input");
        rc = compare(&s, &b, &e);
        source_close(&b);
    } else {
        rc = opt_from_npy ? from_npy(&e) : opt_check ? check(&s, &e) : pass(&s, &e);
    }
    source_close(&s);
    return tool_finish(rc, &e);
}
