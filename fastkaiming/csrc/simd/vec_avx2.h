/* vec_avx2.h - the vector operations in AVX2, FMA and F16C. vec_scalar.h defines each operation. */
#ifndef FASTKAIMING_VEC_AVX2_H
#define FASTKAIMING_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define FK_W64 4
#define FK_GROUPS 4
#define FK_INLINE_UNLESS_SCALAR FK_INLINE

typedef __m256i v_u64;
typedef __m256i v_u32;
typedef __m256 v_f32;
typedef __m256d v_f64;
typedef __m256 v_m32; /* the sign bit of each lane is its truth value, which blend instructions read */
typedef __m256d v_m64;

/* 64-bit lanes: the Philox state. */

static inline v_u64 vq_set1(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
static inline v_u64 vq_load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline v_u64 vq_add(v_u64 a, v_u64 b) { return _mm256_add_epi64(a, b); }
static inline v_u64 vq_or(v_u64 a, v_u64 b) { return _mm256_or_si256(a, b); }
static inline v_u64 vq_and_or(v_u64 a, v_u64 mask, v_u64 b) { return _mm256_or_si256(_mm256_and_si256(a, mask), b); }
static inline v_u64 vq_xor(v_u64 a, v_u64 b) { return _mm256_xor_si256(a, b); }
static inline v_u64 vq_xor3(v_u64 a, v_u64 b, v_u64 c) { return _mm256_xor_si256(a, _mm256_xor_si256(b, c)); }
static inline v_u64 vq_mul32(v_u64 a, v_u64 b) { return _mm256_mul_epu32(a, b); }
static inline v_u64 vq_high32(v_u64 a) { return _mm256_srli_epi64(a, 32); }
static inline v_u64 vq_top_bit(v_u64 a) { return _mm256_srli_epi64(a, 63); }
static inline v_u64 vq_sign(v_u64 a) { return _mm256_cmpgt_epi64(_mm256_setzero_si256(), a); }
static inline v_m64 vq_bit(v_u64 a, int n) { return _mm256_castsi256_pd(_mm256_slli_epi64(a, 63 - n)); }
static inline v_u64 vq_shl(v_u64 a, int n) { return _mm256_slli_epi64(a, n); }

/* There is no 64-bit arithmetic shift: the sign bits come from a comparison. */
static inline v_u64 vq_sar(v_u64 a, int n) {
    return _mm256_or_si256(_mm256_srli_epi64(a, n), _mm256_slli_epi64(vq_sign(a), 64 - n));
}

static inline v_u32 vq_interleave(v_u64 even, v_u64 odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

static inline v_u32 vq_interleave_high(v_u64 even, v_u64 odd) {
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

static inline v_u64 vq_swap_halves(v_u64 a) { return _mm256_shuffle_epi32(a, 0xB1); }

static inline v_u64 vq_xor3_low(v_u64 a, v_u64 b, v_u64 c) {
    return _mm256_xor_si256(a, _mm256_blend_epi32(_mm256_xor_si256(b, c), _mm256_setzero_si256(), 0xAA));
}

static inline v_u32 vq_halves(v_u64 a) { return a; }
static inline v_u64 vw_pairs(v_u32 a) { return a; }

static inline void vq_store4(uint32_t *p, v_u64 even_a, v_u64 odd_a, v_u64 even_b, v_u64 odd_b) {
    __m256i *const out = (__m256i *)p;
    _mm256_storeu_si256(out, _mm256_unpacklo_epi64(even_a, odd_a));
    _mm256_storeu_si256(out + 1, _mm256_unpacklo_epi64(even_b, odd_b));
    _mm256_storeu_si256(out + 2, _mm256_unpackhi_epi64(even_a, odd_a));
    _mm256_storeu_si256(out + 3, _mm256_unpackhi_epi64(even_b, odd_b));
}

/* 32-bit lanes. */

static inline v_u32 vw_set1(uint32_t x) { return _mm256_set1_epi32((int)x); }
static inline v_u32 vw_or(v_u32 a, v_u32 b) { return _mm256_or_si256(a, b); }
static inline v_u32 vw_and(v_u32 a, v_u32 b) { return _mm256_and_si256(a, b); }
static inline v_u32 vw_add(v_u32 a, v_u32 b) { return _mm256_add_epi32(a, b); }
static inline v_u32 vw_max(v_u32 a, v_u32 b) { return _mm256_max_epu32(a, b); }
static inline v_u32 vw_xor(v_u32 a, v_u32 b) { return _mm256_xor_si256(a, b); }
static inline v_u32 vw_xor3(v_u32 a, v_u32 b, v_u32 c) { return vq_xor3(a, b, c); }
static inline v_u32 vw_and_or(v_u32 a, v_u32 mask, v_u32 b) { return _mm256_or_si256(_mm256_and_si256(a, mask), b); }
static inline v_u32 vw_shl(v_u32 a, int n) { return _mm256_slli_epi32(a, n); }
static inline v_u32 vw_shr(v_u32 a, int n) { return _mm256_srli_epi32(a, n); }
static inline v_u32 vw_sar(v_u32 a, int n) { return _mm256_srai_epi32(a, n); }
static inline v_m32 vw_bit(v_u32 a, int n) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 31 - n)); }

