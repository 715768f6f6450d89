/* vec_avx512.h - the vector operations in AVX-512 F, DQ, BW and VL. vec_scalar.h defines each operation. */
#ifndef FASTKAIMING_VEC_AVX512_H
#define FASTKAIMING_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define FK_W64 8
#define FK_GROUPS 4
#define FK_INLINE_UNLESS_SCALAR FK_INLINE

typedef __m512i v_u64;
typedef __m512i v_u32;
typedef __m512 v_f32;
typedef __m512d v_f64;
typedef __mmask16 v_m32;
typedef __mmask8 v_m64;

/* 64-bit lanes: the Philox state. */

static inline v_u64 vq_set1(uint64_t x) { return _mm512_set1_epi64((long long)x); }
static inline v_u64 vq_load(const uint64_t *p) { return _mm512_loadu_si512(p); }
static inline v_u64 vq_add(v_u64 a, v_u64 b) { return _mm512_add_epi64(a, b); }
static inline v_u64 vq_xor(v_u64 a, v_u64 b) { return _mm512_xor_si512(a, b); }
static inline v_u64 vq_xor3(v_u64 a, v_u64 b, v_u64 c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
static inline v_u64 vq_or(v_u64 a, v_u64 b) { return _mm512_or_si512(a, b); }
static inline v_u64 vq_and_or(v_u64 a, v_u64 mask, v_u64 b) { return _mm512_ternarylogic_epi64(a, mask, b, 0xEA); }
static inline v_u64 vq_mul32(v_u64 a, v_u64 b) { return _mm512_mul_epu32(a, b); }
static inline v_u64 vq_high32(v_u64 a) { return _mm512_srli_epi64(a, 32); }
static inline v_u64 vq_top_bit(v_u64 a) { return _mm512_srli_epi64(a, 63); }
static inline v_u64 vq_sign(v_u64 a) { return _mm512_srai_epi64(a, 63); }
#define vq_shl(a, n) _mm512_slli_epi64(a, n)
#define vq_sar(a, n) _mm512_srai_epi64(a, n)
#define vq_bit(a, n) _mm512_test_epi64_mask(a, _mm512_set1_epi64(1LL << (n)))

static inline v_u32 vq_interleave(v_u64 even, v_u64 odd) {
    return _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
}

static inline v_u32 vq_interleave_high(v_u64 even, v_u64 odd) {
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}

static inline v_u64 vq_swap_halves(v_u64 a) { return _mm512_shuffle_epi32(a, _MM_PERM_CDAB); }

static inline v_u64 vq_xor3_low(v_u64 a, v_u64 b, v_u64 c) {
    return _mm512_mask_ternarylogic_epi32(a, 0x5555, b, c, 0x96);
}

static inline v_u32 vq_halves(v_u64 a) { return a; }
static inline v_u64 vw_pairs(v_u32 a) { return a; }

static inline void vq_store4(uint32_t *p, v_u64 even_a, v_u64 odd_a, v_u64 even_b, v_u64 odd_b) {
    _mm512_storeu_si512(p, _mm512_unpacklo_epi64(even_a, odd_a));
    _mm512_storeu_si512(p + 16, _mm512_unpacklo_epi64(even_b, odd_b));
    _mm512_storeu_si512(p + 32, _mm512_unpackhi_epi64(even_a, odd_a));
    _mm512_storeu_si512(p + 48, _mm512_unpackhi_epi64(even_b, odd_b));
}

/* 32-bit lanes. */

static inline v_u32 vw_set1(uint32_t x) { return _mm512_set1_epi32((int)x); }
static inline v_u32 vw_and_or(v_u32 a, v_u32 mask, v_u32 b) { return _mm512_ternarylogic_epi32(a, mask, b, 0xEA); }
static inline v_u32 vw_xor(v_u32 a, v_u32 b) { return _mm512_xor_si512(a, b); }
static inline v_u32 vw_xor3(v_u32 a, v_u32 b, v_u32 c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
static inline v_u32 vw_or(v_u32 a, v_u32 b) { return _mm512_or_si512(a, b); }
static inline v_u32 vw_and(v_u32 a, v_u32 b) { return _mm512_and_si512(a, b); }
static inline v_u32 vw_add(v_u32 a, v_u32 b) { return _mm512_add_epi32(a, b); }
static inline v_u32 vw_max(v_u32 a, v_u32 b) { return _mm512_max_epu32(a, b); }
#define vw_shl(a, n) _mm512_slli_epi32(a, n)
#define vw_shr(a, n) _mm512_srli_epi32(a, n)
#define vw_sar(a, n) _mm512_srai_epi32(a, n)
#define vw_bit(a, n) _mm512_test_epi32_mask(a, _mm512_set1_epi32(1 << (n)))

/* Selects bytes within 128-bit lanes. */
static inline v_u32 vw_stack16(v_u32 upper, v_u32 lower) {
    return _mm512_mask_alignr_epi8(upper, 0x3333333333333333, lower, lower, 2);
}

static inline v_u32 vw_stack8(v_u32 upper, v_u32 lower) {
    return _mm512_mask_alignr_epi8(upper, 0x7777777777777777, lower, lower, 1);
}

static inline void vw_store4(uint32_t *p, v_u32 a, v_u32 b, v_u32 c, v_u32 d) {
    const __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
    const __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
    _mm512_storeu_si512(p, _mm512_unpacklo_epi64(ab0, cd0));
    _mm512_storeu_si512(p + 16, _mm512_unpackhi_epi64(ab0, cd0));
    _mm512_storeu_si512(p + 32, _mm512_unpacklo_epi64(ab1, cd1));
    _mm512_storeu_si512(p + 48, _mm512_unpackhi_epi64(ab1, cd1));
}

static inline void vw_store2(uint16_t *p, v_u32 ab, v_u32 cd) {
    _mm512_storeu_si512(p, _mm512_unpacklo_epi32(ab, cd));
    _mm512_storeu_si512(p + 32, _mm512_unpackhi_epi32(ab, cd));
}

static inline void vw_store1(uint8_t *p, v_u32 abcd) { _mm512_storeu_si512(p, abcd); }

/* Single precision. */

static inline v_f32 vf_set1(float x) { return _mm512_set1_ps(x); }
static inline v_f32 vf_from_i32(v_u32 a) { return _mm512_cvtepi32_ps(a); }
static inline v_f32 vf_from_bits(v_u32 a) { return _mm512_castsi512_ps(a); }
static inline v_u32 vf_to_bits(v_f32 a) { return _mm512_castps_si512(a); }
static inline v_f32 vf_add(v_f32 a, v_f32 b) { return _mm512_add_ps(a, b); }
static inline v_f32 vf_sub(v_f32 a, v_f32 b) { return _mm512_sub_ps(a, b); }
static inline v_f32 vf_mul(v_f32 a, v_f32 b) { return _mm512_mul_ps(a, b); }
static inline v_f32 vf_fma(v_f32 a, v_f32 b, v_f32 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v_f32 vf_fms(v_f32 a, v_f32 b, v_f32 c) { return _mm512_fmsub_ps(a, b, c); }
static inline v_f32 vf_fnma(v_f32 a, v_f32 b, v_f32 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline v_f32 vf_div(v_f32 a, v_f32 b) { return _mm512_div_ps(a, b); }
static inline v_f32 vf_sqrt(v_f32 a) { return _mm512_sqrt_ps(a); }
static inline v_f32 vf_min(v_f32 a, v_f32 b) { return _mm512_min_ps(a, b); }
static inline v_f32 vf_max(v_f32 a, v_f32 b) { return _mm512_max_ps(a, b); }

static inline void vf_swap_where(v_m32 m, v_f32 *a, v_f32 *b) {
    const v_f32 before = *a;
    *a = _mm512_mask_blend_ps(m, before, *b);
    *b = _mm512_mask_blend_ps(m, *b, before);
}

/* The mask of the positive lanes is what the masked subtraction and getexp need; a mask of the negative lanes would
 * have to be inverted first. */
static inline v_m32 vf_positive(v_f32 a) { return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GE_OQ); }

static inline v_f32 vf_by_sign(v_f32 a, v_f32 negative, v_f32 positive) {
    return _mm512_mask_blend_ps(vf_positive(a), negative, positive);
}

static inline v_f32 vf_flip_sign(v_f32 a, v_u32 sign) {
    const __m512i bit = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), sign, bit, 0x78));
}

