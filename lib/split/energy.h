/**
 * What devices use, where it cannot be measured: constants of others' measurements, with their sources
 * (energy.c). P = idle_w + cpu_w * load of the whole processor, and of a radio what split/profile.h says. No
 * state.
 */
#ifndef SS_SPLIT_ENERGY_H
#define SS_SPLIT_ENERGY_H

#include "../base/err.h"
#include "profile.h"

/** Device `name` ("raspberry-pi-4b") with radio `radio` ("wifi", "lte") into *n. SS_EINVAL and a text that
 * lists those that there are. */
int ss_energy_model(const char *name, const char *radio, ss_profile_energy *n, ss_err *e);
/** The radio alone; its source is appended to the citation. */
int ss_energy_radio(const char *radio, ss_profile_energy *n, ss_err *e);
/** Name of the device that a machine calls itself ("Raspberry Pi 4 Model B Rev 1.2"), or NULL. */
const char *ss_energy_recognise(const char *machine);

/** Joules above idle of `cpu_s` seconds of one processor. */
double ss_energy_computing(const ss_profile_energy *n, double cpu_s);

/** Joules that the radio takes for `bytes` at `bandwidth` bit/s (0: as fast as can be, so that its base
 * counts for nothing); without a tail. */
double ss_energy_sending(const ss_profile_energy *n, double bytes, double bandwidth);

/** Joules of the tail behind a sending that ends at `end` (s, of any clock), as far as the radio would not be
 * awake anyway: until *awake, which is moved on. */
double ss_energy_tail(const ss_profile_energy *n, double end, double *awake);

#endif
