/*
 * Weight deltas, for the smallest model. The first byte says what the rest is: 0 a payload as it comes; else
 * a body, behind a head that is right, packed here, so that what lies behind zstd is reached.
 */
#include <math.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "fuzz.h"
#include "nn/delta.h"

enum { HEAD = 48 };

static ss_model *m;
static float *value;
static uint8_t head[HEAD];

static void prepare(void)
{
    ss_model_config c;
    ss_delta_config how;
    ss_err e;
    void *bytes;
    size_t size;
    ss_model_config_default(&c);
    c.width = c.mels = c.frames = 8;
    c.dim = 2;
    PROMISE(ss_model_create(&m, &c, 1, &e) == SS_OK);
    value = malloc(m->nvalue * sizeof *value);
    PROMISE(value != NULL);
    memcpy(value, m->value, m->nvalue * sizeof *value);
    ss_delta_config_default(&how);
    PROMISE(ss_delta_pack(m, m->value, value, &how, &bytes, &size, NULL, &e) == SS_OK);
    memcpy(head, bytes, HEAD);
    ss_free(bytes);
}

static void look(const uint8_t *data, size_t size)
{
    ss_delta *d;
    ss_err e = {0};
    size_t before = ss_mem_used();
    int rc = ss_delta_open(&d, m, data, size, &e);
    PROMISE(rc == SS_OK ? d != NULL
                        : !d && *e.text && (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EUNFIT));
    PROMISE(ss_mem_used() - before < 4 * m->nvalue);
    if (!rc) {
        for (size_t i = 0; i < m->nvalue; i++)
            value[i] = 0;
        ss_delta_add(d, value);
        for (size_t i = 0; i < m->nvalue; i++)
            PROMISE(isfinite(value[i]));
        PROMISE(ss_merge(d, value, value, 1, 1, &e) == SS_OK);
    }
    ss_delta_close(&d);
    PROMISE(ss_mem_used() == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!m)
        prepare();
    if (!size)
        return 0;
    if (!*data) {
        look(data + 1, size - 1);
        return 0;
    }
    size_t room = ZSTD_compressBound(size - 1);
    uint8_t *packed = malloc(HEAD + room);
    PROMISE(packed != NULL);
    memcpy(packed, head, HEAD);
    packed[5] = *data & 3; /* sparse, a scale for a tensor */
    for (int i = 0; i < 8; i++)
        packed[40 + i] = (uint8_t)((uint64_t)(size - 1) >> 8 * i);
    size_t n = ZSTD_compress(packed + HEAD, room, data + 1, size - 1, 1);
    PROMISE(!ZSTD_isError(n));
    look(packed, HEAD + n);
    free(packed);
    return 0;
}
