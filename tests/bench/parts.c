/*
 * Front end and memory as one side of a comparison.
 *
 *   bench-parts --input=FILE [--ms=MS]       FILE: sound, f32, 16 kHz, at most a minute
 *
 *   logmel    all of the sound, in blocks of 1280 samples as ss-capture gives them: microseconds. "save
 * logmel 0 FILE" writes its frames [t][mel]. Constant parts are kept, since torch.stft keeps them. mixture
 * for one embedding of 128 and 64 components: uncertainty and novelty, update, 256 virtual negatives:
 * microseconds; rate, update, draw: one of the three
 *
 * pytorch.py --kind=parts is the other side.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio/logmel.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "memory/mixture.h"
#include "side.h"

enum {
    MOST = 60 * 16000,
    BLOCK = 1280,
    DIM = 128,
    COMPONENTS = 64,
    NEGATIVES = 256,
    POOL = 4096,
    NO_CUT = 1
};

static struct {
    float *sound, *frames;
    size_t n, t; /* samples, frames */
    ss_logmel_config config;
    ss_logmel *logmel;
    float *window;
} ears;

static struct {
    ss_mixture *mixture;
    ss_rng rng;
    float *z, *negatives; /* [POOL][DIM] */
    int at;
} memory;

static void check(int rc, const ss_err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench-parts: %s\n", e->text);
    exit(1);
}

static bool read_sound(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    ears.n = fread(ears.sound, sizeof(float), MOST, f);
    fclose(f);
    return ears.n > 0;
}

static void open_ears(void)
{
    ss_err e;
    ss_logmel_config_default(&ears.config);
    ears.config.keep_dc = true;
    ears.config.frames = ears.config.step = 96;
    check(ss_logmel_create(&ears.logmel, &ears.config, &e), &e);
    ears.frames = side_room((size_t)MOST / (size_t)ears.config.hop * (size_t)ears.config.mels);
    ears.window = side_room((size_t)ears.config.mels * 96);
}

/* keep: into ears.frames, else only as far as a program does: the window fetched. */
static void hear(bool keep)
{
    int mels = ears.config.mels, frames = ears.config.frames;
    ss_logmel_reset(ears.logmel);
    ears.t = 0;
    for (size_t at = 0, taken; at < ears.n; at += taken) {
        size_t n = ears.n - at < BLOCK ? ears.n - at : BLOCK;
        if (ss_logmel_push(ears.logmel, ears.sound + at, n, &taken) != 1)
            continue;
        ss_logmel_fetch(ears.logmel, ears.window, NULL);
        for (int i = 0; keep && i < frames; i++, ears.t++)
            for (int m = 0; m < mels; m++)
                ears.frames[ears.t * (size_t)mels + (size_t)m] = ears.window[m * frames + i];
    }
}

/* A stream of 64 kinds of sound, learnt until all components are in use or it has heard enough. */
static void open_memory(void)
{
    ss_err e;
    check(ss_mixture_create(&memory.mixture, COMPONENTS, DIM, &e), &e);
    memory.rng = ss_rng_make(1, 1);
    float *centre = side_room(COMPONENTS * DIM);
    memory.z = side_room(POOL * DIM);
    memory.negatives = side_room(NEGATIVES * DIM);
    ss_rng_fill_normal(&memory.rng, centre, COMPONENTS * DIM);
    ss_l2norm_forward(COMPONENTS, DIM, centre, centre, NULL);
    ss_rng_fill_normal(&memory.rng, memory.z, POOL * DIM);
    for (int i = 0; i < POOL; i++) {
        const float *c = centre + ss_rng_below(&memory.rng, COMPONENTS) * DIM;
        for (int k = 0; k < DIM; k++)
            memory.z[i * DIM + k] = c[k] + 0.05f * memory.z[i * DIM + k];
    }
    ss_l2norm_forward(POOL, DIM, memory.z, memory.z, NULL);
    for (int i = 0; i < 2 * POOL; i++)
        ss_mixture_update(memory.mixture, memory.z + i % POOL * DIM);
    fprintf(stderr, "# mixture: %d of %d components live\n", ss_mixture_live(memory.mixture), COMPONENTS);
    ss_free(centre);
}

static bool remember(const char *what)
{
    bool all = !strcmp(what, "mixture");
    const float *z = memory.z + memory.at * DIM;
    ss_mixture_score score = {.component = 0};
    memory.at = (memory.at + 1) % POOL;
    if (all || !strcmp(what, "rate"))
        ss_mixture_rate(memory.mixture, z, &score);
    if (all || !strcmp(what, "update"))
        ss_mixture_update(memory.mixture, z);
    if (all || !strcmp(what, "draw"))
        ss_mixture_draw(memory.mixture, score.component, &memory.rng, NEGATIVES, memory.negatives);
    return all || !strcmp(what, "rate") || !strcmp(what, "update") || !strcmp(what, "draw");
}

static bool once(const char *what, int k)
{
    if (!strcmp(what, "logmel")) {
        if (!ears.logmel)
            open_ears();
        hear(k == NO_CUT);
        return true;
    }
    if (!memory.mixture)
        open_memory();
    return remember(what);
}

static const float *result(const char *what, int k, size_t *n)
{
    *n = ears.t * (size_t)ears.config.mels;
    return strcmp(what, "logmel") ? NULL : ears.frames;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"input", 1, NULL, 'i'}, {"ms", 1, NULL, 'm'}, {NULL, 0, NULL, 0}};
    struct side side = {1, 5, once, result, read_sound};
    const char *input = NULL;
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == 'i')
            input = optarg;
        else if (o == 'm')
            side.least_ms = atof(optarg);
        else
            return 2;
    }
    ears.sound = side_room(MOST);
    if (!input || !read_sound(input))
        return 2;
    return side_serve(&side);
}
