/* accuracy.h - measures the errors of a function of words against exact results; shared by several programs.
 *
 * Included once, by a program that defines the functions to test. Compile it with threads.c, and for an instruction set
 * with its vector operations and target: -DVECTOR_HEADER='"simd/vec_avx2.h"' -mavx2 -mfma. An ulp is the unit in the
 * last place of the exact number. */
#ifndef FASTKAIMING_TESTS_ACCURACY_H
#define FASTKAIMING_TESTS_ACCURACY_H

#ifndef VECTOR_HEADER
#define VECTOR_HEADER "simd/vec_scalar.h"
#endif
#define FK_INLINE static inline __attribute__((always_inline))
#include VECTOR_HEADER

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "threads/threads.h"

static int64_t signed_word(uint64_t word, int bits) { return (int64_t)(word << (64 - bits)) >> (64 - bits); }

/* The number of words that a function processes at once. */
enum { LANES = 2 * FK_W64 };

FK_INLINE v_u32 load_u32(const uint32_t *words) {
    v_u32 vector;
    memcpy(&vector, words, sizeof vector);
    return vector;
}

FK_INLINE void store_f32(v_f32 vector, double *values) {
    float lanes[LANES];
    memcpy(lanes, &vector, sizeof lanes);
    for (int i = 0; i < LANES; i++) { values[i] = lanes[i]; }
}

FK_INLINE void store_f64(v_f64 vector, double *values) { memcpy(values, &vector, sizeof vector); }

typedef struct transform {
    const char *name;
    int bits;      /* of a word */
    int precision; /* bits of a result's significand */
    void (*evaluate)(const uint64_t *words, double *values);
    long double (*exact)(uint64_t word, int bits);
    double (*rough)(uint64_t word); /* NULL if double precision is not precise enough to bound the error */
} transform;

/* ---- errors ---- */

typedef struct {
    uint64_t results;
    double error;
    uint64_t word; /* the word with the largest error; the smallest one if there are several */
    double value;  /* the result for that word */
    double least, greatest;
    double forgiven; /* an absolute error that is subtracted before the rest counts */
} extremes;

/* An exact number that rounds to a power of 2 may lie below it, where the unit in the last place is smaller. Both
 * functions use the smaller unit. */

static double exact_error(double value, long double exact, int precision, double forgiven) {
    int exponent;
    frexpl(nextafterl(exact, 0), &exponent);
    const double error = (double)ldexpl(fmaxl(fabsl(value - exact) - forgiven, 0), precision - exponent);
    return isnan(error) ? INFINITY : error;
}

static double rough_error_f32(double value, double rough) {
    const double below = rough * (1 - 0x1p-50);
    uint64_t exponent;
    double binade;
    memcpy(&exponent, &below, sizeof exponent);
    exponent &= UINT64_C(0x7FF0000000000000);
    memcpy(&binade, &exponent, sizeof binade);
    return fabs(value - rough) / binade * 0x1p23;
}

/* The rough transform differs from the exact one by a few roundings to 53 bits: by a relative error of at most 2^-50,
 * or 2^-26 ulp of float32. Therefore no larger error is missed if words are skipped whose rough error is SLACK below
 * the largest error so far. */
#define SLACK 0.01

static void note_magnitudes(extremes *seen, double least, double greatest) {
    if (least < seen->least) { seen->least = least; }
    if (greatest > seen->greatest) { seen->greatest = greatest; }
}

static void note_error(extremes *seen, double error, uint64_t word, double value) {
    if (error < seen->error || (error == seen->error && word > seen->word)) { return; }
    seen->error = error;
    seen->word = word;
    seen->value = value;
}

static void consider(extremes *seen, const transform *t, uint64_t word, double value) {
    note_magnitudes(seen, fabs(value), fabs(value));
    if (t->rough != NULL && rough_error_f32(value, t->rough(word)) < seen->error - SLACK) { return; }
    note_error(seen, exact_error(value, t->exact(word, t->bits), t->precision, seen->forgiven), word, value);
}

/* The words origin xor (i step mod 2^span), 0 <= i < count. */
typedef struct {
    const transform *transform;
    extremes *seen;
    int threads;
    uint64_t origin;
    int span;
    uint64_t step;
    uint64_t count;
} scan;

static uint64_t low_bits(int n) { return UINT64_MAX >> (64 - n); }

static uint64_t word_at(const scan *s, uint64_t i) {
    return (s->origin ^ (i * s->step & low_bits(s->span))) & low_bits(s->transform->bits);
}

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

/* Starts with the extremes found so far: the larger their error is, the fewer words need the exact transform. */
static uint64_t scan_piece(void *context, int worker, uint64_t begin, uint64_t end) {
    (void)worker;
    const scan *s = context;
    pthread_mutex_lock(&seen_lock);
    extremes seen = *s->seen;
    pthread_mutex_unlock(&seen_lock);

    for (uint64_t i = begin; i < end; i += LANES) {
        uint64_t words[LANES];
        double values[LANES];
        for (uint64_t lane = 0; lane < LANES; lane++) { words[lane] = word_at(s, i + lane < end ? i + lane : end - 1); }
        s->transform->evaluate(words, values);
        for (int lane = 0; lane < LANES; lane++) { consider(&seen, s->transform, words[lane], values[lane]); }
    }

    pthread_mutex_lock(&seen_lock);
    s->seen->results += end - begin;
    note_magnitudes(s->seen, seen.least, seen.greatest);
    note_error(s->seen, seen.error, seen.word, seen.value);
    pthread_mutex_unlock(&seen_lock);
    return end - begin;
}

static void run(scan s) { fk_parallel_for(s.count, UINT64_C(1) << 16, s.threads, scan_piece, &s, NULL, NULL); }

/* Words below 2^span in steps of `step`: up from 0 and down from -1, where x is near 0, and up and down from the
 * middle, where x is near -1/2 and 1/2. */
static void run_ends(scan s) {
    const uint64_t middle = UINT64_C(1) << (s.transform->bits - 1);
    const uint64_t origins[] = {0, UINT64_MAX, middle, middle - 1};
    for (int i = 0; i < 4; i++) {
        s.origin = origins[i];
        run(s);
    }
}

static uint64_t whole(const char *text, uint64_t most) {
    char *end;
    const uint64_t value = strtoull(text, &end, 10);
    if (end != text && *end == 0 && value >= 1 && value <= most) { return value; }
    fprintf(stderr, "accuracy: not a whole number from 1 to %" PRIu64 ": %s\n", most, text);
    exit(2);
}

#endif
