/**
 * Models to and from other programs: PyTorch/torchvision ResNet-18 state dicts saved as safetensors.
 * Errors: those of io/safetensors.h; SS_EUNFIT (names or shapes that are not a ResNet-18's, values that are
 * not finite), SS_ERANGE (configuration).
 */
#ifndef SS_NN_EXCHANGE_H
#define SS_NN_EXCHANGE_H

#include "model.h"

typedef struct ss_import_note {
    int channels;  /* of the first layer in the file: more than one were summed */
    int fresh_fc;  /* 1: the file's fc did not fit, or there was none; a new one was drawn from the seed */
    int converted; /* tensors that were not F32 */
} ss_import_note;

/**
 * A model with batch norm from a state dict. Of `c`, width and norm are taken from the file; the rest is the
 * caller's. The channels of the first layer are summed, which is the same as giving each the one there is. An
 * fc of [c->dim][8 width] is kept, another one replaced. num_batches_tracked is passed over. `note` may be
 * NULL.
 */
int ss_model_import(ss_model **m, const char *path, const ss_model_config *c, uint64_t seed,
                    ss_import_note *note, ss_err *e);

/**
 * A state dict for a ResNet-18 whose first layer has one channel: conv1, bn1, layer1.0.conv1 ... fc, all F32,
 * without num_batches_tracked. It takes (x - input_mean) * input_scale and gives the embedding before it is
 * normalised. batch   as it is weight  the weights standardised, gains and those of ReLU multiplied in;
 * running statistics that change nothing (mean 0, variance 1 - SS_NORM_EPS): any ResNet-18 with batch norm in
 * eval mode runs it group   the weights standardised, no running statistics: for a ResNet-18 with group norm,
 * width / 8 groups and up What the file holds is said in its metadata ("norm", "input_mean", "input_scale",
 * "format": "pt").
 */
int ss_model_export(const ss_model *m, const char *path, ss_err *e);

#endif
