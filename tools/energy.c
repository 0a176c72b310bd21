#include "energy.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/json.h"
#include "split/energy.h"

#define REST_S 1 /* listened to before the first record */

const char *energy_name, *energy_root;

static struct {
    bool on;
    ss_profile_energy is;
    ss_meter *meter;
    int64_t cpu_ns;
    bool heard, known; /* the meter could be read the last time; at both ends of what is shared out */
    double share;      /* J of each record */
} n;

bool energy_line(const char *root, const char *path, const char *key, char *to, size_t room)
{
    char name[512], line[256];
    snprintf(name, sizeof name, "%s%s", root ? root : "", path);
    FILE *f = fopen(name, "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *value = key ? strchr(line, ':') : line;
        if (key && (!value || strncmp(line, key, strlen(key))))
            continue;
        value += key ? strspn(value, ": \t") : 0;
        found = *value && ss_utf8_valid(value, strlen(value));
        if (found)
            snprintf(to, room, "%s", value);
    }
    if (f)
        fclose(f);
    return found;
}

int energy_choose(const char *name, const char *radio, const char *root, ss_profile_energy *to, ss_meter **m,
                  ss_err *e)
{
    bool automatic = !strcmp(name, "auto");
    to->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (automatic || !strcmp(name, "measured")) {
        int rc = ss_meter_open(m, root, e);
        if (rc == SS_OK) {
            to->source = ss_meter_is_battery(*m) ? SS_ENERGY_BATTERY : SS_ENERGY_RAPL;
            return ss_energy_radio(radio, to, e);
        }
        if (!automatic || rc == SS_ENOMEM)
            return rc;
        char board[SS_PROFILE_NAME] = "";
        energy_line(root, "/proc/device-tree/model", NULL, board, sizeof board);
        const char *known = ss_energy_recognise(board);
        if (!known)
            tool_info("%s, and what this machine uses is not known: taken as a Raspberry Pi 4B", e->text);
        return ss_energy_model(known ? known : "raspberry-pi-4b", radio, to, e);
    }
    if (!strchr(name, '/') && !strchr(name, '.'))
        return ss_energy_model(name, radio, to, e);
    ss_profile *other;
    int rc = ss_profile_open(&other, name, e);
    if (rc == SS_OK)
        *to = other->energy;
    ss_profile_free(other);
    return rc;
}

/* ---- stamping ---- */

int energy_begin(ss_err *e)
{
    if (!energy_name)
        return SS_OK;
    int rc = energy_choose(energy_name, "wifi", energy_root, &n.is, &n.meter, e);
    if (rc == SS_OK && n.meter)
        rc = ss_meter_rest(n.meter, REST_S, &n.is.idle_w, e);
    if (rc < 0)
        return rc;
    tool_info("energy is %s", n.meter ? "measured" : "modelled");
    if (n.meter)
        tool_info("at rest the machine takes %.3g W", n.is.idle_w);
    else
        tool_info("%s: %.4g W above idle, %d processors; %s", n.is.device, n.is.cpu_w, n.is.cores,
                  n.is.citation);
    n.on = n.heard = true;
    n.cpu_ns = ss_clock_cpu_ns();
    return SS_OK;
}

/* A counter that fails leaves the records without, until it can be read again. */
static double measure(void)
{
    static bool said;
    double joules = 0;
    ss_err e;
    bool hears = ss_meter_above(n.meter, n.is.idle_w, ss_clock_mono_ns(), &joules, &e) == SS_OK;
    if (!hears && !said)
        tool_warn("%s: records go on without their energy", e.text);
    said |= !hears;
    n.known = hears && n.heard;
    n.heard = hears;
    return joules;
}

void energy_divide(int records)
{
    if (!n.on)
        return;
    if (n.meter) {
        n.share = measure() / records;
        return;
    }
    int64_t now = ss_clock_cpu_ns();
    n.share = ss_energy_computing(&n.is, (double)(now - n.cpu_ns) * 1e-9) / records;
    n.cpu_ns = now;
}

/* Seconds of the stages before this one, on this device. */
static double worked_s(const ss_attrs *a)
{
    uint64_t us = 0;
    for (int i = 0; i < TOOL_STAGES && tool_stages[i].work != SS_ATTR_T_LINK; i++)
        us += ss_attr_uint(a, tool_stages[i].work, 0);
    return (double)us * 1e-6;
}

void energy_stamp(ss_attrs *a)
{
    if (!n.on)
        return;
    if (n.meter) {
        if (n.known)
            ss_attr_set_f32(a, SS_ATTR_ENERGY_MEASURED, (float)n.share);
        return;
    }
    double before = ss_attr_has(a, SS_ATTR_ENERGY) ? (double)ss_attr_f32(a, SS_ATTR_ENERGY, 0)
                                                   : ss_energy_computing(&n.is, worked_s(a));
    ss_attr_set_f32(a, SS_ATTR_ENERGY, (float)(before + n.share));
}

void energy_end(void)
{
    ss_meter_close(&n.meter);
    n.on = false;
}
