#include "sys/meter.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { PATH = 512, COUNTERS = 16 };

typedef struct counter {
    char path[PATH];
    uint64_t range, last; /* uJ at which it wraps round; of the reading before */
} counter;

struct ss_meter {
    counter counter[COUNTERS];
    int n;
    char battery[PATH]; /* its folder, or "" */
    bool begun;
    int64_t then_ns;
    double joules, watts;
};

/* First line of dir/name; false if it cannot be had. */
static bool line_of(const char *dir, const char *name, char *to, int room)
{
    char path[2 * PATH + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    bool good = f && fgets(to, room, f);
    if (f)
        fclose(f);
    if (good)
        to[strcspn(to, "\n")] = 0;
    return good;
}

static bool number_of(const char *dir, const char *name, uint64_t *to)
{
    char text[64], *end;
    if (!line_of(dir, name, text, sizeof text) || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *to = strtoull(text, &end, 10);
    return !errno && !*end;
}

static void add_counter(ss_meter *m, const char *dir)
{
    counter *c = &m->counter[m->n];
    uint64_t now;
    if (m->n == COUNTERS || strlen(dir) >= PATH || !number_of(dir, "energy_uj", &now))
        return;
    if (!number_of(dir, "max_energy_range_uj", &c->range))
        c->range = UINT32_MAX;
    strcpy(c->path, dir);
    m->n++;
}

/* Domains are called package-N, dram, core, uncore, psys: a platform's counter holds all others. */
static bool find_rapl(ss_meter *m, const char *root)
{
    char base[PATH], dir[2 * PATH], name[64], *platform = NULL;
    bool there = false;
    snprintf(base, sizeof base, "%s/sys/class/powercap", root);
    DIR *d = opendir(base);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (strncmp(f->d_name, "intel-rapl:", 11))
            continue;
        snprintf(dir, sizeof dir, "%s/%.200s", base, f->d_name);
        if (!line_of(dir, "name", name, sizeof name))
            continue;
        there = true;
        if (!strcmp(name, "psys")) {
            m->n = 0;
            add_counter(m, dir);
            platform = m->n ? name : NULL;
        }
        if (platform)
            break;
        if (!strncmp(name, "package-", 8) || !strcmp(name, "dram"))
            add_counter(m, dir);
    }
    if (d)
        closedir(d);
    return there;
}

/* W of the battery now; false when it is not being discharged or does not tell. */
static bool battery_watts(const char *dir, double *watts)
{
    char text[64];
    uint64_t power, current, voltage;
    if (!line_of(dir, "type", text, sizeof text) || strcmp(text, "Battery") ||
        !line_of(dir, "status", text, sizeof text) || strcmp(text, "Discharging"))
        return false;
    if (number_of(dir, "power_now", &power)) {
        *watts = (double)power * 1e-6;
        return true;
    }
    if (!number_of(dir, "current_now", &current) || !number_of(dir, "voltage_now", &voltage))
        return false;
    *watts = (double)current * 1e-6 * (double)voltage * 1e-6;
    return true;
}

static void find_battery(ss_meter *m, const char *root)
{
    char base[PATH], dir[2 * PATH];
    snprintf(base, sizeof base, "%s/sys/class/power_supply", root);
    DIR *d = opendir(base);
    for (struct dirent *f; d && !*m->battery && (f = readdir(d));) {
        snprintf(dir, sizeof dir, "%s/%.200s", base, f->d_name);
        if (*f->d_name != '.' && strlen(dir) < PATH && battery_watts(dir, &m->watts))
            strcpy(m->battery, dir);
    }
    if (d)
        closedir(d);
}

int ss_meter_open(ss_meter **to, const char *root, ss_err *e)
{
    ss_meter *m = *to = ss_zalloc(1, sizeof *m);
    if (!m)
        return ss_err_set(e, SS_ENOMEM, "no memory for a meter");
    bool rapl = find_rapl(m, root ? root : "");
    if (!m->n)
        find_battery(m, root ? root : "");
    if (m->n || *m->battery)
        return SS_OK;
    ss_meter_close(to);
    return ss_err_set(e, SS_ENOTSUP, "no energy can be measured here: %s, and no battery is being discharged",
                      rapl ? "RAPL is there and may not be read" : "there is no RAPL");
}

void ss_meter_close(ss_meter **m)
{
    ss_free(*m);
    *m = NULL;
}

bool ss_meter_is_battery(const ss_meter *m)
{
    return *m->battery;
}

int ss_meter_read(ss_meter *m, int64_t now_ns, double *joules, ss_err *e)
{
    if (*m->battery) {
        double watts;
        if (!battery_watts(m->battery, &watts))
            return ss_err_set(e, SS_ENOTSUP, "the battery is no longer being discharged");
        if (m->begun)
            m->joules += (watts + m->watts) / 2 * (double)(now_ns - m->then_ns) * 1e-9;
        m->watts = watts;
    }
    for (int i = 0; i < m->n; i++) {
        counter *c = &m->counter[i];
        uint64_t now;
        if (!number_of(c->path, "energy_uj", &now))
            return ss_err_set(e, SS_EIO, "cannot read '%s/energy_uj'", c->path);
        if (m->begun)
            m->joules += (double)(now >= c->last ? now - c->last : c->range - c->last + now) * 1e-6;
        c->last = now;
    }
    m->begun = true;
    m->then_ns = now_ns;
    *joules = m->joules;
    return SS_OK;
}

int ss_meter_above(ss_meter *m, double idle_w, int64_t now_ns, double *joules, ss_err *e)
{
    double before = m->joules, idle = m->begun ? idle_w * (double)(now_ns - m->then_ns) * 1e-9 : 0, all;
    int rc = ss_meter_read(m, now_ns, &all, e);
    if (rc == SS_OK)
        *joules = all - before - idle;
    return rc;
}

int ss_meter_rest(ss_meter *m, double seconds, double *watts, ss_err *e)
{
    enum { LOOKS = 8 };
    double before = 0, joules = 0;
    int64_t begun = ss_clock_mono_ns();
    int rc = ss_meter_read(m, begun, &before, e);
    for (int i = 1; rc == SS_OK && i <= LOOKS; i++) {
        rc = ss_clock_sleep_until(begun + (int64_t)(seconds * 1e9 * i / LOOKS));
        rc = rc ? ss_err_set(e, rc, "told to stop") : ss_meter_read(m, ss_clock_mono_ns(), &joules, e);
    }
    *watts = rc == SS_OK ? (joules - before) / ((double)(ss_clock_mono_ns() - begun) * 1e-9) : 0;
    return rc;
}
