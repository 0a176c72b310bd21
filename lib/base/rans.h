/**
 * Entropy coding with static tables: range asymmetric numeral systems, integers only, so that the same
 * numbers come out on every machine.
 *
 * A table gives each of n symbols a frequency of 1 .. 2^14 - n + 1, all together SS_RANS_TOTAL; a symbol of
 * frequency f costs log2(SS_RANS_TOTAL / f) bits, and each stream 2 to 3 bytes more. Symbols are put last
 * first, and come out first first. Which table a symbol is coded with is the caller's business: both sides
 * must agree.
 *
 * A reader never leaves its bytes: where they end too early it goes on with zeros, and ss_rans_end tells. Any
 * change of a stream either shows there or gives other symbols, as many as are asked for: streams need a
 * checksum of their own.
 *
 * Ownership: all memory is the caller's. One thread at a time; a table may be read by several.
 * Source: Duda, "Asymmetric numeral systems", arXiv 1311.2540, 2013; in bytes, as by Giesen, arXiv 1402.3392.
 */
#ifndef SS_BASE_RANS_H
#define SS_BASE_RANS_H

#include <stddef.h>
#include <stdint.h>

#define SS_RANS_BITS  14
#define SS_RANS_TOTAL (1 << SS_RANS_BITS)
#define SS_RANS_LOW   (1u << 16) /* states are LOW .. 256 LOW - 1 */
#define SS_RANS_STATE 3          /* bytes of one */
/** Most bytes of a stream of n symbols. */
#define SS_RANS_BOUND(n) (SS_RANS_STATE + 2 * (size_t)(n))

/**
 * Frequencies that cost fewest bits for symbols that were seen so often: near the share of each, at least 1.
 *   count, frequency [n], n = 1 .. 256; all of count 0: all alike.
 */
void ss_rans_frequencies(int n, const uint64_t *count, uint16_t *frequency);
/** cumulative [n + 1]: what lies before each symbol. SS_EDAMAGED: a frequency of 0, or not SS_RANS_TOTAL
 * together. */
int ss_rans_cumulate(int n, const uint16_t *frequency, uint16_t *cumulative);

/** Fills `room` from its end. */
typedef struct ss_rans_writer {
    uint8_t *begin, *at, *end;
    uint32_t state;
} ss_rans_writer;

/** size >= SS_RANS_BOUND of the symbols that will be put. */
void ss_rans_begin(ss_rans_writer *w, void *room, size_t size);
/** A symbol that has `frequency`, behind `start`. */
static inline void ss_rans_put(ss_rans_writer *w, uint32_t start, uint32_t frequency)
{
    uint32_t x = w->state, most = ((SS_RANS_LOW >> SS_RANS_BITS) << 8) * frequency;
    while (x >= most && w->at > w->begin) {
        *--w->at = (uint8_t)x;
        x >>= 8;
    }
    w->state = (x / frequency << SS_RANS_BITS) + x % frequency + start;
}
/** The stream: where it begins in the room, and its size. */
const uint8_t *ss_rans_finish(ss_rans_writer *w, size_t *size);

typedef struct ss_rans_reader {
    const uint8_t *at, *end;
    uint32_t state, missing; /* bytes asked for behind the end */
} ss_rans_reader;

void ss_rans_start(ss_rans_reader *r, const void *bytes, size_t size);
/** The next of n symbols. */
static inline int ss_rans_get(ss_rans_reader *r, int n, const uint16_t *cumulative)
{
    uint32_t at = r->state & (SS_RANS_TOTAL - 1);
    int low = 0, high = n; /* cumulative[low] <= at < cumulative[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (cumulative[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    uint32_t start = cumulative[low],
             x = (cumulative[low + 1] - start) * (r->state >> SS_RANS_BITS) + at - start;
    while (x < SS_RANS_LOW) {
        x <<= 8;
        if (r->at < r->end)
            x |= *r->at++;
        else if (++r->missing && x == 0)
            x = SS_RANS_LOW;
    }
    r->state = x;
    return low;
}
/** After the last symbol: SS_OK, SS_ETRUNC (bytes were missing), SS_EDAMAGED (some are left, or the state is
 * not that in which a writer begins). */
int ss_rans_end(const ss_rans_reader *r);

#endif
