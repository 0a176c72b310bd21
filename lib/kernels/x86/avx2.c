#include "kernels/x86/vec_avx2.h"
#include "kernels/elements.h"

const ss_kernel_table ss_kernels_avx2 = {ELEMENTS};
