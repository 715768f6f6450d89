/* kernels.h - the table of kernels that one instruction set offers, and what a kernel is asked to do. */
#ifndef FASTKAIMING_KERNELS_H
#define FASTKAIMING_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "fill.h"

/* Which numbers: the Philox key and the upper half of its counter, the distribution's parameters, and the format that
 * the numbers are stored in. */
typedef struct {
    uint64_t key;
    uint64_t stream;
    fk_params params;
    fk_format format;
} fk_source;

/* Bytes of an element that was drawn in so many, and rounded to a format. */
static inline size_t fk_element_bytes(size_t drawn, fk_format format) {
    switch (format) {
    case FK_FLOAT32: return 4;
    case FK_FLOAT16:
    case FK_BFLOAT16: return 2;
    case FK_FLOAT8_E4M3FN:
    case FK_FLOAT8_E5M2: return 1;
    default: return drawn;
    }
}

/* Where finished lines go when a fill streams: the kernel writes its tiles to a scratch buffer and, tile by tile, moves
 * as many bytes of earlier tiles on to memory. Interleaved so, most of the stores' time hides behind the draws; in a
 * loop of their own none would: docs/experiments.md. */
typedef struct {
    const char *from; /* in the scratch buffer, a tile or more before the end of the one being drawn */
    char *to;         /* aligned to a cache line of 64 bytes */
} fk_sink;

/* Write `tiles` whole tiles to `out` in natural order, from block `block` on, a multiple of the tile; or where `listed`
 * is not NULL, one tile of the blocks whose lower 32 bits it lists, the upper ones being those of `block`. `out` needs
 * the alignment of its element only. The blocks of one call never cross a multiple of 2^32. A sink, if there is one, is
 * left advanced by the bytes written. */
typedef void fk_kernel(const fk_source *source, void *out, uint64_t block, const uint32_t *listed, size_t tiles,
                       fk_sink *sink);

/* Move `bytes`, whole cache lines, through the sink and wait until all its stores are ordered before what follows. */
typedef void fk_flush(fk_sink *sink, size_t bytes);

/* Turn around the bytes of each element. */
typedef void fk_swap(void *elements, size_t count, size_t bytes);

/* Buffers elsewhere have space for whole tiles of any instruction set, and what streams counts on a tile of so many
 * bytes, whatever its format. kernel.inc asserts both of its tile. */
enum { FK_MAX_TILE_BLOCKS = 64, FK_LEAST_STREAMED_TILE_BYTES = 32 };

typedef struct {
    const char *isa;
    size_t tile_blocks; /* Philox blocks in a tile: a power of 2, at most FK_MAX_TILE_BLOCKS */
    fk_kernel *kernel[FK_OPERATIONS];
    fk_swap *swap;
    fk_flush *flush; /* NULL where the ISA has no stores past the caches */
} fk_kernels;

extern const fk_kernels fk_kernels_scalar;
#if defined(__x86_64__)
extern const fk_kernels fk_kernels_avx2;
extern const fk_kernels fk_kernels_avx512;
extern const fk_kernels fk_kernels_avx512ifma;
#elif defined(__aarch64__)
extern const fk_kernels fk_kernels_neon;
#endif

#endif
