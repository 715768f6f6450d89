/* sample.c - samples runs of consecutive elements: whole tiles, the partial tiles at both ends, and streaming stores.
 */
#include "sample.h"

#include <string.h>

enum { MIN_STREAMED_BYTES = 2 * FK_LAG_BYTES };

_Static_assert(MIN_STREAMED_BYTES >= FK_LAG_BYTES + FK_LINE_BYTES,
               "a streamed range contains the lag and a whole line");
_Static_assert(FK_NEW_TILES_BYTES >= FK_LAG_BYTES + FK_MAX_TILE_BYTES,
               "the new tiles take at least a tile more than the lag");
_Static_assert((FK_LAG_TILES - 2) * FK_MIN_STREAMED_TILE_BYTES >= FK_LINE_BYTES,
               "stores that begin in the first tile, or a line after it, end before the last tile");
_Static_assert(FK_LAG_BYTES % FK_LINE_BYTES == 0, "the new tiles begin with a cache line");
_Static_assert(sizeof(fk_streaming_buffer) == FK_LAG_BYTES + FK_NEW_TILES_BYTES,
               "there is no padding between the lag and the new tiles");

size_t fk_sampled_bytes(fk_operation operation) {
    switch (operation) {
    case FK_UNIFORM_F64:
    case FK_NORMAL_F64:
    case FK_TRUNCATED_F64:
    case FK_CONSTANT_F64: return 8;
    default: return 4;
    }
}

int fk_can_round(fk_operation operation, fk_format format) {
    if (format == FK_UNROUNDED || operation == FK_TRUNCATED_F64) { return 1; }
    return format != FK_FLOAT32 && fk_sampled_bytes(operation) == sizeof(float) && operation != FK_WORDS_U32;
}

size_t fk_stored_bytes(fk_operation operation, fk_format format) {
    return fk_element_bytes(fk_sampled_bytes(operation), format);
}

fk_sampler fk_make_sampler(const fk_plan *plan, const fk_kernels *kernels) {
    return (fk_sampler){
        .kernels = kernels,
        .kernel = kernels->kernel[plan->operation],
        .source = {plan->key, plan->stream, plan->params, plan->format},
        .element_bytes = fk_stored_bytes(plan->operation, plan->format),
        .block_elements = FK_BLOCK_BYTES / fk_sampled_bytes(plan->operation),
    };
}

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

static size_t block_bytes(const fk_sampler *sampler) { return sampler->block_elements * sampler->element_bytes; }

static size_t tile_bytes(const fk_sampler *sampler) { return sampler->kernels->tile_blocks * block_bytes(sampler); }

/* Sample bytes [begin, end) of one tile. */
static void sample_part_of_tile(const fk_sampler *sampler, uint64_t block, size_t begin, size_t end, char *out) {
    _Alignas(FK_LINE_BYTES) char tile[FK_MAX_TILE_BYTES];
    sampler->kernel(&sampler->source, tile, block, NULL, 1, NULL);
    memcpy(out, tile + begin, end - begin);
}

/* Sample bytes [begin, end) of the sequence of tiles that starts at `block`; begin lies in the first tile. */
static void sample_plain(const fk_sampler *sampler, uint64_t block, size_t begin, size_t end, char *out) {
    const size_t tile = tile_bytes(sampler);
    if (begin > 0) {
        const size_t stop = min_size(end, tile);
        sample_part_of_tile(sampler, block, begin, stop, out);
        if (stop == end) { return; }
        out += stop - begin;
        end -= tile;
        block += sampler->kernels->tile_blocks;
    }
    const size_t whole = end / tile;
    if (whole > 0) { sampler->kernel(&sampler->source, out, block, NULL, whole, NULL); }
    if (end % tile > 0) {
        sample_part_of_tile(sampler, block + whole * sampler->kernels->tile_blocks, 0, end % tile, out + whole * tile);
    }
}

/* Sample the same bytes, and use streaming stores for all whole aligned cache lines; the partial lines at both ends are
 * copied. FK_LAG_TILES tiles are sampled first. The cursor starts in these tiles, less than a tile and a line after
 * their beginning, and advances by a tile for each tile sampled: it neither overtakes the kernel nor passes `end`. */
static void sample_streaming(const fk_sampler *sampler, uint64_t block, size_t begin, size_t end, char *out,
                             fk_streaming_buffer *buffer) {
    char *const new_tiles = (char *)buffer + FK_LAG_BYTES;
    const size_t tile = tile_bytes(sampler), tiles = (end + tile - 1) / tile;

    sampler->kernel(&sampler->source, new_tiles, block, NULL, FK_LAG_TILES, NULL);
    const size_t head = (FK_LINE_BYTES - (uintptr_t)out % FK_LINE_BYTES) % FK_LINE_BYTES;
    memcpy(out, new_tiles + begin, head);
    fk_streaming_cursor cursor = {.from = new_tiles + begin + head, .to = out + head};

    const size_t pending = FK_LAG_TILES * tile - (begin + head);
    char *next = new_tiles + FK_LAG_TILES * tile;
    for (size_t sampled = FK_LAG_TILES; sampled < tiles;) {
        const size_t n = min_size(tiles - sampled, (size_t)(new_tiles + FK_NEW_TILES_BYTES - next) / tile);
        sampler->kernel(&sampler->source, next, block + sampled * sampler->kernels->tile_blocks, NULL, n, &cursor);
        sampled += n;
        memmove(new_tiles - pending, cursor.from, pending);
        cursor.from = new_tiles - pending;
        next = new_tiles;
    }
    char *const stop = out + (end - begin);
    sampler->kernels->flush(&cursor, (size_t)(stop - cursor.to) / FK_LINE_BYTES * FK_LINE_BYTES);
    memcpy(cursor.to, cursor.from, (size_t)(stop - cursor.to));
}

/* Sample a run of elements whose block numbers have the same upper 32 bits, as one call of a kernel requires. */
static void sample_span(const fk_sampler *sampler, uint64_t first, uint64_t count, char *out,
                        fk_streaming_buffer *buffer) {
    const uint64_t tile_elements = sampler->kernels->tile_blocks * sampler->block_elements;
    const uint64_t block = (first - first % tile_elements) / sampler->block_elements;
    const size_t skipped = (size_t)(first % tile_elements) * sampler->element_bytes;
    const size_t bytes = (size_t)count * sampler->element_bytes;
    if (buffer != NULL && bytes >= MIN_STREAMED_BYTES) {
        sample_streaming(sampler, block, skipped, skipped + bytes, out, buffer);
    } else {
        sample_plain(sampler, block, skipped, skipped + bytes, out);
    }
}

void fk_sample_run(const fk_sampler *sampler, uint64_t first, uint64_t count, char *out, fk_streaming_buffer *buffer) {
    const uint64_t span = (uint64_t)sampler->block_elements << 32;
    while (count > 0) {
        const uint64_t to_end = span - first % span, n = count < to_end ? count : to_end;
        sample_span(sampler, first, n, out, buffer);
        first += n;
        count -= n;
        out += n * sampler->element_bytes;
    }
}

void fk_sample_blocks(const fk_sampler *sampler, uint32_t high, uint32_t *low, size_t count, char *out) {
    const size_t tile = sampler->kernels->tile_blocks;
    for (size_t i = count; i % tile > 0; i++) { low[i] = low[count - 1]; }
    for (size_t i = 0; i < count; i += tile) {
        sampler->kernel(&sampler->source, out + i * block_bytes(sampler), (uint64_t)high << 32, low + i, 1, NULL);
    }
}
