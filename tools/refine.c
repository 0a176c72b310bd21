#include "refine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "io/journal.h"
#include "learn/share.h"
#include "nn/checkpoint.h"
#include "owner.h"
#include "runner.h"
#include "sys/state.h"

enum {
    SOURCES = 256,
    FIELDS = 6,
    NUMBERS = 8,
    GROUP = 64,          /* records that wait for one fsync at most, */
    GROUP_MS = 200,      /* and how long */
    KEEPALIVE_MS = 5000, /* of silence */
    KEPT = 32,           /* weight deltas */
    AGAIN = 4,           /* times that gradients go out once more */
    MISSED_S = 60,       /* between two times that one device gets what it missed, */
    GIVEN = 64           /* of so many devices */
};

/* Who has been heard, and up to where, -1 = nowhere; gaps count. unsaid: wants to hear what is durable;
 * heard_ns: when the newest record came, on the monotonic clock of this process. */
typedef struct source {
    int64_t device, epoch, seq, durable, unsaid, heard_ns;
} source;

static struct refine {
    const refine_settings *set;
    ss_model *m;
    ss_pool *pool;
    ss_refiner *refiner;
    ss_reader *r;
    ss_writer *w;
    ss_journal *journal;
    ss_share *share;
    ss_state *state;
    FILE *log;
    int owner;             /* descriptor whose lock says that the model is ours */
    ss_writer *embeddings; /* and its descriptor */
    int embeddings_fd;
    bool live;        /* not out of the journal */
    char kind[32];    /* of the stream or the journal's segment that is read */
    char (*label)[9]; /* its labels, as numbers that do not depend on the table */
    int32_t *label_id;
    uint32_t nlabels;
    source source[SOURCES];
    int nsource;
    uint64_t place, kept; /* next index in the journal that is to be learnt from; from where it is kept */
    uint64_t late;        /* embeddings that were too far behind to be learnt from */
    uint64_t windows, over, skipped, held_back, unsaved;
    bool stepped, reader_gone, nonfinite_said, journal_broken, wanting;
    int waiting; /* records appended and not synced */
    int64_t waiting_ns, put_ns;
    double loss, sum_u, sum_novelty;
    uint64_t sum_count, unshared;         /* unshared: windows since the last weight delta */
    tool_budget steps, gradients, deltas; /* seconds; bytes of the others */
    owner_pace pace;
    int64_t told_ns;
    float *in, *z;
    void *packed;
    runner_codecs codecs;
    size_t volume[SS_CUT_EMBEDDING + 1];
} t = {.owner = -1, .embeddings_fd = -1};

static int put(const ss_record *rec, ss_err *e)
{
    t.put_ns = ss_clock_mono_ns();
    return ss_writer_put(t.w, rec, e);
}

/* ---- sources ---- */

static int find_source(uint32_t device, uint64_t epoch)
{
    int i = t.nsource - 1;
    while (i >= 0 && (t.source[i].device != (int64_t)device || t.source[i].epoch != (int64_t)epoch))
        i--;
    return i;
}

/* The source heard last is the last of the table; the one not heard for longest leaves. */
static source *source_of(uint32_t device, uint64_t epoch)
{
    int i = find_source(device, epoch);
    source s = {.device = device, .epoch = (int64_t)epoch, .seq = -1, .durable = -1};
    if (i >= 0)
        s = t.source[i];
    else
        i = t.nsource < SOURCES ? t.nsource++ : 0;
    memmove(t.source + i, t.source + i + 1, (size_t)(t.nsource - 1 - i) * sizeof s);
    t.source[t.nsource - 1] = s;
    return &t.source[t.nsource - 1];
}

/* All that was heard is durable, which is said to each source that it is news for. */
static int acknowledge(ss_err *e)
{
    int rc = SS_OK;
    for (int i = 0; i < t.nsource && !rc && t.wanting && t.w; i++) {
        source *s = &t.source[i];
        ss_record ack = {.type = SS_TYPE_ACK,
                         .device = (uint32_t)s->device,
                         .epoch = (uint64_t)s->epoch,
                         .seq = (uint64_t)s->seq};
        if (s->heard_ns) /* the sender takes it off what the way took */
            ss_attr_set_uint(&ack.attrs, SS_ATTR_T_TRAIN,
                             (uint64_t)(ss_clock_mono_ns() - s->heard_ns) / 1000);
        if (s->seq >= 0 && (s->unsaid || s->durable < s->seq))
            rc = put(&ack, e);
        s->durable = s->seq;
        s->unsaid = 0;
    }
    t.wanting = false;
    return rc;
}

/* Of what was gone on from; nobody is there yet to be told. */
static void all_durable(void)
{
    for (int i = 0; i < t.nsource; i++) {
        t.source[i].durable = t.source[i].seq;
        t.source[i].unsaid = t.source[i].heard_ns = 0;
    }
    t.wanting = false;
}

static void break_journal(const ss_err *why)
{
    if (!t.journal_broken)
        tool_warn("%s: nothing is acknowledged before the next save", why->text);
    t.journal_broken = true;
}

/* True when all that was heard is in the journal. */
static bool sync_journal(void)
{
    ss_err why;
    if (!t.journal || t.journal_broken)
        return false;
    t.waiting = 0;
    if (ss_journal_sync(t.journal, &why) < 0)
        break_journal(&why);
    return !t.journal_broken;
}

