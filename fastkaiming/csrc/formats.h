/* formats.h - numbers rounded to a narrower format, and elements to the other byte order.
 *
 * Plain loops, left to the compiler to make vectors of, but for binary16.
 */
#ifndef FASTKAIMING_FORMATS_H
#define FASTKAIMING_FORMATS_H

#include <stddef.h>
#include <stdint.h>

#include "rounding.h"

#define FK_ROUND_TO(format, element, fraction_bits, bias)                                                              \
    static void FK_WITH_ISA(fk_round_to_##format, FK_ISA)(const void *from, void *to, size_t count) {                  \
        const float *in = from;                                                                                        \
        element *restrict out = to;                                                                                    \
        for (size_t i = 0; i < count; i++) {                                                                           \
            out[i] = (element)fk_rounded_f32(in[i], 8 * (int)sizeof(element), fraction_bits, bias);                    \
        }                                                                                                              \
    }

/* The upper half of a binary32, and E4M3 (without infinities) and E5M2 of Micikevicius et al., "FP8 formats for deep
 * learning", 2022 (arXiv:2209.05433), table 1. */
FK_ROUND_TO(bfloat16, uint16_t, 7, 127)
FK_ROUND_TO(float8_e4m3fn, uint8_t, 3, 7)
FK_ROUND_TO(float8_e5m2, uint8_t, 2, 15)

/* IEEE 754 binary16, for which there are instructions. */
static void FK_WITH_ISA(fk_round_to_float16, FK_ISA)(const void *from, void *to, size_t count) {
    enum { LANES = 2 * FK_W64 };
    const float *in = from;
    uint16_t *restrict out = to;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) { vf_store_f16(out + i, vf_load(in + i)); }
    for (; i < count; i++) { out[i] = (uint16_t)fk_rounded_f32(in[i], 16, 10, 15); }
}

static void FK_WITH_ISA(fk_round_to_float32, FK_ISA)(const void *from, void *to, size_t count) {
    const double *in = from;
    float *restrict out = to;
    for (size_t i = 0; i < count; i++) { out[i] = (float)in[i]; }
}

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
