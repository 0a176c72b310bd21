#include "io/manifest.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/csv.h"
#include "io/sound.h"

#define MAX_SECONDS 1e9

static int no_memory(const ss_csv *c, ss_err *e)
{
    return ss_err_set(e, SS_ENOMEM, "'%s': no memory for its rows", ss_csv_file(c));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The different texts of a column but the empty one, in order. */
static int labels_make(ss_labels *l, const ss_csv *c, int column, ss_err *e)
{
    size_t rows = ss_csv_rows(c), n = 0;
    const char **all = ss_alloc(rows, sizeof *all);
    if (!all)
        return no_memory(c, e);
    for (size_t r = 0; r < rows; r++)
        if (*ss_csv_text(c, r, column))
            all[n++] = ss_csv_text(c, r, column);
    if (n)
        qsort(all, n, sizeof *all, by_text);
    size_t different = 0;
    for (size_t i = 0; i < n; i++)
        if (!i || strcmp(all[i], all[different - 1]))
            all[different++] = all[i];
    int rc = SS_OK;
    l->name = ss_zalloc(different, sizeof *l->name);
    if (!l->name)
        rc = no_memory(c, e);
    for (; !rc && l->n < different; l->n++)
        if (!(l->name[l->n] = ss_strdup(all[l->n]))) {
            rc = no_memory(c, e);
            break;
        }
    ss_free(all);
    return rc;
}

static void labels_clear(ss_labels *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        ss_free(l->name[i]);
    ss_free(l->name);
}

static int label_index(const ss_labels *l, const char *name)
{
    char **at = l->n ? bsearch(&name, l->name, l->n, sizeof *l->name, by_text) : NULL;
    return at ? (int)(at - l->name) : -1;
}

static int read_fold(const ss_csv *c, size_t row, int column, int *fold, ss_err *e)
{
    double v;
    *fold = -1;
    if (column < 0 || !*ss_csv_text(c, row, column))
        return SS_OK;
    int rc = ss_csv_real(c, row, column, 0, 1e6, &v, e);
    if (!rc && v != floor(v))
        rc = ss_err_set(e, SS_ERANGE, "'%s', line %zu: fold is '%s', expected a whole number", ss_csv_file(c),
                        ss_csv_line(c, row), ss_csv_text(c, row, column));
    if (!rc)
        *fold = (int)v;
    return rc;
}

/* where, taken apart: `column` and `text` point into a copy of it. */
enum { MAX_TERMS = 16 };
typedef struct choice {
    char *copy;
    int n;
    struct {
        int column;
        const char *text;
        bool equal;
    } term[MAX_TERMS];
} choice;

static int choice_make(choice *w, const char *where, const ss_csv *c, ss_err *e)
{
    if (!where)
        return SS_OK;
    w->copy = ss_strdup(where);
    if (!w->copy)
        return no_memory(c, e);
    for (char *at = w->copy; at;) {
        char *comma = strchr(at, ','), *op;
        if (comma)
            *comma = 0;
        op = strpbrk(at, "!=");
        if (!op || op[1] != '=' || op == at || w->n == MAX_TERMS)
            return ss_err_set(
                e, SS_EINVAL,
                "choice '%s': found '%s', expected at most %d comparisons like fold!=5 or label==dog", where,
                at, MAX_TERMS);
        w->term[w->n].equal = *op == '=';
        w->term[w->n].text = op + 2;
        *op = 0;
        w->term[w->n].column = ss_csv_need(c, at, e);
        if (w->term[w->n].column < 0)
            return w->term[w->n].column;
        w->n++;
        at = comma ? comma + 1 : NULL;
    }
    return SS_OK;
}

static bool chosen(const choice *w, const ss_csv *c, size_t row)
{
    for (int i = 0; i < w->n; i++)
        if (!strcmp(ss_csv_text(c, row, w->term[i].column), w->term[i].text) != w->term[i].equal)
            return false;
    return true;
}

int ss_manifest_open(ss_manifest **out, const char *path, const char *where, ss_err *e)
{
    ss_csv *c = NULL;
    ss_manifest *m = NULL;
    choice w = {0};
    *out = NULL;
    int rc = ss_csv_open(&c, path, e), file = 0, label, fold;
    if (!rc) {
        file = ss_csv_need(c, "file", e);
        rc = file < 0 ? file : choice_make(&w, where, c, e);
    }
    if (rc)
        goto out;
    label = ss_csv_find(c, "label");
    fold = ss_csv_find(c, "fold");
    m = ss_zalloc(1, sizeof *m);
    if (!m || !(m->clip = ss_zalloc(ss_csv_rows(c), sizeof *m->clip))) {
        rc = no_memory(c, e);
        goto out;
    }
    if (label >= 0)
        rc = labels_make(&m->labels, c, label, e);
    for (size_t r = 0; !rc && r < ss_csv_rows(c); r++) {
        ss_clip clip = {.number = r, .label = -1, .fold = -1};
        if (!*ss_csv_text(c, r, file))
            rc = ss_err_set(e, SS_EDAMAGED, "'%s', line %zu: no file", path, ss_csv_line(c, r));
        else
            rc = read_fold(c, r, fold, &clip.fold, e);
        if (rc || !chosen(&w, c, r))
            continue;
        if (label >= 0)
            clip.label = label_index(&m->labels, ss_csv_text(c, r, label));
        clip.path = ss_path_beside(path, ss_csv_text(c, r, file));
        if (clip.path)
            m->clip[m->n++] = clip;
        else
            rc = no_memory(c, e);
    }
out:
    ss_free(w.copy);
    ss_csv_free(c);
    if (rc)
        ss_manifest_free(m);
    else
        *out = m;
    return rc;
}

void ss_manifest_free(ss_manifest *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        ss_free(m->clip[i].path);
    ss_free(m->clip);
    labels_clear(&m->labels);
    ss_free(m);
}

static int by_start(const void *a, const void *b)
{
    const ss_stretch *p = a, *q = b;
    return p->start < q->start ? -1 : p->start > q->start;
}

int ss_track_open(ss_track **out, const char *path, double rate, ss_err *e)
{
    ss_csv *c = NULL;
    ss_track *t = NULL;
    *out = NULL;
    int rc = ss_csv_open(&c, path, e), start = 0, end = 0, label = 0, fold;
    if (!rc && ((start = ss_csv_need(c, "start_s", e)) < 0 || (end = ss_csv_need(c, "end_s", e)) < 0 ||
                (label = ss_csv_need(c, "label", e)) < 0))
        rc = SS_EUNFIT;
    if (rc)
        goto out;
    fold = ss_csv_find(c, "fold");
    t = ss_zalloc(1, sizeof *t);
    if (!t || !(t->stretch = ss_zalloc(ss_csv_rows(c), sizeof *t->stretch))) {
        rc = no_memory(c, e);
        goto out;
    }
    rc = labels_make(&t->labels, c, label, e);
    for (size_t r = 0; !rc && r < ss_csv_rows(c); r++) {
        double from, to;
        int f;
        rc = ss_csv_real(c, r, start, 0, MAX_SECONDS, &from, e);
        if (!rc)
            rc = ss_csv_real(c, r, end, from, MAX_SECONDS, &to, e);
        if (!rc)
            rc = read_fold(c, r, fold, &f, e);
        if (rc)
            break;
        ss_stretch s = {(uint64_t)floor(from * rate + 0.5), (uint64_t)floor(to * rate + 0.5),
                        label_index(&t->labels, ss_csv_text(c, r, label)), f};
        if (s.end > s.start)
            t->stretch[t->n++] = s;
    }
    if (rc)
        goto out;
    if (t->n)
        qsort(t->stretch, t->n, sizeof *t->stretch, by_start);
    for (size_t i = 1; i < t->n && !rc; i++)
        if (t->stretch[i].start < t->stretch[i - 1].end)
            rc = ss_err_set(e, SS_EDAMAGED,
                            "'%s': the stretch from %.4f s overlaps the one before, up to %.4f s", path,
                            (double)t->stretch[i].start / rate, (double)t->stretch[i - 1].end / rate);
out:
    ss_csv_free(c);
    if (rc)
        ss_track_free(t);
    else
        *out = t;
    return rc;
}

void ss_track_free(ss_track *t)
{
    if (!t)
        return;
    ss_free(t->stretch);
    labels_clear(&t->labels);
    ss_free(t);
}

ss_stretch ss_track_at(const ss_track *t, uint64_t at)
{
    /* The first stretch that ends behind `at`. */
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->stretch[middle].end > at)
            high = middle;
        else
            low = middle + 1;
    }
    if (low < t->n && t->stretch[low].start <= at)
        return t->stretch[low];
    return (ss_stretch){at, low < t->n ? t->stretch[low].start : UINT64_MAX, -1, -1};
}
