#include "io/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/text.h"

/* Bytes of the UTF-8 sequence at p, or 0: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    if (p[0] < 0x80)
        return p[0] ? 1 : 0;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool ss_utf8_valid(const char *text, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_sequence((const uint8_t *)text + i, n - i);
        if (!len)
            return false;
    }
    return true;
}

/* The grammar, checked before cJSON sees the text: cJSON takes more than JSON is. */
struct scan {
    const uint8_t *start, *p, *end;
    size_t values;
    const char *what;
    ss_err *e;
};

static int bad(struct scan *s, const char *text)
{
    return ss_err_set(s->e, SS_EDAMAGED, "%s: JSON at byte %zu: %s", s->what, (size_t)(s->p - s->start),
                      text);
}

static void space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(struct scan *s, char c)
{
    if (s->p >= s->end || *s->p != (uint8_t)c)
        return false;
    s->p++;
    return true;
}

static size_t digits(struct scan *s)
{
    size_t n = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; n++)
        s->p++;
    return n;
}

static int hex4(struct scan *s, unsigned *out)
{
    *out = 0;
    if (s->end - s->p < 4)
        return bad(s, "escape cut short");
    for (int i = 0; i < 4; i++, s->p++) {
        unsigned c = *s->p;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            *out = *out << 4 | ((c | 32) - 'a' + 10);
        else
            return bad(s, "bad escape");
    }
    return SS_OK;
}

static int escape(struct scan *s)
{
    if (s->p >= s->end)
        return bad(s, "string not closed");
    uint8_t c = *s->p;
    if (c != 'u') {
        if (!c || !strchr("\"\\/bfnrt", c))
            return bad(s, "bad escape");
        s->p++;
        return SS_OK;
    }
    s->p++;
    unsigned u, low;
    int rc = hex4(s, &u);
    if (rc)
        return rc;
    if (!u)
        return bad(s, "NUL in a string");
    if (u >= 0xdc00 && u < 0xe000)
        return bad(s, "lone surrogate");
    if (u >= 0xd800 && u < 0xdc00) {
        if (!take(s, '\\') || !take(s, 'u'))
            return bad(s, "lone surrogate");
        rc = hex4(s, &low);
        if (!rc && (low < 0xdc00 || low > 0xdfff))
            rc = bad(s, "lone surrogate");
    }
    return rc;
}

static int string(struct scan *s)
{
    if (!take(s, '"'))
        return bad(s, "string expected");
    while (s->p < s->end && *s->p != '"') {
        if (*s->p == '\\') {
            s->p++;
            int rc = escape(s);
            if (rc)
                return rc;
            continue;
        }
        if (*s->p < 0x20)
            return bad(s, "control character in a string");
        size_t len = utf8_sequence(s->p, (size_t)(s->end - s->p));
        if (!len)
            return bad(s, "not UTF-8");
        s->p += len;
    }
    return take(s, '"') ? SS_OK : bad(s, "string not closed");
}

static int number(struct scan *s)
{
    const uint8_t *from = s->p;
    take(s, '-');
    if (!take(s, '0') && !digits(s))
        return bad(s, "value expected");
    if (take(s, '.') && !digits(s))
        return bad(s, "bad number");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        if (!digits(s))
            return bad(s, "bad number");
    }
    return s->p - from < 64 ? SS_OK : bad(s, "number too long"); /* cJSON reads 63 characters of it */
}

static int word(struct scan *s, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n))
        return bad(s, "value expected");
    s->p += n;
    return SS_OK;
}

