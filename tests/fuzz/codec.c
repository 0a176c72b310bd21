/*
 * Payloads of cut codecs. The first byte chooses cut, level and bits; the second one whether the byte that
 * tells trainings apart is set right, so that what lies behind it is reached; the rest is the payload.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rans.h"
#include "base/rng.h"
#include "fuzz.h"
#include "nn/codec_internal.h"

enum { CODECS = 3 };
static const int cut[CODECS] = {SS_CUT_BLOCK0 + 1, SS_CUT_BLOCK0 + 4, SS_CUT_EMBEDDING};
static ss_codec *codec[CODECS];
static uint8_t id[CODECS];
static float *x;
static size_t volume[CODECS];

/* Weights and tables by a seed. */
static void put(ss_model *m, int at, int patch)
{
    ss_bottleneck *b;
    PROMISE(ss_bottleneck_create(&b, &m->config, at, patch, 2, (int[]){3, 8}, true) == SS_OK);
    ss_rng r = ss_rng_make(1, (uint64_t)at);
    ss_rng_fill_normal(&r, b->value, (size_t)(b->step - b->value));
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (int i = 0; i < b->channels * SS_CODEC_CONTEXTS; i++) {
            uint64_t count[256];
            int n = ss_codec_symbols(w);
            for (int s = 0; s < n; s++)
                count[s] = 1 + (uint64_t)ss_rng_below(&r, 1000) * (uint64_t)(n / 2 - abs(s - n / 2));
            ss_rans_frequencies(n, count, b->frequency[w] + i * n);
        }
    m->codec[at] = b;
}

static void prepare(void)
{
    ss_model_config c;
    ss_model *m;
    uint8_t payload[4096];
    ss_model_config_default(&c);
    c.width = 8;
    c.mels = 20;
    c.frames = 28;
    c.dim = 12;
    PROMISE(ss_model_create(&m, &c, 1, NULL) == SS_OK);
    x = calloc(8 * 5 * 7, sizeof *x);
    PROMISE(x != NULL);
    for (int i = 0; i < CODECS; i++) {
        uint32_t d[3];
        ss_model_cut_shape(&c, cut[i], d);
        volume[i] = (size_t)d[0] * d[1] * d[2];
        PROMISE(volume[i] <= 8 * 5 * 7);
        put(m, cut[i], i == 0 ? 2 : 1);
        PROMISE(ss_codec_open(&codec[i], m, cut[i], NULL) == SS_OK);
        PROMISE(ss_codec_room(codec[i]) <= sizeof payload);
        PROMISE(ss_codec_encode(codec[i], (uint64_t)ss_codec_number(3, 4), x, payload, NULL) > 0);
        id[i] = *payload;
    }
    ss_model_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!x)
        prepare();
    if (size < 2)
        return 0;
    int i = *data % CODECS, channels = *data / CODECS % 2 ? 8 : 3, bits = *data / (2 * CODECS) % 2 ? 8 : 4;
    uint8_t *payload = malloc(size);
    float *y = malloc(volume[i] * sizeof *y);
    ss_err e = {0};
    PROMISE(payload && y);
    memcpy(payload, data + 2, size - 2);
    if (size > 2 && data[1])
        *payload = id[i];
    size_t before = ss_mem_used();
    int rc = ss_codec_decode(codec[i], (uint64_t)ss_codec_number(channels, bits), payload, size - 2, y, &e);
    PROMISE(rc == SS_OK || (*e.text && (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EUNFIT)));
    PROMISE(ss_mem_used() == before);
    for (size_t k = 0; k < volume[i] && rc == SS_OK; k++)
        PROMISE(isfinite(y[k]));
    free(payload);
    free(y);
    return 0;
}
