/* quantile_accuracy.c - compares the functions of quantile.h with the exact transform of the same words.
 *
 *     quantile_accuracy STRIDE THREADS <CASES
 *
 * A line of CASES is a truncated normal of mean 0 and std 1:
 *
 *     operation slack scale center low high slope intercept lower_slope lower_intercept upper_slope upper_intercept
 *               and slope intercept lower_intercept upper_intercept again, each exact to 106 bits, as a sum of two
 *               numbers
 *
 * Every STRIDE-th word of 32 bits is tested, with additional words near the ends and the middle: with STRIDE 1, the
 * results are a proof. For 64-bit words, a sample of 2^26 / STRIDE words is tested, with additional words near the
 * ends. `slack` is an error, in sigmas, that is subtracted before the rest counts.
 *
 * The first line of output contains the header of the vector operations and the number of significand bits of the
 * reference. One line for each case follows: the operation, the number of results, the largest error in ulp, the word
 * at which it occurs, the result for that word, and the smallest and the largest magnitude of all results. Then, for
 * words up from the first one and for words down from the last one, in steps of less than an ulp: how many give the
 * bound itself, the largest number that give any one other value, and the largest difference between neighbours, in
 * units in the last place of the bound.
 */
#define _POSIX_C_SOURCE 200809L

#include "accuracy.h"

#include "fill.h"

#include "math/boxmuller.h"
#include "math/quantile.h"

typedef struct { long double slope, intercept, lower_intercept, upper_intercept; } exact_params;

/* The case under test. Threads only read it. */
static fk_params params;
static exact_params exactly;
static int single; /* whether the operation is computed in single precision */

/* ---- the functions under test ---- */

static void truncated_f32(const uint64_t *words, double *values) {
    uint32_t word[LANES];
    for (int i = 0; i < LANES; i++) { word[i] = (uint32_t)words[i]; }
    store_f32(fk_truncated_f32(&params, load_u32(word), fk_regions_f32(&params)), values);
}

static void truncated_f64(const uint64_t *words, double *values) {
    for (int i = 0; i < LANES; i += FK_W64) {
        store_f64(fk_truncated_f64(&params, vq_load(words + i), fk_regions_f64(&params)), values + i);
    }
}

/* ---- the exact results ---- */

static double polynomial(const double coefficients[8], double x) {
    double sum = 0;
    for (int i = 0; i < 8; i++) { sum = sum * x + coefficients[i]; }
    return sum;
}

/* Wichura's PPND16 (Applied Statistics 37, 1988), from his decimal coefficients. t selects the tail, and v is its
 * probability. */
static double rough_quantile(double t, double v) {
    static const double central[2][8] = {
        {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
         13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608},
        {5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
         5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1}};
    static const double middle[2][8] = {
        {7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
         3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734},
        {1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
         0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1}};
    static const double far[2][8] = {
        {2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
         0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772},
        {2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
         0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1}};
    if (fabs(t) <= 0.425) {
        const double x = 0.180625 - t * t;
        return t * (polynomial(central[0], x) / polynomial(central[1], x));
    }
    const double r = sqrt(-log(v)), x = r - (r <= 5 ? 1.6 : 5);
    const double (*const region)[8] = r <= 5 ? middle : far;
    return copysign(polynomial(region[0], x) / polynomial(region[1], x), t);
}

/* t = Phi(z) - 1/2 and the tail probability v of a word. In single precision, the parameters are those of 3 t. */
static void probabilities(uint64_t word, int bits, long double *t, long double *v) {
    const int64_t centered = signed_word(word ^ (UINT64_C(1) << (bits - 1)), bits);
    const int lower = centered < 0, factor = single ? 3 : 1;
    const double sign = lower ? params.lower_slope : params.upper_slope;
    const long double intercept = lower ? exactly.lower_intercept : exactly.upper_intercept;
    *t = (exactly.intercept + (long double)centered * exactly.slope) / factor;
    *v = intercept +
         copysignl(exactly.slope / factor, (long double)sign) * (long double)(lower ? word : low_bits(bits) - word);
}

static double rough_truncated(uint64_t word) {
    long double t, v;
    probabilities(word, 32, &t, &v);
    return rough_quantile((double)t, (double)v);
}

/* One step of Halley's method from the rough quantile, which triples the number of correct digits. */
static long double exact_truncated(uint64_t word, int bits) {
    const long double root_half = 0.707106781186547524400844362104849039L;
    const long double root_two_pi = 2.506628274631000502415765284811045253L;
    long double t, v;
    probabilities(word, bits, &t, &v);
    const long double z = rough_quantile((double)t, (double)v), outward = fabsl(z);
    const long double excess =
        fabsl(t) <= 0.4L ? fabsl(t) - erfl(outward * root_half) / 2 : erfcl(outward * root_half) / 2 - v;
    const long double step = excess * root_two_pi * expl(outward * outward / 2);
    return copysignl(outward + step / (1 - outward * step / 2), z);
}

