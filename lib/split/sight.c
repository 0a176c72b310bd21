#include "split/sight.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/stream.h"
#include "nn/codec.h"

#define SHARP 0.25 /* of an input's range */

static const char *const names[SS_SIGHT_INPUTS] = {
    "u",           "cpu",   "cpu-trend", "bandwidth", "bandwidth-trend", "bandwidth-age", "rtt",   "queue",
    "queue-trend", "drain", "behind",    "held",      "radio",           "device",        "bytes", "holds"};

const char *ss_sight_name(int input)
{
    return input >= 0 && input < SS_SIGHT_INPUTS ? names[input] : NULL;
}

int ss_sight_find(const char *name)
{
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

static double held(double v, double low, double high)
{
    return fmin(fmax(v, low), high);
}

static double or_else(double v, double neutral)
{
    return isnan(v) ? neutral : v;
}

static double bandwidth_of(double b)
{
    return b > 8e3 ? fmin(log2(b / 8e3) / 12, 1) : 0;
}

static double queue_of(double bytes)
{
    return fmin(log2(1 + or_else(bytes, 0) / 256) / 14, 1);
}

void ss_sight_inputs(const ss_sight *v, const ss_sight_scale *s, const ss_split_action *a,
                     float x[SS_SIGHT_INPUTS])
{
    double bandwidth = bandwidth_of(or_else(v->bandwidth, 0)), queue = or_else(v->queue, 0);
    double cpu = held(or_else(v->cpu, 0.5), 0, 1);
    double drain = 8 * queue / fmax(or_else(v->bandwidth, 0), 8e3);
    x[SS_SIGHT_U] = (float)held(or_else(v->u, 0.5), 0, 1);
    x[SS_SIGHT_CPU] = (float)cpu;
    x[SS_SIGHT_CPU_TREND] = (float)(cpu - held(or_else(v->then_cpu, cpu), 0, 1));
    x[SS_SIGHT_BANDWIDTH] = (float)bandwidth;
    x[SS_SIGHT_BANDWIDTH_TREND] =
        (float)(isnan(v->then_bandwidth) ? 0 : bandwidth - bandwidth_of(v->then_bandwidth));
    x[SS_SIGHT_BANDWIDTH_AGE] = (float)held(or_else(v->bandwidth_age, 0) / 60, 0, 1);
    x[SS_SIGHT_RTT] = (float)fmin(log2(1 + or_else(v->rtt, 50) / 10) / 6, 1);
    x[SS_SIGHT_QUEUE] = (float)queue_of(queue);
    x[SS_SIGHT_QUEUE_TREND] = (float)(queue_of(queue) - queue_of(or_else(v->then_queue, queue)));
    x[SS_SIGHT_DRAIN] = (float)fmin(log2(1 + 10 * drain) / 12, 1);
    x[SS_SIGHT_BEHIND] = (float)held(or_else(v->behind, 0) / 2, 0, 1);
    x[SS_SIGHT_HELD] = (float)(s->hold ? held(or_else(v->held, 0) / s->hold, 0, 1) : 0);
    x[SS_SIGHT_RADIO] =
        (float)(s->tail_s > 0 ? held(1 - or_else(v->since_sent, s->tail_s) / s->tail_s, 0, 1) : 0);
    x[SS_SIGHT_DEVICE] = (float)(v->action < 0 ? 0 : held(a[v->action].device_ms / s->hop_ms, 0, 1));
    x[SS_SIGHT_BYTES] = (float)(v->action < 0 ? 0 : fmin(log2(1 + a[v->action].bytes / 64) / 12, 1));
    x[SS_SIGHT_HOLDS] = v->action >= 0 && a[v->action].hold;
}

void ss_sight_decide(ss_sight *v, int action)
{
    v->action = action;
    v->then_cpu = v->cpu;
    v->then_bandwidth = v->bandwidth;
    v->then_queue = v->queue;
}

bool ss_sight_sharp(const ss_sight *v)
{
    return fabs(or_else(v->cpu, 0.5) - or_else(v->then_cpu, 0.5)) >= SHARP ||
           fabs(bandwidth_of(v->bandwidth) - bandwidth_of(v->then_bandwidth)) >= SHARP ||
           fabs(queue_of(v->queue) - queue_of(v->then_queue)) >= SHARP;
}

double ss_sight_late(double behind, const ss_split_action *a, double cpu, double hop_ms)
{
    double left = 1 - held(or_else(cpu, 0) - a->load, 0, 0.98);
    return held(behind + (a->device_ms / left - hop_ms) / 1e3, 0, 60);
}

/* Packed before there are features. */
static bool of_sound(const char *codec)
{
    static const char *const codecs[] = {"opus", "flac", "pcm", "logmel-u8"};
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
        if (!strncmp(codec, codecs[i], strlen(codecs[i])))
            return true;
    return false;
}

/* Is b as good as a in everything, or as near as measuring can tell? Both of one cut. */
static bool as_good(const ss_profile *p, const ss_profile_choice *a, const ss_profile_choice *b)
{
    double qa = ss_profile_quality(p, a), qb = ss_profile_quality(p, b);
    bool by_u = !isnan(a->u_low) && !isnan(b->u_low);
    return b->bytes.mean <= a->bytes.mean && b->device_ms.median <= 1.05 * a->device_ms.median + 0.1 &&
           (isnan(a->server_ms.median) || b->server_ms.median <= 1.05 * a->server_ms.median + 0.1) &&
           qb >= qa - 0.002 && (!by_u || (b->u_low >= a->u_low - 0.005 && b->u_high >= a->u_high - 0.005));
}

/* Another codec of the cut, that stays, is as good. */
static bool idle_codec(const ss_profile *p, size_t i, const bool *left_out)
{
    for (size_t k = 0; k < p->n; k++)
        if (k != i && !left_out[k] && p->choice[k].cut == p->choice[i].cut && !of_sound(p->choice[k].codec) &&
            as_good(p, &p->choice[i], &p->choice[k]))
            return true;
    return false;
}

int ss_split_actions(const ss_profile *p, bool sound, int hold, ss_split_action *a)
{
    bool left_out[SS_PROFILE_MAX_CHOICES] = {false};
    int n = 0, least = -1;
    for (size_t i = 0; i < p->n; i++) {
        const ss_profile_choice *c = &p->choice[i];
        left_out[i] = !of_sound(c->codec) ? idle_codec(p, i, left_out) : !sound;
        if (left_out[i])
            continue;
        a[n] = (ss_split_action){.cut = c->cut, .device_ms = c->device_ms.median, .bytes = c->bytes.mean};
        a[n].load =
            fmin(c->device_ms.median / p->hop_ms * fmin((double)p->device.threads / p->energy.cores, 1), 1);
        memcpy(a[n].codec, c->codec, sizeof a[n].codec);
        if (c->cut == SS_CUT_EMBEDDING && (least < 0 || a[n].bytes < a[least].bytes))
            least = n;
        n++;
    }
    if (hold > 0 && least >= 0) {
        a[n] = a[least];
        a[n++].hold = hold;
    }
    return n;
}

int ss_split_action_codec(const ss_split_action *a)
{
    return ss_codec_parse(a->codec);
}

const char *ss_split_action_name(const ss_split_action *a, char to[48])
{
    snprintf(to, 48, "%s/%s%s", ss_cut_name(a->cut), a->codec, a->hold ? "+hold" : "");
    return to;
}
