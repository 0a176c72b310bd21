#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "failalloc.h"
#include "faults.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rans.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "nn/codec_internal.h"
#include "nn/net.h"
#include "unit.h"

/* The smallest model, with sizes that no patch divides: cuts 0 to 2 are 8 x 5 x 7. */
static ss_model *small(void)
{
    ss_model_config c;
    ss_model *m;
    ss_model_config_default(&c);
    c.width = 8;
    c.mels = 20;
    c.frames = 28;
    c.dim = 12;
    ck_assert_int_eq(ss_model_create(&m, &c, 1, NULL), SS_OK);
    return m;
}

/* Tables of a peaked law in all contexts, each a little different. */
static void fill_tables(ss_bottleneck *b)
{
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (int i = 0; i < b->channels * SS_CODEC_CONTEXTS; i++) {
            int n = ss_codec_symbols(w);
            uint64_t count[256];
            for (int s = 0; s < n; s++)
                count[s] = (uint64_t)(1e6 * exp(-abs(s - n / 2) / (0.5 + i % 7)));
            ss_rans_frequencies(n, count, b->frequency[w] + i * n);
        }
    for (int i = 0; i < SS_CODEC_WIDTHS * b->channels; i++) {
        b->bound[2 * i] = 0;
        b->bound[2 * i + 1] = 3;
    }
}

/* Each channel is one value of the patch. */
static void put_identity(ss_model *m, int cut, int patch, int nlevel, const int *level, float step)
{
    ss_bottleneck *b;
    ck_assert_int_eq(ss_bottleneck_create(&b, &m->config, cut, patch, nlevel, level, true), SS_OK);
    for (int j = 0; j < b->channels; j++)
        b->encode_weight[(size_t)j * b->inputs + (size_t)j] =
            b->decode_weight[(size_t)j * b->inputs + (size_t)j] = 1;
    for (int i = 0; i < SS_CODEC_WIDTHS * b->channels; i++)
        b->step[i] = step;
    fill_tables(b);
    m->codec[cut] = b;
}

static void put_random(ss_model *m, int cut, int patch, int nlevel, const int *level, uint64_t seed)
{
    put_identity(m, cut, patch, nlevel, level, 0.25f);
    ss_bottleneck *b = m->codec[cut];
    ss_rng r = ss_rng_make(seed, (uint64_t)cut);
    ss_rng_fill_normal(&r, b->value, (size_t)(b->step - b->value));
}

static size_t volume(const ss_model *m, int cut)
{
    uint32_t d[3];
    ss_model_cut_shape(&m->config, cut, d);
    return (size_t)d[0] * d[1] * d[2];
}

