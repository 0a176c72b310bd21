/* safetensors files, and models and state dicts in them: what is taken lies within the file and costs no more
 * memory than it. */
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "nn/model_internal.h"
#include "nn/quant.h"

static void look(ss_st *s, const ss_st_tensor *t, size_t size, uint64_t *end)
{
    char text[64];
    ss_err e;
    PROMISE(t->offset == *end && t->size <= size - t->offset); /* no gap, no overlap */
    *end += t->size;
    PROMISE(ss_st_find(s, t->name) == t);
    PROMISE(strlen(ss_st_shape_text(t, text, sizeof text)) < sizeof text);
    void *raw = malloc(t->size ? t->size : 1);
    PROMISE(raw && ss_st_read(s, t, raw, &e) == SS_OK);
    free(raw);
    float *f = malloc(t->count ? t->count * sizeof *f : 1);
    int rc = f ? ss_st_read_f32(s, t, f, &e) : SS_OK;
    PROMISE(rc == SS_OK || rc == SS_EUNFIT);
    free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_st *s;
    ss_err e = {0};
    ss_model *m;
    ss_model_config c;
    ss_import_note note = {0};
    int rc = ss_st_open_memory(&s, data, size, &e);
    PROMISE(rc == SS_OK ? s != NULL
                        : !s && *e.text && (rc == SS_EDAMAGED || rc == SS_ETRUNC || rc == SS_EUNFIT));
    if (rc == SS_OK) {
        uint64_t length;
        memcpy(&length, data, sizeof length);
        uint64_t end = sizeof length + length;
        for (int i = 0; i < ss_st_count(s); i++)
            look(s, ss_st_tensor_at(s, i), size, &end);
        PROMISE(end == size);
        for (int i = 0; ss_st_meta_at(s, i); i++)
            PROMISE(ss_st_meta_value(s, ss_st_meta_at(s, i)->key));
        rc = ss_st_check(s, &e);
        PROMISE(rc == 1 || rc == 0 || rc == SS_EDAMAGED);
        rc = ss_model_read(&m, s, &e);
        PROMISE(rc == SS_OK ? m->nvalue <= size / sizeof(float)
                            : !m && (rc == SS_EDAMAGED || rc == SS_EUNFIT));
        if (rc == SS_OK &&
            m->calibration.records) { /* one that is taken can be written again, and is the same */
            char line[SS_QUANT_TEXT];
            ss_calibration again = {0}, *one = &m->calibration;
            ss_quant_text(one, line);
            PROMISE(ss_quant_parse(line, &again, &e) == SS_OK);
            PROMISE(again.records == one->records && again.generation == one->generation &&
                    again.method == one->method && again.input_zero == one->input_zero &&
                    again.input_step == one->input_step &&
                    !memcmp(again.scale, one->scale, sizeof one->scale));
        }
        ss_model_free(m);
        ss_model_config_default(&c);
        c.dim = 2;
        rc = ss_model_import_from(&m, s, &c, 1, &note, &e);
        PROMISE(rc == SS_OK ? m->nvalue <= size / 2 + 2000 : !m && rc == SS_EUNFIT); /* 2000: a fresh fc */
        ss_model_free(m);
    }
    ss_st_close(&s);
    PROMISE(ss_mem_used() == 0);
    return 0;
}
