#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "config.h"

tool_settings tool_set = {.threads = 1, .seed = 1, .progress = "auto", .provenance = true};
volatile int tool_stop;

static const tool_program *prog;
static int prog_argc;
static char **prog_argv;
static bool progress_shown;

/* messages */

static void message(const char *fmt, va_list ap)
{
    /* What was written before the message comes before it wherever both streams meet. */
    fflush(stdout);
    tool_progress(NULL);
    fprintf(stderr, "%s: ", prog ? prog->name : "streamsplit");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

#define MESSAGE                                                                                              \
    va_list ap;                                                                                              \
    va_start(ap, fmt);                                                                                       \
    message(fmt, ap);                                                                                        \
    va_end(ap)

void tool_error(const char *fmt, ...)
{
    MESSAGE;
}

void tool_warn(const char *fmt, ...)
{
    if (tool_set.quiet)
        return;
    MESSAGE;
}

void tool_info(const char *fmt, ...)
{
    if (!tool_set.verbose)
        return;
    MESSAGE;
}

void tool_usage(const char *fmt, ...)
{
    MESSAGE;
    fprintf(stderr, "try '%s --help'\n", prog->name);
    exit(TOOL_USAGE);
}

void tool_progress(const char *fmt, ...)
{
    static int64_t next;
    static int wanted = -1;
    if (!fmt) {
        if (progress_shown)
            fputs("\r\033[K", stderr);
        progress_shown = false;
        return;
    }
    int64_t now = ss_clock_mono_ns();
    if (wanted < 0) {
        bool terminal = isatty(2) && tcgetpgrp(2) == getpgrp();
        wanted = !strcmp(tool_set.progress, "always") ||
                 (!strcmp(tool_set.progress, "auto") && terminal && !tool_set.quiet);
        next = now + 1000000000;
    }
    if (!wanted || now < next)
        return;
    next = now + 1000000000 / 6;
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\r%.79s\033[K", line);
    fflush(stderr);
    progress_shown = true;
}

int tool_status_of(int code)
{
    switch (code) {
    case SS_EINVAL:
    case SS_ERANGE:
        return TOOL_USAGE;
    case SS_EIO:
    case SS_ENOTSUP:
        return TOOL_IO;
    case SS_EDAMAGED:
    case SS_ETRUNC:
        return TOOL_DAMAGED;
    case SS_EUNFIT:
        return TOOL_UNFIT;
    case SS_ENOMEM:
    case SS_ELIMIT:
        return TOOL_LIMIT;
    case SS_EDIFFER:
        return TOOL_NO;
    default:
        return code < 0 ? TOOL_IO : TOOL_OK;
    }
}

int tool_fail(const ss_err *e)
{
    tool_error("%s", e->text);
    return tool_status_of(e->code);
}

/* budgets */

tool_budget tool_budget_of(double rate, double most, double left)
{
    return (tool_budget){rate, most, left, ss_clock_mono_ns()};
}

double tool_budget_left(tool_budget *b)
{
    int64_t now = ss_clock_mono_ns();
    b->left += b->rate * (double)(now - b->ns) * 1e-9;
    b->left = b->left < b->most ? b->left : b->most;
    b->ns = now;
    return b->left;
}

/* numbers */

static int parse_number(const char *text, const char *what, double min, double max, bool whole, double *out,
                        ss_err *e)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || (whole && v != floor(v)))
        return ss_err_set(e, SS_ERANGE, "%s: found '%s', expected %s", what, text,
                          whole ? "a whole number" : "a number");
    if (v < min || v > max)
        return ss_err_set(e, SS_ERANGE, "%s: found %s, expected %.10g to %.10g", what, text, min, max);
    *out = v;
    return SS_OK;
}

int tool_parse_int(const char *text, const char *what, double min, double max, int *out, ss_err *e)
{
    double v = 0;
    int rc = parse_number(text, what, fmax(min, -2147483647.0), fmin(max, 2147483647.0), true, &v, e);
    if (rc == SS_OK)
        *out = (int)v;
    return rc;
}

