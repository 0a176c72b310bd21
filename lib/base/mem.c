#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Each block is led by its size, in a cache line of its own so that what follows stays aligned. */
#define LEAD SS_ALIGN

#define PAGE ((size_t)4096)    /* at least: where pages are larger, advice for a part of one is refused */
#define HUGE ((size_t)2 << 20) /* a large page of x86-64, and of ARM64 with pages of 4 KiB */
#define SOME ((size_t)1 << 18) /* bytes from which the system is asked */
#define MANY ((size_t)4 << 20) /* bytes from which large pages are asked for */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

static atomic_size_t held;
static atomic_size_t cap;

bool ss_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static void *take(size_t count, size_t size, size_t align)
{
    size_t bytes, total, asked;
    if (!ss_mul(count, size, &bytes))
        return NULL;
    if (bytes < MANY)
        align = SS_ALIGN;
    /* A size must be a multiple of its alignment; what is never touched behind the block takes no memory. */
    if (__builtin_add_overflow(bytes, LEAD + align - 1, &asked))
        return NULL;
    asked &= ~(align - 1);
    total = (bytes + LEAD + SS_ALIGN - 1) & ~(size_t)(SS_ALIGN - 1);
    size_t now = atomic_fetch_add(&held, total) + total;
    size_t limit = atomic_load(&cap);
    char *p = limit && now > limit ? NULL : aligned_alloc(align, asked);
    if (!p) {
        atomic_fetch_sub(&held, total);
        return NULL;
    }
    memcpy(p, &total, sizeof total);
    memcpy(p + sizeof total, &bytes, sizeof bytes);
    return p + LEAD;
}

void *ss_alloc(size_t count, size_t size)
{
    return take(count, size, SS_ALIGN);
}

/* The pages that a block lies on (its lead in front), or those that hold nothing else. */
static char *pages(char *block, size_t bytes, bool inside, size_t *n)
{
    uintptr_t from = (uintptr_t)block, to = from + bytes;
    from = inside ? (from + PAGE - 1) & ~(PAGE - 1) : (from - LEAD) & ~(PAGE - 1);
    to = inside ? to & ~(PAGE - 1) : (to + PAGE - 1) & ~(PAGE - 1);
    *n = to - from;
    return (char *)from;
}

/* What is only advice may be refused. */
static void ask_for_large(char *block, size_t bytes)
{
    size_t n;
    char *from = pages(block, bytes, false, &n);
    if (bytes >= MANY)
        madvise(from, n, MADV_HUGEPAGE);
}

void *ss_zalloc(size_t count, size_t size)
{
    char *p = take(count, size, HUGE);
    size_t bytes = count * size, n;
    if (!p)
        return NULL;
    /* Pages given back are zero when they are next touched, and cost nothing until then. */
    char *from = pages(p, bytes, true, &n);
    if (bytes < SOME || madvise(from, n, MADV_DONTNEED) < 0)
        return memset(p, 0, bytes);
    memset(p, 0, (size_t)(from - p));
    memset(from + n, 0, (size_t)(p + bytes - (from + n)));
    ask_for_large(p, bytes);
    return p;
}

void *ss_alloc_whole(size_t count, size_t size)
{
    char *p = take(count, size, HUGE);
    size_t bytes = count * size, n;
    if (!p || bytes < SOME)
        return p;
    ask_for_large(p, bytes);
    char *from = pages(p, bytes, false, &n);
    madvise(from, n, MADV_POPULATE_WRITE);
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
