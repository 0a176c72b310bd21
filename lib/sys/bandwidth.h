/**
 * Bandwidth and round trip of a link, from times of acknowledgement: t = a + b n, where n bytes were sent
 * without a pause, a is the round trip and 1 / b the bandwidth.
 *
 * Bytes over time of one small send would measure the round trip. Here a burst is what went behind each other
 * without the link falling idle, as far as the estimate of the moment tells: its first byte left at a known
 * time, so that each acknowledgement gives one point (bytes from the start of the burst, time). Points are
 * weighted least squares, older ones fading, late ones (a stall, a retransmission) counting for less. Small
 * points come from probes that are answered at once (a hello and its resume), large ones from records, less
 * the time that the other side says it took. Where the sizes do not differ enough to tell b from the noise,
 * there is no estimate. One thread; no allocation.
 */
#ifndef SS_SYS_BANDWIDTH_H
#define SS_SYS_BANDWIDTH_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ss_bandwidth {
    double w, x, y, xx, xy, yy; /* sums: weights, kilobytes, milliseconds, products */
    double noise;               /* of the residuals, mean square, ms^2 */
    double a, b;                /* ms, ms per kilobyte */
    double unfit;               /* points that did not fit, of late */
    int points;
    int64_t since, last; /* ns, when the burst began, and its last send */
    double burst;        /* kilobytes in it */
    bool clear;          /* it is known when it began */
} ss_bandwidth;

/** A burst that a send belongs to: kept with it until it is acknowledged. */
typedef struct ss_bandwidth_mark {
    int64_t since; /* ns */
    double sent;   /* kilobytes from there to the end of this send; 0 = nothing can be learnt from it */
} ss_bandwidth_mark;

/** Zeros are a fresh estimator. After a reconnection the estimate stays, the burst does not. */
void ss_bandwidth_reset_burst(ss_bandwidth *l);

/** What is known of the link when something is handed to it. */
typedef enum ss_bandwidth_link {
    SS_BANDWIDTH_EMPTY,  /* all that was sent before is acknowledged */
    SS_BANDWIDTH_UNSURE, /* it is not */
    SS_BANDWIDTH_BUSY    /* the link has not taken all of what was sent before: a write was cut short */
} ss_bandwidth_link;

/** n bytes were handed to the link at `now` (monotonic, ns). */
ss_bandwidth_mark ss_bandwidth_sent(ss_bandwidth *l, uint64_t n, ss_bandwidth_link state, int64_t now);

/** That send was acknowledged; the other side spent server_us on it. */
void ss_bandwidth_acknowledged(ss_bandwidth *l, ss_bandwidth_mark m, int64_t server_us, int64_t now);

/** True and bits per second, when it is known. */
bool ss_bandwidth_rate(const ss_bandwidth *l, double *bit_s);
/** True and milliseconds, as soon as there is a point. */
bool ss_bandwidth_rtt(const ss_bandwidth *l, double *ms);

#endif
