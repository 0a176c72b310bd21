/**
 * Replay of inputs: the newest windows of log-mel, kept as a ring of their frames in one byte a value, so
 * that a large batch can be drawn from a stream and a window read at any frame of its surroundings; and a
 * ring of the newest embeddings.
 *
 * Windows arrive as [mels][frames] f32, natural log of an energy, one every `hop` frames. A window that
 * continues the one before it (the caller says so: same device, epoch and clip, next seq) adds its last `hop`
 * frames only; any other starts a new run with all of its frames. Frames of different runs never mix. Windows
 * are numbered from 0 as they come; those numbered first <= w < end are held. The oldest leaves when there is
 * no room in the table of windows, or in the ring for the frames of a new one. With the default ring, 1024
 * windows of one long run take 3.18 MB; runs of 5 s (9 windows, 480 frames) leave room for 922 of them.
 *
 * One byte holds a value as SS_REPLAY_LOW + SS_REPLAY_STEP * byte, -13.8155 to 11.6845, nearest: the error is
 * at most 0.05001 (0.43 dB in energy) within that range, and a value outside is held at its end. The low end
 * is ln(1e-6), the floor of the front end, exactly; samples within +-1 cannot pass the high end (by Parseval
 * a frame of 400 samples and 1024 points has an energy of at most 76800 = exp(11.25)).
 *
 * Addresses of frames count from the first ever stored and only grow. Two windows read at starts s and t
 * share sound if and only if |s - t| < frames: runs lie behind one another, and no window reaches across.
 *
 * Ownership: as the functions say. One thread at a time for each object.
 * Errors: SS_ENOMEM, SS_ERANGE, SS_EUNFIT as said.
 */
#ifndef SS_MEMORY_REPLAY_H
#define SS_MEMORY_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "../base/rng.h"

#define SS_REPLAY_LOW  -13.815511f
#define SS_REPLAY_STEP 0.1f

typedef struct ss_replay_config {
    int mels, frames; /* of a window */
    int hop;          /* new frames of a window that continues, 1..frames */
    int windows;      /* capacity of the table */
    int ring;         /* capacity in frames, at least `frames`; 0: windows * hop + (frames - hop) */
} ss_replay_config;

typedef struct ss_replay ss_replay;

/** 64 x 96, hop 48, 1024 windows. */
void ss_replay_config_default(ss_replay_config *c);
/** Bytes that a replay of this configuration holds; 0 when a number is out of its range. */
size_t ss_replay_bytes(const ss_replay_config *c);
/** Errors: SS_ERANGE (a number of `c`), SS_ENOMEM. */
int ss_replay_create(ss_replay **r, const ss_replay_config *c, ss_err *e);
void ss_replay_free(ss_replay *r);

/**
 * Take a window.
 *   x          [mels][frames] f32, finite
 *   seq        kept for the caller
 *   continues  it follows the window pushed last at `hop` frames. A first window starts a run whatever it
 *              says.
 * Its number is ss_replay_end() - 1 then. SS_ERANGE: a value is not finite; nothing has changed.
 */
int ss_replay_push(ss_replay *r, const float *x, uint64_t seq, bool continues);

uint64_t ss_replay_first(const ss_replay *r);
uint64_t ss_replay_end(const ss_replay *r);
/** end - first. */
size_t ss_replay_count(const ss_replay *r);
/** seq of a window that is held. */
uint64_t ss_replay_seq(const ss_replay *r, uint64_t window);

/**
 * Draw different windows, each equally likely in each place, among the last `newest` (0: all) held.
 *   window [n]  their numbers
 * Returns how many: n, or fewer when fewer are held. Takes that many numbers from `rng`, and those of
 * rejections.
 */
size_t ss_replay_draw(ss_replay *r, ss_rng *rng, size_t newest, size_t n, uint64_t *window);

/** The frame at which a window that is held starts, moved by `offset` frames but not out of what is held of
 * its run. */
uint64_t ss_replay_start(const ss_replay *r, uint64_t window, int offset);
/** out [mels][frames] = the window that starts at a frame which ss_replay_start has given since the last
 * push.
 */
void ss_replay_read(const ss_replay *r, uint64_t start, float *out);

/**
 * All that there is to save: two blocks, owned by the replay, to be written as they are. For going on from a
 * saved state, create with the same configuration, fill the two blocks and call ss_replay_restored: every
 * later call then gives the same bits as if there had been no break. SS_EUNFIT: the state is of another
 * configuration or does not hold together; the replay is then empty.
 *   table [*words] i64   ring [ring][mels] u8, *bytes in all
 */
int64_t *ss_replay_table(ss_replay *r, size_t *words);
uint8_t *ss_replay_ring(ss_replay *r, size_t *bytes);
int ss_replay_restored(ss_replay *r, ss_err *e);

/** The newest embeddings, z [rows][d] f32; row k was pushed as number k, k + rows, ... Fields are read only
 * for users. To go on from a saved state, fill z, tag and pushed. */
typedef struct ss_recent {
    int rows, d;
    int64_t pushed; /* since the start: ss_recent_count() of the rows are valid */
    float *z;       /* [rows][d] */
    int64_t *tag;   /* [rows], what the caller wants to know of each, as the start of its window */
} ss_recent;

/** Errors: SS_ERANGE (rows or d below 1), SS_ENOMEM. Release with ss_recent_clear. */
int ss_recent_init(ss_recent *r, int rows, int d);
void ss_recent_clear(ss_recent *r);
/** z [d] takes the place of the oldest. */
void ss_recent_push(ss_recent *r, const float *z, int64_t tag);
/** Valid rows, which are the first ones. */
int ss_recent_count(const ss_recent *r);

#endif
