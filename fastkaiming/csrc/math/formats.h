/* formats.h - rounds vectors of values to the stored format and writes them to memory in natural order.
 *
 * Rounding is to nearest, ties to even. docs/stream-v1.md, section 3, names the formats. Rounding to 16-bit formats is
 * a vector operation, because instruction sets provide different instructions for it. */
#ifndef FASTKAIMING_FORMATS_H
#define FASTKAIMING_FORMATS_H

#include "simd/kernels.h"

/* Return which counter of a pair of groups, numbered from 0, belongs in a 32-bit lane of the pair's vectors. In this
 * order, elements of `bytes` bytes can be stored in natural order without a shuffle across the K 128-bit lanes of a
 * vector. The four elements of a counter take 4 * bytes bytes, which are `bytes` 32-bit lanes. The store interleaves
 * `bytes` packed vectors within their 128-bit lanes. This puts 4 / bytes counters next to each other, so these counters
 * must be consecutive. */
FK_INLINE int fk_counter_of_lane(int lane, int bytes) {
    const int K = FK_W64 / 2, adjacent = 4 / bytes, i = lane % 4, k = lane / 4;
    return adjacent * (K * (i / adjacent) + k) + i % adjacent;
}

/* Round to an 8-bit format with `fraction_bits` bits of fraction and exponents biased by `bias`. The result is in the
 * top byte of each lane; the other bytes are 0.
 *
 * The value is rounded by adding a number whose unit in the last place is that of the result: its exponent exceeds that
 * of the value, or of the smallest normal number of the format, by the number of bits that are cut off. The lowest bits
 * of the sum are then the significand with its leading bit. The exponent field of the sum, shifted next to the fraction
 * bits, is added to them. The bias of this field exceeds that of the result. In the top byte, the excess is SURPLUS
 * modulo 256; to cancel it, the last bits of the number that is added to the value contain 256 - SURPLUS. This is an
 * even number, so that ties are still rounded to even.
 *
 * Range: magnitudes that round to a finite number of the format. Max error: half an ulp of the format. */
#define FK_ROUND_TO_FLOAT8(format, fraction_bits, bias)                                                                \
    FK_INLINE v_u32 fk_rounded_##format(v_f32 value) {                                                                 \
        enum { CUT = 23 - (fraction_bits), LEAST = 128 - (bias), SURPLUS = ((LEAST + CUT) << (fraction_bits)) % 256 }; \
        const v_u32 bits = vf_to_bits(value);                                                                          \
        const v_u32 power = vw_max(vw_and(bits, vw_set1(0x7F800000)), vw_set1((uint32_t)LEAST << 23));                 \
        const v_u32 rounder = vw_add(power, vw_set1(((uint32_t)CUT << 23) + 256 - SURPLUS));                           \
        const v_f32 magnitude = vf_from_bits(vw_and(bits, vw_set1(0x7FFFFFFF)));                                       \
        const v_u32 sum = vf_to_bits(vf_add(vf_from_bits(rounder), magnitude));                                        \
        return vw_and_or(bits, vw_set1(0x80000000), vw_shl(vw_add(sum, vw_shr(sum, CUT)), 24));                        \
    }

/* E4M3 (without infinities) and E5M2 of Micikevicius et al., "FP8 formats for deep learning", 2022 (arXiv:2209.05433),
 * table 1. */
FK_ROUND_TO_FLOAT8(float8_e4m3fn, 3, 7)
FK_ROUND_TO_FLOAT8(float8_e5m2, 2, 15)

/* Store four vectors of single-precision values whose lanes are in the order of fk_counter_of_lane. Each vector
 * contains one of the four elements of its counters (fk_words_32). */
FK_INLINE_UNLESS_SCALAR void fk_store_f32(fk_format format, char *out, const v_f32 value[4]) {
    v_u32 x[4];
    switch (format) {
    case FK_FLOAT16:
        vw_store2((uint16_t *)out, vf_pack_f16(value[0], value[1]), vf_pack_f16(value[2], value[3]));
        break;
    case FK_BFLOAT16:
        vw_store2((uint16_t *)out, vf_pack_bf16(value[0], value[1]), vf_pack_bf16(value[2], value[3]));
        break;
    case FK_FLOAT8_E4M3FN:
    case FK_FLOAT8_E5M2:
        FK_UNROLL for (int i = 0; i < 4; i++) {
            x[i] = format == FK_FLOAT8_E5M2 ? fk_rounded_float8_e5m2(value[i]) : fk_rounded_float8_e4m3fn(value[i]);
        }
        vw_store1((uint8_t *)out, vw_stack8(x[3], vw_stack8(x[2], vw_stack8(x[1], x[0]))));
        break;
    default:
        vw_store4((uint32_t *)out, vf_to_bits(value[0]), vf_to_bits(value[1]), vf_to_bits(value[2]),
                  vf_to_bits(value[3]));
    }
}

/* The same, but values that are not rounded are in the order of fk_words_by_block. */
FK_INLINE_UNLESS_SCALAR void fk_store_by_block_f32(fk_format format, char *out, const v_f32 value[4]) {
    if (format != FK_UNROUNDED) {
        fk_store_f32(format, out, value);
        return;
    }
    v_u64 x[4];
    FK_UNROLL for (int i = 0; i < 4; i++) { x[i] = vw_pairs(vf_to_bits(value[i])); }
    vq_store4((uint32_t *)out, x[0], x[1], x[2], x[3]);
}

#endif
