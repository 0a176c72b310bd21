#!/bin/sh
# The check program for ARM64 under qemu: SS_SRC names the source tree. Skipped without the cross compiler.
# Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
set -eu
command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64-static >/dev/null || {
    echo "1..0 # SKIP no aarch64-linux-gnu-gcc or qemu-aarch64-static"
    exit 0
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/config.h" <<END
#define SS_HAVE_X86 0
#define SS_HAVE_ARM64 1
#define SS_HAVE_AVX512 0
#define SS_HAVE_AVX512VNNI 0
#define SS_HAVE_DOTPROD 1
END
cd "$SS_SRC"
cc() {
    aarch64-linux-gnu-gcc -std=c11 -D_GNU_SOURCE -O3 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -Wno-unused-parameter \
        -Wno-missing-field-initializers -Ilib -I"$scratch" "$@"
}
cc -march=armv8.2-a+dotprod -c lib/kernels/arm/neon_dotprod.c -o "$scratch/dotprod.o"
cc -static tests/kernels/check.c lib/kernels/*.c lib/kernels/arm/neon.c lib/kernels/arm/neon_i8.c "$scratch/dotprod.o" \
    lib/base/cpu.c lib/base/err.c lib/base/mem.c lib/base/pool.c lib/base/rng.c -lm -lpthread -o "$scratch/check"
qemu-aarch64-static -cpu "${1:-cortex-a72}" "$scratch/check"
