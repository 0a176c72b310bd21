#include "sound_codec.h"

#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "../base/mem.h"
#include "config.h"
#if SS_HAVE_OPUS
#include <opus.h>
#endif

#define RATE       16000
#define MAX_PACKET 1275 /* bytes of a frame of Opus, by its specification */
#define ANEW       1    /* flag of a block */
#define LEVEL      3    /* of zstd */

/* ---- bytes that grow, as a file ---- */

typedef struct bytes {
    uint8_t *v;
    size_t n, room, at;
    bool full; /* no memory */
} bytes;

static bool need(bytes *b, size_t room)
{
    if (room > b->room) {
        size_t more = room + room / 2;
        uint8_t *p = ss_realloc(b->v, more, 1);
        if (!p)
            return b->full = true, false;
        b->v = p;
        b->room = more;
    }
    return true;
}

static sf_count_t file_length(void *arg)
{
    return (sf_count_t)((bytes *)arg)->n;
}

static sf_count_t file_seek(sf_count_t to, int whence, void *arg)
{
    bytes *b = arg;
    to += whence == SEEK_CUR ? (sf_count_t)b->at : whence == SEEK_END ? (sf_count_t)b->n : 0;
    if (to < 0 || to > (sf_count_t)b->n)
        return -1;
    b->at = (size_t)to;
    return to;
}

static sf_count_t file_read(void *to, sf_count_t n, void *arg)
{
    bytes *b = arg;
    sf_count_t left = (sf_count_t)(b->n - b->at);
    n = n < left ? n : left;
    memcpy(to, b->v + b->at, (size_t)n);
    b->at += (size_t)n;
    return n;
}

static sf_count_t file_write(const void *from, sf_count_t n, void *arg)
{
    bytes *b = arg;
    if (!need(b, b->at + (size_t)n))
        return 0;
    memcpy(b->v + b->at, from, (size_t)n);
    b->at += (size_t)n;
    b->n = b->n > b->at ? b->n : b->at;
    return n;
}

static sf_count_t file_tell(void *arg)
{
    return (sf_count_t)((bytes *)arg)->at;
}

static SF_VIRTUAL_IO file = {file_length, file_seek, file_read, file_write, file_tell};

/* ---- encoder ---- */

struct ss_sound_encoder {
    int codec;
    bytes b;
    int16_t *narrow; /* [most] of FLAC */
    size_t most;
    bool anew;
    int lag; /* of the codec, samples */
#if SS_HAVE_OPUS
    OpusEncoder *opus;
#endif
};

int ss_sound_codec_parse(const char *text, int *codec, int *rate, ss_err *e)
{
    *rate = 24000;
    *codec = !strcmp(text, "flac") ? SS_SOUND_FLAC : SS_SOUND_OPUS;
    if (!strncmp(text, "opus:", 5)) {
        char *end;
        errno = 0;
        double v = strtod(text + 5, &end) * (*end == 'k' ? 1000 : 1);
        end += *end == 'k';
        if (end == text + 5 || *end || !(v >= SS_SOUND_LEAST_RATE && v <= SS_SOUND_MOST_RATE))
            return ss_err_set(e, SS_EINVAL, "found '%s', expected %d to %d bit/s behind opus, as in opus:24k",
                              text, SS_SOUND_LEAST_RATE, SS_SOUND_MOST_RATE);
        *rate = (int)v;
    } else if (strcmp(text, "opus") && strcmp(text, "flac")) {
        return ss_err_set(e, SS_EINVAL, "found '%s', expected flac, opus or opus:RATE", text);
    }
    if (*codec == SS_SOUND_OPUS && !SS_HAVE_OPUS)
        return ss_err_set(e, SS_ENOTSUP, "built without Opus");
    return SS_OK;
}

