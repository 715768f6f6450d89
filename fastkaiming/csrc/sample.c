/* draw.c - a run of consecutive elements: whole tiles, the pieces at its ends, and the way past the caches. */
#include "sample.h"

#include <string.h>

enum { LEAST_STREAMED_BYTES = 2 * FK_LAG_BYTES };

_Static_assert(LEAST_STREAMED_BYTES >= FK_LAG_BYTES + FK_LINE_BYTES, "a streamed range has the lag and a whole line");
_Static_assert(FK_STREAM_BATCH_BYTES >= FK_LAG_BYTES + FK_MAX_TILE_BYTES, "a batch holds a tile more than the lag");
_Static_assert((FK_LAG_TILES - 2) * FK_LEAST_STREAMED_TILE_BYTES >= FK_LINE_BYTES,
               "stores that begin in the first tile, or a line behind it, end before the last one");
_Static_assert(FK_LAG_BYTES % FK_LINE_BYTES == 0, "a batch begins with a cache line");
_Static_assert(sizeof(fk_stream_buffer) == FK_LAG_BYTES + FK_STREAM_BATCH_BYTES, "the batch follows the lag at once");

size_t fk_drawn_bytes(fk_operation operation) {
    switch (operation) {
    case FK_UNIFORM_F64:
    case FK_NORMAL_F64:
    case FK_TRUNCATED_F64:
    case FK_CONSTANT_F64: return 8;
    default: return 4;
    }
}

int fk_can_round(fk_operation operation, fk_format format) {
    if (format == FK_AS_DRAWN || operation == FK_TRUNCATED_F64) { return 1; }
    return format != FK_FLOAT32 && fk_drawn_bytes(operation) == sizeof(float) && operation != FK_WORDS_U32;
}

size_t fk_stored_bytes(fk_operation operation, fk_format format) {
    return fk_element_bytes(fk_drawn_bytes(operation), format);
}

fk_draw fk_draw_of(const fk_plan *plan, const fk_kernels *kernels) {
    return (fk_draw){
        .kernels = kernels,
        .kernel = kernels->kernel[plan->operation],
        .source = {plan->key, plan->stream, plan->params, plan->format},
        .element_bytes = fk_stored_bytes(plan->operation, plan->format),
        .block_elements = FK_BLOCK_BYTES / fk_drawn_bytes(plan->operation),
    };
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t block_bytes(const fk_draw *draw) { return draw->block_elements * draw->element_bytes; }

static size_t tile_bytes(const fk_draw *draw) { return draw->kernels->tile_blocks * block_bytes(draw); }

/* Bytes [begin, end) of one tile. */
static void draw_part_of_tile(const fk_draw *draw, uint64_t block, size_t begin, size_t end, char *out) {
    _Alignas(FK_LINE_BYTES) char tile[FK_MAX_TILE_BYTES];
    draw->kernel(&draw->source, tile, block, NULL, 1, NULL);
    memcpy(out, tile + begin, end - begin);
}

/* Bytes [begin, end) of the sequence of tiles that starts at `block`; begin lies in the first tile. */
static void draw_plain(const fk_draw *draw, uint64_t block, size_t begin, size_t end, char *out) {
    const size_t tile = tile_bytes(draw);
    if (begin > 0) {
        const size_t stop = smaller(end, tile);
        draw_part_of_tile(draw, block, begin, stop, out);
        if (stop == end) { return; }
        out += stop - begin;
        end -= tile;
        block += draw->kernels->tile_blocks;
    }
    const size_t whole = end / tile;
    if (whole > 0) { draw->kernel(&draw->source, out, block, NULL, whole, NULL); }
    if (end % tile > 0) {
        draw_part_of_tile(draw, block + whole * draw->kernels->tile_blocks, 0, end % tile, out + whole * tile);
    }
}

/* The same bytes, in whole aligned cache lines past the caches, all but the lines that the range begins and ends in.
 * The sink starts less than a tile and a line into the FK_LAG_TILES tiles drawn before it, and then moves as fast as
 * the draw: so it neither overtakes that nor passes `end`. */
static void draw_streaming(const fk_draw *draw, uint64_t block, size_t begin, size_t end, char *out,
                           fk_stream_buffer *buffer) {
    char *const batch = (char *)buffer + FK_LAG_BYTES;
    const size_t tile = tile_bytes(draw), tiles = (end + tile - 1) / tile;

    draw->kernel(&draw->source, batch, block, NULL, FK_LAG_TILES, NULL);
    const size_t head = (FK_LINE_BYTES - (uintptr_t)out % FK_LINE_BYTES) % FK_LINE_BYTES;
    memcpy(out, batch + begin, head);
    fk_sink sink = {.from = batch + begin + head, .to = out + head};

    const size_t unsent = FK_LAG_TILES * tile - (begin + head);
    char *fresh = batch + FK_LAG_TILES * tile;
    for (size_t drawn = FK_LAG_TILES; drawn < tiles;) {
        const size_t n = smaller(tiles - drawn, (size_t)(batch + FK_STREAM_BATCH_BYTES - fresh) / tile);
        draw->kernel(&draw->source, fresh, block + drawn * draw->kernels->tile_blocks, NULL, n, &sink);
        drawn += n;
        memmove(batch - unsent, sink.from, unsent);
        sink.from = batch - unsent;
        fresh = batch;
    }
    char *const stop = out + (end - begin);
    draw->kernels->flush(&sink, (size_t)(stop - sink.to) / FK_LINE_BYTES * FK_LINE_BYTES);
    memcpy(sink.to, sink.from, (size_t)(stop - sink.to));
}

/* A run within the blocks whose numbers have the same upper 32 bits: all that one call of a kernel may span. */
static void draw_span(const fk_draw *draw, uint64_t first, uint64_t count, char *out, fk_stream_buffer *buffer) {
    const uint64_t tile_elements = draw->kernels->tile_blocks * draw->block_elements;
    const uint64_t block = (first - first % tile_elements) / draw->block_elements;
    const size_t skipped = (size_t)(first % tile_elements) * draw->element_bytes;
    const size_t bytes = (size_t)count * draw->element_bytes;
    if (buffer != NULL && bytes >= LEAST_STREAMED_BYTES) {
        draw_streaming(draw, block, skipped, skipped + bytes, out, buffer);
    } else {
        draw_plain(draw, block, skipped, skipped + bytes, out);
    }
}

void fk_draw_run(const fk_draw *draw, uint64_t first, uint64_t count, char *out, fk_stream_buffer *buffer) {
    const uint64_t span = (uint64_t)draw->block_elements << 32;
    while (count > 0) {
        const uint64_t to_end = span - first % span, n = count < to_end ? count : to_end;
        draw_span(draw, first, n, out, buffer);
        first += n;
        count -= n;
        out += n * draw->element_bytes;
    }
}

void fk_draw_blocks(const fk_draw *draw, uint32_t high, uint32_t *low, size_t count, char *out) {
    const size_t tile = draw->kernels->tile_blocks;
    for (size_t i = count; i % tile > 0; i++) { low[i] = low[count - 1]; }
    for (size_t i = 0; i < count; i += tile) {
        draw->kernel(&draw->source, out + i * block_bytes(draw), (uint64_t)high << 32, low + i, 1, NULL);
    }
}
