#include "audio/logmel.h"

#include <fftw3.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"

#define SAMPLE_LIMIT 1000.0f

/* Sparse filters, as ss_log_bands takes them. */
typedef struct bank {
    int rows;
    int *first, *blocks;
    float *weight;
    int reach; /* bins that it reads, those behind the last included */
} bank;

struct ss_logmel {
    ss_logmel_config c;
    bank full, half;
    float *hann;    /* [window] */
    float inv_sum;  /* 1 / sum of hann; 0 with keep_dc */
    float *history; /* [window], `filled` of them valid: samples of the frame to come */
    float *time;    /* [fft], taken as fft / 2 complex numbers */
    float *freq;    /* [fft / 2] complex */
    float *turn;    /* [fft / 2 + 1]: what makes the spectrum of it */
    float *work;
    float *power; /* [fft / 2 + 1], and zeros as far as the filters reach */
    fftwf_plan plan;
    float *ring;   /* [frames][mels], frame t at t mod frames */
    uint8_t *how;  /* [frames], resolution of each */
    float *coarse; /* [mels / 2] */
    int *place;    /* [mels]: row m of the full set lies between rows place and place + 1 of the half set, */
    float *blend;  /* [mels]: this far along */
    int filled;
    uint64_t nframes;  /* of the clip, complete */
    uint64_t nsamples; /* of the clip, real ones */
    bool held;         /* the newest frame only repeats the one before: it waits for its other neighbour */
    ss_resolution resolution;
    uint64_t nonfinite, excessive;
};

/* FFTW's planner is one for the process. */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

void ss_logmel_config_default(ss_logmel_config *c)
{
    *c = (ss_logmel_config){.rate = 16000,
                            .window = 400,
                            .hop = 160,
                            .fft = 512,
                            .mels = 64,
                            .low = 80,
                            .high = 8000,
                            .floor = 1e-6,
                            .frames = 96,
                            .step = 48};
}

void ss_logmel_describe(const ss_logmel_config *c, char json[256], char hash[17])
{
    snprintf(json, 256,
             "{\"rate\":%.9g,\"window\":%d,\"hop\":%d,\"fft\":%d,\"mels\":%d,\"low\":%.9g,\"high\":%.9g,"
             "\"floor\":%.9g,\"dc\":%s,\"taper\":\"hann\",\"scale\":\"htk\"}",
             c->rate, c->window, c->hop, c->fft, c->mels, c->low, c->high, c->floor,
             c->keep_dc ? "true" : "false");
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = json; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    snprintf(hash, 17, "%016" PRIx64, h);
}

static double mel_of(double hz)
{
    return 2595 * log10(1 + hz / 700);
}

static double hz_of(double mel)
{
    return 700 * (pow(10, mel / 2595) - 1);
}

static void bank_clear(bank *b)
{
    ss_free(b->first);
    ss_free(b->blocks);
    ss_free(b->weight);
}

typedef struct triangle {
    double left, centre, right;
} triangle;

static triangle triangle_of(const ss_logmel_config *c, int rows, int m)
{
    double low = mel_of(c->low), step = (mel_of(c->high) - low) / (rows + 1);
    return (triangle){m ? hz_of(low + m * step) : c->low, hz_of(low + (m + 1) * step),
                      m + 1 < rows ? hz_of(low + (m + 2) * step) : c->high};
}

/* 0 outside. */
static double weight_at(const ss_logmel_config *c, triangle t, int k)
{
    double hz = k * c->rate / c->fft, up = (hz - t.left) / (t.centre - t.left),
           down = (t.right - hz) / (t.right - t.centre), w = up < down ? up : down;
    return w > 0 ? w : 0;
}

