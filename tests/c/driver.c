/* driver.c - compares the fills of every instruction set that this machine can run with a table of digests.
 *
 *     driver DIGESTS THREADS [LARGEST]
 *
 * A line of DIGESTS contains a fill and the SHA-256 of its bytes, with little-endian elements; `#` starts a comment:
 *
 *     operation key stream first count scale center low high sha256
 *
 * A truncated normal has six more numbers before the digest, in the order of fk_params. `operation>format` rounds the
 * values to a narrower format. Each fill is repeated with several layouts: with plain and streaming stores, from
 * several offsets in a cache line, with gaps between elements, backwards, and in the other byte order. Fills of more
 * than LARGEST elements use the first layout only, because emulators are slow. For each digest computed, one line is
 * printed that begins with the instruction set.
 *
 * Exit status: 0 if all digests are the expected ones and the values do not depend on the layout, 1 if not, 2 if they
 * could not be computed. The program is plain C without Python, so that it also runs in an emulator of another machine.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fill.h"

enum { LINE = 64, GUARD_BYTE = 0xA5 };

static const struct operation {
    const char *name;
    fk_operation operation;
} OPERATIONS[] = {
    {"words_u32", FK_WORDS_U32},         {"uniform_f32", FK_UNIFORM_F32}, {"uniform_f64", FK_UNIFORM_F64},
    {"normal_f32", FK_NORMAL_F32},       {"normal_f64", FK_NORMAL_F64},   {"truncated_f32", FK_TRUNCATED_F32},
    {"truncated_f64", FK_TRUNCATED_F64},
};

static const struct format {
    const char *name;
    fk_format format;
} FORMATS[] = {
    {"float32", FK_FLOAT32},         {"float16", FK_FLOAT16},
    {"bfloat16", FK_BFLOAT16},       {"float8_e4m3fn", FK_FLOAT8_E4M3FN},
    {"float8_e5m2", FK_FLOAT8_E5M2},
};

/* ---- SHA-256 (FIPS 180-4), one byte at a time ---- */

typedef struct {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} sha256;

static const uint32_t SHA256_INITIAL[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint32_t SHA256_ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha256_compress(sha256 *hash) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) {
        const unsigned char *p = hash->block + 4 * i;
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t sigma0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t sigma1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + sigma0 + w[i - 7] + sigma1;
    }
    memcpy(s, hash->state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + choice + SHA256_ROUND[i] + w[i];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) hash->state[i] += s[i];
}

static void sha256_byte(sha256 *hash, uint64_t byte) {
    hash->block[hash->length++ % 64] = (unsigned char)byte;
    if (hash->length % 64 == 0) sha256_compress(hash);
}

static void sha256_finish(sha256 *hash, char hex[65]) {
    uint64_t bits = 8 * hash->length;
    sha256_byte(hash, 0x80);
    while (hash->length % 64 != 56) sha256_byte(hash, 0);
    for (int shift = 56; shift >= 0; shift -= 8) sha256_byte(hash, bits >> shift & 0xff);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08" PRIx32, hash->state[i]);
}

static int little_endian(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one;
}

/* The digest of the elements in little-endian order on any machine. */
static void digest(const unsigned char *elements, uint64_t count, size_t size, char hex[65]) {
    sha256 hash = {.length = 0};
    memcpy(hash.state, SHA256_INITIAL, sizeof hash.state);
    for (uint64_t i = 0; i < count; i++, elements += size)
        for (size_t k = 0; k < size; k++) sha256_byte(&hash, elements[little_endian() ? k : size - 1 - k]);
    sha256_finish(&hash, hex);
}

/* ---- the table ---- */

typedef struct {
    fk_plan plan;
    uint64_t count;
    size_t size;    /* of an element, in bytes */
    char text[512]; /* the fill as written in the table */
    char expected[65];
} fill_case;

static _Noreturn void stop(const char *problem, const char *value) {
    fprintf(stderr, "driver: %s: %s\n", problem, value);
    exit(2);
}

static uint64_t whole(const char *text) {
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    if (end == text || *end) stop("not a whole number", text);
    return value;
}

static double real(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end) stop("not a real number", text);
    return value;
}

static fk_operation operation_named(const char *name) {
    for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++)
        if (!strcmp(OPERATIONS[i].name, name)) return OPERATIONS[i].operation;
    stop("no such operation", name);
}

