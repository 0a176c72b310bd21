#include "audio/spans.h"

#include <string.h>

#include "base/mem.h"

int ss_spans_init(ss_spans *s, uint32_t nlabels, ss_err *e)
{
    *s = (ss_spans){.nlabels = nlabels};
    s->count = ss_zalloc(nlabels, sizeof *s->count);
    return s->count ? SS_OK : ss_err_set(e, SS_ENOMEM, "no memory for %u labels", nlabels);
}

void ss_spans_clear(ss_spans *s)
{
    ss_free(s->span);
    ss_free(s->count);
    *s = (ss_spans){0};
}

int ss_spans_add(ss_spans *s, size_t n, int64_t time_ns, int64_t label, int64_t fold, ss_err *e)
{
    if (label >= (int64_t)s->nlabels)
        return ss_err_set(e, SS_EUNFIT, "label %lld, the header has %u", (long long)label, s->nlabels);
    if (!n)
        return SS_OK;
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        ss_span *p = ss_realloc(s->span, room, sizeof *p);
        if (!p)
            return ss_err_set(e, SS_ENOMEM, "no memory for the blocks of a window");
        s->span = p;
        s->room = room;
    }
    uint64_t at = s->n ? s->span[s->n - 1].end : 0;
    s->span[s->n++] = (ss_span){at, at + n, time_ns, label < 0 ? -1 : label, fold};
    return SS_OK;
}

void ss_spans_reset(ss_spans *s)
{
    s->n = 0;
}

void ss_spans_forget(ss_spans *s, uint64_t before)
{
    size_t gone = 0;
    /* The newest one stays: the next one follows on it. */
    while (gone + 1 < s->n && s->span[gone].end <= before)
        gone++;
    s->n -= gone;
    if (gone)
        memmove(s->span, s->span + gone, s->n * sizeof *s->span);
}

/* Samples of span i that lie within start..end. */
static uint32_t overlap(const ss_span *p, uint64_t start, uint64_t end)
{
    uint64_t a = p->start > start ? p->start : start, b = p->end < end ? p->end : end;
    return b > a ? (uint32_t)(b - a) : 0;
}

ss_span ss_spans_summary(ss_spans *s, uint64_t start, uint64_t end, double rate)
{
    ss_span sum = {start, end, 0, -1, -1};
    uint64_t labelled = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < s->n; i++) {
        const ss_span *p = &s->span[i];
        if (p->start <= start && start < p->end) {
            sum.time_ns = p->time_ns + (int64_t)((double)(start - p->start) * 1e9 / rate);
            sum.fold = p->fold;
        }
        if (p->label >= 0) {
            uint32_t k = overlap(p, start, end);
            labelled += k;
            s->count[p->label] += k;
            most = s->count[p->label] > most ? s->count[p->label] : most;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        const ss_span *p = &s->span[i];
        if (p->label < 0)
            continue;
        if (most && s->count[p->label] == most && 2 * labelled >= end - start && sum.label < 0 &&
            overlap(p, start, end)) {
            sum.label = p->label;
            sum.fold = p->fold;
        }
    }
    for (size_t i = 0; i < s->n; i++)
        if (s->span[i].label >= 0)
            s->count[s->span[i].label] = 0;
    return sum;
}
