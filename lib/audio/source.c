#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audio/source_internal.h"
#include "base/mem.h"

/* raw samples */

int ss_raw_parse(const char *text, ss_raw_format *f, ss_err *e)
{
    static const struct {
        const char *name;
        ss_raw_format f;
    } known[] = {
        {"u8", {1, false, false, false}},   {"s8", {1, false, true, false}},
        {"s16le", {2, false, true, false}}, {"s16be", {2, false, true, true}},
        {"s24le", {3, false, true, false}}, {"s24be", {3, false, true, true}},
        {"s32le", {4, false, true, false}}, {"s32be", {4, false, true, true}},
        {"f32le", {4, true, true, false}},  {"f32be", {4, true, true, true}},
        {"f64le", {8, true, true, false}},  {"f64be", {8, true, true, true}},
    };
    size_t n = strcspn(text, ":");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) != n || memcmp(known[i].name, text, n))
            continue;
        *f = known[i].f;
        char *end = NULL;
        f->channels = 1;
        long rate = text[n] ? strtol(text + n + 1, &end, 10) : 0, channels = 1;
        if (end && *end == ':')
            channels = strtol(end + 1, &end, 10);
        if (!end || *end || rate < SS_SOUND_MIN_RATE || rate > SS_SOUND_MAX_RATE || channels < 1 ||
            channels > SS_SOUND_MAX_CHANNELS)
            break;
        f->rate = (int)rate;
        f->channels = (int)channels;
        return SS_OK;
    }
    return ss_err_set(
        e, SS_EINVAL,
        "raw format '%s', expected ENCODING:RATE[:CHANNELS] as in s16le:44100:2, of u8 s8 s16le s16be "
        "s24le s24be s32le s32be f32le f32be f64le f64be, %d to %d samples a second, 1 to %d channels",
        text, SS_SOUND_MIN_RATE, SS_SOUND_MAX_RATE, SS_SOUND_MAX_CHANNELS);
}

static double decode(const ss_raw_format *f, const uint8_t *p)
{
    uint64_t u = 0;
    for (int i = 0; i < f->bytes; i++)
        u |= (uint64_t)p[f->big_endian ? f->bytes - 1 - i : i] << 8 * i;
    if (f->is_float && f->bytes == 4) {
        uint32_t bits = (uint32_t)u;
        float x;
        memcpy(&x, &bits, 4);
        return x;
    }
    if (f->is_float) {
        double x;
        memcpy(&x, &u, 8);
        return x;
    }
    int64_t half = (int64_t)1 << (8 * f->bytes - 1), v = (int64_t)u;
    if (!f->is_signed)
        v -= half;
    else if (v >= half)
        v -= 2 * half;
    return (double)v / (double)half;
}

size_t ss_raw_decode(const ss_raw_format *f, const void *in, size_t n, int channel, float *out)
{
    const uint8_t *p = in;
    size_t bad = 0;
    for (size_t i = 0; i < n; i++, p += (size_t)f->bytes * f->channels) {
        double x = 0;
        if (channel)
            x = decode(f, p + (channel - 1) * f->bytes);
        else {
            for (int c = 0; c < f->channels; c++)
                x += decode(f, p + c * f->bytes);
            x /= f->channels;
        }
        out[i] = (float)x;
        if (!isfinite(out[i])) {
            out[i] = 0;
            bad++;
        }
    }
    return bad;
}

/* 1: there is something to read, 0: stopped. */
static int wait_for(const ss_source *s, int fd)
{
    for (;;) {
        if (s->stop && *s->stop)
            return 0;
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, SOURCE_WAIT) > 0)
            return 1;
    }
}

static ssize_t pull_raw(ss_source *s, float *out, size_t n, ss_err *e)
{
    size_t frame = (size_t)s->raw.bytes * s->raw.channels;
    while (s->nbytes < frame) {
        if (!wait_for(s, s->fd))
            return ss_err_set(e, SS_ESTOPPED, "stopped");
        ssize_t got = read(s->fd, s->bytes + s->nbytes, n * frame - s->nbytes);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return ss_err_errno(e, "cannot read raw sound");
        if (!got && s->nbytes)
            return ss_err_set(e, SS_ETRUNC, "raw sound ends within a frame: %zu bytes of %zu", s->nbytes,
                              frame);
        if (!got)
            return 0;
        s->nbytes += (size_t)got;
    }
    size_t k = s->nbytes / frame;
    s->nonfinite += ss_raw_decode(&s->raw, s->bytes, k, s->channel, out);
    s->nbytes -= k * frame;
    memmove(s->bytes, s->bytes + k * frame, s->nbytes);
    return (ssize_t)k;
}

static ssize_t pull_sound(ss_source *s, float *out, size_t n, ss_err *e)
{
    if (s->live && !wait_for(s, 0))
        return ss_err_set(e, SS_ESTOPPED, "stopped");
    ssize_t got = ss_sound_read(s->sound, out, n, e);
    s->nonfinite = ss_sound_nonfinite(s->sound);
    return got;
}

/* common */

ss_source *ss_source_new(int channel, const volatile int *stop, ss_err *e)
{
    ss_source *s = ss_zalloc(1, sizeof *s);
    if (!s) {
        ss_err_set(e, SS_ENOMEM, "no memory for a source of sound");
        return NULL;
    }
    s->channel = channel;
    s->stop = stop;
    return s;
}