static fk_format format_named(const char *name) {
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (!strcmp(FORMATS[i].name, name)) return FORMATS[i].format;
    stop("no such format", name);
}

enum { SHORT_LINE = 10, LONG_LINE = 16 };

static fill_case parse(const char *line) {
    fill_case c = {.size = 0};
    char copy[sizeof c.text], *field[LONG_LINE + 1];
    int fields = 0;
    if (strlen(line) >= sizeof copy) stop("a line too long", line);
    strcpy(copy, line);
    for (char *text = strtok(copy, " \n"); text && fields <= LONG_LINE; text = strtok(NULL, " \n"))
        field[fields++] = text;
    if (fields != SHORT_LINE && fields != LONG_LINE) stop("neither ten fields nor sixteen", line);
    snprintf(c.expected, sizeof c.expected, "%s", field[fields - 1]);
    snprintf(c.text, sizeof c.text, "%.*s", (int)(field[fields - 1] - copy - 1), line);

    char *format = strchr(field[0], '>');
    if (format) *format++ = 0;
    double numbers[LONG_LINE] = {0};
    for (int i = 5; i < fields - 1; i++) numbers[i - 5] = real(field[i]);
    c.plan.operation = operation_named(field[0]);
    c.plan.format = format ? format_named(format) : FK_UNROUNDED;
    c.size = fk_stored_bytes(c.plan.operation, c.plan.format);
    c.plan.key = whole(field[1]);
    c.plan.stream = whole(field[2]);
    c.plan.first = whole(field[3]);
    c.count = whole(field[4]);
    c.plan.params = (fk_params){numbers[0], numbers[1], numbers[2], numbers[3], numbers[4],
                                numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]};
    return c;
}

/* ---- the fills ---- */

/* The layout of a fill: the bytes from the start of a cache line to the first element or, if it is backwards, to the
 * last; the distance between elements, in elements; their byte order; and how they are stored. */
typedef struct {
    size_t start;
    int spacing;
    int byte_swapped;
    fk_store store;
} layout;

/* The ordinary layout first; then offsets at both ends of a cache line, offsets that are aligned to no vector, offsets
 * that are aligned to no element, and scattered elements. */
static const layout LAYOUTS[] = {
    {0, 1, 0, FK_STORE_PLAIN},      {4, 1, 0, FK_STORE_PLAIN},      {8, 1, 0, FK_STORE_PLAIN},
    {24, 1, 0, FK_STORE_PLAIN},     {40, 1, 0, FK_STORE_PLAIN},     {60, 1, 0, FK_STORE_PLAIN},
    {0, 1, 0, FK_STORE_STREAMING},  {4, 1, 0, FK_STORE_STREAMING},  {8, 1, 0, FK_STORE_STREAMING},
    {24, 1, 0, FK_STORE_STREAMING}, {40, 1, 0, FK_STORE_STREAMING}, {60, 1, 0, FK_STORE_STREAMING},
    {1, 1, 0, FK_STORE_AUTO},       {0, 1, 1, FK_STORE_AUTO},       {0, 2, 0, FK_STORE_AUTO},
    {3, 3, 0, FK_STORE_AUTO},       {0, -1, 0, FK_STORE_AUTO},      {5, -2, 1, FK_STORE_AUTO},
};

static size_t distance(const layout *w) { return (size_t)abs(w->spacing); }

/* The memory of a fill at any offset in a cache line, with at least one line of guard bytes on either side. */
static size_t memory_bytes(const fill_case *c, const layout *w) {
    return ((size_t)c->count * c->size * distance(w) + 4 * LINE) / LINE * LINE;
}

/* Return the pointer to free. `aligned` receives the first cache line. Windows has no aligned_alloc. */
static void *allocate(const fill_case *c, const layout *w, unsigned char **aligned) {
    unsigned char *memory = malloc(memory_bytes(c, w) + LINE);
    if (!memory) stop("no memory for", c->text);
    *aligned = memory + (LINE - (uintptr_t)memory % LINE) % LINE;
    return memory;
}

