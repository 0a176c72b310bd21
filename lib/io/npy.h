/**
 * Headers of .npy files (NumPy's array format), versions 1.0 and 2.0: little-endian, C order.
 * The dict literal is parsed strictly: the three keys, each once, nothing else. No pickles, no structured
 * types. Errors: SS_EDAMAGED (breaks the format), SS_ETRUNC, SS_EUNFIT (valid, but big-endian, Fortran order
 * or a type that streams do not have), SS_EIO. Source: numpy/lib/format.py, "Format Version 1.0" and "2.0".
 */
#ifndef SS_IO_NPY_H
#define SS_IO_NPY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../base/err.h"
#include "stream.h"

#define SS_NPY_MAX_RANK (SS_MAX_RANK + 1)
#define SS_NPY_HEADER   256 /* bytes of every header that ss_npy_print makes: the first axis may be set later \
                             */
#define SS_NPY_MAX 65536    /* bytes of the longest header read */

typedef struct ss_npy {
    int dtype; /* ss_dtype other than bf16 and packed */
    int rank;
    uint64_t dim[SS_NPY_MAX_RANK];
    uint64_t size; /* bytes of data, below 2^63 */
} ss_npy;

/** Parse the header at the start of data [n]; returns its bytes. SS_ETRUNC when n is too few. */
ssize_t ss_npy_parse(const void *data, size_t n, ss_npy *a, ss_err *e);

/** Read the header from a descriptor, not a byte more. */
int ss_npy_read(int fd, ss_npy *a, ss_err *e);

/** The header as bytes; a->size is set. SS_EINVAL: a dtype that NumPy does not have, or too large. */
int ss_npy_print(ss_npy *a, char out[SS_NPY_HEADER], ss_err *e);

#endif
