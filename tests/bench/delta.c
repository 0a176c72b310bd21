/*
 * What synchronising the weights costs: bytes and time of deltas from model to model, and what they leave.
 *
 *   bench-delta FIRST.safetensors NEXT.safetensors...
 *
 * The receiver knows FIRST and gets a delta for each NEXT, with error feedback. `left` is the length of what
 * it does not know then over that of what has moved since FIRST.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "nn/delta.h"

static void check(int rc, const ss_err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench-delta: %s\n", e->text);
    exit(1);
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static void chain(ss_model **m, int n, const ss_delta_config *c)
{
    ss_err e;
    size_t values = m[0]->nvalue;
    float *shadow = ss_alloc(values, sizeof *shadow);
    check(shadow ? SS_OK : ss_err_set(&e, SS_ENOMEM, "out of memory"), &e);
    memcpy(shadow, m[0]->value, values * sizeof *shadow);
    for (int i = 1; i < n; i++) {
        ss_delta_report r;
        ss_delta *d;
        void *bytes;
        size_t size;
        int64_t t0 = ss_clock_mono_ns();
        check(ss_delta_pack(m[i], m[i]->value, shadow, c, &bytes, &size, &r, &e), &e);
        int64_t t1 = ss_clock_mono_ns();
        check(ss_delta_open(&d, m[0], bytes, size, &e), &e);
        int64_t t2 = ss_clock_mono_ns();
        printf("%-4g  %6d  %-6s  %3d  %10zu  %6.2f  %6.3f  %8.4f  %7.1f  %7.1f\n", (double)c->keep, c->levels,
               c->per_tensor ? "tensor" : "row", i, size, 100.0 * (double)size / (4.0 * (double)values),
               8.0 * (double)size / (double)values, r.left / distance(m[i]->value, m[0]->value, values),
               (double)(t1 - t0) / 1e6, (double)(t2 - t1) / 1e6);
        ss_delta_close(&d);
        ss_free(bytes);
    }
    ss_free(shadow);
}

int main(int argc, char **argv)
{
    static const ss_delta_config how[] = {
        {1, 127, false}, {1, 127, true},     {1, 15, false},     {1, 7, false},    {1, 3, false},
        {1, 1, false},   {0.5f, 127, false}, {0.1f, 127, false}, {0.1f, 3, false}, {0.01f, 127, false}};
    ss_err e;
    ss_model **m = argc > 2 ? calloc((size_t)argc, sizeof *m) : NULL;
    if (!m) {
        fprintf(stderr, "usage: bench-delta FIRST.safetensors NEXT.safetensors...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        check(ss_model_load(&m[i - 1], argv[i], &e), &e);
    printf("%zu values, %zu bytes in f32\n", m[0]->nvalue, 4 * m[0]->nvalue);
    printf("keep  levels  scale   no.       bytes  %% f32   bits/v      left  pack ms  open ms\n");
    for (size_t i = 0; i < sizeof how / sizeof *how; i++)
        chain(m, argc - 1, &how[i]);
    for (int i = 1; i < argc; i++)
        ss_model_free(m[i - 1]);
    free(m);
    return 0;
}
