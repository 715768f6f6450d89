/* plan_fuzzer.c - any bytes become plans that the boundary could send, filled side by side, and each fill must hold
 * what its elements have when they are filled alone, by the scalar kernel; nothing beside the elements may be touched,
 * which the bytes between them tell, and beyond them the address sanitizer.
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

enum { MAX_PLANS = 4, FEW_AXES = 5, MAX_SIZE = 400, MAX_GUARDED = 1 << 24, GUARD_BYTE = 0xA5 };
enum { MAX_ELEMENTS = 3000, MANY_ELEMENTS = 600000 }; /* of many, threads share cells, and a part is compared */

/* Of distributions in tests/vectors/digests.txt: no value is rounded to one that a format lacks. */
static const fk_params ORDINARY = {.scale = 1, .center = 0.5, .low = -0.5, .high = 1.5};
static const fk_params SYMMETRIC = {0x1p+0,         0x0p+0,        -0x1p+1,       0x1p+1,        0x1.6e87245de89dcp-31,
                                    0x1.6e8724p-32, 0x1.e8b43p-33, 0x1.74bcf8p-6, 0x1.e8b43p-33, 0x1.74bcf8p-6};
static const fk_params ASYMMETRIC = {0x1p+0,
                                     0x1p-1,
                                     -0x1p+1,
                                     0x1p+1,
                                     0x1.da9d8883d6dc8p-65,
                                     -0x1.f06a3e62ffc41p-6,
                                     0x1.da9d8883d6dc8p-65,
                                     0x1.96f4e57e49ce4p-8,
                                     0x1.da9d8883d6dc8p-65,
                                     0x1.11a46d89647efp-4};

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
    fk_axis axes[FK_MAX_AXES];
    uint64_t elements, bytes; /* of the array, and of the memory that it reaches over */
    size_t width;             /* of an element in memory */
    unsigned char *memory;
    const char *isa;
} fill_case;

/* The size of one more axis: as a rule a small one, now and then one that makes an array of several cells, or none. */
static uint64_t take_size(input *in, uint64_t elements) {
    const uint64_t kind = below(in, 32);
    if (kind == 31) { return 0; }
    const uint64_t most = kind == 30 ? MANY_ELEMENTS : MAX_SIZE;
    const uint64_t room = (kind == 30 ? MANY_ELEMENTS : MAX_ELEMENTS) / (elements > 0 ? elements : 1);
    return room == 0 ? 1 : 1 + below(in, room < most ? room : most);
}

/* Sizes and steps from the innermost axis out, each step longer than all behind it; no index passes 2^64. */
static void take_shape(input *in, fill_case *c) {
    const int axes = (int)below(in, FEW_AXES + 2);
    uint64_t reach = 0;
    c->plan.axis_count = axes <= FEW_AXES ? axes : FK_MAX_AXES;
    c->elements = 1;
    for (int i = c->plan.axis_count - 1; i >= 0; i--) {
        fk_axis *axis = &c->axes[i];
        axis->size = take_size(in, c->elements);
        const uint64_t longest = axis->size > 0 ? (UINT64_MAX - reach) / axis->size : 0;
        if (axis->size > 1 && longest <= reach) { axis->size = 1; }
        axis->step = reach + 1;
        if (longest > axis->step) { axis->step += edge(in, longest - axis->step); }
        if (axis->size > 1) { reach += (axis->size - 1) * axis->step; }
        c->elements *= axis->size;
    }
    c->plan.first = edge(in, UINT64_MAX - reach);
}

/* A stride that no memory is long enough to walk along. */
static int64_t endless(input *in) {
    const int64_t stride = (int64_t)edge(in, INT64_MAX);
    return below(in, 2) ? -stride - 1 : stride;
}

/* Strides of any order, sign and gaps; any at all where there is nothing to step to. Returns how far before the end of
 * the memory's bytes the first element lies. */