int ss_sound_encoder_open(ss_sound_encoder **to, int codec, int rate, ss_err *e)
{
    *to = NULL;
    if (codec != SS_SOUND_OPUS && codec != SS_SOUND_FLAC)
        return ss_err_set(e, SS_EINVAL, "codec %d is none of sound", codec);
    ss_sound_encoder *c = ss_zalloc(1, sizeof *c);
    if (!c)
        return ss_err_set(e, SS_ENOMEM, "no memory for an encoder");
    c->codec = codec;
    c->anew = true;
    int rc = SS_OK;
    if (codec == SS_SOUND_OPUS) {
#if SS_HAVE_OPUS
        int bad = 0;
        opus_int32 lag = 0;
        c->opus = opus_encoder_create(RATE, 1, OPUS_APPLICATION_AUDIO, &bad);
        if (!c->opus)
            rc = ss_err_set(e, SS_ENOMEM, "cannot make an encoder of Opus: %s", opus_strerror(bad));
        else if (rate < SS_SOUND_LEAST_RATE || rate > SS_SOUND_MOST_RATE ||
                 opus_encoder_ctl(c->opus, OPUS_SET_BITRATE(rate)) ||
                 opus_encoder_ctl(c->opus, OPUS_GET_LOOKAHEAD(&lag)) || lag < 0 || lag >= SS_SOUND_FRAME)
            rc = ss_err_set(e, SS_ERANGE, "Opus at %d bit/s, expected %d to %d", rate, SS_SOUND_LEAST_RATE,
                            SS_SOUND_MOST_RATE);
        c->lag = (int)lag;
#else
        rc = ss_err_set(e, SS_ENOTSUP, "built without Opus");
#endif
    }
    if (rc < 0)
        ss_sound_encoder_close(&c);
    *to = c;
    return rc;
}

void ss_sound_encoder_close(ss_sound_encoder **to)
{
    ss_sound_encoder *c = *to;
    *to = NULL;
    if (!c)
        return;
#if SS_HAVE_OPUS
    if (c->opus)
        opus_encoder_destroy(c->opus);
#endif
    ss_free(c->b.v);
    ss_free(c->narrow);
    ss_free(c);
}

int ss_sound_encoder_frame(const ss_sound_encoder *c)
{
    return c->codec == SS_SOUND_OPUS ? SS_SOUND_FRAME : 1;
}

int ss_sound_encoder_delay(const ss_sound_encoder *c)
{
    return c->anew ? 0 : c->lag;
}

void ss_sound_encoder_reset(ss_sound_encoder *c)
{
    c->anew = true;
}

#if SS_HAVE_OPUS
static int encode_opus(ss_sound_encoder *c, const float *x, size_t n, bool last, uint32_t *samples, ss_err *e)
{
    const size_t frame = SS_SOUND_FRAME, lag = (size_t)c->lag;
    size_t frames = last ? (n + lag + frame - 1) / frame : n / frame;
    bytes *b = &c->b;
    if (!need(b, 3 + frames * (MAX_PACKET + 2)))
        return ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu samples", n);
    b->n = 0;
    b->v[b->n++] = c->anew ? ANEW : 0;
    if (c->anew) {
        opus_encoder_ctl(c->opus, OPUS_RESET_STATE);
        b->v[b->n++] = (uint8_t)c->lag;
        b->v[b->n++] = (uint8_t)(c->lag >> 8);
    }
    *samples = (uint32_t)(n + (last ? lag : 0) - (c->anew ? lag : 0));
    for (size_t f = 0; f < frames; f++) {
        float in[SS_SOUND_FRAME] = {0};
        uint8_t packet[MAX_PACKET];
        for (size_t i = 0; i < frame && f * frame + i < n; i++)
            in[i] = x[f * frame + i];
        int size = opus_encode_float(c->opus, in, SS_SOUND_FRAME, packet, MAX_PACKET);
        if (size < 1)
            return ss_err_set(e, SS_EINVAL, "Opus: %s", opus_strerror(size));
        /* RFC 6716, section 3.2.1 */
        if (size < 252) {
            b->v[b->n++] = (uint8_t)size;
        } else {
            b->v[b->n] = (uint8_t)(252 + (size & 3));
            b->v[b->n + 1] = (uint8_t)((size - b->v[b->n]) >> 2);
            b->n += 2;
        }
        memcpy(b->v + b->n, packet, (size_t)size);
        b->n += (size_t)size;
    }
    return SS_OK;
}
#endif

/* Take away what stands before the first frame: it is the same for all, but for what a record says already.
 */
