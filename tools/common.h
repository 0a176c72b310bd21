/* What all programs share: options, messages, streams in and out, signals, exit. Each main() reads
 * tool_start .. open .. loop .. tool_finish. */
#ifndef SS_TOOLS_COMMON_H
#define SS_TOOLS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/stream.h"

/* Exit statuses; the table in man/ss-intro.7 is the same. */
enum tool_status {
    TOOL_OK = 0,
    TOOL_NO = 1, /* a comparison or check answered "no" */
    TOOL_USAGE = 2,
    TOOL_IO = 3,
    TOOL_DAMAGED = 4, /* damaged or truncated stream */
    TOOL_UNFIT = 5,   /* valid but unfit: shape, dtype, model */
    TOOL_LIMIT = 6    /* memory or a limit */
};

typedef enum tool_kind {
    OPT_FLAG,   /* bool *to; --no-NAME clears it */
    OPT_INT,    /* int *to, within min..max */
    OPT_U64,    /* uint64_t *to */
    OPT_SIZE,   /* uint64_t *to, bytes with suffix K M G (SI) or KiB MiB GiB */
    OPT_REAL,   /* double *to, within min..max */
    OPT_STRING, /* const char **to */
    OPT_CHOICE, /* const char **to, one of choices "a|b|c" */
    OPT_CALL    /* int (*call)(const char *value, ss_err *e); value NULL when the option takes none */
} tool_kind;

typedef struct tool_option {
    const char *name; /* long name without dashes; NULL ends a table */
    char letter;      /* short form, or 0 */
    tool_kind kind;
    void *to;
    double min, max;
    const char
        *arg; /* what the value is called in help: "K", "FILE"; NULL for a flag; for OPT_CHOICE the choices */
    const char *help; /* one line; the default value is appended by the help itself where it is a number or a
                         string */
    int (*call)(const char *value, ss_err *e);
} tool_option;

/* Options common to all programs, set by tool_start. */
typedef struct tool_settings {
    const char *output; /* -o FILE, NULL = standard output */
    bool quiet;
    int verbose;
    int threads;   /* -t N, default 1; 0 = allowed CPUs */
    bool force;    /* -f: overwrite; tensors to and from a terminal */
    uint64_t seed; /* --seed, default 1 */
    bool json;
    const char *progress; /* "auto", "always", "never" */
    uint64_t limit_memory;
    bool provenance; /* --no-provenance clears it */
} tool_settings;
extern tool_settings tool_set;

/* Which of the common ones a program takes besides -q -v --help --version --limit-memory --cpu. */
enum {
    TAKES_OUTPUT = 1,
    TAKES_THREADS = 2,
    TAKES_SEED = 4,
    TAKES_JSON = 8,
    TAKES_PROGRESS = 16,
    TAKES_STREAM = 32
};
/* TAKES_STREAM: -f --force and --no-provenance. */

typedef struct tool_program {
    const char *name;     /* "ss-encode" */
    const char *operands; /* "[FILE]", for the usage line */
    const char *purpose;  /* one line */
    unsigned takes;
    const tool_option *options;
} tool_program;

/* Set once the first SIGINT or SIGTERM has come (the second one kills). */
extern volatile int tool_stop;

/* Descriptors 0-2, SIGPIPE, locale, options. Returns the index of the first operand; help, version and usage
 * errors end the process. */
int tool_start(const tool_program *p, int argc, char **argv);

/* "ss-x: text" on standard error, standard output flushed first. */
void tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tool_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* unless -q */
void tool_info(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* with -v */
/* One line of progress, at most six a second, only as --progress says; NULL clears it. */
void tool_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Usage error: message, hint at --help, exit 2. */
void tool_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Exit status of a library result. */
int tool_status_of(int code);
/* Print e->text and give the status of its code. */
int tool_fail(const ss_err *e);

/* Open a stream to read: path "-" or NULL = standard input (refused on a terminal unless -f). Reads the
 * header and checks its kind against `kinds` ("logmel|cut", NULL = any). The reader obeys tool_stop. */
int tool_reader(ss_reader **r, const char *path, const char *kinds, const ss_header **h, ss_err *e);
/* Its descriptor, for who polls it. */
int tool_reader_fd(void);
/* That of the writer. */
int tool_writer_fd(void);
/* Add this program to the provenance of a header, unless --no-provenance. */
int tool_add_provenance(ss_header *h, ss_err *e);
/* Open the output stream: tool_set.output (a temporary name, renamed by tool_writer_finish) or standard
 * output (refused on a terminal unless -f). Adds this program's provenance to a copy of `h`, sets kind. Ties
 * `r` when given. */
int tool_writer(ss_writer **w, ss_reader *r, const ss_header *h, const char *kind, ss_err *e);
/* End record, close, rename. On rc < 0 the stream is flushed without an end record (whoever reads it is to
 * see the truncation) and the temporary file removed. Returns rc or the error of its own. */
int tool_writer_finish(ss_writer **w, int rc, ss_err *e);

/* Last thing in main: prints e->text if rc < 0, checks and closes standard output, gives the exit status. */
int tool_finish(int rc, const ss_err *e);

/* A budget: so much comes in each second, and at most so much lies there. Who takes more than is left pays it
 * off first. */
typedef struct tool_budget {
    double rate, most, left;
    int64_t ns; /* when it was looked at last, on the monotonic clock */
} tool_budget;
tool_budget tool_budget_of(double rate, double most, double left);
/* What is left by now. */
double tool_budget_left(tool_budget *b);

/* Strict numbers: whole text, within range; else SS_ERANGE and a text that names `what`, found and range. */
int tool_parse_int(const char *text, const char *what, double min, double max, int *out, ss_err *e);
int tool_parse_real(const char *text, const char *what, double min, double max, double *out, ss_err *e);

/* Where records spend their time, in the order in which they pass: attributes of work and of waiting before
 * it. */
enum { TOOL_STAGES = 8 };
extern const struct tool_stage {
    const char *name;
    int work, wait; /* 0: none */
} tool_stages[TOOL_STAGES];

#endif