static const transform OPERATIONS[] = {
    {"truncated_f32", 32, FLT_MANT_DIG, truncated_f32, exact_truncated, rough_truncated},
    {"truncated_f64", 64, DBL_MANT_DIG, truncated_f64, exact_truncated, NULL},
};

/* ---- the words to test ---- */

static void scan_f32(scan s, uint64_t stride) {
    s.span = 32;
    s.step = stride;
    s.count = low_bits(32) / stride + 1;
    run(s);
    s.span = 16;
    s.step = 1;
    s.count = UINT64_C(1) << 16;
    run_ends(s);
    s.origin = UINT64_C(1) << 31;
    run(s);
    s.origin -= UINT64_C(1) << 16;
    run(s);
}

static void scan_f64(scan s, uint64_t stride) {
    s.span = 64;
    s.step = UINT64_C(0x9E3779B97F4A7C15); /* as in accuracy.c */
    s.count = (UINT64_C(1) << 26) / stride;
    run(s);
    for (s.span = 1; s.span < 64; s.span++) {
        s.count = UINT64_C(1) << (s.span < 12 ? s.span : 12);
        run_ends(s);
    }
}

/* ---- at the bounds ---- */

typedef struct {
    uint64_t at_bound, most; /* words that give the bound; the largest number of words that give one other value */
    double gap;              /* the largest difference between neighbours, in ulps of the bound */
} edge;

/* Test words from the first or the last one inwards, in steps of 2^-4 ulp or of one word. */
static edge look_at_edge(const transform *t, double bound, int last) {
    int exponent;
    frexp(bound, &exponent);
    const double ulp = ldexp(1, exponent - t->precision), density = exp(-bound * bound / 2) * 0.3989422804014327;
    const double words = ulp * density / fabs(params.lower_slope) / 16;
    const uint64_t step = words < 1 ? 1 : (uint64_t)words, origin = last ? low_bits(t->bits) : 0;
    edge seen = {0};
    uint64_t equal = 0;
    double previous = bound;
    for (uint64_t i = 0; i < UINT64_C(1) << 14; i += LANES) {
        uint64_t word[LANES];
        double values[LANES];
        for (uint64_t lane = 0; lane < LANES; lane++) { word[lane] = origin ^ (i + lane) * step; }
        t->evaluate(word, values);
        for (int lane = 0; lane < LANES; lane++) {
            if (values[lane] == bound) { seen.at_bound++; }
            equal = values[lane] == previous ? equal + 1 : 1;
            if (values[lane] != bound && equal > seen.most) { seen.most = equal; }
            seen.gap = fmax(seen.gap, fabs(values[lane] - previous) / ulp);
            previous = values[lane];
        }
    }
    return seen;
}

/* ---- the program ---- */

static void report(const transform *t, uint64_t stride, int threads, double slack) {
    extremes seen = {.error = -1, .least = INFINITY, .forgiven = slack};
    single = t->evaluate == truncated_f32;
    const scan s = {.transform = t, .seen = &seen, .threads = threads};
    if (t->precision == FLT_MANT_DIG) {
        scan_f32(s, stride);
    } else {
        scan_f64(s, stride);
    }
    printf("%s %" PRIu64 " %.4f %#" PRIx64 " %a %a %a", t->name, seen.results, seen.error, seen.word, seen.value,
           seen.least, seen.greatest);
    for (int last = 0; last < 2; last++) {
        const edge e = look_at_edge(t, last ? params.high : params.low, last);
        printf(" %" PRIu64 " %" PRIu64 " %.3g", e.at_bound, e.most, e.gap);
    }
    puts("");
}

static double number(void) {
    double value;
    if (scanf("%lf", &value) == 1) { return value; }
    fputs("quantile_accuracy: a case is not complete\n", stderr);
    exit(2);
}

static void read_case(double *allowed) {
    double n[18];
    *allowed = number();
    for (int i = 0; i < 18; i++) { n[i] = number(); }
    params = (fk_params){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]};
    exactly = (exact_params){(long double)n[10] + n[11], (long double)n[12] + n[13], (long double)n[14] + n[15],
                             (long double)n[16] + n[17]};
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: quantile_accuracy STRIDE THREADS <CASES\n", stderr);
        return 2;
    }
    const uint64_t stride = whole(argv[1], UINT64_C(1) << 20);
    const int threads = (int)whole(argv[2], 1024);
    printf("%s %d\n", VECTOR_HEADER, LDBL_MANT_DIG);
    char name[32];
    while (scanf("%31s", name) == 1) {
        double slack;
        read_case(&slack);
        for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++) {
            if (strcmp(OPERATIONS[i].name, name) == 0) { report(&OPERATIONS[i], stride, threads, slack); }
        }
    }
    return 0;
}