static int value(struct scan *s, int depth)
{
    int rc;
    if (++s->values > SS_JSON_MAX_VALUES)
        return ss_err_set(s->e, SS_ELIMIT, "%s: JSON holds more than %d values", s->what, SS_JSON_MAX_VALUES);
    space(s);
    if (s->p >= s->end)
        return bad(s, "value expected");
    uint8_t c = *s->p;
    if (c == '"')
        return string(s);
    if (c == 't')
        return word(s, "true");
    if (c == 'f')
        return word(s, "false");
    if (c == 'n')
        return word(s, "null");
    if (c != '{' && c != '[')
        return number(s);
    if (depth >= SS_JSON_MAX_DEPTH)
        return ss_err_set(s->e, SS_ELIMIT, "%s: JSON at byte %zu: nested deeper than %d", s->what,
                          (size_t)(s->p - s->start), SS_JSON_MAX_DEPTH);
    char close = c == '{' ? '}' : ']';
    s->p++;
    space(s);
    if (take(s, close))
        return SS_OK;
    for (;;) {
        if (c == '{') {
            space(s);
            rc = string(s);
            if (rc)
                return rc;
            space(s);
            if (!take(s, ':'))
                return bad(s, "':' expected");
        }
        rc = value(s, depth + 1);
        if (rc)
            return rc;
        space(s);
        if (take(s, close))
            return SS_OK;
        if (!take(s, ','))
            return bad(s, c == '{' ? "',' or '}' expected" : "',' or ']' expected");
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Duplicate keys and overflowed numbers anywhere below v. Sorted, so that many keys cost little. */
static int check_tree(const cJSON *v, const char *what, ss_err *e)
{
    if (cJSON_IsNumber(v) && !isfinite(v->valuedouble))
        return ss_err_set(e, SS_EDAMAGED, "%s: JSON: number out of range", what);
    size_t n = 0;
    for (const cJSON *c = v->child; c; c = c->next, n++) {
        int rc = check_tree(c, what, e);
        if (rc)
            return rc;
    }
    if (!cJSON_IsObject(v) || n < 2)
        return SS_OK;
    const char **key = ss_alloc(n, sizeof *key);
    if (!key)
        return ss_err_set(e, SS_ENOMEM, "%s: out of memory", what);
    n = 0;
    for (const cJSON *c = v->child; c; c = c->next)
        key[n++] = c->string;
    qsort(key, n, sizeof *key, by_text);
    int rc = SS_OK;
    for (size_t i = 1; i < n && !rc; i++)
        if (!strcmp(key[i - 1], key[i]))
            rc = ss_err_set(e, SS_EDAMAGED, "%s: JSON: key '%.80s' comes twice", what, key[i]);
    ss_free(key);
    return rc;
}

int ss_json_parse(cJSON **tree, const char *text, size_t n, const char *what, ss_err *e)
{
    *tree = NULL;
    if (n > SS_JSON_MAX_SIZE)
        return ss_err_set(e, SS_ELIMIT, "%s: %zu bytes of JSON, at most %zu are accepted", what, n,
                          SS_JSON_MAX_SIZE);
    const uint8_t *start = (const uint8_t *)text;
    struct scan s = {start, start, start + n, 0, what, e};
    int rc = value(&s, 0);
    if (rc)
        return rc;
    space(&s);
    if (s.p < s.end)
        return bad(&s, "something follows the value");
    cJSON *v = cJSON_ParseWithLength(text, n);
    if (!v)
        return ss_err_set(e, SS_ENOMEM, "%s: out of memory", what);
    rc = check_tree(v, what, e);
    if (rc)
        cJSON_Delete(v);
    else
        *tree = v;
    return rc;
}

char *ss_json_print(const cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);
    char *copy = text ? ss_strdup(text) : NULL;
    cJSON_free(text);
    return copy;
}

struct lines {
    char *text;
    size_t n, room;
};

static bool add(struct lines *l, const char *s)
{
    size_t n = strlen(s);
    if (l->n + n + 1 > l->room) {
        size_t room = 2 * (l->n + n + 1);
        char *t = ss_realloc(l->text, room, 1);
        if (!t)
            return false;
        l->text = t;
        l->room = room;
    }
    memcpy(l->text + l->n, s, n + 1);
    l->n += n;
    return true;
}

static bool add_value(struct lines *l, const char *before, const cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);
    bool ok = text && add(l, before) && add(l, text);
    cJSON_free(text);
    return ok;
}

static bool add_member(struct lines *l, const cJSON *v)
{
    cJSON key = {.type = cJSON_String, .valuestring = v->string};
    if (!add_value(l, "  ", &key) || !add(l, ": "))
        return false;
    if (!cJSON_IsArray(v) || !cJSON_IsObject(v->child))
        return add_value(l, "", v);
    bool ok = add(l, "[");
    for (const cJSON *c = v->child; c && ok; c = c->next)
        ok = add_value(l, c == v->child ? "\n    " : ",\n    ", c);
    return ok && add(l, "\n  ]");
}

