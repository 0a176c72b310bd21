/**
 * The network as a list of steps, for the engines that are not ours: what network.py's write_flat writes. All
 * norms are folded; shapes are of one window, [c][h][w].
 */
#ifndef SS_BENCH_OPS_H
#define SS_BENCH_OPS_H

#include <stdint.h>

enum op_kind { OP_SUB, OP_CONV, OP_MAXPOOL, OP_ADDRELU, OP_MEAN, OP_LINEAR, OP_NORMALISE };

/** As in the file. a, b: the steps it reads, -1 the input of the network. */
struct op_head {
    int32_t kind, a, b;
    int32_t cut; /* it makes: 1 + blocks, 10 the embedding (SS_CUT_...), 0 none */
    int32_t c, h, w;
    int32_t size, stride, pad, relu; /* of a convolution */
    int32_t weights, biases;         /* floats that follow; of OP_SUB the bias is the mean */
};

struct op {
    struct op_head head;
    float *weight, *bias; /* convolution OIHW, linear [out][in] */
};

struct ops {
    int n, c, h, w; /* shape of the input */
    struct op *op;
};

struct ops_options {
    const char *steps, *input; /* files */
    int batch, threads;
    double ms;
};

/** --steps=FILE --input=FILE --batch=B --threads=T --ms=MS; ends the program when it is used otherwise. */
struct ops_options ops_options(int argc, char **argv);
/** Ends the program when the file is not one. */
void ops_read(struct ops *o, const char *path);
/** Steps first .. last - 1 lead from one cut to another. */
void ops_between(const struct ops *o, int from, int until, int *first, int *last);
/** Floats of a window at a cut. */
int ops_volume(const struct ops *o, int cut);
/** Shape of what step i makes; -1: of the input. */
void ops_shape(const struct ops *o, int i, int shape[3]);

#endif
