/**
 * JSON that comes from outside, read strictly: stream headers, model metadata, policies, profiles.
 *
 * The text is parsed by its length and must be one value with nothing behind it, valid UTF-8, without NUL, in
 * the grammar of RFC 8259, without duplicate keys and without numbers that overflow; size, depth and number
 * of values are capped before any tree is built. What passes is a cJSON tree, which the caller releases with
 * cJSON_Delete.
 * The getters look up one member of an object: 1 and the value, 0 when there is none (*out is left as it
 * was), negative on a wrong type or range, with a text that names the member, what was found and what was
 * expected. Nothing is shared: safe from several threads on different trees.
 */
#ifndef SS_IO_JSON_H
#define SS_IO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_JSON_MAX_SIZE   ((size_t)16 << 20) /* bytes of text */
#define SS_JSON_MAX_DEPTH  32
#define SS_JSON_MAX_VALUES 200000

struct cJSON;

/** Parse text [n]. `what` leads the error text: "header", "model metadata". SS_EDAMAGED, SS_ELIMIT,
 * SS_ENOMEM. */
int ss_json_parse(struct cJSON **tree, const char *text, size_t n, const char *what, ss_err *e);

/** The value as compact text, to be released with ss_free, or NULL when memory is refused. */
char *ss_json_print(const struct cJSON *v);

/** The same for people: each member of the object `v` on a line of its own, and each element of a member that
 * is an array of objects; a line break at the end. */
char *ss_json_print_lines(const struct cJSON *v);

/** A file read and parsed: the errors of io/text.h too; `what` and the path lead the text. */
int ss_json_read(struct cJSON **tree, const char *path, const char *what, ss_err *e);

/** Members of object `o` by key. Errors: SS_EDAMAGED. A NULL `key` takes `o` itself as the value. */
int ss_json_number(const struct cJSON *o, const char *key, double min, double max, double *out, ss_err *e);
/** Whole numbers that a double holds exactly: within +-2^53. */
int ss_json_int(const struct cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, ss_err *e);
int ss_json_bool(const struct cJSON *o, const char *key, bool *out, ss_err *e);
/** *out points into the tree; at most max bytes. */
int ss_json_string(const struct cJSON *o, const char *key, size_t max, const char **out, ss_err *e);
int ss_json_array(const struct cJSON *o, const char *key, const struct cJSON **out, ss_err *e);
int ss_json_object(const struct cJSON *o, const char *key, const struct cJSON **out, ss_err *e);

/** What one of these returned for `key`, where the member must be there: SS_OK, or negative (none:
 * SS_EDAMAGED). */
int ss_json_needed(int got, const char *key, ss_err *e);

/** Refuse members of `o` other than keys[n]: SS_EDAMAGED, naming the first. */
int ss_json_only(const struct cJSON *o, const char *const *keys, size_t n, ss_err *e);

/** Is text [n] valid UTF-8 without NUL? */
bool ss_utf8_valid(const char *text, size_t n);

#endif
