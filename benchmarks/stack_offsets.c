/* stack_offsets.c - how the time of a kernel depends on the offset of its stack frame. stack_offsets.py builds and
 * runs it.
 *
 *     stack_offsets ISA BYTES OUTPUT_OFFSET ROUNDS
 *
 * It prints a line "kernel offset nanoseconds" for each kernel and each multiple of 16 below 4096: the stack pointer
 * modulo 4096 where the kernel is called, and the least time per element over the rounds. The output is BYTES long and
 * starts OUTPUT_OFFSET bytes after a multiple of 4096. x86-64 only. */
#define _POSIX_C_SOURCE 199309L /* for clock_gettime */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "simd/dispatch.h"
#include "sample.h"

enum { PAGE = 4096, STEP = 16 /* the ABI aligns the stack pointer to it */, PLACES = PAGE / STEP, CALLS = 4 };

static const struct {
    const char *name;
    fk_operation operation;
    size_t element_bytes;
} kernels[] = {
    {"words_u32", FK_WORDS_U32, 4},     {"uniform_f32", FK_UNIFORM_F32, 4}, {"normal_f32", FK_NORMAL_F32, 4},
    {"uniform_f64", FK_UNIFORM_F64, 8}, {"normal_f64", FK_NORMAL_F64, 8},
};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

typedef struct {
    fk_kernel *kernel;
    char *out;
    size_t tiles;
    uintptr_t stack_pointer; /* as it was when the kernel was called */
    double nanoseconds;      /* of CALLS calls */
} measurement;

static void fail(const char *message) {
    fprintf(stderr, "stack_offsets: %s\n", message);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static __attribute__((noinline)) void measure(measurement *m) {
    static const fk_source source = {.key = 1, .stream = 2, .params = {.scale = 1, .low = -1, .high = 1}};
    __asm__ volatile("mov %%rsp, %0" : "=r"(m->stack_pointer));
    const double start = now();
    for (int i = 0; i < CALLS; i++) { m->kernel(&source, m->out, 0, NULL, m->tiles, NULL); }
    m->nanoseconds = now() - start;
}

/* Measure with at least `bytes` more bytes on the stack. */
static __attribute__((noinline)) void measure_below(size_t bytes, measurement *m) {
    const char *const unused = __builtin_alloca(bytes);
    __asm__ volatile("" : : "r"(unused) : "memory"); /* prevents the compiler from removing the allocation */
    measure(m);
    __asm__ volatile("" : : "r"(unused) : "memory"); /* and from freeing it before the call */
}

/* Measure with the stack pointer at `offset` modulo PAGE. */
static void measure_at(uintptr_t offset, measurement *m) {
    measure_below(STEP, m);
    measure_below(STEP + (m->stack_pointer - offset) % PAGE, m);
    if (m->stack_pointer % PAGE != offset) { fail("the stack pointer is not where it should be"); }
}

int main(int count, char **arguments) {
    if (count != 5) { fail("ISA BYTES OUTPUT_OFFSET ROUNDS"); }
    if (fk_select_isa(arguments[1]) != FK_OK) { fail("this machine does not run these kernels"); }
    const size_t tile_bytes = fk_selected()->tile_blocks * FK_BLOCK_BYTES;
    const size_t tiles = strtoul(arguments[2], NULL, 10) / tile_bytes;
    const size_t output_offset = strtoul(arguments[3], NULL, 10) % PAGE;
    const long rounds = strtol(arguments[4], NULL, 10);
    char *const memory = aligned_alloc(PAGE, (tiles * tile_bytes / PAGE + 2) * PAGE);
    if (memory == NULL || tiles == 0) { fail("there is no output to measure"); }

    static double least[KERNELS][PLACES];
    for (long round = 0; round < rounds; round++) {
        for (int k = 0; k < KERNELS; k++) {
            measurement m = {.kernel = fk_selected()->kernel[kernels[k].operation]};
            m.out = memory + output_offset;
            m.tiles = tiles;
            for (size_t place = 0; place < PLACES; place++) {
                measure_at(STEP * place, &m);
                if (round == 0 || m.nanoseconds < least[k][place]) { least[k][place] = m.nanoseconds; }
            }
        }
    }
    for (int k = 0; k < KERNELS; k++) {
        const double elements = (double)(CALLS * tiles * tile_bytes / kernels[k].element_bytes);
        for (int place = 0; place < PLACES; place++) {
            printf("%s %d %.4f\n", kernels[k].name, STEP * place, least[k][place] / elements);
        }
    }
    free(memory);
    return 0;
}
