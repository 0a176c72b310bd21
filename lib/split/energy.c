#include "energy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *device, *begins; /* what the machine calls itself begins so, or NULL */
    double idle_w, cpu_w;
    int cores;
    const char *citation;
} devices[] = {
    {"raspberry-pi-4b", "Raspberry Pi 4B", "Raspberry Pi 4 Model B", 2.2857, 4.5344, 4,
     "linear model of the Raspberry Pi 4B rev. 1.2, 64 bit: A. Noureddine, PowerJoular and JoularJX, "
     "Intelligent "
     "Environments 2022, powermodels/powerjoular_models.json"},
    {"raspberry-pi-5", "Raspberry Pi 5", "Raspberry Pi 5", 4.4032, 3.4579, 4,
     "linear model of the Raspberry Pi 5B rev. 1.0, 64 bit: PowerJoular, src/raspberry_pi_cpu_formula.adb, "
     "2025"},
    {"apple-m2", "Mac mini (2023), Apple M2", NULL, 7, 43, 8,
     "whole computer, 7 W idle, 50 W with all of the processor busy: Apple, Mac mini power consumption and "
     "thermal "
     "output information, 2023"},
};

/* Of the two papers as others quote them; ss-profile(1) says which figures. */
static const struct {
    const char *name;
    double base_w, w_per_mbit, tail_s, tail_w;
    const char *citation;
} radios[] = {
    {"wifi", 0.064, 0.004813, 0, 0, "uplink above its idle: Kaup, Gottschling, Hausheer, PowerPi, LCN 2014"},
    {"lte", 1.28804, 0.43839, 11.576, 1.060,
     "Huang et al., A close examination of performance and power characteristics of 4G LTE networks, MobiSys "
     "2012"},
};

enum { DEVICES = sizeof devices / sizeof *devices, RADIOS = sizeof radios / sizeof *radios };

int ss_energy_radio(const char *radio, ss_profile_energy *n, ss_err *e)
{
    for (int i = 0; i < RADIOS; i++)
        if (!strcmp(radios[i].name, radio)) {
            size_t used = strlen(n->citation);
            snprintf(n->radio, sizeof n->radio, "%s", radio);
            n->radio_base_w = radios[i].base_w;
            n->radio_w_per_mbit = radios[i].w_per_mbit;
            n->radio_tail_s = radios[i].tail_s;
            n->radio_tail_w = radios[i].tail_w;
            snprintf(n->citation + used, sizeof n->citation - used, "%s%s: %s", used ? "; " : "", radio,
                     radios[i].citation);
            return SS_OK;
        }
    return ss_err_set(e, SS_EINVAL, "radio '%s' is not known: wifi and lte are", radio);
}

int ss_energy_model(const char *name, const char *radio, ss_profile_energy *n, ss_err *e)
{
    for (int i = 0; i < DEVICES; i++)
        if (!strcmp(devices[i].name, name)) {
            *n = (ss_profile_energy){
                .source = SS_ENERGY_MODEL, .idle_w = devices[i].idle_w, .cpu_w = devices[i].cpu_w};
            snprintf(n->device, sizeof n->device, "%s", devices[i].device);
            snprintf(n->citation, sizeof n->citation, "%s", devices[i].citation);
            n->cores = devices[i].cores;
            return ss_energy_radio(radio, n, e);
        }
    char known[128] = "";
    for (int i = 0; i < DEVICES; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", devices[i].name);
    return ss_err_set(e, SS_EINVAL, "no energy model is called '%s': there are %s", name, known);
}

const char *ss_energy_recognise(const char *machine)
{
    for (int i = 0; i < DEVICES; i++)
        if (devices[i].begins && !strncmp(machine, devices[i].begins, strlen(devices[i].begins)))
            return devices[i].name;
    return NULL;
}

double ss_energy_computing(const ss_profile_energy *n, double cpu_s)
{
    return n->cpu_w * cpu_s / n->cores;
}

double ss_energy_sending(const ss_profile_energy *n, double bytes, double bandwidth)
{
    return n->radio_w_per_mbit * bytes * 8e-6 + (bandwidth > 0 ? n->radio_base_w * bytes * 8 / bandwidth : 0);
}

double ss_energy_tail(const ss_profile_energy *n, double end, double *awake)
{
    if (!(n->radio_tail_s > 0))
        return 0;
    double asleep = end + n->radio_tail_s, joules = n->radio_tail_w * fmax(asleep - fmax(*awake, end), 0);
    *awake = fmax(*awake, asleep);
    return joules;
}