static int bank_make(bank *b, const ss_logmel_config *c, int rows, double gain, ss_err *e)
{
    enum { N = SS_BAND_BLOCK };
    int bins = c->fft / 2 + 1, groups = (rows + N - 1) / N;
    size_t size = 0;
    b->rows = rows;
    b->first = ss_zalloc((size_t)groups * N, sizeof *b->first);
    b->blocks = ss_zalloc(groups, sizeof *b->blocks);
    if (!b->first || !b->blocks)
        return ss_err_set(e, SS_ENOMEM, "no memory for %d mel filters", rows);
    for (int m = 0; m < rows; m++) {
        triangle t = triangle_of(c, rows, m);
        int k = 0, count = 0;
        while (k < bins && !weight_at(c, t, k))
            k++;
        b->first[m] = k;
        while (k + count < bins && weight_at(c, t, k + count))
            count++;
        if (!count)
            return ss_err_set(
                e, SS_EUNFIT,
                "mel filter %d of %d (%.1f to %.1f Hz) holds no bin of a transform of %d points "
                "at %.9g Hz: fewer filters or a longer transform are needed",
                m, rows, t.left, t.right, c->fft, c->rate);
        count = (count + N - 1) / N;
        if (count > b->blocks[m / N])
            b->blocks[m / N] = count;
    }
    b->reach = bins;
    for (int m = 0; m < rows; m++) {
        int end = b->first[m] + b->blocks[m / N] * N;
        b->reach = end > b->reach ? end : b->reach;
    }
    for (int g = 0; g < groups; g++)
        size += (size_t)b->blocks[g] * N * N;
    b->weight = ss_zalloc(size, sizeof *b->weight);
    if (!b->weight)
        return ss_err_set(e, SS_ENOMEM, "no memory for %d mel filters", rows);
    float *at = b->weight;
    for (int m = 0; m < rows; m++) {
        triangle t = triangle_of(c, rows, m);
        for (int k = b->first[m], i = 0; k < bins && weight_at(c, t, k); k++, i++)
            at[(i / N * N + m % N) * N + i % N] = (float)(gain * weight_at(c, t, k));
        if (m % N == N - 1)
            at += b->blocks[m / N] * N * N;
    }
    return SS_OK;
}

static int check_config(const ss_logmel_config *c, ss_err *e)
{
    if (!(c->rate >= 1000 && c->rate <= 768000))
        return ss_err_set(e, SS_ERANGE, "sample rate %.9g Hz, expected 1000 to 768000", c->rate);
    if (c->window < 2 || c->window > 1 << 20)
        return ss_err_set(e, SS_ERANGE, "window of %d samples, expected 2 to %d", c->window, 1 << 20);
    if (c->hop < 1 || c->hop > c->window)
        return ss_err_set(e, SS_ERANGE, "hop of %d samples, expected 1 to the window's %d", c->hop,
                          c->window);
    if (c->fft < c->window || c->fft > 1 << 20 || c->fft % 2)
        return ss_err_set(e, SS_ERANGE,
                          "transform of %d points, expected an even number from the window's %d to %d",
                          c->fft, c->window, 1 << 20);
    if (c->mels < 1 || c->mels > 4096)
        return ss_err_set(e, SS_ERANGE, "%d mel filters, expected 1 to 4096", c->mels);
    if (!(c->low >= 0 && c->low < c->high && c->high <= c->rate / 2))
        return ss_err_set(e, SS_ERANGE, "mel filters from %.9g to %.9g Hz, expected a range within 0 to %.9g",
                          c->low, c->high, c->rate / 2);
    if (!(c->floor > 0 && c->floor <= 1))
        return ss_err_set(e, SS_ERANGE, "energy floor %.9g, expected above 0 and at most 1", c->floor);
    if (c->frames < 1 || c->frames > 1 << 16)
        return ss_err_set(e, SS_ERANGE, "%d frames in a window, expected 1 to %d", c->frames, 1 << 16);
    if (c->step < 1 || c->step > c->frames)
        return ss_err_set(e, SS_ERANGE, "windows every %d frames, expected 1 to their length of %d", c->step,
                          c->frames);
    return SS_OK;
}

