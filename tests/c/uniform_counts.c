/* uniform_counts.c - counts how often each number of a narrow format is stored, over all words of a uniform
 * distribution.
 *
 *     uniform_counts <CASES
 *
 * A line of CASES contains a format, by its number in fk_format, and the parameters of a uniform distribution:
 *
 *     FORMAT SCALE CENTER LOW HIGH
 *
 * A value depends on the upper 24 bits of its word, so there are 2^24 different words. For each case, the program
 * prints one line of pairs: the bits of a number and its count. stored.h describes how to compile this for an
 * instruction set. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stored.h"
#include "math/uniform.h"

static void count(fk_format format, const fk_params *params, uint32_t *counts) {
    const int is_byte = fk_element_bytes(sizeof(float), format) == 1;
    for (uint32_t k = 0; k < UINT32_C(1) << 24; k += STORED_AT_ONCE) {
        float values[STORED_AT_ONCE];
        _Alignas(uint16_t) char stored[STORED_AT_ONCE * sizeof(uint16_t)];
        for (uint32_t i = 0; i < STORED_AT_ONCE; i += LANES) {
            uint32_t words[LANES];
            for (uint32_t j = 0; j < LANES; j++) { words[j] = (k + i + j) << 8 | ((k + i + j) & 0xFF); }
            v_u32 vector;
            memcpy(&vector, words, sizeof vector);
            const v_f32 uniform = fk_is_symmetric_uniform_f32(params) ? fk_uniform_symmetric_f32(params, vector)
                                                                      : fk_uniform_f32(params, vector);
            memcpy(values + i, &uniform, sizeof uniform);
        }
        store(format, values, stored);
        for (int i = 0; i < STORED_AT_ONCE; i++) {
            counts[is_byte ? ((uint8_t *)stored)[i] : ((uint16_t *)stored)[i]]++;
        }
    }
}

int main(void) {
    static uint32_t counts[1 << 16];
    fk_params params = {0};
    int format;
    while (scanf("%d %lf %lf %lf %lf", &format, &params.scale, &params.center, &params.low, &params.high) == 5) {
        memset(counts, 0, sizeof counts);
        count((fk_format)format, &params, counts);
        for (int bits = 0; bits < 1 << 16; bits++) {
            if (counts[bits]) { printf("%d %" PRIu32 " ", bits, counts[bits]); }
        }
        puts("");
    }
    return 0;
}
