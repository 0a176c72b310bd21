/**
 * Sound from a file, raw samples or an ALSA device as mono floats at 16 kHz.
 *
 * Full scale +-1, finite (what was not finite became 0 and is counted). Conversion of rates as in
 * audio/resample.h, begun anew after a loss. What is waited for is waited for at most 250 ms before the
 * caller's stop flag is looked at.
 * Threads: one at a time for each source.
 * Errors: those of io/sound.h; SS_EIO (device), SS_ENOTSUP (built without ALSA), SS_ESTOPPED, SS_ENOMEM.
 */
#ifndef SS_AUDIO_SOURCE_H
#define SS_AUDIO_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../base/err.h"

#define SS_SOURCE_RATE 16000

typedef struct ss_source ss_source;

/** Samples without a header: 8 to 32 bit integers or 32 or 64 bit floats, interleaved. */
typedef struct ss_raw_format {
    int bytes; /* of one sample: 1..4, 8 */
    bool is_float, is_signed, big_endian;
    int rate, channels;
} ss_raw_format;

/** "s16le:44100:2": encoding (u8, s8, then s16 s24 s32 f32 f64, each with le or be), rate, channels (default
 * 1). */
int ss_raw_parse(const char *text, ss_raw_format *f, ss_err *e);
/** Frames [n][channels] to mono out [n]: `channel` 0 is their mean, 1.. one of them. Returns samples that
 * were not finite. */
size_t ss_raw_decode(const ss_raw_format *f, const void *in, size_t n, int channel, float *out);

/** `channel` as in io/sound.h. Path "-" is descriptor 0. `stop` may be NULL. Release with ss_source_close. */
int ss_source_file(ss_source **s, const char *path, int channel, const volatile int *stop, ss_err *e);
/** The descriptor stays the caller's. An end within a frame is SS_ETRUNC. */
int ss_source_raw(ss_source **s, int fd, const ss_raw_format *f, int channel, const volatile int *stop,
                  ss_err *e);
/** Device as ALSA calls it. Takes 16 kHz where the device has it, else a rate that it has. */
int ss_source_alsa(ss_source **s, const char *device, int channel, const volatile int *stop, ss_err *e);
void ss_source_close(ss_source *s);

/**
 * Up to n samples: fewer at the end, before a loss and when stopped; 0 at the end. An error comes after all
 * samples before it, once; 0 follows. SS_ESTOPPED: the stop flag was seen and no sample is left.
 */
ssize_t ss_source_read(ss_source *s, float *out, size_t n, ss_err *e);
/** Pass over n samples (of 16 kHz, to the sample of the file's own rate that is next). */
int ss_source_skip(ss_source *s, uint64_t n, ss_err *e);

bool ss_source_is_live(
    const ss_source *s);               /* no end can be foreseen and a reader is not to be kept waiting */
uint64_t ss_source_lost(ss_source *s); /* samples lost right before those that were read last; then 0 */
int64_t ss_source_time(
    const ss_source *s); /* real time, ns, of the first sample read last; 0 unless it is a device */
uint64_t ss_source_nonfinite(const ss_source *s);
/** Samples (16 kHz) that the file declares, -1 = unknown; and those of them that it does not hold, at its
 * end. */
int64_t ss_source_declared(const ss_source *s);
uint64_t ss_source_missing(const ss_source *s);

/** Calls back with name and one-line description of every capture device. SS_ENOTSUP without ALSA. */
int ss_alsa_devices(void (*found)(const char *name, const char *description, void *arg), void *arg,
                    ss_err *e);

#endif
