/* The registry of ss-stream(5): dtypes, attributes, cuts; and the attribute accessors. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "io/stream.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [SS_DTYPE_F32] = {"f32", 4},       [SS_DTYPE_F16] = {"f16", 2}, [SS_DTYPE_BF16] = {"bf16", 2},
    [SS_DTYPE_I8] = {"i8", 1},         [SS_DTYPE_U8] = {"u8", 1},   [SS_DTYPE_I16] = {"i16", 2},
    [SS_DTYPE_I32] = {"i32", 4},       [SS_DTYPE_I64] = {"i64", 8}, [SS_DTYPE_F64] = {"f64", 8},
    [SS_DTYPE_PACKED] = {"packed", 0},
};
enum { NDTYPES = sizeof dtypes / sizeof *dtypes };

size_t ss_dtype_size(int dtype)
{
    return dtype > 0 && dtype < NDTYPES ? dtypes[dtype].size : 0;
}

const char *ss_dtype_name(int dtype)
{
    return dtype > 0 && dtype < NDTYPES ? dtypes[dtype].name : NULL;
}

int ss_dtype_parse(const char *name)
{
    for (int i = 1; i < NDTYPES; i++)
        if (!strcmp(dtypes[i].name, name))
            return i;
    return 0;
}

static const char *const type_names[] = {
    [SS_TYPE_DATA] = "data",     [SS_TYPE_GAP] = "gap",
    [SS_TYPE_RESULT] = "result", [SS_TYPE_ACK] = "ack",
    [SS_TYPE_RESUME] = "resume", [SS_TYPE_GRADIENT] = "gradient",
    [SS_TYPE_DELTA] = "delta",   [SS_TYPE_MIXTURE] = "mixture",
    [SS_TYPE_END] = "end",       [SS_TYPE_KEEPALIVE] = "keepalive",
};
enum { NTYPES = sizeof type_names / sizeof *type_names };

const char *ss_type_name(int type)
{
    return type > 0 && type < NTYPES ? type_names[type] : NULL;
}

int ss_type_parse(const char *name)
{
    for (int i = 1; i < NTYPES; i++)
        if (type_names[i] && !strcmp(type_names[i], name))
            return i;
    return 0;
}

static const char *const attr_names[SS_ATTR_MAX + 1] = {
    [SS_ATTR_SPLIT] = "split",
    [SS_ATTR_CODEC] = "codec",
    [SS_ATTR_U] = "u",
    [SS_ATTR_NOVELTY] = "novelty",
    [SS_ATTR_LABEL] = "label",
    [SS_ATTR_CLIP] = "clip",
    [SS_ATTR_FOLD] = "fold",
    [SS_ATTR_GENERATION] = "generation",
    [SS_ATTR_SCALE] = "scale",
    [SS_ATTR_RESOLUTION] = "resolution",
    [SS_ATTR_HOLD] = "hold",
    [SS_ATTR_LOSS] = "loss",
    [SS_ATTR_COUNT] = "count",
    [SS_ATTR_REASON] = "reason",
    [SS_ATTR_SENT] = "sent",
    [SS_ATTR_T_CAPTURE] = "t_capture",
    [SS_ATTR_T_FEATURIZE] = "t_featurize",
    [SS_ATTR_T_POLICY] = "t_policy",
    [SS_ATTR_T_ENCODE] = "t_encode",
    [SS_ATTR_T_TRAIN] = "t_train",
    [SS_ATTR_T_LINK] = "t_link",
    [SS_ATTR_T_SERVE] = "t_serve",
    [SS_ATTR_T_FINISH] = "t_finish",
    [SS_ATTR_W_FEATURIZE] = "w_featurize",
    [SS_ATTR_W_POLICY] = "w_policy",
    [SS_ATTR_W_ENCODE] = "w_encode",
    [SS_ATTR_W_TRAIN] = "w_train",
    [SS_ATTR_W_LINK] = "w_link",
    [SS_ATTR_W_SERVE] = "w_serve",
    [SS_ATTR_W_FINISH] = "w_finish",
    [SS_ATTR_VERSION_FROM] = "version_from",
    [SS_ATTR_VERSION_TO] = "version_to",
    [SS_ATTR_ENERGY] = "energy",
    [SS_ATTR_ENERGY_MEASURED] = "energy_measured",
};

const char *ss_attr_name(int attr)
{
    return attr > 0 && attr <= SS_ATTR_MAX ? attr_names[attr] : NULL;
}

int ss_attr_parse(const char *name)
{
    for (int i = 1; i <= SS_ATTR_MAX; i++)
        if (attr_names[i] && !strcmp(attr_names[i], name))
            return i;
    return 0;
}

bool ss_attr_is_float(int attr)
{
    switch (attr) {
    case SS_ATTR_U:
    case SS_ATTR_NOVELTY:
    case SS_ATTR_SCALE:
    case SS_ATTR_LOSS:
    case SS_ATTR_ENERGY:
    case SS_ATTR_ENERGY_MEASURED:
        return true;
    default:
        return false;
    }
}

bool ss_attr_has(const ss_attrs *a, int attr)
{
    return attr > 0 && attr <= SS_ATTR_MAX && (a->present >> attr & 1);
}

uint64_t ss_attr_uint(const ss_attrs *a, int attr, uint64_t otherwise)
{
    return ss_attr_has(a, attr) ? a->value[attr] : otherwise;
}

float ss_attr_f32(const ss_attrs *a, int attr, float otherwise)
{
    if (!ss_attr_has(a, attr))
        return otherwise;
    uint32_t bits = (uint32_t)a->value[attr];
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

void ss_attr_set_uint(ss_attrs *a, int attr, uint64_t v)
{
    if (attr > 0 && attr <= SS_ATTR_MAX) {
        a->present |= (uint64_t)1 << attr;
        a->value[attr] = v;
    }
}

void ss_attr_set_f32(ss_attrs *a, int attr, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    ss_attr_set_uint(a, attr, bits);
}

void ss_attr_clear(ss_attrs *a, int attr)
{
    if (attr > 0 && attr <= SS_ATTR_MAX)
        a->present &= ~((uint64_t)1 << attr);
}

static const char *const cuts[] = {"input", "0", "1", "2", "3", "4", "5", "6", "7", "8", "embedding"};

int ss_cut_parse(const char *text)
{
    for (int i = 0; i <= SS_CUT_EMBEDDING; i++)
        if (!strcmp(cuts[i], text))
            return i;
    return SS_EINVAL;
}

const char *ss_cut_name(int cut)
{
    return cut >= 0 && cut <= SS_CUT_EMBEDDING ? cuts[cut] : NULL;
}

static uint32_t real_us(void)
{
    return (uint32_t)(ss_clock_real_ns() / 1000);
}

int64_t ss_stage_begin(ss_attrs *a, int wait)
{
    if (wait && ss_attr_has(a, SS_ATTR_SENT)) {
        uint32_t waited = real_us() - (uint32_t)a->value[SS_ATTR_SENT];
        if (waited > INT32_MAX) /* the other machine's clock is ahead */
            waited = 0;
        ss_attr_set_uint(a, wait, ss_attr_uint(a, wait, 0) + waited);
    }
    return ss_clock_mono_ns();
}

void ss_stage_end(ss_attrs *a, int work, int64_t begun)
{
    int64_t us = (ss_clock_mono_ns() - begun) / 1000;
    if (work)
        ss_attr_set_uint(a, work, ss_attr_uint(a, work, 0) + (us > 0 ? (uint64_t)us : 0));
    ss_attr_set_uint(a, SS_ATTR_SENT, real_us());
}
