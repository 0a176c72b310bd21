/*
 * What the machine can do at most, to measure the rest by.
 *
 *   bench-peak [--threads=T] [--ms=MS]      one line for each quantity, or with --serve on request
 *
 *   fma LEVEL   f32 multiply-adds in registers, independent chains: GFLOP/s (a multiply-add is two)
 *   dot avx512  the same of u8 x i8 products into i32 (VNNI): GOP/s
 *   read        a sum over 64 MiB of floats, more than the nearer caches hold: GB/s
 *
 * LEVEL: sse4.1 (a product and a sum), avx2, avx512, neon; all on T threads at once.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "config.h"
#include "side.h"

enum { CHAINS = 12, STEPS = 4096, READ_FLOATS = 16 << 20 };

#define EACH(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)

/*
 * double NAME(void): STEPS steps of CHAINS chains x = step(x); returns the operations. The asm keeps the
 * chains in registers and apart.
 */
#define PEAK(name, features, vector, lanes, in_register, first, one, step)                                   \
    features static double name(void)                                                                        \
    {                                                                                                        \
        vector a = one;                                                                                      \
        vector x0 = first, x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0, x8 = x0, x9 = x0,  \
               x10 = x0, x11 = x0;                                                                           \
        for (int k = 0; k < STEPS; k++) {                                                                    \
            __asm__ volatile("" : in_register(a));                                                           \
            EACH(step)                                                                                       \
        }                                                                                                    \
        return (double)CHAINS * STEPS * (lanes)*2;                                                           \
    }

#if SS_HAVE_X86
#include <immintrin.h>

#define CAN(what) __attribute__((target(what)))
#define SSE(i)                                                                                               \
    x##i = _mm_add_ps(_mm_mul_ps(x##i, a), a);                                                               \
    __asm__ volatile("" : "+x"(x##i));
#define AVX2(i)                                                                                              \
    x##i = _mm256_fmadd_ps(x##i, a, a);                                                                      \
    __asm__ volatile("" : "+x"(x##i));
#define AVX512(i)                                                                                            \
    x##i = _mm512_fmadd_ps(x##i, a, a);                                                                      \
    __asm__ volatile("" : "+v"(x##i));
#define VNNI(i)                                                                                              \
    x##i = _mm512_dpbusd_epi32(x##i, a, a);                                                                  \
    __asm__ volatile("" : "+v"(x##i));
PEAK(fma_sse41, CAN("sse4.1"), __m128, 4, "+x", _mm_set1_ps(1), _mm_set1_ps(0.5f), SSE)
PEAK(fma_avx2, CAN("avx2,fma"), __m256, 8, "+x", _mm256_set1_ps(1), _mm256_set1_ps(0.5f), AVX2)
PEAK(fma_avx512, CAN("avx512f"), __m512, 16, "+v", _mm512_set1_ps(1), _mm512_set1_ps(0.5f), AVX512)
PEAK(dot_avx512, CAN("avx512f,avx512vnni"), __m512i, 64, "+v", _mm512_set1_epi32(1), _mm512_set1_epi8(1),
     VNNI)
#elif SS_HAVE_ARM64
#include <arm_neon.h>

#define NEON(i)                                                                                              \
    x##i = vfmaq_f32(a, x##i, a);                                                                            \
    __asm__ volatile("" : "+w"(x##i));
PEAK(fma_neon, , float32x4_t, 4, "+w", vdupq_n_f32(1), vdupq_n_f32(0.5f), NEON)
#endif

static float *memory;
static int threads = 1;
static double least_ms = 5;
static ss_pool *pool;

static double read_memory(int thread)
{
    size_t share = READ_FLOATS / (size_t)threads / 64;
    const float *p = memory + (size_t)thread * share * 64;
    float sum[64] = {0};
    for (size_t i = 0; i < share; i++, p += 64)
        for (int k = 0; k < 64; k++)
            sum[k] += p[k];
    __asm__ volatile("" ::"r"(sum) : "memory");
    return (double)share * 64 * sizeof(float);
}

struct work {
    double (*run)(void);
    double *done; /* [threads] */
    int64_t until;
};

static void work(void *arg, int i, int thread)
{
    const struct work *w = arg;
    do
        w->done[i] += w->run ? w->run() : read_memory(i);
    while (ss_clock_mono_ns() < w->until);
}

static double rate(double (*run)(void))
{
    double done[256] = {0}, sum = 0;
    int64_t begun = ss_clock_mono_ns();
    struct work w = {run, done, begun + (int64_t)(least_ms * 1e6)};
    ss_pool_run(pool, threads, work, &w);
    for (int i = 0; i < threads; i++)
        sum += done[i];
    return sum / (double)(ss_clock_mono_ns() - begun);
}

static const struct quantity {
    const char *name;
    ss_cpu level;
    double (*run)(void);
} quantities[] = {
#if SS_HAVE_X86
    {"fma sse4.1", SS_CPU_SSE41, fma_sse41},
    {"fma avx2", SS_CPU_AVX2, fma_avx2},
    {"fma avx512", SS_CPU_AVX512, fma_avx512},
    {"dot avx512", SS_CPU_AVX512, dot_avx512},
#elif SS_HAVE_ARM64
    {"fma neon", SS_CPU_NEON, fma_neon},
#endif
    {"read", SS_CPU_SCALAR, NULL},
};

/* By the processor, whatever the build of the library has. */
static bool can(const struct quantity *q)
{
#if SS_HAVE_X86
    if (q->run == dot_avx512 && !__builtin_cpu_supports("avx512vnni"))
        return false;
    if (q->level == SS_CPU_AVX512)
        return __builtin_cpu_supports("avx512f");
    if (q->level == SS_CPU_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return true;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"threads", 1, NULL, 't'}, {"ms", 1, NULL, 'm'}, {"serve", 0, NULL, 's'}, {NULL, 0, NULL, 0}};
    const int n = (int)(sizeof quantities / sizeof *quantities);
    bool serving = false;
    ss_err e;
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == 't')
            threads = atoi(optarg);
        else if (o == 'm')
            least_ms = atof(optarg);
        else if (o == 's')
            serving = true;
        else
            return 2;
    }
    if (threads < 1 || threads > 256 || optind < argc)
        return 2;
    if (threads > 1 && ss_pool_open(&pool, threads, &e) < 0)
        return 1;
    memory = side_room(READ_FLOATS);
    memset(memory, 1, READ_FLOATS * sizeof *memory);
    if (!serving) {
        for (int i = 0; i < n; i++)
            if (can(&quantities[i]))
                printf("%-12s %9.1f\n", quantities[i].name, rate(quantities[i].run));
        return 0;
    }
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        const struct quantity *q = NULL;
        line[strcspn(line, "\n")] = 0;
        for (int i = 0; i < n; i++)
            if (!strcmp(line, quantities[i].name) && can(&quantities[i]))
                q = &quantities[i];
        if (q)
            printf("%.1f\n", rate(q->run));
        else
            puts("error: no such measurement");
    }
    return 0;
}
