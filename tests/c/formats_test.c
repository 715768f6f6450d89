/* formats_test.c - compares the rounding to narrow formats with exact arithmetic in binary64.
 *
 * Each line of input is a test:
 *
 *     FORMAT STRIDE
 *
 * FORMAT is the number of a narrow format in fk_format. The program tests every STRIDE-th magnitude of binary32 up to
 * the largest number of the format, and each number halfway between two adjacent numbers of the format, with both its
 * neighbours, all with both signs. It prints how many numbers were tested, how many were rounded incorrectly, and the
 * bits of the last one of these.
 *
 * The expected result is x divided by the format's unit in the last place, rounded to an integer by adding 2^52, in
 * binary64, in which no other rounding occurs. stored.h describes how to compile this for an instruction set. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stored.h"

enum { AT_A_TIME = 4096 };

static const struct format {
    int bits, significand,
        smallest; /* total bits; bits of the significand of a normal number; exponent of the smallest positive number */
    double largest;
} FORMATS[FK_FORMATS] = {
    [FK_FLOAT16] = {16, 11, -24, 65504},
    [FK_BFLOAT16] = {16, 8, -133, 0x1.FEp127},
    [FK_FLOAT8_E4M3FN] = {8, 4, -9, 448},
    [FK_FLOAT8_E5M2] = {8, 3, -16, 57344},
};

typedef struct {
    const struct format *format;
    fk_format number;
    float numbers[AT_A_TIME];
    size_t count;
    uint64_t looked_at, wrong;
    uint32_t last_wrong;
} trial;

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float number_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* For each exponent field of binary32, the unit in the last place is 2^q: its reciprocal, and what q adds to the bits.
 */
static double reciprocal[256];
static uint32_t steps[256];

static void measure_places(const struct format *format) {
    for (int field = 0; field < 256; field++) {
        const int exponent = (field > 0 ? field : 1) - 127, of_field = exponent + 1 - format->significand;
        const int q = of_field > format->smallest ? of_field : format->smallest;
        reciprocal[field] = ldexp(1, -q);
        steps[field] = (uint32_t)(q - format->smallest) << (format->significand - 1);
    }
}

static uint32_t expected(const struct format *format, float x) {
    const uint32_t field = bits_of(x) >> 23 & 0xFF;
    const double n = fabs((double)x) * reciprocal[field] + 0x1p52 - 0x1p52;
    return bits_of(x) >> 31 << (format->bits - 1) | ((uint32_t)n + steps[field]);
}

static void judge(trial *t) {
    const size_t bytes = fk_element_bytes(sizeof(float), t->number);
    _Alignas(uint16_t) char stored[AT_A_TIME * sizeof(uint16_t)];
    memset(t->numbers + t->count, 0, (AT_A_TIME - t->count) * sizeof *t->numbers);
    for (size_t i = 0; i < AT_A_TIME; i += STORED_AT_ONCE) { store(t->number, t->numbers + i, stored + i * bytes); }
    for (size_t i = 0; i < t->count; i++) {
        const uint32_t got = bytes == 1 ? ((uint8_t *)stored)[i] : ((uint16_t *)stored)[i];
        if (got == expected(t->format, t->numbers[i])) { continue; }
        t->wrong++;
        t->last_wrong = bits_of(t->numbers[i]);
    }
    t->looked_at += t->count;
    t->count = 0;
}

static void consider(trial *t, float magnitude) {
    t->numbers[t->count++] = magnitude;
    t->numbers[t->count++] = -magnitude;
    if (t->count == AT_A_TIME) { judge(t); }
}

static void look_at_all(trial *t, uint32_t stride) {
    const uint32_t last = bits_of((float)t->format->largest);
    for (uint64_t bits = 0; bits <= last; bits += stride) { consider(t, number_of((uint32_t)bits)); }
}

/* The numbers of the format are n 2^q with n below 2^significand. n is below 2^(significand - 1) for a single q only.
 */
static void look_at_ties(trial *t) {
    const struct format *format = t->format;
    const uint32_t end = UINT32_C(1) << format->significand;
    for (int q = format->smallest; ldexp(end / 2, q) <= format->largest; q++) {
        for (uint32_t n = q == format->smallest ? 0 : end / 2; n < end && ldexp(n + 1, q) <= format->largest; n++) {
            const uint32_t tie = bits_of((float)ldexp(n + 0.5, q));
            for (uint32_t bits = tie - 1; bits != tie + 2; bits++) { consider(t, number_of(bits)); }
        }
    }
}

int main(void) {
    int format;
    uint32_t stride;
    while (scanf("%d %" SCNu32, &format, &stride) == 2) {
        if (format <= FK_FLOAT32 || format >= FK_FORMATS) {
            fprintf(stderr, "formats_test: cannot test format %d\n", format);
            return 1;
        }
        static trial t;
        memset(&t, 0, sizeof t);
        t.format = &FORMATS[format];
        t.number = (fk_format)format;
        measure_places(t.format);
        look_at_all(&t, stride);
        look_at_ties(&t);
        judge(&t);
        printf("%" PRIu64 " %" PRIu64 " %08" PRIx32 "\n", t.looked_at, t.wrong, t.last_wrong);
    }
    return 0;
}
