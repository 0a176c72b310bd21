#include "nn/codec.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rans.h"
#include "kernels/kernels.h"
#include "nn/codec_internal.h"
#include "nn/model_internal.h"

#define FORMAT_VERSION 1
#define LEAST_STEP     1e-30f
#define MOST_STEP      1e30f

/* ---- names ---- */

static const struct {
    const char *name;
    int number, dtype;
} plain[] = {
    {"f32", SS_CODEC_F32, SS_DTYPE_F32},      {"f16", SS_CODEC_F16, SS_DTYPE_F16},
    {"i8", SS_CODEC_I8, SS_DTYPE_I8},         {"u8", SS_CODEC_U8, SS_DTYPE_U8},
    {"opus", SS_CODEC_OPUS, SS_DTYPE_PACKED}, {"flac", SS_CODEC_FLAC, SS_DTYPE_PACKED},
    {"pcm", SS_CODEC_PCM, SS_DTYPE_PACKED},   {"logmel-u8", SS_CODEC_LOGMEL_U8, SS_DTYPE_PACKED},
};
enum { PLAIN = sizeof plain / sizeof *plain };

int ss_codec_number(int channels, int bits)
{
    return SS_CODEC_BOTTLENECK * channels + (bits == 8);
}

bool ss_codec_bottleneck(uint64_t number, int *channels, int *bits)
{
    if (number < SS_CODEC_BOTTLENECK || number % SS_CODEC_BOTTLENECK > 1 ||
        number / SS_CODEC_BOTTLENECK > SS_CODEC_CHANNELS)
        return false;
    *channels = (int)(number / SS_CODEC_BOTTLENECK);
    *bits = number % SS_CODEC_BOTTLENECK ? 8 : 4;
    return true;
}

/* The number at *at, without a leading 0, and *at behind it; -1 when there is none up to `most`. */
static int digits(const char **at, int most)
{
    int v = 0;
    if (**at < '1' || **at > '9')
        return -1;
    while (**at >= '0' && **at <= '9') {
        v = 10 * v + *(*at)++ - '0';
        if (v > most)
            return -1;
    }
    return v;
}

int ss_codec_parse(const char *name)
{
    for (int i = 0; i < PLAIN; i++)
        if (!strcmp(name, plain[i].name))
            return plain[i].number;
    if (*name++ != 'b')
        return SS_EINVAL;
    int channels = digits(&name, SS_CODEC_CHANNELS);
    if (channels < 0 || (strcmp(name, "i4") && strcmp(name, "i8")))
        return SS_EINVAL;
    return ss_codec_number(channels, name[1] - '0');
}

const char *ss_codec_name(uint64_t number, char out[32])
{
    int channels, bits;
    if (ss_codec_bottleneck(number, &channels, &bits))
        snprintf(out, 32, "b%di%d", channels, bits);
    else
        snprintf(out, 32, "codec %" PRIu64, number);
    for (int i = 0; i < PLAIN; i++)
        if (number == (uint64_t)plain[i].number)
            snprintf(out, 32, "%s", plain[i].name);
    return out;
}

bool ss_codec_known(uint64_t number)
{
    char name[32];
    return ss_codec_parse(ss_codec_name(number, name)) > 0;
}

int ss_codec_dtype(int number)
{
    for (int i = 0; i < PLAIN; i++)
        if (number == plain[i].number)
            return plain[i].dtype;
    return SS_DTYPE_PACKED;
}

/* ---- patches ---- */

ss_patches ss_patches_of(const ss_model_config *c, int cut, int patch)
{
    uint32_t d[3];
    ss_model_cut_shape(c, cut, d);
    ss_patches p = {.c = (int)d[0], .h = (int)d[1], .w = (int)d[2], .patch = patch};
    p.rows = (p.h + patch - 1) / patch;
    p.cols = (p.w + patch - 1) / patch;
    p.count = (size_t)p.rows * (size_t)p.cols;
    p.inputs = (size_t)p.c * (size_t)patch * (size_t)patch;
    return p;
}

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