/* The end of a group: durable, then acknowledged. */
static int commit(ss_err *e)
{
    return t.wanting && sync_journal() ? acknowledge(e) : SS_OK;
}

/* Before a record is learnt from. */
static void append(const ss_record *rec)
{
    ss_err why;
    if (!t.journal)
        return;
    if (t.journal_broken || ss_journal_append(t.journal, rec, &why) < 0) {
        if (!t.journal_broken)
            break_journal(&why);
        return;
    }
    t.place = ss_journal_next(t.journal);
    if (!t.waiting++)
        t.waiting_ns = ss_clock_mono_ns();
}

/* ---- saving ---- */

static const char *const number_name[NUMBERS] = {"sources in use",  "generation", "journal",
                                                 "learnt",          "skipped",    "stepped",
                                                 "windows in sums", "held back"};

static int put_state(ss_err *e)
{
    ss_checkpoint_writer *w;
    int rc = ss_checkpoint_begin(&w, e);
    if (rc < 0)
        return rc;
    rc = ss_refiner_save(t.refiner, w, e);
    if (rc < 0) {
        ss_checkpoint_abandon(&w);
        return rc;
    }
    double sums[] = {t.loss, t.sum_u, t.sum_novelty};
    ss_checkpoint_put(w, "sources", SS_DTYPE_I64, 2, (uint64_t[]){SOURCES, FIELDS}, t.source);
    ss_checkpoint_put(w, "sums", SS_DTYPE_F64, 1, (uint64_t[]){3}, sums);
    const uint64_t number[NUMBERS] = {(uint64_t)t.nsource, t.m->generation, t.place,     t.windows,
                                      t.skipped,           t.stepped,       t.sum_count, t.held_back};
    for (int i = 0; i < NUMBERS; i++)
        ss_checkpoint_put_int(w, number_name[i], (int64_t)number[i]);
    if (t.share) {
        ss_share_save(t.share, w);
        ss_checkpoint_put_int(w, "not shared", (int64_t)t.unshared);
    }
    return ss_checkpoint_write(&w, t.set->checkpoint, e);
}

static int get_state(ss_checkpoint *c, uint64_t *generation, ss_err *e)
{
    double sums[3];
    int64_t number[NUMBERS];
    int rc = ss_refiner_load(t.refiner, c, e);
    if (!rc)
        rc = ss_checkpoint_get(c, "sources", SS_DTYPE_I64, 2, (uint64_t[]){SOURCES, FIELDS}, t.source, e);
    if (!rc)
        rc = ss_checkpoint_get(c, "sums", SS_DTYPE_F64, 1, (uint64_t[]){3}, sums, e);
    for (int i = 0; i < NUMBERS && !rc; i++) {
        rc = ss_checkpoint_get_int(c, number_name[i], &number[i], e);
        if (!rc && (number[i] < 0 || (i == 0 && number[i] > SOURCES)))
            rc = ss_err_set(e, SS_EDAMAGED, "'%s' is %" PRId64, number_name[i], number[i]);
    }
    int64_t unshared = 0;
    if (!rc && t.share && ss_checkpoint_find(c, "not shared"))
        rc = ss_checkpoint_get_int(c, "not shared", &unshared, e);
    if (!rc && t.share)
        rc = ss_share_load(t.share, c, e);
    if (rc < 0)
        return rc;
    t.unshared = (uint64_t)unshared;
    t.loss = sums[0];
    t.sum_u = sums[1];
    t.sum_novelty = sums[2];
    t.nsource = (int)number[0];
    *generation = (uint64_t)number[1];
    t.place = t.kept = (uint64_t)number[2];
    t.windows = (uint64_t)number[3];
    t.skipped = (uint64_t)number[4];
    t.stepped = number[5] != 0;
    t.sum_count = (uint64_t)number[6];
    t.held_back = (uint64_t)number[7];
    all_durable();
    return SS_OK;
}

/* The journal is kept from the state before this one on: it may have to be gone back to. */
static void trim(void)
{
    ss_err why;
    if (!t.journal)
        return;
    if (t.live && ss_journal_trim(t.journal, t.kept, &why) < 0)
        tool_warn("%s", why.text);
    t.kept = t.place;
}

/* Journal before state: who has to go back to the state before this one finds in it what came since. State
 * before model: a kill between the two leaves a state from which the model is written again. */
static int save(ss_err *e)
{
    int rc = ss_refiner_store_mixture(t.refiner, e);
    if (rc < 0)
        return rc;
    sync_journal();
    t.m->generation++;
    if (t.set->checkpoint)
        rc = put_state(e);
    if (!rc)
        rc = ss_model_save(t.m, t.set->model, e);
    if (rc < 0) {
        t.m->generation--;
        return rc;
    }
    t.unsaved = 0;
    t.waiting = 0;
    t.journal_broken = false;
    t.pace.saved_ns = ss_clock_mono_ns();
    trim();
    return SS_OK;
}

static int save_when_due(bool counted, ss_err *e)
{
    bool saved = owner_saves(&t.pace, counted ? t.windows : 0, t.unsaved && t.live, save);
    return saved && t.live ? acknowledge(e) : SS_OK;
}

/* ---- learning ---- */

