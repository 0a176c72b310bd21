/**
 * Sound files as one channel of floats: any file that libsndfile reads, mixed or one channel picked.
 *
 * Samples are full scale +-1 at the file's own rate; those that are not finite become 0 and are counted.
 * What a header says is not believed: rate within 1000..768000, at most 64 channels, nothing is allocated by
 * declared length, and sound that ends before the declared length is an error after all that is there was
 * delivered. A length that was left open when the file was written (a WAV from a pipe) is no lie.
 * Threads: one at a time for each ss_sound.
 * Errors: SS_EIO, SS_EDAMAGED (not a sound file, broken inside), SS_ETRUNC (holds less than it declares),
 * SS_ELIMIT (channels, rate), SS_EUNFIT (no such channel), SS_ENOMEM; the text names the file.
 */
#ifndef SS_IO_SOUND_H
#define SS_IO_SOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../base/err.h"

#define SS_SOUND_MAX_CHANNELS 64
#define SS_SOUND_MIN_RATE     1000
#define SS_SOUND_MAX_RATE     768000

typedef struct ss_sound ss_sound;

/** `channel` 0 mixes all (their mean), 1.. picks one. Path "-" is descriptor 0: a seekable file, or a WAV or
 * AU stream. */
int ss_sound_open(ss_sound **s, const char *path, int channel, ss_err *e);
void ss_sound_close(ss_sound *s);

int ss_sound_rate(const ss_sound *s);
/** Samples of one channel that the header declares, or -1 when it leaves that open. */
int64_t ss_sound_declared(const ss_sound *s);
uint64_t ss_sound_position(const ss_sound *s); /* samples delivered or skipped */
bool ss_sound_is_stream(const ss_sound *s);    /* not seekable */

/** Up to n samples into out: how many, 0 at the end, or an error (see above), each error once and then 0. */
ssize_t ss_sound_read(ss_sound *s, float *out, size_t n, ss_err *e);
/** Pass over n samples. Past the end is the end. */
int ss_sound_skip(ss_sound *s, uint64_t n, ss_err *e);
uint64_t ss_sound_nonfinite(const ss_sound *s);

/** Paths, owned; start from {0}. */
typedef struct ss_paths {
    char **path;
    size_t n, room;
} ss_paths;

/**
 * What an operand stands for: a file is itself; a folder all sound files below it (by extension), ordered by
 * name bytewise, hidden ones left out; "@LIST" the files and folders named in a text file, one a line,
 * relative to its folder ("@-" reads standard input). Errors: SS_EIO, SS_ELIMIT (1,000,000 paths, 32 levels),
 * SS_ENOMEM.
 */
int ss_paths_expand(ss_paths *p, const char *operand, ss_err *e);
void ss_paths_clear(ss_paths *p);

/** folder of `base` + "/" + path; path itself when it is absolute or base has no folder. Release with
 * ss_free. */
char *ss_path_beside(const char *base, const char *path);

#endif