static inline v_f32 vf_exponent(v_f32 a) { return _mm512_getexp_ps(a); }
static inline v_f32 vf_exponent_or_0(v_f32 a) { return _mm512_maskz_getexp_ps(vf_positive(a), a); }
static inline v_f32 vf_significand(v_f32 a) { return _mm512_getmant_ps(a, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero); }

/* A permutation moves the halves of `odd` to the upper halves of the lanes; its indices are the lane numbers. */
static inline v_u32 vf_pack_f16(v_f32 even, v_f32 odd) {
    const __m256i low = _mm512_cvtps_ph(even, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i high = _mm512_cvtps_ph(odd, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512i lane = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16, 8 << 16,
                                          7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
    return _mm512_mask_permutexvar_epi16(_mm512_cvtepu16_epi32(low), 0xAAAAAAAA, lane, _mm512_castsi256_si512(high));
}

/* Rounds two numbers at a time in 16-bit lanes: the upper half is incremented if the lower half is above 0x8000, or
 * equal to it and the upper half is odd. */
static inline v_u32 vf_pack_bf16(v_f32 even, v_f32 odd) {
    const __m512i a = _mm512_castps_si512(even), b = _mm512_castps_si512(odd);
    const __m512i upper = vw_stack16(b, a), lower = _mm512_mask_alignr_epi8(a, 0xCCCCCCCCCCCCCCCC, b, b, 14);
    const __m512i one = _mm512_set1_epi16(1), half = _mm512_set1_epi16(INT16_MIN);
    const __m512i least =
        _mm512_ternarylogic_epi32(upper, one, half, 0xAE); /* half, plus one if the upper half is even */
    return _mm512_mask_add_epi16(upper, _mm512_cmpge_epu16_mask(lower, least), upper, one);
}

/* Double precision. */

static inline v_f64 vd_set1(double x) { return _mm512_set1_pd(x); }
static inline v_f64 vd_from_i64(v_u64 a) { return _mm512_cvtepi64_pd(a); }

static inline v_u64 vd_to_bits(v_f64 a) { return _mm512_castpd_si512(a); }
static inline v_u64 vd_to_f32(v_f64 a) { return _mm512_cvtepu32_epi64(_mm256_castps_si256(_mm512_cvtpd_ps(a))); }
static inline v_f64 vd_sub(v_f64 a, v_f64 b) { return _mm512_sub_pd(a, b); }
static inline v_f64 vd_div(v_f64 a, v_f64 b) { return _mm512_div_pd(a, b); }
static inline v_f64 vd_mul(v_f64 a, v_f64 b) { return _mm512_mul_pd(a, b); }
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) { return _mm512_fmadd_pd(a, b, c); }
static inline v_f64 vd_fnma(v_f64 a, v_f64 b, v_f64 c) { return _mm512_fnmadd_pd(a, b, c); }
static inline v_f64 vd_sqrt(v_f64 a) { return _mm512_sqrt_pd(a); }
static inline v_f64 vd_min(v_f64 a, v_f64 b) { return _mm512_min_pd(a, b); }
static inline v_f64 vd_max(v_f64 a, v_f64 b) { return _mm512_max_pd(a, b); }

static inline void vd_swap_where(v_m64 m, v_f64 *a, v_f64 *b) {
    const v_f64 before = *a;
    *a = _mm512_mask_blend_pd(m, before, *b);
    *b = _mm512_mask_blend_pd(m, *b, before);
}

static inline v_m64 vd_positive(v_f64 a) { return _mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_GE_OQ); }