static void log_step(const ss_refiner_report *r)
{
    double n = t.sum_count ? (double)t.sum_count : 1;
    const ss_hybrid_result *h = &r->loss;
    if (!t.log || !t.live)
        return;
    fprintf(
        t.log,
        "{\"step\":%" PRIu64 ",\"windows\":%" PRIu64 ",\"loss\":%.9g,\"task\":%.9g,\"sw\":%.6g,"
        "\"laplacian\":%.6g,\"task_norm\":%.6g,\"sw_norm\":%.6g,\"laplacian_norm\":%.6g,\"positive\":%.6g,"
        "\"negative\":%.6g,\"top\":%.6g,\"gain\":%.6g,\"gradient\":%.6g,\"rate\":%.6g,\"rows\":%d,"
        "\"present\":%d,\"devices\":%d,\"u\":%.6g,\"novelty\":%.6g,\"components\":%d,\"skipped\":%" PRIu64
        ",\"refused\":%" PRIu64 ",\"rolled_back\":%" PRIu64 ",\"gradients_held_back\":%" PRIu64
        ",\"generation\":%" PRIu64 "}\n",
        r->step, r->windows, h->loss, h->task, h->sw, h->laplacian, h->task_norm, h->sw_norm,
        h->laplacian_norm, h->positive, h->negative, h->top, r->gain, r->gradient, r->rate, r->rows,
        r->present, r->devices, t.sum_u / n, t.sum_novelty / n, r->live, t.skipped, r->refused,
        r->rolled_back, t.held_back, t.m->generation);
    fflush(t.log);
}

/* Gradients of the last step for the device of the i-th. */
static uint64_t gradients_with(int i)
{
    ss_refiner_item g, other;
    uint64_t n = 0;
    ss_refiner_gradient(t.refiner, i, &g);
    for (int k = 0; k < ss_refiner_gradients(t.refiner); k++) {
        ss_refiner_gradient(t.refiner, k, &other);
        n += other.device == g.device;
    }
    return n;
}

static int put_gradient(int i, ss_err *e)
{
    ss_refiner_item g;
    uint64_t before = ss_writer_offset(t.w);
    ss_refiner_gradient(t.refiner, i, &g);
    ss_record rec = {.type = SS_TYPE_GRADIENT, .device = g.device, .epoch = g.epoch, .seq = g.seq};
    runner_pack(&t.m->config, &rec, g.cut, t.set->gradients, g.x, t.packed);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_SPLIT, (uint64_t)g.cut);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_COUNT, gradients_with(i));
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, t.m->generation);
    int rc = put(&rec, e);
    t.gradients.left -= (double)(ss_writer_offset(t.w) - before);
    return rc;
}

/* All of a step, or none of them when the last second has had its bytes. */
static int put_gradients(ss_err *e)
{
    int n = ss_refiner_gradients(t.refiner), rc = SS_OK;
    if (!n || !t.live)
        return SS_OK;
    if (t.set->gradient_budget && tool_budget_left(&t.gradients) < 0) {
        t.held_back += (uint64_t)n;
        return SS_OK;
    }
    for (int i = 0; i < n && !rc; i++)
        rc = put_gradient(i, e);
    return rc;
}

/* Who says hello may wait for those of the last step, which a kill or a link that broke has taken from him;
 * while no window has come since, they are here. Whom they reach twice takes them once. */
static int put_gradients_again(const ss_record *hello, ss_err *e)
{
    static uint64_t step;
    static int times;
    ss_refiner_report r;
    int n = t.set->gradients ? ss_refiner_gradients(t.refiner) : 0, rc = SS_OK;
    bool any = false;
    ss_refiner_report_last(t.refiner, &r);
    times = r.step == step ? times : 0;
    step = r.step;
    for (int i = 0; i < n && times < AGAIN && !rc; i++) {
        ss_refiner_item g;
        ss_refiner_gradient(t.refiner, i, &g);
        if (g.device != hello->device || g.epoch != hello->epoch)
            continue;
        rc = put_gradient(i, e);
        any = true;
    }
    times += any;
    return rc;
}

static int step(ss_err *e)
{
    ss_refiner_report r;
    if (t.live && !owner_affords(&t.steps)) {
        ss_refiner_skip(t.refiner);
        t.skipped++;
        return SS_OK;
    }
    ss_refiner_report_last(t.refiner, &r);
    uint64_t refused = r.refused, rolled_back = r.rolled_back;
    int64_t begun = ss_clock_cpu_ns();
    int taken = ss_refiner_step(t.refiner);
    t.steps.left -= (double)(ss_clock_cpu_ns() - begun) * 1e-9;
    if (taken < 0)
        return ss_err_set(e, taken, "window %" PRIu64 ": no step: %s", t.windows, ss_strerror(taken));
    ss_refiner_report_last(t.refiner, &r);
    if (taken) {
        t.loss = r.loss.loss;
        t.stepped = true;
        log_step(&r);
    } else if (r.refused > refused) {
        tool_warn("window %" PRIu64 ": a step that is not finite was refused, %" PRIu64 " so far", t.windows,
                  r.refused);
    }
    if (r.rolled_back > rolled_back)
        tool_warn("window %" PRIu64 ": the embeddings fell into one: back to weights that were good, at half "
                  "the rate",
                  t.windows);
    t.sum_u = t.sum_novelty = 0;
    t.sum_count = 0;
    return put_gradients(e);
}

