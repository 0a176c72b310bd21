/* What a kind of source gives to audio/source.c: native samples, mono. */
#ifndef SS_AUDIO_SOURCE_INTERNAL_H
#define SS_AUDIO_SOURCE_INTERNAL_H

#include "audio/resample.h"
#include "audio/source.h"
#include "io/sound.h"

#define SOURCE_CHUNK 1024 /* native frames taken at a time */
#define SOURCE_WAIT  250  /* ms */

struct ss_source {
    /* Up to n native samples; 0 at the end. May set broken: samples were lost before what comes next, and
     * give 0. */
    ssize_t (*pull)(ss_source *s, float *out, size_t n, ss_err *e);
    void (*close)(ss_source *s);
    const volatile int *stop;
    int channel;
    double rate;
    bool live;

    ss_sound *sound;
    int fd;
    ss_raw_format raw;
    uint8_t *bytes; /* [SOURCE_CHUNK] native frames */
    size_t nbytes;  /* of them, left over from the read before */
    void *device;
    int64_t last_end; /* monotonic ns, of the newest sample that a device gave */
    double anchor;    /* real time, ns, of sample 0 since the last loss; 0 = not known yet */
    uint64_t pulled;  /* native samples since the last loss */
    uint64_t native_lost;
    bool broken;

    ss_resample *resample;
    float in[SOURCE_CHUNK];
    size_t in_at, in_n;
    bool over; /* no more input: of this stretch if broken, else at all */
    bool done;
    ss_err pending; /* comes after the last sample */
    uint64_t made;  /* samples out since the last loss */
    uint64_t lost;
    int64_t time;
    uint64_t nonfinite;
};

ss_source *ss_source_new(int channel, const volatile int *stop, ss_err *e); /* NULL: SS_ENOMEM */
/* The last step of opening, once the rate is known: sets *out, or on rc or its own error closes s. */
int ss_source_ready(ss_source **out, ss_source *s, int rc, ss_err *e);

#endif
