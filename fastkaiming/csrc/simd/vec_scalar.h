/* vec_scalar.h - the vector operations in plain C, for every machine. Its comments define the operations for the
 * headers of all instruction sets.
 *
 * Types: v_u64 has FK_W64 lanes of 64 bits, v_u32 and v_f32 have twice as many of 32 bits, v_f64 as many as v_u64;
 * v_m32 and v_m64 have a truth value for each lane. Prefixes: vq_ 64-bit integers, vw_ 32-bit words, vf_ single
 * precision, vd_ double precision.
 *
 * Floating-point operations are those of IEEE 754, rounded to nearest, ties to even: every header gives the same bits.
 */
#ifndef FASTKAIMING_VEC_SCALAR_H
#define FASTKAIMING_VEC_SCALAR_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 1
#error "this target evaluates doubles in a wider format and rounds twice, as x87 does, which changes the results"
#endif

/* The number of 64-bit lanes of a vector, and the number of such vectors in a tile, a multiple of 4. */
#define FK_W64 2
#define FK_GROUPS 4
#define FK_W32 (2 * FK_W64)

/* The linkage of long transforms, which would take a minute to compile if they were inlined lane by lane. */
#define FK_INLINE_UNLESS_SCALAR static __attribute__((noinline, unused))

typedef struct { uint64_t lane[FK_W64]; } v_u64;
typedef struct { uint32_t lane[FK_W32]; } v_u32;
typedef struct { float lane[FK_W32]; } v_f32;
typedef struct { double lane[FK_W64]; } v_f64;
typedef struct { int lane[FK_W32]; } v_m32;
typedef struct { int lane[FK_W64]; } v_m64;

/* Set every lane of the result to `expression`, in terms of the lane number i. */
#define FK_LANES(type, lanes, expression)                                                                              \
    type r;                                                                                                            \
    for (int i = 0; i < (lanes); i++) { r.lane[i] = (expression); }                                                    \
    return r

/* 64-bit lanes. */

static inline v_u64 vq_set1(uint64_t x) { FK_LANES(v_u64, FK_W64, x); }
static inline v_u64 vq_load(const uint64_t *p) { FK_LANES(v_u64, FK_W64, p[i]); }
static inline v_u64 vq_add(v_u64 a, v_u64 b) { FK_LANES(v_u64, FK_W64, a.lane[i] + b.lane[i]); }
static inline v_u64 vq_or(v_u64 a, v_u64 b) { FK_LANES(v_u64, FK_W64, a.lane[i] | b.lane[i]); }
static inline v_u64 vq_and_or(v_u64 a, v_u64 mask, v_u64 b) {
    FK_LANES(v_u64, FK_W64, (a.lane[i] & mask.lane[i]) | b.lane[i]);
}
static inline v_u64 vq_xor(v_u64 a, v_u64 b) { FK_LANES(v_u64, FK_W64, a.lane[i] ^ b.lane[i]); }
static inline v_u64 vq_xor3(v_u64 a, v_u64 b, v_u64 c) { FK_LANES(v_u64, FK_W64, a.lane[i] ^ b.lane[i] ^ c.lane[i]); }
static inline v_u64 vq_shl(v_u64 a, int n) { FK_LANES(v_u64, FK_W64, a.lane[i] << n); }
static inline v_u64 vq_high32(v_u64 a) { FK_LANES(v_u64, FK_W64, a.lane[i] >> 32); }
static inline v_u64 vq_top_bit(v_u64 a) { FK_LANES(v_u64, FK_W64, a.lane[i] >> 63); }

/* The product of the low halves. */
static inline v_u64 vq_mul32(v_u64 a, v_u64 b) {
    FK_LANES(v_u64, FK_W64, (uint64_t)(uint32_t)a.lane[i] * (uint32_t)b.lane[i]);
}

/* Arithmetic right shift of the lane as a signed number. */
static inline v_u64 vq_sar(v_u64 a, int n) { FK_LANES(v_u64, FK_W64, (uint64_t)((int64_t)a.lane[i] >> n)); }

/* All ones if the top bit is set, else 0. */
static inline v_u64 vq_sign(v_u64 a) { FK_LANES(v_u64, FK_W64, a.lane[i] >> 63 ? UINT64_MAX : 0); }

/* Whether bit n is set. */
static inline v_m64 vq_bit(v_u64 a, int n) { FK_LANES(v_m64, FK_W64, (int)(a.lane[i] >> n & 1)); }