/* What goes back at once. The times of all stages go with it. */
static int put_result(const ss_record *of, const ss_mixture_score *score, int64_t begun, ss_err *e)
{
    ss_record rec = {.type = SS_TYPE_RESULT,
                     .flags = of->flags,
                     .device = of->device,
                     .epoch = of->epoch,
                     .seq = of->seq,
                     .time_ns = of->time_ns,
                     .attrs = of->attrs};
    static const int drop[] = {SS_ATTR_CODEC,      SS_ATTR_LABEL,          SS_ATTR_CLIP,
                               SS_ATTR_FOLD,       SS_ATTR_SCALE,          SS_ATTR_HOLD,
                               SS_ATTR_ENERGY,     SS_ATTR_RESOLUTION,     SS_ATTR_VERSION_FROM,
                               SS_ATTR_VERSION_TO, SS_ATTR_ENERGY_MEASURED};
    for (size_t i = 0; i < sizeof drop / sizeof *drop; i++)
        ss_attr_clear(&rec.attrs, drop[i]);
    ss_attr_clear(&rec.attrs, SS_ATTR_LOSS); /* the device's own */
    ss_attr_set_f32(&rec.attrs, SS_ATTR_U, score->u);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_NOVELTY, score->novelty);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, t.m->generation);
    if (t.stepped)
        ss_attr_set_f32(&rec.attrs, SS_ATTR_LOSS, (float)t.loss);
    ss_stage_end(&rec.attrs, SS_ATTR_T_FINISH, begun);
    return put(&rec, e);
}

static int put_embedding(const ss_record *of, const ss_mixture_score *score, int64_t begun, ss_err *e)
{
    ss_record rec = *of;
    if (!t.embeddings)
        return SS_OK;
    runner_pack(&t.m->config, &rec, SS_CUT_EMBEDDING, t.set->dtype, t.z, t.packed);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_SPLIT, SS_CUT_EMBEDDING);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, t.m->generation);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_U, score->u);
    ss_attr_set_f32(&rec.attrs, SS_ATTR_NOVELTY, score->novelty);
    ss_stage_end(&rec.attrs, SS_ATTR_T_FINISH, begun);
    return ss_writer_put(t.embeddings, &rec, e);
}

/* For all devices: its own is 0. */
static int put_mixture(ss_err *e)
{
    int every = t.set->mixture_every;
    if (!every || !t.live || t.windows % (uint64_t)every)
        return SS_OK;
    char *bytes = NULL;
    size_t n;
    int rc = ss_mixture_store(ss_refiner_mixture(t.refiner), &bytes, &n, e);
    if (rc < 0)
        return rc;
    ss_record rec = {.type = SS_TYPE_MIXTURE,
                     .dtype = SS_DTYPE_U8,
                     .rank = 1,
                     .dim = {(uint32_t)n},
                     .size = n,
                     .data = bytes};
    ss_attr_set_uint(&rec.attrs, SS_ATTR_GENERATION, t.m->generation);
    ss_attr_set_uint(&rec.attrs, SS_ATTR_COUNT, t.windows);
    rc = put(&rec, e);
    ss_free(bytes);
    return rc;
}

/* ---- synchronisation ---- */

/* `echo 0 > S/set/sync` holds deltas back; what is not there says nothing. */
static bool allowed(void)
{
    ss_err e;
    ss_state_value v;
    return !t.state || !(ss_state_get(t.state, "sync", 0, &v, &e) & SS_STATE_THERE) || v.number != 0;
}

static bool within_budget(void)
{
    return !t.set->sync_budget || tool_budget_left(&t.deltas) > 0;
}

/* A delta that cannot be made now takes in more windows. */
static int put_delta(ss_err *e)
{
    const ss_record *rec;
    ss_err why;
    if (!t.share || !t.live || t.unshared < (uint64_t)t.set->sync_every || !allowed() || !within_budget())
        return SS_OK;
    int rc = ss_share_next(t.share, t.unshared, &rec, &why);
    t.unshared = 0;
    if (rc < 0) {
        tool_warn("%s", why.text);
        return SS_OK;
    }
    t.deltas.left -= (double)rec->size;
    tool_info("weights given out, version %" PRIu64 ": %zu bytes", t.m->synchronised, rec->size);
    return put(rec, e);
}

static int give(void *arg, const ss_record *rec, ss_err *e)
{
    const ss_record *to = arg;
    ss_record own = *rec;
    own.device = to->device;
    own.epoch = to->epoch;
    return put(&own, e);
}

/* Not again to this device: keep-alives say the same as a hello. Who got something longest ago is forgotten.
 */
static bool given_lately(uint32_t device)
{
    static struct given {
        uint32_t device;
        int64_t ns; /* 0: none */
    } given[GIVEN];
    int64_t now = ss_clock_mono_ns();
    int to = 0;
    for (int i = 0; i < GIVEN; i++) {
        if (given[i].ns && given[i].device == device && now - given[i].ns < MISSED_S * 1000000000LL)
            return true;
        if (given[i].ns < given[to].ns)
            to = i;
    }
    for (int i = 0; i < GIVEN; i++)
        if (given[i].ns && given[i].device == device)
            to = i;
    given[to] = (struct given){device, now};
    return false;
}