int tool_parse_real(const char *text, const char *what, double min, double max, double *out, ss_err *e)
{
    return parse_number(text, what, min, max, false, out, e);
}

static int parse_u64(const char *text, const char *what, bool suffix, uint64_t *out, ss_err *e)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {{"", 1},          {"K", 1000},      {"M", 1000000},  {"G", 1000000000},
                 {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    char *end;
    errno = 0;
    if (*text >= '0' && *text <= '9') {
        uint64_t v = strtoull(text, &end, 10);
        for (size_t i = 0; i < (suffix ? sizeof units / sizeof *units : 1); i++)
            if (!strcmp(end, units[i].name) && !errno && !__builtin_mul_overflow(v, units[i].factor, out))
                return SS_OK;
    }
    return ss_err_set(e, SS_ERANGE, "%s: found '%s', expected a whole number%s below 2^64", what, text,
                      suffix ? ", K, M, G, KiB, MiB or GiB behind it," : "");
}

/* options */

static int set_cpu(const char *value, ss_err *e)
{
    if (ss_cpu_lower(value))
        return ss_err_set(
            e, SS_EINVAL,
            "--cpu: found '%s', expected scalar, sse4.1, avx2, avx512, avx512vnni, neon or neon-dotprod",
            value);
    return SS_OK;
}

static int more_verbose(const char *value, ss_err *e)
{
    (void)value, (void)e;
    tool_set.verbose++;
    return SS_OK;
}

static const tool_option common_options[] = {
    {"output", 'o', OPT_STRING, &tool_set.output, 0, 0, "FILE",
     "write there, under a temporary name until done", NULL},
    {"threads", 't', OPT_INT, &tool_set.threads, 0, 256, "N", "threads, 0 = the CPUs allowed", NULL},
    {"seed", 0, OPT_U64, &tool_set.seed, 0, 0, "N", "seed of all that is random", NULL},
    {"json", 0, OPT_FLAG, &tool_set.json, 0, 0, NULL, "JSON Lines on standard output", NULL},
    {"progress", 0, OPT_CHOICE, &tool_set.progress, 0, 0, "auto|always|never", "progress on standard error",
     NULL},
    {"force", 'f', OPT_FLAG, &tool_set.force, 0, 0, NULL, "overwrite files; streams to and from a terminal",
     NULL},
    {"provenance", 0, OPT_FLAG, &tool_set.provenance, 0, 0, NULL,
     "name this program in the header (--no-provenance: not)", NULL},
    {"limit-memory", 0, OPT_SIZE, &tool_set.limit_memory, 0, 0, "SIZE",
     "refuse to hold more than that, 0 = no limit", NULL},
    {"cpu", 0, OPT_CALL, NULL, 0, 0, "LEVEL", "lower the instruction set: scalar, avx2, ..., see ss-intro",
     set_cpu},
    {"quiet", 'q', OPT_FLAG, &tool_set.quiet, 0, 0, NULL, "errors only", NULL},
    {"verbose", 'v', OPT_CALL, NULL, 0, 0, NULL, "say more; may be repeated", more_verbose},
};
#define NCOMMON (sizeof common_options / sizeof *common_options)

static bool takes(const tool_option *o)
{
    static const struct {
        const char *name;
        unsigned bit;
    } needs[] = {{"output", TAKES_OUTPUT},    {"threads", TAKES_THREADS},   {"seed", TAKES_SEED},
                 {"json", TAKES_JSON},        {"progress", TAKES_PROGRESS}, {"force", TAKES_STREAM},
                 {"provenance", TAKES_STREAM}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (!strcmp(o->name, needs[i].name))
            return prog->takes & needs[i].bit;
    return true;
}

static void print_option(const tool_option *o)
{
    char left[80], value[64] = "", given[96] = "";
    if (o->arg)
        snprintf(value, sizeof value, "=%s", o->arg);
    if (o->letter)
        snprintf(left, sizeof left, "  -%c, --%s%s", o->letter, o->name, value);
    else
        snprintf(left, sizeof left, "      --%s%s", o->name, value);
    switch (o->kind) {
    case OPT_INT:
        snprintf(given, sizeof given, " [%d]", *(int *)o->to);
        break;
    case OPT_U64:
    case OPT_SIZE:
        snprintf(given, sizeof given, " [%" PRIu64 "]", *(uint64_t *)o->to);
        break;
    case OPT_REAL:
        snprintf(given, sizeof given, " [%.10g]", *(double *)o->to);
        break;
    case OPT_STRING:
    case OPT_CHOICE:
        if (*(const char **)o->to)
            snprintf(given, sizeof given, " [%s]", *(const char **)o->to);
        break;
    default:
        break;
    }
    if (strlen(left) > 27)
        printf("%s\n%28s%s%s\n", left, "", o->help, given);
    else
        printf("%-27s %s%s\n", left, o->help, given);
}

static void print_help(void)
{
    printf("usage: %s [OPTION...]%s%s\n%s\n\n", prog->name, *prog->operands ? " " : "", prog->operands,
           prog->purpose);
    for (const tool_option *o = prog->options; o && o->name; o++)
        print_option(o);
    for (size_t i = 0; i < NCOMMON; i++)
        if (takes(&common_options[i]))
            print_option(&common_options[i]);
    puts("  -h, --help                this text\n  -V, --version             the version");
    printf("\nSee also: man %s, man ss-intro\n", prog->name);
}

static int set_choice(const tool_option *o, const char *value, ss_err *e)
{
    size_t n = strlen(value);
    for (const char *p = o->arg; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (n && !strncmp(p, value, n) && (p[n] == '|' || !p[n])) {
            *(const char **)o->to = value;
            return SS_OK;
        }
    }
    return ss_err_set(e, SS_EINVAL, "--%s: found '%s', expected one of %s", o->name, value, o->arg);
}

static int set_option(const tool_option *o, const char *value, bool off, ss_err *e)
{
    char what[64];
    snprintf(what, sizeof what, "--%s", o->name);
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->to = !off;
        return SS_OK;
    case OPT_INT:
        return tool_parse_int(value, what, o->min, o->max, o->to, e);
    case OPT_U64:
    case OPT_SIZE:
        return parse_u64(value, what, o->kind == OPT_SIZE, o->to, e);
    case OPT_REAL:
        return tool_parse_real(value, what, o->min, o->max, o->to, e);
    case OPT_STRING:
        *(const char **)o->to = value;
        return SS_OK;
    case OPT_CHOICE:
        return set_choice(o, value, e);
    case OPT_CALL:
        return o->call(value, e);
    }
    return SS_EINVAL;
}

static void parse_options(int argc, char **argv)
{
    enum { MOST = 128, OFF = 1000, HELP = 2000, VERSION };
    const tool_option *table[MOST];
    struct option longs[2 * MOST + 3];
    char no_names[MOST][32], shorts[3 * MOST] = "hV";
    int n = 0, nl = 0;
    memset(longs, 0, sizeof longs);
    for (const tool_option *o = prog->options; o && o->name && n < MOST; o++)
        table[n++] = o;
    for (size_t i = 0; i < NCOMMON; i++)
        if (takes(&common_options[i]) && n < MOST)
            table[n++] = &common_options[i];
    for (int i = 0; i < n; i++) {
        bool value = table[i]->kind != OPT_FLAG && table[i]->arg;
        longs[nl++] = (struct option){table[i]->name, value ? required_argument : no_argument, NULL, 256 + i};
        if (table[i]->kind == OPT_FLAG) {
            snprintf(no_names[i], sizeof no_names[i], "no-%s", table[i]->name);
            longs[nl++] = (struct option){no_names[i], no_argument, NULL, OFF + i};
        }
        if (table[i]->letter) {
            char s[3] = {table[i]->letter, value ? ':' : 0, 0};
            strcat(shorts, s);
        }
    }
    longs[nl++] = (struct option){"help", no_argument, NULL, HELP};
    longs[nl++] = (struct option){"version", no_argument, NULL, VERSION};
    int c;
    ss_err e = {0};
    opterr = 1;
    while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        int i = -1;
        if (c == 'h' || c == HELP) {
            print_help();
            exit(tool_finish(SS_OK, NULL));
        } else if (c == 'V' || c == VERSION) {
            printf("%s (streamsplit) %s\n", prog->name, SS_VERSION);
            exit(tool_finish(SS_OK, NULL));
        } else if (c == '?') {
            fprintf(stderr, "try '%s --help'\n", prog->name);
            exit(TOOL_USAGE);
        } else if (c >= OFF) {
            i = c - OFF;
        } else if (c >= 256) {
            i = c - 256;
        } else {
            for (int j = 0; j < n; j++)
                if (table[j]->letter == c)
                    i = j;
        }
        if (set_option(table[i], optarg, c >= OFF, &e))
            tool_usage("%s", e.text);
    }
}

