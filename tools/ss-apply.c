#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/incoming.h"
#include "sys/state.h"

enum {
    DELTAS = 64,            /* that may wait for the learner */
    STEP_RECORDS = 4096,    /* gradients of one step */
    STEP_BYTES = 128 << 20, /* of its file */
};
#define RESULT_NS ((int64_t)20 * 1000000)   /* the latest result is written down not more often, */
#define COUNTS_NS ((int64_t)1000 * 1000000) /* nor the counts and latencies */
#define WINDOW_NS ((int64_t)960 * 1000000)  /* of sound in a window */

static const char *state_path;
static int most_steps = 16;
static bool durable;

static const tool_option options[] = {
    {"state", 0, OPT_STRING, &state_path, 0, 0, "DIR", "state directory, required", NULL},
    {"gradients", 0, OPT_INT, &most_steps, 0, 65536, "N", "steps kept for the learner: the newest", NULL},
    {"durable", 0, OPT_FLAG, &durable, 0, 0, NULL, "sync files to the disk before they get their names",
     NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {
    "ss-apply", "[FILE]", "Lay out for the learner what comes back from the server.", TAKES_STREAM, options};

enum count { RESULTS, MIXTURES, LAID_DELTAS, STEPS, DROPPED, COUNTS };
static const char *const count_name[COUNTS] = {"apply.results", "apply.mixtures", "apply.deltas",
                                               "apply.gradients", "apply.dropped"};

/* What results tell. */
enum { NUMBERS = 3 };
static const int number_attr[NUMBERS] = {SS_ATTR_U, SS_ATTR_NOVELTY, SS_ATTR_LOSS};
static const char *const number_name[NUMBERS] = {"uncertainty.server", "novelty.server", "loss.server"};
typedef struct told {
    uint64_t seq;
    double value;
    bool fresh; /* not written down yet */
} told;

/* Milliseconds, over the results since they were written last. */
enum {
    STAGES = SS_ATTR_T_FINISH - SS_ATTR_T_CAPTURE + 1,
    WAIT_OF_WORK = SS_ATTR_W_FINISH - SS_ATTR_T_FINISH
};
typedef struct mean {
    double sum;
    uint64_t n;
} mean;

typedef struct identity {
    uint32_t device;
    uint64_t epoch, seq;
} identity;

static struct apply {
    ss_state *state;
    ss_incoming *in;
    ss_reader *r;
    ss_header header; /* of the files laid down */
    told number[NUMBERS];
    bool new_number;
    mean latency, stage[STAGES];
    int64_t number_ns, counts_ns;
    uint64_t count[COUNTS], written[COUNTS];
    /* The step whose gradients are coming. */
    ss_incoming_file *step;
    uint64_t generation, size, have;
    identity *who; /* [STEP_RECORDS] */
    bool failed;   /* something was not laid down */
    bool state_said, ignored_said[256];
} a;

/* ---- the state directory ---- */

static void put_failed(int rc, const ss_err *e)
{
    if (rc < 0 && !a.state_said)
        tool_warn("%s", e->text);
    a.state_said = a.state_said || rc < 0;
    a.failed = a.failed || rc < 0;
}

/* The latest of each, when nothing more is there to replace it or the last one was long ago. */
static void put_numbers(bool at_once)
{
    ss_err e;
    int64_t now = ss_clock_mono_ns();
    if (!a.new_number || (!at_once && ss_reader_ready(a.r) && now - a.number_ns < RESULT_NS))
        return;
    for (int i = 0; i < NUMBERS; i++)
        if (a.number[i].fresh)
            put_failed(ss_state_put_seq(a.state, number_name[i], a.number[i].seq, a.number[i].value, &e), &e);
    memset(a.number, 0, sizeof a.number);
    a.new_number = false;
    a.number_ns = now;
}

/* From the end of the window to now, by the clock that stamped its beginning: this machine's. What is not
 * live sound has no such time. */
static void take_latency(const ss_record *rec)
{
    double whole = (double)(ss_clock_real_ns() - rec->time_ns - WINDOW_NS) / 1e6;
    if (whole >= 0 && whole < 86400e3) {
        a.latency.sum += whole;
        a.latency.n++;
    }
    for (int i = 0; i < STAGES; i++) {
        int work = SS_ATTR_T_CAPTURE + i, wait = work + WAIT_OF_WORK;
        if (!ss_attr_has(&rec->attrs, work))
            continue;
        uint64_t us = ss_attr_uint(&rec->attrs, work, 0) + (i ? ss_attr_uint(&rec->attrs, wait, 0) : 0);
        a.stage[i].sum += (double)us / 1e3;
        a.stage[i].n++;
    }
}

static void take_result(const ss_record *rec)
{
    a.count[RESULTS]++;
    take_latency(rec);
    for (int i = 0; i < NUMBERS; i++) {
        float v = ss_attr_f32(&rec->attrs, number_attr[i], NAN);
        if (isfinite(v))
            a.number[i] = (told){rec->seq, (double)v, a.new_number = true};
    }
}

static void put_mean(const char *name, mean *m)
{
    ss_err e;
    if (m->n)
        put_failed(ss_state_put_real(a.state, name, m->sum / (double)m->n, &e), &e);
    *m = (mean){0};
}

static void put_latencies(void)
{
    char name[SS_STATE_MAX + 1];
    put_mean("latency", &a.latency);
    for (int i = 0; i < STAGES; i++) {
        snprintf(name, sizeof name, "latency.%s", ss_attr_name(SS_ATTR_T_CAPTURE + i) + 2); /* of t_encode */
        put_mean(name, &a.stage[i]);
    }
}

static void put_counts(bool at_once)
{
    ss_err e;
    int64_t now = ss_clock_mono_ns();
    if (!at_once && now - a.counts_ns < COUNTS_NS)
        return;
    a.counts_ns = now;
    for (int i = 0; i < COUNTS; i++)
        if (at_once || a.count[i] != a.written[i])
            put_failed(ss_state_put_real(a.state, count_name[i], (double)a.count[i], &e), &e);
    memcpy(a.written, a.count, sizeof a.written);
    put_latencies();
}

/* ---- laying down ---- */

static void drop(uint64_t n, const char *what, const char *why)
{
    a.count[DROPPED] += n;
    tool_info("%s dropped: %s", what, why);
}

/* A file that cannot be written is given up, and the stream goes on. */
static void give_up(const char *what, const ss_err *e)
{
    a.failed = true;
    tool_warn("%s dropped: %s", what, e->text);
    a.count[DROPPED]++;
}

static bool lay(ss_incoming_kind kind, uint64_t number, const ss_record *rec, const char *what)
{
    ss_err e;
    ss_incoming_file *f;
    int rc = ss_incoming_begin(&f, a.in, kind, &a.header, &e);
    if (!rc && (rc = ss_incoming_put(f, rec, &e)) < 0)
        ss_incoming_abort(&f);
    if (!rc)
        rc = ss_incoming_commit(&f, number, durable, &e);
    if (rc < 0)
        give_up(what, &e);
    return !rc;
}

/* The version that the learner has merged last, 0 when it has said none. */
static uint64_t merged_version(void)
{
    ss_state_value v;
    ss_err e;
    int flags = ss_state_get(a.state, "version", 0, &v, &e);
    return flags > 0 && flags & SS_STATE_THERE && v.number > 0 && v.number < 1e15 ? (uint64_t)v.number : 0;
}

static void take_mixture(const ss_record *rec)
{
    if (!rec->size)
        drop(1, "mixture", "it is empty");
    else
        a.count[MIXTURES] += lay(SS_INCOMING_MIXTURE, 0, rec, "mixture");
}

static void take_delta(const ss_record *rec)
{
    uint64_t from = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_FROM, UINT64_MAX);
    uint64_t to = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_TO, 0), version = merged_version();
    ss_incoming_found f;
    ss_err e;
    char what[64];
    snprintf(what, sizeof what, "delta to version %" PRIu64, to);
    if (!rec->size || from >= to)
        drop(1, what, "it is empty, or its versions do not ascend");
    else if (to <= version)
        drop(1, what, "it is merged already");
    else if (ss_incoming_look(a.in, version, &f, &e) < 0)
        give_up(what, &e);
    else if (f.deltas >= DELTAS)
        drop(1, what, "the learner has not taken those before it");
    else
        a.count[LAID_DELTAS] += lay(SS_INCOMING_DELTA, to, rec, what);
}

