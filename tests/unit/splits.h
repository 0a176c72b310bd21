/* Profiles and traces made up for tests of what decides on cuts. */
#ifndef SS_TESTS_SPLITS_H
#define SS_TESTS_SPLITS_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/stream.h"
#include "split/profile.h"
#include "split/trace.h"
#include "unit.h"

typedef struct made_choice {
    int cut;
    const char *codec;
    double device_ms, server_ms, bytes, quality;
} made_choice;

/* Each number is the same for every window. Hop 500 ms, 1 W of processor, a radio of 2 W and 0.1 W per Mbit/s
 * without a tail. */
__attribute__((unused)) static ss_profile *made_profile(const made_choice *c, size_t n)
{
    ss_profile *p = ss_profile_new(n);
    strcpy(p->architecture, "0123456789abcdef");
    p->width = 1;
    p->mels = p->frames = p->device.threads = p->server.threads = 1;
    p->hop_ms = 500;
    p->has_server = true;
    p->full = 1;
    p->energy.cpu_w = 1;
    p->energy.radio_base_w = 2;
    p->energy.radio_w_per_mbit = 0.1;
    for (size_t i = 0; i < n; i++) {
        ss_profile_choice *to = &p->choice[i];
        to->cut = c[i].cut;
        strcpy(to->codec, c[i].codec);
        to->device_ms = (ss_profile_ms){c[i].device_ms, c[i].device_ms, c[i].device_ms};
        to->server_ms = (ss_profile_ms){c[i].server_ms, c[i].server_ms, c[i].server_ms};
        double b = c[i].bytes;
        to->bytes = (ss_profile_bytes){b, b, b, b, b, b};
        to->cosine_mean = to->cosine_p5 = c[i].quality;
    }
    return p;
}

/* rows: "0,1e6,10,0\n..." */
__attribute__((unused)) static ss_trace *made_trace(const char *rows)
{
    char text[1024];
    ss_trace *t;
    ss_err e = {0};
    snprintf(text, sizeof text, "time_s,bandwidth_bps,rtt_ms,cpu\n%s", rows);
    ck_assert_msg(!ss_trace_parse(&t, text, strlen(text), "t", SS_TRACE_CSV, 0, &e), "%s", e.text);
    return t;
}

__attribute__((unused)) static ss_profile *example_profile(void)
{
    char path[4096];
    ss_profile *p;
    ss_err e = {0};
    snprintf(path, sizeof path, "%s/tests/golden/profile-example.json", getenv("SS_SRC"));
    ck_assert_msg(!ss_profile_open(&p, path, &e), "%s", e.text);
    return p;
}

#endif
