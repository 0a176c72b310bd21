#include "io/sound.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define CHUNK     1024 /* frames decoded at a time */
#define MAX_PATHS 1000000
#define MAX_DEPTH 32

struct ss_sound {
    SNDFILE *file;
    char *name;
    int fd, rate, channels, channel;
    bool stream, ended;
    int64_t declared;
    uint64_t position, nonfinite;
    float *mixed; /* [CHUNK][channels] */
};

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t be32(const uint8_t *p)
{
    return p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

/*
 * Bytes of sound that the header of a WAV, AIFF or AU file declares and bytes that are there. libsndfile
 * trims the former to the latter without a word. False for other formats and for a length left open.
 */
static bool declared_bytes(int fd, int64_t size, int64_t *declared, int64_t *there)
{
    uint8_t b[16];
    if (pread(fd, b, 16, 0) != 16)
        return false;
    if (!memcmp(b, ".snd", 4)) {
        *declared = be32(b + 8);
        *there = size - be32(b + 4);
        return *declared && *declared != 0xffffffff;
    }
    bool riff = !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WAVE", 4), rf64 = !memcmp(b, "RF64", 4),
         big = !memcmp(b, "RIFX", 4) || !memcmp(b, "FORM", 4);
    if (!riff && !rf64 && !big)
        return false;
    int64_t at = 12, long_size = -1;
    for (int i = 0; i < 256 && at + 8 <= size; i++) {
        if (pread(fd, b, 8, at) != 8)
            return false;
        int64_t length = big ? be32(b + 4) : le32(b + 4);
        if (!memcmp(b, "ds64", 4)) {
            if (pread(fd, b, 16, at + 8) != 16)
                return false;
            long_size = (int64_t)(le32(b + 8) | (uint64_t)le32(b + 12) << 32);
        } else if (!memcmp(b, "data", 4) || !memcmp(b, "SSND", 4)) {
            int64_t head = b[0] == 'S' ? 8 : 0; /* offset and block size of AIFF */
            bool open = !length || length >= 0x7ffff000;
            if (rf64 && length == 0xffffffff && long_size > 0) {
                length = long_size;
                open = false;
            }
            *declared = length - head;
            *there = size - at - 8 - head;
            return !open && *declared > 0;
        }
        at += 8 + length + (length & 1);
    }
    return false;
}

static int sample_bytes(int format)
{
    switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_PCM_S8:
    case SF_FORMAT_PCM_U8:
    case SF_FORMAT_ULAW:
    case SF_FORMAT_ALAW:
        return 1;
    case SF_FORMAT_PCM_16:
        return 2;
    case SF_FORMAT_PCM_24:
        return 3;
    case SF_FORMAT_PCM_32:
    case SF_FORMAT_FLOAT:
        return 4;
    case SF_FORMAT_DOUBLE:
        return 8;
    default:
        return 0;
    }
}

/* Frames declared: libsndfile's count, mended where the header promises bytes that are not there. */
static int64_t declared_frames(const ss_sound *s, const SF_INFO *info, int64_t size)
{
    int64_t frames = info->frames, declared, there;
    if (s->stream)
        return frames <= 0 || frames >= 0x7ffff000 / (int64_t)(info->channels * 8) ? -1 : frames;
    if (declared_bytes(s->fd, size, &declared, &there) && declared > there) {
        int bytes = sample_bytes(info->format) * info->channels;
        if (bytes)
            return declared / bytes;
        return frames > 0 && there > 0 ? (int64_t)((double)frames * (double)declared / (double)there) : 1;
    }
    return frames >= 0 && frames < SF_COUNT_MAX ? frames : -1;
}

