/* kernel_avx2.c - the kernels in AVX2, FMA and F16C: Haswell and later, Zen and later. */
#if defined(__x86_64__)
#include <immintrin.h>
#define FK_TARGET "avx2,fma,f16c"
#include "target_begin.h"
#include "vec_avx2.h"
#define FK_ISA avx2
#include "kernel.inc"
#include "target_end.h"
#endif
