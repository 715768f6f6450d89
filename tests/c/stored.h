/* stored.h - calls fk_store_f32 for numbers that are given in the order in which they are stored.
 *
 * Included once, by a program that is compiled with the vector operations and the target of an instruction set:
 * -DVECTOR_HEADER='"simd/vec_avx2.h"' -mavx2 -mfma -mf16c. */
#ifndef FASTKAIMING_TESTS_STORED_H
#define FASTKAIMING_TESTS_STORED_H

#include <string.h>

#ifndef VECTOR_HEADER
#define VECTOR_HEADER "simd/vec_scalar.h"
#endif
#define FK_INLINE static inline __attribute__((always_inline))
#define FK_UNROLL
#include VECTOR_HEADER

#include "math/formats.h"

enum { LANES = 2 * FK_W64, STORED_AT_ONCE = 4 * LANES };

/* Store STORED_AT_ONCE numbers. `out` is aligned to its element. */
static void store(fk_format format, const float *numbers, char *out) {
    float lanes[4][LANES];
    v_f32 vectors[4];
    for (int lane = 0; lane < LANES; lane++) {
        const int counter = fk_counter_of_lane(lane, (int)fk_element_bytes(sizeof(float), format));
        for (int i = 0; i < 4; i++) { lanes[i][lane] = numbers[4 * counter + i]; }
    }
    memcpy(vectors, lanes, sizeof vectors);
    fk_store_f32(format, out, vectors);
}

#endif