/* ---- gradients ---- */

static void drop_step(const char *why)
{
    if (!a.step)
        return;
    drop(1, "gradients of a step", why);
    ss_incoming_abort(&a.step);
}

static void drop_oldest_steps(void)
{
    ss_incoming_found f;
    ss_err e;
    int rc;
    while ((rc = ss_incoming_look(a.in, 0, &f, &e)) >= 0 && f.steps > most_steps &&
           (rc = ss_incoming_drop(a.in, SS_INCOMING_GRADIENTS, f.gradients, &e)) >= 0)
        drop(1, "gradients of a step", "the learner has not taken them, and newer ones have come");
    if (rc < 0)
        tool_warn("%s", e.text);
}

static void end_step(void)
{
    ss_err e;
    if (ss_incoming_commit(&a.step, 0, durable, &e) < 0) {
        give_up("gradients of a step", &e);
        return;
    }
    a.count[STEPS]++;
    drop_oldest_steps();
}

static bool in_step(const ss_record *rec)
{
    for (uint64_t i = 0; i < a.have; i++)
        if (a.who[i].seq == rec->seq && a.who[i].device == rec->device && a.who[i].epoch == rec->epoch)
            return true;
    return false;
}

/* Records of one step come one behind the other: the same generation, and each says how many there are. */
static void take_gradient(const ss_record *rec)
{
    uint64_t generation = ss_attr_uint(&rec->attrs, SS_ATTR_GENERATION, 0);
    uint64_t n = ss_attr_uint(&rec->attrs, SS_ATTR_COUNT, 1);
    ss_err e;
    if (a.step && (generation != a.generation || n != a.size || in_step(rec)))
        drop_step("another step began before it was whole");
    if (n < 1 || n > STEP_RECORDS || !most_steps || !rec->size) {
        drop(1, "gradient",
             most_steps ? "it is empty, or its step is larger than 4096 records" : "--gradients=0");
        return;
    }
    if (!a.step) {
        a.generation = generation;
        a.size = n;
        a.have = 0;
        if (ss_incoming_begin(&a.step, a.in, SS_INCOMING_GRADIENTS, &a.header, &e) < 0) {
            give_up("gradient", &e);
            return;
        }
    }
    if (ss_incoming_put(a.step, rec, &e) < 0) {
        ss_incoming_abort(&a.step);
        give_up("gradients of a step", &e);
        return;
    }
    a.who[a.have++] = (identity){rec->device, rec->epoch, rec->seq};
    if (a.have == a.size)
        end_step();
    else if (ss_incoming_size(a.step) > STEP_BYTES)
        drop_step("it is larger than 128 MiB");
}