/* The low halves of `even` in the even 32-bit lanes, and those of `odd` in the odd lanes. */
static inline v_u32 vq_interleave(v_u64 even, v_u64 odd) {
    FK_LANES(v_u32, FK_W32, (uint32_t)(i % 2 ? odd.lane[i / 2] : even.lane[i / 2]));
}

/* The same for the high halves. */
static inline v_u32 vq_interleave_high(v_u64 even, v_u64 odd) {
    FK_LANES(v_u32, FK_W32, (uint32_t)((i % 2 ? odd.lane[i / 2] : even.lane[i / 2]) >> 32));
}

static inline v_u64 vq_swap_halves(v_u64 a) { FK_LANES(v_u64, FK_W64, a.lane[i] << 32 | a.lane[i] >> 32); }

/* Only the low halves change. */
static inline v_u64 vq_xor3_low(v_u64 a, v_u64 b, v_u64 c) {
    FK_LANES(v_u64, FK_W64, a.lane[i] ^ (uint32_t)(b.lane[i] ^ c.lane[i]));
}

/* The low half of each lane followed by its high half, as 32-bit lanes. */
static inline v_u32 vq_halves(v_u64 a) { FK_LANES(v_u32, FK_W32, (uint32_t)(a.lane[i / 2] >> i % 2 * 32)); }

/* Two adjacent 32-bit lanes as one 64-bit lane that has the same bytes in memory. */
static inline v_u64 vw_pairs(v_u32 a) {
    v_u64 r;
    memcpy(&r, &a, sizeof r);
    return r;
}

/* Store the pairs (even, odd) of two groups of counters in the order of counters: the lanes of a and b together have
 * the order of the 32-bit lanes of vq_interleave(a, b). The alignment of an element suffices. */
static inline void vq_store4(uint32_t *p, v_u64 even_a, v_u64 odd_a, v_u64 even_b, v_u64 odd_b) {
    for (int i = 0; i < FK_W64; i++) {
        const uint64_t blocks[4] = {even_a.lane[i], odd_a.lane[i], even_b.lane[i], odd_b.lane[i]};
        memcpy(p + 8 * i, blocks, sizeof blocks);
    }
}

/* 32-bit lanes. */

static inline v_u32 vw_set1(uint32_t x) { FK_LANES(v_u32, FK_W32, x); }
static inline v_u32 vw_or(v_u32 a, v_u32 b) { FK_LANES(v_u32, FK_W32, a.lane[i] | b.lane[i]); }
static inline v_u32 vw_and(v_u32 a, v_u32 b) { FK_LANES(v_u32, FK_W32, a.lane[i] & b.lane[i]); }
static inline v_u32 vw_add(v_u32 a, v_u32 b) { FK_LANES(v_u32, FK_W32, a.lane[i] + b.lane[i]); }
static inline v_u32 vw_xor(v_u32 a, v_u32 b) { FK_LANES(v_u32, FK_W32, a.lane[i] ^ b.lane[i]); }
static inline v_u32 vw_xor3(v_u32 a, v_u32 b, v_u32 c) { FK_LANES(v_u32, FK_W32, a.lane[i] ^ b.lane[i] ^ c.lane[i]); }
static inline v_u32 vw_and_or(v_u32 a, v_u32 mask, v_u32 b) {
    FK_LANES(v_u32, FK_W32, (a.lane[i] & mask.lane[i]) | b.lane[i]);
}
static inline v_u32 vw_shl(v_u32 a, int n) { FK_LANES(v_u32, FK_W32, a.lane[i] << n); }
static inline v_u32 vw_shr(v_u32 a, int n) { FK_LANES(v_u32, FK_W32, a.lane[i] >> n); }
static inline v_u32 vw_sar(v_u32 a, int n) { FK_LANES(v_u32, FK_W32, (uint32_t)((int32_t)a.lane[i] >> n)); }

