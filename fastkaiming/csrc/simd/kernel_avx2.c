/* kernel_avx2.c - the kernels for AVX2, FMA and F16C: Haswell and later, Zen and later. */
#if defined(__x86_64__)
#include <immintrin.h>
#define FK_TARGET "avx2,fma,f16c"
#include "simd/target_begin.h"
#include "simd/vec_avx2.h"
#define FK_ISA avx2
#include "simd/kernel.inc"
#include "simd/target_end.h"
#endif