static inline v_u32 vw_stack16(v_u32 upper, v_u32 lower) {
    return _mm256_blend_epi16(_mm256_srli_epi32(lower, 16), upper, 0xAA);
}

static inline v_u32 vw_stack8(v_u32 upper, v_u32 lower) {
    return vw_and_or(upper, _mm256_set1_epi32((int)0xFF000000), _mm256_srli_epi32(lower, 8));
}

static inline void vw_store4(uint32_t *p, v_u32 a, v_u32 b, v_u32 c, v_u32 d) {
    const __m256i ab0 = _mm256_unpacklo_epi32(a, b), ab1 = _mm256_unpackhi_epi32(a, b);
    const __m256i cd0 = _mm256_unpacklo_epi32(c, d), cd1 = _mm256_unpackhi_epi32(c, d);
    __m256i *const out = (__m256i *)p;
    _mm256_storeu_si256(out, _mm256_unpacklo_epi64(ab0, cd0));
    _mm256_storeu_si256(out + 1, _mm256_unpackhi_epi64(ab0, cd0));
    _mm256_storeu_si256(out + 2, _mm256_unpacklo_epi64(ab1, cd1));
    _mm256_storeu_si256(out + 3, _mm256_unpackhi_epi64(ab1, cd1));
}

static inline void vw_store2(uint16_t *p, v_u32 ab, v_u32 cd) {
    _mm256_storeu_si256((__m256i *)p, _mm256_unpacklo_epi32(ab, cd));
    _mm256_storeu_si256((__m256i *)p + 1, _mm256_unpackhi_epi32(ab, cd));
}

static inline void vw_store1(uint8_t *p, v_u32 abcd) { _mm256_storeu_si256((__m256i *)p, abcd); }

/* Single precision. */

static inline v_f32 vf_set1(float x) { return _mm256_set1_ps(x); }
static inline v_f32 vf_from_i32(v_u32 a) { return _mm256_cvtepi32_ps(a); }
static inline v_f32 vf_from_bits(v_u32 a) { return _mm256_castsi256_ps(a); }
static inline v_u32 vf_to_bits(v_f32 a) { return _mm256_castps_si256(a); }
static inline v_f32 vf_add(v_f32 a, v_f32 b) { return _mm256_add_ps(a, b); }
static inline v_f32 vf_sub(v_f32 a, v_f32 b) { return _mm256_sub_ps(a, b); }
static inline v_f32 vf_mul(v_f32 a, v_f32 b) { return _mm256_mul_ps(a, b); }
static inline v_f32 vf_fma(v_f32 a, v_f32 b, v_f32 c) { return _mm256_fmadd_ps(a, b, c); }
static inline v_f32 vf_fms(v_f32 a, v_f32 b, v_f32 c) { return _mm256_fmsub_ps(a, b, c); }
static inline v_f32 vf_fnma(v_f32 a, v_f32 b, v_f32 c) { return _mm256_fnmadd_ps(a, b, c); }
static inline v_f32 vf_div(v_f32 a, v_f32 b) { return _mm256_div_ps(a, b); }
static inline v_f32 vf_sqrt(v_f32 a) { return _mm256_sqrt_ps(a); }
static inline v_f32 vf_min(v_f32 a, v_f32 b) { return _mm256_min_ps(a, b); }
static inline v_f32 vf_max(v_f32 a, v_f32 b) { return _mm256_max_ps(a, b); }

