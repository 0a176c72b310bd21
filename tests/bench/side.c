#include "side.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/stream.h"

float *side_room(size_t n)
{
    float *p = ss_zalloc(n, sizeof *p);
    if (!p)
        abort();
    return p;
}

bool side_read(const char *path, float *to, size_t n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    bool good = fread(to, sizeof(float), n, f) == n;
    fclose(f);
    return good;
}

double side_measure(const struct side *s, const char *what, int k)
{
    if (!s->once(what, k))
        return NAN;
    int64_t begun = ss_clock_mono_ns(), took;
    int times = 0;
    do {
        s->once(what, k);
        times++;
        took = ss_clock_mono_ns() - begun;
    } while ((double)took < s->least_ms * 1e6);
    return (double)took / 1e3 / times / s->batch;
}

static bool save(const struct side *s, const char *what, int k, const char *path)
{
    size_t n;
    const float *r = s->once(what, k) ? s->result(what, k, &n) : NULL;
    FILE *f = r ? fopen(path, "wb") : NULL;
    if (!f)
        return false;
    bool good = fwrite(r, sizeof *r, n, f) == n;
    return fclose(f) == 0 && good;
}

int side_serve(const struct side *s)
{
    char line[4400], what[16], cut[16], path[4096];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        int n = sscanf(line, "%15s %15s", what, cut);
        if (n < 1)
            continue;
        if (!strcmp(what, "input")) {
            puts(sscanf(line, "input %4095[^\n]", path) == 1 && s->input(path) ? "loaded"
                                                                               : "error: no such windows");
        } else if (!strcmp(what, "save")) {
            puts(sscanf(line, "save %15s %15s %4095[^\n]", what, cut, path) == 3 &&
                         save(s, what, ss_cut_parse(cut), path)
                     ? "saved"
                     : "error: cannot save");
        } else {
            double us = side_measure(s, what, n == 2 ? ss_cut_parse(cut) : 0);
            if (isnan(us))
                puts("error: no such measurement");
            else
                printf("%.3f\n", us);
        }
    }
    return 0;
}
