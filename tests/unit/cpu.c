#include <stdlib.h>

#include "base/cpu.h"
#include "base/err.h"
#include "unit.h"

START_TEST(names_return)
{
    static const ss_cpu levels[] = {SS_CPU_SCALAR,     SS_CPU_SSE41, SS_CPU_AVX2,        SS_CPU_AVX512,
                                    SS_CPU_AVX512VNNI, SS_CPU_NEON,  SS_CPU_NEON_DOTPROD};
    static const char *const names[] = {"scalar",     "sse4.1", "avx2",        "avx512",
                                        "avx512vnni", "neon",   "neon-dotprod"};
    for (int i = 0; i < 7; i++)
        ck_assert_str_eq(ss_cpu_name(levels[i]), names[i]);
    ck_assert_int_eq(ss_cpu_lower("sse5"), SS_EINVAL);
    ck_assert_int_eq(ss_cpu_lower(""), SS_EINVAL);
}
END_TEST

START_TEST(only_lowers)
{
    unsetenv("SS_CPU");
    ss_cpu best = ss_cpu_best();
    ck_assert_int_eq(ss_cpu_level(), best);
    ck_assert_int_eq(ss_cpu_lower(best >= SS_CPU_NEON ? "avx512" : "neon"), 0); /* the other family: above */
    ck_assert_int_eq(ss_cpu_level(), best);
    ck_assert_int_eq(ss_cpu_lower("scalar"), 0);
    ck_assert_int_eq(ss_cpu_level(), SS_CPU_SCALAR);
    ck_assert_int_eq(ss_cpu_lower("avx512"), 0);
    ck_assert_int_eq(ss_cpu_level(), SS_CPU_SCALAR);
    ck_assert_int_eq(ss_cpu_best(), best);
}
END_TEST

START_TEST(environment_lowers)
{
    setenv("SS_CPU", "scalar", 1);
    ck_assert_int_eq(ss_cpu_level(), SS_CPU_SCALAR);
}
END_TEST

/* A level of its own between scalar and avx2, where the machine has it. */
START_TEST(lowers_to_sse41)
{
    unsetenv("SS_CPU");
    ss_cpu best = ss_cpu_best(), wanted = best >= SS_CPU_NEON   ? best
                                          : best < SS_CPU_SSE41 ? best
                                                                : SS_CPU_SSE41;
    ck_assert_int_eq(ss_cpu_lower("sse4.1"), 0);
    ck_assert_int_eq(ss_cpu_level(), wanted);
}
END_TEST

START_TEST(environment_unknown_or_above)
{
    setenv("SS_CPU", "faster", 1);
    ck_assert_int_eq(ss_cpu_level(), ss_cpu_best());
}
END_TEST

UNIT_MAIN("cpu", names_return, only_lowers, environment_lowers, lowers_to_sse41, environment_unknown_or_above)