/* Who says hello says which version it has; what it has missed goes to it alone. */
static int put_missed(const ss_record *hello, ss_err *e)
{
    if (!t.share || !ss_attr_has(&hello->attrs, SS_ATTR_VERSION_FROM) || !allowed() ||
        given_lately(hello->device))
        return SS_OK;
    uint64_t version = ss_attr_uint(&hello->attrs, SS_ATTR_VERSION_FROM, 0);
    ss_record to = *hello;
    int rc = ss_share_since(t.share, version, give, &to, e);
    if (rc == 0)
        tool_warn("device %" PRIu32 " has version %" PRIu64 " of the weights, which does not lead to %" PRIu64
                  ": give it a copy of '%s'",
                  hello->device, version, t.m->synchronised, t.set->model);
    return rc < 0 ? rc : SS_OK;
}

/* How it goes, once a second at most; u NaN: no window has come. */
static void tell(float u)
{
    ss_err e;
    int64_t now = ss_clock_mono_ns();
    if (!t.state || now - t.told_ns < 1000000000)
        return;
    t.told_ns = now;
    int rc = isnan(u) ? SS_OK : ss_state_put_real(t.state, "uncertainty.server", (double)u, &e);
    if (!rc)
        rc = ss_state_put_real(t.state, "windows", (double)t.windows, &e);
    if (!rc)
        rc = ss_state_put_real(t.state, "generation", (double)t.m->generation, &e);
    if (!rc)
        rc = ss_state_put_real(t.state, "version", (double)t.m->synchronised, &e);
    if (!rc && t.stepped)
        rc = ss_state_put_real(t.state, "loss", t.loss, &e);
    if (rc < 0)
        tool_warn("%s", e.text);
}

static int open_share(ss_err *e)
{
    char dir[4096];
    ss_err why;
    if (!t.set->sync_every || !t.set->checkpoint)
        return SS_OK;
    if (snprintf(dir, sizeof dir, "%s.deltas", t.set->checkpoint) >= (int)sizeof dir)
        return ss_err_set(e, SS_EINVAL, "--checkpoint: the name is too long");
    int rc = ss_share_open(&t.share, t.m, dir, t.set->sync_levels, KEPT, &why);
    if (rc < 0)
        *e = why;
    else if (rc > 0)
        tool_warn("%s", why.text);
    return rc < 0 ? rc : SS_OK;
}

/* Where a data record is cut; its values into t.in. SS_EUNFIT: it is none for this model. */
static int unpack(const ss_record *rec, int *cut, ss_err *e)
{
    uint64_t stamp = ss_attr_uint(&rec->attrs, SS_ATTR_SPLIT, SS_CUT_EMBEDDING + 1);
    if (!strcmp(t.kind, "logmel"))
        stamp = SS_CUT_INPUT; /* the stamp says where it is to be cut */
    else if (!strcmp(t.kind, "embedding") && stamp > SS_CUT_EMBEDDING)
        stamp = SS_CUT_EMBEDDING;
    if (stamp > SS_CUT_EMBEDDING)
        return ss_err_set(e, SS_EUNFIT, "not stamped with the cut it is at");
    *cut = (int)stamp;
    int rc = runner_check_shape(&t.m->config, rec, *cut, e);
    return rc ? rc : runner_decode(&t.codecs, t.m, rec, *cut, t.volume[*cut], t.in, e);
}

static int32_t label_of(const ss_record *rec)
{
    uint64_t i = ss_attr_uint(&rec->attrs, SS_ATTR_LABEL, UINT64_MAX);
    return t.set->labels && i < t.nlabels ? t.label_id[i] : -1;
}

/* Versions by which the device's weights were behind those given out when the record came. */
static uint64_t behind(const ss_record *rec)
{
    uint64_t here = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_TO, 0),
             there = ss_attr_uint(&rec->attrs, SS_ATTR_VERSION_FROM, here);
    return there < here ? here - there : 0;
}

/* A data record whose values are in t.in, new to its source. */
static int learn(ss_record *rec, int cut, int64_t begun, ss_err *e)
{
    uint64_t none = UINT64_MAX, clip = ss_attr_uint(&rec->attrs, SS_ATTR_CLIP, none);
    ss_refiner_item item = {.device = rec->device,
                            .epoch = rec->epoch,
                            .seq = rec->seq,
                            .clip = clip == none ? -1 : (int64_t)clip,
                            .label = label_of(rec),
                            .cut = cut,
                            .x = t.in};
    ss_mixture_score score;
    ss_err why;
    bool late = cut == SS_CUT_EMBEDDING && behind(rec) > (uint64_t)t.set->lag;
    int rc = (late ? ss_refiner_rate : ss_refiner_window)(t.refiner, &item, t.z, &score, &why);
    t.late += late && rc >= 0;
    if (rc < 0) { /* of no use, but it has come */
        if (!t.nonfinite_said)
            tool_warn("device %" PRIu32 ": %s: passed over", rec->device, why.text);
        t.nonfinite_said = true;
        return SS_OK;
    }
    t.windows++;
    t.unsaved++;
    t.unshared++;
    t.sum_u += (double)score.u;
    t.sum_novelty += (double)score.novelty;
    t.sum_count++;
    if (t.live) {
        rc = put_embedding(rec, &score, begun, e);
        rc = rc ? rc : put_result(rec, &score, begun, e);
        rc = rc ? rc : put_mixture(e);
    }
    if (ss_refiner_due(t.refiner)) {
        /* A step takes as long as many windows, so what is ready goes first. It is taken also when the reader
         * has gone: what is saved then is the state after a window that is done with. */
        if (t.live && !rc)
            rc = commit(e);
        if (t.live && !rc)
            rc = ss_writer_flush(t.w, e);
        int failed = step(rc ? &why : e);
        rc = rc ? rc : failed;
        rc = rc ? rc : put_delta(e);
    }
    if (t.live)
        tell(score.u);
    return rc ? rc : save_when_due(true, e);
}