/* start and end */

static void on_signal(int number)
{
    tool_stop = number;
    /* The second one kills at once. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

int tool_start(const tool_program *p, int argc, char **argv)
{
    prog = p;
    prog_argc = argc;
    prog_argv = argv;
    /* A closed standard descriptor would be given to the next file opened. The wrong way round, so that use
     * of it fails. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
            exit(TOOL_IO);
    /* A parent may have ignored or blocked it. */
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &pipe_only, NULL);
    /* A file that may not grow is an error of that file, to be told and survived. */
    signal(SIGXFSZ, SIG_IGN);
    parse_options(argc, argv);
    ss_mem_limit(tool_set.limit_memory);
    /* No SA_RESTART: a read that waits is to return and look at tool_stop. */
    struct sigaction act = {.sa_handler = on_signal};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    return optind;
}

int tool_finish(int rc, const ss_err *e)
{
    int status = tool_status_of(rc);
    tool_progress(NULL);
    if (rc < 0 && e && e->text[0])
        tool_error("%s", e->text);
    bool bad = ferror(stdout);
    if (fclose(stdout))
        bad = true;
    if (bad) {
        /* stdout is closed: message() must not flush it again. */
        fprintf(stderr, "%s: cannot write to standard output: %s\n", prog->name, strerror(errno));
        if (status == TOOL_OK)
            status = TOOL_IO;
    }
    return status;
}

