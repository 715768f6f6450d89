/* kernel_scalar.c - the kernels in plain C: any machine. */
#include "simd/vec_scalar.h"
#define FK_ISA scalar
#include "simd/kernel.inc"