/* Data and gaps: from the stream, or once more from the journal. */
static int hear(const ss_record *in, ss_err *e)
{
    ss_record rec = *in;
    int cut = 0, rc = SS_OK;
    int64_t begun = t.live ? ss_stage_begin(&rec.attrs, SS_ATTR_W_FINISH) : 0;
    source *s = source_of(rec.device, rec.epoch);
    uint64_t count = rec.type == SS_TYPE_GAP ? ss_attr_uint(&rec.attrs, SS_ATTR_COUNT, 1) : 1;
    uint64_t end = rec.seq + (count ? count - 1 : 0);
    int64_t last = end < rec.seq || end > INT64_MAX ? INT64_MAX : (int64_t)end;
    t.wanting = true;
    s->unsaid = 1;
    s->heard_ns = begun;
    if (rec.seq > INT64_MAX || last <= s->seq) { /* who sends it again has not seen that it is durable */
        t.over += rec.type == SS_TYPE_DATA;
        return SS_OK;
    }
    if (rec.type == SS_TYPE_DATA)
        rc = unpack(&rec, &cut, e);
    if (rc < 0 && !t.live && rec.dtype == SS_DTYPE_PACKED) { /* the model has had new codecs since */
        tool_warn("device %" PRIu32 ", record %" PRIu64 " of the journal: %s: passed over", rec.device,
                  rec.seq, e->text);
        s->seq = last;
        return SS_OK;
    }
    if (rc < 0)
        return rc;
    if (t.live) { /* the journal has to know what the record was held against */
        ss_attr_clear(&rec.attrs, SS_ATTR_VERSION_TO);
        if (t.share)
            ss_attr_set_uint(&rec.attrs, SS_ATTR_VERSION_TO, t.m->synchronised);
        append(&rec);
    }
    s->seq = last;
    return rec.type == SS_TYPE_DATA ? learn(&rec, cut, begun, e) : SS_OK;
}

/* ---- journal ---- */

static int take_labels(const ss_header *h, ss_err *e)
{
    int32_t *id = ss_alloc(h->nlabels, sizeof *id);
    if (!id)
        return ss_err_set(e, SS_ENOMEM, "no memory for %" PRIu32 " labels", h->nlabels);
    for (uint32_t i = 0; i < h->nlabels; i++)
        id[i] = (int32_t)(ss_crc32c(0, h->labels[i], strlen(h->labels[i])) & 0x7fffffff);
    ss_free(t.label_id);
    t.label_id = id;
    t.nlabels = h->nlabels;
    memcpy(t.kind, h->kind, sizeof t.kind);
    return SS_OK;
}

static int fits(const ss_header *h, ss_err *e)
{
    char arch[17];
    ss_model_arch_hash(&t.m->config, arch);
    if (*h->frontend_hash && !*t.m->frontend_hash)
        memcpy(t.m->frontend_hash, h->frontend_hash, sizeof t.m->frontend_hash);
    if (*h->frontend_hash && strcmp(t.m->frontend_hash, h->frontend_hash))
        return ss_err_set(e, SS_EUNFIT, "features of front end %s, the model was made for %s",
                          h->frontend_hash, t.m->frontend_hash);
    if (*h->arch_hash && strcmp(h->kind, "logmel") && strcmp(h->arch_hash, arch))
        return ss_err_set(e, SS_EUNFIT,
                          "the stream comes from a network of architecture %s, model '%s' is of %s",
                          h->arch_hash, t.set->model, arch);
    return take_labels(h, e);
}

/* What came after the state was saved, by the same way and in the same order as it came. */
static int replay(ss_err *e)
{
    ss_journal_cursor *c;
    const ss_record *rec;
    ss_err why;
    uint64_t windows = t.windows;
    int rc = ss_journal_cursor_open(&c, t.journal, t.place, e);
    if (rc < 0)
        return rc;
    if (ss_journal_first(t.journal) > t.place)
        tool_warn("'%s' begins with record %" PRIu64 ", the state goes to %" PRIu64, t.set->journal,
                  ss_journal_first(t.journal), t.place);
    while ((rc = ss_journal_cursor_next(c, &rec, &why)) != 0) {
        if (rc == SS_EDAMAGED) {
            tool_warn("%s: going on behind it", why.text);
            continue;
        }
        if (rc == 2 && (rc = fits(ss_journal_cursor_header(c), &why)) == 0)
            rc = 1;
        t.place = ss_journal_cursor_index(c);
        if (rc > 0)
            rc = hear(rec, &why);
        if (rc < 0)
            break;
    }
    ss_journal_cursor_close(&c);
    if (rc < 0) {
        *e = why;
        return ss_err_prefix(e, "journal '%s'", t.set->journal);
    }
    if (t.windows > windows)
        tool_info("%" PRIu64 " windows learnt from anew, out of '%s'", t.windows - windows, t.set->journal);
    rc = ss_journal_sync(t.journal, e); /* who was killed may have left it to the system's memory */
    if (!rc)
        all_durable();
    return rc;
}

