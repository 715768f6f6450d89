/* rounding.h - a float32 number rounded to a narrower format, in plain C. */
#ifndef FASTKAIMING_ROUNDING_H
#define FASTKAIMING_ROUNDING_H

#include <stdint.h>
#include <string.h>

/* The bits of `value` in a format of so many bits in all and of fraction, and exponents biased by `bias`: rounded to
 * nearest, ties to even.
 *
 * A normal number is cut short after the addition of half an ulp less one, and one more where the cut leaves an odd
 * number. A subnormal one is rounded by the addition of a number whose ulp is the format's least subnormal.
 *
 * Range: magnitudes that round to a finite number of the format. Max error: half an ulp of the format. */
static inline uint32_t fk_rounded_f32(float value, int width, int fraction_bits, int bias) {
    const int cut = 23 - fraction_bits;
    const uint32_t least_normal = (uint32_t)(128 - bias) << 23, rounder_bits = (uint32_t)(128 - bias + cut) << 23;
    uint32_t bits, sum_bits;
    float magnitude, rounder;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t up = (UINT32_C(1) << (cut - 1)) - 1 + (bits >> cut & 1);
    if (bias == 127) { return (bits + up) >> cut; } /* the same exponents: what is subnormal there is so in binary32 */
    const uint32_t sign = bits >> 31;
    bits &= 0x7FFFFFFF;
    memcpy(&magnitude, &bits, sizeof magnitude);
    memcpy(&rounder, &rounder_bits, sizeof rounder);
    const float sum = magnitude + rounder;
    memcpy(&sum_bits, &sum, sizeof sum_bits);
    const uint32_t normal = ((bits + up) >> cut) - ((uint32_t)(127 - bias) << fraction_bits);
    const uint32_t subnormal = -(uint32_t)(bits < least_normal); /* a mask: gcc makes no vectors of a branch */
    return sign << (width - 1) | (subnormal & (sum_bits - rounder_bits)) | (~subnormal & normal);
}

#endif
