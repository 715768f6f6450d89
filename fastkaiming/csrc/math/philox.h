/* philox.h - Philox4x32-10 on vectors of 64-bit lanes, each of which contains one 32-bit word of one counter.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11, section 3.3.
 *
 * Only the low half of a lane is meaningful. The 32 x 32 -> 64 multiplication reads low halves only, and every other
 * operation of a round is a bitwise xor, so the high half may contain any value that the vector operations of an
 * instruction set allow (vq_xor_factor). */
#ifndef FASTKAIMING_PHILOX_H
#define FASTKAIMING_PHILOX_H

#include <stdint.h>

#define FK_PHILOX_M0 0xD2511F53u
#define FK_PHILOX_M1 0xCD9E8D57u
#define FK_PHILOX_W0 0x9E3779B9u
#define FK_PHILOX_W1 0xBB67AE85u

enum { FK_PHILOX_ROUNDS = 10 };

/* The constants of the xors of each round. The two words of the stream and the high word of the block number are the
 * same in every lane. Therefore all of round 1 except one product, and one product of round 2, are scalars, which are
 * folded into the first constants. */
typedef struct {
    uint64_t into_c0[FK_PHILOX_ROUNDS];
    uint64_t into_c2[FK_PHILOX_ROUNDS];
} fk_schedule;

FK_INLINE fk_schedule fk_philox_schedule(uint64_t key, uint64_t stream, uint32_t block_high) {
    fk_schedule s;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < FK_PHILOX_ROUNDS; round++) {
        s.into_c0[round] = k0;
        s.into_c2[round] = k1;
        k0 += FK_PHILOX_W0;
        k1 += FK_PHILOX_W1;
    }
    /* Round 1, with c1 = block_high and c2, c3 = the stream. */
    const uint64_t product1 = (uint64_t)FK_PHILOX_M1 * (uint32_t)stream;
    const uint32_t c0 = (uint32_t)(product1 >> 32) ^ block_high ^ (uint32_t)s.into_c0[0];
    s.into_c2[0] ^= stream >> 32;
    /* Round 2, with c0, and with c1 = the low half of product1. */
    const uint64_t product0 = (uint64_t)FK_PHILOX_M0 * c0;
    s.into_c0[1] ^= (uint32_t)product1;
    s.into_c2[1] ^= product0 >> 32;
    /* Round 3, with c3 = the low half of product0. */
    s.into_c2[2] ^= (uint32_t)product0;
    return s;
}

/* The words of FK_GROUPS vectors of counters before the last round's xors. These xors are left to the functions that
 * combine two words in a vector, where they take half as long. */
typedef struct {
    v_u64 product[2][FK_GROUPS]; /* high halves: words 0 and 2; low halves: words 1 and 3 */
    v_u64 carried[2][FK_GROUPS]; /* low halves: to be xored into words 0 and 2 */
    uint32_t key[2];             /* likewise */
} fk_words;

/* Compute the words from M0 * (low word of the block number) in each lane. The rounds of all groups are interleaved,
 * because those of a single group form one chain of dependent instructions. */
FK_INLINE_UNLESS_SCALAR fk_words fk_philox(const fk_schedule *s, const v_u64 product[FK_GROUPS]) {
    const v_u64 m0 = vq_set1(FK_PHILOX_M0), m1 = vq_set1(FK_PHILOX_M1);
    enum { LAST = FK_PHILOX_ROUNDS - 1 };
    v_u64 x[4][FK_GROUPS];
    FK_EACH_GROUP(g) {
        const v_u64 c2 = vq_xor_factor(vq_high32(product[g]), vq_set1(s->into_c2[0]));
        x[1][g] = vq_mul32(c2, m1);
        x[0][g] = vq_xor_factor(vq_mul32_high(x[1][g], c2, FK_PHILOX_M1), vq_set1(s->into_c0[1]));
        x[2][g] = vq_xor_factor(product[g], vq_set1(s->into_c2[1]));
    }
    FK_EACH_GROUP(g) {
        const v_u64 a = x[0][g], b = x[2][g], p0 = vq_mul32(a, m0), p1 = vq_mul32(b, m1);
        x[0][g] = vq_xor3_factor(vq_mul32_high(p1, b, FK_PHILOX_M1), x[1][g], vq_set1(s->into_c0[2]));
        x[2][g] = vq_xor_factor(vq_mul32_high(p0, a, FK_PHILOX_M0), vq_set1(s->into_c2[2]));
        x[1][g] = p1;
        x[3][g] = p0;
    }
    FK_UNROLL for (int round = 3; round < LAST; round++) {
        FK_EACH_GROUP(g) {
            const v_u64 a = x[0][g], b = x[2][g], p0 = vq_mul32(a, m0), p1 = vq_mul32(b, m1);
            x[0][g] = vq_xor3_factor(vq_mul32_high(p1, b, FK_PHILOX_M1), x[1][g], vq_set1(s->into_c0[round]));
            x[2][g] = vq_xor3_factor(vq_mul32_high(p0, a, FK_PHILOX_M0), x[3][g], vq_set1(s->into_c2[round]));
            x[1][g] = p1;
            x[3][g] = p0;
        }
    }
    fk_words w = {.key = {(uint32_t)s->into_c0[LAST], (uint32_t)s->into_c2[LAST]}};
    FK_EACH_GROUP(g) {
        w.product[0][g] = vq_mul32(x[2][g], m1);
        w.product[1][g] = vq_mul32(x[0][g], m0);
        w.carried[0][g] = x[1][g];
        w.carried[1][g] = x[3][g];
    }
    return w;
}

/* Words 0 to 3 of groups g and g + 1, interleaved. */
FK_INLINE void fk_words_32(const fk_words *w, int g, v_u32 x[4]) {
    FK_UNROLL for (int i = 0; i < 2; i++) {
        const v_u64 even = w->product[i][g], odd = w->product[i][g + 1];
        const v_u32 carried = vq_interleave(w->carried[i][g], w->carried[i][g + 1]);
        x[2 * i] = vw_xor3(vq_interleave_high(even, odd), carried, vw_set1(w->key[i]));
        x[2 * i + 1] = vq_interleave(even, odd);
    }
}

/* The two 64-bit words of group g. The low half of each is the first of its two 32-bit words. */
FK_INLINE void fk_words_64(const fk_words *w, int g, v_u64 x[2]) {
    FK_UNROLL for (int i = 0; i < 2; i++) {
        x[i] = vq_xor3_low(vq_swap_halves(w->product[i][g]), w->carried[i][g], vq_set1(w->key[i]));
    }
}

/* The four words of each block of groups g and g + 1, for functions that treat all words alike. x[0] contains
 * words 0 and 1 of group g next to each other, x[1] its words 2 and 3, and x[2] and x[3] those of group g + 1. Storing
 * such vectors takes half as many shuffles. */
FK_INLINE void fk_words_by_block(const fk_words *w, int g, v_u32 x[4]) {
    v_u64 two[4];
    fk_words_64(w, g, two);
    fk_words_64(w, g + 1, two + 2);
    FK_UNROLL for (int i = 0; i < 4; i++) { x[i] = vq_halves(two[i]); }
}

#endif
