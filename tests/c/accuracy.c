/* accuracy.c - compares the functions of boxmuller.h with the exact transform of the same words.
 *
 *     accuracy STRIDE THREADS
 *
 * In single precision, every STRIDE-th word is tested, starting from the ends: with STRIDE 1, the results are a proof.
 * In double precision, a sample of 2^28 / STRIDE words is tested, with additional words near the ends. Compile this
 * with threads.c, and for an instruction set with its vector operations and target: -DVECTOR_HEADER='"simd/vec_avx2.h"'
 * -mavx2 -mfma -mf16c.
 *
 * The first line of output contains the header of the vector operations and the number of significand bits of the
 * reference. One line for each function follows: its name, the number of results, the largest error in ulp, the word at
 * which it occurs, the result for that word, and the smallest and the largest magnitude of all results. An ulp is the
 * unit in the last place of the exact number. */
#define _POSIX_C_SOURCE 200809L

#include "accuracy.h"

#include "math/boxmuller.h"

/* Here, a word contains all bits that a function depends on, as one number: for the float32 radius, the 32 bits of a
 * followed by the low 8 bits of b. The functions read it as a signed number s. In terms of x = (s + 1/2) / 2^bits, in
 * (-1/2, 1/2), the transform of docs/stream-v1.md is
 *
 *     rho = sqrt(-2 ln v), v = x or 1 + x, whichever is in (0, 1)      phi = x pi/2 */
enum { RADIUS_F32_BITS = 40, ANGLE_F32_BITS = 30, RADIUS_F64_BITS = 64, ANGLE_F64_BITS = 62 };

/* ---- the functions under test, on LANES words at once ---- */

/* The bits of b that the radius must ignore are not 0. */
static void radius_f32(const uint64_t *words, double *values) {
    uint32_t a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++) {
        a[i] = (uint32_t)(words[i] >> 8);
        b[i] = (uint32_t)words[i];
    }
    store_f32(fk_radius_f32(load_u32(a), load_u32(b)), values);
}

/* Likewise, the bits that the angle must ignore are not 0. */
FK_INLINE void cos_sin_f32(const uint64_t *words, v_f32 *cosine, v_f32 *sine) {
    uint32_t b[LANES];
    for (int i = 0; i < LANES; i++) { b[i] = (uint32_t)(words[i] | words[i] << ANGLE_F32_BITS); }
    fk_cos_sin_f32(load_u32(b), cosine, sine);
}

static void cosine_f32(const uint64_t *words, double *values) {
    v_f32 cosine, sine;
    cos_sin_f32(words, &cosine, &sine);
    store_f32(cosine, values);
}

static void sine_f32(const uint64_t *words, double *values) {
    v_f32 cosine, sine;
    cos_sin_f32(words, &cosine, &sine);
    store_f32(sine, values);
}

static void radius_f64(const uint64_t *words, double *values) {
    for (int i = 0; i < LANES; i += FK_W64) { store_f64(fk_radius_f64(vq_load(words + i)), values + i); }
}

FK_INLINE void cos_sin_f64(const uint64_t *words, v_f64 *cosine, v_f64 *sine) {
    uint64_t w1[FK_W64];
    for (int i = 0; i < FK_W64; i++) { w1[i] = words[i] | words[i] << ANGLE_F64_BITS; }
    fk_cos_sin_f64(vq_load(w1), cosine, sine);
}

static void cosine_f64(const uint64_t *words, double *values) {
    for (int i = 0; i < LANES; i += FK_W64) {
        v_f64 cosine, sine;
        cos_sin_f64(words + i, &cosine, &sine);
        store_f64(cosine, values + i);
    }
}

static void sine_f64(const uint64_t *words, double *values) {
    for (int i = 0; i < LANES; i += FK_W64) {
        v_f64 cosine, sine;
        cos_sin_f64(words + i, &cosine, &sine);
        store_f64(sine, values + i);
    }
}

/* ---- the exact results ---- */

static const long double HALF_PI = 1.57079632679489661923132169163975144209858L;

/* Exact: s + 1/2 has at most 64 bits, or 41 bits in float32. */
static long double exact_x(uint64_t word, int bits) {
    return ldexpl((long double)signed_word(word, bits) + 0.5L, -bits);
}

/* Near v = 1 the result depends on the distance of v from 1, so 1 + x is not computed. */
static long double exact_radius(uint64_t word, int bits) {
    const long double x = exact_x(word, bits);
    return sqrtl(-2 * (x > 0 ? logl(x) : log1pl(x)));
}