static uint64_t take_strides(input *in, fill_case *c) {
    int order[FK_MAX_AXES];
    uint64_t before = 0, extent = c->width;
    for (int i = 0; i < c->plan.axis_count; i++) {
        const int other = (int)below(in, (uint64_t)i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (int i = 0; i < c->plan.axis_count; i++) {
        fk_axis *axis = &c->axes[order[i]];
        if (c->elements == 0 || axis->size == 1) {
            axis->stride = endless(in);
            continue;
        }
        const int is_far = below(in, 32) == 31 && axis->size <= 4;
        const uint64_t stride = extent + (is_far ? edge(in, 1ull << 34) : below(in, 8) % 5);
        const uint64_t length = (axis->size - 1) * stride;
        const int backwards = (int)below(in, 2);
        axis->stride = backwards ? -(int64_t)stride : (int64_t)stride;
        before += backwards ? length : 0;
        extent += length;
    }
    c->bytes = c->elements > 0 ? extent : 0;
    return before;
}

static fk_params params_of(fk_operation operation) {
    switch (operation) {
    case FK_TRUNCATED_F32: return SYMMETRIC;
    case FK_TRUNCATED_F64: return ASYMMETRIC;
    default: return ORDINARY;
    }
}

static void take_draw(input *in, fill_case *c) {
    fk_plan *plan = &c->plan;
    plan->operation = (fk_operation)below(in, FK_OPERATIONS);
    plan->format = plan->operation == FK_WORDS_U32 ? FK_AS_DRAWN : (fk_format)below(in, FK_FORMATS);
    if (!fk_can_round(plan->operation, plan->format)) { plan->format = FK_AS_DRAWN; }
    plan->params = params_of(plan->operation);
    plan->key = edge(in, UINT64_MAX);
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

/* Compare elements with themselves alone, and leave guard bytes in the place of all. */
static void check(const fill_case *c) {
    /* A prime, so that every place within blocks, vectors and rows has its turn. */
    const uint64_t every = c->elements > MAX_ELEMENTS ? 211 : 1;
    uint64_t at[FK_MAX_AXES] = {0};
    if (fk_select_isa("scalar") != FK_OK) { fail(c, "no scalar kernel"); }
    for (uint64_t n = 0; n < c->elements; n++) {
        unsigned char alone[8], *element = c->plan.out;
        fk_plan one = c->plan;
        for (int i = 0; i < c->plan.axis_count; i++) {
            if (at[i] == 0) { continue; }
            element += (int64_t)at[i] * c->axes[i].stride;
            one.first += at[i] * c->axes[i].step;
        }
        one.out = alone;
        one.axis_count = 0;
        if (n % every == 0 || n + 1 == c->elements) {
            if (fk_fill(&one, 1, 1, NULL, NULL) != FK_OK) { fail(c, "refused alone"); }
            if (memcmp(alone, element, c->width) != 0) { fail(c, "other bits than alone"); }
        }
        memset(element, GUARD_BYTE, c->width);
        for (int i = c->plan.axis_count - 1; i >= 0 && ++at[i] == c->axes[i].size; i--) { at[i] = 0; }
    }
}

/* Memory that takes none until it is written, for strides that are longer than any memory is. The sanitizer's mmap
 * would write an eighth as much. */
static unsigned char *untouched(uint64_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const long address = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0L);
    return address == -1 ? NULL : (unsigned char *)address;
}

/* One plan, and memory that ends where its elements do. Returns whether there is that much. */
static int take_case(input *in, fill_case *c, const char *isa) {
    c->isa = isa;
    c->plan.axes = c->axes;
    take_draw(in, c);
    take_shape(in, c);
    const uint64_t before = take_strides(in, c), lead = below(in, 64);
    c->bytes += lead;
    c->memory = c->bytes > MAX_GUARDED ? untouched(c->bytes) : malloc(c->bytes);
    if (c->memory == NULL) { return 0; }
    if (c->bytes <= MAX_GUARDED) { memset(c->memory, GUARD_BYTE, c->bytes); }
    c->plan.out = c->memory + lead + before;
    return 1;
}

static void check_and_free(const fill_case *c) {
    check(c);
    if (c->bytes > MAX_GUARDED) {
        syscall(SYS_munmap, c->memory, c->bytes);
        return;
    }
    for (uint64_t i = 0; i < c->bytes; i++) {
        if (c->memory[i] != GUARD_BYTE) { fail(c, "a byte beside the elements was written"); }
    }
    free(c->memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    static fill_case cases[MAX_PLANS];
    fk_plan plans[MAX_PLANS];
    input in = {bytes, count};
    int isas = 0;
    while (fk_available_isa(isas) != NULL) { isas++; }
    const char *isa = fk_available_isa((int)below(&in, (uint64_t)isas));
    const int threads = 1 + (int)below(&in, 3);
    const size_t wanted = 1 + below(&in, MAX_PLANS);
    size_t taken = 0;
    while (taken < wanted && take_case(&in, &cases[taken], isa)) {
        plans[taken] = cases[taken].plan;
        taken++;
    }
    if (taken > 0 && (fk_select_isa(isa) != FK_OK || fk_fill(plans, taken, threads, NULL, NULL) != FK_OK)) {
        fail(&cases[0], "refused");
    }
    for (size_t i = 0; i < taken; i++) { check_and_free(&cases[i]); }
    return 0;
}
