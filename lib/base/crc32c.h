/** CRC-32C (Castagnoli; reflected polynomial 0x82f63b78, initial and final value inverted), by instruction
 * where there is one. */
#ifndef SS_BASE_CRC32C_H
#define SS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/** Continue from crc (0 to start): ss_crc32c(ss_crc32c(0, a), b) is that of a followed by b. */
uint32_t ss_crc32c(uint32_t crc, const void *data, size_t n);

/** From a and b, those of two stretches, to that of both in a row; n: bytes of the second. */
uint32_t ss_crc32c_join(uint32_t a, uint32_t b, uint64_t n);

/** ss_crc32c by tables on any CPU: what it falls back to, and is tested against. */
uint32_t ss_crc32c_table(uint32_t crc, const void *data, size_t n);

#endif
