#include "base/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "config.h"

#if SS_HAVE_X86
#include <cpuid.h>
#endif
#if SS_HAVE_ARM64 && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const struct {
    const char *name;
    ss_cpu level;
} names[] = {
    {"scalar", SS_CPU_SCALAR},
    {"sse4.1", SS_CPU_SSE41},
    {"avx2", SS_CPU_AVX2},
    {"avx512", SS_CPU_AVX512},
    {"avx512vnni", SS_CPU_AVX512VNNI},
    {"neon", SS_CPU_NEON},
    {"neon-dotprod", SS_CPU_NEON_DOTPROD},
};

static atomic_int in_force = -1;

#if SS_HAVE_X86
/* What the operating system saves at a task switch: bits of XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ __volatile__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static ss_cpu detect(void)
{
    enum { SSE41 = 1 << 19, OSXSAVE = 1 << 27, AVX = 1 << 28, FMA = 1 << 12, F16C = 1 << 29 };
    enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512BW = 1 << 30, AVX512VNNI = 1 << 11 };
    const uint32_t avx512vl = UINT32_C(1) << 31;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & SSE41))
        return SS_CPU_SCALAR;
    const uint32_t need = OSXSAVE | AVX | FMA | F16C;
    if ((c & need) != need)
        return SS_CPU_SSE41;
    uint64_t state = saved_state();
    if ((state & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2))
        return SS_CPU_SSE41;
#if SS_HAVE_AVX512
    const uint32_t need512 = AVX512F | AVX512DQ | AVX512BW | avx512vl;
    if ((state & 0xe6) == 0xe6 && (b & need512) == need512)
        return SS_HAVE_AVX512VNNI && c & AVX512VNNI ? SS_CPU_AVX512VNNI : SS_CPU_AVX512;
#else
    (void)avx512vl;
#endif
    return SS_CPU_AVX2;
}
#elif SS_HAVE_ARM64
static ss_cpu detect(void)
{
#if SS_HAVE_DOTPROD && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        return SS_CPU_NEON_DOTPROD;
#endif
    return SS_CPU_NEON; /* part of the base architecture */
}
#else
static ss_cpu detect(void)
{
    return SS_CPU_SCALAR;
}
#endif

static bool find(const char *name, ss_cpu *level)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name)) {
            *level = names[i].level;
            return true;
        }
    return false;
}

/* A level of the other family is above what this machine has. */
static ss_cpu lower(ss_cpu now, ss_cpu wanted)
{
    bool same = (wanted >= SS_CPU_NEON) == (now >= SS_CPU_NEON);
    return wanted < now && (wanted == SS_CPU_SCALAR || same) ? wanted : now;
}

ss_cpu ss_cpu_best(void)
{
    return detect();
}

ss_cpu ss_cpu_level(void)
{
    int now = atomic_load_explicit(&in_force, memory_order_relaxed);
    if (now < 0) {
        ss_cpu level = ss_cpu_best(), wanted;
        const char *env = getenv("SS_CPU");
        if (env && find(env, &wanted))
            level = lower(level, wanted);
        int unset = -1;
        atomic_compare_exchange_strong(&in_force, &unset, (int)level);
        now = atomic_load_explicit(&in_force, memory_order_relaxed);
    }
    return (ss_cpu)now;
}

int ss_cpu_lower(const char *name)
{
    ss_cpu wanted;
    if (!find(name, &wanted))
        return SS_EINVAL;
    atomic_store(&in_force, (int)lower(ss_cpu_level(), wanted));
    return 0;
}

const char *ss_cpu_name(ss_cpu level)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].level == level)
            return names[i].name;
    return "unknown";
}
