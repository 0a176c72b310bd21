#include "sys/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "unit.h"

static char root[] = "/tmp/ss-meter.XXXXXX";

static void put(const char *file, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, file);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    ck_assert(f != NULL);
    fputs(text, f);
    fclose(f);
}

static void away(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

#define RAPL "sys/class/powercap/intel-rapl:"
#define CELL "sys/class/power_supply/BAT0/"

START_TEST(rapl)
{
    ss_meter *m;
    ss_err e;
    double j;
    ck_assert(mkdtemp(root) != NULL);
    ck_assert_int_eq(ss_meter_open(&m, root, &e), SS_ENOTSUP);
    ck_assert_ptr_null(m);
    put(RAPL "0/name", "package-0\n");
    ck_assert_int_eq(ss_meter_open(&m, root, &e), SS_ENOTSUP);
    ck_assert(strstr(e.text, "may not be read") != NULL);
    put(RAPL "0/energy_uj", "9000000\n");
    put(RAPL "0/max_energy_range_uj", "10000000\n");
    put(RAPL "0:0/name", "core\n");
    put(RAPL "0:0/energy_uj", "77\n");
    put(RAPL "0:1/name", "dram\n");
    put(RAPL "0:1/energy_uj", "0\n");
    put(CELL "type", "Battery\n"); /* is not asked */
    ck_assert_int_eq(ss_meter_open(&m, root, &e), 0);
    ck_assert(!ss_meter_is_battery(m));
    ck_assert_int_eq(ss_meter_read(m, 0, &j, &e), 0);
    ck_assert_double_eq(j, 0);
    put(RAPL "0/energy_uj", "9500000\n");
    put(RAPL "0:0/energy_uj", "9999\n");
    put(RAPL "0:1/energy_uj", "250000\n");
    ck_assert_int_eq(ss_meter_read(m, 1, &j, &e), 0);
    ck_assert_double_eq_tol(j, 0.75, 1e-9);
    put(RAPL "0/energy_uj", "500000\n"); /* wrapped round */
    ck_assert_int_eq(ss_meter_read(m, 2, &j, &e), 0);
    ck_assert_double_eq_tol(j, 1.75, 1e-9);
    put(RAPL "0/energy_uj", "nonsense\n");
    ck_assert_int_eq(ss_meter_read(m, 3, &j, &e), SS_EIO);
    ss_meter_close(&m);
    put(RAPL "1/name", "psys\n"); /* holds the rest */
    put(RAPL "1/energy_uj", "0\n");
    put(RAPL "0/energy_uj", "0\n");
    ck_assert_int_eq(ss_meter_open(&m, root, &e), 0);
    ck_assert_int_eq(ss_meter_read(m, 0, &j, &e), 0);
    put(RAPL "0/energy_uj", "5000000\n");
    put(RAPL "1/energy_uj", "2000000\n");
    ck_assert_int_eq(ss_meter_read(m, 1, &j, &e), 0);
    ck_assert_double_eq_tol(j, 2, 1e-9);
    ss_meter_close(&m);
    away();
}
END_TEST

START_TEST(battery)
{
    ss_meter *m;
    ss_err e;
    double j;
    ck_assert(mkdtemp(root) != NULL);
    put("sys/class/power_supply/AC/type", "Mains\n");
    put(CELL "type", "Battery\n");
    put(CELL "status", "Charging\n");
    put(CELL "current_now", "1000000\n");
    put(CELL "voltage_now", "4000000\n");
    ck_assert_int_eq(ss_meter_open(&m, root, &e), SS_ENOTSUP);
    put(CELL "status", "Discharging\n");
    ck_assert_int_eq(ss_meter_open(&m, root, &e), 0);
    ck_assert(ss_meter_is_battery(m));
    ck_assert_int_eq(ss_meter_read(m, 1000000000, &j, &e), 0);
    ck_assert_double_eq(j, 0);
    put(CELL "power_now", "6000000\n"); /* goes before */
    ck_assert_int_eq(ss_meter_read(m, 3000000000, &j, &e), 0);
    ck_assert_double_eq_tol(j, 10, 1e-9); /* 4 to 6 W for 2 s */
    put(CELL "status", "Charging\n");
    ck_assert_int_eq(ss_meter_read(m, 4000000000, &j, &e), SS_ENOTSUP);
    ss_meter_close(&m);
    away();
}
END_TEST

START_TEST(above)
{
    ss_meter *m;
    ss_err e;
    double j, w;
    ck_assert(mkdtemp(root) != NULL);
    put(RAPL "0/name", "package-0\n");
    put(RAPL "0/energy_uj", "1000000\n");
    ck_assert_int_eq(ss_meter_open(&m, root, &e), 0);
    ck_assert_int_eq(ss_meter_above(m, 2, 1000000000, &j, &e), 0); /* the first reading tells nothing */
    ck_assert_double_eq(j, 0);
    put(RAPL "0/energy_uj", "4000000\n");
    ck_assert_int_eq(ss_meter_above(m, 2, 2000000000, &j, &e), 0); /* 3 J in a second */
    ck_assert_double_eq_tol(j, 1, 1e-9);
    put(RAPL "0/energy_uj", "4500000\n");
    ck_assert_int_eq(ss_meter_above(m, 2, 3000000000, &j, &e), 0); /* less than at rest */
    ck_assert_double_eq_tol(j, -1.5, 1e-9);
    ck_assert_int_eq(ss_meter_rest(m, 0.01, &w, &e), 0);
    ck_assert_double_eq(w, 0);
    put(RAPL "0/energy_uj", "\n");
    ck_assert_int_eq(ss_meter_above(m, 2, 4000000000, &j, &e), SS_EIO);
    ck_assert_int_eq(ss_meter_rest(m, 0.01, &w, &e), SS_EIO);
    ss_meter_close(&m);
    away();
}
END_TEST

UNIT_MAIN("meter", rapl, battery, above)
