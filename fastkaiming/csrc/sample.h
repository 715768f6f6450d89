/* draw.h - elements of the stream, drawn into memory in their natural order. */
#ifndef FASTKAIMING_DRAW_H
#define FASTKAIMING_DRAW_H

#include "simd/kernels.h"

/* A block has 16 bytes at the most: fewer where its elements are rounded. */
enum { FK_BLOCK_BYTES = 16, FK_LINE_BYTES = 64, FK_MAX_TILE_BYTES = FK_MAX_TILE_BLOCKS * FK_BLOCK_BYTES };

/* What a run that streams is drawn into, a batch at a time, to stay in the first-level cache. In front of the batch lie
 * the bytes of the last one that are still to be stored: at most those of FK_LAG_TILES tiles. */
enum {
    FK_LAG_TILES = 4,
    FK_LAG_BYTES = FK_LAG_TILES * FK_MAX_TILE_BYTES,
    FK_STREAM_BATCH_BYTES = 16 * 1024,
};

typedef struct {
    _Alignas(FK_LINE_BYTES) char lag[FK_LAG_BYTES];
    char batch[FK_STREAM_BATCH_BYTES];
} fk_stream_buffer;

/* What is drawn, and by which kernels. */
typedef struct {
    const fk_kernels *kernels;
    fk_kernel *kernel;
    fk_source source;
    size_t element_bytes, block_elements;
} fk_draw;

fk_draw fk_draw_of(const fk_plan *plan, const fk_kernels *kernels);

/* The elements of the indices from `first` on, to `out`, which has the alignment of its element; past the caches where
 * `buffer` is not NULL. */
void fk_draw_run(const fk_draw *draw, uint64_t first, uint64_t count, char *out, fk_stream_buffer *buffer);

/* The elements of whole blocks, whose numbers share their upper 32 bits. `low`, the lower ones, has room for the block
 * numbers of a last whole tile, and `out` for its elements. */
void fk_draw_blocks(const fk_draw *draw, uint32_t high, uint32_t *low, size_t count, char *out);

#endif