static inline void vf_swap_where(v_m32 m, v_f32 *a, v_f32 *b) {
    const v_f32 before = *a;
    *a = _mm256_blendv_ps(*a, *b, m);
    *b = _mm256_blendv_ps(*b, before, m);
}

static inline v_f32 vf_by_sign(v_f32 a, v_f32 negative, v_f32 positive) {
    return _mm256_blendv_ps(positive, negative, a);
}

static inline v_f32 vf_flip_sign(v_f32 a, v_u32 sign) {
    return _mm256_xor_ps(a, _mm256_and_ps(_mm256_castsi256_ps(sign), _mm256_set1_ps(-0.0f)));
}

/* If a is negative, the shift is arithmetic and the result is meaningless. */
static inline v_f32 vf_exponent(v_f32 a) {
    const __m256i biased = _mm256_srai_epi32(_mm256_castps_si256(a), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
}

static inline v_f32 vf_exponent_or_0(v_f32 a) { return vf_by_sign(a, _mm256_setzero_ps(), vf_exponent(a)); }

static inline v_f32 vf_significand(v_f32 a) {
    const __m256 fraction = _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x007FFFFF)));
    return _mm256_or_ps(fraction, _mm256_set1_ps(1.0f));
}

static inline v_u32 vf_pack_f16(v_f32 even, v_f32 odd) {
    const __m128i low = _mm256_cvtps_ph(even, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i high = _mm256_cvtps_ph(odd, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return vw_or(_mm256_cvtepu16_epi32(low), vw_shl(_mm256_cvtepu16_epi32(high), 16));
}

/* Add half an ulp minus one unit, and one more if the result would be odd: the OR with bit 0 changes the result only if
 * that bit is 0. */
static inline __m256i vf_round_bf16(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i tied = vw_and_or(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1), bits);
    return _mm256_add_epi32(tied, _mm256_set1_epi32(0x7FFF));
}

static inline v_u32 vf_pack_bf16(v_f32 even, v_f32 odd) { return vw_stack16(vf_round_bf16(odd), vf_round_bf16(even)); }

/* Double precision. */

static inline v_f64 vd_set1(double x) { return _mm256_set1_pd(x); }
static inline v_f64 vd_sub(v_f64 a, v_f64 b) { return _mm256_sub_pd(a, b); }
static inline v_f64 vd_div(v_f64 a, v_f64 b) { return _mm256_div_pd(a, b); }
static inline v_f64 vd_mul(v_f64 a, v_f64 b) { return _mm256_mul_pd(a, b); }
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) { return _mm256_fmadd_pd(a, b, c); }
static inline v_f64 vd_fnma(v_f64 a, v_f64 b, v_f64 c) { return _mm256_fnmadd_pd(a, b, c); }
static inline v_f64 vd_sqrt(v_f64 a) { return _mm256_sqrt_pd(a); }
static inline v_f64 vd_min(v_f64 a, v_f64 b) { return _mm256_min_pd(a, b); }
static inline v_f64 vd_max(v_f64 a, v_f64 b) { return _mm256_max_pd(a, b); }
static inline v_u64 vd_to_bits(v_f64 a) { return _mm256_castpd_si256(a); }
static inline v_u64 vd_to_f32(v_f64 a) { return _mm256_cvtepu32_epi64(_mm_castps_si128(_mm256_cvtpd_ps(a))); }

static inline void vd_swap_where(v_m64 m, v_f64 *a, v_f64 *b) {
    const v_f64 before = *a;
    *a = _mm256_blendv_pd(*a, *b, m);
    *b = _mm256_blendv_pd(*b, before, m);
}