static inline v_f64 vd_by_sign(v_f64 a, v_f64 negative, v_f64 positive) {
    return _mm512_mask_blend_pd(vd_positive(a), negative, positive);
}

static inline v_f64 vd_flip_sign(v_f64 a, v_u64 sign) {
    const __m512i bit = _mm512_set1_epi64(INT64_MIN);
    return _mm512_castsi512_pd(_mm512_ternarylogic_epi64(_mm512_castpd_si512(a), sign, bit, 0x78));
}

static inline v_f64 vd_exponent(v_f64 a) { return _mm512_getexp_pd(a); }
static inline v_f64 vd_exponent_or_0(v_f64 a) { return _mm512_maskz_getexp_pd(vd_positive(a), a); }
static inline v_f64 vd_significand(v_f64 a) { return _mm512_getmant_pd(a, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero); }

static inline v_u64 vd_interval(v_u64 word, v_f64 a) {
    return _mm512_mask_srli_epi64(_mm512_srli_epi64(word, 59), vd_positive(a), _mm512_castpd_si512(a), 48);
}

static inline v_u64 vd_interval_of(v_f64 a) { return _mm512_srli_epi64(_mm512_castpd_si512(a), 48); }

static inline v_f64 vd_lookup2(const double *table, v_u64 index) {
    return _mm512_permutevar_pd(_mm512_broadcast_f64x2(_mm_loadu_pd(table)), _mm512_slli_epi64(index, 1));
}

/* The eight lanes contain the four entries twice; the second copy is never selected. */
static inline v_f64 vd_lookup4(const double *table, v_u64 index) {
    return _mm512_permutexvar_pd(index, _mm512_broadcast_f64x4(_mm256_loadu_pd(table)));
}

static inline v_f64 vd_lookup16(const double *table, v_u64 index) {
    return _mm512_permutex2var_pd(_mm512_loadu_pd(table), index, _mm512_loadu_pd(table + 8));
}

/* Streaming stores. */

#define FK_HAS_STREAMING_STORES 1

static inline void v_store_streaming(void *out, const void *from) {
    _mm512_stream_si512((__m512i *)out, _mm512_loadu_si512(from));
}

static inline void v_streaming_fence(void) { _mm_sfence(); }

#ifndef FASTKAIMING_VEC_AVX512IFMA_H /* vec_avx512ifma.h has instructions for these */
#include "simd/vec_composed.h"
#endif

#endif
