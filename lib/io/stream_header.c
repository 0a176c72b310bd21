/* The preamble's JSON. Every member is optional; what is not known is kept and passed on. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "io/stream_internal.h"

#define MAX_LABELS     65536
#define MAX_LABEL      255 /* bytes of one */
#define MAX_PROVENANCE 256
#define MAX_ARGUMENTS                                                                                        \
    4096 /* bytes of one stage's arguments together: a list of files must not fill the header */

void ss_header_clear(ss_header *h)
{
    if (!h)
        return;
    for (uint32_t i = 0; i < h->nlabels; i++)
        ss_free(h->labels[i]);
    for (uint32_t i = 0; i < h->nprovenance; i++)
        ss_free(h->provenance[i]);
    ss_free(h->labels);
    ss_free(h->provenance);
    ss_free(h->frontend);
    ss_free(h->rest);
    memset(h, 0, sizeof *h);
}

static int no_memory(ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "header: out of memory");
}

/* Append a copy of `text` to a list that grows by doubling. */
static int append(char ***list, uint32_t *n, const char *text, ss_err *e)
{
    if (!(*n & (*n - 1))) { /* 0, 1, 2, 4, ...: full */
        char **more = ss_realloc(*list, *n ? 2 * (size_t)*n : 1, sizeof *more);
        if (!more)
            return no_memory(e);
        *list = more;
    }
    char *copy = ss_strdup(text);
    if (!copy)
        return no_memory(e);
    (*list)[(*n)++] = copy;
    return SS_OK;
}

int ss_header_copy(ss_header *to, const ss_header *from, ss_err *e)
{
    memset(to, 0, sizeof *to);
    memcpy(to->kind, from->kind, sizeof to->kind);
    memcpy(to->frontend_hash, from->frontend_hash, sizeof to->frontend_hash);
    memcpy(to->arch_hash, from->arch_hash, sizeof to->arch_hash);
    to->rate = from->rate;
    int rc = SS_OK;
    if (from->frontend && !(to->frontend = ss_strdup(from->frontend)))
        rc = no_memory(e);
    if (from->rest && !rc && !(to->rest = ss_strdup(from->rest)))
        rc = no_memory(e);
    for (uint32_t i = 0; i < from->nlabels && !rc; i++)
        rc = append(&to->labels, &to->nlabels, from->labels[i], e);
    for (uint32_t i = 0; i < from->nprovenance && !rc; i++)
        rc = append(&to->provenance, &to->nprovenance, from->provenance[i], e);
    if (rc)
        ss_header_clear(to);
    return rc;
}

int ss_header_add_label(ss_header *h, const char *label, ss_err *e)
{
    for (uint32_t i = 0; i < h->nlabels; i++)
        if (!strcmp(h->labels[i], label))
            return (int)i;
    size_t n = strlen(label);
    if (!n || n > MAX_LABEL || !ss_utf8_valid(label, n))
        return ss_err_set(e, SS_EINVAL, "label of %zu bytes, expected 1 to %d bytes of UTF-8", n, MAX_LABEL);
    if (h->nlabels == MAX_LABELS)
        return ss_err_set(e, SS_ELIMIT, "more than %d labels", MAX_LABELS);
    int rc = append(&h->labels, &h->nlabels, label, e);
    return rc ? rc : (int)h->nlabels - 1;
}

/* A cJSON string of any bytes: those that are not UTF-8 become '?'. */
static cJSON *string_of(const char *bytes)
{
    char *copy = ss_strdup(bytes);
    if (!copy)
        return NULL;
    for (char *p = copy; *p;) {
        size_t len = 1;
        while (len < 4 && !ss_utf8_valid(p, len))
            len += p[len] ? 1 : 4;
        if (len > 4 || !ss_utf8_valid(p, len)) {
            *p = '?';
            len = 1;
        }
        p += len;
    }
    cJSON *s = cJSON_CreateString(copy);
    ss_free(copy);
    return s;
}

/* Both take `item` over, also on failure. */
static bool add(cJSON *object, const char *key, cJSON *item)
{
    if (item && cJSON_AddItemToObject(object, key, item))
        return true;
    cJSON_Delete(item);
    return false;
}

static bool push(cJSON *array, cJSON *item)
{
    if (item && cJSON_AddItemToArray(array, item))
        return true;
    cJSON_Delete(item);
    return false;
}

