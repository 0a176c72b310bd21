#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "split/learned.h"
#include "split/policy.h"
#include "sys/load.h"
#include "sys/state.h"

#define LOOK_NS ((int64_t)20 * 1000000)   /* from look to look at the state directory, at least */
#define LOAD_NS ((int64_t)1000 * 1000000) /* from measure to measure of the load */

static const char *kind = "heuristic", *sign = "sane", *cut = "4", *state_path, *learned_path;
static double bandwidth_max = 1e7, stale = 10;
static int every; /* 0: 10, or as the policy was trained */
static bool explain;

static const tool_option options[] = {
    {"policy", 0, OPT_CHOICE, &kind, 0, 0, "fixed|heuristic|file", "what decides, unless S/set/split does",
     NULL},
    {"cut", 0, OPT_STRING, &cut, 0, 0, "CUT,...", "fixed, file: input, 0..8 or embedding; several take turns",
     NULL},
    {"learned", 'p', OPT_STRING, &learned_path, 0, 0, "FILE",
     "policy of ss-train-policy; --policy decides while its inputs are missing", NULL},
    {"sign", 0, OPT_CHOICE, &sign, 0, 0, "sane|paper", "heuristic: sends less when sending is dear, or cheap",
     NULL},
    {"state", 0, OPT_STRING, &state_path, 0, 0, "DIR", "state directory", NULL},
    {"bandwidth-max", 0, OPT_REAL, &bandwidth_max, 1, 1e15, "BIT/S", "at and above it sending counts as free",
     NULL},
    {"every", 0, OPT_INT, &every, 1, 1 << 20, "N",
     "windows from decision to decision (default: 10, or the policy's)", NULL},
    {"stale", 0, OPT_REAL, &stale, 0.01, 1e9, "S", "what has not changed for longer is not known", NULL},
    {"explain", 0, OPT_FLAG, &explain, 0, 0, NULL, "each decision and its inputs on standard error", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-split-policy", "[FILE]",
                                     "Stamp each window with the cut that suits load and link.",
                                     TAKES_OUTPUT | TAKES_STREAM, options};

static struct splitter {
    ss_policy_config config;
    ss_policy policy;
    ss_policy_input in;
    int cuts[64], ncut, next; /* of --cut, taken in turn */
    double server_u;          /* the latest one that came back */
    ss_learned *learned;
    ss_decider decider;
    int64_t went_ns; /* when the last window went */
    uint64_t decisions;
    int64_t asked_ns; /* that they took */
    ss_state *state;
    ss_load *load;
    ss_load_sample measured;
    int64_t looked_ns, measured_ns;
    ss_reader *r;
    ss_writer *w;
    bool put_said, set_said, file_said, missing_said, codec_said;
} s;

static int parse_cuts(ss_err *e)
{
    for (const char *at = cut;; at++) {
        char name[16];
        size_t n = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
        int k = ss_cut_parse(name);
        if (k < 0)
            return ss_err_set(e, SS_EINVAL, "--cut: found '%.*s', expected input, 0..8 or embedding", (int)n,
                              at);
        if (s.ncut == sizeof s.cuts / sizeof *s.cuts)
            return ss_err_set(e, SS_EINVAL, "--cut: more than %d cuts", s.ncut);
        s.cuts[s.ncut++] = k;
        at += n;
        if (!*at)
            return SS_OK;
    }
}

static int configure(ss_err *e)
{
    int rc = parse_cuts(e);
    if (rc < 0)
        return rc;
    s.config = (ss_policy_config){.kind = !strcmp(kind, "fixed")  ? SS_POLICY_FIXED
                                          : !strcmp(kind, "file") ? SS_POLICY_FILE
                                                                  : SS_POLICY_HEURISTIC,
                                  .sign = strcmp(sign, "paper") ? SS_SIGN_SANE : SS_SIGN_PAPER,
                                  .cut = s.cuts[0],
                                  .bandwidth_max = bandwidth_max,
                                  .every = every ? every : 10};
    if (s.config.kind == SS_POLICY_FILE && !state_path)
        return ss_err_set(e, SS_EINVAL, "--policy=file needs --state: the cut is in its file set/split");
    ss_policy_init(&s.policy, &s.config);
    s.in = (ss_policy_input){NAN, NAN, NAN, NAN, -1};
    s.server_u = NAN;
    rc = learned_path ? ss_learned_open(&s.learned, learned_path, e) : SS_OK;
    if (!rc && s.learned)
        ss_decider_init(&s.decider, s.learned, every ? every : s.learned->every);
    if (!rc && state_path)
        rc = ss_state_open(&s.state, state_path, e);
    if (!rc)
        rc = ss_load_open(&s.load, NULL, e);
    if (!rc && ss_load_read(s.load, s.measured_ns = ss_clock_mono_ns(), &s.measured, e))
        tool_warn("%s", e->text);
    return rc;
}

/* ---- what is known ---- */

static void put_failed(int rc, const ss_err *e)
{
    if (rc < 0 && !s.put_said)
        tool_warn("%s", e->text);
    s.put_said = s.put_said || rc < 0;
}

static void measure(int64_t now)
{
    ss_err e;
    if (now - s.measured_ns < LOAD_NS)
        return;
    s.measured_ns = now;
    if (ss_load_read(s.load, now, &s.measured, &e))
        tool_warn("%s", e.text);
    if (s.state && !isnan(s.measured.load))
        put_failed(ss_state_put_real(s.state, "cpu", s.measured.load, &e), &e);
    if (s.state && !isnan(s.measured.pressure))
        put_failed(ss_state_put_real(s.state, "pressure", s.measured.pressure, &e), &e);
}

/* A number of the state directory, NaN when it is not known; what is wrong with it is said if it matters. */
static double number_of(const char *name, bool matters)
{
    ss_state_value v;
    ss_err e;
    int flags = ss_state_get(s.state, name, (int64_t)(stale * 1e9), &v, &e);
    if (matters && (flags < 0 || flags & SS_STATE_SAY))
        tool_warn("%s: it counts as %g of its range", e.text, SS_POLICY_UNKNOWN);
    return flags > 0 && flags & SS_STATE_THERE && !(flags & SS_STATE_STALE) ? v.number : NAN;
}

/* The value in the folder `set`; false when there is none. */
static bool by_hand(const char *name, ss_state_value *v)
{
    ss_err e;
    int flags = ss_state_get_set(s.state, name, v, &e);
    if (flags < 0 || flags & SS_STATE_SAY)
        tool_warn("%s", e.text);
    return flags > 0 && flags & SS_STATE_THERE;
}

static int cut_by_hand(void)
{
    ss_state_value v;
    bool there = by_hand("split", &v);
    int k = there ? ss_cut_parse(v.text) : -1;
    if (there && k < 0 && !s.set_said)
        tool_warn("'%s/set/split' is '%s', expected input, 0..8 or embedding: it is not obeyed", state_path,
                  v.text);
    s.set_said = s.set_said || (there && k < 0);
    if (!there && s.config.kind == SS_POLICY_FILE && !s.file_said) {
        tool_warn("'%s/set/split' is not there: the cut is %s until it is", state_path, cut);
        s.file_said = true;
    }
    return k < 0 ? -1 : k;
}

static bool by_novelty(void)
{
    return s.learned && s.learned->u.novelty;
}

/* What only a trained policy goes by. A bandwidth that is old is better than none: its age is known. */
static void look_further(void)
{
    ss_state_value v;
    ss_sight *to = &s.decider.view;
    int flags = ss_state_get(s.state, "bandwidth", 0, &v, NULL);
    bool there = flags > 0 && flags & SS_STATE_THERE && !isnan(v.number);
    to->bandwidth = there ? v.number : NAN;
    to->bandwidth_age = there ? (double)v.age_ns * 1e-9 : NAN;
    to->rtt = s.in.rtt = number_of("rtt", false);
    s.server_u = number_of(by_novelty() ? "novelty.server" : "uncertainty.server", false);
    if (isnan(s.server_u))
        s.server_u = number_of(by_novelty() ? "novelty.edge" : "uncertainty.edge", false);
    double queue = number_of("queue", false);
    to->queue = number_of("waiting", false);
    if (isnan(to->queue) && to->action >= 0)
        to->queue = queue * s.learned->action[to->action].bytes;
}

/* The cut and the load are this program's own to write, so only what is set by hand is read of them. */
static void look(void)
{
    ss_state_value v;
    int64_t now = ss_clock_mono_ns();
    measure(now);
    if (!s.state)
        s.in.cpu = s.measured.load;
    if (!s.state || (s.looked_ns && now - s.looked_ns < LOOK_NS))
        return;
    s.looked_ns = now;
    s.in.cpu = by_hand("cpu", &v) && !isnan(v.number) ? v.number : s.measured.load;
    s.in.bandwidth = number_of("bandwidth", s.config.kind == SS_POLICY_HEURISTIC && !s.learned);
    if (s.learned)
        look_further();
    else if (explain) { /* no other policy goes by them */
        s.in.rtt = number_of("rtt", false);
        s.server_u = number_of("uncertainty.server", false);
    }
    s.in.set = cut_by_hand();
}

/* ---- records ---- */

static const char *known(double v, char to[32])
{
    snprintf(to, 32, "%.4g", v);
    return isnan(v) ? "-" : to;
}

static void say(const ss_record *rec, int before, int why, const ss_policy_wish *w)
{
    char cpu[32], bandwidth[32], rtt[32], u[32], pressure[32], x[32];
    tool_error("window %" PRIu64 ": cut %s -> %s, %s: cpu %s, bandwidth %s, rtt %s, %s %s, pressure %s; "
               "counts as cpu %.3f, bw %.3f, x %s",
               rec->seq, before < 0 ? "-" : ss_cut_name(before), ss_cut_name(s.policy.cut),
               ss_policy_why_name(why), known(s.in.cpu, cpu), known(s.in.bandwidth, bandwidth),
               known(s.in.rtt, rtt), ss_u_name(by_novelty()), known(s.in.u, u),
               known(s.measured.pressure, pressure), w->cpu, w->bw, known(w->x, x));
}

/* The three that are preferred most. */
static void say_preferred(char *to, size_t room)
{
    char name[48];
    double sum = 0;
    const float *p = s.decider.preference;
    int n = s.learned->net.out, last = -1;
    size_t at = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)(p[i] - p[s.decider.view.action]));
    for (int k = 0; k < 3 && k < n; k++) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if ((last < 0 || p[i] < p[last] || (!(p[i] > p[last]) && i > last)) &&
                (best < 0 || p[i] > p[best]))
                best = i;
        last = best;
        at += (size_t)snprintf(to + at, room - at, "%s %s %.2f", k ? "," : "",
                               ss_split_action_name(&s.learned->action[best], name),
                               exp((double)(p[best] - p[s.decider.view.action])) / sum);
    }
}

