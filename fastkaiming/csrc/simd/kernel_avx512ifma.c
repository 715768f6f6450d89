/* kernel_avx512ifma.c - the kernels for AVX-512 F, DQ, BW, VL, IFMA, VBMI2: Ice Lake and later, Zen 4 and later. */
#if defined(__x86_64__)
#include <immintrin.h>
/* Tuned for the CPUs that prefer these kernels, which makes normals 1% faster (docs/experiments.md). */
#define FK_TARGET "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2,fma,tune=icelake-server"
#include "simd/target_begin.h"
#include "simd/vec_avx512ifma.h"
#define FK_ISA avx512ifma
#include "simd/kernel.inc"
#include "simd/target_end.h"
#endif
