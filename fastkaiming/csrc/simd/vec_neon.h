/* vec_neon.h - the vector operations in the Advanced SIMD of AArch64. vec_scalar.h defines each operation. */
#ifndef FASTKAIMING_VEC_NEON_H
#define FASTKAIMING_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define FK_W64 2
#define FK_GROUPS 4
#define FK_INLINE_UNLESS_SCALAR FK_INLINE

typedef uint64x2_t v_u64;
typedef uint32x4_t v_u32;
typedef float32x4_t v_f32;
typedef float64x2_t v_f64;
typedef uint32x4_t v_m32; /* all ones or all zeros */
typedef uint64x2_t v_m64;

/* 64-bit lanes: the Philox state. */

static inline v_u64 vq_set1(uint64_t x) { return vdupq_n_u64(x); }
static inline v_u64 vq_load(const uint64_t *p) { return vld1q_u64(p); }
static inline v_u64 vq_add(v_u64 a, v_u64 b) { return vaddq_u64(a, b); }
static inline v_u64 vq_or(v_u64 a, v_u64 b) { return vorrq_u64(a, b); }
static inline v_u64 vq_and_or(v_u64 a, v_u64 mask, v_u64 b) { return vorrq_u64(vandq_u64(a, mask), b); }
static inline v_u64 vq_xor(v_u64 a, v_u64 b) { return veorq_u64(a, b); }
static inline v_u64 vq_xor3(v_u64 a, v_u64 b, v_u64 c) { return veorq_u64(a, veorq_u64(b, c)); }
static inline v_u64 vq_mul32(v_u64 a, v_u64 b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
static inline v_u64 vq_high32(v_u64 a) { return vshrq_n_u64(a, 32); }
static inline v_u64 vq_top_bit(v_u64 a) { return vshrq_n_u64(a, 63); }
static inline v_u64 vq_sign(v_u64 a) { return vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_u64(a), 63)); }
#define vq_shl(a, n) vshlq_n_u64(a, n)
#define vq_sar(a, n) vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_u64(a), n))
#define vq_bit(a, n) vtstq_u64(a, vdupq_n_u64(UINT64_C(1) << (n)))

static inline v_u32 vq_interleave(v_u64 even, v_u64 odd) {
    return vtrn1q_u32(vreinterpretq_u32_u64(even), vreinterpretq_u32_u64(odd));
}

static inline v_u32 vq_interleave_high(v_u64 even, v_u64 odd) {
    return vtrn2q_u32(vreinterpretq_u32_u64(even), vreinterpretq_u32_u64(odd));
}

static inline v_u64 vq_swap_halves(v_u64 a) { return vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(a))); }

static inline v_u64 vq_xor3_low(v_u64 a, v_u64 b, v_u64 c) {
    return veorq_u64(a, vandq_u64(veorq_u64(b, c), vdupq_n_u64(UINT32_MAX)));
}

static inline v_u32 vq_halves(v_u64 a) { return vreinterpretq_u32_u64(a); }
static inline v_u64 vw_pairs(v_u32 a) { return vreinterpretq_u64_u32(a); }

static inline void vq_store4(uint32_t *p, v_u64 even_a, v_u64 odd_a, v_u64 even_b, v_u64 odd_b) {
    vst1q_u32(p, vreinterpretq_u32_u64(vzip1q_u64(even_a, odd_a)));
    vst1q_u32(p + 4, vreinterpretq_u32_u64(vzip1q_u64(even_b, odd_b)));
    vst1q_u32(p + 8, vreinterpretq_u32_u64(vzip2q_u64(even_a, odd_a)));
    vst1q_u32(p + 12, vreinterpretq_u32_u64(vzip2q_u64(even_b, odd_b)));
}

/* 32-bit lanes. */

static inline v_u32 vw_set1(uint32_t x) { return vdupq_n_u32(x); }
static inline v_u32 vw_or(v_u32 a, v_u32 b) { return vorrq_u32(a, b); }
static inline v_u32 vw_and(v_u32 a, v_u32 b) { return vandq_u32(a, b); }
static inline v_u32 vw_add(v_u32 a, v_u32 b) { return vaddq_u32(a, b); }
static inline v_u32 vw_max(v_u32 a, v_u32 b) { return vmaxq_u32(a, b); }
static inline v_u32 vw_xor(v_u32 a, v_u32 b) { return veorq_u32(a, b); }
static inline v_u32 vw_xor3(v_u32 a, v_u32 b, v_u32 c) { return veorq_u32(a, veorq_u32(b, c)); }
static inline v_u32 vw_and_or(v_u32 a, v_u32 mask, v_u32 b) { return vorrq_u32(vandq_u32(a, mask), b); }
#define vw_shl(a, n) vshlq_n_u32(a, n)
#define vw_shr(a, n) vshrq_n_u32(a, n)
#define vw_sar(a, n) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n))
#define vw_bit(a, n) vtstq_u32(a, vdupq_n_u32(1u << (n)))

