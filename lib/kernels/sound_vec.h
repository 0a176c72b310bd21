/*
 * The front end, one frame at a time, over a vector header; loops in plain C are left to the compiler, which
 * vectorises them for the level. Nothing is fused: the same bits at every level, given those of the
 * transform. Private.
 */
#ifndef SS_KERNELS_SOUND_VEC_H
#define SS_KERNELS_SOUND_VEC_H

#include <string.h>

#include "base/explog.h"
#include "kernels/elements.h"

#define BAND SS_BAND_BLOCK /* filters that go together, and bins side by side */

static void clean(size_t n, float limit, const float *restrict in, float *restrict out, uint64_t *nonfinite,
                  uint64_t *excessive)
{
    uint32_t broken = 0, most = ss_bits_of_float(limit);
    uint32_t over = 0; /* those beyond the limit, the broken ones included */
    for (size_t i = 0; i < n; i++) {
        uint32_t b = ss_bits_of_float(in[i]), size = b & 0x7fffffff;
        uint32_t bad = 0 - (uint32_t)(size >= 0x7f800000), much = 0 - (uint32_t)(size > most);
        broken -= bad;
        over -= much;
        uint32_t held = (b & 0x80000000) | ((size & ~much) | (most & much));
        out[i] = ss_float_of_bits(held & ~bad);
    }
    *nonfinite += broken;
    *excessive += over - broken;
}

static void taper(size_t n, const float *restrict x, const float *restrict weight, float inv_sum,
                  float *restrict out)
{
    float mean = 0;
    if (inv_sum > 0) {
        float sums[64] = {0};
        size_t i = 0;
        for (; i + 64 <= n; i += 64)
            for (size_t j = 0; j < 64; j++)
                sums[j] += weight[i + j] * x[i + j];
        for (size_t j = 0; i + j < n; j++)
            sums[j] += weight[i + j] * x[i + j];
        for (size_t half = 32; half; half /= 2)
            for (size_t j = 0; j < half; j++)
                sums[j] += sums[j + half];
        mean = sums[0] * inv_sum;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = weight[i] * (x[i] - mean);
}

/*
 * With E and O the transforms of the even and the odd samples, z = E + i O: X[k] = E[k] + w^k O[k] and
 * X[half - k] = conj(E[k] - w^k O[k]), where 2 E[k] = z[k] + conj z[half - k], 2 i O[k] = z[k] - conj z[half
 * - k].
 */
static void spectrum(size_t half, const float *restrict z, const float *restrict turn, float *restrict work,
                     float *restrict power)
{
    float *restrict re = work, *restrict im = work + half + 1, *restrict high = work + 2 * (half + 1);
    for (size_t k = 0; k < half; k++) {
        re[k] = z[2 * k];
        im[k] = z[2 * k + 1];
    }
    re[half] = re[0];
    im[half] = im[0];
    const size_t pairs = (half + 1) / 2;
    const float *restrict re_back = re + half, *restrict im_back = im + half, *restrict wi = turn + pairs;
    for (size_t k = 0; k < pairs; k++) {
        float a = re[k], b = im[k], c = re_back[-(ptrdiff_t)k], d = im_back[-(ptrdiff_t)k];
        float er = a + c, ei = b - d, odd = b + d, oi = c - a;
        float tr = turn[k] * odd - wi[k] * oi, ti = turn[k] * oi + wi[k] * odd;
        float lr = er + tr, li = ei + ti, hr = er - tr, hi = ei - ti;
        power[k] = 0.25f * (lr * lr + li * li);
        high[k] = 0.25f * (hr * hr + hi * hi);
    }
    for (size_t k = 0; k < pairs; k++)
        power[half - k] = high[k];
    if (half % 2 == 0)
        power[half / 2] = re[half / 2] * re[half / 2] + im[half / 2] * im[half / 2];
}

static void bands(size_t rows, const int *first, const int *blocks, const float *weight, const float *power,
                  float floor, float *out)
{
    for (size_t m0 = 0; m0 < rows; m0 += BAND) {
        const size_t count = (size_t)blocks[m0 / BAND];
        float sums[BAND];
        for (size_t a = 0; a < BAND; a += VL) {
            vf chain[BAND];
            for (size_t c = 0; c < BAND; c++)
                chain[c] = vset1(0.0f);
            for (size_t b = 0; b < count; b++)
                for (size_t c = 0; c < BAND; c += VL)
                    for (size_t i = 0; i < VL; i++) {
                        vf w = vload(weight + (b * BAND + a + i) * BAND + c);
                        vf p = vload(power + (size_t)first[m0 + a + i] + b * BAND + c);
                        chain[c + i] = vadd(chain[c + i], vmul(w, p));
                    }
            for (size_t c = 0; c < BAND; c += VL)
                vtranspose(chain + c);
            vstore(sums + a, fold_chains(chain));
        }
        weight += count * BAND * BAND;
        for (size_t i = 0; i < BAND; i++)
            sums[i] = ss_logf(sums[i] + floor);
        memcpy(out + m0, sums, (rows - m0 < BAND ? rows - m0 : BAND) * sizeof *out);
    }
}

#define SOUND .clean = clean, .taper = taper, .spectrum = spectrum, .bands = bands

#endif