int ss_logmel_create(ss_logmel **out, const ss_logmel_config *c, ss_err *e)
{
    *out = NULL;
    int rc = check_config(c, e);
    if (rc)
        return rc;
    ss_logmel *m = ss_zalloc(1, sizeof *m);
    if (!m)
        return ss_err_set(e, SS_ENOMEM, "no memory for the log-mel front end");
    m->c = *c;
    rc = bank_make(&m->full, c, c->mels, 1, e);
    if (!rc && c->mels >= 2)
        rc = bank_make(&m->half, c, c->mels / 2, 0.5, e);
    if (rc)
        goto out;
    int half = c->fft / 2, pairs = (half + 1) / 2;
    m->hann = ss_alloc(c->window, sizeof *m->hann);
    m->history = ss_alloc(c->window, sizeof *m->history);
    m->time = ss_zalloc(c->fft, sizeof *m->time);
    m->freq = ss_zalloc(c->fft, sizeof *m->freq);
    m->turn = ss_alloc(2 * (size_t)pairs, sizeof *m->turn);
    m->work = ss_alloc(3 * ((size_t)half + 1), sizeof *m->work);
    m->power = ss_zalloc(m->full.reach > m->half.reach ? m->full.reach : m->half.reach, sizeof *m->power);
    m->ring = ss_alloc((size_t)c->frames * c->mels, sizeof *m->ring);
    m->how = ss_zalloc(c->frames, 1);
    m->coarse = ss_alloc(c->mels / 2, sizeof *m->coarse);
    m->place = ss_alloc(c->mels, sizeof *m->place);
    m->blend = ss_alloc(c->mels, sizeof *m->blend);
    if (!m->hann || !m->history || !m->time || !m->freq || !m->turn || !m->work || !m->power || !m->ring ||
        !m->how || !m->coarse || !m->place || !m->blend) {
        rc = ss_err_set(e, SS_ENOMEM, "no memory for the log-mel front end");
        goto out;
    }
    double sum = 0;
    for (int i = 0; i < c->window; i++) {
        m->hann[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * i / c->window));
        sum += m->hann[i];
    }
    m->inv_sum = c->keep_dc ? 0 : (float)(1 / sum);
    for (int k = 0; k < pairs; k++) {
        m->turn[k] = (float)cos(M_PI * k / half);
        m->turn[pairs + k] = (float)-sin(M_PI * k / half);
    }
    int rows = c->mels / 2;
    for (int i = 0; i < c->mels; i++) {
        double at = (i + 1.0) * (rows + 1) / (c->mels + 1) - 1; /* on the half set's count of centres */
        int below = (int)floor(at);
        m->place[i] = below < 0 ? 0 : below > rows - 2 ? rows - 2 : below;
        at -= m->place[i];
        m->blend[i] = (float)(at < 0 ? 0 : at > 1 ? 1 : at);
    }
    /*
     * The samples as half as many complex numbers: twice as fast as FFTW's transform of real ones, most of
     * whose time goes into what ss_spectrum_power does. An estimated plan depends on shape and alignment
     * only, and so do the bits that come out of it.
     */
    pthread_mutex_lock(&planner);
    m->plan = fftwf_plan_dft_1d(half, (fftwf_complex *)m->time, (fftwf_complex *)m->freq, FFTW_FORWARD,
                                FFTW_ESTIMATE | FFTW_DESTROY_INPUT);
    pthread_mutex_unlock(&planner);
    if (!m->plan)
        rc = ss_err_set(e, SS_ENOMEM, "no plan for a transform of %d points", c->fft);
out:
    if (rc)
        ss_logmel_free(m);
    else
        *out = m;
    return rc;
}

void ss_logmel_free(ss_logmel *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&planner);
    if (m->plan)
        fftwf_destroy_plan(m->plan);
    pthread_mutex_unlock(&planner);
    bank_clear(&m->full);
    bank_clear(&m->half);
    ss_free(m->hann);
    ss_free(m->history);
    ss_free(m->time);
    ss_free(m->freq);
    ss_free(m->turn);
    ss_free(m->work);
    ss_free(m->power);
    ss_free(m->ring);
    ss_free(m->how);
    ss_free(m->coarse);
    ss_free(m->place);
    ss_free(m->blend);
    ss_free(m);
}

int ss_logmel_set_resolution(ss_logmel *m, ss_resolution r)
{
    if (r == SS_RES_HALF_MELS && (m->c.mels % 2 || m->c.mels < 4))
        return SS_ERANGE;
    m->resolution = r;
    return SS_OK;
}

/* out [rows] = ln(energies + floor) of the frame in `history`. */
static void analyse(ss_logmel *m, const bank *b, float *out)
{
    const ss_logmel_config *c = &m->c;
    ss_taper((size_t)c->window, m->history, m->hann, m->inv_sum, m->time);
    memset(m->time + c->window, 0, ((size_t)c->fft - c->window) * sizeof *m->time);
    fftwf_execute(m->plan);
    ss_spectrum_power(c->fft / 2, m->freq, m->turn, m->work, m->power);
    ss_log_bands(b->rows, b->first, b->blocks, b->weight, m->power, (float)c->floor, out);
}