/* There is no conversion from 64-bit integers. The bit patterns of the upper half as 2^84 + 2^63 + upper 2^32 and of
 * the lower half as 2^52 + lower are formed without arithmetic; an exact subtraction removes the offsets, and one
 * addition rounds. */
static inline v_f64 vd_from_i64(v_u64 a) {
    const __m256i upper = _mm256_xor_si256(_mm256_srli_epi64(a, 32), _mm256_set1_epi64x(0x4530000080000000));
    const __m256i lower = _mm256_blend_epi32(a, _mm256_set1_epi64x(0x4330000000000000), 0xAA);
    const __m256d offsets = _mm256_set1_pd(0x1.00000801p+84); /* 2^84 + 2^63 + 2^52 */
    return _mm256_add_pd(_mm256_sub_pd(_mm256_castsi256_pd(upper), offsets), _mm256_castsi256_pd(lower));
}

static inline v_f64 vd_by_sign(v_f64 a, v_f64 negative, v_f64 positive) {
    return _mm256_blendv_pd(positive, negative, a);
}

static inline v_f64 vd_flip_sign(v_f64 a, v_u64 sign) {
    return _mm256_xor_pd(a, _mm256_and_pd(_mm256_castsi256_pd(sign), _mm256_set1_pd(-0.0)));
}

/* The biased exponent as the low bits of 2^52, minus 2^52 + 1023. If a is negative, the result is meaningless. */
static inline v_f64 vd_exponent(v_f64 a) {
    const __m256i biased = _mm256_srli_epi64(_mm256_castpd_si256(a), 52);
    const __m256d shifted = _mm256_castsi256_pd(_mm256_or_si256(biased, _mm256_set1_epi64x(0x4330000000000000)));
    return _mm256_sub_pd(shifted, _mm256_set1_pd(0x1p+52 + 1023));
}

static inline v_f64 vd_exponent_or_0(v_f64 a) { return vd_by_sign(a, _mm256_setzero_pd(), vd_exponent(a)); }

static inline v_f64 vd_significand(v_f64 a) {
    const __m256d fraction = _mm256_and_pd(a, _mm256_castsi256_pd(_mm256_set1_epi64x(0x000FFFFFFFFFFFFF)));
    return _mm256_or_pd(fraction, _mm256_set1_pd(1.0));
}

static inline v_u64 vd_interval(v_u64 word, v_f64 a) {
    const __m256d of_word = _mm256_castsi256_pd(_mm256_srli_epi64(word, 59));
    const __m256d of_significand = _mm256_castsi256_pd(_mm256_srli_epi64(_mm256_castpd_si256(a), 48));
    return _mm256_castpd_si256(vd_by_sign(a, of_word, of_significand));
}

static inline v_u64 vd_interval_of(v_f64 a) { return _mm256_srli_epi64(_mm256_castpd_si256(a), 48); }

/* Selects within 128-bit lanes by bit 1. */
static inline v_f64 vd_lookup2(const double *table, v_u64 index) {
    return _mm256_permutevar_pd(_mm256_broadcast_pd((const __m128d *)table), _mm256_slli_epi64(index, 1));
}

/* Selects two 32-bit halves, lanes 2 index and 2 index + 1. */
static inline v_f64 vd_lookup4(const double *table, v_u64 index) {
    const __m256i twice = _mm256_slli_epi64(index, 1);
    const __m256i halves =
        _mm256_or_si256(_mm256_or_si256(twice, _mm256_slli_epi64(twice, 32)), _mm256_set1_epi64x(0x100000000));
    return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(_mm256_loadu_pd(table)), halves));
}

static inline v_f64 vd_lookup16(const double *table, v_u64 index) {
    return _mm256_i64gather_pd(table, _mm256_and_si256(index, _mm256_set1_epi64x(15)), 8);
}

/* Streaming stores. */

#define FK_HAS_STREAMING_STORES 1

static inline void v_store_streaming(void *out, const void *from) {
    _mm256_stream_si256((__m256i *)out, _mm256_loadu_si256((const __m256i *)from));
}

static inline void v_streaming_fence(void) { _mm_sfence(); }

#include "simd/vec_composed.h"

#endif
