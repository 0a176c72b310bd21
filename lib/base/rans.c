#include "base/rans.h"

#include <math.h>

#include "base/err.h"

void ss_rans_frequencies(int n, const uint64_t *count, uint16_t *frequency)
{
    uint64_t all = 0;
    int given = 0;
    for (int i = 0; i < n; i++)
        all += count[i];
    for (int i = 0; i < n; i++) {
        double share = all ? (double)count[i] / (double)all : 1.0 / n;
        int f = (int)(share * SS_RANS_TOTAL);
        frequency[i] = (uint16_t)(f > 0 ? f : 1);
        given += frequency[i];
    }
    /* What is left over, or too much, goes where it saves or costs the fewest bits, one at a time: that is
     * count[i] times the change of a logarithm. */
    while (given != SS_RANS_TOTAL) {
        int step = given < SS_RANS_TOTAL ? 1 : -1, best = -1;
        double gain = -INFINITY;
        for (int i = 0; i < n; i++) {
            if (step < 0 && frequency[i] == 1)
                continue;
            double g = (double)count[i] * log1p((double)step / (double)frequency[i]);
            if (g > gain) {
                gain = g;
                best = i;
            }
        }
        frequency[best] = (uint16_t)(frequency[best] + step);
        given += step;
    }
}

int ss_rans_cumulate(int n, const uint16_t *frequency, uint16_t *cumulative)
{
    uint32_t sum = 0;
    for (int i = 0; i < n; i++) {
        cumulative[i] = (uint16_t)sum;
        sum += frequency[i];
        if (frequency[i] == 0 || sum > SS_RANS_TOTAL)
            return SS_EDAMAGED;
    }
    cumulative[n] = (uint16_t)sum;
    return sum == SS_RANS_TOTAL ? SS_OK : SS_EDAMAGED;
}

void ss_rans_begin(ss_rans_writer *w, void *room, size_t size)
{
    w->begin = room;
    w->at = w->end = w->begin + size;
    w->state = SS_RANS_LOW;
}

const uint8_t *ss_rans_finish(ss_rans_writer *w, size_t *size)
{
    for (int i = 0; i < SS_RANS_STATE; i++)
        *--w->at = (uint8_t)(w->state >> 8 * i);
    *size = (size_t)(w->end - w->at);
    return w->at;
}

void ss_rans_start(ss_rans_reader *r, const void *bytes, size_t size)
{
    r->at = bytes;
    r->end = r->at + size;
    r->state = r->missing = 0;
    for (int i = 0; i < SS_RANS_STATE; i++) {
        r->missing += r->at == r->end;
        r->state = r->state << 8 | (r->at < r->end ? *r->at++ : 0);
    }
}

int ss_rans_end(const ss_rans_reader *r)
{
    if (r->missing)
        return SS_ETRUNC;
    return r->at == r->end && r->state == SS_RANS_LOW ? SS_OK : SS_EDAMAGED;
}
