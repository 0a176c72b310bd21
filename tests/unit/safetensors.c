#include <math.h>
#include <string.h>

#include "failalloc.h"
#include "faults.h"

#include "base/half.h"
#include "base/mem.h"
#include "io/atomic.h"
#include "io/safetensors.h"
#include "scratch.h"
#include "unit.h"

static const float weight[6] = {1, -2, 3.5f, 0, 1e-20f, 7};
static const uint8_t blob[3] = {1, 2, 3};
static const int64_t number = -5;

static int write_small(const char *path, unsigned flags)
{
    const ss_st_array a[] = {{"blob", SS_DTYPE_U8, 1, {3}, blob},
                             {"weight", SS_DTYPE_F32, 2, {2, 3}, weight},
                             {"number", SS_DTYPE_I64, 0, {0}, &number},
                             {"empty", SS_DTYPE_F32, 2, {0, 4}, weight}};
    const ss_st_meta meta[] = {{"streamsplit.kind", "test"},
                               {"quote \"\\\n", "\u00e9 \"streamsplit.digest\":\"x"}};
    return ss_st_write(path, flags, a, 4, meta, 2, NULL);
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    char *p = malloc(1 << 16);
    *n = fread(p, 1, 1 << 16, f);
    fclose(f);
    return p;
}

START_TEST(round_trip)
{
    ss_st *s;
    ss_err e;
    float f[6];
    uint8_t b[3];
    int64_t i;
    char shape[64];
    scratch_enter("st", false);
    ck_assert_int_eq(write_small("f", 0), SS_OK);
    ck_assert_msg(ss_st_open(&s, "f", &e) == SS_OK, "%s", e.text);
    ck_assert_int_eq(ss_st_check(s, &e), 1);
    ck_assert_int_eq(ss_st_count(s), 4);
    const ss_st_tensor *t = ss_st_find(s, "weight");
    ck_assert_str_eq(ss_st_shape_text(t, shape, sizeof shape), "F32 [2][3]");
    ck_assert_uint_eq(t->offset % 4, 0);
    ck_assert_int_eq(ss_st_read(s, t, f, &e), SS_OK);
    ck_assert_mem_eq(f, weight, sizeof f);
    ck_assert_int_eq(ss_st_read(s, ss_st_find(s, "blob"), b, &e), SS_OK);
    ck_assert_mem_eq(b, blob, sizeof b);
    t = ss_st_find(s, "number");
    ck_assert_uint_eq(t->offset % 8, 0);
    ck_assert_uint_eq(t->count, 1);
    ck_assert_int_eq(ss_st_read(s, t, &i, &e), SS_OK);
    ck_assert_int_eq(i, -5);
    ck_assert_uint_eq(ss_st_find(s, "empty")->count, 0);
    ck_assert_ptr_null(ss_st_find(s, "weigh"));
    ck_assert_str_eq(ss_st_meta_value(s, "quote \"\\\n"), "\u00e9 \"streamsplit.digest\":\"x");
    ck_assert_str_eq(ss_st_meta_at(s, 0)->key, "streamsplit.kind");
    ck_assert_str_eq(ss_st_meta_at(s, 2)->key, "streamsplit.checksums");
    ck_assert_str_eq(ss_st_meta_at(s, 3)->key, "streamsplit.digest");
    ck_assert_ptr_null(ss_st_meta_at(s, 4));
    ck_assert_int_eq(ss_st_read_f32(s, ss_st_find(s, "blob"), f, &e), SS_EUNFIT);
    ss_st_close(&s);
    ss_st_close(&s);
    /* A plain file has no digest, and one of ours that lost it is not taken for a foreign one. */
    const ss_st_array a = {"w", SS_DTYPE_F32, 1, {6}, weight};
    ck_assert_int_eq(ss_st_write("plain", SS_ST_PLAIN, &a, 1, NULL, 0, &e), SS_OK);
    ck_assert_int_eq(ss_st_open(&s, "plain", &e), SS_OK);
    ck_assert_int_eq(ss_st_check(s, &e), 0);
    ss_st_close(&s);
    ck_assert_int_eq(write_small("lost", SS_ST_PLAIN), SS_EDAMAGED); /* found when it is read back */
    ck_assert_int_eq(ss_st_open(&s, "lost", &e), SS_OK);
    ck_assert_int_eq(ss_st_check(s, &e), SS_EDAMAGED);
    ss_st_close(&s);
    scratch_leave();
}
END_TEST

