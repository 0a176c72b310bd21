/**
 * Sound and features in few bytes: Opus and FLAC for blocks of samples, eight bits for windows of log-mel.
 *
 * What a record of kind pcm or logmel holds when its dtype is packed; the layouts are in ss-stream(5). Sound
 * is mono at 16 kHz.
 *
 * Opus keeps its state from block to block of a clip. It is coded in frames of 20 ms, so a block that does
 * not end its clip is a multiple of them; what it decodes to lags behind by ss_sound_encoder_delay samples,
 * which the first block lacks and the last one has more, so that a clip comes out as long as it was and
 * sample for sample in its place. A block that begins anew says so; a decoder that has missed a block begins
 * anew by itself and is right again after some frames. Blocks of FLAC stand alone, and hold 16 bits a sample,
 * rounded.
 *
 * Ownership: what encode and decode give is owned by them until the next call. Threads: one at a time for
 * each. Source: RFC 6716 (libopus), RFC 9639 (libFLAC, by libsndfile), RFC 8878 (zstd).
 */
#ifndef SS_AUDIO_SOUND_CODEC_H
#define SS_AUDIO_SOUND_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../base/err.h"

/** As attribute codec carries them. */
enum { SS_SOUND_OPUS = 8, SS_SOUND_FLAC = 9, SS_LOGMEL_U8 = 11 };

#define SS_SOUND_FRAME      320       /* samples of a frame of Opus */
#define SS_SOUND_BLOCK      (1 << 20) /* most samples of a block */
#define SS_SOUND_LEAST_RATE 6000      /* bit/s of Opus */
#define SS_SOUND_MOST_RATE  128000

/** "flac", "opus" (24 kbit/s) or "opus:RATE" with k for a thousand. SS_EINVAL, and SS_ENOTSUP for Opus that
 * was not built in. */
int ss_sound_codec_parse(const char *text, int *codec, int *rate, ss_err *e);

typedef struct ss_sound_encoder ss_sound_encoder;

/** SS_EINVAL (no such codec), SS_ERANGE (rate), SS_ENOTSUP, SS_ENOMEM. */
int ss_sound_encoder_open(ss_sound_encoder **c, int codec, int rate, ss_err *e);
void ss_sound_encoder_close(ss_sound_encoder **c);
/** Blocks that do not end a clip are a multiple of so many samples. */
int ss_sound_encoder_frame(const ss_sound_encoder *c);
/** Samples by which what comes next lies before what is put in next: 0 at the start of a clip. */
int ss_sound_encoder_delay(const ss_sound_encoder *c);
/** The next block begins anew. */
void ss_sound_encoder_reset(ss_sound_encoder *c);
/**
 * Samples x [n], finite, n > 0; `last` of their clip. *out [*size] unpacks to *samples of them.
 * SS_EINVAL (n is no multiple of a frame, or too large), SS_ENOMEM.
 */
int ss_sound_encode(ss_sound_encoder *c, const float *x, size_t n, bool last, const void **out, size_t *size,
                    uint32_t *samples, ss_err *e);

typedef struct ss_sound_decoder ss_sound_decoder;
int ss_sound_decoder_open(ss_sound_decoder **d, ss_err *e); /* SS_ENOMEM */
void ss_sound_decoder_close(ss_sound_decoder **d);
/**
 * payload [size], that unpacks to `samples`, of which *out are those. `follows`: the one before was of the
 * block before. SS_EDAMAGED (not what an encoder writes, or not as many samples), SS_ELIMIT, SS_ENOTSUP,
 * SS_EUNFIT (no codec of sound), SS_ENOMEM.
 */
int ss_sound_decode(ss_sound_decoder *d, uint64_t codec, const void *payload, size_t size, uint32_t samples,
                    bool follows, const float **out, ss_err *e);

/**
 * A window of features x [bands][frames], finite, in eight bits between its least and its largest value,
 * packed further where that makes it less: to out, which has room for ss_logmel_pack_room(bands * frames)
 * bytes. Their number, or SS_ENOMEM.
 */
size_t ss_logmel_pack_room(size_t values);
ssize_t ss_logmel_pack(const float *x, size_t bands, size_t frames, void *out, ss_err *e);
/** And back, to x [bands][frames], each within half a 255th of the range. SS_EDAMAGED; SS_ENOMEM. */
int ss_logmel_unpack(const void *payload, size_t size, size_t bands, size_t frames, float *x, ss_err *e);

#endif