static void say_learned(const ss_record *rec, int before, int why)
{
    const ss_sight *v = &s.decider.view;
    char was[48], is[48], cpu[32], bandwidth[32], age[32], rtt[32], u[32], queue[32], preferred[256];
    say_preferred(preferred, sizeof preferred);
    tool_error("window %" PRIu64
               ": %s -> %s, %s: cpu %s, bandwidth %s of %s s ago, rtt %s, queue %s, rank of %s %s, "
               "held %.0f, late %.2f s; prefers%s",
               rec->seq, before < 0 ? "-" : ss_split_action_name(&s.learned->action[before], was),
               ss_split_action_name(&s.learned->action[v->action], is), ss_policy_why_name(why),
               known(v->cpu, cpu), known(v->bandwidth, bandwidth), known(v->bandwidth_age, age),
               known(v->rtt, rtt), known(v->queue, queue), ss_u_name(by_novelty()), known(v->u, u), v->held,
               v->behind, preferred);
}

/* The trained policy's word on this window: why, or -1: it has none, and the other one decides. */
static int ask_learned(const ss_record *rec)
{
    ss_decider *d = &s.decider;
    ss_sight *v = &d->view;
    int64_t now = ss_clock_mono_ns();
    v->cpu = s.in.cpu;
    v->u = isnan(s.in.u) ? s.in.u : ss_u_rank(&s.learned->u, s.in.u);
    if (s.in.set >= 0 || !ss_learned_can(v)) {
        if (s.in.set < 0 && !s.missing_said) {
            tool_warn("the bandwidth is not known: --policy=%s decides until it is", kind);
            s.missing_said = true;
        }
        ss_decider_pause(d);
        return -1;
    }
    if (v->action >= 0)
        ss_decider_went(d, (double)(now - s.went_ns) * 1e-9);
    s.went_ns = now;
    int before = v->action, why = ss_decider_step(d);
    if (!why)
        return why;
    s.decisions++;
    s.asked_ns += ss_clock_mono_ns() - now;
    if (explain)
        say_learned(rec, before, why);
    return why;
}

