#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Each block is led by its size, in a cache line of its own so that what follows stays aligned. */
#define LEAD SS_ALIGN

static atomic_size_t held;
static atomic_size_t cap;

bool ss_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

void *ss_alloc(size_t count, size_t size)
{
    size_t bytes, total;
    if (!ss_mul(count, size, &bytes) || __builtin_add_overflow(bytes, LEAD + SS_ALIGN - 1, &total))
        return NULL;
    total &= ~(size_t)(SS_ALIGN - 1);
    size_t now = atomic_fetch_add(&held, total) + total;
    size_t limit = atomic_load(&cap);
    char *p = limit && now > limit ? NULL : aligned_alloc(SS_ALIGN, total);
    if (!p) {
        atomic_fetch_sub(&held, total);
        return NULL;
    }
    memcpy(p, &total, sizeof total);
    memcpy(p + sizeof total, &bytes, sizeof bytes);
    return p + LEAD;
}

void *ss_zalloc(size_t count, size_t size)
{
    void *p = ss_alloc(count, size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

void *ss_realloc(void *block, size_t count, size_t size)
{
    void *p = ss_alloc(count, size);
    if (p && block) {
        size_t old;
        memcpy(&old, (char *)block - LEAD + sizeof old, sizeof old);
        memcpy(p, block, old < count * size ? old : count * size);
        ss_free(block);
    }
    return p;
}

char *ss_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = ss_alloc(n, 1);
    return p ? memcpy(p, s, n) : NULL;
}

void ss_free(void *block)
{
    if (!block)
        return;
    char *p = (char *)block - LEAD;
    size_t total;
    memcpy(&total, p, sizeof total);
    atomic_fetch_sub(&held, total);
    free(p);
}

void ss_mem_limit(size_t bytes)
{
    atomic_store(&cap, bytes);
}

size_t ss_mem_used(void)
{
    return atomic_load(&held);
}
