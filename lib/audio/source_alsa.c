#include "audio/source_internal.h"

#include "config.h"

#if !SS_HAVE_ALSA

int ss_source_alsa(ss_source **out, const char *device, int channel, const volatile int *stop, ss_err *e)
{
    (void)channel, (void)stop;
    *out = NULL;
    return ss_err_set(e, SS_ENOTSUP, "cannot open sound device '%s': built without ALSA", device);
}

int ss_alsa_devices(void (*found)(const char *name, const char *description, void *arg), void *arg, ss_err *e)
{
    (void)found, (void)arg;
    return ss_err_set(e, SS_ENOTSUP, "no sound devices: built without ALSA");
}

#else

#include <alsa/asoundlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define BUFFER_US 500000 /* how long the reader may be kept waiting before sound is lost */
#define PERIOD_US 20000
#define DRIFT     32  /* readings of the clock over which the time stamps are smoothed */
#define STEP_NS   5e8 /* the clock was set: follow at once */

/* It would print on standard error what is in the error text anyway. */
static void say_nothing(const char *file, int line, const char *function, int err, const char *fmt, ...)
{
    (void)file, (void)line, (void)function, (void)err, (void)fmt;
}

static int alsa_error(ss_err *e, const char *device, const char *what, int code)
{
    return ss_err_set(e, code == -ENOMEM ? SS_ENOMEM : SS_EIO, "sound device '%s': %s: %s", device, what,
                      snd_strerror(code));
}

static int configure(snd_pcm_t *pcm, ss_source *s, const char *device, ss_err *e)
{
    static const struct {
        snd_pcm_format_t alsa;
        ss_raw_format raw;
    } formats[] = {
        {SND_PCM_FORMAT_S16_LE, {2, false, true, false}},  {SND_PCM_FORMAT_S32_LE, {4, false, true, false}},
        {SND_PCM_FORMAT_S24_3LE, {3, false, true, false}}, {SND_PCM_FORMAT_FLOAT_LE, {4, true, true, false}},
        {SND_PCM_FORMAT_S16_BE, {2, false, true, true}},   {SND_PCM_FORMAT_U8, {1, false, false, false}},
    };
    snd_pcm_hw_params_t *hw;
    snd_pcm_hw_params_alloca(&hw);
    int rc = snd_pcm_hw_params_any(pcm, hw);
    if (rc >= 0)
        rc = snd_pcm_hw_params_set_access(pcm, hw, SND_PCM_ACCESS_RW_INTERLEAVED);
    if (rc < 0)
        return alsa_error(e, device, "cannot be configured", rc);
    rc = -EINVAL;
    for (size_t i = 0; rc < 0 && i < sizeof formats / sizeof *formats; i++) {
        s->raw = formats[i].raw;
        rc = snd_pcm_hw_params_set_format(pcm, hw, formats[i].alsa);
    }
    if (rc < 0)
        return alsa_error(e, device, "has no format that is known here", rc);
    /* ALSA's own conversion of rates is no match for ours. */
    snd_pcm_hw_params_set_rate_resample(pcm, hw, 0);
    unsigned rate = SS_SOURCE_RATE, channels = s->channel ? (unsigned)s->channel : 1;
    rc = snd_pcm_hw_params_set_rate_near(pcm, hw, &rate, NULL);
    if (rc >= 0)
        rc = snd_pcm_hw_params_set_channels_near(pcm, hw, &channels);
    if (rc < 0)
        return alsa_error(e, device, "has no rate or number of channels that fits", rc);
    if (rate < SS_SOUND_MIN_RATE || rate > SS_SOUND_MAX_RATE || channels < 1 ||
        channels > SS_SOUND_MAX_CHANNELS)
        return ss_err_set(
            e, SS_ELIMIT, "sound device '%s' offers %u channels at %u Hz, expected 1 to %d at %d to %d",
            device, channels, rate, SS_SOUND_MAX_CHANNELS, SS_SOUND_MIN_RATE, SS_SOUND_MAX_RATE);
    if (s->channel > (int)channels)
        return ss_err_set(e, SS_EUNFIT, "sound device '%s' has no channel %d, only 1 to %u", device,
                          s->channel, channels);
    unsigned buffer = BUFFER_US, period = PERIOD_US;
    snd_pcm_hw_params_set_period_time_near(pcm, hw, &period, NULL);
    snd_pcm_hw_params_set_buffer_time_near(pcm, hw, &buffer, NULL);
    rc = snd_pcm_hw_params(pcm, hw);
    if (rc >= 0)
        rc = snd_pcm_prepare(pcm);
    if (rc >= 0)
        rc = snd_pcm_start(pcm);
    if (rc < 0)
        return alsa_error(e, device, "cannot be started", rc);
    s->raw.rate = (int)rate;
    s->raw.channels = (int)channels;
    s->rate = rate;
    return SS_OK;
}