/* Copies of a patch's row; the common sizes are worth a constant. */
static void copy_row(int n, const float *from, float *to)
{
    if (n == 4)
        memcpy(to, from, 4 * sizeof *to);
    else if (n == 2)
        memcpy(to, from, 2 * sizeof *to);
    else
        for (int i = 0; i < n; i++)
            to[i] = from[i];
}

void ss_patches_take(const ss_patches *p, const float *x, float *y)
{
    const int n = p->patch;
    for (int r = 0; r < p->rows; r++)
        for (int s = 0; s < p->cols; s++) {
            const bool whole = (s + 1) * n <= p->w;
            for (int c = 0; c < p->c; c++)
                for (int i = 0; i < n; i++, y += n) {
                    const float *row = x + (c * p->h + at_most(r * n + i, p->h - 1)) * p->w;
                    if (whole)
                        copy_row(n, row + s * n, y);
                    else
                        for (int j = 0; j < n; j++)
                            y[j] = row[at_most(s * n + j, p->w - 1)];
                }
        }
}

void ss_patches_put(const ss_patches *p, const float *y, float *x)
{
    const int n = p->patch;
    for (int r = 0; r < p->rows; r++)
        for (int s = 0; s < p->cols; s++) {
            const int wide = at_most(n, p->w - s * n);
            for (int c = 0; c < p->c; c++)
                for (int i = 0; i < n; i++, y += n)
                    if (r * n + i < p->h)
                        copy_row(wide, y, x + (c * p->h + r * n + i) * p->w + s * n);
        }
}

/* ---- as it is stored ---- */

static void place(ss_bottleneck *b)
{
    size_t channels = (size_t)b->channels;
    b->encode_weight = b->value;
    b->encode_bias = b->encode_weight + channels * b->inputs;
    b->decode_weight = b->encode_bias + channels;
    b->decode_bias = b->decode_weight + channels * b->inputs;
    b->step = b->decode_bias + (size_t)b->nlevel * b->inputs;
    b->bound = b->number;
    b->frequency[SS_CODEC_4] = b->bound + SS_CODEC_WIDTHS * channels * (SS_CODEC_CONTEXTS - 1);
    b->frequency[SS_CODEC_8] = b->frequency[SS_CODEC_4] + channels * SS_CODEC_CONTEXTS * 16;
}

int ss_bottleneck_room(ss_bottleneck *b)
{
    b->value = ss_zalloc(b->nvalue, sizeof *b->value);
    b->number = ss_zalloc(b->nnumber, sizeof *b->number);
    if (!b->value || !b->number) {
        ss_free(b->value);
        ss_free(b->number);
        b->value = NULL;
        b->number = NULL;
        return SS_ENOMEM;
    }
    place(b);
    return SS_OK;
}

int ss_bottleneck_create(ss_bottleneck **to, const ss_model_config *c, int cut, int patch, int nlevel,
                         const int *level, bool room)
{
    *to = NULL;
    bool good = cut >= SS_CUT_BLOCK0 && cut <= SS_CUT_EMBEDDING && patch >= 1 && patch <= SS_CODEC_PATCH &&
                (cut < SS_CUT_EMBEDDING || patch == 1) && nlevel >= 1 && nlevel <= SS_CODEC_LEVELS;
    for (int i = 0; i < nlevel && good; i++)
        good = level[i] > (i ? level[i - 1] : 0) && level[i] <= SS_CODEC_CHANNELS;
    if (!good)
        return SS_EINVAL;
    ss_bottleneck *b = ss_zalloc(1, sizeof *b);
    if (!b)
        return SS_ENOMEM;
    b->patch = patch;
    b->nlevel = nlevel;
    memcpy(b->level, level, (size_t)nlevel * sizeof *level);
    b->channels = level[nlevel - 1];
    b->inputs = ss_patches_of(c, cut, patch).inputs;
    size_t channels = (size_t)b->channels;
    b->nvalue = channels * (2 * b->inputs + 1 + SS_CODEC_WIDTHS) + (size_t)nlevel * b->inputs;
    b->nnumber = channels * (SS_CODEC_WIDTHS * (SS_CODEC_CONTEXTS - 1) + SS_CODEC_CONTEXTS * (16 + 256));
    if (!room) {
        *to = b;
        return SS_OK;
    }
    if (ss_bottleneck_room(b) < 0) {
        ss_free(b);
        return SS_ENOMEM;
    }
    for (size_t i = 0; i < SS_CODEC_WIDTHS * channels; i++)
        b->step[i] = 1;
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (size_t i = 0; i < channels * SS_CODEC_CONTEXTS * (size_t)ss_codec_symbols(w); i++)
            b->frequency[w][i] = (uint16_t)(SS_RANS_TOTAL / ss_codec_symbols(w));
    *to = b;
    return SS_OK;
}

