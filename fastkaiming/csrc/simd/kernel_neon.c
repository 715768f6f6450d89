/* kernel_neon.c - the kernels for Advanced SIMD: every AArch64 machine. */
#if defined(__aarch64__)
#include "simd/vec_neon.h"
#define FK_ISA neon
#include "simd/kernel.inc"
#endif
