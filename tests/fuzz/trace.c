/* The readers of traces: what they take can be asked at any time, is written, taken again and says the same.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "split/trace.h"

static void ask(const ss_trace *t)
{
    double all = ss_trace_seconds(t), end = ss_trace_bits(t, all);
    PROMISE(all > 0 && isfinite(all) && end >= 0 && isfinite(end));
    for (int i = 0; i <= 20; i++) {
        double at = all * i / 8, bits = ss_trace_bits(t, at);
        ss_trace_now now = ss_trace_at(t, at);
        PROMISE(now.bandwidth >= 0 && now.rtt >= 0 && now.cpu >= 0 && now.cpu <= 1);
        PROMISE(isfinite(bits) && ss_trace_when_bits(t, bits) <= at + 1e-6 * all);
        PROMISE(ss_trace_work(t, at) <= at + 1e-9 * (all + at));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int format = SS_TRACE_CSV; format <= SS_TRACE_MAHIMAHI; format++) {
        ss_trace *t, *again;
        ss_err e = {0};
        int rc = ss_trace_parse(&t, (const char *)data, size, "text", (ss_trace_format)format, 50, &e);
        PROMISE(!rc == (t != NULL));
        PROMISE(!rc ||
                ((rc == SS_EDAMAGED || rc == SS_ELIMIT || rc == SS_EUNFIT || rc == SS_ERANGE) && *e.text));
        if (rc)
            continue;
        ask(t);
        char *text = ss_trace_print(t);
        PROMISE(text && ss_trace_rows(t) <= SS_TRACE_MAX_ROWS);
        PROMISE(!ss_trace_parse(&again, text, strlen(text), "text", SS_TRACE_CSV, 50, &e));
        PROMISE(ss_trace_rows(again) == ss_trace_rows(t));
        ss_free(text);
        ss_trace_free(again);
        ss_trace_free(t);
    }
    PROMISE(ss_mem_used() == 0);
    return 0;
}