int ss_bottleneck_clone(ss_bottleneck **to, const ss_bottleneck *from)
{
    ss_bottleneck *b = ss_zalloc(1, sizeof *b);
    *to = NULL;
    if (!b)
        return SS_ENOMEM;
    *b = *from;
    b->value = NULL;
    b->number = NULL;
    if (from->value && ss_bottleneck_room(b) < 0) {
        ss_free(b);
        return SS_ENOMEM;
    }
    if (from->value) {
        memcpy(b->value, from->value, b->nvalue * sizeof *b->value);
        memcpy(b->number, from->number, b->nnumber * sizeof *b->number);
    }
    *to = b;
    return SS_OK;
}

void ss_bottleneck_free(ss_bottleneck *b)
{
    if (!b)
        return;
    ss_free(b->value);
    ss_free(b->number);
    ss_free(b);
}

void ss_bottleneck_tensors(const ss_bottleneck *b, ss_bottleneck_tensor t[SS_BOTTLENECK_TENSORS])
{
    uint64_t channels = (uint64_t)b->channels, p = (uint64_t)b->patch, c = (uint64_t)b->inputs / p / p;
    const bool there = b->value != NULL;
    const ss_bottleneck_tensor all[SS_BOTTLENECK_TENSORS] = {
        {"encode.weight", SS_DTYPE_F32, 4, {channels, c, p, p}, there ? b->encode_weight : NULL},
        {"encode.bias", SS_DTYPE_F32, 1, {channels}, there ? b->encode_bias : NULL},
        {"decode.weight", SS_DTYPE_F32, 4, {channels, c, p, p}, there ? b->decode_weight : NULL},
        {"decode.bias", SS_DTYPE_F32, 4, {(uint64_t)b->nlevel, c, p, p}, there ? b->decode_bias : NULL},
        {"step", SS_DTYPE_F32, 2, {SS_CODEC_WIDTHS, channels}, there ? b->step : NULL},
        {"bound",
         SS_DTYPE_I16,
         3,
         {SS_CODEC_WIDTHS, channels, SS_CODEC_CONTEXTS - 1},
         there ? b->bound : NULL},
        {"frequency.4",
         SS_DTYPE_I16,
         3,
         {channels, SS_CODEC_CONTEXTS, 16},
         there ? b->frequency[SS_CODEC_4] : NULL},
        {"frequency.8",
         SS_DTYPE_I16,
         3,
         {channels, SS_CODEC_CONTEXTS, 256},
         there ? b->frequency[SS_CODEC_8] : NULL},
    };
    memcpy(t, all, sizeof all);
}

