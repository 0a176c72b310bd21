/**
 * What a policy that was trained can do, and what it sees: the actions, and the numbers about device and link
 * that decide between them. The environment that trains and the program that runs a policy fill the same
 * structure, and both make inputs of it by ss_sight_inputs; a number that is not known is NaN.
 *
 * Ownership: plain data. Threads: any, on different structures.
 */
#ifndef SS_SPLIT_SIGHT_H
#define SS_SPLIT_SIGHT_H

#include <stdbool.h>

#include "profile.h"

/** A choice of the profile, or that of the embedding with the records kept back until there are `hold`. */
typedef struct ss_split_action {
    int cut; /* SS_CUT_... */
    char codec[SS_PROFILE_CODEC];
    int hold;                /* 0: each record is sent at once */
    double device_ms, bytes; /* median and mean of the profile */
    double load;             /* share of the machine that it takes */
} ss_split_action;

enum { SS_SPLIT_MAX_ACTIONS = SS_PROFILE_MAX_CHOICES + 1 };

typedef struct ss_sight {
    double u;             /* rank of the latest uncertainty that came back, [0, 1] (ss_u_rank) */
    double cpu;           /* load of the machine, [0, 1] */
    double bandwidth;     /* bit/s, the latest estimate */
    double bandwidth_age; /* s since it was new */
    double rtt;           /* ms */
    double queue;         /* bytes taken in by the link that have not passed */
    double behind;        /* s that the device is late with its windows, as ss_sight_late reckons */
    double held;          /* records kept back */
    double since_sent;    /* s since the radio fell silent */
    int action;           /* in force; -1 before the first decision */
    double then_cpu, then_bandwidth, then_queue; /* at the last decision */
} ss_sight;

/** The inputs of a policy, by name and in this order. What is not known counts as what `neutral` says. */
enum {
    SS_SIGHT_U,               /* rank; neutral 0.5 */
    SS_SIGHT_CPU,             /* neutral 0.5 */
    SS_SIGHT_CPU_TREND,       /* since the last decision */
    SS_SIGHT_BANDWIDTH,       /* logarithmic, 8 kbit/s to 32 Mbit/s; needed */
    SS_SIGHT_BANDWIDTH_TREND, /* since the last decision */
    SS_SIGHT_BANDWIDTH_AGE,   /* of a minute */
    SS_SIGHT_RTT,             /* logarithmic; neutral 50 ms */
    SS_SIGHT_QUEUE,           /* logarithmic; neutral 0 */
    SS_SIGHT_QUEUE_TREND,     /* since the last decision */
    SS_SIGHT_DRAIN,           /* time that the queue will take, logarithmic */
    SS_SIGHT_BEHIND,          /* of two seconds */
    SS_SIGHT_HELD,            /* of what is sent together */
    SS_SIGHT_RADIO,           /* of its tail that is left */
    SS_SIGHT_DEVICE,          /* time of the action in force, of a hop */
    SS_SIGHT_BYTES,           /* bytes of the action in force, logarithmic */
    SS_SIGHT_HOLDS,           /* does the action in force keep records back? */
    SS_SIGHT_INPUTS
};
/** "u", "cpu", ...; NULL beyond the last. */
const char *ss_sight_name(int input);
int ss_sight_find(const char *name); /* or -1 */

/** What the inputs are measured by. */
typedef struct ss_sight_scale {
    double hop_ms, tail_s;
    int hold; /* records sent together at most */
} ss_sight_scale;

void ss_sight_inputs(const ss_sight *v, const ss_sight_scale *s, const ss_split_action *action,
                     float inputs[SS_SIGHT_INPUTS]);

/** What a decision on `action` leaves behind: what is seen now is `then` from now on. */
void ss_sight_decide(ss_sight *v, int action);

/** Has cpu, bandwidth or queue moved so far since the last decision that one is due at once? */
bool ss_sight_sharp(const ss_sight *v);

/** Seconds that the device is late after one more window of an action at a load `cpu`, its own part with it.
 */
double ss_sight_late(double behind, const ss_split_action *a, double cpu, double hop_ms);

/** The actions that a profile allows: each choice for which no other codec of its cut takes as few bytes in
 * about the same time (5 %, 0.1 ms) at the same quality (0.002, by uncertainty 0.005), and one that keeps
 * `hold` records of the embedding in the codec of fewest bytes (none when hold is 0 or there is no such
 * choice). Without `sound`, not those whose codec is one of sound or of the whole front end (opus, flac, pcm,
 * logmel-u8), which a policy behind the features cannot choose any more. Returns how many; a [choices + 1].
 */
int ss_split_actions(const ss_profile *p, bool sound, int hold, ss_split_action *a);

/** Number of an action's codec as attribute SS_ATTR_CODEC carries it, or negative: it has none. */
int ss_split_action_codec(const ss_split_action *a);

/** "4/b16i8", "embedding/i8+hold": to [48]. */
const char *ss_split_action_name(const ss_split_action *a, char to[48]);

#endif
