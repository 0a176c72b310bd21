#include "ops.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "side.h"

struct ops_options ops_options(int argc, char **argv)
{
    static const struct option longs[] = {{"steps", 1, NULL, 's'}, {"input", 1, NULL, 'i'},
                                          {"batch", 1, NULL, 'b'}, {"threads", 1, NULL, 't'},
                                          {"ms", 1, NULL, 'm'},    {NULL, 0, NULL, 0}};
    struct ops_options o = {NULL, NULL, 1, 1, 5};
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o.steps = optarg;
            break;
        case 'i':
            o.input = optarg;
            break;
        case 'b':
            o.batch = atoi(optarg);
            break;
        case 't':
            o.threads = atoi(optarg);
            break;
        case 'm':
            o.ms = atof(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (!o.steps || !o.input || o.batch < 1 || o.threads < 1 || optind < argc)
        exit(2);
    return o;
}

static void take(void *to, size_t size, size_t n, FILE *f, const char *path)
{
    if (fread(to, size, n, f) == n)
        return;
    fprintf(stderr, "'%s' is no list of steps\n", path);
    exit(1);
}

void ops_read(struct ops *o, const char *path)
{
    int32_t n[4];
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) {
        fprintf(stderr, "cannot read the steps '%s'\n", path ? path : "");
        exit(1);
    }
    take(n, sizeof *n, 4, f, path);
    *o = (struct ops){n[0], n[1], n[2], n[3], calloc((size_t)n[0], sizeof(struct op))};
    if (!o->op)
        abort();
    for (int i = 0; i < o->n; i++) {
        struct op *p = &o->op[i];
        take(&p->head, sizeof p->head, 1, f, path);
        p->weight = side_room((size_t)p->head.weights + 1);
        p->bias = side_room((size_t)p->head.biases + 1);
        take(p->weight, sizeof(float), (size_t)p->head.weights, f, path);
        take(p->bias, sizeof(float), (size_t)p->head.biases, f, path);
    }
    fclose(f);
}

static int step_of(const struct ops *o, int cut)
{
    for (int i = 0; i < o->n; i++)
        if (cut && o->op[i].head.cut == cut)
            return i;
    return -1;
}

void ops_between(const struct ops *o, int from, int until, int *first, int *last)
{
    *first = step_of(o, from) + 1;
    *last = step_of(o, until) + 1;
}

void ops_shape(const struct ops *o, int i, int shape[3])
{
    const struct op_head *h = i < 0 ? NULL : &o->op[i].head;
    shape[0] = h ? h->c : o->c;
    shape[1] = h ? h->h : o->h;
    shape[2] = h ? h->w : o->w;
}

int ops_volume(const struct ops *o, int cut)
{
    int s[3];
    ops_shape(o, step_of(o, cut), s);
    return s[0] * s[1] * s[2];
}