START_TEST(floats_of_other_widths)
{
    static const float want[4] = {1.5f, -0.25f, 65504, INFINITY};
    uint16_t half[4], brain[4];
    double wide[4];
    float got[4];
    ss_st *s;
    scratch_enter("st", false);
    for (int i = 0; i < 4; i++) {
        half[i] = ss_f32_to_f16(want[i]);
        brain[i] = ss_f32_to_bf16(want[i]);
        wide[i] = want[i];
    }
    const ss_st_array a[] = {{"half", SS_DTYPE_F16, 1, {4}, half},
                             {"brain", SS_DTYPE_BF16, 1, {4}, brain},
                             {"wide", SS_DTYPE_F64, 1, {4}, wide},
                             {"single", SS_DTYPE_F32, 1, {4}, want}};
    ck_assert_int_eq(ss_st_write("f", 0, a, 4, NULL, 0, NULL), SS_OK);
    ck_assert_int_eq(ss_st_open(&s, "f", NULL), SS_OK);
    for (int k = 0; k < 4; k++) {
        ck_assert_int_eq(ss_st_read_f32(s, ss_st_find(s, a[k].name), got, NULL), SS_OK);
        for (int i = 0; i < 4; i++)
            ck_assert_float_eq(got[i], k == 1 && i == 2 ? 65536 : want[i]);
    }
    ss_st_close(&s);
    scratch_leave();
}
END_TEST

START_TEST(wrong_arrays_are_refused)
{
    ss_err e;
    const ss_st_array twice[] = {{"a", SS_DTYPE_U8, 1, {1}, blob}, {"a", SS_DTYPE_U8, 1, {1}, blob}};
    const ss_st_array packed = {"a", SS_DTYPE_PACKED, 1, {1}, blob};
    const ss_st_array huge = {"a", SS_DTYPE_F32, 2, {1ull << 40, 1ull << 40}, blob};
    scratch_enter("st", false);
    ck_assert_int_eq(ss_st_write("f", 0, twice, 2, NULL, 0, &e), SS_EINVAL);
    ck_assert_int_eq(ss_st_write("f", 0, &packed, 1, NULL, 0, &e), SS_EINVAL);
    ck_assert_int_eq(ss_st_write("f", 0, &huge, 1, NULL, 0, &e), SS_EINVAL);
    ck_assert_int_ne(access("f", F_OK), 0);
    scratch_leave();
}
END_TEST

/* header: text; n: length to declare, 0 = that of the text; data: bytes behind the header. */
static int open_header(const char *header, uint64_t n, size_t data, ss_err *e)
{
    size_t length = strlen(header), total = 8 + length + data;
    uint64_t declared = n ? n : length;
    char *p = calloc(1, total + 1);
    ss_st *s;
    memcpy(p, &declared, 8);
    memcpy(p + 8, header, length);
    int rc = ss_st_open_memory(&s, p, total, e);
    ss_st_close(&s);
    free(p);
    ck_assert_uint_eq(ss_mem_used(), 0);
    return rc;
}

#define T(dtype, shape, offsets)                                                                             \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