char *ss_json_print_lines(const cJSON *v)
{
    struct lines l = {0};
    bool ok = add(&l, "{\n");
    for (const cJSON *c = v->child; c && ok; c = c->next)
        ok = add_member(&l, c) && add(&l, c->next ? ",\n" : "\n");
    if (ok && add(&l, "}\n"))
        return l.text;
    ss_free(l.text);
    return NULL;
}

int ss_json_read(cJSON **tree, const char *path, const char *what, ss_err *e)
{
    char *text, name[256];
    size_t n;
    *tree = NULL;
    int rc = ss_text_read(&text, &n, path, SS_JSON_MAX_SIZE, e);
    if (rc)
        return rc;
    snprintf(name, sizeof name, "%s '%s'", what, path);
    rc = ss_json_parse(tree, text, n, name, e);
    ss_free(text);
    return rc;
}

static const char *kind_of(const cJSON *v)
{
    if (cJSON_IsString(v))
        return "a string";
    if (cJSON_IsNumber(v))
        return "a number";
    if (cJSON_IsBool(v))
        return "true or false";
    if (cJSON_IsArray(v))
        return "an array";
    return cJSON_IsObject(v) ? "an object" : "null";
}

/* The member, NULL when there is none; `name` is what an error calls it. */
static const cJSON *member(const cJSON *o, const char *key, const char **name)
{
    *name = key ? key : "value";
    return key ? cJSON_GetObjectItemCaseSensitive(o, key) : o;
}

static int wrong(const char *name, const cJSON *v, const char *expected, ss_err *e)
{
    return ss_err_set(e, SS_EDAMAGED, "'%.80s' is %s, expected %s", name, kind_of(v), expected);
}

int ss_json_number(const cJSON *o, const char *key, double min, double max, double *out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsNumber(v))
        return wrong(name, v, "a number", e);
    if (!(v->valuedouble >= min && v->valuedouble <= max))
        return ss_err_set(e, SS_EDAMAGED, "'%.80s' is %g, expected %g to %g", name, v->valuedouble, min, max);
    *out = v->valuedouble;
    return 1;
}

int ss_json_int(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsNumber(v))
        return wrong(name, v, "a number", e);
    double d = v->valuedouble;
    if (d != floor(d) || fabs(d) > 0x1p53 || (int64_t)d < min || (int64_t)d > max)
        return ss_err_set(e, SS_EDAMAGED, "'%.80s' is %.17g, expected a whole number %" PRId64 " to %" PRId64,
                          name, d, min, max);
    *out = (int64_t)d;
    return 1;
}

int ss_json_bool(const cJSON *o, const char *key, bool *out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsBool(v))
        return wrong(name, v, "true or false", e);
    *out = cJSON_IsTrue(v);
    return 1;
}

int ss_json_string(const cJSON *o, const char *key, size_t max, const char **out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsString(v))
        return wrong(name, v, "a string", e);
    if (strlen(v->valuestring) > max)
        return ss_err_set(e, SS_EDAMAGED, "'%.80s' has %zu bytes, expected at most %zu", name,
                          strlen(v->valuestring), max);
    *out = v->valuestring;
    return 1;
}

int ss_json_array(const cJSON *o, const char *key, const cJSON **out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsArray(v))
        return wrong(name, v, "an array", e);
    *out = v;
    return 1;
}

int ss_json_object(const cJSON *o, const char *key, const cJSON **out, ss_err *e)
{
    const char *name;
    const cJSON *v = member(o, key, &name);
    if (!v)
        return 0;
    if (!cJSON_IsObject(v))
        return wrong(name, v, "an object", e);
    *out = v;
    return 1;
}

int ss_json_needed(int got, const char *key, ss_err *e)
{
    if (got == 0)
        return ss_err_set(e, SS_EDAMAGED, "there is no '%s'", key);
    return got < 0 ? got : SS_OK;
}

int ss_json_only(const cJSON *o, const char *const *keys, size_t n, ss_err *e)
{
    for (const cJSON *c = o->child; c; c = c->next) {
        size_t i = 0;
        while (i < n && strcmp(keys[i], c->string))
            i++;
        if (i == n)
            return ss_err_set(e, SS_EDAMAGED, "unknown member '%.80s'", c->string);
    }
    return SS_OK;
}
