/* The reader of policies: what it takes is asked, written, taken again and written the same. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "split/learned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_learned *l, *again;
    ss_err e = {0};
    int rc = ss_learned_parse(&l, (const char *)data, size, "text", &e);
    PROMISE(!rc == (l != NULL));
    PROMISE(!rc || ((rc == SS_EDAMAGED || rc == SS_ELIMIT || rc == SS_EUNFIT) && *e.text));
    if (!rc) {
        char *text, *same;
        ss_decider d;
        ss_decider_init(&d, l, l->every);
        d.view.bandwidth = 1e6;
        for (int i = 0; i < 20; i++) {
            d.view.cpu = i / 20.0;
            d.view.queue = i * 1e3;
            ss_decider_step(&d);
            PROMISE(d.view.action >= 0 && d.view.action < l->net.out);
            ss_decider_went(&d, 0.48);
        }
        PROMISE(ss_learned_print(l, &text, &e) == SS_OK);
        PROMISE(ss_learned_parse(&again, text, strlen(text), "text", &e) == SS_OK);
        PROMISE(ss_learned_print(again, &same, &e) == SS_OK && !strcmp(text, same));
        ss_free(text);
        ss_free(same);
        ss_learned_free(again);
        ss_learned_free(l);
    }
    PROMISE(ss_mem_used() == 0);
    return 0;
}
