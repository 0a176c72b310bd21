#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "failalloc.h"
#include "sys/load.h"
#include "unit.h"

#define SECOND ((int64_t)1000000000)

static char root[32];

/* A file below the root, with the folders it needs. */
static void put(const char *name, const char *fmt, ...)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fclose(f);
}

static void begin(void)
{
    strcpy(root, "/tmp/ss-load.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void end(ss_load *l)
{
    char command[64];
    ss_load_close(&l);
    ck_assert_ptr_null(l);
    ck_assert_uint_eq(ss_mem_used(), 0);
    snprintf(command, sizeof command, "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}

static ss_load *opened(void)
{
    ss_load *l;
    ss_err e;
    ck_assert_msg(ss_load_open(&l, root, &e) == SS_OK, "%s", e.text);
    return l;
}

static ss_load_sample at(ss_load *l, double s)
{
    ss_load_sample v;
    ss_err e;
    ck_assert_int_eq(ss_load_read(l, (int64_t)(s * SECOND), &v, &e), 0);
    return v;
}

static void near(double found, double expected)
{
    ck_assert_msg(fabs(found - expected) < 1e-9, "%g, expected %g", found, expected);
}

START_TEST(machine_alone)
{
    begin();
    put("proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n");
    ss_load *l = opened();
    ss_load_sample s = at(l, 1);
    ck_assert(isnan(s.machine) && isnan(s.load) && isnan(s.quota) && isnan(s.pressure));
    /* user 10, nice 5, system 5, idle 50, iowait 20, irq 2, softirq 3, steal 5: 30 of 100 */
    put("proc/stat", "cpu  110 5 105 850 20 2 3 5 7 7\n");
    s = at(l, 2);
    near(s.machine, 0.3);
    near(s.load, 0.3);
    ck_assert(isnan(s.quota));
    put("proc/stat", "cpu  210 5 105 850 20 2 3 5 7 7\n");
    near(at(l, 2.005).load, 0.3); /* too soon */
    near(at(l, 3).load, 1);
    ck_assert(isnan(at(l, 4).load)); /* nothing has passed */
    put("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n");
    ck_assert(isnan(at(l, 5).load)); /* back */
    put("proc/stat", "cpu  25 0 0 75\n");
    near(at(l, 6).load, 0.25); /* as an old kernel writes it */
    end(l);
}
END_TEST

START_TEST(quota_of_version_2)
{
    begin();
    put("proc/stat", "cpu  0 0 0 0\n");
    put("proc/self/cgroup", "0::/user.slice/a\n");
    put("proc/self/mountinfo", "22 1 0:2 / /proc rw - proc proc rw\n30 22 0:26 / /sys/fs/cgroup rw,nosuid "
                               "shared:4 - cgroup2 cgroup2 rw\n");
    put("sys/fs/cgroup/user.slice/a/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/user.slice/a/cpu.stat", "usage_usec 5000\nuser_usec 1\n");
    put("sys/fs/cgroup/user.slice/a/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\n");
    put("sys/fs/cgroup/user.slice/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/user.slice/cpu.stat", "nr_periods 9\nusage_usec 1000000\n");
    put("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull total=0\n");
    ss_load *l = opened();
    at(l, 1);
    put("proc/stat", "cpu  10 0 0 90\n");
    put("sys/fs/cgroup/user.slice/cpu.stat", "nr_periods 9\nusage_usec 1400000\n");
    put("sys/fs/cgroup/user.slice/a/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=301000\n");
    put("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=100000\n");
    ss_load_sample s = at(l, 2);
    near(s.machine, 0.1);
    near(s.quota, 0.8); /* 0.4 s in 1 s on half a processor, of the group above */
    near(s.load, 0.8);
    near(s.pressure, 0.3);
    /* Its own, tighter quota comes while it runs: known one reading later. */
    put("sys/fs/cgroup/user.slice/a/cpu.max", "10000 100000\n");
    put("proc/stat", "cpu  10 0 0 190\n");
    near(at(l, 3).quota, 0);
    put("sys/fs/cgroup/user.slice/a/cpu.stat", "usage_usec 95000\n");
    put("proc/stat", "cpu  10 0 0 290\n");
    near(at(l, 4).load, 0.9);
    put("sys/fs/cgroup/user.slice/a/cpu.stat", "usage_usec 9999999\n");
    near(at(l, 5).quota, 1); /* never above */
    end(l);
}
END_TEST

START_TEST(quota_of_version_1)
{
    begin();
    put("proc/stat", "cpu  0 0 0 0\n");
    put("proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/docker/x\n0::/\n");
    /* A container sees its own group as the root of the mount. */
    put("proc/self/mountinfo",
        "31 30 0:28 /docker/x /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "7000000000\n");
    ss_load *l = opened();
    at(l, 1);
    put("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "8500000000\n");
    ss_load_sample s = at(l, 2);
    near(s.quota, 0.75); /* 1.5 s in 1 s on two processors */
    ck_assert(isnan(s.machine));
    near(s.load, 0.75);
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "9500000000\n");
    ck_assert(isnan(at(l, 3).quota));
    end(l);
}
END_TEST

/* Accounts that lie in another place than the quota are not those of the group. */
START_TEST(hierarchies_apart)
{
    for (int same = 0; same < 2; same++) {
        begin();
        put("proc/stat", "cpu  0 0 0 0\n");
        put("proc/self/cgroup", "2:cpuacct:/%s\n1:cpu:/a\n", same ? "a" : "b");
        put("proc/self/mountinfo", "31 30 0:28 / /c/cpu rw - cgroup cgroup rw,cpu\n"
                                   "32 30 0:29 / /c/cpuacct rw - cgroup cgroup rw,cpuacct\n");
        put("c/cpu/a/cpu.cfs_quota_us", "100000\n");
        put("c/cpu/a/cpu.cfs_period_us", "100000\n");
        put("c/cpuacct/a/cpuacct.usage", "0\n");
        put("c/cpuacct/b/cpuacct.usage", "0\n");
        ss_load *l = opened();
        at(l, 1);
        put("c/cpuacct/a/cpuacct.usage", "500000000\n");
        ss_load_sample s = at(l, 2);
        if (same)
            near(s.quota, 0.5);
        else
            ck_assert(isnan(s.quota));
        end(l);
    }
}
END_TEST

START_TEST(garbage)
{
    static const char *const bad[] = {"",
                                      "cpu",
                                      "cpu ",
                                      "cpu  1 2 3",
                                      "cpu  -1 -2 -3 -4",
                                      "cpu  x",
                                      "cpu  99999999999999999999999 1 1 1",
                                      "\n\n\n",
                                      "intr 5"};
    begin();
    put("proc/self/cgroup", "\n::::\n0\n0:\n0:::\n4:cpu\n1:cpu,cpuacct:/../../etc\n0::/..\n");
    put("proc/self/mountinfo", " - \n - cgroup2\n1 2 3 4 5 - cgroup\n1 2 3 / /g - cgroup x rw,cpu,cpuacct\n"
                               "1 2 3 / /g - cgroup2\nx");
    put("g/cpu.cfs_quota_us", "0\n");
    put("g/cpu.max", "5");
    put("g/cpu.stat", "usage_usec");
    put("proc/pressure/cpu", "some total=");
    ss_load *l = opened();
    ss_load_sample s;
    ss_err e;
    int said = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("proc/stat", "%s", bad[i]);
        int rc = ss_load_read(l, (int64_t)(i + 1) * SECOND, &s, &e);
        said += rc == 1 && strstr(e.text, "/proc/stat' tells no load");
        ck_assert(isnan(s.machine) && isnan(s.quota) && isnan(s.pressure) && isnan(s.load));
    }
    ck_assert_int_eq(said, 1);
    put("g/cpu.max", "0 0");
    at(l, 100);
    put("g/cpu.max", "1 0");
    at(l, 101);
    end(l);
}
END_TEST

/* Nothing there at all; and the machine that this runs on. */
START_TEST(none_and_real)
{
    ss_load *l;
    ss_load_sample s;
    ss_err e;
    begin();
    l = opened();
    ck_assert_int_eq(ss_load_read(l, SECOND, &s, &e), 1);
    ck_assert_int_eq(ss_load_read(l, 2 * SECOND, &s, &e), 0);
    end(l);
    ck_assert_int_eq(ss_load_open(&l, NULL, &e), SS_OK);
    ck_assert_int_eq(ss_load_read(l, ss_clock_mono_ns(), &s, &e), 0);
    volatile double x = 1;
    for (int64_t stop = ss_clock_cpu_ns() + 50000000; ss_clock_cpu_ns() < stop;)
        x = x * 1.0000001;
    ck_assert_int_eq(ss_load_read(l, ss_clock_mono_ns(), &s, &e), 0);
    ck_assert(s.load > 0 && s.load <= 1);
    ss_load_close(&l);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(no_memory)
{
    ss_load *l;
    ss_err e;
    begin();
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = ss_load_open(&l, root, &e);
        if (!fail_alloc_done())
            break;
        ck_assert_int_eq(rc, SS_ENOMEM);
        ck_assert_ptr_null(l);
        ck_assert_uint_eq(ss_mem_used(), 0);
    }
    end(l);
}
END_TEST

UNIT_MAIN("load", machine_alone, quota_of_version_2, quota_of_version_1, hierarchies_apart, garbage,
          none_and_real, no_memory)
