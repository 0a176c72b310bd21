/**
 * What each choice of a cut and a codec costs and keeps on one device, and on its server: a file of JSON that
 * ss-profile writes, and from which policies are trained. Read strictly: unknown members, numbers out of
 * range, choices that come twice, spans and quantiles out of order are refused.
 *
 *   {"format":"streamsplit-profile","version":1,
 *    "model":{"architecture":16 digits 0-9a-f,"width":0.25,"mels":64,"frames":96,"generation":12},
 *    "hop_ms":480,"windows":200,
 *    "device":{"name":..,"cpu":..,"threads":1},"server":the same or null,
 *    "energy":{"source":"model"|"rapl"|"battery","device":..,"idle_w":2.2857,"cpu_w":4.5344,
 *              "cores":4,"citation":..,
 *              "radio":{"name":"wifi","base_w":0.064,"w_per_mbit":0.004813,"tail_s":0,"tail_w":0}},
 *    "quality":{"measure":"probe"|"cosine","full":0.83},
 *    "u":{"of":"novelty"|"u","p5":..,"p25":..,"median":..,"p75":..,"p95":..,"drift":0.8},      (optional, and
 *         of it "of", which is "u" then, and drift)
 *    "choices":[{"cut":"4","codec":"b16i8","device_ms":{"min":..,"median":..,"p95":..},
 *                "server_ms":the same or null,
 *                "bytes":{"mean":..,"min":..,"p5":..,"median":..,"p95":..,"max":..},
 *                "cosine":{"mean":..,"p5":..},"probe":0.81 or null,
 *                "by_u":{"low":..,"high":..}},...]}                                      (by_u is optional)
 *
 * device_ms is the time from the features of a window to the bytes of its record, server_ms from those to the
 * embedding, bytes those of a whole record on the wire. Units: ms, bytes, W, W per Mbit/s, s.
 * u are the quantiles of the uncertainty on the sound that was profiled, `of` says by which attribute of a
 * record, and its drift is the correlation of its rank from window to window. full is the quality of the
 * whole network, by the server's weights if the device has others; cosines are to its embedding, and a probe
 * is learnt from its embeddings. by_u is the quality of the choice, in the unit of `measure`, on those of its
 * windows whose uncertainty is below and above the median: what makes the uncertainty worth knowing, if
 * anything does. Without it the quality does not depend on it.
 *
 * Ownership: a profile owns its choices. Threads: read-only once made.
 */
#ifndef SS_SPLIT_PROFILE_H
#define SS_SPLIT_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_PROFILE_MAX_CHOICES 256
#define SS_PROFILE_NAME        64  /* bytes of a name, NUL included */
#define SS_PROFILE_CITATION    512 /* the same of a source */
#define SS_PROFILE_CODEC       24

/** Milliseconds. */
typedef struct ss_profile_ms {
    double min, median, p95;
} ss_profile_ms;

typedef struct ss_profile_bytes {
    double mean, min, p5, median, p95, max;
} ss_profile_bytes;

typedef struct ss_profile_choice {
    int cut; /* SS_CUT_... */
    char codec[SS_PROFILE_CODEC];
    ss_profile_ms device_ms, server_ms; /* server_ms: NaN when not known */
    ss_profile_bytes bytes;
    double cosine_mean, cosine_p5; /* to the embedding of the uncut model */
    double probe;                  /* NaN: not known */
    double u_low, u_high;          /* NaN: not known */
} ss_profile_choice;

typedef struct ss_profile_machine {
    char name[SS_PROFILE_NAME], cpu[SS_PROFILE_NAME];
    int threads;
} ss_profile_machine;

/** "model", "rapl", "battery". */
typedef enum ss_profile_source { SS_ENERGY_MODEL, SS_ENERGY_RAPL, SS_ENERGY_BATTERY } ss_profile_source;

/** P = idle_w + cpu_w * load + (base_w + w_per_mbit * Mbit/s while sending, tail_w for tail_s after it). */
typedef struct ss_profile_energy {
    ss_profile_source source;
    char device[SS_PROFILE_NAME];
    double idle_w, cpu_w;
    int cores; /* processors that load 1 keeps busy; 1 where the file does not say */
    char radio[SS_PROFILE_NAME];
    double radio_base_w, radio_w_per_mbit, radio_tail_s, radio_tail_w;
    char citation[SS_PROFILE_CITATION];
} ss_profile_energy;

/** The law of the uncertainty on some sound. */
typedef struct ss_uncertainty {
    bool novelty; /* it is the attribute novelty, 0 .. 2, else u, 0 .. 1 */
    double at[5]; /* p5, p25, median, p75, p95; NaN when not known */
    double drift; /* correlation of ranks from window to window, [0, 1]; NaN: not known */
} ss_uncertainty;

typedef struct ss_profile {
    char architecture[17];
    double width;
    int mels, frames;
    int64_t generation;
    double hop_ms;
    int64_t windows; /* that were measured */
    ss_profile_machine device, server;
    bool has_server;
    ss_profile_energy energy;
    bool quality_is_probe; /* else the cosine */
    double full;           /* quality of the uncut model, in (0, 1] */
    ss_uncertainty u;
    ss_profile_choice *choice;
    size_t n;
} ss_profile;

/** Read a file, or text [n] (`name` stands for it in messages). Release with ss_profile_free. SS_EIO,
 * SS_EDAMAGED, SS_EUNFIT (another format or version), SS_ELIMIT, SS_ENOMEM; on failure *p is NULL. */
int ss_profile_open(ss_profile **p, const char *path, ss_err *e);
int ss_profile_parse(ss_profile **p, const char *text, size_t n, const char *name, ss_err *e);
void ss_profile_free(ss_profile *p); /* NULL is accepted */

/** A profile with room for n choices, all of it 0 and what may be unknown NaN; NULL without memory. */
ss_profile *ss_profile_new(size_t n);

/** The file as text, one line a choice, to be released with ss_free. What a reader would refuse is refused:
 * SS_EDAMAGED. SS_ENOMEM. */
int ss_profile_print(const ss_profile *p, char **text, ss_err *e);

/** Joules above idle that the device spends in computing for `ms` milliseconds with its threads. */
double ss_profile_compute_j(const ss_profile *p, double ms);

/** Index of a choice, or -1. */
int ss_profile_find(const ss_profile *p, int cut, const char *codec);

/** Quality of a choice in [0, 1]: its probe if that is what is measured and it is known, else full times its
 * mean cosine (not below 0). */
double ss_profile_quality(const ss_profile *p, const ss_profile_choice *c);

/** "u" or "novelty", and which of them a name is: 0, 1, or -1. */
const char *ss_u_name(bool novelty);
int ss_u_find(const char *name);
/** Largest value that it can have. */
double ss_u_most(const ss_uncertainty *u);
/** Share of windows whose uncertainty is below v, by the quantiles with straight lines between them; v by the
 * largest value when they are not known. In [0, 1]. */
double ss_u_rank(const ss_uncertainty *u, double v);

/** A codec's name: 1 to 23 of a-z, 0-9 and '-'. */
bool ss_profile_codec_valid(const char *codec);

#endif
