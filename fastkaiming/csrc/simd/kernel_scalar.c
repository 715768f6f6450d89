/* kernel_scalar.c - the kernels in plain C: any machine. */
#include "vec_scalar.h"
#define FK_ISA scalar
#include "kernel.inc"
