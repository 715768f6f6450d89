/* sample.h - samples consecutive elements of the stream into memory. */
#ifndef FASTKAIMING_SAMPLE_H
#define FASTKAIMING_SAMPLE_H

#include "simd/kernels.h"

/* A block has 16 bytes, or fewer if its elements are rounded to a narrower format. */
enum { FK_BLOCK_BYTES = 16, FK_LINE_BYTES = 64, FK_MAX_TILE_BYTES = FK_MAX_TILE_BLOCKS * FK_BLOCK_BYTES };

/* The buffer of streaming stores. Tiles are sampled into `new_tiles`, which fits in the first-level cache. The bytes of
 * earlier tiles that are still to be stored lie in front of it: at most those of FK_LAG_TILES tiles. */
enum {
    FK_LAG_TILES = 4,
    FK_LAG_BYTES = FK_LAG_TILES * FK_MAX_TILE_BYTES,
    FK_NEW_TILES_BYTES = 16 * 1024,
};

typedef struct {
    _Alignas(FK_LINE_BYTES) char lag[FK_LAG_BYTES];
    char new_tiles[FK_NEW_TILES_BYTES];
} fk_streaming_buffer;

/* The distribution to sample, and the kernels that sample it. */
typedef struct {
    const fk_kernels *kernels;
    fk_kernel *kernel;
    fk_source source;
    size_t element_bytes, block_elements;
} fk_sampler;

fk_sampler fk_make_sampler(const fk_plan *plan, const fk_kernels *kernels);

/* Sample `count` elements, from index `first` on, to `out`, which is aligned to the element size. Streaming stores
 * are used if `buffer` is not NULL. */
void fk_sample_run(const fk_sampler *sampler, uint64_t first, uint64_t count, char *out, fk_streaming_buffer *buffer);

/* Sample the elements of `count` whole blocks whose numbers have the same upper 32 bits. `low` contains the lower 32
 * bits. The capacity of `low` and of `out` is rounded up to a whole tile. */
void fk_sample_blocks(const fk_sampler *sampler, uint32_t high, uint32_t *low, size_t count, char *out);

#endif