int ss_sound_open(ss_sound **out, const char *path, int channel, ss_err *e)
{
    SF_INFO info = {0};
    struct stat st;
    *out = NULL;
    bool standard = !strcmp(path, "-");
    ss_sound *s = ss_zalloc(1, sizeof *s);
    if (!s || !(s->name = ss_strdup(standard ? "standard input" : path))) {
        ss_free(s);
        return ss_err_set(e, SS_ENOMEM, "'%s': no memory", path);
    }
    int rc;
    s->fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        rc = ss_err_errno(e, "cannot open '%s'", s->name);
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = ss_err_set(e, SS_EIO, "'%s' is a folder", s->name);
        goto out;
    }
    s->stream = lseek(s->fd, 0, SEEK_CUR) < 0;
    s->file = sf_open_fd(s->fd, SFM_READ, &info, 0);
    if (!s->file) {
        rc = ss_err_set(e, SS_EDAMAGED, "'%s' cannot be read as sound: %s", s->name, sf_strerror(NULL));
        goto out;
    }
    if (info.channels < 1 || info.channels > SS_SOUND_MAX_CHANNELS)
        rc = ss_err_set(e, SS_ELIMIT, "'%s' has %d channels, expected 1 to %d", s->name, info.channels,
                        SS_SOUND_MAX_CHANNELS);
    else if (info.samplerate < SS_SOUND_MIN_RATE || info.samplerate > SS_SOUND_MAX_RATE)
        rc = ss_err_set(e, SS_ELIMIT, "'%s' has %d samples a second, expected %d to %d", s->name,
                        info.samplerate, SS_SOUND_MIN_RATE, SS_SOUND_MAX_RATE);
    else if (channel < 0 || channel > info.channels)
        rc =
            ss_err_set(e, SS_EUNFIT, "'%s' has no channel %d, only 1 to %d", s->name, channel, info.channels);
    else
        rc = SS_OK;
    if (rc)
        goto out;
    s->rate = info.samplerate;
    s->channels = info.channels;
    s->channel = channel;
    s->declared = declared_frames(s, &info, st.st_size);
    s->mixed = ss_alloc((size_t)CHUNK * s->channels, sizeof *s->mixed);
    if (!s->mixed)
        rc = ss_err_set(e, SS_ENOMEM, "'%s': no memory to decode it", s->name);
out:
    if (rc)
        ss_sound_close(s);
    else
        *out = s;
    return rc;
}

void ss_sound_close(ss_sound *s)
{
    if (!s)
        return;
    if (s->file)
        sf_close(s->file);
    if (s->fd > 0)
        close(s->fd);
    ss_free(s->mixed);
    ss_free(s->name);
    ss_free(s);
}

int ss_sound_rate(const ss_sound *s)
{
    return s->rate;
}

int64_t ss_sound_declared(const ss_sound *s)
{
    return s->declared;
}

uint64_t ss_sound_position(const ss_sound *s)
{
    return s->position;
}

bool ss_sound_is_stream(const ss_sound *s)
{
    return s->stream;
}

static float sample(ss_sound *s, const float *frame)
{
    float x;
    if (s->channel)
        x = frame[s->channel - 1];
    else {
        x = 0;
        for (int c = 0; c < s->channels; c++)
            x += frame[c];
        x /= (float)s->channels;
    }
    if (!isfinite(x)) {
        s->nonfinite++;
        x = 0;
    }
    return x;
}

ssize_t ss_sound_read(ss_sound *s, float *out, size_t n, ss_err *e)
{
    size_t done = 0;
    while (done < n && !s->ended) {
        sf_count_t want = n - done < CHUNK ? (sf_count_t)(n - done) : CHUNK;
        sf_count_t got = sf_readf_float(s->file, s->mixed, want);
        if (got <= 0 || got > want)
            break;
        for (sf_count_t i = 0; i < got; i++)
            out[done++] = sample(s, s->mixed + i * s->channels);
        s->position += (uint64_t)got;
        if (s->stream)
            break;
    }
    if (done || !n || s->ended)
        return (ssize_t)done;
    s->ended = true;
    if (s->declared >= 0 && s->position < (uint64_t)s->declared)
        return ss_err_set(e, SS_ETRUNC, "'%s' ends after %llu of the %lld samples that it declares", s->name,
                          (unsigned long long)s->position, (long long)s->declared);
    if (sf_error(s->file))
        return ss_err_set(e, SS_EDAMAGED, "'%s' is damaged after %llu samples: %s", s->name,
                          (unsigned long long)s->position, sf_strerror(s->file));
    return 0;
}

int ss_sound_skip(ss_sound *s, uint64_t n, ss_err *e)
{
    float sink[CHUNK];
    if (!s->stream && n < (uint64_t)INT64_MAX && s->declared >= 0 &&
        s->position + n <= (uint64_t)s->declared && sf_seek(s->file, (sf_count_t)n, SEEK_CUR) >= 0) {
        s->position += n;
        return SS_OK;
    }
    while (n) {
        ssize_t got = ss_sound_read(s, sink, n < CHUNK ? n : CHUNK, e);
        if (got < 0)
            return (int)got;
        if (!got)
            break;
        n -= (uint64_t)got;
    }
    return SS_OK;
}

uint64_t ss_sound_nonfinite(const ss_sound *s)
{
    return s->nonfinite;
}

/* paths */

static int no_memory(ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "no memory for the list of files");
}