static void fill(const fill_case *c, const layout *w, int threads, unsigned char *memory) {
    const int64_t stride = w->spacing * (int64_t)c->size;
    const fk_axis axis = {c->count, stride, 1};
    fk_plan plan = c->plan;
    plan.out = memory + LINE + w->start + (w->spacing < 0 ? (c->count - 1) * (uint64_t)-stride : 0);
    plan.axes = &axis;
    plan.axis_count = 1;
    plan.byte_swapped = w->byte_swapped;
    plan.store = w->store;
    memset(memory, GUARD_BYTE, memory_bytes(c, w));
    if (fk_fill(&plan, 1, threads, NULL, NULL) != FK_OK) stop("the fill failed", c->text);
}

/* Move the elements, in index order and this machine's byte order, from a fill's memory to `elements`, and replace them
 * by guard bytes. Returns whether all bytes are guard bytes then: the fill wrote only to its elements. */
static int move_elements(const fill_case *c, const layout *w, unsigned char *memory, unsigned char *elements) {
    for (uint64_t i = 0; i < c->count; i++) {
        const uint64_t place = w->spacing < 0 ? c->count - 1 - i : i;
        unsigned char *from = memory + LINE + w->start + place * c->size * distance(w);
        for (size_t k = 0; k < c->size; k++) elements[i * c->size + (w->byte_swapped ? c->size - 1 - k : k)] = from[k];
        memset(from, GUARD_BYTE, c->size);
    }
    return memory[0] == GUARD_BYTE && !memcmp(memory, memory + 1, memory_bytes(c, w) - 1);
}

/* Return whether the fill gives the expected values in each of the first `layouts` layouts and writes no other bytes.
 */
static int verify(const char *isa, const fill_case *c, int threads, size_t layouts) {
    const size_t bytes = (size_t)c->count * c->size;
    unsigned char *ordinary = malloc(bytes), *elements = malloc(bytes);
    if (!ordinary || !elements) stop("no memory for", c->text);
    int inside = 1, equal_layouts = 1;
    for (size_t i = 0; i < layouts; i++) {
        const layout *w = &LAYOUTS[i];
        unsigned char *aligned;
        void *memory = allocate(c, w, &aligned);
        fill(c, w, threads, aligned);
        inside &= move_elements(c, w, aligned, i == 0 ? ordinary : elements);
        equal_layouts &= i == 0 || !memcmp(elements, ordinary, bytes);
        free(memory);
    }
    char computed[65];
    digest(ordinary, c->count, c->size, computed);
    printf("%s %s %s\n", isa, c->text, computed);
    free(ordinary);
    free(elements);

    int equal = !strcmp(computed, c->expected);
    if (!equal)
        fprintf(stderr, "driver: MISMATCH on %s: %s: expected %s, got %s\n", isa, c->text, c->expected, computed);
    if (!equal_layouts) fprintf(stderr, "driver: MISMATCH on %s: %s: the values depend on the layout\n", isa, c->text);
    if (!inside) fprintf(stderr, "driver: MISMATCH on %s: %s: wrote outside its elements\n", isa, c->text);
    return equal && equal_layouts && inside;
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) stop("usage", "driver DIGESTS THREADS [LARGEST]");
    const uint64_t largest = argc == 4 ? whole(argv[3]) : UINT64_MAX;
    int threads = (int)whole(argv[2]), verified = 0, mismatched = 0;
    FILE *table = fopen(argv[1], "r");
    if (!table) stop("cannot read", argv[1]);
    if (strcmp(fk_selected_isa(), fk_available_isa(0)))
        stop("the selected kernels are not the fastest", fk_selected_isa());

    char line[512];
    while (fgets(line, sizeof line, table)) {
        if (line[0] == '#' || line[0] == '\n') continue;
        fill_case c = parse(line);
        const char *isa;
        for (int i = 0; (isa = fk_available_isa(i)); i++) {
            if (fk_select_isa(isa) != FK_OK || strcmp(fk_selected_isa(), isa)) stop("cannot select", isa);
            const size_t layouts = c.count > largest ? 1 : sizeof LAYOUTS / sizeof *LAYOUTS;
            if (verify(isa, &c, threads, layouts)) verified++;
            else mismatched++;
        }
    }
    fclose(table);
    if (verified + mismatched == 0) stop("no fill in", argv[1]);
    fprintf(stderr, "driver: %d digests verified, %d mismatched\n", verified, mismatched);
    return mismatched ? 1 : 0;
}