static int strip(bytes *b, ss_err *e)
{
    size_t at = 4;
    for (bool more = b->n > 8 && !memcmp(b->v, "fLaC", 4); more;) {
        if (at + 4 > b->n)
            break;
        more = !(b->v[at] & 0x80);
        at += 4 + ((size_t)b->v[at + 1] << 16 | (size_t)b->v[at + 2] << 8 | b->v[at + 3]);
    }
    if (at + 2 > b->n || b->v[at] != 0xff)
        return ss_err_set(e, SS_ENOTSUP, "libsndfile has written no FLAC as it is known");
    memmove(b->v, b->v + at, b->n - at);
    b->n -= at;
    return SS_OK;
}

static int encode_flac(ss_sound_encoder *c, const float *x, size_t n, ss_err *e)
{
    if (n > c->most) {
        int16_t *p = ss_realloc(c->narrow, n, sizeof *p);
        if (!p)
            return ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu samples", n);
        c->narrow = p;
        c->most = n;
    }
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * 32768;
        c->narrow[i] = (int16_t)(v >= 32767 ? 32767 : v <= -32768 ? -32768 : lrintf(v));
    }
    SF_INFO info = {.samplerate = RATE, .channels = 1, .format = SF_FORMAT_FLAC | SF_FORMAT_PCM_16};
    c->b.n = c->b.at = 0;
    c->b.full = false;
    SNDFILE *f = sf_open_virtual(&file, SFM_WRITE, &info, &c->b);
    if (!f)
        return ss_err_set(e, c->b.full ? SS_ENOMEM : SS_ENOTSUP, "FLAC: %s", sf_strerror(NULL));
    sf_count_t written = sf_write_short(f, c->narrow, (sf_count_t)n);
    int bad = sf_close(f);
    if (c->b.full || bad || written != (sf_count_t)n)
        return ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu samples", n);
    return strip(&c->b, e);
}

int ss_sound_encode(ss_sound_encoder *c, const float *x, size_t n, bool last, const void **out, size_t *size,
                    uint32_t *samples, ss_err *e)
{
    if (!n || n > SS_SOUND_BLOCK || (!last && n % (size_t)ss_sound_encoder_frame(c)))
        return ss_err_set(e, SS_EINVAL, "a block of %zu samples", n);
    *samples = (uint32_t)n;
    int rc = c->codec == SS_SOUND_FLAC ? encode_flac(c, x, n, e) : SS_ENOTSUP;
#if SS_HAVE_OPUS
    if (c->codec == SS_SOUND_OPUS)
        rc = encode_opus(c, x, n, last, samples, e);
#endif
    c->anew = last || rc < 0;
    *out = c->b.v;
    *size = c->b.n;
    return rc;
}

/* ---- decoder ---- */

struct ss_sound_decoder {
    bytes b;
    float *x;
    size_t most;
#if SS_HAVE_OPUS
    OpusDecoder *opus;
#endif
};

int ss_sound_decoder_open(ss_sound_decoder **d, ss_err *e)
{
    *d = ss_zalloc(1, sizeof **d);
    return *d ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for a decoder");
}

void ss_sound_decoder_close(ss_sound_decoder **to)
{
    ss_sound_decoder *d = *to;
    *to = NULL;
    if (!d)
        return;
#if SS_HAVE_OPUS
    if (d->opus)
        opus_decoder_destroy(d->opus);
#endif
    ss_free(d->b.v);
    ss_free(d->x);
    ss_free(d);
}

static int room_for(ss_sound_decoder *d, size_t n, ss_err *e)
{
    if (n <= d->most)
        return SS_OK;
    float *p = ss_realloc(d->x, n, sizeof *p);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu samples", n);
    d->x = p;
    d->most = n;
    return SS_OK;
}

#if SS_HAVE_OPUS
/* Bytes of the next frame, and *at behind their number; 0 when there is none. */
static size_t frame_size(const uint8_t *p, size_t size, size_t *at)
{
    size_t n = *at < size ? p[(*at)++] : 0;
    if (n >= 252)
        n = *at < size ? n + 4 * (size_t)p[(*at)++] : 0;
    return n && n <= MAX_PACKET && n <= size - *at ? n : 0;
}

