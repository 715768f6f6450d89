/* kernel_avx512.c - the kernels for AVX-512 F, DQ, BW, VL: Skylake-SP and later, Zen 4 and later. */
#if defined(__x86_64__)
#include <immintrin.h>
#define FK_TARGET "avx512f,avx512dq,avx512bw,avx512vl,fma"
#include "simd/target_begin.h"
#include "simd/vec_avx512.h"
#define FK_ISA avx512
#include "simd/kernel.inc"
#include "simd/target_end.h"
#endif