static void put_decision(const ss_record *rec, const char *what, const char *codec, int hold)
{
    ss_err e;
    if (!s.state)
        return;
    put_failed(ss_state_put_seq_text(s.state, "split", rec->seq, what, &e), &e);
    if (!s.learned)
        return;
    put_failed(ss_state_put_seq_text(s.state, "split.codec", rec->seq, codec, &e), &e);
    put_failed(ss_state_put_seq(s.state, "split.hold", rec->seq, hold, &e), &e);
}

static void stamp_action(ss_record *rec, const ss_split_action *a)
{
    int codec = ss_split_action_codec(a);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, (uint64_t)a->cut);
    ss_attr_set_uint(&rec->attrs, SS_ATTR_HOLD, (uint64_t)a->hold);
    if (codec >= 0)
        ss_attr_set_uint(&rec->attrs, SS_ATTR_CODEC, (uint64_t)codec);
    else if (!s.codec_said) {
        tool_warn("codec '%s' of the policy has no number: windows are stamped with the cut alone", a->codec);
        s.codec_said = true;
    }
}

/* What the trained policy knows of a cut that another one has chosen for it: its codec of fewest bytes, or
 * NULL. */
static const ss_split_action *least_of(int at)
{
    const ss_split_action *least = NULL;
    for (int i = 0; s.learned && s.in.set < 0 && i < s.learned->net.out; i++) {
        const ss_split_action *a = &s.learned->action[i];
        if (a->cut == at && !a->hold && (!least || a->bytes < least->bytes))
            least = a;
    }
    return least;
}