static int decode_opus(ss_sound_decoder *d, const uint8_t *p, size_t size, size_t samples, bool follows,
                       const float **out, ss_err *e)
{
    const bool anew = size && p[0] & ANEW;
    const size_t frame = SS_SOUND_FRAME, begin = anew ? 3 : 1;
    size_t skip = 0, frames = 0;
    if (size <= begin || p[0] > ANEW || (anew && (skip = p[1] | (size_t)p[2] << 8) >= frame))
        return ss_err_set(e, SS_EDAMAGED, "Opus: no block");
    for (size_t at = begin, n; at < size; at += n, frames++)
        if (!(n = frame_size(p, size, &at)) ||
            opus_packet_get_nb_samples(p + at, (opus_int32)n, RATE) != (int)frame)
            return ss_err_set(e, SS_EDAMAGED, "Opus: frame %zu is none of 20 ms", frames);
    if (samples + skip > frames * frame || samples + skip + frame <= frames * frame)
        return ss_err_set(e, SS_EDAMAGED, "Opus: %zu frames for %zu samples", frames, samples);
    int bad = 0, rc = room_for(d, frames * frame, e);
    if (rc == SS_OK && !d->opus && !(d->opus = opus_decoder_create(RATE, 1, &bad)))
        rc = ss_err_set(e, SS_ENOMEM, "cannot make a decoder of Opus: %s", opus_strerror(bad));
    if (rc < 0)
        return rc;
    if (anew || !follows)
        opus_decoder_ctl(d->opus, OPUS_RESET_STATE);
    size_t done = 0;
    for (size_t at = begin, n; at < size; at += n, done += frame) {
        n = frame_size(p, size, &at);
        int got = opus_decode_float(d->opus, p + at, (opus_int32)n, d->x + done, (int)frame, 0);
        if (got != (int)frame)
            return ss_err_set(e, SS_EDAMAGED, "Opus: %s", got < 0 ? opus_strerror(got) : "a short frame");
    }
    *out = d->x + skip;
    return SS_OK;
}
#endif

/* The head that the encoder has taken away: one STREAMINFO, with what is not known left open. */
static int decode_flac(ss_sound_decoder *d, const uint8_t *p, size_t size, size_t samples, const float **out,
                       ss_err *e)
{
    static const uint8_t head[] = {'f',
                                   'L',
                                   'a',
                                   'C',
                                   0x80,
                                   0,
                                   0,
                                   34,
                                   0,
                                   16,
                                   0xff,
                                   0xff,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   RATE >> 12,
                                   RATE >> 4 & 255,
                                   (RATE & 15) << 4,
                                   15 << 4};
    int rc = room_for(d, samples + 1, e);
    d->b.full = false;
    if (rc < 0 || !need(&d->b, 42 + size))
        return rc < 0 ? rc : ss_err_set(e, SS_ENOMEM, "no memory for a block of %zu bytes", size);
    memset(d->b.v, 0, 42);
    memcpy(d->b.v, head, sizeof head);
    memcpy(d->b.v + 42, p, size);
    d->b.n = 42 + size;
    d->b.at = 0;
    SF_INFO info = {0};
    SNDFILE *f = sf_open_virtual(&file, SFM_READ, &info, &d->b);
    if (!f)
        return ss_err_set(e, SS_EDAMAGED, "FLAC: %s", sf_strerror(NULL));
    sf_count_t got =
        info.channels == 1 && info.samplerate == RATE ? sf_read_float(f, d->x, (sf_count_t)samples + 1) : -1;
    int bad = sf_error(f);
    sf_close(f);
    if (bad || got != (sf_count_t)samples)
        return ss_err_set(e, SS_EDAMAGED, "FLAC: %s",
                          bad ? sf_error_number(bad) : "not as many samples as told");
    *out = d->x;
    return SS_OK;
}