int ss_header_add_provenance(ss_header *h, const char *program, const char *version, int argc, char **argv,
                             ss_err *e)
{
    if (h->nprovenance == MAX_PROVENANCE)
        return ss_err_set(e, SS_ELIMIT, "more than %d stages of provenance", MAX_PROVENANCE);
    cJSON *o = cJSON_CreateObject(), *arguments = cJSON_CreateArray();
    bool ok =
        o && arguments && add(o, "program", string_of(program)) && add(o, "version", string_of(version));
    size_t room = MAX_ARGUMENTS;
    for (int i = 0; i < argc && ok; i++) {
        size_t n = strlen(argv[i]) + 1;
        if (n > room) {
            ok = push(arguments, cJSON_CreateString("..."));
            break;
        }
        room -= n;
        ok = push(arguments, string_of(argv[i]));
    }
    if (ok) {
        ok = add(o, "arguments", arguments);
        arguments = NULL;
    }
    char *text = ok ? ss_json_print(o) : NULL;
    cJSON_Delete(arguments);
    cJSON_Delete(o);
    int rc = text ? append(&h->provenance, &h->nprovenance, text, e) : no_memory(e);
    ss_free(text);
    return rc;
}

static int hash(const cJSON *o, const char *key, char out[17], ss_err *e)
{
    const char *s = "";
    int rc = ss_json_string(o, key, 16, &s, e);
    if (rc < 0)
        return rc;
    if (*s && (strlen(s) != 16 || strspn(s, "0123456789abcdef") != 16))
        return ss_err_set(e, SS_EDAMAGED, "'%s' is '%s', expected 16 hexadecimal digits", key, s);
    strcpy(out, s);
    return SS_OK;
}

static int labels(ss_header *h, const cJSON *o, ss_err *e)
{
    const cJSON *list, *item;
    int rc = ss_json_array(o, "labels", &list, e);
    if (rc <= 0)
        return rc;
    cJSON_ArrayForEach(item, list)
    {
        const char *s;
        rc = ss_json_string(item, NULL, MAX_LABEL, &s, e);
        if (rc < 0) {
            ss_err_prefix(e, "label %u", h->nlabels);
            return rc;
        }
        if (h->nlabels == MAX_LABELS)
            return ss_err_set(e, SS_ELIMIT, "more than %d labels", MAX_LABELS);
        rc = append(&h->labels, &h->nlabels, s, e);
        if (rc)
            return rc;
    }
    return SS_OK;
}

static int provenance(ss_header *h, const cJSON *o, ss_err *e)
{
    const cJSON *list, *item;
    int rc = ss_json_array(o, "provenance", &list, e);
    if (rc <= 0)
        return rc;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *stage;
        rc = ss_json_object(item, NULL, &stage, e);
        if (rc < 0) {
            ss_err_prefix(e, "provenance");
            return rc;
        }
        if (h->nprovenance == MAX_PROVENANCE)
            return ss_err_set(e, SS_ELIMIT, "more than %d stages of provenance", MAX_PROVENANCE);
        char *text = ss_json_print(stage);
        rc = text ? append(&h->provenance, &h->nprovenance, text, e) : no_memory(e);
        ss_free(text);
        if (rc)
            return rc;
    }
    return SS_OK;
}

static int members(ss_header *h, cJSON *o, ss_err *e)
{
    static const char *const known[] = {"kind",      "rate",   "frontend",  "frontend_hash",
                                        "arch_hash", "labels", "provenance"};
    const char *kind = "";
    const cJSON *frontend = NULL;
    int rc = ss_json_string(o, "kind", sizeof h->kind - 1, &kind, e);
    if (rc >= 0)
        rc = ss_json_number(o, "rate", 0, 1e9, &h->rate, e);
    if (rc >= 0)
        rc = ss_json_object(o, "frontend", &frontend, e);
    if (rc >= 0)
        rc = hash(o, "frontend_hash", h->frontend_hash, e);
    if (rc >= 0)
        rc = hash(o, "arch_hash", h->arch_hash, e);
    if (rc >= 0)
        rc = labels(h, o, e);
    if (rc >= 0)
        rc = provenance(h, o, e);
    if (rc < 0)
        return rc;
    strcpy(h->kind, kind);
    if (frontend && !(h->frontend = ss_json_print(frontend)))
        return no_memory(e);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(o, known[i]);
    if (o->child && !(h->rest = ss_json_print(o)))
        return no_memory(e);
    return SS_OK;
}

