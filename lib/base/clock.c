#include "base/clock.h"
#include "base/err.h"

#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t ss_clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t ss_clock_real_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t ss_clock_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int ss_clock_sleep_until(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) ? SS_ESTOPPED : SS_OK;
}
