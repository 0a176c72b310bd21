/* Models for tests, made from a seed. */
#ifndef SS_TESTS_MODELS_H
#define SS_TESTS_MODELS_H

#include <check.h>
#include <string.h>

#include "base/mem.h"
#include "nn/model.h"

static ss_model *model_of(int width, int mels, int frames, int dim, ss_norm norm, uint64_t seed)
{
    ss_model_config c;
    ss_model *m;
    ss_err e;
    ss_model_config_default(&c);
    c.width = width;
    c.mels = mels;
    c.frames = frames;
    c.dim = dim;
    c.norm = norm;
    ck_assert_msg(ss_model_create(&m, &c, seed, &e) == SS_OK, "%s", e.text);
    return m;
}

/* The smallest that there is: 175,000 values. */
__attribute__((unused)) static ss_model *model_small(ss_norm norm)
{
    return model_of(8, 8, 8, 2, norm, 1);
}

/* One that learns: windows [16][24], embeddings of 16. */
__attribute__((unused)) static ss_model *model_for_learning(ss_norm norm)
{
    return model_of(16, 16, 24, 16, norm, 3);
}

__attribute__((unused)) static float *model_values(const ss_model *m)
{
    float *v = ss_alloc(m->nvalue, sizeof *v);
    ck_assert_ptr_nonnull(v);
    memcpy(v, m->value, m->nvalue * sizeof *v);
    return v;
}

#endif
