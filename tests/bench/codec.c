/*
 * What packing a window costs beside the blocks before the cut: MODEL with codecs (ss-model codecs).
 *
 *   bench-codec MODEL.safetensors
 *
 * For each cut with codecs: the blocks until it, one window on one thread; then for its codecs, packing and
 * unpacking of noise behind a ReLU, least and median of many calls in turns. Bytes are those of noise, and
 * more than those of sound.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "nn/codec.h"
#include "nn/net.h"

enum { ROUNDS = 300 };

static void check(int rc, const ss_err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench-codec: %s\n", e->text);
    exit(1);
}

static int order(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print(int64_t *ns)
{
    qsort(ns, ROUNDS, sizeof *ns, order);
    printf("  %7.1f %7.1f", (double)ns[0] * 1e-3, (double)ns[ROUNDS / 2] * 1e-3);
}

static void cut_of(const ss_model *m, int cut)
{
    static int64_t took[3][ROUNDS];
    ss_err e;
    ss_net *net;
    ss_codec *c;
    int number[2 * SS_CODEC_LEVELS], n = ss_codec_list(m, cut, number), size = 0;
    size_t in = ss_model_cut_size(&m->config, SS_CUT_INPUT), out = ss_model_cut_size(&m->config, cut);
    check(ss_codec_open(&c, m, cut, &e), &e);
    check(ss_net_open(&net, m, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, cut, 1, &e), &e);
    float *x = ss_alloc(in, sizeof *x), *y = ss_alloc(2 * out, sizeof *y);
    uint8_t *payload = ss_alloc(ss_codec_room(c), 1);
    check(x && y && payload ? SS_OK : ss_err_set(&e, SS_ENOMEM, "out of memory"), &e);
    ss_rng r = ss_rng_make(1, 0);
    ss_rng_fill_normal(&r, x, in);
    for (size_t i = 0; i < in; i++)
        x[i] = 5 * x[i] - 4.5f;
    for (int i = 0; i < n; i++) {
        char name[32];
        for (int k = 0; k < ROUNDS; k++) {
            int64_t t0 = ss_clock_mono_ns();
            ss_net_run(net, 1, x, y);
            int64_t t1 = ss_clock_mono_ns();
            size = ss_codec_encode(c, (uint64_t)number[i], y, payload, &e);
            int64_t t2 = ss_clock_mono_ns();
            check(size, &e);
            check(ss_codec_decode(c, (uint64_t)number[i], payload, (size_t)size, y + out, &e), &e);
            took[0][k] = t1 - t0;
            took[1][k] = t2 - t1;
            took[2][k] = ss_clock_mono_ns() - t2;
        }
        printf("%-9s  %-7s  %6d", ss_cut_name(cut), ss_codec_name((uint64_t)number[i], name), size);
        for (int what = 0; what < 3; what++)
            print(took[what]);
        printf("  %9zu\n", ss_codec_memory(c));
    }
    ss_free(x);
    ss_free(y);
    ss_free(payload);
    ss_net_close(&net);
    ss_codec_close(&c);
}

int main(int argc, char **argv)
{
    ss_model *m;
    ss_err e;
    if (argc != 2) {
        fprintf(stderr, "usage: bench-codec MODEL.safetensors\n");
        return 2;
    }
    check(ss_model_load(&m, argv[1], &e), &e);
    printf("%-9s  %-7s  %6s  %15s  %15s  %15s  %9s\n%-9s  %-7s  %6s  %7s %7s  %7s %7s  %7s %7s  %9s\n", "",
           "", "", "blocks, us", "pack, us", "unpack, us", "held", "cut", "codec", "bytes", "least", "median",
           "least", "median", "least", "median", "bytes");
    for (int cut = 0; cut <= SS_CUT_EMBEDDING; cut++)
        if (m->codec[cut])
            cut_of(m, cut);
    ss_model_free(m);
    return 0;
}