static void decide(ss_record *rec)
{
    ss_policy_wish wish;
    int asked = s.learned ? ask_learned(rec) : -1;
    if (asked >= 0) {
        const ss_split_action *a = &s.learned->action[s.decider.view.action];
        if (asked)
            put_decision(rec, ss_cut_name(a->cut), a->codec, a->hold);
        stamp_action(rec, a);
        s.policy.cut = -1; /* the other one begins anew when it is asked again */
        return;
    }
    int before = s.policy.cut, why = ss_policy_step(&s.policy, &s.in, &wish);
    const ss_split_action *a = least_of(s.policy.cut);
    if (why) {
        s.policy.config.cut = s.cuts[++s.next % s.ncut];
        put_decision(rec, ss_cut_name(s.policy.cut), a ? a->codec : "-", 0);
    }
    if (why && explain)
        say(rec, before, why, &wish);
    if (a)
        stamp_action(rec, a);
    else
        ss_attr_set_uint(&rec->attrs, SS_ATTR_SPLIT, (uint64_t)s.policy.cut);
}

static int take(const ss_record *in, ss_err *e)
{
    ss_record rec = *in;
    if (rec.type != SS_TYPE_DATA)
        return ss_writer_put(s.w, &rec, e);
    int64_t begun = ss_stage_begin(&rec.attrs, SS_ATTR_W_POLICY);
    look();
    int attr = by_novelty() ? SS_ATTR_NOVELTY : SS_ATTR_U;
    s.in.u = ss_attr_has(&rec.attrs, attr) ? ss_attr_f32(&rec.attrs, attr, 0) : s.server_u;
    decide(&rec);
    ss_stage_end(&rec.attrs, SS_ATTR_T_POLICY, begun);
    return ss_writer_put(s.w, &rec, e);
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    const ss_header *h;
    const ss_record *rec;
    int first = tool_start(&program, argc, argv);
    if (argc - first > 1)
        tool_usage("one stream at most, found %d", argc - first);
    int rc = configure(&e);
    if (!rc)
        rc = tool_reader(&s.r, argv[first], "logmel", &h, &e);
    if (!rc)
        rc = tool_writer(&s.w, s.r, h, "logmel", &e);
    while (!rc && (rc = ss_reader_next(s.r, &rec, &e)) > 0)
        rc = take(rec, &e);
    rc = tool_writer_finish(&s.w, rc, &e);
    ss_reader_close(&s.r);
    ss_load_close(&s.load);
    ss_state_close(&s.state);
    if (s.decisions)
        tool_info("%" PRIu64 " decisions of the trained policy, %.2f us each", s.decisions,
                  (double)s.asked_ns / 1e3 / (double)s.decisions);
    ss_learned_free(s.learned);
    return tool_finish(rc, &e);
}