/* streams */

static int input_fd = -1, output_fd = -1;
static char output_temporary[4096];

int tool_reader(ss_reader **r, const char *path, const char *kinds, const ss_header **h, ss_err *e)
{
    bool standard = !path || !strcmp(path, "-");
    int fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", path);
    if (isatty(fd) && !tool_set.force)
        return ss_err_set(e, SS_EINVAL,
                          "standard input is a terminal: pipe a stream in, name a file, or use --force");
    const ss_header *header;
    int rc = ss_reader_open(r, fd, NULL, e);
    if (rc == SS_OK) {
        ss_reader_set_stop(*r, &tool_stop, 1000);
        rc = ss_reader_header(*r, &header, e);
    }
    if (rc == SS_OK && kinds) {
        size_t n = strlen(header->kind);
        const char *k = kinds;
        while (k && (strncmp(k, header->kind, n) || (k[n] && k[n] != '|'))) {
            k = strchr(k, '|');
            if (k)
                k++;
        }
        if (!k || !n)
            rc = ss_err_set(e, SS_EUNFIT, "stream of kind '%s', expected %s", header->kind, kinds);
    }
    if (rc < 0) {
        ss_err_prefix(e, "cannot read %s%s%s", standard ? "standard input" : "'", standard ? "" : path,
                      standard ? "" : "'");
        ss_reader_close(r);
        return rc;
    }
    if (!standard)
        input_fd = fd;
    if (h)
        *h = header;
    return SS_OK;
}

int tool_reader_fd(void)
{
    return input_fd < 0 ? 0 : input_fd;
}

int tool_writer_fd(void)
{
    return output_fd;
}

