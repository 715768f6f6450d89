/* probe.c - what Python cannot reach: a block of words in any lane of a kernel, and a thread's floating-point mode. */
#include <string.h>

#include "dispatch.h"

size_t probe_tile_blocks(void) { return fk_selected()->tile_blocks; }

/* Block `block` as the selected kernel draws it at place `lane` of a tile. A fill aligns its tiles, so that there each
 * block has one lane; the arithmetic does not care, as long as no earlier block of the tile has another high word. */
void probe_words(uint64_t seed, uint64_t stream, uint64_t block, size_t lane, uint32_t words[4]) {
    enum { MOST_BLOCKS = 64 };
    uint32_t tile[4 * MOST_BLOCKS];
    const fk_source source = {.seed = seed, .stream = stream};
    fk_selected()->kernel[FK_WORDS_U32](&source, tile, block - lane, NULL, 1, NULL);
    memcpy(words, tile + 4 * lane, 4 * sizeof *words);
}

#if defined(__x86_64__)
#include <xmmintrin.h>

/* Less the flags: any operation, the interpreter's own too, may raise one. */
uint64_t probe_control(void) { return _mm_getcsr() & ~(unsigned)_MM_EXCEPT_MASK; }
void probe_set_control(uint64_t control) { _mm_setcsr((unsigned)control); }

#elif defined(__aarch64__)

uint64_t probe_control(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}

void probe_set_control(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }

#endif
