/* The strict JSON reader: what it takes is printed, taken again and printed the same. */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON *tree, *twice;
    ss_err e = {0};
    int rc = ss_json_parse(&tree, (const char *)data, size, "text", &e);
    PROMISE(!rc == (tree != NULL));
    PROMISE(!rc || ((rc == SS_EDAMAGED || rc == SS_ELIMIT) && *e.text));
    if (!rc) {
        PROMISE(ss_utf8_valid((const char *)data, size));
        char *text = ss_json_print(tree), *same;
        PROMISE(text && ss_json_parse(&twice, text, strlen(text), "text", &e) == SS_OK);
        same = ss_json_print(twice);
        PROMISE(same && !strcmp(text, same));
        ss_free(text);
        ss_free(same);
        cJSON_Delete(twice);
    }
    cJSON_Delete(tree);
    PROMISE(ss_mem_used() == 0);
    return 0;
}