static inline v_u32 vw_stack16(v_u32 upper, v_u32 lower) { return vsriq_n_u32(upper, lower, 16); }
static inline v_u32 vw_stack8(v_u32 upper, v_u32 lower) { return vsriq_n_u32(upper, lower, 8); }

static inline void vw_store4(uint32_t *p, v_u32 a, v_u32 b, v_u32 c, v_u32 d) {
    vst4q_u32(p, ((uint32x4x4_t){{a, b, c, d}}));
}

static inline void vw_store2(uint16_t *p, v_u32 ab, v_u32 cd) {
    vst1q_u16(p, vreinterpretq_u16_u32(vzip1q_u32(ab, cd)));
    vst1q_u16(p + 8, vreinterpretq_u16_u32(vzip2q_u32(ab, cd)));
}

static inline void vw_store1(uint8_t *p, v_u32 abcd) { vst1q_u8(p, vreinterpretq_u8_u32(abcd)); }

/* Single precision. */

static inline v_f32 vf_set1(float x) { return vdupq_n_f32(x); }
static inline v_f32 vf_from_i32(v_u32 a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
static inline v_f32 vf_from_bits(v_u32 a) { return vreinterpretq_f32_u32(a); }
static inline v_u32 vf_to_bits(v_f32 a) { return vreinterpretq_u32_f32(a); }
static inline v_f32 vf_add(v_f32 a, v_f32 b) { return vaddq_f32(a, b); }
static inline v_f32 vf_sub(v_f32 a, v_f32 b) { return vsubq_f32(a, b); }
static inline v_f32 vf_mul(v_f32 a, v_f32 b) { return vmulq_f32(a, b); }
static inline v_f32 vf_fma(v_f32 a, v_f32 b, v_f32 c) { return vfmaq_f32(c, a, b); }
static inline v_f32 vf_fms(v_f32 a, v_f32 b, v_f32 c) { return vfmaq_f32(vnegq_f32(c), a, b); }
static inline v_f32 vf_fnma(v_f32 a, v_f32 b, v_f32 c) { return vfmsq_f32(c, a, b); }
static inline v_f32 vf_div(v_f32 a, v_f32 b) { return vdivq_f32(a, b); }
static inline v_f32 vf_sqrt(v_f32 a) { return vsqrtq_f32(a); }
static inline v_f32 vf_min(v_f32 a, v_f32 b) { return vminq_f32(a, b); }
static inline v_f32 vf_max(v_f32 a, v_f32 b) { return vmaxq_f32(a, b); }
static inline v_m32 vf_negative(v_f32 a) { return vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_f32(a), 31)); }

static inline void vf_swap_where(v_m32 m, v_f32 *a, v_f32 *b) {
    const v_f32 before = *a;
    *a = vbslq_f32(m, *b, before);
    *b = vbslq_f32(m, before, *b);
}

static inline v_f32 vf_by_sign(v_f32 a, v_f32 negative, v_f32 positive) {
    return vbslq_f32(vf_negative(a), negative, positive);
}

static inline v_f32 vf_flip_sign(v_f32 a, v_u32 sign) {
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vandq_u32(sign, vdupq_n_u32(0x80000000u))));
}

/* If a is negative, the result is meaningless. */
static inline v_f32 vf_exponent(v_f32 a) {
    const int32x4_t biased = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_f32(a), 23));
    return vcvtq_f32_s32(vsubq_s32(biased, vdupq_n_s32(127)));
}

static inline v_f32 vf_exponent_or_0(v_f32 a) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(vf_exponent(a)), vf_negative(a)));
}

static inline v_f32 vf_significand(v_f32 a) {
    const uint32x4_t fraction = vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0x007FFFFF));
    return vreinterpretq_f32_u32(vorrq_u32(fraction, vdupq_n_u32(0x3F800000)));
}

static inline v_u32 vf_pack_f16(v_f32 even, v_f32 odd) {
    const uint16x4_t low = vreinterpret_u16_f16(vcvt_f16_f32(even)), high = vreinterpret_u16_f16(vcvt_f16_f32(odd));
    return vsliq_n_u32(vmovl_u16(low), vmovl_u16(high), 16);
}

/* Add half an ulp minus one unit, and one more if the result would be odd: the OR with bit 0 changes the result only if
 * that bit is 0. */
