#include "base/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "config.h"

#if SS_HAVE_X86
#include <immintrin.h>
#elif SS_HAVE_ARM64
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82f63b78u

static uint32_t table[8][256];
static atomic_bool filled;

/* Threads that come here at the same time write the same values; the flag is set only after all of them. */
static void fill_tables(void)
{
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&busy))
        ;
    if (!atomic_load(&filled)) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = c >> 1 ^ (c & 1 ? POLYNOMIAL : 0);
            table[0][i] = c;
        }
        for (int k = 1; k < 8; k++)
            for (int i = 0; i < 256; i++)
                table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
        atomic_store(&filled, true);
    }
    atomic_flag_clear(&busy);
}

uint32_t ss_crc32c_table(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    if (!atomic_load_explicit(&filled, memory_order_acquire))
        fill_tables();
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo =
            crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = table[7][lo & 255] ^ table[6][lo >> 8 & 255] ^ table[5][lo >> 16 & 255] ^ table[4][lo >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; n--, p++)
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

/* a b modulo the polynomial, lowest power in the highest bit. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t p = 0;
    for (int i = 0; i < 32; i++) {
        p ^= b & (0 - (a >> 31));
        b = b >> 1 ^ (POLYNOMIAL & (0 - (b & 1)));
        a <<= 1;
    }
    return p;
}

uint32_t ss_crc32c_join(uint32_t a, uint32_t b, uint64_t n)
{
    uint32_t power = (uint32_t)1 << 31, square = (uint32_t)1 << 23; /* x^0, x^8 */
    for (; n; n >>= 1) {
        if (n & 1)
            power = multiply(power, square);
        square = multiply(square, square);
    }
    return multiply(power, a) ^ b;
}

#if SS_HAVE_X86
#define WITH_CRC __attribute__((target("sse4.2")))

WITH_CRC static inline uint32_t step8(uint32_t crc, const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return (uint32_t)_mm_crc32_u64(crc, v);
}

WITH_CRC static inline uint32_t step1(uint32_t crc, uint8_t v)
{
    return _mm_crc32_u8(crc, v);
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif SS_HAVE_ARM64
#define WITH_CRC

/* By assembler: the intrinsics want the whole file compiled for a CPU that has it. */
static inline uint32_t step8(uint32_t crc, const uint8_t *p)
{
    uint64_t v;
    uint32_t out;
    memcpy(&v, p, 8);
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w1, %x2" : "=r"(out) : "r"(crc), "r"(v));
    return out;
}

static inline uint32_t step1(uint32_t crc, uint8_t v)
{
    uint32_t out;
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w1, %w2" : "=r"(out) : "r"(crc), "r"((uint32_t)v));
    return out;
}

static bool has_instruction(void)
{
    static atomic_int known; /* 0 not asked yet, 1 no, 2 yes */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (!k) {
        k = getauxval(AT_HWCAP) & 1 << 7 ? 2 : 1; /* HWCAP_CRC32 */
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 2;
}
#endif

#if SS_HAVE_X86 || SS_HAVE_ARM64
/* The instruction takes one operand a cycle but gives its result after three: three thirds of a stretch go on
 * side by side, and are joined by x^(8 third) and x^(16 third). */
WITH_CRC static inline uint32_t thirds(uint32_t c, const uint8_t *p, size_t third, uint32_t once,
                                       uint32_t twice)
{
    uint32_t d = 0, e = 0;
    for (size_t i = 0; i < third; i += 8) {
        c = step8(c, p + i);
        d = step8(d, p + third + i);
        e = step8(e, p + 2 * third + i);
    }
    return multiply(twice, c) ^ multiply(once, d) ^ e;
}

WITH_CRC static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    uint32_t c = ~crc;
    for (; n >= 3 * 8192; n -= 3 * 8192, p += 3 * 8192)
        c = thirds(c, p, 8192, 0x28461564, 0xbf455269);
    for (; n >= 3 * 1024; n -= 3 * 1024, p += 3 * 1024)
        c = thirds(c, p, 1024, 0xe4172b16, 0x0d65762a);
    for (; n >= 8; n -= 8, p += 8)
        c = step8(c, p);
    for (; n; n--, p++)
        c = step1(c, *p);
    return ~c;
}
#endif

#if SS_HAVE_VPCLMULQDQ
#define FOLD_FROM 512 /* bytes; below, what is left over costs more than folding saves */

/* Sixteen operands of 128 bits at a time are multiplied, half by half, by x^(2048 + 32) and x^(2048 - 32) and
 * fall on those 256 bytes further on: the remainder stays what it was, and that of the last 256 bytes is
 * taken by instruction. (Bits are reflected, and a product of two reflected halves is one bit short: hence
 * the doubled constants.) Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ". */
__attribute__((target("avx512f,vpclmulqdq,sse4.2"))) static uint32_t by_folding(uint32_t crc,
                                                                                const uint8_t *p, size_t n)
{
    const __m512i by = _mm512_broadcast_i32x4(_mm_set_epi64x(0xb9e02b86, 0xdcb17aa4));
    __m512i a[4];
    uint8_t last[256];
    for (int i = 0; i < 4; i++)
        a[i] = _mm512_loadu_si512(p + 64 * i);
    a[0] = _mm512_xor_si512(a[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)~crc)));
    for (n -= 256, p += 256; n >= 256; n -= 256, p += 256)
        for (int i = 0; i < 4; i++)
            a[i] = _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(a[i], by, 0x00),
                                             _mm512_clmulepi64_epi128(a[i], by, 0x11),
                                             _mm512_loadu_si512(p + 64 * i), 0x96); /* exclusive or */
    for (int i = 0; i < 4; i++)
        _mm512_storeu_si512(last + 64 * i, a[i]);
    return by_instruction(by_instruction(UINT32_MAX, last, sizeof last), p, n);
}

static bool has_folding(void)
{
    return ss_cpu_level() >= SS_CPU_AVX512 && __builtin_cpu_supports("vpclmulqdq");
}
#endif

uint32_t ss_crc32c(uint32_t crc, const void *data, size_t n)
{
#if SS_HAVE_VPCLMULQDQ
    if (n >= FOLD_FROM && has_folding())
        return by_folding(crc, data, n);
#endif
#if SS_HAVE_X86 || SS_HAVE_ARM64
    if (has_instruction())
        return by_instruction(crc, data, n);
#endif
    return ss_crc32c_table(crc, data, n);
}