static float *frame_at(const ss_logmel *m, uint64_t t)
{
    return m->ring + t % m->c.frames * m->c.mels;
}

/* Make the next frame from `history`. True when it completes a window. */
static bool add_frame(ss_logmel *m)
{
    const ss_logmel_config *c = &m->c;
    uint64_t t = m->nframes++;
    float *f = frame_at(m, t);
    m->how[t % c->frames] = (uint8_t)m->resolution;
    /* With windows of one frame there is none before to repeat. */
    if (m->resolution == SS_RES_HALF_RATE && t % 2 && c->frames > 1) {
        memcpy(f, frame_at(m, t - 1), c->mels * sizeof *f);
        m->held = true;
    } else {
        if (m->resolution == SS_RES_HALF_MELS) {
            analyse(m, &m->half, m->coarse);
            for (int i = 0; i < c->mels; i++) {
                const float *p = m->coarse + m->place[i];
                f[i] = p[0] + m->blend[i] * (p[1] - p[0]);
            }
        } else
            analyse(m, &m->full, f);
        if (m->held) {
            float *before = frame_at(m, t - 1);
            for (int i = 0; i < c->mels; i++)
                before[i] += 0.5f * (f[i] - before[i]);
        }
        m->held = false;
    }
    return m->nframes >= (uint64_t)c->frames && (m->nframes - c->frames) % c->step == 0;
}

int ss_logmel_push(ss_logmel *m, const float *in, size_t n, size_t *taken)
{
    const ss_logmel_config *c = &m->c;
    size_t done = 0;
    bool window = false;
    while (!window && done < n) {
        size_t room = c->window - m->filled, k = n - done < room ? n - done : room;
        ss_clean(k, SAMPLE_LIMIT, in + done, m->history + m->filled, &m->nonfinite, &m->excessive);
        done += k;
        m->nsamples += k;
        m->filled += (int)k;
        if (m->filled == c->window) {
            window = add_frame(m);
            m->filled -= c->hop;
            memmove(m->history, m->history + c->hop, m->filled * sizeof *m->history);
        }
    }
    *taken = done;
    return window;
}

static uint64_t window_start(const ss_logmel *m, uint64_t nframes)
{
    return (nframes - m->c.frames) * m->c.hop;
}

int ss_logmel_pad(ss_logmel *m)
{
    const ss_logmel_config *c = &m->c;
    uint64_t length = (uint64_t)(c->frames - 1) * c->hop + c->window, real = m->nsamples, covered = 0;
    if (m->nframes >= (uint64_t)c->frames)
        covered = (m->nframes - c->frames) / c->step * c->step * c->hop + length;
    if (real <= covered)
        return 0;
    static const float silence[256];
    size_t taken;
    while (!ss_logmel_push(m, silence, sizeof silence / sizeof *silence, &taken))
        ;
    m->nsamples = real;
    return 1;
}

void ss_logmel_reset(ss_logmel *m)
{
    m->filled = 0;
    m->nframes = m->nsamples = 0;
    m->held = false;
}

void ss_logmel_fetch(const ss_logmel *m, float *out, ss_logmel_window *about)
{
    const ss_logmel_config *c = &m->c;
    ss_resolution resolution = SS_RES_FULL;
    for (int t = 0; t < c->frames; t++) {
        uint64_t at = m->nframes - c->frames + t;
        const float *f = frame_at(m, at);
        for (int i = 0; i < c->mels; i++)
            out[(size_t)i * c->frames + t] = f[i];
        if (m->how[at % c->frames])
            resolution = (ss_resolution)m->how[at % c->frames];
    }
    if (!about)
        return;
    about->start = window_start(m, m->nframes);
    about->samples = (uint32_t)((c->frames - 1) * c->hop + c->window);
    uint64_t end = about->start + about->samples;
    about->padding = end > m->nsamples ? (uint32_t)(end - m->nsamples) : 0;
    about->resolution = resolution;
}

uint64_t ss_logmel_nonfinite(const ss_logmel *m)
{
    return m->nonfinite;
}

uint64_t ss_logmel_excessive(const ss_logmel *m)
{
    return m->excessive;
}