static int open_output(ss_err *e)
{
    if (!tool_set.output || !strcmp(tool_set.output, "-")) {
        if (isatty(1) && !tool_set.force)
            return ss_err_set(e, SS_EINVAL, "standard output is a terminal: use a pipe, -o FILE or --force");
        return 1;
    }
    struct stat st;
    bool there = !stat(tool_set.output, &st);
    if (there && !S_ISREG(st.st_mode)) { /* a FIFO, a device: nothing to rename */
        int fd = open(tool_set.output, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? ss_err_errno(e, "cannot open '%s'", tool_set.output) : fd;
    }
    if (there && !tool_set.force)
        return ss_err_set(e, SS_EIO, "'%s' exists: use --force to replace it", tool_set.output);
    int n = snprintf(output_temporary, sizeof output_temporary, "%s.XXXXXX", tool_set.output);
    if (n < 0 || (size_t)n >= sizeof output_temporary)
        return ss_err_set(e, SS_EINVAL, "--output: the name is too long");
    int fd = mkostemp(output_temporary, O_CLOEXEC);
    if (fd < 0) {
        output_temporary[0] = 0;
        return ss_err_errno(e, "cannot create '%s'", tool_set.output);
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    return fd;
}

int tool_add_provenance(ss_header *h, ss_err *e)
{
    return tool_set.provenance ? ss_header_add_provenance(h, prog->name, SS_VERSION, prog_argc, prog_argv, e)
                               : SS_OK;
}

int tool_writer(ss_writer **w, ss_reader *r, const ss_header *h, const char *kind, ss_err *e)
{
    ss_header own = {0};
    int rc = h ? ss_header_copy(&own, h, e) : SS_OK;
    if (rc == SS_OK) {
        snprintf(own.kind, sizeof own.kind, "%s", kind);
        rc = tool_add_provenance(&own, e);
    }
    if (rc == SS_OK) {
        output_fd = open_output(e);
        rc = output_fd < 0 ? output_fd : ss_writer_open(w, output_fd, &own, e);
    }
    ss_header_clear(&own);
    if (rc == SS_OK && r)
        ss_reader_tie(r, *w);
    return rc < 0 ? rc : SS_OK;
}

int tool_writer_finish(ss_writer **w, int rc, ss_err *e)
{
    ss_err late;
    if (*w) {
        int end = rc < 0 ? ss_writer_flush(*w, &late) : ss_writer_end(*w, &late);
        if (rc >= 0 && end < 0) {
            rc = end;
            *e = late;
        }
    }
    ss_writer_close(w);
    if (output_fd > 1) {
        if (close(output_fd) && rc >= 0)
            rc = ss_err_errno(e, "cannot write '%s'", tool_set.output);
        if (output_temporary[0]) {
            char name[sizeof output_temporary + 16];
            /* What arrived before a failure is kept, but never in the place of a whole file. */
            snprintf(name, sizeof name, "%s%s", tool_set.output, rc < 0 ? ".partial" : "");
            if (rename(output_temporary, name) && rc >= 0)
                rc = ss_err_errno(e, "cannot rename '%s' to '%s'", output_temporary, name);
            else if (rc < 0)
                tool_warn("what was done before the failure is in '%s'", name);
        }
    }
    output_temporary[0] = 0;
    output_fd = -1;
    if (input_fd > 0)
        close(input_fd);
    input_fd = -1;
    return rc;
}

const struct tool_stage tool_stages[TOOL_STAGES] = {
    {"capture", SS_ATTR_T_CAPTURE, 0},
    {"featurize", SS_ATTR_T_FEATURIZE, SS_ATTR_W_FEATURIZE},
    {"policy", SS_ATTR_T_POLICY, SS_ATTR_W_POLICY},
    {"encode", SS_ATTR_T_ENCODE, SS_ATTR_W_ENCODE},
    {"train", SS_ATTR_T_TRAIN, SS_ATTR_W_TRAIN},
    {"link", SS_ATTR_T_LINK, SS_ATTR_W_LINK},
    {"serve", SS_ATTR_T_SERVE, SS_ATTR_W_SERVE},
    {"finish", SS_ATTR_T_FINISH, SS_ATTR_W_FINISH},
};
