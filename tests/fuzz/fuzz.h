/* A target holds LLVMFuzzerTestOneInput, and aborts where a promise is broken; how to run one: meson.build
 * here. */
#ifndef SS_TESTS_FUZZ_H
#define SS_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROMISE(x)                                                                                           \
    ((x) ? (void)0 : (fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #x), abort()))

#endif