/* The larger of two unsigned numbers. */
static inline v_u32 vw_max(v_u32 a, v_u32 b) { FK_LANES(v_u32, FK_W32, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }

static inline v_m32 vw_bit(v_u32 a, int n) { FK_LANES(v_m32, FK_W32, (int)(a.lane[i] >> n & 1)); }

/* The upper half (stack16) or the top byte (stack8) of `upper`, followed by the upper bits of `lower`. */
static inline v_u32 vw_stack16(v_u32 upper, v_u32 lower) {
    FK_LANES(v_u32, FK_W32, (upper.lane[i] & 0xFFFF0000) | lower.lane[i] >> 16);
}

static inline v_u32 vw_stack8(v_u32 upper, v_u32 lower) {
    FK_LANES(v_u32, FK_W32, (upper.lane[i] & 0xFF000000) | lower.lane[i] >> 8);
}

/* Store a[0] b[0] c[0] d[0] a[1] ... in the order of counters. fk_counter_of_lane (formats.h) defines which counter
 * each lane contains. A lane has one element of 32 bits, two elements of 16 bits or four elements of 8 bits, the first
 * one in the lowest bits. The alignment of an element suffices. */
static inline void vw_store4(uint32_t *p, v_u32 a, v_u32 b, v_u32 c, v_u32 d) {
    for (int i = 0; i < FK_W32; i++) {
        const uint32_t block[4] = {a.lane[i], b.lane[i], c.lane[i], d.lane[i]};
        memcpy(p + 4 * i, block, sizeof block);
    }
}

static inline void vw_store2(uint16_t *p, v_u32 ab, v_u32 cd) {
    for (int i = 0; i < FK_W32; i++) {
        p[4 * i] = (uint16_t)ab.lane[i];
        p[4 * i + 1] = (uint16_t)(ab.lane[i] >> 16);
        p[4 * i + 2] = (uint16_t)cd.lane[i];
        p[4 * i + 3] = (uint16_t)(cd.lane[i] >> 16);
    }
}

static inline void vw_store1(uint8_t *p, v_u32 abcd) {
    for (int i = 0; i < 4 * FK_W32; i++) { p[i] = (uint8_t)(abcd.lane[i / 4] >> 8 * (i % 4)); }
}

/* Single precision. */

#if defined(FP_FAST_FMAF)
static inline float fk_fma_f32(float a, float b, float c) { return fmaf(a, b, c); }
#else
/* The product is exact in double precision; the sum is rounded to odd in double precision and then to single precision,
 * which is correctly rounded because 53 >= 2 x 24 + 2. Boldo & Melquiond, "Emulation of FMA and correctly rounded sums:
 * proved algorithms using rounding to odd", IEEE Trans. Computers 57 (2008), theorem 1. The rounding error of the sum
 * is computed by Knuth's TwoSum. */
static inline float fk_fma_f32(float a, float b, float c) {
    const double p = (double)a * b, s = p + c;
    const double c_seen = s - p, p_seen = s - c_seen;
    const double error = (p - p_seen) + (c - c_seen);
    uint64_t bits;
    memcpy(&bits, &s, sizeof bits);
    const int inexact = error != 0, outward = (error > 0) == (s > 0), even = !(bits & 1);
    bits += (uint64_t)((inexact & even) * (outward ? 1 : -1));
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
}
#endif

static inline float fk_float_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t fk_bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline v_f32 vf_set1(float x) { FK_LANES(v_f32, FK_W32, x); }
static inline v_f32 vf_from_i32(v_u32 a) { FK_LANES(v_f32, FK_W32, (float)(int32_t)a.lane[i]); }
static inline v_f32 vf_from_bits(v_u32 a) { FK_LANES(v_f32, FK_W32, fk_float_from_bits(a.lane[i])); }
static inline v_u32 vf_to_bits(v_f32 a) { FK_LANES(v_u32, FK_W32, fk_bits_of_float(a.lane[i])); }
static inline v_f32 vf_add(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] + b.lane[i]); }
static inline v_f32 vf_sub(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] - b.lane[i]); }
static inline v_f32 vf_mul(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] * b.lane[i]); }
static inline v_f32 vf_div(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] / b.lane[i]); }
static inline v_f32 vf_sqrt(v_f32 a) { FK_LANES(v_f32, FK_W32, sqrtf(a.lane[i])); }
static inline v_f32 vf_min(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline v_f32 vf_max(v_f32 a, v_f32 b) { FK_LANES(v_f32, FK_W32, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }

/* a b + c, a b - c and c - a b, rounded once. */
static inline v_f32 vf_fma(v_f32 a, v_f32 b, v_f32 c) {
    FK_LANES(v_f32, FK_W32, fk_fma_f32(a.lane[i], b.lane[i], c.lane[i]));
}

static inline v_f32 vf_fms(v_f32 a, v_f32 b, v_f32 c) {
    FK_LANES(v_f32, FK_W32, fk_fma_f32(a.lane[i], b.lane[i], -c.lane[i]));
}

static inline v_f32 vf_fnma(v_f32 a, v_f32 b, v_f32 c) {
    FK_LANES(v_f32, FK_W32, fk_fma_f32(-a.lane[i], b.lane[i], c.lane[i]));
}

/* Swap the lanes of a and b for which m is set. */
static inline void vf_swap_where(v_m32 m, v_f32 *a, v_f32 *b) {
    const v_f32 before[2] = {*a, *b};
    for (int i = 0; i < FK_W32; i++) {
        a->lane[i] = before[m.lane[i] != 0].lane[i];
        b->lane[i] = before[m.lane[i] == 0].lane[i];
    }
}

/* `negative` if a < 0, else `positive`. Range: all numbers except -0, for which the result may be either. */
static inline v_f32 vf_by_sign(v_f32 a, v_f32 negative, v_f32 positive) {
    FK_LANES(v_f32, FK_W32, fk_bits_of_float(a.lane[i]) >> 31 ? negative.lane[i] : positive.lane[i]);
}

/* a with its sign changed if the top bit of `sign` is set. */
static inline v_f32 vf_flip_sign(v_f32 a, v_u32 sign) {
    FK_LANES(v_f32, FK_W32, fk_float_from_bits(fk_bits_of_float(a.lane[i]) ^ (sign.lane[i] & 0x80000000u)));
}

/* floor(log2 a). Range: positive normal numbers; for vf_exponent_or_0 also negative ones, with the result 0. */
static inline v_f32 vf_exponent(v_f32 a) {
    FK_LANES(v_f32, FK_W32, (float)((int)(fk_bits_of_float(a.lane[i]) >> 23) - 127));
}

static inline v_f32 vf_exponent_or_0(v_f32 a) { return vf_by_sign(a, vf_set1(0), vf_exponent(a)); }

/* |a| scaled by a power of 2 to [1, 2). Range: normal numbers. */
static inline v_f32 vf_significand(v_f32 a) {
    FK_LANES(v_f32, FK_W32, fk_float_from_bits((fk_bits_of_float(a.lane[i]) & 0x007FFFFFu) | 0x3F800000u));
}

/* The bits of a number as IEEE 754 binary16, rounded to nearest, ties to even.
 *
 * The value is rounded by adding a number whose unit in the last place is that of the result: its exponent exceeds that
 * of the value, or of the smallest normal number of binary16, by 13. The lowest bits of the sum are then the
 * significand.
 *
 * Range: magnitudes that round to 65504 or less. Max error: half an ulp of binary16. */
static inline uint32_t fk_bits_of_f16(float a) {
    const uint32_t bits = fk_bits_of_float(a), field = bits & 0x7F800000, least_normal = 113u << 23;
    const uint32_t rounder = (field > least_normal ? field : least_normal) + (13u << 23);
    const uint32_t sum = fk_bits_of_float(fk_float_from_bits(bits & 0x7FFFFFFF) + fk_float_from_bits(rounder));
    return bits >> 31 << 15 | ((sum & 0xFFF) + ((rounder - (126u << 23)) >> 13));
}

/* The same for bfloat16, the upper half of a binary32: add half an ulp minus one unit of the lower half, and one more
 * if the upper half is odd.
 *
 * Range: magnitudes that round to 2^128 - 2^120 or less. Max error: half an ulp of bfloat16. */
static inline uint32_t fk_bits_of_bf16(float a) {
    const uint32_t bits = fk_bits_of_float(a);
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

/* Round two vectors of numbers to 16 bits. The results of `even` are in the low halves of the lanes. */
static inline v_u32 vf_pack_bf16(v_f32 even, v_f32 odd) {
    FK_LANES(v_u32, FK_W32, fk_bits_of_bf16(even.lane[i]) | fk_bits_of_bf16(odd.lane[i]) << 16);
}

static inline v_u32 vf_pack_f16(v_f32 even, v_f32 odd) {
    FK_LANES(v_u32, FK_W32, fk_bits_of_f16(even.lane[i]) | fk_bits_of_f16(odd.lane[i]) << 16);
}

/* Double precision. fma and sqrt are IEEE 754 operations. The C library provides them if the machine has no
 * instruction. */

static inline double fk_double_from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t fk_bits_of_double(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline v_f64 vd_set1(double x) { FK_LANES(v_f64, FK_W64, x); }
static inline v_f64 vd_from_i64(v_u64 a) { FK_LANES(v_f64, FK_W64, (double)(int64_t)a.lane[i]); }

static inline v_u64 vd_to_bits(v_f64 a) { FK_LANES(v_u64, FK_W64, fk_bits_of_double(a.lane[i])); }

/* The lane rounded to single precision, as bits in its low half; the high half may contain anything. */
static inline v_u64 vd_to_f32(v_f64 a) { FK_LANES(v_u64, FK_W64, fk_bits_of_float((float)a.lane[i])); }

static inline v_f64 vd_sub(v_f64 a, v_f64 b) { FK_LANES(v_f64, FK_W64, a.lane[i] - b.lane[i]); }
static inline v_f64 vd_div(v_f64 a, v_f64 b) { FK_LANES(v_f64, FK_W64, a.lane[i] / b.lane[i]); }
static inline v_f64 vd_mul(v_f64 a, v_f64 b) { FK_LANES(v_f64, FK_W64, a.lane[i] * b.lane[i]); }
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) { FK_LANES(v_f64, FK_W64, fma(a.lane[i], b.lane[i], c.lane[i])); }
static inline v_f64 vd_fnma(v_f64 a, v_f64 b, v_f64 c) {
    FK_LANES(v_f64, FK_W64, fma(-a.lane[i], b.lane[i], c.lane[i]));
}
static inline v_f64 vd_sqrt(v_f64 a) { FK_LANES(v_f64, FK_W64, sqrt(a.lane[i])); }
static inline v_f64 vd_min(v_f64 a, v_f64 b) { FK_LANES(v_f64, FK_W64, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline v_f64 vd_max(v_f64 a, v_f64 b) { FK_LANES(v_f64, FK_W64, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }

static inline void vd_swap_where(v_m64 m, v_f64 *a, v_f64 *b) {
    const v_f64 before[2] = {*a, *b};
    for (int i = 0; i < FK_W64; i++) {
        a->lane[i] = before[m.lane[i] != 0].lane[i];
        b->lane[i] = before[m.lane[i] == 0].lane[i];
    }
}

static inline v_f64 vd_by_sign(v_f64 a, v_f64 negative, v_f64 positive) {
    FK_LANES(v_f64, FK_W64, fk_bits_of_double(a.lane[i]) >> 63 ? negative.lane[i] : positive.lane[i]);
}

static inline v_f64 vd_flip_sign(v_f64 a, v_u64 sign) {
    FK_LANES(v_f64, FK_W64, fk_double_from_bits(fk_bits_of_double(a.lane[i]) ^ (sign.lane[i] & UINT64_C(1) << 63)));
}

static inline v_f64 vd_exponent(v_f64 a) {
    FK_LANES(v_f64, FK_W64, (double)((int)(fk_bits_of_double(a.lane[i]) >> 52) - 1023));
}

static inline v_f64 vd_exponent_or_0(v_f64 a) { return vd_by_sign(a, vd_set1(0), vd_exponent(a)); }

static inline v_f64 vd_significand(v_f64 a) {
    const uint64_t fraction = UINT64_C(0x000FFFFFFFFFFFFF), one = UINT64_C(0x3FF0000000000000);
    FK_LANES(v_f64, FK_W64, fk_double_from_bits((fk_bits_of_double(a.lane[i]) & fraction) | one));
}

/* The four bits after the leading 1 bit of `word`, whose bit 63 must be set, if a < 0; otherwise, the four bits after
 * the leading 1 bit of the significand of a. vd_interval_of always uses the significand. Range: a is not 0. Only the
 * low four bits of the result are meaningful. */
static inline v_u64 vd_interval(v_u64 word, v_f64 a) {
    FK_LANES(v_u64, FK_W64,
             fk_bits_of_double(a.lane[i]) >> 63 ? word.lane[i] >> 59 : fk_bits_of_double(a.lane[i]) >> 48);
}

static inline v_u64 vd_interval_of(v_f64 a) { FK_LANES(v_u64, FK_W64, fk_bits_of_double(a.lane[i]) >> 48); }

/* table[index] for index < 2 (lookup2) and index < 4 (lookup4). */
static inline v_f64 vd_lookup2(const double *table, v_u64 index) { FK_LANES(v_f64, FK_W64, table[index.lane[i]]); }
static inline v_f64 vd_lookup4(const double *table, v_u64 index) { FK_LANES(v_f64, FK_W64, table[index.lane[i]]); }

/* table[index mod 16]. */
static inline v_f64 vd_lookup16(const double *table, v_u64 index) {
    FK_LANES(v_f64, FK_W64, table[index.lane[i] & 15]);
}

/* Plain C has no streaming stores, so these are ordinary ones. */

#define FK_HAS_STREAMING_STORES 0
static inline void v_store_streaming(void *out, const void *from) { memcpy(out, from, sizeof(v_u64)); }
static inline void v_streaming_fence(void) {}

#include "simd/vec_composed.h"

#endif