/* Takes `path` over, NULL included. */
static int add_path(ss_paths *p, char *path, ss_err *e)
{
    if (!path)
        return no_memory(e);
    if (p->n == MAX_PATHS) {
        ss_free(path);
        return ss_err_set(e, SS_ELIMIT, "more than %d files", MAX_PATHS);
    }
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 16;
        char **q = ss_realloc(p->path, room, sizeof *q);
        if (!q) {
            ss_free(path);
            return no_memory(e);
        }
        p->path = q;
        p->room = room;
    }
    p->path[p->n++] = path;
    return SS_OK;
}

void ss_paths_clear(ss_paths *p)
{
    for (size_t i = 0; i < p->n; i++)
        ss_free(p->path[i]);
    ss_free(p->path);
    *p = (ss_paths){0};
}

static char *join(const char *folder, size_t n, const char *name)
{
    size_t size = n + strlen(name) + 2;
    char *s = ss_alloc(size, 1);
    if (s)
        snprintf(s, size, "%.*s%s%s", (int)n, folder, n && folder[n - 1] != '/' ? "/" : "", name);
    return s;
}

char *ss_path_beside(const char *base, const char *path)
{
    const char *slash = strrchr(base, '/');
    if (*path == '/' || !slash)
        return ss_strdup(path);
    return join(base, (size_t)(slash - base) + 1, path);
}

static bool is_sound(const char *name)
{
    static const char *const known[] = {"wav",  "wave", "flac", "ogg", "oga", "opus", "mp3", "aif",  "aiff",
                                        "aifc", "au",   "snd",  "caf", "w64", "rf64", "sph", "nist", "voc"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(dot + 1, known[i]))
            return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_folder(ss_paths *p, const char *folder, int depth, ss_err *e)
{
    if (depth > MAX_DEPTH)
        return ss_err_set(e, SS_ELIMIT, "'%s': folders more than %d deep", folder, MAX_DEPTH);
    DIR *d = opendir(folder);
    if (!d)
        return ss_err_errno(e, "cannot open folder '%s'", folder);
    ss_paths found = {0};
    int rc = SS_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry && errno)
            rc = ss_err_errno(e, "cannot read folder '%s'", folder);
        if (!entry)
            break;
        if (entry->d_name[0] == '.')
            continue;
        rc = add_path(&found, join(folder, strlen(folder), entry->d_name), e);
        if (rc)
            break;
    }
    closedir(d);
    if (found.n)
        qsort(found.path, found.n, sizeof *found.path, by_name);
    for (size_t i = 0; i < found.n && !rc; i++) {
        struct stat st;
        if (stat(found.path[i], &st) < 0)
            continue; /* gone, or a link to nowhere */
        if (S_ISDIR(st.st_mode))
            rc = add_folder(p, found.path[i], depth + 1, e);
        else if (is_sound(found.path[i])) {
            rc = add_path(p, found.path[i], e);
            found.path[i] = NULL;
        }
    }
    ss_paths_clear(&found);
    return rc;
}

/* Takes `path` over, NULL included. */
static int add_file_or_folder(ss_paths *p, char *path, ss_err *e)
{
    struct stat st;
    if (!path || stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return add_path(p, path, e); /* what is wrong with it shows when it is opened */
    int rc = add_folder(p, path, 1, e);
    ss_free(path);
    return rc;
}

static int add_list(ss_paths *p, const char *list, ss_err *e)
{
    bool standard = !strcmp(list, "-");
    FILE *f = standard ? stdin : fopen(list, "re");
    if (!f)
        return ss_err_errno(e, "cannot open list '%s'", list);
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t n;
    int rc = SS_OK;
    while (!rc && (n = getline(&line, &room, f)) > 0) {
        number++;
        if (line[n - 1] == '\n')
            line[--n] = 0;
        if (n && line[n - 1] == '\r')
            line[--n] = 0;
        if (strlen(line) != (size_t)n)
            rc = ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: a byte of value 0, expected a path", list,
                            number);
        else if (n)
            rc = add_file_or_folder(p, standard ? ss_strdup(line) : ss_path_beside(list, line), e);
    }
    if (!rc && ferror(f))
        rc = ss_err_errno(e, "cannot read list '%s'", list);
    free(line);
    if (!standard)
        fclose(f);
    return rc;
}

int ss_paths_expand(ss_paths *p, const char *operand, ss_err *e)
{
    if (operand[0] == '@' && operand[1])
        return add_list(p, operand + 1, e);
    return add_file_or_folder(p, ss_strdup(operand), e);
}
