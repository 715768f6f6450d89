/* kernel_neon.c - the kernels in Advanced SIMD: every AArch64 machine. */
#if defined(__aarch64__)
#include "vec_neon.h"
#define FK_ISA neon
#include "kernel.inc"
#endif