int ss_bottleneck_check(const ss_bottleneck *b, ss_err *e)
{
    uint16_t cumulative[257];
    if (!ss_all_finite(b->nvalue, b->value))
        return ss_err_set(e, SS_EUNFIT, "a value that is not finite");
    for (int i = 0; i < SS_CODEC_WIDTHS * b->channels; i++)
        if (!(b->step[i] >= LEAST_STEP && b->step[i] <= MOST_STEP))
            return ss_err_set(e, SS_EUNFIT, "step %d is %g, expected %g to %g", i, (double)b->step[i],
                              (double)LEAST_STEP, (double)MOST_STEP);
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (int i = 0; i < b->channels * SS_CODEC_CONTEXTS; i++)
            if (ss_rans_cumulate(ss_codec_symbols(w), b->frequency[w] + i * ss_codec_symbols(w), cumulative) <
                0)
                return ss_err_set(e, SS_EDAMAGED,
                                  "the frequencies of channel %d in %d bits are not above 0 and together %d",
                                  i / SS_CODEC_CONTEXTS, w ? 8 : 4, SS_RANS_TOTAL);
    return SS_OK;
}

/* version patch generation windows level... */

void ss_bottleneck_text(const ss_bottleneck *b, char out[SS_BOTTLENECK_TEXT])
{
    int n = snprintf(out, SS_BOTTLENECK_TEXT, "%d %d %" PRIu64 " %" PRIu64, FORMAT_VERSION, b->patch,
                     b->generation, b->windows);
    for (int i = 0; i < b->nlevel; i++)
        n += snprintf(out + n, SS_BOTTLENECK_TEXT - (size_t)n, " %d", b->level[i]);
}

/* The number at *at, and *at behind it and a space. */
static bool whole_number(const char **at, uint64_t max, uint64_t *to)
{
    char *end;
    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(*at, &end, 10);
    *to = v;
    *at = end;
    if (**at == ' ' && (*at)[1])
        ++*at;
    else if (**at)
        return false;
    return !errno && v <= max;
}

int ss_bottleneck_parse(ss_bottleneck **b, const ss_model_config *c, int cut, const char *text, ss_err *e)
{
    uint64_t version, patch, generation, windows, v;
    const char *at = text;
    int level[SS_CODEC_LEVELS], n = 0;
    *b = NULL;
    if (!whole_number(&at, UINT32_MAX, &version))
        return ss_err_set(e, SS_EDAMAGED, "found '%.40s', expected a version", text);
    if (version != FORMAT_VERSION)
        return ss_err_set(e, SS_EUNFIT, "version %" PRIu64 ", expected %d", version, FORMAT_VERSION);
    bool good = whole_number(&at, SS_CODEC_PATCH, &patch) && whole_number(&at, UINT64_MAX, &generation) &&
                whole_number(&at, UINT64_MAX, &windows);
    while (good && *at) {
        good = n < SS_CODEC_LEVELS && whole_number(&at, SS_CODEC_CHANNELS, &v);
        if (good)
            level[n++] = (int)v;
    }
    int rc = good ? ss_bottleneck_create(b, c, cut, (int)patch, n, level, false) : SS_EINVAL;
    if (rc == SS_ENOMEM)
        return ss_err_set(e, rc, "cannot allocate a codec");
    if (rc < 0)
        return ss_err_set(e, SS_EDAMAGED,
                          "'%.40s' is not a patch, a generation, a number of windows and rising "
                          "numbers of channels",
                          text);
    (*b)->generation = generation;
    (*b)->windows = windows;
    return SS_OK;
}

int ss_codec_list(const ss_model *m, int cut, int *number)
{
    const ss_bottleneck *b = cut >= 0 && cut <= SS_CUT_EMBEDDING ? m->codec[cut] : NULL;
    int n = 0;
    for (int i = 0; b && i < b->nlevel; i++)
        for (int bits = 4; bits <= 8; bits += 4)
            number[n++] = ss_codec_number(b->level[i], bits);
    return n;
}

/* ---- running ---- */