START_TEST(hostile_headers)
{
    static const struct {
        const char *header;
        uint64_t n;
        size_t data;
        int rc;
        const char *text;
    } row[] = {
        {"{}", 0, 0, SS_OK, ""},
        {"{}    ", 0, 0, SS_OK, ""},
        {"{\"a\":" T("F32", "1", "0,4") "}", 0, 4, SS_OK, ""},
        {"{\"a\":" T("F32", "", "0,4") "}", 0, 4, SS_OK, ""},
        {"{\"a\":" T("F32", "0,7", "0,0") "}", 0, 0, SS_OK, ""},
        {"{\"b\":" T("U8", "1", "2,3") ",\"a\":" T("U8", "2", "0,2") "}", 0, 3, SS_OK, ""},
        {"{\"__metadata__\":{\"a\":\"b\"}}", 0, 0, SS_OK, ""},
        /* lengths */
        {"", 0, 0, SS_ETRUNC, "too few"},
        {"{}", 1, 0, SS_EDAMAGED, "header length 1 "},
        {"{}", UINT64_MAX, 0, SS_EDAMAGED, "header length"},
        {"{}", 1ull << 40, 0, SS_EDAMAGED, "header length"},
        {"{}", SS_ST_MAX_HEADER, 0, SS_ETRUNC, "in a file of"},
        {"{}", 3, 0, SS_ETRUNC, "in a file of"},
        {"{}", 0, 1, SS_EDAMAGED, "follow"},
        /* JSON */
        {"[]", 0, 0, SS_EDAMAGED, "begin"},
        {" {}", 0, 0, SS_EDAMAGED, "begin"},
        {"{}x", 0, 0, SS_EDAMAGED, "JSON"},
        {"{\"a\":", 0, 0, SS_EDAMAGED, "JSON"},
        {"{\"a\":" T("U8", "1", "0,1") ",\"a\":" T("U8", "1", "1,2") "}", 0, 2, SS_EDAMAGED, "twice"},
        {"{\"a\":1}", 0, 0, SS_EDAMAGED, "'a': not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, SS_EDAMAGED, "not a string"},
        {"{\"__metadata__\":[]}", 0, 0, SS_EDAMAGED, "not an object"},
        {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, 0, SS_EDAMAGED, "twice"},
        /* members */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, 1, SS_EDAMAGED, "'data_offsets' is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 0, 1, SS_EDAMAGED, "'shape' is missing"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, SS_EDAMAGED, "'dtype' is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 0, 1, SS_EDAMAGED,
         "unknown"},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, SS_EDAMAGED, "dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 0, 1, SS_EDAMAGED, "shape"},
        {"{\"a\":" T("F4", "1", "0,1") "}", 0, 1, SS_EUNFIT, "dtype 'F4'"},
        {"{\"a\":" T("U8", "1,1,1,1,1,1,1,1,1", "0,1") "}", 0, 1, SS_EUNFIT, "rank"},
        /* numbers */
        {"{\"a\":" T("U8", "-1", "0,1") "}", 0, 1, SS_EDAMAGED, "shape"},
        {"{\"a\":" T("U8", "1.5", "0,1") "}", 0, 1, SS_EDAMAGED, "shape"},
        {"{\"a\":" T("U8", "1e300", "0,1") "}", 0, 1, SS_EDAMAGED, "shape"},
        {"{\"a\":" T("U8", "\\\"1\\\"", "0,1") "}", 0, 1, SS_EDAMAGED, ""},
        {"{\"a\":" T("U8", "281474976710656,281474976710656", "0,1") "}", 0, 1, SS_EDAMAGED, "overflow"},
        {"{\"a\":" T("F64", "281474976710656,32768", "0,1") "}", 0, 1, SS_EDAMAGED, "overflow"},
        {"{\"a\":" T("F32", "4294967296,4294967296", "0,0") "}", 0, 0, SS_EDAMAGED, "overflow"},
        {"{\"a\":" T("U8", "1", "0") "}", 0, 1, SS_EDAMAGED, "data_offsets"},
        {"{\"a\":" T("U8", "1", "0,1,2") "}", 0, 1, SS_EDAMAGED, "data_offsets"},
        {"{\"a\":" T("U8", "1", "1,0") "}", 0, 1, SS_EDAMAGED, "data_offsets"},
        {"{\"a\":" T("U8", "1", "-1,0") "}", 0, 1, SS_EDAMAGED, "data_offsets"},
        {"{\"a\":" T("U8", "1", "0,18446744073709551617") "}", 0, 1, SS_EDAMAGED, "data_offsets"},
        {"{\"a\":" T("U8", "2", "0,1") "}", 0, 1, SS_EDAMAGED, "span 1 bytes, its shape needs 2"},
        {"{\"a\":" T("F32", "1", "0,1") "}", 0, 1, SS_EDAMAGED, "needs 4"},
        /* the data */
        {"{\"a\":" T("U8", "4", "0,4") "}", 0, 3, SS_ETRUNC, "end at byte"},
        {"{\"a\":" T("U8", "1000000000000", "0,1000000000000") "}", 0, 3, SS_ETRUNC, "end at byte"},
        {"{\"a\":" T("U8", "4", "0,4") "}", 0, 5, SS_EDAMAGED, "1 bytes follow"},
        {"{\"a\":" T("U8", "1", "1,2") "}", 0, 2, SS_EDAMAGED, "gap"},
        {"{\"a\":" T("U8", "1", "0,1") ",\"b\":" T("U8", "1", "2,3") "}", 0, 3, SS_EDAMAGED, "gap"},
        {"{\"a\":" T("U8", "2", "0,2") ",\"b\":" T("U8", "2", "1,3") "}", 0, 3, SS_EDAMAGED, "inside"},
        {"{\"a\":" T("U8", "2", "0,2") ",\"b\":" T("U8", "2", "0,2") "}", 0, 2, SS_EDAMAGED, "inside"},
        {"{\"a\":" T("U8", "2", "0,2") ",\"b\":" T("U8", "0", "1,1") "}", 0, 2, SS_EDAMAGED, "inside"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ss_err e = {0};
        int rc = open_header(row[i].header, row[i].n, row[i].data, &e);
        ck_assert_msg(rc == row[i].rc && strstr(e.text, row[i].text), "row %zu: %d '%s': %s", i, rc, e.text,
                      row[i].header);
    }
}
END_TEST

START_TEST(many_tensors)
{
    /* Time and memory stay bounded for a header full of the smallest tensors. */
    size_t n = 0, room = SS_ST_MAX_HEADER + 200;
    char *p = malloc(room);
    ss_err e;
    n += (size_t)sprintf(p, "{");
    for (int i = 0; n < SS_ST_MAX_HEADER - 100; i++)
        n += (size_t)sprintf(p + n, "%s\"%x\":" T("U8", "0", "0,0"), i ? "," : "", i);
    sprintf(p + n, "}");
    ck_assert_int_eq(open_header(p, 0, 0, &e), SS_EDAMAGED);
    free(p);
}
END_TEST

START_TEST(every_bit_and_every_length)
{
    size_t n;
    ss_st *s;
    ss_err e;
    scratch_enter("st", false);
    ck_assert_int_eq(write_small("f", 0), SS_OK);
    char *p = slurp("f", &n);
    ck_assert_uint_lt(n, 1024);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (char)(1 << bit % 8);
        int rc = ss_st_open_memory(&s, p, n, &e);
        if (rc == SS_OK)
            rc = ss_st_check(s, &e);
        ck_assert_msg(rc < 0, "bit %zu of byte %zu: %d", bit % 8, bit / 8, rc);
        ss_st_close(&s);
        p[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t k = 0; k < n; k++) {
        /* Memory of exactly that length, so that a sanitizer sees a read past it. */
        char *cut = malloc(k + !k);
        memcpy(cut, p, k);
        int rc = ss_st_open_memory(&s, cut, k, &e);
        ck_assert_msg(rc == SS_ETRUNC || rc == SS_EDAMAGED, "length %zu: %d", k, rc);
        free(cut);
    }
    free(p);
    scratch_leave();
}
END_TEST

/* A flip in the header is found with the header, one in the data by whoever reads that tensor, and by nobody
 * else. */
START_TEST(a_tensor_alone)
{
    size_t n;
    ss_st *s;
    ss_err e;
    char data[64];
    scratch_enter("st", false);
    ck_assert_int_eq(write_small("f", 0), SS_OK);
    char *p = slurp("f", &n);
    ck_assert_int_eq(ss_st_open_memory(&s, p, n, &e), SS_OK);
    uint64_t begin = ss_st_tensor_at(s, 0)->offset;
    ss_st_close(&s);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (char)(1 << bit % 8);
        int rc = ss_st_open_memory(&s, p, n, &e);
        if (rc == SS_OK)
            rc = ss_st_check_header(s, &e);
        ck_assert_msg(bit / 8 < begin ? rc < 0 : rc == 1, "bit %zu of byte %zu: %d", bit % 8, bit / 8, rc);
        for (int i = 0; rc == 1 && i < ss_st_count(s); i++) {
            const ss_st_tensor *t = ss_st_tensor_at(s, i);
            bool hit = bit / 8 >= t->offset && bit / 8 < t->offset + t->size;
            ck_assert_int_eq(ss_st_read(s, t, data, &e), hit ? SS_EDAMAGED : SS_OK);
            ck_assert(!hit || strstr(e.text, t->name));
            uint32_t crc = 0;
            size_t half = t->size / 2;
            ck_assert_int_eq(ss_st_read_part(s, t, 0, half, data, &crc, &e), SS_OK);
            ck_assert_int_eq(ss_st_read_part(s, t, half, t->size - half, data, &crc, &e), SS_OK);
            ck_assert_int_eq(ss_st_expect(s, t, crc, &e), hit ? SS_EDAMAGED : SS_OK);
        }
        ss_st_close(&s);
        p[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(p);
    scratch_leave();
}
END_TEST

/* One checksum over all data, as version 0.1.0 wrote it. */
START_TEST(old_files)
{
    size_t n;
    ss_st *s;
    ss_err e;
    float w[6];
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/fuzz/specimens/safetensors/version-0.1.0", getenv("SS_SRC"));
    char *p = slurp(path, &n);
    for (int whole = 0; whole < 2; whole++) {
        int (*check)(ss_st *, ss_err *) = whole ? ss_st_check : ss_st_check_header;
        ck_assert_int_eq(ss_st_open_memory(&s, p, n, &e), SS_OK);
        ck_assert_int_eq(check(s, &e), 1);
        ck_assert_int_eq(ss_st_read(s, ss_st_find(s, "weight"), w, &e), SS_OK);
        ck_assert_float_eq(w[5], 7);
        /* what changes behind the check is found too */
        p[ss_st_find(s, "weight")->offset] ^= 1;
        ck_assert_int_eq(ss_st_read(s, ss_st_find(s, "weight"), w, &e), SS_EDAMAGED);
        p[ss_st_find(s, "weight")->offset] ^= 1;
        ss_st_close(&s);
        for (size_t bit = 0; bit < 8 * n; bit++) {
            p[bit / 8] ^= (char)(1 << bit % 8);
            int rc = ss_st_open_memory(&s, p, n, &e);
            if (rc == SS_OK)
                rc = check(s, &e);
            ck_assert_msg(rc < 0, "bit %zu of byte %zu: %d", bit % 8, bit / 8, rc);
            ss_st_close(&s);
            p[bit / 8] ^= (char)(1 << bit % 8);
        }
    }
    free(p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

START_TEST(every_failing_call_and_allocation)
{
    ss_st *s;
    ss_err e;
    char b[64];
    scratch_enter("st", false);
    fail_alloc_cjson();
    ck_assert_int_eq(write_small("f", 0), SS_OK);
    for (int forever = 0; forever < 2; forever++)
        for (int kind = 0; kind < 2; kind++)
            for (long n = 1;; n++) {
                if (kind)
                    fail_alloc_from(n, forever);
                else
                    fail_call_from(n, forever, EIO);
                int rc = ss_st_open(&s, "f", &e);
                if (rc == SS_OK)
                    rc = ss_st_check(s, &e);
                if (rc == 1)
                    rc = ss_st_read(s, ss_st_find(s, "weight"), b, &e);
                ss_st_close(&s);
                long seen = fault.seen;
                bool failed = kind ? fail_alloc_done() : fail_call_done();
                ck_assert_uint_eq(ss_mem_used(), 0);
                if (rc == SS_OK) /* the last call is the close of a file that was only read */
                    ck_assert(!failed || (!kind && n == seen));
                else
                    ck_assert_int_eq(rc, kind ? SS_ENOMEM : SS_EIO);
                if (!failed)
                    break;
            }
    for (long n = 1;; n++) {
        fail_alloc_from(n, false);
        int rc = write_small("f", 0);
        bool failed = fail_alloc_done();
        ck_assert_uint_eq(ss_mem_used(), 0);
        ck_assert_int_eq(rc, failed ? SS_ENOMEM : SS_OK);
        ck_assert_int_eq(ss_st_open(&s, "f", &e), SS_OK);
        ck_assert_int_eq(ss_st_check(s, &e), 1);
        ss_st_close(&s);
        if (!failed)
            break;
    }
    scratch_leave();
}
END_TEST

START_TEST(only_regular_files)
{
    ss_st *s;
    ss_err e;
    scratch_enter("st", false);
    ck_assert_int_eq(ss_st_open(&s, "none", &e), SS_EIO);
    ck_assert_int_eq(ss_st_open(&s, ".", &e), SS_EIO);
    ck_assert_int_eq(mkfifo("pipe", 0666), 0);
    ck_assert_int_eq(ss_st_open(&s, "pipe", &e), SS_EIO);
    ck_assert_ptr_null(s);
    /* A file that shrinks after it was opened. */
    size_t size;
    ck_assert_int_eq(write_small("f", 0), SS_OK);
    free(slurp("f", &size));
    ck_assert_int_eq(ss_st_open(&s, "f", &e), SS_OK);
    ck_assert_int_eq(truncate("f", (off_t)size - 1), 0);
    ck_assert_int_eq(ss_st_check(s, &e), SS_ETRUNC);
    ss_st_close(&s);
    scratch_leave();
}
END_TEST

UNIT_MAIN("safetensors", round_trip, floats_of_other_widths, wrong_arrays_are_refused, hostile_headers,
          many_tensors, every_bit_and_every_length, a_tensor_alone, old_files,
          every_failing_call_and_allocation, only_regular_files)