int ss_source_ready(ss_source **out, ss_source *s, int rc, ss_err *e)
{
    if (!rc)
        rc = ss_resample_create(&s->resample, s->rate, SS_SOURCE_RATE, e);
    if (rc)
        ss_source_close(s);
    else
        *out = s;
    return rc;
}

int ss_source_file(ss_source **out, const char *path, int channel, const volatile int *stop, ss_err *e)
{
    *out = NULL;
    ss_source *s = ss_source_new(channel, stop, e);
    if (!s)
        return SS_ENOMEM;
    int rc = ss_sound_open(&s->sound, path, channel, e);
    if (!rc) {
        s->rate = ss_sound_rate(s->sound);
        s->live = ss_sound_is_stream(s->sound);
        s->pull = pull_sound;
    }
    return ss_source_ready(out, s, rc, e);
}

int ss_source_raw(ss_source **out, int fd, const ss_raw_format *f, int channel, const volatile int *stop,
                  ss_err *e)
{
    *out = NULL;
    if (channel < 0 || channel > f->channels)
        return ss_err_set(e, SS_EUNFIT, "raw sound has no channel %d, only 1 to %d", channel, f->channels);
    ss_source *s = ss_source_new(channel, stop, e);
    if (!s)
        return SS_ENOMEM;
    s->fd = fd;
    s->raw = *f;
    s->rate = f->rate;
    s->live = lseek(fd, 0, SEEK_CUR) < 0;
    s->pull = pull_raw;
    s->bytes = ss_alloc((size_t)SOURCE_CHUNK * f->channels, (size_t)f->bytes);
    int rc = s->bytes ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for a source of sound");
    return ss_source_ready(out, s, rc, e);
}

void ss_source_close(ss_source *s)
{
    if (!s)
        return;
    if (s->close)
        s->close(s);
    ss_sound_close(s->sound);
    ss_resample_free(s->resample);
    ss_free(s->bytes);
    ss_free(s);
}

ssize_t ss_source_read(ss_source *s, float *out, size_t n, ss_err *e)
{
    size_t done = 0;
    while (done < n && !s->done) {
        if (s->in_at == s->in_n && !s->over) {
            /* A live source gives what it has: the conversion's own chunk must not add to the wait. */
            size_t want = SOURCE_CHUNK;
            if (s->live && (double)(n - done) * s->rate / SS_SOURCE_RATE + 1 < SOURCE_CHUNK)
                want = (size_t)((double)(n - done) * s->rate / SS_SOURCE_RATE) + 1;
            ssize_t got = s->pull(s, s->in, want, &s->pending);
            s->in_at = 0;
            s->in_n = got > 0 ? (size_t)got : 0;
            s->pulled += s->in_n;
            s->over = got <= 0;
        }
        size_t taken = 0;
        ssize_t made = ss_resample_run(s->resample, s->over ? NULL : s->in + s->in_at, s->in_n - s->in_at,
                                       &taken, out + done, n - done, e);
        if (made < 0)
            return made;
        if (!done && made)
            s->time = s->anchor > 0 ? (int64_t)(s->anchor + (double)s->made * 1e9 / SS_SOURCE_RATE) : 0;
        s->in_at += taken;
        done += (size_t)made;
        s->made += (uint64_t)made;
        if (!s->over || made)
            continue;
        if (!s->broken) {
            s->done = true;
        } else if (done) {
            break; /* what comes next does not follow on this */
        } else {
            int rc = ss_resample_reset(s->resample, e);
            if (rc)
                return rc;
            s->broken = s->over = false;
            s->lost += (uint64_t)((double)s->native_lost * SS_SOURCE_RATE / s->rate + 0.5);
            s->native_lost = s->pulled = s->made = 0;
            s->anchor = 0;
        }
    }
    if (done || !s->pending.code)
        return (ssize_t)done;
    int rc = s->pending.code;
    if (e)
        *e = s->pending;
    s->pending.code = 0;
    return rc;
}

int ss_source_skip(ss_source *s, uint64_t n, ss_err *e)
{
    if (s->sound && !s->live)
        return ss_sound_skip(s->sound, (uint64_t)((double)n * s->rate / SS_SOURCE_RATE + 0.5), e);
    float sink[256];
    while (n) {
        ssize_t got = ss_source_read(s, sink, n < 256 ? n : 256, e);
        if (got <= 0)
            return (int)got;
        n -= (uint64_t)got;
    }
    return SS_OK;
}

bool ss_source_is_live(const ss_source *s)
{
    return s->live;
}

uint64_t ss_source_lost(ss_source *s)
{
    uint64_t lost = s->lost;
    s->lost = 0;
    return lost;
}

int64_t ss_source_time(const ss_source *s)
{
    return s->time;
}

uint64_t ss_source_nonfinite(const ss_source *s)
{
    return s->nonfinite;
}

int64_t ss_source_declared(const ss_source *s)
{
    int64_t n = s->sound ? ss_sound_declared(s->sound) : -1;
    return n < 0 ? -1 : (int64_t)((double)n * SS_SOURCE_RATE / s->rate + 0.5);
}

uint64_t ss_source_missing(const ss_source *s)
{
    int64_t declared = s->sound ? ss_sound_declared(s->sound) : -1;
    if (declared < 0 || (uint64_t)declared <= ss_sound_position(s->sound))
        return 0;
    return (uint64_t)((double)((uint64_t)declared - ss_sound_position(s->sound)) * SS_SOURCE_RATE / s->rate +
                      0.5);
}
