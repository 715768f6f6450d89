/* plan_fuzzer.c - any bytes become a plan that the boundary could send, and its fill must hold what each of its elements
 * has when it is filled alone, by the scalar kernel; nothing beside the elements may be touched, which the bytes between
 * them tell, and beyond them the address sanitizer.
 *
 *     clang @fastkaiming/csrc/cflags.rsp -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
 *         -Ifastkaiming/csrc tests/fuzz/plan_fuzzer.c fastkaiming/csrc/[a-z]*.c -lm -o plan_fuzzer
 *     ./plan_fuzzer -max_total_time=600
 *
 * Without libFuzzer, replay.c runs it on the inputs of plans.txt, some that libFuzzer kept. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fill.h"

enum { MOST_AXES = 5, MOST_ELEMENTS = 3000, MOST_SIZE = 400, MOST_GUARDED = 1 << 24, GUARD_BYTE = 0xA5 };

/* Of distributions in tests/vectors/digests.txt: no value is rounded to one that a format lacks. */
static const fk_params ORDINARY = {.scale = 1, .center = 0.5, .low = -0.5, .high = 1.5};
static const fk_params SYMMETRIC = {0x1p+0, 0x0p+0, -0x1p+1, 0x1p+1, 0x1.6e87245de89dcp-31, 0x0p+0,
    0x1.6e8724p-32, 0x1.e8b43p-33, 0x1.74bcf8p-6, 0x1.e8b43p-33, 0x1.74bcf8p-6};
static const fk_params SKEW = {0x1p+0, 0x0p+0, -0x1p+0, 0x1.4p+0, 0x1.1a81c23171ffap-31, -0x1.271bfcep+27,
    -0x1.baed9ap-33, 0x1.78ad02p-33, 0x1.44ed0cp-3, 0x1.78ad02p-33, 0x1.b0bdd2p-4};
static const fk_params WIDE = {0x1p+0, 0x0p+0, -HUGE_VAL, -0x1.cp+2, 0x1.683c36759a444p-72, 0x1p+31,
    -0x1.fffffffffa5f1p-2, 0x1.683c36759a444p-72, 0x1.683c36759a444p-73, -0x1.683c36759a444p-72, 0x1.683c3674e6263p-40};
static const fk_params DOUBLE = {0x1p+0, 0x1p-1, -0x1p+1, 0x1p+1, 0x1.da9d8883d6dc8p-65, 0x0p+0,
    -0x1.f06a3e62ffc41p-6, 0x1.da9d8883d6dc8p-65, 0x1.96f4e57e49ce4p-8, 0x1.da9d8883d6dc8p-65, 0x1.11a46d89647efp-4};

typedef struct {
    const uint8_t *bytes;
    size_t left;
} input;

/* The next number below a bound above 0, of as few bytes as it may need; 0 where there are none. */
static uint64_t below(input *in, uint64_t bound) {
    uint64_t value = 0;
    for (uint64_t range = bound - 1; range > 0 && in->left > 0; range >>= 8) {
        value = value << 8 | *in->bytes++;
        in->left--;
    }
    return value % bound;
}

/* The next number up to `most`, as a rule close to where a width ends. */
static uint64_t edge(input *in, uint64_t most) {
    static const uint64_t edges[] = {0, 1ull << 31, 1ull << 32, 1ull << 33, 1ull << 34, 1ull << 63, UINT64_MAX};
    const uint64_t place = edges[below(in, sizeof edges / sizeof *edges)], offset = below(in, 512);
    const uint64_t start = place < 256 ? 0 : place - 256;
    const uint64_t value = start > UINT64_MAX - offset ? UINT64_MAX : start + offset;
    return value < most ? value : most;
}

typedef struct {
    fk_plan plan;
    fk_axis axes[MOST_AXES];
    uint64_t elements, bytes; /* of the array, and of the memory that it reaches over */
    size_t width;             /* of an element in memory */
    int threads;
    const char *isa;
} fill_case;

/* Sizes and steps from the innermost axis out, each step longer than all behind it; no index passes 2^64. */
static void take_shape(input *in, fill_case *c) {
    uint64_t reach = 0;
    c->plan.axis_count = (int)below(in, MOST_AXES + 1);
    c->elements = 1;
    for (int i = c->plan.axis_count - 1; i >= 0; i--) {
        fk_axis *axis = &c->axes[i];
        const uint64_t room = MOST_ELEMENTS / c->elements;
        axis->size = 1 + below(in, room < MOST_SIZE ? room : MOST_SIZE);
        const uint64_t longest = (UINT64_MAX - reach) / axis->size;
        if (longest <= reach) { axis->size = 1; }
        axis->step = reach + 1;
        if (longest > axis->step) { axis->step += edge(in, longest - axis->step); }
        reach += (axis->size - 1) * axis->step;
        c->elements *= axis->size;
    }
    c->plan.first = edge(in, UINT64_MAX - reach);
}