static float *noise(size_t n, float scale, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    ss_rng r = ss_rng_make(seed, 0);
    ss_rng_fill_normal(&r, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * fmaxf(x[i], 0);
    return x;
}

START_TEST(names)
{
    static const struct {
        const char *name;
        int number;
    } row[] = {{"f32", 1},  {"f16", 2},        {"i8", 3},    {"u8", 4},    {"opus", 8},    {"flac", 9},
               {"pcm", 10}, {"logmel-u8", 11}, {"b1i4", 16}, {"b1i8", 17}, {"b16i8", 257}, {"b255i4", 4080}};
    static const char *const bad[] = {"",       "b",     "b0i8", "b16",   "b16i",  "b16i5", "b16i88",
                                      "b256i8", "b08i8", "16i8", "B16i8", "b-1i8", "f64",   "b99999999999i8"};
    char name[32];
    int channels, bits;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ck_assert_int_eq(ss_codec_parse(row[i].name), row[i].number);
        ck_assert_str_eq(ss_codec_name((uint64_t)row[i].number, name), row[i].name);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(ss_codec_parse(bad[i]) == SS_EINVAL, "%s", bad[i]);
    for (int c = 1; c <= SS_CODEC_CHANNELS; c++)
        for (int b = 4; b <= 8; b += 4) {
            ck_assert_int_eq(ss_codec_parse(ss_codec_name((uint64_t)ss_codec_number(c, b), name)),
                             ss_codec_number(c, b));
            ck_assert(ss_codec_bottleneck((uint64_t)ss_codec_number(c, b), &channels, &bits));
            ck_assert(channels == c && bits == b);
        }
    ck_assert_str_eq(ss_codec_name(7, name), "codec 7");
    ck_assert_str_eq(ss_codec_name(UINT64_MAX, name), "codec 18446744073709551615");
    ck_assert(!ss_codec_bottleneck(18, &channels, &bits));
    ck_assert(!ss_codec_bottleneck(4096, &channels, &bits));
    ck_assert_int_eq(ss_codec_dtype(SS_CODEC_F16), SS_DTYPE_F16);
    ck_assert_int_eq(ss_codec_dtype(ss_codec_number(8, 8)), SS_DTYPE_PACKED);
}
END_TEST

/* Values that are whole steps come back as they are: at all channels all of them, with fewer the first ones.
 */
START_TEST(whole_steps_come_back)
{
    for (int patch = 1; patch <= 4; patch++) {
        ss_model *m = small();
        ss_codec *c;
        ss_err e;
        const int inputs = 8 * patch * patch, level[] = {inputs / 4, inputs}, cut = SS_CUT_BLOCK0 + 1;
        size_t n = volume(m, cut);
        float *x = noise(n, 1.2f, 3), *y = malloc(n * sizeof *y);
        put_identity(m, cut, patch, 2, level, 0.5f);
        ck_assert_msg(ss_codec_open(&c, m, cut, &e) == SS_OK, "%s", e.text);
        for (size_t i = 0; i < n; i++)
            x[i] = 0.5f * rintf(fminf(2 * x[i], 7));
        uint8_t *payload = malloc(ss_codec_room(c));
        for (int l = 0; l < 2; l++)
            for (int bits = 4; bits <= 8; bits += 4) {
                uint64_t number = (uint64_t)ss_codec_number(level[l], bits);
                int size = ss_codec_encode(c, number, x, payload, &e);
                ck_assert_msg(size > 0 && (size_t)size <= ss_codec_room(c), "%s", e.text);
                memset(y, 1, n * sizeof *y);
                ck_assert_msg(ss_codec_decode(c, number, payload, (size_t)size, y, &e) == SS_OK, "%s",
                              e.text);
                for (size_t i = 0; i < n; i++) {
                    int place = (int)i % 35, in_patch = place / 7 % patch * patch + place % 7 % patch;
                    bool there = (int)i / 35 * patch * patch + in_patch < level[l];
                    ck_assert(y[i] == (there ? x[i] : 0));
                }
            }
        free(payload);
        ss_codec_close(&c);
        ss_model_free(m);
        free(x);
        free(y);
        ck_assert_uint_eq(ss_mem_used(), 0);
    }
}
END_TEST

/* The bytes of the format, and what they unpack to, on any machine. */
START_TEST(the_same_everywhere)
{
    ss_model *m = small();
    ss_codec *c;
    const int cut = SS_CUT_BLOCK0, level[] = {8, 32};
    size_t n = volume(m, cut);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i * i % 11 * (i % 3 == 0));
    put_identity(m, cut, 2, 2, level, 1);
    /* exp of another library may differ in the last bit, so no exp here. */
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (int i = 0; i < 32 * SS_CODEC_CONTEXTS; i++) {
            uint16_t *f = m->codec[cut]->frequency[w] + i * ss_codec_symbols(w);
            int symbols = ss_codec_symbols(w), left = SS_RANS_TOTAL - symbols;
            for (int s = 0; s < symbols; s++)
                f[s] = 1;
            for (int s = 0; s < 7; s++) {
                int more = s < 6 ? left / (2 + i % 3) : left;
                f[symbols / 2 + s] = (uint16_t)(1 + more);
                left -= more;
            }
        }
    ck_assert_int_eq(ss_codec_open(&c, m, cut, NULL), SS_OK);
    uint8_t *payload = malloc(ss_codec_room(c));
    uint32_t crc = 0, values = 0;
    for (int l = 0; l < 2; l++)
        for (int bits = 4; bits <= 8; bits += 4) {
            uint64_t number = (uint64_t)ss_codec_number(level[l], bits);
            int size = ss_codec_encode(c, number, x, payload, NULL);
            ck_assert_int_gt(size, 0);
            crc = ss_crc32c(crc, payload, (size_t)size);
            ck_assert_int_eq(ss_codec_decode(c, number, payload, (size_t)size, y, NULL), SS_OK);
            values = ss_crc32c(values, y, n * sizeof *y);
        }
    ck_assert_msg(crc == 0xd7b74e84 && values == 0x0b7f8b2e, "0x%08x 0x%08x", crc, values);
    free(payload);
    ss_codec_close(&c);
    ss_model_free(m);
    free(x);
    free(y);
}
END_TEST

