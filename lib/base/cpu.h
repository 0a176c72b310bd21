/** Instruction-set levels. What the operating system does not save is not used. */
#ifndef SS_BASE_CPU_H
#define SS_BASE_CPU_H

typedef enum ss_cpu {
    SS_CPU_SCALAR = 0,
    SS_CPU_SSE41 = 1, /* no fused multiply-add: see kernels/kernels.h */
    SS_CPU_AVX2 = 2, /* with FMA and F16C */
    SS_CPU_AVX512 = 3, /* F, BW, DQ, VL */
    SS_CPU_AVX512VNNI = 4,
    SS_CPU_NEON = 16,
    SS_CPU_NEON_DOTPROD = 17
} ss_cpu;

/** The level in force: the best that machine and build have, lowered by SS_CPU or ss_cpu_lower. */
ss_cpu ss_cpu_level(void);
/** The best that machine and build have. */
ss_cpu ss_cpu_best(void);
/** Lower the level by name ("scalar", "sse4.1", "avx2", "avx512", "avx512vnni", "neon", "neon-dotprod"): before any kernel runs. SS_EINVAL for an unknown name; a level above the best one is taken as the best. */
int ss_cpu_lower(const char *name);
const char *ss_cpu_name(ss_cpu level);

#endif
