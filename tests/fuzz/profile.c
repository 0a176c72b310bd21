/* The reader of profiles: what it takes is written, taken again and written the same. */
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "split/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_profile *p, *again;
    ss_err e = {0};
    int rc = ss_profile_parse(&p, (const char *)data, size, "text", &e);
    PROMISE(!rc == (p != NULL));
    PROMISE(!rc || ((rc == SS_EDAMAGED || rc == SS_ELIMIT || rc == SS_EUNFIT) && *e.text));
    if (!rc) {
        char *text, *same;
        PROMISE(p->n > 0 && p->n <= SS_PROFILE_MAX_CHOICES);
        for (size_t i = 0; i < p->n; i++) {
            double q = ss_profile_quality(p, &p->choice[i]);
            PROMISE(q >= 0 && q <= 1);
            PROMISE(ss_profile_find(p, p->choice[i].cut, p->choice[i].codec) == (int)i);
        }
        for (double u = -0.1; u < 2.2; u += 0.1)
            PROMISE(ss_u_rank(&p->u, u) >= 0 && ss_u_rank(&p->u, u) <= 1);
        PROMISE(ss_profile_print(p, &text, &e) == SS_OK);
        PROMISE(ss_profile_parse(&again, text, strlen(text), "text", &e) == SS_OK);
        PROMISE(ss_profile_print(again, &same, &e) == SS_OK && !strcmp(text, same));
        ss_free(text);
        ss_free(same);
        ss_profile_free(again);
        ss_profile_free(p);
    }
    PROMISE(ss_mem_used() == 0);
    return 0;
}
