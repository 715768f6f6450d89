/* stack_test.c - measures how much stack a fill uses on the calling thread.
 *
 * It runs fills on a thread whose stack was filled with a pattern: every operation, format and layout, on every
 * instruction set that this machine can run. For each, it prints a line:
 *
 *     ISA OPERATION FORMAT LAYOUT THREADS DEPTH
 *
 * OPERATION and FORMAT are the numbers of fk_operation and fk_format. DEPTH is the number of bytes from the top of the
 * stack to the deepest byte that the fill changed, minus that of a thread that does nothing. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fill.h"

enum { STACK_BYTES = 256 * 1024, PAINT = 0xA5, LARGE = 700000 };

static unsigned char *stack;

static _Noreturn void stop(const char *problem) {
    fprintf(stderr, "stack_test: %s\n", problem);
    exit(1);
}

/* Return the stack depth that run(argument) reaches on a thread of its own. */
static size_t depth(void *(*run)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    memset(stack, PAINT, STACK_BYTES);
    if (pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, STACK_BYTES) ||
        pthread_create(&thread, &attributes, run, argument)) {
        stop("cannot start a thread on a stack of its own");
    }
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    size_t untouched = 0;
    while (untouched < STACK_BYTES && stack[untouched] == PAINT) { untouched++; }
    return STACK_BYTES - untouched;
}

typedef struct {
    fk_plan plan;
    int threads;
} fill;

static void *do_nothing(void *argument) { return argument; }

static void *run_fill(void *argument) {
    const fill *f = argument;
    if (fk_fill(&f->plan, 1, f->threads, NULL, NULL) != FK_OK) { stop("a fill failed"); }
    return NULL;
}

/* An array of `rows` times `columns` elements, with strides in elements. Streaming stores are used if the kernels have
 * them. */
static const struct layout {
    const char *name;
    uint64_t rows, columns;
    int64_t row_stride, column_stride;
    size_t misaligned; /* bytes */
    int byte_swapped;
    fk_store store;
    uint64_t first;
} LAYOUTS[] = {
    {"one", 1, 1, 1, 1, 0, 0, FK_STORE_PLAIN, 0},
    {"direct", 100, 301, 301, 1, 0, 0, FK_STORE_PLAIN, 5},
    {"streaming", 100, 301, 301, 1, 0, 0, FK_STORE_STREAMING, 5},
    {"misaligned", 100, 301, 301, 1, 1, 0, FK_STORE_PLAIN, 5},
    {"swapped", 100, 301, 301, 1, 0, 1, FK_STORE_PLAIN, 5},
    {"strided", 100, 301, 602, 2, 0, 0, FK_STORE_PLAIN, 5},
    {"transposed", 100, 301, 1, 100, 0, 0, FK_STORE_PLAIN, 5},
    {"short rows", 3000, 5, 8, 1, 0, 0, FK_STORE_PLAIN, 5},
    {"short rows around block 2^32", 3000, 5, 8, 1, 0, 0, FK_STORE_PLAIN, (UINT64_C(1) << 34) - 7001},
};
enum { COUNT_OF_LAYOUTS = sizeof LAYOUTS / sizeof *LAYOUTS };

/* The tail probabilities of truncated normals, for kernels of one, two and three regions. Other operations ignore them.
 */
static const double TAILS[] = {0.2, 0.01, 1e-12};

static int is_truncated(fk_operation operation) { return operation >= FK_TRUNCATED_F32; }

static void measure(fk_operation operation, fk_format format, const struct layout *layout, double tail, int threads,
                    char *memory, size_t nothing) {
    const int64_t bytes = (int64_t)fk_stored_bytes(operation, format);
    const uint64_t rows = threads > 1 ? LARGE / layout->columns : layout->rows;
    const int64_t column_stride =
        layout->column_stride == (int64_t)layout->rows ? (int64_t)rows : layout->column_stride;
    const fk_axis axes[] = {
        {rows, bytes * layout->row_stride, layout->columns},
        {layout->columns, bytes * column_stride, 1},
    };
    fill f = {
        .plan =
            {
                .out = memory + layout->misaligned,
                .axes = axes,
                .axis_count = 2,
                .first = layout->first,
                .operation = operation,
                .params = {.scale = 1,
                           .low = -2,
                           .high = 2,
                           .slope = 1e-20,
                           .lower_slope = 1e-20,
                           .lower_intercept = tail,
                           .upper_slope = 1e-20,
                           .upper_intercept = tail},
                .format = format,
                .byte_swapped = layout->byte_swapped,
                .store = layout->store,
            },
        .threads = threads,
    };
    printf("%s %d %d %s %d %zu\n", fk_selected_isa(), (int)operation, (int)format, layout->name, threads,
           depth(run_fill, &f) - nothing);
}

int main(void) {
    const char *isa;
    char *const memory = malloc(8 * LARGE * sizeof(double));
    if (memory == NULL || posix_memalign((void **)&stack, 1 << 16, STACK_BYTES) != 0) { stop("no memory"); }
    depth(do_nothing, NULL); /* the first thread of a process may use more stack */
    const size_t nothing = depth(do_nothing, NULL);
    for (int i = 0; (isa = fk_available_isa(i)) != NULL; i++) {
        if (fk_select_isa(isa) != FK_OK) { stop("cannot select an instruction set"); }
        for (int operation = 0; operation < FK_OPERATIONS; operation++) {
            for (int format = 0; format < FK_FORMATS; format++) {
                if (!fk_can_round((fk_operation)operation, (fk_format)format)) { continue; }
                for (int layout = 0; layout < COUNT_OF_LAYOUTS; layout++) {
                    for (int tail = 0; tail < (is_truncated((fk_operation)operation) ? 3 : 1); tail++) {
                        measure((fk_operation)operation, (fk_format)format, &LAYOUTS[layout], TAILS[tail], 1, memory,
                                nothing);
                    }
                    if (operation == FK_UNIFORM_F32 && format <= FK_FLOAT16) {
                        measure((fk_operation)operation, (fk_format)format, &LAYOUTS[layout], TAILS[0], 3, memory,
                                nothing);
                    }
                }
            }
        }
    }
    free(stack);
    free(memory);
    return 0;
}
