/**
 * Where to cut the network: policies, from what is known of the device and the link to a cut.
 *
 * fixed       one cut, always.
 * heuristic   k = clip(floor(x), 1, L - 1) blocks here, L = 8, with
 *               SS_SIGN_PAPER  x = L (0.6 (1 - cpu) + 0.4 bw)          as the method's authors have it
 *               SS_SIGN_SANE   x = L (0.6 (1 - cpu) + 0.4 (1 - bw))
 *             cpu the load in [0, 1], bw the bandwidth over bandwidth_max, at most 1. In both an idle
 *             processor speaks for more blocks here. The first sends less the faster the link is: at
 *             bw 0, k goes from 1 (busy) to 4 (idle), at bw 1 from 3 to 7. The second sends less the slower
 *             it is: at bw 0 from 3 to 7, at bw 1 from 1 to 4. What is not known counts as one half, which
 *             speaks for neither side.
 * file        the cut that is set by hand; `cut` while there is none.
 *
 * ss_policy_wish is a pure function of its arguments. ss_policy is what keeps a cut from going to and fro:
 * it decides every so many windows, and at once when a cut is set by hand or no longer set, or when cpu or bw
 * are SS_POLICY_SHARP away from what the last decision saw; and it leaves a cut only when x is
 * SS_POLICY_MARGIN blocks beyond the range of x in which that cut is the answer.
 * Ownership: plain data, nothing allocated. Source: Quan and Pathirana, StreamSplit, arXiv 2605.26523
 * (baseline of its splitter).
 */
#ifndef SS_SPLIT_POLICY_H
#define SS_SPLIT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define SS_POLICY_MARGIN  0.25 /* blocks */
#define SS_POLICY_SHARP   0.25 /* of cpu or bw, both in [0, 1] */
#define SS_POLICY_UNKNOWN 0.5  /* what such an input counts as */

typedef enum ss_policy_kind { SS_POLICY_FIXED, SS_POLICY_HEURISTIC, SS_POLICY_FILE } ss_policy_kind;
typedef enum ss_policy_sign { SS_SIGN_PAPER, SS_SIGN_SANE } ss_policy_sign;

typedef struct ss_policy_config {
    ss_policy_kind kind;
    ss_policy_sign sign;
    int cut;              /* SS_CUT_...: of fixed; of file while none is set */
    double bandwidth_max; /* bit/s that count as bw 1 */
    int every;            /* windows from decision to decision, >= 1 */
} ss_policy_config;

/** NaN: not known. What lies outside its range is taken as the nearest end of it. */
typedef struct ss_policy_input {
    double cpu;       /* load, [0, 1] */
    double bandwidth; /* bit/s */
    double rtt;       /* ms */
    double u;         /* uncertainty, [0, 1] */
    int set;          /* cut set by hand, or -1 */
} ss_policy_input;

typedef struct ss_policy_wish {
    int cut;        /* SS_CUT_... */
    double x;       /* blocks before rounding; NaN where the policy computes none */
    double cpu, bw; /* as they counted */
} ss_policy_wish;

ss_policy_wish ss_policy_ask(const ss_policy_config *c, const ss_policy_input *in);

typedef struct ss_policy {
    ss_policy_config config;
    int cut;        /* in force; -1 before the first decision */
    uint64_t left;  /* windows until the next one */
    bool set;       /* the last one was by hand */
    double cpu, bw; /* that the last one saw */
} ss_policy;

typedef enum ss_policy_why {
    SS_POLICY_NONE = 0, /* no decision: it was not time */
    SS_POLICY_FIRST,
    SS_POLICY_TIME, /* `every` windows have passed */
    SS_POLICY_SHARP_CHANGE,
    SS_POLICY_BY_HAND, /* set, set otherwise, or no longer set */
} ss_policy_why;
/** "first", "time", "sharp change", "by hand", or "". */
const char *ss_policy_why_name(int why);

void ss_policy_init(ss_policy *p, const ss_policy_config *c);

/** To be called for every window: p->cut is its cut. Returns an ss_policy_why; *wish is filled in any case.
 */
int ss_policy_step(ss_policy *p, const ss_policy_input *in, ss_policy_wish *wish);

#endif