/* Sound was lost: begin again, and say how much by the monotonic clock. */
static int recover(ss_source *s, int code, ss_err *e)
{
    snd_pcm_t *pcm = s->device;
    int rc = code;
    if (code == -ESTRPIPE) /* suspended */
        while ((rc = snd_pcm_resume(pcm)) == -EAGAIN && !(s->stop && *s->stop))
            snd_pcm_wait(pcm, SOURCE_WAIT);
    if (rc < 0)
        rc = snd_pcm_prepare(pcm);
    if (rc >= 0 && snd_pcm_state(pcm) == SND_PCM_STATE_PREPARED)
        rc = snd_pcm_start(pcm);
    if (rc < 0)
        return alsa_error(e, snd_pcm_name(pcm), "cannot be started again after an overrun", rc);
    int64_t now = ss_clock_mono_ns();
    s->native_lost =
        s->last_end && now > s->last_end ? (uint64_t)((double)(now - s->last_end) * s->rate / 1e9) : 1;
    s->last_end = now;
    s->broken = true;
    return SS_OK;
}

static ssize_t pull_alsa(ss_source *s, float *out, size_t n, ss_err *e)
{
    snd_pcm_t *pcm = s->device;
    for (;;) {
        if (s->stop && *s->stop)
            return ss_err_set(e, SS_ESTOPPED, "stopped");
        snd_pcm_sframes_t got = snd_pcm_readi(pcm, s->bytes, n);
        if (got == -EAGAIN || got == 0) {
            int rc = snd_pcm_wait(pcm, SOURCE_WAIT);
            if (rc < 0 && rc != -EPIPE && rc != -ESTRPIPE && rc != -EINTR)
                return alsa_error(e, snd_pcm_name(pcm), "cannot be waited for", rc);
            continue;
        }
        if (got == -EPIPE || got == -ESTRPIPE)
            return recover(s, (int)got, e);
        if (got < 0)
            return alsa_error(e, snd_pcm_name(pcm), "cannot be read", (int)got);
        s->nonfinite += ss_raw_decode(&s->raw, s->bytes, (size_t)got, s->channel, out);
        /* The newest of these samples was heard as long ago as what still waits behind it takes. */
        snd_pcm_sframes_t behind = 0;
        if (snd_pcm_delay(pcm, &behind) < 0 || behind < 0)
            behind = 0;
        double waits = (double)behind * 1e9 / s->rate, end = (double)ss_clock_real_ns() - waits,
               length = (double)(s->pulled + (uint64_t)got) * 1e9 / s->rate, error = end - length - s->anchor;
        s->last_end = ss_clock_mono_ns() - (int64_t)waits;
        if (!s->pulled || error > STEP_NS || error < -STEP_NS)
            s->anchor = end - length;
        else
            s->anchor += error / DRIFT;
        return got;
    }
}

static void close_alsa(ss_source *s)
{
    snd_pcm_close(s->device);
    snd_config_update_free_global();
}

int ss_source_alsa(ss_source **out, const char *device, int channel, const volatile int *stop, ss_err *e)
{
    *out = NULL;
    if (channel < 0 || channel > SS_SOUND_MAX_CHANNELS)
        return ss_err_set(e, SS_EUNFIT, "sound device '%s' has no channel %d", device, channel);
    ss_source *s = ss_source_new(channel, stop, e);
    if (!s)
        return SS_ENOMEM;
    snd_pcm_t *pcm;
    snd_lib_error_set_handler(say_nothing);
    int rc = snd_pcm_open(&pcm, device, SND_PCM_STREAM_CAPTURE, SND_PCM_NONBLOCK);
    if (rc < 0) {
        rc = alsa_error(e, device, "cannot be opened", rc);
    } else {
        s->device = pcm;
        s->close = close_alsa;
        s->pull = pull_alsa;
        s->live = true;
        rc = configure(pcm, s, device, e);
    }
    if (!rc && !(s->bytes = ss_alloc((size_t)SOURCE_CHUNK * s->raw.channels, (size_t)s->raw.bytes)))
        rc = ss_err_set(e, SS_ENOMEM, "no memory for sound device '%s'", device);
    return ss_source_ready(out, s, rc, e);
}

int ss_alsa_devices(void (*found)(const char *name, const char *description, void *arg), void *arg, ss_err *e)
{
    void **hints;
    snd_lib_error_set_handler(say_nothing);
    int rc = snd_device_name_hint(-1, "pcm", &hints);
    if (rc < 0)
        return ss_err_set(e, SS_EIO, "cannot list sound devices: %s", snd_strerror(rc));
    for (void **h = hints; *h; h++) {
        char *name = snd_device_name_get_hint(*h, "NAME"), *text = snd_device_name_get_hint(*h, "DESC"),
             *direction = snd_device_name_get_hint(*h, "IOID"); /* NULL = both */
        if (name && strcmp(name, "null") && (!direction || !strcmp(direction, "Input"))) {
            for (char *p = text; p && *p; p++)
                if (*p == '\n')
                    *p = ' ';
            found(name, text ? text : "", arg);
        }
        free(name);
        free(text);
        free(direction);
    }
    snd_device_name_free_hint(hints);
    snd_config_update_free_global();
    return SS_OK;
}

#endif
