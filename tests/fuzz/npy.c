/* Headers of .npy files: what is taken is printed and parsed the same. */
#include <string.h>

#include "fuzz.h"
#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_npy a, b;
    ss_err e = {0};
    char header[SS_NPY_HEADER];
    ssize_t n = ss_npy_parse(data, size, &a, &e);
    PROMISE(n >= 0 ? (size_t)n <= size : *e.text != 0);
    if (n >= 0) {
        PROMISE(ss_npy_print(&a, header, &e) == SS_OK);
        PROMISE(ss_npy_parse(header, sizeof header, &b, &e) == SS_NPY_HEADER);
        PROMISE(a.dtype == b.dtype && a.rank == b.rank && a.size == b.size &&
                !memcmp(a.dim, b.dim, sizeof a.dim));
    }
    return 0;
}