int ss_sound_decode(ss_sound_decoder *d, uint64_t codec, const void *payload, size_t size, uint32_t samples,
                    bool follows, const float **out, ss_err *e)
{
    if (samples > SS_SOUND_BLOCK)
        return ss_err_set(e, SS_ELIMIT, "a packed block of %u samples, %d are the most", samples,
                          SS_SOUND_BLOCK);
    if (codec == SS_SOUND_FLAC)
        return decode_flac(d, payload, size, samples, out, e);
    if (codec != SS_SOUND_OPUS)
        return ss_err_set(e, SS_EUNFIT, "codec %llu is none of sound", (unsigned long long)codec);
#if SS_HAVE_OPUS
    return decode_opus(d, payload, size, samples, follows, out, e);
#else
    return ss_err_set(e, SS_ENOTSUP, "built without Opus");
#endif
}

/* ---- log-mel in eight bits ---- */

enum { HEAD = 9, PLAIN = 0, PACKED = 1 };

size_t ss_logmel_pack_room(size_t values)
{
    return HEAD + values + ZSTD_compressBound(values);
}

static void put_f32(uint8_t *to, float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(u >> 8 * i);
}

static float get_f32(const uint8_t *p)
{
    uint32_t u = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float v;
    memcpy(&v, &u, 4);
    return v;
}

ssize_t ss_logmel_pack(const float *x, size_t bands, size_t frames, void *out, ss_err *e)
{
    size_t n = bands * frames;
    uint8_t *to = out, *body = to + HEAD, *difference = ss_alloc(n, 1);
    float low = INFINITY, high = -INFINITY;
    if (!difference)
        return ss_err_set(e, SS_ENOMEM, "no memory for a window");
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float step = n && high > low ? (high - low) / 255 : 0;
    if (!n)
        low = 0;
    for (size_t i = 0; i < n; i++) {
        float v = step > 0 ? (x[i] - low) / step : 0;
        body[i] = (uint8_t)(v >= 255 ? 255 : lrintf(v));
        difference[i] = (uint8_t)(body[i] - (i % frames ? body[i - 1] : 0));
    }
    put_f32(to + 1, low);
    put_f32(to + 5, step);
    to[0] = PLAIN;
    size_t size = ZSTD_compress(body + n, ZSTD_compressBound(n), difference, n, LEVEL);
    ss_free(difference);
    if (ZSTD_isError(size))
        return ss_err_set(e, SS_ENOMEM, "cannot pack a window: %s", ZSTD_getErrorName(size));
    if (size >= n)
        return (ssize_t)(HEAD + n);
    to[0] = PACKED;
    memmove(body, body + n, size);
    return (ssize_t)(HEAD + size);
}

int ss_logmel_unpack(const void *payload, size_t size, size_t bands, size_t frames, float *x, ss_err *e)
{
    size_t n = bands * frames;
    const uint8_t *p = payload, *number = p + HEAD;
    if (size < HEAD || p[0] > PACKED)
        return ss_err_set(e, SS_EDAMAGED, "packed features: no head");
    float low = get_f32(p + 1), step = get_f32(p + 5);
    if (!isfinite(low) || !(step >= 0) || !isfinite(low + 255 * step))
        return ss_err_set(e, SS_EDAMAGED, "packed features: no range");
    uint8_t *body = NULL;
    int rc = SS_OK;
    if (p[0] == PLAIN && size - HEAD != n) {
        rc = ss_err_set(e, SS_EDAMAGED, "packed features: %zu bytes for %zu values", size - HEAD, n);
    } else if (p[0] == PACKED) {
        size_t whole = ZSTD_findFrameCompressedSize(number, size - HEAD);
        if (ZSTD_isError(whole) || whole != size - HEAD || ZSTD_getFrameContentSize(number, whole) != n)
            return ss_err_set(e, SS_EDAMAGED, "packed features: no frame of %zu values", n);
        if (!(body = ss_alloc(n, 1)))
            return ss_err_set(e, SS_ENOMEM, "no memory for a window");
        if (ZSTD_decompress(body, n, number, whole) != n)
            rc = ss_err_set(e, SS_EDAMAGED, "packed features: broken inside");
        for (size_t i = 0; i < n && !rc; i++)
            body[i] = (uint8_t)(body[i] + (i % frames ? body[i - 1] : 0));
        number = body;
    }
    for (size_t i = 0; i < n && !rc; i++)
        x[i] = low + step * (float)number[i];
    ss_free(body);
    return rc;
}
