/* streaming_test.c - tests whether fill.c uses streaming stores on simulated CPUs.
 *
 * Each line of input is a fill: whether the CPU prefers streaming stores on few threads, the number of threads, MiB,
 * the plan's fk_store (0 auto, 1 plain, 2 streaming), and whether the memory was touched before. Prints 1 if the
 * kernels were called with a cursor. These kernels write no values. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simd/dispatch.h"

static int prefers;
static atomic_int streamed;

static void kernel(const fk_source *source, void *out, uint64_t block, const uint32_t *block_ids, size_t tiles,
                   fk_streaming_cursor *cursor) {
    enum { TILE_BYTES = 512 };
    (void)source, (void)out, (void)block, (void)block_ids;
    if (cursor == NULL) { return; }
    atomic_store(&streamed, 1);
    cursor->from += tiles * TILE_BYTES;
    cursor->to += tiles * TILE_BYTES;
}

static void flush(fk_streaming_cursor *cursor, size_t bytes) {
    cursor->from += bytes;
    cursor->to += bytes;
}

static const fk_kernels kernels = {.isa = "none", .tile_blocks = 32, .kernel[FK_NORMAL_F32] = kernel, .flush = flush};

const fk_kernels *fk_selected(void) { return &kernels; }
int fk_prefers_streaming(void) { return prefers; }

int main(void) {
    int threads, mib, store, touched;
    while (scanf("%d %d %d %d %d", &prefers, &threads, &mib, &store, &touched) == 5) {
        const fk_axis axis = {.size = (uint64_t)mib << 18, .stride = 4, .step = 1};
        float *const out = malloc(axis.size * sizeof *out);
        if (out == NULL) { return 1; }
        if (touched) { memset(out, 1, axis.size * sizeof *out); }
        const fk_plan plan = {
            .out = out, .axes = &axis, .axis_count = 1, .operation = FK_NORMAL_F32, .store = (fk_store)store};
        atomic_store(&streamed, 0);
        if (fk_fill(&plan, 1, threads, NULL, NULL) != FK_OK) { return 1; }
        printf("%d\n", atomic_load(&streamed));
        free(out);
    }
    return 0;
}
