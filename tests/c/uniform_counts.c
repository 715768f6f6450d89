/* uniform_counts.c - how often each number of a narrow format is stored, over all words of a uniform distribution.
 *
 *     uniform_counts ISA <CASES
 *
 * A line of CASES is a format, by its number in fk_format, and the parameters of fk_uniform_f32:
 *
 *     FORMAT SCALE CENTER LOW HIGH
 *
 * A value depends on the upper 24 bits of its word, so 2^24 words are all there are. For each case one line is printed:
 * pairs of the bits of a number and of its count. Compile it with the core, and with the vector operations and the
 * target of the instruction set: -DVERBS='"vec_avx2.h"' -mavx2 -mfma -mf16c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dispatch.h"

#ifndef VERBS
#define VERBS "vec_scalar.h"
#endif
#define FK_INLINE static inline __attribute__((always_inline))
#include VERBS

#include "uniform.h"

enum { LANES = 2 * FK_W64 };

static void count(fk_format format, const fk_params *params, uint32_t *counts) {
    const int is_byte = fk_stored_bytes(FK_UNIFORM_F32, format) == 1;
    for (uint32_t k = 0; k < UINT32_C(1) << 24; k += LANES) {
        uint32_t words[LANES];
        float values[LANES];
        uint16_t halves[LANES];
        uint8_t bytes[LANES];
        for (uint32_t i = 0; i < LANES; i++) { words[i] = (k + i) << 8 | ((k + i) & 0xFF); }
        v_u32 vector;
        memcpy(&vector, words, sizeof vector);
        const v_f32 uniform = fk_uniform_f32(params, vector);
        memcpy(values, &uniform, sizeof values);
        fk_selected()->round[format](values, is_byte ? (void *)bytes : (void *)halves, LANES);
        for (int i = 0; i < LANES; i++) { counts[is_byte ? bytes[i] : halves[i]]++; }
    }
}

int main(int argc, char **argv) {
    static uint32_t counts[1 << 16];
    fk_params params = {0};
    int format;
    if (argc != 2 || fk_select_isa(argv[1]) != FK_OK) {
        fputs("usage: uniform_counts ISA <CASES\n", stderr);
        return 2;
    }
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