static inline uint32x4_t vf_round_bf16(float32x4_t a) {
    const uint32x4_t bits = vreinterpretq_u32_f32(a);
    return vaddq_u32(vw_and_or(vshrq_n_u32(bits, 16), vdupq_n_u32(1), bits), vdupq_n_u32(0x7FFF));
}

static inline v_u32 vf_pack_bf16(v_f32 even, v_f32 odd) { return vw_stack16(vf_round_bf16(odd), vf_round_bf16(even)); }

/* Double precision. */

static inline v_f64 vd_set1(double x) { return vdupq_n_f64(x); }
static inline v_f64 vd_from_i64(v_u64 a) { return vcvtq_f64_s64(vreinterpretq_s64_u64(a)); }
static inline v_u64 vd_to_bits(v_f64 a) { return vreinterpretq_u64_f64(a); }
static inline v_u64 vd_to_f32(v_f64 a) { return vmovl_u32(vreinterpret_u32_f32(vcvt_f32_f64(a))); }
static inline v_f64 vd_sub(v_f64 a, v_f64 b) { return vsubq_f64(a, b); }
static inline v_f64 vd_div(v_f64 a, v_f64 b) { return vdivq_f64(a, b); }
static inline v_f64 vd_mul(v_f64 a, v_f64 b) { return vmulq_f64(a, b); }
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) { return vfmaq_f64(c, a, b); }
static inline v_f64 vd_fnma(v_f64 a, v_f64 b, v_f64 c) { return vfmsq_f64(c, a, b); }
static inline v_f64 vd_sqrt(v_f64 a) { return vsqrtq_f64(a); }
static inline v_f64 vd_min(v_f64 a, v_f64 b) { return vminq_f64(a, b); }
static inline v_f64 vd_max(v_f64 a, v_f64 b) { return vmaxq_f64(a, b); }
static inline v_m64 vd_negative(v_f64 a) { return vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_f64(a), 63)); }

static inline void vd_swap_where(v_m64 m, v_f64 *a, v_f64 *b) {
    const v_f64 before = *a;
    *a = vbslq_f64(m, *b, before);
    *b = vbslq_f64(m, before, *b);
}

static inline v_f64 vd_by_sign(v_f64 a, v_f64 negative, v_f64 positive) {
    return vbslq_f64(vd_negative(a), negative, positive);
}

static inline v_f64 vd_flip_sign(v_f64 a, v_u64 sign) {
    return vreinterpretq_f64_u64(veorq_u64(vreinterpretq_u64_f64(a), vandq_u64(sign, vdupq_n_u64(UINT64_C(1) << 63))));
}

static inline v_f64 vd_exponent(v_f64 a) {
    const int64x2_t biased = vreinterpretq_s64_u64(vshrq_n_u64(vreinterpretq_u64_f64(a), 52));
    return vcvtq_f64_s64(vsubq_s64(biased, vdupq_n_s64(1023)));
}

static inline v_f64 vd_exponent_or_0(v_f64 a) {
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(vd_exponent(a)), vd_negative(a)));
}

static inline v_f64 vd_significand(v_f64 a) {
    const uint64x2_t fraction = vandq_u64(vreinterpretq_u64_f64(a), vdupq_n_u64(UINT64_C(0x000FFFFFFFFFFFFF)));
    return vreinterpretq_f64_u64(vorrq_u64(fraction, vdupq_n_u64(UINT64_C(0x3FF0000000000000))));
}

static inline v_u64 vd_interval(v_u64 word, v_f64 a) {
    return vbslq_u64(vd_negative(a), vshrq_n_u64(word, 59), vshrq_n_u64(vreinterpretq_u64_f64(a), 48));
}

static inline v_u64 vd_interval_of(v_f64 a) { return vshrq_n_u64(vreinterpretq_u64_f64(a), 48); }

static inline v_f64 vd_lookup4(const double *table, v_u64 index) {
    return vcombine_f64(vld1_f64(table + vgetq_lane_u64(index, 0)), vld1_f64(table + vgetq_lane_u64(index, 1)));
}

static inline v_f64 vd_lookup2(const double *table, v_u64 index) { return vd_lookup4(table, index); }

static inline v_f64 vd_lookup16(const double *table, v_u64 index) {
    return vcombine_f64(vld1_f64(table + (vgetq_lane_u64(index, 0) & 15)),
                        vld1_f64(table + (vgetq_lane_u64(index, 1) & 15)));
}

/* AArch64 cores detect sequential stores of full lines without streaming stores, so these are ordinary ones. */

#define FK_HAS_STREAMING_STORES 0
static inline void v_store_streaming(void *out, const void *from) { memcpy(out, from, sizeof(v_u64)); }
static inline void v_streaming_fence(void) {}

#include "simd/vec_composed.h"

#endif
