/* plan_fuzzer.c - turns any bytes into plans as the Cython module may pass them, fills them together, and compares each
 * element with the same element filled alone by the scalar kernel. No other byte may change: guard bytes between the
 * elements reveal that, and the address sanitizer checks the memory beyond them.
 *
 *     clang @fastkaiming/csrc/cflags.rsp -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
 *         -Ifastkaiming/csrc tests/fuzz/plan_fuzzer.c $(find fastkaiming/csrc -name '*.c') -lm -o plan_fuzzer
 *     ./plan_fuzzer -max_total_time=600
 *
 * Without libFuzzer, replay.c runs it on the inputs in plans.txt, some of those that libFuzzer kept. */
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
enum {
    MAX_ELEMENTS = 3000,
    MANY_ELEMENTS = 600000
}; /* arrays of many elements have several work units; only some elements are compared */

/* Parameters of distributions in tests/vectors/digests.txt: no value rounds to one that a format cannot represent. */
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

/* Return the next number below `bound`, which is above 0, from as few bytes as necessary; 0 if no bytes are left. */
static uint64_t below(input *in, uint64_t bound) {
    uint64_t value = 0;
    for (uint64_t range = bound - 1; range > 0 && in->left > 0; range >>= 8) {
        value = value << 8 | *in->bytes++;
        in->left--;
    }
    return value % bound;
}

/* Return the next number up to `max`, usually close to the limit of an integer width. */
static uint64_t edge(input *in, uint64_t max) {
    static const uint64_t edges[] = {0, 1ull << 31, 1ull << 32, 1ull << 33, 1ull << 34, 1ull << 63, UINT64_MAX};
    const uint64_t place = edges[below(in, sizeof edges / sizeof *edges)], offset = below(in, 512);
    const uint64_t start = place < 256 ? 0 : place - 256;
    const uint64_t value = start > UINT64_MAX - offset ? UINT64_MAX : start + offset;
    return value < max ? value : max;
}

typedef struct {
    fk_plan plan;
    fk_axis axes[FK_MAX_AXES];
    uint64_t elements, bytes; /* of the array, and of the memory from its first to its last byte */
    size_t width;             /* of an element in memory */
    unsigned char *memory;
    const char *isa;
} fill_case;

/* Return the size of another axis: usually small, sometimes 0 or large enough for several work units. */
static uint64_t take_size(input *in, uint64_t elements) {
    const uint64_t kind = below(in, 32);
    if (kind == 31) { return 0; }
    const uint64_t max = kind == 30 ? MANY_ELEMENTS : MAX_SIZE;
    const uint64_t left = (kind == 30 ? MANY_ELEMENTS : MAX_ELEMENTS) / (elements > 0 ? elements : 1);
    return left == 0 ? 1 : 1 + below(in, left < max ? left : max);
}

/* Read sizes and steps from the innermost axis outwards. Each step exceeds the offsets within all later axes, and no
 * index exceeds 2^64. */
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

/* Return a stride of any size, for axes along which it is never used. */
static int64_t any_stride(input *in) {
    const int64_t stride = (int64_t)edge(in, INT64_MAX);
    return below(in, 2) ? -stride - 1 : stride;
}

/* Read strides of any order, sign and gap, and any strides at all for axes that have no second element. Returns the
 * offset of the first element in the memory of the array. */
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
            axis->stride = any_stride(in);
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

static void take_distribution(input *in, fill_case *c) {
    fk_plan *plan = &c->plan;
    plan->operation = (fk_operation)below(in, FK_OPERATIONS);
    plan->format = plan->operation == FK_WORDS_U32 ? FK_UNROUNDED : (fk_format)below(in, FK_FORMATS);
    if (!fk_can_round(plan->operation, plan->format)) { plan->format = FK_UNROUNDED; }
    plan->params = params_of(plan->operation);
    plan->key = edge(in, UINT64_MAX);
    plan->stream = edge(in, UINT64_MAX);
    plan->byte_swapped = (int)below(in, 2);
    plan->store = (fk_store)below(in, FK_STORE_STREAMING + 1);
    c->width = fk_stored_bytes(plan->operation, plan->format);
}

static void fail(const fill_case *c, const char *what) {
    fprintf(stderr, "%s: %d axes, %llu elements, operation %d, format %d, first %llu, on %s\n", what,
            c->plan.axis_count, (unsigned long long)c->elements, (int)c->plan.operation, (int)c->plan.format,
            (unsigned long long)c->plan.first, c->isa);
    abort();
}

/* Compare the elements with the same elements filled one at a time, and replace all of them by guard bytes. */
static void check(const fill_case *c) {
    /* A prime, so that every position in blocks, vectors and rows occurs. */
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
            if (fk_fill(&one, 1, 1, NULL, NULL) != FK_OK) { fail(c, "a single-element fill failed"); }
            if (memcmp(alone, element, c->width) != 0) {
                fail(c, "the bits differ from those of a single-element fill");
            }
        }
        memset(element, GUARD_BYTE, c->width);
        for (int i = c->plan.axis_count - 1; i >= 0 && ++at[i] == c->axes[i].size; i--) { at[i] = 0; }
    }
}

/* Map memory that is not allocated before it is written, for strides that exceed the available memory. The sanitizer's
 * mmap would write an eighth as much shadow memory. */
static unsigned char *untouched(uint64_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const long address = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0L);
    return address == -1 ? NULL : (unsigned char *)address;
}

/* Read one plan, and allocate memory that ends where its elements end. Returns whether there is enough memory. */
static int take_case(input *in, fill_case *c, const char *isa) {
    c->isa = isa;
    c->plan.axes = c->axes;
    take_distribution(in, c);
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
        if (c->memory[i] != GUARD_BYTE) { fail(c, "a byte outside the elements was written"); }
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
        fail(&cases[0], "the fill failed");
    }
    for (size_t i = 0; i < taken; i++) { check_and_free(&cases[i]); }
    return 0;
}
