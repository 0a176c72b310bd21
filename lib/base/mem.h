/**
 * Memory: aligned blocks, checked products, one cap for the process.
 * Every allocation of the library goes through here, so that a test can make the n-th one fail. All functions
 * may be called from several threads.
 */
#ifndef SS_BASE_MEM_H
#define SS_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#define SS_ALIGN 64 /* bytes; a cache line, and the widest vector */

/**
 * Room for count * size bytes, aligned to SS_ALIGN. ss_alloc leaves it as it comes, ss_zalloc gives
 * zeros, which take no memory in a large block until they are touched.
 * NULL when the product overflows, the cap would be passed or the system refuses. A count of 0 gives a
 * valid pointer. Release with ss_free.
 */
void *ss_alloc(size_t count, size_t size);
void *ss_zalloc(size_t count, size_t size);
/**
 * ss_alloc for a block that is written at once from end to end: where the system can, its memory is there
 * when the call returns, in large pages, instead of page by page at the first touch of each.
 */
void *ss_alloc_whole(size_t count, size_t size);

/** Like realloc for blocks of ss_alloc: on failure NULL, and the old block is untouched. */
void *ss_realloc(void *block, size_t count, size_t size);

/** A copy of the string, or NULL. Release with ss_free. */
char *ss_strdup(const char *s);

/** NULL is accepted. */
void ss_free(void *block);

/** Cap on the bytes held by ss_alloc at one time; 0 = none (the default). */
void ss_mem_limit(size_t bytes);

/** Bytes held now. */
size_t ss_mem_used(void);

/** a * b into *out, or false on overflow. */
bool ss_mul(size_t a, size_t b, size_t *out);

#endif
