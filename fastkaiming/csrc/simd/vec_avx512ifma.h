/* vec_avx512ifma.h - the vector operations of vec_avx512.h, and those of vec_composed.h in instructions of IFMA and
 * VBMI2. */
#ifndef FASTKAIMING_VEC_AVX512IFMA_H
#define FASTKAIMING_VEC_AVX512IFMA_H

#include "simd/vec_avx512.h"

/* VPMADD52HUQ reads 52 bits of each factor, so the high half of a factor must be 0: the xor that computes the factor
 * clears it with a mask. The assembly hides the value of the mask from the compiler. If clang 14 knows the value, it
 * clears the half in a separate instruction and turns some products into VPMULLQ, which takes three times as long. */
static inline __mmask16 fk_low_halves(void) {
    __mmask16 mask = 0x5555;
    __asm__("" : "+k"(mask));
    return mask;
}

static inline v_u64 vq_xor_factor(v_u64 a, v_u64 b) { return _mm512_maskz_xor_epi32(fk_low_halves(), a, b); }

static inline v_u64 vq_xor3_factor(v_u64 a, v_u64 b, v_u64 c) {
    return _mm512_maskz_ternarylogic_epi32(fk_low_halves(), a, b, c, 0x96);
}

/* (a m 2^20) >> 52. A core with two ports for 512-bit vectors can multiply on both, but shift on only one. */
static inline v_u64 vq_mul32_high(v_u64 product, v_u64 a, uint32_t m) {
    (void)product;
    return _mm512_madd52hi_epu64(_mm512_setzero_si512(), a, vq_set1((uint64_t)m << 20));
}

/* VPSHLDD and VPSHLDQ shift in the upper bits of a second operand. */
#define vw_shl_or(a, n, bits) _mm512_shldi_epi32(a, vw_set1((uint32_t)(bits) << (32 - (n))), n)
#define vq_shl_or(a, n, bits) _mm512_shldi_epi64(a, vq_set1((uint64_t)(bits) << (64 - (n))), n)

#endif
