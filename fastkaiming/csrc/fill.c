/* fill.c - a plan becomes chunks, a chunk becomes whole tiles and the pieces at its ends. */
#include "fill.h"

#include <string.h>
#include <unistd.h>

#include "dispatch.h"
#include "fpenv.h"
#include "threads.h"

/* A chunk is what a thread takes at a time: aligned to itself in the sequence of blocks, so that the cut between two
 * never splits a tile, and no chunk crosses a multiple of 2^32 blocks. */
enum { BLOCK_BYTES = 16, CHUNK_BYTES = 1 << 20, MAX_TILE_BYTES = 1024 };

/* A streaming fill draws a batch at a time into a buffer that stays in the first-level cache. In front of the batch lie
 * the bytes of the last one that are still to go: at most LAG_TILES tiles. */
enum {
    LINE_BYTES = 64,
    LAG_TILES = 3,
    LAG_BYTES = LAG_TILES * MAX_TILE_BYTES,
    BATCH_BYTES = 16 * 1024,
    LEAST_STREAMED_BYTES = 2 * LAG_BYTES,
};
_Static_assert(LEAST_STREAMED_BYTES >= LAG_BYTES + LINE_BYTES, "a streamed range has LAG_TILES tiles and a whole line");
_Static_assert(BATCH_BYTES >= 2 * LAG_BYTES, "a batch has room for more than the first LAG_TILES tiles");

typedef struct {
    const fk_kernels *kernels;
    fk_kernel *kernel;
    size_t tile_bytes;
    fk_source source;
    int streaming;
    char *out;
    uint64_t first;
    size_t element_bytes;
} job;

size_t fk_element_bytes(fk_operation operation) {
    switch (operation) {
    case FK_UNIFORM_F64:
    case FK_NORMAL_F64:
    case FK_TRUNCATED_F64:
    case FK_CONSTANT_F64: return 8;
    default: return 4;
    }
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Bytes [begin, end) of one tile. */
static void fill_part_of_tile(const job *j, uint64_t block, size_t begin, size_t end, char *out) {
    _Alignas(LINE_BYTES) char tile[MAX_TILE_BYTES];
    j->kernel(&j->source, tile, block, 1, NULL);
    memcpy(out, tile + begin, end - begin);
}

/* Bytes [begin, end) of the sequence of tiles that starts at `block`; begin lies in the first tile. */
static void fill_plain(const job *j, uint64_t block, size_t begin, size_t end, char *out) {
    const size_t tile = j->tile_bytes;
    if (begin > 0) {
        const size_t stop = smaller(end, tile);
        fill_part_of_tile(j, block, begin, stop, out);
        if (stop == end) { return; }
        out += stop - begin;
        end -= tile;
        block += j->kernels->tile_blocks;
    }
    const size_t whole = end / tile;
    if (whole > 0) { j->kernel(&j->source, out, block, whole, NULL); }
    if (end % tile > 0) {
        fill_part_of_tile(j, block + whole * j->kernels->tile_blocks, 0, end % tile, out + whole * tile);
    }
}

/* The same bytes, in whole aligned cache lines past the caches, all but the lines that the range begins and ends in.
 * The sink starts less than a tile and a line into the LAG_TILES tiles drawn before it, and then moves as fast as the
 * draw: so it neither overtakes that nor passes `end`. */
static void fill_streaming(const job *j, uint64_t block, size_t begin, size_t end, char *out) {
    _Alignas(LINE_BYTES) char buffer[LAG_BYTES + BATCH_BYTES];
    char *const batch = buffer + LAG_BYTES;
    const size_t tile = j->tile_bytes, tiles = (end + tile - 1) / tile;

    j->kernel(&j->source, batch, block, LAG_TILES, NULL);
    const size_t head = (LINE_BYTES - (uintptr_t)out % LINE_BYTES) % LINE_BYTES;
    memcpy(out, batch + begin, head);
    fk_sink sink = {.from = batch + begin + head, .to = out + head};

    const size_t unsent = LAG_TILES * tile - (begin + head);
    char *fresh = batch + LAG_TILES * tile;
    for (size_t drawn = LAG_TILES; drawn < tiles;) {
        const size_t n = smaller(tiles - drawn, (size_t)(batch + BATCH_BYTES - fresh) / tile);
        j->kernel(&j->source, fresh, block + drawn * j->kernels->tile_blocks, n, &sink);
        drawn += n;
        memmove(batch - unsent, sink.from, unsent);
        sink.from = batch - unsent;
        fresh = batch;
    }
    char *const stop = out + (end - begin);
    j->kernels->flush(&sink, (size_t)(stop - sink.to) / LINE_BYTES);
    memcpy(sink.to, sink.from, (size_t)(stop - sink.to));
}

/* Elements [begin, end) of the plan, in the floating-point environment that the stream is defined in. */
static void fill_chunk(void *context, uint64_t begin, uint64_t end) {
    const job *j = context;
    const uint64_t block_elements = BLOCK_BYTES / j->element_bytes;
    const uint64_t tile_elements = j->kernels->tile_blocks * block_elements;
    const uint64_t index = j->first + begin;
    const size_t skipped = (size_t)(index % tile_elements) * j->element_bytes;
    const size_t bytes = (size_t)(end - begin) * j->element_bytes;
    const uint64_t block = (index - index % tile_elements) / block_elements;
    char *const out = j->out + begin * j->element_bytes;

    const fk_fpenv callers = fk_enter_default_fpenv();
    if (j->streaming && bytes >= LEAST_STREAMED_BYTES) {
        fill_streaming(j, block, skipped, skipped + bytes, out);
    } else {
        fill_plain(j, block, skipped, skipped + bytes, out);
    }
    fk_leave_default_fpenv(&callers);
}

/* Larger fills than this leave the caches anyway. A virtual machine is told of the whole host's last-level cache, of
 * which it has a share: measured on one with 260 MB, streaming is ahead from 64 MiB on. */
static uint64_t cacheable_bytes(void) {
    const uint64_t most = UINT64_C(32) << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0 && (uint64_t)cache < most) { return (uint64_t)cache; }
#endif
    return most;
}

static int streams(const fk_plan *plan, const fk_kernels *kernels) {
    if (kernels->flush == NULL || plan->store == FK_STORE_PLAIN) { return 0; }
    if (plan->store == FK_STORE_STREAMING) { return 1; }
    const uint64_t bytes = plan->count * fk_element_bytes(plan->operation);
    return bytes > CHUNK_BYTES && bytes > cacheable_bytes(); /* a small fill does not even ask */
}

int fk_streams(void) { return fk_selected()->flush != NULL; }

size_t fk_chunk_elements(void) { return CHUNK_BYTES / 4; }

fk_status fk_fill(const fk_plan *plan) {
    const fk_kernels *kernels = fk_selected();
    const size_t size = fk_element_bytes(plan->operation);
    const uint64_t grain = CHUNK_BYTES / size;
    job j = {
        .kernels = kernels,
        .kernel = kernels->kernel[plan->operation],
        .tile_bytes = kernels->tile_blocks * BLOCK_BYTES,
        .source = {plan->seed, plan->stream, plan->params},
        .streaming = streams(plan, kernels),
        .out = plan->out,
        .first = plan->first,
        .element_bytes = size,
    };
    const fk_range range = {.size = plan->count, .grain = grain, .phase = plan->first % grain};
    const int stopped = fk_parallel_for(&range, plan->threads, fill_chunk, &j, plan->watch, plan->context);
    return stopped ? FK_CANCELLED : FK_OK;
}
