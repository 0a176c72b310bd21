#include "kernels/x86/vec_sse41.h"
#include "kernels/elements.h"
#include "kernels/memory_vec.h"
#include "kernels/sound_vec.h"

/* Two pixels: 8 sums and their weights. Three (12 sums, weights loaded for each pixel) are no faster. */
#define REGISTERS         16
#define CONV_TILES_1(X)   X(2, 1) X(1, 1)
#define CONV_TILES_2(X)   CONV_TILES_1(X)
#define CONV_TILES_4(X)   CONV_TILES_1(X)
#define CONV_TILES_W(X)   CONV_TILES_1(X)
#define CONV_TILES_ALL(X) CONV_TILES_1(X)
#define DW_TILES_1(X)     X(2, 1) X(1, 1)
#define DW_TILES_2(X)
#define DW_TILES_APART(X) DW_TILES_1(X)
#define DW_PANELS         1
#include "kernels/tiles.h"
#include "kernels/winograd_vec.h"

const ss_kernel_table ss_kernels_sse41 = {ELEMENTS, TILES, WINOGRAD, MEMORY, SOUND};
