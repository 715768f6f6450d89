/* kernels.h - the table of kernels of one instruction set, and the interface of a kernel. */
#ifndef FASTKAIMING_KERNELS_H
#define FASTKAIMING_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "fill.h"

/* The distribution and its stream: the Philox key, the upper half of the counter, the parameters, and the format in
 * which values are stored. */
typedef struct {
    uint64_t key;
    uint64_t stream;
    fk_params params;
    fk_format format;
} fk_source;

/* Return the bytes of an element that has `sampled_bytes` bytes before it is rounded to a format. */
static inline size_t fk_element_bytes(size_t sampled_bytes, fk_format format) {
    switch (format) {
    case FK_FLOAT32: return 4;
    case FK_FLOAT16:
    case FK_BFLOAT16: return 2;
    case FK_FLOAT8_E4M3FN:
    case FK_FLOAT8_E5M2: return 1;
    default: return sampled_bytes;
    }
}

/* The progress of streaming stores. The kernel writes tiles to the streaming-store buffer and, after each tile, stores
 * as many bytes of earlier tiles to memory. Interleaved in this way, most of the time of the stores overlaps with the
 * computation; in a separate loop, none of it would: docs/experiments.md. */
typedef struct {
    const char *from; /* in the streaming-store buffer, at least a tile before the end of the current tile */
    char *to;         /* aligned to a cache line of 64 bytes */
} fk_streaming_cursor;

/* Write `tiles` whole tiles to `out` in natural order, from block number `block` on, which is a multiple of the tile
 * size. If `block_ids` is not NULL, write one tile of the blocks whose lower 32 bits it contains; their upper 32 bits
 * are those of `block`. `out` must be aligned to the element size. The blocks of one call must not cross a multiple of
 * 2^32. If `cursor` is not NULL, it is advanced by the number of bytes written. */
typedef void fk_kernel(const fk_source *source, void *out, uint64_t block, const uint32_t *block_ids, size_t tiles,
                       fk_streaming_cursor *cursor);

/* Store `bytes` bytes, whole cache lines, from the cursor, and order all streaming stores before later stores. */
typedef void fk_flush(fk_streaming_cursor *cursor, size_t bytes);

/* Reverse the bytes of each element. */
typedef void fk_swap(void *elements, size_t count, size_t bytes);

/* Buffers in other files have space for whole tiles of any instruction set, and streaming stores rely on a minimum size
 * of a tile in every format. kernel.inc asserts both for its tile. */
enum { FK_MAX_TILE_BLOCKS = 64, FK_MIN_STREAMED_TILE_BYTES = 32 };

typedef struct {
    const char *isa;
    size_t tile_blocks; /* Philox blocks in a tile: a power of 2, at most FK_MAX_TILE_BLOCKS */
    fk_kernel *kernel[FK_OPERATIONS];
    fk_swap *swap;
    fk_flush *flush; /* NULL if the instruction set has no streaming stores */
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
