/* formats.h - float32 numbers rounded to a narrower format, and elements to the other byte order.
 *
 * Plain loops, written once and left to the compiler to make vectors of: it knows every instruction that they need.
 */
#ifndef FASTKAIMING_FORMATS_H
#define FASTKAIMING_FORMATS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The bits of `value` in a format of so many bits in all and of fraction, and exponents biased by `bias`: rounded to
 * nearest, ties to even.
 *
 * A normal number is cut short after the addition of half an ulp less one, and one more where the cut leaves an odd
 * number. A subnormal one is rounded by the addition of a number whose ulp is the format's least subnormal.
 *
 * Range: magnitudes that round to a finite number of the format. Max error: half an ulp of the format. */
FK_INLINE uint32_t fk_rounded_f32(float value, int width, int fraction_bits, int bias) {
    const int cut = 23 - fraction_bits;
    const uint32_t least_normal = (uint32_t)(128 - bias) << 23, rounder_bits = (uint32_t)(128 - bias + cut) << 23;
    uint32_t bits, sum_bits;
    float magnitude, rounder;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 31;
    bits &= 0x7FFFFFFF;
    memcpy(&magnitude, &bits, sizeof magnitude);
    memcpy(&rounder, &rounder_bits, sizeof rounder);
    const float sum = magnitude + rounder;
    memcpy(&sum_bits, &sum, sizeof sum_bits);
    const uint32_t up = (UINT32_C(1) << (cut - 1)) - 1 + (bits >> cut & 1);
    const uint32_t normal = ((bits + up) >> cut) - ((uint32_t)(127 - bias) << fraction_bits);
    const uint32_t subnormal = -(uint32_t)(bits < least_normal); /* a mask: gcc makes no vectors of a branch */
    return sign << (width - 1) | (subnormal & (sum_bits - rounder_bits)) | (~subnormal & normal);
}

#define FK_ROUND_TO(format, element, fraction_bits, bias)                                                              \
    static void FK_WITH_ISA(fk_round_to_##format, FK_ISA)(const float *from, void *to, size_t count) {                 \
        element *restrict out = to;                                                                                    \
        for (size_t i = 0; i < count; i++) {                                                                           \
            out[i] = (element)fk_rounded_f32(from[i], 8 * (int)sizeof(element), fraction_bits, bias);                  \
        }                                                                                                              \
    }

/* IEEE 754 binary16, the upper half of a binary32, and E4M3 (without infinities) and E5M2 of Micikevicius et al., "FP8
 * formats for deep learning", 2022 (arXiv:2209.05433), table 1. */
FK_ROUND_TO(float16, uint16_t, 10, 15)
FK_ROUND_TO(bfloat16, uint16_t, 7, 127)
FK_ROUND_TO(float8_e4m3fn, uint8_t, 3, 7)
FK_ROUND_TO(float8_e5m2, uint8_t, 2, 15)

static void FK_WITH_ISA(fk_swap, FK_ISA)(void *elements, size_t count, size_t bytes) {
    uint16_t *half = elements;
    uint32_t *single = elements;
    uint64_t *twice = elements;
    switch (bytes) {
    case 2:
        for (size_t i = 0; i < count; i++) { half[i] = __builtin_bswap16(half[i]); }
        break;
    case 4:
        for (size_t i = 0; i < count; i++) { single[i] = __builtin_bswap32(single[i]); }
        break;
    case 8:
        for (size_t i = 0; i < count; i++) { twice[i] = __builtin_bswap64(twice[i]); }
        break;
    default: break; /* a byte has one order */
    }
}

#endif
