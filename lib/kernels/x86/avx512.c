#include "kernels/x86/vec_avx512.h"
#include "kernels/elements.h"
#include "kernels/memory_vec.h"
#include "kernels/sound_vec.h"

#define REGISTERS         32
#define CONV_TILES_1(X)   X(24, 1) X(16, 1) X(12, 1) X(8, 1) X(6, 1) X(4, 1) X(3, 1) X(2, 1) X(1, 1)
#define CONV_TILES_2(X)   X(12, 2) X(8, 2) X(6, 2) X(4, 2) X(3, 2) X(2, 2) X(1, 2)
#define CONV_TILES_W(X)   X(6, 4) X(4, 4) X(3, 4) X(2, 4) X(1, 4)
#define CONV_TILES_4(X)   X(12, 2) X(8, 2) CONV_TILES_W(X)
#define CONV_TILES_ALL(X) CONV_TILES_1(X) CONV_TILES_2(X) CONV_TILES_W(X)
#define DW_TILES_1(X)     X(16, 1) X(8, 1) X(4, 1) X(2, 1) X(1, 1)
#define DW_TILES_2(X)     X(12, 2) X(8, 2) X(4, 2) X(2, 2) X(1, 2)
#define DW_TILES_APART(X) X(25, 1) X(24, 1) X(16, 1) X(8, 1) X(4, 1) X(2, 1) X(1, 1)
#define DW_PANELS         2
#include "kernels/tiles.h"
#include "kernels/winograd_vec.h"

const ss_kernel_table ss_kernels_avx512 = {ELEMENTS, TILES, WINOGRAD, MEMORY, SOUND};
