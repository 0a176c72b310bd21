/* What a device uses: measured where it can be, else modelled; for ss-profile, and for the programs on a
 * device that stamp records with it (attributes energy and energy_measured, ss-stream(5)). */
#ifndef SS_TOOLS_ENERGY_H
#define SS_TOOLS_ENERGY_H

#include "common.h"
#include "split/profile.h"
#include "sys/meter.h"

/* First line of a file behind `root` (or NULL), or of its lines the value of `key`: false if there is none.
 */
bool energy_line(const char *root, const char *path, const char *key, char *to, size_t room);

/* Where the energy comes from. `name`: auto, measured, a device, or a profile's file. Where it is measured *m
 * is open then, and idle_w and cpu_w are not known yet. */
int energy_choose(const char *name, const char *radio, const char *root, ss_profile_energy *n, ss_meter **m,
                  ss_err *e);

/* Values of --energy and --system of programs that stamp; NULL: nothing is stamped. */
extern const char *energy_name, *energy_root;
#define ENERGY_OPTIONS                                                                                       \
    {"energy", 0, OPT_STRING, &energy_name,                                                                  \
     0,        0, "NAME",     "stamp it: auto, measured, a device, or a profile's file",                     \
     NULL},                                                                                                  \
    {                                                                                                        \
        "system", 0, OPT_STRING, &energy_root, 0, 0, "DIR", "stands before /sys and /proc, for tests", NULL  \
    }

/* Before the first record is read: where it is measured, the machine is listened to for a second. Without it,
 * or without --energy, the others do nothing. */
int energy_begin(ss_err *e);
/* What was used since the last time is that of the next n records, in equal shares. */
void energy_divide(int n);
/* Stamp one of them, before its stage ends. */
void energy_stamp(ss_attrs *a);
void energy_end(void);

#endif
