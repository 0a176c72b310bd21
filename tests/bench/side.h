/**
 * One side of a comparison: commands on standard input, a line for each on standard output (README.md, "The
 * line protocol"). What a command needs is opened when it first comes.
 */
#ifndef SS_BENCH_SIDE_H
#define SS_BENCH_SIDE_H

#include <stdbool.h>
#include <stddef.h>

struct side {
    int batch;
    double least_ms; /* of a measurement */
    /* Do "encode K", "finish K", "step", once; false: there is no such thing here. */
    bool (*once)(const char *what, int k);
    /* What the last "encode K" or "finish K" gave: *n floats as on the wire. NULL: nothing did. */
    const float *(*result)(const char *what, int k, size_t *n);
    /* Other windows from now on; false: the file does not hold them. */
    bool (*input)(const char *path);
};

/** Microseconds for a window: once to warm up, then over at least least_ms; NAN: no such thing. */
double side_measure(const struct side *s, const char *what, int k);
/** Until the end of standard input; the exit status. */
int side_serve(const struct side *s);
/** n floats of a file. */
bool side_read(const char *path, float *to, size_t n);
/** n floats, zeros, 64-byte aligned; ends the program when there are none. */
float *side_room(size_t n);

#endif