int ss_header_parse(ss_header *h, const char *text, size_t n, ss_err *e)
{
    cJSON *tree;
    const cJSON *o;
    int rc = ss_json_parse(&tree, text, n, "header", e);
    if (rc)
        return rc;
    rc = ss_json_object(tree, NULL, &o, e);
    if (rc >= 0)
        rc = members(h, tree, e);
    cJSON_Delete(tree);
    if (rc < 0) {
        ss_header_clear(h);
        if (rc != SS_ENOMEM)
            ss_err_prefix(e, "header");
        return rc;
    }
    return SS_OK;
}

/* Text that a caller has put together, back as a tree. */
static int object_of(cJSON **tree, const char *text, const char *what, ss_err *e)
{
    int rc = ss_json_parse(tree, text, strlen(text), what, e);
    if (!rc && !cJSON_IsObject(*tree)) {
        cJSON_Delete(*tree);
        *tree = NULL;
        rc = ss_err_set(e, SS_EINVAL, "header: %s is no JSON object", what);
    }
    return rc;
}

static int text_member(cJSON *o, const char *key, const char *s, ss_err *e)
{
    return add(o, key, cJSON_CreateString(s)) ? SS_OK : no_memory(e);
}

static int print_labels(cJSON *o, const ss_header *h, ss_err *e)
{
    cJSON *list = h->nlabels ? cJSON_AddArrayToObject(o, "labels") : NULL;
    for (uint32_t i = 0; i < h->nlabels; i++)
        if (!list || !push(list, cJSON_CreateString(h->labels[i])))
            return no_memory(e);
    return SS_OK;
}

static int print_provenance(cJSON *o, const ss_header *h, ss_err *e)
{
    cJSON *list = h->nprovenance ? cJSON_AddArrayToObject(o, "provenance") : NULL, *stage;
    for (uint32_t i = 0; i < h->nprovenance; i++) {
        int rc = list ? object_of(&stage, h->provenance[i], "provenance", e) : no_memory(e);
        if (rc)
            return rc;
        if (!push(list, stage))
            return no_memory(e);
    }
    return SS_OK;
}

static int print_rest(cJSON *o, const char *rest, ss_err *e)
{
    cJSON *tree;
    int rc = object_of(&tree, rest, "rest", e);
    while (!rc && tree->child) {
        cJSON *item = cJSON_DetachItemViaPointer(tree, tree->child);
        if (cJSON_GetObjectItemCaseSensitive(o, item->string)) {
            rc = ss_err_set(e, SS_EINVAL, "header: '%.80s' comes twice", item->string);
            cJSON_Delete(item);
        } else if (!cJSON_AddItemToObject(o, item->string, item)) {
            cJSON_Delete(item);
            rc = no_memory(e);
        }
    }
    cJSON_Delete(tree);
    return rc;
}

int ss_header_print(const ss_header *h, char **text, ss_err *e)
{
    cJSON *frontend = NULL, *o = cJSON_CreateObject();
    int rc = o ? SS_OK : no_memory(e);
    if (!rc)
        rc = text_member(o, "kind", h->kind, e);
    if (!rc && !(h->rate >= 0 && h->rate <= 1e9))
        rc = ss_err_set(e, SS_EINVAL, "header: rate is %g", h->rate);
    if (!rc && h->rate > 0 && !cJSON_AddNumberToObject(o, "rate", h->rate))
        rc = no_memory(e);
    if (!rc && h->frontend) {
        rc = object_of(&frontend, h->frontend, "frontend", e);
        if (!rc && !add(o, "frontend", frontend))
            rc = no_memory(e);
    }
    if (!rc && *h->frontend_hash)
        rc = text_member(o, "frontend_hash", h->frontend_hash, e);
    if (!rc && *h->arch_hash)
        rc = text_member(o, "arch_hash", h->arch_hash, e);
    if (!rc)
        rc = print_labels(o, h, e);
    if (!rc)
        rc = print_provenance(o, h, e);
    if (!rc && h->rest)
        rc = print_rest(o, h->rest, e);
    if (!rc && !(*text = ss_json_print(o)))
        rc = no_memory(e);
    cJSON_Delete(o);
    if (!rc && !ss_utf8_valid(*text, strlen(*text))) {
        ss_free(*text);
        *text = NULL;
        rc = ss_err_set(e, SS_EINVAL, "header: text that is not UTF-8");
    }
    return rc;
}