/* Strides of any order, sign and gaps. Returns how far before the end of the memory's bytes the first element lies. */
static uint64_t take_strides(input *in, fill_case *c) {
    int order[MOST_AXES];
    uint64_t before = 0, extent = c->width;
    for (int i = 0; i < c->plan.axis_count; i++) {
        const int other = (int)below(in, (uint64_t)i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (int i = 0; i < c->plan.axis_count; i++) {
        fk_axis *axis = &c->axes[order[i]];
        const int is_far = below(in, 32) == 31 && axis->size <= 4;
        const uint64_t stride = extent + (is_far ? edge(in, 1ull << 34) : below(in, 8) % 5);
        const uint64_t length = (axis->size - 1) * stride;
        const int backwards = (int)below(in, 2);
        axis->stride = backwards ? -(int64_t)stride : (int64_t)stride;
        before += backwards ? length : 0;
        extent += length;
    }
    c->bytes = extent;
    return before;
}

static fk_params params_of(fk_operation operation) {
    switch (operation) {
    case FK_TRUNCATED_F32: return SYMMETRIC;
    case FK_TRUNCATED_SKEW_F32: return SKEW;
    case FK_TRUNCATED_WIDE_F32: return WIDE;
    case FK_TRUNCATED_F64: return DOUBLE;
    default: return ORDINARY;
    }
}

static void take_draw(input *in, fill_case *c) {
    fk_plan *plan = &c->plan;
    plan->operation = (fk_operation)below(in, FK_OPERATIONS);
    const int is_single = fk_drawn_bytes(plan->operation) == 4 && plan->operation != FK_WORDS_U32;
    plan->format = is_single ? (fk_format)below(in, FK_FORMATS) : FK_AS_DRAWN;
    plan->params = params_of(plan->operation);
    plan->seed = edge(in, UINT64_MAX);
    plan->stream = edge(in, UINT64_MAX);
    plan->swapped = (int)below(in, 2);
    plan->store = (fk_store)below(in, FK_STORE_STREAMING + 1);
    c->width = fk_stored_bytes(plan->operation, plan->format);
}

static void fail(const fill_case *c, const char *what) {
    fprintf(stderr, "%s: %d axes, %llu elements, operation %d, format %d, first %llu, on %s\n", what,
        c->plan.axis_count, (unsigned long long)c->elements, (int)c->plan.operation, (int)c->plan.format,
        (unsigned long long)c->plan.first, c->isa);
    abort();
}

static void fill(const fill_case *c, const fk_plan *plan, const char *isa, int threads) {
    if (fk_select_isa(isa) != FK_OK || fk_fill(plan, 1, threads, NULL, NULL) != FK_OK) { fail(c, "refused"); }
}

/* Compare each element with itself alone, and leave guard bytes in its place. */
static void check(const fill_case *c) {
    uint64_t at[MOST_AXES] = {0};
    for (uint64_t n = 0; n < c->elements; n++) {
        unsigned char alone[8], *element = c->plan.out;
        fk_plan one = c->plan;
        for (int i = 0; i < c->plan.axis_count; i++) {
            element += (int64_t)at[i] * c->axes[i].stride;
            one.first += at[i] * c->axes[i].step;
        }
        one.out = alone;
        one.axis_count = 0;
        fill(c, &one, "scalar", 1);
        if (memcmp(alone, element, c->width) != 0) { fail(c, "other bits than alone"); }
        memset(element, GUARD_BYTE, c->width);
        for (int i = c->plan.axis_count - 1; i >= 0 && ++at[i] == c->axes[i].size; i--) { at[i] = 0; }
    }
}

/* Memory that takes none until it is written, for strides that are longer than any memory is. The sanitizer's mmap would
 * write an eighth as much. */
static unsigned char *untouched(uint64_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const long address = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0L);
    return address == -1 ? NULL : (unsigned char *)address;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *input_bytes, size_t count) {
    input in = {input_bytes, count};
    fill_case c = {.elements = 0};
    int isas = 0;
    while (fk_available_isa(isas) != NULL) { isas++; }
    c.isa = fk_available_isa((int)below(&in, (uint64_t)isas));
    c.threads = 1 + (int)below(&in, 3);
    c.plan.axes = c.axes;
    take_draw(&in, &c);
    take_shape(&in, &c);
    const uint64_t before = take_strides(&in, &c), lead = below(&in, 64);
    const uint64_t bytes = lead + c.bytes;
    const int is_far = bytes > MOST_GUARDED;
    unsigned char *memory = is_far ? untouched(bytes) : malloc(bytes);
    if (memory == NULL) { return 0; }
    if (!is_far) { memset(memory, GUARD_BYTE, bytes); }
    c.plan.out = memory + lead + before;
    fill(&c, &c.plan, c.isa, c.threads);
    check(&c);
    for (uint64_t i = 0; i < bytes && !is_far; i++) {
        if (memory[i] != GUARD_BYTE) { fail(&c, "a byte beside the elements was written"); }
    }
    if (is_far) { syscall(SYS_munmap, memory, bytes); }
    else { free(memory); }
    return 0;
}
