#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "failalloc.h"
#include "io/npy.h"
#include "unit.h"

static size_t make(uint8_t *b, int version, const char *dict)
{
    size_t n = strlen(dict), lead = version == 1 ? 10 : 12;
    memcpy(b, "\x93NUMPY", 6);
    b[6] = (uint8_t)version;
    b[7] = 0;
    b[8] = (uint8_t)n;
    b[9] = (uint8_t)(n >> 8);
    b[10] = b[11] = 0;
    memcpy(b + lead, dict, n);
    return lead + n;
}

static int descriptor(const uint8_t *b, size_t n)
{
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_eq(write(p[1], b, n), (ssize_t)n);
    close(p[1]);
    return p[0];
}

START_TEST(accepted)
{
    static const struct {
        const char *dict;
        int dtype, rank;
        uint64_t size;
    } good[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n", SS_DTYPE_F32, 2, 48},
        {"{'shape':(),'fortran_order':False,'descr':\"<f8\"}\n", SS_DTYPE_F64, 0, 8},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (7,)}\n", SS_DTYPE_I8, 1, 7},
        {"{'descr': '<u1', 'fortran_order': False, 'shape': (7,)}\n", SS_DTYPE_U8, 1, 7},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (0, 18446744073709551615, 5,)}\n", SS_DTYPE_F16,
         3, 0},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}\n", SS_DTYPE_I64, 9, 16},
    };
    uint8_t b[300];
    ss_npy a;
    ss_err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (int version = 1; version <= 2; version++) {
            size_t n = make(b, version, good[i].dict);
            b[n] = 'x';
            if (i == 4) { /* the product of the axes other than 0 counts */
                ck_assert_int_eq(ss_npy_parse(b, n, &a, &e), SS_EDAMAGED);
                continue;
            }
            ck_assert_msg(ss_npy_parse(b, n + 1, &a, &e) == (ssize_t)n, "%s: %s", good[i].dict, e.text);
            ck_assert_int_eq(a.dtype, good[i].dtype);
            ck_assert_int_eq(a.rank, good[i].rank);
            ck_assert_uint_eq(a.size, good[i].size);
            for (size_t k = 0; k < n; k++)
                ck_assert_int_eq(ss_npy_parse(b, k, &a, &e), SS_ETRUNC);
            int fd = descriptor(b, n + 1);
            uint8_t next;
            ck_assert_int_eq(ss_npy_read(fd, &a, &e), SS_OK);
            ck_assert_uint_eq(a.size, good[i].size);
            ck_assert_int_eq(read(fd, &next, 1), 1);
            ck_assert_uint_eq(next, 'x');
            close(fd);
            fd = descriptor(b, n - 1);
            ck_assert_int_eq(ss_npy_read(fd, &a, &e), SS_ETRUNC);
            close(fd);
        }
}
END_TEST

START_TEST(refused)
{
#define REST "'fortran_order': False, 'shape': (3,)}\n"
    static const struct {
        const char *dict;
        int code;
    } bad[] = {
        {"", SS_EDAMAGED},
        {"\n", SS_EDAMAGED},
        {"{}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3 4)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3L,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [3]}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1)}\n", SS_EUNFIT},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (3,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'descr': '<f4', " REST, SS_EDAMAGED},
        {"{'descr': '<f4', 'more': 1, " REST, SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}\n", SS_EDAMAGED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (3,)}\n", SS_EUNFIT},
        {"{'descr': '>f4', " REST, SS_EUNFIT},
        {"{'descr': '<f4x', " REST, SS_EUNFIT},
        {"{'descr': '<U8', " REST, SS_EUNFIT},
        {"{'descr': '|O', " REST, SS_EUNFIT},
        {"{'descr': '', " REST, SS_EUNFIT},
        {"{'descr': [('a', '<f4')], " REST, SS_EUNFIT},
        {"{'descr': '\\x3cf4', " REST, SS_EUNFIT},
        {"{'descr': '<f4, " REST, SS_EUNFIT},
        {"{" REST, SS_EDAMAGED},
    };
    uint8_t b[300];
    ss_npy a;
    ss_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = make(b, 1, bad[i].dict);
        ck_assert_msg(ss_npy_parse(b, n, &a, &e) == bad[i].code, "%s", bad[i].dict);
    }
    size_t n = make(b, 3, "{'descr': '<f4', " REST);
    ck_assert_int_eq(ss_npy_parse(b, n, &a, &e), SS_EUNFIT);
    n = make(b, 2, "{'descr': '<f4', " REST);
    b[11] = 1; /* 16 MiB of header */
    ck_assert_int_eq(ss_npy_parse(b, n, &a, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_npy_parse("PK\3\4", 4, &a, &e), SS_EDAMAGED);
    ck_assert_int_eq(ss_npy_read(-1, &a, &e), SS_EIO);
}
END_TEST

START_TEST(printed)
{
    char out[SS_NPY_HEADER];
    ss_err e;
    for (int dtype = 1; dtype <= SS_DTYPE_PACKED; dtype++)
        for (int rank = 0; rank <= SS_NPY_MAX_RANK; rank++) {
            ss_npy a = {.dtype = dtype, .rank = rank}, b;
            for (int i = 0; i < rank; i++)
                a.dim[i] = rank == 1 ? UINT64_MAX >> 5 : (uint64_t)i + 1;
            bool can = dtype != SS_DTYPE_BF16 && dtype != SS_DTYPE_PACKED;
            ck_assert_int_eq(ss_npy_print(&a, out, &e), can ? SS_OK : SS_EINVAL);
            if (!can)
                continue;
            ck_assert_int_eq(ss_npy_parse(out, sizeof out, &b, &e), sizeof out);
            ck_assert_mem_eq(&a, &b, sizeof a);
        }
    /* The longest there can be still fits. */
    ss_npy a = {.dtype = SS_DTYPE_F32, .rank = 9, .dim = {0, 1u << 31, 1, 1, 1, 1, 1, 1, 1}};
    ck_assert_int_eq(ss_npy_print(&a, out, &e), SS_OK);
    a.dim[0] = UINT64_MAX;
    ck_assert_int_eq(ss_npy_print(&a, out, &e), SS_EINVAL);
}
END_TEST

START_TEST(allocation_fails)
{
    ss_npy a;
    uint8_t b[300];
    int fd = descriptor(b, make(b, 1, "{'descr': '<f4', " REST));
    fail_alloc_from(1, false);
    ck_assert_int_eq(ss_npy_read(fd, &a, NULL), SS_ENOMEM);
    ck_assert(fail_alloc_done());
    ck_assert_int_eq(ss_npy_read(fd, &a, NULL), SS_OK);
    ck_assert_uint_eq(ss_mem_used(), 0);
    close(fd);
}
END_TEST

UNIT_MAIN("npy", accepted, refused, printed, allocation_fails)