/* The embedding has length 1; values beyond the range are held at its ends. */
START_TEST(embedding_and_range)
{
    ss_model *m = small();
    ss_codec *c;
    float x[12], y[12], length = 0;
    put_random(m, SS_CUT_EMBEDDING, 1, 2, (int[]){4, 12}, 5);
    ck_assert_int_eq(ss_codec_open(&c, m, SS_CUT_EMBEDDING, NULL), SS_OK);
    uint8_t *payload = malloc(ss_codec_room(c));
    for (int k = 0; k < 100; k++) {
        ss_rng r = ss_rng_make(9, (uint64_t)k);
        ss_rng_fill_normal(&r, x, 12);
        for (int i = 0; i < 12; i++)
            x[i] *= k < 50 ? 1 : 1e30f;
        uint64_t number = (uint64_t)ss_codec_number(k % 2 ? 4 : 12, k % 3 ? 8 : 4);
        int size = ss_codec_encode(c, number, x, payload, NULL);
        ck_assert_int_gt(size, 0);
        ck_assert_int_eq(ss_codec_decode(c, number, payload, (size_t)size, y, NULL), SS_OK);
        length = 0;
        for (int i = 0; i < 12; i++)
            length += y[i] * y[i];
        ck_assert(fabsf(length - 1) < 1e-5f);
    }
    free(payload);
    ss_codec_close(&c);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* Every truncation is refused; every flipped bit is refused, or unpacks to as many finite values. What was
 * refused has left the values alone. */
START_TEST(damage)
{
    ss_model *m = small();
    ss_codec *c;
    const int cut = SS_CUT_BLOCK0 + 2;
    size_t n = volume(m, cut);
    float *x = noise(n, 1, 8), *y = malloc(n * sizeof *y), *before = malloc(n * sizeof *before);
    put_random(m, cut, 2, 2, (int[]){4, 16}, 2);
    ck_assert_int_eq(ss_codec_open(&c, m, cut, NULL), SS_OK);
    uint8_t *room = malloc(ss_codec_room(c));
    for (int bits = 4; bits <= 8; bits += 4) {
        uint64_t number = (uint64_t)ss_codec_number(16, bits);
        int size = ss_codec_encode(c, number, x, room, NULL), told = 0;
        ck_assert_int_gt(size, 20);
        memset(before, 7, n * sizeof *before);
        for (int k = 0; k < size + 8 * size; k++) {
            int cutoff = k < size ? k : size, bit = k - size;
            uint8_t *bytes = malloc((size_t)(cutoff ? cutoff : 1)); /* of its own size, for a sanitizer */
            ss_err e = {0};
            memcpy(bytes, room, (size_t)cutoff);
            if (bit >= 0)
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            memcpy(y, before, n * sizeof *y);
            int rc = ss_codec_decode(c, number, bytes, (size_t)cutoff, y, &e);
            if (bit >= 0 && bit < 8)
                ck_assert_int_eq(rc, SS_EUNFIT);
            else if (bit < 0)
                ck_assert_msg(rc == SS_ETRUNC || rc == SS_EDAMAGED, "%d bytes: %d", cutoff, rc);
            else
                ck_assert(rc == SS_OK || rc == SS_ETRUNC || rc == SS_EDAMAGED);
            told += rc < 0;
            if (rc < 0)
                ck_assert(*e.text && !memcmp(y, before, n * sizeof *y));
            for (size_t i = 0; i < n && rc == SS_OK; i++)
                ck_assert(isfinite(y[i]));
            free(bytes);
        }
        ck_assert_int_gt(told, 9 * size * 8 / 10);
    }
    free(room);
    ss_codec_close(&c);
    ss_model_free(m);
    free(x);
    free(y);
    free(before);
}
END_TEST

/* The mark of a training is one byte. Where those of two agree by chance, the other one's tables still tell.
 */
START_TEST(marks_alike)
{
    enum { TIMES = 200 };
    const int cut = SS_CUT_BLOCK0 + 2;
    ss_model *m = small();
    ss_codec *c, *other;
    size_t n = volume(m, cut);
    float *y = malloc(n * sizeof *y);
    put_identity(m, cut, 2, 1, (int[]){8}, 0.25f);
    ck_assert_int_eq(ss_codec_open(&c, m, cut, NULL), SS_OK);
    /* One count of one symbol more, as when the same codec is counted on other sound, but in each table. */
    ss_bottleneck *b = m->codec[cut];
    for (int w = 0; w < SS_CODEC_WIDTHS; w++)
        for (int i = 0; i < b->channels * SS_CODEC_CONTEXTS; i++) {
            uint16_t *f = b->frequency[w] + i * ss_codec_symbols(w) + ss_codec_symbols(w) / 2;
            f[0]--;
            f[1]++;
        }
    ck_assert_int_eq(ss_codec_open(&other, m, cut, NULL), SS_OK);
    uint8_t *room = malloc(ss_codec_room(c)), *mine = malloc(ss_codec_room(c));
    for (int k = 0; k < TIMES; k++) {
        uint64_t number = (uint64_t)ss_codec_number(8, k % 2 ? 4 : 8);
        float *x = noise(n, 1, 100 + (uint64_t)k);
        int size = ss_codec_encode(c, number, x, room, NULL);
        ck_assert_int_gt(ss_codec_encode(other, number, x, mine, NULL), 1);
        ck_assert_uint_ne(room[0], mine[0]);
        ck_assert_int_eq(ss_codec_decode(other, number, room, (size_t)size, y, NULL), SS_EUNFIT);
        room[0] = mine[0];
        int rc = ss_codec_decode(other, number, room, (size_t)size, y, NULL);
        ck_assert_msg(rc == SS_ETRUNC || rc == SS_EDAMAGED, "%d", rc);
        free(x);
    }
    free(room);
    free(mine);
    free(y);
    ss_codec_close(&c);
    ss_codec_close(&other);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* A codec that there is not, and one that was trained anew. */
START_TEST(unfit)
{
    ss_model *m = small();
    ss_codec *c, *other;
    ss_err e;
    float x[12] = {1}, y[12];
    int number[2 * SS_CODEC_LEVELS];
    ck_assert_int_eq(ss_codec_open(&c, m, SS_CUT_EMBEDDING, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "ss-model codecs"));
    ck_assert_int_eq(ss_codec_list(m, SS_CUT_EMBEDDING, number), 0);
    put_random(m, SS_CUT_EMBEDDING, 1, 2, (int[]){4, 12}, 5);
    ck_assert_int_eq(ss_codec_list(m, SS_CUT_EMBEDDING, number), 4);
    ck_assert_int_eq(number[0], ss_codec_number(4, 4));
    ck_assert_int_eq(number[3], ss_codec_number(12, 8));
    ck_assert_int_eq(ss_codec_open(&c, m, SS_CUT_EMBEDDING, NULL), SS_OK);
    uint8_t *payload = malloc(ss_codec_room(c));
    static const uint64_t none[] = {0, SS_CODEC_F32, SS_CODEC_OPUS, 16 * 5, 16 * 12 + 2, UINT64_MAX};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        ck_assert_int_eq(ss_codec_encode(c, none[i], x, payload, &e), SS_EUNFIT);
        ck_assert_ptr_nonnull(strstr(e.text, "C = 4, 12"));
        ck_assert_int_eq(ss_codec_decode(c, none[i], payload, 9, y, &e), SS_EUNFIT);
    }
    m->codec[SS_CUT_EMBEDDING]->value[3] += 1;
    ck_assert_int_eq(ss_codec_open(&other, m, SS_CUT_EMBEDDING, NULL), SS_OK);
    int size = ss_codec_encode(c, (uint64_t)number[0], x, payload, NULL);
    ck_assert_int_eq(ss_codec_decode(other, (uint64_t)number[0], payload, (size_t)size, y, &e), SS_EUNFIT);
    ck_assert_ptr_nonnull(strstr(e.text, "training"));
    free(payload);
    ss_codec_close(&c);
    ss_codec_close(&other);
    /* Shapes that no bottleneck has. */
    ss_bottleneck *b;
    static const struct {
        int cut, patch, nlevel, level[3];
    } bad[] = {{SS_CUT_INPUT, 1, 1, {4}},
               {SS_CUT_EMBEDDING, 2, 1, {4}},
               {3, 0, 1, {4}},
               {3, 9, 1, {4}},
               {3, 1, 0, {4}},
               {3, 1, 9, {4}},
               {3, 1, 2, {4, 4}},
               {3, 1, 2, {8, 4}},
               {3, 1, 1, {0}},
               {3, 1, 1, {256}},
               {SS_CUT_EMBEDDING + 1, 1, 1, {4}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(
            ss_bottleneck_create(&b, &m->config, bad[i].cut, bad[i].patch, bad[i].nlevel, bad[i].level, true),
            SS_EINVAL);
    ss_model_free(m);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

static char folder[64];

static void setup(void)
{
    strcpy(folder, "/tmp/ss-codec-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

static ss_model *coded(void)
{
    ss_model *m = small();
    put_random(m, SS_CUT_BLOCK0 + 3, 2, 3, (int[]){2, 4, 8}, 1);
    put_random(m, SS_CUT_EMBEDDING, 1, 1, (int[]){6}, 1);
    m->codec[SS_CUT_EMBEDDING]->generation = 17;
    m->codec[SS_CUT_EMBEDDING]->windows = 400;
    return m;
}

static void same_payload(const ss_model *a, const ss_model *b, int cut)
{
    ss_codec *c[2];
    ss_err e;
    ck_assert_msg(ss_codec_open(&c[0], a, cut, &e) == SS_OK, "%s", e.text);
    ck_assert_msg(ss_codec_open(&c[1], b, cut, &e) == SS_OK, "%s", e.text);
    size_t n = volume(a, cut), room = ss_codec_room(c[0]);
    float *x = noise(n, 1, 4), *y = malloc(n * sizeof *y), *z = malloc(n * sizeof *z);
    uint8_t *p = malloc(room), *q = malloc(room);
    uint64_t number = (uint64_t)ss_codec_number(a->codec[cut]->channels, 8);
    int size = ss_codec_encode(c[0], number, x, p, NULL);
    ck_assert_int_gt(size, 0);
    ck_assert_int_eq(ss_codec_encode(c[1], number, x, q, NULL), size);
    ck_assert_mem_eq(p, q, (size_t)size);
    ck_assert_int_eq(ss_codec_decode(c[0], number, p, (size_t)size, y, NULL), SS_OK);
    ck_assert_int_eq(ss_codec_decode(c[1], number, p, (size_t)size, z, NULL), SS_OK);
    ck_assert_mem_eq(y, z, n * sizeof *y);
    for (int i = 0; i < 2; i++)
        ss_codec_close(&c[i]);
    free(x);
    free(y);
    free(z);
    free(p);
    free(q);
}

/* Saved, opened, filled, cloned: the same codecs; what is not asked for stays in the file. */
START_TEST(in_the_file)
{
    setup();
    ss_model *m = coded(), *opened, *copy;
    ss_err e;
    ck_assert_msg(ss_model_save(m, "m", &e) == SS_OK, "%s", e.text);
    ck_assert_msg(ss_model_open(&opened, "m", &e) == SS_OK, "%s", e.text);
    ck_assert_ptr_nonnull(opened->codec[SS_CUT_EMBEDDING]);
    ck_assert_ptr_null(opened->codec[SS_CUT_EMBEDDING]->value);
    ck_assert_uint_eq(opened->codec[SS_CUT_EMBEDDING]->generation, 17);
    ck_assert_uint_eq(opened->codec[SS_CUT_EMBEDDING]->windows, 400);
    same_payload(m, opened, SS_CUT_BLOCK0 + 3);
    ck_assert_ptr_null(opened->codec[SS_CUT_BLOCK0 + 3]->value);
    ck_assert_msg(ss_model_fill(opened, &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(ss_model_clone(&copy, opened, NULL), SS_OK);
    ss_model_free(opened);
    same_payload(m, copy, SS_CUT_BLOCK0 + 3);
    same_payload(m, copy, SS_CUT_EMBEDDING);
    ck_assert_msg(ss_model_save(copy, "n", &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(system("cmp m n"), 0);
    ss_model_free(copy);
    ss_model_free(m);
    teardown();
}
END_TEST

static uint64_t place_of(const char *tensor)
{
    ss_st *s;
    ck_assert_int_eq(ss_st_open(&s, "m", NULL), SS_OK);
    const ss_st_tensor *t = ss_st_find(s, tensor);
    ck_assert_msg(t != NULL, "%s", tensor);
    uint64_t at = t->offset + t->size / 2;
    ss_st_close(&s);
    return at;
}

/* Damage in one cut's codecs is found by who wants them, and by who wants all. */
START_TEST(damaged_file)
{
    setup();
    static const char *const part[] = {"encode.weight", "encode.bias", "decode.weight", "decode.bias",
                                       "step",          "bound",       "frequency.4",   "frequency.8"};
    ss_model *m = coded(), *opened;
    ss_codec *c;
    ss_net *net;
    ss_err e;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char name[48];
        ck_assert_int_eq(ss_model_save(m, "m", NULL), SS_OK);
        snprintf(name, sizeof name, "codec.3.%s", part[i]);
        FILE *f = fopen("m", "r+b");
        fseek(f, (long)place_of(name), SEEK_SET);
        int byte = fgetc(f);
        fseek(f, -1, SEEK_CUR);
        fputc(byte ^ 1, f);
        fclose(f);
        ck_assert_int_eq(ss_model_open(&opened, "m", NULL), SS_OK);
        ck_assert_int_eq(ss_codec_open(&c, opened, SS_CUT_BLOCK0 + 3, &e), SS_EDAMAGED);
        ck_assert_ptr_nonnull(strstr(e.text, name));
        ck_assert_int_eq(ss_codec_open(&c, opened, SS_CUT_EMBEDDING, NULL), SS_OK);
        ss_codec_close(&c);
        ck_assert_int_eq(
            ss_net_open(&net, opened, NULL, SS_WEIGHTS_F32, SS_CUT_INPUT, SS_CUT_EMBEDDING, 1, NULL), SS_OK);
        ss_net_close(&net);
        ck_assert_int_eq(ss_model_fill(opened, NULL), SS_EDAMAGED);
        ss_model_free(opened);
    }
    ss_model_free(m);
    teardown();
}
END_TEST

/* Whole files that hold what no codec may be. */
START_TEST(hostile_file)
{
    setup();
    ss_model *m = coded(), *opened;
    ss_codec *c;
    ss_err e;
    ss_bottleneck *b = m->codec[SS_CUT_BLOCK0 + 3];
    const struct {
        float *value;
        uint16_t *number;
        float to_value;
        uint16_t to_number;
        int rc;
    } bad[] = {{b->encode_weight, NULL, NAN, 0, SS_EUNFIT},
               {b->decode_bias, NULL, INFINITY, 0, SS_EUNFIT},
               {b->step, NULL, 0, 0, SS_EUNFIT},
               {b->step + 1, NULL, -1, 0, SS_EUNFIT},
               {b->step + 2, NULL, 1e31f, 0, SS_EUNFIT},
               {NULL, b->frequency[0], 0, 0, SS_EDAMAGED},
               {NULL, b->frequency[1] + 128, 0, 65535, SS_EDAMAGED}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float value = bad[i].value ? *bad[i].value : 0;
        uint16_t number = bad[i].number ? *bad[i].number : 0;
        if (bad[i].value)
            *bad[i].value = bad[i].to_value;
        else
            *bad[i].number = bad[i].to_number;
        ck_assert_int_eq(ss_model_save(m, "m", NULL), SS_OK);
        ck_assert_int_eq(ss_model_open(&opened, "m", NULL), SS_OK);
        ck_assert_int_eq(ss_codec_open(&c, opened, SS_CUT_BLOCK0 + 3, &e), bad[i].rc);
        ck_assert_ptr_nonnull(strstr(e.text, "codecs of cut 3"));
        ck_assert_int_eq(ss_model_fill(opened, NULL), bad[i].rc);
        ss_model_free(opened);
        if (bad[i].value)
            *bad[i].value = value;
        else
            *bad[i].number = number;
    }
    /* Lines of text that are none. */
    static const char *const line[] = {"",
                                       "x",
                                       "1",
                                       "1 2 0 0",
                                       "1 2 0 0 4 4",
                                       "1 0 0 0 4",
                                       "1 9 0 0 4",
                                       "1 2 0 0 4 ",
                                       "1 2 0 0 256",
                                       "1 2 -1 0 4",
                                       "1 2 0 0 1 2 3 4 5 6 7 8 9",
                                       "1 2 0 0 4x",
                                       "1 2 0 99999999999999999999 4"};
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        ck_assert_msg(ss_bottleneck_parse(&b, &m->config, 3, line[i], &e) == SS_EDAMAGED, "'%s'", line[i]);
        ck_assert_ptr_null(b);
    }
    ck_assert_int_eq(ss_bottleneck_parse(&b, &m->config, 3, "2 whatever", &e), SS_EUNFIT);
    ss_model_free(m);
    teardown();
}
END_TEST

START_TEST(memory_runs_out)
{
    setup();
    ss_model *m = coded(), *to;
    ss_codec *c;
    ck_assert_int_eq(ss_model_save(m, "m", NULL), SS_OK);
    size_t used = ss_mem_used();
    for (int forever = 0; forever < 2; forever++)
        for (int what = 0; what < 4; what++)
            for (long n = 1;; n++) {
                ss_model *opened = NULL;
                if (what == 1)
                    ck_assert_int_eq(ss_model_open(&opened, "m", NULL), SS_OK);
                fail_alloc_from(n, forever);
                c = NULL;
                to = NULL;
                int rc = what == 0   ? ss_codec_open(&c, m, SS_CUT_BLOCK0 + 3, NULL)
                         : what == 1 ? ss_codec_open(&c, opened, SS_CUT_BLOCK0 + 3, NULL)
                         : what == 2 ? ss_model_clone(&to, m, NULL)
                                     : ss_model_load(&to, "m", NULL);
                bool failed = fail_alloc_done();
                ss_codec_close(&c);
                ss_model_free(to);
                ss_model_free(opened);
                ck_assert_uint_eq(ss_mem_used(), used);
                if (!failed)
                    break;
                ck_assert_int_eq(rc, SS_ENOMEM);
            }
    ss_model_free(m);
    teardown();
}
END_TEST

UNIT_MAIN("codec", names, whole_steps_come_back, the_same_everywhere, embedding_and_range, damage,
          marks_alike, unfit, in_the_file, damaged_file, hostile_file, memory_runs_out)
