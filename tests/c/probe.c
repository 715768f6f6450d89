/* probe.c - functions that Python cannot reach: a block of words in any lane of a kernel, and a thread's floating-point
 * control. */
#include <string.h>

#include "simd/dispatch.h"

size_t probe_tile_blocks(void) { return fk_selected()->tile_blocks; }

/* Return block `block` as the selected kernel computes it in lane `lane` of a tile. In a fill, tiles are aligned, so
 * each block has a fixed lane; but the arithmetic allows any lane, provided that no earlier block of the tile has
 * another high word. */
void probe_words(uint64_t key, uint64_t stream, uint64_t block, size_t lane, uint32_t words[4]) {
    enum { MAX_BLOCKS = 64 };
    uint32_t tile[4 * MAX_BLOCKS];
    const fk_source source = {.key = key, .stream = stream};
    fk_selected()->kernel[FK_WORDS_U32](&source, tile, block - lane, NULL, 1, NULL);
    memcpy(words, tile + 4 * lane, 4 * sizeof *words);
}

#if defined(__x86_64__)
#include <xmmintrin.h>

/* The control register of SSE without the exception flags, which any operation may raise, including the interpreter's
 * own; and the control word of the x87 above it. */
uint64_t probe_control(void) {
    uint16_t x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (uint64_t)x87 << 32 | (_mm_getcsr() & ~(unsigned)_MM_EXCEPT_MASK);
}

void probe_set_control(uint64_t control) {
    const uint16_t x87 = (uint16_t)(control >> 32);
    __asm__ volatile("fldcw %0" : : "m"(x87));
    _mm_setcsr((unsigned)control);
}

#elif defined(__aarch64__)

uint64_t probe_control(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}

void probe_set_control(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }

#endif