static int open_journal(ss_err *e)
{
    ss_err why;
    if (!t.set->journal)
        return SS_OK;
    /* What the state has heard, a journal that broke, or was removed, may not have: its numbers are not used
     * again. */
    const ss_journal_config c = {.next = t.place};
    int rc = ss_journal_open(&t.journal, t.set->journal, &c, &why);
    if (rc < 0) {
        *e = why;
        return rc;
    }
    if (rc > 0)
        tool_warn("%s", why.text);
    return replay(e);
}

/* ---- the stream ---- */

/* A hello: who speaks is told what is durable of him. */
static int answer(const ss_record *rec, ss_err *e)
{
    int rc = commit(e), i = find_source(rec->device, rec->epoch);
    int64_t durable = i < 0 ? -1 : t.source[i].durable;
    ss_record resume = {.type = SS_TYPE_RESUME,
                        .device = rec->device,
                        .epoch = rec->epoch,
                        .seq = durable < 0 ? 0 : (uint64_t)durable};
    if (durable < 0)
        ss_attr_set_uint(&resume.attrs, SS_ATTR_COUNT, 0);
    rc = rc ? rc : put(&resume, e);
    rc = rc ? rc : put_missed(rec, e);
    return rc ? rc : put_gradients_again(rec, e);
}

static int take(const ss_record *rec, ss_err *e)
{
    int rc = SS_OK;
    if (rec->type == SS_TYPE_DATA || rec->type == SS_TYPE_GAP)
        rc = hear(rec, e);
    else if (rec->type == SS_TYPE_KEEPALIVE)
        rc = answer(rec, e);
    if (rc < 0 && rc != SS_EIO)
        ss_err_prefix(e, "record %" PRIu64, ss_reader_count(t.r) - 1);
    bool full = t.waiting >= GROUP || (t.waiting && ss_clock_mono_ns() - t.waiting_ns > GROUP_MS * 1000000LL);
    return !rc && full ? commit(e) : rc;
}

/* Nothing is there to be read: what is held goes out, and time passes. */
static int idle(ss_err *e)
{
    int fd = tool_reader_fd();
    while (!ss_reader_ready(t.r) && !tool_stop) {
        int rc = commit(e);
        rc = rc ? rc : save_when_due(false, e);
        int64_t left = KEEPALIVE_MS - (ss_clock_mono_ns() - t.put_ns) / 1000000;
        if (!rc && left <= 0) {
            const ss_record alive = {.type = SS_TYPE_KEEPALIVE};
            rc = put(&alive, e);
            left = KEEPALIVE_MS;
            tell(NAN); /* who watches the state directory sees it live */
        }
        rc = rc ? rc : ss_writer_flush(t.w, e);
        if (!rc && t.embeddings)
            rc = ss_writer_flush(t.embeddings, e);
        if (rc < 0)
            return rc;
        struct pollfd f = {fd, POLLIN, 0};
        /* What is there and is no whole record is waited for by the reader. */
        if (poll(&f, 1, (int)left) > 0 && !ss_reader_ready(t.r))
            return SS_OK;
    }
    return SS_OK;
}

static int run(ss_err *e)
{
    const ss_record *rec;
    int rc;
    t.live = true;
    double hour = (double)t.set->sync_budget, second = (double)t.set->gradient_budget;
    t.steps = owner_budget(t.set->budget);
    t.gradients = tool_budget_of(second, second, 0);
    t.deltas = tool_budget_of(hour / 3600, hour, hour); /* one that takes more is paid off before the next */
    t.pace.saved_ns = t.put_ns = ss_clock_mono_ns();
    for (;;) {
        rc = idle(e);
        if (!rc)
            rc = ss_reader_next(t.r, &rec, e);
        if (rc > 0) {
            int failed = take(rec, e);
            rc = failed < 0 ? failed : 1;
        }
        t.reader_gone |= rc == SS_EIO && errno == EPIPE;
        if (rc <= 0)
            return rc;
        tool_progress("%" PRIu64 " windows heard, loss %.3f", t.windows, t.loss);
    }
}

/* ---- opening and closing ---- */

static int resume(ss_err *e)
{
    const char *path = t.set->checkpoint;
    ss_checkpoint *c;
    uint64_t generation = 0;
    int rc = owner_checkpoint(&c, path, e);
    if (rc < 0)
        return rc;
    if (!c)
        return t.share ? ss_share_load(t.share, NULL, e) : SS_OK;
    rc = get_state(c, &generation, e);
    ss_checkpoint_close(&c);
    if (rc < 0)
        return ss_err_prefix(e, "cannot go on from '%s'", path);
    rc = ss_refiner_store_mixture(t.refiner, e);
    return rc ? rc : owner_goes_on(t.m, t.set->model, path, t.windows, generation, e);
}

static int open_model(ss_err *e)
{
    ss_err why;
    int previous;
    int rc = ss_model_load_any(&t.m, t.set->model, &previous, &why);
    if (rc < 0) {
        *e = why;
        return rc;
    }
    if (previous)
        tool_warn("%s; the one before it is taken", why.text);
    rc = tool_set.threads == 1 ? SS_OK : ss_pool_open(&t.pool, tool_set.threads, e);
    return rc ? rc : ss_refiner_create(&t.refiner, &t.set->config, t.m, t.pool, e);
}

