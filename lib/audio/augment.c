#include "audio/augment.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/explog.h"

void ss_augment_default(ss_augment *a)
{
    *a = (ss_augment){.roll = 8,
                      .gain = 0.7f,
                      .mix = 0.4f,
                      .ratio = 1e3f,
                      .freq_mask = 10,
                      .time_mask = 16,
                      .floor = 1e-6f,
                      .input_mean = -4.45f};
}

int ss_augment_check(const ss_augment *a, ss_err *e)
{
    if (a->roll < 0 || a->roll > 65536)
        return ss_err_set(e, SS_ERANGE, "roll %d is not within 0..65536", a->roll);
    if (!(a->gain >= 0 && a->gain <= 4))
        return ss_err_set(e, SS_ERANGE, "gain %g is not within 0..4", (double)a->gain);
    if (!(a->mix >= 0 && a->mix <= 1))
        return ss_err_set(e, SS_ERANGE, "mix %g is not within 0..1", (double)a->mix);
    if (!(a->ratio > 0 && a->ratio <= 1e9f))
        return ss_err_set(e, SS_ERANGE, "ratio %g is not above 0 and at most 1e9", (double)a->ratio);
    if (!(a->noise >= 0 && a->noise <= 1e9f))
        return ss_err_set(e, SS_ERANGE, "noise %g is not within 0..1e9", (double)a->noise);
    if (a->freq_mask < 0 || a->freq_mask > 65536 || a->time_mask < 0 || a->time_mask > 65536)
        return ss_err_set(e, SS_ERANGE, "masks of %d mels and %d frames are not within 0..65536",
                          a->freq_mask, a->time_mask);
    if (!(a->floor >= 1e-30f && a->floor <= 1))
        return ss_err_set(e, SS_ERANGE, "floor %g is not within 1e-30..1", (double)a->floor);
    if (!isfinite(a->input_mean))
        return ss_err_set(e, SS_ERANGE, "input_mean %g is not finite", (double)a->input_mean);
    return 0;
}

int ss_augment_describe(const ss_augment *a, char *out, size_t size)
{
    return snprintf(out, size, "augment %d %.9g %.9g %.9g %.9g %d %d %.9g %.9g", a->roll, (double)a->gain,
                    (double)a->mix, (double)a->ratio, (double)a->noise, a->freq_mask, a->time_mask,
                    (double)a->floor, (double)a->input_mean);
}

/* A mask of U{0..most} out of n, anywhere. */
static void mask(ss_rng *rng, int most, int n, int *first, int *width)
{
    *width = (int)ss_rng_below(rng, (uint32_t)(most < n ? most : n) + 1);
    *first = (int)ss_rng_below(rng, (uint32_t)(n - *width) + 1);
}

void ss_augment_draw(const ss_augment *a, ss_rng *rng, int mels, int frames, ss_view *v)
{
    v->roll = (int)ss_rng_below(rng, 2 * (uint32_t)a->roll + 1) - a->roll;
    v->gain = ss_expf((2.0f * ss_rng_uniform(rng) - 1.0f) * a->gain * 2.3025851f);
    v->mix = ss_rng_uniform(rng) * a->mix;
    v->noise = a->floor * a->noise * ss_expf(4.0f * ss_rng_uniform(rng));
    mask(rng, a->freq_mask, mels, &v->mel, &v->mels);
    mask(rng, a->time_mask, frames, &v->frame, &v->frames);
    v->cells = ss_rng_make(rng->key, ss_rng_u64(rng));
}

static inline float power(float x, float floor)
{
    float p = ss_expf(x) - floor;
    return p > 0.0f ? p : 0.0f;
}

/* The sum over a window is taken in so many lanes, whose order is thereby fixed. */
enum { LANES = 16, CHUNK = 16 * LANES };

static void add_lanes(const float *p, int n, float lane[LANES])
{
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += p[i + j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += p[i];
}

static float mean_of_lanes(const float lane[LANES], int n)
{
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += (double)lane[i];
    return (float)(sum / n);
}

static float mean(const float *p, int n)
{
    float lane[LANES] = {0};
    add_lanes(p, n, lane);
    return mean_of_lanes(lane, n);
}

/* Mean power of a window of n values. */
static float mean_power(const float *x, int n, float floor)
{
    float lane[LANES] = {0}, p[CHUNK];
    for (int i = 0; i < n; i += CHUNK) {
        int m = n - i < CHUNK ? n - i : CHUNK;
        for (int j = 0; j < m; j++)
            p[j] = power(x[i + j], floor);
        add_lanes(p, m, lane);
    }
    return mean_of_lanes(lane, n);
}

/* Power of a component of noise in one cell is exponential: -ln of a uniform number in (0, 1). */
static void add_noise(const ss_view *v, int n, float *p)
{
    ss_rng cells = v->cells;
    uint32_t bits[64];
    for (int i = 0; i < n; i += 64) {
        int m = n - i < 64 ? n - i : 64;
        ss_rng_fill_u32(&cells, bits, (size_t)m);
        for (int j = 0; j < m; j++)
            p[i + j] -= v->noise * ss_logf(((float)(bits[j] >> 8) + 0.5f) * 0x1p-24f);
    }
}

void ss_augment_apply(const ss_augment *a, const ss_view *v, int mels, int frames, const float *x,
                      const float *q, float *out)
{
    int n = mels * frames;
    float floor = a->floor;
    for (int m = 0; m < mels; m++) {
        int from = m + v->roll;
        from = from < 0 ? 0 : from >= mels ? mels - 1 : from;
        const float *in = x + (size_t)from * (size_t)frames;
        float *p = out + (size_t)m * (size_t)frames;
        for (int t = 0; t < frames; t++)
            p[t] = v->gain * power(in[t], floor);
    }
    if (q && v->mix > 0.0f) {
        float ratio = mean(out, n) / (mean_power(q, n, floor) + floor);
        float other = v->mix * (ratio < a->ratio ? ratio : a->ratio), own = 1.0f - v->mix;
        for (int i = 0; i < n; i++)
            out[i] = own * out[i] + other * power(q[i], floor);
    }
    if (v->noise > 0.0f)
        add_noise(v, n, out);
    for (int i = 0; i < n; i++)
        out[i] = ss_logf(out[i] + floor);
    for (int m = 0; m < mels; m++) {
        bool whole = m >= v->mel && m < v->mel + v->mels;
        float *row = out + (size_t)m * (size_t)frames;
        for (int t = whole ? 0 : v->frame, end = whole ? frames : v->frame + v->frames; t < end; t++)
            row[t] = a->input_mean;
    }
}
