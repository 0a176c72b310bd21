/**
 * What a link and a processor can do over time: bandwidth, round trip and the load that others make, constant
 * between rows, read from files or made from a seed. At its end a trace begins anew.
 *
 * Files, strictly read:
 *   csv       columns time_s, bandwidth_bps, rtt_ms and perhaps cpu (in [0, 1]); others are refused. Times
 *             rise, by a microsecond at least; a row holds until the next one, the last one is the end.
 *             Bandwidth 0 is an outage.
 *   mahimahi  as its mm-link has it: a line is the millisecond, from 0, in which SS_TRACE_MTU bytes may pass;
 *             lines do not fall, the last one is the end.
 * Caps: 64 MiB of text, SS_TRACE_MAX_ROWS rows, SS_TRACE_MAX_S seconds.
 *
 * Made ones: a slow level that jumps to one of five, with exponential dwell, times a fast jitter (a
 * first-order process), both in the logarithm, and outages that come and go as a two-state chain; spread and
 * location are solved so that mean and deviation over time, outages included, are those of the preset. Rows
 * are one second. Presets, and what they are fitted to, over seconds (Mbit/s):
 *   3g           0.90 +- 0.40, outage 4 %: mean of TMobile-UMTS-driving.up and Verizon-EVDO-driving.up
 *   lte          5.96 +- 3.11, outage 0.7 %: Verizon-LTE-short.up
 *   lte-driving  1.92 +- 1.69, outage 5 %: ATT-LTE-driving-2016.up
 *   wifi         30.4 +- 23.4, outage 15 %, a walk along the edge of its range: the 25 Wi-Fi traces of Aydin,
 *                Fund, Panwar, "A Data Set and Reference Experiments for Multipath Wireless Emulation on
 *                Public Testbeds", INFOCOM CNERT 2023 (which does not state their direction)
 * The files named are in mahimahi (Netravali et al., USENIX ATC 2015); their method is from Winstein,
 * Sivaraman, Balakrishnan, "Stochastic Forecasts Achieve High Throughput and Low Delay over Cellular
 * Networks", NSDI 2013. An outage is a second of (nearly) nothing, and the 25 are of 30 traces that there are
 * by now, which have 29.2 +- 23.1 (ss-netsim(1)). Correlation after 1 and 5 seconds is fitted too. Round
 * trips are round figures of ours (150, 70, 70, 20 ms, with a jitter of a quarter). The load of others jumps
 * between five levels, 0.03 to 0.93, with a mean dwell of 15 s: a choice of ours, fitted to nothing.
 *
 * Ownership: a trace owns its rows. Threads: read-only once made. Errors: SS_EIO, SS_EDAMAGED, SS_EUNFIT
 * (columns), SS_ERANGE (numbers), SS_ELIMIT, SS_ENOMEM, SS_EINVAL (name of a preset).
 */
#ifndef SS_SPLIT_TRACE_H
#define SS_SPLIT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_TRACE_MTU      1504 /* bytes */
#define SS_TRACE_MAX_ROWS ((size_t)4 << 20)
#define SS_TRACE_MAX_S    1e6
#define SS_TRACE_MAX_BPS  1e12
#define SS_TRACE_CPU_MAX  0.98 /* what others leave is never less than the rest */

typedef struct ss_trace ss_trace;

/** What holds at a moment. */
typedef struct ss_trace_now {
    double bandwidth; /* bit/s */
    double rtt;       /* ms */
    double cpu;       /* load that others make, [0, 1] */
} ss_trace_now;

typedef enum ss_trace_format { SS_TRACE_AUTO, SS_TRACE_CSV, SS_TRACE_MAHIMAHI } ss_trace_format;

/** Read a file, or text [n]. AUTO: mahimahi when all of its first line is digits. Where the file says nothing
 * of them, the round trip is rtt_ms and there is no load. Release with ss_trace_free. */
int ss_trace_open(ss_trace **t, const char *path, ss_trace_format format, double rtt_ms, ss_err *e);
int ss_trace_parse(ss_trace **t, const char *text, size_t n, const char *name, ss_trace_format format,
                   double rtt_ms, ss_err *e);
void ss_trace_free(ss_trace *t); /* NULL is accepted */

/** The presets: count, name of one, index of a name of n bytes or -1. */
int ss_trace_presets(void);
const char *ss_trace_preset_name(int preset);
int ss_trace_preset_find(const char *name, size_t n);
/** What a preset is fitted to, in bit/s, and its share of seconds without any. */
void ss_trace_preset_moments(int preset, double *mean, double *deviation, double *outage);

/** Make `seconds` of a preset: the same for the same seed on every machine of one libm. */
int ss_trace_make(ss_trace **t, int preset, uint64_t seed, size_t seconds, ss_err *e);
/**
 * A trace as it might go on after the second in which `at` lies: for who is to know the present exactly and
 * the future not at all. A made one is drawn anew from the chain's state there, with row 0 that second as it
 * was; of one that was read nothing is known, and the present
 * stays, with the mean bandwidth of that second. *t is NULL or what an earlier call gave.
 */
int ss_trace_go_on(ss_trace **t, const ss_trace *from, double at, uint64_t seed, size_t seconds, ss_err *e);
bool ss_trace_is_made(const ss_trace *t);

/** A copy whose bandwidth is `factor` times as much; its chain is gone. */
int ss_trace_weaken(ss_trace **t, const ss_trace *from, double factor, ss_err *e);

/** As CSV, to be released with ss_free; NULL without memory. */
char *ss_trace_print(const ss_trace *t);

/** Give every row the load of `from` at the same time: for traces that say nothing of it. */
int ss_trace_add_load(ss_trace *t, uint64_t seed, ss_err *e);
bool ss_trace_has_load(const ss_trace *t);

double ss_trace_seconds(const ss_trace *t);
size_t ss_trace_rows(const ss_trace *t);
ss_trace_now ss_trace_at(const ss_trace *t, double at);

/** Bits that can have passed from 0 to `at`, and the first moment at which so many have passed (INFINITY when
 * there never are so many: all of it is an outage). */
double ss_trace_bits(const ss_trace *t, double at);
double ss_trace_when_bits(const ss_trace *t, double bits);
/** The same for the seconds of processor that others leave. */
double ss_trace_work(const ss_trace *t, double at);
double ss_trace_when_work(const ss_trace *t, double work);

#endif