static int open_embeddings(const ss_header *h, ss_err *e)
{
    ss_header own = {0};
    if (!t.set->embeddings)
        return SS_OK;
    t.embeddings_fd = open(t.set->embeddings, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (t.embeddings_fd < 0)
        return ss_err_errno(e, "cannot open '%s'", t.set->embeddings);
    int rc = ss_header_copy(&own, h, e);
    snprintf(own.kind, sizeof own.kind, "embedding");
    if (!rc)
        rc = ss_writer_open(&t.embeddings, t.embeddings_fd, &own, e);
    ss_header_clear(&own);
    return rc;
}

static int open_streams(const char *input, ss_err *e)
{
    const ss_header *in;
    ss_header out = {0};
    int rc = tool_reader(&t.r, input, "logmel|cut|embedding", &in, e);
    if (!rc)
        rc = fits(in, e);
    if (!rc && t.journal)
        rc = ss_journal_header(t.journal, in, e);
    if (!rc)
        rc = ss_header_copy(&out, in, e);
    if (!rc) {
        ss_model_arch_hash(&t.m->config, out.arch_hash);
        rc = tool_writer(&t.w, t.r, &out, "return", e);
    }
    if (!rc)
        rc = open_embeddings(&out, e);
    ss_header_clear(&out);
    return rc;
}

static int open_all(const char *input, ss_err *e)
{
    t.owner = owner_take(t.set->model, true, e);
    int rc = t.owner < 0 ? t.owner : open_model(e);
    for (int c = SS_CUT_INPUT; c <= SS_CUT_EMBEDDING && !rc; c++)
        t.volume[c] = ss_model_cut_size(&t.m->config, c);
    size_t most = rc ? 0 : ss_model_largest_cut(&t.m->config);
    t.in = ss_alloc(most, sizeof *t.in);
    t.z = ss_alloc(most, sizeof *t.z);
    t.packed = ss_alloc(most, sizeof *t.z);
    if (!rc && (!t.in || !t.z || !t.packed))
        rc = ss_err_set(e, SS_ENOMEM, "no memory for a record");
    if (!rc && t.set->log && !(t.log = fopen(t.set->log, "ae")))
        rc = ss_err_errno(e, "cannot open '%s'", t.set->log);
    if (!rc && t.set->state)
        rc = ss_state_open(&t.state, t.set->state, e);
    if (!rc)
        rc = open_share(e);
    if (!rc)
        rc = resume(e);
    if (!rc)
        rc = open_journal(e);
    return rc ? rc : open_streams(input, e);
}

static int close_embeddings(int rc, ss_err *e)
{
    ss_err late;
    int end = SS_OK;
    if (t.embeddings)
        end = rc < 0 ? ss_writer_flush(t.embeddings, &late) : ss_writer_end(t.embeddings, &late);
    ss_writer_close(&t.embeddings);
    if (t.embeddings_fd >= 0 && close(t.embeddings_fd) && !end)
        end = ss_err_errno(&late, "cannot write '%s'", t.set->embeddings);
    if (end < 0 && rc >= 0) {
        *e = late;
        return end;
    }
    return rc;
}

/* Also after a failure: what came before it was sound. That it was not saved does not spoil the stream. */
static int finish(int rc, ss_err *e)
{
    ss_err late;
    int saved = SS_OK;
    if (t.live) {
        int said = t.reader_gone ? SS_OK : commit(&late);
        if (said < 0 && rc >= 0) {
            rc = said;
            *e = late;
        }
        saved = t.unsaved ? save(&late) : SS_OK;
        if (saved >= 0 && said >= 0 && !t.reader_gone)
            acknowledge(&late); /* a failure shows at the end of the stream */
    }
    if (t.over)
        tool_info("%" PRIu64 " windows that had been learnt from before were passed over", t.over);
    if (t.late)
        tool_info("%" PRIu64 " embeddings of weights that were too old were not learnt from", t.late);
    if (t.held_back)
        tool_info("%" PRIu64 " gradients were held back, for want of budget", t.held_back);
    if (t.log && (ferror(t.log) | fclose(t.log)))
        tool_warn("cannot write '%s'", t.set->log);
    rc = close_embeddings(rc, e);
    if (t.journal) {
        ss_err why;
        if (ss_journal_close(&t.journal, &why) < 0)
            tool_warn("%s", why.text);
    }
    if (!t.reader_gone) {
        errno = 0;
        rc = tool_writer_finish(&t.w, rc, e);
        t.reader_gone = rc == SS_EIO && errno == EPIPE;
    }
    if (saved < 0 && (rc < 0 || t.reader_gone)) {
        tool_warn("not saved: %s", late.text);
    } else if (saved < 0) {
        rc = saved;
        *e = late;
    }
    return rc;
}

int refine_run(const refine_settings *s, const char *input, ss_err *e)
{
    t.set = s;
    t.pace = (owner_pace){.windows = s->save_windows, .seconds = s->save_seconds};
    /* A reader that goes must not take with it what was learnt: it is saved first. */
    signal(SIGPIPE, SIG_IGN);
    int rc = open_all(input, e);
    if (!rc)
        rc = run(e);
    tool_progress(NULL);
    rc = finish(rc, e);
    if (t.reader_gone) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    ss_reader_close(&t.r);
    ss_refiner_free(t.refiner);
    ss_share_close(t.share);
    ss_state_close(&t.state);
    ss_pool_close(&t.pool);
    ss_model_free(t.m);
    ss_free(t.in);
    ss_free(t.z);
    ss_free(t.packed);
    runner_codecs_close(&t.codecs);
    ss_free(t.label_id);
    if (t.owner >= 0)
        close(t.owner);
    return rc;
}