static long double exact_cosine(uint64_t word, int bits) { return cosl(HALF_PI * exact_x(word, bits)); }
static long double exact_sine(uint64_t word, int bits) { return sinl(HALF_PI * exact_x(word, bits)); }

/* The same in double precision. Here 1 + x is exact. */
static double rough_radius_f32(uint64_t word) {
    const double x = ((double)signed_word(word, RADIUS_F32_BITS) + 0.5) * 0x1p-40;
    return sqrt(-2 * log(x > 0 ? x : 1 + x));
}

static double rough_angle_f32(uint64_t word) {
    return (double)HALF_PI * (((double)signed_word(word, ANGLE_F32_BITS) + 0.5) * 0x1p-30);
}

static double rough_cosine_f32(uint64_t word) { return cos(rough_angle_f32(word)); }
static double rough_sine_f32(uint64_t word) { return sin(rough_angle_f32(word)); }

static const transform TRANSFORMS[] = {
    {"radius_f32", RADIUS_F32_BITS, FLT_MANT_DIG, radius_f32, exact_radius, rough_radius_f32},
    {"cosine_f32", ANGLE_F32_BITS, FLT_MANT_DIG, cosine_f32, exact_cosine, rough_cosine_f32},
    {"sine_f32", ANGLE_F32_BITS, FLT_MANT_DIG, sine_f32, exact_sine, rough_sine_f32},
    {"radius_f64", RADIUS_F64_BITS, DBL_MANT_DIG, radius_f64, exact_radius, NULL},
    {"cosine_f64", ANGLE_F64_BITS, DBL_MANT_DIG, cosine_f64, exact_cosine, NULL},
    {"sine_f64", ANGLE_F64_BITS, DBL_MANT_DIG, sine_f64, exact_sine, NULL},
};

/* ---- the words to test ---- */

/* At stride 1: for an angle, every word; for a radius, every word that ends in one of three of the 256 low bytes, and
 * all 2^24 words on either side of the ends. */
static void scan_f32(scan s, uint64_t stride) {
    const uint64_t low_bytes[] = {0, 128, 255};
    const int bits = s.transform->bits, radius = bits == RADIUS_F32_BITS;
    s.span = bits;
    s.step = radius ? 256 * stride : stride;
    s.count = low_bits(bits) / s.step + 1;
    for (int i = 0; i < (radius ? 3 : 1); i++) {
        s.origin = low_bytes[i];
        run(s);
    }
    s.span = bits - 16;
    s.step = stride;
    s.count = low_bits(s.span) / s.step + 1;
    run_ends(s);
}

/* Words that are spread evenly over all words, then words at every distance from the ends, in powers of 2, and finally
 * the words on either side of multiples of 2^(bits - 16), where the intervals of the radius's table meet. */
static void scan_f64(scan s, uint64_t stride) {
    const int bits = s.transform->bits;
    s.span = bits;
    s.step = UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / golden ratio: its multiples are spread evenly; because it is odd,
                                              all of them differ */
    s.count = (UINT64_C(1) << 28) / stride;
    run(s);
    for (s.span = 1; s.span < bits; s.span++) {
        s.count = UINT64_C(1) << (s.span < 12 ? s.span : 12);
        run_ends(s);
    }
    s.span = bits;
    s.step = UINT64_C(1) << (bits - 16);
    s.count = UINT64_C(1) << 16;
    run(s);
    s.origin = UINT64_MAX;
    run(s);
}

/* ---- the program ---- */

static void report(const transform *t, uint64_t stride, int threads) {
    extremes seen = {.error = -1, .least = INFINITY};
    const scan s = {.transform = t, .seen = &seen, .threads = threads};
    if (t->precision == FLT_MANT_DIG) {
        scan_f32(s, stride);
    } else {
        scan_f64(s, stride);
    }
    printf("%s %" PRIu64 " %.4f %#" PRIx64 " %a %a %a\n", t->name, seen.results, seen.error, seen.word, seen.value,
           seen.least, seen.greatest);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: accuracy STRIDE THREADS\n", stderr);
        return 2;
    }
    const uint64_t stride = whole(argv[1], UINT64_C(1) << 20);
    const int threads = (int)whole(argv[2], 1024);
    printf("%s %d\n", VECTOR_HEADER, LDBL_MANT_DIG);
    for (size_t i = 0; i < sizeof TRANSFORMS / sizeof *TRANSFORMS; i++) { report(&TRANSFORMS[i], stride, threads); }
    return 0;
}