/* ---- records ---- */

static void ignore(const ss_record *rec)
{
    const char *name = ss_type_name(rec->type);
    if (!a.ignored_said[rec->type])
        tool_info("records of type %s are passed over", name ? name : "unknown");
    a.ignored_said[rec->type] = true;
}

static void take(const ss_record *rec)
{
    switch (rec->type) {
    case SS_TYPE_RESULT:
        take_result(rec);
        break;
    case SS_TYPE_MIXTURE:
        take_mixture(rec);
        break;
    case SS_TYPE_DELTA:
        take_delta(rec);
        break;
    case SS_TYPE_GRADIENT:
        take_gradient(rec);
        break;
    default:
        ignore(rec);
    }
    put_numbers(false);
    put_counts(false);
}

static int set_up(const char *input, ss_err *e)
{
    const ss_header *h;
    if (!state_path)
        return ss_err_set(e, SS_EINVAL, "no state directory: give --state=DIR");
    a.who = ss_alloc(STEP_RECORDS, sizeof *a.who);
    if (!a.who)
        return ss_err_set(e, SS_ENOMEM, "out of memory");
    int rc = ss_state_open(&a.state, state_path, e);
    if (!rc)
        rc = ss_incoming_open(&a.in, state_path, true, e);
    if (!rc)
        rc = tool_reader(&a.r, input, "return", &h, e);
    if (rc)
        return rc;
    snprintf(a.header.kind, sizeof a.header.kind, "return");
    memcpy(a.header.arch_hash, h->arch_hash, sizeof a.header.arch_hash);
    memcpy(a.header.frontend_hash, h->frontend_hash, sizeof a.header.frontend_hash);
    a.header.rate = h->rate;
    return SS_OK;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    const ss_record *rec;
    int first = tool_start(&program, argc, argv);
    if (argc - first > 1)
        tool_usage("one stream at most, found %d", argc - first);
    int rc = set_up(argv[first], &e);
    while (!rc && (rc = ss_reader_next(a.r, &rec, &e)) > 0) {
        take(rec);
        rc = SS_OK;
    }
    if (a.r) {
        drop_step("the stream ended before it was whole");
        put_numbers(true);
        put_counts(true);
        tool_info("%" PRIu64 " results, %" PRIu64 " mixtures, %" PRIu64 " deltas, gradients of %" PRIu64
                  " steps; %" PRIu64 " dropped",
                  a.count[RESULTS], a.count[MIXTURES], a.count[LAID_DELTAS], a.count[STEPS],
                  a.count[DROPPED]);
    }
    if (!rc && a.failed)
        rc = ss_err_set(&e, SS_EIO, "not all that came could be laid down in '%s'", state_path);
    ss_reader_close(&a.r);
    ss_incoming_close(&a.in);
    ss_state_close(&a.state);
    ss_free(a.who);
    return tool_finish(rc, &e);
}