struct ss_codec {
    ss_bottleneck *b;
    int cut;
    uint8_t id;
    ss_patches grid;
    ss_conv there, back;
    float *there_packed, *back_packed;
    uint16_t *cumulative[SS_CODEC_WIDTHS]; /* [channels][contexts][symbols + 1] */
    float *x, *y, *work;                   /* [count][inputs], [count][channels] */
    int16_t *q;                            /* [count][channels] */
    uint8_t *room;                         /* of the coder */
    size_t held;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void *take(ss_codec *c, size_t n, size_t size, int *rc)
{
    void *p = ss_alloc(n, size);
    if (!p)
        *rc = SS_ENOMEM;
    c->held += n * size;
    return p;
}

/* The map back has a weight [inputs][channels]. */
static void turn(const ss_bottleneck *b, float *to)
{
    for (size_t i = 0; i < b->inputs; i++)
        for (size_t j = 0; j < (size_t)b->channels; j++)
            to[i * (size_t)b->channels + j] = b->decode_weight[j * b->inputs + i];
}

static int prepare(ss_codec *c)
{
    const ss_bottleneck *b = c->b;
    size_t channels = (size_t)b->channels, count = c->grid.count;
    int rc = ss_conv_linear(&c->there, (int)b->inputs, b->channels);
    if (rc == SS_OK)
        rc = ss_conv_linear(&c->back, b->channels, (int)b->inputs);
    if (rc < 0)
        return rc;
    c->there_packed = take(c, ss_conv_packed(&c->there), 1, &rc);
    c->back_packed = take(c, ss_conv_packed(&c->back), 1, &rc);
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        c->cumulative[w] = take(c, channels * SS_CODEC_CONTEXTS * ((size_t)ss_codec_symbols(w) + 1),
                                sizeof *c->cumulative[w], &rc);
    c->x = take(c, larger(count, channels) * b->inputs, sizeof *c->x, &rc);
    c->y = take(c, count * channels, sizeof *c->y, &rc);
    c->q = take(c, count * channels, sizeof *c->q, &rc);
    c->room = take(c, SS_RANS_BOUND(count * channels), 1, &rc);
    c->work =
        take(c, larger(ss_conv_work(&c->there, (int)count, NULL), ss_conv_work(&c->back, (int)count, NULL)),
             sizeof *c->work, &rc);
    if (rc < 0)
        return rc;
    ss_conv_pack(&c->there, b->encode_weight, c->there_packed);
    turn(b, c->x);
    ss_conv_pack(&c->back, c->x, c->back_packed);
    for (int w = 0; w < SS_CODEC_WIDTHS; w++) {
        int n = ss_codec_symbols(w);
        for (int i = 0; i < b->channels * SS_CODEC_CONTEXTS; i++)
            ss_rans_cumulate(n, b->frequency[w] + i * n, c->cumulative[w] + i * (n + 1));
    }
    uint32_t crc = ss_crc32c(0, b->value, b->nvalue * sizeof *b->value);
    crc = ss_crc32c(crc, b->number, b->nnumber * sizeof *b->number);
    c->id = (uint8_t)(crc ^ crc >> 8 ^ crc >> 16 ^ crc >> 24);
    return SS_OK;
}

int ss_codec_open(ss_codec **to, const ss_model *m, int cut, ss_err *e)
{
    *to = NULL;
    if (cut < 0 || cut > SS_CUT_EMBEDDING || !m->codec[cut])
        return ss_err_set(e, SS_EUNFIT, "the model has no codecs at cut %s: ss-model codecs makes them",
                          ss_cut_name(cut));
    ss_codec *c = ss_zalloc(1, sizeof *c);
    if (!c)
        return ss_err_set(e, SS_ENOMEM, "cannot allocate a codec");
    int rc = ss_model_bottleneck(m, cut, &c->b, e);
    if (rc == SS_OK) {
        c->cut = cut;
        c->held = sizeof *c + sizeof *c->b + c->b->nvalue * sizeof(float) + c->b->nnumber * sizeof(uint16_t);
        c->grid = ss_patches_of(&m->config, cut, c->b->patch);
        rc = prepare(c);
        if (rc < 0)
            ss_err_set(e, rc, "cannot allocate the codecs of cut %s", ss_cut_name(cut));
    }
    if (rc < 0)
        ss_codec_close(&c);
    *to = c;
    return rc;
}

void ss_codec_close(ss_codec **to)
{
    ss_codec *c = *to;
    if (!c)
        return;
    ss_bottleneck_free(c->b);
    void *owned[] = {c->there_packed, c->back_packed, c->cumulative[0], c->cumulative[1], c->x, c->y, c->q,
                     c->room,         c->work};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        ss_free(owned[i]);
    ss_free(c);
    *to = NULL;
}

size_t ss_codec_memory(const ss_codec *c)
{
    return c->held;
}

size_t ss_codec_room(const ss_codec *c)
{
    return 1 + SS_RANS_BOUND(c->grid.count * (size_t)c->b->channels);
}

/* The level of a codec, or -1. */
static int level_of(const ss_codec *c, uint64_t number, int *channels, int *width)
{
    int bits;
    if (!ss_codec_bottleneck(number, channels, &bits))
        return -1;
    *width = bits == 8 ? SS_CODEC_8 : SS_CODEC_4;
    for (int i = 0; i < c->b->nlevel; i++)
        if (c->b->level[i] == *channels)
            return i;
    return -1;
}

int ss_codec_check(const ss_codec *c, uint64_t number, ss_err *e)
{
    int channels, width;
    char name[32], there[64] = "";
    if (level_of(c, number, &channels, &width) >= 0)
        return SS_OK;
    for (int i = 0; i < c->b->nlevel; i++)
        snprintf(there + strlen(there), sizeof there - strlen(there), "%s%d", i ? ", " : "", c->b->level[i]);
    return ss_err_set(e, SS_EUNFIT, "found %s, the model has bCi8 and bCi4 at cut %s for C = %s",
                      ss_codec_name(number, name), ss_cut_name(c->cut), there);
}

void ss_codec_round(const ss_bottleneck *b, int width, int channels, size_t count, const float *y, int16_t *q)
{
    const float *step = b->step + width * b->channels;
    const float most = (float)(ss_codec_symbols(width) / 2 - 1), least = -most - 1;
    for (size_t i = 0; i < count; i++, y += b->channels, q += b->channels)
        for (int j = 0; j < channels; j++) {
            float v = y[j] / step[j];
            v = v < most ? v : most; /* and what is no number */
            q[j] = (int16_t)lrintf(v > least ? v : least);
        }
}

static int size_of(int16_t q)
{
    return q < 0 ? -q : q;
}

int ss_codec_around(const int16_t *q, int channels, int cols, int row, int col, int channel)
{
    const int16_t *at = q + (row * cols + col) * channels + channel;
    if (row && col)
        return size_of(at[-channels]) + size_of(at[-cols * channels]);
    return row ? 2 * size_of(at[-cols * channels]) : col ? 2 * size_of(at[-channels]) : 0;
}

static int context_of(const ss_codec *c, int width, int row, int col, int channel)
{
    const uint16_t *bound = c->b->bound + (width * c->b->channels + channel) * (SS_CODEC_CONTEXTS - 1);
    int around = ss_codec_around(c->q, c->b->channels, c->grid.cols, row, col, channel);
    return (around > bound[0]) + (around > bound[1]);
}

int ss_codec_encode(ss_codec *c, uint64_t number, const float *x, void *payload, ss_err *e)
{
    int channels, width, level = level_of(c, number, &channels, &width);
    const int symbols = level < 0 ? 0 : ss_codec_symbols(width);
    if (level < 0)
        return ss_codec_check(c, number, e);
    ss_patches_take(&c->grid, x, c->x);
    ss_conv_forward(&c->there, NULL, (int)c->grid.count, c->x, c->there_packed, c->b->encode_bias, NULL,
                    false, c->y, c->work);
    ss_codec_round(c->b, width, channels, c->grid.count, c->y, c->q);
    ss_rans_writer w;
    ss_rans_begin(&w, c->room, SS_RANS_BOUND(c->grid.count * (size_t)channels));
    for (int row = c->grid.rows; row-- > 0;)
        for (int col = c->grid.cols; col-- > 0;)
            for (int j = channels; j-- > 0;) {
                int s = c->q[(row * c->grid.cols + col) * c->b->channels + j] + symbols / 2;
                const uint16_t *table =
                    c->cumulative[width] +
                    (j * SS_CODEC_CONTEXTS + context_of(c, width, row, col, j)) * (symbols + 1);
                ss_rans_put(&w, table[s], (uint32_t)(table[s + 1] - table[s]));
            }
    size_t size;
    const uint8_t *bytes = ss_rans_finish(&w, &size);
    *(uint8_t *)payload = c->id;
    memcpy((uint8_t *)payload + 1, bytes, size);
    return (int)size + 1;
}

/* Numbers times steps; channels beyond those that came are 0. */
static void scale_numbers(const ss_codec *c, int width, int channels)
{
    const float *step = c->b->step + width * c->b->channels;
    for (size_t i = 0; i < c->grid.count; i++)
        for (int j = 0; j < c->b->channels; j++) {
            size_t at = i * (size_t)c->b->channels + (size_t)j;
            c->y[at] = j < channels ? (float)c->q[at] * step[j] : 0;
        }
}

int ss_codec_decode(ss_codec *c, uint64_t number, const void *payload, size_t size, float *x, ss_err *e)
{
    int channels, width, level = level_of(c, number, &channels, &width);
    const int symbols = level < 0 ? 0 : ss_codec_symbols(width);
    const uint8_t *bytes = payload;
    char name[32];
    if (level < 0)
        return ss_codec_check(c, number, e);
    ss_codec_name(number, name);
    if (size < 1 + SS_RANS_STATE)
        return ss_err_set(e, SS_ETRUNC, "a payload of %s at cut %s has %zu bytes, expected at least %d", name,
                          ss_cut_name(c->cut), size, 1 + SS_RANS_STATE);
    if (*bytes != c->id)
        return ss_err_set(e, SS_EUNFIT,
                          "found a payload of %s at cut %s from training %02x of the codec, the model has "
                          "%02x: both ends need the same",
                          name, ss_cut_name(c->cut), *bytes, c->id);
    ss_rans_reader r;
    ss_rans_start(&r, bytes + 1, size - 1);
    for (int row = 0; row < c->grid.rows; row++)
        for (int col = 0; col < c->grid.cols; col++)
            for (int j = 0; j < channels; j++) {
                const uint16_t *table =
                    c->cumulative[width] +
                    (j * SS_CODEC_CONTEXTS + context_of(c, width, row, col, j)) * (symbols + 1);
                c->q[(row * c->grid.cols + col) * c->b->channels + j] =
                    (int16_t)(ss_rans_get(&r, symbols, table) - symbols / 2);
            }
    int rc = ss_rans_end(&r);
    if (rc < 0)
        return ss_err_set(e, rc, "a payload of %s at cut %s, %zu bytes, %s", name, ss_cut_name(c->cut), size,
                          rc == SS_ETRUNC ? "ends before its last number"
                                          : "does not end with its last number");
    scale_numbers(c, width, channels);
    ss_conv_forward(&c->back, NULL, (int)c->grid.count, c->y, c->back_packed,
                    c->b->decode_bias + (size_t)level * c->b->inputs, NULL, c->cut < SS_CUT_EMBEDDING, c->x,
                    c->work);
    ss_patches_put(&c->grid, c->x, x);
    if (c->cut == SS_CUT_EMBEDDING)
        ss_l2norm_forward(1, (int)c->grid.inputs, x, x, NULL);
    return SS_OK;
}
