#include "kernels/arm/vec_neon.h"
#include "kernels/elements.h"
#include "kernels/memory_vec.h"
#include "kernels/sound_vec.h"

#define REGISTERS         32
#define CONV_TILES_1(X)   X(6, 1) X(4, 1) X(3, 1) X(2, 1) X(1, 1)
#define CONV_TILES_W(X)   X(2, 2) X(1, 2)
#define CONV_TILES_2(X)   X(6, 1) X(4, 1) CONV_TILES_W(X)
#define CONV_TILES_4(X)   CONV_TILES_2(X)
#define CONV_TILES_ALL(X) CONV_TILES_1(X) CONV_TILES_W(X)
#define DW_TILES_1(X)     X(6, 1) X(5, 1) X(4, 1) X(3, 1) X(2, 1) X(1, 1)
#define DW_TILES_2(X)
#define DW_TILES_APART(X) DW_TILES_1(X)
#define DW_PANELS         1
#include "kernels/tiles.h"
#include "kernels/winograd_vec.h"

const ss_kernel_table ss_kernels_neon = {ELEMENTS, TILES, WINOGRAD, MEMORY, SOUND};
