/** Clocks. Monotonic for every timer and duration; real time only for the capture time of sound. */
#ifndef SS_BASE_CLOCK_H
#define SS_BASE_CLOCK_H

#include <stdint.h>

int64_t ss_clock_mono_ns(void);
int64_t ss_clock_real_ns(void);
/** Processor time of the whole process, all its threads. */
int64_t ss_clock_cpu_ns(void);

/** Sleep until the monotonic clock shows `ns`, or a signal handler ran: 0, or SS_ESTOPPED. */
int ss_clock_sleep_until(int64_t ns);

#endif
